"""The exact posterior where the outcome isn't Gaussian: its density, its random effects, its sampler, its words."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.errors import DescriptionError, SamplingError
from bayeslmm.families.family import Outcome
from bayeslmm.families.registry import FAMILIES
from bayeslmm.integration.chain_integral import ChainIntegral
from bayeslmm.integration.compiled import CODES, family_code
from bayeslmm.integration.exact_likelihood import Points
from bayeslmm.integration.quadrature import Quadrature, serves
from bayeslmm.posterior.link_collapsed import link_posterior, why_not
from bayeslmm.posterior.link_posterior import LinkPosterior
from bayeslmm.support import threads
from tests.registry import CASES
from tests.test_glmm import FAMILIES as NAMES
from tests.test_glmm import G, made_up, somewhere

ALL = [FAMILIES[name](link=link) for name, link in CODES]


def keys(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, size=n, dtype=np.uint64)


def points(posterior: LinkPosterior, x: np.ndarray) -> Points:
    return posterior.points(posterior.to_log(np.atleast_2d(x))[0])


def repeated(at: Points, n: int) -> Points:
    return at.part(np.zeros(n, dtype=int))


def near(posterior: LinkPosterior, n: int, seed: int = 1, size: float = 0.3) -> np.ndarray:
    """Points where nothing is special."""
    return posterior.starts()[0] + size * np.random.default_rng(seed).normal(size=(n, posterior.size))


# The kernels against the families ------------------------------------------------------------------------------------


def all_rows(family) -> Outcome:
    """Rows of every kind of y."""
    y, trials, categories = np.array([0.0, 1, 2, 5, 40]), None, ()
    if family.name == "binomial":
        trials = np.array([1.0, 1, 7, 5, 90])
    if family.name == "cumulative":
        y, categories = np.array([0.0, 1, 2, 3, 1]), tuple("abcd")
    if family.name in ("gamma", "student_t"):
        y = np.array([1e-3, 0.5, 1.0, 3.0, 90.0])
    return Outcome(name="y", y=y, rows=pd.RangeIndex(5), trials=trials, categories=categories)


@pytest.mark.parametrize("family", ALL, ids=str)
def test_the_kernels_density_is_the_familys_but_for_what_eta_does_not_change(family):
    import numba

    from bayeslmm.factorisation.kernels.outcomes import density

    outcome = all_rows(family)
    psi = family.dispersion_start(outcome) if family.name != "cumulative" else np.array([-1.0, 0.3, -2.0])
    values = family.dispersion_values(psi) if len(psi) else np.zeros(0)
    N = np.ones(5) if outcome.trials is None else outcome.trials
    code = family_code(family)

    @numba.njit
    def at(y, N, eta):
        return density(code, y, N, eta, values)

    limit = 6.0 if family.link == "cloglog" else 39.0  # exp(exp(40)) is nothing
    for eta in (-limit, -7.0, -6.5, -1.0, 0.0, 0.7, 5.9, 6.1, limit):
        jet = family.jet(outcome, np.full(5, eta), psi)
        base = family.jet(outcome, np.full(5, 0.3), psi)
        for i in range(5):
            value, first, second = at(outcome.y[i], N[i], eta)
            constant = at(outcome.y[i], N[i], 0.3)[0]
            assert value - constant == pytest.approx(jet.value[i] - base.value[i], rel=1e-12, abs=1e-11)
            assert (first, second) == pytest.approx((jet.first[i], jet.second[i]), rel=1e-9, abs=1e-11)


# Integrals ----------------------------------------------------------------------------------------------------------


def integral_of(model: blm.GLMM, **more) -> ChainIntegral:
    rows, code = model.problem.rows, family_code(model.family)
    return ChainIntegral(
        rows=rows, family=model.family, outcome=model.outcome, code=code, nodes=64,
        steps=(0.5,) * len(rows.plan.chain), **more,
    )  # fmt: skip


NESTED = [case for case in CASES if case.shift == 0]


@pytest.mark.parametrize("family", NAMES)
def test_nested_integrals_equal_quadrature(family):
    seen = 0
    for case in NESTED:
        if family == "cumulative" and case.formula.split("~")[1].startswith(" 0"):
            continue
        model = made_up(case, family)
        problem = model.problem
        depth = len(problem.rows.plan.chain)
        many = any(level.r > 1 for level in model.design.levels)  # estimated, with an error
        if many or serves(problem.rows) or depth > {"binomial": 3, "poisson": 2, "cumulative": 2}.get(family, 1):
            continue
        seen += 1
        x = somewhere(model)
        given = (problem.fixed(x), problem.lam(x), problem.psi(x), np.zeros(model.design.q))
        nodes = {1: 45, 2: 21, 3: 9}[depth]
        want = Quadrature(nodes=nodes).groups(problem.rows, model.family, model.outcome, *given)
        likelihood = link_posterior(model).likelihood.finer(0.35)
        at = Points(gamma=problem.unit * x[None, : model.design.p], lams=problem.lam(x)[None], psi=problem.psi(x)[None])
        got = likelihood.log_density(at, keys(1))[0][0]
        assert got == pytest.approx(want.sum(), rel=1e-6 if nodes > 9 else 1e-5)
    assert seen > 3


def test_equal_rows_and_groups_are_computed_once_and_that_changes_nothing():
    rng = np.random.default_rng(3)
    y, x = rng.integers(0, 2, (2, 400)).tolist()
    data = {"y": y, "x": x, "g": (np.arange(400) // 4).tolist(), "h": (np.arange(400) // 40).tolist()}
    model = blm.GLMM("y ~ x + (1 | h/g)", data, family="binomial")
    whole = integral_of(model)
    assert len(whole.merged.rows) < 250 < 400
    assert whole.merged.chain.weight.max() > 1
    x = somewhere(model)
    problem = model.problem
    given = (problem.lam(x)[None], np.zeros((1, 0)), keys(1))
    merged = whole.evaluate(problem.fixed(x)[whole.merged.rows][None], *given)
    single = replace(whole)
    single.__dict__["merged"] = whole.every
    assert single.evaluate(problem.fixed(x)[whole.every.rows][None], *given) == pytest.approx(merged, rel=1e-12)


def dense_groups(model: blm.GLMM, at: Points, most: float = 7.0, nodes: int = 81) -> float:
    """Log-likelihood of one level with two effects a group, by the product of trapezoidal rules."""
    level, rows = model.design.levels[0], model.problem.rows
    F = at.lams[0].reshape(2, 2)
    grid = np.linspace(-most, most, nodes)
    total, eta0 = 0.0, rows.offset + rows.X @ at.gamma[0]
    v = np.array(list(product(grid, grid)))
    weight = -0.5 * (v**2).sum(axis=1) - np.log(2 * np.pi) + 2 * np.log(grid[1] - grid[0])
    for g in range(level.m):
        own = np.flatnonzero(level.index == g)
        eta = eta0[own] + v @ F.T @ rows.better[0][own].T
        terms = weight + model.family.logpdf(model.outcome.part(own), eta, at.psi[0]).sum(axis=1)
        total += np.logaddexp.reduce(terms)
    return float(total)


def test_importance_sampling_by_group_is_unbiased():
    rng = np.random.default_rng(5)
    data = {"x": np.tile([-1.0, 0, 1], 8).tolist(), "g": np.repeat(list("abcdefgh"), 3).tolist()}
    data["y"] = rng.integers(0, 2, 24).tolist()
    model = blm.GLMM("y ~ x + (1 + x | g)", data, family="binomial")
    posterior = link_posterior(model)
    at = points(posterior, near(posterior, 1)[0])
    want = dense_groups(model, at)
    many = repeated(at, 2000)
    for count in (8, 64):
        got = posterior.likelihood.more(count).log_density(many, keys(2000))[0] - want
        error = np.exp(got).std() / np.sqrt(2000)
        assert np.exp(got).mean() == pytest.approx(1.0, abs=4 * error)
    assert got.std() < 0.05  # 64 nodes of a lattice


def test_importance_sampling_of_crossed_levels_is_unbiased():
    """Against the product of trapezoidal rules over the smaller level, the larger one by quadrature given it."""
    rng = np.random.default_rng(6)
    data = {"g": list("aabbccddee") * 2, "h": list("pq") * 10, "y": rng.poisson(1.5, 20).tolist()}
    model = blm.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="poisson")
    posterior = link_posterior(model)
    x = near(posterior, 1)[0]
    at = points(posterior, x)
    tail = posterior.likelihood._tail_Z.toarray()
    rows = model.problem.rows
    sd = float(at.lams[0][rows.slices[rows.plan.tail[0]][1]][0])
    grid = np.linspace(-6, 6, 61)
    v = np.array(list(product(grid, grid)))
    integral = posterior.likelihood.finer(0.4).integral
    own = integral.merged.rows
    eta = (rows.offset + rows.X @ at.gamma[0] + sd * v @ tail.T)[:, own]
    inside = integral.evaluate(eta, np.repeat(at.lams, len(v), axis=0), np.zeros((len(v), 0)), keys(len(v)))
    weight = -0.5 * (v**2).sum(axis=1) - np.log(2 * np.pi) + 2 * np.log(grid[1] - grid[0])
    want = np.logaddexp.reduce(inside + weight) + posterior.likelihood._plain_constant
    many = repeated(at, 300)
    got = posterior.likelihood.finer(0.4).more(16).begun(at).log_density(many, keys(300))[0] - want
    assert np.exp(got).mean() == pytest.approx(1.0, abs=4 * np.exp(got).std() / np.sqrt(300))
    assert got.std() < 0.2


# Effects given the parameters -----------------------------------------------------------------------------------------


DRAWS = 4000


def against(draws: np.ndarray, grid: np.ndarray, log_density: np.ndarray) -> None:
    """Draws follow a density that is known on a grid: the largest distance of the distribution functions."""
    p = np.exp(log_density - log_density.max())
    cdf = np.cumsum(p) / p.sum() - 0.5 * p / p.sum()
    below = np.searchsorted(np.sort(draws), grid) / len(draws)
    assert np.abs(below - cdf).max() < 1.95 / np.sqrt(len(draws))  # Kolmogorov: once in a thousand seeds


def scalar_case(family: str) -> tuple[blm.GLMM, LinkPosterior, Points]:
    rng = np.random.default_rng(8)
    y = {
        "binomial": [1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0], "poisson": rng.poisson(3, 12), "gamma": rng.gamma(1, 2, 12),
        "cumulative": np.arange(12) % 3, "student_t": rng.standard_t(2, 12), "negative_binomial": rng.poisson(3, 12),
    }[family]  # fmt: skip
    data = {"y": np.asarray(y).tolist(), "g": list("aaaabbbbcccc"), "x": np.linspace(-1, 1, 12).tolist()}
    model = blm.GLMM("y ~ x + (1 | g)", data, family=family)
    posterior = link_posterior(model)
    x = near(posterior, 1)[0]
    x[posterior.sd_positions] = np.log(2.0 * model.problem.unit)  # far from normal
    return model, posterior, points(posterior, x)


@pytest.mark.parametrize("family", ["binomial", "poisson", "gamma", "cumulative", "student_t", "negative_binomial"])
def test_effects_are_drawn_from_their_conditional_distribution(family):
    model, posterior, at = scalar_case(family)
    likelihood = posterior.likelihood.finer(0.5).more(512)
    many = repeated(at, DRAWS)
    drawn = likelihood.effects(many, keys(DRAWS, 1), np.zeros(DRAWS, dtype=int), keys(DRAWS, 2))["u2"][:, :, 0]
    rows, level = model.problem.rows, model.design.levels[0]
    sd = float(at.lams[0, 0])
    grid = np.linspace(-6 * sd, 6 * sd, 4001)
    for g in range(3):
        own = np.flatnonzero(level.index == g)
        eta = rows.offset[own] + rows.X[own] @ at.gamma[0] + grid[:, None]
        log_density = -0.5 * (grid / sd) ** 2 + model.family.logpdf(model.outcome.part(own), eta, at.psi[0]).sum(axis=1)
        against(drawn[:, g], grid, log_density)


def test_effects_of_nested_levels_are_drawn_together():
    """The sum of both effects at a row, and the outer one, against a dense grid over both."""
    data = {"y": [1, 1, 1, 0, 0, 0, 0, 1], "g": list("abcdefgh"), "h": list("ppppqqqq")}
    data = {key: column * 2 for key, column in data.items()}
    model = blm.GLMM("y ~ 1 + (1 | h/g)", data, family="binomial")
    posterior = link_posterior(model)
    x = near(posterior, 1)[0]
    x[posterior.sd_positions] = np.log([1.5, 2.0])
    at = points(posterior, x)
    n = DRAWS
    drawn = posterior.likelihood.finer(0.5).effects(repeated(at, n), keys(n), np.zeros(n, dtype=int), keys(n, 2))
    inner, outer = drawn["u2"][:, :, 0], drawn["u3"][:, :, 0]
    rows, fixed = model.problem.rows, float((model.problem.rows.X @ at.gamma[0])[0])
    sd_in, sd_out = (float(at.lams[0][rows.slices[k][1]][0]) for k in (0, 1))
    v = np.linspace(-6, 6, 401)
    eta = fixed + sd_out * v[:, None] + sd_in * v
    yes = -2 * np.logaddexp(0, -eta)  # two rows of a group are alike
    no = -2 * np.logaddexp(0, eta)
    normal = -0.5 * v**2
    inside = {1: np.logaddexp.reduce(yes + normal, axis=1), 0: np.logaddexp.reduce(no + normal, axis=1)}
    of_h = [3 * inside[1] + inside[0] + normal, 3 * inside[0] + inside[1] + normal]
    for h in range(2):
        against(outer[:, h], sd_out * v, of_h[h])
    u_a = np.logaddexp.reduce(of_h[0][:, None] - inside[1][:, None] + yes + normal, axis=0)  # integrated over h
    against(inner[:, 0], sd_in * v, u_a)


def test_effects_of_several_kinds_are_taken_by_their_weights():
    """Crossed levels: the draws beside the likelihood, weighted by it, are the conditional distribution."""
    rng = np.random.default_rng(6)
    data = {"g": list("aabbccddee") * 2, "h": list("pq") * 10, "y": rng.poisson(1.5, 20).tolist()}
    model = blm.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="poisson")
    posterior = link_posterior(model)
    at = points(posterior, near(posterior, 1)[0])
    likelihood, n = posterior.likelihood.finer(0.5).more(16).begun(at), 300
    many, own = repeated(at, n), keys(n, 4)
    value, index = likelihood.log_density(many, own, keys(n, 5))
    w = np.exp(value - value.max())
    drawn = likelihood.effects(many, own, index, keys(n, 6))["u3"][:, :, 0]
    got = w @ drawn / w.sum()
    rows = model.problem.rows
    sd = float(at.lams[0][rows.slices[rows.plan.tail[0]][1]][0])
    grid = np.linspace(-6, 6, 61)
    v = np.array(list(product(grid, grid)))
    integral = likelihood.integral
    eta = (rows.offset + rows.X @ at.gamma[0] + sd * v @ likelihood._tail_Z.toarray().T)[:, integral.merged.rows]
    inside = integral.evaluate(eta, np.repeat(at.lams, len(v), axis=0), np.zeros((len(v), 0)), keys(len(v)))
    p = np.exp(inside - 0.5 * (v**2).sum(axis=1) - inside.max())
    want = sd * p @ v / p.sum()
    assert got == pytest.approx(want, abs=4 * drawn.std() / np.sqrt(n * 0.9))


# The density ----------------------------------------------------------------------------------------------------------


JOINT = [
    ("binomial", "y ~ x + (1 | g)", {}),
    (
        "binomial(probit)",
        "y ~ x + (1 | g)",
        {"beta[x]": "StudentT(nu=3, mu=0, sigma=1)", "sigma_u2": "Exponential(lam=2)"},
    ),
    ("binomial(cloglog)", "y ~ 0 + x + (0 + x | g)", {}),
    ("poisson", "y ~ x + I(x^2) + (1 | g)", {"sigma_u2": "Uniform(lower=0.1, upper=4)"}),
    ("negative_binomial", "y ~ 1 + (1 | g)", {"alpha": "Gamma(alpha=2, beta=1)"}),
    ("gamma", "y ~ x + (1 | g)", {}),
    ("student_t", "y ~ x + (1 | g)", {}),
    ("cumulative", "y ~ x + (1 | g)", {}),
    ("cumulative(probit)", "y ~ x + (1 | g)", {"threshold": "Normal(mu=0, sigma=2)"}),
]


@pytest.mark.parametrize(("family", "formula", "given"), JOINT)
def test_the_density_is_that_of_the_joint_model_integrated_over_the_effects(family, formula, given):
    """At several points up to one constant; rows hang on their own group's effect alone, so that it is a product."""
    import pytensor

    rng = np.random.default_rng(9)
    kind = family.split("(")[0]
    y = {
        "binomial": rng.integers(0, 2, 12), "gamma": rng.gamma(2, 1, 12), "cumulative": np.arange(12) % 3,
        "student_t": rng.standard_t(3, 12),
    }.get(kind, rng.poisson(2, 12))  # fmt: skip
    data = {"y": np.asarray(y).tolist(), "x": np.linspace(3, 5, 12).tolist(), "g": list("aaaabbbbcccc")}
    model = blm.GLMM(formula, data, family=family, priors=given)
    posterior = link_posterior(model)
    posterior = replace(posterior, likelihood=posterior.likelihood.finer(0.4).more(2048))
    x = np.array([posterior.starts()[0]] * 4) + 0.3 * rng.normal(size=(4, posterior.size))
    logs, jacobian = posterior.to_log(x)
    got = posterior.evaluate(x, keys(4))[0] - jacobian
    if model.problem.labels:
        got = got - model.family.dispersion_log_jacobian(logs[:, posterior.last :])
    values = posterior.natural(x)
    joint = model.joint()
    free = [rv for rv in joint.free_RVs if not rv.name.startswith("z_")]
    effect = [rv for rv in joint.free_RVs if rv.name.startswith("z_")]
    terms = [joint.logp(vars=free, jacobian=False), *joint.logp(vars=[joint["y"]], sum=False)]
    inputs = [joint.rvs_to_values[rv] for rv in (*free, *effect)]
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        read = pytensor.function(inputs, terms, on_unused_input="ignore")
    grid = np.linspace(-8, 8, 161) if effect else np.zeros(1)
    want = np.empty(4)
    for b in range(4):
        stated = values | {"beta_at_mean": np.linalg.solve(model.priors.beta_map, values["beta"][b])[None].repeat(4, 0)}
        if kind == "cumulative":
            at_mean = values["threshold"][b] - model.design.X.mean(axis=0) @ values["beta"][b]
            stated["threshold_at_mean"] = at_mean[None].repeat(4, 0)
        point = []
        for rv in free:
            name, _, label = rv.name.partition("[")
            value, transform = np.asarray(stated[name][b]), joint.rvs_to_transforms[rv]
            value = np.asarray(value[model.design.coef.index(label[:-1])]) if label else value
            point.append(value if transform is None else transform.forward(value, *rv.owner.inputs).eval())
        prior, lines = 0.0, []
        for z in grid:
            prior, rows = read(*point, *([np.full(3, z)] if effect else []))
            lines.append(rows)
        by_row = np.array(lines)
        if not effect:
            want[b] = prior + by_row.sum()
            continue
        index = model.design.levels[0].index
        by_group = np.array([by_row[:, index == g].sum(axis=1) for g in range(3)])
        step = np.log(grid[1] - grid[0]) - 0.5 * np.log(2 * np.pi)
        want[b] = prior + (np.logaddexp.reduce(by_group - 0.5 * grid**2, axis=1) + step).sum()
    # a lattice of 2,048 nodes for Student's t
    assert np.diff(got - want) == pytest.approx(0.0, abs=1e-3 if kind == "student_t" else 1e-6)


# The sampler ----------------------------------------------------------------------------------------------------------


SMALL = {"y": [0, 3, 1, 0, 5, 9, 2, 2, 4, 1], "g": list("aabbccddee")}


@cache
def sampled(workers: int = 2, seed: int = 1) -> object:
    model = blm.GLMM("y ~ 1 + (1 | g)", SMALL, family="poisson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "workers", lambda: workers)
        return model.sample(random_seed=seed, progress=False)


def dense_posterior() -> dict[str, tuple[float, float]]:
    """Means and SDs of beta and sigma_u2 of the same model by sums over a grid, priors by hand."""
    from scipy import stats

    model = blm.GLMM("y ~ 1 + (1 | g)", SMALL, family="poisson")
    mu = float(str(model.priors.beta[0]).split("mu=")[1].split(",")[0])
    y = np.array(SMALL["y"]).reshape(5, 2).sum(axis=1)
    beta, sigma, v = np.linspace(-4, 5, 181), np.linspace(1e-3, 14, 400), np.linspace(-7, 7, 141)
    prior = stats.norm(mu, 2.5).logpdf(beta)[:, None] + stats.t(3).logpdf(sigma)
    eta = beta[:, None, None] + sigma[:, None] * v
    with np.errstate(over="ignore"):
        terms = y[:, None, None, None] * eta - 2 * np.exp(eta) - 0.5 * v**2
    log_p = prior + np.logaddexp.reduce(terms, axis=-1).sum(axis=0)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    out = {}
    for name, values, axis in (("beta", beta, 1), ("sigma_u2", sigma, 0)):
        margin = p.sum(axis=axis)
        mean = margin @ values
        out[name] = (mean, np.sqrt(margin @ (values - mean) ** 2))
    return out


def test_the_posterior_equals_dense_quadrature():
    tree = sampled()
    for name, (mean, sd) in dense_posterior().items():
        x = tree["posterior"][name].values.reshape(4, 1000)
        from bayeslmm.posterior.trust import ess

        error = 4 / np.sqrt(ess(x[..., None])[0])
        assert abs(x.mean() - mean) / sd < error
        assert x.std() / sd == pytest.approx(1.0, abs=2.5 * error)  # sigma has a long tail


def test_the_same_seed_gives_the_same_draws_whatever_the_number_of_threads(monkeypatch):
    one, two, other = sampled(1), sampled(2), sampled(2, seed=2)
    for name in ("beta", "sigma_u2", "u2"):
        assert np.array_equal(one["posterior"][name].values, two["posterior"][name].values)
        assert not np.array_equal(one["posterior"][name].values, other["posterior"][name].values)


def test_a_tree_says_how_it_was_made_and_what_it_is_worth():
    tree = sampled()
    attrs = tree.attrs
    assert (attrs["sampler"], attrs["variant"], attrs["trusted"]) == ("collapsed", "marginal", 1)
    assert attrs["integration"].startswith("adaptive quadrature, nodes every ")
    assert attrs["quadrature_left"] < 1e-3
    assert attrs["pareto_k"] < 0.7
    assert attrs["acceptance_rate"] > 0.3
    assert (attrs["family"], attrs["doubts"], attrs["note"]) == ("poisson(link = log)", "", "")
    assert {"seconds", "seconds_compiling", "seconds_sampling", "random_seed", "tune"} <= set(attrs)
    assert {"posterior", "sample_stats", "observed_data", "log_likelihood"} <= set(tree.children)
    assert set(tree["sample_stats"].data_vars) == {"accepted", "lp", "diverging"}
    assert tree["posterior"]["u2"].dims == ("chain", "draw", "g")


def quietly(model: blm.GLMM, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # short runs are meant
        return model.sample(draws=30, chains=2, random_seed=1, progress=False, sampler="collapsed", **more)


WIDE = [
    ("y ~ 0 + (1 | g)", "poisson", {}),
    ("y ~ x + (1 + x || g)", "poisson", {}),
    ("y ~ 1 + (0 + x || g) + (1 | h)", "negative_binomial", {}),
    ("y ~ 1 + (1 | h/g)", "cumulative", {}),
    ("y ~ 1 + ar1(0 + f | g)", "binomial(cloglog)", {}),
    ("y ~ offset(x) + (1 | g)", "student_t", {}),
]


@pytest.mark.parametrize(("formula", "family", "more"), WIDE)
def test_every_kind_of_design_is_sampled(formula, family, more):
    rng = np.random.default_rng(10)
    n = 48
    data = {
        "x": rng.normal(size=n).tolist(), "g": np.repeat(list("abcdefghijkl"), 4).tolist(), "f": list("pqr") * 16,
        "h": np.repeat(list("stuv"), 12).tolist() if "h/g" in formula else list("stuv") * 12,
    }  # fmt: skip
    y = {"cumulative": np.arange(n) % 3, "binomial(cloglog)": rng.integers(0, 2, n)}.get(family, rng.poisson(2, n))
    model = blm.GLMM(formula, data | {"y": y.tolist()}, family=family)
    tree = quietly(model)
    joint_dims = {name: variable.dims[2:] for name, variable in tree["posterior"].data_vars.items()}
    for level in model.design.levels:
        assert joint_dims[level.name][0] == level.label.replace("/", "_")
    assert all(np.isfinite(variable.values).all() for variable in tree["posterior"].data_vars.values())
    assert tree.attrs["acceptance_rate"] > 0.3
    assert tree.attrs["pareto_k"] < 0.9  # of few draws


def test_groups_with_a_known_covariance_are_sampled():
    rng = np.random.default_rng(4)
    labels = list("abcdefgh")
    B = rng.normal(size=(8, 8))
    K = pd.DataFrame(B @ B.T / 8 + np.eye(8), index=labels, columns=labels)
    data = {"animal": np.repeat(labels[:7], 6).tolist(), "y": rng.poisson(2, 42).tolist()}
    model = blm.GLMM("y ~ 1 + (1 | animal)", data, family="poisson", covariance={"animal": K})
    tree = quietly(model)
    assert tree["posterior"]["u2"].shape == (2, 30, 8)
    assert "importance sampling of animal" in tree.attrs["integration"]


def test_separated_data_have_a_posterior():
    data = {"y": [0, 0, 0, 0, 1, 1, 1, 1] * 3, "x": [1.0, 2, 3, 4, 5, 6, 7, 8] * 3, "g": list("abc") * 8}
    model = blm.GLMM("y ~ x + (1 | g)", data, family="binomial")
    assert any(said.startswith("Separation") for said in model.doubts)
    tree = model.sample(random_seed=1, progress=False)
    assert (tree.attrs["sampler"], tree.attrs["trusted"]) == ("collapsed", 1)
    assert tree["posterior"]["beta"].values[..., 1].mean() > 0.5


def test_units_of_y_do_not_matter():
    rng = np.random.default_rng(12)
    y, x, g = rng.standard_t(3, 40), rng.normal(size=40), (np.arange(40) // 5).tolist()
    found = []
    for size in (1e-9, 1.0, 1e9):
        model = blm.GLMM(
            "y ~ x + (1 | g)", {"y": (y * size).tolist(), "x": (x * 1e3 + 1e6).tolist(), "g": g}, "student_t"
        )
        posterior = quietly(model)["posterior"]
        found.append([posterior[name].values.mean() / size for name in ("sigma", "sigma_u2")])
    assert np.allclose(found, found[1], rtol=0.02)  # rounded priors


# Words ----------------------------------------------------------------------------------------------------------------


def test_what_is_not_for_the_collapsed_sampler_says_why():
    rng = np.random.default_rng(1)
    data = {"y": rng.poisson(2, 60).tolist(), "g": G * 6 if len(G) == 10 else (np.arange(60) // 6).tolist()}
    data |= {f"x{k}": rng.normal(size=60).tolist() for k in range(30)}
    model = blm.GLMM("y ~ " + " + ".join(f"x{k}" for k in range(30)) + " + (1 | g)", data, family="poisson")
    assert "parameters are more than are proposed together" in why_not(model)
    with pytest.raises(SamplingError, match="doesn't serve here: 32 parameters"):
        model.sample(sampler="collapsed")
    model = blm.GLMM("y ~ 1 + (x1 + x2 + x3 + x4 + x5 | g)", data, family="poisson")
    assert why_not(model) == "g has 6 effects a group, and up to 5 are integrated"
    with pytest.raises(DescriptionError, match="works on the marginal"):
        model.sample("joint", sampler="collapsed")


def test_priors_that_exclude_the_data_are_an_error():
    model = blm.GLMM("y ~ 1 + (1 | g)", SMALL, family="poisson", priors={"sigma_u2": "Uniform(lower=1e30, upper=2e30)"})
    with pytest.raises(SamplingError, match="the priors and the data exclude each other"):
        model.sample(random_seed=1, progress=False, sampler="collapsed")
