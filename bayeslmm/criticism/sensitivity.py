"""Log prior and log likelihood of every draw, from the draws: what power-scaling and LOO in ArviZ need.

Which likelihood is scaled differs by variant, as the parameters do. In the marginal one u is integrated out: scaling
p(y | beta, sigma, ...) asks what the data as a whole say. In the joint one u is a parameter, and p(y | u, ...) is
scaled. In both, p(u | sigma_u2, ...) belongs to the model, like p(y | ...), and is not scaled with the prior.

Source: Kallioinen, Paananen, Buerkner & Vehtari (2024), doi:10.1007/s11222-023-10366-5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.parameters import congruent, coords, dims, level_names
from bayeslmm.errors import DataError
from bayeslmm.factorisation.factor import evaluate_many
from bayeslmm.posterior.collapsed import LOG_2PI, collapsed_posterior
from bayeslmm.posterior.draws import check_tree, parameter_dataset, written_values
from bayeslmm.posterior.effects import kernel_factors, residual_parameters
from bayeslmm.posterior.tree import residual_draws

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayeslmm.design.design import Design
    from bayeslmm.model import Model
    from bayeslmm.priors.resolve import Priors

BY_ROW = "log_likelihood"  # what ArviZ's LOO and WAIC look for
OF_ALL_ROWS = "log_likelihood_of_all_rows"  # and must not find where rows have no density of their own

_REMEDY = "Write tree = lmm.sample(), and give the whole tree: lmm.sensitivity(tree)."

Values = dict[str, np.ndarray]  # draws first, all chains in a row


def add_log_densities(lmm: Model, tree: xr.DataTree) -> xr.DataTree:
    """Return the tree with groups ``log_prior`` and ``log_likelihood`` (or ``..._of_all_rows``) beside the others.

    Parameters
    ----------
    lmm : LMM
        The model that the draws come from.
    tree : xarray.DataTree
        As `LMM.sample` returns it, from either variant and sampler.

    Returns
    -------
    xarray.DataTree
        ``log_prior`` has one variable per parameter, with its own dims (one number for a matrix of correlations, for
        shares, and for whatever has one density). ``log_likelihood`` has y for the joint variant: the density of each
        row given u, dims chain, draw, row. For the marginal variant, and where rows are correlated, there is that of
        all rows together besides: ``log_likelihood_of_all_rows``, dims chain and draw, so that `arviz.loo` does
        not take it for a data set of one observation.

    Raises
    ------
    DataError
        If the tree isn't a posterior of this model.

    Notes
    -----
    The marginal variant costs one factorisation per draw, a fifth to a half of the sampling time: so `LMM.sample` adds
    it only when asked. ``arviz.loo`` needs a row's own density, which every tree has as ``log_likelihood``: it leaves
    one row out and keeps its group.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> tree = add_log_densities(lmm, lmm.sample(draws=50, chains=2, random_seed=1, progress=False))
    >>> dict(tree["log_likelihood_of_all_rows"]["y"].sizes), sorted(tree["log_prior"].data_vars)
    ({'chain': 2, 'draw': 50}, ['beta', 'sigma', 'sigma_u2'])
    """
    import xarray as xr

    variant = str(tree.attrs.get("variant", "")) if hasattr(tree, "attrs") else ""
    check_tree(lmm.design, variant or "marginal", tree, variant == "joint", _REMEDY)
    if variant not in ("marginal", "joint"):
        raise DataError(
            f"The tree's attrs name no variant ({variant!r}), which says what its likelihood is; 'marginal' or 'joint' "
            "was expected, as lmm.sample writes it."
        )
    posterior = tree["posterior"].to_dataset().transpose("chain", "draw", ...)
    shape = posterior.sizes["chain"], posterior.sizes["draw"]
    values = written_values(lmm.design, posterior)
    prior = log_prior(lmm, values)
    joint = variant == "joint"
    y = conditional_log_likelihood(lmm.design, values) if joint else marginal_log_likelihood(lmm, values)
    labels, known = coords(lmm.design), dims(lmm.design)

    def dataset(arrays: Values, own: dict[str, tuple[str, ...]]) -> xr.Dataset:
        names = {name: own.get(name, ())[: x.ndim - 1] for name, x in arrays.items()}
        used = {dim: labels[dim] for each in names.values() for dim in each}
        return xr.Dataset(
            {name: (("chain", "draw", *names[name]), x.reshape(*shape, *x.shape[1:])) for name, x in arrays.items()},
            coords={"chain": posterior["chain"].to_numpy(), "draw": posterior["draw"].to_numpy(), **used},
        )

    out = tree.copy()
    out["log_prior"] = xr.DataTree(dataset(prior, known))
    out[BY_ROW if y.ndim == 2 else OF_ALL_ROWS] = xr.DataTree(dataset({"y": y}, {"y": ("row",)}))
    return out


def sensitivity(model: Model, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
    """Power-scaling sensitivity of the parameters, as `LMM.sensitivity` says."""
    import arviz as az
    import xarray as xr

    groups = set(getattr(tree, "children", ()))
    if "log_prior" not in groups or OF_ALL_ROWS not in groups:
        tree = add_log_densities(model, tree)
    check_tree(model.design, "given", tree, False, _REMEDY)
    likelihood = OF_ALL_ROWS if OF_ALL_ROWS in tree.children else BY_ROW
    given = {
        "posterior": parameter_dataset(model.design, tree),
        "log_prior": tree["log_prior"].to_dataset(),
        "log_likelihood": tree[likelihood].to_dataset(),
    }
    return az.psense_summary(xr.DataTree.from_dict(given), **options)


def posterior_summary(model: Model, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
    """Summarise the parameters by ArviZ, as `LMM.summary` says."""
    import arviz as az
    import xarray as xr

    check_tree(model.design, "given", tree, False, _REMEDY)
    return az.summary(xr.DataTree.from_dict({"posterior": parameter_dataset(model.design, tree)}), **options)


# the prior ---------------------------------------------------------------------------------------------------------


def log_prior(model: Model, values: Values) -> Values:
    """Log prior density per parameter and draw, each in the terms in which its prior is written.

    Correlations have that of their matrix under LKJ; with shares there are sigma_total and shares in the place of SDs.
    """
    priors, design = model.priors, model.design
    out = log_prior_of_coefficients(priors, values)
    if priors.shares is not None:
        names = ["sigma", *(level_names(level).sigma for level in design.levels if level.n_sds)]
        total, shares = priors.shares.split(np.column_stack([values[name] for name in names]))
        out["sigma_total"] = priors.shares.total.logpdf(total)
        out["shares"] = priors.shares.dirichlet.logpdf(shares)
    else:
        assert priors.sigma is not None  # no shares
        out["sigma"] = priors.sigma.logpdf(values["sigma"])
    out |= log_prior_of_levels(design, priors, values)
    psi = list(priors.residual)
    for parameter in design.residual.own:
        out[parameter.name] = psi.pop(0).logpdf(values[parameter.name])
    if psi:
        out["sigma_ratio"] = _each(psi, values["sigma_ratio"])
    return out


def log_prior_of_coefficients(priors: Priors, values: Values) -> Values:
    """Of each coefficient whose prior is stated."""
    stated = values["beta"] if priors.beta_anchor is None else values["beta"] @ priors.beta_anchor.inverse.T
    return {"beta": _each(priors.beta, stated)}


def log_prior_of_levels(design: Design, priors: Priors, values: Values) -> Values:
    """Of each level's SDs and correlations."""
    out: Values = {}
    for level, sd, corr, W in zip(design.levels, priors.sd, priors.corr, priors.effect_maps, strict=True):
        own = level_names(level)
        stated = values
        if W is not None:
            stated = dict(
                zip(
                    (own.sigma, own.corr), congruent(np.linalg.inv(W), values[own.sigma], values[own.corr]), strict=True
                )
            )
        if sd:
            out[own.sigma] = _each(sd, stated[own.sigma])
        if corr is not None:
            name = own.corr if level.structure.paired else own.rho
            out[name] = corr.logpdf(stated[name])
    return out


def _each(priors: Any, x: np.ndarray) -> np.ndarray:
    """Log densities of the columns of x (N, k), or of x (N,) for a single prior."""
    if x.ndim == 1:
        return priors[0].logpdf(x)
    return np.stack([prior.logpdf(x[:, k]) for k, prior in enumerate(priors)], axis=1) if priors else np.zeros(x.shape)


# the likelihoods ---------------------------------------------------------------------------------------------------


def marginal_log_likelihood(model: Model, values: Values) -> np.ndarray:
    """Compute log p(y | beta, sigma, ...), u integrated out, per draw (N,)."""
    stats, design = model.statistics, model.design
    posterior = collapsed_posterior(stats, model.priors)
    sigma, psi = values["sigma"], residual_parameters(design, values)
    coefs = None if design.residual.fixed else design.residual.coefficients_at(psi)
    logdet, T = evaluate_many(stats, kernel_factors(stats, values), coefs)
    v = posterior.v(values["beta"])
    quadratic = np.einsum("bi,bij,bj->b", v, T, v) / sigma**2
    return -0.5 * (design.n * (LOG_2PI + 2 * np.log(sigma)) + logdet + _log_det_R(design, psi) + quadratic)


def _log_det_R(design: Design, psi: np.ndarray) -> np.ndarray:
    return design.residual.log_det(np.moveaxis(psi, -1, 0)) * np.ones(len(psi))


def conditional_log_likelihood(design: Design, values: Values) -> np.ndarray:
    """Compute log p(y | beta, u, sigma, ...): of each row (N, n), or of all together (N,) where rows are correlated."""
    e = residual_draws(design, values)
    residual, sigma, psi = design.residual, values["sigma"], residual_parameters(design, values)
    if residual.correlated:
        forms = [((term.left.T @ e.T) * (term.right @ e.T)).sum(axis=0) for term in residual.terms]
        quadratic = sum(c * form for c, form in zip(residual.coefficients(psi.T), forms, strict=True)) / sigma**2
        return -0.5 * (design.n * (LOG_2PI + 2 * np.log(sigma)) + _log_det_R(design, psi) + quadratic)
    ratios = np.concatenate([np.ones((len(e), 1)), psi], axis=1)
    sd = sigma[:, None] * (ratios[:, residual.stratum] if residual.strata else 1.0) / residual.root_weights
    e /= sd
    return -0.5 * (LOG_2PI + e**2) - np.log(sd)
