"""The number of effective parameters: what y-hat = X beta-hat + Z u-hat has of y, level by level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.factorisation.factor import factorise_statistics
from bayeslmm.model import Model
from bayeslmm.tables.points import Points
from bayeslmm.tables.read import read_result
from bayeslmm.tables.table import Table


def effective_parameters(model: Model, result: Any, level: float = 0.95) -> Table:
    """The trace of the hat matrix, level by level, as `LMM.effective_parameters` says."""
    given = read_result(model, result, level)
    design = model.design
    p, q = design.p, np.array([own.q for own in design.levels], dtype=int)

    def quantities(points: Points) -> np.ndarray:
        own = traces(points)
        fixed = np.full((points.n, 1), float(p))
        return np.concatenate([fixed, own, fixed + own.sum(axis=1, keepdims=True)], axis=1)

    lower = np.array([p, *np.zeros(len(q)), p], dtype=float)
    upper = lower + np.array([0.0, *np.minimum(q, design.n - p), min(q.sum(), design.n - p)])
    draws = given.points(design.q).n
    rows = given.derive(quantities, lower, upper, most=draws)
    names = pd.DataFrame(
        {
            "component": ["fixed", *(own.name for own in design.levels), "total"],
            "grouping": ["", *(own.label for own in design.levels), ""],
            "columns": [p, *q, p + q.sum()],
        }
    )
    said = [
        "The trace of d y-hat / d y with the variance parameters given, and what each part has in it: columns is "
        "what it would be without shrinkage, if nothing else explained the same. beta counts in full, whatever its "
        "prior."
    ]
    if draws > 1:
        said.append(f"At {draws} draws, evenly spaced.")
    title = f"Effective parameters, {given.name}"
    return Table(frame=pd.concat([names, rows], axis=1), title=title, note=given.note(*said, given.meaning))


def traces(points: Points) -> np.ndarray:
    """tr(Z_k G_k Z_k' P) (N, L) per point and level, P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1.

    It is how log|V| + log|X'V^-1 X| changes with the logarithm of the scale of lambda_k, halved: one pull-back each.
    """
    stats, design = points.stats, points.stats.design
    p = design.p
    out = np.zeros((points.n, len(design.levels)))
    for i in range(points.n):
        factor = factorise_statistics(stats.at(points.psi[i]), points.lams[i])
        Tbar = np.zeros((p + 1, p + 1))
        Tbar[:p, :p] = np.linalg.inv(factor.T[:p, :p])
        slopes = points.lams[i] * factor.adjoint(1.0, Tbar).gradient
        out[i] = [slopes[span].sum() / 2 for span in stats.lambda_slices]
    return out
