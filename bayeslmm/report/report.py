"""Everything that is asked of a posterior, on one page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.comparison.comparison import Comparison, compare_posteriors
from bayeslmm.comparison.findings import paragraphs
from bayeslmm.comparison.report import equations, load_line, settings, tables_html
from bayeslmm.criticism.influence import influence
from bayeslmm.criticism.loo import leave_one_out
from bayeslmm.criticism.units import units_of
from bayeslmm.model import Model
from bayeslmm.pictures.caterpillar import caterpillar
from bayeslmm.pictures.checks import predictive_checks
from bayeslmm.pictures.conditional import conditional_effects
from bayeslmm.pictures.densities import sd_densities
from bayeslmm.pictures.estimates import estimates
from bayeslmm.pictures.grids import predictors
from bayeslmm.pictures.group_size import group_sizes
from bayeslmm.pictures.hierarchy import hierarchy_picture
from bayeslmm.pictures.matrix import design_matrix
from bayeslmm.pictures.partition import variance_partition as drawn_partition
from bayeslmm.pictures.plane import shrinkage_plane
from bayeslmm.pictures.prior import prior_check
from bayeslmm.pictures.quantiles import quantiles
from bayeslmm.pictures.results import OfDraws, OfFit, read_draws
from bayeslmm.pictures.rows import data_rows
from bayeslmm.pictures.sampling import effective_draws
from bayeslmm.predictions.predictions import predictions
from bayeslmm.predictions.variables import grid
from bayeslmm.report.parts import Part, drawn, tabled
from bayeslmm.support import html
from bayeslmm.support.page import page, versions, write_page
from bayeslmm.tables.effective import effective_parameters
from bayeslmm.tables.partition import icc, r2, variance_partition

if TYPE_CHECKING:
    import xarray as xr

MOST_ROWS = 20_000  # of which each is left out
MOST_UNITS = 300  # which are left out by a new fit each
MOST_PREDICTORS = 4
SHOWN = 20  # predictions that are shown


@dataclass(frozen=True, kw_only=True)
class Report:
    """A model, a posterior of it, and the parts of a page about them.

    Attributes
    ----------
    model : Model
    tree : xarray.DataTree
    code : str
        Python lines that make both again.
    """

    model: Model
    tree: xr.DataTree
    code: str = ""

    @cached_property
    def variant(self) -> str:
        """Which density was sampled."""
        return self.draws.variant

    @cached_property
    def draws(self) -> OfDraws:
        """The posterior as pictures read it."""
        return read_draws(self.model, self.tree, "lmm.report(path, {})")

    @cached_property
    def comparison(self) -> Comparison:
        """ML, REML and the posterior."""
        return compare_posteriors(self.model, {self.variant: self.tree})

    @property
    def doubts(self) -> str:
        """What speaks against the posterior, as a sentence."""
        doubts = str(self.comparison.diagnostics.loc[self.variant, "doubts"])
        return (
            f"This posterior is not to be trusted yet: {doubts}." if doubts else "Nothing speaks against these draws."
        )

    @property
    def in_numbers(self) -> str:
        """The model with the posterior's means: "y = 3.1 + 0.4 x + u2 + e, SD of u2 1.2 by g, of e 0.8"."""
        table, design = self.comparison.shown, self.model.design
        mean = table[(self.variant, "mean")].str.strip()
        terms = [mean[f"beta[{name}]"] + ("" if name == "Intercept" else f" {name}") for name in design.coef]
        terms += ["offset"] * (design.offset is not None) + [level.name for level in design.levels] + ["e"]
        sds = [
            f"{mean[label]} for {level.name} by {level.label}" + (f" ({label})" if level.n_sds > 1 else "")
            for level in design.levels
            for label in level.sd_labels
        ]
        line = " + ".join(terms).replace("+ -", "- ")
        sds.append(f"{mean['sigma']} for e")
        return f"In numbers (posterior means): {design.hierarchy.response} = {line}; SDs {', '.join(sds)}."

    def parts(self) -> Iterator[Part]:
        """The parts, in the order in which they are read."""
        yield self._of_model()
        yield self._of_data()
        yield self._of_priors()
        yield self._of_sampling()
        yield self._of_estimates()
        yield self._of_variances()
        if self.model.design.levels:
            yield self._of_groups()
        yield self._of_fit()
        yield self._of_left_out()
        yield self._of_predictions()
        yield self._of_code()

    def _of_model(self) -> Part:
        design = self.model.design
        body = equations(self.model) + html.paragraph(self.model.describe()) + html.bullets(design.hints)
        if design.levels:
            body += drawn("Which groups lie in which, and how many rows they have.", hierarchy_picture, design)
            body += drawn("Where Z transposed is not zero, a band per level.", design_matrix, design)
        look = "The points above deserve a second look." if design.hints else "Nothing asks for a second look."
        return Part(
            title="The model",
            shows="What is estimated, as a formula, as equations and in words.",
            trust=f"The equations are the model as it was fitted. {look}",
            body=body,
        )

    def _of_data(self) -> Part:
        design = self.model.design
        dropped = f"{design.dropped} rows with missing values were left out. " if design.dropped else ""
        body = "".join(
            drawn(f"The data by {level.label}, before any model.", data_rows, self.model, level)
            for level in design.levels[:2]
        )
        return Part(
            title="The data",
            shows=f"{design.n:,} rows of {design.hierarchy.response}, as they were given.",
            trust=f"{dropped}Look for rows far from all others, and for groups whose rows are few.",
            body=body,
        )

    def _of_priors(self) -> Part:
        reasons = self.model.priors.reasons
        given = sum(row.source == "given" for row in reasons)
        allow = (
            "What the priors alone say of new data, and the data that came: they should allow it, and not much else."
        )
        return Part(
            title="The priors",
            shows="What was assumed of every parameter before the data, in the units of the data, and why.",
            trust=f"{given} of {len(reasons)} priors were given, the others are defaults made from the scales of the "
            "data. The posterior of a variance of few groups depends on them.",
            body=html.scrolled(html.table(self.model.priors.table(), index=False, most=None, classes="words"))
            + drawn(allow, prior_check, self.model, 500, 1),
        )

    def _of_sampling(self) -> Part:
        caption = "Effective draws of each parameter; 400 are wanted."
        return Part(
            title="The draws",
            shows="How the posterior was drawn, and how many independent draws each parameter is worth.",
            trust=self.doubts,
            body=settings(self.comparison)
            + drawn(caption, effective_draws, self.model.design, self.tree, self.variant),
        )

    def _of_estimates(self) -> Part:
        model = self.model
        every = [OfFit(fit=model.ml()), OfFit(fit=model.reml()), self.draws]
        body = html.paragraph(self.in_numbers) + paragraphs(self.comparison.findings) + tables_html(self.comparison)
        body += drawn("Each parameter in its own units: ML, REML and the posterior.", estimates, model.design, every)
        body += drawn(
            "The density of each SD, with its prior in grey and the profile likelihood: where posterior and prior "
            "agree, the data said little.",
            sd_densities, model, {self.draws.key: self.draws.by_parameter()}, profile=True,
        )  # fmt: skip
        return Part(
            title="The estimates",
            shows="Every parameter by maximum likelihood, by REML and as a posterior, and what their differences mean.",
            trust=f"{self.doubts} Standard errors of ML and REML take the variances as known; the search of REML ended "
            f"as {model.reml().status.name!r}.",
            body=body,
        )

    def _of_variances(self) -> Part:
        model, tree = self.model, self.tree
        body = "".join(tabled(one, model, tree) for one in (variance_partition, icc, r2, effective_parameters))
        body += drawn("The variance that each level has, with its interval.", drawn_partition, model, self.draws)
        return Part(
            title="Where the variance lies",
            shows="How much of the variance lies at which level, how alike rows of a group are, how much is explained.",
            trust="Shares of levels with few groups are known poorly: read the intervals, not the estimates.",
            body=body,
        )

    def _of_groups(self) -> Part:
        model, body = self.model, ""
        both = [OfFit(fit=model.reml()), self.draws]
        for level in model.design.levels:
            for effect, name in enumerate(level.effects):
                caption = f"The effects of {level.label}, {name}: REML's modes and the posterior."
                body += drawn(caption, caterpillar, model, both, level, effect)
            if level.r > 1:
                caption = f"From each group's own fit to its pooled one, {level.label}."
                body += drawn(caption, shrinkage_plane, model, self.draws, level)
            else:
                caption = f"Estimates of {level.label} against the rows of each group: small groups are drawn furthest."
                body += drawn(caption, group_sizes, model, self.draws, level)
        return Part(
            title="The groups",
            shows="The effect of every group, and how far it was drawn towards the others.",
            trust="Effects of single groups are shrunk on purpose: right on average over groups, too near to zero for "
            "one that is truly extreme. Their order is less certain than their values.",
            body=body,
        )

    def _of_fit(self) -> Part:
        checks = "Statistics of the data (lines) among those of data that the posterior predicts, level by level."
        return Part(
            title="Does the model fit?",
            shows="Whether data that the model predicts look like those that came, within groups and between them.",
            trust="Checks use the data twice, so they are mild: what fails here fails clearly.",
            body=drawn(checks, predictive_checks, self.draws)
            + drawn("Standardised effects and residuals against normal quantiles.", quantiles, self.model.reml()),
        )

    def _of_left_out(self) -> Part:
        model, design = self.model, self.model.design
        body, said = "", ["Compare an elpd only with one of the same unit, of another model of these data."]
        for unit in ("row", *(level.label for level in design.levels)):
            if unit == "row" and design.n > MOST_ROWS:
                said.append(f"Rows were not left out one by one, of {design.n:,}: lmm.loo(tree, 'row') does it.")
                continue
            body += tabled(lambda unit: leave_one_out(model, self.tree, unit, progress=False).summary, unit)
        for level in design.levels[-1:]:
            if len(units_of(design, level.label).labels) > MOST_UNITS:
                said.append(f"lmm.influence({level.label!r}) says what each {level.label} does to the estimates.")
                continue
            body += tabled(lambda unit: influence(model, unit, progress=False).summary, level.label)
        return Part(
            title="Without each row, without each group",
            shows="How well rows and groups are predicted by the others, and what each group does to the estimates.",
            trust=" ".join(said),
            body=body,
        )

    def _of_predictions(self) -> Part:
        model, tree = self.model, self.tree
        body = "".join(
            drawn(
                f"The population's mean over {name}, the others as they mostly are.",
                conditional_effects,
                model,
                self.draws,
                name,
            )
            for name in list(predictors(model.design))[:MOST_PREDICTORS]
        )
        body += tabled(predictions, model, tree, grid(model.design, {}, "mean_or_mode"), scope="population")
        if model.design.levels and model.design.n <= MOST_ROWS:
            table = predictions(model, tree)
            body += tabled(replace, table, frame=table.frame.head(SHOWN), title=f"{table.title}: the first rows")
        return Part(
            title="Predictions",
            shows="What is expected in the population (no group's effect), and in the groups that were seen.",
            trust="Intervals are of expected values, not of single observations; outside of the data the model only "
            "continues its lines.",
            body=body,
        )

    def _of_code(self) -> Part:
        return Part(
            title="To repeat this",
            shows="The lines that make it again, and the versions that made it.",
            trust="The same seed and versions give the same draws, whatever the number of cores.",
            body=f"<pre>{escape(self.code)}</pre>\n{versions()}",
        )


def recipe_of_posterior(model: Model, tree: xr.DataTree) -> str:
    """Python lines that draw such a posterior again."""
    asked = {name: tree.attrs[name] for name in ("draws", "tune", "chains", "random_seed") if tree.attrs.get(name)}
    settings = "".join(f", {name}={value}" for name, value in asked.items())
    lines = ["import bayeslmm as blm", "", load_line(model)]
    lines += [f"tree = lmm.sample({str(tree.attrs.get('variant', 'marginal'))!r}{settings})"]
    return "\n".join([*lines, "lmm.report('report.html', tree)"])


def write_model_report(
    model: Model,
    path: str | Path,
    tree: xr.DataTree,
    *,
    title: str | None = None,
    source: str | None = None,
    notes: str | None = None,
    code: str | None = None,
) -> Path:
    """Write a report of a posterior, as `LMM.report` says."""
    _ = Report(model=model, tree=tree).draws  # what is no posterior of this model is refused before a file is made
    report = Report(model=model, tree=tree, code=code or recipe_of_posterior(model, tree))
    title = title or f"Report of {model.hierarchy.formula}"

    def make() -> str:
        return page(title, {part.title: part.content for part in report.parts()}, source=source, notes=notes)

    return write_page(path, make)
