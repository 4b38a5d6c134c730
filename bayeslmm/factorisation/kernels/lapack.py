"""SciPy's LAPACK inside the kernels, in place on the upper triangle of a C-ordered matrix (LAPACK's lower one).

numba's own `np.linalg` copies a matrix into Fortran order and back, which takes as long as the factorisation itself.
The routines are known to compiled code by name, so that it can be kept on disk: the name is bound anew in every
process, as numba does it for its own. Their dense twins are `np.linalg.cholesky` and `np.linalg.inv`.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from numba import types
from numba.extending import get_cython_function_address

from bayeslmm.factorisation.kernels.compiling import inner

# 64 bits serve LAPACKs with integers of either size: one of 32 bits reads the lower half, which comes first.
_CHAR, _INT, _DOUBLE = types.CPointer(types.uint8), types.CPointer(types.int64), types.CPointer(types.float64)


def _routine(name: str, *arguments) -> Any:
    symbol = f"bayeslmm_{name}"
    llvmlite.binding.add_symbol(symbol, get_cython_function_address("scipy.linalg.cython_lapack", name))
    return types.ExternalFunction(symbol, types.void(*arguments))


_dpotrf = _routine("dpotrf", _CHAR, _INT, _DOUBLE, _INT, _INT)  # uplo, n, a, lda, info
_dpotri = _routine("dpotri", _CHAR, _INT, _DOUBLE, _INT, _INT)


@inner
def cholesky(A):
    """Replace the upper triangle of A by that of U with U'U = A; False where A isn't positive definite."""
    uplo = np.array([ord("L")], np.uint8)
    n = np.array([A.shape[0]], np.int64)
    info = np.zeros(1, np.int64)
    if A.shape[0] > 0:
        _dpotrf(uplo.ctypes, n.ctypes, A.ctypes, n.ctypes, info.ctypes)
    return info[0] == 0


@inner
def inverse(U):
    """Replace the upper triangle U of a Cholesky factor by that of (U'U)^-1."""
    uplo = np.array([ord("L")], np.uint8)
    n = np.array([U.shape[0]], np.int64)
    info = np.zeros(1, np.int64)
    if U.shape[0] > 0:
        _dpotri(uplo.ctypes, n.ctypes, U.ctypes, n.ctypes, info.ctypes)
