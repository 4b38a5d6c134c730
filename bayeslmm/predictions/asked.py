"""What a table of predictions is asked for: which result, whose effects, averaged over which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DataError, DescriptionError, did_you_mean
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.model import Model
from bayeslmm.posterior.draws import check_tree
from bayeslmm.predictions.from_draws import Draws
from bayeslmm.predictions.from_fit import FitResult
from bayeslmm.predictions.linear import Linear
from bayeslmm.predictions.results import Result
from bayeslmm.predictions.scopes.scope import Scope


def result_of(model: Model, result: Any, call: str) -> Result:
    """A fit or a posterior of this model, as predictions read it; `call` is what to write.

    Raises
    ------
    DataError
        For what is neither, or comes from another model.
    """
    if isinstance(result, LikelihoodFit):
        if result.design is not model.design:
            raise DataError(f"The fit comes from another model. Write {call} with lmm.ml() or lmm.reml() of this one.")
        return FitResult(fit=result)
    if not hasattr(result, "children"):
        raise DataError(
            f"A {type(result).__name__} came as the result; expected a fit, lmm.ml() or lmm.reml(), or a posterior, "
            f"lmm.sample(). Write {call}."
        )
    check_tree(model.design, "given", result, True, f"Write tree = lmm.sample(), then {call} with the whole tree.")
    return Draws.of(model.design, result)


def check_level(level: Any) -> float:
    """Refuse a coverage that isn't between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.floating) or not 0 < level < 1:
        raise DescriptionError(
            f"level={level!r}; expected the interval's coverage between 0 and 1, such as level=0.95."
        )
    return float(level)


@dataclass(frozen=True, kw_only=True)
class By:
    """Which rows are averaged: each by itself, all of them, or those that are alike in some columns.

    Attributes
    ----------
    columns : tuple of str
    each : bool
        Each row by itself.
    """

    columns: tuple[str, ...] = ()
    each: bool = False

    @classmethod
    def of(cls, asked: Any, usual: bool) -> By:
        """Of ``by=``: names of columns, True for all rows, False for each row; None is `usual`."""
        if asked is None:
            asked = usual
        if isinstance(asked, bool | np.bool_):
            return cls(each=not asked)
        names = (asked,) if isinstance(asked, str) else tuple(asked) if isinstance(asked, Sequence) else ()
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise DescriptionError(
                f"by={asked!r}; expected a column or a list of columns, True to average over all rows, or False for "
                "each row by itself."
            )
        return cls(columns=names)

    def groups(self, frame: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
        """(the group of each row, the groups' values in the columns)."""
        if not self.columns:
            return np.zeros(len(frame), dtype=np.int64), pd.DataFrame(index=pd.RangeIndex(1))
        missing = [name for name in self.columns if name not in frame.columns]
        if missing:
            known = ", ".join(map(repr, frame.columns))
            raise DataError(
                f"by names {missing[0]!r}, which is no column that the model uses; it uses {known}. Pass data= with it."
            )
        grouped = frame.groupby(list(self.columns), sort=True, observed=True)
        values = grouped.size().index.to_frame(index=False)
        return grouped.ngroup().to_numpy(), values

    @property
    def words(self) -> str:
        """What is averaged, for a note."""
        if self.each:
            return ""
        return f"averaged over the rows of each {', '.join(self.columns)}" if self.columns else "averaged over all rows"


@dataclass(frozen=True, kw_only=True, eq=False)
class Differences:
    """Differences of averages, instead of these themselves.

    Attributes
    ----------
    pairs : tuple of (int, int)
        Each the place of what is subtracted, and of what it is subtracted from.
    columns : pandas.DataFrame
        What to say of each.
    """

    pairs: tuple[tuple[int, int], ...]
    columns: pd.DataFrame

    @classmethod
    def of(cls, asked: Any, by: By, columns: pd.DataFrame) -> Differences | None:
        """Of ``hypothesis=``: which averages are compared; None for none."""
        if asked is None:
            return None
        kinds: dict[str, Callable[[range], Iterable[tuple[int, int]]]]
        kinds = {"reference": _with_the_first, "sequential": pairwise, "pairwise": lambda k: combinations(k, 2)}
        if not isinstance(asked, str) or asked not in kinds:
            raise DescriptionError(
                f"hypothesis={asked!r}; expected {', '.join(map(repr, kinds))}, for differences between averages."
                f"{did_you_mean(str(asked), kinds)}"
            )
        if by.each or len(columns) < 2:
            raise DescriptionError(
                f"hypothesis={asked!r} compares averages, and there are no two of them; write by= with a column."
            )
        pairs = tuple(kinds[asked](range(len(columns))))
        names = [", ".join(map(str, row)) for row in columns.itertuples(index=False)]
        said = [f"{names[high]} - {names[low]}" for low, high in pairs]
        return cls(pairs=pairs, columns=pd.DataFrame({"hypothesis": said}))

    def taken(self, linear: Linear) -> Linear:
        """The differences of the averages."""
        low, high = (linear.rows(np.array(end)) for end in zip(*self.pairs, strict=True))
        return high.plus(low, -1.0)

    def matrix(self, count: int) -> Any:
        """The same as a sparse (pairs, count) matrix."""
        from scipy.sparse import csr_array

        low, high = (np.array(end) for end in zip(*self.pairs, strict=True))
        at = np.arange(len(low))
        values = np.concatenate([np.ones(len(at)), -np.ones(len(at))])
        places = (np.concatenate([at, at]), np.concatenate([high, low]))
        return csr_array((values, places), shape=(len(at), count))


def _with_the_first(places: range) -> list[tuple[int, int]]:
    return [(places[0], place) for place in places[1:]]


def scope_words(design: Any, scopes: tuple[Scope, ...]) -> str:
    """Whose effects are taken, level by level."""
    if not scopes:
        return ""
    alike = len({scope.name for scope in scopes}) == 1
    if alike:
        return f"Effects of groups: {scopes[0].text}."
    each = "; ".join(
        f"{level.name} ({level.label}): {scope.text}" for level, scope in zip(design.levels, scopes, strict=True)
    )
    return f"Effects of groups: {each}."


def beside(columns: pd.DataFrame, numbers: dict[str, Any]) -> pd.DataFrame:
    """The rows' columns with numbers behind them; a column with the name of a number gets "(data)" behind its own."""
    kept = columns.rename(columns={name: f"{name} (data)" for name in columns.columns if name in numbers})
    return pd.concat([kept, pd.DataFrame(numbers, index=columns.index)], axis=1)
