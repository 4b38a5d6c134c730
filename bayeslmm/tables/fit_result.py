"""ML or REML as the tables ask it: the estimate, and intervals from how the likelihood bends around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.likelihood.search import hessian
from bayeslmm.tables.points import Points
from bayeslmm.tables.result import Quantity
from bayeslmm.tables.wald import WaldResult

STEP = 1e-3  # of a derivative, in standard errors
FLAT = 1e-7  # a curvature below this, relative to the largest, is none


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult(WaldResult):
    """ML or REML: one point, and how the likelihood bends around it."""

    fit: LikelihoodFit

    @property
    def doubts(self) -> str:
        """The fit's status, where it isn't converged."""
        status = self.fit.status
        said = f"{status.name[0].upper()}{status.name[1:]}: {status.advice}."
        return "" if status.name == "converged" else said

    @property
    def meaning(self) -> str:
        """The delta method."""
        return (
            "SD and interval by the delta method from the curvature of the likelihood, on a scale of logarithms (of "
            "logits for shares): rough where there are few groups. Where an interval is very rough, the likelihood "
            "reaches the edge: look at the profile limits of varcorr, or at the posterior."
        )

    def effects(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Conditional modes and SDs."""
        level = self.model.design.levels[k]
        frame = self.fit.ranef[level.name].to_numpy()
        return frame[:, : level.r], frame[:, level.r :]

    @property
    def beta(self) -> np.ndarray:
        """The estimates."""
        return self.fit.beta

    @property
    def psi(self) -> np.ndarray:
        """The estimates."""
        return self.fit.psi

    def points(self, q: int = 0) -> Points:
        """The one point."""
        return self._at(self.fit.optimum.phi[None], np.zeros(1), self.fit.beta[None])

    @property
    def how(self) -> str:
        """What an interval of `derive` is."""
        given = f", given {self.held} on the boundary" if self.held else ""
        return f"{self.fit.method} Wald{given}"

    @cached_property
    def held(self) -> str:
        """Parameters that are held where they are, on the boundary, or ""."""
        return ", ".join(self.fit.boundary)

    @property
    def boundary(self) -> tuple[str, ...]:
        """The fit's."""
        return self.fit.boundary

    @property
    def perfect(self) -> bool:
        """The fit's."""
        return self.fit.perfect

    @cached_property
    def trouble(self) -> str:
        """Why there are no intervals, or ""."""
        if self.fit.perfect:
            return "none, as the fit is perfect"
        flat = self.fit.optimum.flat or self._roots is None
        return "none, as the likelihood is flat" if flat else ""

    @cached_property
    def _criterion(self) -> Criterion:
        return Criterion(stats=self.fit.stats, reml=self.fit.method == "REML")

    @cached_property
    def _roots(self) -> np.ndarray | None:
        """Directions (d, k) of the criterion's coordinates, each one standard error long and independent; or None."""
        phi = self.fit.optimum.phi
        free = np.flatnonzero(~self._criterion.at_edge(phi))
        if not free.size:
            return np.zeros((0, phi.size))
        H = hessian(self._criterion.value_and_gradient, phi, free)
        size = np.sqrt(np.maximum(np.diag(H), 0.0))
        if not (size > 0).all():
            return None
        values, vectors = np.linalg.eigh(H / np.outer(size, size))
        if values[0] < FLAT:
            return None
        out = np.zeros((free.size, phi.size))
        out[:, free] = (vectors * np.sqrt(2 / values)).T / size
        return out

    def slopes(self, quantity: Quantity) -> np.ndarray:
        """Derivatives (d, K) along independent directions that are one standard error long.

        Along the variance parameters sigma follows, as the likelihood has it; given them log sigma has the variance
        1 / (2 d), and beta, which is asymptotically independent of both, its own.
        """
        assert self._roots is not None
        phi, beta, fit = self.fit.optimum.phi, self.fit.beta, self.fit
        values, vectors = np.linalg.eigh(fit.beta_cov) if len(beta) else (np.zeros(0), np.zeros((0, 0)))
        along = (vectors * np.sqrt(np.maximum(values, 0.0))).T
        k, p = len(self._roots), len(beta)
        moves = np.zeros((k + 1 + p, phi.size)), np.zeros(k + 1 + p), np.zeros((k + 1 + p, p))
        moves[0][:k], moves[1][k], moves[2][k + 1 :] = self._roots, 1 / np.sqrt(2 * self._criterion.degrees), along
        sides = []
        for sign in (STEP, -STEP):
            a, b, c = (sign * move for move in moves)
            sides.append(quantity(self._at(phi + a, b, beta + c)))
        return (sides[0] - sides[1]) / (2 * STEP)

    def _at(self, phis: np.ndarray, log_sigma: np.ndarray, beta: np.ndarray) -> Points:
        """Points at the criterion's coordinates (N, k), sigma at its best there times exp(log_sigma)."""
        criterion, stats = self._criterion, self.fit.stats
        sigma = np.full(len(phis), self.fit.sigma)
        for i, phi in enumerate(phis):
            if not np.array_equal(phi, self.fit.optimum.phi):
                rss = criterion.value(criterion.factor(phi), phi)[1]
                sigma[i] = stats.scale * np.sqrt(rss / criterion.degrees)
        psi = self.fit.design.residual.natural(phis[:, criterion.n_theta :])
        return Points(
            stats=stats,
            lams=criterion.lams(phis),
            beta=beta,
            sigma=sigma * np.exp(log_sigma),
            psi=psi.reshape(len(phis), -1),
        )
