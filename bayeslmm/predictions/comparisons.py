"""Contrasts of predictions: what changes where a predictor does, everything else as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.model import Model
from bayeslmm.predictions.asked import By, Differences, beside, check_level, result_of, scope_words
from bayeslmm.predictions.encoding import Rows, predictors
from bayeslmm.predictions.linear import Linear, averages
from bayeslmm.predictions.predictions import dropped_words, numbers_of
from bayeslmm.predictions.results import Part
from bayeslmm.predictions.scopes.registry import scopes_of
from bayeslmm.predictions.variables import check_variable, is_number, values_of
from bayeslmm.tables.table import Table


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """One change of a predictor.

    Attributes
    ----------
    variable, label : str
        "x", "+1".
    low, high : value, or array of values by row
    """

    variable: str
    label: str
    low: Any
    high: Any

    def ends(self, rows: Rows, some: slice) -> tuple[Linear, Linear]:
        """What some rows are expected to be at the low end, and at the high one."""
        part = rows.part(some)
        every = slice(0, part.n)
        ends = (end[some] if isinstance(end, np.ndarray) else end for end in (self.low, self.high))
        low, high = (part.changed(self.variable, end).linear(every) for end in ends)
        return low, high

    def linear(self, rows: Rows, some: slice) -> Linear:
        """The difference of the expected values of some rows."""
        low, high = self.ends(rows, some)
        return high.plus(low, -1.0)


def comparisons(
    model: Model,
    result: Any,
    variables: Any = None,
    data: Any = None,
    *,
    by: Any = None,
    hypothesis: Any = None,
    scope: Any = "observed",
    level: float = 0.95,
    missing: str = "error",
) -> Table:
    """A table of contrasts. See `LMM.comparisons`."""
    design = model.design
    own, level, by = result_of(model, result, "lmm.comparisons(result)"), check_level(level), By.of(by, usual=True)
    asked = asked_changes(design, variables)
    scopes = scopes_of(scope, design)
    rows = Rows.read(design, data, scopes, missing, by.columns)
    contrasts = [one for name, how in asked.items() for one in contrasts_of(design, rows, name, how)]
    table = tabulated(own, rows, by, contrasts, level, hypothesis)
    note = [own.words("mean", level), f"Differences of expected values, in units of {design.hierarchy.response}."]
    note += [scope_words(design, scopes), f"Contrasts {by.words}." if by.words else "", dropped_words(rows), own.doubts]
    note.insert(2, group_words(rows, list(asked)))
    title = f"Comparisons of {design.hierarchy.response} ({own.name})"
    return Table(frame=table, title=title, note="\n".join(filter(None, note)))


def group_words(rows: Rows, names: Sequence[str]) -> str:
    """A word about variables that tell groups apart: other values are other groups."""
    out = []
    for name in names:
        pairs = zip(rows.design.levels, rows.scopes, strict=True)
        labels = [level.label for level, scope in pairs if name in level.level.group and scope.needs_groups]
        if labels:
            out.append(
                f"{name} tells groups of {' and '.join(labels)} apart: its contrasts compare these groups, with their "
                "effects; scope='population' leaves them out."
            )
    return " ".join(out)


def tabulated(result: Any, rows: Rows, by: By, changes: Sequence[Any], level: float, hypothesis: Any) -> pd.DataFrame:
    """A row for each change and group of rows; changes have a variable, a label, and a linear part of some rows."""
    if by.each:
        columns = rows.frame
    else:
        groups, columns = by.groups(rows.frame)
        sizes = np.bincount(groups, minlength=len(columns))
    differences = Differences.of(hypothesis, by, columns)

    def parts() -> Iterator[Part]:
        for change in changes:
            total: Linear | None = None
            for some in rows.blocks():
                linear = change.linear(rows, some)
                if by.each:
                    yield Part(linear)
                    continue
                linear = linear.combined(averages(groups[some], sizes))
                total = linear if total is None else total.plus(linear)
            if total is not None:
                yield Part(total if differences is None else differences.taken(total))

    found = result.estimates(parts(), rows.means, level)
    columns = columns if differences is None else differences.columns
    names = {
        "variable": np.repeat([change.variable for change in changes], len(columns)),
        "contrast": np.repeat([change.label for change in changes], len(columns)),
    }
    repeated = pd.concat([columns] * len(changes), ignore_index=not by.each)
    return beside(repeated, {**names, **numbers_of(found, level)})


def asked_changes(design: Design, variables: Any) -> dict[str, Any]:
    """From each variable to how it is to change, None where that is not said."""
    if variables is None:
        variables = list(predictors(design))
        if not variables:
            raise DescriptionError("The model has no predictors to compare; write variables= with a grouping column.")
    if isinstance(variables, str):
        variables = [variables]
    if not isinstance(variables, Mapping):
        if not isinstance(variables, Sequence) or not variables:
            raise DescriptionError(
                f"variables={variables!r}; expected a predictor, a list of them, or a mapping such as {{'x': 10}}."
            )
        variables = dict.fromkeys(variables)
    for name in variables:
        check_variable(design, name)
    return dict(variables)


def contrasts_of(design: Design, rows: Rows, name: str, how: Any) -> list[Contrast]:
    """The changes of one predictor."""
    if name in predictors(design) and is_number(design, name):
        return [_of_number(design, rows, name, 1 if how is None else how)]
    if design.frame[name].dtype.kind == "b" and how is None:
        return [Contrast(variable=name, label="True - False", low=False, high=True)]
    return _of_categories(name, values_of(design, name), "reference" if how is None else how)


def _of_number(design: Design, rows: Rows, name: str, how: Any) -> Contrast:
    seen = design.frame[name].to_numpy(dtype=float)
    mean, sd = float(seen.mean()), float(seen.std(ddof=1)) if len(seen) > 1 else 0.0
    spans = {
        "sd": (mean - sd / 2, mean + sd / 2, "1 SD around the mean"),
        "2sd": (mean - sd, mean + sd, "2 SD around the mean"),
        "iqr": (*np.quantile(seen, [0.25, 0.75]).tolist(), "Q3 - Q1"),
        "minmax": (float(seen.min()), float(seen.max()), "max - min"),
    }
    if isinstance(how, str):
        if how not in spans:
            raise DescriptionError(
                f"{name!r} can't change by {how!r}; expected a number, a pair of numbers, or one of "
                f"{', '.join(map(repr, spans))}.{did_you_mean(how, spans)}"
            )
        low, high, label = spans[how]
        return Contrast(variable=name, label=label, low=low, high=high)
    if _is_number(how) and how != 0:
        if name not in rows.frame.columns:
            raise DescriptionError(
                f"The rows have no column {name!r} to start from; write variables={{{name!r}: (0, 1)}}."
            )
        x = rows.frame[name].to_numpy(dtype=float)
        return Contrast(variable=name, label=f"{how:+g}", low=x, high=x + float(how))
    pair = list(how) if isinstance(how, Sequence) else []
    if len(pair) != 2 or not all(map(_is_number, pair)):
        raise DescriptionError(
            f"{name!r} can't change by {how!r}; expected a number other than 0, a pair of numbers such as (0, 10), or "
            f"one of {', '.join(map(repr, spans))}."
        )
    low, high = map(float, pair)
    return Contrast(variable=name, label=f"{high:g} - {low:g}", low=low, high=high)


def _of_categories(name: str, values: list[Any], how: Any) -> list[Contrast]:
    if isinstance(how, str) and how in ("reference", "sequential", "pairwise"):
        pairs = {
            "reference": [(values[0], value) for value in values[1:]],
            "sequential": list(pairwise(values)),
            "pairwise": list(combinations(values, 2)),
        }[how]
    else:
        pair = [] if isinstance(how, str) or not isinstance(how, Sequence) else list(how)
        if len(pair) != 2 or not all(value in values for value in pair):
            some = ", ".join(map(repr, values[:10])) + (", ..." if len(values) > 10 else "")
            raise DescriptionError(
                f"{name!r} can't change by {how!r}; expected 'reference', 'sequential', 'pairwise', or a pair of its "
                f"values {some}."
            )
        pairs = [(pair[0], pair[1])]
    return [Contrast(variable=name, label=f"{high} - {low}", low=low, high=high) for low, high in pairs]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))
