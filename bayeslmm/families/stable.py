"""Functions that lose no digits where the plain formula would: near cancellation, and far out in a tail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]
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
    """log(1 + x) - x, with all digits where x is small.

    Examples
    --------
    >>> print(f"{float(log1p_minus(np.array(1e-8))):.12g}")
    -4.99999996667e-17
    """
    r = x / (2 + x)
    near = np.clip(r, -0.25, 0.25)
    square, series = near**2, np.zeros_like(near)
    for k in range(25, 1, -2):  # log(1 + x) = 2 artanh(r)
        series = square * (1.0 / k + series)
    return np.where(np.abs(r) <= 0.2, -x * near + 2 * near * series, np.log1p(x) - x)


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


def log_gamma_rest(x: np.ndarray | float) -> np.ndarray:
    """log Gamma(x) - x log x + x: minus half the log of x / (2 pi) where x is large.

    Examples
    --------
    >>> log_gamma_rest(np.array([1.0, 1e9])).round(6).tolist()
    [1.0, -9.442694]
    """
    from scipy.special import gammaln, xlogy

    def near(x: np.ndarray) -> np.ndarray:
        return gammaln(x) - xlogy(x, x) + x

    return _by_size(x, near, lambda x: stirling(x) - 0.5 * np.log(x / (2 * np.pi)))


def log_gamma_rest_slope(x: np.ndarray | float) -> np.ndarray:
    """Minus the derivative of `log_gamma_rest` by log x, x (log x - digamma(x)): from 1 at zero to 1/2.

    Examples
    --------
    >>> log_gamma_rest_slope(np.array([1e-300, 1e9])).round(6).tolist()
    [1.0, 0.5]
    """
    from scipy.special import digamma

    def near(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return x * (np.log(x) - digamma(x))

    return _by_size(x, near, lambda x: 0.5 + x * stirling_slope(x))


def _by_size(x: np.ndarray | float, near: Function, far: Function) -> np.ndarray:
    """One function of what is less than LARGE, another one of the rest."""
    x = np.asarray(x, dtype=float)
    out, small = np.empty_like(x), x < LARGE
    for function, part in ((near, small), (far, ~small)):
        if part.any():
            out[part] = function(x[part])
    return out


def divergence(share: np.ndarray, rest: np.ndarray, other: np.ndarray, other_rest: np.ndarray) -> np.ndarray:
    """share log(other / share) + rest log(other_rest / rest), where each pair sums to 1: minus a divergence.

    All digits where the pairs are nearly the same, and where one of them is nearly 0 and 1.

    Examples
    --------
    >>> print(f"{float(divergence(*map(np.array, (0.5, 0.5, 0.5 + 1e-9, 0.5 - 1e-9)))):.6g}")
    -2e-18
    """
    gap = np.where(share <= rest, other - share, rest - other_rest)
    return _moved(share, other, gap) + _moved(rest, other_rest, -gap)


def _moved(share: np.ndarray, other: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """share log(other / share) - gap, where other = share + gap."""
    own = np.maximum(share, np.finfo(float).tiny)
    out = np.asarray(share * np.log(other / own) - gap)
    near = np.asarray(np.abs(gap) < 0.2 * own)
    if near.any():
        own = np.broadcast_to(own, out.shape)[near]
        x = np.broadcast_to(gap, out.shape)[near] / own
        out[near] = own * log1p_minus(x)
    return out


def polygammas(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Trigamma and tetragamma for x >= 1, several times faster than SciPy's.

    By Psi_k(x) = Psi_k(x + 10) and ten terms, and Bernoulli's series.

    Examples
    --------
    >>> one, two = polygammas(np.array([1.0]))
    >>> abs(float(one[0]) - np.pi**2 / 6) < 1e-15, round(float(two[0]), 12)
    (True, -2.404113806319)
    """
    first, second = np.zeros_like(x), np.zeros_like(x)
    for k in range(10):
        r = 1 / (x + k)
        square = r * r
        first += square
        second += square * r
    r = 1 / (x + 10)
    s = r * r
    # sums of B_2k r^2k, and of (2k + 1) B_2k r^2k
    one, two = np.zeros_like(x), np.zeros_like(x)
    for k, bernoulli in zip(
        range(7, 0, -1), (7 / 6, -691 / 2730, 5 / 66, -1 / 30, 1 / 42, -1 / 30, 1 / 6), strict=True
    ):
        one = s * (bernoulli + one)
        two = s * ((2 * k + 1) * bernoulli + two)
    return first + r * (1 + r / 2 + one), -2 * second - s * (1 + r + two)


def log_rising_jet(k: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First three derivatives of log Gamma(k + y) - log Gamma(k) by log k, for whole y >= 0.

    Examples
    --------
    >>> [float(one.round(9)) for one in log_rising_jet(np.array(1e-300), np.array(3.0))]
    [1.0, 0.0, 0.0]
    """
    k, y = np.broadcast_arrays(k, y)
    first, second, third = (np.empty(k.shape) for _ in range(3))
    small = k < LARGE
    for function, part in ((_rising_near, small), (_rising_far, ~small)):
        if part.any():
            first[part], second[part], third[part] = function(k[part], y[part])
    return first, second, third


def _rising_near(k: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With Gamma(k + 1) instead of Gamma(k), where 1 / k to any power has left."""
    from scipy.special import digamma

    any_y, high, low = y > 0, k + np.maximum(y, 1.0), k + 1
    (a1, a2), (b1, b2) = polygammas(high), polygammas(low)
    one, two, three = (any_y * x for x in (k * (digamma(high) - digamma(low)), k**2 * (a1 - b1), k**3 * (a2 - b2)))
    return any_y + one, one + two, one + 3 * two + three


def _rising_far(k: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By Stirling's series, whose large terms are taken together."""
    t = y / k
    v = 1 / (1 + t)
    bend = log1p_minus(t) + t**2 * v
    st = [s - o for s, o in zip(_stirling_moves(k + y, v), _stirling_moves(k, np.ones_like(v)), strict=True)]
    return (
        k * np.log1p(t) + t * v / 2 + st[0],
        k * bend - t * v**2 / 2 + st[1],
        k * (bend - (t * v) ** 2) + t * (1 - t) * v**3 / 2 + st[2],
    )


def log_rising_slope(k: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The first of them alone.

    Examples
    --------
    >>> k, y = np.array([0.5, 1e9]), np.array([3.0, 3.0])
    >>> (log_rising_slope(k, y) == log_rising_jet(k, y)[0]).tolist()
    [True, True]
    """
    from scipy.special import digamma

    k, y = np.broadcast_arrays(k, y)
    out, small = np.empty(k.shape), k < LARGE
    if small.any():
        near, count = k[small], y[small]
        out[small] = (count > 0) * (1 + near * (digamma(near + np.maximum(count, 1.0)) - digamma(near + 1)))
    if not small.all():
        out[~small] = _rising_far(k[~small], y[~small])[0]
    return out


def _stirling_moves(x: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First three derivatives of stirling(k + y) by log k, at x = k + y with the share k / x."""
    moves = [np.zeros_like(x) for _ in range(3)]
    for power, c in ((1, 1 / 12), (3, -1 / 360), (5, 1 / 1260), (7, -1 / 1680), (9, 1 / 1188)):
        value = c / x**power
        one = -power * value * share
        two = power * (power + 1) * value * share**2
        three = -power * (power + 1) * (power + 2) * value * share**3
        for move, own in zip(moves, (one, one + two, one + 3 * two + three), strict=True):
            move += own
    return moves[0], moves[1], moves[2]
