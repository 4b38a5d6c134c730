"""Log densities of outcomes by eta, with two derivatives: what of `families` hangs on eta, compiled.

Their twins are the families' own ``jet``: the values differ from these by what doesn't hang on eta.
"""

from __future__ import annotations

import math

from bayeslmm.factorisation.kernels.compiling import inner

LOGIT, PROBIT, CLOGLOG, POISSON, NEGATIVE_BINOMIAL, GAMMA, CUMULATIVE_LOGIT, CUMULATIVE_PROBIT, STUDENT_T = range(9)
_LOG_SQRT_2PI = 0.9189385332046727


@inner
def _log_ndtr(x):
    """(log Phi(x), phi(x) / Phi(x)): by a continued fraction in the lower tail."""
    if x > -6.0:
        half = 0.5 * math.erfc(-x * 0.7071067811865476)
        return math.log(half), math.exp(-0.5 * x * x - _LOG_SQRT_2PI) / half
    t, tail = -x, 0.0
    for k in range(60, 0, -1):
        tail = k / (t + tail)
    mills = t + tail
    return -0.5 * x * x - _LOG_SQRT_2PI - math.log(mills), mills


@inner
def _binomial_probit(y, N, eta):
    up, m = _log_ndtr(eta)
    down, k = _log_ndtr(-eta)
    value, first, second = 0.0, 0.0, 0.0
    if y > 0:
        value += y * up
        first += y * m
        second -= y * m * (eta + m)
    if y < N:
        value += (N - y) * down
        first -= (N - y) * k
        second -= (N - y) * k * (k - eta)
    return value, first, second


@inner
def _binomial_cloglog(y, N, eta):
    mu = math.exp(min(eta, 690.0))
    value, first, second = -(N - y) * mu, -(N - y) * mu, -(N - y) * mu
    if y > 0 and mu < 700.0:
        if mu < 1e-5:
            value += y * (eta - mu / 2)
            g, s = 1.0 - mu / 2, -mu / 2
        else:
            value += y * math.log(-math.expm1(-mu))
            g = mu / math.expm1(mu)
            s = 1 - mu - g
        first += y * g
        second += y * g * s
    return value, first, second


@inner
def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@inner
def _sigmoid(x):
    small = math.exp(-abs(x))
    return 1.0 / (1.0 + small) if x >= 0 else small / (1.0 + small)


@inner
def _cumulative_logit(y, eta, cuts):
    """log F(a) + log(1 - F(b)) of the ends a > b of a category."""
    c = int(y)
    value, first, second = 0.0, 0.0, 0.0
    if c < cuts.shape[0]:
        a = cuts[c] - eta
        p = _sigmoid(a)
        value -= _softplus(-a)
        first -= _sigmoid(-a)
        second -= p * _sigmoid(-a)
    if c > 0:
        b = cuts[c - 1] - eta
        p = _sigmoid(b)
        value -= _softplus(b)
        first += p
        second -= p * _sigmoid(-b)
    return value, first, second


@inner
def _cumulative_probit(y, eta, cuts):
    """log(Phi(a) - Phi(b)) of the ends a > b of a category."""
    c = int(y)
    if c == cuts.shape[0]:
        value, m = _log_ndtr(eta - cuts[c - 1])
        return value, m, -m * (eta - cuts[c - 1] + m)
    a = cuts[c] - eta
    if c == 0:
        value, m = _log_ndtr(a)
        return value, -m, -m * (a + m)
    b = cuts[c - 1] - eta
    turned = a + b > 0
    high, low = (a, b) if not turned else (-b, -a)
    upper, m_high = _log_ndtr(high)
    lower, m_low = _log_ndtr(low)
    gap = max(upper - lower, 1e-300)
    share = -math.expm1(-gap)  # of Phi(high), what lies above low
    value = upper + math.log(share)
    at_high = m_high / share
    at_low = m_low * math.exp(-gap) / share
    ra, rb = (at_low, at_high) if turned else (at_high, at_low)
    first = rb - ra
    return value, first, -(a * ra - b * rb) - first * first


@inner
def density(code, y, N, eta, values):
    """(log density, its first, its second derivative by eta), but for what doesn't hang on eta.

    `N` are a binomial's trials; `values` the family's own parameters as written: alpha, thresholds, (sigma, nu).
    """
    if code == LOGIT:
        small = math.exp(-abs(eta))
        large = 1.0 / (1.0 + small)
        p = large if eta > 0 else small * large
        value = (y - N if eta > 0 else y) * eta - N * math.log1p(small)
        return value, y - N * p, -N * small * large * large
    if code == POISSON:
        mu = math.exp(min(eta, 690.0))
        return y * eta - mu, y - mu, -mu
    if code == GAMMA:
        alpha = values[0]
        ratio = y * math.exp(-max(eta, -690.0))
        return alpha * (-eta - ratio), alpha * (ratio - 1.0), -alpha * ratio
    if code == NEGATIVE_BINOMIAL:
        alpha = values[0]
        x = eta - math.log(alpha)
        p = _sigmoid(x)
        return y * eta - (y + alpha) * _softplus(x), y - (y + alpha) * p, -(y + alpha) * p * _sigmoid(-x)
    if code == PROBIT:
        return _binomial_probit(y, N, eta)
    if code == CLOGLOG:
        return _binomial_cloglog(y, N, eta)
    if code == CUMULATIVE_LOGIT:
        return _cumulative_logit(y, eta, values)
    if code == CUMULATIVE_PROBIT:
        return _cumulative_probit(y, eta, values)
    sigma, nu = values[0], values[1]  # Student's t
    z = (y - eta) / sigma
    w = 1.0 / (nu + z * z)
    second = -(nu + 1) / (sigma * sigma) * w * (1 - 2 * z * z * w)
    return -0.5 * (nu + 1) * math.log1p(z * z / nu), (nu + 1) / sigma * z * w, second
