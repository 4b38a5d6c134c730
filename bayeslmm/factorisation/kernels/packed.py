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
    TAIL_COLUMNS,
    Parts,
    Products,
    Pullback,
    Tables,
)
from bayeslmm.factorisation.kernels.backsolve import backward
from bayeslmm.factorisation.kernels.compiling import inner, njit
from bayeslmm.factorisation.kernels.elimination import forward


@inner
def _mask(ints, start, rows, cols):
    """Rows and columns of numbers as truth values."""
    mask = np.zeros((rows, cols), np.bool_)
    for i in range(rows):
        for j in range(cols):
            mask[i, j] = ints[start + i * cols + j] != 0
    return mask


@inner
def _unpack(ZtW, WtW, ints, floats):
    """Views of the packed arrays: the table of the tail, the other tables, the products."""
    d = WtW.shape[0]
    ends = np.zeros(14, np.int64)
    ends[0] = 13
    for i in range(10):
        ends[i + 1] = ends[i] + ints[i]
    s = ints[0] // CHAIN_COLUMNS
    chain = ints[ends[0] : ends[1]].reshape(s, CHAIN_COLUMNS)
    tail = ints[ends[1] : ends[2]].reshape(ints[1] // TAIL_COLUMNS, TAIL_COLUMNS)
    parent = ints[ends[2] : ends[3]]
    order = ints[ends[3] : ends[4]]
    inspan = _mask(ints, ends[4], s, ints[4] // max(s, 1))
    lists = ints[ends[5] : ends[6]]
    columns = ints[ends[6] : ends[7]]
    maps = ints[ends[7] : ends[8]]
    voff = ints[ends[8] : ends[9]]
    winspan = _mask(ints, ends[9], s, d)
    q = int(np.sqrt(ints[11]) + 0.5)
    zz = floats[: ints[10]]
    zz_tail = floats[ints[10] : ints[10] + ints[11]].reshape(q, q)
    zt = floats[ints[10] + ints[11] : ints[10] + ints[11] + ints[12]]
    tables = Tables(chain, parent, order, inspan, lists, columns, maps, voff)
    return tail, tables, Products(zz, zz_tail, zt, ZtW, WtW, winspan)


@inner
def _sizes(chain, products):
    """Numbers in At (and F), in Bt, and in all parts together."""
    d = products.WtW.shape[0]
    q = products.zz_tail.shape[0]
    blocks = 0
    bt = 0
    for i in range(chain.shape[0]):
        blocks += chain[i, C_GROUPS] * chain[i, C_EFFECTS] ** 2
        bt += chain[i, C_GROUPS] * chain[i, C_EFFECTS] * (chain[i, C_ANCESTORS] + d)
    return blocks, bt, 2 * blocks + bt + products.zt.size + q * (2 * q + d)


@inner
def _parts(flat, chain, products):
    """All parts as views of one vector."""
    d = products.WtW.shape[0]
    q = products.zz_tail.shape[0]
    blocks, bt, _ = _sizes(chain, products)
    at_Bt = 2 * blocks
    at_Bz = at_Bt + bt
    at_S = at_Bz + products.zt.size
    at_SW = at_S + q * q
    at_Lt = at_SW + q * d
    return Parts(
        flat[:blocks],
        flat[at_Bt:at_Bz],
        flat[at_Bz:at_S],
        flat[blocks:at_Bt],
        flat[at_S:at_SW].reshape(q, q),
        flat[at_SW:at_Lt].reshape(q, d),
        flat[at_Lt : at_Lt + q * q].reshape(q, q),
    )


@njit
def packed_forward(lam, ZtW, WtW, ints, floats):
    """(log|V0|, T, all parts in one vector)."""
    tail, tables, products = _unpack(ZtW, WtW, ints, floats)
    flat = np.empty(_sizes(tables.chain, products)[2])
    T = np.empty(WtW.shape)
    logdet = forward(tail, tables, products, lam, _parts(flat, tables.chain, products), T)
    return np.asarray(logdet), T, flat


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
    q = qT
    for i in range(tables.chain.shape[0]):
        q += tables.chain[i, C_GROUPS] * tables.chain[i, C_EFFECTS]
    pullback = Pullback(
        symmetric,
        a.item(),
        np.zeros((q, d)),
        np.zeros(tables.voff[-1]),
        np.zeros(lam.size),
        floatsbar[:middle],
        floatsbar[end:],
        floatsbar[middle:end].reshape(side, side),
    )
    backward(tail, tables, lam, _parts(flat, tables.chain, products), pullback)
    return pullback.gradient, pullback.b


@njit
def packed_backward_products(a, Tbar, lam, ints, floats, flat):
    """Pull back to lambda, b and `floats`."""
    floatsbar = np.zeros(floats.size)
    gradient, b = packed_backward(a, Tbar, lam, ints, floats, flat, floatsbar)
    return gradient, b, floatsbar
