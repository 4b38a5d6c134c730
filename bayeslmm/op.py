"""The factorisation as a PyTensor Op: (lambda, Z'W, W'W) -> (log|V0|, T = W' V0^-1 W), with its pullback.

The arrays of `Structure` are inputs, not constants: as shared variables they stay out of compiled code, so that
this can be cached on disk whatever the size of the data.
"""

from __future__ import annotations

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from bayeslmm.backsolve import backward
from bayeslmm.elimination import C_ANCESTORS, C_EFFECTS, C_GROUPS, forward
from bayeslmm.statistics import Structure

# PyTensor's cache on disk knows an Op by this number, not by its source: raise it with every change of a kernel.
KERNEL_VERSION = 1

STRUCTURE = ("chain", "tail", "parent", "order", "zz", "inspan", "zz_tail", "lists", "columns", "zt", "maps", "voff")


@numba.njit(nogil=True, error_model="numpy")
def _forward(lam, ZtW, WtW, winspan, chain, tail, parent, order, zz, inspan, zz_tail, lists, columns, zt, maps, voff):
    d = WtW.shape[0]
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


@numba.njit(nogil=True, error_model="numpy")
def _backward(a, Tbar, lam, chain, tail, parent, order, zz, inspan, zz_tail, lists, columns, zt, maps, voff,
              At, Bt, Bz, F, S, SW, Lt):  # fmt: skip
    d = Tbar.shape[0]
    q = 0
    for i in range(chain.shape[0]):
        q += chain[i, C_GROUPS] * chain[i, C_EFFECTS]
    q += zz_tail.shape[0]
    b = np.zeros((q, d))
    variances = np.zeros(voff[-1])
    gradient = np.zeros(lam.size)
    symmetric = (Tbar + Tbar.T) / 2
    backward(
        chain, tail, parent, order, lists, columns, maps, lam, At, Bt, Bz, F, S, SW, Lt, symmetric, a.item(), voff,
        b, variances, gradient,
    )  # fmt: skip
    return gradient, b


class FactorOp(Op):
    """Factorise; the outputs after T are by-products that only the pullback reads."""

    __props__ = ()

    def make_node(self, lam, ZtW, WtW, winspan, *structure):
        """Inputs: lam (n_lambda,), ZtW (q, d), WtW (d, d), winspan (chain, d) bool, and the arrays of `Structure`."""
        inputs = [pt.as_tensor_variable(x) for x in (lam, ZtW, WtW, winspan, *structure)]
        vector, matrix = pt.dvector, pt.dmatrix
        outputs = [pt.dscalar(), matrix(), vector(), vector(), vector(), vector(), matrix(), matrix(), matrix()]
        return Apply(self, inputs, outputs)

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python (when PyTensor folds constants, or in its other modes)."""
        for storage, value in zip(outputs, _forward(*map(np.ascontiguousarray, inputs)), strict=True):
            storage[0] = value

    def pullback(self, inputs, outputs, cotangents):
        """Cotangents of (lam, ZtW, WtW): the gradient kernel's, -2 b Tbar, Tbar."""
        lam, _, WtW, _, *structure = inputs
        a = cotangents[0] if _connected(cotangents[0]) else pt.zeros((), dtype="float64")
        Tbar = cotangents[1] if _connected(cotangents[1]) else pt.zeros_like(WtW)
        gradient, b = FactorPullbackOp()(a, Tbar, lam, *structure, *outputs[2:])
        symmetric = (Tbar + Tbar.T) / 2
        rest = [pytensor.gradient.disconnected_type() for _ in inputs[3:]]
        return [gradient, -2 * b @ symmetric, symmetric, *rest]

    def connection_pattern(self, node):
        """Only (log|V0|, T) depend on (lam, ZtW, WtW) as far as anybody may ask."""
        return [[i < 3 and o < 2 for o in range(len(node.outputs))] for i in range(len(node.inputs))]


class FactorPullbackOp(Op):
    """The gradient kernel: cotangents (a, Tbar) -> (cotangent of lambda, conditional modes b)."""

    __props__ = ()

    def make_node(self, *inputs):
        """Inputs: a, Tbar, lam, the arrays of `Structure`, the by-products of `FactorOp`."""
        return Apply(self, [pt.as_tensor_variable(x) for x in inputs], [pt.dvector(), pt.dmatrix()])

    def perform(self, node, inputs, outputs):
        """Run the kernel from Python."""
        for storage, value in zip(outputs, _backward(*[np.array(x, order="C") for x in inputs]), strict=True):
            storage[0] = value


def _connected(variable) -> bool:
    return not isinstance(variable.type, pytensor.gradient.DisconnectedType)


@register_funcify_default_op_cache_key(FactorOp)
def _numba_factor(op, node=None, **kwargs):
    @numba.njit(nogil=True, error_model="numpy")
    def factor(lam, ZtW, WtW, winspan, chain, tail, parent, order, zz, inspan, zz_tail, lists, columns, zt, maps, voff):
        c = np.ascontiguousarray
        return _forward(
            c(lam), c(ZtW), c(WtW), c(winspan), c(chain), c(tail), c(parent), c(order), c(zz), c(inspan), c(zz_tail),
            c(lists), c(columns), c(zt), c(maps), c(voff),
        )  # fmt: skip

    return factor, KERNEL_VERSION


@register_funcify_default_op_cache_key(FactorPullbackOp)
def _numba_pullback(op, node=None, **kwargs):
    @numba.njit(nogil=True, error_model="numpy")
    def factor_pullback(a, Tbar, lam, chain, tail, parent, order, zz, inspan, zz_tail, lists, columns, zt, maps, voff,
                        At, Bt, Bz, F, S, SW, Lt):  # fmt: skip
        c = np.ascontiguousarray
        return _backward(
            a, c(Tbar), c(lam), c(chain), c(tail), c(parent), c(order), c(zz), c(inspan), c(zz_tail), c(lists),
            c(columns), c(zt), c(maps), c(voff), c(At), c(Bt), c(Bz), c(F), c(S), c(SW), c(Lt),
        )  # fmt: skip

    return factor_pullback, KERNEL_VERSION


def structure_variables(structure: Structure) -> list:
    """Shared variables of the structure's arrays, in the order that the Ops expect."""
    return [pytensor.shared(getattr(structure, name), name=f"structure_{name}", borrow=True) for name in STRUCTURE]


def log_det_and_T(lam, ZtW, WtW, winspan, structure: list):
    """Symbolic (log|V0|, T) of the given W; `structure` comes from `structure_variables`."""
    logdet, T, *_ = FactorOp()(lam, ZtW, WtW, winspan, *structure)
    return logdet, T
