"""Confidence limits of a fit: where the deviance, minimised over all else, rises too far; or Wald's.

The deviance and its coordinates are those of `surface`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.covariances.effects.structure import FLAT
from bayeslmm.covariances.residuals.structure import ResidualParameter
from bayeslmm.design.counted import mean
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.likelihood.criterion import EDGE
from bayeslmm.likelihood.deviance import Surface
from bayeslmm.support.arguments import check_coverage
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    from bayeslmm.likelihood.fit import LikelihoodFit

METHODS = ("profile", "wald")

Limits = tuple[float, float, str]
Profile = Callable[[float, np.ndarray], tuple[float, np.ndarray]]


def confidence_limits(fit: LikelihoodFit, level: float = 0.95, method: str = "profile") -> pd.DataFrame:
    """Return estimate, lower, upper and criterion for every parameter of the fit.

    Parameters
    ----------
    fit : LikelihoodFit
    level : float
        Coverage, between 0 and 1.
    method : {"profile", "wald"}
        "profile": where the deviance rises by the chi-squared quantile with one degree of freedom. REML says
        nothing about the fixed effects, so theirs are Wald's then. "wald": estimate +- z SE, for SDs on the
        log scale and for correlations on the arctanh scale.

    Notes
    -----
    An SD whose lower limit is 0, or a correlation that reaches 1 or -1, is on the edge of what it can be: the
    data don't exclude it. Where there is no answer, the limits are NaN and `criterion` says why.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> fit = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}).ml()
    >>> confidence_limits(fit, method="wald").round(2)
                     estimate  lower  upper criterion
    beta[Intercept]      4.83   1.59   8.08   ML Wald
    sigma                0.71   0.32   1.57   ML Wald
    sigma_u2             2.82   1.24   6.45   ML Wald
    """
    check_coverage("level", level)
    if method not in METHODS:
        raise DescriptionError(
            f"method is {method!r}; 'profile' or 'wald' was expected.{did_you_mean(str(method), METHODS)}"
        )
    from scipy.stats import norm

    z = float(norm.ppf((1 + level) / 2))
    with one_blas_thread():
        profile = method == "profile"
        rows: dict[str, Limits] = {}
        for j, name in enumerate(fit.design.coef):
            if profile and fit.method == "ML":
                rows[f"beta[{name}]"] = _profile_beta(fit, j, z)
            else:
                half = z * float(fit.fixef_se.iloc[j])
                rows[f"beta[{name}]"] = (fit.beta[j] - half, fit.beta[j] + half, f"{fit.method} Wald")
        rows |= _profile_variances(fit, z) if profile else _wald_variances(fit, z)
    estimates = fit.estimates()
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["lower", "upper", "criterion"])
    table.insert(0, "estimate", estimates)
    return table.loc[estimates.index]


def _surface(fit: LikelihoodFit, k: int | None = None, first: int = 0) -> Surface:
    """The fit's deviance, effect `first` of level k taken first."""
    orders = [tuple(range(level.r)) for level in fit.design.levels]
    if k is not None:
        orders[k] = (first, *(e for e in orders[k] if e != first))
    return Surface(stats=fit.stats, reml=fit.method == "REML", orders=tuple(orders))


def _scale(fit: LikelihoodFit, surface: Surface) -> np.ndarray:
    """Typical size of each entry of phi."""
    out = np.ones(surface.size)
    for level, (sd, _), sds, M in zip(fit.design.levels, surface.slices, fit.sds, fit.stats.maps, strict=True):
        typical = fit.sigma / np.abs(np.diag(M))
        out[sd] = level.structure.gather(np.where(sds > 0.1 * typical, sds, typical))
    return out


# profile limits ----------------------------------------------------------------------------------------


def _profile_beta(fit: LikelihoodFit, j: int, z: float) -> Limits:
    surface = _surface(fit)
    scale = _scale(fit, surface)
    step = z * float(fit.fixef_se.iloc[j])

    def profile(x: float, start: np.ndarray) -> tuple[float, np.ndarray]:
        return surface.minimise(start, scale, beta=(j, x))

    return _both(fit, profile, fit.beta[j], surface.phi(fit), step, (-np.inf, np.inf), z)


def _profile_variances(fit: LikelihoodFit, z: float) -> dict[str, Limits]:
    """Limits of sigma, the SDs and the correlations."""
    surface = _surface(fit)
    scale = _scale(fit, surface)
    d = surface.degrees
    lower, upper, said = _profile_entry(fit, surface, 0, z / np.sqrt(2 * d), (-np.inf, np.inf), z)
    out: dict[str, Limits] = {"sigma": (float(np.exp(lower)), float(np.exp(upper)), said)}
    for k, level in enumerate(fit.design.levels):
        sd, corr = surface.slices[k]
        for at, name in enumerate(level.sd_labels, start=sd.start):
            lower, upper, said = _profile_entry(fit, surface, at, scale[at] / 2, (0.0, np.inf), z)
            if lower > 0 and _at_zero(fit, surface, k, at) < z**2 - 2 * fit.loglik:
                lower = 0.0  # the rise is not one hill: what zero doesn't exclude is not excluded
            out[name] = (lower, upper, said)
        for name, effects, turned, place in _correlations(fit, k):
            if (fit.sds[k][list(effects)] == 0).any():
                out[name] = (np.nan, np.nan, f"{fit.method} profile: none, as an SD is zero")
                continue
            lower, upper, said = _profile_entry(fit, turned, corr.start + place, 0.5, (-FLAT, FLAT), z)
            out[name] = (_correlation(level, lower), _correlation(level, upper), said)
    first = surface.coordinates.residual.start
    for k, parameter in enumerate(fit.design.residual.parameters):
        lower, upper, said = _profile_entry(fit, surface, first + k, 0.5, (-EDGE, EDGE), z)
        out[parameter.label] = (_natural(parameter, lower), _natural(parameter, upper), said)
    return out


def _correlations(fit: LikelihoodFit, k: int) -> Iterator[tuple[str, tuple[int, ...], Surface, int]]:
    """Per correlation of level k: its name, its effects, the surface that has it as a coordinate, and which."""
    level = fit.design.levels[k]
    if not level.structure.paired:
        for name in level.correlation_labels:
            yield name, tuple(range(level.r)), _surface(fit), 0
        return
    pairs = [(i, j) for i in range(1, level.r) for j in range(i)]
    for name, (i, j) in zip(level.correlation_labels, pairs, strict=True):
        turned = _surface(fit, k, j)
        place = turned.orders[k].index(i)
        yield name, (i, j), turned, place * (place - 1) // 2


def _natural(parameter: ResidualParameter, z: float) -> float:
    """A limit of a residual parameter; the end of its range where the search came to it."""
    if abs(z) >= EDGE:
        return parameter.lower if z < 0 else parameter.upper
    return float(parameter.natural(z))


def _correlation(level: LevelDesign, z: float) -> float:
    """A limit of a correlation; the end of its range where the search came to it."""
    return float(level.structure.natural(np.sign(z) * np.inf if abs(z) >= FLAT else z, level.r))


def _profile_entry(
    fit: LikelihoodFit, surface: Surface, at: int, step: float, ends: tuple[float, float], z: float
) -> Limits:
    """Limits of one entry of phi, the others at their best."""
    scale, start = _scale(fit, surface), surface.phi(fit)

    def profile(x: float, near: np.ndarray) -> tuple[float, np.ndarray]:
        phi = near.copy()
        phi[at] = x
        return surface.minimise(phi, scale, pin=at)

    return _both(fit, profile, start[at], start, step, ends, z)


def _at_zero(fit: LikelihoodFit, surface: Surface, k: int, at: int) -> float:
    """The least deviance found where one SD of level k is zero, begun at the fit and where another effect stands in.

    With x far from zero a slope can take an intercept's place, and the way there leads over a hill: the effect that
    stands in begins with the SD that gives the rows the variance that the level gives them.
    """
    level, (sd, z) = fit.design.levels[k], surface.slices[k]
    scale, start = _scale(fit, surface), surface.phi(fit)
    start[at] = 0.0
    starts = [start]
    whole = level.columns @ (fit.sigma * fit.lambdas[k])
    variance = float(mean(np.einsum("ij,ij->i", whole, whole), level.counts))
    if level.n_sds == level.r:
        for e in range(level.r):
            size = float(mean(level.columns[:, e] ** 2, level.counts))
            if sd.start + e == at or not size > 0:
                continue
            other = start.copy()
            other[sd] = 0.0
            other[sd.start + e] = np.sqrt(variance / size)
            other[z] = 0.0
            starts.append(other)
    return min(surface.minimise(phi, scale, pin=at)[0] for phi in starts)


def profile_deviance(fit: LikelihoodFit, name: str, values: np.ndarray) -> np.ndarray:
    """Rise of the deviance above the fit's where one SD, or parameter of R, is held at each of `values`.

    Everything else is at its best there. exp(-rise / 2) is the profile likelihood; the limits of `confidence_limits`
    are where the rise is 3.84. SDs from 0 up, sigma above it.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> fit = blm.example("dyestuff").reml()
    >>> limits = fit.confint().loc["sigma_u2", ["lower", "upper"]].to_numpy(dtype=float)
    >>> profile_deviance(fit, "sigma_u2", limits).round(2).tolist()
    [3.84, 3.84]
    """
    surface = _surface(fit)
    at, coordinate = _entry(fit, surface, name)
    scale, start = _scale(fit, surface), surface.phi(fit)
    wanted = coordinate(np.asarray(values, dtype=float))
    seen = {float(start[at]): start}
    out = np.empty(len(wanted))
    with one_blas_thread():
        for k in np.argsort(np.abs(wanted - start[at])):  # from the estimate outwards
            phi = seen[min(seen, key=lambda x: abs(x - wanted[k]))].copy()
            phi[at] = wanted[k]
            out[k], seen[float(wanted[k])] = surface.minimise(phi, scale, pin=at)
        for k in np.argsort(-np.abs(wanted - start[at])):  # and back, where further out it is lower: another start
            side = [j for j in range(len(wanted)) if (wanted[j] - wanted[k]) * (wanted[k] - start[at]) > 0]
            lower = [j for j in side if out[j] < out[k] - 1e-6]
            if lower:
                phi = seen[float(wanted[min(lower, key=lambda j: abs(wanted[j] - wanted[k]))])].copy()
                phi[at] = wanted[k]
                value, phi = surface.minimise(phi, scale, pin=at)
                if value < out[k]:
                    out[k], seen[float(wanted[k])] = value, phi
    return np.maximum(out + 2 * fit.loglik, 0.0)


def _entry(fit: LikelihoodFit, surface: Surface, name: str) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """Where an SD or a parameter of R stands in phi, and its coordinate there."""
    if name == "sigma":
        return 0, np.log
    for level, (sd, _) in zip(fit.design.levels, surface.slices, strict=True):
        if name in level.sd_labels:
            return sd.start + level.sd_labels.index(name), np.asarray
    first = surface.coordinates.residual.start
    parameters = fit.design.residual.parameters
    k = [parameter.label for parameter in parameters].index(name)
    return first + k, partial(_free, parameters[k])


def _free(parameter: ResidualParameter, values: np.ndarray) -> np.ndarray:
    """Coordinates of values of a parameter of R, the ends of its range among them."""
    with np.errstate(divide="ignore"):
        return np.clip(parameter.free(values), -EDGE, EDGE)


class _Better(Exception):
    """Profiling came below the fit's own deviance."""


def _both(
    fit: LikelihoodFit,
    profile: Profile,
    estimate: float,
    start: np.ndarray,
    step: float,
    ends: tuple[float, float],
    z: float,
) -> Limits:
    least = -2 * fit.loglik
    try:
        lower = _limit(profile, estimate, start, -step, ends[0], least, z)
        upper = _limit(profile, estimate, start, step, ends[1], least, z)
    except _Better:
        reason = "none, as profiling found a higher likelihood than the fit's"
        return (np.nan, np.nan, f"{fit.method} profile: {reason}")
    reason = ": no limit found" if np.isnan(lower) or np.isnan(upper) else ""
    return (lower, upper, f"{fit.method} profile{reason}")


def _limit(
    profile: Profile, estimate: float, start: np.ndarray, step: float, end: float, least: float, z: float
) -> float:
    """Where the root of the rise is z: walk until it is passed, then close in; `end` if it never is."""
    from scipy.optimize import brentq

    seen = {float(estimate): (-z, start)}

    def excess(x: float) -> float:
        if x not in seen:
            near, within = (
                min(known, key=lambda other: abs(other - x))
                for known in (seen, [other for other, (over, _) in seen.items() if over <= 0])
            )
            value, phi = profile(x, seen[near][1])
            if near != within and value > least + z**2:  # another start, in case of several minima
                value, phi = min((value, phi), profile(x, seen[within][1]), key=lambda found: found[0])
            if value < least - 1e-4:
                raise _Better
            seen[x] = (float(np.sqrt(max(value - least, 0.0))) - z, phi)
        return seen[x][0]

    inside = float(estimate)
    for k in range(60):
        outside = estimate + step * 1.5**k
        if (step < 0 and outside <= end) or (step > 0 and outside >= end):
            outside = end
        if outside == inside:
            return float(end)
        if excess(outside) > 0:
            break
        inside = outside
    else:
        return float("nan")
    return float(brentq(excess, inside, outside, xtol=1e-7 * abs(step), rtol=1e-9))


# Wald limits -------------------------------------------------------------------------------------------


def _wald_variances(fit: LikelihoodFit, z: float) -> dict[str, Limits]:
    """Limits from the curvature at the optimum, in log sigma, log SDs and arctanh partial correlations."""
    plain = _surface(fit)
    phi, se = plain.phi(fit), _wald_errors(fit, plain)
    edge = f"{fit.method} Wald: none, on the boundary"

    def limits(at: int, value: float, error: float, back) -> Limits:
        if np.isnan(error):
            return (np.nan, np.nan, edge)
        return (float(back(value - z * error)), float(back(value + z * error)), f"{fit.method} Wald")

    out = {"sigma": limits(0, phi[0], se[0], np.exp)}
    for k, level in enumerate(fit.design.levels):
        sd, corr = plain.slices[k]
        for at, name in enumerate(level.sd_labels, start=sd.start):
            with np.errstate(divide="ignore"):
                out[name] = limits(at, np.log(phi[at]), se[at], np.exp)
        for name, _, turned, place in _correlations(fit, k):
            at = corr.start + place
            error = se[at] if turned.orders == plain.orders else _wald_errors(fit, turned)[at]
            out[name] = limits(at, turned.phi(fit)[at], error, partial(level.structure.natural, r=level.r))
    first = plain.coordinates.residual.start
    for k, parameter in enumerate(fit.design.residual.parameters):
        out[parameter.label] = limits(first + k, phi[first + k], se[first + k], parameter.natural)
    return out


def _wald_errors(fit: LikelihoodFit, surface: Surface) -> np.ndarray:
    """Standard errors of log sigma, log SDs, arctanh partial correlations; NaN for those on the boundary."""
    phi = surface.phi(fit)
    free = np.ones(surface.size, dtype=bool)
    first = surface.coordinates.residual.start
    free[first:] = [parameter.label not in fit.boundary for parameter in fit.design.residual.parameters]
    for level, (sd, corr) in zip(fit.design.levels, surface.slices, strict=True):
        zero = [name in fit.boundary for name in level.sd_labels]
        free[sd] = ~np.array(zero, dtype=bool)
        if any(zero) or fit.singular_correlations(level) in fit.boundary:
            free[corr] = False
    entries = np.flatnonzero(free)

    def gradient(x: np.ndarray) -> np.ndarray:
        moved = phi.copy()
        moved[entries] += x
        logs = surface.sd_entries & free
        moved[logs] = phi[logs] * np.exp((moved - phi)[logs])
        slope = surface.value_and_gradient(moved)[1]
        slope[logs] *= moved[logs]
        return slope[entries]

    steps = 1e-4 * np.eye(entries.size)
    H = np.array([(gradient(step) - gradient(-step)) / 2e-4 for step in steps])
    out = np.full(surface.size, np.nan)
    with np.errstate(invalid="ignore"):
        out[entries] = np.sqrt(np.diag(np.linalg.inv((H + H.T) / 4)))
    return out
