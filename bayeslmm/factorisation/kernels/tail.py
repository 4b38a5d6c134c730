"""The dense tail: levels crossed with the nested chain meet in one Schur complement, left to LAPACK.

Its time is that of memory as much as of arithmetic: the Schur complement S and the factor of I + Lambda' S Lambda are
kept as upper triangles (what stands below is never read), and every pass goes along rows.

In `tests/twins.py`, where all is dense, the tail is one more group: the last step of `forward`, the first back.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.arrays import T_COLUMN, T_EFFECTS, T_GROUPS, T_LAMBDA, T_LEVEL, T_Z
from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.lapack import cholesky, inverse


@inner
def scale_rows(tail, lam, M, out):
    """Out = Lambda_T' M, block row by block row."""
    cols = M.shape[1]
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        lm = lam[tail[t, T_LAMBDA] : tail[t, T_LAMBDA] + r * r].reshape(r, r)
        for g in range(tail[t, T_GROUPS]):
            o = tail[t, T_COLUMN] + g * r
            for a in range(r):
                for c in range(cols):
                    x = 0.0
                    for k in range(r):
                        x += lm[k, a] * M[o + k, c]
                    out[o + a, c] = x


@inner
def scale_rows_transposed(tail, lam, M, out):
    """Out = Lambda_T M, block row by block row."""
    cols = M.shape[1]
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        lm = lam[tail[t, T_LAMBDA] : tail[t, T_LAMBDA] + r * r].reshape(r, r)
        for g in range(tail[t, T_GROUPS]):
            o = tail[t, T_COLUMN] + g * r
            for a in range(r):
                for c in range(cols):
                    x = 0.0
                    for k in range(r):
                        x += lm[a, k] * M[o + k, c]
                    out[o + a, c] = x


@inner
def _scale_row(tail, lam, row, out, t, g, transposed):
    """Out = row Lambda_T, or row Lambda_T' where `transposed`, from the columns of group g of level t on."""
    for u in range(t, tail.shape[0]):
        r = tail[u, T_EFFECTS]
        first = tail[u, T_COLUMN] + (g * r if u == t else 0)
        last = tail[u, T_COLUMN] + tail[u, T_GROUPS] * r
        if r == 1:
            x = lam[tail[u, T_LAMBDA]]
            for c in range(first, last):
                out[c] = row[c] * x
            continue
        lm = lam[tail[u, T_LAMBDA] : tail[u, T_LAMBDA] + r * r].reshape(r, r)
        for o in range(first, last, r):
            for a in range(r):
                x = 0.0
                for k in range(r):
                    x += row[o + k] * (lm[a, k] if transposed else lm[k, a])
                out[o + a] = x


@inner
def _mix_rows(lm, M, o, first, a, transposed, out):
    """Out = row a of lambda' M_o, or of lambda M_o where `transposed`, from column `first` on; M_o begins in row o."""
    for c in range(first, M.shape[1]):
        out[c] = 0.0
    for k in range(lm.shape[0]):
        x = lm[a, k] if transposed else lm[k, a]
        row = M[o + k]
        for c in range(first, M.shape[1]):
            out[c] += x * row[c]


@inner
def symmetrise(S):
    """Copy the upper triangle to the lower one, tile by tile."""
    n = S.shape[0]
    size = 32
    for o in range(0, n, size):
        for p in range(0, o + 1, size):
            for i in range(o, min(o + size, n)):
                for j in range(p, min(p + size, i)):
                    S[i, j] = S[j, i]


@inner
def tail_factor(tail, lam, S, U):
    """Upper Cholesky factor U of I + N, N = Lambda_T' S Lambda_T, and log|I + N|, from the upper triangle of S.

    A log determinant that is tiny itself comes from the trace: tr N - tr N^2 / 2 + O(|N|^3).
    """
    q = S.shape[0]
    half = np.empty(q)
    trace = 0.0
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        lm = lam[tail[t, T_LAMBDA] : tail[t, T_LAMBDA] + r * r].reshape(r, r)
        for g in range(tail[t, T_GROUPS]):
            o = tail[t, T_COLUMN] + g * r
            for a in range(r):  # the rows of a group begin with its whole diagonal block
                for b in range(a):
                    S[o + a, o + b] = S[o + b, o + a]
            for a in range(r):
                _mix_rows(lm, S, o, o, a, False, half)
                _scale_row(tail, lam, half, U[o + a], t, g, False)
                trace += U[o + a, o + a]
    square = np.inf
    if trace * trace <= 1e-10 * q:  # (tr N)^2 <= q |N|^2
        square = 0.0
        for i in range(q):
            square += U[i, i] * U[i, i]
            for j in range(i + 1, q):
                square += 2.0 * U[i, j] * U[i, j]
    for i in range(q):
        U[i, i] += 1.0
    if not cholesky(U):  # overflow, or rounding as large as I itself: the caller sees NaN
        U[:, :] = np.nan
    logdet = 0.0
    for i in range(q):
        logdet += 2.0 * np.log(U[i, i])
    return trace - 0.5 * square if square < 1e-10 else logdet


@inner
def solve_transposed(U, x):
    """Replace x by U'^-1 x."""
    for i in range(x.size):
        x[i] /= U[i, i]
        y = x[i]
        row = U[i]
        for k in range(i + 1, x.size):
            x[k] -= row[k] * y


@inner
def solve(U, x):
    """Replace x by U^-1 x."""
    for i in range(x.size - 1, -1, -1):
        x[i] = (x[i] - np.dot(U[i, i + 1 :], x[i + 1 :])) / U[i, i]


@inner
def tail_forward(tail, lam, parts, T):
    """Eliminate the tail: fill Lt, subtract its share from T (upper triangle), return its log determinant.

    Lt is the transpose L' of the lower Cholesky factor; of it and of S only the upper triangles are defined.
    """
    S, SW, Lt = parts.S, parts.SW, parts.Lt
    q, d = SW.shape
    logdet = tail_factor(tail, lam, S, Lt)
    half = np.empty((q, d))
    scale_rows(tail, lam, SW, half)
    V = half.T.copy()
    for w in range(d):
        solve_transposed(Lt, V[w])
    for a in range(d):
        for b in range(a, d):
            T[a, b] -= np.dot(V[a], V[b])
    return logdet


@inner
def tail_backward(tail, lam, voff, parts, pullback):
    """Modes and gradient of the tail; returns its effects' covariance C and modes b_T. S gets its lower triangle."""
    S, SW, Lt = parts.S, parts.SW, parts.Lt
    Tbar, a, b, variances, grad = pullback.Tbar, pullback.a, pullback.b, pullback.variances, pullback.gradient
    q, d = SW.shape
    C = np.empty((q, q))  # M^-1 first; row by row it becomes C = Lambda M^-1 Lambda'
    for i in range(q):
        for j in range(i, q):
            C[i, j] = Lt[i, j]
    inverse(C)
    symmetrise(C)
    symmetrise(S)
    half = np.empty((q, d))
    scale_rows(tail, lam, SW, half)
    bT = np.empty((q, d))
    scale_rows_transposed(tail, lam, np.dot(C, half), bT)
    Q = SW - np.dot(S, bT)
    QT = np.dot(Q, Tbar)
    SL = np.empty(q)
    largest = 1
    for t in range(tail.shape[0]):
        largest = max(largest, tail[t, T_EFFECTS])
    left = np.empty((largest, q))
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        lo = tail[t, T_LAMBDA]
        lm = lam[lo : lo + r * r].reshape(r, r)
        H = np.zeros((r, r))
        KL = np.zeros((r, r))  # sum of K_tt lambda = S Lambda M^-1
        for g in range(tail[t, T_GROUPS]):
            o = tail[t, T_COLUMN] + g * r
            for i in range(r):
                _scale_row(tail, lam, S[o + i], SL, 0, 0, False)
                for j in range(r):
                    KL[i, j] += np.dot(SL, C[o + j])
                for j in range(r):
                    for w in range(d):
                        H[i, j] += QT[o + i, w] * Q[o + j, w]
                for w in range(d):
                    b[tail[t, T_Z] + g * r + i, w] = bT[o + i, w]
            for i in range(r):
                _mix_rows(lm, C, o, 0, i, True, left[i])
            for i in range(r):
                _scale_row(tail, lam, left[i], C[o + i], 0, 0, True)
                for j in range(r):
                    variances[voff[tail[t, T_LEVEL]] + (g * r + i) * r + j] = C[o + i, o + j]
        for i in range(r):
            for j in range(r):
                x = a * KL[i, j]
                for k in range(r):
                    x -= H[i, k] * lm[k, j]
                grad[lo + i * r + j] += 2.0 * x
    return C, bT
