"""One level of the design: its groups, and the columns whose effects vary between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.covariances.effects.structure import EffectStructure
from bayeslmm.data.relation import Relation
from bayeslmm.description.hierarchy import Level
from bayeslmm.design.counted import group_sizes

if TYPE_CHECKING:
    from scipy.sparse import csc_array


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelDesign:
    """The groups of one level, and the columns whose effects vary between them.

    Attributes
    ----------
    name : str
        Name of the effects: "u2".
    level : Level
        The description it came from.
    groups : tuple of str
        Labels of the m groups, lme4's: "1:1".
    effects : tuple of str
        Names of the r columns: "Intercept", "Days".
    index : numpy.ndarray
        The group of each row, (n,) int64; -1 only in `NewRows`, for a group that the model hasn't seen.
    columns : numpy.ndarray
        (n, r) float64, C-contiguous.
    keys : tuple of tuple of str
        Per group, the label in each grouping column.
    relatives : int
        How many groups, the last ones, have no rows: labels of a known covariance that the data don't have.
    shadowed : bool
        Whether an earlier level has the same grouping with other groups (fewer relatives), so that it needs a
        dimension of its own.
    twins : int
        How many earlier levels have the same grouping and one of these effects, told apart by their covariance.
    relation : Relation or None
        The groups' known covariance K = L L'; None where groups are independent.
    counts : (n,) array, or None
        How many rows of the data each row stands for (`counted`); None where each is itself.
    rest : (n, r) array, or None
        What rounding took from `columns`, where rows stand for others.
    seen : (3, r) array, or None
        Least and largest value of each column and how many are not zero, where rows stand for others.
    """

    name: str
    level: Level
    groups: tuple[str, ...]
    effects: tuple[str, ...]
    index: np.ndarray
    columns: np.ndarray
    keys: tuple[tuple[str, ...], ...] = ()
    relatives: int = 0
    shadowed: bool = False
    twins: int = 0
    counts: np.ndarray | None = field(default=None, repr=False)
    rest: np.ndarray | None = field(default=None, repr=False)
    seen: np.ndarray | None = field(default=None, repr=False)
    relation: Relation | None = field(default=None, repr=False)

    @property
    def related(self) -> bool:
        """Whether the groups have a known covariance."""
        return self.relation is not None

    @property
    def root(self) -> np.ndarray | None:
        """Lower triangular L (m, m) of K = L L', dense; None where groups are independent.

        Raises
        ------
        DataError
            Where K comes from a sparse precision with more labels than a dense root is made for.
        """
        return None if self.relation is None else self.relation.root

    @property
    def variances(self) -> np.ndarray:
        """K's diagonal (m,); ones where groups are independent."""
        return np.ones(self.m) if self.relation is None else self.relation.variances

    @property
    def label(self) -> str:
        """Name of the grouping, "class:school"."""
        return self.level.label

    @property
    def tag(self) -> str:
        """Name in tables, which no other level has with these effects: "animal", or "animal.1" for a twin."""
        return f"{self.label}.{self.twins}" if self.twins else self.label

    @property
    def m(self) -> int:
        """Number of groups."""
        return len(self.groups)

    @property
    def r(self) -> int:
        """Number of effects per group."""
        return len(self.effects)

    @property
    def q(self) -> int:
        """Number of columns of Z, m times r."""
        return self.m * self.r

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of rows of each group, (m,)."""
        return group_sizes(self.index, self.m, self.counts)

    @property
    def lowest(self) -> np.ndarray:
        """Least value of each column, (r,)."""
        return self.columns.min(axis=0) if self.seen is None else self.seen[0]

    @property
    def highest(self) -> np.ndarray:
        """Largest value of each column, (r,)."""
        return self.columns.max(axis=0) if self.seen is None else self.seen[1]

    @property
    def filled(self) -> int:
        """Number of entries of Z that are not zero."""
        return int(np.count_nonzero(self.columns)) if self.seen is None else round(self.seen[2].sum())

    @property
    def structure(self) -> EffectStructure:
        """How the effects of a group vary together."""
        return self.level.effect_structure

    @property
    def correlated(self) -> bool:
        """Whether there are several effects per group that may be correlated."""
        return self.structure.correlated(self.r)

    @property
    def n_sds(self) -> int:
        """Number of SDs to estimate."""
        return self.structure.n_sds(self.r)

    @property
    def sd_labels(self) -> list[str]:
        """Names of the SDs: "sigma_u2", or "sigma_u2[Days]" where there are several."""
        return self.structure.sd_labels(self.name, self.effects)

    @property
    def correlation_labels(self) -> list[str]:
        """Names of the correlations, each of them once."""
        return self.structure.correlation_labels(self.name, self.effects)

    @property
    def known(self) -> bool:
        """Whether the covariance of the effects is sigma^2 K, with nothing to estimate."""
        return self.level.known

    @cached_property
    def Z(self) -> csc_array:
        """The level's block of Z, n x q, group-major: all effects of the first group, then of the second."""
        from scipy.sparse import csr_array

        n, r = self.columns.shape
        columns = (self.index * r)[:, None] + np.arange(r)
        known = self.index >= 0
        start = np.concatenate([[0], np.cumsum(known * r)])
        rows = csr_array((self.columns[known].ravel(), columns[known].ravel(), start), shape=(n, self.q))
        Z = rows.tocsc()
        Z.eliminate_zeros()
        return Z

    @cached_property
    def labels(self) -> pd.MultiIndex:
        """Names of the columns of Z: level, group, effect."""
        return pd.MultiIndex.from_product([[self.tag], self.groups, self.effects], names=["level", "group", "effect"])
