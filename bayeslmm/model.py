"""The model that every verb takes: a description with its data, its priors and the cross-products of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.design import Design
from bayeslmm.errors import DescriptionError, visible
from bayeslmm.factorisation.memory import enough_memory, say_if_large
from bayeslmm.factorisation.statistics import Statistics, build_statistics
from bayeslmm.likelihood.fit import LikelihoodFit, fit_likelihood
from bayeslmm.priors.resolve import Priors, resolve_priors
from bayeslmm.support.threads import one_blas_thread


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A description, its design, its priors and its statistics: what there is before anything is fitted or sampled.

    `LMM` is its face, with a method for everything that can be done with it.

    Attributes
    ----------
    hierarchy : Hierarchy
    design : Design
        The description on its data: y, X, and per level the groups and columns that make Z.
    given_priors : mapping
        The priors that the user gives, by name; the rest are defaults.
    """

    hierarchy: Hierarchy
    design: Design
    given_priors: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def priors(self) -> Priors:
        """The prior of every parameter; ``lmm.priors.table()`` prints them with the defaults' reasons."""
        with one_blas_thread():
            return resolve_priors(self.design, self.given_priors)

    @cached_property
    def statistics(self) -> Statistics:
        """Cross-products of [Z X y], made once; the same numbers on any number of cores."""
        say_if_large(self.design)
        with enough_memory(self.design), one_blas_thread():
            return build_statistics(self.design)

    @cached_property
    def _ml(self) -> LikelihoodFit:
        with enough_memory(self.design):
            return fit_likelihood(self.statistics, reml=False)

    @cached_property
    def _reml(self) -> LikelihoodFit:
        with enough_memory(self.design):
            return fit_likelihood(self.statistics, reml=True)

    def ml(self) -> LikelihoodFit:
        """Fit by maximum likelihood; the fit is kept.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("dyestuff").ml().loglik.__round__(3)
        -163.664
        """
        return self._ml

    def reml(self) -> LikelihoodFit:
        """Fit by restricted maximum likelihood, as lme4 does unless told otherwise; the fit is kept.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("dyestuff").reml().estimates().round(1).to_dict()
        {'beta[Intercept]': 1527.5, 'sigma': 49.5, 'sigma_u2': 42.0}
        """
        return self._reml

    def describe(self) -> str:
        """Say in words what the hierarchy is, with its counts and the shape and fill of Z.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> print(blm.example("dyestuff").describe())
        30 rows in 6 groups of Batch (5 rows each).
        ...
        """
        return visible(self.design.describe())


def check_model(value: Any, call: str, place: str = "the model") -> None:
    """Refuse what is no model; `call` is what to write.

    Examples
    --------
    >>> check_model("y ~ 1", "blm.compare(lmm)")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: A str came as the model; expected an LMM: lmm = ...
    """
    if hasattr(value, "family") and hasattr(value, "outcome"):
        raise DescriptionError(
            f"{call} takes Gaussian outcomes so far; a {value.family.name} one came as {place}. A GLMM has ml(), whose "
            "text compares Laplace's approximation with quadrature, and sample('joint')."
        )
    if not isinstance(value, Model):
        raise DescriptionError(
            f"A {type(value).__name__} came as {place}; expected an LMM: lmm = blm.LMM(formula, data) or "
            f"blm.LMM.from_toml(path), then {call}."
        )
