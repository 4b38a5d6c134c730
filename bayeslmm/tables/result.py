"""What the tables ask of a result, be it a fit or a posterior: estimates, and intervals of what follows from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.tables.points import Basis

Quantity = Callable[[Any], np.ndarray]  # from N points to (N, K) numbers


def interval_columns(level: float) -> list[str]:
    """Names of an interval's ends.

    Examples
    --------
    >>> interval_columns(0.95), interval_columns(0.9)
    (['2.5 %', '97.5 %'], ['5 %', '95 %'])
    """
    return [f"{100 * share:.6g} %" for share in ((1 - level) / 2, (1 + level) / 2)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(ABC):
    """What `read_result` makes of a fit or a posterior.

    Attributes
    ----------
    model : Model or LinkModel
    level : float
        Coverage of the intervals.
    """

    model: Any
    level: float

    name: str = ""

    @property
    def ends(self) -> list[str]:
        """Names of an interval's columns."""
        return interval_columns(self.level)

    @property
    def basis(self) -> Basis:
        """The columns of effects that `Points` belong to."""
        return self.model.statistics

    @property
    def scale(self) -> str:
        """Of which scale variances are, in a sentence."""
        return "Variances are in squared units of y, around X beta."

    @property
    def latent(self) -> str:
        """The same, where it isn't that of y; else ""."""
        return ""

    @property
    def rows_part(self) -> str:
        """What the rows' own part of the variance is called."""
        return "residual"

    @property
    @abstractmethod
    def doubts(self) -> str:
        """What is doubtful about the result as a whole, or ""."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What the interval of a quantity that follows from the parameters is, in a sentence."""

    @abstractmethod
    def effects(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and SDs (m, r) of level k's effects."""

    @property
    @abstractmethod
    def beta(self) -> np.ndarray:
        """Estimates (p,) of the fixed effects."""

    @property
    @abstractmethod
    def psi(self) -> np.ndarray:
        """Estimates (k,) of R's parameters, or of the family's."""

    @abstractmethod
    def points(self, q: int) -> Any:
        """The estimate, or a few draws for what takes a factorisation of q random effects each."""

    @abstractmethod
    def derive(self, quantity: Quantity, lower: Any, upper: Any, most: int | None = None) -> pd.DataFrame:
        """Estimate, SD and interval of K quantities that lie between `lower` and `upper` (numbers or (K,) arrays).

        Equal bounds are those of a known number. `most` draws are used at most, all where it is None.
        """

    def frame(self, estimate: Any, sd: Any, low: Any, high: Any, said: Any) -> pd.DataFrame:
        """The columns that every table ends with."""
        columns = dict(zip(["estimate", "sd", *self.ends], (estimate, sd, low, high), strict=True))
        out = pd.DataFrame({name: np.asarray(x, dtype=float) for name, x in columns.items()})
        words = [said] * len(out) if isinstance(said, str) else list(said)
        out["interval"] = pd.Series(words, index=out.index, dtype=object)
        return out

    def note(self, *said: str) -> str:
        """What a table says below, its doubts last; a line each."""
        return "\n".join(filter(None, [*said, self.doubts]))
