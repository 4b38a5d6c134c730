"""The collapsed sampler is exact: its moments are those of the posterior integrated on a grid."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import skew as skewness

import bayeslmm as blm
from bayeslmm.covariances.effects.unstructured import corr_cholesky
from bayeslmm.errors import DescriptionError, SamplingError
from bayeslmm.factorisation import factor
from bayeslmm.posterior import collapsed_sampler, independence
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.nuts import Nuts
from bayeslmm.posterior.proposal import proposal_at
from bayeslmm.posterior.sampler import Run
from bayeslmm.posterior.tree import posterior_tree
from bayeslmm.support.progress import Progress

MODELS = "models/data/"


def mcse(draws):
    """Monte Carlo error of the mean of (chain, draw) draws, from ArviZ."""
    import arviz_stats

    return float(arviz_stats.mcse(xr.Dataset({"x": (("chain", "draw"), draws)}))["x"])


def grid_posterior(lmm, sigmas, sds, log_extra=None):
    """Weights of (sigma, sigma_u2) on a grid by the dense formulas, beta integrated under its Gaussian prior."""
    X, y, Z = lmm.design.X, lmm.design.y, lmm.design.Z.toarray()
    priors = lmm.priors
    mean = np.array([p.gaussian[0] for p in priors.beta])
    cov = np.diag([1 / p.gaussian[1] for p in priors.beta])
    logp = np.empty((sigmas.size, sds.size))
    between = sds[:, None, None] ** 2 * (Z @ Z.T) + X @ cov @ X.T
    for i, sigma in enumerate(sigmas):
        L = np.linalg.cholesky(sigma**2 * np.eye(y.size) + between)
        r = np.linalg.solve(L, (y - X @ mean)[:, None])[..., 0]
        logp[i] = -np.log(np.einsum("jii->ji", L)).sum(axis=1) - 0.5 * (r**2).sum(axis=1)
    logp += priors.sigma.logpdf(sigmas)[:, None] + priors.sd[0][0].logpdf(sds)[None, :]
    w = np.exp(logp - logp.max())
    return w / w.sum()


@pytest.fixture(scope="module")
def dyestuff2():
    """Batches whose ML variance is zero: the posterior piles up at the boundary, where samplers go wrong."""
    return blm.LMM("Yield ~ 1 + (1 | Batch)", pd.read_csv(MODELS + "dyestuff2.csv"))


def test_moments_are_those_of_the_posterior_on_a_grid(dyestuff2):
    sigmas, sds = np.linspace(2.0, 8.0, 161), (np.arange(400) + 0.5) * 0.025
    w = grid_posterior(dyestuff2, sigmas, sds)
    tree = dyestuff2.sample(draws=4000, random_seed=1, progress=False)
    assert tree.attrs["sampler"] == "collapsed"
    for name, axis, grid in (("sigma", 0, sigmas), ("sigma_u2", 1, sds)):
        draws = tree["posterior"][name].to_numpy()
        marginal = w.sum(axis=1 - axis)
        exact = marginal @ grid
        # 4 Monte Carlo errors: one in 16,000 runs fails by chance, and the run is seeded
        assert abs(draws.mean() - exact) < 4 * mcse(draws)
        assert abs((draws**2).mean() - marginal @ grid**2) < 4 * mcse(draws**2)
        below = grid[np.searchsorted(np.cumsum(marginal), 0.1)]
        assert abs((draws < below).mean() - marginal[grid < below].sum()) < 4 * mcse((draws < below).astype(float))


def test_coefficients_with_other_priors_are_weighted_not_ignored(dyestuff2):
    """A Laplace prior far from the data's mean pulls beta exactly as far as the density says."""
    lmm = blm.LMM(
        "Yield ~ 1 + (1 | Batch)",
        pd.read_csv(MODELS + "dyestuff2.csv"),
        priors={
            "Intercept": "Laplace(mu=4, b=0.5)",
            "sigma": "HalfNormal(sigma=5)",
            "sigma_u2": "HalfNormal(sigma=2)",
        },
    )
    tree = lmm.sample(draws=4000, random_seed=2, progress=False)
    assert tree.attrs["sampler"] == "collapsed"
    y, Z = lmm.design.y, lmm.design.Z.toarray()
    betas, sigmas, sds = np.linspace(1, 9, 81), np.linspace(2.2, 7, 33), (np.arange(40) + 0.5) * 0.2
    logp = np.empty((betas.size, sigmas.size, sds.size))
    for j, sigma in enumerate(sigmas):
        for k, sd in enumerate(sds):
            L = np.linalg.cholesky(sigma**2 * np.eye(y.size) + sd**2 * Z @ Z.T)
            r = np.linalg.solve(L, y[:, None] - betas[None, :])
            logp[:, j, k] = -np.log(np.diag(L)).sum() - 0.5 * (r**2).sum(axis=0)
    logp += lmm.priors.beta[0].logpdf(betas)[:, None, None]
    logp += lmm.priors.sigma.logpdf(sigmas)[None, :, None] + lmm.priors.sd[0][0].logpdf(sds)[None, None, :]
    w = np.exp(logp - logp.max())
    w /= w.sum()
    draws = tree["posterior"]["beta"].to_numpy()[..., 0]
    assert abs(draws.mean() - (w.sum(axis=(1, 2)) @ betas)) < 4 * mcse(draws)


def test_random_effects_come_from_their_conditional(dyestuff2):
    """E[u | y] over the posterior is the average of the conditional modes, for every group."""
    tree = dyestuff2.sample(draws=2000, random_seed=3, progress=False)
    posterior = tree["posterior"]
    Z = dyestuff2.design.Z.toarray()
    u = posterior["u2"].to_numpy().reshape(-1, 6)
    conditional = np.empty_like(u)
    for i, (beta, sigma, sd) in enumerate(
        zip(*(posterior[n].to_numpy().reshape(8000, -1) for n in ("beta", "sigma", "sigma_u2")), strict=True)
    ):
        G = np.eye(6) * (sd / sigma) ** 2
        if i % 20 == 0:
            conditional[i] = blm.density.conditional_moments(
                dyestuff2.design.y, dyestuff2.design.X, Z, beta, sigma[0] ** 2, G
            )[0]
    thinned = slice(None, None, 20)
    gap = (u[thinned] - conditional[thinned]).mean(axis=0)
    spread = (u[thinned] - conditional[thinned]).std(axis=0) / np.sqrt(400)
    assert np.all(np.abs(gap) < 4 * spread)


def test_density_and_gradient_agree_with_finite_differences():
    lmm = blm.LMM("Reaction ~ 1 + Days + (Days | Subject)", pd.read_csv(MODELS + "sleepstudy.csv"))
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    x = posterior.start() + np.array([0.1, -0.3, 0.2, 0.4])
    value, gradient = posterior.value_and_gradient(x)
    assert value == pytest.approx(posterior.evaluate(x[None])[0][0], rel=1e-12)
    h = 1e-4
    numeric = [
        (posterior.evaluate((x + h * e)[None])[0][0] - posterior.evaluate((x - h * e)[None])[0][0]) / (2 * h)
        for e in np.eye(4)
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5)


def test_prior_of_the_correlation_is_lkj():
    """The density over the partial correlation, transformed back, is LKJ's (1 - rho^2)^(eta - 1) for two effects."""
    lmm = blm.LMM(
        "Reaction ~ 1 + Days + (Days | Subject)",
        pd.read_csv(MODELS + "sleepstudy.csv"),
        priors={"corr_u2": 3},
    )
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    z = np.array([0.0, 0.7])
    x = np.tile(posterior.start(), (2, 1))
    x[:, 3] = z
    rho = np.array([(corr_cholesky(np.array([v]), 2) @ corr_cholesky(np.array([v]), 2).T)[0, 1] for v in z])
    expected = (3 - 1) * np.log1p(-(rho**2)) + np.log1p(-(rho**2))  # LKJ, and d rho / d z = 1 - rho^2
    difference = posterior.log_prior(x)
    assert difference[1] - difference[0] == pytest.approx(expected[1] - expected[0], rel=1e-12)


@pytest.mark.parametrize("skew", [0.0, 0.4, -0.4])
def test_the_skewed_and_folded_proposal_is_normalised(skew):
    first = proposal_at(np.array([0.3]), np.array([[0.64]]), np.array([0.0]))
    proposal = replace(first, skew=np.array([skew]))
    x = np.linspace(0, 400, 400_001)[:, None]
    mass = np.trapezoid(np.exp(proposal.logpdf(x)), x[:, 0])
    assert mass == pytest.approx(1.0, abs=1e-6)
    draws = proposal.draw(np.random.default_rng(0), 40_000)[:, 0]
    assert draws.min() >= 0
    cdf = np.trapezoid(np.exp(proposal.logpdf(x))[:1001], x[:1001, 0])  # up to 1
    assert abs((draws < 1).mean() - cdf) < 4 * np.sqrt(cdf * (1 - cdf) / draws.size)  # four standard errors


def test_the_proposal_takes_over_location_spread_and_skewness():
    """Matched to many draws of a gamma law and of a normal, correlated: its own draws have the same three moments."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal((20_000, 2))
    x = np.column_stack([rng.gamma(9.0, size=20_000) + z[:, 0], 5 + z[:, 0] + 2 * z[:, 1]])  # skewness 0.57 and 0
    far = np.full(2, -np.inf)
    proposal = proposal_at(np.zeros(2), np.eye(2), far).matched(x, np.ones(len(x)))
    like_a_normal = replace(proposal, dof=1e6)
    mine = like_a_normal.draw(rng, 200_000)
    assert mine.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=0.05)
    assert np.cov(mine.T) == pytest.approx(np.cov(x.T), rel=0.05)
    assert skewness(mine) == pytest.approx(skewness(x), abs=0.06)


def test_same_seed_same_draws_on_any_number_of_workers(dyestuff2, monkeypatch):
    one = dyestuff2.sample(draws=50, random_seed=5, progress=False)
    monkeypatch.setattr(factor, "_threads", lambda stats, evaluations: 3)
    three = dyestuff2.sample(draws=50, random_seed=5, progress=False)
    xr.testing.assert_identical(one["posterior"].to_dataset(), three["posterior"].to_dataset())


def test_bounded_priors_bound_the_draws():
    data = pd.read_csv(MODELS + "dyestuff2.csv")
    lmm = blm.LMM(
        "Yield ~ 1 + (1 | Batch)",
        data,
        priors={"sigma": "Uniform(lower=3, upper=4)", "sigma_u2": "Uniform(lower=0, upper=1)"},
    )
    with pytest.warns(UserWarning, match="cannot be trusted"):
        posterior = lmm.sample(draws=500, random_seed=6, progress=False, sampler="collapsed")["posterior"]
    assert float(posterior["sigma"].min()) > 3
    assert float(posterior["sigma"].max()) < 4
    assert float(posterior["sigma_u2"].max()) < 1


def test_priors_that_exclude_the_data_are_an_error_that_says_so():
    data = pd.read_csv(MODELS + "dyestuff2.csv")
    lmm = blm.LMM("Yield ~ 1 + (1 | Batch)", data)
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    nowhere = independence.Batch(
        x=np.zeros((2, 2)),
        lams=np.zeros((2, 1)),
        gamma=np.zeros((2, 1)),
        lp=np.full(2, -np.inf),
        log_weight=np.full(2, -np.inf),
    )
    with pytest.raises(SamplingError, match="nuts"):
        independence._require_support(nowhere)
    assert np.isfinite(posterior.evaluate(posterior.start()[None])[0][0])


def test_a_bad_proposal_falls_back_to_nuts_and_says_so(dyestuff2, monkeypatch):
    called = {}

    def run(self, model, settings):
        called.update(variant=self.variant)
        values = {"sigma": np.ones((1, 1)), "beta": np.ones((1, 1, 1))}
        return Run(tree=posterior_tree(model.design, values, {}, False))

    monkeypatch.setattr(Nuts, "run", run)
    monkeypatch.setattr(collapsed_sampler, "PARETO_LIMIT", -10.0)
    with pytest.warns(UserWarning, match=r"Pareto k .* NUTS ran"):
        tree = dyestuff2.sample(draws=100, random_seed=1, progress=False)
    assert tree.attrs["sampler"] == "nuts"
    assert "NUTS ran" in tree.attrs["note"]
    assert called["variant"] == "marginal"


def test_asking_for_the_collapsed_sampler_keeps_it_and_notes_the_trouble(dyestuff2, monkeypatch):
    monkeypatch.setattr(collapsed_sampler, "PARETO_LIMIT", -10.0)
    tree = dyestuff2.sample(draws=100, random_seed=1, sampler="collapsed", progress=False)
    assert tree.attrs["sampler"] == "collapsed"
    assert "Pareto k" in tree.attrs["note"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"variant": "margnal"}, "marginal"),
        ({"sampler": "hmc"}, "expected 'auto' or 'collapsed' or 'nuts'"),
        ({"variant": "joint", "sampler": "collapsed"}, "marginal"),
        ({"draws": 0}, "draws=0"),
        ({"chains": 2.5}, "chains=2.5"),
        ({"target_accept": 1.5}, "between 0 and 1"),
        ({"random_seed": 1.5}, "whole number"),
        ({"random_seed": True}, "random_seed=True; expected a whole number from 0 up"),
        ({"target_accept": "a"}, "target_accept='a'; expected a share"),
        ({"variant": "joint", "centered": "yes"}, "True, False"),
        ({"variant": "joint", "centered": {"u2": "x"}}, "'x' for u2; expected True or False"),
        ({"variant": "joint", "centered": {"zz": True}}, "level 'zz'; the levels are u2"),
        ({"variant": "marginal", "centered": {"zz": True}}, "level 'zz'; the levels are u2"),
        ({"residuals": "x"}, "residuals='x'; expected True or False"),
        ({"progress": 1}, "progress=1; expected True or False"),
        ({"log_densities": "x"}, "log_densities='x'; expected True or False"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(dyestuff2, settings, words):
    with pytest.raises(DescriptionError, match=words):
        dyestuff2.sample(**settings)


def test_progress_is_silent_when_short(capsys):
    with Progress() as progress:
        progress.stage("short", 3)
        progress.advance(3)
    assert capsys.readouterr().err == ""


def test_progress_shows_long_work(capsys, monkeypatch):
    monkeypatch.setattr("bayeslmm.support.progress.DELAY", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws bars only where it believes in a terminal
    with Progress() as progress:
        progress.stage("drawing the random effects", 2)
        progress.advance(2)
    assert "drawing the random effects" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sample", "draw", "sigma", "u2", "row"])
def test_a_grouping_may_bear_any_name(name):
    """penicillin groups by "sample", ArviZ's name for chain and draw stacked."""
    data = pd.read_csv(MODELS + "penicillin.csv").rename(columns={"sample": name})
    tree = blm.LMM(f"diameter ~ 1 + (1 | plate) + (1 | {name})", data).sample(draws=50, random_seed=1, progress=False)
    assert tree["posterior"]["u3"].dims == ("chain", "draw", f"{name}_group")
    assert list(tree["posterior"][f"{name}_group"].values) == list("ABCDEF")


def test_products_that_sum_to_zero_do_not_hide_that_groups_meet():
    """A balanced experiment with a slope on +-1: its products with the items are all exactly zero."""
    rng = np.random.default_rng(0)
    subject, item, c = (x.ravel() for x in np.meshgrid(range(12), range(8), [-1.0, 1.0], indexing="ij"))
    y = rng.normal(size=12)[subject] * (1 + 0.4 * c) + rng.normal(size=8)[item] + rng.normal(size=c.size)
    lmm = blm.LMM("y ~ c + (1 + c | subject) + (1 | item)", {"y": y, "c": c, "subject": subject, "item": item})
    fit = lmm.ml()
    G = [np.kron(np.eye(v.m), lam @ lam.T) for v, lam in zip(lmm.design.levels, fit.lambdas, strict=True)]
    Z = [v.Z for v in lmm.design.levels]
    dense = blm.density.marginal_logpdf(lmm.design.y, lmm.design.X, Z, fit.beta, fit.sigma**2, G)
    assert fit.loglik == pytest.approx(dense, abs=1e-9)
    assert lmm.sample(draws=200, random_seed=1, progress=False).attrs["sampler"] == "collapsed"


def test_far_away_proposals_are_refused_not_raised(dyestuff2):
    posterior = collapsed_posterior(dyestuff2.statistics, dyestuff2.priors)
    far = np.array([[0.0, 500.0], [-400.0, 1.0], [0.0, 0.0]])
    value, *_ = posterior.evaluate(far)
    assert np.isneginf(value[:2]).all()
    assert np.isfinite(value[2])


def test_a_short_run_is_still_the_collapsed_samplers(dyestuff2):
    assert dyestuff2.sample(draws=5, random_seed=1, progress=False).attrs["sampler"] == "collapsed"


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_pareto_k_is_arvizs(shape):
    from arviz_stats.base import array_stats

    log_weights = np.log1p(np.random.default_rng(3).pareto(1 / shape, 3000))
    expected = float(array_stats.psislw(-log_weights)[1])  # ArviZ wants the negative
    assert independence.pareto_k(log_weights) == pytest.approx(expected, abs=1e-6)


def test_equal_weights_have_no_tail():
    assert independence.pareto_k(np.zeros(1000)) < 0
