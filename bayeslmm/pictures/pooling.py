"""A line per group three ways: by its own rows alone, by the model, and as if there were no groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.data.table import count
from bayeslmm.design.describe import relation
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.units import response_of
from bayeslmm.pictures.choices import groups_of, some_of
from bayeslmm.pictures.grids import Predictor, grid_frame, held, predictor_within
from bayeslmm.pictures.results import Result
from bayeslmm.priors.defaults import row_variances
from bayeslmm.support.figures import (
    COLOURS,
    across,
    axes_of,
    cut,
    key_below,
    number_axis,
    outer,
    scatter,
    tidy,
    upward,
)
from bayeslmm.tables.shrinkage import unshrunk

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

HEIGHT = 2.1
NONE, COMPLETE = "#000000", "#CC79A7"
MOST_ROWS = 400  # of a group, as dots


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupLines:
    """One group: its rows, and three lines over the grid; `none` is NaN where its rows don't determine one."""

    label: str
    x: np.ndarray
    y: np.ndarray
    rows: int
    none: np.ndarray
    partial: np.ndarray
    complete: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooling:
    """Lines of some groups.

    Attributes
    ----------
    name, key : str
        Of the result.
    level : LevelDesign
    response : str
    predictor : Predictor or None
        None where lines have nothing to run over, and rows stand in their order.
    panels : tuple of GroupLines
    total : int
        How many groups have rows.
    held : dict
        The other predictors' values, typical ones of each group.
    """

    name: str
    key: str
    level: LevelDesign
    response: str
    predictor: Predictor | None
    panels: tuple[GroupLines, ...]
    total: int
    others: tuple[str, ...]

    @property
    def at(self) -> np.ndarray:
        """Where the lines' points stand on the horizontal axis."""
        if self.predictor is not None:
            return self.predictor.at
        return np.array([1.0, max(2.0, *(panel.x.max() for panel in self.panels))])

    @property
    def words(self) -> str:
        """How to read it, and what is missing."""
        said = []
        some = some_of(len(self.panels), self.total, f"groups of {self.level.label}", "smallest to largest")
        said += [some] if some else []
        few = sum(bool(np.isnan(panel.none).any()) for panel in self.panels)
        said += [f"{count(few, 'group')} of these with too few rows for a line of its own"] if few else []
        said += [f"{' and '.join(self.others)} at what is typical of the group"] if self.others else []
        return "; ".join(said)

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw one small axis per group, the smallest first."""
        from matplotlib.lines import Line2D

        labels = [panel.label for panel in self.panels]
        figure, axes = axes_of(ax, [""] * len(labels), HEIGHT)
        y = np.concatenate([np.concatenate([p.y, p.partial, p.complete]) for p in self.panels])
        own = np.concatenate([p.none[np.isfinite(p.none)] for p in self.panels])
        y = np.append(y, np.clip(own, y.min() - 0.4 * np.ptp(y), y.max() + 0.4 * np.ptp(y)))  # not all that is far off
        pad = 0.05 * np.ptp(y) or 1.0
        for a, panel, (left, bottom) in zip(axes, self.panels, outer(axes), strict=True):
            shown = np.linspace(0, len(panel.x) - 1, min(len(panel.x), MOST_ROWS)).round().astype(int)
            few = panel.rows < 40
            dots: dict[str, Any] = {"ms": 4.5 if few else 3, "alpha": 0.9 if few else 0.5, "mew": 0}
            x = panel.x + (self.predictor.apart * scatter(len(panel.x)) if self.predictor else 0.0)
            a.plot(x[shown], panel.y[shown], "o", color="#777777", zorder=3 if few else 1, **dots)
            for line, style in self._styles(panel):
                a.plot(self.at, line, **style)
            rows = "1 row" if panel.rows == 1 else f"{panel.rows:,} rows"
            tidy(a, f"{cut(panel.label, 20)} ({rows})", most=34, ticks=False)
            a.set_ylim(y.min() - pad, y.max() + pad)
            self._across(a)
            a.xaxis.offsetText.set_visible(False)  # the bottom row's names have it
            if bottom:
                what = self.predictor.name if self.predictor else "row of the group, in order"
                across(a, what, 30)
            if left:
                upward(a, self.response, 22)
            else:
                a.tick_params(labelleft=False)
        names = ("none: its own rows", f"partial: {self.name}", "complete: no groups")
        handles: dict[str, Any] = {"rows": Line2D([], [], color="#777777", ls="", marker="o", ms=4)}
        lines = (style for _, style in self._styles(self.panels[0]))
        handles |= {name: Line2D([], [], **style) for name, style in zip(names, lines, strict=True)}
        key_below(figure, handles, self.words if ax is None else "")
        return figure

    def _across(self, a: Axes) -> None:
        labels = self.predictor.labels if self.predictor else ()
        number_axis(a, labels, self.at, 4, whole=self.predictor is None)

    def _styles(self, panel: GroupLines) -> list[tuple[np.ndarray, dict[str, Any]]]:
        return [
            (panel.none, {"color": NONE, "lw": 1.2, "ls": (0, (4, 2))}),
            (panel.partial, {"color": COLOURS[self.key], "lw": 2.2}),
            (panel.complete, {"color": COMPLETE, "lw": 1.4, "ls": (0, (1, 1))}),
        ]


def pooling(
    model: Model, result: Result, level: LevelDesign, x: str | None = None, groups: int | Sequence[str] = 6
) -> Pooling:
    """Compute the lines of some groups of a level, from the smallest to the largest, over one predictor.

    The line of partial pooling has the group's effects and those of the groups that contain it, others at zero; that
    of no pooling has instead of the group's own effects their least-squares estimates; that of complete pooling is
    the least-squares fit of the fixed part alone.
    """
    design = model.design
    predictor = predictor_within(design, level, x)
    chosen = groups_of(level, groups)
    containing = [other for other in design.levels if other is level or relation(level, other) == "nested"]
    means = {other.name: result.effects(other).middle for other in containing}
    own = means | {level.name: unshrunk(model.reml(), level)}
    beta = result.values["beta"].mean(axis=0)
    flat = without_groups(design)
    panels = []
    for g in chosen:
        rows = np.flatnonzero(level.index == g)
        frame = _frame(design, predictor, rows)
        new = design.new(frame)
        panels.append(
            GroupLines(
                label=level.groups[g],
                x=_places(design, predictor, rows),
                y=design.y[rows],
                rows=len(rows),
                none=linear_predictor(new, beta, own),
                partial=linear_predictor(new, beta, means),
                complete=linear_predictor(new, flat, {}),
            )
        )
    named = {predictor.name} if predictor else set()
    return Pooling(
        name=result.name,
        key=result.key,
        level=level,
        response=response_of(design),
        predictor=predictor,
        panels=tuple(panels),
        total=level.m - level.relatives,
        others=tuple(held(design, named)),
    )


def without_groups(design: Design) -> np.ndarray:
    """Coefficients (p,) by least squares on the fixed part alone, with the rows' weights."""
    weight = 1 / np.sqrt(np.broadcast_to(row_variances(design.residual), design.n))
    return np.linalg.lstsq(design.X * weight[:, None], design.net_y * weight, rcond=None)[0]


def _places(design: Design, predictor: Predictor | None, rows: np.ndarray) -> np.ndarray:
    """Where a group's rows stand on the horizontal axis."""
    if predictor is None:
        return np.arange(1.0, len(rows) + 1)
    return predictor.places(design.frame[predictor.name].iloc[rows])


def _frame(design: Design, predictor: Predictor | None, rows: np.ndarray) -> pd.DataFrame:
    """The points of a group's lines, as rows of data."""
    if predictor is None:
        return design.frame.iloc[rows[[0, 0]]]
    return grid_frame(design, {predictor.name: predictor.grid}, rows)
