"""The data before any model: y by group, over a predictor where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.units import response_of
from bayeslmm.pictures.choices import evenly, groups_of, sizes, some_of
from bayeslmm.pictures.grids import Predictor, predictor_within
from bayeslmm.support.figures import (
    across,
    axes_of,
    cut,
    footnote,
    number_axis,
    outer,
    scatter,
    shortened,
    tidy,
    under,
    upward,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

PANELS = 9
STRIPS = 40
MOST_ROWS = 1500
SERIES = 30
BLUE = "#0072B2"


@dataclass(frozen=True, kw_only=True, eq=False)
class Panels:
    """y over a predictor, a panel per group.

    Attributes
    ----------
    level : LevelDesign
    response : str
    predictor : Predictor
    groups : array
        Places of the groups that are drawn, from the smallest to the largest.
    x, y : (n,) arrays
    """

    level: LevelDesign
    response: str
    predictor: Predictor
    groups: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def series(self) -> bool:
        """Whether groups are seen at the same few places, such as times, so that a line may join their rows."""
        return self.predictor.numeric and len(np.unique(self.x)) <= SERIES

    @property
    def words(self) -> str:
        """What is drawn."""
        total = self.level.m - self.level.relatives
        what = f"groups of {self.level.label}"
        some = some_of(len(self.groups), total, what, "from the smallest to the largest")
        grey = some_of(min(len(self.y), MOST_ROWS), len(self.y), "rows", "")
        return "; ".join(filter(None, [some, f"grey: the rows of all groups{f' ({grey})' if grey else ''}"]))

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw each group's rows over those of all groups, in grey."""
        figure, axes = axes_of(ax, [""] * len(self.groups), 1.75)
        some, rows = evenly(len(self.y), MOST_ROWS), sizes(self.level)
        x = self.x + self.predictor.apart * scatter(len(self.x))
        pad = 0.05 * np.ptp(self.y) or 1.0
        for a, g, (left, bottom) in zip(axes, self.groups, outer(axes), strict=True):
            mine = np.flatnonzero(self.level.index == g)
            a.plot(x[some], self.y[some], "o", color="#bbbbbb", ms=2.5, alpha=0.5, mew=0, rasterized=True)
            if self.series and len(np.unique(self.x[mine])) == len(mine):
                mine = mine[np.argsort(self.x[mine], kind="stable")]
                a.plot(self.x[mine], self.y[mine], color=BLUE, lw=0.8, alpha=0.6)
            a.plot(x[mine], self.y[mine], "o", color=BLUE, ms=3.5, mew=0)
            a.set_ylim(self.y.min() - pad, self.y.max() + pad)
            number_axis(a, self.predictor.labels, self.predictor.at, 4)
            count = "1 row" if rows[g] == 1 else f"{rows[g]:,} rows"
            tidy(a, f"{cut(self.level.groups[g], 20)} ({count})", most=34, ticks=False)
            if left:
                upward(a, self.response, 18)
            else:
                a.tick_params(labelleft=False)
            a.xaxis.offsetText.set_visible(False)  # the bottom row's names have it
            if bottom:
                across(a, self.predictor.name, 30)
        if ax is None:
            footnote(figure, self.words)
        return figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Strips:
    """y by group, a strip per group in the order of their means.

    Attributes
    ----------
    level : LevelDesign
    response : str
    groups : array
        Places of the groups that are drawn, the lowest mean first.
    means : (m,) array
    y : (n,) array
    """

    level: LevelDesign
    response: str
    groups: np.ndarray
    means: np.ndarray
    y: np.ndarray

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw the rows of each group, and its mean, into one axis."""
        height = 1.0 + (0.3 if len(self.groups) < 13 else 0.16) * len(self.groups)
        figure, (a,) = axes_of(ax, [""], height)
        a.axvline(self.y.mean(), color="#999999", lw=0.8, ls=(0, (4, 2)), label="mean of all rows")
        label = "rows"
        for line, g in enumerate(self.groups):
            mine = self.y[self.level.index == g]
            mine = mine[evenly(len(mine), 300)]
            shift = 0.24 * scatter(len(mine)) if len(mine) > 8 else np.zeros(len(mine))
            a.plot(mine, line + shift, "o", color=BLUE, ms=3.5, alpha=0.6, mew=0, label=label)
            label = "_rows"
        at = np.arange(len(self.groups))
        if (several := sizes(self.level)[self.groups] > 1).any():
            mark: dict[str, Any] = {"ms": 9, "mew": 1.8, "label": "mean of the group"}
            a.plot(self.means[self.groups][several], at[several], "|", color="#000000", **mark)
        a.set_yticks(at, [shortened(self.level.groups[g]) for g in self.groups], fontsize=9 if len(at) < 31 else 7)
        a.set_ylim(-0.7, len(at) - 0.3)
        a.tick_params(axis="y", length=0)
        a.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8.5)
        total = self.level.m - self.level.relatives
        some = some_of(len(at), total, "groups", "evenly spaced by rank")
        tidy(a, f"{self.response} by {self.level.label}" + (f"; {some}" if some else ""), left=False)
        a.set_title(a.get_title(loc="left"), loc="left", fontsize=10, pad=24)
        under(a, self.response)
        return figure


def data_rows(model: Model, level: LevelDesign, x: str | None = None) -> Panels | Strips:
    """Gather y by group of a level: panels over a number, if there is one or one is asked for, else strips."""
    design = model.design
    predictor = predictor_within(design, level, x)
    if predictor is not None and (x is not None or predictor.numeric):
        return Panels(
            level=level,
            response=response_of(design),
            predictor=predictor,
            groups=groups_of(level, PANELS),
            x=predictor.places(design.frame[predictor.name]),
            y=design.y,
        )
    rows = sizes(level)
    there = np.flatnonzero(rows)
    means = np.full(level.m, np.nan)
    means[there] = (np.bincount(level.index, weights=design.y, minlength=level.m)[there]) / rows[there]
    order = there[np.argsort(means[there], kind="stable")]
    return Strips(
        level=level,
        response=response_of(design),
        groups=order[evenly(len(order), STRIPS)],
        means=means,
        y=design.y,
    )
