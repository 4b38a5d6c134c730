"""The sparse tail's pattern: which of its groups meet, in which order they are eliminated, where numbers stand.

The tail's groups are the nodes of a graph. Two are joined where they share rows, correlated rows, or a group of the
chain, which joins all that it meets when it is eliminated, or have an entry in a known precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.data.sparse_precision import SparsePrecision
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.factorisation.kernels.arrays import Sparse
from bayeslmm.factorisation.kernels.compiling import first_use
from bayeslmm.factorisation.kernels.graph import joined
from bayeslmm.factorisation.kernels.known_precision import packed, packed_factor, packed_inverse
from bayeslmm.factorisation.kernels.symbolic import analyse, places_of_pairs

MADE = ("column", "of", "first", "starts", "rows", "panels", "run_starts", "runs", "relative")  # by `analyse`
MEET = 0.25  # share of all pairs of groups that meet from which on a tail is dense
EFFORT = 0.5  # steps of ordering for each of all pairs, likewise


@dataclass(frozen=True, kw_only=True, eq=False)
class Pattern:
    """Where the Cholesky factor of a tail has its numbers.

    Attributes
    ----------
    place : (q_T,) array
        Per column of the tail, level by level and group by group, its place in the order of elimination.
    sparse : Sparse
        As the kernels take it, without the table of the tail and the pairs of the chain's groups.
    """

    place: np.ndarray
    sparse: Sparse

    @property
    def size(self) -> int:
        """Numbers in a packed array."""
        return int(self.sparse.panels[-1])

    @property
    def shapes(self) -> np.ndarray:
        """(supernodes, 2): its columns, and the columns of its list."""
        return np.stack([np.diff(self.sparse.first), np.diff(self.sparse.starts)], axis=1)

    @cached_property
    def flops(self) -> float:
        """Multiplications and additions of the factorisation."""
        own, length = self.shapes.T.astype(float)
        rest = length - own
        return float((own**3 / 3 + own**2 * rest + own * rest**2).sum())

    def find(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where columns a and b, in the order of elimination, meet in packed arrays, and whether they do."""
        low, high = np.minimum(a, b), np.maximum(a, b)
        s = self.sparse.of[low]
        q = len(self.place)
        wanted = s * q + high
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        length = np.diff(self.sparse.starts)[s]
        where = self.sparse.panels[s] + (low - self.sparse.first[s]) * length + at - self.sparse.starts[s]
        there = self._keys[at] == wanted
        return np.where(there, where, 0), there

    @cached_property
    def _keys(self) -> np.ndarray:
        """One ascending number for each column of each list."""
        lengths = np.diff(self.sparse.starts)
        return np.repeat(np.arange(len(lengths)) * len(self.place), lengths) + self.sparse.rows

    def complete(
        self, tail: np.ndarray, lists: np.ndarray, columns: np.ndarray, levels: Sequence[LevelDesign]
    ) -> Sparse:
        """The kernels' arrays, for groups of the chain that meet these columns, (M + 1) starts and flat.

        `levels` are those of the tail.
        """
        sp = self.sparse
        with first_use(places_of_pairs, "pairs"):
            starts, pairs = places_of_pairs(sp.first, sp.starts, sp.rows, sp.of, sp.panels, lists, columns)
        return sp._replace(tail=tail, pair_starts=starts, pairs=pairs, **self._known(levels))

    def _known(self, levels: Sequence[LevelDesign]) -> dict[str, np.ndarray]:
        """The known precisions of the tail's levels, packed, the logs of their pivots, and their inverse."""
        if not any(level.related for level in levels):
            return {}
        from scipy.sparse import block_diag, csr_array, eye_array, kron

        blocks = []
        for level in levels:
            known = level.relation
            Q = known.matrix if isinstance(known, SparsePrecision) else eye_array(level.m)
            blocks.append(kron(Q, eye_array(level.r)))
        entries = csr_array(block_diag(blocks)).tocoo()
        row, column = (self.place[x] for x in entries.coords)
        upper = row <= column
        with first_use(packed, "packed precision"):
            Q = packed(self.sparse, row[upper], column[upper], entries.data[upper])
        U = Q.copy()
        with first_use(packed_factor, "factor of a precision"):
            pivots, _ = packed_factor(self.sparse, U)
        with first_use(packed_inverse, "inverse of a precision"):
            inverse, _ = packed_inverse(self.sparse, U)
        return {"precision": Q, "precision_logs": 2 * np.log(pivots), "precision_inverse": inverse}

    def pack(self, A: Any) -> np.ndarray:
        """The upper triangle of a sparse symmetric A (q_T, q_T), its columns in the order of elimination, packed."""
        found = A.tocoo()
        row, col = (x.astype(np.int64) for x in found.coords)
        upper = row <= col
        out = np.zeros(self.size)
        where, _ = self.find(row[upper], col[upper])
        out[where] = found.data[upper]
        return out


def tail_graph(
    design: Design, chain: Sequence[int], tail: Sequence[int], limit: float = np.inf
) -> tuple[np.ndarray, np.ndarray] | None:
    """(where each node's neighbours begin, the neighbours) of the tail's groups; None where they are more than `limit`.

    Nodes are the tail's groups, level by level.
    """
    unit = design.levels[chain[-1]].index if chain else design.residual.block
    m = [design.levels[k].m for k in tail]
    nodes = np.stack([first + design.levels[k].index for first, k in zip(np.cumsum(m) - m, tail, strict=True)])
    with first_use(joined, "joined"):
        starts, neighbours, whole = joined(
            unit.astype(np.int64), nodes.astype(np.int64), int(unit.max()) + 1, sum(m), float(limit)
        )
    return (starts, neighbours) if whole else None


def make_pattern(design: Design, chain: Sequence[int], tail: Sequence[int], limit: float = np.inf) -> Pattern | None:
    """Order the tail, and find where its factor has numbers; None where those are more than `limit`.

    With a limit, it is given up as well where a quarter of all pairs meet, or where ordering is long for the number of
    groups: there a dense tail is quicker.
    """
    n = sum(design.levels[k].m for k in tail)
    bounded = np.isfinite(limit)
    graph = tail_graph(design, chain, tail, MEET * n**2 if bounded else np.inf)
    if graph is None:
        return None
    starts, neighbours = _joined_by_precisions(design, tail, *graph)
    effects = np.array([design.levels[k].r for k in tail])
    level = np.repeat(np.arange(len(tail)), [design.levels[k].m for k in tail])
    weights = effects[level]
    most = int(min(limit / effects.min() ** 2, 2**62))
    with first_use(analyse, "pattern"):
        arrays, made = analyse(starts, neighbours, weights, most, float(EFFORT * n**2 if bounded else np.inf))
    found = dict(zip(MADE, arrays, strict=True))
    if not made or found["panels"][-1] > limit:
        return None
    place = _spread(found["column"], weights)
    of_level = np.empty(len(place), dtype=np.int64)
    of_level[place] = np.repeat(level, weights)
    later = dict.fromkeys(("tail", "pair_starts", "pairs"), np.zeros(0, dtype=np.int64))
    none = dict.fromkeys(("precision", "precision_logs", "precision_inverse"), np.zeros(0))
    return Pattern(place=place, sparse=Sparse(level=of_level, **found, **later, **none))


def _joined_by_precisions(
    design: Design, tail: Sequence[int], starts: np.ndarray, neighbours: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The graph, with groups joined that have an entry in their level's known precision."""
    relations = [design.levels[k].relation for k in tail]
    if not any(isinstance(relation, SparsePrecision) for relation in relations):
        return starts, neighbours
    from scipy.sparse import block_diag, csr_array

    n = len(starts) - 1
    blocks = []
    for k, relation in zip(tail, relations, strict=True):
        m = design.levels[k].m
        begin, other = np.zeros(m + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if isinstance(relation, SparsePrecision):
            begin, other = relation.neighbours
        blocks.append(csr_array((np.ones(len(other)), other, begin), shape=(m, m)))
    graph = csr_array(csr_array((np.ones(len(neighbours)), neighbours, starts), shape=(n, n)) + block_diag(blocks))
    return graph.indptr.astype(np.int64), graph.indices.astype(np.int64)


def _spread(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """For each of these, so many consecutive numbers.

    Examples
    --------
    >>> _spread(np.array([5, 1]), np.array([2, 3])).tolist()
    [5, 6, 1, 2, 3]
    """
    ends = np.cumsum(counts)
    return np.repeat(first - (ends - counts), counts) + np.arange(int(ends[-1]) if len(ends) else 0)
