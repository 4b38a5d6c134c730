"""The profiled deviance of ML and REML, its gradient, and the search for its minimum.

    ML      f(lambda) = log|V0| + n     (log(2 pi rss / n)       + 1),              rss = s - c' P^-1 c
    REML    f(lambda) = log|V0| + (n-p) (log(2 pi rss / (n - p)) + 1) + log|P|

with ``T = [P c; c' s]`` from `factor`, and log|R| added where R isn't the identity. Both are minimised over the entries
of the relative factors, diagonal entries bounded by zero, and R's parameters on the real line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.basis import group_sums
from bayeslmm.descent import descend, newton_step, rough_hessian
from bayeslmm.factor import Factor, factorise_statistics
from bayeslmm.statistics import Statistics
from bayeslmm.threads import one_blas_thread

SINGULAR = 1e-4  # lme4's tolerance for isSingular
EDGE = 12.0  # a residual parameter's coordinate from here on stands for the edge of what it can be
HOPELESS = 1e50  # stands for a criterion that cannot be computed: far from any data


def units(stats: Statistics) -> list[float]:
    """Per level, the SD relative to sigma that stands for one: the units of weights and of known covariances go out."""
    weight = float(np.exp(np.mean(np.log(stats.design.residual.root_weights))))
    spreads = [1.0 if lv.root is None else float(np.linalg.norm(lv.root)) / lv.m**0.5 for lv in stats.design.levels]
    return [1.0 / (weight * spread) for spread in spreads]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """-2 log likelihood (or REML criterion) as a function of phi.

    phi holds the free entries of the relative factors, on the kernels' basis and in `units`, and then R's parameters
    on the real line.
    """

    stats: Statistics
    reml: bool

    @property
    def degrees(self) -> int:
        """N for ML, n - p for REML."""
        return self.stats.design.n - (self.stats.design.p if self.reml else 0)

    @cached_property
    def log_det_RR(self) -> float:
        """log|R'R| of the basis X = Q R: REML's log|P| is that of X, not of Q."""
        return float(2 * np.log(np.abs(np.diag(np.linalg.qr(self.stats.R, mode="r")))).sum())

    @cached_property
    def spread(self) -> np.ndarray:
        """Linear map (n_lambda, n_theta) from the free entries to the kernels' lambda vector."""
        columns = []
        parts = zip(self.stats.design.levels, self.stats.maps, self.stats.lambda_slices, units(self.stats), strict=True)
        for level, M, span, unit in parts:
            for j in range(0 if level.known else level.r):
                for i in range(j, level.r) if level.correlated else [j]:
                    entry = np.zeros((level.r, level.r))
                    if level.correlated:
                        entry[i, j] = 1.0
                    else:
                        entry[:, j] = M[:, j] / M[j, j]
                    column = np.zeros(self.stats.structure.n_lambda)
                    column[span] = unit * entry.ravel()
                    columns.append(column)
        return np.array(columns).T.reshape(self.stats.structure.n_lambda, len(columns))

    @cached_property
    def offset(self) -> np.ndarray:
        """The kernels' lambda vector of the levels that have nothing free: their covariance is sigma^2 K."""
        out = np.zeros(self.stats.structure.n_lambda)
        for level, M, span in zip(self.stats.design.levels, self.stats.maps, self.stats.lambda_slices, strict=True):
            if level.known:
                out[span] = M.ravel()
        return out

    @property
    def n_theta(self) -> int:
        """Number of free entries of the relative factors."""
        return self.spread.shape[1]

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Which entries of phi are diagonal ones of a factor, and so bounded by zero."""
        out = []
        for level in self.stats.design.levels:
            for j in range(0 if level.known else level.r):
                out += [i == j for i in range(j, level.r)] if level.correlated else [True]
        return np.array(out + [False] * len(self.stats.design.residual.parameters), dtype=bool)

    @cached_property
    def column(self) -> np.ndarray:
        """Which column of a relative factor each of its free entries stands in, counted over all levels."""
        return np.cumsum(self.diagonal[: self.n_theta]) - 1

    def alone(self, phi: np.ndarray) -> np.ndarray:
        """Which entries are diagonal ones with nothing else in their column.

        Only there is zero a bound: a column may change its sign as a whole, so that a diagonal entry below which
        something stands passes through zero like any other number.
        """
        diagonal = self.diagonal[: self.n_theta]
        below = np.bincount(self.column, weights=~diagonal & (phi[: self.n_theta] != 0), minlength=1)
        out = self.diagonal.copy()
        out[: self.n_theta] &= below[self.column] == 0
        return out

    def at_edge(self, phi: np.ndarray) -> np.ndarray:
        """Which entries lie on a bound: diagonal ones on zero, residual parameters at the end of their range."""
        out = self.alone(phi) & (phi <= 0)
        out[self.n_theta :] = np.abs(phi[self.n_theta :]) >= EDGE
        return out

    def reflect(self, phi: np.ndarray) -> np.ndarray:
        """The same factors with no negative entry on the diagonal."""
        out = phi.copy()
        theta = out[: self.n_theta]
        theta *= np.where(theta[self.diagonal[: self.n_theta]] < 0, -1.0, 1.0)[self.column]
        return out

    def clip(self, phi: np.ndarray) -> np.ndarray:
        """Put entries beyond their bounds on them."""
        out = np.where(self.alone(phi), np.maximum(phi, 0.0), phi)
        out[self.n_theta :] = np.clip(phi[self.n_theta :], -EDGE, EDGE)
        return out

    def sizes(self, phi: np.ndarray) -> np.ndarray:
        """How large each entry is, or its neighbours in the same factor: at least 0.1."""
        out = np.full(phi.size, 0.1)
        at = 0
        for level in self.stats.design.levels:
            count = 0 if level.known else level.r * (level.r + 1) // 2 if level.correlated else level.r
            out[at : at + count] = np.abs(phi[at : at + count]).max(initial=0.1)
            at += count
        out[self.n_theta :] = 1.0
        return out

    def start(self) -> np.ndarray:
        """First point: the best of a few correlations and ratios beside `_start_theta`."""
        residual, theta = self.stats.design.residual, self._start_theta()
        if residual.fixed:
            return theta
        tried = [np.concatenate([theta, residual.free(residual.neutral)])]
        if residual.has_rho:
            lower = residual.parameters[0].lower
            for rho in (0.4, 0.8, 0.95, 0.5 * lower):
                psi = residual.neutral
                psi[0] = rho
                tried += [np.concatenate([scale * theta, residual.free(psi)]) for scale in (1.0, 0.3)]
        return min(tried, key=self.at)

    def at(self, phi: np.ndarray) -> float:
        """The criterion at phi; HOPELESS where it can't be computed."""
        factor = self.factor(phi)
        sane = np.isfinite(factor.logdet) and np.isfinite(factor.T).all()
        value = self.value(factor, phi)[0] if sane else HOPELESS
        return value if np.isfinite(value) else HOPELESS

    def _start_theta(self) -> np.ndarray:
        """Per effect, what the analysis of variance of the least-squares residual suggests."""
        out: list[float] = []
        at = 0
        for level, better in zip(self.stats.design.levels, self.stats.better, strict=True):
            if level.root is not None or not self.stats.design.residual.plain:
                at += level.q
                for j in range(0 if level.known else level.r):
                    out += [0.5 if i == j else 0.0 for i in range(j, level.r)] if level.correlated else [0.5]
                continue
            sums = self.stats.ZtW[at : at + level.q, -1].reshape(level.m, level.r)
            at += level.q
            size = group_sums(level.index, level.m, better**2)
            squares = np.divide(sums**2, size, out=np.zeros_like(sums), where=size > 0).sum(axis=0)
            within = np.maximum(self.stats.WtW[-1, -1] - squares, 1e-3) / max(self.stats.design.n - level.m, 1)
            ratio = np.sqrt(np.clip((squares / level.m / within - 1) / (size.sum(axis=0) / level.m), 0.01, 100.0))
            for j in range(level.r):
                out += [ratio[j] if i == j else 0.0 for i in range(j, level.r)] if level.correlated else [ratio[j]]
        return np.array(out)

    def psi(self, phi: np.ndarray) -> np.ndarray:
        """R's parameters."""
        return self.stats.design.residual.natural(phi[self.n_theta :])

    def factor(self, phi: np.ndarray) -> Factor:
        """Factorise at phi."""
        lam = self.offset + self.spread @ phi[: self.n_theta]
        return factorise_statistics(self.stats.at(self.psi(phi)), lam)

    def value(self, factor: Factor, phi: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """(criterion, rss, coefficients of Q, P^-1), all on the scale of y_."""
        p, d = self.stats.design.p, self.degrees
        P, c, s = factor.T[:p, :p], factor.T[:p, p], factor.T[p, p]
        Pinv = np.linalg.inv(P) if p else P
        coefficients = Pinv @ c
        rss = float(s - c @ coefficients)
        value = factor.logdet + self.stats.design.residual.log_det(self.psi(phi))
        value += d * (np.log(2 * np.pi * rss / d) + 1 + 2 * np.log(self.stats.scale))
        if self.reml:
            value += np.linalg.slogdet(P)[1] + self.log_det_RR
        return float(value), rss, coefficients, Pinv

    def value_and_gradient(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        """Criterion and its gradient with respect to the free entries."""
        factor = self.factor(phi)
        if not (np.isfinite(factor.logdet) and np.isfinite(factor.T).all()):
            return HOPELESS, np.zeros_like(phi)
        value, rss, coefficients, Pinv = self.value(factor, phi)
        p = self.stats.design.p
        v = np.append(-coefficients, 1.0)
        Tbar = (self.degrees / rss) * np.outer(v, v)
        if self.reml:
            Tbar[:p, :p] += Pinv
        if self.stats.products is None:
            return value, self.spread.T @ factor.adjoint(1.0, Tbar).gradient
        z = phi[self.n_theta :]
        bar = factor.product_adjoint(1.0, Tbar)
        residual = self.stats.design.residual
        c, logdet = residual.derivatives(residual.natural(z))
        slopes = (c @ self.stats.products.inner(bar) + logdet) * residual.slope(z)
        return value, np.concatenate([self.spread.T @ bar.adjoint.gradient, slopes])


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
    flat : bool
        Whether the criterion does not change in some direction: the data can't tell parameters apart.
    """

    phi: np.ndarray
    value: float
    gradient: float
    curvature: float
    evaluations: int
    converged: bool
    flat: bool = False


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
    """Quasi-Newton search to a point near the minimum; `_polish` does the rest.

    The criterion is even in each column of a factor, so that the search needs no bounds there: a minimum on a bound is
    a smooth one, and columns that end up negative are turned round.
    """
    criterion = evaluate.criterion
    upper = np.full(start.size, np.inf)
    upper[criterion.n_theta :] = EDGE
    return criterion.reflect(descend(evaluate, start, -upper, upper, gtol=1e-2, ftol=1e-6))


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
    phi = _search(evaluate, criterion.start())
    escape = None
    for _ in range(4):
        phi, value, gradient, free, H = _polish(evaluate, _snap(criterion, phi))
        snapped = _snap(criterion, phi)
        if not np.array_equal(snapped, phi):
            phi, value, gradient, free, H = _polish(evaluate, snapped)
        escape = _descent_from_bound(criterion, phi, value)
        # The gradient of a sum of n terms cannot be known better than its rounding errors.
        tolerance = 1e-5 * max(1.0, abs(value) * 1e-3)
        steep = float(np.abs(gradient[free]).max()) if len(free) else 0.0
        if escape is None and steep < tolerance:
            break
        phi = _search(evaluate, phi if escape is None else escape)
    if _least_curvature(H, scaled=True) < 0.05:  # the Hessian may be that of an earlier point
        H = _hessian(evaluate, phi, free)
    curvature, relative = _least_curvature(H), _least_curvature(H, scaled=True)
    # a direction along which parameters may double and the criterion stays what it is
    size = criterion.sizes(phi)[free]
    flat = abs(relative) < 1e-5 or abs(_least_curvature(H * np.outer(size, size))) < 1e-5
    return Optimum(
        phi=phi, value=value, gradient=steep, curvature=curvature, evaluations=evaluate.calls,
        converged=bool(steep < tolerance and (curvature > 0 or flat) and escape is None), flat=flat,
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
    """Put columns of a factor that hardly differ from zero on zero, where that costs nothing."""
    for k in np.flatnonzero(criterion.diagonal & (phi > 0) & (phi < 2e-2)):
        trial = phi.copy()
        trial[: criterion.n_theta][criterion.column == criterion.column[k]] = 0.0
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
    """A better point next to a column that is zero, or None: the derivatives there are zero by symmetry."""
    for k in np.flatnonzero(criterion.at_edge(phi)[: criterion.n_theta]):
        for direction in _directions(criterion, phi, np.flatnonzero(criterion.column == criterion.column[k])):
            for step in (1e-3, 1e-2, 0.1, 1.0):
                trial = phi + step * direction
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
