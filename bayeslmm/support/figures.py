"""What all pictures share: colours, sizes, axes made or given, titles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import DescriptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# colours that the colour-blind tell apart; source: Okabe & Ito (2008)
COLOURS = {"ml": "#000000", "reml": "#009E73", "joint": "#0072B2", "marginal": "#D55E00", "prior": "#808080"}
MARKERS = {"ml": "o", "reml": "D", "joint": "s", "marginal": "^"}
NAMES = {"ml": "ML", "reml": "REML", "joint": "joint", "marginal": "marginal", "prior": "prior"}
BANDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
WIDTH = 7.6  # inches
LONG_NAME = 26


def new_figure(height: float) -> Figure:
    """Return an empty figure of so many inches; it is no figure of pyplot, so that a notebook shows it once."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def per_row(names: Sequence[str]) -> int:
    """Return how many small axes stand side by side: three; two for four axes or long names."""
    most = 2 if len(names) == 4 or max(map(len, names), default=0) > LONG_NAME else 3
    return max(1, min(len(names), most))


def grid_rows(names: Sequence[str]) -> int:
    """Return how many rows of small axes there are."""
    return -(-len(names) // per_row(names))


def grid(figure: Figure | SubFigure, names: Sequence[str]) -> list[Axes]:
    """Return one small axis per name."""
    rows, columns, count = grid_rows(names), per_row(names), len(names)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.remove()
    return list(axes[:count])


def axes_of(ax: Sequence[Axes] | None, names: Sequence[str], height: float) -> tuple[Any, list[Axes]]:
    """Return the figure and the given axes, or one new axis per name, in rows of so many inches."""
    if ax is not None:
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != len(names):
            raise DescriptionError(
                f"{len(axes)} axes were given; this picture needs {len(names)}: leave ax out, or give as many."
            )
        return axes[0].figure, axes
    figure = new_figure(height * grid_rows(names) + 0.5)
    return figure, grid(figure, names)


def tidy(ax: Axes, title: str, left: bool = True, most: int = 90) -> None:
    """Give an axis its title and take away what says nothing."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    ax.set_title(shortened(title, most), loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_visible(left)
    ax.tick_params(axis="x", labelsize=9)
    ax.xaxis.set_major_locator(MaxNLocator(4 if most < 50 else 7))
    if isinstance(numbers := ax.xaxis.get_major_formatter(), ScalarFormatter):
        numbers.set_powerlimits((-2, 5))  # long labels of small numbers run into each other


def shortened(text: str, most: int = 24) -> str:
    """Shorten in the middle, and write dollar signs so that matplotlib does not read them as mathematics."""
    text = text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2 - 1) :]}"
    return text.replace("$", r"\$")
