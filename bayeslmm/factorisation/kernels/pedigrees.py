"""Inbreeding of animals, from their parents; `relationship` in `tests/pedigree.py` is the same by the tabular method.

Source: Meuwissen & Luo (1992), Computing inbreeding coefficients in large populations.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.compiling import njit

NONE = -1


@njit
def inbreeding(one, other):
    """(F, D): each animal's inbreeding coefficient, and the share of its variance that its parents don't explain.

    Parameters
    ----------
    one, other : (n,) arrays
        The animals' parents, the later one first; they stand before their offspring, and -1 is unknown.
    """
    n = one.shape[0]
    F, D, share = np.zeros(n), np.empty(n), np.zeros(n)  # share: of an animal's genes, from each ancestor
    after = np.full(n, NONE, np.int64)  # ancestors in a list, from the youngest to the oldest
    for i in range(n):
        a, b = one[i], other[i]
        D[i] = 1.0
        if a != NONE:
            D[i] -= 0.25 * (1.0 + F[a])
        if b != NONE:
            D[i] -= 0.25 * (1.0 + F[b])
        if a == NONE or b == NONE:
            continue
        if i > 0 and one[i - 1] == a and other[i - 1] == b:
            F[i] = F[i - 1]
            continue
        total = -1.0
        share[i] = 1.0
        j = i
        while j != NONE:
            k = j
            half = 0.5 * share[j]
            for parent in (one[j], other[j]):
                if parent == NONE:
                    continue
                while after[k] > parent:
                    k = after[k]
                share[parent] += half
                if after[k] != parent:
                    after[parent] = after[k]
                    after[k] = parent
            total += share[j] * share[j] * D[j]
            share[j] = 0.0
            k = after[j]
            after[j] = NONE
            j = k
        F[i] = total
    return F, D
