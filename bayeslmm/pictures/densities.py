"""Posterior densities of the SDs, and of R's parameters, over their priors, with the likelihood where it is asked for.

The density of an SD is computed and not estimated from draws where that can be; see `posterior.sd_densities`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.criticism.prior_predictive import draw_parameters
from bayeslmm.design.parameters import level_names
from bayeslmm.design.units import unit_of
from bayeslmm.errors import DescriptionError
from bayeslmm.likelihood.confidence import profile_deviance
from bayeslmm.posterior.draws import density_of, sd_labels
from bayeslmm.posterior.sd_densities import Curve, sd_curves
from bayeslmm.support.figures import COLOURS, LONG_NAME, MARKERS, NAMES, axes_of, key_below, per_row, tidy, under

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.distributions.prior import Prior
    from bayeslmm.model import Model

HEIGHT = 2.05  # inches of a small axis
PROFILE = 31  # points of a profile likelihood
DASHES: dict[str, Any] = {
    "ml": "-", "reml": (0, (2, 1.5)), "joint": "-", "marginal": (0, (5, 1.5)),
    "ml laplace": (0, (2, 1.5)), "ml quadrature": "-", "marginal laplace": (0, (2, 1)),
    "marginal quadrature": (0, (3, 1, 1, 1)),
}  # fmt: skip
LIKELIHOOD = "#56B4E9"

Density = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One parameter's densities.

    Attributes
    ----------
    name, unit : str
    span : (float, float)
        Where it is drawn.
    curves : mapping of "joint" or "marginal" to Curve
        The posterior density; ``exact`` says whether it was computed, and not smoothed from draws.
    prior : (grid, density), or None
        None for a flat prior.
    profile : (grid, likelihood), or None
        REML's profile likelihood, 1 at its top.
    points : mapping of "ml" and "reml" to float
    """

    name: str
    unit: str
    span: tuple[float, float]
    curves: Mapping[str, Curve]
    prior: tuple[np.ndarray, np.ndarray] | None
    profile: tuple[np.ndarray, np.ndarray] | None
    points: Mapping[str, float]

    @property
    def top(self) -> float:
        """The highest value of a posterior density."""
        return max((float(curve.density.max()) for curve in self.curves.values()), default=0.0) or 1.0

    def draw(self, a: Axes, most: int) -> None:
        """Draw the prior as an area, the rest as lines, the fits as lines that carry their markers."""
        low, high = self.span
        for key, curve in self.curves.items():
            grid, density = curve.grid, curve.density
            dashes = DASHES[key] if len(self.curves) > 1 else "-"
            a.plot(grid, density, color=COLOURS[key], ls=dashes, lw=1.6, zorder=2.2)
        if self.prior is not None:
            a.fill_between(*self.prior, color=COLOURS["prior"], alpha=0.3, lw=0)
        if self.profile is not None:
            grid, likelihood = self.profile
            a.plot(grid, self.top * likelihood, color=LIKELIHOOD, lw=2.6, alpha=0.9, zorder=2.1)
        for fit, value in self.points.items():
            a.axvline(value, color=COLOURS[fit], lw=1.1, ls=DASHES[fit], ymax=0.93)
            size = 6.5 if fit == "ml" else 4.5  # both are seen where they coincide
            a.plot([value], [0.93 * 1.08 * self.top], MARKERS[fit], color=COLOURS[fit], ms=size, clip_on=False)
        a.set_xlim(low, high)
        a.set_ylim(0, 1.08 * self.top)
        a.set_yticks([])
        a.margins(x=0)
        tidy(a, self.name, left=False, most=most)
        under(a, self.unit, 27 if most == LONG_NAME else 40)


@dataclass(frozen=True, kw_only=True, eq=False)
class Densities:
    """The densities of several parameters."""

    panels: tuple[Panel, ...]

    @property
    def names(self) -> list[str]:
        """The parameters."""
        return [panel.name for panel in self.panels]

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw one small axis per parameter."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        figure, axes = axes_of(ax, self.names, HEIGHT)
        most = LONG_NAME if per_row(self.names) == 3 else 44
        for a, panel in zip(axes, self.panels, strict=True):
            panel.draw(a, most)
        first = self.panels[0]
        handles: dict[str, Any] = {
            NAMES[key]: Line2D([], [], color=COLOURS[key], ls=DASHES[key], lw=1.4, marker=MARKERS[key], ms=5)
            for key in first.points
        }
        exact = len(first.curves) == 1 and all(curve.exact for panel in self.panels for curve in panel.curves.values())
        for key in first.curves:
            name = "exact posterior" if exact else NAMES[key]
            dashes = DASHES[key] if len(first.curves) > 1 else "-"
            handles[name] = Line2D([], [], color=COLOURS[key], ls=dashes, lw=1.4)
        handles["prior"] = Patch(color=COLOURS["prior"], alpha=0.3, lw=0)
        if first.profile is not None:
            handles["REML's profile likelihood, as high"] = Line2D([], [], color=LIKELIHOOD, lw=2.6)
        key_below(figure, handles)
        return figure


def sd_densities(
    model: Model, draws: Mapping[str, Mapping[str, np.ndarray]] | None = None, profile: bool = False
) -> Densities:
    """Compute the posterior density of each SD, and of R's parameters, with its prior, and where ML and REML stand.

    Parameters
    ----------
    model : Model
    draws : mapping of variant to (mapping of parameter to array), optional
        Without draws, only the SDs whose density can be computed are shown.
    profile : bool
        Whether to compute REML's profile likelihood, too.
    """
    exact, priors = sd_curves(model), prior_densities(model)
    names = list(priors) if draws else [name for name in priors if name in exact]
    if not names:
        raise DescriptionError(
            "The densities of this model's SDs can't be computed without draws; give a posterior: "
            "lmm.plot_sds(lmm.sample())."
        )
    ml, reml = model.ml(), model.reml()
    no_sd = {parameter.label for parameter in model.design.residual.own}
    panels = []
    for name in names:
        points = {fit.method.lower(): float(fit.estimates()[name]) for fit in (ml, reml)}
        own = {variant: values[name] for variant, values in (draws or {}).items()}
        curves = {variant: smoothed(x) for variant, x in own.items()}
        if name in exact:
            curves[list(own)[-1] if own else "marginal"] = exact[name]
        ends = [tails(x) for x in own.values()] or [tails(exact[name])]
        span = span_of(ends, list(points.values()), signed=name in no_sd)
        grid = np.linspace(span[0] if name in no_sd else max(span[0], span[1] * 1e-3), span[1], 300)
        prior = priors[name]
        likelihood = None if not profile or reml.perfect else _profile(model, name, grid)
        panels.append(
            Panel(
                name=name,
                unit=unit_of(model.design, name),
                span=span,
                curves=curves,
                prior=None if prior is None else (grid, prior(grid)),
                profile=likelihood,
                points=points,
            )
        )
    return Densities(panels=tuple(panels))


def smoothed(x: np.ndarray) -> Curve:
    """A kernel density estimate; it is cut off at the smallest draw, so it is closed there."""
    grid, density = density_of(x)
    return Curve(grid=np.append(grid[0], grid), density=np.append(0.0, density), exact=False)


def _profile(model: Model, name: str, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """REML's profile likelihood on the grid, from a few points of its deviance."""
    from scipy.interpolate import PchipInterpolator

    top = float(model.reml().estimates()[name])
    few = np.unique(np.append(np.linspace(grid[0], grid[-1], PROFILE), top if grid[0] < top < grid[-1] else []))
    rise = profile_deviance(model.reml(), name, few)
    return grid, np.exp(-PchipInterpolator(few, rise)(grid) / 2)


# Priors


def prior_densities(model: Model) -> dict[str, Density | None]:
    """The prior densities of the SDs and of R's parameters, by name; None for a flat one."""
    sds = model.priors.sds
    out: dict[str, Density | None] = {}
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


def _derived(model: Model, name: str, effect: int) -> Density:
    """The prior density of an SD that follows from those of others: smoothed from draws, on the scale of logarithms."""
    from scipy.stats import gaussian_kde

    draws = draw_parameters(model.design, model.priors, 4000, np.random.default_rng(0))[name][:, effect]
    smooth = gaussian_kde(np.log(draws))
    return lambda x: smooth(np.log(np.maximum(x, 1e-300))) / np.maximum(x, 1e-300)


def _density(prior: Prior, x: np.ndarray) -> np.ndarray:
    return np.exp(prior.logpdf(x))


# Where it is drawn


def tails(of: np.ndarray | Curve) -> tuple[float, float, float]:
    """The quantiles 0.001, 0.985 and 0.999 of draws or of a density."""
    at = [0.001, 0.985, 0.999]
    if isinstance(of, Curve):
        mass = np.cumsum(of.density)
        low, high, highest = np.interp(at, mass / mass[-1], of.grid)
    else:
        low, high, highest = np.quantile(of, at)
    return float(low), float(high), float(highest)


def span_of(tails: Sequence[tuple[float, float, float]], points: Sequence[float], signed: bool) -> tuple[float, float]:
    """Where a density is drawn: SDs from zero where that is near, a correlation around its draws."""
    low = min(*(low for low, _, _ in tails), *points)
    if signed:
        high = max(*(highest for _, _, highest in tails), *points)
        wide = 0.1 * (high - low) or 0.1
        return max(low - wide, -1.0), min(high + wide, 1.0)
    high = max(*(high for _, high, _ in tails), *(1.1 * p for p in points))
    low = 0.0 if low < 0.35 * high else low - 0.1 * (high - low)
    return low, high if high > low else low + 1.0
