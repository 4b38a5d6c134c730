"""ML and REML: lme4's numbers, the founding thread's numbers, and what a likelihood must obey."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from conftest import LME4, fitted_model, read_data
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import BY_NAME
from scipy.integrate import quad
from scipy.optimize import minimize

from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.lmm import LMM
from bayeslmm.theory import density

FITS = LME4["fits"]
SMALL = [key for key in FITS if FITS[key]["n"] < 1000]

# Optima so flat that good optimisers part in the fourth digit of an SD; the likelihoods tell who is higher.
FLAT = {"exam:ML", "insteval:ML", "radon:ML", "radon:REML"}
FACTORS = ("recipe", "sex", "service")


def fit_of(key: str) -> LikelihoodFit:
    reference = FITS[key]
    lmm = fitted_model(reference["formula"], reference["data"])
    return lmm.reml() if reference["REML"] else lmm.ml()


def our_name(name: str) -> str:
    """lme4's name of a coefficient -> ours: (Intercept) -> Intercept, recipeB -> recipe[T.B]."""
    if name == "(Intercept)":
        return "Intercept"
    return re.sub(rf"\b({'|'.join(FACTORS)})(\w+)", r"\1[T.\2]", name)


# lme4's 28 fits


@pytest.mark.parametrize("key", FITS)
def test_log_likelihood(key):
    tolerance = 1e-4 if key.startswith("insteval") else 1e-6
    assert fit_of(key).loglik == pytest.approx(FITS[key]["logLik"], abs=tolerance)
    assert fit_of(key).status.name in ("converged", "singular")


@pytest.mark.parametrize("key", FITS)
def test_fixed_effects_and_their_standard_errors(key):
    reference, fit = FITS[key], fit_of(key)
    tolerance = 2e-4 if key == "insteval:ML" else 1e-4  # flat, and ours is higher by 7e-7
    assert list(fit.fixef.index) == [our_name(name) for name in reference["fixef"]]
    for name, se in reference["se"].items():
        assert abs(fit.fixef[our_name(name)] - reference["fixef"][name]) <= 1e-4 * se
        assert fit.fixef_se[our_name(name)] == pytest.approx(se, rel=tolerance)
        assert fit.fixef_cov.loc[our_name(name), our_name(name)] == pytest.approx(se**2, rel=2 * tolerance)


@pytest.mark.parametrize("key", FITS)
def test_standard_deviations_and_correlations(key):
    tolerance = 5e-3 if key in FLAT else 1e-4
    table = {
        tuple(name if isinstance(name, str) else None for name in row[:3]): row
        for row in fit_of(key).varcorr.itertuples(index=False)
    }
    assert len(table) == len(FITS[key]["varcor"])
    for row in FITS[key]["varcor"]:
        group = re.sub(r"\.\d+$", "", row["grp"])  # lme4's second term of a ||
        effects = [our_name(row[name]) if row.get(name) else None for name in ("var1", "var2")]
        found = table[group, *effects]
        assert found.sd_or_corr == pytest.approx(row["sdcor"], rel=tolerance, abs=1e-9)
        assert found.variance == pytest.approx(row["vcov"], rel=2 * tolerance, abs=1e-9)


@pytest.mark.parametrize("key", FITS)
def test_theta_is_lme4s(key):
    """Same entries in the same order: level by level, column by column of the lower triangle."""
    expected = list(FITS[key]["theta"].values())
    scale = max(expected, default=0)
    np.testing.assert_allclose(fit_of(key).theta, expected, rtol=5e-3 if key in FLAT else 1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("key", FITS)
def test_random_effects(key):
    fit, reference = fit_of(key), FITS[key]
    tolerance = 5e-3 if key in FLAT else 2e-4
    assert float(fit.b @ fit.b) == pytest.approx(reference["b_ss"], rel=tolerance, abs=1e-9)
    for label, head in reference["ranef_head"].items():
        frame = fit.ranef[label]
        assert len(frame) == reference["ngrps"][label]
        head = pd.DataFrame(head).rename(columns=our_name)
        if "_row" in head:  # R names rows only where their names aren't 1, 2, 3, ...
            head = head.set_index("_row")
            assert list(frame.index[: len(head)]) == list(head.index)
        found = frame[list(head)].to_numpy()
        np.testing.assert_allclose(found[: len(head)], head, atol=tolerance * abs(found).max() + 1e-9)


@pytest.mark.parametrize("key", FITS)
def test_singular_fits_are_recognised(key):
    fit = fit_of(key)
    assert fit.singular == FITS[key]["singular"]
    assert (fit.status.name == "singular") == fit.singular
    assert bool(fit.boundary) == fit.singular


def test_which_are_singular():
    assert fit_of("heights3:ML").boundary == ("sigma_u3",)
    assert fit_of("dyestuff2:ML").boundary == fit_of("dyestuff2:REML").boundary == ("sigma_u2",)
    assert "boundary" in fit_of("heights3:ML").status.advice


@pytest.mark.parametrize("key", sorted(FLAT))
def test_where_the_optimum_is_flat_ours_is_no_lower(key):
    assert fit_of(key).loglik >= FITS[key]["logLik"] - 1e-9


# The founding thread


def test_b_of_the_two_level_model(heights2):
    np.testing.assert_allclose(heights2.reml().b, [-0.9421207, -0.0119456, 0.9540663], atol=0.6e-7)


def test_b_of_the_three_level_model(heights3):
    """Printed at an optimum that is good to 4e-5: classes 1:1 1:2 2:1 2:2 3:1 3:2, then schools 1 2."""
    printed = [-1.2863150, -0.6696624, -0.4058639, 0.3810632, 0.6372665, 1.3435117, -0.1097978, 0.1097978]
    b = heights3.reml().b
    np.testing.assert_allclose(b, printed, atol=5e-5)
    assert [group for _, group, _ in b.index] == ["1:1", "1:2", "2:1", "2:2", "3:1", "3:2", "1", "2"]


def test_Zt_of_the_two_level_model(heights2):
    """3 x 18: row `class` is one for the pupils of that class, in either school."""
    pattern = """
        111......111......
        ...111......111...
        ......111......111
    """
    np.testing.assert_array_equal(heights2.Zt.matrix.toarray(), picture(pattern))


def test_Zt_of_the_three_level_model(heights3):
    """8 x 18: six classes of three pupils, two schools of nine."""
    pattern = """
        111...............
        .........111......
        ...111............
        ............111...
        ......111.........
        ...............111
        111111111.........
        .........111111111
    """
    np.testing.assert_array_equal(heights3.Zt.matrix.toarray(), picture(pattern))


def picture(text: str) -> np.ndarray:
    return np.array([[float(c == "1") for c in line] for line in text.split()])


# Against the dense formulas


@pytest.mark.parametrize("key", [key for key in SMALL if not FITS[key]["REML"]])
def test_ml_is_the_marginal_density_at_its_estimates(key):
    fit = fit_of(key)
    args = dense_arguments(fit)
    assert fit.loglik == pytest.approx(density.marginal_logpdf(*args), rel=1e-10)


@pytest.mark.parametrize("key", [key for key in SMALL if FITS[key]["REML"]])
def test_reml_is_the_marginal_integrated_over_a_flat_beta(key):
    """A Gaussian integral: the marginal at its peak, times sqrt of (2 pi)^p |Cov(beta)|."""
    fit = fit_of(key)
    peak = density.marginal_logpdf(*dense_arguments(fit))
    volume = 0.5 * np.linalg.slogdet(2 * np.pi * fit.fixef_cov.to_numpy())[1]
    assert fit.loglik == pytest.approx(peak + volume, rel=1e-10)


@pytest.mark.parametrize("name", ["heights2", "heights3"])
def test_reml_by_numerical_integration(name, request):
    fit = request.getfixturevalue(name).reml()
    y, X, Z, beta, s2, G = dense_arguments(fit)

    def marginal(b):
        return np.exp(density.marginal_logpdf(y, X, Z, [b], s2, G) - fit.loglik)

    width = 12 * fit.fixef_se.iloc[0]
    integral, _ = quad(marginal, beta[0] - width, beta[0] + width, epsabs=1e-13, epsrel=1e-12)
    assert integral == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("key", SMALL)
def test_random_effects_are_the_conditional_mean_with_its_sd(key):
    fit = fit_of(key)
    mean, cov = density.conditional_moments(*dense_arguments(fit))
    np.testing.assert_allclose(fit.b, mean, atol=1e-8 * (1 + abs(mean).max()))
    sds = [frame[f"{e}_sd"] for frame, e in columns_of(fit)]
    expected, at = [], 0
    for level in fit.design.levels:
        block = np.sqrt(np.maximum(np.diag(cov)[at : at + level.q], 0)).reshape(level.m, level.r)
        expected += list(block.T)
        at += level.q
    for found, sd in zip(sds, expected, strict=True):
        np.testing.assert_allclose(found, sd, rtol=1e-7, atol=1e-6 * fit.sigma)


def columns_of(fit: LikelihoodFit):
    for level in fit.design.levels:
        for effect in level.effects:
            yield fit.ranef[level.name], effect


def dense_arguments(fit: LikelihoodFit):
    """(y, X, Z, beta, sigma^2, G) of a fit, for the dense formulas."""
    from scipy.linalg import block_diag

    design = fit.design
    G = block_diag(*[np.kron(np.eye(lv.m), lam @ lam.T) for lv, lam in zip(design.levels, fit.lambdas, strict=True)])
    return design.y, design.X, design.Z, fit.beta, fit.sigma**2, G


# It is a maximum


@pytest.mark.parametrize("key", [key for key in FITS if not key.startswith("insteval")])
def test_the_gradient_is_zero_at_the_optimum(key):
    """On the boundary the derivative is zero by symmetry, and a step inwards is no better."""
    fit = fit_of(key)
    criterion = Criterion(stats=fit.stats, reml=FITS[key]["REML"])
    value, gradient = criterion.value_and_gradient(fit.optimum.phi)
    assert abs(gradient).max() < 1e-4
    assert value == pytest.approx(-2 * fit.loglik, rel=1e-12)
    for k in range(len(gradient)):
        for step in (-1e-2, 1e-2):
            beside = fit.optimum.phi.copy()
            beside[k] += step * max(1.0, abs(beside[k]))
            if not criterion.diagonal[k] or beside[k] >= 0:
                assert criterion.value_and_gradient(beside)[0] > value - 1e-8


@pytest.mark.parametrize("key", ["heights3:REML", "sleepstudy:ML", "penicillin:REML", "cake:ML", "radon:REML"])
def test_the_gradient_is_that_of_the_value(key):
    fit = fit_of(key)
    criterion = Criterion(stats=fit.stats, reml=FITS[key]["REML"])
    point = fit.optimum.phi * 1.3 + 0.1
    _, gradient = criterion.value_and_gradient(point)
    for k in range(len(point)):
        step = 1e-5 * np.eye(len(point))[k]
        slope = (criterion.value_and_gradient(point + step)[0] - criterion.value_and_gradient(point - step)[0]) / 2e-5
        assert slope == pytest.approx(gradient[k], rel=1e-6, abs=1e-6)


# What a likelihood must obey

CHANGED = ["heights3:ML", "heights3:REML", "sleepstudy:ML", "sleepstudy:REML", "penicillin:REML"]


def refit(key: str, change) -> LikelihoodFit:
    reference = FITS[key]
    lmm = LMM(reference["formula"], change(read_data(reference["data"]).copy()))
    return lmm.reml() if reference["REML"] else lmm.ml()


def degrees(fit: LikelihoodFit) -> int:
    return fit.design.n - (fit.design.p if fit.method == "REML" else 0)


@pytest.mark.parametrize("key", CHANGED)
def test_the_order_of_rows_means_nothing(key):
    fit = refit(key, lambda data: data.sample(frac=1, random_state=1))
    same = fit_of(key)
    assert fit.loglik == pytest.approx(same.loglik, abs=1e-9)
    pd.testing.assert_series_equal(fit.estimates(), same.estimates(), rtol=1e-4, atol=1e-6)
    for name in same.ranef:
        pd.testing.assert_frame_equal(fit.ranef[name], same.ranef[name], rtol=1e-3, atol=1e-4 * same.sigma)
    assert set(fit.fitted.index) == set(same.fitted.index)


@pytest.mark.parametrize("key", CHANGED)
def test_the_names_of_groups_mean_nothing(key):
    labels = [label for level in fit_of(key).design.levels for label in level.level.group]

    def rename(data):
        for label in set(labels):
            names = sorted(data[label].unique())
            data[label] = data[label].map(
                dict(zip(names, [f"no. {k}, é" for k in range(len(names), 0, -1)], strict=True))
            )
        return data

    fit, same = refit(key, rename), fit_of(key)
    assert fit.loglik == pytest.approx(same.loglik, abs=1e-9)
    np.testing.assert_allclose(fit.estimates(), same.estimates(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.sort(fit.b), np.sort(same.b), rtol=1e-3, atol=1e-4 * same.sigma)


@pytest.mark.parametrize("key", CHANGED)
@settings(max_examples=5, deadline=None)
@given(shift=st.sampled_from([0.0, -3.0, 1e3]), scale=st.sampled_from([1e-6, 0.5, 1000.0, 1e6]))
def test_units_of_y(key, shift, scale):
    """log f of (shift + scale y) is log f of y minus n log scale; for REML n - p."""
    response = fit_of(key).design.hierarchy.response

    def change(data):
        data[response] = scale * (data[response] + shift)
        return data

    fit, same = refit(key, change), fit_of(key)
    assert fit.loglik == pytest.approx(same.loglik - degrees(same) * np.log(scale), abs=1e-7)
    assert fit.sigma == pytest.approx(scale * same.sigma, rel=1e-4)
    assert fit.fixef["Intercept"] == pytest.approx(scale * (same.fixef["Intercept"] + shift), rel=1e-6)
    np.testing.assert_allclose(fit.theta, same.theta, rtol=2e-3, atol=1e-4)
    assert fit.singular == same.singular


@pytest.mark.parametrize("key", ["sleepstudy_int:ML", "sleepstudy_int:REML"])
@pytest.mark.parametrize("factor", [1e-6, 60.0, -1e6])
def test_units_of_x(key, factor):
    """ML does not see the units of a column; REML shifts by -log |factor|."""

    def change(data):
        data["Days"] = factor * data["Days"]
        return data

    fit, same = refit(key, change), fit_of(key)
    expected = same.loglik - (np.log(abs(factor)) if fit.method == "REML" else 0)
    assert fit.loglik == pytest.approx(expected, abs=1e-8)
    assert fit.fixef["Days"] * factor == pytest.approx(same.fixef["Days"], rel=1e-7)
    assert fit.fixef_se["Days"] * abs(factor) == pytest.approx(same.fixef_se["Days"], rel=1e-5)
    assert fit.sigma == pytest.approx(same.sigma, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_units_of_a_slope(factor):
    """The SD of a slope goes with the inverse of its column's unit; the correlation stays."""
    same = fit_of("sleepstudy:ML").estimates()

    def change(data):
        data["Days"] = factor * data["Days"]
        return data

    found = refit("sleepstudy:ML", change).estimates()
    assert found["sigma_u2[Days]"] * factor == pytest.approx(same["sigma_u2[Days]"], rel=1e-3)
    assert found["sigma_u2[Intercept]"] == pytest.approx(same["sigma_u2[Intercept]"], rel=1e-3)
    assert found["corr_u2[Intercept, Days]"] == pytest.approx(same["corr_u2[Intercept, Days]"], abs=1e-3)


def test_nested_is_the_interaction_and_the_outer_level():
    two = LMM("strength ~ 1 + (1 | batch:cask) + (1 | batch)", read_data("pastes")).ml()
    assert two.loglik == pytest.approx(fit_of("pastes:ML").loglik, abs=1e-9)


def test_the_order_of_levels_means_nothing():
    turned = LMM("diameter ~ 1 + (1 | sample) + (1 | plate)", read_data("penicillin")).ml()
    same = fit_of("penicillin:ML")
    assert turned.loglik == pytest.approx(same.loglik, abs=1e-8)
    np.testing.assert_allclose(turned.theta.to_numpy()[::-1], same.theta, rtol=1e-4)


def test_double_bar_is_two_terms():
    """(1 + x || g) and (1 | g) + (0 + x | g) are one model: a level with two effects, or two levels."""
    two = LMM("Reaction ~ 1 + Days + (1 | Subject) + (0 + Days | Subject)", read_data("sleepstudy")).reml()
    assert two.loglik == pytest.approx(fit_of("sleepstudy_zc:REML").loglik, abs=1e-8)
    np.testing.assert_allclose(two.theta, fit_of("sleepstudy_zc:REML").theta, rtol=1e-4)


# What a fit shows


def test_information_criteria():
    fit = fit_of("sleepstudy:ML")
    assert fit.npar == 6  # two fixed effects, three theta, sigma
    assert fit.aic == pytest.approx(-2 * fit.loglik + 12)
    assert fit.bic == pytest.approx(-2 * fit.loglik + 6 * np.log(180))


def test_estimates_have_the_names_that_all_variants_share():
    assert list(fit_of("sleepstudy:REML").estimates().index) == [
        "beta[Intercept]",
        "beta[Days]",
        "sigma",
        "sigma_u2[Intercept]",
        "sigma_u2[Days]",
        "corr_u2[Intercept, Days]",
    ]
    assert list(fit_of("heights3:ML").estimates().index) == [
        "beta[Intercept]",
        "sigma",
        "sigma_u2",
        "sigma_u3",
    ]


def test_ranef_by_name_or_label(heights3):
    ranef = heights3.reml().ranef
    assert list(ranef) == ["u2", "u3"]
    assert ranef["class:school"] is ranef["u2"]
    assert list(ranef["u3"].columns) == ["Intercept", "Intercept_sd"]
    with pytest.raises(KeyError, match="u2 \\(class:school\\)"):
        ranef["u4"]


def test_fitted_values_are_X_beta_plus_Z_b():
    fit = fit_of("sleepstudy:REML")
    np.testing.assert_allclose(fit.fitted, fit.design.X @ fit.beta + fit.design.Z.toarray() @ fit.b.to_numpy())


@pytest.mark.parametrize("name", ["three effects", "crossed with slopes", "nested and crossed with slopes", "tiny"])
@pytest.mark.parametrize("reml", [False, True])
def test_small_designs_of_every_kind_are_fitted(name, reml):
    """Effects beyond what so few rows can tell apart end on the boundary, and say so."""
    lmm = BY_NAME[name].lmm()
    fit = lmm.reml() if reml else lmm.ml()
    assert fit.status.name in ("converged", "singular")
    assert np.isfinite(fit.loglik)


# --- the edge of singular covariances


@pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
def test_a_perfect_correlation_has_no_better_point_beside_it(reml):
    """The first SD of h is next to nothing and its correlation is -1: a search without gradients finds nothing more."""
    rng = np.random.default_rng(219)
    data = pd.DataFrame({"x": rng.normal(size=60), "g": np.arange(60) % 6, "h": rng.integers(0, 5, 60)})
    data["y"] = rng.normal(size=6)[data.g] * 0.5 + 0.2 * rng.normal(size=5)[data.h] * data.x + rng.normal(size=60)
    lmm = LMM("y ~ x + (1 | g) + (x | h)", data)
    optimum = (lmm.reml() if reml else lmm.ml()).optimum
    criterion = Criterion(stats=lmm.statistics, reml=reml)
    found = minimize(criterion.at, optimum.phi, method="Nelder-Mead", options={"fatol": 1e-12, "maxiter": 4000})
    assert optimum.converged
    assert optimum.value - found.fun < 1e-9


@pytest.mark.parametrize("effects", ["0 + f", "f"])
def test_a_correlation_that_no_group_shows_is_flat(effects):
    """Every group has one value of f, so that nothing is known of the correlation between its two effects."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20), 4)
    data = pd.DataFrame({"y": rng.normal(size=80) + rng.normal(size=20)[g], "g": g, "f": np.where(g < 10, "a", "b")})
    status = LMM(f"y ~ f + ({effects} | g)", data).ml().status
    assert status.name == "flat"
