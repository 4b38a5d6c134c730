"""The random effects of draws of the parameters: exact draws from p(u | y, parameters)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.parameters import level_names
from bayeslmm.factorisation.factor import draw_many
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.posterior.collapsed import CollapsedPosterior
from bayeslmm.support.progress import Progress


def draw_effects(
    posterior: CollapsedPosterior, lams, beta, sigma, psi, seed, chains: int, bar: Progress, b: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """u2, u3, ... from p(u | y, parameters), each (chains * draws, m[, r]); every chain has its own stream."""
    stats = posterior.stats
    levels = stats.design.levels
    if not levels:
        return {}
    total = len(beta)
    residual = stats.design.residual
    coefs = None if residual.fixed else residual.coefficients_at(psi)
    if b is not None:
        missing = np.flatnonzero(np.isnan(b).any(axis=1))
        z = np.random.default_rng(seed).standard_normal((missing.size, stats.structure.q))
        part = None if coefs is None else coefs[missing]
        b[missing] = draw_many(stats, lams[missing], posterior.v(beta[missing]), sigma[missing], z, part)
        drawn = dict(zip((level.name for level in levels), stats.effects(b), strict=True))
        return {level.name: drawn[level.name][..., 0] if level.r == 1 else drawn[level.name] for level in levels}
    out = {level.name: np.empty((total, level.m, level.r)) for level in levels}
    bar.stage("drawing the random effects", total)
    piece = max(1, min(total // chains, 20_000_000 // max(stats.structure.q, 1)))
    for chain, stream in enumerate(seed.spawn(chains)):
        rng = np.random.default_rng(stream)
        begin, end = chain * (total // chains), (chain + 1) * (total // chains)
        for lo in range(begin, end, piece):
            rows = slice(lo, min(lo + piece, end))
            z = rng.standard_normal((rows.stop - rows.start, stats.structure.q))
            part = None if coefs is None else coefs[rows]
            b = draw_many(stats, lams[rows], posterior.v(beta[rows]), sigma[rows], z, part)
            for level, u in zip(levels, stats.effects(b), strict=True):
                out[level.name][rows] = u
            bar.advance(rows.stop - rows.start)
    return {level.name: out[level.name][..., 0] if level.r == 1 else out[level.name] for level in levels}


def kernel_factors(stats: Statistics, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The kernels' lambda vectors (N, n_lambda) of draws of sigma, sigma_u2, corr_u2, ..."""
    sigma = values["sigma"]
    parts = [np.zeros((len(sigma), 0))]
    for level, M in zip(stats.design.levels, stats.maps, strict=True):
        own = level_names(level)
        sd = values["sigma" if level.known else own.sigma].reshape(len(sigma), level.r)
        root = _roots(values[own.corr]) if level.correlated else np.eye(level.r)
        parts.append((M @ (sd[:, :, None] * root / sigma[:, None, None])).reshape(len(sigma), -1))
    return np.concatenate(parts, axis=1)


def residual_parameters(design: Design, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """R's parameters psi (N, k)."""
    n = len(values["sigma"])
    names = dict.fromkeys(parameter.name for parameter in design.residual.parameters)
    columns = [values[name].reshape(n, -1) for name in names]
    return np.concatenate([np.zeros((n, 0)), *columns], axis=1)


def _roots(corr: np.ndarray) -> np.ndarray:
    """Square roots of correlation matrices (N, r, r), be they singular."""
    values, vectors = np.linalg.eigh(corr)
    return vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
