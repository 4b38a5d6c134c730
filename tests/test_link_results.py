"""After the fit of a GLMM: tables, predictions, what is left out, against quadrature, closed forms and brute force."""

from __future__ import annotations

import warnings
from functools import cache

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats
from scipy.integrate import quad
from scipy.linalg import block_diag
from scipy.sparse import csr_array
from scipy.special import expit, ndtr
from test_glmm import FAMILIES, made_up, table

import bayeslmm as blm
from bayeslmm.criticism.link_groups import complete_link
from bayeslmm.criticism.link_left_out import OneLevel
from bayeslmm.criticism.link_prior import draw_prior, link_log_prior, link_prior_predictive
from bayeslmm.errors import DataError, DescriptionError, PriorError
from bayeslmm.families.averages import MEANS, SLOPES
from bayeslmm.posterior.link_draws import LinkValues
from bayeslmm.predictions.link_of_fit import OfFit
from bayeslmm.predictions.link_results import Asked
from bayeslmm.predictions.link_scales import LinkScale
from bayeslmm.tables.link_result import LinkFit
from tests.registry import CASES


def fake(model: blm.GLMM, draws: int = 30, seed: int = 1, size: float = 1.0) -> xr.DataTree:
    """A tree as sample() makes it, without sampling: draws from the prior, or nearer to zero."""
    made = link_prior_predictive(model, draws, random_seed=seed)["prior"].to_dataset()
    made = made.assign(
        {name: made[name] * size for name in made.data_vars if name.startswith(("beta", "u", "sigma_u"))}
    )
    tree = xr.DataTree.from_dict({"/posterior": made})
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("row", model.outcome.y)}))
    tree.attrs |= {"variant": "joint", "family": str(model.family), "trusted": 1, "doubts": ""}
    return complete_link(model, tree)


@cache
def cbpp(link: str = "logit") -> blm.GLMM:
    data = table("cbpp").assign(well=lambda d: d["size"] - d["incidence"])
    return blm.GLMM("cbind(incidence, well) ~ period + (1 | herd)", data, family=f"binomial({link})")


@cache
def epil(family: str = "poisson", formula: str = "y ~ lbase * trt + (1 | subject)") -> blm.GLMM:
    return blm.GLMM(formula, table("epil"), family=family)


@cache
def wine(link: str = "logit") -> blm.GLMM:
    return blm.GLMM("rating ~ temp + contact + (1 | judge)", table("wine"), family=f"cumulative({link})")


SLOPES_MODEL = "y ~ lbase + Visit + (Visit | subject)"


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


# Predictions ----------------------------------------------------------------------------------------------------------


def test_population_and_its_average_in_closed_form():
    for model, average in (
        (cbpp("probit"), lambda m, V: ndtr(m / np.sqrt(1 + V))),
        (epil(), lambda m, V: np.exp(m + V / 2)),
    ):
        fit = model.ml()
        V, eta = fit.varcorr["variance"].item(), model.design.X @ fit.fixef.to_numpy()
        middle = model.predictions(fit, scope="population").to_pandas()["estimate"]
        np.testing.assert_allclose(middle, model.family.mean(eta), rtol=1e-10)
        for scope in ("population-averaged", "new"):
            found = model.predictions(fit, scope=scope).to_pandas()["estimate"]
            np.testing.assert_allclose(found, average(eta, V), rtol=1e-10)
        seen = model.predictions(fit).to_pandas()["estimate"]
        np.testing.assert_allclose(seen, fit.fitted, rtol=1e-8)


def test_standard_errors_by_the_delta_method():
    """Of X beta at u = 0: the covariance of the coefficients; of its probability: times the slope."""
    model, fit = cbpp(), cbpp().ml()
    X = model.design.X
    se = np.sqrt(np.einsum("ij,jk,ik->i", X, fit.fixef_cov.to_numpy(), X))
    link = model.predictions(fit, scope="population", kind="link").to_pandas()
    np.testing.assert_allclose(link["sd"], se, rtol=1e-5)
    mean = model.predictions(fit, scope="population").to_pandas()
    p = expit(X @ fit.fixef.to_numpy())
    np.testing.assert_allclose(mean["sd"], p * (1 - p) * se, rtol=1e-5)
    z = stats.norm.ppf(0.975)
    np.testing.assert_allclose(mean["97.5 %"], expit(link["estimate"] + z * se), rtol=1e-5)
    one = model.predictions(fit, scope="population", by=True).to_pandas()
    slope = (p * (1 - p)) @ X / len(X)
    assert one["sd"].item() == pytest.approx(np.sqrt(slope @ fit.fixef_cov.to_numpy() @ slope), rel=1e-5)


def test_known_groups_have_the_uncertainty_of_their_effects():
    """Where parameters are all but known, by a great many groups, the SD of u is its conditional one."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(400), 12)
    y = rng.poisson(np.exp(1 + rng.normal(0, 0.5, 400)[g]))
    model = blm.GLMM("y ~ 1 + (1 | g)", {"y": y, "g": g}, family="poisson")
    fit = model.ml()
    found = model.predictions(fit, model.grid(g=["5"]).assign(g=[5]), kind="link").to_pandas()
    alone = model.ranef(fit).to_pandas().set_index("group").loc["5", "sd"]
    assert alone < found["sd"].item() < 1.05 * alone


@pytest.mark.parametrize("name", ["slope", "crossed", "nested"])
def test_conditional_variances_of_effects_are_dense_inverses(name):
    """Lambda (Lambda'Z'WZ Lambda + I)^-1 Lambda' on the effects as written, of any combinations of them."""
    case = next(case for case in CASES if case.name.startswith(name))
    model = made_up(case, "binomial")
    fit = model.ml("laplace")
    design = model.design
    parts = zip(design.levels, fit.lambdas, strict=True)
    Lambda = block_diag(*(np.kron(np.eye(level.m), lam) for level, lam in parts))
    Z = np.hstack([level.Z.toarray() for level in design.levels])
    p = expit(fit.linear_predictor.to_numpy())
    H = Lambda.T @ Z.T @ (p * (1 - p) * Z.T).T @ Lambda + np.eye(len(Lambda))
    C = Lambda @ np.linalg.inv(H) @ Lambda.T
    rng = np.random.default_rng(1)
    G = rng.normal(size=(6, design.q)) * (rng.random((6, design.q)) < 0.5)
    G[3] = -2 * G[1]  # a multiple of another
    G[4] = 0
    none = np.zeros((6, sum(level.r for level in design.levels)))
    given = LinkFit(model=model, level=0.95, fit=fit)
    no = (False,) * len(design.levels)
    asked = Asked(scale=LinkScale(model=model), integrated=no, new=no, means=(None,) * len(no), level=0.95)
    found = OfFit(given=given, known=True)._conditional(csr_array(np.hstack([G, none])), asked)
    np.testing.assert_allclose(found, np.einsum("ci,ij,cj->c", G, C, G), rtol=1e-6, atol=1e-12)


def test_draws_are_averaged_over_new_groups_draw_by_draw():
    model = wine()
    tree = fake(model, draws=25, size=0.6)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    z, w = np.polynomial.hermite_e.hermegauss(120)
    s = np.abs(values.factors[0][:, 0, 0])
    eta = values.beta @ model.design.X[:4].T
    cuts = values.dispersion
    below = expit(cuts[:, None, None, :] - eta[:, :, None, None] - s[:, None, None, None] * z[:, None])
    below = np.einsum("dnzc,z->dnc", below, w / w.sum())
    ends = np.concatenate([np.zeros((*below.shape[:2], 1)), below, np.ones((*below.shape[:2], 1))], axis=-1)
    p = np.diff(ends, axis=-1).mean(axis=0)
    for scope in ("population-averaged", "new"):
        frame = model.predictions(tree, model.design.frame.iloc[:4], scope=scope).to_pandas()
        assert frame["category"].tolist() == np.repeat(list("12345"), 4).tolist()
        np.testing.assert_allclose(frame["estimate"].to_numpy().reshape(5, 4).T, p, atol=1e-6)
    both = model.predict(tree, scope="population-averaged").values
    np.testing.assert_allclose(both.mean(axis=(0, 1))[:4], p, atol=1e-6)


def test_new_groups_are_wider_than_their_mean():
    model = epil()
    tree = fake(model, draws=400)
    posterior = tree["posterior"].to_dataset()
    known = posterior.assign(beta=0 * posterior["beta"], sigma_u2=0.5 + 0.1 * np.tanh(posterior["sigma_u2"]))
    tree["posterior"] = xr.DataTree(known)
    for result in (model.ml(), tree):
        new, mean, middle = (
            model.predictions(result, scope=scope).to_pandas().iloc[0]
            for scope in ("new", "population-averaged", "population")
        )
        assert new["estimate"] == pytest.approx(mean["estimate"], rel=1e-9)
        assert new["97.5 %"] - new["2.5 %"] > mean["97.5 %"] - mean["2.5 %"]
        assert mean["estimate"] > middle["estimate"]


def test_new_groups_of_one_label_are_one_group():
    """The difference of two rows of a new group has nothing of its effect on the link's scale."""
    model = cbpp()
    for result in (model.ml(), fake(model, draws=200, size=0.3)):
        frame = pd.DataFrame({"period": ["1", "2"], "herd": ["x", "x"]})
        one = model.comparisons(result, "period", frame.iloc[:1], scope="new", kind="link").to_pandas()
        other = model.comparisons(result, "period", frame.iloc[:1], scope="population", kind="link").to_pandas()
        np.testing.assert_allclose(one[["estimate", "sd"]], other[["estimate", "sd"]], rtol=1e-6)


@pytest.mark.parametrize("scope", ["observed", "population", "population-averaged"])
def test_comparisons_are_differences_of_predictions(scope):
    model, fit = epil("poisson", SLOPES_MODEL), epil("poisson", SLOPES_MODEL).ml("laplace")
    frame = model.design.frame.iloc[:6]
    ends = [model.predictions(fit, frame.assign(Visit=x), scope=scope).to_pandas()["estimate"] for x in (0.1, 0.3)]
    found = model.comparisons(fit, {"Visit": (0.1, 0.3)}, frame, scope=scope, by=False).to_pandas()["estimate"]
    np.testing.assert_allclose(found, ends[1] - ends[0], rtol=1e-9)


@pytest.mark.parametrize("scope", ["observed", "population", "population-averaged", "average"])
def test_slopes_are_limits_of_comparisons(scope):
    for model, name in ((epil("poisson", SLOPES_MODEL), "Visit"), (_toe(), "time")):
        tree = fake(model, draws=20, size=0.3)
        x, h = model.design.frame[name].iloc[7], 1e-4
        frame = model.design.frame.iloc[7:9].assign(**{name: x})
        near = model.comparisons(tree, {name: (x - h, x + h)}, frame, scope=scope, by=False).to_pandas()["estimate"]
        found = model.slopes(tree, name, frame, scope=scope, by=False).to_pandas()["estimate"]
        np.testing.assert_allclose(found, near / (2 * h), rtol=2e-5)


@cache
def _toe() -> blm.GLMM:
    data = table("toenail").assign(severe=lambda d: (d["outcome"] == "moderate or severe").astype(int))
    return blm.GLMM("severe ~ treatment * time + (time | patientID)", data[:200], family="binomial")


def test_a_student_t_predicts_as_an_lmm_does_where_it_is_linear():
    """An identity link has no curve: averages, new groups and groups in the middle agree, as in an LMM."""
    lmm = blm.example("sleepstudy")
    model = blm.GLMM("Reaction ~ Days + (Days | Subject)", lmm.design.frame, family="student_t")
    tree = fake(model, draws=50, size=1.0)
    for scope in ("observed", "population", "average"):
        frame = model.predictions(tree, lmm.grid(Days=[0, 9], Subject="308"), scope=scope, by=False).to_pandas()
        sigma = xr.DataArray(np.ones((1, 50)), dims=("chain", "draw"))
        other = tree["posterior"].to_dataset()[["beta", "sigma_u2", "corr_u2", "u2"]].assign(sigma=sigma)
        same = lmm.predictions(
            xr.DataTree.from_dict({"/posterior": other}), lmm.grid(Days=[0, 9], Subject="308"), scope=scope
        ).to_pandas()
        np.testing.assert_allclose(frame[["estimate", "sd"]], same[["estimate", "sd"]], rtol=1e-6)
    a, b = (model.predictions(tree, scope=s).to_pandas()["estimate"] for s in ("population", "population-averaged"))
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_offsets_and_trials_of_new_rows():
    data = {"y": [3, 5, 2, 8, 1, 4, 6, 2], "t": [1.0, 2, 1, 3, 1, 2, 2, 1], "g": list("aabbccdd")}
    model = blm.GLMM("y ~ 1 + offset(log(t)) + (1 | g)", data, family="poisson")
    found = model.predictions(model.ml(), {"t": [1.0, 4.0], "g": ["a", "a"]}).to_pandas()["estimate"]
    assert found[1] == pytest.approx(4 * found[0], rel=1e-12)
    model = cbpp()
    tree = fake(model, draws=40, size=0.3)
    rows = {"period": ["1"], "herd": ["1"], "incidence": [0], "well": [7]}
    drawn = model.predict(tree, rows, kind="response", random_seed=1).values
    assert drawn.min() >= 0
    assert drawn.max() <= 7
    with pytest.raises(DataError, match="'well'"):
        model.predict(tree, {"period": ["1"], "herd": ["1"], "incidence": [0]}, kind="response")


def test_draws_of_new_responses_have_the_family_s_moments():
    model = epil("negative_binomial")
    tree = fake(model, draws=4000, size=0.0)  # all draws alike but for alpha
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    y = model.predict(tree, kind="response", random_seed=2).values[0][:, :50]
    alpha = values.dispersion[:, 0]
    error = np.sqrt((1 + 1 / alpha).mean() / y.size)
    assert abs(y.mean() - 1) < 5 * error  # exp(0)


def test_what_can_t_be_asked_is_refused_with_what_can():
    model, fit = cbpp(), cbpp().ml()
    with pytest.raises(DescriptionError, match=r"'mean'.*predict\(tree, kind='response'\)"):
        model.predictions(fit, kind="response")
    with pytest.raises(DescriptionError, match="population-averaged"):
        model.predictions(fit, scope="marginal")
    with pytest.raises(DataError, match="groups that the model was not built on"):
        model.predictions(fit, {"period": ["1"], "herd": ["no such"]})
    with pytest.raises(DataError, match=r"expected a fit, glmm.ml\(\)"):
        model.predictions("ml")
    with pytest.raises(DescriptionError, match=r"Did you mean glmm.ml\(\)"):
        model.fixef("ml")
    with pytest.raises(DataError, match="'alpha'"):
        epil("negative_binomial").fixef(fake(epil()))
    with pytest.raises(DataError, match="another model"):
        cbpp("probit").fixef(fake(cbpp()))
    with pytest.raises(DataError, match="has other data"):
        cbpp().fixef(cbpp("probit").ml())
    with pytest.raises(DescriptionError, match="scope='new'"):
        model.predict(fake(model), kind="response", scope="population-averaged")


# Every design ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("family", ["poisson", "cumulative"])
def test_every_design_has_tables_predictions_and_rows_left_out(case, family):
    if family == "cumulative" and "~ 0" in case.formula:
        pytest.skip("thresholds stand for the constant")
    model = made_up(case, family)
    tree = fake(model, draws=100, size=0.3)
    for made in (model.fixef(tree), model.varcorr(tree), model.ranef(tree), model.icc(tree), model.r2(tree)):
        assert np.isfinite(made.to_pandas().select_dtypes(float).to_numpy()).all()
        assert str(made)
        assert made._repr_html_()
    link = model.predictions(tree, kind="link").to_pandas()
    np.testing.assert_allclose(
        link["estimate"],
        LinkValues.of_posterior(model, tree["posterior"].to_dataset()).eta().mean(axis=0),
        rtol=1e-9,
        atol=1e-9,
    )
    for scope in ("population", "average") + (() if _known(model) else ("new", "population-averaged")):
        frame = model.predictions(tree, scope=scope, by=True).to_pandas()
        assert np.isfinite(frame[["estimate", "sd"]].to_numpy()).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo = model.loo(tree, progress=False)
    assert np.isfinite(loo.table["elpd"]).all()
    assert len(loo.table) == model.design.n


def _known(model) -> bool:
    return any(level.root is not None for level in model.design.levels)


@pytest.mark.parametrize("family", FAMILIES)
def test_fits_of_every_family_have_tables_and_predictions(family):
    case = next(case for case in CASES if case.name == "one way")
    model = made_up(case, family)
    fit = model.ml()
    for made in (model.fixef(fit), model.varcorr(fit), model.ranef(fit), model.icc(fit), model.r2(fit)):
        assert np.isfinite(made.to_pandas()["estimate"]).all()
    for scope in ("observed", "population", "population-averaged", "new", "average"):
        frame = model.predictions(fit, scope=scope).to_pandas()
        assert np.isfinite(frame["estimate"]).all()
        assert (frame["sd"] >= 0).all() or fit.singular
    model.slopes(fit), model.comparisons(fit)


def test_a_model_without_predictors():
    data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": np.arange(8.0), "g": list("aabbccdd")}
    with pytest.raises(DescriptionError, match="no fixed effects"):
        blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").attenuation(
            blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml()
        )


# ArviZ's groups -------------------------------------------------------------------------------------------------------

DENSITIES = {
    "binomial": lambda y, N, eta, own: stats.binom.logpmf(y, N, expit(eta)),
    "poisson": lambda y, N, eta, own: stats.poisson.logpmf(y, np.exp(eta)),
    "negative_binomial": lambda y, N, eta, own: stats.nbinom.logpmf(y, own[0], own[0] / (own[0] + np.exp(eta))),
    "gamma": lambda y, N, eta, own: stats.gamma.logpdf(y, own[0], scale=np.exp(eta) / own[0]),
    "student_t": lambda y, N, eta, own: stats.t.logpdf(y, own[1], loc=eta, scale=own[0]),
}


@pytest.mark.parametrize("family", DENSITIES)
def test_log_likelihoods_are_those_of_scipy(family):
    case = next(case for case in CASES if case.name == "slope")
    model = made_up(case, family) if family != "student_t" else blm.GLMM(case.formula, case.data(), family=family)
    tree = fake(model, draws=4, size=0.3)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    found = tree["log_likelihood"]["y"].values[0]
    for d in range(4):
        expected = DENSITIES[family](model.outcome.y, 1, values.eta()[d], values.dispersion[d])
        np.testing.assert_allclose(found[d], expected, rtol=1e-9)


def test_groups_are_parts_of_themselves_and_arviz_reads_them():
    model = cbpp()
    tree = fake(model, draws=150, size=0.3)
    whole = tree["posterior_predictive"]["y"].values
    part = complete_link(model, _bare(tree))["posterior_predictive"]["y"].isel(draw=slice(40, 50), row=[3, 1]).values
    np.testing.assert_array_equal(part, whole[:, 40:50][..., [3, 1]])
    assert set(tree.children) >= {"prior", "prior_predictive", "log_prior", "constant_data", "log_likelihood"}
    np.testing.assert_array_equal(tree["constant_data"]["trials"], model.outcome.trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(az.loo(tree).elpd)


def _bare(tree):
    bare = xr.DataTree.from_dict({"/posterior": tree["posterior"].to_dataset()})
    bare.attrs |= tree.attrs
    return bare


@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_log_priors_are_pymc_s(family):
    """At each draw, the free variables of the joint model but for the effects; Jacobians left aside."""
    model = epil(family, "y ~ lbase + (1 | subject)")
    joint = model.joint(centered=True)
    values = draw_prior(model, 3, np.random.default_rng(1))
    found = link_log_prior(model, values)
    free = [rv for rv in joint.free_RVs if rv.name != "u2"]
    logp = joint.compile_logp(vars=free, jacobian=False, sum=False)
    for d in range(3):
        point = joint.initial_point()
        stated = (
            values["beta"][d] @ model.priors.beta_anchor.inverse.T if model.priors.beta_anchor else values["beta"][d]
        )
        own = {"beta": stated, "sigma_u2": values["sigma_u2"][d], "alpha": values.get("alpha", np.ones(3))[d]}
        for rv in free:
            value = joint.rvs_to_values[rv]
            name = rv.name if rv.name in own else "beta"
            transformed = joint.rvs_to_transforms[rv]
            point[value.name] = np.log(own[name]) if transformed is not None else own[name]
        total = sum(np.sum(x) for x in logp(point))
        assert sum(x[d].sum() for x in found.values()) == pytest.approx(total, rel=1e-6)


def test_thresholds_of_the_prior_ascend_and_have_their_density():
    """Two neighbours: their difference, of two normals given that it is positive."""
    data = {"y": [1, 2, 3] * 6, "g": list("aabbcc") * 3}
    model = blm.GLMM(
        "y ~ 1 + (1 | g)", data, family="cumulative", priors={"threshold": blm.Prior("Normal", mu=0, sigma=1)}
    )
    cuts = draw_prior(model, 20_000, np.random.default_rng(1))["threshold"]
    assert (np.diff(cuts, axis=1) > 0).all()
    gap = cuts[:, 1] - cuts[:, 0]
    law = stats.halfnorm(scale=np.sqrt(2))
    assert abs(gap.mean() - law.mean()) < 5 * law.std() / np.sqrt(len(gap))


def test_flat_priors_have_no_draws():
    model = blm.GLMM(
        "y ~ 1 + (1 | g)", {"y": [0, 3, 1, 0], "g": list("aabb")}, family="poisson", priors={"beta": blm.Prior("Flat")}
    )
    with pytest.raises(PriorError, match="flat"):
        model.prior_predictive()


# What is left out -----------------------------------------------------------------------------------------------------


def brute(values: LinkValues, d: int, rows: np.ndarray, k: int = 0) -> float:
    """log of the integral over the effects of one group, on a fine grid."""
    if not len(rows):
        return 0.0
    one = values.some(slice(d, d + 1))
    model, level = one.model, one.model.design.levels[k]
    r = level.r
    axis = np.linspace(-30, 30, 20_001) if r == 1 else np.linspace(-9, 9, 201)
    z = np.stack(np.meshgrid(*[axis] * r), axis=-1).reshape(-1, r)
    eta = one.eta(rows, without=(k,))[0] + z @ (level.columns[rows] @ one.factors[k][0]).T
    logp = model.family.logpdf(model.outcome.part(rows), eta, one.psi[0]).sum(axis=1)
    logp = logp - 0.5 * (z**2).sum(axis=1) - r / 2 * np.log(2 * np.pi) + r * np.log(axis[1] - axis[0])
    return float(np.logaddexp.reduce(logp))


LEFT_OUT = {
    "binomial": cbpp, "poisson": epil, "cumulative": wine,
    "two effects": lambda: epil("negative_binomial", SLOPES_MODEL),
    "crossed": lambda: blm.GLMM(
        "rating ~ temp + (1 | judge) + (1 | bottle)", table("wine"), family="cumulative(probit)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_groups_and_rows_left_out_are_integrals(name):
    model = LEFT_OUT[name]()
    values = LinkValues.of_posterior(model, fake(model, draws=3, size=0.3)["posterior"].to_dataset())
    one = OneLevel(values=values, k=0)
    (groups, _), (by_row, left) = one.nodes(by_row=False), one.nodes(by_row=True)
    whole, rows = one.of_groups(groups), one.of_rows(by_row)
    assert left < 0.01
    index = model.design.levels[0].index
    for g in (0, 3, 5):
        own = np.flatnonzero(index == g)
        total = brute(values, 1, own)
        assert whole[g, 1] == pytest.approx(total, abs=1e-3)
        for i in own[:2]:
            assert rows[i, 1] == pytest.approx(total - brute(values, 1, np.setdiff1d(own, [i])), abs=2e-3)


def test_a_row_that_is_most_of_its_group_is_left_out_exactly():
    """A group whose one row has 400 trials, its other ones 1 and 2: without it little is known."""
    data = {"a": [150, 0, 1, 3, 1, 2], "b": [250, 1, 1, 4, 0, 2], "g": list("xxxyyz")}
    model = blm.GLMM("cbind(a, b) ~ 1 + (1 | g)", data, family="binomial")
    values = LinkValues.of_posterior(model, fake(model, draws=20, size=0.5)["posterior"].to_dataset())
    found = OneLevel(values=values, k=0).of_rows(41)
    for i, rest in ((0, [1, 2]), (5, []), (3, [4])):
        own = np.array(sorted([i, *rest]))
        expected = [brute(values, d, own) - brute(values, d, np.array(rest, dtype=int)) for d in range(20)]
        np.testing.assert_allclose(found[i], expected, atol=2e-3)


def test_a_whole_outer_group_is_a_nested_integral():
    case = next(case for case in CASES if "/" in case.formula)
    model = made_up(case, "poisson")
    tree = fake(model, draws=100, size=0.3)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    from bayeslmm.criticism.link_loo import _densities, integrated_levels
    from bayeslmm.criticism.units import units_of
    from bayeslmm.support.progress import Progress

    outer = max(range(2), key=lambda k: -model.design.levels[k].m)
    units = units_of(model.design, model.design.levels[outer].label)
    few = values.some(slice(0, 2))
    found, _ = _densities(few, integrated_levels(model, units), units, Progress(False))
    inner = 1 - outer
    axis = np.linspace(-8, 8, 401)
    weight = stats.norm.logpdf(axis) + np.log(axis[1] - axis[0])
    eta = few.eta(without=(0, 1))
    for d in range(2):
        s = [float(abs(F[d, 0, 0])) for F in few.factors]
        for unit in range(2):
            rows = np.flatnonzero(units.index == unit)
            total = np.zeros(len(axis))
            for g in np.unique(model.design.levels[inner].index[rows]):
                own = rows[model.design.levels[inner].index[rows] == g]
                lp = (
                    model.outcome.y[own, None, None],
                    eta[d, own, None, None] + s[inner] * axis + s[outer] * axis[:, None],
                )
                inside = stats.poisson.logpmf(lp[0], np.exp(lp[1])).sum(axis=0)
                total += np.logaddexp.reduce(inside + weight, axis=1)
            assert found[unit, d] == pytest.approx(np.logaddexp.reduce(total + weight), abs=2e-3)


def test_one_group_left_out_says_what_was_integrated():
    model = LEFT_OUT["crossed"]()
    tree = fake(model, draws=120, size=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo = model.loo(tree, unit="bottle", progress=False)
    assert loo.integrated == ("bottle",)
    assert loo.given == ("judge",)
    assert "bottle are integrated out by quadrature" in loo.note
    assert "judge, which are taken from the draws" in loo.note
    assert loo.elpd == pytest.approx(loo.table["elpd"].sum())
    assert loo.to_arviz().n_data_points == 8
    assert "Leave one bottle out" in repr(loo)


def test_what_can_t_be_left_out():
    model = blm.GLMM(
        "y ~ 1 + (1 | g)", {"y": [0, 3, 1, 0, 5, 9], "g": list("aabbcc")}, family="poisson",
        covariance={"g": pd.DataFrame(np.eye(3) + 0.5, list("abc"), list("abc"))},
    )  # fmt: skip
    tree = fake(model, draws=100, size=0.3)
    with pytest.raises(DescriptionError, match=r"known covariance.*unit='row'"):
        model.loo(tree, unit="g", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo, other = model.loo(tree, progress=False), az.loo(tree, reff=1.0)
    assert loo.integrated == ()
    assert loo.elpd == pytest.approx(float(other.elpd), rel=1e-9)  # nothing can be integrated out
    with pytest.raises(DataError, match="at least 100 are needed"):
        model.loo(fake(model, draws=20), progress=False)
    with pytest.raises(DescriptionError, match="no unit of this model"):
        model.loo(tree, unit="h", progress=False)


def test_models_are_compared_by_what_they_predict():
    data = table("epil")
    models = {
        name: blm.GLMM("y ~ lbase + (1 | subject)", data, family=name) for name in ("poisson", "negative_binomial")
    }
    trees = {name: fake(model, draws=120, size=0.1) for name, model in models.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = blm.compare_models(models, unit="subject", posteriors=trees, progress=False)
        assert set(both.predictive.index) == set(models)
        assert not both.tests
        assert not len(both.bayes)
        assert both.likelihood["status"].str.contains("quadrature").all()
        assert "predicts a new subject best" in both.text
    with pytest.raises(DataError, match="density of y, unlike"):
        blm.compare_models({**models, "lmm": blm.LMM("y ~ lbase + (1 | subject)", data)}, posteriors=trees)
