"""Linear algebra in 40 digits."""

from __future__ import annotations

import numpy as np
from mpmath import mp, mpf

mp.dps = 40


def lift(array) -> np.ndarray:
    """The same numbers with 40 digits."""
    array = np.asarray(array)
    return np.array([mpf(x) for x in array.ravel().tolist()], dtype=object).reshape(array.shape)


def lower_root(V: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor."""
    L = V.copy()
    for k in range(len(L)):
        L[k, k] = mp.sqrt(L[k, k])
        L[k + 1 :, k] /= L[k, k]
        L[k, k + 1 :] = mpf(0)
        for j in range(k + 1, len(L)):
            L[j:, j] -= L[j:, k] * L[j, k]
    return L


def forward_solve(L: np.ndarray, B: np.ndarray) -> np.ndarray:
    """L^-1 B for a lower triangular L."""
    X = B.copy()
    for k in range(len(L)):
        X[k] /= L[k, k]
        for i in range(k + 1, len(L)):
            X[i] -= L[i, k] * X[k]
    return X
