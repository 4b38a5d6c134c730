"""Predictive checks per level: whether the model would draw the likes of the data, within groups and between them.

Every statistic is a function of y alone (y less its least-squares fit on X, so that the mean is out of the way), taken
of the data and of replicates drawn from the posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.criticism.prior_predictive import draw_effects, draw_response
from bayeslmm.design.units import response_of
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.pictures.choices import sizes
from bayeslmm.pictures.results import OfDraws, thinned
from bayeslmm.support.figures import COLOURS, axes_of, cut, footnote, tidy, under

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign

EFFECTS = {
    "own": "replicates keep each group's own effects, and draw new rows",
    "new": "replicates draw new groups from the population, and new rows",
}
CELLS = 4_000_000  # numbers of replicates held at once
BLUE = "#0072B2"

Of = Callable[[np.ndarray], np.ndarray]  # residuals (draws, n) -> (draws,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistic:
    """A function of y: what it is, of which rows or groups, and whether it is in units of y."""

    title: str
    where: str
    of: Of
    in_units: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """One statistic of the data and of the replicates; `unit` is "" for one without."""

    title: str
    where: str
    unit: str
    observed: float
    drawn: np.ndarray

    @property
    def above(self) -> float:
        """Share of the replicates that lie above the data, those that equal it counted half."""
        return float((self.drawn > self.observed).mean() + (self.drawn == self.observed).mean() / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Checks:
    """All statistics of one kind of replicates.

    Attributes
    ----------
    effects : {"own", "new"}
    key : str
        Of the posterior's colour.
    checks : tuple of Check
    draws : int
        Replicates.
    """

    effects: str
    key: str
    checks: tuple[Check, ...]
    draws: int

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw a histogram of the replicates per statistic, and where the data stand."""
        titles = [check.title for check in self.checks]
        figure, axes = axes_of(ax, [""] * len(titles), 2.0)
        for a, check in zip(axes, self.checks, strict=True):
            a.hist(check.drawn, bins=25, color=COLOURS[self.key], alpha=0.45, lw=0)
            a.axvline(check.observed, color="#000000", lw=2)
            ends = np.append(np.quantile(check.drawn, [0.001, 0.999]), check.observed)
            pad = 0.06 * np.ptp(ends) or 0.5 * abs(check.observed) or 0.5
            a.set_xlim(ends.min() - pad, ends.max() + pad)
            a.set_yticks([])
            tidy(a, check.title, left=False, most=40)
            a.set_title(a.get_title(loc="left"), loc="left", fontsize=9)
            words = f"{check.where}, {check.unit}" if check.unit else check.where
            under(a, words, 29 if len(titles) > 2 else 44, f"\n{100 * check.above:.0f} % of replicates above")
        if ax is None:
            footnote(figure, f"Black: the data; {EFFECTS[self.effects]}; {self.draws} draws of the posterior")
        return figure


def predictive_checks(result: OfDraws, effects: str = "own", draws: int = 400, random_seed: int | None = 1) -> Checks:
    """Draw replicates of the data and take every statistic of them.

    Parameters
    ----------
    result : OfDraws
    effects : {"own", "new"}
        Whether the groups keep their effects, or are new ones from the population.
    draws : int
        At most so many draws of the posterior are used, evenly spaced.
    random_seed : int, optional
    """
    if effects not in EFFECTS:
        raise DescriptionError(
            f"effects={effects!r}; 'own' (the groups' effects are kept) or 'new' (groups are drawn anew) was expected."
            f"{did_you_mean(str(effects), EFFECTS)}"
        )
    design = result.design
    values, rng = thinned(result, draws, random_seed)
    statistics = list(_statistics(design))
    residuals = _Residuals(design)
    count = len(values["sigma"])
    drawn = np.empty((len(statistics), count))
    piece = max(1, CELLS // design.n)
    for first in range(0, count, piece):
        some = {name: x[first : first + piece] for name, x in values.items()}
        if effects == "new":
            some = some | draw_effects(design, some, rng)
        z = rng.standard_normal((len(some["sigma"]), design.n))
        r = residuals(draw_response(design, some, z))
        for k, statistic in enumerate(statistics):
            drawn[k, first : first + piece] = statistic.of(r)
    own = residuals(design.y[None])
    made = []
    for statistic, x in zip(statistics, drawn, strict=True):
        observed = float(statistic.of(own)[0])
        varies = np.ptp(x) > 1e-9 * np.abs(x).max()  # what is the same in all data says nothing
        if np.isfinite(observed) and np.isfinite(x).all() and varies:
            unit = cut(response_of(design), 20) if statistic.in_units else ""
            made.append(Check(title=statistic.title, where=statistic.where, unit=unit, observed=observed, drawn=x))
    if not made:
        raise DescriptionError("The data have too few rows and groups for any check: a statistic needs three of them.")
    return Checks(effects=effects, key=result.key, checks=tuple(made), draws=count)


class _Residuals:
    """y (draws, n) less its offset and its least-squares fit on X."""

    def __init__(self, design: Design):
        self.offset = 0.0 if design.offset is None else design.offset
        size = np.linalg.norm(design.X, axis=0)
        U, s, _ = np.linalg.svd(design.X / np.where(size > 0, size, 1.0), full_matrices=False)
        self.Q = U[:, s > 1e-10 * s.max(initial=0.0)]

    def __call__(self, y: np.ndarray) -> np.ndarray:
        r = y - self.offset
        return r - (r @ self.Q) @ self.Q.T


def _statistics(design: Design) -> Iterator[Statistic]:
    """Statistics of everything that the design has."""
    for level in design.levels:
        if 3 <= np.count_nonzero(sizes(level)) < design.n:
            where = f"of {cut(level.label, 28)}"
            yield Statistic(title="SD between means", where=where, of=partial(_spread, _means(level)))
        for e, name in enumerate(level.effects):
            slopes = _slopes(level, e) if np.ptp(level.columns[:, e]) > 0 else None
            if slopes is not None and slopes.shape[1] >= 3:
                where = f"{cut(name, 14)} by {cut(level.label, 14)}"
                yield Statistic(title="SD between slopes", where=where, of=partial(_spread, slopes))
    yield from _within(design)
    yield from _strata(design)
    yield from _neighbours(design)


def _within(design: Design) -> Iterator[Statistic]:
    level = finest(design)
    if level is None:
        yield Statistic(title="SD of the rows", where="around X beta", of=lambda r: r.std(axis=1))
        return
    where, centred = f"within {cut(level.label, 26)}", _centred(level)
    yield Statistic(title="SD of rows", where=where, of=lambda r: centred(r).std(axis=1))
    yield Statistic(title="largest residual in SDs", where=where, of=lambda r: _largest(centred(r)), in_units=False)
    rows = sizes(level)
    several = np.flatnonzero(rows >= 3)
    if len(several) < 3:
        return

    def uneven(r: np.ndarray) -> np.ndarray:
        squares = (centred(r) ** 2) @ _indicator(level) / np.maximum(rows, 1)
        sds = np.sqrt(squares[:, several])
        return _ratio(sds.max(axis=1), np.median(sds, axis=1))

    yield Statistic(title="largest SD of a group / median", where=where, of=uneven, in_units=False)


def _strata(design: Design) -> Iterator[Statistic]:
    residual = design.residual
    for k, label in enumerate(residual.strata[1:4], start=1):
        one, first = residual.stratum == k, residual.stratum == 0
        if one.sum() > 2 and first.sum() > 2:
            title = f"SD of {cut(label, 14)} / {cut(residual.strata[0], 14)}"
            yield Statistic(title=title, where="strata of the rows", of=partial(_against, one, first), in_units=False)


def _neighbours(design: Design) -> Iterator[Statistic]:
    """The correlation of rows that follow each other, in time where it is said, within blocks of R or groups."""
    residual, level = design.residual, finest(design)
    block = residual.block if residual.correlated else None if level is None else level.index
    if block is None:
        return
    time = residual.structure.asked.time
    place = design.frame[time].to_numpy(dtype=float) if time else np.arange(design.n, dtype=float)
    order = np.lexsort([place, block])
    same = np.flatnonzero(block[order][1:] == block[order][:-1])
    if len(same) < 3:
        return
    earlier, later = order[same], order[same + 1]
    centred = _centred(level) if level is not None else (lambda r: r - r.mean(axis=1, keepdims=True))

    def neighbours(r: np.ndarray) -> np.ndarray:
        w = centred(r)
        return _ratio((w[:, earlier] * w[:, later]).mean(axis=1), (w**2).mean(axis=1))

    how = f"by {cut(time, 20)}" if time else "in the table's order"
    yield Statistic(title="correlation of neighbours", where=how, of=neighbours, in_units=False)


def finest(design: Design) -> LevelDesign | None:
    """The level with the most groups that leaves rows within groups."""
    levels = [level for level in design.levels if np.count_nonzero(sizes(level)) < design.n]
    return max(levels, key=lambda level: level.m, default=None)


def _indicator(level: LevelDesign) -> Any:
    """Which group a row belongs to, (n, m), sparse."""
    from scipy import sparse

    n = len(level.index)
    return sparse.csr_array((np.ones(n), (np.arange(n), level.index)), shape=(n, level.m))


def _means(level: LevelDesign) -> Any:
    """What makes means of groups with rows from rows, (n, groups), sparse."""
    from scipy import sparse

    rows = sizes(level)
    there = np.flatnonzero(rows)
    return (_indicator(level)[:, there] @ sparse.diags_array(1 / rows[there])).tocsr()


def _slopes(level: LevelDesign, effect: int) -> Any:
    """What makes the least-squares slopes of one column within groups from rows, (n, groups), sparse."""
    from scipy import sparse

    x = level.columns[:, effect]
    rows = np.maximum(sizes(level), 1)
    own = x - (np.bincount(level.index, weights=x, minlength=level.m) / rows)[level.index]
    squares = np.bincount(level.index, weights=own**2, minlength=level.m)
    found = np.flatnonzero(squares > 1e-12 * max(float((x**2).max()), 1e-300))
    weight = np.divide(1.0, squares, out=np.zeros(level.m), where=squares > 0)
    n = len(x)
    whole = sparse.csr_array((own * weight[level.index], (np.arange(n), level.index)), shape=(n, level.m))
    return whole[:, found]


def _centred(level: LevelDesign) -> Of:
    """Residuals less the means of their groups."""
    A, rows = _indicator(level), np.maximum(sizes(level), 1)
    return lambda r: r - ((r @ A) / rows)[:, level.index]


def _spread(A: Any, r: np.ndarray) -> np.ndarray:
    """SD between what A makes of the rows."""
    return (r @ A).std(axis=1, ddof=1)


def _against(one: np.ndarray, first: np.ndarray, r: np.ndarray) -> np.ndarray:
    """SD of some rows over that of others."""
    return _ratio(r[:, one].std(axis=1), r[:, first].std(axis=1))


def _largest(w: np.ndarray) -> np.ndarray:
    return _ratio(np.abs(w).max(axis=1), w.std(axis=1))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A ratio, NaN where it is of zeros."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
