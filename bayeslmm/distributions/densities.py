"""The table of densities behind `prior`: PyMC's names and parameters, plain numpy formulas.

They are evaluated thousands of times while a posterior is explored, so nothing here goes through
scipy.stats: each family is one function from its parameters to a `Law`, whose constants are computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import exp, expm1, inf, lgamma, log, nan, pi, sqrt
from typing import Any

import numpy as np

Array = Any  # a numpy array, or a number that numpy takes for one


@dataclass(frozen=True, kw_only=True)
class Law:
    """One distribution with its parameters filled in.

    Attributes
    ----------
    logpdf : callable
        Log density, to be called inside the support only.
    quantile : callable or None
        Inverse of the distribution function on (0, 1); None for an improper law.
    moments : callable
        Mean and standard deviation, infinite or nan where they do not exist.
    lower, upper : float
        Ends of the support.
    """

    logpdf: Callable[[Array], Array]
    quantile: Callable[[Array], Array] | None = None
    moments: Callable[[], tuple[float, float]] = lambda: (nan, nan)
    lower: float = -inf
    upper: float = inf


@dataclass(frozen=True, kw_only=True)
class DensityFamily:
    """What may be written for a name: sets of parameters, defaults, ranges; and the law they give.

    Attributes
    ----------
    law : callable
        From the parameters, by keyword, to a `Law`.
    forms : tuple of tuple of str
        The sets of parameters that describe the distribution, the usual one first.
    defaults : mapping
        Parameters that may be left out, and their values.
    optional : tuple of str
        Parameters that may be left out and then are absent (bounds).
    real : tuple of str
        Parameters that may be negative; all others must be positive.
    pymc : callable or None
        From the parameters to PyMC's class and its keywords, where these differ from the name and parameters.
    vectors : tuple of str
        Parameters that may be lists of numbers.
    on_variance : bool
        Whether PyMC's distribution is that of the variance, the square of the parameter.
    """

    law: Callable[..., Law]
    forms: tuple[tuple[str, ...], ...]
    defaults: Mapping[str, float] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    pymc: Callable[..., tuple[str, dict[str, float]]] | None = None
    vectors: tuple[str, ...] = ()
    on_variance: bool = False


def _special():
    from scipy import special

    return special


def _times_log(power: float, x: Array) -> Array:
    """``power * log(x)``, which at x = 0 is 0 for power 0 and -inf otherwise (as in PyMC, never +inf)."""
    return 0.0 * x if power == 0 else np.where(x == 0, -inf, power * np.log(x))


def _half(law: Callable[..., Law], moments: Callable[..., tuple[float, float]]) -> Callable[..., Law]:
    """Fold a law that is symmetric about zero."""

    def folded(**params: float) -> Law:
        whole = law(**params)
        assert whole.quantile is not None  # held by the table below
        quantile = whole.quantile
        return Law(
            logpdf=lambda x: log(2) + whole.logpdf(x),
            quantile=lambda q: quantile(0.5 + q / 2),
            moments=lambda: moments(**params),
            lower=0.0,
        )

    return folded


def _normal(sigma: float, mu: float = 0.0) -> Law:
    constant = -0.5 * log(2 * pi) - log(sigma)
    return Law(
        logpdf=lambda x: constant - 0.5 * ((x - mu) / sigma) ** 2,
        quantile=lambda q: mu + sigma * _special().ndtri(q),
        moments=lambda: (mu, sigma),
    )


def _student_t(nu: float, sigma: float, mu: float = 0.0) -> Law:
    constant = lgamma((nu + 1) / 2) - lgamma(nu / 2) - 0.5 * log(nu * pi) - log(sigma)
    return Law(
        logpdf=lambda x: constant - (nu + 1) / 2 * np.log1p(((x - mu) / sigma) ** 2 / nu),
        quantile=lambda q: mu + sigma * _special().stdtrit(nu, q),
        moments=lambda: (mu if nu > 1 else nan, sigma * sqrt(nu / (nu - 2)) if nu > 2 else inf),
    )


def _half_student_t_moments(nu: float, sigma: float) -> tuple[float, float]:
    if nu <= 1:
        return inf, inf
    mean = 2 * sigma * sqrt(nu / pi) * exp(lgamma((nu + 1) / 2) - lgamma(nu / 2)) / (nu - 1)
    return mean, sqrt(sigma**2 * nu / (nu - 2) - mean**2) if nu > 2 else inf


def _cauchy(beta: float, alpha: float = 0.0) -> Law:
    constant = -log(pi * beta)
    return Law(
        logpdf=lambda x: constant - np.log1p(((x - alpha) / beta) ** 2),
        quantile=lambda q: alpha + beta * np.tan(pi * (q - 0.5)),
    )


def _laplace(mu: float, b: float) -> Law:
    constant = -log(2 * b)
    return Law(
        logpdf=lambda x: constant - np.abs(x - mu) / b,
        quantile=lambda q: mu - b * np.sign(q - 0.5) * np.log1p(-2 * np.abs(q - 0.5)),
        moments=lambda: (mu, b * sqrt(2)),
    )


def _logistic(mu: float, s: float) -> Law:
    def logpdf(x):
        z = np.abs(x - mu) / s
        return -z - log(s) - 2 * np.log1p(np.exp(-z))

    return Law(
        logpdf=logpdf,
        quantile=lambda q: mu + s * (np.log(q) - np.log1p(-q)),
        moments=lambda: (mu, s * pi / sqrt(3)),
    )


def _uniform(lower: float, upper: float) -> Law:
    constant = -log(upper - lower)
    return Law(
        logpdf=lambda x: constant + 0.0 * x,  # NaN stays NaN
        quantile=lambda q: lower + q * (upper - lower),
        moments=lambda: ((lower + upper) / 2, (upper - lower) / sqrt(12)),
        lower=lower,
        upper=upper,
    )


def _flat() -> Law:
    return Law(logpdf=lambda x: 0.0 * x)


def _half_flat() -> Law:
    return Law(logpdf=lambda x: 0.0 * x, lower=0.0)


def _exponential(lam: float | None = None, scale: float | None = None) -> Law:
    mean = scale if scale is not None else 1 / lam  # type: ignore[operator]
    constant = -log(mean)
    return Law(
        logpdf=lambda x: constant - x / mean,
        quantile=lambda q: -mean * np.log1p(-q),
        moments=lambda: (mean, mean),
        lower=0.0,
    )


def _rate(upper: float, alpha: float) -> float:
    return -log(alpha) / upper


def _penalized_complexity(upper: float, alpha: float) -> Law:
    return _exponential(lam=_rate(upper, alpha))


def _gamma(alpha=None, beta=None, mu=None, sigma=None) -> Law:
    if mu is not None:
        alpha, beta = mu**2 / sigma**2, mu / sigma**2
    constant = alpha * log(beta) - lgamma(alpha)
    return Law(
        logpdf=lambda x: constant + _times_log(alpha - 1, x) - beta * x,
        quantile=lambda q: _special().gammaincinv(alpha, q) / beta,
        moments=lambda: (alpha / beta, sqrt(alpha) / beta),
        lower=0.0,
    )


def _beta(alpha: float, beta: float) -> Law:
    constant = lgamma(alpha + beta) - lgamma(alpha) - lgamma(beta)
    mean = alpha / (alpha + beta)
    return Law(
        logpdf=lambda x: constant + _times_log(alpha - 1, x) + _times_log(beta - 1, 1 - x),
        quantile=lambda q: _special().betaincinv(alpha, beta, q),
        moments=lambda: (mean, sqrt(mean * (1 - mean) / (alpha + beta + 1))),
        lower=0.0,
        upper=1.0,
    )


def _inverse_gamma(alpha=None, beta=None, mu=None, sigma=None) -> Law:
    if mu is not None:
        alpha, beta = 2 + mu**2 / sigma**2, mu**3 / sigma**2 + mu
    constant = alpha * log(beta) - lgamma(alpha)

    def moments():
        mean = beta / (alpha - 1) if alpha > 1 else inf
        return mean, mean / sqrt(alpha - 2) if alpha > 2 else inf

    return Law(
        logpdf=lambda x: constant + _times_log(-alpha - 1, x) - beta / x,
        quantile=lambda q: beta / _special().gammainccinv(alpha, q),
        moments=moments,
        lower=0.0,
    )


def _inverse_gamma_variance(alpha: float, beta: float) -> Law:
    constant = log(2) + alpha * log(beta) - lgamma(alpha)

    def moments():
        mean = sqrt(beta) * exp(lgamma(alpha - 0.5) - lgamma(alpha)) if alpha > 0.5 else inf
        return mean, sqrt(beta / (alpha - 1) - mean**2) if alpha > 1 else inf

    return Law(
        logpdf=lambda x: constant + _times_log(-2 * alpha - 1, x) - beta / x**2,
        quantile=lambda q: np.sqrt(beta / _special().gammainccinv(alpha, q)),
        moments=moments,
        lower=0.0,
    )


def _log_normal(mu: float, sigma: float) -> Law:
    constant = -0.5 * log(2 * pi) - log(sigma)

    def logpdf(x):
        u = np.log(np.maximum(x, 5e-324))  # at 0 the limit is wanted, not inf - inf
        return np.where(x == 0, -inf, constant - 0.5 * ((u - mu) / sigma) ** 2 - u)

    def moments():
        mean = exp(mu + sigma**2 / 2)
        return mean, mean * sqrt(expm1(sigma**2))

    return Law(
        logpdf=logpdf,
        quantile=lambda q: np.exp(mu + sigma * _special().ndtri(q)),
        moments=moments,
        lower=0.0,
    )


def _weibull(alpha: float, beta: float) -> Law:
    constant = log(alpha / beta)

    def moments():
        mean, square = (exp(lgamma(1 + k / alpha)) for k in (1, 2))
        return beta * mean, beta * sqrt(square - mean**2)

    return Law(
        logpdf=lambda x: constant + _times_log(alpha - 1, x / beta) - (x / beta) ** alpha,
        quantile=lambda q: beta * (-np.log1p(-q)) ** (1 / alpha),
        moments=moments,
        lower=0.0,
    )


def _truncated_normal(mu: float, sigma: float, lower: float = -inf, upper: float = inf) -> Law:
    special = _special()
    a, b = (lower - mu) / sigma, (upper - mu) / sigma
    flip = a > 0  # work in the left tail, where log Phi keeps its digits
    low, high = (special.log_ndtr(z) for z in ((-b, -a) if flip else (a, b)))
    log_mass = float(high + np.log1p(-np.exp(low - high)))
    whole = _normal(sigma, mu)

    def quantile(q):
        left, right = (np.log(q), np.log1p(-q)) if flip else (np.log1p(-q), np.log(q))
        z = special.ndtri_exp(np.logaddexp(left + low, right + high))
        return np.clip(mu + sigma * (-z if flip else z), lower, upper)

    def moments():
        # density of the truncated z at its two ends
        at_a, at_b = (exp(-0.5 * z * z - 0.5 * log(2 * pi) - log_mass) for z in (a, b))
        shift = at_a - at_b
        pull = sum(z * d for z, d in ((a, at_a), (b, -at_b)) if abs(z) < inf)
        return mu + sigma * shift, sigma * sqrt(1 + pull - shift**2)

    return Law(
        logpdf=lambda x: whole.logpdf(x) - log_mass,
        quantile=quantile,
        moments=moments,
        lower=lower,
        upper=upper,
    )


def lkj_logpdf(corr: Array, eta: float) -> Array:
    """Log density of correlation matrices (..., r, r) under LKJ(eta), normalised; -inf for anything else.

    Examples
    --------
    >>> float(round(lkj_logpdf([[1.0, 0.5], [0.5, 1.0]], eta=1), 6))  # uniform on (-1, 1)
    -0.693147
    """
    corr = np.asarray(corr, dtype=np.float64)
    r = corr.shape[-1]
    constant = 0.0
    for j in range(1, r):  # Lewandowski, Kurowicka and Joe (2009), equation 16; j = r - k
        half = eta + (j - 1) / 2
        constant -= (2 * eta - 2 + j) * j * log(2) + j * (2 * lgamma(half) - lgamma(2 * half))
    eigen = np.linalg.eigvalsh(corr)
    valid = (
        (eigen[..., 0] > 0)
        & np.isclose(np.diagonal(corr, axis1=-2, axis2=-1), 1.0).all(axis=-1)
        & np.isclose(corr, np.swapaxes(corr, -1, -2)).all(axis=(-2, -1))
    )
    log_det = np.log(np.where(valid[..., None], eigen, 1.0)).sum(axis=-1)
    return np.where(valid, constant + (eta - 1) * log_det, -inf)[()]


def lkj_draw(rng: np.random.Generator, eta: float, r: int, size: tuple[int, ...] = ()) -> np.ndarray:
    """Draw correlation matrices, shape ``size + (r, r)``, from LKJ(eta) by independent partial correlations.

    Examples
    --------
    >>> lkj_draw(np.random.default_rng(1), eta=2.0, r=3, size=(5,)).shape
    (5, 3, 3)
    """
    factor = np.zeros((*size, r, r))
    rest = np.ones((*size, r))
    for k in range(r - 1):
        half = eta + (r - 2 - k) / 2
        partial = 2 * rng.beta(half, half, size=(*size, r - 1 - k)) - 1
        factor[..., k, k] = np.sqrt(rest[..., k])
        factor[..., k + 1 :, k] = partial * np.sqrt(rest[..., k + 1 :])
        rest[..., k + 1 :] *= 1 - partial**2
    factor[..., r - 1, r - 1] = np.sqrt(rest[..., r - 1])
    corr = factor @ np.swapaxes(factor, -1, -2)
    corr[..., range(r), range(r)] = 1.0  # exactly
    return corr


def _lkj(eta: float) -> Law:
    return Law(logpdf=lambda corr: lkj_logpdf(corr, eta), lower=-1.0, upper=1.0)


def _dirichlet(a: float | tuple[float, ...]) -> Law:
    def logpdf(x):
        each = np.broadcast_to(np.asarray(a, dtype=float), np.shape(x)[-1:])
        constant = lgamma(float(each.sum())) - sum(lgamma(one) for one in each.tolist())
        valid = (x >= 0).all(axis=-1) & np.isclose(x.sum(axis=-1), 1.0)
        safe = np.where(valid[..., None], x, 1.0)
        value = sum(_times_log(one - 1, safe[..., k]) for k, one in enumerate(each.tolist()))
        return np.where(valid, constant + value, -inf)[()]

    return Law(logpdf=logpdf, lower=0.0, upper=1.0)


FAMILIES: dict[str, DensityFamily] = {
    "Normal": DensityFamily(law=_normal, forms=(("mu", "sigma"),), defaults={"mu": 0.0}, real=("mu",)),
    "StudentT": DensityFamily(law=_student_t, forms=(("nu", "mu", "sigma"),), defaults={"mu": 0.0}, real=("mu",)),
    "Cauchy": DensityFamily(law=_cauchy, forms=(("alpha", "beta"),), real=("alpha",)),
    "Laplace": DensityFamily(law=_laplace, forms=(("mu", "b"),), real=("mu",)),
    "Logistic": DensityFamily(law=_logistic, forms=(("mu", "s"),), defaults={"mu": 0.0}, real=("mu",)),
    "Uniform": DensityFamily(law=_uniform, forms=(("lower", "upper"),), real=("lower", "upper")),
    "TruncatedNormal": DensityFamily(
        law=_truncated_normal,
        forms=(("mu", "sigma", "lower", "upper"),),
        defaults={"mu": 0.0},
        optional=("lower", "upper"),
        real=("mu", "lower", "upper"),
    ),
    "Flat": DensityFamily(law=_flat, forms=((),)),
    "HalfNormal": DensityFamily(
        law=_half(_normal, lambda sigma: (sigma * sqrt(2 / pi), sigma * sqrt(1 - 2 / pi))),
        forms=(("sigma",),),
    ),
    "HalfStudentT": DensityFamily(law=_half(_student_t, _half_student_t_moments), forms=(("nu", "sigma"),)),
    "HalfCauchy": DensityFamily(law=_half(_cauchy, lambda beta: (inf, inf)), forms=(("beta",),)),
    "HalfFlat": DensityFamily(law=_half_flat, forms=((),)),
    "Exponential": DensityFamily(law=_exponential, forms=(("lam",), ("scale",))),
    "Gamma": DensityFamily(law=_gamma, forms=(("alpha", "beta"), ("mu", "sigma"))),
    "Beta": DensityFamily(law=_beta, forms=(("alpha", "beta"),)),
    "InverseGamma": DensityFamily(law=_inverse_gamma, forms=(("alpha", "beta"), ("mu", "sigma"))),
    "LogNormal": DensityFamily(law=_log_normal, forms=(("mu", "sigma"),), defaults={"mu": 0.0}, real=("mu",)),
    "Weibull": DensityFamily(law=_weibull, forms=(("alpha", "beta"),)),
    "PenalizedComplexity": DensityFamily(
        law=_penalized_complexity,
        forms=(("upper", "alpha"),),
        pymc=lambda upper, alpha: ("Exponential", {"lam": _rate(upper, alpha)}),
    ),
    "InverseGammaVariance": DensityFamily(
        law=_inverse_gamma_variance,
        forms=(("alpha", "beta"),),
        pymc=lambda alpha, beta: ("InverseGamma", {"alpha": alpha, "beta": beta}),
        on_variance=True,
    ),
    "Dirichlet": DensityFamily(law=_dirichlet, forms=(("a",),), vectors=("a",)),
    "LKJ": DensityFamily(law=_lkj, forms=(("eta",),), pymc=lambda eta: ("LKJCorr", {"eta": eta})),
}
