"""The upper tail of importance weights."""

from __future__ import annotations

import numpy as np


def pareto_k(log_weights: np.ndarray) -> float:
    """Shape of the generalised Pareto law of the weights' upper tail; inf if there is no tail to speak of.

    Source: Zhang & Stephens (2009) with the weak prior of Vehtari et al. (2024), as ArviZ's psislw, whose import alone
    takes longer than a small posterior.

    Examples
    --------
    >>> bool(0.4 < pareto_k(np.log1p(np.random.default_rng(1).pareto(2, 4000))) < 0.6)  # a tail of shape 1/2
    True
    """
    w = np.sort(log_weights[np.isfinite(log_weights)])
    size = int(3 * np.sqrt(w.size)) if w.size > 225 else w.size // 5
    if w.size < 25 or size < 5:
        return float("inf")
    cutoff = w[-size - 1] - w[-1]
    x = np.exp(w[-size:] - w[-1]) - np.exp(cutoff)
    x = x[x > 0]
    if x.size < 5:
        return float("-inf")  # equal weights: no tail at all
    n = x.size
    grid = 30 + int(np.sqrt(n))
    b = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (3 * x[int(n / 4 + 0.5) - 1])
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    fit = n * (np.log(-b / k) - k - 1)
    with np.errstate(over="ignore"):  # a hopeless fit has weight 1 / inf
        weights = 1 / np.exp(fit - fit[:, None]).sum(axis=1)
    centre = float((b * weights).sum() / weights.sum())
    return float((n * np.log1p(-centre * x).mean() + 5) / (n + 10))
