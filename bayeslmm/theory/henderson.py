"""How Henderson's equations are solved: without the inverse of R or G.

With R = L_R L_R', G = L L', u = L v, and y, X and Z multiplied by L_R^-1, the equations for v have the coefficient
matrix M = L'Z'R^-1 Z L + I, whose eigenvalues are at least one however small or near to singular G is; what is left
after v is eliminated are p equations for beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.theory.given_matrices import Covariance

_DENSE = 200  # effects up to which M is factored as a dense matrix


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What was given, in numbers, rows and effects in one order.

    Attributes
    ----------
    y : (n,) numpy.ndarray
    X : (n, p) numpy.ndarray
    Z : tuple of (n, q_k) numpy.ndarray or scipy sparse array
    G : tuple of Covariance
    R : Covariance or None
        None is the identity.
    rows, coef : pandas.Index
        Labels of the rows, and of X's columns.
    labels : tuple of pandas.Index
        Per term, the labels of its effects.
    """

    y: np.ndarray
    X: np.ndarray
    Z: tuple[Any, ...]
    G: tuple[Covariance, ...]
    R: Covariance | None
    rows: pd.Index
    coef: pd.Index
    labels: tuple[pd.Index, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms: u2, u3, ..."""
        return tuple(f"u{k}" for k in range(2, 2 + len(self.Z)))

    @cached_property
    def lower(self) -> Any:
        """L of blockdiag(G, K), sparse."""
        from scipy.sparse import block_diag, csc_array

        return block_diag([csc_array(g.lower) for g in self.G], format="csc")


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The equations in coordinates where R and G are identities, solved; covariances relative to sigma2.

    X (n + k, p), Z (n + k, q) and y (n + k,) are multiplied by L_R^-1, and hold a Gaussian prior as k = p more
    observations, whose mean is beta and whose Z is zero.

    Attributes
    ----------
    quadratic : float
        (y - X beta)' V^-1 (y - X beta) with V = Z G Z' + R.
    quadratic_prior : float
        sigma2 (beta - b0)' S0^-1 (beta - b0); zero under a flat prior.
    logdet_V, logdet_P : float
        Log determinants of V and of P = X'V^-1 X (+ sigma2 S0^-1).
    fixed_root : numpy.ndarray
        (p, p), K with K K' = P^-1.
    v_of_fixed : numpy.ndarray
        (q, p), what v moves when beta moves by the columns of K, with the sign turned.
    """

    X: np.ndarray
    Z: Any
    y: np.ndarray
    beta: np.ndarray
    u: np.ndarray
    quadratic: float
    quadratic_prior: float
    logdet_V: float
    logdet_P: float
    fixed_root: np.ndarray
    v_of_fixed: np.ndarray
    gram: Gram

    def covariance(self) -> np.ndarray:
        """Covariance of (beta, v), relative to sigma2."""
        p = self.beta.size
        root = np.vstack([self.fixed_root, -self.v_of_fixed])
        out = root @ root.T
        out[p:, p:] += self.gram.solve(np.eye(self.u.size))
        return out


def solve(given: Known, prior: tuple[np.ndarray, Covariance] | None = None, sigma2: float = 1.0) -> Solution:
    """Eliminate v, then beta: y and the columns of X leave ridge residuals, whose cross-products make P = X'V^-1 X.

    Cross-products are sums of squares (E'E + V'V, never X'X less something), and y goes in less its least-squares
    fit, so nothing cancels.
    """
    from scipy.linalg import solve_triangular

    n, p = given.X.shape
    X, y, Z = given.X, given.y, _beside(list(given.Z))
    if given.R is not None:
        X, y, Z = (given.R.lower_inverse @ each for each in (X, y, Z))
    if prior is not None:
        mean, S = prior
        weight = np.sqrt(sigma2) * S.lower_inverse
        X, y = np.vstack([X, weight]), np.concatenate([y, weight @ mean])
        Z = _with_zeros(Z, p)
    ZL = Z @ given.lower
    gram = Gram.of(ZL)
    Q, T = np.linalg.qr(X)
    first = Q.T @ y
    B = np.column_stack([Q, y - Q @ first])
    V = gram.solve(ZL.T @ B)
    E = B - ZL @ V
    S = E[:, :p].T @ E[:, :p] + V[:, :p].T @ V[:, :p]
    c = E[:, :p].T @ E[:, p] + V[:, :p].T @ V[:, p]
    root = np.linalg.cholesky(S)
    second = np.linalg.solve(S, c)
    residual, v = E[:, p] - E[:, :p] @ second, V[:, p] - V[:, :p] @ second
    inverse_root = solve_triangular(root, np.eye(p), lower=True).T
    logdet_R = 0.0 if given.R is None else given.R.logdet
    return Solution(
        X=X,
        Z=Z,
        y=y,
        beta=solve_triangular(T, first + second),
        u=given.lower @ v,
        quadratic=float(residual[:n] @ residual[:n] + v @ v),
        quadratic_prior=float(residual[n:] @ residual[n:]),
        logdet_V=logdet_R + gram.logdet,
        logdet_P=2 * float(np.log(np.abs(np.diag(root) * np.diag(T))).sum()),
        fixed_root=solve_triangular(T, inverse_root),
        v_of_fixed=V[:, :p] @ inverse_root,
        gram=gram,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Gram:
    """M = Z'Z + I, factored: by Cholesky, or by SuperLU without pivoting where it is large and sparse."""

    factor: Any
    logdet: float

    @classmethod
    def of(cls, Z: Any) -> Gram:
        """Factor Z'Z + I."""
        from scipy.linalg import cho_factor
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import splu

        q = Z.shape[1]
        M = Z.T @ Z
        if isinstance(M, np.ndarray):
            M[np.diag_indices(q)] += 1.0
        else:
            M = M + eye_array(q)
            if q > _DENSE and M.nnz < 0.1 * q**2:
                # symmetric and definite, so the diagonal is a stable pivot, and U has M's determinant
                factor = splu(
                    M.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
                )
                return cls(factor=factor, logdet=float(np.log(factor.U.diagonal()).sum()))
            M = M.toarray()
        lower, low = cho_factor(M, lower=True)
        return cls(factor=(lower, low), logdet=2 * float(np.log(np.diag(lower)).sum()))

    def solve(self, b: np.ndarray) -> np.ndarray:
        """M^-1 b."""
        from scipy.linalg import cho_solve

        return cho_solve(self.factor, b) if isinstance(self.factor, tuple) else self.factor.solve(b)


def _beside(matrices: list) -> Any:
    """Put matrices side by side, sparse when all of them are."""
    from scipy.sparse import hstack, issparse

    if all(issparse(matrix) for matrix in matrices):
        return hstack(matrices, format="csr")
    return np.hstack([matrix.toarray() if issparse(matrix) else matrix for matrix in matrices])


def _with_zeros(matrix: Any, rows: int) -> Any:
    """Put rows of zeros below a matrix."""
    from scipy.sparse import csr_array, issparse, vstack

    if issparse(matrix):
        return vstack([matrix, csr_array((rows, matrix.shape[1]))], format="csr")
    return np.vstack([matrix, np.zeros((rows, matrix.shape[1]))])
