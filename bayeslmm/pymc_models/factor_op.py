"""The factorisation as a PyTensor Op: (lambda, Z'W, W'W) -> (log|V0|, T = W' V0^-1 W), with its pullback.

The arrays of `Layout` travel as two packed vectors, so that the graph stays small and quick to compile. The
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

from bayeslmm.factorisation.kernels.compiling import kernel_version
from bayeslmm.factorisation.kernels.packed import (
    packed_backward,
    packed_backward_products,
    packed_backward_products_sparse,
    packed_backward_sparse,
    packed_forward,
    packed_forward_sparse,
)

if TYPE_CHECKING:
    from bayeslmm.factorisation.layout import Layout

# Below this many bytes the layout is a constant of the graph (quick to compile); above, a shared variable, because
# numba doesn't cache code with constants of more than 1 MB.
CONSTANT_LIMIT = 400_000

INTS = ("chain", "tail", "parent", "order", "inspan", "lists", "columns", "maps", "voff")
FLOATS = ("zz", "zz_tail", "zt")
# (products, sparse) -> the pull-back's kernel
BACKWARD = {
    (False, False): packed_backward,
    (True, False): packed_backward_products,
    (False, True): packed_backward_sparse,
    (True, True): packed_backward_products_sparse,
}


def pack_layout(layout: Layout, winspan: np.ndarray) -> tuple:
    """The layout and the mask of W's columns as two symbolic vectors (ints, floats), the ints' lengths first."""
    ints = [np.asarray(getattr(layout, name)).astype(np.int64).ravel() for name in INTS]
    ints.append(np.asarray(winspan).astype(np.int64).ravel())
    floats = [getattr(layout, name).ravel() for name in FLOATS]
    # the table of the tail is there; of a known precision the bits
    more = [] if layout.sparse is None else [x.ravel().view(np.int64) for x in layout.sparse[1:]]
    head = np.array([x.size for x in (*ints, *floats, *more)], dtype=np.int64)
    packed = (np.concatenate([head, *ints, *more]), pack_floats(*(x[None] for x in floats))[0])
    if sum(x.nbytes for x in packed) < CONSTANT_LIMIT:
        return tuple(pt.constant(x) for x in packed)
    return tuple(pytensor.shared(x, borrow=True) for x in packed)


def pack_floats(zz: np.ndarray, zz_tail: np.ndarray, zt: np.ndarray) -> np.ndarray:
    """(T, size): the products with each of T terms, packed as the Op reads them."""
    T = len(zz)
    return np.concatenate([zz.reshape(T, -1), zz_tail.reshape(T, -1), zt.reshape(T, -1), np.zeros((T, 1))], axis=1)


class FactorOp(Op):
    """Factorise; the output after T, all of `layout.Parts` in one vector, is a by-product that only the pullback reads.

    With `products`, `floats` may depend on parameters. It costs compile time, so that only such a graph has it, and
    likewise a sparse tail.
    """

    __props__ = ("products", "sparse")

    def __init__(self, products: bool = False, sparse: bool = False):
        self.products = products
        self.sparse = sparse

    def make_node(self, *inputs):
        """Inputs: lam (n_lambda,), ZtW (q, d), WtW (d, d), and the packed layout."""
        variables = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, variables, [pt.dscalar(), pt.dmatrix(), pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python (when PyTensor folds constants, or in its other modes)."""
        forward = packed_forward_sparse if self.sparse else packed_forward
        for storage, value in zip(outputs, forward(*map(np.ascontiguousarray, inputs)), strict=True):
            storage[0] = value

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of (lam, ZtW, WtW): the gradient kernel's, -2 b Tbar, Tbar; and of `floats` with `products`."""
        lam, _, WtW, ints, floats = inputs
        a = cotangents[0] if _connected(cotangents[0]) else pt.zeros((), dtype="float64")
        Tbar = cotangents[1] if _connected(cotangents[1]) else pt.zeros_like(WtW)
        pulled: Any = FactorPullbackOp(self.products, self.sparse)(a, Tbar, lam, ints, floats, outputs[2])
        symmetric = (Tbar + Tbar.T) / 2
        none = pytensor.gradient.disconnected_type
        return [pulled[0], -2 * pulled[1] @ symmetric, symmetric, none(), pulled[2] if self.products else none()]

    def connection_pattern(self, node):
        """Only (log|V0|, T) depend on (lam, ZtW, WtW) and perhaps `floats`, as far as anybody may ask."""
        connected = (True, True, True, False, self.products)
        return [[yes and o < 2 for o in range(len(node.outputs))] for yes in connected]


class FactorPullbackOp(Op):
    """The gradient kernel: cotangents (a, Tbar) -> (of lambda, conditional modes b, and with `products` of floats)."""

    __props__ = ("products", "sparse")

    def __init__(self, products: bool = False, sparse: bool = False):
        self.products = products
        self.sparse = sparse

    def make_node(self, *inputs):
        """Inputs: a, Tbar, lam, the packed layout, the by-product of `FactorOp`."""
        outputs = [pt.dvector(), pt.dmatrix()] + ([pt.dvector()] if self.products else [])
        return Apply(self, [pt.as_tensor_variable(x) for x in inputs], outputs)

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python."""
        arrays = [np.array(x, order="C") for x in inputs]
        values = BACKWARD[self.products, self.sparse](*arrays, *([] if self.products else [np.empty(0)]))
        for storage, value in zip(outputs, values, strict=True):
            storage[0] = value


def _connected(variable) -> bool:
    return not isinstance(variable.type, pytensor.gradient.DisconnectedType)


@register_funcify_default_op_cache_key(FactorOp)
def _numba_factor(op, node=None, **kwargs):
    forward = packed_forward_sparse if op.sparse else packed_forward

    @numba.njit(nogil=True, error_model="numpy")
    def factor(lam, ZtW, WtW, ints, floats):
        c = np.ascontiguousarray
        return forward(c(lam), c(ZtW), c(WtW), c(ints), c(floats))

    return factor, kernel_version()


@register_funcify_default_op_cache_key(FactorPullbackOp)
def _numba_pullback(op, node=None, **kwargs):
    backward = BACKWARD[op.products, op.sparse]

    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback(a, Tbar, lam, ints, floats, flat):
        c = np.ascontiguousarray
        return backward(a, c(Tbar), c(lam), c(ints), c(floats), c(flat), np.empty(0))

    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback_products(a, Tbar, lam, ints, floats, flat):
        c = np.ascontiguousarray
        return backward(a, c(Tbar), c(lam), c(ints), c(floats), c(flat))

    return factor_pullback_products if op.products else factor_pullback, kernel_version()


def log_det_and_T(lam, ZtW, WtW, packed: tuple, products: bool = False, sparse: bool = False):
    """Symbolic (log|V0|, T) of the given W; `packed` comes from `pack_layout`, of a layout with a sparse tail or not.

    With `products` the second of `packed` may be an expression of parameters, laid out as `pack_layout` does:
    its gradient is exact where no column is marked as lying in the span of a level.
    """
    outputs: Any = FactorOp(products, sparse)(lam, ZtW, WtW, *packed)
    return outputs[0], outputs[1]
