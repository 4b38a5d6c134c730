"""Groups of rows that are correlated: how they are read from a table, and what they have to be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.structure import Asked
from bayeslmm.data.groups import find_groups
from bayeslmm.errors import DataError


def where(asked: Asked) -> str:
    """What the correlated rows are in: "the groups of Mare"."""
    return f"the groups of {':'.join(asked.group)}" if asked.group else "the table"


def read_blocks(asked: Asked, frame: pd.DataFrame) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
    """(the group of each row, counted, their labels by column); the whole table is one where none is named."""
    if not asked.group:
        return np.zeros(len(frame), dtype=np.int64), ((),)
    found = find_groups([frame[name] for name in asked.group])
    return found.index, found.keys


def match_blocks(asked: Asked, keys: tuple[tuple[str, ...], ...], frame: pd.DataFrame) -> np.ndarray:
    """The group of each row of a table among those with these labels; groups that aren't are counted on from there.

    Examples
    --------
    >>> from bayeslmm.description.levels import Residual
    >>> asked = Residual(structure="cs", group="g")
    >>> match_blocks(asked, (("a",), ("b",)), pd.DataFrame({"g": ["b", "z", "a", "y", "z"]})).tolist()
    [1, 3, 0, 2, 3]
    """
    block, own = read_blocks(asked, frame)
    known = {key: place for place, key in enumerate(keys)}
    place = np.array([known.get(key, -1) for key in own], dtype=np.int64)
    fresh = place < 0
    place[fresh] = len(keys) + np.arange(int(fresh.sum()))
    return place[block]


def check_pairs(asked: Asked, block: np.ndarray) -> None:
    """Refuse groups without pairs of rows."""
    if np.bincount(block).max() < 2:
        what = where(asked)
        raise DataError(
            f"{what[0].upper()}{what[1:]} have one row each, so there is no correlation within them; expected "
            "several rows in some. Group by less, or leave the structure out."
        )
