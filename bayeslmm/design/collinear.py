"""Columns of a matrix that depend on those before them, and in words how."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.design.wide import Wide

PIECE = 1_000_000  # entries of a matrix that are copied at a time


def dependencies(matrix: np.ndarray, names: tuple[str, ...]) -> list[str]:
    """Return one equation for each column that is a combination of the columns before it.

    Examples
    --------
    >>> x = np.arange(4.0)
    >>> dependencies(np.column_stack([np.ones(4), x, 3 + 2 * x]), ("Intercept", "x", "z"))
    ['z = 3 Intercept + 2 x']
    """
    found = combinations(matrix)
    kept = [name for j, name in enumerate(names) if j not in found]
    return [equation(kept, names[j], coefficients) for j, coefficients in found.items()]


def combinations(matrix: np.ndarray | Wide) -> dict[int, np.ndarray]:
    """Find the columns that are combinations of those before them, each with its coefficients on those that are none.

    As in R, and so in lme4, it is the later column that counts as dependent.

    Examples
    --------
    >>> x = np.arange(4.0)
    >>> {j: c.round(9).tolist() for j, c in combinations(np.column_stack([np.ones(4), x, 3 + 2 * x])).items()}
    {2: [3.0, 2.0]}
    """
    kept = _independent(matrix)
    others = sorted({*range(matrix.shape[1])} - {*kept})
    if not others:
        return {}
    own = matrix.compressed if isinstance(matrix, Wide) else matrix
    return {j: _coefficients(own, kept, j) for j in others}


def proportional(matrix: np.ndarray) -> dict[int, np.ndarray]:
    """Find the columns that are zero, or a multiple of one before them, as `combinations` does.

    Examples
    --------
    >>> {j: c.tolist() for j, c in proportional(np.array([[1.0, 2, 0, 3], [1, 2, 0, 4]])).items()}
    {1: [2.0, 0.0], 2: [0.0, 0.0]}
    """
    kept: list[int] = []
    multiples: dict[int, tuple[int, float]] = {}
    for j, column in enumerate(matrix.T):
        if not column.any():
            multiples[j] = (-1, 0.0)
            continue
        for k in kept:
            factor = float(matrix[:, k] @ column) / float(matrix[:, k] @ matrix[:, k])
            if np.abs(column - factor * matrix[:, k]).max() <= 1e-12 * np.abs(column).max():
                multiples[j] = (k, factor)
                break
        else:
            kept.append(j)
    return {j: np.array([factor if k == of else 0.0 for k in kept]) for j, (of, factor) in multiples.items()}


def _independent(matrix: np.ndarray | Wide) -> list[int]:
    """The columns that are no combination of the columns before them."""
    if matrix.shape[1] == 0:
        return []
    if isinstance(matrix, Wide):
        largest = np.array([np.abs(matrix.values(j)).max() for j in range(matrix.shape[1])])
        constant = bool((matrix.values(0) == largest[0]).all())
    else:
        largest = np.maximum(matrix.max(axis=0), -matrix.min(axis=0))
        constant = bool((matrix[:, 0] == largest[0]).all())
    largest = np.where(largest > 0, largest, 1.0)
    if isinstance(matrix, Wide):
        unit = matrix.times(np.diag(1 / largest))
        shifts = np.where(np.arange(len(largest)) > 0, unit.means, 0.0) if constant else np.zeros(len(largest))
        return _first(unit.less(shifts).compressed, np.ones(len(largest)), np.zeros(len(largest)), matrix.shape[0])
    n, p = matrix.shape
    means = np.zeros(p)
    if constant:
        means[1:] = sum((matrix[rows, 1:] / largest[1:]).sum(axis=0) for rows in _pieces(n, p)) / n
    return _first(matrix, largest, means, n)


def _first(matrix: np.ndarray, largest: np.ndarray, means: np.ndarray, n: int) -> list[int]:
    """The columns of matrix / largest - means that are no combination of those before them, of n rows."""
    p = matrix.shape[1]

    def scaled(rows: slice) -> np.ndarray:
        """Some rows, each column over its largest entry, and without its mean beside a constant."""
        return matrix[rows] / largest - means

    norms = np.sqrt(sum(np.einsum("ij,ij->j", own, own) for own in map(scaled, _pieces(len(matrix), p))) / n)
    eps = np.finfo(float).eps
    flat = norms < 16 * eps
    if not flat.any():
        gram = np.zeros((p, p))
        for rows in _pieces(len(matrix), p):
            unit = scaled(rows) / norms
            gram += unit.T @ unit
        if np.linalg.eigvalsh(gram / n)[0] > 1e-8:
            return list(range(p))
    # slow and sure: Gram-Schmidt, twice, so that the later column is the one named
    tolerance = np.maximum(1e-9, 100 * eps / np.where(flat, 1.0, norms))
    basis = np.empty((len(matrix), p), order="F")
    kept: list[int] = []
    for j in range(p):
        before = basis[:, : len(kept)]
        rest = (matrix[:, j] / largest[j] - means[j]) / (np.sqrt(n) * (1.0 if flat[j] else norms[j]))
        for _ in range(2):
            rest = rest - before @ (before.T @ rest)
        size = np.linalg.norm(rest)
        if not flat[j] and size >= tolerance[j]:
            basis[:, len(kept)] = rest / size
            kept.append(j)
    return kept


def _pieces(n: int, p: int) -> list[slice]:
    """The rows in pieces small enough to be copied."""
    step = max(1, PIECE // p)
    return [slice(first, first + step) for first in range(0, n, step)]


def _coefficients(matrix: np.ndarray, kept: list[int], j: int) -> np.ndarray:
    """Coefficients of column j on the kept ones, those that don't matter zero."""
    if not matrix[:, j].any():
        return np.zeros(len(kept))
    scale = np.linalg.norm(matrix[:, kept], axis=0)
    weights = np.linalg.lstsq(matrix[:, kept] / scale, matrix[:, j], rcond=None)[0]
    matter = np.abs(weights) > 1e-7 * np.linalg.norm(matrix[:, j])
    return np.where(matter, weights, 0.0) / scale


def equation(names: Sequence[str], name: str, coefficients: np.ndarray) -> str:
    """Say what a column is a combination of; `names` are those that the coefficients belong to.

    Examples
    --------
    >>> equation(("Intercept", "x"), "z", np.array([3.0, -1.0])), equation(("x",), "z", np.array([0.0]))
    ('z = 3 Intercept - x', 'z = 0')
    """
    said = ""
    for other, weight in zip(names, coefficients, strict=True):
        if weight == 0:
            continue
        sign = (" - " if weight < 0 else " + ") if said else ("-" if weight < 0 else "")
        factor = f"{abs(weight):.4g}"
        said += f"{sign}{'' if factor == '1' else factor + ' '}{other}"
    return f"{name} = {said or '0'}"
