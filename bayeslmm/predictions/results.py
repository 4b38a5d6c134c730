"""What a result says of linear quantities: an estimate, an SD and an interval of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayeslmm.predictions.linear import Linear
from bayeslmm.predictions.new_residuals import NewResiduals, Noise


class Part(NamedTuple):
    """Some quantities; those of rows, from row `first` on, with their residuals where these are asked for."""

    linear: Linear
    residuals: NewResiduals | None = None
    first: int = 0

    def noise(self, rows: slice) -> Noise | None:
        """The residuals of some of the quantities."""
        if self.residuals is None:
            return None
        return self.residuals.block(slice(self.first + rows.start, self.first + rows.stop))


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """Of k quantities.

    Attributes
    ----------
    estimate, sd, low, high : (k,) arrays
    """

    estimate: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Result(ABC):
    """A fit or a posterior, as predictions read it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """In titles: "REML"."""

    @abstractmethod
    def estimates(self, parts: Iterable[Part], means: Sequence[np.ndarray | None], level: float) -> Estimates:
        """Of the quantities, part by part; `means` are the weights of each level's groups in means over them."""

    @abstractmethod
    def words(self, kind: str, level: float) -> str:
        """What estimate, sd and interval are."""

    @property
    @abstractmethod
    def doubts(self) -> str:
        """What is doubtful about the result, or ""."""
