"""What the factorisation of a design will do, in words and numbers: blocks, sizes, cost, memory, fill."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from bayeslmm.design.describe import relation
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.factorisation import memory
from bayeslmm.factorisation.plan import FLOPS, NUMBERS, nested_in
from bayeslmm.factorisation.statistics import Statistics

LARGE_TAIL = 1_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Numbers behind the words; flops count multiplications and additions, constants of small blocks apart.

    Attributes
    ----------
    value, gradient : float
        Flops of one evaluation of the value, and of value and gradient.
    tail : float
        Flops of the tail's part in value and gradient.
    stored, full : int
        Numbers in the factor, and in a dense triangle of its size.
    statistics, work : int
        Bytes of the cross-products, and of one evaluation's work space.
    """

    value: float
    gradient: float
    tail: float
    stored: int
    full: int
    statistics: int
    work: int


def plan_cost(stats: Statistics) -> Cost:
    """Count flops, stored numbers and bytes of one factorisation.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> cost = plan_cost(lmm.statistics)
    >>> cost.stored, cost.full
    (3, 6)
    """
    levels, plan, st = stats.design.levels, stats.plan, stats.layout
    d = stats.design.p + 1
    value = back = 0.0
    stored = work = ancestors = 0
    for place in reversed(range(len(plan.chain))):
        level = levels[plan.chain[place]]
        m, r = level.m, level.r
        beside = ancestors + d
        couplings = _couplings(stats, place)
        own = m * (4 * r**3 + 2 * r**2 * beside + r * beside * (beside + 1))
        meet = float((r * couplings * (couplings + 1) + 2 * r * couplings * (beside + r)).sum())
        value += own + meet
        back += 2 * own + 2 * meet + 2 * m * r * ancestors * (ancestors + r)
        stored += m * (r * (r + 1) // 2 + r * ancestors) + r * int(couplings.sum())
        work += m * r * (2 * r + beside) + r * int(couplings.sum())
        if place:
            work += m * (r + ancestors) ** 2 + (r + ancestors) * int(couplings.sum())
        ancestors += r
    tail_factor, tail_back = plan.flops
    tail_value = tail_factor + 2 * plan.stored * d
    tail_back += 4 * plan.stored * d
    arrays = [x for x in (*vars(st).values(), *(st.sparse or ())) if isinstance(x, np.ndarray)]
    kept = [stats.ZtW, stats.WtW, stats.Q, stats.upper, *stats.better]
    q = stats.design.q
    return Cost(
        value=value + tail_value,
        gradient=value + back + tail_value + tail_back,
        tail=tail_value + tail_back,
        stored=stored + tail_numbers(stats),
        full=q * (q + 1) // 2,
        statistics=sum(array.nbytes for array in (*arrays, *kept)),
        work=8 * (work + (8 if plan.pattern is None else 3) * plan.stored + q * d),
    )


def tail_numbers(stats: Statistics) -> int:
    """Numbers in the tail's factor: a full triangle, or what a sparse one stores of it."""
    columns, pattern = stats.plan.tail_columns, stats.plan.pattern
    if pattern is None:
        return columns * (columns + 1) // 2
    own, length = pattern.shapes.T
    return int((own * length - own * (own - 1) // 2).sum())


def _couplings(stats: Statistics, place: int) -> np.ndarray:
    """For each group of a chain level, the number of tail columns that it meets."""
    m = stats.design.levels[stats.plan.chain[place]].m
    if not stats.plan.tail:
        return np.zeros(m)
    before = sum(stats.design.levels[k].m + 1 for k in stats.plan.chain[:place])
    return np.diff(stats.layout.lists[before : before + m + 1]).astype(float)


def explain_plan(stats: Statistics) -> str:
    """Say what one evaluation of the likelihood does, in which order, and what it costs.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> print(explain_plan(lmm.statistics))
    6 rows become cross-products of 3 random effects, 1 column of X, and y; after that the rows don't matter.
    Eliminated group by group, leaf first:
      1. u2 (g): 3 blocks of 1 x 1
    Dense tail: none, so that work and memory grow linearly with the number of groups.
    Factor: 3 numbers, 50 % of the 6 in a full triangle.
    Cost: about 42 flops for the value, 130 flops with the gradient.
    Memory: 0.38 kB of statistics, 0.14 kB of work space.
    """
    design = stats.design
    cost = plan_cost(stats)
    made_of = [_many(design.q, "random effect")] if design.levels else []
    made_of += [f"{_many(design.p, 'column')} of X", "and y"]
    after = "; after that the rows don't matter."
    lines = [f"{_many(design.n, 'row')} become cross-products of {', '.join(made_of)}{after}", *_terms(stats)]
    if design.levels:
        share = 100 * cost.stored / cost.full
        factor = f"Factor: {_many(cost.stored, 'number')}, {_percent(share)} of the {cost.full:,} in a full triangle."
        lines += [*_chain(stats), *_tail(stats, cost), factor]
        lines.append(f"Cost: about {_flops(cost.value)} for the value, {_flops(cost.gradient)} with the gradient.")
    lines.append(f"Memory: {_bytes(cost.statistics)} of statistics, {_bytes(cost.work)} of work space.")
    if sum(memory.needed(design).values()) > memory.LARGE:
        lines.append(f"At the peak, while they are made: {memory.in_words(design)}.")
    return "\n".join("\n".join(wrap(line, 110, subsequent_indent="     ")) for line in lines)


def _terms(stats: Statistics) -> list[str]:
    """How often the cross-products are needed: once for every fixed matrix that R^-1 is a sum of."""
    terms = len(stats.design.residual.terms)
    if terms < 2:
        return []
    return [f"R^-1 is a sum of {terms} fixed matrices, so there are {terms} sets of these, weighted by R's parameters."]


def _chain(stats: Statistics) -> list[str]:
    levels = [stats.design.levels[k] for k in stats.plan.chain]
    lines = ["Eliminated group by group, leaf first:"] if levels else []
    for place, level in enumerate(levels):
        above = levels[place + 1 :]
        effects = sum(other.r for other in above)
        names = " and ".join(other.name for other in above)
        text = f"  {place + 1}. {_named(level)}: {_many(level.m, 'block')} of {level.r} x {level.r}"
        text += ", in the basis in which its known covariance is diagonal" if stats.plan.rotated else ""
        beside = [f"{_many(effects, 'effect')} of {names}"] if above else []
        beside += [f"{_range(_couplings(stats, place))} of the tail's columns"] if stats.plan.tail else []
        lines.append(text + (f", each beside {' and '.join(beside)}" if beside else ""))
    return lines


def _tail(stats: Statistics, cost: Cost) -> list[str]:
    plan, levels = stats.plan, stats.design.levels
    if not plan.tail:
        return ["Dense tail: none, so that work and memory grow linearly with the number of groups."]
    columns = plan.tail_columns
    parts = " and ".join(f"{_named(levels[k])} with {levels[k].q:,}" for k in plan.tail)
    share = _percent(100 * cost.tail / cost.gradient)
    kind = "Dense" if plan.pattern is None else "Sparse"
    text = f"{kind} tail: {_many(columns, 'column')} ({parts}), because {_reasons(stats)}. "
    if plan.pattern is None:
        size = _bytes(8 * columns**2)
        text += f"It is a dense matrix of {size}, and takes {share} of the flops of value and gradient."
    else:
        own, length = plan.pattern.shapes.T
        numbers = tail_numbers(stats)
        fill = _percent(100 * numbers / (columns * (columns + 1) // 2))
        text += (
            f"Few of its groups meet: in the order of least degree its factor has {_many(numbers, 'number')}, {fill} "
            f"of a full triangle, in {_many(len(own), 'block')} of up to {int(own.max()):,} columns and "
            f"{int(length.max()):,} rows. It takes {share} of the flops of value and gradient, where a dense "
            f"one takes {_flops(dense_flops(columns))}."
        )
    lines = [text]
    if plan.pattern is None and columns > LARGE_TAIL:
        lines.append(
            f"The tail is what costs here: time grows with the cube of its columns, and {_most()} are the most that "
            f"are taken. What makes it smaller: {_remedies(stats)}."
        )
    return lines


def dense_flops(columns: int) -> float:
    """Flops of value and gradient of a dense tail, W apart."""
    return 3.0 * columns**3


def _most() -> str:
    """The most columns of a dense tail."""
    return f"{int(min((FLOPS / 3) ** (1 / 3), NUMBERS**0.5) + 0.5):,}"


def _reasons(stats: Statistics) -> str:
    """Say which levels cross which: why the tail is there."""
    levels, plan = stats.design.levels, stats.plan
    said = []
    for k in plan.tail:
        if levels[k].related:
            kind = "covariance" if plan.pattern is None else "precision"
            said.append(f"a known {kind} relates the groups of {levels[k].name}")
            continue
        if stats.design.residual.correlated and not nested_in(stats.design.residual.block, levels[k].index):
            said.append(f"residuals of different groups of {levels[k].name} are correlated")
            continue
        crossing = [levels[c] for c in plan.chain if relation(levels[k], levels[c]).endswith("crossed")]
        others = " and ".join(_named(other) for other in crossing) or "the chain"
        how = relation(levels[k], crossing[0]) if crossing else "beside"
        said.append(f"{levels[k].name} is {how} {'with ' if crossing else ''}{others}")
    return ", ".join(said)


def _remedies(stats: Statistics) -> str:
    tail = [stats.design.levels[k] for k in stats.plan.tail]
    said = ["writing a level as nested, (1 | a/b), where it is"]
    several = " or ".join(level.name for level in tail if level.r > 1)
    said += [f"fewer effects in {several}"] if several else []
    said += ["fitting a subset of the groups", "putting groups with few rows together"]
    return ", ".join(said)


def _named(level: LevelDesign) -> str:
    return f"{level.name} ({level.label})"


def _range(counts: np.ndarray) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,} (mean {counts.mean():.3g})"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _percent(share: float) -> str:
    return f"{share:.2g} %" if share < 99.5 else "100 %" if share == 100 else f"{share:.3g} %"


def _flops(number: float) -> str:
    return _scaled(number, 1e3, ["flops", "kflops", "Mflops", "Gflops", "Tflops"])


def _bytes(number: float) -> str:
    return _scaled(number / 1e3, 1e3, ["kB", "MB", "GB", "TB"])


def _scaled(number: float, step: float, units: list[str]) -> str:
    """Two digits and the unit that makes them short."""
    place = 0
    while number >= step and place < len(units) - 1:
        number /= step
        place += 1
    return f"{float(f'{number:.2g}'):g} {units[place]}"
