"""The density of rows or groups given all others and the parameters, one level's effects integrated out by quadrature.

Given the parameters and the effects of other levels, the groups of a level are independent. With v ~ N(0, I) the
effects of a group on a scale of their own, and l_g(v) the log density of its rows,

    log p(y_g) = log I_g,   I_g = int exp(l_g(v)) N(v; 0, I) dv,      log p(y_i | y_g without i) = log I_g - log I_g,-i.

Nodes are placed at the mode of the integrand, scaled by its curvature. What I_g,-i needs is there already, unless the
row has much of what is known of its group: then it has nodes of its own.

Source: Vehtari, Mononen, Tolvanen, Sivula & Winther (2016), section 3.6.2, for integrated importance sampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np

from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.quadrature import rule
from bayeslmm.posterior.link_draws import LinkValues

NUMBERS = 2_000_000  # nodes times draws times rows at a time
NODES = {1: (15, 25, 41, 75, 121), 2: (9, 13, 19, 27), 3: (7, 9, 13)}
MOST_EFFECTS = max(NODES)
SETTLED = 1e-3  # of a log density: far below its Monte Carlo error
LEVERAGE = 0.4  # share of a group's information from which on a row gets nodes of its own
FEW = 10  # draws at which nodes and leverages are chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class Piles:
    """Rows in the order of their groups, a row perhaps in several of them.

    Attributes
    ----------
    rows : (k,) int array
        Rows of the design.
    starts : (groups,) int array
        Where each group begins; none is empty.
    """

    rows: np.ndarray
    starts: np.ndarray

    @property
    def owner(self) -> np.ndarray:
        """The group of each row."""
        return np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, len(self.rows))))

    def sums(self, x: np.ndarray, axis: int) -> np.ndarray:
        """Over the rows of each group."""
        return np.add.reduceat(x, self.starts, axis=axis)

    @classmethod
    def of(cls, groups: list[np.ndarray]) -> Piles:
        """Of lists of rows."""
        sizes = np.array([len(rows) for rows in groups], dtype=np.int64)
        rows = np.concatenate(groups) if groups else np.zeros(0, dtype=np.int64)
        return cls(rows=rows, starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)[: len(groups)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Integrals:
    """One level's groups at some draws.

    Attributes
    ----------
    value : (N, groups) array
        log I_g.
    terms : (J, N, groups) array
        Logs of the shares of the nodes in I_g.
    logp : (J, N, rows) array
        Log densities of the rows at the nodes.
    leverage : (N, rows) array
        Each row's share of what is known of its group.
    """

    value: np.ndarray
    terms: np.ndarray
    logp: np.ndarray
    leverage: np.ndarray


def product_rule(nodes: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    """(x (J, r), log weights (J,)) of r independent standard normals, as `rule` has them of one."""
    x, log_w = rule(nodes)
    at = np.array(list(product(range(nodes), repeat=r)))
    return x[at], log_w[at].sum(axis=1)


def integrate(
    family: Family, outcome: Outcome, psi: np.ndarray, eta: np.ndarray, a: np.ndarray, piles: Piles, nodes: int
) -> Integrals:
    """Integrals of every group.

    Parameters
    ----------
    outcome : Outcome
        Of the piles' rows.
    eta : (N, rows) array
        Without the level's effects.
    a : (N, rows, r) array
        What the effects v are multiplied by: z'F.
    """
    owner = piles.owner
    mode, H = modes(family, outcome, psi, eta, a, piles)
    root = np.linalg.inv(np.linalg.cholesky(H))  # v = mode + root' x has the covariance H^-1
    x, log_w = product_rule(nodes, a.shape[-1])
    v = mode + np.einsum("ngji,kj->kngi", root, x)
    logp = family.logpdf(outcome, eta + np.einsum("nri,knri->knr", a, v[:, :, owner]), psi)
    terms = log_w[:, None, None] - 0.5 * (v**2).sum(axis=-1) + piles.sums(logp, axis=-1)
    top = terms.max(axis=0)
    total = top + np.log(np.exp(terms - top).sum(axis=0))
    value = total + np.log(np.abs(np.einsum("ngii->ngi", root))).sum(axis=-1)
    jet = family.jet(outcome, eta + (a * mode[:, owner]).sum(axis=-1), psi)
    turned = np.einsum("nrij,nrj->nri", root[:, owner], a)
    leverage = np.maximum(-jet.second, 0.0) * (turned**2).sum(axis=-1)
    return Integrals(value=value, terms=terms - total, logp=logp, leverage=leverage)


def modes(
    family: Family, outcome: Outcome, psi: np.ndarray, eta: np.ndarray, a: np.ndarray, piles: Piles
) -> tuple[np.ndarray, np.ndarray]:
    """(modes (N, groups, r), curvatures there (N, groups, r, r)): Newton's method in every group at once."""
    owner, r = piles.owner, a.shape[-1]
    v = np.zeros((len(eta), len(piles.starts), r))

    def height(v: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            logp = family.logpdf(outcome, eta + (a * v[:, owner]).sum(axis=-1), psi)
        total = piles.sums(logp, axis=-1) - 0.5 * (v**2).sum(axis=-1)
        return np.where(np.isfinite(total), total, -np.inf)

    now, H = height(v), np.zeros((*v.shape, r))
    for _ in range(100):
        with np.errstate(over="ignore", invalid="ignore"):
            jet = family.jet(outcome, eta + (a * v[:, owner]).sum(axis=-1), psi)
        weights = -jet.second if family.log_concave else np.maximum(-jet.second, 0.0)
        slope = piles.sums(a * jet.first[..., None], axis=1) - v
        H = piles.sums(weights[..., None, None] * a[..., :, None] * a[..., None, :], axis=1) + np.eye(r)
        step = np.linalg.solve(H, slope[..., None])[..., 0]
        if (np.abs(step) < 1e-7 * (1 + np.abs(v))).all():
            break
        trial = height(v + step)
        for _ in range(40):
            worse = trial < now - 1e-10 * (1 + np.abs(now))
            if not worse.any():
                break
            step = np.where(worse[..., None], step / 2, step)
            trial = height(v + step)
        v, now = v + step, trial
    return v, H


@dataclass(frozen=True, kw_only=True, eq=False)
class OneLevel:
    """What one level's groups are left out with, the effects of the others taken from the draws.

    Attributes
    ----------
    values : LinkValues
    k : int
        The level.
    """

    values: LinkValues
    k: int

    @property
    def level(self) -> Any:
        """The level."""
        return self.values.model.design.levels[self.k]

    def whole(self) -> Piles:
        """Every group with rows."""
        index = self.level.index
        order = np.argsort(index, kind="stable")
        return Piles(rows=order, starts=np.flatnonzero(np.diff(index[order], prepend=-1)))

    def evaluated(self, some: LinkValues, piles: Piles, nodes: int) -> Iterator[tuple[slice, Integrals]]:
        """(draws, their integrals), some draws at a time: one where the family has parameters of its own."""
        model = some.model
        outcome, size = model.outcome.part(piles.rows), max(len(piles.rows), 1)
        step = max(1, NUMBERS // (size * nodes**self.level.r)) if not some.psi.shape[1] else 1
        columns = self.level.columns[piles.rows]
        for lo in range(0, some.n, step):
            part = some.some(slice(lo, lo + step))
            eta = part.eta(piles.rows, without=(self.k,))
            a = np.einsum("ij,njk->nik", columns, part.factors[self.k])
            psi = part.psi[0] if part.psi.shape[1] else np.zeros(0)
            yield slice(lo, lo + part.n), integrate(model.family, outcome, psi, eta, a, piles, nodes)

    def of_groups(self, nodes: int, some: LinkValues | None = None) -> np.ndarray:
        """log p(y_g) (groups, N)."""
        values = self.values if some is None else some
        piles = self.whole()
        out = np.empty((len(piles.starts), values.n))
        for draws, found in self.evaluated(values, piles, nodes):
            out[:, draws] = found.value.T
        return out

    def of_rows(self, nodes: int, some: LinkValues | None = None) -> np.ndarray:
        """log p(y_i | y_g without i) (n, N)."""
        values = self.values if some is None else some
        piles = self.whole()
        owner = piles.owner
        out = np.empty((len(piles.rows), values.n))
        value = np.empty((len(piles.starts), values.n))
        for draws, found in self.evaluated(values, piles, nodes):
            left = found.terms[..., owner] - found.logp
            top = left.max(axis=0)
            out[piles.rows, draws] = -(top + np.log(np.exp(left - top).sum(axis=0))).T
            value[:, draws] = found.value.T
        heavy = self.heavy(piles)
        groups = np.split(piles.rows, piles.starts[1:])
        own = {int(row): int(group) for row, group in zip(piles.rows, owner, strict=True)}
        rest = [np.setdiff1d(groups[own[row]], [row]) for row in heavy]
        full = [len(rows) > 0 for rows in rest]
        without = np.zeros((len(heavy), values.n))  # a row that is alone leaves the prior, which integrates to one
        if any(full):
            other = Piles.of([rows for rows, some_left in zip(rest, full, strict=True) if some_left])
            at = np.flatnonzero(full)
            for draws, found in self.evaluated(values, other, nodes):
                without[at, draws] = found.value.T
        for place, row in enumerate(heavy):
            out[row] = value[own[row]] - without[place]
        return out

    def heavy(self, piles: Piles) -> list[int]:
        """Rows that have much of what is known of their group, at a few draws."""
        most = np.zeros(len(piles.rows))
        for _, found in self.evaluated(self.values.spread(FEW), piles, NODES[self.level.r][0]):
            most = np.maximum(most, found.leverage.max(axis=0))
        return piles.rows[most > LEVERAGE].tolist()

    def nodes(self, by_row: bool) -> tuple[int, float]:
        """(how many are enough, what the last step still changed), at a few draws."""
        few = self.values.spread(FEW)
        steps = NODES[self.level.r]
        of = self.of_rows if by_row else self.of_groups
        last, left = of(steps[0], few), np.inf
        for before, nodes in pairwise(steps):
            now = of(nodes, few)
            left = float(np.abs(now - last).max())
            if left < SETTLED:
                return before, left
            last = now
        return steps[-1], left
