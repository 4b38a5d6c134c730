"""Effects of relatives as PyTensor expressions: B z for a root B of their known covariance, dense or sparse."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import (
    generate_fallback_impl,
    register_funcify_and_cache_key,
    register_funcify_default_op_cache_key,
)

from bayeslmm.data.sparse_precision import SparsePrecision
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.factorisation.kernels.compiling import kernel_version
from bayeslmm.factorisation.kernels.known_precision import spread

CONSTANT_LIMIT = 400_000  # bytes: numba doesn't cache code with constants of more than 1 MB


def spread_by_relatives(level: LevelDesign, z: Any) -> Any:
    """B z (m[, r]) for standard normal z, B B' = K: z where groups are independent."""
    relation = level.relation
    if relation is None:
        return z
    factored = relation.factored if isinstance(relation, SparsePrecision) else None
    if factored is None:
        return pt.as_tensor_variable(relation.root) @ z
    small = sum(x.nbytes for x in factored) < CONSTANT_LIMIT
    arrays = [pt.constant(x) if small else pytensor.shared(x, borrow=True) for x in factored]
    z = pt.as_tensor_variable(z)
    columns: Any = SpreadOp()(z[:, None] if z.ndim == 1 else z, *arrays)
    return columns[:, 0] if z.ndim == 1 else columns


def draw_of_relatives(level: LevelDesign, z: Any) -> Any:
    """B z (m, r) in the graph of a draw, which has no gradient, and takes no variable that isn't its input."""
    relation = level.relation
    if isinstance(relation, SparsePrecision) and relation.factored is not None:
        return DrawOp(relation)(z)
    return z if relation is None else pt.as_tensor_variable(relation.root) @ z


class DrawOp(Op):
    """B z (m, r) by `SparsePrecision.spread`, run by Python: it only stands in draws, never in a density."""

    __props__ = ("relation",)

    def __init__(self, relation: SparsePrecision):
        self.relation = relation

    def make_node(self, *inputs: Any) -> Apply:
        """Inputs: z (m, r)."""
        return Apply(self, [pt.as_tensor_variable(x) for x in inputs], [pt.dmatrix()])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list]) -> None:
        """By NumPy."""
        output_storage[0][0] = np.ascontiguousarray(self.relation.spread(inputs[0]))


@register_funcify_and_cache_key(DrawOp)
def _numba_draw(op: DrawOp, node: Apply, **kwargs: Any) -> tuple[Any, None]:
    """Python inside of numba's code; the warning that this is so is for operations that lack a faster way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return generate_fallback_impl(op, node=node, **kwargs), None


class SpreadOp(Op):
    """B x, or B'x where `transposed`: `known_precision.spread`."""

    __props__ = ("transposed",)

    def __init__(self, transposed: bool = False):
        self.transposed = transposed

    def make_node(self, *inputs: Any) -> Apply:
        """Inputs: x (m, d), and `SparsePrecision.factored`."""
        return Apply(self, [pt.as_tensor_variable(x) for x in inputs], [pt.dmatrix()])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list]) -> None:
        """Run the kernel from Python."""
        x, *arrays = inputs
        output_storage[0][0] = spread(*arrays, np.ascontiguousarray(x), self.transposed)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        """That of x."""
        return [shapes[0]]

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The other root times the cotangents."""
        none = pytensor.gradient.disconnected_type
        return [SpreadOp(not self.transposed)(cotangents[0], *inputs[1:]), *(none() for _ in inputs[1:])]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """It depends on x alone."""
        return [[k == 0] for k in range(len(node.inputs))]


@register_funcify_default_op_cache_key(SpreadOp)
def _numba_spread(op: SpreadOp, node: Any = None, **kwargs: Any) -> tuple[Any, int]:
    transposed = op.transposed

    @numba.njit(nogil=True, error_model="numpy")
    def spread_relatives(x, place, first, starts, rows, panels, U):
        c = np.ascontiguousarray
        return spread(c(place), c(first), c(starts), c(rows), c(panels), c(U), c(x), transposed)

    return spread_relatives, kernel_version()
