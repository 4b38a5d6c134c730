"""Well-conditioned columns: what is put on its own scale before anything is squared.

X becomes orthonormal, y its residual from least squares in units of its own size, slopes are centred (where the level
has an intercept) and scaled. `Basis` and the levels' maps remember the way back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import LevelDesign


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
        shift = float(column.mean()) if constant else 0.0
        spread = float(np.sqrt(np.mean((column - shift) ** 2)))
        M[e, e] = spread
        if constant:
            M[constant[0], e] = shift
    return M


def better_columns(columns: np.ndarray, M: np.ndarray) -> np.ndarray:
    """The (n, r) columns on which M, from `effect_map`, gives a level's own, or those of other rows."""
    r = len(M)
    if np.array_equal(M, np.eye(r)):
        return columns
    better = np.empty_like(columns)
    for e in range(r):
        shift = sum(M[c, e] for c in range(r) if c != e)
        better[:, e] = (columns[:, e] - shift) / M[e, e]
    return better


def make_basis(X: np.ndarray, y: np.ndarray, levels: tuple[LevelDesign, ...] = ()) -> Basis:
    """Orthonormal X, columns that are constant within more levels first, and y's scaled residual from it."""
    n, p = X.shape
    rank = [sum(bool(np.array_equal(x[_first_row(level)][level.index], x)) for level in levels) for x in X.T]
    order = sorted(range(p), key=lambda c: -rank[c])
    Q, upper = np.linalg.qr(X[:, order])
    sign = np.where(np.diag(upper) < 0, -1.0, 1.0)
    Q, upper = Q * sign, upper * sign[:, None]
    for c in range(p):  # a constant column stays exactly constant
        if np.ptp(X[:, order[c]]) == 0 and c == 0:
            Q[:, 0] = 1.0 / np.sqrt(n)
    back = np.empty((p, p))
    back[:, order] = upper
    gamma = Q.T @ y
    residual = y - Q @ gamma
    correction = Q.T @ residual
    gamma = gamma + correction
    residual = residual - Q @ correction
    scale = float(np.sqrt(np.mean(residual**2)))
    if not scale > 0:
        scale = 1.0
    return Basis(W=np.column_stack([Q, residual / scale]), upper=back, gamma=gamma, scale=scale)


def _first_row(level: LevelDesign) -> np.ndarray:
    first = np.zeros(level.m, dtype=np.int64)  # a relative has no row
    first[level.index[::-1]] = np.arange(level.index.size - 1, -1, -1)
    return first


def in_span(level: LevelDesign, own: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Which columns are, in every group of `level`, combinations of the level's own columns."""
    if candidates.shape[1] == 0:
        return np.zeros(0, dtype=bool)
    norm = np.sqrt(np.einsum("ij,ij->j", candidates, candidates))
    constant = np.ptp(own[:, 0]) == 0
    rest = own
    if constant:
        counts = np.bincount(level.index, minlength=level.m)[:, None]
        candidates = candidates - (group_sums(level.index, level.m, candidates) / counts)[level.index]
        rest = (
            own[:, 1:] - (group_sums(level.index, level.m, own[:, 1:]) / counts)[level.index]
            if level.r > 1
            else own[:, :0]
        )
    if rest.shape[1]:
        coefficients = np.linalg.lstsq(rest, candidates, rcond=None)[0]
        candidates = candidates - rest @ coefficients
    return np.sqrt(np.einsum("ij,ij->j", candidates, candidates)) <= 1e-12 * norm
