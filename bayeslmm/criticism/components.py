"""Rows that are independent of all others, given the parameters and the effects of some levels.

The effects of the other levels are integrated out exactly, component by component, by small dense matrices. Where that
is too much work, a level's effects are taken from the draws instead, which makes the components smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from bayeslmm.criticism.units import Units
from bayeslmm.design.design import Design
from bayeslmm.factorisation.plan import nested_in
from bayeslmm.factorisation.statistics import Statistics

AFFORDABLE = 2e8
"""Multiplications a draw up to which all levels are integrated out."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """Rows, and the columns of the integrated levels that they meet.

    Attributes
    ----------
    rows : (n_c,) int array
    groups : tuple of int arrays
        Per integrated level, the groups that the rows meet.
    """

    rows: np.ndarray
    groups: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True)
class Split:
    """A design cut into components.

    Attributes
    ----------
    stats : Statistics
        Of the design, with the columns on which the kernels work.
    integrated : tuple of int
        The levels whose effects are integrated out; those of the others are given.
    """

    stats: Statistics
    integrated: tuple[int, ...]

    @property
    def design(self) -> Design:
        """The design itself."""
        return self.stats.design

    @property
    def given(self) -> tuple[str, ...]:
        """Labels of the levels whose effects are taken from the draws."""
        return tuple(level.label for k, level in enumerate(self.design.levels) if k not in self.integrated)

    @cached_property
    def component_of(self) -> np.ndarray:
        """(n,) int: the component of each row."""
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        n = self.design.n
        blocks = [self.design.residual.block]
        links = []
        for k in self.integrated:
            level = self.design.levels[k]
            index = level.index
            if level.relation is not None:  # groups that are related are one
                index = level.relation.families[index]
            blocks.append(index)
        for index in blocks:
            links.append(sparse.csr_array((np.ones(n), (np.arange(n), index)), shape=(n, int(index.max()) + 1)))
        pairs = sparse.hstack(links, format="csr")
        whole = sparse.block_array([[None, pairs], [pairs.T, None]], format="csr")
        found = connected_components(whole, directed=False)[1][:n]
        return np.unique(found, return_inverse=True)[1]

    @cached_property
    def components(self) -> list[Component]:
        """The components, in the order of their first rows."""
        order = np.argsort(self.component_of, kind="stable")
        ends = np.cumsum(np.bincount(self.component_of))[:-1]
        return [
            Component(rows=rows, groups=tuple(np.unique(self.design.levels[k].index[rows]) for k in self.integrated))
            for rows in np.split(order, ends)
        ]

    @cached_property
    def cost(self) -> float:
        """Multiplications a draw."""
        total = 0.0
        for one in self.components:
            q = sum(
                len(groups) * self.design.levels[k].r for k, groups in zip(self.integrated, one.groups, strict=True)
            )
            n = len(one.rows)
            total += 3.0 * q**3 + n * q**2 + (n * n if self.design.residual.correlated else n)
        return total


def affordable_split(stats: Statistics, units: Units) -> Split:
    """Integrate out as many levels as can be paid for, of equal numbers the cheapest.

    Always the level whose groups the units are, and those nested in it: what the draws know of the effects of what is
    left out, they know from what is left out.
    """
    design = stats.design
    levels = range(len(design.levels))
    must = set()
    if units.level is not None:
        must = {k for k in levels if k == units.level or nested_in(design.levels[k].index, units.index)}
    best = Split(stats=stats, integrated=tuple(levels))
    for size in range(len(design.levels), len(must) - 1, -1):
        choices = [Split(stats=stats, integrated=each) for each in combinations(levels, size) if must <= set(each)]
        best = min(choices, key=lambda split: split.cost)
        if best.cost <= AFFORDABLE:
            return best
    return best
