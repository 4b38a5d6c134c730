"""The profiled deviance of ML and REML, and its gradient; `search` looks for its minimum.

    ML      f(lambda) = log|V0| + n     (log(2 pi rss / n)       + 1),              rss = s - c' P^-1 c
    REML    f(lambda) = log|V0| + (n-p) (log(2 pi rss / (n - p)) + 1) + log|P|

with ``T = [P c; c' s]`` from `factor`, and log|R| added where R isn't the identity. Both are minimised over the entries
of the relative factors, diagonal entries bounded by zero, and R's parameters on the real line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from bayeslmm.covariances.effects.chart import Chart
from bayeslmm.design.counted import mean
from bayeslmm.factorisation.conditioning import group_sums
from bayeslmm.factorisation.factor import Factor, evaluate_many, factorise_statistics, pull_back
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.likelihood.least_squares import invertible, least_squares
from bayeslmm.likelihood.leftover import leftover

SINGULAR = 1e-4  # lme4's tolerance for isSingular
EDGE = 12.0  # a residual parameter's coordinate from here on stands for the edge of what it can be
PERFECT = 1e-6  # sigma over the least-squares residual's size, below which there is no residual left
ENDLESS = 1e7  # a relative SD at which a likelihood that is still rising has no maximum
TOGETHER = 500_000  # entries of T that are computed at a time
HOPELESS = 1e50  # stands for a criterion that cannot be computed: far from any data


def units(stats: Statistics) -> list[float]:
    """Per level, the SD relative to sigma that stands for one: the units of weights and of known covariances go out."""
    residual = stats.design.residual
    weight = float(np.exp(mean(np.log(residual.root_weights), residual.counts)))
    return [1.0 / (weight * float(np.sqrt(level.variances.mean()))) for level in stats.design.levels]


def together(p: int) -> int:
    """At how many points T of p + 1 columns is computed at a time."""
    return max(1, TOGETHER // (p + 1) ** 2)


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """-2 log likelihood (or REML criterion) as a function of phi.

    phi holds the entries of the levels' charts, on the kernels' basis and in `units`, and then R's parameters on the
    real line.
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
        return float(2 * np.log(np.abs(np.diag(np.linalg.qr(self.stats.upper, mode="r")))).sum())

    @cached_property
    def charts(self) -> tuple[Chart, ...]:
        """Per level, the entries of phi and the factor they make on the kernels' basis."""
        parts = zip(self.stats.design.levels, self.stats.maps, units(self.stats), strict=True)
        return tuple(level.structure.chart(M, unit) for level, M, unit in parts)

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Per level, where its entries stand in phi."""
        ends = np.cumsum([0, *(chart.size for chart in self.charts)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    def lams(self, phis: np.ndarray) -> np.ndarray:
        """The kernels' lambda vectors (B, n_lambda) at points (B, k)."""
        parts = [chart.factors(phis[:, at]) for chart, at in zip(self.charts, self.places, strict=True)]
        return np.concatenate([*parts, np.zeros((len(phis), 0))], axis=1)

    def pull(self, phi: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """The gradient by the levels' entries, from that by the kernels' lambda vector."""
        parts = zip(self.charts, self.places, self.stats.lambda_slices, strict=True)
        return np.concatenate([*(chart.pull(phi[at], bar[span]) for chart, at, span in parts), np.zeros(0)])

    @property
    def n_theta(self) -> int:
        """Number of the levels' entries, which stand before R's parameters."""
        return self.places[-1].stop if self.places else 0

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Which entries of phi are SDs or diagonal ones of a factor, and so bounded by zero."""
        own = [chart.sds for chart in self.charts]
        return np.concatenate([*own, np.zeros(len(self.stats.design.residual.parameters))]).astype(bool)

    @cached_property
    def coordinate(self) -> np.ndarray:
        """Which entries of phi are coordinates on the real line: correlations, R's parameters."""
        own = [chart.coordinates for chart in self.charts]
        return np.concatenate([*own, np.ones(len(self.stats.design.residual.parameters))]).astype(bool)

    @cached_property
    def even(self) -> np.ndarray:
        """Which of the levels' entries may change their sign together with their column."""
        own = [np.full(chart.size, chart.even) & ~chart.coordinates for chart in self.charts]
        return np.concatenate([*own, np.zeros(0)]).astype(bool)

    @cached_property
    def column(self) -> np.ndarray:
        """Which SD each of the levels' entries goes with, counted over all levels; a coordinate with the last one."""
        return np.maximum(np.cumsum(self.diagonal[: self.n_theta]) - 1, 0)

    @cached_property
    def lower(self) -> np.ndarray:
        """Least values of phi for a search: where zero is a bound whatever the other entries are."""
        out = np.where(self.coordinate, -EDGE, -np.inf)
        out[: self.n_theta][self.diagonal[: self.n_theta] & ~self.even] = 0.0
        return out

    def beside(self, k: int | np.integer) -> np.ndarray:
        """The entries of the column that SD k stands in."""
        same = (self.column == self.column[k]) & ~self.coordinate[: self.n_theta]
        return np.flatnonzero(same)

    def alone(self, phi: np.ndarray) -> np.ndarray:
        """Which entries are SDs with nothing else in their column.

        Only there is zero a bound: a column may change its sign as a whole, so that a diagonal entry below which
        something stands passes through zero like any other number.
        """
        diagonal = self.diagonal[: self.n_theta]
        other = ~diagonal & self.even & (phi[: self.n_theta] != 0)
        below = np.bincount(self.column, weights=other, minlength=1)
        out = self.diagonal.copy()
        out[: self.n_theta] &= below[self.column] == 0
        return out

    def at_edge(self, phi: np.ndarray) -> np.ndarray:
        """Which entries can't move: SDs on zero, coordinates at the end of their range or of effects of SD zero."""
        out = np.where(self.coordinate, np.abs(phi) >= EDGE, self.alone(phi) & (phi <= 0))
        for chart, at in zip(self.charts, self.places, strict=True):
            out[at] |= chart.idle(phi[at])
        return out

    def reflect(self, phi: np.ndarray) -> np.ndarray:
        """The same factors with no negative entry on the diagonal."""
        out = phi.copy()
        theta = out[: self.n_theta]
        if theta.size:
            sign = np.where(theta[self.diagonal[: self.n_theta]] < 0, -1.0, 1.0)[self.column]
            theta *= np.where(self.even, sign, 1.0)
        return out

    def clip(self, phi: np.ndarray) -> np.ndarray:
        """Put entries beyond their bounds on them."""
        out = np.where(self.alone(phi), np.maximum(phi, 0.0), phi)
        return np.where(self.coordinate, np.clip(out, -EDGE, EDGE), out)

    def sizes(self, phi: np.ndarray) -> np.ndarray:
        """How large each entry is, or its neighbours in the same factor: at least 0.1; 1 for coordinates."""
        out = np.ones(phi.size)
        for at in self.places:
            own = np.abs(phi[at][~self.coordinate[at]])
            out[at] = own.max(initial=0.1)
        return np.where(self.coordinate, 1.0, out)

    def start(self) -> np.ndarray:
        """First point: the best of a few correlations and ratios beside `_start_theta`."""
        residual, theta = self.stats.design.residual, self._start_theta()
        if residual.fixed:
            return theta
        tried = [np.concatenate([theta, residual.free(residual.neutral)])]
        for k, parameter in enumerate(residual.parameters):
            for value in parameter.starts:
                psi = residual.neutral
                psi[k] = value
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
        step = together(self.stats.design.p)
        return np.concatenate([self._values(phis[k : k + step]) for k in range(0, len(phis), step)] or [np.zeros(0)])

    def _values(self, phis: np.ndarray) -> np.ndarray:
        design, p, d = self.stats.design, self.stats.design.p, self.degrees
        residual, psi = design.residual, design.residual.natural(phis[:, self.n_theta :])
        coefs = None if residual.fixed else residual.coefficients_at(psi)
        with np.errstate(all="ignore"):
            logdet, T = evaluate_many(self.stats, self.lams(phis), coefs)
            size = np.sqrt(np.einsum("bii->bi", T[:, :p, :p]))
            scaled = T[:, :p, :p] / size[:, :, None] / size[:, None, :]
            sane = np.isfinite(logdet) & np.isfinite(T).all(axis=(1, 2)) & np.isfinite(scaled).all(axis=(1, 2))
            scaled = np.where(sane[:, None, None], scaled, np.eye(p))
            sane &= invertible(scaled)
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
        return bool(p == 0 or invertible(scaled[None])[0])

    def _start_theta(self) -> np.ndarray:
        """Per effect, what the analysis of variance of the least-squares residual suggests; no correlations."""
        out = np.zeros(self.n_theta)
        at = 0
        for level, better, chart, own in zip(
            self.stats.design.levels, self.stats.better, self.charts, self.places, strict=True
        ):
            sums = self.stats.ZtW[at : at + level.q, -1].reshape(level.m, level.r)
            at += level.q
            if level.related or not self.stats.design.residual.plain:
                ratio = np.full(level.r, 0.5)
            else:
                size = group_sums(level.index, level.m, better**2)
                squares = np.divide(sums**2, size, out=np.zeros_like(sums), where=size > 0).sum(axis=0)
                within = np.maximum(self.stats.WtW[-1, -1] - squares, 1e-3) / max(self.stats.design.n - level.m, 1)
                ratio = np.sqrt(np.clip((squares / level.m / within - 1) / (size.sum(axis=0) / level.m), 0.01, 100.0))
            out[own][chart.sds] = level.structure.gather(ratio)
            out[own][chart.coordinates] = level.structure.coordinates(np.eye(level.r)) if chart.coordinates.any() else 0
        return out

    @cached_property
    def reach(self) -> np.ndarray:
        """How large a relative SD may be for reasons of units: 1, and more where it is tied to a distant zero.

        A level whose slopes are independent of its intercept has to explain at x = 0, by the intercept's SD, what the
        slopes make of the distance; and the slopes' own entries are in units of their columns' root mean square.
        """
        out = np.ones(self.diagonal.size)
        loose = [lv for lv in self.stats.design.levels if not lv.correlated and lv.n_sds]
        for level, own in zip(self.stats.design.levels, self.places, strict=True):
            if level not in loose:
                continue
            beside = np.concatenate([lv.columns for lv in loose if lv.label == level.label], axis=1)
            distances = np.array([_distance(x, level.counts) if np.ptp(x) > 0 else 0.0 for x in beside.T])
            tied = bool((np.ptp(beside, axis=0) == 0).any())
            for j, x in enumerate(level.columns.T):
                if np.ptp(x) == 0:
                    out[own.start + j] += distances.sum()
                elif tied:
                    out[own.start + j] += _distance(x, level.counts)
        return out

    @property
    def tied(self) -> bool:
        """Whether some level's independent effects are tied to a zero that is far from its rows."""
        return bool((self.reach > 2).any())

    def perfect(self, sigma: float) -> bool:
        """Whether no residual is left at this sigma: none beside y, or none beside what least squares leaves."""
        y, residual = self.stats.design.counted.y, self.stats.design.residual
        sigma *= float(np.exp(-mean(np.log(residual.root_weights), residual.counts)))  # of a row of usual weight
        if self.stats.scale < 1e-12 * np.abs(y).max(initial=0.0):
            return True
        return bool(sigma < PERFECT * self.stats.scale) and self.can_be_perfect

    @cached_property
    def can_be_perfect(self) -> bool:
        """Whether effects and fixed part reproduce y: else a sigma next to zero is rounding."""
        return leftover(self.stats) < 2 * PERFECT

    def endless(self) -> np.ndarray:
        """Points far out, for each level and for all: lower there than anywhere, and no residual is needed at all."""
        out = []
        whole = np.zeros(self.diagonal.size)
        for at in self.places:
            own = np.arange(at.start, at.stop)[self.diagonal[at]]
            alone = np.zeros(self.diagonal.size)
            alone[own] = whole[own] = ENDLESS * self.reach[own]
            out.append(alone)
        return np.array([*out, whole])

    def spread_starts(self) -> np.ndarray:
        """Points spread over the relative factors, R's parameters as at first.

        Diagonal entries reach from 0.05 to 20 times `reach`, on a scale of logarithms, and those of some points on to
        2e4 times `reach`, where next to no residual is left; what stands below them is at most as large as its
        column's. The last point is next to zero.
        """
        base, out = self.start(), []
        at, k = self.diagonal[: self.n_theta], self.n_theta
        near, far = 6 + 4 * k, 2 + 2 * k
        for number, point in enumerate(spread_points(near + far, k)):
            phi = base.copy()
            low, high = (0.05, 20.0) if number < near else (20.0, 2e4)
            phi[:k][at] = low * (high / low * self.reach[:k][at]) ** point[at]
            below = ~at & ~self.coordinate[:k]
            phi[:k][below] = (2 * point[below] - 1) * phi[:k][at][self.column[below]]
            phi[:k][self.coordinate[:k]] = 4 * point[self.coordinate[:k]] - 2
            out.append(phi)
        nothing = np.where(self.diagonal, 0.02 / self.reach.max(initial=1.0), np.where(self.coordinate, base, 0.0))
        return np.array([*out, nothing])

    def psi(self, phi: np.ndarray) -> np.ndarray:
        """R's parameters."""
        return self.stats.design.residual.natural(phi[self.n_theta :])

    def factor(self, phi: np.ndarray) -> Factor:
        """Factorise at phi."""
        lam = self.lams(phi[None])[0]
        return factorise_statistics(self.stats.at(self.psi(phi)), lam)

    def value(self, factor: Factor, phi: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """(criterion, rss, coefficients of Q, P^-1), all on the scale of y_."""
        d, solved = self.degrees, least_squares(factor.T)
        # of a perfect fit: rounding
        rss = max(solved.rss, np.finfo(float).eps * abs(float(factor.T[-1, -1])), 1e-300)
        value = factor.logdet + self.stats.design.residual.log_det(self.psi(phi))
        value += d * (np.log(2 * np.pi * rss / d) + 1 + 2 * np.log(self.stats.scale))
        if self.reml:
            value += solved.logdet + self.log_det_RR
        return float(value), rss, solved.coefficients, solved.inverse

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
        residual, z = self.stats.design.residual, phi[self.n_theta :]
        bar, slopes = pull_back(self.stats, factor, 1.0, Tbar, residual.natural(z))
        gradient = np.concatenate([self.pull(phi, bar), slopes * residual.slope(z)])
        return (value, gradient) if np.isfinite(gradient).all() else (HOPELESS, np.zeros_like(phi))


def _distance(x: np.ndarray, counts: np.ndarray | None) -> float:
    """How far a column's mean is from zero, in its SDs."""
    middle = float(mean(x, counts))
    return abs(middle) / float(np.sqrt(mean((x - middle) ** 2, counts)))


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
