"""A comparison for the terminal, and as one self-contained HTML file."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from platform import python_version
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.compare import POSTERIOR, SAMPLING, Comparison
from bayeslmm.words import fixed, number, paragraphs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.lmm import LMM

WIDTH = 110
PACKAGES = (
    "bayeslmm",
    "pymc",
    "pytensor",
    "nutpie",
    "arviz",
    "numpy",
    "scipy",
    "pandas",
    "numba",
    "formulaic",
)
ATTRIBUTES = (
    "sampler", "draws", "tune", "chains", "random_seed", "seconds", "acceptance_rate", "pareto_k", "note",
)  # fmt: skip
HEADINGS = {"ml": "ML", "reml": "REML", "difference": "joint - marginal"}
NUMBERS = {
    "ess_per_second": "ESS/s",
    "ess": "ESS",
    "rhat": "R-hat",
    "mcse": "in MC errors",
    "estimate": "estimate",
}

# In the terminal


def terminal_text(comparison: Comparison) -> str:
    """Return the whole comparison as text of at most 110 columns where the names allow it."""
    lmm = comparison.lmm
    parts = [
        lmm.hierarchy.formula,
        lmm.describe(),
        _blocks(_estimates(comparison)),
        _blocks(_sampling(comparison)),
        "SDs by five rules (posterior of the "
        f"{comparison.best} variant)\n\n{_plain(shown_centres(comparison))}",
        _plain(shown_diagnostics(comparison)),
    ]
    parts += [fill(f"{found.topic}. {found.text}", WIDTH) for found in comparison.findings]
    return "\n\n".join(parts) + "\n"


def _estimates(comparison: Comparison) -> pd.DataFrame:
    columns = [(fit, number) for fit in ("ml", "reml") for number in ("estimate", "se")]
    columns += [(variant, number) for variant in comparison.variants for number in POSTERIOR]
    return comparison.shown[columns]


def _sampling(comparison: Comparison) -> pd.DataFrame:
    columns = [(variant, number) for variant in comparison.variants for number in SAMPLING]
    if "difference" in comparison.table.columns.get_level_values(0):
        columns.append(("difference", "mcse"))
    return comparison.shown[columns]


def shown_centres(comparison: Comparison) -> pd.DataFrame:
    """Return the SDs by five rules as text, with the decimals of the table."""
    table = comparison.centres
    rows = {name: [fixed(x, comparison.places(name)) for x in row] for name, row in table.iterrows()}
    columns = ["ML", "REML", "posterior mode", "median", "mean"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def shown_diagnostics(comparison: Comparison) -> pd.DataFrame:
    """Return the diagnostics as text, one row per variant."""
    table = comparison.diagnostics
    out = pd.DataFrame(index=table.index)
    out["sampler"] = table["sampler"]
    out["chains x draws"] = [f"{c} x {d}" for c, d in zip(table["chains"], table["draws"], strict=True)]
    out["seconds"] = [number(x) if np.isfinite(x) else "" for x in table["seconds"]]
    out["divergences"] = ["none possible" if np.isnan(x) else f"{x:.0f}" for x in table["divergences"]]
    out["smallest ESS"] = [fixed(x, 0) for x in table["min_ess"]]
    out["per second"] = [number(x) if np.isfinite(x) else "" for x in table["min_ess_per_second"]]
    out["largest R-hat"] = [fixed(x, 3) for x in table["max_rhat"]]
    out["trusted"] = ["yes" if x else "no" for x in table["trusted"]]
    return out


def _plain(table: pd.DataFrame) -> str:
    """Text, right-aligned under its headings, the index on the left."""
    cells = [["", *map(str, table.columns)]]
    cells += [[str(name), *map(str, row)] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def _blocks(table: pd.DataFrame) -> str:
    """Put the groups of columns side by side, each under its heading; start a new block where 110 columns are full."""
    names = ["", "", *map(str, table.index)]
    left = max(map(len, names))
    groups = []
    for source in dict.fromkeys(table.columns.get_level_values(0)):
        part = table[source].rename(columns=NUMBERS)
        lines = _plain(part.set_axis([""] * len(part), axis=0)).splitlines()
        wide = max(len(HEADINGS.get(source, source)), *map(len, lines))
        groups.append(
            [f" {HEADINGS.get(source, source)} ".center(wide, "-"), *(line.rjust(wide) for line in lines)]
        )
    blocks: list[list[str]] = []
    for group in groups:
        if not blocks or len(blocks[-1][0]) + len(group[0]) + 2 > WIDTH:
            blocks.append([name.ljust(left) for name in names])
        blocks[-1] = [f"{a}  {b}" for a, b in zip(blocks[-1], group, strict=True)]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


# HTML


def write_report(
    comparison: Comparison,
    path: str | Path,
    *,
    title: str | None = None,
    source: str | None = None,
    notes: str | None = None,
    load: str | None = None,
) -> Path:
    """Write a self-contained HTML report: one file, pictures inside, nothing fetched.

    Parameters
    ----------
    comparison : Comparison
    path : str or Path
        Where to write; missing folders are made, an existing file is replaced in one step.
    title, source, notes : str, optional
        Shown at the top, as in a description file.
    load : str, optional
        The Python line that makes `lmm`, such as ``lmm = blm.LMM.from_toml("models/heights.toml")``;
        made from the formula and the priors when not given.

    Returns
    -------
    Path
        Of the file written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = report_html(comparison, title=title, source=source, notes=notes, load=load)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def report_html(
    comparison: Comparison,
    *,
    title: str | None = None,
    source: str | None = None,
    notes: str | None = None,
    load: str | None = None,
) -> str:
    """Return the report as text; parameters as in `write_report`."""
    lmm = comparison.lmm
    title = title or f"Comparison of {lmm.hierarchy.formula}"
    head = [f"<h1>{escape(title)}</h1>"]
    head += [f"<p>{escape(part)}</p>" for part in (notes or "").strip().split("\n\n") if part]
    if source:
        head.append(f'<p class="small">Source: {escape(source)}</p>')
    sections = {
        "The hierarchy": _paragraph_lines(lmm.describe()) + _hints(lmm) + _picture(*_design_picture(lmm)),
        "The model": equations(lmm),
        "Priors": _scroll(_priors(lmm)),
        "What the comparison shows": paragraphs(comparison.findings),
        "Estimates": tables_html(comparison),
        "Pictures": "".join(_picture(*each) for each in _pictures(comparison)),
        "Settings": _settings(comparison),
        "How to reproduce this": f"<pre>{escape(recipe(comparison, load))}</pre>",
    }
    body = "\n".join(head) + "".join(f"\n<h2>{name}</h2>\n{content}" for name, content in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def tables_html(comparison: Comparison) -> str:
    """Return the table (estimates, then sampling), the SDs by five rules and the diagnostics as HTML."""
    tables = {
        "Estimates, standard errors, and the posteriors with their 95 % intervals": _estimates(comparison),
        "The standard deviations by five rules": shown_centres(comparison),
        "How well each parameter was sampled": _sampling(comparison),
        "The runs": shown_diagnostics(comparison),
    }
    out = []
    for caption, table in tables.items():
        if table.columns.nlevels == 2:
            pairs = [(HEADINGS.get(s, s), NUMBERS.get(n, n)) for s, n in table.columns]
            table = table.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)
        out.append(f"<h3>{caption}</h3>\n{_scroll(table.to_html(border=0))}")
    return "\n".join(out)


def equations(lmm: LMM) -> str:
    """Return the joint and the marginal model as equations in plain HTML."""
    design = lmm.design
    u = [f"<i>u</i><sub>{level.name.removeprefix('u')}</sub>" for level in design.levels]
    Z = [f"<i>Z</i><sub>{level.name.removeprefix('u')}</sub>" for level in design.levels]
    s2 = "<i>σ</i><sup>2</sup>"
    G = [f"<i>G</i><sub>{level.name.removeprefix('u')}</sub>" for level in design.levels]
    mean = "<i>y</i> = <i>Xβ</i>" + "".join(f" + {z}{b}" for z, b in zip(Z, u, strict=True)) + " + <i>e</i>"
    lines = [mean, f"<i>e</i> ~ N(0, {s2}<i>I</i>)"]
    said = []
    for level, b, g in zip(design.levels, u, G, strict=True):
        lines.append(f"{b} ~ N(0, {s2}{g})")
        effects = ", ".join(level.effects)
        how = "correlated" if level.correlated else "independent"
        many = f"{level.r} {how} effects ({effects})" if level.r > 1 else f"one effect ({effects})"
        said.append(f"{b} has {many} for each of the {level.m} groups of {escape(level.label)}")
    V = "".join(f"{z}{g}{z}′ + " for z, g in zip(Z, G, strict=True))
    joint = "".join(f'<p class="equation">{line}</p>' for line in lines)
    items = "".join(f"<li>{escape(text, quote=False) if '<' not in text else text}.</li>" for text in said)
    return (
        f"<p>The formula is <code>{escape(lmm.hierarchy.formula)}</code>. The joint model keeps the random "
        f"effects:</p>"
        f"{joint}<ul>{items}</ul>"
        "<p>The marginal model is the integral of the joint over the random effects; ML and REML work on "
        "it:</p>"
        f'<p class="equation"><i>y</i> ~ N(<i>Xβ</i>, {s2}({V}<i>I</i>))</p>'
    )


def recipe(comparison: Comparison, load: str | None = None) -> str:
    """Return Python lines that make this comparison again."""
    lmm = comparison.lmm
    given = {row.parameter: str(row.prior) for row in lmm.priors.reasons if row.source == "given"}
    if load is None:
        priors = "".join(f"    {name!r}: {prior!r},\n" for name, prior in given.items())
        more = f", priors={{\n{priors}}}" if given else ""
        load = f"lmm = blm.LMM({lmm.hierarchy.formula!r}, data{more})"
    # the collapsed sampler tunes itself and says tune = 0
    attrs = max((tree.attrs for tree in comparison.posteriors.values()), key=lambda a: a.get("tune", 0))
    settings = [f"{key}={attrs[key]}" for key in ("draws", "tune", "chains", "random_seed") if attrs.get(key)]
    if len(comparison.variants) == 1:
        settings.append(f"variants=({comparison.variants[0]!r},)")
    if comparison.random_effects:
        settings.append("random_effects=True")
    call = ", ".join(["lmm", *settings])
    lines = ["import bayeslmm as blm", "", load, f"comparison = blm.compare({call})"]
    return "\n".join([*lines, "print(comparison)", "comparison.report('report.html')"])


def _pictures(comparison: Comparison) -> Iterator[tuple[Figure, str]]:
    from bayeslmm import plots

    best = comparison.best
    sources = " and ".join(comparison.variants)
    shown = plots.forest_names(comparison)
    some = (
        f" The first {sum(name.startswith('beta[') for name in shown)} of the {comparison.lmm.design.p} "
        f"fixed effects are shown."
        if len(shown) < len(comparison.ml.estimates())
        else ""
    )
    yield (
        plots.forest(comparison),
        "Each parameter in its own units: ML and REML with 2 standard errors (none for SDs and "
        "correlations), "
        f"the {sources} posterior with mean and 95 % interval. Joint and marginal should coincide; where "
        f"the posterior "
        f"is wider than the likelihood's interval, it counts what the standard error takes as known.{some}",
    )
    yield (
        plots.sd_densities(comparison),
        "The posterior density of each SD, with its prior in grey and the points that ML and REML choose. "
        "Where the posterior follows the prior, the data said little; where it is narrower, that is what "
        "the data added. "
        "A mean lies to the right of the highest point when the tail is long.",
    )
    for level in comparison.lmm.design.levels:
        for effect in range(level.r):
            if level.name in comparison.posteriors[best]["posterior"].data_vars:
                yield (
                    plots.caterpillar(comparison, level, effect),
                    f"The random effects of {level.label}, {level.effects[effect]}: REML's conditional "
                    f"modes, which take the "
                    "variances as known, and the posterior, which does not. Groups with few rows are drawn "
                    "furthest to zero.",
                )
    yield (
        plots.ess_bars(comparison),
        "How many independent draws the run is worth, parameter by parameter. Short bars need more draws or "
        "the other variant.",
    )
    for variant in comparison.variants:
        if comparison.diagnostics.loc[variant, "divergences"] > 0 and comparison.lmm.design.levels:
            yield (
                plots.funnel(comparison, variant),
                f"Where the {variant} run diverged. Towards the bottom the SD nears zero and the effects "
                f"must follow: "
                "the funnel narrows, and a sampler with steps of one length gets stuck at its neck.",
            )


def _design_picture(lmm: LMM) -> tuple[Figure, str]:
    from bayeslmm import plots

    return plots.design_matrix(lmm), (
        "Where the matrix of the random effects is not zero, one band per level, one column per row of the "
        "data. "
        "Nested levels show as steps within steps, crossed ones as stripes across each other."
    )


def _picture(figure: Figure, caption: str) -> str:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=144)
    data = b64encode(stream.getvalue()).decode("ascii")
    alt = escape(caption, quote=True)
    return (
        f'<figure><div class="scroll"><img alt="{alt}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    )


def _priors(lmm: LMM) -> str:
    return lmm.priors.table().to_html(border=0, index=False, classes="words")


def _hints(lmm: LMM) -> str:
    return "".join(f'<p class="note">{escape(hint)}</p>' for hint in lmm.design.hints)


def _paragraph_lines(text: str) -> str:
    return f"<p>{'<br>'.join(escape(line) for line in text.splitlines())}</p>\n"


def _scroll(table: str) -> str:
    return f'<div class="scroll">{table}</div>'


def _settings(comparison: Comparison) -> str:
    rows = []
    for name, tree in comparison.posteriors.items():
        values = [(k, tree.attrs[k]) for k in ATTRIBUTES if tree.attrs.get(k) not in (None, "")]
        text = ", ".join(f"{k} {number(v) if isinstance(v, float) else v}" for k, v in values)
        rows.append(f"<li>{name}: {escape(text)}</li>")
    found = ", ".join(f"{name} {_version(name)}" for name in PACKAGES if _version(name))
    return f"<ul>{''.join(rows)}</ul>\n<p class='small'>Python {python_version()}; {escape(found)}.</p>"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 58rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.55rem; text-align: right; white-space: nowrap; }
tbody th { text-align: left; font-weight: 500; } thead tr:last-child th { border-bottom: 1px solid #888; }
thead tr:first-child:not(:last-child) th { text-align: center; }
table.words td, table.words th { text-align: left; vertical-align: top; }
table.words td:last-child { white-space: normal; min-width: 14rem; }
.equation { margin: 0.3rem 0 0.3rem 2rem; font: 1.1rem/1.6 Georgia, serif; }
.small { font-size: 0.85rem; color: #555; } .note { border-left: 3px solid #e69f00; padding-left: 0.7rem; }
pre { background: #f5f5f5; padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
figure { margin: 1.2rem 0; break-inside: avoid; } img { max-width: 100%; min-width: 34rem; height: auto; }
figcaption { font-size: 0.9rem; color: #444; max-width: 46rem; }
@media print { body { max-width: none; font-size: 11px; }
  .scroll { overflow: visible; } img { min-width: 0; } }
"""
