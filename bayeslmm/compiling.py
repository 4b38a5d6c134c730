"""How the kernels are compiled: by numba, once, with the result kept on disk."""

from __future__ import annotations

from typing import Any

import numba

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
NO_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def njit(function):
    """Compile without the GIL and keep the result on disk, next to the source or in the user's cache folder.

    Where no folder can be written, the kernels are compiled anew in every process.
    """
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # numba found nowhere to write
        return numba.njit(**OPTIONS)(function)


def inner(function):
    """Compile for the kernels alone: no entry from Python, which takes longer to compile than a small function."""
    return numba.njit(**OPTIONS, **NO_ENTRY)(function)


def inlined(function):
    """Compile into the caller: for a function with many arrays, whose references cost more to count than its work."""
    return numba.njit(inline="always", **OPTIONS)(function)
