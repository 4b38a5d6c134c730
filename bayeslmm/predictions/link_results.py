"""A posterior of an outcome that isn't Gaussian, as predictions read it, and what a fit has in common with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.design.level_design import LevelDesign
from bayeslmm.posterior.link_draws import LinkValues
from bayeslmm.predictions.from_draws import Draws
from bayeslmm.predictions.linear import Fresh, Linear
from bayeslmm.predictions.link_quantities import Quantity, cross
from bayeslmm.predictions.link_scales import Scale
from bayeslmm.predictions.results import Estimates

Parts = tuple[tuple[Linear, ...], Any]  # linear quantities of some rows, and L (c, rows) by which they are combined
NUMBERS = 1_000_000  # points times rows that are held at a time
SEED = 20240229  # of new groups' effects: the same numbers whenever they are asked for


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkDraws(Draws):
    """Points of the parameters and effects, as linear quantities need them."""

    link: LinkValues

    @classmethod
    def at_points(cls, link: LinkValues, variant: str = "", trouble: str = "") -> LinkDraws:
        """Of values by point."""
        return cls(design=link.model.design, values={"beta": link.beta}, variant=variant, trouble=trouble, link=link)

    @property
    def n(self) -> int:
        """Number of points."""
        return self.link.n

    @cached_property
    def effects(self) -> dict[str, np.ndarray]:
        """Of each level (N, m, r); zeros where they aren't known and nobody asks for them."""
        levels = self.design.levels
        known = self.link.effects
        return {one.name: known.get(one.name, np.zeros((self.n, one.m, one.r))) for one in levels}

    def covariance(self, level: LevelDesign) -> np.ndarray:
        """Sigma of a level (N, r, r)."""
        return self.link.covariance(next(k for k, one in enumerate(self.design.levels) if one is level))

    def covariances(self, linears: Sequence[Linear], integrated: Sequence[bool]) -> list[list[np.ndarray]]:
        """Covariances (k, N) of the quantities over the groups that are averaged over."""
        k = linears[0].k
        out = [[np.zeros((k, 1)) for _ in linears] for _ in linears]
        for level, own, place in zip(self.design.levels, integrated, range(len(integrated)), strict=True):
            if not own:
                continue
            sigma = self.covariance(level).reshape(self.n, -1).T
            for a, one in enumerate(linears):
                for b, other in enumerate(linears):
                    out[a][b] = out[a][b] + cross(one.fresh[place], other.fresh[place]).reshape(k, -1) @ sigma
        return out

    def drawn(self, linear: Linear, which: Sequence[bool], new: dict[tuple[int, str], np.ndarray]) -> np.ndarray:
        """What new groups add (k, N), each label having the effects in `new`."""
        total = np.zeros((linear.k, self.n))
        for k, (one, own) in enumerate(zip(linear.fresh, which, strict=True)):
            met = _met(one) if own else np.zeros(0, dtype=int)
            if met.size:
                u = np.concatenate([new[k, one.labels[place]] for place in met], axis=1)
                columns = (met[:, None] * one.r + np.arange(one.r)).ravel()
                total += one.weights.tocsc()[:, columns] @ u.T
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What is asked of each quantity: which levels' new groups are averaged over, and which are drawn.

    Attributes
    ----------
    integrated, new : tuple of bool
        Per level.
    means : per level the weights of the groups in the mean that all rows take, or None
    level : float
    """

    scale: Scale
    integrated: tuple[bool, ...]
    new: tuple[bool, ...]
    means: tuple[np.ndarray | None, ...]
    level: float


class LinkResult(ABC):
    """A fit or a posterior of an outcome that isn't Gaussian.

    Attributes
    ----------
    points : LinkDraws
    """

    points: LinkDraws

    @property
    @abstractmethod
    def name(self) -> str:
        """In titles."""

    @property
    @abstractmethod
    def doubts(self) -> str:
        """What is doubtful about the result, or ""."""

    @abstractmethod
    def words(self, asked: Asked) -> str:
        """What estimate, sd and interval are."""

    @abstractmethod
    def estimates(self, quantity: Quantity, parts: Sequence[Parts], asked: Asked, each: bool) -> Estimates:
        """Of a quantity, (C, rows) arrays: of each row by itself, or of the rows combined, all parts together."""

    def pieces(self, k: int) -> Iterator[slice]:
        """Rows that are held at a time."""
        step = max(1, NUMBERS // max(self.points.n, 1))
        return (slice(first, min(first + step, k)) for first in range(0, k, step))

    def new_effects(
        self, linears: Sequence[Linear], asked: Asked, points: LinkDraws
    ) -> dict[tuple[int, str], np.ndarray]:
        """Effects (N, r) of each new group, by level and label: the same for a label whatever else is asked for."""
        out: dict[tuple[int, str], np.ndarray] = {}
        for k, level in enumerate(points.design.levels):
            if not asked.new[k]:
                continue
            for label in dict.fromkeys(one.fresh[k].labels[place] for one in linears for place in _met(one.fresh[k])):
                rng = np.random.default_rng([SEED, k, *label.encode()])
                z = rng.standard_normal((points.n, level.r))
                out[k, label] = np.einsum("nij,nj->ni", points.link.factors[k], z)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class OfDraws(LinkResult):
    """A posterior."""

    points: LinkDraws

    @property
    def name(self) -> str:
        """Of which variant."""
        return f"posterior of the {self.points.variant} model" if self.points.variant else "posterior"

    @property
    def doubts(self) -> str:
        """Draws that can't be trusted."""
        return self.points.trouble

    def words(self, asked: Asked) -> str:
        """What the numbers are."""
        text = (
            f"estimate, sd: mean and SD of the {self.name}. The interval is its central one of {100 * asked.level:g} %."
        )
        if any(asked.new):
            text += " Of new groups, the estimate is integrated exactly, draw by draw; sd and interval are of draws."
        return text

    def estimates(self, quantity, parts, asked, each) -> Estimates:
        """Means, SDs and quantiles over the draws."""
        points, found = self.points, []
        means = points.means(asked.means)
        total: Any = 0.0
        for linears, L in parts:
            for some in self.pieces(linears[0].k):
                own = tuple(linear.rows(some) for linear in linears)
                expected, drawn = self._values(quantity, own, means, asked)
                if each:
                    found.append(_summary(expected, drawn, asked.level))
                else:
                    part = L[:, some]
                    total = total + np.stack([combined(part, x) for x in (expected, drawn)])
        if not each:
            found = [_summary(total[0], total[1], asked.level)]
        return joined(found)

    def _values(self, quantity, linears, means, asked) -> tuple[np.ndarray, np.ndarray]:
        """(expected over new groups, with new groups drawn), each (C, rows, N)."""
        points, scale = self.points, asked.scale
        dispersion = points.link.dispersion
        ms = [points.at(linear, means) for linear in linears]
        everything = [a or b for a, b in zip(asked.integrated, asked.new, strict=True)]
        expected = quantity.value(scale, ms, points.covariances(linears, everything), dispersion)
        if not any(one.labels for k in range(len(everything)) if asked.new[k] for one in [linears[0].fresh[k]]):
            return expected, expected
        new = self.new_effects(linears, asked, points)
        moved = [m + points.drawn(linear, asked.new, new) for m, linear in zip(ms, linears, strict=True)]
        return expected, quantity.value(scale, moved, points.covariances(linears, asked.integrated), dispersion)


def _met(one: Fresh) -> np.ndarray:
    """Places of the labels that any quantity meets."""
    return np.unique(one.weights.indices // one.r)


def combined(L: Any, x: np.ndarray) -> np.ndarray:
    """L (c, rows) times x (C, rows, N)."""
    return np.stack([L @ own for own in x])


def _summary(expected: np.ndarray, drawn: np.ndarray, level: float) -> tuple[np.ndarray, ...]:
    """(mean, SD, lower and upper quantile) over the last axis, (C, rows) each."""
    low, high = np.quantile(drawn, (0.5 - level / 2, 0.5 + level / 2), axis=-1)
    sd = drawn.std(axis=-1, ddof=1) if drawn.shape[-1] > 1 else np.full(drawn.shape[:-1], np.nan)
    return expected.mean(axis=-1), sd, low, high


def joined(found: list[tuple[np.ndarray, ...]]) -> Estimates:
    """Of all rows, of pieces of them."""
    estimate, sd, low, high = (np.concatenate(column, axis=1) for column in zip(*found, strict=True))
    return Estimates(estimate=estimate, sd=sd, low=low, high=high)
