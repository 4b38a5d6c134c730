"""The Gauss-Hermite rule, and as many of its nodes as an integral needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

STEPS = (5, 9, 15, 25, 35, 51, 75, 101, 151, 201)


@cache
def rule(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """(x_j, log w_j + x_j^2 / 2) of the standard normal density.

    Examples
    --------
    >>> x, log_w = rule(3)
    >>> float((np.exp(log_w - x**2 / 2) * x**4).sum().round(12))
    3.0
    """
    from scipy.special import roots_hermitenorm

    x, w = roots_hermitenorm(nodes)
    return x, np.log(w / w.sum()) + 0.5 * x**2


def converged_nodes(
    evaluate: Callable[[int], float], tolerance: float = 1e-7, most: int = 201
) -> tuple[int, float, float]:
    """(nodes, log-likelihood, last change): more nodes until two more steps change nothing to speak of.

    Parameters
    ----------
    evaluate : callable
        From a number of nodes to the log-likelihood.

    Examples
    --------
    >>> converged_nodes(lambda nodes: -10 - 2.0**-nodes)[0]
    35
    """
    values, steps = [], [n for n in STEPS if n <= most]
    for k, nodes in enumerate(steps):
        values.append(evaluate(nodes))
        if k >= 2 and max(abs(values[-1] - values[-2]), abs(values[-2] - values[-3])) < tolerance * (
            1 + 1e-3 * abs(values[-1])
        ):
            return steps[k - 1], values[-1], abs(values[-1] - values[-2])
    return steps[-1], values[-1], abs(values[-1] - values[-2])
