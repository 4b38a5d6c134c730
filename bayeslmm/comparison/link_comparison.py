"""One model of an outcome that isn't Gaussian, by each approximation of its integral and by its posteriors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.comparison.link_findings import link_findings
from bayeslmm.comparison.tables import WIDTH, blocks_text
from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DescriptionError, did_you_mean, visible
from bayeslmm.integration.quadrature import serves
from bayeslmm.posterior.draws import seconds_of, summary
from bayeslmm.support.text import decimals, fixed

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from bayeslmm.integration.fit import GLMMFit
    from bayeslmm.link_model import LinkModel

VARIANTS = ("joint", "marginal", "marginal laplace", "marginal quadrature")
SHOWN = ["mean", "sd", "2.5 %", "97.5 %"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkComparison:
    """One model by ML with each approximation that serves it, beside posteriors.

    Attributes
    ----------
    model : GLMM
    fits : mapping of "laplace" and, where it serves, "quadrature" to GLMMFit
    posteriors : mapping of variant to xarray.DataTree

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
    >>> both = blm.compare(blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson"), variants=())
    >>> list(both.fits), both.table.columns.get_level_values(0).unique().tolist()
    (['laplace', 'quadrature'], ['ML laplace', 'ML quadrature', 'laplace off'])
    """

    model: LinkModel
    fits: Mapping[str, GLMMFit]
    posteriors: Mapping[str, xr.DataTree]

    @property
    def best(self) -> GLMMFit:
        """The fit by the best approximation that there is."""
        return list(self.fits.values())[-1]

    @cached_property
    def off(self) -> pd.DataFrame:
        """How far Laplace's estimates are from the likelihood's own maximum, in standard errors: per parameter.

        By quadrature, the difference of both maxima in units of its standard errors; by importance sampling, a Newton
        step from Laplace's maximum along the gradient of the likelihood, with its Monte Carlo error ("mc_error"). NaN
        where neither is known.
        """
        laplace = self.fits["laplace"]
        frame = pd.DataFrame({"se": np.nan, "mc_error": np.nan}, index=laplace.estimates().index)
        if "quadrature" in self.fits:
            better = self.fits["quadrature"]
            frame["se"] = (laplace.estimates() - better.estimates()) / better.estimates_se
            frame["mc_error"] = 0.0
        elif laplace.approximation_error.slopes:
            steps = [laplace.step(one) / laplace.estimates_se for one in laplace.approximation_error.slopes]
            frame["se"] = -np.mean(steps, axis=0)
            frame["mc_error"] = np.std(steps, axis=0, ddof=1) / np.sqrt(len(steps))
        return frame

    @cached_property
    def draws(self) -> dict[str, xr.DataArray]:
        """Per posterior the draws of the table's parameters: chain, draw, parameter."""
        return {name: link_draws(self.model, tree) for name, tree in self.posteriors.items()}

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per parameter; columns (source, number).

        Sources: "ML laplace" and "ML quadrature" (estimate, se), "laplace off" (as in `off`), and each posterior (mean,
        sd, 2.5 %, 97.5 %, ess, ess_per_second, rhat).
        """
        parts: dict[str, pd.DataFrame] = {
            f"ML {name}": pd.DataFrame({"estimate": fit.estimates(), "se": fit.estimates_se})
            for name, fit in self.fits.items()
        }
        parts["laplace off"] = self.off
        for name, draws in self.draws.items():
            parts[name] = summary(draws, seconds_of(self.posteriors[name]))[0]
        return pd.concat(parts, axis=1)

    @cached_property
    def logliks(self) -> pd.DataFrame:
        """The log-likelihood at each fit's estimates, by its approximation and by the best one with its uncertainty."""
        rows = {}
        for name, fit in self.fits.items():
            error = fit.approximation_error
            rows[f"ML {name}"] = {
                "by itself": fit.loglik, "better": error.better, "how": error.how or error.why_not,
                "uncertainty": error.uncertainty, "laplace too high by": error.value,
            }  # fmt: skip
        return pd.DataFrame.from_dict(rows, orient="index")

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What the comparison shows, a paragraph each."""
        return tuple(link_findings(self))

    @property
    def text(self) -> str:
        """The findings as paragraphs."""
        return visible("\n\n".join(self.findings))

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The table as text, each row with as many decimals as its standard error or posterior SD deserves."""
        table = self.table
        se = table[("ML laplace", "se")].to_numpy()
        for name in self.draws:
            se = np.where(np.isfinite(se), se, table[(name, "sd")].to_numpy())
        columns = [
            column for column in table.columns
            if column[0] == "laplace off" or column[1] in ("estimate", "se", "ess", "rhat", *SHOWN)
        ]  # fmt: skip
        own = {"ess": 0, "rhat": 3}
        rows = [
            [fixed(x, 2 if source == "laplace off" else own.get(number, decimals(sd))) for x, (source, number) in zip(
                row, columns, strict=True
            )]
            for row, sd in zip(table[columns].to_numpy(), se, strict=True)
        ]  # fmt: skip
        return pd.DataFrame(rows, index=table.index, columns=pd.MultiIndex.from_tuples(columns))

    def plot(self) -> Figure:
        """Draw the estimates and intervals of every parameter, and the density of every SD with its prior.

        Returns
        -------
        matplotlib.figure.Figure
            ML by each approximation with 95 % Wald limits, posteriors with mean and middle 95 %; the densities only
            where there are posteriors.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> both = blm.compare(blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson"), variants=())
        >>> [axes.get_title(loc="left") for axes in both.plot().axes]
        ['beta[Intercept]', 'sigma_u2']
        """
        from bayeslmm.comparison.link_plots import overview

        return overview(self)

    def report(
        self, path: str | Path, *, title: str | None = None, source: str | None = None, notes: str | None = None
    ) -> Path:
        """Write a self-contained HTML report: one file, pictures inside, nothing fetched.

        Parameters
        ----------
        path : str or Path
            Where to write; missing folders are made, an existing file is replaced in one step.
        title, source, notes : str, optional
            Shown at the top.

        Returns
        -------
        Path
            Of the file written.

        Raises
        ------
        DescriptionError
            If the path is none, is a folder, or can't be written to.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> from tempfile import TemporaryDirectory
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> both = blm.compare(blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson"), variants=())
        >>> with TemporaryDirectory() as folder:
        ...     both.report(f"{folder}/report.html", title="Eight counts").name
        'report.html'
        """
        from bayeslmm.comparison.link_report import report_html
        from bayeslmm.support.page import write_page

        return write_page(path, lambda: report_html(self, title=title, source=source, notes=notes))

    def __str__(self) -> str:
        parts = [
            fill(f"{self.model.formula}, {self.model.family}", WIDTH),
            blocks_text(self.shown),
            *(fill(one, WIDTH) for one in self.findings),
        ]
        return visible("\n\n".join(parts) + "\n")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from html import escape

        words = "".join(f"<p>{escape(one)}</p>" for one in self.findings)
        return self.shown.to_html(border=0) + words


def compare_link(
    model: LinkModel,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    variants: str | Iterable[str] = ("joint", "marginal"),
    progress: bool = True,
) -> LinkComparison:
    """Fit by each approximation, sample the posteriors that are asked for, and put the results side by side.

    Parameters
    ----------
    variants : names among "joint", "marginal", "marginal laplace", "marginal quadrature"
        Which posteriors to sample; () for none.
    """
    names = _names(model, variants)
    settings: dict[str, Any] = {
        "draws": draws, "tune": tune, "chains": chains, "random_seed": random_seed, "progress": progress,
    }  # fmt: skip
    kinds = ["laplace"] if serves(model.problem.rows) else ["laplace", "quadrature"]
    fits = {kind: model.ml(kind) for kind in kinds}
    from bayeslmm.posterior.link_sampling import sample_link

    posteriors = {}
    for name in names:
        variant, _, approximation = name.partition(" ")
        posteriors[name] = sample_link(model, variant, approximation=approximation, **settings)
    return LinkComparison(model=model, fits=fits, posteriors=posteriors)


def _names(model: LinkModel, given: Any) -> tuple[str, ...]:
    remedy = "Write variants=['joint', 'marginal laplace'], or variants=() for maximum likelihood alone."
    if not isinstance(given, Iterable):
        raise DescriptionError(f"variants={given!r}; expected names of posteriors. {remedy}")
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in VARIANTS:
            raise DescriptionError(
                f"There is no posterior {name!r}; there are {', '.join(map(repr, VARIANTS))}."
                f"{did_you_mean(str(name), VARIANTS)} {remedy}"
            )
        if name == "marginal quadrature" and (why := serves(model.problem.rows)):
            raise DescriptionError(f"{name!r} can't be had: {why}. {remedy}")
    if len(set(names)) < len(names):
        raise DescriptionError(f"variants={given!r} names one twice; each is sampled once. {remedy}")
    return names


def link_draws(model: LinkModel, tree: xr.DataTree) -> xr.DataArray:
    """The draws of every parameter under the names of `GLMMFit.estimates`: dims chain, draw, parameter."""
    import xarray as xr

    posterior = tree["posterior"].to_dataset()

    def flat(name: str) -> np.ndarray:
        values = np.asarray(posterior[name].transpose("chain", "draw", ...).values, dtype=float)
        return values.reshape(*values.shape[:2], -1)

    names = [f"beta[{name}]" for name in model.design.coef]
    columns = [flat("beta")]
    for level in model.design.levels:
        own = level_names(level)
        names += [*level.sd_labels, *level.correlation_labels]
        columns.append(flat(own.sigma))
        if level.correlated:
            matrix = np.asarray(posterior[own.corr].transpose("chain", "draw", ...).values, dtype=float)
            columns.append(level.structure.correlation_values(matrix))
    labels = model.family.dispersion_labels(model.outcome)
    names += labels
    columns += [flat("threshold")] if not model.family.has_intercept else [flat(label) for label in labels]
    values = np.concatenate(columns, axis=-1)
    return xr.DataArray(values, dims=("chain", "draw", "parameter"), coords={"parameter": names})
