"""The predictors of a model: which are numbers, which are categories, and what values they have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.data.groups import sorted_codes
from bayeslmm.design.design import Design
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.formula.parse import columns_of
from bayeslmm.predictions.encoding import predictors


def groupings(design: Design) -> tuple[str, ...]:
    """Columns of the groups."""
    return tuple(dict.fromkeys(name for level in design.levels for name in level.level.group))


def is_number(design: Design, name: str) -> bool:
    """Whether a predictor counts as a number: neither text nor a truth, nor a factor by C()."""
    if design.frame[name].dtype.kind not in "iuf":
        return False
    calls = [encoder for encoder in design.encoders if encoder.spec is not None and name in encoder.kinds]
    return not any(name in _factors(encoder) for encoder in calls)


def _factors(encoder: Any) -> set[str]:
    """Columns of the data that an encoder takes for categories."""
    real = {alias: name for name, alias in encoder.aliases.items()}
    out: set[str] = set()
    for expression, (kind, _) in encoder.spec.encoder_state.items():
        if str(kind.value) == "categorical":
            out |= {real.get(name, name) for name in columns_of(str(expression))}
    return out


def values_of(design: Design, name: str) -> list[Any]:
    """The values that the model has seen, in order: categories in theirs, others sorted."""
    column = design.frame[name]
    codes = sorted_codes(column)[0]
    first = np.unique(codes, return_index=True)[1]
    return column.iloc[first].tolist()


def most_frequent(design: Design, name: str) -> Any:
    """The value that most rows have; of several, the first in order."""
    counts = Counter(design.frame[name].tolist())
    return max(values_of(design, name), key=lambda value: counts[value])


def check_variable(design: Design, name: Any, numeric: bool = False) -> None:
    """Refuse what is no predictor, or no number where one is needed."""
    known = [*predictors(design), *(() if numeric else groupings(design))]
    if name not in known:
        raise DescriptionError(
            f"variables names {name!r}, which is no predictor of this model; there are {', '.join(map(repr, known))}."
            f"{did_you_mean(str(name), known)}"
        )
    if numeric and not is_number(design, name):
        raise DescriptionError(
            f"{name!r} holds categories, along which there is no slope; write comparisons(result, {name!r})."
        )


def grid(design: Design, named: dict[str, Any], grid_type: str) -> pd.DataFrame:
    """Named values crossed with each other, the rest at its mean or mode. See `LMM.grid`."""
    kinds = ("mean_or_mode", "balanced", "counterfactual")
    if grid_type not in kinds:
        raise DescriptionError(
            f"grid_type={grid_type!r}; expected {', '.join(map(repr, kinds))}.{did_you_mean(str(grid_type), kinds)}"
        )
    known = [name for name in design.frame.columns if name not in columns_of(design.hierarchy.response)]
    known = list(dict.fromkeys([*predictors(design), *known]))
    for name in named:
        if name not in known:
            raise DescriptionError(
                f"The grid names {name!r}, which is no column that the model uses; there are "
                f"{', '.join(map(repr, known))}.{did_you_mean(str(name), known)}"
            )
    columns = {name: _listed(name, value) for name, value in named.items()}
    if grid_type == "counterfactual":
        crossed = _crossed(columns)
        rest = design.frame[[name for name in known if name not in columns]]
        return crossed.merge(rest.reset_index(drop=True), how="cross")[known]
    for name in predictors(design):
        if name in columns:
            continue
        if is_number(design, name):
            columns[name] = [float(design.frame[name].mean())]
        else:
            columns[name] = values_of(design, name) if grid_type == "balanced" else [most_frequent(design, name)]
    residual = design.hierarchy.residual
    if residual.by and residual.by not in columns:
        columns[residual.by] = [most_frequent(design, residual.by)]
    if residual.weights and residual.weights not in columns:
        columns[residual.weights] = [float(design.frame[residual.weights].mean())]
    order = [name for name in known if name in columns]
    return _crossed({name: columns[name] for name in order})


def _listed(name: str, value: Any) -> list[Any]:
    """A value or several as a list."""
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    if not values:
        raise DescriptionError(f"The grid has no value for {name!r}; expected one or a list of them.")
    return values


def _crossed(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Every combination, the first column varying slowest."""
    sizes = [len(values) for values in columns.values()]
    if not columns:
        return pd.DataFrame(index=pd.RangeIndex(1))
    places = np.indices(sizes).reshape(len(sizes), -1)
    each = zip(columns.items(), places, strict=True)
    return pd.DataFrame({name: pd.Series(values).iloc[at].reset_index(drop=True) for (name, values), at in each})
