"""The same for outcomes that aren't Gaussian: Laplace's log-likelihood at fixed points, densities at stored draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.criticism.sensitivity import log_prior_of_coefficients, log_prior_of_levels
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.parameters import coords, level_names
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.integration.objective import Objective
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_tree import link_dims
from bayeslmm.saved.check import ROUNDINGS_OF, Densities, as_json, differing, largest_gap, some_draws, values_at
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
    densities = _densities(model, points, draws, tree)
    others = [_densities(model, points, draws, tree, moved=k) for k in ROUNDINGS_OF] if draws else []
    rounding = {
        what: max([largest_gap(other[what], x) for other in others], default=0.0) for what, x in densities.items()
    }
    return {"points": points, "draws": draws, "densities": densities, "rounding": rounding}


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
    out = {f"the prior of {name}": x.reshape(len(x), -1).sum(axis=1) for name, x in _log_prior(model, values).items()}
    design, family = model.design, model.family
    if all(level.name in values for level in design.levels):
        effects = {lv.name: values[lv.name].reshape(-1, lv.m, lv.r) for lv in design.levels}
        eta = linear_predictor(design, values["beta"], effects)
        psi = family.dispersion_coordinates(_own_values(model, values))
        each = [family.logpdf(model.outcome, eta[k], psi[k]).sum() for k in range(len(eta))]
        out["y given the parameters and u"] = np.array(each)
    return out


def _log_prior(model: LinkModel, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Log prior density per parameter and draw, each in the terms in which its prior is written."""
    priors, design, beta = model.priors, model.design, values["beta"]
    out = log_prior_of_coefficients(priors, values) | log_prior_of_levels(design, priors, values)
    labels = model.family.dispersion_labels(model.outcome)
    own = _own_values(model, values)
    given = any(row.source == "given" and row.parameter in labels for row in priors.reasons)
    if not (model.family.has_intercept or given):  # thresholds are stated at the mean of the predictors
        own = own - (beta @ design.X.mean(axis=0))[:, None]
    return out | {
        label: prior.logpdf(own[:, k]) for k, (label, prior) in enumerate(zip(labels, priors.dispersion, strict=True))
    }


def _own_values(model: LinkModel, values: dict[str, np.ndarray]) -> np.ndarray:
    """The family's own parameters (N, k)."""
    labels = model.family.dispersion_labels(model.outcome)
    if not model.family.has_intercept:
        return values["threshold"]
    return np.stack([values[label] for label in labels], axis=1) if labels else np.zeros((len(values["beta"]), 0))


def check_link_tree(model: LinkModel, tree: Any, remedy: str) -> None:
    """Refuse a tree that isn't a posterior of this model: variables, sizes, labels, the data, finite numbers."""
    if "posterior" not in getattr(tree, "children", {}):
        raise DescriptionError(
            f"A {type(tree).__name__} came as the result; a posterior as glmm.sample returns it was expected. {remedy}"
        )
    posterior = tree["posterior"].to_dataset()
    labels: dict[str, list] = dict(coords(model.design))
    optional = {level_names(level).rho for level in model.design.levels} | {level.name for level in model.design.levels}
    for name, dims in link_dims(model).items():
        if name not in posterior.data_vars:
            if name in optional:
                continue
            raise DataError(f"The given posterior has no variable {name!r}. {remedy}")
        x = posterior[name]
        if missing := [dim for dim in ("chain", "draw") if dim not in x.dims]:
            raise DataError(f"{name!r} of the given posterior has no dim {missing[0]!r}. {remedy}")
        found = x.transpose("chain", "draw", ...)
        wanted = tuple(len(labels[dim]) for dim in dims if dim in labels)
        if all(dim in labels for dim in dims) and found.shape[2:] != wanted:
            raise DataError(
                f"{name!r} of the given posterior has shape {found.shape[2:]} per draw; {wanted} was expected: it "
                f"comes from another model. {remedy}"
            )
        for dim in dims:
            texts = [str(one) for one in x[dim].values.tolist()] if dim in x.coords else None
            if texts is not None and dim in labels and texts != [str(one) for one in labels[dim]]:
                raise DataError(f"The given posterior comes from another model: its {dim} has other labels. {remedy}")
        if not np.isfinite(x.to_numpy()).all():
            raise DataError(f"{name!r} of the given posterior has values that are not finite. Sample again.")
    if "observed_data" in tree.children and "y" in tree["observed_data"].data_vars:
        y = np.asarray(tree["observed_data"]["y"].values, dtype=float).ravel()
        if not np.array_equal(y, model.outcome.y):
            raise DataError(
                "The given posterior is one of other data: its observed_data are not this model's response. " + remedy
            )
