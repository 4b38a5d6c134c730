"""The factorisation as a PyTensor Op: (lambda, Z'W, W'W) -> (log|V0|, T = W' V0^-1 W), with its pullback.

The arrays of `Structure` travel as two packed vectors, so that the graph stays small and quick to compile. The
products Z'Z, one of the two, are data as a rule; where they depend on parameters, the Op differentiates them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from bayeslmm.factorisation.kernels.backsolve import backward
from bayeslmm.factorisation.kernels.compiling import njit
from bayeslmm.factorisation.kernels.elimination import C_ANCESTORS, C_EFFECTS, C_GROUPS, forward
from bayeslmm.factorisation.layout import Structure

# PyTensor's cache on disk knows an Op by this number, not by its source: raise it with every change of a kernel.
KERNEL_VERSION = 19

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


@njit
def _unpack(ints, floats, d):
    """Views of the packed arrays, in the order of INTS, winspan, FLOATS."""
    ends = np.zeros(14, np.int64)
    ends[0] = 13
    for i in range(10):
        ends[i + 1] = ends[i] + ints[i]
    s = ints[0] // 13
    chain = ints[ends[0] : ends[1]].reshape(s, 13)
    tail = ints[ends[1] : ends[2]].reshape(ints[1] // 6, 6)
    parent = ints[ends[2] : ends[3]]
    order = ints[ends[3] : ends[4]]
    inspan = np.zeros((s, ints[4] // max(s, 1)), np.bool_)
    for i in range(inspan.shape[0]):
        for j in range(inspan.shape[1]):
            inspan[i, j] = ints[ends[4] + i * inspan.shape[1] + j] != 0
    lists = ints[ends[5] : ends[6]]
    columns = ints[ends[6] : ends[7]]
    maps = ints[ends[7] : ends[8]]
    voff = ints[ends[8] : ends[9]]
    winspan = np.zeros((s, d), np.bool_)
    for i in range(s):
        for j in range(d):
            winspan[i, j] = ints[ends[9] + i * d + j] != 0
    q = int(np.sqrt(ints[11]) + 0.5)
    zz = floats[: ints[10]]
    zz_tail = floats[ints[10] : ints[10] + ints[11]].reshape(q, q)
    zt = floats[ints[10] + ints[11] : ints[10] + ints[11] + ints[12]]
    return chain, tail, parent, order, inspan, lists, columns, maps, voff, winspan, zz, zz_tail, zt


@njit
def _forward(lam, ZtW, WtW, ints, floats):
    d = WtW.shape[0]
    chain, tail, parent, order, inspan, lists, columns, maps, _, winspan, zz, zz_tail, zt = _unpack(ints, floats, d)
    blocks = 0
    bt = 0
    for i in range(chain.shape[0]):
        blocks += chain[i, C_GROUPS] * chain[i, C_EFFECTS] ** 2
        bt += chain[i, C_GROUPS] * chain[i, C_EFFECTS] * (chain[i, C_ANCESTORS] + d)
    q = zz_tail.shape[0]
    At, F = np.empty(blocks), np.empty(blocks)
    Bt, Bz = np.empty(bt), np.empty(zt.size)
    S, SW, Lt, T = np.empty((q, q)), np.empty((q, d)), np.empty((q, q)), np.empty((d, d))
    logdet = forward(
        chain, tail, parent, order, zz, inspan, zz_tail, lists, columns, zt, maps, winspan, lam, ZtW, WtW,
        At, Bt, Bz, F, S, SW, Lt, T,
    )  # fmt: skip
    return np.asarray(logdet), T, At, Bt, Bz, F, S, SW, Lt


@njit
def _backward(a, Tbar, lam, ints, floats, At, Bt, Bz, F, S, SW, Lt, floatsbar):
    """Pull back to lambda, and to `floats` where `floatsbar` has its size (0: left out)."""
    d = Tbar.shape[0]
    chain, tail, parent, order, _, lists, columns, maps, voff, _, zz, zz_tail, _ = _unpack(ints, floats, d)
    qT = zz_tail.shape[0]
    middle = min(floatsbar.size, zz.size)
    end = min(floatsbar.size, zz.size + zz_tail.size)
    side = qT if floatsbar.size > 0 else 0
    q = qT
    for i in range(chain.shape[0]):
        q += chain[i, C_GROUPS] * chain[i, C_EFFECTS]
    b = np.zeros((q, d))
    variances = np.zeros(voff[-1])
    gradient = np.zeros(lam.size)
    symmetric = (Tbar + Tbar.T) / 2
    backward(
        chain, tail, parent, order, lists, columns, maps, lam, At, Bt, Bz, F, S, SW, Lt, symmetric, a.item(), voff,
        b, variances, gradient, floatsbar[:middle], floatsbar[end:], floatsbar[middle:end].reshape(side, side),
    )  # fmt: skip
    return gradient, b


@njit
def _backward_products(a, Tbar, lam, ints, floats, At, Bt, Bz, F, S, SW, Lt):
    floatsbar = np.zeros(floats.size)
    gradient, b = _backward(a, Tbar, lam, ints, floats, At, Bt, Bz, F, S, SW, Lt, floatsbar)
    return gradient, b, floatsbar


class FactorOp(Op):
    """Factorise; the outputs after T are by-products that only the pullback reads.

    With `products`, `floats` may depend on parameters. It costs compile time, so that only such a graph has it.
    """

    __props__ = ("products",)

    def __init__(self, products: bool = False):
        self.products = products

    def make_node(self, *inputs):
        """Inputs: lam (n_lambda,), ZtW (q, d), WtW (d, d), and the packed structure."""
        variables = [pt.as_tensor_variable(x) for x in inputs]
        vector, matrix = pt.dvector, pt.dmatrix
        outputs = [
            pt.dscalar(),
            matrix(),
            vector(),
            vector(),
            vector(),
            vector(),
            matrix(),
            matrix(),
            matrix(),
        ]
        return Apply(self, variables, outputs)

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python (when PyTensor folds constants, or in its other modes)."""
        for storage, value in zip(outputs, _forward(*map(np.ascontiguousarray, inputs)), strict=True):
            storage[0] = value

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of (lam, ZtW, WtW): the gradient kernel's, -2 b Tbar, Tbar; and of `floats` with `products`."""
        lam, _, WtW, ints, floats = inputs
        a = cotangents[0] if _connected(cotangents[0]) else pt.zeros((), dtype="float64")
        Tbar = cotangents[1] if _connected(cotangents[1]) else pt.zeros_like(WtW)
        pulled: Any = FactorPullbackOp(self.products)(a, Tbar, lam, ints, floats, *outputs[2:])
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
        """Inputs: a, Tbar, lam, the packed structure, the by-products of `FactorOp`."""
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

    return factor, KERNEL_VERSION


@register_funcify_default_op_cache_key(FactorPullbackOp)
def _numba_pullback(op, node=None, **kwargs):
    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback(a, Tbar, lam, ints, floats, At, Bt, Bz, F, S, SW, Lt):
        c = np.ascontiguousarray
        return _backward(
            a, c(Tbar), c(lam), c(ints), c(floats), c(At), c(Bt), c(Bz), c(F), c(S), c(SW), c(Lt), np.empty(0)
        )  # fmt: skip

    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback_products(a, Tbar, lam, ints, floats, At, Bt, Bz, F, S, SW, Lt):
        c = np.ascontiguousarray
        return _backward_products(
            a, c(Tbar), c(lam), c(ints), c(floats), c(At), c(Bt), c(Bz), c(F), c(S), c(SW), c(Lt)
        )  # fmt: skip

    return factor_pullback_products if op.products else factor_pullback, KERNEL_VERSION


def log_det_and_T(lam, ZtW, WtW, packed: tuple, products: bool = False):
    """Symbolic (log|V0|, T) of the given W; `packed` comes from `pack_structure`.

    With `products` the second of `packed` may be an expression of parameters, laid out as `pack_structure` does:
    its gradient is exact where no column is marked as lying in the span of a level.
    """
    outputs: Any = FactorOp(products)(lam, ZtW, WtW, *packed)
    return outputs[0], outputs[1]
