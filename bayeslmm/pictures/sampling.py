"""How many independent draws a run is worth, parameter by parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.pictures.estimates import shown_names
from bayeslmm.posterior.draws import parameter_draws
from bayeslmm.posterior.trust import ESS_LIMIT, ess
from bayeslmm.support.figures import COLOURS, axes_of, shortened, tidy

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectiveDraws:
    """Effective sample sizes.

    Attributes
    ----------
    names : tuple of str
        Of the parameters.
    bars : tuple of (key, array)
        Per variant the effective draws; NaN where a parameter does not move.
    """

    names: tuple[str, ...]
    bars: tuple[tuple[str, np.ndarray], ...]

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw a bar per parameter and variant; the line is the 400 that is wanted."""
        figure, (a,) = axes_of(None if ax is None else [ax], [""], 0.9 + 0.3 * len(self.names))
        at, wide = np.arange(len(self.names)), 0.8 / len(self.bars)
        for k, (variant, values) in enumerate(self.bars):
            place = at + (k - (len(self.bars) - 1) / 2) * wide
            a.barh(place, np.nan_to_num(values), height=wide * 0.9, color=COLOURS[variant], label=variant)
        a.axvline(ESS_LIMIT, color="#000000", lw=1, ls=(0, (4, 2)))
        a.set_yticks(at, [shortened(name, 36) for name in self.names])
        a.set_ylim(len(self.names) - 0.4, -0.6)
        a.tick_params(axis="y", length=0)
        tidy(a, f"Effective draws (bulk); dashed: {ESS_LIMIT}", left=False)
        a.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return figure


def effective_draws(design: Design, tree: xr.DataTree, variant: str) -> EffectiveDraws:
    """Compute the bulk effective sample size of the parameters that are drawn."""
    draws = parameter_draws(design, tree)
    every = draws["parameter"].values.tolist()
    names = shown_names(every, design.p)
    return EffectiveDraws(names=tuple(names), bars=((variant, ess(draws.sel(parameter=names).values)),))
