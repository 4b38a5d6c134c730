"""The pictures of a comparison: numbers first, then axes, given or made.

Matplotlib's global state is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.comparison.findings import funnel_neck, unit_of
from bayeslmm.criticism.prior_predictive import draw_parameters
from bayeslmm.design.parameters import level_names
from bayeslmm.posterior.draws import density_of, sd_labels
from bayeslmm.posterior.trust import ESS_LIMIT, divergent
from bayeslmm.support.figures import (
    BANDS,
    COLOURS,
    LONG_NAME,
    MARKERS,
    NAMES,
    axes_of,
    grid,
    grid_rows,
    new_figure,
    per_row,
    shortened,
    tidy,
)
from bayeslmm.tables.shrinkage import unshrunk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from bayeslmm.comparison.comparison import Comparison
    from bayeslmm.design.design import LevelDesign
    from bayeslmm.distributions.prior import Prior
    from bayeslmm.model import Model

# Okabe and Ito's colours, told apart by every kind of sight; markers and dashes say the same
FOREST, DENSITY = 1.5, 2.05  # heights of small axes
MOST_PARAMETERS = 18
MOST_GROUPS = 60


def overview(comparison: Comparison) -> Figure:
    """Every parameter's estimates and intervals, and below them the density of every SD and of R's parameters."""
    names, sds = forest_names(comparison), list(_prior_densities(comparison.model))
    top, bottom = grid_rows(names), grid_rows(sds)
    figure = new_figure(FOREST * top + DENSITY * bottom + 0.9)
    shares = [FOREST * top + 0.45, DENSITY * bottom + 0.45]
    parts: Any = figure.subfigures(2, 1, height_ratios=shares)
    upper, lower = parts
    forest(comparison, grid(upper, names))
    sd_densities(comparison, grid(lower, sds))
    return figure


# Estimates and intervals


def forest_names(comparison: Comparison) -> list[str]:
    """Return the parameters that `forest` draws: no random effects; of many fixed effects, the first."""
    every = list(comparison.ml.estimates().index)
    p = comparison.model.design.p
    return every[: max(1, MOST_PARAMETERS - len(every) + p)] + every[p:] if len(every) > MOST_PARAMETERS else every


def forest(comparison: Comparison, ax: Sequence[Axes] | None = None) -> Figure:
    """Draw one small axis per parameter, in its own units.

    ML and REML are shown with 2 standard errors where they have them, posteriors with mean and 95 % interval.

    Parameters
    ----------
    comparison : Comparison
    ax : sequence of Axes, optional
        One per parameter of `forest_names`; made when not given.
    """
    names = forest_names(comparison)
    sources = ["ml", "reml", *comparison.variants]
    figure, axes = axes_of(ax, names, FOREST)
    for a, name in zip(axes, names, strict=True):
        row = comparison.table.loc[name]
        for at, source in enumerate(sources):
            if source in ("ml", "reml"):
                middle, se = row[source, "estimate"], row[source, "se"]
                ends = (middle - 2 * se, middle + 2 * se)
            else:
                middle = row[source, "mean"]
                ends = (row[source, "2.5 %"], row[source, "97.5 %"])
            if np.isfinite(ends).all():
                a.plot(ends, [at, at], color=COLOURS[source], lw=1.6, solid_capstyle="butt")
            a.plot([middle], [at], MARKERS[source], color=COLOURS[source], ms=5, clip_on=False, zorder=3)
        a.set_ylim(len(sources) - 0.5, -0.5)
        a.set_yticks(range(len(sources)), [NAMES[source] for source in sources])
        a.tick_params(axis="y", length=0)
        if name.startswith("sigma"):
            low, high = a.get_xlim()
            # zero is shown where it is near, and not hidden by the axis
            a.set_xlim(left=-0.03 * high if low < 0.35 * high else low)
        tidy(a, name, left=False, most=LONG_NAME if per_row(names) == 3 else 44)
        _unit(a, comparison.model, name)
        a.grid(axis="x", color="#dddddd", lw=0.6)
        a.set_axisbelow(True)
    return figure


# Densities of the SDs


def sd_densities(comparison: Comparison, ax: Sequence[Axes] | None = None) -> Figure:
    """Draw the posterior density of each SD, and of R's parameters, with its prior, and where ML and REML stand.

    What the posterior has and the prior has not is what the data added.
    """
    densities = _prior_densities(comparison.model)
    names = list(densities)
    figure, axes = axes_of(ax, names, DENSITY)
    no_sd = {parameter.label for parameter in comparison.model.design.residual.own}
    for at, (a, (name, prior)) in enumerate(zip(axes, densities.items(), strict=True)):
        draws = {variant: comparison.values(variant, name) for variant in comparison.variants}
        points = [comparison.table.loc[name, (fit, "estimate")] for fit in ("ml", "reml")]
        low, high = _span(draws.values(), points, signed=name in no_sd)
        top = 0.0
        for variant, x in draws.items():
            grid, density = _posterior_curve(comparison, variant, name, x)
            a.plot(grid, density, color=COLOURS[variant], ls="-" if variant == "joint" else (0, (5, 1.5)), lw=1.6)
            top = max(top, float(density.max()))
        grid = np.linspace(low if name in no_sd else max(low, high * 1e-3), high, 300)
        if prior is not None:
            a.fill_between(grid, prior(grid), color=COLOURS["prior"], alpha=0.3, lw=0)
        for fit, value in zip(("ml", "reml"), points, strict=True):
            a.axvline(value, color=COLOURS[fit], lw=1.1, ls="-" if fit == "ml" else (0, (2, 1.5)), ymax=0.93)
            size = 6.5 if fit == "ml" else 4.5  # both are seen where they coincide
            a.plot([value], [0.93 * 1.08 * top], MARKERS[fit], color=COLOURS[fit], ms=size, clip_on=False)
        a.set_xlim(low, high)
        a.set_ylim(0, 1.08 * top if top > 0 else 1)
        a.set_yticks([])
        a.margins(x=0)
        tidy(a, name, left=False, most=LONG_NAME if per_row(names) == 3 else 44)
        _unit(a, comparison.model, name)
        if at == 0:
            _key(figure if ax is None else a.figure, ["ml", "reml", *comparison.variants, "prior"])
    return figure


def _posterior_curve(comparison: Comparison, variant: str, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid and density: computed for the marginal where that can be, or for what stands alone; else smoothed."""
    curve = comparison.curves.get(name)
    if variant == comparison.variants[-1] and curve is not None and curve.exact:
        return curve.grid, curve.density
    grid, density = density_of(x)
    # the estimate is cut off at the smallest draw; close the curve there
    return np.append(grid[0], grid), np.append(0.0, density)


def _prior_densities(model: Model) -> dict[str, Callable[[np.ndarray], np.ndarray] | None]:
    """The prior densities of the SDs and of R's parameters, by name; None for a flat one."""
    sds = model.priors.sds
    out: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {}
    for k, name in enumerate(sd_labels(model.design)):
        out[name] = None if k in sds.flat else partial(sds.density, k)
    proper = not any(row.prior.is_flat for row in model.priors.reasons)
    for k, level in enumerate(model.design.levels):
        for e, label in enumerate(level.sd_labels):
            if model.priors.stated_elsewhere(k, e):
                out[label] = _derived(model, level_names(level).sigma, e) if proper else None
    for parameter, prior in zip(model.design.residual.parameters, model.priors.residual, strict=True):
        out[parameter.label] = None if prior.is_flat else partial(_density, prior)
    return out


def _derived(model: Model, name: str, effect: int) -> Callable[[np.ndarray], np.ndarray]:
    """The prior density of an SD that follows from those of others: smoothed from draws, on the scale of logarithms."""
    from scipy.stats import gaussian_kde

    draws = draw_parameters(model.design, model.priors, 4000, np.random.default_rng(0))[name][:, effect]
    smooth = gaussian_kde(np.log(draws))
    return lambda x: smooth(np.log(np.maximum(x, 1e-300))) / np.maximum(x, 1e-300)


def _density(prior: Prior, x: np.ndarray) -> np.ndarray:
    return np.exp(prior.logpdf(x))


def _span(draws: Iterable[np.ndarray], points: Sequence[float], signed: bool) -> tuple[float, float]:
    """Where a density is drawn: SDs from zero where that is near, a correlation around its draws."""
    draws = list(draws)
    if signed:
        low = min(*(np.quantile(x, 0.001) for x in draws), *points)
        high = max(*(np.quantile(x, 0.999) for x in draws), *points)
        wide = 0.1 * (high - low) or 0.1
        return float(max(low - wide, -1.0)), float(min(high + wide, 1.0))
    low = min(min(np.quantile(x, 0.001) for x in draws), *points)
    high = max(*(np.quantile(x, 0.985) for x in draws), *(1.1 * p for p in points))
    low = 0.0 if low < 0.35 * high else low - 0.1 * (high - low)
    return low, high if high > low else low + 1.0


def _key(figure: Figure | SubFigure, sources: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dashes: dict[str, Any] = {"ml": "-", "reml": (0, (2, 1.5)), "joint": "-", "marginal": (0, (5, 1.5))}
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=COLOURS[s],
            ls=dashes[s],
            lw=1.4,
            marker=MARKERS[s] if s in ("ml", "reml") else "",
            ms=5,
        )
        for s in sources
        if s != "prior"
    ]
    if "prior" in sources:
        handles.append(Patch(color=COLOURS["prior"], alpha=0.3, lw=0))
    labels = [NAMES[s] for s in sources]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)


# Random effects


def caterpillar(comparison: Comparison, level: LevelDesign, effect: int = 0, ax: Axes | None = None) -> Figure:
    """Draw a level's random effects, sorted: REML's modes and the posterior's means, with intervals.

    A cross shows a group's effect without shrinkage, where its own rows determine it: by least squares on what the
    fixed effects and the other levels leave of them. Crosses far outside of the intervals are counted, not drawn. Of
    many groups, 60 are drawn, evenly spaced by rank.
    """
    frame = comparison.reml.ranef[level.name]
    mode = frame.iloc[:, effect].to_numpy()
    sd = frame.iloc[:, level.r + effect].to_numpy()
    variant = comparison.best
    tree = comparison.posteriors[variant]
    u = (
        tree["posterior"]
        .to_dataset()[level.name]
        .transpose("chain", "draw", ...)
        .values.reshape(-1, level.m, level.r)[..., effect]
    )
    mean, (low, high) = u.mean(axis=0), np.quantile(u, [0.025, 0.975], axis=0)
    order = np.argsort(mean if np.ptp(mode) == 0 else mode, kind="stable")
    if level.m > MOST_GROUPS:
        order = order[np.linspace(0, level.m - 1, MOST_GROUPS).round().astype(int)]
    own = unshrunk(comparison.reml, level)[:, effect]
    figure, (a,) = axes_of(None if ax is None else [ax], [""], 0.6 + (0.3 if len(order) < 13 else 0.15) * len(order))
    at = np.arange(len(order))
    a.axvline(0, color="#999999", lw=0.8)
    for source, middle, ends, shift in (
        ("reml", mode, (mode - 2 * sd, mode + 2 * sd), -0.16),
        (variant, mean, (low, high), 0.16),
    ):
        a.hlines(at + shift, ends[0][order], ends[1][order], color=COLOURS[source], lw=1.3)
        label = "REML mode, 2 conditional SDs" if source == "reml" else f"{variant} posterior, mean and 95 %"
        a.plot(middle[order], at + shift, MARKERS[source], color=COLOURS[source], ms=3.5, label=label)
    reach = 2 * max(np.abs([low, high, mode - 2 * sd, mode + 2 * sd]).max(), 0.0)
    far = np.abs(own[order]) > reach
    if np.isfinite(own[order]).any():
        outside = f" ({far.sum()} further out)" if far.any() else ""
        crosses = np.where(far, np.nan, own[order])
        a.plot(crosses, at, "x", color="#000000", ms=4.5, mew=1, label=f"without shrinkage{outside}")
    a.set_yticks(at, [shortened(level.groups[g]) for g in order], fontsize=9 if len(order) < 31 else 7)
    a.set_ylim(-0.7, len(order) - 0.3)
    a.tick_params(axis="y", length=0)
    some = "" if len(order) == level.m else f"; {len(order)} of {level.m} groups, evenly spaced by rank"
    of = "" if level.r == 1 else f", {level.effects[effect]}"
    tidy(a, f"{level.name}{of}: one per {level.label}{some}", left=False)
    if level.n_sds:
        _unit(a, comparison.model, level.sd_labels[min(effect, level.n_sds - 1)])
    a.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8.5)
    a.set_title(a.get_title(loc="left"), loc="left", fontsize=10, pad=24)
    return figure


# The design


def design_matrix(model: Model, ax: Axes | None = None) -> Figure:
    """Draw where Z transposed is not zero, one band per level; a large matrix is drawn in cells."""
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    design = model.design
    heights = [level.q for level in design.levels]
    shares = _band_heights(heights)
    n = design.n
    columns = min(n, 600)
    figure, (a,) = axes_of(None if ax is None else [ax], [""], 0.9 + 3.4 * min(1.0, sum(shares) / 40))
    top = 0.0
    ticks, names = [], []
    for k, (level, share) in enumerate(zip(design.levels, shares, strict=True)):
        rows = min(level.q, 200)
        Z = level.Z.tocoo()
        seen = np.zeros((rows, columns))
        seen[Z.coords[1] * rows // level.q, Z.coords[0] * columns // n] = 1
        colour = BANDS[k % len(BANDS)]
        a.axhspan(top, top + share, color=colour, alpha=0.1, lw=0)
        a.imshow(
            np.ma.masked_equal(seen, 0), extent=(0, n, top + share, top), aspect="auto",
            interpolation="nearest", cmap=ListedColormap([colour]), vmin=0, vmax=1, zorder=2,
        )  # fmt: skip
        ticks.append(top + share / 2)
        effects = "" if level.r == 1 else f"\n{level.r} effects each"
        names.append(f"{level.name}: {shortened(level.label, 20)}\n{level.m} groups{effects}")
        top += share
        if k + 1 < len(heights):
            a.axhline(top, color="white", lw=2, zorder=3)
    a.set_xlim(0, n)
    a.set_ylim(top, 0)
    a.set_yticks(ticks, names)
    a.tick_params(axis="y", length=0)
    a.set_xlabel("row of the data")
    fill = 100 * design.Z.nnz / max(1, n * design.q)
    tidy(a, f"Z transposed: {design.q} x {n}, {fill:.3g} % not zero", left=False)
    a.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    return figure


def _band_heights(heights: Sequence[int]) -> list[float]:
    """Return heights of the bands: the numbers of rows, small bands raised so that their names fit."""
    total = max(sum(heights), 1)
    floor = total / (2.2 * len(heights)) if len(heights) > 1 else 0
    return [max(float(h), floor) for h in heights]


# Sampling


def ess_bars(comparison: Comparison, ax: Axes | None = None) -> Figure:
    """Draw the effective sample size of each parameter per variant; the line is the 400 that is wanted."""
    names = forest_names(comparison)
    figure, (a,) = axes_of(None if ax is None else [ax], [""], 0.9 + 0.3 * len(names))
    at, wide = np.arange(len(names)), 0.8 / len(comparison.variants)
    for k, variant in enumerate(comparison.variants):
        ess = comparison.table.loc[names, (variant, "ess")].to_numpy()
        place = at + (k - (len(comparison.variants) - 1) / 2) * wide
        a.barh(place, np.nan_to_num(ess), height=wide * 0.9, color=COLOURS[variant], label=variant)
    a.axvline(ESS_LIMIT, color="#000000", lw=1, ls=(0, (4, 2)))
    a.set_yticks(at, [shortened(name, 36) for name in names])
    a.set_ylim(len(names) - 0.4, -0.6)
    a.tick_params(axis="y", length=0)
    tidy(a, "Effective draws (bulk); dashed: 400", left=False)
    a.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


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
    design = comparison.model.design
    neck = funnel_neck(comparison, variant)
    level = [level for level in design.levels if level.n_sds][-1] if neck is None else neck[1]
    labels = level.sd_labels
    effect = 0 if neck is None else labels.index(neck[0])
    group = int(np.argmin(np.bincount(level.index, minlength=level.m)))
    tree = comparison.posteriors[variant]
    u = tree["posterior"].to_dataset()[level_names(level).u].transpose("chain", "draw", ...).values
    u = u.reshape(-1, level.m, level.r)[:, group, effect]
    sd = np.log(np.maximum(comparison.values(variant, labels[effect]), np.finfo(float).tiny))
    at = divergent(tree)
    bad = np.zeros(sd.size, dtype=bool) if at is None else at.ravel()
    figure, (a,) = axes_of(None if ax is None else [ax], [""], 3.4)
    dots: dict[str, Any] = {"ms": 3.5, "alpha": 0.4, "mew": 0, "rasterized": True}
    a.plot(u[~bad], sd[~bad], ".", color=COLOURS[variant], **dots)
    a.plot([], [], "o", color=COLOURS[variant], ms=4, label="draws")
    a.plot(u[bad], sd[bad], "x", color="#000000", ms=5, mew=1.1, label=f"divergences ({bad.sum()})")
    edge = 1.05 * max(np.quantile(np.abs(u), 0.995), np.abs(u[bad]).max(initial=0))
    a.set_xlim(-edge, edge)
    of = "" if level.r == 1 else f", {level.effects[effect]}"
    a.set_xlabel(f"{level.name}[{shortened(level.groups[group])}{of}]")
    a.set_ylabel(f"log {labels[effect]}")
    tidy(a, f"The funnel of {level.name} in the {variant} model")
    a.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _unit(ax: Axes, model: Model, name: str) -> None:
    """Write the unit of a parameter, or of an SD's effects, under its axis."""
    ax.set_xlabel(shortened(unit_of(model, name), 34), fontsize=8.5, color="#444444")
