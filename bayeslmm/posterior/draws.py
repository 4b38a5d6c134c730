"""Posterior draws as tables need them: flat, labelled, checked, summarised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.design.parameters import coords, dims, level_names
from bayeslmm.errors import DataError, DescriptionError, did_you_mean

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign

VARIANTS = ("joint", "marginal")
POSTERIOR = ["mean", "sd", "2.5 %", "97.5 %"]
SAMPLING = ["ess", "ess_per_second", "rhat"]


def effect_labels(level) -> list[str]:
    """Names of a level's random effects in Z's order: "u2[1:1]", or "u2[308, Days]" with several effects."""
    if level.r == 1:
        return [f"{level.name}[{group}]" for group in level.groups]
    return [f"{level.name}[{group}, {effect}]" for group in level.groups for effect in level.effects]


def sd_labels(design: Design) -> list[str]:
    """Names of the standard deviations: sigma first, then level by level."""
    return ["sigma", *(name for level in design.levels for name in level.sd_labels)]


def parameter_draws(design: Design, tree: xr.DataTree, random_effects: bool = False) -> xr.DataArray:
    """Return the draws of every parameter of the table: dims chain, draw, parameter."""
    import xarray as xr

    posterior = tree["posterior"].to_dataset()
    names = [f"beta[{name}]" for name in design.coef] + ["sigma"]
    columns = [_flat(posterior["beta"]), _flat(posterior["sigma"])]
    for level in design.levels:
        own = level_names(level)
        names += [*level.sd_labels, *level.correlation_labels]
        if level.n_sds:
            columns.append(_flat(posterior[own.sigma]))
        if level.correlated:
            columns.append(level.structure.correlation_values(_ordered(posterior[own.corr]).values))
    names += [parameter.label for parameter in design.residual.parameters]
    columns += [_flat(posterior[name]) for name in dict.fromkeys(p.name for p in design.residual.parameters)]
    if random_effects:
        for level in design.levels:
            names += effect_labels(level)
            columns.append(_flat(posterior[level.name]))
    values = np.concatenate(columns, axis=-1)
    return xr.DataArray(values, dims=("chain", "draw", "parameter"), coords={"parameter": names})


def parameter_dataset(design: Design, tree: xr.DataTree) -> xr.Dataset:
    """Return one variable per parameter, named as in every table; correlations once, without their diagonal."""
    import xarray as xr

    draws = parameter_draws(design, tree)
    return xr.Dataset({name: draws.sel(parameter=name, drop=True) for name in draws["parameter"].values})


def parameter_values(design: Design, tree: xr.DataTree) -> dict[str, np.ndarray]:
    """The draws of beta, sigma, sigma_u2, corr_u2, ..., and R's parameters by name, chains one after the other."""
    posterior = tree["posterior"].to_dataset()
    names = ["beta", "sigma"]
    for level in design.levels:
        own = level_names(level)
        names += [own.sigma] * bool(level.n_sds) + [own.corr] * level.correlated
    names += dict.fromkeys(parameter.name for parameter in design.residual.parameters)
    return {name: _stacked(posterior[name]) for name in names}


def written_values(design: Design, posterior: xr.Dataset) -> dict[str, np.ndarray]:
    """The draws (N, ...) of all parameters and effects as written that are there, chains one after the other."""
    return {name: _stacked(posterior[name]) for name in dims(design) if name in posterior.data_vars and name != "e"}


def effect_draws(level: LevelDesign, tree: xr.DataTree) -> np.ndarray:
    """The draws (N, m, r) of a level's effects, chains one after the other."""
    u = _stacked(tree["posterior"].to_dataset()[level.name])
    return u.reshape(len(u), level.m, level.r)


def density_of(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel density estimate (ArviZ's, with its boundary correction): grid and density."""
    import arviz as az

    if np.ptp(x) == 0:
        return np.array([x.flat[0]]), np.array([1.0])
    grid, density, _ = az.kde(np.asarray(x).ravel())
    return grid, density


def _ordered(variable: xr.DataArray) -> xr.DataArray:
    return variable.transpose("chain", "draw", ...)


def _stacked(variable: xr.DataArray) -> np.ndarray:
    values = np.asarray(_ordered(variable).values, dtype=float)
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])


def _flat(variable: xr.DataArray) -> np.ndarray:
    values = np.asarray(_ordered(variable).values, dtype=float)
    return values.reshape(*values.shape[:2], -1)


def seconds_of(tree: xr.DataTree, what: str = "seconds") -> float:
    """Seconds that the run took in all, or compiling or sampling; NaN where the tree does not say."""
    return float(tree.attrs.get(what, np.nan))


def summary(draws: xr.DataArray, seconds: float) -> tuple[pd.DataFrame, pd.Series]:
    """Moments, quantiles, ESS and R-hat per parameter; and the Monte Carlo errors of the means."""
    import arviz as az

    names = draws["parameter"].values.tolist()
    x = draws.values
    flat = x.reshape(-1, x.shape[-1])
    low, high = np.quantile(flat, [0.025, 0.975], axis=0)
    chains, length = x.shape[:2]
    ess, rhat, mcse = (np.full(len(names), np.nan) for _ in range(3))
    if length >= 4:
        for k in range(len(names)):
            if np.ptp(x[..., k]) == 0:
                continue
            ess[k], mcse[k] = az.ess(x[..., k]), az.mcse(x[..., k])
            if chains > 1:
                rhat[k] = az.rhat(x[..., k])
    sd = flat.std(axis=0, ddof=1) if len(flat) > 1 else np.full(len(names), np.nan)
    columns = [flat.mean(axis=0), sd, low, high, ess, ess / seconds, rhat]
    table = pd.DataFrame(dict(zip([*POSTERIOR, *SAMPLING], columns, strict=True)), index=names)
    return table, pd.Series(mcse, index=names)


def check_variant(name: str) -> None:
    """Refuse a name that is no variant."""
    if name not in VARIANTS:
        raise DescriptionError(
            f"There is no variant {name!r}; there are 'joint' and 'marginal'.{did_you_mean(str(name), VARIANTS)}"
        )


def check_tree(
    design: Design,
    name: str,
    tree: Any,
    random_effects: bool,
    remedy: str,
    own_parameters: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Refuse a tree that isn't a posterior of this model: variables and their sizes; `remedy` is what to write.

    `own_parameters` are those of another outcome than the Gaussian, whose own one is sigma.
    """
    if "posterior" not in getattr(tree, "children", {}):
        raise DataError(
            f"The {name} posterior is a {type(tree).__name__} without a group 'posterior'; "
            f"a DataTree as sample() returns it was expected. {remedy}"
        )
    wanted: dict[str, tuple[int, ...]] = {"beta": (design.p,)}
    wanted |= {"sigma": ()} if own_parameters is None else own_parameters
    for level in design.levels:
        own = level_names(level)
        each = (level.r,) if level.r > 1 else ()
        if level.n_sds:
            wanted[own.sigma] = (level.n_sds,) if level.n_sds > 1 else ()
        if level.correlated:
            wanted[own.corr] = (level.r, level.r)
        if random_effects:
            wanted[own.u] = (level.m, *each)
    wanted |= {parameter.name: () for parameter in design.residual.own}
    if design.residual.strata:
        wanted["sigma_ratio"] = (len(design.residual.strata) - 1,)
    posterior = tree["posterior"].to_dataset()
    for variable, shape in wanted.items():
        if variable not in posterior.data_vars:
            raise DataError(
                f"The {name} posterior has no variable {variable!r}; this model needs {', '.join(wanted)}. {remedy}"
            )
        missing = [dim for dim in ("chain", "draw") if dim not in posterior[variable].dims]
        if missing:
            raise DataError(f"{variable!r} of the {name} posterior has no dim {missing[0]!r}. {remedy}")
        found = _ordered(posterior[variable]).shape[2:]
        if found != shape:
            raise DataError(
                f"{variable!r} of the {name} posterior has shape {found} per draw; {shape} was expected: "
                f"it comes from another model. {remedy}"
            )
    _check_labels(design, name, posterior, remedy)
    _check_data(design, name, tree, remedy)
    flat = np.concatenate([_flat(posterior[variable]).ravel() for variable in wanted])
    if not np.isfinite(flat).all():
        raise DataError(
            f"The {name} posterior has {int((~np.isfinite(flat)).sum())} values that are not finite; "
            f"its run failed or was interrupted. Sample again."
        )


def _check_labels(design: Design, name: str, posterior: xr.Dataset, remedy: str) -> None:
    """Refuse draws whose coefficients or groups have other labels, where they have any."""
    own = coords(design)
    for dim in ("coef", *(level_names(level).group for level in design.levels)):
        if dim not in posterior.coords:
            continue
        found, expected = list(map(str, posterior[dim].values.tolist())), list(map(str, own[dim]))
        if found != expected and len(found) == len(expected):
            k = next(k for k, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
            raise DataError(
                f"The {name} posterior comes from another model: its {dim} has {found[k]!r} where this model has "
                f"{expected[k]!r}. {remedy}"
            )


def _check_data(design: Design, name: str, tree: Any, remedy: str) -> None:
    """Refuse draws given other data, where the tree has the data that they were given."""
    if "observed_data" not in tree.children or "y" not in tree["observed_data"].data_vars:
        return
    y = np.asarray(tree["observed_data"]["y"].values, dtype=float).ravel()
    if y.shape != design.y.shape or not np.array_equal(y, design.y):
        raise DataError(
            f"The {name} posterior is one of other data: its observed_data are not this model's response "
            f"({y.size:,} and {design.n:,} rows). {remedy}"
        )
