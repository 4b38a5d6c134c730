"""Where the modes of the collapsed posterior are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.covariances.residuals.structure import ResidualParameter
from bayeslmm.distributions.prior import Prior
from bayeslmm.likelihood.criterion import EDGE, Criterion, spread_points
from bayeslmm.likelihood.search import estimates

if TYPE_CHECKING:
    from bayeslmm.posterior.collapsed import CollapsedPosterior

SPREAD = 24  # points at which the density is looked at before the modes are looked for


def starting_points(posterior: CollapsedPosterior) -> list[np.ndarray]:
    """Points, in logs, from which the modes are looked for.

    A sensible one; REML's estimates; the same with other correlations of the residuals; and points spread over
    what SDs and correlations may be, always the same ones.
    """
    start, sds = first_point(posterior), posterior.sd_positions
    criterion = Criterion(stats=posterior.stats, reml=True)
    above = dict(zip(sds[1:], np.log(criterion.reach[criterion.diagonal]), strict=True))
    out = [start, *_estimates(posterior)]
    for k, parameter, prior in posterior.residual_priors:
        low, high = support(parameter, prior)
        for value in (x for x in parameter.starts if x > parameter.neutral):
            moved = start.copy()
            moved[k] = np.clip(parameter.free(value), low + 0.1, high - 0.1)
            out.append(moved)
    own = range(1, posterior.coordinates.residual.start)
    for point in spread_points(SPREAD, 1 + len(own)):
        moved = start.copy()
        moved[0] += point[0] - 0.5
        for k, place in zip(own, point[1:], strict=True):
            moved[k] = moved[k] + (9 + above[k]) * place - 5.5 if k in above else 3 * place - 1.5
        out.append(_inside(posterior, moved))
    return out


def first_point(posterior: CollapsedPosterior) -> np.ndarray:
    """A sensible first point, in logs: the residual variance of least squares split evenly over the terms."""
    stats = posterior.stats
    residual, phi = stats.design.residual, np.zeros(posterior.coordinates.size)
    share = stats.scale / np.sqrt(1 + len(stats.design.levels))
    phi[0] = np.log(share)
    for level, (sd, corr), M in zip(stats.design.levels, posterior.coordinates.slices, stats.maps, strict=True):
        phi[sd] = np.log(level.structure.gather(share / level.structure.column_sizes(M)))
        phi[corr] = level.structure.coordinates(np.eye(level.r))
    phi = _inside(posterior, phi)
    phi[posterior.coordinates.residual] = residual.free(residual.neutral)
    for k, parameter, prior in posterior.residual_priors:
        low, high = support(parameter, prior)
        if not low < phi[k] < high:
            phi[k] = parameter.free(prior.quantile(0.5))
    return phi


def support(parameter: ResidualParameter, prior: Prior) -> tuple[float, float]:
    """Where a residual parameter's coordinate may be."""
    with np.errstate(divide="ignore"):
        low = float(parameter.free(np.maximum(prior.lower, parameter.lower)))
        high = np.inf
        if np.isfinite(parameter.upper) or np.isfinite(prior.upper):
            high = float(parameter.free(np.minimum(prior.upper, parameter.upper)))
    return low, high


def _estimates(posterior: CollapsedPosterior) -> list[np.ndarray]:
    """REML's estimates in logs, SDs that are zero a little above it."""
    sds, out = posterior.sd_positions, []
    least = first_point(posterior)[sds] + np.log(1e-2)
    for factors, sigma, psi in estimates(posterior.stats):
        if not (np.isfinite(sigma) and sigma > 0):
            continue
        phi = posterior.coordinates.from_relative(float(np.log(sigma)), factors)
        phi[sds] = np.maximum(phi[sds], least)
        phi = _inside(posterior, phi)
        free = posterior.stats.design.residual.free(psi)
        phi[posterior.coordinates.residual] = np.clip(free, -EDGE + 1, EDGE - 1)
        out.append(phi)
    return out


def _inside(posterior: CollapsedPosterior, phi: np.ndarray) -> np.ndarray:
    """The same point with SDs that their priors allow."""
    out, sds = phi.copy(), posterior.sd_positions
    out[sds] = np.log(posterior.priors.sds.inside(np.exp(phi[sds])))
    return out
