"""Positive measurements whose SD is in proportion to their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.distributions.prior import Prior
from bayeslmm.families.family import Dispersion, Family, Outcome
from bayeslmm.families.links import Jet
from bayeslmm.families.stable import LARGE, stirling, stirling_slope


@dataclass(frozen=True, kw_only=True)
class Gamma(Family):
    """Gamma with the mean mu = exp(eta), the shape alpha, and so the SD mu / sqrt(alpha).

    glmmTMB's "dispersion estimate" is 1 / alpha.

    Parameters
    ----------
    link : {"log"}

    Examples
    --------
    >>> Gamma().mean(np.array([0.0])).tolist()
    [1.0]
    """

    name: ClassVar[str] = "gamma"
    links: ClassVar[tuple[str, ...]] = ("log",)

    def check(self, outcome: Outcome) -> None:
        """Positive numbers."""
        outcome.refuse(
            outcome.y <= 0, "a gamma outcome is positive", "Zeros need a model of their own; for counts take 'poisson'."
        )

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """With d = log y - eta, alpha (d - e^d + 1) and what doesn't depend on eta."""
        alpha = float(np.exp(psi[0]))
        log_y = np.log(outcome.y)
        d = log_y - eta
        with np.errstate(over="ignore"):
            ratio, less = np.exp(d), np.expm1(d)
        value = _constant(alpha) - log_y + alpha * (d - less)
        return Jet(value, alpha * less, -alpha * ratio, alpha * ratio)

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """By log alpha."""
        alpha = float(np.exp(psi[0]))
        d = np.log(outcome.y) - eta
        value = _constant_slope(alpha) + alpha * (d - np.expm1(d))
        return Dispersion(value[None], alpha * np.expm1(d)[None], -alpha * np.exp(d)[None])

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Positive numbers."""
        alpha = np.exp(psi[..., 0])
        return rng.gamma(alpha, np.exp(eta) / alpha)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """exp(eta)."""
        return np.exp(eta)

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """The shape."""
        return ("alpha",)

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """By moments."""
        spread = float(np.std(np.log(outcome.y)))
        return np.array([-2 * np.log(max(spread, 1e-4))])

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """Coefficients of variation from a few percent to several hundred."""
        return Prior("LogNormal", mu=2, sigma=2), "coefficient of variation 1 / sqrt(alpha): from 0.05 to 2.5 (95 %)"

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Log of the mean."""
        return float(np.log(outcome.y.mean())), "log of the mean of y"

    @property
    def words(self) -> str:
        """What y is."""
        return "positive measurement whose SD grows with its mean (gamma)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return "ratio of means"


def _constant(alpha: float) -> float:
    """Alpha log alpha - alpha - log Gamma(alpha)."""
    from scipy.special import gammaln

    if alpha < LARGE:
        return float(alpha * np.log(alpha) - alpha - gammaln(alpha))
    return float(0.5 * np.log(alpha / (2 * np.pi)) - stirling(np.asarray(alpha)))


def _constant_slope(alpha: float) -> float:
    """Derivative of it by log alpha: alpha (log alpha - digamma(alpha))."""
    from scipy.special import digamma

    if alpha < LARGE:
        return float(alpha * (np.log(alpha) - digamma(alpha)))
    return float(0.5 + alpha * stirling_slope(np.asarray(alpha)))
