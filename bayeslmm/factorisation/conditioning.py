"""Well-conditioned columns: what is put on its own scale before anything is squared.

X becomes orthonormal, y its residual from least squares in units of its own size, slopes are centred (where the level
has an intercept) and scaled. `Basis` and the levels' maps remember the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.counted import mean
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.wide import Wide, values_of

PIECE = 64  # columns, or rows, that are worked on at a time


@dataclass(frozen=True, kw_only=True)
class Basis:
    """[X y] on its own scale: ``X = Q upper``, ``y = Q gamma + scale * y_``, with Q'Q = I and y_ of unit mean square.

    ``y - X beta = W v`` for ``W = [Q y_]`` and ``v = (gamma - upper beta, scale)``.
    """

    W: np.ndarray | Wide  # (n, p + 1)
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


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order in which columns are orthonormalised, and what they lose before.

    Attributes
    ----------
    n : float
        Number of rows.
    order, wanted : (p,) arrays of int
        A constant first, and then as wanted: columns that are in the span of more levels first.
    constant : float
        The first column's number in every row; zero where that varies.
    shifts, start : (p,) array and float
        What the columns, in this order, and y lose beside a constant before anything else: what a distant zero costs
        in digits is not lost again in a product.
    """

    n: float
    order: np.ndarray
    wanted: np.ndarray
    constant: float
    shifts: np.ndarray
    start: float


def find_order(
    X: np.ndarray | Wide, y: np.ndarray, levels: tuple[LevelDesign, ...], counts: np.ndarray | None = None
) -> Order:
    """Put a constant first, then the columns that are in the span of more levels."""
    n = float(len(y) if counts is None else counts.sum())
    rank = np.zeros(X.shape[1], dtype=np.int64)
    for level in levels:
        rank += in_span(level, level.columns, X)
    wanted = order = np.argsort(-rank, kind="stable")
    values = (values_of(X, int(c)) for c in order)
    first = next((k for k, own in enumerate(values) if own[0] != 0 and np.ptp(own) == 0), None)
    if first is None:
        return Order(n=n, order=order, wanted=wanted, constant=0.0, shifts=np.zeros(len(order)), start=0.0)
    order = np.array([order[first], *np.delete(order, first)])
    means = X.means if isinstance(X, Wide) else mean(X, counts)
    shifts = np.concatenate([[0.0], means[order[1:]]])
    constant = float(values_of(X, order[0])[0])
    start = float(mean(y, counts))
    return Order(n=n, order=order, wanted=wanted, constant=constant, shifts=shifts, start=start)


def make_basis(
    X: np.ndarray | Wide,
    y: np.ndarray,
    levels: tuple[LevelDesign, ...] = (),
    *,
    counts: np.ndarray | None = None,
    X_rest: np.ndarray | None = None,
    y_rest: np.ndarray | None = None,
) -> Basis:
    """Orthonormal X, columns that are in the span of more levels first, and y's scaled residual from it.

    Rows that stand for several stand in W times the roots of their counts; `X_rest` and `y_rest` are what rounding took
    from them.
    """
    given = find_order(X, y, levels, counts)
    if isinstance(X, Wide):
        return _wide_basis(X, y, given)
    n, p = X.shape
    W = np.empty((n, p + 1), order="F")  # the one copy of X: all that follows happens in it
    Q, residual = W[:, :p], W[:, p]
    for j, c in enumerate(given.order):
        np.subtract(X[:, c], given.shifts[j], out=Q[:, j])
        if X_rest is not None:
            Q[:, j] += X_rest[:, c]
    residual[:] = y - given.start
    if y_rest is not None:
        residual += y_rest
    root = np.ones(n) if counts is None else np.sqrt(counts)
    if counts is not None:
        W *= root[:, None]
    upper, gamma = _orthonormal(Q, residual, given, root / np.sqrt(given.n))
    scale = _size_of(float(np.sum(residual**2)) / given.n)
    residual /= scale
    return Basis(W=W, upper=upper, gamma=gamma, scale=scale)


def _wide_basis(X: Wide, y: np.ndarray, given: Order) -> Basis:
    """The same where most columns are a factor's, on the k + d rows of U'X for U whose columns are orthonormal.

    U has the factor's levels, and what these leave of the rows' own numbers; what they leave of y stands beside it.
    """
    n, p = X.shape
    shifts = np.empty(p)
    shifts[given.order] = given.shifts
    X = X.less(shifts)
    root = np.sqrt(X.counts)
    means, within = X.split
    upper = orthonormalise(within)
    small = np.vstack([root[:, None] * (X.codes + means @ X.spread), upper @ X.spread])[:, given.order]
    rest, of_y = y - given.start, np.zeros(len(small))
    for _ in range(2):
        more = np.concatenate([np.bincount(X.index, rest, len(root)) / np.maximum(root, 1.0), within.T @ rest])
        rest = rest - (more[: len(root)] / np.maximum(root, 1.0))[X.index] - within @ more[len(root) :]
        of_y += more
    W = np.asfortranarray(np.column_stack([small, of_y]))
    unit = np.concatenate([root / np.sqrt(n), np.zeros(len(small) - len(root))])
    upper, gamma = _orthonormal(W[:, :p], W[:, p], given, unit)
    scale = _size_of(float(rest @ rest + W[:, p] @ W[:, p]) / n)
    W[:, p] /= scale
    spread = np.vstack([W[len(root) :], np.append(np.zeros(p), 1.0)])
    dense = np.column_stack([within, rest / scale])
    codes = W[: len(root)] / np.maximum(root, 1.0)[:, None]
    return Basis(W=Wide(index=X.index, codes=codes, dense=dense, spread=spread), upper=upper, gamma=gamma, scale=scale)


def _size_of(mean_square: float) -> float:
    """Its root, 1 for zero."""
    scale = float(np.sqrt(mean_square))
    return scale if scale > 0 else 1.0


def _orthonormal(Q: np.ndarray, residual: np.ndarray, given: Order, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the columns orthonormal and take y's part in them out of it, in place: (upper, gamma) as in `Basis`.

    `unit` is the constant of norm one, in the coordinates of Q.
    """
    p = Q.shape[1]
    upper = orthonormalise(Q)
    gamma, order = np.zeros(p), given.order
    if given.constant:  # stays exactly constant
        Q[:, 0] = np.copysign(1.0, given.constant) * unit
        number = np.copysign(1.0 / np.sqrt(given.n), given.constant)
        upper[0] += given.shifts / number
        gamma[0] = given.start / number
    if not np.array_equal(order, given.wanted):
        turn, upper = positive_qr(upper[:, np.argsort(order)[given.wanted]])
        for rows in pieces(len(Q)):
            Q[rows] = Q[rows] @ turn
        gamma, order = turn.T @ gamma, given.wanted
    back = np.empty((p, p))
    back[:, order] = upper
    for _ in range(2):
        more = Q.T @ residual
        gamma += more
        residual -= Q @ more
    return back, gamma


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


def in_span(level: LevelDesign, own: np.ndarray, candidates: np.ndarray | Wide) -> np.ndarray:
    """Which columns are, in every group of `level`, combinations of the level's own columns, another one in each."""
    bases = within_groups(level, own)
    if isinstance(candidates, Wide):
        return _wide_in_span(level, bases, candidates)
    out = np.zeros(candidates.shape[1], dtype=bool)
    for some in pieces(candidates.shape[1]):
        for c, column in enumerate(np.ascontiguousarray(candidates[:, some].T), start=some.start):
            out[c] = _spanned(level, bases, column)
    return out


def _spanned(level: LevelDesign, bases: list[np.ndarray], column: np.ndarray) -> bool:
    rest = column
    for basis in bases * 2:
        rest = rest - basis * np.bincount(level.index, basis * rest, level.m)[level.index]
    return bool(np.linalg.norm(rest) <= 1e-12 * np.linalg.norm(column))


def _wide_in_span(level: LevelDesign, bases: list[np.ndarray], X: Wide) -> np.ndarray:
    """The same of a wide matrix: the columns that sums over groups do not rule out are tried, a factor's together."""
    from scipy.sparse import csr_array

    n, p = X.shape
    part = np.zeros(p)
    for basis in bases:
        Z = csr_array((basis, level.index, np.arange(n + 1)), shape=(n, level.m))
        levels, dense = Z.T @ X.S, Z.T @ X.dense
        for some in pieces(p):
            part[some] += ((levels @ X.codes[:, some] + dense @ X.spread[:, some]) ** 2).sum(axis=0)
    whole = np.einsum("ij,ij->j", X.compressed, X.compressed)
    able = part >= whole * (1 - 1e-8)
    out = np.zeros(p, dtype=bool)
    weights = np.random.default_rng(1).uniform(1.0, 2.0, p) / np.sqrt(np.where(whole > 0, whole, 1.0))
    groups = [np.flatnonzero(able & X.of_levels), *np.flatnonzero(able & ~X.of_levels)[:, None]]
    while groups:
        own = groups.pop()
        if len(own) and _spanned(level, bases, X.keep(own) @ weights[own]):
            out[own] = True
        elif len(own) > 1:
            groups += np.array_split(own, 2)
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
