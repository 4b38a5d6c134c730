"""A sparse precision by itself: its packed form, factor, inverse, and what solves with it give.

Packed arrays are those of `fronts`. The dense twins of `packed_factor`, `packed_inverse` and `packed_solve` are
`np.linalg.cholesky`, `np.linalg.inv` and `np.linalg.solve`.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.arrays import Sparse
from bayeslmm.factorisation.kernels.compiling import njit
from bayeslmm.factorisation.kernels.fronts import factor, inverse, solve, solve_transposed


@njit
def packed(sparse, row, column, values):
    """The entries of a symmetric matrix, row <= column in the order of elimination and in the pattern, packed."""
    first, starts, panels, rows, of = sparse.first, sparse.starts, sparse.panels, sparse.rows, sparse.of
    out = np.zeros(panels[-1])
    for k in range(row.shape[0]):
        s = of[row[k]]
        low, high = starts[s], starts[s + 1]
        while high - low > 1:
            middle = (low + high) // 2
            if rows[middle] <= column[k]:
                low = middle
            else:
                high = middle
        out[panels[s] + (row[k] - first[s]) * (starts[s + 1] - starts[s]) + low - starts[s]] += values[k]
    return out


@njit
def packed_factor(sparse, U):
    """Replace a packed matrix by its upper Cholesky factor; (its diagonal, whether the matrix is positive definite)."""
    first, starts, panels = sparse.first, sparse.starts, sparse.panels
    whole = factor(sparse, U)
    pivots = np.zeros(sparse.of.shape[0])
    for s in range(first.shape[0] - 1):
        for i in range(first[s + 1] - first[s]):
            pivots[first[s] + i] = U[panels[s] + i * (starts[s + 1] - starts[s] + 1)]
    return pivots, whole


@njit
def packed_inverse(sparse, U):
    """(U'U)^-1 where U has numbers, packed, and its diagonal in the order of elimination."""
    first, starts, panels = sparse.first, sparse.starts, sparse.panels
    C = inverse(sparse, U)
    diagonal = np.empty(sparse.of.shape[0])
    for s in range(first.shape[0] - 1):
        for i in range(first[s + 1] - first[s]):
            diagonal[first[s] + i] = C[panels[s] + i * (starts[s + 1] - starts[s] + 1)]
    return C, diagonal


@njit
def packed_solve(sparse, U, X, lower, upper):
    """Replace X (columns, d), in the order of elimination, by U^-1 U'^-1 X, or by one of the two."""
    if lower:
        solve_transposed(sparse, U, X)
    if upper:
        solve(sparse, U, X)


@njit
def packed_times(sparse, U, X):
    """Replace X (columns, d), in the order of elimination, by U X."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    for s in range(first.shape[0] - 1):
        length = starts[s + 1] - starts[s]
        for i in range(first[s + 1] - first[s]):
            row = panels[s] + i * length
            for w in range(X.shape[1]):
                x = 0.0
                for p in range(i, length):
                    x += U[row + p] * X[rows[starts[s] + p], w]
                X[first[s] + i, w] = x


@njit
def spread(place, first, starts, rows, panels, U, x, transposed):
    """B x, or B'x, for x (m, d) in the groups' own order and the root B = P'U^-1 P of the covariance."""
    none = np.zeros(0, np.int64)
    nothing = np.zeros(0)
    table = np.zeros((0, 0), np.int64)
    sparse = Sparse(
        table, none, none, none, first, starts, rows, panels, none, table, none, none, none, nothing, nothing, nothing
    )
    X = np.empty(x.shape)
    for g in range(x.shape[0]):
        for w in range(x.shape[1]):
            X[place[g], w] = x[g, w]
    if transposed:
        solve_transposed(sparse, U, X)
    else:
        solve(sparse, U, X)
    out = np.empty(x.shape)
    for g in range(x.shape[0]):
        for w in range(x.shape[1]):
            out[g, w] = X[place[g], w]
    return out
