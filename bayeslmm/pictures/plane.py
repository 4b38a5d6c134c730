"""Shrinkage in the plane of two effects: arrows from each group's own fit to its pooled one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.data.table import count
from bayeslmm.design.units import per_unit, response_of
from bayeslmm.pictures.choices import groups_of, some_of
from bayeslmm.pictures.results import Result
from bayeslmm.support.figures import COLOURS, across, axes_of, key_below, shortened, tidy, upward
from bayeslmm.tables.shrinkage import unshrunk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

MOST_ARROWS = 100
NAMED = 20  # groups up to which each is named
SHARES = (0.5, 0.95)  # of the groups, within the ellipses


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Two effects of each group, without and with shrinkage.

    Attributes
    ----------
    name : str
        Of the result: "REML".
    key : str
        Of its colour.
    axes : (str, str)
        What the two axes measure.
    level : LevelDesign
    groups : array
        Places of the groups that are drawn.
    own, pooled : (m, 2) arrays
        On the scale of the coefficients: of the population plus the group's; `own` is NaN where a group's rows don't
        determine both.
    centre : (2,) array
        The population's.
    covariance : (2, 2) array
        Of groups around it.
    """

    name: str
    key: str
    axes: tuple[str, str]
    level: LevelDesign
    groups: np.ndarray
    own: np.ndarray
    pooled: np.ndarray
    centre: np.ndarray
    covariance: np.ndarray

    def ellipse(self, share: float, points: int = 181) -> np.ndarray:
        """The ellipse (points, 2) that holds this share of the population's groups."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        angle = np.linspace(0, 2 * np.pi, points)
        circle = np.sqrt(-2 * np.log1p(-share)) * np.stack([np.cos(angle), np.sin(angle)])
        return self.centre + (root @ circle).T

    @property
    def span(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends (2,) of the axes: all that is pooled, and own fits that are not far off."""
        near = np.concatenate([self.pooled[self.groups], self.ellipse(SHARES[-1])])
        low, high = near.min(axis=0), near.max(axis=0)
        reach = 0.75 * np.where(high > low, high - low, np.maximum(np.abs(high), 1e-300))
        own = self.own[self.groups]
        own = own[np.isfinite(own).all(axis=1)]
        if len(own):
            low = np.minimum(low, np.maximum(own.min(axis=0), low - reach))
            high = np.maximum(high, np.minimum(own.max(axis=0), high + reach))
        pad = 0.05 * np.where(high > low, high - low, 1.0)
        return low - pad, high + pad

    @property
    def outside(self) -> int:
        """How many of the own fits that are drawn lie outside of the axes."""
        low, high = self.span
        own = self.own[self.groups]
        return int(((own < low) | (own > high)).any(axis=1).sum())

    @property
    def words(self) -> str:
        """How to read it, and what is missing."""
        level, drawn = self.level, len(self.groups)
        said = [f"Arrows go from what a group's own rows say to what {self.name} makes of it"]
        said += [some] if (some := some_of(drawn, level.m - level.relatives, "groups", "evenly spaced by size")) else []
        few = int(np.isnan(self.own[self.groups]).any(axis=1).sum())
        said += [f"{count(few, 'group')} without an arrow: too few rows for an own fit"] if few else []
        said += [f"{count(self.outside, 'arrow')} beginning outside"] if self.outside else []
        return "; ".join(said)

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw an arrow per group, and the ellipses that hold half and 95 % of the population."""
        from matplotlib.lines import Line2D

        figure, (a,) = axes_of(None if ax is None else [ax], [""], 5.0)
        colour = COLOURS[self.key]
        for share, width in zip(SHARES, (1.0, 1.4), strict=True):
            a.plot(*self.ellipse(share).T, color=colour, lw=width, ls=(0, (5, 2)), alpha=0.8)
        own, pooled = self.own[self.groups], self.pooled[self.groups]
        arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": "#777777", "lw": 0.8, "shrinkA": 2.5, "shrinkB": 3}
        arrow["mutation_scale"] = 7
        for begin, end in zip(own, pooled, strict=True):
            if np.isfinite(begin).all():
                a.annotate("", xy=end, xytext=begin, arrowprops=arrow | {"clip_on": True}, annotation_clip=False)
        a.plot(*own.T, "o", mfc="white", mec="#555555", ms=4.5, zorder=3)
        a.plot(*pooled.T, "o", color=colour, ms=5, zorder=4)
        a.plot(*self.centre, "+", color="#000000", ms=13, mew=2, zorder=5)
        low, high = self.span
        if len(self.groups) <= NAMED:
            for g, place in zip(self.groups, np.where(np.isfinite(own), own, pooled), strict=True):
                if ((place >= low) & (place <= high)).all():
                    label = shortened(self.level.groups[g], 14)
                    a.annotate(label, place, xytext=(4, 3), textcoords="offset points", fontsize=7.5, color="#444444")
        tidy(a, f"{self.level.label}: each group's own fit, and the pooled one by {self.name}")
        a.set_xlim(low[0], high[0])
        a.set_ylim(low[1], high[1])
        across(a, self.axes[0], 70)
        upward(a, self.axes[1], 50)
        dot: dict[str, Any] = {"ls": "", "marker": "o"}
        handles = {
            "own rows": Line2D([], [], mfc="white", mec="#555555", ms=4.5, **dot),
            "pooled": Line2D([], [], color=colour, ms=5, **dot),
            "population": Line2D([], [], color="#000000", ls="", marker="+", ms=10, mew=2),
            "holds 50 % and 95 % of the population": Line2D([], [], color=colour, lw=1.3, ls=(0, (5, 2))),
        }
        key_below(figure, handles, self.words if ax is None else "")
        return figure


def shrinkage_plane(model: Model, result: Result, level: LevelDesign, effects: tuple[int, int] = (0, 1)) -> Plane:
    """Compute where two effects of each group lie without shrinkage, where with it, and how groups vary."""
    pair = list(effects)
    beta = result.values["beta"].mean(axis=0)
    place = {name: j for j, name in enumerate(model.design.coef)}
    names = [level.effects[e] for e in pair]
    centre = np.array([beta[place[name]] if name in place else 0.0 for name in names])
    rows = groups_of(level, MOST_ARROWS)
    words = []
    for e, name in zip(pair, names, strict=True):
        unit = per_unit(response_of(model.design), name, level.columns[:, e])
        words.append(f"{name}{'' if name in place else ', as a deviation'} ({unit})")
    return Plane(
        name=result.name,
        key=result.key,
        axes=(words[0], words[1]),
        level=level,
        groups=rows,
        own=centre + unshrunk(model.reml(), level)[:, pair],
        pooled=centre + result.effects(level).middle[:, pair],
        centre=centre,
        covariance=result.covariances(level).mean(axis=0)[np.ix_(pair, pair)],
    )
