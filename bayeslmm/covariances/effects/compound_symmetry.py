"""Compound symmetry: an SD for each effect, one correlation of all pairs."""

from __future__ import annotations

from typing import Any

from bayeslmm.covariances.effects.one_correlation import OneCorrelation


class CompoundSymmetry(OneCorrelation):
    """``cs(0 + f | g)``: any two effects of a group are equally correlated, rho > -1 / (r - 1).

    Source: lme4 2.0 and glmmTMB (Brooks et al. 2017) have it under this name, with SDs that differ.
    """

    name = "cs"
    text = "compound symmetry: one correlation for all pairs"
    adjective = "equally correlated"

    def lower(self, r: int) -> float:
        """-1 / (r - 1)."""
        return -1.0 / (r - 1)

    def entries(self, rho: Any, r: int) -> list[list[Any]]:
        """Cholesky's recursion in closed form: one number below the diagonal in each column."""
        diagonal = [((1 - rho) * (1 + j * rho) / (1 + (j - 1) * rho)) ** 0.5 if j else 1 + 0 * rho for j in range(r)]
        below = [rho * (1 - rho) / ((1 + (j - 1) * rho) * diagonal[j]) if j else rho for j in range(r)]
        return [[*below[:i], diagonal[i]] for i in range(r)]
