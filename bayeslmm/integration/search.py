"""The maximum of an approximated likelihood: where to begin, a quasi-Newton search, Newton's last steps, a check."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.integration.laplace import laplace
from bayeslmm.integration.objective import EDGE, HOPELESS, Approximation, Objective, Problem
from bayeslmm.support.quasi_newton import least_point, newton_step
from bayeslmm.support.threads import one_blas_thread

STARTS = (0.7, 2.5, 0.15)  # SDs from which a search is begun, in units of the link's scale
ZERO = 1e-4  # an SD below this, in the same units, is zero
SETTLED = 0.05  # derivatives at the end of a search that has arrived, not given up
GAIN = 1e-7  # what may be left to gain at a maximum


@dataclass(frozen=True, kw_only=True, eq=False)
class Peak:
    """Where a search ended.

    Attributes
    ----------
    x : array
        As in `Problem`.
    value : float
        The log-likelihood.
    hessian : (k, k) array
        Of minus the log-likelihood by the `free` entries of x.
    free : array of int
        Entries that aren't on their bound.
    gain : float
        What a Newton step from here would still gain.
    converged : bool
    others : tuple of float
        How much lower other maxima are that were found.
    """

    x: np.ndarray
    value: float
    hessian: np.ndarray
    free: np.ndarray
    gain: float
    converged: bool
    evaluations: int
    others: tuple[float, ...] = ()


def first_coefficients(problem: Problem) -> np.ndarray:
    """Coefficients and dispersion without any effects: Newton's method, each step halved until it gains."""
    rows, family, outcome = problem.rows, problem.family, problem.outcome
    psi = family.dispersion_start(outcome)
    center = family.center(outcome)[0]
    n = rows.design.n
    gamma = rows.X.T @ (center - rows.offset) / n
    value = family.logpdf(outcome, rows.offset + rows.X @ gamma, psi).sum()
    for _ in range(30):
        jet = family.jet(outcome, rows.offset + rows.X @ gamma, psi)
        weights = np.maximum(-jet.second, 1e-10 * np.abs(jet.second).max())
        H = (rows.X * weights[:, None]).T @ rows.X
        step = -newton_step(H, rows.X.T @ jet.first) if len(H) else gamma
        share = 1.0
        while share > 1e-6:
            trial = gamma + share * step
            with np.errstate(over="ignore", invalid="ignore"):
                new = family.logpdf(outcome, rows.offset + rows.X @ trial, psi).sum()
            if new >= value - 1e-10 * abs(value):
                break
            share /= 2
        done = share <= 1e-6 or new - value < 1e-6
        if share > 1e-6:
            gamma, value = trial, new
        if done or np.abs(rows.X @ gamma).max(initial=0) > 30 * problem.unit + abs(center):
            break
    return np.concatenate([gamma / problem.unit, np.zeros(problem.entries.stop - problem.entries.start), psi])


def starts(problem: Problem, objective: Objective) -> list[tuple[float, np.ndarray]]:
    """(value, point) to begin at, the best first."""
    base = first_coefficients(problem)
    if problem.entries.stop == problem.entries.start:
        return [(objective(base)[0], base)]
    points = []
    for size in STARTS:
        x = base.copy()
        x[problem.sds] = size
        points.append(x)
    values = [objective(x)[0] for x in points]
    found = [(values[k], points[k]) for k in np.argsort(values) if values[k] < HOPELESS]
    return found or [(values[0], base)]


def maximise(
    problem: Problem,
    approximation: Approximation = laplace,
    near: Peak | None = None,
    bending: Approximation | None = None,
) -> Peak:
    """Find the maximum, from several points unless another approximation's is known.

    Parameters
    ----------
    near : Peak, optional
        Of another approximation: where to begin.
    bending : callable, optional
        A cheaper approximation, good enough for second derivatives.
    """
    with one_blas_thread():
        return _maximise(problem, approximation, near, bending or approximation)


def climb(problem: Problem, approximation: Approximation, near: Peak) -> Peak:
    """Go from another approximation's maximum to about where this one has its own, without the last steps."""
    objective = Objective(problem, approximation)
    with one_blas_thread():
        x = least_point(objective, near.x, *problem.bounds, gtol=1e-2, ftol=1e-7, hessian=whole_hessian(problem, near))
        return replace(near, x=x, value=-objective(x)[0])


def whole_hessian(problem: Problem, peak: Peak) -> np.ndarray:
    """A peak's Hessian by all of x: one for entries that were held."""
    H = np.eye(problem.size)
    H[np.ix_(peak.free, peak.free)] = peak.hessian
    return H


def _maximise(problem: Problem, approximation: Approximation, near: Peak | None, bending: Approximation) -> Peak:
    objective = Objective(problem, approximation)
    begin = starts(problem, objective) if near is None else [(objective(near.x)[0], near.x)]
    known = None if near is None else whole_hessian(problem, near)
    lower, upper = problem.bounds
    found: list[tuple[float, np.ndarray]] = []
    for height, x in begin:
        if found and not _rises(objective, (height, x), found[0]):
            continue
        end = least_point(
            objective, x, lower, upper, gtol=1e-3, ftol=1e-9, hessian=known, reach=lambda x: reach(problem, x)
        )
        found.append((objective(end)[0], end))
    best = min(range(len(found)), key=lambda k: found[k][0])
    value, x = found[best]
    others = tuple(
        float(v - value)
        for k, (v, end) in enumerate(found)
        if k != best and value + 1e-3 < v < HOPELESS and np.abs(objective(end)[1]).max() < SETTLED
    )
    bent = objective if bending is approximation else Objective(problem, bending)
    peak = _polish(objective, bent, _turned(problem, x))
    return replace(peak, others=others, evaluations=objective.calls)


def reach(problem: Problem, x: np.ndarray) -> np.ndarray:
    """How far a step may go: an SD far from zero no further than about halfway there, past which steps are steep."""
    return np.where(problem.sds, 0.6 * np.abs(x) + 0.1, np.inf)


def _rises(objective: Objective, start: tuple[float, np.ndarray], end: tuple[float, np.ndarray]) -> bool:
    """Whether the objective rises anywhere on the straight way from a start to a minimum: else they are one valley."""
    (first, a), (last, b) = start, end
    values = [first, *(objective(a + t * (b - a))[0] for t in (0.3, 0.6, 0.9)), last]
    return bool((np.diff(values) > 1e-6).any())


def _turned(problem: Problem, x: np.ndarray) -> np.ndarray:
    """The same factors with positive diagonals, and SDs next to zero on it where their column has nothing else."""
    x = x.copy()
    for chart, at in zip(problem.charts, problem.places, strict=True):
        own = x[at]
        for j in np.flatnonzero(chart.sds):
            column = (chart.columns == chart.columns[j]) & ~chart.coordinates
            if own[j] < 0 and chart.even:
                own[column] *= -1
    return x


def held(problem: Problem, x: np.ndarray) -> np.ndarray:
    """Which entries can't move: columns of factors that are zero, correlations of nothing or at their end."""
    out = np.zeros(problem.size, dtype=bool)
    for chart, at in zip(problem.charts, problem.places, strict=True):
        own, fixed = x[at], np.zeros(chart.size, dtype=bool)
        for j in np.flatnonzero(chart.sds):
            column = (chart.columns == chart.columns[j]) & ~chart.coordinates
            if np.abs(own[column]).max() < ZERO:
                fixed |= column
        fixed |= chart.idle(np.where(fixed, 0.0, own)) | (chart.coordinates & (np.abs(own) >= EDGE - 1e-6))
        out[at] = fixed
    lower, upper = problem.bounds
    last = problem.entries.stop
    out[last:] = (x[last:] <= lower[last:] + 1e-6) | (x[last:] >= upper[last:] - 1e-6)
    return out


def difference_hessian(objective: Objective, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Second derivatives by the free entries, from central differences of the gradient."""
    columns = []
    for k in free:
        step = np.zeros_like(x)
        step[k] = 1e-4 * max(1.0, abs(x[k]))
        up, down = (objective(x + one)[1][free] for one in (step, -step))
        columns.append((up - down) / (2 * step[k]))
    H = np.array(columns).reshape(len(free), len(free))
    return (H + H.T) / 2


def _polish(objective: Objective, bent: Objective, x: np.ndarray) -> Peak:
    """Newton's steps on what is free, with a Hessian, that of `bent`, that is renewed while it matters."""
    problem = objective.problem
    lower, upper = problem.bounds
    zero = held(problem, x)
    snapped = np.where(zero & (np.abs(x) < ZERO), 0.0, x)
    value = objective(x)[0]
    if objective(snapped)[0] <= value + 1e-8:
        x, value = snapped, objective(snapped)[0]
    free = np.flatnonzero(~held(problem, x))
    H, gain = np.zeros((0, 0)), 0.0
    for _ in range(6):
        gradient = objective(x)[1]
        if not free.size:
            break
        H = difference_hessian(bent, x, free)
        step = newton_step(H, gradient[free])
        gain = float(-0.5 * step @ gradient[free])
        if gain < 1e-3 * GAIN:
            break
        moved = False
        for share in (1.0, 0.3, 0.1, 0.01):
            trial = x.copy()
            trial[free] = np.clip(x[free] + share * step, lower[free], upper[free])
            new = objective(trial)[0]
            if new < value:
                x, value, moved = trial, new, True
                break
        if not moved:
            break
        if gain < 1e-2:  # quadratic from here on: what is left is of the order of its square
            gain = _decrement(H, objective(x)[1][free])
            if gain < 1e-2 * GAIN:
                break
    smallest = float(np.linalg.eigvalsh(H)[0]) if H.size else np.inf
    converged = value < HOPELESS and gain < max(GAIN, 1e-11 * abs(value)) and smallest > 0
    return Peak(
        x=x, value=-value, hessian=H, free=free, gain=gain, converged=bool(converged), evaluations=objective.calls
    )


def _decrement(H: np.ndarray, gradient: np.ndarray) -> float:
    return float(-0.5 * newton_step(H, gradient) @ gradient)
