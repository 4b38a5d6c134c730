"""The profiled deviance of ML and REML, and its gradient; `search` looks for its minimum.

    ML      f(lambda) = log|V0| + n     (log(2 pi rss / n)       + 1),              rss = s - c' P^-1 c
    REML    f(lambda) = log|V0| + (n-p) (log(2 pi rss / (n - p)) + 1) + log|P|

with ``T = [P c; c' s]`` from `factor`, and log|R| added where R isn't the identity. Both are minimised over the entries
of the relative factors, diagonal entries bounded by zero, and R's parameters on the real line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.factorisation.conditioning import group_sums
from bayeslmm.factorisation.factor import Factor, evaluate_many, factorise_statistics
from bayeslmm.factorisation.statistics import Statistics

SINGULAR = 1e-4  # lme4's tolerance for isSingular
EDGE = 12.0  # a residual parameter's coordinate from here on stands for the edge of what it can be
PERFECT = 1e-6  # sigma over the least-squares residual's size, below which there is no residual left
ENDLESS = 1e7  # a relative SD at which a likelihood that is still rising has no maximum
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
