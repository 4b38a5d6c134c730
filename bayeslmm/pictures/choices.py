"""What a picture is asked for, by name: a level, an effect, groups; and a few groups of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.support.text import listed

if TYPE_CHECKING:
    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign


def sizes(level: LevelDesign) -> np.ndarray:
    """Rows of each group, (m,)."""
    return level.sizes


def level_of(design: Design, asked: Any, of_several: bool = False) -> LevelDesign:
    """Find a level by the name of its effects ("u2") or its grouping ("class:school"); the first one for None.

    With `of_several` the first one that has several effects a group.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> level_of(blm.example("heights").design, "school").name
    'u3'
    """
    levels = [level for level in design.levels if level.r > 1] if of_several else list(design.levels)
    if not levels:
        what = "with several effects a group, such as (1 + x | group)" if of_several else "above the rows"
        raise DescriptionError(f"This picture is of a level {what}, and the model has none.")
    if asked is None:
        return levels[0]
    found = [level for level in levels if asked in (level.name, level.label, level.tag)]
    if len({level.name for level in found}) == 1:
        return found[0]
    names = ", ".join(f"{level.name!r} ({level.label})" for level in levels)
    if found:
        raise DescriptionError(f"Several levels are one per {asked}; name one of {names}.")
    every = [name for level in levels for name in (level.name, level.label)]
    raise DescriptionError(f"level={asked!r}; expected one of {names}.{did_you_mean(str(asked), every)}")


def effect_of(level: LevelDesign, asked: Any) -> int:
    """Find an effect of a level by its name ("Days"); the first one for None.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> effect_of(blm.example("sleepstudy").design.levels[0], "Days")
    1
    """
    if asked is None:
        return 0
    if asked in level.effects:
        return level.effects.index(asked)
    raise DescriptionError(
        f"effect={asked!r}; {level.name} ({level.label}) has {listed(level.effects)}."
        f"{did_you_mean(str(asked), level.effects)}"
    )


def groups_of(level: LevelDesign, asked: int | Sequence[str], candidates: np.ndarray | None = None) -> np.ndarray:
    """Places of the groups that are named, or so many of those with rows, evenly spaced by their sizes.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> level = blm.example("radon").design.levels[0]
    >>> sizes(level)[groups_of(level, 3)].tolist()
    [1, 5, 116]
    """
    if not isinstance(asked, int | np.integer):
        labels = [str(label) for label in ([asked] if isinstance(asked, str) else asked)]
        for label in labels:
            if label not in level.groups:
                raise DescriptionError(
                    f"{label!r} is no group of {level.label}; there are {listed(level.groups)}."
                    f"{did_you_mean(label, level.groups)}"
                )
        return np.array([level.groups.index(label) for label in labels], dtype=int)
    if asked < 1:
        raise DescriptionError(f"groups={asked}; expected how many to draw, from 1 up, or their labels.")
    rows = sizes(level)
    there = np.flatnonzero(rows) if candidates is None else candidates
    order = there[np.argsort(rows[there], kind="stable")]
    return order[evenly(len(order), int(asked))]


def evenly(n: int, most: int) -> np.ndarray:
    """At most so many of n places, evenly spaced, the ends among them.

    Examples
    --------
    >>> evenly(3, 5).tolist(), evenly(9, 3).tolist()
    ([0, 1, 2], [0, 4, 8])
    """
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int)


def some_of(drawn: int, total: int, what: str, how: str) -> str:
    """Say that not everything is drawn: "60 of 1,200 groups, evenly spaced by rank", or "".

    Examples
    --------
    >>> some_of(60, 1200, "groups", "evenly spaced by rank"), some_of(6, 6, "groups", "")
    ('60 of 1,200 groups, evenly spaced by rank', '')
    """
    return "" if drawn == total else f"{drawn} of {total:,} {what}" + (f", {how}" if how else "")
