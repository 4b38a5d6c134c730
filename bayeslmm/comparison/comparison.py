"""ML, REML, the joint and the marginal posterior of one model side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from bayeslmm.comparison.findings import findings, listed, paragraphs
from bayeslmm.comparison.link_comparison import LinkComparison, compare_link
from bayeslmm.errors import DescriptionError, visible
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model, check_model
from bayeslmm.posterior.agreement import Agreement, agreement
from bayeslmm.posterior.draws import (
    VARIANTS,
    check_tree,
    check_variant,
    density_of,
    effect_labels,
    parameter_draws,
    sd_labels,
    seconds_of,
    summary,
)
from bayeslmm.posterior.sd_densities import Curve, sd_curves
from bayeslmm.posterior.trust import Judgement, divergent, judge
from bayeslmm.support.arguments import check_flag
from bayeslmm.support.text import decimals, fixed

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from bayeslmm.comparison.findings import Finding
    from bayeslmm.likelihood.fit import LikelihoodFit


@overload
def compare(
    lmm: Model,
    *,
    draws: int = ...,
    tune: int = ...,
    chains: int = ...,
    random_seed: int | None = ...,
    random_effects: bool = ...,
    variants: str | Sequence[str] = ...,
    progress: bool = ...,
) -> Comparison: ...
@overload
def compare(
    lmm: LinkModel,
    *,
    draws: int = ...,
    tune: int = ...,
    chains: int = ...,
    random_seed: int | None = ...,
    random_effects: bool = ...,
    variants: str | Sequence[str] = ...,
    progress: bool = ...,
) -> LinkComparison: ...
def compare(
    lmm: Model | LinkModel,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    random_effects: bool = False,
    variants: str | Sequence[str] = VARIANTS,
    progress: bool = True,
) -> Comparison | LinkComparison:
    """Fit by ML and REML, sample the joint and the marginal model, and put the results side by side.

    A GLMM is fitted by ML with each approximation of its integral, and sampled.

    Parameters
    ----------
    lmm : LMM or GLMM
        The model.
    draws, tune, chains, random_seed, progress
        As in `LMM.sample`, the same for every variant.
    random_effects : bool
        Whether the table also has a row for each random effect.
    variants : {"joint", "marginal"} or sequence of them
        Which posteriors to sample: both by default. Of a GLMM, by default "joint"; "marginal laplace" and
        "marginal quadrature" too, and () for none.

    Returns
    -------
    Comparison, or LinkComparison of a GLMM

    Raises
    ------
    DescriptionError
        If the model is none, or an argument is none of the above.
    SamplingError
        If a run was interrupted or came back unusable.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants=["marginal"], progress=False)
    >>> list(both.table.index)
    ['beta[Intercept]', 'sigma', 'sigma_u2']
    """
    if isinstance(lmm, LinkModel):
        if random_effects:
            raise DescriptionError(
                "random_effects=True: a GLMM's table has its parameters only; its effects are in ml().ranef."
            )
        return compare_link(
            lmm, draws=draws, tune=tune, chains=chains, random_seed=random_seed, progress=progress,
            variants=("joint", "marginal") if variants is VARIANTS else variants,
        )  # fmt: skip
    check_model(lmm, "blm.compare(lmm)")
    check_flag("random_effects", random_effects)
    names = _variants(variants)
    from bayeslmm.criticism.groups import complete
    from bayeslmm.posterior.sampling import sample

    settings: dict[str, Any] = {"draws": draws, "tune": tune, "chains": chains, "random_seed": random_seed}
    posteriors = {name: complete(lmm, sample(lmm, name, **settings, progress=progress)) for name in names}
    return compare_posteriors(lmm, posteriors, random_effects=random_effects)


def _variants(given: Any) -> tuple[str, ...]:
    """The names of the variants to sample, each once."""
    remedy = "Write variants=['joint', 'marginal'], or one of them."
    if not isinstance(given, Iterable):
        raise DescriptionError(f"variants={given!r}; expected names of variants. {remedy}")
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        check_variant(name)
    if len(set(names)) < len(names):
        raise DescriptionError(f"variants={given!r} names one twice; each is sampled once. {remedy}")
    return names


def compare_posteriors(lmm: Model, posteriors: Mapping[str, xr.DataTree], random_effects: bool = False) -> Comparison:
    """Compare ML and REML with posteriors that are there already.

    Parameters
    ----------
    lmm : LMM
        The model that the posteriors were sampled from.
    posteriors : mapping of "joint" and/or "marginal" to xarray.DataTree
        As `LMM.sample` returns them.
    random_effects : bool
        Whether the table also has a row for each random effect.

    Examples
    --------
    >>> import arviz as az, bayeslmm as blm
    >>> from bayeslmm.comparison.comparison import compare_posteriors
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> rng = np.random.default_rng(1)
    >>> values = {"sigma": rng.gamma(3, size=(4, 100)), "sigma_u2": rng.gamma(3, size=(4, 100))}
    >>> tree = az.from_dict({"posterior": values | {"beta": rng.normal(size=(4, 100, 1))}})
    >>> compare_posteriors(lmm, {"joint": tree}).table["reml"].round(2)
                     estimate    se
    beta[Intercept]      4.83  2.03
    sigma                0.71   NaN
    sigma_u2             3.48   NaN
    """
    check_model(lmm, "compare_posteriors(lmm, posteriors)")
    if not isinstance(posteriors, Mapping) or not posteriors:
        came = "" if isinstance(posteriors, Mapping) else f" (a {type(posteriors).__name__} came)"
        raise DescriptionError(
            f"No posterior was given{came}; one or two were expected: "
            "compare_posteriors(lmm, {'marginal': lmm.sample('marginal')})."
        )
    for name, tree in posteriors.items():
        check_variant(name)
        remedy = f"Write compare_posteriors(lmm, {{{name!r}: lmm.sample({name!r})}})."
        check_tree(lmm.design, name, tree, random_effects, remedy)
    ordered = {name: posteriors[name] for name in VARIANTS if name in posteriors}
    return Comparison(model=lmm, posteriors=ordered, random_effects=random_effects)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One model, fitted by ML and REML and sampled in up to two variants, and what that shows.

    Attributes
    ----------
    model : Model
    posteriors : mapping of variant to xarray.DataTree
    random_effects : bool
        Whether the table has the random effects too.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants="marginal", progress=False)
    >>> both.variants, both.values("marginal", "sigma").shape
    (('marginal',), (400,))
    """

    model: Model
    posteriors: Mapping[str, xr.DataTree]
    random_effects: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """The sampled variants, in the order of the table."""
        return tuple(self.posteriors)

    @property
    def ml(self) -> LikelihoodFit:
        """The maximum likelihood fit."""
        return self.model.ml()

    @property
    def reml(self) -> LikelihoodFit:
        """The REML fit."""
        return self.model.reml()

    @cached_property
    def draws(self) -> dict[str, xr.DataArray]:
        """Per variant the draws of the table's parameters: chain, draw, parameter."""
        return {
            name: parameter_draws(self.model.design, tree, self.random_effects)
            for name, tree in self.posteriors.items()
        }

    def values(self, variant: str, parameter: str) -> np.ndarray:
        """All draws of one parameter of the table, the chains one after the other: (chains x draws,).

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants="marginal", progress=False)
        >>> both.values("marginal", "sigma").shape
        (400,)
        """
        return self.draws[variant].sel(parameter=parameter).values.ravel()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per parameter; columns (source, number).

        Sources are "ml" and "reml" (estimate; se, the conditional SD for a random effect, NaN for a variance
        parameter), each variant (mean, sd, 2.5 %, 97.5 %, ess, ess_per_second, rhat), and "difference" (mcse:
        the joint's mean less the marginal's, in units of the Monte Carlo error of that difference).
        """
        blocks = {"ml": self._estimates(self.ml), "reml": self._estimates(self.reml)}
        errors = {}
        for name, draws in self.draws.items():
            blocks[name], errors[name] = summary(draws, seconds_of(self.posteriors[name]))
        if len(self.variants) == 2:
            one, two = self.variants
            error = np.hypot(errors[one], errors[two])
            with np.errstate(invalid="ignore", divide="ignore"):
                units = (blocks[one]["mean"] - blocks[two]["mean"]) / error
            blocks["difference"] = units.to_frame("mcse")
        return pd.concat(blocks, axis=1)

    def _estimates(self, fit: LikelihoodFit) -> pd.DataFrame:
        value = fit.estimates()
        se = pd.Series(np.nan, index=value.index)
        se.iloc[: len(fit.fixef)] = fit.fixef_se.to_numpy()
        out = pd.DataFrame({"estimate": value, "se": se})
        if not self.random_effects:
            return out
        rows = [out]
        for level in self.model.design.levels:
            frame = fit.ranef[level.name]
            modes, sds = frame.iloc[:, : level.r].to_numpy(), frame.iloc[:, level.r :].to_numpy()
            rows.append(pd.DataFrame({"estimate": modes.ravel(), "se": sds.ravel()}, index=effect_labels(level)))
        return pd.concat(rows)

    @cached_property
    def agreement(self) -> Agreement | None:
        """The joint's draws of the parameters held against the marginal's; None where one of them is missing."""
        if len(self.variants) < 2:
            return None
        names = list(self.ml.estimates().index)
        return agreement(*(self.draws[name].sel(parameter=names) for name in self.variants))

    @cached_property
    def judgements(self) -> dict[str, Judgement]:
        """Per variant what speaks against it: its doubts, and where the two variants disagree.

        A marginal that passes by itself is the measure of the joint: there is nothing in it that NUTS could miss where
        random effects are tied to their SDs.
        """
        found = {name: judge(tree) for name, tree in self.posteriors.items()}
        if self.agreement is None or self.agreement.agree or not found["marginal"].trusted:
            return found
        missed = self.agreement.missed(lambda name, x: fixed(x, self.places(name)))
        held = f"held against the marginal posterior, {listed(missed)}"
        found["joint"] = replace(found["joint"], doubts=(*found["joint"].doubts, held))
        return found

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        """Per variant: sampler, draws, seconds, divergences, the worst ESS and R-hat, ``trusted`` and ``doubts``.

        The last two are those of `judgements`. Seconds are in all, and apart for compiling and for sampling; effective
        draws per second likewise.
        """
        rows = {}
        for name, tree in self.posteriors.items():
            part, draws = self.table[name], self.draws[name]
            ess, rhat = part["ess"], part["rhat"]
            # an undefined R-hat or ESS must not pass for a good one
            worst_ess = float(ess.min()) if ess.notna().all() else np.nan
            sampling = seconds_of(tree, "seconds_sampling")
            rows[name] = {
                "sampler": str(tree.attrs.get("sampler", "")),
                "chains": draws.sizes["chain"],
                "draws": draws.sizes["draw"],
                "seconds": seconds_of(tree),
                "seconds_compiling": seconds_of(tree, "seconds_compiling"),
                "seconds_sampling": sampling,
                "divergences": np.nan if (at := divergent(tree)) is None else int(at.sum()),
                "min_ess": worst_ess,
                "min_ess_per_second": worst_ess / seconds_of(tree),
                "min_ess_per_second_sampling": worst_ess / sampling,
                "max_rhat": float(rhat.max()) if rhat.notna().all() else np.nan,
                "trusted": self.judgements[name].trusted,
                "doubts": self.judgements[name].text,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def best(self) -> str:
        """The variant whose posterior is quoted: trusted before not, then the larger smallest ESS."""
        d = self.diagnostics
        return max(d.index, key=lambda v: (d.loc[v, "trusted"], np.nan_to_num(d.loc[v, "min_ess"], nan=-1.0)))

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The posterior density of each SD: computed where that can be, else smoothed from draws."""
        exact = sd_curves(self.model)
        return {name: exact.get(name) or self._smoothed(name) for name in sd_labels(self.model.design)}

    def _smoothed(self, name: str) -> Curve:
        grid, density = density_of(self.values(self.best, name))
        return Curve(grid=grid, density=density, exact=False)

    @cached_property
    def centres(self) -> pd.DataFrame:
        """Each SD by five rules: ML, REML, and the mode, median and mean of the posterior.

        The mode is the highest point of the density on the scale of the SD, `curves`, and so the same for every run;
        where that is all but flat at its top, ``curves[name].flat`` says from where to where. Median and mean are those
        of the draws of `best`.
        """
        rows = {}
        for name in sd_labels(self.model.design):
            x = self.values(self.best, name)
            rows[name] = {
                "ml": self.table.loc[name, ("ml", "estimate")],
                "reml": self.table.loc[name, ("reml", "estimate")],
                "mode": self.curves[name].mode,
                "median": np.median(x),
                "mean": x.mean(),
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def mode_text(self, parameter: str) -> str:
        """Write the mode of an SD's posterior: "0.83", or "flat, 0.00 to 0.27", or "about 0.8" if read off draws.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants="marginal", progress=False)
        >>> both.mode_text("sigma")
        '0.7...'
        """
        curve, places = self.curves[parameter], self.places(parameter)
        if curve.flat and fixed(curve.flat[0], places) != fixed(curve.flat[1], places):
            return f"flat, {fixed(curve.flat[0], places)} to {fixed(curve.flat[1], places)}"
        return fixed(curve.mode, places) if curve.exact else f"about {fixed(curve.mode, max(places - 1, 0))}"

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What the comparison shows: each finding a topic and a paragraph, said only when the facts hold."""
        return findings(self)

    @property
    def text(self) -> str:
        """The findings as paragraphs."""
        return "\n\n".join(found.text for found in self.findings)

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The table as text, each row with as many decimals as its posterior SD deserves."""
        columns = self.table.columns
        precise = {"rhat": 3, "mcse": 1, "ess": 0, "ess_per_second": 0}
        rows = []
        for row, sd in zip(self.table.to_numpy(), self.table[(self.best, "sd")], strict=True):
            places = decimals(sd)
            rows.append([fixed(x, precise.get(number, places)) for x, (_, number) in zip(row, columns, strict=True)])
        return pd.DataFrame(rows, index=self.table.index, columns=columns)

    def places(self, parameter: str) -> int:
        """Return how many decimals the values of a parameter deserve: two digits of its posterior SD.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants="marginal", progress=False)
        >>> both.places("sigma")
        2
        """
        return decimals(float(self.table.loc[parameter, (self.variants[-1], "sd")]))

    def plot(self) -> Figure:
        """Draw the estimates and intervals of every parameter, and the density of every SD with its prior.

        Returns
        -------
        matplotlib.figure.Figure

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants="marginal", progress=False)
        >>> len(both.plot().axes) > 0  # .savefig("overview.png") keeps it
        True
        """
        from bayeslmm.comparison.plots import overview

        return overview(self)

    def report(self, path: str | Path, **about: Any) -> Path:
        """Write a self-contained HTML report: one file, pictures inside, nothing fetched.

        Parameters
        ----------
        path : str or Path
            Where to write; missing folders are made, an existing file is replaced in one step.
        **about : str
            ``title``, ``source`` and ``notes``, shown at the top; ``load``, the Python line that makes the model.

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
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> both = blm.compare(lmm, draws=200, chains=2, random_seed=1, variants="marginal", progress=False)
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     both.report(f"{folder}/report.html", title="Six rows").name
        'report.html'
        """
        from bayeslmm.comparison.report import write_report

        return write_report(self, path, **about)

    def __str__(self) -> str:
        from bayeslmm.comparison.tables import terminal_text

        return visible(terminal_text(self))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from bayeslmm.comparison.report import tables_html

        return tables_html(self) + paragraphs(self.findings)
