"""Independent rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.structure import Asked, ResidualStructure, Term, identity


class Independent(ResidualStructure):
    """C is the identity."""

    name = "iid"
    text = "independent, one variance"
    takes = frozenset({"weights"})
    stands_alone = False
    correlated = False
    tells_rows_apart = False

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Each row is a block."""
        return cls(asked=asked, block=np.arange(len(frame)))

    @cached_property
    def terms(self) -> list[Term]:
        """The identity."""
        one = identity(self.n)
        return [Term(left=one, right=one, coefficient=lambda: 1.0)]

    def log_det(self, *own: Any, log: Callable[[Any], Any] = np.log) -> float:
        """Zero."""
        return 0.0

    def entries(self, row: np.ndarray, col: np.ndarray, *own: float) -> np.ndarray:
        """One for a row with itself."""
        return (row == col).astype(float)

    def color(self, z: np.ndarray, *own: np.ndarray) -> np.ndarray:
        """Leave z as it is."""
        return z

    def beside(self, frame: pd.DataFrame, seen: bool) -> Self:
        """Each row is a block."""
        return replace(self, block=np.arange(len(frame) + (self.n if seen else 0)))

    def short_name(self) -> str:
        """Say it."""
        return "independent"
