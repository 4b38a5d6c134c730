"""Confidence limits: lme4's profiles, Wald's by hand, boundaries, and what REML does not say.

The expected limits are those of lme4 1.1-31 in R 4.2, from `confint(m, oldNames = FALSE)`; lme4 interpolates
its profiles, so its limits are good to about four digits.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import bayeslmm as blm
from bayeslmm.likelihood.confidence import _surface
from bayeslmm.likelihood.deviance import Surface

MODELS = Path(__file__).parents[1] / "models"


def fit(name, reml=False):
    lmm = blm.LMM.from_toml(MODELS / f"{name}.toml")
    return lmm.reml() if reml else lmm.ml()


# lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
SLEEPSTUDY = {
    "beta[Intercept]": (237.6806954694, 265.129514692),
    "beta[Days]": (7.3586532953, 13.575918741),
    "sigma": (22.8982662150, 28.857997323),
    "sigma_u2[Intercept]": (14.3814811165, 37.716018740),
    "sigma_u2[Days]": (3.8011647624, 8.753366659),
    "corr_u2[Intercept, Days]": (-0.4815004432, 0.684986139),
}
# lmer(Reaction ~ Days + (Days || Subject), sleepstudy, REML = FALSE)
UNCORRELATED = {
    "beta[Intercept]": (237.572148000, 265.23806177),
    "beta[Days]": (7.334066827, 13.60050511),
    "sigma": (22.880554680, 28.78759756),
    "sigma_u2[Intercept]": (15.258646166, 37.78646394),
    "sigma_u2[Days]": (3.964074373, 8.76916043),
}
# lmer(Yield ~ 1 + (1 | Batch), Dyestuff, REML = FALSE)
DYESTUFF = {
    "beta[Intercept]": (1486.45149997, 1568.54849437),
    "sigma": (38.22998488, 67.65769624),
    "sigma_u2": (12.19853521, 84.06304671),
}
# lmer(Yield ~ 1 + (1 | Batch), Dyestuff2, REML = FALSE); its limits of the intercept, (4.312100, 7.019092),
# come from a spline across the boundary: ours are held against a direct search below instead
DYESTUFF2 = {"sigma": (2.892831020, 4.815832552), "sigma_u2": (0.0, 2.084043489)}
# lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, REML = FALSE)
PENICILLIN = {
    "beta[Intercept]": (21.2666273831, 24.6778176158),
    "sigma": (0.4858454001, 0.6294534786),
    "sigma_u2": (0.6335659660, 1.1821039851),
    "sigma_u3": (1.0957893965, 3.5562917781),
}
# lmer(strength ~ 1 + (1 | batch/cask), Pastes, REML = FALSE)
PASTES = {
    "beta[Intercept]": (58.6636503786, 61.443016369),
    "sigma": (0.6520233563, 1.085448090),
    "sigma_u2": (2.1579337383, 4.053588799),
    "sigma_u3": (0.0, 2.946591263),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sleepstudy", SLEEPSTUDY),
        ("sleepstudy_uncorrelated", UNCORRELATED),
        ("dyestuff", DYESTUFF),
        ("dyestuff2", DYESTUFF2),
        ("penicillin", PENICILLIN),
        ("pastes", PASTES),
    ],
)
def test_profile_limits_are_lme4s(name, expected):
    found = fit(name).confint()
    assert list(found.columns) == ["estimate", "lower", "upper", "criterion"]
    assert set(found["criterion"]) == {"ML profile"}
    for parameter, limits in expected.items():
        assert found.loc[parameter, ["lower", "upper"]].tolist() == pytest.approx(limits, rel=3e-4), parameter


def test_limits_are_indexed_like_the_estimates():
    model = fit("dyestuff")
    found = model.confint()
    pd.testing.assert_series_equal(found["estimate"], model.estimates(), check_names=False)
    assert (found["lower"] < found["estimate"]).all()
    assert (found["estimate"] < found["upper"]).all()


def test_near_the_boundary_the_profile_is_that_of_a_direct_search():
    model = fit("dyestuff2")
    y, Z = model.design.y, model.design.Z.toarray()

    def deviance(beta, ratio):
        V = np.eye(y.size) + ratio**2 * Z @ Z.T
        rss = (y - beta) @ np.linalg.solve(V, y - beta)
        return np.linalg.slogdet(V)[1] + y.size * (np.log(2 * np.pi * rss / y.size) + 1)

    def rise(beta):
        least = min(deviance(beta, ratio) for ratio in np.linspace(0, 1, 201))
        return least + 2 * model.loglik - 3.841458820694124

    found = model.confint().loc["beta[Intercept]"]
    assert found["lower"] == pytest.approx(brentq(rise, 3, 5, xtol=1e-7), abs=1e-5)
    assert found["upper"] == pytest.approx(brentq(rise, 6.5, 8, xtol=1e-7), abs=1e-5)


def test_an_sd_on_the_boundary_has_lower_limit_zero():
    found = fit("heights").confint()
    assert found.loc["sigma_u3", ["estimate", "lower"]].tolist() == [0, 0]
    assert 1 < found.loc["sigma_u3", "upper"] < 3


def test_a_higher_level_is_wider():
    model = fit("dyestuff")
    narrow, wide = model.confint(0.8), model.confint(0.99)
    assert (wide["lower"] < narrow["lower"]).all()
    assert (wide["upper"] > narrow["upper"]).all()


def test_reml_profiles_its_own_criterion_and_says_so():
    model = fit("dyestuff", reml=True)
    found = model.confint()
    assert found.loc["sigma_u2", "criterion"] == "REML profile"
    assert found.loc["beta[Intercept]", "criterion"] == "REML Wald"
    half = 1.959963984540054 * model.fixef_se["Intercept"]
    assert found.loc["beta[Intercept]", "upper"] == pytest.approx(model.fixef["Intercept"] + half)
    # the REML criterion of a balanced one-way layout, directly: n = 30 in 6 batches of 5
    y = model.design.y.reshape(6, 5)
    within, between = ((y - y.mean(1, keepdims=True)) ** 2).sum(), 5 * ((y.mean(1) - y.mean()) ** 2).sum()

    def criterion(sd, sigma2):
        total = sigma2 + 5 * sd**2
        return 24 * np.log(sigma2) + within / sigma2 + 5 * np.log(total) + between / total

    grid = np.exp(np.linspace(np.log(1000), np.log(8000), 4000))
    rises = [criterion(found.loc["sigma_u2", side], grid).min() for side in ("lower", "upper")]
    least = criterion(model.estimates()["sigma_u2"], model.sigma**2)
    assert np.array(rises) - least == pytest.approx(3.841458820694124, abs=1e-4)


class TestWald:
    def test_fixed_effects_are_estimate_and_z_standard_errors(self):
        model = fit("sleepstudy")
        found = model.confint(0.9, "wald")
        half = 1.6448536269514722 * model.fixef_se["Days"]
        assert found.loc["beta[Days]", "lower"] == pytest.approx(model.fixef["Days"] - half)
        assert set(found["criterion"]) == {"ML Wald"}

    def test_sds_use_the_curvature_on_the_log_scale(self):
        # balanced one-way layout: log sigma^2 is independent of log(sigma^2 + 5 sigma_u^2)
        model = fit("dyestuff")
        found = model.confint(method="wald").loc["sigma"]
        se = np.sqrt(1 / 48)  # 24 degrees of freedom within
        expected = model.sigma * np.exp(np.array([-1, 1]) * 1.959963984540054 * se)
        assert found[["lower", "upper"]].tolist() == pytest.approx(expected, rel=1e-6)

    def test_on_the_boundary_there_is_none_and_it_says_why(self):
        found = fit("heights").confint(method="wald")
        assert np.isnan(found.loc["sigma_u3", "lower"])
        assert found.loc["sigma_u3", "criterion"] == "ML Wald: none, on the boundary"
        assert found.loc["sigma_u2", ["lower", "upper"]].notna().all()


RESPONSE = [
    6.5, 8.45, 8.78, 9.85, 9.97, 10.27, 10.62, 13.41, 8.65, 10.2, 9.22, 10.59, 10.8, 11.2, 9.45, 11.47,
    4.93, 6.55, 7.84, 10.53, 10.07, 10.28, 11.07, 15.32, 10.04, 11.33, 9.43, 11.27, 12.44, 13.12, 9.71,
    18.07, 7.1, 11.32, 8.48, 9.51, 11.96, 10.97, 9.66, 15.46, 4.6, 7.31, 7.12, 8.55, 9.73, 10.93, 11.86,
    13.73, 7, 8.5, 9.73, 10.18, 11.49, 12.5, 12.4, 16.63, 7.73, 9.93, 9.75, 10.97, 10.83, 11.97, 10.84,
    15.9, 5.87, 8.77, 7.72, 10.54, 11.06, 13.84, 12.85, 17.05, 5.87, 9.52, 6.89, 9.12, 11.97, 10.96,
    10.79, 15.14, 7.67, 10.92, 9.19, 11.03, 12.53, 14.02, 11.06, 16.79, 9.04, 11.56, 8.82, 10.12, 10.69,
    10.56, 9.29, 12.16,
]  # fmt: skip
THREE = {
    "y": RESPONSE,
    "x": np.tile([-1.5, -1, -0.5, 0, 0.2, 0.7, 1.1, 1.9], 12),
    "z": np.tile([0.3, -1, 1, 0.2, -0.6, 0, 1.5, -0.9], 12),
    "g": np.repeat(np.arange(12), 8),
}


class TestThreeEffects:
    """lmer(y ~ x + z + (x + z | g), d, REML = FALSE), with the data above."""

    def test_every_correlation_has_its_profile(self):
        found = blm.LMM("y ~ 1 + x + z + (1 + x + z | g)", THREE).ml().confint()
        expected = {
            "sigma_u2[Intercept]": (0.531216416, 1.287028830),
            "corr_u2[Intercept, x]": (-0.645754292, 0.450065187),
            "corr_u2[Intercept, z]": (-1.0, -0.313464871),
            "sigma_u2[x]": (0.498860545, 1.210221224),
            "sigma_u2[z]": (0.289226787, 0.866176359),
            "sigma": (0.540199855, 0.773599207),
            "beta[x]": (1.453835609, 2.405958623),
            "beta[z]": (-1.392796243, -0.689746003),
        }
        for parameter, limits in expected.items():
            assert found.loc[parameter, ["lower", "upper"]].tolist() == pytest.approx(limits, rel=1e-3), parameter
        # lme4 warns that its own profile of this one is not monotonic, and interpolates linearly
        limits = found.loc["corr_u2[x, z]", ["lower", "upper"]].tolist()
        assert limits == pytest.approx((-0.354826117, 0.761820666), abs=0.01)

    def test_the_order_of_the_effects_does_not_matter(self):
        one = blm.LMM("y ~ 1 + x + z + (1 + x + z | g)", THREE).ml().confint(method="wald")
        other = blm.LMM("y ~ 1 + x + z + (1 + z + x | g)", THREE).ml().confint(method="wald")
        columns = ["lower", "upper"]
        for name in ("corr_u2[Intercept, x]", "corr_u2[Intercept, z]", "sigma_u2[z]"):
            assert one.loc[name, columns].tolist() == pytest.approx(other.loc[name, columns].tolist(), rel=1e-4)
        same = other.loc["corr_u2[z, x]", columns].tolist()
        assert one.loc["corr_u2[x, z]", columns].tolist() == pytest.approx(same, rel=1e-4)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("name", ["sleepstudy", "sleepstudy_uncorrelated", "pastes", "penicillin"])
def test_the_deviance_is_the_fits_at_the_fit_and_its_gradient_right_away_from_it(name, reml):
    model = fit(name, reml)
    surface = _surface(model)
    psi = surface.phi(model)
    assert isinstance(surface, Surface)
    assert surface.value_and_gradient(psi)[0] == pytest.approx(-2 * model.loglik, rel=1e-10)
    away = psi + 0.1
    held = None if reml else (0, model.beta[0] + 0.1)
    steps = 1e-5 * np.eye(psi.size)
    up, down = ([surface.value_and_gradient(away + sign * s, held)[0] for s in steps] for sign in (1, -1))
    numerical = (np.array(up) - np.array(down)) / 2e-5
    np.testing.assert_allclose(surface.value_and_gradient(away, held)[1], numerical, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 95}, "Did you mean 0.95"),
        ({"level": 0}, "between 0 and 1"),
        ({"level": "0.95"}, "between 0 and 1"),
        ({"method": "profil"}, "Did you mean 'profile'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(blm.DescriptionError, match=message):
        fit("dyestuff").confint(**arguments)


def test_a_singular_correlation_is_left_where_that_is_better():
    """At each limit, many other starts find no lower deviance: the search isn't caught on the edges."""
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6.0), 10)
    u = rng.normal(size=10)
    y = 3 + u[g] + 0.5 * u[g] * x + rng.normal(size=60)
    model = blm.LMM("y ~ 1 + x + (1 + x | g)", {"y": y, "x": x, "g": g}).ml()
    assert model.boundary == ("corr_u2",)
    found = model.confint()
    # lmer(y ~ x + (x | g), d, REML = FALSE)
    limits = found.loc[["beta[Intercept]", "beta[x]"], ["lower", "upper"]].to_numpy()
    np.testing.assert_allclose(limits, [[2.0835026, 4.0177398], [-0.7746784, 0.4620398]], rtol=1e-4)
    assert found.loc["corr_u2[Intercept, x]", ["estimate", "upper"]].tolist() == pytest.approx([1, 1])
    surface = _surface(model)
    for parameter, entry in (("sigma_u2[Intercept]", 1), ("sigma_u2[x]", 2)):
        for side in ("upper",):
            values = []
            for _ in range(4):
                start = surface.phi(model) * np.exp(rng.normal(scale=0.3, size=4))
                start[3] = rng.normal()
                start[entry] = found.loc[parameter, side]
                values.append(surface.minimise(start, np.ones(4), pin=entry)[0])
            rise = min(values) + 2 * model.loglik
            assert rise == pytest.approx(3.841458820694124, abs=1e-4)


def far(seed: int, centre: float) -> pd.DataFrame:
    """Intercepts that vary, slopes that don't, x far from zero."""
    rng = np.random.default_rng(seed)
    g = rng.integers(0, 10, 80)
    x = rng.normal(size=80) * 2 + centre
    return pd.DataFrame({"y": rng.normal(size=80) + rng.normal(size=10)[g] * 0.8, "x": x, "g": g})


@pytest.mark.parametrize(("seed", "centre"), [(27, 2006), (10, 30), (30, 30)])
def test_an_sd_that_another_effect_can_replace_has_zero_in_its_interval(seed, centre):
    """With x far from zero a slope takes the intercept's place, behind a hill of the profile."""
    data = far(seed, centre)
    fit = blm.LMM("y ~ x + (1 + x | g)", data).ml()
    for name, rest in (("sigma_u2[Intercept]", "(0 + x | g)"), ("sigma_u2[x]", "(1 | g)")):
        rise = 2 * (fit.loglik - blm.LMM(f"y ~ x + {rest}", data).ml().loglik)
        assert rise < 3.84
        assert fit.confint().loc[name, "lower"] == 0


def test_limits_of_a_singular_fit_are_found_where_the_search_meets_sigma_zero():
    table = blm.LMM("y ~ x + (1 + x | g)", far(21, 5)).ml().confint()
    assert table[["lower", "upper"]].notna().all(axis=None)
