"""Checks of a design before it is built: what the data cannot answer is refused, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.columns import Encoder, dependencies, learn, names_in
from bayeslmm.errors import DataError
from bayeslmm.frame import check_size, numbers, say_rows
from bayeslmm.grouping import Groups
from bayeslmm.hierarchy import Level
from bayeslmm.tokens import quote


def read_response(text: str, frame: pd.DataFrame) -> np.ndarray:
    """Return the response, a column or a transform of one, and refuse one that does not vary.

    Examples
    --------
    >>> read_response("log(y)", pd.DataFrame({"y": [1.0, np.e]}))
    array([0., 1.])
    """
    for name in names_in(f"0 + {text}"):
        y = numbers(frame[name], "the response")
    if text not in frame and quote(name) != text:
        y = learn(f"0 + {text}", frame)[1][:, 0]
    check_size(f"the response {text!r}", y)
    if len(y) > 1 and (y == y[0]).all():
        raise DataError(
            f"The response {text!r} is {y[0]:g} in all {len(y)} rows; expected values that vary, because "
            "there is nothing to explain. Is it the right column?"
        )
    return y


def check_fixed(X: np.ndarray, encoder: Encoder) -> None:
    """Refuse a fixed part whose columns are too many, or depend on each other.

    Examples
    --------
    >>> encoder, X = learn("1 + x", pd.DataFrame({"x": [2.0, 2.0, 2.0]}))
    >>> check_fixed(X, encoder)
    Traceback (most recent call last):
    bayeslmm.errors.DataError: Columns of X depend on each other: x = 2 Intercept. ...
    """
    n, p = X.shape
    for name, column in zip(encoder.names, X.T, strict=True):
        check_size(f"{name!r} in the fixed part", column)
    if p >= n:
        raise DataError(
            f"The fixed part {encoder.text!r} makes {p} columns from {n} rows; expected more rows than "
            "columns. Take terms out of it."
        )
    found = dependencies(X, encoder.names)
    if found:
        raise DataError(
            f"Columns of X depend on each other: {'; '.join(found)}. Expected columns of which none is a "
            "combination of the others. Take what makes "
            f"{_quoted([equation.split(' = ')[0] for equation in found])} out of {encoder.text!r}"
            + (
                ", or write constraints='center' in cr() or cc()."
                if "cr(" in encoder.text or "cc(" in encoder.text
                else "."
            )
        )


def check_level(
    level: Level,
    groups: Sequence[str],
    index: np.ndarray,
    columns: np.ndarray,
    encoder: Encoder,
    tells_rows_apart: bool = False,
) -> None:
    """Refuse a level whose variances the data cannot tell from anything else.

    Effects of single rows are told from the residual by a known covariance between them, or by the residual's own
    structure (`tells_rows_apart`).

    Examples
    --------
    >>> encoder, columns = learn("1", pd.DataFrame(index=range(3)))
    >>> check_level(Level(group="g"), ["a"], np.zeros(3, int), columns, encoder)
    Traceback (most recent call last):
    bayeslmm.errors.DataError: g has one group only ('a'), ...
    """
    n, r = columns.shape
    m, label, term = len(groups), level.label, f"({level})"
    if r == 0:
        raise DataError(f"The term {term} has no effects; expected at least one, as in (1 | {label}).")
    for name, column in zip(encoder.names, columns.T, strict=True):
        check_size(f"{name!r} in {term}", column)
    if m == 1:
        raise DataError(
            f"{label} has one group only ({groups[0]!r}), so the variance between its groups can't be "
            f"known; expected two groups or more (better five). Leave {term} out."
        )
    like_e = level.matrix is None and not tells_rows_apart
    if like_e and m >= n:
        raise DataError(
            f"Every group of {label} has exactly one row ({m} groups in {n} rows), so the effects in {term} "
            "can't be told from the residual; expected several rows in some groups. Leave the term out, or "
            "group by less."
        )
    found = dependencies(columns, encoder.names)
    if found:
        raise DataError(
            f"The effects of {term} depend on each other: {'; '.join(found)}. Expected columns of which "
            "none is a combination of the others. Take what makes "
            f"{_quoted([equation.split(' = ')[0] for equation in found])} out of it."
        )
    if like_e and level.correlated and m * r >= n:
        raise DataError(
            f"The term {term} has {m} groups x {r} effects = {m * r} effects for {n} rows, so they are "
            "confounded with the residual: together they could fit every row. Expected fewer effects than "
            f"rows. Take effects out of it, such as by writing (1 | {label})."
        )
    if like_e and not level.correlated and np.count_nonzero(columns, axis=1).max() == 1:
        cells = pd.factorize(index * r + np.argmax(columns != 0, axis=1))[0]
        if cells.max() + 1 == n:
            raise DataError(
                f"Every effect of the term ({level.effects} || {label}) occurs in exactly one row, so the "
                "effects can't be told from the residual; expected several rows for some. Write (1 | "
                f"{label})."
            )


def unknown_groups(
    level: Level, known: Sequence[str], found: Groups, fresh: np.ndarray, frame: pd.DataFrame
) -> DataError:
    """Make the error that names the groups of new data that the model has not seen.

    Examples
    --------
    >>> from bayeslmm.grouping import find_groups
    >>> frame = pd.DataFrame({"g": ["a", "b"]})
    >>> new = np.array([False, True])
    >>> error = unknown_groups(Level(group="g"), ("a",), find_groups([frame["g"]]), new, frame)
    >>> str(error)[:55]
    "g has groups that the model was not built on: 'b' (row "
    """
    new = [label for label, is_new in zip(found.labels, fresh, strict=True) if is_new]
    listed = ", ".join(map(repr, new[:5])) + (f" and {len(new) - 5} more" if len(new) > 5 else "")
    some = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
    return DataError(
        f"{level.label} has groups that the model was not built on: {listed} "
        f"({say_rows(frame.index, fresh[found.index])}); expected some of {some}. To predict for new "
        "groups, write allow_new_groups=True."
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
