"""How wrong Laplace's approximation is, and in which groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.errors import visible
from bayeslmm.integration.by_group import laplace_by_group
from bayeslmm.integration.choice import most_nodes
from bayeslmm.integration.objective import Problem
from bayeslmm.integration.quadrature import Quadrature, serves
from bayeslmm.integration.rule import converged_nodes


@dataclass(frozen=True, kw_only=True, eq=False)
class ApproximationError:
    """Laplace's log-likelihood against quadrature's, at the same parameters.

    Attributes
    ----------
    laplace, quadrature : float
        Log-likelihoods; NaN for a quadrature that can't be had.
    nodes : int
        At each level, of the quadrature.
    left : float
        What the last step to more nodes still changed.
    groups : pandas.DataFrame
        Per group of the outermost level: laplace, quadrature and their difference, the largest first.
    why_not : str
        Why there is no quadrature; "" where there is one.
    """

    laplace: float
    quadrature: float
    nodes: int
    left: float
    groups: pd.DataFrame
    why_not: str = ""

    @property
    def value(self) -> float:
        """Laplace minus quadrature, in log-likelihood: NaN where it isn't known."""
        return self.laplace - self.quadrature

    def __float__(self) -> float:
        return self.value

    @property
    def text(self) -> str:
        """The error in words, with the groups that it comes from."""
        if self.why_not:
            return f"The error of Laplace's approximation is not known: {self.why_not}."
        first = (
            f"At these estimates Laplace's log-likelihood is {self.laplace:.4f}, quadrature's {self.quadrature:.4f} "
            f"({self.nodes} nodes; the last step to more changed {self.left:.0e}): Laplace is "
            f"{abs(self.value):.3g} too {'high' if self.value > 0 else 'low'}"
        )
        if not len(self.groups) or abs(self.value) < 1e-6:
            return first + "."
        worst = self.groups.head(3)
        named = ", ".join(f"{name} ({d:+.2g})" for name, d in worst["difference"].items())
        return f"{first}. The largest errors are in {self.groups.index.name} {named}, of {len(self.groups)} groups."

    def __repr__(self) -> str:
        return visible(self.text)


def measure(problem: Problem, x: np.ndarray, s: np.ndarray, laplace_value: float) -> ApproximationError:
    """Compare both at the parameters x, with as many nodes as it takes."""
    rows = problem.rows
    nothing = pd.DataFrame(columns=["laplace", "quadrature", "difference"], dtype=float)
    if why := serves(rows):
        return ApproximationError(
            laplace=laplace_value, quadrature=np.nan, nodes=0, left=0.0, groups=nothing, why_not=why
        )
    given = (rows, problem.family, problem.outcome, problem.fixed(x), problem.lam(x), problem.psi(x), s)
    found: dict[int, np.ndarray] = {}

    def evaluate(nodes: int) -> float:
        found[nodes] = Quadrature(nodes=nodes).groups(*given)
        return float(found[nodes].sum())

    nodes, value, left = converged_nodes(evaluate, most=most_nodes(rows.dimensions))
    own = laplace_by_group(*given)
    level = rows.design.levels[rows.plan.chain[-1]]
    best = found[max(found)]
    frame = pd.DataFrame(
        {"laplace": own, "quadrature": best, "difference": own - best}, index=pd.Index(level.groups, name=level.label)
    )
    order = np.argsort(-np.abs(frame["difference"].to_numpy()), kind="stable")
    return ApproximationError(
        laplace=float(own.sum()), quadrature=value, nodes=nodes, left=left, groups=frame.iloc[order]
    )
