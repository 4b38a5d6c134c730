"""What structures with one SD for all effects have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.covariances.effects.structure import EffectStructure


class OneSD(EffectStructure):
    """The effects of a group have one SD, "sigma_u2"; stands before the class that says what correlations are."""

    def n_sds(self, r: int) -> int:
        """One."""
        return 1

    def sd_labels(self, u: str, effects: Sequence[str]) -> list[str]:
        """One name."""
        return [f"sigma_{u}"]

    def gather(self, size: np.ndarray) -> np.ndarray:
        """The root mean square."""
        return np.sqrt(np.mean(size**2, axis=-1, keepdims=True))

    def gather_squares(self, squares: np.ndarray) -> np.ndarray:
        """Their sum."""
        return squares.sum(keepdims=True)
