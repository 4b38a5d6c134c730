"""The families' densities in PyTensor, stable where PyMC's own are not, with PyMC's distributions for draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.families.family import Family, Outcome

Density = Callable[..., Any]


def log_density(family: Family, outcome: Outcome) -> Density:
    """From (y, eta, the family's parameters ...) to log densities (n,)."""
    return _DENSITIES[family.name](family, outcome)


def random_outcome(family: Family, outcome: Outcome) -> Density:
    """From (eta, the family's parameters ..., size) to a PyMC distribution of y."""
    return _DRAWS[family.name](family, outcome)


def _log_probabilities(link: str, eta: Any) -> tuple[Any, Any]:
    """(log F(eta), log(1 - F(eta)))."""
    if link == "logit":
        return -pt.softplus(-eta), -pt.softplus(eta)
    if link == "probit":
        return _log_ndtr(eta), _log_ndtr(-eta)
    mu = pt.exp(eta)
    return pt.switch(mu < 1e-8, eta - mu / 2, pt.log(-pt.expm1(-mu))), -mu


def _log_ndtr(x: Any) -> Any:
    """log Phi(x): by erfcx in the lower tail."""
    low = pt.minimum(x, -1.0)
    high = pt.maximum(x, -1.0)
    return pt.switch(
        x < -1.0,
        -0.5 * low**2 + pt.log(pt.erfcx(-low / np.sqrt(2))) - np.log(2),
        pt.log1p(-0.5 * pt.erfc(high / np.sqrt(2))),
    )


def _binomial(family: Family, outcome: Outcome) -> Density:
    N = np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials

    def logp(y, eta):
        yes, no = _log_probabilities(family.link, eta)
        choose = pt.gammaln(N + 1) - pt.gammaln(y + 1) - pt.gammaln(N - y + 1)
        return y * yes + (N - y) * no + choose

    return logp


def _poisson(family: Family, outcome: Outcome) -> Density:
    return lambda y, eta: y * eta - pt.exp(eta) - pt.gammaln(y + 1)


def _negative_binomial(family: Family, outcome: Outcome) -> Density:
    def logp(y, eta, alpha):
        x = eta - pt.log(alpha)
        return _rising(alpha, y) - pt.gammaln(y + 1) + y * eta - (y + alpha) * pt.softplus(x)

    return logp


def _negative_binomial1(family: Family, outcome: Outcome) -> Density:
    def logp(y, eta, alpha):
        k = pt.exp(pt.clip(eta - pt.log(alpha), -690.0, 690.0))
        return _rising(k, y) - pt.gammaln(y + 1) + y * eta - (y + k) * pt.log1p(alpha)

    return logp


def _rising(k: Any, y: Any) -> Any:
    """log Gamma(k + y) - log Gamma(k) - y log k, by Stirling's series where k is large."""
    large = pt.maximum(k, 16.0)
    small = pt.minimum(k, 16.0)
    t = y / large
    log1p = pt.log1p(t)
    far = large * ((1 + t) * log1p - t) - log1p / 2 + _stirling(large + y) - _stirling(large)
    return pt.switch(k < 16.0, pt.gammaln(small + y) - pt.gammaln(small) - y * pt.log(small), far)


def _stirling(x: Any) -> Any:
    s = 1 / x**2
    return (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / x


def _gamma(family: Family, outcome: Outcome) -> Density:
    def logp(y, eta, alpha):
        d = pt.log(y) - eta
        large, small = pt.maximum(alpha, 16.0), pt.minimum(alpha, 16.0)
        far = 0.5 * pt.log(large / (2 * np.pi)) - _stirling(large)
        constant = pt.switch(alpha < 16.0, small * pt.log(small) - small - pt.gammaln(small), far)
        return constant - pt.log(y) + alpha * (d - pt.expm1(d))

    return logp


def _beta(family: Family, outcome: Outcome) -> Density:
    def logp(y, eta, phi):
        a, b = phi * pt.sigmoid(eta), phi * pt.sigmoid(-eta)
        # log Gamma(a) = log Gamma(1 + a) - log a, which is a number where a is none
        ends = 2 * pt.log(phi) - pt.softplus(-eta) - pt.softplus(eta)
        constant = pt.gammaln(phi) - pt.gammaln(1 + a) - pt.gammaln(1 + b) + ends
        return constant + (a - 1) * pt.log(y) + (b - 1) * pt.log1p(-y)

    return logp


def _student_t(family: Family, outcome: Outcome) -> Density:
    def logp(y, eta, sigma, nu):
        z = (y - eta) / sigma
        constant = pt.gammaln((nu + 1) / 2) - pt.gammaln(nu / 2) - 0.5 * pt.log(np.pi * nu)
        return constant - pt.log(sigma) - 0.5 * (nu + 1) * pt.log1p(z**2 / nu)

    return logp


def _cumulative(family: Family, outcome: Outcome) -> Density:
    last = len(outcome.categories) - 1

    def logp(y, eta, cuts):
        code = pt.cast(y, "int64")
        a = cuts[pt.minimum(code, last - 1)] - eta
        b = cuts[pt.maximum(code - 1, 0)] - eta
        middle = (code > 0) & (code < last)
        top_a, top_b = pt.switch(code < last, a, 0.0), pt.switch(code > 0, b, 0.0)
        gap = pt.switch(middle, a - b, 1.0)
        if family.link == "logit":
            below = pt.switch(code < last, -pt.softplus(-top_a), 0.0)
            above = pt.switch(code > 0, -pt.softplus(top_b), 0.0)
            return below + above + pt.switch(middle, pt.log(-pt.expm1(-gap)), 0.0)
        turned = (top_a + top_b) > 0
        high, low = pt.switch(turned, -top_b, top_a), pt.switch(turned, -top_a, top_b)
        upper, lower = _log_ndtr(high), _log_ndtr(low)
        inside = upper + pt.log(-pt.expm1(-pt.switch(middle, upper - lower, 1.0)))
        return pt.switch(pt.eq(code, 0), _log_ndtr(top_a), pt.switch(pt.eq(code, last), _log_ndtr(-top_b), inside))

    return logp


def _draw_binomial(family: Family, outcome: Outcome) -> Density:
    N = (np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials).astype("int64")
    return lambda eta, _size: _real(pm.Binomial.dist(n=N, p=pt.exp(_log_probabilities(family.link, eta)[0])))


def _draw_poisson(family: Family, outcome: Outcome) -> Density:
    return lambda eta, _size: _real(pm.Poisson.dist(mu=_rate(eta)))


def _draw_negative_binomial(family: Family, outcome: Outcome) -> Density:
    return lambda eta, alpha, _size: _real(pm.NegativeBinomial.dist(mu=_rate(eta), alpha=alpha))


def _draw_negative_binomial1(family: Family, outcome: Outcome) -> Density:
    return lambda eta, alpha, _size: _real(pm.NegativeBinomial.dist(mu=_rate(eta), alpha=_rate(eta) / alpha))


def _draw_beta(family: Family, outcome: Outcome) -> Density:
    def dist(eta, phi, _size):
        y = pm.Beta.dist(alpha=phi * pt.sigmoid(eta), beta=phi * pt.sigmoid(-eta))
        return pt.clip(y, np.finfo(float).tiny, 1 - 2.0**-53)

    return dist


def _draw_gamma(family: Family, outcome: Outcome) -> Density:
    return lambda eta, alpha, _size: pm.Gamma.dist(alpha=alpha, beta=alpha * pt.exp(-eta))


def _draw_student_t(family: Family, outcome: Outcome) -> Density:
    return lambda eta, sigma, nu, _size: pm.StudentT.dist(mu=eta, sigma=sigma, nu=nu)


def _draw_cumulative(family: Family, outcome: Outcome) -> Density:
    kind = pm.Logistic if family.link == "logit" else pm.Normal

    def dist(eta, cuts, _size):
        latent = kind.dist(np.float64(0.0), np.float64(1.0), size=eta.shape) + eta
        return pt.cast((latent[:, None] > cuts[None, :]).sum(axis=1), "float64")

    return dist


def _rate(eta: Any) -> Any:
    """exp(eta); draws beyond 1e15 would not fit in an integer, and are drawn as if the rate were that."""
    return pt.exp(pt.minimum(eta, np.log(1e15)))


def _real(x: Any) -> Any:
    return pt.cast(x, "float64")


_DENSITIES: dict[str, Callable[[Family, Outcome], Density]] = {
    "binomial": _binomial,
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
    "negative_binomial1": _negative_binomial1,
    "beta": _beta,
    "gamma": _gamma,
    "student_t": _student_t,
    "cumulative": _cumulative,
}
_DRAWS: dict[str, Callable[[Family, Outcome], Density]] = {
    "binomial": _draw_binomial,
    "poisson": _draw_poisson,
    "negative_binomial": _draw_negative_binomial,
    "negative_binomial1": _draw_negative_binomial1,
    "beta": _draw_beta,
    "gamma": _draw_gamma,
    "student_t": _draw_student_t,
    "cumulative": _draw_cumulative,
}
