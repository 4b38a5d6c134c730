"""Functions that lose no digits where the plain formula would: near cancellation, and far out in a tail."""

from __future__ import annotations

import numpy as np

LARGE = 16.0  # from here on Stirling's series has all digits


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), exact in both tails.

    Examples
    --------
    >>> sigmoid(np.array([-800.0, 0.0, 800.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1 + small)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x).

    Examples
    --------
    >>> softplus(np.array([-40.0, 800.0])).tolist()
    [4.248354255291589e-18, 800.0]
    """
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def log1m_exp(x: np.ndarray) -> np.ndarray:
    """log(1 - e^-x) for x > 0.

    Source: Maechler (2012), "Accurately computing log(1 - exp(-|a|))".

    Examples
    --------
    >>> log1m_exp(np.array([1e-10, 50.0])).round(4).tolist()
    [-23.0259, -0.0]
    """
    with np.errstate(divide="ignore"):
        return np.where(x < np.log(2), np.log(-np.expm1(-x)), np.log1p(-np.exp(-x)))


def log1p_minus(x: np.ndarray) -> np.ndarray:
    """log(1 + x) - x for x >= 0, with all digits where x is small.

    Examples
    --------
    >>> print(f"{float(log1p_minus(np.array(1e-8))):.12g}")
    -4.99999996667e-17
    """
    r = x / (2 + x)
    near = np.minimum(r, 0.25)
    square, series = near**2, np.zeros_like(near)
    for k in range(25, 1, -2):  # log(1 + x) = 2 artanh(r)
        series = square * (1.0 / k + series)
    return np.where(r <= 0.2, -x * near + 2 * near * series, np.log1p(x) - x)


def stirling(x: np.ndarray) -> np.ndarray:
    """What log Gamma(x) has beyond (x - 1/2) log x - x + log(2 pi) / 2, for x >= LARGE.

    Examples
    --------
    >>> from math import lgamma, log, pi
    >>> abs(float(stirling(np.array(20.0))) - (lgamma(20) - 19.5 * log(20) + 20 - log(2 * pi) / 2)) < 1e-14
    True
    """
    s = 1 / x**2
    return (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / x


def stirling_slope(x: np.ndarray) -> np.ndarray:
    """log(x) - digamma(x) - 1 / (2 x), for x >= LARGE.

    Examples
    --------
    >>> from scipy.special import digamma
    >>> bool(abs(stirling_slope(np.array(20.0)) - (np.log(20) - digamma(20) - 1 / 40)) < 1e-15)
    True
    """
    s = 1 / x**2
    return s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))


def saturated(y: np.ndarray) -> np.ndarray:
    """Log density of a Poisson count y at its own mean, y log y - y - log y!; zero for y = 0.

    Examples
    --------
    >>> saturated(np.array([0.0, 1.0, 1e9])).round(6).tolist()
    [0.0, -1.0, -11.280571]
    """
    from scipy.special import gammaln, xlogy

    large = np.maximum(y, LARGE)
    far = -0.5 * np.log(2 * np.pi * large) - stirling(large)
    return np.where(y < LARGE, xlogy(y, y) - y - gammaln(y + 1), far)


def rising(k: float, y: np.ndarray) -> np.ndarray:
    """log Gamma(k + y) - log Gamma(k) - y log k: zero as k grows.

    Examples
    --------
    >>> rising(1e9, np.array([0.0, 1.0, 3.0])).round(12).tolist()
    [0.0, 0.0, 3e-09]
    """
    from scipy.special import gammaln

    if k < LARGE:
        return gammaln(k + y) - gammaln(k) - y * np.log(k)
    t = y / k
    log1p = np.log1p(t)
    # k [(1 + t) log(1 + t) - t] - log(1 + t) / 2
    return k * log1p_minus(t) + y * log1p - log1p / 2 + stirling(k + y) - stirling(np.asarray(k))


def rising_slope(k: float, y: np.ndarray) -> np.ndarray:
    """Derivative of `rising` by log k.

    Examples
    --------
    >>> bool(abs(rising_slope(1e6, np.array([3.0])) / -3e-6 - 1)[0] < 1e-5)
    True
    """
    from scipy.special import digamma

    if k < LARGE:
        return k * (digamma(k + y) - digamma(k)) - y
    t = y / k
    own = k * (stirling_slope(np.asarray(k)) - stirling_slope(k + y))
    return k * log1p_minus(t) + t / (2 * (1 + t)) + own
