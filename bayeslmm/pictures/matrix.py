"""Where the matrix of the random effects is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.errors import DescriptionError
from bayeslmm.support.figures import BANDS, axes_of, shortened, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design

MOST_COLUMNS, MOST_ROWS = 600, 200  # cells of a picture


@dataclass(frozen=True, kw_only=True, eq=False)
class Pattern:
    """Z transposed in cells, a band per level.

    Attributes
    ----------
    design : Design
    bands : tuple of arrays
        Per level whether a cell has an entry that is not zero.
    """

    design: Design
    bands: tuple[np.ndarray, ...]

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw the bands under each other, one column per row of the data."""
        from matplotlib.colors import ListedColormap
        from matplotlib.ticker import MaxNLocator

        design = self.design
        shares = _heights([level.q for level in design.levels])
        figure, (a,) = axes_of(None if ax is None else [ax], [""], 0.9 + 3.4 * min(1.0, sum(shares) / 40))
        top, ticks, names = 0.0, [], []
        for k, (level, share, seen) in enumerate(zip(design.levels, shares, self.bands, strict=True)):
            colour = BANDS[k % len(BANDS)]
            a.axhspan(top, top + share, color=colour, alpha=0.1, lw=0)
            a.imshow(
                np.ma.masked_equal(seen, 0), extent=(0, design.n, top + share, top), aspect="auto",
                interpolation="nearest", cmap=ListedColormap([colour]), vmin=0, vmax=1, zorder=2,
            )  # fmt: skip
            ticks.append(top + share / 2)
            effects = "" if level.r == 1 else f"\n{level.r} effects each"
            names.append(f"{level.name}: {shortened(level.label, 20)}\n{level.m} groups{effects}")
            top += share
            if k + 1 < len(shares):
                a.axhline(top, color="white", lw=2, zorder=3)
        a.set_xlim(0, design.n)
        a.set_ylim(top, 0)
        a.set_yticks(ticks, names)
        a.tick_params(axis="y", length=0)
        a.set_xlabel("row of the data")
        fill = 100 * design.Z.nnz / max(1, design.n * design.q)
        tidy(a, f"Z transposed: {design.q} x {design.n}, {fill:.3g} % not zero", left=False)
        a.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        return figure


def design_matrix(design: Design) -> Pattern:
    """Find where Z transposed is not zero, one band per level; a large matrix in cells."""
    if not design.levels:
        raise DescriptionError("This picture is of a level above the rows, and the model has none.")
    bands, columns = [], min(design.n, MOST_COLUMNS)
    for level in design.levels:
        rows = min(level.q, MOST_ROWS)
        Z = level.Z.tocoo()
        seen = np.zeros((rows, columns))
        seen[Z.coords[1] * rows // level.q, Z.coords[0] * columns // design.n] = 1
        bands.append(seen)
    return Pattern(design=design, bands=tuple(bands))


def _heights(sizes: Sequence[int]) -> list[float]:
    """Heights of the bands: the numbers of rows, small bands raised so that their names fit."""
    total = max(sum(sizes), 1)
    floor = total / (2.2 * len(sizes)) if len(sizes) > 1 else 0
    return [max(float(size), floor) for size in sizes]
