"""Models whose outcome isn't Gaussian: truths and data by NumPy, log likelihoods by sums over a grid of effects.

Data that a family refuses (no successes, a category that nobody chose) are drawn again together with their truth: that
is a condition on the data alone, under which ranks are as uniform as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

import bayeslmm as blm

from .studies import ONE, SIX, X1, Law, Level, Values, half_normal, intercepts, labels, normal

GRID = np.linspace(-8, 8, 161)  # of a standard normal effect


@dataclass(frozen=True, kw_only=True)
class LinkStudy:
    """A random intercept, a predictor, and a family: `density` and `draw` take eta and the thresholds."""

    name: str
    family: str
    beta: tuple[Law, ...]
    levels: tuple[Level, ...]
    density: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    draw: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
    allowed: Callable[[np.ndarray], bool]
    thresholds: tuple[Law, ...] = ()
    thin: int = 5

    @property
    def X(self) -> np.ndarray:
        return np.column_stack([ONE, X1])[:, len(self.thresholds) > 0 :]

    @property
    def priors(self) -> Mapping[str, Any]:
        coef = ("Intercept", "x")[len(self.thresholds) > 0 :]
        own = {f"beta[{name}]": law.text for name, law in zip(coef, self.beta, strict=True)}
        own |= {f"threshold[{k}|{k + 1}]": law.text for k, law in enumerate(self.thresholds)}
        return own | {"sigma_u2": self.levels[0].sds[0].text}

    def lmm(self, y: np.ndarray) -> blm.GLMM:
        """The model of one data set."""
        data = {"x": X1, "g": labels("g", SIX), "y": y.astype(int)}
        return blm.GLMM("y ~ x + (1 | g)", data, family=self.family, priors=self.priors)

    def simulate(self, rng: np.random.Generator) -> tuple[Values, np.ndarray]:
        """One truth from the prior (one draw), and its data."""
        while True:
            truth = {"beta": np.array([[law.draw(rng) for law in self.beta]])} | self.levels[0].draw(rng)
            truth["threshold"] = np.array([[law.draw(rng) for law in self.thresholds]])
            if (np.diff(truth["threshold"][0]) <= 0).any():
                continue
            eta = self.X @ truth["beta"][0] + truth["u2"][0][SIX]
            y = self.draw(rng, eta, truth["threshold"][0])
            if self.allowed(y):
                return truth, y

    def log_likelihood(self, values: Values, y: np.ndarray) -> np.ndarray:
        """log p(y | parameters), the random effects integrated out, (draws,)."""
        sigma, cuts = values["sigma_u2"].reshape(-1), values.get("threshold", np.zeros((1, 0)))
        eta = (values["beta"] @ self.X.T)[:, None, :] + sigma[:, None, None] * GRID[:, None]
        rows = self.density(y, eta, cuts)
        groups = np.stack([rows[..., g == SIX].sum(axis=-1) for g in range(6)], axis=-1)
        return np.logaddexp.reduce(groups - 0.5 * GRID[:, None] ** 2, axis=1).sum(axis=-1)

    def quantities(self, values: Values, y: np.ndarray) -> Values:
        """What is ranked, (draws,) each: every parameter, the effects of two groups, the log likelihood."""
        out = {f"beta[{j}]": values["beta"][:, j] for j in range(len(self.beta))}
        out |= {f"threshold[{j}]": values["threshold"][:, j] for j in range(len(self.thresholds))}
        out |= {"sigma_u2": values["sigma_u2"].reshape(-1)} | {f"u2[{g}]": values["u2"][:, g] for g in (0, 5)}
        return out | {"log likelihood": self.log_likelihood(values, y)}


def _category(rng: np.random.Generator, eta: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    return ((eta + rng.logistic(size=eta.shape))[:, None] > cuts).sum(axis=1).astype(float)


def _of_category(y: np.ndarray, eta: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    ends = np.concatenate([np.full((len(cuts), 1), -np.inf), cuts, np.full((len(cuts), 1), np.inf)], axis=1)
    code = y.astype(int)
    with np.errstate(over="ignore", divide="ignore"):
        below, above = (1 / (1 + np.exp(eta - ends[:, None, code + k])) for k in (0, 1))
        return np.log(np.maximum(above - below, 1e-300))


LINK_STUDIES = {
    study.name: study
    for study in (
        LinkStudy(
            name="Bernoulli", family="binomial", beta=(normal(0.0, 1.5), normal(0.0, 1.0)),
            levels=(intercepts("u2", SIX, half_normal(1.5)),),
            density=lambda y, eta, cuts: y * eta - np.logaddexp(0, eta),
            draw=lambda rng, eta, cuts: (rng.random(eta.shape) < 1 / (1 + np.exp(-eta))).astype(float),
            allowed=lambda y: 0 < y.sum() < y.size,
        ),
        LinkStudy(
            name="Poisson", family="poisson", beta=(normal(0.5, 1.0), normal(0.0, 0.5)),
            levels=(intercepts("u2", SIX, half_normal(0.8)),),
            density=lambda y, eta, cuts: y * eta - np.exp(eta) - gammaln(y + 1),
            draw=lambda rng, eta, cuts: rng.poisson(np.exp(eta)).astype(float),
            allowed=lambda y: y.any(),
        ),
        LinkStudy(
            name="ordinal", family="cumulative", beta=(normal(0.0, 1.0),),
            levels=(intercepts("u2", SIX, half_normal(1.5)),), thresholds=(normal(-1.0, 1.5), normal(1.0, 1.5)),
            density=_of_category, draw=_category, allowed=lambda y: len(np.unique(y)) == 3,
        ),
    )
}  # fmt: skip
