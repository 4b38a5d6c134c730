"""Prior predictive draws: the distribution of every part, the names of the posterior, the same law as PyMC's."""

import sys

import numpy as np
import pymc as pm
import pytest
import scipy.stats as st

import bayeslmm as blm
from bayeslmm.design.parameters import coords, dims
from bayeslmm.distributions.prior import Prior
from bayeslmm.errors import DescriptionError, PriorError
from tests.registry import BY_NAME
from tests.structured import LEVELS, RESIDUALS, Structured, dense_K, dense_R

CASES = [Structured(levels=a, residual="iid") for a in LEVELS if a != "none"]
CASES += [Structured(levels="crossed", residual=b) for b in RESIDUALS if b != "iid"]
CASES += [Structured(levels="two kinships, slopes", residual="ar1 and strata")]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
DRAWS = 300


def values_of(tree) -> dict[str, np.ndarray]:
    groups = (tree["prior"], tree["prior_predictive"])
    return {str(name): x.to_numpy()[0] for group in groups for name, x in group.data_vars.items()}


def white(C: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.linalg.solve(np.linalg.cholesky(C), x)


@pytest.mark.parametrize("case", CASES[::2], ids=lambda case: case.name)
def test_effects_and_residuals_are_normal_with_the_covariances_of_the_definition(case):
    """Each draw, whitened by the dense covariance at its own parameters, is standard normal."""
    lmm = case.lmm()
    values = values_of(lmm.prior_predictive(draws=DRAWS, random_seed=3))
    pieces = {level.name: [] for level in lmm.design.levels} | {"e": []}
    K = [dense_K(level) for level in lmm.design.levels]
    for d in range(DRAWS):
        e = values["y"][d] - lmm.design.X @ values["beta"][d]
        for k, level in enumerate(lmm.design.levels):
            u = values[level.name][d].reshape(level.m, level.r)
            sd = np.atleast_1d(values["sigma" if level.level.known else f"sigma_{level.name}"][d])
            corr = values.get(f"corr_{level.name}", np.tile(np.eye(level.r), (DRAWS, 1, 1)))[d]
            pieces[level.name].append(white(np.kron(K[k], sd[:, None] * corr * sd), u.ravel()))
            e = e - level.Z @ u.ravel()
        psi = ([values["rho"][d]] if "rho" in values else []) + list(values.get("sigma_ratio", [[]] * DRAWS)[d])
        pieces["e"].append(white(dense_R(lmm.design, psi), e) / values["sigma"][d])
    for name, parts in pieces.items():
        z = np.array(parts)
        assert st.kstest(z.ravel(), "norm").pvalue > 1e-4, name
        assert st.kstest((z**2).sum(axis=1), st.chi2(z.shape[1]).cdf).pvalue > 1e-4, name


@each
def test_the_groups_and_dims_are_those_of_the_posterior(case):
    lmm = case.lmm()
    tree = lmm.prior_predictive(draws=5, random_seed=1)
    known, labels = dims(lmm.design), coords(lmm.design)
    assert set(tree["prior"].data_vars) == set(known) - {"e"}
    for name, x in tree["prior"].data_vars.items():
        assert x.dims == ("chain", "draw", *known[name])
        for dim in known[name]:
            assert x[dim].to_numpy().tolist() == labels[dim]
    assert tree["prior_predictive"]["y"].dims == ("chain", "draw", "row")
    np.testing.assert_array_equal(tree["observed_data"]["y"], lmm.design.y)


def test_moments_are_those_of_the_prior():
    """E y = X mu; Var y = X S X' + E sigma_u2^2 Z Z' + E sigma^2 I; 4 Monte Carlo errors."""
    lmm = BY_NAME["one way"].lmm(
        priors={"beta": "Normal(mu=1, sigma=0.5)", "sigma": "HalfNormal(sigma=2)", "sigma_u2": "Exponential(lam=1)"}
    )
    X, Z, draws = lmm.design.X, lmm.design.Z.toarray(), 20_000
    y = lmm.prior_predictive(draws=draws, random_seed=1)["prior_predictive"]["y"].to_numpy()[0]
    V = 0.25 * X @ X.T + 2 * Z @ Z.T + 4 * np.eye(lmm.design.n)
    assert np.abs(y.mean(axis=0) - X.sum(axis=1)).max() < 4 * np.sqrt(np.diag(V).max() / draws)
    products = np.einsum("di,dj->dij", y - X.sum(axis=1), y - X.sum(axis=1))
    assert (np.abs(products.mean(axis=0) - V) < 4.5 * products.std(axis=0) / np.sqrt(draws)).all()


def test_the_law_is_that_of_PyMCs_prior_predictive():
    """Two samples, one distribution: of parameters, of single rows and of the spread and mean of y."""
    lmm = BY_NAME["slope"].lmm()
    with lmm.marginal():
        theirs = pm.sample_prior_predictive(2000, random_seed=1)
    ours = lmm.prior_predictive(draws=2000, random_seed=2)
    for group, statistic in (
        ("prior", lambda g: g["sigma"]),
        ("prior", lambda g: g["sigma_u2"][:, 1]),
        ("prior", lambda g: g["corr_u2"][:, 0, 1]),
        ("prior", lambda g: g["beta"][:, 0]),
        ("prior_predictive", lambda g: g["y"][:, 3]),
        ("prior_predictive", lambda g: g["y"].mean(axis=1)),
        ("prior_predictive", lambda g: g["y"].std(axis=1)),
        ("prior_predictive", lambda g: g["y"][:, 3] - g["y"][:, 0]),
    ):
        a, b = (
            statistic({str(name): x.to_numpy()[0] for name, x in tree[group].data_vars.items()})
            for tree in (theirs, ours)
        )
        assert st.ks_2samp(a, b).pvalue > 1e-3


def test_shares_are_drawn():
    lmm = BY_NAME["nested"].lmm(priors={"sigma_total": "HalfNormal(sigma=2)", "shares": "Dirichlet(a=2)"})
    prior = lmm.prior_predictive(draws=3000, random_seed=1)["prior"]
    squares = np.stack([prior[name].to_numpy()[0] ** 2 for name in ("sigma", "sigma_u2", "sigma_u3")])
    assert st.kstest(np.sqrt(squares.sum(axis=0)), st.halfnorm(0, 2).cdf).pvalue > 1e-3
    assert st.kstest((squares / squares.sum(axis=0))[1], st.beta(2, 4).cdf).pvalue > 1e-3


def test_the_same_seed_gives_the_same_draws():
    lmm = BY_NAME["nested"].lmm()
    trees = [lmm.prior_predictive(draws=10, random_seed=seed) for seed in (4, 4, 5)]
    assert trees[0].identical(trees[1])
    assert not trees[0]["prior"].equals(trees[2]["prior"])


def test_flat_priors_are_named():
    lmm = BY_NAME["one way"].lmm(priors={"x": "Flat()", "sigma_u2": "HalfFlat()"})
    with pytest.raises(PriorError, match=r"beta\[x\] ~ Flat\(\), sigma_u2 ~ HalfFlat\(\)\. Give proper ones"):
        lmm.prior_predictive()
    lmm = BY_NAME["one way"].lmm(priors={"sigma_total": Prior("HalfFlat")})
    with pytest.raises(PriorError, match=r"sigma_total ~ HalfFlat\(\)"):
        lmm.prior_predictive()


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"draws": 2.5}, {"random_seed": -1}, {"random_seed": "one"}, {"random_seed": True}]
)
def test_draws_and_seed_are_checked(wrong):
    (name,) = wrong
    with pytest.raises(DescriptionError, match=f"{name}=.*expected a whole number"):
        BY_NAME["tiny"].lmm().prior_predictive(**wrong)
    with pytest.raises(DescriptionError, match=f"{name}=.*expected a whole number"):
        BY_NAME["tiny"].lmm().implied_priors(**wrong)


def test_arviz_draws_its_predictive_check():
    import arviz as az

    tree = BY_NAME["one way"].lmm().prior_predictive(draws=50, random_seed=1)
    plots = az.plot_ppc_dist(tree, group="prior_predictive", num_samples=20)
    assert "y" in plots.viz["plot"]


def test_a_large_table_is_drawn_at_once():
    """Vectorised: 20 draws of 50,000 rows take fewer calls of Python than there are rows."""
    rng = np.random.default_rng(1)
    data = {"y": rng.normal(size=50_000), "g": rng.integers(0, 2000, 50_000), "t": np.tile(np.arange(25), 2000)}
    lmm = blm.LMM("y ~ 1 + (1 + t | g)", data)
    _ = lmm.priors
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        lmm.prior_predictive(draws=20, random_seed=1)
    finally:
        sys.setprofile(None)
    assert calls < 50_000
