"""The tables of a comparison as text, and the whole of it for the terminal."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.posterior.draws import POSTERIOR, SAMPLING
from bayeslmm.support.text import fixed, number

if TYPE_CHECKING:
    from bayeslmm.comparison.comparison import Comparison

WIDTH = 110
MOST_EFFECTS = 40
HEADINGS = {"ml": "ML", "reml": "REML", "difference": "joint - marginal"}
NUMBERS = {
    "ess_per_second": "ESS/s",
    "ess": "ESS",
    "rhat": "R-hat",
    "mcse": "in MC errors",
    "estimate": "estimate",
    "mc_error": "MC error",
}


def terminal_text(comparison: Comparison) -> str:
    """Return the whole comparison as text of at most 110 columns where the names allow it."""
    model, runs = comparison.model, shown_diagnostics(comparison)
    parts = [
        fill(model.hierarchy.formula, WIDTH),
        "\n".join(fill(line, WIDTH, subsequent_indent="  ") for line in model.describe().splitlines()),
        blocks_text(estimates(comparison)),
        blocks_text(sampling(comparison)),
        f"SDs by five rules (posterior of the {comparison.best} variant)\n\n{_plain(shown_centres(comparison))}",
        *(_plain(part) for part in (runs.iloc[:, :6], runs.iloc[:, 6:])),  # all columns are wider than a terminal
    ]
    if left_out(comparison):
        parts.insert(4, left_out(comparison))
    parts += [fill(f"{found.topic}. {found.text}", WIDTH) for found in comparison.findings]
    return "\n\n".join(parts) + "\n"


def estimates(comparison: Comparison) -> pd.DataFrame:
    """Return the columns of estimates, standard errors and intervals as text."""
    columns = [(fit, number) for fit in ("ml", "reml") for number in ("estimate", "se")]
    columns += [(variant, number) for variant in comparison.variants for number in POSTERIOR]
    return comparison.shown.loc[_rows(comparison), columns]


def sampling(comparison: Comparison) -> pd.DataFrame:
    """Return the columns that say how well each parameter was sampled as text."""
    columns = [(variant, number) for variant in comparison.variants for number in SAMPLING]
    if "difference" in comparison.table.columns.get_level_values(0):
        columns.append(("difference", "mcse"))
    return comparison.shown.loc[_rows(comparison), columns]


def _rows(comparison: Comparison) -> list[str]:
    """Every parameter, and of the random effects as many as can be read."""
    return list(comparison.table.index[: len(comparison.ml.estimates()) + MOST_EFFECTS])


def left_out(comparison: Comparison) -> str:
    """Say how many rows the printed tables leave out; "" for none."""
    rest = len(comparison.table) - len(_rows(comparison))
    return f"{rest} more random effects are in the table of the comparison (.table)." if rest else ""


def shown_centres(comparison: Comparison) -> pd.DataFrame:
    """Return the SDs by five rules as text, with the decimals of the table."""
    table = comparison.centres
    rows = {}
    for name, row in table.iterrows():
        cells = {rule: fixed(x, comparison.places(str(name))) for rule, x in row.items()}
        rows[name] = list((cells | {"mode": comparison.mode_text(str(name))}).values())
    columns = ["ML", "REML", "posterior mode", "median", "mean"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def shown_diagnostics(comparison: Comparison) -> pd.DataFrame:
    """Return the diagnostics as text, one row per variant."""
    table = comparison.diagnostics
    out = pd.DataFrame(index=table.index)
    out["sampler"] = table["sampler"]
    out["chains x draws"] = [f"{c} x {d}" for c, d in zip(table["chains"], table["draws"], strict=True)]
    times = {"seconds": "seconds", "compiling": "seconds_compiling", "sampling": "seconds_sampling"}
    for heading, column in times.items():
        out[heading] = [number(x) if np.isfinite(x) else "" for x in table[column]]
    out["divergences"] = ["none possible" if np.isnan(x) else f"{x:.0f}" for x in table["divergences"]]
    out["smallest ESS"] = [fixed(x, 0) for x in table["min_ess"]]
    rates = {"per second": "min_ess_per_second", "of sampling": "min_ess_per_second_sampling"}
    for heading, column in rates.items():
        out[heading] = [number(x) if np.isfinite(x) else "" for x in table[column]]
    out["largest R-hat"] = [fixed(x, 3) for x in table["max_rhat"]]
    out["trusted"] = ["yes" if x else "no" for x in table["trusted"]]
    return out


def _plain(table: pd.DataFrame) -> str:
    """Text, right-aligned under its headings, the index on the left."""
    cells = [["", *map(str, table.columns)]]
    cells += [[str(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    )


def blocks_text(table: pd.DataFrame) -> str:
    """Put the groups of columns side by side under their headings; start a new block where a line is full."""
    names = ["", "", *map(str, table.index)]
    left = max(map(len, names))
    groups = []
    for source in dict.fromkeys(table.columns.get_level_values(0)):
        part = table[source].rename(columns=NUMBERS)
        lines = [line[2:] for line in _plain(part.set_axis([""] * len(part), axis=0)).splitlines()]
        wide = max(len(HEADINGS.get(source, source)), *map(len, lines))
        groups.append([f" {HEADINGS.get(source, source)} ".center(wide, "-"), *(line.rjust(wide) for line in lines)])
    blocks: list[list[str]] = []
    for group in groups:
        if not blocks or len(blocks[-1][0]) + len(group[0]) + 2 > WIDTH:
            blocks.append([name.ljust(left) for name in names])
        blocks[-1] = [f"{a}  {b}" for a, b in zip(blocks[-1], group, strict=True)]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)
