"""Checks of a design before it is built: what the data cannot answer is refused, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bayeslmm.data.groups import Groups
from bayeslmm.data.table import check_size, say_rows
from bayeslmm.description.hierarchy import Level
from bayeslmm.design.collinear import combinations, equation, proportional
from bayeslmm.design.model_matrix import INTERCEPT, Encoder, learn_number
from bayeslmm.errors import DataError
from bayeslmm.support.text import listed


def read_response(text: str, frame: pd.DataFrame) -> np.ndarray:
    """Return the response, a column or a transform of one, and refuse one that does not vary.

    Examples
    --------
    >>> read_response("log(y)", pd.DataFrame({"y": [1.0, np.e]}))
    array([0., 1.])
    """
    y = learn_number(text, frame, "the response")[1]
    check_size(f"the response {text!r}", y)
    if len(y) > 1 and (y == y[0]).all():
        raise DataError(
            f"The response {text!r} is {y[0]:g} in all {len(y)} rows; expected values that vary, because "
            "there is nothing to explain. Is it the right column?"
        )
    return y


def read_offset(
    text: str, frame: pd.DataFrame, response: str, y: np.ndarray | None
) -> tuple[Encoder | None, np.ndarray | None]:
    """Return the offset of each row and how it is made, None where the model has none; y minus it has to vary.

    `y` is None where the offset is on another scale than y: that of a link.

    Examples
    --------
    >>> read_offset("log(n)", pd.DataFrame({"n": [1.0, np.e]}), "y", np.array([1.0, 5.0]))[1]
    array([0., 1.])
    """
    if not text:
        return None, None
    encoder, offset = learn_number(f"I({text})", frame, "the offset")
    check_size(f"the offset {text!r}", offset)
    if y is None:
        return encoder, offset
    rest = y - offset
    if len(y) > 1 and np.ptp(rest) <= 1e-14 * max(np.abs(y).max(), np.abs(offset).max()):
        raise DataError(
            f"The response {response!r} minus the offset {text!r} is {rest[0]:g} in all {len(y)} rows; expected values "
            "that vary, because there is nothing left to explain."
        )
    return encoder, offset


def without_constant(encoder: Encoder, X: np.ndarray) -> tuple[Encoder, np.ndarray]:
    """Leave the constant out, for a model whose thresholds stand for it; factors keep their coding.

    Examples
    --------
    >>> from bayeslmm.design.model_matrix import learn
    >>> encoder, X = learn("1 + x", pd.DataFrame({"x": [2.0, 3.0]}))
    >>> without_constant(encoder, X)[0].names
    ('x',)
    """
    kept = [j for j, name in enumerate(encoder.names) if name != INTERCEPT]
    names = tuple(encoder.names[j] for j in kept)
    fewer = replace(encoder, names=names, written=encoder.written or encoder.names, left_out={})
    return fewer, np.ascontiguousarray(X[:, kept])


def settle_fixed(X: np.ndarray, encoder: Encoder, n: int | None = None) -> tuple[Encoder, np.ndarray, tuple[str, ...]]:
    """Leave out the columns of X that depend on those before them, as lme4 does, and say which.

    Parameters
    ----------
    X : (N, p) array
    encoder : Encoder
    n : int, optional
        Number of rows of the data, where those of X stand for several.

    Returns
    -------
    encoder : Encoder
    X : numpy.ndarray
    left_out : tuple of str
        A sentence for each column.

    Examples
    --------
    >>> from bayeslmm.design.model_matrix import learn
    >>> encoder, X = learn("1 + x", pd.DataFrame({"x": [2.0, 2.0, 2.0]}))
    >>> settle_fixed(X, encoder)[2]
    ('x is left out of the fixed part, because x = 2 Intercept in every row.',)
    """
    for name, column in zip(encoder.names, X.T, strict=True):
        check_size(f"{name!r} in the fixed part", column)
    found = combinations(X)
    n, p = n or len(X), X.shape[1] - len(found)
    if p >= n:
        more = "" if not found else f", {p} of them independent"
        raise DataError(
            f"The fixed part {encoder.text!r} makes {X.shape[1]} columns from {n} rows{more}; expected more rows than "
            "columns. Take terms out of it."
        )
    spline = "cr(" in encoder.text or "cc(" in encoder.text
    hint = " For a spline beside an intercept write constraints='center' in cr() or cc()." if spline else ""
    encoder, X, said = _leave_out(encoder, X, found, "the fixed part")
    return encoder, X, tuple(sentence + hint for sentence in said)


def settle_effects(level: Level, columns: np.ndarray, encoder: Encoder) -> tuple[Encoder, np.ndarray, tuple[str, ...]]:
    """Leave out effects that change nothing about what a level can say, and say which.

    Correlated effects: columns that are a combination of those before them, since every covariance that they could
    add is one of the others' already. Independent effects: columns that are zero or a multiple of another. Of
    other structures none: to leave out an effect would be another model.

    Examples
    --------
    >>> from bayeslmm.design.model_matrix import learn
    >>> encoder, columns = learn("1 + x", pd.DataFrame({"x": [0.0, 0.0]}))
    >>> settle_effects(Level(group="g", effects="1 + x"), columns, encoder)[2]
    ('x is left out of (1 + x | g), because x = 0 in every row.',)
    """
    found = combinations(columns) if level.effect_structure.paired else {}
    found = found if level.correlated else proportional(columns)
    return _leave_out(encoder, columns, found, level.term)


def _leave_out(
    encoder: Encoder, matrix: np.ndarray, found: dict[int, np.ndarray], place: str
) -> tuple[Encoder, np.ndarray, tuple[str, ...]]:
    if not found:
        return encoder, matrix, ()
    fewer = encoder.without(found)
    kept = [j for j in range(matrix.shape[1]) if j not in found]
    said = tuple(
        f"{name} is left out of {place}, because {equation(fewer.names, name, coefficients)} in every row."
        for name, coefficients in fewer.left_out.items()
    )
    return fewer, np.ascontiguousarray(matrix[:, kept]), said


def check_level(
    level: Level,
    groups: Sequence[str],
    index: np.ndarray,
    columns: np.ndarray,
    encoder: Encoder,
    tells_rows_apart: bool = False,
    rest: str = "the residual",
    rows: int | None = None,
) -> None:
    """Refuse a level whose variances the data cannot tell from anything else.

    Effects of single rows are told from the residual by a known covariance between them, or by the residual's own
    structure (`tells_rows_apart`); `rest` is what they can't be told from. `rows` is the number of rows of the data,
    where those here stand for several.

    Examples
    --------
    >>> from bayeslmm.design.model_matrix import learn
    >>> encoder, columns = learn("1", pd.DataFrame(index=range(3)))
    >>> check_level(Level(group="g"), ["a"], np.zeros(3, int), columns, encoder)
    Traceback (most recent call last):
    bayeslmm.errors.DataError: g has one group only ('a'), ...
    """
    n, r = rows or len(columns), columns.shape[1]
    m, label, term = len(groups), level.label, level.term
    if r == 0:
        raise DataError(f"The term {term} has no effects; expected at least one, as in (1 | {label}).")
    structure = level.effect_structure
    if r < structure.least:
        raise DataError(
            f"The term {term} has one effect ({encoder.names[0]}), and {structure.name} is {structure.text}; expected "
            f"{structure.least} effects or more. Write a factor, as in {structure.bar('0 + C(time)', label)}, or "
            f"(1 | {label})."
        )
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
            f"can't be told from {rest}; expected several rows in some groups. Leave the term out, or "
            "group by less."
        )
    if like_e and level.effect_structure.paired and m * r >= n:
        raise DataError(
            f"The term {term} has {m} groups x {r} effects = {m * r} effects for {n} rows, so they are "
            f"confounded with {rest}: together they could fit every row. Expected fewer effects than "
            f"rows. Take effects out of it, such as by writing (1 | {label})."
        )
    if like_e and not level.correlated and np.count_nonzero(columns, axis=1).max() == 1:
        cells = pd.factorize(index * r + np.argmax(columns != 0, axis=1))[0]
        if cells.max() + 1 == n:
            raise DataError(
                f"Every effect of the term ({level.effects} || {label}) occurs in exactly one row, so the "
                f"effects can't be told from {rest}; expected several rows for some. Write (1 | "
                f"{label})."
            )


def unknown_groups(
    level: Level, known: Sequence[str], found: Groups, fresh: np.ndarray, frame: pd.DataFrame
) -> DataError:
    """Make the error that names the groups of new data that the model has not seen.

    Examples
    --------
    >>> from bayeslmm.data.groups import find_groups
    >>> frame = pd.DataFrame({"g": ["a", "b"]})
    >>> new = np.array([False, True])
    >>> error = unknown_groups(Level(group="g"), ("a",), find_groups([frame["g"]]), new, frame)
    >>> str(error)[:55]
    "g has groups that the model was not built on: 'b' (row "
    """
    new = [label for label, is_new in zip(found.labels, fresh, strict=True) if is_new]
    some = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
    return DataError(
        f"{level.label} has groups that the model was not built on: {listed(new)} "
        f"({say_rows(frame.index, fresh[found.index])}); expected some of {some}. To predict for new "
        "groups, write allow_new_groups=True."
    )
