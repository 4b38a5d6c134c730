"""The scales on which rows are predicted where the outcome isn't Gaussian: that of the link, and that of y."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.link_model import LinkModel

STEP = 0.01  # of derivatives by the linear predictor, in its units: five points leave an error of about 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale(ABC):
    """What is asked of a linear predictor eta ~ N(m, v), v being zero where nothing is averaged.

    Arrays are (rows, N) with the points of the parameters last; what comes back is (C, rows, N), C numbers a row.
    """

    model: LinkModel
    kind: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the numbers of a row, where there are several."""
        return ()

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of what they can be."""
        return -np.inf, np.inf

    @property
    @abstractmethod
    def words(self) -> str:
        """What they are."""

    @abstractmethod
    def averaged(self, m: np.ndarray, v: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Means over eta."""

    def by_eta(self, m: np.ndarray, v: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Their first and second derivatives by m."""
        h = STEP * self.model.problem.unit
        far, near, mid, up, top = (self.averaged(m + k * h, v, dispersion) for k in (-2, -1, 0, 1, 2))
        first = (far - 8 * near + 8 * up - top) / (12 * h)
        second = (-far + 16 * near - 30 * mid + 16 * up - top) / (12 * h**2)
        return first, second


class LinkScale(Scale):
    """The linear predictor itself."""

    kind = "link"

    @property
    def words(self) -> str:
        """X beta + Z u."""
        cuts = "" if self.model.family.has_intercept else "; the thresholds are not in it"
        return f"On the {self.model.family.link} scale: X beta + Z u{_offset(self.model)}{cuts}."

    def averaged(self, m: np.ndarray, v: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """M."""
        return m[None] + 0 * v

    def by_eta(self, m: np.ndarray, v: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One and zero."""
        return np.ones((1, *m.shape)), np.zeros((1, *m.shape))


class MeanScale(Scale):
    """The mean of y, or the probability of each category."""

    kind = "mean"

    @property
    def names(self) -> tuple[str, ...]:
        """The categories of an ordinal response."""
        return self.model.family.responses(self.model.outcome)

    @property
    def bounds(self) -> tuple[float, float]:
        """Of a probability, of a positive mean, or none."""
        family = self.model.family
        if family.takes_trials or self.names:
            return 0.0, 1.0
        return (0.0, np.inf) if family.link == "log" else (-np.inf, np.inf)

    @property
    def words(self) -> str:
        """What the mean is."""
        family, name = self.model.family, self.model.outcome.name
        what = f"the probability of each category of {name}" if self.names else f"the mean of {name}"
        if family.takes_trials:
            what = "the probability of a success"
        offset = " at each row's own offset" if self.model.design.offset is not None else ""
        return f"On the scale of the response: {what}{offset}."

    def averaged(self, m: np.ndarray, v: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """By the family."""
        family = self.model.family
        return family.averaged(m, v, dispersion) if v.any() else family.expected(m, dispersion)

    def by_eta(self, m: np.ndarray, v: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The family's own slope where nothing is averaged."""
        first, second = super().by_eta(m, v, dispersion)
        return (first if v.any() else self.model.family.expected_slope(m, dispersion)), second


def _offset(model: LinkModel) -> str:
    return " + offset" if model.design.offset is not None else ""


SCALES: dict[str, type[Scale]] = {one.kind: one for one in (LinkScale, MeanScale)}


def scale_of(model: LinkModel, kind: str) -> Scale:
    """The scale that a kind of prediction is on.

    Raises
    ------
    DescriptionError
        If there is no such kind.
    """
    if kind not in SCALES:
        raise DescriptionError(
            f"kind={kind!r}; 'mean' (on the scale of the response) or 'link' was expected."
            f"{did_you_mean(str(kind), SCALES)}"
        )
    return SCALES[kind](model=model)
