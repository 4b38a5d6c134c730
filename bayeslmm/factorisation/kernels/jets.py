"""Log densities of one row's y and their derivatives by eta and by the family's parameters.

What depends on y alone is left out, the caller adds it; what depends on y and the parameters stands by itself, as it
isn't needed at every eta. Each is held to the family's own formulas, in `bayeslmm/families`, by
`tests/test_group_rule.py`.
"""

from __future__ import annotations

from math import erfc, exp, expm1, lgamma, log, log1p, pi, sqrt

from bayeslmm.factorisation.kernels.compiling import inner

LOGIT, PROBIT, CLOGLOG, POISSON, NEGATIVE_BINOMIAL, GAMMA, STUDENT_T, CUMULATIVE_LOGIT, CUMULATIVE_PROBIT = range(9)
_LOG_ROOT_2PI = 0.5 * log(2 * pi)
_LARGE = 16.0  # from here on Stirling's series has all digits


@inner
def softplus(x):
    """log(1 + exp(x))."""
    return max(x, 0.0) + log1p(exp(-abs(x)))


@inner
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    small = exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1 + small)


@inner
def _log1p_minus(x):
    """log(1 + x) - x for x >= 0."""
    r = x / (2 + x)
    if r > 0.2:
        return log1p(x) - x
    square, series = r * r, 0.0
    for k in range(25, 1, -2):
        series = square * (1.0 / k + series)
    return -x * r + 2 * r * series


@inner
def log_ndtr(x):
    """log Phi(x) and its derivatives."""
    if x < -4.0:
        t, tail = -x, 0.0
        for k in range(20 + int(1600 / (t * t)), 3, -1):
            tail = k / (t + tail)
        z = 3 / (t + tail)
        e = 2 / (t + z)
        d = 1 / (t + e)
        m = t + d
        plus = d * d * (t + 2 * e - z) / (t + z)
        left = t * (2 * z - e - 2 * d) + e * z - 4 * d * e + 2 * d * z
        return -0.5 * x * x - _LOG_ROOT_2PI - log(m), m, plus - 1, d * left / ((t + e) * (t + z))
    value = log1p(-0.5 * erfc(x / sqrt(2.0))) if x > 0 else log(0.5 * erfc(-x / sqrt(2.0)))
    m = exp(-0.5 * x * x - _LOG_ROOT_2PI - value)
    second = -m * (x + m)
    return value, m, second, -second * (x + m) - m * (1 + second)


@inner
def _cloglog_yes(eta):
    """log(1 - exp(-exp(eta))) and its derivatives."""
    mu = exp(eta)
    if mu > 700.0:
        return 0.0, 0.0, 0.0, 0.0
    if mu < 1e-300:
        value, g = eta, 1.0
    else:
        value = log(-expm1(-mu)) if mu < 0.6931471805599453 else log1p(-exp(-mu))
        g = mu / expm1(mu)
    s = 1 - mu - g
    if mu < 0.2:
        s = -mu * (1 / 2 + mu * (1 / 12 - mu**2 * (1 / 720 - mu**2 * (1 / 30240 - mu**2 / 1209600))))
    second = g * s
    return value, g, second, g * (s * s - mu - second)


@inner
def jet(code, y, N, ref, par, eta):
    """(value, first, second, third) at eta; `ref` is log y where a family needs it, `par` its parameters.

    All families but cumulative probit, of which `outcomes` has two derivatives.
    """
    if code == LOGIT:
        small = exp(-abs(eta))
        large = 1 / (1 + small)
        other = small * large
        p, q = (large, other) if eta > 0 else (other, large)
        bend = N * p * q
        value = (y - N if eta > 0 else y) * eta - N * log1p(small)
        return value, y * q - (N - y) * p, -bend, -bend * (q - p)
    if code == PROBIT:
        a0, a1, a2, a3 = log_ndtr(eta)
        b0, b1, b2, b3 = log_ndtr(-eta)
        no = N - y
        return y * a0 + no * b0, y * a1 - no * b1, y * a2 + no * b2, y * a3 - no * b3
    if code == CLOGLOG:
        a0, a1, a2, a3 = _cloglog_yes(eta)
        minus = -(N - y) * exp(eta) if y < N else 0.0
        return y * a0 + minus, y * a1 + minus, y * a2 + minus, y * a3 + minus
    if code == POISSON:
        mu = exp(eta)
        d = eta - ref
        value = y * (d - expm1(d)) if y > 0 else -mu
        return value, y - mu, -mu, -mu
    if code == NEGATIVE_BINOMIAL:
        alpha, x = par[0], eta - par[1]
        p, q = sigmoid(x), sigmoid(-x)
        if y > 0:
            d = eta - ref
            value = y * d - (y + alpha) * log1p(y / (y + alpha) * expm1(d))
        else:
            value = -alpha * softplus(x)
        bend = (y + alpha) * p * q
        return value, y * q - alpha * p, -bend, -bend * (q - p)
    if code == GAMMA:
        alpha, d = par[0], ref - eta
        less, ratio = expm1(d), exp(d)
        return alpha * (d - less), alpha * less, -alpha * ratio, alpha * ratio
    if code == STUDENT_T:
        sigma, nu = par[0], par[1]
        z = (y - eta) / sigma
        w = 1 / (nu + z * z)
        return (
            -0.5 * (nu + 1) * log1p(z * z / nu),
            (nu + 1) / sigma * z * w,
            -(nu + 1) / sigma**2 * w * (1 - 2 * z * z * w),
            -2 * (nu + 1) / sigma**3 * z * w * w * (3 - 4 * z * z * w),
        )
    c, value, first, second, third = int(y), 0.0, 0.0, 0.0, 0.0
    if c < par.shape[0]:
        a = par[c] - eta
        pa, qa = sigmoid(a), sigmoid(-a)
        value -= softplus(-a)
        first -= qa
        second -= pa * qa
        third += pa * qa * (qa - pa)
    if c > 0:
        b = par[c - 1] - eta
        pb, qb = sigmoid(b), sigmoid(-b)
        value -= softplus(b)
        first += pb
        second -= pb * qb
        third += pb * qb * (qb - pb)
    return value, first, second, third


@inner
def add_by_parameters(code, y, N, ref, par, eta, w0, w1, w2, out):
    """out += w0 (value) + w1 (first) + w2 (second), each by the log of every parameter, or by every threshold."""
    if code == NEGATIVE_BINOMIAL:
        alpha, x = par[0], eta - par[1]
        p, q = sigmoid(x), sigmoid(-x)
        ratio = exp(min(x, 0.0))
        rest = -_log1p_minus(ratio) - ratio * p if x < 0 else p - softplus(x)
        out[0] += w0 * (y * p + alpha * rest) + w1 * p * (y * q - alpha * p) - w2 * p * q * (2 * p * (y + alpha) - y)
    elif code == GAMMA:
        alpha, d = par[0], ref - eta
        less = expm1(d)
        out[0] += alpha * (w0 * (d - less) + w1 * less - w2 * exp(d))
    elif code == STUDENT_T:
        sigma, nu = par[0], par[1]
        z = (y - eta) / sigma
        w = 1 / (nu + z * z)
        s = z * z * w
        out[0] += w0 * ((nu + 1) * s - 1)
        out[0] -= w1 * 2 * nu * (nu + 1) / sigma * z * w * w
        out[0] += w2 * 2 * nu * (nu + 1) / sigma**2 * w**3 * (nu - 3 * z * z)
        out[1] += w0 * 0.5 * (s - nu * (_log1p_minus(z * z / nu) + z * z / nu * s))
        out[1] += w1 * nu * z * w * w * (z * z - 1) / sigma
        out[1] -= w2 * nu / sigma**2 * w * w * ((nu - z * z) * (1 - 2 * (nu + 1) * w) + nu + 1)
    elif code == CUMULATIVE_LOGIT:
        c = int(y)
        last = par.shape[0]
        more = 1 / expm1(par[c] - par[c - 1]) if 0 < c < last else 0.0
        if c < last:
            a = par[c] - eta
            pa, qa = sigmoid(a), sigmoid(-a)
            out[c] += w0 * (qa + more) + w1 * pa * qa - w2 * pa * qa * (qa - pa)
        if c > 0:
            b = par[c - 1] - eta
            pb, qb = sigmoid(b), sigmoid(-b)
            out[c - 1] += -w0 * (pb + more) + w1 * pb * qb - w2 * pb * qb * (qb - pb)


@inner
def _stirling(x):
    """What log Gamma(x) has beyond (x - 1/2) log x - x + log(2 pi) / 2, for large x."""
    s = 1 / (x * x)
    return (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / x


@inner
def _stirling_slope(x):
    """log(x) - digamma(x) - 1 / (2 x), for large x."""
    s = 1 / (x * x)
    return s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))


@inner
def _digamma(x):
    out = 0.0
    while x < _LARGE:
        out -= 1 / x
        x += 1
    return out + log(x) - 0.5 / x - _stirling_slope(x)


@inner
def _rising(k, y):
    """log Gamma(k + y) - log Gamma(k) - y log k."""
    if k < _LARGE:
        return lgamma(k + y) - lgamma(k) - y * log(k)
    t = log1p(y / k)
    return k * _log1p_minus(y / k) + y * t - t / 2 + _stirling(k + y) - _stirling(k)


@inner
def _rising_slope(k, y):
    """Derivative of it by log k."""
    if k < _LARGE:
        return k * (_digamma(k + y) - _digamma(k)) - y
    t = y / k
    return k * _log1p_minus(t) + t / (2 * (1 + t)) + k * (_stirling_slope(k) - _stirling_slope(k + y))


@inner
def constant(code, y, par):
    """What of the log density depends on y and the parameters."""
    if code == NEGATIVE_BINOMIAL:
        alpha = par[0]
        return _rising(alpha, y) - alpha * _log1p_minus(y / alpha) - y * log1p(y / alpha) if y > 0 else 0.0
    if code == GAMMA:
        alpha = par[0]
        if alpha < _LARGE:
            return alpha * log(alpha) - alpha - lgamma(alpha)
        return 0.5 * log(alpha / (2 * pi)) - _stirling(alpha)
    if code == STUDENT_T:
        return _rising(par[1] / 2, 0.5) - 0.5 * log(2 * pi) - log(par[0])
    if code == CUMULATIVE_LOGIT:
        c = int(y)
        if 0 < c < par.shape[0]:
            gap = par[c] - par[c - 1]
            return log(-expm1(-gap)) if gap < 0.6931471805599453 else log1p(-exp(-gap))
    return 0.0


@inner
def add_constant_slopes(code, y, par, w, out):
    """out += w times its derivatives by the logs of the parameters; those by thresholds are in `add_by_parameters`."""
    if code == NEGATIVE_BINOMIAL:
        out[0] += w * _rising_slope(par[0], y)
    elif code == GAMMA:
        alpha = par[0]
        if alpha < _LARGE:
            out[0] += w * alpha * (log(alpha) - _digamma(alpha))
        else:
            out[0] += w * (0.5 + alpha * _stirling_slope(alpha))
    elif code == STUDENT_T:
        out[1] += w * _rising_slope(par[1] / 2, 0.5)


@inner
def size_of_parameters(code, psi):
    """Number of the kernel's parameters, and of coordinates."""
    return 2 if code == NEGATIVE_BINOMIAL else psi.shape[0]


@inner
def fill_parameters(code, psi, par):
    """The kernel's parameters at the coordinates psi."""
    if code == CUMULATIVE_LOGIT:
        for c in range(psi.shape[0]):
            par[c] = psi[0] if c == 0 else par[c - 1] + exp(psi[c])
        return
    for e in range(psi.shape[0]):
        par[e] = exp(psi[e])
    if code == NEGATIVE_BINOMIAL:
        par[1] = psi[0]


@inner
def turn_to_coordinates(code, psi, by):
    """Derivatives by the logs of the parameters, or by thresholds, become those by psi."""
    if code == CUMULATIVE_LOGIT:
        for c in range(psi.shape[0] - 2, -1, -1):
            by[c] += by[c + 1]
        for c in range(1, psi.shape[0]):
            by[c] *= exp(psi[c])
