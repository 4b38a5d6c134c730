"""Comparisons of models with known covariances and structured residuals, on draws with known moments."""

from functools import cache
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayeslmm as blm
from bayeslmm.comparison import plots
from bayeslmm.comparison.comparison import Comparison
from bayeslmm.comparison.report import equations, recipe

MODELS = Path(__file__).parents[1] / "models"


@cache
def model(name):
    return blm.LMM.from_toml(MODELS / f"{name}.toml")


def compared(lmm, **own):
    """A comparison whose marginal draws are normal around ML's estimates, or around `own` (mean, SD)."""
    rng = np.random.default_rng(1)
    estimates = lmm.ml().estimates()
    moments = {name: (value, 0.05) for name, value in estimates.items()} | own
    draws = np.stack([rng.normal(*moments[name], size=(4, 500)) for name in estimates.index], axis=-1)
    array = xr.DataArray(draws, dims=("chain", "draw", "parameter"), coords={"parameter": list(estimates.index)})
    tree = az.from_dict({"posterior": {"sigma": draws[..., 0]}})
    tree.attrs = {"seconds": 1.0, "sampler": "collapsed", "draws": 500, "chains": 4}
    made = Comparison(model=lmm, posteriors={"marginal": tree})
    made.__dict__["draws"] = {"marginal": array}
    return made


def topics(comparison):
    return {found.topic: found.text for found in comparison.findings}


# --- in words


def test_what_the_posterior_says_of_rho():
    said = topics(compared(model("ovary"), rho=(0.6, 0.1)))["Residuals"]
    assert said.startswith("rho, the correlation of two rows within the groups of Mare that are one step of time apart")
    assert "has a posterior median of 0.599 and a 95 % interval from 0.4" in said
    assert said.endswith("the probability that it is positive is more than 99 %.")


def test_a_negative_correlation_is_told_as_such():
    said = topics(compared(model("litters"), rho=(-0.08, 0.04)))["Residuals"]
    assert "within the groups of litter (above -1/6)" in said
    assert "the probability that it is positive is 2 %" in said


def test_what_the_posterior_says_of_a_ratio_of_sds():
    said = topics(compared(model("orthodont"), **{"sigma_ratio[Male]": (2.1, 0.3)}))["Residuals"]
    assert said.startswith("sigma_ratio[Male], the residual SD of Sex Male over that of Sex Female")
    assert "the probability that it is above 1 is more than 99 %" in said


def test_a_plain_model_has_no_such_topic():
    assert "Residuals" not in topics(compared(model("dyestuff")))


def test_estimates_on_the_edge_are_told():
    """Two rows a group that are nearly equal: ML takes rho to one."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(8), 2)
    y = np.repeat(rng.normal(size=8), 2) + 1e-9 * rng.normal(size=16)
    lmm = blm.LMM("y ~ 1", {"y": y, "g": g}, residual=blm.Residual(structure="cs", group="g"))
    assert lmm.ml().boundary == ("rho",)
    said = topics(compared(lmm, rho=(0.9, 0.01)))["On the boundary"]
    assert said.startswith("ML and REML put rho on the edge of what it can be. The posterior has a median of 0.90")


def test_what_cannot_be_told_apart_is_said():
    """A random intercept and compound symmetry of the same groups: only their sum is in the data."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(10), 4)
    data = {"y": rng.normal(size=10)[g] + rng.normal(size=40), "g": g}
    lmm = blm.LMM("y ~ 1 + (1 | g)", data, residual=blm.Residual(structure="cs", group="g"))
    assert lmm.reml().status.name == "flat"
    assert "the posterior is what the priors say" in topics(compared(lmm))["Not told apart"]
    assert "Not told apart" not in topics(compared(model("ovary")))


def test_few_groups_are_those_with_rows():
    K = pd.DataFrame(0.5 + 0.5 * np.eye(6), index=list("abcdef"), columns=list("abcdef"))
    data = {"y": [1.0, 2.0, 4.0, 3.0, 5.0, 9.0, 2.0, 4.0], "g": list("aabbccdd")}
    said = topics(compared(blm.LMM("y ~ 1 + (1 | g)", data, covariance={"g": K})))["Few groups"]
    assert said.startswith("g has 4 groups, and 4 numbers")


# --- tables and pictures


def test_tables_have_a_row_for_each_parameter_of_R():
    made = compared(model("orthodont"))
    assert made.table.index[-1] == "sigma_ratio[Male]"
    assert made.table.loc["sigma_ratio[Male]", ("reml", "estimate")] == pytest.approx(1 / 0.4678944, rel=1e-5)
    assert "sigma_ratio[Male]" in str(made)


@pytest.mark.parametrize(("name", "drawn"), [("ovary", "rho"), ("litters", "rho"), ("orthodont", "sigma_ratio[Male]")])
def test_densities_are_drawn_of_parameters_of_R_as_well(name, drawn):
    made = compared(model(name), **({"rho": (-0.08, 0.02)} if name == "litters" else {}))
    figure = plots.sd_densities(made)
    axes = {ax.get_title(loc="left"): ax for ax in figure.axes}
    assert drawn in axes
    low, high = axes[drawn].get_xlim()
    for fit in (made.ml, made.reml):
        assert low < fit.estimates()[drawn] < high
    assert np.quantile(made.values("marginal", drawn), 0.95) < high
    assert low >= (-1 if drawn == "rho" else 0)
    assert len(made.plot().axes) == len(made.ml.estimates()) + len(axes)


# --- the report


def test_equations_have_R_and_K_where_these_are_not_the_identity():
    plain = equations(model("dyestuff"))
    assert "<i>e</i> ~ N(0, <i>σ</i><sup>2</sup><i>I</i>)" in plain
    assert "<i>R</i>" not in plain
    ovary = equations(model("ovary"))
    assert "<i>e</i> ~ N(0, <i>σ</i><sup>2</sup><i>R</i>)" in ovary
    assert "<li><i>R</i>: Residuals: AR(1) within Mare" in ovary
    assert "<i>G</i><sub>2</sub><i>Z</i><sub>2</sub>′ + <i>R</i>))" in ovary
    calves = equations(model("calves"))
    assert "<i>G</i><sub>2</sub> = <i>σ</i><sup>2</sup><i>K</i><sub>2</sub>" in calves
    assert "sigma^2 times the covariance in data/calves_K.csv" in calves
    assert "sigma_u2^2 times the inverse of the precision" in equations(model("flock"))
    assert "Without levels the joint model and the marginal are one" in equations(model("litters"))


def test_the_recipe_says_what_a_formula_cannot():
    lines = recipe(compared(model("ovary"))).splitlines()
    residual = "residual=blm.Residual(structure='ar1', group=['Mare'])"
    assert f"lmm = blm.LMM('follicles ~ 1 + sine + cosine + (1 | Mare)', data, {residual})" in lines
    assert ", data, precision={'u2': K_u2})" in recipe(compared(model("flock")))
    assert "lmm = blm.LMM(hierarchy, data)" in recipe(compared(model("calves")))
    assert "lmm = blm.LMM('Yield ~ 1 + (1 | Batch)', data)" in recipe(compared(model("dyestuff")))
