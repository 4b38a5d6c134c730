"""The numerator relationship matrix of a pedigree, and its inverse: covariances that are known from descent."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from scipy import sparse

Record = tuple[Hashable, Hashable | None, Hashable | None]


def ordered(pedigree: Iterable[Record]) -> tuple[list[Hashable], dict[Hashable, tuple]]:
    """(labels, parents): parents without a record of their own come first, as founders."""
    parents = {animal: (sire, dam) for animal, sire, dam in pedigree}
    founders = dict.fromkeys(x for pair in parents.values() for x in pair if x is not None and x not in parents)
    parents = dict.fromkeys(founders, (None, None)) | parents
    return list(parents), parents


def by_age(labels: list[Hashable], parents: dict[Hashable, tuple]) -> list[Hashable]:
    """The animals, parents before their offspring."""
    done: dict[Hashable, None] = {}
    waiting = list(labels)
    while waiting:
        ready = [x for x in waiting if all(parent is None or parent in done for parent in parents[x])]
        assert ready, f"these descend from themselves: {waiting}"
        done |= dict.fromkeys(ready)
        waiting = [x for x in waiting if x not in done]
    return list(done)


def relationship(pedigree: Iterable[Record]) -> pd.DataFrame:
    """A of (animal, sire or None, dam or None) by the tabular method; 1 + F stands on the diagonal.

    Source: Henderson (1976), Biometrics 32, 69-83; Mrode (2014), section 2.2.
    """
    labels, parents = ordered(pedigree)
    order = by_age(labels, parents)
    place = {x: k for k, x in enumerate(order)}
    A = np.zeros((len(order), len(order)))
    for i, animal in enumerate(order):
        known = [place[x] for x in parents[animal] if x is not None]
        A[i, :i] = A[:i, i] = sum((A[k, :i] for k in known), np.zeros(i)) / 2
        A[i, i] = 1 + (A[known[0], known[1]] / 2 if len(known) == 2 else 0.0)
    return pd.DataFrame(A, index=order, columns=order).loc[labels, labels]


def relationship_inverse(pedigree: Iterable[Record]) -> tuple[sparse.csc_array, list[Hashable]]:
    """(A^-1, labels) by Henderson's rules, without A: T'D^-1 T with a row of T for each animal less half its parents.

    D holds the Mendelian sampling variances, one less a quarter of the known parents' 1 + F each;
    F comes from the rows of T^-1, A = T^-1 D T^-T, an animal's ancestors taken from the youngest on.
    Sources: Henderson (1976); Quaas (1976), Biometrics 32, 949-953; Meuwissen & Luo (1992), Genet. Sel. Evol. 24, 305.
    """
    labels, parents = ordered(pedigree)
    order = by_age(labels, parents)
    place = {x: k for k, x in enumerate(order)}
    known = [[place[x] for x in parents[animal] if x is not None] for animal in order]
    F, D = np.zeros(len(order)), np.zeros(len(order))
    for i in range(len(order)):
        D[i] = 1 - sum(1 + F[k] for k in known[i]) / 4
        share = {i: 1.0}  # of the animal's genes, from each ancestor
        total = 0.0
        while share:
            k = max(share)
            part = share.pop(k)
            total += part**2 * D[k]
            for parent in known[k]:
                share[parent] = share.get(parent, 0.0) + part / 2
        F[i] = total - 1
    T = sparse.lil_array((len(order), len(order)))
    for i, ancestors in enumerate(known):
        T[i, i] = 1.0
        for k in ancestors:
            T[i, k] -= 0.5
    T = T.tocsc()
    back = [place[x] for x in labels]
    return (T.T @ sparse.diags_array(1 / D) @ T).tocsr()[back][:, back].tocsc(), labels
