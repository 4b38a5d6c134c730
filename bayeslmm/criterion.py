"""The profiled deviance of ML and REML, its gradient, and the search for its minimum.

    ML      f(lambda) = log|V0| + n     (log(2 pi rss / n)       + 1),              rss = s - c' P^-1 c
    REML    f(lambda) = log|V0| + (n-p) (log(2 pi rss / (n - p)) + 1) + log|P|

with ``T = [P c; c' s]`` from `factor`, and log|R| added where R isn't the identity. Both are minimised over the entries
of the relative factors, diagonal entries bounded by zero, and R's parameters on the real line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.basis import group_sums
from bayeslmm.descent import descend, newton_step, rough_hessian
from bayeslmm.errors import DataError
from bayeslmm.factor import Factor, evaluate_many, factorise_statistics
from bayeslmm.statistics import Statistics
from bayeslmm.threads import one_blas_thread

SINGULAR = 1e-4  # lme4's tolerance for isSingular
EDGE = 12.0  # a residual parameter's coordinate from here on stands for the edge of what it can be
PERFECT = 1e-6  # sigma over the least-squares residual's size, below which there is no residual left
ENDLESS = 1e7  # a relative SD at which a likelihood that is still rising has no maximum
GAIN = 1e-6  # what may be left to gain at a minimum, in units of the criterion
STARTS = 6  # points of those spread evenly from which a search may be begun
CHEAP = 600  # random effects up to which whole searches are begun from several points
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
        if not self.sane(factor):
            return HOPELESS
        value = self.value(factor, phi)[0]
        return value if np.isfinite(value) else HOPELESS

    def values(self, phis: np.ndarray) -> np.ndarray:
        """The criterion at several points (B, k): what `at` gives for each, at a fraction of its time."""
        design, p, d = self.stats.design, self.stats.design.p, self.degrees
        residual, psi = design.residual, design.residual.natural(phis[:, self.n_theta :])
        coefs = None if residual.fixed else residual.coefficients_at(psi)
        with np.errstate(all="ignore"):
            logdet, T = evaluate_many(self.stats, self.offset + phis[:, : self.n_theta] @ self.spread.T, coefs)
            size = np.sqrt(np.einsum("bii->bi", T[:, :p, :p]))
            scaled = T[:, :p, :p] / size[:, :, None] / size[:, None, :]
            sane = np.isfinite(logdet) & np.isfinite(T).all(axis=(1, 2)) & np.isfinite(scaled).all(axis=(1, 2))
            scaled = np.where(sane[:, None, None], scaled, np.eye(p))
            sane &= np.linalg.eigvalsh(scaled)[:, :1].min(axis=1, initial=1.0) > 1e-14
            scaled = np.where(sane[:, None, None], scaled, np.eye(p))
            c = np.where(sane[:, None], T[:, :p, p] / size, 0.0)
            s = T[:, p, p]
            rss = s - np.einsum("bi,bi->b", c, np.linalg.solve(scaled, c[..., None])[..., 0])
            rss = np.maximum(np.maximum(rss, np.finfo(float).eps * np.abs(s)), 1e-300)
            value = logdet + residual.log_det(np.moveaxis(psi, -1, 0))
            value = value + d * (np.log(2 * np.pi * rss / d) + 1 + 2 * np.log(self.stats.scale))
            if self.reml:
                value = value + np.linalg.slogdet(scaled)[1] + 2 * np.log(size).sum(axis=1) + self.log_det_RR
        return np.where(sane & np.isfinite(value), value, HOPELESS)

    def sane(self, factor: Factor) -> bool:
        """Whether the criterion can be computed from a factor: it has not overflowed, and P can be inverted."""
        if not (np.isfinite(factor.logdet) and np.isfinite(factor.T).all()):
            return False
        p = self.stats.design.p
        size = np.diag(factor.T)[:p]
        if not (size > 0).all():
            return False
        scaled = factor.T[:p, :p] / np.sqrt(np.outer(size, size))
        return bool(p == 0 or np.linalg.eigvalsh(scaled)[0] > 1e-14)

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

    @cached_property
    def reach(self) -> np.ndarray:
        """How large a relative SD may be for reasons of units: 1, and more where it is tied to a distant zero.

        A level whose slopes are independent of its intercept has to explain at x = 0, by the intercept's SD, what the
        slopes make of the distance.
        """
        levels, out = self.stats.design.levels, []
        for level in levels:
            for j in range(0 if level.known else level.r):
                far = 1.0
                if not level.correlated and np.ptp(level.columns[:, j]) == 0:
                    others = [lv.columns for lv in levels if lv.label == level.label and not lv.correlated]
                    for x in np.concatenate(others, axis=1).T:
                        far += abs(float(x.mean())) / float(x.std()) if np.ptp(x) > 0 else 0.0
                out += [far] * (level.r - j) if level.correlated else [far]
        return np.array(out + [1.0] * len(self.stats.design.residual.parameters))

    @property
    def tied(self) -> bool:
        """Whether some level's independent effects are tied to a zero that is far from its rows."""
        return bool((self.reach > 2).any())

    def perfect(self, sigma: float) -> bool:
        """Whether no residual is left at this sigma: none beside y, or none beside what least squares leaves."""
        y = self.stats.design.net_y
        sigma *= float(np.exp(-np.mean(np.log(self.stats.design.residual.root_weights))))  # of a row of usual weight
        return bool(sigma < PERFECT * self.stats.scale or self.stats.scale < 1e-12 * np.abs(y).max(initial=0.0))

    def endless(self) -> np.ndarray:
        """Points far out, for each level and for all: lower there than anywhere, and no residual is needed at all."""
        out = []
        at = 0
        whole = np.zeros(self.diagonal.size)
        for level in self.stats.design.levels:
            count = 0 if level.known else level.r * (level.r + 1) // 2 if level.correlated else level.r
            own = np.arange(at, at + count)
            at += count
            own = own[self.diagonal[own]]
            alone = np.zeros(self.diagonal.size)
            alone[own] = whole[own] = ENDLESS * self.reach[own]
            out.append(alone)
        return np.array([*out, whole])

    def spread_starts(self) -> np.ndarray:
        """Points spread over the relative factors, R's parameters as at first.

        Diagonal entries reach from 0.05 to 20 times `reach`, on a scale of logarithms; what stands below them is at
        most as large as its column's.
        """
        base, out = self.start(), []
        at, k = self.diagonal[: self.n_theta], self.n_theta
        for point in spread_points(6 + 4 * k, k):
            phi = base.copy()
            phi[:k][at] = 0.05 * (400 * self.reach[:k][at]) ** point[at]
            phi[:k][~at] = (2 * point[~at] - 1) * phi[:k][at][self.column[~at]]
            out.append(phi)
        return np.array(out)

    def relaxed_starts(self) -> list[np.ndarray]:
        """What the fit with correlated effects says of the levels whose effects are independent.

        Two points: its SDs where the columns are zero, and with those of the intercepts taken down to their part
        that slopes do not explain.
        """
        design = self.stats.design
        loose = [not level.correlated and level.r > 1 for level in design.levels]
        if not any(loose):
            return []
        levels = tuple(
            replace(level, level=replace(level.level, correlated=True)) if free else level
            for level, free in zip(design.levels, loose, strict=True)
        )
        relaxed = Criterion(stats=replace(self.stats, design=replace(design, levels=levels)), reml=self.reml)
        phi = _search(_Counted(relaxed), relaxed.start())
        lam = relaxed.offset + relaxed.spread @ phi[: relaxed.n_theta]
        at_zero, within = self.start(), self.start()
        place = theirs = 0
        for k, (level, M, span) in enumerate(zip(levels, self.stats.maps, self.stats.lambda_slices, strict=True)):
            r = level.r
            count = 0 if level.known else r * (r + 1) // 2 if level.correlated else r
            if not loose[k]:
                at_zero[place : place + count] = within[place : place + count] = phi[theirs : theirs + count]
                place, theirs = place + count, theirs + count
                continue
            better = lam[span].reshape(r, r) / units(self.stats)[k]
            raw = np.linalg.solve(M, better)
            own = slice(place, place + r)
            at_zero[own] = np.sqrt(np.einsum("ij,ij->i", raw, raw)) * np.abs(np.diag(M))
            within[own] = np.sqrt(np.einsum("ij,ij->i", better, better))
            place, theirs = place + r, theirs + count
        for out in (at_zero, within):
            out[self.n_theta :] = phi[relaxed.n_theta :]
        return [at_zero, within]

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
        rss = max(
            float(s - c @ coefficients), np.finfo(float).eps * abs(float(s)), 1e-300
        )  # of a perfect fit: rounding
        value = factor.logdet + self.stats.design.residual.log_det(self.psi(phi))
        value += d * (np.log(2 * np.pi * rss / d) + 1 + 2 * np.log(self.stats.scale))
        if self.reml:
            value += np.linalg.slogdet(P)[1] + self.log_det_RR
        return float(value), rss, coefficients, Pinv

    def value_and_gradient(self, phi: np.ndarray) -> tuple[float, np.ndarray]:
        """Criterion and its gradient with respect to the free entries."""
        factor = self.factor(phi)
        if not self.sane(factor):
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
    gain : float
        What a Newton step from here would still gain of the criterion, g' H^-1 g / 2: the Newton decrement.
    curvature : float
        Smallest eigenvalue of the Hessian over these entries (inf where there is none).
    flat : bool
        Whether the criterion does not change in some direction: the data can't tell parameters apart.
    others : tuple of float
        Values of other local minima that were found, the least first.
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


def spread_points(n: int, k: int) -> np.ndarray:
    """n points (n, k) spread evenly over the unit cube, always the same ones.

    Source: Roberts (2018), the additive recurrence of the generalised golden ratio.

    Examples
    --------
    >>> spread_points(3, 1)[:, 0].round(3).tolist()
    [0.118, 0.736, 0.354]
    """
    golden = 2.0
    for _ in range(60):
        golden = (1 + golden) ** (1 / (k + 1))
    return (0.5 + np.arange(1, n + 1)[:, None] * golden ** -np.arange(1.0, k + 1)) % 1.0


def estimates(stats: Statistics) -> tuple[list[np.ndarray], float, np.ndarray]:
    """(F_k / sigma per level, sigma, psi) where REML is near its best: a first point for a posterior.

    Raises
    ------
    DataError
        Where the model fits y perfectly, so that no sigma is small enough.
    """
    criterion = Criterion(stats=stats, reml=True)
    with one_blas_thread():
        phi = _best(_Counted(criterion))[0]
    factor = criterion.factor(phi)
    rss = criterion.value(factor, phi)[1] if criterion.sane(factor) else np.nan
    sigma = stats.scale * float(np.sqrt(rss / criterion.degrees))
    if criterion.perfect(sigma):
        raise DataError(
            f"The model fits {stats.design.hierarchy.response} perfectly: no residual is left, so that the posterior "
            "density grows without end as sigma goes to zero, and has no finite mass. Leave out columns or levels "
            "until rows differ for other reasons than the model's, or give sigma a prior that is bounded below."
        )
    lam = factor.lam
    parts = zip(stats.design.levels, stats.maps, stats.lambda_slices, strict=True)
    raw = [np.linalg.solve(M, lam[span].reshape(level.r, level.r)) for level, M, span in parts]
    return raw, sigma, criterion.psi(phi)


def _best(evaluate: _Counted) -> tuple[np.ndarray, tuple[float, ...]]:
    """(the best point found near a minimum, values of other minima): the search begun from several points.

    The likelihood of a mixed model may have more than one maximum. Begun from one point, a search ends in the one that
    is nearest; how much higher another is, no check made there can tell.
    """
    criterion = evaluate.criterion
    if criterion.diagonal.size == 0:
        return np.zeros(0), ()
    found = [_search(evaluate, criterion.start())]
    for start in _other_starts(criterion, found[0]):
        if all(_behind_a_rise(criterion, start, phi) for phi in found):
            found.append(_search(evaluate, start))
    values = np.array([evaluate(phi)[0] for phi in found])
    best = int(np.argmin(values + np.where(np.arange(len(values)) > 0, 1e-6, 0.0)))
    others: list[float] = []
    for k in np.argsort(values):
        if values[k] > (others[-1] if others else values[best]) + 0.05 and _settled(evaluate, found[k]):
            others.append(float(values[k]))
    far = criterion.endless()
    endless = criterion.values(far)
    lowest = int(np.argmin(endless))
    return far[lowest] if endless[lowest] < values[best] - 1e-3 else found[best], tuple(others)


def _settled(evaluate: _Counted, phi: np.ndarray) -> bool:
    """Whether a point is a minimum of its own, not one where a search gave up."""
    free = np.flatnonzero(~evaluate.criterion.at_edge(phi))
    H, gradient = _hessian(evaluate, phi, free), evaluate(phi)[1][free]
    return not len(free) or bool(np.linalg.eigvalsh(H)[0] > 0 and newton_gain(H, gradient) < 0.05)


def _other_starts(criterion: Criterion, found: np.ndarray) -> list[np.ndarray]:
    """Points from which the search may end elsewhere than at `found`, the lowest of those spread evenly."""
    axes = _along_axes(criterion, found)
    if sum(level.q for level in criterion.stats.design.levels) > CHEAP and not criterion.tied:
        return axes[:1]
    spread = criterion.spread_starts()
    values = criterion.values(spread)
    lowest = [spread[k] for k in np.argsort(values)[:STARTS] if values[k] < HOPELESS]
    return [*axes[:2], *criterion.relaxed_starts(), *lowest]


def _behind_a_rise(criterion: Criterion, start: np.ndarray, end: np.ndarray) -> bool:
    """Whether the criterion rises anywhere on the straight way from a start to a minimum: else they are one valley."""
    t = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])[:, None]
    return bool((np.diff(criterion.values(start + t * (end - start))) > 1e-6).any())


def _along_axes(criterion: Criterion, found: np.ndarray) -> list[np.ndarray]:
    """Local minima along the axes of single SDs through `found`, elsewhere than there, the lowest first."""
    grid = np.array([0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 40.0])
    axes = np.flatnonzero(criterion.diagonal)
    trials = np.tile(found, (axes.size, grid.size, 1))
    for a, k in enumerate(axes):
        trials[a, :, k] = grid * criterion.reach[k]
    values = criterion.values(np.concatenate([trials.reshape(-1, found.size), found[None]]))
    here, values = values[-1], values[:-1].reshape(axes.size, grid.size)
    out = []
    for a, k in enumerate(axes):
        places, around = trials[a, :, k], np.concatenate([[np.inf], values[a], [np.inf]])
        for i in range(grid.size):
            near = places[max(i - 1, 0)] <= found[k] <= places[min(i + 1, grid.size - 1)]
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
        H = _hessian(evaluate, phi, free)
    curvature, relative = _least_curvature(H), _least_curvature(H, scaled=True)
    # a direction along which parameters may double and the criterion stays what it is
    size = criterion.sizes(phi)[free]
    flat = abs(relative) < 1e-5 or abs(_least_curvature(H * np.outer(size, size))) < 1e-5
    gain = newton_gain(H, gradient[free])
    return Optimum(
        phi=phi, value=value, gradient=float(np.abs(gradient[free]).max(initial=0.0)), curvature=curvature,
        evaluations=evaluate.calls, converged=bool(gain < enough and (curvature > 0 or flat) and escape is None),
        flat=flat, gain=gain, others=tuple(other for other in others if other > value + 0.01),
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
