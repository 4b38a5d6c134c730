"""The two densities of the textbook, and what makes them one model: the tests' oracle is tested first."""

from __future__ import annotations

import numpy as np
import pytest
from exact import lift, mp, mpf
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import BY_NAME, factors, relative_G
from scipy import stats as scipy_stats
from scipy.integrate import quad
from scipy.linalg import block_diag

from bayeslmm.lmm import LMM
from bayeslmm.theory.density import conditional_moments, joint_logpdf, marginal_logpdf

NAMES = ["tiny", "unbalanced", "slope", "nested in three", "crossed", "nested and crossed with slopes"]


def parts(name: str, seed: int = 3):
    """(y, X, [Z2, Z3, ...], beta, sigma^2, [G, K, ...]) of one design."""
    design = BY_NAME[name].lmm().design
    rng = np.random.default_rng(seed)
    lambdas = factors(design.levels, rng.uniform(0.3, 2.0, len(design.levels)))
    Z = [level.Z.toarray() for level in design.levels]
    return design.y, design.X, Z, rng.normal(size=design.p), 0.6, relative_G(design.levels, lambdas)


# The densities are those of the multivariate normal


@pytest.mark.parametrize("name", NAMES)
def test_marginal_is_the_normal_of_the_formula(name):
    y, X, Z, beta, s2, G = parts(name)
    V = np.eye(y.size) + sum(z @ g @ z.T for z, g in zip(Z, G, strict=True))
    expected = scipy_stats.multivariate_normal(X @ beta, s2 * V).logpdf(y)
    assert marginal_logpdf(y, X, Z, beta, s2, G) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_joint_is_the_residuals_times_the_effects(name):
    y, X, Z, beta, s2, G = parts(name)
    rng = np.random.default_rng(4)
    u = [rng.normal(size=g.shape[0]) for g in G]
    e = y - X @ beta - sum(z @ v for z, v in zip(Z, u, strict=True))
    expected = scipy_stats.norm(0, np.sqrt(s2)).logpdf(e).sum() + sum(
        scipy_stats.multivariate_normal(np.zeros(len(v)), s2 * g).logpdf(v) for v, g in zip(u, G, strict=True)
    )
    assert joint_logpdf(y, X, Z, beta, u, s2, G) == pytest.approx(expected, rel=1e-12)


def test_the_residual_covariance_R_counts_in_both():
    y, X, Z, beta, s2, G = parts("tiny")
    R = np.diag([1.0, 2.0, 0.5, 3.0]) + 0.2
    V = R + Z[0] @ G[0] @ Z[0].T
    expected = scipy_stats.multivariate_normal(X @ beta, s2 * V).logpdf(y)
    assert marginal_logpdf(y, X, Z, beta, s2, G, R) == pytest.approx(expected)
    u = [np.array([0.3, -0.4])]
    conditional = scipy_stats.multivariate_normal(X @ beta + Z[0] @ u[0], s2 * R).logpdf(y)
    prior = scipy_stats.multivariate_normal([0, 0], s2 * G[0]).logpdf(u[0])
    assert joint_logpdf(y, X, Z, beta, u, s2, G, R) == pytest.approx(conditional + prior)


# One model


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_candidates_identity(name, data):
    """joint(y, u) = marginal(y) p(u | y) for every u, likely or not: exact, without sampling."""
    y, X, Z, beta, s2, G = parts(name)
    q = sum(g.shape[0] for g in G)
    u = np.array(data.draw(st.lists(st.floats(-20, 20), min_size=q, max_size=q)))
    mean, cov = conditional_moments(y, X, Z, beta, s2, G)
    posterior = scipy_stats.multivariate_normal(mean, cov).logpdf(u)
    joint = joint_logpdf(y, X, np.hstack(Z), beta, u, s2, block_diag(*G))
    assert joint == pytest.approx(marginal_logpdf(y, X, Z, beta, s2, G) + posterior, rel=1e-10)


@pytest.mark.parametrize("name", ["nested in three", "crossed", "nested and crossed with slopes"])
def test_more_levels_are_two_levels_with_wider_Z(name):
    """[Z W] with blockdiag(G, K): one likelihood for any number of levels."""
    y, X, Z, beta, s2, G = parts(name)
    u = [np.random.default_rng(k).normal(size=g.shape[0]) for k, g in enumerate(G)]
    wide = (np.hstack(Z), block_diag(*G))
    assert joint_logpdf(y, X, Z, beta, u, s2, G) == pytest.approx(
        joint_logpdf(y, X, wide[0], beta, np.concatenate(u), s2, wide[1]), rel=1e-13
    )
    assert marginal_logpdf(y, X, Z, beta, s2, G) == pytest.approx(
        marginal_logpdf(y, X, wide[0], beta, s2, wide[1]), rel=1e-13
    )
    for listed, stacked in zip(
        conditional_moments(y, X, Z, beta, s2, G),
        conditional_moments(y, X, wide[0], beta, s2, wide[1]),
        strict=True,
    ):
        np.testing.assert_allclose(listed, stacked, rtol=1e-12, atol=1e-14)


def test_the_three_level_formula_written_out():
    """The thread's formula for three levels, with the third level in the residual and the log in place."""
    y, X, (Z, W), beta, s2, (G, K) = parts("nested")
    rng = np.random.default_rng(5)
    u2, u3 = rng.normal(size=G.shape[0]), rng.normal(size=K.shape[0])
    e = y - X @ beta - Z @ u2 - W @ u3
    n, q, k = y.size, u2.size, u3.size
    joint = -0.5 * (n + q + k) * np.log(2 * np.pi * s2) - 0.5 * np.log(np.linalg.det(G) * np.linalg.det(K))
    joint -= (u2 @ np.linalg.inv(G) @ u2 + u3 @ np.linalg.inv(K) @ u3 + e @ e) / (2 * s2)
    assert joint_logpdf(y, X, [Z, W], beta, [u2, u3], s2, [G, K]) == pytest.approx(joint, rel=1e-12)
    V = Z @ G @ Z.T + W @ K @ W.T + np.eye(n)
    r = y - X @ beta
    marginal = -0.5 * (n * np.log(2 * np.pi * s2) + np.log(np.linalg.det(V)) + r @ np.linalg.inv(V) @ r / s2)
    assert marginal_logpdf(y, X, [Z, W], beta, s2, [G, K]) == pytest.approx(marginal, rel=1e-12)


def test_the_marginal_is_the_integral_of_the_joint():
    """With one group, over its one effect, by quadrature."""
    y, X, Z, G = np.array([0.5, 1.4, -0.3]), np.ones((3, 1)), np.ones((3, 1)), np.array([[1.7]])

    def joint(u):
        return np.exp(joint_logpdf(y, X, Z, [0.2], [u], 0.8, G))

    integral, _ = quad(joint, -15, 15, epsabs=1e-14, epsrel=1e-12)
    assert np.log(integral) == pytest.approx(marginal_logpdf(y, X, Z, [0.2], 0.8, G), abs=1e-10)


# What the conditional moments are


@pytest.mark.parametrize("name", NAMES)
def test_the_joint_is_highest_at_gls_and_blup(name):
    """Henderson: the (beta, u) that maximise the joint are the GLS of the marginal and the BLUP at it."""
    y, X, Z, _, s2, G = parts(name)
    wide, whole = np.hstack(Z), block_diag(*G)
    p = X.shape[1]
    A = np.hstack([X, wide])
    equations = A.T @ A
    equations[p:, p:] += np.linalg.inv(whole)
    solution = np.linalg.solve(equations, A.T @ y)
    V = np.eye(y.size) + wide @ whole @ wide.T
    gls = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    blup, _ = conditional_moments(y, X, Z, gls, s2, G)
    np.testing.assert_allclose(solution, [*gls, *blup], rtol=1e-8, atol=1e-10)
    highest = joint_logpdf(y, X, wide, gls, blup, s2, whole)
    rng = np.random.default_rng(6)
    for _ in range(20):
        near = solution + 0.01 * rng.normal(size=solution.size)
        assert joint_logpdf(y, X, wide, near[:p], near[p:], s2, whole) < highest


def test_the_same_marginal_from_two_models():
    """A random intercept, and compound symmetry in R without one: the data cannot tell them apart."""
    y, X, Z, beta, s2, _ = parts("unbalanced")
    tau2 = 0.7
    intercept = marginal_logpdf(y, X, Z[0], beta, s2, tau2 * np.eye(Z[0].shape[1]))
    symmetric = np.eye(y.size) + tau2 * Z[0] @ Z[0].T
    nothing = marginal_logpdf(y, X, np.zeros((y.size, 1)), beta, s2, np.eye(1), symmetric)
    assert intercept == pytest.approx(nothing, rel=1e-13)


# Forms of the arguments


def test_sparse_labelled_and_dense_matrices_are_one(heights3: LMM):
    theta = [1.5, 0.5]
    dense = [level.Z.toarray() for level in heights3.design.levels]
    G = [1.5**2 * np.eye(6), 0.5**2 * np.eye(2)]
    args = (heights3.design.y, heights3.design.X)
    expected = marginal_logpdf(*args, dense, [5.0], 0.3, G)
    assert marginal_logpdf(*args, heights3.design.Z, [5.0], 0.3, block_diag(*G)) == pytest.approx(expected, rel=1e-13)
    labelled = marginal_logpdf(heights3.y, heights3.X, heights3.Z.matrix, [5.0], 0.3, heights3.G(theta).matrix)
    assert labelled == pytest.approx(expected, rel=1e-13)


def test_the_dense_formulas_at_forty_digits():
    """The oracle itself, against a determinant and an inverse of 40 digits."""
    y, X, Z, beta, s2, G = parts("slope")
    V = lift(np.eye(y.size)) + lift(Z[0]) @ lift(G[0]) @ lift(Z[0]).T
    r = lift(y) - lift(X) @ lift(beta)
    matrix = mp.matrix(V.tolist())
    inverse = np.array((matrix**-1).tolist(), dtype=object).reshape(V.shape)
    exact = -(y.size * mp.log(2 * mp.pi * mpf(s2)) + mp.log(mp.det(matrix)) + r @ inverse @ r / mpf(s2)) / 2
    assert abs(marginal_logpdf(y, X, Z, beta, s2, G) - exact) < 1e-12 * abs(exact)
