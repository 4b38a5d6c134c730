"""The same model on some of its rows: the same columns, groups and priors, whether or not these rows tell of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.wide import Wide, some_rows
from bayeslmm.errors import SamplingError
from bayeslmm.factorisation.statistics import Statistics, build_statistics
from bayeslmm.model import Model
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.collapsed_sampler import natural_values
from bayeslmm.posterior.independence import run_chains
from bayeslmm.posterior.trust import PARETO_LIMIT
from bayeslmm.support.progress import Progress


def part_of(design: Design, rows: np.ndarray) -> Design:
    """Take some rows of a design; groups without rows stay only where their relatives tell of them.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> part = part_of(blm.example("dyestuff").design, np.arange(10))
    >>> part.n, part.levels[0].groups
    (10, ('A', 'B'))
    """
    part = design.part(rows)
    return replace(
        design, y=design.y[rows], columns=part.columns, levels=tuple(map(_seen, part.levels)), rows=part.rows,
        residual=design.residual.subset(rows), offset=part.offset, frame=design.frame.iloc[rows],
    )  # fmt: skip


def _seen(level: LevelDesign) -> LevelDesign:
    """The level without the groups that have no rows."""
    if level.related:
        return level
    seen, index = np.unique(level.index, return_inverse=True)
    keys = tuple(level.keys[g] for g in seen)
    return replace(level, index=index, groups=tuple(level.groups[g] for g in seen), keys=keys)


def statistics_without(design: Design, rows: np.ndarray) -> Statistics | None:
    """Cross-products of all rows but these; None where the others don't determine every coefficient of X."""
    part = part_of(design, np.delete(np.arange(design.n), rows))
    X = part.columns.compressed if isinstance(part.columns, Wide) else part.columns
    size = np.sqrt(np.einsum("ij,ij->j", X, X))
    if not part.n > part.p or not (size > 0).all() or np.linalg.matrix_rank(X / size, tol=1e-9) < part.p:
        return None
    return build_statistics(part)


def posterior_without(model: Model, rows: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray] | None:
    """Draws (N, ...) of the parameters from their posterior given all rows but these, under the model's own priors.

    None where the collapsed sampler can't be trusted with it, or the other rows don't determine every coefficient.
    """
    stats = statistics_without(model.design, rows)
    if stats is None:
        return None
    priors = model.priors
    if priors.beta_anchor is not None:
        columns = some_rows(priors.beta_anchor.columns, np.delete(np.arange(model.design.n), rows))
        priors = replace(priors, beta_anchor=replace(priors.beta_anchor, columns=columns))
    streams = np.random.SeedSequence((seed, int(rows[0])))
    try:
        states = run_chains(
            collapsed_posterior(stats, priors), draws=draws, chains=1, seed=streams, progress=Progress(False)
        )
    except SamplingError:
        return None
    if not states.pareto_k < PARETO_LIMIT:
        return None
    return natural_values(collapsed_posterior(stats, priors), states)
