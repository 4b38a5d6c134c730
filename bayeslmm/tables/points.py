"""Points of the parameters, those of draws or those around an estimate, for all that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.factorisation.statistics import Statistics

ROUNDING = 8 * np.finfo(float).eps


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """N points of the parameters.

    Attributes
    ----------
    stats : Statistics
    lams : (N, n_lambda) array
        The kernels' lambda vectors: relative factors of the effects of columns that are centred and scaled, so that
        nothing is lost where a predictor is far from zero.
    beta : (N, p) array
    sigma : (N,) array
    psi : (N, k) array
        R's parameters.
    """

    stats: Statistics
    lams: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    psi: np.ndarray

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.sigma)

    def relative_factor(self, k: int) -> np.ndarray:
        """Relative factor (N, r, r) of level k on the kernels' basis."""
        r = self.stats.design.levels[k].r
        return self.lams[:, self.stats.lambda_slices[k]].reshape(-1, r, r)

    def factor(self, k: int) -> np.ndarray:
        """F (N, r, r) with F F' the covariance of level k's effects as written, in units of y."""
        back, lam = np.linalg.inv(self.stats.maps[k]), self.relative_factor(k)
        F = back @ lam
        F[np.abs(F) < ROUNDING * (np.abs(back) @ np.abs(lam))] = 0.0  # what cancelled was zero
        return self.sigma[:, None, None] * F

    def variance(self, k: int, moments: np.ndarray) -> np.ndarray:
        """tr(Sigma M) (N, A): the variance that level k adds where its better columns have the moments M (A, r, r)."""
        lam = self.relative_factor(k)
        return self.sigma[:, None] ** 2 * np.einsum("nie,aij,nje->na", lam, moments, lam, optimize=True)

    def sds_and_correlations(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The structure's own SDs (N, s) and correlations (N, c) of level k, NaN where an SD is zero."""
        structure, F = self.stats.design.levels[k].structure, self.factor(k)
        sd = np.sqrt(np.einsum("nij,nij->ni", F, F))
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = F / sd[:, :, None]
        return structure.gather(sd), structure.correlation_values(unit @ np.swapaxes(unit, 1, 2))

    def spread(self, most: int) -> Points:
        """So many of the points at most, evenly spaced."""
        if self.n <= most:
            return self
        at = np.linspace(0, self.n - 1, most).round().astype(int)
        return Points(stats=self.stats, lams=self.lams[at], beta=self.beta[at], sigma=self.sigma[at], psi=self.psi[at])
