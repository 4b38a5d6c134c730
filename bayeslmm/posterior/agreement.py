"""Whether two runs of one posterior agree: means, SDs and tails in Monte Carlo errors, and what one never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import xarray as xr

MEASURES = ["mean", "sd", "5 %", "95 %"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One run held against another of the same posterior, which is taken to be right.

    Attributes
    ----------
    table : DataFrame
        Per parameter the run's mean, SD, 5 % and 95 % quantile less the other's, in Monte Carlo errors of the
        difference; `low` and `high`, the run's quantiles; `width`, its 90 % interval's length relative to the other's;
        `below` and `above`, the shares of the other's draws outside of what the run ever visited; `least` and `most`,
        the ends of that; `effective`, its effective number of draws in the tails.
    """

    table: pd.DataFrame

    @cached_property
    def size(self) -> int:
        """Number of differences."""
        return int(self.table[MEASURES].notna().to_numpy().sum())

    def chance(self, p: float) -> float:
        """What the largest of as many independent standard normals stays below with probability p."""
        return NormalDist().inv_cdf((1 + p ** (1 / max(self.size, 1))) / 2)

    @cached_property
    def largest(self) -> tuple[float, str, str]:
        """(the largest difference in Monte Carlo errors, its parameter, its measure)."""
        z = self.table[MEASURES].abs().stack()
        if z.empty:
            return 0.0, "", ""
        parameter, measure = z.idxmax()
        return float(z.max()), str(parameter), str(measure)

    @cached_property
    def unvisited(self) -> pd.DataFrame:
        """Rows whose share below or above what the run visited is more than chance leaves out once in 1,000 runs."""
        shares = self.table[["below", "above"]].max(axis=1)
        limit = np.log(1000 * 2 * max(len(self.table), 1))  # a share s is missed with probability exp(-s n)
        return self.table[shares * self.table["effective"] > limit]

    @property
    def agree(self) -> bool:
        """Whether chance explains the differences: a larger one would be seen in one comparison of a thousand."""
        return self.largest[0] < self.chance(0.999) and self.unvisited.empty

    def missed(self, shown=lambda parameter, x: f"{x:.3g}") -> list[str]:
        """What the run has missed or added, in words without a subject; empty where chance explains it."""
        if self.agree:
            return []
        out = [*self._tail(shown), *self._width(), *self._unvisited(shown)]
        if not out:
            z, parameter, measure = self.largest
            what = {"mean": "mean", "sd": "SD"}.get(measure, f"{measure} quantile")
            out.append(f"its {what} of {parameter} is off by {z:.1f} Monte Carlo errors")
        return out

    def _tail(self, shown) -> list[str]:
        """The tail that is most too short."""
        short = pd.DataFrame({"95 %": -self.table["95 %"], "5 %": self.table["5 %"]}).stack()
        if short.empty or short.max() < self.chance(0.999):
            return []
        parameter, end = short.idxmax()
        row = self.table.loc[parameter]
        side, at = ("above", row["high"]) if end == "95 %" else ("below", row["low"])
        return [f"it missed a part of the tail of {parameter} {side} {shown(parameter, at)}"]

    def _width(self) -> list[str]:
        """The interval whose length is most wrong, among those with a quantile or SD that is."""
        wrong = self.table[["sd", "5 %", "95 %"]].abs().max(axis=1) >= self.chance(0.999)
        off = np.log(self.table.loc[wrong, "width"]).abs()
        if off.empty or off.max() < np.log(1.02):
            return []
        parameter = off.idxmax()
        width = self.table.loc[parameter, "width"]
        how = f"{100 * (1 - width):.0f} % too short" if width < 1 else f"{100 * (width - 1):.0f} % too long"
        return [f"its 90 % interval for {parameter} is {how}"]

    def _unvisited(self, shown) -> list[str]:
        out = []
        for parameter, row in self.unvisited.iterrows():
            side, at = ("above", row["most"]) if row["above"] >= row["below"] else ("below", row["least"])
            share = 100 * row[["below", "above"]].max()
            out.append(f"it never went {side} {parameter} = {shown(parameter, at)}, where {share:.2g} % of it lies")
        return out[:2]


def agreement(run: xr.DataArray, other: xr.DataArray) -> Agreement:
    """Hold a run against another: draws (chain, draw, parameter) of the same parameters.

    Examples
    --------
    >>> import xarray as xr
    >>> rng = np.random.default_rng(1)
    >>> x = xr.DataArray(rng.normal(size=(2, 4, 1000, 1)), dims=("run", "chain", "draw", "parameter"))
    >>> x = x.assign_coords(parameter=["a"])
    >>> agreement(x[0], x[1]).agree
    True
    >>> agreement(x[0].clip(max=0.8), x[1]).missed()[1]
    'its 90 % interval for a is 24 % too short'
    """
    import arviz as az

    names = run["parameter"].values.tolist()
    rows = {}
    for k, name in enumerate(names):
        x, y = np.asarray(run)[..., k], np.asarray(other)[..., k]
        row = dict.fromkeys(MEASURES, np.nan)
        if min(x.shape[1], y.shape[1]) >= 4 and np.ptp(x) > 0 and np.ptp(y) > 0:
            for measure, (of, options) in _HOW.items():
                error = np.hypot(az.mcse(x, **options), az.mcse(y, **options))
                row[measure] = (of(x) - of(y)) / error if error > 0 else np.nan
            row |= {"effective": float(az.ess(x, method="tail", prob=(0.05, 0.95)))}
        low, high = np.quantile(x, [0.05, 0.95])
        wide = np.ptp(np.quantile(y, [0.05, 0.95]))
        row |= {"low": low, "high": high, "width": (high - low) / wide if wide > 0 else np.nan}
        row |= {"least": x.min(), "most": x.max(), "below": np.mean(y < x.min()), "above": np.mean(y > x.max())}
        rows[name] = row
    columns = [*MEASURES, "low", "high", "width", "below", "above", "least", "most", "effective"]
    return Agreement(table=pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns))


_HOW: dict[str, tuple[Callable[[np.ndarray], Any], dict[str, Any]]] = {
    "mean": (np.mean, {"method": "mean"}),
    "sd": (np.std, {"method": "sd"}),
    "5 %": (lambda x: np.quantile(x, 0.05), {"method": "quantile", "prob": 0.05}),
    "95 %": (lambda x: np.quantile(x, 0.95), {"method": "quantile", "prob": 0.95}),
}
