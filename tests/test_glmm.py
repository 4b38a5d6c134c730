"""Outcomes that aren't Gaussian: Laplace and quadrature against dense oracles and R, ML, priors, the joint model."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as blm
from bayeslmm.errors import DataError, DescriptionError, PriorError
from bayeslmm.integration.objective import Objective
from bayeslmm.integration.quadrature import Quadrature, serves
from bayeslmm.integration.search import climb
from tests.registry import BY_NAME, CASES

MODELS, OWN = Path(__file__).parents[1] / "models" / "data", Path(__file__).parent / "data"


# Data, read as R reads them -----------------------------------------------------------------------------------------


@cache
def table(name: str) -> pd.DataFrame:
    factors = {
        "cbpp": ["herd", "period", "obs"],
        "toenail": ["patientID"],
        "epil": ["subject"],
        "grouseticks": ["INDEX", "BROOD", "YEAR", "LOCATION"],
        "guImmun": ["mom", "comm"],
        "wine": ["judge", "bottle"],
        "salamander": ["Female", "Male"],
        "sleepstudy": ["Subject"],
    }[name]
    where = next(path for folder in (MODELS, OWN) for path in folder.glob(f"{name}.csv*"))
    return pd.read_csv(where, dtype=dict.fromkeys(factors, str))


def glmm(formula: str, data: str, family: str, **more) -> blm.GLMM:
    return blm.GLMM(formula, table(data), family=family, **more)


# Made-up outcomes on the registry's designs -------------------------------------------------------------------------


FAMILIES = ("binomial", "binomial(probit)", "binomial(cloglog)", "poisson", "negative_binomial", "gamma", "cumulative")


def made_up(case, family: str) -> blm.GLMM:
    data = case.data()
    rng = np.random.default_rng([7, case.n])
    y = {
        "binomial": (rng.random(case.n) < 0.5).astype(int),
        "gamma": rng.gamma(2.0, 1.0, case.n),
        "cumulative": np.arange(case.n) % 3,
    }.get(family.split("(")[0], rng.poisson(2.0, case.n))
    rng.shuffle(y)
    return blm.GLMM(case.formula, data | {"y": y.tolist()}, family=family)


def somewhere(model: blm.GLMM, seed: int = 1, size: float = 0.7) -> np.ndarray:
    """A point of the search where nothing is special."""
    problem, rng = model.problem, np.random.default_rng(seed)
    x = 0.3 * rng.normal(size=problem.size)
    x[problem.sds] = size * rng.uniform(0.5, 1.5, int(problem.sds.sum()))
    return x


def dense_laplace(model: blm.GLMM, x: np.ndarray) -> float:
    """The definition, in dense matrices, on the design as it is written."""
    problem, design = model.problem, model.design
    parts = []
    for level, lam in zip(design.levels, problem.lambdas(x), strict=True):
        root = np.eye(level.m) if level.root is None else level.root
        parts.append(level.Z.toarray() @ np.kron(root, lam))
    A = np.hstack(parts) if parts else np.zeros((design.n, 0))
    fixed = problem.fixed(x)
    psi = problem.psi(x)

    def jet(v):
        return model.family.jet(model.outcome, fixed + A @ v, psi)

    v = np.zeros(A.shape[1])
    for _ in range(200):
        now = jet(v)
        H = np.eye(len(v)) - (A.T * now.second) @ A
        step = np.linalg.solve(H, A.T @ now.first - v)
        height = now.value.sum() - v @ v / 2
        while (jet(v + step).value.sum() - (v + step) @ (v + step) / 2) < height - 1e-9:
            step /= 2
        v = v + step
    now = jet(v)
    H = np.eye(len(v)) - (A.T * now.second) @ A
    return float(now.value.sum() - v @ v / 2 - np.linalg.slogdet(H)[1] / 2)


def differences(objective: Objective, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    out = np.empty_like(x)
    for k in range(len(x)):
        e = np.zeros_like(x)
        e[k] = step
        out[k] = (objective(x + e)[0] - objective(x - e)[0]) / (2 * step)
    return out


REGISTRY = [(case, FAMILIES[k % len(FAMILIES)]) for k, case in enumerate(CASES) if case.shift == 0 and case.n > 8]


@pytest.mark.parametrize(("case", "family"), REGISTRY, ids=lambda one: getattr(one, "name", one))
def test_laplace_equals_the_dense_definition_and_its_gradient_its_differences(case, family):
    model = made_up(case, family)
    x = somewhere(model)
    objective = Objective(model.problem)
    value, gradient = objective(x)
    assert objective.point(x).mode.found
    assert -value == pytest.approx(dense_laplace(model, x), rel=1e-9)
    numeric = differences(objective, x)
    assert gradient == pytest.approx(numeric, abs=2e-6 * (1 + np.abs(numeric).max()))


@pytest.mark.parametrize("bar", ["cs(0 + f | g)", "homcs(0 + f | g)", "ar1(0 + f | g)", "(0 + f || g)"])
def test_structures_of_effects_have_gradients_and_maxima(bar):
    rng = np.random.default_rng(2)
    data = {"f": list("pqr") * 40, "g": np.repeat(list("abcdefghij"), 12).tolist(), "y": rng.poisson(3, 120).tolist()}
    model = blm.GLMM(f"y ~ 1 + {bar}", data, family="poisson")
    x = somewhere(model, seed=3)
    objective = Objective(model.problem)
    assert -objective(x)[0] == pytest.approx(dense_laplace(model, x), rel=1e-9)
    assert objective(x)[1] == pytest.approx(differences(objective, x), abs=1e-5)
    fit = model.ml()
    assert fit.peak.converged
    assert fit.theta.size == model.design.levels[0].structure.theta(np.eye(3)).size


@pytest.mark.parametrize("crossed", [False, True])
def test_groups_with_a_known_covariance(crossed):
    rng = np.random.default_rng(4)
    labels = list("abcdefgh")
    B = rng.normal(size=(8, 8))
    K = pd.DataFrame(B @ B.T / 8 + np.eye(8), index=labels, columns=labels)
    data = {"animal": np.repeat(labels[:7], 6).tolist(), "h": list("ijk") * 14, "y": rng.poisson(2, 42).tolist()}
    more = " + (1 | h)" if crossed else ""
    model = blm.GLMM(f"y ~ 1 + (1 | animal){more}", data, family="poisson", covariance={"animal": K})
    x = somewhere(model)
    objective = Objective(model.problem)
    assert -objective(x)[0] == pytest.approx(dense_laplace(model, x), rel=1e-10)
    assert objective(x)[1] == pytest.approx(differences(objective, x), abs=1e-5)
    # conditional SDs: diagonal of L' H^-1 L for the relatives too, by dense algebra
    point, lam = objective.point(x), model.problem.lambdas(x)
    covariances = model.problem.rows.covariances(point.factor, point.variances)
    roots = [np.eye(lv.m) if lv.root is None else lv.root for lv in model.design.levels]
    A = np.hstack([lv.Z.toarray() @ (R * F) for lv, R, F in zip(model.design.levels, roots, lam, strict=True)])
    W = np.exp(point.mode.eta)
    C = np.linalg.inv(np.eye(A.shape[1]) + (A.T * W) @ A)[:8, :8]
    want = np.diag(roots[0] @ C @ roots[0].T) * lam[0][0, 0] ** 2
    assert covariances[0][:, 0, 0] == pytest.approx(want, rel=1e-9)
    assert "known covariance" in serves(model.problem.rows)


# Quadrature ---------------------------------------------------------------------------------------------------------


def brute_force(model: blm.GLMM, x: np.ndarray, nodes: int = 1201) -> float:
    """Nested integrals by the trapezoidal rule on a wide grid: exact for smooth integrands that vanish at its ends."""
    problem, design = model.problem, model.design
    order = sorted(range(len(design.levels)), key=lambda k: -design.levels[k].m)  # leaf first
    sds = [float(problem.lambdas(x)[k][0, 0]) for k in order]
    u = np.linspace(-9, 9, nodes)
    log_weight = -(u**2) / 2 - 0.5 * np.log(2 * np.pi) + np.log(u[1] - u[0])
    levels = [design.levels[k] for k in order]
    fixed, psi = problem.fixed(x), problem.psi(x)

    def rows_given(eta):
        return model.family.logpdf(model.outcome, eta, psi)

    def log_sum(a):
        top = a.max(axis=0)
        return top + np.log(np.exp(a - top).sum(axis=0))

    def by_group(index, m, values):
        out = np.zeros((len(values), m))
        np.add.at(out.T, index, values.T)
        return out

    if len(levels) == 1:
        level = levels[0]
        eta = fixed + sds[0] * u[:, None] * level.columns[:, 0]
        return float(log_sum(log_weight[:, None] + by_group(level.index, level.m, rows_given(eta))).sum())
    leaf, top = levels
    mother = np.zeros(leaf.m, dtype=int)
    mother[leaf.index] = top.index
    outer = np.empty((nodes, top.m))
    for j, at in enumerate(u):
        eta = fixed + sds[1] * at * top.columns[:, 0] + sds[0] * u[:, None] * leaf.columns[:, 0]
        own = log_sum(log_weight[:, None] + by_group(leaf.index, leaf.m, rows_given(eta)))
        outer[j] = np.bincount(mother, weights=own, minlength=top.m)
    return float(log_sum(log_weight[:, None] + outer).sum())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["one way", "slope without intercept", "nested"])
def test_quadrature_equals_integrals_on_a_fine_grid(name, family):
    model = made_up(BY_NAME[name], family)
    x = somewhere(model, size=0.9)
    found = Objective(model.problem, Quadrature(nodes=61)).point(x)
    nodes = 401 if name == "nested" else 2001
    assert found.value == pytest.approx(brute_force(model, x, nodes), abs=1e-7)


@pytest.mark.parametrize(("family", "nodes"), list(product(FAMILIES, (1, 4))))
def test_with_one_level_the_gradient_is_that_of_the_rule_whatever_its_nodes(family, nodes):
    model = made_up(BY_NAME["one way"], family)
    x = somewhere(model)
    objective = Objective(model.problem, Quadrature(nodes=nodes))
    assert objective(x)[1] == pytest.approx(differences(objective, x), abs=1e-6)
    if nodes == 1:
        assert objective(x)[0] == pytest.approx(Objective(model.problem)(x)[0], rel=1e-12)


@pytest.mark.parametrize("name", ["nested", "nested in three"])
def test_up_a_chain_the_gradient_is_that_of_the_integral(name):
    model = made_up(BY_NAME[name], "poisson")
    x = somewhere(model)
    objective = Objective(model.problem, Quadrature(nodes=25 if name == "nested" else 15))
    assert objective(x)[1] == pytest.approx(differences(objective, x), abs=5e-5)


def at_estimates(model: blm.GLMM, beta, sds) -> np.ndarray:
    x = np.zeros(model.problem.size)
    x[: model.design.p] = np.linalg.solve(model.problem.rows.back, beta)
    for place, level in zip(model.problem.places, model.design.levels, strict=True):
        x[place] = sds[level.label]
    return x


GUIMMUN = (
    "y ~ kid2p + mom25p + ord + ethn + momEd + husEd + momWork + rural + pcInd81 + (1 | comm/mom)",
    {"mom:comm": 1.134814954903, "comm": 0.7210729946674},
)


def test_nested_quadrature_equals_the_reference_where_laplace_is_far_off():
    """At Laplace's estimates -1355.70090 becomes -1338.92900 (R with nested quadrature, 15 nodes each)."""
    model = glmm(GUIMMUN[0], "guImmun", "binomial")
    x = model._laplace.x
    assert model._laplace.value == pytest.approx(-1355.7009, abs=1e-4)  # glmmTMB 1.1.5
    at = Objective(model.problem, Quadrature(nodes=15)).point(x)
    assert at.value == pytest.approx(-1338.9290, abs=2e-3)  # at glmer's estimates, which are Laplace's to 1e-4
    assert serves(model.problem.rows) == ""
    # from there to the likelihood's own maximum, where R's SDs of 1.13 and 0.72 are 2.317 and 1.025; the way to it
    # with 9 nodes, its height with 25
    there = climb(model.problem, Quadrature(nodes=9), model._laplace)
    height = Objective(model.problem, Quadrature(nodes=25)).point(there.x).value
    assert height == pytest.approx(-1323.9524, abs=5e-3)
    sds = [lam[0, 0] for lam in model.problem.lambdas(there.x)]
    assert sds == pytest.approx([2.317, 1.025], rel=0.02)


# R's fits -----------------------------------------------------------------------------------------------------------

CBPP = "cbind(incidence, healthy) ~ period + (1 | herd)"
TOENAIL = "y ~ treatment * time + (1 | patientID)"

# glmmTMB 1.1.5, log-likelihoods by Laplace's approximation; SDs in the order of the formula's terms
LAPLACE = [
    (CBPP, "cbpp", "binomial", -92.026281864762, [0.642262]),
    (TOENAIL, "toenail", "binomial", -627.808934243993, [4.570887]),
    ("y ~ lbase * trt + lage + Visit + (1 + Visit | subject)", "epil", "poisson", -655.40967, [0.499334, 0.736163]),
    ("y ~ lbase * trt + lage + Visit + (1 | subject)", "epil", "negative_binomial", -624.55122, [0.466019]),
    (
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)", "grouseticks", "poisson", -890.27133,
        [0.750033, 0.541509, 0.528721],
    ),
    ("Mate ~ Cross + (1 | Female) + (1 | Male)", "salamander", "binomial", -209.27659, [1.083683, 1.020296]),
    ("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy", "gamma", -866.01834, [0.100858, 0.017508]),
    ("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy", "student_t", -854.66942, [28.47688, 6.338774]),
    # clmm of ordinal 2022.11.16
    ("rating ~ temp + contact + (1 | judge)", "wine", "cumulative", -81.56541, [1.131133]),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "data", "family", "loglik", "sds"), LAPLACE, ids=lambda one: str(one)[:30])
def test_laplace_ml_equals_glmmTMBs(formula, data, family, loglik, sds):
    fit = glmm(formula, data, family).ml("laplace")
    assert fit.peak.converged
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)
    assert np.concatenate(fit.sds) == pytest.approx(sds, rel=2e-4)


# glmer of lme4 1.1.31 with nAGQ = 100, and its standard errors; clmm with nAGQ = 25
QUADRATURE = [
    (
        TOENAIL, "toenail", "binomial", -625.3975156599979,
        [-1.618284890, -0.160772426, -0.391001650, -0.136790427], [0.434265, 0.583932, 0.0443796, 0.0680134], 4.006585,
    ),
    (
        CBPP, "cbpp", "binomial", -91.98336903731065,
        [-1.399230496, -0.991403621, -1.127819502, -1.579470680], [0.233512, 0.306768, 0.326768, 0.427594], 0.647518,
    ),
    (
        "rating ~ temp + contact + (1 | judge)", "wine", "cumulative", -81.532460710955,
        [3.061890993, 1.833433362], [0.595075, 0.512171], 1.134783,
    ),
    (
        "rating ~ temp + contact + (1 | judge)", "wine", "cumulative(probit)", -80.931294615906,
        [1.799872197, 1.048114176], [0.326912, 0.285531], 0.663029,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("formula", "data", "family", "loglik", "beta", "se", "sd"), QUADRATURE, ids=str)
def test_ml_by_quadrature_equals_Rs_with_many_nodes(formula, data, family, loglik, beta, se, sd):
    """Standard errors are R's differences of a likelihood: three digits."""
    fit = glmm(formula, data, family).ml()
    assert fit.approximation == "quadrature"
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    assert fit.fixef.to_numpy() == pytest.approx(beta, abs=1e-3 * min(se))
    assert fit.fixef_se.to_numpy() == pytest.approx(se, rel=1e-3)
    assert fit.sds[0][0] == pytest.approx(sd, rel=1e-4)
    assert fit.approximation_error.quadrature == pytest.approx(fit.loglik, abs=1e-6)


@pytest.mark.parametrize(
    ("nodes", "loglik", "sd"), [(5, -630.018634639, 3.691285825), (15, -625.210621623, 4.05674844)]
)
def test_ml_with_a_given_number_of_nodes_equals_glmers(nodes, loglik, sd):
    """lme4 1.1.31, nAGQ = 5 and 15, which stops at a tolerance of its own: 1e-6."""
    fit = glmm(TOENAIL, "toenail", "binomial").ml("quadrature", nodes=nodes)
    assert (fit.loglik, fit.sds[0][0]) == pytest.approx((loglik, sd), abs=2e-5)


def test_thresholds_and_their_errors_are_those_where_predictors_are_zero():
    """clmm of ordinal 2022.11.16, nAGQ = 25; predictors shifted far away move thresholds, and nothing else."""
    data = table("wine").assign(warm=lambda d: (d["temp"] == "warm") * 1.0, year=lambda d: 2000.0 + d["warm"])
    fit = blm.GLMM("rating ~ warm + contact + (1 | judge)", data, family="ordinal").ml()
    far = blm.GLMM("rating ~ year + contact + (1 | judge)", data, family="ordinal").ml()
    assert fit.dispersion.to_numpy() == pytest.approx([-1.623487, 1.512796, 4.227053, 6.086152], abs=2e-5)
    assert fit.dispersion_se.to_numpy() == pytest.approx([0.683385, 0.604436, 0.808977, 0.971938], rel=1e-4)
    assert far.loglik == pytest.approx(fit.loglik, abs=1e-8)
    shift = 2000 * fit.fixef["warm"]
    assert far.dispersion.to_numpy() - shift == pytest.approx(fit.dispersion.to_numpy(), abs=1e-3)


# What a fit says ----------------------------------------------------------------------------------------------------


def test_the_error_of_laplace_is_measured_group_by_group():
    fit = glmm(TOENAIL, "toenail", "binomial").ml("laplace")
    error = fit.approximation_error
    assert error.value == pytest.approx(-627.8089342 + 628.9251840, abs=1e-4)  # the reference's truth
    assert error.groups["laplace"].sum() == pytest.approx(fit.loglik, abs=1e-8)
    assert error.groups["better"].sum() == pytest.approx(error.quadrature, abs=1e-8)
    assert (np.abs(error.groups["difference"]).diff().dropna() <= 0).all()
    assert "1.12 too high" in " ".join(repr(fit).split())
    assert "rows of one kind only" in " ".join(repr(fit).split())


def test_ranef_fitted_and_counts():
    fit = glmm(CBPP, "cbpp", "binomial").ml("laplace")
    modes = fit.ranef["herd"]
    assert list(modes.columns) == ["Intercept", "Intercept_sd"]
    # at the mode the pull of the rows and of the normal density cancel
    y, N = fit.outcome.y, fit.outcome.trials
    level = fit.design.levels[0]
    pull = np.bincount(level.index, weights=y - N * fit.fitted.to_numpy())
    assert modes["Intercept"].to_numpy() == pytest.approx(fit.sds[0][0] ** 2 * pull, abs=1e-8)
    assert fit.npar == 5
    assert fit.aic == pytest.approx(-2 * fit.loglik + 10)
    assert fit.varcorr["sd_or_corr"].tolist() == pytest.approx([0.642262], abs=1e-5)


def test_proportions_with_weights_are_the_same_model():
    data = table("cbpp").assign(share=lambda d: d["incidence"] / d["size"])
    one = blm.GLMM("share ~ period + (1 | herd)", data, family="binomial", weights="size").ml("laplace")
    assert one.loglik == pytest.approx(-92.026281864762, abs=1e-8)


def test_no_fixed_effects():
    fit = blm.GLMM("y ~ 0 + (1 | g)", {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}, family="poisson").ml()
    assert fit.fixef.empty
    assert fit.peak.converged


def test_a_variance_that_is_zero_is_said():
    data = {"y": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3], "g": list("aaaabbbbcccc")}
    fit = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml()
    assert fit.sds[0][0] == 0
    assert fit.boundary == ("sigma_u2",)
    # one rate for all: its log's standard error is 1 / sqrt(sum of counts)
    assert fit.loglik == pytest.approx(stats.poisson(1.5).logpmf(data["y"]).sum(), abs=1e-9)
    assert fit.fixef["Intercept"] == pytest.approx(np.log(1.5), abs=1e-7)
    assert fit.fixef_se["Intercept"] == pytest.approx(1 / np.sqrt(18), rel=1e-4)
    assert "on the boundary, sigma_u2" in " ".join(repr(fit).split())


def test_families_that_become_another_one_say_so():
    """Counts without overdispersion are Poisson's, a t with many degrees of freedom is the linear mixed model's."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 5)
    u = 0.5 * rng.normal(size=40)[g]
    counts = {"g": g, "y": np.round(np.exp(2 + u)).astype(int)}  # less than Poisson's spread
    fit = blm.GLMM("y ~ 1 + (1 | g)", counts, family="negative_binomial").ml("laplace")
    assert fit.boundary == ("alpha",)
    poisson = blm.GLMM("y ~ 1 + (1 | g)", counts, family="poisson").ml("laplace")
    assert fit.loglik == pytest.approx(poisson.loglik, abs=1e-3)
    normal = {"g": g, "y": u + rng.uniform(-1, 1, 200)}  # lighter tails than any t
    fit = blm.GLMM("y ~ 1 + (1 | g)", normal, family="student_t").ml("laplace")
    assert fit.boundary == ("nu",)
    assert fit.loglik == pytest.approx(blm.LMM("y ~ 1 + (1 | g)", normal).ml().loglik, abs=0.02)


def test_large_counts_lose_no_digits():
    """A Poisson with effects is, for large counts, a lognormal one; the search ends where its gradient is zero."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(60), 4)
    y = rng.poisson(np.exp(14 + 0.3 * rng.normal(size=60)[g]))
    fit = blm.GLMM("y ~ 1 + (1 | g)", {"g": g, "y": y}, family="poisson").ml()
    means = np.log(np.bincount(g, weights=y) / 4)
    assert fit.peak.converged
    assert fit.fixef["Intercept"] == pytest.approx(means.mean(), abs=1e-5)
    assert fit.sds[0][0] == pytest.approx(means.std(), rel=1e-4)


def test_a_variance_that_runs_away_is_a_warning():
    data = {"g": np.repeat(np.arange(30), 5), "y": np.repeat([0, 1, 1] * 10, 5)}
    model = blm.GLMM("y ~ 1 + (1 | g)", data, family="binomial")
    assert "30 of 30 groups of g have rows of one kind only" in model.doubts[0]
    with pytest.warns(UserWarning, match="sigma_u2 ran away"):
        fit = model.ml("laplace")
    assert "Its value says 'large', no more" in " ".join(repr(fit).split())


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_units_of_y_change_the_scale_and_nothing_else(unit):
    data = table("sleepstudy")
    scaled = data.assign(Reaction=data["Reaction"] * unit)
    formula = "Reaction ~ Days + (1 + Days | Subject)"
    for family, shift in (("gamma", len(data) * np.log(unit)), ("student_t", len(data) * np.log(unit))):
        one, other = (blm.GLMM(formula, d, family=family).ml("laplace") for d in (data, scaled))
        assert other.loglik + shift == pytest.approx(one.loglik, abs=2e-5)
        ratio = unit if family == "student_t" else 1.0
        assert other.sds[0] / ratio == pytest.approx(one.sds[0], rel=1e-3)


def test_predictors_far_from_zero_and_offsets():
    rng = np.random.default_rng(5)
    data = {"x": rng.normal(size=60), "g": np.repeat(list("abcdefghij"), 6).tolist(), "n": rng.uniform(1, 9, 60)}
    data["y"] = rng.poisson(data["n"]).tolist()
    data["year"] = data["x"] * 3 + 2005
    near, far = (
        blm.GLMM(f"y ~ {name} + offset(log(n)) + (1 | g)", data, family="poisson").ml() for name in ("x", "year")
    )
    assert far.loglik == pytest.approx(near.loglik, abs=1e-8)
    assert far.fixef["year"] * 3 == pytest.approx(near.fixef["x"], abs=1e-6)
    assert far.fixef_se["year"] * 3 == pytest.approx(near.fixef_se["x"], rel=1e-4)


# What can't be estimated --------------------------------------------------------------------------------------------


def test_separation_is_found_by_a_linear_program_and_said():
    data = {"y": [0, 0, 1, 0, 1, 1, 1, 1, 1], "x": [1, 1, 1, 2, 2, 2, 3, 3, 3], "g": list("abcabcabc")}
    data["z"] = [int(x == 3) for x in data["x"]]
    model = blm.GLMM("y ~ z + (1 | g)", data, family="binomial")
    assert model.doubts[0].startswith("Separation: along z the likelihood")
    with pytest.warns(UserWarning, match="along z the likelihood rises for ever"):
        model.ml("laplace")
    assert not blm.GLMM("y ~ x + (1 | g)", data, family="binomial").doubts
    counts = data | {"y": [0, 0, 0, 3, 1, 2, 4, 1, 0], "w": [1, 1, 1, 0, 0, 0, 0, 0, 0]}
    assert "along w" in blm.GLMM("y ~ w + (1 | g)", counts, family="poisson").doubts[0]


# Descriptions and data ----------------------------------------------------------------------------------------------

G = list("aabbcc")


@pytest.mark.parametrize(
    ("formula", "family", "more", "error", "words"),
    [
        ("cbind(y, y) ~ 1 + (1 | g)", "binomial", {}, DescriptionError, "successes and for failures"),
        ("cbind(y) ~ 1 + (1 | g)", "binomial", {}, DescriptionError, "write cbind\\(successes, failures\\)"),
        ("cbind(y, w) ~ 1 + (1 | g)", "poisson", {}, DescriptionError, "counts the trials of a binomial"),
        ("cbind(y, w) ~ w + (1 | g)", "binomial", {}, DescriptionError, "'w' is a part of the response"),
        ("y ~ 1 + (1 | g)", "poisson", {"weights": "w"}, DescriptionError, "weights='w' counts the trials"),
        ("half ~ 1 + (1 | g)", "binomial", {"weights": "w"}, DataError, "whole number of successes"),
        ("y ~ 1 + (1 | g)", "binomial", {}, DataError, "zeros and ones"),
        ("text ~ 1 + (1 | g)", "cumulative", {}, DataError, "is text, whose order nobody can know"),
        ("b ~ 1 + (1 | g)", "cumulative", {}, DataError, "three or more; there are 2"),
        ("o ~ 0 + w + (1 | g)", "cumulative", {}, DescriptionError, "thresholds stand here"),
        ("b ~ 1 + (1 | row)", "binomial", {}, DataError, "can't be told from the spread of a number of successes"),
        ("y ~ 1 + (1 | g)", "poisson", {"priors": {"sigma": "HalfNormal(sigma=1)"}}, PriorError, "no sigma and no e"),
        ("y ~ 1 + (1 | g)", "nbinom2", {"priors": {"alpha": "Normal(mu=0, sigma=1)"}}, PriorError, "alpha is positive"),
        ("y ~ 1 + (1 | g)", "poisson", {"priors": {"sigma_u3": "HalfNormal(sigma=1)"}}, PriorError, "Did you mean"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(formula, family, more, error, words):
    data = {
        "y": [0, 3, 1, 0, 5, 9], "w": [3, 4, 5, 3, 7, 9], "b": [0, 1, 0, 1, 1, 1], "o": [0, 1, 2, 0, 1, 2],
        "half": [0.3, 0.5, 0.5, 0.5, 0.5, 0.5], "text": list("lmhlmh"), "g": G, "row": list("abcdef"),
    }  # fmt: skip
    with pytest.raises(error, match=words):
        blm.GLMM(formula, data, family=family, **more)


def test_verbs_that_are_not_there_say_so():
    model = blm.GLMM("y ~ 1 + (1 | g)", {"y": [0, 3, 1, 0, 5, 9], "g": G}, family="poisson")
    with pytest.raises(AttributeError, match="no reml\\(\\): REML is a Gaussian outcome's"):
        _ = model.reml
    with pytest.raises(AttributeError, match="no attribute 'rmel'"):
        _ = model.rmel
    with pytest.raises(DescriptionError, match="Did you mean 'laplace'"):
        model.ml("lapalce")
    with pytest.raises(DescriptionError, match="has no nodes"):
        model.ml("laplace", nodes=5)
    with pytest.raises(DescriptionError, match="Did you mean 'marginal'"):
        model.sample("marginl")


def test_rows_of_single_groups_are_allowed_where_rows_can_tell():
    data = table("cbpp")
    model = blm.GLMM("cbind(incidence, healthy) ~ period + (1 | herd) + (1 | obs)", data, family="binomial")
    fit = model.ml("laplace")
    assert fit.loglik == pytest.approx(-87.319163573508, abs=4e-4)  # glmer, whose value lags a step
    assert np.concatenate(fit.sds) == pytest.approx([0.183961, 0.891068], abs=2e-3)


# Priors, the joint model --------------------------------------------------------------------------------------------


def test_priors_are_on_the_links_scale_and_do_not_move_with_a_predictors_zero():
    data = table("cbpp").assign(x=lambda d: np.arange(len(d)) % 7.0, far=lambda d: np.arange(len(d)) % 7.0 + 2000)
    near, far = (
        blm.GLMM(f"cbind(incidence, healthy) ~ {name} + (1 | herd)", data, family="binomial").priors.table()
        for name in ("x", "far")
    )
    assert near["prior"].tolist() == far["prior"].tolist()
    assert near["prior"].iloc[0] == "Normal(mu=-2.01, sigma=2.5)"
    assert "units on the logit scale" in near["reason"].iloc[0]


JOINT = [
    (CBPP, "cbpp", "binomial"),
    (CBPP, "cbpp", "binomial(probit)"),
    ("y ~ trt + Visit + (1 + Visit | subject)", "epil", "poisson"),
    ("y ~ trt + (1 | subject)", "epil", "negative_binomial"),
    ("Reaction ~ Days + (1 + Days || Subject)", "sleepstudy", "gamma"),
    ("Reaction ~ Days + (1 | Subject)", "sleepstudy", "student_t"),
    ("rating ~ temp + (1 | judge)", "wine", "cumulative"),
    ("rating ~ temp + (1 | judge)", "wine", "cumulative(probit)"),
]


@pytest.mark.parametrize(("formula", "data", "family"), JOINT)
def test_the_joint_model_has_the_familys_density(formula, data, family):
    """At PyMC's initial point, in both centrings; eta and the family's parameters read off the graph."""
    import pytensor

    model = glmm(formula, data, family)
    labels = model.family.dispersion_labels(model.outcome)
    own = list(labels) if model.family.has_intercept else ["threshold"]
    for centered in (False, True):
        joint = model.joint(centered=centered)
        point = joint.initial_point()
        outputs = [*joint.replace_rvs_by_values([joint["eta"], *(joint[name] for name in own)])]
        outputs += joint.logp(vars=[joint["y"]], sum=False)
        with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
            read = pytensor.function(joint.value_vars, outputs, on_unused_input="ignore")
        eta, *parameters, logp = read(*(point[value.name] for value in joint.value_vars))
        if own == ["threshold"]:
            psi = np.concatenate([parameters[0][:1], np.log(np.diff(parameters[0]))])
        else:
            psi = np.log(np.array(parameters, dtype=float))
        assert logp == pytest.approx(model.family.logpdf(model.outcome, eta, psi), rel=1e-10, abs=1e-10)


def test_draws_of_the_joint_model():
    """Prior predictive draws are counts up to the trials; a short run by NUTS has the right names and dims."""
    import pymc as pm

    model = glmm(CBPP, "cbpp", "binomial")
    with model.joint():
        prior = pm.sample_prior_predictive(50, random_seed=1)
    y = prior["prior_predictive"]["y"].values[0]
    assert ((y >= 0) & (y <= model.outcome.trials)).all()
    tree = model.sample("joint", draws=200, tune=300, chains=2, random_seed=1, progress=False)
    posterior = tree["posterior"].to_dataset()
    assert posterior["u2"].dims == ("chain", "draw", "herd")
    fit = model.ml()
    away = (posterior["beta"].mean(("chain", "draw")).values - fit.fixef.to_numpy()) / fit.fixef_se.to_numpy()
    assert np.abs(away).max() < 0.5  # weak priors: posterior means lie near ML
    assert tree.attrs["sampler"] == "nuts"


def test_what_is_doubted_does_not_depend_on_where_x_has_its_zero():
    """Far from zero an intercept's SD is large, and its correlation with the slope near -1, whatever y is."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(20), 10)
    x = rng.normal(size=200)
    y = (rng.uniform(size=200) < 1 / (1 + np.exp(-0.5 * x - rng.normal(size=20)[g]))).astype(int)
    data = {"y": y, "near": x, "far": x + 1e4, "g": g.astype(str)}
    near, far = (blm.GLMM(f"y ~ {name} + ({name} | g)", data, family="binomial").ml() for name in ("near", "far"))
    assert far.sds[0][0] > 100 * near.sds[0][0]
    assert far.loglik == pytest.approx(near.loglik, abs=1e-6)
    assert (near.endless, near.boundary) == (far.endless, far.boundary)
    assert not any("all or nothing" in said for said in far.doubts)
