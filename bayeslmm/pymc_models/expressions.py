"""The statistics and R of the rows as PyTensor expressions: what marginal, joint and MixedNormal are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.design.design import Design
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.pymc_models.color_op import ColorOp
from bayeslmm.pymc_models.factor_op import log_det_and_T, pack_floats, pack_layout
from bayeslmm.pymc_models.relatives import draw_of_relatives

LOG_2PI = np.log(2 * np.pi)
ONE, ZERO = np.float64(1.0), np.float64(0.0)


def sparse_times(matrix, vector):
    """A constant sparse matrix (n, m) times a symbolic vector (m,): gathered and summed, so that numba compiles it."""
    entries = matrix.tocoo()
    row, col = entries.coords
    n, m = matrix.shape
    if n == m and np.array_equal(row, np.arange(n)) and np.array_equal(col, row):
        return vector if (entries.data == 1).all() else entries.data * vector
    return pt.inc_subtensor(pt.zeros(n)[row], entries.data * vector[col])


def inverse_times(residual: ResidualDesign, coefficients: Sequence[Any], vector):
    """R^-1 vector = sum_t c_t P_t vector."""
    total = ZERO
    for c, term in zip(coefficients, residual.terms, strict=True):
        total = total + c * sparse_times(term.left, sparse_times(term.right, vector))
    return total


def cross_products(stats: Statistics, columns):
    """Symbolic Z'columns (q, d) on the kernels' basis; `columns` is (n, d)."""
    blocks = []
    for level, better, B in zip(stats.design.levels, stats.better, stats.roots, strict=True):
        sums = []
        for e in range(level.r):
            own = pt.inc_subtensor(pt.zeros((level.m, columns.shape[1]))[level.index], better[:, e : e + 1] * columns)
            # sums, not dot products: with the data constant PyTensor folds these, and would look for a BLAS otherwise
            sums.append(own if B is None else (B[:, :, None] * own[:, None, :]).sum(axis=0))
        blocks.append(pt.stack(sums, axis=1).reshape((level.q, columns.shape[1])))
    return pt.concatenate(blocks, axis=0) if blocks else pt.zeros((0, columns.shape[1]))


def flatten_factors(maps: Sequence[np.ndarray], factors: Sequence):
    """Kernel vector of symbolic relative factors lambda_k (r, r)."""
    if not factors:
        return pt.zeros((0,))
    return pt.concatenate([(M @ lam).ravel() for M, lam in zip(maps, factors, strict=True)])


def factorised(stats: Statistics, factors: Sequence, psi: Sequence, residual, known: np.ndarray):
    """(log|V0| + log|R|, T) for W = [known columns (n, p), residual (n,)], both on the improved scale.

    The products of the known columns are constants; those with the residual follow it and psi.
    """
    R = stats.design.residual
    p = known.shape[1]
    # y enters as a variable, so nothing is taken for granted about which levels resolve it
    winspan = np.column_stack([stats.winspan[:, :p], np.zeros((len(stats.plan.chain), 1), dtype=bool)])
    ints, floats = pack_layout(stats.layout, winspan)
    c = [] if R.plain else R.coefficients(psi)
    weighted = residual if R.plain else inverse_times(R, c, residual)
    ZtQ: Any = np.ascontiguousarray(stats.ZtW[:, :p])
    QtQ: Any = known.T @ known if R.plain else stats.WtW[:p, :p]
    products = stats.products
    if products is not None:
        coefficients = pt.stack([pt.as_tensor_variable(x) for x in c])
        floats = (coefficients[:, None] * pack_floats(products.zz, products.zz_tail, products.zt)).sum(axis=0)
        ZtQ = (coefficients[:, None, None] * np.ascontiguousarray(products.ZtW[:, :, :p])).sum(axis=0)
        QtQ = (coefficients[:, None, None] * np.ascontiguousarray(products.WtW[:, :p, :p])).sum(axis=0)
    ZtW = pt.concatenate([ZtQ, cross_products(stats, weighted[:, None])], axis=1)
    Qtr = (known * weighted[:, None]).sum(axis=0)
    WtW = pt.concatenate(
        [
            pt.concatenate([QtQ, Qtr[:, None]], axis=1),
            pt.concatenate([Qtr, (residual * weighted).sum()[None]])[None, :],
        ],
        axis=0,
    )
    kind = {"products": products is not None, "sparse": stats.layout.sparse is not None}
    logdet, T = log_det_and_T(flatten_factors(stats.maps, factors), ZtW, WtW, (ints, floats), **kind)
    return logdet + R.log_det(psi, pt.log), T


def normal_logp(n: int, sigma, logdet, quadratic):
    """-1/2 [n log(2 pi sigma^2) + log|V| + quadratic / sigma^2]."""
    return -0.5 * (n * (LOG_2PI + 2 * pt.log(sigma)) + logdet + quadratic / sigma**2)


def random_effects_draw(design: Design, factors: Sequence, sigma):
    """Z b of one prior draw of the random effects, Cov(b_k) = sigma^2 K (x) lambda_k lambda_k'."""
    total = pt.zeros((design.n,))
    for level, lam in zip(design.levels, factors, strict=True):
        z = pm.Normal.dist(ZERO, ONE, shape=(level.m, level.r))
        b = sigma * draw_of_relatives(level, z) @ lam.T
        total = total + (b[level.index] * level.columns).sum(axis=-1)
    return total


def row_scales(residual: ResidualDesign, psi: Sequence):
    """SD of every row relative to sigma, where rows are independent: a number where they are equal."""
    if not residual.strata:
        return 1.0 / residual.root_weights if residual.residual.weights else ONE
    _, sds = residual.split(psi)
    return pt.stack([pt.as_tensor_variable(sd) for sd in sds])[residual.stratum] / residual.root_weights


def residual_draw(residual: ResidualDesign, sigma, psi: Sequence):
    """One draw of e ~ N(0, sigma^2 R)."""
    z = pm.Normal.dist(ZERO, ONE, shape=(residual.n,))
    if not residual.correlated:
        return sigma * row_scales(residual, psi) * z
    return sigma * ColorOp(residual)(z, *psi)
