"""Predictions of a fit and of a posterior: their own rows, new rows, new groups, relatives without rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import fitted_model
from structured import Structured

import bayeslmm as blm

TABLES = Path(__file__).parent / "data"
SLEEP = "Reaction ~ 1 + Days + (1 + Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    lmm = fitted_model(SLEEP, "sleepstudy")
    return lmm, lmm.sample(draws=400, chains=2, random_seed=1, progress=False)


def test_a_fit_predicts_its_own_rows():
    fit = fitted_model(SLEEP, "sleepstudy").reml()
    np.testing.assert_allclose(fit.predict(), fit.fitted)
    np.testing.assert_allclose(fit.residuals + fit.fitted, fit.design.y)
    data = {"Days": [0, 9], "Subject": ["308", "335"]}
    # predict(lmer(Reaction ~ Days + (Days | Subject), sleepstudy),
    #         data.frame(Days = c(0, 9), Subject = c("308", "335")))
    np.testing.assert_allclose(fit.predict(data), LME4, rtol=1e-6)
    np.testing.assert_allclose(
        fit.predict(data, random_effects=False), fit.fixef.iloc[0] + np.array([0, 9]) * fit.fixef.iloc[1]
    )


LME4 = (253.6636558, 248.5075235)


def test_new_groups_are_an_error_or_at_their_expectation():
    fit = fitted_model(SLEEP, "sleepstudy").ml()
    data = {"Days": [3], "Subject": ["999"]}
    with pytest.raises(blm.DataError, match="'999'"):
        fit.predict(data)
    expected = fit.fixef.iloc[0] + 3 * fit.fixef.iloc[1]
    np.testing.assert_allclose(fit.predict(data, allow_new_groups=True), expected)


def test_without_random_effects_no_grouping_column_is_needed(sleep):
    lmm, tree = sleep
    fit, new = lmm.reml(), {"Days": [0, 9]}
    expected = fit.fixef.iloc[0] + np.array([0, 9]) * fit.fixef.iloc[1]
    np.testing.assert_allclose(fit.predict(new, random_effects=False), expected)
    beta = tree["posterior"]["beta"].to_numpy()
    drawn = lmm.predict(tree, new, random_effects=False)
    np.testing.assert_allclose(drawn, beta @ np.array([[1.0, 1.0], [0.0, 9.0]]))
    assert lmm.predict(tree, new, random_effects=False, kind="response", random_seed=1).shape == drawn.shape
    for predict in (fit.predict, lambda data: lmm.predict(tree, data)):
        with pytest.raises(blm.DataError, match="no column 'Subject'"):
            predict(new)


def empty_cell():
    """A factorial design without one combination; lme4 1.1-31: ML -218.1424, the dependent column dropped."""
    with pytest.warns(UserWarning, match=r"v\[T.Z\]:n\[T.s\] is left out of the fixed part"):
        return blm.LMM("y ~ v*n + (1 | block)", pd.read_csv(TABLES / "empty_cell.csv"))


def test_an_empty_cell_is_fitted_and_predicted_around():
    lmm = empty_cell()
    fit = lmm.ml()
    assert fit.loglik == pytest.approx(-218.1424, abs=5e-5)
    assert lmm.design.p == 11
    data = pd.read_csv(TABLES / "empty_cell.csv")
    np.testing.assert_allclose(fit.predict(data), fit.fitted, rtol=1e-10)
    new = pd.DataFrame({"v": ["X", "Z", "Z"], "n": ["s", "r", "p"], "block": 1})
    assert fit.predict(new.iloc[:2], random_effects=False).shape == (2,)
    with pytest.raises(blm.DataError, match=r"Nothing can be said of row 2: 'v\[T.Z\]:n\[T.s\]' was left out"):
        fit.predict(new)


def test_a_change_score_may_be_explained_by_where_it_started():
    fit = blm.LMM("I(post-pre) ~ pre + (1 | id)", pd.read_csv(TABLES / "change.csv")).ml()
    assert fit.loglik == pytest.approx(-100.0564, abs=5e-5)  # lme4 1.1-31


def test_a_posterior_predicts_means_and_responses(sleep):
    lmm, tree = sleep
    mean = lmm.predict(tree)
    beta = tree["posterior"]["beta"].values
    u = tree["posterior"]["u2"].values
    by_hand = beta @ lmm.design.X.T + np.einsum("cdrk,rk->cdr", u[:, :, lmm.design.levels[0].index], lmm.design.X)
    np.testing.assert_allclose(mean.values, by_hand, rtol=1e-10)
    response = lmm.predict(tree, kind="response", random_seed=2)
    spread = (response - mean).std().item()
    assert spread == pytest.approx(np.sqrt((tree["posterior"]["sigma"] ** 2).mean().item()), rel=0.01)


def test_new_groups_vary_as_the_population_does(sleep):
    lmm, tree = sleep
    data = {"Days": [0, 0, 0], "Subject": ["308", "new", "new"]}
    found = lmm.predict(tree, data, allow_new_groups=True, random_seed=3)
    np.testing.assert_array_equal(found[..., 1], found[..., 2])  # rows of one group share its effects
    posterior = tree["posterior"]
    variance = (posterior["sigma_u2"][..., 0] ** 2).mean() + posterior["beta"][..., 0].var()
    # 800 draws: the error of a variance is about 5 %, of heavy-tailed ones more
    assert found[..., 1].var().item() == pytest.approx(variance.item(), rel=0.25)


TREES = {
    "None": lambda tree: None,
    "a number": lambda tree: 3,
    "a dict": lambda tree: {},
    "a table": lambda tree: pd.DataFrame({"beta": [1.0]}),
    "a fit": lambda tree: fitted_model(SLEEP, "sleepstudy").ml(),
    "the posterior alone": lambda tree: tree["posterior"],
    "draws from the prior": lambda tree: fitted_model(SLEEP, "sleepstudy").prior_predictive(draws=2),
}


@pytest.mark.parametrize("name", TREES)
def test_what_is_no_posterior_is_refused(sleep, name):
    lmm, tree = sleep
    given = TREES[name](tree)
    with pytest.raises(blm.DataError, match=r"without a group 'posterior'; .* lmm\.predict\(tree\)"):
        lmm.predict(given)
    with pytest.raises(blm.DataError, match=r"without a group 'posterior'; .* lmm\.sensitivity\(tree\)"):
        lmm.sensitivity(given)


def test_the_posterior_of_another_model_is_refused(sleep):
    other = fitted_model("Yield ~ 1 + (1 | Batch)", "dyestuff")
    with pytest.raises(blm.DataError, match=r"'beta' .* shape \(2,\) per draw; \(1,\) was expected"):
        other.predict(sleep[1])
    bare = sleep[1].isel(chain=0)
    with pytest.raises(blm.DataError, match="no dim 'chain'"):
        sleep[0].predict(bare)


@pytest.mark.parametrize(
    "wrong",
    [{"random_effects": "x"}, {"allow_new_groups": "x"}, {"random_seed": "a"}, {"random_seed": -1}],
)
def test_wrong_settings_are_refused(sleep, wrong):
    lmm, tree = sleep
    ((name, value),) = wrong.items()
    with pytest.raises(blm.DescriptionError, match=f"{name}={value!r}; expected"):
        lmm.predict(tree, **wrong)
    if name != "random_seed":
        with pytest.raises(blm.DescriptionError, match=f"{name}={value!r}; expected True or False"):
            lmm.ml().predict(**wrong)


def test_relatives_without_rows_are_predicted():
    lmm = Structured(levels="kinship with relatives", residual="iid").lmm()
    fit = lmm.reml()
    found = fit.predict({"x": [0.0, 0.0], "g": ["a", "y"]})
    np.testing.assert_allclose(found, fit.fixef["Intercept"] + fit.ranef["u2"]["Intercept"][["a", "y"]])
    tree = lmm.sample(draws=20, chains=2, random_seed=1, progress=False)
    with pytest.raises(blm.DescriptionError, match="known covariance, and new groups"):
        lmm.predict(tree, {"x": [0.0], "g": ["nobody"]}, allow_new_groups=True)


def test_what_is_no_kind_of_prediction_is_refused():
    lmm = Structured(levels="slopes", residual="ar1").lmm()
    tree = lmm.sample(draws=20, chains=2, random_seed=1, progress=False)
    assert lmm.predict(tree).shape == lmm.predict(tree, kind="response", random_seed=1).shape == (2, 20, 24)
    with pytest.raises(blm.DescriptionError, match="kind='mode'"):
        lmm.predict(tree, kind="mode")
