"""Rows of data under a scope: encoded as the model's were, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.data.groups import find_groups
from bayeslmm.data.table import take
from bayeslmm.description.hierarchy import Level
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.model_matrix import names_in, number_of
from bayeslmm.design.wide import some_rows
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.formula.parse import columns_of
from bayeslmm.predictions.linear import Fresh, Linear
from bayeslmm.predictions.scopes.scope import Found, Scope, Taken
from bayeslmm.support.text import listed

BLOCK = 50_000  # rows that are encoded at a time,
NUMBERS = 10_000_000  # and of X


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows under a scope.

    Attributes
    ----------
    design : Design
    frame : pandas.DataFrame
        The columns that are used, complete.
    scopes : tuple of Scope
        Per level.
    taken : tuple of Taken
        Per level, whose effects each row takes.
    dropped : int
        How many rows were left out because a value was missing.
    """

    design: Design
    frame: pd.DataFrame
    scopes: tuple[Scope, ...]
    taken: tuple[Taken, ...]
    dropped: int = 0

    @classmethod
    def read(
        cls, design: Design, data: Any, scopes: tuple[Scope, ...], missing: str = "error", also: Sequence[str] = ()
    ) -> Self:
        """Take the columns out of `data`, those in `also` too; the model's own rows where it is None.

        Raises
        ------
        DataError
            Where a column is missing, or groups that the scope can't take are there.
        """
        if data is None:
            frame, dropped = design.frame, 0
        else:
            frame, dropped = _take(design, data, scopes, missing, also)
        taken = tuple(_take_groups(level, scope, frame) for level, scope in zip(design.levels, scopes, strict=True))
        return cls(design=design, frame=frame, scopes=scopes, taken=taken, dropped=dropped)

    def changed(self, name: str, values: Any) -> Self:
        """The same rows with another column `name`; where it is a grouping, in other groups."""
        frame = self.frame.assign(**{name: values})
        taken = tuple(
            _take_groups(level, scope, frame) if name in level.level.group else own
            for level, scope, own in zip(self.design.levels, self.scopes, self.taken, strict=True)
        )
        return replace(self, frame=frame, taken=taken)

    def part(self, some: slice) -> Self:
        """Some of the rows."""
        taken = tuple(replace(own, seen=own.seen[some], fresh=own.fresh[some]) for own in self.taken)
        return replace(self, frame=self.frame.iloc[some], taken=taken)

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.frame)

    @property
    def means(self) -> tuple[np.ndarray | None, ...]:
        """Per level, the weights of the groups in the mean that all rows take."""
        return tuple(own.mean for own in self.taken)

    def blocks(self) -> Iterator[slice]:
        """Rows that are encoded at a time."""
        step = min(BLOCK, 1 + NUMBERS // (1 + self.design.p))
        for first in range(0, self.n, step):
            yield slice(first, min(first + step, self.n))

    def linear(self, rows: slice) -> Linear:
        """Offset + X beta + Z u of some rows."""
        design, part = self.design, self.frame.iloc[rows]
        columns = [
            encoder.matrix(part) if scope.needs_effects else None
            for scope, encoder in zip(self.scopes, design.encoders[1:], strict=True)
        ]
        offset = number_of(design.offset_encoder, part, "the offset") if design.offset_encoder else np.zeros(len(part))
        return self.assembled(rows, offset, design.encoders[0].matrix(part), columns)

    def assembled(self, rows: slice, offset: np.ndarray, X: np.ndarray, columns: list[np.ndarray | None]) -> Linear:
        """Offset + X beta + Z u of some rows with these numbers; `columns` are those of each level's effects."""
        from scipy.sparse import csr_array

        n, at, mean_at = len(X), 0, self.design.q
        values, where, fresh = [np.zeros((n, 0))], [np.zeros((n, 0), dtype=np.int64)], []
        for level, taken, given in zip(self.design.levels, self.taken, columns, strict=True):
            own, seen = np.zeros((n, level.r)) if given is None else given, taken.seen[rows]
            index = np.full(n, mean_at) if taken.mean is not None else np.where(seen >= 0, at + seen * level.r, -1)
            values.append(own)
            where.append(np.where(index[:, None] >= 0, index[:, None] + np.arange(level.r), -1))
            fresh.append(_fresh(level, taken, own, rows))
            at += level.q
            mean_at += level.r
        data, column = np.concatenate(values, axis=1), np.concatenate(where, axis=1)
        used = column >= 0
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
        Z = csr_array((data[used], column[used], starts), shape=(n, mean_at))
        return Linear(constant=offset, X=X, Z=Z, fresh=tuple(fresh))


def _fresh(level: LevelDesign, taken: Taken, columns: np.ndarray, rows: slice) -> Fresh:
    from scipy.sparse import csr_array

    n, r = columns.shape
    own = taken.fresh[rows]
    used = own >= 0
    column = (own[used, None] * r + np.arange(r)).ravel()
    starts = np.concatenate([[0], np.cumsum(used * r)])
    weights = csr_array((columns[used].ravel(), column, starts), shape=(n, len(taken.labels) * r))
    return Fresh(labels=taken.labels, r=r, weights=weights)


def predictors(design: Design) -> tuple[str, ...]:
    """Columns of the data that the mean is made of, groupings left out."""
    names = [*names_in(design.hierarchy.fixed)]
    names += columns_of(f"offset({design.hierarchy.offset})") if design.hierarchy.offset else ()
    for level in design.hierarchy.levels:
        names += names_in(level.effects)
    return tuple(dict.fromkeys(names))


def used_by(design: Design, scopes: tuple[Scope, ...]) -> tuple[str, ...]:
    """Columns of the data that rows need under these scopes."""
    names = [*names_in(design.hierarchy.fixed)]
    names += columns_of(f"offset({design.hierarchy.offset})") if design.hierarchy.offset else ()
    for level, scope in zip(design.hierarchy.levels, scopes, strict=True):
        names += names_in(level.effects) if scope.needs_effects else ()
        names += level.group if scope.needs_groups else ()
    return tuple(dict.fromkeys(names))


def _take(
    design: Design, data: Any, scopes: tuple[Scope, ...], missing: str, also: Sequence[str]
) -> tuple[pd.DataFrame, int]:
    names = used_by(design, scopes)
    try:
        return take(data, [*names, *also], missing)
    except DataError as error:
        text, residual = str(error), design.hierarchy.residual
        groups = {
            name: scope.name
            for level, scope in zip(design.hierarchy.levels, scopes, strict=True)
            for name in level.group
            if scope.needs_groups
        }
        for name in (*names, *also):
            if f"The data have no column {name!r}." not in text:
                continue
            if name in groups:
                if groups[name] == "new":
                    text += " Under scope='new' any label will do; rows with the same one are of one new group."
                text += " Without groups write scope='population' (u = 0) or scope='average' (their mean)."
            elif name == residual.weights:
                text += (
                    f" A new observation has the variance sigma^2 / {name}: give each row its weight, 1 for sigma^2."
                )
            elif name in residual.columns:
                text += " New observations need what the residuals' covariance is made of; kind='mean' doesn't."
            raise DataError(text) from None
        raise


def _take_groups(level: LevelDesign, scope: Scope, frame: pd.DataFrame) -> Taken:
    found = Found(rows=frame.index)
    if scope.needs_groups:
        groups = find_groups([frame[name] for name in level.level.group])
        known = {key: group for group, key in enumerate(level.keys)}
        code = np.array([known.get(key, -1) for key in groups.keys], dtype=np.int64)
        found = Found(rows=frame.index, groups=groups, code=code)
    taken = scope.take(level, found)
    if taken.labels and level.related and scope.integrates:
        raise DescriptionError(
            f"{level.label} has a known covariance, so that no variance is that of all its groups; scope='average' "
            "averages over those that were seen, scope='population' has none of their effects."
        )
    if taken.labels and level.related:
        raise _outside(level.level, taken.labels, inside=found.code is not None and bool(np.all(found.code >= 0)))
    return taken


def _outside(level: Level, labels: tuple[str, ...], inside: bool) -> DescriptionError:
    if inside:
        return DescriptionError(
            f"{level.label} has a known covariance, in which these groups ({listed(labels, 3)}) stand; new ones with "
            "the same labels have no place in it. Write scope='observed' for these and scope='population' for u = 0; "
            "for a group without rows, give the model a covariance that has it: labels without rows are allowed."
        )
    return DescriptionError(
        f"{level.label} has a known covariance, and new groups ({listed(labels, 3)}) are not in it; give the model a "
        "covariance that has them: labels without rows are allowed."
    )


def seen_rows(design: Design, rows: np.ndarray) -> Linear:
    """What the model says of some of its own rows, with their groups' effects."""
    from scipy.sparse import csr_array

    n, size = len(rows), design.q + sum(level.r for level in design.levels)
    data, column, fresh, at = [np.zeros((n, 0))], [np.zeros((n, 0), dtype=np.int64)], [], 0
    for level in design.levels:
        data.append(level.columns[rows])
        column.append(at + level.index[rows][:, None] * level.r + np.arange(level.r))
        fresh.append(Fresh(labels=(), r=level.r, weights=csr_array((n, 0))))
        at += level.q
    values, columns = np.concatenate(data, axis=1), np.concatenate(column, axis=1)
    starts = np.arange(n + 1) * values.shape[1]
    Z = csr_array((values.ravel(), columns.ravel(), starts), shape=(n, size))
    offset = np.zeros(n) if design.offset is None else design.offset[rows]
    return Linear(constant=offset, X=np.asarray(some_rows(design.columns, rows)), Z=Z, fresh=tuple(fresh))
