"""What an outcome family is: the density of y at a linear predictor eta, its derivatives, its checks and its words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd

from bayeslmm.data.table import say_rows
from bayeslmm.distributions.prior import Prior
from bayeslmm.errors import DataError, DescriptionError, did_you_mean
from bayeslmm.families.averages import LINKS, MEANS, SLOPES
from bayeslmm.families.links import Jet
from bayeslmm.families.stable import saturated
from bayeslmm.support.text import with_article


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What was observed.

    Attributes
    ----------
    name : str
        The response as it is written.
    y : (n,) float array
        Successes, counts, measurements, or the number of a category from 0 on.
    trials : (n,) float array, or None
        Of a binomial.
    categories : tuple of str
        Of an ordinal response, in their order.
    rows : pandas.Index
        Labels of the rows, for errors.
    """

    name: str
    y: np.ndarray
    rows: pd.Index
    trials: np.ndarray | None = None
    categories: tuple[str, ...] = ()

    @cached_property
    def log_y(self) -> np.ndarray:
        """Log of a count, zero for none."""
        return np.log(np.maximum(self.y, 1.0))

    @cached_property
    def saturated(self) -> np.ndarray:
        """Log density of a Poisson count at its own mean."""
        return saturated(self.y)

    @cached_property
    def log_choose(self) -> np.ndarray:
        """Log of the number of orders of successes and failures; zero without trials."""
        from scipy.special import gammaln

        if self.trials is None:
            return np.zeros_like(self.y)
        return gammaln(self.trials + 1) - gammaln(self.y + 1) - gammaln(self.trials - self.y + 1)

    def part(self, rows: np.ndarray) -> Outcome:
        """Some of the rows, or rows several times over."""
        trials = None if self.trials is None else self.trials[rows]
        return Outcome(name=self.name, y=self.y[rows], rows=self.rows, trials=trials, categories=self.categories)

    def refuse(self, wrong: np.ndarray, expected: str, instead: str) -> None:
        """Raise a DataError where any row is wrong, with the first values that are."""
        if wrong.any():
            values = ", ".join(f"{x:g}" for x in dict.fromkeys(self.y[wrong][:50].tolist()))
            shown = values if len(values) < 60 else values[:60] + "..."
            raise DataError(
                f"The response {self.name!r} has {shown} in {int(wrong.sum())} of {len(self.y)} rows "
                f"({say_rows(self.rows, wrong)}); {expected}. {instead}"
            )


class Dispersion(NamedTuple):
    """How the log density, its slope and its curvature by eta change with each dispersion coordinate, (k, ..., n)."""

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """A distribution of y whose location is a function of eta = offset + X beta + Z u.

    Densities take eta (..., n), the rows last, and dispersion coordinates psi (k,) on the real line, such as the log
    of a negative binomial's alpha.

    Attributes
    ----------
    link : str
        "" stands for the first of the family's links.
    """

    link: str = ""

    name: ClassVar[str]
    links: ClassVar[tuple[str, ...]]
    log_concave: ClassVar[bool] = True
    has_intercept: ClassVar[bool] = True
    takes_trials: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def __post_init__(self):
        if not isinstance(self.link, str):
            raise DescriptionError(f"link is a text such as {self.links[0]!r}; got {self.link!r}")
        if not self.link:
            object.__setattr__(self, "link", self.links[0])
        if self.link not in self.links:
            raise DescriptionError(
                f"the family {self.name} has no link {self.link!r}; there {'is' if len(self.links) == 1 else 'are'} "
                f"{', '.join(self.links)}.{did_you_mean(self.link, self.links)}"
            )

    def __str__(self) -> str:
        return f"{self.name}(link = {self.link})"

    # the data ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def check(self, outcome: Outcome) -> None:
        """Refuse a response that this family can't have given."""

    def splits_rows(self, outcome: Outcome) -> bool:
        """Whether an effect of every single row can be told from the family's own spread."""
        return False

    # the density ------------------------------------------------------------------------------------------------

    @abstractmethod
    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """The log density (..., n) and its first three derivatives by eta."""

    def logpdf(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """The log density (..., n)."""
        return self.jet(outcome, eta, psi).value

    def slope(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and its first derivative alone: what is asked for most often."""
        jet = self.jet(outcome, eta, psi)
        return jet.value, jet.first

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """Derivatives by the dispersion coordinates."""
        none = np.zeros((0, *eta.shape))
        return Dispersion(none, none, none)

    @abstractmethod
    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Draws of y (..., n), of the trials and categories of the outcome."""

    @abstractmethod
    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The mean of y, or of the share of successes, at eta."""

    # what is expected: arrays of linear predictors (..., N), the points of the parameters last -------------------

    def responses(self, outcome: Outcome) -> tuple[str, ...]:
        """What is expected of a row, where that is more than one number: its categories."""
        return ()

    def expected(self, eta: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """The mean of y (1, ..., N), or the probability of each category (C, ..., N); dispersion is (N, K)."""
        return self.mean(eta)[None]

    def expected_slope(self, eta: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Its derivative by eta."""
        return SLOPES[self.link](eta)[None]

    def averaged(self, eta: np.ndarray, variance: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Its mean where eta has a normal distribution with this variance, over groups that aren't known."""
        return MEANS[self.link](eta, variance)[None]

    def averaged_link(self, eta: np.ndarray, variance: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """The link of the mean over groups (C, ..., N): the linear predictor of a population, not of a group.

        Of ordered categories, that of being above each threshold.
        """
        return LINKS[self.link](MEANS[self.link](eta, variance))[None]

    def variance(self, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray | None:
        """Variance of y, or of the share of successes of one trial, given its mean (..., N); None where it has none."""
        return None

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str] | None:
        """What stands for the variance of the rows on the link's scale (..., N), and what it is, in words."""
        return None

    # its parameters ---------------------------------------------------------------------------------------------

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """Names of the parameters beside eta: "alpha"."""
        return ()

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """Coordinates to begin a search at."""
        return np.zeros(len(self.dispersion_labels(outcome)))

    def dispersion_bounds(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest coordinates that a search may try; beyond them the family is another one."""
        k = len(self.dispersion_labels(outcome))
        return np.full(k, -np.inf), np.full(k, np.inf)

    def dispersion_values(self, psi: np.ndarray) -> np.ndarray:
        """The parameters (..., k) at their coordinates."""
        return np.exp(psi)

    def dispersion_coordinates(self, values: np.ndarray) -> np.ndarray:
        """The coordinates (..., k) of parameters as written."""
        return np.log(values)

    def dispersion_slopes(self, psi: np.ndarray) -> np.ndarray:
        """Derivatives (k, k) of the parameters by the coordinates."""
        return np.diag(np.exp(psi))

    def dispersion_log_jacobian(self, psi: np.ndarray) -> np.ndarray:
        """Log of the determinant (...,) of `dispersion_slopes` at psi (..., k)."""
        return psi.sum(axis=-1)

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """Default prior of a parameter, and its reason."""
        raise NotImplementedError(f"{self.name} has no parameter {label}")

    # priors and words -------------------------------------------------------------------------------------------

    @abstractmethod
    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Where the linear predictor is likely to be, before anything is known of predictors; and what that is."""

    def unit(self, outcome: Outcome) -> tuple[float, str]:
        """What stands for one SD of y on the link's scale; and what that is, in words."""
        return 1.0, f"unit on the {self.link} scale"

    @property
    @abstractmethod
    def words(self) -> str:
        """What y is, in a line."""

    @property
    def no_residual(self) -> str:
        """Why there is no sigma and no e."""
        return (
            f"There is no sigma and no e: given the linear predictor, y spreads as {with_article(self.words)} does, "
            "which is not a residual that is added to it. SDs of effects are on the scale of the link."
        )

    @property
    def ratio(self) -> str:
        """What exp(beta) is: "odds ratio"; "" where it is nothing."""
        return ""


def listed_links(families: Sequence[type[Family]]) -> str:
    """Families and their links, for errors.

    Examples
    --------
    >>> from bayeslmm.families.poisson import Poisson
    >>> listed_links([Poisson])
    'poisson (log)'
    """
    return ", ".join(f"{one.name} ({', '.join(one.links)})" for one in families)
