"""Matrices that a user gives: read with their labels, aligned by them, and a covariance checked and factored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.data.known_matrix import ASYMMETRY, KnownMatrix
from bayeslmm.design.labelled_matrix import LabelledMatrix
from bayeslmm.errors import DataError
from bayeslmm.support.text import listed

_EPS = np.finfo(float).eps


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """A matrix or vector as it was given, in numbers, with the labels that it brought (None where it brought none).

    Attributes
    ----------
    name : str
        The argument, for messages.
    values : numpy.ndarray or scipy.sparse.csc_array
        float64, finite.
    rows, columns : pandas.Index or None
    """

    name: str
    values: Any
    rows: pd.Index | None = None
    columns: pd.Index | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the values."""
        return self.values.shape


def read_vector(given: Any, name: str) -> Given:
    """Read a vector: an array, a list, or a Series with its labels.

    Raises
    ------
    DataError
        When it has another shape, or a value that is not a finite number.

    Examples
    --------
    >>> read_vector([1, 2], "y").values
    array([1., 2.])
    """
    labels = given.index if isinstance(given, pd.Series) else None
    values = _numbers(given, name)
    if values.ndim != 1:
        raise DataError(f"{name} has shape {values.shape}; expected a vector, one value per row.")
    _check_finite(values, name, labels, None)
    return Given(name=name, values=values, rows=labels)


def read_matrix(given: Any, name: str) -> Given:
    """Read a matrix: an array, nested lists, scipy.sparse, or with labels a DataFrame, LabelledMatrix or KnownMatrix.

    Raises
    ------
    DataError
        When it is no matrix, or holds a value that is not a finite number.

    Examples
    --------
    >>> read_matrix(pd.DataFrame({"a": [1, 2]}), "X").columns.tolist()
    ['a']
    """
    from scipy import sparse

    rows = columns = None
    if isinstance(given, LabelledMatrix):
        given, rows, columns = given.matrix, given.rows, given.columns
    elif isinstance(given, KnownMatrix):
        rows = columns = pd.Index(given.labels)
        given = _covariance_of(given)
    elif isinstance(given, pd.DataFrame):
        rows, columns = given.index, given.columns
    if sparse.issparse(given):
        values = sparse.csc_array(given, dtype=np.float64)
        _check_finite(values.data, name, None, None)
    else:
        values = _numbers(given, name)
        if values.ndim == 1:
            raise DataError(
                f"{name} has one dimension, {values.shape}; expected a matrix. One column is written {name}[:, None], "
                "or .to_frame() in pandas."
            )
        if values.ndim != 2:
            raise DataError(f"{name} has shape {values.shape}; expected a matrix.")
        _check_finite(values, name, rows, columns)
    return Given(name=name, values=values, rows=rows, columns=columns)


def order_rows(given: Given, labels: pd.Index | None, where: str) -> Given:
    """Put rows into the order of `labels`, by label; without labels on either side they stay as they are.

    Parameters
    ----------
    given : Given
    labels : pandas.Index or None
        As many as there are rows.
    where : str
        Whose labels these are, for messages: "y".

    Examples
    --------
    >>> x = read_vector(pd.Series([1.0, 2.0], index=["b", "a"]), "x")
    >>> order_rows(x, pd.Index(["a", "b"]), "y").values
    array([2., 1.])
    """
    if labels is None or given.rows is None or given.rows.equals(labels):
        return given
    order = places_of(labels, given.rows, where, given.name)
    return Given(name=given.name, values=given.values[order], rows=labels, columns=given.columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Covariance:
    """A positive definite matrix with the labels of its rows, and its Cholesky factor.

    Attributes
    ----------
    values : numpy.ndarray or scipy.sparse.csc_array
    labels : pandas.Index or None
    lower : like values
        L with ``L @ L.T = values``.
    """

    values: Any
    labels: pd.Index | None
    lower: Any

    @cached_property
    def lower_inverse(self) -> Any:
        """The inverse of `lower`, triangular; sparse where `lower` is."""
        if isinstance(self.lower, np.ndarray):
            from scipy.linalg import solve_triangular

            return solve_triangular(self.lower, np.eye(len(self.lower)), lower=True)
        return _by_blocks(self.lower, lambda blocks: np.tril(np.linalg.inv(blocks)))

    @property
    def inverse(self) -> Any:
        """The inverse."""
        return self.lower_inverse.T @ self.lower_inverse

    @property
    def logdet(self) -> float:
        """Log determinant."""
        return 2 * float(np.log(self.lower.diagonal()).sum())


def read_covariance(
    given: Any, name: str, size: int | None = None, labels: pd.Index | None = None, where: str = ""
) -> Covariance:
    """Read a covariance matrix, in the order of `labels` where both have labels, and factor it.

    A sparse one is taken apart into its blocks (rows that are connected), each factored as a dense matrix: the
    cost is that of the largest block cubed, and L and its inverse are sparse.

    Parameters
    ----------
    given : array, nested lists, DataFrame, scipy.sparse matrix, LabelledMatrix or KnownMatrix
    name, where : str
        The argument, and what `size` and `labels` belong to, for messages.
    size : int, optional
        Number of rows that it must have.
    labels : pandas.Index, optional

    Raises
    ------
    DataError
        When it isn't square or of that size, its rows are labelled otherwise than its columns, or it isn't
        symmetric (with the largest asymmetry) or not positive definite (with the smallest eigenvalue).

    Examples
    --------
    >>> read_covariance([[4.0, 2.0], [2.0, 2.0]], "G").lower
    array([[2., 0.],
           [1., 1.]])
    >>> read_covariance([[1.0, 2.0], [2.0, 1.0]], "G")
    Traceback (most recent call last):
    bayeslmm.errors.DataError: G is not positive definite: its smallest eigenvalue is -1. ...
    """
    read = read_matrix(given, name)
    if read.shape[0] != read.shape[1]:
        raise DataError(f"{name} is {read.shape[0]} x {read.shape[1]}; expected a square matrix.")
    if size is not None and read.shape[0] != size:
        raise DataError(f"{name} is {read.shape[0]} x {read.shape[0]}; expected {size} x {size}, to go with {where}.")
    own = read.columns
    read = order_rows(read, own, f"the columns of {name}")
    values = _symmetric(read.values, name, own)
    if own is not None and labels is not None and not own.equals(labels):
        order = places_of(labels, own, where, name)
        own, values = labels, values[order][:, order]
    return Covariance(values=values, labels=own, lower=_factor(values, name))


def places_of(labels: pd.Index, known: pd.Index, whose: str, known_from: str) -> np.ndarray:
    """Return the place of each label among the known ones, or say which are missing there.

    Examples
    --------
    >>> places_of(pd.Index(["b"]), pd.Index(["a", "b"]), "Z", "G")
    array([1])
    """
    for given, name in ((labels, whose), (known, known_from)):
        if not given.is_unique:
            twice = given[given.duplicated()].unique()
            raise DataError(
                f"{listed(twice.tolist())} stand more than once in the labels of {name}; expected each once."
            )
    places = known.get_indexer(labels)
    if (places < 0).any():
        raise DataError(
            f"{whose} has labels that {known_from} lacks: {listed(labels[places < 0].tolist())}; the labels of "
            f"{known_from} are {listed(known.tolist())}. To match by position instead, pass one of them without "
            "labels: .to_numpy()."
        )
    return places


def dense(matrix: Any) -> np.ndarray:
    """Return a matrix as a dense array."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def _covariance_of(given: KnownMatrix) -> Any:
    if not given.precision:
        return given.matrix
    root = given.root(given.labels)
    return root @ root.T


def _place(k: int, labels: pd.Index | None) -> str:
    return str(k) if labels is None else listed(labels[[k]].tolist())


def _numbers(given: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} can't be read as numbers ({error}); expected an array of numbers.") from None


def _check_finite(values: np.ndarray, name: str, rows: pd.Index | None, columns: pd.Index | None) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return
    place = ", ".join(_place(k, labels) for k, labels in zip(bad[0], (rows, columns), strict=False))
    more = f" ({len(bad)} such values in all)" if len(bad) > 1 else ""
    raise DataError(f"{name} holds {values[tuple(bad[0])]} at {place}{more}; expected finite numbers.")


def _symmetric(values: Any, name: str, labels: pd.Index | None) -> Any:
    gap = abs(values - values.T)
    largest, size = (float(x.max()) if x.shape[0] else 0.0 for x in (gap, abs(values)))
    if largest > ASYMMETRY * size:
        i, j = np.unravel_index(int(gap.argmax()), gap.shape)
        row, column = (_place(int(k), labels) for k in (i, j))
        raise DataError(
            f"{name} is not symmetric: {name}[{row}, {column}] is {values[i, j]:.6g} and {name}[{column}, {row}] is "
            f"{values[j, i]:.6g}, a difference of {largest:.3g}; expected a covariance matrix. If the rest is right, "
            f"({name} + {name}.T) / 2 is symmetric."
        )
    return values if largest == 0 else (values + values.T) / 2


def _factor(values: Any, name: str) -> Any:
    def cholesky(blocks: np.ndarray) -> np.ndarray:
        variances = np.diagonal(blocks, axis1=-2, axis2=-1)
        try:
            lower = np.linalg.cholesky(blocks)
        except np.linalg.LinAlgError:
            raise _not_definite(blocks, name) from None
        # a pivot at rounding level is a zero that rounding has spoilt
        pivots = np.diagonal(lower, axis1=-2, axis2=-1) ** 2
        if (pivots <= 4 * _EPS * blocks.shape[-1] * variances).any():
            raise _not_definite(blocks, name)
        return lower

    return cholesky(values) if isinstance(values, np.ndarray) else _by_blocks(values, cholesky)


def _not_definite(blocks: np.ndarray, name: str) -> DataError:
    smallest = float(np.linalg.eigvalsh(blocks).min())
    shown = f"{smallest:.6g}" if abs(smallest) > 1e-12 * float(np.abs(blocks).max()) else "0 but for rounding"
    return DataError(
        f"{name} is not positive definite: its smallest eigenvalue is {shown}. Expected a covariance matrix, in which "
        "no combination of effects has zero or negative variance; take out what is determined by the rest."
    )


def _by_blocks(matrix: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Apply a function of stacked dense blocks (k, s, s) to the diagonal blocks of a sparse matrix.

    Blocks are the connected components of its rows; those of one size go through the function together.
    """
    from scipy.sparse import coo_array, csc_array
    from scipy.sparse.csgraph import connected_components

    q = matrix.shape[0]
    if not q:
        return csc_array((0, 0))
    _, block = connected_components(matrix, directed=False)
    sizes = np.bincount(block)
    order = np.argsort(block, kind="stable")  # keeps rows in order within a block, so triangles stay triangles
    start = np.cumsum(sizes) - sizes
    local = np.empty(q, dtype=np.int64)
    local[order] = np.arange(q) - np.repeat(start, sizes)
    entries = coo_array(matrix)
    i, j, values = entries.row, entries.col, entries.data
    rows, columns, data = [], [], []
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        rank = np.full(len(sizes), -1)
        rank[which] = np.arange(len(which))
        mine = rank[block[i]] >= 0
        stack = np.zeros((len(which), size, size))
        stack[rank[block[i[mine]]], local[i[mine]], local[j[mine]]] = values[mine]
        result = function(stack)
        members = order[start[which][:, None] + np.arange(size)]
        k, a, b = np.nonzero(result)
        rows.append(members[k, a])
        columns.append(members[k, b])
        data.append(result[k, a, b])
    place = (np.concatenate(rows), np.concatenate(columns))
    return coo_array((np.concatenate(data), place), shape=(q, q)).tocsc()
