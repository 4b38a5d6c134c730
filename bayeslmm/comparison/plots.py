"""The pictures of a comparison: what `pictures` draws of fits and posteriors, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.comparison.findings import funnel_neck
from bayeslmm.pictures import caterpillar as caterpillars
from bayeslmm.pictures import densities, matrix
from bayeslmm.pictures.choices import sizes
from bayeslmm.pictures.estimates import Estimates, estimates_of
from bayeslmm.pictures.funnel import funnel_panel
from bayeslmm.pictures.results import OfDraws, OfFit, Result
from bayeslmm.pictures.sampling import EffectiveDraws
from bayeslmm.support.figures import axes_of, grid, grid_rows, new_figure, shortened, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.comparison.comparison import Comparison
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model


def overview(comparison: Comparison) -> Figure:
    """Every parameter's estimates and intervals, and below them the density of every SD and of R's parameters."""
    above, below = _estimates(comparison), _densities(comparison)
    top, bottom = above.height * above.rows, densities.HEIGHT * grid_rows(below.names)
    figure = new_figure(top + bottom + 0.9)
    parts: Any = figure.subfigures(2, 1, height_ratios=[top + 0.45, bottom + 0.45])
    above.draw(grid(parts[0], above.names))
    below.draw(grid(parts[1], below.names))
    return figure


def forest_names(comparison: Comparison) -> list[str]:
    """Return the parameters that `forest` draws: no random effects; of many fixed effects, the first."""
    return list(_estimates(comparison).names)


def forest(comparison: Comparison, ax: Sequence[Axes] | None = None) -> Figure:
    """Draw one small axis per parameter, in its own units, with the intervals of both fits and of the posteriors.

    Parameters
    ----------
    comparison : Comparison
    ax : sequence of Axes, optional
        One per parameter of `forest_names`; made when not given.
    """
    return _estimates(comparison).draw(ax)


def _estimates(comparison: Comparison) -> Estimates:
    tables = [(fit.method.lower(), OfFit(fit=fit).parameters()) for fit in (comparison.ml, comparison.reml)]
    for variant in comparison.variants:
        table = comparison.table[variant][["mean", "2.5 %", "97.5 %"]].set_axis(["middle", "low", "high"], axis=1)
        tables.append((variant, table))
    return estimates_of(comparison.model.design, tables)


def sd_densities(comparison: Comparison, ax: Sequence[Axes] | None = None) -> Figure:
    """Draw the posterior density of each SD, and of R's parameters, with its prior, and where ML and REML stand.

    What the posterior has and the prior has not is what the data added.
    """
    return _densities(comparison).draw(ax)


def _densities(comparison: Comparison) -> densities.Densities:
    names = densities.prior_densities(comparison.model)
    draws = {variant: {name: comparison.values(variant, name) for name in names} for variant in comparison.variants}
    return densities.sd_densities(comparison.model, draws)


def caterpillar(comparison: Comparison, level: LevelDesign, effect: int = 0, ax: Axes | None = None) -> Figure:
    """Draw a level's random effects, sorted: REML's modes and the posterior's means, with intervals."""
    results: list[Result] = [OfFit(fit=comparison.reml), _posterior(comparison, comparison.best)]
    return caterpillars.caterpillar(comparison.model, results, level, effect).draw(ax)


def _posterior(comparison: Comparison, variant: str) -> OfDraws:
    return OfDraws(design=comparison.model.design, tree=comparison.posteriors[variant], variant=variant)


def design_matrix(model: Model, ax: Axes | None = None) -> Figure:
    """Draw where Z transposed is not zero, one band per level; a large matrix is drawn in cells."""
    return matrix.design_matrix(model.design).draw(ax)


def ess_bars(comparison: Comparison, ax: Axes | None = None) -> Figure:
    """Draw the effective sample size of each parameter per variant; the line is the 400 that is wanted."""
    names = forest_names(comparison)
    bars = tuple((v, comparison.table.loc[names, (v, "ess")].to_numpy()) for v in comparison.variants)
    return EffectiveDraws(names=tuple(names), bars=bars).draw(ax)


def has_funnel(comparison: Comparison, variant: str) -> bool:
    """Whether the posterior has the random effects that `funnel` draws: those of levels with an SD of their own."""
    levels = [level for level in comparison.model.design.levels if level.n_sds]
    variables = comparison.posteriors[variant]["posterior"].data_vars
    return bool(levels) and all(level.name in variables for level in levels)


def funnel(comparison: Comparison, variant: str = "joint", ax: Axes | None = None) -> Figure:
    """Draw the log of an SD against a random effect of its level, divergences marked.

    The SD is the one that is smallest at the divergences (or else the last level's), the group the one
    with the fewest rows.
    """
    neck = funnel_neck(comparison, variant)
    level = [level for level in comparison.model.design.levels if level.n_sds][-1] if neck is None else neck[1]
    effect = 0 if neck is None else level.sd_labels.index(neck[0])
    kind = "centred" if variant == "joint" else "marginal"
    group = int(np.argmin(sizes(level)))
    panel = funnel_panel(comparison.posteriors[variant], level, effect, group, kind)
    figure, (a,) = axes_of(None if ax is None else [ax], [""], 3.4)
    panel.draw(a)
    handles = [line for line in a.lines if line.get_marker() in (".", "x")]
    handles[-1].set_label(f"divergences ({int(panel.diverged.sum())})")
    handles[0].set_label("draws")
    a.set_ylabel(shortened(panel.up, 34))
    tidy(a, f"The funnel of {level.name} in the {variant} model")
    key = a.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for handle in key.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure
