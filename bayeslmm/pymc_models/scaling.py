"""The coordinates in which NUTS moves the random effects of the joint model.

With u = F z, z standard normal, the data narrow z where the SD is large; with u itself the prior narrows it where the
SD is small: each form has a funnel, at one end. Here z = m + C t, m and C C' being about the mean and the covariance of
z given the parameters and the levels with fewer groups: t is of one size everywhere. m and C only choose coordinates,
so they may be rough; the density is that of z, times |C|.

Source: Papaspiliopoulos, Roberts & Skoeld (2007), doi:10.1214/088342307000000014, for the forms in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.data.relation import Relation
from bayeslmm.data.sparse_precision import SparsePrecision
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.parameters import level_names
from bayeslmm.priors.defaults import row_variances


def outermost_first(levels: Sequence[LevelDesign]) -> list[int]:
    """Positions of the levels, those with the fewest groups first: each is moved given those before it."""
    return sorted(range(len(levels)), key=lambda k: levels[k].m)


def scaled_effects(design: Design, k: int, factors: Sequence[Any], sigma: Any, rest: Any) -> Any:
    """Declare z of u_k = F_k z (m[, r]) in coordinates of one size.

    The free variable is ``t_u2``; the density of z times |C| enters as a potential.

    Parameters
    ----------
    k : int
        Position of the level.
    factors : per level F (r, r)
    rest : (n,)
        y less the fixed effects and the levels before this one.
    """
    level = design.levels[k]
    names = level_names(level)
    weight = 1 / _row_variances(design, k, factors, sigma)
    x, F = level.columns, factors[k]
    sums: dict[tuple[int, int], Any] = {
        (i, j): _by_group(level, weight * x[:, i] * x[:, j]) for i in range(level.r) for j in range(i + 1)
    }
    pull = [_by_group(level, weight * x[:, i] * rest) for i in range(level.r)]
    if level.relation is not None:  # what the rows of one group say of its relatives is left out
        sums = {at: _through_root(level.relation, total) for at, total in sums.items()}
        pull = [pt.zeros(level.m)] * level.r
    if level.r == 1:
        f = F[0, 0]
        A = 1 + f**2 * sums[0, 0]
        t = pm.Flat(f"t_{names.u}", shape=level.m)
        z, logdet = f * pull[0] / A + t / pt.sqrt(A), -0.5 * pt.log(A).sum()
    else:
        r = range(level.r)
        S = pt.stack([pt.stack([sums[max(i, j), min(i, j)] for j in r], axis=-1) for i in r], axis=-2)
        A = np.eye(level.r) + pt.tensordot(F, pt.tensordot(S, F, axes=[[2], [0]]), axes=[[0], [1]]).transpose(1, 0, 2)
        t = pm.Flat(f"t_{names.u}", shape=(level.m, level.r))
        z, logdet = _given(A, pt.stack(pull, axis=1) @ F, t)
    pm.Potential(f"density_of_z_{names.u}", logdet - 0.5 * (level.q * np.log(2 * np.pi) + (z**2).sum()))
    return z


def _through_root(relation: Relation, total: Any) -> Any:
    """The diagonal of B' diag(total) B for u = B z; of a sparse precision what B's own diagonal makes of it."""
    if isinstance(relation, SparsePrecision) and relation.factored is not None:
        return relation.conditional_variances * total
    return pt.as_tensor_variable((relation.root**2).T) @ total


def _by_group(level: LevelDesign, x: Any) -> Any:
    """Sums over the rows of each group."""
    return pt.inc_subtensor(pt.zeros(level.m)[level.index], x)


def _row_variances(design: Design, k: int, factors: Sequence[Any], sigma: Any) -> Any:
    """About the variance (n,) of what a row says of its effect at level k: its residual's, and that of later levels.

    Rows that share an effect of a later level say the same together as one of them: its variance counts so often.
    """
    own = np.broadcast_to(row_variances(design.residual), (design.n,))
    total = sigma**2 * own
    order = outermost_first(design.levels)
    here = design.levels[k].index
    for other in order[order.index(k) + 1 :]:
        level = design.levels[other]
        _, cell, counts = np.unique(here * level.m + level.index, return_inverse=True, return_counts=True)
        total = total + counts[cell] * ((level.columns @ factors[other]) ** 2).sum(axis=1)
    return total


def _given(A: Any, b: Any, t: Any) -> tuple[Any, Any]:
    """(A^-1 b + L'^-1 t, -log|L|) for every group, A = L L' (m, r, r): Cholesky's recursion written out.

    r is small and m may be large: vectors over groups are what compiles well.
    """
    r = int(t.type.shape[1])
    L: dict[tuple[int, int], Any] = {}
    for i in range(r):
        for j in range(i + 1):
            left = A[:, i, j] - sum(L[i, k] * L[j, k] for k in range(j))
            L[i, j] = pt.sqrt(left) if i == j else left / L[j, j]
    half: list[Any] = []
    for i in range(r):
        half.append((b[:, i] - sum(L[i, k] * half[k] for k in range(i))) / L[i, i])
    z: dict[int, Any] = {}
    for i in reversed(range(r)):
        z[i] = (half[i] + t[:, i] - sum(L[k, i] * z[k] for k in range(i + 1, r))) / L[i, i]
    return pt.stack([z[i] for i in range(r)], axis=1), -sum(pt.log(L[i, i]).sum() for i in range(r))
