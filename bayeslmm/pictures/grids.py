"""Rows to draw lines through: one predictor moves over what the data have, the others stay where they are typical."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.design.model_matrix import names_in
from bayeslmm.errors import DescriptionError, did_you_mean

if TYPE_CHECKING:
    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign

FINE = 61  # points of a line


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A column of the data that a line runs over.

    Attributes
    ----------
    name : str
    numeric : bool
        Whether it is drawn as a number; else as categories, side by side.
    grid : array
        Values of the column, in order.
    labels : tuple of str
        Of the categories.
    """

    name: str
    numeric: bool
    grid: Any
    labels: tuple[str, ...] = ()

    @property
    def at(self) -> np.ndarray:
        """Where the grid stands on the axis."""
        return np.asarray(self.grid, dtype=float) if self.numeric else np.arange(len(self.grid), dtype=float)

    @property
    def apart(self) -> float:
        """How widely rows of one value are scattered, so that they don't hide each other."""
        return 0.5 if not self.numeric else 0.15 * float(np.ptp(self.at)) if len(self.grid) <= 2 else 0.0

    def places(self, column: pd.Series) -> np.ndarray:
        """Where rows of the data stand on the axis."""
        if self.numeric:
            return column.to_numpy(dtype=float)
        place = {label: k for k, label in enumerate(self.labels)}
        return column.astype(str).map(place).to_numpy(dtype=float)


def predictors(design: Design) -> dict[str, str]:
    """Columns of the data that the mean or the effects use, and whether they are "numbers" or "categories".

    Those of the effects come first, then those of the mean.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> predictors(blm.example("cake").design)
    {'recipe': 'categories', 'temperature': 'numbers'}
    """
    kinds: dict[str, str] = {}
    encoders = [*design.encoders[1:], design.encoders[0], *([design.offset_encoder] if design.offset_encoder else [])]
    for encoder in encoders:
        kinds |= {name: kind for name, kind in encoder.kinds.items() if name not in kinds}
    return kinds


def predictor_of(design: Design, asked: Any) -> Predictor | None:
    """Read the predictor that is asked for; for None a number, one of many values before one of two.

    Categories where there is no number; None where the model has no predictor.
    """
    kinds = predictors(design)
    if asked is not None:
        if asked not in kinds:
            there = ", ".join(map(repr, kinds)) or "none"
            raise DescriptionError(
                f"x={asked!r}; expected a predictor of the model: {there}.{did_you_mean(str(asked), kinds)}"
            )
        return _predictor(design, asked, kinds[asked])
    found = _numbers_first(design, kinds)
    return _predictor(design, found[0], kinds[found[0]]) if found else None


def predictor_within(design: Design, level: LevelDesign, asked: Any) -> Predictor | None:
    """Read the predictor that is asked for; for None one that changes within groups, if its effect varies rather."""
    if asked is not None:
        return predictor_of(design, asked)
    kinds = predictors(design)
    changing = [name for name in kinds if _changes(design.frame[name], level)]
    own = [name for name in names_in(level.level.effects) if name in changing]
    found = [*_numbers_first(design, own), *_numbers_first(design, changing)]
    return _predictor(design, found[0], kinds[found[0]]) if found else None


def _numbers_first(design: Design, names: Iterable[str]) -> list[str]:
    kinds = predictors(design)
    return sorted(names, key=lambda name: (kinds[name] != "numbers", design.frame[name].nunique() <= 2))


def _changes(column: pd.Series, level: LevelDesign) -> bool:
    """Whether a column has several values within a group."""
    codes = pd.factorize(column)[0]
    pairs = len(np.unique(level.index * (codes.max() + 1) + codes))
    return pairs > len(np.unique(level.index))


def _predictor(design: Design, name: str, kind: str) -> Predictor:
    column = design.frame[name]
    values = np.unique(column.to_numpy()) if kind == "numbers" else None
    if values is not None:
        few = len(values) <= 2 or any(f"C({name}" in encoder.text for encoder in design.encoders)
        if few or column.dtype.kind == "b":
            return Predictor(name=name, numeric=True, grid=values)
        return Predictor(name=name, numeric=True, grid=np.linspace(values[0], values[-1], FINE))
    first = np.unique(column.astype(str).to_numpy(dtype=str), return_index=True)[1]
    if isinstance(column.dtype, pd.CategoricalDtype):
        first = first[np.argsort(column.cat.codes.to_numpy()[first])]
    grid = column.iloc[first]
    return Predictor(name=name, numeric=False, grid=grid.array, labels=tuple(grid.astype(str)))


def typical(frame: pd.DataFrame, rows: np.ndarray | None = None) -> dict[str, int]:
    """Per column the row that holds its typical value: the one nearest to the mean, or the most common category.

    Examples
    --------
    >>> typical(pd.DataFrame({"x": [1.0, 5, 9], "f": ["a", "b", "b"]}))
    {'x': 1, 'f': 1}
    """
    rows = np.arange(len(frame)) if rows is None else rows
    out = {}
    for name in frame:
        column = frame[name].iloc[rows]
        if column.dtype.kind in "biuf":
            x = column.to_numpy(dtype=float)
            out[str(name)] = int(rows[np.argmin(np.abs(x - x.mean()))])
        else:
            codes, values = pd.factorize(column)
            out[str(name)] = int(rows[np.argmax(codes == np.argmax(np.bincount(codes, minlength=len(values))))])
    return out


def grid_frame(design: Design, moved: dict[str, Any], rows: np.ndarray | None = None) -> pd.DataFrame:
    """Rows of data in which some columns have given values, of one length, and the others what is typical of `rows`."""
    count = len(next(iter(moved.values())))
    at = typical(design.frame, rows)
    columns = {name: design.frame[name].iloc[np.full(count, row)].array for name, row in at.items()}
    return pd.DataFrame(columns | moved)


def held(design: Design, moved: set[str], rows: np.ndarray | None = None) -> dict[str, str]:
    """The typical values of the other predictors, as text."""
    at = typical(design.frame[[name for name in predictors(design) if name not in moved]], rows)
    return {name: _text(design.frame[name].iloc[row]) for name, row in at.items()}


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)
