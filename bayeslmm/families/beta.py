"""Shares between 0 and 1 that are no successes in trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.distributions.prior import Prior
from bayeslmm.families.family import Dispersion, Family, Outcome
from bayeslmm.families.links import LINKS, Jet
from bayeslmm.families.stable import divergence, log_gamma_rest, log_gamma_rest_slope, polygammas, sigmoid, softplus


@dataclass(frozen=True, kw_only=True)
class Beta(Family):
    """Beta with the mean mu = 1 / (1 + exp(-eta)) and the precision phi: the variance mu (1 - mu) / (1 + phi).

    phi is that of brms, and glmmTMB's "dispersion parameter" of ``beta_family``. The log density is not concave in eta.

    Parameters
    ----------
    link : {"logit"}

    Examples
    --------
    >>> Beta().mean(np.array([0.0])).tolist()
    [0.5]
    """

    name: ClassVar[str] = "beta"
    links: ClassVar[tuple[str, ...]] = ("logit",)
    discrete: ClassVar[bool] = False
    log_concave: ClassVar[bool] = False

    def check(self, outcome: Outcome) -> None:
        """Numbers strictly between 0 and 1, that vary."""
        y = outcome.y
        outcome.refuse(
            (y <= 0) | (y >= 1),
            "a beta outcome lies between 0 and 1, without its ends",
            "Are they successes in trials? Then write cbind(successes, failures) ~ ... and family='binomial'; per cent "
            "are divided by 100; exact zeros and ones need a model of their own.",
        )
        if np.ptp(y) == 0:
            outcome.refuse(np.ones(len(y), dtype=bool), "values that vary were expected", "Is it the right column?")

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """With a = mu phi, b = (1 - mu) phi: log Gamma(phi) - log Gamma(a) - log Gamma(b) + a log y + b log(1 - y)."""
        p, q, a, b = _shapes(eta, psi)
        m, tilt = a * q, q - p
        away = _away(outcome, a, b)
        (a_one, a_two), (b_one, b_two) = polygammas(1 + a), polygammas(1 + b)
        one, two = a_one + b_one, a_two - b_two
        # Gamma(a) = Gamma(1 + a) / a, so that what grows as a vanishes stands apart
        first = tilt + m * away
        second = -2 * p * q + m * tilt * away - m**2 * one
        third = -2 * p * q * tilt + m * (1 - 6 * p * q) * away - 3 * m**2 * tilt * one - m**3 * two
        return Jet(self.logpdf(outcome, eta, psi), first, second, third)

    def logpdf(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """The log density (..., n)."""
        y = outcome.y
        p, q, a, b = _shapes(eta, psi)
        phi = float(np.exp(psi[0]))
        rest = log_gamma_rest(phi) - _rest(a, psi[0] - softplus(-eta)) - _rest(b, psi[0] - softplus(eta))
        return rest + phi * divergence(p, q, y, 1 - y) - np.log(y) - np.log1p(-y)

    def slope(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and its first derivative."""
        p, q, a, b = _shapes(eta, psi)
        return self.logpdf(outcome, eta, psi), q - p + a * q * _away(outcome, a, b)

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """By log phi."""
        y = outcome.y
        p, q, a, b = _shapes(eta, psi)
        m, tilt, phi = a * q, q - p, float(np.exp(psi[0]))
        away = _away(outcome, a, b)
        (a_one, a_two), (b_one, b_two) = polygammas(1 + a), polygammas(1 + b)
        moved = away - a * a_one + b * b_one
        ends = _rest_slope(a) + _rest_slope(b) - log_gamma_rest_slope(phi)
        by_one = m * (a * (2 * a_one + a * a_two) * q + b * (2 * b_one + b * b_two) * p)
        return Dispersion(
            (ends + phi * divergence(p, q, y, 1 - y))[None], (m * moved)[None], (m * tilt * moved - by_one)[None]
        )

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Shares; what would be rounded to 0 or 1 is the number beside it."""
        _, _, a, b = _shapes(eta, psi)
        tiny = np.finfo(float).tiny
        return np.clip(rng.beta(np.maximum(a, tiny), np.maximum(b, tiny)), tiny, 1 - 2.0**-53)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The mean share."""
        return sigmoid(eta)

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Of a share."""
        return mean * (1 - mean) / (1 + dispersion[:, 0])

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """That of logit(y), exactly."""
        from scipy.special import polygamma

        phi = dispersion[:, 0]
        own = polygamma(1, mean * phi) + polygamma(1, (1 - mean) * phi)
        return own, "trigamma(mean phi) + trigamma((1 - mean) phi), that of logit(y)"

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """The precision."""
        return ("phi",)

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """By moments."""
        mean, variance = outcome.y.mean(), outcome.y.var()
        return np.array([np.log(max(mean * (1 - mean) / max(variance, 1e-300) - 1, 0.1))])

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """From nearly all or nothing to a few per cent."""
        reason = "variance mu (1 - mu) / (1 + phi): around 1/2, an SD from 0.04 to 0.42 (95 %)"
        return Prior("LogNormal", mu=2, sigma=1.5), reason

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Logit of the mean."""
        return LINKS["logit"].link(float(outcome.y.mean())), "logit of the mean of y"

    @property
    def words(self) -> str:
        """What y is."""
        return "share between 0 and 1 (beta)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return "ratio of odds of the mean"


def _shapes(eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(mu, 1 - mu, a, b)."""
    p, q = sigmoid(eta), sigmoid(-eta)
    phi = np.exp(psi[..., 0])
    return p, q, phi * p, phi * q


def _away(outcome: Outcome, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """logit(y) - digamma(1 + a) + digamma(1 + b)."""
    from scipy.special import digamma

    return np.log(outcome.y) - np.log1p(-outcome.y) - digamma(1 + a) + digamma(1 + b)


def _rest(a: np.ndarray, log_a: np.ndarray) -> np.ndarray:
    """`log_gamma_rest` of what may be too small for a number: - log a there."""
    tiny = np.finfo(float).tiny
    return np.where(a < tiny, -log_a, log_gamma_rest(np.maximum(a, tiny)))


def _rest_slope(a: np.ndarray) -> np.ndarray:
    return log_gamma_rest_slope(np.maximum(a, np.finfo(float).tiny))
