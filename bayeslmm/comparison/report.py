"""A comparison as one self-contained HTML file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from html import escape
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm import __version__
from bayeslmm.comparison.comparison import Comparison
from bayeslmm.comparison.findings import funnel_neck, number, paragraphs
from bayeslmm.comparison.tables import (
    HEADINGS,
    NUMBERS,
    estimates,
    left_out,
    sampling,
    shown_centres,
    shown_diagnostics,
)
from bayeslmm.design.describe import known_covariance
from bayeslmm.design.residual_words import residual_words
from bayeslmm.errors import DescriptionError
from bayeslmm.support.arguments import check_path
from bayeslmm.support.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.description.hierarchy import Hierarchy
    from bayeslmm.design.design import LevelDesign
    from bayeslmm.model import Model

PACKAGES = ("pymc", "pytensor", "nutpie", "arviz", "numpy", "scipy", "pandas", "numba", "formulaic")
ATTRIBUTES = (
    "sampler",
    "draws",
    "tune",
    "chains",
    "random_seed",
    "seconds",
    "acceptance_rate",
    "pareto_k",
    "note",
)


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
        The Python line that makes ``lmm``, such as ``lmm = blm.LMM.from_toml("models/heights.toml")``;
        made from the formula and the priors when not given.

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    DescriptionError
        If the path is none, is a folder, or can't be written to.
    """
    path = check_path(path, "report.html")
    if path.is_dir():
        raise DescriptionError(f"The report is a file and {path} a folder; write {str(path / 'report.html')!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    page = report_html(comparison, title=title, source=source, notes=notes, load=load)
    try:
        write_whole(path, lambda part: part.write_text(page, encoding="utf-8"))
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def _unwritable(path: Path, error: OSError) -> DescriptionError:
    return DescriptionError(
        f"The report can't be written to {path}: {error.strerror or error}. Give a path where you may write, "
        "such as 'report.html'."
    )


def report_html(
    comparison: Comparison,
    *,
    title: str | None = None,
    source: str | None = None,
    notes: str | None = None,
    load: str | None = None,
) -> str:
    """Return the report as text; parameters as in `write_report`."""
    model = comparison.model
    title = title or f"Comparison of {model.hierarchy.formula}"
    head = [f"<h1>{escape(title)}</h1>"]
    head += [f"<p>{escape(part)}</p>" for part in (notes or "").strip().split("\n\n") if part]
    if source:
        head.append(f'<p class="small">Source: {escape(source)}</p>')
    sections = {
        "The hierarchy": _paragraph_lines(model.describe()) + _hints(model) + _design_picture(model),
        "The model": equations(model),
        "Priors": _scroll(_priors(model)),
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
        "Estimates, standard errors, and the posteriors with their 95 % intervals": estimates(comparison),
        "The standard deviations by five rules": shown_centres(comparison),
        "How well each parameter was sampled": sampling(comparison),
        "The runs": shown_diagnostics(comparison),
    }
    out = []
    for caption, table in tables.items():
        if table.columns.nlevels == 2:
            pairs = [(HEADINGS.get(s, s), NUMBERS.get(n, n)) for s, n in table.columns]
            table = table.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)
        out.append(f"<h3>{caption}</h3>\n{_scroll(table.to_html(border=0))}")
    if left_out(comparison):
        out.insert(1, f"<p>{escape(left_out(comparison))}</p>")
    return "\n".join(out)


def equations(model: Model) -> str:
    """Return the joint and the marginal model as equations in plain HTML."""

    def symbol(letter: str, level: LevelDesign) -> str:
        return f"<i>{letter}</i><sub>{level.name.removeprefix('u')}</sub>"

    levels = model.design.levels
    s2 = "<i>σ</i><sup>2</sup>"
    effects = "".join(f" + {symbol('Z', level)}{symbol('u', level)}" for level in levels)
    plain = model.design.residual.plain
    R = "<i>I</i>" if plain else "<i>R</i>"
    lines = [f"<i>y</i> = <i>Xβ</i>{effects} + <i>e</i>", f"<i>e</i> ~ N(0, {s2}{R})"]
    items = [] if plain else [f"<li><i>R</i>: {escape(' '.join(residual_words(model.design.residual)))}</li>"]
    for level in levels:
        u, G = symbol("u", level), symbol("G", level)
        names = escape(", ".join(level.effects))
        how = level.structure.adjective
        K = "<i>I</i>" if level.root is None else symbol("K", level)
        if level.r == 1:
            variance = f"{s2}{K}" if not level.n_sds else f"<i>σ</i><sub>{level.name}</sub><sup>2</sup>{K}"
            lines.append(f"{u} ~ N(0, {s2}{G}), {s2}{G} = {variance}")
            what = f"one effect ({names})"
        else:
            lines.append(f"{u} ~ N(0, {s2}{G})")
            what = f"{level.r} {how} effects ({names})"
        block = f"; {s2}{G} is the same {level.r} x {level.r} block for every group" if level.r > 1 else ""
        block += f", times {K} between groups" if level.r > 1 and level.root is not None else ""
        known = f" Their covariance is {escape(known_covariance(level))}." if level.root is not None else ""
        items.append(f"<li>{u}: {what} for each of the {level.m} groups of {escape(level.label)}{block}.{known}</li>")
    V = "".join(f"{symbol('Z', k)}{symbol('G', k)}{symbol('Z', k)}′ + " for k in levels)
    if not levels:
        return (
            f"<p>The formula is <code>{escape(model.hierarchy.formula)}</code>. Without levels the joint model and the "
            "marginal are one:</p>"
            + "".join(f'<p class="equation">{line}</p>' for line in lines)
            + f"<ul>{''.join(items)}</ul>"
        )
    return (
        f"<p>The formula is <code>{escape(model.hierarchy.formula)}</code>. "
        "The joint model keeps the random effects:</p>"
        + "".join(f'<p class="equation">{line}</p>' for line in lines)
        + f"<ul>{''.join(items)}</ul>"
        "<p>The marginal model is the integral of the joint over the random effects; ML and REML work on "
        "it:</p>"
        f'<p class="equation"><i>y</i> ~ N(<i>Xβ</i>, {s2}({V}{R}))</p>'
    )


def recipe(comparison: Comparison, load: str | None = None) -> str:
    """Return Python lines that make this comparison again."""
    model = comparison.model
    given = {row.parameter: str(row.prior) for row in model.priors.reasons if row.source == "given"}
    if load is None:
        priors = "".join(f"    {name!r}: {prior!r},\n" for name, prior in given.items())
        load = f"lmm = blm.LMM({_described(model.hierarchy)}{f', priors={{\n{priors}}}' if given else ''})"
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


def _described(hierarchy: Hierarchy) -> str:
    """Arguments of LMM: the formula, the data, and what a formula can't say; matrices by the names K_u2 and R."""
    if any(level.known for level in hierarchy.levels):
        return "hierarchy, data"
    out = f"{hierarchy.formula!r}, data"
    levels = list(zip(hierarchy.names, hierarchy.levels, strict=True))
    for kind in ("covariance", "precision"):
        named = [f"{name!r}: K_{name}" for name, level in levels if getattr(level, kind) is not None]
        out += f", {kind}={{{', '.join(named)}}}" if named else ""
    if not hierarchy.residual.plain:
        parts = {key: repr(value) for key, value in hierarchy.residual.to_dict().items()}
        parts |= {"covariance": "R"} if hierarchy.residual.covariance is not None else {}
        out += f", residual=blm.Residual({', '.join(f'{key}={value}' for key, value in parts.items())})"
    return out


def _pictures(comparison: Comparison) -> Iterator[tuple[Figure, str]]:
    from bayeslmm.comparison import plots

    design, best = comparison.model.design, comparison.best
    shown = plots.forest_names(comparison)
    left_out = len(comparison.ml.estimates()) - len(shown)
    some = f" {left_out} of the {design.p} fixed effects are left out." if left_out else ""
    yield (
        plots.forest(comparison),
        "Each parameter in its own units: ML and REML with their 95 % profile limits (REML's coefficients with 2 "
        f"standard errors), the {' and '.join(comparison.variants)} posterior with mean and 95 % interval. Where the "
        "posterior of a coefficient is wider than REML's interval, it counts what the standard error takes as known."
        f"{some}",
    )
    yield (
        plots.sd_densities(comparison),
        "The posterior density of each SD and of the residuals' parameters, with its prior in grey and the points "
        "that ML and REML choose. Where the posterior follows the prior, the data said little; where it is narrower, "
        "that is what the data added.",
    )
    for level in design.levels:
        if level.name not in comparison.posteriors[best]["posterior"].data_vars:
            continue
        for effect in range(level.r):
            yield (
                plots.caterpillar(comparison, level, effect),
                f"The random effects of {level.label}, {level.effects[effect]}: REML's conditional modes, "
                f"which take "
                "the variances as known, and the posterior, which does not." + _shrinkage(comparison, level, effect),
            )
    yield (
        plots.ess_bars(comparison),
        "How many independent draws each run is worth, parameter by parameter.",
    )
    for variant in comparison.variants:
        if not (comparison.diagnostics.loc[variant, "divergences"] > 0 and plots.has_funnel(comparison, variant)):
            continue
        gathered = funnel_neck(comparison, variant) is not None
        yield (
            plots.funnel(comparison, variant),
            f"Where the {variant} run diverged (crosses). Towards the bottom the SD nears zero and the "
            f"effects must "
            "follow: a funnel. "
            + (
                "The crosses gather at its neck, where steps that suit the wide part are too long."
                if gathered
                else "The crosses do not gather at its neck here."
            ),
        )


def _shrinkage(comparison: Comparison, level: LevelDesign, effect: int) -> str:
    """What the crosses of a caterpillar show."""
    from bayeslmm.comparison.plots import unshrunk

    own = unshrunk(comparison, level)[:, effect]
    if not np.isfinite(own).any():
        return ""
    crosses = " Crosses are what a group's own rows say, by least squares"
    crosses += "; groups without one have too few." if not np.isfinite(own).all() else "."
    if level.root is not None:
        how = "towards what its relatives say, and the less the more its own rows say"
        return f"{crosses} A group is drawn from there {how}."
    rows = np.bincount(level.index, minlength=level.m)
    x = level.columns[:, effect]
    constant = level.r == 1 and np.ptp(x) == 0
    if constant and np.ptp(rows) == 0:
        return crosses
    whose = "few rows" if constant else f"few rows, or rows that say little of {level.effects[effect]},"
    return f"{crosses} Groups with {whose} are drawn furthest, as a share of the way to zero."


def _design_picture(model: Model) -> str:
    from bayeslmm.comparison import plots

    if not model.design.levels:
        return ""
    how = " Nested levels show as steps within steps, crossed ones as stripes across each other."
    return _picture(
        plots.design_matrix(model),
        "Where the matrix of the random effects is not zero: one band per level, one column per row of the "
        "data." + (how if len(model.design.levels) > 1 else ""),
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


def _priors(model: Model) -> str:
    return model.priors.table().to_html(border=0, index=False, classes="words")


def _hints(model: Model) -> str:
    return "".join(f'<p class="note">{escape(hint)}</p>' for hint in model.design.hints)


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
    found = ", ".join([f"bayeslmm {__version__}", *(f"{name} {_version(name)}" for name in PACKAGES)])
    return f"<ul>{''.join(rows)}</ul>\n<p class='small'>Python {python_version()}; {escape(found)}.</p>"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 58rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
.scroll { overflow-x: auto; width: fit-content; max-width: min(100vw - 2rem, 50vw + 28rem); }
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
  .scroll { overflow: visible; max-width: none; } img { min-width: 0; } }
"""
