"""What a fit or a posterior says of rows: those it was fitted to, or new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import check_flag, check_seed
from bayeslmm.design import Design, NewRows
from bayeslmm.draws import check_tree
from bayeslmm.errors import DescriptionError
from bayeslmm.parameters import level_names

if TYPE_CHECKING:
    import xarray as xr


def rows_of(
    design: Design, data: Any, allow_new_groups: bool, missing: str, random_effects: bool = True
) -> Design | NewRows:
    """The design's own rows where `data` is None, else new ones encoded alike, without groups where none are used."""
    check_flag("allow_new_groups", allow_new_groups)
    if data is None:
        return design
    return design.new(data, allow_new_groups=allow_new_groups, missing=missing, random_effects=random_effects)


def expected(rows: Design | NewRows, beta: np.ndarray, effects: Mapping[str, np.ndarray]) -> np.ndarray:
    """Offset + X beta + sum Z_k u_k (..., n), for beta (..., p) and effects (..., m, r) by level name.

    A row of a group that the model hasn't seen gets nothing from that level: its effects have mean zero.
    """
    total = beta @ rows.X.T
    if rows.offset is not None:
        total = total + rows.offset
    for level in rows.levels:
        if level.name in effects:
            u = effects[level.name][..., np.maximum(level.index, 0), :]
            total = total + np.where(level.index >= 0, (u * level.columns).sum(axis=-1), 0.0)
    return total


def predict_fit(fit: Any, data: Any, random_effects: bool, allow_new_groups: bool, missing: str) -> pd.Series:
    """Predicted means of a likelihood fit; see `LikelihoodFit.predict`."""
    check_flag("random_effects", random_effects)
    rows = rows_of(fit.design, data, allow_new_groups, missing, random_effects)
    effects, at = {}, 0
    for level in fit.design.levels:
        effects[level.name] = fit.modes[at : at + level.q].reshape(level.m, level.r)
        at += level.q
    values = expected(rows, fit.beta, effects if random_effects else {})
    return pd.Series(values, index=rows.rows, name="predicted")


def predict_posterior(
    lmm: Any,
    tree: xr.DataTree,
    data: Any = None,
    *,
    kind: str = "mean",
    random_effects: bool = True,
    allow_new_groups: bool = False,
    missing: str = "error",
    random_seed: int | None = None,
) -> xr.DataArray:
    """Draws of what rows are expected to be, or of new responses; dims chain, draw, row. See `LMM.predict`."""
    import xarray as xr

    if kind not in ("mean", "response"):
        raise DescriptionError(f"kind={kind!r}; 'mean' (X beta + Z u) or 'response' (and a residual) was expected.")
    check_flag("random_effects", random_effects)
    check_seed(random_seed)
    design: Design = lmm.design
    remedy = "Write tree = lmm.sample(), and give the whole tree: lmm.predict(tree)."
    check_tree(design, "given", tree, random_effects, remedy)
    if kind == "response" and not design.residual.plain:
        raise DescriptionError(
            f"Responses of new rows are drawn for independent residuals of one variance; here they are"
            f" {design.hierarchy.residual}. Write kind='mean', or pm.sample_posterior_predictive on lmm.marginal()."
        )
    rows = rows_of(design, data, allow_new_groups, missing, random_effects)
    rng = np.random.default_rng(random_seed)
    posterior = tree["posterior"].to_dataset().transpose("chain", "draw", ...)
    beta, sigma = posterior["beta"].to_numpy(), posterior["sigma"].to_numpy()
    effects = {}
    for level in design.levels if random_effects else ():
        u = posterior[level.name].to_numpy()
        effects[level.name] = u[..., None] if level.r == 1 else u
    values = expected(rows, beta, effects)
    if random_effects and isinstance(rows, NewRows):
        values = values + _new_groups(rows, posterior, sigma, rng)
    if kind == "response":
        values = values + sigma[..., None] * rng.standard_normal(values.shape)
    coords = {"chain": posterior["chain"], "draw": posterior["draw"], "row": rows.rows.tolist()}
    return xr.DataArray(values, dims=("chain", "draw", "row"), coords=coords, name="y")


def _new_groups(rows: NewRows, posterior: Any, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What groups that the model hasn't seen add: effects drawn from the population, one for all rows of a group."""
    total = np.zeros((*sigma.shape, rows.n))
    for level, labels, where in zip(rows.levels, rows.new_groups, rows.new_index, strict=True):
        if not labels:
            continue
        if level.root is not None:
            raise DescriptionError(
                f"{level.label} has a known covariance, and new groups ({', '.join(map(repr, labels[:3]))}) are not "
                "in it; give the model a covariance that has them: labels without rows are allowed."
            )
        names = level_names(level)
        sd = posterior[names.sigma].to_numpy().reshape(*sigma.shape, level.r)
        z = rng.standard_normal((*sigma.shape, len(labels), level.r))
        if level.correlated:
            corr = posterior[names.corr].to_numpy()
            z = z @ np.swapaxes(np.linalg.cholesky(corr), -1, -2)
        u = z * sd[..., None, :]
        total += np.where(where >= 0, (u[..., np.maximum(where, 0), :] * level.columns).sum(axis=-1), 0.0)
    return total
