"""Where estimates can't exist, or hang on the effects' normal distribution alone: seen before anything is fitted."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.families.family import Family, Outcome
from bayeslmm.support.text import listed

CERTAIN = 6.0  # an SD from here on, in units of the link's scale, makes nearly all groups all or nothing
ROWS = 200_000  # up to which a linear program is solved


def separation(design: Design, family: Family, outcome: Outcome) -> tuple[str, ...]:
    """Columns of X along which the likelihood rises for ever, by a linear program; () where there are none.

    A direction d exists if no row gets less likely along it, and some get more likely: x'd >= 0 where all trials are
    successes, x'd <= 0 where none is, x'd = 0 elsewhere. For counts, x'd <= 0 where y is zero, x'd = 0 elsewhere.
    Effects of groups change nothing about it, as it holds at every value of theirs.

    Source: Albert & Anderson (1984); Konis (2007) for the program; Correia, Guimaraes & Zylkin (2019) for counts.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 0, 1, 1, 1, 1], "x": [1.0, 2, 3, 4, 5, 6], "g": list("aabbcc")}
    >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="binomial")
    >>> separation(glmm.design, glmm.family, glmm.outcome)
    ('Intercept', 'x')
    """
    sides = _sides(family, outcome)
    if sides is None or design.p == 0 or design.n > ROWS:
        return ()
    from scipy.optimize import linprog

    size = np.abs(design.X).max(axis=0)
    X = design.X / np.where(size > 0, size, 1.0)
    inside = sides == 0
    wanted = sides[~inside, None] * X[~inside]
    if not len(wanted):
        return ()
    equal = {"A_eq": X[inside], "b_eq": np.zeros(int(inside.sum()))} if inside.any() else {}
    found = linprog(
        -wanted.sum(axis=0), A_ub=-wanted, b_ub=np.zeros(len(wanted)), bounds=[(-1, 1)] * design.p, **equal,
    )  # fmt: skip
    if found.status != 0 or -found.fun < 1e-6:
        return ()
    d = np.asarray(found.x)
    gains = wanted @ d
    if gains.min() < -1e-7 or gains.max() < 1e-6:
        return ()
    return tuple(name for name, x in zip(design.coef, d, strict=True) if abs(x) > 1e-6)


def _sides(family: Family, outcome: Outcome) -> np.ndarray | None:
    """Per row +1, -1 or 0: which way eta may go for ever; None for families without such ways."""
    if family.name == "binomial":
        N = np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials
        return np.where(N == 0, 0.0, np.where(outcome.y == N, 1.0, np.where(outcome.y == 0, -1.0, 0.0)))
    if family.name in ("poisson", "negative_binomial"):
        return np.where(outcome.y == 0, -1.0, 0.0)
    return None


def uniform_groups(design: Design, family: Family, outcome: Outcome) -> list[tuple[str, int, int]]:
    """Per level with an intercept: (grouping, groups of which every row is of one extreme, groups)."""
    if family.name == "binomial":
        N = np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials
        low, high = outcome.y == 0, outcome.y == N
    elif family.name == "cumulative":
        low, high = outcome.y == 0, outcome.y == len(outcome.categories) - 1
    else:
        return []
    out = []
    for level in design.levels:
        counts = np.bincount(level.index, minlength=level.m)
        alike = [np.bincount(level.index, weights=x, minlength=level.m) == counts for x in (low, high)]
        seen = counts > 0
        out.append((level.label, int(((alike[0] | alike[1]) & seen).sum()), int(seen.sum())))
    return out


def words_before(design: Design, family: Family, outcome: Outcome) -> list[str]:
    """What should be known before a fit, a sentence each."""
    said = []
    if names := separation(design, family, outcome):
        said.append(
            f"Separation: along {listed(names, show=str)} the likelihood rises for ever, since no row gets less likely "
            "on the way: a maximum doesn't exist, and what a fit shows is where its search gave up. Leave the column "
            "out, join categories, or take the posterior, which priors keep finite: glmm.sample()."
        )
    for label, alike, groups in uniform_groups(design, family, outcome):
        if 2 * alike > groups:
            said.append(
                f"{alike} of {groups} groups of {label} have rows of one kind only (all at one end): how far out their "
                "effects lie is said by the normal distribution alone, and so is much of the SD."
            )
    return said
