"""The dense tail: levels crossed with the nested chain meet in one Schur complement, left to BLAS and LAPACK."""

from __future__ import annotations

import numpy as np

from bayeslmm.compiling import njit

# Columns of the table `tail`, one row per level outside the chain.
(T_LEVEL, T_GROUPS, T_EFFECTS, T_Z, T_LAMBDA, T_COLUMN) = range(6)


@njit
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


@njit
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


@njit
def scale_columns(tail, lam, M, out, transposed):
    """Out = M Lambda_T, or M Lambda_T' where `transposed`."""
    for i in range(M.shape[0]):
        for t in range(tail.shape[0]):
            r = tail[t, T_EFFECTS]
            lm = lam[tail[t, T_LAMBDA] : tail[t, T_LAMBDA] + r * r].reshape(r, r)
            for g in range(tail[t, T_GROUPS]):
                o = tail[t, T_COLUMN] + g * r
                for a in range(r):
                    x = 0.0
                    for k in range(r):
                        x += M[i, o + k] * (lm[a, k] if transposed else lm[k, a])
                    out[i, o + a] = x


@njit
def symmetrise(S):
    """Copy the lower triangle to the upper one."""
    for i in range(S.shape[0]):
        for j in range(i):
            S[j, i] = S[i, j]


@njit
def tail_factor(tail, lam, S):
    """Lower Cholesky factor of I + N, N = Lambda_T' S Lambda_T with S symmetric, and log|I + N|.

    A log determinant that is tiny itself comes from the trace: tr N - tr N^2 / 2 + O(|N|^3).
    """
    half = np.empty_like(S)
    scale_rows(tail, lam, S, half)
    M = np.empty_like(S)
    scale_columns(tail, lam, half, M, False)
    trace = 0.0
    square = 0.0
    for i in range(M.shape[0]):
        for j in range(M.shape[1]):
            square += M[i, j] * M[i, j]
        trace += M[i, i]
        M[i, i] += 1.0
    try:
        L = np.linalg.cholesky(M)
    except Exception:  # overflow, or rounding as large as I itself: the caller sees NaN
        L = np.full_like(M, np.nan)
    logdet = 0.0
    for i in range(M.shape[0]):
        logdet += 2.0 * np.log(L[i, i])
    return L, trace - 0.5 * square if square < 1e-10 else logdet


@njit
def tail_forward(tail, lam, S, SW, Lt, T):
    """Eliminate the tail: fill Lt, subtract its share from T (upper triangle), return its log determinant."""
    q, d = SW.shape
    symmetrise(S)
    L, logdet = tail_factor(tail, lam, S)
    Lt[:, :] = L
    V = np.empty((q, d))
    scale_rows(tail, lam, SW, V)
    for i in range(q):
        for w in range(d):
            x = V[i, w]
            for k in range(i):
                x -= L[i, k] * V[k, w]
            V[i, w] = x / L[i, i]
    for a in range(d):
        for b in range(a, d):
            x = 0.0
            for i in range(q):
                x += V[i, a] * V[i, b]
            T[a, b] -= x
    return logdet


@njit
def _invert_lower(L):
    """Inverse of a lower triangular matrix by doubling blocks, so that the work is in matrix products."""
    n = L.shape[0]
    X = np.zeros_like(L)
    size = 32
    for o in range(0, n, size):
        e = min(o + size, n)
        for c in range(o, e):
            X[c, c] = 1.0 / L[c, c]
            for i in range(c + 1, e):
                x = 0.0
                for k in range(c, i):
                    x -= L[i, k] * X[k, c]
                X[i, c] = x / L[i, i]
    while size < n:
        for o in range(0, n - size, 2 * size):
            m = o + size
            e = min(m + size, n)
            C = np.dot(np.ascontiguousarray(L[m:e, o:m]), np.ascontiguousarray(X[o:m, o:m]))
            X[m:e, o:m] = -np.dot(np.ascontiguousarray(X[m:e, m:e]), C)
        size *= 2
    return X


@njit
def _gram_of_lower(X):
    """X'X for a lower triangular X, by blocks that skip the zeros."""
    n = X.shape[0]
    G = np.empty_like(X)
    size = 128
    for o in range(0, n, size):
        e = min(o + size, n)
        left = np.ascontiguousarray(X[o:, o:e])
        G[o:e, :e] = np.dot(left.T, np.ascontiguousarray(X[o:, :e]))
        for i in range(o, e):
            for j in range(i):
                G[j, i] = G[i, j]
    return G


@njit
def tail_backward(tail, lam, S, SW, Lt, Tbar, a, b, variances, voff, grad):
    """Modes and gradient of the tail; returns its effects' covariance C and modes b_T."""
    q, d = SW.shape
    X = _invert_lower(Lt)
    Minv = _gram_of_lower(X)
    half = np.empty((q, d))
    scale_rows(tail, lam, SW, half)
    bT = np.empty((q, d))
    scale_rows_transposed(tail, lam, np.dot(Minv, half), bT)
    left = np.empty((q, q))
    scale_rows_transposed(tail, lam, Minv, left)
    C = np.empty((q, q))
    scale_columns(tail, lam, left, C, True)
    Q = SW - np.dot(S, bT)
    SL = np.empty((q, q))  # S Lambda, by symmetry (Lambda' S)'
    scale_columns(tail, lam, S, SL, False)
    QT = np.dot(Q, Tbar)
    for t in range(tail.shape[0]):
        r = tail[t, T_EFFECTS]
        lo = tail[t, T_LAMBDA]
        lm = lam[lo : lo + r * r].reshape(r, r)
        H = np.zeros((r, r))
        KL = np.zeros((r, r))  # sum of K_tt lambda = (lambda' K_tt)'
        for g in range(tail[t, T_GROUPS]):
            o = tail[t, T_COLUMN] + g * r
            for i in range(r):
                for w in range(d):
                    b[tail[t, T_Z] + g * r + i, w] = bT[o + i, w]
                for j in range(r):
                    x = 0.0
                    for w in range(d):
                        x += QT[o + i, w] * Q[o + j, w]
                    H[i, j] += x
                    x = 0.0
                    for c in range(q):
                        x += Minv[o + i, c] * SL[o + j, c]
                    KL[j, i] += x
                    variances[voff[tail[t, T_LEVEL]] + (g * r + i) * r + j] = C[o + i, o + j]
        for i in range(r):
            for j in range(r):
                x = a * KL[i, j]
                for k in range(r):
                    x -= H[i, k] * lm[k, j]
                grad[lo + i * r + j] += 2.0 * x
    return C, bT
