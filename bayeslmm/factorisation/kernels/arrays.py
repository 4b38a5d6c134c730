"""What the kernels pass to each other: the columns of their tables, and their arrays in named groups.

Sizes: s levels in the chain, M groups in it altogether, q effects of all levels, q_T of them in the tail, d columns of
W, L numbers in all relative factors lambda. A level has m groups of r effects, and R effects in the levels above it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Columns of the table `chain`, one row per level of the nested chain, leaf first.
(
    C_LEVEL,  # the level's number in the design
    C_GROUPS,  # m
    C_EFFECTS,  # r
    C_ANCESTORS,  # R
    C_Z,  # where its effects begin among all q
    C_LAMBDA,  # where its r x r factor begins in lambda
    C_POSITION,  # where its columns begin among those of the chain
    C_GROUP,  # where its groups begin among all M
    C_ZZ,  # where its products begin in zz
    C_BLOCK,  # where its r x r blocks begin in At and F
    C_LIST,  # where its groups begin in `lists`
    C_TZ,  # where its products with the tail begin in zt and Bz
    C_MAP,  # where it begins in `maps`
) = range(13)
CHAIN_COLUMNS = 13

# Columns of the table `tail`, one row per level outside the chain: as above, and where it begins among all q_T.
(T_LEVEL, T_GROUPS, T_EFFECTS, T_Z, T_LAMBDA, T_COLUMN) = range(6)
TAIL_COLUMNS = 6

# Planes of the work space of one group, r rows each: its own rows of products [A | B], R, E, L, X, K, s and y below.
(GROUP, ROOT, SQUARE, LOWER, SOLVED, KEPT, WHITE, WHITER) = range(8)


class Tables(NamedTuple):
    """Where everything stands; integers but for `inspan`. A dense tail's table goes by itself, for it may be None."""

    chain: np.ndarray  # (s, 13), its columns above
    parent: np.ndarray  # (M,) the renumbered mother of each renumbered group of the chain
    order: np.ndarray  # (M,) its original number
    inspan: np.ndarray  # (s, effects of the chain) bool: which of its ancestors' columns a level resolves exactly
    lists: np.ndarray  # per level m + 1: where each group's tail columns begin in `columns`
    columns: np.ndarray  # the tail columns that each group meets, ascending
    maps: np.ndarray  # per level, ancestor and entry of `columns`: where the ancestor's group has that column
    voff: np.ndarray  # (levels + 1,) where each level's variance blocks begin


class Sparse(NamedTuple):
    """Where a sparse tail has its numbers; integers, but for what its effects' known precisions are.

    Its columns are those of the tail in the order of elimination. Q is their effects' precision at lambda = I, with
    blocks I or, where a level's groups have a known precision, that; the last three are empty where it is I.
    """

    tail: np.ndarray  # (levels, 6), its columns above but for T_COLUMN
    column: np.ndarray  # per group of the tail, level by level: where its effects begin among the columns
    level: np.ndarray  # (q_T,) the row of `tail` that each column belongs to
    of: np.ndarray  # (q_T,) its supernode
    first: np.ndarray  # (s + 1,) where each supernode's own columns begin
    starts: np.ndarray  # (s + 1,) where its list begins in `rows`
    rows: np.ndarray  # the columns of each list, ascending, its own first
    panels: np.ndarray  # (s + 1,) where its panel begins in packed arrays
    run_starts: np.ndarray  # (s + 1,) where its runs begin in `runs`
    runs: np.ndarray  # (runs, 4) as `symbolic.extensions` has them
    relative: np.ndarray  # and theirs
    pair_starts: np.ndarray  # (M + 1,) where each group of the chain begins in `pairs`
    pairs: np.ndarray  # where the tail columns that it meets meet each other in packed arrays, k with j >= k
    precision: np.ndarray  # Q, packed
    precision_logs: np.ndarray  # (q_T,) twice the logs of the diagonal of its Cholesky factor, which add up to log|Q|
    precision_inverse: np.ndarray  # Q^-1 where the tail has numbers, packed


def pattern_alone(arrays: tuple) -> Sparse:
    """What `symbolic.analyse` makes, of nodes of one column each, without a tail."""
    column, of, first, starts, rows, panels, run_starts, runs, relative = arrays
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    tail, level = np.zeros((0, TAIL_COLUMNS), np.int64), np.zeros(len(of), np.int64)
    own = (column, level, of, first, starts, rows, panels, run_starts, runs, relative)
    return Sparse(tail, *own, none, none, nothing, nothing, nothing)


class Products(NamedTuple):
    """The data: cross-products of Z and W through R^-1."""

    zz: np.ndarray  # flat: each chain group with itself and its ancestors, r x (r + R)
    zz_tail: np.ndarray  # (q_T, q_T): of the tail; of a sparse one packed in its panels, above the diagonal
    zt: np.ndarray  # flat: each chain group with the tail columns it meets, r x length
    ZtW: np.ndarray  # (q, d)
    WtW: np.ndarray  # (d, d)
    winspan: np.ndarray  # (s, d) bool: which columns of W a level of the chain resolves exactly


class Terms(NamedTuple):
    """Products of T terms of R^-1, each flat, and their coefficients for every value of lambda; empty for a fixed R."""

    zz: np.ndarray  # (T, size)
    zz_tail: np.ndarray
    zt: np.ndarray
    ZtW: np.ndarray
    WtW: np.ndarray
    c: np.ndarray  # (B, T)


class Parts(NamedTuple):
    """What elimination leaves for the way back. In a workspace all of them have one axis more, the first: slots."""

    At: np.ndarray  # flat: A~, r x r per group of the chain
    Bt: np.ndarray  # flat: B~ of the ancestors and W, r x (R + d) per group
    Bz: np.ndarray  # flat: B~ of the tail columns, laid out as zt
    F: np.ndarray  # flat: roots of the conditional covariances, r x r per group
    S: np.ndarray  # (q_T, q_T) or packed: the tail's Gram matrix, chain eliminated: upper triangle
    SW: np.ndarray  # (q_T, d) the tail's products with W, chain eliminated
    Lt: np.ndarray  # (q_T, q_T) or packed: Cholesky factor of I + Lambda' S Lambda: upper triangle


class Values(NamedTuple):
    """Where to evaluate, and what was found there; without room for it, only the way back is walked."""

    lams: np.ndarray  # (B, L)
    logdets: np.ndarray  # (B,), or empty
    Ts: np.ndarray  # (B, d, d), or empty


class Draws(NamedTuple):
    """What draws of the random effects start from, and where they go; in `backsolve.draw`, one row of it."""

    v: np.ndarray  # (B, d): the effects are conditioned on data W v
    sigma: np.ndarray  # (B,)
    z: np.ndarray  # (B, q) standard normals
    b: np.ndarray  # (B, q) output


class Pullback(NamedTuple):
    """Cotangents of log|V0| and T, and what they are pulled back to; the last three of size 0 are left out."""

    Tbar: np.ndarray  # (d, d), symmetric
    a: float
    b: np.ndarray  # (q, d) modes of the effects for each column of W
    variances: np.ndarray  # flat: blocks of Cov(b) / sigma^2
    gradient: np.ndarray  # (L,)
    zz: np.ndarray  # as in `Products`
    zt: np.ndarray
    zz_tail: np.ndarray
