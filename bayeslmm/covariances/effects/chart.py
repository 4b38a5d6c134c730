"""The entries that ML's search moves, and the relative factor that they make on the kernels' basis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bayeslmm.covariances.effects.structure import EffectStructure


class Chart(ABC):
    """A map from k entries to the r x r factor, flat.

    Attributes
    ----------
    sds : (k,) array of bool
        Which entries are SDs, zero being the least.
    columns : (k,) array of int
        Which SD each entry goes with: it changes its sign with it. -1 for coordinates on the real line.
    even : bool
        Whether a change of sign of an SD and of all that goes with it changes nothing. Then zero is a bound only
        where the SD has nothing else in its column.
    """

    sds: np.ndarray
    columns: np.ndarray
    even: bool

    @property
    def size(self) -> int:
        """Number of entries, k."""
        return len(self.sds)

    @property
    def coordinates(self) -> np.ndarray:
        """Which entries are coordinates on the real line."""
        return self.columns < 0

    def idle(self, entries: np.ndarray) -> np.ndarray:
        """Which entries (k,) change nothing where the others are what they are: correlations of effects of SD zero."""
        return np.zeros(self.size, dtype=bool)

    @abstractmethod
    def factors(self, entries: np.ndarray) -> np.ndarray:
        """The factor (B, r * r) at entries (B, k)."""

    @abstractmethod
    def pull(self, entries: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """The gradient (k,) by the entries (k,), from that by the factor (r * r,)."""


@dataclass(frozen=True, eq=False)
class LinearChart(Chart):
    """Entries of the factor itself: factor = constant + matrix entries."""

    matrix: np.ndarray
    constant: np.ndarray
    sds: np.ndarray
    columns: np.ndarray
    even: bool = True

    def factors(self, entries: np.ndarray) -> np.ndarray:
        """The factor (B, r * r) at entries (B, k)."""
        return self.constant + entries @ self.matrix.T

    def pull(self, entries: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """The gradient (k,) by the entries."""
        return self.matrix.T @ bar


@dataclass(frozen=True, eq=False)
class CurvedChart(Chart):
    """SDs times `scale`, and coordinates of correlations: factor = M diag(SDs) L."""

    structure: EffectStructure
    M: np.ndarray
    scale: np.ndarray
    even: bool = False

    @property
    def r(self) -> int:
        """Number of effects."""
        return len(self.M)

    @property
    def sds(self) -> np.ndarray:  # type: ignore[override]
        """The SDs come first."""
        return np.arange(len(self.scale) + self.structure.n_correlations(self.r)) < len(self.scale)

    @property
    def columns(self) -> np.ndarray:  # type: ignore[override]
        """Each SD by itself."""
        return np.where(self.sds, np.arange(len(self.sds)), -1)

    def idle(self, entries: np.ndarray) -> np.ndarray:
        """The correlation, where fewer than two effects vary."""
        varying = np.count_nonzero(np.broadcast_to(entries[self.sds], self.r))
        return self.coordinates & (varying < 2)

    def factors(self, entries: np.ndarray) -> np.ndarray:
        """The factor (B, r * r) at entries (B, k)."""
        k = len(self.scale)
        sd = entries[:, :k] * self.scale
        return (self.M @ (sd[:, :, None] * self.structure.root(entries[:, k:], self.r))).reshape(len(entries), -1)

    def pull(self, entries: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """The gradient (k,) by the entries: by a step into the complex plane."""
        step, out = 1e-30, np.empty(len(entries))
        for k in range(len(entries)):
            moved = entries.astype(complex)
            moved[k] += 1j * step
            out[k] = (self.factors(moved[None])[0].imag / step) @ bar
        return out
