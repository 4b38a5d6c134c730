"""Fits as plain numbers and texts."""

from __future__ import annotations

from typing import Any

from bayeslmm import __version__
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.likelihood.fit import LikelihoodFit


def fit_record(fit: LikelihoodFit) -> dict[str, Any]:
    """A fit as plain numbers and texts, for JSON; what is not a number there is null.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> record = fit_record(blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}).ml())
    >>> record["method"], record["groups"], round(record["fixef"]["Intercept"], 3)
    ('ML', {'g': 3}, 4.833)
    """
    status = fit.status
    record = {
        "bayeslmm": __version__,
        "formula": fit.design.hierarchy.formula,
        "method": fit.method,
        "n": fit.design.n,
        "groups": {level.tag: level.m for level in fit.design.levels},
        "loglik": fit.loglik,
        "aic": fit.aic,
        "bic": fit.bic,
        "fixef": fit.fixef.to_dict(),
        "se": fit.fixef_se.to_dict(),
        "sigma": fit.sigma,
        "theta": fit.theta.to_dict(),
        "residual": {p.label: float(x) for p, x in zip(fit.design.residual.parameters, fit.psi, strict=True)},
        "varcorr": fit.varcorr.to_dict("records"),
        "ranef": {name: frame.to_dict("index") for name, frame in fit.ranef.items()},
        "singular": fit.singular,
        "status": {"name": status.name, "advice": status.advice},
    }
    return _jsonable(record)


def link_fit_record(fit: GLMMFit) -> dict[str, Any]:
    """The same of a fit of an outcome that isn't Gaussian, with how its integral was taken.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> record = link_fit_record(blm.example("cbpp").ml("laplace"))
    >>> record["family"], record["approximation"], round(record["loglik"], 4)
    ('binomial(link = logit)', 'laplace', -92.0263)
    """
    error = fit.approximation_error
    record = {
        "bayeslmm": __version__,
        "formula": fit.formula,
        "family": str(fit.family),
        "method": "ML",
        "approximation": fit.approximation,
        "nodes": fit.nodes,
        "n": fit.design.n,
        "groups": {level.tag: level.m for level in fit.design.levels},
        "loglik": fit.loglik,
        "laplace_minus_quadrature": error.value,
        "aic": fit.aic,
        "bic": fit.bic,
        "fixef": fit.fixef.to_dict(),
        "se": fit.fixef_se.to_dict(),
        "dispersion": fit.dispersion.to_dict(),
        "theta": fit.theta.to_dict(),
        "varcorr": fit.varcorr.to_dict("records"),
        "ranef": {name: frame.to_dict("index") for name, frame in fit.ranef.items()},
        "singular": fit.singular,
        "doubts": list(fit.doubts),
    }
    return _jsonable(record)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float):  # numpy's as well
        return float(value) if abs(value) < float("inf") else None
    return value
