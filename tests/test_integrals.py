"""The integral over effects: products of rules against grids, what is alike computed once, gradients of the rules."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as blm
from bayeslmm.integration.alike import find_alike
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
