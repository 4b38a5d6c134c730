"""Where the variance around X beta is: a share per level and one for the rows, also over the column of a slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.counted import mean, moment
from bayeslmm.design.units import response_of
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.grids import Predictor, grid_frame, predictor_of, predictors
from bayeslmm.pictures.results import COVERAGE, Result, Spread, psi_of
from bayeslmm.support.figures import BANDS, across, axes_of, cut, footnote, number_axis, shortened, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

ROWS = "#999999"  # of the rows' own share


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """Shares of the variance of y around X beta.

    Attributes
    ----------
    name : str
        Of the result.
    components : tuple of str
        "class:school (u2)", ..., "rows (e)".
    shares : Spread
        Of each component, averaged over the rows: (components,).
    total : float
        SD of y around X beta.
    unit : str
    predictor : Predictor or None
        The column over whose values the shares change.
    over : Spread, or None
        Shares at its values: (points, components).
    intervals : bool
        Whether there are any.
    """

    name: str
    components: tuple[str, ...]
    shares: Spread
    total: float
    unit: str
    predictor: Predictor | None
    over: Spread | None
    intervals: bool

    @property
    def colours(self) -> list[str]:
        """One per component, grey for the rows."""
        return [BANDS[k % len(BANDS)] for k in range(len(self.components) - 1)] + [ROWS]

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw a bar of the shares over each share with its interval, and beside it the shares over the predictor."""
        count = 1 if self.over is None else 2
        figure, axes = axes_of(ax, [""] * count, 1.3 + 0.42 * len(self.components))
        self._bars(axes[0])
        if self.over is not None:
            self._lines(axes[1])
        if ax is None:
            how = "with the middle 95 % of the draws" if self.intervals else "a fit's estimates, without intervals"
            sd = f"SD {self.total:.3g} {cut(self.unit, 30)}"
            footnote(
                figure, f"Shares of the variance around X beta ({sd}) by {self.name}, averaged over the rows, {how}"
            )
        return figure

    def _bars(self, a: Axes) -> None:
        left, names = 0.0, ["all"]
        for k, (colour, share) in enumerate(zip(self.colours, self.shares.middle, strict=True)):
            a.barh([0], [share], left=[left], color=colour, height=0.62, edgecolor="white")
            left += share
            low, high = self.shares.low[k], self.shares.high[k]
            if self.intervals:
                a.hlines([k + 1], low, high, color=colour, lw=2)
            a.plot([share], [k + 1], "o", color=colour, ms=6, clip_on=False, zorder=3)
            names.append(f"{cut(self.components[k], 24)}\n{100 * share:.0f} %")
            if self.intervals:
                names[-1] += f" ({100 * low:.0f} to {100 * high:.0f})"
        ticks = [name.replace("$", r"\$") for name in names]
        a.set_yticks(range(len(self.components) + 1), ticks, fontsize=9)
        a.set_ylim(len(self.components) + 0.6, -0.6)
        a.set_xlim(0, 1)
        a.tick_params(axis="y", length=0)
        tidy(a, "Shares of the variance", left=False, most=48)
        a.set_xticks([0, 0.25, 0.5, 0.75, 1])
        a.set_xlabel("share of the variance", fontsize=9)

    def _lines(self, a: Axes) -> None:
        predictor, over = self.predictor, self.over
        if predictor is None or over is None:
            return
        at = predictor.at
        for k, (colour, name) in enumerate(zip(self.colours, self.components, strict=True)):
            dashes: Any = "-" if k % 2 == 0 else (0, (5, 2))
            if self.intervals:
                a.fill_between(at, over.low[:, k], over.high[:, k], color=colour, alpha=0.22, lw=0)
            a.plot(at, over.middle[:, k], color=colour, lw=2, ls=dashes, label=shortened(name, 22))
        number_axis(a, predictor.labels, at, 5)
        a.set_ylim(0, 1)
        tidy(a, f"over {predictor.name}", most=44, ticks=False)
        across(a, predictor.name, 40)
        a.set_ylabel("share", fontsize=9)


def variance_partition(model: Model, result: Result, x: str | None = None) -> Partition:
    """Compute the shares of the levels and of the rows; over `x`, or the first column whose effects vary."""
    design = model.design
    varying = {name for k in range(len(design.levels)) for name in design.encoders[1 + k].kinds}
    if x is not None and x not in varying:
        there = ", ".join(repr(name) for name in predictors(design) if name in varying) or "none"
        raise DescriptionError(f"x={x!r}; the variance changes over columns whose effects vary by group: {there}.")
    moved = x or next((name for name in predictors(design) if name in varying), None)
    predictor = predictor_of(design, moved) if moved else None
    rows = _row_variance(design, result)
    parts = [_averaged(level, result) for level in design.levels]
    whole = np.stack([*parts, rows], axis=-1)
    over = None
    if predictor is not None:
        frame = grid_frame(design, {predictor.name: predictor.grid})
        at = [_at(design.encoders[1 + k].matrix(frame), level, result) for k, level in enumerate(design.levels)]
        over = _spread(np.stack([*at, np.broadcast_to(rows[:, None], at[0].shape)], axis=-1))
    return Partition(
        name=result.name,
        components=(*(f"{level.tag} ({level.name})" for level in design.levels), "rows (e)"),
        shares=_spread(whole),
        total=float(np.sqrt(whole.sum(axis=-1).mean())),
        unit=response_of(design),
        predictor=predictor,
        over=over,
        intervals=len(rows) > 1,
    )


def _spread(variances: np.ndarray) -> Spread:
    """Shares of the components, the last axis, over the draws, the first."""
    total = variances.sum(axis=-1, keepdims=True)
    shares = np.divide(variances, total, out=np.zeros_like(variances), where=total > 0)
    low, high = np.quantile(shares, COVERAGE, axis=0)
    return Spread(middle=shares.mean(axis=0), low=low, high=high)


def _row_variance(design: Design, result: Result) -> np.ndarray:
    """Mean over the rows of Var e, (draws,)."""
    residual, psi, sigma2 = design.residual, psi_of(result), result.values["sigma"] ** 2
    if not residual.strata:
        return sigma2 * mean(residual.diagonal(psi.mean(axis=0)), residual.counts)
    own = residual.diagonal(np.concatenate([psi.mean(axis=0)[: len(residual.own)], np.ones(len(residual.ratios))]))
    own = own if residual.counts is None else own * residual.counts
    parts = np.bincount(residual.stratum, weights=own, minlength=len(residual.strata)) / design.n
    return sigma2 * (parts[0] + psi[:, len(residual.own) :] ** 2 @ parts[1:])


def _averaged(level: LevelDesign, result: Result) -> np.ndarray:
    """Mean over the rows of the variance that a level adds, (draws,)."""
    own = _group_variances(level)
    M = moment(level.columns, own[level.index], level.counts)
    return np.einsum("def,ef->d", result.covariances(level), M)


def _at(columns: np.ndarray, level: LevelDesign, result: Result) -> np.ndarray:
    """Variance that a level adds to rows with these columns (points, r), in an average group, (draws, points)."""
    own = float(mean(_group_variances(level)[level.index], level.counts))
    return own * np.einsum("pe,def,pf->dp", columns, result.covariances(level), columns, optimize=True)


def _group_variances(level: LevelDesign) -> np.ndarray:
    """K_gg of each group, (m,)."""
    return level.variances
