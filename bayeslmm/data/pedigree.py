"""A pedigree as the known precision of its animals: the inverse of their numerator relationship matrix."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.data.table import select
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.support.text import listed


def pedigree_precision(
    pedigree: Any, animal: str = "animal", sire: str = "sire", dam: str = "dam", unknown: str | None = None
) -> KnownMatrix:
    """Make the inverse A^-1 of the numerator relationship matrix of a pedigree, inbreeding included.

    Parameters
    ----------
    pedigree : frame or mapping of columns
        A row per animal, in any order. Parents without a row of their own are founders. A parent that is missing
        (None, NaN, an empty text) is unknown.
    animal, sire, dam : str
        Names of its columns.
    unknown : str, optional
        A label that stands for an unknown parent too, such as "0".

    Returns
    -------
    KnownMatrix
        A sparse precision, founders without a row first, for ``precision={"animal": ...}``. Effects have the
        variance sigma_u2^2 (1 + F), F the animal's inbreeding.

    Raises
    ------
    DataError
        If an animal has two rows, or descends from itself.

    Notes
    -----
    A^-1 = T' D^-1 T with a row of T for each animal less half its parents.
    Sources: Henderson (1976), A simple method for computing the inverse of a numerator relationship matrix; Meuwissen
    & Luo (1992), Computing inbreeding coefficients in large populations.

    Examples
    --------
    >>> A = pedigree_precision({"animal": ["c", "d"], "sire": ["a", "a"], "dam": ["b", None]})
    >>> A.labels
    ('a', 'b', 'c', 'd')
    >>> A.matrix.toarray().round(3).tolist()[0]
    [1.833, 0.5, -1.0, -0.667]
    """
    from scipy.sparse import coo_array, csc_array, diags_array

    from bayeslmm.factorisation.kernels.compiling import first_use
    from bayeslmm.factorisation.kernels.pedigrees import inbreeding

    labels, parents = _numbered(pedigree, (animal, sire, dam), unknown)
    order = _oldest_first(labels, parents)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    known = np.where(parents[order] >= 0, rank[parents[order]], -1)
    one, other = known.max(axis=1), known.min(axis=1)
    with first_use(inbreeding, "pedigree"):
        _, D = inbreeding(one, other)
    child = np.concatenate([np.flatnonzero(one >= 0), np.flatnonzero(other >= 0)])
    parent = np.concatenate([one[one >= 0], other[other >= 0]])
    n = len(order)
    at = (np.concatenate([np.arange(n), child]), np.concatenate([np.arange(n), parent]))
    T = csc_array(coo_array((np.concatenate([np.ones(n), np.full(len(child), -0.5)]), at), shape=(n, n)))
    inverse = csc_array(T.T @ diags_array(1 / D) @ T)[rank][:, rank]
    return KnownMatrix(labels=tuple(labels), matrix=inverse, precision=True)


def _numbered(pedigree: Any, names: tuple[str, str, str], unknown: str | None) -> tuple[list[str], np.ndarray]:
    """(labels, parents (n, 2) as places among them, -1 for unknown): founders without a row first."""
    frame = select(pedigree, names)
    if unknown is not None and not isinstance(unknown, str):
        raise DescriptionError(f"unknown={unknown!r}; expected a label that stands for unknown parents, such as '0'.")
    own, fathers, mothers = ([_label(x) for x in frame[name]] for name in names)
    nobody = {"", unknown}
    if nobody & set(own):
        row = next(k for k, x in enumerate(own) if x in nobody)
        raise DataError(f"Row {row + 1} of the pedigree has no animal, or the label of unknown parents: {own[row]!r}.")
    if len(set(own)) < len(own):
        twice = next(label for label, many in Counter(own).items() if many > 1)
        raise DataError(f"The animal {twice!r} has two rows in the pedigree; keep one.")
    there = set(own)
    known = [x for pair in zip(fathers, mothers, strict=True) for x in pair if x not in nobody]
    if unknown is None and "0" in known and "0" not in there:
        raise DataError(
            "The pedigree has parents called '0', and no animal '0'. If that stands for unknown, write unknown='0'; "
            "else give '0' a row of its own."
        )
    labels = [*dict.fromkeys(x for x in known if x not in there), *own]
    if not labels:
        raise DataError("The pedigree has no rows.")
    place: dict[str | None, int] = {x: k for k, x in enumerate(labels)}
    parents = np.full((len(labels), 2), -1, dtype=np.int64)
    founders = len(labels) - len(own)
    for column, names_of in enumerate((fathers, mothers)):
        parents[founders:, column] = [-1 if x in nobody else place[x] for x in names_of]
    return labels, parents


def _label(value: object) -> str:
    """A label as the groups of the data have it; "" for one that is missing."""
    if value is None or value != value or str(value) == "<NA>":
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _oldest_first(labels: list[str], parents: np.ndarray) -> np.ndarray:
    """Places of the animals, parents before their offspring; full sisters are neighbours where they can be."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(labels)
    child, column = np.nonzero(parents >= 0)
    links = coo_array((np.ones(len(child)), (child, parents[child, column])), shape=(n, n)).tocsr()
    _, ring = connected_components(links, directed=True, connection="strong")
    alone = np.bincount(ring)[ring] == 1
    own = (parents == np.arange(n)[:, None]).any(axis=1)
    if own.any() or not alone.all():
        at = int(np.flatnonzero(own if own.any() else ~alone)[0])
        same = [labels[k] for k in np.flatnonzero(ring == ring[at])]
        raise DataError(
            f"The animal {labels[at]!r} descends from itself in the pedigree, through {listed(same)}; correct a parent."
        )
    generation = np.zeros(n, dtype=np.int64)
    while True:
        above = np.where(parents >= 0, generation[parents] + 1, 0).max(axis=1)
        if np.array_equal(above, generation):
            return np.lexsort((parents[:, 1], parents[:, 0], generation))
        generation = above
