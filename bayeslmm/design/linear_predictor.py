"""Offset + X beta + Z u, of the model's own rows or of new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.design.design import Design, NewRows
from bayeslmm.design.wide import linear
from bayeslmm.support.arguments import check_flag


def linear_predictor(rows: Design | NewRows, beta: np.ndarray, effects: Mapping[str, np.ndarray]) -> np.ndarray:
    """Offset + X beta + sum_k Z_k u_k (..., n).

    Parameters
    ----------
    rows : Design or NewRows
    beta : (..., p) array
    effects : mapping of level name to (..., m, r) array
        A level that isn't in it adds nothing; nor does a level to a row of a group that the model hasn't seen, whose
        effects have mean zero.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> design = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5], "g": list("aabb")}).design
    >>> linear_predictor(design, np.array([3.0]), {"u2": np.array([[-1.0], [1.0]])}).tolist()
    [2.0, 2.0, 4.0, 4.0]
    """
    total = linear(rows.columns, beta)
    if rows.offset is not None:
        total = total + rows.offset
    for level in rows.levels:
        if level.name in effects:
            total = total + row_effects(level.index, level.columns, effects[level.name])
    return total


def row_effects(index: np.ndarray, columns: np.ndarray, u: np.ndarray) -> np.ndarray:
    """What the effects u (..., m, r) of one level's groups add to rows (..., n); rows of group -1 get nothing."""
    seen = index >= 0
    at = np.where(seen, index, 0)
    total = np.zeros((*u.shape[:-2], len(index)))
    for e in range(columns.shape[1]):
        total += u[..., at, e] * (columns[:, e] * seen)
    return total


def rows_of(
    design: Design, data: Any, allow_new_groups: bool, missing: str, random_effects: bool = True
) -> Design | NewRows:
    """The design's own rows where `data` is None, else new ones encoded alike, without groups where none are used."""
    check_flag("allow_new_groups", allow_new_groups)
    if data is None:
        return design
    return design.new(data, allow_new_groups=allow_new_groups, missing=missing, random_effects=random_effects)
