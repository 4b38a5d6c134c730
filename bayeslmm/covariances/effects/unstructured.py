"""Unstructured: an SD for each effect, a correlation for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma, log

import numpy as np

from bayeslmm.covariances.effects.chart import Chart, LinearChart
from bayeslmm.covariances.effects.structure import FLAT, EffectStructure
from bayeslmm.distributions.prior import Prior


class Unstructured(EffectStructure):
    """Any covariance; the coordinates are arctanh of canonical partial correlations.

    Source: Lewandowski, Kurowicka & Joe (2009).
    """

    name = "us"
    text = "any covariance"
    movable = True
    paired = True

    def bar(self, effects: str, group: str) -> str:
        """The term of a formula."""
        return f"({effects} | {group})"

    def words(self, effects: Sequence[str]) -> str:
        """What stands behind the names of the effects."""
        return " (correlated)" if len(effects) > 1 else ""

    def n_correlations(self, r: int) -> int:
        """One for each pair."""
        return r * (r - 1) // 2

    def correlation_labels(self, u: str, effects: Sequence[str]) -> list[str]:
        """Names of the correlations: "corr_u2[Intercept, Days]"."""
        return [f"corr_{u}[{effects[j]}, {effects[i]}]" for i in range(1, len(effects)) for j in range(i)]

    def correlation_values(self, C: np.ndarray) -> np.ndarray:
        """The lower triangle, row by row."""
        rows, columns = np.tril_indices(C.shape[-1], -1)
        return C[..., rows, columns]

    def theta_labels(self, effects: Sequence[str]) -> list[str]:
        """Names of the entries of the factor, column by column as in lme4."""
        r = len(effects)
        return [effects[i] if i == j else f"{effects[i]}.{effects[j]}" for j in range(r) for i in range(j, r)]

    def theta(self, lam: np.ndarray) -> np.ndarray:
        """The lower triangle of the factor, column by column as in lme4."""
        r = len(lam)
        return np.array([lam[i, j] for j in range(r) for i in range(j, r)])

    def from_theta(self, theta: np.ndarray, r: int) -> np.ndarray:
        """The factor from its lower triangle."""
        lam, entries = np.zeros((r, r)), iter(theta)
        for j in range(r):
            for i in range(j, r):
                lam[i, j] = next(entries)
        return lam

    def root(self, z: np.ndarray, r: int) -> np.ndarray:
        """L (..., r, r) at arctanh of partial correlations."""
        return corr_cholesky(z, r)

    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """Arctanh of the partial correlations."""
        return partial_correlations(np.linalg.qr(rows.T, mode="r").T)

    def turned_root(self, z: np.ndarray, order: Sequence[int]) -> np.ndarray:
        """L whose partial correlations are those of the effects in another order; rows stay in their own."""
        L = np.empty((len(order), len(order)))
        L[list(order)] = corr_cholesky(z, len(order))
        return L

    def log_prior(self, prior: Prior, z: np.ndarray, r: int) -> np.ndarray:
        """LKJ: partial correlations are independent, (1 + c) / 2 ~ Beta(a, a); c = tanh(z) adds one more 1 - c^2."""
        total, at = np.zeros(z.shape[:-1]), 0
        for i in range(1, r):
            for j in range(i):
                a = prior.params["eta"] + (r - 2 - j) / 2
                whole = (2 * a - 1) * log(2) + 2 * lgamma(a) - lgamma(2 * a)
                total = total - 2 * a * log_cosh(z[..., at]) - whole
                at += 1
        return total

    def draw(self, prior: Prior, rng: np.random.Generator, draws: int, r: int) -> np.ndarray:
        """C (draws, r, r) from an LKJ."""
        return prior.rvs(rng, draws, r=r)

    def chart(self, M: np.ndarray, unit: float) -> Chart:
        """The lower triangle on the kernels' basis, column by column: any triangle there is one here."""
        r = len(M)
        places = [(i, j) for j in range(r) for i in range(j, r)]
        matrix = np.zeros((r * r, len(places)))
        for k, (i, j) in enumerate(places):
            matrix[i * r + j, k] = unit
        sds = np.array([i == j for i, j in places], dtype=bool)
        return LinearChart(matrix, np.zeros(r * r), sds, np.array([j for _, j in places], dtype=int))


def log_cosh(x: np.ndarray) -> np.ndarray:
    """Log of the hyperbolic cosine, without overflow."""
    return np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - np.log(2)


def corr_cholesky(z: np.ndarray, r: int) -> np.ndarray:
    """Cholesky factor of a correlation matrix from canonical partial correlations tanh(z), row by row.

    Source: Lewandowski, Kurowicka & Joe (2009).

    Examples
    --------
    >>> L = corr_cholesky(np.array([np.arctanh(0.5)]), 2)
    >>> (L @ L.T).round(3).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    L = np.zeros((*z.shape[:-1], r, r))
    L[..., 0, 0] = 1.0
    at = 0
    for i in range(1, r):
        left = np.ones(z.shape[:-1])
        for j in range(i):
            c = np.tanh(z[..., at])
            L[..., i, j] = c * np.sqrt(left)
            # 1 - tanh^2 without cancellation
            left = left / np.cosh(z[..., at]) ** 2
            at += 1
        L[..., i, i] = np.sqrt(left)
    return L


def partial_correlations(L: np.ndarray) -> np.ndarray:
    """Inverse of `corr_cholesky`, kept away from infinity; signs of L's columns don't matter.

    Examples
    --------
    >>> partial_correlations(corr_cholesky(np.array([0.5, -1.0, 0.2]), 3)).round(6).tolist()
    [0.5, -1.0, 0.2]
    """
    L = L * np.where(np.diag(L) < 0, -1.0, 1.0)
    out = []
    for i in range(1, L.shape[0]):
        left = 1.0
        for j in range(i):
            c = L[i, j] / np.sqrt(left) if left > 1e-14 else 0.0
            out.append(float(np.clip(np.arctanh(np.clip(c, -1 + 1e-15, 1 - 1e-15)), -FLAT, FLAT)))
            left = max(left - L[i, j] ** 2, 0.0)
    return np.array(out)
