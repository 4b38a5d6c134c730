"""What the fixed part and all effects together leave of y: nothing, where a fit is perfect."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.counted import scaled
from bayeslmm.factorisation.conditioning import within_groups
from bayeslmm.factorisation.statistics import Statistics

ROUNDS = 2000


def leftover(stats: Statistics) -> float:
    """Size of the residual of y from least squares on [X Z], relative to that on X.

    Computed from the rows, so that it is small only where it is: the criterion's own residual is a small difference of
    large numbers as soon as SDs of effects are large.

    Source: Paige & Saunders (1982) for the iteration.
    """
    from scipy import sparse
    from scipy.sparse.linalg import LinearOperator, lsqr

    design, Q = stats.design, stats.Q
    y = scaled(design.counted.y, design.counted.root) - Q @ stats.gamma
    size = float(np.linalg.norm(y))
    if not size > 0:
        return 0.0
    n, blocks = len(y), []
    for level, better in zip(design.levels, stats.better, strict=True):
        for basis in within_groups(level, better):
            blocks.append(sparse.csr_array((basis, (np.arange(n), level.index)), shape=(n, level.m)))
    if not blocks:
        return 1.0
    Z = sparse.hstack(blocks, format="csr")
    Z_t = Z.T.tocsr()

    def free(v: np.ndarray) -> np.ndarray:
        """V without its part in X."""
        return v - Q @ (Q.T @ v)

    operator = LinearOperator(Z.shape, matvec=lambda u: free(Z @ u), rmatvec=lambda v: Z_t @ free(v), dtype=float)
    return float(lsqr(operator, free(y) / size, atol=1e-10, btol=1e-9, conlim=0, iter_lim=ROUNDS)[3])
