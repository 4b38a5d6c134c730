"""Posteriors: mixtures, over the draws, of the normal distributions that the parameters leave, summarised exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.parameters import level_names
from bayeslmm.posterior.effects import residual_parameters
from bayeslmm.posterior.tree import by_level
from bayeslmm.predictions.linear import Linear
from bayeslmm.predictions.mixture import quantiles
from bayeslmm.predictions.new_residuals import Noise
from bayeslmm.predictions.results import Estimates, Part, Result
from bayeslmm.support.threads import one_blas_thread

NUMBERS = 2_000_000  # draws times quantities that are held at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws(Result):
    """A posterior's draws, chain after chain.

    Attributes
    ----------
    design : Design
    values : dict of arrays
        Per variable (draws, ...).
    variant : str
    trouble : str
        What is doubtful about them, or "".
    """

    design: Design
    values: dict[str, np.ndarray]
    variant: str
    trouble: str = ""

    @classmethod
    def of(cls, design: Design, tree: Any) -> Draws:
        """Of a tree that was checked."""
        posterior = tree["posterior"].to_dataset().transpose("chain", "draw", ...)
        values = {str(name): x.to_numpy() for name, x in posterior.data_vars.items()}
        n = values["sigma"].size
        flat = {name: x.reshape(n, *x.shape[2:]) for name, x in values.items()}
        trouble = "" if tree.attrs.get("trusted", 1) else f"The draws are doubtful: {tree.attrs.get('doubts', '')}"
        return cls(design=design, values=flat, variant=str(tree.attrs.get("variant", "")), trouble=trouble)

    @property
    def name(self) -> str:
        """The posterior of which variant."""
        return f"posterior of the {self.variant} model" if self.variant else "posterior"

    @property
    def n(self) -> int:
        """Number of draws."""
        return len(self.values["sigma"])

    @cached_property
    def psi(self) -> np.ndarray:
        """R's parameters (draws, k)."""
        return residual_parameters(self.design, self.values)

    @cached_property
    def effects(self) -> dict[str, np.ndarray]:
        """Draws of u2, u3, ..., each (draws, m, r)."""
        return by_level(self.design, self.values)

    def covariance(self, level: LevelDesign) -> np.ndarray:
        """Sigma of a level (draws, r, r)."""
        names = level_names(level)
        sd = self.values[names.sigma if level.n_sds else "sigma"].reshape(self.n, -1)
        sd = np.broadcast_to(sd, (self.n, level.r))
        corr = self.values[names.corr] if level.correlated else np.eye(level.r)
        return sd[:, :, None] * corr * sd[:, None, :]

    def means(self, weights: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """Per level, the draws of its mean over groups (draws, r)."""
        out = []
        for level, mean in zip(self.design.levels, weights, strict=True):
            zero = np.zeros((self.n, level.r))
            out.append(zero if mean is None else np.einsum("m,dmr->dr", mean, self.effects[level.name], optimize=True))
        return out

    def at(self, linear: Linear, means: Sequence[np.ndarray]) -> np.ndarray:
        """The quantities without their new groups, (k, draws)."""
        out = linear.X @ self.values["beta"].T
        out += linear.constant[:, None]
        used, inverse = np.unique(linear.Z.indices, return_inverse=True)
        if used.size:
            from scipy.sparse import csr_array

            Z = csr_array((linear.Z.data, inverse, linear.Z.indptr), shape=(linear.k, used.size))
            out += Z @ self._columns(used, means)
        return out

    def _columns(self, used: np.ndarray, means: Sequence[np.ndarray]) -> np.ndarray:
        """Draws of some effects and means (used, draws), `used` ascending."""
        parts = [self.effects[level.name].reshape(self.n, -1) for level in self.design.levels]
        out, at = np.empty((used.size, self.n)), 0
        for part in (*parts, *means):
            here = (used >= at) & (used < at + part.shape[1])
            if here.any():
                out[here] = part[:, used[here] - at].T
            at += part.shape[1]
        return out

    def new_variance(self, linear: Linear) -> np.ndarray:
        """What new groups add to the variance, (k, draws); zero where there are none."""
        total = np.zeros((linear.k, self.n))
        for level, one in zip(self.design.levels, linear.fresh, strict=True):
            if one.labels:
                total += one.squares().reshape(linear.k, -1) @ self.covariance(level).reshape(self.n, -1).T
        return total

    def estimates(self, parts: Iterable[Part], means: Sequence[np.ndarray | None], level: float) -> Estimates:
        """Mean and SD by total expectation and variance, and quantiles of the mixture."""
        own = self.means(means)
        tails = (0.5 - level / 2, 0.5 + level / 2)
        found: list[tuple[np.ndarray, ...]] = []
        with one_blas_thread():
            for part in parts:
                found += [self._summary(part, rows, own, tails) for rows in self._pieces(part.linear.k)]
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        return Estimates(estimate=columns[0], sd=columns[1], low=columns[2], high=columns[3])

    def _pieces(self, k: int) -> Iterator[slice]:
        step = max(1, NUMBERS // self.n)
        return (slice(first, min(first + step, k)) for first in range(0, k, step))

    def _summary(
        self, part: Part, rows: slice, means: Sequence[np.ndarray], tails: tuple[float, float]
    ) -> tuple[np.ndarray, ...]:
        """(mean, SD, lower and upper quantile) of some quantities."""
        mean, variance = self.mixture(part, rows, means)
        between = mean.var(axis=1, ddof=1) if self.n > 1 else np.full(len(mean), np.nan)
        sd = np.sqrt(between + variance.mean(axis=1))
        return mean.mean(axis=1), sd, *quantiles(mean, np.sqrt(variance), tails)

    def mixture(self, part: Part, rows: slice, means: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances (rows, draws) of the normal distributions of some quantities, one for each draw."""
        some, noise = part.linear.rows(rows), part.noise(rows)
        mean, variance = self.at(some, means), self.new_variance(some)
        if noise is not None:
            mean += self.borrowed(noise)
            variance += self.values["sigma"] ** 2 * noise.variance(self.psi).T
        return mean, variance

    def borrowed(self, noise: Noise) -> np.ndarray | float:
        """What the seen rows say of the residuals, (rows, draws)."""
        none = self.means([None] * len(self.design.levels))
        total: np.ndarray | float = 0.0
        for own in noise.borrowed:
            residuals = own.y[:, None] - self.at(own.fitted, none)
            total = total + own.coefficient(self.psi).T * residuals[own.index]
        return total

    def words(self, kind: str, level: float) -> str:
        """What the numbers are."""
        return (
            f"estimate, sd: mean and SD of the {self.name}. The interval is its central one of {100 * level:g} %. New "
            "groups and residuals are integrated exactly, draw by draw."
        )

    @property
    def doubts(self) -> str:
        """Draws that can't be trusted."""
        return self.trouble
