"""A result that a user gives, checked: a fit or a posterior of this model."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model
from bayeslmm.posterior.draws import check_tree
from bayeslmm.support.arguments import check_coverage
from bayeslmm.tables.fit_result import FitResult
from bayeslmm.tables.link_result import read_link_result
from bayeslmm.tables.posterior_result import PosteriorResult
from bayeslmm.tables.result import Result


def read_result(model: Model | LinkModel, result: Any, level: float = 0.95, random_effects: bool = False) -> Result:
    """Take a fit or a posterior of this model; refuse what is neither, or another model's.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> read_result(blm.example("dyestuff"), "reml")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: A str came as the result; expected ... Did you mean lmm.reml()?
    """
    check_coverage("level", level)
    if isinstance(model, LinkModel):
        return read_link_result(model, result, level, random_effects)
    if isinstance(result, LikelihoodFit):
        _check_own(model, result)
        return FitResult(model=model, level=float(level), name=result.method, fit=result)
    if "posterior" not in (getattr(result, "children", None) or {}):
        meant = {"ml": " Did you mean lmm.ml()?", "reml": " Did you mean lmm.reml()?"}
        hint = meant.get(result.lower(), "") if isinstance(result, str) else ""
        raise DescriptionError(
            f"A {type(result).__name__} came as the result; expected lmm.ml(), lmm.reml() or a posterior, "
            f"lmm.sample().{hint}"
        )
    check_tree(model.design, "given", result, random_effects, "Write lmm.sample() and take what it returns.")
    variant = result.attrs.get("variant", "")
    name = f"{variant} posterior" if variant in ("joint", "marginal") else "posterior"
    return PosteriorResult(model=model, level=float(level), name=name, tree=result)


def _check_own(model: Model, fit: LikelihoodFit) -> None:
    """Refuse the fit of another model."""
    own, other = model.design, fit.design
    if own is other:
        return
    same = (own.hierarchy.formula, own.coef) == (other.hierarchy.formula, other.coef)
    same = same and [level.groups for level in own.levels] == [level.groups for level in other.levels]
    if not (same and np.array_equal(own.y, other.y) and np.array_equal(own.X, other.X)):
        raise DataError(
            f"The fit is of {other.hierarchy.formula!r} with {other.n} rows, and this model is "
            f"{own.hierarchy.formula!r} with {own.n}, or has other data. Pass lmm.ml() or lmm.reml() of this model."
        )
