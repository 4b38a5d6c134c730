"""Entirely known: the effects have the covariance sigma^2 K, with nothing to estimate."""

from __future__ import annotations

import numpy as np

from bayeslmm.covariances.effects.chart import Chart, LinearChart
from bayeslmm.covariances.effects.diagonal import Diagonal


class EntirelyKnown(Diagonal):
    """One effect a group whose SD is sigma itself; K, the covariance of the groups, is the level's."""

    name = "known"
    text = "a covariance that is entirely known"

    def bar(self, effects: str, group: str) -> str:
        """The term of a formula, which can't say that anything is known."""
        return f"({effects} | {group})"

    def n_sds(self, r: int) -> int:
        """None: the SD is sigma."""
        return 0

    def sd_labels(self, u: str, effects: list[str]) -> list[str]:  # type: ignore[override]
        """None."""
        return []

    def theta_labels(self, effects: list[str]) -> list[str]:  # type: ignore[override]
        """None."""
        return []

    def theta(self, lam: np.ndarray) -> np.ndarray:
        """Nothing."""
        return np.zeros(0)

    def from_theta(self, theta: np.ndarray, r: int) -> np.ndarray:
        """The identity: relative to sigma."""
        return np.eye(r)

    def gather(self, size: np.ndarray) -> np.ndarray:
        """None."""
        return size[..., :0]

    def gather_squares(self, squares: np.ndarray) -> np.ndarray:
        """None."""
        return squares[:0]

    def chart(self, M: np.ndarray, unit: float) -> Chart:
        """Nothing to move."""
        nothing = np.zeros((M.size, 0))
        return LinearChart(nothing, M.ravel(), np.zeros(0, dtype=bool), np.zeros(0, dtype=int))
