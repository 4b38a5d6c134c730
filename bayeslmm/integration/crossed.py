"""Crossed levels: one level's groups by quadrature given the effects of the others, and these by Laplace.

With t ~ N(0, I) the effects of the levels that are crossed with the first one, and I_g(t) the integral over the effects
of one of its groups given t,

    f(t) = sum_g log I_g(t) - t't / 2,     log p(y) = f(t^) - log|-f''(t^)| / 2,     f'(t^) = 0.

By Fisher's and Louis's identities, over the nodes of each group and with r = l'(eta), A = Z Lambda of the other levels,

    f'(t) = A' E r - t,     -f''(t) = I + A' E[-l''] A - sum_g Cov_g(A'r).

Sources: Rabe-Hesketh, Skrondal & Pickles (2005) for the nodes; Louis (1982) for the curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.laplace import Mode, Point
from bayeslmm.integration.product_rule import Groups, grid
from bayeslmm.integration.rows import Rows

WIDEST = 2_000  # effects outside the chain whose curvature is one dense matrix
STEPS = 50  # of Newton's method
SETTLED = 1e-10  # what a Newton step may still gain
STEP = 1e-4  # of differences of log|-f''|, in units of the link's scale


def serves_crossed(rows: Rows) -> str:
    """Why one level can't be integrated by quadrature and the others by Laplace's approximation; "" where they can."""
    levels, plan = rows.design.levels, rows.plan
    if not plan.tail or len(plan.chain) != 1:
        return "that takes one level, and others that are crossed with it"
    if any(level.related for level in levels):
        return "groups with a known covariance are integrated together"
    first = levels[plan.chain[0]]
    if first.r > 2:
        return f"{first.label} has {first.r} effects a group, and there are nodes for 2"
    width = sum(levels[k].q for k in plan.tail)
    if width > WIDEST:
        return f"the other levels have {width:,} effects, and at most {WIDEST:,} fit in one matrix"
    return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """The integral at some parameters.

    Attributes
    ----------
    order, starts, owner : arrays of int
        Rows in the order of the first level's groups; the first row of each group; the group of each row.
    z : (n, r) array
        Columns of the first level's effects, in that order.
    A : (n, q_T) sparse array
        Z Lambda of the other levels, in that order.
    """

    family: Family
    outcome: Outcome
    order: np.ndarray
    starts: np.ndarray
    owner: np.ndarray
    z: np.ndarray
    A: Any
    nodes: int
    factor: np.ndarray
    psi: np.ndarray
    fixed: np.ndarray

    def at(self, t: np.ndarray, start: np.ndarray) -> Inside:
        """Integrate the first level's effects given the others."""
        groups = Groups(
            family=self.family, outcome=self.outcome, psi=self.psi, base=self.fixed + self.A @ t, z=self.z,
            factor=self.factor, count=np.ones(len(self.order)), starts=self.starts, owner=self.owner,
        )  # fmt: skip
        m, curvature = groups.modes(start)
        C = np.linalg.cholesky(curvature)
        x, log_w = grid(self.nodes, m.shape[1])
        v = m + np.einsum("mba,jb->jma", np.linalg.inv(C), x)
        eta = groups.eta(v)
        jet = self.family.jet(self.outcome, eta, self.psi)
        terms = log_w[:, None] - 0.5 * (v**2).sum(axis=-1) + groups.sums(jet.value)
        top = terms.max(axis=0)
        p = np.exp(terms - top)
        total = p.sum(axis=0)
        value = top + np.log(total) - np.log(np.diagonal(C, axis1=1, axis2=2)).sum(axis=1)
        return Inside(
            given=self, t=t, modes=m, v=v, eta=eta, p=p / total, first=jet.first, second=jet.second,
            value=float(value.sum() - 0.5 * t @ t),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Inside:
    """f(t), and what its derivatives are made of.

    Attributes
    ----------
    v : (J, m, r) array
        Nodes of every group.
    p : (J, m) array
        Their probabilities under the integrand.
    eta, first, second : (J, n) arrays
    """

    given: Given
    t: np.ndarray
    modes: np.ndarray
    v: np.ndarray
    eta: np.ndarray
    p: np.ndarray
    first: np.ndarray
    second: np.ndarray
    value: float

    @property
    def weights(self) -> np.ndarray:
        """The nodes' probabilities, row by row (J, n)."""
        return self.p[:, self.given.owner]

    @property
    def score(self) -> np.ndarray:
        """E l'(eta_i)."""
        return (self.weights * self.first).sum(axis=0)

    @property
    def slope(self) -> np.ndarray:
        """f'(t)."""
        return self.given.A.T @ self.score - self.t

    def curvature(self) -> np.ndarray:
        """-f''(t)."""
        from scipy import sparse

        A, starts, n = self.given.A, self.given.starts, len(self.given.order)
        bend = -(self.weights * self.second).sum(axis=0)
        H = (A.T @ sparse.diags_array(bend) @ A).toarray()
        # A'r of each group at each node, and its mean over the nodes
        J, m = self.p.shape
        ends = np.append((np.arange(J)[:, None] * n + starts).ravel(), J * n)
        sums = sparse.csr_array((self.first.ravel(), np.tile(np.arange(n), J), ends), shape=(J * m, n)) @ A
        mean = sparse.csr_array((self.score, np.arange(n), np.append(starts, n)), shape=(m, n)) @ A
        H -= (sums.T @ sparse.diags_array(self.p.ravel()) @ sums - mean.T @ mean).toarray()
        H[np.diag_indices_from(H)] += 1.0
        return H


@dataclass(frozen=True, kw_only=True)
class CrossedQuadrature:
    """An approximation for `Objective`: so many nodes for each effect of the first level, Laplace's for the others.

    The gradient of f is analytic, that of log|-f''| by central differences.
    """

    nodes: int

    def __call__(
        self, rows: Rows, family: Family, outcome: Outcome, fixed: np.ndarray, lam: np.ndarray, psi: np.ndarray,
        s: np.ndarray,
    ) -> Point:  # fmt: skip
        """The log-likelihood and its gradient."""
        given = self._given(rows, family, outcome, fixed, lam, psi)
        inside, H, found = _mode(given, *self._start(rows, lam, s))
        value, half = _value(inside, H)
        k, tail = rows.plan.chain[0], rows.plan.tail
        score, at = np.empty(rows.design.n), rows.slices
        score[given.order] = inside.score
        by_gamma, by_lambda = rows.X.T @ score, np.zeros_like(lam)
        moments = np.einsum("jn,jne->ne", inside.weights * inside.first, inside.v[:, given.owner])
        by_lambda[at[k][1]] = (given.z.T @ moments).ravel()
        for k_tail, t in zip(tail, _split(rows, inside.t), strict=True):
            level = rows.design.levels[k_tail]
            by_lambda[at[k_tail][1]] = (rows.better[k_tail].T @ (score[:, None] * t[level.index])).ravel()
        by_psi = np.zeros(len(psi))
        if len(psi):
            by_psi = (family.dispersion(given.outcome, inside.eta, psi).value * inside.weights).sum(axis=(1, 2))

        def logdet(fixed: np.ndarray, lam: np.ndarray, psi: np.ndarray) -> float:
            """log|-f''| at its own t^, to second order in the distance from here."""
            moved = self._given(rows, family, outcome, fixed, lam, psi)
            near = moved.at(inside.t, inside.modes)
            t = inside.t + np.linalg.solve(half.T, np.linalg.solve(half, near.slope))
            sign, size = np.linalg.slogdet(moved.at(t, near.modes).curvature())
            return float(size) if sign > 0 else np.nan

        p, L = rows.design.p, len(lam)
        unit = STEP * family.unit(outcome)[0]
        bent = np.empty(p + L + len(psi))
        for j in range(len(bent)):
            sides = []
            for h in (unit, -unit):
                step = np.zeros(len(bent))
                step[j] = h
                sides.append(logdet(fixed + rows.X @ step[:p], lam + step[p : p + L], psi + step[p + L :]))
            bent[j] = (sides[0] - sides[1]) / (2 * unit)
        by_gamma, by_lambda = by_gamma - 0.5 * bent[:p], by_lambda - 0.5 * bent[p : p + L]
        return Point(
            value=value if found else -np.inf, by_gamma=by_gamma, by_lambda=by_lambda,
            by_psi=by_psi - 0.5 * bent[p + L :], mode=self._joint(rows, family, outcome, fixed, lam, psi, inside),
            variances=np.zeros(0), factor=None, pull=score - 0.5 * rows.X @ bent[:p] / rows.design.n,
        )  # fmt: skip

    def total(self, rows, family, outcome, fixed, lam, psi, s) -> float:
        """The log-likelihood alone."""
        given = self._given(rows, family, outcome, fixed, lam, psi)
        inside, H, found = _mode(given, *self._start(rows, lam, s))
        return _value(inside, H)[0] if found else -np.inf

    def _given(self, rows, family, outcome, fixed, lam, psi) -> Given:
        from scipy import sparse

        k = rows.plan.chain[0]
        level = rows.design.levels[k]
        order = np.argsort(level.index, kind="stable")
        group = level.index[order]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        parts = []
        for k_tail in rows.plan.tail:
            other, span = rows.design.levels[k_tail], rows.slices[k_tail][1]
            values = (rows.better[k_tail] @ lam[span].reshape(other.r, other.r))[order]
            columns = other.index[order][:, None] * other.r + np.arange(other.r)
            shape, ends = (rows.design.n, other.q), np.arange(rows.design.n + 1) * other.r
            parts.append(sparse.csr_array((values.ravel(), columns.ravel(), ends), shape=shape))
        return Given(
            family=family, outcome=outcome.part(order), order=order, starts=starts,
            owner=np.searchsorted(group[starts], group), z=rows.better[k][order], A=sparse.hstack(parts, format="csr"),
            nodes=self.nodes, factor=lam[rows.slices[k][1]].reshape(level.r, level.r), psi=psi, fixed=fixed[order],
        )  # fmt: skip

    def _start(self, rows: Rows, lam: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(t, modes of the first level's groups that have rows) where a search begins."""
        v = rows.transposed(lam, s)
        k = rows.plan.chain[0]
        level = rows.design.levels[k]
        own = v[rows.slices[k][0]].reshape(level.m, level.r)[np.unique(level.index)]
        return np.concatenate([v[rows.slices[k][0]] for k in rows.plan.tail]), own

    def _joint(self, rows, family, outcome, fixed, lam, psi, inside: Inside) -> Mode:
        """The effects at t^, the first level's at their modes given it."""
        k = rows.plan.chain[0]
        level = rows.design.levels[k]
        v = np.zeros(rows.design.q)
        own = np.zeros((level.m, level.r))
        own[np.unique(level.index)] = inside.modes
        v[rows.slices[k][0]] = own.ravel()
        for k_tail, t in zip(rows.plan.tail, _split(rows, inside.t), strict=True):
            v[rows.slices[k_tail][0]] = t.ravel()
        b = rows.times(lam, v)
        eta = fixed + rows.spread(b)
        value, slope = family.slope(outcome, eta, psi)
        density = float(value.sum() - 0.5 * v @ v)
        return Mode(s=rows.gather(slope), b=b, eta=eta, density=density, found=bool(np.isfinite(density)))


def _split(rows: Rows, t: np.ndarray) -> list[np.ndarray]:
    """Per level outside the chain, its effects (m, r)."""
    levels = [rows.design.levels[k] for k in rows.plan.tail]
    ends = np.cumsum([level.q for level in levels])[:-1]
    return [part.reshape(level.m, level.r) for part, level in zip(np.split(t, ends), levels, strict=True)]


def _mode(given: Given, t: np.ndarray, modes: np.ndarray) -> tuple[Inside, np.ndarray, bool]:
    """(f at its maximum, -f'' there, whether Newton's method arrived)."""
    inside = given.at(t, modes)
    H = inside.curvature()
    for _ in range(STEPS):
        slope = inside.slope
        values, vectors = np.linalg.eigh(H)
        step = vectors @ ((vectors.T @ slope) / np.maximum(np.abs(values), 1e-8))
        gain = float(slope @ step)
        if gain < SETTLED * (1 + abs(inside.value)) * 1e-3:
            return inside, H, True
        share = 1.0
        while (trial := given.at(inside.t + share * step, inside.modes)).value < inside.value and share > 1e-6:
            share /= 2
        if share <= 1e-6:
            return inside, H, gain < 1e-6
        inside = trial
        H = inside.curvature()
    return inside, H, False


def _value(inside: Inside, H: np.ndarray) -> tuple[float, np.ndarray]:
    """(the log-likelihood, the Cholesky factor of -f''); minus infinity where that is no maximum."""
    try:
        half = np.linalg.cholesky(H)
    except np.linalg.LinAlgError:
        return -np.inf, np.eye(len(H))
    return float(inside.value - np.log(np.diag(half)).sum()), half
