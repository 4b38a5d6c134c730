"""The model that every verb takes where the outcome isn't Gaussian: a description with its data, family and priors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.design import Design
from bayeslmm.design.outcome import ResponseReader
from bayeslmm.errors import visible
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.families.family import Family, Outcome
from bayeslmm.formula.cbind import write_cbind
from bayeslmm.integration.choice import APPROXIMATIONS, Rule, choose, laplace_of, rule_at
from bayeslmm.integration.existence import words_before
from bayeslmm.integration.fit import GLMMFit, fit_glmm
from bayeslmm.integration.objective import Problem
from bayeslmm.integration.rows import build_rows
from bayeslmm.integration.search import Peak, maximise
from bayeslmm.priors.link_scale import resolve_link_priors
from bayeslmm.priors.resolve import Priors
from bayeslmm.support.text import with_article
from bayeslmm.support.threads import one_blas_thread


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkModel:
    """A description, its design, the outcome's family and priors: what there is before anything is fitted.

    ``GLMM`` is its face.

    Attributes
    ----------
    hierarchy : Hierarchy
    design : Design
    reader : ResponseReader
        The family, and the columns that the response is made of.
    given_priors : mapping
        The priors that the user gives, by name; the rest are defaults.
    """

    hierarchy: Hierarchy
    design: Design
    reader: ResponseReader
    given_priors: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def family(self) -> Family:
        """The outcome's family."""
        return self.reader.family

    @property
    def outcome(self) -> Outcome:
        """The response, with its trials or categories."""
        assert self.design.outcome is not None  # it was read with a family
        return self.design.outcome

    @property
    def formula(self) -> str:
        """As it is written, with both columns of a cbind."""
        return write_cbind(self.hierarchy.formula, self.hierarchy.response, self.reader.failures, self.reader.total)

    @cached_property
    def priors(self) -> Priors:
        """The prior of every parameter; ``glmm.priors.table()`` prints them with the defaults' reasons."""
        with one_blas_thread():
            return resolve_link_priors(self.design, self.family, self.outcome, self.given_priors)

    @property
    def thresholds_as_written(self) -> bool:
        """Whether the priors of thresholds are those of them as written, and not at the mean of the predictors."""
        labels = self.family.dispersion_labels(self.outcome)
        given = any(row.source == "given" and row.parameter in labels for row in self.priors.reasons)
        return given and not self.family.has_intercept

    @cached_property
    def problem(self) -> Problem:
        """The likelihood as a function of one vector."""
        with enough_memory(self.design), one_blas_thread():
            rows = build_rows(self.design, centred=not self.family.has_intercept)
            return Problem(rows=rows, family=self.family, outcome=self.outcome)

    @cached_property
    def doubts(self) -> tuple[str, ...]:
        """What should be known before a fit: separation, groups of one kind only."""
        return tuple(words_before(self.design, self.family, self.outcome))

    @cached_property
    def _laplace(self) -> Peak:
        return maximise(self.problem, laplace_of(self.problem))

    @cached_property
    def _fits(self) -> dict[tuple[str, int | None], GLMMFit]:
        return {}

    def ml(self, approximation: str = "auto", nodes: int | None = None) -> GLMMFit:
        """Fit by maximum likelihood, the effects integrated out; the fit is kept.

        Parameters
        ----------
        approximation : {"auto", "laplace", "quadrature"}
            By itself adaptive Gauss-Hermite quadrature where groups of one level have one or two effects, or groups
            with one effect each are nested; Laplace's approximation elsewhere. Where levels are crossed, "quadrature"
            is one of the level with the most groups, given the others, and Laplace's approximation of those: nearer to
            the likelihood, and some hundred times slower.
        nodes : int, optional
            Of the quadrature, at each level; as many as it takes where it is left out.

        Returns
        -------
        GLMMFit
            With ``approximation_error``: Laplace's log-likelihood minus quadrature's at the estimates.

        Raises
        ------
        DescriptionError
            For a quadrature where a covariance is known, or groups have too many effects.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> round(glmm.ml("laplace").loglik, 3), round(glmm.ml().loglik, 3)
        (-16.762, -16.754)
        """
        key = (approximation, nodes)
        if key not in self._fits:
            for said in self.doubts:
                if said.startswith("Separation"):
                    warnings.warn(said, UserWarning, stacklevel=2)
            with enough_memory(self.design):
                self._fits[key] = fit_glmm(
                    self.problem, approximation, nodes, before=self.doubts, formula=self.formula,
                    laplace_peak=self._laplace if approximation in APPROXIMATIONS else None,
                )  # fmt: skip
            if endless := self._fits[key].endless:
                warnings.warn(
                    f"{' and '.join(endless)} ran away: nearly all groups are all or nothing, and the likelihood can't "
                    "say how large it is. A prior can: glmm.sample().",
                    UserWarning,
                    stacklevel=2,
                )
        return self._fits[key]

    def rule(self, approximation: str = "auto", nodes: int | None = None) -> Rule:
        """How effects are integrated out where parameters move around the maximum: as in `ml`, the nodes chosen there.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").rule("laplace").nodes
        1
        """
        kind = choose(self.problem, approximation, nodes)
        with enough_memory(self.design):
            return rule_at(self.problem, kind, nodes, self._laplace.x)

    def describe(self) -> str:
        """Say in words what the outcome and the hierarchy are, and what should be known before a fit.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> print(blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").describe())
        y is a count (Poisson); its linear predictor is on the log scale. There is no sigma and no e: ...
        8 rows in 4 groups of g (2 rows each).
        ...
        """
        name, family = self.outcome.name, self.family
        what = f"{name} is {with_article(family.words)}"
        first = f"{what}; its linear predictor is on the {family.link} scale. {family.no_residual}"
        return visible("\n".join([first, self.design.describe(), *self.doubts]))
