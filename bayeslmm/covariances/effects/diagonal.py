"""Diagonal: an SD for each effect, and no correlations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.covariances.effects.chart import Chart, LinearChart
from bayeslmm.covariances.effects.structure import EffectStructure
from bayeslmm.distributions.prior import Prior


class Diagonal(EffectStructure):
    """Independent effects, ``(x || g)``."""

    name = "diag"
    text = "independent effects"
    adjective = "independent"

    def bar(self, effects: str, group: str) -> str:
        """The term of a formula."""
        return f"({effects} || {group})"

    def words(self, effects: Sequence[str]) -> str:
        """What stands behind the names of the effects."""
        return ""

    def n_correlations(self, r: int) -> int:
        """None."""
        return 0

    def from_theta(self, theta: np.ndarray, r: int) -> np.ndarray:
        """The diagonal factor."""
        return np.diag(theta)

    def root(self, z: np.ndarray, r: int) -> np.ndarray:
        """The identity."""
        return np.eye(r)

    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """None."""
        return np.zeros(0)

    def log_prior(self, prior: Prior, z: np.ndarray, r: int) -> np.ndarray:
        """Nothing."""
        return np.zeros(z.shape[:-1])

    def draw(self, prior: Prior, rng: np.random.Generator, draws: int, r: int) -> np.ndarray:
        """Identities (draws, r, r)."""
        return np.broadcast_to(np.eye(r), (draws, r, r))

    def chart(self, M: np.ndarray, unit: float) -> Chart:
        """The diagonal, each entry of a usual size on the kernels' basis."""
        r = len(M)
        matrix = np.zeros((r * r, r))
        for j in range(r):
            entry = np.zeros((r, r))
            entry[:, j] = M[:, j] / M[j, j]
            matrix[:, j] = unit * entry.ravel()
        return LinearChart(matrix, np.zeros(r * r), np.ones(r, dtype=bool), np.arange(r))
