"""How far each group is drawn to zero: its own estimate, the pooled one, and what its rows are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.counted import mean
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.linear_predictor import row_effects
from bayeslmm.factorisation.factor import effect_covariances, factorise_statistics
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.model import Model
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.estimates import NAMES, names_of
from bayeslmm.tables.places import group_variances
from bayeslmm.tables.points import Points
from bayeslmm.tables.read import read_result
from bayeslmm.tables.table import Table

COLUMNS = ["rows", "effective_rows", "own", "population", "pooled", "reliability", "shrinkage"]
RELIABILITY = (
    "reliability: 1 - Var(u | y) / Var(u), the parameters given; shrinkage: 1 less it, as a share of the way to the "
    "population's value, 0. effective_rows: how many independent rows, of the mean residual variance and one SD from "
    "the predictor's mean, would alone be as reliable. own: by least squares on the group's own rows, without pooling, "
    "once the fixed effects and the other levels are taken off; empty where they don't determine it."
)


def shrinkage(model: Model, result: Any) -> Table:
    """Per group and effect what its own rows say and how far it is drawn to zero, as `LMM.shrinkage` says."""
    given = read_result(model, result, random_effects=True)
    design, points = model.design, given.points(model.design.q)
    modes = {level.name: given.effects(k)[0] for k, level in enumerate(design.levels)}
    with one_blas_thread():
        numbers = reliabilities(points)
    parts = [pd.DataFrame(columns=[*NAMES, *COLUMNS])]
    for k, (level, (reliability, worth)) in enumerate(zip(design.levels, numbers, strict=True)):
        own = own_estimates(design, k, given.beta, modes, given.psi)
        rows = np.repeat(level.sizes, level.r)
        columns = (rows, worth.ravel(), own.ravel(), 0.0, modes[level.name].ravel(), reliability.ravel())
        part = names_of(level).assign(**dict(zip(COLUMNS, columns, strict=False)))
        parts.append(part.assign(shrinkage=1 - part["reliability"]))
    frame = pd.concat(parts[1:] or parts, ignore_index=True)
    said = [RELIABILITY] if design.levels else ["The model has no random effects."]
    if points.n > 1 and design.levels:
        said.append(f"Reliabilities are means over {points.n} draws, evenly spaced, effective rows medians.")
    if np.isnan(frame["effective_rows"].to_numpy(dtype=float)).any():
        said.append("Where an SD is zero, all is shrunk whatever the rows, and effective rows can't be told.")
    return Table(frame=frame, title=f"Shrinkage, {given.name}", note=given.note(*said))


def reliabilities(points: Points) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per level (reliabilities (m, r), effective rows (m, r)), means and medians over the points.

    Source: Raudenbush & Bryk (2002), chapter 3.
    """
    stats, design = points.stats, points.stats.design
    p = design.p
    found: list[list[np.ndarray]] = [[] for _ in design.levels]
    for i in range(points.n):
        at = stats.at(points.psi[i])
        factor = factorise_statistics(at, points.lams[i])
        variances = factor.adjoint(0.0, np.zeros((p + 1, p + 1))).variances
        noise = mean(design.residual.diagonal(points.psi[i]), design.residual.counts)
        for k, C in enumerate(effect_covariances(factor, variances, at)):
            F = points.factor(k)[i] / points.sigma[i]
            prior = group_variances(design.levels[k])[:, None] * np.einsum("ij,ij->i", F, F)
            with np.errstate(invalid="ignore", divide="ignore"):
                reliability = np.clip(1 - np.einsum("mii->mi", C) / prior, 0.0, 1.0)
                worth = noise * reliability / (1 - reliability) / (prior * np.diag(stats.maps[k]) ** 2)
            found[k].append(np.stack([np.where(prior > 0, reliability, 0.0), np.where(prior > 0, worth, np.nan)]))
    every = [np.stack(each) for each in found]  # as an SD nears zero, worth has no bound, and so no mean to speak of
    return [(one[:, 0].mean(axis=0), np.median(one[:, 1], axis=0)) for one in every]


def unshrunk(fit: LikelihoodFit, level: LevelDesign) -> np.ndarray:
    """Effects (m, r) of each group of a fit by least squares on its own rows; NaN where they don't determine them."""
    levels = fit.design.levels
    modes = {one.name: fit.ranef[one.name].to_numpy()[:, : one.r] for one in levels}
    k = next(k for k, one in enumerate(levels) if one is level)
    return own_estimates(fit.design, k, fit.beta, modes, fit.psi)


def own_estimates(
    design: Design, k: int, beta: np.ndarray, effects: Mapping[str, np.ndarray], psi: np.ndarray
) -> np.ndarray:
    """Level k's effects (m, r) by weighted least squares on each group's own rows; NaN where they don't determine them.

    What is fitted is y less the fixed effects and the other levels' effects; weights are the rows' own variances.
    """
    level = design.levels[k]
    own = row_effects(level.index, level.columns, effects[level.name])
    every = sum((row_effects(one.index, one.columns, effects[one.name]) for one in design.levels), -own)
    rest = design.counted.y - design.counted.X @ beta - every
    weights = (1.0 if level.counts is None else level.counts) / design.residual.diagonal(psi)
    x, r = level.columns, level.r
    squares, pull = np.zeros((level.m, r, r)), np.zeros((level.m, r))
    np.add.at(squares, level.index, weights[:, None, None] * x[:, :, None] * x[:, None, :])
    np.add.at(pull, level.index, (weights * rest)[:, None] * x)
    size = np.sqrt(np.einsum("gii->gi", squares))
    found = (size > 0).all(axis=1)
    scaled = squares[found] / (size[found][:, :, None] * size[found][:, None, :])
    found[found] = np.linalg.eigvalsh(scaled)[:, 0] > 1e-8
    out = np.full((level.m, r), np.nan)
    out[found] = np.linalg.solve(squares[found], pull[found][:, :, None])[..., 0]
    return out
