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

from bayeslmm.factorisation.kernels.group_rule import packed_rule
from bayeslmm.integration.compiled_level import is_compiled
from bayeslmm.integration.objective import Approximation, Problem
from bayeslmm.integration.quadrature import Quadrature, compiled_of
from bayeslmm.pymc_models.factor_op import CONSTANT_LIMIT
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

    def constants(self) -> tuple[Any, Any]:
        """(ints, floats) that compiled code reads, symbolic: empty where it calls Python."""
        ints, floats = np.zeros(0, dtype=np.int64), np.zeros(0)
        if self.compiled:
            one, rows, level = self.problem, self.problem.rows, self.problem.rows.design.levels[0]
            own = compiled_of(rows, one.family, one.outcome)
            start = np.zeros((len(own.alike.groups), level.r))
            nodes = self.approximation.nodes if isinstance(self.approximation, Quadrature) else 1
            ints, floats = own.packed(nodes, level.r, start)
        if ints.nbytes + floats.nbytes < CONSTANT_LIMIT:
            return pt.constant(ints), pt.constant(floats)
        return pytensor.shared(ints, borrow=True), pytensor.shared(floats, borrow=True)

    @property
    def compiled(self) -> bool:
        """Whether there is compiled code for this model: one level with at most two effects a group."""
        rows = self.problem.rows
        levels = rows.design.levels
        one = len(levels) == 1 and not levels[0].related
        return one and is_compiled(self.problem.family, levels[0].r)

    def make_node(self, *inputs):
        """Inputs: y (n,), offset + X beta (n,), the kernels' lambda, the dispersion's coordinates, `constants`."""
        variables = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, variables, [pt.dscalar(), pt.dvector(), pt.dvector(), pt.dvector()])

    def perform(self, node, inputs, outputs):
        """Evaluate in Python; compiled code calls this too."""
        for storage, value in zip(outputs, self.evaluate(*inputs[:4]), strict=True):
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
        none = pytensor.gradient.disconnected_type
        return [none(), *(a * one for one in outputs[1:]), none(), none()]

    def connection_pattern(self, node):
        """Only the value depends on anything, as far as anybody may ask; y is data."""
        return [[0 < k < 4, False, False, False] for k in range(6)]


@numba_funcify.register(IntegralOp)
def _numba_integral(op, node=None, **kwargs):
    vector = numba.types.Array(numba.float64, 1, "C")
    found = numba.types.Tuple([numba.types.Array(numba.float64, 0, "C"), vector, vector, vector])

    def evaluate(y, fixed, lam, psi):
        return tuple(np.ascontiguousarray(x) if x.ndim else x for x in op.evaluate(y, fixed, lam, psi))

    @numba.njit(error_model="numpy")
    def in_python(y, fixed, lam, psi, ints, floats):
        with numba.objmode(out=found):
            out = evaluate(y, fixed, lam, psi)
        return out

    @numba.njit(error_model="numpy")
    def compiled(y, fixed, lam, psi, ints, floats):
        c = np.ascontiguousarray
        same, value, by_fixed, by_lam, by_psi = packed_rule(c(y), c(fixed), c(lam), c(psi), c(ints), c(floats))
        if not same:  # other data than those that were packed
            with numba.objmode(out=found):
                out = evaluate(y, fixed, lam, psi)
            return out
        return np.asarray(value), by_fixed, by_lam, by_psi

    return compiled if op.compiled else in_python
