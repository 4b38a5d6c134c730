"""Numbers and lists as text: columns with a common count of decimals, lists that end in "and 3 more"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def listed(items: Sequence[Any], most: int = 5, show: Any = repr) -> str:
    """The first of the items, and how many more there are.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2), listed([1, 2, 3], most=3, show=str)
    ("'a', 'b' and 1 more", '1, 2, 3')
    """
    shown = ", ".join(map(show, items[:most]))
    return shown + (f" and {len(items) - most:,} more" if len(items) > most else "")


def format_column(values: Sequence[float] | np.ndarray, digits: int = 5) -> list[str]:
    """Numbers with a common count of decimals, the largest with about `digits` digits, the smallest legible.

    Examples
    --------
    >>> format_column([612.1, 35.07171, 0.0])
    ['612.100', '35.072', '0.000']
    """
    numbers = np.asarray(values, dtype=float)
    sizes = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    if sizes.size == 0:
        return [f"{x:.1f}" for x in numbers]
    low, high = (int(np.floor(np.log10(x))) for x in (sizes.min(), sizes.max()))
    if high - low > 7 or high > digits + 2 or low < -6:
        return [f"{x:.{digits}g}" for x in numbers]
    decimals = max(0, min(digits - 1 - low, digits - max(high, 0)))
    return [f"{x:.{decimals}f}" for x in numbers]


def aligned(lines: list[list[str]], sides: str) -> list[str]:
    """Columns of equal width, two spaces apart, each to its side."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formats = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    return ["  ".join(map(format, line, formats)).rstrip() for line in lines]
