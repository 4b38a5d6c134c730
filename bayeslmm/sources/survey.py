"""The first pass: how many rows, what is missing, and where each number lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.data.table import count
from bayeslmm.errors import DataError
from bayeslmm.sources.expressions import Expression, State
from bayeslmm.sources.source import ask

NUMBERS, CATEGORIES, OTHER = "numbers", "categories", "other"


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Where the values of an expression lie.

    Attributes
    ----------
    mean, lowest, highest : float
    zeros : bool
        Whether zero lies between the extremes.
    """

    mean: float
    lowest: float
    highest: float

    @property
    def constant(self) -> bool:
        """Whether it is one number."""
        return self.lowest == self.highest

    @property
    def scale(self) -> float:
        """A power of two of the size of the distances from the mean, which scales without rounding; 1 where none."""
        reach = max(self.highest - self.mean, self.mean - self.lowest)
        return float(2.0 ** np.ceil(np.log2(reach))) if reach > 0 else 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What the first pass found.

    Attributes
    ----------
    table : narwhals.LazyFrame
        The rows that are used: those without missing values.
    n, dropped : int
    kinds : mapping of column to "numbers", "categories" or "other"
    """

    table: Any
    n: int
    dropped: int
    kinds: Mapping[str, str]


def kinds_of(table: Any, names: Sequence[str]) -> dict[str, str]:
    """What each column holds, by its type."""
    import narwhals.stable.v2 as nw

    schema = table.collect_schema()
    texts = (nw.String, nw.Categorical, nw.Enum)
    out = {}
    for name in names:
        kind = schema[name]
        out[name] = NUMBERS if kind.is_numeric() or kind == nw.Boolean else CATEGORIES if kind in texts else OTHER
    return out


def survey(table: Any, names: Sequence[str], missing: str) -> Survey:
    """Count rows and what is missing, null and NaN apart, and leave incomplete rows out where that is asked.

    Raises
    ------
    DataError
        For no rows, missing values without missing="drop", values that aren't finite.
    """
    import narwhals.stable.v2 as nw

    if missing not in ("error", "drop"):
        raise DataError(f'missing={missing!r} came; expected "error" or "drop".')
    kinds = kinds_of(table, names)
    schema = table.collect_schema()
    if not names:
        n = int(ask(table.select(n=nw.len()), "counting the rows")["n"].iloc[0])
        if not n:
            raise DataError("The data have no rows; expected at least one row per parameter.")
        return Survey(table=table, n=n, dropped=0, kinds=kinds)
    floats = [name for name in names if schema[name].is_float()]
    asked: dict[str, Any] = {"n": nw.len()}
    gone = []
    for k, name in enumerate(names):
        null = nw.col(name).is_null()
        asked[f"null{k}"] = _number(null)
        if name in floats:
            asked[f"nan{k}"] = _number(~null & nw.col(name).is_nan())
            asked[f"inf{k}"] = _number(~null & ~nw.col(name).is_nan() & ~nw.col(name).is_finite())
            null = null | nw.col(name).is_nan()
        gone.append(null)
    incomplete = gone[0]
    for other in gone[1:]:
        incomplete = incomplete | other
    asked["gone"] = _number(incomplete)
    found = ask(table.select(**asked), "counting rows and missing values").iloc[0].fillna(0).to_dict()
    n, dropped = int(found["n"]), int(found["gone"])
    if not n:
        raise DataError("The data have no rows; expected at least one row per parameter.")
    said, total = [], 0
    for k, name in enumerate(names):
        nulls, nans = int(found[f"null{k}"]), int(found.get(f"nan{k}", 0))
        total += nulls + nans
        parts = [f"{nulls:,} null"] * bool(nulls) + [f"{nans:,} NaN"] * bool(nans)
        said += [f"{name!r} {' and '.join(parts)}"] if parts else []
    if total and missing == "error":
        raise DataError(
            f"The data have {count(total, 'missing value')}: {'; '.join(said)}; expected complete columns. Fill them "
            f'in, or write missing="drop" to leave {count(dropped, "row")} of {n} out.'
        )
    if dropped == n:
        raise DataError(f"Every row has a missing value, so no row is left: {'; '.join(said)}.")
    for k, name in enumerate(names):
        infinite = int(found.get(f"inf{k}", 0))
        if infinite:
            raise DataError(
                f"Column {name!r} has {count(infinite, 'infinite value')}; expected finite numbers. Correct them, or "
                'make them missing (null) and write missing="drop".'
            )
    rows = table.filter(~incomplete) if dropped else table
    return Survey(table=rows, n=n - dropped, dropped=dropped, kinds=kinds)


def moments(
    table: Any, n: int, wanted: Mapping[str, Expression], state: State, doing: str = "looking at the columns"
) -> dict[str, Moments]:
    """Means and extremes of expressions, by their names.

    Raises
    ------
    DataError
        Where one is not a finite number in some rows.
    """
    import narwhals.stable.v2 as nw

    if not wanted:
        return {}
    names = list(wanted)
    rows = table.select(**{f"a{k}": lifted(wanted[name], state) for k, name in enumerate(names)})
    asked: dict[str, Any] = {}
    for k in range(len(names)):
        x = nw.col(f"a{k}")
        good = nw.when(x.is_finite()).then(x).otherwise(None)
        asked |= {f"ok{k}": good.count(), f"sum{k}": good.sum(), f"low{k}": good.min(), f"high{k}": good.max()}
    found = ask(rows.select(**asked), doing).iloc[0]
    out = {}
    for k, name in enumerate(names):
        bad = n - int(found[f"ok{k}"])
        if bad:
            raise DataError(
                f"{name} is not a finite number in {count(bad, 'row')}, though the columns it is made of are; expected "
                "finite values. A logarithm or root of a number that is zero or below is the usual cause."
            )
        low, high = float(found[f"low{k}"]), float(found[f"high{k}"])
        out[name] = Moments(mean=min(max(float(found[f"sum{k}"]) / n, low), high), lowest=low, highest=high)
    return out


def lifted(expression: Expression, state: State) -> Any:
    """The Narwhals expression of an expression, also where it is a number alone."""
    import narwhals.stable.v2 as nw

    found = expression.evaluate(state)
    return nw.lit(found) if isinstance(found, float) else found


def _number(condition: Any) -> Any:
    import narwhals.stable.v2 as nw

    return condition.cast(nw.Float64).sum()
