"""Where variances are looked at: over the data's rows, or at given values of the predictors whose slopes vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.data.table import numbers
from bayeslmm.design.counted import mean, scaled
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.model_matrix import INTERCEPT, Encoder
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.factorisation.conditioning import better_columns
from bayeslmm.support.text import listed
from bayeslmm.tables.points import Basis, EffectPoints

MOST = 10_000  # places


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """A places, and what the variances there need of the rows.

    Attributes
    ----------
    labels : pandas.DataFrame
        A rows: the values of the predictors that were given, no columns where none were.
    moments : tuple of (A, r, r) arrays
        Per level, the mean of K_gg z z' over the rows, z being the better columns of a row and K the known covariance
        of its group, the identity elsewhere.
    residual : (A, S) array
        What each stratum (one where there are none) has in the mean variance of the residuals.
    words : tuple of str
        What was averaged, and what lies outside of the data.
    """

    labels: pd.DataFrame
    moments: tuple[np.ndarray, ...]
    residual: np.ndarray
    words: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of places."""
        return len(self.residual)

    def variances(self, points: EffectPoints) -> np.ndarray:
        """Variances (N, A, L + 1) that each level adds to y around X beta, and that of the residual."""
        levels = [points.variance(k, M) for k, M in enumerate(self.moments)]
        return np.stack([*levels, points.row_variances(self.residual)], axis=-1)


def read_places(basis: Basis, at: Any = None) -> Places:
    """Take the places that a user gives: the data's rows, or a mapping of predictors to values, all combinations.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> places = read_places(blm.example("sleepstudy").statistics, {"Days": [0, 9]})
    >>> places.labels["Days"].tolist(), places.moments[0].shape
    ([0, 9], (2, 2, 2))
    """
    design = basis.design
    grid = _grid(design, at)
    words: list[str] = []
    moments = [_moments(basis, k, grid, words) for k in range(len(design.levels))]
    residual = design.residual
    own = residual.diagonal(residual.neutral)
    stratum = residual.stratum if residual.strata else np.zeros(residual.n, dtype=np.int64)
    rows = np.ones(residual.n) if residual.counts is None else residual.counts
    sums, counts = np.bincount(stratum, weights=own * rows), np.bincount(stratum, weights=rows)
    by = residual.residual.by if residual.strata else None
    if by is not None and by in grid:
        of = [_stratum(residual.strata, str(by), label) for label in grid[by]]
        parts = np.eye(len(sums))[of] * (sums / counts)
    else:
        parts = np.tile(sums / design.n, (len(grid), 1))
    averaged = bool(np.ptp(own) > 0) or (bool(residual.strata) and by not in grid)
    if averaged:
        of_each = f" of each {by}" if by is not None and by in grid else ""
        words.append(f"The residual's variance is averaged over the rows{of_each}.")
    return Places(
        labels=grid, moments=tuple(moments), residual=parts, words=tuple(dict.fromkeys(words))
    )  # fmt: skip


def predictors(design: Design) -> tuple[str, ...]:
    """Columns of the data on which variances depend: those of effects, and the strata's."""
    names = [name for encoder in design.encoders[1:] for name in encoder.kinds]
    by = design.residual.residual.by
    return tuple(dict.fromkeys([*names, *([by] if by else [])]))


def _grid(design: Design, at: Any) -> pd.DataFrame:
    """All combinations of the given values."""
    if at is None:
        return pd.DataFrame(index=range(1))
    known = predictors(design)
    if not isinstance(at, Mapping) or not at:
        example = {known[0]: [0, 1]} if known else {"x": [0, 1]}
        raise DescriptionError(
            f"at is {at!r}; expected a mapping from predictors to values, such as at={example!r}. Leave it out for "
            "averages over the rows."
        )
    columns = {}
    for name, values in at.items():
        if name not in known:
            which = f"they depend on {listed(known)}" if known else "they are the same everywhere: leave at out"
            raise DescriptionError(
                f"at names {name!r}, on which no variance of this model depends; {which}."
                f"{did_you_mean(str(name), known)}"
            )
        single = isinstance(values, str) or not hasattr(values, "__iter__")
        columns[name] = [values] if single else list(values)
        if not columns[name]:
            raise DescriptionError(
                f"at has no values for {name!r}; expected one or more, such as at={{{name!r}: [0, 1]}}."
            )
        for value in columns[name]:
            if np.ndim(value) or pd.isna(value) or (isinstance(value, float) and np.isinf(value)):
                raise DescriptionError(
                    f"at has {value} for {name!r}; expected values, such as at={{{name!r}: [0, 1]}}."
                )
    size = int(np.prod([len(values) for values in columns.values()]))
    if size > MOST:
        raise DescriptionError(f"at has {size:,} combinations of values; expected {MOST:,} at most. Give fewer values.")
    return pd.DataFrame(list(product(*columns.values())), columns=list(columns))


def _stratum(strata: tuple[str, ...], by: str, label: Any) -> int:
    if str(label) not in strata:
        raise DescriptionError(
            f"at has {by} = {label!r}; expected one of the strata, {listed(strata)}.{did_you_mean(str(label), strata)}"
        )
    return strata.index(str(label))


def _moments(basis: Basis, k: int, grid: pd.DataFrame, words: list[str]) -> np.ndarray:
    """The moments (A, r, r) of level k; says what it averages."""
    level, encoder, M = basis.design.levels[k], basis.design.encoders[k + 1], basis.maps[k]
    weights = group_variances(level)[level.index]
    if level.related:
        diagonal = float(mean(weights, level.counts))
        words.append(f"Of {level.label}'s known covariance the mean diagonal counts, {diagonal:.4g}.")
    named = [name for name in encoder.kinds if name in grid]
    missing = [name for name in encoder.kinds if name not in grid]
    if not named:
        if any(np.ptp(column) > 0 for column in level.columns.T):
            words.append(f"What {level.name} adds is averaged over the rows.")
        return _mean_square(basis.better[k], weights, basis.design.n, len(grid))
    if missing and encoder.spec is not None:
        raise DescriptionError(
            f"at names {listed(named)}, and the effects of {level.label}, {encoder.text}, also need {listed(missing)}. "
            f"Name {'it' if len(missing) == 1 else 'them'} in at too."
        )
    columns = _columns(level, encoder, grid, missing, words)
    if missing:
        words.append(f"What {level.name} adds is averaged over the rows' {listed(missing)}.")
        n, root = basis.design.n, basis.design.counted.root
        return np.concatenate([_mean_square(scaled(better_columns(rows, M), root), weights, n, 1) for rows in columns])
    better = better_columns(columns[:, 0], M)
    return mean(weights, level.counts) * better[:, :, None] * better[:, None, :]


def group_variances(level: LevelDesign) -> np.ndarray:
    """The diagonal (m,) of the groups' known covariance; ones where they are independent."""
    return level.variances


def _columns(
    level: LevelDesign, encoder: Encoder, grid: pd.DataFrame, missing: list[str], words: list[str]
) -> np.ndarray:
    """The level's columns at the places (A, rows, r): one row, or the data's where some keep their values."""
    if encoder.spec is not None:
        return encoder.matrix(grid)[:, None, :]
    out = np.repeat((level.columns if missing else level.columns[:1])[None], len(grid), axis=0)
    for e, name in enumerate(encoder.names):
        if name == INTERCEPT or name in missing:
            continue
        x, low, high = numbers(grid[name], "at"), level.lowest[e], level.highest[e]
        out[:, :, e] = x[:, None]
        outside = x[(x < low) | (x > high)]
        if outside.size:
            words.append(f"{name} = {outside[0]:.6g} lies outside of the data, {low:.6g} to {high:.6g}.")
    return out


def _mean_square(rows: np.ndarray, weights: np.ndarray, n: int, copies: int) -> np.ndarray:
    """Mean of w z z' over n rows, so many times."""
    M = (rows * weights[:, None]).T @ rows / n
    return np.tile(M, (copies, 1, 1))
