"""Rows and groups that are alike, of which one is enough: equal rows of a group, and groups with equal rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.families.family import Outcome
from bayeslmm.integration.rows import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Alike:
    """One level's groups, each kind of group once, and in it each kind of row once.

    Attributes
    ----------
    rows : (n,) array of int
        The first of the design's rows of each kind, in the order of the groups.
    count : (n,) array
        How many such rows the group has.
    starts : (m,) array of int
        The first row of each kind of group.
    owner : (n,) array of int
        The kind of group of each row.
    groups : (m,) array of int
        The first group of each kind.
    copies : (m,) array
        How many there are.
    kind : array of int
        Of each of the level's groups: -1 where it has no rows.
    """

    rows: np.ndarray
    count: np.ndarray
    starts: np.ndarray
    owner: np.ndarray
    groups: np.ndarray
    copies: np.ndarray
    kind: np.ndarray

    def parts(self, largest: int) -> Iterator[tuple[slice, slice]]:
        """(groups, rows) of parts with at most so many rows, or with one group."""
        ends = np.append(self.starts[1:], len(self.rows))
        begin = 0
        while begin < len(self.starts):
            stop = int(np.searchsorted(ends, self.starts[begin] + largest, side="right"))
            stop = max(stop, begin + 1)
            yield slice(begin, stop), slice(int(self.starts[begin]), int(ends[stop - 1]))
            begin = stop


def find_alike(rows: Rows, outcome: Outcome, k: int = 0) -> Alike:
    """Find what is alike in level k, whatever the parameters are: the same y, trials, X, offset and columns of effects.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 1, 1, 0, 1, 1, 1, 1], "g": list("aabbccdd")}
    >>> problem = blm.GLMM("y ~ 1 + (1 | g)", data, family="binomial").problem
    >>> found = find_alike(problem.rows, problem.outcome)
    >>> found.rows.tolist(), found.count.tolist(), found.copies.tolist()
    ([0, 1, 4], [1.0, 1.0, 2.0], [2.0, 2.0])
    """
    design = rows.design
    level = design.levels[k]
    columns = [outcome.y, *design.X.T, *level.columns.T]
    columns += [] if outcome.trials is None else [outcome.trials]
    columns += [] if design.offset is None else [design.offset]
    code = _codes(columns)
    key = level.index * (code.max() + 1) + code
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    index = level.index[first]
    edges = np.flatnonzero(np.diff(index, prepend=-1))
    ends = np.append(edges[1:], len(index))
    seen: dict[bytes, int] = {}
    kept: list[tuple[int, int]] = []
    kind, number = np.full(level.m, -1), np.stack([code[first], count])
    for a, b in zip(edges.tolist(), ends.tolist(), strict=True):
        what = number[:, a:b].tobytes()
        if what not in seen:
            seen[what] = len(kept)
            kept.append((a, b))
        kind[index[a]] = seen[what]
    at = np.concatenate([np.arange(a, b) for a, b in kept])
    lengths = np.array([b - a for a, b in kept])
    starts = np.cumsum(lengths) - lengths
    return Alike(
        rows=first[at], count=count[at].astype(float), starts=starts, owner=np.repeat(np.arange(len(kept)), lengths),
        groups=index[at][starts], copies=np.bincount(kind[kind >= 0], minlength=len(kept)).astype(float), kind=kind,
    )  # fmt: skip


def _codes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """A number (n,) for each kind of row, the same for rows that are equal in all columns."""
    import pandas as pd

    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        own = pd.factorize(column)[0].astype(np.int64)
        code = pd.factorize(code * (own.max() + 1) + own)[0].astype(np.int64)
    return code
