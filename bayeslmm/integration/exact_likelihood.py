"""The likelihood of many parameter values at once, by quadrature or without bias, and the effects given them.

Levels outside the nested chain, crossed with it or with a known covariance, are integrated by importance sampling: from
the normal distribution that Laplace's approximation has for them at these parameters, in antithetic pairs, the chain
being integrated anew at each draw. The same draws serve again: one of them, taken by its weight, is an exact draw of
the effects beside the parameters that a pseudo-marginal sampler keeps.

Sources: Andrieu & Roberts (2009); Andrieu, Doucet & Holenstein (2010) for the effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.chain_integral import ChainIntegral
from bayeslmm.integration.laplace import Mode, find_mode
from bayeslmm.integration.rows import Rows, _tail_rows

PIECE = 4_000_000  # linear predictors that are held at a time
ODD = np.uint64(0x9E3779B97F4A7C15)
NO_KEYS = np.zeros(0, np.uint64)


@dataclass(frozen=True, kw_only=True)
class Points:
    """B parameter values, as the likelihood needs them.

    Attributes
    ----------
    gamma : (B, p) array
        Coefficients of the rows' orthogonal X.
    lams : (B, L) array
        The kernels' lambda.
    psi : (B, k) array
        Coordinates of the family's own parameters.
    """

    gamma: np.ndarray
    lams: np.ndarray
    psi: np.ndarray

    def __len__(self) -> int:
        return len(self.gamma)

    def part(self, at: slice | np.ndarray) -> Points:
        """Some of them."""
        return Points(gamma=self.gamma[at], lams=self.lams[at], psi=self.psi[at])


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactLikelihood:
    """Log p(y | parameters), and effects from p(u | y, parameters).

    Attributes
    ----------
    integral : ChainIntegral
    draws : int
        Of the importance sampling of the levels outside the chain, even; 0 where there are none.
    s : (q,) array
        Where modes are looked for, as in `find_mode`.
    """

    integral: ChainIntegral
    draws: int
    s: np.ndarray

    @property
    def rows(self) -> Rows:
        """The design's rows."""
        return self.integral.rows

    @property
    def family(self) -> Family:
        """The outcome's."""
        return self.integral.family

    @property
    def outcome(self) -> Outcome:
        """The response."""
        return self.integral.outcome

    @property
    def exact(self) -> bool:
        """Whether nothing of it is random."""
        return self.integral.exact and not self.rows.plan.tail

    def finer(self, step: float, level: int | None = None) -> ExactLikelihood:
        """The same with another distance of nodes, at one level of the chain or at all."""
        steps = tuple(step if level in (None, c) else old for c, old in enumerate(self.integral.steps))
        return replace(self, integral=replace(self.integral, steps=steps))

    def more(self, draws: int) -> ExactLikelihood:
        """The same with another number of draws, in a lattice and outside the chain."""
        draws_outside = draws if self.rows.plan.tail else 0
        return replace(self, integral=replace(self.integral, nodes=draws), draws=draws_outside)

    # values -----------------------------------------------------------------------------------------------------

    def log_density(self, at: Points, keys: np.ndarray, picks: np.ndarray = NO_KEYS) -> tuple[np.ndarray, np.ndarray]:
        """(the log-likelihood (B,), with picks the draw (B,) of the importance sampling that is taken).

        `keys` and `picks` (B,) of uint64 are what the random numbers of each point are made of.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.family.dispersion_values(at.psi) if at.psi.shape[1] else at.psi
            if not self.rows.plan.tail:
                value = np.empty(len(at))
                own = self.integral.merged.rows
                for piece in _pieces(len(at), len(own)):
                    eta = self._fixed(at.part(piece), own)
                    value[piece] = self.integral.evaluate(eta, at.lams[piece], values[piece], keys[piece])
                return value + self._constants(at.psi), np.zeros(len(at), dtype=np.int64)
            value, index = np.empty(len(at)), np.zeros(len(at), dtype=np.int64)
            for piece in _pieces(len(at), self.draws * self.rows.design.n):
                terms = self._particles(at.part(piece), values[piece], keys[piece])
                top = np.where(np.isfinite(terms.max(axis=1)), terms.max(axis=1), 0.0)
                w = np.exp(terms - top[:, None])
                with np.errstate(divide="ignore"):
                    value[piece] = top + np.log(w.mean(axis=1))
                if len(picks):
                    u = np.array([np.random.default_rng(int(one)).random() for one in picks[piece]])
                    below = (np.cumsum(w, axis=1) < (u * w.sum(axis=1))[:, None]).sum(axis=1)
                    index[piece] = np.minimum(below, self.draws - 1)
            return value + self._constants(at.psi), index

    def begun(self, at: Points) -> ExactLikelihood:
        """The same, modes being looked for from those at one point on."""
        if not self.rows.design.q:
            return self
        mode = self.mode(at)
        v, levels = self.rows.transposed(at.lams[0], mode.s), self.rows.design.levels
        start = tuple(v[self.rows.slices[k][0]].reshape(levels[k].m, levels[k].r) for k in self.rows.plan.chain)
        return replace(self, integral=replace(self.integral, start=start), s=mode.s)

    def tail_log_weights(self, at: Points, key: int) -> np.ndarray:
        """Log weights of the importance sampling at one point."""
        values = self.family.dispersion_values(at.psi) if at.psi.shape[1] else at.psi
        return self._particles(at, values, np.array([key], np.uint64))[0]

    def group_shapes(self, at: Points, keys: np.ndarray, shape: Callable[[np.ndarray], float]) -> dict[Any, float]:
        """`shape` of the log weights of single draws of each outermost group of the chain, at one point."""
        single = replace(self.integral, nodes=1)
        many = at.part(np.zeros(len(keys), dtype=np.int64))
        values = self.family.dispersion_values(many.psi) if many.psi.shape[1] else many.psi
        found = single.by_group(self._fixed(many, single.merged.rows), many.lams, values, keys)
        level = self.rows.design.levels[self.rows.plan.chain[-1]]
        names = [level.groups[g] for g in single.merged.groups[-1]]
        return {name: shape(found[:, g]) for g, name in enumerate(names)}

    def _fixed(self, at: Points, own: np.ndarray) -> np.ndarray:
        return self.rows.offset[own] + at.gamma @ self.rows.X[own].T

    def _constants(self, psi: np.ndarray) -> np.ndarray:
        """What the kernels leave out, (B,)."""
        if psi.shape[1] == 0:
            return np.full(len(psi), self._constant(psi[0])) if len(psi) else np.zeros(0)
        return np.array([self._constant(one) for one in psi])

    def _constant(self, psi: np.ndarray) -> float:
        if not len(psi):
            return self._plain_constant
        return self._reference(psi)

    @cached_property
    def _plain_constant(self) -> float:
        return self._reference(np.zeros(0))

    def _reference(self, psi: np.ndarray) -> float:
        """The family's log density less the kernels', at a linear predictor where both have all digits."""
        center = self.family.center(self.outcome)[0]
        eta = np.full((1, len(self._alone.merged.rows)), center)
        values = self.family.dispersion_values(psi)[None] if len(psi) else np.zeros((1, 0))
        whole = self.family.logpdf(self.outcome, np.full(self.rows.design.n, center), psi).sum()
        return float(whole - self._alone.evaluate(eta, np.zeros((1, 0)), values, np.zeros(1, np.uint64))[0])

    @cached_property
    def _alone(self) -> ChainIntegral:
        """The rows without any level."""
        plan = replace(self.rows.plan, chain=(), tail=())
        return replace(self.integral, rows=replace(self.rows, plan=plan), start=None, steps=())

    # levels outside the chain -------------------------------------------------------------------------------------

    @cached_property
    def _tail_Z(self):
        """Z of these levels, (n, q_T), sparse, on the kernels' basis."""
        from scipy import sparse

        columns, values = _tail_rows(self.rows.blocks)
        n = len(columns)
        row = np.repeat(np.arange(n), columns.shape[1])
        shape = (n, self.rows.plan.tail_columns)
        return sparse.csr_array((values.ravel(), (row, columns.ravel())), shape=shape)

    def mode(self, at: Points) -> Mode:
        """Of all effects, at one point."""
        fixed = self._fixed(at, np.arange(self.rows.design.n))[0]
        return find_mode(self.rows, self.family, self.outcome, fixed, at.lams[0], at.psi[0], self.s)[0]

    def _tail(self, at: Points, key: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(effects v of the tail (S, q_T), b (S, q_T), log weights over their proposal) at one point."""
        rows, plan = self.rows, self.rows.plan
        lam, mode = at.lams[0], self.mode(at)
        weights = -self.family.jet(self.outcome, mode.eta, at.psi[0]).second
        if not self.family.log_concave:
            weights = np.maximum(weights, 1e-3 * np.abs(weights))
        factor = rows.factorise(weights, lam, np.zeros(rows.design.q))
        U = np.triu(factor.parts.Lt[0])
        v = rows.transposed(lam, mode.s)
        middle = np.concatenate([v[rows.slices[k][0]] for k in plan.tail])
        z = np.random.default_rng(key).standard_normal((self.draws // 2, len(middle)))
        z = np.concatenate([z, -z])
        from scipy.linalg import solve_triangular

        drawn = middle + solve_triangular(U, z.T).T
        log_w = 0.5 * (z**2).sum(axis=1) - 0.5 * (drawn**2).sum(axis=1) - np.log(np.diag(U)).sum()
        return drawn, self._scaled(drawn, lam), log_w

    def _scaled(self, v: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """B = Lambda v of the tail's levels, (S, q_T)."""
        parts, start = [], 0
        for k in self.rows.plan.tail:
            level, span = self.rows.design.levels[k], self.rows.slices[k][1]
            F = lam[span].reshape(level.r, level.r)
            own = v[:, start : start + level.q].reshape(len(v), level.m, level.r) @ F.T
            parts.append(own.reshape(len(v), -1))
            start += level.q
        return np.concatenate(parts, axis=1)

    def _particles(self, at: Points, values: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Log weights (B, S) of the importance sampling, the chain integrated at each draw."""
        B, S, own = len(at), self.draws, self.integral.merged.rows
        eta, log_w = np.empty((B, S, len(own))), np.empty((B, S))
        fixed = self._fixed(at, own)
        for b in range(B):
            _, drawn, log_w[b] = self._tail(at.part(slice(b, b + 1)), int(keys[b]))
            eta[b] = fixed[b] + (self._tail_Z @ drawn.T)[own].T
        inner = np.concatenate([_sub(int(key), S) for key in keys]) if B else keys
        lams, values = np.repeat(at.lams, S, axis=0), np.repeat(values, S, axis=0)
        inside = self.integral.evaluate(eta.reshape(B * S, -1), lams, values, inner)
        terms = log_w + inside.reshape(B, S)
        return np.where(np.isfinite(terms), terms, -np.inf)

    # effects ------------------------------------------------------------------------------------------------------

    def effects(self, at: Points, keys: np.ndarray, index: np.ndarray, picks: np.ndarray) -> dict[str, np.ndarray]:
        """Effects as written, (B, m, r) by level, from their conditional distribution.

        `keys` and `index` are those of `log_density`; `picks` (B,) of uint64 are the draws' own.
        """
        rows, plan = self.rows, self.rows.plan
        values = self.family.dispersion_values(at.psi) if at.psi.shape[1] else at.psi
        own, B = self.integral.every.rows, len(at)
        found = {k: np.empty((B, rows.design.levels[k].m, rows.design.levels[k].r)) for k in (*plan.chain, *plan.tail)}
        for piece in _pieces(B, max(len(own), 1)):
            some = at.part(piece)
            eta, inner = self._fixed(some, own), keys[piece]
            if plan.tail:
                inner = np.empty(len(some), np.uint64)
                for i, b in enumerate(range(B)[piece]):
                    _, tail, _ = self._tail(at.part(slice(b, b + 1)), int(keys[b]))
                    chosen = tail[index[b]]
                    eta[i] += (self._tail_Z @ chosen)[own]
                    inner[i] = _sub(int(keys[b]), self.draws)[index[b]]
                    start = 0
                    for k in plan.tail:
                        level = rows.design.levels[k]
                        found[k][b] = chosen[start : start + level.q].reshape(level.m, level.r)
                        start += level.q
            if plan.chain:
                drawn = self.integral.draw(eta, some.lams, values[piece], inner, picks[piece])
                for k, v in zip(plan.chain, drawn, strict=True):
                    level, span = rows.design.levels[k], rows.slices[k][1]
                    F = some.lams[:, span].reshape(len(some), level.r, level.r)
                    found[k][piece] = v @ np.swapaxes(F, 1, 2)
        return {rows.design.levels[k].name: self._as_written(k, b) for k, b in sorted(found.items())}

    def _as_written(self, k: int, b: np.ndarray) -> np.ndarray:
        """Effects (B, m, r) of the kernels' b."""
        level, M = self.rows.design.levels[k], self.rows.maps[k]
        return (b if level.root is None else level.root @ b) @ np.linalg.inv(M).T


def _sub(key: int, S: int) -> np.ndarray:
    """A key for each draw of the tail."""
    with np.errstate(over="ignore"):
        return np.uint64(key) + np.arange(1, S + 1, dtype=np.uint64) * ODD


def _pieces(B: int, n: int) -> list[slice]:
    step = max(1, PIECE // max(n, 1))
    return [slice(first, min(first + step, B)) for first in range(0, B, step)]
