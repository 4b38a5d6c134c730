"""Log densities of one row's y and their derivatives by eta and by the family's parameters, without constants.

What doesn't depend on eta is left out of the values; the caller adds it. Each is held to the family's own formulas, in
`bayeslmm/families`, by `tests/test_group_rule.py`.
"""

from __future__ import annotations

from math import erfc, exp, expm1, log, log1p, pi, sqrt

from bayeslmm.factorisation.kernels.compiling import inner

LOGIT, PROBIT, CLOGLOG, POISSON, NEGATIVE_BINOMIAL, GAMMA, STUDENT_T, CUMULATIVE_LOGIT = range(8)
_LOG_ROOT_2PI = 0.5 * log(2 * pi)


@inner
def _softplus(x):
    return max(x, 0.0) + log1p(exp(-abs(x)))


@inner
def _sigmoid(x):
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
def _log_ndtr(x):
    """log Phi(x) and its derivatives."""
    if x < -4.0:
        t, tail = -x, 0.0
        for k in range(120, 3, -1):
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
    """(value, first, second, third) at eta; `ref` is log y where a family needs it, `par` its parameters."""
    if code == LOGIT:
        small = exp(-abs(eta))
        large = 1 / (1 + small)
        other = small * large
        p, q = (large, other) if eta > 0 else (other, large)
        bend = N * p * q
        value = (y - N if eta > 0 else y) * eta - N * log1p(small)
        return value, y * q - (N - y) * p, -bend, -bend * (q - p)
    if code == PROBIT:
        a0, a1, a2, a3 = _log_ndtr(eta)
        b0, b1, b2, b3 = _log_ndtr(-eta)
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
        p, q = _sigmoid(x), _sigmoid(-x)
        if y > 0:
            d = eta - ref
            value = y * d - (y + alpha) * log1p(y / (y + alpha) * expm1(d))
        else:
            value = -alpha * _softplus(x)
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
        pa, qa = _sigmoid(a), _sigmoid(-a)
        value -= _softplus(-a)
        first -= qa
        second -= pa * qa
        third += pa * qa * (qa - pa)
    if c > 0:
        b = par[c - 1] - eta
        pb, qb = _sigmoid(b), _sigmoid(-b)
        value -= _softplus(b)
        first += pb
        second -= pb * qb
        third += pb * qb * (qb - pb)
    return value, first, second, third


@inner
def add_by_parameters(code, y, N, ref, par, eta, w0, w1, w2, out):
    """out += w0 (value) + w1 (first) + w2 (second), each by the log of every parameter, or by every threshold."""
    if code == NEGATIVE_BINOMIAL:
        alpha, x = par[0], eta - par[1]
        p, q = _sigmoid(x), _sigmoid(-x)
        ratio = exp(min(x, 0.0))
        rest = -_log1p_minus(ratio) - ratio * p if x < 0 else p - _softplus(x)
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
            pa, qa = _sigmoid(a), _sigmoid(-a)
            out[c] += w0 * (qa + more) + w1 * pa * qa - w2 * pa * qa * (qa - pa)
        if c > 0:
            b = par[c - 1] - eta
            pb, qb = _sigmoid(b), _sigmoid(-b)
            out[c - 1] += -w0 * (pb + more) + w1 * pb * qb - w2 * pb * qb * (qb - pb)
