"""A posterior as the tables ask it: draws of everything, and their quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.posterior.draws import effect_draws, parameter_values
from bayeslmm.posterior.effects import kernel_factors, residual_parameters
from bayeslmm.posterior.trust import judge
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.points import Points
from bayeslmm.tables.result import Quantity, Result

if TYPE_CHECKING:
    import xarray as xr

# draws for what takes a factorisation each, and random effects times draws
FEWEST, MOST, WORK = 10, 100, 200_000


@dataclass(frozen=True, kw_only=True, eq=False)
class PosteriorResult(Result):
    """A posterior: draws of everything, and their quantiles."""

    tree: xr.DataTree

    @cached_property
    def doubts(self) -> str:
        """What speaks against the draws."""
        said = judge(self.tree)
        if said.doubts:
            return f"These draws cannot be trusted yet: {'; '.join(said.doubts)}."
        return f"These draws cannot be judged: {said.unknown}." if said.unknown else ""

    @property
    def meaning(self) -> str:
        """Quantiles of draws."""
        return "Computed at each draw: mean, SD and equal-tailed interval of the posterior."

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The draws of the parameters by name, chains one after the other."""
        return parameter_values(self.model.design, self.tree)

    def draws(self, k: int) -> np.ndarray:
        """Draws (N, m, r) of level k's effects."""
        return effect_draws(self.model.design.levels[k], self.tree)

    def effects(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and SDs."""
        u = self.draws(k)
        return u.mean(axis=0), _sd(u)

    @cached_property
    def all_points(self) -> Any:
        """Every draw."""
        design, values = self.model.design, self.values
        return Points(
            stats=self.model.statistics, lams=kernel_factors(self.model.statistics, values), beta=values["beta"],
            sigma=values["sigma"], psi=residual_parameters(design, values),
        )  # fmt: skip

    @property
    def beta(self) -> np.ndarray:
        """Posterior means."""
        return self.values["beta"].mean(axis=0)

    @property
    def psi(self) -> np.ndarray:
        """Posterior means."""
        return self.all_points.psi.mean(axis=0)

    def points(self, q: int) -> Any:
        """Some of the draws, evenly spaced: fewer where each takes long."""
        return self.all_points.spread(max(FEWEST, min(MOST, WORK // max(q, 1))))

    def derive(self, quantity: Quantity, lower: Any, upper: Any, most: int | None = None) -> pd.DataFrame:
        """Means, SDs and quantiles of the quantities of the draws."""
        with one_blas_thread():
            return self.summary(quantity(self.all_points if most is None else self.all_points.spread(most)))

    def summary(self, draws: np.ndarray) -> pd.DataFrame:
        """The same of draws (N, K)."""
        low, high = np.quantile(draws, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return self.frame(draws.mean(axis=0), _sd(draws), low, high, "posterior, equal tails")


def _sd(draws: np.ndarray) -> np.ndarray:
    """SDs over the first axis; NaN of a single draw."""
    return draws.std(axis=0, ddof=1) if len(draws) > 1 else np.full(draws.shape[1:], np.nan)
