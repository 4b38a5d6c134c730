"""Nine models with their priors stated: truths and data by NumPy, log likelihoods by dense matrices.

Nothing here calls the product but `Study.lmm`, so that an error in its priors, its draws or its likelihood cannot
cancel against itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import bayeslmm as blm

Values = dict[str, np.ndarray]
"""Parameters and random effects under the posterior's names, draws first."""


@dataclass(frozen=True)
class Law:
    """A prior: as the model is told it, and as NumPy draws it."""

    text: str
    draw: Callable[[np.random.Generator], float]


def normal(mu: float, sigma: float) -> Law:
    return Law(f"Normal(mu={mu}, sigma={sigma})", lambda rng: rng.normal(mu, sigma))


def half_normal(sigma: float) -> Law:
    return Law(f"HalfNormal(sigma={sigma})", lambda rng: abs(rng.normal(0, sigma)))


def half_t(nu: float, sigma: float) -> Law:
    return Law(f"HalfStudentT(nu={nu}, sigma={sigma})", lambda rng: sigma * abs(rng.standard_t(nu)))


def exponential(lam: float) -> Law:
    return Law(f"Exponential(lam={lam})", lambda rng: rng.exponential(1 / lam))


def log_normal(mu: float, sigma: float) -> Law:
    return Law(f"LogNormal(mu={mu}, sigma={sigma})", lambda rng: rng.lognormal(mu, sigma))


def uniform(lower: float, upper: float) -> Law:
    return Law(f"Uniform(lower={lower}, upper={upper})", lambda rng: rng.uniform(lower, upper))


def lkj_of_two(eta: float) -> Law:
    """The correlation of two effects: density proportional to (1 - r^2)^(eta - 1)."""
    return Law(f"LKJ(eta={eta})", lambda rng: 2 * rng.beta(eta, eta) - 1)


@dataclass(frozen=True, kw_only=True)
class Level:
    """Effects of one grouping: the group and the columns of every row, and the priors of SDs and correlation."""

    name: str
    index: np.ndarray
    columns: np.ndarray
    sds: tuple[Law, ...]
    corr: Law | None = None
    K: np.ndarray | None = None

    @property
    def m(self) -> int:
        return int(self.index.max()) + 1

    @property
    def relationship(self) -> np.ndarray:
        return np.eye(self.m) if self.K is None else self.K

    def covariance(self, values: Values) -> np.ndarray:
        """Covariance (draws, r, r) of one group's effects."""
        sd = values[f"sigma_{self.name}"].reshape(len(values["sigma"]), -1)
        corr = values.get(f"corr_{self.name}", np.eye(sd.shape[1]))
        return sd[:, :, None] * corr * sd[:, None, :]

    def draw(self, rng: np.random.Generator) -> Values:
        """SDs, correlation and effects from their priors."""
        r = len(self.sds)
        values = {"sigma": np.zeros(1), f"sigma_{self.name}": np.array([[law.draw(rng) for law in self.sds]])}
        if self.corr is not None:
            rho = self.corr.draw(rng)
            values[f"corr_{self.name}"] = np.array([[[1, rho], [rho, 1]]])
        root = np.linalg.cholesky(self.covariance(values)[0])
        values[self.name] = (np.linalg.cholesky(self.relationship) @ rng.normal(size=(self.m, r)) @ root.T)[None]
        del values["sigma"]
        return {name: x[..., 0] if r == 1 else x for name, x in values.items()}


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """Sigma's prior and the structure of R: "" (independent), "ar1" in groups, or "strata"."""

    sigma: Law
    structure: str = ""
    parameter: Law | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    description: blm.Residual | None = None

    def draw(self, rng: np.random.Generator) -> Values:
        values = {"sigma": np.array([self.sigma.draw(rng)])}
        if self.parameter is not None:
            value = np.array([self.parameter.draw(rng)])
            values |= {"rho": value} if self.structure == "ar1" else {"sigma_ratio": value[:, None]}
        return values

    def covariance(self, values: Values, n: int) -> np.ndarray:
        """sigma^2 R, (draws, n, n)."""
        R: Any = np.eye(n)
        if self.structure == "ar1":
            gap = np.abs(self.times[:, None] - self.times)
            R = np.where(self.groups[:, None] == self.groups, values["rho"][:, None, None] ** gap, 0.0)
        if self.structure == "strata":
            R = R * np.where(self.groups == 0, 1.0, values["sigma_ratio"] ** 2)[:, :, None]
        return values["sigma"][:, None, None] ** 2 * R


@dataclass(frozen=True, kw_only=True)
class Study:
    """One model: its formula, the fixed columns of its data, and the prior of every parameter."""

    name: str
    formula: str
    data: Mapping[str, Any]
    X: np.ndarray
    beta: tuple[Law, ...]
    levels: tuple[Level, ...]
    residuals: Residuals
    covariance: Mapping[str, Any] | None = None
    thin: int = 5

    @property
    def priors(self) -> dict[str, Any]:
        """As `LMM` takes them."""
        own: dict[str, Any] = {"sigma": self.residuals.sigma.text}
        if self.residuals.parameter is not None:
            own["rho" if self.residuals.structure == "ar1" else "sigma_ratio"] = self.residuals.parameter.text
        for level in self.levels:
            texts = [law.text for law in level.sds]
            effects = ("Intercept", "x")[: len(texts)]
            own[f"sigma_{level.name}"] = dict(zip(effects, texts, strict=True)) if len(texts) > 1 else texts[0]
            if level.corr is not None:
                own[f"corr_{level.name}"] = level.corr.text
        coef = ("Intercept", *[name for name in self.data if name.startswith("x")])
        return own | {f"beta[{name}]": law.text for name, law in zip(coef, self.beta, strict=True)}

    def lmm(self, y: np.ndarray) -> blm.LMM:
        """The model of one data set."""
        options: dict[str, Any] = {"covariance": self.covariance, "residual": self.residuals.description}
        return blm.LMM(self.formula, {**self.data, "y": y}, priors=self.priors, **options)

    def simulate(self, rng: np.random.Generator) -> tuple[Values, np.ndarray]:
        """One truth from the prior (one draw), and its data."""
        truth = {"beta": np.array([[law.draw(rng) for law in self.beta]])} | self.residuals.draw(rng)
        y = self.X @ truth["beta"][0]
        for level in self.levels:
            truth |= level.draw(rng)
            effects = truth[level.name].reshape(level.m, -1)
            y = y + (effects[level.index] * level.columns).sum(axis=1)
        noise = np.linalg.cholesky(self.residuals.covariance(truth, y.size)[0])
        return truth, y + noise @ rng.normal(size=y.size)

    def log_likelihood(self, values: Values, y: np.ndarray) -> np.ndarray:
        """log p(y | beta, variance parameters), the random effects integrated out, (draws,)."""
        V = self.residuals.covariance(values, y.size)
        for level in self.levels:
            between = level.relationship[np.ix_(level.index, level.index)]
            V = V + between * (level.columns @ level.covariance(values) @ level.columns.T)
        L = np.linalg.cholesky(V)
        white = np.linalg.solve(L, (y - values["beta"] @ self.X.T)[..., None])[..., 0]
        return -np.log(np.einsum("dii->di", L)).sum(axis=1) - 0.5 * (white**2).sum(axis=1)

    def quantities(self, values: Values, y: np.ndarray) -> Values:
        """What is ranked, (draws,) each: every parameter, the effects of two groups, the log likelihood."""
        out = {f"beta[{j}]": values["beta"][:, j] for j in range(len(self.beta))} | {"sigma": values["sigma"]}
        for level in self.levels:
            sd = values[f"sigma_{level.name}"].reshape(len(values["sigma"]), -1)
            u = values[level.name].reshape(*values[level.name].shape[:2], -1)
            for e in range(sd.shape[1]):
                out[f"sigma_{level.name}[{e}]"] = sd[:, e]
                out |= {f"{level.name}[{g}, {e}]": u[:, g, e] for g in (0, level.m - 1)}
            if level.corr is not None:
                out[f"corr_{level.name}"] = values[f"corr_{level.name}"][:, 0, 1]
        if self.residuals.structure == "ar1":
            out["rho"] = values["rho"]
        if self.residuals.structure == "strata":
            out["sigma_ratio"] = values["sigma_ratio"][:, 0]
        return out | {"log likelihood": self.log_likelihood(values, y)}


# the models --------------------------------------------------------------------------------------------------------

SIX = np.repeat(np.arange(6), 4)  # six groups of four rows
FOUR = np.tile(np.arange(4), 6)  # crossed with them
TWELVE = np.repeat(np.arange(12), 2)  # pairs of rows, nested in them
X1 = np.tile([-1.5, -0.5, 0.5, 1.5], 6) + np.repeat([-0.2, 0.0, 0.3, -0.1, 0.2, -0.2], 4)
X2 = np.sin(np.arange(24) * 2.0)
ONE = np.ones(24)
PLAIN = Residuals(sigma=log_normal(0.0, 0.5))
RELATED = 0.5 ** np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))


def labels(letter: str, index: np.ndarray) -> list[str]:
    """Labels whose order is that of the groups."""
    return [f"{letter}{k:02d}" for k in index]


def intercepts(name: str, index: np.ndarray, sd: Law, K: np.ndarray | None = None) -> Level:
    return Level(name=name, index=index, columns=ONE[:, None], sds=(sd,), K=K)


def slopes(correlated: bool) -> Level:
    return Level(
        name="u2",
        index=SIX,
        columns=np.column_stack([ONE, X1]),
        sds=(half_normal(1.0), half_t(4, 0.5)),
        corr=lkj_of_two(2.0) if correlated else None,
    )


def _study(name: str, formula: str, *levels: Level, **options: Any) -> Study:
    """A model of the 24 rows with an intercept and as many predictors as the formula has."""
    predictors = {key: x for key, x in {"x": X1, "x2": X2, "x3": X1**2}.items() if key in formula.split()}
    groups = {"g": labels("g", SIX), "h": labels("h", FOUR), "k": labels("k", TWELVE)}
    return Study(
        name=name,
        formula=formula,
        data={**predictors, **groups, "s": list("abab" * 6), "t": FOUR.tolist()},
        X=np.column_stack([ONE, *predictors.values()]),
        beta=(normal(1.0, 2.0), normal(0.0, 1.0), normal(0.0, 1.0), normal(0.0, 1.0))[: 1 + len(predictors)],
        levels=levels,
        **({"residuals": PLAIN} | options),
    )


PAIRS = Study(  # few rows and vague priors: what is wrong with a Jacobian or a prior, or with beta, shows at once
    name="pairs",
    formula="y ~ x + x2 + (1 | g)",
    data={"x": X1[:8], "x2": X2[:8], "g": labels("g", TWELVE[:8])},
    X=np.column_stack([ONE, X1, X2])[:8],
    beta=(normal(0.0, 20.0),) * 3,
    levels=(Level(name="u2", index=TWELVE[:8], columns=ONE[:8, None], sds=(log_normal(0.5, 1.0),)),),
    residuals=Residuals(sigma=log_normal(0.0, 1.0)),
)

STUDIES = {
    study.name: study
    for study in (
        PAIRS,
        _study("intercept", "y ~ x + x2 + x3 + (1 | g)", intercepts("u2", SIX, half_t(3, 1.0))),
        _study("slope", "y ~ x + (x | g)", slopes(correlated=True)),
        _study("slope ||", "y ~ x + (x || g)", slopes(correlated=False)),
        _study(
            "nested",
            "y ~ x + (1 | g/k)",
            intercepts("u2", TWELVE, half_normal(1.0)),
            intercepts("u3", SIX, exponential(1.0)),
        ),
        _study(
            "crossed",
            "y ~ x + (1 | g) + (1 | h)",
            intercepts("u2", SIX, half_normal(1.0)),
            intercepts("u3", FOUR, half_t(3, 0.5)),
        ),
        _study(
            "known K",
            "y ~ x + (1 | g)",
            intercepts("u2", SIX, half_normal(1.5), RELATED),
            covariance={"g": pd.DataFrame(RELATED, index=labels("g", range(6)), columns=labels("g", range(6)))},
        ),
        _study(
            "AR(1)",
            "y ~ x + (1 | g)",
            intercepts("u2", SIX, half_normal(1.0)),
            residuals=Residuals(
                sigma=log_normal(0.0, 0.5),
                structure="ar1",
                parameter=uniform(-0.9, 0.9),
                groups=SIX,
                times=FOUR,
                description=blm.Residual(structure="ar1", group="g", time="t"),
            ),
        ),
        _study(
            "strata",
            "y ~ x + (1 | g)",
            intercepts("u2", SIX, half_normal(1.0)),
            residuals=Residuals(
                sigma=half_normal(1.5),
                structure="strata",
                parameter=log_normal(0.0, 0.7),
                groups=FOUR % 2,
                description=blm.Residual(structure="strata", by="s"),
            ),
        ),
    )
}
