"""The factorisation with its arrays packed in two vectors, as PyTensor's graph holds them.

Its numbers are those of `entry`, and of `forward` and `backward` in `tests/twins.py`.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.arrays import (
    C_ANCESTORS,
    C_EFFECTS,
    C_GROUPS,
    CHAIN_COLUMNS,
    T_EFFECTS,
    T_GROUPS,
    TAIL_COLUMNS,
    Parts,
    Products,
    Pullback,
    Sparse,
    Tables,
)
from bayeslmm.factorisation.kernels.backsolve import backward
from bayeslmm.factorisation.kernels.compiling import inner, njit
from bayeslmm.factorisation.kernels.elimination import forward

DENSE_LENGTHS = 13  # integers before the arrays: the length of each of them, and of those in `floats`
SPARSE_LENGTHS = 28  # with those of a sparse tail, behind the others; the last three are numbers, in integers' bits


@inner
def _mask(ints, start, rows, cols):
    """Rows and columns of numbers as truth values."""
    mask = np.zeros((rows, cols), np.bool_)
    for i in range(rows):
        for j in range(cols):
            mask[i, j] = ints[start + i * cols + j] != 0
    return mask


@inner
def _ends(ints, lengths):
    """Where each of the arrays in `ints` begins, behind so many lengths; those in `floats`, 10 to 12, take no room."""
    ends = np.zeros(lengths + 1, np.int64)
    ends[0] = lengths
    for i in range(lengths):
        ends[i + 1] = ends[i] + (0 if 10 <= i < 13 else ints[i])
    return ends


@inner
def _unpack_tables(ints, ends, d):
    """Views of the packed tables, and the mask of W's columns."""
    s = ints[0] // CHAIN_COLUMNS
    chain = ints[ends[0] : ends[1]].reshape(s, CHAIN_COLUMNS)
    parent = ints[ends[2] : ends[3]]
    order = ints[ends[3] : ends[4]]
    inspan = _mask(ints, ends[4], s, ints[4] // max(s, 1))
    lists = ints[ends[5] : ends[6]]
    columns = ints[ends[6] : ends[7]]
    maps = ints[ends[7] : ends[8]]
    voff = ints[ends[8] : ends[9]]
    winspan = _mask(ints, ends[9], s, d)
    return Tables(chain, parent, order, inspan, lists, columns, maps, voff), winspan


@inner
def _unpack(ZtW, WtW, ints, floats):
    """Views of the packed arrays: the table of the tail, the other tables, the products."""
    ends = _ends(ints, DENSE_LENGTHS)
    tables, winspan = _unpack_tables(ints, ends, WtW.shape[0])
    tail = ints[ends[1] : ends[2]].reshape(ints[1] // TAIL_COLUMNS, TAIL_COLUMNS)
    q = int(np.sqrt(ints[11]) + 0.5)
    zz = floats[: ints[10]]
    zz_tail = floats[ints[10] : ints[10] + ints[11]].reshape(q, q)
    zt = floats[ints[10] + ints[11] : ints[10] + ints[11] + ints[12]]
    return tail, tables, Products(zz, zz_tail, zt, ZtW, WtW, winspan)


@inner
def _unpack_sparse(ZtW, WtW, ints, floats):
    """Views of the packed arrays where the tail is sparse: that, the tables, the products."""
    ends = _ends(ints, SPARSE_LENGTHS)
    tables, winspan = _unpack_tables(ints, ends, WtW.shape[0])
    sparse = Sparse(
        ints[ends[1] : ends[2]].reshape(ints[1] // TAIL_COLUMNS, TAIL_COLUMNS),
        ints[ends[13] : ends[14]],
        ints[ends[14] : ends[15]],
        ints[ends[15] : ends[16]],
        ints[ends[16] : ends[17]],
        ints[ends[17] : ends[18]],
        ints[ends[18] : ends[19]],
        ints[ends[19] : ends[20]],
        ints[ends[20] : ends[21]],
        ints[ends[21] : ends[22]].reshape(ints[21] // 4, 4),
        ints[ends[22] : ends[23]],
        ints[ends[23] : ends[24]],
        ints[ends[24] : ends[25]],
        ints[ends[25] : ends[26]].view(np.float64),
        ints[ends[26] : ends[27]].view(np.float64),
        ints[ends[27] : ends[28]].view(np.float64),
    )
    zz = floats[: ints[10]]
    zz_tail = floats[ints[10] : ints[10] + ints[11]]
    zt = floats[ints[10] + ints[11] : ints[10] + ints[11] + ints[12]]
    return sparse, tables, Products(zz, zz_tail, zt, ZtW, WtW, winspan)


@inner
def _tail_size(tail):
    """Columns of the tail."""
    q = 0
    for t in range(tail.shape[0]):
        q += tail[t, T_GROUPS] * tail[t, T_EFFECTS]
    return q


@inner
def _sizes(chain, products, q):
    """Numbers in At (and F), in Bt, and in all parts together."""
    d = products.WtW.shape[0]
    blocks = 0
    bt = 0
    for i in range(chain.shape[0]):
        blocks += chain[i, C_GROUPS] * chain[i, C_EFFECTS] ** 2
        bt += chain[i, C_GROUPS] * chain[i, C_EFFECTS] * (chain[i, C_ANCESTORS] + d)
    return blocks, bt, 2 * blocks + bt + products.zt.size + q * d + 2 * products.zz_tail.size


@inner
def _parts(flat, chain, products, q):
    """All parts as views of one vector, those that are as long as the tail's products flat."""
    d = products.WtW.shape[0]
    blocks, bt, _ = _sizes(chain, products, q)
    at_Bt = 2 * blocks
    at_Bz = at_Bt + bt
    at_S = at_Bz + products.zt.size
    at_SW = at_S + products.zz_tail.size
    at_Lt = at_SW + q * d
    return Parts(
        flat[:blocks],
        flat[at_Bt:at_Bz],
        flat[at_Bz:at_S],
        flat[blocks:at_Bt],
        flat[at_S:at_SW],
        flat[at_SW:at_Lt].reshape(q, d),
        flat[at_Lt : at_Lt + products.zz_tail.size],
    )


@inner
def _dense_parts(flat, chain, products):
    """The same where the tail is dense."""
    q = products.zz_tail.shape[0]
    At, Bt, Bz, F, S, SW, Lt = _parts(flat, chain, products, q)
    return Parts(At, Bt, Bz, F, S.reshape(q, q), SW, Lt.reshape(q, q))


@njit
def packed_forward(lam, ZtW, WtW, ints, floats):
    """(log|V0|, T, all parts in one vector)."""
    tail, tables, products = _unpack(ZtW, WtW, ints, floats)
    flat = np.empty(_sizes(tables.chain, products, products.zz_tail.shape[0])[2])
    T = np.empty(WtW.shape)
    logdet = forward(tail, None, tables, products, lam, _dense_parts(flat, tables.chain, products), T)
    return np.asarray(logdet), T, flat


@njit
def packed_forward_sparse(lam, ZtW, WtW, ints, floats):
    """The same with a sparse tail."""
    sparse, tables, products = _unpack_sparse(ZtW, WtW, ints, floats)
    q = _tail_size(sparse.tail)
    flat = np.empty(_sizes(tables.chain, products, q)[2])
    T = np.empty(WtW.shape)
    logdet = forward(None, sparse, tables, products, lam, _parts(flat, tables.chain, products, q), T)
    return np.asarray(logdet), T, flat


@inner
def _effects(tables, q):
    """All effects, those of a tail with q columns among them."""
    for i in range(tables.chain.shape[0]):
        q += tables.chain[i, C_GROUPS] * tables.chain[i, C_EFFECTS]
    return q


@njit
def packed_backward(a, Tbar, lam, ints, floats, flat, floatsbar):
    """Pull back to lambda, and to `floats` where `floatsbar` has its size (0: left out)."""
    d = Tbar.shape[0]
    symmetric = (Tbar + Tbar.T) / 2
    tail, tables, products = _unpack(np.empty((0, d)), symmetric, ints, floats)
    qT = products.zz_tail.shape[0]
    middle = min(floatsbar.size, products.zz.size)
    end = min(floatsbar.size, products.zz.size + products.zz_tail.size)
    side = qT if floatsbar.size > 0 else 0
    pullback = Pullback(
        symmetric,
        a.item(),
        np.zeros((_effects(tables, qT), d)),
        np.zeros(tables.voff[-1]),
        np.zeros(lam.size),
        floatsbar[:middle],
        floatsbar[end:],
        floatsbar[middle:end].reshape(side, side),
    )
    backward(tail, None, tables, lam, _dense_parts(flat, tables.chain, products), pullback)
    return pullback.gradient, pullback.b


@njit
def packed_backward_sparse(a, Tbar, lam, ints, floats, flat, floatsbar):
    """The same with a sparse tail."""
    d = Tbar.shape[0]
    symmetric = (Tbar + Tbar.T) / 2
    sparse, tables, products = _unpack_sparse(np.empty((0, d)), symmetric, ints, floats)
    q = _tail_size(sparse.tail)
    middle = min(floatsbar.size, products.zz.size)
    end = min(floatsbar.size, products.zz.size + products.zz_tail.size)
    pullback = Pullback(
        symmetric,
        a.item(),
        np.zeros((_effects(tables, q), d)),
        np.zeros(tables.voff[-1]),
        np.zeros(lam.size),
        floatsbar[:middle],
        floatsbar[end:],
        floatsbar[middle:end],
    )
    backward(None, sparse, tables, lam, _parts(flat, tables.chain, products, q), pullback)
    return pullback.gradient, pullback.b


@njit
def packed_backward_products(a, Tbar, lam, ints, floats, flat):
    """Pull back to lambda, b and `floats`."""
    floatsbar = np.zeros(floats.size)
    gradient, b = packed_backward(a, Tbar, lam, ints, floats, flat, floatsbar)
    return gradient, b, floatsbar


@njit
def packed_backward_products_sparse(a, Tbar, lam, ints, floats, flat):
    """The same with a sparse tail."""
    floatsbar = np.zeros(floats.size)
    gradient, b = packed_backward_sparse(a, Tbar, lam, ints, floats, flat, floatsbar)
    return gradient, b, floatsbar
