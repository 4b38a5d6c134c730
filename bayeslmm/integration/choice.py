"""Which approximation serves a model, and how many nodes it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.integration.compiled_level import is_compiled
from bayeslmm.integration.crossed import CrossedQuadrature, serves_crossed
from bayeslmm.integration.laplace import laplace
from bayeslmm.integration.objective import Approximation, Objective, Problem
from bayeslmm.integration.quadrature import Quadrature, serves
from bayeslmm.integration.rows import Rows
from bayeslmm.integration.rule import converged_nodes
from bayeslmm.support.arguments import check_whole
from bayeslmm.support.threads import one_blas_thread

APPROXIMATIONS = ("auto", "laplace", "quadrature")
FOR_DRAWS = 1e-3  # of a log density is nothing to a draw
FEWEST = 3  # nodes from which on they have a spread
WIDER = 1.5  # a posterior has SDs this much larger than the likelihood's maximum


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """How the effects are integrated out.

    Attributes
    ----------
    approximation : callable
        `laplace`, or a `Quadrature`.
    nodes : int
        For each effect; 1 for Laplace's approximation.
    start : (q,) array
        Where Newton's method for the modes of the effects begins: `Mode.s`.
    """

    approximation: Approximation
    nodes: int
    start: np.ndarray

    @property
    def kind(self) -> str:
        """By name: "laplace" or "quadrature"."""
        return "laplace" if self.approximation is laplace else "quadrature"

    def __str__(self) -> str:
        return f"quadrature, {self.nodes} nodes" if self.kind == "quadrature" else "laplace"


def choose(problem: Problem, approximation: str, nodes: int | None) -> str:
    """Check what was asked for, and say which it is: "laplace" or "quadrature".

    Raises
    ------
    DescriptionError
        For another word, nodes of Laplace's approximation, or a quadrature that can't be had.
    """
    if approximation not in APPROXIMATIONS:
        raise DescriptionError(
            f"approximation={approximation!r}; expected {', '.join(map(repr, APPROXIMATIONS))}."
            f"{did_you_mean(str(approximation), APPROXIMATIONS)}"
        )
    rows = problem.rows
    why = serves(rows)
    if why and (approximation == "quadrature" or nodes is not None) and not serves_crossed(rows):
        why = ""  # asked for, and possible for one level; by itself too slow to be the rule
        if nodes is not None and nodes < FEWEST:
            raise DescriptionError(
                f"nodes={nodes}; the curvature of the other levels' effects takes {FEWEST} at least. Write "
                f"nodes={FEWEST}, or leave nodes= out."
            )
        if approximation == "auto":
            return "quadrature"
    if nodes is not None:
        check_whole("nodes", nodes, 1, example=25)
        if approximation == "laplace":
            raise DescriptionError("Laplace's approximation has no nodes; leave nodes= out, or write 'quadrature'.")
    if approximation == "quadrature" and why:
        raise DescriptionError(f"Quadrature can't be had: {why}. Write approximation='laplace'.")
    if nodes is not None and why:
        raise DescriptionError(f"nodes={nodes} are a quadrature's, which can't be had: {why}. Leave nodes= out.")
    return "laplace" if approximation == "laplace" or why else "quadrature"


def laplace_of(problem: Problem) -> Approximation:
    """Laplace's approximation: as the rule with one node, which is the same and quicker, where that is compiled."""
    rows, levels = problem.rows, problem.rows.design.levels
    compiled = len(levels) == 1 and not serves(rows) and is_compiled(problem.family, levels[0].r)
    return Quadrature(nodes=1) if compiled else laplace


def quadrature_of(rows: Rows, nodes: int) -> Quadrature | CrossedQuadrature:
    """The quadrature that a design has: of all levels, or of one, where others are crossed with it."""
    return CrossedQuadrature(nodes=nodes) if rows.plan.tail else Quadrature(nodes=nodes)


def rule_at(problem: Problem, kind: str, nodes: int | None, x: np.ndarray) -> Rule:
    """The rule for parameters around x, such as the draws of a posterior: nodes that are enough for larger SDs too."""
    with one_blas_thread():
        start = Objective(problem).point(x).mode.s
        if kind == "laplace":
            return Rule(approximation=laplace, nodes=1, start=start)
        if nodes is None:
            wide = x.copy()
            wide[problem.sds] *= WIDER
            nodes = max(enough_nodes(problem, at, FOR_DRAWS) for at in (x, wide))
    return Rule(approximation=quadrature_of(problem.rows, nodes), nodes=nodes, start=start)


def enough_nodes(problem: Problem, x: np.ndarray, tolerance: float | None = None) -> int:
    """Nodes that are enough at x: one step of `rule.STEPS` fewer changes the log-likelihood by less."""
    s = Objective(problem).point(x).mode.s
    given = (problem.rows, problem.family, problem.outcome, problem.fixed(x), problem.lam(x), problem.psi(x), s)
    if tolerance is None:
        tolerance = 1e-7 if dimensions(problem.rows) == 1 else 1e-6
    most = most_nodes(dimensions(problem.rows))
    return converged_nodes(lambda nodes: quadrature_of(problem.rows, nodes).total(*given), tolerance, most)[0]


def dimensions(rows: Rows) -> int:
    """How many effects a quadrature has nodes for at once."""
    return rows.design.levels[rows.plan.chain[0]].r if rows.plan.tail else rows.dimensions


def most_nodes(dimensions: int) -> int:
    """Nodes for each effect beyond which it takes too long, of an integral over so many effects at once.

    Examples
    --------
    >>> most_nodes(1), most_nodes(2)
    (201, 51)
    """
    return {1: 201, 2: 51, 3: 15}.get(dimensions, 9)
