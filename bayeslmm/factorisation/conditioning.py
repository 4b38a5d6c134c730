"""Well-conditioned columns: what is put on its own scale before anything is squared.

X becomes orthonormal, y its residual from least squares in units of its own size, slopes are centred (where the level
has an intercept) and scaled. `Basis` and the levels' maps remember the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.counted import mean
from bayeslmm.design.level_design import LevelDesign

PIECE = 64  # columns, or rows, that are worked on at a time


@dataclass(frozen=True, kw_only=True)
class Basis:
    """[X y] on its own scale: ``X = Q upper``, ``y = Q gamma + scale * y_``, with Q'Q = I and y_ of unit mean square.

    ``y - X beta = W v`` for ``W = [Q y_]`` and ``v = (gamma - upper beta, scale)``.
    """

    W: np.ndarray  # (n, p + 1)
    upper: np.ndarray  # (p, p)
    gamma: np.ndarray  # (p,)
    scale: float


def group_sums(index: np.ndarray, m: int, values: np.ndarray) -> np.ndarray:
    """Sums of the columns of `values` (n, c) within groups: (m, c)."""
    return np.stack([np.bincount(index, weights=values[:, c], minlength=m) for c in range(values.shape[1])], axis=1)


def effect_map(level: LevelDesign) -> np.ndarray:
    """Invertible (r, r) M with ``columns = better @ M``: slopes centred, if there is an intercept, and scaled."""
    r = level.r
    M = np.eye(r)
    constant = [e for e in range(r) if np.ptp(level.columns[:, e]) == 0]
    for e in range(r):
        column = level.columns[:, e]
        if e in constant:
            M[e, e] = column[0]
            continue
        shift = float(mean(column, level.counts)) if constant else 0.0
        spread = float(np.sqrt(mean((column - shift) ** 2, level.counts)))
        M[e, e] = spread
        if constant:
            M[constant[0], e] = shift
    return M


def better_columns(columns: np.ndarray, M: np.ndarray, rest: np.ndarray | None = None) -> np.ndarray:
    """The (n, r) columns on which M, from `effect_map`, gives a level's own, or those of other rows.

    `rest` is what rounding took from the columns.
    """
    r = len(M)
    if np.array_equal(M, np.eye(r)):
        return columns
    better = np.empty_like(columns)
    for e in range(r):
        shift = sum(M[c, e] for c in range(r) if c != e)
        better[:, e] = columns[:, e] - shift
        if rest is not None:
            better[:, e] += rest[:, e]
        better[:, e] /= M[e, e]
    return better


def make_basis(
    X: np.ndarray,
    y: np.ndarray,
    levels: tuple[LevelDesign, ...] = (),
    *,
    counts: np.ndarray | None = None,
    X_rest: np.ndarray | None = None,
    y_rest: np.ndarray | None = None,
) -> Basis:
    """Orthonormal X, columns that are in the span of more levels first, and y's scaled residual from it.

    Beside a constant the other columns and y lose their means before anything else: what a distant zero costs in digits
    is not lost again in a product. Rows that stand for several stand in W times the roots of their counts.
    """
    n, p = X.shape
    root, number = (None, n) if counts is None else (np.sqrt(counts), float(counts.sum()))
    rank = np.zeros(p, dtype=np.int64)
    for level in levels:
        rank += in_span(level, level.columns, X)
    wanted = order = np.argsort(-rank, kind="stable")
    constants = [c for c in order if X[0, c] != 0 and np.ptp(X[:, c]) == 0]
    if constants:
        order = np.array([constants[0], *order[order != constants[0]]])
    W = np.empty((n, p + 1), order="F")  # the one copy of X: all that follows happens in it
    Q, residual = W[:, :p], W[:, p]
    shifts, start = np.zeros(p), 0.0
    if constants:
        start = float(mean(y, counts))
        shifts[1:] = mean(X, counts)[order[1:]]
    for j, c in enumerate(order):
        np.subtract(X[:, c], shifts[j], out=Q[:, j])
        if X_rest is not None:
            Q[:, j] += X_rest[:, c]
    residual[:] = y - start
    if y_rest is not None:
        residual += y_rest
    if root is not None:
        W *= root[:, None]
    constant = float(Q[0, 0]) if constants else 0.0
    upper = orthonormalise(Q)
    gamma = np.zeros(p)
    if constants:  # stays exactly constant
        unit = np.copysign(1.0 / np.sqrt(number), constant)
        Q[:, 0] = unit if root is None else unit * root
        upper[0] += shifts / unit
        gamma[0] = start / unit
    if not np.array_equal(order, wanted):
        turn, upper = positive_qr(upper[:, np.argsort(order)[wanted]])
        for rows in pieces(n):
            Q[rows] = Q[rows] @ turn
        gamma, order = turn.T @ gamma, wanted
    back = np.empty((p, p))
    back[:, order] = upper
    for _ in range(2):
        more = Q.T @ residual
        gamma += more
        residual -= Q @ more
    scale = float(np.sqrt(np.sum(residual**2) / number))
    if not scale > 0:
        scale = 1.0
    residual /= scale
    return Basis(W=W, upper=back, gamma=gamma, scale=scale)


def orthonormalise(columns: np.ndarray) -> np.ndarray:
    """Replace columns by an orthonormal basis of theirs, and return R: columns = basis R, its diagonal not negative.

    Some columns at a time, each time twice, so that nothing as large as all of them is needed beside.

    Source: Barlow & Smoktunowicz (2013), reorthogonalised block classical Gram-Schmidt.
    """
    p = columns.shape[1]
    R = np.zeros((p, p))
    for own in pieces(p):
        before, panel = columns[:, : own.start], columns[:, own]
        first = before.T @ panel
        basis, R[own, own] = positive_qr(panel - before @ first)
        R[: own.start, own] = first
        if own.start:
            again = before.T @ basis
            basis, turn = positive_qr(basis - before @ again)
            R[: own.start, own] += again @ R[own, own]
            R[own, own] = turn @ R[own, own]
        columns[:, own] = basis
    return R


def pieces(total: int) -> list[slice]:
    """So many columns, or rows, in pieces small enough to be copied."""
    return [slice(first, min(first + PIECE, total)) for first in range(0, total, PIECE)]


def positive_qr(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q, R) with R's diagonal not negative."""
    Q, R = np.linalg.qr(columns)
    sign = np.where(np.diag(R) < 0, -1.0, 1.0)
    return Q * sign, R * sign[:, None]


def in_span(level: LevelDesign, own: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Which columns are, in every group of `level`, combinations of the level's own columns, another one in each."""
    bases = within_groups(level, own)
    out = np.zeros(candidates.shape[1], dtype=bool)
    for some in pieces(candidates.shape[1]):
        for c, column in enumerate(np.ascontiguousarray(candidates[:, some].T), start=some.start):
            rest = column
            for basis in bases * 2:
                rest = rest - basis * np.bincount(level.index, basis * rest, level.m)[level.index]
            out[c] = np.linalg.norm(rest) <= 1e-12 * np.linalg.norm(column)
    return out


def within_groups(level: LevelDesign, own: np.ndarray) -> list[np.ndarray]:
    """Per column of `own` a column (n,), orthonormal within each group to those before it; zero where it has no part.

    Source: Gram and Schmidt's process, each step twice (Giraud, Langou & Rozložník, 2005).
    """
    bases: list[np.ndarray] = []
    for column in own.T:
        size, rest = _size(level, column), column
        for basis in bases * 2:
            rest = rest - basis * np.bincount(level.index, basis * rest, level.m)[level.index]
        left = _size(level, rest)
        scale = np.divide(1.0, left, out=np.zeros_like(left), where=left > 1e-13 * size)
        bases.append(rest * scale[level.index])
    return bases


def _size(level: LevelDesign, column: np.ndarray) -> np.ndarray:
    """Norms of a column's parts in the groups, (m,)."""
    return np.sqrt(np.bincount(level.index, column**2, level.m))
