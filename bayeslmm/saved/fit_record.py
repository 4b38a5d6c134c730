"""A fit by ML or REML as plain numbers and texts."""

from __future__ import annotations

from typing import Any

from bayeslmm import __version__
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


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None
    return value
