"""The PyMC models with known covariances and structured residuals: their densities are the dense ones.

PyTensor runs here without compiling, so that every kind of combination can be tried; NUTS and the compiled Op have
their own tests.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from graphs import log_densities, slopes
from pytensor.compile.mode import Mode
from scipy import stats
from structured import CASES, dense_K, dense_R, dense_V

from bayeslmm.distributions.densities import lkj_logpdf

CHOSEN = [
    case
    for case in CASES
    if case.name
    in (
        "slopes / ar1 and strata",
        "none / cs",
        "kinship with relatives / iid",
        "kinship and crossed slopes / ar1",
        "two kinships, slopes / iid",
    )
]
each = pytest.mark.parametrize("case", CHOSEN, ids=lambda case: case.name)

# without the constant in single precision that PyMC's HalfStudentT has
PRIORS = {"sigma": "HalfNormal(sigma=2)", "beta": "Normal(mu=0.5, sigma=2)"}


def priors_of(lmm) -> dict:
    return PRIORS | {f"sigma_{level.name}": "Exponential(lam=0.7)" for level in lmm.design.levels}


def evaluated(model, outputs, seed: int = 1):
    """Values of the outputs at a random point of the unconstrained space."""
    rng = np.random.default_rng(seed)
    shapes = model.eval_rv_shapes()
    point = {v.name: np.asarray(rng.normal(0, 0.4, shapes[v.name])) for v in model.value_vars}
    run = model.compile_fn(outputs, inputs=model.value_vars, on_unused_input="ignore", mode="FAST_COMPILE")
    return run(point), point, run


def log_prior(lmm, values) -> float:
    priors = lmm.priors
    total = sum(prior.logpdf(b) for prior, b in zip(priors.beta, values["beta"], strict=True))
    total += priors.sigma.logpdf(values["sigma"])
    for level, sds, corr in zip(lmm.design.levels, priors.sd, priors.corr, strict=True):
        total += sum(p.logpdf(s) for p, s in zip(sds, np.atleast_1d(values[f"sigma_{level.name}"]), strict=True))
        if corr is not None:
            L = values[f"corr_{level.name}_factor"]
            # PyMC's density is that of the factor's canonical partial correlations, of matrices once transformed
            total += lkj_logpdf(L @ L.T, corr.params["eta"])
    own = [values[name] for name in ("rho", "sigma_ratio") if name in values]
    psi = np.concatenate([np.atleast_1d(x) for x in own]) if own else []
    return float(total + sum(prior.logpdf(x) for prior, x in zip(priors.residual, psi, strict=True)))


def names_of(lmm, model) -> list[str]:
    names = ["beta", "sigma", *dict.fromkeys(p.name for p in lmm.design.residual.parameters)]
    for level in lmm.design.levels:
        names += [f"sigma_{level.name}"] + ([f"corr_{level.name}_factor"] if level.correlated else [])
        names += [level.name] if level.name in model.named_vars else []
    return names


def lambdas_of(lmm, values) -> list[np.ndarray]:
    out = []
    for level in lmm.design.levels:
        sd = np.atleast_1d(values[f"sigma_{level.name}"]) / values["sigma"]
        out.append(sd[:, None] * values.get(f"corr_{level.name}_factor", np.eye(level.r)))
    return out


def psi_of(values) -> np.ndarray:
    return np.concatenate([np.atleast_1d(values[name]) for name in ("rho", "sigma_ratio") if name in values] or [[]])


@each
def test_the_marginal_is_the_dense_normal(case):
    lmm = case.lmm(priors=None)
    lmm = case.lmm(priors=priors_of(lmm))
    design, model = lmm.design, lmm.marginal()
    names = names_of(lmm, model)
    variables = model.replace_rvs_by_values([model[name] for name in names])
    whole, of_y = log_densities(model)
    outputs = [*variables, of_y, whole, slopes(whole, model)]
    found, point, run = evaluated(model, outputs)
    values = dict(zip(names, found, strict=False))
    V = values["sigma"] ** 2 * dense_V(design, lambdas_of(lmm, values), psi_of(values))
    expected = stats.multivariate_normal(design.X @ values["beta"], V).logpdf(design.y)
    assert float(found[-3]) == pytest.approx(expected, rel=1e-9)
    gradient, at, step = found[-1], 0, 1e-5
    for v in model.value_vars:
        for k in range(point[v.name].size):
            moved = []
            for sign in (1, -1):
                other = {name: x.copy() for name, x in point.items()}
                other[v.name].reshape(-1)[k] += sign * step
                moved.append(float(run(other)[-2]))
            assert gradient[at] == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-5)
            at += 1


@each
@pytest.mark.parametrize("centered", [False, True], ids=["non-centred", "centred"])
def test_the_joint_is_its_factors_product(case, centered):
    """log p(y, u, parameters) = log p(y | u) + log p(u) + log prior."""
    lmm = case.lmm(priors=None)
    lmm = case.lmm(priors=priors_of(lmm))
    design, model = lmm.design, lmm.joint(centered=centered)
    names = names_of(lmm, model)
    variables = model.replace_rvs_by_values([model[name] for name in names])
    found, *_ = evaluated(model, [*variables, *log_densities(model, jacobian=False)])
    values = dict(zip(names, found, strict=False))
    sigma2, psi = values["sigma"] ** 2, psi_of(values)
    mean = design.X @ values["beta"]
    log_u = 0.0
    for level, lam in zip(design.levels, lambdas_of(lmm, values), strict=True):
        u = values[level.name].reshape(level.m, level.r)
        mean = mean + (u[level.index] * level.columns).sum(axis=1)
        G = sigma2 * np.kron(dense_K(level), lam @ lam.T)
        log_u += stats.multivariate_normal(np.zeros(level.q), G).logpdf(u.ravel())
        if not centered:  # the density of z, not of u
            log_u += 0.5 * np.linalg.slogdet(G)[1]
    log_y = stats.multivariate_normal(mean, sigma2 * dense_R(design, psi)).logpdf(design.y)
    assert float(found[-1]) == pytest.approx(log_y, rel=1e-9)
    assert float(found[-2]) == pytest.approx(log_y + log_u + log_prior(lmm, values), rel=1e-6)


@pytest.mark.parametrize("variant", ["joint", "marginal"])
@pytest.mark.parametrize(
    "name",
    [
        "slopes / ar1 and strata",
        "slopes / car1 and strata",
        "kinship and crossed slopes / cs across levels",
        "none / known",
    ],
)
def test_prior_draws_of_y_have_the_models_covariance(name, variant):
    """Parameters held; y's covariance over 4,000 draws, each entry within five of its standard errors."""
    case = next(case for case in CASES if case.name == name)
    lmm = case.lmm(priors=priors_of(case.lmm()))
    model = lmm.joint() if variant == "joint" else lmm.marginal()
    held = {"beta": np.array([1.0, 0.5]), "sigma": np.array(0.8)}
    for level in lmm.design.levels:
        held[f"sigma_{level.name}"] = np.array(0.6) if level.r == 1 else np.array([0.6, 0.4])
        if level.correlated:
            held[f"corr_{level.name}_factor"] = np.array([[1.0, 0.0], [0.6, 0.8]])
    for parameter in lmm.design.residual.parameters:
        held[parameter.name] = np.array(0.3) if parameter.name == "rho" else np.array([1.7])
    fixed = pm.do(model, held)
    folded = Mode(linker="vm", optimizer="fast_run")  # what is held is worked out once, and nothing compiled
    y = pm.draw(fixed["y"], draws=4000, random_seed=1, mode=folded)
    V = held["sigma"] ** 2 * dense_V(lmm.design, lambdas_of(lmm, held), psi_of(held))
    error = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / len(y))
    assert (np.abs(np.cov(y.T) - V) < 5 * error).all()
    np.testing.assert_array_less(np.abs(y.mean(axis=0) - lmm.design.X @ held["beta"]), 5 * np.sqrt(np.diag(V) / len(y)))
