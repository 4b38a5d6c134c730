"""Draws of correlated residuals as a PyTensor operation: a structure's own `color`, run by Python."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import generate_fallback_impl, register_funcify_and_cache_key

from bayeslmm.design.residual_design import ResidualDesign


class ColorOp(Op):
    """Standard normal z (n,) and R's parameters, scalars, to a draw of e / sigma ~ N(0, R).

    It has no gradient: it only stands in draws, never in a density.
    """

    __props__ = ("residual",)

    def __init__(self, residual: ResidualDesign):
        self.residual = residual

    def make_node(self, *inputs: Any) -> Apply:
        """Inputs: z (n,), the parameters."""
        return Apply(
            self, [pt.as_tensor_variable(x) for x in inputs], [pt.vector(dtype="float64", shape=(self.residual.n,))]
        )

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: list[list]) -> None:
        """By NumPy."""
        z, *psi = inputs
        output_storage[0][0] = self.residual.color(z, psi)


@register_funcify_and_cache_key(ColorOp)
def _numba_color(op: ColorOp, node: Apply, **kwargs: Any) -> tuple[Any, None]:
    """Python inside of numba's code; the warning that this is so is for operations that lack a faster way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return generate_fallback_impl(op, node=node, **kwargs), None
