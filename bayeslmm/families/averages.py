"""Means over normally distributed linear predictors: what a population shows of a curve that each of its groups has.

    E g(eta),   eta ~ N(m, v)

is in closed form for log, probit and identity. Elsewhere it is a trapezoidal sum over the normal density, which for
functions that are analytic in a strip around the real line gains digits exponentially as its steps shrink: g(m + s z)
has the logistic function's poles at a distance of pi / s, so the steps shrink as s grows. Errors are below 1e-8.

Source: Trefethen & Weideman (2014), The exponentially convergent trapezoidal rule, SIAM Review 56.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bayeslmm.families.stable import sigmoid

STEP = 0.5  # between nodes, in SDs of the predictor, where its SD is 1 or less
WIDER = 0.8  # the same for the logistic function, whose poles are twice as far
WIDE = 3.0  # SDs from here on are averaged over the link's own noise
FURTHEST = 8.5  # the normal density beyond is nothing
MOST = 4000  # nodes: an SD of 95 on the link's scale
NUMBERS = 500_000  # means computed at a time, those of like SDs together

Curve = Callable[[np.ndarray], np.ndarray]


def nodes(largest: float, step: float = STEP) -> tuple[np.ndarray, np.ndarray]:
    """(z, weights) of the sum for an SD of at most so much.

    Examples
    --------
    >>> z, w = nodes(1.0)
    >>> len(z), float((w * z**4).sum().round(10))
    (35, 3.0)
    """
    count = min(int(np.ceil(FURTHEST / step * max(1.0, largest))), MOST)
    z = np.linspace(-FURTHEST, FURTHEST, 2 * count + 1)
    w = np.exp(-0.5 * z**2)
    return z, w / w.sum()


def over_nodes(
    function: Callable[..., np.ndarray], sd: np.ndarray, *arrays: np.ndarray, step: float = STEP
) -> np.ndarray:
    """E function(z, sd, *arrays), z standard normal and the arrays broadcast against the SDs."""
    shape = np.broadcast_shapes(sd.shape, *(x.shape for x in arrays))
    flat = [np.broadcast_to(x, shape).ravel() for x in (sd, *arrays)]
    if flat[0].size == 0:
        return np.zeros(shape)
    order = np.argsort(flat[0], kind="stable") if np.ptp(flat[0]) > 0 else np.arange(flat[0].size)
    out = np.empty(flat[0].size)
    for first in range(0, out.size, NUMBERS):
        at = order[first : first + NUMBERS]
        some = [x[at] for x in flat]
        if not some[0].any():
            out[at] = function(0.0, *some)
            continue
        total = np.zeros(len(at))
        for z, weight in zip(*nodes(float(some[0].max()), step), strict=True):
            total += weight * function(z, *some)
        out[at] = total
    return out.reshape(shape)


def normal_mean(curve: Curve, mean: np.ndarray, variance: np.ndarray, step: float = STEP) -> np.ndarray:
    """E curve(eta), eta ~ N(mean, variance), of arrays that broadcast.

    Examples
    --------
    >>> normal_mean(np.exp, np.array([0.0]), np.array([1.0])).round(6).tolist()  # exp(1 / 2)
    [1.648721]
    """
    return over_nodes(lambda z, sd, m: curve(m + sd * z), np.sqrt(variance), mean, step=step)


def log_mean(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of exp(eta)."""
    with np.errstate(over="ignore"):
        return np.exp(mean + variance / 2)


def probit_mean(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of Phi(eta)."""
    from scipy.special import ndtr

    return ndtr(mean / np.sqrt(1 + variance))


def logit_mean(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of the logistic function."""
    from scipy.special import expit

    noise = np.arange(-24.0, 24.1, 0.8)
    return _of_noise(lambda m, v: normal_mean(expit, m, v, WIDER), mean, variance, noise, expit(noise) * expit(-noise))


def cloglog_mean(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of 1 - exp(-exp(eta))."""
    noise = np.arange(-24.0, 4.1, 0.4)
    narrow = partial(normal_mean, lambda eta: -np.expm1(-np.exp(np.minimum(eta, 700.0))))
    return _of_noise(narrow, mean, variance, noise, np.exp(noise - np.exp(noise)))


def _of_noise(
    narrow: Callable[[np.ndarray, np.ndarray], np.ndarray],
    mean: np.ndarray,
    variance: np.ndarray,
    noise: np.ndarray,
    density: np.ndarray,
) -> np.ndarray:
    """Of a distribution function F: where eta spreads widely, by F's own density, P(noise < eta) = E Phi((m - l) / s).

    The sum over l needs few nodes there, that over eta many, F being nearly a step.
    """
    from scipy.special import ndtr

    mean, variance = np.broadcast_arrays(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float))
    wide = variance > WIDE**2
    out = np.array(narrow(mean, np.where(wide, 0.0, variance)))
    if wide.any():
        m, s, total = mean[wide], np.sqrt(variance[wide]), np.zeros(int(wide.sum()))
        for at, weight in zip(noise, density / density.sum(), strict=True):
            total += weight * ndtr((m - at) / s)
        out[wide] = total
    return out


def identity_mean(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of eta."""
    return mean + 0 * variance


def _log_slope(eta: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.exp(eta)


def _logit_slope(eta: np.ndarray) -> np.ndarray:
    return sigmoid(eta) * sigmoid(-eta)


def _probit_slope(eta: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * eta**2) / np.sqrt(2 * np.pi)


def _cloglog_slope(eta: np.ndarray) -> np.ndarray:
    return np.exp(eta - np.exp(np.minimum(eta, 700.0)))


MEANS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "log": log_mean,
    "logit": logit_mean,
    "probit": probit_mean,
    "cloglog": cloglog_mean,
    "identity": identity_mean,
}
SLOPES: dict[str, Curve] = {
    "log": _log_slope,
    "logit": _logit_slope,
    "probit": _probit_slope,
    "cloglog": _cloglog_slope,
    "identity": np.ones_like,
}


def _probit_link(p: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri(p)


LINKS: dict[str, Curve] = {
    "log": np.log,
    "logit": lambda p: np.log(p) - np.log1p(-p),
    "probit": _probit_link,
    "cloglog": lambda p: np.log(-np.log1p(-p)),
    "identity": lambda mean: mean,
}
