"""ML or REML as the tables ask it: the estimate, and intervals from how the likelihood bends around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.likelihood.search import hessian
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.points import Points
from bayeslmm.tables.result import Quantity, Result

STEP = 1e-3  # of a derivative, in standard errors
EXACT = 1e-9  # a standard error below this, relative to the quantity, is rounding
ROUGH = 1.0  # a standard error on the scale of logarithms above this means little
FLAT = 1e-7  # a curvature below this, relative to the largest, is none


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult(Result):
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

    def derive(self, quantity: Quantity, lower: Any, upper: Any, most: int | None = None) -> pd.DataFrame:
        """Wald intervals on the real line that `lower` and `upper` leave, by the delta method."""
        with one_blas_thread():
            value = quantity(self.points())[0]
            if self.trouble:
                return self.none(value, self.trouble)
            sd = np.sqrt((self._slopes(quantity) ** 2).sum(axis=0))
        low, high = (np.broadcast_to(np.asarray(x, dtype=float), value.shape) for x in (lower, upper))
        a, b = _wald(value, sd, low, high, self.z)
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

    @property
    def how(self) -> str:
        """What an interval of `derive` is."""
        given = f", given {self.held} on the boundary" if self.held else ""
        return f"{self.fit.method} Wald{given}"

    @cached_property
    def held(self) -> str:
        """Parameters that are held where they are, on the boundary, or ""."""
        return ", ".join(self.fit.boundary)

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

    def _slopes(self, quantity: Quantity) -> np.ndarray:
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


def _wald(
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
