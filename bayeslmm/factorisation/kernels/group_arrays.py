"""What the kernels of nested groups pass to each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

POINTS = 12  # tangents of a hull


class Chain(NamedTuple):
    """Nested groups, leaf first: C levels, M groups in all, R effects in all levels together, n rows."""

    code: int  # of the family
    y: np.ndarray  # (n,)
    N: np.ndarray  # (n,) trials
    weight: np.ndarray  # (n,) how many rows each stands for
    z: np.ndarray  # (n, R)
    offset: np.ndarray  # (C + 1,) where a level's columns begin in z
    lam: np.ndarray  # (C,) where its factor begins in lambda
    base: np.ndarray  # (C + 1,) where its groups begin among all M
    first: np.ndarray  # (M,) first child: a group of the level below, or a row
    last: np.ndarray  # (M,)
    row0: np.ndarray  # (M,) first row
    row1: np.ndarray  # (M,)
    times: np.ndarray  # (M,) how many groups each stands for
    start: np.ndarray  # (M, r) where to look for its mode
    steady: np.ndarray  # (M,) bool: whether z is the same in all of its rows


class Rules(NamedTuple):
    """Nodes: per level (C,) its kind, and what of them: rough, for placing nodes further out, and full."""

    sampled: np.ndarray  # (C,) bool: a lattice
    nodes: np.ndarray  # (C, 2) how many a lattice has
    step: np.ndarray  # (C, 2) distance of the trapezoidal rule's, in the spread at the mode
    drop: np.ndarray  # (2,) how far below the largest log weight its nodes end
    generator: np.ndarray  # (r,) of the lattice


class Work(NamedTuple):
    """What is computed on the way, per level."""

    eta: np.ndarray  # (C + 1, n): with all effects of the levels from here on
    a: np.ndarray  # (n, R): z times the factor
    mode: np.ndarray  # (M, r)
    u: np.ndarray  # (C, r)
    best: np.ndarray  # (C, r)
    step: np.ndarray  # (C, r)
    L: np.ndarray  # (C, r, r)
    slope: np.ndarray  # (C, R): of what is inside, at one node
    bend: np.ndarray  # (C, R, R)
    e_slope: np.ndarray  # (C, R): of the integral
    e_bend: np.ndarray  # (C, R, R)
    terms: np.ndarray  # (C, most)
    hull: np.ndarray  # (C, 4, POINTS + 2): abscissae, heights, slopes, masses
    out: np.ndarray  # (M, r): effects that were drawn, or log integrals
    power: np.ndarray  # (n,): exp(eta), or of minus it
    share: np.ndarray  # (n,): weight times trials
