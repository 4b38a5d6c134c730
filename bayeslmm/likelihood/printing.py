"""Fits that read like lme4's."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.design.describe import known_covariance
from bayeslmm.design.residual_words import with_estimates
from bayeslmm.support import html
from bayeslmm.support.text import aligned, format_column

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.likelihood.fit import LikelihoodFit


def fit_text(fit: LikelihoodFit) -> str:
    """Put a fit as lme4 prints it: criterion, random effects, fixed effects, and what deserves a second look.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}
    >>> print(fit_text(blm.LMM("y ~ 1 + (1 | g)", data).reml()))
    Linear mixed model fit by REML
    Formula: y ~ 1 + (1 | g)
    <BLANKLINE>
    REML criterion  logLik    AIC    BIC
             20.31  -10.16  26.31  25.69
    <BLANKLINE>
    Random effects:
     Groups    Name       Variance  Std.Dev.
     g         Intercept   12.0833   3.47611
     Residual               0.5000   0.70711
    Number of obs: 6, groups: g, 3
    <BLANKLINE>
    Fixed effects:
               Estimate  Std. Error  t value
    Intercept    4.8333      2.0276    2.384
    """
    parts = [f"{_title(fit)}\nFormula: {fit.design.hierarchy.formula}", "\n".join(aligned(_criterion(fit), ">>>>"))]
    random = _random(fit)
    table = "\n".join(" " + line for line in aligned(random, "<<>>" + ">" * (len(random[0]) - 4)))
    covariances = (line for said in _covariances(fit) for line in wrap(said, 100, subsequent_indent="  "))
    parts.append("\n".join([f"{_of_effects(fit)}:\n{table}", *covariances, _counts(fit)]))
    if fit.design.p:
        parts.append("Fixed effects:\n" + "\n".join(aligned(_fixed(fit), "<>>>")))
    parts += ["\n".join(wrap(doubt, 100)) for doubt in _doubts(fit)]
    return "\n\n".join(parts)


def fit_html(fit: LikelihoodFit) -> str:
    """Put the same in HTML, its parts as tables.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}
    >>> fit_html(blm.LMM("y ~ 1 + (1 | g)", data).reml()).count("<table")
    3
    """
    parts = [html.heading(_title(fit)), html.paragraph(f"Formula: {fit.design.hierarchy.formula}")]
    parts += [_html(_criterion(fit)), html.heading(_of_effects(fit)), _html(_random(fit), words=2)]
    parts.append(html.paragraph("\n".join([*_covariances(fit), _counts(fit)])))
    if fit.design.p:
        parts += [html.heading("Fixed effects"), _html(_fixed(fit), words=1)]
    return "".join([*parts, *map(html.paragraph, _doubts(fit))])


def _html(lines: list[list[str]], words: int = 0) -> str:
    """Lines of cells, the headings first; the first columns are words."""
    table = pd.DataFrame(lines[1:], columns=lines[0])
    table = table.set_index(lines[0][:words]) if words else table
    return html.scrolled(html.table(table, index=bool(words), most=None))


def _title(fit: LikelihoodFit) -> str:
    how = "REML" if fit.method == "REML" else "maximum likelihood"
    return f"{'Linear mixed model' if fit.design.levels else 'Linear model'} fit by {how}"


def _of_effects(fit: LikelihoodFit) -> str:
    return "Random effects" if fit.design.levels else "Residual variance"


def _doubts(fit: LikelihoodFit) -> list[str]:
    """What deserves a second look, in a line."""
    status = fit.status
    return [f"{status.name[0].upper()}{status.name[1:]}: {status.advice}."] if status.name != "converged" else []


def _criterion(fit: LikelihoodFit) -> list[list[str]]:
    first = "REML criterion" if fit.method == "REML" else "deviance"
    names = [first, "logLik", "AIC", "BIC"]
    return [names, [f"{x:.2f}" for x in (-2 * fit.loglik, fit.loglik, fit.aic, fit.bic)]]


def _random(fit: LikelihoodFit) -> list[list[str]]:
    """Variance, SD and correlations, the correlations as a lower triangle, as lme4 prints them."""
    covariances = [fit.sigma**2 * lam @ lam.T for lam in fit.lambdas]
    residual = fit.design.residual
    of_rows = fit.sigma**2 * np.square(residual.split(fit.psi)[1] if residual.strata else [1.0])
    flat = np.concatenate([*(np.diag(V) for V in covariances), of_rows])
    variance_texts, sd_texts = iter(format_column(flat)), iter(format_column(np.sqrt(flat)))
    lines = [["Groups", "Name", "Variance", "Std.Dev."]]
    for level, V in zip(fit.design.levels, covariances, strict=True):
        for i, effect in enumerate(level.effects):
            line = [level.tag if i == 0 else "", effect, next(variance_texts), next(sd_texts)]
            if level.correlated:
                line += [_correlation(V, i, j) for j in range(i)]
            lines.append(line)
    for k, stratum in enumerate(residual.strata or ("",)):
        lines.append(["Residual" if k == 0 else "", stratum, next(variance_texts), next(sd_texts)])
    longest = max(len(line) for line in lines)
    if longest > 4:
        lines[0].append("Corr")
    return [line + [""] * (longest - len(line)) for line in lines]


def _covariances(fit: LikelihoodFit) -> list[str]:
    """What stands beside the variances: known covariances of groups, and the structure of R with its estimates."""
    known = [(f"Covariance of {level.tag}", known_covariance(level)) for level in fit.design.levels]
    known += [(f"Effects of {level.tag}", _said(fit, level)) for level in fit.design.levels]
    said = [*known, ("Residual", with_estimates(fit.design.residual, fit.psi))]
    return [f"{name}: {text}" for name, text in said if text]


def _said(fit: LikelihoodFit, level: LevelDesign) -> str:
    """A structure of effects that the table doesn't show, with its correlation."""
    if level.structure.paired or not level.correlated:
        return ""
    rho = fit.estimates()[level.correlation_labels[0]]
    return f"{level.structure.text}, rho = {rho:.3f}"


def _correlation(V: np.ndarray, i: int, j: int) -> str:
    size = np.sqrt(V[i, i] * V[j, j])
    return f"{V[i, j] / size:.2f}" if size > 0 else "nan"


def _counts(fit: LikelihoodFit) -> str:
    groups = "; ".join(dict.fromkeys(map(_group_count, fit.design.levels)))
    return f"Number of obs: {fit.design.n}" + (f", groups: {groups}" if groups else "")


def _group_count(level: LevelDesign) -> str:
    return f"{level.label}, {level.m - level.relatives}" + (
        f" and {level.relatives} without rows" if level.relatives else ""
    )


def _fixed(fit: LikelihoodFit) -> list[list[str]]:
    estimate, se = fit.fixef.to_numpy(), fit.fixef_se.to_numpy()
    t = np.divide(estimate, se, out=np.full_like(se, np.nan), where=se > 0)
    columns = [format_column(estimate), format_column(se), [f"{x:.3f}" for x in t]]
    lines = [["", "Estimate", "Std. Error", "t value"]]
    return lines + [list(line) for line in zip(fit.design.coef, *columns, strict=True)]
