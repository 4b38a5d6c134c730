"""What a posterior says of rows, draw by draw, where the outcome isn't Gaussian: means, or new responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.data.table import numbers, say_rows
from bayeslmm.design.parameters import row_labels
from bayeslmm.errors import DataError, DescriptionError, did_you_mean
from bayeslmm.families.family import Outcome
from bayeslmm.formula.parse import columns_of
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_draws import LinkValues, check_link_tree
from bayeslmm.predictions.encoding import Rows
from bayeslmm.predictions.link_results import LinkDraws
from bayeslmm.predictions.link_scales import SCALES, LinkScale, MeanScale, Scale
from bayeslmm.predictions.scopes.registry import LINK_SCOPES, scopes_of
from bayeslmm.support.arguments import check_seed
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import xarray as xr

KINDS = (*SCALES, "response")


def link_predict(
    model: LinkModel,
    tree: xr.DataTree,
    data: Any = None,
    *,
    kind: str = "mean",
    scope: Any = "observed",
    missing: str = "error",
    random_seed: int | None = None,
) -> xr.DataArray:
    """Draws by row; dims chain, draw, row[, category]. See `GLMM.predict`."""
    import xarray as xr

    if kind not in KINDS:
        raise DescriptionError(
            f"kind={kind!r}; 'mean', 'link' or 'response' was expected.{did_you_mean(str(kind), KINDS)}"
        )
    check_seed(random_seed)
    scopes = scopes_of(scope, model.design, LINK_SCOPES)
    if kind == "response" and any(one.integrates for one in scopes):
        raise DescriptionError(
            "A new observation is of some group, and scope='population-averaged' of none. Write scope='new' for "
            "observations of new groups, or kind='mean' for their mean."
        )
    known = any(one.needs_effects and not one.integrates and one.name != "new" for one in scopes)
    check_link_tree(model, tree, known, "Write tree = glmm.sample(), and give the whole tree: glmm.predict(tree).")
    posterior = tree["posterior"]
    points = LinkDraws.at_points(LinkValues.of_posterior(model, posterior.to_dataset()))
    trials_of = trials_columns(model) if kind == "response" and data is not None else ()
    rows = Rows.read(model.design, data, scopes, missing, trials_of)
    rng = np.random.default_rng(random_seed)
    with one_blas_thread():
        values = _values(model, points, rows, kind, scopes, rng, data is None)
    shape = (posterior.sizes["chain"], posterior.sizes["draw"], rows.n)
    coords = {"chain": posterior["chain"], "draw": posterior["draw"], "row": row_labels(rows.frame.index)}
    names = model.family.responses(model.outcome) if kind == "mean" else ()
    if not names:
        array = values[0].T.reshape(shape)
        return xr.DataArray(array, dims=("chain", "draw", "row"), coords=coords, name="y")
    array = np.moveaxis(values, 0, -1).swapaxes(0, 1).reshape(*shape, len(names))
    return xr.DataArray(
        array, dims=("chain", "draw", "row", "category"), coords=coords | {"category": list(names)}, name="y"
    )


def _values(model, points: LinkDraws, rows: Rows, kind: str, scopes, rng, own: bool) -> np.ndarray:
    """(C, rows, N)."""
    scale: Scale = (MeanScale if kind == "mean" else LinkScale)(model=model)
    means, link = points.means(rows.means), points.link
    integrated, new = [one.integrates for one in scopes], [one.draws for one in scopes]
    effects = {
        (k, label): np.einsum("nij,nj->ni", link.factors[k], rng.standard_normal((points.n, level.r)))
        for k, (level, taken) in enumerate(zip(model.design.levels, rows.taken, strict=True))
        if new[k]
        for label in taken.labels
    }
    found = []
    for some in rows.blocks():
        linear = rows.linear(some)
        eta = points.at(linear, means) + points.drawn(linear, new, effects)
        v = points.covariances([linear], integrated)[0][0]
        found.append(scale.averaged(eta, v, link.dispersion))
    values = np.concatenate(found, axis=1)
    if kind == "response":
        outcome = model.outcome if own else outcome_of(model, rows.frame)
        values = model.family.draw(rng, outcome, values[0].T, link.psi[:, None, :]).T[None]
    return values


def trials_columns(model: LinkModel) -> tuple[str, ...]:
    """Columns of new data that say how many trials a new observation has."""
    reader = model.reader
    if reader.failures:
        return tuple(dict.fromkeys([*columns_of(reader.response), reader.failures]))
    return (reader.trials,) if reader.trials else ()


def outcome_of(model: LinkModel, frame: pd.DataFrame) -> Outcome:
    """What new observations of these rows are: their trials and categories, without a response."""
    own, n = model.outcome, len(frame)
    trials = None
    if own.trials is not None:
        trials = sum((numbers(frame[name], "trials") for name in trials_columns(model)), np.zeros(n))
        wrong = (trials < 0) | (trials != np.round(trials))
        if wrong.any():
            raise DataError(
                f"The number of trials is {trials[wrong][0]:g} ({say_rows(frame.index, wrong)}); whole numbers from 0 "
                "on were expected."
            )
    return Outcome(name=own.name, y=np.zeros(n), rows=frame.index, trials=trials, categories=own.categories)
