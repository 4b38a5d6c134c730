"""What the modes that a search finds say to NUTS: where to begin, and whether it ever went there.

R-hat and effective sample size can't see a mode that no chain visited. The collapsed density is cheap, so its modes are
looked for before NUTS runs: the highest is where the chains begin, and every other is held against the draws.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from bayeslmm.design.parameters import level_names
from bayeslmm.errors import SamplingError
from bayeslmm.posterior.collapsed import CollapsedPosterior
from bayeslmm.posterior.independence import Mode, find_modes
from bayeslmm.support.threads import one_blas_thread

HEAVY = 0.05  # share of the mass from which a mode that was not visited is a doubt


def modes_of(posterior: CollapsedPosterior) -> list[Mode]:
    """The modes of the collapsed density, none where none can be found."""
    try:
        with one_blas_thread():
            return find_modes(posterior)
    except SamplingError:
        return []


def beginning(posterior: CollapsedPosterior, mode: Mode, free: Collection[str]) -> dict[str, np.ndarray]:
    """Values of the free variables of a PyMC model at a mode: sigma, SDs and coefficients, where they are free."""
    design, priors = posterior.stats.design, posterior.priors
    coordinates = posterior.coordinates
    phi = mode.phi
    mean = posterior.evaluate(phi[None])[2].mean[0]
    out: dict[str, np.ndarray] = {"sigma": np.array(np.exp(phi[0]))}
    vectors = [("beta" if priors.beta_anchor is None else "beta_at_mean", design.coef, mean)]
    for level, (sd, _), W in zip(design.levels, coordinates.slices, priors.effect_maps, strict=True):
        name = level_names(level).sigma if W is None else f"{level_names(level).sigma}_at_mean"
        if level.n_sds == 0:
            continue
        if level.n_sds == 1:
            out[name] = np.exp(phi[sd][0])
        else:
            vectors.append((name, level.effects, np.exp(phi[sd])))
    for name, labels, values in vectors:
        out |= {name: values} | {f"{name}[{label}]": np.array(x) for label, x in zip(labels, values, strict=True)}
    return {name: value for name, value in out.items() if name in free}


def unvisited(posterior: CollapsedPosterior, modes: list[Mode], draws: Mapping[str, np.ndarray]) -> str:
    """Say which mode no draw came near, or "".

    A mode counts as unvisited where one of its SDs lies outside the range of all draws, by a tenth of it at least, and
    its share of the mass, by Laplace's approximation, is 5 % or more.

    Parameters
    ----------
    draws : mapping
        sigma and the levels' SDs as written, (chain, draw[, effect]).
    """
    if not modes:
        return ""
    mass = np.exp([mode.log_mass - modes[0].log_mass for mode in modes])
    for mode, share in zip(modes, mass / mass.sum(), strict=True):
        if share < HEAVY:
            continue
        sigma, sds, _ = posterior.coordinates.natural(mode.phi)
        places: list[tuple[str, Any, np.ndarray]] = [("sigma", sigma, draws["sigma"].ravel())]
        for level, sd in zip(posterior.stats.design.levels, sds, strict=True):
            name = level_names(level).sigma
            if level.n_sds:
                own = draws[name].reshape(-1, level.n_sds)
                places += list(zip(level.sd_labels, level.structure.gather(sd), own.T, strict=True))
        for name, value, x in places:
            if not 0.9 * x.min() <= value <= 1.1 * x.max():
                return (
                    f"a mode of the posterior with about {100 * share:.0f} % of its mass, where {name} is "
                    f"{float(value):.3g}, was never visited: the draws run from {x.min():.3g} to {x.max():.3g}"
                )
    return ""
