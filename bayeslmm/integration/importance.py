"""The log-likelihood by importance sampling, where no quadrature serves: crossed levels, many effects a group.

The leaf's effects are integrated by quadrature, at most two a group, given all others. These are drawn around their
modes with the covariance that Laplace's approximation gives them, the leaf's effects eliminated: a t with 5 degrees of
freedom where few are drawn at once, a normal where many are. Effects that have no rows in common have weights of their
own, and the log-likelihood is the sum over such blocks of the logs of mean weights.

Sources: Skaug & Fournier (2006) for importance sampling around Laplace's approximation; Vehtari et al. (2024) for
k-hat.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import lgamma
from typing import Any

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.laplace import Mode, Slopes
from bayeslmm.integration.product_rule import NUMBERS, Groups, expect
from bayeslmm.integration.quadrature import SEVERAL
from bayeslmm.integration.rows import Rows
from bayeslmm.integration.rule import STEPS
from bayeslmm.support.pareto import pareto_k

LARGEST = 3_000  # effects that are drawn at once
FEW = 8  # effects drawn at once up to which a t is better than a normal
DOF = 5.0
REPLICATES = 8
FIRST, MOST = 50, 800  # draws of each replicate
WORK = 4e7  # nodes times rows times draws that are spent
ENOUGH = 0.01  # Monte Carlo error of the log-likelihood that is small enough
BESIDE = 0.03  # or so small beside what it is the error of
HEAVY = 0.7  # k-hat from here on: weights whose mean can't be trusted


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """A log-likelihood with its Monte Carlo error.

    Attributes
    ----------
    value, error : float
        The log-likelihood and its Monte Carlo error, with what the last nodes of the leaf's quadrature changed.
    blocks : (B,) array
        Log integrals of the blocks of effects that are drawn together.
    k_hat : (B,) array
        Shape of the tail of each block's weights.
    draws : int
    nodes : int
        Of the quadrature over the leaf's effects; 0 where these are drawn too.
    slopes : list of Slopes
        The gradient of the log-likelihood, by each of the replicates.
    """

    value: float
    error: float
    blocks: np.ndarray
    k_hat: np.ndarray
    draws: int
    nodes: int
    slopes: list[Slopes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """Laplace's approximation at some parameters, from which effects are drawn."""

    rows: Rows
    family: Family
    outcome: Outcome
    fixed: np.ndarray
    lam: np.ndarray
    psi: np.ndarray
    mode: Mode

    @cached_property
    def leaf(self) -> int | None:
        """The level that is integrated by quadrature given the others."""
        chain = self.rows.plan.chain
        return chain[0] if chain and self.rows.design.levels[chain[0]].r <= SEVERAL else None

    @cached_property
    def drawn(self) -> list[int]:
        """The levels whose effects are drawn."""
        return [k for k in range(len(self.rows.design.levels)) if k != self.leaf]

    @cached_property
    def block(self) -> np.ndarray:
        """The block of each row: all one where levels are crossed, or groups are relatives."""
        levels = self.rows.design.levels
        if self.rows.plan.tail or any(level.related for level in levels):
            return np.zeros(self.rows.design.n, dtype=np.int64)
        return np.unique(levels[self.rows.plan.chain[-1]].index, return_inverse=True)[1]

    def columns(self, k: int) -> Any:
        """Z Lambda of level k, sparse (n, q)."""
        from scipy import sparse

        level, n = self.rows.design.levels[k], self.rows.design.n
        a = self._standard(k)
        if level.root is not None:
            return sparse.csr_array((level.root[level.index][:, :, None] * a[:, None, :]).reshape(n, -1))
        column = level.index[:, None] * level.r + np.arange(level.r)
        return sparse.csr_array((a.ravel(), column.ravel(), np.arange(n + 1) * level.r), shape=(n, level.q))

    def _standard(self, k: int) -> np.ndarray:
        own = self.rows.better[k]
        return own @ self.lam[self.rows.slices[k][1]].reshape(own.shape[1], -1)

    @cached_property
    def A(self) -> Any:
        """Z Lambda of the effects that are drawn, (n, q); columns of zeros are of effects that nothing depends on."""
        from scipy import sparse

        whole = sparse.hstack([self.columns(k) for k in self.drawn], format="csr")
        whole.eliminate_zeros()
        return whole

    @cached_property
    def center(self) -> np.ndarray:
        """Modes of the standard effects that are drawn."""
        v = self.rows.transposed(self.lam, self.mode.s)
        return np.concatenate([v[self.rows.slices[k][0]] for k in self.drawn])

    @cached_property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per block its columns and the lower factor of its precision."""
        touched, S = self.A.tocoo(), self._precision()
        column_block = np.full(self.A.shape[1], -1)
        column_block[touched.coords[1]] = self.block[touched.coords[0]]
        order = np.argsort(column_block, kind="stable")
        order = order[column_block[order] >= 0]
        edges = np.searchsorted(column_block[order], np.arange(self.block.max() + 2))
        out = []
        for a, b in pairwise(edges):
            own = order[a:b]
            out.append((own, np.linalg.cholesky(S[own][:, own].toarray())))
        return out

    def _precision(self) -> Any:
        """That of the effects that are drawn, the leaf's eliminated; its concave part where it has no maximum."""
        from scipy import sparse

        weights = -self.family.jet(self.outcome, self.mode.eta, self.psi).second
        if not self.family.log_concave:
            weights = np.maximum(weights, 0.0)
        weighted = sparse.diags_array(weights) @ self.A
        S = sparse.eye_array(self.A.shape[1]) + self.A.T @ weighted
        if self.leaf is not None:
            own = self.columns(self.leaf)
            H = sparse.eye_array(own.shape[1]) + own.T @ sparse.diags_array(weights) @ own
            coupling = (own.T @ weighted).tocsr()
            r = self.rows.design.levels[self.leaf].r
            blocks = np.linalg.inv(_diagonal_blocks(H.tocsr(), r))
            m = len(blocks)
            inverse = sparse.bsr_array((blocks, np.arange(m), np.arange(m + 1)), shape=H.shape).tocsr()
            S = S - coupling.T @ inverse @ coupling
        return S.tocsr()

    @cached_property
    def order(self) -> np.ndarray:
        """The rows in the order of the leaf's groups."""
        if self.leaf is None:
            return np.argsort(self.block, kind="stable")
        return np.argsort(self.rows.design.levels[self.leaf].index, kind="stable")

    @cached_property
    def ordered(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(first row, owner of each row, block) of the leaf's groups; of the blocks where there is no leaf."""
        key = self.block if self.leaf is None else self.rows.design.levels[self.leaf].index
        sorted_key = key[self.order]
        starts = np.flatnonzero(np.diff(sorted_key, prepend=-1))
        owner = np.cumsum(np.diff(sorted_key, prepend=-1) != 0) - 1
        return starts, owner, self.block[self.order][starts]

    def inside(self, eta: np.ndarray, nodes: int):
        """Log densities (T, B) of the blocks at (T, n) linear predictors; and what `Expected` has, rows in `order`."""
        starts, owner, block = self.ordered
        part = self.outcome.part(self.order)
        if self.leaf is None:
            value, score = self.family.slope(part, eta, self.psi)
            return np.add.reduceat(value, starts, axis=-1), score, None, self.family.dispersion(
                part, eta, self.psi
            ).value  # fmt: skip
        level = self.rows.design.levels[self.leaf]
        at, span = self.rows.slices[self.leaf]
        groups = Groups(
            family=self.family, outcome=part, psi=self.psi, base=eta, z=self.rows.better[self.leaf][self.order],
            factor=self.lam[span].reshape(level.r, level.r), count=np.ones(len(self.order)), starts=starts, owner=owner,
        )  # fmt: skip
        v = self.rows.transposed(self.lam, self.mode.s)[at].reshape(level.m, level.r)
        found = expect(groups, nodes, v[level.index[self.order][starts]])
        values = np.zeros((len(eta), self.block.max() + 1))
        np.add.at(values.T, block, found.value.T)
        return values, found.score, found.moments, found.by_psi

    def draw(self, rng: np.random.Generator, T: int) -> tuple[np.ndarray, np.ndarray]:
        """(effects (T, q), log prior less log proposal (T, B))."""
        v, ratio = np.tile(self.center, (T, 1)), np.empty((T, len(self.parts)))
        for j, (own, L) in enumerate(self.parts):
            d = own.size
            z = rng.standard_normal((T, d))
            square = (z**2).sum(axis=1)
            log_q = np.log(np.diag(L)).sum() - 0.5 * square
            if d <= FEW:
                scale = rng.chisquare(DOF, T) / DOF
                z, square = z / np.sqrt(scale)[:, None], square / scale
                constant = lgamma((DOF + d) / 2) - lgamma(DOF / 2) - d / 2 * np.log(DOF / 2)
                log_q = np.log(np.diag(L)).sum() + constant - 0.5 * (DOF + d) * np.log1p(square / DOF)
            v[:, own] += np.linalg.solve(L.T, z.T).T
            ratio[:, j] = -0.5 * (v[:, own] ** 2).sum(axis=1) - log_q
        return v, ratio


def estimate(sampler: Sampler, laplace: float, seed: int = 1) -> Estimate:
    """Draw until the Monte Carlo error is small beside the distance from Laplace's value, or the work too much."""
    rows, order = sampler.rows, sampler.order
    rng = np.random.default_rng(seed)
    nodes, left = _enough(sampler)
    work = rows.design.n * max(1, nodes) ** (1 if sampler.leaf is None else rows.design.levels[sampler.leaf].r)
    chunk = max(1, NUMBERS // work)
    logs: list[np.ndarray] = []
    sums = [_Sums.empty(sampler) for _ in range(REPLICATES)]
    reference: np.ndarray | None = None
    T = FIRST
    while True:
        for one in sums:
            done = 0
            while done < T:
                step = min(chunk, T - done)
                v, ratio = sampler.draw(rng, step)
                base = sampler.fixed + (sampler.A @ v.T).T
                values, score, moments, by_psi = sampler.inside(base[:, order], nodes)
                log_w = values + ratio
                reference = log_w.max(axis=0) if reference is None else reference
                logs.append(log_w)
                one.add(np.exp(np.minimum(log_w - reference, 600.0)), v, score, moments, by_psi)
                done += step
        log_w = np.concatenate(logs)
        top = log_w.max(axis=0)
        w = np.exp(log_w - top)
        mean = w.mean(axis=0)
        error = float(np.sqrt((w.var(axis=0) / mean**2).sum() / len(w)))
        away = abs(float((top + np.log(mean)).sum()) - laplace)
        if error < max(ENOUGH, BESIDE * away) or len(w) >= REPLICATES * MOST or 2 * len(w) * work > WORK:
            break
        T = len(w) // REPLICATES
    blocks = top + np.log(mean)
    return Estimate(
        value=float(blocks.sum()), error=float(np.hypot(error, left)), blocks=blocks, draws=len(w), nodes=nodes,
        k_hat=np.array([pareto_k(one) for one in log_w.T]), slopes=[one.slopes(sampler) for one in sums],
    )  # fmt: skip


def _enough(sampler: Sampler) -> tuple[int, float]:
    """(nodes, last change) that are enough for the leaf's integrals at a few draws of the other effects."""
    if sampler.leaf is None:
        return 0, 0.0
    v, _ = sampler.draw(np.random.default_rng(0), 4)
    base = (sampler.fixed + (sampler.A @ v.T).T)[:, sampler.order]
    last, left = np.full(len(base), np.inf), np.inf
    for nodes in STEPS[:6]:
        value = sampler.inside(base, nodes)[0].sum(axis=1)
        last, left = value, float(np.abs(value - last).max())
        if left < 0.1 * ENOUGH:
            break
    return nodes, left


@dataclass(kw_only=True, eq=False)
class _Sums:
    """Weighted sums of one replicate: of weights by block, and of what the gradient is made of, rows in `order`."""

    sampler: Sampler
    weight: np.ndarray
    score: np.ndarray
    moments: dict[int, np.ndarray]
    by_psi: np.ndarray

    @classmethod
    def empty(cls, sampler: Sampler) -> _Sums:
        n = sampler.rows.design.n
        moments = {k: np.zeros((n, level.r)) for k, level in enumerate(sampler.rows.design.levels)}
        return cls(
            sampler=sampler, weight=np.zeros(sampler.block.max() + 1), score=np.zeros(n), moments=moments,
            by_psi=np.zeros((len(sampler.psi), n)),
        )  # fmt: skip

    def add(self, w: np.ndarray, v: np.ndarray, score: np.ndarray, moments: np.ndarray | None, by_psi: np.ndarray):
        one = self.sampler
        at_rows = w[:, one.block[one.order]]
        pulled = at_rows * score
        self.weight += w.sum(axis=0)
        self.score += pulled.sum(axis=0)
        self.by_psi += (at_rows * by_psi).sum(axis=1)
        if moments is not None:
            assert one.leaf is not None
            self.moments[one.leaf] += np.einsum("tn,tnr->nr", at_rows, moments)
        start = 0
        for k in one.drawn:
            level = one.rows.design.levels[k]
            u = v[:, start : start + level.q].reshape(len(v), level.m, level.r)
            u = u if level.root is None else np.einsum("gh,thr->tgr", level.root, u)
            index = level.index[one.order]
            for e in range(level.r):
                self.moments[k][:, e] += (pulled * u[:, index, e]).sum(axis=0)
            start += level.q

    def slopes(self, sampler: Sampler) -> Slopes:
        rows, order = sampler.rows, sampler.order
        share = 1 / self.weight[sampler.block[order]]
        by_lambda = np.zeros_like(sampler.lam)
        for k, moments in self.moments.items():
            by_lambda[rows.slices[k][1]] = (rows.better[k][order].T @ (moments * share[:, None])).ravel()
        return Slopes(by_gamma=rows.X[order].T @ (self.score * share), by_lambda=by_lambda, by_psi=self.by_psi @ share)


def _diagonal_blocks(H: Any, r: int) -> np.ndarray:
    """The (m, r, r) blocks of a sparse block-diagonal matrix."""
    m = H.shape[0] // r
    out = np.zeros((m, r, r))
    entries = H.tocoo()
    row, column = entries.coords
    np.add.at(out, (row // r, row % r, column % r), entries.data)
    return out


def cannot(rows: Rows) -> str:
    """Why importance sampling can't be tried; "" where it can."""
    plan, levels = rows.plan, rows.design.levels
    together = plan.tail or any(level.related for level in levels)
    chain = plan.chain
    leaf = chain[0] if chain and levels[chain[0]].r <= SEVERAL else None
    drawn = sum(level.q for k, level in enumerate(levels) if k != leaf)
    if together and drawn > LARGEST:
        return f"{drawn:,} effects would be drawn at once, and a mean of their weights is no use beyond {LARGEST:,}"
    return ""
