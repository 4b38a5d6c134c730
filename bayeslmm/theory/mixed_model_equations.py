r"""Everything known but beta and u: Henderson's mixed-model equations.

With G, K and R given, relative to sigma^2, the joint density of y, u2, u3 (`joint_logpdf`) is a
quadratic in beta and u, and its maximum solves

    [ X'R^-1 X        X'R^-1 Z      ] [ beta ]   [ X'R^-1 y ]
    [ Z'R^-1 X   Z'R^-1 Z + G^-1    ] [  u   ] = [ Z'R^-1 y ]

where three levels are two levels with ``Z = [Z W]``, ``u = [u2; u3]``, ``G = blockdiag(G, K)``. Its beta is GLS, its
u is the BLUP, and sigma^2 times the inverse of the coefficient matrix is the posterior covariance of (beta, u) under
a flat prior on beta. A Gaussian prior beta ~ N(b0, S0) adds sigma^2 S0^-1 to the first block, and sigma^2 S0^-1 b0
to the right-hand side. `henderson` says how they are solved.

Sources: Henderson, Kempthorne, Searle & von Krosigk (1959), Biometrics 15, 192-218; Henderson (1975), Biometrics 31,
423-447; Robinson (1991), Statistical Science 6, 15-32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.collinear import dependencies
from bayeslmm.design.labelled_matrix import LabelledMatrix
from bayeslmm.errors import DataError, PriorError
from bayeslmm.support.arguments import check_flag
from bayeslmm.support.text import format_column
from bayeslmm.theory.given_matrices import (
    Covariance,
    Given,
    dense,
    order_rows,
    places_of,
    read_covariance,
    read_matrix,
    read_vector,
)
from bayeslmm.theory.henderson import Known, Solution, solve

_SHOWN = 12  # effects of a term that a repr shows
_SDS = 500  # effects up to which a repr works out the SDs


def mixed_model_equations(
    y,
    X,
    Z,
    G,
    R=None,
    *,
    sigma2: float | None = None,
    reml: bool = True,
    prior_mean=None,
    prior_cov=None,
) -> MixedModelEquations:
    """Solve Henderson's mixed-model equations: beta and u, with everything else known.

    Parameters
    ----------
    y : (n,) array or Series
    X : (n, p) array or DataFrame
    Z : (n, q) array, DataFrame, scipy.sparse matrix or LabelledMatrix, or a list of them, one per level: [Z, W]
    G : (q, q) array, DataFrame, scipy.sparse matrix or LabelledMatrix, or a list of them: [G, K]
        Positive definite, relative to sigma2. When it and Z's columns are labelled, they are matched by label; a
        label that Z lacks (an animal without records) gets a column of zeros, so its effect is predicted too.
    R : (n, n) array or sparse matrix, optional
        Positive definite, relative to sigma2. Identity when left out.
    sigma2 : float, optional
        Residual variance. When left out it is profiled: put at its REML or ML estimate given G, K and R.
    reml : bool
        Whether a profiled sigma2 divides by n - p (REML) or by n (ML). Both are in the result.
    prior_mean : (p,) array or Series, optional
        Zero when left out.
    prior_cov : (p, p) array or DataFrame, optional
        Covariance of a Gaussian prior on beta, in squared units of beta, *not* relative to sigma2. Flat when left
        out. It needs sigma2: the profiled one has no closed form under it.

    Returns
    -------
    MixedModelEquations

    Raises
    ------
    DataError
        When shapes or labels don't fit, a value isn't finite, columns of X depend on each other, or a covariance
        is not symmetric or not positive definite.
    PriorError
        When a prior on beta has a mean but no covariance, or no sigma2 to stand beside.

    Examples
    --------
    Pupils in three classes, the variance between classes being twice that within.

    >>> import bayeslmm as blm
    >>> y = [1.0, 2.0, 4.0, 5.0, 8.0, 9.0]
    >>> X = pd.DataFrame({"Intercept": np.ones(6)})
    >>> Z = pd.get_dummies(list("aabbcc"), dtype=float)
    >>> mme = blm.mixed_model_equations(y, X, Z, 2 * np.eye(3))
    >>> mme
    Henderson's mixed-model equations: 6 rows, 1 fixed effect, 3 random effects
    sigma^2 = 2.27333, profiled (REML); log-likelihood -12.8915, restricted -11.6531
    <BLANKLINE>
                    estimate      sd
    beta Intercept   4.83333  1.3764
    u2 a            -2.66667  1.4566
    u2 b            -0.26667  1.4566
    u2 c             2.93333  1.4566
    >>> mme.C
    4 x 4 sparse matrix, 10 non-zeros (62.5 %)
                   beta Intercept u2 a u2 b u2 c
    beta Intercept              6    2    2    2
    u2 a                        2  2.5    .    .
    u2 b                        2    .  2.5    .
    u2 c                        2    .    .  2.5
    """
    check_flag("reml", reml)
    given = _read(y, X, Z, G, R)
    n, p = given.X.shape
    prior = _read_prior(prior_mean, prior_cov, given.coef)
    if prior is None:
        _check_columns(given.X, given.coef)
        solved = solve(given)
        profiled = {"ML": solved.quadratic / n, "REML": solved.quadratic / (n - p) if n > p else np.nan}
        how = "given" if sigma2 is not None else "REML" if reml else "ML"
        variance = _positive(sigma2) if sigma2 is not None else _profiled(profiled[how], how, given)
    elif sigma2 is None:
        raise PriorError(
            "prior_cov came without sigma2; expected both, because under a Gaussian prior in units of beta the "
            "profiled sigma2 has no closed form. Give sigma2=...; or, for a prior whose covariance is S0 times sigma2, "
            "make the columns a random term: y - X @ prior_mean, an X without columns, Z=[X, Z], G=[S0, G]."
        )
    else:
        variance, how, profiled = _positive(sigma2), "given", {"ML": np.nan, "REML": np.nan}
        solved = solve(given, prior, variance)
    return _result(given, prior, solved, variance, how, profiled)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MixedModelEquations:
    """The equations and their solution; what is asked of it beyond the solution is worked out then.

    Attributes
    ----------
    beta : pandas.Series
        (p,) GLS, or the posterior mean under a Gaussian prior; in units of y per unit of X's column.
    b : pandas.Series
        (q,) the BLUPs of all terms, stacked; labelled (term, label).
    e : pandas.Series
        (n,) residuals y - X beta - Z u.
    sigma2 : float
        Given or profiled.
    sigma2_from : {"given", "REML", "ML"}
    profiled : pandas.Series
        Both estimates of sigma2 given G, K and R: "ML" divides by n, "REML" by n - p. NaN under a Gaussian prior.
    loglik : float
        Log density of y with u integrated out, at `beta` and `sigma2`: `bayeslmm.theory.density.marginal_logpdf`.
    restricted_loglik : float
        The same with beta integrated out too: the restricted likelihood under a flat prior; under a Gaussian one
        the log density of y at `sigma2`.
    given : bayeslmm.theory.henderson.Known
        What the equations were made from, its rows and effects in one order.
    solved : bayeslmm.theory.henderson.Solution
        The solution in the coordinates in which it was found.
    """

    beta: pd.Series
    b: pd.Series
    e: pd.Series
    sigma2: float
    sigma2_from: str
    profiled: pd.Series
    loglik: float
    restricted_loglik: float
    given: Known
    solved: Solution

    @cached_property
    def u(self) -> dict[str, pd.Series]:
        """The BLUPs by term: "u2", "u3", ..., with the labels of its G or Z."""
        cuts = np.cumsum([len(labels) for labels in self.given.labels])[:-1]
        parts = np.split(self.b.to_numpy(), cuts)
        named = zip(self.given.names, parts, self.given.labels, strict=True)
        return {name: pd.Series(part, index=labels, name=name) for name, part, labels in named}

    @property
    def fitted(self) -> pd.Series:
        """X beta + Z u, (n,)."""
        return pd.Series(self.given.y - self.e.to_numpy(), index=self.e.index, name="fitted")

    @cached_property
    def C(self) -> LabelledMatrix:
        """The coefficient matrix (p + q, p + q) as Henderson writes it, with R^-1 and G^-1."""
        from scipy import sparse

        A = sparse.hstack([sparse.csc_array(self.solved.X), sparse.csc_array(self.solved.Z)], format="csc")
        # the inverses are in the equations by definition; they are made here, to be looked at, and not for the solution
        nothing = sparse.csc_array((len(self.beta), len(self.beta)))
        penalty = sparse.block_diag([nothing, *(g.inverse for g in self.given.G)], format="csc")
        C = (A.T @ A + penalty).tocoo()
        # an inverse has rounding where it should have zeros, such as between animals without common offspring
        size = np.sqrt(C.diagonal())
        keep = np.abs(C.data) > 1e-14 * size[C.row] * size[C.col]
        cleaned = sparse.coo_array((C.data[keep], (C.row[keep], C.col[keep])), shape=C.shape).tocsc()
        return LabelledMatrix(cleaned, self.labels, self.labels)

    @cached_property
    def rhs(self) -> pd.Series:
        """The right-hand side (p + q,): X'R^-1 y and Z'R^-1 y, and the prior's part."""
        solved = self.solved
        return pd.Series(np.concatenate([solved.X.T @ solved.y, solved.Z.T @ solved.y]), index=self.labels, name="rhs")

    @property
    def labels(self) -> pd.MultiIndex:
        """Names of the equations: ("beta", column of X), then (term, label)."""
        return pd.MultiIndex.from_tuples(
            [("beta", label) for label in _flat(self.given.coef)] + self.b.index.to_list(), names=["term", "label"]
        )

    @cached_property
    def cov(self) -> pd.DataFrame:
        """Posterior covariance of (beta, u) given sigma2, (p + q, p + q): sigma2 times the inverse of C.

        Read in the other direction it is the covariance of (beta_hat - beta, u_hat - u) over repeated data.
        """
        p = len(self.beta)
        inner = self.solved.covariance()
        # from v to u = L v, the rows and then the columns
        for _ in range(2):
            inner = np.vstack([inner[:p], self.given.lower @ inner[p:]]).T
        return pd.DataFrame(self.sigma2 * (inner + inner.T) / 2, index=self.labels, columns=self.labels)

    @cached_property
    def beta_cov(self) -> pd.DataFrame:
        """Covariance of beta, (p, p): sigma2 (X'V^-1 X)^-1 under a flat prior."""
        root = self.solved.fixed_root
        return pd.DataFrame(self.sigma2 * root @ root.T, index=self.beta.index, columns=self.beta.index)

    @property
    def u_cov(self) -> pd.DataFrame:
        """Prediction error covariance Var(u - u_hat) of all terms, (q, q), labelled as `b`."""
        p = len(self.beta)
        inner = self.cov.to_numpy()[p:, p:]
        return pd.DataFrame(inner, index=self.b.index, columns=self.b.index)

    @property
    def reliability(self) -> pd.Series:
        """Squared correlation of u and u_hat, (q,): 1 - Var(u - u_hat) / Var(u)."""
        prior = self.sigma2 * np.concatenate([g.values.diagonal() for g in self.given.G])
        return pd.Series(1 - np.diag(self.u_cov) / prior, index=self.b.index, name="reliability")

    def __repr__(self) -> str:
        return _text(self)


# what came ----------------------------------------------------------------------------------------------------


def _read(y, X, Z, G, R) -> Known:
    covariances = [read_covariance(given, name) for given, name in zip(*_listed(G, "G"), strict=True)]
    matrices = [read_matrix(given, name) for given, name in zip(*_listed(Z, "Z"), strict=True)]
    if len(matrices) != len(covariances):
        raise DataError(f"Z has {len(matrices)} matrices and G has {len(covariances)}; expected one G for each Z.")
    sides = [read_vector(y, "y"), read_matrix(X, "X"), *matrices]
    n = sides[0].shape[0]
    for side in sides:
        if side.shape[0] != n:
            raise DataError(f"{side.name} has {side.shape[0]} rows; expected {n}, as y has.")
    rows, where = next(((side.rows, side.name) for side in sides if side.rows is not None), (None, ""))
    response, fixed, *matrices = (order_rows(side, rows, where) for side in sides)
    pairs = [_match(z, g) for z, g in zip(matrices, covariances, strict=True)]
    return Known(
        y=response.values,
        X=dense(fixed.values),
        Z=tuple(z for z, _ in pairs),
        G=tuple(covariances),
        R=None if R is None else read_covariance(R, "R", n, rows, where or "y"),
        rows=pd.RangeIndex(n) if rows is None else rows,
        coef=pd.RangeIndex(fixed.shape[1]) if fixed.columns is None else fixed.columns,
        labels=tuple(labels for _, labels in pairs),
    )


def _listed(given: Any, name: str) -> tuple[list, list[str]]:
    """Return the matrices of all terms, and what to call them."""
    if not isinstance(given, (list, tuple)) or (len(given) and np.ndim(given[0]) == 1):
        return [given], [name]  # [[1.0]] is one matrix, written as a list
    if not given:
        raise DataError(f"{name} is empty; expected a matrix, or a list of one matrix per level.")
    return list(given), [f"{name}[{k}]" for k in range(len(given))]


def _match(Z: Given, G: Covariance) -> tuple[Any, pd.Index]:
    """Return Z with its columns in the order of G, and the labels of the effects."""
    q = G.values.shape[0]
    if Z.columns is None or G.labels is None:
        if Z.shape[1] != q:
            raise DataError(
                f"{Z.name} has {Z.shape[1]} columns and its G is {q} x {q}; expected one row of G for each column. "
                "With labels on both, G may have more."
            )
        labels = G.labels if G.labels is not None else Z.columns
        return Z.values, pd.RangeIndex(q) if labels is None else labels
    if Z.columns.equals(G.labels):
        return Z.values, G.labels
    from scipy.sparse import csr_array

    k = Z.shape[1]
    places = places_of(Z.columns, G.labels, f"the columns of {Z.name}", "its G")
    selection = csr_array((np.ones(k), (np.arange(k), places)), shape=(k, q))
    return Z.values @ selection, G.labels


def _read_prior(mean: Any, cov: Any, coef: pd.Index) -> tuple[np.ndarray, Covariance] | None:
    """Mean and covariance of the Gaussian prior on beta in the order of X's columns; None for a flat one."""
    if cov is None:
        if mean is not None:
            raise PriorError("prior_mean came without prior_cov; expected both, or neither for a flat prior on beta.")
        return None
    p = len(coef)
    m = read_vector(np.zeros(p) if mean is None else mean, "prior_mean")
    if m.shape[0] != p:
        raise DataError(f"prior_mean has {m.shape[0]} entries; expected {p}, one per column of X.")
    return order_rows(m, coef, "X").values, read_covariance(cov, "prior_cov", p, coef, "X")


def _check_columns(X: np.ndarray, coef: pd.Index) -> None:
    n, p = X.shape
    if p > n:
        raise DataError(f"X has {p} columns and {n} rows; expected no more columns than rows, or a Gaussian prior.")
    found = dependencies(X, tuple(_flat(coef)))
    if found:
        raise DataError(
            f"Columns of X depend on each other: {'; '.join(found)}. Expected columns of which none is a combination "
            "of the others; take one out, or give beta a Gaussian prior."
        )


def _positive(sigma2: Any) -> float:
    if not isinstance(sigma2, (int, float, np.integer, np.floating)) or not 0 < sigma2 < np.inf:
        raise DataError(f"sigma2 is {sigma2!r}; expected a positive number, the residual variance.")
    return float(sigma2)


def _profiled(value: float, how: str, given: Known) -> float:
    n, p = given.X.shape
    if how == "REML" and n == p:
        raise DataError(f"X has as many columns as rows ({n}), so nothing is left to profile sigma2; give sigma2=...")
    if not value > (n * np.finfo(float).eps) ** 2 * float(given.y @ given.y):
        raise DataError("X fits y exactly, so the profiled sigma2 is zero; give sigma2=...")
    return value


def _result(
    given: Known,
    prior: tuple[np.ndarray, Covariance] | None,
    solved: Solution,
    sigma2: float,
    how: str,
    profiled: dict[str, float],
) -> MixedModelEquations:
    n, p = given.X.shape
    loglik = -0.5 * (n * np.log(2 * np.pi * sigma2) + solved.logdet_V + solved.quadratic / sigma2)
    if prior is None:
        integrated = loglik + 0.5 * (p * np.log(2 * np.pi * sigma2) - solved.logdet_P)
    else:
        logdet = solved.logdet_P + prior[1].logdet - p * np.log(sigma2)  # of I + (S0 / sigma2) X'V^-1 X
        integrated = loglik - 0.5 * (logdet + solved.quadratic_prior / sigma2)
    names = [(name, label) for name, labels in zip(given.names, given.labels, strict=True) for label in _flat(labels)]
    at = np.cumsum([len(labels) for labels in given.labels])[:-1]
    effects = sum((z @ u for z, u in zip(given.Z, np.split(solved.u, at), strict=True)), np.zeros(n))
    return MixedModelEquations(
        beta=pd.Series(solved.beta, index=given.coef, name="beta"),
        b=pd.Series(solved.u, index=pd.MultiIndex.from_tuples(names, names=["term", "label"]), name="b"),
        e=pd.Series(given.y - given.X @ solved.beta - effects, index=given.rows, name="e"),
        sigma2=sigma2,
        sigma2_from=how,
        profiled=pd.Series(profiled, name="sigma2"),
        loglik=float(loglik),
        restricted_loglik=float(integrated),
        given=given,
        solved=solved,
    )


def _flat(labels: pd.Index) -> list:
    """Labels as they are; those of several parts as one text."""
    return [" ".join(map(str, label)) for label in labels] if isinstance(labels, pd.MultiIndex) else labels.to_list()


def _text(mme: MixedModelEquations) -> str:
    n, p, q = len(mme.e), len(mme.beta), len(mme.b)
    how = "given" if mme.sigma2_from == "given" else f"profiled ({mme.sigma2_from})"
    effects = [f"{p} fixed effect{'' if p == 1 else 's'}", f"{q} random effect{'' if q == 1 else 's'}"]
    head = f"Henderson's mixed-model equations: {n} rows, {effects[0]}, {effects[1]}"
    fit = f"sigma^2 = {mme.sigma2:.6g}, {how}; log-likelihood {mme.loglik:.6g}, restricted {mme.restricted_loglik:.6g}"
    estimate = pd.concat([mme.beta.set_axis(mme.labels[:p]), mme.b])
    sd = np.sqrt(np.diag(mme.cov if q <= _SDS else mme.beta_cov))
    sd = np.pad(sd, (0, p + q - len(sd)), constant_values=np.nan)
    shown = np.flatnonzero(estimate.groupby(level=0, sort=False).cumcount() < _SHOWN)
    table = pd.DataFrame({"estimate": format_column(estimate.iloc[shown]), "sd": format_column(sd[shown])}).replace(
        "nan", ""
    )
    table.index = [f"{term} {label}" for term, label in estimate.index[shown]]
    more = f"\n... {p + q - len(shown)} effects more" if len(shown) < p + q else ""
    return f"{head}\n{fit}\n\n{table.to_string()}{more}"
