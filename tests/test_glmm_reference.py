"""Every fit of R's that this package has a family for: log-likelihood, coefficients, SDs; and converged quadratures."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from bayeslmm.integration.objective import Objective
from bayeslmm.integration.quadrature import Quadrature
from tests.glmm_reference import distances, expressed, fitted, model, reference

# glmer's Laplace value lags a step of its inner search, and its optimiser stops at 1e-4 of an SE or so; so does clmm's
LOOSE = {"lme4": 4e-4, "ordinal": 4e-4, "glmmTMB": 1e-5}
SLOW = ("verbagg", "verbagg_clmm")  # the same as verbagg_tmb; `python -m tests.benchmarks.glmm` has them


@pytest.mark.parametrize("name", [name for name in expressed() if name not in SLOW])
def test_ml_equals_Rs(name):
    r = reference()["fits"][name]
    glmm = model(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Separation")
        fit = fitted(name, glmm)
    loglik, beta, sds = distances(name, glmm, fit)
    loose = LOOSE[r["package"]] if r["nAGQ"] == 1 else 1e-6
    # where ours is higher theirs had not arrived
    assert -1e-5 < loglik < loose, loglik
    assert beta < 1e-3
    assert sds < 2e-3


@pytest.mark.parametrize("name", [name for name in reference()["truth"] if name != "guImmun_laplace"])
def test_quadrature_equals_the_converged_one_at_Rs_estimates(name):
    """To what theirs are printed to: coefficients of 13 digits."""
    one = reference()["truth"][name]
    r, glmm = reference()["fits"][one["at"]], model(one["at"])
    problem = glmm.problem
    x = np.zeros(problem.size)
    x[: glmm.design.p] = np.linalg.solve(problem.rows.back, list(r["fixef"].values())) / problem.unit
    (theirs,) = r["varcorr"].values()
    x[problem.places[0]] = theirs["sd"] / problem.unit
    for nodes in (9, 25, 100):
        found = Objective(problem, Quadrature(nodes=nodes)).point(x).value
        assert found == pytest.approx(one[f"agq{nodes}"], abs=1e-6)
    assert Objective(problem).point(x).value == pytest.approx(one["laplace"], abs=1e-6)
