"""How the variance of y is made up: per level, as correlations within groups, and as R^2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.counted import mean, scaled
from bayeslmm.design.describe import relation
from bayeslmm.design.design import Design
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model
from bayeslmm.tables.places import Places, read_places
from bayeslmm.tables.points import EffectPoints
from bayeslmm.tables.read import read_result
from bayeslmm.tables.table import Table


def variance_partition(model: Model | LinkModel, result: Any, at: Any = None, level: float = 0.95) -> Table:
    """The variance that each level adds, and its share, as `LMM.variance_partition` says."""
    given = read_result(model, result, level)
    design, places = model.design, read_places(given.basis, at)
    parts = [(own.name, own.label) for own in design.levels] + [(given.rows_part, "")]
    shares = len(parts)

    def quantities(points: EffectPoints) -> np.ndarray:
        own = places.variances(points)
        total = own.sum(axis=-1, keepdims=True)
        return np.concatenate([own, total, own / total], axis=-1).reshape(points.n, -1)

    kinds = [(*part, "variance") for part in [*parts, ("total", "")]] + [(*part, "share") for part in parts]
    lower = np.array([0.0] * len(kinds))
    upper = np.array([np.inf] * (shares + 1) + [1.0] * shares)
    if not design.levels:
        lower[-1] = 1.0  # the residual is all there is
    rows = given.derive(quantities, np.tile(lower, places.count), np.tile(upper, places.count))
    names = pd.DataFrame(kinds, columns=["component", "grouping", "quantity"])
    note = given.note(
        f"{given.scale} A share is that of their total (the variance partition coefficient).",
        " ".join(places.words),
        given.meaning,
    )
    return Table(frame=_at_places(places, names, rows), title=f"Variance by level, {given.name}", note=note)


def icc(model: Model | LinkModel, result: Any, at: Any = None, level: float = 0.95) -> Table:
    """Shares of the levels and correlations within their groups, as `LMM.icc` says."""
    given = read_result(model, result, level)
    design, places = model.design, read_places(given.basis, at)
    shared = containing(design)

    def quantities(points: EffectPoints) -> np.ndarray:
        own = places.variances(points)
        each = own[..., :-1] / own.sum(axis=-1, keepdims=True)
        return np.stack([each, each @ shared.T], axis=-1).reshape(points.n, -1)

    kinds = [(own.name, own.label, kind) for own in design.levels for kind in ("share", "correlation")]
    rows = given.derive(quantities, 0.0, 1.0)
    names = pd.DataFrame(kinds, columns=["level", "grouping", "quantity"])
    said = [
        "share: variance of the level alone over the total. correlation: of two rows of one group with the same "
        "predictors, which share the groups that contain it too.",
        " ".join(places.words),
        given.latent,
    ]
    if design.residual.correlated:
        said.append("What R itself adds to the correlation of rows is not counted.")
    note = given.note(*said, given.meaning) if kinds else given.note("The model has no levels.")
    title = f"Intra-class correlations, {given.name}"
    return Table(frame=_at_places(places, names, rows), title=title, note=note)


def containing(design: Design) -> np.ndarray:
    """Whether two rows of one group of a level (L rows) share their group of another level too (L columns).

    Examples
    --------
    >>> import bayeslmm as blm
    >>> containing(blm.example("heights").design).tolist()  # a class lies in one school
    [[1.0, 1.0], [0.0, 1.0]]
    """
    levels = design.levels
    within = [[a is b or relation(a, b) in ("nested", "same") for b in levels] for a in levels]
    return np.array(within, dtype=float).reshape(len(levels), len(levels))


def r2(model: Model | LinkModel, result: Any, level: float = 0.95) -> Table:
    """Marginal and conditional R^2, as `LMM.r2` says."""
    given = read_result(model, result, level)
    design, places = model.design, read_places(given.basis)
    rows = design.counted
    X = scaled(rows.X - mean(rows.X, rows.counts), rows.root)
    size = np.sqrt((X**2).sum(axis=0) / max(design.n - 1, 1))
    explaining = bool((size > 0).any())

    def quantities(points: EffectPoints) -> np.ndarray:
        own = places.variances(points)[:, 0]
        fixed = _variance_of(X, design.n, points.beta)
        total = fixed + own.sum(axis=-1)
        return np.stack([fixed / total, (fixed + own[:, :-1].sum(axis=-1)) / total], axis=-1)

    nothing = not explaining and not design.levels
    upper = [1.0 if explaining else 0.0, 0.0 if nothing else 1.0]
    frame = given.derive(quantities, 0.0, upper).set_index(pd.Index(["marginal", "conditional"], name="R2"))
    said = [
        "marginal: variance of X beta over the rows, over the total; conditional: that of X beta and of all levels, "
        "whose variance is its mean over the rows.",
    ]
    if design.hierarchy.offset:
        said.append("The offset, whose coefficient is known, explains nothing here.")
    if explaining:
        said.append(
            "As beta is uncertain, X beta varies more than it truly does: a small marginal R^2 is biased upwards."
        )
    return Table(
        frame=frame,
        title=f"R^2, {given.name}",
        note=given.note(*said, " ".join(places.words), given.latent, given.meaning),
    )


def _variance_of(X: np.ndarray, n: int, beta: np.ndarray) -> np.ndarray:
    """Variance over n rows of X beta (N,), the columns of X having mean zero."""
    if n < 2 or not X.shape[1]:
        return np.zeros(len(beta))
    root = np.linalg.qr(X, mode="r") / np.sqrt(n - 1)
    return ((beta @ root.T) ** 2).sum(axis=1)


def _at_places(places: Places, names: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Names of the quantities beside their numbers, for each place."""
    each = pd.concat([names] * places.count, ignore_index=True)
    labels = places.labels.loc[np.repeat(places.labels.index, len(names))].reset_index(drop=True)
    return pd.concat([labels, each, rows], axis=1)
