"""How the groups of a level are related: a covariance K = L L' that is known up to a factor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np


class Relation(ABC):
    """A known covariance K of m groups, in their order.

    Attributes
    ----------
    sparse : bool
        Whether its inverse is kept sparse, so that nothing of m x m is made before somebody asks for `root`.
    """

    sparse = False

    @property
    @abstractmethod
    def root(self) -> np.ndarray:
        """Lower triangular L (m, m) with L L' = K."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Numbers that are kept."""

    @property
    @abstractmethod
    def variances(self) -> np.ndarray:
        """K's diagonal (m,)."""

    @abstractmethod
    def spread(self, z: np.ndarray) -> np.ndarray:
        """B z for a root B of K, B B' = K, of z (..., m, r): standard normals get the covariance K."""

    @abstractmethod
    def collect(self, u: np.ndarray) -> np.ndarray:
        """z of which u is `spread`, both (..., m, r)."""

    @abstractmethod
    def related(self, seen: int, least: float) -> bool:
        """Whether any of the first groups is correlated with another of them, by more than this."""

    @property
    @abstractmethod
    def families(self) -> np.ndarray:
        """The family (m,) of each group: those of different ones are independent."""

    @abstractmethod
    def same(self, other: Relation) -> bool:
        """Whether K is the other's, up to rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseRelation(Relation):
    """K by its root.

    Attributes
    ----------
    lower : (m, m) array
        Lower triangular L with L L' = K.

    Examples
    --------
    >>> relation = DenseRelation(lower=np.array([[1.0, 0.0], [0.6, 0.8]]))
    >>> relation.variances.round(6).tolist(), relation.spread(np.array([[1.0], [0.0]])).ravel().tolist()
    ([1.0, 1.0], [1.0, 0.6])
    """

    lower: np.ndarray

    @property
    def root(self) -> np.ndarray:
        """Lower triangular L (m, m)."""
        return self.lower

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        return self.root.size

    @cached_property
    def variances(self) -> np.ndarray:
        """K's diagonal (m,)."""
        return np.einsum("ij,ij->i", self.root, self.root)

    def spread(self, z: np.ndarray) -> np.ndarray:
        """L z."""
        return np.einsum("gh,...he->...ge", self.root, z, optimize=True)

    def collect(self, u: np.ndarray) -> np.ndarray:
        """L^-1 u."""
        return np.einsum("gh,...he->...ge", np.linalg.inv(self.root), u, optimize=True)

    def related(self, seen: int, least: float) -> bool:
        """Whether a row of L, of the first groups, has more than its diagonal."""
        L = self.root[:seen, :seen]
        return bool((abs(L - np.diag(np.diag(L))).max(axis=1) > least * np.sqrt(self.variances[:seen])).any())

    @cached_property
    def families(self) -> np.ndarray:
        """The family (m,) of each group."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        return connected_components(csr_array(self.root @ self.root.T != 0), directed=False)[1]

    def same(self, other: Relation) -> bool:
        """Whether the roots are the same."""
        return near(self.root, other.root)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same up to rounding."""
    return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=1e-12 * np.abs(a).max(initial=0.0))
