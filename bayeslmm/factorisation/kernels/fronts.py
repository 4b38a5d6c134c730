"""Cholesky factor and inverse of a sparse matrix, the inverse only where the factor has numbers; in supernodes.

The matrix and its factor are packed panel by panel. A supernode's panel has a row for each of its columns, and in it
the columns of its list: its own first, which are an upper triangle, then those of later supernodes. Small panels are
worked on by loops, large ones by BLAS and LAPACK.

In `tests/twins.py`, `packed_cholesky` and `packed_inverse` are the dense factor and the dense inverse, packed.

Source: Takahashi, Fagan & Chin (1973), Formation of a sparse bus impedance matrix: for U'U = M,
M^-1 = U^-1 U'^-1 needs of M^-1 below a panel only what is in the factor's pattern itself.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.lapack import panel_cholesky, panel_inverse, panel_square

SMALL = 400  # numbers in a panel, above which BLAS is quicker than loops


@inner
def longest_rest(sparse):
    """The most columns that a list has beyond its supernode's own, and numbers in the largest panel."""
    rest, panel = 0, 0
    for s in range(sparse.first.shape[0] - 1):
        own = sparse.first[s + 1] - sparse.first[s]
        length = sparse.starts[s + 1] - sparse.starts[s]
        rest = max(rest, length - own)
        panel = max(panel, own * length)
    return rest, panel


@inner
def _small_cholesky(panel, own, length):
    """As `lapack.panel_cholesky`, by loops along rows."""
    for i in range(own):
        a = i * length
        pivot = panel[a + i]
        if not pivot > 0.0:
            return False
        root = np.sqrt(pivot)
        for j in range(i, length):
            panel[a + j] /= root
        for k in range(i + 1, own):
            x = panel[a + k]
            b = k * length
            for j in range(k, length):
                panel[b + j] -= x * panel[a + j]
    return True


@inner
def _small_square(panel, own, length, out):
    """As `lapack.panel_square`."""
    rest = length - own
    for i in range(rest):
        for j in range(i, rest):
            out[i * rest + j] = 0.0
        for k in range(own):
            x = panel[k * length + own + i]
            row = k * length + own
            for j in range(i, rest):
                out[i * rest + j] += x * panel[row + j]


@inner
def _small_inverse(panel, own, length, after, left, out):
    """As `lapack.panel_inverse`; `after` is read above its diagonal."""
    rest = length - own
    for i in range(own - 1, -1, -1):  # Y = U^-1 B, and U^-1 in the first columns of `out`
        a = i * length
        pivot = panel[a + i]
        for j in range(rest):
            left[i * rest + j] = panel[a + own + j]
        for j in range(own):
            out[a + j] = 1.0 if i == j else 0.0
        for k in range(i + 1, own):
            x = panel[a + k]
            for j in range(rest):
                left[i * rest + j] -= x * left[k * rest + j]
            for j in range(k, own):
                out[a + j] -= x * out[k * length + j]
        for j in range(rest):
            left[i * rest + j] /= pivot
        for j in range(i, own):
            out[a + j] /= pivot
    for i in range(own):  # U^-1 U'^-1: row i needs rows from i on, which are still those of U^-1
        for j in range(i, own):
            x = 0.0
            for k in range(j, own):
                x += out[i * length + k] * out[j * length + k]
            out[i * length + j] = x
    for i in range(own):
        a = i * length + own
        for j in range(rest):
            out[a + j] = 0.0
        for k in range(rest):
            y = left[i * rest + k]
            row = k * rest
            x = y * after[row + k]
            for j in range(k + 1, rest):
                out[a + j] -= y * after[row + j]
                x += after[row + j] * left[i * rest + j]
            out[a + k] -= x
    for i in range(own):
        for j in range(i, own):
            x = 0.0
            for k in range(rest):
                x += out[i * length + own + k] * left[j * rest + k]
            out[i * length + j] -= x


@inner
def factor(sparse, U):
    """Replace the packed positive definite matrix by its upper Cholesky factor; False where it isn't that."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    runs, relative, run_starts = sparse.runs, sparse.relative, sparse.run_starts
    rest, _ = longest_rest(sparse)
    work = np.empty(rest * rest)
    for s in range(first.shape[0] - 1):
        own = first[s + 1] - first[s]
        length = starts[s + 1] - starts[s]
        panel = U[panels[s] : panels[s + 1]]
        rest = length - own
        if own * length <= SMALL:
            if not _small_cholesky(panel, own, length):
                return False
            _small_square(panel, own, length, work)
        else:
            if not panel_cholesky(panel, own, length):
                return False
            if rest > 0:
                panel_square(panel, own, length, work)
        for run in range(run_starts[s], run_starts[s + 1]):
            above, begin, end, to = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
            wide = starts[above + 1] - starts[above]
            for i in range(begin, end):
                base = panels[above] + (rows[starts[s] + i] - first[above]) * wide
                row = (i - own) * rest - own
                for j in range(i, length):
                    U[base + relative[to + j - begin]] -= work[row + j]
    return True


@inner
def solve_transposed(sparse, U, X):
    """Replace X (columns, d) by U'^-1 X."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    d = X.shape[1]
    for s in range(first.shape[0] - 1):
        length = starts[s + 1] - starts[s]
        for i in range(first[s + 1] - first[s]):
            row = panels[s] + i * length
            pivot = U[row + i]
            for w in range(d):
                X[first[s] + i, w] /= pivot
            for p in range(i + 1, length):
                u = U[row + p]
                c = rows[starts[s] + p]
                for w in range(d):
                    X[c, w] -= u * X[first[s] + i, w]


@inner
def solve(sparse, U, X):
    """Replace X (columns, d) by U^-1 X."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    d = X.shape[1]
    for s in range(first.shape[0] - 2, -1, -1):
        length = starts[s + 1] - starts[s]
        for i in range(first[s + 1] - first[s] - 1, -1, -1):
            row = panels[s] + i * length
            for p in range(i + 1, length):
                u = U[row + p]
                c = rows[starts[s] + p]
                for w in range(d):
                    X[first[s] + i, w] -= u * X[c, w]
            pivot = U[row + i]
            for w in range(d):
                X[first[s] + i, w] /= pivot


@inner
def inverse(sparse, U):
    """(U'U)^-1, packed: what of it is in the pattern of U; a panel's own square is whole."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    runs, relative, run_starts = sparse.runs, sparse.relative, sparse.run_starts
    rest, panel = longest_rest(sparse)
    after, left = np.empty(rest * rest), np.empty(panel)
    C = np.empty(U.shape[0])
    for s in range(first.shape[0] - 2, -1, -1):
        own = first[s + 1] - first[s]
        length = starts[s + 1] - starts[s]
        rest = length - own
        for run in range(run_starts[s], run_starts[s + 1]):
            above, begin, end, to = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
            wide = starts[above + 1] - starts[above]
            for i in range(begin, end):
                base = panels[above] + (rows[starts[s] + i] - first[above]) * wide
                row = (i - own) * rest - own
                for j in range(i, length):
                    after[row + j] = C[base + relative[to + j - begin]]
        given, out = U[panels[s] : panels[s + 1]], C[panels[s] : panels[s + 1]]
        if own * length <= SMALL:
            _small_inverse(given, own, length, after, left, out)
        else:
            panel_inverse(given, own, length, after, left, out)
        for i in range(own):
            for j in range(i):
                out[i * length + j] = out[j * length + i]
    return C
