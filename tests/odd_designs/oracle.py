"""Dense likelihoods in 40 digits, and a search for their maximum that shares nothing with the product's.

The search works in ordinary floating point and may err; the point that it finds is then evaluated in 40 digits, so
that what it claims is a lower bound of the maximum, whatever its errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpmath import mp, mpf
from scipy.optimize import minimize

from tests.exact import forward_solve, lift, lower_root

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, kw_only=True)
class DenseLevel:
    """One level: the group and the columns of every row, and whether a group's effects are correlated."""

    index: np.ndarray
    columns: np.ndarray
    correlated: bool

    @property
    def r(self) -> int:
        return self.columns.shape[1]

    @cached_property
    def together(self) -> np.ndarray:
        """Which rows share a group, (n, n)."""
        return self.index[:, None] == self.index

    @cached_property
    def to_units(self) -> np.ndarray:
        """T (r, r): columns T are of ordinary size, and of mean zero and unrelated where effects are correlated."""
        size = np.sqrt((self.columns**2).mean(axis=0))
        spread = self.columns.std(axis=0)
        scale = np.where(spread > 1e-12 * size, spread, np.where(size > 0, size, 1.0))
        if not self.correlated:
            return np.diag(1 / scale)
        order = np.argsort(spread > 1e-12 * size, kind="stable")  # the constant first
        R = np.linalg.qr((self.columns / scale)[:, order], mode="r") / np.sqrt(len(self.columns))
        T = np.zeros((self.r, self.r))
        T[order] = np.linalg.pinv(R)
        return T / scale[:, None]

    @property
    def size(self) -> int:
        """Number of free entries of the factor."""
        return self.r * (self.r + 1) // 2 if self.correlated else self.r

    def factors(self, theta: np.ndarray) -> np.ndarray:
        """Relative factors (draws, r, r) on the columns' own scale."""
        L = np.zeros((*theta.shape[:-1], self.r, self.r))
        rows, columns = np.tril_indices(self.r) if self.correlated else (np.arange(self.r),) * 2
        L[..., rows, columns] = theta
        return self.to_units @ L


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """ML and REML of one design by the textbook."""

    y: np.ndarray
    X: np.ndarray
    levels: tuple[DenseLevel, ...]

    # in floating point, to search ------------------------------------------------------------------------------

    @cached_property
    def _scaled(self) -> tuple[np.ndarray, np.ndarray]:
        """An orthonormal basis of X, and y without its part in X, of unit size."""
        Q = np.linalg.qr(self.X / np.maximum(np.abs(self.X).max(axis=0), 1e-300))[0]
        rest = self.y - Q @ (Q.T @ self.y)
        rest = rest - Q @ (Q.T @ rest)
        return Q, rest / (np.linalg.norm(rest) or 1.0)

    def rough(self, theta: np.ndarray, reml: bool) -> np.ndarray:
        """The criterion (draws,) at theta (draws, k), up to a constant; inf where rounding spoils it."""
        Q, y = self._scaled
        n, p = Q.shape
        V = np.broadcast_to(np.eye(n), (len(theta), n, n)).copy()
        at = 0
        for level in self.levels:
            part = level.columns @ level.factors(theta[:, at : at + level.size])
            V += level.together * (part @ np.swapaxes(part, -1, -2))
            at += level.size
        out = np.full(len(theta), np.inf)
        with np.errstate(all="ignore"):
            size = np.sqrt(np.einsum("dii->di", V))
            try:
                L = np.linalg.cholesky(V)
                white = np.linalg.solve(L, np.column_stack([Q, y]))
                R = np.linalg.qr(white, mode="r")
            except np.linalg.LinAlgError:
                return np.array([self.rough(one[None], reml)[0] for one in theta]) if len(theta) > 1 else out
            diagonal = np.abs(np.einsum("dii->di", R))
            value = 2 * np.log(np.einsum("dii->di", L)).sum(axis=1)
            value += (n - p if reml else n) * 2 * np.log(diagonal[:, p])
            value += 2 * np.log(diagonal[:, :p]).sum(axis=1) if reml else 0.0
        sane = np.isfinite(value) & (size.max(axis=1) < 1e6)
        return np.where(sane, value, np.inf)

    def search(self, reml: bool, seed: int = 0) -> list[np.ndarray]:
        """A few points (k,) where the criterion is lowest: many tried, the best polished."""
        k = sum(level.size for level in self.levels)
        rng = np.random.default_rng(seed)
        tried = rng.choice([-1.0, 1.0], (300, k)) * 10 ** rng.uniform(-2.5, 2.0, (300, k))
        tried *= rng.random((300, k)) < rng.choice([0.5, 0.8, 1.0], (300, 1))
        tried = np.concatenate([np.zeros((1, k)), 0.5 * np.ones((1, k)), tried])
        order = np.argsort(self.rough(tried, reml))

        def objective(theta):
            # dividing a step by the size of theta's entries keeps the differences exact to many digits
            step = 1e-6 * np.maximum(np.abs(theta), 1e-2)
            around = np.concatenate([theta[None], theta + np.diag(step), theta - np.diag(step)])
            values = self.rough(around, reml)
            if not np.isfinite(values).all():
                return 1e10, np.zeros(k)
            return float(values[0]), (values[1 : k + 1] - values[k + 1 :]) / (2 * step)

        found = []
        for start in tried[order[:4]]:
            end = minimize(objective, start, jac=True, method="BFGS", options={"maxiter": 200, "gtol": 1e-7})
            found.append((end.fun, end.x))
        found.sort(key=lambda pair: pair[0])
        return [x for _, x in found[:2]] + [np.zeros(k)]

    def factors(self, theta: np.ndarray) -> list[np.ndarray]:
        """Relative factors per level at theta."""
        out, at = [], 0
        for level in self.levels:
            out.append(level.factors(theta[at : at + level.size]))
            at += level.size
        return out

    @cached_property
    def unbounded(self) -> bool:
        """Whether effects and coefficients fit every row, so that the likelihood has no maximum (to rounding)."""
        groups = [(lv.index[:, None] == np.unique(lv.index)).astype(float) for lv in self.levels]
        columns = [G[:, :, None] * lv.columns[:, None, :] for G, lv in zip(groups, self.levels, strict=True)]
        whole = np.column_stack([self.X, *(block.reshape(self.y.size, -1) for block in columns)])
        size = np.linalg.norm(whole, axis=0)
        whole = whole[:, size > 0] / size[size > 0]
        y = self.y / np.abs(self.y).max()
        rest = y - whole @ np.linalg.lstsq(whole, y, rcond=1e-11)[0]
        return bool(np.linalg.norm(rest) < 1e-5 * np.linalg.norm(y - y.mean()))

    @cached_property
    def condition(self) -> float:
        """Condition of X with columns of one size."""
        return float(np.linalg.cond(self.X / np.linalg.norm(self.X, axis=0))) if self.X.shape[1] else 1.0

    def largest_ratio(self, factors) -> float:
        """Largest variance of a row's random part, relative to sigma^2."""
        parts = [level.columns @ factor for level, factor in zip(self.levels, factors, strict=True)]
        return float(max((part**2).sum(axis=1).max() for part in parts))

    # in 40 digits, to compare ----------------------------------------------------------------------------------

    def relative_covariance(self, factors) -> np.ndarray:
        """V0 = I + Z G Z' (n, n) in 40 digits."""
        V = lift(np.eye(self.y.size))
        for level, factor in zip(self.levels, factors, strict=True):
            part = lift(level.columns) @ lift(factor)
            V = V + np.where(level.together, part @ part.T, mpf(0))
        return V

    def likelihood(self, factors, reml: bool) -> Point:
        """The profiled log likelihood at relative factors, with its sigma and beta."""
        n, p = self.X.shape
        root = lower_root(self.relative_covariance(factors))
        white = forward_solve(root, np.column_stack([lift(self.X), lift(self.y)]))
        logdet = 2 * sum(mp.log(d) for d in np.diag(root))
        P, c, s = white[:, :p].T @ white[:, :p], white[:, :p].T @ white[:, p], white[:, p] @ white[:, p]
        A = lower_root(P)
        half = forward_solve(A, c[:, None])[:, 0] if p else c
        rss = s - half @ half
        degrees = n - p if reml else n
        if rss <= mpf(10) ** -30 * s:
            return Point(loglik=float("inf"), sigma=0.0, beta=np.zeros(p))
        value = logdet + degrees * (mp.log(2 * mp.pi * rss / degrees) + 1)
        value += 2 * sum(mp.log(d) for d in np.diag(A)) if reml else 0
        beta = forward_solve(A.T[::-1, ::-1], half[::-1, None])[::-1, 0] if p else half
        return Point(
            loglik=float(-value / 2), sigma=float(mp.sqrt(rss / degrees)), beta=np.array([float(b) for b in beta])
        )


@dataclass(frozen=True, kw_only=True)
class Point:
    """A profiled log likelihood, and where it is reached; inf for a perfect fit."""

    loglik: float
    sigma: float
    beta: np.ndarray


def log_normal_density(y: np.ndarray, mean: np.ndarray, V: np.ndarray) -> float:
    """log N(y; mean, V), V (n, n) in 40 digits."""
    root = lower_root(V)
    white = forward_solve(root, (lift(y) - lift(mean))[:, None])[:, 0]
    logdet = 2 * sum(mp.log(d) for d in np.diag(root))
    return float(-(y.size * mp.log(2 * mp.pi) + logdet + white @ white) / 2)
