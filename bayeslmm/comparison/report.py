"""A comparison as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.comparison.comparison import Comparison
from bayeslmm.comparison.findings import funnel_neck, paragraphs
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
from bayeslmm.support import html
from bayeslmm.support.page import page, picture, versions, write_page
from bayeslmm.support.text import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.description.hierarchy import Hierarchy
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

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
    return write_page(path, lambda: report_html(comparison, title=title, source=source, notes=notes, load=load))


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
    sections = {
        "The hierarchy": html.paragraph(model.describe()) + _hints(model) + _design_picture(model),
        "The model": equations(model),
        "Priors": html.scrolled(_priors(model)),
        "What the comparison shows": paragraphs(comparison.findings),
        "Estimates": tables_html(comparison),
        "Pictures": "".join(picture(*each) for each in _pictures(comparison)),
        "Settings": settings(comparison),
        "How to reproduce this": f"<pre>{escape(recipe(comparison, load))}</pre>",
    }
    return page(title, sections, source=source, notes=notes)


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
        out.append(f"<h3>{caption}</h3>\n{html.scrolled(html.table(table, most=None))}")
    if left_out(comparison):
        out.insert(1, html.paragraph(left_out(comparison)))
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
        K = "<i>I</i>" if not level.related else symbol("K", level)
        if level.r == 1:
            variance = f"{s2}{K}" if not level.n_sds else f"<i>σ</i><sub>{level.name}</sub><sup>2</sup>{K}"
            lines.append(f"{u} ~ N(0, {s2}{G}), {s2}{G} = {variance}")
            what = f"one effect ({names})"
        else:
            lines.append(f"{u} ~ N(0, {s2}{G})")
            what = f"{level.r} {how} effects ({names})"
        block = f"; {s2}{G} is the same {level.r} x {level.r} block for every group" if level.r > 1 else ""
        block += f", times {K} between groups" if level.r > 1 and level.related else ""
        known = f" Their covariance is {escape(known_covariance(level))}." if level.related else ""
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
    load = load_line(comparison.model) if load is None else load
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


def load_line(model: Model) -> str:
    """Write the Python lines that make the model from its data."""
    given = {row.parameter: str(row.prior) for row in model.priors.reasons if row.source == "given"}
    priors = "".join(f"    {name!r}: {prior!r},\n" for name, prior in given.items())
    return f"lmm = blm.LMM({_described(model.hierarchy)}{f', priors={{\n{priors}}}' if given else ''})"


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
    from bayeslmm.tables.shrinkage import unshrunk

    own = unshrunk(comparison.reml, level)[:, effect]
    if not np.isfinite(own).any():
        return ""
    crosses = " Crosses are what a group's own rows say, by least squares"
    crosses += "; groups without one have too few." if not np.isfinite(own).all() else "."
    if level.related:
        how = "towards what its relatives say, and the less the more its own rows say"
        return f"{crosses} A group is drawn from there {how}."
    rows = level.sizes
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
    return picture(
        plots.design_matrix(model),
        "Where the matrix of the random effects is not zero: one band per level, one column per row of the "
        "data." + (how if len(model.design.levels) > 1 else ""),
    )


def _priors(model: Model) -> str:
    return html.table(model.priors.table(), index=False, most=None, classes="words")


def _hints(model: Model) -> str:
    return "".join(f'<p class="note">{escape(hint)}</p>' for hint in model.design.hints)


def settings(comparison: Comparison) -> str:
    """List how each posterior was drawn, and with which versions."""
    rows = []
    for name, tree in comparison.posteriors.items():
        values = [(k, tree.attrs[k]) for k in ATTRIBUTES if tree.attrs.get(k) not in (None, "")]
        text = ", ".join(f"{k} {number(v) if isinstance(v, float) else v}" for k, v in values)
        rows.append(f"<li>{name}: {escape(text)}</li>")
    return f"<ul>{''.join(rows)}</ul>\n{versions()}"
