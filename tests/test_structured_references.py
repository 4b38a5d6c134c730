"""Structured residuals and known covariances: what nlme, lme4 and a dense likelihood in R say (data/structured.R).

The references are sharp: none lies lower than the maximum by 1e-8, and no SD, ratio or correlation is further away
from it than 2e-5 of itself, which the script asserts with derivatives of the dense likelihood.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import read_data
from scipy import stats
from scipy.linalg import block_diag

import bayeslmm as blm

HERE = Path(__file__).parent / "data"
FITS = {f"{fit['name']}:{fit['method']}": fit for fit in json.loads((HERE / "structured.json").read_text())["fits"]}
METHODS = ["ML", "REML"]


@cache
def read_matrix(name: str) -> pd.DataFrame:
    """A labelled matrix of tests/data."""
    return pd.read_csv(HERE / f"{name}.csv", index_col=0)


def residual_of(reference) -> blm.Residual:
    parts = dict(reference["residual"])
    if "covariance" in parts:
        parts["covariance"] = read_matrix(parts["covariance"])
    return blm.Residual(**parts)


@cache
def model_of(name: str) -> blm.LMM:
    reference = FITS[f"{name}:ML"]
    matrices = {group: read_matrix(file) for group, file in reference.get("covariance", {}).items()}
    plain = blm.Hierarchy.from_formula(reference["formula"], residual=residual_of(reference), covariance=matrices)
    if reference["known"]:
        plain = blm.Hierarchy(
            response=plain.response,
            fixed=plain.fixed,
            levels=tuple(
                blm.Level(group=level.group, effects=level.effects, covariance=level.covariance, known=True)
                if level.matrix is not None
                else level
                for level in plain.levels
            ),
            residual=plain.residual,
        )
    return blm.LMM(plain, read_data(reference["data"]))


def fitted(lmm: blm.LMM, method: str):
    return lmm.reml() if method == "REML" else lmm.ml()


def fit_of(key: str):
    name, method = key.split(":")
    return fitted(model_of(name), method)


# The description means what the references mean: their numbers in our V, without any fit


def relative_G(level, estimates) -> np.ndarray:
    """Covariance of one level's effects over sigma^2: K (x) Sigma."""
    K = np.eye(level.m) if level.root is None else level.root @ level.root.T
    if level.known:
        return K
    sds = np.array([estimates[name] for name in level.sd_labels])
    corr = np.eye(level.r)
    if level.correlated:
        corr[np.tril_indices(level.r, -1)] = [estimates[name] for name in level.correlation_labels]
        corr = np.tril(corr) + np.tril(corr, -1).T
    return np.kron(K, corr * np.outer(sds, sds) / estimates["sigma"] ** 2)


@cache
def dense(key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(V, Cov(y, u), covariance of the fixed effects), all over sigma^2, at the reference's estimates."""
    design, estimates = model_of(key.split(":")[0]).design, FITS[key]["estimates"]
    G = block_diag(*[relative_G(level, estimates) for level in design.levels], np.zeros((0, 0)))
    Z = np.hstack([np.zeros((design.n, 0)), *[level.Z.toarray() for level in design.levels]])
    V = design.residual.R([estimates[p.label] for p in design.residual.parameters]).toarray() + Z @ G @ Z.T
    return V, Z @ G, np.linalg.inv(design.X.T @ np.linalg.solve(V, design.X))


def in_order(design, values) -> np.ndarray:
    return np.array([values[name] for name in design.coef])


@pytest.mark.parametrize("key", [key for k, key in enumerate(FITS) if k % 4 in (0, 3)])  # ML and REML in turn
def test_the_reference_is_the_dense_likelihood_at_its_estimates(key):
    """REML adds a Gaussian integral over beta: sqrt of (2 pi)^p |Cov(beta)|, as lme4 and nlme have it."""
    reference, design = FITS[key], model_of(key.split(":")[0]).design
    V, _, C = dense(key)
    s2 = reference["estimates"]["sigma"] ** 2
    beta = in_order(design, reference["fixef"])
    loglik = stats.multivariate_normal(design.X @ beta, s2 * V).logpdf(design.y)
    if reference["method"] == "REML":
        loglik += np.linalg.slogdet(2 * np.pi * s2 * C)[1] / 2
    assert loglik == pytest.approx(reference["loglik"], abs=1e-7)
    np.testing.assert_allclose(np.sqrt(s2 * np.diag(C)), in_order(design, reference["fixef_se"]), rtol=1e-7)


@pytest.mark.parametrize("key", [key for key in FITS if FITS[key]["ranef"]])
def test_its_random_effects_are_the_conditional_means(key):
    reference, design = FITS[key], model_of(key.split(":")[0]).design
    V, cross, _ = dense(key)
    b = cross.T @ np.linalg.solve(V, design.y - design.X @ in_order(design, reference["fixef"]))
    at = 0
    for level in design.levels:
        modes = pd.DataFrame(b[at : at + level.q].reshape(level.m, level.r), level.groups, level.effects)
        at += level.q
        for effect, values in reference["ranef"][level.name].items():
            found = modes.loc[list(values), effect]
            np.testing.assert_allclose(found, list(values.values()), atol=1e-6 * (1 + abs(b).max()))


# Our fits are theirs


@pytest.mark.parametrize("key", FITS)
def test_log_likelihood(key):
    assert fit_of(key).loglik == pytest.approx(FITS[key]["loglik"], abs=1e-6)
    assert fit_of(key).status.name == ("singular" if key.startswith("lmer cs negative") else "converged")


@pytest.mark.parametrize("key", FITS)
def test_fixed_effects_and_their_standard_errors(key):
    """The errors of gls by ML are without nlme's factor sqrt(n / (n - p)): sigma is the fit's own."""
    reference, fit = FITS[key], fit_of(key)
    assert set(fit.fixef.index) == set(reference["fixef"])
    for name, se in reference["fixef_se"].items():
        assert abs(fit.fixef[name] - reference["fixef"][name]) <= 1e-4 * se
        assert fit.fixef_se[name] == pytest.approx(se, rel=1e-4)


@pytest.mark.parametrize("key", FITS)
def test_standard_deviations_ratios_and_correlations(key):
    """Correlations to 1e-4 of their range, since some are near zero."""
    expected, found = FITS[key]["estimates"], fit_of(key).estimates()
    assert set(found.index) == set(expected)
    for name, value in expected.items():
        if name.startswith(("corr_", "rho")):
            assert found[name] == pytest.approx(value, abs=1e-4), name
        elif name.startswith("sigma"):
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-9), name
    assert fit_of(key).sigma == found["sigma"]


@pytest.mark.parametrize("key", [key for key in FITS if FITS[key]["ranef"]])
def test_random_effects(key):
    """Those of groups without a row too: the relatives of a known covariance."""
    fit = fit_of(key)
    for level, columns in FITS[key]["ranef"].items():
        for effect, values in columns.items():
            found = fit.ranef[level][effect]
            tolerance = 2e-4 * found.abs().max() + 1e-9
            np.testing.assert_allclose(found.loc[list(values)], list(values.values()), atol=tolerance)


@pytest.mark.parametrize("key", [key for key in FITS if "rho_profile" in FITS[key]])
def test_profile_limits_of_rho(key):
    limits = fit_of(key).confint(method="profile").loc["rho", ["lower", "upper"]]
    np.testing.assert_allclose(list(limits), FITS[key]["rho_profile"], atol=1e-4)


# One model, two descriptions


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", ["balanced", "unbalanced"])
def test_positive_compound_symmetry_is_a_random_intercept(data, method):
    """sigma_cs^2 = sigma_u^2 + sigma^2, and rho is the first one's share."""
    cs, intercept = fit_of(f"gls cs positive {data}:{method}"), fit_of(f"lme cs positive {data}:{method}")
    assert cs.loglik == pytest.approx(intercept.loglik, abs=1e-7)
    sd = intercept.estimates()
    assert cs.sigma**2 == pytest.approx(sd["sigma"] ** 2 + sd["sigma_u2"] ** 2, rel=1e-4)
    assert cs.estimates()["rho"] == pytest.approx(sd["sigma_u2"] ** 2 / cs.sigma**2, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_negative_compound_symmetry_is_none(method):
    """Rows that repel each other: the random intercept stops at an SD of zero, which is rho = 0."""
    cs, intercept = fit_of(f"gls cs negative:{method}"), fit_of(f"lmer cs negative:{method}")
    assert cs.estimates()["rho"] < -0.2
    assert cs.loglik > intercept.loglik + 5
    assert intercept.boundary == ("sigma_u2",)


@pytest.mark.parametrize("method", METHODS)
def test_a_permanent_environment_is_compound_symmetry(method):
    """u3 of the same animals, independent between them, is a correlation of the rows of one animal."""
    pe, cs = fit_of(f"animal permanent:{method}"), fit_of(f"animal cs:{method}")
    assert pe.loglik == pytest.approx(cs.loglik, abs=1e-7)
    assert pe.estimates()["sigma_u2"] == pytest.approx(cs.estimates()["sigma_u2"], rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_known_covariance_and_an_independent_level_of_one_grouping(method):
    K = read_matrix("animals_K")
    both = blm.Hierarchy(
        response="y", fixed="1 + x", levels=(blm.Level(group="animal", covariance=K), blm.Level(group="animal"))
    )
    fit = fitted(blm.LMM(both, read_data("animals_repeated")), method)
    assert fit.loglik == pytest.approx(FITS[f"animal permanent:{method}"]["loglik"], abs=1e-6)
    formula = blm.LMM("y ~ x + (1 | animal) + (1 | animal)", read_data("animals_repeated"), covariance={"u2": K})
    assert fitted(formula, method).loglik == fit.loglik


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_a_covariances_labels_means_nothing(method):
    reference = FITS[f"animal:{method}"]
    K = read_matrix("animals_K")
    K = K.loc[sorted(K.index), sorted(K.index)]
    fit = fitted(blm.LMM(reference["formula"], read_data("animals"), covariance={"animal": K}), method)
    assert fit.loglik == pytest.approx(reference["loglik"], abs=1e-6)
    np.testing.assert_allclose(
        fit.ranef["u2"]["Intercept"].sort_index(), fit_of(f"animal:{method}").ranef["u2"]["Intercept"].sort_index(),
        atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [0.01, 4.0])
def test_the_scale_of_a_covariance_goes_into_the_standard_deviation(scale, method):
    """Of K only the shape counts, unless the level is entirely known."""
    reference = FITS[f"animal:{method}"]
    K = scale * read_matrix("animals_K")
    fit = fitted(blm.LMM(reference["formula"], read_data("animals"), covariance={"animal": K}), method)
    assert fit.loglik == pytest.approx(reference["loglik"], abs=1e-6)
    expected = reference["estimates"]["sigma_u2"] / np.sqrt(scale)
    assert fit.estimates()["sigma_u2"] == pytest.approx(expected, rel=1e-4)


# Times


@pytest.mark.parametrize("method", METHODS)
def test_times_without_gaps_are_the_order_of_rows(method):
    """Shuffled rows with their times give what sorted rows give without."""
    reference = FITS[f"gls strata ar1:{method}"]
    shuffled = read_data("orthodont").sample(frac=1, random_state=5)
    residual = blm.Residual(structure="ar1", group="Subject", by="Sex", time="visit")
    fit = fitted(blm.LMM(reference["formula"], shuffled, residual=residual), method)
    assert fit.loglik == pytest.approx(reference["loglik"], abs=1e-6)
    assert fit.estimates()["rho"] == pytest.approx(reference["estimates"]["rho"], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_rho_belongs_to_a_step_whatever_the_unit_of_time(method):
    """Ages are two years apart: a step is two years, and rho is that of a visit."""
    reference = FITS[f"gls ar1 gaps:{method}"]
    residual = blm.Residual(structure="ar1", group="Subject", time="age")
    fit = fitted(blm.LMM(reference["formula"], read_data("orthodont_gaps"), residual=residual), method)
    assert fit.loglik == pytest.approx(reference["loglik"], abs=1e-6)
    assert fit.estimates()["rho"] == pytest.approx(reference["estimates"]["rho"], abs=1e-4)
