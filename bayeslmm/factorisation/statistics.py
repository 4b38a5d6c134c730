"""Design -> cross-products of [Z X y]: everything that the likelihood ever needs of the data.

Every product is A' R^-1 B. Where R has parameters psi, R^-1 = sum_t c_t(psi) P_t (see `residual`): the products with
each P_t are kept, and `Statistics.at` sums them. A level with a known covariance K = L L' enters with Z L, so that its
effects are independent; where it is the only level of the chain, with Z L U, which makes its own product diagonal. A
sparse tail has the effects themselves, and the precisions of those that are related.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.counted import scaled
from bayeslmm.design.design import Design
from bayeslmm.design.wide import Wide
from bayeslmm.factorisation.conditioning import better_columns, effect_map, group_sums, in_span, make_basis, pieces
from bayeslmm.factorisation.layout import Apply, Blocks, Layout, lay_out, sparse_columns
from bayeslmm.factorisation.plan import Plan, check_tail, plan_elimination

if TYPE_CHECKING:
    from bayeslmm.factorisation.factor import ProductAdjoint


@dataclass(frozen=True, kw_only=True)
class Products:
    """The cross-products with each P_t, stacked along the first axis."""

    zz: np.ndarray
    zt: np.ndarray
    zz_tail: np.ndarray
    ZtW: np.ndarray
    WtW: np.ndarray

    def inner(self, bar: ProductAdjoint) -> np.ndarray:
        """Inner product of each term with cotangents of the summed products, (T,)."""
        pairs = ((self.zz, bar.zz), (self.zt, bar.zt), (self.zz_tail, bar.zz_tail), (self.ZtW, bar.ZtW))
        total = np.tensordot(self.WtW, bar.WtW, axes=2)
        for A, cotangent in pairs:
            total = total + A.reshape(len(A), -1) @ cotangent.ravel()
        return total

    def sum(self, c: np.ndarray) -> tuple[np.ndarray, ...]:
        """sum_t c_t A_t of each array."""
        return tuple(np.tensordot(c, A, axes=1) for A in (self.zz, self.zt, self.zz_tail, self.ZtW, self.WtW))


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Cross-products of [Z X y] on the improved basis, and the plan of elimination.

    Attributes
    ----------
    ZtW : (q, p + 1) array, WtW : (p + 1, p + 1) array
        Z'R^-1 W and W'R^-1 W with W = [Q, y_] of `basis.Basis`; where R has parameters, at the last ones given to `at`.
    winspan : (chain, p + 1) bool array
        Which columns of W each chain level resolves exactly.
    maps : per level an (r, r) matrix
        ``Z_k = better_k M_k``, so that ``lambda`` enters the kernels as ``M_k lambda_k``.
    better : per level the (n, r) improved columns
        As Q, times the roots of the rows' counts where rows stand for several.
    roots : per level the (m, m) matrix B of a known covariance B B' = K, or None where groups are independent, or
        their precision is a part of a sparse tail
    Q, upper, gamma, scale
        As in `basis.Basis`.
    products : Products or None
        Where R has parameters.
    """

    design: Design
    plan: Plan
    layout: Layout
    maps: tuple[np.ndarray, ...]
    better: tuple[np.ndarray, ...]
    roots: tuple[np.ndarray | None, ...]
    Q: np.ndarray | Wide
    upper: np.ndarray
    gamma: np.ndarray
    scale: float
    ZtW: np.ndarray
    WtW: np.ndarray
    winspan: np.ndarray
    products: Products | None = None

    @cached_property
    def lambda_slices(self) -> tuple[slice, ...]:
        """Where each level's lambda stands in the kernels' flat vector, in the hierarchy's order."""
        ends = np.cumsum([0] + [level.r**2 for level in self.design.levels])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    def flatten(self, lambdas) -> np.ndarray:
        """Kernel vector of the levels' relative factors lambda_k (each r x r, on the user's scale)."""
        return np.concatenate([(M @ lam).ravel() for M, lam in zip(self.maps, lambdas, strict=True)] or [np.zeros(0)])

    def at(self, psi: Any) -> Statistics:
        """The same statistics with R at the parameters psi."""
        if self.products is None:
            return self
        return self.summed(np.array(self.design.residual.coefficients(psi), dtype=float))

    def summed(self, c: np.ndarray) -> Statistics:
        """The same statistics with R^-1 = sum_t c_t P_t."""
        assert self.products is not None
        zz, zt, zz_tail, ZtW, WtW = self.products.sum(c)
        return replace(self, layout=replace(self.layout, zz=zz, zt=zt, zz_tail=zz_tail), ZtW=ZtW, WtW=WtW)

    def effects(self, b: np.ndarray) -> list[np.ndarray]:
        """Random effects (..., m, r) per level on the user's scale, from the kernels' vector b (..., q)."""
        out, at = [], 0
        for level, M, B in zip(self.design.levels, self.maps, self.roots, strict=True):
            u = b[..., at : at + level.q].reshape(*b.shape[:-1], level.m, level.r)
            at += level.q
            u = u if B is None else np.einsum("mk,...kr->...mr", B, u, optimize=True)
            out.append(u if np.array_equal(M, np.eye(level.r)) else u @ np.linalg.inv(M).T)
        return out


def build_statistics(design: Design, plan: Plan | None = None) -> Statistics:
    """Reduce a design to its cross-products, for the quickest plan of elimination or another.

    Raises
    ------
    DataError
        If the crossed levels leave a tail that is beyond reach.
    """
    levels, residual = design.levels, design.residual
    plan = plan_elimination(design) if plan is None else plan
    check_tail(levels, plan)
    maps = tuple(effect_map(level) for level in levels)
    rows, root = design.counted, design.counted.root
    better = tuple(
        np.ascontiguousarray(scaled(better_columns(level.columns, M, level.rest), root))
        for level, M in zip(levels, maps, strict=True)
    )
    basis = make_basis(rows.X, rows.y, levels, counts=rows.counts, X_rest=rows.X_rest, y_rest=rows.y_rest)
    W = basis.W
    if residual.fixed:
        applies: list[Apply] = [_apply_fixed(design)]
    else:
        applies = [term.apply for term in residual.terms]
    roots = _roots(design, plan, better, applies[0])
    blocks, indices = lay_out(design, plan, better, roots)
    winspan = np.zeros((len(plan.chain), W.shape[1]), dtype=np.bool_)
    if residual.fixed and not plan.rotated:
        for c, k in enumerate(plan.chain):
            winspan[c] = in_span(levels[k], better[k], W)
    parts = [(*blocks.fill(apply), *_with_W(blocks, W, apply)) for apply in applies]
    zz, zt, zz_tail, ZtW, WtW = parts[0]
    stats = Statistics(
        design=design,
        plan=plan,
        layout=Layout(zz=zz, zt=zt, zz_tail=zz_tail, **indices),
        maps=maps,
        better=better,
        roots=roots,
        Q=W.keep(range(design.p)) if isinstance(W, Wide) else W[:, :-1],
        upper=basis.upper,
        gamma=basis.gamma,
        scale=basis.scale,
        ZtW=ZtW,
        WtW=WtW,
        winspan=winspan,
        products=None if residual.fixed else _stack(parts),
    )
    return stats.at(residual.neutral)


def unmasked_layout(stats: Statistics) -> Layout:
    """The layout with all products, for right-hand sides that are no Z'W: those that masks leave out count there.

    What a level resolves exactly of an ancestor's column reaches the ancestor through it alone, which holds for
    products Z'W, the ancestor's being sums of the level's own.
    """
    if not stats.layout.inspan.any():
        return stats.layout
    blocks, _ = lay_out(stats.design, stats.plan, stats.better, stats.roots)
    blocks = replace(blocks, inspan=np.zeros_like(blocks.inspan))
    zz, zt, zz_tail = blocks.fill(_apply_fixed(stats.design))
    return replace(stats.layout, zz=zz, zt=zt, zz_tail=zz_tail, inspan=blocks.inspan)


def _stack(parts: Sequence[tuple[np.ndarray, ...]]) -> Products:
    zz, zt, zz_tail, ZtW, WtW = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    return Products(zz=zz, zt=zt, zz_tail=zz_tail, ZtW=ZtW, WtW=WtW)


def _apply_fixed(design: Design) -> Apply:
    """A -> R^-1 A for a known R."""
    residual = design.residual
    if residual.plain:
        return lambda A: A
    terms = list(zip(residual.coefficients(()), residual.terms, strict=True))
    return lambda A: sum(c * term.apply(A) for c, term in terms)


def _roots(design: Design, plan: Plan, better: tuple[np.ndarray, ...], apply: Apply) -> tuple[np.ndarray | None, ...]:
    """Per level B with u = B v, v independent: L of K = L L', rotated where the plan says so."""
    if plan.pattern is not None:  # which has their precisions
        return (None,) * len(design.levels)
    roots: list[np.ndarray | None] = [level.root for level in design.levels]
    if plan.rotated:
        k = plan.chain[0]
        Z, L = sparse_columns(design.levels[k], better[k]), roots[k]
        assert L is not None
        roots[k] = L @ np.linalg.eigh(L.T @ ((Z.T @ apply(Z)) @ L))[1]
    return tuple(roots)


def _with_wide_W(blocks: Blocks, W: Wide, apply: Apply) -> tuple[np.ndarray, np.ndarray]:
    """(Z'P W, W'P W) from the sums over the levels of a factor."""
    PS, PD = apply(W.S), apply(W.dense)
    half = (W.S.T @ PS) @ W.codes + (W.S.T @ PD) @ W.spread
    WtW = W.codes.T @ half + W.spread.T @ ((PS.T @ W.dense).T @ W.codes + (W.dense.T @ PD) @ W.spread)
    parts = [np.empty((0, W.shape[1]))]
    for level, columns, B in zip(blocks.design.levels, blocks.better, blocks.roots, strict=True):
        Z = sparse_columns(level, columns)
        sums = (Z.T @ PS) @ W.codes + (Z.T @ PD) @ W.spread
        if B is not None:
            sums = np.einsum("mk,mrd->krd", B, sums.reshape(level.m, level.r, -1), optimize=True)
        parts.append(sums.reshape(level.q, -1))
    return np.vstack(parts), (WtW + WtW.T) / 2


def _with_W(blocks: Blocks, W: np.ndarray | Wide, apply: Apply) -> tuple[np.ndarray, np.ndarray]:
    """(Z'P W, W'P W), some columns at a time."""
    if isinstance(W, Wide):
        return _with_wide_W(blocks, W, apply)
    d = W.shape[1]
    ZtW, WtW = np.empty((sum(level.q for level in blocks.design.levels), d)), np.empty((d, d))
    for own in pieces(d):
        PW, at = apply(W[:, own]), 0
        WtW[:, own] = W.T @ PW
        for level, columns, B in zip(blocks.design.levels, blocks.better, blocks.roots, strict=True):
            sums = np.stack(
                [group_sums(level.index, level.m, columns[:, e : e + 1] * PW) for e in range(level.r)], axis=1
            )
            if B is not None:
                sums = np.einsum("mk,mrd->krd", B, sums, optimize=True)
            ZtW[at : at + level.q, own] = sums.reshape(-1, PW.shape[1])
            at += level.q
    return ZtW, (WtW + WtW.T) / 2
