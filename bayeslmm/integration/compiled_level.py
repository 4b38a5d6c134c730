"""The product of rules as compiled code, for the families whose densities are among the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.factorisation.kernels import jets
from bayeslmm.factorisation.kernels.group_rule import RowsOfGroups, group_rule, pack
from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.alike import Alike
from bayeslmm.integration.compiled import family_code
from bayeslmm.integration.product_rule import Integrated, grid


def is_compiled(family: Family, r: int) -> bool:
    """Whether there is compiled code for this family and so many effects a group.

    Examples
    --------
    >>> from bayeslmm.families.registry import read_family
    >>> is_compiled(read_family("binomial"), 2), is_compiled(read_family("cumulative(probit)"), 1)
    (True, False)
    """
    code = family_code(family)
    return r <= 2 and code is not None and code != jets.CUMULATIVE_PROBIT


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledLevel:
    """One level's groups as the kernel reads them.

    Attributes
    ----------
    alone : (n,) array
        What of each row's log density depends on y alone.
    """

    family: Family
    outcome: Outcome
    alike: Alike
    y: np.ndarray
    N: np.ndarray
    ref: np.ndarray
    z: np.ndarray
    ends: np.ndarray
    alone: np.ndarray

    @property
    def code(self) -> int:
        """The family's number among the kernels."""
        code = family_code(self.family)
        assert code is not None  # is_compiled was asked
        return code

    def integrate(
        self, base: np.ndarray, factor: np.ndarray, psi: np.ndarray, nodes: int, start: np.ndarray
    ) -> Integrated:
        """The same as `product_rule.integrate`; `base` is of all rows of the design."""
        alike, r = self.alike, factor.shape[0]
        wide = np.zeros((2, 2))
        wide[:r, :r] = factor
        begin = np.zeros((len(start), 2))
        begin[:, :r] = start
        points, log_w = _points(nodes, r)
        rows = self._rows(base[alike.rows])
        found = group_rule(self.code, np.asarray(psi, dtype=float), rows, wide, begin, alike.copies, points, log_w)
        return Integrated(
            value=found.value, modes=found.modes[:, :r], by_eta=found.by_eta, by_factor=found.by_factor[:r, :r],
            by_psi=found.by_psi,
        )  # fmt: skip

    def packed(self, nodes: int, r: int, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All but the parameters as two vectors, for compiled code that holds them as constants."""
        begin = np.zeros((len(start), 2))
        begin[:, :r] = start
        points, log_w = _points(nodes, r)
        rows = self._rows(np.zeros(0))
        return pack(self.code, r, rows, self.alike.rows, self.alike.copies, begin, points, log_w, self.outcome.y)

    def _rows(self, base: np.ndarray) -> RowsOfGroups:
        return RowsOfGroups(
            self.y, self.N, self.ref, self.alone, base, self.z, np.empty_like(self.z), self.alike.count, self.ends
        )


def compile_level(alike: Alike, family: Family, outcome: Outcome, z: np.ndarray) -> CompiledLevel:
    """Lay a level's rows out for the kernel; `z` (n, r) is of all rows of the design."""
    part = outcome.part(alike.rows)
    y, n = np.ascontiguousarray(part.y, dtype=float), len(part.y)
    alone, ref = np.zeros(n), np.zeros(n)
    if family.name == "binomial":
        alone = np.zeros(n) + part.log_choose
    elif family.name in ("poisson", "negative_binomial"):
        ref, alone = part.log_y, np.where(y > 0, part.saturated, 0.0)
    elif family.name == "gamma":
        ref, alone = np.log(y), -np.log(y)
    wide = np.zeros((n, 2))
    wide[:, : z.shape[1]] = z[alike.rows]
    N = np.ones(n) if part.trials is None else np.ascontiguousarray(part.trials, dtype=float)
    ends = np.append(alike.starts, n).astype(np.int64)
    return CompiledLevel(family=family, outcome=outcome, alike=alike, y=y, N=N, ref=ref, z=wide, ends=ends, alone=alone)


def _points(nodes: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    x, log_w = grid(nodes, r)
    wide = np.zeros((len(x), 2))
    wide[:, :r] = x
    return wide, log_w
