"""What a comparison computes and says, on posteriors with known moments; nothing is sampled here."""

import arviz as az
import numpy as np
import pandas as pd
import pytest
from synthetic import CHAINS, DRAWS, MODELS, both, posterior

import bayeslmm as blm
from bayeslmm.comparison.comparison import compare_posteriors
from bayeslmm.comparison.findings import funnel_neck
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.draws import density_of, effect_labels, parameter_draws
from bayeslmm.posterior.sd_densities import sd_curves
from bayeslmm.posterior.trust import judge
from bayeslmm.support.text import number


@pytest.fixture(scope="module")
def models():
    names = ("heights", "sleepstudy", "dyestuff", "dyestuff2", "penicillin")
    return {name: blm.LMM.from_toml(MODELS / f"{name}.toml") for name in names}


def topics(comparison):
    return {found.topic: found.text for found in comparison.findings}


# The table


def test_table_has_one_row_per_parameter_under_the_names_that_all_variants_share(models):
    table = both(models["sleepstudy"]).table
    assert list(table.index) == list(models["sleepstudy"].ml().estimates().index)
    assert list(table.index)[-1] == "corr_u2[Intercept, Days]"
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == [
        "ml",
        "reml",
        "joint",
        "marginal",
        "difference",
    ]
    assert list(table["joint"].columns) == ["mean", "sd", "2.5 %", "97.5 %", "ess", "ess_per_second", "rhat"]


def test_likelihood_columns_are_those_of_the_fits(models):
    lmm = models["sleepstudy"]
    table = both(lmm).table
    pd.testing.assert_series_equal(table["ml"]["estimate"], lmm.ml().estimates(), check_names=False)
    np.testing.assert_allclose(table["reml"]["se"].iloc[:2], lmm.reml().fixef_se)
    assert table["reml"]["se"].iloc[2:].isna().all()


def test_posterior_columns_are_moments_and_quantiles_of_the_draws(models):
    c = both(models["heights"])
    x = c.posteriors["joint"]["posterior"]["sigma_u3"].values.ravel()
    row = c.table.loc["sigma_u3", "joint"]
    expected = [x.mean(), x.std(ddof=1), *np.quantile(x, [0.025, 0.975])]
    np.testing.assert_allclose(row[["mean", "sd", "2.5 %", "97.5 %"]].to_numpy(), expected)
    assert row["ess_per_second"] == pytest.approx(row["ess"] / 2.0)
    assert 0.7 < row["ess"] / x.size < 1.3
    assert row["rhat"] == pytest.approx(1, abs=0.01)


def test_correlations_are_the_entries_of_the_matrix_between_the_two_named_effects(models):
    lmm = models["sleepstudy"]
    tree = posterior(lmm, 1)
    flat = parameter_draws(lmm.design, tree).sel(parameter="corr_u2[Intercept, Days]")
    matrix = tree["posterior"]["corr_u2"].sel(u2_effect="Intercept", u2_effect_bis="Days")
    np.testing.assert_array_equal(flat, matrix)


def test_difference_counts_monte_carlo_errors(models):
    lmm = models["dyestuff"]
    one, two = posterior(lmm, 1), posterior(lmm, 1, beta=3.0)
    z = compare_posteriors(lmm, {"joint": one, "marginal": two}).table["difference"]["mcse"]
    error = np.sqrt(2) * az.mcse(one["posterior"]["beta"].values[..., 0])
    assert z["beta[Intercept]"] == pytest.approx(-3.0 / error)
    assert z["sigma"] == 0


def test_random_effects_on_request_with_conditional_modes_and_sds(models):
    lmm = models["sleepstudy"]
    table = both(lmm, random_effects=True).table
    assert len(table) == 6 + 36
    frame = lmm.reml().ranef["u2"]
    assert table.loc["u2[308, Days]", ("reml", "estimate")] == frame.loc["308", "Days"]
    assert table.loc["u2[308, Days]", ("reml", "se")] == frame.loc["308", "Days_sd"]
    assert effect_labels(models["heights"].design.levels[0])[0] == "u2[1:1]"


def test_one_variant_alone_has_no_difference(models):
    c = compare_posteriors(models["heights"], {"marginal": posterior(models["heights"], 1)})
    assert "difference" not in c.table.columns.get_level_values(0)
    assert "Agreement" not in topics(c)
    assert "marginal" in str(c)


def test_diagnostics_say_which_run_can_be_trusted(models):
    lmm = models["heights"]
    bad = posterior(lmm, 1, diverging=np.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS) < 3)
    bad["posterior"]["sigma_u3"][0] += 2.0
    d = compare_posteriors(lmm, {"joint": bad, "marginal": posterior(lmm, 2)}).diagnostics
    assert d.loc["joint", "divergences"] == 3
    assert d.loc["joint", "max_rhat"] > 1.01
    assert d["trusted"].tolist() == [False, True]


def test_order_of_the_variants_is_that_of_the_table_not_of_the_mapping(models):
    lmm = models["dyestuff"]
    c = compare_posteriors(lmm, {"marginal": posterior(lmm, 1), "joint": posterior(lmm, 2)})
    assert c.variants == ("joint", "marginal")


# Bad input


def test_posteriors_that_do_not_fit_are_refused_with_a_remedy(models):
    lmm = models["heights"]
    with pytest.raises(blm.DescriptionError, match="Did you mean 'marginal'"):
        compare_posteriors(lmm, {"marginl": posterior(lmm, 1)})
    with pytest.raises(blm.DescriptionError, match="No posterior was given"):
        compare_posteriors(lmm, {})
    with pytest.raises(blm.DataError, match="without a group 'posterior'"):
        compare_posteriors(lmm, {"joint": {"sigma": 1}})
    with pytest.raises(blm.DataError, match="no variable 'sigma_u3'"):
        compare_posteriors(lmm, {"joint": posterior(models["dyestuff"], 1)})
    with pytest.raises(blm.DataError, match=r"shape \(2,\) per draw; \(1,\) was expected"):
        compare_posteriors(models["dyestuff"], {"joint": posterior(models["sleepstudy"], 1)})
    with pytest.raises(blm.DataError, match="no variable 'u2'"):
        compare_posteriors(lmm, {"joint": posterior(lmm, 1, effects=False)}, random_effects=True)
    broken = posterior(lmm, 1)
    broken["posterior"]["sigma"][1, 5:] = np.nan
    with pytest.raises(blm.DataError, match="495 values that are not finite"):
        compare_posteriors(lmm, {"joint": broken})


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (["both"], "no variant 'both'"),
        ("both", "no variant 'both'"),
        (["joint", 3], "no variant 3"),
        (None, "variants=None; expected names of variants"),
        (3, r"variants=3; .*Write variants=\['joint', 'marginal'\]"),
        (("joint", "joint"), "names one twice"),
        ([], "No posterior was given"),
    ],
)
def test_compare_refuses_wrong_variants_before_sampling(models, variants, message):
    with pytest.raises(blm.DescriptionError, match=message):
        blm.compare(models["heights"], variants=variants)


def test_one_variant_may_be_named_alone(models):
    found = blm.compare(models["dyestuff"], variants="marginal", draws=20, chains=2, random_seed=1, progress=False)
    assert found.variants == ("marginal",)


def test_what_is_no_model_is_refused(models):
    for wrong in (None, "y ~ 1", models["dyestuff"].ml()):
        with pytest.raises(blm.DescriptionError, match=f"A {type(wrong).__name__} came as the model; expected an LMM"):
            blm.compare(wrong)
    with pytest.raises(blm.DescriptionError, match=r"No posterior was given \(a list came\)"):
        compare_posteriors(models["dyestuff"], [1])


# The words


def test_boundary_is_said_with_what_the_posterior_says_instead(models):
    c = both(models["dyestuff2"])
    said = topics(c)["On the boundary"]
    x, sigma = c.values(c.best, "sigma_u2"), c.values(c.best, "sigma")
    assert "ML and REML put sigma_u2, the SD between the groups of Batch, at zero" in said
    assert f"a median of {np.median(x):.{c.places('sigma_u2')}f}" in said
    share = np.mean(x > sigma / 2)
    assert ("less than 1 %" if share < 0.01 else f"{100 * share:.0f} %") in said
    assert "On the boundary" not in topics(both(models["dyestuff"]))


def test_boundary_of_ml_alone_is_said_of_ml_alone(models):
    assert topics(both(models["heights"]))["On the boundary"].startswith("ML puts sigma_u3")


def test_few_groups_are_counted_and_their_prior_is_named(models):
    said = topics(both(models["heights"]))["Few groups"]
    assert "school has 2 groups" in said
    assert "HalfStudentT(nu=3, sigma=1)" in said
    assert "class:school" not in said
    assert "Few groups" not in topics(both(models["sleepstudy"]))


def test_agreement_is_measured_against_what_chance_gives(models):
    assert topics(both(models["heights"]))["Agreement"].startswith("Joint and marginal agree")
    apart = both(models["heights"], joint={"beta": 0.5})
    assert topics(apart)["Agreement"].startswith("Joint and marginal do not agree")
    assert "beta[Intercept]" in topics(apart)["Agreement"]
    assert apart.diagnostics["trusted"].tolist() == [False, True]


def test_a_tail_that_nuts_never_saw_is_said_though_the_means_agree(models):
    """R-hat and ESS of the joint alone are fine; the marginal is the measure."""
    lmm = models["heights"]
    joint, marginal = posterior(lmm, 1), posterior(lmm, 2)
    x = joint["posterior"]["sigma_u3"]
    joint["posterior"]["sigma_u3"] = x.clip(max=float(x.quantile(0.9))) + 0.02 * float(x.std())
    c = compare_posteriors(lmm, {"joint": joint, "marginal": marginal})
    assert judge(joint).trusted
    assert abs(c.table.loc["sigma_u3", ("difference", "mcse")]) < 4
    assert c.diagnostics["trusted"].tolist() == [False, True]
    doubts = c.diagnostics.loc["joint", "doubts"]
    assert "it missed a part of the tail of sigma_u3 above" in doubts
    assert "its 90 % interval for sigma_u3 is" in doubts
    assert "too short" in doubts
    assert topics(c)["Trust"].startswith("The joint posterior cannot be trusted yet: held against the marginal")
    assert c.best == "marginal"


def test_divergences_of_more_than_one_draw_in_a_thousand_are_a_doubt(models):
    lmm = models["heights"]
    few, many = (np.arange(CHAINS * DRAWS).reshape(CHAINS, DRAWS) < k for k in (2, 3))
    assert judge(posterior(lmm, 1, diverging=few)).trusted
    assert "3 of 2000 draws diverged" in judge(posterior(lmm, 1, diverging=many)).text


def test_a_posterior_that_did_not_mix_is_named_and_the_other_quoted(models):
    lmm = models["heights"]
    bad = posterior(lmm, 1)
    bad["posterior"]["sigma_u3"][0] += 2.0
    c = compare_posteriors(lmm, {"joint": bad, "marginal": posterior(lmm, 2)})
    said = topics(c)
    assert c.best == "marginal"
    assert said["Trust"].startswith("The joint posterior cannot be trusted yet: R-hat reaches")
    assert "(sigma_u3)" in said["Trust"]
    assert "The marginal posterior can" in said["Trust"]
    assert "settles little" in said["Agreement"]
    assert "Efficiency" not in said
    assert "Trust" not in topics(both(lmm))


def test_one_chain_cannot_be_trusted_because_r_hat_takes_two(models):
    lmm = models["dyestuff"]
    tree = posterior(lmm, 1).isel(chain=slice(0, 1))
    assert "takes two chains" in topics(compare_posteriors(lmm, {"marginal": tree}))["Trust"]


def test_divergences_at_the_neck_of_a_funnel_name_its_level(models):
    lmm = models["heights"]
    tree = posterior(lmm, 1)
    sd = tree["posterior"]["sigma_u3"].values
    tree["sample_stats"]["diverging"][:] = sd < np.quantile(sd, 0.02)
    c = compare_posteriors(lmm, {"joint": tree, "marginal": posterior(lmm, 2)})
    name, level, shift = funnel_neck(c, "joint")
    assert (name, level.name) == ("sigma_u3", "u3")
    assert shift < -1
    said = topics(c)["Divergences"]
    assert "In the joint model 40 draws of 2000 diverged" in said
    assert "funnel of u3 (school)" in said
    assert "marginal model" in said


def test_divergences_anywhere_are_counted_without_blaming_a_level(models):
    lmm = models["heights"]
    anywhere = np.random.default_rng(3).random((CHAINS, DRAWS)) < 0.01
    c = both(lmm, joint={"diverging": anywhere})
    assert f"{anywhere.sum()} draws of 2000 diverged" in topics(c)["Divergences"]
    assert "funnel" not in topics(c)["Divergences"]
    assert "Divergences" not in topics(both(lmm))


def test_efficiency_is_the_ratio_of_the_worst_effective_draws_per_second(models):
    c = both(models["dyestuff"], joint={"seconds": 20.0}, marginal={"seconds": 1.0})
    said = topics(c)["Efficiency"]
    for column, how in (("min_ess_per_second", "with compilation"), ("min_ess_per_second_sampling", "in sampling")):
        rate = c.diagnostics[column]
        assert f"{how} the marginal model was {number(rate['marginal'] / rate['joint'], 2)} times as efficient" in said
    equal = both(models["dyestuff"])
    assert "about equally efficient" in topics(equal)["Efficiency"]


def test_compiling_and_sampling_are_reported_apart(models):
    """A run that compiles for long and samples fast is not slow, and the other way round."""
    c = both(
        models["dyestuff"], joint={"seconds": 20.0, "compiling": 19.0}, marginal={"seconds": 2.0, "compiling": 0.0}
    )
    d = c.diagnostics
    assert d["seconds_sampling"].tolist() == [1.0, 2.0]
    assert d["min_ess_per_second_sampling"]["joint"] == pytest.approx(d["min_ess"]["joint"])
    assert "in sampling the joint model was" in topics(c)["Efficiency"]
    assert "with compilation the marginal model was" in topics(c)["Efficiency"]
    assert "Compiling took 19 s for the joint and 0 s for the marginal" in topics(c)["Efficiency"]


def test_mode_median_and_mean_are_told_apart_where_the_posterior_is_skewed(models):
    c = both(models["heights"], sds={"sigma_u3": (0.6, 0.5)})
    row = c.centres.loc["sigma_u3"]
    assert row["mode"] < row["median"] < row["mean"]
    said = topics(c)["ML, REML and the posterior"]
    assert "The posterior of sigma_u3 is skewed to the right" in said
    assert "ML puts sigma_u2 at 0.93 against 0.99 by REML" in said


def test_a_symmetric_posterior_is_not_called_skewed(models):
    c = both(models["sleepstudy"])
    assert "skewed" not in c.text


def test_fixed_effects_say_how_far_the_posterior_moved_from_reml(models):
    lmm = models["sleepstudy"]
    assert "within 0.2 posterior SDs" in topics(both(lmm))["Fixed effects"]
    moved = both(lmm, beta=np.array([0.0, 2 * lmm.reml().fixef_se["Days"]]))
    said = topics(moved)["Fixed effects"]
    assert "The posterior's mean of beta[Days] lies 2.0 posterior SDs above REML's estimate" in said


def test_mode_is_the_top_of_the_density_on_the_scale_of_the_sd():
    x = np.random.default_rng(1).gamma(4.0, 1.0, size=20_000)
    grid, density = density_of(x)
    assert grid[np.argmax(density)] == pytest.approx(3.0, abs=0.25)


def test_the_curve_of_an_sd_is_its_collapsed_density(models):
    """Dyestuff's two SDs on a grid: the marginals of a two-dimensional integral, to three digits."""
    lmm = models["dyestuff"]
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    logs = np.linspace(np.log(20), np.log(130), 161), np.linspace(np.log(0.05), np.log(900), 400)
    points = np.stack(np.meshgrid(*logs, indexing="ij"), axis=-1)
    lp = posterior.evaluate(points.reshape(-1, 2))[0].reshape(161, 400)
    mass = np.exp(lp - lp.max())
    for axis, name in enumerate(("sigma", "sigma_u2")):
        s = np.exp(logs[axis])
        expected = mass.sum(axis=1 - axis) / s
        expected /= np.trapezoid(expected, s)
        curve = sd_curves(lmm)[name]
        found = np.interp(s, curve.grid, curve.density)
        assert np.abs(found - expected).max() < 0.03 * expected.max()
        assert curve.mode == pytest.approx(s[np.argmax(expected)], rel=0.04)


def test_the_mode_does_not_depend_on_the_run_and_a_flat_top_is_said(models):
    one, two = (both(models["heights"], seed=seed, sds={"sigma_u3": (0.6, 0.5)}) for seed in (1, 5))
    assert one.centres["mode"].tolist() == two.centres["mode"].tolist()
    assert one.mode_text("sigma_u3").startswith("flat, 0.00 to ")
    assert "its density is flat between 0.00 and" in topics(one)["ML, REML and the posterior"]
    assert not one.mode_text("sigma").startswith("flat")


def test_standard_errors_are_compared_where_they_differ(models):
    said = topics(both(models["heights"]))["Fixed effects"]
    assert "beta[Intercept] that differ by more than 10 %" in said
    assert "standard error" not in topics(both(models["sleepstudy"]))["Fixed effects"]


# In the terminal and the notebook


@pytest.mark.parametrize("name", ["heights", "sleepstudy", "penicillin"])
def test_printed_it_fits_a_terminal_and_has_everything(models, name):
    c = both(models[name])
    text = str(c)
    assert max(map(len, text.splitlines())) <= 110
    words = " ".join(text.split())
    for part in (*models[name].describe().split("\n"), *c.table.index, "divergences", "R-hat", "REML"):
        assert part in words


def test_numbers_have_the_decimals_that_their_uncertainty_deserves(models):
    shown = both(models["sleepstudy"]).shown
    assert shown.loc["beta[Intercept]", ("reml", "estimate")] == "251.4"
    assert shown.loc["sigma", ("reml", "se")] == ""
    assert "nan" not in str(both(models["sleepstudy"]))


def test_of_many_random_effects_the_first_are_printed_and_the_rest_counted(models):
    c = both(models["sleepstudy"], random_effects=True)
    assert "more random effects" not in str(c)
    rng = np.random.default_rng(1)
    many = blm.LMM("y ~ 1 + (1 | g)", {"y": rng.normal(size=200), "g": np.repeat(np.arange(100), 2)})
    text = str(both(many, random_effects=True))
    assert "60 more random effects are in the table" in text
    assert "u2[39]" in text
    assert "u2[40]" not in text


def test_in_a_notebook_it_is_a_table_and_paragraphs(models):
    html = both(models["heights"])._repr_html_()
    assert html.count("<table") == 4
    assert "<strong>On the boundary.</strong>" in html
    assert len(html) < 20_000


def test_it_is_frozen(models):
    c = both(models["heights"])
    with pytest.raises(AttributeError):
        c.random_effects = True
