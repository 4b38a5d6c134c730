"""Fixed effects, their ratios, SDs and correlations where the outcome isn't Gaussian, on the link's scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.model_matrix import INTERCEPT
from bayeslmm.errors import DescriptionError
from bayeslmm.link_model import LinkModel
from bayeslmm.tables.estimates import (
    PARAMETER,
    QUANTILES,
    level_parameters,
    level_words,
    method_of,
    no_method,
)
from bayeslmm.tables.link_points import LinkPoints
from bayeslmm.tables.link_result import LinkFit, LinkPosterior, read_link_result
from bayeslmm.tables.table import Table

WALD = (
    "sd is the standard error, from the curvature of the approximated likelihood by all parameters, SDs of effects "
    "included; the interval is the estimate +- {z:.3g} of them (Wald)."
)


def link_fixef(model: LinkModel, result: Any, level: float = 0.95, method: str | None = None) -> Table:
    """The fixed effects, as `GLMM.fixef` says."""
    given = _read(model, result, level)
    rows, note = _coefficients(given, method)
    said = [f"On the {model.family.link} scale, per unit of the column, given the groups' effects."]
    if not model.family.has_intercept:
        said.append("Thresholds stand for the constant: they are in glmm.varcorr(result).")
    if not model.design.p:
        said, note = ["The model has no fixed effects."], ""
    index = pd.Index(model.design.coef, name="coef")
    return Table(frame=rows.set_index(index), title=f"Fixed effects, {given.name}", note=given.note(*said, note))


def _read(model: LinkModel, result: Any, level: float) -> LinkFit | LinkPosterior:
    from bayeslmm.support.arguments import check_coverage

    check_coverage("level", level)
    return read_link_result(model, result, level, random_effects=False)


def _coefficients(given: LinkFit | LinkPosterior, method: str | None) -> tuple[pd.DataFrame, str]:
    if isinstance(given, LinkPosterior):
        no_method(method)
        return given.summary(given.values["beta"]), QUANTILES
    _no_profile(method_of(method, "wald"))
    beta, se = given.beta, given.fit.fixef_se.to_numpy()
    if given.trouble:
        return given.none(beta, given.trouble), ""
    half = given.z * se
    return given.frame(beta, se, beta - half, beta + half, given.how), WALD.format(z=given.z)


def _no_profile(method: str) -> None:
    if method == "profile":
        raise DescriptionError(
            "A GLMM's fit has no profile limits: leave method= out for Wald's, or take a posterior's intervals, "
            "glmm.sample()."
        )


def ratios(model: LinkModel, result: Any, level: float = 0.95) -> Table:
    """Exponentials of the fixed effects, as `GLMM.ratios` says."""
    family = model.family
    if not family.ratio:
        raise DescriptionError(
            f"exp(beta) is no ratio of anything with the {family.link} link of the family {family.name}. Write "
            "glmm.fixef(result) for the coefficients, or glmm.comparisons(result) for differences on the scale of y."
        )
    given = _read(model, result, level)
    keep = np.array([name != INTERCEPT for name in model.design.coef], dtype=bool)
    rows = exponentiated(given, lambda points: points.beta[:, keep])
    note = how_exponentiated(given)
    index = pd.Index([name for name, own in zip(model.design.coef, keep, strict=True) if own], name="coef")
    said = (
        f"Each is the {family.ratio} for one unit more of the column with everything else, the groups' effects too, as "
        "it is (conditional, or subject-specific). Averaged over groups it is another number, nearer to 1 for odds: "
        "glmm.attenuation(result)."
    )
    if family.link == "log":
        said = (
            f"Each is the {family.ratio} for one unit more of the column with everything else as it is; where the "
            "effect doesn't vary between groups, it is the same averaged over them."
        )
    if not len(index):
        said, note = "The model has no fixed effects beside the constant.", ""
    frame = rows.set_index(index)
    frame.insert(0, "ratio", pd.Series(family.ratio, index=index, dtype=object))
    return Table(frame=frame, title=f"{plural(family.ratio)}, {given.name}", note=given.note(said, note))


def exponentiated(given: LinkFit | LinkPosterior, logs: Any, most: int | None = None) -> pd.DataFrame:
    """Ratios whose logarithms are such a quantity: medians of draws, or an estimate, with their intervals."""
    if isinstance(given, LinkPosterior):
        points = given.all_points if most is None else given.all_points.spread(most)
        with np.errstate(over="ignore"):
            drawn = np.exp(logs(points))
        rows = given.summary(drawn)
        rows["estimate"] = np.median(drawn, axis=0)
        return rows
    rows = given.derive(logs, -np.inf, np.inf)
    with np.errstate(over="ignore"):
        rows["sd"] *= np.exp(rows["estimate"])
        rows[["estimate", *given.ends]] = np.exp(rows[["estimate", *given.ends]])
    return rows


def how_exponentiated(given: LinkFit | LinkPosterior) -> str:
    """What its numbers are."""
    if isinstance(given, LinkPosterior):
        return "Estimates are posterior medians (a few large ratios pull a mean), intervals equal-tailed quantiles."
    return "sd by the delta method; the interval is Wald's of the logarithm, exponentiated."


def plural(ratio: str) -> str:
    """As a title says it.

    Examples
    --------
    >>> plural("odds ratio"), plural("ratio of means")
    ('Odds ratios', 'Ratios of means')
    """
    first, *rest = ratio.split(" of ")
    return " of ".join([f"{first[0].upper()}{first[1:]}s", *rest])


def link_varcorr(model: LinkModel, result: Any, level: float = 0.95, method: str | None = None) -> Table:
    """SDs, correlations and the family's own parameters, as `GLMM.varcorr` says."""
    given = _read(model, result, level)
    names = parameters(model)
    lower, upper = names.pop("lower"), names.pop("upper")
    if isinstance(given, LinkPosterior):
        no_method(method)
        note = QUANTILES
    else:
        _no_profile(method_of(method, "wald"))
        note = (
            "sd is from the curvature of the likelihood (delta method); an SD's likelihood is skewed, so trust the "
            "interval rather than the SD. Intervals are Wald's, on scales of logarithms and of logits."
        )
    rows = given.derive(natural, lower, upper)
    if isinstance(given, LinkFit) and not given.trouble and rows["sd"].isna().any():
        note += " On the edge there is no sd."
    said = [f"SDs are on the {model.family.link} scale, per unit of the column.", note, *level_words(model.design)]
    said.append("There is no residual SD." if "sigma" not in names.index else model.family.no_residual)
    frame = pd.concat([names, rows.set_index(names.index)], axis=1)
    title = f"Standard deviations and correlations, {given.name}"
    return Table(frame=frame, title=title, note=given.note(*said))


def natural(points: LinkPoints) -> np.ndarray:
    """The levels' SDs and correlations, and the family's own parameters (N, K)."""
    columns = [np.zeros((points.n, 0))]
    for k in range(len(points.basis.design.levels)):
        columns += points.sds_and_correlations(k)
    return np.concatenate([*columns, points.dispersion], axis=1)


def parameters(model: LinkModel) -> pd.DataFrame:
    """Per parameter its level, grouping and kind, and the ends of its range."""
    rows = [row for level in model.design.levels for row in level_parameters(level)]
    for label in model.family.dispersion_labels(model.outcome):
        threshold = label.startswith("threshold")
        kind, low = ("threshold", -np.inf) if threshold else ("dispersion", 0.0)
        rows.append((label, "outcome", "", kind, low, np.inf))
    return pd.DataFrame(rows, columns=PARAMETER).set_index("parameter")
