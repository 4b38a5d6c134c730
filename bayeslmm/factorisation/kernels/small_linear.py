"""Cholesky factors of a few rows, in place, without LAPACK."""

from __future__ import annotations

import math

from bayeslmm.factorisation.kernels.compiling import inner


@inner
def factor(L, A, r, at):
    """L L' = I + A[at:, at:]; diagonal where that isn't positive definite."""
    for p in range(r):
        for q in range(p + 1):
            x = A[at + p, at + q]
            if p == q:
                x += 1.0
            for s in range(q):
                x -= L[p, s] * L[q, s]
            if p == q:
                if not x > 1e-8:
                    for s in range(r):
                        for t in range(s):
                            L[s, t] = 0.0
                        L[s, s] = math.sqrt(1.0 + max(A[at + s, at + s], 0.0))
                    return
                L[p, p] = math.sqrt(x)
            else:
                L[p, q] = x / L[q, q]


@inner
def down(L, r, x):
    """L^-1 x in place."""
    for p in range(r):
        for q in range(p):
            x[p] -= L[p, q] * x[q]
        x[p] /= L[p, p]


@inner
def up(L, r, x):
    """L^-T x in place."""
    for p in range(r - 1, -1, -1):
        for q in range(p + 1, r):
            x[p] -= L[q, p] * x[q]
        x[p] /= L[p, p]
