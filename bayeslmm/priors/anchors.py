"""Where default priors are stated: not where every column is zero, but where the data lie.

The constant of a model says something about the rows with x = 0, which may be far from all of them (a year). What is
known beforehand is known of the data's middle. So the defaults are stated for other coefficients of the same columns:
the constant at the mean of the others, and an interaction or a power for what it adds to the terms that it contains,

    X beta = (X W) (W^-1 beta),    priors on W^-1 beta,

with W triangular in the order of the terms, ones on its diagonal, but for contrasts of factors (`contrasts`). Shifting
or scaling a column then changes neither the fitted values nor what is thought of them.

Source: Gelman, Jakulin, Pittau & Su (2008) for centred predictors under default priors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bayeslmm.design.counted import deviation, mean, scaled
from bayeslmm.priors.contrasts import Term, is_constant, recoding


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """Columns X (n, r), and the coefficients W^-1 c for which priors are stated in the place of c.

    Attributes
    ----------
    W : (r, r) array
    columns : (n, r) array
        X W, computed without cancellation.
    constant : (r,) array
        Coefficients with X constant = 1, zeros where the columns don't span it.
    contrasts : mapping of int to (int, int)
        Which coefficients are stated as a contrast of a factor's categories: which one of how many.
    counts : (n,) array, or None
        How many rows of the data each row stands for; None where each is itself.
    """

    W: np.ndarray
    columns: np.ndarray
    constant: np.ndarray
    contrasts: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    counts: np.ndarray | None = None

    @cached_property
    def inverse(self) -> np.ndarray:
        """W^-1."""
        return np.linalg.inv(self.W)

    @property
    def plain(self) -> bool:
        """Whether priors are stated as the coefficients are written."""
        return bool(np.array_equal(self.W, np.eye(len(self.W))))

    def moved(self, j: int) -> bool:
        """Whether stated coefficient j is another than coefficient j as written."""
        return bool(np.count_nonzero(np.abs(self.inverse[j]) > 1e-12) > 1)

    def others(self, j: int) -> list[int]:
        """The columns at whose mean coefficient j is stated."""
        return [k for k in np.flatnonzero(np.abs(self.inverse[j]) > 1e-12).tolist() if k != j]

    def carried(self, scales: np.ndarray) -> np.ndarray:
        """SDs (r,) of the coefficients as written, where those of the stated ones are `scales` and independent."""
        return np.sqrt(self.W**2 @ scales**2)

    @cached_property
    def spreads(self) -> np.ndarray:
        """SD over the rows of what each column adds, (r,); 1 where it does not vary."""
        return np.array([spread_of(x, self.counts) for x in self.columns.T])


def anchor(
    X: np.ndarray,
    terms: Sequence[Term],
    factors: Collection[int] = (),
    y: np.ndarray | None = None,
    counts: np.ndarray | None = None,
) -> Anchor:
    """Find W: columns are centred, where the columns span a constant, and cleared of the terms that they contain.

    Parameters
    ----------
    X : (n, r) array
    terms : sequence of (int, frozenset of str)
        Of each column.
    factors : collection of int
        Numbers of the terms whose coefficients are stated as contrasts of a factor's categories (`contrasts`).
    y : (n,) array
        What the categories are ordered by; needed where there are `factors`.
    counts : (n,) array, optional
        How many rows each row stands for.

    Examples
    --------
    >>> x = np.array([2005.0, 2006, 2007])
    >>> anchor(np.column_stack([np.ones(3), x]), [(0, frozenset()), (1, frozenset({"x"}))]).W.tolist()
    [[1.0, -2006.0], [0.0, 1.0]]
    """
    n, r = X.shape
    coded = recoding(X, terms, factors, np.zeros(n) if y is None else y, counts)
    if coded.contrasts:
        X = X @ coded.T
    constant = constant_in(X)
    W, columns = np.eye(r), np.array(X, dtype=float)
    if n == 0:
        return Anchor(W=W, columns=columns, constant=constant)
    means = mean(X, counts) if constant.any() else np.zeros(r)
    root = None if counts is None else np.sqrt(counts)
    plain = [_two_valued(x) or j in coded.contrasts for j, x in enumerate(X.T)]
    for j in np.flatnonzero(constant == 0).tolist():
        below = [k for k in range(r) if k != j and _contains(terms[j], terms[k], plain[j] or plain[k], k < j)]
        weights, rest = _cleared(X[:, j] - means[j], X[:, below] - means[below], root)
        W[below, j] -= weights
        W[:, j] -= constant * (means[j] - weights @ means[below])
        columns[:, j] = rest
    return Anchor(W=coded.T @ W, columns=columns, constant=coded.T @ constant, contrasts=coded.contrasts, counts=counts)


def as_written(X: np.ndarray, counts: np.ndarray | None = None) -> Anchor:
    """Priors stated for the coefficients themselves."""
    return Anchor(W=np.eye(X.shape[1]), columns=X, constant=constant_in(X), counts=counts)


def spread_of(x: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Standard deviation, or 1 where there is none to speak of."""
    sd = deviation(x, counts)
    return sd if sd > 0 and np.isfinite(sd) else 1.0


def is_indicator(x: np.ndarray) -> bool:
    """Whether a column holds zeros and ones."""
    return bool(np.isin(x, (0.0, 1.0)).all())


def constant_in(X: np.ndarray) -> np.ndarray:
    """Coefficients c with X c = 1 on a constant, or on indicators; zeros where there are none such.

    Examples
    --------
    >>> constant_in(np.array([[1.0, 0, 7], [0, 1, 8], [0, 1, 9]])).tolist()
    [1.0, 1.0, 0.0]
    """
    none = np.zeros(X.shape[1])
    if X.size == 0:
        return none
    for j, x in enumerate(X.T):
        if is_constant(x):
            none[j] = 1 / x[0]
            return none
    marks = [j for j, x in enumerate(X.T) if x.any() and is_indicator(x)]
    if not marks:
        return none
    c = np.linalg.lstsq(X[:, marks], np.ones(len(X)), rcond=None)[0]
    c = np.where(np.abs(c) > 1e-8, np.round(c, 12), 0.0)
    if np.abs(X[:, marks] @ c - 1).max() < 1e-8:
        none[marks] = c
    return none


def _contains(one: Term, other: Term, plain: bool, earlier: bool) -> bool:
    """Whether a term's column is to be cleared of another: of a term within it, or of a lower power.

    `plain` says that one of the two is no power: it has two values, or is a contrast of categories.
    """
    (term, variables), (other_term, other_variables) = one, other
    if not other_variables or not other_variables <= variables:
        return False
    if term == other_term:
        return earlier and len(variables) == 1 and not plain
    return other_variables < variables or earlier


def _two_valued(x: np.ndarray) -> bool:
    return bool(((x == x.min()) | (x == x.max())).all())


def _cleared(x: np.ndarray, others: np.ndarray, root: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(weights, rest) of the regression of x on other columns, twice for the last digits.

    `root` has the roots of the rows' counts.
    """
    weights, rest = np.zeros(others.shape[1]), x.copy()
    if others.shape[1] == 0:
        return weights, rest
    whole = scaled(others, root)
    size = np.sqrt(np.einsum("ij,ij->j", whole, whole))
    size = np.where(size > 0, size, 1.0)
    for _ in range(2):
        more = np.linalg.lstsq(whole / size, scaled(rest, root), rcond=1e-10)[0] / size
        weights, rest = weights + more, rest - others @ more
    if np.linalg.norm(scaled(rest, root)) < 1e-9 * np.linalg.norm(
        scaled(x, root)
    ):  # nothing is left that the column adds: keep it as it is
        return np.zeros(others.shape[1]), x.copy()
    return weights, rest
