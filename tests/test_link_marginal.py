"""The marginal of an outcome that is not Gaussian, in PyMC: density by brute force, gradient, draws."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import bayeslmm as blm
from bayeslmm.errors import DescriptionError
from bayeslmm.pymc_models.integral_op import IntegralOp
from tests.test_glmm import CBPP, FAMILIES, glmm, table
from tests.test_integrals import EPIL_SLOPE, with_slopes

QUICK = pytensor.config.change_flags(mode="FAST_COMPILE", cxx="")


def somewhere_else(model, seed: int = 1) -> dict:
    """The model's initial point, moved."""
    rng = np.random.default_rng(seed)
    return {name: x + 0.2 * rng.normal(size=np.shape(x)) for name, x in model.initial_point().items()}


def read(model, names, point) -> list[np.ndarray]:
    """Values of named variables at a point, and y's log density."""
    outputs = [*model.replace_rvs_by_values([model[name] for name in names]), *model.logp(vars=[model["y"]], sum=False)]
    with QUICK:
        f = pytensor.function(model.value_vars, outputs, on_unused_input="ignore")
    return f(*(point[v.name] for v in model.value_vars))


def integral(glmm: blm.GLMM, beta, F, psi) -> float:
    """By the trapezoidal rule over the effects of each group, from the design as it is written."""
    level, design = glmm.design.levels[0], glmm.design
    u = np.linspace(-8, 8, {1: 2001, 2: 401}[level.r])
    v = np.array(np.meshgrid(*[u] * level.r)).reshape(level.r, -1).T
    log_w = -(v**2).sum(axis=1) / 2 + level.r * np.log((u[1] - u[0]) / np.sqrt(2 * np.pi))
    offset = 0.0 if design.offset is None else design.offset
    eta = offset + design.X @ beta + (v @ F.T) @ level.columns.T
    rows = glmm.family.logpdf(glmm.outcome, eta, psi)
    terms = [log_w + rows[:, level.index == j].sum(axis=1) for j in range(level.m)]
    return float(sum(t.max() + np.log(np.exp(t - t.max()).sum()) for t in terms))


def parameters(glmm: blm.GLMM, marginal, point):
    """(beta, factor of the first level, psi, log density of y) as the graph has them."""
    level, labels = glmm.design.levels[0], glmm.family.dispersion_labels(glmm.outcome)
    own = list(labels) if glmm.family.has_intercept else ["threshold"]
    corr = ["corr_u2"] if level.correlated else []
    beta, sd, *rest, logp = read(marginal, ["beta", "sigma_u2", *corr, *own], point)
    F = np.diag(np.atleast_1d(sd)) @ (np.linalg.cholesky(rest.pop(0)) if corr else np.eye(level.r))
    values = rest[0] if own == ["threshold"] else np.array(rest, dtype=float)
    psi = np.concatenate([values[:1], np.log(np.diff(values))]) if own == ["threshold"] else np.log(values)
    return beta, F, psi, float(logp)


@pytest.mark.parametrize(
    ("family", "bar"),
    [(name, ("(1 | g)", "(1 + x | g)")[k % 2]) for k, name in enumerate([*FAMILIES, "student_t"])],
)
def test_its_density_is_the_integral_of_the_joint(family, bar):
    model = with_slopes(family, bar)
    marginal = model.marginal(nodes=31)
    beta, F, psi, logp = parameters(model, marginal, somewhere_else(marginal))
    # a t has heavy tails, for which the rule converges slowly
    assert logp == pytest.approx(integral(model, beta, F, psi), abs=1e-3 if family == "student_t" else 1e-6)


@pytest.mark.parametrize("approximation", ["laplace", "quadrature"])
@pytest.mark.parametrize(
    ("formula", "data", "family"),
    [
        (CBPP, "cbpp", "binomial"),
        (EPIL_SLOPE, "epil", "poisson"),
        ("y ~ trt + (1 | subject)", "epil", "negative_binomial"),
        ("rating ~ temp + (1 | judge)", "wine", "cumulative"),
        ("y ~ trt + (1 | subject) + (1 | period)", "epil", "poisson"),  # crossed: period by Laplace in either case
    ],
)
def test_its_gradient_is_that_of_its_density(formula, data, family, approximation):
    marginal = glmm(formula, data, family).marginal(approximation, nodes=15 if approximation == "quadrature" else None)
    point = somewhere_else(marginal)
    with QUICK:
        logp, dlogp = marginal.compile_logp(), marginal.compile_dlogp()
    gradient, at = dlogp(point), 0
    for value in marginal.value_vars:
        flat = np.ravel(point[value.name])
        for k in range(flat.size):
            values = []
            for step in (1e-5, -1e-5):
                moved = flat.copy()
                moved[k] += step
                values.append(float(logp(point | {value.name: moved.reshape(np.shape(point[value.name]))})))
            assert gradient[at] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=2e-4)
            at += 1


def test_crossed_levels_have_laplace_and_the_maximum_of_the_likelihood_is_its_density_there():
    """With flat priors the density's maximum is ML's; here its value at ML's estimates, of y alone."""
    model = glmm("Mate ~ Cross + (1 | Female) + (1 | Male)", "salamander", "binomial")
    fit, marginal = model.ml("laplace"), model.marginal()
    assert model.rule().kind == "laplace"
    op = next(node.op for node in ancestors(marginal) if isinstance(node.op, IntegralOp))
    x = fit.peak.x
    problem = model.problem
    value, by_fixed, by_lam, by_psi = op.evaluate(model.outcome.y, problem.fixed(x), problem.lam(x), problem.psi(x))
    assert value == pytest.approx(fit.loglik, abs=1e-9)
    assert problem.rows.X.T @ by_fixed == pytest.approx(0, abs=1e-3)
    assert by_lam == pytest.approx(0, abs=1e-3)
    # other data are taken as they come
    other = op.evaluate(1 - model.outcome.y, -problem.fixed(x), problem.lam(x), problem.psi(x))
    assert other[0] == pytest.approx(fit.loglik, abs=1e-9)
    nowhere = op.evaluate(model.outcome.y, np.full(360, np.nan), problem.lam(x), by_psi)
    assert nowhere[0] == -np.inf
    assert not nowhere[1].any()


def ancestors(model):
    from pytensor.graph.traversal import ancestors as walk

    return [v.owner for v in walk(model.logp(vars=[model["y"]], sum=False)) if v.owner is not None]


def test_no_fixed_effects_and_an_offset():
    data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "n": [1.0, 2, 1, 1, 4, 4, 2, 2], "g": list("aabbccdd")}
    model = blm.GLMM("y ~ 0 + offset(log(n)) + (1 | g)", data, family="poisson")
    marginal = model.marginal(nodes=31)
    sd, logp = read(marginal, ["sigma_u2"], somewhere_else(marginal))
    assert logp == pytest.approx(integral(model, np.zeros(0), np.eye(1) * sd, np.zeros(0)), abs=1e-7)


def test_names_and_priors_are_the_joints_and_predictive_draws_are_counts():
    import pymc as pm

    model = glmm(CBPP, "cbpp", "binomial")
    joint, marginal = model.joint(), model.marginal()
    assert {v.name for v in marginal.free_RVs} == {v.name for v in joint.free_RVs} - {"z_u2"}
    with marginal:
        prior = pm.sample_prior_predictive(200, random_seed=1)
    with joint:
        other = pm.sample_prior_predictive(200, random_seed=2)
    draws, held = prior["prior_predictive"]["y"].values[0], other["prior_predictive"]["y"].values[0]
    assert ((draws >= 0) & (draws <= model.outcome.trials)).all()
    # each row's mean over 200 draws from the same law, in units of its Monte Carlo error
    away = (draws.mean(axis=0) - held.mean(axis=0)) / np.sqrt((draws.var(axis=0) + held.var(axis=0)) / 200)
    assert np.abs(away).max() < 5


def test_what_cannot_be_had_is_refused_in_words():
    data = {"y": [0, 3, 1, 0, 5, 9] * 2, "x": list(range(12)), "g": list("aabbcc") * 2, "h": list("xxy") * 4}
    many = blm.GLMM("y ~ 1 + (1 + x + I(x**2) | g) + (1 | h)", data, family="poisson")
    with pytest.raises(DescriptionError, match="g and h are crossed"):
        many.marginal("quadrature")
    with pytest.raises(DescriptionError, match="nodes=5 are a quadrature's, which can't be had"):
        many.marginal(nodes=5)
    with pytest.raises(DescriptionError, match="Did you mean 'laplace'"):
        blm.GLMM(CBPP, table("cbpp"), family="binomial").marginal("lapace")


@pytest.mark.parametrize(
    ("formula", "data", "family"),
    [(CBPP, "cbpp", "binomial"), ("y ~ trt + (1 + Visit | subject)", "epil", "nbinom2")],
)
def test_compiled_code_gives_the_same_as_python(formula, data, family):
    """Through numba's mode: the kernel; and Python where y is another one than was packed."""
    model = glmm(formula, data, family)
    problem, rule, rng = model.problem, model.rule(nodes=5), np.random.default_rng(3)
    op = IntegralOp(problem, rule.approximation, rule.start)
    assert op.compiled
    inputs = [pt.dvector() for _ in range(4)]
    outputs = op(*inputs, *op.constants())
    with pytensor.config.change_flags(mode="NUMBA"):
        f = pytensor.function(inputs, outputs)
    x = model._laplace.x
    given = problem.fixed(x) + 0.1 * rng.normal(size=model.design.n), problem.lam(x), problem.psi(x)
    for y in (model.outcome.y, rng.permutation(model.outcome.y) if data == "epil" else model.outcome.y * 0.0):
        for found, want in zip(f(y, *given), op.evaluate(y, *given), strict=True):
            assert found == pytest.approx(want, rel=1e-7, abs=1e-8)
    assert f(model.outcome.y, given[0] * np.nan, *given[1:])[0] == -np.inf
