"""The groups of a posterior that ArviZ and PyMC read: computed when read, equal to what dense algebra says."""

import warnings

import numpy as np
import pymc as pm
import pytest
import scipy.stats as st
import xarray as xr

import bayeslmm as blm
from bayeslmm.criticism.groups import DERIVED, complete, stored
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.parameters import dims, level_names
from bayeslmm.errors import OutOfMemoryError
from bayeslmm.posterior.free_variables import free_variables, root_of
from bayeslmm.posterior.tree import by_level
from bayeslmm.support.computed import computed
from tests.registry import CASES as DESIGNS
from tests.structured import COVER, dense_R


def flat(tree: xr.DataTree, group: str = "posterior") -> dict[str, np.ndarray]:
    data = tree[group].to_dataset().transpose("chain", "draw", ...)
    return {str(name): x.to_numpy().reshape(-1, *x.shape[2:]) for name, x in data.data_vars.items()}


def few(lmm: blm.LMM) -> xr.DataTree:
    with warnings.catch_warnings():  # what a dozen draws are worth is not the question here
        warnings.filterwarnings("ignore", message="This posterior cannot be trusted yet")
        return lmm.sample(draws=6, chains=2, random_seed=1, progress=False, sampler="collapsed")


@pytest.mark.parametrize("case", COVER, ids=str)
def test_a_rows_log_likelihood_is_its_density_given_all_others(case):
    """log p(y_i | y_-i, u, ...) = log N(y; eta, sigma^2 R) - log N(y_-i; eta_-i, sigma^2 R_-i)."""
    lmm = case.lmm()
    tree = few(lmm)
    ours = tree["log_likelihood"]["y"].to_numpy().reshape(12, -1)
    values, design = flat(tree), lmm.design
    eta = linear_predictor(design, values["beta"], by_level(design, values))
    for s in (0, 7):
        psi = [values[p.name][s] for p in design.residual.own]
        psi += list(values["sigma_ratio"][s]) if design.residual.strata else []
        V = values["sigma"][s] ** 2 * dense_R(design, psi)
        e = design.y - eta[s]
        whole = st.multivariate_normal(cov=V).logpdf(e)
        for i in (0, design.n // 2, design.n - 1):
            rest = np.delete(np.arange(design.n), i)
            expected = whole - st.multivariate_normal(cov=V[np.ix_(rest, rest)]).logpdf(e[rest])
            np.testing.assert_allclose(ours[s, i], expected, rtol=1e-7, atol=1e-8)  # a difference of two sums


def test_parts_are_parts_of_the_whole_and_the_same_however_they_are_read():
    lmm = blm.example("sleepstudy")
    one, other = few(lmm), few(lmm)
    for group in ("log_likelihood", "posterior_predictive", "prior_predictive", "prior", "posterior"):
        for name in one[group].data_vars:
            a, b = one[group][name], other[group][name]
            part = b.isel(chain=[1], draw=slice(2, 5)).isel({dim: [1, 0] for dim in b.dims[2:]}).to_numpy()
            np.testing.assert_allclose(
                part, a.to_numpy()[1:, 2:5][np.ix_([0], [0, 1, 2], *[[1, 0]] * (a.ndim - 2))], rtol=1e-12, atol=1e-12
            )
            assert b.isel(chain=0, draw=3).shape == a.shape[2:]


def test_a_tree_can_be_cut_whole():
    tree = few(blm.example("heights")).isel(chain=[1], draw=slice(0, 3))
    assert {group: tree[group]["y"].shape[:2] for group in ("log_likelihood", "prior_predictive")} == {
        "log_likelihood": (1, 3), "prior_predictive": (1, 3),
    }  # fmt: skip


@pytest.mark.parametrize("design", DESIGNS, ids=lambda one: one.name)
def test_free_variables_make_the_effects(design):
    """u = L z (W diag(SD) root)', whatever the level: from the variables alone."""
    lmm = design.lmm()
    tree = few(lmm)
    values = flat(tree)
    assert set(values) - {one.name for one in free_variables(lmm)} <= set(dims(lmm.design))
    for k, level in enumerate(lmm.design.levels):
        names, W = level_names(level), lmm.priors.effect_maps[k]
        u = values[names.u].reshape(12, level.m, level.r)
        z = values[f"z_{names.u}"].reshape(u.shape)
        sd = values[names.sigma if level.n_sds else "sigma"].reshape(12, -1)
        root = root_of(values[names.corr]) if level.correlated else np.eye(level.r)
        factor = sd[:, :, None] * root
        if W is not None:
            stated = values[f"{names.u}_at_mean"]
            np.testing.assert_allclose(stated @ W.T, u, rtol=1e-8, atol=1e-10 * np.abs(u).max())
            sd = values.get(f"{names.sigma}_at_mean", sd)
            factor = W @ (sd[:, :, None] * values.get(f"{names.corr}_at_mean_factor", np.eye(level.r)))
        z = z if level.root is None else np.einsum("gh,nhe->nge", level.root, z)
        np.testing.assert_allclose(z @ np.swapaxes(factor, 1, 2), u, rtol=1e-6, atol=1e-8 * np.abs(u).max())


@pytest.mark.parametrize("design", DESIGNS[::3], ids=lambda one: one.name)
def test_pymc_finds_every_free_variable(design):
    """None is drawn from its prior in the posterior's place."""
    lmm = design.lmm()
    have = set(few(lmm)["posterior"].data_vars)
    for model in (lmm.marginal(), lmm.joint(), lmm.joint(centered=True)):
        assert {rv.name for rv in model.free_RVs} <= have


def test_pymc_computes_the_same_log_likelihood_and_predicts_given_the_same_effects():
    """The spread of its predictions about the linear predictor is sigma: had u been drawn anew, it would be tenfold."""
    lmm = blm.example("sleepstudy")
    tree = lmm.sample(draws=50, chains=2, random_seed=1, progress=False)
    values = flat(tree)
    eta = linear_predictor(lmm.design, values["beta"], by_level(lmm.design, values))
    joint, marginal = lmm.joint(), lmm.marginal()
    ours = tree["log_likelihood"]["y"].to_numpy()
    theirs = pm.compute_log_likelihood(tree, model=joint, extend_inferencedata=False, progressbar=False)
    np.testing.assert_allclose(ours, theirs["y"], rtol=1e-9)
    whole = pm.compute_log_likelihood(tree, model=marginal, extend_inferencedata=False, progressbar=False)
    expected = blm.add_log_densities(lmm, tree)["log_likelihood_of_all_rows"]["y"]
    np.testing.assert_allclose(expected, whole["y"], rtol=1e-9)
    new = pm.sample_posterior_predictive(tree, model=joint, progressbar=False, random_seed=1)
    off = (new["posterior_predictive"]["y"].to_numpy().reshape(100, -1) - eta) / values["sigma"][:, None]
    assert abs(off.std() - 1) < 5 / np.sqrt(2 * off.size)  # five standard errors of an SD
    own = (tree["posterior_predictive"]["y"].to_numpy().reshape(100, -1) - eta) / values["sigma"][:, None]
    assert abs(own.std() - 1) < 5 / np.sqrt(2 * own.size)


def test_arviz_reads_them_all():
    import arviz as az

    lmm = blm.example("dyestuff")
    tree = lmm.sample(draws=300, random_seed=1, progress=False)
    with warnings.catch_warnings():  # that single rows matter much is not the question here
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        assert az.loo(tree).n_data_points == 30
    az.psense_summary(tree, var_names=["beta", "sigma", "sigma_u2"])
    az.summary(tree, var_names=["beta", "sigma"])
    az.plot_ppc_dist(tree, num_samples=20)
    az.plot_prior_posterior(tree, var_names=["sigma", "sigma_u2"])
    az.plot_forest(tree, var_names=["beta", "u2"])


def test_flat_priors_draw_nothing_and_the_rest_is_there():
    lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}, priors={"beta": "Flat()"})
    tree = few(lmm)
    assert {"prior", "prior_predictive"}.isdisjoint(tree.children)
    assert np.isfinite(tree["log_likelihood"]["y"]).all()


def test_what_is_stored_is_completed_again():
    lmm = blm.example("sleepstudy")
    tree = few(lmm)
    kept = stored(lmm, tree)
    assert set(kept.children).isdisjoint(DERIVED)
    assert set(kept["posterior"].data_vars) <= set(dims(lmm.design))
    xr.testing.assert_identical(complete(lmm, kept).load(), tree.load())


def test_a_part_that_is_too_large_is_refused_before_it_is_computed():
    huge = xr.Dataset({"y": computed(("draw", "row"), (40_000, 1_000_000), lambda *_: np.zeros(0), "It")})
    with pytest.raises(OutOfMemoryError, match=r"40,000 x 1,000,000 numbers would take 320 GB. Take a part"):
        huge["y"].to_numpy()


def test_without_fixed_effects_there_are_groups_too():
    lmm = blm.LMM("y ~ 0 + (1 | g)", {"y": [1.0, 2, -4, 5, 8, -9], "g": list("aabbcc")})
    tree = few(lmm)
    assert np.isfinite(tree["log_likelihood"]["y"]).all()
    assert tree["prior"]["beta"].shape == (2, 6, 0)
