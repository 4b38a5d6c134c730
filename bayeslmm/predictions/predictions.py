"""Tables of predictions: what rows, or averages of them, are expected to be, or new observations of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DescriptionError
from bayeslmm.model import Model
from bayeslmm.predictions.asked import By, Differences, beside, check_level, result_of, scope_words
from bayeslmm.predictions.encoding import Rows
from bayeslmm.predictions.linear import Linear, averages
from bayeslmm.predictions.new_residuals import NewResiduals
from bayeslmm.predictions.results import Estimates, Part
from bayeslmm.predictions.scopes.registry import SCOPES, scopes_of
from bayeslmm.predictions.scopes.scope import Scope
from bayeslmm.tables.result import interval_columns
from bayeslmm.tables.table import Table

KINDS = ("mean", "response")


def predictions(
    model: Model,
    result: Any,
    data: Any = None,
    *,
    scope: Any = "observed",
    kind: str = "mean",
    level: float = 0.95,
    by: Any = None,
    hypothesis: Any = None,
    missing: str = "error",
) -> Table:
    """A table of predictions. See `LMM.predictions`."""
    check_kind(kind)
    own, level, by = result_of(model, result, "lmm.predictions(result)"), check_level(level), By.of(by, usual=False)
    if kind == "response" and not by.each:
        raise DescriptionError(
            "kind='response' is of new observations, one for each row; by= averages over rows. Write kind='mean' for "
            "averages, or leave by= out."
        )
    design, scopes = model.design, scopes_of(scope, model.design)
    borrows = kind == "response" and data is not None and keeps_all(scope, scopes)
    also = residual_columns(design, borrows) if kind == "response" else ()
    rows = Rows.read(design, data, scopes, missing, (*by.columns, *also))
    residuals = NewResiduals.of(rows, borrows) if kind == "response" else None
    if by.each:
        parts = _each(rows, residuals)
        columns = rows.frame
        differences = Differences.of(hypothesis, by, columns)
    else:
        groups, columns = by.groups(rows.frame)
        differences = Differences.of(hypothesis, by, columns)
        total = averaged(rows, groups, len(columns))
        parts = iter([Part(total if differences is None else differences.taken(total))])
    found = own.estimates(parts, rows.means, level)
    what = "expected values" if kind == "mean" else "new observations"
    note = [own.words(kind, level), _kind_words(design, kind, borrows, data is None), scope_words(design, scopes)]
    note += [f"Expected values {by.words}." if by.words else "", dropped_words(rows), own.doubts]
    return Table(
        frame=beside(columns if differences is None else differences.columns, numbers_of(found, level)),
        title=f"Predictions of {design.hierarchy.response}: {what} ({own.name})",
        note="\n".join(filter(None, note)),
    )


def _each(rows: Rows, residuals: NewResiduals | None) -> Iterator[Part]:
    return (Part(rows.linear(some), residuals, some.start) for some in rows.blocks())


def check_kind(kind: Any) -> None:
    """Refuse what is no kind of prediction."""
    if kind not in KINDS:
        raise DescriptionError(f"kind={kind!r}; 'mean' (X beta + Z u) or 'response' (and a residual) was expected.")


def keeps_all(asked: Any, scopes: tuple[Scope, ...]) -> bool:
    """Whether groups that were seen are themselves at every level, so that what was seen of their residuals counts."""
    return all(scope.keeps for scope in scopes or (SCOPES["observed" if isinstance(asked, Mapping) else asked],))


def residual_columns(design: Design, borrows: bool) -> tuple[str, ...]:
    """Columns that new observations need beside those of their expected values."""
    residual = design.residual.residual
    names = [name for name in (residual.weights, residual.by) if name is not None]
    whole = borrows or residual.structure == "known"
    return tuple(dict.fromkeys([*names, *(residual.columns if whole else ())]))


def averaged(rows: Rows, groups: np.ndarray, count: int) -> Linear:
    """Means of the rows' expected values within groups, block by block."""
    sizes = np.bincount(groups, minlength=count)
    total: Linear | None = None
    for some in rows.blocks():
        part = rows.linear(some).combined(averages(groups[some], sizes))
        total = part if total is None else total.plus(part)
    assert total is not None  # there is a row
    return total


def numbers_of(found: Estimates, level: float) -> dict[str, np.ndarray]:
    """The columns of a table."""
    low, high = interval_columns(level)
    return {"estimate": found.estimate, "sd": found.sd, low: found.low, high: found.high}


def dropped_words(rows: Rows) -> str:
    """How many rows were left out."""
    return f"{rows.dropped} rows with missing values left out." if rows.dropped else ""


def _kind_words(design: Design, kind: str, borrows: bool, own_rows: bool) -> str:
    offset = " + offset" if design.hierarchy.offset else ""
    text = f"In units of {design.hierarchy.response}: X beta + Z u{offset}"
    if kind == "mean":
        return f"{text}, the expected value."
    text += " + e, a new observation"
    if not design.residual.correlated:
        return f"{text}."
    if borrows:
        return f"{text} given those that were seen of its {design.residual.structure.blocks}."
    why = "the model's own rows seen once more" if own_rows else "as of new ones"
    return f"{text}; its residual is not conditioned on those that were seen, {why}."
