"""Numbers and lists as text: columns with a common count of decimals, lists that end in "and 3 more"."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite, log10
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


def with_article(words: str) -> str:
    """A noun with "a" or "an" before it.

    Examples
    --------
    >>> with_article("count"), with_article("ordered category")
    ('a count', 'an ordered category')
    """
    return f"{'an' if words[:1].lower() in 'aeio' else 'a'} {words}"


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


def decimals(sd: float) -> int:
    """Decimals that a number of this uncertainty deserves: two digits of the SD.

    Examples
    --------
    >>> decimals(6.9), decimals(0.069), decimals(412.0)
    (1, 3, 0)
    """
    if not (isfinite(sd) and sd > 0):
        return 3
    return max(0, 1 - floor(log10(sd)))


def fixed(x: float, places: int) -> str:
    """Write with a fixed number of decimals, "" for NaN; an exponent only for what is unreadable without.

    Examples
    --------
    >>> fixed(251.4051, 1), fixed(float("nan"), 1), fixed(-0.0001, 2), fixed(3.2e9, 0)
    ('251.4', '', '0.00', '3.2e+09')
    """
    if np.isnan(x):
        return ""
    if not isfinite(x) or abs(x) >= 1e7 or places > 7:
        return f"{x:.3g}"
    text = f"{x:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def number(x: float, digits: int = 3) -> str:
    """Write with so many significant digits, without an exponent from 0.0001 to ten million.

    Examples
    --------
    >>> number(0.012345), number(1234.5), number(0.0), number(2.0e-9)
    ('0.0123', '1234', '0', '2e-09')
    """
    if x == 0 or not isfinite(x):
        return f"{x:.0f}".removeprefix("-")
    if not 1e-4 <= abs(x) < 1e7:
        return f"{x:.{digits}g}"
    return f"{x:.{max(0, digits - 1 - floor(log10(abs(x))))}f}"


def aligned(lines: list[list[str]], sides: str) -> list[str]:
    """Columns of equal width, two spaces apart, each to its side."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formats = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    return ["  ".join(map(format, line, formats)).rstrip() for line in lines]
