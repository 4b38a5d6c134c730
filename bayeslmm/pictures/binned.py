"""Binned residuals of shares and of zeros and ones, which have no residuals to look at one by one.

Source: Gelman & Hill (2007), Data analysis using regression and multilevel models, section 5.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.grids import predictor_of
from bayeslmm.pictures.link_results import LinkPictured, replicates
from bayeslmm.support.figures import COLOURS, across, axes_of, footnote, number_axis, tidy, upward

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BINS = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Binned:
    """Mean residuals of rows alike in what was expected of them, or in a predictor.

    Attributes
    ----------
    over : str
        What the bins are of: "probability", or a predictor.
    at : (b,) array
        Means of it in each bin.
    residual : (b,) array
        Share of successes less what was expected.
    low, high : (b,) arrays
        Where 95 % of the replicates' residuals lie.
    trials : (b,) array
    """

    response: str
    over: str
    labels: tuple[str, ...]
    key: str
    words: str
    at: np.ndarray
    residual: np.ndarray
    low: np.ndarray
    high: np.ndarray
    trials: np.ndarray

    @property
    def outside(self) -> int:
        """Bins whose residual lies outside of the band."""
        return int(((self.residual < self.low) | (self.residual > self.high)).sum())

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw a point per bin."""
        figure, (a,) = axes_of(None if ax is None else [ax], [""], 3.4)
        if self.labels:
            a.vlines(self.at, self.low, self.high, color="#bbbbbb", lw=9, alpha=0.6)
        else:
            a.fill_between(self.at, self.low, self.high, color="#bbbbbb", alpha=0.5, lw=0)
        a.axhline(0, color="#555555", lw=1)
        size = 18 + 40 * self.trials / self.trials.max()
        out = (self.residual < self.low) | (self.residual > self.high)
        colour: Any = COLOURS[self.key]
        for shown, face in ((~out, colour), (out, "#ffffff")):
            a.scatter(
                self.at[shown], self.residual[shown], size[shown], facecolors=face, edgecolors=colour, lw=1.5, zorder=3
            )
        number_axis(
            a, self.labels, self.at if self.labels else np.array([self.at.min(), *self.at[1:-1], self.at.max()]), 8
        )
        tidy(a, f"{self.response}: observed less expected, {len(self.at)} bins", ticks=False)
        across(a, "expected probability" if self.over == "probability" else self.over, 60)
        upward(a, "mean residual (share)", 40)
        if ax is None:
            bins = f"{self.outside} of {len(self.at)} bins lie outside of the band (open)"
            footnote(figure, f"Grey: 95 % of {self.words}; {bins}, where one in twenty would")
        return figure


def binned(
    pictured: LinkPictured, x: str | None, bins: int | None, effects: str, draws: int, random_seed: int | None
) -> Binned:
    """Average residuals in bins with about as many trials each, or per category of a predictor."""
    model = pictured.model
    if not model.family.takes_trials:
        other = "plot_categories" if model.family.responses(model.outcome) else "plot_residual_qq"
        raise DescriptionError(
            f"Binned residuals are of zeros and ones and of shares; {model.outcome.name} is a {model.family.words}. "
            f"Write glmm.{other}(result)."
        )
    made = replicates(pictured, effects, draws, random_seed)
    y, n = model.outcome.y, model.design.n
    N = np.ones(n) if model.outcome.trials is None else model.outcome.trials
    labels: tuple[str, ...] = ()
    values, over = made.mean, "probability"
    if x is not None:
        predictor = predictor_of(model.design, x)
        assert predictor is not None  # it was asked for
        values, over, labels = predictor.places(model.design.frame[predictor.name]), predictor.name, predictor.labels
    if labels:
        of = values.astype(int)
    else:
        count = min(MOST_BINS, max(4, int(np.sqrt(N.sum())))) if bins is None else bins
        of = _bins(values, N, count)
    found = np.unique(of)
    total = np.array([N[of == k].sum() for k in found])
    mean = np.array([(N * made.mean)[of == k].sum() for k in found])
    at = np.array([np.average(values[of == k], weights=np.maximum(N[of == k], 1e-9)) for k in found])
    seen = np.array([y[of == k].sum() for k in found])
    drawn = np.stack([made.y[:, of == k].sum(axis=1) for k in found], axis=1)
    low, high = np.quantile((drawn - mean) / total, [0.025, 0.975], axis=0)
    return Binned(
        response=model.outcome.name, over=over, labels=labels, key=pictured.key, words=made.words, at=at,
        residual=(seen - mean) / total, low=low, high=high, trials=total,
    )  # fmt: skip


def _bins(values: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """The bin of each row, rows of one value in one bin, each bin with about as much weight, none with much less."""
    distinct, same = np.unique(values, return_inverse=True)
    own = np.bincount(same, weights=weights)
    least = own.sum() / count
    of, bin_, filled = np.empty(len(distinct), dtype=int), 0, 0.0
    for k, weight in enumerate(own):
        if filled >= least:
            bin_, filled = bin_ + 1, 0.0
        of[k] = bin_
        filled += weight
    if filled < least and bin_:
        of[of == bin_] = bin_ - 1
    return of[same]
