"""What each row or group does to the estimates: the fit without it, unit by unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.criticism.refit import statistics_without
from bayeslmm.criticism.units import Units, units_of
from bayeslmm.likelihood.fit import LikelihoodFit, fit_likelihood
from bayeslmm.model import Model
from bayeslmm.support.progress import Progress
from bayeslmm.support.text import listed
from bayeslmm.tables.table import Table

SHOWN = 10
LARGE = 1.0  # Cook's distance from which a unit moves the coefficients by about a standard error each


@dataclass(frozen=True, kw_only=True)
class Influence:
    """Estimates without each unit.

    Attributes
    ----------
    units : Units
    fit : LikelihoodFit
        Of all rows.
    table : pandas.DataFrame
        Per unit: ``rows``, ``cooks_distance`` of the coefficients, ``covratio`` (the determinant of their covariance
        without the unit, relative to that with it), ``status`` of the fit, and every estimate without the unit. NaN
        where the others don't determine the coefficients.

    Source: Cook (1977); Demidenko & Stukel (2005) for mixed models.
    """

    units: Units
    fit: LikelihoodFit
    table: pd.DataFrame

    @property
    def changes(self) -> pd.DataFrame:
        """Every estimate without the unit less the one with all, in its own units."""
        estimates = self.fit.estimates()
        return self.table[list(estimates.index)] - estimates

    @property
    def note(self) -> str:
        """Which units move the coefficients most, and how many the model can't do without."""
        sizes = self.table["cooks_distance"].dropna().sort_values(ascending=False)
        large = sizes.index[sizes > LARGE].tolist()
        said = f"Estimates by {self.fit.method} without each {self.units.name}, every one a fit of its own."
        if large:
            said += f" Without {listed(large, show=str)} the coefficients move by about a standard error or more."
        elif len(sizes):
            said += f" None moves the coefficients by a standard error; {sizes.index[0]} moves them most."
        needed = self.table.index[self.table["cooks_distance"].isna()].tolist()
        if needed and self.fit.design.p:
            said += f" Without {listed(needed, show=str)} some coefficient is not determined."
        loose = self.table.index[self.table["status"].isin(["flat", "not converged", "perfect fit"])].tolist()
        if loose:
            said += f" Without {listed(loose, show=str)} there are no estimates to rely on (see status)."
        return said

    @property
    def summary(self) -> Table:
        """The units that move the coefficients most."""
        top = self.table.sort_values("cooks_distance", ascending=False).head(SHOWN)
        return Table(
            frame=top, title=f"Estimates without each {self.units.name}, the most influential first", note=self.note
        )

    def __repr__(self) -> str:
        return repr(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def influence(model: Model, unit: str, *, reml: bool = True, progress: bool = True) -> Influence:
    """Fit without each unit, as `LMM.influence` says."""
    units = units_of(model.design, unit)
    fit = model.reml() if reml else model.ml()
    names = list(fit.estimates().index)
    beta, cov = fit.beta, fit.beta_cov
    whole = np.linalg.slogdet(cov)[1]
    rows = []
    with Progress(progress) as bar:
        bar.stage(f"fitting without each {units.name}", len(units.labels))
        for k in range(len(units.labels)):
            here = np.flatnonzero(units.index == k)
            stats = statistics_without(model.design, here)
            bar.advance()
            if stats is None:
                rows.append([len(here), np.nan, np.nan, "not determined", *[np.nan] * len(names)])
                continue
            other = fit_likelihood(stats, reml=reml)
            off = other.beta - beta
            distance = float(off @ np.linalg.solve(cov, off)) / max(len(beta), 1) if len(beta) else np.nan
            ratio = float(np.exp(np.linalg.slogdet(other.beta_cov)[1] - whole))
            rows.append([len(here), distance, ratio, other.status.name, *other.estimates().reindex(names)])
    index = pd.Index(units.labels, name=units.name)
    table = pd.DataFrame(rows, columns=["rows", "cooks_distance", "covratio", "status", *names], index=index)
    return Influence(units=units, fit=fit, table=table)
