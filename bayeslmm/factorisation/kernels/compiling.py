"""How the kernels are compiled: by numba, once, with the result kept on disk."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import event

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


class _Watch(event.Listener):
    """Hears of every compilation that numba begins, which it doesn't where it finds the result on disk."""

    def __init__(self, dispatcher: Any):
        self.dispatcher = dispatcher
        self.depth = 0
        self.began = self.seconds = 0.0

    def on_start(self, event: Any) -> None:
        if self.depth == 0:
            self.began = time.perf_counter()
            if self.dispatcher is event.data["dispatcher"]:
                print(f"bayeslmm compiles its kernels, {_how_often(self.dispatcher)} ...", file=sys.stderr)
        self.depth += 1

    def on_end(self, event: Any) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.began


def _how_often(dispatcher: Any) -> str:
    kept = getattr(dispatcher._cache, "cache_path", None) is not None
    return "once per installation" if kept else "in every process, as no folder that can be written keeps them"


_used: set[str] = set()
_seconds: list[float] = []


@contextmanager
def first_use(dispatcher: Any, version: str = "") -> Iterator[None]:
    """Around a call of a kernel: says so if, and only if, it has to be compiled.

    Parameters
    ----------
    dispatcher : numba dispatcher
        The kernel.
    version : str
        What of it this call uses; the first call of each version is watched.
    """
    if version in _used:
        yield
        return
    watch = _Watch(dispatcher)
    with event.install_listener("numba:compile", watch):
        yield
    _used.add(version)
    _seconds.append(watch.seconds)


def seconds_compiling() -> float:
    """Seconds that this process spent on compiling kernels so far: 0 where they were on disk."""
    return sum(_seconds)
