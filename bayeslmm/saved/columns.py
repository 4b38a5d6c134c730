"""Columns as texts that give the same column again: numbers bit for bit, categories in their order, dates, labels."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, override

import numpy as np
import pandas as pd

from bayeslmm.errors import DataError

Record = dict[str, Any]
"""What has to be known beside its texts to make a column again, as JSON has it."""


class Kind(ABC):
    """A kind of column, and how it is written."""

    name = ""

    @abstractmethod
    def fits(self, column: pd.Series) -> bool:
        """Whether the column is of this kind."""

    @abstractmethod
    def record(self, column: pd.Series) -> Record:
        """What has to be known beside the texts."""

    @abstractmethod
    def texts(self, column: pd.Series) -> list[str]:
        """One text per value."""

    @abstractmethod
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        """The column again."""


class Numbers(Kind):
    """float64, int64 and the like, as the shortest decimals that are read back as the same number."""

    name = "numbers"

    @override
    def fits(self, column: pd.Series) -> bool:
        return isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf"

    @override
    def record(self, column: pd.Series) -> Record:
        return {"dtype": column.dtype.name}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        return list(map(repr, column.tolist()))

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        dtype = np.dtype(record["dtype"])
        make: Any = float if dtype.kind == "f" else int
        return pd.Series(np.array([make(text) for text in texts], dtype=dtype))


class Truths(Kind):
    """True and False."""

    name = "truths"

    @override
    def fits(self, column: pd.Series) -> bool:
        return column.dtype == np.bool_

    @override
    def record(self, column: pd.Series) -> Record:
        return {}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        return list(map(str, column.tolist()))

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        return pd.Series(np.array([{"True": True, "False": False}[text] for text in texts], dtype=bool))


class Texts(Kind):
    """Texts, with any characters."""

    name = "texts"

    @override
    def fits(self, column: pd.Series) -> bool:
        if isinstance(column.dtype, pd.StringDtype):
            return True
        return column.dtype == object and all(type(value) is str for value in column.tolist())

    @override
    def record(self, column: pd.Series) -> Record:
        return {"dtype": "object" if column.dtype == object else "str"}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        return column.tolist()

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        return pd.Series(list(texts), dtype=record["dtype"])


class Dates(Kind):
    """Dates and times of pandas, in UTC where they have a time zone."""

    name = "dates"

    @override
    def fits(self, column: pd.Series) -> bool:
        return column.dtype.kind == "M"

    @override
    def record(self, column: pd.Series) -> Record:
        return {"dtype": str(column.dtype)}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        naive = column if isinstance(column.dtype, np.dtype) else column.dt.tz_convert("UTC").dt.tz_localize(None)
        return np.datetime_as_string(naive.to_numpy()).tolist()

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        dtype: Any = pd.api.types.pandas_dtype(record["dtype"])
        unit = np.datetime_data(dtype)[0] if isinstance(dtype, np.dtype) else dtype.unit
        column = pd.Series(np.array(list(texts), dtype=f"datetime64[{unit}]"))
        return column if isinstance(dtype, np.dtype) else column.dt.tz_localize("UTC").dt.tz_convert(dtype.tz)


class Durations(Kind):
    """Durations, as whole numbers of their unit."""

    name = "durations"

    @override
    def fits(self, column: pd.Series) -> bool:
        return column.dtype.kind == "m"

    @override
    def record(self, column: pd.Series) -> Record:
        return {"dtype": str(column.dtype)}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        return list(map(str, column.to_numpy().astype(np.int64).tolist()))

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        return pd.Series(np.array(list(map(int, texts)), dtype=np.int64).view(np.dtype(record["dtype"])))


class Periods(Kind):
    """Months, quarters and the like, as their number since 1970."""

    name = "periods"

    @override
    def fits(self, column: pd.Series) -> bool:
        return isinstance(column.dtype, pd.PeriodDtype)

    @override
    def record(self, column: pd.Series) -> Record:
        return {"dtype": str(column.dtype)}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        return list(map(str, pd.PeriodIndex(column).asi8.tolist()))

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        freq = pd.PeriodDtype.construct_from_string(record["dtype"]).freq
        return pd.Series(pd.PeriodIndex.from_ordinals(list(map(int, texts)), freq=freq))


class Intervals(Kind):
    """Intervals, as `pandas.cut` makes them: both ends."""

    name = "intervals"

    @override
    def fits(self, column: pd.Series) -> bool:
        return isinstance(column.dtype, pd.IntervalDtype)

    @override
    def record(self, column: pd.Series) -> Record:
        array = pd.arrays.IntervalArray(column)
        return {"closed": array.closed, "ends": describe(pd.Series(array.left))}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        array = pd.arrays.IntervalArray(column)
        ends = [to_texts(pd.Series(end)) for end in (array.left, array.right)]
        return [f"{low} {high}" for low, high in zip(*ends, strict=True)]

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        pairs = [text.split(" ") for text in texts]
        low, high = (to_column([pair[k] for pair in pairs], record["ends"]) for k in (0, 1))
        return pd.Series(pd.arrays.IntervalArray.from_arrays(pd.Index(low), pd.Index(high), closed=record["closed"]))


class Categories(Kind):
    """Categories in their order, whatever they are themselves."""

    name = "categories"

    @override
    def fits(self, column: pd.Series) -> bool:
        return isinstance(column.dtype, pd.CategoricalDtype)

    @override
    def record(self, column: pd.Series) -> Record:
        own = pd.Series(column.cat.categories)
        return {"ordered": bool(column.cat.ordered), "categories": to_texts(own), "of": describe(own)}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        labels = to_texts(pd.Series(column.cat.categories))
        return [labels[code] for code in column.cat.codes.tolist()]

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        labels = record["categories"]
        code = {label: k for k, label in enumerate(labels)}
        dtype = pd.CategoricalDtype(pd.Index(to_column(labels, record["of"])), ordered=record["ordered"])
        return pd.Series(pd.Categorical.from_codes([code[text] for text in texts], dtype=dtype))


_OBJECTS: dict[type, tuple[Any, Any]] = {
    str: (str, str),
    bool: (str, {"True": True, "False": False}.__getitem__),
    int: (str, int),
    type(None): (str, {"None": None}.__getitem__),
    float: (repr, float),
    date: (date.isoformat, date.fromisoformat),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (
        lambda value: f"{value.days} {value.seconds} {value.microseconds}",
        lambda text: timedelta(*map(int, text.split())),
    ),
}


class Objects(Kind):
    """Python's own dates, and columns of several types: each value with the name of its type."""

    name = "objects"

    @override
    def fits(self, column: pd.Series) -> bool:
        return column.dtype == object and all(type(value) in _OBJECTS for value in column.tolist())

    @override
    def record(self, column: pd.Series) -> Record:
        return {}

    @override
    def texts(self, column: pd.Series) -> list[str]:
        return [json.dumps([type(value).__name__, _OBJECTS[type(value)][0](value)]) for value in column.tolist()]

    @override
    def column(self, texts: Sequence[str], record: Record) -> pd.Series:
        by_name = {kind.__name__: read for kind, (_, read) in _OBJECTS.items()}
        values = (json.loads(text) for text in texts)
        return pd.Series([by_name[name](text) for name, text in values], dtype=object)


_NUMPY: tuple[Kind, ...] = (Truths(), Numbers(), Texts(), Dates(), Durations())
KINDS = {kind.name: kind for kind in (*_NUMPY, Periods(), Intervals(), Categories(), Objects())}


def describe(column: pd.Series) -> Record:
    """The kind of a column, and what its texts don't say.

    Raises
    ------
    DataError
        For a column of objects that can't be written as texts.

    Examples
    --------
    >>> describe(pd.Series([1.5, 2.0]))
    {'kind': 'numbers', 'dtype': 'float64'}
    """
    kind = _kind_of(column)
    return {"kind": kind.name, **kind.record(column)}


def to_texts(column: pd.Series) -> list[str]:
    """One text per value.

    Examples
    --------
    >>> to_texts(pd.Series([0.1, 1e300]))
    ['0.1', '1e+300']
    """
    return _kind_of(column).texts(column)


def to_column(texts: Sequence[str], record: Record) -> pd.Series:
    """The column that was written as these texts.

    Examples
    --------
    >>> to_column(["b", "a"], describe(pd.Series(["x"]))).tolist()
    ['b', 'a']
    """
    return KINDS[record["kind"]].column(texts, record)


def _kind_of(column: pd.Series) -> Kind:
    for kind in KINDS.values():
        if kind.fits(column):
            return kind
    value = column.iloc[0] if len(column) else None
    named = f"The column {column.name!r}" if column.name is not None else "The labels of the rows"
    raise DataError(
        f"{named} cannot be saved: it holds {type(value).__name__} objects ({column.dtype}), which have no exact text; "
        "expected numbers, texts, truths, dates, durations, periods, intervals or categories of these. "
        f"Make it text before the model is made: data[{column.name!r}] = data[{column.name!r}].map(str)."
    )
