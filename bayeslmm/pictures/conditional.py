"""The population's mean over one predictor, by another, the rest where it is typical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.design.units import response_of
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.choices import evenly
from bayeslmm.pictures.grids import Predictor, grid_frame, held, predictor_of
from bayeslmm.pictures.results import Result, Spread
from bayeslmm.support.figures import (
    BANDS,
    across,
    axes_of,
    cut,
    footnote,
    key_below,
    number_axis,
    scatter,
    tidy,
    upward,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.model import Model

MOST_ROWS = 1500  # of the data, as dots
MOST_LINES = 6
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Conditional:
    """Means over a grid, one line per value of `by`.

    Attributes
    ----------
    name : str
        Of the result.
    interval : str
        What its intervals are.
    response : str
    predictor : Predictor
    by : str
        "" without one.
    lines : tuple of (label, Spread)
        Means over the predictor's grid.
    rows : (x, y, line)
        Of the data, and to which line each is nearest.
    held : dict of str to str
        The other predictors' values.
    total : int
        How many values `by` has.
    """

    name: str
    interval: str
    response: str
    predictor: Predictor
    by: str
    lines: tuple[tuple[str, Spread], ...]
    rows: tuple[np.ndarray, np.ndarray, np.ndarray]
    held: dict[str, str]
    total: int

    @property
    def words(self) -> str:
        """What the lines are means of."""
        said = [f"The mean of the population by {self.name}, with {self.interval}; groups' effects are at zero"]
        if self.held:
            said.append("held at " + ", ".join(f"{cut(k, 18)} = {cut(v, 18)}" for k, v in list(self.held.items())[:6]))
        said += [f"{len(self.lines)} of {self.total} values of {self.by}"] if self.total > len(self.lines) else []
        return "; ".join(said)

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw a line with its band for a number, points with bars for categories, over the rows of the data."""
        from matplotlib.lines import Line2D

        figure, (a,) = axes_of(None if ax is None else [ax], [""], 3.9)
        predictor, at, count = self.predictor, self.predictor.at, len(self.lines)
        x, y, of = self.rows
        shown = evenly(len(x), MOST_ROWS)
        jitter = predictor.apart * scatter(len(x))
        dots: dict[str, Any] = {"ms": 4.5, "alpha": 0.6} if len(x) < 100 else {"ms": 3, "alpha": 0.35}
        lines = predictor.numeric and len(at) > 2
        for k, (_, mean) in enumerate(self.lines):
            colour: Any = BANDS[k % len(BANDS)]
            mine = shown[of[shown] == k]
            a.plot(x[mine] + jitter[mine], y[mine], "o", color=colour, mew=0, rasterized=True, **dots)
            if lines:
                a.fill_between(at, mean.low, mean.high, color=colour, alpha=0.25, lw=0)
                a.plot(at, mean.middle, color=colour, lw=2, ls=DASHES[k])
            else:
                width = np.diff(at).min() if len(at) > 1 else 1.0
                place = at + (0.1 if predictor.numeric else 0.16) * width * (k - (count - 1) / 2)
                a.vlines(place, mean.low, mean.high, color=colour, lw=2, zorder=3)
                a.plot(place, mean.middle, "osD^vP"[k % 6], color=colour, ms=7, mec="white", zorder=4)
        number_axis(a, predictor.labels, at, 8)
        tidy(a, f"Mean of {self.response} over {predictor.name}" + (f", by {self.by}" if self.by else ""), ticks=False)
        across(a, predictor.name, 60)
        upward(a, self.response, 40)
        words = self.words if ax is None else ""
        if self.by:
            colours = [BANDS[k % len(BANDS)] for k in range(count)]
            names = [f"{cut(self.by, 16)} = {cut(label, 16)}" for label, _ in self.lines]
            dashes = DASHES if lines else ["-"] * MOST_LINES
            handles = {
                name: Line2D([], [], color=c, lw=2, ls=dash)
                for name, c, dash in zip(names, colours, dashes, strict=False)
            }
            key_below(figure, handles, words)
        elif words:
            footnote(figure, words)
        return figure


def conditional_effects(model: Model, result: Result, x: str | None = None, by: str | None = None) -> Conditional:
    """Compute the population's mean over a predictor, per category of another or at three values of a number."""
    design = model.design
    predictor = predictor_of(design, x)
    if predictor is None:
        raise DescriptionError("The model has no predictor that its mean could be drawn over.")
    column = design.frame[predictor.name]
    values: list[Any] = [None]
    labels, total, nearest = [""], 1, np.zeros(design.n, dtype=int)
    if by is not None:
        if by == predictor.name:
            raise DescriptionError(f"by={by!r} is the predictor on the axis; name another one.")
        other = predictor_of(design, by)
        values, labels, nearest, total = _lines(design.frame[by], other)
    spreads = []
    for value in values:
        moved = {predictor.name: predictor.grid}
        if by is not None:
            moved[by] = pd.Series([value] * len(predictor.grid), dtype=design.frame[by].dtype).array
        new = design.new(grid_frame(design, moved), random_effects=False)
        mean = result.mean(new.X)
        shift = 0.0 if new.offset is None else new.offset
        spreads.append(Spread(middle=mean.middle + shift, low=mean.low + shift, high=mean.high + shift))
    return Conditional(
        name=result.name,
        interval="2 standard errors" if result.key in ("ml", "reml") else "the middle 95 %",
        response=response_of(design),
        predictor=predictor,
        by=by or "",
        lines=tuple(zip(labels, spreads, strict=True)),
        rows=(predictor.places(column), design.y, nearest),
        held=held(design, {predictor.name, *([by] if by else [])}),
        total=total,
    )


def _lines(column: pd.Series, by: Predictor | None) -> tuple[list[Any], list[str], np.ndarray, int]:
    """Values of `by`, their labels, which of them each row is nearest to, and how many there are."""
    if by is None or not by.numeric:
        labels = list(by.labels) if by else []
        kept = labels[:MOST_LINES]
        place = {label: k for k, label in enumerate(kept)}
        nearest = column.astype(str).map(place).fillna(-1).to_numpy(dtype=int)
        return list(by.grid[: len(kept)]) if by else [], kept, nearest, len(labels)
    values = column.to_numpy(dtype=float)
    few = np.unique(values)
    if len(few) > 3:
        few = np.unique(np.quantile(values, [0.1, 0.5, 0.9], method="nearest"))
    nearest = np.argmin(np.abs(values[:, None] - few), axis=1)
    of_column = [column.iloc[int(np.argmin(np.abs(values - value)))] for value in few]
    return of_column, [f"{value:.4g}" for value in few], nearest, len(few)
