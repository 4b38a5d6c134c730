"""The sparse tail: levels crossed with the chain, few pairs of whose groups meet, as a factorisation in supernodes.

It does what `tail` does, with the Schur complement S, the factor of I + Lambda' S Lambda and what is needed of its
inverse packed as in `fronts`. A group's effects stand together, in one and the same supernode.

Where groups have a known precision, effects u = Lambda v have v ~ N(0, Q^-1) instead of v ~ N(0, I): Q stands in the
place of I, and log|Q| is subtracted. Nothing is divided by lambda or by Q.

Its numbers are those of the dense tail: `forward`, `draw` and `backward` in `tests/twins.py`.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.arrays import T_EFFECTS, T_GROUPS, T_LAMBDA, T_LEVEL, T_Z
from bayeslmm.factorisation.kernels.compiling import inlined, inner
from bayeslmm.factorisation.kernels.fronts import factor, inverse, solve, solve_transposed


@inner
def begin(sparse, products, parts):
    """S and SW before anything is eliminated: the tail's own products."""
    tail, column = sparse.tail, sparse.column
    S, SW, zz_tail, ZtW = parts.S, parts.SW, products.zz_tail, products.ZtW
    for k in range(S.shape[0]):
        S[k] = zz_tail[k]
    node = 0
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        for g in range(tail[t, T_GROUPS]):
            for i in range(r):
                for w in range(SW.shape[1]):
                    SW[column[node] + i, w] = ZtW[tail[t, T_Z] + g * r + i, w]
            node += 1


@inner
def _largest(tail):
    """The most effects of a level."""
    largest = 1
    for t in range(tail.shape[0]):
        largest = max(largest, tail[t, T_EFFECTS])
    return largest


@inner
def scale_columns(sparse, lam, X, transposed):
    """Replace X (columns, d) by Lambda' X, or by Lambda X where `transposed`."""
    tail, level = sparse.tail, sparse.level
    kept = np.empty(_largest(tail))
    o = 0
    while o < X.shape[0]:
        r, lo = tail[level[o], T_EFFECTS], tail[level[o], T_LAMBDA]
        for w in range(X.shape[1]):
            for k in range(r):
                kept[k] = X[o + k, w]
            for a in range(r):
                x = 0.0
                for k in range(r):
                    x += lam[lo + (a * r + k if transposed else k * r + a)] * kept[k]
                X[o + a, w] = x
        o += r


@inlined
def _scale_row(tail, level, rows, lam, half, a, begin, end, start, out, row, transposed):
    """A panel's row, at `row` of `out`, = row a of half Lambda, or of half Lambda', from place `begin` on."""
    p = begin
    while p < end:
        u = level[rows[start + p]]
        lo = tail[u, T_LAMBDA]
        if tail[u, T_EFFECTS] == 1:
            out[row + p] = half[a, p] * lam[lo]
            p += 1
            continue
        r = tail[u, T_EFFECTS]
        for b in range(r):
            x = 0.0
            for k in range(r):
                x += half[a, p + k] * lam[lo + (b * r + k if transposed else k * r + b)]
            out[row + p + b] = x
        p += r


@inner
def scale(sparse, lam, S, out, transposed):
    """Out = Lambda' S Lambda, or Lambda S Lambda' where `transposed`, packed; groups' own blocks of S become whole."""
    tail, level, rows = sparse.tail, sparse.level, sparse.rows
    firsts, starts, panels = sparse.first, sparse.starts, sparse.panels
    longest = 1
    for s in range(firsts.shape[0] - 1):
        longest = max(longest, starts[s + 1] - starts[s])
    half = np.empty((_largest(tail), longest))
    for s in range(firsts.shape[0] - 1):
        first, start, panel = firsts[s], starts[s], panels[s]
        length = starts[s + 1] - start
        o = 0
        while first + o < firsts[s + 1]:
            r, lo = tail[level[first + o], T_EFFECTS], tail[level[first + o], T_LAMBDA]
            for a in range(r):
                for b in range(a):
                    S[panel + (o + a) * length + o + b] = S[panel + (o + b) * length + o + a]
            for a in range(r):
                for p in range(o, length):
                    half[a, p] = 0.0
                for k in range(r):
                    x = lam[lo + (a * r + k if transposed else k * r + a)]
                    row = panel + (o + k) * length
                    for p in range(o, length):
                        half[a, p] += x * S[row + p]
            for a in range(r):
                row = panel + (o + a) * length
                _scale_row(tail, level, rows, lam, half, a, o, length, start, out, row, transposed)
            o += r


@inner
def _diagonal(sparse):
    """Where the diagonal stands in packed arrays."""
    first, starts, panels = sparse.first, sparse.starts, sparse.panels
    out = np.empty(sparse.level.shape[0], np.int64)
    for s in range(first.shape[0] - 1):
        for i in range(first[s + 1] - first[s]):
            out[first[s] + i] = panels[s] + i * (starts[s + 1] - starts[s] + 1)
    return out


@inner
def _trace_of_product(sparse, A, B):
    """tr(A B) of two symmetric matrices of which packed arrays have the upper triangles."""
    first, starts, panels = sparse.first, sparse.starts, sparse.panels
    total = 0.0
    for s in range(first.shape[0] - 1):
        length = starts[s + 1] - starts[s]
        for i in range(first[s + 1] - first[s]):
            row = panels[s] + i * length
            total += A[row + i] * B[row + i]
            for p in range(i + 1, length):
                total += 2.0 * A[row + p] * B[row + p]
    return total


@inner
def _factor(sparse, lam, S, U):
    """Factor U of Q + N, N = Lambda' S Lambda, and log|Q + N| - log|Q|; Q is I without known precisions.

    A tiny log determinant comes from the trace, as in `tail.tail_factor`: tr(Q^-1 N), with at most half its square off.
    """
    scale(sparse, lam, S, U, False)
    diagonal = _diagonal(sparse)
    logs = sparse.precision_logs
    known = logs.shape[0] > 0
    near = 0.0  # the log determinant where it is tiny
    tiny = False
    if known:
        near = _trace_of_product(sparse, sparse.precision_inverse, U)
        tiny = near < 1e-7
        for k in range(U.shape[0]):
            U[k] += sparse.precision[k]
    else:
        trace = 0.0
        for k in diagonal:
            trace += U[k]
        if trace * trace <= 1e-10 * diagonal.shape[0]:
            square = _trace_of_product(sparse, U, U)
            near = trace - 0.5 * square
            tiny = square < 1e-10
        for k in diagonal:
            U[k] += 1.0
    if not factor(sparse, U):  # overflow, or rounding as large as I itself: the caller sees NaN
        U[:] = np.nan
    logdet = 0.0
    for i in range(diagonal.shape[0]):
        logdet += 2.0 * np.log(U[diagonal[i]]) - (logs[i] if known else 0.0)
    return near if tiny else logdet


@inner
def sparse_forward(sparse, lam, parts, T):
    """Eliminate the tail: fill Lt, subtract its share from T (upper triangle), return its log determinant."""
    logdet = _factor(sparse, lam, parts.S, parts.Lt)
    half = parts.SW.copy()
    scale_columns(sparse, lam, half, False)
    solve_transposed(sparse, parts.Lt, half)
    for i in range(half.shape[0]):
        for a in range(T.shape[0]):
            x = half[i, a]
            for b in range(a, T.shape[0]):
                T[a, b] -= x * half[i, b]
    return logdet


@inner
def sparse_draw(sparse, lam, parts, draws):
    """The tail's effects b_T, from the standard normals of `draws`; b has them too."""
    tail, column = sparse.tail, sparse.column
    v, sigma, z, b = draws
    X = np.dot(parts.SW, v.reshape(v.shape[0], 1))
    scale_columns(sparse, lam, X, False)
    solve_transposed(sparse, parts.Lt, X)
    node = 0
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        for i in range(tail[t, T_GROUPS] * r):
            X[column[node + i // r] + i % r, 0] += sigma * z[tail[t, T_Z] + i]
        node += tail[t, T_GROUPS]
    solve(sparse, parts.Lt, X)
    scale_columns(sparse, lam, X, True)
    node = 0
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        for i in range(tail[t, T_GROUPS] * r):
            b[tail[t, T_Z] + i] = X[column[node + i // r] + i % r, 0]
        node += tail[t, T_GROUPS]
    return X.reshape(X.shape[0])


@inner
def _residual_products(sparse, S, SW, bT):
    """Q = SW - S b_T."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    Q = SW.copy()
    d = Q.shape[1]
    for s in range(first.shape[0] - 1):
        length = starts[s + 1] - starts[s]
        for i in range(first[s + 1] - first[s]):
            row = panels[s] + i * length
            c = first[s] + i
            for w in range(d):
                Q[c, w] -= S[row + i] * bT[c, w]
            for p in range(i + 1, length):
                x = S[row + p]
                e = rows[starts[s] + p]
                for w in range(d):
                    Q[c, w] -= x * bT[e, w]
                    Q[e, w] -= x * bT[c, w]
    return Q


@inlined
def _add_pair(S, C, at, length, r, width, lam, lo, lo_other, KL, distinct):
    """Add two groups' part to sums of K lambda = S Lambda M^-1: from their block of S and of C = M^-1, in a panel.

    The block is r x width, from `at` on in rows of this length; its mirror image counts where the groups are distinct.
    """
    for i in range(r):
        for m in range(width):
            x = 0.0
            for k in range(width):
                x += S[at + i * length + k] * lam[lo_other + k * width + m]
            for j in range(r):
                KL[lo + i * r + j] += x * C[at + j * length + m]
    if distinct:
        for i in range(width):
            for m in range(r):
                x = 0.0
                for k in range(r):
                    x += S[at + k * length + i] * lam[lo + k * r + m]
                for j in range(width):
                    KL[lo_other + i * width + j] += x * C[at + m * length + j]


@inner
def _sums_of_K_lambda(sparse, lam, S, C):
    """Per level of the tail, sum_g K_gg lambda = (S Lambda M^-1)_gg, flat as lambda is."""
    tail, level, rows = sparse.tail, sparse.level, sparse.rows
    firsts, starts, panels = sparse.first, sparse.starts, sparse.panels
    KL = np.zeros(lam.shape[0])
    for s in range(firsts.shape[0] - 1):
        first, start, panel = firsts[s], starts[s], panels[s]
        own = firsts[s + 1] - first
        length = starts[s + 1] - start
        o = 0
        while o < own:
            t = level[first + o]
            r, lo = tail[t, T_EFFECTS], tail[t, T_LAMBDA]
            p = o
            while p < length:
                u = level[rows[start + p]]
                width, to = tail[u, T_EFFECTS], tail[u, T_LAMBDA]
                at = panel + o * length + p
                if r == 1 and width == 1:
                    x = S[at] * C[at]
                    KL[lo] += x * lam[to]
                    if p > o:
                        KL[to] += x * lam[lo]
                else:
                    _add_pair(S, C, at, length, r, width, lam, lo, to, KL, p > o)
                p += width
            o += r
    return KL


@inner
def sparse_backward(sparse, lam, voff, parts, pullback):
    """Modes and gradient of the tail; returns its effects' covariance C, packed, and modes b_T."""
    tail, column, of = sparse.tail, sparse.column, sparse.of
    first, starts, panels = sparse.first, sparse.starts, sparse.panels
    S, SW, Lt = parts.S, parts.SW, parts.Lt
    Tbar, a, b, variances, grad = pullback.Tbar, pullback.a, pullback.b, pullback.variances, pullback.gradient
    d = SW.shape[1]
    bT = SW.copy()
    scale_columns(sparse, lam, bT, False)
    solve_transposed(sparse, Lt, bT)
    solve(sparse, Lt, bT)
    v = bT.copy()
    scale_columns(sparse, lam, bT, True)
    QT = np.dot(_residual_products(sparse, S, SW, bT), Tbar)
    C = inverse(sparse, Lt)
    KL = _sums_of_K_lambda(sparse, lam, S, C)
    scale(sparse, lam, C, C, True)
    node = 0
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        lo = tail[t, T_LAMBDA]
        H = np.zeros((r, r))
        for g in range(tail[t, T_GROUPS]):
            o = column[node]
            length = starts[of[o] + 1] - starts[of[o]]
            at = panels[of[o]] + (o - first[of[o]]) * (length + 1)
            for i in range(r):
                for w in range(d):
                    b[tail[t, T_Z] + g * r + i, w] = bT[o + i, w]
                for j in range(r):
                    for w in range(d):
                        H[i, j] += QT[o + i, w] * v[o + j, w]
                    variances[voff[tail[t, T_LEVEL]] + (g * r + i) * r + j] = C[at + i * length + j]
            node += 1
        for i in range(r):
            for j in range(r):
                grad[lo + i * r + j] += 2.0 * (a * KL[lo + i * r + j] - H[i, j])
    return C, bT


@inner
def cotangents_of_products(sparse, a, Tbar, C, bT, out):
    """Out = those of the packed products: a C + b Tbar b', twice above the diagonal: one number stands for two."""
    first, starts, panels, rows = sparse.first, sparse.starts, sparse.panels, sparse.rows
    bTbar = np.dot(bT, Tbar)
    for s in range(first.shape[0] - 1):
        length = starts[s + 1] - starts[s]
        for i in range(first[s + 1] - first[s]):
            row = panels[s] + i * length
            c = first[s] + i
            for p in range(length):
                x = 0.0
                if p >= i:
                    e = rows[starts[s] + p]
                    x = a * C[row + p]
                    for w in range(bT.shape[1]):
                        x += bTbar[c, w] * bT[e, w]
                out[row + p] = x if p == i else 2.0 * x
