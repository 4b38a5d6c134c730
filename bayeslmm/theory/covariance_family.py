"""The covariances of y that a model can express: V as a function of coordinates on the real line.

    V = sum_k Z_k (K_k (x) Sigma_k) Z_k' + sigma^2 R(psi)

K_k is the identity, or the level's known covariance. V is never made whole: `covariance` gives the part of some rows,
`times` the product with vectors, at a cost linear in the rows for levels and for the residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bayeslmm.covariances.effects.chart import Chart
from bayeslmm.covariances.residuals.structure import ResidualParameter
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign


@dataclass(frozen=True, kw_only=True, eq=False)
class CovarianceFamily:
    """The V of one model on its data.

    Coordinates are sigma, then per level the free entries of a factor of Sigma (on the scale of the level's
    columns made orthonormal, so that no coordinate has another size than the others), then the residual's
    parameters, correlations by a tanh to either bound and ratios by log.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5], "g": list("aabb")})
    >>> CovarianceFamily(design=lmm.design).covariance(np.array([1.0, 2.0]), np.array([0, 1, 2]))
    array([[5., 4., 0.],
           [4., 5., 0.],
           [0., 0., 5.]])
    """

    design: Design

    @cached_property
    def sizes(self) -> list[int]:
        """Coordinates per level."""
        return [chart.size for chart in self._charts]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return 1 + sum(self.sizes) + len(self.design.residual.parameters)

    @cached_property
    def _scales(self) -> list[np.ndarray]:
        """Per level T^-1 with columns = Q T and Q'Q = n I; diagonal where effects are independent."""
        out = []
        for level in self.design.levels:
            if level.structure.paired:
                T = np.linalg.qr(level.columns, mode="r") / np.sqrt(len(level.columns))
            else:
                T = np.diag(np.sqrt(np.mean(level.columns**2, axis=0)))
            out.append(np.linalg.inv(T))
        return out

    @cached_property
    def _charts(self) -> list[Chart]:
        """Per level, the map from its coordinates to its factor on that basis."""
        parts = zip(self.design.levels, self._scales, strict=True)
        return [level.structure.chart(np.linalg.inv(scale), 1.0) for level, scale in parts]

    def natural(self, x: np.ndarray) -> tuple[float, list[np.ndarray], np.ndarray]:
        """(sigma^2, Sigma per level, psi) at the coordinates x."""
        variance, at, blocks = x[0] ** 2, 1, []
        for level, chart, scale in zip(self.design.levels, self._charts, self._scales, strict=True):
            own = x[at : at + chart.size]
            own = np.where(chart.sds & (not chart.even), np.abs(own), own)
            factor = scale @ chart.factors(own[None])[0].reshape(level.r, level.r)
            blocks.append(factor @ factor.T * (1.0 if level.n_sds else variance))
            at += chart.size
        psi = [_value(float(z), p) for z, p in zip(x[at:], self.design.residual.parameters, strict=True)]
        return float(variance), blocks, np.array(psi)

    def parameters(self, x: np.ndarray) -> pd.Series:
        """The parameters at x under the names that tables use: sigma, sigma_u2, corr_u2[...], rho, ..."""
        variance, blocks, psi = self.natural(x)
        out = {"sigma": float(np.sqrt(variance))}
        for level, block in zip(self.design.levels, blocks, strict=True):
            sd = np.sqrt(np.diag(block))
            out |= dict(zip(level.sd_labels, level.structure.gather(sd).tolist(), strict=True))
            with np.errstate(invalid="ignore", divide="ignore"):
                corr = (block / np.outer(sd, sd)).round(12)  # 1e-17 is a zero
            own = level.structure.correlation_values(corr).tolist()
            out |= dict(zip(level.correlation_labels, own, strict=True))
        labels = [p.label for p in self.design.residual.parameters]
        return pd.Series(out | dict(zip(labels, psi.round(12).tolist(), strict=True)), dtype=float)

    def covariance(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """V of some rows, dense (k, k)."""
        variance, blocks, psi = self.natural(x)
        V = variance * self.design.residual.part(psi, rows)
        for level, block in zip(self.design.levels, blocks, strict=True):
            index, columns = level.index[rows], level.columns[rows]
            V += _related(level, index) * (columns @ block @ columns.T)
        return V

    def times(self, x: np.ndarray, B: np.ndarray) -> np.ndarray:
        """V B for vectors B (n, c), without V."""
        variance, blocks, psi = self.natural(x)
        out = variance * self.design.residual.times(psi, B)
        for level, block in zip(self.design.levels, blocks, strict=True):
            effects = (level.Z.T @ B).reshape(level.m, -1)
            if level.root is not None:
                effects = level.root @ (level.root.T @ effects)
            effects = np.einsum("ij,mjc->mic", block, effects.reshape(level.m, level.r, -1))
            out += level.Z @ effects.reshape(level.q, -1)
        return out

    def points(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Coordinates that between them show what the family can do.

        Anywhere; with each level nearly alone, switched off, or with all its effects in one direction (correlations
        of one or minus one); and with each residual parameter near either bound while the levels are small.
        """
        points = [self._anywhere(rng) for _ in range(4)]
        at = 1
        for size in self.sizes:
            for factor in (0.0, 5.0):
                x = self._anywhere(rng)
                x[at : at + size] *= factor
                points.append(x)
            if size > 1:
                x = self._anywhere(rng)
                x[at + 1 : at + size] = 0.0
                points.append(x)
            at += size
        for k in range(at, self.size):
            for share in (-0.9, 0.9):
                x = self._anywhere(rng)
                x[1:at] *= 0.1
                x[k] = _coordinate(share, self.design.residual.parameters[k - at])
                points.append(x)
        return points

    def starts(self, variance: float, rng: np.random.Generator) -> list[np.ndarray]:
        """Where a search begins: a plain point first, then points anywhere; for V of about this size."""
        plain = np.full(self.size, 0.5)
        at = 1
        for chart in self._charts:
            plain[at : at + chart.size] = np.where(chart.sds, 0.5, np.where(chart.coordinates, 0.0, 0.1))
            at += chart.size
        out = [plain, *(self._anywhere(rng) for _ in range(3))]
        for x in out:
            x[:at] *= np.sqrt(variance)
        return out

    def _anywhere(self, rng: np.random.Generator) -> np.ndarray:
        x = rng.normal(size=self.size)
        x[0] = 1.0
        parameters = self.design.residual.parameters
        x[self.size - len(parameters) :] = [_coordinate(rng.uniform(-0.9, 0.9), p) for p in parameters]
        return x


def _related(level: LevelDesign, index: np.ndarray) -> np.ndarray:
    """K of the groups of some rows: same group or not, or their known covariance."""
    if level.root is None:
        return (index[:, None] == index).astype(float)
    root = level.root[index]
    return root @ root.T


def _value(x: float, parameter: ResidualParameter) -> float:
    """The residual parameter at a coordinate: x near zero, and tending to either bound however unlike they are."""
    if np.isinf(parameter.upper):
        return float(np.exp(np.clip(x, -50, 50)))  # a ratio of SDs
    bound = parameter.upper if x >= 0 else parameter.lower
    return bound * float(np.tanh(x / bound))


def _coordinate(share: float, parameter: ResidualParameter) -> float:
    """The coordinate at which a residual parameter has gone this share of the way from zero to its bound."""
    width = 1.0 if np.isinf(parameter.upper) else parameter.upper if share >= 0 else -parameter.lower
    return width * float(np.arctanh(share))
