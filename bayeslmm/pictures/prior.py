"""What the priors expect of y, against the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.criticism.prior_predictive import draw_effects, draw_parameters, draw_response, generator
from bayeslmm.design.units import response_of
from bayeslmm.pictures.choices import evenly
from bayeslmm.support.figures import COLOURS, across, axes_of, footnote, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.model import Model

SHOWN = 40  # data sets that are drawn one by one
CELLS = 4_000_000  # values of y held at once
BLUE = "#0072B2"


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorPredictive:
    """Data sets drawn from the prior, summarised, and the data.

    Attributes
    ----------
    response : str
    quantiles : (draws, 5) array
        The quantiles 0, 0.25, 0.5, 0.75 and 1 of y in each drawn data set.
    spread : (draws,) array
        The SD of y in each.
    y : (n,) array
    inside : float
        Share of all drawn values within the range of the data.
    """

    response: str
    quantiles: np.ndarray
    spread: np.ndarray
    y: np.ndarray
    inside: float

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw some data sets as lines beside the data's range, and the ratio of all their SDs to the data's."""
        figure, axes = axes_of(ax, ["", ""], 3.6)
        self._sets(axes[0])
        self._ratio(axes[1])
        if ax is None:
            footnote(
                figure,
                "Left, blue: the range of the data; a line is one data set, from its smallest to its largest value, "
                f"its middle half thick; {100 * self.inside:.0f} % of the values drawn lie in the data's range",
            )
        return figure

    def _sets(self, a: Axes) -> None:
        some = evenly(len(self.quantiles), SHOWN)
        q = self.quantiles[some]
        q = q[np.argsort(q[:, 2], kind="stable")]
        at = np.arange(len(q))
        a.axvspan(self.y.min(), self.y.max(), color=BLUE, alpha=0.18, lw=0)
        a.hlines(at, q[:, 0], q[:, 4], color=COLOURS["prior"], lw=0.9)
        a.hlines(at, q[:, 1], q[:, 3], color="#444444", lw=2.6)
        low, high = np.quantile(self.quantiles[:, [0, 4]], [0.05, 0.95])
        low, high = min(low, self.y.min()), max(high, self.y.max())
        pad = 0.03 * (high - low) or 1.0
        a.set_xlim(low - pad, high + pad)
        a.set_ylim(-1, len(q))
        a.set_yticks([])
        tidy(a, f"{len(q)} data sets from the prior", left=False, most=40)
        across(a, self.response, 40)

    def _ratio(self, a: Axes) -> None:
        own = self.y.std()
        ratio = self.spread / own if own > 0 else self.spread
        ratio = np.log10(ratio[ratio > 0]) if (ratio > 0).any() else np.zeros(1)
        a.hist(ratio, bins=25, color=COLOURS["prior"], alpha=0.6, lw=0)
        a.axvline(0.0, color=BLUE, lw=2)
        low, high = min(ratio.min(), -0.5), max(ratio.max(), 0.5)
        ticks = [10.0**k * f for k in range(int(np.floor(low)), int(np.ceil(high)) + 1) for f in (1, 3)]
        kept = [t for t in ticks if low <= np.log10(t) <= high]
        kept = kept if len(kept) < 8 else [t for t in kept if np.isclose(np.log10(t) % 1, 0)]
        a.set_xlim(low, high)
        a.set_yticks([])
        tidy(a, "SD of y in a drawn data set", left=False, most=40, ticks=False)
        a.set_xticks(np.log10(kept), [f"{t:g}" for t in kept])
        a.set_xlabel("times the SD of the data (blue: 1, as in the data)", fontsize=9)


def prior_check(model: Model, draws: int = 500, random_seed: int | None = None) -> PriorPredictive:
    """Draw data sets from the prior and summarise them."""
    rng, design = generator(draws, random_seed), model.design
    y, kept, spread, inside = design.y, [], [], 0
    piece = max(1, CELLS // design.n)
    for first in range(0, draws, piece):
        values = draw_parameters(design, model.priors, min(piece, draws - first), rng)
        values |= draw_effects(design, values, rng)
        drawn = draw_response(design, values, rng.standard_normal((len(values["sigma"]), design.n)))
        kept.append(np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1], axis=1).T)
        spread.append(drawn.std(axis=1))
        inside += int(((drawn >= y.min()) & (drawn <= y.max())).sum())
    return PriorPredictive(
        response=response_of(design),
        quantiles=np.concatenate(kept),
        spread=np.concatenate(spread),
        y=y,
        inside=inside / (draws * design.n),
    )
