"""What a structure of effects is: SDs, correlations, and the relative factor that they make.

The r effects of a group have the covariance D C D, with D the diagonal of their SDs and C = L L' their correlations.
A structure says how many numbers D and C hang on, and which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.covariances.effects.chart import Chart
from bayeslmm.distributions.prior import Prior

FLAT = 8.0  # tanh of this stands for one: a correlation at the end of its range


class EffectStructure(ABC):
    """A kind of covariance of r effects; it holds for any r, so that one object serves every level.

    Attributes
    ----------
    name : str
        As it is written: ``structure="cs"``, ``cs(1 + f | g)``.
    text : str
        What it is, in a line.
    adjective : str
        Before "effects": "correlated".
    least : int
        Effects that it takes at least.
    movable : bool
        Whether W u has this structure for every W where u has it: then its priors may be stated at the mean.
    paired : bool
        Whether each pair of effects has a correlation of its own, with an LKJ for a prior.
    """

    name: str
    text: str
    adjective = "correlated"
    least = 1
    movable = False
    paired = False

    def bar(self, effects: str, group: str) -> str:
        """The term of a formula."""
        return f"{self.name}({effects} | {group})"

    def words(self, effects: Sequence[str]) -> str:
        """What stands behind the names of the effects."""
        return f" ({self.text})"

    # how many numbers, and their names -------------------------------------------------------------------------

    def n_sds(self, r: int) -> int:
        """Number of SDs."""
        return r

    @abstractmethod
    def n_correlations(self, r: int) -> int:
        """Number of correlations to estimate."""

    def lower(self, r: int) -> float:
        """The least that a correlation may be."""
        return -1.0

    def correlated(self, r: int) -> bool:
        """Whether effects are correlated at all."""
        return self.n_correlations(r) > 0

    def sd_labels(self, u: str, effects: Sequence[str]) -> list[str]:
        """Names of the SDs: "sigma_u2", or "sigma_u2[Days]" where there are several."""
        return [f"sigma_{u}"] if len(effects) == 1 else [f"sigma_{u}[{effect}]" for effect in effects]

    def correlation_labels(self, u: str, effects: Sequence[str]) -> list[str]:
        """Names of the correlations, those of `correlation_values`."""
        return [f"rho_{u}"] * self.n_correlations(len(effects))

    def correlation_values(self, C: np.ndarray) -> np.ndarray:
        """The correlations (..., k) in a matrix (..., r, r)."""
        return C[..., 1, :1] if self.n_correlations(C.shape[-1]) else C[..., 0, :0]

    def theta_labels(self, effects: Sequence[str]) -> list[str]:
        """Names of the entries of theta."""
        own = list(effects) if self.n_sds(len(effects)) == len(effects) else ["sd"]
        return [*own, *(["rho"] * self.n_correlations(len(effects)))]

    def theta(self, lam: np.ndarray) -> np.ndarray:
        """The entries of theta from a relative factor (r, r)."""
        size = np.sqrt(np.einsum("ij,ij->i", lam, lam))
        unit = np.divide(lam, size[:, None], out=np.eye(len(lam)), where=size[:, None] > 0)
        return np.concatenate([self.gather(size), self.correlation_values(unit @ unit.T)])

    @abstractmethod
    def from_theta(self, theta: np.ndarray, r: int) -> np.ndarray:
        """The relative factor (r, r) from theta."""

    # SDs -------------------------------------------------------------------------------------------------------

    def gather(self, size: np.ndarray) -> np.ndarray:
        """The structure's own SDs (..., k), from one for each effect (..., r): their root mean square where shared.

        The way back needs no method: one SD of all is broadcast.
        """
        return size

    def gather_squares(self, squares: np.ndarray) -> np.ndarray:
        """What each SD of 1 adds to the variance of y (k,), from what each effect adds (r,)."""
        return squares

    # correlations ----------------------------------------------------------------------------------------------

    @abstractmethod
    def root(self, z: np.ndarray, r: int) -> np.ndarray:
        """L (..., r, r) at coordinates z (..., k) on the real line."""

    @abstractmethod
    def coordinates(self, rows: np.ndarray) -> np.ndarray:
        """The coordinates of C = rows rows', rows (r, r) of length one; kept within FLAT of zero."""

    def turned_root(self, z: np.ndarray, order: Sequence[int]) -> np.ndarray:
        """L (r, r) of which an effect may be taken first, where that changes what the coordinates are."""
        return self.root(z, len(order))

    def natural(self, z: Any, r: int) -> Any:
        """The correlation at a coordinate."""
        return np.tanh(z)

    @abstractmethod
    def log_prior(self, prior: Prior, z: np.ndarray, r: int) -> np.ndarray:
        """Log prior density (...,) of the coordinates z (..., k), Jacobian included."""

    @abstractmethod
    def draw(self, prior: Prior, rng: np.random.Generator, draws: int, r: int) -> np.ndarray:
        """C (draws, r, r) from the prior of its correlations."""

    # the search of ML and REML ---------------------------------------------------------------------------------

    def column_sizes(self, M: np.ndarray) -> np.ndarray:
        """How large each column is beside those that carry its mean; `M` (r, r) leads to the kernels' basis."""
        return np.abs(np.diag(M))

    @abstractmethod
    def chart(self, M: np.ndarray, unit: float) -> Chart:
        """The entries that the search moves; `M` (r, r) leads to the kernels' basis, `unit` is a usual size."""
