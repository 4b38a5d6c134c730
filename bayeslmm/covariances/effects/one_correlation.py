"""What structures with one correlation rho have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from bayeslmm.covariances.effects.chart import Chart, CurvedChart
from bayeslmm.covariances.effects.structure import FLAT, EffectStructure
from bayeslmm.distributions.prior import Prior


class OneCorrelation(EffectStructure):
    """C is a function of one number rho, of which the factor L is known in closed form."""

    least = 2

    @abstractmethod
    def lower(self, r: int) -> float:
        """The least rho at which C is positive definite; the largest is 1."""

    @abstractmethod
    def entries(self, rho: Any, r: int) -> list[list[Any]]:
        """The lower triangle of L, row by row, for numbers, arrays or tensors rho."""

    def n_correlations(self, r: int) -> int:
        """One."""
        return 1

    def from_theta(self, theta: np.ndarray, r: int) -> np.ndarray:
        """The relative factor from relative SDs and rho."""
        return theta[:-1][:, None] * self._filled(np.asarray(theta[-1]), r)

    def natural(self, z: Any, r: int) -> Any:
        """The correlation at a coordinate."""
        low = self.lower(r)
        return low + (1 - low) * (1 + np.tanh(z)) / 2

    def root(self, z: np.ndarray, r: int) -> np.ndarray:
        """L (..., r, r)."""
        return self._filled(self.natural(z[..., 0], r), r)

    def _filled(self, rho: np.ndarray, r: int) -> np.ndarray:
        L = np.zeros((*rho.shape, r, r), dtype=np.result_type(rho, float))
        for i, row in enumerate(self.entries(rho, r)):
            for j, value in enumerate(row):
                L[..., i, j] = value
        return L

    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """The coordinate of rho, of which C has one or several."""
        r = len(rows)
        return np.array([self.coordinate(self.nearest(rows @ rows.T), r)])

    def nearest(self, C: np.ndarray) -> float:
        """The rho of a matrix of correlations of this structure, or of one that is near."""
        rows, columns = np.tril_indices(len(C), -1)
        return float(C[rows, columns].mean())

    def coordinate(self, rho: float, r: int) -> float:
        """The coordinate of a correlation."""
        low = self.lower(r)
        share = np.clip(2 * (rho - low) / (1 - low) - 1, -1 + 1e-15, 1 - 1e-15)
        return float(np.clip(np.arctanh(share), -FLAT, FLAT))

    def log_prior(self, prior: Prior, z: np.ndarray, r: int) -> np.ndarray:
        """The prior of rho, and log d rho / d z."""
        x = np.abs(z[..., 0])
        log_cosh = x + np.log1p(np.exp(-2 * x)) - np.log(2)
        return prior.logpdf(self.natural(z[..., 0], r)) + np.log((1 - self.lower(r)) / 2) - 2 * log_cosh

    def draw(self, prior: Prior, rng: np.random.Generator, draws: int, r: int) -> np.ndarray:
        """C (draws, r, r)."""
        L = self._filled(prior.rvs(rng, draws), r)
        return L @ np.swapaxes(L, -1, -2)

    def chart(self, M: np.ndarray, unit: float) -> Chart:
        """SDs, of a usual size on the kernels' basis, and the coordinate of rho."""
        return CurvedChart(self, unit * M, self.gather(1 / np.abs(np.diag(M))))
