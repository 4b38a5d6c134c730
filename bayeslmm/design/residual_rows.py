"""Table -> R of its rows: weights, strata, groups, times and labels, each checked before anything is built."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.data.groups import find_groups
from bayeslmm.data.table import numbers, say_rows
from bayeslmm.description.known_matrix import LABEL_LIMIT, cholesky
from bayeslmm.description.levels import Residual
from bayeslmm.design.residual_design import ResidualDesign, ResidualParameter
from bayeslmm.errors import DataError
from bayeslmm.support.text import listed

# Powers of ten of the weights: a number has about 15 digits; and SDs relative to sigma are sought from 1 on
_WIDEST = 15
_FARTHEST = 15
# Times: by how much of a step they may be off, and how many steps the smallest gap may have
_UNEVEN = 0.02
_FINEST = 100


def build_residual(residual: Residual, frame: pd.DataFrame) -> ResidualDesign:
    """Make R of the rows of a table; what doesn't fit is an error.

    Raises
    ------
    DataError
        Weights that are not positive, or too far from each other or from 1, strata with one row, duplicate or
        fractional times, groups without pairs, a known matrix without some row's label.
    DescriptionError
        A known matrix that isn't positive definite.
    """
    n = len(frame)
    root_weights = np.sqrt(_weights(residual.weights, frame)) if residual.weights else np.ones(n)
    strata, stratum = _strata(residual.by, frame)
    block, place = np.arange(n), np.zeros(n, dtype=np.int64)
    matrix, step = None, 1.0
    if residual.structure in ("ar1", "cs"):
        groups = find_groups([frame[name] for name in residual.group]) if residual.group else None
        block = np.zeros(n, dtype=np.int64) if groups is None else groups.index
        place, step = _places(residual, frame, block)
    if residual.structure == "known":
        matrix = _known(residual, frame)
        block = _components(matrix)
    return ResidualDesign(
        residual=residual, n=n, parameters=_parameters(residual, strata, block, step), strata=strata, stratum=stratum,
        root_weights=root_weights, block=block, place=place, step=step, matrix=matrix,
    )  # fmt: skip


def _weights(name: str, frame: pd.DataFrame) -> np.ndarray:
    w = numbers(frame[name], "the weights")
    bad = ~(w > 0)
    if bad.any():
        raise DataError(
            f"The weights {name!r} are zero or negative in {say_rows(frame.index, bad)}; expected positive precision "
            "weights (the variance of a row is sigma^2 / w). Leave out rows that shall not count."
        )
    digits = np.log10(w)
    if np.ptp(digits) > _WIDEST:
        raise DataError(
            f"The weights {name!r} go from {w.min():.3g} to {w.max():.3g}; expected the largest to be at most "
            f"1e{_WIDEST} times the smallest, because beside it the other rows vanish in rounding. Leave out rows that "
            "shall not count, and give rows that are known well a smaller weight."
        )
    typical = float(np.median(digits))
    if abs(typical) > _FARTHEST:
        raise DataError(
            f"The weights {name!r} are of the size {10**typical:.3g} (their median); expected it between "
            f"1e-{_FARTHEST} and 1e{_FARTHEST}, so that sigma is of the size of the other SDs. Divide them by their "
            "median: only the unit of sigma changes."
        )
    return w


def _strata(name: str | None, frame: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    if name is None:
        return (), np.zeros(len(frame), dtype=np.int64)
    groups = find_groups([frame[name]])
    counts = np.bincount(groups.index, minlength=len(groups.labels))
    if len(groups.labels) < 2:
        raise DataError(
            f"The strata {name!r} have one value only ({groups.labels[0]!r}); expected two or more. Leave it out."
        )
    alone = [label for label, count in zip(groups.labels, counts, strict=True) if count < 2]
    if alone:
        raise DataError(
            f"The stratum {alone[0]!r} of {name!r} has one row only, which can't show a variance of its own; expected "
            "two rows or more in each. Put small strata together."
        )
    return groups.labels, groups.index


def _places(residual: Residual, frame: pd.DataFrame, block: np.ndarray) -> tuple[np.ndarray, float]:
    """Place of each row within its block, in steps, and how long a step is."""
    if residual.structure == "cs":
        return np.zeros(len(block), dtype=np.int64), 1.0
    if residual.time is None:
        order = np.argsort(block, kind="stable")
        starts = np.searchsorted(block[order], block[order], side="left")
        place = np.empty(len(block), dtype=np.int64)
        place[order] = np.arange(len(block)) - starts
        return place, 1.0
    t = numbers(frame[residual.time], "the time")
    huge = abs(t) > 2.0**53
    if huge.any():
        raise DataError(
            f"The time {residual.time!r} is too large in {say_rows(frame.index, huge)} to be told from the next; "
            "expected small whole numbers. Count steps from the first time."
        )
    gaps, twice = _gaps(block, t)
    if twice.any():
        unit = f" of the same {':'.join(residual.group)}" if residual.group else ""
        remedy = "" if residual.group else " Name the series with group=..., if times start anew."
        raise DataError(
            f"The time {residual.time!r} occurs twice in rows{unit}: {say_rows(frame.index, twice)}; an AR(1) "
            f"needs one row per time.{remedy}"
        )
    whole = (t == np.round(t)).all()
    step = float(np.gcd.reduce(gaps.astype(np.int64))) if whole else _step(gaps)
    first = np.full(block.max(initial=0) + 1, np.inf)
    np.minimum.at(first, block, t)
    steps = (t - first[block]) / (step or 1.0)
    place = np.round(steps)
    uneven = abs(steps - place) > _UNEVEN
    if not whole and (step == 0 or uneven.any()):
        where = f" in {say_rows(frame.index, uneven)}" if step else ""
        raise DataError(
            f"The time {residual.time!r} isn't in equal steps{where}; an AR(1) needs times that are a whole number of "
            "steps apart, up to rounding. Count steps instead, such as round((t - t.min()) / step)."
        )
    return place.astype(np.int64), step or 1.0


def _gaps(block: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times between neighbours of a series, and which rows have a time that another row of theirs has as well."""
    order = np.lexsort((t, block))
    gaps = np.diff(t[order])[np.diff(block[order]) == 0]
    inner = np.flatnonzero(np.diff(block[order]) == 0)
    alike = inner[gaps <= 64 * np.finfo(float).eps * np.abs(t).max(initial=0.0)]
    twice = np.zeros(len(t), dtype=bool)
    twice[order[alike]] = twice[order[alike + 1]] = True
    return gaps, twice


def _step(gaps: np.ndarray) -> float:
    """The largest step that all gaps are whole multiples of, up to rounding: Euclid's algorithm; 0 where none is.

    Examples
    --------
    >>> months = 2000 + np.array([1, 2, 4, 7]) / 12
    >>> round(12 * _step(np.diff(months)), 9), _step(np.array([1.0, 1.5, 0.7312]))
    (1.0, 0.0)
    """
    if not gaps.size:
        return 1.0
    step = smallest = float(gaps.min())
    while step * _FINEST > smallest:
        times = np.maximum(np.round(gaps / step), 1.0)
        fitted = float(gaps.sum() / times.sum())
        rest = abs(gaps - fitted * times)
        if rest.max() <= _UNEVEN * fitted:
            return round(fitted) if abs(fitted - round(fitted)) < 1e-9 * fitted else fitted
        step = float(rest[rest > _UNEVEN * fitted].min())
    return 0.0


def _known(residual: Residual, frame: pd.DataFrame) -> np.ndarray:
    """R in the order of the rows, matched by label."""
    assert residual.covariance is not None  # held by Residual
    if len(frame) > LABEL_LIMIT:
        raise DataError(
            f"{residual.covariance.name} of the residual is needed for {len(frame):,} rows; at most {LABEL_LIMIT:,} "
            "are supported, because it is dense. Fit a subset, or give groups a known covariance instead of the rows."
        )
    if residual.group:
        groups = find_groups([frame[name] for name in residual.group])
        labels = [groups.labels[k] for k in groups.index]
        what = ":".join(residual.group)
    else:
        labels, what = [str(label) for label in frame.index], "the data's index"
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(
            f"The label {twice!r} of {what} stands for several rows; a known residual covariance needs one label "
            "per row."
        )
    missing = sorted(set(labels) - set(residual.covariance.labels))
    if missing:
        raise DataError(
            f"{residual.covariance.name} of the residual has no {listed(missing)}, "
            f"which {what} has; it has "
            f"{', '.join(map(repr, residual.covariance.labels[:5]))}, ... Name the column of labels with group=..."
        )
    R = residual.covariance.dense(labels)
    cholesky(R, f"{residual.covariance.name} of the residual")
    return R


def _components(matrix: np.ndarray) -> np.ndarray:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(csr_array(matrix != 0), directed=False)[1], dtype=np.int64)


def _apart(residual: Residual, step: float) -> str:
    return "one step of time" if step == 1 else f"one step of time ({step:.4g} of {residual.time})"


def _parameters(
    residual: Residual, strata: tuple[str, ...], block: np.ndarray, step: float
) -> tuple[ResidualParameter, ...]:
    out = []
    if residual.structure in ("ar1", "cs"):
        largest = int(np.bincount(block).max())
        where = f"the groups of {':'.join(residual.group)}" if residual.group else "the table"
        if largest < 2:
            raise DataError(
                f"{where[0].upper()}{where[1:]} have one row each, so there is no correlation within them; expected "
                "several rows in some. Group by less, or leave the structure out."
            )
        cs = residual.structure == "cs"
        out.append(
            ResidualParameter(
                name="rho",
                label="rho",
                lower=-1.0 / (largest - 1) if cs else -1.0,
                upper=1.0,
                reason=f"correlation of two rows within {where}"
                + (f" (above -1/{largest - 1})" if cs else f" that are {_apart(residual, step)} apart"),
            )
        )
    for label in strata[1:]:
        out.append(
            ResidualParameter(
                name="sigma_ratio",
                label=f"sigma_ratio[{label}]",
                lower=0.0,
                upper=np.inf,
                reason=f"residual SD of {residual.by} {label} over that of {residual.by} {strata[0]}",
            )
        )
    return tuple(out)
