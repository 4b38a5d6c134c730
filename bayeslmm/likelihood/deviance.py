"""The deviance before sigma is profiled out, D(phi), with its gradient and its minimum.

phi = (log sigma, SDs, coordinates of correlations, R's psi on the real line):

    D(phi) = log|V0| + log|R| + d log(2 pi sigma^2) + rss / sigma^2 (+ log|P| for REML),     d = n (n - p for REML)

In SDs, not their logarithms, so that the boundary SD = 0 is a point like any other. A correlation of two effects is a
partial correlation in an order that begins with one of them, so its level is put in that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.covariances.effects.structure import FLAT
from bayeslmm.design.parameters import Coordinates
from bayeslmm.factorisation.factor import factorise_statistics, pull_back
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.likelihood.criterion import EDGE
from bayeslmm.likelihood.least_squares import least_squares

if TYPE_CHECKING:
    from bayeslmm.likelihood.fit import LikelihoodFit

OVERFLOWED = 1e100  # the deviance where it can't be computed: higher than any that can


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The deviance D(phi), with its gradient; `orders` gives the order of the effects, level by level."""

    stats: Statistics
    reml: bool
    orders: tuple[tuple[int, ...], ...]

    @cached_property
    def coordinates(self) -> Coordinates:
        """What stands where in phi."""
        return Coordinates(design=self.stats.design)

    @cached_property
    def slices(self) -> tuple[tuple[slice, slice], ...]:
        """Where each level's SDs and partial correlations stand in phi."""
        return self.coordinates.slices

    @cached_property
    def size(self) -> int:
        """Length of phi."""
        return self.coordinates.size

    @cached_property
    def sd_entries(self) -> np.ndarray:
        """Which entries of phi are SDs."""
        out = np.zeros(self.size, dtype=bool)
        for sd, _ in self.slices:
            out[sd] = True
        return out

    @property
    def degrees(self) -> int:
        """Rows for ML, less the columns of X for REML."""
        return self.stats.design.n - (self.stats.design.p if self.reml else 0)

    @cached_property
    def _Rinv(self) -> np.ndarray:
        return np.linalg.inv(self.stats.upper) if self.stats.design.p else self.stats.upper

    def phi(self, fit: LikelihoodFit) -> np.ndarray:
        """Coordinates of a fit."""
        out = np.zeros(self.size)
        out[0] = np.log(fit.sigma)
        for level, lam, (sd, corr), order in zip(
            self.stats.design.levels, fit.lambdas, self.slices, self.orders, strict=True
        ):
            size = np.sqrt(np.einsum("ij,ij->i", lam, lam))
            out[sd] = fit.sigma * level.structure.gather(size)
            rows = np.divide(lam, size[:, None], out=np.eye(level.r), where=size[:, None] > 0)[list(order)]
            out[corr] = level.structure.coordinates(rows)
        with np.errstate(divide="ignore"):  # at the end of its range
            out[self.coordinates.residual] = np.clip(self.stats.design.residual.free(fit.psi), -EDGE, EDGE)
        return out

    def loadings(self, k: int, z: np.ndarray) -> np.ndarray:
        """Cholesky factor of level k's correlations: rows in the level's own order."""
        return self.stats.design.levels[k].structure.turned_root(z, self.orders[k])

    def value_and_gradient(self, phi: np.ndarray, beta: tuple[int, float] | None = None) -> tuple[float, np.ndarray]:
        """D and its gradient; with `beta` = (j, value) that coefficient is held, the others at their best.

        Where a line search went so far that the numbers overflow, a height from which it turns back.
        """
        with np.errstate(all="ignore"):
            try:
                value, gradient = self._value_and_gradient(phi, beta)
            except (np.linalg.LinAlgError, OverflowError, ZeroDivisionError):
                return OVERFLOWED, np.zeros(self.size)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return OVERFLOWED, np.zeros(self.size)
        return value, gradient

    def _value_and_gradient(self, phi: np.ndarray, beta: tuple[int, float] | None) -> tuple[float, np.ndarray]:
        residual, tail = self.stats.design.residual, self.coordinates.residual
        natural = residual.natural(phi[tail])
        stats, p, d = self.stats.at(natural), self.stats.design.p, self.degrees
        sigma = float(np.exp(phi[0]))
        tau2 = (sigma / stats.scale) ** 2
        loadings = [self.loadings(k, phi[z]) for k, (_, z) in enumerate(self.slices)]
        lambdas = [
            phi[sd][:, None] / sigma * L if level.n_sds else L
            for level, (sd, _), L in zip(stats.design.levels, self.slices, loadings, strict=True)
        ]
        factor = factorise_statistics(stats, stats.flatten(lambdas))
        solved = least_squares(factor.T)
        a, rss, Pinv = solved.coefficients, solved.rss, solved.inverse
        if beta is not None:
            row = self._Rinv[beta[0]]
            gap = (beta[1] - row @ stats.gamma) / stats.scale - row @ a
            along = Pinv @ row
            a = a + along * gap / (row @ along)
            rss += float(gap**2 / (row @ along))
        value = factor.logdet + residual.log_det(natural) + d * (np.log(2 * np.pi) + 2 * phi[0]) + rss / tau2
        v = np.append(-a, 1.0)
        Tbar = np.outer(v, v) / tau2
        if self.reml:
            value += solved.logdet + 2 * np.linalg.slogdet(stats.upper)[1]
            Tbar[:p, :p] += Pinv
        gradient = np.zeros(self.size)
        gradient[0] = 2 * d - 2 * rss / tau2
        flat, slopes = pull_back(stats, factor, 1.0, Tbar, natural)
        gradient[tail] = slopes * residual.slope(phi[tail])
        for k, (sd, z) in enumerate(self.slices):
            level = stats.design.levels[k]
            if not level.n_sds:
                continue
            L, r = loadings[k], level.r
            bar = stats.maps[k].T @ flat[stats.lambda_slices[k]].reshape(r, r)
            gradient[0] -= float(np.sum(bar * lambdas[k]))
            each = np.sum(bar * L, axis=1) / sigma
            gradient[sd] = each if level.n_sds == r else each.sum()
            weight = bar * phi[sd][:, None] / sigma
            for at in range(z.start, z.stop):
                step = np.zeros(z.stop - z.start)
                step[at - z.start] = 1e-6
                change = self.loadings(k, phi[z] + step) - self.loadings(k, phi[z] - step)
                gradient[at] = float(np.sum(weight * change)) / 2e-6
        return float(value), gradient

    def minimise(
        self,
        start: np.ndarray,
        scale: np.ndarray,
        *,
        pin: int | None = None,
        beta: tuple[int, float] | None = None,
    ) -> tuple[float, np.ndarray]:
        """Least D over phi, entry `pin` held where it is."""
        from scipy.optimize import minimize

        free = np.delete(np.arange(self.size), [] if pin is None else [pin])
        lower = np.where(self.sd_entries, 0.0, -np.inf)
        upper = np.full(self.size, np.inf)
        for _, z in self.slices:
            lower[z], upper[z] = -FLAT, FLAT
        lower[self.coordinates.residual], upper[self.coordinates.residual] = -EDGE, EDGE
        bounds = list(zip(lower[free], upper[free], strict=True))

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            phi = best.copy()
            phi[free] = x * scale[free]
            value, gradient = self.value_and_gradient(phi, beta)
            return value, gradient[free] * scale[free]

        best = start.copy()
        value = np.inf
        for _ in range(5):
            if free.size:
                options = {"maxiter": 300, "ftol": 1e-14, "gtol": 1e-6, "maxcor": 8}
                found = minimize(
                    objective,
                    best[free] / scale[free],
                    jac=True,
                    method="L-BFGS-B",
                    bounds=bounds,
                    options=options,
                )
                best[free] = found.x * scale[free]
                value = float(found.fun)
            else:
                value = self.value_and_gradient(best, beta)[0]
            better = self._leave_edge(best, scale, free, value, beta)
            if better is None:
                break
            best = better
        return value, best

    def _leave_edge(self, phi, scale, free, value, beta) -> np.ndarray | None:
        """A better point off the edge (an SD of zero, a correlation of one), where slopes vanish; or None."""
        edge = np.where(self.sd_entries, phi <= 1e-4 * scale, np.abs(phi) > 3)
        edge[0] = False
        edge[self.coordinates.residual] = False
        for k in free[edge[free]]:
            places = (1e-2, 0.1, 0.5) if self.sd_entries[k] else (np.sign(phi[k]) * 1.5, 0.0, -np.sign(phi[k]) * 3)
            for place in places:
                trial = phi.copy()
                trial[k] = place * scale[k]
                if self.value_and_gradient(trial, beta)[0] < value - 1e-8:
                    return trial
        return None
