"""Adaptive Gauss-Hermite quadrature: the groups of one level, or one scalar effect a group up a chain of nested ones.

The first is `product_rule`. For a group of a chain, with effect u ~ N(0, 1) and log density l(u) of what lies in it,

    log I = log sum_j exp(log w_j + x_j^2 / 2 - u_j^2 / 2 + l(u_j)) - log(A) / 2,   u_j = m + x_j / sqrt(A),

with m the mode of l(u) - u^2 / 2 and A its curvature there. l(u) is the sum over rows, or over the groups within, whose
own nodes are placed anew at each u_j.

Sources: Liu & Pierce (1994); Pinheiro & Bates (1995); Rabe-Hesketh, Skrondal & Pickles (2005) for nested levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.alike import Alike, find_alike
from bayeslmm.integration.compiled_level import CompiledLevel, compile_level, is_compiled
from bayeslmm.integration.laplace import Mode, Point, find_mode
from bayeslmm.integration.product_rule import NUMBERS, Integrated, at_parameters, integrate
from bayeslmm.integration.rows import Rows
from bayeslmm.integration.rule import rule

Where = tuple[slice, slice]  # groups and rows
SEVERAL = 2  # effects a group up to which a product of rules serves
CENTRING = 7  # nodes of inner integrals while the nodes of an outer one are placed


def serves(rows: Rows) -> str:
    """Why quadrature can't integrate this model's effects; "" where it can."""
    levels = rows.design.levels
    for level in levels:
        if level.related:
            return f"the groups of {level.label} have a known covariance, so that they are integrated together"
    if rows.plan.tail:
        names = " and ".join(level.label for level in levels)
        return f"{names} are crossed, so that all effects are integrated together"
    for level in levels:
        if level.r > SEVERAL:
            return f"{level.label} has {level.r} effects a group, and there are nodes for {SEVERAL}"
        if level.r > 1 and len(levels) > 1:
            return f"{level.label} has {level.r} effects a group in a chain of levels, and there are nodes for one"
    return ""


def compiled_of(rows: Rows, family: Family, outcome: Outcome) -> CompiledLevel:
    """The one level as compiled code reads it, laid out once for the design's own response."""
    if outcome is not rows.design.outcome:
        return compile_level(alike_of(rows, outcome), family, outcome, rows.better[0])
    if "compiled" not in rows.kept or rows.kept["compiled"].family != family:
        rows.kept["compiled"] = compile_level(alike_of(rows, outcome), family, outcome, rows.better[0])
    return rows.kept["compiled"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Some groups of the root with all that lies in them, rows in the order of their groups.

    Attributes
    ----------
    z : per level, leaf first, the (n,) column of its effect
    starts : per level the first row of each group
    first : per level but the leaf, the first child of each group
    owner : per level the (n,) group of each row
    """

    outcome: Outcome
    eta: np.ndarray
    z: tuple[np.ndarray, ...]
    starts: tuple[np.ndarray, ...]
    first: tuple[np.ndarray, ...]
    owner: tuple[np.ndarray, ...]
    modes: tuple[np.ndarray, ...]
    rows: np.ndarray
    groups: tuple[np.ndarray, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Integral:
    """Log integrals of groups, and what is expected of their rows under the integrand.

    Attributes
    ----------
    value : (..., m) array
    score : (..., n) array
        E l'(eta_i).
    moments : per level up to here, (..., n)
        E u l'(eta_i).
    by_psi : (k, ..., n) array
        E dl_i / dpsi.
    """

    value: np.ndarray
    score: np.ndarray
    moments: tuple[np.ndarray, ...]
    by_psi: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Quadrature:
    """An approximation for `Objective`: so many nodes for each effect.

    With one level the gradient is that of the rule itself, nodes that move included. With several it is that of the
    integral (Fisher's identity over the nodes), which is the same once there are enough of them.
    """

    nodes: int

    def __call__(
        self,
        rows: Rows,
        family: Family,
        outcome: Outcome,
        fixed: np.ndarray,
        lam: np.ndarray,
        psi: np.ndarray,
        s: np.ndarray,
    ) -> Point:
        """The log-likelihood and its gradient."""
        values, pull, by_lambda, by_psi, mode = self._parts(rows, family, outcome, fixed, lam, psi, s)
        value = float(values.sum())
        return Point(
            value=value if np.isfinite(value) else -np.inf, by_gamma=rows.X.T @ pull, by_lambda=by_lambda,
            by_psi=by_psi, mode=mode, variances=np.zeros(0), factor=None, pull=pull,
        )  # fmt: skip

    def groups(
        self, rows: Rows, family: Family, outcome: Outcome, fixed: np.ndarray, lam: np.ndarray, psi: np.ndarray,
        s: np.ndarray,
    ) -> np.ndarray:  # fmt: skip
        """The log integral of each group of the outermost level, in the design's order."""
        return self._parts(rows, family, outcome, fixed, lam, psi, s)[0]

    def total(self, rows, family, outcome, fixed, lam, psi, s) -> float:
        """The log-likelihood alone."""
        return float(self.groups(rows, family, outcome, fixed, lam, psi, s).sum())

    def _parts(self, rows, family, outcome, fixed, lam, psi, s):
        given = (rows, family, outcome, fixed, lam, psi, s)
        return self._level(*given) if len(rows.plan.chain) == 1 else self._chain(*given)

    def _level(self, rows, family, outcome, fixed, lam, psi, s):
        """(integrals, gradients, mode) of the groups of the one level there is."""
        level, alike = rows.design.levels[0], alike_of(rows, outcome)
        r = level.r
        factor = lam.reshape(r, r)
        start = rows.transposed(lam, s).reshape(level.m, r)[alike.groups]
        values, modes = np.empty(len(alike.groups)), np.empty_like(start)
        pull, by_lambda, by_psi = np.zeros(rows.design.n), np.zeros((r, r)), np.zeros(len(psi))
        for where, part in self._parts_of(rows, family, outcome, fixed, factor, psi, start):
            own, at = where
            values[own], modes[own] = part.value, part.modes
            pull[alike.rows[at]] = part.by_eta
            by_lambda += part.by_factor
            by_psi += part.by_psi
        # a group without rows has the mode zero and the integral one
        whole, v = np.append(values, 0.0)[alike.kind], np.vstack([modes, np.zeros(r)])[alike.kind]
        b = v @ factor.T
        eta = fixed + rows.spread(b.ravel())
        value, slope = family.slope(outcome, eta, psi)
        density = float(value.sum() - 0.5 * (v**2).sum())
        mode = Mode(s=rows.gather(slope), b=b.ravel(), eta=eta, density=density, found=bool(np.isfinite(density)))
        return whole, pull, by_lambda.ravel(), by_psi, mode

    def _parts_of(self, rows, family, outcome, fixed, factor, psi, start) -> Iterator[tuple[Where, Integrated]]:
        """Groups by parts that memory holds, or all at once by compiled code; (groups and rows, their integrals)."""
        alike, r = alike_of(rows, outcome), factor.shape[0]
        if is_compiled(family, r):
            level = compiled_of(rows, family, outcome)
            everything = slice(0, len(alike.groups)), slice(0, len(alike.rows))
            yield everything, level.integrate(fixed, factor, psi, self.nodes, start)
            return
        for where in alike.parts(max(1, NUMBERS // self.nodes**r)):
            part = at_parameters(alike, where, family, outcome, fixed, rows.better[0], factor, psi)
            yield where, integrate(part, self.nodes, start[where[0]], alike.copies[where[0]])

    def _chain(self, rows, family, outcome, fixed, lam, psi, s):
        """(integrals, gradients, mode) up a chain of levels with one effect a group."""
        mode, _ = find_mode(rows, family, outcome, fixed, lam, psi, s)
        chain = rows.plan.chain
        scales = [float(lam[rows.slices[k][1]][0]) for k in chain]
        v = rows.transposed(lam, mode.s)
        values = np.zeros(rows.design.levels[chain[-1]].m)
        pull, by_lambda, by_psi = np.zeros(rows.design.n), np.zeros_like(lam), np.zeros(len(psi))
        for piece in pieces(rows, outcome, fixed, [v[rows.slices[k][0]] for k in chain], self.nodes):
            work = _Work(piece=piece, family=family, psi=psi, scales=scales)
            found = work.integral(len(chain) - 1, piece.eta, self.nodes)
            values[piece.groups[-1]] = found.value
            pull[piece.rows] = found.score
            by_psi += found.by_psi.sum(axis=-1)
            for c, k in enumerate(chain):
                by_lambda[rows.slices[k][1]] += (piece.z[c] * found.moments[c]).sum()
        return values, pull, by_lambda, by_psi, mode


def alike_of(rows: Rows, outcome: Outcome) -> Alike:
    """What is alike in the one level, found once for the design's own response."""
    if outcome is not rows.design.outcome:
        return find_alike(rows, outcome)
    if "alike" not in rows.kept:
        rows.kept["alike"] = find_alike(rows, outcome)
    return rows.kept["alike"]


def pieces(rows: Rows, outcome: Outcome, fixed: np.ndarray, modes: list[np.ndarray], nodes: int) -> Iterator[Piece]:
    """The groups of the root, in pieces that memory holds."""
    chain, blocks = rows.plan.chain, rows.blocks
    ranks = [blocks.rank[c][rows.design.levels[k].index] for c, k in enumerate(chain)]
    order = np.argsort(ranks[0], kind="stable")
    sorted_ranks = [rank[order] for rank in ranks]
    original = [np.argsort(blocks.rank[c]) for c in range(len(chain))]
    largest = max(1, NUMBERS // nodes ** len(chain))
    root = sorted_ranks[-1]
    starts = np.flatnonzero(np.diff(root, prepend=-1))
    ends = np.append(starts[1:], len(root))
    begin = 0
    while begin < len(starts):
        stop = begin + 1
        while stop < len(starts) and ends[stop] - starts[begin] <= largest:
            stop += 1
        at = slice(int(starts[begin]), int(ends[stop - 1]))
        own = order[at]
        first_row, owner, groups, here = [], [], [], []
        for c in range(len(chain)):
            rank = sorted_ranks[c][at]
            first_row.append(np.flatnonzero(np.diff(rank, prepend=-1)))
            owner.append(rank - rank[0])
            groups.append(original[c][rank[0] : rank[-1] + 1])
            here.append(modes[c][groups[c]])
        first = [np.searchsorted(first_row[c - 1], first_row[c]) for c in range(1, len(chain))]
        yield Piece(
            outcome=outcome.part(own), eta=fixed[own], z=tuple(rows.better[k][own, 0] for k in chain),
            starts=tuple(first_row), first=tuple(first), owner=tuple(owner), modes=tuple(here), rows=own,
            groups=tuple(groups),
        )  # fmt: skip
        begin = stop


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """One piece at some parameters."""

    piece: Piece
    family: Family
    psi: np.ndarray
    scales: list[float]

    def _sum(self, c: int, x: np.ndarray) -> np.ndarray:
        """Sums over the rows of each group of level c."""
        return np.add.reduceat(x, self.piece.starts[c], axis=-1)

    def leaf_modes(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(m, A) of the leaf's groups, (..., m): Newton's method in every group at once, steps halved where needed."""
        piece, a = self.piece, self.scales[0] * self.piece.z[0]
        owner = piece.owner[0]
        u = np.broadcast_to(piece.modes[0], (*eta.shape[:-1], len(piece.starts[0]))).copy()

        def height(u: np.ndarray) -> np.ndarray:
            value = self._sum(0, self.family.logpdf(piece.outcome, eta + a * u[..., owner], self.psi)) - 0.5 * u**2
            return np.where(np.isfinite(value), value, -np.inf)

        now, at_zero = height(u), height(np.zeros_like(u))
        u = np.where(now >= at_zero, u, 0.0)
        now = np.maximum(now, at_zero)
        A = np.ones_like(u)
        for _ in range(100):
            jet = self.family.jet(piece.outcome, eta + a * u[..., owner], self.psi)
            slope = self._sum(0, a * jet.first) - u
            bend = 1 - self._sum(0, a**2 * jet.second)
            A = bend if self.family.log_concave else np.maximum(bend, 0.2)
            step = slope / A
            if (np.abs(step) < 1e-9 * (1 + np.abs(u))).all():
                break
            trial = height(u + step)
            for _ in range(40):
                worse = trial < now - 1e-10 * (1 + np.abs(now))
                if not worse.any():
                    break
                step = np.where(worse, step / 2, step)
                trial = height(u + step)
            u, now = u + step, trial
        return u, A

    def integral(self, c: int, eta: np.ndarray, nodes: int) -> Integral:
        """Integrate level c and all below it, at linear predictors (..., n)."""
        x, log_w = rule(nodes)
        center, A = self.leaf_modes(eta) if c == 0 else self.outer_modes(c, eta)
        x = x.reshape(-1, *[1] * center.ndim)
        u = center + x / np.sqrt(A)
        moved = eta + self.scales[c] * self.piece.z[c] * u[..., self.piece.owner[c]]
        if c == 0:
            value, score = self.family.slope(self.piece.outcome, moved, self.psi)
            inside = self._sum(0, value)
            moments = []
            by_psi = self.family.dispersion(self.piece.outcome, moved, self.psi).value
        else:
            below = self.integral(c - 1, moved, nodes)
            inside = np.add.reduceat(below.value, self.piece.first[c - 1], axis=-1)
            score, moments, by_psi = below.score, list(below.moments), below.by_psi
        terms = log_w.reshape(x.shape) - 0.5 * u**2 + inside
        top = terms.max(axis=0)
        weights = np.exp(terms - top)
        total = weights.sum(axis=0)
        p = (weights / total)[..., self.piece.owner[c]]
        at_rows = u[..., self.piece.owner[c]]
        return Integral(
            value=top + np.log(total) - 0.5 * np.log(A),
            score=(p * score).sum(axis=0),
            moments=(*((p * one).sum(axis=0) for one in moments), (p * at_rows * score).sum(axis=0)),
            by_psi=(p * by_psi).sum(axis=1),
        )

    def outer_modes(self, c: int, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where to put the nodes of level c: its mode and curvature, the levels below integrated with a few nodes."""
        a, owner = self.scales[c] * self.piece.z[c], self.piece.owner[c]
        u = np.broadcast_to(self.piece.modes[c], (*eta.shape[:-1], len(self.piece.starts[c]))).copy()
        step = 0.1

        def slope(u: np.ndarray) -> np.ndarray:
            found = self.integral(c - 1, eta + a * u[..., owner], CENTRING)
            return self._sum(c, a * found.score) - u

        A = np.ones_like(u)
        for _ in range(8):
            here = slope(u)
            A = np.clip((here - slope(u + step)) / step, 1.0 if self.family.log_concave else 0.5, 1e12)
            move = np.clip(here / A, -3.0, 3.0)
            u = u + move
            if (np.abs(move) * np.sqrt(A) < 0.02).all():
                break
        return u, A
