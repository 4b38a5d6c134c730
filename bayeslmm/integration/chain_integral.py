"""The integral over the effects of a nested chain at many parameter values at once, and draws of these effects.

By nested quadrature, the trapezoidal rule, where every group of every level has one effect and the family is
log-concave; else by importance sampling from a randomly shifted lattice, which leaves the likelihood unbiased: exact in
a pseudo-marginal sampler.

Sources: Andrieu & Roberts (2009) for the latter; Cranley & Patterson (1976) for the shifts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.factorisation.kernels.chains import walk
from bayeslmm.factorisation.kernels.compiling import first_use
from bayeslmm.factorisation.kernels.group_arrays import POINTS, Rules, Work
from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.rows import Rows
from bayeslmm.integration.tables import GroupTables, group_tables
from bayeslmm.support import threads

DROP = 16.0  # log weights so far below the largest are left out
ROUGH_STEP, ROUGH_DROP, ROUGH_NODES = 1.2, 7.0, 32  # of inner integrals while the nodes of an outer one are placed
NUMBERS = 200_000  # densities from which on threads pay
NONE = np.empty(0, np.uint64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChainIntegral:
    """Log density of y given the parameters and the effects outside the chain, its constants apart.

    Attributes
    ----------
    steps : tuple of float
        Per level, the distance of the trapezoidal rule's nodes, in the spread at the mode.
    nodes : int
        Of a lattice.
    start : per level (m, r), or None
        Where the modes of the effects v, u = F v, are looked for.
    """

    rows: Rows
    family: Family
    outcome: Outcome
    code: int
    steps: tuple[float, ...]
    nodes: int
    start: tuple[np.ndarray, ...] | None = None

    @cached_property
    def sampled(self) -> np.ndarray:
        """Per level, whether it is integrated by a lattice; then so are those further out."""
        several = [self.rows.design.levels[k].r > 1 for k in self.rows.plan.chain]
        return np.logical_or.accumulate(np.array(several, dtype=np.bool_) | (not self.family.log_concave))

    @property
    def exact(self) -> bool:
        """Whether nothing of it is random."""
        return not self.sampled.any()

    @cached_property
    def merged(self) -> GroupTables:
        """Tables for the integral."""
        return self._started(group_tables(self.rows, self.outcome, self.code, merge=self.exact))

    @cached_property
    def every(self) -> GroupTables:
        """Tables with every group by itself, for draws."""
        if not self.exact:
            return self.merged
        return self._started(group_tables(self.rows, self.outcome, self.code, merge=False))

    def _started(self, tables: GroupTables) -> GroupTables:
        if self.start is None:
            return tables
        start, base = tables.chain.start.copy(), tables.chain.base
        for c, (of, groups) in enumerate(zip(self.start, tables.groups, strict=True)):
            start[base[c] : base[c + 1], : of.shape[1]] = of[groups]
        return replace(tables, chain=tables.chain._replace(start=start))

    @cached_property
    def rules(self) -> Rules:
        """Nodes of every level."""
        C = len(self.sampled)
        width = max((self.rows.design.levels[k].r for k in self.rows.plan.chain), default=1)
        nodes, step = np.empty((2, C, 2))
        nodes[:] = min(ROUGH_NODES, self.nodes), self.nodes
        step[:, 0], step[:, 1] = np.maximum(ROUGH_STEP, self.steps), self.steps
        # of the additive sequence with the least discrepancy: powers of the root of g^(r + 1) = g + 1
        g = 2.0
        for _ in range(60):
            g = (1 + g) ** (1 / max(width, 2))
        generator = np.array([0.0, *(g ** -np.arange(1, width))])
        drop = np.array([ROUGH_DROP, DROP])
        return Rules(sampled=self.sampled, nodes=nodes.astype(np.int64), step=step, drop=drop, generator=generator)

    def evaluate(self, eta: np.ndarray, lams: np.ndarray, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """The log integral (B,).

        Parameters
        ----------
        eta : (B, n') array
            Linear predictors but for the chain's effects, of the rows of `merged`.
        lams : (B, L) array
            The kernels' lambda.
        values : (B, k) array
            The family's own parameters.
        keys : (B,) array of uint64
        """
        return self._walk(self.merged, eta, lams, values, keys, NONE, np.empty((0, 0, 0)))

    def by_group(self, eta: np.ndarray, lams: np.ndarray, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """The log integral of each of the outermost groups of `merged`, (B, m')."""
        base = self.merged.chain.base
        out = np.empty((len(eta), *self.merged.chain.start.shape))
        self._walk(self.merged, eta, lams, values, keys, NONE, out)
        return out[:, base[-2] :, 0]

    def draw(
        self, eta: np.ndarray, lams: np.ndarray, values: np.ndarray, keys: np.ndarray, picks: np.ndarray
    ) -> list[np.ndarray]:
        """Per level of the chain, effects v (B, m, r) from their conditional distribution, at eta of `every`'s rows.

        `keys` are those with which the integral was computed; `picks` (B,) of uint64 are the draws' own.
        """
        chain = self.every.chain
        out = np.empty((len(eta), *chain.start.shape))
        self._walk(self.every, eta, lams, values, keys, picks, out)
        drawn = []
        for c, groups in enumerate(self.every.groups):
            r = int(chain.offset[c + 1] - chain.offset[c])
            own = np.empty((len(eta), len(groups), r))
            own[:, groups] = out[:, chain.base[c] : chain.base[c + 1], :r]
            drawn.append(own)
        return drawn

    def _walk(self, tables: GroupTables, eta, lams, values, keys, picks, effects) -> np.ndarray:
        B, n = eta.shape
        out = np.empty(B)
        rules = self.rules
        eta, lams, values = (np.ascontiguousarray(x, dtype=float) for x in (eta, lams, values))
        if not len(tables.chain.start):
            picks = NONE

        def task(lo: int, hi: int) -> None:
            own = slice(lo, hi)
            given = (eta[own], lams[own], values[own], keys[own], picks[own], out[own], effects[own])
            copies = (x.copy() if isinstance(x, np.ndarray) else x for x in tables.chain)  # threads count references
            walk(tuple(copies), tuple(x.copy() for x in rules), tuple(workspace(tables, rules)), *given)

        work = B * n * int(np.prod(np.where(rules.sampled, rules.nodes[:, 1], 12 / rules.step[:, 1]) + 8))
        with first_use(walk):
            threads.share(task, B, threads.workers() if work > NUMBERS else 1)
        return out


def workspace(tables: GroupTables, rules: Rules) -> Work:
    """Empty arrays of one thread."""
    n, R = tables.chain.z.shape
    M, r = tables.chain.start.shape
    C, most = len(rules.sampled), int(rules.nodes.max(initial=1))
    parts: dict[str, Any] = {
        "eta": (C + 1, n), "a": (n, R), "mode": (M, r), "u": (C, r), "best": (C, r), "step": (C, r), "L": (C, r, r),
        "slope": (C, R), "bend": (C, R, R), "e_slope": (C, R), "e_bend": (C, R, R), "terms": (C, most),
        "hull": (C, 4, POINTS + 2), "out": (M, r), "power": (n,), "share": (n,),
    }  # fmt: skip
    return Work(**{name: np.zeros(shape) for name, shape in parts.items()})
