"""The fixed part of a formula whose columns are mostly those of one factor of many levels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.design.model_matrix import Encoder, learn, learn_with_formulaic, names_in
from bayeslmm.design.wide import WIDE, Wide


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


def _many_levels(text: str, frame: pd.DataFrame) -> bool:
    """Whether a factor of the text, or factors together, may have many levels."""
    counts = [frame[name].nunique() for name in names_in(text) if "C(" in text or frame[name].dtype.kind not in "biufc"]
    together = any(sign in text for sign in ":*/^")
    return bool(counts) and (np.prod(counts, dtype=float) if together else max(counts)) >= WIDE


def _levels(frame: pd.DataFrame, factor: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
    """(the level of each row, the first row of each level) of the combinations of some columns."""
    index = np.zeros(len(frame), dtype=np.int64)
    for name in sorted(factor):
        own, levels = pd.factorize(frame[name])
        index = pd.factorize(index * len(levels) + own)[0]
    first = np.full(int(index.max(initial=-1)) + 1, 0, dtype=np.int64)
    first[index[::-1]] = np.arange(len(index))[::-1]
    return index, first
