"""The fixed part of a formula whose columns are mostly those of one factor of many levels."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from bayeslmm.design.model_matrix import Encoder, learn, learn_with_formulaic, names_in
from bayeslmm.design.wide import WIDE, Wide
from bayeslmm.support.memory_limit import gigabytes

COPIES = 4  # of a dense matrix, as `factorisation.memory` counts them
LARGE = 1e9  # bytes from which they are worth a word


def learn_columns(text: str, frame: pd.DataFrame) -> tuple[Encoder, np.ndarray | Wide]:
    """Make the matrix of one side of a formula as `learn` does, wide where a factor has many levels.

    Examples
    --------
    >>> frame = pd.DataFrame({"f": [f"level {k // 2}" for k in range(200)], "x": np.arange(200.0)})
    >>> encoder, X = learn_columns("f + x", frame)
    >>> X.shape, X.codes.shape, X.dense.shape
    ((200, 101), (100, 101), (200, 1))
    >>> bool((np.asarray(X) == learn("f + x", frame)[1]).all())
    True
    """
    if not _many_levels(text, frame):
        return learn(text, frame)
    encoder, matrix = learn_with_formulaic(text, frame, sparse=True)
    terms = [variables for _, variables in encoder.terms]
    for factor in sorted(set(terms), key=lambda own: -sum(variables <= own for variables in terms)):
        own = np.array([variables <= factor for variables in terms])
        if own.sum() < WIDE:
            break
        index, first = _levels(frame, factor)
        its = matrix[:, own].tocsr()
        if len(first) <= 2 * own.sum() and (its[first][index] != its).nnz == 0:
            codes, spread = np.zeros((len(first), len(terms))), np.zeros((int((~own).sum()), len(terms)))
            codes[:, own] = its[first].toarray()
            spread[np.arange(len(spread)), np.flatnonzero(~own)] = 1.0
            return encoder, Wide(index=index, codes=codes, dense=matrix[:, ~own].toarray(), spread=spread)
    return encoder, np.ascontiguousarray(matrix.toarray())


def learn_dense(text: str, frame: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    """The same matrix row by row, as outcomes that aren't Gaussian need it; said on stderr where it will be large.

    Examples
    --------
    >>> learn_dense("f", pd.DataFrame({"f": ["a", "b"]}))[1].tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    size = 8.0 * COPIES * len(frame) * _levels_in(text, frame)
    if size > LARGE:
        print(
            f"bayeslmm: the fixed part {text!r} is dense where the outcome isn't Gaussian, and may take about "
            f"{gigabytes(size)}. Make a factor of many levels a grouping, (1 | factor), where that is too much.",
            file=sys.stderr,
        )
    return learn(text, frame)


def _many_levels(text: str, frame: pd.DataFrame) -> bool:
    """Whether a factor of the text, or factors together, may have many levels."""
    return _levels_in(text, frame) >= WIDE


def _levels_in(text: str, frame: pd.DataFrame) -> float:
    """How many levels the largest factor has, or all factors together where some are multiplied; 0 without."""
    counts = [frame[name].nunique() for name in names_in(text) if "C(" in text or frame[name].dtype.kind not in "biufc"]
    together = any(sign in text for sign in ":*/^")
    return 0.0 if not counts else float(np.prod(counts, dtype=float) if together else max(counts))


def _levels(frame: pd.DataFrame, factor: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
    """(the level of each row, the first row of each level) of the combinations of some columns."""
    index = np.zeros(len(frame), dtype=np.int64)
    for name in sorted(factor):
        own, levels = pd.factorize(frame[name])
        index = pd.factorize(index * len(levels) + own)[0]
    first = np.full(int(index.max(initial=-1)) + 1, 0, dtype=np.int64)
    first[index[::-1]] = np.arange(len(index))[::-1]
    return index, first
