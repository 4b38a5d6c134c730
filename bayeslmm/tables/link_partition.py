"""Correlations within groups on the scale of y itself, where the outcome isn't Gaussian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.families.averages import over_nodes
from bayeslmm.link_model import LinkModel
from bayeslmm.support.arguments import check_coverage
from bayeslmm.tables.link_points import LinkPoints
from bayeslmm.tables.link_result import LinkPosterior, read_link_result
from bayeslmm.tables.partition import containing, icc
from bayeslmm.tables.table import Table

SCALES = ("latent", "observation")
DRAWS = 200  # of a posterior that are used
ROWS = 200  # rows that are used


def link_icc(model: LinkModel, result: Any, at: Any = None, level: float = 0.95, scale: str = "latent") -> Table:
    """Intra-class correlations on the link's scale, or on that of y, as `GLMM.icc` says."""
    if scale not in SCALES:
        raise DescriptionError(
            f"scale={scale!r}; 'latent' (of the link) or 'observation' (of y) was expected."
            f"{did_you_mean(str(scale), SCALES)}"
        )
    if scale == "latent":
        return icc(model, result, at, level)
    if at is not None:
        raise DescriptionError("scale='observation' averages over the rows; leave at= out, or write scale='latent'.")
    return _observed(model, result, level)


def _observed(model: LinkModel, result: Any, level: float) -> Table:
    check_coverage("level", level)
    given = read_link_result(model, result, level, random_effects=False)
    design, family = model.design, model.family
    if family.responses(model.outcome):
        raise DescriptionError(
            "Ordered categories have no mean, and so no variance on a scale of their own. Write scale='latent'."
        )
    some = np.unique(np.linspace(0, design.n - 1, ROWS).round().astype(int))
    shared = containing(design)

    def quantities(points: LinkPoints) -> np.ndarray:
        every = slice(0, points.n)
        eta = points.fixed(every)[:, some].T
        own = [points.row_effects(k, every)[:, some].T for k in range(len(design.levels))]
        whole = sum(own, np.zeros_like(eta))
        columns = [np.broadcast_to(x, eta.shape) for x in points.dispersion.T]
        mean = family.averaged(eta, whole, points.dispersion)[0]

        def square(z: float, sd: np.ndarray, m: np.ndarray) -> np.ndarray:
            return family.mean(m + sd * z) ** 2

        def spread(z: float, sd: np.ndarray, m: np.ndarray, *values: np.ndarray) -> np.ndarray:
            found = family.variance(family.mean(m + sd * z), np.stack([*values, np.zeros_like(m)], axis=-1))
            if found is None:
                raise DescriptionError(f"Rows of a {family} outcome have no variance here. Write scale='latent'.")
            return found

        sd = np.sqrt(whole)
        total = over_nodes(square, sd, eta) - mean**2 + over_nodes(spread, sd, eta, *columns)
        out = []
        for k in range(len(design.levels)):
            together = sum((v for v, with_it in zip(own, shared[k], strict=True) if with_it), np.zeros_like(eta))
            rest = np.maximum(whole - together, 0.0)

            def between(z: float, sd: np.ndarray, m: np.ndarray, v: np.ndarray) -> np.ndarray:
                return family.averaged(m + sd * z, v, np.zeros((m.size, 0)))[0] ** 2

            covariance = over_nodes(between, np.sqrt(together), eta, rest) - mean**2
            with np.errstate(invalid="ignore"):
                out.append(np.maximum(covariance, 0.0).mean(axis=0) / total.mean(axis=0))
        return np.stack(out, axis=-1) if out else np.zeros((points.n, 0))

    rows = given.derive(quantities, 0.0, 1.0, DRAWS)
    names = pd.DataFrame(
        [(own.name, own.label, "correlation") for own in design.levels], columns=["level", "grouping", "quantity"]
    )
    trials = " Of a binomial they are single trials." if family.takes_trials else ""
    said = [
        "correlation: of two rows of one group, as they are observed, not on the scale of the link: covariance of "
        f"their means over groups, over the variance of y, both averaged over {len(some)} rows at their own predictors."
        f"{trials}"
    ]
    if isinstance(given, LinkPosterior) and given.drawn.n > DRAWS:
        said.append(f"At {DRAWS} draws, evenly spaced.")
    title = f"Intra-class correlations on the scale of y, {given.name}"
    return Table(frame=pd.concat([names, rows], axis=1), title=title, note=given.note(*said, given.meaning))
