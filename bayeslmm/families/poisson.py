"""Counts whose variance is their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.families.links import Jet


def check_counts(outcome: Outcome, what: str) -> None:
    """Refuse what is no count, and counts that are all zero.

    Examples
    --------
    >>> import pandas as pd
    >>> check_counts(Outcome(name="y", y=np.array([0.5, 1.0]), rows=pd.RangeIndex(2)), "Poisson")
    Traceback (most recent call last):
    bayeslmm.errors.DataError: The response 'y' has 0.5 in 1 of 2 rows ...
    """
    y = outcome.y
    outcome.refuse(
        (y < 0) | (y != np.round(y)),
        f"a {what} outcome has whole numbers from 0 on",
        "For rates give the counts, with offset(log(exposure)); for positive measurements take family='gamma'.",
    )
    if not y.any():
        outcome.refuse(y == 0, "zeros alone have no rate that could be estimated", "Is it the right column?")


@dataclass(frozen=True, kw_only=True)
class Poisson(Family):
    """Counts with the mean exp(eta).

    Parameters
    ----------
    link : {"log"}

    Examples
    --------
    >>> Poisson().mean(np.array([0.0])).tolist()
    [1.0]
    """

    name: ClassVar[str] = "poisson"
    links: ClassVar[tuple[str, ...]] = ("log",)

    def check(self, outcome: Outcome) -> None:
        """Counts."""
        check_counts(outcome, "Poisson")

    def splits_rows(self, outcome: Outcome) -> bool:
        """An effect of every row is what makes it overdispersed."""
        return True

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """Y eta - exp(eta) - log y!."""
        with np.errstate(over="ignore"):
            mu = np.exp(eta)
        return Jet(self._value(outcome, eta, mu), outcome.y - mu, -mu, -mu)

    def logpdf(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """The log density (..., n)."""
        with np.errstate(over="ignore"):
            return self._value(outcome, eta, np.exp(eta))

    def slope(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and its first derivative."""
        with np.errstate(over="ignore"):
            mu = np.exp(eta)
        return self._value(outcome, eta, mu), outcome.y - mu

    def _value(self, outcome: Outcome, eta: np.ndarray, mu: np.ndarray) -> np.ndarray:
        # by d = eta - log y, the distance from where y is most likely: large counts would leave few digits otherwise
        y = outcome.y
        d = eta - outcome.log_y
        with np.errstate(over="ignore"):
            return np.where(y > 0, outcome.saturated + y * (d - np.expm1(d)), -mu)

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Counts."""
        return rng.poisson(np.exp(eta)).astype(float)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The rate."""
        return np.exp(eta)

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """The mean."""
        return mean

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """Nakagawa, Johnson & Schielzeth's (2017) for a log link."""
        return np.log1p(1 / mean), "log(1 + 1 / mean), the mean being that of the model over all rows"

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Log of the mean count."""
        return float(np.log(outcome.y.mean())), "log of the mean of y"

    @property
    def words(self) -> str:
        """What y is."""
        return "count (Poisson)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return "rate ratio"
