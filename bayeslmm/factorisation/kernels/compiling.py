"""How the kernels are compiled: by numba, once, with the result kept on disk for as long as their sources stay."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numba
from numba.core import codegen, compiler, event, serialize
from numba.core.caching import FunctionCache

from bayeslmm.support.files import write_whole
from bayeslmm.support.memory_limit import COMPILING_TAKES, KERNELS_TAKE, require_address_space

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_DIGEST = 32  # bytes
_unkept: list[str] = []  # why kernels could not be kept
NO_ENTRY: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@cache
def kernel_version() -> int:
    """A number that changes with any file of this folder, which holds all that is compiled, and nothing else."""
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return int.from_bytes(blake2b(b"".join(sources), digest_size=7).digest(), "big")


class _Store:
    """The files of a kernel's cache: one per signature, with the hash of its content, what it is for, and of when.

    numba's own have an index beside the data: where the disk is full, or two processes write at once, that may point to
    the code of an older version, or of another signature.
    """

    def __init__(self, folder: str, base: str, stamp: Any):
        self.folder, self.base, self.stamp = Path(folder), base, stamp

    def _path(self, key: Any) -> Path:
        return self.folder / f"{self.base}.{blake2b(repr(key).encode(), digest_size=8).hexdigest()}.nbc"

    def flush(self) -> None:
        """Forget all of it."""
        for path in self.folder.glob(f"{self.base}.*.nbc"):
            path.unlink(missing_ok=True)

    def load(self, key: Any) -> Any:
        """What is kept for a signature; None where that is nothing, or older, or damaged."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST], content[_DIGEST:]
        if blake2b(data, digest_size=_DIGEST).digest() != digest:
            return None
        stamp, of, kept = pickle.loads(data)
        return kept if (stamp, of) == (self.stamp, key) else None

    def save(self, key: Any, made: Any) -> None:
        """Keep what was made for a signature, whole or not at all."""
        data = serialize.dumps((self.stamp, key, made))
        content = blake2b(data, digest_size=_DIGEST).digest() + data
        write_whole(self._path(key), lambda part: part.write_bytes(content))


class _Cache(FunctionCache):
    """numba's cache on disk, which by itself looks at a function's own file and not at those of what it calls."""

    def __init__(self, function: Any):
        super().__init__(function)
        stamp = (numba.__version__, self._impl.locator.get_source_stamp(), kernel_version())
        self._cache_file = _Store(self.cache_path, self._impl.filename_base, stamp)  # type: ignore[assignment]

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel; where the disk is full that is said, and the kernel used all the same."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            if not _unkept:
                print(
                    f"bayeslmm: the compiled kernels cannot be kept in {self.cache_path} ({error.strerror}), and are "
                    "compiled again in the next process.",
                    file=sys.stderr,
                )
            _unkept.append(str(error))


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
