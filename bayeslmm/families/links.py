"""Links of probabilities: log F(eta) and log(1 - F(eta)), each with three derivatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from bayeslmm.families.stable import log1m_exp, sigmoid, softplus


class Jet(NamedTuple):
    """A function of eta and its first three derivatives, arrays of one shape."""

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray
    third: np.ndarray


class ProbabilityLink(ABC):
    """F from the linear predictor to a probability.

    Attributes
    ----------
    name : str
        As it is written: "logit".
    unit : float
        What stands for one SD on the link's scale: differences of this size matter and larger ones are rare.
    ratio : str
        What exp(beta) is, "" where it is nothing.
    spread, spread_words : float, str
        Variance of the variable whose distribution F is, and what it is.
    """

    name: str
    unit = 1.0
    ratio = ""
    spread = 1.0
    spread_words = ""

    @abstractmethod
    def log_yes(self, eta: np.ndarray) -> Jet:
        """log F(eta)."""

    @abstractmethod
    def log_no(self, eta: np.ndarray) -> Jet:
        """log(1 - F(eta))."""

    @abstractmethod
    def probability(self, eta: np.ndarray) -> np.ndarray:
        """F(eta)."""

    @abstractmethod
    def link(self, p: float) -> float:
        """The eta of a probability."""


class Logit(ProbabilityLink):
    """eta = log(p / (1 - p))."""

    name = "logit"
    ratio = "odds ratio"
    spread = np.pi**2 / 3
    spread_words = "pi^2 / 3 = 3.29, that of the logistic distribution"

    def log_yes(self, eta: np.ndarray) -> Jet:
        """log F(eta)."""
        p, q = sigmoid(eta), sigmoid(-eta)
        return Jet(-softplus(-eta), q, -p * q, -p * q * (q - p))

    def log_no(self, eta: np.ndarray) -> Jet:
        """log(1 - F(eta))."""
        p, q = sigmoid(eta), sigmoid(-eta)
        return Jet(-softplus(eta), -p, -p * q, -p * q * (q - p))

    def probability(self, eta: np.ndarray) -> np.ndarray:
        """F(eta)."""
        return sigmoid(eta)

    def link(self, p: float) -> float:
        """The eta of a probability."""
        return float(np.log(p) - np.log1p(-p))


class Probit(ProbabilityLink):
    """eta is the normal quantile of p."""

    name = "probit"
    unit = 0.625  # a logistic variable is about 1.6 times a normal one
    spread = 1.0
    spread_words = "1, that of the standard normal distribution"

    def log_yes(self, eta: np.ndarray) -> Jet:
        """log F(eta)."""
        from scipy.special import log_ndtr

        value = log_ndtr(eta)
        m = np.exp(-0.5 * eta**2 - 0.5 * np.log(2 * np.pi) - value)
        second = -m * (eta + m)
        third = -second * (eta + m) - m * (1 + second)
        far = eta < -4
        if np.any(far):
            for out, tail in zip((m, second, third), _lower_tail(-eta[far]), strict=True):
                out[far] = tail
        return Jet(value, m, second, third)

    def log_no(self, eta: np.ndarray) -> Jet:
        """log(1 - F(eta))."""
        value, first, second, third = self.log_yes(-eta)
        return Jet(value, -first, second, -third)

    def probability(self, eta: np.ndarray) -> np.ndarray:
        """F(eta)."""
        from scipy.special import ndtr

        return ndtr(eta)

    def link(self, p: float) -> float:
        """The eta of a probability."""
        from scipy.special import ndtri

        return float(ndtri(p))


def _lower_tail(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives of log Phi at -t, t > 4, by Laplace's continued fraction: none is a difference of large numbers.

    phi(t) / Phi(-t) = t + d with d = 1 / (t + e), e = 2 / (t + z), z = 3 / (t + 4 / (t + ...)).
    """
    tail = np.zeros_like(t)
    for k in range(120, 3, -1):
        tail = k / (t + tail)
    z = 3 / (t + tail)
    e = 2 / (t + z)
    d = 1 / (t + e)
    one_plus_second = d**2 * (t + 2 * e - z) / (t + z)
    left = t * (2 * z - e - 2 * d) + e * z - 4 * d * e + 2 * d * z
    return t + d, one_plus_second - 1, d * left / ((t + e) * (t + z))


class Cloglog(ProbabilityLink):
    """eta = log(-log(1 - p)): the chance of any event of a Poisson process whose log rate is eta."""

    name = "cloglog"
    ratio = "hazard ratio"
    spread = np.pi**2 / 6
    spread_words = "pi^2 / 6 = 1.64, that of the Gumbel distribution"

    def log_yes(self, eta: np.ndarray) -> Jet:
        """log F(eta)."""
        mu = np.exp(eta)
        near = np.minimum(mu, 700.0)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            value = np.where(mu < 1e-300, eta, log1m_exp(mu))
            g = np.where(mu < 1e-300, 1.0, near / np.expm1(near)) * (mu <= 700)
        s = 1 - mu - g
        small = mu < 0.2
        x = np.where(small, mu, 0.0)
        series = -x * (1 / 2 + x * (1 / 12 - x**2 * (1 / 720 - x**2 * (1 / 30240 - x**2 / 1209600))))
        s = np.where(small, series, s)
        second = g * s
        return Jet(value, g, second, g * (s**2 - mu - second))

    def log_no(self, eta: np.ndarray) -> Jet:
        """log(1 - F(eta))."""
        minus = -np.exp(eta)
        return Jet(minus, minus, minus, minus)

    def probability(self, eta: np.ndarray) -> np.ndarray:
        """F(eta)."""
        return -np.expm1(-np.exp(eta))

    def link(self, p: float) -> float:
        """The eta of a probability."""
        return float(np.log(-np.log1p(-p)))


LINKS: dict[str, ProbabilityLink] = {one.name: one for one in (Logit(), Probit(), Cloglog())}
