"""Standardised effects and residuals against the quantiles of a normal distribution.

A conditional mode varies less than the effect it estimates, Var(mode) = Var(u) - Var(u | y), and that is what it is
divided by. Source: Lange & Ryan (1989), doi:10.1214/aos/1176347130.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.pictures.choices import evenly
from bayeslmm.support.figures import BANDS, axes_of, footnote, outer, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import LevelDesign
    from bayeslmm.likelihood.fit import LikelihoodFit

MOST_POINTS = 1500
FEWEST = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantiles:
    """One set of standardised values in order.

    Attributes
    ----------
    title : str
    values : (k,) array
        In order; standard normal where the model holds.
    """

    title: str
    values: np.ndarray

    @property
    def expected(self) -> np.ndarray:
        """Medians of the order statistics, nearly: normal quantiles at (i - 3/8) / (k + 1/4)."""
        from scipy.stats import norm

        k = len(self.values)
        return norm.ppf((np.arange(1, k + 1) - 0.375) / (k + 0.25))

    def band(self, coverage: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Where each order statistic of k independent normal values lies with this probability."""
        from scipy.stats import beta, norm

        k = len(self.values)
        i = np.arange(1, k + 1)
        low, high = (beta.ppf(p, i, k + 1 - i) for p in ((1 - coverage) / 2, (1 + coverage) / 2))
        return norm.ppf(low), norm.ppf(high)


@dataclass(frozen=True, kw_only=True, eq=False)
class QQ:
    """Those of the residuals, and of each effect of each level."""

    name: str
    sets: tuple[Quantiles, ...]
    left_out: tuple[str, ...]

    @property
    def words(self) -> str:
        """How to read it, and what is missing."""
        said = [f"{self.name}: values over their SDs; band: where 95 % of each would lie if the model held"]
        said += [f"left out: {', '.join(self.left_out)}"] if self.left_out else []
        return "; ".join(said)

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw one axis per set."""
        figure, axes = axes_of(ax, [one.title for one in self.sets], 2.9 if len(self.sets) < 3 else 2.5)
        for k, (a, one, (left, bottom)) in enumerate(zip(axes, self.sets, outer(axes), strict=True)):
            some = evenly(len(one.values), MOST_POINTS)
            x, y = one.expected[some], one.values[some]
            low, high = (edge[some] for edge in one.band())
            a.fill_between(x, low, high, color="#bbbbbb", alpha=0.5, lw=0)
            a.plot(x[[0, -1]], x[[0, -1]], color="#555555", lw=1)
            a.plot(x, y, "o", color=BANDS[(k - 1) % len(BANDS)] if k else "#444444", ms=3.5, mew=0, rasterized=True)
            tidy(a, one.title, most=34)
            if bottom:
                a.set_xlabel("normal quantile", fontsize=9)
            if left:
                a.set_ylabel("in SDs", fontsize=9)
        if ax is None:
            footnote(figure, self.words)
        return figure


def quantiles(fit: LikelihoodFit) -> QQ:
    """Standardise the residuals and the conditional modes of a fit."""
    sets = [Quantiles(title="residuals", values=np.sort(standardised_residuals(fit)))]
    left_out = []
    for level in fit.design.levels:
        for e, z in enumerate(standardised_effects(fit, level).T):
            name = f"{level.name}: {level.tag}" + (f", {level.effects[e]}" if level.r > 1 else "")
            found = np.sort(z[np.isfinite(z)])
            if len(found) < FEWEST:
                left_out.append(f"{name} ({'no variation' if not len(found) else f'{len(found)} groups'})")
            else:
                sets.append(Quantiles(title=name, values=found))
    return QQ(name=fit.method, sets=tuple(sets), left_out=tuple(left_out))


def standardised_effects(fit: LikelihoodFit, level: LevelDesign) -> np.ndarray:
    """Conditional modes (m, r) over their SDs under the model; NaN where they have none."""
    k = [other.name for other in fit.design.levels].index(level.name)
    lam = fit.lambdas[k]
    own = np.ones(level.m) if level.root is None else np.einsum("ij,ij->i", level.root, level.root)
    prior = own[:, None] * fit.sigma**2 * np.einsum("ij,ij->i", lam, lam)
    left = prior - np.einsum("gee->ge", fit.mode_cov[k])
    modes = fit.ranef[level.name].to_numpy()[:, : level.r]
    seen = left > 1e-8 * prior
    return np.divide(modes, np.sqrt(np.where(seen, left, 1.0)), out=np.full_like(modes, np.nan), where=seen)


def standardised_residuals(fit: LikelihoodFit) -> np.ndarray:
    """Residuals (n,) over sigma, made uncorrelated where R is not diagonal: nlme's "normalized" ones."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    residual, e = fit.design.residual, fit.residuals.to_numpy() / fit.sigma
    if not residual.correlated:
        return e / np.sqrt(residual.diagonal(fit.psi))
    coefficients = residual.coefficients(fit.psi)
    inverse = sum(c * (term.left @ term.right) for c, term in zip(coefficients, residual.terms, strict=True))
    options = {"SymmetricMode": True}
    factor = splu(sparse.csc_array(inverse), permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options)
    return np.sqrt(factor.U.diagonal()) * (factor.L.T @ e)
