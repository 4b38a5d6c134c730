"""The marginal of a mixed model as a PyMC distribution: y ~ N(mu, sigma^2 (Z G Z' + I)) without an n x n matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.op import log_det_and_T, pack_structure
from bayeslmm.statistics import Statistics

LOG_2PI = np.log(2 * np.pi)


def cross_products(stats: Statistics, columns):
    """Symbolic Z'columns (q, d) on the kernels' basis; `columns` is (n, d)."""
    blocks = []
    for level, better in zip(stats.design.levels, stats.better, strict=True):
        sums = [
            pt.inc_subtensor(pt.zeros((level.m, columns.shape[1]))[level.index], better[:, e : e + 1] * columns)
            for e in range(level.r)
        ]
        blocks.append(pt.stack(sums, axis=1).reshape((level.q, columns.shape[1])))
    return pt.concatenate(blocks, axis=0) if blocks else pt.zeros((0, columns.shape[1]))


def flatten_factors(stats: Statistics, factors: Sequence):
    """Kernel vector of symbolic relative factors lambda_k (r, r)."""
    if not factors:
        return pt.zeros((0,))
    return pt.concatenate([(M @ lam).ravel() for M, lam in zip(stats.maps, factors, strict=True)])


def random_effects_draw(stats: Statistics, factors: Sequence, sigma):
    """Z b of one prior draw of the random effects, b_kj ~ N(0, sigma^2 lambda_k lambda_k')."""
    total = pt.zeros((stats.design.n,))
    for level, lam in zip(stats.design.levels, factors, strict=True):
        z = pm.Normal.dist(np.float64(0.0), np.float64(1.0), shape=(level.m, level.r))
        b = sigma * z @ lam.T
        total = total + (b[level.index] * level.columns).sum(axis=-1)
    return total


def MixedNormal(name: str, mu, sigma, factors: Sequence, lmm, **kwargs):
    """A normal vector whose covariance is that of a mixed model, for any mean.

    y ~ N(mu, sigma^2 (sum_k Z_k (I (x) lambda_k lambda_k') Z_k' + I)), evaluated in time linear in the number of
    groups for nested levels. The mean may be any differentiable PyTensor expression of your own parameters.

    Parameters
    ----------
    name : str
        Name of the variable; call it within a `pm.Model`.
    mu : (n,) tensor
        The mean of every row.
    sigma : scalar tensor
        Residual standard deviation.
    factors : sequence of (r, r) tensors
        The levels' relative factors lambda_k, so that Cov(u_k) = sigma^2 lambda_k lambda_k'; a scalar tensor is
        accepted for a level with one effect: then it is SD(u_k) / sigma.
    lmm : LMM
        Gives the levels: which row belongs to which group, and the columns whose effects vary.
    **kwargs
        As for any PyMC distribution: `observed`, `dims`.

    Examples
    --------
    An asymptotic growth curve with a random intercept per subject::

        with pm.Model():
            top, rate = pm.Normal("top", 300, 50), pm.HalfNormal("rate", 1)
            sigma, sigma_u2 = pm.HalfNormal("sigma", 50), pm.HalfNormal("sigma_u2", 50)
            mu = top * (1 - pt.exp(-rate * days))
            blm.MixedNormal("y", mu, sigma, [sigma_u2 / sigma], lmm, observed=reaction)
    """
    stats = lmm.statistics
    sizes = [level.r for level in stats.design.levels]
    factors = [
        pt.as_tensor_variable(lam).reshape((r, r))
        if pt.as_tensor_variable(lam).ndim == 0
        else pt.as_tensor_variable(lam)
        for lam, r in zip(factors, sizes, strict=True)
    ]
    packed = pack_structure(stats.structure, np.zeros((len(stats.plan.chain), 1), dtype=bool))

    def logp(value, mu, sigma, *factors):
        residual = (value - mu)[:, None]
        ZtW = cross_products(stats, residual)
        logdet, T = log_det_and_T(flatten_factors(stats, factors), ZtW, (residual**2).sum(keepdims=True), packed)
        return normal_logp(stats.design.n, sigma, logdet, T[0, 0])

    def dist(mu, sigma, *rest):
        *factors, _size = rest
        e = pm.Normal.dist(np.float64(0.0), sigma, shape=(stats.design.n,))
        return mu + random_effects_draw(stats, factors, sigma) + e

    return pm.CustomDist(
        name, mu, sigma, *factors, logp=logp, dist=dist, class_name="MixedNormal",
        signature=",".join(["(n)", "()", *["(r,s)"] * len(factors)]) + "->(n)", **kwargs,
    )  # fmt: skip


def normal_logp(n: int, sigma, logdet, quadratic):
    """-1/2 [n log(2 pi sigma^2) + log|V0| + quadratic / sigma^2]."""
    return -0.5 * (n * (LOG_2PI + 2 * pt.log(sigma)) + logdet + quadratic / sigma**2)
