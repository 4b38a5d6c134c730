"""An offset is a part of the mean with the coefficient 1: every variant is that of y minus the offset."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.description.model_file import ModelFile
from bayeslmm.design.building import build_design

RNG = np.random.default_rng(8)
G = np.repeat(np.arange(8), 5)
X, COUNT = RNG.normal(size=40), RNG.integers(20, 4000, 40)
Y = np.log(COUNT) + 0.4 * X + RNG.normal(size=8)[G] + 0.3 * RNG.normal(size=40)
DATA = pd.DataFrame({"y": Y, "x": X, "n": COUNT, "g": G, "rest": Y - np.log(COUNT)})


@pytest.fixture(scope="module")
def pair():
    return blm.LMM("y ~ x + offset(log(n)) + (1 | g)", DATA), blm.LMM("rest ~ x + (1 | g)", DATA)


def test_y_stays_the_users_and_the_offset_is_said(pair):
    lmm, _ = pair
    np.testing.assert_array_equal(lmm.y, Y)
    np.testing.assert_allclose(lmm.design.net_y, DATA["rest"], rtol=1e-12)
    assert lmm.X.columns.tolist() == ["Intercept", "x"]
    assert "Offset: log(n), a part of the mean whose coefficient is 1." in lmm.describe()
    assert "offset(log(n))" in repr(lmm)
    assert "offset(log(n))" in repr(lmm.reml())


@pytest.mark.parametrize("method", ["ml", "reml"])
def test_fits_are_those_of_the_difference(pair, method):
    fit, plain = (getattr(lmm, method)() for lmm in pair)
    assert fit.loglik == pytest.approx(plain.loglik, rel=1e-12)
    np.testing.assert_allclose(fit.estimates(), plain.estimates(), rtol=1e-9)
    np.testing.assert_allclose(fit.fitted, plain.fitted + np.log(COUNT), rtol=1e-12)
    np.testing.assert_allclose(fit.residuals, plain.residuals, atol=1e-10)
    np.testing.assert_allclose(fit.predict(), fit.fitted, rtol=1e-12)


def test_new_rows_bring_their_own_offset(pair):
    fit, plain = (lmm.reml() for lmm in pair)
    new = {"x": [0.0, 1.0], "g": [0, 3], "n": [10, 1000]}
    np.testing.assert_allclose(fit.predict(new), plain.predict(new) + np.log([10, 1000]), rtol=1e-12)
    with pytest.raises(blm.DataError, match="no column 'n'"):
        fit.predict({"x": [0.0], "g": [0]})


def test_the_defaults_look_at_what_is_left_to_explain(pair):
    lmm, plain = pair
    assert [row.prior for row in lmm.priors.reasons] == [row.prior for row in plain.priors.reasons]


def test_posteriors_predictions_and_densities_are_those_of_the_difference(pair):
    trees = [
        lmm.sample(draws=50, chains=2, random_seed=1, progress=False, residuals=True, log_densities=True)
        for lmm in pair
    ]
    for group in ("posterior", "log_prior"):
        for name, values in trees[0][group].data_vars.items():
            np.testing.assert_allclose(values, trees[1][group][name], rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(trees[0]["observed_data"]["y"], Y)
    new = {"x": [0.0, 1.0], "n": [10, 1000]}
    for options in ({"kind": "mean"}, {"kind": "response", "random_seed": 2}):
        own, plain = (
            lmm.predict(tree, new, random_effects=False, **options) for lmm, tree in zip(pair, trees, strict=True)
        )
        np.testing.assert_allclose(own - plain, np.broadcast_to(np.log([10, 1000]), own.shape), rtol=1e-7)
    own, plain = (lmm.prior_predictive(20, random_seed=1)["prior_predictive"]["y"].to_numpy() for lmm in pair)
    np.testing.assert_allclose(own - plain, np.broadcast_to(np.log(COUNT), own.shape), rtol=1e-9)


@pytest.mark.parametrize("variant", ["marginal", "joint"])
def test_pymc_models_have_it_as_a_part_of_the_mean(pair, variant):
    import pymc as pm

    model, plain = (getattr(lmm, variant)() for lmm in pair)
    point = model.initial_point(random_seed=1)
    own, others = (m.compile_logp(vars=[m["y"]], mode="FAST_COMPILE")(point) for m in (model, plain))
    assert own == pytest.approx(others, rel=1e-9)
    y, rest = (pm.draw(m["y"], draws=2, random_seed=3, mode="FAST_COMPILE") for m in (model, plain))
    np.testing.assert_allclose(y - rest, np.broadcast_to(np.log(COUNT), y.shape), rtol=1e-9)


def test_models_that_differ_by_an_offset_imply_other_means(pair):
    lmm, _ = pair
    without = blm.LMM("y ~ x + (1 | g)", DATA)
    found = blm.same_marginal(lmm, without)
    assert (found.same, found.only_a, found.only_b) == (False, ("offset(log(n))",), ("offset(log(n))",))
    wider = blm.same_marginal(lmm, blm.LMM("y ~ x + log(n) + (1 | g)", DATA))
    assert (wider.a_in_b, wider.b_in_a) == (True, False)
    assert blm.same_marginal(lmm, blm.LMM("y ~ x + (1 | g)", DATA, offset="log(n)")).same


def test_a_description_file_says_it(tmp_path):
    path = tmp_path / "m.toml"
    for text in (
        'formula = "y ~ x + offset(log(n)) + (1 | g)"',
        'formula = "y ~ x + (1 | g)"\noffset = "log(n)"',
        'response = "y"\nfixed = "1 + x"\noffset = "log(n)"\n[[levels]]\ngroup = "g"',
    ):
        path.write_text(text)
        assert ModelFile.read(path).hierarchy.formula == "y ~ 1 + x + offset(log(n)) + (1 | g)"
    path.write_text('formula = "y ~ x + (1 | g)"\noffset = "log("')
    with pytest.raises(blm.DescriptionError, match="line 2: formula, position"):
        ModelFile.read(path)


def test_a_transform_that_depends_on_the_data_is_remembered():
    design = build_design(blm.Hierarchy.from_formula("y ~ x + offset(center(n)) + (1 | g)"), DATA)
    new = design.new({"x": [0.0], "n": [100], "g": [1]})
    np.testing.assert_allclose(new.offset, 100 - COUNT.mean())


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        ("word", "The offset 'word' holds 'a'"),
        ("log(zero)", "is not a finite number"),
        ("y - x", "minus the offset"),
        ("huge", "The largest value of the offset"),
    ],
)
def test_an_offset_that_cannot_be_is_refused(offset, said):
    data = DATA.assign(word="a", zero=0.0, huge=1e200)
    if offset == "y - x":
        data["x"] = 1.0
    with pytest.raises(blm.DataError, match=said.replace("(", r"\(")):
        blm.LMM("y ~ 1 + (1 | g)", data, offset=offset)
