"""Draws of a model whose outcome isn't Gaussian as a DataTree: the same names and dims whichever sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayeslmm.design.parameters import coords, dims, level_names
from bayeslmm.link_model import LinkModel

CUT = "cut"  # dimension of the thresholds


def link_dims(model: LinkModel) -> dict[str, tuple[str, ...]]:
    """Dimensions of the variables of a posterior, the family's own parameters included."""
    known = {name: value for name, value in dims(model.design).items() if name not in ("sigma", "e")}
    if not model.family.has_intercept:
        return {**known, "threshold": (CUT,)}
    return {**known, **{label: () for label in model.family.dispersion_labels(model.outcome)}}


def link_tree(model: LinkModel, values: dict[str, np.ndarray], stats: dict[str, np.ndarray]) -> xr.DataTree:
    """Return the groups posterior, sample_stats and observed_data of draws (chain, draw, ...) by variable."""
    known, design = link_dims(model), model.design
    values = {name: values[name] for name in known if name in values}
    for level in design.levels:
        if level.correlated:  # rounding in the diagonal would have an R-hat of its own
            at, name = np.arange(level.r), level_names(level).corr
            values[name] = np.array(values[name])
            values[name][..., at, at] = 1.0
    labels: dict[str, list] = dict(coords(design))
    if not model.family.has_intercept:
        names = model.family.dispersion_labels(model.outcome)
        labels[CUT] = [name.removeprefix("threshold[").removesuffix("]") for name in names]
    chains, draws = values["beta"].shape[:2]
    base: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
    used = {dim for name in values for dim in known[name]}
    return xr.DataTree.from_dict(
        {
            "/posterior": xr.Dataset(
                {name: (("chain", "draw", *known[name]), x) for name, x in values.items()},
                coords=base | {dim: labels[dim] for dim in used},
            ),
            "/sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in stats.items()}, coords=base),
            "/observed_data": xr.Dataset({"y": ("row", model.outcome.y)}, coords={"row": labels["row"]}),
        }
    )
