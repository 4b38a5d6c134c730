"""Priors where the outcome isn't Gaussian: on the link's scale, stated at the mean of the predictors as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.families.family import Family, Outcome
from bayeslmm.priors.resolve import PriorRow, Priors, read_given, settle_coefficients, settle_levels, settling
from bayeslmm.priors.yardstick import of_family


def resolve_link_priors(
    design: Design, family: Family, outcome: Outcome, given: Mapping[str, Any] | None = None
) -> Priors:
    """Put together the given priors and the defaults for the rest.

    Parameters
    ----------
    given : mapping, optional
        As for an `LMM`, without "sigma" and "shares"; and the family's own parameters, such as "alpha",
        ``"threshold[low|middle]"``, or "threshold" for all thresholds.

    Returns
    -------
    Priors
        Defaults: 2.5 units of the link's scale per SD of a predictor, the constant around the link of the overall
        mean, ``HalfStudentT(3, 1 unit)`` for SDs of effects; a unit is 1 for logit, log and cloglog, 0.625 for
        probit, the SD of y for an identity.

    Raises
    ------
    PriorError
        A key that is no parameter of the model, or a prior that doesn't suit its parameter.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
    >>> blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").priors.table()["prior"].tolist()
    ['Normal(mu=1.01, sigma=2.5)', 'HalfStudentT(nu=3, sigma=1)']
    """
    labels = family.dispersion_labels(outcome)
    given = dict(given) if isinstance(given, Mapping) else given or {}
    if isinstance(given, dict):
        for key in ("sigma", "sigma_total", "shares"):
            if key in given and key not in labels:
                raise PriorError(f"There is no {key!r} to give a prior. {family.no_residual}")
        kinds = {label.split("[")[0] for label in labels if "[" in label}
        for kind in kinds & set(given):
            whole = given.pop(kind)
            given = dict.fromkeys((label for label in labels if label.startswith(f"{kind}[")), whole) | given
    wanted = read_given(design, given, labels)
    for label in labels:
        if label in wanted and not label.startswith("threshold") and wanted[label][0].lower < 0:
            raise PriorError(
                f"{label} is positive; {wanted[label][0]} allows negative values. Write LogNormal(mu=0, sigma=1)."
            )
    rows: list[PriorRow] = []
    settle, like = settling(wanted, rows), of_family(design, family, outcome)
    beta, where = settle_coefficients(design, wanted, like, settle)
    sd, corr, anchors = settle_levels(design, wanted, like, settle, as_given=False)
    dispersion = tuple(settle(label, *family.dispersion_prior(label, outcome)) for label in labels)
    return Priors(
        beta=beta, sigma=None, sd=sd, corr=corr, dispersion=dispersion, reasons=tuple(rows), beta_anchor=where,
        effect_anchors=anchors,
    )  # fmt: skip
