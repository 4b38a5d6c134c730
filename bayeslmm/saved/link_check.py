"""The same for outcomes that aren't Gaussian: Laplace's log-likelihood at fixed points, densities at stored draws."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.criticism.link_prior import link_log_prior
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.integration.objective import Objective
from bayeslmm.link_model import LinkModel
from bayeslmm.saved.check import Densities, as_json, differing, recorded, some_draws, values_at
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import xarray as xr

SDS = (1.0, 0.5, 1.5)  # of effects at the fixed points, in units of the link's scale


def link_density_record(model: LinkModel, tree: xr.DataTree | None = None) -> dict[str, Any]:
    """Log densities at fixed points, and at a few of the draws where there are any, with the points themselves.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> record = link_density_record(blm.example("cbpp"))
    >>> len(record["points"]), sorted(record["densities"])
    (3, ["y with u integrated out, by Laplace's approximation"])
    """
    problem = model.problem
    points = []
    for sd in SDS:
        x = np.zeros(problem.size)
        x[problem.sds] = sd
        x[problem.entries.stop :] = model.family.dispersion_start(model.outcome)
        points.append(x.tolist())
    draws = [] if tree is None else some_draws(tree)
    return recorded(partial(_densities, model, points, draws, tree), points, draws)


def link_differences(model: LinkModel, record: dict[str, Any], tree: xr.DataTree | None = None) -> list[str]:
    """What differs from the record in this model, a phrase each; none where all is as it was."""
    points = record["points"]
    if any(len(point) != model.problem.size for point in points):
        return [f"it has {model.problem.size} parameters, and {len(points[0])} were written"]
    return differing(_densities(model, points, record["draws"], tree), record)


def _densities(
    model: LinkModel, points: list, draws: list[list[int]], tree: xr.DataTree | None, moved: int = 0
) -> Densities:
    with one_blas_thread():
        values = [Objective(model.problem).point(np.array(point)).value for point in points]
        out = {"y with u integrated out, by Laplace's approximation": np.array(values)}
        if tree is not None:
            out |= _at_draws(model, values_at(tree, draws, moved))
    return {what: as_json(x) for what, x in out.items()}


def _at_draws(model: LinkModel, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The prior by parameter, and the density of y given eta."""
    out = {
        f"the prior of {name}": x.reshape(len(x), -1).sum(axis=1) for name, x in link_log_prior(model, values).items()
    }
    design, family = model.design, model.family
    if all(level.name in values for level in design.levels):
        effects = {lv.name: values[lv.name].reshape(-1, lv.m, lv.r) for lv in design.levels}
        eta = linear_predictor(design, values["beta"], effects)
        psi = family.dispersion_coordinates(_own_values(model, values))
        each = [family.logpdf(model.outcome, eta[k], psi[k]).sum() for k in range(len(eta))]
        out["y given the parameters and u"] = np.array(each)
    return out


def _own_values(model: LinkModel, values: dict[str, np.ndarray]) -> np.ndarray:
    """The family's own parameters (N, k)."""
    labels = model.family.dispersion_labels(model.outcome)
    if not model.family.has_intercept:
        return values["threshold"]
    return np.stack([values[label] for label in labels], axis=1) if labels else np.zeros((len(values["beta"]), 0))
