"""Design -> cross-products of [Z X y]: everything that the likelihood ever needs of the data.

Columns are put on a well-conditioned basis before anything is squared: X becomes orthonormal, y its residual
from least squares in units of its own size, slopes are centred (where the level has an intercept) and scaled.
`Basis` and `Statistics.maps` remember the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise

import numpy as np

from bayeslmm.design import Design, LevelDesign
from bayeslmm.errors import DataError

TAIL_LIMIT = 8_000


@dataclass(frozen=True, kw_only=True)
class Basis:
    """[X y] on its own scale: ``X = Q R``, ``y = Q gamma + scale * y_``, with Q'Q = I and y_ of unit mean square.

    ``y - X beta = W v`` for ``W = [Q y_]`` and ``v = (gamma - R beta, scale)``.
    """

    W: np.ndarray  # (n, p + 1)
    R: np.ndarray  # (p, p)
    gamma: np.ndarray  # (p,)
    scale: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which levels are eliminated group by group (the chain, leaf first) and which meet in the dense tail."""

    chain: tuple[int, ...]
    tail: tuple[int, ...]
    tail_columns: int


def nested_in(a: LevelDesign, b: LevelDesign) -> bool:
    """Whether every group of `a` lies in a single group of `b`."""
    mother = np.empty(a.m, dtype=np.int64)
    mother[a.index] = b.index
    return bool(np.array_equal(mother[a.index], b.index))


def plan_elimination(levels: tuple[LevelDesign, ...]) -> Plan:
    """Choose the nested chain that leaves the smallest dense tail."""
    order = sorted(range(len(levels)), key=lambda k: (-levels[k].m, k))
    nested = {(a, b): nested_in(levels[a], levels[b]) for i, a in enumerate(order) for b in order[i + 1 :]}
    columns = sum(level.q for level in levels)
    best: tuple[int, ...] = ()
    fewest = columns
    for size in range(1, len(order) + 1):
        for candidate in combinations(order, size):
            if all(nested[pair] for pair in pairwise(candidate)):
                left = columns - sum(levels[k].q for k in candidate)
                if left < fewest:
                    best, fewest = candidate, left
    return Plan(chain=best, tail=tuple(k for k in order if k not in best), tail_columns=fewest)


def group_sums(index: np.ndarray, m: int, values: np.ndarray) -> np.ndarray:
    """Sums of the columns of `values` (n, c) within groups: (m, c)."""
    return np.stack([np.bincount(index, weights=values[:, c], minlength=m) for c in range(values.shape[1])], axis=1)


def _effect_map(level: LevelDesign) -> np.ndarray:
    """Invertible (r, r) M with ``columns = better @ M``: slopes centred, if there is an intercept, and scaled."""
    r = level.r
    M = np.eye(r)
    constant = [e for e in range(r) if np.ptp(level.columns[:, e]) == 0]
    for e in range(r):
        column = level.columns[:, e]
        if e in constant:
            M[e, e] = column[0]
            continue
        shift = float(column.mean()) if constant else 0.0
        spread = float(np.sqrt(np.mean((column - shift) ** 2)))
        M[e, e] = spread
        if constant:
            M[constant[0], e] = shift
    return M


def _better_columns(level: LevelDesign, M: np.ndarray) -> np.ndarray:
    if np.array_equal(M, np.eye(level.r)):
        return level.columns
    better = np.empty_like(level.columns)
    for e in range(level.r):
        shift = sum(M[c, e] for c in range(level.r) if c != e)
        better[:, e] = (level.columns[:, e] - shift) / M[e, e]
    return better


def make_basis(X: np.ndarray, y: np.ndarray, levels: tuple[LevelDesign, ...] = ()) -> Basis:
    """Orthonormal X, columns that are constant within more levels first, and y's scaled residual from it."""
    n, p = X.shape
    rank = [sum(bool(np.array_equal(x[_first_row(level)][level.index], x)) for level in levels) for x in X.T]
    order = sorted(range(p), key=lambda c: -rank[c])
    Q, R = np.linalg.qr(X[:, order])
    sign = np.where(np.diag(R) < 0, -1.0, 1.0)
    Q, R = Q * sign, R * sign[:, None]
    for c in range(p):  # a constant column stays exactly constant
        if np.ptp(X[:, order[c]]) == 0 and c == 0:
            Q[:, 0] = 1.0 / np.sqrt(n)
    back = np.empty((p, p))
    back[:, order] = R
    gamma = Q.T @ y
    residual = y - Q @ gamma
    correction = Q.T @ residual
    gamma = gamma + correction
    residual = residual - Q @ correction
    scale = float(np.sqrt(np.mean(residual**2)))
    if not scale > 0:
        scale = 1.0
    return Basis(W=np.column_stack([Q, residual / scale]), R=back, gamma=gamma, scale=scale)


def _first_row(level: LevelDesign) -> np.ndarray:
    first = np.empty(level.m, dtype=np.int64)
    first[level.index[::-1]] = np.arange(level.index.size - 1, -1, -1)
    return first


def _in_span(level: LevelDesign, own: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Which columns are, in every group of `level`, combinations of the level's own columns."""
    if candidates.shape[1] == 0:
        return np.zeros(0, dtype=bool)
    norm = np.sqrt(np.einsum("ij,ij->j", candidates, candidates))
    constant = np.ptp(own[:, 0]) == 0
    rest = own
    if constant:
        counts = np.bincount(level.index, minlength=level.m)[:, None]
        candidates = candidates - (group_sums(level.index, level.m, candidates) / counts)[level.index]
        rest = (
            own[:, 1:] - (group_sums(level.index, level.m, own[:, 1:]) / counts)[level.index]
            if level.r > 1
            else own[:, :0]
        )
    if rest.shape[1]:
        coefficients = np.linalg.lstsq(rest, candidates, rcond=None)[0]
        candidates = candidates - rest @ coefficients
    return np.sqrt(np.einsum("ij,ij->j", candidates, candidates)) <= 1e-12 * norm


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The kernels' view of Z'Z: fixed arrays, documented where they are filled, in `build_structure`."""

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


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Cross-products of [Z X y] on the improved basis, and the plan of elimination.

    Attributes
    ----------
    ZtW : (q, p + 1) array, WtW : (p + 1, p + 1) array
        Cross-products with W = [Q, y_] of `Basis`.
    winspan : (chain, p + 1) bool array
        Which columns of W each chain level resolves exactly.
    maps : per level an (r, r) matrix
        ``Z_k = better_k M_k``, so that ``lambda`` enters the kernels as ``M_k lambda_k``.
    better : per level the (n, r) improved columns
    Q, R, gamma, scale
        As in `Basis`.
    """

    design: Design
    plan: Plan
    structure: Structure
    maps: tuple[np.ndarray, ...]
    better: tuple[np.ndarray, ...]
    Q: np.ndarray
    R: np.ndarray
    gamma: np.ndarray
    scale: float
    ZtW: np.ndarray
    WtW: np.ndarray
    winspan: np.ndarray

    @cached_property
    def lambda_slices(self) -> tuple[slice, ...]:
        """Where each level's lambda stands in the kernels' flat vector, in the hierarchy's order."""
        ends = np.cumsum([0] + [level.r**2 for level in self.design.levels])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    def flatten(self, lambdas) -> np.ndarray:
        """Kernel vector of the levels' relative factors lambda_k (each r x r, on the user's scale)."""
        return np.concatenate([(M @ lam).ravel() for M, lam in zip(self.maps, lambdas, strict=True)] or [np.zeros(0)])


def _couplings(Z, ZT, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per group of Z (r columns a group) the tail columns it meets, and Z'ZT there.

    Returns (m + 1) starts, the columns (ascending within a group), and the products, per group r x length row by
    row. A group meets a column when they share a row of the data, whatever the products sum to: sums that happen to
    be zero are kept, because elimination fills them.
    """
    ones, ones_T = (type(M)((np.ones(M.nnz), M.indices, M.indptr), shape=M.shape) for M in (Z, ZT))
    pattern = (ones[:, ::r].T @ ones_T).tocsr()
    pattern.sort_indices()
    starts, cols = pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
    lengths = np.diff(starts)
    keys = np.repeat(np.arange(lengths.size), lengths) * ZT.shape[1] + cols
    G = (Z.T @ ZT).tocoo()
    row, col = G.coords
    group, effect = row.astype(np.int64) // r, row % r
    place = np.searchsorted(keys, group * ZT.shape[1] + col) - starts[group]
    values = np.zeros(int(starts[-1]) * r)
    values[starts[group] * r + effect * lengths[group] + place] = G.data
    return starts, cols, values


def build_structure(levels: tuple[LevelDesign, ...], plan: Plan, better: list[np.ndarray]) -> Structure:
    """Fill the kernels' fixed arrays from the improved columns of the levels."""
    s, nt = len(plan.chain), len(plan.tail)
    zoff = np.cumsum([0] + [level.q for level in levels])
    loff = np.cumsum([0] + [level.r**2 for level in levels])
    voff = np.cumsum([0] + [level.m * level.r**2 for level in levels])
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
    for c in range(s):
        above = [better[plan.chain[a]] for a in range(c + 1, s)]
        if above:
            inspan[c, effects[c + 1] :] = _in_span(chain_levels[c], better[plan.chain[c]], np.hstack(above))

    chain = np.zeros((s, 13), dtype=np.int64)
    tail = np.zeros((nt, 6), dtype=np.int64)
    tail_column = np.cumsum([0] + [levels[k].q for k in plan.tail])
    for t, k in enumerate(plan.tail):
        tail[t] = (k, levels[k].m, levels[k].r, zoff[k], loff[k], tail_column[t])

    from scipy import sparse

    def block(k: int, renumber: np.ndarray | None = None):
        level = levels[k]
        index = level.index if renumber is None else renumber[level.index]
        cols = (index[:, None] * level.r + np.arange(level.r)).ravel()
        indptr = np.arange(0, cols.size + 1, level.r)
        return sparse.csr_array((better[k].ravel(), cols, indptr), shape=(level.index.size, level.q))

    ZT = sparse.hstack([block(k) for k in plan.tail], format="csr") if nt else None
    zz_parts, zt_parts, list_parts, column_parts, map_parts = [], [], [], [], []
    zz_at = blk_at = list_at = zt_at = map_at = column_at = 0
    patterns: list[tuple[np.ndarray, np.ndarray]] = []
    for c, k in enumerate(plan.chain):
        level, own, index = levels[k], better[k], rank[c][levels[k].index]
        rest = np.hstack([better[plan.chain[a]] for a in range(c, s)])
        products = np.empty((level.m, level.r, rest.shape[1]))
        for e in range(level.r):
            keep = np.ones(rest.shape[1])
            for below in range(c):  # what a lower level resolves exactly reaches this one through it alone
                lower = inspan[below, effects[c] :]
                keep[lower | lower[e]] = 0.0
            products[:, e, :] = group_sums(index, level.m, own[:, e : e + 1] * rest) * keep
        zz_parts.append(products.ravel())
        nnz = 0
        if nt:
            starts, cols, values = _couplings(block(k, rank[c]), ZT, level.r)
            zt_parts.append(values)
            list_parts.append(starts + column_at)
            column_parts.append(cols)
            patterns.append((starts, cols))
            nnz = int(starts[-1])
        chain[c] = (
            k, level.m, level.r, effects[-1] - effects[c + 1], zoff[k], loff[k], effects[c], groups[c],
            zz_at, blk_at, list_at, zt_at, map_at,
        )  # fmt: skip
        zz_at += products.size
        blk_at += level.m * level.r**2
        list_at += level.m + 1 if nt else 0
        column_at += nnz
        zt_at += nnz * level.r
        map_at += nnz * (s - 1 - c)
    if nt:
        for c in range(s):
            group = np.repeat(np.arange(chain_levels[c].m), np.diff(patterns[c][0]))
            for a in range(c + 1, s):
                group = parent[groups[a - 1] + group]
                keys = (
                    np.repeat(np.arange(chain_levels[a].m), np.diff(patterns[a][0])) * tail_column[-1] + patterns[a][1]
                )
                wanted = group * tail_column[-1] + patterns[c][1]
                map_parts.append(np.searchsorted(keys, wanted) - patterns[a][0][group])

    def join(parts, dtype):
        return np.ascontiguousarray(np.concatenate(parts).astype(dtype)) if parts else np.zeros(0, dtype=dtype)

    return Structure(
        chain=chain,
        tail=tail,
        parent=parent,
        order=order,
        zz=join(zz_parts, np.float64),
        inspan=inspan,
        zz_tail=np.ascontiguousarray((ZT.T @ ZT).toarray()) if ZT is not None else np.zeros((0, 0)),
        lists=join(list_parts, np.int64),
        columns=join(column_parts, np.int64),
        zt=join(zt_parts, np.float64),
        maps=join(map_parts, np.int64),
        voff=voff.astype(np.int64),
        q=int(zoff[-1]),
        n_lambda=int(loff[-1]),
        n_blocks=int(voff[-1]),
    )


def build_statistics(design: Design) -> Statistics:
    """Reduce a design to its cross-products.

    Raises
    ------
    DataError
        If the crossed levels leave more than 8,000 dense columns.
    """
    levels = design.levels
    plan = plan_elimination(levels)
    if plan.tail_columns > TAIL_LIMIT:
        crossed = ", ".join(f"{levels[k].name} ({levels[k].label}, {levels[k].q:,} columns)" for k in plan.tail)
        raise DataError(
            f"The crossed levels {crossed} leave a dense block of {plan.tail_columns:,} x {plan.tail_columns:,}; "
            f"at most {TAIL_LIMIT:,} columns are supported. Write one of them as nested (a/b) if it is, "
            "drop an effect, or fit a subset of the groups."
        )
    maps = tuple(_effect_map(level) for level in levels)
    better = [np.ascontiguousarray(_better_columns(level, M)) for level, M in zip(levels, maps, strict=True)]
    basis = make_basis(design.X, design.y, levels)
    structure = build_structure(levels, plan, better)
    W = basis.W
    ZtW = np.concatenate(
        [
            np.stack(
                [group_sums(level.index, level.m, cols[:, e : e + 1] * W) for e in range(level.r)], axis=1
            ).reshape(-1, W.shape[1])
            for level, cols in zip(levels, better, strict=True)
        ]
        or [np.zeros((0, W.shape[1]))]
    )
    winspan = np.array([_in_span(levels[k], better[k], W) for k in plan.chain], dtype=np.bool_).reshape(
        len(plan.chain), W.shape[1]
    )
    return Statistics(
        design=design,
        plan=plan,
        structure=structure,
        maps=maps,
        better=tuple(better),
        Q=W[:, :-1],
        R=basis.R,
        gamma=basis.gamma,
        scale=basis.scale,
        ZtW=ZtW,
        WtW=W.T @ W,
        winspan=winspan,
    )
