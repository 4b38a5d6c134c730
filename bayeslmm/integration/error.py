"""How wrong Laplace's approximation is, and in which groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.errors import visible
from bayeslmm.integration.by_group import laplace_by_group
from bayeslmm.integration.choice import most_nodes
from bayeslmm.integration.importance import HEAVY, Sampler, cannot, estimate
from bayeslmm.integration.laplace import Slopes, find_mode
from bayeslmm.integration.objective import Problem
from bayeslmm.integration.quadrature import Quadrature, serves
from bayeslmm.integration.rule import converged_nodes

NOTHING = pd.DataFrame(columns=["laplace", "better", "difference"], dtype=float)


@dataclass(frozen=True, kw_only=True, eq=False)
class ApproximationError:
    """Laplace's log-likelihood against a better one, at the same parameters.

    Attributes
    ----------
    laplace, better : float
        Log-likelihoods; NaN for a better one that can't be had.
    how : {"quadrature", "importance sampling", ""}
        Where the better one comes from.
    uncertainty : float
        Of a quadrature what the last step to more nodes still changed; of importance sampling its Monte Carlo error.
    nodes : int
        For each effect that is integrated by quadrature.
    draws : int
        Of importance sampling.
    k_hat : array
        Of importance sampling, the shape of the tail of the weights, per group of the outermost level, or of all at
        once where levels are crossed; from 0.7 on a mean of weights can't be trusted.
    groups : pandas.DataFrame
        Per group of the outermost level: laplace, better and their difference, the largest first; empty where levels
        are crossed.
    why_not : str
        Why there is nothing better; "" where there is.
    slopes : tuple of Slopes
        The better likelihood's gradient there, by independent parts of importance sampling.
    """

    laplace: float
    better: float = np.nan
    how: str = ""
    uncertainty: float = np.nan
    nodes: int = 0
    draws: int = 0
    k_hat: np.ndarray | None = None
    groups: pd.DataFrame
    why_not: str = ""
    slopes: tuple[Slopes, ...] = ()

    @property
    def value(self) -> float:
        """Laplace minus the better one, in log-likelihood: NaN where it isn't known."""
        return self.laplace - self.better

    @property
    def quadrature(self) -> float:
        """The log-likelihood by quadrature: NaN where it is another one."""
        return self.better if self.how == "quadrature" else np.nan

    @property
    def trusted(self) -> bool:
        """Whether the uncertainty is worth its name: no group's weights have too heavy a tail."""
        return bool(self.how) and (self.k_hat is None or bool((self.k_hat < HEAVY).all()))

    def __float__(self) -> float:
        return self.value

    @property
    def text(self) -> str:
        """The error in words, with the groups that it comes from."""
        if self.why_not:
            return f"The error of Laplace's approximation is not known: {self.why_not}."
        first = (
            f"At these estimates Laplace's log-likelihood is {self.laplace:.4f}, {self._better}: Laplace is "
            f"{abs(self.value):.3g} too {'high' if self.value > 0 else 'low'}"
        )
        if self.how == "importance sampling" and 0 < abs(self.value) < 2 * self.uncertainty:
            first = f"{first}, which is less than two Monte Carlo errors"
        parts = [first]
        if len(self.groups) and abs(self.value) >= 1e-6 and self.how == "quadrature":
            worst = self.groups.head(3)
            named = ", ".join(f"{name} ({d:+.2g})" for name, d in worst["difference"].items())
            parts.append(f"The largest errors are in {self.groups.index.name} {named}, of {len(self.groups)} groups")
        if self.k_hat is not None and not self.trusted:
            heavy = int((self.k_hat >= HEAVY).sum())
            where = "" if len(self.k_hat) == 1 else f" in {heavy} of {len(self.k_hat)} groups"
            parts.append(
                f"The weights have heavy tails{where} (k-hat up to {self.k_hat.max():.2f}): take this as a first "
                "guess, and the posterior for an answer"
            )
        return ". ".join(parts) + "."

    @property
    def _better(self) -> str:
        if self.how == "quadrature":
            return f"quadrature's {self.better:.4f} ({self.nodes} nodes; the last step to more changed " + (
                f"{self.uncertainty:.0e})"
            )
        assert self.k_hat is not None
        tail = f"k-hat {self.k_hat.max():.2f}" if self.k_hat.max() > 0 else "k-hat below 0"
        return (
            f"importance sampling's {self.better:.4f} with a Monte Carlo error of {self.uncertainty:.2g} "
            f"({self.draws:,} draws, {tail})"
        )

    def __repr__(self) -> str:
        return visible(self.text)


def measure(problem: Problem, x: np.ndarray, s: np.ndarray, laplace_value: float) -> ApproximationError:
    """Compare both at the parameters x: with as many nodes, or draws, as it takes."""
    rows = problem.rows
    given = (rows, problem.family, problem.outcome, problem.fixed(x), problem.lam(x), problem.psi(x))
    if serves(rows):
        return _by_importance(problem, x, s, laplace_value)
    found: dict[int, np.ndarray] = {}

    def evaluate(nodes: int) -> float:
        found[nodes] = Quadrature(nodes=nodes).groups(*given, s)
        return float(found[nodes].sum())

    nodes, value, left = converged_nodes(evaluate, most=most_nodes(rows.dimensions))
    own = laplace_by_group(*given, s)
    return ApproximationError(
        laplace=float(own.sum()), better=value, how="quadrature", nodes=nodes, uncertainty=left,
        groups=_table(problem, own, found[max(found)]),
    )  # fmt: skip


def _by_importance(problem: Problem, x: np.ndarray, s: np.ndarray, laplace_value: float) -> ApproximationError:
    rows, family, outcome = problem.rows, problem.family, problem.outcome
    if why := cannot(rows):
        return ApproximationError(laplace=laplace_value, groups=NOTHING, why_not=why)
    fixed, lam, psi = problem.fixed(x), problem.lam(x), problem.psi(x)
    mode, _ = find_mode(rows, family, outcome, fixed, lam, psi, s)
    sampler = Sampler(rows=rows, family=family, outcome=outcome, fixed=fixed, lam=lam, psi=psi, mode=mode)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            found = estimate(sampler, laplace_value)
    except np.linalg.LinAlgError:
        why = "the effects' density has no curvature at its mode, around which draws could be made"
        return ApproximationError(laplace=laplace_value, groups=NOTHING, why_not=why)
    if not np.isfinite(found.value):
        why = "no draw of the effects has a density that can be computed"
        return ApproximationError(laplace=laplace_value, groups=NOTHING, why_not=why)
    groups = NOTHING
    if len(found.blocks) > 1:
        own = laplace_by_group(rows, family, outcome, fixed, lam, psi, mode.s)
        seen = np.unique(rows.design.levels[rows.plan.chain[-1]].index)
        better = own.copy()
        better[seen] = found.blocks
        groups = _table(problem, own, better)
    return ApproximationError(
        laplace=laplace_value, better=found.value, how="importance sampling", uncertainty=found.error,
        nodes=found.nodes, draws=found.draws, k_hat=found.k_hat, groups=groups, slopes=tuple(found.slopes),
    )  # fmt: skip


def _table(problem: Problem, laplace: np.ndarray, better: np.ndarray) -> pd.DataFrame:
    level = problem.rows.design.levels[problem.rows.plan.chain[-1]]
    index = pd.Index(level.groups, name=level.label)
    frame = pd.DataFrame({"laplace": laplace, "better": better, "difference": laplace - better}, index=index)
    return frame.iloc[np.argsort(-np.abs(frame["difference"].to_numpy()), kind="stable")]
