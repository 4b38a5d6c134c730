"""The joint variant where the outcome isn't Gaussian: u2, u3, ... are nodes, y has its family's density given them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.design.design import Design
from bayeslmm.design.parameters import coords
from bayeslmm.families.family import Family, Outcome
from bayeslmm.priors.resolve import Priors
from bayeslmm.pymc_models.joint import declare_effects
from bayeslmm.pymc_models.outcomes import log_density, random_outcome
from bayeslmm.pymc_models.parameters import (
    declare_coefficients,
    declare_deviations,
    declare_factors,
    declare_variable,
)
from bayeslmm.support.arguments import check_centered

CUT = "cut"  # dimension of the thresholds


def build_link_joint(
    design: Design, family: Family, priors: Priors, centered: bool | Mapping[str, bool] = False
) -> pm.Model:
    """Build the joint model: u_k ~ N(0, K_k (x) F_k F_k'), eta = offset + X beta + sum Z_k u_k, y ~ family(eta).

    Parameters
    ----------
    centered : bool or mapping of level name to bool
        As in `build_joint`.

    Returns
    -------
    pm.Model
        With the deterministic ``eta``, dims "row".
    """
    outcome = design.outcome
    assert outcome is not None
    centring = check_centered(centered, [level.name for level in design.levels])
    with pm.Model(coords=coords(design)) as model:
        y_data = pm.Data("y_data", outcome.y, dims="row")
        beta = declare_coefficients(design, priors)
        factors = declare_factors(design, priors, declare_deviations(design, priors))
        own = own_parameters(model, design, family, outcome, priors, beta)
        eta = design.X @ beta if design.p else pt.zeros(design.n)
        if design.offset is not None:
            eta = design.offset + eta
        for k, level in enumerate(design.levels):
            u = declare_effects(level, factors[k], priors.effect_maps[k], centring[level.name])
            rows = u[level.index]
            eta = eta + ((rows * level.columns).sum(axis=-1) if level.r > 1 else rows * level.columns[:, 0])
        eta = pm.Deterministic("eta", eta, dims="row")
        shapes = ["(n)", *("(k)" if x.type.ndim else "()" for x in own)]
        logp, dist = log_density(family, outcome), random_outcome(family, outcome)
        pm.CustomDist(
            "y", eta, *own, logp=logp, dist=dist, class_name="Outcome", observed=y_data, dims="row",
            signature=f"{','.join(shapes)}->(n)",
        )  # fmt: skip
    return model


def own_parameters(
    model: pm.Model, design: Design, family: Family, outcome: Outcome, priors: Priors, beta: Any
) -> list[Any]:
    """The family's parameters; thresholds as one ascending vector, stated at the mean of the predictors by default."""
    labels = family.dispersion_labels(outcome)
    if family.has_intercept:
        return [declare_variable(label, prior) for label, prior in zip(labels, priors.dispersion, strict=True)]
    model.add_coord(CUT, [label.removeprefix("threshold[").removesuffix("]") for label in labels])
    given = any(row.source == "given" and row.parameter in labels for row in priors.reasons)
    params = [prior.pymc() for prior in priors.dispersion]
    start = family.dispersion_values(family.dispersion_start(outcome))
    ordered: dict[str, Any] = {
        "default_transform": pm.distributions.transforms.ordered, "initval": start, "dims": CUT,
    }  # fmt: skip
    name = "threshold" if given else "threshold_at_mean"
    mu, sigma = (np.array([one[1][key] for one in params]) for key in ("mu", "sigma"))
    cuts = pm.Normal(name, mu, sigma, **ordered)
    if given:
        return [cuts]
    return [pm.Deterministic("threshold", cuts + pt.dot(design.X.mean(axis=0), beta), dims=CUT)]
