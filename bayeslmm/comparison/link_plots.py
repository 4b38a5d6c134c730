"""The pictures of a comparison of approximations: estimates source by source, densities of SDs over their priors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.pictures.caterpillar import caterpillar_of
from bayeslmm.pictures.densities import HEIGHT, Densities, Panel, smoothed, span_of, tails
from bayeslmm.pictures.estimates import Estimates, estimates_of
from bayeslmm.pictures.integral import integral_picture
from bayeslmm.pictures.link_results import link_unit, read_pictured
from bayeslmm.support.figures import grid, grid_rows, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.comparison.link_comparison import LinkComparison
    from bayeslmm.design.level_design import LevelDesign


def overview(comparison: LinkComparison) -> Figure:
    """Every parameter's estimates and intervals, and below them the posterior density of every SD."""
    above, below = estimates(comparison), densities(comparison)
    if not below.panels:
        return above.draw()
    top, bottom = above.height * above.rows, HEIGHT * grid_rows(below.names)
    figure = new_figure(top + bottom + 0.9)
    parts: Any = figure.subfigures(2, 1, height_ratios=[top + 0.45, bottom + 0.45])
    above.draw(grid(parts[0], above.names))
    below.draw(grid(parts[1], below.names))
    return figure


def estimates(comparison: LinkComparison) -> Estimates:
    """Middle and interval of each parameter by each fit and each posterior."""
    model = comparison.model
    tables = [(f"ml {name}", read_pictured(model, fit).parameters()) for name, fit in comparison.fits.items()]
    for name in comparison.posteriors:
        own = comparison.table[name][["mean", "2.5 %", "97.5 %"]]
        tables.append((name, own.set_axis(["middle", "low", "high"], axis=1)))
    return estimates_of(model.design, tables, partial(link_unit, model), "Wald")


def caterpillar(comparison: LinkComparison, level: LevelDesign, effect: int) -> Figure:
    """A level's random effects in order: the posterior's where there is one, else the conditional modes."""
    model = comparison.model
    drawn = [tree for tree in comparison.posteriors.values() if level.name in tree["posterior"].data_vars]
    best = drawn[-1] if drawn else comparison.best
    nothing = np.full(level.m, np.nan)
    return caterpillar_of([read_pictured(model, best)], level, effect, f"{model.family.link} scale", nothing).draw()


def integral(comparison: LinkComparison) -> Figure:
    """The integral over one group's effects, and its error by number of nodes."""
    return integral_picture(comparison.best, None, None, None).draw()


def densities(comparison: LinkComparison) -> Densities:
    """The posterior density of each SD with its prior, and where each approximation has its maximum."""
    model = comparison.model
    sds = model.priors.sds
    names = [label for level in model.design.levels for label in level.sd_labels]
    panels = []
    for k, name in enumerate(names if comparison.draws else []):
        own = {variant: draws.sel(parameter=name).values.ravel() for variant, draws in comparison.draws.items()}
        points = {f"ml {kind}": float(fit.estimates()[name]) for kind, fit in comparison.fits.items()}
        span = span_of([tails(x) for x in own.values()], list(points.values()), signed=False)
        at = np.linspace(max(span[0], span[1] * 1e-3), span[1], 300)
        panels.append(
            Panel(
                name=name, unit=link_unit(model, name), span=span, curves={v: smoothed(x) for v, x in own.items()},
                prior=None if k in sds.flat else (at, sds.density(k, at)), profile=None, points=points,
            )
        )  # fmt: skip
    return Densities(panels=tuple(panels))
