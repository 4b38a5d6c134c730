"""The product of rules as compiled code, for the families whose densities are among the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.factorisation.kernels import jets
from bayeslmm.factorisation.kernels.compiling import first_use
from bayeslmm.factorisation.kernels.group_rule import RowsOfGroups, _group_rule, group_rule
from bayeslmm.families import student_t as ts
from bayeslmm.families.binomial import log_choose
from bayeslmm.families.family import Family, Outcome
from bayeslmm.families.stable import (
    log1m_exp,
    log1p_minus,
    log_gamma_rest,
    log_gamma_rest_slope,
    rising,
    rising_slope,
    saturated,
)
from bayeslmm.integration.alike import Alike
from bayeslmm.integration.product_rule import Integrated, grid

CODES = {
    "binomial(link = logit)": jets.LOGIT,
    "binomial(link = probit)": jets.PROBIT,
    "binomial(link = cloglog)": jets.CLOGLOG,
    "poisson(link = log)": jets.POISSON,
    "negative_binomial(link = log)": jets.NEGATIVE_BINOMIAL,
    "gamma(link = log)": jets.GAMMA,
    "student_t(link = identity)": jets.STUDENT_T,
    "cumulative(link = logit)": jets.CUMULATIVE_LOGIT,
}


def is_compiled(family: Family, r: int) -> bool:
    """Whether there is compiled code for this family and so many effects a group.

    Examples
    --------
    >>> from bayeslmm.families.registry import read_family
    >>> is_compiled(read_family("binomial"), 2), is_compiled(read_family("cumulative(probit)"), 1)
    (True, False)
    """
    return str(family) in CODES and r <= 2


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledLevel:
    """One level's groups as the kernel reads them.

    Attributes
    ----------
    fixed : (n,) array
        What of each row's log density depends on nothing.
    """

    family: Family
    outcome: Outcome
    alike: Alike
    y: np.ndarray
    N: np.ndarray
    ref: np.ndarray
    z: np.ndarray
    ends: np.ndarray
    fixed: np.ndarray

    @property
    def code(self) -> int:
        """The family's number among the kernels."""
        return CODES[str(self.family)]

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
        rows = RowsOfGroups(
            self.y, self.N, self.ref, base[alike.rows], self.z, np.empty_like(self.z), alike.count, self.ends
        )
        par, constant, slopes = self._parameters(psi)
        with first_use(_group_rule, "group rule"):
            found = group_rule(self.code, par, rows, wide, begin, alike.copies, points, log_w)
        value = found.value + np.add.reduceat(alike.count * constant, alike.starts)
        by_psi = found.by_parameters
        if self.code == jets.CUMULATIVE_LOGIT:
            by_psi = self.family.dispersion_slopes(psi).T @ by_psi
        if len(slopes):
            by_psi = by_psi + slopes @ (alike.count * alike.copies[alike.owner])
        return Integrated(
            value=value, modes=found.modes[:, :r], by_eta=found.by_eta, by_factor=found.by_factor[:r, :r], by_psi=by_psi
        )

    def _parameters(self, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the kernel's parameters, what of each row's log density depends on them alone, its slopes by psi)."""
        none, y = np.zeros((0, 0)), self.y
        if self.code == jets.NEGATIVE_BINOMIAL:
            alpha = float(np.exp(psi[0]))
            own = rising(alpha, y) - alpha * log1p_minus(y / alpha) - y * np.log1p(y / alpha)
            return np.array([alpha, psi[0]]), self.fixed + own, rising_slope(alpha, y)[None]
        if self.code == jets.GAMMA:
            alpha = float(np.exp(psi[0]))
            slope = np.full((1, len(y)), log_gamma_rest_slope(alpha))
            return np.array([alpha]), self.fixed - log_gamma_rest(alpha), slope
        if self.code == jets.STUDENT_T:
            sigma, nu = np.exp(psi)
            slopes = np.zeros((2, len(y)))
            slopes[1] = rising_slope(nu / 2, np.asarray(0.5))
            return np.array([sigma, nu]), self.fixed + ts.constant(nu) - psi[0], slopes
        if self.code == jets.CUMULATIVE_LOGIT:
            cuts = self.family.dispersion_values(psi)
            gaps = np.concatenate([[0.0], log1m_exp(np.diff(cuts)), [0.0]])
            return cuts, self.fixed + gaps[y.astype(int)], none
        return np.zeros(0), self.fixed, none


def compile_level(alike: Alike, family: Family, outcome: Outcome, z: np.ndarray) -> CompiledLevel:
    """Lay a level's rows out for the kernel; `z` (n, r) is of all rows of the design."""
    part = outcome.part(alike.rows)
    y, n = np.ascontiguousarray(part.y, dtype=float), len(part.y)
    fixed, ref = np.zeros(n), np.zeros(n)
    if family.name == "binomial":
        fixed = np.zeros(n) + log_choose(part)
    elif family.name in ("poisson", "negative_binomial"):
        ref, fixed = np.log(np.maximum(y, 1.0)), np.where(y > 0, saturated(y), 0.0)
    elif family.name == "gamma":
        ref, fixed = np.log(y), -np.log(y)
    wide = np.zeros((n, 2))
    wide[:, : z.shape[1]] = z[alike.rows]
    N = np.ones(n) if part.trials is None else np.ascontiguousarray(part.trials, dtype=float)
    ends = np.append(alike.starts, n).astype(np.int64)
    return CompiledLevel(family=family, outcome=outcome, alike=alike, y=y, N=N, ref=ref, z=wide, ends=ends, fixed=fixed)


def _points(nodes: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    x, log_w = grid(nodes, r)
    wide = np.zeros((len(x), 2))
    wide[:, :r] = x
    return wide, log_w
