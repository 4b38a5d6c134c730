"""A hanging rootogram: how often each count came, and how often it was expected to.

Square roots of frequencies make rare counts as visible as common ones. Source: Kleiber & Zeileis (2016), Visualizing
count data regressions using rootograms, The American Statistician 70.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.link_results import LinkPictured, replicates
from bayeslmm.support.figures import COLOURS, across, axes_of, footnote, number_axis, tidy, upward

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 45


@dataclass(frozen=True, kw_only=True, eq=False)
class Rootogram:
    """Frequencies of counts, or of classes of so many of them.

    Attributes
    ----------
    response : str
    width : int
        How many counts a bar stands for.
    observed : (k,) array
    expected : (k,) array
        Means over the replicates.
    low, high : (k,) arrays
        Where 95 % of the replicates' bars end.
    last : int
        The least count of the last bar, which has all larger ones too.
    """

    response: str
    key: str
    words: str
    width: int
    observed: np.ndarray
    expected: np.ndarray
    low: np.ndarray
    high: np.ndarray
    last: int

    @property
    def at(self) -> np.ndarray:
        """Middles of the bars."""
        return self.width * np.arange(len(self.observed)) + (self.width - 1) / 2

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw bars that hang from what was expected; they should end at zero."""
        figure, (a,) = axes_of(None if ax is None else [ax], [""], 3.6)
        at, top = self.at, np.sqrt(self.expected)
        edges = np.append(at - self.width / 2, at[-1] + self.width / 2)
        band = a.fill_between(
            edges, np.append(self.low, self.low[-1]), np.append(self.high, self.high[-1]), step="post",
            color="#bbbbbb", alpha=0.6, lw=0,
        )  # fmt: skip
        bars = a.bar(at, -np.sqrt(self.observed), 0.8 * self.width, bottom=top, color="#8fa8bf", lw=0)
        (line,) = a.plot(at, top, "o-", color=COLOURS[self.key], ms=3.5, lw=1.5)
        a.axhline(0, color="#000000", lw=1)
        number_axis(a, [], edges, 8, whole=True)
        tidy(a, f"How often each {self.response} came, and was expected", ticks=False)
        of = self.response if self.width == 1 else f"{self.response}, in classes of {self.width}"
        across(a, f"{of}; the last bar: {self.last} and more", 70)
        a.set_ylim(1.15 * min(self.low.min(), (top - np.sqrt(self.observed)).min()), 1.06 * top.max())
        upward(a, "square root of the number of rows", 44)
        handles: dict[str, Any] = {
            "expected": line,
            "observed, hanging from it": bars,
            "where 95 % of replicates end": band,
        }
        a.legend(list(handles.values()), list(handles), frameon=False, fontsize=8.5, loc="upper right")
        if ax is None:
            footnote(
                figure, f"Bars that end above zero came less often than expected, below it more often; {self.words}"
            )
        return figure


def rootogram(pictured: LinkPictured, effects: str, draws: int, random_seed: int | None) -> Rootogram:
    """Count the data and the replicates."""
    model = pictured.model
    family, y = model.family, model.outcome.y
    if family.takes_trials or family.responses(model.outcome) or not family.discrete:
        other = "plot_categories" if family.responses(model.outcome) else "plot_residual_qq"
        raise DescriptionError(
            f"A rootogram is of counts; {model.outcome.name} is a {family.words}. Write glmm.{other}(result)."
        )
    made = replicates(pictured, effects, draws, random_seed)
    largest = int(np.quantile(np.concatenate([y, made.y[:: max(1, len(made.y) // 20)].ravel()]), 0.99))
    width = max(1, int(np.ceil((largest + 1) / MOST_BARS)))
    last = largest // width
    observed = np.bincount(np.minimum(y // width, last).astype(int), minlength=last + 1)
    counted = np.stack([np.bincount(np.minimum(one // width, last).astype(int), minlength=last + 1) for one in made.y])
    expected = counted.mean(axis=0)
    ends = np.sqrt(expected) - np.sqrt(counted)
    low, high = np.quantile(ends, [0.025, 0.975], axis=0)
    return Rootogram(
        response=model.outcome.name, key=pictured.key, words=made.words, width=width, observed=observed,
        expected=expected, low=low, high=high, last=last * width,
    )  # fmt: skip
