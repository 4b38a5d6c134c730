"""Tables of GLMMs' fits and posteriors, and the means under them: quadrature, closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from link_models import SLOPES_MODEL, cbpp, epil, fake, wine
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, ndtr
from test_glmm import made_up, table

import bayeslmm as blm
from bayeslmm.errors import DescriptionError
from bayeslmm.families.averages import MEANS, SLOPES
from bayeslmm.posterior.link_draws import LinkValues
from tests.registry import CASES

# Means over normal linear predictors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("link", MEANS)
@pytest.mark.parametrize(("m", "s"), [(-2.0, 0.0), (0.3, 0.8), (4.0, 2.5), (-1.0, 12.0)])
def test_averages_are_integrals(link, m, s):
    curve = {
        "log": np.exp, "logit": expit, "probit": ndtr, "cloglog": lambda x: -np.expm1(-np.exp(x)),
        "identity": lambda x: x,
    }[link]  # fmt: skip
    found = MEANS[link](np.array([m]), np.array([s**2])).item()
    if s == 0:
        assert found == pytest.approx(curve(m), rel=1e-12)
        return
    if link == "log" and s > 5:
        assert found == pytest.approx(np.exp(m + s**2 / 2), rel=1e-12)
        return
    points = sorted({0.0, *(-m / s + np.array([-1, 0, 1]) / s).clip(-9, 9).tolist()})
    with np.errstate(over="ignore"):
        exact = quad(lambda z: curve(m + s * z) * stats.norm.pdf(z), -10, 10, points=points, epsabs=1e-13, limit=400)[0]
    assert found == pytest.approx(exact, rel=1e-8, abs=1e-11)


@pytest.mark.parametrize("link", SLOPES)
def test_slopes_are_derivatives(link):
    eta, h, none = np.linspace(-4, 2.5, 14), 1e-5, np.zeros(14)
    found = (MEANS[link](eta + h, none) - MEANS[link](eta - h, none)) / (2 * h)
    np.testing.assert_allclose(SLOPES[link](eta), found, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_probabilities_of_categories_sum_to_one_and_are_those_of_the_density(link):
    model = wine(link)
    family, cuts = model.family, np.array([[-1.0, 0.5, 2.0, 3.0]])
    eta, v = np.array([[-3.0], [0.4], [2.0]]), np.array([[0.0], [1.0], [9.0]])
    for p in (family.expected(eta, cuts), family.averaged(eta, v, cuts)):
        np.testing.assert_allclose(p.sum(axis=0), 1.0, rtol=1e-12)
    np.testing.assert_allclose(family.expected_slope(eta, cuts).sum(axis=0), 0.0, atol=1e-15)
    for c in range(5):
        outcome = model.outcome.part(np.zeros(3, dtype=int))
        one = type(outcome)(name="y", y=np.full(3, float(c)), rows=outcome.rows, categories=outcome.categories)
        logp = family.logpdf(one, eta[:, 0], family.dispersion_coordinates(cuts[0]))
        np.testing.assert_allclose(family.expected(eta, cuts)[c, :, 0], np.exp(logp), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("family", ["negative_binomial", "gamma", "cumulative", "student_t"])
def test_coordinates_go_there_and_back(family):
    model = blm.GLMM("y ~ 1 + (1 | g)", {"y": [1, 3, 2, 4, 5, 2, 1, 3], "g": list("aabbccdd")}, family=family)
    k = len(model.family.dispersion_labels(model.outcome))
    psi = np.random.default_rng(1).normal(size=(5, k))
    found = model.family.dispersion_coordinates(model.family.dispersion_values(psi))
    np.testing.assert_allclose(found, psi, rtol=1e-10)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_fixef_and_ratios_are_those_of_the_fit():
    model, fit = cbpp(), cbpp().ml()
    frame = model.fixef(fit).to_pandas()
    np.testing.assert_allclose(frame["estimate"], fit.fixef, rtol=1e-12)
    np.testing.assert_allclose(frame["sd"], fit.fixef_se, rtol=1e-12)
    ratio = model.ratios(fit).to_pandas()
    assert set(ratio["ratio"]) == {"odds ratio"}
    assert list(ratio.index) == list(frame.index[1:])
    columns = ["estimate", "2.5 %", "97.5 %"]
    np.testing.assert_allclose(ratio[columns], np.exp(frame[columns].iloc[1:]), rtol=1e-10)
    assert set(epil().ratios(epil().ml()).to_pandas()["ratio"]) == {"rate ratio"}
    assert set(wine().ratios(wine().ml()).to_pandas()["ratio"]) == {"cumulative odds ratio"}
    with pytest.raises(DescriptionError, match=r"probit link.*comparisons"):
        cbpp("probit").ratios(cbpp("probit").ml())


def test_tables_of_draws_are_their_moments_and_quantiles():
    model = epil("negative_binomial", SLOPES_MODEL)
    tree = fake(model, draws=60)
    beta = tree["posterior"]["beta"].to_numpy()[0]
    frame = model.fixef(tree, 0.9).to_pandas()
    np.testing.assert_allclose(frame["estimate"], beta.mean(axis=0))
    np.testing.assert_allclose(frame["95 %"], np.quantile(beta, 0.95, axis=0))
    ratio = model.ratios(tree, 0.9).to_pandas()
    np.testing.assert_allclose(ratio["estimate"], np.median(np.exp(beta[:, 1:]), axis=0))
    varcorr = model.varcorr(tree).to_pandas()["estimate"]
    posterior = tree["posterior"]
    assert varcorr["alpha"] == pytest.approx(posterior["alpha"].values.mean())
    assert varcorr["sigma_u2[Visit]"] == pytest.approx(posterior["sigma_u2"].values[..., 1].mean())
    assert varcorr["corr_u2[Intercept, Visit]"] == pytest.approx(
        posterior["corr_u2"].values[..., 0, 1].mean(), rel=1e-6
    )
    modes = model.ranef(tree).to_pandas()
    np.testing.assert_allclose(modes["estimate"], posterior["u2"].values[0].mean(axis=0).ravel())


def test_varcorr_standard_errors_are_those_of_the_curvature():
    """sigma = |x| of the search here, so that its standard error is that of x."""
    model, fit = cbpp(), cbpp().ml()
    row = model.varcorr(fit).to_pandas().loc["sigma_u2"]
    at = np.flatnonzero(fit.problem.sds)[0]
    se = np.sqrt(np.linalg.inv(fit.peak.hessian)[at, at])
    assert row["sd"] == pytest.approx(se, rel=1e-6)
    z = stats.norm.ppf(0.975)
    assert row["97.5 %"] == pytest.approx(row["estimate"] * np.exp(z * se / row["estimate"]), rel=1e-6)
    with pytest.raises(DescriptionError, match="no profile limits"):
        model.varcorr(fit, method="profile")


LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}


@pytest.mark.parametrize("link", LATENT)
def test_latent_shares_of_a_binomial(link):
    model, fit = cbpp(link), cbpp(link).ml()
    V = fit.varcorr["variance"].item()
    share = V / (V + LATENT[link])
    np.testing.assert_allclose(model.icc(fit).to_pandas()["estimate"], share, rtol=1e-10)
    Xb = model.design.X @ fit.fixef.to_numpy()
    total = Xb.var(ddof=1) + V + LATENT[link]
    r2 = model.r2(fit).to_pandas()["estimate"]
    assert r2["marginal"] == pytest.approx(Xb.var(ddof=1) / total, rel=1e-10)
    assert r2["conditional"] == pytest.approx((Xb.var(ddof=1) + V) / total, rel=1e-10)


def test_latent_and_observed_correlations_of_counts():
    model, fit = epil(), epil().ml()
    V = fit.varcorr["variance"].item()
    eta = model.design.X @ fit.fixef.to_numpy()
    mean = np.exp(eta + V / 2)
    assert model.icc(fit).to_pandas()["estimate"].iloc[0] == pytest.approx(
        V / (V + np.log1p(1 / mean.mean())), rel=1e-9
    )
    some = np.unique(np.linspace(0, model.design.n - 1, 200).round().astype(int))
    covariance = (mean**2 * np.expm1(V))[some]
    expected = covariance.mean() / (covariance + mean[some]).mean()
    found = model.icc(fit, scale="observation").to_pandas()["estimate"].item()
    assert found == pytest.approx(expected, rel=1e-8)


def test_observed_correlation_of_single_trials_is_an_integral():
    """Nested: rows of one inner group share both effects, rows of one outer group the outer one."""
    case = next(case for case in CASES if "/" in case.formula)
    model = made_up(case, "binomial")
    tree = fake(model, draws=3, size=0.7)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    z, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    expected = np.zeros((3, 2))
    for d in range(3):
        s = [float(abs(F[d, 0, 0])) for F in values.factors]
        eta = model.design.X @ values.beta[d]
        p = expit(eta[:, None, None] + s[0] * z[:, None] + s[1] * z)
        mean = np.einsum("nij,i,j->n", p, w, w)
        both = np.einsum("nij,i,j->n", p**2, w, w) - mean**2
        outer = np.einsum("nj,j->n", np.einsum("nij,i->nj", p, w) ** 2, w) - mean**2
        total = mean * (1 - mean)
        expected[d] = both.mean() / total.mean(), outer.mean() / total.mean()
    found = model.icc(tree, scale="observation").to_pandas().set_index("level")["estimate"]
    np.testing.assert_allclose(found[["u2", "u3"]], expected.mean(axis=0), rtol=1e-4)  # the oracle's rule for SDs of 2


def test_no_observed_correlation_of_categories():
    with pytest.raises(DescriptionError, match="have no mean"):
        wine().icc(wine().ml(), scale="observation")
    with pytest.raises(DescriptionError, match="'latent'"):
        wine().icc(wine().ml(), scale="latnt")


def test_attenuation_in_closed_form():
    model, fit = cbpp("probit"), cbpp("probit").ml()
    V = fit.varcorr["variance"].item()
    frame = model.attenuation(fit).to_pandas().pivot(index="coef", columns="quantity", values="estimate")
    np.testing.assert_allclose(frame["attenuation"], 1 / np.sqrt(1 + V), rtol=1e-9)
    np.testing.assert_allclose(
        frame["population-averaged coefficient"], fit.fixef.iloc[1:][frame.index] / np.sqrt(1 + V), rtol=1e-9
    )
    model, fit = epil(), epil().ml()
    frame = model.attenuation(fit).to_pandas().set_index("quantity")
    np.testing.assert_allclose(frame.loc["attenuation", "estimate"], 1.0, rtol=1e-12)


def test_attenuation_where_the_effect_varies():
    """With a log link E exp(eta + u + x v) has the slope beta plus half the change of the variance."""
    model = epil("poisson", SLOPES_MODEL)
    tree = fake(model, draws=5, size=0.3)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    x, S = table("epil")["Visit"].to_numpy(), values.covariance(0)
    more = S[:, 0, 1] + (2 * x.mean() + 1) / 2 * S[:, 1, 1]
    expected = np.median(np.exp(values.beta[:, 2] + more))
    frame = model.attenuation(tree).to_pandas().set_index(["coef", "quantity"])["estimate"]
    assert frame["Visit", "population-averaged rate ratio"] == pytest.approx(expected, rel=1e-9)


def test_attenuation_of_odds_lies_near_its_rule():
    model, fit = cbpp(), cbpp().ml()
    V = fit.varcorr["variance"].item()
    frame = model.attenuation(fit).to_pandas().query("quantity == 'attenuation'")
    rule = 1 / np.sqrt(1 + (16 * np.sqrt(3) / (15 * np.pi)) ** 2 * V)  # Zeger, Liang & Albert (1988)
    assert (frame["estimate"] > rule).all()  # which is for shares near a half; rare events have ratios of rates
    assert (frame["estimate"] < 1).all()
