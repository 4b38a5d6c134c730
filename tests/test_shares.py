"""A prior on the total SD and its split: its density, its draws, in both samplers and in PyMC."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import scipy.stats as st
from registry import BY_NAME

from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
from bayeslmm.description.model_file import ModelFile
from bayeslmm.design.building import build_design
from bayeslmm.distributions.prior import Prior
from bayeslmm.errors import PriorError
from bayeslmm.priors.resolve import resolve_priors
from bayeslmm.priors.sd_priors import IndependentSDs, VarianceShares

SPLIT = {"sigma_total": "HalfStudentT(nu=3, sigma=2)", "shares": "Dirichlet(a=1)"}


def shares_of(name: str, **given) -> VarianceShares:
    return BY_NAME[name].lmm(priors=given or SPLIT).priors.shares


# The density


@pytest.mark.parametrize("a", [(1.0, 1.0), (0.5, 2.0), (3.0, 0.7)])
def test_density_of_two_SDs_integrates_to_one(a):
    """On a grid in (log tau, logit share), where the density is smooth: |ds| = s_0 s_1 / 2 there, times scales."""
    one = VarianceShares(
        total=Prior("HalfNormal", sigma=2), concentration=a, scales=(1.0, 3.0), names=("sigma", "sigma_u2")
    )
    log_tau, logit = np.meshgrid(np.linspace(-14, 4, 901), np.linspace(-60, 60, 2001), indexing="ij")
    shares = np.stack([1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(logit))], axis=-1)
    sds = one.join(np.exp(log_tau), shares)
    # s_0 = tau sqrt(p), s_1 = tau sqrt(1 - p) / c: |d(s_0, s_1) / d(log tau, logit p)| = s_0 s_1 / 2
    volume = sds.prod(axis=-1) / 2
    total = (np.exp(one.logpdf(sds)) * volume).sum() * (18 / 900) * (120 / 2000)
    assert total == pytest.approx(1, abs=1e-4)


def test_draws_follow_the_total_and_the_split():
    one = shares_of("nested", sigma_total="Exponential(lam=0.5)", shares="Dirichlet(a=[1, 2, 0.5])")
    tau, shares = one.split(one.rvs(np.random.default_rng(1), 4000))
    assert st.kstest(tau, st.expon(0, 2).cdf).pvalue > 1e-3
    for k, a in enumerate(one.concentration):
        assert st.kstest(shares[:, k], st.beta(a, 3.5 - a).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(tau, shares[:, 1])[0, 1]) < 4 / np.sqrt(4000)


@pytest.mark.parametrize("name", ["one way", "nested", "crossed", "slope", "three effects", "independent slope"])
def test_density_is_that_of_the_pieces_under_a_change_of_variables(name):
    """Against the Jacobian by finite differences of (tau, pi_1, ..., pi_K) -> SDs."""
    one, rng = shares_of(name), np.random.default_rng(5)
    tau, shares = 1.7, rng.dirichlet(np.ones(len(one.names)))

    def sds(free):
        return one.join(np.array(free[0]), np.append(1 - free[1:].sum(), free[1:]))

    free, h = np.append(tau, shares[1:]), 1e-6
    columns = [(sds(free + h * e) - sds(free - h * e)) / (2 * h) for e in np.eye(free.size)]
    volume = np.linalg.slogdet(np.array(columns))[1]
    pieces = one.total.logpdf(tau) + st.dirichlet(one.concentration).logpdf(shares)
    assert one.logpdf(sds(free)) == pytest.approx(pieces - volume, abs=1e-6)


def test_shares_are_contributions_to_the_variance_of_y():
    lmm = BY_NAME["slope"].lmm(priors=SPLIT)
    one, t = lmm.priors.shares, lmm.design.levels[0].columns[:, 1]
    assert one.names == ("sigma", "sigma_u2[Intercept]", "sigma_u2[t]")
    assert one.scales == pytest.approx((1, 1, np.sqrt((t**2).mean())))
    sds = np.array([1.0, 2.0, 0.5])
    V = lmm.design.Z @ np.diag(np.tile(sds[1:] ** 2, 4)) @ lmm.design.Z.T.toarray() + np.eye(16)
    tau, shares = one.split(sds)
    assert tau**2 == pytest.approx(np.diag(V).mean())
    assert shares[0] == pytest.approx(1 / np.diag(V).mean())


def test_weights_and_known_covariances_count_as_they_add_to_the_variance():
    labels = list("abcdef")
    L = np.tril(np.random.default_rng(1).normal(size=(6, 6))) + 2 * np.eye(6)
    K = pd.DataFrame(L @ L.T, index=labels, columns=labels)
    data = {"y": np.sin(np.arange(24)).tolist(), "s": np.repeat(labels, 4).tolist(), "h": list("ij") * 12}
    data["w"] = np.linspace(1, 3, 24).tolist()
    own = np.repeat(np.diag(K), 4).mean()
    for known, names, scales in (
        (False, ("sigma", "sigma_u2", "sigma_u3"), ((1 / np.array(data["w"])).mean(), own, 1)),
        (True, ("sigma", "sigma_u3"), ((1 / np.array(data["w"])).mean() + own, 1)),
    ):
        levels = (Level(group="s", covariance=K, known=known), Level(group="h"))
        design = build_design(Hierarchy(response="y", levels=levels, residual=Residual(weights="w")), data)
        one = resolve_priors(design, SPLIT).shares
        assert one.names == names
        assert np.square(one.scales) == pytest.approx(scales)


def test_density_is_zero_outside_and_keeps_NaN():
    one = shares_of("nested", sigma_total="Uniform(lower=0.1, upper=1)")
    assert one.concentration == (1, 1, 1)
    sds = np.array([[0.5, 0.5, 0.5], [0.9, 0.5, 0.5], [0.5, -0.1, 0.5], [0.0, 0.5, 0.5], [np.nan, 0.5, 0.5]])
    value = one.logpdf(sds)
    assert np.isfinite(value[0])
    assert (value[1:4] == -np.inf).all()
    assert np.isnan(value[4])


def test_the_density_of_one_SD_is_that_of_its_draws():
    one = shares_of("nested", sigma_total="HalfNormal(sigma=2)", shares=2)
    x = np.linspace(1e-4, 12, 4000)
    for k in range(3):
        cdf = np.cumsum(one.density(k, x)) * (x[1] - x[0])
        assert cdf[-1] == pytest.approx(1, abs=2e-3)
        draws = one.rvs(np.random.default_rng(3), 2000)[:, k]
        assert st.kstest(draws, lambda s, cdf=cdf: np.interp(s, x, cdf)).pvalue > 1e-3


def test_a_start_is_moved_into_the_support():
    one = shares_of("nested", sigma_total="Uniform(lower=5, upper=10)")
    moved = one.inside(np.array([0.1, 0.2, 0.2]))
    assert np.isfinite(one.logpdf(moved))
    assert moved / moved[0] == pytest.approx([1, 2, 2])


# What may be written


def test_the_table_says_what_is_shared():
    priors = BY_NAME["slope"].lmm(priors={"sigma_total": "HalfNormal(sigma=3)"}).priors
    table = priors.table().set_index("parameter")
    assert list(table.index)[2:] == ["sigma_total", "shares", "corr_u2"]
    assert table.loc["shares", "prior"] == "Dirichlet(a=1)"
    assert table.loc["sigma_total", "source"] == "given"
    assert table.loc["shares", "source"] == "default"
    reason = "of sigma, sigma_u2[Intercept], 1.87 sigma_u2[t], squared, in sigma_total squared"
    assert reason in table.loc["shares", "reason"]
    assert priors.sigma is None
    assert BY_NAME["slope"].lmm(priors={"shares": 2}).priors.shares.total.name == "HalfStudentT"


@pytest.mark.parametrize(
    "written", ["Dirichlet(a=[1, 2, 3])", Prior("Dirichlet", a=[1, 2, 3]), {"sigma_u2": 2, "sigma_u3": 3}]
)
def test_concentrations_are_given_as_text_list_or_by_name(written):
    assert shares_of("nested", shares=written).concentration == (1, 2, 3)


def test_a_levels_name_stands_for_all_its_effects():
    assert shares_of("slope", shares={"sigma_u2": 0.5}).concentration == (1, 0.5, 0.5)
    assert shares_of("slope", shares={"sigma_u2[t]": 0.5}).concentration == (1, 1, 0.5)


def test_shares_in_a_description_file():
    priors = '[priors]\nsigma_total = "HalfNormal(sigma=2)"\nshares = "Dirichlet(a=[1, 2, 3])"'
    file = ModelFile.parse('formula = "y ~ 1 + (1 | a/b)"\n' + priors)
    assert shares_of("nested", **file.priors).concentration == (1, 2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigma_total": "HalfNormal(sigma=1)", "sigma": "HalfNormal(sigma=1)"}, "'sigma' has none of its own"),
        ({"shares": 1, "sigma_u2": "HalfNormal(sigma=1)"}, "'sigma_u2' has none of its own. Leave it out"),
        ({"shares": "Dirichlet(a=[1, 2])"}, "splits the variance in 2; there are 3 parts: sigma, sigma_u2, sigma_u3"),
        ({"shares": {"sigma_u9": 1}}, "shares has no 'sigma_u9'.*It has sigma, sigma_u2, sigma_u3"),
        ({"shares": {"sigma_u2": -1}}, "must be positive, but -1 came"),
        ({"shares": "HalfNormal(sigma=1)"}, r"don't go together. Write Dirichlet\(a=1\)"),
        ({"sigma": "Dirichlet(a=1)"}, "sigma and Dirichlet.* don't go together. Write HalfStudentT"),
        ({"sigma_total": "Normal(sigma=1)"}, "allows negative values"),
    ],
)
def test_what_does_not_fit_is_explained(given, message):
    with pytest.raises(PriorError, match=message):
        BY_NAME["nested"].lmm(priors=given)


# Sampling


def on_grid(lmm, sds: IndependentSDs | VarianceShares):
    """Moments of (sigma, sigma_u2) by importance weights over draws of the prior, with dense normal densities."""
    design = lmm.design
    X, Z = design.X, design.Z.toarray()
    mean = np.array([p.gaussian[0] for p in lmm.priors.beta])
    cov = np.diag([1 / p.gaussian[1] for p in lmm.priors.beta])
    fixed = X @ cov @ X.T
    draws = sds.rvs(np.random.default_rng(1), 40_000)
    r = design.y - X @ mean
    # V = sigma^2 I + sigma_u2^2 Z Z' + X cov X' at every draw
    V = (draws[:, 0] ** 2)[:, None, None] * np.eye(design.n) + (draws[:, 1] ** 2)[:, None, None] * (Z @ Z.T) + fixed
    logp = -0.5 * (np.linalg.slogdet(V)[1] + np.einsum("i,bi->b", r, np.linalg.solve(V, r[:, None])[..., 0]))
    w = np.exp(logp - logp.max())
    w /= w.sum()
    mean = w @ draws
    return mean, np.sqrt(w**2 @ (draws - mean) ** 2)


@pytest.mark.parametrize("total", ["HalfStudentT(nu=3, sigma=2)", "Uniform(lower=0.5, upper=3)"])
def test_the_collapsed_posterior_is_that_of_weighted_prior_draws(total):
    lmm = BY_NAME["one way"].lmm(priors={"sigma_total": total, "shares": {"sigma_u2": 0.5}})
    tree = lmm.sample(draws=4000, random_seed=1, progress=False)
    assert tree.attrs["sampler"] == "collapsed"
    exact, error = on_grid(lmm, lmm.priors.shares)
    for k, name in enumerate(("sigma", "sigma_u2")):
        draws = tree["posterior"][name].to_numpy().ravel()
        # the chain's effective size is about half its length; 4 errors of both
        noise = np.hypot(error[k], draws.std() / np.sqrt(draws.size / 3))
        assert abs(draws.mean() - exact[k]) < 4 * noise, name


@pytest.mark.parametrize("name", ["nested", "slope", "three effects", "independent slope"])
def test_the_density_in_PyMC_is_the_same(name):
    """log p(sigma_total, shares) with PyMC's transforms is log p(SDs) with the Jacobian of the same transforms."""
    lmm = BY_NAME[name].lmm(priors=SPLIT)
    one = lmm.priors.shares
    model = lmm.marginal()
    sds = one.rvs(np.random.default_rng(2), 1)[0]
    tau, shares = one.split(sds)
    with model:
        theirs = sum(
            float(pm.logp(model[key], value).eval()) for key, value in (("sigma_total", tau), ("shares", shares))
        )
    jacobian = (len(sds) - 1) * np.log(2) + 2 * np.log(one.scales).sum() + np.log(sds).sum()
    jacobian -= (2 * len(sds) - 1) * np.log(tau)
    # PyMC's half t has a constant in single precision
    assert one.logpdf(sds) == pytest.approx(theirs + jacobian, abs=1e-6)
    named = [variable for variable in model.deterministics if variable.name.startswith("sigma")]
    values = pm.draw([model["sigma_total"], model["shares"], *named], random_seed=1)
    drawn = one.join(np.asarray(values[0]), values[1])
    np.testing.assert_allclose(np.concatenate([np.atleast_1d(v) for v in values[2:]]), drawn, rtol=1e-12)
