"""Points of the parameters, those of draws or those around an estimate, for all that follows from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.factorisation.statistics import Statistics

ROUNDING = 8 * np.finfo(float).eps


class Basis(Protocol):
    """The columns of effects on which the kernels work: what statistics and the integrals' rows have in common."""

    @property
    def design(self) -> Design:
        """The design."""

    @property
    def maps(self) -> tuple[np.ndarray, ...]:
        """Per level M (r, r), columns = better M."""

    @property
    def better(self) -> tuple[np.ndarray, ...]:
        """Per level the (n, r) columns."""

    @property
    def lambda_slices(self) -> tuple[slice, ...]:
        """Per level, where its factor stands in lambda."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectPoints(ABC):
    """N points of the parameters, as far as any outcome has them.

    Attributes
    ----------
    lams : (N, n_lambda) array
        The kernels' lambda vectors: relative factors of the effects of columns that are centred and scaled, so that
        nothing is lost where a predictor is far from zero.
    beta : (N, p) array
    sigma : (N,) array
        What the factors are relative to: ones where there is no residual.
    """

    lams: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray

    @property
    @abstractmethod
    def basis(self) -> Basis:
        """The columns that lambda belongs to."""

    @abstractmethod
    def row_variances(self, strata: np.ndarray) -> np.ndarray:
        """Variances (N, A) of the rows' own part at A places, `strata` (A, S) being the strata's parts in them."""

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.sigma)

    def relative_factor(self, k: int) -> np.ndarray:
        """Relative factor (N, r, r) of level k on the kernels' basis."""
        r = self.basis.design.levels[k].r
        return self.lams[:, self.basis.lambda_slices[k]].reshape(-1, r, r)

    def factor(self, k: int) -> np.ndarray:
        """F (N, r, r) with F F' the covariance of level k's effects as written, in units of y."""
        back, lam = np.linalg.inv(self.basis.maps[k]), self.relative_factor(k)
        F = back @ lam
        F[np.abs(F) < ROUNDING * (np.abs(back) @ np.abs(lam))] = 0.0  # what cancelled was zero
        return self.sigma[:, None, None] * F

    def variance(self, k: int, moments: np.ndarray) -> np.ndarray:
        """tr(Sigma M) (N, A): the variance that level k adds where its better columns have the moments M (A, r, r)."""
        lam = self.relative_factor(k)
        return self.sigma[:, None] ** 2 * np.einsum("nie,aij,nje->na", lam, moments, lam, optimize=True)

    def sds_and_correlations(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The structure's own SDs (N, s) and correlations (N, c) of level k, NaN where an SD is zero."""
        structure, F = self.basis.design.levels[k].structure, self.factor(k)
        sd = np.sqrt(np.einsum("nij,nij->ni", F, F))
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = F / sd[:, :, None]
        return structure.gather(sd), structure.correlation_values(unit @ np.swapaxes(unit, 1, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class Points(EffectPoints):
    """N points of the parameters of a Gaussian outcome.

    Attributes
    ----------
    stats : Statistics
    psi : (N, k) array
        R's parameters.
    """

    stats: Statistics
    psi: np.ndarray

    @property
    def basis(self) -> Basis:
        """The statistics."""
        return self.stats

    def row_variances(self, strata: np.ndarray) -> np.ndarray:
        """The residual's."""
        ratios = self.stats.design.residual.split(self.psi.T)[1] if strata.shape[1] > 1 else [1.0]
        squares = np.stack([np.broadcast_to(ratio, self.n) for ratio in ratios], axis=1) ** 2
        return self.sigma[:, None] ** 2 * (squares @ strata.T)

    def spread(self, most: int) -> Points:
        """So many of the points at most, evenly spaced."""
        if self.n <= most:
            return self
        at = np.linspace(0, self.n - 1, most).round().astype(int)
        return Points(stats=self.stats, lams=self.lams[at], beta=self.beta[at], sigma=self.sigma[at], psi=self.psi[at])
