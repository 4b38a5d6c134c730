"""Henderson's equations: the maximum of the joint, GLS and BLUP, and the posterior given everything else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pedigree import relationship, relationship_inverse
from registry import BY_NAME, CASES, factors, relative_G
from scipy import sparse
from scipy import stats as scipy_stats
from scipy.linalg import block_diag

import bayeslmm as blm
from bayeslmm.errors import DataError, DescriptionError, PriorError
from bayeslmm.theory.density import conditional_moments, joint_logpdf, marginal_logpdf
from bayeslmm.theory.given_matrices import read_covariance

NAMES = [case.name for case in CASES]


def ar1(n: int, rho: float) -> np.ndarray:
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def random_covariance(q: int, rng) -> np.ndarray:
    """Positive definite, with correlations of either sign."""
    A = rng.normal(size=(q, q + 2))
    return A @ A.T / q


def problem(name: str, kind: str = "blocks", seed: int = 3):
    """(y, X, [Z, W, ...], [G, K, ...], R) of a design: I (x) lambda lambda', or any G with any R."""
    design = BY_NAME[name].lmm().design
    rng = np.random.default_rng(seed)
    G = relative_G(design.levels, factors(design.levels, rng.uniform(0.3, 2.0, len(design.levels))))
    R = None
    if kind == "full":
        G = [random_covariance(level.q, rng) for level in design.levels]
        R = ar1(design.n, -0.6)
    return design.y, design.X, [level.Z for level in design.levels], G, R


def literal(y, X, Z, G, R, s2, mean=None, S0=None):
    """Everything from V: GLS, BLUP, covariance of (beta, u), log-likelihoods; `S0` a Gaussian prior."""
    n = len(y)
    Z, G = np.hstack([z.toarray() for z in Z]), block_diag(*G)
    V = Z @ G @ Z.T + (np.eye(n) if R is None else R)
    Vi = np.linalg.inv(V)
    P = X.T @ Vi @ X + (0 if S0 is None else s2 * np.linalg.inv(S0))
    c = X.T @ Vi @ y + (0 if S0 is None else s2 * np.linalg.solve(S0, mean))
    beta = np.linalg.solve(P, c)
    u = G @ Z.T @ Vi @ (y - X @ beta)
    # law of total variance: u given beta, and what u moves when beta does
    A = -G @ Z.T @ Vi @ X
    Pi = np.linalg.inv(P)
    cov = s2 * np.block([[Pi, Pi @ A.T], [A @ Pi, G - G @ Z.T @ Vi @ Z @ G + A @ Pi @ A.T]])
    return V, beta, u, cov


# Equalities


@pytest.mark.parametrize("kind", ["blocks", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_beta_is_gls_u_is_the_blup_and_the_inverse_their_covariance(name, kind):
    y, X, Z, G, R = problem(name, kind)
    mme = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7)
    V, beta, u, cov = literal(y, X, Z, G, R, 0.7)
    np.testing.assert_allclose(mme.beta, beta, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(mme.b, u, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(mme.cov, cov, rtol=1e-7, atol=1e-8 * np.abs(cov).max())
    p = X.shape[1]
    np.testing.assert_allclose(mme.beta_cov, cov[:p, :p], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(mme.u_cov, cov[p:, p:], rtol=1e-7, atol=1e-8 * np.abs(cov).max())
    np.testing.assert_allclose(mme.fitted + mme.e, y, rtol=1e-14)
    expected = scipy_stats.multivariate_normal(X @ beta, 0.7 * V).logpdf(y)
    assert mme.loglik == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["blocks", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_the_literal_equations_hold(name, kind):
    """C (beta, u) = rhs, and sigma2 C^-1 is the covariance: Henderson's matrix as he wrote it."""
    y, X, Z, G, R = problem(name, kind)
    mme = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7)
    A, Ri = np.hstack([X, *(z.toarray() for z in Z)]), np.eye(len(y)) if R is None else np.linalg.inv(R)
    C = A.T @ Ri @ A + block_diag(np.zeros((X.shape[1],) * 2), *map(np.linalg.inv, G))
    np.testing.assert_allclose(mme.C.toarray(), C, rtol=1e-9, atol=1e-10 * np.abs(C).max())
    np.testing.assert_allclose(mme.rhs, A.T @ Ri @ y, rtol=1e-9, atol=1e-10 * np.abs(mme.rhs).max())
    solution = np.concatenate([mme.beta, mme.b])
    np.testing.assert_allclose(mme.C @ solution, mme.rhs, rtol=1e-8, atol=1e-10 * np.abs(mme.rhs).max())
    np.testing.assert_allclose(C @ mme.cov.to_numpy() / 0.7, np.eye(len(C)), atol=1e-7)


@pytest.mark.parametrize("kind", ["blocks", "full"])
@pytest.mark.parametrize("name", ["unbalanced", "slope", "nested in three", "crossed with slopes"])
def test_the_joint_density_is_highest_there(name, kind):
    """The joint is quadratic in (beta, u): central differences are its gradient, and its fall is known exactly."""
    y, X, Z, G, R = problem(name, kind)
    mme = blm.mixed_model_equations(y, X, Z, G, R)
    p, wide, whole = X.shape[1], np.hstack([z.toarray() for z in Z]), block_diag(*G)

    def joint(point):
        return joint_logpdf(y, X, wide, point[:p], point[p:], mme.sigma2, whole, R)

    top = np.concatenate([mme.beta, mme.b])
    highest, C = joint(top), mme.C.toarray()
    for k, step in enumerate(np.eye(len(top))):
        size = 0.1 * np.sqrt(mme.sigma2 / C[k, k])  # a fall of 1/200
        gradient = (joint(top + size * step) - joint(top - size * step)) / (2 * size)
        assert abs(gradient) * size < 1e-9
        fall = size**2 * C[k, k] / (2 * mme.sigma2)
        assert highest - joint(top + size * step) == pytest.approx(fall, rel=1e-6)


@pytest.mark.parametrize("kind", ["blocks", "full"])
@pytest.mark.parametrize("name", ["one way", "nested in three", "crossed with slopes"])
def test_profiled_sigma2_is_where_the_likelihoods_are_highest(name, kind):
    y, X, Z, G, R = problem(name, kind)
    for how in ("ML", "REML"):
        profiled = blm.mixed_model_equations(y, X, Z, G, R, reml=how == "REML")
        assert profiled.sigma2_from == how
        assert profiled.sigma2 == profiled.profiled[how]

        def height(s2, how=how):
            fit = blm.mixed_model_equations(y, X, Z, G, R, sigma2=s2)
            assert fit.sigma2_from == "given"
            return fit.restricted_loglik if how == "REML" else fit.loglik

        top, n = profiled.sigma2, len(y)
        m = n - X.shape[1] if how == "REML" else n
        assert height(top) == pytest.approx(profiled.restricted_loglik if how == "REML" else profiled.loglik, rel=1e-12)
        # up to a constant it is -m/2 (log s2 + top / s2)
        for factor in (0.5, 0.99, 1.01, 2.0):
            fall = 0.5 * m * (np.log(factor) + 1 / factor - 1)
            assert height(top) - height(top * factor) == pytest.approx(fall, rel=1e-6, abs=1e-11)


@pytest.mark.parametrize("kind", ["blocks", "full"])
def test_the_restricted_likelihood_is_the_flat_integral_over_beta(kind):
    """A flat prior is a normal one with a large covariance, but for its height: by quadrature, and by that limit."""
    from scipy.integrate import quad

    y, X, Z, G, R = problem("no intercept", kind)
    mme = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7)

    def likelihood(beta):
        return np.exp(marginal_logpdf(y, X, Z, [beta], 0.7, G, R) - mme.loglik)

    sd = float(np.sqrt(mme.beta_cov.iloc[0, 0]))
    integral, _ = quad(likelihood, mme.beta[0] - 12 * sd, mme.beta[0] + 12 * sd, epsrel=1e-12)
    assert mme.loglik + np.log(integral) == pytest.approx(mme.restricted_loglik, rel=1e-10)
    wide = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7, prior_cov=[[1e8]])
    height = -0.5 * np.log(2 * np.pi * 1e8)
    assert wide.restricted_loglik - height == pytest.approx(mme.restricted_loglik, abs=1e-6)


# The posterior under a Gaussian prior


@pytest.mark.parametrize("kind", ["blocks", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_gaussian_beta_by_conditioning_one_normal_vector(name, kind):
    """(beta, u, y) is one normal vector: the posterior is its conditional given y, the evidence its density at y."""
    y, X, Z, G, R = problem(name, kind)
    rng = np.random.default_rng(8)
    s2, p, n = 0.7, X.shape[1], len(y)
    mean, S0 = rng.normal(size=p), random_covariance(p, rng)
    mme = blm.mixed_model_equations(y, X, Z, G, R, sigma2=s2, prior_mean=mean, prior_cov=S0)
    before = block_diag(S0, *[s2 * g for g in G])
    A = np.hstack([X, *(z.toarray() for z in Z)])
    of_y = A @ before @ A.T + s2 * (np.eye(n) if R is None else R)
    gain = np.linalg.solve(of_y, A @ before).T
    start = np.concatenate([mean, np.zeros(len(before) - p)])
    after = before - gain @ A @ before
    np.testing.assert_allclose(np.concatenate([mme.beta, mme.b]), start + gain @ (y - X @ mean), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(mme.cov, after, rtol=1e-6, atol=1e-8 * np.abs(after).max())
    np.testing.assert_allclose(mme.beta_cov, after[:p, :p], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mme.C @ np.concatenate([mme.beta, mme.b]), mme.rhs, rtol=1e-7, atol=1e-8)
    evidence = scipy_stats.multivariate_normal(X @ mean, of_y).logpdf(y)
    assert mme.restricted_loglik == pytest.approx(evidence, rel=1e-9)
    assert mme.loglik == pytest.approx(marginal_logpdf(y, X, Z, mme.beta, s2, G, R), rel=1e-9)


def test_a_prior_between_nothing_and_everything():
    y, X, Z, G, R = problem("one way", "full")
    flat = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7)
    vague = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7, prior_cov=1e10 * np.eye(2))
    np.testing.assert_allclose(vague.beta, flat.beta, rtol=1e-7)
    np.testing.assert_allclose(vague.cov, flat.cov, rtol=1e-6, atol=1e-8)
    sure = blm.mixed_model_equations(y, X, Z, G, R, sigma2=0.7, prior_mean=[2.0, -1.0], prior_cov=1e-12 * np.eye(2))
    np.testing.assert_allclose(sure.beta, [2.0, -1.0], atol=1e-9)
    blup, cov = conditional_moments(y, X, Z, [2.0, -1.0], 0.7, G, R)
    np.testing.assert_allclose(sure.b, blup, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(sure.u_cov, cov, rtol=1e-7, atol=1e-9)


def test_columns_that_depend_on_each_other_are_fine_under_a_prior():
    X = np.column_stack([np.ones(6), np.ones(6)])
    y, Z, G = np.array([1.0, 2, 4, 5, 8, 9]), np.kron(np.eye(3), np.ones((2, 1))), np.eye(3)
    mme = blm.mixed_model_equations(y, X, Z, G, sigma2=1.0, prior_cov=np.eye(2))
    half = blm.mixed_model_equations(y, X[:, :1], Z, G, sigma2=1.0, prior_cov=[[2.0]])  # the sum of both
    assert mme.beta.sum() == pytest.approx(half.beta[0], rel=1e-12)
    assert mme.beta[0] == pytest.approx(mme.beta[1], rel=1e-12)


def test_a_prior_relative_to_sigma2_is_a_random_term():
    """What the error of a prior without sigma2 advises: columns with covariance sigma2 S0 are effects like others."""
    y, X, Z, G, R = problem("one way", "full")
    mean, S0 = np.array([1.0, 0.5]), np.array([[2.0, -0.5], [-0.5, 1.0]])
    profiled = blm.mixed_model_equations(y - X @ mean, np.empty((len(y), 0)), [X, *Z], [S0, *G], R, reml=False)
    given = blm.mixed_model_equations(
        y, X, Z, G, R, sigma2=profiled.sigma2, prior_mean=mean, prior_cov=profiled.sigma2 * S0
    )
    np.testing.assert_allclose(profiled.u["u2"] + mean, given.beta, rtol=1e-10)
    np.testing.assert_allclose(profiled.u["u3"], given.u["u2"], rtol=1e-9, atol=1e-12)
    assert profiled.loglik == pytest.approx(given.restricted_loglik, rel=1e-12)


# The fits of a model


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("formula", ["Height ~ 1 + (1 | class)", "Height ~ 1 + (1 | school/class)"])
def test_a_fit_solves_the_equations_at_its_estimates(heights3, formula, method):
    """The founding data: G at the fitted values gives fixef, their SEs, ranef, sigma^2 and the log-likelihood."""
    from conftest import fitted_model

    lmm = fitted_model(formula, "heights")
    fit = getattr(lmm, method)()
    levels = [(k, level) for k, level in enumerate(lmm.design.levels) if fit.lambdas[k].any()]
    Z, G = [x.Z for _, x in levels], [np.kron(np.eye(x.m), fit.lambdas[k] @ fit.lambdas[k].T) for k, x in levels]
    mme = blm.mixed_model_equations(lmm.y, lmm.X, Z, G, reml=method == "reml")
    assert list(mme.beta.index) == ["Intercept"]
    np.testing.assert_allclose(mme.beta, fit.fixef, rtol=1e-8)
    np.testing.assert_allclose(mme.beta_cov, fit.fixef_cov, rtol=1e-6)
    assert np.sqrt(mme.sigma2) == pytest.approx(fit.sigma, rel=1e-7)
    modes = np.concatenate([fit.ranef[level.name].to_numpy()[:, : level.r].ravel() for _, level in levels])
    np.testing.assert_allclose(mme.b, modes, rtol=1e-6, atol=1e-8)
    assert (mme.restricted_loglik if method == "reml" else mme.loglik) == pytest.approx(fit.loglik, rel=1e-9)


def test_a_model_s_own_labelled_matrices_go_in_as_they_are(heights3):
    theta = [0.8, 1.5]
    mme = blm.mixed_model_equations(heights3.y, heights3.X, heights3.Z, heights3.G(theta), heights3.R())
    listed = blm.mixed_model_equations(
        heights3.y, heights3.X, [x.Z for x in heights3.design.levels], [0.64 * np.eye(6), 2.25 * np.eye(2)]
    )
    np.testing.assert_allclose(mme.b, listed.b, rtol=1e-10)
    assert mme.u["u2"].index.equals(heights3.design.Z_labels)
    assert mme.e.index.equals(heights3.design.rows)
    assert list(listed.u) == ["u2", "u3"]
    assert "u2 class:school 1:1 Intercept" in repr(mme)


# Animals


PEDIGREE = [(1, None, None), (2, None, None), (3, None, None), (4, 1, None), (5, 3, 2), (6, 1, 2), (7, 4, 5), (8, 3, 6)]


def calves(animals):
    """Weaning gains of calves 4 to 8, and their sexes (Mrode 2014, table 3.1)."""
    data = pd.DataFrame(
        {"sex": list("MFFMM"), "gain": [4.5, 2.9, 3.9, 3.5, 5.0]}, index=pd.Index([4, 5, 6, 7, 8], name="calf")
    )
    X = pd.get_dummies(data["sex"], dtype=float)[["M", "F"]]
    return data["gain"], X, pd.DataFrame(np.eye(5), index=data.index, columns=data.index)[animals]


def test_the_animal_model_of_mrode():
    """Mrode (2014), Linear Models for the Prediction of Animal Breeding Values, 3rd ed., example 3.1.

    sigma2_a = 20 and sigma2_e = 40; the solutions are printed with three decimals.
    """
    y, X, Z = calves([4, 5, 6, 7, 8])
    mme = blm.mixed_model_equations(y, X, Z, relationship(PEDIGREE) * 20 / 40, sigma2=40.0)
    printed = [4.358, 3.404, 0.098, -0.019, -0.041, -0.009, -0.186, 0.177, -0.249, 0.183]
    # 4.3585 was cut, not rounded: one unit of the last digit
    np.testing.assert_allclose([*mme.beta, *mme.b], printed, rtol=0, atol=0.00051)
    assert mme.u["u2"].index.to_list() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_reliability_is_the_squared_correlation_of_u_and_its_blup():
    """From their joint covariance over repeated data, u_hat being linear in y; inbred animals included."""
    y, X, Z = calves([4, 5, 6, 7, 8])
    pedigree = [*PEDIGREE[:6], (7, 6, 5), (8, 6, 3)]
    G = relationship(pedigree) / 2
    mme = blm.mixed_model_equations(y, X, Z, G, sigma2=40.0)
    G, X = G.to_numpy(), X.to_numpy()
    Z = np.eye(8)[3:]
    Vi = np.linalg.inv(Z @ G @ Z.T + np.eye(5))
    to_u = G @ Z.T @ (Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi))
    of_both, of_blup = np.diag(to_u @ Z @ G), np.diag(to_u @ np.linalg.inv(Vi) @ to_u.T)
    np.testing.assert_allclose(mme.reliability, of_both**2 / (of_blup * np.diag(G)), rtol=1e-9)


def test_the_coefficients_hold_the_inverse_of_A_by_henderson_s_rules():
    """C less Z'Z is 2 A^-1 (alpha = 2), which the rules write down without A; animals without records included."""
    y, X, Z = calves([4, 5, 6, 7, 8])
    mme = blm.mixed_model_equations(y, X, Z, relationship(PEDIGREE) * 20 / 40, sigma2=40.0)
    inverse, labels = relationship_inverse(PEDIGREE)
    assert labels == mme.u["u2"].index.to_list()
    expected = 2 * inverse.toarray() + np.diag([0, 0, 0, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(mme.C.toarray()[2:, 2:], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "pedigree",
    [
        PEDIGREE,
        PEDIGREE[::-1],  # offspring before their parents
        [("c", "a", "b"), ("d", "a", "b"), ("e", "c", "d"), ("f", "e", "d"), ("g", "f", "e")],  # full sibs mated
        [("b", "a", "a"), ("c", "b", "b"), ("d", "c", None)],  # selfing
    ],
)
def test_the_rules_invert_the_tabular_matrix(pedigree):
    A = relationship(pedigree)
    inverse, labels = relationship_inverse(pedigree)
    assert labels == A.index.to_list()
    np.testing.assert_allclose(inverse @ A.to_numpy(), np.eye(len(A)), atol=1e-12)


def test_inbreeding_by_hand():
    """An offspring of full sibs has F = 1/4; after selfing F = 1/2, after two 3/4."""
    sibs = relationship([("c", "a", "b"), ("d", "a", "b"), ("e", "c", "d")])
    assert sibs.loc["e", "e"] == 1.25
    assert sibs.loc["c", "d"] == 0.5
    selfed = relationship([("b", "a", "a"), ("c", "b", "b")])
    assert np.diag(selfed).tolist() == [1.0, 1.5, 1.75]


# Labels


def test_G_is_matched_to_Z_by_label():
    y, X, Z = calves([7, 4, 8, 6, 5])
    A = relationship(PEDIGREE)
    shuffled = A.loc[[8, 3, 1, 5, 2, 7, 6, 4], [5, 3, 1, 8, 2, 7, 6, 4]]
    one = blm.mixed_model_equations(y, X, Z, shuffled / 2)
    two = blm.mixed_model_equations(*calves([4, 5, 6, 7, 8]), A / 2)
    np.testing.assert_allclose(one.u["u2"][A.index], two.u["u2"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("precision", [False, True])
def test_a_known_matrix_goes_in_as_it_is(precision):
    """The kinship of a description, or its inverse; its labels are text."""
    y, X, Z = calves([4, 5, 6, 7, 8])
    A = relationship(PEDIGREE)
    given = np.linalg.inv(A) if precision else A
    known = blm.KnownMatrix(labels=[str(x) for x in A.index], matrix=given, precision=precision)
    one = blm.mixed_model_equations(y, X, Z.rename(columns=str), known)
    two = blm.mixed_model_equations(y, X, Z, A)
    np.testing.assert_allclose(one.u["u2"].loc["8"], two.u["u2"].loc[8], rtol=1e-10)
    np.testing.assert_allclose(one.b, two.b, rtol=1e-9, atol=1e-12)


def test_rows_are_matched_by_label_too():
    y, X, Z = calves([4, 5, 6, 7, 8])
    R = pd.DataFrame(ar1(5, 0.5), index=y.index, columns=y.index)
    straight = blm.mixed_model_equations(y, X, Z, np.eye(5), R)
    back = [8, 6, 4, 7, 5]
    mixed = blm.mixed_model_equations(y[back], X, Z.loc[[5, 4, 6, 8, 7]], np.eye(5), R.loc[[5, 6, 7, 8, 4]])
    assert mixed.e.index.to_list() == back
    np.testing.assert_allclose(mixed.e[y.index], straight.e, rtol=1e-12)
    np.testing.assert_allclose(mixed.b, straight.b, rtol=1e-12)


def test_a_prior_is_matched_to_the_columns_of_X():
    y, X, Z = calves([4, 5, 6, 7, 8])
    mean = pd.Series({"F": 3.0, "M": 5.0})
    cov = pd.DataFrame([[1.0, -0.3], [-0.3, 2.0]], index=["F", "M"], columns=["F", "M"])
    named = blm.mixed_model_equations(y, X, Z, np.eye(5), sigma2=1.0, prior_mean=mean, prior_cov=cov)
    by_place = blm.mixed_model_equations(
        y, X, Z, np.eye(5), sigma2=1.0, prior_mean=[5.0, 3.0], prior_cov=[[2.0, -0.3], [-0.3, 1.0]]
    )
    np.testing.assert_allclose(named.beta, by_place.beta, rtol=1e-12)


# Sparse, large, extreme


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix, pd.DataFrame])
def test_every_form_of_matrix_gives_the_same(form):
    y, X, Z, G, R = problem("crossed with slopes", "full")
    expected = blm.mixed_model_equations(y, X, Z, G, R)
    matrices = [form(z.toarray()) for z in Z]
    mme = blm.mixed_model_equations(y, X, matrices, [form(g) for g in G], form(R))
    np.testing.assert_allclose(mme.b, expected.b, rtol=1e-10, atol=1e-12)
    assert mme.loglik == pytest.approx(expected.loglik, rel=1e-12)


def test_thousands_of_rows_stay_sparse():
    """400 pupils' series of 10 with AR(1) residuals, crossed with 300 items: against V group by group is too slow,
    so against the same equations by conjugate gradients on the literal matrix."""
    from scipy.sparse.linalg import cg

    rng = np.random.default_rng(1)
    pupils, times, items = 400, 10, 300
    n = pupils * times
    X = np.column_stack([np.ones(n), np.tile(np.arange(times), pupils)])
    Z = sparse.csr_array(sparse.kron(sparse.eye_array(pupils), np.ones((times, 1))))
    W = sparse.csr_array((np.ones(n), (np.arange(n), rng.integers(items, size=n))), shape=(n, items))
    R = sparse.block_diag([sparse.csr_array(ar1(times, 0.7))] * pupils, format="csr")
    y = 5 + Z @ rng.normal(size=pupils) + W @ rng.normal(size=items) + rng.normal(size=n)
    G, K = 1.3 * sparse.eye_array(pupils), 0.4 * sparse.eye_array(items)
    mme = blm.mixed_model_equations(y, X, [Z, W], [G, K], R)
    assert mme.C.matrix.nnz < 0.1 * mme.C.shape[0] ** 2
    scale = sparse.diags_array(1 / np.sqrt(mme.C.matrix.diagonal()))
    solution, info = cg(scale @ mme.C.matrix @ scale, scale @ mme.rhs.to_numpy(), rtol=1e-13, maxiter=5000)
    assert info == 0
    np.testing.assert_allclose(np.concatenate([mme.beta, mme.b]), scale @ solution, rtol=1e-7, atol=1e-8)
    assert "... 676 effects more" in repr(mme)


@pytest.mark.parametrize("kind", ["blocks", "chain"])
def test_a_sparse_factorisation_has_the_determinant_of_the_dense_one(kind):
    """More effects than are factored densely; a chain of neighbours fills in, blocks don't."""
    rng = np.random.default_rng(2)
    q, n = 300, 900
    Z = sparse.csr_array((rng.normal(size=n), (np.arange(n), np.arange(n) % q)), shape=(n, q))
    block = np.array([[1.0, -0.9], [-0.9, 2.0]])
    G = sparse.block_diag([sparse.csc_array(block)] * (q // 2)) if kind == "blocks" else sparse.csc_array(ar1(q, -0.5))
    y, X = rng.normal(size=n), np.ones((n, 1))
    mme = blm.mixed_model_equations(y, X, Z, G, sigma2=1.0)
    assert mme.loglik == pytest.approx(marginal_logpdf(y, X, Z, mme.beta, 1.0, G), rel=1e-10)
    blup, cov = conditional_moments(y, X, Z, mme.beta, 1.0, G)
    np.testing.assert_allclose(mme.b, blup, rtol=1e-8, atol=1e-10)
    assert np.diag(mme.u_cov)[0] >= cov[0, 0]


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
def test_variance_ratios_from_tiny_to_huge(scale):
    """Held against 50 digits; G^-1 of 1e8 entries or more never enters the solution."""
    from mpmath import lu_solve, matrix, mp

    y, X, Z, (G,), _ = problem("slope")
    G = scale * G
    mme = blm.mixed_model_equations(y, X, Z, G, sigma2=1.0)
    with mp.workdps(50):
        Zd, Gd, Xd, yd = (matrix(np.asarray(a).tolist()) for a in (Z[0].toarray(), G, X, y))
        V = Zd * Gd * Zd.T + mp.eye(len(y))
        ViX, Viy = mp.matrix(len(y), X.shape[1]), lu_solve(V, yd)
        for k in range(X.shape[1]):
            ViX[:, k] = lu_solve(V, Xd[:, k])
        beta = lu_solve(Xd.T * ViX, Xd.T * Viy)
        u = Gd * Zd.T * (Viy - ViX * beta)
        expected = np.array([float(x) for x in [*beta, *u]])
    # the effects of a group, not the population's, are what the data know when G is huge
    tolerance = 1e-10 * max(1.0, scale**0.5)
    np.testing.assert_allclose(np.concatenate([mme.beta, mme.b]), expected, rtol=tolerance, atol=1e-12)


def test_nearly_singular_G_keeps_its_digits():
    """Two effects correlated but for 1e-12: the inverse of G would lose them."""
    y, X = np.array([1.0, 3, 2, 5, 4, 8]), np.ones((6, 1))
    Z = np.kron(np.eye(2), np.ones((3, 1)))
    near = blm.mixed_model_equations(y, X, Z, np.ones((2, 2)) + 1e-12 * np.eye(2), sigma2=1.0)
    # with one effect for both groups, beta takes all of it
    assert near.beta[0] == pytest.approx(y.mean(), rel=1e-10)
    np.testing.assert_allclose(near.b, 0.0, atol=1e-10)


def test_y_far_from_zero():
    y, X, Z, G, _ = problem("one way")
    near, far = (blm.mixed_model_equations(y + shift, X, Z, G) for shift in (0.0, 1e8))
    np.testing.assert_allclose(far.b, near.b, rtol=1e-5, atol=1e-7)  # y itself is rounded at 1e-8
    assert far.sigma2 == pytest.approx(near.sigma2, rel=1e-6)


# What is refused


Y, ONE, Z3 = [1.0, 2, 4, 5, 8, 9], np.ones((6, 1)), np.kron(np.eye(3), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(y=np.ones((6, 2))), r"y has shape \(6, 2\); expected a vector"),
        (dict(y=[1.0, np.nan, 4, 5, 8, np.nan]), r"y holds nan at 1 \(2 such values in all\); expected finite"),
        (dict(y=pd.Series(Y, index=list("abcdef")).replace(4, np.inf)), "y holds inf at 'c'"),
        (dict(y=list("abcdef")), "y can't be read as numbers"),
        (dict(X=np.ones(6)), r"X has one dimension, \(6,\); .* X\[:, None\]"),
        (dict(X=np.ones((5, 1))), "X has 5 rows; expected 6, as y has"),
        (dict(X=np.ones((6, 2))), "Columns of X depend on each other: 1 = 0"),
        (dict(X=np.ones((6, 7))), "X has 7 columns and 6 rows"),
        (dict(Z=Z3[:5]), "Z has 5 rows; expected 6"),
        (dict(Z=Z3[:, :2]), "Z has 2 columns and its G is 3 x 3"),
        (dict(Z=np.full((6, 3), np.inf)), "Z holds inf at 0, 0"),
        (dict(Z=sparse.csc_array(np.full((6, 3), np.nan))), "Z holds nan"),
        (dict(Z=[Z3, Z3], G=[np.eye(3)]), "Z has 2 matrices and G has 1; expected one G for each Z"),
        (dict(Z=[Z3, Z3], G=[np.eye(3), np.eye(2)]), r"Z\[1\] has 3 columns and its G is 2 x 2"),
        (dict(Z=[], G=[]), "G is empty; expected a matrix"),
        (dict(G=np.ones((3, 2))), "G is 3 x 2; expected a square matrix"),
        (dict(G=[[1, 0.5, 0], [0.2, 1, 0], [0, 0, 1]]), r"G\[0, 1\] is 0.5 and G\[1, 0\] is 0.2, a difference of 0.3"),
        (dict(G=-np.eye(3)), "G is not positive definite: its smallest eigenvalue is -1"),
        (dict(G=np.ones((3, 3))), "smallest eigenvalue is 0 but for rounding"),
        (dict(G=sparse.diags_array([1.0, 0.0, 2.0])), "G is not positive definite: its smallest eigenvalue is 0"),
        (dict(R=np.eye(5)), "R is 5 x 5; expected 6 x 6"),
        (dict(R=np.diag([1.0, 1, 1, 1, 1, -2])), "R is not positive definite: its smallest eigenvalue is -2"),
        (dict(sigma2=0.0), "sigma2 is 0.0; expected a positive number"),
        (dict(sigma2="2"), "sigma2 is '2'; expected a positive number"),
        (dict(sigma2=1.0, prior_cov=np.eye(2)), "prior_cov is 2 x 2; expected 1 x 1"),
        (dict(sigma2=1.0, prior_cov=[[1.0]], prior_mean=[1.0, 2.0]), "prior_mean has 2 entries; expected 1"),
        (dict(reml="x"), "reml='x'; expected True or False"),
        (dict(y=np.full(6, 3.0)), "X fits y exactly"),
        (dict(X=np.vander(np.arange(6.0))), "as many columns as rows"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_that_says_so(arguments, message):
    with pytest.raises((DataError, DescriptionError), match=message):
        blm.mixed_model_equations(**dict(y=Y, X=ONE, Z=Z3, G=np.eye(3)) | arguments)


def test_labels_that_do_not_fit():
    y, X, Z = calves([4, 5, 6, 7, 8])
    A = relationship(PEDIGREE)
    with pytest.raises(DataError, match=r"the columns of Z has labels that its G lacks: 4, 5; .* \.to_numpy\(\)"):
        blm.mixed_model_equations(y, X, Z, A.loc[[1, 6, 7, 8], [1, 6, 7, 8]])
    with pytest.raises(DataError, match="8 stand more than once in the labels of the columns of Z"):
        blm.mixed_model_equations(y, X, Z.set_axis([4, 5, 6, 8, 8], axis=1), A)
    with pytest.raises(DataError, match="the columns of G has labels that G lacks: 8"):
        blm.mixed_model_equations(y, X, Z, A.rename(index={8: 9}))
    with pytest.raises(DataError, match="y has labels that X lacks: 4, 5"):
        blm.mixed_model_equations(y, X.rename(index={4: 1, 5: 2}), Z, A)
    wrong = A.copy()
    wrong.loc[2, 1] = 0.5
    with pytest.raises(DataError, match=r"G\[1, 2\] is 0 and G\[2, 1\] is 0.5"):
        blm.mixed_model_equations(y, X, Z, wrong)


def test_priors_that_are_not_whole():
    with pytest.raises(PriorError, match="prior_mean came without prior_cov"):
        blm.mixed_model_equations(Y, ONE, Z3, np.eye(3), sigma2=1.0, prior_mean=[0.0])
    with pytest.raises(PriorError, match=r"prior_cov came without sigma2; .* a random term"):
        blm.mixed_model_equations(Y, ONE, Z3, np.eye(3), prior_cov=[[1.0]])


def test_a_sparse_covariance_is_factored_block_by_block():
    rng = np.random.default_rng(4)
    order = rng.permutation(12)
    whole = block_diag(*(random_covariance(size, rng) for size in (3, 1, 3, 5)))[order][:, order]
    read = read_covariance(sparse.csr_array(whole), "G")
    assert (read.lower @ read.lower.T).toarray() == pytest.approx(whole, abs=1e-13)
    assert sparse.triu(read.lower, 1).nnz == 0
    assert read.inverse.toarray() == pytest.approx(np.linalg.inv(whole), rel=1e-8, abs=1e-10)
    assert read.inverse.nnz == 9 + 1 + 9 + 25
    assert read.logdet == pytest.approx(np.linalg.slogdet(whole)[1], rel=1e-12)
