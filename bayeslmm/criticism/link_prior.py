"""Draws from the prior of a model whose outcome isn't Gaussian, and its log density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.criticism.prior_predictive import (
    draw_coefficients,
    draw_effects,
    draw_levels,
    generator,
    prior_tree,
    refuse_flat,
)
from bayeslmm.criticism.sensitivity import log_prior_of_coefficients, log_prior_of_levels
from bayeslmm.design.parameters import coords
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_draws import THRESHOLD, LinkValues
from bayeslmm.posterior.link_tree import CUT, link_dims

if TYPE_CHECKING:
    import xarray as xr

SWEEPS = 300  # of Gibbs sampling over thresholds, which are independent but for their order


def link_coords(model: LinkModel) -> dict[str, list]:
    """Labels of every dimension, the thresholds' too."""
    out = dict(coords(model.design))
    if not model.family.has_intercept:
        names = model.family.dispersion_labels(model.outcome)
        out[CUT] = [name.removeprefix("threshold[").removesuffix("]") for name in names]
    return out


def draw_prior(model: LinkModel, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All parameters and effects by name, draws first."""
    design, priors = model.design, model.priors
    refuse_flat(priors)
    own = [prior for level in priors.sd for prior in level]
    sds = np.stack([prior.rvs(rng, draws) for prior in own], axis=-1) if own else np.zeros((draws, 0))
    values = {"beta": draw_coefficients(priors, draws, rng)}
    values |= draw_levels(design, priors, sds, rng)
    values |= draw_effects(design, values, rng)
    if model.family.has_intercept:
        labels = model.family.dispersion_labels(model.outcome)
        return values | {name: prior.rvs(rng, draws) for name, prior in zip(labels, priors.dispersion, strict=True)}
    return values | {THRESHOLD: _thresholds(model, draws, rng) + _shift(model, values["beta"])}


def _shift(model: LinkModel, beta: np.ndarray) -> np.ndarray:
    """From the thresholds whose priors are stated to those as written: (draws, 1)."""
    labels = model.family.dispersion_labels(model.outcome)
    if any(row.source == "given" and row.parameter in labels for row in model.priors.reasons):
        return np.zeros((len(beta), 1))
    return beta @ model.design.X.mean(axis=0)[:, None]


def _thresholds(model: LinkModel, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Normal thresholds given that they ascend, by Gibbs sampling."""
    from scipy.special import ndtr, ndtri

    params = [prior.pymc()[1] for prior in model.priors.dispersion]
    mu, sigma = (np.array([float(one[key]) for one in params]) for key in ("mu", "sigma"))
    cuts = np.sort(mu + sigma * rng.standard_normal((draws, len(mu))), axis=1)
    ends = np.full((draws, 1), np.inf)
    for _ in range(SWEEPS):
        for k in range(len(mu)):
            low = cuts[:, k - 1 : k] if k else -ends
            high = cuts[:, k + 1 : k + 2] if k + 1 < len(mu) else ends
            a, b = ((x[:, 0] - mu[k]) / sigma[k] for x in (low, high))
            turned = a > 0  # in the upper tail, by its mirror image: nothing cancels
            below, above = ndtr(np.where(turned, -b, a)), ndtr(np.where(turned, -a, b))
            z = ndtri(below + rng.random(draws) * (above - below))
            z = np.clip(np.where(turned, -z, z), a, b)
            cuts[:, k] = mu[k] + sigma[k] * z
    return cuts


def link_log_prior(model: LinkModel, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Log prior density per parameter and draw, each in the terms in which its prior is written.

    Thresholds have normal densities each, without the constant that their order would add.
    """
    priors = model.priors
    out = log_prior_of_coefficients(priors, values) | log_prior_of_levels(model.design, priors, values)
    labels = model.family.dispersion_labels(model.outcome)
    if model.family.has_intercept:
        return out | {name: one.logpdf(values[name]) for name, one in zip(labels, priors.dispersion, strict=True)}
    stated = values[THRESHOLD] - _shift(model, values["beta"])
    out[THRESHOLD] = np.stack([one.logpdf(stated[:, k]) for k, one in enumerate(priors.dispersion)], axis=1)
    return out


def link_responses(
    model: LinkModel, values: LinkValues, seeds: list[tuple[int, ...]], rows: np.ndarray | None = None
) -> np.ndarray:
    """New y (N, k) of some rows; one seed a draw and row block, so that parts agree."""
    outcome, out = model.outcome, []
    eta = values.eta()
    with np.errstate(over="ignore"):
        for i, seed in enumerate(seeds):
            drawn = model.family.draw(np.random.default_rng(seed), outcome, _within(model, eta[i]), values.psi[i])
            out.append(drawn if rows is None else drawn[rows])
    return np.stack(out) if out else np.zeros((0, model.design.n if rows is None else len(rows)))


def _within(model: LinkModel, eta: np.ndarray) -> np.ndarray:
    """Linear predictors whose counts fit in an integer: rates beyond 1e15 are drawn as if they were that."""
    return np.minimum(eta, np.log(1e15)) if model.family.link == "log" else eta


def link_prior_predictive(model: LinkModel, draws: int = 500, random_seed: int | None = None) -> xr.DataTree:
    """Draw parameters, random effects and data from the prior, as `GLMM.prior_predictive` says."""
    rng = generator(draws, random_seed)
    values = draw_prior(model, draws, rng)
    entropy = int(rng.integers(2**62))
    y = link_responses(model, LinkValues.of(model, values), [(entropy, k) for k in range(draws)])
    tree = prior_tree(link_coords(model), link_dims(model), values, y, model.outcome.y)
    tree.attrs |= {"draws": draws, "random_seed": -1 if random_seed is None else random_seed}
    tree.attrs |= {"inference_library": "bayeslmm", "family": str(model.family)}
    return tree
