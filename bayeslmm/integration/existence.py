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
    successes, x'd <= 0 where none is, x'd = 0 elsewhere. For counts, x'd <= 0 where y is zero, x'd = 0 elsewhere. For
    ordered categories thresholds may move too, t: t_c >= x'd >= t_(c-1) in rows of category c. Effects of groups change
    nothing about it, as it holds at every value of theirs.

    Source: Albert & Anderson (1984); Konis (2007) for the program; Correia, Guimaraes & Zylkin (2019) for counts.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 0, 1, 1, 1, 1], "x": [1.0, 2, 3, 4, 5, 6], "g": list("aabbcc")}
    >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="binomial")
    >>> separation(glmm.design, glmm.family, glmm.outcome)
    ('Intercept', 'x')
    """
    if design.p == 0 or design.n > ROWS:
        return ()
    size = np.abs(design.X).max(axis=0)
    X = design.X / np.where(size > 0, size, 1.0)
    wanted = _gains(X, family, outcome)
    if wanted is None:
        return ()
    gaining, still = (np.unique(rows, axis=0) for rows in wanted)
    if not len(gaining):
        return ()
    from scipy.optimize import linprog

    equal = {"A_eq": still, "b_eq": np.zeros(len(still))} if len(still) else {}
    found = linprog(
        -gaining.sum(axis=0), A_ub=-gaining, b_ub=np.zeros(len(gaining)), bounds=[(-1, 1)] * gaining.shape[1], **equal,
    )  # fmt: skip
    if found.status != 0 or -found.fun < 1e-6:
        return ()
    d = np.asarray(found.x)
    gains = gaining @ d
    if gains.min() < -1e-7 or gains.max() < 1e-6:
        return ()
    return tuple(name for name, x in zip(design.coef, d[: design.p], strict=True) if abs(x) > 1e-6)


def _gains(X: np.ndarray, family: Family, outcome: Outcome) -> tuple[np.ndarray, np.ndarray] | None:
    """Inequalities row'd >= 0 that only gain, and rows that must stand still; None where nothing is endless."""
    if family.name == "cumulative":
        cuts = len(outcome.categories) - 1
        code = outcome.y.astype(int)
        at = np.eye(cuts)
        low, high = code < cuts, code > 0
        upper = np.hstack([-X[low], at[code[low]]])
        lower = np.hstack([X[high], -at[code[high] - 1]])
        return np.vstack([upper, lower]), np.zeros((0, X.shape[1] + cuts))
    sides = _sides(family, outcome)
    if sides is None:
        return None
    return sides[sides != 0, None] * X[sides != 0], X[sides == 0]


def _sides(family: Family, outcome: Outcome) -> np.ndarray | None:
    """Per row +1, -1 or 0: which way eta may go for ever; None for families without such ways."""
    if family.name == "binomial":
        N = np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials
        return np.where(N == 0, 0.0, np.where(outcome.y == N, 1.0, np.where(outcome.y == 0, -1.0, 0.0)))
    if family.name in ("poisson", "negative_binomial"):
        return np.where(outcome.y == 0, -1.0, 0.0)
    return None


def uniform_groups(design: Design, family: Family, outcome: Outcome) -> list[tuple[str, int, int]]:
    """Per level: (grouping, groups of which every row is at one end of what y can be, groups)."""
    ends = _ends(family, outcome)
    out = []
    for level in design.levels if ends else ():
        counts = np.bincount(level.index, minlength=level.m)
        alike = [np.bincount(level.index, weights=x, minlength=level.m) == counts for x in ends]
        seen = counts > 0
        out.append((level.label, int((np.any(alike, axis=0) & seen).sum()), int(seen.sum())))
    return out


def _ends(family: Family, outcome: Outcome) -> list[np.ndarray]:
    """Which rows are at an end of what y can be, beyond which an effect may go for ever."""
    if family.name == "binomial":
        N = np.ones(len(outcome.y)) if outcome.trials is None else outcome.trials
        return [outcome.y == 0, outcome.y == N]
    if family.name == "cumulative":
        return [outcome.y == 0, outcome.y == len(outcome.categories) - 1]
    if family.name in ("poisson", "negative_binomial"):
        return [outcome.y == 0]
    return []


def steep_groups(design: Design, family: Family, outcome: Outcome) -> list[tuple[str, str, int, int]]:
    """Per level with intercept and one slope: (grouping, slope, groups parted by it, groups of both kinds).

    A group is parted where all its rows at one end lie to one side of its other rows: its own slope may be endless.
    Groups of one kind only are not among them.
    """
    ends, out = _ends(family, outcome), []
    if family.name != "binomial":
        return []
    for level in design.levels:
        if level.r != 2 or not (level.columns[:, 0] == 1).all():
            continue
        x, low, high = level.columns[:, 1], ends[0], ends[1]
        edges = []
        for which in (low, high):
            least, most = np.full(level.m, np.inf), np.full(level.m, -np.inf)
            np.minimum.at(least, level.index[which], x[which])
            np.maximum.at(most, level.index[which], x[which])
            edges.append((least, most))
        between = np.bincount(level.index[~low & ~high], minlength=level.m) > 0
        both = np.isfinite(edges[0][0]) & np.isfinite(edges[1][0])
        parted = both & ~between & ((edges[0][1] <= edges[1][0]) | (edges[1][1] <= edges[0][0]))
        out.append((level.label, level.effects[1], int(parted.sum()), int((both | between).sum())))
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
    counts = family.name in ("poisson", "negative_binomial")
    for label, alike, groups in uniform_groups(design, family, outcome):
        if 2 * alike > groups:
            kind = "zeros only" if counts else "rows of one kind only (all at one end)"
            said.append(
                f"{alike} of {groups} groups of {label} have {kind}: how far out their effects lie is said by the "
                "normal distribution alone, and so is much of the SD."
            )
    for label, slope, parted, groups in steep_groups(design, family, outcome):
        if groups and 2 * parted > groups:
            said.append(
                f"In {parted} of {groups} groups of {label} with both kinds of rows {slope} parts the one kind from "
                "the other: how steep their slopes are is said by the normal distribution alone, and so is much of "
                "their SD. Leave the slope out, or state a prior for its SD."
            )
    return said
