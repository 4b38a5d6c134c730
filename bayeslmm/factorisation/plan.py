"""The order of elimination: which levels go group by group, which meet in the tail, and whether that is dense."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from weakref import WeakKeyDictionary

import numpy as np

from bayeslmm.data.known_matrix import LABEL_LIMIT
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import DataError
from bayeslmm.factorisation.pattern import Pattern, make_pattern

FLOPS = 3.0 * 8_000**3  # of value and gradient, the most that is taken: those of 8,000 dense columns
NUMBERS = 8_000**2  # in the tail's matrix, likewise
FEW = 200  # columns of a tail from which on a sparse one is thought of
PER_FLOP = 5.0  # a sparse tail's time, in flops of a dense one: for each of its own,
PER_NUMBER = 100.0  # for each number that its factor has,
PER_COLUMN = 3_000.0  # and for each column
TO_ROTATE = 15.0  # flops of a known covariance's root and eigenvectors, over the cube of its labels
EVALUATIONS = 1_000  # that such a preparation is worth: a fit and a posterior


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which levels are eliminated group by group (the chain, leaf first) and which meet in the tail.

    Attributes
    ----------
    pattern : Pattern or None
        Of a sparse tail; None for a dense one.
    rotated : bool
        Whether the chain is one level with a known covariance, in the basis in which its cross-product is diagonal.
    """

    chain: tuple[int, ...]
    tail: tuple[int, ...]
    tail_columns: int
    rotated: bool = False
    pattern: Pattern | None = None

    @property
    def stored(self) -> int:
        """Numbers that an array of the tail holds."""
        return self.tail_columns**2 if self.pattern is None else self.pattern.size

    @property
    def flops(self) -> tuple[float, float]:
        """Multiplications and additions of the tail: of its factorisation, and of the way back."""
        factor = self.tail_columns**3 / 3 if self.pattern is None else self.pattern.flops
        return factor, 8 * factor if self.pattern is None else 4 * factor


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


_plans: WeakKeyDictionary[Design, dict[bool, Plan]] = WeakKeyDictionary()


def plan_elimination(design: Design, weights_vary: bool = False) -> Plan:
    """Choose what leaves the smallest tail, a nested chain or one level with a known covariance, rotated; and its kind.

    Nothing is rotated where the rows' weights will change (`weights_vary`). Rows that are correlated through R have to
    lie in one group of every level of the chain. The plan is kept for as long as the design is.
    """
    made = _plans.setdefault(design, {})
    if weights_vary not in made:
        dense = dense_plan(design, weights_vary)
        sparse = dense
        if dense.tail_columns >= FEW or any(level.related and level.m >= FEW for level in design.levels):
            sparse = sparse_plan(design, dense, weights_vary)
        beyond = _beyond_reach(dense) or bool(_without_root(design.levels))
        made[weights_vary] = sparse if _quicker(design.levels, sparse, dense) or beyond else dense
    return made[weights_vary]


def _quicker(levels: tuple[LevelDesign, ...], sparse: Plan, dense: Plan) -> bool:
    if sparse.pattern is None:
        return False
    known = sum(float(levels[k].m) ** 3 for k in sparse.tail if levels[k].related)
    return _cost(sparse, sparse.pattern) < dense.flops[0] + TO_ROTATE * known / EVALUATIONS


def _without_root(levels: tuple[LevelDesign, ...]) -> list[LevelDesign]:
    """Levels whose known covariance is too large to be dense."""
    return [level for level in levels if level.related and level.m > LABEL_LIMIT]


def _cost(plan: Plan, pattern: Pattern) -> float:
    """A sparse tail's time, in flops of a dense one."""
    return PER_FLOP * pattern.flops + PER_NUMBER * pattern.size + PER_COLUMN * plan.tail_columns


def sparse_plan(design: Design, plan: Plan, weights_vary: bool = False) -> Plan:
    """The plan with a sparse tail; as it is where a known covariance isn't sparse, or it has too many numbers.

    Known precisions that are sparse are a part of it; where weights vary they aren't. A large group at the top of the
    chain joins all that it meets: where it costs less, the chain ends below it.
    """
    known = [level.relation for level in design.levels if level.relation is not None]
    if known:
        if weights_vary or not all(relation.sparse for relation in known):
            return plan
        plan, limit = _plan(design.levels, _longest_chain(design.levels, _able(design))), float(NUMBERS)
    elif plan.tail:
        limit = min(plan.flops[0] / PER_NUMBER, NUMBERS)
    else:
        return plan
    chains = [plan.chain[:size] for size in range(len(plan.chain), 0, -1)]
    chains += [()] if known or not chains else []  # relatives may be eliminated before the groups that they meet in
    best, least = plan, np.inf
    for chain in chains:
        other = _plan(design.levels, chain)
        pattern = make_pattern(design, chain, other.tail, limit)
        if pattern is not None and _cost(other, pattern) < least:
            best, least = replace(other, pattern=pattern), _cost(other, pattern)
    return best


def dense_plan(design: Design, weights_vary: bool = False) -> Plan:
    """The plan with a dense tail, if any."""
    levels, residual = design.levels, design.residual
    columns = sum(level.q for level in levels)
    chain = _longest_chain(levels, _able(design))
    plan = _plan(levels, chain)
    if residual.fixed and not weights_vary:
        for k, level in enumerate(levels):
            if level.related and level.r == 1 and columns - level.q < plan.tail_columns:
                plan = _plan(levels, (k,), rotated=True)
    return _plan(levels, ()) if _better_dense(levels, plan) else plan


def _able(design: Design) -> list[int]:
    """Levels that can be eliminated group by group."""
    able, residual = [k for k, level in enumerate(design.levels) if not level.related], design.residual
    return [k for k in able if nested_in(residual.block, design.levels[k].index)] if residual.correlated else able


def _better_dense(levels: tuple[LevelDesign, ...], plan: Plan) -> bool:
    """Whether one dense matrix is quicker: where every group meets every tail column, nothing is gained by blocks.

    Elimination group by group does about a tenth of the operations a second that LAPACK does.
    """
    if not plan.tail or not (plan.rotated or any(levels[k].related for k in plan.tail)):
        return False
    chain = sum(levels[k].q for k in plan.chain)
    whole = plan.tail_columns + chain
    return whole**2 <= NUMBERS and whole**3 - plan.tail_columns**3 < 30 * chain * plan.tail_columns**2


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


def _beyond_reach(plan: Plan) -> bool:
    return sum(plan.flops) > FLOPS or plan.stored > NUMBERS


def check_tail(levels: tuple[LevelDesign, ...], plan: Plan) -> None:
    """Refuse a tail that is beyond reach.

    Raises
    ------
    DataError
        If it takes more flops, or more numbers, than a dense one of 8,000 columns, or a known covariance would have to
        be dense that is too large for it.
    """
    large = _without_root(levels) if plan.pattern is None else []
    if large:
        matrix = large[0].level.matrix
        raise DataError(
            f"{matrix.name if matrix else 'the covariance'} of {large[0].label} has {large[0].m:,} labels, and here it "
            f"would have to be dense, which is supported up to {LABEL_LIMIT:,}: its elimination fills more than "
            f"{NUMBERS:,} numbers, or another level's covariance isn't a sparse precision, or the outcome isn't "
            "Gaussian. Give every known covariance as a sparse precision, leave out relatives without rows, or fit a "
            "subset."
        )
    if _beyond_reach(plan):
        flops = sum(plan.flops)
        crossed = ", ".join(f"{levels[k].name} ({levels[k].label}, {levels[k].q:,} columns)" for k in plan.tail)
        raise DataError(
            f"The crossed levels {crossed} leave a block of {plan.tail_columns:,} x {plan.tail_columns:,}, in which "
            f"elimination fills {plan.stored:,} numbers: value and gradient take {flops:.2g} flops. At most "
            f"{NUMBERS:,} numbers and {FLOPS:.2g} flops are supported. Write one of them as nested (a/b) if it is, "
            "drop an effect, or fit a subset of the groups."
        )
