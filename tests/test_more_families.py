"""NB1 and beta: ML against glmmTMB, gradients, the joint model in PyMC, the families that they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as blm
from bayeslmm.integration.objective import Objective
from bayeslmm.integration.quadrature import Quadrature

DATA = Path(__file__).parents[1] / "models" / "data"
EPIL = "y ~ lbase * trt + lage + Visit + (1 | subject)"
WINE = "share ~ temp + contact + (1 | judge)"


def epil() -> pd.DataFrame:
    return pd.read_csv(DATA / "epil.csv", dtype={"subject": str})


def wine() -> pd.DataFrame:
    return pd.read_csv(DATA / "wine.csv", dtype={"judge": str}).assign(share=lambda d: d["response"] / 100)


def model(name: str) -> blm.GLMM:
    if name == "NB1":
        return blm.GLMM(EPIL, epil(), family="nbinom1")
    return blm.GLMM(WINE, wine(), family="beta")


# glmmTMB 1.1.5, family nbinom1 and beta_family: log-likelihood, fixed effects, their errors, SD, sigma()
GLMMTMB = {
    "NB1": (
        -634.118484815574,
        [1.824630272657, 0.8494726441687, -0.3031490525968, 0.5473711382738, -0.2757422665145, 0.3540198384639],
        [0.1021045948739, 0.1257252336611, 0.1441488402979, 0.3345777234713, 0.1480716449922, 0.1952565038649],
        0.4305508302245,
        1.196954402357,
    ),
    "beta": (
        43.706172105557,
        [-0.8872881259519, 0.9802324620797, 0.5768207335724],
        [0.1615530042589, 0.1283919630105, 0.12769587714],
        0.3384955030417,
        13.925501320242,
    ),
}


@pytest.mark.parametrize("name", GLMMTMB)
def test_laplace_ml_equals_glmmTMBs(name):
    """Log-likelihoods to 1e-5, estimates to 1e-3 of their errors: the issue's tolerances."""
    loglik, beta, se, sd, dispersion = GLMMTMB[name]
    fit = model(name).ml("laplace")
    assert fit.peak.converged
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)
    beta_by_name = fit.fixef.to_numpy()
    assert beta_by_name == pytest.approx(beta, abs=1e-3 * min(se))
    assert fit.fixef_se.to_numpy() == pytest.approx(se, rel=1e-3)
    assert fit.sds[0][0] == pytest.approx(sd, rel=1e-3)
    assert fit.dispersion.to_numpy() == pytest.approx([dispersion], rel=1e-3)
    by_quadrature = model(name).ml()
    assert by_quadrature.approximation == "quadrature"
    assert abs(by_quadrature.approximation_error.value) < 0.5


@pytest.mark.parametrize("name", GLMMTMB)
def test_gradients_are_those_of_laplace_and_of_the_rule(name):
    """Central differences of a step of 1e-5 have six digits."""
    problem = model(name).problem
    rng = np.random.default_rng(1)
    x = 0.3 * rng.normal(size=problem.size)
    x[problem.sds] = 0.6
    for integral in (None, Quadrature(nodes=7)):
        objective = Objective(problem, integral) if integral else Objective(problem)
        numeric = np.empty_like(x)
        for k in range(len(x)):
            e = np.zeros_like(x)
            e[k] = 1e-5
            numeric[k] = (objective(x + e)[0] - objective(x - e)[0]) / 2e-5
        assert objective(x)[1] == pytest.approx(numeric, abs=2e-6 * (1 + np.abs(numeric).max()))


def test_counts_without_overdispersion_are_poissons():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 5)
    data = {"g": g, "y": np.round(np.exp(2 + 0.5 * rng.normal(size=40)[g])).astype(int)}
    fit = blm.GLMM("y ~ 1 + (1 | g)", data, family="nbinom1").ml("laplace")
    assert fit.boundary == ("alpha",)
    poisson = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml("laplace")
    assert fit.loglik == pytest.approx(poisson.loglik, abs=1e-3)


def test_large_counts_and_small_shares_keep_their_digits():
    """At the mean, against SciPy's density of the same law."""
    y = np.array([1e6, 3e6])
    family, eta, alpha = blm.NegativeBinomial1(), np.log(np.array([1.1e6, 2.9e6])), 50.0
    outcome = blm.GLMM("y ~ 1 + (1 | g)", {"y": np.repeat(y, 2), "g": list("abab")}, family=family).outcome.part(
        np.array([0, 2])
    )
    k = np.exp(eta) / alpha
    want = stats.nbinom(k, 1 / (1 + alpha)).logpmf(y)
    assert family.logpdf(outcome, eta, np.array([np.log(alpha)])) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("name", GLMMTMB)
def test_the_joint_model_has_the_familys_density_and_its_draws_are_outcomes(name):
    import pymc as pm
    import pytensor

    glmm = model(name)
    joint = glmm.joint()
    (label,) = glmm.family.dispersion_labels(glmm.outcome)
    point = joint.initial_point()
    outputs = [*joint.replace_rvs_by_values([joint["eta"], joint[label]]), *joint.logp(vars=[joint["y"]], sum=False)]
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        eta, own, logp = pytensor.function(joint.value_vars, outputs)(*(point[v.name] for v in joint.value_vars))
    assert logp == pytest.approx(glmm.family.logpdf(glmm.outcome, eta, np.log([own])), rel=1e-10, abs=1e-10)
    with joint:
        y = pm.sample_prior_predictive(30, random_seed=1)["prior_predictive"]["y"].values[0]
    if name == "NB1":
        assert (y >= 0).all()
        assert (y == np.round(y)).all()
    else:
        assert ((y > 0) & (y < 1)).all()
