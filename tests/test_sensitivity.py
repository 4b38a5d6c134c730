"""Log prior and log likelihood of every draw, against the dense formulas; what ArviZ makes of them."""

import warnings

import numpy as np
import pymc as pm
import pytest
import scipy.stats as st
import xarray as xr
from pymc.stats import compute_log_prior

import bayeslmm as blm
from bayeslmm.criticism.prior_predictive import draw_effects, draw_parameters
from bayeslmm.criticism.sensitivity import (
    add_log_densities,
    conditional_log_likelihood,
    log_prior,
    marginal_log_likelihood,
    residual_parameters,
)
from bayeslmm.design.parameters import congruent, dims
from bayeslmm.errors import DataError
from bayeslmm.theory.density import marginal_logpdf
from tests.registry import BY_NAME
from tests.structured import COVER, DATA, KGX, Structured, dense_K, dense_R

each = pytest.mark.parametrize("case", COVER, ids=lambda case: case.name)
N = 4
# away from the tails, where dense inversions lose digits
MILD = {"sigma": "Uniform(lower=0.5, upper=2)"}


def values_of(lmm) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    values = draw_parameters(lmm.design, lmm.priors, N, rng)
    return values | draw_effects(lmm.design, values, rng)


def mild(case):
    lmm = case.lmm()
    priors = MILD | {f"sigma_{v.name}": "Uniform(lower=0.3, upper=2)" for v in lmm.design.levels if not v.known}
    priors |= {"sigma_ratio": "Uniform(lower=0.5, upper=2)"} if lmm.design.residual.strata else {}
    return case.lmm(priors=priors)


@each
def test_the_marginal_log_likelihood_is_the_dense_one(case):
    lmm = mild(case)
    values, design = values_of(lmm), lmm.design
    ours = marginal_log_likelihood(lmm, values)
    for d in range(N):
        G = []
        for level in design.levels:
            sd = np.atleast_1d(values["sigma" if level.known else f"sigma_{level.name}"][d]) / values["sigma"][d]
            corr = values[f"corr_{level.name}"][d] if level.correlated else np.eye(level.r)
            G.append(np.kron(dense_K(level), sd[:, None] * corr * sd))
        R = dense_R(design, residual_parameters(design, values)[d])
        Z = [level.Z for level in design.levels]
        if not G:
            G, Z = [np.eye(1)], [np.zeros((design.n, 1))]
        theirs = marginal_logpdf(design.y, design.X, Z, values["beta"][d], values["sigma"][d] ** 2, G, R)
        assert ours[d] == pytest.approx(theirs, rel=1e-8)


@each
def test_the_conditional_log_likelihood_is_the_dense_one_and_by_rows_where_these_are_independent(case):
    lmm = mild(case)
    values, design = values_of(lmm), lmm.design
    ours = conditional_log_likelihood(design, values)
    assert ours.shape == ((N,) if design.residual.correlated else (N, design.n))
    for d in range(N):
        e = design.y - design.X @ values["beta"][d]
        e -= sum((level.Z @ values[level.name][d].ravel() for level in design.levels), np.zeros(design.n))
        R = values["sigma"][d] ** 2 * dense_R(design, residual_parameters(design, values)[d])
        assert ours[d].sum() == pytest.approx(st.multivariate_normal(cov=R).logpdf(e), rel=1e-8)
        if not design.residual.correlated:
            np.testing.assert_allclose(ours[d], st.norm(0, np.sqrt(np.diag(R))).logpdf(e), rtol=1e-9)


@each
def test_the_log_prior_has_each_parameter_in_its_own_dims(case):
    lmm = case.lmm()
    values, priors = values_of(lmm), lmm.priors
    ours = log_prior(lmm, values)
    effects = {level.name for level in lmm.design.levels}
    assert set(ours) == set(values) - effects
    stated = np.linalg.solve(priors.beta_map, values["beta"].T).T
    for j, prior in enumerate(priors.beta):
        np.testing.assert_allclose(ours["beta"][:, j], prior.logpdf(stated[:, j]), rtol=1e-9)
    sds = [ours["sigma"], *(ours[name].reshape(N, -1).sum(axis=1) for name in ours if name.startswith("sigma_u"))]
    columns = [values["sigma"]]
    for level, W in zip(lmm.design.levels, priors.effect_maps, strict=True):
        if level.known:
            continue
        own = values[f"sigma_{level.name}"].reshape(N, level.r)
        columns.append(own if W is None else congruent(np.linalg.inv(W), own, values[f"corr_{level.name}"])[0])
    np.testing.assert_allclose(sum(sds), priors.sds.logpdf(np.column_stack(columns)), rtol=1e-12)
    psi = residual_parameters(lmm.design, values)
    of_R = sum((ours[name].reshape(N, -1).sum(axis=1) for name in ("rho", "sigma_ratio") if name in ours), np.zeros(N))
    expected = sum((prior.logpdf(psi[:, k]) for k, prior in enumerate(priors.residual)), np.zeros(N))
    np.testing.assert_allclose(of_R, expected)


def test_the_log_prior_is_that_of_PyMC():
    """Under the same names; without correlations, whose factor PyMC's function doesn't find."""
    for priors in ({}, {"sigma_total": "HalfNormal(sigma=2)", "shares": "Dirichlet(a=2)"}):
        lmm = BY_NAME["independent slope"].lmm(priors=priors)
        with lmm.marginal() as model:
            prior = pm.sample_prior_predictive(20, random_seed=1)["prior"]
            tree = xr.DataTree.from_dict({"/posterior": prior.to_dataset()})
            theirs = compute_log_prior(tree, model=model, progressbar=False)["log_prior"]
        values = {str(name): x.to_numpy()[0] for name, x in prior.data_vars.items()}
        ours = log_prior(lmm, values)
        assert list(ours) == (["beta", "sigma_total", "shares"] if priors else ["beta", "sigma", "sigma_u2"])
        for name in ours:
            # the constant of PyMC's half t is in single precision
            own = theirs[name if name in theirs else f"{name}_at_mean"]
            np.testing.assert_allclose(ours[name], own.to_numpy()[0], rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def pair():
    """(model, joint tree, marginal tree), log densities in both.

    The draws of the joint are collapsed ones too, with the effects that they have: what NUTS draws is judged in
    test_sampling, where its trees also get their log densities.
    """
    lmm = BY_NAME["one way"].lmm(priors={"sigma_u2": "LogNormal(mu=0, sigma=0.7)", "x": "Normal(mu=3, sigma=0.5)"})
    joint = lmm.sample(draws=1500, random_seed=1, progress=False)
    joint.attrs["variant"] = "joint"
    marginal = lmm.sample(draws=4000, random_seed=2, progress=False, log_densities=True)
    return lmm, add_log_densities(lmm, joint), marginal


def test_the_groups_are_those_that_arviz_looks_for(pair):
    lmm, joint, marginal = pair
    for tree in (joint, marginal):
        assert set(tree["log_prior"].data_vars) == {"beta", "sigma", "sigma_u2"}
        assert tree["log_prior"]["beta"].dims == ("chain", "draw", "coef")
        assert tree["log_prior"]["sigma"].dims == ("chain", "draw")
        assert tree["posterior"]["draw"].equals(tree["log_prior"]["draw"])
    assert marginal["log_likelihood_of_all_rows"]["y"].dims == ("chain", "draw")
    assert joint["log_likelihood"]["y"].dims == ("chain", "draw", "row")
    assert "log_likelihood_of_all_rows" not in lmm.sample(draws=5, chains=1, random_seed=1, progress=False).children


def test_scaling_the_prior_by_its_log_density_is_fitting_with_the_scaled_prior(pair):
    """Normal(mu, sigma)^a is Normal(mu, sigma / sqrt(a)): weighted draws against a fit; 4 Monte Carlo errors."""
    _, joint, marginal = pair
    a = 1.5
    scaled = BY_NAME["one way"].lmm(
        priors={"sigma_u2": "LogNormal(mu=0, sigma=0.7)", "x": blm.Prior("Normal", mu=3, sigma=0.5 / np.sqrt(a))}
    )
    refit = scaled.sample(draws=8000, random_seed=3, progress=False)["posterior"]["beta"].sel(coef="x").to_numpy()
    for tree in (joint, marginal):
        w = np.exp((a - 1) * tree["log_prior"]["beta"].sel(coef="x").to_numpy())
        x = tree["posterior"]["beta"].sel(coef="x").to_numpy()
        mean = np.average(x, weights=w)
        # effective sizes of the chains about a third of their length
        error = np.hypot(
            np.sqrt(3 * ((w / w.sum()) ** 2 * (x - mean) ** 2).sum()), refit.std() / np.sqrt(refit.size / 3)
        )
        assert abs(mean - refit.mean()) < 4 * error
        assert abs(x.mean() - refit.mean()) > 4 * error  # the prior matters here


def test_scaling_the_marginal_likelihood_by_two_is_fitting_the_data_twice(pair):
    """p(y | parameters)^2 is the likelihood of the same rows and as many again, in groups of their own."""
    lmm, _, marginal = pair
    data = BY_NAME["one way"].data()
    double = {name: 2 * column for name, column in data.items()} | {"g": data["g"] + [f"{g}2" for g in data["g"]]}
    # the same priors: defaults are scaled by the data
    given = {"Intercept": lmm.priors.beta[0], "x": lmm.priors.beta[1], "sigma": lmm.priors.sigma}
    twice = blm.LMM("y ~ 1 + x + (1 | g)", double, priors=given | {"sigma_u2": lmm.priors.sd[0][0]})
    refit = twice.sample(draws=4000, random_seed=3, progress=False)["posterior"]
    log_w = marginal["log_likelihood_of_all_rows"]["y"].to_numpy()
    w = np.exp(log_w - log_w.max())
    for name in ("sigma", "sigma_u2"):
        x, again = marginal["posterior"][name].to_numpy(), refit[name].to_numpy()
        mean = np.average(x, weights=w)
        error = np.hypot(
            np.sqrt(3 * ((w / w.sum()) ** 2 * (x - mean) ** 2).sum()), again.std() / np.sqrt(again.size / 3)
        )
        assert abs(mean - again.mean()) < 4 * error, name
        assert abs(x.mean() - again.mean()) > 4 * error, name


def sensitivity_of_batches(lmm, tree) -> np.ndarray:
    """Sensitivity to the prior in each half of every chain, (batches, parameters)."""
    half = tree["posterior"].sizes["draw"] // 2
    parts = [
        tree.isel(chain=[chain], draw=slice(begin, begin + half))
        for chain in range(tree["posterior"].sizes["chain"])
        for begin in (0, half)
    ]
    return np.array([lmm.sensitivity(part)["prior"].to_numpy() for part in parts])


def test_both_variants_are_equally_sensitive(pair):
    """Sensitivity to the prior is of the same posterior and prior in both: within 5 Monte Carlo errors."""
    lmm, joint, marginal = pair
    a, b = sensitivity_of_batches(lmm, joint), sensitivity_of_batches(lmm, marginal)
    error = np.hypot(a.std(axis=0, ddof=1), b.std(axis=0, ddof=1)) / np.sqrt(len(a))
    assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < 5 * np.maximum(error, 0.002)).all()  # printed to three digits


def test_arviz_summarises_our_sensitivity(pair):
    import arviz as az

    lmm, joint, marginal = pair
    a, b = lmm.sensitivity(joint), lmm.sensitivity(marginal)
    theirs = az.psense_summary(joint, var_names=["beta", "sigma", "sigma_u2"])
    np.testing.assert_array_equal(a[["prior", "likelihood"]], theirs[["prior", "likelihood"]])
    assert list(a.index) == list(b.index) == ["beta[Intercept]", "beta[x]", "sigma", "sigma_u2"]
    assert b.loc["beta[x]", "diagnosis"] == "potential prior-data conflict"
    alone = lmm.sensitivity(marginal, prior_var_names="sigma_u2")
    assert alone.loc["beta[x]", "prior"] < 0.05 < b.loc["beta[x]", "prior"]


def test_loo_takes_the_rows_of_either_variant(pair):
    import arviz as az

    lmm, joint, marginal = pair
    with warnings.catch_warnings():  # that single rows matter much is not the question here
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        points = [az.loo(tree).n_data_points for tree in (joint, marginal)]
    assert points == [lmm.design.n] * 2


def test_a_summary_has_correlations_once_and_no_warning():
    lmm = blm.LMM.from_toml("models/sleepstudy.toml")
    table = lmm.summary(lmm.sample(draws=50, random_seed=1, progress=False))
    assert [name for name in table.index if name.startswith("corr")] == ["corr_u2[Intercept, Days]"]


def test_correlations_appear_once_in_the_summary():
    lmm = blm.LMM.from_toml("models/sleepstudy.toml")
    tree = lmm.sample(draws=300, chains=2, random_seed=1, progress=False)
    table = lmm.sensitivity(tree)
    assert [name for name in table.index if name.startswith("corr")] == ["corr_u2[Intercept, Days]"]
    assert table[["prior", "likelihood"]].notna().all(axis=None)
    assert "log_likelihood_of_all_rows" not in tree.children  # as it was


def test_shares_have_the_log_prior_of_the_total_and_the_split():
    lmm = BY_NAME["nested"].lmm(priors={"shares": 2})
    tree = add_log_densities(lmm, lmm.sample(draws=50, chains=2, random_seed=1, progress=False))
    assert list(tree["log_prior"].data_vars) == ["beta", "sigma_total", "shares"]
    assert tree["log_prior"]["shares"].dims == ("chain", "draw")


@pytest.mark.parametrize(
    ("levels", "residual"), [("crossed", "cs"), ("kinship", "ar1 and strata"), ("slopes", "known")]
)
def test_draws_of_structured_models_have_their_densities(levels, residual):
    lmm = Structured(levels=levels, residual=residual).lmm()
    tree = lmm.sample(draws=200, chains=2, random_seed=1, progress=False, log_densities=True)
    assert np.isfinite(tree["log_likelihood_of_all_rows"]["y"]).all()
    groups = set(tree["log_prior"].data_vars)
    effects = {level.name for level in lmm.design.levels}
    assert groups == set(dims(lmm.design)) & set(tree["posterior"].data_vars) - effects


def test_trees_that_do_not_fit_are_refused():
    lmm, other = BY_NAME["one way"].lmm(), BY_NAME["nested"].lmm()
    tree = lmm.sample(draws=5, chains=1, random_seed=1, progress=False)
    with pytest.raises(DataError, match=r"has no variable|comes from another model"):
        add_log_densities(other, tree)
    tree.attrs["variant"] = ""
    with pytest.raises(DataError, match="name no variant"):
        add_log_densities(lmm, tree)


def test_parameters_of_the_residual_are_in_the_table():
    lmm = Structured(levels="slopes", residual="ar1 and strata").lmm()
    tree = lmm.sample(draws=200, random_seed=1, progress=False, log_densities=True)
    assert {"rho", "sigma_ratio"} <= set(tree["log_prior"].data_vars)
    table = lmm.sensitivity(tree)
    assert {"rho", "sigma_ratio[m]"} <= set(table.index)


def test_a_level_with_nothing_to_estimate_has_no_prior():
    levels = (blm.Level(group="g", covariance=KGX, known=True), blm.Level(group="h"))
    lmm = blm.LMM(blm.Hierarchy(response="y", fixed="x", levels=levels), DATA)
    tree = lmm.sample(draws=100, random_seed=1, progress=False, log_densities=True)
    assert set(tree["log_prior"].data_vars) == {"beta", "sigma", "sigma_u3"}
