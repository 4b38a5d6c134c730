"""Whether ranks are uniform: one p-value a quantity, and their correction for being many."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.stats import binom

SIMULATIONS = 100_000


def uniformity(ranks: np.ndarray, top: int) -> float:
    """P-value of ranks (N,) in 0, ..., top being uniform: how deep their ECDF leaves its envelope.

    The statistic is the smallest two-sided binomial probability of any point of the ECDF; its law under uniformity is
    simulated, so that the whole curve is judged at once. Small values at one point (a missed tail) count as much as a
    shift of all.

    Source: Säilynoja, Bürkner & Vehtari (2022).
    """
    counts = np.bincount(ranks, minlength=top + 1)
    depth = _depths(counts[None], ranks.size)[0]
    null = _null(ranks.size, top)
    return float((1 + np.searchsorted(null, depth * (1 + 1e-9), side="right")) / (1 + null.size))


def _depths(counts: np.ndarray, n: int) -> np.ndarray:
    """The statistic of histograms (..., top + 1) of n ranks."""
    below = np.cumsum(counts[..., :-1], axis=-1)
    table = _tails(n, counts.shape[-1] - 1)
    return table[below, np.arange(below.shape[-1])].min(axis=-1)


@cache
def _tails(n: int, points: int) -> np.ndarray:
    """Two-sided probability of each count 0, ..., n (rows) of ranks up to each of the points (columns)."""
    k, share = np.arange(n + 1)[:, None], np.arange(1, points + 1) / (points + 1)
    return 2 * np.minimum(binom.cdf(k, n, share), binom.sf(k - 1, n, share))


@cache
def _null(n: int, top: int) -> np.ndarray:
    """The statistic's law under uniformity, sorted."""
    rng = np.random.default_rng(1)
    even = np.full(top + 1, 1 / (top + 1))
    pieces = [_depths(rng.multinomial(n, even, size=SIMULATIONS // 20), n) for _ in range(20)]
    return np.sort(np.concatenate(pieces))


def holm(p: np.ndarray) -> np.ndarray:
    """P-values corrected for their number: whichever is below a, a false alarm anywhere has probability a at most."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    out = np.empty(p.size)
    out[order] = np.minimum(steps, 1.0)
    return out
