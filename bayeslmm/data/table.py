"""Intake of data: whatever frame comes, plain named columns of numbers and text leave, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DataError, did_you_mean

LARGEST = 1e100  # cubes can be computed too, and squares be summed over any number of rows
KINDS = "a pandas, polars or pyarrow table, or a dict of columns"


@dataclass(frozen=True, kw_only=True, eq=False)
class Taken:
    """What `take` took out of a table; where it comes as data again, it is taken as it is.

    Attributes
    ----------
    frame : pandas.DataFrame
        Complete columns of plain types.
    dropped : int
        How many rows were left out of it.
    """

    frame: pd.DataFrame
    dropped: int = 0


def take(data: Any, names: Iterable[str], missing: str = "error") -> tuple[pd.DataFrame, int]:
    """Take the columns that a model uses out of a table, complete and of plain types.

    Numbers come back as int64, float64 or bool, text as text, categories as categories without the
    unused ones. The index holds the labels of the rows.

    Parameters
    ----------
    data : DataFrame, Table, Mapping or Taken
        A pandas, polars or pyarrow table (anything narwhals reads), or a dict of columns.
    names : iterable of str
        The columns to take; only these are looked at.
    missing : {"error", "drop"}
        What to do with rows in which one of these columns is missing.

    Returns
    -------
    frame : pandas.DataFrame
    dropped : int
        How many rows were left out.

    Examples
    --------
    >>> frame, dropped = take({"y": [1.5, None, 2.5], "g": ["a", "b", "b"]}, ["y", "g"], missing="drop")
    >>> len(frame), dropped
    (2, 1)
    """
    if missing not in ("error", "drop"):
        raise DataError(f'missing={missing!r} came; expected "error" or "drop".')
    wanted = list(dict.fromkeys(names))
    if isinstance(data, Taken):
        return data.frame[wanted], data.dropped
    frame = select(data, wanted) if wanted else pd.DataFrame(index=pd.RangeIndex(_length(data)))
    if not len(frame):
        raise DataError("The data have no rows; expected at least one row per parameter.")
    frame, dropped = _complete(frame, missing)
    came = {str(name): column for name, column in frame.items()}
    columns = {name: _plain(column) for name, column in came.items()}
    for name, column in columns.items():
        check_finite(name, column)
    if all(columns[name] is came[name] for name in came):
        return frame, dropped
    return pd.DataFrame(columns, index=frame.index, copy=False), dropped


def numbers(column: pd.Series, role: str) -> np.ndarray:
    """Return a column as float64, or say which of its values is not a number.

    Examples
    --------
    >>> numbers(pd.Series([1, 2], name="y"), "the response")
    array([1., 2.])
    """
    name = column.name
    if column.dtype.kind in "biuf":
        return column.to_numpy(dtype=np.float64)
    if column.dtype.kind == "c":
        raise DataError(
            f"{_upper(role)} {name!r} holds complex numbers; expected real ones. Use the real part or the modulus."
        )
    if holds_dates(column):
        raise DataError(
            f"{_upper(role)} {name!r} holds dates or durations (the first is {column.iloc[0]}); expected "
            "numbers. Make a column of numbers from it, such as the days since the first date."
        )
    values = column.astype(object)
    parsed = pd.to_numeric(values.map(str), errors="coerce")
    is_number = values.map(lambda value: isinstance(value, (int, float, np.number)))
    if parsed.notna().all():
        raise DataError(
            f"{_upper(role)} {name!r} holds text that looks like numbers (the first is {values.iloc[0]!r}); "
            f"expected numbers. Convert the column first: data[{name!r}] = pd.to_numeric(data[{name!r}])."
        )
    bad = parsed.isna().to_numpy()
    more = f" ({int(bad.sum())} such values in all)" if bad.sum() > 1 else ""
    what = "numbers" if is_number.any() or parsed.notna().any() else "numbers, and the whole column is text"
    raise DataError(
        f"{_upper(role)} {name!r} holds {values[bad].iloc[0]!r} in {say_rows(column.index, bad, 1)}{more}; "
        "expected "
        f'{what}. Correct the value, or make it missing and write missing="drop".'
    )


def looks_like_numbers(column: pd.Series) -> str:
    """Return "all" or "most" when a column of text looks like numbers, "" otherwise.

    "most" means that at least four in five distinct values are numbers, yet not all of them.

    Examples
    --------
    >>> looks_like_numbers(pd.Series(["3.5", "4"])), looks_like_numbers(pd.Series(["a", "4"]))
    ('all', '')
    """
    if column.dtype.kind in "biufcmM" or isinstance(column.dtype, pd.CategoricalDtype):
        return ""
    good = pd.to_numeric(pd.Series(column.unique()).map(str), errors="coerce").notna().to_numpy()
    if good.all():
        return "all"
    return "most" if good.sum() >= 4 * (~good).sum() else ""


def holds_dates(column: pd.Series) -> bool:
    """Say whether a column holds dates, times or durations.

    Examples
    --------
    >>> holds_dates(pd.Series(pd.to_datetime(["2020-01-01"])))
    True
    """
    if column.dtype.kind in "mM" or isinstance(column.dtype, pd.PeriodDtype):
        return True
    if column.dtype != object:
        return False
    return pd.api.types.infer_dtype(column) in (
        "date",
        "datetime",
        "datetime64",
        "time",
        "timedelta",
        "period",
    )


def check_one_type(column: pd.Series) -> None:
    """Refuse a column in which 1, "1" and True stand side by side.

    Examples
    --------
    >>> check_one_type(pd.Series(["a", "b"], name="g"))
    """
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    if values.dtype != object or not pd.api.types.infer_dtype(values).startswith("mixed"):
        return
    values = column.astype(object)
    kinds = values.map(lambda value: type(value).__name__).to_numpy()
    firsts = np.sort(np.unique(kinds, return_index=True)[1])
    found = ", ".join(f"{values.iloc[i]!r} ({kinds[i]}, row {column.index[i]})" for i in firsts)
    name = column.name
    raise DataError(
        f"Column {name!r} mixes types: {found}; expected one type, because 1, '1' and True could be meant "
        f"as the same or as different values. If the text tells them apart: data[{name!r}] = "
        f"data[{name!r}].map(str)."
    )


def check_finite(name: str, column: pd.Series) -> None:
    """Refuse a column with infinite values, counting them.

    Examples
    --------
    >>> check_finite("x", pd.Series([1.0, 2.0]))
    """
    if column.dtype.kind not in "fc":
        return
    bad = ~np.isfinite(column.to_numpy())
    if bad.any():
        raise DataError(
            f"Column {name!r} has {count(bad.sum(), 'infinite value')} ({say_rows(column.index, bad)}); "
            "expected "
            f'finite numbers. Correct them, or make them missing (NaN) and write missing="drop".'
        )


def check_size(what: str, values: np.ndarray) -> None:
    """Refuse values whose sum of squares would over- or underflow: the largest has to lie between 1e-100 and 1e100.

    Zeros alone are no matter of size.

    Examples
    --------
    >>> check_size("y", np.array([0.0, 2.0]))
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest > LARGEST or 0 < largest < 1 / LARGEST:
        raise DataError(
            f"The largest value of {what} is {largest:.3g} in size, too {'large' if largest > 1 else 'small'} to be "
            f"squared and summed; expected it between {1 / LARGEST:g} and {LARGEST:g}. Rescale it: choose a unit "
            "in which its values are of ordinary size."
        )


def say_rows(labels: pd.Index, mask: np.ndarray, limit: int = 5) -> str:
    """Name the first few rows that a mask marks.

    Examples
    --------
    >>> say_rows(pd.RangeIndex(9), np.arange(9) > 5, 2)
    'rows 6, 7 and 1 more'
    """
    where = np.flatnonzero(mask)
    shown = [str(labels[i]) for i in where[:limit]]
    if len(where) == 1:
        return f"row {shown[0]}"
    if len(where) > limit > 1:
        return f"rows {', '.join(shown)} and {len(where) - limit} more"
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}" if limit > 1 else f"row {shown[0]}"


def select(data: Any, names: Sequence[str]) -> pd.DataFrame:
    """Take named columns out of a table, as they are."""
    if isinstance(data, pd.DataFrame):
        check_names(list(data.columns), names)
        return pd.DataFrame({name: data[name] for name in names}, index=data.index, copy=False)
    if isinstance(data, Mapping):
        check_names(list(data), names)
        return _from_mapping({name: data[name] for name in names})
    return _from_narwhals(data, names)


def _length(data: Any) -> int:
    return len(next(iter(data.values()), ())) if isinstance(data, Mapping) else len(data)


def check_names(columns: list, names: Sequence[str]) -> None:
    """Refuse a table that lacks a column, or has it twice.

    Examples
    --------
    >>> check_names(["y", "g"], ["g"])
    """
    for name in names:
        times = columns.count(name)
        if times == 0:
            hint = did_you_mean(name, columns)
            known = ", ".join(repr(str(column)) for column in columns[:20]) + (", ..." if len(columns) > 20 else "")
            raise DataError(f"The data have no column {name!r}.{hint} The columns are {known or 'none at all'}.")
        if times > 1:
            raise DataError(f"The data have {times} columns named {name!r}; expected one. Rename or remove the others.")


def _from_mapping(columns: Mapping[str, Any]) -> pd.DataFrame:
    series = {}
    for name, values in columns.items():
        if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
            raise DataError(
                f"Column {name!r} of the dict is the single value {values!r}; expected a column of values, "
                "such as a list or an array."
            )
        if np.ndim(values) != 1 and isinstance(values, np.ndarray):
            raise DataError(f"Column {name!r} has shape {values.shape}; expected one dimension.")
        series[name] = pd.Series(values, copy=False).reset_index(drop=True)
    lengths = {name: len(column) for name, column in series.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise DataError(f"The columns differ in length ({said}); expected one value per row in each.")
    return pd.DataFrame(series, copy=False)


def _from_narwhals(data: Any, names: Sequence[str]) -> pd.DataFrame:
    import narwhals.stable.v2 as nw

    listed = getattr(data, "column_names", None)
    if isinstance(listed, list):
        check_names(listed, names)
    try:
        table: Any = nw.from_native(data)
    except TypeError:
        raise DataError(f"Data of type {type(data).__name__} came; expected {KINDS}.") from None
    if isinstance(table, nw.LazyFrame):
        check_names(list(table.collect_schema().names()), names)
        table = table.select(list(names)).collect()
    check_names(list(table.columns), names)
    return pd.DataFrame({name: from_narwhals_column(table[name]) for name in names}, copy=False)


def from_narwhals(table: Any) -> pd.DataFrame:
    """The columns of a Narwhals frame as pandas has them.

    Examples
    --------
    >>> import narwhals.stable.v2 as nw
    >>> from_narwhals(nw.from_native(pd.DataFrame({"x": [1.5]})))["x"].tolist()
    [1.5]
    """
    return pd.DataFrame({name: from_narwhals_column(table[name]) for name in table.columns}, copy=False)


def plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a frame without missing values as plain types, as `take` returns them.

    Examples
    --------
    >>> plain_columns(pd.DataFrame({"g": pd.Categorical(["a"], categories=["a", "b"])}))["g"].cat.categories.tolist()
    ['a']
    """
    return pd.DataFrame({name: _plain(column) for name, column in frame.items()}, index=frame.index, copy=False)


def from_narwhals_column(column: Any) -> pd.Series:
    """A Narwhals column as pandas has it, categories in their order.

    Examples
    --------
    >>> import narwhals.stable.v2 as nw
    >>> from_narwhals_column(nw.from_native(pd.Series([1, 2]), series_only=True)).tolist()
    [1, 2]
    """
    import narwhals.stable.v2 as nw

    kind = column.dtype
    if kind.is_numeric() and kind != nw.Decimal:
        if column.is_null().any():
            column = column.cast(nw.Float64)
        return pd.Series(column.to_numpy(), copy=False)
    values = column.to_list()
    if kind == nw.Enum or (kind == nw.Categorical and column.implementation.is_pyarrow()):
        return pd.Series(pd.Categorical(values, categories=column.cat.get_categories().to_list()))
    return pd.Series(values, dtype=None if len(values) else object)


def _complete(frame: pd.DataFrame, missing: str) -> tuple[pd.DataFrame, int]:
    masks = {str(name): column.isna().to_numpy() for name, column in frame.items()}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks:
        return frame, 0
    incomplete = np.logical_or.reduce(list(masks.values()))
    said = "; ".join(f"{name!r} {mask.sum()} ({say_rows(frame.index, mask)})" for name, mask in masks.items())
    if missing == "error":
        total = sum(int(mask.sum()) for mask in masks.values())
        raise DataError(
            f"The data have {count(total, 'missing value')}: {said}; expected complete columns. Fill them "
            "in, or "
            f'write missing="drop" to leave {count(incomplete.sum(), "row")} of {len(frame)} out.'
        )
    if incomplete.all():
        raise DataError(f"Every row has a missing value, so no row is left: {said}.")
    return frame[~incomplete], int(incomplete.sum())


def _plain(column: pd.Series) -> pd.Series:
    """Turn any pandas column without missing values into a plain one."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        if isinstance(column.dtype.categories.dtype, pd.CategoricalDtype):
            return column.astype(object)
        return column.cat.remove_unused_categories()
    if column.dtype in (np.dtype(np.float64), np.dtype(np.int64)):
        return column
    kind = column.dtype.kind
    if kind == "O" and column.dtype == object:
        kind = {
            "integer": "i",
            "floating": "f",
            "mixed-integer-float": "f",
            "decimal": "f",
            "boolean": "b",
            "complex": "c",
        }.get(pd.api.types.infer_dtype(column), "O")
    if kind in "iu":
        # integers beyond int64 live on as float64
        if kind == "i" and column.dtype.kind == "i":
            return pd.Series(column.to_numpy(dtype=np.int64), index=column.index, name=column.name, copy=False)
        big = max(abs(int(column.max())), abs(int(column.min()))) > np.iinfo(np.int64).max
        return pd.Series(_converted(column, np.float64 if big else np.int64), column.index, name=column.name)
    target = {"f": np.float64, "b": np.bool_, "c": np.complex128}.get(kind)
    if target is not None:
        return pd.Series(_converted(column, target), index=column.index, name=column.name, copy=False)
    if isinstance(column.dtype, pd.StringDtype) and column.dtype.na_value is not pd.NA:
        return column
    if isinstance(column.dtype, pd.api.extensions.ExtensionDtype) and column.dtype.kind not in "mM":
        return pd.Series(column.tolist(), index=column.index, name=column.name)
    return column


def _converted(column: pd.Series, kind: type) -> np.ndarray:
    try:
        return column.to_numpy(dtype=kind)
    except OverflowError:
        raise DataError(
            f"Column {column.name!r} holds a whole number beyond {np.finfo(np.float64).max:.2g}, too large to compute "
            "with; expected smaller ones. Rescale the column; or, if it only groups, make it text: "
            f"data[{column.name!r}] = data[{column.name!r}].map(str)."
        ) from None


def count(number: int, noun: str) -> str:
    """Say how many: "1 row", "2 rows".

    Examples
    --------
    >>> count(1, "row"), count(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
