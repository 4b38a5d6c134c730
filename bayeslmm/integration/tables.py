"""The groups of a nested chain as the kernels walk through them: leaf first, what lies in a group side by side.

Rows of a group that are equal are one row that counts several times; so are groups within a group, and outermost
groups, where they are integrated by quadrature and no effect of theirs is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bayeslmm.factorisation.kernels.group_arrays import Chain
from bayeslmm.families.family import Outcome
from bayeslmm.integration.rows import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupTables:
    """A chain's tables, and where they come from.

    Attributes
    ----------
    chain : Chain
    rows : (n',) array
        The design's row that each of the tables' stands for.
    groups : per level of the chain, leaf first
        The design's group that each of the tables' stands for.
    """

    chain: Chain
    rows: np.ndarray
    groups: tuple[np.ndarray, ...]


def group_tables(rows: Rows, outcome: Outcome, code: int, merge: bool) -> GroupTables:
    """Make the tables; groups are merged where `merge` says so, equal rows of a group in any case."""
    levels, chain = rows.design.levels, rows.plan.chain
    n, C = rows.design.n, len(rows.plan.chain)
    trials = np.ones(n) if outcome.trials is None else outcome.trials
    owner = _owners(rows)
    kinds = [_kinds_of_rows(rows, outcome, trials)]
    for c in range(C):
        kinds.append(_kinds_of_groups(owner[c], kinds[c], levels[chain[c]].m))
    chosen, counts, places = np.zeros(1, dtype=np.int64), np.ones(1), []
    levels_down = []
    for c in range(C, -1, -1):  # from the whole down to the rows
        position = np.full(owner[c].max(initial=0) + 1, -1)
        position[chosen] = np.arange(len(chosen))
        chosen, counts, at = _select(position[owner[c]], kinds[c], merge or c == 0)
        levels_down.append((chosen, counts))
        places.append(np.searchsorted(at, np.arange(len(position[position >= 0]) + 1)))
    selected = levels_down[::-1]  # rows first
    starts = places[::-1]
    here, weight = selected[0]
    sizes = [len(selected[c + 1][0]) for c in range(C)]
    first_row = [starts[0]]
    for c in range(1, C):
        first_row.append(first_row[c - 1][starts[c]])
    widths = [levels[k].r for k in chain]
    M, most = sum(sizes), max(widths, default=1)
    bounds = [np.concatenate(x) for x in zip(*_bounds(starts[:C], first_row[:C]), strict=True)]
    first, last, row0, row1 = bounds or [np.zeros(0, dtype=np.int64)] * 4
    z = np.ascontiguousarray(np.hstack([np.zeros((len(here), 0)), *(rows.better[k][here] for k in chain)]))
    changes = np.concatenate([[0], np.cumsum((z[1:] != z[:-1]).any(axis=1))])
    table = Chain(
        code=code, y=outcome.y[here].astype(float), N=trials[here].astype(float), weight=weight, z=z,
        offset=np.cumsum([0, *widths]), lam=np.array([rows.slices[k][1].start for k in chain], dtype=np.int64),
        base=np.cumsum([0, *sizes]), first=first, last=last, row0=row0, row1=row1,
        times=np.concatenate([np.zeros(0), *(selected[c + 1][1] for c in range(C))]), start=np.zeros((M, most)),
        steady=changes[row0] == changes[row1 - 1] if M else np.zeros(0, dtype=np.bool_),
    )  # fmt: skip
    return GroupTables(chain=table, rows=here, groups=tuple(selected[c + 1][0] for c in range(C)))


def _owners(rows: Rows) -> list[np.ndarray]:
    """Of each row its leaf group, of each group its group in the next level; of the outermost ones the whole, 0."""
    levels, chain = rows.design.levels, rows.plan.chain
    out, inner = [], np.arange(rows.design.n)
    for k in chain:
        owner = np.zeros(inner.max(initial=0) + 1, dtype=np.int64)
        owner[inner] = levels[k].index
        out.append(owner)
        inner = levels[k].index
    return [*out, np.zeros(inner.max(initial=0) + 1, dtype=np.int64)]


def _kinds_of_rows(rows: Rows, outcome: Outcome, trials: np.ndarray) -> np.ndarray:
    """Numbers (n,), the same where all that is known of two rows is, but for the groups of the chain."""
    levels, plan = rows.design.levels, rows.plan
    met = [levels[k].index[:, None] for k in plan.tail]
    own = [rows.better[k] for k in (*plan.chain, *plan.tail)]
    columns = np.column_stack([rows.design.X, rows.offset, outcome.y, trials, *own, *met])
    return np.unique(columns, axis=0, return_inverse=True)[1].ravel()


def _kinds_of_groups(owner: np.ndarray, kind: np.ndarray, m: int) -> np.ndarray:
    """Numbers (m,) of groups, the same where as many things of each kind lie in them."""
    pairs, counts = np.unique(np.column_stack([owner, kind]), axis=0, return_counts=True)
    content = np.column_stack([pairs[:, 1], counts])
    ends = np.searchsorted(pairs[:, 0], np.arange(m + 1))
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(content[a:b].tobytes(), len(known)) for a, b in pairwise(ends)], dtype=np.int64)


def _select(position: np.ndarray, kind: np.ndarray, merge: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(things that lie in something chosen, how many each stands for, the position of what it lies in), in order."""
    inside = np.flatnonzero(position >= 0)
    if merge:
        pairs = np.column_stack([position[inside], kind[inside]])
        unique, index, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        return inside[index], counts.astype(float), unique[:, 0]
    order = inside[np.argsort(position[inside], kind="stable")]
    return order, np.ones(len(order)), position[order]


def _bounds(starts: list[np.ndarray], first_row: list[np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    """Per level (first child, last, first row, last) of its groups."""
    return [(a[:-1], a[1:], b[:-1], b[1:]) for a, b in zip(starts, first_row, strict=True)]
