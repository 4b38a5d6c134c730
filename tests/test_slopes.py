"""Comparisons, slopes and grids: against encoded rows, derivatives and sums by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import fitted_model
from structured import quiet

import bayeslmm as blm

SLEEP = "Reaction ~ 1 + Days + (1 + Days | Subject)"

RNG = np.random.default_rng(12)
CURVED = pd.DataFrame(
    {
        "x": RNG.uniform(0.05, 30, 90),
        "z": RNG.normal(size=90) + 5,
        "f": np.tile(list("abc"), 30),
        "on": np.arange(90) % 2 == 0,
        "k": np.arange(90) // 2 % 3 + 1,
        "g": np.repeat(list("pqrstu"), 15),
        "n": RNG.integers(5, 50, 90),
    }
)
CURVED["y"] = 0.1 * CURVED.x + CURVED.f.map({"a": 0, "b": 1, "c": 3}) + RNG.normal(size=90)
CURVED["y"] += CURVED.g.map(dict(zip("pqrstu", RNG.normal(size=6), strict=True)))


@pytest.fixture(scope="module")
def curved():
    return quiet(
        lambda: blm.LMM("y ~ poly(x, 3) + log(x) * f + I(z ** 2) + on + C(k) + offset(log(n)) + (1 + z | g)", CURVED)
    )


def hand(fit, L) -> tuple[np.ndarray, np.ndarray]:
    """L beta and its standard errors."""
    L = np.atleast_2d(L)
    return L @ fit.beta, np.sqrt(np.einsum("ij,jk,ik->i", L, fit.beta_cov, L))


def test_contrasts_are_differences_of_encoded_rows(curved):
    fit, encoder = curved.ml(), curved.design.encoders[0]

    def changed(name, value):
        return encoder.matrix(curved.design.frame.assign(**{name: value}))

    asked = {"x": (2.0, 20.0), "f": "pairwise", "on": None, "k": "sequential"}
    found = curved.comparisons(fit, asked, scope="population").frame
    pairs = [("x", 2.0, 20.0), ("f", "a", "b"), ("f", "a", "c"), ("f", "b", "c"), ("on", False, True)]
    pairs += [("k", 1, 2), ("k", 2, 3)]
    L = np.stack([(changed(name, high) - changed(name, low)).mean(axis=0) for name, low, high in pairs])
    estimate, sd = hand(fit, L)
    np.testing.assert_allclose(found["estimate"], estimate, rtol=1e-9)
    np.testing.assert_allclose(found["sd"], sd, rtol=1e-7)
    assert found["contrast"].tolist() == ["20 - 2", "b - a", "c - a", "c - b", "True - False", "2 - 1", "3 - 2"]
    step = curved.comparisons(fit, {"x": 0.5}, by="f", scope="population").frame
    D = encoder.matrix(CURVED.assign(x=CURVED.x + 0.5)) - encoder.matrix(CURVED)
    L = np.stack([D[CURVED.f == f].mean(axis=0) for f in "abc"])
    np.testing.assert_allclose(step[["estimate", "sd"]].to_numpy().T, hand(fit, L), rtol=1e-7)
    each = curved.comparisons(fit, "x", by=False, scope="population").frame
    assert len(each) == 90
    each_sd = curved.comparisons(fit, {"x": "sd"}, scope="population").frame
    centre, half = CURVED.x.mean(), CURVED.x.std() / 2
    L = (changed("x", centre + half) - changed("x", centre - half)).mean(axis=0)
    np.testing.assert_allclose(each_sd["estimate"], hand(fit, L)[0], rtol=1e-9)


def test_slopes_are_derivatives_by_hand(curved):
    """poly by its own three-term recurrence would be a second implementation; through raw powers it is none."""
    fit, beta = curved.ml(), curved.ml().fixef
    encoder = curved.design.encoders[0]
    x = CURVED.x.to_numpy()
    # columns of poly(x, 3) are cubics: what four of their values say, they are everywhere
    at = np.array([1.0, 9.0, 17.0, 29.0])
    P = encoder.matrix(CURVED.iloc[:4].assign(x=at))
    cubic = [beta.index.get_loc(f"poly(x, 3)[{k}]") for k in (1, 2, 3)]
    powers = np.linalg.solve(np.vander(at, 4, increasing=True), P[:, cubic])
    D = np.zeros((90, curved.design.p))
    D[:, cubic] = np.column_stack([0 * x, 0 * x + 1, 2 * x, 3 * x**2]) @ powers
    D[:, beta.index.get_loc("log(x)")] = 1 / x
    for f in "bc":
        D[:, beta.index.get_loc(f"log(x):f[T.{f}]")] = (CURVED.f == f) / x
    found = curved.slopes(fit, "x", by=False, scope="population").frame
    estimate, sd = hand(fit, D)
    np.testing.assert_allclose(found["estimate"], estimate, rtol=1e-6, atol=1e-6 * np.abs(estimate).max())
    np.testing.assert_allclose(found["sd"], sd, rtol=1e-5)
    by = curved.slopes(fit, "x", by="f").frame
    np.testing.assert_allclose(by["estimate"], [estimate[CURVED.f == f].mean() for f in "abc"], rtol=1e-6)
    z = curved.slopes(fit, "z", by="g").frame
    own = 2 * CURVED.groupby("g").z.mean().to_numpy() * beta["I(z ** 2)"] + fit.ranef["g"]["z"].to_numpy()
    np.testing.assert_allclose(z["estimate"], own, rtol=1e-8)
    n = curved.slopes(fit, "n").frame  # the offset's slope is known
    np.testing.assert_allclose(n[["estimate", "sd"]].to_numpy()[0], [(1 / CURVED.n).mean(), 0], atol=1e-8)
    assert set(curved.slopes(fit).frame["variable"]) == {"x", "z", "n"}


def test_a_slope_in_other_units_far_from_zero():
    for scale, shift in ((1.0, 0.0), (1e-9, 0.0), (1e9, 0.0), (1.0, 1e6)):
        data = CURVED.assign(x=CURVED.x * scale + shift, y=CURVED.y * scale)
        lmm = quiet(lambda data=data: blm.LMM("y ~ poly(x, 2) + (1 | g)", data))
        plain = quiet(lambda: blm.LMM("y ~ poly(x, 2) + (1 | g)", CURVED))
        found, known = (m.slopes(m.ml(), "x", by=False, scope="population").frame for m in (lmm, plain))
        np.testing.assert_allclose(found["estimate"], known["estimate"], rtol=1e-5, atol=1e-6)


def test_a_posterior_has_the_draws_contrasts(curved):
    tree = quiet(lambda: curved.sample(draws=60, chains=2, random_seed=1, progress=False))
    beta = tree["posterior"]["beta"].to_numpy().reshape(120, -1)
    names = curved.design.coef
    row = curved.comparisons(tree, "on").frame.iloc[0]
    own = beta[:, names.index("on[T.True]" if "on[T.True]" in names else "on")]
    np.testing.assert_allclose([row["estimate"], row["sd"]], [own.mean(), own.std(ddof=1)], rtol=1e-9)
    u = tree["posterior"]["u2"].to_numpy().reshape(120, 6, 2)
    slope = curved.slopes(tree, "z", by="g").frame
    zbar = CURVED.groupby("g").z.mean().to_numpy()
    known = 2 * zbar * beta[:, [names.index("I(z ** 2)")]] + u[:, :, 1]
    np.testing.assert_allclose(slope["estimate"], known.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(
        slope[["2.5 %", "97.5 %"]].to_numpy().T, np.quantile(known, [0.025, 0.975], axis=0), rtol=1e-8
    )


def test_new_groups_differ_in_their_slopes_too():
    """A contrast along a random slope of new groups: its variance has the slopes' variance, once per group."""
    lmm = fitted_model(SLEEP, "sleepstudy")
    fit = lmm.reml()
    data = {"Days": [0, 0, 0], "Subject": ["new", "new", "other"]}
    each = lmm.comparisons(fit, {"Days": (0, 2)}, data, scope="new", by=False).frame
    slope = fit.sds[0][1]
    se = fit.fixef_se["Days"]
    np.testing.assert_allclose(each["sd"], 2 * np.hypot(slope, se), rtol=1e-8)
    mean = lmm.comparisons(fit, {"Days": (0, 2)}, data, scope="new").frame["sd"].item()
    assert mean == pytest.approx(2 * np.sqrt(se**2 + slope**2 * (4 + 1) / 9), rel=1e-8)


def test_comparing_groups_compares_their_effects():
    lmm = fitted_model("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake")
    fit = lmm.reml()
    pair = lmm.comparisons(fit, {"replicate": (1, 2)}, lmm.grid(recipe="B", replicate=1)).frame
    modes = fit.ranef["u2"]["Intercept"]
    assert pair["estimate"].item() == pytest.approx(modes["B:2"] - modes["B:1"], rel=1e-10)
    said = lmm.comparisons(fit, "recipe")
    assert "recipe tells groups of recipe:replicate apart" in said.note
    alone = lmm.comparisons(fit, "recipe", scope="population")
    assert "tells groups" not in alone.note
    assert (alone.frame["sd"] > said.frame["sd"]).all()


def test_grids(curved):
    grid = curved.grid(x=[1, 2], f=["b", "a"])
    assert grid.columns.tolist() == ["x", "f", "z", "on", "k", "n"]
    assert grid[["x", "f"]].to_numpy().tolist() == [[1, "b"], [1, "a"], [2, "b"], [2, "a"]]
    assert grid["z"].iloc[0] == pytest.approx(CURVED.z.mean())
    assert (grid["on"].iloc[0], grid["k"].iloc[0]) == (False, 1)
    assert len(curved.grid(grid_type="balanced")) == 3 * 2 * 3
    whole = curved.grid(x=[1, 2], grid_type="counterfactual")
    assert len(whole) == 180
    fit = curved.ml()
    apart = curved.predictions(fit, whole, by="x").frame
    contrast = curved.comparisons(fit, {"x": (1, 2)}).frame["estimate"].item()
    assert np.diff(apart["estimate"]).item() == pytest.approx(contrast, rel=1e-9)
    assert len(curved.predictions(fit, curved.grid({"x": [1]}, g=["p", "q"])).frame) == 2


def test_differences_between_averages():
    """Slopes by recipe, and whether they differ: what an interaction is about."""
    lmm = fitted_model("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake")
    fit = lmm.reml()
    found = lmm.slopes(fit, by="recipe", hypothesis="reference").frame
    assert found["hypothesis"].tolist() == ["B - A", "C - A"]
    names = [f"recipe[T.{name}]:temperature" for name in "BC"]
    np.testing.assert_allclose(found["estimate"], fit.fixef[names], rtol=1e-8)
    np.testing.assert_allclose(found["sd"], fit.fixef_se[names], rtol=1e-8)
    pairs = lmm.predictions(fit, by=["recipe"], hypothesis="pairwise").frame
    averages = lmm.predictions(fit, by="recipe").frame["estimate"].to_numpy()
    np.testing.assert_allclose(pairs["estimate"], [averages[j] - averages[i] for i, j in ((0, 1), (0, 2), (1, 2))])
    with pytest.raises(blm.DescriptionError, match="no two of them; write by="):
        lmm.predictions(fit, hypothesis="pairwise")
    with pytest.raises(blm.DescriptionError, match="hypothesis='b1 = b2'; expected"):
        lmm.predictions(fit, by="recipe", hypothesis="b1 = b2")
