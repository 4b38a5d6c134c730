"""Shares of ordered categories: observed, and in replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.choices import evenly
from bayeslmm.pictures.grids import predictor_of
from bayeslmm.pictures.link_results import LinkPictured, replicates
from bayeslmm.support.figures import COLOURS, across, axes_of, footnote, number_axis, outer, tidy, upward

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
CLASSES = 3  # of a number


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """Shares of the categories among some rows."""

    title: str
    rows: int
    observed: np.ndarray
    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Categories:
    """A panel for each value of a predictor, or one for all rows."""

    response: str
    categories: tuple[str, ...]
    key: str
    words: str
    panels: tuple[Panel, ...]
    left_out: int

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw observed shares as bars, expected ones as points with their intervals."""
        figure, axes = axes_of(ax, [panel.title for panel in self.panels], 2.6 if len(self.panels) > 1 else 3.4)
        at = np.arange(len(self.categories))
        top = max(max(panel.observed.max(), panel.high.max()) for panel in self.panels)
        for a, panel, (left, bottom) in zip(axes, self.panels, outer(axes), strict=True):
            a.bar(at, panel.observed, 0.75, color="#c9d4de", lw=0)
            a.vlines(at, panel.low, panel.high, color=COLOURS[self.key], lw=2, zorder=3)
            a.plot(at, panel.expected, "o", color=COLOURS[self.key], ms=6, zorder=4)
            number_axis(a, self.categories, at, 7 if len(self.panels) == 1 else 5)
            a.set_ylim(0, 1.06 * top)
            tidy(a, panel.title, most=40 if len(self.panels) > 1 else 80, ticks=False)
            if bottom:
                across(a, self.response, 40)
            if left:
                upward(a, "share of rows", 30)
        if ax is None:
            more = f"; {self.left_out} values more are left out" if self.left_out else ""
            footnote(figure, f"Bars: observed; points: mean and middle 95 % of {self.words}{more}")
        return figure


def categories(pictured: LinkPictured, by: str | None, effects: str, draws: int, random_seed: int | None) -> Categories:
    """Count the categories among the data and the replicates."""
    model = pictured.model
    names = model.family.responses(model.outcome)
    if not names:
        other = "plot_binned_residuals" if model.family.takes_trials else "plot_rootogram"
        raise DescriptionError(
            f"This picture is of ordered categories; {model.outcome.name} is a {model.family.words}. "
            f"Write glmm.{other}(result)."
        )
    made = replicates(pictured, effects, draws, random_seed)
    parts, left_out = _parts(model, by)
    panels = []
    for title, rows in parts:
        seen = np.bincount(model.outcome.y[rows].astype(int), minlength=len(names)) / len(rows)
        drawn = np.stack([np.bincount(one[rows].astype(int), minlength=len(names)) for one in made.y]) / len(rows)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        panels.append(
            Panel(title=title, rows=len(rows), observed=seen, expected=drawn.mean(axis=0), low=low, high=high)
        )
    return Categories(
        response=model.outcome.name, categories=tuple(names), key=pictured.key, words=made.words,
        panels=tuple(panels), left_out=left_out,
    )  # fmt: skip


def _parts(model, by: str | None) -> tuple[list[tuple[str, np.ndarray]], int]:
    """(title, rows) of each panel, and how many values are left out."""
    if by is None:
        return [(f"{model.outcome.name}: observed and expected", np.arange(model.design.n))], 0
    predictor = predictor_of(model.design, by)
    assert predictor is not None  # it was asked for
    places = predictor.places(model.design.frame[predictor.name])
    if predictor.numeric and len(np.unique(places)) > MOST_PANELS:
        ends = np.unique(np.quantile(places, np.arange(1, CLASSES) / CLASSES))
        of = np.searchsorted(ends, places, side="left")
        titles = []
        for k in np.unique(of):
            own = places[of == k]
            titles.append((f"{predictor.name} {own.min():.4g} to {own.max():.4g}", np.flatnonzero(of == k)))
        return titles, 0
    values = np.unique(places)
    kept = values[evenly(len(values), MOST_PANELS)]
    label = (lambda x: predictor.labels[int(x)]) if predictor.labels else (lambda x: f"{x:.6g}")
    found = [(f"{predictor.name} = {label(x)}", np.flatnonzero(places == x)) for x in kept]
    return [(f"{title} ({len(rows)} rows)", rows) for title, rows in found], len(values) - len(kept)
