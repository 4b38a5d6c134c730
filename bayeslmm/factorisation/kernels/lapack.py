"""SciPy's LAPACK and BLAS inside the kernels, in place on upper triangles of C-ordered matrices (their lower ones).

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


def _routine(name: str, *arguments, library: str = "lapack") -> Any:
    symbol = f"bayeslmm_{name}"
    llvmlite.binding.add_symbol(symbol, get_cython_function_address(f"scipy.linalg.cython_{library}", name))
    return types.ExternalFunction(symbol, types.void(*arguments))


_dpotrf = _routine("dpotrf", _CHAR, _INT, _DOUBLE, _INT, _INT)  # uplo, n, a, lda, info
_dpotri = _routine("dpotri", _CHAR, _INT, _DOUBLE, _INT, _INT)
_MATRICES = (_DOUBLE, _DOUBLE, _INT, _DOUBLE, _INT)  # alpha, a, lda, b, ldb
_dtrsm = _routine("dtrsm", *(_CHAR,) * 4, _INT, _INT, *_MATRICES, library="blas")  # side, uplo, trans, diag, m, n
_dsyrk = _routine("dsyrk", _CHAR, _CHAR, _INT, _INT, _DOUBLE, _DOUBLE, _INT, _DOUBLE, _DOUBLE, _INT, library="blas")
_dsymm = _routine("dsymm", _CHAR, _CHAR, _INT, _INT, *_MATRICES, _DOUBLE, _DOUBLE, _INT, library="blas")
_dgemm = _routine("dgemm", _CHAR, _CHAR, *(_INT,) * 3, *_MATRICES, _DOUBLE, _DOUBLE, _INT, library="blas")


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


# A panel is flat: rows `own` of length `length`, the first `own` columns of which are an upper triangle. In Fortran's
# order it is the trapezoid of a lower factor, `length` x `own`.


@inner
def panel_cholesky(panel, own, length):
    """Replace the rows [A B] of a positive definite matrix by [U U'^-1 B], U'U = A; False where A isn't that."""
    code = np.array([ord("L"), ord("R"), ord("T"), ord("N")], np.uint8)
    sizes = np.array([own, length, length - own, 0], np.int64)
    one = np.ones(1)
    uplo, side, trans, diag = code[0:1].ctypes, code[1:2].ctypes, code[2:3].ctypes, code[3:4].ctypes
    n, lda, m = sizes[0:1].ctypes, sizes[1:2].ctypes, sizes[2:3].ctypes
    _dpotrf(uplo, n, panel.ctypes, lda, sizes[3:4].ctypes)
    if sizes[3] != 0:
        return False
    if length > own:
        _dtrsm(side, uplo, trans, diag, m, n, one.ctypes, panel.ctypes, lda, panel[own:].ctypes, lda)
    return True


@inner
def panel_square(panel, own, length, out):
    """Out = B'B (upper triangle) of the panel [U B]."""
    code = np.array([ord("L"), ord("N")], np.uint8)
    sizes = np.array([own, length, length - own], np.int64)
    k, lda, n = sizes[0:1].ctypes, sizes[1:2].ctypes, sizes[2:3].ctypes
    numbers = np.array([1.0, 0.0])
    alpha, beta = numbers[0:1].ctypes, numbers[1:2].ctypes
    _dsyrk(code[0:1].ctypes, code[1:2].ctypes, n, k, alpha, panel[own:].ctypes, lda, beta, out.ctypes, n)


@inner
def add_outer(left, right, count, out):
    """Out += left' right, of the first `count` rows of both, (k, d) in row order."""
    d = out.shape[0]
    code = np.array([ord("N"), ord("T")], np.uint8)
    none, trans = code[0:1].ctypes, code[1:2].ctypes
    sizes = np.array([d, count], np.int64)
    n, k = sizes[0:1].ctypes, sizes[1:2].ctypes
    numbers = np.array([1.0])
    one = numbers[0:1].ctypes
    _dgemm(none, trans, n, n, k, one, right.ctypes, n, left.ctypes, n, one, out.ctypes, n)


@inner
def panel_inverse(panel, own, length, after, left, out):
    """Out = the rows of the inverse of the whole matrix, from the factor's panel [U B] and the inverse `after` it.

    With Y = U^-1 B they are [(U'U)^-1 + Y A Y', -Y A], A the inverse's rows and columns of B's columns: `after`,
    of which the upper triangle is read. `left` is room for Y.
    """
    rest = length - own
    code = np.array([ord("L"), ord("R"), ord("T"), ord("N")], np.uint8)
    lower, right, trans, none = code[0:1].ctypes, code[1:2].ctypes, code[2:3].ctypes, code[3:4].ctypes
    sizes = np.array([own, length, rest, 0], np.int64)
    n, lda, m, info = sizes[0:1].ctypes, sizes[1:2].ctypes, sizes[2:3].ctypes, sizes[3:4].ctypes
    numbers = np.array([1.0, 0.0, -1.0])
    one, zero, minus = numbers[0:1].ctypes, numbers[1:2].ctypes, numbers[2:3].ctypes
    for i in range(own):
        for j in range(own):
            out[i * length + j] = panel[i * length + j] if j >= i else 0.0
        for j in range(rest):
            left[i * rest + j] = panel[i * length + own + j]
    _dpotri(lower, n, out.ctypes, lda, info)
    if rest > 0:
        beyond = out[own:].ctypes
        _dtrsm(right, lower, none, none, m, n, one, panel.ctypes, lda, left.ctypes, m)
        _dsymm(lower, lower, m, n, minus, after.ctypes, m, left.ctypes, m, zero, beyond, lda)
        _dgemm(trans, none, n, n, m, minus, left.ctypes, m, beyond, lda, one, out.ctypes, lda)
