"""The hierarchy: a tree of groups in groups down to counts of rows; for crossed levels, a table of who meets whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.design.describe import relation
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.blocks import coarsest_first
from bayeslmm.pictures.choices import evenly
from bayeslmm.support.figures import BANDS, across, axes_of, cut, footnote, shortened, tidy, upward

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign

MOST_LEAVES = 30
MOST_CELLS = 40  # groups of a level, as lines or columns of a table


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A group, or several that are not drawn one by one.

    Attributes
    ----------
    label : str
    rows : int
    depth : int
        0 for the whole table, 1 for the coarsest level.
    parent : int
        Place of the group that it lies in, -1 for the whole.
    place : float
        On the vertical axis.
    several : bool
        Whether it stands for groups that are left out.
    """

    label: str
    rows: int
    depth: int
    parent: int
    place: float
    several: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """Groups within groups.

    Attributes
    ----------
    levels : tuple of LevelDesign
        The coarsest first.
    nodes : tuple of Node
        Parents before their children.
    also : tuple of str
        Levels that have no place in it.
    """

    levels: tuple[LevelDesign, ...]
    nodes: tuple[Node, ...]
    also: tuple[str, ...]

    @property
    def leaves(self) -> int:
        """Lines of the picture."""
        return 1 + int(max(node.place for node in self.nodes))

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw the whole at the left, the finest groups with their rows at the right."""
        figure, (a,) = axes_of(None if ax is None else [ax], [""], 0.9 + 0.21 * self.leaves)
        deepest = len(self.levels)
        for node in self.nodes:
            if node.parent >= 0:
                above = self.nodes[node.parent]
                half = above.depth + 0.62
                line = "#bbbbbb" if node.several else "#666666"
                x, y = [above.depth + 0.5, half, half, node.depth], [above.place, above.place, node.place, node.place]
                a.plot(x, y, color=line, lw=0.9, ls=(0, (2, 2)) if node.several else "-", zorder=1)
            colour = "#666666" if node.several or not node.depth else BANDS[(deepest - node.depth) % len(BANDS)]
            rows = "1 row" if node.rows == 1 else f"{node.rows:,} rows"
            text = node.label if node.depth == 0 else f"{cut(node.label, 22)} · {rows}"
            a.text(
                node.depth + 0.02, node.place, shortened(text, 44), va="center", ha="left", fontsize=8.5, color=colour,
                style="italic" if node.several else "normal", clip_on=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2}, zorder=2,
            )  # fmt: skip
        for depth, level in enumerate(self.levels, start=1):
            count = f"{level.m - level.relatives:,} {'group' if level.m == 1 else 'groups'}"
            count += f", {level.relatives:,} more without rows" if level.relatives else ""
            words = f"{level.name}: {cut(level.label, 20)}\n{count}"
            a.text(depth + 0.02, -1.3, shortened_lines(words), va="bottom", fontsize=9, weight="bold")
        a.set_xlim(-0.02, deepest + 0.9)
        a.set_ylim(self.leaves - 0.4, -1.4)
        a.axis("off")
        if ax is None and self.also:
            footnote(figure, f"Also: {'; '.join(self.also)}")
        return figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Meetings:
    """How many rows each group of one level has with each group of another.

    Attributes
    ----------
    levels : (LevelDesign, LevelDesign)
        Lines and columns.
    counts : (lines, columns) array
    lines, columns : arrays
        Places of the groups that are drawn.
    share : float
        Of all pairs of groups, drawn or not, how many occur.
    also : tuple of str
    """

    levels: tuple[LevelDesign, LevelDesign]
    counts: np.ndarray
    lines: np.ndarray
    columns: np.ndarray
    share: float
    also: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is drawn, and of how much."""
        one, other = self.levels
        said = [f"a cell is the number of rows that a {cut(one.label, 20)} and a {cut(other.label, 20)} share"]
        for level, drawn in ((one, self.lines), (other, self.columns)):
            if len(drawn) < level.m - level.relatives:
                said.append(f"{len(drawn)} of {level.m - level.relatives:,} groups of {level.label}, evenly spaced")
        return "; ".join([*said, *self.also])

    def draw(self, ax: Axes | None = None) -> Figure:
        """Draw the counts in shades, with their numbers where there is room."""
        one, other = self.levels
        counts = self.counts
        figure, (a,) = axes_of(None if ax is None else [ax], [""], 1.3 + 0.17 * max(counts.shape[0], 6))
        top = max(counts.max(), 1)
        a.imshow(np.ma.masked_equal(counts, 0), cmap="Blues", vmin=-0.3 * top, vmax=2.2 * top, aspect="auto")
        a.set_xticks(np.arange(counts.shape[1] - 1) + 0.5, minor=True)
        a.set_yticks(np.arange(counts.shape[0] - 1) + 0.5, minor=True)
        a.grid(which="minor", color="white", lw=1)
        if counts.shape[1] <= 30:
            for (i, j), count in np.ndenumerate(counts):
                if count:
                    a.text(j, i, f"{count:,}", ha="center", va="center", fontsize=7.5)
        lines, columns = ([shortened(level.groups[g], 12) for g in at] for level, at in zip(
            self.levels, (self.lines, self.columns), strict=True))  # fmt: skip
        a.set_yticks(range(len(lines)), lines, fontsize=8 if len(lines) < 31 else 6.5)
        slanted = max(map(len, columns)) * len(columns) > 75
        kept = range(len(columns))
        a.set_xticks(kept, columns, fontsize=8 if len(columns) < 31 else 6.5, rotation=90 if slanted else 0)
        a.tick_params(which="both", length=0)
        upward(a, f"{one.name}: {cut(one.label, 24)}", 40)
        across(a, f"{other.name}: {cut(other.label, 30)}", 50)
        how = relation(one, other)
        share = "" if how == "crossed" else f", {100 * self.share:.3g} % of the pairs occur"
        tidy(a, f"{cut(one.label, 24)} and {cut(other.label, 24)}: {how}{share}", left=False, ticks=False)
        a.spines[["bottom"]].set_visible(False)
        if ax is None:
            footnote(figure, self.words)
        return figure


def hierarchy_picture(design: Design) -> Tree | Meetings:
    """Gather the tree of nested levels; or of two levels that are crossed, who meets whom."""
    levels = coarsest_first(design)
    if not levels:
        raise DescriptionError("This picture is of the levels above the rows, and the model has none.")
    for k, other in enumerate(levels):
        for one in levels[k + 1 :]:
            if relation(one, other) in ("crossed", "partially crossed"):
                lines, columns = (one, other) if one.m > other.m else (other, one)
                return meetings(design, lines, columns)
    return tree(design, levels)


def meetings(design: Design, one: LevelDesign, other: LevelDesign) -> Meetings:
    """Count the rows that groups of two levels share."""
    kept = [np.flatnonzero(np.bincount(level.index, minlength=level.m)) for level in (one, other)]
    lines, columns = (at[evenly(len(at), MOST_CELLS)] for at in kept)
    place = [np.full(level.m, -1) for level in (one, other)]
    for own, at in zip(place, (lines, columns), strict=True):
        own[at] = np.arange(len(at))
    i, j = place[0][one.index], place[1][other.index]
    both = (i >= 0) & (j >= 0)
    counts = np.zeros((len(lines), len(columns)), dtype=int)
    np.add.at(counts, (i[both], j[both]), 1)
    rest = [level for level in design.levels if level not in (one, other)]
    also = tuple(f"{level.name}, {level.label}: {relation(level, one)} with {one.label}" for level in rest[:3])
    share = len(np.unique(one.index * other.m + other.index)) / (len(kept[0]) * len(kept[1]))
    return Meetings(levels=(one, other), counts=counts, lines=lines, columns=columns, share=share, also=also)


def tree(design: Design, levels: list[LevelDesign]) -> Tree:
    """Gather groups within groups, the coarsest first; of many, the first ones of each, and how many are left out."""
    for most in (*range(MOST_LEAVES, 2, -1), 2):
        nodes = _grow(design, levels, most)
        if 1 + max(node.place for node in nodes) <= MOST_LEAVES:
            break
    others = [level for level in design.levels if level not in levels]
    also = tuple(f"{level.name}, with the groups of {level.label}" for level in others)
    return Tree(levels=tuple(levels), nodes=tuple(nodes), also=also)


def _grow(design: Design, levels: list[LevelDesign], most: int) -> list[Node]:
    nodes: list[Node] = []
    line = 0

    def add(label: str, rows: np.ndarray, depth: int, parent: int, several: bool = False) -> float:
        nonlocal line
        at = len(nodes)
        nodes.append(Node(label=label, rows=len(rows), depth=depth, parent=parent, place=0.0, several=several))
        places = []
        if depth < len(levels) and not several:
            level = levels[depth]
            groups = np.unique(level.index[rows])
            shown = groups if len(groups) <= most else groups[: most - 1]
            places += [add(level.groups[g], rows[level.index[rows] == g], depth + 1, at) for g in shown]
            if len(shown) < len(groups):
                left = rows[~np.isin(level.index[rows], shown)]
                places.append(add(f"{len(groups) - len(shown):,} more", left, depth + 1, at, several=True))
        else:
            places.append(float(line))
            line += 1
        nodes[at] = Node(
            label=label, rows=len(rows), depth=depth, parent=parent, place=(places[0] + places[-1]) / 2, several=several
        )
        return nodes[at].place

    add(f"{design.n:,} rows", np.arange(design.n), 0, -1)
    return nodes


def shortened_lines(text: str) -> str:
    """Lines as they are, without mathematics."""
    return "\n".join(shortened(line, 60) for line in text.split("\n"))
