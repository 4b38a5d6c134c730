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


def read_block(asked: Asked, frame: pd.DataFrame) -> np.ndarray:
    """The group of each row, counted; the whole table is one where none is named."""
    if not asked.group:
        return np.zeros(len(frame), dtype=np.int64)
    return find_groups([frame[name] for name in asked.group]).index


def check_pairs(asked: Asked, block: np.ndarray) -> None:
    """Refuse groups without pairs of rows."""
    if np.bincount(block).max() < 2:
        what = where(asked)
        raise DataError(
            f"{what[0].upper()}{what[1:]} have one row each, so there is no correlation within them; expected "
            "several rows in some. Group by less, or leave the structure out."
        )
