"""What is predicted where the outcome isn't Gaussian: means of rows, contrasts of them, and their slopes.

Each is a function of linear quantities, which have normal distributions over new groups; over those that are to be
averaged it is averaged, over others it is drawn, the same groups for all that is compared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.predictions.comparisons import Contrast
from bayeslmm.predictions.encoding import Rows
from bayeslmm.predictions.linear import Fresh, Linear
from bayeslmm.predictions.link_scales import Scale
from bayeslmm.predictions.slopes import Slope


def cross(a: Fresh, b: Fresh) -> np.ndarray:
    """S (k, r, r) with tr(S Sigma) the covariance of what two quantities have of the same new groups."""
    first, second = (a, b) if a.labels == b.labels else _alike(a, b)
    S = np.zeros((first.weights.shape[0], a.r, a.r))
    for e in range(a.r):
        for f in range(a.r):
            S[:, e, f] = first.weights[:, e :: a.r].multiply(second.weights[:, f :: a.r]).sum(axis=1)
    return S


def _alike(a: Fresh, b: Fresh) -> tuple[Fresh, Fresh]:
    labels = tuple(dict.fromkeys([*a.labels, *b.labels]))
    return tuple(Fresh(labels=labels, r=one.r, weights=one.among(labels)) for one in (a, b))  # type: ignore[return-value]


class Quantity(ABC):
    """C numbers of each row.

    Attributes
    ----------
    variable, label : str
        What changes; "" where nothing does.
    """

    variable: str
    label: str

    @abstractmethod
    def linears(self, rows: Rows, some: slice) -> tuple[Linear, ...]:
        """The linear quantities that it is made of."""

    @abstractmethod
    def value(
        self, scale: Scale, ms: Sequence[np.ndarray], v: Sequence[Sequence[np.ndarray]], dispersion: np.ndarray
    ) -> np.ndarray:
        """The numbers (C, rows, N) at means (rows, N) of these and covariances v[a][b] (rows, N)."""

    def bounds(self, scale: Scale) -> tuple[float, float]:
        """Ends of what they can be."""
        return -np.inf, np.inf

    def pulls(
        self, scale: Scale, ms: Sequence[np.ndarray], v: Sequence[Sequence[np.ndarray]], dispersion: np.ndarray
    ) -> list[np.ndarray]:
        """Derivatives (C, rows, N) by each of the means."""
        out = []
        for a, m in enumerate(ms):
            h = 1e-3 * scale.model.problem.unit
            ends = []
            for sign in (-2, -1, 1, 2):
                moved = list(ms)
                moved[a] = m + sign * h
                ends.append(self.value(scale, moved, v, dispersion))
            out.append((ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h))
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Mean(Quantity):
    """What rows are expected to be."""

    variable: str = ""
    label: str = ""

    def linears(self, rows: Rows, some: slice) -> tuple[Linear, ...]:
        """The linear predictor."""
        return (rows.linear(some),)

    def value(self, scale, ms, v, dispersion) -> np.ndarray:
        """Its mean on the scale."""
        return scale.averaged(ms[0], v[0][0], dispersion)

    def bounds(self, scale: Scale) -> tuple[float, float]:
        """The scale's."""
        return scale.bounds


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference(Quantity):
    """What changes in rows with a predictor."""

    contrast: Contrast

    @property
    def variable(self) -> str:  # type: ignore[override]
        """The predictor."""
        return self.contrast.variable

    @property
    def label(self) -> str:  # type: ignore[override]
        """How it changes."""
        return self.contrast.label

    def linears(self, rows: Rows, some: slice) -> tuple[Linear, ...]:
        """At the low end, and at the high one."""
        return self.contrast.ends(rows, some)

    def value(self, scale, ms, v, dispersion) -> np.ndarray:
        """High less low."""
        return scale.averaged(ms[1], v[1][1], dispersion) - scale.averaged(ms[0], v[0][0], dispersion)

    def bounds(self, scale: Scale) -> tuple[float, float]:
        """Of differences of probabilities."""
        return (-1.0, 1.0) if scale.bounds == (0.0, 1.0) else (-np.inf, np.inf)


@dataclass(frozen=True, kw_only=True, eq=False)
class Derivative(Quantity):
    """The slope along a predictor: with eta ~ N(m, v), d E g = E g' dm + E g'' dv / 2, dv = 2 Cov(eta, d eta)."""

    slope: Slope

    @property
    def variable(self) -> str:  # type: ignore[override]
        """The predictor."""
        return self.slope.variable

    @property
    def label(self) -> str:  # type: ignore[override]
        """As of a slope."""
        return self.slope.label

    def linears(self, rows: Rows, some: slice) -> tuple[Linear, ...]:
        """The linear predictor and its derivative."""
        return rows.linear(some), self.slope.linear(rows, some)

    def value(self, scale, ms, v, dispersion) -> np.ndarray:
        """The derivative of the mean on the scale."""
        first, second = scale.by_eta(ms[0], v[0][0], dispersion)
        return first * ms[1] + second * v[0][1]
