"""Laplace's approximation group by group, along a chain of nested levels: where its error comes from."""

from __future__ import annotations

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.laplace import find_mode
from bayeslmm.integration.rows import Rows


def laplace_by_group(
    rows: Rows, family: Family, outcome: Outcome, fixed: np.ndarray, lam: np.ndarray, psi: np.ndarray, s: np.ndarray
) -> np.ndarray:
    """What each group of the outermost level adds to Laplace's log-likelihood, in the design's order.

    H falls into a block per group; it is eliminated from the leaf up, the levels above being what is left of it.
    """
    chain = rows.plan.chain
    mode, _ = find_mode(rows, family, outcome, fixed, lam, psi, s)
    jet = family.jet(outcome, mode.eta, psi)
    v = rows.transposed(lam, mode.s)
    index = [rows.design.levels[k].index for k in chain]
    root = index[-1]
    total = np.bincount(root, weights=jet.value, minlength=rows.design.levels[chain[-1]].m)
    a = np.hstack([rows.better[k] @ lam[rows.slices[k][1]].reshape(rows.better[k].shape[1], -1) for k in chain])
    left = -jet.second[:, None, None] * a[:, :, None] * a[:, None, :]
    owner = np.arange(rows.design.n)
    for c, k in enumerate(chain):
        m, r = rows.design.levels[k].m, rows.design.levels[k].r
        to = np.empty(owner.max() + 1, dtype=np.int64)
        to[owner] = index[c]  # the group of each group of the level below
        sums = np.zeros((m, *left.shape[1:]))
        np.add.at(sums, to, left)
        own = np.eye(r) + sums[:, :r, :r]
        seen = np.unique(index[c])  # a group without rows has the integral one
        top = np.empty(m, dtype=np.int64)
        top[index[c]] = root
        density = 0.5 * (v[rows.slices[k][0]].reshape(m, r) ** 2).sum(axis=1)
        np.add.at(total, top[seen], (-0.5 * np.linalg.slogdet(own)[1] - density)[seen])
        left = sums[:, r:, r:] - sums[:, r:, :r] @ np.linalg.solve(own, sums[:, :r, r:])
        owner = index[c]
    return total
