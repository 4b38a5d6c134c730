"""AR(1): the correlation rho^|t - s| within series.

C^-1 = I + sum_d a^2/(1-a^2) (E_d + F_d) - a/(1-a^2) N_d, with a = rho^d, d the gap between neighbours in time, E_d and
F_d the later and the earlier rows of such neighbours, and N_d their pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.groups import check_pairs, match_blocks, read_blocks, where
from bayeslmm.covariances.residuals.structure import (
    Asked,
    Borrowing,
    ResidualParameter,
    ResidualStructure,
    Source,
    Term,
    identity,
)
from bayeslmm.covariances.residuals.times import (
    around,
    first_rows,
    in_order,
    in_steps,
    neighbours,
    new_times,
    whole_steps,
)
from bayeslmm.data.table import count, say_rows
from bayeslmm.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class AR1(ResidualStructure):
    """C is rho to the power of the steps between two rows of a series.

    Attributes
    ----------
    place : (n,) int array
        Time of each row within its series, in steps.
    step : float
        What of the column of times one step is: the largest number that divides all differences within series.
    time : (n,) array
        The column of times; without one, the row's number within its series.
    keys : tuple of tuple of str
        The series' labels.
    """

    name = "ar1"
    text = "autoregressive of order one within groups"
    takes = frozenset({"weights", "by", "group", "time"})
    blocks = "series"

    place: np.ndarray
    step: float = 1.0
    time: np.ndarray
    keys: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Read series and times; without a column of times, the rows' order."""
        block, keys = read_blocks(asked, frame)
        place, step = (in_order(block), 1.0) if asked.time is None else in_steps(asked, frame, block)
        check_pairs(asked, block)
        time = place.astype(float) if asked.time is None else frame[asked.time].to_numpy(dtype=float)
        return cls(asked=asked, block=block, place=place, step=step, time=time, keys=keys)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Rho, of either sign."""
        apart = "one step of time" + (f" ({self.step:.4g} of {self.asked.time})" if self.step != 1 else "")
        reason = f"correlation of two rows within {where(self.asked)} that are {apart} apart"
        return (
            ResidualParameter(
                name="rho", label="rho", lower=-1.0, upper=1.0, reason=reason, neutral=0.0,
                starts=(0.4, 0.8, 0.95, -0.5), above="positive",
            ),
        )  # fmt: skip

    def subset(self, rows: np.ndarray) -> Self:
        """Some of the rows, at their own times."""
        return replace(super().subset(rows), place=self.place[rows])

    # algebra -----------------------------------------------------------------------------------------------------

    @staticmethod
    def power(rho: Any, gap: float) -> Any:
        """Rho^gap; the gap is a whole number, so that rho may be negative."""
        return rho ** int(gap)

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return neighbours(self.block, self.place)

    @cached_property
    def gaps(self) -> list[tuple[float, int]]:
        """(gap in time between neighbours, number of such pairs)."""
        gaps, counts = np.unique(self._neighbours[2], return_counts=True)
        return [(float(g), int(c)) for g, c in zip(gaps, counts, strict=True)]

    @cached_property
    def terms(self) -> list[Term]:
        """The identity, and for each gap the rows at its ends and their pairs."""
        from scipy import sparse

        one = identity(self.n)

        def term(row: np.ndarray, col: np.ndarray, coefficient: Callable) -> Term:
            P = sparse.csr_array((np.ones(len(row)), (row, col)), shape=(self.n, self.n))
            return Term(left=P, right=one, coefficient=coefficient)

        out = [Term(left=one, right=one, coefficient=lambda rho: 1.0 + 0.0 * rho)]
        later, earlier, gap = self._neighbours
        for g, _ in self.gaps:
            t, s = later[gap == g], earlier[gap == g]
            ends, others = np.concatenate([t, s]), np.concatenate([s, t])
            out += [term(ends, ends, self._ends(g)), term(ends, others, self._pairs(g))]
        return out

    def _ends(self, gap: float) -> Callable:
        return lambda rho: self.power(rho, 2 * gap) / (1.0 - self.power(rho, 2 * gap))

    def _pairs(self, gap: float) -> Callable:
        return lambda rho: -self.power(rho, gap) / (1.0 - self.power(rho, 2 * gap))

    def log_det(self, *own: Any, log: Callable[[Any], Any] = np.log) -> Any:
        """Sum over neighbours: log(1 - rho^(2 gap))."""
        (rho,) = own
        total: Any = 0.0
        for gap, pairs in self.gaps:
            total = total + float(pairs) * log(1.0 - self.power(rho, 2 * gap))
        return total

    def entries(self, row: np.ndarray, col: np.ndarray, *own: float) -> np.ndarray:
        """Rho^|t - s|."""
        return np.power(float(own[0]), np.abs(self.place[row] - self.place[col]).astype(float))

    def times(self, B: np.ndarray, *own: float) -> np.ndarray:
        """By solving with the inverse, which is banded."""
        from scipy.sparse.linalg import splu

        inverse = sum(term.coefficient(*own) * (term.left @ term.right) for term in self.terms)
        return splu(inverse.tocsc()).solve(B)

    def color(self, z: np.ndarray, *own: np.ndarray) -> np.ndarray:
        """From each row to the next in time."""
        rho = own[0][..., 0]
        e = z.copy()
        for t, s, gap in zip(*self._neighbours, strict=True):
            a = self.power(rho, gap)
            e[..., t] = a * e[..., s] + np.sqrt(1 - a * a) * z[..., t]
        return e

    # new rows ----------------------------------------------------------------------------------------------------

    def beside(self, frame: pd.DataFrame, seen: bool) -> Self:
        """New times in old series, and new series; without a column of times, the rows follow those of their series."""
        block, time = self._places(frame, seen)
        if not seen:
            block, keys = read_blocks(self.asked, frame)
            out = replace(self, block=block, time=time, keys=keys)
        else:
            out = replace(self, block=np.concatenate([self.block, block]), time=np.concatenate([self.time, time]))
        first = out.time[first_rows(out.block, out.time)][out.block]
        out = replace(out, place=self._whole((out.time - first) / self.step, frame))
        later, earlier, gaps = neighbours(out.block, out.place)
        if (gaps == 0).any():
            row = int(max(later[gaps == 0][0], earlier[gaps == 0][0])) - (self.n if seen else 0)
            raise DataError(
                f"A time of {self.asked.time!r} occurs twice in a series (row {frame.index[row]}): two rows are one "
                "observation; expected each time once for joint draws of new observations."
            )
        return out

    def borrowing(self, frame: pd.DataFrame) -> Borrowing:
        """The last row before and the first one after say all: the residuals are a Markov chain."""
        block, time = self._places(frame, seen=True)
        before, after = around(self.block, self.time, block, time)
        gaps = []
        for row in (before, after):
            apart = np.abs(time - self.time[row]) / self.step
            gaps.append(np.where(row >= 0, self._whole(np.where(row >= 0, apart, 0.0), frame), np.inf))
        known = (gaps[0] == 0) | (gaps[1] == 0)
        if known.any():
            raise DataError(
                f"The model has seen {say_rows(frame.index, known)}, the same times of the same series: the response "
                "is known there, and is y. Expected new times or new series; leave data= out for new observations of "
                "the model's own rows."
            )

        def weight(own: np.ndarray, other: np.ndarray) -> Callable:
            def of(rows: slice, rho: Any) -> Any:
                a, b = np.power(rho, own[rows]), np.power(rho, other[rows])
                return a * (1 - b * b) / (1 - a * a * b * b)

            return of

        def variance(rows: slice, rho: Any) -> Any:
            a, b = (np.power(rho, 2 * gap[rows]) for gap in gaps)
            return (1 - a) * (1 - b) / (1 - a * b)

        one = identity(self.n)
        sources = (
            Source(index=np.maximum(before, 0), sums=one, coefficient=weight(gaps[0], gaps[1])),
            Source(index=np.maximum(after, 0), sums=one, coefficient=weight(gaps[1], gaps[0])),
        )
        return Borrowing(sources=sources, variance=variance)

    def _places(self, frame: pd.DataFrame, seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """Series and time of new rows."""
        block = match_blocks(self.asked, self.keys, frame)
        if self.asked.time is not None:
            return block, new_times(self.asked.time, frame)
        rows = np.bincount(self.block, minlength=int(block.max(initial=0)) + 1) if seen else np.zeros(block.max() + 1)
        return block, in_order(block) + rows[block]

    def _whole(self, steps: np.ndarray, frame: pd.DataFrame) -> np.ndarray:
        """Times in whole steps."""
        return whole_steps(steps, self.asked.time, self.step, frame)

    # words -------------------------------------------------------------------------------------------------------

    def short_name(self) -> str:
        """Name series and times."""
        steps = f" in steps of {self.step:.4g}" if self.step != 1 else ""
        return f"AR(1){self.within} {f'by {self.asked.time}{steps}' if self.asked.time else 'in the order of the rows'}"

    def with_estimates(self, *own: float) -> list[str]:
        """Say rho, and the correlation of rows one unit of time apart, where a step is several: nlme's Phi."""
        rho = float(own[0])
        return [f"rho = {rho:.3f}" + (f" ({rho ** (1 / self.step):.3f} for 1)" if self.step != 1 and rho > 0 else "")]

    def hints(self, design: Any) -> list[str]:
        """Ask about one series through the table, rows left out, and times that are multiples of a number."""
        return [hint for hint in (self._one_series(design), self._left_out(design), self._steps()) if hint]

    def _one_series(self, design: Any) -> str:
        if self.asked.group or not design.levels:
            return ""
        label = design.levels[0].label
        return (
            f"The AR(1) runs through the whole table, from one group of {label} into the next. If each has a series of "
            f"its own, write group={label!r} in the residual."
        )

    def _left_out(self, design: Any) -> str:
        if self.asked.time or not design.dropped:
            return ""
        return (
            f"{count(design.dropped, 'row')} with missing values left out: the AR(1) takes the rows around each for "
            "neighbours in time. Name the column of times with time=..., and the gaps are seen."
        )

    def _steps(self) -> str:
        if self.step == 1:
            return ""
        whole = self.step >= 2 and float(self.step).is_integer()
        power = f"{self.step:.0f}th root" if whole else f"power {1 / self.step:.4g}"
        return (
            f"All times of {self.asked.time} in a series are multiples of {self.step:.4g} apart: rho is the "
            f"correlation of rows {self.step:.4g} apart; that of rows one apart (nlme's Phi) is its {power}."
        )
