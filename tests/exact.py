"""The dense textbook formulas in 40 digits: what the kernels must reproduce. Small designs only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from mpmath import mp, mpf

mp.dps = 40


def lift(array) -> np.ndarray:
    """The same numbers as 40-digit ones."""
    array = np.asarray(array)
    return np.array([mpf(x) for x in array.ravel().tolist()], dtype=object).reshape(array.shape)


def lower_root(V: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor."""
    L = V.copy()
    for k in range(len(L)):
        L[k, k] = mp.sqrt(L[k, k])
        L[k + 1 :, k] /= L[k, k]
        L[k, k + 1 :] = mpf(0)
        for j in range(k + 1, len(L)):
            if L[j, k]:
                L[j:, j] -= L[j:, k] * L[j, k]
    return L


def forward_solve(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L^-1 B for a lower triangular L."""
    X = B.copy()
    for k in range(len(L)):
        X[k] /= L[k, k]
        for i in range(k + 1, len(L)):
            if L[i, k]:
                X[i] -= L[i, k] * X[k]
    return X


@dataclass(frozen=True, kw_only=True)
class Exact:
    """V0 = I + sum_k Z_k (I (x) lambda_k lambda_k') Z_k', and what follows from it for columns W."""

    levels: tuple
    lambdas: tuple
    W: np.ndarray

    @cached_property
    def lifted(self) -> list[np.ndarray]:
        return [lift(lam) for lam in self.lambdas]

    @cached_property
    def Z(self) -> list[np.ndarray]:
        return [lift(level.Z.toarray()) for level in self.levels]

    @cached_property
    def _half(self) -> np.ndarray:
        V = lift(np.eye(len(self.W)))
        for Z, lam, level in zip(self.Z, self.lifted, self.levels, strict=True):
            for g in range(level.m):
                rows = np.flatnonzero(level.index == g)
                part = Z[rows, g * level.r : (g + 1) * level.r] @ lam
                V[np.ix_(rows, rows)] += part @ part.T
        return lower_root(V)

    @cached_property
    def logdet(self):
        return 2 * sum(mp.log(x) for x in np.diag(self._half))

    @cached_property
    def _white(self) -> np.ndarray:
        """L^-1 [W Z]."""
        return forward_solve(self._half, np.hstack([lift(self.W), *self.Z]))

    @cached_property
    def T(self) -> np.ndarray:
        """W' V0^-1 W."""
        w = self._white[:, : self.W.shape[1]]
        return w.T @ w

    def gradient(self, a: float, Tbar: np.ndarray) -> list[np.ndarray]:
        """d (a log|V0| + tr(Tbar T)) / d lambda_k = 2 sum_j (a Z_j'V0^-1 Z_j - Q_j Tbar Q_j') lambda_k.

        Here Z_j are the columns of group j, and Q_j = Z_j' V0^-1 W.
        """
        d = self.W.shape[1]
        w, Tbar = self._white[:, :d], lift((Tbar + Tbar.T) / 2)
        out, at = [], d
        for lam, level in zip(self.lifted, self.levels, strict=True):
            total = lift(np.zeros((level.r, level.r)))
            for _ in range(level.m):
                z = self._white[:, at : at + level.r]
                Q = z.T @ w
                total += mpf(a) * (z.T @ z) - Q @ Tbar @ Q.T
                at += level.r
            out.append(2 * total @ lam)
        return out

    @cached_property
    def _cross(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(G Z' V0^-1 W, G Z' V0^-1 Z G, G), dense."""
        q = sum(level.q for level in self.levels)
        d = self.W.shape[1]
        G = lift(np.zeros((q, q)))
        at = 0
        for level, lam in zip(self.levels, self.lifted, strict=True):
            for _ in range(level.m):
                G[at : at + level.r, at : at + level.r] = lam @ lam.T
                at += level.r
        # G is block-diagonal: multiply by its few non-zeros only
        z = lift(np.zeros(self._white[:, d:].shape))
        at = 0
        for level in self.levels:
            for _ in range(level.m):
                block = slice(at, at + level.r)
                z[:, block] = self._white[:, d:][:, block] @ G[block, block]
                at += level.r
        return z.T @ self._white[:, :d], z.T @ z, G

    @property
    def modes(self) -> np.ndarray:
        """G Z' V0^-1 W: the conditional mean of the effects for every column of W."""
        return self._cross[0]

    @property
    def covariance(self) -> np.ndarray:
        """G - G Z' V0^-1 Z G: the conditional covariance of the effects, relative to sigma^2."""
        return self._cross[2] - self._cross[1]


def relative_error(value, exact, scale=None) -> float:
    """Largest |value - exact| / scale, with 0/0 = 0; scale is |exact| when left out."""
    value, exact = lift(value).ravel(), np.asarray(exact, dtype=object).ravel()
    scale = [abs(x) for x in exact] if scale is None else np.asarray(scale, dtype=object).ravel()
    worst = mpf(0)
    for v, e, s in zip(value, exact, np.broadcast_to(scale, exact.shape), strict=True):
        gap = abs(v - e)
        if gap:
            worst = max(worst, gap / s if s else mp.inf)
    return float(worst)


def norm(values) -> mpf:
    """Euclidean norm of arrays of 40-digit numbers."""
    return mp.sqrt(sum(x * x for array in values for x in np.asarray(array, dtype=object).ravel()))
