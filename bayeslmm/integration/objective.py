"""The approximated log-likelihood as a function of one vector, which a search can move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from bayeslmm.covariances.effects.chart import Chart
from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.laplace import Point, Slopes, laplace
from bayeslmm.integration.rows import Rows

HOPELESS = 1e50  # stands for a value that cannot be computed
EDGE = 12.0  # a correlation's coordinate from here on stands for the end of its range

Approximation = Callable[[Rows, Family, Outcome, np.ndarray, np.ndarray, np.ndarray, np.ndarray], Point]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What is to be maximised over: x = (coefficients of the orthogonal X, entries of the levels' charts, dispersion).

    Coefficients and SDs are in units of `unit`.
    """

    rows: Rows
    family: Family
    outcome: Outcome

    @cached_property
    def unit(self) -> float:
        """A usual size on the link's scale."""
        return self.family.unit(self.outcome)[0]

    @cached_property
    def charts(self) -> tuple[Chart, ...]:
        """Per level, its entries."""
        return self.rows.charts(self.unit)

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Per level, where its entries stand in x."""
        ends = np.cumsum([self.rows.design.p, *(chart.size for chart in self.charts)])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))

    @property
    def entries(self) -> slice:
        """Where all levels' entries stand."""
        p = self.rows.design.p
        return slice(p, self.places[-1].stop if self.places else p)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the dispersion parameters."""
        return self.family.dispersion_labels(self.outcome)

    @cached_property
    def size(self) -> int:
        """Length of x."""
        return self.entries.stop + len(self.labels)

    @cached_property
    def sds(self) -> np.ndarray:
        """Which of x are SDs, or diagonal entries of a factor."""
        out = np.zeros(self.size, dtype=bool)
        for chart, at in zip(self.charts, self.places, strict=True):
            out[at] = chart.sds
        return out

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values: SDs where a change of sign is another model, coordinates of correlations."""
        lower, upper = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        for chart, at in zip(self.charts, self.places, strict=True):
            lower[at] = np.where(chart.coordinates, -EDGE, -np.inf if chart.even else np.where(chart.sds, 0.0, -np.inf))
            upper[at] = np.where(chart.coordinates, EDGE, np.inf)
        lower[self.entries.stop :], upper[self.entries.stop :] = self.family.dispersion_bounds(self.outcome)
        return lower, upper

    def fixed(self, x: np.ndarray) -> np.ndarray:
        """Offset + X beta."""
        return self.rows.offset + self.rows.X @ (self.unit * x[: self.rows.design.p])

    def beta(self, x: np.ndarray) -> np.ndarray:
        """Coefficients as written."""
        return self.rows.back @ (self.unit * x[: self.rows.design.p])

    def lam(self, x: np.ndarray) -> np.ndarray:
        """The kernels' lambda vector."""
        parts = [chart.factors(x[None, at])[0] for chart, at in zip(self.charts, self.places, strict=True)]
        return np.concatenate([*parts, np.zeros(0)])

    def psi(self, x: np.ndarray) -> np.ndarray:
        """Coordinates of the dispersion."""
        return x[self.entries.stop :]

    def dispersion(self, x: np.ndarray) -> np.ndarray:
        """The family's own parameters as written: thresholds are those where the predictors are zero."""
        if not self.labels:
            return np.zeros(0)
        return self.family.dispersion_values(self.psi(x)) + self.rows.means @ self.beta(x)

    def dispersion_slopes(self, x: np.ndarray) -> np.ndarray:
        """Derivatives (k, size) of them by x."""
        out = np.zeros((len(self.labels), self.size))
        if self.labels:
            out[:, : self.rows.design.p] = self.rows.means @ self.rows.back * self.unit
            out[:, self.entries.stop :] = self.family.dispersion_slopes(self.psi(x))
        return out

    def lambdas(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Per level, the factor (r, r) of its effects as written, columns' signs such that the diagonal is positive."""
        lam, out = self.lam(x), []
        for level, M, (_, span) in zip(self.rows.design.levels, self.rows.maps, self.rows.slices, strict=True):
            F = np.linalg.solve(M, lam[span].reshape(level.r, level.r))
            L = np.linalg.qr(F.T, mode="r").T  # what is triangular on the kernels' basis need not be here
            out.append(L * np.where(np.diag(L) < 0, -1.0, 1.0))
        return tuple(out)

    def gradient(self, x: np.ndarray, point: Slopes) -> np.ndarray:
        """Of the value at x, by x."""
        parts = [
            chart.pull(x[at], point.by_lambda[span])
            for chart, at, (_, span) in zip(self.charts, self.places, self.rows.slices, strict=True)
        ]
        return np.concatenate([self.unit * point.by_gamma, *parts, point.by_psi])


class Objective:
    """Minus the log-likelihood and its gradient, each point beginning where the effects were at the last one."""

    def __init__(self, problem: Problem, approximation: Approximation = laplace):
        self.problem = problem
        self.approximation = approximation
        self.s = np.zeros(problem.rows.design.q)
        self.calls = 0
        self.last: tuple[np.ndarray, Point] | None = None

    def point(self, x: np.ndarray) -> Point:
        """The approximation at x."""
        if self.last is None or not np.array_equal(self.last[0], x):
            self.calls += 1
            one = self.problem
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                found = self.approximation(
                    one.rows, one.family, one.outcome, one.fixed(x), one.lam(x), one.psi(x), self.s
                )
            self.last = x.copy(), found
            if np.isfinite(found.value) and found.mode.found:
                self.s = found.mode.s
        return self.last[1]

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """(minus the log-likelihood, its gradient)."""
        point = self.point(x)
        gradient = self.problem.gradient(x, point)
        if not (np.isfinite(point.value) and np.isfinite(gradient).all()):
            return HOPELESS, np.zeros_like(x)
        return -point.value, -gradient
