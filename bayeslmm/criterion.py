"""The profiled deviance of ML and REML, its gradient, and the search for its minimum.

    ML      f(lambda) = log|V0| + n     (log(2 pi rss / n)       + 1),              rss = s - c' P^-1 c
    REML    f(lambda) = log|V0| + (n-p) (log(2 pi rss / (n - p)) + 1) + log|P|

with ``T = [P c; c' s]`` from `factor`. Both are minimised over the entries of the relative factors, diagonal
entries bounded by zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.basis import group_sums
from bayeslmm.factor import Factor, factorise_statistics
from bayeslmm.statistics import Statistics
from bayeslmm.threads import one_blas_thread

SINGULAR = 1e-4  # lme4's tolerance for isSingular
HOPELESS = 1e50  # stands for a criterion that cannot be computed: far from any data


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """-2 log likelihood (or REML criterion) as a function of the free entries of the relative factors."""

    stats: Statistics
    reml: bool

    @property
    def degrees(self) -> int:
        """N for ML, n - p for REML."""
        return self.stats.design.n - (self.stats.design.p if self.reml else 0)

    @cached_property
    def spread(self) -> np.ndarray:
        """Linear map (n_lambda, n_theta) from the free entries to the kernels' lambda vector."""
        columns = []
        for level, M, span in zip(self.stats.design.levels, self.stats.maps, self.stats.lambda_slices, strict=True):
            for j in range(level.r):
                for i in range(j, level.r) if level.correlated else [j]:
                    entry = np.zeros((level.r, level.r))
                    if level.correlated:
                        entry[i, j] = 1.0
                    else:
                        entry[:, j] = M[:, j] / M[j, j]
                    column = np.zeros(self.stats.structure.n_lambda)
                    column[span] = entry.ravel()
                    columns.append(column)
        return np.array(columns).T.reshape(self.stats.structure.n_lambda, len(columns))

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Which free entries are diagonal, and so bounded by zero."""
        out = []
        for level in self.stats.design.levels:
            for j in range(level.r):
                out += [i == j for i in range(j, level.r)] if level.correlated else [True]
        return np.array(out, dtype=bool)

    def start(self) -> np.ndarray:
        """First point: per effect, what the analysis of variance of the least-squares residual suggests."""
        out, at = [], 0
        for level, better in zip(self.stats.design.levels, self.stats.better, strict=True):
            sums = self.stats.ZtW[at : at + level.q, -1].reshape(level.m, level.r)
            at += level.q
            size = group_sums(level.index, level.m, better**2)
            between = np.divide(sums**2, size, out=np.zeros_like(sums), where=size > 0).sum(axis=0) / level.m
            ratio = np.sqrt(np.clip((between - 1) / (size.sum(axis=0) / level.m), 0.01, 4.0))
            for j in range(level.r):
                out += [ratio[j] if i == j else 0.0 for i in range(j, level.r)] if level.correlated else [ratio[j]]
        return np.array(out)

    def factor(self, phi: np.ndarray) -> Factor:
        """Factorise at the free entries phi."""
        return factorise_statistics(self.stats, self.spread @ phi)

    def value(self, factor: Factor) -> tuple[float, float, np.ndarray, np.ndarray]:
        """(criterion, rss, coefficients of Q, P^-1), all on the scale of y_."""
        p, d = self.stats.design.p, self.degrees
        P, c, s = factor.T[:p, :p], factor.T[:p, p], factor.T[p, p]
        Pinv = np.linalg.inv(P) if p else P
        coefficients = Pinv @ c
        rss = float(s - c @ coefficients)
        value = factor.logdet + d * (np.log(2 * np.pi * rss / d) + 1 + 2 * np.log(self.stats.scale))
        if self.reml:
            value += np.linalg.slogdet(P)[1] + 2 * np.log(np.abs(np.diag(np.linalg.qr(self.stats.R, mode="r")))).sum()
        return float(value), rss, coefficients, Pinv

    def value_and_gradient(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        """Criterion and its gradient with respect to the free entries."""
        factor = self.factor(phi)
        if not (np.isfinite(factor.logdet) and np.isfinite(factor.T).all()):
            return HOPELESS, np.zeros_like(phi)
        value, rss, coefficients, Pinv = self.value(factor)
        p = self.stats.design.p
        v = np.append(-coefficients, 1.0)
        Tbar = (self.degrees / rss) * np.outer(v, v)
        if self.reml:
            Tbar[:p, :p] += Pinv
        return value, self.spread.T @ factor.adjoint(1.0, Tbar).gradient


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where the search ended, and what was checked there.

    Attributes
    ----------
    phi : array
        Free entries of the relative factors, on the kernels' basis.
    gradient : float
        Largest absolute derivative over the entries that are not on their bound.
    curvature : float
        Smallest eigenvalue of the Hessian over these entries (inf where there is none).
    """

    phi: np.ndarray
    value: float
    gradient: float
    curvature: float
    evaluations: int
    converged: bool


class _Counted:
    """The criterion's value and gradient, and how often it was asked for."""

    def __init__(self, criterion: Criterion):
        self.criterion = criterion
        self.calls = 0

    def __call__(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        self.calls += 1
        return self.criterion.value_and_gradient(phi)


def _hessian(evaluate: _Counted, phi: np.ndarray, free: np.ndarray) -> np.ndarray:
    columns = []
    for k in free:
        step = np.zeros_like(phi)
        step[k] = 1e-4 * max(1.0, abs(phi[k]))
        up, down = (evaluate(phi + s)[1][free] for s in (step, -step))
        columns.append((up - down) / (2 * step[k]))
    H = np.array(columns).reshape(len(free), len(free))
    return (H + H.T) / 2


def _search(evaluate: _Counted, start: np.ndarray) -> np.ndarray:
    """Quasi-Newton search to a point near the minimum; `_polish` does the rest."""
    from scipy.optimize import minimize

    bounds = [(0.0, None) if d else (None, None) for d in evaluate.criterion.diagonal]
    found = minimize(
        evaluate, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": 500, "ftol": 1e-10, "gtol": 1e-3, "maxcor": 20},
    )  # fmt: skip
    return np.asarray(found.x)


def minimise(criterion: Criterion) -> Optimum:
    """Minimise over the free entries; converged means a small gradient and no direction of descent, checked."""
    diagonal = criterion.diagonal
    if diagonal.size == 0:
        value = criterion.value(criterion.factor(np.zeros(0)))[0]
        return Optimum(phi=np.zeros(0), value=value, gradient=0.0, curvature=np.inf, evaluations=1, converged=True)
    with one_blas_thread():
        return _minimise(criterion)


def _minimise(criterion: Criterion) -> Optimum:
    evaluate = _Counted(criterion)
    phi = _search(evaluate, criterion.start())
    escape = None
    for _ in range(4):
        phi = _snap(criterion, phi)
        phi, value, gradient, free, H = _polish(evaluate, phi)
        escape = _descent_from_bound(criterion, phi, value)
        if escape is None:
            break
        phi = _search(evaluate, escape)
    curvature = float(np.linalg.eigvalsh(H)[0]) if len(free) else np.inf
    steep = float(np.abs(gradient[free]).max()) if len(free) else 0.0
    # The gradient of a sum of n terms cannot be known better than its rounding errors.
    tolerance = 1e-5 * max(1.0, abs(value) * 1e-3)
    return Optimum(
        phi=phi, value=value, gradient=steep, curvature=curvature, evaluations=evaluate.calls,
        converged=bool(steep < tolerance and curvature > 0 and escape is None),
    )  # fmt: skip


def _snap(criterion: Criterion, phi: np.ndarray) -> np.ndarray:
    """Put diagonal entries that hardly differ from zero on zero, where that costs nothing."""
    for k in np.flatnonzero(criterion.diagonal & (phi < 2e-2)):
        if phi[k] > 0:
            trial = phi.copy()
            trial[k] = 0.0
            if criterion.value(criterion.factor(trial))[0] <= criterion.value(criterion.factor(phi))[0] + 1e-9:
                phi = trial
    return phi


def _polish(evaluate: _Counted, phi: np.ndarray):
    """Newton steps on the entries that are not on their bound, with one Hessian as long as it serves."""
    diagonal = evaluate.criterion.diagonal
    value, gradient = evaluate(phi)
    free = np.flatnonzero(~diagonal | (phi > 0))
    H = _hessian(evaluate, phi, free)
    renewed = 0
    for _ in range(30):
        if not len(free) or renewed > 8:
            break
        step = _newton_step(H, gradient[free])
        if np.abs(step).max() < 1e-9 * (1 + np.abs(phi).max()):
            break
        for scale in (1.0, 0.3, 0.1, 0.01):
            trial = phi.copy()
            trial[free] += scale * step
            trial[diagonal] = np.maximum(trial[diagonal], 0.0)
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
        left = np.flatnonzero(~diagonal | (phi > 0))
        if slow or len(left) < len(free):
            renewed += 1
            free = left
            H = _hessian(evaluate, phi, free)
    return phi, value, gradient, free, H


def _newton_step(H: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """-H^-1 gradient, with the eigenvalues of H made positive."""
    eigenvalues, vectors = np.linalg.eigh(H)
    sizes = np.maximum(np.abs(eigenvalues), 1e-8 * np.abs(eigenvalues).max() + 1e-12)
    return -vectors @ ((vectors.T @ gradient) / sizes)


def _descent_from_bound(criterion: Criterion, phi: np.ndarray, value: float) -> np.ndarray | None:
    """A better point next to an entry that sits on its bound, or None: the derivative there is zero by symmetry."""
    for k in np.flatnonzero(criterion.diagonal & (phi == 0)):
        for step in (1e-3, 1e-2, 0.1, 1.0):
            trial = phi.copy()
            trial[k] = step
            if criterion.value(criterion.factor(trial))[0] < value - 1e-8:
                return trial
    return None
