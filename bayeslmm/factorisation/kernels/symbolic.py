"""Where a sparse Cholesky factor has its numbers, before there are any.

Nodes are eliminated in a given order. The elimination tree has, for each node, the first later one that it is joined to
then; column counts follow from it without the factor, supernodes (runs of nodes with one and the same list of later
ones, or nearly) from these, and the lists of supernodes from their children's.

`eliminate` in `tests/twins.py` is all of it with sets: it joins what is left, node by node.

Sources: Liu (1990), The role of elimination trees in sparse factorization; Ashcraft & Grimes (1989), The influence of
relaxed supernode partitions on the multifrontal method.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner, njit
from bayeslmm.factorisation.kernels.ordering import minimum_degree

NONE = -1


@inner
def _tree(starts, neighbours, order, rank):
    """For every node, as numbered in the order of elimination, its mother; by Liu's algorithm."""
    n = order.shape[0]
    mother, top = np.full(n, NONE, np.int64), np.full(n, NONE, np.int64)
    for j in range(n):
        for p in range(starts[order[j]], starts[order[j] + 1]):
            i = rank[neighbours[p]]
            while i < j:  # up to the top of what is joined so far, which is shortened on the way
                above = top[i]
                top[i] = j
                if above == NONE:
                    mother[i] = j
                if above in (NONE, j):
                    break
                i = above
    return mother


@inner
def _counts(starts, neighbours, weights, order, rank, mother, limit):
    """(columns, nodes) in the list of every node, itself included, and whether all are counted: up to `limit` nodes.

    A row of the factor is the part of the tree between its entries in the matrix and its own node.
    """
    n = order.shape[0]
    columns, nodes = np.empty(n, np.int64), np.ones(n, np.int64)
    seen = np.full(n, NONE, np.int64)
    total = n
    for j in range(n):
        columns[j] = weights[order[j]]
    for j in range(n):
        seen[j] = j
        for p in range(starts[order[j]], starts[order[j] + 1]):
            i = rank[neighbours[p]]
            while i < j and seen[i] != j:
                seen[i] = j
                columns[i] += weights[order[j]]
                nodes[i] += 1
                total += 1
                i = mother[i]
        if total > limit:
            break
    return columns, nodes, total <= limit


@inner
def _postorder(mother, columns):
    """The nodes, mothers after their daughters, the daughter with the longest list last and so next to her mother."""
    n = mother.shape[0]
    first, sister = np.full(n + 1, NONE, np.int64), np.full(n, NONE, np.int64)
    for i in np.argsort(columns, kind="mergesort"):  # put in front: the last to come is the first in the list
        m = mother[i] if mother[i] != NONE else n
        sister[i] = first[m]
        first[m] = i
    out, stack = np.empty(n, np.int64), np.empty(n + 1, np.int64)
    stack[0] = n
    depth = 1
    to = n  # from the root down, filled from the end
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if node < n:
            to -= 1
            out[to] = node
        length = 0
        child = first[node]
        while child != NONE:
            length += 1
            child = sister[child]
        child = first[node]
        at = depth + length
        while child != NONE:  # the longest on top of the stack
            at -= 1
            stack[at] = child
            child = sister[child]
        depth += length
    return out


@inner
def elimination_tree(starts, neighbours, weights, order, limit):
    """(order, mothers, columns and nodes of every list, whether they are counted): the order becomes a postorder.

    Parameters
    ----------
    starts, neighbours, weights : arrays
        As in `ordering.minimum_degree`.
    order : (n,) array
        In which the nodes are eliminated.
    limit : int
        Entries of the factor, in nodes, from which on there is no counting.
    """
    n = order.shape[0]
    rank = np.empty(n, np.int64)
    for j in range(n):
        rank[order[j]] = j
    mother = _tree(starts, neighbours, order, rank)
    columns, nodes, counted = _counts(starts, neighbours, weights, order, rank, mother, limit)
    post = _postorder(mother, columns)
    place = np.empty(n, np.int64)
    for j in range(n):
        place[post[j]] = j
    above = np.full(n, NONE, np.int64)
    for j in range(n):
        if mother[post[j]] != NONE:
            above[j] = place[mother[post[j]]]
    return order[post], above, columns[post], nodes[post], counted


@inner
def _stored(own, length):
    """Numbers in the trapezoid of so many columns, the first of this length."""
    return own * length - own * (own - 1) / 2


@inner
def _worth_joining(zeros, whole, share):
    """Whether a node and the supernode behind it are quicker as one: few columns, or a small share of stored zeros."""
    if zeros == 0 or whole <= 4:
        return True
    return (whole <= 16 and share < 0.4) or (whole <= 48 and share < 0.1) or share < 0.05


@inner
def supernodes(mother, columns, weights):
    """Where the supernodes begin, in nodes, and where they end: (s + 1,).

    Parameters
    ----------
    mother, columns : arrays
        From `elimination_tree`.
    weights : (n,) array
        Columns of each node, in the order of elimination.
    """
    n = mother.shape[0]
    ends = np.empty(n + 1, np.int64)  # filled from the end
    at = n
    ends[at] = n
    j = n - 1
    while j >= 0:
        whole, length = weights[j], columns[j]  # columns of the supernode that begins with node j, and of its list
        last = ends[at]
        numbers = _stored(whole, length)
        while j > 0 and mother[j - 1] != NONE and mother[j - 1] < last:
            own = weights[j - 1]
            zeros = own * (own + length - columns[j - 1])
            more = numbers + own * columns[j - 1]
            if not _worth_joining(zeros, own + whole, 1.0 - more / _stored(own + whole, own + length)):
                break
            j -= 1
            whole += own
            length += own
            numbers = more
        at -= 1
        ends[at] = j
        j -= 1
    return ends[at:].copy()


@inner
def supernode_lists(starts, neighbours, order, mother, nodes, ends):
    """(where each supernode's list begins, the lists): its own nodes and those that they are joined to, ascending."""
    n, s = order.shape[0], ends.shape[0] - 1
    rank, of = np.empty(n, np.int64), np.empty(n, np.int64)
    for j in range(n):
        rank[order[j]] = j
    begins = np.zeros(s + 1, np.int64)
    for k in range(s):
        of[ends[k] : ends[k + 1]] = k
        begins[k + 1] = begins[k] + ends[k + 1] - ends[k] + nodes[ends[k + 1] - 1] - 1
    lists = np.empty(begins[s], np.int64)
    seen = np.full(n, NONE, np.int64)
    daughter, sister = np.full(s, NONE, np.int64), np.full(s, NONE, np.int64)
    for k in range(s):
        to = begins[k]
        for j in range(ends[k], ends[k + 1]):
            lists[to] = j
            to += 1
        below = to
        last = ends[k + 1]
        for j in range(ends[k], last):
            for p in range(starts[order[j]], starts[order[j] + 1]):
                i = rank[neighbours[p]]
                if i >= last and seen[i] != k:
                    seen[i] = k
                    lists[to] = i
                    to += 1
        child = daughter[k]
        while child != NONE:
            for p in range(begins[child], begins[child + 1]):
                i = lists[p]
                if i >= last and seen[i] != k:
                    seen[i] = k
                    lists[to] = i
                    to += 1
            child = sister[child]
        lists[below:to].sort()
        if mother[last - 1] != NONE:
            above = of[mother[last - 1]]
            sister[k] = daughter[above]
            daughter[above] = k
    return begins, lists


@inner
def extensions(first, starts, rows, of):
    """(where each supernode's runs begin, runs, relative): where its later columns stand in the lists of their own.

    A run is columns of a list that belong to one and the same later supernode: that one, the run's first and last place
    in the list, and where in `relative` the places begin that its columns, and all after them, have in that one's list.
    """
    s = first.shape[0] - 1
    begins = np.zeros(s + 1, np.int64)
    length = 0
    for k in range(s):
        begins[k + 1] = begins[k]
        p = starts[k] + first[k + 1] - first[k]
        while p < starts[k + 1]:
            above = of[rows[p]]
            length += starts[k + 1] - p
            begins[k + 1] += 1
            while p < starts[k + 1] and of[rows[p]] == above:
                p += 1
    runs = np.empty((begins[s], 4), np.int64)
    relative = np.empty(length, np.int64)
    at = 0
    to = 0
    for k in range(s):
        p = starts[k] + first[k + 1] - first[k]
        while p < starts[k + 1]:
            above = of[rows[p]]
            runs[at, 0] = above
            runs[at, 1] = p - starts[k]
            runs[at, 3] = to
            q = starts[above]
            for m in range(p, starts[k + 1]):
                while rows[q] != rows[m]:
                    q += 1
                relative[to] = q - starts[above]
                to += 1
            while p < starts[k + 1] and of[rows[p]] == above:
                p += 1
            runs[at, 2] = p - starts[k]
            at += 1
    return begins, runs, relative


@inner
def _spread(first, counts, out):
    """Out = for each of these, so many consecutive numbers."""
    to = 0
    for k in range(first.shape[0]):
        for i in range(counts[k]):
            out[to] = first[k] + i
            to += 1


@njit
def analyse(starts, neighbours, weights, limit, effort):
    """A sparse matrix's pattern, `arrays.Sparse` from `column` to `relative` but for `level`; and whether it is made.

    Parameters
    ----------
    starts, neighbours, weights : arrays
        As in `ordering.minimum_degree`.
    limit : int
        Entries of the factor, in nodes, from which on nothing is made.
    effort : float
        Steps of ordering, likewise.
    """
    order, done = minimum_degree(starts, neighbours, weights, effort)
    counted = done == order.shape[0]
    mother, columns, nodes = order, order, order
    if counted:
        order, mother, columns, nodes, counted = elimination_tree(starts, neighbours, weights, order, limit)
    if not counted:
        order, mother, columns, nodes = order[:0], mother[:0], columns[:0], nodes[:0]
    width = weights[order]
    n = order.shape[0]
    q = width.sum()
    column = np.empty(n + 1, np.int64)  # where each node begins, in the order of elimination
    column[0] = 0
    for j in range(n):
        column[j + 1] = column[j] + width[j]
    ends = supernodes(mother, columns, width)
    begins, lists = supernode_lists(starts, neighbours, order, mother, nodes, ends)
    s = ends.shape[0] - 1
    first = column[ends]
    row_starts, panels, of = np.zeros(s + 1, np.int64), np.zeros(s + 1, np.int64), np.empty(q, np.int64)
    for k in range(s):
        length = 0
        for p in range(begins[k], begins[k + 1]):
            length += width[lists[p]]
        row_starts[k + 1] = row_starts[k] + length
        panels[k + 1] = panels[k] + length * (first[k + 1] - first[k])
        of[first[k] : first[k + 1]] = k
    rows = np.empty(row_starts[s], np.int64)
    _spread(column[lists], width[lists], rows)
    run_starts, runs, relative = extensions(first, row_starts, rows, of)
    by_node = np.empty(n, np.int64)
    for j in range(n):
        by_node[order[j]] = column[j]
    return (by_node, of, first, row_starts, rows, panels, run_starts, runs, relative), counted


@njit
def places_of_pairs(first, starts, rows, of, panels, lists, columns):
    """(where each list's pairs begin, places): where column and column of the same list meet in the packed factor.

    Parameters
    ----------
    lists, columns : (m + 1,) and flat arrays
        Ascending columns that are all joined to each other.
    """
    m = lists.shape[0] - 1
    begins = np.zeros(m + 1, np.int64)
    for g in range(m):
        z = lists[g + 1] - lists[g]
        begins[g + 1] = begins[g] + z * (z + 1) // 2
    places = np.empty(begins[m], np.int64)
    to = 0
    for g in range(m):
        for a in range(lists[g], lists[g + 1]):
            k = of[columns[a]]
            own = columns[a] - first[k]
            base = panels[k] + own * (starts[k + 1] - starts[k])
            low = starts[k] + own
            for b in range(a, lists[g + 1]):
                if columns[b] < first[k + 1]:
                    low = starts[k] + columns[b] - first[k]
                else:
                    high = starts[k + 1]
                    while high - low > 1:
                        middle = (low + high) // 2
                        if rows[middle] <= columns[b]:
                            low = middle
                        else:
                            high = middle
                places[to] = base + low - starts[k]
                to += 1
    return begins, places
