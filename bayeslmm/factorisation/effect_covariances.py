"""Covariances of effects given y and beta, any of them: those that meet in a row from one pass, the others by solving.

C = Cov(u | y, beta) / sigma^2 on the improved basis, u = B v where a level has a known covariance. One adjoint pass has
C on the pattern of Z'R^-1 Z (`Factor.product_adjoint`); what is asked for beyond that takes a solve per column.
Behind the effects stand means of them, for each level its effects' over its groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.factorisation.factor import COLUMNS, Factor, ProductAdjoint, factorise
from bayeslmm.factorisation.kernels.arrays import (
    C_ANCESTORS,
    C_EFFECTS,
    C_GROUP,
    C_GROUPS,
    C_LIST,
    C_TZ,
    C_Z,
    C_ZZ,
)
from bayeslmm.factorisation.layout import Layout
from bayeslmm.factorisation.statistics import Statistics, unmasked_layout

MANY = 100  # effects in a row that are too many to be looked up pair by pair
PAIRS = 2_000_000  # of effects that are looked up at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectCovariances:
    """C at one factorisation, and what the effects have to do with beta.

    Attributes
    ----------
    stats : Statistics
        At the factorisation's R.
    factor : Factor
    means : sequence of arrays or None
        Per level, the weights (m,) of its groups in the mean, None where it isn't asked for.
    """

    stats: Statistics
    factor: Factor
    means: Sequence[np.ndarray | None]

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each level's effects begin, then each level's means, and where all of them end."""
        levels = self.stats.design.levels
        return np.cumsum([0] + [level.q for level in levels] + [level.r for level in levels])

    @property
    def size(self) -> int:
        """Number of effects and means."""
        return int(self.starts[-1])

    @cached_property
    def loadings(self) -> np.ndarray:
        """(size, p): by how much the effects fall as the coefficients of Q rise, C Z'R^-1 Q."""
        return self._extended(self._bar.adjoint.b[:, :-1])

    def quadratic(self, Z: Any) -> np.ndarray:
        """z'C z for each row z of the sparse Z (k, size), on the improved basis."""
        many = np.diff(Z.indptr) > MANY
        if many.any():
            out = np.empty(Z.shape[0])
            out[~many] = self.quadratic(Z[~many])
            out[many] = self._quadratic_by_solving(Z[many])
            return out
        lacking = [np.zeros(0, dtype=np.int64)]
        for _, key, _ in self._pairs(Z):
            unique = np.unique(key)
            lacking.append(unique[~self._look_up(unique)[1]])
        solved = np.unique(np.concatenate(lacking))
        values = self._solve_for(solved)
        out = np.zeros(Z.shape[0])
        for row, key, product in self._pairs(Z):
            C, known = self._look_up(key)
            if solved.size:
                C[~known] = values[np.searchsorted(solved, key[~known])]
            out += np.bincount(row, weights=product * C, minlength=len(out))
        return np.maximum(out, 0.0)  # rounding

    def _quadratic_by_solving(self, Z: Any) -> np.ndarray:
        """The same with a solve for each row."""
        out = np.empty(Z.shape[0])
        for first in range(0, len(out), COLUMNS):
            some = slice(first, min(first + COLUMNS, len(out)))
            right = self._pulled(Z[some].T.toarray())
            out[some] = np.einsum("qd,qd->d", right, self._solve(right))
        return np.maximum(out, 0.0)

    def _pairs(self, Z: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(row, key, product) of all pairs of non-zeros of the same row, some rows at a time, each pair once."""
        for rows in _pieces(np.diff(Z.indptr)):
            begin, length = Z.indptr[rows].astype(np.int64), np.diff(Z.indptr[rows.start : rows.stop + 1])
            squares = length.astype(np.int64) ** 2
            row = np.repeat(np.arange(len(length)), squares)
            place = np.arange(len(row)) - np.repeat(np.cumsum(squares) - squares, squares)
            a, b = (begin[row] + part for part in np.divmod(place, length[row]))
            keep = Z.indices[a] <= Z.indices[b]
            a, b, row = a[keep], b[keep], row[keep]
            column = Z.indices.astype(np.int64)
            product = Z.data[a] * Z.data[b] * np.where(a == b, 1.0, 2.0)
            yield row + rows.start, column[a] * self.size + column[b], product

    # what one pass has -------------------------------------------------------------------------------------------

    @cached_property
    def _bar(self) -> ProductAdjoint:
        d = self.factor.T.shape[0]
        return self.factor.product_adjoint(1.0, np.zeros((d, d)))

    def _look_up(self, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(C, whether it is there) of pairs of effects."""
        known, values = self._chain
        at = np.minimum(np.searchsorted(known, key), max(len(known) - 1, 0))
        there = known[at] == key if len(known) else np.zeros(len(key), dtype=bool)
        out = np.where(there, values[at], 0.0) if len(known) else np.zeros(len(key))
        a, b = self._tail[key // self.size], self._tail[key % self.size]
        both = (a >= 0) & (b >= 0)
        pattern = self.stats.plan.pattern
        if pattern is None:
            out[both] = self._bar.zz_tail[a[both], b[both]]
            return out, there | both
        where, met = pattern.find(a[both], b[both])
        half = np.where(a[both] == b[both], 1.0, 0.5)  # a product that is stored once counts twice
        out[both] = self._bar.zz_tail[where] * half * met
        there[both] = met
        return out, there

    @cached_property
    def _tail(self) -> np.ndarray:
        """Per effect its column of the tail; -1 for others, those of levels with a known covariance, and means."""
        out, at = np.full(self.size, -1, dtype=np.int64), 0
        for k in self.stats.plan.tail:
            level = self.stats.design.levels[k]
            if self.stats.roots[k] is None:
                out[self.starts[k] : self.starts[k] + level.q] = at + np.arange(level.q)
            at += level.q
        pattern = self.stats.plan.pattern
        return out if pattern is None else np.where(out >= 0, pattern.place[out], out)

    @cached_property
    def _chain(self) -> tuple[np.ndarray, np.ndarray]:
        """(keys, ascending, and C) of pairs of a group of the chain with itself, its ancestors, its tail columns."""
        keys, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        st, bar = self.stats.layout, self._bar
        columns = [] if self.stats.plan.rotated else [self._columns(row) for row in st.chain]
        for c, own in enumerate(columns):
            row = st.chain[c]
            m, r, R = row[C_GROUPS], row[C_EFFECTS], row[C_ANCESTORS]
            above, group = [own], np.arange(m)
            for up in range(c + 1, len(columns)):
                group = st.parent[st.chain[up - 1, C_GROUP] + group]
                above.append(columns[up][group])
            others = np.concatenate(above, axis=1)
            zz = bar.zz[row[C_ZZ] : row[C_ZZ] + m * r * (r + R)].reshape(m, r, r + R)
            half = np.where(np.arange(r + R) < r, 1.0, 0.5)  # a product that is stored once counts twice
            keys.append(self._key(own[:, :, None], others[:, None, :]).ravel())
            values.append((zz * half).ravel())
            if len(st.tail):
                key, value = self._with_tail(row, own)
                keys.append(key)
                values.append(value)
        whole = np.concatenate(keys)
        order = np.unique(whole, return_index=True)[1]
        return whole[order], np.concatenate(values)[order]

    def _columns(self, row: np.ndarray) -> np.ndarray:
        """The effects (m, r) of the renumbered groups of a level of the chain."""
        order = self.stats.layout.order[row[C_GROUP] : row[C_GROUP] + row[C_GROUPS]]
        return row[C_Z] + order[:, None] * row[C_EFFECTS] + np.arange(row[C_EFFECTS])

    def _with_tail(self, row: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        st, r = self.stats.layout, int(row[C_EFFECTS])
        starts = st.lists[row[C_LIST] : row[C_LIST] + row[C_GROUPS] + 1]
        length = np.diff(starts)
        group = np.repeat(np.arange(len(length)), length)
        within = np.arange(len(group)) - np.repeat(starts[:-1] - starts[0], length)
        effect_of = np.flatnonzero(self._tail >= 0)
        effect_of = effect_of[np.argsort(self._tail[effect_of])]
        place = np.full(st.tail_columns, -1, dtype=np.int64)
        place[self._tail[effect_of]] = effect_of
        other = place[st.columns[starts[0] : starts[-1]]]
        first = row[C_TZ] + r * (starts[group] - starts[0]) + within
        keys, values = [], []
        for e in range(r):
            value = self._bar.zt[first + e * length[group]] / 2
            keys.append(self._key(own[group, e], other)[other >= 0])
            values.append(value[other >= 0])
        return np.concatenate(keys), np.concatenate(values)

    def _key(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(a, b) * self.size + np.maximum(a, b)

    # what takes solving ------------------------------------------------------------------------------------------

    def _solve_for(self, keys: np.ndarray) -> np.ndarray:
        """C of pairs of effects, by a solve for each column of C on the side where fewer are needed."""
        a, b = np.divmod(keys, self.size)
        of_a, of_b = (np.searchsorted(self.starts, x, side="right") for x in (a, b))
        column, row = a.copy(), b.copy()
        for k, j in {*zip(of_a.tolist(), of_b.tolist(), strict=True)}:
            which = (of_a == k) & (of_b == j)
            if len(np.unique(b[which])) < len(np.unique(a[which])):
                column[which], row[which] = b[which], a[which]
        out = np.empty(len(keys))
        every = np.unique(column)
        for first in range(0, len(every), COLUMNS):
            some = every[first : first + COLUMNS]
            which = (column >= some[0]) & (column <= some[-1])
            C = self._extended(self._solve(self._right(some)))
            out[which] = C[row[which], np.searchsorted(some, column[which])]
        return out

    def _right(self, columns: np.ndarray) -> np.ndarray:
        """The right-hand sides (q, columns) of the solves for these columns of C."""
        unit = np.zeros((self.size, len(columns)))
        unit[columns, np.arange(len(columns))] = 1.0
        return self._pulled(unit)

    def _pulled(self, z: np.ndarray) -> np.ndarray:
        """z (size, d) on effects and means as weights (q, d) of the kernels' effects: the transpose of `_extended`."""
        out = np.zeros((self.stats.layout.q, z.shape[1]))
        levels = self.stats.design.levels
        for k, (level, B, mean) in enumerate(zip(levels, self.stats.roots, self.means, strict=True)):
            own = z[self.starts[k] : self.starts[k + 1]].reshape(level.m, -1)
            if mean is not None:
                at = self.starts[len(levels) + k]
                own = own + mean[:, None] * z[at : at + level.r].reshape(1, -1)
            own = own if B is None else B.T @ own
            out[self.starts[k] : self.starts[k + 1]] = own.reshape(level.q, -1)
        return out

    @cached_property
    def _layout(self) -> Layout:
        return unmasked_layout(self.stats)

    def _solve(self, right: np.ndarray) -> np.ndarray:
        stats, d = self.stats, right.shape[1]
        blind = np.zeros((len(stats.plan.chain), d), dtype=np.bool_)
        solved = factorise(self._layout, self.factor.lam, right, np.zeros((d, d)), blind)
        return solved.adjoint(0.0, np.zeros((d, d))).b

    def _extended(self, b: np.ndarray) -> np.ndarray:
        """Effects and means (size, d) from the kernels' effects (q, d)."""
        out = np.zeros((self.size, b.shape[1]))
        levels = self.stats.design.levels
        for k, (level, B, mean) in enumerate(zip(levels, self.stats.roots, self.means, strict=True)):
            own = b[self.starts[k] : self.starts[k + 1]].reshape(level.m, -1)
            own = own if B is None else B @ own
            out[self.starts[k] : self.starts[k + 1]] = own.reshape(level.q, -1)
            if mean is not None:
                at = self.starts[len(levels) + k]
                out[at : at + level.r] = (mean @ own).reshape(level.r, -1)
        return out


def _pieces(lengths: np.ndarray) -> Iterator[slice]:
    """Rows with no more than so many pairs of non-zeros at a time, or one row.

    Examples
    --------
    >>> list(_pieces(np.array([2, 2])))
    [slice(0, 2, None)]
    """
    total = np.cumsum(lengths.astype(np.int64) ** 2)
    first = 0
    while first < len(lengths):
        done = int(total[first - 1]) if first else 0
        last = max(int(np.searchsorted(total, done + PAIRS, side="right")), first + 1)
        yield slice(first, last)
        first = last
