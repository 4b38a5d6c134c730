"""The factorisation as objects: log|V0|, T = W' V0^-1 W, their gradient, and draws of the random effects.

One implementation serves ML, REML, the PyTensor Op and the collapsed sampler. The kernels are in
`elimination` (down to the root) and `backsolve` (back to the leaves), behind one entry in `kernel`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.factorisation.kernels.arrays import Draws, Parts, Pullback, Terms
from bayeslmm.factorisation.kernels.entry import NO_TERMS, ascend, descend, workspace
from bayeslmm.factorisation.layout import Layout
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.support import threads

COLUMNS = 64  # right-hand sides that are solved for together
PIECE = 256  # factorisations that are kept at a time, where their parts have
PARTS = 500_000  # no more numbers than this
LARGE_PANEL = 250_000  # numbers in a panel of a sparse tail from which on BLAS may use all its threads


@dataclass(frozen=True, kw_only=True)
class Adjoint:
    """What comes back from the root: modes, variances and the gradient.

    Attributes
    ----------
    b : (q, d) array
        Conditional modes of the random effects for every column of W.
    variances : flat array
        Blocks (r x r) of Cov(b | y) / sigma^2, level by level, group by group.
    gradient : flat array
        Cotangent of the kernels' lambda vector.
    """

    b: np.ndarray
    variances: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ProductAdjoint:
    """Cotangents of the cross-products, as `Layout` and `factorise` hold them.

    Their inner product with a change of (zz, zt, zz_tail, ZtW, WtW) is the change of a log|V0| + tr(Tbar T).

    Attributes
    ----------
    zz, zt : flat arrays
        Of the chain's products: a product of two different columns is stored once and counts twice.
    zz_tail : (q_T, q_T) or packed array
        Of the tail's products, for changes that keep them symmetric; packed, a product of two columns counts twice.
    ZtW : (q, d) array
    WtW : (d, d) array
    adjoint : Adjoint
        Modes, variances and the gradient from the same pass.
    """

    zz: np.ndarray
    zt: np.ndarray
    zz_tail: np.ndarray
    ZtW: np.ndarray
    WtW: np.ndarray
    adjoint: Adjoint


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One factorisation at given lambda.

    Attributes
    ----------
    logdet : float
        log|V0| = log|Z Lambda Lambda' Z' + I|.
    T : (d, d) array
        W' V0^-1 W.
    """

    layout: Layout
    lam: np.ndarray
    logdet: float
    T: np.ndarray
    parts: Parts

    def adjoint(self, a: float, Tbar: np.ndarray) -> Adjoint:
        """Pull the cotangents of (log|V0|, T) back to lambda; Tbar (d, d) is symmetrised."""
        return self._backward(a, (Tbar + Tbar.T) / 2, np.empty(0), np.empty(0), self.layout.no_tail)

    def product_adjoint(self, a: float, Tbar: np.ndarray) -> ProductAdjoint:
        """Pull the cotangents of (log|V0|, T) back to the cross-products too; Tbar (d, d) is symmetrised.

        d(a log|V0| + tr(Tbar T)) / d(Z'Z) = a C + b Tbar b' with C = Lambda M^-1 Lambda', exact where no column is
        marked as lying in the span of a level (`Layout.inspan` and `Statistics.winspan` all False).
        """
        st = self.layout
        Tbar = (Tbar + Tbar.T) / 2
        zz, zt, zz_tail = np.zeros(st.zz.size), np.zeros(st.zt.size), np.zeros(st.zz_tail.shape)
        adjoint = self._backward(a, Tbar, zz, zt, zz_tail)
        return ProductAdjoint(zz=zz, zt=zt, zz_tail=zz_tail, ZtW=-2 * adjoint.b @ Tbar, WtW=Tbar, adjoint=adjoint)

    def _backward(self, a: float, Tbar: np.ndarray, zz: np.ndarray, zt: np.ndarray, zz_tail: np.ndarray) -> Adjoint:
        st = self.layout
        b = np.zeros((st.q, self.T.shape[0]))
        variances = np.zeros(st.n_blocks)
        gradient = np.zeros(st.n_lambda)
        cotangents = (np.ascontiguousarray(Tbar), float(a))
        pullback = Pullback(*cotangents, b, variances, gradient, zz, zt, zz_tail)
        with _blas_threads(st):
            ascend(st, self.parts, self.lam[None], pullback=pullback)
        return Adjoint(b=b, variances=variances, gradient=gradient)

    def draw(self, v: np.ndarray, sigma: float, z: np.ndarray) -> np.ndarray:
        """b ~ N(mode, sigma^2 Lambda M^-1 Lambda') for the data W v, from standard normal z (q,)."""
        b = np.zeros((1, self.layout.q))
        given = (np.ascontiguousarray(v)[None], np.array([sigma], dtype=float), np.ascontiguousarray(z)[None])
        ascend(self.layout, self.parts, self.lam[None], draws=Draws(*given, b))
        return b[0]


def _blas_threads(st: Layout) -> AbstractContextManager[None]:
    """One thread where a sparse tail's panels are small: several wait for each other longer than they work."""
    small = st.sparse is not None and int(np.diff(st.sparse.panels).max(initial=0)) < LARGE_PANEL
    return threads.one_blas_thread() if small else nullcontext()


def factorise(st: Layout, lam: np.ndarray, ZtW: np.ndarray, WtW: np.ndarray, winspan: np.ndarray) -> Factor:
    """Factorise at the kernels' lambda vector."""
    with _blas_threads(st):
        logdets, Ts, parts = descend(st, winspan, ZtW, WtW, lam[None])
    return Factor(layout=st, lam=lam, logdet=float(logdets[0]), T=Ts[0], parts=parts)


def solve(st: Layout, lam: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
    """(log|M|, b) with b = Lambda M^-1 Lambda' right (q,), the modes where Z'y is `right`: nothing else is kept."""
    b = np.zeros((1, st.q))
    blind, nothing = np.zeros((len(st.chain), 1), dtype=np.bool_), np.zeros((1, 1))
    modes = Draws(np.ones((1, 1)), np.zeros(1), np.zeros((1, st.q)), b)
    with _blas_threads(st):
        logdets, _, _ = descend(st, blind, np.ascontiguousarray(right[:, None]), nothing, lam[None], draws=modes)
    return float(logdets[0]), b[0]


def pull_back(
    stats: Statistics, factor: Factor, a: float, Tbar: np.ndarray, psi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pull the cotangents of (log|V0| + log|R|, T) back to the model's parameters.

    Parameters
    ----------
    factor : Factor
        Of the statistics at psi.
    a : float
        Cotangent of log|V0| + log|R|.
    Tbar : (d, d) array
    psi : (k,) array
        R's parameters.

    Returns
    -------
    (gradient by the kernels' lambda vector, gradient by psi (k,))
    """
    if stats.products is None:
        return factor.adjoint(a, Tbar).gradient, np.zeros(len(psi))
    bar = factor.product_adjoint(a, Tbar)
    c, logdet = stats.design.residual.derivatives(psi)
    return bar.adjoint.gradient, c @ stats.products.inner(bar) + a * logdet


def factorise_statistics(stats: Statistics, lam: np.ndarray) -> Factor:
    """Factorise the model's own W = [Q y_] at the kernels' lambda vector."""
    return factorise(stats.layout, lam, stats.ZtW, stats.WtW, stats.winspan)


def spread_variances(factor: Factor, stats: Statistics, k: int) -> np.ndarray:
    """Blocks (m, r, r) of Cov(u_k | y) / sigma^2 on the improved basis, for a level with a known covariance.

    u = B v mixes the kernels' effects v, so that all of their covariances count: one solve per column of B'.
    """
    level, B = stats.design.levels[k], stats.roots[k]
    assert B is not None
    start = sum(other.q for other in stats.design.levels[:k])
    m, r = level.m, level.r
    out = np.empty((m, r, r))
    for first in range(0, m, COLUMNS):
        groups = np.arange(first, min(first + COLUMNS, m))
        right = np.zeros((stats.layout.q, groups.size * r))
        for e in range(r):
            right[start + e : start + m * r : r, e::r] = B[groups].T
        d = right.shape[1]
        blind = np.zeros((len(stats.plan.chain), d), dtype=np.bool_)
        solved = factorise(stats.layout, factor.lam, right, np.zeros((d, d)), blind)
        b = solved.adjoint(0.0, np.zeros((d, d))).b[start : start + m * r].reshape(m, r, groups.size, r)
        out[groups] = np.einsum("gm,mage->gae", B[groups], b)
    return out


def effect_covariances(factor: Factor, variances: np.ndarray, stats: Statistics) -> list[np.ndarray]:
    """Per level the blocks (m, r, r) of Cov(u | y) / sigma^2 of the effects as written, at the factor's parameters.

    Parameters
    ----------
    variances : flat array
        As in `Adjoint`.
    stats : Statistics
        At R's parameters.
    """
    out, at = [], 0
    for k, (level, M) in enumerate(zip(stats.design.levels, stats.maps, strict=True)):
        C = variances[at : at + level.m * level.r**2].reshape(level.m, level.r, level.r)
        at += C.size
        if stats.roots[k] is not None:
            C = spread_variances(factor, stats, k)
        back = np.linalg.inv(M)
        out.append(back @ C @ back.T)
    return out


def _summing(stats: Statistics, coefs: np.ndarray | None) -> tuple[Statistics, Terms]:
    """The statistics and terms as `kernel.descend` takes them: where R has parameters, with products of their own."""
    if coefs is None:
        return stats, NO_TERMS
    st, products = stats.layout, stats.products
    assert products is not None
    layout = replace(st, zz=st.zz.copy(), zz_tail=st.zz_tail.copy(), zt=st.zt.copy())
    arrays = (products.zz, products.zz_tail, products.zt, products.ZtW, products.WtW)
    terms = (np.ascontiguousarray(A.reshape(len(A), -1)) for A in (*arrays, coefs))
    own = replace(stats, layout=layout, ZtW=stats.ZtW.copy(), WtW=stats.WtW.copy())
    return own, Terms(*terms)


def _threads(stats: Statistics, evaluations: int) -> int:
    """Threads for a batch: starting them costs more than a small batch does."""
    numbers = stats.layout.zz.size + stats.layout.zt.size + stats.layout.q + stats.layout.zz_tail.size
    return threads.workers() if evaluations * numbers > 20_000 else 1


def evaluate_many(
    stats: Statistics, lams: np.ndarray, coefs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(log|V0| (B,), T (B, d, d)) at B kernel lambda vectors, over all cores.

    `coefs` (B, T) are those of R^-1's terms, where R has parameters; log|R| is not in log|V0|.
    """
    lams = np.ascontiguousarray(lams)
    d = stats.WtW.shape[0]
    logdets, Ts = np.empty(len(lams)), np.empty((len(lams), d, d))

    def task(lo: int, hi: int) -> None:
        own, terms = _summing(stats, None if coefs is None else coefs[lo:hi])
        logdets[lo:hi], Ts[lo:hi], _ = descend(own.layout, own.winspan, own.ZtW, own.WtW, lams[lo:hi], terms)

    with threads.one_blas_thread():
        threads.share(task, len(lams), _threads(stats, len(lams)))
    return logdets, Ts


def evaluate_and_draw(
    stats: Statistics,
    lams: np.ndarray,
    coefs: np.ndarray | None,
    sigma: np.ndarray,
    z: np.ndarray,
    respond: Callable[[slice, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `evaluate_many`, and random effects (B, q), on the kernels' basis, from the same factorisations.

    Parameters
    ----------
    sigma, z : (B,) and (B, q) arrays
        Residual SDs, and standard normals.
    respond : callable
        From some of the rows (a slice) and their T to the data W v that the effects are conditioned on: v (rows, d).
    """
    lams, sigma, z = (np.ascontiguousarray(x) for x in (lams, sigma, z))
    d = stats.WtW.shape[0]
    logdets, Ts, b = np.empty(len(lams)), np.empty((len(lams), d, d)), np.empty((len(lams), stats.layout.q))
    size = 1 + sum(part.size for part in workspace(stats.layout, d))
    piece = min(PIECE, len(lams), max(1, PARTS // size))

    def task(lo: int, hi: int) -> None:
        parts = workspace(stats.layout, d, piece)
        for first in range(lo, hi, piece):
            rows = slice(first, min(first + piece, hi))
            own, terms = _summing(stats, None if coefs is None else coefs[rows])
            given = (own.layout, own.winspan, own.ZtW, own.WtW)
            logdets[rows], Ts[rows], _ = descend(*given, lams[rows], terms, parts=parts)
            v = np.ascontiguousarray(respond(rows, Ts[rows]))
            ascend(own.layout, parts, lams[rows], draws=Draws(v, sigma[rows], z[rows], b[rows]))

    with threads.one_blas_thread():
        threads.share(task, len(lams), _threads(stats, len(lams)))
    return logdets, Ts, b


def draw_many(
    stats: Statistics,
    lams: np.ndarray,
    v: np.ndarray,
    sigma: np.ndarray,
    z: np.ndarray,
    coefs: np.ndarray | None = None,
) -> np.ndarray:
    """Random effects (B, q), on the kernels' basis, at B parameter values; equal neighbours share a factorisation."""
    lams, v, sigma, z = (np.ascontiguousarray(x) for x in (lams, v, sigma, z))
    b = np.empty((len(lams), stats.layout.q))

    def task(lo: int, hi: int) -> None:
        own, terms = _summing(stats, None if coefs is None else coefs[lo:hi])
        draws = Draws(v[lo:hi], sigma[lo:hi], z[lo:hi], b[lo:hi])
        descend(own.layout, own.winspan, own.ZtW, own.WtW, lams[lo:hi], terms, draws)

    with threads.one_blas_thread():
        threads.share(task, len(lams), _threads(stats, len(lams)))
    return b
