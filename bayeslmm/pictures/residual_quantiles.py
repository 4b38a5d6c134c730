"""Randomised quantile residuals: where each row lies among its replicates, as a normal quantile.

Ties of discrete outcomes are broken at random, so that the residuals are standard normal where the model holds,
whatever the family. Source: Dunn & Smyth (1996), Randomized quantile residuals; Hartig's R package DHARMa for ranks
among replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.pictures.choices import evenly, some_of
from bayeslmm.pictures.link_results import LinkPictured, replicates
from bayeslmm.support.figures import COLOURS, across, axes_of, footnote, tidy, upward

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 1500
CLASSES = 10
FEWEST = 30  # rows of a class
QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualQuantiles:
    """Residuals of rows, and of the replicates as if each were the data.

    Attributes
    ----------
    residuals : (k,) array
    mean : (k,) array
        What was expected of the rows.
    low, high : (k,) arrays
        Where 95 % of the replicates' ordered residuals lie, point by point.
    """

    name: str
    key: str
    words: str
    residuals: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def expected(self) -> np.ndarray:
        """Normal quantiles of the order statistics."""
        from scipy.special import ndtri

        k = len(self.residuals)
        return ndtri((np.arange(1, k + 1) - 0.375) / (k + 0.25))

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw them in order, and over the rank of what was expected."""
        figure, axes = axes_of(ax, ["ordered", "over expected"], 3.3)
        a, b = axes
        x, y = self.expected, np.sort(self.residuals)
        a.fill_between(x, self.low, self.high, color="#bbbbbb", alpha=0.6, lw=0)
        a.plot(x[[0, -1]], x[[0, -1]], color="#555555", lw=1)
        a.plot(x, y, "o", color=COLOURS[self.key], ms=3, mew=0, rasterized=True)
        tidy(a, "In order", most=40)
        across(a, "normal quantile")
        upward(a, "quantile residual")
        rank = np.argsort(np.argsort(self.mean, kind="stable"), kind="stable") / max(len(self.mean) - 1, 1)
        b.plot(rank, self.residuals, "o", color=COLOURS[self.key], ms=3, mew=0, alpha=0.5, rasterized=True)
        from scipy.special import ndtri

        classes = max(3, min(CLASSES, len(rank) // FEWEST))
        of = np.minimum((rank * classes).astype(int), classes - 1)
        middle = [rank[of == k].mean() for k in np.unique(of)]
        for share in QUARTERS:
            b.axhline(float(ndtri(share)), color="#555555", lw=0.8, ls="--")
            b.plot(
                middle, [np.quantile(self.residuals[of == k], share) for k in np.unique(of)], color="#D55E00", lw=1.8
            )
        tidy(b, "Over what was expected", most=40)
        across(b, "rank of the expected value")
        if ax is None:
            footnote(
                figure,
                "Band: where 95 % of each point lie if the model holds; orange: quartiles among rows alike in rank, "
                f"which should follow the dashed lines; {self.words}",
            )
        return figure


def residual_quantiles(pictured: LinkPictured, effects: str, draws: int, random_seed: int | None) -> ResidualQuantiles:
    """Rank the data among their replicates, row by row."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    model = pictured.model
    made = replicates(pictured, effects, draws, random_seed)
    rng = np.random.default_rng(random_seed)
    rows = evenly(model.design.n, MOST_POINTS)
    both = np.vstack([model.outcome.y[rows], made.y[:, rows]])
    if model.family.discrete:
        both = both + rng.random(both.shape)
    ranks = (rankdata(both, axis=0) - 0.5) / len(both)
    residuals = ndtri(ranks)
    ordered = np.sort(residuals[1:], axis=1)
    low, high = np.quantile(ordered, [0.025, 0.975], axis=0)
    some = some_of(len(rows), model.design.n, "rows", "evenly spaced")
    return ResidualQuantiles(
        name=pictured.name, key=pictured.key, words="; ".join(filter(None, [made.words, some])),
        residuals=residuals[0], mean=made.mean[rows], low=low, high=high,
    )  # fmt: skip
