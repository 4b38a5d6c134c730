"""The approximated log-likelihood as a PyTensor Op of (y, offset + X beta, lambda, psi), with its pullback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_funcify

from bayeslmm.integration.objective import Approximation, Problem
from bayeslmm.support.threads import one_blas_thread


class IntegralOp(Op):
    """The log of the integral over all effects; the outputs after it are its gradient, which the pullback reads.

    Parameters
    ----------
    problem : Problem
    approximation : callable
        `laplace`, or a `Quadrature`.
    start : (q,) array
        Where Newton's method begins at every point: the same draws come of the same seed, whatever was tried before.
    """

    def __init__(self, problem: Problem, approximation: Approximation, start: np.ndarray):
        self.problem = problem
        self.approximation = approximation
        self.start = start

    def make_node(self, *inputs):
        """Inputs: y (n,), offset + X beta (n,), the kernels' lambda, the dispersion's coordinates."""
        variables = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, variables, [pt.dscalar(), pt.dvector(), pt.dvector(), pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Evaluate in Python; compiled code calls this too."""
        for storage, value in zip(outputs, self.evaluate(*inputs), strict=True):
            storage[0] = value

    def evaluate(self, y, fixed, lam, psi) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(value, its gradient by fixed, lambda and psi); -inf and zeros where nothing can be computed."""
        one = self.problem
        outcome = one.outcome if np.array_equal(y, one.outcome.y) else replace(one.outcome, y=np.asarray(y))
        fixed, lam, psi = (np.asarray(x, dtype=np.float64) for x in (fixed, lam, psi))
        nothing = np.zeros_like(fixed), np.zeros_like(lam), np.zeros_like(psi)
        if not all(np.isfinite(x).all() for x in (fixed, lam, psi)):
            return np.asarray(-np.inf), *nothing
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            try:
                point = self.approximation(one.rows, one.family, outcome, fixed, lam, psi, self.start)
            except np.linalg.LinAlgError:
                return np.asarray(-np.inf), *nothing
        gradient = point.pull, point.by_lambda, point.by_psi
        if not (np.isfinite(point.value) and point.mode.found and all(np.isfinite(x).all() for x in gradient)):
            return np.asarray(-np.inf), *nothing
        return np.asarray(point.value), *gradient

    def pullback(self, inputs: Sequence[Any], outputs: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The gradient times the value's cotangent; none by y."""
        a = cotangents[0]
        if isinstance(a.type, pytensor.gradient.DisconnectedType):
            a = pt.zeros((), dtype="float64")
        return [pytensor.gradient.disconnected_type(), *(a * one for one in outputs[1:])]

    def connection_pattern(self, node):
        """Only the value depends on anything, as far as anybody may ask; y is data."""
        return [[k > 0, False, False, False] for k in range(4)]


@numba_funcify.register(IntegralOp)
def _numba_integral(op, node=None, **kwargs):
    vector = numba.types.Array(numba.float64, 1, "C")
    found = numba.types.Tuple([numba.types.Array(numba.float64, 0, "C"), vector, vector, vector])

    def evaluate(y, fixed, lam, psi):
        return tuple(np.ascontiguousarray(x) if x.ndim else x for x in op.evaluate(y, fixed, lam, psi))

    @numba.njit
    def integral(y, fixed, lam, psi):
        with numba.objmode(out=found):
            out = evaluate(y, fixed, lam, psi)
        return out

    return integral
