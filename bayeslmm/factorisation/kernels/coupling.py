"""What a group of the chain leaves behind in the tail when it is eliminated, and in its ancestors' rows of it.

It is part of `forward` in `tests/twins.py`, where all is dense: M - M F F' M.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.arrays import (
    C_ANCESTORS,
    C_EFFECTS,
    C_GROUP,
    C_GROUPS,
    C_LIST,
    C_MAP,
    C_TZ,
    GROUP,
    KEPT,
)
from bayeslmm.factorisation.kernels.compiling import inlined


@inlined
def whiten_tail(tables, parts, level, g, work, block, Vt, Vc):
    """Vt, Vc = F' times one group's products with its tail columns, and with its ancestors and W."""
    chain, lists = tables.chain, tables.lists
    Bz, F = parts.Bz, parts.F
    r = chain[level, C_EFFECTS]
    beside = chain[level, C_ANCESTORS] + parts.SW.shape[1]
    first = lists[chain[level, C_LIST] + g]
    nz = lists[chain[level, C_LIST] + g + 1] - first
    base = chain[level, C_TZ] + r * (first - lists[chain[level, C_LIST]])
    for e in range(r):
        for k in range(nz):
            v = 0.0
            for a in range(r):
                v += F[block + a * r + e] * Bz[base + a * nz + k]
            Vt[e, k] = v
        for k in range(beside):
            v = 0.0
            for a in range(r):
                v += F[block + a * r + e] * work[GROUP, a, r + k]
            Vc[e, k] = v


@inlined
def subtract_from_dense(tables, parts, level, g, Vt, Vc):
    """Subtract one group's share from S and SW."""
    chain, lists, columns = tables.chain, tables.lists, tables.columns
    S, SW = parts.S, parts.SW
    ancestors = chain[level, C_ANCESTORS]
    first = lists[chain[level, C_LIST] + g]
    nz = lists[chain[level, C_LIST] + g + 1] - first
    for e in range(chain[level, C_EFFECTS]):
        for k in range(nz):
            row = np.uint64(columns[first + k])  # spares numba the question whether an index is negative
            v = Vt[e, k]
            for j in range(k, nz):  # the columns ascend: the upper triangle
                S[row, np.uint64(columns[first + j])] -= v * Vt[e, j]
            for w in range(SW.shape[1]):
                SW[row, w] -= v * Vc[e, ancestors + w]


@inlined
def subtract_from_sparse(pair_starts, pairs, columns, S, SW, group, first, nz, r, ancestors, Vt, Vc):
    """Subtract one group's share from S, packed, and SW."""
    at = pair_starts[group]
    for k in range(nz):
        for j in range(k, nz):
            x = 0.0
            for e in range(r):
                x += Vt[e, k] * Vt[e, j]
            S[np.uint64(pairs[at])] -= x
            at += 1
        row = np.uint64(columns[first + k])
        for e in range(r):
            for w in range(SW.shape[1]):
                SW[row, w] -= Vt[e, k] * Vc[e, ancestors + w]


@inlined
def couple_tail(tables, parts, level, g, work, Vt, Vc):
    """Subtract one group's share from its ancestors' rows; leave B~ of its tail columns in Bz."""
    chain, parent, lists, maps = tables.chain, tables.parent, tables.lists, tables.maps
    Bz = parts.Bz
    r = chain[level, C_EFFECTS]
    begin = lists[chain[level, C_LIST]]
    first = lists[chain[level, C_LIST] + g]
    nz = lists[chain[level, C_LIST] + g + 1] - first
    base = chain[level, C_TZ] + r * (first - begin)
    total = lists[chain[level, C_LIST] + chain[level, C_GROUPS]] - begin
    ancestor = g
    start = 0
    for up in range(level + 1, chain.shape[0]):
        ancestor = parent[chain[up - 1, C_GROUP] + ancestor]
        effects = chain[up, C_EFFECTS]
        there = lists[chain[up, C_LIST] + ancestor]
        length = lists[chain[up, C_LIST] + ancestor + 1] - there
        at = chain[up, C_TZ] + effects * (there - lists[chain[up, C_LIST]])
        to = chain[level, C_MAP] + (up - level - 1) * total + (first - begin)
        for a in range(effects):
            for e in range(r):
                v = Vc[e, start + a]
                for k in range(nz):
                    Bz[at + a * length + maps[to + k]] -= v * Vt[e, k]
        start += effects
    for k in range(nz):
        for a in range(r):
            v = 0.0
            for b in range(r):
                v += work[KEPT, a, b] * Bz[base + b * nz + k]
            Vt[a, k] = v
        for a in range(r):
            Bz[base + a * nz + k] = Vt[a, k]
