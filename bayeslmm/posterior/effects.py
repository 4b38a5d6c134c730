"""The random effects of draws of the parameters: exact draws from p(u | y, parameters)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.parameters import level_names
from bayeslmm.factorisation.factor import draw_many
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.posterior.collapsed import CollapsedPosterior
from bayeslmm.support.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Given:
    """N draws of the parameters, as the factorisation reads them.

    Attributes
    ----------
    lams : (N, n_lambda) array
        The kernels' lambda vectors.
    beta : (N, p) array
    sigma : (N,) array
    psi : (N, k) array
        R's parameters.
    """

    lams: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    psi: np.ndarray

    def draw(self, posterior: CollapsedPosterior, rows: np.ndarray | slice, rng: np.random.Generator) -> np.ndarray:
        """Draw b (k, q) from p(u | y, parameters) for some of the draws, on the kernels' basis."""
        stats = posterior.stats
        residual, psi = stats.design.residual, self.psi[rows]
        z = rng.standard_normal((len(psi), stats.layout.q))
        coefs = None if residual.fixed else residual.coefficients_at(psi)
        return draw_many(stats, self.lams[rows], posterior.v(self.beta[rows]), self.sigma[rows], z, coefs)


def draw_effects(
    posterior: CollapsedPosterior, given: Given, seed: np.random.SeedSequence, chains: int, bar: Progress
) -> dict[str, np.ndarray]:
    """u2, u3, ... from p(u | y, parameters), each (N, m[, r]); every chain has its own stream.

    Where Ctrl-C comes, they are those of the first draws, which are finished.
    """
    stats = posterior.stats
    levels = stats.design.levels
    if not levels:
        return {}
    total = len(given.beta)
    out = {level.name: np.empty((total, level.m, level.r)) for level in levels}
    bar.stage("drawing the random effects", total)
    piece = max(1, min(total // chains, 20_000_000 // max(stats.layout.q, 1)))
    for chain, stream in enumerate(seed.spawn(chains)):
        rng = np.random.default_rng(stream)
        begin, end = chain * (total // chains), (chain + 1) * (total // chains)
        for lo in range(begin, end, piece):
            rows = slice(lo, min(lo + piece, end))
            try:
                drawn = stats.effects(given.draw(posterior, rows, rng))
            except KeyboardInterrupt:
                if lo == 0:
                    raise
                return _one_column_fewer(levels, {name: u[:lo] for name, u in out.items()})
            for level, u in zip(levels, drawn, strict=True):
                out[level.name][rows] = u
            bar.advance(rows.stop - rows.start)
    return _one_column_fewer(levels, out)


def complete_effects(
    posterior: CollapsedPosterior, given: Given, b: np.ndarray, seed: np.random.SeedSequence
) -> dict[str, np.ndarray]:
    """The same where most are drawn already: b (N, q) on the kernels' basis, NaN in rows that are missing."""
    levels = posterior.stats.design.levels
    missing = np.flatnonzero(np.isnan(b).any(axis=1))
    if missing.size:
        b[missing] = given.draw(posterior, missing, np.random.default_rng(seed))
    drawn = dict(zip((level.name for level in levels), posterior.stats.effects(b), strict=True))
    return _one_column_fewer(levels, drawn)


def _one_column_fewer(levels: Sequence[LevelDesign], u: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Effects (N, m, r) as (N, m) where there is one a group."""
    return {level.name: u[level.name][..., 0] if level.r == 1 else u[level.name] for level in levels}


def kernel_factors(stats: Statistics, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The kernels' lambda vectors (N, n_lambda) of draws of sigma, sigma_u2, corr_u2, ..."""
    sigma = values["sigma"]
    parts = [np.zeros((len(sigma), 0))]
    for level, M in zip(stats.design.levels, stats.maps, strict=True):
        own = level_names(level)
        sd = values[own.sigma if level.n_sds else "sigma"].reshape(len(sigma), -1)
        root = roots_of(values[own.corr]) if level.correlated else np.eye(level.r)
        parts.append((M @ (sd[:, :, None] * root / sigma[:, None, None])).reshape(len(sigma), -1))
    return np.concatenate(parts, axis=1)


def residual_parameters(design: Design, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """R's parameters psi (N, k)."""
    n = len(values["sigma"])
    names = dict.fromkeys(parameter.name for parameter in design.residual.parameters)
    columns = [values[name].reshape(n, -1) for name in names]
    return np.concatenate([np.zeros((n, 0)), *columns], axis=1)


def roots_of(corr: np.ndarray) -> np.ndarray:
    """Square roots of correlation matrices (N, r, r), be they singular."""
    values, vectors = np.linalg.eigh(corr)
    return vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
