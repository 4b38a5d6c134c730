"""What the data say of a hierarchy: which level lies in which, in words, and what deserves a second look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from bayeslmm.data.groups import spread
from bayeslmm.data.table import count
from bayeslmm.design.residual_words import residual_hints, residual_words
from bayeslmm.formula.parse import columns_of
from bayeslmm.formula.tokens import quote

NEARLY_DIAGONAL = 0.02  # a correlation between groups

if TYPE_CHECKING:
    from bayeslmm.design.design import Described
    from bayeslmm.design.level_design import LevelDesign

Relation = Literal["same", "nested", "contains", "crossed", "partially crossed"]


def relation(a: LevelDesign, b: LevelDesign) -> Relation:
    """Say how the groups of one level lie in those of another, as the data have it.

    Returns
    -------
    {"same", "nested", "contains", "crossed", "partially crossed"}
        "nested": each group of `a` lies in one group of `b`; "contains": the reverse;
        "crossed": every combination occurs.

    Examples
    --------
    >>> from bayeslmm.design.building import build_design
    >>> from bayeslmm.description.hierarchy import Hierarchy, Level
    >>> h = Hierarchy(response="y", levels=(Level(group="a:b"), Level(group="a")))
    >>> data = {"y": [1.0, 2, 3, 5, 6, 7, 9, 8], "a": [1, 1, 1, 1, 2, 2, 2, 2], "b": [1, 1, 2, 2, 1, 1, 2, 2]}
    >>> relation(*build_design(h, data).levels)
    'nested'
    """
    pairs = len(_pairs(a, b))
    of_a, of_b = _seen(a), _seen(b)
    if pairs == of_a:
        return "same" if pairs == of_b else "nested"
    if pairs == of_b:
        return "contains"
    return "crossed" if pairs == of_a * of_b else "partially crossed"


def describe(design: Described) -> str:
    """Put a design in words: the rows, the groups, how they lie in each other, Z per level, and R.

    Examples
    --------
    >>> from bayeslmm.design.building import build_design
    >>> from bayeslmm.description.hierarchy import Hierarchy, Level
    >>> h = Hierarchy(response="y", levels=(Level(group="g"),))
    >>> print(describe(build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]})))
    4 rows in 2 groups of g (2 rows each).
    Fixed part: 1 column (Intercept).
    u2, one per g: Intercept. Z is 4 x 2 with 4 non-zeros (50 %).
    """
    lines = [_structure(design)]
    if design.dropped:
        lines.append(f"{count(design.dropped, 'row')} with missing values left out.")
    names = ", ".join(design.coef[:12]) + (", ..." if design.p > 12 else "")
    lines.append(f"Fixed part: {count(design.p, 'column')}" + (f" ({names})." if names else "."))
    if design.hierarchy.offset:
        lines.append(f"Offset: {design.hierarchy.offset}, a part of the mean whose coefficient is 1.")
    lines += list(design.left_out)
    for level in design.levels:
        filled = level.filled
        share = f"{100 * filled / (design.n * level.q):.3g}"
        effects = ", ".join(level.effects) + level.structure.words(level.effects)
        lines.append(
            f"{level.name}, one per {level.label}: {effects}. Z is {design.n} x {level.q} with "
            f"{filled} non-zeros ({share} %)."
        )
        if covariance := known_covariance(level):
            lines.append(f"  Its covariance between groups is {covariance}: {_relatives(level)}.")
    return "\n".join([*lines, *residual_words(design.residual)])


def hints(design: Described) -> list[str]:
    """Point out what is allowed but deserves a second look.

    Few groups, slopes of columns that don't vary within groups, nesting that may have been forgotten, parts of the
    model that say the same.

    Examples
    --------
    >>> from bayeslmm.design.building import build_design
    >>> from bayeslmm.description.hierarchy import Hierarchy, Level
    >>> h = Hierarchy(response="y", levels=(Level(group="g"),))
    >>> hints(build_design(h, {"y": [1.0, 2, 3, 5], "g": ["a", "a", "b", "b"]}))[0]
    'g has only 2 groups: the data barely inform the variance between them, so its prior matters.'
    """
    found = _of_response(design)
    for level in design.levels:
        if _seen(level) < 5 and level.n_sds:
            found.append(
                f"{level.label} has only {_seen(level)} groups: the data barely inform the variance between "
                "them, so its prior matters."
            )
        if said := _of_known_covariance(level, design):
            found.append(said)
        if _splits_groups(level):
            found += [_of_split_groups(level)] if level.structure.paired else []
            continue
        for name, column in zip(level.effects, level.columns.T, strict=True):
            if name != "Intercept" and np.ptp(column) > 0 and _constant_within(column, level.index, level.m):
                found.append(
                    f"{name} is constant within every group of {level.label}, so no group can show a slope "
                    f"of its own. Is it meant to vary by {level.label}?"
                )
    found += _tied_to_zero(design)
    for k, b in enumerate(design.levels):
        for a in design.levels[:k]:
            said = _forgotten_nesting(a, b, design)
            if said:
                found.append(said)
    return list(dict.fromkeys([*found, *residual_hints(design)]))


def _tied_to_zero(design: Described) -> list[str]:
    """Intercepts and slopes of one grouping that are independent of each other at a point outside the data.

    Independence is not kept when a column is shifted: (x || g) and (I(x - 2000) || g) are different models.
    """
    found = []
    for a in design.levels:
        if a.correlated or not any(np.ptp(column) == 0 for column in a.columns.T):
            continue
        for b in design.levels:
            if b.label != a.label or b.correlated or (b is not a and b.r > 1 and a.r > 1):
                continue
            for name, low, high in zip(b.effects, b.lowest, b.highest, strict=True):
                if high > low and not low <= 0 <= high:
                    found.append(
                        f"The intercepts of {a.label} and its slopes on {name} are independent where {name} is 0, "
                        f"and {name} runs from {low:.6g} to {high:.6g}: the model says that groups that differ "
                        f"in slope are alike at a point outside the data. Write (1 + {name} | {a.label}) to have the "
                        f"correlation estimated, or subtract a value within the range from {name}."
                    )
    return list(dict.fromkeys(found))


def _of_response(design: Described) -> list[str]:
    """Ask whether a response of one column is meant to be explained by that column."""
    hierarchy = design.hierarchy
    own = set(columns_of(hierarchy.response))
    texts = [hierarchy.fixed, *(level.effects for level in hierarchy.levels)]
    if len(own) > 1 or not own & {name for text in texts for name in columns_of(text)}:
        return []
    name = next(iter(own))
    return [f"The response {hierarchy.response} is explained by {name}, of which it is made. Is that meant?"]


def _splits_groups(level: LevelDesign) -> bool:
    """Whether each group has one of several effects: an SD for each kind of group, as in (0 + Sex | Subject)."""
    one_each = level.r > 1 and bool(((level.columns != 0).sum(axis=1) == 1).all())
    return one_each and all(_constant_within(column, level.index, level.m) for column in level.columns.T)


def _of_split_groups(level: LevelDesign) -> str:
    return (
        f"Every group of {level.label} has one of the effects {', '.join(level.effects[:4])} only: their SDs can be "
        f"told, their correlations can't. Write ({level.level.effects} || {level.label})."
    )


def _seen(level: LevelDesign) -> int:
    """Number of groups that have rows."""
    return level.m - level.relatives


def known_covariance(level: LevelDesign) -> str:
    """The covariance of a level's effects between its groups, where it is known up to a factor; "" elsewhere."""
    known = level.level.matrix
    if known is None:
        return ""
    what = f"the inverse of {known.name}" if known.precision else known.name
    times = "sigma^2" if level.known else f"sigma_{level.name}^2" if level.r == 1 else f"the covariance of {level.name}"
    return f"{times} times {what}"


def _relatives(level: LevelDesign) -> str:
    """Who of a known covariance has rows."""
    text = f"{count(_seen(level), 'group')} with rows"
    return f"{text} and {count(level.relatives, 'relative')} without" if level.relatives else text


def _of_known_covariance(level: LevelDesign, design: Described) -> str:
    """Ask whether a known covariance says anything; "" where there is nothing to ask."""
    if level.relation is None or level.level.matrix is None or level.known:
        return ""
    if level.relation.related(_seen(level), NEARLY_DIAGONAL):
        return ""
    said = f"{level.level.matrix.name} of {level.label} is nearly diagonal for the groups with rows"
    said = f"{said[0].upper()}{said[1:]}, so it says little more than that they are independent"
    alone = _seen(level) == design.n and not design.residual.tells_rows_apart
    return f"{said}; with one row each, the data can't tell sigma_{level.name} from sigma." if alone else f"{said}."


def _pairs(a: LevelDesign, b: LevelDesign) -> np.ndarray:
    return pd.unique(a.index * b.m + b.index)


def _constant_within(column: np.ndarray, index: np.ndarray, m: int) -> bool:
    one = np.empty(m)
    one[index] = column
    return bool((one[index] == column).all())


def _forgotten_nesting(a: LevelDesign, b: LevelDesign, design: Described) -> str:
    """Ask whether labels that repeat mean the same thing; "" where there is nothing to ask.

    A combination that has a level of its own needs no question, nor one that occurs in one row only: such an
    inner level couldn't be told from the residual, so crossing is the only reading.
    """
    if set(a.level.group) & set(b.level.group) or len(a.level.group) + len(b.level.group) > 2:
        return ""
    both = {*a.level.group, *b.level.group}
    pairs = _pairs(a, b)
    crossing = relation(a, b)
    if crossing not in ("crossed", "partially crossed") or 4 * len(pairs) > 3 * design.n:
        return ""
    if any(both <= set(level.level.group) for level in design.levels):
        return ""
    codes = {a: pairs // b.m, b: pairs % b.m}
    for inner, outer in ((a, b), (b, a)):
        if not _counts_from_one(codes[inner], codes[outer], outer.m):
            continue
        where = "every" if crossing == "crossed" else "each"
        small, large = quote(inner.label), quote(outer.label)
        reverse = f" (or (1 | {small}/{large}) the other way round)" if crossing == "crossed" else ""
        i, o = inner.groups[0], outer.groups
        return (
            f"The labels of {inner.label} start anew in {where} {outer.label}. Is {inner.label} {i} of "
            f"{outer.label} {o[0]} the same as {inner.label} {i} of {outer.label} {o[1]}? If not, "
            f"{inner.label} is nested: write (1 | {large}/{small}){reverse}."
        )
    return ""


def _counts_from_one(inner: np.ndarray, outer: np.ndarray, m: int) -> bool:
    """Say whether each outer group holds the first few inner labels without gaps: a, b, c, never b, e."""
    last = np.full(m, -1)
    np.maximum.at(last, outer, inner)
    return bool((np.bincount(outer, minlength=m) == last + 1).all())


def _structure(design: Described) -> str:
    if not design.levels:
        return f"{count(design.n, 'row')}, no groups."
    first = design.levels[0]
    text = f"{count(design.n, 'row')} in {_groups(first)}"
    chain = True
    for k, level in enumerate(design.levels[1:], start=1):
        before = design.levels[:k]
        relations = [relation(other, level) for other in before]
        if chain and all(found == "nested" for found in relations):
            inner = before[-1]
            held = np.bincount(_pairs(inner, level) % level.m)
            text += f", nested in {_groups(level)[:-1]}; {spread(held, inner.label, inner.label)})"
            continue
        chain = False
        text += f".\n{_groups(level)[:1].upper()}{_groups(level)[1:]}: {_relations(level, before, relations)}"
    return text + "."


def _relations(level: LevelDesign, before: Sequence[LevelDesign], relations: Sequence[Relation]) -> str:
    said = []
    for other, found in zip(before, relations, strict=True):
        if found == "partially crossed":
            share = f"{100 * len(_pairs(other, level)) / (_seen(other) * _seen(level)):.2g}"
            said.append(f"partially crossed with {other.label} ({share} % of the combinations occur)")
        elif found == "crossed":
            said.append(f"crossed with {other.label} (every combination occurs)")
        elif found == "same":
            said.append(f"the same groups as those of {other.label}")
        else:
            said.append(f"{'containing' if found == 'nested' else 'nested in'} {other.label}")
    return ", ".join(said)


def _groups(level: LevelDesign) -> str:
    rows = level.sizes[: _seen(level)]
    return f"{len(rows)} groups of {level.label} ({spread(rows, 'row', 'rows')})"
