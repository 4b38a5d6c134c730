"""Estimates and intervals of every parameter, source by source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.units import unit_of
from bayeslmm.pictures.results import Result
from bayeslmm.support.figures import (
    COLOURS,
    FITS,
    LONG_NAME,
    MARKERS,
    NAMES,
    axes_of,
    footnote,
    grid_rows,
    per_row,
    tidy,
    under,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design

HEIGHT = 0.55  # inches of a small axis, and per source of it
EACH = 0.24
MOST_PARAMETERS = 18
WIDE = 3.0  # how many times as far as the shortest interval of a parameter an axis goes


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """Middle and interval of each parameter by each source.

    Attributes
    ----------
    design : Design
    names : tuple of str
        The parameters that are drawn.
    left_out : int
        How many fixed effects are not.
    tables : tuple of (key, DataFrame)
        Per source its key ("ml", "reml", "joint", "marginal") and middle, low and high by parameter.
    unit : callable
        From a parameter to what it is measured in.
    limits : str
        What a fit's limits are.
    """

    design: Design
    names: tuple[str, ...]
    left_out: int
    tables: tuple[tuple[str, pd.DataFrame], ...]
    unit: Callable[[str], str]
    limits: str = "profile"

    @property
    def height(self) -> float:
        """Inches of a row of axes."""
        return HEIGHT + EACH * len(self.tables) + 0.25

    @property
    def rows(self) -> int:
        """Rows of axes."""
        return grid_rows(self.names)

    def span(self, name: str) -> tuple[float, float]:
        """Where a parameter's axis begins and ends: all middles, and ends that are not far off."""
        numbers = np.array([table.loc[name, ["middle", "low", "high"]] for _, table in self.tables], dtype=float)
        middle, low, high = numbers.T
        widths = (high - low)[np.isfinite(high - low) & (high > low)]
        if widths.size == 0:
            return float(middle.min()), float(middle.max())
        reach = WIDE * widths.min()
        ends = [middle.min(), middle.max(), *np.maximum(low, middle - reach), *np.minimum(high, middle + reach)]
        return float(np.nanmin(ends)), float(np.nanmax(ends))

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw one small axis per parameter, in its own units; an arrow where an interval goes on."""
        figure, axes = axes_of(ax, self.names, self.height)
        for a, name in zip(axes, self.names, strict=True):
            self._draw_one(a, name)
        if ax is None:
            footnote(figure, self.words)
        return figure

    @property
    def words(self) -> str:
        """What the intervals are, and what is left out."""
        keys = [key for key, _ in self.tables]
        fits = [NAMES[key] for key in keys if key in FITS]
        said = [f"{' and '.join(fits)}: 95 % {self.limits} limits" + (" (REML's beta: 2 SE)" if "reml" in keys else "")]
        said = said if fits else []
        said += ["posterior: mean and middle 95 %"] if len(keys) > len(fits) else []
        said += [f"{self.left_out} fixed effects are left out"] if self.left_out else []
        return "; ".join(said)

    def _draw_one(self, a: Axes, name: str) -> None:
        low, high = self.span(name)
        pad = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        left, right = low - pad, high + pad
        if name.startswith("sigma") and low < 0.35 * high:
            left = -0.03 * high  # zero is shown where it is near, and not hidden by the axis
        for at, (key, table) in enumerate(self.tables):
            middle, begin, end = table.loc[name, ["middle", "low", "high"]]
            colour: Any = COLOURS[key]
            if np.isfinite([begin, end]).all():
                shown = np.clip([begin, end], left, right)
                a.plot(shown, [at, at], color=colour, lw=1.6, solid_capstyle="butt", zorder=2.5)
                for goes_on, where, arrow in ((begin < left, left, "<"), (end > right, right, ">")):
                    if goes_on:
                        a.plot([where], [at], arrow, color=colour, ms=4.5, clip_on=False, zorder=3)
            a.plot([middle], [at], MARKERS[key], color=colour, ms=5, clip_on=False, zorder=3)
        a.set_xlim(left, right)
        a.set_ylim(len(self.tables) - 0.5, -0.5)
        a.set_yticks(range(len(self.tables)), [NAMES[key] for key, _ in self.tables])
        a.tick_params(axis="y", length=0)
        room = 44 - 2 * max(0, max(len(NAMES[key]) for key, _ in self.tables) - 8)  # names of sources take theirs
        tidy(a, name, left=False, most=LONG_NAME if per_row(self.names) == 3 else room)
        under(a, self.unit(name), 27 if per_row(self.names) == 3 else 40)
        a.grid(axis="x", color="#dddddd", lw=0.6)
        a.set_axisbelow(True)


def estimates(design: Design, results: Sequence[Result]) -> Estimates:
    """Gather what each result says of every parameter; of many fixed effects, the first.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> from bayeslmm.pictures.results import OfFit
    >>> lmm = blm.example("dyestuff")
    >>> both = estimates(lmm.design, [OfFit(fit=lmm.ml()), OfFit(fit=lmm.reml())])
    >>> both.names, [key for key, _ in both.tables]
    (('beta[Intercept]', 'sigma', 'sigma_u2'), ['ml', 'reml'])
    """
    return estimates_of(design, [(result.key, result.parameters()) for result in results])


def estimates_of(
    design: Design,
    tables: Sequence[tuple[str, pd.DataFrame]],
    unit: Callable[[str], str] | None = None,
    limits: str = "profile",
) -> Estimates:
    """The same where there are tables of middle, low and high already, each with its key."""
    every = list(tables[0][1].index)
    names = shown_names(every, design.p)
    return Estimates(
        design=design, names=tuple(names), left_out=len(every) - len(names), tables=tuple(tables),
        unit=unit or partial(unit_of, design), limits=limits,
    )  # fmt: skip


def shown_names(every: list[str], p: int) -> list[str]:
    """Of many parameters, p of which are fixed effects that come first, those that fit on a page."""
    return every[: max(1, MOST_PARAMETERS - len(every) + p)] + every[p:] if len(every) > MOST_PARAMETERS else every
