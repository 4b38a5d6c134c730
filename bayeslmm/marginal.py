"""The marginal variant: y ~ N(X beta, sigma^2 (Z G Z' + I)), the random effects integrated out."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.mixednormal import cross_products, flatten_factors, normal_logp, random_effects_draw
from bayeslmm.op import log_det_and_T, pack_structure
from bayeslmm.parameters import coords
from bayeslmm.priors import Priors
from bayeslmm.statistics import Statistics
from bayeslmm.variables import declare_parameters


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
            "y", parameters.beta, parameters.sigma, *parameters.relative_factors(), logp=logp, dist=dist,
            class_name="MarginalNormal", observed=y_data, dims="row",
            signature=",".join(["(p)", "()", *["(r,s)"] * len(design.levels)]) + "->(n)",
        )  # fmt: skip
    return model


def _law(stats: Statistics):
    """Log density of y, and a symbolic draw, as functions of (beta, sigma, lambda_2, ...)."""
    design = stats.design
    p = design.p
    fitted = stats.Q @ stats.gamma
    ZtQ = np.ascontiguousarray(stats.ZtW[:, :p])
    # y enters as a variable, so nothing is taken for granted about which levels resolve it
    winspan = np.column_stack([stats.winspan[:, :p], np.zeros((len(stats.plan.chain), 1), dtype=bool)])
    packed = pack_structure(stats.structure, winspan)

    def logp(value, beta, sigma, *factors):
        residual = (value - fitted) / stats.scale
        ZtW = pt.concatenate([ZtQ, cross_products(stats, residual[:, None])], axis=1)
        # sums, not dot products: with the data constant PyTensor folds these, and would look for a BLAS to fold a dot
        Qtr = (stats.Q * residual[:, None]).sum(axis=0)
        WtW = pt.concatenate(
            [
                pt.concatenate([stats.Q.T @ stats.Q, Qtr[:, None]], axis=1),
                pt.concatenate([Qtr, (residual**2).sum()[None]])[None, :],
            ],
            axis=0,
        )
        logdet, T = log_det_and_T(flatten_factors(stats, factors), ZtW, WtW, packed)
        v = pt.concatenate([stats.gamma - stats.R @ beta, [np.float64(stats.scale)]])
        return normal_logp(design.n, sigma, logdet, v @ T @ v)

    def dist(beta, sigma, *rest):
        *factors, _size = rest
        e = pm.Normal.dist(np.float64(0.0), sigma, shape=(design.n,))
        return design.X @ beta + random_effects_draw(stats, factors, sigma) + e

    return logp, dist
