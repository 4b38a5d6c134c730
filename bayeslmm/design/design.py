"""The design: y, X, and per level the groups and columns that make Z; and new rows encoded like them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from bayeslmm.data.groups import find_groups
from bayeslmm.data.table import take
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design import describe as structure
from bayeslmm.design.counted import CountedRows
from bayeslmm.design.identifiability import unknown_groups
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.model_matrix import Encoder, names_in, number_of
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.design.wide import Wide, some_rows
from bayeslmm.errors import visible
from bayeslmm.families.family import Outcome
from bayeslmm.formula.parse import columns_of

if TYPE_CHECKING:
    from scipy.sparse import csc_array


class _Columns:
    """Names of the columns of Z, and their number."""

    levels: tuple[LevelDesign, ...]

    @property
    def q(self) -> int:
        """Number of columns of Z, all levels together."""
        return sum(level.q for level in self.levels)

    @cached_property
    def Z_labels(self) -> pd.MultiIndex:
        """Names of the columns of Z: level, group, effect."""
        names = ["level", "group", "effect"]
        rows = [row for level in self.levels for row in level.labels]
        return (
            pd.MultiIndex.from_tuples(rows, names=names) if rows else pd.MultiIndex.from_arrays([[]] * 3, names=names)
        )


class _Rows(_Columns):
    """What rows have in common, whether the model was built on them or they are new."""

    columns: np.ndarray | Wide

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.columns.shape[0]

    @property
    def p(self) -> int:
        """Number of columns of X."""
        return self.columns.shape[1]

    @property
    def X(self) -> np.ndarray:
        """The columns of the fixed part, (n, p) float64, C-contiguous; made when asked for where they are wide."""
        return np.asarray(self.columns)

    @cached_property
    def Z(self) -> csc_array:
        """All levels' Z side by side, n x q, sparse."""
        from scipy.sparse import csc_array, hstack

        if not self.levels:
            return csc_array((self.n, 0))
        return hstack([level.Z for level in self.levels], format="csc")

    @cached_property
    def Zt(self) -> csc_array:
        """Z transposed, q x n, sparse, as lme4's ``getME(m, "Zt")``."""
        return self.Z.T.tocsc()


@dataclass(frozen=True, kw_only=True, eq=False)
class NewRows(_Rows):
    """New rows, encoded as the rows of a design were.

    Attributes
    ----------
    columns : numpy.ndarray or Wide
        X.
    levels : tuple of LevelDesign
        With the groups of the design; a row of a new group has index -1, and zeros in Z.
    rows : pandas.Index
    dropped : int
    offset : numpy.ndarray or None
    new_groups : tuple of tuple of str
        Per level, the labels of groups that the design doesn't have.
    new_index : tuple of numpy.ndarray
        Per level and row, which of the new groups it belongs to, -1 where the group is known.
    """

    columns: np.ndarray | Wide
    levels: tuple[LevelDesign, ...]
    rows: pd.Index
    dropped: int = 0
    offset: np.ndarray | None = None
    new_groups: tuple[tuple[str, ...], ...] = ()
    new_index: tuple[np.ndarray, ...] = ()


class Described(_Columns):
    """What a hierarchy with its data is, whether rows are at hand or stand for others (`sources`)."""

    hierarchy: Hierarchy
    coef: tuple[str, ...]
    residual: ResidualDesign
    dropped: int
    left_out: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    offset_encoder: Encoder | None
    text_hints: tuple[str, ...]
    n: int
    p: int
    has_rows: ClassVar[bool] = True

    def __repr__(self) -> str:
        parts = [f"{level.name}: {level.label} {level.m} x {level.r}" for level in self.levels]
        parts += [] if self.residual.plain else [f"e: {self.hierarchy.residual}"]
        name = type(self).__name__
        return visible(f"{name}({self.hierarchy.response}: {self.n} rows, {self.p} columns of X; {', '.join(parts)})")

    def require_rows(self) -> None:
        """Refuse where there are none, before any work."""

    @property
    def terms(self) -> tuple[tuple[int, frozenset[str]], ...]:
        """Per column of X, its term and the columns of the data in it."""
        return self.encoders[0].terms

    def level_terms(self, k: int) -> tuple[tuple[int, frozenset[str]], ...]:
        """The same for the effects of level k."""
        return self.encoders[1 + k].terms

    def level_factors(self, k: int) -> frozenset[int]:
        """Numbers of the terms of level k that are the categories of one column of the data."""
        return self.encoders[1 + k].categorical

    @cached_property
    def hints(self) -> tuple[str, ...]:
        """What is allowed but deserves a second look, a sentence each."""
        return (*self.text_hints, *structure.hints(self))

    def describe(self) -> str:
        """Put the hierarchy in words, with counts, and the shape and fill of Z.

        Examples
        --------
        >>> from bayeslmm.design.building import build_design
        >>> h = Hierarchy.from_formula("y ~ 1 + (1 | g)")
        >>> print(build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]}).describe())
        4 rows in 2 groups of g (2 rows each).
        Fixed part: 1 column (Intercept).
        u2, one per g: Intercept. Z is 4 x 2 with 4 non-zeros (50 %).
        """
        return visible(structure.describe(self))

    def new(
        self, data: Any, allow_new_groups: bool = False, missing: str = "error", random_effects: bool = True
    ) -> NewRows:
        """Encode new rows as these ones were: the same columns of X and Z, no response needed.

        Parameters
        ----------
        data : DataFrame, Table or Mapping
        random_effects : bool
            False needs no grouping columns and makes no levels.
        allow_new_groups : bool
            Give rows of unknown groups the index -1 instead of raising an error.
        missing : {"error", "drop"}

        Examples
        --------
        >>> from bayeslmm.design.building import build_design
        >>> h = Hierarchy.from_formula("y ~ 1 + (1 | g)")
        >>> design = build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]})
        >>> design.new({"g": ["b", "c"]}, allow_new_groups=True).levels[0].index
        array([ 1, -1])
        """
        names = used_columns(self.hierarchy, response=False, random_effects=random_effects)
        frame, dropped = take(data, names, missing)
        levels, unknown, where = [], [], []
        for level, encoder in zip(self.levels, self.encoders[1:], strict=True) if random_effects else ():
            found = find_groups([frame[name] for name in level.level.group])
            known = {key: group for group, key in enumerate(level.keys)}
            codes = np.array([known.get(key, -1) for key in found.keys], dtype=np.int64)
            fresh = codes < 0
            if fresh.any() and not allow_new_groups:
                raise unknown_groups(level.level, level.groups, found, fresh, frame)
            levels.append(
                LevelDesign(
                    name=level.name,
                    level=level.level,
                    groups=level.groups,
                    effects=level.effects,
                    index=codes[found.index],
                    columns=encoder.matrix(frame),
                    keys=level.keys,
                    relatives=level.relatives,
                    relation=level.relation,
                )
            )
            unknown.append(tuple(label for label, new in zip(found.labels, fresh, strict=True) if new))
            where.append(np.where(fresh, np.cumsum(fresh) - 1, -1)[found.index])
        return NewRows(
            columns=self.encoders[0].matrix(frame),
            levels=tuple(levels),
            rows=frame.index,
            dropped=dropped,
            offset=number_of(self.offset_encoder, frame, "the offset") if self.offset_encoder else None,
            new_groups=tuple(unknown),
            new_index=tuple(where),
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Design(Described, _Rows):
    """A hierarchy with its data: everything that the likelihood needs, and what it came from.

    Attributes
    ----------
    hierarchy : Hierarchy
    y : numpy.ndarray
        (n,) float64, as it was given: its offset is in it.
    columns : numpy.ndarray or Wide
        X, (n, p) float64; wide where most of its columns are those of one factor.
    coef : tuple of str
        Names of the columns of X, formulaic's.
    levels : tuple of LevelDesign
        u2, u3, ... in the order of the hierarchy.
    residual : ResidualDesign
        R of the rows.
    rows : pandas.Index
        Labels of the rows used.
    frame : pandas.DataFrame
        The columns of the data that the hierarchy uses, in these rows, of plain types: what all the others are made of.
    dropped : int
        How many rows were left out because a value was missing.
    offset : numpy.ndarray or None
        The part of the mean whose coefficient is 1, (n,).
    left_out : tuple of str
        A sentence for each column of X or Z that was left out, because it depends on others.
    hints : tuple of str
        What is allowed but deserves a second look.
    outcome : Outcome or None
        Of another family than the Gaussian: the response with its trials or categories.
    """

    hierarchy: Hierarchy
    y: np.ndarray
    columns: np.ndarray | Wide
    coef: tuple[str, ...]
    levels: tuple[LevelDesign, ...]
    residual: ResidualDesign
    rows: pd.Index
    frame: pd.DataFrame = field(repr=False)
    dropped: int = 0
    offset: np.ndarray | None = None
    left_out: tuple[str, ...] = ()
    encoders: tuple[Encoder, ...] = field(default=(), repr=False)
    offset_encoder: Encoder | None = field(default=None, repr=False)
    text_hints: tuple[str, ...] = field(default=(), repr=False)
    outcome: Outcome | None = None

    @cached_property
    def net_y(self) -> np.ndarray:
        """The response without the offset: what X beta + Z u + e are made for."""
        return self.y if self.offset is None else self.y - self.offset

    @cached_property
    def counted(self) -> CountedRows:
        """The rows as sums over them need them, each standing for itself."""
        return CountedRows(y=self.net_y, X=self.columns)

    def part(self, rows: np.ndarray) -> NewRows:
        """Take some of these rows, with the groups of all of them.

        Examples
        --------
        >>> from bayeslmm.design.building import build_design
        >>> h = Hierarchy.from_formula("y ~ 1 + (1 | g)")
        >>> design = build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]})
        >>> design.part(np.array([1, 2])).levels[0].index
        array([0, 1])
        """
        own = (replace(level, index=level.index[rows], columns=level.columns[rows]) for level in self.levels)
        return NewRows(
            columns=some_rows(self.columns, rows),
            levels=tuple(own),
            rows=self.rows[rows],
            offset=None if self.offset is None else self.offset[rows],
        )


def used_columns(hierarchy: Hierarchy, response: bool = True, random_effects: bool = True) -> tuple[str, ...]:
    """Return the columns of the data that a hierarchy uses, each once.

    Examples
    --------
    >>> used_columns(Hierarchy.from_formula("y ~ 1 + x + (1 + x | a:b)"))
    ('y', 'x', 'a', 'b')
    """
    names = list(columns_of(hierarchy.response)) if response else []
    names += names_in(hierarchy.fixed)
    names += columns_of(f"offset({hierarchy.offset})") if hierarchy.offset else ()
    for level in hierarchy.levels if random_effects else ():
        names += [*names_in(level.effects), *level.group]
    if response:
        names += hierarchy.residual.columns
    return tuple(dict.fromkeys(names))
