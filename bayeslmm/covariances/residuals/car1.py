"""AR(1) in continuous time: the correlation rho^|t - s| within series, at times that are no whole numbers of steps.

R^-1 has a pair of fixed matrices for each gap between neighbours, as that of an AR(1), so the gaps are what is bounded:
those that agree up to rounding are one, and a table with too many is refused. Time counts in median gaps: rho has the
same meaning in any unit, and it is an AR(1)'s where the steps are equal.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.ar1 import AR1
from bayeslmm.covariances.residuals.groups import check_pairs, read_blocks, where
from bayeslmm.covariances.residuals.structure import Asked, ResidualParameter
from bayeslmm.covariances.residuals.times import neighbours, read_times
from bayeslmm.errors import DataError

MOST_GAPS = 50
_ALIKE = 1e-5  # of a gap: what printing leaves


class ContinuousAR1(AR1):
    """C is rho to the power of the time between two rows of a series, in median gaps (`step`)."""

    name = "car1"
    text = "autoregressive in continuous time within groups"
    needs = "time"

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Read series and times."""
        block, keys = read_blocks(asked, frame)
        t = read_times(asked, frame, block)
        check_pairs(asked, block)
        later, earlier, gaps = neighbours(block, t)
        rounded = _rounded(gaps)
        if (many := len(np.unique(rounded))) > MOST_GAPS:
            raise DataError(
                f"The time {asked.time!r} has {many} different gaps between neighbours; expected at most {MOST_GAPS}, "
                f"because the inverse of a car1 has matrices for each.{_remedy(asked, block, t)}"
            )
        step = float(np.median(rounded))
        place = np.zeros(len(t))
        for row, before, gap in zip(later, earlier, rounded / step, strict=True):  # in time's order
            place[row] = place[before] + gap
        return cls(asked=asked, block=block, place=place, step=step, time=t, keys=keys)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Rho, which is positive: there are no roots of a negative one."""
        reason = (
            f"correlation of two rows within {where(self.asked)} that are {self.step:.4g} of {self.asked.time} apart "
            "(the median gap)"
        )
        return (
            ResidualParameter(
                name="rho", label="rho", lower=0.0, upper=1.0, reason=reason, neutral=0.05, starts=(0.4, 0.8, 0.95)
            ),
        )

    @staticmethod
    def power(rho: Any, gap: float) -> Any:
        """Rho^gap."""
        return rho**gap

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        later, earlier, gaps = neighbours(self.block, self.place)
        return later, earlier, _rounded(gaps)

    def _whole(self, steps: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
        """Times as they are; those that are alike up to rounding are one."""
        return np.where(np.abs(steps) < _ALIKE, 0.0, steps)

    def short_name(self) -> str:
        """Name series and times."""
        return f"AR(1) in continuous time{self.within} by {self.asked.time}, median gap {self.step:.4g}"

    def with_estimates(self, *own: float) -> list[str]:
        """Say rho, and the correlation of rows one unit of time apart: nlme's Phi."""
        rho = float(own[0])
        return [f"rho = {rho:.3f}" + (f" ({rho ** (1 / self.step):.3g} for 1)" if self.step != 1 else "")]

    def _steps(self) -> str:
        if self.step == 1:
            return ""
        return (
            f"Neighbours in a series are {self.step:.4g} of {self.asked.time} apart in the median: rho is the "
            f"correlation of rows as far apart; that of rows one apart (nlme's Phi) is its power {1 / self.step:.4g}."
        )


def _rounded(gaps: np.ndarray) -> np.ndarray:
    """Gaps, those that are alike up to rounding replaced by their mean.

    Examples
    --------
    >>> _rounded(np.array([0.3333333, 2.0, 0.3333334])).tolist()
    [0.33333335, 2.0, 0.33333335]
    """
    order = np.argsort(gaps)
    ascending, out, first = gaps[order], np.empty(len(gaps)), 0
    while first < len(gaps):
        last = int(np.searchsorted(ascending, ascending[first] * (1 + _ALIKE), side="right"))
        out[order[first:last]] = ascending[first:last].mean()
        first = last
    return out


def _remedy(asked: Asked, block: np.ndarray, t: np.ndarray) -> str:
    """How coarsely to round the times, where that leaves each row its own."""
    finest = 2 - int(np.floor(np.log10(np.median(neighbours(block, t)[2]))))
    for digits in range(finest, finest - 3, -1):
        gaps = neighbours(block, np.round(t, digits))[2]
        if gaps.min() > 0 and (left := len(np.unique(_rounded(gaps)))) <= MOST_GAPS:
            return f" Round the times: {asked.time}.round({digits}) has {left}."
    return " Round the times, or count coarser steps."
