r"""What a structure of R says of itself: how it reads a table, its inverse as a sum, its determinant, its root, words.

A structure has the covariance C of the rows before weights and strata: with S the diagonal of the strata's SDs and w
the weights, R = w^-1/2 S C S w^-1/2. Its inverse is linear in fixed matrices, with coefficients that depend on the
structure's own parameters, such as a correlation rho:

    C(rho)^-1 = sum_t c_t(rho) P_t,      log|C(rho)|  in closed form.

So every cross-product A' R^-1 B of the likelihood is the same sum of fixed cross-products A' P_t B, and nothing depends
on the rows after these are made. A new structure is a subclass in a file of its own and a line in `registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd

from bayeslmm.data.known_matrix import KnownMatrix

Sparse = Any  # scipy.sparse.csr_array


class Asked(Protocol):
    """What a description says of R: a `Residual`."""

    @property
    def group(self) -> tuple[str, ...] | None:
        """Columns within whose groups rows are correlated."""

    @property
    def time(self) -> str | None:
        """Column of times."""

    @property
    def covariance(self) -> KnownMatrix | None:
        """A known matrix."""


@dataclass(frozen=True, kw_only=True)
class ResidualParameter:
    """A parameter of R: a structure's own, such as "rho", or the ratio of a stratum's SD to that of the first one.

    Attributes
    ----------
    name, label : str
        Of the variable, and of this entry of it: "sigma_ratio", "sigma_ratio[F]".
    lower, upper : float
        Where R is positive definite.
    reason : str
        What it is, in words.
    neutral : float
        Where R is as near to the identity as it gets.
    starts : tuple of float
        Values beside the neutral one that a search begins with.
    above : str
        What a value above the neutral one is called, such as "positive"; "" where that says nothing.
    """

    name: str
    label: str
    lower: float
    upper: float
    reason: str
    neutral: float
    starts: tuple[float, ...] = ()
    above: str = ""

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
        """D parameter / d coordinate."""
        if np.isinf(self.upper):
            return np.exp(z)
        e = np.exp(-np.abs(z))
        return (self.upper - self.lower) * e / (1.0 + e) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A fixed symmetric matrix P = left right (n x n), and its coefficient as a function of the own parameters."""

    left: Sparse
    right: Sparse
    coefficient: Callable[..., Any]

    def apply(self, A: Any) -> Any:
        """P A, for A dense or sparse."""
        return self.left @ (self.right @ A)


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What new rows take from seen ones: sums of their residuals, each times a coefficient.

    Attributes
    ----------
    index : (n,) int array
        Per new row, which of the sums it takes.
    sums : (s, seen rows) sparse array
    coefficient : callable
        Of some of the rows (a slice) and the structure's own parameters, numbers or arrays (..., 1), to (..., rows);
        zero for rows that take none.
    """

    index: np.ndarray
    sums: Sparse
    coefficient: Callable[..., Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Borrowing:
    """The residuals of new rows given those of the seen ones: their mean is a sum over sources, C being C before.

    Attributes
    ----------
    sources : tuple of Source
    variance : callable
        What is left; its arguments are those of a source's `coefficient`.
    """

    sources: tuple[Source, ...]
    variance: Callable[..., Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualStructure:
    """C on the rows of a table.

    Attributes
    ----------
    name, text : str
        What a description calls it, and what it is in a few words.
    takes : frozenset of str
        Parts of `Residual` that it may have.
    needs : str
        The one that it can't do without, or "".
    stands_alone : bool
        Whether a model without levels has use for it.
    correlated : bool
        Whether rows of a block are correlated.
    tells_rows_apart : bool
        Whether effects of single rows have another covariance than e: then the data know both variances.
    blocks : str
        What its blocks are called.
    asked : Asked
        The description it came from.
    block : (n,) int array
        Rows of different blocks are independent.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    takes: ClassVar[frozenset[str]]
    needs: ClassVar[str] = ""
    stands_alone: ClassVar[bool] = True
    correlated: ClassVar[bool] = True
    tells_rows_apart: ClassVar[bool] = True
    blocks: ClassVar[str] = "groups"

    asked: Asked
    block: np.ndarray

    @classmethod
    def read(cls, asked: Asked, frame: pd.DataFrame) -> Self:
        """Read what the structure needs of a table; what doesn't fit is an error."""
        raise NotImplementedError

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.block)

    @property
    def parameters(self) -> tuple[ResidualParameter, ...]:
        """Its own parameters, which all methods below take in this order."""
        return ()

    def subset(self, rows: np.ndarray) -> Self:
        """Take some of the rows, with C among them as it is among all."""
        return replace(self, block=np.unique(self.block[rows], return_inverse=True)[1])

    # algebra -----------------------------------------------------------------------------------------------------

    @cached_property
    def terms(self) -> list[Term]:
        """The fixed matrices whose sum, times the coefficients, is C^-1."""
        raise NotImplementedError

    def log_det(self, *own: Any, log: Callable[[Any], Any] = np.log) -> Any:
        """log|C|; `log` is that of the library the parameters belong to."""
        raise NotImplementedError

    def entries(self, row: np.ndarray, col: np.ndarray, *own: float) -> np.ndarray:
        """C[row, col] of pairs of rows of the same block."""
        raise NotImplementedError

    def color(self, z: np.ndarray, *own: np.ndarray) -> np.ndarray:
        """Turn standard normal z (..., n) into draws from N(0, C), the parameters being arrays (..., 1)."""
        raise NotImplementedError

    def C(self, *own: float) -> Sparse:
        """C (n, n), sparse: it has a number for each pair of rows of a block."""
        from scipy import sparse

        row, col = pairs_within(self.block)
        return sparse.csc_array((self.entries(row, col, *own), (row, col)), shape=(self.n, self.n))

    def times(self, B: np.ndarray, *own: float) -> np.ndarray:
        """C B, linear in the rows where there is a way."""
        return self.C(*own) @ B

    # new rows ----------------------------------------------------------------------------------------------------

    def beside(self, frame: pd.DataFrame, seen: bool) -> Self:
        """The structure of new rows: behind the rows that were seen, or by themselves.

        Raises
        ------
        DataError
            Where C says nothing of such rows.
        """
        raise NotImplementedError

    def variances(self, frame: pd.DataFrame) -> np.ndarray:
        """C's diagonal for new rows."""
        return np.ones(len(frame))

    def borrowing(self, frame: pd.DataFrame) -> Borrowing:
        """What the rows that were seen say of new ones; nothing where rows are independent.

        Raises
        ------
        DataError
            Where C says nothing of such rows, or a row is one that was seen: its residual is known.
        """
        ones = np.ones(len(frame))
        return Borrowing(sources=(), variance=lambda rows, *own: ones[rows])

    # words -------------------------------------------------------------------------------------------------------

    @property
    def within(self) -> str:
        """The groups, after a blank: "AR(1)" + " within Mare"."""
        return f" within {':'.join(self.asked.group)}" if self.asked.group else ""

    def short_name(self) -> str:
        """Name the structure: "AR(1) within Mare"."""
        raise NotImplementedError

    def with_estimates(self, *own: float) -> list[str]:
        """Say the values of its parameters."""
        return [f"{p.label} = {value:.3f}" for p, value in zip(self.parameters, own, strict=True)]

    def hints(self, design: Any) -> list[str]:
        """Point out what is allowed but deserves a second look, beside the levels of a `Design`."""
        return []


def pairs_within(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows of the same block, both ways and each row with itself.

    Examples
    --------
    >>> [x.tolist() for x in pairs_within(np.array([0, 1, 0]))]
    [[0, 0, 2, 2, 1], [0, 2, 0, 2, 1]]
    """
    order = np.argsort(block, kind="stable")
    ends = np.flatnonzero(np.diff(block[order], append=-1)) + 1
    rows = np.split(order, ends[:-1])
    return (
        np.concatenate([np.repeat(rows_, len(rows_)) for rows_ in rows]),
        np.concatenate([np.tile(rows_, len(rows_)) for rows_ in rows]),
    )


def sizes_of(block: np.ndarray) -> list[tuple[int, int]]:
    """(rows per block, number of such blocks)."""
    sizes, counts = np.unique(np.bincount(block), return_counts=True)
    return [(int(m), int(c)) for m, c in zip(sizes, counts, strict=True)]


def identity(n: int) -> Sparse:
    """The identity, sparse."""
    from scipy import sparse

    return sparse.eye_array(n, format="csr")
