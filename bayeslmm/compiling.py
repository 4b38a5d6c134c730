"""How the kernels are compiled: by numba, once, with the result kept on disk."""

from __future__ import annotations

import numba


def njit(function):
    """Compile without the GIL and keep the result on disk, next to the source or in the user's cache folder.

    Where no folder can be written, the kernels are compiled anew in every process.
    """
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # numba found nowhere to write
        return numba.njit(nogil=True, error_model="numpy")(function)
