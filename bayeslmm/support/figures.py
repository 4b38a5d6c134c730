"""What all pictures share: colours, sizes, axes made or given, titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import DescriptionError, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# colours that the colour-blind tell apart; source: Okabe & Ito (2008)
COLOURS = {
    "ml": "#000000", "reml": "#009E73", "joint": "#0072B2", "marginal": "#D55E00", "prior": "#808080",
    "ml laplace": "#999999", "ml quadrature": "#000000",
    "marginal laplace": "#E69F00", "marginal quadrature": "#CC79A7",
}  # fmt: skip
MARKERS = {
    "ml": "o", "reml": "D", "joint": "s", "marginal": "^",
    "ml laplace": "v", "ml quadrature": "o", "marginal laplace": "<", "marginal quadrature": ">",
}  # fmt: skip
NAMES = {
    "ml": "ML", "reml": "REML", "joint": "joint", "marginal": "marginal", "prior": "prior",
    "ml laplace": "ML, Laplace", "ml quadrature": "ML, quadrature", "marginal laplace": "posterior, Laplace",
    "marginal quadrature": "posterior, quadr.",
}  # fmt: skip
FITS = ("ml", "reml", "ml laplace", "ml quadrature")
BANDS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
WIDTH = 7.6  # inches
LONG_NAME = 26
PADS = {"w_pad": 0.08, "h_pad": 0.06}  # inches around axes


def new_figure(height: float) -> Figure:
    """Return an empty figure of so many inches; it is no figure of pyplot, so that a notebook shows it once."""
    figure = _shown_figure()(figsize=(WIDTH, height))
    figure.set_layout_engine("constrained", **PADS)
    return figure


@cache
def _shown_figure() -> type[Figure]:
    """Matplotlib's figure, which a notebook shows even where nobody has imported pyplot."""
    from io import BytesIO

    from matplotlib.figure import Figure

    class Picture(Figure):
        """A figure that is a PNG in a notebook, sharp on screens of twice as many points."""

        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            stream = BytesIO()
            self.savefig(stream, format="png", dpi=2 * self.dpi)
            width, height = (round(inches * self.dpi) for inches in self.get_size_inches())
            return stream.getvalue(), {"width": width, "height": height}

    return Picture


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
        axes = list(np.atleast_1d(np.asarray(ax, dtype=object)).ravel())
        if len(axes) != len(names):
            raise DescriptionError(
                f"{len(axes)} axes were given; this picture needs {len(names)}: leave ax out, or give as many."
            )
        return axes[0].figure, axes
    figure = new_figure(height * grid_rows(names) + 0.5)
    return figure, grid(figure, names)


def tidy(ax: Axes, title: str, left: bool = True, most: int = 90, ticks: bool = True) -> None:
    """Give an axis its title and take away what says nothing; `ticks` says whether to place those of numbers."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    ax.set_title(shortened(title, most), loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_visible(left)
    ax.tick_params(axis="x", labelsize=9)
    if not ticks:
        return
    ax.xaxis.set_major_locator(MaxNLocator(_ticks(*ax.get_xlim(), 4 if most < 50 else 7)))
    if isinstance(numbers := ax.xaxis.get_major_formatter(), ScalarFormatter):
        numbers.set_powerlimits((-2, 5))  # long labels of small numbers run into each other


def under(ax: Axes, text: str, most: int = 34, after: str = "") -> None:
    """Write a unit under an axis of numbers, in grey, and perhaps a line after it."""
    _name(ax.xaxis, text, most, after, fontsize=8.5, color="#444444")


def across(ax: Axes, text: str, most: int = 40) -> None:
    """Name the horizontal axis."""
    _name(ax.xaxis, text, most, fontsize=9)


def upward(ax: Axes, text: str, most: int = 40) -> None:
    """Name the vertical axis."""
    _name(ax.yaxis, text, most, fontsize=9)


def _name(axis: Any, text: str, most: int, after: str = "", **font: Any) -> None:
    """Name an axis; a factor of its numbers stands in the name, and not where it runs into other words."""
    from matplotlib.ticker import ScalarFormatter

    axis.set_label_text(shortened(text, most) + after, **font)
    if isinstance(axis.get_major_formatter(), ScalarFormatter):
        axis.set_major_formatter(_factored()(shortened(text, most), after))


@cache
def _factored() -> Any:
    """Numbers whose common factor, or what is to be added to them, stands in the axis's name."""
    from matplotlib.ticker import ScalarFormatter

    class Factored(ScalarFormatter):
        """As matplotlib's, with "(×1e−9)" in the name."""

        def __init__(self, text: str, after: str):
            super().__init__()
            self.text, self.after = text, after
            self.set_powerlimits((-2, 5))

        def set_locs(self, locs: Any) -> None:
            super().set_locs(locs)
            found = super().get_offset()  # "1e−9", "+1e6"
            found = f" (×{found})" if found[:1].isdigit() else f" ({found})" if found else ""
            axis: Any = self.axis
            axis.set_label_text(self.text + found + self.after)

        def get_offset(self) -> str:
            return ""

    return Factored


def number_axis(ax: Axes, labels: Sequence[str], at: np.ndarray, count: int = 5, whole: bool = False) -> None:
    """Write a horizontal axis of numbers from the first to the last of `at`, or of categories at 0, 1, 2, ..."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    if labels:
        ax.set_xlim(-0.5, len(labels) - 0.5)
        each = max(6, 44 * count // (7 * len(labels)))
        names = [shortened(label, each) for label in labels]
        if len(names) > count:
            ax.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        else:
            ax.set_xticks(range(len(names)), names)
        return
    least, most = float(at[0]), float(at[-1])
    pad = (0.04 if len(at) > 2 else 0.25) * (most - least) or 0.5
    ax.set_xlim(least - pad, most + pad)
    if len(at) <= 2 and not whole:
        ax.set_xticks(at, [f"{x:.6g}" for x in at])
        return
    ax.xaxis.set_major_locator(MaxNLocator(count, integer=whole))
    if isinstance(numbers := ax.xaxis.get_major_formatter(), ScalarFormatter):
        numbers.set_powerlimits((-2, 5))


def outer(axes: Sequence[Axes]) -> list[tuple[bool, bool]]:
    """Whether each axis stands at the left, and at the bottom, of its grid; both where it is in none."""
    out = []
    for k, ax in enumerate(axes):
        place = ax.get_subplotspec()
        if place is None:
            out.append((True, True))
        else:
            out.append((place.is_first_col(), place.is_last_row() or k + place.get_gridspec().ncols >= len(axes)))
    return out


def scatter(n: int) -> np.ndarray:
    """Numbers between -0.5 and 0.5 that fill the space evenly, the same every time: to draw apart what coincides."""
    return (np.arange(n) * 0.6180339887) % 1.0 - 0.5


def key_below(figure: Any, handles: Mapping[str, Any], words: str = "") -> None:
    """Write a figure's key under its axes, and small words under that where there are some.

    A label with a leading underscore would be left out of the key.
    """
    labels = [f" {label}" if label.startswith("_") else label for label in handles]
    columns = len(labels) if sum(map(len, labels)) < 90 else -(-len(labels) // 2)
    place: dict[str, Any] = {}
    if words:
        share = footnote(figure, words, key_rows=-(-len(labels) // columns))
        place["bbox_to_anchor"] = (0, share, 1, 1 - share)
    place |= {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9}
    figure.legend(list(handles.values()), [label.replace("$", r"\$") for label in labels], **place)


def _ticks(least: float, most: float, count: int) -> int:
    """How many numbers have room where so many short ones have: fewer of many digits."""
    size, step = max(abs(least), abs(most)), abs(most - least) / count
    if not (step > 0 and np.isfinite(size)):
        return count
    digits = int(np.floor(np.log10(size)) - np.floor(np.log10(step)))
    return count if digits < 3 else max(2, count - digits + 1)


def footnote(figure: Figure, text: str, key_rows: int = 0) -> float:
    """Write small words under all else, in lines that fit; the figure grows by them.

    Room is left above them for the lines of a key, which the layout doesn't see where it is placed by hand. Returns
    the share of the height that the words take.
    """
    from textwrap import wrap

    lines = wrap(cut(text, 600), 112) or [""]
    width, height = figure.get_size_inches()
    own = 0.08 + 0.15 * len(lines)
    whole = height + own
    figure.set_size_inches(width, whole)
    above = (own + (0.12 + 0.19 * key_rows if key_rows else 0.0)) / whole
    figure.set_layout_engine("constrained", rect=(0, above, 1, 1 - above), **PADS)
    words = "\n".join(line.replace("$", r"\$") for line in lines)
    figure.text(0.012, 0.05 / whole, words, fontsize=8.5, color="#444444", va="bottom", linespacing=1.25)
    return own / whole


def shortened(text: str, most: int = 24) -> str:
    r"""Shorten in the middle, on one line, with dollar signs that matplotlib does not read as mathematics.

    Examples
    --------
    >>> shortened("a long label", 7), shortened("US$"), shortened("two\nlines")
    ('a l…el', 'US\\$', 'two lines')
    """
    return cut(text, most).replace("$", r"\$")


def cut(text: str, most: int = 24) -> str:
    """Shorten in the middle, on one line, for a text that is still to be joined with others.

    Examples
    --------
    >>> cut("a long label", 7), cut("US$")
    ('a l…el', 'US$')
    """
    text = visible(" ".join(str(text).split()))
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2 - 1) :]}"
