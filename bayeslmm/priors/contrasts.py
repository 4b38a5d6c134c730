"""Contrasts of a factor that are the same whichever of its categories is the base.

A factor of K categories enters with K - 1 columns, and which ones depends on its coding: differences from a base, or
from the mean. Priors on their coefficients would depend on it too. So they are stated for orthogonal contrasts of the
categories. With independent SDs and an LKJ no K - 1 contrasts of three or more categories are alike (a prior that is
the same for all of them would have SDs that can't be small), so one choice has to be made, and it is made by the data
and not by labels, bases or the order of the rows: the farther y's mean in a category is from that of all categories,
the later it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.counted import mean

Term = tuple[int, frozenset[str]]
"""Which term of the formula a column belongs to, and the columns of the data in that term."""


def is_constant(x: np.ndarray) -> bool:
    """Whether a column is one number, and not zero."""
    return bool(x[0] != 0 and np.ptp(x) == 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recoding:
    """Columns X T in the place of X.

    Attributes
    ----------
    T : (r, r) array
    contrasts : dict of int to (int, int)
        Per column that is a contrast of K >= 3 categories now, which one of how many.
    """

    T: np.ndarray
    contrasts: dict[int, tuple[int, int]]


def recoding(
    X: np.ndarray,
    terms: Sequence[Term],
    categorical: Collection[int],
    y: np.ndarray,
    counts: np.ndarray | None = None,
) -> Recoding:
    """Find the factors of three and more categories beside a constant, and their products with single columns.

    Parameters
    ----------
    X : (n, r) array
    terms : sequence of (int, frozenset of str)
        Of each column.
    categorical : collection of int
        Numbers of the terms that are the categories of one column of the data.
    y : (n,) array
        What the rows order the categories by.
    counts : (n,) array, optional
        How many rows each row stands for.

    Examples
    --------
    >>> X = np.array([[1.0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1]])
    >>> terms = [(0, frozenset()), (1, frozenset({"f"})), (1, frozenset({"f"}))]
    >>> (X @ recoding(X, terms, {1}, np.array([3.0, 4, 8, 8])).T).round(3).tolist()
    [[1.0, 0.5, -0.289], [1.0, -0.5, -0.289], [1.0, 0.0, 0.577], [1.0, 0.0, 0.577]]
    """
    T = np.eye(X.shape[1])
    contrasts: dict[int, tuple[int, int]] = {}
    constant = next((j for j in range(X.shape[1]) if len(X) and is_constant(X[:, j])), None)
    for number in sorted(categorical) if constant is not None else []:
        own = _columns(terms, number)
        found = _to_contrasts(X[:, own], y, counts) if len(own) > 1 else None
        if found is None:
            continue
        shift, turn = found
        T[np.ix_(own, own)], T[constant, own] = turn, shift / X[0, constant]
        contrasts |= {j: (k + 1, len(own)) for k, j in enumerate(own)}
        for z, with_z in _products(X, terms, own):
            T[np.ix_(with_z, with_z)], T[z, with_z] = turn, shift
    return Recoding(T=T, contrasts=contrasts)


def _columns(terms: Sequence[Term], number: int) -> list[int]:
    return [j for j, (term, _) in enumerate(terms) if term == number]


def _to_contrasts(codes: np.ndarray, y: np.ndarray, counts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """(shift, turn) with shift + codes turn = orthogonal contrasts of the categories; None where these aren't all.

    Their coefficients are weighted sums of the categories' effects, with weights that sum to 0 and whose squares sum to
    2, as in a difference of two categories: where contrasts have one SD, every such difference has it too.
    """
    values, first, which = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    K = len(values)
    if codes.shape[1] + 1 != K:
        return None
    own = np.ones(len(y)) if counts is None else counts
    means = np.bincount(which.ravel(), own * (y - mean(y, counts))) / np.bincount(which.ravel(), own)
    size = np.abs(means - means.mean())
    order = np.lexsort((first, np.round(size / max(size.max(), 1e-300), 9)))  # rounding decides nothing
    helmert = np.zeros((K, K - 1))
    for k in range(1, K):
        helmert[order[:k], k - 1], helmert[order[k], k - 1] = -1.0, k
        helmert[:, k - 1] /= np.sqrt(2 * k * (k + 1))
    solved = np.linalg.solve(np.column_stack([np.ones(K), values]), helmert)
    return solved[0], solved[1:]


def _products(X: np.ndarray, terms: Sequence[Term], own: list[int]) -> list[tuple[int, list[int]]]:
    """(z, columns) of the terms whose columns are those of a factor times the one column z of another term."""
    of = terms[own[0]][1]
    out = []
    for number, variables in dict.fromkeys(terms):
        columns, rest = _columns(terms, number), variables - of
        beside = [j for j, (_, its) in enumerate(terms) if its == rest]
        if not of < variables or len(columns) != len(own) or len(beside) != 1:
            continue
        if np.allclose(X[:, columns], X[:, own] * X[:, beside], rtol=1e-12, atol=0):
            out.append((beside[0], columns))
    return out
