r"""The kernels: value and gradient of (log det, T) from the statistics, without the data.

With relative factor ``Lambda = blockdiag(I (x) lambda_k)`` and ``V0 = Z Lambda Lambda' Z' + I``, for any
columns ``W`` (the model's are ``[X y]``):

    log|V0|        and        T = W' V0^-1 W        (d x d)

The levels of a nested chain are eliminated group by group, leaf first, as in a multifrontal Cholesky
factorisation: the groups of a level touch only their own ancestors, so the work is linear in the number of
groups. Levels that are crossed with the chain (the tail) meet in one Schur complement, dense or sparse.

Per group, with ``A = Z_j' V_<^-1 Z_j`` and ``B = Z_j' V_<^-1 [ancestors, W]`` after its descendants were
integrated out, elimination needs

    A~ = (I + A lambda lambda')^-1 A,     B~ = (I + A lambda lambda')^-1 B,

and everything else is written in terms of these two, which are finite at lambda = 0 and keep their relative
accuracy as lambda grows: no formula here divides by lambda, and columns that lie in the span of a level's own
columns leave exactly no residue instead of one of rounding size. `forward` in `tests/twins.py` is the same in ten dense
lines.

Notes
-----
Elimination by levels follows Bates, Alday, Kleinschmidt et al., MixedModels.jl; the gradient is
``d log|V0| = 2 tr(Z' V0^-1 Z  dLambda Lambda')`` and ``d T = -2 Q' dLambda Lambda' Q`` with ``Q = Z' V0^-1 W``.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.arrays import (
    C_ANCESTORS,
    C_BLOCK,
    C_EFFECTS,
    C_GROUP,
    C_GROUPS,
    C_LAMBDA,
    C_LIST,
    C_POSITION,
    C_Z,
    C_ZZ,
    GROUP,
    KEPT,
    LOWER,
    ROOT,
    SOLVED,
    SQUARE,
    T_COLUMN,
    T_EFFECTS,
    T_GROUPS,
    T_Z,
    WHITE,
    WHITER,
)
from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.coupling import (
    couple_tail,
    subtract_from_dense,
    subtract_from_sparse,
    whiten_tail,
)
from bayeslmm.factorisation.kernels.lapack import add_outer
from bayeslmm.factorisation.kernels.sparse_tail import begin as begin_sparse
from bayeslmm.factorisation.kernels.sparse_tail import sparse_forward
from bayeslmm.factorisation.kernels.tail import tail_forward

MANY = 100  # columns of W from which on BLAS pays
PANEL = 64  # groups whose products are summed at a time


@inner
def _semidefinite_cholesky(work, r):
    """Upper R with R'R = A, the first r columns of G; a pivot that rounding made of zero leaves a zero row."""
    for k in range(r):
        pivot = work[GROUP, k, k]
        for i in range(k):
            pivot -= work[ROOT, i, k] * work[ROOT, i, k]
        for c in range(r):
            work[ROOT, k, c] = 0.0
        if pivot > 1e-14 * work[GROUP, k, k]:
            root = np.sqrt(pivot)
            work[ROOT, k, k] = root
            for c in range(k + 1, r):
                x = work[GROUP, k, c]
                for i in range(k):
                    x -= work[ROOT, i, k] * work[ROOT, i, c]
                work[ROOT, k, c] = x / root


@inner
def _cholesky(work, r):
    """Lower L with L L' = E, for a positive definite E, r x r."""
    for i in range(r):
        for j in range(i + 1):
            x = work[SQUARE, i, j]
            for k in range(j):
                x -= work[LOWER, i, k] * work[LOWER, j, k]
            if i == j:
                work[LOWER, i, i] = np.sqrt(x)
            else:
                work[LOWER, i, j] = x / work[LOWER, j, j]
                work[LOWER, j, i] = 0.0


@inner
def _eliminate(work, lam, lo, r, F, block):
    """Factor one group's small matrices, r x r each.

    R'R = A, L L' = I + R lam lam' R', F F' = lam (I + lam' A lam)^-1 lam', K = (I + A lam lam')^-1. The flat arrays
    `lam` and `F` hold theirs from `lo` and from `block` on.

    Returns log|I + lam' A lam|.
    """
    _semidefinite_cholesky(work, r)
    for i in range(r):
        for j in range(r):
            x = 0.0
            for k in range(i, r):
                x += work[ROOT, i, k] * lam[lo + k * r + j]
            work[SOLVED, i, j] = x
    # F = lam L_D^-T with D = I + X'X
    for i in range(r):
        for j in range(i + 1):
            x = 1.0 if i == j else 0.0
            for k in range(r):
                x += work[SOLVED, k, i] * work[SOLVED, k, j]
            work[SQUARE, i, j] = x
    _cholesky(work, r)
    for i in range(r):
        for j in range(r):
            x = lam[lo + i * r + j]
            for k in range(j):
                x -= F[block + i * r + k] * work[LOWER, j, k]
            F[block + i * r + j] = x / work[LOWER, j, j]
    for i in range(r):
        for j in range(i + 1):
            x = 0.0
            for k in range(r):
                x += work[SOLVED, i, k] * work[SOLVED, j, k]
            work[SQUARE, i, j] = x
    logdet = 0.0
    for i in range(r):  # Cholesky factor of I + E; a pivot's excess over one is kept apart for the log
        for j in range(i + 1):
            x = work[SQUARE, i, j]
            for k in range(j):
                x -= work[LOWER, i, k] * work[LOWER, j, k]
            if i == j:
                logdet += np.log1p(x)
                work[LOWER, i, i] = np.sqrt(1.0 + x)
            else:
                work[LOWER, i, j] = x / work[LOWER, j, j]
                work[LOWER, j, i] = 0.0
    for k in range(r):  # reciprocals, of zero pivots too: those rows stay zero
        work[SQUARE, 0, k] = 1.0 / work[ROOT, k, k] if work[ROOT, k, k] > 0.0 else 0.0
        work[SQUARE, 1, k] = 1.0 / work[LOWER, k, k]
    # K = R' E^-1 R^-T, column by column
    for c in range(r):
        for i in range(r):  # forward substitution with R'
            x = 1.0 if i == c else 0.0
            for k in range(i):
                x -= work[ROOT, k, i] * work[SOLVED, k, c]
            work[SOLVED, i, c] = x * work[SQUARE, 0, i]
        for i in range(r):
            x = work[SOLVED, i, c]
            for k in range(i):
                x -= work[LOWER, i, k] * work[SOLVED, k, c]
            work[SOLVED, i, c] = x * work[SQUARE, 1, i]
        for i in range(r - 1, -1, -1):
            x = work[SOLVED, i, c]
            for k in range(i + 1, r):
                x -= work[LOWER, k, i] * work[SOLVED, k, c]
            work[SOLVED, i, c] = x * work[SQUARE, 1, i]
        for i in range(r):
            x = 0.0
            for k in range(i + 1):
                x += work[ROOT, k, i] * work[SOLVED, k, c]
            work[KEPT, i, c] = x
    return logdet


@inner
def _eliminate_block(work, lam, lo, r, nb, parts, block, bo):
    """Eliminate one group of r > 1 effects whose own rows are G = [A | B], B with nb columns.

    Fills A~, B~, F and K = (I + A lam lam')^-1, and per column b of B the whitened s = R'^-1 b (zero where a pivot is)
    and y = L^-1 s. Returns log|I + lam' A lam|.
    """
    At, Bt = parts.At, parts.Bt
    logdet = _eliminate(work, lam, lo, r, parts.F, block)
    for b in range(r):  # X = L^-1 R, then A~ = X'X
        for a in range(r):
            x = work[ROOT, a, b]
            for k in range(a):
                x -= work[LOWER, a, k] * work[SOLVED, k, b]
            work[SOLVED, a, b] = x * work[SQUARE, 1, a]
    for a in range(r):
        for b in range(r):
            x = 0.0
            for k in range(r):
                x += work[SOLVED, k, a] * work[SOLVED, k, b]
            At[block + a * r + b] = x
    for b in range(nb):
        for i in range(r):
            x = work[GROUP, i, r + b]
            for k in range(i):
                x -= work[ROOT, k, i] * work[WHITE, k, b]
            work[WHITE, i, b] = x * work[SQUARE, 0, i]
        for i in range(r):
            x = work[WHITE, i, b]
            for k in range(i):
                x -= work[LOWER, i, k] * work[WHITER, k, b]
            work[WHITER, i, b] = x * work[SQUARE, 1, i]
        for a in range(r):
            x = 0.0
            for k in range(r):
                x += work[KEPT, a, k] * work[GROUP, k, r + b]
            Bt[bo + a * nb + b] = x
    return logdet


@inner
def _leave_one(work, lam, Bt, bo, winspan, T, left, right):
    """What one group with a single effect leaves of the products of W, as left'right; its own columns' at once in T.

    A column that lies in the group's span leaves nothing beyond what the group resolves exactly.
    """
    inverse = 1.0 / work[GROUP, 0, 0] if work[GROUP, 0, 0] > 0.0 else 0.0
    d = left.shape[0]
    for a in range(d):
        full = work[GROUP, 0, 1 + a]
        left[a] = 0.0 if winspan[0, a] else full
        right[a] = Bt[bo + a] * inverse if winspan[0, a] else -Bt[bo + a] * lam * lam
        if winspan[0, a]:
            for b in range(a, d):
                T[a, b] += full * Bt[bo + b] * inverse


@inner
def b_offsets(chain, d):
    """Where each chain level's B~ begins in the flat array, and the array's length."""
    s = chain.shape[0]
    offsets = np.zeros(s + 1, np.int64)
    for i in range(s):
        offsets[i + 1] = offsets[i] + chain[i, C_GROUPS] * chain[i, C_EFFECTS] * (chain[i, C_ANCESTORS] + d)
    return offsets


@inner
def forward(tail, sparse, tables, products, lam, parts, T):
    """Eliminate all effects: fill `parts` and T, return log|V0|.

    `tail` is the table of a dense tail, `sparse` has a sparse one; what is None has nothing of it compiled.
    """
    chain, parent, order, inspan, lists = tables.chain, tables.parent, tables.order, tables.inspan, tables.lists
    zz, zz_tail, zt, ZtW, WtW, winspan = products
    At, Bt, Bz, F, S, SW = parts.At, parts.Bt, parts.Bz, parts.F, parts.S, parts.SW
    s = chain.shape[0]
    d = WtW.shape[0]
    nt = 0
    if tail is not None:
        nt = tail.shape[0]
    if sparse is not None:
        nt = sparse.tail.shape[0]
    boff = b_offsets(chain, d)
    logdet = 0.0

    # Pairs of columns that some level resolves exactly come from that level alone.
    for a in range(d):
        for b in range(d):
            drop = False
            for i in range(s):
                drop = drop or winspan[i, a] or winspan[i, b]
            T[a, b] = 0.0 if drop else WtW[a, b]
    if sparse is not None:
        columns, pair_starts, pairs = tables.columns, sparse.pair_starts, sparse.pairs
        begin_sparse(sparse, products, parts)
    if tail is not None and nt > 0:
        for i in range(S.shape[0]):
            for j in range(i, S.shape[0]):
                S[i, j] = zz_tail[i, j]
        for t in range(nt):
            rows = tail[t, T_GROUPS] * tail[t, T_EFFECTS]
            for row in range(rows):
                for w in range(d):
                    SW[tail[t, T_COLUMN] + row, w] = ZtW[tail[t, T_Z] + row, w]
    if s > 0:
        for k in range(zt.shape[0]):
            Bz[k] = zt[k]

    widest = 0
    largest = 1
    foff = np.zeros(s + 1, np.int64)
    for i in range(s):
        c = chain[i, C_EFFECTS] + chain[i, C_ANCESTORS] + d
        foff[i + 1] = foff[i] + c * c
        widest = max(widest, c)
        largest = max(largest, chain[i, C_EFFECTS])
    fronts = np.zeros(foff[s])
    longest = 0
    if nt > 0:
        for i in range(s):
            for g in range(chain[i, C_GROUPS]):
                longest = max(longest, lists[chain[i, C_LIST] + g + 1] - lists[chain[i, C_LIST] + g])
    work = np.empty((8, max(largest, 2), max(largest, widest)))
    Vt = np.empty((largest, longest))
    Vc = np.empty((largest, widest))
    keep = np.ones((max(s, 1), largest, d))
    for i in range(s):
        for e in range(chain[i, C_EFFECTS]):
            for w in range(d):
                for j in range(i):
                    if inspan[j, chain[i, C_POSITION] + e] or winspan[j, w]:
                        keep[i, e, w] = 0.0

    # many columns of W, of one level with one effect a group: their products are summed by BLAS, some groups at a time
    panel = PANEL if s == 1 and chain[0, C_EFFECTS] == 1 and d >= MANY else 0
    left, right, held = np.empty((panel, d)), np.empty((panel, d)), 0

    level = 0
    group = 0
    while s > 0 and group < chain[0, C_GROUPS]:
        # the leaf `group`, then every ancestor whose last child has just been done
        level = 0
        g = group
        while True:
            # Everything is addressed in flat arrays: a view of a few numbers costs more than the arithmetic on them.
            r = chain[level, C_EFFECTS]
            na = chain[level, C_ANCESTORS]
            nb = na + d
            c = r + nb
            fo = foff[level]
            zoff = chain[level, C_Z] + order[chain[level, C_GROUP] + g] * r
            own = chain[level, C_ZZ] + g * r * (r + na)
            for a in range(r):
                for b in range(r + na):
                    work[GROUP, a, b] = zz[own + a * (r + na) + b]
                for w in range(d):
                    work[GROUP, a, r + na + w] = ZtW[zoff + a, w] * keep[level, a, w]
                if level > 0:
                    for b in range(a, c):
                        work[GROUP, a, b] += fronts[fo + a * c + b]
                    for b in range(a):
                        work[GROUP, a, b] += fronts[fo + b * c + a]
            lo = chain[level, C_LAMBDA]
            block = chain[level, C_BLOCK] + g * r * r
            bo = boff[level] + g * r * nb
            if r == 1:
                A = work[GROUP, 0, 0]
                x = lam[lo] * lam[lo] * A
                e = 1.0 + x
                logdet += np.log1p(x)
                F[block] = lam[lo] / np.sqrt(e)
                work[KEPT, 0, 0] = 1.0 / e
                At[block] = A / e
                for b in range(nb):
                    Bt[bo + b] = work[GROUP, 0, 1 + b] / e
            else:
                logdet += _eliminate_block(work, lam, lo, r, nb, parts, block, bo)
            # what is left for the ancestors and W
            top = level + 1 == s
            position = chain[level, C_POSITION] + r
            if panel > 0:
                _leave_one(work, lam[lo], Bt, bo, winspan, T, left[held], right[held])
                held += 1
                if held == panel:
                    add_outer(left, right, held, T)
                    held = 0
            for a in range(nb if panel == 0 else 0):
                ina = inspan[level, position + a] if a < na else winspan[level, a - na]
                for b in range(a, nb):
                    inb = inspan[level, position + b] if b < na else winspan[level, b - na]
                    if r == 1:
                        full = work[GROUP, 0, 1 + a] * Bt[bo + b]
                        if ina or inb:
                            x = full / work[GROUP, 0, 0] if work[GROUP, 0, 0] > 0.0 else 0.0
                        else:
                            x = fronts[fo + (1 + a) * c + 1 + b] - full * lam[lo] * lam[lo]
                    else:
                        x = 0.0
                        for k in range(r):
                            x += work[WHITER, k, a] * work[WHITER, k, b]
                        if not (ina or inb):
                            for k in range(r):
                                x -= work[WHITE, k, a] * work[WHITE, k, b]
                            x += fronts[fo + (r + a) * c + r + b]
                    if top:
                        T[a, b] += x
                    else:
                        fronts[foff[level + 1] + a * nb + b] += x
            if tail is not None and nt > 0:
                whiten_tail(tables, parts, level, g, work, block, Vt, Vc)
                subtract_from_dense(tables, parts, level, g, Vt, Vc)
                couple_tail(tables, parts, level, g, work, Vt, Vc)
            if sparse is not None:
                whiten_tail(tables, parts, level, g, work, block, Vt, Vc)
                first = lists[chain[level, C_LIST] + g]
                nz = lists[chain[level, C_LIST] + g + 1] - first
                place = chain[level, C_GROUP] + g
                subtract_from_sparse(pair_starts, pairs, columns, S, SW, place, first, nz, r, na, Vt, Vc)
                couple_tail(tables, parts, level, g, work, Vt, Vc)
            if level > 0:
                for k in range(fo, fo + c * c):
                    fronts[k] = 0.0
            if top:
                break
            mother = parent[chain[level, C_GROUP] + g]
            last = g + 1 == chain[level, C_GROUPS] or parent[chain[level, C_GROUP] + g + 1] != mother
            if not last:
                break
            level += 1
            g = mother
        group += 1
    if held > 0:
        add_outer(left, right, held, T)

    if tail is not None and nt > 0:
        logdet += tail_forward(tail, lam, parts, T)
    if sparse is not None:
        logdet += sparse_forward(sparse, lam, parts, T)
    for a in range(d):
        for b in range(a):
            T[a, b] = T[b, a]
    return logdet
