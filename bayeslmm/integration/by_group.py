"""Laplace's approximation group by group, along a chain of nested scalar effects: where its error comes from."""

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
    mode = find_mode(rows, family, outcome, fixed, lam, psi, s)
    jet = family.jet(outcome, mode.eta, psi)
    v = rows.transposed(lam, mode.s)
    index = [rows.design.levels[k].index for k in chain]
    root = index[-1]
    total = np.bincount(root, weights=jet.value, minlength=rows.design.levels[chain[-1]].m)
    a = np.stack([lam[rows.slices[k][1]][0] * rows.better[k][:, 0] for k in chain])
    left = np.einsum("n,an,bn->nab", -jet.second, a, a)
    owner = np.arange(rows.design.n)
    for c, k in enumerate(chain):
        m = rows.design.levels[k].m
        to = np.empty(owner.max() + 1, dtype=np.int64)
        to[owner] = index[c]  # the group of each group of the level below
        sums = np.zeros((m, *left.shape[1:]))
        np.add.at(sums, to, left)
        own = 1 + sums[:, 0, 0]
        top = np.empty(m, dtype=np.int64)
        top[index[c]] = root
        np.add.at(total, top, -0.5 * np.log(own) - 0.5 * v[rows.slices[k][0]] ** 2)
        left = sums[:, 1:, 1:] - sums[:, 1:, :1] * sums[:, :1, 1:] / own[:, None, None]
        owner = index[c]
    return total
