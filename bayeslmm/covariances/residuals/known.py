"""A known matrix, its rows matched to those of the table by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from bayeslmm.covariances.residuals.structure import Asked, Borrowing, ResidualStructure, Source, Term, identity
from bayeslmm.data.groups import find_groups
from bayeslmm.data.known_matrix import LABEL_LIMIT, cholesky
from bayeslmm.errors import DataError
from bayeslmm.support.text import listed


@dataclass(frozen=True, kw_only=True, eq=False)
class Known(ResidualStructure):
    """C = R is `matrix`, in the order of the rows.

    Attributes
    ----------
    matrix : (n, n) array
    labels : tuple of str
        The rows' labels.
    """

    name = "known"
    text = "a known matrix"
    takes = frozenset({"group", "covariance"})
    needs = "covariance"
    blocks = "independent blocks"

    matrix: np.ndarray
    labels: tuple[str, ...] = ()

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Match the labels of the rows."""
        labels, matrix = _matched(asked, frame)
        return cls(asked=asked, block=_components(matrix), matrix=matrix, labels=labels)

    def subset(self, rows: np.ndarray) -> Self:
        """Some of the rows."""
        matrix = self.matrix[np.ix_(rows, rows)]
        labels = tuple(self.labels[row] for row in rows)
        return replace(self, block=_components(matrix), matrix=matrix, labels=labels)

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

    # new rows ----------------------------------------------------------------------------------------------------

    def beside(self, frame: pd.DataFrame, seen: bool) -> Self:
        """What the known matrix says of all of them."""
        labels = (*(self.labels if seen else ()), *self._new(frame, seen))
        matrix = self._between(labels, labels)
        return replace(self, matrix=matrix, labels=labels, block=_components(matrix))

    def variances(self, frame: pd.DataFrame) -> np.ndarray:
        """From the matrix's diagonal."""
        assert self.asked.covariance is not None  # it is needed
        place = {label: k for k, label in enumerate(self.asked.covariance.labels)}
        return self.asked.covariance.matrix.diagonal()[[place[label] for label in self._new(frame, seen=False)]]

    def borrowing(self, frame: pd.DataFrame) -> Borrowing:
        """A = R_new,seen R_seen,seen^-1, known as well."""
        from scipy import sparse

        labels = self._new(frame, seen=True)
        across = self._between(labels, self.labels)
        A = np.linalg.solve(self.matrix, across.T).T
        left = self.variances(frame) - np.einsum("ij,ij->i", A, across)
        if (left <= 0).any():
            assert self.asked.covariance is not None  # it is needed
            cholesky(self.beside(frame, seen=True).matrix, f"{self.asked.covariance.name} of the residual")
        ones = np.ones(len(frame))
        source = Source(index=np.arange(len(frame)), sums=sparse.csr_array(A), coefficient=lambda rows: ones[rows])
        return Borrowing(sources=(source,), variance=lambda rows: np.maximum(left, 0.0)[rows])

    def _between(self, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
        assert self.asked.covariance is not None  # it is needed
        every = list(dict.fromkeys([*rows, *columns]))
        place = {label: k for k, label in enumerate(every)}
        whole = self.asked.covariance.dense(every)
        return whole[np.ix_([place[x] for x in rows], [place[x] for x in columns])]

    def _new(self, frame: pd.DataFrame, seen: bool) -> list[str]:
        """The labels of new rows, which the matrix has to have; those of rows that were seen are refused."""
        assert self.asked.covariance is not None  # it is needed
        labels, what = _labels(self.asked, frame)
        name, known = self.asked.covariance.name, set(self.asked.covariance.labels)
        missing = [label for label in dict.fromkeys(labels) if label not in known]
        if missing:
            raise DataError(
                f"Nothing is known of the residual of new rows with the labels {listed(missing)} of {what}: {name} of "
                "the residual doesn't have them. Expected labels that it has and the data don't; write kind='mean' for "
                "expected values, or give the model a matrix that has the new rows too."
            )
        twice = [label for label in dict.fromkeys(labels) if label in self.labels] if seen else []
        if twice:
            raise DataError(
                f"The rows {listed(twice)} of {what} were seen: their response is known, and is y. Expected labels "
                f"that {name} has and the data don't; leave data= out for new observations of the model's own rows."
            )
        return labels

    def short_name(self) -> str:
        """Name the matrix."""
        assert self.asked.covariance is not None  # it is needed
        return f"sigma^2 times {self.asked.covariance.name}"


def _labels(asked: Asked, frame: pd.DataFrame) -> tuple[list[str], str]:
    """The rows' labels, and where they come from."""
    if asked.group:
        groups = find_groups([frame[name] for name in asked.group])
        return [groups.labels[k] for k in groups.index], ":".join(asked.group)
    return [str(label) for label in frame.index], "the data's index"


def _matched(asked: Asked, frame: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    assert asked.covariance is not None  # it is needed
    if len(frame) > LABEL_LIMIT:
        raise DataError(
            f"{asked.covariance.name} of the residual is needed for {len(frame):,} rows; at most {LABEL_LIMIT:,} "
            "are supported, because it is dense. Fit a subset, or give groups a known covariance instead of the rows."
        )
    labels, what = _labels(asked, frame)
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
    return tuple(labels), R


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
