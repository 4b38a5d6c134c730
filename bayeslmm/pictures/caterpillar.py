"""The random effects of one level in order, with intervals and what shrinkage did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.units import per_unit, response_of
from bayeslmm.pictures.choices import evenly, some_of
from bayeslmm.pictures.results import Result, Spread
from bayeslmm.support.figures import COLOURS, MARKERS, axes_of, shortened, tidy, under
from bayeslmm.tables.shrinkage import unshrunk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

MOST_GROUPS = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Caterpillar:
    """One effect of a level's groups.

    Attributes
    ----------
    level : LevelDesign
    effect : int
    unit : str
    order : array
        Places of the groups that are drawn, from the lowest effect to the highest.
    sources : tuple of (key, label, Spread)
        Middle and interval of all groups, (m,) each.
    own : (m,) array
        Effects without shrinkage; NaN where a group's rows don't determine it.
    """

    level: LevelDesign
    effect: int
    unit: str
    order: np.ndarray
    sources: tuple[tuple[str, str, Spread], ...]
    own: np.ndarray

    @property
    def title(self) -> str:
        """What is drawn, and of how many."""
        level, drawn = self.level, len(self.order)
        some = some_of(drawn, level.m, "groups", "evenly spaced by rank")
        of = "" if level.r == 1 else f", {level.effects[self.effect]}"
        return f"{level.name}{of}: one per {level.label}" + (f"; {some}" if some else "")

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw a line per group."""
        order, at = self.order, np.arange(len(self.order))
        height = 0.6 + (0.3 if len(order) < 13 else 0.15) * len(order)
        figure, (a,) = axes_of(None if ax is None else [ax], [""], height)
        a.axvline(0, color="#999999", lw=0.8)
        shifts = [0.0] if len(self.sources) == 1 else [-0.16, 0.16]
        for (key, label, u), shift in zip(self.sources, shifts, strict=True):
            a.hlines(at + shift, u.low[order], u.high[order], color=COLOURS[key], lw=1.3)
            a.plot(u.middle[order], at + shift, MARKERS[key], color=COLOURS[key], ms=3.5, label=label)
        reach = 2 * max(np.abs([u.low, u.high]).max() for _, _, u in self.sources) or np.inf  # an SD may be zero
        own = self.own[order]
        far = np.abs(own) > reach
        if np.isfinite(own).any():
            outside = f" ({far.sum()} further out)" if far.any() else ""
            crosses = np.where(far, np.nan, own)
            a.plot(crosses, at, "x", color="#000000", ms=4.5, mew=1, label=f"without shrinkage{outside}")
        a.set_yticks(at, [shortened(self.level.groups[g]) for g in order], fontsize=9 if len(order) < 31 else 7)
        a.set_ylim(-0.7, len(order) - 0.3)
        a.tick_params(axis="y", length=0)
        tidy(a, self.title, left=False)
        under(a, self.unit)
        a.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8.5)
        a.set_title(a.get_title(loc="left"), loc="left", fontsize=10, pad=24)
        return figure


def caterpillar(model: Model, results: Sequence[Result], level: LevelDesign, effect: int = 0) -> Caterpillar:
    """Gather a level's random effects by one or two results; of many groups, 60 evenly spaced by rank.

    A cross shows a group's effect without shrinkage, where its own rows determine it: by least squares on what the
    fixed effects and the other levels leave of them, by REML. Crosses far outside of the intervals are counted.
    """
    own = unshrunk(model.reml(), level)[:, effect]
    return caterpillar_of(results, level, effect, response_of(model.design), own)


def caterpillar_of(
    results: Sequence[Any], level: LevelDesign, effect: int, scale: str, unshrunk: np.ndarray
) -> Caterpillar:
    """The same where the scale of the effects and what they are without shrinkage (m,) are known."""
    sources = []
    for result in results:
        u = result.effects(level)
        words = f"{result.name}, {result.of_effects}" if result.key != result.name.lower() else ""
        label = words or f"{result.name} mode, {result.of_effects}"
        own = Spread(middle=u.middle[:, effect], low=u.low[:, effect], high=u.high[:, effect])
        sources.append((result.key, label, own))
    first, last = sources[0][2].middle, sources[-1][2].middle
    order = np.argsort(last if np.ptp(first) == 0 else first, kind="stable")
    return Caterpillar(
        level=level,
        effect=effect,
        unit=per_unit(scale, level.effects[effect], level.columns[:, effect]),
        order=order[evenly(level.m, MOST_GROUPS)],
        sources=tuple(sources),
        own=unshrunk,
    )
