"""Compound symmetry: one correlation within groups.

C^-1 = I/(1-rho) - sum_m rho/((1-rho)(1+(m-1)rho)) J_m, with J_m all ones within the groups of m rows.
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
    sizes_of,
)
from bayeslmm.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class CompoundSymmetry(ResidualStructure):
    """C is rho between any two rows of a group.

    Attributes
    ----------
    keys : tuple of tuple of str
        The groups' labels.
    """

    name = "cs"
    text = "compound symmetry: one correlation within groups"
    takes = frozenset({"weights", "by", "group"})
    needs = "group"
    tells_rows_apart = False  # a random intercept of rows adds to the diagonal, which (1 - rho) does as well

    keys: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Read the groups."""
        block, keys = read_blocks(asked, frame)
        check_pairs(asked, block)
        return cls(asked=asked, block=block, keys=keys)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Rho, which may be negative as far as C stays positive definite."""
        others = int(np.bincount(self.block).max()) - 1
        reason = f"correlation of two rows within {where(self.asked)} (above -1/{others})"
        return (
            ResidualParameter(
                name="rho", label="rho", lower=-1.0 / others, upper=1.0, reason=reason, neutral=0.0,
                starts=(0.4, 0.8, 0.95, -0.5 / others), above="positive",
            ),
        )  # fmt: skip

    @cached_property
    def terms(self) -> list[Term]:
        """The identity, and the groups of each size."""
        from scipy import sparse

        one = identity(self.n)
        out = [Term(left=one, right=one, coefficient=lambda rho: 1.0 / (1.0 - rho))]
        sizes = np.bincount(self.block)
        for m, count in sizes_of(self.block):
            rows = np.flatnonzero(sizes[self.block] == m)
            group = np.unique(self.block[rows], return_inverse=True)[1]
            ones = sparse.csr_array((np.ones(len(rows)), (rows, group)), shape=(self.n, count))
            out.append(Term(left=ones, right=ones.T.tocsr(), coefficient=_of_groups(float(m))))
        return out

    def log_det(self, *own: Any, log: Callable[[Any], Any] = np.log) -> Any:
        """Sum over groups of m rows: (m - 1) log(1 - rho) + log(1 + (m - 1) rho)."""
        (rho,) = own
        total: Any = 0.0
        for m, count in sizes_of(self.block):
            total = total + float(count) * ((m - 1.0) * log(1.0 - rho) + log(1.0 + (m - 1.0) * rho))
        return total

    def entries(self, row: np.ndarray, col: np.ndarray, *own: float) -> np.ndarray:
        """Rho, but for a row with itself."""
        return np.where(row == col, 1.0, own[0])

    def times(self, B: np.ndarray, *own: float) -> np.ndarray:
        """By the groups' sums."""
        (rho,) = own
        sums = np.zeros((int(self.block.max()) + 1, B.shape[1]))
        np.add.at(sums, self.block, B)
        return (1 - rho) * B + rho * sums[self.block]

    def color(self, z: np.ndarray, *own: np.ndarray) -> np.ndarray:
        """Multiply by the symmetric root, which is there for negative rho as well."""
        (rho,) = own
        order, sizes = np.argsort(self.block, kind="stable"), np.bincount(self.block)
        sums = np.add.reduceat(z[..., order], np.cumsum(sizes) - sizes, axis=-1)
        mean = (sums / sizes)[..., self.block]
        return np.sqrt(1 - rho) * (z - mean) + np.sqrt(1 + (sizes[self.block] - 1) * rho) * mean

    # new rows ----------------------------------------------------------------------------------------------------

    def beside(self, frame: pd.DataFrame, seen: bool) -> Self:
        """Old groups have more rows then, of which rho, where it is negative, may not allow so many."""
        if not seen:
            block, keys = read_blocks(self.asked, frame)
            return replace(self, block=block, keys=keys)
        block = match_blocks(self.asked, self.keys, frame)
        return replace(self, block=np.concatenate([self.block, block]))

    def borrowing(self, frame: pd.DataFrame) -> Borrowing:
        """All rows of a group say the same: their sum times rho / (1 + (m - 1) rho)."""
        from scipy import sparse

        block, groups = match_blocks(self.asked, self.keys, frame), len(self.keys)
        m = np.bincount(self.block, minlength=int(block.max(initial=0)) + 1)[block].astype(float)
        ones = sparse.csr_array((np.ones(self.n), (self.block, np.arange(self.n))), shape=(groups, self.n))

        def coefficient(rows: slice, rho: Any) -> Any:
            return np.where(m[rows] > 0, rho / (1 + (m[rows] - 1) * rho), 0.0)

        def variance(rows: slice, rho: Any) -> Any:
            left = 1 - m[rows] * rho * coefficient(rows, rho)
            self._check_room(left, m[rows], rho)
            return left

        source = Source(index=np.where(m > 0, block, 0), sums=ones, coefficient=coefficient)
        return Borrowing(sources=(source,), variance=variance)

    def _check_room(self, left: np.ndarray, m: np.ndarray, rho: Any) -> None:
        if (left > 0).all():
            return
        most = int(np.broadcast_to(m, left.shape)[left <= 0].min())
        raise DataError(
            f"There can be no row more in a group of {':'.join(self.asked.group or ())} with {most} rows: a "
            f"correlation of {float(np.min(rho)):.3g} between any two allows {most} rows at most. Expected rows of new "
            "or smaller groups; write kind='mean' for their expected values."
        )

    def short_name(self) -> str:
        """Name the groups."""
        return f"one correlation{self.within}"

    def hints(self, design: Any) -> list[str]:
        """A random intercept makes rows of a group equally correlated, as compound symmetry does."""
        if design.residual.strata or design.residual.residual.weights:
            return []
        for level in design.levels:
            if not level.related and "Intercept" in level.effects and self._same_groups(level):
                return [
                    f"The intercept of {level.name} and the correlation{self.within} say the same of the data, which "
                    f"show the sum of both: leave out {level.name}'s intercept, or the structure of the residuals. "
                    "Without the level, the correlation may be negative as well."
                ]
        return []

    def _same_groups(self, level: Any) -> bool:
        groups = int(self.block.max()) + 1
        return len(np.unique(level.index * groups + self.block)) == level.m == groups


def _of_groups(m: float) -> Callable:
    return lambda rho: -rho / ((1.0 - rho) * (1.0 + (m - 1.0) * rho))
