"""The marginal covariance assembled: one matrix per level, the residuals' R, and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.describe import relation
from bayeslmm.design.units import response_of
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.choices import evenly
from bayeslmm.pictures.results import Result, psi_of
from bayeslmm.support.figures import axes_of, cut, footnote, outer, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

MOST_ROWS = 48
MOST_LINES = 16  # between groups
BRANCHES = 4  # groups of a level that are kept, and groups of the next one in each of them
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Covariances of some rows, in units of y squared.

    Attributes
    ----------
    name : str
        Of the result.
    unit : str
    parts : tuple of (title, array)
        One per level, then the residuals', then the sum, each (k, k).
    rows : (k,) array
        Places of the rows, those of a group together.
    groups : tuple of (label of a level, (k,) array of labels)
        Coarsest level first: the group of each row.
    total : int
        How many rows the data have.
    """

    name: str
    unit: str
    parts: tuple[tuple[str, np.ndarray], ...]
    rows: np.ndarray
    groups: tuple[tuple[str, np.ndarray], ...]
    total: int

    @property
    def words(self) -> str:
        """What is drawn."""
        k = len(self.rows)
        some = f"{k} of {self.total:,} rows: a few rows of a few groups" if k < self.total else f"all {k} rows"
        few = bool(self.groups) and len(set(self.groups[0][1])) <= MOST_LINES
        lines = f"; lines part the groups of {self.groups[0][0]}" if few else ""
        return f"Estimates by {self.name}; {some}, those of a group together{lines}; colours on the scale of roots"

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw the matrices in one scale of colours, in the order of the sum."""
        from matplotlib.colors import FuncNorm

        count = len(self.parts)
        figure, axes = axes_of(ax, [""] * count, 2.1 if count == 3 else 2.9)
        every = np.concatenate([part.ravel() for _, part in self.parts])
        top, signed = float(np.abs(every).max()) or 1.0, bool((every < -1e-12 * np.abs(every).max()).any())
        scale = FuncNorm((_root, _square), vmin=-top if signed else 0.0, vmax=top)  # small ones are seen, too
        image: Any = None
        for k, (a, (title, part), (left, _)) in enumerate(zip(axes, self.parts, outer(axes), strict=True)):
            image = a.imshow(part, cmap="PuOr" if signed else "Blues", norm=scale)
            sign = "" if k == 0 else "= " if k == count - 1 else "+ "
            a.set_title(sign + title, loc="left", fontsize=9.5)
            a.set_xticks([])
            a.set_yticks([])
            if self.groups:
                self._mark(a, left)
        bar = axes[0].figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, aspect=30)
        bar.set_label(shortened(f"covariance, ({cut(self.unit, 16)})²", 40), fontsize=8.5)
        bar.ax.tick_params(labelsize=8.5)
        if ax is None:
            footnote(figure, self.words)
        return figure

    def _mark(self, a: Axes, left: bool) -> None:
        """Draw lines between the coarsest groups, and name these at the left."""
        _, label = self.groups[0]
        edges = np.flatnonzero(label[1:] != label[:-1]) + 0.5
        for edge in edges if len(edges) < MOST_LINES else ():
            a.axhline(edge, color="#666666", lw=0.5)
            a.axvline(edge, color="#666666", lw=0.5)
        if left:
            ends = np.concatenate([[-0.5], edges, [len(label) - 0.5]])
            middle = (ends[1:] + ends[:-1]) / 2
            kept = evenly(len(middle), 12)
            names = [shortened(label[int(np.ceil(ends[k]))], 11) for k in kept]
            a.set_yticks(middle[kept], names, fontsize=7.5)
            a.tick_params(axis="y", length=0)


def _root(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.sqrt(np.abs(x))


def _square(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * x**2


def covariance_blocks(model: Model, result: Result, rows: int = MOST_ROWS) -> Blocks:
    """Compute the covariance of some rows part by part: a few rows of a few groups where there are many."""
    design = model.design
    order = coarsest_first(design)
    chosen = some_rows(order, design.n, rows)
    sigma2 = float((result.values["sigma"] ** 2).mean())
    parts: list[tuple[str, np.ndarray]] = []
    for level in design.levels:
        number = level.name.removeprefix("u").translate(SUBSCRIPTS)
        title = f"σ²Z{number}G{number}Z{number}′, {cut(level.tag, 18)}"
        parts.append((shortened(title, 40), level_covariance(level, result, chosen)))
    psi = psi_of(result).mean(axis=0)
    parts.append(("σ²R, the rows", sigma2 * design.residual.part(psi, chosen)))
    whole = sum((part for _, part in parts[1:]), parts[0][1])
    if len(parts) > 1:
        parts.append(("σ²V, all of it", whole))
    labels = tuple((level.label, np.array(level.groups, dtype=object)[level.index[chosen]]) for level in order)
    return Blocks(
        name=result.name,
        unit=response_of(design),
        parts=tuple(parts),
        rows=chosen,
        groups=labels,
        total=design.n,
    )


def level_covariance(level: LevelDesign, result: Result, rows: np.ndarray) -> np.ndarray:
    """The covariance (k, k) that a level's effects give to some rows."""
    x, g = level.columns[rows], level.index[rows]
    own = x @ result.covariances(level).mean(axis=0) @ x.T
    if level.root is None:
        return own * (g[:, None] == g)
    return own * (level.root[g] @ level.root[g].T)


def coarsest_first(design: Design) -> list[LevelDesign]:
    """Levels so that those that contain others come first; levels of the same groups once."""
    out: list[LevelDesign] = []
    for level in design.levels[::-1]:
        if not any(relation(level, other) == "same" for other in out):
            out.append(level)
    return sorted(out, key=lambda level: sum(relation(level, other) == "nested" for other in out))


def some_rows(levels: Sequence[LevelDesign], n: int, most: int) -> np.ndarray:
    """At most so many rows, those of a group together: all, or a few of a few groups of each level in turn."""
    if most < 1:
        raise DescriptionError(f"rows={most}; expected how many rows to draw, from 1 up.")
    every = np.arange(n)
    if n <= most:
        return every[np.lexsort([level.index for level in levels[::-1]])] if levels else every
    return _branch(every, levels, most)


def _branch(rows: np.ndarray, levels: Sequence[LevelDesign], most: int) -> np.ndarray:
    if not levels or len(rows) <= 1:
        return rows[:most]
    own = levels[0].index[rows]
    groups, count = np.unique(own, return_counts=True)
    large = groups[count >= np.median(count)]
    wanted = max(BRANCHES, int(most // np.median(count)))  # more where groups are small
    kept = large[evenly(len(large), min(wanted, most))]
    each = max(1, most // len(kept))
    return np.concatenate([_branch(rows[own == g], levels[1:], each) for g in kept])
