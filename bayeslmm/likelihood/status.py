"""What a fit is worth, in words: its search, its edge, its rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayeslmm.likelihood.fit import LikelihoodFit

IMPRECISE = 2e-6  # what rounding may change of the log-likelihood without a word
RIVAL = 6.0  # how much lower another maximum may be and still deserve a word, in log-likelihood


@dataclass(frozen=True, kw_only=True)
class Status:
    """How the search ended.

    Attributes
    ----------
    name : {"converged", "singular", "flat", "imprecise", "perfect fit", "not converged"}
    advice : str
        What it means, and what to do about it.
    """

    name: str
    advice: str
    gradient: float
    curvature: float
    evaluations: int

    def __str__(self) -> str:
        return f"{self.name}: {self.advice}"


def status_of(fit: LikelihoodFit) -> Status:
    """Return what the checks of gradient, curvature and rounding found: the first of `_findings`, and other maxima."""
    o = fit.optimum
    name, advice = next(_findings(fit))
    if name == "not converged" and _imprecise(fit):
        advice += f". {_of_rounding(fit)}"
    if o.others and (lower := (o.others[0] - o.value) / 2) < RIVAL:
        advice += f". The likelihood has another maximum, lower by {lower:.2g} only: look at the posterior"
    return Status(name=name, advice=advice, gradient=o.gradient, curvature=o.curvature, evaluations=o.evaluations)


def _findings(fit: LikelihoodFit) -> Iterator[tuple[str, str]]:
    """Whatever holds, the gravest first: (name, advice)."""
    o = fit.optimum
    if fit.perfect:
        yield (
            "perfect fit",
            f"no residual is left, sigma is zero up to rounding ({fit.sigma:.1g}), and the likelihood has no "
            "maximum: it grows without end. Standard errors, intervals and comparisons mean nothing here. Is the "
            "response made from its predictors, or does each group have one value only?",
        )
    if not o.converged:
        yield (
            "not converged",
            f"a step further would still gain {o.gain / 2:.2g} of log-likelihood, and the smallest curvature is "
            f"{o.curvature:.2g}; "
            "scale the columns, drop an effect that the data cannot tell apart, or look at the posterior instead",
        )
    if _imprecise(fit):
        yield "imprecise", _of_rounding(fit)
    if o.flat:
        yield (
            "flat",
            "the likelihood doesn't change in some direction: parameters of this model can't be told apart by the "
            "data, and their estimates are one point of many. Leave one of them out, or look at the posterior",
        )
    if fit.singular:
        own = {parameter.label for parameter in fit.design.residual.parameters}
        what = "its end" if own & set(fit.boundary) else "no variation in that direction"
        yield (
            "singular",
            f"the maximum lies on the boundary, {', '.join(fit.boundary)}: the likelihood prefers {what}. It is a "
            "point on an edge, not evidence that this is the value; look at the posterior, or simplify",
        )
    yield "converged", "gradient and curvature are those of a maximum"


def _imprecise(fit: LikelihoodFit) -> bool:
    """Whether rounding leaves fewer than six decimals of the log-likelihood."""
    return fit.optimum.rounding / 2 > max(IMPRECISE, 1e-11 * abs(fit.loglik))


def _of_rounding(fit: LikelihoodFit) -> str:
    share, error = f"{fit.sigma / fit.stats.scale:.1g}", f"{fit.optimum.rounding / 2:.1g}"
    return (
        f"the log-likelihood is right to about {error} only, because rounding is as large: sigma "
        f"is {share} of what least squares leaves, which is next to a perfect fit, or effects and fixed part explain "
        "the same. The estimates have fewer digits too; leave out what isn't needed to fit the response"
    )
