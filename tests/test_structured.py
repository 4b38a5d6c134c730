"""Known covariances and structured residuals: every accepted combination against its dense definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag
from structured import CASES, DATA, KG, KGX, Structured, dense_K, dense_R, dense_V

import bayeslmm as blm
from bayeslmm.factorisation.factor import draw_many
from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.likelihood.fit import _lower
from bayeslmm.posterior.collapsed import collapsed_posterior

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_third = pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)  # what is dear


def point(lmm, seed: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """Relative factors and residual parameters somewhere inside."""
    rng = np.random.default_rng(seed)
    lambdas = []
    for level in lmm.design.levels:
        lam = np.tril(rng.normal(0, 0.5, (level.r, level.r))) + 0.8 * np.eye(level.r)
        lambdas.append(np.eye(1) if level.known else lam if level.correlated else np.diag(np.diag(lam)))
    residual = lmm.design.residual
    return lambdas, residual.natural(rng.normal(0, 0.7, len(residual.parameters)))


def dense_criterion(lmm, lambdas, psi, reml: bool) -> float:
    design = lmm.design
    V, X, y = dense_V(design, lambdas, psi), design.X, design.y
    d = design.n - (design.p if reml else 0)
    Vinv = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ Vinv @ X, X.T @ Vinv @ y)
    rss = (y - X @ beta) @ Vinv @ (y - X @ beta)
    value = np.linalg.slogdet(V)[1] + d * (np.log(2 * np.pi * rss / d) + 1)
    return value + (np.linalg.slogdet(X.T @ Vinv @ X)[1] if reml else 0.0)


def entries(criterion: Criterion, lambdas, psi) -> np.ndarray:
    """The criterion's phi for given factors."""
    lower = [_lower(M @ lam) for M, lam in zip(criterion.stats.maps, lambdas, strict=True)]
    uncorrelated = [not level.correlated for level in criterion.stats.design.levels]
    raw = [M @ lam for M, lam in zip(criterion.stats.maps, lambdas, strict=True)]
    kept = [a if alone else b for a, b, alone in zip(raw, lower, uncorrelated, strict=True)]
    theta = [np.zeros(0)]
    for chart, factor in zip(criterion.charts, kept, strict=True):
        flat = factor.ravel() - chart.constant
        theta.append(np.linalg.lstsq(chart.matrix, flat, rcond=None)[0] if chart.size else np.zeros(0))
    theta = np.concatenate(theta)
    return np.concatenate([theta, criterion.stats.design.residual.free(np.asarray(psi))])


@every_third
@pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
def test_the_criterion_is_the_dense_one(case, reml):
    lmm = case.lmm()
    criterion = Criterion(stats=lmm.statistics, reml=reml)
    for seed in range(3):
        lambdas, psi = point(lmm, seed)
        value = criterion.at(entries(criterion, lambdas, psi))
        assert value == pytest.approx(dense_criterion(lmm, lambdas, psi, reml), rel=1e-10)


@each
def test_its_gradient_is_that_of_finite_differences(case):
    lmm = case.lmm()
    criterion = Criterion(stats=lmm.statistics, reml=True)
    phi = entries(criterion, *point(lmm))
    gradient = criterion.value_and_gradient(phi)[1]
    step = 1e-5
    for k in range(phi.size):
        move = step * np.eye(phi.size)[k]
        slope = (criterion.at(phi + move) - criterion.at(phi - move)) / (2 * step)
        assert gradient[k] == pytest.approx(slope, rel=1e-6, abs=1e-6)


@every_third
def test_modes_and_their_variances_are_those_of_dense_conditioning(case):
    lmm = case.lmm()
    design = lmm.design
    fit = lmm.ml()
    V = fit.sigma**2 * dense_V(design, fit.lambdas, fit.psi)
    e = design.y - design.X @ fit.beta
    at = 0
    for level, lam in zip(design.levels, fit.lambdas, strict=True):
        G = fit.sigma**2 * np.kron(dense_K(level), lam @ lam.T)
        C = G @ level.Z.toarray().T
        modes = C @ np.linalg.solve(V, e)
        np.testing.assert_allclose(fit.modes[at : at + level.q], modes, atol=1e-8)
        cov = G - C @ np.linalg.solve(V, C.T)
        frame = fit.ranef[level.name]
        sds = np.sqrt(np.diag(cov).clip(0)).reshape(level.m, level.r)
        found = frame[[f"{effect}_sd" for effect in level.effects]].to_numpy()
        np.testing.assert_allclose(found, sds, rtol=1e-6, atol=1e-7)
        at += level.q
    X = design.X
    np.testing.assert_allclose(fit.beta_cov, np.linalg.inv(X.T @ np.linalg.solve(V, X)), rtol=1e-7)


@every_third
def test_the_search_ends_at_a_maximum(case):
    for fit in (case.lmm().ml(), case.lmm().reml()):
        assert fit.status.name in ("converged", "singular", "flat"), fit.status
        # A random intercept and compound symmetry within the same groups are one model written twice.
        twice = case.levels == "crossed" and case.residual == "cs across levels"
        assert (fit.status.name == "flat") >= twice


@each
def test_R_is_its_definition(case):
    design = case.lmm().design
    _, psi = point(case.lmm())
    np.testing.assert_allclose(design.residual.R(psi).toarray(), dense_R(design, psi), atol=1e-12)


def dense_log_posterior(lmm, phi) -> float:
    """log p(y, variance parameters), beta and u integrated out, from the definitions."""
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    coordinates, design = posterior.coordinates, lmm.design
    sigma = np.exp(phi[0])
    V = sigma**2 * dense_V(design, coordinates.relative_factors(phi), coordinates.psi(phi))
    mean = np.array([prior.gaussian[0] for prior in lmm.priors.beta])
    S0 = np.diag([1 / prior.gaussian[1] for prior in lmm.priors.beta])
    X = design.X @ lmm.priors.beta_map  # columns of the coefficients whose priors are stated
    V = V + X @ S0 @ X.T
    e = design.y - X @ mean
    return -0.5 * (design.n * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + e @ np.linalg.solve(V, e))


@each
def test_the_collapsed_density_is_the_dense_one(case):
    lmm = case.lmm()
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    x = np.random.default_rng(2).normal(-0.3, 0.5, (4, posterior.coordinates.size))
    values = posterior.evaluate(x)[0]
    for one, value in zip(x, values, strict=True):
        prior = float(posterior.log_prior(one))
        assert value == pytest.approx(dense_log_posterior(lmm, one) + prior, rel=1e-9)
        again, gradient = posterior.value_and_gradient(one)
        assert again == pytest.approx(value, rel=1e-10)
    step = 1e-5
    for k in range(one.size):
        move = step * np.eye(one.size)[k]
        up, down = (posterior.evaluate((one + s)[None])[0][0] for s in (move, -move))
        assert gradient[k] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case.levels != "none"], ids=lambda case: case.name)
def test_drawn_effects_have_the_conditional_mean_and_covariance(case):
    """A draw is linear in its standard normals: its matrix is found column by column."""
    lmm = case.lmm()
    design, stats = lmm.design, lmm.statistics
    posterior = collapsed_posterior(stats, lmm.priors)
    phi = np.random.default_rng(3).normal(-0.3, 0.5, posterior.coordinates.size)
    sigma, q = np.exp(phi[0]), design.q
    beta = np.array([1.0, 0.3])
    many = np.tile(phi, (q + 1, 1))
    b = draw_many(
        stats, posterior.kernel_lambdas(many), posterior.v(np.tile(beta, (q + 1, 1))), np.full(q + 1, sigma),
        np.vstack([np.zeros(q), np.eye(q)]), posterior.coefficients(many),
    )  # fmt: skip
    u = np.concatenate([x.reshape(q + 1, -1) for x in stats.effects(b)], axis=1)
    lambdas = posterior.coordinates.relative_factors(phi)
    G = sigma**2 * block_diag(
        *[np.kron(dense_K(level), lam @ lam.T) for level, lam in zip(design.levels, lambdas, strict=True)]
    )
    V = sigma**2 * dense_V(design, lambdas, posterior.coordinates.psi(phi))
    C = G @ design.Z.toarray().T
    np.testing.assert_allclose(u[0], C @ np.linalg.solve(V, design.y - design.X @ beta), atol=1e-9)
    A = (u[1:] - u[0]).T
    np.testing.assert_allclose(A @ A.T, G - C @ np.linalg.solve(V, C.T), atol=1e-9)


@every_third
def test_the_labelled_matrices_are_the_dense_ones(case):
    lmm = case.lmm()
    fit = lmm.reml()
    V = lmm.V(fit.theta, fit.psi).toarray()
    np.testing.assert_allclose(V, dense_V(lmm.design, fit.lambdas, fit.psi), atol=1e-9)
    Lambda = lmm.Lambda(fit.theta).toarray()
    np.testing.assert_allclose(Lambda @ Lambda.T, lmm.G(fit.theta).toarray(), atol=1e-12)


def test_an_entirely_known_level_has_nothing_to_estimate():
    """u ~ N(0, sigma^2 K): sigma and beta alone, by generalised least squares on Z K Z' + R."""
    level = blm.Level(group="g", covariance=KGX, known=True)
    lmm = blm.LMM(blm.Hierarchy(response="y", fixed="x", levels=(level, blm.Level(group="h"))), DATA)
    fit = lmm.ml()
    assert list(fit.theta.index) == ["h.Intercept"]
    assert "sigma_u2" not in fit.estimates()
    assert fit.npar == 4
    V = dense_V(lmm.design, fit.lambdas, ())
    X, y = lmm.design.X, lmm.design.y
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    np.testing.assert_allclose(fit.fixef, beta, rtol=1e-8)
    assert fit.sigma**2 == pytest.approx((y - X @ beta) @ np.linalg.solve(V, y - X @ beta) / len(y), rel=1e-8)
    np.testing.assert_allclose(lmm.V(fit.theta).toarray(), V, atol=1e-10)
    tree = lmm.sample(draws=50, chains=2, random_seed=1, progress=False)
    assert "sigma_u2" not in tree["posterior"]
    assert tree["posterior"]["u2"].shape == (2, 50, 8)  # five groups with rows, three relatives


def test_matrices_of_a_wrong_psi_are_refused():
    with pytest.raises(blm.DescriptionError, match="psi has 0 entries"):
        Structured(levels="slopes", residual="ar1").lmm().R()
    with pytest.raises(blm.DescriptionError, match="leave it out"):
        Structured(levels="slopes", residual="iid").lmm().R([0.3])


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ("abc", "theta is 'abc'; expected 3 numbers"),
        (["a", "b"], "theta is .*; expected 3 numbers"),
        ({}, "theta is {}; expected 3 numbers"),
        (None, "has nan|expected 3 numbers|has 1 entries"),
        ([1.0], r"theta has 1 entries; this model has 3: g\.Intercept, g\.x\.Intercept, g\.x\. Pass fit\.theta"),
        ([1.0, np.nan, 1.0], r"theta has nan for g\.x\.Intercept; expected finite numbers"),
        ([1.0, 0.0, np.inf], r"theta has inf for g\.x; expected finite numbers"),
    ],
)
def test_matrices_of_a_wrong_theta_are_refused(theta, message):
    lmm = blm.LMM("y ~ x + (1 + x | g)", DATA)
    for make in (lmm.Lambda, lmm.G, lmm.V):
        with pytest.raises(blm.DescriptionError, match=message):
            make(theta)


@pytest.mark.parametrize("psi", ["a", {}, [np.nan], [0.1, 0.2]])
def test_what_is_no_psi_is_refused(psi):
    lmm = Structured(levels="slopes", residual="ar1").lmm()
    with pytest.raises(blm.DescriptionError, match=r"psi (is|has) .* expected|psi has 2 entries; .*1: rho.*fit\.psi"):
        lmm.R(psi)


def test_an_effect_of_relatives_beside_an_independent_one():
    """Animal and permanent environment: the same grouping twice, once with relatives without rows."""
    levels = (blm.Level(group="g"), blm.Level(group="g", covariance=KGX))
    lmm = blm.LMM(blm.Hierarchy(response="y", fixed="x", levels=levels), DATA)
    tree = lmm.sample(draws=50, chains=2, random_seed=1, progress=False)
    assert dict(tree["posterior"].sizes) | {"g": 5, "g_u3": 8} == dict(tree["posterior"].sizes)
    fit = lmm.reml()
    np.testing.assert_allclose(lmm.V(fit.theta).toarray(), dense_V(lmm.design, fit.lambdas, ()), atol=1e-10)


@pytest.mark.parametrize("factor", [7, 3600, 86400])
def test_the_unit_of_time_does_not_matter(factor):
    """Times in seconds, a day apart: rho belongs to a step, so the fit and its rho are the same."""
    residual = blm.Residual(structure="ar1", group="g", time="t")
    plain = blm.LMM("y ~ x", DATA, residual=residual).ml()
    scaled = blm.LMM("y ~ x", DATA.assign(t=5 + factor * DATA.t), residual=residual).ml()
    assert scaled.loglik == pytest.approx(plain.loglik, abs=1e-9)
    np.testing.assert_allclose(scaled.psi, plain.psi, atol=1e-7)


def test_the_prior_of_an_SD_is_that_of_an_average_group():
    """K and 100 K are one model: sigma_u2 and its default prior are ten times smaller."""
    one, other = (blm.LMM("y ~ x + (1 | g)", DATA, covariance={"g": K}) for K in (KG, 100 * KG))
    widths = [lmm.priors.sd[0][0].params["sigma"] for lmm in (one, other)]
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("factor", [1e-12, 1e-4, 1e4, 1e12])
def test_the_unit_of_weights_means_nothing(factor):
    """Variances are sigma^2 / w: with other units of w, sigma has other units and all else stays."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(8), 5)
    data = pd.DataFrame({"x": rng.normal(size=40), "g": g, "w": rng.uniform(1, 3, 40)})
    data["y"] = rng.normal(size=40) + 5 * rng.normal(size=8)[g] + data.x * rng.normal(size=8)[g]
    one, other = (
        blm.LMM("y ~ x + (x | g)", data.assign(w=data.w * c), residual=blm.Residual(weights="w")).ml()
        for c in (1.0, factor)
    )
    assert (other.status.name, other.boundary) == (one.status.name, one.boundary)
    assert other.loglik == pytest.approx(one.loglik, abs=1e-8)
    assert other.sigma == pytest.approx(one.sigma * factor**0.5, rel=1e-5)
    np.testing.assert_allclose(other.fixef, one.fixef, rtol=1e-4)
    np.testing.assert_allclose(other.varcorr["sd_or_corr"][:3], one.varcorr["sd_or_corr"][:3], rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-12, 1e-4, 1e4, 1e12])
def test_the_unit_of_a_known_covariance_means_nothing(factor):
    rng = np.random.default_rng(4)
    labels = [f"s{k}" for k in range(12)]
    root = rng.normal(size=(12, 12))
    K = pd.DataFrame(root @ root.T + np.eye(12), index=labels, columns=labels)
    data = pd.DataFrame({"y": rng.normal(size=36) + np.repeat(0.3 * root @ rng.normal(size=12), 3)})
    data["s"] = np.repeat(labels, 3)
    one, other = (blm.LMM("y ~ 1 + (1 | s)", data, covariance={"s": K * c}).ml() for c in (1.0, factor))
    assert other.status.name == one.status.name == "converged"
    assert other.loglik == pytest.approx(one.loglik, abs=1e-8)
    np.testing.assert_allclose(other.b, one.b, rtol=1e-4, atol=1e-6)
