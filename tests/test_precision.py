"""Next to perfect fits, where variance ratios are of 1e7 and more: the digits of 40, or a word that they are not there.

Designs are those in which `python -m tests.odd_designs` found the log-likelihood off by 0.001 to 7.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from exact import forward_solve, lift, lower_root
from odd_designs.checks import dense
from odd_designs.designs import OddDesign

import bayeslmm as blm
from bayeslmm.factorisation.conditioning import PIECE, in_span, make_basis, orthonormalise, positive_qr
from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.likelihood.least_squares import least_squares
from bayeslmm.likelihood.leftover import leftover
from bayeslmm.likelihood.precision import rounding

NEAR = {"duplicated": False, "outcome": "groups alone", "scale": 1.0, "w": "sparse", "seed": 6}
# What makes the difference small -> the design
DESIGNS = {
    "fixed part within the effects": {
        "rows": 6, "fixed": "0 + f", "terms": "slopes alone", "grouping": "even", "x": "far",
    },
    "one grouping twice": {"rows": 6, "fixed": "0 + f", "terms": "twice the same", "grouping": "even", "x": "sparse"},
    "slopes twice": {
        "rows": 8, "fixed": "0 + f", "terms": "slopes twice", "grouping": "one large", "x": "far",
        "w": "binary", "seed": 8,
    },
    "three columns, two of them effects": {
        "rows": 16, "fixed": "x + I(x ** 2)", "terms": "slopes alone", "grouping": "one large", "x": "sparse",
        "w": "normal", "seed": 16, "duplicated": True,
    },
    "a factor's effects": {
        "rows": 12, "fixed": "f", "terms": "a factor", "grouping": "even", "x": "times 1e-9", "w": "years", "seed": 87,
    },
    "effects in the fixed part, crossed": {
        "rows": 8, "fixed": "x + w", "terms": "crossed slopes", "grouping": "one large", "x": "years",
        "w": "of x", "seed": 8,
    },
    "columns that are the effects' in each group": {
        "rows": 16, "fixed": "f + x", "terms": "slope alone", "grouping": "even", "x": "constant in groups", "w": "far",
        "outcome": "effects", "duplicated": True, "seed": 1578,
    },
    "a square at 1e6": {
        "rows": 8, "fixed": "x + I(x ** 2)", "terms": "two slopes", "grouping": "random", "x": "far",
        "w": "constant in groups", "outcome": "integers", "duplicated": True, "seed": 4000,
    },
    "nearly constant within groups": {
        "rows": 9, "fixed": "x + w", "terms": "twice the same", "grouping": "random", "x": "of groups, nearly",
        "w": "normal", "outcome": "integers", "duplicated": True, "seed": 9,
    },
}  # fmt: skip


def model_of(design: str) -> blm.LMM:
    case = OddDesign(**NEAR | DESIGNS[design])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "w is left out")
        return blm.LMM(case.formula, case.table())


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("design", DESIGNS)
def test_the_value_at_the_optimum_is_that_of_40_digits_or_called_imprecise(design, reml):
    lmm = model_of(design)
    fit = lmm.reml() if reml else lmm.ml()
    exact = dense(lmm).likelihood(fit.lambdas, reml).loglik
    if fit.status.name == "perfect fit":
        return
    if "is right to about" in fit.status.advice:
        assert abs(fit.loglik - exact) < 3 * fit.optimum.rounding
    else:
        assert abs(fit.loglik - exact) < 2e-6


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("size", [1.0, 1e4, 1e6])
def test_what_rounding_may_change_is_no_less_than_what_it_does(design, size):
    lmm = model_of(design)
    criterion, oracle = Criterion(stats=lmm.statistics, reml=True), dense(lmm)
    phi = np.where(criterion.diagonal, size, 0.3 * size)
    lam = criterion.lams(phi[None])[0]
    parts = zip(lmm.design.levels, lmm.statistics.maps, lmm.statistics.lambda_slices, strict=True)
    lambdas = [np.linalg.solve(M, lam[at].reshape(level.r, level.r)) for level, M, at in parts]
    exact = oracle.likelihood(lambdas, True)
    if not exact.sigma > 1e-7 * lmm.statistics.scale:
        return
    error = abs(criterion.at(phi) + 2 * exact.loglik)
    # solving for lambda costs digits of its own where x is far from zero
    assert error < 1e-7 + 5 * rounding(criterion, phi) + 1e-13 * oracle.condition


FAR = {"duplicated": False, "x": "far", "scale": 1.0}
ROUNDED = {
    "two terms": {
        "rows": 7, "fixed": "1 + x", "terms": "slope apart", "grouping": "even", "w": "counts", "seed": 7,
        "outcome": "groups alone", "duplicated": True,
    },
    "a gradient that overflows": {
        "rows": 6, "fixed": "x + I(x ** 2)", "terms": "nested slopes", "grouping": "one large", "w": "of x",
        "outcome": "two values", "seed": 2514,
    },
}  # fmt: skip


@pytest.mark.parametrize("design", ROUNDED)
def test_a_fit_is_called_perfect_where_the_rows_say_so(design):
    """At variance ratios of 1e26 sigma is rounding, whatever the rows are."""
    case = OddDesign(**FAR | ROUNDED[design])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "w is left out")
        lmm = blm.LMM(case.formula, case.table())
    stats = lmm.statistics
    whole = np.column_stack([stats.Q, lmm.design.Z.toarray()])
    whole = whole / np.linalg.norm(whole, axis=0)
    y = lmm.design.y - stats.Q @ (stats.Q.T @ lmm.design.y)
    left = np.linalg.norm(y - whole @ np.linalg.lstsq(whole, y, rcond=1e-13)[0]) / np.linalg.norm(y)
    assert leftover(stats) == pytest.approx(left, rel=1e-3, abs=1e-8)
    for fit in (lmm.ml(), lmm.reml()):
        assert (fit.status.name == "perfect fit") <= (left < 2e-6)
        if left > 2e-6:
            reml = fit.method == "REML"
            oracle = dense(lmm)
            best = max(oracle.likelihood(oracle.factors(theta), reml).loglik for theta in oracle.search(reml))
            assert fit.loglik > best - 1e-5


def test_least_squares_lose_no_more_than_t_has_lost():
    """Of a P of condition 1e10 and a residual of 1e-9 of y: the residual to five digits, not to none."""
    rng = np.random.default_rng(3)
    Q = np.linalg.qr(rng.normal(size=(40, 3)))[0]
    columns = Q * [1.0, 1e-3, 1.0]
    columns[:, 2] = columns[:, 0] + 1e-5 * columns[:, 2]
    y = columns @ [3.0, 1e3, 2.0] + 1e-5 * rng.normal(size=40)
    W = lift(np.column_stack([columns, y]))
    T = W.T @ W
    L = lower_root(T)
    found = least_squares(T.astype(float))
    assert found.rss == pytest.approx(float(L[3, 3] ** 2), rel=1e-4)
    beta = forward_solve(L[:3, :3].T[::-1, ::-1], L[3, :3][::-1, None])[::-1, 0].astype(float)
    np.testing.assert_allclose(found.coefficients, beta, rtol=1e-4)
    np.testing.assert_allclose(found.inverse @ T[:3, :3].astype(float), np.eye(3), atol=1e-3)
    assert found.logdet == pytest.approx(float(2 * sum(np.log(float(x)) for x in np.diag(L)[:3])), abs=1e-5)


def test_a_column_is_in_the_span_of_a_level_that_combines_otherwise_in_each_group():
    """w is 2 + x in one group, 5 - 3 x in the next, and a curve in the last."""
    x = np.tile(np.arange(5.0), 3)
    g = np.repeat(["a", "b", "c"], 5)
    w = np.where(g == "a", 2 + x, np.where(g == "b", 5 - 3 * x, 7.0 * x))
    curve = np.where(g == "c", x**2, w)
    lmm = blm.LMM("y ~ w + curve + (x | g)", {"y": np.cos(np.arange(15.0)), "x": x, "w": w, "curve": curve, "g": g})
    level = lmm.design.levels[0]
    candidates = np.column_stack([np.ones(15), x, w, curve, 1e9 + x])
    assert in_span(level, level.columns, candidates).tolist() == [True, True, True, False, True]
    assert in_span(level, level.columns[:, :1], candidates).tolist() == [True, False, False, False, False]
    assert lmm.statistics.winspan.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("condition", [1.0, 1e10])
@pytest.mark.parametrize("p", [3, PIECE, 3 * PIECE + 5])
def test_columns_are_made_orthonormal_piece_by_piece_as_at_once(p, condition):
    """As by Householder's QR, whatever the condition; R's digits are those that the condition leaves."""
    rng = np.random.default_rng(7)
    columns = rng.normal(size=(4 * p + 10, p))
    columns[:, -1] = columns[:, 0] + columns[:, -1] / condition
    Q = np.asfortranarray(columns)
    R = orthonormalise(Q)
    np.testing.assert_allclose(Q.T @ Q, np.eye(p), atol=1e-14 * p)
    np.testing.assert_allclose(Q @ R, columns, atol=1e-14 * p)
    np.testing.assert_allclose(R, positive_qr(columns)[1], atol=1e-13 * p)
    assert (np.diag(R) > 0).all()
    assert not np.tril(R, -1).any()


@pytest.mark.parametrize("intercept_first", [True, False])
@pytest.mark.parametrize("shift", [0.0, 1e6, 1e7])
def test_the_basis_of_a_polynomial_is_its_own_wherever_zero_is(shift, intercept_first):
    """Q spans 1, x and x^2 to 12 digits though x^2 is constant to 12 digits; [X y] = W [upper gamma; 0 scale]."""
    x = shift + np.tile(np.arange(8.0), 3)
    y = 1e5 + np.sin(np.arange(24.0))
    g = np.repeat(np.arange(3), 8)
    lmm = blm.LMM(f"y ~ x + I(x ** 2) + ({'1' if intercept_first else '0 + x'} | g)", {"y": y, "x": x, "g": g})
    design = lmm.design
    basis = make_basis(design.X, y, design.levels)
    Q = basis.W[:, :-1]
    # centred by hand: the same span
    z = lift(np.tile(np.arange(8.0), 3))
    exact = np.column_stack([lift(np.ones(24)), z, z**2])
    L = lower_root(exact.T @ exact)
    orthonormal = forward_solve(L, exact.T).T
    rest = lift(Q) - orthonormal @ (orthonormal.T @ lift(Q))
    assert np.abs(rest.astype(float)).max() < 1e-15 * (1 + shift)
    np.testing.assert_allclose(Q.T @ Q, np.eye(3), atol=1e-13)
    np.testing.assert_allclose(Q @ basis.upper, design.X, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(Q @ basis.gamma + basis.scale * basis.W[:, -1], y, rtol=1e-12)
