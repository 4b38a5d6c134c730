"""A matrix most of whose columns are those of one factor: numbers once for each of its levels, not for each row.

A column that depends on the factor alone, such as a category's indicator or the constant, has one number a level. With
S (n, k) the indicators of the k levels, every column is

    X = S codes + dense spread,

where `dense` (n, d) has a row's own numbers. Sums over rows become sums over levels, as they do for a level of effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WIDE = 64  # levels of a factor from which its columns are held once a level
PIECE = 64  # columns that are worked on at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Wide:
    """X = codes[index] + dense @ spread, (n, p).

    Attributes
    ----------
    index : (n,) array of int
        The factor's level in each row.
    codes : (k, p) array
    dense : (n, d) array
    spread : (d, p) array

    Examples
    --------
    >>> X = Wide(index=np.array([0, 1, 1]), codes=np.array([[1.0, 0], [1, 0]]), dense=np.array([[5.0], [6], [7]]),
    ...          spread=np.array([[0.0, 1.0]]))
    >>> np.asarray(X).tolist()
    [[1.0, 5.0], [1.0, 6.0], [1.0, 7.0]]
    """

    index: np.ndarray
    codes: np.ndarray
    dense: np.ndarray
    spread: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.index), self.codes.shape[1]

    @property
    def size(self) -> int:
        """Numbers that are held."""
        return self.index.size + self.codes.size + self.dense.size + self.spread.size

    @property
    def nbytes(self) -> int:
        """Bytes that these take."""
        return 8 * self.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = np.empty(self.shape, dtype=dtype or float)
        for first in range(0, len(out), 1024):
            rows = slice(first, first + 1024)
            out[rows] = self.codes[self.index[rows]] + self.dense[rows] @ self.spread
        return out

    @cached_property
    def counts(self) -> np.ndarray:
        """Rows of each level, (k,)."""
        return np.bincount(self.index, minlength=len(self.codes)).astype(float)

    @cached_property
    def of_levels(self) -> np.ndarray:
        """Which columns depend on the factor alone, (p,)."""
        return ~self.spread.any(axis=0)

    def column(self, j: int) -> np.ndarray:
        """Column j of all rows, (n,)."""
        own = self.codes[:, j][self.index]
        return own if self.of_levels[j] else own + self.dense @ self.spread[:, j]

    def values(self, j: int) -> np.ndarray:
        """The numbers that column j holds: once a level where that is all."""
        return self.codes[self.counts > 0, j] if self.of_levels[j] else self.column(j)

    def rows(self, which: Any) -> Wide:
        """Some of the rows."""
        return replace(self, index=self.index[which], dense=self.dense[which])

    def keep(self, columns: Sequence[int]) -> Wide:
        """Some of the columns."""
        return replace(self, codes=self.codes[:, columns], spread=self.spread[:, columns])

    def times(self, M: np.ndarray) -> Wide:
        """X M."""
        return replace(self, codes=self.codes @ M, spread=self.spread @ M)

    def less(self, shifts: np.ndarray) -> Wide:
        """X - shifts, a number a column: first of all from the rows' own numbers, so that no digits are lost later."""
        means = self.dense.mean(axis=0) if len(self.dense) else np.zeros(self.dense.shape[1])
        return replace(self, codes=self.codes + (means @ self.spread - shifts), dense=self.dense - means)

    @property
    def means(self) -> np.ndarray:
        """Means over the rows, (p,)."""
        return (self.counts @ self.codes + self.dense.sum(axis=0) @ self.spread) / len(self.index)

    def __matmul__(self, v: np.ndarray) -> np.ndarray:
        """X v (n,) or (n, c)."""
        return (self.codes @ v)[self.index] + self.dense @ (self.spread @ v)

    @property
    def T(self) -> Transposed:
        """X', to be multiplied from the right."""
        return Transposed(self)

    @cached_property
    def S(self) -> csr_array:
        """Indicators of the levels, (n, k) sparse."""
        from scipy.sparse import csr_array

        n, k = len(self.index), len(self.codes)
        return csr_array((np.ones(n), self.index, np.arange(n + 1)), shape=(n, k))

    @cached_property
    def compressed(self) -> np.ndarray:
        """U'X (k + d, p) for orthonormal U whose span has X in it: what depends on products of columns alone.

        U are the levels' indicators over their size, and an orthonormal basis of what these leave of `dense`.
        """
        means, within = self.split
        upper = np.linalg.qr(within, mode="r") if within.size else np.zeros((within.shape[1],) * 2)
        return np.vstack([np.sqrt(self.counts)[:, None] * (self.codes + means @ self.spread), upper @ self.spread])

    @property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Means of `dense` within levels (k, d), and what they leave of it (n, d)."""
        means, within = np.zeros((len(self.codes), self.dense.shape[1])), self.dense.copy()
        size = np.maximum(self.counts, 1.0)
        for _ in range(2):
            for c in range(within.shape[1]):
                more = np.bincount(self.index, within[:, c], len(size)) / size
                within[:, c] -= more[self.index]
                means[:, c] += more
        return means, within

    @property
    def ones(self) -> np.ndarray:
        """U'1 (k + d,), as in `compressed`."""
        return np.concatenate([np.sqrt(self.counts), np.zeros(min(self.dense.shape))])


@dataclass(frozen=True)
class Transposed:
    """X' of a wide X."""

    X: Wide

    def __matmul__(self, v: Any) -> np.ndarray:
        """X' v, (p,) or (p, c), for v of n rows; another matrix of the same factor is one too."""
        X = self.X
        if isinstance(v, Wide):
            own = (X.S.T @ v.S) @ v.codes + (X.S.T @ v.dense) @ v.spread
            return X.codes.T @ own + X.spread.T @ ((v.S.T @ X.dense).T @ v.codes + (X.dense.T @ v.dense) @ v.spread)
        return X.codes.T @ (X.S.T @ v) + X.spread.T @ (X.dense.T @ v)


def linear(X: np.ndarray | Wide, beta: np.ndarray) -> np.ndarray:
    """X beta for beta (..., p): (..., n).

    Examples
    --------
    >>> linear(np.eye(2), np.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0]]
    """
    if isinstance(X, Wide):
        return (beta @ X.codes.T)[..., X.index] + (beta @ X.spread.T) @ X.dense.T
    return beta @ X.T


def values_of(X: np.ndarray | Wide, j: int) -> np.ndarray:
    """The numbers that a column holds, each at least once.

    Examples
    --------
    >>> values_of(np.eye(2), 1).tolist()
    [0.0, 1.0]
    """
    return X.values(j) if isinstance(X, Wide) else X[:, j]


def some_columns(X: np.ndarray | Wide, columns: Sequence[int]) -> Any:
    """Some of the columns, of the same kind.

    Examples
    --------
    >>> some_columns(np.eye(2), [1]).tolist()
    [[0.0], [1.0]]
    """
    return X.keep(columns) if isinstance(X, Wide) else np.ascontiguousarray(X[:, columns])


def some_rows(X: np.ndarray | Wide, which: Any) -> Any:
    """Some of the rows, of the same kind.

    Examples
    --------
    >>> some_rows(np.eye(2), [1]).tolist()
    [[0.0, 1.0]]
    """
    return X.rows(which) if isinstance(X, Wide) else X[which]
