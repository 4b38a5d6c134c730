"""What a posterior says of rows: those it was fitted to, or new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.design import NewRows
from bayeslmm.design.linear_predictor import linear_predictor, row_effects, rows_of
from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DescriptionError
from bayeslmm.model import Model
from bayeslmm.posterior.draws import check_tree
from bayeslmm.posterior.tree import by_level
from bayeslmm.support.arguments import check_flag, check_seed

if TYPE_CHECKING:
    import xarray as xr


def predict_posterior(
    model: Model,
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
    design = model.design
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
    used = {level.name: posterior[level.name].to_numpy() for level in design.levels if random_effects}
    effects = by_level(design, used) if random_effects else {}
    values = linear_predictor(rows, beta, effects)
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
        sd = posterior[names.sigma].to_numpy().reshape(*sigma.shape, -1)
        z = rng.standard_normal((*sigma.shape, len(labels), level.r))
        if level.correlated:
            corr = posterior[names.corr].to_numpy()
            z = z @ np.swapaxes(np.linalg.cholesky(corr), -1, -2)
        u = z * sd[..., None, :]
        total += row_effects(where, level.columns, u)
    return total
