"""The integral over one group's effects: the integrand, Laplace's normal on it, a rule's nodes, their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.integration.product_rule import Groups, grid
from bayeslmm.support.arguments import check_whole
from bayeslmm.support.figures import COLOURS, axes_of, cut, key_below, tidy, under, upward

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.integration.fit import GLMMFit

COUNTS = (1, 3, 5, 7, 9, 15, 25, 35, 51)
SHARES = (0.02, 0.1, 0.3, 0.6, 0.9)  # of the highest point, at which lines of equal height are drawn
EXACT = 1e-12  # errors below are the rounding of the numbers
ONE, TWO = "#000000", "#D55E00"


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegralPicture:
    """One group's integral at a fit's estimates.

    Attributes
    ----------
    level : LevelDesign
    group : str
    u : (N, r) array
        Effects as written: points of a line, or of a square in rows.
    height : (N,) array
        The integrand there, 1 at its highest point.
    normal : (N,) array
        Laplace's normal curve, of the height of the integrand at its mode.
    nodes : (J, r) array
        Effects at the nodes of the rule that is drawn.
    weights : (J,) array
        The share of each in the sum.
    counts, errors : arrays
        Nodes for each effect, and what the log of the integral by so many has too much.
    where : str
        Where a slope's column has its zero in the picture, if that isn't zero itself: " at x = 2000".
    words : str
    """

    level: LevelDesign
    group: str
    u: np.ndarray
    height: np.ndarray
    normal: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    errors: np.ndarray
    where: str
    words: str

    def draw(self, ax: Sequence[Axes] | None = None) -> Figure:
        """Draw the integrand with Laplace's normal and the nodes, and beside it the errors by number of nodes."""
        from matplotlib.lines import Line2D

        figure, (left, right) = axes_of(ax, ["", ""], 3.4)
        of = f"{self.level.name}[{cut(self.group, 12)}]"
        (self._line if self.u.shape[1] == 1 else self._plane)(left, of)
        errors = np.maximum(np.abs(self.errors), EXACT)
        signs = {"^": self.errors > EXACT, "v": self.errors < -EXACT, ".": np.abs(self.errors) <= EXACT}
        right.plot(self.counts, errors, "-", color="#999999", lw=1)
        for marker, which in signs.items():
            right.plot(self.counts[which], errors[which], marker, color="#999999" if marker == "." else ONE, ms=5)
        right.set_yscale("log")
        right.set_xscale("log")
        tidy(right, "error of the log integral", most=40, ticks=False)
        ticks = [n for n in (1, 3, 9, 25, 51) if n <= self.counts.max()]
        right.set_xticks(ticks, [str(n) for n in ticks])
        right.minorticks_off()
        under(right, "nodes for each effect; 1 is Laplace's", 44)
        handles = {
            "integrand": Line2D([], [], color=ONE),
            "Laplace's normal": Line2D([], [], color=TWO, ls="--"),
            f"{len(self.nodes)} nodes": Line2D([], [], color=COLOURS["joint"], ls="", marker="o", ms=5),
            "too high": Line2D([], [], color=ONE, ls="", marker="^", ms=5),
            "too low": Line2D([], [], color=ONE, ls="", marker="v", ms=5),
        }
        key_below(figure, handles, self.words if ax is None else "")
        return figure

    def _line(self, a: Axes, of: str) -> None:
        x = self.u[:, 0]
        a.fill_between(x, 0, self.height, color="#000000", alpha=0.07, lw=0)
        a.plot(x, self.height, color=ONE, lw=1.4)
        a.plot(x, self.normal, "--", color=TWO, lw=1.4)
        at = np.interp(self.nodes[:, 0], x, self.height, left=0.0, right=0.0)
        a.vlines(self.nodes[:, 0], 0, at, color=COLOURS["joint"], lw=0.8)
        a.plot(self.nodes[:, 0], at, "o", color=COLOURS["joint"], ms=4)
        a.set_ylim(0, 1.08 * max(1.0, float(self.normal.max())))
        a.set_xlim(x[0], x[-1])
        a.set_yticks([])
        tidy(a, f"density of y and {of}", left=False, most=40)
        under(a, f"{of}, on the scale of the link", 44)

    def _plane(self, a: Axes, of: str) -> None:
        side = round(len(self.u) ** 0.5)
        shape = (side, side)
        x, y = (self.u[:, e].reshape(shape) for e in (0, 1))
        a.contour(x, y, self.height.reshape(shape), levels=SHARES, colors=ONE, linewidths=1.1)
        a.contour(x, y, self.normal.reshape(shape), levels=SHARES, colors=TWO, linewidths=1.1, linestyles="dashed")
        size = 4 + 60 * self.weights / self.weights.max()
        a.scatter(self.nodes[:, 0], self.nodes[:, 1], s=size, color=COLOURS["joint"], lw=0, zorder=3)
        a.set_xlim(x.min(), x.max())
        a.set_ylim(y.min(), y.max())
        tidy(a, f"density of y and {of}", most=40)
        under(a, f"{self.level.effects[0]}{self.where or ', on the scale of the link'}", 44)
        upward(a, self.level.effects[1], 30)


def integral_picture(
    fit: GLMMFit, group: object = None, level: str | None = None, nodes: int | None = None
) -> IntegralPicture:
    """Compute one group's integral; by default of the group where Laplace's approximation is worst."""
    chosen = _level(fit, level)
    k = fit.design.levels.index(chosen)
    place = _place(fit, chosen, group)
    if nodes is not None:
        check_whole("nodes", nodes, 1, example=9)
    shown = nodes or min(9, max(fit.nodes, 5))
    groups, back = _groups(fit, k, place)
    where, turn = _middle(chosen)
    back = turn @ back
    mode, A = groups.modes(np.zeros((1, chosen.r)))
    root = np.linalg.inv(np.linalg.cholesky(A[0])).T  # v = mode + root x
    v = _points(mode[0], root, chosen.r)
    top = float(groups.height(mode[None])[0, 0])
    height = np.exp(groups.height(v[:, None, :])[:, 0] - top)
    d = v - mode[0]
    normal = np.exp(-0.5 * np.einsum("na,ab,nb->n", d, A[0], d))
    x, log_w = grid(shown, chosen.r)
    at = mode[0] + x @ root.T
    terms = log_w + groups.height(at[:, None, :])[:, 0]
    weights = np.exp(terms - terms.max())
    exact = _exact(groups, mode[0], root, chosen.r)
    errors = np.array([_rule(groups, mode[0], root, n, chosen.r) - exact for n in COUNTS])
    others, count = len(fit.design.levels) > 1, int((chosen.index == place).sum())
    of = f"{chosen.label} {cut(str(chosen.groups[place]), 30)}, {count} row{'s' * (count != 1)}"
    words = (
        f"The integral over the effects of {of}, "
        f"at the estimates by {fit.approximation}"
        + ("; the effects of other levels are held at their modes" if others else "")
        + f". Laplace's normal makes its log {_off(errors[0])}."
    )
    return IntegralPicture(
        level=chosen, group=str(chosen.groups[place]), u=v @ back.T, height=height / max(1.0, float(height.max())),
        normal=normal / max(1.0, float(height.max())), nodes=at @ back.T, weights=weights / weights.sum(),
        counts=np.array(COUNTS), errors=errors, where=where, words=words,
    )  # fmt: skip


def _middle(level: LevelDesign) -> tuple[str, np.ndarray]:
    """(where, a matrix): an intercept and a slope whose column is far from zero are drawn at its mean."""
    turn = np.eye(level.r)
    if level.r < 2 or not (level.columns[:, 0] == 1).all():
        return "", turn
    x = level.columns[:, 1]
    if abs(x.mean()) < 2 * x.std() or x.std() == 0:
        return "", turn
    step = 10.0 ** np.floor(np.log10(x.std()))
    turn[0, 1] = step * np.round(x.mean() / step)
    return f" at {cut(level.effects[1], 10)} = {turn[0, 1]:.10g}", turn


def _off(error: float) -> str:
    if abs(error) < 1e-9:
        return "right to all digits"
    return f"{abs(error):.2g} too {'high' if error > 0 else 'low'}"


def _level(fit: GLMMFit, name: str | None) -> LevelDesign:
    levels = fit.design.levels
    names = [level.name for level in levels]
    if name is not None and name not in names:
        raise DescriptionError(f"level={name!r}; there are {', '.join(names)}.{did_you_mean(str(name), names)}")
    chosen = levels[names.index(name)] if name is not None else levels[0]
    if name is None and len(fit.approximation_error.groups):
        label = fit.approximation_error.groups.index.name
        chosen = next(level for level in levels if level.label == label)
    if chosen.related:
        raise DescriptionError(
            f"The groups of {chosen.label} have a known covariance: their effects are integrated together, and none of "
            "them has an integral of its own."
        )
    if chosen.r > 2:
        raise DescriptionError(f"{chosen.label} has {chosen.r} effects a group; one or two can be drawn.")
    if not (np.abs(fit.lambdas[levels.index(chosen)]).max() > 0):
        raise DescriptionError(f"The SD of {chosen.name} is zero: there is nothing to integrate.")
    return chosen


def _place(fit: GLMMFit, level: LevelDesign, group: object) -> int:
    labels = [str(one) for one in level.groups]
    if group is None:
        worst = fit.approximation_error.groups
        if len(worst) and worst.index.name == level.label:
            return list(level.groups).index(worst.index[0])
        sizes = np.bincount(level.index, minlength=level.m)
        return int(np.argmin(np.where(sizes > 0, sizes, np.iinfo(np.int64).max)))
    if str(group) not in labels:
        raise DescriptionError(f"group={group!r} is no group of {level.label}.{did_you_mean(str(group), labels)}")
    place = labels.index(str(group))
    if not (level.index == place).any():
        raise DescriptionError(f"The group {group!r} of {level.label} has no rows.")
    return place


def _groups(fit: GLMMFit, k: int, place: int) -> tuple[Groups, np.ndarray]:
    """The group's rows by themselves, and the factor that turns standard effects into effects as written."""
    problem, level = fit.problem, fit.design.levels[k]
    rows, x = problem.rows, fit.peak.x
    own = np.flatnonzero(level.index == place)
    at, span = rows.slices[k]
    factor = problem.lam(x)[span].reshape(level.r, level.r)
    others = fit.point.mode.b.copy()
    others[at] = 0.0
    base = problem.fixed(x) + rows.spread(others)
    groups = Groups(
        family=fit.family, outcome=fit.outcome.part(own), psi=problem.psi(x), base=base[own], z=rows.better[k][own],
        factor=factor, count=np.ones(len(own)), starts=np.zeros(1, dtype=np.int64),
        owner=np.zeros(len(own), dtype=np.int64),
    )  # fmt: skip
    return groups, np.linalg.inv(rows.maps[k]) @ factor


def _points(mode: np.ndarray, root: np.ndarray, r: int) -> np.ndarray:
    """Points (N, r) of standard effects around the mode: as far as the normal or the prior reaches."""
    spread = np.sqrt((root**2).sum(axis=1))
    ends = [(m - 4.5 * s, m + 4.5 * s) for m, s in zip(mode, spread, strict=True)]
    if r == 1:
        return np.linspace(*ends[0], 801)[:, None]
    axes = [np.linspace(*one, 121) for one in ends]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def _rule(groups: Groups, mode: np.ndarray, root: np.ndarray, nodes: int, r: int) -> float:
    x, log_w = grid(nodes, r)
    terms = log_w + groups.height((mode + x @ root.T)[:, None, :])[:, 0]
    top = terms.max()
    return float(top + np.log(np.exp(terms - top).sum()) + np.linalg.slogdet(root)[1])


def _exact(groups: Groups, mode: np.ndarray, root: np.ndarray, r: int) -> float:
    """The log integral by the trapezoidal rule, over all that the prior or the curvature reaches."""
    side = 20_001 if r == 1 else 401
    reach = np.maximum(np.abs(mode) + 9, 9 * np.sqrt((root**2).sum(axis=1)))
    x = np.linspace(-1, 1, side)
    unit = x[:, None] if r == 1 else np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    step, total, top = x[1] - x[0], 0.0, -np.inf
    for part in np.array_split(unit * reach, max(1, len(unit) * len(groups.base) // 1_000_000)):
        terms = groups.height(part[:, None, :])[:, 0]
        new = max(top, float(terms.max()))
        total = total * np.exp(top - new) + np.exp(terms - new).sum()
        top = new
    return float(top + np.log(total) + np.log(step * reach).sum() - r / 2 * np.log(2 * np.pi))
