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

    def column_sizes(self, M: np.ndarray) -> np.ndarray:
        """Root mean squares of the columns as written, however far from zero: nothing else carries their mean."""
        return np.linalg.norm(M, axis=0)

    def chart(self, M: np.ndarray, unit: float) -> Chart:
        """The diagonal, each entry the size of what it makes on the kernels' basis, its part in other columns too."""
        r = len(M)
        matrix = np.zeros((r * r, r))
        for j, size in enumerate(self.column_sizes(M)):
            entry = np.zeros((r, r))
            entry[:, j] = M[:, j] / size
            matrix[:, j] = unit * entry.ravel()
        return LinearChart(matrix, np.zeros(r * r), np.ones(r, dtype=bool), np.arange(r))
