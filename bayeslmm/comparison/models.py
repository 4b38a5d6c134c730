"""Several descriptions of the same data side by side: predictions, likelihoods, marginal likelihoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.criticism.evidence import MarginalLikelihood, marginal_likelihood
from bayeslmm.criticism.link_loo import link_leave_one_out
from bayeslmm.criticism.loo import LeaveOneOut, leave_one_out
from bayeslmm.criticism.units import units_of
from bayeslmm.errors import DataError, DescriptionError, PriorError, SamplingError, visible
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.likelihood.ratio_test import LikelihoodRatioTest, likelihood_ratio_test
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model, check_model
from bayeslmm.posterior.sampling import sample
from bayeslmm.support import html
from bayeslmm.support.text import listed
from bayeslmm.tables.table import WIDTH, Table

if TYPE_CHECKING:
    import xarray as xr

FEW_ERRORS = 2.0  # standard errors below which a difference is no reason to prefer a model
FEW_UNITS = 10  # below which a standard error says little
FAVOURED = 3.0  # Bayes factor from which it is one


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """Models of the same data, by what each says of data that it hasn't seen, and of those that it has.

    Attributes
    ----------
    models : mapping of name to LMM or GLMM
    unit : str
        What was left out at a time.
    posteriors : mapping of name to DataTree
    left_out : mapping of name to LeaveOneOut
    evidence : mapping of name to MarginalLikelihood
        Of the models that have one.
    without : mapping of name to str
        Why the others have none.
    tests : mapping of (name, name) to LikelihoodRatioTest
        The smaller model first, for each pair of which one lies within the other.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = blm.example_data("heights")
    >>> models = {name: blm.LMM(f"Height ~ 1 + (1 | {name})", data) for name in ("school/class", "school")}
    >>> both = blm.compare_models(models, draws=250, random_seed=1, progress=False)
    >>> list(both.tests)
    [('school', 'school/class')]
    """

    models: Mapping[str, Any]
    unit: str
    posteriors: Mapping[str, xr.DataTree]
    left_out: Mapping[str, LeaveOneOut]
    evidence: Mapping[str, MarginalLikelihood]
    without: Mapping[str, str]
    tests: Mapping[tuple[str, str], LikelihoodRatioTest]

    @cached_property
    def predictive(self) -> pd.DataFrame:
        """Per model, best first: elpd by unit and its SE, the difference to the best and its SE, stacking weights."""
        import arviz as az

        best = max(self.left_out, key=lambda name: self.left_out[name].elpd)
        top = self.left_out[best].table["elpd"].to_numpy()
        rows = {}
        for name, loo in self.left_out.items():
            off = loo.table["elpd"].to_numpy() - top
            rows[name] = {
                "elpd": loo.elpd,
                "se": loo.se,
                "difference": float(off.sum()),
                "se_difference": float(np.sqrt(off.size) * off.std()),
                "p": loo.p,
                "unreliable": len(loo.unreliable),
            }
        table = pd.DataFrame.from_dict(rows, orient="index")
        weights = az.compare({name: loo.to_arviz() for name, loo in self.left_out.items()}, method="stacking")["weight"]
        table["stacking"] = weights.reindex(table.index).astype(float)
        return table.sort_values("elpd", ascending=False)

    @cached_property
    def likelihood(self) -> pd.DataFrame:
        """Per model: parameters, log-likelihood, AIC and BIC of ML, and how its search ended."""
        fits = {name: model.ml() for name, model in self.models.items()}
        rows = {
            name: {"parameters": f.npar, "loglik": f.loglik, "aic": f.aic, "bic": f.bic, "status": _ended(f)}
            for name, f in fits.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").sort_values("aic")

    @cached_property
    def bayes(self) -> pd.DataFrame:
        """Per model with proper priors: log marginal likelihood and its Monte Carlo error, Bayes factor, probability.

        ``bayes_factor`` is that of the best model against this one; ``probability`` takes all models as equally likely
        beforehand. ``narrower`` and ``wider`` are the log marginal likelihoods under priors of the effects' SDs half
        and twice as wide, NaN where one of these has a bound.
        """
        if not self.evidence:
            columns = ["log_marginal", "error", "bayes_factor", "probability", "narrower", "wider", "pareto_k"]
            return pd.DataFrame(columns=columns, dtype=float)
        logs = np.array([one.log for one in self.evidence.values()])
        odds = np.exp(logs - logs.max())
        rows = {
            name: {
                "log_marginal": one.log,
                "error": one.error,
                "bayes_factor": float(np.exp(np.minimum(logs.max() - one.log, 700.0))),
                "probability": float(share),
                "narrower": one.rescaled.get(0.5, np.nan),
                "wider": one.rescaled.get(2.0, np.nan),
                "pareto_k": one.pareto_k,
            }
            for (name, one), share in zip(self.evidence.items(), odds / odds.sum(), strict=True)
        }
        return pd.DataFrame.from_dict(rows, orient="index").sort_values("log_marginal", ascending=False)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the comparison shows, a paragraph each."""
        return tuple(filter(None, (self._of_predictions(), self._of_tests(), self._of_evidence(), self._of_trust())))

    @property
    def text(self) -> str:
        """The findings as paragraphs."""
        return "\n\n".join(self.findings)

    def _of_predictions(self) -> str:
        table, unit = self.predictive, self.unit
        best, units = table.index[0], len(next(iter(self.left_out.values())).table)
        what = "another row of the same groups" if unit == "row" else f"a new {unit}"
        said = f"{best} predicts {what} best (elpd {table.loc[best, 'elpd']:.1f})."
        for name in table.index[1:]:
            off, error = -table.loc[name, "difference"], table.loc[name, "se_difference"]
            close = off < FEW_ERRORS * error or off < 1
            verdict = "no difference to speak of" if close else "a clear difference"
            said += f" {name} is behind by {off:.1f} (SE {error:.1f})"
            said += f": {verdict}." if units >= FEW_UNITS else "."
        if units < FEW_UNITS:
            said += f" Standard errors of {units} units say little: look at each (left_out[...].table)."
        return said

    def _of_tests(self) -> str:
        lines = [
            f"{smaller} within {larger}: likelihood ratio {test.statistic:.2f}, p = {test.p:.2g}"
            + (" (mixture of chi-squares: an SD on its boundary)." if len(test.mixture) > 1 else ".")
            for (smaller, larger), test in self.tests.items()
        ]
        return " ".join(lines)

    def _of_evidence(self) -> str:
        if len(self.evidence) < 2:
            return ""
        table = self.bayes
        best, second = table.index[:2]
        factor = float(table.loc[second, "bayes_factor"])
        others = [float(np.exp(table.loc[best, how] - table.loc[second, how])) for how in ("narrower", "wider")]
        said = f"The marginal likelihood favours {best}: Bayes factor {factor:.3g} against {second}"
        if np.isfinite(others).all():
            said += f" ({others[0]:.3g} and {others[1]:.3g} with the priors of the effects' SDs half and twice as wide)"
        said += ". "
        if min(factor, *others) < FAVOURED:  # NaN is not less
            said += "That is no reason to prefer it. "
        return said + "Bayes factors depend on the priors however many data there are: only stated ones deserve them."

    def _of_trust(self) -> str:
        bad = [name for name, loo in self.left_out.items() if loo.unreliable]
        doubtful = [name for name, tree in self.posteriors.items() if not int(tree.attrs.get("trusted", 1))]
        shaky = [name for name, one in self.evidence.items() if not one.reliable]
        out = []
        if bad:
            out.append(f"the elpd of {listed(bad, show=str)} has units that could not be left out reliably")
        if doubtful:
            out.append(f"the posterior of {listed(doubtful, show=str)} is not trusted (see its attrs)")
        if shaky:
            out.append(f"the marginal likelihood of {listed(shaky, show=str)} has weights with a Pareto k above 0.7")
        out += [f"{name} has no marginal likelihood: {why.rstrip('.')}" for name, why in self.without.items()]
        kinds = {fit.approximation for one in self.models.values() if isinstance(fit := one.ml(), GLMMFit)}
        if len(kinds) > 1:
            out.append("log-likelihoods, AIC and BIC by Laplace's approximation and by quadrature are not comparable")
        return f"To be doubted: {'; '.join(out)}." if out else ""

    @property
    def shown(self) -> tuple[Table, ...]:
        """The tables with their titles and notes."""
        pairs = [
            (self.predictive, f"Predictions, one {self.unit} left out at a time", "elpd: the larger, the better."),
            (self.likelihood, "Maximum likelihood", "AIC and BIC: the smaller, the better."),
            (self.bayes, "Marginal likelihood", "Bayes factors: of the first model against each."),
        ]
        return tuple(
            Table(frame=frame.rename_axis("model"), title=title, note=note)
            for frame, title, note in pairs
            if len(frame)
        )

    def __repr__(self) -> str:
        return "\n\n".join([*map(repr, self.shown), *(fill(visible(found), WIDTH) for found in self.findings)])

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.shown) + "".join(map(html.paragraph, self.findings))


def _ended(fit: Any) -> str:
    """How the search of a fit ended; of a GLMM also by which approximation."""
    if not isinstance(fit, GLMMFit):
        return fit.status.name
    how = "singular" if fit.singular else "converged" if fit.peak.converged else "not converged"
    return f"{how}, {fit.approximation}"


def compare_models(
    models: Mapping[str, Any],
    *,
    unit: str = "row",
    posteriors: Mapping[str, xr.DataTree] | None = None,
    draws: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    progress: bool = True,
) -> ModelComparison:
    """Compare descriptions of the same data by predictions of what is left out, likelihoods and marginal likelihoods.

    Parameters
    ----------
    models : mapping of name to LMM or GLMM
        Two or more, with the same response in the same rows. Of GLMMs there are no marginal likelihoods and no
        likelihood ratios.
    unit : str
        What is left out at a time: "row", or a grouping that all models have, such as "school".
    posteriors : mapping of name to xarray.DataTree, optional
        Those that are there already; the others are sampled.
    draws, chains, random_seed
        As in `LMM.sample`.
    progress : bool

    Returns
    -------
    ModelComparison
        Tables ``predictive`` (elpd by unit, differences with their SE, stacking weights), ``likelihood`` (ML, AIC, BIC)
        and ``bayes`` (log marginal likelihoods, Bayes factors and how they depend on the priors), ``tests`` (likelihood
        ratios, with mixtures where an SD is on its boundary) and ``findings`` in words.

    Raises
    ------
    DescriptionError
        If there are fewer than two models, one isn't a model, or `unit` is not in all of them.
    DataError
        If they are not of the same data.

    Sources: Vehtari, Gelman & Gabry (2017); Yao, Vehtari, Simpson & Gelman (2018) for stacking; Kass & Raftery (1995).

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = blm.example_data("sleepstudy")
    >>> models = {"slopes": blm.LMM("Reaction ~ Days + (Days | Subject)", data),
    ...           "intercepts": blm.LMM("Reaction ~ Days + (1 | Subject)", data)}
    >>> both = blm.compare_models(models, unit="Subject", draws=250, random_seed=1, progress=False)
    >>> both.predictive.index[0], both.bayes.index[0]
    ('slopes', 'slopes')
    """
    checked = _checked(models, unit)
    given = dict(posteriors or {})
    unknown = [name for name in given if name not in checked]
    if unknown:
        raise DescriptionError(f"posteriors has {listed(unknown)}; the models are {listed(list(checked))}.")
    settings: dict[str, Any] = {"draws": draws, "chains": chains, "random_seed": random_seed, "progress": progress}
    trees = {name: given[name] if name in given else _sampled(one, settings) for name, one in checked.items()}
    left_out = {name: _left_out(model, trees[name], unit, progress) for name, model in checked.items()}
    evidence, without = {}, {}
    for name, model in checked.items():
        if isinstance(model, LinkModel):
            continue
        try:
            evidence[name] = marginal_likelihood(model, random_seed=random_seed)
        except (PriorError, SamplingError) as error:  # the findings say so
            without[name] = str(error)
    fits = {name: model.ml() for name, model in checked.items()}
    tests: dict[tuple[str, str], LikelihoodRatioTest] = {}
    for smaller, larger in permutations(fits, 2):
        if isinstance(fits[smaller], GLMMFit) or isinstance(fits[larger], GLMMFit):
            continue
        if fits[smaller].npar < fits[larger].npar:
            test = likelihood_ratio_test(fits[smaller], fits[larger])
            tests |= {} if test is None else {(smaller, larger): test}
    return ModelComparison(
        models=checked, unit=unit, posteriors=trees, left_out=left_out, evidence=evidence, without=without, tests=tests
    )


def _sampled(model: Any, settings: Mapping[str, Any]) -> xr.DataTree:
    return sample(model, **settings) if isinstance(model, Model) else model.sample(**settings)


def _left_out(model: Any, tree: xr.DataTree, unit: str, progress: bool) -> LeaveOneOut:
    if isinstance(model, LinkModel):
        return link_leave_one_out(model, tree, unit, progress=progress)
    return leave_one_out(model, tree, unit, progress=progress)


def _checked(models: Any, unit: str) -> dict[str, Any]:
    if not isinstance(models, Mapping) or len(models) < 2:
        came = f"{len(models)} came" if isinstance(models, Mapping) else f"a {type(models).__name__} came"
        raise DescriptionError(
            f"Two or more models by name were expected, but {came}: write blm.compare_models({{'slopes': lmm1, "
            "'intercepts': lmm2})."
        )
    for name, model in models.items():
        if not isinstance(model, LinkModel):
            check_model(model, "blm.compare_models({...})", place=f"the model {name!r}")
        units_of(model.design, unit)
    first_name, first = next(iter(models.items()))
    for name, model in models.items():
        a, b = first.design, model.design
        if a.n != b.n or not np.array_equal(a.y, b.y):
            what = (
                f"{b.n:,} rows where {first_name} has {a.n:,}" if a.n != b.n else f"other responses than {first_name}"
            )
            raise DataError(
                f"{name} has {what}: densities are comparable for the same response in the same rows only. Give all "
                "models the same table, with the rows that have missing values left out of it beforehand, and the same "
                "left side of the formula."
            )
        if why := _not_alike(first, model):
            raise DataError(
                f"{name} has {why} {first_name}, so that their log predictive densities are no numbers of one kind. "
                "Compare models of the same response, all with probabilities of y or all with densities."
            )
        if unit != "row" and not _same_units(first, model, unit):
            raise DataError(f"The groups of {unit} are not the same rows in {first_name} and in {name}.")
    return {str(name): model for name, model in models.items()}


def _not_alike(one: Any, other: Any) -> str:
    """How the responses of two models with the same y differ; "" where they don't."""
    a, b = one.design.outcome, other.design.outcome
    discrete = [isinstance(model, LinkModel) and model.family.discrete for model in (one, other)]
    if discrete[0] != discrete[1]:
        return f"{'probabilities' if discrete[1] else 'a density'} of y, unlike"
    if a is None or b is None:
        return ""
    trials = [np.ones(len(x.y)) if x.trials is None else x.trials for x in (a, b)]
    if not np.array_equal(trials[0], trials[1]):
        return "other trials than"
    return "" if bool(a.categories) == bool(b.categories) else "another kind of response than"


def _same_units(one: Any, other: Any, unit: str) -> bool:
    a, b = units_of(one.design, unit), units_of(other.design, unit)
    return a.labels == b.labels and np.array_equal(a.index, b.index)
