"""Leave-one-out: how well each row, or each group, is predicted by all others.

The density of what is left out, given the parameters and the rest, is in closed form with the random effects integrated
out (`left_out`), so that only the few parameters have to be reweighted. Where even that fails, the posterior without
the unit is drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.criticism.components import Split, affordable_split
from bayeslmm.criticism.left_out import Values, left_out_densities
from bayeslmm.criticism.refit import posterior_without
from bayeslmm.criticism.units import Units, units_of
from bayeslmm.errors import DataError
from bayeslmm.model import Model
from bayeslmm.posterior.draws import check_tree, written_values
from bayeslmm.posterior.trust import PARETO_LIMIT
from bayeslmm.support.progress import Progress
from bayeslmm.support.text import listed
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.table import Table

if TYPE_CHECKING:
    import xarray as xr
    from arviz_stats.utils import ELPDDataLOO

WORK = 3e10  # multiplications up to which all draws are used
NUMBERS = 4e8  # densities up to which all draws are used
FEWEST = 400  # draws that are always used, where there are as many
LEAST = 100  # draws without which weights have no tail to speak of
REFITS = 200
FEWEST_REFITS = 5
COLUMNS = 10_000  # of Z times refits: a large model's refits take seconds each
REFIT_DRAWS = 1000
WORST = 5  # units that are shown

_REMEDY = "Write tree = lmm.sample(), and give the whole tree: lmm.loo(tree)."


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """Expected log predictive densities, unit by unit.

    Attributes
    ----------
    units : Units
        What was left out at a time.
    table : pandas.DataFrame
        Per unit: ``rows``, ``elpd`` (log predictive density), ``p`` (how much better the unit is predicted when it is
        among the data), ``pareto_k`` of the weights, and ``refitted``.
    draws : int
        Number of draws that were used.
    given : tuple of str
        Levels whose effects were taken from the draws, because integrating them out is too much work; () where all
        were integrated out.
    """

    units: Units
    table: pd.DataFrame
    draws: int
    given: tuple[str, ...]

    @property
    def elpd(self) -> float:
        """The sum over units; the larger, the better the predictions."""
        return float(self.table["elpd"].sum())

    @property
    def se(self) -> float:
        """Standard error of `elpd`, from its variation between units; NaN with one."""
        elpd = self.table["elpd"].to_numpy()
        return float(np.sqrt(elpd.size) * elpd.std()) if elpd.size > 1 else float("nan")

    @property
    def p(self) -> float:
        """Effective number of parameters: the sum over units."""
        return float(self.table["p"].sum())

    @property
    def unreliable(self) -> list[str]:
        """Units whose density is not to be relied on: weights with a Pareto k of 0.7 or more, and no refit."""
        bad = ~self.table["refitted"] & ~(self.table["pareto_k"] < PARETO_LIMIT)
        return self.table.index[bad].tolist()

    @property
    def how(self) -> str:
        """Which effects are integrated out."""
        if not self.given:
            return "All random effects are integrated out exactly (the marginal density), given the parameters"
        return (
            f"The effects of {' and '.join(self.given)} are taken from the draws (the conditional density), the "
            "others are integrated out exactly"
        )

    @property
    def note(self) -> str:
        """What was left out, how it was computed, and how far it can be relied on."""
        single = self.units.single
        what = (
            "Each row is left out and keeps its groups: this asks how well another row of a known group is predicted."
            if single
            else f"Each {self.units.name} is left out whole: this asks how well a new {self.units.name} is predicted."
        )
        how = self.how
        refits = int(self.table["refitted"].sum())
        said = f"{how}; {self.draws:,} draws are reweighted to leave the unit out."
        if refits == len(self.table):
            said += " Every unit was left out by drawing from the posterior without it."
        elif refits:
            one = "unit" if refits == 1 else "units"
            said += f" For {refits} {one} the weights failed: there the posterior without it was drawn."
        if self.unreliable:
            said += (
                f" Not to be relied on: {listed(self.unreliable, 5)}, whose weights have a Pareto k of {PARETO_LIMIT} "
                "or more, and which could not be left out by a new fit."
            )
        return (
            f"{what} {said} Compare an elpd with that of another model of the same data and unit, by its differences."
        )

    def to_arviz(self) -> ELPDDataLOO:
        """As ArviZ has it, so that ``arviz.compare`` takes it.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> loo = lmm.loo(lmm.sample(draws=500, random_seed=1, progress=False), unit="Batch")
        >>> loo.to_arviz().n_data_points
        6
        """
        import xarray as xr
        from arviz_stats.utils import ELPDDataLOO

        dim = self.units.name
        coords = {dim: self.table.index.to_numpy()}
        elpd, k, p = (
            xr.DataArray(self.table[name].to_numpy(), dims=dim, coords=coords) for name in ("elpd", "pareto_k", "p")
        )
        return ELPDDataLOO(
            elpd=self.elpd, se=self.se, p=self.p, n_samples=self.draws, n_data_points=len(self.table), scale="log",
            warning=bool(self.unreliable), good_k=PARETO_LIMIT, elpd_i=elpd, pareto_k=k, p_loo_i=p,
        )  # fmt: skip

    @property
    def summary(self) -> Table:
        """elpd, its SE and the effective parameters in a line, and the units whose rows are predicted worst."""
        by_row = self.table["elpd"] / self.table["rows"]  # in which units of y and sizes of groups make no order
        worst = self.table.loc[by_row.sort_values(kind="stable").index].head(WORST)
        whole = pd.DataFrame(
            {name: [self.table[name].sum()] for name in ("rows", "elpd", "p", "refitted")}, index=["all"]
        )
        frame = pd.concat([whole, worst])[["rows", "elpd", "p", "pareto_k", "refitted"]]
        frame = frame.astype({"rows": int, "refitted": int}).rename_axis(self.units.name)
        title = (
            f"Leave one {self.units.name} out: elpd {self.elpd:.2f}, SE {self.se:.2f}; those predicted worst, by row"
        )
        return Table(frame=frame, title=title, note=self.note)

    def __repr__(self) -> str:
        return repr(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def leave_one_out(
    model: Model, tree: xr.DataTree, unit: str = "row", *, refit: bool = True, progress: bool = True
) -> LeaveOneOut:
    """Leave one unit out at a time, as `LMM.loo` says."""
    design = model.design
    units = units_of(design, unit)
    check_tree(design, "given", tree, True, _REMEDY)
    split = affordable_split(model.statistics, units)
    values = _some_draws(model, tree, split, units)
    with Progress(progress) as bar, one_blas_thread():
        table = _reweighted(split, units, values, bar)
        if refit:
            table = _refitted(model, split, units, table, _seed(tree), bar)
    return LeaveOneOut(units=units, table=table, draws=len(values["sigma"]), given=split.given)


def _seed(tree: xr.DataTree) -> int:
    return max(int(tree.attrs.get("random_seed", 0)), 0)


def _some_draws(model: Model, tree: xr.DataTree, split: Split, units: Units) -> Values:
    """As many draws as can be paid for, evenly spaced: (N, ...) by name."""
    values = written_values(model.design, tree["posterior"].to_dataset())
    total = len(values["sigma"])
    if total < LEAST:
        raise DataError(
            f"The posterior has {total} draws; at least {LEAST} are needed to reweight them. Sample more, such as "
            "lmm.sample(draws=1000)."
        )
    wanted = min(WORK / max(split.cost, 1.0), NUMBERS / len(units.labels))
    keep = np.unique(np.linspace(0, total - 1, int(min(total, max(FEWEST, wanted)))).round().astype(int))
    return {name: x[keep] for name, x in values.items()}


def _reweighted(split: Split, units: Units, values: Values, bar: Progress) -> pd.DataFrame:
    size = len(units.labels)
    rows = np.bincount(units.index, minlength=size)
    elpd, p, pareto_k = np.empty(size), np.empty(size), np.empty(size)

    def settle(which: np.ndarray, logp: np.ndarray) -> None:
        elpd[which], p[which], pareto_k[which] = settled(logp)
        bar.advance(len(which))

    bar.stage(f"leaving out {units.name} by {units.name}", size)
    for which, logp in gathered(left_out_densities(split, units, values), rows, units, split):
        settle(which, logp)
    index = pd.Index(units.labels, name=units.name)
    return pd.DataFrame({"rows": rows, "elpd": elpd, "p": p, "pareto_k": pareto_k, "refitted": False}, index=index)


def settled(logp: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(elpd, p, Pareto k) of units whose log densities given the rest are logp (units, N)."""
    from arviz_stats.base import array_stats

    weights, k = array_stats.psislw(logp, r_eff=1.0, axis=-1)
    elpd = _log_mean(logp + weights) + np.log(logp.shape[1])
    return elpd, _log_mean(logp) - elpd, k


def gathered(parts: Any, rows: np.ndarray, units: Units, split: Split) -> Any:
    """Yield (units, log densities (units, N)) when all of a unit's components are there."""
    pieces = np.unique(np.stack([units.index, split.component_of]), axis=1)[0]
    missing = np.bincount(pieces, minlength=len(rows))
    waiting: dict[int, np.ndarray] = {}
    for which, logp in parts:
        missing[which] -= 1
        whole = (missing[which] == 0) & np.array([unit not in waiting for unit in which])
        if whole.any():
            yield which[whole], logp[whole]
        for unit, own in zip(which[~whole], logp[~whole], strict=True):
            waiting[unit] = waiting.get(unit, 0.0) + own
            if missing[unit] == 0:
                yield np.array([unit]), waiting.pop(unit)[None]


def _log_mean(x: np.ndarray) -> np.ndarray:
    top = x.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - top).mean(axis=-1)) + top[..., 0]


def _refitted(model: Model, split: Split, units: Units, table: pd.DataFrame, seed: int, bar: Progress) -> pd.DataFrame:
    """The table with the units whose weights fail left out by drawing from the posterior without them."""
    elpd, p, k = (table[name].to_numpy(copy=True) for name in ("elpd", "p", "pareto_k"))
    refitted = np.zeros(len(table), dtype=bool)
    bad = np.flatnonzero(~(k < PARETO_LIMIT))
    if split.given:  # what is given would have to be drawn without the unit too
        return table
    most = max(FEWEST_REFITS, min(REFITS, COLUMNS // max(model.design.q, 1)))
    bad = bad[np.argsort(-k[bad])][:most]
    bar.stage(f"fitting without one {units.name}", len(bad))
    for unit in bad:
        values = posterior_without(model, np.flatnonzero(units.index == unit), REFIT_DRAWS, seed)
        bar.advance()
        if values is None:
            continue
        here = float(_log_mean(density_of_unit(split, units.only(int(unit)), values)))
        elpd[unit], p[unit], refitted[unit] = here, elpd[unit] + p[unit] - here, True
    return table.assign(elpd=elpd, p=p, refitted=refitted)


def density_of_unit(split: Split, unit: Units, values: Values) -> np.ndarray:
    """log p(y_U | y_-U, parameters) (N,) of the rows whose index is 0."""
    total = np.zeros(len(values["sigma"]))
    for which, logp in left_out_densities(split, unit, values):
        if (which == 0).any():
            total += logp[which == 0][0]
    return total
