"""Successes in trials, or a single yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.families.links import LINKS, Jet, ProbabilityLink


@dataclass(frozen=True, kw_only=True)
class Binomial(Family):
    """y successes in N trials, each with probability F(eta); with N = 1 everywhere, zeros and ones.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}

    Examples
    --------
    >>> Binomial(link="probit").mean(np.array([0.0])).tolist()
    [0.5]
    """

    name: ClassVar[str] = "binomial"
    links: ClassVar[tuple[str, ...]] = tuple(LINKS)
    takes_trials: ClassVar[bool] = True

    @property
    def F(self) -> ProbabilityLink:
        """From eta to the probability."""
        return LINKS[self.link]

    def check(self, outcome: Outcome) -> None:
        """Whole successes, no more than trials; both successes and failures."""
        y, N = outcome.y, _trials(outcome)
        if outcome.trials is None:
            outcome.refuse(
                (y != 0) & (y != 1),
                "a binomial without trials has zeros and ones",
                "Write cbind(successes, failures) ~ ..., or a proportion with weights='the column of trials'.",
            )
        outcome.refuse(
            (y < 0) | (y > N) | (y != np.round(y)),
            "successes are whole numbers from 0 to the number of trials",
            "Is the response a proportion? Then weights= is its column of trials, and proportion x trials is whole.",
        )
        if y.sum() in (0, N.sum()):
            outcome.refuse(
                np.ones(len(y), dtype=bool),
                f"there are only {'failures' if y.sum() == 0 else 'successes'}, so that nothing can be estimated",
                "Is it the right column?",
            )

    def splits_rows(self, outcome: Outcome) -> bool:
        """Only where there are trials to compare within a row."""
        return outcome.trials is not None and bool((outcome.trials > 1).any())

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """y log F + (N - y) log(1 - F) + log choose(N, y)."""
        y, N = outcome.y, _trials(outcome)
        if self.link == "logit":
            value, first, p, q = self._logistic(outcome, eta)
            bend = N * p * q
            return Jet(value, first, -bend, -bend * (q - p))
        yes, no = self.F.log_yes(eta), self.F.log_no(eta)
        value, *rest = (y * a + (N - y) * b for a, b in zip(yes, no, strict=True))
        return Jet(value + outcome.log_choose, *rest)

    def slope(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and its first derivative."""
        return self._logistic(outcome, eta)[:2] if self.link == "logit" else super().slope(outcome, eta, psi)

    def _logistic(self, outcome: Outcome, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(log density, its slope, p, 1 - p) of the logit from one exponential: y eta - N log(1 + e^eta)."""
        y, N = outcome.y, _trials(outcome)
        small = np.exp(-np.abs(eta))
        large = 1 / (1 + small)
        other = small * large
        up = eta > 0
        p, q = np.where(up, large, other), np.where(up, other, large)
        # the larger part first, so that nothing cancels
        value = np.where(up, y - N, y) * eta - N * np.log1p(small) + outcome.log_choose
        return value, y * q - (N - y) * p, p, q

    def logpdf(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """The log density (..., n)."""
        if self.link != "logit":
            return self.jet(outcome, eta, psi).value
        y, N = outcome.y, _trials(outcome)
        return np.where(eta > 0, y - N, y) * eta - N * np.log1p(np.exp(-np.abs(eta))) + outcome.log_choose

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Successes."""
        return rng.binomial(_trials(outcome).astype(np.int64), self.F.probability(eta)).astype(float)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The probability."""
        return self.F.probability(eta)

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Of a single trial."""
        return mean * (1 - mean)

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """Of the latent variable that is above zero where there is a success, of a single trial."""
        return np.full_like(mean, self.F.spread), f"{self.F.spread_words} ({self.link} link), of a single trial"

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """The link of the share of successes, of one more each than there are."""
        share = (outcome.y.sum() + 1) / (_trials(outcome).sum() + 2)
        return self.F.link(float(share)), f"{self.link} of the share of successes"

    def unit(self, outcome: Outcome) -> tuple[float, str]:
        """As the link has it."""
        return self.F.unit, f"unit on the {self.link} scale"

    @property
    def words(self) -> str:
        """What y is."""
        return "number of successes in trials (binomial)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return self.F.ratio


def _trials(outcome: Outcome) -> np.ndarray:
    return np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials
