"""How the kernels are compiled: by numba, once, with the result kept on disk for as long as their sources stay."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numba
from numba.core import codegen, compiler, event
from numba.core.caching import FunctionCache, IndexDataCacheFile

from bayeslmm.support.memory_limit import COMPILING_TAKES, KERNELS_TAKE, require_address_space

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
NO_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@cache
def kernel_version() -> int:
    """A number that changes with any file of this folder, which holds all that is compiled, and nothing else."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return int.from_bytes(blake2b(b"".join(sources), digest_size=7).digest(), "big")


class _Cache(FunctionCache):
    """numba's cache on disk, which by itself looks at a function's own file and not at those of what it calls."""

    def __init__(self, function: Any):
        super().__init__(function)
        stamp = (self._impl.locator.get_source_stamp(), kernel_version())
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)


class _Piece(codegen.JITCodeLibrary):
    """A function that only kernels call: LLVM optimises it, and makes machine code of it, as a part of them alone."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Null, as for all that has no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """Stands in for the engine where an address in machine code would be filled in."""
        return self

    def set_env(self, name: str, env: Any) -> None:
        """Nowhere: the environment serves functions that are called from Python."""


class _PieceCompiler(compiler.Compiler):
    def __init__(self, typing, target, library, *arguments):
        super().__init__(typing, target, library or _Piece(target.codegen(), "piece"), *arguments)


def njit(function):
    """Compile without the GIL and keep the result on disk, next to the source or in the user's cache folder.

    Where no folder can be written, the kernels are compiled anew in every process.
    """
    dispatcher = numba.njit(**OPTIONS)(function)
    with suppress(RuntimeError):  # numba found nowhere to write
        dispatcher._cache = _Cache(function)
    return dispatcher


def inner(function):
    """Compile for the kernels alone: no entry from Python, which takes longer to compile than a small function."""
    return numba.njit(pipeline_class=_PieceCompiler, **OPTIONS, **NO_ENTRY)(function)


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
            require_address_space(COMPILING_TAKES, "Compiling the kernels needs")
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
_NOTHING = nullcontext()


def first_use(dispatcher: Any, version: str = "") -> AbstractContextManager[None]:
    """Around a call of a kernel: says so if, and only if, it has to be compiled.

    Parameters
    ----------
    dispatcher : numba dispatcher
        The kernel.
    version : str
        What of it this call uses; the first call of each version is watched.
    """
    return _NOTHING if version in _used else _watched(dispatcher, version)


@contextmanager
def _watched(dispatcher: Any, version: str) -> Iterator[None]:
    require_address_space(KERNELS_TAKE, "The kernels need")
    watch = _Watch(dispatcher)
    with event.install_listener("numba:compile", watch):
        yield
    _used.add(version)
    _seconds.append(watch.seconds)


def seconds_compiling() -> float:
    """Seconds that this process spent on compiling kernels so far: 0 where they were on disk."""
    return sum(_seconds)
