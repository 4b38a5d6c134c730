"""Rows that stand for several rows each: what a mean, a spread or a number of rows is, where rows have counts.

`counts` is None where every row is itself. Rows with counts are made from cells (`sources`): as many rows, with the
same means and cross-products as the rows of the cell, so that every sum over rows is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class CountedRows:
    """y and X of rows, with how many rows of the data each stands for.

    Attributes
    ----------
    y : (N,) array
        Without the offset.
    X : (N, p) array
    counts : (N,) array, or None
    X_rest, y_rest : arrays, or None
        What rounding took from X and y: they were computed around a mean that may be large beside their spread.
    """

    y: np.ndarray
    X: np.ndarray
    counts: np.ndarray | None = None
    X_rest: np.ndarray | None = None
    y_rest: np.ndarray | None = None

    @property
    def root(self) -> np.ndarray | None:
        """Square roots of the counts: rows times these have the data's sums of products."""
        return None if self.counts is None else np.sqrt(self.counts)


def scaled(rows: np.ndarray, root: np.ndarray | None) -> np.ndarray:
    """Rows (N,) or (N, c) times the roots of their counts."""
    if root is None:
        return rows
    return rows * (root if rows.ndim == 1 else root[:, None])


def total(values: np.ndarray, counts: np.ndarray | None) -> float:
    """Sum of values (N,) over all rows.

    Examples
    --------
    >>> total(np.array([1.0, 2.0]), np.array([10.0, 1.0]))
    12.0
    """
    return float(values.sum() if counts is None else counts @ values)


def mean(values: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
    """Mean over all rows of values (N,) or (N, c).

    Examples
    --------
    >>> float(mean(np.array([1.0, 4.0]), np.array([2.0, 1.0])))
    2.0
    """
    return values.mean(axis=0) if counts is None else counts @ values / counts.sum()


def moment(rows: np.ndarray, weights: np.ndarray, counts: np.ndarray | None) -> np.ndarray:
    """Mean over all rows of w z z', for rows z (N, r) of weights w (N,).

    Examples
    --------
    >>> moment(np.array([[1.0], [2.0]]), np.ones(2), np.array([3.0, 1.0])).tolist()
    [[1.75]]
    """
    own = weights if counts is None else weights * counts
    return (rows * own[:, None]).T @ rows / (len(rows) if counts is None else counts.sum())


def median(values: np.ndarray, counts: np.ndarray | None) -> float:
    """Median over all rows of values (N,).

    Examples
    --------
    >>> median(np.array([1.0, 4.0]), np.array([2.0, 1.0])), median(np.array([1.0, 4.0]), np.array([1.0, 1.0]))
    (1.0, 2.5)
    """
    if counts is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    seen = np.cumsum(counts[order])
    half, small = seen[-1] / 2, 1e-9 * seen[-1]
    low, high = np.searchsorted(seen, half - small), np.searchsorted(seen, half + small)
    return float((values[order[low]] + values[order[min(high, len(order) - 1)]]) / 2)


def deviation(values: np.ndarray, counts: np.ndarray | None) -> float:
    """Standard deviation over all rows, by their number less one; 0 for a single row.

    Examples
    --------
    >>> round(deviation(np.array([0.0, 2.0]), np.array([1.0, 1.0])), 6)
    1.414214
    """
    if counts is None:
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    n = counts.sum()
    return float(np.sqrt(counts @ (values - mean(values, counts)) ** 2 / (n - 1))) if n > 1.5 else 0.0


def group_sizes(index: np.ndarray, m: int, counts: np.ndarray | None) -> np.ndarray:
    """Number of rows of each of m groups, whole numbers.

    Examples
    --------
    >>> group_sizes(np.array([0, 1, 1]), 2, np.array([3.0, 1.5, 1.5])).tolist()
    [3, 3]
    """
    if counts is None:
        return np.bincount(index, minlength=m)
    return np.rint(np.bincount(index, weights=counts, minlength=m)).astype(np.int64)
