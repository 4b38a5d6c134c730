"""The random variables that every variant shares: beta, sigma, the SDs and the correlations, with their priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.parameters import STRATUM, level_names
from bayeslmm.distributions.prior import one_family
from bayeslmm.priors.resolve import Prior, Priors
from bayeslmm.priors.sd_priors import VarianceShares


class _FactorTransform(pm.distributions.transforms.CholeskyCorrTransform):
    """PyMC's own, under a name without an underscore: with one, PyMC doesn't find the way back to the variable."""

    name = "corr"


@dataclass(frozen=True, kw_only=True)
class Variables:
    """Symbolic parameters of one model: beta (p,), sigma, and per level the factor of its effects' covariance.

    Attributes
    ----------
    stated : per level (r, r)
        diag(SD) L of the effects for which priors are stated.
    maps : per level W (r, r) or None
        u = W times these effects (`anchors`).
    psi : R's parameters, scalars in the order of ``design.residual.parameters``.
    """

    beta: Any
    sigma: Any
    stated: tuple[Any, ...]
    maps: tuple[np.ndarray | None, ...]
    psi: tuple[Any, ...] = ()

    def relative_factors(self) -> list:
        """lambda_k, the covariance of u_k being sigma^2 lambda lambda'."""
        return [factor / self.sigma for factor in self.scale_factors()]

    def scale_factors(self) -> list:
        """sigma lambda_k: W diag(SD) L."""
        return [F if W is None else pt.as_tensor_variable(W) @ F for F, W in zip(self.stated, self.maps, strict=True)]


def declare_parameters(design: Design, priors: Priors) -> Variables:
    """Create the parameters' random variables in the current PyMC model.

    Where priors are stated elsewhere than at zero, the free variables are there ("beta_at_mean", "sigma_u2_at_mean"),
    which is also where a sampler moves best, and the parameters as written are functions of them.
    """
    beta = declare_coefficients(design, priors)
    sigma, sds = _shared(design, priors.shares) if priors.shares else _independent(design, priors)
    factors = declare_factors(design, priors, sds)
    psi = _residual(design, priors)
    return Variables(beta=beta, sigma=sigma, stated=tuple(factors), maps=priors.effect_maps, psi=psi)


def declare_factors(design: Design, priors: Priors, sds: Sequence[Any]) -> list:
    """Create the correlations, and per level diag(SD) L of the effects for which priors are stated."""
    factors = []
    for level, sd, corr, W in zip(design.levels, sds, priors.corr, priors.effect_maps, strict=True):
        names = level_names(level)
        if corr is None:
            factors.append(sd[:, None] * pt.eye(level.r))
            continue
        if not level.structure.paired:
            factors.append(sd[:, None] * _one_correlation(level, corr))
            continue
        eta = np.float64(corr.params["eta"])
        name = f"{names.corr}_factor" if W is None else f"{names.corr}_at_mean_factor"
        L = pm.LKJCorr(name, n=level.r, eta=eta, default_transform=_FactorTransform(n=level.r, upper=False))
        F = sd[:, None] * L
        factors.append(F)
        if W is None:
            corr_matrix = L @ L.T
        else:
            whole = pt.as_tensor_variable(W) @ F
            own = pt.sqrt((whole**2).sum(axis=1))
            pm.Deterministic(names.sigma, own, dims=names.effect)
            unit = whole / own[:, None]
            corr_matrix = unit @ unit.T
        pm.Deterministic(names.corr, corr_matrix, dims=(names.effect, names.effect_bis))
    return factors


def _one_correlation(level: LevelDesign, prior: Prior) -> Any:
    """Declare rho and the matrix of correlations; the factor L of the latter."""
    names, zero = level_names(level), np.float64(0.0)
    rho = declare_variable(names.rho, prior)
    rows = level.structure.entries(rho, level.r)  # type: ignore[attr-defined]
    L = pt.stack([pt.stack([*row, *[zero] * (level.r - len(row))]) for row in rows])
    pm.Deterministic(names.corr, L @ L.T, dims=(names.effect, names.effect_bis))
    return L


def declare_coefficients(design: Design, priors: Priors) -> Any:
    """Beta (p,), as written."""
    if priors.beta_anchor is None:
        return _vector("beta", design.coef, priors.beta, "coef")
    stated = _vector("beta_at_mean", design.coef, priors.beta, "coef")
    return pm.Deterministic("beta", (pt.as_tensor_variable(priors.beta_map) * stated).sum(axis=1), dims="coef")


def _residual(design: Design, priors: Priors) -> tuple[Any, ...]:
    """The structure's parameters and the ratios of SDs, each a scalar."""
    priors_of_ratios = list(priors.residual)
    own = [declare_variable(parameter.name, priors_of_ratios.pop(0)) for parameter in design.residual.own]
    strata = design.residual.strata[1:]
    if not strata:
        return tuple(own)
    ratios = _vector("sigma_ratio", strata, priors_of_ratios, STRATUM)
    return (*own, *(ratios[k] for k in range(len(strata))))


def _independent(design: Design, priors: Priors) -> tuple[Any, list]:
    """Sigma and the SDs (r,) of every level, each with its own prior."""
    assert priors.sigma is not None  # no shares
    sigma = declare_variable("sigma", priors.sigma)
    return sigma, declare_deviations(design, priors, sigma)


def declare_deviations(design: Design, priors: Priors, sigma: Any = None) -> list:
    """The SDs (r,) of every level, each with its own prior; sigma for those that are tied to it."""
    sds = []
    for level, own, W in zip(design.levels, priors.sd, priors.effect_maps, strict=True):
        names = level_names(level)
        if level.n_sds == 0:
            sds.append(sigma[None])
        elif level.n_sds == 1:
            sds.append(declare_variable(names.sigma, own[0])[None])
        else:
            name = names.sigma if W is None else f"{names.sigma}_at_mean"
            sds.append(_vector(name, level.effects, own, names.effect))
    return sds


def _shared(design: Design, shares: VarianceShares) -> tuple[Any, list]:
    """Sigma and the SDs (r,) of every level, as deterministic functions of the total SD and the shares."""
    pm.modelcontext(None).add_coord("share", list(shares.names))
    total = declare_variable("sigma_total", shares.total)
    split = pm.Dirichlet("shares", a=np.array(shares.concentration), dims="share")
    joined = shares.join(total, split)
    sigma, sds, at = pm.Deterministic("sigma", joined[0]), [], 1
    for level in design.levels:
        names = level_names(level)
        if level.n_sds == 0:
            sds.append(sigma[None])
            continue
        own = joined[at : at + level.n_sds]
        at += level.n_sds
        if level.n_sds == 1:
            sds.append(pm.Deterministic(names.sigma, own[0])[None])
        else:
            sds.append(pm.Deterministic(names.sigma, own, dims=names.effect))
    return sigma, sds


def _root_of_inverse_gamma(alpha, beta, size):
    return pt.sqrt(pm.InverseGamma.dist(alpha=alpha, beta=beta, size=size))


def declare_variable(name: str, prior: Prior):
    """Create the random variable of one parameter."""
    family, params = prior.pymc()
    if prior.on_variance:
        return pm.CustomDist(
            name, params["alpha"], params["beta"], dist=_root_of_inverse_gamma,
            default_transform=pm.distributions.transforms.log,
        )  # fmt: skip
    return getattr(pm, family)(name, **params)


def _vector(name: str, labels: Sequence[str], priors: Sequence[Prior], dim: str):
    """One variable for the whole vector where the priors are of one family, else one per entry, stacked."""
    if one_family(priors):
        family, keys = priors[0].pymc()
        params = {key: np.array([prior.pymc()[1][key] for prior in priors]) for key in keys}
        return getattr(pm, family)(name, **params, dims=dim)
    entries = [declare_variable(f"{name}[{label}]", prior) for label, prior in zip(labels, priors, strict=True)]
    return pm.Deterministic(name, pt.stack(entries) if entries else pt.zeros((0,)), dims=dim)
