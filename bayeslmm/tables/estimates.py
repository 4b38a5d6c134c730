"""Fixed effects, random effects, and SDs with correlations: one shape for ML, REML and posteriors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.describe import known_covariance
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.likelihood.confidence import METHODS
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model
from bayeslmm.tables.fit_result import FitResult
from bayeslmm.tables.points import Points
from bayeslmm.tables.posterior_result import PosteriorResult
from bayeslmm.tables.read import read_result
from bayeslmm.tables.table import Table
from bayeslmm.tables.wald import WaldResult

QUANTILES = "Estimates are posterior means, sd posterior SDs, intervals equal-tailed quantiles of the draws."


def fixef(model: Model, result: Any, level: float = 0.95, method: str | None = None) -> Table:
    """The fixed effects, as `LMM.fixef` says."""
    given = read_result(model, result, level)
    coefs = pd.Index(model.design.coef, name="coef")
    if isinstance(given, FitResult):
        rows, note = _fixef_of_fit(given, method_of(method, "wald"))
    else:
        assert isinstance(given, PosteriorResult)
        no_method(method)
        rows, note = given.summary(given.values["beta"]), QUANTILES
    if not len(coefs):
        note = "The model has no fixed effects."
    return Table(frame=rows.set_index(coefs), title=f"Fixed effects, {given.name}", note=given.note(note))


def _fixef_of_fit(given: FitResult, method: str) -> tuple[pd.DataFrame, str]:
    fit = given.fit
    names = [f"beta[{name}]" for name in fit.design.coef]
    if fit.perfect:
        return given.none(fit.beta, given.trouble), ""
    se = fit.fixef_se.to_numpy()
    if method == "profile" and len(names):
        limits = fit.confint(given.level).loc[names]
        note = "sd is the standard error. Profile limits are where the deviance rises by the chi-squared quantile."
        if fit.method == "REML":
            note = "REML says nothing of the fixed effects, so their limits are Wald's: use lmm.ml() for profiles."
        return given.frame(fit.beta, se, limits["lower"], limits["upper"], limits["criterion"].to_list()), note
    note = (
        f"sd is the standard error; the interval is the estimate +- {given.z:.3g} of them (Wald). Both take the "
        "variance parameters as known, so that with few groups they are too narrow."
    )
    half = given.z * se
    return given.frame(fit.beta, se, fit.beta - half, fit.beta + half, f"{fit.method} Wald"), note


def ranef(model: Model | LinkModel, result: Any, level: float = 0.95) -> Table:
    """The random effects, as `LMM.ranef` says."""
    given = read_result(model, result, level, random_effects=True)
    parts = []
    for k, own in enumerate(model.design.levels):
        if isinstance(given, PosteriorResult):
            u = given.draws(k)
            rows = given.summary(u.reshape(len(u), -1))
        else:
            assert isinstance(given, WaldResult)
            rows = _modes(given, k, own)
        parts.append(pd.concat([names_of(own), rows], axis=1))
    if isinstance(given, WaldResult):
        note = (
            "Estimates are conditional modes, sd their conditional SDs given the estimated parameters, intervals "
            f"normal, +- {given.z:.3g} SDs: what is uncertain about the parameters is not in them."
        )
    else:
        note = QUANTILES
    empty = pd.concat([pd.DataFrame(columns=NAMES), given.frame([], [], [], [], [])], axis=1)
    note = note if parts else "The model has no random effects."
    whole = pd.concat(parts, ignore_index=True) if parts else empty
    return Table(frame=whole, title=f"Random effects, {given.name}", note=given.note(note))


NAMES = ["level", "grouping", "group", "effect"]


def names_of(level: LevelDesign) -> pd.DataFrame:
    """What names a level's effects, in Z's order."""
    groups, effects = np.repeat(level.groups, level.r), np.tile(level.effects, level.m)
    columns = ([level.name] * level.q, [level.label] * level.q, groups.tolist(), effects.tolist())
    return pd.DataFrame(dict(zip(NAMES, columns, strict=True)))


def _modes(given: WaldResult, k: int, level: LevelDesign) -> pd.DataFrame:
    mode, sd = (x.ravel() for x in given.effects(k))
    if given.perfect:
        return given.none(mode, given.trouble)
    said = "normal, given the estimates"
    zero = [name for name in level.sd_labels if name in given.boundary]
    out = given.frame(mode, sd, mode - given.z * sd, mode + given.z * sd, said)
    if zero:
        out.loc[sd == 0, "interval"] = f"no width, given {', '.join(zero)} = 0"
    return out


def varcorr(model: Model, result: Any, level: float = 0.95, method: str | None = None) -> Table:
    """SDs, correlations and R's parameters, as `LMM.varcorr` says."""
    given = read_result(model, result, level)
    names = parameter_names(model)
    lower, upper = names.pop("lower"), names.pop("upper")
    if isinstance(given, FitResult):
        method = method_of(method, "profile")
        rows = given.derive(natural, lower, upper)
        note = (
            "sd is from the curvature of the likelihood (delta method); an SD's likelihood is skewed, so trust the "
            "interval rather than the SD. Intervals are Wald's, on scales of logarithms and of logits."
        )
        if method == "profile" and not given.fit.perfect:
            limits = given.fit.confint(level).loc[names.index]
            rows[given.ends], rows["interval"] = limits[["lower", "upper"]].to_numpy(), limits["criterion"].to_list()
            note = (
                "Intervals are profile limits, where the deviance rises by the chi-squared quantile; a limit of 0 (of "
                "-1 or 1 for a correlation) is on the edge of what can be. sd is from the curvature (delta method)."
            )
    else:
        no_method(method)
        rows, note = given.derive(natural, lower, upper), QUANTILES
    if isinstance(given, FitResult) and not given.trouble and rows["sd"].isna().any():
        note += " On the edge there is no sd."
    frame = pd.concat([names, rows.set_index(names.index)], axis=1)
    title = f"Standard deviations and correlations, {given.name}"
    return Table(frame=frame, title=title, note=given.note(note, *_words(model)))


def natural(points: Points) -> np.ndarray:
    """sigma, the levels' SDs and correlations, and R's parameters (N, K), in the order of `fit.estimates`."""
    columns = [points.sigma[:, None]]
    for k in range(len(points.stats.design.levels)):
        columns += points.sds_and_correlations(k)
    return np.concatenate([*columns, points.psi], axis=1)


PARAMETER = ["parameter", "level", "grouping", "kind", "lower", "upper"]


def parameter_names(model: Model) -> pd.DataFrame:
    """Per variance parameter its level, grouping and kind, and the ends of its range."""
    design, inf = model.design, np.inf
    rows = [("sigma", "residual", "", "SD", 0.0, inf)]
    rows += [row for level in design.levels for row in level_parameters(level)]
    for parameter in design.residual.parameters:
        kind = "correlation" if parameter in design.residual.own else "ratio of SDs"
        rows.append((parameter.label, "residual", "", kind, parameter.lower, parameter.upper))
    return pd.DataFrame(rows, columns=PARAMETER).set_index("parameter")


def level_parameters(level: LevelDesign) -> list[tuple]:
    """The same of one level."""
    rows = [(name, level.name, level.label, "SD", 0.0, np.inf) for name in level.sd_labels]
    low = -1.0 if level.structure.paired else level.structure.lower(level.r)
    return rows + [(name, level.name, level.label, "correlation", low, 1.0) for name in level.correlation_labels]


def level_words(design: Design) -> list[str]:
    """Of which covariance the parameters of levels with a known one are."""
    return [
        f"{level.name}: the covariance of {level.label} is {known_covariance(level)}."
        for level in design.levels
        if level.related
    ]


def _words(model: Model) -> list[str]:
    """What the parameters don't say by themselves."""
    residual = model.design.residual
    said = level_words(model.design)
    if residual.strata:
        said.append(f"sigma is the residual SD where {residual.residual.by} is {residual.strata[0]}.")
    if np.ptp(residual.root_weights) > 0:
        said.append(f"sigma is the residual SD of rows of weight 1 ({residual.residual.weights}).")
    return said


def method_of(method: Any, usual: str) -> str:
    """The kind of a fit's intervals."""
    if method is None:
        return usual
    if method not in METHODS:
        raise DescriptionError(
            f"method is {method!r}; 'profile' or 'wald' was expected.{did_you_mean(str(method), METHODS)}"
        )
    return str(method)


def no_method(method: Any) -> None:
    """Refuse a kind of interval where there are draws."""
    if method is not None:
        raise DescriptionError(
            f"method is {method!r}, and the result is a posterior, whose intervals are quantiles of its draws; "
            "expected no method. Leave it out."
        )
