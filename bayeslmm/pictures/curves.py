"""Curves of the groups, of the group in the middle, and of the population: a curved link makes them three things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DescriptionError
from bayeslmm.link_model import LinkModel
from bayeslmm.pictures.choices import evenly, level_of, some_of
from bayeslmm.pictures.grids import Predictor, grid_frame, held, predictor_of
from bayeslmm.pictures.results import Spread
from bayeslmm.predictions.link_predictions import CATEGORY, link_predictions
from bayeslmm.support.figures import across, axes_of, cut, key_below, number_axis, outer, tidy, upward
from bayeslmm.tables.result import interval_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GROUPS = 40
MOST_PANELS = 6
MIDDLE, AVERAGED = "#000000", "#D55E00"


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Means over a predictor's grid; of ordered categories a panel each.

    Attributes
    ----------
    panels : tuple of str
        Names of the categories; one "" where there are none.
    groups : (C, groups, grid) array
        Curves of groups that were seen, with their own effects.
    middle, averaged : Spread of (C, grid) arrays
        Of a group with u = 0, and of the mean over all groups.
    """

    name: str
    response: str
    predictor: Predictor
    panels: tuple[str, ...]
    label: str
    total: int
    groups: np.ndarray
    middle: Spread
    averaged: Spread
    held: dict[str, str]
    axis: str

    @property
    def words(self) -> str:
        """What the lines are."""
        said = [f"By {self.name}, bands of 95 %. A group's curve keeps its effect; the population's is the mean of all"]
        if self.held:
            said.append("held at " + ", ".join(f"{cut(k, 18)} = {cut(v, 18)}" for k, v in list(self.held.items())[:6]))
        some = some_of(self.groups.shape[1], self.total, f"groups of {self.label}", "evenly spaced by effect")
        return "; ".join(filter(None, [*said, some]))

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw the curves."""
        names = list(self.panels)
        figure, axes = axes_of(ax, names, 3.8 if len(names) == 1 else 2.3)
        handles: dict[str, Any] = {}
        for c, (a, (left, bottom)) in enumerate(zip(axes, outer(axes), strict=True)):
            handles = self._draw_one(a, c)
            number_axis(a, self.predictor.labels, self.predictor.at, 8 if len(names) == 1 else 4)
            one = f"Mean of {self.response} over {self.predictor.name}"
            tidy(
                a,
                one if len(names) == 1 else f"{self.response} = {names[c]}",
                most=90 if len(names) == 1 else 40,
                ticks=False,
            )
            if bottom:
                across(a, self.predictor.name, 60)
            if left:
                upward(a, self.axis, 44)
        if len(names) > 1:
            top = max(a.get_ylim()[1] for a in axes)
            for a in axes:
                a.set_ylim(0, top)
        key_below(figure, handles, self.words if ax is None else "")
        return figure

    def _draw_one(self, a: Axes, c: int) -> dict[str, Any]:
        from matplotlib.lines import Line2D

        at, handles = self.predictor.at, {}
        lines = self.predictor.numeric and len(at) > 2
        if self.groups.size:
            a.plot(at, self.groups[c].T, "-" if lines else "-o", color="#8fa8bf", lw=0.8, ms=2.5, alpha=0.7)
            handles[f"each {self.label}"] = Line2D([], [], color="#8fa8bf", lw=1)
        shift = 0.0 if lines else 0.06 * (np.diff(at).min() if len(at) > 1 else 1.0)
        for spread, colour, label, dash, side in (
            (self.middle, MIDDLE, "the group in the middle (u = 0)", "-", -1),
            (self.averaged, AVERAGED, "mean over all groups", (0, (5, 2)), 1),
        ):
            x = at + side * shift
            if lines:
                a.fill_between(x, spread.low[c], spread.high[c], color=colour, alpha=0.18, lw=0)
            else:
                a.vlines(x, spread.low[c], spread.high[c], color=colour, lw=1.6)
            a.plot(x, spread.middle[c], ls=dash, color=colour, lw=2.2, marker=None if lines else "o", ms=5)
            handles[label] = Line2D([], [], color=colour, lw=2.2, ls=dash)
        return handles


def curves(model: LinkModel, result: Any, name: str, x: str | None = None, level: str | None = None) -> Curves:
    """Compute the three kinds of curves over one predictor, the rest where it is typical."""
    design = model.design
    predictor = predictor_of(design, x)
    if predictor is None:
        raise DescriptionError("The model has no predictor that its mean could be drawn over.")
    if not design.levels:
        raise DescriptionError(
            "The model has no groups: all three curves would be one. Write glmm.predictions(result)."
        )
    if any(own.related for own in design.levels):
        raise DescriptionError(
            "A level has a known covariance, so that its groups have no common variance to average over. Write "
            "glmm.predictions(result, scope='average')."
        )
    at = level_of(design, level)
    frame = grid_frame(design, {predictor.name: predictor.grid})
    names = model.family.responses(model.outcome)
    panels = names if len(names) <= MOST_PANELS else tuple(names[k] for k in evenly(len(names), MOST_PANELS))
    middle, averaged = (_spread(model, result, frame, scope, panels) for scope in ("population", "population-averaged"))
    varying = predictor.name not in at.level.group
    groups = _groups(model, result, at, frame, panels) if varying else np.zeros((len(panels) or 1, 0, len(frame)))
    what = "probability" if names or model.family.takes_trials else f"mean of {model.outcome.name}"
    return Curves(
        name=name, response=model.outcome.name, predictor=predictor, panels=tuple(panels) or ("",), label=at.label,
        total=at.m, groups=groups, middle=middle, averaged=averaged, held=held(design, {predictor.name}), axis=what,
    )  # fmt: skip


def _spread(model: LinkModel, result: Any, frame: pd.DataFrame, scope: str, panels: Sequence[str]) -> Spread:
    found = link_predictions(model, result, frame, scope=scope).frame
    ends = ("estimate", *interval_columns(0.95))
    middle, low, high = (_shaped(found, column, len(frame), panels) for column in ends)
    return Spread(middle=middle, low=low, high=high)


def _shaped(found: pd.DataFrame, column: str, rows: int, panels: Sequence[str]) -> np.ndarray:
    """(C, rows) of a table, for some of its categories."""
    values = found[column].to_numpy(dtype=float).reshape(-1, rows)
    if not panels:
        return values
    every = found[CATEGORY].to_numpy().reshape(-1, rows)[:, 0].tolist()
    return values[[every.index(name) for name in panels]]


def _groups(model: LinkModel, result: Any, level: Any, frame: pd.DataFrame, panels: Sequence[str]) -> np.ndarray:
    """Curves (C, groups, grid) of some groups of a level, the other levels' effects at zero."""
    design = model.design
    seen = np.flatnonzero(np.bincount(level.index, minlength=level.m))
    first = np.array([int(np.argmax(level.index == g)) for g in seen])
    scope = {one.name: "observed" if one is level else "population" for one in design.levels}
    chosen = np.arange(len(seen))
    if len(seen) > MOST_GROUPS:
        middle = frame.iloc[[len(frame) // 2]]
        one = _of_groups(design, level, middle, first)
        own = _shaped(link_predictions(model, result, one, scope=scope).frame, "estimate", len(one), panels)[0]
        chosen = np.argsort(own, kind="stable")[evenly(len(own), MOST_GROUPS)]
    rows = _of_groups(design, level, frame, first[chosen])
    found = link_predictions(model, result, rows, scope=scope).frame
    return _shaped(found, "estimate", len(rows), panels).reshape(-1, len(chosen), len(frame))


def _of_groups(design: Any, level: Any, frame: pd.DataFrame, first: np.ndarray) -> pd.DataFrame:
    """The rows of the grid once for each group, of which `first` has a row each."""
    whole = pd.concat([frame] * len(first), ignore_index=True)
    for name in level.level.group:
        whole[name] = np.repeat(design.frame[name].to_numpy()[first], len(frame))
        if isinstance(design.frame[name].dtype, pd.CategoricalDtype):
            whole[name] = whole[name].astype(design.frame[name].dtype)
    return whole
