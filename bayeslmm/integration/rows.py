"""The rows of a design as the integrals need them: Z b, Z'r, and Z'WZ for any weights W.

Z'WZ is linear in the weights. So the kernels' products are S w, with S sparse and made once, and what a cotangent of
the products says of the rows, such as h_i = z_i' C z_i, is S' times it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from bayeslmm.covariances.effects.chart import Chart
from bayeslmm.design.design import Design
from bayeslmm.errors import DataError
from bayeslmm.factorisation.conditioning import better_columns, effect_map, group_sums
from bayeslmm.factorisation.factor import COLUMNS, Factor, ProductAdjoint, factorise, solve
from bayeslmm.factorisation.layout import Blocks, Layout, lay_out
from bayeslmm.factorisation.plan import Plan, check_tail, plan_elimination

LIMIT = 200_000_000  # entries of S


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A design's rows on the kernels' basis.

    Attributes
    ----------
    better : per level the (n, r) columns of `effect_map`
    maps : per level M (r, r), columns = better M
    S : sparse (products, n) array
    X : (n, p) array
        Orthogonal columns of mean square one; beta = back gamma.
    means : (p,) array
        What was taken off the columns first: zero but where thresholds stand for the constant, which are then those at
        the mean of the predictors.
    kept : dict
        What was found about the rows once and holds at all parameters.
    """

    design: Design
    plan: Plan
    blocks: Blocks
    layout: Layout
    better: tuple[np.ndarray, ...]
    maps: tuple[np.ndarray, ...]
    S: Any
    X: np.ndarray
    back: np.ndarray
    means: np.ndarray
    kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def offset(self) -> np.ndarray:
        """The part of eta that is given, (n,)."""
        return np.zeros(self.design.n) if self.design.offset is None else self.design.offset

    @property
    def dimensions(self) -> int:
        """How many effects are integrated at once in a quadrature: those of a group and of all groups that hold it."""
        return sum(level.r for level in self.design.levels)

    @cached_property
    def slices(self) -> tuple[tuple[slice, slice], ...]:
        """Per level, where its effects stand in b, and its factor in lambda."""
        b = np.cumsum([0, *(level.q for level in self.design.levels)])
        lam = np.cumsum([0, *(level.r**2 for level in self.design.levels)])
        return tuple((slice(*x), slice(*y)) for x, y in zip(pairwise(b), pairwise(lam), strict=True))

    @property
    def lambda_slices(self) -> tuple[slice, ...]:
        """Per level, where its factor stands in lambda."""
        return tuple(span for _, span in self.slices)

    @cached_property
    def S_transposed(self) -> Any:
        """S', ready to multiply."""
        return self.S.T.tocsr()

    def spread(self, b: np.ndarray) -> np.ndarray:
        """Z b (n,)."""
        total = np.zeros(self.design.n)
        for level, own, (at, _) in zip(self.design.levels, self.better, self.slices, strict=True):
            u = b[at].reshape(level.m, level.r)
            u = u if level.root is None else level.root @ u
            total += np.einsum("ij,ij->i", u[level.index], own)
        return total

    def gather(self, r: np.ndarray) -> np.ndarray:
        """Z'r (q,)."""
        out = np.empty(self.design.q)
        for level, own, (at, _) in zip(self.design.levels, self.better, self.slices, strict=True):
            sums = group_sums(level.index, level.m, own * r[:, None])
            out[at] = (sums if level.root is None else level.root.T @ sums).ravel()
        return out

    def transposed(self, lam: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Lambda' s (q,)."""
        return self._times(lam, s, transpose=True)

    def times(self, lam: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Lambda v (q,)."""
        return self._times(lam, v, transpose=False)

    def _times(self, lam: np.ndarray, x: np.ndarray, transpose: bool) -> np.ndarray:
        out = np.empty_like(x)
        for level, (at, span) in zip(self.design.levels, self.slices, strict=True):
            F = lam[span].reshape(level.r, level.r)
            out[at] = (x[at].reshape(level.m, level.r) @ (F if transpose else F.T)).ravel()
        return out

    def factorise(self, weights: np.ndarray, lam: np.ndarray, right: np.ndarray) -> Factor:
        """I + Lambda'Z'WZ Lambda, with a right-hand side (q,)."""
        blind = np.zeros((len(self.plan.chain), 1), dtype=np.bool_)
        right = np.ascontiguousarray(right[:, None])
        return factorise(self._weighted(weights), lam, right, np.zeros((1, 1)), blind)

    def solve(self, weights: np.ndarray, lam: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
        """(log|H|, Lambda H^-1 Lambda' right) with H = I + Lambda'Z'WZ Lambda."""
        return solve(self._weighted(weights), lam, right)

    def _weighted(self, weights: np.ndarray) -> Layout:
        """The layout with Z'WZ."""
        products = self.S @ weights
        a, b = self.layout.zz.size, self.layout.zt.size
        tail = products[a + b :].reshape(self.layout.zz_tail.shape)
        return replace(self.layout, zz=products[:a], zt=products[a : a + b], zz_tail=tail)

    def by_row(self, bar: ProductAdjoint) -> np.ndarray:
        """What the cotangents of the products are for the weights (n,)."""
        return self.S_transposed @ np.concatenate([bar.zz, bar.zt, bar.zz_tail.ravel()])

    def covariances(self, factor: Factor, variances: np.ndarray) -> list[np.ndarray]:
        """Per level the blocks (m, r, r) of Lambda H^-1 Lambda' for the effects as written."""
        out, at = [], 0
        for k, (level, M) in enumerate(zip(self.design.levels, self.maps, strict=True)):
            C = variances[at : at + level.m * level.r**2].reshape(level.m, level.r, level.r)
            at += C.size
            C = C if level.root is None else self._related(factor, k)
            back = np.linalg.inv(M)
            out.append(back @ C @ back.T)
        return out

    def _related(self, factor: Factor, k: int) -> np.ndarray:
        """The same (m, r, r) on the kernels' basis, for a level whose groups' effects are L times independent ones."""
        level, (at, _) = self.design.levels[k], self.slices[k]
        L, m, r = np.asarray(level.root), level.m, level.r
        out = np.empty((m, r, r))
        for first in range(0, m, COLUMNS):
            groups = np.arange(first, min(first + COLUMNS, m))
            right = np.zeros((self.layout.q, groups.size * r))
            for e in range(r):
                right[at.start + e : at.stop : r, e::r] = L[groups].T
            d = right.shape[1]
            blind = np.zeros((len(self.plan.chain), d), dtype=np.bool_)
            solved = factorise(factor.layout, factor.lam, right, np.zeros((d, d)), blind)
            b = solved.adjoint(0.0, np.zeros((d, d))).b[at].reshape(m, r, groups.size, r)
            out[groups] = np.einsum("gm,mage->gae", L[groups], b)
        return out

    def effects(self, b: np.ndarray) -> dict[str, np.ndarray]:
        """Effects (m, r) by level name, as written, of the kernels' b (q,)."""
        out = {}
        for level, M, (at, _) in zip(self.design.levels, self.maps, self.slices, strict=True):
            u = b[at].reshape(level.m, level.r)
            u = u if level.root is None else level.root @ u
            out[level.name] = u @ np.linalg.inv(M).T
        return out

    def charts(self, unit: float) -> tuple[Chart, ...]:
        """Per level, the entries that a search moves; `unit` is a usual SD on the link's scale."""
        spreads = [float(np.sqrt(level.variances.mean())) for level in self.design.levels]
        parts = zip(self.design.levels, self.maps, spreads, strict=True)
        return tuple(level.structure.chart(M, unit / spread) for level, M, spread in parts)


def build_rows(design: Design, centred: bool = False, plan: Plan | None = None) -> Rows:
    """Lay the design's rows out, the columns of X centred where thresholds stand for the constant.

    For the quickest plan of elimination, or another.

    Raises
    ------
    DataError
        If known covariances or crossed levels make more products than memory holds.
    """
    plan = plan_elimination(design, weights_vary=True) if plan is None else plan
    check_tail(design.levels, plan)
    maps = tuple(effect_map(level) for level in design.levels)
    pairs = zip(design.levels, maps, strict=True)
    better = tuple(np.ascontiguousarray(better_columns(level.columns, M)) for level, M in pairs)
    roots = tuple(level.root for level in design.levels)
    blocks, indices = lay_out(design, plan, better, roots)
    blocks = replace(blocks, inspan=np.zeros_like(blocks.inspan))
    S, (a, b, c) = _products(blocks)
    width = plan.tail_columns if plan.tail else 0
    zz_tail = np.zeros((width, width) if plan.pattern is None else c)
    layout = Layout(zz=np.zeros(a), zt=np.zeros(b), zz_tail=zz_tail, **(indices | {"inspan": blocks.inspan}))
    means = design.X.mean(axis=0) if centred else np.zeros(design.p)
    Q, R = np.linalg.qr(design.X - means)
    size = np.sqrt(design.n)
    back = np.linalg.inv(R) * size if design.p else np.zeros((0, 0))
    return Rows(
        design=design, plan=plan, blocks=blocks, layout=layout, better=better, maps=maps, S=S, X=Q * size, back=back,
        means=means,
    )  # fmt: skip


def _products(blocks: Blocks) -> tuple[Any, tuple[int, int, int]]:
    """(S, the sizes of zz, zt and zz_tail): each row's share of every product, in the kernels' order."""
    from scipy import sparse

    levels, plan, n = blocks.design.levels, blocks.plan, blocks.design.n
    tail_columns, tail_values = _tail_rows(blocks)
    met = tail_columns.shape[1]
    entries = n * (met**2 + sum(levels[k].r * (met + sum(levels[a].r for a in plan.chain)) for k in plan.chain))
    if entries > LIMIT:
        raise DataError(
            f"The effects of this model make {entries:,} products of pairs of effects, row by row; at most {LIMIT:,} "
            "fit. Levels with a known covariance have one for every pair of groups: fit fewer groups, or drop effects."
        )
    places, values = [], []
    start, sizes = 0, []
    for c, k in enumerate(plan.chain):
        own, group = blocks.better[k], blocks.rank[c][levels[k].index]
        rest = np.hstack([blocks.better[plan.chain[a]] for a in range(c, len(plan.chain))])
        r, R = own.shape[1], rest.shape[1]
        place = (group[:, None, None] * r + np.arange(r)[:, None]) * R + np.arange(R)
        places.append(start + place.reshape(n, -1))
        values.append((own[:, :, None] * rest[:, None, :]).reshape(n, -1))
        start += levels[k].m * r * R
    sizes.append(start)
    if plan.tail:
        for c, k in enumerate(plan.chain):
            own, group, coupling = blocks.better[k], blocks.rank[c][levels[k].index], blocks.couplings[c]
            r, lengths = own.shape[1], np.diff(coupling.starts)
            wanted = group[:, None] * plan.tail_columns + tail_columns
            place = np.searchsorted(coupling.keys(plan.tail_columns), wanted) - coupling.starts[group][:, None]
            base = coupling.starts[group][:, None] * r + np.arange(r) * lengths[group][:, None]
            places.append(start + (base[:, :, None] + place[:, None, :]).reshape(n, -1))
            values.append((own[:, :, None] * tail_values[:, None, :]).reshape(n, -1))
            start += int(coupling.starts[-1]) * r
    sizes.append(start - sizes[0])
    if plan.tail and plan.pattern is None:
        place = tail_columns[:, :, None] * plan.tail_columns + tail_columns[:, None, :]
        places.append(start + place.reshape(n, -1))
        values.append((tail_values[:, :, None] * tail_values[:, None, :]).reshape(n, -1))
        start += plan.tail_columns**2
    elif plan.pattern is not None:  # a pair of columns once
        one, other = np.triu_indices(met)
        places.append(start + plan.pattern.find(tail_columns[:, one], tail_columns[:, other])[0])
        values.append(tail_values[:, one] * tail_values[:, other])
        start += plan.pattern.size
    sizes.append(start - sum(sizes))
    if not places:
        return sparse.csr_array((0, n)), (0, 0, 0)
    where, what = np.hstack(places), np.hstack(values)
    rows = np.repeat(np.arange(n), where.shape[1])
    S = sparse.coo_array((what.ravel(), (where.ravel(), rows)), shape=(start, n)).tocsr()
    return S, (sizes[0], sizes[1], sizes[2])


def _tail_rows(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """The tail's columns that each row meets, (n, k), and its values there."""
    n, start = blocks.design.n, 0
    columns, values = [np.zeros((n, 0), dtype=np.int64)], [np.zeros((n, 0))]
    for k in blocks.plan.tail:
        level, own = blocks.design.levels[k], blocks.better[k]
        if level.root is None:
            columns.append(start + level.index[:, None] * level.r + np.arange(level.r))
            values.append(own)
        else:
            columns.append(np.broadcast_to(start + np.arange(level.q), (n, level.q)))
            values.append((level.root[level.index][:, :, None] * own[:, None, :]).reshape(n, -1))
        start += level.q
    pattern, whole = blocks.plan.pattern, np.hstack(columns)
    return whole if pattern is None else pattern.place[whole], np.hstack(values)
