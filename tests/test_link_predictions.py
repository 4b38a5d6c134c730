"""What GLMMs predict of rows, old and new: closed forms, quadrature, limits, every design."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from link_models import SLOPES_MODEL, cbpp, epil, fake, wine
from scipy import stats
from scipy.linalg import block_diag
from scipy.sparse import csr_array
from scipy.special import expit, ndtr
from test_glmm import FAMILIES, made_up, table

import bayeslmm as blm
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.posterior.link_draws import LinkValues
from bayeslmm.predictions.link_of_fit import OfFit
from bayeslmm.predictions.link_results import Asked
from bayeslmm.predictions.link_scales import LinkScale
from bayeslmm.tables.link_result import LinkFit
from tests.registry import CASES

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


def test_new_observations_have_the_mean_and_more_than_its_spread():
    model = cbpp()
    tree = fake(model, draws=4000, size=0.1)
    rows = model.design.frame.iloc[:4]
    y = model.predictions(tree, rows, kind="response").to_pandas()
    p = model.predictions(tree, rows).to_pandas()
    N = model.outcome.trials[:4]
    np.testing.assert_allclose(y["estimate"] / N, p["estimate"], atol=0.03)  # six SDs of means of 4,000 draws, or more
    spread = N * p["estimate"] * (1 - p["estimate"]) + (N**2 - N) * p["sd"] ** 2
    np.testing.assert_allclose(y["sd"] ** 2, spread, rtol=0.2)
    assert (y["2.5 %"] == y["2.5 %"].round()).all()


def test_what_can_t_be_asked_is_refused_with_what_can():
    model, fit = cbpp(), cbpp().ml()
    with pytest.raises(DescriptionError, match=r"'mean'.*'link'"):
        model.predictions(fit, kind="meen")
    with pytest.raises(DescriptionError, match=r"glmm.sample\(\), kind='response'"):
        model.predictions(fit, kind="response")
    with pytest.raises(DescriptionError, match="probability of each"):
        wine().predictions(fake(wine()), kind="response")
    with pytest.raises(DescriptionError, match="leave by= out"):
        model.predictions(fake(model), kind="response", by=True)
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


def test_groups_with_a_known_covariance_have_no_common_variance():
    K = pd.DataFrame(np.eye(3) + 0.5, list("abc"), list("abc"))
    data = {"y": [0, 3, 1, 0, 5, 9], "g": list("aabbcc")}
    model = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson", covariance={"g": K})
    with pytest.raises(DescriptionError, match=r"known covariance.*scope='average'"):
        model.predictions(model.ml(), scope="population-averaged")
    assert len(model.predictions(model.ml(), scope="average").to_pandas()) == 6


# Every design ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "family"),
    [pytest.param(case, ("poisson", "cumulative")[k % 2], id=case.name) for k, case in enumerate(CASES[::2])],
)
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
