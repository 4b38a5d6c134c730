"""Draws as a DataTree: the same names and dims whichever variant and sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayeslmm.design.design import Design
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.parameters import coords, dims, level_names


def posterior_tree(
    design: Design, values: dict[str, np.ndarray], stats: dict[str, np.ndarray], residuals: bool
) -> xr.DataTree:
    """Return the groups posterior, sample_stats and observed_data of draws (chain, draw, ...) by variable."""
    if residuals:
        values = {**values, "e": residual_draws(design, values)}
    for level in design.levels:
        if level.correlated:  # rounding in the diagonal would have an R-hat of its own
            at, name = np.arange(level.r), level_names(level).corr
            values = {**values, name: np.array(values[name])}
            values[name][..., at, at] = 1.0
    known = dims(design)
    labels = coords(design)
    chains, draws = values["sigma"].shape
    base: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
    used = {dim for name in values for dim in known[name]}
    posterior = xr.Dataset(
        {name: (("chain", "draw", *known[name]), values[name]) for name in known if name in values},
        coords=base | {dim: labels[dim] for dim in used},
    )
    groups = {
        "/posterior": posterior,
        "/sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in stats.items()}, coords=base),
    }
    if design.has_rows:
        groups["/observed_data"] = xr.Dataset({"y": ("row", design.y)}, coords={"row": labels["row"]})
    return xr.DataTree.from_dict(groups)


def residual_draws(design: Design, values: dict[str, np.ndarray]) -> np.ndarray:
    """e = y - offset - X beta - sum Z_k u_k, (chain, draw, row)."""
    return design.y - linear_predictor(design, values["beta"], by_level(design, values))


def by_level(design: Design, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws of u2, u3, ... with an axis of effects at their end, (..., m, r), also where there is one effect."""
    return {
        level.name: values[level.name][..., None] if level.r == 1 else values[level.name] for level in design.levels
    }
