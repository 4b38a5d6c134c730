"""Counts whose variance is mu (1 + alpha) (NB1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.distributions.prior import Prior
from bayeslmm.families.family import Dispersion, Family, Outcome
from bayeslmm.families.links import Jet
from bayeslmm.families.poisson import check_counts
from bayeslmm.families.stable import (
    divergence,
    log1p_minus,
    log_gamma_rest,
    log_rising_jet,
    log_rising_slope,
)


@dataclass(frozen=True, kw_only=True)
class NegativeBinomial1(Family):
    """Counts with the mean mu = exp(eta) and the variance mu (1 + alpha): Poisson as alpha vanishes.

    alpha is glmmTMB's "dispersion parameter" of ``nbinom1``. The log density is not concave in eta.

    Parameters
    ----------
    link : {"log"}

    Examples
    --------
    >>> NegativeBinomial1().dispersion_values(np.array([0.0])).tolist()
    [1.0]
    """

    name: ClassVar[str] = "negative_binomial1"
    links: ClassVar[tuple[str, ...]] = ("log",)
    log_concave: ClassVar[bool] = False

    def check(self, outcome: Outcome) -> None:
        """Counts."""
        check_counts(outcome, "negative binomial")

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """With k = mu / alpha: log Gamma(y + k) - log Gamma(k) - k log(1 + alpha) and what doesn't depend on eta."""
        k = _size(eta, psi)
        less = k * np.log1p(np.exp(psi[0]))
        first, second, third = log_rising_jet(k, outcome.y)
        return Jet(self.logpdf(outcome, eta, psi), first - less, second - less, third - less)

    def slope(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and its first derivative."""
        k = _size(eta, psi)
        return self.logpdf(outcome, eta, psi), log_rising_slope(k, outcome.y) - k * np.log1p(np.exp(psi[0]))

    def logpdf(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """The log density (..., n): by the distance of k / (k + y) from 1 / (1 + alpha), as large counts need."""
        y, k, alpha = outcome.y, _size(eta, psi), float(np.exp(psi[0]))
        whole = k + y
        apart = divergence(k / whole, y / whole, np.asarray(1 / (1 + alpha)), np.asarray(alpha / (1 + alpha)))
        # where k is large the rests are nearly the same
        rests = np.where(y > 0, log_gamma_rest(whole) - log_gamma_rest(k), 0.0)
        return np.where(y > 0, rests + outcome.saturated + whole * apart, -k * np.log1p(alpha))

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """By log alpha: k goes down as alpha goes up."""
        y, k, alpha = outcome.y, _size(eta, psi), float(np.exp(psi[0]))
        first, second, third = log_rising_jet(k, y)
        more = k * (log1p_minus(np.asarray(alpha)) + alpha**2 / (1 + alpha))  # k [log(1 + alpha) - alpha / (1 + alpha)]
        value = (y - first) - y * (alpha / (1 + alpha)) + more
        return Dispersion(value[None], (more - second)[None], (more - third)[None])

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Counts."""
        return rng.poisson(rng.gamma(_size(eta, psi), np.exp(psi[..., 0]))).astype(float)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The rate."""
        return np.exp(eta)

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """That of NB1."""
        return mean * (1 + dispersion[:, 0])

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """Nakagawa, Johnson & Schielzeth's (2017) for a log link."""
        own = np.log1p((1 + dispersion[:, 0]) / mean)
        return own, "log(1 + (1 + alpha) / mean), the mean being that of the model over all rows"

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """Alpha, the smaller the nearer to Poisson."""
        return ("alpha",)

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """By moments."""
        mean, variance = outcome.y.mean(), outcome.y.var()
        return np.array([np.clip(np.log(max(variance / mean - 1, 1e-2)), -3.0, 5.0)])

    def dispersion_bounds(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Down to where it is a Poisson."""
        return np.array([-16.0]), np.array([12.0 + np.log(max(1.0, outcome.y.max()))])

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """From nearly Poisson to strongly overdispersed."""
        reason = "variance mu (1 + alpha): from nearly Poisson (0.05) to strongly overdispersed (20)"
        return Prior("LogNormal", mu=0, sigma=1.5), reason

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Log of the mean count."""
        return float(np.log(outcome.y.mean())), "log of the mean of y"

    @property
    def words(self) -> str:
        """What y is."""
        return "overdispersed count (negative binomial whose variance is in proportion to its mean)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return "rate ratio"


def _size(eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """k = mu / alpha, within what a number holds."""
    return np.exp(np.clip(eta - psi[..., 0], -690.0, 690.0))
