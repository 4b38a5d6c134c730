r"""R of the rows: its inverse as a sum of fixed matrices, its determinant, its root.

Every structure here has an inverse that is linear in fixed matrices, with coefficients that depend on the parameters
psi (a correlation rho, ratios of SDs):

    R(psi)^-1 = sum_t c_t(psi) P_t,      log|R(psi)|  in closed form.

So every cross-product A' R^-1 B of the likelihood is the same sum of fixed cross-products A' P_t B, and nothing depends
on the rows after these are made. With S the diagonal of the strata's SDs and w the weights, R = w^-1/2 S C S w^-1/2 and

    ar1   C^-1 = I + sum_d a^2/(1-a^2) (E_d + F_d) - a/(1-a^2) N_d,   a = rho^d, d the gap between neighbours in time
    cs    C^-1 = I/(1-rho) - sum_m rho/((1-rho)(1+(m-1)rho)) J_m,     J_m all ones within the groups of m rows

(E_d, F_d: the later and the earlier rows of such neighbours; N_d: their pairs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.description.levels import Residual

Sparse = Any  # scipy.sparse.csr_array


@dataclass(frozen=True, kw_only=True)
class ResidualParameter:
    """A parameter of R: "rho", or the ratio of a stratum's SD to that of the first one.

    Attributes
    ----------
    name, label : str
        Of the variable, and of this entry of it: "sigma_ratio", "sigma_ratio[F]".
    lower, upper : float
        Where R is positive definite.
    reason : str
        What it is, in words.
    """

    name: str
    label: str
    lower: float
    upper: float
    reason: str

    def natural(self, z: Any) -> Any:
        """The parameter from its coordinate on the real line: a logarithm, or a scaled logit."""
        if np.isinf(self.upper):
            return self.lower + np.exp(z)
        return self.lower + (self.upper - self.lower) / (1.0 + np.exp(-z))

    def free(self, value: Any) -> Any:
        """The coordinate on the real line."""
        if np.isinf(self.upper):
            return np.log(value - self.lower)
        return np.log((value - self.lower) / (self.upper - value))

    def slope(self, z: Any) -> Any:
        """d parameter / d coordinate."""
        if np.isinf(self.upper):
            return np.exp(z)
        e = np.exp(-np.abs(z))
        return (self.upper - self.lower) * e / (1.0 + e) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A fixed symmetric matrix P = left right (n x n), and its coefficient as a function of rho and the SDs' ratios."""

    left: Sparse
    right: Sparse
    coefficient: Callable[[Any], Any]
    strata: tuple[int, int] = (0, 0)

    def apply(self, A: Any) -> Any:
        """P A, for A dense or sparse."""
        return self.left @ (self.right @ A)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualDesign:
    """R of a design's rows, relative to sigma^2.

    Attributes
    ----------
    residual : Residual
        The description it came from.
    n : int
    parameters : tuple of ResidualParameter
        psi: rho first, then the strata's ratios.
    strata : tuple of str
        Labels of the strata, the first one's SD being sigma; empty without strata.
    stratum : (n,) int array
    root_weights : (n,) array
        Square roots of the weights.
    block : (n,) int array
        Rows of different blocks are independent.
    place : (n,) int array
        Time of each row within its block, for "ar1", in steps.
    step : float
        What of the column of times one step is: the largest number that divides all differences within blocks.
    matrix : (n, n) array, or None
        R itself, where it is known.
    """

    residual: Residual
    n: int
    parameters: tuple[ResidualParameter, ...] = ()
    strata: tuple[str, ...] = ()
    stratum: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    root_weights: np.ndarray = field(default_factory=lambda: np.ones(0))
    block: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    place: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    step: float = 1.0
    matrix: np.ndarray | None = None

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
        return self.residual.structure in ("ar1", "cs", "known")

    @property
    def has_rho(self) -> bool:
        """Whether the first parameter is a correlation."""
        return self.residual.structure in ("ar1", "cs")

    def split(self, psi: Any) -> tuple[Any, list[Any]]:
        """(rho or 0, SDs of the strata relative to the first one) of the parameters."""
        ratios = psi[1:] if self.has_rho else psi
        return (psi[0] if self.has_rho else 0.0), [1.0, *ratios]

    @property
    def tells_rows_apart(self) -> bool:
        """Whether effects of single rows have another covariance than e: then the data know both variances."""
        return self.residual.structure in ("ar1", "known") or bool(np.ptp(self.root_weights) > 0)

    @property
    def neutral(self) -> np.ndarray:
        """Parameters at which R is as near to the identity as it gets: rho = 0, ratios 1."""
        return np.array([0.0 if p.name == "rho" else 1.0 for p in self.parameters])

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

    # the inverse and the determinant -----------------------------------------------------------------------------

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The fixed matrices whose sum, times the coefficients, is R^-1."""
        return _terms(self)

    def coefficients(self, psi: Any) -> list[Any]:
        """c_t(psi) per term; psi are numbers, arrays or tensors."""
        rho, sds = self.split(psi)
        out = []
        for term in self.terms:
            a, b = term.strata
            out.append(term.coefficient(rho) / (sds[a] * sds[b]) if self.strata else term.coefficient(rho))
        return out

    def coefficients_at(self, psi: np.ndarray) -> np.ndarray:
        """c_t (B, T) at many psi (B, k)."""
        c = self.coefficients(psi.T)
        return np.stack(np.broadcast_arrays(*c, psi[:, 0])[:-1], axis=-1).astype(float)

    def log_det(self, psi: Any, log: Callable[[Any], Any] = np.log) -> Any:
        """log|R|; `log` is that of the library the parameters belong to."""
        rho, sds = self.split(psi)
        total: Any = self._log_det_known
        for sd, count in zip(sds[1:], np.bincount(self.stratum, minlength=len(sds))[1:], strict=True):
            total = total + 2.0 * float(count) * log(sd)
        if self.residual.structure == "ar1":
            for gap, count in self.gaps:
                total = total + count * log(1.0 - rho ** (2 * int(gap)))
        if self.residual.structure == "cs":
            for m, count in self._sizes:
                total = total + count * ((m - 1) * log(1.0 - rho) + log(1.0 + (m - 1) * rho))
        return total

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

    @cached_property
    def _log_det_known(self) -> float:
        known = 0.0 if self.matrix is None else float(np.linalg.slogdet(self.matrix)[1])
        return known - 2.0 * float(np.log(self.root_weights).sum())

    @cached_property
    def _sizes(self) -> list[tuple[float, float]]:
        """(rows per block, number of such blocks)."""
        sizes, counts = np.unique(np.bincount(self.block), return_counts=True)
        return [(float(m), float(c)) for m, c in zip(sizes, counts, strict=True)]

    @cached_property
    def gaps(self) -> list[tuple[float, float]]:
        """(gap in time between neighbours, number of such pairs)."""
        _, _, gap = neighbours(self.block, self.place)
        gaps, counts = np.unique(gap, return_counts=True)
        return [(float(g), float(c)) for g, c in zip(gaps, counts, strict=True)]

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

        rho, sds = self.split(psi)
        if self.matrix is not None:
            C = sparse.csc_array(self.matrix)
        elif self.has_rho:
            row, col = _pairs_within(self.block)
            apart = np.abs(self.place[row] - self.place[col]) if self.residual.structure == "ar1" else (row != col)
            C = sparse.csc_array((np.power(float(rho), apart.astype(float)), (row, col)), shape=(self.n, self.n))
        else:
            C = sparse.eye_array(self.n, format="csc")
        scale = sparse.diags_array(self.scales(sds))
        return (scale @ C @ scale).tocsc()

    def scales(self, sds: Sequence[Any]) -> np.ndarray:
        """SD of every row relative to sigma."""
        own = np.asarray(sds, dtype=float)[self.stratum] if self.strata else np.ones(self.n)
        return own / self.root_weights

    def color(self, z: np.ndarray, psi: Any = ()) -> np.ndarray:
        """Turn standard normal z (..., n) into draws of e / sigma ~ N(0, R), the parameters being numbers or (...)."""
        rho, sds = self.split([np.asarray(x, dtype=float)[..., None] for x in psi])  # against the rows
        e = z
        if self.matrix is not None:
            e = z @ np.linalg.cholesky(self.matrix).T
        elif self.residual.structure == "ar1":
            e = z.copy()
            later, earlier, gap = neighbours(self.block, self.place)
            for t, s, g in zip(later, earlier, gap, strict=True):  # in time's order within each block
                a = rho[..., 0] ** int(g)
                e[..., t] = a * e[..., s] + np.sqrt(1 - a * a) * z[..., t]
        elif self.residual.structure == "cs":  # the symmetric root: also for negative rho
            order, sizes = np.argsort(self.block, kind="stable"), np.bincount(self.block)
            sums = np.add.reduceat(z[..., order], np.cumsum(sizes) - sizes, axis=-1)
            mean = (sums / sizes)[..., self.block]
            e = np.sqrt(1 - rho) * (z - mean) + np.sqrt(1 + (sizes[self.block] - 1) * rho) * mean
        if self.strata:
            e = e * np.concatenate(np.broadcast_arrays(np.ones(1), *sds[1:]), axis=-1)[..., self.stratum]
        return e / self.root_weights


def neighbours(block: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(later row, earlier row, gap in time) of rows that follow each other in a block, in time's order.

    Examples
    --------
    >>> [x.tolist() for x in neighbours(np.array([0, 0, 1, 0]), np.array([3, 1, 1, 2]))]
    [[3, 0], [1, 3], [1.0, 1.0]]
    """
    order = np.lexsort((place, block))
    same = block[order[1:]] == block[order[:-1]]
    later, earlier = order[1:][same], order[:-1][same]
    return later, earlier, (place[later] - place[earlier]).astype(float)


def _pairs_within(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows of the same block, both ways and each row with itself."""
    order = np.argsort(block, kind="stable")
    ends = np.flatnonzero(np.diff(block[order], append=-1)) + 1
    rows = np.split(order, ends[:-1])
    return (
        np.concatenate([np.repeat(rows_, len(rows_)) for rows_ in rows]),
        np.concatenate([np.tile(rows_, len(rows_)) for rows_ in rows]),
    )


def _terms(made: ResidualDesign) -> tuple[Term, ...]:
    """The fixed matrices of R^-1, weights and strata included."""
    from scipy import sparse

    n, structure = made.n, made.residual.structure
    identity = sparse.eye_array(n, format="csr")

    def of_pairs(row, col, values) -> Sparse:
        return sparse.csr_array((values, (row, col)), shape=(n, n))

    parts: list[tuple[Sparse, Sparse, Callable]] = []
    if structure == "ar1":
        parts.append((identity, identity, lambda rho: 1.0 + 0.0 * rho))
        later, earlier, gap = neighbours(made.block, made.place)
        for g, _ in made.gaps:
            t, s = later[gap == g], earlier[gap == g]
            ends = np.concatenate([t, s])
            parts.append((of_pairs(ends, ends, np.ones(len(ends))), identity, _ar1_ends(g)))
            both = of_pairs(np.concatenate([t, s]), np.concatenate([s, t]), np.ones(2 * len(t)))
            parts.append((both, identity, _ar1_pairs(g)))
    elif structure == "cs":
        parts.append((identity, identity, lambda rho: 1.0 / (1.0 - rho)))
        sizes = np.bincount(made.block)
        for m, count in made._sizes:
            rows = np.flatnonzero(sizes[made.block] == m)
            group = np.unique(made.block[rows], return_inverse=True)[1]
            ones = sparse.csr_array((np.ones(len(rows)), (rows, group)), shape=(n, int(count)))
            parts.append((ones, ones.T.tocsr(), _cs_groups(m)))
    elif structure == "known":
        parts.append((_inverse_by_blocks(made.matrix, made.block), identity, lambda rho: 1.0))
    else:
        parts.append((identity, identity, lambda rho: 1.0))
    weights = sparse.diags_array(made.root_weights, format="csr")
    out = []
    for left, right, coefficient in parts:
        for a in range(max(len(made.strata), 1)):
            for b in range(a + 1):
                one, other = (sparse.diags_array((made.stratum == k) * made.root_weights, format="csr") for k in (a, b))
                if a == b:
                    L, M = (one @ left).tocsr(), (right @ (one if made.strata else weights)).tocsr()
                else:  # D_a P D_b + D_b P D_a
                    L = sparse.hstack([one @ left, other @ left], format="csr")
                    M = sparse.vstack([right @ other, right @ one], format="csr")
                if (abs(L) @ (abs(M) @ np.ones(n))).any():
                    out.append(Term(left=L, right=M, coefficient=coefficient, strata=(a, b)))
    return tuple(out)


def _ar1_ends(gap: float) -> Callable:
    step = int(gap)  # a whole number: powers of a negative rho
    return lambda rho: rho ** (2 * step) / (1.0 - rho ** (2 * step))


def _ar1_pairs(gap: float) -> Callable:
    step = int(gap)
    return lambda rho: -(rho**step) / (1.0 - rho ** (2 * step))


def _cs_groups(m: float) -> Callable:
    return lambda rho: -rho / ((1.0 - rho) * (1.0 + (m - 1.0) * rho))


def _inverse_by_blocks(matrix: Any, block: np.ndarray) -> Sparse:
    """R^-1, block by block."""
    from scipy import sparse

    rows, cols, values = [], [], []
    for k in range(int(block.max()) + 1):
        at = np.flatnonzero(block == k)
        inverse = np.linalg.inv(matrix[np.ix_(at, at)])
        rows.append(np.repeat(at, len(at)))
        cols.append(np.tile(at, len(at)))
        values.append(((inverse + inverse.T) / 2).ravel())
    return sparse.csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=matrix.shape)
