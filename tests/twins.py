"""The kernels to read: what each of them computes, dense and in a few lines of numpy.

M holds all products [Z W]'[Z W], effects first. A step is the columns `own` of M that are eliminated together, one
group of the chain or the whole tail, and their relative factor lambda (block-diagonal for the tail). With V_< of the
steps so far, M becomes [Z W]' V_<^-1 [Z W] as elimination goes on.
"""

import numpy as np


def forward(M, steps):
    """`elimination.forward` and `tail.tail_forward`: log|V0|, M at the end, and per step F and its rows [A~ | B~]."""
    logdet, left = 0.0, []
    for own, lam in steps:
        E = np.eye(len(own)) + lam.T @ M[np.ix_(own, own)] @ lam
        logdet += np.linalg.slogdet(E)[1]
        F = lam @ np.linalg.inv(np.linalg.cholesky(E)).T  # F F' = Cov(own | ancestors) / sigma^2
        M = M - M[:, own] @ F @ F.T @ M[own]
        left.append((F, M[own]))
    return logdet, M, left


def draw(steps, left, v, sigma, z):
    """`backsolve.draw`: b from standard normal z, for the data W v; for sigma = 0 the conditional mode."""
    b = np.zeros(len(z))
    for (own, lam), (F, rows) in reversed(list(zip(steps, left, strict=True))):
        # b is zero as yet where it is not an ancestor's
        b[own] = lam @ lam.T @ (rows[:, len(z) :] @ v - rows[:, : len(z)] @ b) + sigma * F @ z[own]
    return b


def backward(steps, left, M, a, Tbar):
    """`backsolve.backward` and `tail.tail_backward`: modes per column of W, C = Cov(b) / sigma^2, gradients."""
    q = len(M) - len(Tbar)
    b = np.column_stack([draw(steps, left, v, 0.0, np.zeros(q)) for v in np.eye(len(Tbar))])
    C = np.zeros((q, q))
    gradients = []
    for (own, lam), (F, rows) in reversed(list(zip(steps, left, strict=True))):
        C[own] = -lam @ lam.T @ rows[:, :q] @ C
        C[:, own] = C[own].T
        C[np.ix_(own, own)] = F @ F.T - lam @ lam.T @ rows[:, :q] @ C[:, own]
        K, Q = M[np.ix_(own, own)], M[own, q:]  # Z'V0^-1 Z and Z'V0^-1 W
        gradients.append(2 * (a * K - Q @ Tbar @ Q.T) @ lam)
    return b, C, gradients[::-1]


def joined(meets):
    """`graph.joined`: which nodes some unit has together, from truth values (units, nodes) of those that each has."""
    together = meets.T.astype(int) @ meets > 0
    np.fill_diagonal(together, False)
    return together


def least_degree_order(joined, weights):
    """`ordering.minimum_degree`, by exact degrees: of the symmetric truth values `joined`, with the nodes' weights."""
    joined, left, order = joined.copy(), set(range(len(joined))), []
    while left:
        node = min(left, key=lambda i: (joined[i] @ weights, i))
        near = joined[node].copy()
        joined[np.ix_(near, near)] = True
        joined[node] = joined[:, node] = False
        np.fill_diagonal(joined, False)
        left.remove(node)
        order.append(node)
    return np.array(order, dtype=int)


def eliminate(joined, order):
    """`symbolic`: for each node those that it is joined to when it is eliminated, itself included, in no order."""
    joined, filled = joined.copy(), np.eye(len(joined), dtype=bool)
    for node in order:
        near = joined[node].copy()
        filled[node] |= near
        joined[np.ix_(near, near)] = True
        joined[node] = joined[:, node] = False
        np.fill_diagonal(joined, False)
    return filled


def packed_cholesky(A, pattern):
    """`fronts.factor`: the upper Cholesky factor of the dense A, its columns in the order of elimination, packed."""
    return packed(np.linalg.cholesky(A).T, pattern)


def packed_covariance(A, Lambda, pattern):
    """`fronts.inverse`, scaled as `sparse_tail.scale` does: what of Lambda A^-1 Lambda' the pattern has."""
    return packed(Lambda @ np.linalg.inv(A) @ Lambda.T, pattern)


def packed(A, pattern):
    """The upper triangle of A where the pattern has it."""
    row, column = np.triu_indices(len(A))
    where, there = pattern.find(row, column)
    out = np.zeros(pattern.size)
    out[where[there]] = A[row, column][there]
    return out
