"""Times of rows within series: each one once, and the largest step that all gaps are multiples of."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.structure import Asked
from bayeslmm.data.table import numbers, say_rows
from bayeslmm.errors import DataError

# By how much of a step times may be off, and how many steps the smallest gap may have
_UNEVEN = 0.02
_FINEST = 100


def in_order(block: np.ndarray) -> np.ndarray:
    """Count the rows of each series in the order of the table.

    Examples
    --------
    >>> in_order(np.array([0, 1, 0, 0, 1])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(block, kind="stable")
    starts = np.searchsorted(block[order], block[order], side="left")
    place = np.empty(len(block), dtype=np.int64)
    place[order] = np.arange(len(block)) - starts
    return place


def read_times(asked: Asked, frame: pd.DataFrame, block: np.ndarray) -> np.ndarray:
    """The column of times, each one once in a series."""
    assert asked.time is not None  # asked for where there is one
    t = numbers(frame[asked.time], "the time")
    huge = abs(t) > 2.0**53
    if huge.any():
        raise DataError(
            f"The time {asked.time!r} is too large in {say_rows(frame.index, huge)} to be told from the next; "
            "expected small whole numbers. Count steps from the first time."
        )
    later, earlier, gaps = neighbours(block, t)
    alike = gaps <= 64 * np.finfo(float).eps * np.abs(t).max(initial=0.0)
    twice = np.zeros(len(t), dtype=bool)
    twice[later[alike]] = twice[earlier[alike]] = True
    if twice.any():
        unit = f" of the same {':'.join(asked.group)}" if asked.group else ""
        remedy = "" if asked.group else " Name the series with group=..., if times start anew."
        raise DataError(
            f"The time {asked.time!r} occurs twice in rows{unit}: {say_rows(frame.index, twice)}; an AR(1) "
            f"needs one row per time.{remedy}"
        )
    return t


def in_steps(asked: Asked, frame: pd.DataFrame, block: np.ndarray) -> tuple[np.ndarray, float]:
    """The time of each row within its series, in steps, and how long a step is."""
    t = read_times(asked, frame, block)
    gaps = neighbours(block, t)[2]
    whole = (t == np.round(t)).all()
    step = float(np.gcd.reduce(gaps.astype(np.int64))) if whole else equal_step(gaps)
    first = np.full(block.max(initial=0) + 1, np.inf)
    np.minimum.at(first, block, t)
    steps = (t - first[block]) / (step or 1.0)
    place = np.round(steps)
    uneven = abs(steps - place) > _UNEVEN
    if not whole and (step == 0 or uneven.any()):
        rows = f" in {say_rows(frame.index, uneven)}" if step else ""
        raise DataError(
            f"The time {asked.time!r} isn't in equal steps{rows}; an AR(1) needs times that are a whole number of "
            "steps apart, up to rounding. Count steps instead, such as round((t - t.min()) / step)."
        )
    return place.astype(np.int64), step or 1.0


def equal_step(gaps: np.ndarray) -> float:
    """The largest step that all gaps are whole multiples of, up to rounding: Euclid's algorithm; 0 where none is.

    Examples
    --------
    >>> months = 2000 + np.array([1, 2, 4, 7]) / 12
    >>> round(12 * equal_step(np.diff(months)), 9), equal_step(np.array([1.0, 1.5, 0.7312]))
    (1.0, 0.0)
    """
    if not gaps.size:
        return 1.0
    step = smallest = float(gaps.min())
    while step * _FINEST > smallest:
        times = np.maximum(np.round(gaps / step), 1.0)
        fitted = float(gaps.sum() / times.sum())
        rest = abs(gaps - fitted * times)
        if rest.max() <= _UNEVEN * fitted:
            return round(fitted) if abs(fitted - round(fitted)) < 1e-9 * fitted else fitted
        step = float(rest[rest > _UNEVEN * fitted].min())
    return 0.0


def neighbours(block: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(later row, earlier row, gap in time) of rows that follow each other in a series, in time's order.

    Examples
    --------
    >>> [x.tolist() for x in neighbours(np.array([0, 0, 1, 0]), np.array([3, 1, 1, 2]))]
    [[3, 0], [1, 3], [1.0, 1.0]]
    """
    order = np.lexsort((time, block))
    same = block[order[1:]] == block[order[:-1]]
    later, earlier = order[1:][same], order[:-1][same]
    return later, earlier, (time[later] - time[earlier]).astype(float)


def new_times(name: str, frame: pd.DataFrame) -> np.ndarray:
    """The column of times of new rows."""
    return numbers(frame[name], "the time")


def whole_steps(steps: np.ndarray, name: str | None, step: float, frame: pd.DataFrame) -> np.ndarray:
    """Round steps that are whole up to what `in_steps` allows; the last ones are those of the rows of `frame`."""
    place = np.round(steps)
    uneven = abs(steps - place)[-len(frame) :] > _UNEVEN
    if uneven.any():
        raise DataError(
            f"The time {name!r} of {say_rows(frame.index, uneven)} is no whole number of steps ({step:.4g}) from those "
            "of its series; expected times as those of the model's rows, between which an AR(1) says nothing. A model "
            "with structure='car1' takes any times."
        )
    return place.astype(np.int64)


def first_rows(block: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The row of each block that is first in time.

    Examples
    --------
    >>> first_rows(np.array([0, 0, 1, 0]), np.array([3.0, 1, 1, 2])).tolist()
    [1, 2]
    """
    order = np.lexsort((time, block))
    return order[np.searchsorted(block[order], np.arange(int(block.max()) + 1))]


def around(
    block: np.ndarray, time: np.ndarray, new_block: np.ndarray, new_time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(the last row of the same block at or before each new one, the first one after it), -1 where there is none.

    Examples
    --------
    >>> rows = (np.array([0, 0, 1]), np.array([1.0, 5.0, 2.0]))
    >>> [x.tolist() for x in around(*rows, np.array([0, 0, 1, 2]), np.array([3.0, 9.0, 2.0, 1.0]))]
    [[0, 1, 2, -1], [1, -1, -1, -1]]
    """
    n = len(block)
    both_block, both_time = np.concatenate([block, new_block]), np.concatenate([time, new_time])
    order = np.lexsort((np.arange(len(both_block)) >= n, both_time, both_block))  # seen rows first at equal times
    old = order < n
    place = np.arange(len(order))
    last = np.maximum.accumulate(np.where(old, place, -1))
    following = np.minimum.accumulate(np.where(old, place, len(order))[::-1])[::-1]
    before, after = np.full(len(order), -1), np.full(len(order), -1)
    has = last >= 0
    before[order[has]] = order[last[has]]
    has = following < len(order)
    after[order[has]] = order[following[has]]
    before, after = before[n:], after[n:]
    before[(before >= 0) & (block[before] != new_block)] = -1
    after[(after >= 0) & (block[after] != new_block)] = -1
    return before, after
