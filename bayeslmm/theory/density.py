r"""The two densities of a multilevel model, dense and literal: for teaching, and as the oracle of the tests.

    joint      f(y, u2, u3 | beta, ...) = (2 pi sigma^2)^(-(n+q+k)/2) * det(blockdiag(G, K, R))^(-1/2)
                   * exp( -1/(2 sigma^2) * [u2' G^-1 u2 + u3' K^-1 u3 + e' R^-1 e] ),   e = y - X beta - Z u2 - W u3
    marginal   y ~ N( X beta, sigma^2 (Z G Z' + W K W' + R) )

The three-level model is the two-level model with ``Z = [Z W]``, ``u = [u2; u3]``, ``G = blockdiag(G, K)``, so both
functions take one Z, one u and one G; pass lists to have them put side by side.

Notes
-----
The thread in which these formulas were first asked for [1]_ has two slips: it writes the three-level residual
without the third level (it is ``y - X beta - Z u2 - W u3``), and the log-likelihood as a sum of densities,
``sum_i p(y_i)``, without their logs.

.. [1] https://stats.stackexchange.com/questions/386474/what-is-the-joint-density-function-of-a-three-level-mixed-effects-model
"""

from __future__ import annotations

import numpy as np


def _dense(matrix) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix, dtype=float)


def _side_by_side(Z, u, G) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    several = isinstance(G, (list, tuple)) and _dense(G[0]).ndim == 2  # [[1.0]] is one matrix, written as a list
    if not several:
        return _dense(Z), None if u is None else np.asarray(u, dtype=float).ravel(), _dense(G)
    blocks = [_dense(block) for block in G]
    q = sum(block.shape[0] for block in blocks)
    whole = np.zeros((q, q))
    at = 0
    for block in blocks:
        whole[at : at + block.shape[0], at : at + block.shape[0]] = block
        at += block.shape[0]
    stacked = None if u is None else np.concatenate([np.asarray(part, dtype=float).ravel() for part in u])
    return np.hstack([_dense(part) for part in Z]), stacked, whole


def _quadratic(matrix: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Return (log det, x' matrix^-1 x)."""
    L = np.linalg.cholesky(matrix)
    w = np.linalg.solve(L, x)
    return 2 * float(np.log(np.diag(L)).sum()), float(w @ w)


def joint_logpdf(y, X, Z, beta, u, sigma2: float, G, R=None) -> float:
    """Log f(y, u | beta, sigma^2, G, R), the joint density of the data and the random effects.

    Parameters
    ----------
    y : (n,) array
    X : (n, p) array
    Z : (n, q) array or sparse matrix, or a list of them, one per level
    beta : (p,) array
    u : (q,) array, or a list of them
    sigma2 : float
        Residual variance; the covariance of u is ``sigma2 * G``, that of e is ``sigma2 * R``.
    G : (q, q) array, or a list of them
        Positive definite, relative to sigma2.
    R : (n, n) array, optional
        Identity when left out.

    Returns
    -------
    float

    Examples
    --------
    One observation, one group, everything standard: two independent standard normals at zero.

    >>> round(joint_logpdf([0.0], [[1.0]], [[1.0]], [0.0], [0.0], 1.0, [[1.0]]), 6)
    -1.837877
    """
    Z, u, G = _side_by_side(Z, u, G)
    y, X, beta = np.asarray(y, dtype=float), np.asarray(X, dtype=float), np.asarray(beta, dtype=float)
    n, q = y.size, G.shape[0]
    e = y - X @ beta - Z @ u
    logdet_G, quad_u = _quadratic(G, u)
    logdet_R, quad_e = (0.0, float(e @ e)) if R is None else _quadratic(_dense(R), e)
    return float(-0.5 * ((n + q) * np.log(2 * np.pi * sigma2) + logdet_G + logdet_R + (quad_u + quad_e) / sigma2))


def marginal_logpdf(y, X, Z, beta, sigma2: float, G, R=None) -> float:
    """Log f(y | beta, sigma^2, G, R), the random effects integrated out.

    Parameters are those of `joint_logpdf`, without u.

    Returns
    -------
    float

    Examples
    --------
    >>> round(marginal_logpdf([0.0], [[1.0]], [[1.0]], [0.0], 1.0, [[1.0]]), 6)  # N(0, 2) at 0
    -1.265512
    """
    Z, _, G = _side_by_side(Z, None, G)
    y, X, beta = np.asarray(y, dtype=float), np.asarray(X, dtype=float), np.asarray(beta, dtype=float)
    V = Z @ G @ Z.T + (np.eye(y.size) if R is None else _dense(R))
    logdet, quad = _quadratic(V, y - X @ beta)
    return float(-0.5 * (y.size * np.log(2 * np.pi * sigma2) + logdet + quad / sigma2))


def conditional_moments(y, X, Z, beta, sigma2: float, G, R=None) -> tuple[np.ndarray, np.ndarray]:
    """Mean (q,) and covariance (q, q) of p(u | y, beta, sigma^2, G, R): the BLUP and its variance.

    Parameters are those of `joint_logpdf`, without u.

    Returns
    -------
    tuple of (q,) and (q, q) array
        In the units of u, and their squares.

    Notes
    -----
    Source: Henderson (1975), Robinson (1991): ``E = G Z' V^-1 (y - X beta)``, ``Cov = sigma^2 (G - G Z' V^-1 Z G)``.

    Examples
    --------
    >>> mean, cov = conditional_moments([2.0], [[1.0]], [[1.0]], [0.0], 1.0, [[1.0]])
    >>> float(mean[0]), float(cov[0, 0])
    (1.0, 0.5)
    """
    Z, _, G = _side_by_side(Z, None, G)
    y, X, beta = np.asarray(y, dtype=float), np.asarray(X, dtype=float), np.asarray(beta, dtype=float)
    V = Z @ G @ Z.T + (np.eye(y.size) if R is None else _dense(R))
    gain = np.linalg.solve(V, Z @ G).T
    return gain @ (y - X @ beta), sigma2 * (G - gain @ Z @ G)
