"""Log densities that are written beside a model and computed again when it is read: a model built otherwise differs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.criticism.sensitivity import conditional_log_likelihood, log_prior, marginal_log_likelihood
from bayeslmm.model import Model
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import xarray as xr

# Libraries and processors add in another order, which moves a log density by some 1e-11 of its size; another default
# prior or another encoding moves it in its third digit.
TOLERANCE = 1e-8
ROUNDINGS = 100  # how many times what the last digit of correlations moves; far from zero (a year) that is much
ROUNDINGS_OF = (1, 2, 3)  # last binary digits of correlations, by which they are moved
DRAWS = 2  # looked at in each of the first and the last chain
STEPS = (0.0, 0.5, -0.5)  # of log SDs, from where a sampler would begin

Densities = dict[str, list[float | str]]


def density_record(model: Model, tree: xr.DataTree | None = None) -> dict[str, Any]:
    """Log densities at fixed points, and at a few of the draws where there are any, with the points themselves.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> record = density_record(blm.example("dyestuff"))
    >>> len(record["points"]), sorted(record["densities"])
    (3, ['beta and u integrated out'])
    """
    with one_blas_thread():
        posterior = collapsed_posterior(model.statistics, model.priors)
        start = posterior.start()
    moves = np.zeros(start.size)
    moves[posterior.sd_positions] = 1.0
    points = [(start + step * moves).tolist() for step in STEPS]
    draws = [] if tree is None else some_draws(tree)
    return recorded(partial(_densities, model, points, draws, tree), points, draws)


def recorded(densities_of: Callable[..., Densities], points: list[list[float]], draws: list) -> dict[str, Any]:
    """Densities at points and draws, and how far rounding of the draws moves them."""
    densities = densities_of()
    others = [densities_of(moved=k) for k in ROUNDINGS_OF] if draws else []
    rounding = {
        what: max([largest_gap(other[what], x) for other in others], default=0.0) for what, x in densities.items()
    }
    return {"points": points, "draws": draws, "densities": densities, "rounding": rounding}


def differences(model: Model, record: dict[str, Any], tree: xr.DataTree | None = None) -> list[str]:
    """What differs from the record in this model, a phrase each; none where all is as it was."""
    points = record["points"]
    size = collapsed_posterior(model.statistics, model.priors).coordinates.size
    if any(len(point) != size for point in points):
        return [f"it has {size} variance parameters, and {len(points[0])} were written"]
    return differing(_densities(model, points, record["draws"], tree), record)


def differing(found: Densities, record: dict[str, Any]) -> list[str]:
    """Where densities are others than those of the record, a phrase each."""
    if set(found) != set(record["densities"]):
        return [f"its parameters are others ({', '.join(sorted(set(found) ^ set(record['densities'])))})"]
    said = []
    for what, values in found.items():
        then, now = np.array(record["densities"][what], dtype=float), np.array(values, dtype=float)
        rounding = float(record["rounding"][what])
        if now.shape != then.shape:
            return [f"{what} has {now.size} log densities, and {then.size} were written"]
        with np.errstate(invalid="ignore"):  # infinities
            near = ~(np.abs(now - then) > TOLERANCE * (1 + np.abs(then)) + ROUNDINGS * rounding)
        same = (now == then) | (np.isfinite(now) == np.isfinite(then)) & near
        if not np.all(same):
            k = int(np.argmin(same))
            said.append(f"the log density of {what} is {now[k]:.10g}, and {then[k]:.10g} was written")
    return said


def _densities(
    model: Model, points: list, draws: list[list[int]], tree: xr.DataTree | None, moved: int = 0
) -> Densities:
    with one_blas_thread():
        posterior = collapsed_posterior(model.statistics, model.priors)
        out: dict[str, np.ndarray] = {"beta and u integrated out": posterior.evaluate(np.array(points))[0]}
        if tree is not None:
            out |= _at_draws(model, draws, tree, moved)
    return {what: as_json(values) for what, values in out.items()}


def _at_draws(model: Model, draws: list[list[int]], tree: xr.DataTree, moved: int) -> dict[str, np.ndarray]:
    """The prior by parameter, and the likelihood with u integrated out and given u."""
    values = values_at(tree, draws, moved)
    out = {f"the prior of {name}": x.reshape(len(x), -1).sum(axis=1) for name, x in log_prior(model, values).items()}
    out["y given the parameters"] = marginal_log_likelihood(model, values)
    if all(level.name in values for level in model.design.levels):
        given = conditional_log_likelihood(model.design, values)
        out["y given the parameters and u"] = given.reshape(len(given), -1).sum(axis=1)
    return out


def values_at(tree: xr.DataTree, draws: list[list[int]], moved: int) -> dict[str, np.ndarray]:
    """What a few draws say of every variable; `moved`: by how many last binary digits correlations go towards zero."""
    dataset = tree["posterior"].to_dataset().transpose("chain", "draw", ...)
    at = tuple(np.array(draws).T)
    values = {str(name): variable.to_numpy()[at] for name, variable in dataset.data_vars.items()}
    for name, x in values.items():
        if name.startswith("corr_"):
            values[name] = np.where(np.eye(x.shape[-1], dtype=bool), x, x - moved * np.spacing(x))
    return values


def largest_gap(values: list, others: list) -> float:
    """How far two lists of numbers are apart, where both are finite."""
    gaps = np.abs(np.array(values, dtype=float) - np.array(others, dtype=float))
    return float(gaps[np.isfinite(gaps)].max(initial=0.0))


def some_draws(tree: xr.DataTree) -> list[list[int]]:
    """(chain, draw) of the first and last draws of the first and last chains."""
    sizes = tree["posterior"].sizes
    places = {
        (chain, draw)
        for chain in (0, sizes["chain"] - 1)
        for draw in np.linspace(0, sizes["draw"] - 1, DRAWS).astype(int).tolist()
    }
    return [list(place) for place in sorted(places)]


def as_json(values: np.ndarray) -> list[float | str]:
    """Numbers, those that JSON has not as texts."""
    return [x if np.isfinite(x) else str(x) for x in np.asarray(values, dtype=float).tolist()]
