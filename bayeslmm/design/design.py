"""The design: a description and data become y, X, and per level the groups and columns that make Z."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.covariances.effects.structure import EffectStructure
from bayeslmm.data.groups import Groups, find_groups
from bayeslmm.data.known_matrix import LABEL_LIMIT
from bayeslmm.data.table import take
from bayeslmm.description.hierarchy import Hierarchy, Level
from bayeslmm.design import describe as structure
from bayeslmm.design.describe import relation
from bayeslmm.design.identifiability import (
    check_level,
    read_offset,
    read_response,
    settle_effects,
    settle_fixed,
    unknown_groups,
    without_constant,
)
from bayeslmm.design.model_matrix import INTERCEPT, Encoder, learn, names_in, number_of, text_hints
from bayeslmm.design.outcome import ResponseReader
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.errors import DataError, visible
from bayeslmm.families.family import Outcome
from bayeslmm.formula.parse import columns_of
from bayeslmm.support.text import listed

if TYPE_CHECKING:
    from scipy.sparse import csc_array

__all__ = ["Design", "LevelDesign", "NewRows", "build_design", "relation", "used_columns"]

_SAID = 5  # columns left out that a warning names


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
    root : (m, m) array, or None
        Lower triangular L of the groups' known covariance K = L L'; None where groups are independent.
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
    root: np.ndarray | None = field(default=None, repr=False)

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


class _Rows:
    """What rows have in common, whether the model was built on them or they are new."""

    X: np.ndarray
    levels: tuple[LevelDesign, ...]

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.X.shape[0]

    @property
    def p(self) -> int:
        """Number of columns of X."""
        return self.X.shape[1]

    @property
    def q(self) -> int:
        """Number of columns of Z, all levels together."""
        return sum(level.q for level in self.levels)

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

    @cached_property
    def Z_labels(self) -> pd.MultiIndex:
        """Names of the columns of Z: level, group, effect."""
        names = ["level", "group", "effect"]
        rows = [row for level in self.levels for row in level.labels]
        return (
            pd.MultiIndex.from_tuples(rows, names=names) if rows else pd.MultiIndex.from_arrays([[]] * 3, names=names)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class NewRows(_Rows):
    """New rows, encoded as the rows of a design were.

    Attributes
    ----------
    X : numpy.ndarray
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

    X: np.ndarray
    levels: tuple[LevelDesign, ...]
    rows: pd.Index
    dropped: int = 0
    offset: np.ndarray | None = None
    new_groups: tuple[tuple[str, ...], ...] = ()
    new_index: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Design(_Rows):
    """A hierarchy with its data: everything that the likelihood needs, and what it came from.

    Attributes
    ----------
    hierarchy : Hierarchy
    y : numpy.ndarray
        (n,) float64, as it was given: its offset is in it.
    X : numpy.ndarray
        (n, p) float64, C-contiguous.
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
    X: np.ndarray
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

    def __repr__(self) -> str:
        parts = [f"{level.name}: {level.label} {level.m} x {level.r}" for level in self.levels]
        parts += [] if self.residual.plain else [f"e: {self.hierarchy.residual}"]
        return visible(f"Design({self.hierarchy.response}: {self.n} rows, {self.p} columns of X; {', '.join(parts)})")

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
    def net_y(self) -> np.ndarray:
        """The response without the offset: what X beta + Z u + e are made for."""
        return self.y if self.offset is None else self.y - self.offset

    @cached_property
    def hints(self) -> tuple[str, ...]:
        """What is allowed but deserves a second look, a sentence each."""
        return (*self.text_hints, *structure.hints(self))

    def describe(self) -> str:
        """Put the hierarchy in words, with counts, and the shape and fill of Z.

        Examples
        --------
        >>> h = Hierarchy(response="y", levels=(Level(group="g"),))
        >>> print(build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]}).describe())
        4 rows in 2 groups of g (2 rows each).
        Fixed part: 1 column (Intercept).
        u2, one per g: Intercept. Z is 4 x 2 with 4 non-zeros (50 %).
        """
        return visible(structure.describe(self))

    def part(self, rows: np.ndarray) -> NewRows:
        """Take some of these rows, with the groups of all of them.

        Examples
        --------
        >>> h = Hierarchy(response="y", levels=(Level(group="g"),))
        >>> design = build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]})
        >>> design.part(np.array([1, 2])).levels[0].index
        array([0, 1])
        """
        own = (replace(level, index=level.index[rows], columns=level.columns[rows]) for level in self.levels)
        return NewRows(
            X=self.X[rows],
            levels=tuple(own),
            rows=self.rows[rows],
            offset=None if self.offset is None else self.offset[rows],
        )

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
        >>> h = Hierarchy(response="y", levels=(Level(group="g"),))
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
                    root=level.root,
                )
            )
            unknown.append(tuple(label for label, new in zip(found.labels, fresh, strict=True) if new))
            where.append(np.where(fresh, np.cumsum(fresh) - 1, -1)[found.index])
        return NewRows(
            X=self.encoders[0].matrix(frame),
            levels=tuple(levels),
            rows=frame.index,
            dropped=dropped,
            offset=number_of(self.offset_encoder, frame, "the offset") if self.offset_encoder else None,
            new_groups=tuple(unknown),
            new_index=tuple(where),
        )


def build_design(
    hierarchy: Hierarchy, data: Any, missing: str = "error", reader: ResponseReader | None = None
) -> Design:
    """Join a description and data; what doesn't fit is an error that says what came and what to write.

    Parameters
    ----------
    hierarchy : Hierarchy
    data : DataFrame, Table or Mapping
        A pandas, polars or pyarrow table, or a dict of columns.
    missing : {"error", "drop"}
        What to do with rows in which a column that the model uses has no value.
    reader : ResponseReader, optional
        Of a response that isn't Gaussian.

    Returns
    -------
    Design

    Examples
    --------
    >>> h = Hierarchy(response="y", fixed="1 + x", levels=(Level(group="g"),))
    >>> data = {"y": [1.0, 2, 3, 5], "x": [0, 1, 0, 1], "g": ["a", "a", "b", "b"]}
    >>> design = build_design(h, data)
    >>> design.coef, design.levels[0].groups
    (('Intercept', 'x'), ('a', 'b'))
    """
    if INTERCEPT in hierarchy.columns:
        raise DataError(
            f"The model uses a column called {INTERCEPT!r}, which is the name of the constant column; "
            "rename it in the data and in the formula."
        )
    frame, dropped = take(data, (*used_columns(hierarchy), *(reader.columns if reader else ())), missing)
    outcome = reader.read(frame) if reader else None
    y = read_response(hierarchy.response, frame) if outcome is None else outcome.y
    offset_encoder, offset = read_offset(hierarchy.offset, frame, hierarchy.response, y if reader is None else None)
    fixed, X = learn(hierarchy.fixed, frame)
    fixed, X, left_out = settle_fixed(X, fixed)
    if reader is not None and not reader.family.has_intercept:
        fixed, X = without_constant(fixed, X)
    residual = build_residual(hierarchy.residual, frame)
    apart, rest = residual.tells_rows_apart, "the residual"
    if reader is not None and outcome is not None:
        apart, rest = reader.family.splits_rows(outcome), f"the spread of a {reader.family.words} itself"
    encoders = [fixed]
    levels: list[LevelDesign] = []
    for name, level in zip(hierarchy.names, hierarchy.levels, strict=True):
        encoder, columns = learn(level.effects, frame)
        encoder, columns, said = settle_effects(level, columns, encoder)
        left_out += said
        found = find_groups([frame[column] for column in level.group])
        check_level(level, found.labels, found.index, columns, encoder, apart, rest)
        groups, keys, root = _with_relatives(level, found, len(encoder.names))
        levels.append(
            LevelDesign(
                name=name,
                level=level,
                groups=groups,
                effects=encoder.names,
                index=found.index,
                columns=columns,
                keys=keys,
                relatives=len(groups) - len(found.labels),
                shadowed=any(other.label == level.label and other.groups != groups for other in levels),
                twins=sum(
                    other.label == level.label and not set(other.effects).isdisjoint(encoder.names) for other in levels
                ),
                root=root,
            )
        )
        encoders.append(encoder)
    if left_out:
        more = f" {len(left_out) - _SAID} more: see describe()." if len(left_out) > _SAID else ""
        warnings.warn(" ".join(left_out[:_SAID]) + more, UserWarning, stacklevel=3)
    return Design(
        hierarchy=hierarchy,
        y=y,
        X=X,
        coef=fixed.names,
        levels=tuple(levels),
        residual=residual,
        rows=frame.index,
        frame=frame,
        dropped=dropped,
        offset=offset,
        offset_encoder=offset_encoder,
        left_out=left_out,
        encoders=tuple(encoders),
        text_hints=tuple(hint for encoder in encoders for hint in text_hints(encoder, frame)),
        outcome=outcome,
    )


def _with_relatives(level: Level, found: Groups, r: int) -> tuple[tuple, tuple, np.ndarray | None]:
    """Groups and keys, those of the data first and then the relatives without rows, and the root of K in that order."""
    if level.matrix is None:
        return found.labels, found.keys, None
    missing = [label for label in found.labels if label not in set(level.matrix.labels)]
    if missing:
        raise DataError(
            f"{level.matrix.name} of {level.label} has no {listed(missing)}, which the data have; it has "
            f"{', '.join(map(repr, level.matrix.labels[:5]))}, ... Every group of the data needs its row and column."
        )
    if level.known and r > 1:
        raise DataError(
            f"The level {level.label} has {r} effects and a covariance that is entirely known; expected one effect. "
            "Write one level per effect, such as '1' and '0 + x', each with its covariance."
        )
    if len(level.matrix.labels) > LABEL_LIMIT:
        raise DataError(
            f"{level.matrix.name} of {level.label} has {len(level.matrix.labels):,} labels; at most {LABEL_LIMIT:,} "
            "are supported, because its root is dense. Leave out relatives without rows, or fit a subset."
        )
    seen = set(found.labels)
    relatives = tuple(label for label in level.matrix.labels if label not in seen)
    width = len(level.group)
    keys = tuple((label,) if width == 1 else tuple(label.split(":", width - 1)) for label in relatives)
    groups = (*found.labels, *relatives)
    return groups, (*found.keys, *keys), level.matrix.root(groups)


def used_columns(hierarchy: Hierarchy, response: bool = True, random_effects: bool = True) -> tuple[str, ...]:
    """Return the columns of the data that a hierarchy uses, each once.

    Examples
    --------
    >>> used_columns(Hierarchy(response="y", fixed="1 + x", levels=(Level(group="a:b", effects="1 + x"),)))
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
