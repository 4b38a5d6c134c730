"""The order of elimination: which levels go group by group, which meet in the dense tail."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import DataError

TAIL_LIMIT = 8_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which levels are eliminated group by group (the chain, leaf first) and which meet in the dense tail.

    Attributes
    ----------
    rotated : bool
        Whether the chain is one level with a known covariance, in the basis in which its cross-product is diagonal.
    """

    chain: tuple[int, ...]
    tail: tuple[int, ...]
    tail_columns: int
    rotated: bool = False


def nested_in(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether every group of `a` lies in a single group of `b`, each given as the group of every row.

    Examples
    --------
    >>> nested_in(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])), nested_in(np.array([0, 0]), np.array([0, 1]))
    (True, False)
    """
    mother = np.empty(a.max(initial=0) + 1, dtype=np.int64)
    mother[a] = b
    return bool(np.array_equal(mother[a], b))


def plan_elimination(design: Design, weights_vary: bool = False) -> Plan:
    """Choose what leaves the smallest dense tail: a nested chain, or one level with a known covariance, rotated.

    Nothing is rotated where the rows' weights will change (`weights_vary`). Rows that are correlated through R have to
    lie in one group of every level of the chain.
    """
    levels, residual = design.levels, design.residual
    columns = sum(level.q for level in levels)
    able = [k for k, level in enumerate(levels) if level.root is None]
    if residual.correlated:
        able = [k for k in able if nested_in(residual.block, levels[k].index)]
    chain = _longest_chain(levels, able)
    plan = _plan(levels, chain)
    if residual.fixed and not weights_vary:
        for k, level in enumerate(levels):
            if level.root is not None and level.r == 1 and columns - level.q < plan.tail_columns:
                plan = _plan(levels, (k,), rotated=True)
    return _plan(levels, ()) if _better_dense(levels, plan) else plan


def _better_dense(levels: tuple[LevelDesign, ...], plan: Plan) -> bool:
    """Whether one dense matrix is quicker: where every group meets every tail column, nothing is gained by blocks.

    Elimination group by group does about a tenth of the operations a second that LAPACK does.
    """
    if not plan.tail or not (plan.rotated or any(levels[k].root is not None for k in plan.tail)):
        return False
    chain = sum(levels[k].q for k in plan.chain)
    whole = plan.tail_columns + chain
    return whole <= TAIL_LIMIT and whole**3 - plan.tail_columns**3 < 30 * chain * plan.tail_columns**2


def _longest_chain(levels: tuple[LevelDesign, ...], able: list[int]) -> tuple[int, ...]:
    """The nested chain with the most columns, leaf first."""
    order = sorted(able, key=lambda k: (-levels[k].m, k))
    nested = {(a, b): nested_in(levels[a].index, levels[b].index) for i, a in enumerate(order) for b in order[i + 1 :]}
    best: tuple[int, ...] = ()
    for size in range(1, len(order) + 1):
        for candidate in combinations(order, size):
            if all(nested[pair] for pair in pairwise(candidate)):
                best = max(best, candidate, key=lambda chain: sum(levels[k].q for k in chain))
    return best


def _plan(levels: tuple[LevelDesign, ...], chain: tuple[int, ...], rotated: bool = False) -> Plan:
    rest = sorted((k for k in range(len(levels)) if k not in chain), key=lambda k: (-levels[k].m, k))
    return Plan(chain=chain, tail=tuple(rest), tail_columns=sum(levels[k].q for k in rest), rotated=rotated)


def check_tail(levels: tuple[LevelDesign, ...], plan: Plan) -> None:
    """Refuse a dense tail that is beyond reach.

    Raises
    ------
    DataError
        If the crossed levels leave more than 8,000 dense columns.
    """
    if plan.tail_columns > TAIL_LIMIT:
        crossed = ", ".join(f"{levels[k].name} ({levels[k].label}, {levels[k].q:,} columns)" for k in plan.tail)
        raise DataError(
            f"The crossed levels {crossed} leave a dense block of {plan.tail_columns:,} x {plan.tail_columns:,}; "
            f"at most {TAIL_LIMIT:,} columns are supported. Write one of them as nested (a/b) if it is, "
            "drop an effect, or fit a subset of the groups."
        )
