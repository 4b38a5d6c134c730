r"""The density of some rows given all others and the parameters, random effects integrated out, in closed form.

For a unit U of rows with V = Z G Z' + R and r = y - offset - X beta, all relative to sigma^2,

    log p(y_U | y_-U) = -1/2 [ k log(2 pi sigma^2) - log|A| + w' A^-1 w / sigma^2 ],   A = [V^-1]_UU,  w = [V^-1 r]_U,

which takes V^-1 = P - P Z C Z'P with P = R^-1 and C = L (L'Z'PZ L + I)^-1 L', L L' = G. Where R links no row of U to
others, it is also the difference of the log densities of y and of y_-U, which takes matrices of the size of C only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.criticism.components import Component, Split
from bayeslmm.criticism.units import Units
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.posterior.collapsed import LOG_2PI
from bayeslmm.posterior.effects import kernel_factors, residual_parameters

NUMBERS = 4_000_000  # of the largest array

Values = Mapping[str, np.ndarray]  # draws first


def left_out_densities(split: Split, units: Units, values: Values) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (units, log p(y_U | y_-U, parameters, given effects) (units, N)), component by component.

    A unit of rows in several components comes several times: its log density is the sum.

    Parameters
    ----------
    split : Split
        Which levels are integrated out.
    values : mapping of name to (N, ...) array
        Draws of the parameters, and of the effects of the other levels.

    Source: Vehtari, Mononen, Tolvanen, Sivula & Winther (2016), section 3.6.2, for the identity; Sundararajan & Keerthi
    (2001) for the closed form.
    """
    draws = _Draws(split=split, values=values)
    for component in split.components:
        if (units.index[component.rows] >= 0).any():
            yield from _Piece(draws=draws, component=component).densities(units)


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """What all components share: the draws, and what follows from them."""

    split: Split
    values: Values

    @cached_property
    def sigma(self) -> np.ndarray:
        return self.values["sigma"]

    @cached_property
    def coefficients(self) -> list[Any]:
        """c_t of R^-1 = sum_t c_t P_t: numbers, or (N,)."""
        design = self.split.design
        return design.residual.coefficients(residual_parameters(design, self.values).T)

    @cached_property
    def lambdas(self) -> list[np.ndarray]:
        """Per integrated level lambda (N, r, r), on the kernels' columns: x far from zero costs no digits there."""
        stats = self.split.stats
        whole, levels = kernel_factors(stats, self.values), stats.design.levels
        return [whole[:, stats.lambda_slices[k]].reshape(-1, levels[k].r, levels[k].r) for k in self.split.integrated]

    @cached_property
    def effects(self) -> dict[str, np.ndarray]:
        """Those that are given, (N, m, r) by level name."""
        levels = self.split.design.levels
        given = [level for k, level in enumerate(levels) if k not in self.split.integrated]
        return {level.name: self.values[level.name].reshape(-1, level.m, level.r) for level in given}


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """One component, at all draws."""

    draws: _Draws
    component: Component

    @cached_property
    def Z(self) -> np.ndarray:
        """(n_c, q_c), the integrated levels side by side, those of known covariance times its root."""
        rows, parts = self.component.rows, [np.zeros((len(self.component.rows), 0))]
        for k, groups in zip(self.draws.split.integrated, self.component.groups, strict=True):
            level = self.draws.split.design.levels[k]
            Z = np.zeros((len(rows), len(groups), level.r))
            Z[np.arange(len(rows)), np.searchsorted(groups, level.index[rows])] = self.draws.split.stats.better[k][rows]
            if level.root is not None:
                K = level.root[groups] @ level.root[groups].T
                Z = np.einsum("nge,gh->nhe", Z, np.linalg.cholesky(K))
            parts.append(Z.reshape(len(rows), -1))
        return np.hstack(parts)

    @cached_property
    def P(self) -> list[np.ndarray]:
        """The terms of R^-1 on these rows: (n_c, n_c), or diagonals (n_c,) where rows are independent."""
        rows, residual = self.component.rows, self.draws.split.design.residual
        out = []
        for term in residual.terms:
            left, right = term.left.tocsr()[rows], term.right.tocsc()[:, rows]
            if residual.correlated:
                out.append((left @ right).toarray())
            else:
                out.append(np.asarray(left.multiply(right.T.tocsr()).sum(axis=1)).ravel())
        return out

    def residuals(self, part: slice) -> np.ndarray:
        """Return y - offset - X beta - Z u of what is given, (N, n_c)."""
        design, rows = self.draws.split.design, self.component.rows
        given = {name: u[part] for name, u in self.draws.effects.items()}
        return design.y[rows] - linear_predictor(design.part(rows), self.draws.values["beta"][part], given)

    def factors(self, part: slice) -> np.ndarray:
        """L (N, q_c, q_c), with the known covariances' roots in Z."""
        N, q = len(self.draws.sigma[part]), self.Z.shape[1]
        out, at = np.zeros((N, q, q)), 0
        for lam, groups in zip(self.draws.lambdas, self.component.groups, strict=True):
            r = lam.shape[1]
            for _ in groups:
                out[:, at : at + r, at : at + r] = lam[part]
                at += r
        return out

    def densities(self, units: Units) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(units, (units, N)) of the units with rows here."""
        own = units.index[self.component.rows]
        found = np.unique(own[own >= 0])
        N, n, q = len(self.draws.sigma), *self.Z.shape
        correlated = self.draws.split.design.residual.correlated
        numbers = max(q * q, n * max(q, 1), n * n if correlated else n)
        piece = max(1, min(N, NUMBERS // numbers))
        out = np.empty((len(found), N))
        for lo in range(0, N, piece):
            part = slice(lo, min(lo + piece, N))
            state = self._state(part)
            if units.single:
                out[:, part] = state.of_rows()[np.argsort(own)]
                continue
            for i, unit in enumerate(found):
                here = np.flatnonzero(own == unit)
                linked = correlated and self._linked(here)
                by_inverse = linked or len(here) <= max(q, 10)
                out[i, part] = state.of_unit(here) if by_inverse else state.by_difference(here)
        yield found, out

    def _linked(self, here: np.ndarray) -> bool:
        """Whether R correlates these rows with others."""
        block = self.draws.split.design.residual.block[self.component.rows]
        others = np.delete(block, here)
        return bool(np.isin(block[here], others).any())

    def _state(self, part: slice) -> _State:
        shape = self.draws.sigma.shape
        coefficients = [np.broadcast_to(np.asarray(x, dtype=float), shape)[part] for x in self.draws.coefficients]
        if self.draws.split.design.residual.fixed:  # the same for all draws
            coefficients = [c[:1] for c in coefficients]
        P: Any = 0.0
        for c, term in zip(coefficients, self.P, strict=True):
            P = P + c.reshape(-1, *[1] * term.ndim) * term
        return _State(P=P, Z=self.Z, L=self.factors(part), r=self.residuals(part), sigma=self.draws.sigma[part])


@dataclass(frozen=True, kw_only=True)
class _State:
    """One component at N draws; P is (1 or N, n) where rows are independent, else (1 or N, n, n)."""

    P: np.ndarray
    Z: np.ndarray
    L: np.ndarray
    r: np.ndarray
    sigma: np.ndarray

    @cached_property
    def PZ(self) -> np.ndarray:
        """(1 or N, n, q)."""
        return self.P[..., None] * self.Z if self.P.ndim == 2 else self.P @ self.Z

    @cached_property
    def Pr(self) -> np.ndarray:
        """(N, n)."""
        return self.P * self.r if self.P.ndim == 2 else (self.P @ self.r[:, :, None])[..., 0]

    @cached_property
    def M(self) -> np.ndarray:
        """L'Z'PZ L + I, (N, q, q)."""
        ZPZ = self.Z.T @ self.PZ
        return np.swapaxes(self.L, 1, 2) @ ZPZ @ self.L + np.eye(self.Z.shape[1])

    @cached_property
    def C(self) -> np.ndarray:
        """L M^-1 L', (N, q, q)."""
        return self.L @ np.linalg.solve(self.M, np.swapaxes(self.L, 1, 2))

    @cached_property
    def w(self) -> np.ndarray:
        """V^-1 r, (N, n)."""
        pulled = np.einsum("sqp,sp->sq", self.C, self.Pr @ self.Z)
        return self.Pr - (self.PZ @ pulled[:, :, None])[..., 0]

    def of_rows(self) -> np.ndarray:
        """Each row a unit: (n, N)."""
        diagonal = self.P if self.P.ndim == 2 else np.einsum("snn->sn", self.P)
        A = diagonal - ((self.PZ @ self.C) * self.PZ).sum(axis=-1)
        out = 0.5 * (np.log(A) - LOG_2PI - self.w**2 / (A * self.sigma[:, None] ** 2)) - np.log(self.sigma)[:, None]
        return out.T

    def of_unit(self, here: np.ndarray) -> np.ndarray:
        """These rows, through [V^-1]_UU: (N,)."""
        k = len(here)
        P = self.P[:, here, None] * np.eye(k) if self.P.ndim == 2 else self.P[:, here[:, None], here]
        PZ = self.PZ[:, here]
        A = P - PZ @ self.C @ np.swapaxes(PZ, 1, 2)
        w = self.w[:, here]
        quadratic = np.einsum("sk,sk->s", w, np.linalg.solve(A, w[..., None])[..., 0])
        logdet = np.linalg.slogdet(A)[1]
        return 0.5 * (logdet - k * LOG_2PI - quadratic / self.sigma**2) - k * np.log(self.sigma)

    @cached_property
    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """(log|M|, r'V^-1 r), (N,) each."""
        return np.linalg.slogdet(self.M)[1], np.einsum("sn,sn->s", self.r, self.w)

    def by_difference(self, here: np.ndarray) -> np.ndarray:
        """These rows, of which R links none to others, as the difference of two densities: (N,)."""
        k, P = len(here), self.P[:, here] if self.P.ndim == 2 else self.P[:, here[:, None], here]
        Z, r, Pr = self.Z[here], self.r[:, here], self.Pr[:, here]
        PZ = self.PZ[:, here]
        M = self.M - np.swapaxes(self.L, 1, 2) @ (Z.T @ PZ) @ self.L
        pulled = np.einsum("sqp,sq->sp", self.L, self.Pr @ self.Z - Pr @ Z)
        rest = np.einsum("sn,sn->s", self.r, self.Pr) - np.einsum("sk,sk->s", r, Pr)
        rest = rest - np.einsum("sq,sq->s", pulled, np.linalg.solve(M, pulled[..., None])[..., 0])
        logdet_P = np.log(P).sum(axis=-1) if P.ndim == 2 else np.linalg.slogdet(P)[1]
        logdet, quadratic = self.whole
        gained = np.linalg.slogdet(M)[1] - logdet + logdet_P
        return 0.5 * (gained - k * LOG_2PI - (quadratic - rest) / self.sigma**2) - k * np.log(self.sigma)
