"""The factorisation as a PyTensor Op: (lambda, Z'W, W'W) -> (log|V0|, T = W' V0^-1 W), with its pullback.

The arrays of `Structure` travel as two packed vectors, so that the graph stays small and quick to compile. The
products Z'Z, one of the two, are data as a rule; where they depend on parameters, the Op differentiates them too.

Its numbers are those of `kernel`, and of `forward` and `backward` in `tests/twins.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from bayeslmm.backsolve import backward
from bayeslmm.compiling import inner, kernel_version, njit
from bayeslmm.elimination import forward
from bayeslmm.layout import (
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

if TYPE_CHECKING:
    from bayeslmm.blocks import Structure

# Below this many bytes the structure is a constant of the graph (quick to compile); above, a shared variable, because
# numba doesn't cache code with constants of more than 1 MB.
CONSTANT_LIMIT = 400_000

INTS = ("chain", "tail", "parent", "order", "inspan", "lists", "columns", "maps", "voff")
FLOATS = ("zz", "zz_tail", "zt")


def pack_structure(structure: Structure, winspan: np.ndarray) -> tuple:
    """The structure and the mask of W's columns as two symbolic vectors (ints, floats), the ints' lengths first."""
    ints = [np.asarray(getattr(structure, name)).astype(np.int64).ravel() for name in INTS]
    ints.append(np.asarray(winspan).astype(np.int64).ravel())
    floats = [getattr(structure, name).ravel() for name in FLOATS]
    head = np.array([x.size for x in (*ints, *floats)], dtype=np.int64)
    packed = (np.concatenate([head, *ints]), pack_floats(*(x[None] for x in floats))[0])
    if sum(x.nbytes for x in packed) < CONSTANT_LIMIT:
        return tuple(pt.constant(x) for x in packed)
    return tuple(pytensor.shared(x, borrow=True) for x in packed)


def pack_floats(zz: np.ndarray, zz_tail: np.ndarray, zt: np.ndarray) -> np.ndarray:
    """(T, size): the products with each of T terms, packed as the Op reads them."""
    T = len(zz)
    return np.concatenate([zz.reshape(T, -1), zz_tail.reshape(T, -1), zt.reshape(T, -1), np.zeros((T, 1))], axis=1)


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
def _forward(lam, ZtW, WtW, ints, floats):
    tail, tables, products = _unpack(ZtW, WtW, ints, floats)
    flat = np.empty(_sizes(tables.chain, products)[2])
    T = np.empty(WtW.shape)
    logdet = forward(tail, tables, products, lam, _parts(flat, tables.chain, products), T)
    return np.asarray(logdet), T, flat


@njit
def _backward(a, Tbar, lam, ints, floats, flat, floatsbar):
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
def _backward_products(a, Tbar, lam, ints, floats, flat):
    floatsbar = np.zeros(floats.size)
    gradient, b = _backward(a, Tbar, lam, ints, floats, flat, floatsbar)
    return gradient, b, floatsbar


class FactorOp(Op):
    """Factorise; the output after T, all of `layout.Parts` in one vector, is a by-product that only the pullback reads.

    With `products`, `floats` may depend on parameters. It costs compile time, so that only such a graph has it.
    """

    __props__ = ("products",)

    def __init__(self, products: bool = False):
        self.products = products

    def make_node(self, *inputs):
        """Inputs: lam (n_lambda,), ZtW (q, d), WtW (d, d), and the packed structure."""
        variables = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, variables, [pt.dscalar(), pt.dmatrix(), pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python (when PyTensor folds constants, or in its other modes)."""
        for storage, value in zip(outputs, _forward(*map(np.ascontiguousarray, inputs)), strict=True):
            storage[0] = value

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of (lam, ZtW, WtW): the gradient kernel's, -2 b Tbar, Tbar; and of `floats` with `products`."""
        lam, _, WtW, ints, floats = inputs
        a = cotangents[0] if _connected(cotangents[0]) else pt.zeros((), dtype="float64")
        Tbar = cotangents[1] if _connected(cotangents[1]) else pt.zeros_like(WtW)
        pulled: Any = FactorPullbackOp(self.products)(a, Tbar, lam, ints, floats, outputs[2])
        symmetric = (Tbar + Tbar.T) / 2
        none = pytensor.gradient.disconnected_type
        return [pulled[0], -2 * pulled[1] @ symmetric, symmetric, none(), pulled[2] if self.products else none()]

    def connection_pattern(self, node):
        """Only (log|V0|, T) depend on (lam, ZtW, WtW) and perhaps `floats`, as far as anybody may ask."""
        connected = (True, True, True, False, self.products)
        return [[yes and o < 2 for o in range(len(node.outputs))] for yes in connected]


class FactorPullbackOp(Op):
    """The gradient kernel: cotangents (a, Tbar) -> (of lambda, conditional modes b, and with `products` of floats)."""

    __props__ = ("products",)

    def __init__(self, products: bool = False):
        self.products = products

    def make_node(self, *inputs):
        """Inputs: a, Tbar, lam, the packed structure, the by-product of `FactorOp`."""
        outputs = [pt.dvector(), pt.dmatrix()] + ([pt.dvector()] if self.products else [])
        return Apply(self, [pt.as_tensor_variable(x) for x in inputs], outputs)

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python."""
        arrays = [np.array(x, order="C") for x in inputs]
        values = _backward_products(*arrays) if self.products else _backward(*arrays, np.empty(0))
        for storage, value in zip(outputs, values, strict=True):
            storage[0] = value


def _connected(variable) -> bool:
    return not isinstance(variable.type, pytensor.gradient.DisconnectedType)


@register_funcify_default_op_cache_key(FactorOp)
def _numba_factor(op, node=None, **kwargs):
    @numba.njit(nogil=True, error_model="numpy")
    def factor(lam, ZtW, WtW, ints, floats):
        c = np.ascontiguousarray
        return _forward(c(lam), c(ZtW), c(WtW), c(ints), c(floats))

    return factor, kernel_version()


@register_funcify_default_op_cache_key(FactorPullbackOp)
def _numba_pullback(op, node=None, **kwargs):
    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback(a, Tbar, lam, ints, floats, flat):
        c = np.ascontiguousarray
        return _backward(a, c(Tbar), c(lam), c(ints), c(floats), c(flat), np.empty(0))

    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback_products(a, Tbar, lam, ints, floats, flat):
        c = np.ascontiguousarray
        return _backward_products(a, c(Tbar), c(lam), c(ints), c(floats), c(flat))

    return factor_pullback_products if op.products else factor_pullback, kernel_version()


def log_det_and_T(lam, ZtW, WtW, packed: tuple, products: bool = False):
    """Symbolic (log|V0|, T) of the given W; `packed` comes from `pack_structure`.

    With `products` the second of `packed` may be an expression of parameters, laid out as `pack_structure` does:
    its gradient is exact where no column is marked as lying in the span of a level.
    """
    outputs: Any = FactorOp(products)(lam, ZtW, WtW, *packed)
    return outputs[0], outputs[1]
