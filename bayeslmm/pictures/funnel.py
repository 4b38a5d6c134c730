"""The funnel: an SD against an effect of its level, in the coordinates that a sampler may move in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.choices import sizes
from bayeslmm.posterior.trust import divergent
from bayeslmm.support.figures import COLOURS, axes_of, cut, key_below, tidy, under, upward

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign

KINDS = {
    "centred": ("centred: u", "joint"),
    "noncentred": ("non-centred: u / SD", "joint"),
    "marginal": ("marginal: u recovered", "marginal"),
}
MOST_DRAWS = 4000


@dataclass(frozen=True, kw_only=True, eq=False)
class FunnelPanel:
    """Draws of one effect and of the logarithm of its SD.

    Attributes
    ----------
    title, key, across, up : str
        Its title, the key of its colour, and what its axes are.
    x, log_sd : arrays
    diverged : array of bool
    """

    title: str
    key: str
    across: str
    up: str
    x: np.ndarray
    log_sd: np.ndarray
    diverged: np.ndarray

    @property
    def reach(self) -> float:
        """How far its horizontal axis goes from zero."""
        far = max(np.quantile(np.abs(self.x), 0.995), np.abs(self.x[self.diverged]).max(initial=0.0))
        return 1.05 * float(far) or 1.0

    def draw(self, a: Axes) -> None:
        """Draw a dot per draw, a cross where it diverged."""
        dots: dict[str, Any] = {"ms": 3.5, "alpha": 0.35, "mew": 0, "rasterized": True}
        good = np.flatnonzero(~self.diverged)
        good = good[:: max(1, len(good) // MOST_DRAWS)]
        a.plot(self.x[good], self.log_sd[good], ".", color=COLOURS[self.key], **dots)
        a.plot(self.x[self.diverged], self.log_sd[self.diverged], "x", color="#000000", ms=5, mew=1.1)
        a.set_xlim(-self.reach, self.reach)
        under(a, self.across, 22)


@dataclass(frozen=True, kw_only=True, eq=False)
class Funnel:
    """Panels of one SD and one effect."""

    panels: tuple[FunnelPanel, ...]
    level: LevelDesign
    words: str

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw the panels side by side, on one scale of log SD."""
        from matplotlib.lines import Line2D

        figure, axes = axes_of(ax, [""] * len(self.panels), 3.3)
        every = np.concatenate([panel.log_sd for panel in self.panels])
        low, high = np.quantile(every, [0.0005, 1.0])
        low = min([low, *(panel.log_sd[panel.diverged].min(initial=np.inf) for panel in self.panels)])
        pad = 0.05 * (high - low) or 1.0
        for k, (a, panel) in enumerate(zip(axes, self.panels, strict=True)):
            panel.draw(a)
            a.set_ylim(low - pad, high + pad)
            tidy(a, panel.title, most=40)
            if k == 0:
                upward(a, panel.up, 34)
        handles = {
            "draws": Line2D([], [], color=COLOURS[self.panels[0].key], ls="", marker="o", ms=4),
            f"divergences ({', '.join(str(int(p.diverged.sum())) for p in self.panels)})": Line2D(
                [], [], color="#000000", ls="", marker="x", ms=5
            ),
        }
        key_below(figure, handles, self.words if ax is None else "")
        return figure


def funnel_panel(tree: xr.DataTree, level: LevelDesign, effect: int, group: int, kind: str) -> FunnelPanel:
    """Gather the draws of one effect in one kind of coordinates."""
    names = level_names(level)
    posterior = tree["posterior"].to_dataset()
    u = np.asarray(posterior[names.u].transpose("chain", "draw", ...).values, dtype=float)
    u = u.reshape(-1, level.m, level.r)[:, group, effect]
    sds = np.asarray(posterior[names.sigma].transpose("chain", "draw", ...).values, dtype=float)
    sds = sds.reshape(len(u), -1)
    sd = sds[:, min(effect, sds.shape[1] - 1)]
    sd = np.maximum(sd, np.finfo(float).tiny)
    at = divergent(tree)
    which = [cut(level.groups[group], 10), *([cut(level.effects[effect], 9)] if level.r > 1 else [])]
    of = f"{level.name}[{', '.join(which)}]"
    title, key = KINDS[kind]
    return FunnelPanel(
        title=title,
        key=key,
        across=f"{of} / SD" if kind == "noncentred" else of,
        up=f"log {level.sd_labels[min(effect, level.n_sds - 1)]}",
        x=u / sd if kind == "noncentred" else u,
        log_sd=np.log(sd),
        diverged=np.zeros(len(u), dtype=bool) if at is None else at.ravel(),
    )


def funnel(trees: Mapping[str, xr.DataTree], level: LevelDesign, effect: int = 0, group: str | None = None) -> Funnel:
    """Gather the draws of one effect: a panel per tree, named "centred", "noncentred" and "marginal".

    The group is the one with the fewest rows unless it is named: the less its rows say, the clearer the funnel.
    """
    if not level.n_sds:
        raise DescriptionError(f"{level.name} ({level.label}) has no SD to draw: its covariance is known.")
    if group is not None and group not in level.groups:
        raise DescriptionError(f"group={group!r} is no group of {level.label}.")
    rows = np.where(sizes(level) > 0, sizes(level), np.iinfo(np.int64).max)
    place = int(np.argmin(rows)) if group is None else level.groups.index(group)
    panels = tuple(funnel_panel(tree, level, effect, place, kind) for kind, tree in trees.items())
    words = (
        "Near the bottom the SD is small and the effects must be small too: in u the space narrows to a neck, in which "
        "a sampler whose steps suit the wide part gets stuck; u / SD has no neck, and the marginal model has no u"
    )
    return Funnel(panels=panels, level=level, words=words)
