"""More than one maximum: the search looks for them, the sampler draws from all of them, and both say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from bayeslmm.errors import DataError
from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.lmm import LMM
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.independence import find_modes
from bayeslmm.posterior.mode_check import beginning, modes_of, unvisited
from bayeslmm.posterior.proposal import Mixture, proposal_at
from tests.registry import CASES as REGISTRY
from tests.structured import CASES

DATA = Path(__file__).parent / "data"


def test_a_year_is_no_other_model_than_years_since_2010():
    """lme4's REML has 0.958, 0.602 and a standard error of 0.137; a mode without slopes has e^-56 of the mass."""
    data = pd.read_csv(DATA / "year.csv")
    sums = []
    for formula in ("y ~ year + (year | site)", "y ~ I(year - 2010) + (I(year - 2010) | site)"):
        tree = LMM(formula, data).sample(random_seed=1, progress=False)
        post = tree["posterior"]
        slope = post["beta"].values[..., 1]
        sums.append([post["sigma"].mean(), post["sigma_u2"].values[..., 1].mean(), slope.mean(), slope.std()])
    sigma, sd, _, se = sums[0]
    assert sigma == pytest.approx(0.96, abs=0.02)
    assert 0.5 < sd < 0.75
    assert 0.12 < se < 0.17
    np.testing.assert_allclose(sums[0], sums[1], rtol=0.05)  # 4,000 draws each, some 2,000 of them independent


def test_independent_effects_far_from_zero_reach_the_higher_maximum():
    """lme4 from many starts, and dense algebra; the local maximum lies at -463.375 and -464.907."""
    lmm = LMM("y ~ x + (x || g)", pd.read_csv(DATA / "diag_local.csv"))
    assert lmm.ml().loglik == pytest.approx(-406.146, abs=2e-3)
    assert lmm.reml().loglik == pytest.approx(-403.510, abs=2e-3)
    assert lmm.ml().status.name == "converged"


def bimodal() -> LMM:
    return LMM("y ~ x + (1 | gid)", pd.read_csv(DATA / "bimodal.csv"))


def test_two_modes_are_found_sampled_and_said():
    """P(slope > 0) against a grid over the two SDs, the slope's conditional probability at each point exact."""
    lmm = bimodal()
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    assert len(find_modes(posterior)) == 2
    grid = np.stack(np.meshgrid(np.linspace(-6, 2, 120), np.linspace(-14, 5, 200), indexing="ij"), axis=-1)
    lp, _, given = posterior.evaluate(grid.reshape(-1, 2))
    sd = np.sqrt(np.linalg.inv(given.root @ np.swapaxes(given.root, 1, 2))[:, 1, 1])
    exact = float(np.exp(lp - logsumexp(lp)) @ norm.cdf(given.mean[:, 1] / sd))
    tree = lmm.sample(draws=4000, random_seed=1, progress=False)
    assert tree.attrs["sampler"] == "collapsed"
    assert tree.attrs["modes"] == 2
    positive = tree["posterior"]["beta"].values[..., 1] > 0
    error = np.sqrt(exact * (1 - exact) / 8000)  # of 16,000 draws, half counted as independent
    assert abs(positive.mean() - exact) < 4 * error


def test_a_mode_that_was_not_visited_is_a_doubt():
    lmm = bimodal()
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    modes = modes_of(posterior)
    here, there = (np.exp(mode.phi) for mode in modes)
    one = {"sigma": np.full((2, 500), here[0]), "sigma_u2": np.full((2, 500), here[1])}
    assert "was never visited" in unvisited(posterior, modes, one)
    both = {name: np.concatenate([x, np.full((2, 500), there[k])]) for k, (name, x) in enumerate(one.items())}
    assert unvisited(posterior, modes, both) == ""
    begin = beginning(posterior, modes[0], {"beta_at_mean", "sigma"})
    assert set(begin) == {"beta_at_mean", "sigma"}
    assert begin["beta_at_mean"].shape == (2,)


def test_a_mixture_is_a_density_and_matches_its_draws():
    rng = np.random.default_rng(1)
    parts = tuple(
        proposal_at(np.array([c]), np.array([[v]]), np.array([-np.inf])) for c, v in ((-4.0, 1.0), (3.0, 0.2))
    )
    mixture = Mixture(parts=parts, shares=np.array([0.3, 0.7]))
    single = Mixture(parts=parts[:1], shares=np.ones(1))
    x = np.linspace(-200, 200, 400_001)[:, None]
    mass = [np.exp(one.logpdf(x)).sum() * 1e-3 for one in (mixture, single)]
    assert mass[0] == pytest.approx(mass[1], rel=1e-4)  # the same constant is left out of both
    draws = mixture.draw(rng, 20_000)
    assert (draws > 0).mean() == pytest.approx(0.7, abs=0.02)
    again = mixture.matched(draws, np.ones(len(draws)))
    np.testing.assert_allclose(again.shares, mixture.shares, atol=0.02)


RESPONSES = {"made from x": lambda d: 2 * d.x + 1, "one value a group": lambda d: d.m}


@pytest.mark.parametrize("y", RESPONSES)
def test_a_perfect_fit_is_named(y):
    """y made from its predictors, or one value a group: the likelihood has no maximum, and nothing is derived of it."""
    d = pd.DataFrame({"x": np.arange(12.0), "g": list("aaabbbcccddd"), "m": np.repeat([1.0, 5.0, 2.0, 7.0], 3)})
    lmm = LMM("y ~ x + (1 | g)", d.assign(y=RESPONSES[y](d)))
    assert lmm.ml().status.name == "perfect fit"
    with pytest.raises(DataError, match="no confidence limits for a perfect fit"):
        lmm.reml().confint()
    with pytest.raises(DataError, match="fits y perfectly"):
        lmm.sample(draws=10, progress=False)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("groups", [300, 2000])
def test_large_fits_are_judged_by_what_is_left_to_gain(seed, groups):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rng.integers(1, 9, groups))
    x = rng.normal(size=g.size)
    u = rng.normal(size=(groups, 2)) * [30.0, 8.0]
    data = {"y": 1e4 + 20 * x + u[g, 0] + u[g, 1] * x + rng.normal(0, 15, g.size), "x": x, "g": g.astype(str)}
    fit = LMM("y ~ x + (x | g)", data).ml()
    assert fit.status.name == "converged"
    assert fit.optimum.gain < 1e-6


@pytest.mark.parametrize("case", [*CASES[::17], *REGISTRY[::4]], ids=lambda case: case.name)
@pytest.mark.parametrize("reml", [False, True], ids=["ML", "REML"])
def test_the_criterion_at_many_points_is_that_at_each(case, reml):
    criterion = Criterion(stats=case.lmm().statistics, reml=reml)
    points = criterion.spread_starts()[:3]
    np.testing.assert_allclose(criterion.values(points), [criterion.at(phi) for phi in points], rtol=1e-9)


def test_a_model_with_nothing_but_sigma_to_estimate():
    """Effects of known covariance, and none: ML, REML and the posterior all the same."""
    calves = LMM.from_toml("models/calves.toml")
    tree = calves.sample(random_seed=1, progress=False)
    assert tree.attrs["trusted"] == 1
    assert tree["posterior"]["sigma"].mean() == pytest.approx(calves.reml().sigma, rel=1.0)
