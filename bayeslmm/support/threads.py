"""How many threads work on what: our own over batches, one of BLAS where its matrices are small or ours are many."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np


def workers() -> int:
    """Number of threads that share a batch; results do not depend on it."""
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return max(1, min(8, count))


@cache
def _blas():
    import scipy.linalg  # noqa: F401  (loads SciPy's BLAS, so that the controller sees it)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def _control() -> Iterator[None]:
    """Context in which this thread's limits are obeyed.

    Where all threads of a process share OpenBLAS's, newer versions of threadpoolctl obey one of them alone, that which
    was the first, and ignore the others without a word. Here the last to leave restores them, whichever it is.
    """
    release = [x.clear_controlling_thread for x in _blas().lib_controllers if hasattr(x, "clear_controlling_thread")]
    for clear in release:
        clear(force=True)
    try:
        yield
    finally:
        for clear in release:
            clear(force=True)


class _Limit:
    """BLAS on one thread while anybody is inside, from whichever thread; the last to leave restores what was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limiter: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                with _control():
                    self._limiter = _blas().limit(limits=1, user_api="blas")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                with _control():
                    self._limiter.restore_original_limits()


_limit = _Limit()
if hasattr(os, "register_at_fork"):  # a thread that held the lock is not there in the child, and never lets go
    os.register_at_fork(after_in_child=lambda: setattr(_limit, "_lock", threading.Lock()))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context (or decorator) in which BLAS runs on one thread.

    On small matrices several threads are many times slower; and sums in another order are other numbers, which would
    make a seed's draws depend on the number of cores. Contexts may be nested, and may overlap in several threads.

    Examples
    --------
    >>> with one_blas_thread():
    ...     float(np.linalg.det(np.eye(3)))
    1.0
    """
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


def share(task: Callable[[int, int], None], n: int, threads: int) -> None:
    """Run task(lo, hi) over contiguous pieces of range(n), on several threads if more than one is asked for.

    Examples
    --------
    >>> seen = []
    >>> share(lambda lo, hi: seen.append((int(lo), int(hi))), 5, 1)
    >>> seen
    [(0, 5)]
    """
    pieces = list(pairwise(np.linspace(0, n, max(1, min(threads, n)) + 1).astype(int)))
    if len(pieces) == 1:
        task(*pieces[0])
        return
    with ThreadPoolExecutor(len(pieces) - 1) as pool:
        others = [pool.submit(task, lo, hi) for lo, hi in pieces[1:]]
        task(*pieces[0])
        for done in others:
            done.result()
