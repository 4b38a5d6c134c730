"""Adaptive Gauss-Hermite quadrature over the r effects of each group of one level: a product of r rules.

For a group with effects v ~ N(0, I_r) and log density l(v) of its rows,

    log I = log sum_j exp(log w_j - v_j'v_j / 2 + l(v_j)) - log|A| / 2,   v_j = m + A^(-T/2) x_j,

with m the mode of l(v) - v'v / 2, A its curvature there, and j over a grid of nodes^r points. The gradient is that of
the rule itself: m and A move with the parameters, and the points with them.

Sources: Liu & Pierce (1994); Pinheiro & Bates (1995) for several effects; Murray (2016) for the derivative of a
Cholesky factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.families.links import Jet
from bayeslmm.integration.alike import Alike
from bayeslmm.integration.rule import rule

NUMBERS = 1_500_000  # points times rows that are computed at a time
MOST = 200  # steps of Newton's method; a handful is the rule
NEAR = 1e-6  # a Newton step from here on is the last but one
STEEP = 0.2  # the least curvature that is believed where a density isn't log-concave


@cache
def grid(nodes: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (nodes^r, r), and the logs of their weights less the normal density.

    Examples
    --------
    >>> points, log_w = grid(3, 2)
    >>> points.shape, float((np.exp(log_w - (points**2).sum(axis=1) / 2) * points[:, 1] ** 4).sum().round(12))
    ((9, 2), 3.0)
    """
    x, log_w = rule(nodes)
    points = np.array(list(product(x, repeat=r))).reshape(-1, r)
    return points, np.array(list(product(log_w, repeat=r))).reshape(-1, r).sum(axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Some groups at some parameters, rows in the order of the groups.

    Attributes
    ----------
    base : (n,) array
        The linear predictor without effects.
    z : (n, r) array
        Columns of the effects; with the factor, eta = base + (z factor) v.
    count : (n,) array
        How often each row is there.
    starts, owner : arrays of int
        The first row of each group; the group of each row.
    """

    family: Family
    outcome: Outcome
    psi: np.ndarray
    base: np.ndarray
    z: np.ndarray
    factor: np.ndarray
    count: np.ndarray
    starts: np.ndarray
    owner: np.ndarray

    @property
    def a(self) -> np.ndarray:
        """Columns of the standard normal effects, (n, r)."""
        return self.z @ self.factor

    def eta(self, v: np.ndarray) -> np.ndarray:
        """The linear predictor (..., n) at effects (..., m, r)."""
        out, a = self.base, self.a
        for e in range(a.shape[1]):
            out = out + a[:, e] * v[..., self.owner, e]
        return out

    def sums(self, x: np.ndarray) -> np.ndarray:
        """Sums over the rows (axis -1) of each group."""
        return np.add.reduceat(x, self.starts, axis=-1)

    def sums_with(self, x: np.ndarray) -> np.ndarray:
        """Sums (..., m, r) over the rows (axis -1) of each group, times the columns of the effects."""
        a = self.a
        return np.stack([self.sums(x * a[:, e]) for e in range(a.shape[1])], axis=-1)

    def height(self, v: np.ndarray) -> np.ndarray:
        """l(v) - v'v / 2 of each group, (..., m)."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = self.sums(self.count * self.family.logpdf(self.outcome, self.eta(v), self.psi))
            value = value - 0.5 * (v**2).sum(axis=-1)
        return np.where(np.isfinite(value), value, -np.inf)

    def _curvature(self, jet: Jet) -> np.ndarray:
        """Minus the second derivatives (..., m, r, r) of the height; where that is no maximum, of its concave part."""
        A = self._bent(-jet.second)
        if not self.family.log_concave:
            low = np.linalg.eigvalsh(A)[..., 0] < STEEP
            A = np.where(low[..., None, None], self._bent(np.maximum(-jet.second, 0.0)), A) if low.any() else A
        return A

    def _bent(self, weights: np.ndarray) -> np.ndarray:
        a, weights = self.a, self.count * weights
        r = a.shape[1]
        A = np.empty((*weights.shape[:-1], len(self.starts), r, r))
        for e in range(r):
            for f in range(e + 1):
                A[..., e, f] = A[..., f, e] = self.sums(weights * (a[:, e] * a[:, f])) + (e == f)
        return A

    def modes(self, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Modes (..., m, r) and curvatures: Newton's method in all groups at once, steps halved until they gain."""
        v, A = start.copy(), np.zeros(0)
        now, at_zero = self.height(v), self.height(np.zeros_like(v))
        v = np.where((now >= at_zero)[..., None], v, 0.0)
        now = np.maximum(now, at_zero)
        arrived = False
        for _ in range(MOST):
            jet = self.family.jet(self.outcome, self.eta(v), self.psi)
            A = self._curvature(jet)
            if arrived:
                break
            step = _solve(A, self.sums_with(self.count * jet.first) - v)
            if arrived := bool((np.abs(step) < NEAR * (1 + np.abs(v))).all()):  # a last step squares what is left
                v = v + step
                continue
            trial = self.height(v + step)
            while (worse := trial < now - 1e-10 * (1 + np.abs(now))).any():
                step = np.where(worse[..., None], step / 2, step)
                trial = self.height(v + step)
            arrived = bool((np.abs(step) < 1e-12 * (1 + np.abs(v))).all())
            v, now = v + step, trial
        return v, A


@dataclass(frozen=True, kw_only=True, eq=False)
class Integrated:
    """Log integrals of groups, and their gradients.

    Attributes
    ----------
    value : (m,) array
    modes : (m, r) array
    by_eta : (n,) array
        Of the sum over groups, by the linear predictor of each row.
    by_factor : (r, r) array
    by_psi : (k,) array
    """

    value: np.ndarray
    modes: np.ndarray
    by_eta: np.ndarray
    by_factor: np.ndarray
    by_psi: np.ndarray


def integrate(groups: Groups, nodes: int, start: np.ndarray, copies: np.ndarray) -> Integrated:
    """Integrate each group's effects; each group counts `copies` times in the gradients."""
    family, outcome, psi, owner = groups.family, groups.outcome, groups.psi, groups.owner
    a, c = groups.a, groups.count
    m, A = groups.modes(start)
    C = np.linalg.cholesky(A)
    B = np.linalg.inv(C).swapaxes(1, 2)
    x, log_w = grid(nodes, a.shape[1])
    v = m + np.einsum("mab,jb->jma", B, x)
    eta = groups.eta(v)
    density, slope = family.slope(outcome, eta, psi)
    terms = log_w[:, None] - 0.5 * (v**2).sum(axis=-1) + groups.sums(c * density)
    top = terms.max(axis=0)
    p = np.exp(terms - top)
    total = p.sum(axis=0)
    p /= total
    value = top + np.log(total) - np.log(np.diagonal(C, axis1=1, axis2=2)).sum(axis=1)

    # what the rows say at points that stand still
    at_rows = p[:, owner]
    pulled = at_rows * (c * slope)
    by_eta = pulled.sum(axis=0)
    by_a = np.stack([(pulled * v[:, owner, e]).sum(axis=0) for e in range(a.shape[1])], axis=1)
    each = copies[owner]
    by_psi = np.zeros(len(psi))
    if len(psi):
        by_psi = (family.dispersion(outcome, eta, psi).value * (at_rows * (c * each))).sum(axis=(1, 2))

    # what moves the points: m, and B = C^-T
    g = groups.sums_with(c * slope) - v
    bar_m = np.einsum("jm,jme->me", p, g)
    bar_B = np.einsum("jm,jme,jf->mef", p, g, x)
    bar_C = -np.tril(B @ bar_B.swapaxes(1, 2) @ B)
    at = np.arange(a.shape[1])
    bar_C[:, at, at] -= 1 / C[:, at, at]
    half = np.tril(C.swapaxes(1, 2) @ bar_C)
    half[:, at, at] /= 2
    bar_A = B @ half @ B.swapaxes(1, 2)
    bar_A = (bar_A + bar_A.swapaxes(1, 2)) / 2

    # A by the rows at the mode, then the mode by the parameters
    middle = groups.eta(m)
    jet, more = family.jet(outcome, middle, psi), family.dispersion(outcome, middle, psi)
    turned = np.einsum("nef,nf->ne", bar_A[owner], a)
    by_weight = c * np.einsum("ne,ne->n", a, turned)
    bent = -jet.third * by_weight
    q = _solve(A, bar_m + groups.sums_with(bent))[owner]
    along = np.einsum("ne,ne->n", a, q)
    pull = bent + c * jet.second * along
    by_eta = by_eta + pull
    by_a = by_a - 2 * (c * jet.second)[:, None] * turned + pull[:, None] * m[owner] + (c * jet.first)[:, None] * q
    by_psi = by_psi + (-more.second @ (each * by_weight) + more.first @ (each * c * along))
    return Integrated(
        value=value, modes=m, by_eta=each * by_eta, by_factor=groups.z.T @ (each[:, None] * by_a), by_psi=by_psi
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """Log integrals of groups at many linear predictors at once, and what is expected of rows under the integrand.

    Attributes
    ----------
    value : (T, m) array
    score : (T, n) array
        E l'(eta_i).
    moments : (T, n, r) array
        E v l'(eta_i).
    by_psi : (k, T, n) array
        E dl_i / dpsi.
    """

    value: np.ndarray
    score: np.ndarray
    moments: np.ndarray
    by_psi: np.ndarray


def expect(groups: Groups, nodes: int, start: np.ndarray) -> Expected:
    """Integrate each group's effects at each of T linear predictors, ``groups.base`` being (T, n)."""
    family, outcome, psi, owner = groups.family, groups.outcome, groups.psi, groups.owner
    r = groups.z.shape[1]
    m, A = groups.modes(np.broadcast_to(start, (len(groups.base), *start.shape)))
    C = np.linalg.cholesky(A)
    x, log_w = grid(nodes, r)
    v = m + np.einsum("tmba,jb->jtma", np.linalg.inv(C), x)
    eta = groups.eta(v)
    density, slope = family.slope(outcome, eta, psi)
    terms = log_w[:, None, None] - 0.5 * (v**2).sum(axis=-1) + groups.sums(groups.count * density)
    top = terms.max(axis=0)
    p = np.exp(terms - top)
    total = p.sum(axis=0)
    at_rows = (p / total)[..., owner]
    pulled = at_rows * slope
    return Expected(
        value=top + np.log(total) - np.log(np.diagonal(C, axis1=-2, axis2=-1)).sum(axis=-1),
        score=pulled.sum(axis=0),
        moments=np.stack([(pulled * v[..., owner, e]).sum(axis=0) for e in range(r)], axis=-1),
        by_psi=(at_rows * family.dispersion(outcome, eta, psi).value).sum(axis=1),
    )


def _solve(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    return b / A[..., 0] if A.shape[-1] == 1 else np.linalg.solve(A, b[..., None])[..., 0]


def at_parameters(
    alike: Alike, where: tuple[slice, slice], family: Family, outcome: Outcome, base: np.ndarray, z: np.ndarray,
    factor: np.ndarray, psi: np.ndarray,
) -> Groups:  # fmt: skip
    """Part of a level's groups; `base` and `z` are of all rows of the design."""
    groups, rows = where
    own = alike.rows[rows]
    return Groups(
        family=family, outcome=outcome.part(own), psi=psi, base=base[own], z=z[own], factor=factor,
        count=alike.count[rows], starts=alike.starts[groups] - rows.start, owner=alike.owner[rows] - groups.start,
    )  # fmt: skip
