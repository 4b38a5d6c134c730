"""Wald's intervals of what follows from an estimate, on the real line that the quantity's bounds leave."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.result import Quantity, Result

EXACT = 1e-9  # a standard error below this, relative to the quantity, is rounding
ROUGH = 1.0  # a standard error on the scale of logarithms above this means little


@dataclass(frozen=True, kw_only=True, eq=False)
class WaldResult(Result):
    """A fit: one point, and how the likelihood bends around it."""

    @property
    @abstractmethod
    def how(self) -> str:
        """What an interval of `derive` is."""

    @property
    @abstractmethod
    def held(self) -> str:
        """Parameters that are held where they are, on the boundary, or ""."""

    @property
    @abstractmethod
    def trouble(self) -> str:
        """Why there are no intervals, or ""."""

    @property
    @abstractmethod
    def boundary(self) -> tuple[str, ...]:
        """Names of what is on the boundary."""

    @property
    def perfect(self) -> bool:
        """Whether y is fitted exactly, so that nothing has an interval."""
        return False

    @abstractmethod
    def slopes(self, quantity: Quantity) -> np.ndarray:
        """Derivatives (d, K) along independent directions that are one standard error long."""

    def derive(self, quantity: Quantity, lower: Any, upper: Any, most: int | None = None) -> pd.DataFrame:
        """Wald intervals on the real line that `lower` and `upper` leave, by the delta method."""
        with one_blas_thread():
            value = quantity(self.points(0))[0]
            if self.trouble:
                return self.none(value, self.trouble)
            sd = np.sqrt((self.slopes(quantity) ** 2).sum(axis=0))
        low, high = (np.broadcast_to(np.asarray(x, dtype=float), value.shape) for x in (lower, upper))
        a, b = wald(value, sd, low, high, self.z)
        out = self.frame(value, sd, a, b, self.how)
        out.loc[_log_sd(value, sd, low, high) > ROUGH, "interval"] = f"{self.how}, very rough"
        numbers = out.columns[1:4]
        known = low == high
        exact = (sd <= EXACT * np.abs(value)) | known
        out.loc[exact, numbers] = np.stack([0 * value, value, value], axis=1)[exact]
        out.loc[exact, "interval"] = "exact: nothing of it is estimated"
        if self.held:
            lost = (_at_end(value, low, high) | np.isnan(value)) & ~known
            out.loc[lost, numbers] = np.nan
            out.loc[lost, "interval"] = f"none, as {self.held} is on the boundary"
        return out

    def none(self, value: np.ndarray, why: str) -> pd.DataFrame:
        """Estimates without intervals."""
        nothing = np.full(len(value), np.nan)
        return self.frame(value, nothing, nothing, nothing, why)

    @property
    def z(self) -> float:
        """The normal quantile of the coverage."""
        return NormalDist().inv_cdf((1 + self.level) / 2)


def _at_end(value: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Which values are at an end of what they can be."""
    with np.errstate(invalid="ignore"):
        wide = np.where(np.isfinite(upper - lower), upper - lower, 0.0)
    return (value <= lower + EXACT * wide) | (value >= upper - EXACT * wide)


def _log_sd(value: np.ndarray, sd: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The standard error on the scale of logarithms, or of logits; 0 where there is no bound."""
    with np.errstate(divide="ignore", invalid="ignore"):
        above = np.where(np.isfinite(lower), value - lower, np.inf)
        below = np.where(np.isfinite(upper), upper - value, np.inf)
        return np.nan_to_num(sd / np.minimum(above, below))


def wald(
    value: np.ndarray, sd: np.ndarray, lower: np.ndarray, upper: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """value +- z sd on the real line: as it is, on a scale of logarithms, or of logits between two bounds."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        above, below = value - lower, upper - value
        log = np.isfinite(lower) & np.isinf(upper)
        logit = np.isfinite(lower) & np.isfinite(upper)
        out = []
        for sign in (-z, z):
            plain = value + sign * sd
            scaled = lower + above * np.exp(sign * sd / above)
            step = sign * sd * (upper - lower) / (above * below)
            between = lower + (upper - lower) / (1 + below / above * np.exp(-step))
            out.append(np.where(log, scaled, np.where(logit, between, plain)))
    return out[0], out[1]
