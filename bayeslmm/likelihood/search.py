"""The search for the least of the criterion: from several points, polished by Newton's steps, and checked.

The likelihood of a mixed model may have several maxima, flat directions, and its best point on an edge. So the search
begins anew wherever the criterion rises on the way to a minimum already known, ends with a Hessian, and is judged by
what a further step would gain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from bayeslmm.errors import DataError
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.likelihood.criterion import EDGE, HOPELESS, Criterion, units
from bayeslmm.likelihood.precision import rounding
from bayeslmm.support.quasi_newton import Objective, least_point, newton_step, rough_hessian
from bayeslmm.support.threads import one_blas_thread

GAIN = 1e-6  # what may be left to gain at a minimum, in units of the criterion
STARTS = 6  # points of those spread evenly from which a search may be begun
NEAR_EDGE = 5.0  # a coordinate from here on may stand for the end of its range
CHEAP = 600  # random effects and columns of X up to which whole searches are begun from several points


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where the search ended, and what was checked there.

    Attributes
    ----------
    phi : array
        Free entries of the relative factors, on the kernels' basis.
    gradient : float
        Largest absolute derivative over the entries that are not on their bound.
    gain : float
        What a Newton step from here would still gain of the criterion, g' H^-1 g / 2: the Newton decrement.
    curvature : float
        Smallest eigenvalue of the Hessian over these entries (inf where there is none).
    flat : bool
        Whether the criterion does not change in some direction: the data can't tell parameters apart.
    others : tuple of float
        Values of other local minima that were found, the least first.
    rounding : float
        How far rounding may move the criterion there; 0 where variance ratios are ordinary.
    """

    phi: np.ndarray
    value: float
    gradient: float
    curvature: float
    evaluations: int
    converged: bool
    flat: bool = False
    gain: float = 0.0
    others: tuple[float, ...] = ()
    rounding: float = 0.0


class _Counted:
    """The criterion's value and gradient, and how often it was asked for."""

    def __init__(self, criterion: Criterion):
        self.criterion = criterion
        self.calls = 0
        self.last: tuple[np.ndarray, tuple[float, np.ndarray]] | None = None

    def __call__(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        if self.last is None or not np.array_equal(self.last[0], phi):
            self.calls += 1
            self.last = phi.copy(), self.criterion.value_and_gradient(phi)
        return self.last[1]


def hessian(evaluate: Objective, phi: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Second derivatives by the free entries, from differences of the gradient."""
    columns = []
    for k in free:
        step = np.zeros_like(phi)
        step[k] = 1e-4 * max(1.0, abs(phi[k]))
        up, down = (evaluate(phi + s)[1][free] for s in (step, -step))
        columns.append((up - down) / (2 * step[k]))
    H = np.array(columns).reshape(len(free), len(free))
    return (H + H.T) / 2


def estimates(stats: Statistics) -> list[tuple[list[np.ndarray], float, np.ndarray]]:
    """(F_k / sigma per level, sigma, psi) where REML is near its best: a first point for a posterior.

    Where effects are tied to a distant zero, also what the fit with correlated effects makes of them: the posterior may
    have another mode there.

    Raises
    ------
    DataError
        Where the model fits y perfectly, so that no sigma is small enough.
    """
    criterion = Criterion(stats=stats, reml=True)
    with one_blas_thread():
        points = [_best(_Counted(criterion))[0], *(_relaxed_starts(criterion) if criterion.tied else [])]
    out = []
    for k, phi in enumerate(points):
        factor = criterion.factor(phi)
        rss = criterion.value(factor, phi)[1] if criterion.sane(factor) else np.nan
        sigma = stats.scale * float(np.sqrt(rss / criterion.degrees))
        if k == 0 and criterion.perfect(sigma):
            raise DataError(
                f"The model fits {stats.design.hierarchy.response} perfectly: no residual is left, so that the "
                "posterior density grows without end as sigma goes to zero, and has no finite mass. Leave out columns "
                "or levels until rows differ for other reasons than the model's, or give sigma a prior that is bounded "
                "below."
            )
        lam = factor.lam
        parts = zip(stats.design.levels, stats.maps, stats.lambda_slices, strict=True)
        raw = [np.linalg.solve(M, lam[span].reshape(level.r, level.r)) for level, M, span in parts]
        out.append((raw, sigma, criterion.psi(phi)))
    return out


def _best(evaluate: _Counted) -> tuple[np.ndarray, tuple[float, ...]]:
    """(the best point found near a minimum, values of other minima): the search begun from several points.

    The likelihood of a mixed model may have more than one maximum. Begun from one point, a search ends in the one that
    is nearest; how much higher another is, no check made there can tell.
    """
    criterion = evaluate.criterion
    if criterion.diagonal.size == 0:
        return np.zeros(0), ()
    found = [_search(evaluate, criterion.start())]
    starts, spread = _other_starts(criterion, found[0])
    # next to an edge the straight way says little: two searches are worth their time
    trusted = 2 if criterion.at_edge(_snap(criterion, found[0])).any() else 0
    for number, start in enumerate([*spread[:trusted], *starts, *spread[trusted:]]):
        if number < trusted or all(_behind_a_rise(criterion, start, phi) for phi in found):
            found.append(_search(evaluate, start))
    values = np.array([evaluate(phi)[0] + rounding(criterion, phi) for phi in found])
    best = int(np.argmin(values + np.where(np.arange(len(values)) > 0, 1e-6, 0.0)))
    others: list[float] = []
    for k in np.argsort(values):
        if values[k] > (others[-1] if others else values[best]) + 0.05 and _settled(evaluate, found[k]):
            others.append(float(values[k]))
    far = criterion.endless()
    endless = criterion.values(far)
    lowest = int(np.argmin(endless))
    beyond = endless[lowest] < values[best] - 1e-3 and criterion.can_be_perfect
    return far[lowest] if beyond else found[best], tuple(others)


def _settled(evaluate: _Counted, phi: np.ndarray) -> bool:
    """Whether a point is a minimum of its own, not one where a search gave up."""
    free = np.flatnonzero(~evaluate.criterion.at_edge(phi))
    H, gradient = hessian(evaluate, phi, free), evaluate(phi)[1][free]
    return not len(free) or bool(np.linalg.eigvalsh(H)[0] > 0 and newton_gain(H, gradient) < 0.05)


def _other_starts(criterion: Criterion, found: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Points from which the search may end elsewhere than at `found`; the lowest of those spread evenly."""
    axes = _along_axes(criterion, found)
    if criterion.stats.design.q + criterion.stats.design.p > CHEAP and not criterion.tied:
        return axes[:1], []
    spread = criterion.spread_starts()
    values = criterion.values(spread)
    lowest = [spread[k] for k in np.argsort(values)[:STARTS] if values[k] < HOPELESS]
    return [*axes[:2], *_relaxed_starts(criterion)], lowest


def _relaxed_starts(criterion: Criterion) -> list[np.ndarray]:
    """What the fit with correlated effects says of the levels whose effects are independent.

    Two points: its SDs where the columns are zero, and with those of the intercepts taken down to their part
    that slopes do not explain.
    """
    design = criterion.stats.design
    loose = [not level.correlated and level.r > 1 and level.n_sds > 0 for level in design.levels]
    if not any(loose):
        return []
    levels = tuple(
        replace(level, level=replace(level.level, correlated=True, structure="us")) if free else level
        for level, free in zip(design.levels, loose, strict=True)
    )
    relaxed = Criterion(stats=replace(criterion.stats, design=replace(design, levels=levels)), reml=criterion.reml)
    phi = _search(_Counted(relaxed), relaxed.start())
    lam = relaxed.lams(phi[None])[0]
    at_zero, within = criterion.start(), criterion.start()
    for k, (level, M, span) in enumerate(zip(levels, criterion.stats.maps, criterion.stats.lambda_slices, strict=True)):
        r, own = level.r, criterion.places[k]
        if not loose[k]:
            at_zero[own] = within[own] = phi[relaxed.places[k]]
            continue
        better = lam[span].reshape(r, r) / units(criterion.stats)[k]
        raw = np.linalg.solve(M, better)
        sizes = design.levels[k].structure.column_sizes(M)
        at_zero[own] = np.sqrt(np.einsum("ij,ij->i", raw, raw)) * sizes
        within[own] = np.sqrt(np.einsum("ij,ij->i", better, better)) * sizes / np.abs(np.diag(M))
    for out in (at_zero, within):
        out[criterion.n_theta :] = phi[relaxed.n_theta :]
    return [at_zero, within]


def _behind_a_rise(criterion: Criterion, start: np.ndarray, end: np.ndarray) -> bool:
    """Whether the criterion rises anywhere on the straight way from a start to a minimum: else they are one valley."""
    t = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])[:, None]
    return bool((np.diff(criterion.values(start + t * (end - start))) > 1e-6).any())


def _along_axes(criterion: Criterion, found: np.ndarray) -> list[np.ndarray]:
    """Local minima along the axes of single SDs through `found`, elsewhere than there, the lowest first."""
    axes = np.flatnonzero(criterion.diagonal)
    size = 8 + 2 * int(np.log10(criterion.reach.max(initial=1.0)))
    trials = np.tile(found, (axes.size, size, 1))
    for a, k in enumerate(axes):
        trials[a, 0, k], trials[a, 1:, k] = 0.0, np.geomspace(0.03, 40 * criterion.reach[k], size - 1)
    values = criterion.values(np.concatenate([trials.reshape(-1, found.size), found[None]]))
    here, values = values[-1], values[:-1].reshape(axes.size, size)
    out = []
    for a, k in enumerate(axes):
        places, around = trials[a, :, k], np.concatenate([[np.inf], values[a], [np.inf]])
        for i in range(size):
            near = places[max(i - 1, 0)] <= found[k] <= places[min(i + 1, size - 1)]
            if not near and around[i + 1] <= min(around[i], around[i + 2]) and values[a, i] < here + 20:
                out.append((values[a, i], trials[a, i]))
    return [trial for _, trial in sorted(out, key=lambda pair: pair[0])]


def newton_gain(H: np.ndarray, gradient: np.ndarray) -> float:
    """What a Newton step would gain, g' H^-1 g / 2, in the directions that have a curvature to speak of."""
    if not len(H):
        return 0.0
    size = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    values, vectors = np.linalg.eigh(H / np.outer(size, size))
    slopes = vectors.T @ (gradient / size)
    return float(0.5 * (slopes**2 / np.maximum(np.abs(values), 1e-7)).sum())


def _search(evaluate: _Counted, start: np.ndarray) -> np.ndarray:
    """Quasi-Newton search to a point near the minimum; `_polish` does the rest.

    The criterion is even in each column of a factor, so that the search needs no bounds there: a minimum on a bound is
    a smooth one, and columns that end up negative are turned round.
    """
    criterion = evaluate.criterion
    upper = np.where(criterion.coordinate, EDGE, np.inf)
    return criterion.reflect(least_point(evaluate, start, criterion.lower, upper, gtol=1e-2, ftol=1e-6))


def minimise(criterion: Criterion) -> Optimum:
    """Minimise over the free entries; converged means a small gradient and no direction of descent, checked."""
    diagonal = criterion.diagonal
    if diagonal.size == 0:
        value = criterion.value(criterion.factor(np.zeros(0)), np.zeros(0))[0]
        return Optimum(phi=np.zeros(0), value=value, gradient=0.0, curvature=np.inf, evaluations=1, converged=True)
    with one_blas_thread():
        return _minimise(criterion)


def _minimise(criterion: Criterion) -> Optimum:
    evaluate = _Counted(criterion)
    phi, others = _best(evaluate)
    escape = None
    for _ in range(4):
        phi, value, gradient, free, H = _polish(evaluate, _snap(criterion, phi))
        snapped = _snap(criterion, phi)
        if not np.array_equal(snapped, phi):
            phi, value, gradient, free, H = _polish(evaluate, snapped)
        escape = _descent_from_bound(criterion, phi, value)
        # a value of this size has rounding errors of its own
        enough = max(GAIN, 1e-11 * abs(value))
        if escape is None and newton_gain(H, gradient[free]) < enough:
            break
        phi = _search(evaluate, phi if escape is None else escape)
    if _least_curvature(H, scaled=True) < 0.05:  # the Hessian may be that of an earlier point
        H = hessian(evaluate, phi, free)
    curvature, relative = _least_curvature(H), _least_curvature(H, scaled=True)
    # a direction along which parameters may double and the criterion stays what it is
    size = criterion.sizes(phi)[free]
    flat = abs(relative) < 1e-5 or abs(_least_curvature(H * np.outer(size, size))) < 1e-5
    gain = newton_gain(H, gradient[free])
    return Optimum(
        phi=phi, value=value, gradient=float(np.abs(gradient[free]).max(initial=0.0)), curvature=curvature,
        evaluations=evaluate.calls, converged=bool(gain < enough and (curvature > 0 or flat) and escape is None),
        flat=flat, gain=gain, others=tuple(other for other in others if other > value + 0.01),
        rounding=rounding(criterion, phi),
    )  # fmt: skip


def _least_curvature(H: np.ndarray, scaled: bool = False) -> float:
    """Smallest eigenvalue of H, or of H with its diagonal scaled to one; inf where there is none."""
    if not len(H):
        return np.inf
    if scaled:
        size = np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
        H = H / np.outer(size, size)
    return float(np.linalg.eigvalsh(H)[0])


def _snap(criterion: Criterion, phi: np.ndarray) -> np.ndarray:
    """Put what is next to a bound on it where that costs nothing: columns on zero, coordinates on their range's end.

    SDs tied to a distant zero say nearly the same, along an arc too flat for Newton's steps: its ends are tried.
    """
    for i, j in permutations(np.flatnonzero(criterion.diagonal & (criterion.reach > 2)), 2):
        trial = phi.copy()
        trial[i], trial[j] = np.hypot(phi[i], phi[j]), 0.0
        if phi[j] and criterion.at(trial) < criterion.at(phi):
            phi = trial
    for k in np.flatnonzero(criterion.coordinate & (np.abs(phi) > NEAR_EDGE) & (np.abs(phi) < EDGE)):
        trial = phi.copy()
        trial[k] = np.sign(phi[k]) * EDGE
        if criterion.at(trial) <= criterion.at(phi) + 1e-9:
            phi = trial
    for k in np.flatnonzero(criterion.diagonal & (phi > 0) & (phi < 2e-2)):
        trial = phi.copy()
        trial[criterion.beside(k)] = 0.0
        if np.abs(trial - phi).max() < 2e-2 and criterion.at(trial) <= criterion.at(phi) + 1e-9:
            phi = trial
    return phi


def _polish(evaluate: _Counted, phi: np.ndarray):
    """Newton steps on the entries that are not on their bound, with one Hessian as long as it serves."""
    criterion = evaluate.criterion
    value, gradient = evaluate(phi)
    free = np.flatnonzero(~criterion.at_edge(phi))
    H = rough_hessian(evaluate, phi, gradient, free)
    renewed = 0
    for _ in range(60):
        if not len(free) or renewed > 20:
            break
        step = newton_step(H, gradient[free])
        if np.abs(step).max() < 1e-8 * (1 + np.abs(phi).max()):
            break
        for scale in (1.0, 0.3, 0.1, 0.01):
            trial = phi.copy()
            trial[free] += scale * step
            trial = criterion.clip(trial)
            new_value, new_gradient = evaluate(trial)
            if np.isfinite(new_value) and new_value <= value + 1e-9 * (1 + abs(value) * 1e-4):
                break
        else:
            break
        slow = scale < 1 or np.abs(new_gradient[free]).max() > 0.1 * np.abs(gradient[free]).max()
        moved = np.abs(trial - phi).max()
        phi, value, gradient = trial, new_value, new_gradient
        if moved < 1e-7 * (1 + np.abs(phi).max()):
            break
        left = np.flatnonzero(~criterion.at_edge(phi))
        if slow or len(left) < len(free):
            renewed += 1
            free = left
            H = rough_hessian(evaluate, phi, gradient, free)
    return criterion.reflect(phi), value, gradient, free, H


def _descent_from_bound(criterion: Criterion, phi: np.ndarray, value: float) -> np.ndarray | None:
    """A better point next to a column that is zero, or None: the derivatives there are zero by symmetry.

    A correlation that changes nothing while SDs are zero may matter as soon as they are not: it is tried as well.
    """
    idle = np.flatnonzero(criterion.at_edge(phi) & criterion.coordinate & (np.abs(phi) < EDGE))
    for k in np.flatnonzero(criterion.at_edge(phi)[: criterion.n_theta]):
        if criterion.coordinate[k]:
            continue
        for direction in _directions(criterion, phi, criterion.beside(k)):
            for step, z in product((1e-3, 1e-2, 0.1, 1.0), (None, -2.0, 0.0, 2.0) if idle.size else (None,)):
                trial = phi + step * direction
                if z is not None:
                    trial[idle] = z
                if criterion.at(trial) < value - 1e-8:
                    return criterion.reflect(trial)
    return None


def _directions(criterion: Criterion, phi: np.ndarray, entries: np.ndarray) -> list[np.ndarray]:
    """Where a zero column may grow: along its diagonal, and where the criterion is bent down most."""
    unit = np.eye(phi.size)
    if entries.size == 1:
        return [unit[entries[0]]]
    step = 1e-3
    slopes = np.array([criterion.value_and_gradient(phi + step * unit[k])[1][entries] for k in entries]) / step
    vectors = np.linalg.eigh((slopes + slopes.T) / 2)[1]
    return [unit[entries[0]], unit[entries].T @ vectors[:, 0]]
