"""Table -> R of its rows: weights, strata, and what the structure needs, each checked before anything is built."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.registry import STRUCTURES
from bayeslmm.covariances.residuals.structure import ResidualParameter
from bayeslmm.data.groups import find_groups
from bayeslmm.data.table import count, numbers, say_rows
from bayeslmm.description.levels import Residual
from bayeslmm.design.counted import group_sizes, median
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.errors import DataError

# Powers of ten of the weights: a number has about 15 digits; and SDs relative to sigma are sought from 1 on
_WIDEST = 15
_FARTHEST = 15


def build_residual(residual: Residual, frame: pd.DataFrame, counts: np.ndarray | None = None) -> ResidualDesign:
    """Make R of the rows of a table, that stand for `counts` rows each; what doesn't fit is an error.

    Raises
    ------
    DataError
        Weights that are not positive, or too far from each other or from 1, strata with one row, duplicate or
        fractional times, groups without pairs, a known matrix without some row's label.
    DescriptionError
        A known matrix that isn't positive definite.
    """
    n = len(frame)
    root_weights = np.sqrt(_weights(residual.weights, frame, counts)) if residual.weights else np.ones(n)
    strata, stratum = _strata(residual.by, frame, counts)
    return ResidualDesign(
        residual=residual, structure=STRUCTURES[residual.structure].read(residual, frame),
        ratios=_ratios(residual.by, strata), strata=strata, stratum=stratum, root_weights=root_weights,
        counts=counts,
    )  # fmt: skip


def _weights(name: str, frame: pd.DataFrame, counts: np.ndarray | None) -> np.ndarray:
    w = numbers(frame[name], "the weights")
    bad = ~(w > 0)
    if bad.any():
        where = say_rows(frame.index, bad) if counts is None else count(round(counts[bad].sum()), "row")
        raise DataError(
            f"The weights {name!r} are zero or negative in {where}; expected positive precision "
            "weights (the variance of a row is sigma^2 / w). Leave out rows that shall not count."
        )
    digits = np.log10(w)
    if np.ptp(digits) > _WIDEST:
        raise DataError(
            f"The weights {name!r} go from {w.min():.3g} to {w.max():.3g}; expected the largest to be at most "
            f"1e{_WIDEST} times the smallest, because beside it the other rows vanish in rounding. Leave out rows that "
            "shall not count, and give rows that are known well a smaller weight."
        )
    typical = median(digits, counts)
    if abs(typical) > _FARTHEST:
        raise DataError(
            f"The weights {name!r} are of the size {10**typical:.3g} (their median); expected it between "
            f"1e-{_FARTHEST} and 1e{_FARTHEST}, so that sigma is of the size of the other SDs. Divide them by their "
            "median: only the unit of sigma changes."
        )
    return w


def _strata(name: str | None, frame: pd.DataFrame, rows: np.ndarray | None) -> tuple[tuple[str, ...], np.ndarray]:
    if name is None:
        return (), np.zeros(len(frame), dtype=np.int64)
    groups = find_groups([frame[name]])
    counts = group_sizes(groups.index, len(groups.labels), rows)
    if len(groups.labels) < 2:
        raise DataError(
            f"The strata {name!r} have one value only ({groups.labels[0]!r}); expected two or more. Leave it out."
        )
    alone = [label for label, size in zip(groups.labels, counts, strict=True) if size < 2]
    if alone:
        raise DataError(
            f"The stratum {alone[0]!r} of {name!r} has one row only, which can't show a variance of its own; expected "
            "two rows or more in each. Put small strata together."
        )
    return groups.labels, groups.index


def _ratios(by: str | None, strata: tuple[str, ...]) -> tuple[ResidualParameter, ...]:
    return tuple(
        ResidualParameter(
            name="sigma_ratio",
            label=f"sigma_ratio[{label}]",
            lower=0.0,
            upper=np.inf,
            reason=f"residual SD of {by} {label} over that of {by} {strata[0]}",
            neutral=1.0,
            above="above 1",
        )
        for label in strata[1:]
    )
