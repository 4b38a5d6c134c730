"""Fits that read like glmer's, with the error of the approximation said."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.errors import visible
from bayeslmm.support.text import aligned, format_column

if TYPE_CHECKING:
    from bayeslmm.integration.fit import GLMMFit


def fit_text(fit: GLMMFit) -> str:
    """Put a fit in words: how the integral was taken, criterion, effects, the approximation's error, doubts.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
    >>> print(fit_text(blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml()))
    Generalized linear mixed model fit by maximum likelihood (adaptive quadrature, ... nodes at each level)
    Family: poisson(link = log)
    Formula: y ~ 1 + (1 | g)
    ...
    """
    parts = [f"{_title(fit)}\nFamily: {fit.family}\nFormula: {fit.formula}"]
    values = [f"{x:.2f}" for x in (fit.loglik, -2 * fit.loglik, fit.aic, fit.bic)]
    parts.append("\n".join(aligned([["logLik", "deviance", "AIC", "BIC"], values], ">>>>")))
    lines = _random(fit)
    table = "\n".join(" " + line for line in aligned(lines, "<<>>" + ">" * (len(lines[0]) - 4)))
    groups = "; ".join(dict.fromkeys(f"{lv.label}, {lv.m - lv.relatives}" for lv in fit.design.levels))
    counts = f"Number of obs: {fit.design.n}, groups: {groups}"
    parts.append(f"Random effects, on the {fit.family.link} scale:\n{table}\n{counts}")
    if fit.design.p:
        parts.append("Fixed effects:\n" + "\n".join(aligned(_coefficients(fit.fixef, fit.fixef_se), "<>>>")))
    if len(fit.dispersion):
        lines = [line[:3] for line in _coefficients(fit.dispersion, fit.dispersion_se)]
        parts.append("The family's own parameters:\n" + "\n".join(aligned(lines, "<>>")))
    parts += ["\n".join(wrap(one, 100)) for one in (_error(fit), *fit.doubts)]
    return visible("\n\n".join(parts))


def _title(fit: GLMMFit) -> str:
    how, plan, levels = "Laplace's approximation", fit.problem.rows.plan, fit.design.levels
    if fit.approximation == "quadrature" and plan.tail:
        others = " and ".join(levels[k].label for k in plan.tail)
        how = f"quadrature of {levels[plan.chain[0]].label}, {fit.nodes} nodes; Laplace's approximation of {others}"
    elif fit.approximation == "quadrature":
        how = f"adaptive quadrature, {fit.nodes} node{'s' if fit.nodes > 1 else ''} at each level"
    return f"Generalized linear mixed model fit by maximum likelihood ({how})"


def _error(fit: GLMMFit) -> str:
    """The error of Laplace's approximation, and of the fit's own where that is another one and not the better one."""
    error = fit.approximation_error
    if fit.approximation == "laplace" or not fit.problem.rows.plan.tail or not error.how:
        return error.text
    off = fit.loglik - error.better
    return f"{error.text} This fit's own approximation is {abs(off):.2g} too {'high' if off > 0 else 'low'}."


def _random(fit: GLMMFit) -> list[list[str]]:
    covariances = [lam @ lam.T for lam in fit.lambdas]
    flat = np.concatenate([np.diag(V) for V in covariances])
    variances, sds = iter(format_column(flat)), iter(format_column(np.sqrt(flat)))
    lines = [["Groups", "Name", "Variance", "Std.Dev."]]
    for level, V in zip(fit.design.levels, covariances, strict=True):
        for i, effect in enumerate(level.effects):
            line = [level.tag if i == 0 else "", effect, next(variances), next(sds)]
            if level.correlated:
                size = [np.sqrt(V[i, i] * V[j, j]) for j in range(i)]
                line += [f"{V[i, j] / size[j]:.2f}" if size[j] > 0 else "nan" for j in range(i)]
            lines.append(line)
    longest = max(len(line) for line in lines)
    if longest > 4:
        lines[0].append("Corr")
    return [line + [""] * (longest - len(line)) for line in lines]


def _coefficients(estimate, se) -> list[list[str]]:
    x, s = estimate.to_numpy(), se.to_numpy()
    z = np.divide(x, s, out=np.full_like(s, np.nan), where=s > 0)
    columns = [format_column(x), format_column(s), [f"{one:.3f}" for one in z]]
    lines = [["", "Estimate", "Std. Error", "z value"]]
    return lines + [list(line) for line in zip(estimate.index, *columns, strict=True)]
