"""Cells as rows: as few as have the same number, means and products as the rows of each cell.

The products S of a cell around its mean are R'R with R of k rows; k + 1 rows that each count n / (k + 1), at the mean
and away from it by the rows of H R / sqrt(n), with H of orthogonal columns that sum to zero and H'H = (k + 1) I, have
them.
Every sum over rows that a Gaussian model takes is then the data's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.sources.cells import Cells


@dataclass(frozen=True, kw_only=True, eq=False)
class CellRows:
    """N rows that stand for the rows of C cells.

    Attributes
    ----------
    cell : (N,) int array
    counts : (N,) array
    values : mapping-like (A, N) array
        Of the atoms.
    rest : (A, N) array
        What rounding took from them.
    """

    names: tuple[str, ...]
    cell: np.ndarray
    counts: np.ndarray
    values: np.ndarray
    rest: np.ndarray


def rows_of_cells(cells: Cells) -> CellRows:
    """Make the rows.

    Examples
    --------
    >>> import pandas as pd
    >>> one, a = np.ones((1, 1)), np.array([[3.0]])
    >>> cells = Cells(keys=pd.DataFrame(index=range(1)), names=("a",), counts=np.array([4.0]), shift=np.array([10.0]),
    ...     scale=np.array([2.0]), sums=a * 0, products=a[:, :, None], noise=a * 0, lowest=a, highest=a + 9, filled=one)
    >>> rows = rows_of_cells(cells)
    >>> rows.counts.tolist(), float((rows.counts * (rows.values[0] - 10) ** 2).sum().round(9))
    ([2.0, 2.0], 12.0)
    """
    roots, rank = _roots(cells)
    A = len(cells.names)
    sizes = rank + 1
    starts = np.cumsum(sizes) - sizes
    N = int(sizes.sum())
    cell = np.repeat(np.arange(len(rank)), sizes)
    counts = (cells.counts / sizes)[cell]
    means = cells.sums / cells.counts[:, None]
    away = means[cell].T.copy()  # in units of scale, from shift
    for k in range(1, int(rank.max(initial=0)) + 1):
        own = np.flatnonzero(rank == k)
        if not own.size:
            continue
        H = _simplex(k)
        offsets = np.einsum("ik,cka->cia", H, roots[own, :k]) / np.sqrt(cells.counts[own])[:, None, None]
        places = starts[own][:, None] + np.arange(k + 1)
        away[:, places.ravel()] += offsets.reshape(-1, A).T
    values, rest = np.empty((A, N)), np.zeros((A, N))
    for a in range(A):
        part = away[a] * cells.scale[a]
        high = cells.shift[a] + part
        back = high - cells.shift[a]
        rest[a] = (cells.shift[a] - (high - back)) + (part - back)
        flat = (cells.lowest[:, a] == cells.highest[:, a])[cell]
        values[a] = np.where(flat, cells.lowest[cell, a], high)
        rest[a] = np.where(flat, 0.0, rest[a])
    return CellRows(names=cells.names, cell=cell, counts=counts, values=values, rest=rest)


def _roots(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """(R (C, A, A), rank (C,)) with S = R'R, pivots that are rounding taken for zero.

    Source: Higham (2002, section 10.3), Cholesky's factorisation with complete pivoting.
    """
    S = cells.products.copy()
    C, A = S.shape[:2]
    R, rank = np.zeros((C, A, A)), np.zeros(C, dtype=np.int64)
    most = np.minimum(A, cells.counts - 1)
    size = np.einsum("caa->ca", S).copy()
    unit = np.where(size > cells.noise, size, np.inf)
    at = np.arange(C)
    for k in range(A):
        left = np.einsum("caa->ca", S)
        pivot = np.argmax(left / unit, axis=1)
        d = left[at, pivot]
        good = (d > np.maximum(cells.noise[at, pivot], 32 * A * 2.2e-16 * size[at, pivot])) & (k < most)
        if not good.any():
            break
        row = np.where(good[:, None], S[at, pivot] / np.sqrt(np.where(good, d, 1.0))[:, None], 0.0)
        R[:, k] = row
        S -= row[:, :, None] * row[:, None, :]
        S[at, pivot, :] = 0.0
        S[at, :, pivot] = 0.0
        rank += good
    return R, rank


def _simplex(k: int) -> np.ndarray:
    """(k + 1, k) with orthogonal columns of sum zero, H'H = (k + 1) I."""
    H = np.zeros((k + 1, k))
    for j in range(k):
        H[: j + 1, j], H[j + 1, j] = 1.0, -(j + 1.0)
        H[:, j] *= np.sqrt((k + 1) / ((j + 1) * (j + 2)))
    return H
