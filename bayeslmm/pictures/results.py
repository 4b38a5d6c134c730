"""What a picture reads of a result: the same words for a fit by ML or REML and for a posterior.

A fit is read as one draw of the parameters, with the uncertainty that it states for effects and coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DescriptionError
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.posterior.draws import check_tree, parameter_draws
from bayeslmm.posterior.effects import residual_parameters
from bayeslmm.support.arguments import check_seed

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

COVERAGE = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Middle and ends of an interval, arrays of one shape."""

    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Result(Protocol):
    """What there is to be drawn of a fit or a posterior.

    Attributes
    ----------
    of_effects : str
        What its intervals of random effects are.
    """

    of_effects: ClassVar[str]

    @property
    def key(self) -> str:
        """Of its colour and marker."""

    @property
    def name(self) -> str:
        """In words: "REML", "marginal posterior"."""

    @property
    def design(self) -> Design:
        """The design that it belongs to."""

    @property
    def values(self) -> dict[str, np.ndarray]:
        """Draws of beta, sigma, SDs, correlations and R's parameters by variable, draws first."""

    def effects(self, level: LevelDesign) -> Spread:
        """Random effects (m, r) of one level."""

    def covariances(self, level: LevelDesign) -> np.ndarray:
        """Covariance of the effects of one group (draws, r, r), that of groups left aside."""

    def mean(self, X: np.ndarray) -> Spread:
        """Rows of X times the coefficients."""

    def parameters(self) -> pd.DataFrame:
        """Per parameter of every table: middle, low, high; NaN where there is no interval."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OfFit:
    """A fit by ML or REML."""

    fit: LikelihoodFit
    of_effects: ClassVar[str] = "2 conditional SDs"

    @property
    def key(self) -> str:
        """Its method, in small letters."""
        return self.fit.method.lower()

    @property
    def name(self) -> str:
        """Its method."""
        return self.fit.method

    @property
    def design(self) -> Design:
        """The design that it belongs to."""
        return self.fit.design

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The estimates, as one draw."""
        fit, out = self.fit, {"beta": self.fit.beta[None], "sigma": np.array([self.fit.sigma])}
        for level, V in zip(self.design.levels, map(self._covariance, self.design.levels), strict=True):
            names, sd = level_names(level), np.sqrt(np.diag(V))
            if level.n_sds:
                out[names.sigma] = sd[None] if level.n_sds > 1 else sd[:1]
            if level.correlated:
                both = np.outer(sd, sd)
                corr = np.divide(V, both, out=np.eye(level.r), where=both > 0)
                out[names.corr] = corr[None]
        own, ratios = self.design.residual.split(fit.psi)
        out |= {p.name: np.array([value]) for p, value in zip(self.design.residual.own, own, strict=True)}
        return out | ({"sigma_ratio": np.array(ratios[1:])[None]} if len(ratios) > 1 else {})

    def effects(self, level: LevelDesign) -> Spread:
        """Conditional modes, and 2 conditional SDs around them."""
        frame = self.fit.ranef[level.name].to_numpy()
        mode, sd = frame[:, : level.r], frame[:, level.r :]
        return Spread(middle=mode, low=mode - 2 * sd, high=mode + 2 * sd)

    def covariances(self, level: LevelDesign) -> np.ndarray:
        """Sigma^2 lambda lambda', (1, r, r)."""
        return self._covariance(level)[None]

    def _covariance(self, level: LevelDesign) -> np.ndarray:
        lam = self.fit.lambdas[[other.name for other in self.design.levels].index(level.name)]
        return self.fit.sigma**2 * lam @ lam.T

    def mean(self, X: np.ndarray) -> Spread:
        """With 2 standard errors."""
        middle = X @ self.fit.beta
        se = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", X, self.fit.beta_cov, X), 0.0))
        return Spread(middle=middle, low=middle - 2 * se, high=middle + 2 * se)

    @cached_property
    def _parameters(self) -> pd.DataFrame:
        """Limits from the profile (Wald's for REML's coefficients); none for a perfect fit."""
        import pandas as pd

        estimates = self.fit.estimates().to_numpy()
        if self.fit.perfect:
            low = high = np.full_like(estimates, np.nan)
        else:
            low, high = self.fit.confint()[["lower", "upper"]].to_numpy().T
        return pd.DataFrame({"middle": estimates, "low": low, "high": high}, index=self.fit.estimates().index)

    def parameters(self) -> pd.DataFrame:
        """Limits from the profile (Wald's for REML's coefficients); none for a perfect fit."""
        return self._parameters


@dataclass(frozen=True, kw_only=True, eq=False)
class OfDraws:
    """A posterior."""

    design: Design
    tree: xr.DataTree
    variant: str
    of_effects: ClassVar[str] = "mean and 95 %"

    @property
    def key(self) -> str:
        """Its variant."""
        return self.variant

    @property
    def name(self) -> str:
        """Its variant."""
        return f"{self.variant} posterior"

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """All draws, the chains one after the other."""
        posterior = self.tree["posterior"].to_dataset()
        total = posterior.sizes["chain"] * posterior.sizes["draw"]
        out = {}
        for name in map(str, posterior.data_vars):
            x = np.asarray(posterior[name].transpose("chain", "draw", ...).values, dtype=float)
            out[name] = x.reshape(total, *x.shape[2:])
        return out

    def effects(self, level: LevelDesign) -> Spread:
        """Posterior means, and the middle 95 %."""
        u = self.values[level.name].reshape(-1, level.m, level.r)
        low, high = np.quantile(u, COVERAGE, axis=0)
        return Spread(middle=u.mean(axis=0), low=low, high=high)

    def covariances(self, level: LevelDesign) -> np.ndarray:
        """Of every draw."""
        names, n = level_names(level), len(self.values["sigma"])
        sd = self.values[names.sigma if level.n_sds else "sigma"].reshape(n, -1)
        sd = np.broadcast_to(sd, (n, level.r))
        corr = self.values[names.corr] if level.correlated else np.eye(level.r)
        return sd[:, :, None] * corr * sd[:, None, :]

    def mean(self, X: np.ndarray) -> Spread:
        """Mean and middle 95 % of the draws."""
        lines = self.values["beta"].reshape(len(self.values["sigma"]), -1) @ X.T
        low, high = np.quantile(lines, COVERAGE, axis=0)
        return Spread(middle=lines.mean(axis=0), low=low, high=high)

    def parameters(self) -> pd.DataFrame:
        """Means and the middle 95 % of the draws."""
        import pandas as pd

        draws = parameter_draws(self.design, self.tree)
        x = draws.values.reshape(-1, draws.sizes["parameter"])
        low, high = np.quantile(x, COVERAGE, axis=0)
        columns = {"middle": x.mean(axis=0), "low": low, "high": high}
        return pd.DataFrame(columns, index=draws["parameter"].values.tolist())

    def by_parameter(self) -> dict[str, np.ndarray]:
        """Draws of every parameter of the tables, by name."""
        draws = parameter_draws(self.design, self.tree)
        return {str(name): draws.values[..., k].ravel() for k, name in enumerate(draws["parameter"].values)}


def read_result(model: Model, result: Any, call: str, random_effects: bool = True) -> Result:
    """Read a fit, a posterior, or nothing, which is the fit by REML; `call` is what to write."""
    if result is None:
        return OfFit(fit=model.reml())
    if isinstance(result, LikelihoodFit):
        return read_fit(model, result, call)
    return read_draws(model, result, call, random_effects)


def read_fit(model: Model, fit: Any, call: str) -> OfFit:
    """Read a fit, or nothing, which is the fit by REML."""
    if fit is None:
        return OfFit(fit=model.reml())
    if not isinstance(fit, LikelihoodFit):
        raise DescriptionError(
            f"A {type(fit).__name__} came; this picture is of a fit by ML or REML: {call.format('lmm.reml()')}."
        )
    if fit.design is not model.design:
        raise DescriptionError(f"The fit is one of another model; write {call.format('lmm.reml()')}.")
    return OfFit(fit=fit)


def read_draws(model: Model, tree: Any, call: str, random_effects: bool = True) -> OfDraws:
    """Read a posterior of this model."""
    remedy = f"Write {call.format('lmm.sample()')}."
    check_tree(model.design, "given", tree, random_effects, remedy)
    variant = str(tree.attrs.get("variant", "marginal"))
    return OfDraws(design=model.design, tree=tree, variant=variant if variant in ("joint", "marginal") else "marginal")


def thinned(result: OfDraws, most: int, random_seed: int | None) -> tuple[dict[str, np.ndarray], np.random.Generator]:
    """At most so many draws of every variable, evenly spaced, and a generator for what is drawn from them."""
    check_seed(random_seed)
    total = len(result.values["sigma"])
    kept = np.linspace(0, total - 1, min(most, total)).round().astype(int)
    return {name: x[kept] for name, x in result.values.items()}, np.random.default_rng(random_seed)


def psi_of(result: Result) -> np.ndarray:
    """R's parameters (draws, k)."""
    return residual_parameters(result.design, result.values)
