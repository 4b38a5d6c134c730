"""Leave-one-out where the outcome isn't Gaussian: the unit's own effects integrated out by quadrature.

Only the parameters, and the effects of levels that can't be integrated with it, have to be reweighted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.criticism.link_left_out import MOST_EFFECTS, SETTLED, OneLevel
from bayeslmm.criticism.loo import LEAST, LeaveOneOut, settled
from bayeslmm.criticism.units import Units, units_of
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.factorisation.plan import nested_in
from bayeslmm.integration.quadrature import Quadrature, serves
from bayeslmm.integration.rows import build_rows
from bayeslmm.integration.rule import converged_nodes
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_draws import LinkValues, check_link_tree
from bayeslmm.support.arguments import check_flag
from bayeslmm.support.progress import Progress
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import xarray as xr

WORK = 2e8  # rows times draws times nodes up to which all draws are used
CHAIN_WORK = 4e6  # rows times draws, where levels are nested in the unit
FEWEST = 400  # draws that are always used, where there are as many
NODES = 40  # of the quadrature, about
UNITS = 500  # weighed at a time

_REMEDY = "Write tree = glmm.sample(), and give the whole tree: glmm.loo(tree)."


@dataclass(frozen=True, kw_only=True, repr=False)
class LinkLeaveOneOut(LeaveOneOut):
    """Expected log predictive densities, unit by unit, of an outcome that isn't Gaussian.

    Attributes
    ----------
    integrated : tuple of str
        Levels whose effects are integrated out.
    error : float
        What more nodes would still change of a log density, at most.
    """

    integrated: tuple[str, ...] = ()
    error: float = 0.0

    @property
    def how(self) -> str:
        """Which effects are integrated out, and which are taken from the draws."""
        if not self.integrated:
            given = f" and the effects of {' and '.join(self.given)}" if self.given else ""
            return f"Densities are given the parameters{given} of the draws (the conditional density)"
        said = f"The effects of {' and '.join(self.integrated)} are integrated out by quadrature, given the parameters"
        if self.given:
            said += f" and the effects of {' and '.join(self.given)}, which are taken from the draws"
        if self.error > SETTLED:
            said += f" (more nodes would still change a log density by {self.error:.1g})"
        return said


def link_leave_one_out(
    model: LinkModel, tree: xr.DataTree, unit: str = "row", *, progress: bool = True
) -> LinkLeaveOneOut:
    """Leave one unit out at a time, as `GLMM.loo` says."""
    check_flag("progress", progress)
    units = units_of(model.design, unit)
    check_link_tree(model, tree, True, _REMEDY)
    together = integrated_levels(model, units)
    values = _some_draws(model, tree, together, units)
    with Progress(progress) as bar, one_blas_thread(), np.errstate(over="ignore"):
        bar.stage(f"leaving out {units.name} by {units.name}", values.n)
        logp, error = _densities(values, together, units, bar)
        table = _table(units, logp)
    levels = model.design.levels
    return LinkLeaveOneOut(
        units=units, table=table, draws=values.n,
        given=tuple(level.label for k, level in enumerate(levels) if k not in together),
        integrated=tuple(levels[k].label for k in together), error=error,
    )  # fmt: skip


def integrated_levels(model: LinkModel, units: Units) -> tuple[int, ...]:
    """The levels whose effects are integrated out: those that only the unit tells of; for rows the finest one.

    Raises
    ------
    DescriptionError
        Where a group's effects can't be integrated out.
    """
    levels = model.design.levels
    free = [k for k, level in enumerate(levels) if not level.related and level.r <= MOST_EFFECTS]
    if units.level is None:
        return (max(free, key=lambda k: levels[k].m),) if free else ()
    within = [k for k in range(len(levels)) if nested_in(levels[k].index, units.index)]
    must = sorted({units.level, *within}, key=lambda k: -levels[k].m)
    instead = "Leave out rows: glmm.loo(tree, unit='row')."
    for k in must:
        if levels[k].related:
            raise DescriptionError(
                f"The groups of {levels[k].label} have a known covariance: what is left of one group is known from its "
                f"relatives, and a group can't be left out by itself. {instead}"
            )
        if levels[k].r > MOST_EFFECTS:
            raise DescriptionError(
                f"{levels[k].label} has {levels[k].r} effects a group; quadrature integrates {MOST_EFFECTS} at most. "
                f"{instead}"
            )
    if len(must) > 1 and (why := serves(build_rows(_only(model, must)))):
        raise DescriptionError(f"A whole {units.name} can't be left out: {why}. {instead}")
    return tuple(must)


def _only(model: LinkModel, levels: list[int] | tuple[int, ...]) -> Any:
    """The design with some of its levels."""
    return replace(model.design, levels=tuple(model.design.levels[k] for k in sorted(levels)))


def _some_draws(model: LinkModel, tree: xr.DataTree, together: tuple[int, ...], units: Units) -> LinkValues:
    """As many draws as can be paid for, evenly spaced."""
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    if values.n < LEAST:
        raise DataError(
            f"The posterior has {values.n} draws; at least {LEAST} are needed to reweight them. Sample more, such as "
            "glmm.sample(draws=1000)."
        )
    n, r = model.design.n, max((model.design.levels[k].r for k in together), default=0)
    wanted = CHAIN_WORK / n if len(together) > 1 else WORK / (n * NODES ** min(r, 2))
    return values.spread(int(max(FEWEST, wanted)))


def _densities(values: LinkValues, together: tuple[int, ...], units: Units, bar: Progress) -> tuple[np.ndarray, float]:
    """(log densities of the units given the rest (units, N), what more nodes would change)."""
    if not together:
        return values.logpdf(values.eta()).T, 0.0
    if len(together) > 1:
        return _of_chains(values, together, units, bar)
    one = OneLevel(values=values, k=together[0])
    nodes, error = one.nodes(by_row=units.single)
    out = np.empty((len(units.labels), values.n))
    step = max(1, values.n // 20)
    for lo in range(0, values.n, step):
        some = values.some(slice(lo, lo + step))
        out[:, lo : lo + step] = one.of_rows(nodes, some) if units.single else one.of_groups(nodes, some)
        bar.advance(some.n)
    return out, error


def _of_chains(values: LinkValues, together: tuple[int, ...], units: Units, bar: Progress) -> tuple[np.ndarray, float]:
    """The same of groups with groups in them, by nested quadrature, draw by draw."""
    model = values.model
    order = sorted(together)
    rows = build_rows(_only(model, order))
    level = model.design.levels[units.level] if units.level is not None else None
    assert level is not None
    seen = np.unique(level.index)
    out = np.empty((len(seen), values.n))

    def given(i: int) -> tuple[Any, ...]:
        some = values.some(slice(i, i + 1))
        parts = [(M @ some.factors[k][0]).ravel() for k, M in zip(order, rows.maps, strict=True)]
        fixed = some.eta(without=together)[0]
        return rows, model.family, model.outcome, fixed, np.concatenate(parts), some.psi[0], np.zeros(rows.design.q)

    first = given(0)
    nodes, _, left = converged_nodes(lambda n: float(Quadrature(nodes=n).groups(*first).sum()), SETTLED, 35)
    for i in range(values.n):
        out[:, i] = Quadrature(nodes=nodes).groups(*given(i))[seen]
        bar.advance()
    return out, left


def _table(units: Units, logp: np.ndarray) -> pd.DataFrame:
    found = [settled(logp[lo : lo + UNITS]) for lo in range(0, len(logp), UNITS)]
    elpd, p, k = (np.concatenate(column) for column in zip(*found, strict=True))
    rows = np.bincount(units.index, minlength=len(units.labels))
    index = pd.Index(units.labels, name=units.name)
    return pd.DataFrame({"rows": rows, "elpd": elpd, "p": p, "pareto_k": k, "refitted": False}, index=index)
