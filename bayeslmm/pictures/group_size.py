"""Each group's estimate against its size: the small ones scatter most, and are drawn in furthest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.data.table import count
from bayeslmm.design.describe import relation
from bayeslmm.design.units import per_unit, response_of
from bayeslmm.pictures.choices import sizes, some_of
from bayeslmm.pictures.results import Result
from bayeslmm.support.figures import COLOURS, axes_of, key_below, number_axis, tidy, upward
from bayeslmm.tables.shrinkage import unshrunk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

MOST_GROUPS = 400
Z95 = 1.959964


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupSizes:
    """One effect of each group with rows, without and with shrinkage, by the group's size.

    Attributes
    ----------
    name, key : str
        Of the result.
    level : LevelDesign
    effect : int
    unit : str
    rows : (k,) array
        Rows of the groups that are drawn.
    own, pooled : (k,) arrays
        Effects; `own` is NaN where a group's rows don't determine it.
    sd : float
        Of groups in the population.
    noise : float, or None
        SD of one row around its group's mean, where a mean of n rows has an SD of noise / sqrt(n).
    total : int
        How many groups have rows.
    """

    name: str
    key: str
    level: LevelDesign
    effect: int
    unit: str
    rows: np.ndarray
    own: np.ndarray
    pooled: np.ndarray
    sd: float
    noise: float | None
    total: int

    @property
    def balanced(self) -> bool:
        """Whether all groups are of one size."""
        return bool(np.ptp(self.rows) == 0)

    @property
    def places(self) -> np.ndarray:
        """Where on the horizontal axis the groups stand: sizes, side by side where they are alike; ranks if all are."""
        value = np.where(np.isfinite(self.own), self.own, self.pooled)
        if self.balanced:
            return np.argsort(np.argsort(value, kind="stable")) + 1.0
        out = np.log(self.rows.astype(float))
        distinct = np.unique(out)
        gaps = np.diff(distinct, prepend=-np.inf, append=np.inf)
        for x, room in zip(distinct, 0.4 * np.minimum(gaps[:-1], gaps[1:]), strict=True):
            alike = np.flatnonzero(out == x)
            rank = np.argsort(np.argsort(value[alike], kind="stable"))
            if len(alike) > 1:
                out[alike] += min(room, 0.006 * len(alike) + 0.02) * (2 * rank / (len(alike) - 1) - 1)
        return np.exp(out)

    @property
    def reach(self) -> float:
        """How far the vertical axis goes from zero."""
        inner = max(np.abs(self.pooled).max(initial=0.0), Z95 * self.sd)
        own = np.abs(self.own[np.isfinite(self.own)])
        return float(1.08 * max(inner, min(own.max(initial=0.0), 4 * inner) if inner > 0 else own.max(initial=1.0)))

    @property
    def words(self) -> str:
        """How to read it, and what is missing."""
        said = ["A line goes from what a group's own rows say to the pooled estimate"]
        said += [f"pale band: 95 % of the population of {self.level.label}"] if self.sd > 0 else []
        some = some_of(len(self.rows), self.total, "groups", "evenly spaced by size")
        said += [some] if some else []
        few = int(np.isnan(self.own).sum())
        said += [f"{count(few, 'group')} with too few rows for an estimate of its own"] if few else []
        far = int((np.abs(self.own) > self.reach).sum())
        said += [f"{count(far, 'own estimate')} outside of the picture"] if far else []
        return "; ".join(said)

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw a line from each group's own estimate to its pooled one, over the population's interval."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch
        from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

        figure, (a,) = axes_of(None if ax is None else [ax], [""], 3.9)
        colour, x, reach = COLOURS[self.key], self.places, self.reach
        a.axhspan(-Z95 * self.sd, Z95 * self.sd, color=colour, alpha=0.12, lw=0)
        a.axhline(0, color="#777777", lw=0.8)
        a.vlines(x, self.own, self.pooled, color="#999999", lw=0.8)
        alpha = 1.0 if len(x) < 150 else 0.6
        a.plot(x, self.own, "o", mfc="white", mec="#555555", ms=4.5, alpha=alpha)
        a.plot(x, self.pooled, "o", color=colour, ms=4.5, alpha=alpha)
        handles: dict[str, Any] = {
            "own rows": Line2D([], [], mfc="white", mec="#555555", ms=4.5, ls="", marker="o"),
            f"pooled ({self.name})": Line2D([], [], color=colour, ms=4.5, ls="", marker="o"),
        }
        if self.sd > 0:
            handles["95 % of the population"] = Patch(color=colour, alpha=0.2, lw=0)
        of = "" if self.level.r == 1 else f", {self.level.effects[self.effect]}"
        title = f"{self.level.label}{of}: estimates against the size of a group"
        if self.balanced:
            a.set_xlabel(
                f"groups in order (each has {self.rows[0]} {'row' if self.rows[0] == 1 else 'rows'})", fontsize=9
            )
            tidy(a, title)
            number_axis(a, (), np.array([1.0, len(self.rows)]), 8, whole=True)
        else:
            if self.noise is not None:
                n = np.geomspace(x.min(), x.max(), 200)
                edge = Z95 * np.sqrt(self.sd**2 + self.noise**2 / n)
                for sign in (-1, 1):
                    a.plot(n, sign * edge, color="#555555", lw=1, ls=(0, (4, 2)))
                handles["95 % of own estimates"] = Line2D([], [], color="#555555", lw=1, ls=(0, (4, 2)))
            a.set_xscale("log")
            tidy(a, title, ticks=False)
            few = np.unique(self.rows)
            a.xaxis.set_major_locator(
                FixedLocator(few.tolist())
                if len(few) < 9
                else LogLocator(
                    10, subs=(1.0, 2.0, 5.0) if few[-1] > 10 * few[0] else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
                )
            )
            a.xaxis.set_minor_locator(NullLocator())
            a.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}" if n >= 1 else ""))
            a.set_xlim(x.min() / 1.12, x.max() * 1.12)
            a.set_xlabel("rows of the group (logarithmic)", fontsize=9)
        a.set_ylim(-reach, reach)
        upward(a, f"effect ({self.unit})", 44)
        key_below(figure, handles, self.words if ax is None else "")
        return figure


def group_sizes(model: Model, result: Result, level: LevelDesign, effect: int = 0) -> GroupSizes:
    """Compute one effect of each group with rows, without and with shrinkage; of many groups, some evenly by size."""
    rows = sizes(level)
    there = np.flatnonzero(rows)
    order = there[np.argsort(rows[there], kind="stable")]
    if len(order) > MOST_GROUPS:
        order = order[np.linspace(0, len(order) - 1, MOST_GROUPS).round().astype(int)]
    variance = result.covariances(level)[:, effect, effect]
    finer = any(relation(other, level) in ("nested", "same") for other in model.design.levels if other is not level)
    constant = level.r == 1 and bool((level.columns == 1).all())
    plain = model.design.residual.plain and constant and not finer and not level.related
    return GroupSizes(
        name=result.name,
        key=result.key,
        level=level,
        effect=effect,
        unit=per_unit(response_of(model.design), level.effects[effect], level.columns[:, effect]),
        rows=rows[order],
        own=unshrunk(model.reml(), level)[order, effect],
        pooled=result.effects(level).middle[order, effect],
        sd=float(np.sqrt(variance.mean())),
        noise=float(np.sqrt((result.values["sigma"] ** 2).mean())) if plain else None,
        total=len(there),
    )
