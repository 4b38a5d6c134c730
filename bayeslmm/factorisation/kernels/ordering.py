"""The order in which the nodes of a sparse graph are eliminated: approximate minimum degree on the quotient graph.

A node that has been eliminated becomes an element, the list of the nodes that it joined; a node's neighbours are its
own and those of its elements. Elements that lie in a newer one are absorbed, nodes that can no longer be told apart go
together. The next is always one with the fewest neighbours, an upper bound of which is kept.

Source: Amestoy, Davis & Duff (1996), An approximate minimum degree ordering algorithm. `least_degree_order` in
`tests/twins.py` eliminates one node after another, with their exact degrees: another order, with about the same fill.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner

NONE = -1
(VARIABLE, ELEMENT, GONE) = range(3)


@inner
def _put(lists, i, degree):
    """Into the list of the nodes of a degree."""
    head, after, before, at = lists
    at[i] = degree
    after[i] = head[degree]
    before[i] = NONE
    if head[degree] != NONE:
        before[head[degree]] = i
    head[degree] = i


@inner
def _take(lists, i):
    """Out of the list of its degree."""
    head, after, before, at = lists
    if before[i] == NONE:
        head[at[i]] = after[i]
    else:
        after[before[i]] = after[i]
    if after[i] != NONE:
        before[after[i]] = before[i]


@inner
def _join(pool, start, size, weight, of, top, lists):
    """Append to the pool the nodes of list `of` that are not marked yet, and mark them: their weights turn negative."""
    joined = 0
    for p in range(start[of], start[of] + size[of]):
        i = pool[p]
        if weight[i] > 0:
            joined += weight[i]
            weight[i] = -weight[i]
            _take(lists, i)
            pool[top] = i
            top += 1
    return top, joined


@inner
def _same(pool, start, size, stamp, mark, j):
    """Whether node j has the elements and neighbours that are stamped, and no others."""
    same = True
    for p in range(start[j] + 1, start[j] + size[j]):
        same = same and stamp[pool[p]] == mark
    return same


@inner
def minimum_degree(starts, neighbours, weights, effort):
    """The nodes (n,) in their order of elimination, and how many of them were ordered.

    Parameters
    ----------
    starts, neighbours : (n + 1,) and flat arrays
        The neighbours of each node, itself not among them; symmetric.
    weights : (n,) array
        Columns of each node.
    effort : float
        Steps after which it is given up.
    """
    n = weights.shape[0]
    total = weights.sum()
    pool = np.empty(neighbours.shape[0] + 2 * n + 1, np.int64)
    pool[: neighbours.shape[0]] = neighbours
    top = neighbours.shape[0]
    start = starts[:n].copy()
    size = starts[1:] - starts[:n]
    elements = np.zeros(n, np.int64)  # how many of a node's list are elements; they come first
    kind = np.zeros(n, np.int64)
    weight = weights.copy()  # 0 once a node is gone, negative while it is in the newest element
    joined = np.zeros(n, np.int64)  # weight of an element's nodes
    degree = np.zeros(n, np.int64)
    lists = (
        np.full(total + 1, NONE, np.int64),
        np.full(n, NONE, np.int64),
        np.full(n, NONE, np.int64),
        np.zeros(n, np.int64),
    )
    follower, last = np.full(n, NONE, np.int64), np.arange(n)  # nodes that go with another, behind it
    stamp = np.zeros(n, np.int64)
    mark = 1
    bucket, chained, key = np.full(n, NONE, np.int64), np.full(n, NONE, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        for p in range(starts[i], starts[i + 1]):
            degree[i] += weight[neighbours[p]]
        _put(lists, i, degree[i])
    order = np.empty(n, np.int64)
    done = 0
    left = total
    least = 0
    steps = 0
    while done < n and steps <= effort:
        while lists[0][least] == NONE:
            least += 1
        me = lists[0][least]
        _take(lists, me)
        own = weight[me]
        weight[me] = -own

        # the new element: all that `me` and its elements are joined to
        needed = size[me]
        for p in range(start[me], start[me] + elements[me]):
            needed += size[pool[p]]
        if top + needed > pool.shape[0]:
            larger = np.empty(2 * pool.shape[0] + needed, np.int64)
            larger[:top] = pool[:top]
            pool = larger
        first = top
        width = 0
        for p in range(start[me], start[me] + elements[me]):
            e = pool[p]
            top, more = _join(pool, start, size, weight, e, top, lists)
            width += more
            kind[e] = GONE
        for p in range(start[me] + elements[me], start[me] + size[me]):
            i = pool[p]
            if weight[i] > 0:
                width += weight[i]
                weight[i] = -weight[i]
                _take(lists, i)
                pool[top] = i
                top += 1
        kind[me] = ELEMENT
        start[me] = first
        size[me] = top - first

        # of every other element that it touches, the weight outside
        highest = 0
        for p in range(first, top):
            i = pool[p]
            for k in range(start[i], start[i] + elements[i]):
                e = pool[k]
                if kind[e] == ELEMENT:
                    if stamp[e] < mark:
                        stamp[e] = joined[e] + mark
                        highest = max(highest, joined[e])
                    stamp[e] += weight[i]
        # new lists and bounds of the degrees
        for p in range(first, top):
            i = pool[p]
            begin = start[i]
            steps += size[i]
            to = begin
            outside = 0
            code = 0
            for k in range(begin, begin + elements[i]):
                e = pool[k]
                if kind[e] == ELEMENT:
                    if stamp[e] > mark:
                        outside += stamp[e] - mark
                        code += e
                        pool[to] = e
                        to += 1
                    else:  # all of it lies in the new one
                        kind[e] = GONE
            kept = to - begin
            for k in range(begin + elements[i], begin + size[i]):
                j = pool[k]
                if weight[j] > 0:
                    outside += weight[j]
                    code += j
                    pool[to] = j
                    to += 1
            if outside == 0:  # joined to the new element alone: it goes at once
                own -= weight[i]
                width += weight[i]
                weight[i] = 0
                kind[i] = GONE
                follower[last[me]] = i
                last[me] = last[i]
                continue
            pool[to] = pool[begin + kept]
            pool[begin + kept] = pool[begin]
            pool[begin] = me
            elements[i] = kept + 1
            size[i] = to + 1 - begin
            degree[i] = min(degree[i], outside)
            key[i] = code % n
            chained[i] = bucket[key[i]]
            bucket[key[i]] = i
        mark += highest + 1
        # nodes that can't be told apart
        for p in range(first, top):
            i = bucket[key[pool[p]]] if weight[pool[p]] < 0 else NONE
            if i == NONE:
                continue
            bucket[key[i]] = NONE
            while i != NONE and chained[i] != NONE:
                for k in range(start[i] + 1, start[i] + size[i]):
                    stamp[pool[k]] = mark
                before = i
                j = chained[i]
                while j != NONE:
                    same = size[j] == size[i] and elements[j] == elements[i]
                    if same and _same(pool, start, size, stamp, mark, j):
                        weight[i] += weight[j]
                        weight[j] = 0
                        kind[j] = GONE
                        follower[last[i]] = j
                        last[i] = last[j]
                        chained[before] = chained[j]
                    else:
                        before = j
                    j = chained[j]
                mark += 1
                i = chained[i]
        # back into the lists of degrees
        left -= own
        to = first
        for p in range(first, top):
            i = pool[p]
            if weight[i] < 0:
                weight[i] = -weight[i]
                degree[i] = min(degree[i] + width - weight[i], left - weight[i])
                _put(lists, i, degree[i])
                least = min(least, degree[i])
                pool[to] = i
                to += 1
        top = to
        size[me] = to - first
        joined[me] = width
        weight[me] = 0
        if to == first:
            kind[me] = GONE
        i = me
        while i != NONE:
            order[done] = i
            done += 1
            i = follower[i]
    return order, done
