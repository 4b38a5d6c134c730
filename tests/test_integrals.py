"""The integral over effects: products of rules against grids, what is alike computed once, gradients of the rules."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp

import bayeslmm as blm
from bayeslmm.errors import DescriptionError
from bayeslmm.integration.alike import find_alike
from bayeslmm.integration.crossed import CrossedQuadrature
from bayeslmm.integration.importance import Sampler, estimate
from bayeslmm.integration.objective import Objective
from bayeslmm.integration.product_rule import grid
from bayeslmm.integration.quadrature import Quadrature, serves
from tests.test_glmm import FAMILIES, differences, glmm, somewhere

EPIL_SLOPE = "y ~ lbase * trt + lage + Visit + (1 + Visit | subject)"


def with_slopes(family: str, bar: str = "(1 + x | g)", seed: int = 3) -> blm.GLMM:
    rng = np.random.default_rng(seed)
    n, g = 30, np.arange(30) % 6
    data = {"x": rng.normal(size=n).round(2), "w": rng.normal(size=n).round(2), "g": [f"g{k}" for k in g]}
    y = {
        "binomial": rng.integers(0, 2, n), "gamma": rng.gamma(2.0, 1.0, n), "cumulative": rng.permutation(n) % 3,
    }.get(family.split("(")[0], rng.poisson(2.0, n))  # fmt: skip
    return blm.GLMM(f"y ~ w + {bar}", data | {"y": y}, family=family)


def on_a_grid(model: blm.GLMM, x: np.ndarray, side: int = 161) -> float:
    """Each group's integral by the trapezoidal rule in two dimensions."""
    problem, level = model.problem, model.design.levels[0]
    F = problem.lambdas(x)[0]
    u = np.linspace(-8, 8, side)
    v = np.array(np.meshgrid(u, u)).reshape(2, -1).T
    log_w = -(v**2).sum(axis=1) / 2 + 2 * np.log((u[1] - u[0]) / np.sqrt(2 * np.pi))
    eta = problem.fixed(x) + (v @ F.T) @ level.columns.T
    rows = model.family.logpdf(model.outcome, eta, problem.psi(x))
    total = 0.0
    for j in range(level.m):
        terms = log_w + rows[:, level.index == j].sum(axis=1)
        total += terms.max() + np.log(np.exp(terms - terms.max()).sum())
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bar", ["(1 + x | g)", "(1 + x || g)"])
def test_a_product_of_rules_equals_the_integral_over_two_effects(family, bar):
    model = with_slopes(family, bar)
    x = somewhere(model)
    assert serves(model.problem.rows) == ""
    found = Objective(model.problem, Quadrature(nodes=31)).point(x)
    assert found.value == pytest.approx(on_a_grid(model, x), abs=1e-7)


@pytest.mark.parametrize("family", [*FAMILIES, "student_t"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_its_gradient_is_that_of_the_rule_whatever_its_nodes(family, nodes):
    model = with_slopes(family)
    x = somewhere(model, size=0.5)
    objective = Objective(model.problem, Quadrature(nodes=nodes))
    assert objective(x)[1] == pytest.approx(differences(objective, x), abs=2e-6)
    if nodes == 1 and family != "student_t":  # whose integrand may have several modes
        assert objective(x)[0] == pytest.approx(Objective(model.problem)(x)[0], rel=1e-12)
        assert objective(x)[1] == pytest.approx(Objective(model.problem)(x)[1], abs=1e-7)


def test_points_of_the_grid_integrate_polynomials_of_two_effects():
    points, log_w = grid(5, 2)
    w = np.exp(log_w - (points**2).sum(axis=1) / 2)
    assert (w.sum(), w @ (points[:, 0] ** 4 * points[:, 1] ** 6)) == pytest.approx((1.0, 45.0))


def test_groups_and_rows_that_are_alike_are_computed_once():
    """Twice the groups: twice the log-likelihood, from no more rows; the order of rows in a group is nothing."""
    one = {"y": [0, 1, 1, 0, 1, 1, 0, 0, 0], "x": [1, 1, 2, 2, 1, 1, 2, 2, 2], "g": list("aaabbbccc")}
    order = np.random.default_rng(0).permutation(9)
    two = {name: [*x, *np.array(x)[order]] for name, x in one.items()}
    two["g"] = [*one["g"], *(name.upper() for name in np.array(one["g"])[order])]
    small, large = (blm.GLMM("y ~ x + (1 + x || g)", d, family="binomial") for d in (one, two))
    kinds = [find_alike(model.problem.rows, model.outcome) for model in (small, large)]
    assert [len(k.rows) for k in kinds] == [6, 6]  # of nine: b has one twice, c one three times
    assert [k.copies.tolist() for k in kinds] == [[1, 1, 1], [2, 2, 2]]
    x, rule = somewhere(small), Quadrature(nodes=9)
    # the large model's X is scaled alike: mean squares of its columns are the same
    values = [Objective(model.problem, rule)(x) for model in (small, large)]
    assert values[1][0] == pytest.approx(2 * values[0][0], rel=1e-12)
    assert values[1][1] == pytest.approx(2 * values[0][1], rel=1e-9)


def test_ml_with_slopes_says_how_wrong_laplace_is():
    fit = glmm(EPIL_SLOPE, "epil", "poisson").ml()
    assert fit.approximation == "quadrature"
    assert fit.peak.converged
    error = fit.approximation_error
    assert error.quadrature == pytest.approx(fit.loglik, abs=1e-6)
    # Laplace's own maximum is glmmTMB's -655.40967
    assert fit.laplace_peak.value == pytest.approx(-655.40967, abs=1e-5)
    assert 0 < abs(error.value) < 0.5
    assert error.groups["laplace"].sum() == pytest.approx(error.laplace, abs=1e-8)


# Importance sampling ------------------------------------------------------------------------------------------------


def crossed(n: int = 60, sides: int = 2) -> blm.GLMM:
    rng = np.random.default_rng(8)
    data = {"a": rng.integers(0, 12, n), "b": np.arange(n) % sides, "x": rng.normal(size=n).round(2)}
    return blm.GLMM("y ~ x + (1 | a) + (1 | b)", data | {"y": rng.integers(0, 2, n)}, family="binomial")


def crossed_on_a_grid(model: blm.GLMM, x: np.ndarray) -> float:
    """Over the effects of b on a plane, over those of a on a line given these."""
    problem, (a, b) = model.problem, model.design.levels
    sd_a, sd_b = (float(F[0, 0]) for F in problem.lambdas(x))
    u = np.linspace(-6, 6, 41)
    log_w = -(u**2) / 2 + np.log((u[1] - u[0]) / np.sqrt(2 * np.pi))
    plane = np.array(np.meshgrid(u, u)).reshape(2, -1).T
    outer = np.add.outer(log_w, log_w).T.ravel()
    eta = problem.fixed(x) + sd_b * plane[:, b.index]
    for j in range(a.m):
        rows = a.index == j
        part = model.outcome.part(rows)
        own = model.family.logpdf(part, eta[:, None, rows] + sd_a * u[:, None], problem.psi(x)).sum(axis=-1)
        outer = outer + np.log(np.exp(log_w + own).sum(axis=1))
    return float(np.log(np.exp(outer).sum()))


def sampled(model: blm.GLMM, x: np.ndarray, seed: int = 1):
    problem = model.problem
    point = Objective(problem).point(x)
    sampler = Sampler(
        rows=problem.rows, family=model.family, outcome=model.outcome, fixed=problem.fixed(x), lam=problem.lam(x),
        psi=problem.psi(x), mode=point.mode,
    )  # fmt: skip
    return estimate(sampler, point.value, seed), point.value


def test_importance_sampling_equals_the_integral_over_crossed_effects():
    """And its gradient the integral's, both in units of their Monte Carlo errors; Laplace is off by more."""
    model = crossed()
    x = np.array([0.3, 0.5, 1.5, 1.2])
    found, laplace = sampled(model, x)
    truth = crossed_on_a_grid(model, x)
    assert abs(found.value - truth) < 4 * found.error < 0.05
    assert abs(laplace - truth) > 4 * found.error
    gradients = np.array([model.problem.gradient(x, one) for one in found.slopes])
    step = 1e-4 * np.eye(4)
    numeric = [(crossed_on_a_grid(model, x + e) - crossed_on_a_grid(model, x - e)) / 2e-4 for e in step]
    error = gradients.std(axis=0) / np.sqrt(len(gradients))
    assert (np.abs(gradients.mean(axis=0) - numeric) < 5 * error + 1e-3).all()
    assert found.k_hat.max() < 0.7


@pytest.mark.parametrize("bar", ["(1 | h/g)", "(1 + x | h/g)", "(1 + x + w | g)"])
def test_importance_sampling_of_groups_apart_equals_quadrature(bar):
    """Where both serve; with slopes in a chain, or three effects, against a run with another seed."""
    rng = np.random.default_rng(2)
    n = 48
    data = {"x": rng.normal(size=n).round(2), "w": rng.normal(size=n).round(2), "g": np.arange(n) // 8}
    data |= {"h": data["g"] // 2, "y": rng.poisson(2, n)}
    model = blm.GLMM(f"y ~ x + {bar}", data, family="poisson")
    x = somewhere(model, size=0.4)
    one, laplace = sampled(model, x)
    if serves(model.problem.rows) == "" and len(model.design.levels) > 1:
        truth, error = Objective(model.problem, Quadrature(nodes=21)).point(x).value, one.error
    else:
        other, _ = sampled(model, x, seed=2)
        truth, error = other.value, np.hypot(one.error, other.error)
    assert abs(one.value - truth) < 4 * error + 1e-9
    assert abs(one.value - laplace) < 1.0


def test_crossed_levels_have_an_error_with_its_own_uncertainty():
    """Laplace is 1.57 too low at its own maximum, by 6,400 draws of two seeds: 0.011 and less between them."""
    fit = glmm("Mate ~ Cross + (1 | Female) + (1 | Male)", "salamander", "binomial").ml()
    assert fit.approximation == "laplace"
    error = fit.approximation_error
    assert error.how == "importance sampling"
    assert error.trusted
    assert abs(error.value + 1.57) < 4 * error.uncertainty + 0.02 < 0.25
    assert "too low" in " ".join(repr(fit).split())
    assert "Monte Carlo error of" in repr(error)


def test_groups_with_known_covariances_and_many_effects_have_one_too():
    rng = np.random.default_rng(4)
    labels = list("abcdefgh")
    B = rng.normal(size=(8, 8))
    K = pd.DataFrame(B @ B.T / 8 + np.eye(8), index=labels, columns=labels)
    data = {"animal": np.repeat(labels[:7], 6).tolist(), "h": list("ijk") * 14, "y": rng.poisson(2, 42).tolist()}
    model = blm.GLMM("y ~ 1 + (1 | animal) + (1 | h)", data, family="poisson", covariance={"animal": K})
    x = somewhere(model)
    one, laplace = sampled(model, x)
    other, _ = sampled(model, x, seed=5)
    assert abs(one.value - other.value) < 4 * np.hypot(one.error, other.error)
    assert abs(one.value - laplace) < 0.5


def test_where_all_sds_are_zero_nothing_is_approximated():
    rng = np.random.default_rng(5)
    y = 2 + rng.integers(0, 2, 60)  # less than Poisson's spread
    data = {"y": y, "g": np.arange(60) % 6, "h": np.arange(60) % 4, "x": rng.normal(size=60)}
    fit = blm.GLMM("y ~ x + (1 | g) + (1 | h)", data, family="poisson").ml()
    assert max(sd[0] for sd in fit.sds) == 0
    assert fit.approximation_error.value == pytest.approx(0, abs=1e-10)
    assert "k-hat below 0" in " ".join(repr(fit).split())


# One level by quadrature, the others by Laplace -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "bar"), [("poisson", "(1 | g)"), ("binomial", "(1 | g)"), ("poisson", "(1 + x || g)")]
)
def test_of_crossed_levels_the_value_is_laplace_of_what_quadrature_leaves(family, bar):
    """f(t), its maximum and curvature by other means: Gauss-Hermite sums of each group, SciPy, differences."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(8)
    g, h, x = np.arange(60) % 15, np.arange(60) // 30, rng.normal(size=60)
    y = rng.poisson(2, 60) if family == "poisson" else rng.integers(0, 2, 60)
    model = blm.GLMM(f"y ~ x + {bar} + (1 | h)", {"y": y, "x": x, "g": g, "h": h}, family=family)
    problem, rows = model.problem, model.problem.rows
    at = rng.uniform(0.3, 0.9, problem.size)
    given = rows, problem.family, problem.outcome, problem.fixed(at), problem.lam(at), problem.psi(at)
    objective = Objective(problem, CrossedQuadrature(nodes=15))
    value, gradient = objective(at)

    first = rows.design.levels[0]
    F, scale = problem.lam(at)[:-1].reshape(first.r, first.r), problem.lam(at)[-1]
    z = np.linspace(-6, 6, 31)  # the trapezoidal rule
    grid = np.array(list(product(z, repeat=first.r)))
    weights = -0.5 * (grid**2).sum(axis=1) + first.r * np.log(0.4 / np.sqrt(2 * np.pi))

    def f(t):
        eta = given[3] + scale * rows.better[1][:, 0] * t[h]
        lines = problem.family.logpdf(problem.outcome, eta + grid @ F.T @ rows.better[0].T, given[5])
        terms = weights[:, None] + np.stack([lines[:, first.index == j].sum(axis=1) for j in range(first.m)], axis=1)
        return logsumexp(terms, axis=0).sum() - 0.5 * t @ t

    top = minimize(lambda t: -f(t), np.zeros(2), tol=1e-12).x
    e = 1e-3 * np.eye(2)
    H = [[(f(top + a + b) - f(top + a - b) - f(top - a + b) + f(top - a - b)) / 4e-6 for a in e] for b in e]
    assert -value == pytest.approx(f(top) - 0.5 * np.linalg.slogdet(-np.array(H))[1], abs=1e-5)
    for k in range(problem.size):  # the gradient, through all that moves
        step = np.zeros(problem.size)
        step[k] = 1e-4
        assert (objective(at + step)[0] - objective(at - step)[0]) / 2e-4 == pytest.approx(gradient[k], abs=1e-4)


def test_crossed_salamanders_are_nearer_to_the_likelihood_than_by_laplace():
    model = glmm("Mate ~ Cross + (1 | Female) + (1 | Male)", "salamander", "binomial")
    fit = model.ml("laplace")
    error = fit.approximation_error
    better = -Objective(model.problem, CrossedQuadrature(nodes=9))(fit.peak.x)[0]
    assert fit.loglik + 1 < better < error.better + 3 * error.uncertainty


def test_of_crossed_levels_quadrature_is_asked_for_and_says_what_it_is():
    data = {"y": [0, 3, 1, 0, 5, 9, 2, 2, 1, 4, 0, 7], "g": list("aabbccddeeff"), "h": list("xy") * 6}
    model = blm.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="poisson")
    assert model.ml().approximation == "laplace"
    fit = model.ml("quadrature", nodes=15)
    assert (fit.approximation, fit.nodes, fit.peak.converged) == ("quadrature", 15, True)
    assert "quadrature of g, 15 nodes; Laplace's approximation of h" in str(fit)
    assert "This fit's own approximation is" in " ".join(str(fit).split())
    with pytest.raises(DescriptionError, match=r"nodes=2.*takes 3 at least"):
        model.ml("quadrature", nodes=2)
