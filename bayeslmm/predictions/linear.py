"""What a prediction is made of: a known part, and coefficients on beta, on the effects of groups seen and new."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Fresh:
    """The part of new groups of one level.

    Attributes
    ----------
    labels : tuple of str
    r : int
        Effects per group.
    weights : (k, labels times r) sparse array
        Group-major, as Z is.
    """

    labels: tuple[str, ...]
    r: int
    weights: Any

    def among(self, labels: tuple[str, ...]) -> Any:
        """The weights in the columns of more labels."""
        from scipy.sparse import csr_array

        place = {label: k for k, label in enumerate(labels)}
        to = np.array([place[label] for label in self.labels], dtype=np.int64)
        columns = (to[:, None] * self.r + np.arange(self.r)).ravel()
        own, shape = self.weights, (self.weights.shape[0], len(labels) * self.r)
        return csr_array((own.data, columns[own.indices], own.indptr), shape=shape)

    def plus(self, other: Fresh, times: float) -> Fresh:
        """The sum, a label being one group in both."""
        labels = self.labels
        if labels != other.labels:
            labels = tuple(dict.fromkeys([*labels, *other.labels]))
        weights = (self.among(labels) + times * other.among(labels)).tocsr()
        return replace(self, labels=labels, weights=weights)

    def squares(self) -> np.ndarray:
        """S (k, r, r) with tr(S Sigma) the variance: sums over groups of each one's weights times themselves."""
        parts = [self.weights[:, e :: self.r] for e in range(self.r)]
        S = np.zeros((self.weights.shape[0], self.r, self.r))
        for e in range(self.r):
            for f in range(e + 1):
                S[:, e, f] = S[:, f, e] = parts[e].multiply(parts[f]).sum(axis=1)
        return S


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear:
    """k quantities ``constant + X beta + Z u + new groups``; sums and differences of them are such quantities again.

    Attributes
    ----------
    constant : (k,) array
    X : (k, p) array
    Z : (k, q + means) sparse array
        The columns of the model's Z; behind them, level by level, those of the mean over its groups.
    fresh : tuple of Fresh
        Per level.
    """

    constant: np.ndarray
    X: np.ndarray
    Z: Any
    fresh: tuple[Fresh, ...]

    @property
    def k(self) -> int:
        """Number of quantities."""
        return len(self.constant)

    def rows(self, which: Any) -> Self:
        """Some of the quantities, by a slice or an array of places."""
        fresh = tuple(replace(one, weights=one.weights[which]) for one in self.fresh)
        return replace(self, constant=self.constant[which], X=self.X[which], Z=self.Z[which], fresh=fresh)

    def combined(self, L: Any) -> Self:
        """L times the quantities, L (c, k) sparse."""
        fresh = tuple(replace(one, weights=(L @ one.weights).tocsr()) for one in self.fresh)
        return replace(self, constant=L @ self.constant, X=L @ self.X, Z=(L @ self.Z).tocsr(), fresh=fresh)

    def times(self, c: Any) -> Self:
        """Each quantity times a number, or a number of its own."""
        from scipy.sparse import diags_array

        return self.combined(diags_array(np.broadcast_to(np.asarray(c, dtype=float), self.k), format="csr"))

    def plus(self, other: Linear, times: float = 1.0) -> Self:
        """The sum with so many times as many other quantities, new groups of one label being one group."""
        return replace(
            self,
            constant=self.constant + times * other.constant,
            X=self.X + times * other.X,
            Z=(self.Z + times * other.Z).tocsr(),
            fresh=tuple(a.plus(b, times) for a, b in zip(self.fresh, other.fresh, strict=True)),
        )


def averages(groups: np.ndarray, sizes: np.ndarray) -> Any:
    """L (groups, n) sparse: sums of the quantities of each group, divided by the group's size.

    Examples
    --------
    >>> averages(np.array([0, 1, 0]), np.array([2, 1])).toarray().tolist()
    [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]
    """
    from scipy.sparse import csr_array

    n = len(groups)
    return csr_array((1.0 / sizes[groups], (groups, np.arange(n))), shape=(len(sizes), n))
