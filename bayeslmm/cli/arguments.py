"""What the commands take, besides what is each one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from bayeslmm.errors import BayesLMMError

LIKELIHOODS = ("ml", "reml")

Variant = Literal["ml", "reml", "joint", "marginal"]
Flag = Parameter(negative="", show_default=False)
Positive = Parameter(validator=Number(gte=1))
Seed = Parameter(validator=Number(gte=0))


class UsageError(BayesLMMError):
    """The arguments do not make a command."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the posteriors are sampled.

    Parameters
    ----------
    draws
        Draws kept per chain.
    tune
        Draws before them, for tuning.
    chains
        Number of chains.
    seed
        Seed of the random numbers, for results that can be repeated.
    """

    draws: Annotated[int, Positive] = 1000
    tune: Annotated[int, Positive] = 1000
    chains: Annotated[int, Positive] = 4
    seed: Annotated[int | None, Seed] = None

    def settings(self, quiet: bool) -> dict[str, Any]:
        """Arguments of `LMM.sample` and `compare`."""
        return {
            "draws": self.draws,
            "tune": self.tune,
            "chains": self.chains,
            "random_seed": self.seed,
            "progress": not quiet,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Integral:
    """How the integral over the effects is taken, where the outcome isn't Gaussian.

    Parameters
    ----------
    approximation
        For --variant ml of a model with a family: quadrature where that can be had, unless said otherwise.
    nodes
        Nodes of the quadrature at each level; as many as it takes if not given.
    """

    approximation: Literal["auto", "laplace", "quadrature"] | None = None
    nodes: Annotated[int | None, Positive] = None

    def settings(self) -> dict[str, Any]:
        """Arguments of `GLMM.ml`, those that were given."""
        given = {"approximation": self.approximation, "nodes": self.nodes}
        return {key: value for key, value in given.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """Another way to name the model, without a description file.

    Parameters
    ----------
    formula
        The model in lme4's notation, instead of a description file: "y ~ 1 + x + (1 | group)".
    data
        The table for --formula, a .csv or .csv.gz file.
    family
        With --formula: what the outcome is, where it isn't Gaussian: "binomial", "poisson", "binomial(link = probit)".
    trials
        With --family binomial, where the response is the number of successes: the column of trials.
    weights
        With --family binomial, where the response is a proportion: the column of trials.
    missing
        With --formula: what to do with rows that have missing values.
    """

    formula: str | None = None
    data: Path | None = None
    family: str | None = None
    trials: str | None = None
    weights: str | None = None
    missing: Literal["error", "drop"] = "error"


DEFAULT_SAMPLING = Sampling()
DEFAULT_SOURCE = Source()
DEFAULT_INTEGRAL = Integral()
