"""The marginal variant: y ~ N(X beta, sigma^2 (Z G Z' + I)), the random effects integrated out."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.design.parameters import coords
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.priors.resolve import Priors
from bayeslmm.pymc_models.expressions import factorised, normal_logp, random_effects_draw, residual_draw
from bayeslmm.pymc_models.parameters import declare_parameters


def build_marginal(stats: Statistics, priors: Priors) -> pm.Model:
    """Build the marginal model as a `pm.Model`; the data are `pm.Data` "y_data", so `pm.set_data` changes them.

    Returns
    -------
    pm.Model
        Free variables beta, sigma, sigma_u2, ..., the factors of the correlations; observed y.
    """
    design = stats.design
    with pm.Model(coords=coords(design)) as model:
        y_data = pm.Data("y_data", design.y, dims="row")
        parameters = declare_parameters(design, priors)
        logp, dist = _law(stats)
        pm.CustomDist(
            "y", parameters.beta, parameters.sigma, *parameters.relative_factors(), *parameters.psi,
            logp=logp, dist=dist, class_name="MarginalNormal", observed=y_data, dims="row",
            signature=",".join(["(p)", "()", *["(r,s)"] * len(design.levels), *["()"] * len(parameters.psi)]) + "->(n)",
        )  # fmt: skip
    return model


def _law(stats: Statistics):
    """Log density of y, and a symbolic draw, as functions of (beta, sigma, lambda_2, ..., psi_1, ...)."""
    design = stats.design
    offset = np.zeros(()) if design.offset is None else design.offset
    Q = np.asarray(stats.Q)
    fitted = Q @ stats.gamma + offset
    k = len(design.levels)

    def logp(value, beta, sigma, *rest):
        residual = (value - fitted) / stats.scale
        logdet, T = factorised(stats, rest[:k], rest[k:], residual, Q)
        v = pt.concatenate([stats.gamma - stats.upper @ beta, [np.float64(stats.scale)]])
        return normal_logp(design.n, sigma, logdet, v @ T @ v)

    def dist(beta, sigma, *rest):
        factors, psi = rest[:k], rest[k:-1]
        mean = offset + design.X @ beta + random_effects_draw(design, factors, sigma)
        return mean + residual_draw(design.residual, sigma, psi)

    return logp, dist
