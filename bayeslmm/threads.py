"""How many threads work on what: our own over batches, one of BLAS where its matrices are small or ours are many."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

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


def one_blas_thread():
    """Context in which BLAS runs on one thread: on small matrices several are many times slower.

    Examples
    --------
    >>> with one_blas_thread():
    ...     float(np.linalg.det(np.eye(3)))
    1.0
    """
    return _blas().limit(limits=1, user_api="blas")


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
