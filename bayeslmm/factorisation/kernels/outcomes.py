"""Log densities of outcomes by eta, with two derivatives, at many parameter values: what of them hangs on eta.

Constants of y and the parameters are left out, so that counts need no reference: `jets` has the forms that keep the
digits of large counts. The families' own ``jet`` differs from these by what doesn't hang on eta.
"""

from __future__ import annotations

import math

from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.jets import (
    CLOGLOG,
    CUMULATIVE_PROBIT,
    GAMMA,
    NEGATIVE_BINOMIAL,
    POISSON,
    jet,
    log_ndtr,
    sigmoid,
    softplus,
)


@inner
def _cumulative_probit(y, eta, cuts):
    """log(Phi(a) - Phi(b)) of the ends a > b of a category."""
    c = int(y)
    if c == cuts.shape[0]:
        value, m, _, _ = log_ndtr(eta - cuts[c - 1])
        return value, m, -m * (eta - cuts[c - 1] + m)
    a = cuts[c] - eta
    if c == 0:
        value, m, _, _ = log_ndtr(a)
        return value, -m, -m * (a + m)
    b = cuts[c - 1] - eta
    turned = a + b > 0
    high, low = (a, b) if not turned else (-b, -a)
    upper, m_high, _, _ = log_ndtr(high)
    lower, m_low, _, _ = log_ndtr(low)
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
        p = sigmoid(x)
        return y * eta - (y + alpha) * softplus(x), y - (y + alpha) * p, -(y + alpha) * p * sigmoid(-x)
    if code == CUMULATIVE_PROBIT:
        return _cumulative_probit(y, eta, values)
    value, first, second, _ = jet(code, y, N, 0.0, values, min(eta, 690.0) if code == CLOGLOG else eta)
    return value, first, second
