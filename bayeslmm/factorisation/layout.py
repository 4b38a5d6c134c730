"""The kernels' view of Z' R^-1 Z: blocks of the chain, couplings with the tail, and where each of them stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.factorisation.conditioning import group_sums, in_span
from bayeslmm.factorisation.kernels.arrays import (
    C_ANCESTORS,
    C_BLOCK,
    C_EFFECTS,
    C_GROUP,
    C_GROUPS,
    C_LAMBDA,
    C_LEVEL,
    C_LIST,
    C_MAP,
    C_POSITION,
    C_TZ,
    C_Z,
    C_ZZ,
    CHAIN_COLUMNS,
    T_COLUMN,
    T_EFFECTS,
    T_GROUPS,
    T_LAMBDA,
    T_LEVEL,
    T_Z,
    TAIL_COLUMNS,
    Sparse,
)
from bayeslmm.factorisation.plan import Plan

Apply = Callable[[Any], Any]  # from A to P A, for A dense or sparse with n rows


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Fixed arrays of the kernels.

    Attributes
    ----------
    chain, tail : tables
        One row per level; their columns are named in `layout`.
    parent, order : arrays
        Per renumbered group of the chain, its renumbered mother and its original number.
    inspan : array
        Per chain level, which of its ancestors' columns it resolves exactly.
    lists, columns, maps : arrays
        Per chain group where its tail columns begin, which they are, and where its ancestors have them.
    zz, zt, zz_tail : arrays
        Products: of each chain group with itself and its ancestors, with the tail; of the tail with itself.
    voff : array
        Where each level's variance blocks begin.
    sparse : Sparse or None
        Of a sparse tail: then `zz_tail` is packed, and tail columns stand in its order of elimination.
    """

    chain: np.ndarray
    tail: np.ndarray
    parent: np.ndarray
    order: np.ndarray
    zz: np.ndarray
    inspan: np.ndarray
    zz_tail: np.ndarray
    lists: np.ndarray
    columns: np.ndarray
    zt: np.ndarray
    maps: np.ndarray
    voff: np.ndarray
    q: int
    n_lambda: int
    n_blocks: int
    sparse: Sparse | None = None

    @property
    def tail_columns(self) -> int:
        """Columns of the tail."""
        return int(self.tail[:, T_GROUPS] @ self.tail[:, T_EFFECTS])

    @property
    def no_tail(self) -> np.ndarray:
        """Nothing, of the kind of `zz_tail`."""
        return np.empty((0,) * self.zz_tail.ndim)

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers in the chain's r x r blocks, in its products with ancestors, and in one column of W."""
        m, r, R = self.chain[:, [C_GROUPS, C_EFFECTS, C_ANCESTORS]].T
        return int(m @ r**2), int(m @ (r * R)), int(m @ r)


@dataclass(frozen=True, kw_only=True)
class Couplings:
    """Which tail columns each group of a chain level meets: (m + 1) starts, and the columns, ascending in a group."""

    starts: np.ndarray
    columns: np.ndarray

    @property
    def group(self) -> np.ndarray:
        """The group of every entry."""
        return np.repeat(np.arange(self.starts.size - 1), np.diff(self.starts))

    def keys(self, width: int) -> np.ndarray:
        """One ascending number per entry."""
        return self.group * width + self.columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """What does not depend on R: groups renumbered, patterns; `fill` makes the products for one P.

    Attributes
    ----------
    better : per level the (n, r) improved columns
    rank : per chain level, the new number of each group
    couplings : per chain level, empty without a tail
    roots : per level the (m, m) matrix B with u = B v for independent v, or None
    """

    design: Design
    plan: Plan
    better: tuple[np.ndarray, ...]
    roots: tuple[np.ndarray | None, ...]
    rank: tuple[np.ndarray, ...]
    inspan: np.ndarray
    couplings: tuple[Couplings, ...]

    def fill(self, apply: Apply) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(zz, zt, zz_tail): the products with P in between, as the kernels want them."""
        levels, plan = self.design.levels, self.plan
        ZT = self.tail_columns()
        PZT = apply(ZT) if ZT is not None else None
        zz, zt = [], []
        effects = np.cumsum([0] + [levels[k].r for k in plan.chain])
        for c, k in enumerate(plan.chain):
            if plan.rotated:
                Z = sparse_columns(levels[k], self.better[k])
                B: Any = self.roots[k]
                zz.append(np.maximum(np.einsum("ij,ij->j", B, (Z.T @ apply(Z)) @ B), 0.0))
                if PZT is not None:
                    zt.append((B.T @ self.spread(Z.T @ PZT)).ravel())
                continue
            own, index = self.better[k], self.rank[c][levels[k].index]
            rest = np.hstack([self.better[plan.chain[a]] for a in range(c, len(plan.chain))])
            weighted = apply(rest)
            products = np.empty((levels[k].m, levels[k].r, rest.shape[1]))
            for e in range(levels[k].r):
                keep = np.ones(rest.shape[1])
                for below in range(c):  # what a lower level resolves exactly reaches this one through it alone
                    lower = self.inspan[below, effects[c] :]
                    keep[lower | lower[e]] = 0.0
                products[:, e, :] = group_sums(index, levels[k].m, own[:, e : e + 1] * weighted) * keep
            zz.append(products.ravel())
            if PZT is not None:
                Z = sparse_columns(levels[k], own, self.rank[c])
                zt.append(_values(self.couplings[c], self.spread_sparse(Z.T @ PZT), levels[k].r))
        return _join(zz, np.float64), _join(zt, np.float64), self._tail_products(ZT, PZT)

    def tail_columns(self) -> Any:
        """The tail levels' improved Z (n, q_T), side by side or, of a sparse tail, in its order of elimination.

        That is before the roots of known covariances; None without a tail.
        """
        if not self.plan.tail:
            return None
        from scipy import sparse

        Z = sparse.hstack([sparse_columns(self.design.levels[k], self.better[k]) for k in self.plan.tail], format="csr")
        return Z if self.plan.pattern is None else reordered(Z, self.plan.pattern.place)

    def _tail_products(self, ZT: Any, PZT: Any) -> np.ndarray:
        if ZT is None:
            return np.zeros((0, 0))
        if self.plan.pattern is not None:
            return self.plan.pattern.pack(ZT.T @ PZT)
        half = self.spread((ZT.T @ PZT).toarray())
        return np.ascontiguousarray(self.spread(half.T).T)

    def spread(self, A: Any) -> np.ndarray:
        """A times the tail's roots from the right, dense."""
        A = A.toarray() if hasattr(A, "toarray") else A
        out, at = [], 0
        for k in self.plan.tail:
            level, B = self.design.levels[k], self.roots[k]
            part = A[:, at : at + level.q]
            at += level.q
            if B is not None:
                part = np.einsum("amr,mk->akr", part.reshape(-1, level.m, level.r), B, optimize=True)
                part = part.reshape(-1, level.q)
            out.append(part)
        return np.hstack(out)

    def spread_sparse(self, A: Any) -> Any:
        """A times the tail's roots from the right, sparse where nothing is spread."""
        if all(self.roots[k] is None for k in self.plan.tail):
            return A
        from scipy import sparse

        return sparse.csr_array(self.spread(A))


def sparse_columns(level: LevelDesign, columns: np.ndarray, renumber: np.ndarray | None = None) -> Any:
    """Z of one level (n, q) from its columns, sparse."""
    from scipy import sparse

    index = level.index if renumber is None else renumber[level.index]
    cols = (index[:, None] * level.r + np.arange(level.r)).ravel()
    indptr = np.arange(0, cols.size + 1, level.r)
    return sparse.csr_array((columns.ravel(), cols, indptr), shape=(level.index.size, level.q))


def reordered(A: Any, place: np.ndarray) -> Any:
    """The sparse A with column j at place[j]."""
    from scipy import sparse

    return sparse.csr_array((A.data, place[A.indices], A.indptr), shape=A.shape)


def lay_out(
    design: Design, plan: Plan, better: tuple[np.ndarray, ...], roots: tuple[np.ndarray | None, ...]
) -> tuple[Blocks, dict[str, Any]]:
    """Renumber the chain's groups, find the patterns; returns the blocks and the index arrays of `Layout`."""
    levels = design.levels
    s = len(plan.chain)
    chain_levels = [levels[k] for k in plan.chain]
    effects = np.cumsum([0] + [level.r for level in chain_levels])
    groups = np.cumsum([0] + [level.m for level in chain_levels])

    # Groups of the chain are renumbered from the root down, so that sisters are neighbours.
    rank: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * s
    order = np.zeros(groups[-1], dtype=np.int64)  # original number of each renumbered group
    parent = np.zeros(groups[-1], dtype=np.int64)  # renumbered mother of each renumbered group
    for c in range(s - 1, -1, -1):
        level = chain_levels[c]
        mother = np.zeros(level.m, dtype=np.int64)
        if c + 1 < s:
            mother[level.index] = rank[c + 1][chain_levels[c + 1].index]
        old = np.lexsort((np.arange(level.m), mother))
        rank[c] = np.empty(level.m, dtype=np.int64)
        rank[c][old] = np.arange(level.m)
        order[groups[c] : groups[c + 1]] = old
        parent[groups[c] : groups[c + 1]] = mother[old]

    inspan = np.zeros((s, effects[-1]), dtype=np.bool_)
    if design.residual.fixed and not plan.rotated:
        for c in range(s):
            above = [better[plan.chain[a]] for a in range(c + 1, s)]
            if above:
                inspan[c, effects[c + 1] :] = in_span(chain_levels[c], better[plan.chain[c]], np.hstack(above))

    couplings = tuple(_meet(design, plan, c, rank[c]) for c in range(s)) if plan.tail else ()
    blocks = Blocks(
        design=design, plan=plan, better=better, roots=roots, rank=tuple(rank), inspan=inspan, couplings=couplings
    )
    return blocks, {"parent": parent, "order": order, "inspan": inspan, **_tables(blocks, parent, effects, groups)}


def _meet(design: Design, plan: Plan, c: int, rank: np.ndarray) -> Couplings:
    """Which tail columns each group meets.

    They meet when they share a row, or correlated rows, or a known covariance, whatever the products sum to: sums that
    happen to be zero are kept, because elimination fills them.
    """
    from scipy import sparse

    level = design.levels[plan.chain[c]]
    columns = sum(design.levels[k].q for k in plan.tail)
    if plan.rotated:
        starts = np.arange(level.m + 1, dtype=np.int64) * columns
        return Couplings(starts=starts, columns=np.tile(np.arange(columns, dtype=np.int64), level.m))
    block = design.residual.block
    n = len(block)
    rows = sparse.csr_array((np.ones(n), (rank[level.index], block)), shape=(level.m, int(block.max()) + 1))
    parts = []
    for k in plan.tail:
        other = design.levels[k]
        seen = sparse.csr_array((np.ones(n), (block, other.index)), shape=(rows.shape[1], other.m))
        pattern = rows @ seen
        if other.related and plan.pattern is None:
            pattern = pattern @ sparse.csr_array(np.ones((other.m, other.m)))
        parts.append(sparse.kron(pattern, np.ones((1, other.r)), format="csr") if other.r > 1 else pattern)
    whole = sparse.hstack(parts, format="csr")
    if plan.pattern is not None:
        whole = reordered(whole, plan.pattern.place)
    whole.sort_indices()
    return Couplings(starts=whole.indptr.astype(np.int64), columns=whole.indices.astype(np.int64))


def _values(couplings: Couplings, products: Any, r: int) -> np.ndarray:
    """Lay the products (m r, q_T) out over the pattern: per group r x length, row by row."""
    lengths = np.diff(couplings.starts)
    found = products.tocoo()
    row, col = found.coords
    group, effect = row.astype(np.int64) // r, row % r
    width = products.shape[1]
    place = np.searchsorted(couplings.keys(width), group * width + col) - couplings.starts[group]
    values = np.zeros(int(couplings.starts[-1]) * r)
    values[couplings.starts[group] * r + effect * lengths[group] + place] = found.data
    return values


def _tables(blocks: Blocks, parent: np.ndarray, effects: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """The tables `chain` and `tail`, the tail's lists, columns and maps, and the offsets."""
    levels, plan, couplings = blocks.design.levels, blocks.plan, blocks.couplings
    s, nt = len(plan.chain), len(plan.tail)
    zoff = np.cumsum([0] + [level.q for level in levels])
    loff = np.cumsum([0] + [level.r**2 for level in levels])
    voff = np.cumsum([0] + [level.m * level.r**2 for level in levels])
    tail_column = np.cumsum([0] + [levels[k].q for k in plan.tail])
    tail = np.zeros((nt, TAIL_COLUMNS), dtype=np.int64)
    tail[:, T_LEVEL] = plan.tail
    tail[:, T_GROUPS] = [levels[k].m for k in plan.tail]
    tail[:, T_EFFECTS] = [levels[k].r for k in plan.tail]
    tail[:, T_Z] = [zoff[k] for k in plan.tail]
    tail[:, T_LAMBDA] = [loff[k] for k in plan.tail]
    tail[:, T_COLUMN] = tail_column[:-1]
    m, r = np.diff(groups), np.diff(effects)
    met = np.array([couplings[c].columns.size if nt else 0 for c in range(s)], dtype=np.int64)
    chain = np.zeros((s, CHAIN_COLUMNS), dtype=np.int64)
    chain[:, C_LEVEL] = plan.chain
    chain[:, C_GROUPS] = m
    chain[:, C_EFFECTS] = r
    chain[:, C_ANCESTORS] = effects[-1] - effects[1:]
    chain[:, C_Z] = [zoff[k] for k in plan.chain]
    chain[:, C_LAMBDA] = [loff[k] for k in plan.chain]
    chain[:, C_POSITION] = effects[:-1]
    chain[:, C_GROUP] = groups[:-1]
    chain[:, C_ZZ] = _starts(m * r * (effects[-1] - effects[:-1]))
    chain[:, C_BLOCK] = _starts(m * r**2)
    chain[:, C_LIST] = _starts(m + 1) if nt else 0
    chain[:, C_TZ] = _starts(met * r)
    chain[:, C_MAP] = _starts(met * np.arange(s - 1, -1, -1))
    lists = [coupling.starts + at for coupling, at in zip(couplings, _starts(met), strict=False)]
    maps = []
    for c in range(s if nt else 0):
        group = couplings[c].group
        for a in range(c + 1, s):
            group = parent[groups[a - 1] + group]
            wanted = group * tail_column[-1] + couplings[c].columns
            maps.append(np.searchsorted(couplings[a].keys(int(tail_column[-1])), wanted) - couplings[a].starts[group])
    columns = _join([coupling.columns for coupling in couplings], np.int64)
    sparse = None
    if plan.pattern is not None:
        sparse = plan.pattern.complete(tail, _ends(lists), columns, [levels[k] for k in plan.tail])
    return {
        "sparse": sparse,
        "chain": chain,
        "tail": tail,
        "lists": _join(lists, np.int64),
        "columns": columns,
        "maps": _join(maps, np.int64),
        "voff": voff.astype(np.int64),
        "q": int(zoff[-1]),
        "n_lambda": int(loff[-1]),
        "n_blocks": int(voff[-1]),
    }


def _ends(lists: Sequence[np.ndarray]) -> np.ndarray:
    """Where each group's columns begin, all levels in one, and where the last ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), *(starts[1:] for starts in lists)]).astype(np.int64)


def _starts(sizes: np.ndarray) -> np.ndarray:
    """Where each of these begins, laid end to end."""
    return np.cumsum(sizes) - sizes


def _join(parts: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate(parts).astype(dtype)) if parts else np.zeros(0, dtype=dtype)
