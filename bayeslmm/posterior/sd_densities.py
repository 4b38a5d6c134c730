"""Posterior densities of the standard deviations, computed from the collapsed density and not from draws of it.

p(s | y) is the mean of p(s | the other parameters, y) over their posterior: each of these is evaluated on a grid and
normalised, and the others are averaged over by importance sampling with the same numbers every time. The curve is as
smooth as the density, and doesn't depend on the seed of anyone's run.

Source: Gelfand & Smith (1990), doi:10.2307/2289776, for the estimator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from bayeslmm.errors import SamplingError
from bayeslmm.posterior.collapsed import CollapsedPosterior, collapsed_posterior
from bayeslmm.posterior.draws import sd_labels
from bayeslmm.posterior.independence import adapt
from bayeslmm.support.pareto import pareto_k
from bayeslmm.support.progress import Progress
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    from bayeslmm.model import Model

GRID = 48  # points of a conditional density
FINE = 800  # points of the curve
MOST = 12  # variance parameters
HAIR = 0.01  # a density this close to its top is as high


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A density on a grid from zero or above; `exact` unless it was smoothed from draws."""

    grid: np.ndarray
    density: np.ndarray
    exact: bool = True

    @property
    def mode(self) -> float:
        """Where it is highest."""
        return float(self.grid[np.argmax(self.density)])

    @property
    def flat(self) -> tuple[float, float] | None:
        """The ends of `top` where it is too wide for the mode to mean anything, else None.

        It is where it begins at zero, or is half as wide again as that of a normal density of the same middle half.
        """
        first, last = self.top
        mass = np.cumsum(self.density)
        low, high = np.interp([0.25, 0.75], mass / mass[-1], self.grid)
        wide = last - first > 0.4 * (high - low) / 1.349
        return (first, last) if self.exact and (wide or first == 0) else None

    @property
    def top(self) -> tuple[float, float]:
        """The ends of the range around the mode in which it is within 1 % of its highest value."""
        high = self.density >= (1 - HAIR) * self.density.max()
        k = int(np.argmax(self.density))
        below, above = np.flatnonzero(~high[:k]), np.flatnonzero(~high[k:])
        first = below[-1] + 1 if below.size else 0
        last = k + above[0] - 1 if above.size else high.size - 1
        return float(self.grid[first]), float(self.grid[last])


def sd_curves(model: Model) -> dict[str, Curve]:
    """Compute the posterior density of every SD that is a coordinate of the collapsed density.

    Left out are those that are functions of several coordinates, and all of them where the collapsed density is not
    the posterior (coefficients with priors that aren't Gaussian) or importance sampling fails.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> curves = sd_curves(lmm)
    >>> list(curves), bool(2.5 < curves["sigma_u2"].mode < 3)
    (['sigma', 'sigma_u2'], True)
    """
    if model not in _known:
        _known[model] = _sd_curves(model)
    return _known[model]


_known: WeakKeyDictionary[Model, dict[str, Curve]] = WeakKeyDictionary()


def _sd_curves(model: Model) -> dict[str, Curve]:
    posterior = collapsed_posterior(model.statistics, model.priors)
    if posterior.other_beta or posterior.coordinates.size > MOST:
        return {}
    rng = np.random.default_rng(20)  # the same numbers every time: the curves are a function of the model
    with one_blas_thread():
        try:
            posterior, proposal = adapt(posterior, rng, Progress(False))[:2]
        except SamplingError:
            return {}
        positions = posterior.sd_positions
        x = proposal.draw(rng, _points(posterior, len(positions)))
        lp = posterior.density(x)
        log_weights = lp - proposal.logpdf(x)
        if x.shape[0] > 25 and pareto_k(log_weights) >= 0.7:
            return {}
        weights = np.exp(log_weights - log_weights.max())
        kept = weights > 0
        x, weights = x[kept], weights[kept] / weights.sum()
        own = np.exp(posterior.to_log(x)[0][:, positions])
        written = _as_written(model, posterior, x)
        labels = sd_labels(model.design)
        return {
            label: _curve(posterior, k, x, weights)
            for j, (label, k) in enumerate(zip(labels, positions, strict=True))
            if np.allclose(own[:, j], written[:, j], rtol=1e-8)
        }


def _points(posterior: CollapsedPosterior, sds: int) -> int:
    """How many values of the other parameters to average over: fewer where an evaluation is dear."""
    layout = posterior.stats.layout
    evaluations = 5e7 / (layout.zz.size + layout.zt.size + layout.zz_tail.size + 500)
    return int(np.clip(min(evaluations, 80_000) / (GRID * sds), 24, 1000))


def _as_written(model: Model, posterior: CollapsedPosterior, x: np.ndarray) -> np.ndarray:
    """The SDs (n, sds) as they are reported, in the order of `sd_labels`."""
    sigma, sds, _ = posterior.coordinates.natural(posterior.to_log(x)[0])
    own = [level.structure.gather(sd) for level, sd in zip(model.design.levels, sds, strict=True)]
    return np.concatenate([sigma[:, None], *own], axis=1)


def _curve(posterior: CollapsedPosterior, k: int, x: np.ndarray, weights: np.ndarray) -> Curve:
    """The density of the SD at coordinate k, averaged over the other coordinates of x (n, coordinates)."""
    from scipy.interpolate import CubicSpline

    centre = weights @ x[:, k]
    sd = np.sqrt(weights @ (x[:, k] - centre) ** 2)
    lower = posterior.lower[k] if posterior.shift[k] > 0 else -np.inf
    low = max(x[:, k].min() - 0.5 * sd, lower + 1e-9 * max(1.0, abs(lower)) if np.isfinite(lower) else -np.inf)
    if np.isfinite(lower) and low - lower < 0.5 * sd:
        low = lower + 1e-6 * sd
    grid = np.linspace(low, x[:, k].max() + 1.0 * sd, GRID)
    points = np.repeat(x, GRID, axis=0)
    points[:, k] = np.tile(grid, len(x))
    lp = posterior.density(points).reshape(len(x), GRID)
    lp -= lp.max(axis=1, keepdims=True)
    slices = np.exp(lp)
    slices /= np.trapezoid(slices, grid, axis=1)[:, None]
    density = np.maximum(weights @ slices, 1e-300)
    fine = np.linspace(grid[0], grid[-1], FINE)
    log_density = CubicSpline(grid, np.log(density))(fine)
    s = np.exp(fine) - posterior.shift[k]
    curve = np.exp(log_density - fine)  # d x / d s = 1 / (s + shift) = e^-x
    even = np.linspace(max(s[0], 0.0), s[-1], 2 * FINE)
    values = np.interp(even, s, curve)
    return Curve(grid=even, density=values / np.trapezoid(values, even))
