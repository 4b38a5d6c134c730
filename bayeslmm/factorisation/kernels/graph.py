"""Which nodes of a graph are joined: those that some unit has together, a unit being a row or a group of the chain.

In `tests/twins.py`, `joined` is the same as a product of matrices.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner, njit

NONE = -1
MANY_WORDS = 4_000_000  # of 64 bits


@inner
def _sorted_by(groups, m):
    """(where each group begins, its members) of items whose groups are given."""
    starts = np.zeros(m + 1, np.int64)
    for g in groups:
        starts[g + 1] += 1
    for g in range(m):
        starts[g + 1] += starts[g]
    to = starts[:m].copy()
    members = np.empty(groups.shape[0], np.int64)
    for i in range(groups.shape[0]):
        members[to[groups[i]]] = i
        to[groups[i]] += 1
    return starts, members


@njit
def joined(unit, nodes, units, n, limit):
    """(where each node's neighbours begin, the neighbours, whether they are all): nodes that some unit has together.

    Parameters
    ----------
    unit : (rows,) array
        The unit of each row, of so many `units`.
    nodes : (levels, rows) array
        The nodes of each row, of `n`.
    limit : float
        Neighbours from which on there is no counting.
    """
    row_starts, rows = _sorted_by(unit, units)
    # each unit's nodes, each of them once
    starts = np.zeros(units + 1, np.int64)
    met, of = np.empty(nodes.size, np.int64), np.empty(nodes.size, np.int64)
    seen = np.full(n, NONE, np.int64)
    to = 0
    for u in range(units):
        for p in range(row_starts[u], row_starts[u + 1]):
            for level in range(nodes.shape[0]):
                i = nodes[level, rows[p]]
                if seen[i] != u:
                    seen[i] = u
                    met[to] = i
                    of[to] = u
                    to += 1
        starts[u + 1] = to
    entry_starts, entries = _sorted_by(met[:to], n)
    words = (n + 63) // 64
    if words * units < to and words * units < MANY_WORDS:
        return _joined_by_bits(starts, met, of, entry_starts, entries, limit)
    return _joined_one_by_one(starts, met, of, entry_starts, entries, limit)


@inner
def _longer(array, used):
    """The same, with room for more."""
    out = np.empty(2 * array.shape[0], array.dtype)
    out[:used] = array[:used]
    return out


@inner
def _joined_one_by_one(starts, met, of, entry_starts, entries, limit):
    """As `joined`, where units have few nodes."""
    n = entry_starts.shape[0] - 1
    begins, neighbours = np.zeros(n + 1, np.int64), np.empty(2 * met.shape[0] + n, np.int64)
    seen = np.full(n, NONE, np.int64)
    to = 0
    for j in range(n):
        seen[j] = j
        if to + n > neighbours.shape[0]:
            neighbours = _longer(neighbours, to)
        for p in range(entry_starts[j], entry_starts[j + 1]):
            u = of[entries[p]]
            for k in range(starts[u], starts[u + 1]):
                i = met[k]
                if seen[i] != j:
                    seen[i] = j
                    neighbours[to] = i
                    to += 1
        begins[j + 1] = to
        if to > limit:
            break
    return begins, neighbours[:to].copy(), to <= limit


@inner
def _joined_by_bits(starts, met, of, entry_starts, entries, limit):
    """As `joined`, where units have many nodes: a bit for each."""
    n, units = entry_starts.shape[0] - 1, starts.shape[0] - 1
    words = (n + 63) // 64
    bits = np.zeros((units, words), np.uint64)
    one = np.uint64(1)
    for u in range(units):
        for k in range(starts[u], starts[u + 1]):
            bits[u, met[k] // 64] |= one << np.uint64(met[k] % 64)
    begins, neighbours = np.zeros(n + 1, np.int64), np.empty(2 * met.shape[0] + n, np.int64)
    all_bits = np.empty(words, np.uint64)
    to = 0
    for j in range(n):
        all_bits[:] = np.uint64(0)
        for p in range(entry_starts[j], entry_starts[j + 1]):
            row = bits[of[entries[p]]]
            for w in range(words):
                all_bits[w] |= row[w]
        if to + n > neighbours.shape[0]:
            neighbours = _longer(neighbours, to)
        for i in range(n):
            if i != j and (all_bits[i // 64] >> np.uint64(i % 64)) & one != 0:
                neighbours[to] = i
                to += 1
        begins[j + 1] = to
        if to > limit:
            break
    return begins, neighbours[:to].copy(), to <= limit
