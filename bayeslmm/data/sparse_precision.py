"""A known precision that is sparse: pedigrees, maps; its factor, and what of its inverse can be had without making it.

The factor is that of `factorisation.kernels.fronts`, in an order of least degree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.data.known_matrix import LABEL_LIMIT, KnownMatrix
from bayeslmm.data.relation import Relation, near
from bayeslmm.errors import DataError, DescriptionError

if TYPE_CHECKING:
    from bayeslmm.factorisation.kernels.arrays import Sparse

FEW = 500  # labels up to which a dense root is quicker than ordering
SHARE = 0.1  # of all entries: with more numbers than this a matrix isn't sparse
NUMBERS = 8_000**2  # in the factor, the most that are kept: those of 8,000 dense columns


@dataclass(frozen=True, kw_only=True, eq=False)
class SparsePrecision(Relation):
    """Q = K^-1 of m groups, sparse.

    Attributes
    ----------
    matrix : csc_array (m, m)
        Rows and columns in the order of the groups.
    known : KnownMatrix
        Where it came from.
    groups : tuple of str
        The labels in order.

    Examples
    --------
    >>> from scipy import sparse
    >>> Q = sparse.csc_array(np.array([[2.0, -1.0], [-1.0, 2.0]]))
    >>> known = KnownMatrix(labels=["a", "b"], matrix=Q, precision=True)
    >>> SparsePrecision.of(known, ["b", "a"]).variances.round(6).tolist()
    [0.666667, 0.666667]
    """

    sparse = True

    matrix: Any
    known: KnownMatrix
    groups: tuple[str, ...]

    @classmethod
    def of(cls, known: KnownMatrix, groups: Sequence[str]) -> SparsePrecision:
        """The precision with its rows and columns in the order of the groups, which are all of its labels.

        Raises
        ------
        DescriptionError
            If it isn't positive definite.
        DataError
            If its factor has more numbers than are kept.
        """
        from scipy.sparse import csc_array

        place = {label: k for k, label in enumerate(known.labels)}
        at = np.array([place[group] for group in groups], dtype=np.int64)
        matrix = csc_array(known.matrix)[at][:, at].tocsc()
        matrix.eliminate_zeros()
        matrix.sort_indices()
        made = cls(matrix=matrix, known=known, groups=tuple(groups))
        _ = made.root if made.m <= FEW else made._factor  # is it positive definite?
        return made

    @property
    def m(self) -> int:
        """Number of groups."""
        return len(self.groups)

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        return self.m**2 if self.m <= FEW else int(self._factor[0].panels[-1])

    @cached_property
    def root(self) -> np.ndarray:
        """Lower triangular L (m, m) with L L' = K, dense.

        Raises
        ------
        DataError
            Where that is too large.
        """
        if self.m > LABEL_LIMIT:
            raise DataError(
                f"{self.known.name} has {self.m:,} labels. What was asked for needs the covariance itself, which is "
                f"made for at most {LABEL_LIMIT:,}. Without it there are ml(), reml(), ranef, predictions, joint(), "
                "marginal() and its sample(); for more leave out relatives without rows, or fit a subset."
            )
        return self.known.root(self.groups)

    @cached_property
    def neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """(where each group's neighbours begin, the neighbours): which others it has an entry with."""
        from scipy.sparse import coo_array, csr_array

        found = coo_array(self.matrix)
        row, column = found.coords
        other = row != column
        graph = csr_array((np.ones(int(other.sum()), dtype=bool), (row[other], column[other])), shape=(self.m, self.m))
        graph.sort_indices()
        return graph.indptr.astype(np.int64), graph.indices.astype(np.int64)

    @cached_property
    def _factor(self) -> tuple[Sparse, np.ndarray, np.ndarray]:
        """(the pattern, the factor U packed, the column of each group)."""
        from scipy.sparse import coo_array

        from bayeslmm.factorisation.kernels.arrays import pattern_alone
        from bayeslmm.factorisation.kernels.compiling import first_use
        from bayeslmm.factorisation.kernels.known_precision import packed, packed_factor
        from bayeslmm.factorisation.kernels.symbolic import analyse

        ones = np.ones(self.m, dtype=np.int64)
        with first_use(analyse, "pattern"):
            arrays, made = analyse(*self.neighbours, ones, NUMBERS, np.inf)
        if not made or arrays[5][-1] > NUMBERS:
            raise DataError(
                f"{self.known.name}: eliminating its {self.m:,} labels fills more than {NUMBERS:,} numbers, which is "
                "the most that is taken. Leave out relatives without rows that relate nobody, or fit a subset."
            )
        pattern, place = pattern_alone(arrays), arrays[0]
        found = coo_array(self.matrix)
        row, column = (place[x] for x in found.coords)
        upper = row <= column
        with first_use(packed, "packed precision"):
            U = packed(pattern, row[upper], column[upper], found.data[upper])
        with first_use(packed_factor, "factor of a precision"):
            pivots, whole = packed_factor(pattern, U)
        # rounding lets a singular matrix pass: then the last pivots are noise
        size = np.empty(self.m)
        size[place] = self.matrix.diagonal()
        if not whole or (pivots**2 <= self.m * np.finfo(float).eps * size).any():
            if self.m <= LABEL_LIMIT // 2:
                _ = self.root  # names the smallest eigenvalue
            raise DescriptionError(
                f"{self.known.name} is not positive definite: all of its eigenvalues have to be above zero. Of a map "
                "without an island of its own, add a little to its diagonal; of a pedigree, look for identical animals."
            )
        return pattern, U, place

    @cached_property
    def variances(self) -> np.ndarray:
        """K's diagonal (m,), without the rest of K."""
        if self.m <= FEW:
            return np.einsum("ij,ij->i", self.root, self.root)
        from bayeslmm.factorisation.kernels.compiling import first_use
        from bayeslmm.factorisation.kernels.known_precision import packed_inverse

        pattern, U, place = self._factor
        with first_use(packed_inverse, "inverse of a precision"):
            return packed_inverse(pattern, U)[1][place]

    def spread(self, z: np.ndarray) -> np.ndarray:
        """B z for a root B of K, of z (..., m, r)."""
        if self.m <= FEW:
            return np.einsum("gh,...he->...ge", self.root, z, optimize=True)
        return self._solved(z, lower=False)

    def collect(self, u: np.ndarray) -> np.ndarray:
        """z of which u is `spread`, both (..., m, r)."""
        if self.m <= FEW:
            return np.einsum("gh,...he->...ge", np.linalg.inv(self.root), u, optimize=True)
        from bayeslmm.factorisation.kernels.compiling import first_use
        from bayeslmm.factorisation.kernels.known_precision import packed_times

        pattern, U, place = self._factor
        X = self._ordered(u, place)
        with first_use(packed_times, "products with a precision's factor"):
            packed_times(pattern, U, X)
        return self._as_given(X, u, place)

    def times(self, x: np.ndarray) -> np.ndarray:
        """K x for x (..., m, r), without K."""
        return self._solved(x, lower=True)

    def _solved(self, x: np.ndarray, lower: bool) -> np.ndarray:
        from bayeslmm.factorisation.kernels.compiling import first_use
        from bayeslmm.factorisation.kernels.known_precision import packed_solve

        pattern, U, place = self._factor
        X = self._ordered(x, place)
        with first_use(packed_solve, "solves with a precision"):
            packed_solve(pattern, U, X, lower, True)
        return self._as_given(X, x, place)

    def _ordered(self, x: np.ndarray, place: np.ndarray) -> np.ndarray:
        """x (..., m, r) as columns (m, d) in the order of elimination."""
        X = np.empty((self.m, x.size // self.m))
        X[place] = np.moveaxis(x, -2, 0).reshape(self.m, -1)
        return X

    def _as_given(self, X: np.ndarray, x: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The columns in the shape of x."""
        return np.moveaxis(X[place].reshape(np.moveaxis(x, -2, 0).shape), 0, -2)

    @property
    def factored(self) -> tuple[np.ndarray, ...] | None:
        """What `known_precision.spread` takes; None where there are so few groups that `root` is quicker."""
        if self.m <= FEW:
            return None
        pattern, U, place = self._factor
        return place, pattern.first, pattern.starts, pattern.rows, pattern.panels, U

    @property
    def logdet(self) -> float:
        """log|Q|."""
        if self.m <= FEW:
            return float(-2 * np.log(np.diag(self.root)).sum())
        return float(-np.log(self.conditional_variances).sum())

    @property
    def conditional_variances(self) -> np.ndarray:
        """The variance (m,) of each group given those that are eliminated after it: B's squared diagonal."""
        pattern, U, place = self._factor
        own = np.arange(self.m) - pattern.first[pattern.of]
        diagonal = pattern.panels[pattern.of] + own * (np.diff(pattern.starts)[pattern.of] + 1)
        return 1 / U[diagonal][place] ** 2

    def related(self, seen: int, least: float) -> bool:
        """Whether any of the first groups is correlated with another of them, by more than this.

        K times random signs is its diagonal times them where nothing else is there.
        """
        signs = np.zeros((self.m, 4))
        signs[:seen] = np.random.default_rng(0).choice([-1.0, 1.0], size=(seen, 4))
        size = np.sqrt(self.variances[:seen, None])
        signs[:seen] /= size
        rest = self.times(signs)[:seen] / size - signs[:seen] * size
        return bool((abs(rest) > least).any())

    @cached_property
    def families(self) -> np.ndarray:
        """The family (m,) of each group."""
        from scipy.sparse.csgraph import connected_components

        return connected_components(self.matrix, directed=False)[1]

    def same(self, other: Relation) -> bool:
        """Whether the precisions are the same."""
        if not isinstance(other, SparsePrecision):
            return near(self.root, other.root)
        if self.matrix.shape != other.matrix.shape:
            return False
        return bool(abs(self.matrix - other.matrix).max() <= 1e-12 * abs(self.matrix).max())


def is_sparse(known: KnownMatrix) -> bool:
    """Whether a known matrix is a precision that is worth keeping sparse: few of its entries aren't zero."""
    from scipy.sparse import issparse

    A, m = known.matrix, len(known.labels)
    if not known.precision or (m <= FEW and issparse(A)):
        return known.precision
    filled = A.count_nonzero() if issparse(A) else np.count_nonzero(A)
    return bool(filled <= SHARE * m**2)
