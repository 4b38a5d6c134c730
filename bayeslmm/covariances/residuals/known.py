"""A known matrix, its rows matched to those of the table by label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.structure import Asked, ResidualStructure, Term, identity
from bayeslmm.data.groups import find_groups
from bayeslmm.data.known_matrix import LABEL_LIMIT, cholesky
from bayeslmm.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Known(ResidualStructure):
    """C = R is `matrix`, in the order of the rows."""

    name = "known"
    text = "a known matrix"
    takes = frozenset({"group", "covariance"})
    needs = "covariance"
    blocks = "independent blocks"

    matrix: np.ndarray

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Match the labels of the rows."""
        matrix = _matched(asked, frame)
        return cls(asked=asked, block=_components(matrix), matrix=matrix)

    def subset(self, rows: np.ndarray) -> Self:
        """Some of the rows."""
        matrix = self.matrix[np.ix_(rows, rows)]
        return replace(self, block=_components(matrix), matrix=matrix)

    @cached_property
    def terms(self) -> list[Term]:
        """The inverse."""
        inverse = _inverse_by_blocks(self.matrix, self.block)
        return [Term(left=inverse, right=identity(self.n), coefficient=lambda: 1.0)]

    def log_det(self, *own: Any, log: Callable[[Any], Any] = np.log) -> float:
        """A number."""
        return float(np.linalg.slogdet(self.matrix)[1])

    def entries(self, row: np.ndarray, col: np.ndarray, *own: float) -> np.ndarray:
        """As given."""
        return self.matrix[row, col]

    def color(self, z: np.ndarray, *own: np.ndarray) -> np.ndarray:
        """Multiply by the Cholesky factor."""
        return z @ np.linalg.cholesky(self.matrix).T

    def short_name(self) -> str:
        """Name the matrix."""
        assert self.asked.covariance is not None  # it is needed
        return f"sigma^2 times {self.asked.covariance.name}"


def _matched(asked: Asked, frame: pd.DataFrame) -> np.ndarray:
    assert asked.covariance is not None  # it is needed
    if len(frame) > LABEL_LIMIT:
        raise DataError(
            f"{asked.covariance.name} of the residual is needed for {len(frame):,} rows; at most {LABEL_LIMIT:,} "
            "are supported, because it is dense. Fit a subset, or give groups a known covariance instead of the rows."
        )
    if asked.group:
        groups = find_groups([frame[name] for name in asked.group])
        labels = [groups.labels[k] for k in groups.index]
        what = ":".join(asked.group)
    else:
        labels, what = [str(label) for label in frame.index], "the data's index"
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise DataError(
            f"The label {twice!r} of {what} stands for several rows; a known residual covariance needs one label "
            "per row."
        )
    missing = sorted(set(labels) - set(asked.covariance.labels))
    if missing:
        raise DataError(
            f"{asked.covariance.name} of the residual has no {', '.join(map(repr, missing[:5]))}"
            f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}, which {what} has; it has "
            f"{', '.join(map(repr, asked.covariance.labels[:5]))}, ... Name the column of labels with group=..."
        )
    R = asked.covariance.dense(labels)
    cholesky(R, f"{asked.covariance.name} of the residual")
    return R


def _components(matrix: np.ndarray) -> np.ndarray:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(csr_array(matrix != 0), directed=False)[1], dtype=np.int64)


def _inverse_by_blocks(matrix: np.ndarray, block: np.ndarray) -> Any:
    from scipy import sparse

    rows, cols, values = [], [], []
    for k in range(int(block.max()) + 1):
        at = np.flatnonzero(block == k)
        inverse = np.linalg.inv(matrix[np.ix_(at, at)])
        rows.append(np.repeat(at, len(at)))
        cols.append(np.tile(at, len(at)))
        values.append(((inverse + inverse.T) / 2).ravel())
    return sparse.csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=matrix.shape)
