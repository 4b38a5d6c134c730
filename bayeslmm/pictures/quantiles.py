"""Standardised effects and rows against the quantiles of a normal distribution.

A residual of a fit is smaller than the error that it estimates, and the more so the fewer rows a group has. So each row
is held against what all the others predict of it, in SDs of that prediction, which has one distribution for all.

A conditional mode varies less than the effect it estimates, Var(mode) = Var(u) - Var(u | y), and that is what it is
divided by. Source: Lange & Ryan (1989), doi:10.1214/aos/1176347130.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.pictures.choices import evenly, some_of
from bayeslmm.support.figures import BANDS, axes_of, footnote, outer, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign
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
    """Those of the rows, and of each effect of each level."""

    name: str
    sets: tuple[Quantiles, ...]
    left_out: tuple[str, ...]

    @property
    def words(self) -> str:
        """How to read it, and what is missing."""
        said = [
            f"{self.name}: each row less what all others predict of it, and each mode, over its SD; band: where 95 % "
            "of each point would lie if the model held and points were independent"
        ]
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
    """Standardise the rows and the conditional modes of a fit; of many rows, some evenly spaced."""
    n = fit.design.n
    rows = evenly(n, MOST_POINTS)
    some = some_of(len(rows), n, "rows", "")
    sets = [Quantiles(title=some or "rows, given all others", values=np.sort(standardised_rows(fit, rows)))]
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
    own = level.variances
    prior = own[:, None] * fit.sigma**2 * np.einsum("ij,ij->i", lam, lam)
    left = prior - np.einsum("gee->ge", fit.mode_cov[k])
    modes = fit.ranef[level.name].to_numpy()[:, : level.r]
    seen = left > 1e-8 * prior
    return np.divide(modes, np.sqrt(np.where(seen, left, 1.0)), out=np.full_like(modes, np.nan), where=seen)


def standardised_rows(fit: LikelihoodFit, rows: np.ndarray) -> np.ndarray:
    """Some rows less what all other rows predict of them, over the SD of that, at the fit's parameters: (k,).

    With r = y - X beta it is (V^-1 r)_i / (sigma sqrt((V^-1)_ii)), whatever R is, and
    V^-1 = R^-1 - A M^-1 A' with A = R^-1 Z Lambda, M = I + Lambda' Z' R^-1 Z Lambda.
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    design = fit.design
    terms = zip(design.residual.coefficients(fit.psi), design.residual.terms, strict=True)
    inverse = sum(float(c) * (term.left @ term.right) for c, term in terms)
    inverse = sparse.csr_array(inverse)
    r = design.net_y - design.X @ fit.beta
    s, own = inverse @ r, inverse.diagonal()[rows]
    if design.q:
        A = sparse.csr_array(inverse @ sparse.csr_array(design.Z) @ _factor(fit))
        M = sparse.csc_array(sparse.eye_array(design.q) + _factor(fit).T @ design.Zt @ A)
        solver = splu(M, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        s = s - A @ solver.solve(A.T @ r)
        piece = max(1, 4_000_000 // design.q)
        for first in range(0, len(rows), piece):
            some = A[rows[first : first + piece]]
            solved = solver.solve(some.T.toarray())
            own[first : first + piece] -= np.asarray(some.multiply(solved.T).sum(axis=1)).ravel()
    return s[rows] / (fit.sigma * np.sqrt(own))


def _factor(fit: LikelihoodFit) -> Any:
    """Lambda (q, q), sparse."""
    from scipy import sparse

    blocks = [
        sparse.kron(sparse.eye_array(level.m) if level.root is None else sparse.csr_array(level.root), lam)
        for level, lam in zip(fit.design.levels, fit.lambdas, strict=True)
    ]
    return sparse.csr_array(sparse.block_diag(blocks))
