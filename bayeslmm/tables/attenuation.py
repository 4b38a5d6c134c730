"""Effects given the groups beside effects averaged over them: a population's curve is flatter than each group's.

For a row with the linear predictor eta and the variance v of its effects, the population has the mean E g^-1(eta + u),
u ~ N(0, v); its linear predictor is the link of that. What one unit of a column does to it, averaged over the rows, is
the population-averaged coefficient. With a probit it is beta / sqrt(1 + v), with a logit nearly
beta / sqrt(1 + 0.346 v), with a log beta itself unless the column's effect varies between groups.

Source: Zeger, Liang & Albert (1988), Models for longitudinal data: a generalized estimating equation approach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.model_matrix import INTERCEPT
from bayeslmm.errors import DescriptionError
from bayeslmm.link_model import LinkModel
from bayeslmm.support.arguments import check_coverage
from bayeslmm.tables.link_estimates import exponentiated, how_exponentiated
from bayeslmm.tables.link_points import LinkPoints
from bayeslmm.tables.link_result import LinkPosterior, read_link_result
from bayeslmm.tables.table import Table

DRAWS = 500  # of a posterior that are used
ROWS = 500  # different rows up to which all are used


def attenuation(model: LinkModel, result: Any, level: float = 0.95) -> Table:
    """Conditional and population-averaged effects side by side, as `GLMM.attenuation` says."""
    check_coverage("level", level)
    given = read_link_result(model, result, level, random_effects=False)
    family, design = model.family, model.design
    coefs = [k for k, name in enumerate(design.coef) if name != INTERCEPT]
    if not coefs:
        raise DescriptionError("The model has no fixed effects beside the constant: there is nothing to attenuate.")
    if family.link == "identity":
        raise DescriptionError(
            "With an identity link effects averaged over groups are those given the groups: glmm.fixef(result)."
        )
    averaged = Averaged(model)

    def logs(points: LinkPoints) -> np.ndarray:
        own = points.beta[:, coefs]
        return np.stack([own, averaged(points, coefs)], axis=-1).reshape(points.n, -1)

    def share(points: LinkPoints) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return averaged(points, coefs) / points.beta[:, coefs]

    if family.ratio:
        rows = exponentiated(given, logs, DRAWS)
        what, how = family.ratio, how_exponentiated(given)
    else:
        rows = given.derive(logs, -np.inf, np.inf, DRAWS)
        what, how = "coefficient", given.meaning
    names = [design.coef[k] for k in coefs]
    same = np.array([not any(name in level.effects for level in design.levels) for name in names])
    kept = given.derive(share, np.where(same, 0.0, -np.inf), np.where(same, 1.0, np.inf), DRAWS)
    first = pd.DataFrame(
        {
            "coef": np.repeat(names, 2),
            "quantity": [f"conditional {what}", f"population-averaged {what}"] * len(names),
        }
    )
    last = pd.DataFrame({"coef": names, "quantity": "attenuation"})
    both = pd.concat([pd.concat([first, rows], axis=1), pd.concat([last, kept], axis=1)], ignore_index=True)
    order = np.concatenate([[2 * k, 2 * k + 1, 2 * len(names) + k] for k in range(len(names))])
    frame = both.iloc[order].reset_index(drop=True)
    said = [
        f"conditional: what one unit of the column does within a group. population-averaged: what it does to the mean "
        f"over all groups, as a difference on the {family.link} scale, averaged over "
        f"{'the rows' if averaged.whole else f'{ROWS} rows, evenly spaced'} at their own predictors. attenuation: the "
        "second coefficient over the first, on that scale.",
        _words(model),
    ]
    if isinstance(given, LinkPosterior) and given.drawn.n > DRAWS:
        said.append(f"At {DRAWS} draws, evenly spaced.")
    title = f"Effects given the groups and averaged over them, {given.name}"
    return Table(frame=frame, title=title, note=given.note(*said, how))


def _words(model: LinkModel) -> str:
    if not model.design.levels:
        return "There are no groups, so that both are the same."
    if model.family.link == "log":
        return "With a log link both are the same, but for columns whose effects vary between groups."
    return (
        "Neither is wrong: the first answers what happens to one group or person, the second what happens to the share "
        "in a population. The more groups differ, the flatter the second."
    )


class Averaged:
    """Population-averaged coefficients of points of the parameters."""

    def __init__(self, model: LinkModel):
        self.model = model
        design = model.design
        offset = np.zeros(design.n) if design.offset is None else design.offset
        roots = [level.variances[level.index] for level in design.levels]
        parts = [offset[:, None], design.X, *(level.columns for level in design.levels), *(r[:, None] for r in roots)]
        _, at, counts = np.unique(np.hstack(parts), axis=0, return_index=True, return_counts=True)
        self.whole = len(at) <= ROWS
        if not self.whole:
            at = np.unique(np.linspace(0, design.n - 1, ROWS).round().astype(int))
            counts = np.ones(len(at), dtype=int)
        self.offset, self.X, self.weights = offset[at], design.X[at], counts / counts.sum()
        self.columns = [level.columns[at] for level in design.levels]
        self.roots = [root[at] for root in roots]

    def __call__(self, points: LinkPoints, coefs: list[int]) -> np.ndarray:
        """Of these columns of X, (N, k)."""
        base = self._link(points, self.X, self.columns)
        out = np.empty((points.n, len(coefs)))
        for j, k in enumerate(coefs):
            X = self.X.copy()
            X[:, k] += 1
            moved = self._link(points, X, self._with_more(k))
            out[:, j] = np.einsum("cin,i->n", moved - base, self.weights) / len(base)
        return out

    def _with_more(self, k: int) -> list[np.ndarray]:
        """The columns of effects, where the one that column k of X also is, is one more."""
        name, out = self.model.design.coef[k], []
        for level, own in zip(self.model.design.levels, self.columns, strict=True):
            out.append(own + np.array([float(effect == name) for effect in level.effects]))
        return out

    def _link(self, points: LinkPoints, X: np.ndarray, columns: list[np.ndarray]) -> np.ndarray:
        """The population's linear predictor (C, rows, N)."""
        eta = X @ points.beta.T + self.offset[:, None]
        v = np.zeros_like(eta)
        for factor, own, root in zip(points.values.factors, columns, self.roots, strict=True):
            v += root[:, None] * ((own @ factor) ** 2).sum(axis=-1).T
        return self.model.family.averaged_link(eta, v, points.dispersion)
