"""R of the rows: a structure's C between the strata's SDs and the weights; its inverse, determinant and root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.covariances.residuals.structure import ResidualParameter, ResidualStructure, Sparse, Term
from bayeslmm.description.levels import Residual
from bayeslmm.design.counted import group_sizes
from bayeslmm.design.counted import total as sum_of


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledTerm(Term):
    """A term of R^-1: its coefficient is to be divided by the SDs of these two strata."""

    strata: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualDesign:
    """R of a design's rows, relative to sigma^2.

    Attributes
    ----------
    residual : Residual
        The description it came from.
    structure : ResidualStructure
        C on the rows.
    ratios : tuple of ResidualParameter
        One per stratum beyond the first.
    strata : tuple of str
        Labels of the strata, the first one's SD being sigma; empty without strata.
    stratum : (n,) int array
    root_weights : (n,) array
        Square roots of the weights.
    counts : (n,) array, or None
        How many rows of the data, of one weight and stratum, each row stands for; None where each is itself.
    """

    residual: Residual
    structure: ResidualStructure
    ratios: tuple[ResidualParameter, ...] = ()
    strata: tuple[str, ...] = ()
    stratum: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    root_weights: np.ndarray
    counts: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.structure.n

    @property
    def block(self) -> np.ndarray:
        """(n,) ints: rows of different blocks are independent."""
        return self.structure.block

    @property
    def own(self) -> tuple[ResidualParameter, ...]:
        """The structure's parameters, such as rho."""
        return self.structure.parameters

    @cached_property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Those of psi: the structure's first, then the strata's ratios."""
        return (*self.own, *self.ratios)

    @property
    def plain(self) -> bool:
        """Whether R is the identity."""
        return self.residual.plain

    @property
    def fixed(self) -> bool:
        """Whether R is known: nothing of it is estimated."""
        return not self.parameters

    @property
    def correlated(self) -> bool:
        """Whether rows of a block are correlated."""
        return self.structure.correlated

    @property
    def tells_rows_apart(self) -> bool:
        """Whether effects of single rows have another covariance than e: then the data know both variances."""
        return self.structure.tells_rows_apart or bool(np.ptp(self.root_weights) > 0)

    @property
    def stratum_sizes(self) -> np.ndarray:
        """Number of rows of each stratum; of all, where there are none."""
        return group_sizes(self.stratum, max(len(self.strata), 1), self.counts)

    def split(self, psi: Any) -> tuple[list[Any], list[Any]]:
        """(the structure's parameters, SDs of the strata relative to the first one) of the parameters."""
        k = len(self.own)
        return [*psi[:k]], [1.0, *psi[k:]]

    @property
    def neutral(self) -> np.ndarray:
        """Parameters at which R is as near to the identity as it gets."""
        return np.array([p.neutral for p in self.parameters])

    def natural(self, z: np.ndarray) -> np.ndarray:
        """Psi (..., k) from coordinates on the real line."""
        parts = [p.natural(z[..., k]) for k, p in enumerate(self.parameters)]
        return np.stack(parts, axis=-1) if parts else np.zeros((*z.shape[:-1], 0))

    def free(self, psi: np.ndarray) -> np.ndarray:
        """Coordinates on the real line of psi (..., k)."""
        parts = [p.free(psi[..., k]) for k, p in enumerate(self.parameters)]
        return np.stack(parts, axis=-1) if parts else np.zeros((*psi.shape[:-1], 0))

    def slope(self, z: np.ndarray) -> np.ndarray:
        """d psi / d coordinate, (..., k)."""
        parts = [p.slope(z[..., k]) for k, p in enumerate(self.parameters)]
        return np.stack(parts, axis=-1) if parts else np.zeros((*z.shape[:-1], 0))

    def subset(self, rows: np.ndarray) -> ResidualDesign:
        """Take some of the rows, with the same parameters, whether or not these rows tell of them."""
        return replace(
            self,
            structure=self.structure.subset(rows),
            stratum=self.stratum[rows] if self.stratum.size else self.stratum,
            root_weights=self.root_weights[rows],
        )

    # the inverse and the determinant -----------------------------------------------------------------------------

    @cached_property
    def terms(self) -> tuple[ScaledTerm, ...]:
        """The fixed matrices whose sum, times the coefficients, is R^-1."""
        return _scaled(self)

    def coefficients(self, psi: Any) -> list[Any]:
        """c_t(psi) per term; psi are numbers, arrays or tensors."""
        own, sds = self.split(psi)
        out = []
        for term in self.terms:
            a, b = term.strata
            c = term.coefficient(*own)
            out.append(c / (sds[a] * sds[b]) if self.strata else c)
        return out

    def coefficients_at(self, psi: np.ndarray) -> np.ndarray:
        """c_t (B, T) at many psi (B, k)."""
        c = self.coefficients(psi.T)
        return np.stack(np.broadcast_arrays(*c, psi[:, 0])[:-1], axis=-1).astype(float)

    def log_det(self, psi: Any, log: Callable[[Any], Any] = np.log) -> Any:
        """log|R|; `log` is that of the library the parameters belong to."""
        own, sds = self.split(psi)
        total: Any = -2.0 * sum_of(np.log(self.root_weights), self.counts)
        for sd, count in zip(sds[1:], self.stratum_sizes[1:], strict=True):
            total = total + 2.0 * float(count) * log(sd)
        return total + self.structure.log_det(*own, log=log)

    def derivatives(self, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(d c_t / d psi_k (k, T), d log|R| / d psi_k (k,)), exact: by a step into the complex plane."""
        step = 1e-30
        c, logdet = np.zeros((len(psi), len(self.terms))), np.zeros(len(psi))
        for k in range(len(psi)):
            moved = psi.astype(complex)
            moved[k] += 1j * step
            c[k] = np.array(self.coefficients(moved), dtype=complex).imag / step
            logdet[k] = self.log_det(moved).imag / step
        return c, logdet

    # the matrix itself -------------------------------------------------------------------------------------------

    def R(self, psi: Any = ()) -> Sparse:
        """R (n, n), sparse.

        Examples
        --------
        >>> import pandas as pd
        >>> from bayeslmm.design.residual_rows import build_residual
        >>> made = build_residual(Residual(structure="cs", group="g"), pd.DataFrame({"g": ["a", "a", "b"]}))
        >>> made.R([0.5]).toarray().tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
        """
        from scipy import sparse

        own, sds = self.split(psi)
        scale = sparse.diags_array(self.scales(sds))
        return (scale @ self.structure.C(*own) @ scale).tocsc()

    def part(self, psi: Any, rows: np.ndarray) -> np.ndarray:
        """R of some rows, dense."""
        own, sds = self.split(psi)
        i, j = np.meshgrid(np.arange(len(rows)), np.arange(len(rows)), indexing="ij")
        i, j = (k[self.block[rows][i] == self.block[rows][j]] for k in (i, j))
        C = np.zeros((len(rows), len(rows)))
        C[i, j] = self.structure.entries(rows[i], rows[j], *own)
        scale = self.scales(sds)[rows]
        return C * np.outer(scale, scale)

    def times(self, psi: Any, B: np.ndarray) -> np.ndarray:
        """R B, at a cost linear in the rows where the structure has a way."""
        own, sds = self.split(psi)
        scale = self.scales(sds)[:, None]
        return scale * self.structure.times(scale * B, *own)

    def diagonal(self, psi: Any) -> np.ndarray:
        """R's diagonal: the variances of the rows relative to sigma^2."""
        own, sds = self.split(psi)
        rows = np.arange(self.n)
        return self.structure.entries(rows, rows, *own) * self.scales(sds) ** 2

    def scales(self, sds: Sequence[Any]) -> np.ndarray:
        """What strata and weights multiply the rows by."""
        own = np.asarray(sds, dtype=float)[self.stratum] if self.strata else np.ones(self.n)
        return own / self.root_weights

    def color(self, z: np.ndarray, psi: Any = ()) -> np.ndarray:
        """Turn standard normal z (..., n) into draws of e / sigma ~ N(0, R), the parameters being numbers or (...)."""
        own, sds = self.split([np.asarray(x, dtype=float)[..., None] for x in psi])  # against the rows
        e = self.structure.color(z, *own)
        if self.strata:
            e = e * np.concatenate(np.broadcast_arrays(np.ones(1), *sds[1:]), axis=-1)[..., self.stratum]
        return e / self.root_weights


def _scaled(made: ResidualDesign) -> tuple[ScaledTerm, ...]:
    """The fixed matrices of R^-1: those of C^-1 by pairs of strata, times the weights."""
    from scipy import sparse

    weights = sparse.diags_array(made.root_weights, format="csr")
    out = []
    for term in made.structure.terms:
        left, right = term.left, term.right
        for a in range(max(len(made.strata), 1)):
            for b in range(a + 1):
                one, other = (sparse.diags_array((made.stratum == k) * made.root_weights, format="csr") for k in (a, b))
                if a == b:
                    L, M = (one @ left).tocsr(), (right @ (one if made.strata else weights)).tocsr()
                else:  # D_a P D_b + D_b P D_a
                    L = sparse.hstack([one @ left, other @ left], format="csr")
                    M = sparse.vstack([right @ other, right @ one], format="csr")
                if (abs(L) @ (abs(M) @ np.ones(made.n))).any():
                    out.append(ScaledTerm(left=L, right=M, coefficient=term.coefficient, strata=(a, b)))
    return tuple(out)
