"""What a posterior says of rows, draw by draw: those it was fitted to, or new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.parameters import row_labels
from bayeslmm.errors import DescriptionError
from bayeslmm.model import Model
from bayeslmm.posterior.draws import check_tree
from bayeslmm.predictions.draw_residuals import draw_residuals
from bayeslmm.predictions.encoding import Rows
from bayeslmm.predictions.from_draws import Draws
from bayeslmm.predictions.predictions import check_kind, keeps_all, residual_columns
from bayeslmm.predictions.scopes.registry import scopes_of
from bayeslmm.support.arguments import check_flag, check_seed
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import xarray as xr


def predict_posterior(
    model: Model,
    tree: xr.DataTree,
    data: Any = None,
    *,
    kind: str = "mean",
    scope: Any = None,
    random_effects: bool = True,
    allow_new_groups: bool = False,
    missing: str = "error",
    random_seed: int | None = None,
) -> xr.DataArray:
    """Draws of what rows are expected to be, or of new responses; dims chain, draw, row. See `LMM.predict`."""
    import xarray as xr

    check_kind(kind)
    check_seed(random_seed)
    design = model.design
    asked = _scope(scope, random_effects, allow_new_groups)
    scopes = scopes_of(asked, design)
    remedy = "Write tree = lmm.sample(), and give the whole tree: lmm.predict(tree)."
    check_tree(design, "given", tree, any(scope.needs_effects for scope in scopes), remedy)
    borrows = kind == "response" and data is not None and keeps_all(asked, scopes)
    together = data is not None and design.residual.correlated
    also = residual_columns(design, borrows or together) if kind == "response" else ()
    rows, draws = Rows.read(design, data, scopes, missing, also), Draws.of(design, tree)
    rng = np.random.default_rng(random_seed)
    values = np.empty((draws.n, rows.n))
    with one_blas_thread():
        means = draws.means(rows.means)
        new = [
            _new_effects(draws, level, own.labels, rng) for level, own in zip(design.levels, rows.taken, strict=True)
        ]
        for some in rows.blocks():
            linear = rows.linear(some)
            values[:, some] = draws.at(linear, means).T
            for one, effects in zip(linear.fresh, new, strict=True):
                if one.labels:
                    values[:, some] += (one.weights @ effects).T
        if kind == "response":
            values += draw_residuals(draws, rows, rng, own=data is None, borrows=borrows)
    posterior = tree["posterior"]
    shape = (posterior.sizes["chain"], posterior.sizes["draw"], rows.n)
    coords = {"chain": posterior["chain"], "draw": posterior["draw"], "row": row_labels(rows.frame.index)}
    return xr.DataArray(values.reshape(shape), dims=("chain", "draw", "row"), coords=coords, name="y")


def _scope(scope: Any, random_effects: bool, allow_new_groups: bool) -> Any:
    """The scope that is asked for, by its name or by the two truths."""
    random_effects = check_flag("random_effects", random_effects)
    allow_new_groups = check_flag("allow_new_groups", allow_new_groups)
    if scope is None:
        return "population" if not random_effects else "new where unseen" if allow_new_groups else "observed"
    if allow_new_groups or not random_effects:
        raise DescriptionError(
            f"scope={scope!r} came beside random_effects or allow_new_groups; expected one of them: "
            "random_effects=False is scope='population', allow_new_groups=True is scope='new where unseen'."
        )
    return scope


def _new_effects(draws: Draws, level: Any, labels: tuple[str, ...], rng: np.random.Generator) -> np.ndarray:
    """Effects of new groups from N(0, Sigma), (labels times r, draws): one draw for all rows of a group."""
    if not labels:
        return np.zeros((0, draws.n))
    z = rng.standard_normal((draws.n, len(labels), level.r))
    size, vectors = np.linalg.eigh(draws.covariance(level))
    root = vectors * np.sqrt(np.maximum(size, 0.0))[:, None, :]
    return (z @ np.swapaxes(root, -1, -2)).reshape(draws.n, -1).T
