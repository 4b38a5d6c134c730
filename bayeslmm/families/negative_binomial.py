"""Counts whose variance is mu + mu^2 / alpha (NB2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.distributions.prior import Prior
from bayeslmm.families.family import Dispersion, Family, Outcome
from bayeslmm.families.links import Jet
from bayeslmm.families.poisson import check_counts
from bayeslmm.families.stable import log1p_minus, rising, rising_slope, sigmoid, softplus


@dataclass(frozen=True, kw_only=True)
class NegativeBinomial(Family):
    """Counts with the mean mu = exp(eta) and the variance mu + mu^2 / alpha: Poisson as alpha grows.

    alpha is glmmTMB's "dispersion parameter" of ``nbinom2``, MASS's theta.

    Parameters
    ----------
    link : {"log"}

    Examples
    --------
    >>> NegativeBinomial().dispersion_values(np.array([0.0])).tolist()
    [1.0]
    """

    name: ClassVar[str] = "negative_binomial"
    links: ClassVar[tuple[str, ...]] = ("log",)

    def check(self, outcome: Outcome) -> None:
        """Counts."""
        check_counts(outcome, "negative binomial")

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """A gamma mixture of Poissons: y eta - (y + alpha) log(1 + mu / alpha) and constants; p = mu / (mu + alpha)."""
        y, alpha, x = outcome.y, float(np.exp(psi[0])), eta - psi[0]
        p, q = sigmoid(x), sigmoid(-x)
        # by d = eta - log y, the distance from where y is most likely: large counts would leave few digits otherwise
        d = eta - outcome.log_y
        with np.errstate(over="ignore"):
            off = y * d - (y + alpha) * np.log1p(y / (y + alpha) * np.expm1(d))
        most = rising(alpha, y) + outcome.saturated - alpha * log1p_minus(y / alpha) - y * np.log1p(y / alpha)
        value = np.where(y > 0, most + off, -alpha * softplus(x))
        bend = (y + alpha) * p * q
        return Jet(value, y * q - alpha * p, -bend, -bend * (q - p))

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """By log alpha."""
        y, alpha, x = outcome.y, float(np.exp(psi[0])), eta - psi[0]
        p, q = sigmoid(x), sigmoid(-x)
        ratio = np.exp(np.minimum(x, 0.0))
        # alpha (p - log(1 + mu / alpha)): both are nearly mu / alpha where that is small
        rest = np.where(x < 0, -log1p_minus(ratio) - ratio * p, p - softplus(x))
        value = rising_slope(alpha, y) + y * p + alpha * rest
        return Dispersion(value[None], (p * (y * q - alpha * p))[None], -(p * q * (2 * p * (y + alpha) - y))[None])

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Counts."""
        alpha = np.exp(psi[..., 0])
        return rng.poisson(rng.gamma(alpha, np.exp(eta) / alpha)).astype(float)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The rate."""
        return np.exp(eta)

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """That of NB2."""
        return mean + mean**2 / dispersion[:, 0]

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """Nakagawa, Johnson & Schielzeth's (2017) for a log link."""
        own = np.log1p(1 / mean + 1 / dispersion[:, 0])
        return own, "log(1 + 1 / mean + 1 / alpha), the mean being that of the model over all rows"

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """Alpha, the larger the nearer to Poisson."""
        return ("alpha",)

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """By moments."""
        mean, variance = outcome.y.mean(), outcome.y.var()
        return np.array([np.clip(np.log(mean**2 / max(variance - mean, 1e-2 * mean)), -3.0, 5.0)])

    def dispersion_bounds(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Up to where it is a Poisson."""
        return np.array([-12.0]), np.array([16.0 + np.log(max(1.0, outcome.y.max()))])

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """Most mass where counts are overdispersed and not all zero."""
        reason = "variance mu + mu^2 / alpha: from strongly overdispersed (0.1) to nearly Poisson (100)"
        return Prior("LogNormal", mu=1, sigma=1.5), reason

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Log of the mean count."""
        return float(np.log(outcome.y.mean())), "log of the mean of y"

    @property
    def words(self) -> str:
        """What y is."""
        return "overdispersed count (negative binomial)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return "rate ratio"
