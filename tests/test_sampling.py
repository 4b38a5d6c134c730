"""Joint and marginal, NUTS and collapsed: one posterior, under the same names and dims."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayeslmm as blm
from bayeslmm.comparison.comparison import compare_posteriors
from bayeslmm.design.parameters import dims
from bayeslmm.errors import SamplingError
from bayeslmm.posterior import nuts, trust


# The joint has funnels at both ends of its SDs. Slopes and their correlations by NUTS are the calibration command's.
@pytest.fixture(scope="session")
def posteriors():
    """(model, joint posterior by NUTS, marginal posterior by the collapsed sampler): each sampled once a session."""
    lmm = blm.LMM.from_toml("models/heights.toml")
    joint = lmm.sample("joint", draws=1000, tune=1000, chains=2, random_seed=11, progress=False, log_densities=True)
    marginal = lmm.sample(draws=2000, chains=4, random_seed=12, progress=False, residuals=True)
    return lmm, joint, marginal


def scalars(tree, names):
    """Every scalar draw (chain, draw) of the named variables, without the diagonal of correlations."""
    for name in names:
        values = tree["posterior"][name]
        flat = values.to_numpy().reshape(*values.shape[:2], -1)
        for k in range(flat.shape[2]):
            if np.ptp(flat[:, :, k]) > 1e-9:
                yield f"{name}[{k}]", flat[:, :, k]


def mean_and_error(draws):
    import arviz_stats

    return draws.mean(), float(arviz_stats.mcse(xr.Dataset({"x": (("chain", "draw"), draws)}))["x"])


def test_joint_and_marginal_agree_within_monte_carlo_error(posteriors):
    """Means of all parameters and random effects, and of the logs of the SDs; 4.5 errors for up to 50 comparisons."""
    lmm, joint, marginal = posteriors
    names = [name for name in dims(lmm.design) if name in joint["posterior"].data_vars]
    assert {"beta", "sigma", "sigma_u2", "u2"} <= set(names)
    for (label, a), (_, b) in zip(scalars(joint, names), scalars(marginal, names), strict=True):
        for transform in (np.asarray, np.log) if label.startswith("sigma") else (np.asarray,):
            (m1, e1), (m2, e2) = mean_and_error(transform(a)), mean_and_error(transform(b))
            assert abs(m1 - m2) < 4.5 * np.hypot(e1, e2), label


def test_the_joint_goes_where_the_marginal_goes(posteriors):
    """Means, SDs, tails and reach: nothing that would be seen less than once in a thousand comparisons."""
    lmm, joint, marginal = posteriors
    c = compare_posteriors(lmm, {"joint": joint, "marginal": marginal})
    assert c.agreement.agree, c.agreement.missed()
    assert c.diagnostics["trusted"].all(), c.diagnostics["doubts"].tolist()


def test_a_joint_posterior_has_its_log_densities(posteriors):
    """Under the names of its parameters, and by rows; test_sensitivity has their values."""
    lmm, joint, _ = posteriors
    effects = {level.name for level in lmm.design.levels}
    written = set(dims(lmm.design)) & set(joint["posterior"].data_vars)
    assert set(joint["log_prior"].data_vars) == written - effects
    assert joint["log_likelihood"]["y"].dims == ("chain", "draw", "row")


def test_what_a_run_is_worth_is_written_down_with_it(posteriors):
    for tree in posteriors[1:]:
        assert (tree.attrs["trusted"], tree.attrs["doubts"]) == (1, "")
        assert tree.attrs["seconds"] == pytest.approx(tree.attrs["seconds_compiling"] + tree.attrs["seconds_sampling"])


def test_draws_that_cannot_be_trusted_are_a_warning_and_draws_too_few_to_judge_are_not(monkeypatch):
    lmm = blm.LMM.from_toml("models/dyestuff.toml")
    few = lmm.sample(draws=50, random_seed=1, progress=False)
    assert (few.attrs["trusted"], few.attrs["doubts"][:14]) == (0, "with 200 draws")
    monkeypatch.setattr(trust, "ESS_LIMIT", 10_000)
    with pytest.warns(UserWarning, match="cannot be trusted yet: the smallest effective sample size is"):
        tree = lmm.sample(draws=500, random_seed=1, progress=False)
    assert tree.attrs["trusted"] == 0
    assert "10000 being wanted" in tree.attrs["doubts"]


def test_both_variants_have_the_same_names_dims_and_labels(posteriors):
    _, joint, marginal = posteriors
    for name, values in joint["posterior"].data_vars.items():
        assert marginal["posterior"][name].dims == values.dims
        for dim in values.dims[2:]:
            assert list(marginal["posterior"][dim].values) == list(values[dim].values)


def test_a_grouping_with_a_slash_and_an_index_of_two_levels_have_names_too():
    """A DataTree's names are paths, and its coordinates are flat."""
    rng = np.random.default_rng(1)
    index = pd.MultiIndex.from_product([range(8), range(3)])
    data = pd.DataFrame({"y": rng.normal(size=24), "a/b": np.repeat(list("abcdefgh"), 3)}, index=index)
    tree = blm.LMM("y ~ 1 + (1 | `a/b`)", data).sample(draws=20, random_seed=1, residuals=True, progress=False)
    assert tree["posterior"]["u2"].dims == ("chain", "draw", "a_b")
    assert tree["posterior"]["row"].values[:4].tolist() == ["0, 0", "0, 1", "0, 2", "1, 0"]


def test_collapsed_chains_look_like_good_chains(posteriors):
    import arviz_stats

    *_, marginal = posteriors
    assert float(marginal["sample_stats"]["accepted"].mean()) > 0.4
    assert marginal.attrs["pareto_k"] < 0.7
    for label, draws in scalars(marginal, [n for n in marginal["posterior"].data_vars if n != "e"]):
        chain = xr.Dataset({"x": (("chain", "draw"), draws)})
        assert float(arviz_stats.rhat(chain)["x"]) < 1.01, label
        assert float(arviz_stats.ess(chain)["x"]) > 1000, label


def test_residuals_close_the_equation(posteriors):
    """Y = X beta + Z u + e in every draw."""
    lmm, _, marginal = posteriors
    post = marginal["posterior"]
    b = np.concatenate([post[level.name].to_numpy().reshape(4, 2000, -1) for level in lmm.design.levels], axis=2)
    fitted = post["beta"].to_numpy() @ lmm.design.X.T + b @ lmm.design.Z.toarray().T
    np.testing.assert_allclose(fitted + post["e"].to_numpy(), np.broadcast_to(lmm.design.y, fitted.shape), rtol=1e-9)


def test_it_can_be_saved_and_read_again(posteriors, tmp_path):
    *_, marginal = posteriors
    marginal.to_netcdf(tmp_path / "fit.nc")
    with xr.open_datatree(tmp_path / "fit.nc") as again:
        xr.testing.assert_equal(again["posterior"].to_dataset(), marginal["posterior"].to_dataset())


@pytest.fixture(scope="session")
def nuts_on_the_marginal():
    lmm = blm.LMM.from_toml("models/dyestuff.toml")
    return lmm, lmm.sample(sampler="nuts", draws=1000, tune=500, chains=2, random_seed=3, progress=False)


def test_nuts_on_the_marginal_agrees_with_the_collapsed_sampler(nuts_on_the_marginal):
    lmm, nuts = nuts_on_the_marginal
    collapsed = lmm.sample(draws=2000, random_seed=4, progress=False)
    assert (nuts.attrs["sampler"], collapsed.attrs["sampler"]) == ("nuts", "collapsed")
    for (label, a), (_, b) in zip(
        scalars(nuts, ["beta", "sigma", "sigma_u2", "u2"]),
        scalars(collapsed, ["beta", "sigma", "sigma_u2", "u2"]),
        strict=True,
    ):
        (m1, e1), (m2, e2) = mean_and_error(a), mean_and_error(b)
        assert abs(m1 - m2) < 4.5 * np.hypot(e1, e2), label


def test_draws_that_are_not_finite_are_an_error_that_keeps_the_clean_part(nuts_on_the_marginal, monkeypatch):
    """An interrupted run can come back padded with NaN and zero divergences: never a result."""
    import nutpie

    lmm, _ = nuts_on_the_marginal

    def padded(compiled, *, draws, chains, **_):
        rng = np.random.default_rng(0)
        sigma = np.exp(rng.normal(size=(chains, draws)))
        sigma[1, 12:] = np.nan
        posterior = xr.Dataset(
            {
                "beta": (("chain", "draw", "coef"), rng.normal(size=(chains, draws, 1))),
                "sigma": (("chain", "draw"), sigma),
                "sigma_u2": (("chain", "draw"), np.ones((chains, draws))),
            }
        )
        stats = xr.Dataset({"diverging": (("chain", "draw"), np.zeros((chains, draws), dtype=bool))})
        return xr.DataTree.from_dict({"/posterior": posterior, "/sample_stats": stats})

    monkeypatch.setattr(nutpie, "compile_pymc_model", lambda model, **_: None)
    monkeypatch.setattr(nutpie, "sample", padded)
    with pytest.raises(SamplingError, match="12 of 20 finite draws") as caught:
        lmm.sample(sampler="nuts", draws=20, chains=2, random_seed=1)
    clean = caught.value.clean["posterior"]
    assert clean.sizes["draw"] == 12
    assert np.isfinite(clean["u2"]).all()


def test_clean_draws_counts_up_to_the_first_bad_one():
    good = np.zeros((2, 5, 3))
    bad = good.copy()
    bad[1, 3, 0] = np.inf
    assert nuts.clean_draws({"a": good}, 5)[1] == 5
    assert nuts.clean_draws({"a": good, "b": bad}, 5)[1] == 3
    assert nuts.clean_draws({"a": good[:, :4]}, 5)[1] == 4


def ragged(*lengths):
    """Draws of chains of these lengths, padded with NaN to 5 as an interrupted run has them."""
    sigma = np.full((len(lengths), 5), np.nan)
    for chain, length in enumerate(lengths):
        sigma[chain, :length] = 1.0
    return {"sigma": sigma, "beta": np.stack([sigma, sigma], axis=-1)}


@pytest.mark.parametrize(
    ("lengths", "chains", "draws"),
    [
        ((5, 5, 5, 5), [0, 1, 2, 3], 5),
        ((5, 4, 5, 5), [0, 1, 2, 3], 4),  # 16 draws in all; 15 without the second chain
        ((5, 5, 0, 0), [0, 1], 5),  # two cores: the others had not begun
        ((0, 5, 1, 0), [1], 5),
        ((0, 0, 0, 0), [0, 1, 2, 3], 0),
    ],
)
def test_of_an_interrupted_run_what_is_finished_is_kept(lengths, chains, draws):
    whole, clean = nuts.clean_draws(ragged(*lengths), 5)
    assert (whole.tolist(), clean) == (chains, draws)
