"""BLAS on one thread: nested, overlapping, and the same numbers on any number of cores."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

import bayeslmm as blm
from bayeslmm.support.threads import one_blas_thread


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        yield


def test_nested_contexts_restore_what_was_before(two_threads):
    with one_blas_thread():
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_contexts_that_overlap_restore_what_was_before(two_threads):
    """First in, first out: the second must neither end with the first nor take its one thread for what was."""
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert blas_threads() == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == {2}


def test_threads_that_overlap_restore_what_was_before(two_threads):
    together = Barrier(4)

    def work(_):
        together.wait()
        for _ in range(20):
            with one_blas_thread():
                assert blas_threads() == {1}

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert blas_threads() == {2}


def test_an_error_inside_restores_what_was_before(two_threads):
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert blas_threads() == {2}


@pytest.mark.parametrize("model", ["flock", "sleepstudy", "penicillin"])
def test_a_seed_gives_the_same_draws_on_one_core_and_on_two(model):
    trees = []
    for threads in (1, 2):
        with ThreadpoolController().limit(limits=threads, user_api="blas"):
            lmm = blm.LMM.from_toml(f"models/{model}.toml")
            trees.append(lmm.sample(draws=50, chains=2, random_seed=1, progress=False)["posterior"])
    for name in trees[0].data_vars:
        np.testing.assert_array_equal(trees[0][name], trees[1][name])
