"""Draws of the parameters from their prior, and of y from these: by NumPy alone, before any model is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.parameters import congruent, coords, dims, level_names
from bayeslmm.errors import PriorError
from bayeslmm.posterior.effects import residual_parameters, roots_of
from bayeslmm.posterior.tree import by_level
from bayeslmm.support.arguments import check_seed, check_whole

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.design.design import Design
    from bayeslmm.model import Model
    from bayeslmm.priors.resolve import Priors


def prior_predictive(model: Model, draws: int = 500, random_seed: int | None = None) -> xr.DataTree:
    """Draw parameters, random effects and data from the prior, as `LMM.prior_predictive` says."""
    rng = generator(draws, random_seed)
    design = model.design
    values = draw_parameters(design, model.priors, draws, rng)
    values |= draw_effects(design, values, rng)
    y = draw_response(design, values, rng.standard_normal((draws, design.n)))
    labels, known = coords(design), dims(design)
    tree = prior_tree(labels, known, values, y, design.y)
    tree.attrs |= {"draws": draws, "random_seed": -1 if random_seed is None else random_seed}
    tree.attrs["inference_library"] = "bayeslmm"
    return tree


def prior_tree(
    labels: Mapping[str, list], known: Mapping[str, tuple[str, ...]], values: Mapping[str, np.ndarray], y: np.ndarray,
    observed: np.ndarray,
) -> xr.DataTree:  # fmt: skip
    """The groups of draws from the prior and of y given them, beside the observed y."""
    import xarray as xr

    def dataset(arrays: dict[str, tuple[tuple[str, ...], np.ndarray]]) -> xr.Dataset:
        used = {dim: labels[dim] for own, _ in arrays.values() for dim in own}
        variables = {name: (("chain", "draw", *own), x[None]) for name, (own, x) in arrays.items()}
        return xr.Dataset(variables, coords={"chain": [0], "draw": np.arange(len(y)), **used})

    return xr.DataTree.from_dict(
        {
            "/prior": dataset({name: (known[name], values[name]) for name in known if name in values}),
            "/prior_predictive": dataset({"y": (("row",), y)}),
            "/observed_data": xr.Dataset({"y": ("row", observed)}, coords={"row": labels["row"]}),
        }
    )


def generator(draws: Any, random_seed: Any) -> np.random.Generator:
    """Random numbers for a number of draws; refuse what is no such number and no seed."""
    check_whole("draws", draws, least=1, example=500)
    check_seed(random_seed)
    return np.random.default_rng(random_seed)


def draw_parameters(design: Design, priors: Priors, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """beta, sigma, SDs, correlations and the parameters of R from their priors, draws first."""
    refuse_flat(priors)
    sds = priors.sds.rvs(rng, draws)
    values = {"beta": draw_coefficients(priors, draws, rng), "sigma": sds[:, 0]}
    values |= draw_levels(design, priors, sds[:, 1:], rng)
    ratios = []
    for parameter, prior in zip(design.residual.parameters, priors.residual, strict=True):
        if parameter in design.residual.own:
            values[parameter.name] = prior.rvs(rng, draws)
        else:
            ratios.append(prior.rvs(rng, draws))
    if ratios:
        values["sigma_ratio"] = np.stack(ratios, axis=-1)
    return values


def refuse_flat(priors: Priors) -> None:
    """Refuse priors from which nothing can be drawn."""
    flat = [row for row in priors.reasons if row.prior.is_flat]
    if flat:
        raise PriorError(
            f"Nothing can be drawn from flat priors: {', '.join(f'{row.parameter} ~ {row.prior}' for row in flat)}. "
            "Give proper ones, or leave them out: the defaults of lmm.priors are proper."
        )


def draw_coefficients(priors: Priors, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The coefficients (draws, p) from their priors, as written."""
    beta = np.stack([prior.rvs(rng, draws) for prior in priors.beta], axis=-1) if priors.beta else np.zeros((draws, 0))
    return beta @ priors.beta_map.T


def draw_levels(design: Design, priors: Priors, sds: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The levels' SDs as written and their correlations, of draws of the SDs (draws, k) whose priors are stated."""
    values, at, draws = {}, 0, len(sds)
    for level, prior, W in zip(design.levels, priors.corr, priors.effect_maps, strict=True):
        names = level_names(level)
        if not level.n_sds:
            continue
        sd = sds[:, at : at + level.n_sds]
        at += level.n_sds
        if prior is not None:
            corr = level.structure.draw(prior, rng, draws, level.r)
            sd, values[names.corr] = (sd, corr) if W is None else congruent(W, sd, corr)
            if not level.structure.paired:
                values[names.rho] = level.structure.correlation_values(corr)[:, 0]
        values[names.sigma] = sd[:, 0] if level.n_sds == 1 else sd
    return values


def draw_effects(design: Design, values: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """u2, u3, ... given their SDs and correlations: (draws, m[, r])."""
    out = {}
    draws = len(values["beta"])
    for level in design.levels:
        names = level_names(level)
        u = rng.standard_normal((draws, level.m, level.r))
        if level.relation is not None:
            u = level.relation.spread(u)
        if names.corr in values:
            u = u @ np.swapaxes(roots_of(values[names.corr]), -1, -2)
        sd = values[names.sigma if level.n_sds else "sigma"]
        u *= sd.reshape(draws, 1, -1)
        out[names.u] = u[..., 0] if level.r == 1 else u
    return out


def draw_response(design: Design, values: dict[str, np.ndarray], z: np.ndarray) -> np.ndarray:
    """y = offset + X beta + Z u + e (draws, n), e from standard normal z (draws, n)."""
    y = linear_predictor(design, values["beta"], by_level(design, values))
    psi = residual_parameters(design, values).T
    y += values["sigma"][:, None] * design.residual.color(z, psi)
    return y
