"""Generalised least squares from T = [P c; c' s]: the coefficients of Q, what they leave of y_, and P's inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MANY = 200  # columns from which on eigenvalues, and solves that don't know of zeros, take too long


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """What T says of the regression of y_ on Q.

    Attributes
    ----------
    coefficients : (p,) array
        P^-1 c.
    rss : float
        s - c' P^-1 c, before rounding is taken for zero.
    inverse : (p, p) array
        P^-1.
    logdet : float
        log|P|.
    """

    coefficients: np.ndarray
    rss: float
    inverse: np.ndarray
    logdet: float


def least_squares(T: np.ndarray) -> LeastSquares:
    """Solve by a Cholesky factor of P with its diagonal scaled to one.

    Where y_ is nearly a combination of Q and of what the effects explain, rss is a small difference of large numbers:
    the factor leaves in it the rounding of T alone, while the explicit inverse multiplies that by the condition of P.

    Source: Higham (2002, sections 10.1 and 14.1).

    Examples
    --------
    >>> least_squares(np.array([[4.0, 2.0], [2.0, 3.0]])).rss
    2.0
    """
    p = len(T) - 1
    size = np.sqrt(T.diagonal()[:p])
    scaled = T[:p] / size[:, None]
    L = np.linalg.cholesky(scaled[:, :p] / size)
    solved = solve_lower(L[None], np.column_stack([np.diag(1 / size), scaled[:, p]])[None])[0]
    root, half = solved[:, :p], solved[:, p]
    return LeastSquares(
        coefficients=root.T @ half,
        rss=float(T[p, p] - half @ half),
        inverse=root.T @ root,
        logdet=float(2 * np.log(L.diagonal() * size).sum()),
    )


def solve_lower(L: np.ndarray, right: np.ndarray, transposed: bool = False) -> np.ndarray:
    """L^-1 right, or L'^-1 right, for lower triangular L (B, p, p) and right-hand sides (B, p, c).

    Examples
    --------
    >>> solve_lower(np.array([[[2.0, 0.0], [1.0, 1.0]]]), np.array([[[2.0], [3.0]]])).ravel().tolist()
    [1.0, 2.0]
    """
    if L.shape[-1] <= MANY:
        return np.linalg.solve(np.swapaxes(L, -1, -2) if transposed else L, right)
    from scipy.linalg import solve_triangular

    trans = "T" if transposed else "N"
    pairs = zip(L, right, strict=True)
    return np.array([solve_triangular(A, b, lower=True, trans=trans, check_finite=False) for A, b in pairs])


def invertible(scaled: np.ndarray) -> np.ndarray:
    """Which of some matrices (B, p, p) of unit diagonal are positive definite, and can be inverted (B,).

    By the least eigenvalue; of many columns by the least pivot of a Cholesky factor, which it doesn't exceed.

    Examples
    --------
    >>> invertible(np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])).tolist()
    [True, False]
    """
    if scaled.shape[-1] <= MANY:
        return np.linalg.eigvalsh(scaled)[:, :1].min(axis=1, initial=1.0) > 1e-14
    return np.array([_least_pivot(own) > 1e-14 for own in scaled])


def _least_pivot(scaled: np.ndarray) -> float:
    try:
        return float(np.linalg.cholesky(scaled).diagonal().min()) ** 2
    except np.linalg.LinAlgError:
        return 0.0
