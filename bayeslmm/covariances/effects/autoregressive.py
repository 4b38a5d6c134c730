"""AR(1): one SD, and correlations that fall off with the distance in the order of the effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.covariances.effects.one_correlation import OneCorrelation


class Autoregressive(OneCorrelation):
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

    def n_sds(self, r: int) -> int:
        """One."""
        return 1

    def sd_labels(self, u: str, effects: Sequence[str]) -> list[str]:
        """One name."""
        return [f"sigma_{u}"]

    def spread(self, sd: Any) -> Any:
        """One SD serves all."""
        return sd

    def gather(self, size: np.ndarray) -> np.ndarray:
        """The root mean square."""
        return np.sqrt(np.mean(size**2, axis=-1, keepdims=True))

    def gather_squares(self, squares: np.ndarray) -> np.ndarray:
        """Their sum."""
        return squares.sum(keepdims=True)
