"""AR(1): one SD, and correlations that fall off with the distance in the order of the effects."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.covariances.effects.one_correlation import OneCorrelation
from bayeslmm.covariances.effects.one_sd import OneSD


class Autoregressive(OneSD, OneCorrelation):
    """``ar1(0 + time | g)`` with time a factor: effects i and j of a group have the correlation rho^|i - j|.

    Source: lme4 2.0 and glmmTMB (Brooks et al. 2017) have it under this name, with one SD.
    """

    name = "ar1"
    text = "AR(1): one SD, correlations rho^|i - j|"
    adjective = "autoregressive"

    def lower(self, r: int) -> float:
        """-1."""
        return -1.0

    def entries(self, rho: Any, r: int) -> list[list[Any]]:
        """L_ij = rho^(i - j) times the SD of an innovation, 1 at first."""
        innovation = (1 - rho**2) ** 0.5
        return [[rho ** (i - j) * (innovation if j else 1 + 0 * rho) for j in range(i + 1)] for i in range(r)]

    def nearest(self, C: np.ndarray) -> float:
        """The correlation of neighbours."""
        return float(np.diag(C, -1).mean())
