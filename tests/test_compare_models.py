"""Several models of the same data: ELPD, likelihood ratios with their boundaries, Bayes factors, what is refused."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st

import bayeslmm as blm
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.likelihood.ratio_test import likelihood_ratio_test

SLEEP = blm.example_data("sleepstudy")
FORMULAS = {
    "one": "Reaction ~ 1 + Days + (1 | Subject)",
    "no trend": "Reaction ~ 1 + (1 | Subject)",
    "unrelated": "Reaction ~ 1 + Days + (1 + Days || Subject)",
    "slopes": "Reaction ~ 1 + Days + (1 + Days | Subject)",
    "cs": "Reaction ~ 1 + Days + cs(1 + Days | Subject)",
    "elsewhere": "Reaction ~ 1 + Days + (1 | Day)",
}


def fit(name: str) -> blm.LMM:
    residual = blm.Residual(structure="ar1", group="Subject") if name == "rows" else None
    data = pd.DataFrame(SLEEP)
    data = data.assign(Day="d" + data["Days"].astype(str))
    return blm.LMM(FORMULAS["one" if name == "rows" else name], data, residual=residual).ml()


@pytest.mark.parametrize(
    ("smaller", "larger", "mixture"),
    [
        ("no trend", "one", {1: 1.0}),  # a coefficient
        ("one", "unrelated", {0: 0.5, 1: 0.5}),  # an SD
        ("one", "slopes", {1: 0.5, 2: 0.5}),  # an SD and its correlation: Stram & Lee's case 3
        ("no trend", "slopes", {2: 0.5, 3: 0.5}),  # and a coefficient
        ("unrelated", "slopes", {1: 1.0}),  # a correlation
        ("one", "rows", {1: 1.0}),  # rho of an AR(1)
        ("cs", "slopes", None),  # as many parameters: the same model
        ("elsewhere", "slopes", None),  # other groups
        ("slopes", "one", None),  # the wrong way round
    ],
)
def test_the_mixture_is_that_of_what_is_added(smaller, larger, mixture):
    test = likelihood_ratio_test(fit(smaller), fit(larger))
    if smaller == "cs":
        assert test is not None
        assert abs(test.statistic) < 1e-6
        return
    assert (test and test.mixture) == mixture
    if mixture:
        statistic = 2 * (fit(larger).loglik - fit(smaller).loglik)
        tails = sum(weight * st.chi2.sf(statistic, df) for df, weight in mixture.items() if df)
        assert test.p == pytest.approx(tails, rel=1e-9)


def test_reml_is_no_ground_for_a_ratio():
    lmm = [blm.LMM(FORMULAS[name], SLEEP).reml() for name in ("no trend", "one")]
    assert likelihood_ratio_test(*lmm) is None


def test_under_the_smaller_model_the_mixture_is_right():
    """Of data sets without groups the test of an SD refuses as many as its level says; a chi-square half as many."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(15), 4)
    p: list[float] = []
    for _ in range(150):
        data = {"y": rng.standard_normal(60), "x": rng.standard_normal(60), "g": g.astype(str)}
        one = blm.LMM("y ~ 1 + x + (1 | g)", data).ml()
        null = -0.5 * 60 * (np.log(2 * np.pi * np.mean(_residual(data) ** 2)) + 1)
        statistic = max(2 * (one.loglik - null), 0.0)
        p.append(0.5 * st.chi2.sf(statistic, 1) + 0.5 * (statistic < 1e-8))
    share = np.mean(np.array(p) < 0.1)
    assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 150)


def _residual(data):
    X = np.column_stack([np.ones(60), data["x"]])
    return data["y"] - X @ np.linalg.lstsq(X, data["y"], rcond=None)[0]


@pytest.fixture(scope="module")
def three():
    data = blm.example_data("sleepstudy")
    models = {name: blm.LMM(FORMULAS[name], data) for name in ("slopes", "one", "no trend")}
    return blm.compare_models(models, unit="Subject", draws=500, random_seed=1, progress=False)


def test_the_tables_are_those_of_their_parts(three):
    top = three.predictive.index[0]
    assert top == "slopes"
    for name, loo in three.left_out.items():
        row = three.predictive.loc[name]
        assert row["elpd"] == pytest.approx(loo.table["elpd"].sum())
        off = loo.table["elpd"] - three.left_out[top].table["elpd"]
        assert row["difference"] == pytest.approx(off.sum())
        assert row["se_difference"] == pytest.approx(np.sqrt(18) * off.std(ddof=0))
        ml = three.models[name].ml()
        assert three.likelihood.loc[name, ["loglik", "aic", "bic"]].tolist() == [ml.loglik, ml.aic, ml.bic]
    assert three.predictive["stacking"].sum() == pytest.approx(1.0)
    assert three.bayes["probability"].sum() == pytest.approx(1.0)
    assert three.bayes.loc["one", "bayes_factor"] == pytest.approx(
        np.exp(three.evidence["slopes"].log - three.evidence["one"].log)
    )


def test_the_words_say_what_the_tables_show(three):
    assert "slopes predicts a new Subject best" in three.text
    assert "one within slopes: likelihood ratio 42.14" in three.text
    assert "Bayes factors depend on the priors" in three.text
    assert "To be doubted" not in three.text


def test_flat_priors_have_no_marginal_likelihood_and_few_units_no_standard_error():
    data = blm.example_data("heights")
    models = {
        "nested": blm.LMM("Height ~ 1 + (1 | school/class)", data),
        "flat": blm.LMM("Height ~ 1 + (1 | school)", data, priors={"Intercept": "Flat()"}),
    }
    both = blm.compare_models(models, unit="school", draws=500, random_seed=1, progress=False)
    assert list(both.bayes.index) == ["nested"]
    assert "flat has no marginal likelihood: The marginal likelihood is an average over the priors" in both.text
    assert "Standard errors of 2 units say little" in both.text


def test_priors_with_a_bound_have_no_wider_ones():
    data = blm.example_data("heights")
    bounded = {"sigma_u2": "Uniform(lower=0, upper=20)"}
    models = {name: blm.LMM(f"Height ~ 1 + (1 | {name})", data, priors=bounded) for name in ("school", "class")}
    both = blm.compare_models(models, draws=250, random_seed=1, progress=False)
    assert both.bayes[["narrower", "wider"]].isna().all(axis=None)
    assert "nan" not in both.text
    assert "half and twice as wide" not in both.text


def test_other_data_other_units_and_single_models_are_refused():
    lmm, half = blm.LMM(FORMULAS["one"], SLEEP), blm.LMM(FORMULAS["one"], pd.DataFrame(SLEEP).iloc[:90])
    log = blm.LMM("log(Reaction) ~ 1 + Days + (1 | Subject)", SLEEP)
    with pytest.raises(DescriptionError, match="Two or more models by name were expected, but 1 came"):
        blm.compare_models({"a": lmm})
    with pytest.raises(DataError, match="b has 90 rows where a has 180: densities are comparable"):
        blm.compare_models({"a": lmm, "b": half})
    with pytest.raises(DataError, match="b has other responses than a"):
        blm.compare_models({"a": lmm, "b": log})
    with pytest.raises(DescriptionError, match="unit='school' is no unit"):
        blm.compare_models({"a": lmm, "b": lmm}, unit="school")
    with pytest.raises(DescriptionError, match=r"posteriors has 'c'; the models are 'a', 'b'"):
        blm.compare_models({"a": lmm, "b": lmm}, posteriors={"c": None})
