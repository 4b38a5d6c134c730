"""The marginal likelihood against averages over the prior, against quadrature, and in other units."""

import numpy as np
import pytest
import scipy.stats as st

import bayeslmm as blm
from bayeslmm.criticism.sensitivity import marginal_log_likelihood
from bayeslmm.errors import PriorError

FEW = {
    "y": [1.2, 0.1, 2.0, 2.9, 4.1, 3.0, 0.4, 1.1], "x": [0.0, 1, 2, 3, 0, 1, 2, 3],
    "g": list("aabbccdd"), "h": list("pqpqpqpq"), "f": list("uvuvuvuv"),
}  # fmt: skip
SD = "HalfNormal(sigma=1)"
MODELS = {
    "one level": ("y ~ 1 + x + (1 | g)", {"sigma_u2": SD}, {}),
    "correlated slopes": ("y ~ 1 + x + (1 + x | h)", {"sigma_u2": SD, "corr_u2": "LKJ(eta=1.5)"}, {}),
    "three correlated": ("y ~ 1 + (1 + x + w | h)", {"sigma_u2": SD}, {}),
    "compound symmetry": ("y ~ 1 + cs(0 + f | g)", {"sigma_u2": SD}, {}),
    "crossed": ("y ~ 1 + (1 | g) + (1 | h)", {}, {}),
    "shares": ("y ~ 1 + (1 | g)", {"shares": "Dirichlet(a=1)"}, {}),
    "a coefficient that is not normal": ("y ~ 1 + x + (1 | g)", {"x": "Laplace(mu=0, b=1)"}, {}),
    "correlated rows": ("y ~ 1 + (1 | h)", {}, {"residual": blm.Residual(structure="ar1", group="g")}),
    "strata": ("y ~ 1 + (1 | g)", {}, {"residual": blm.Residual(structure="strata", by="f")}),
}


def priors(given: dict) -> dict:
    """As narrow as the data, so that an average over the prior has a small error."""
    own = {} if "shares" in given else {"sigma": "HalfNormal(sigma=1)"}
    return {"Intercept": "Normal(mu=2, sigma=1)", **own, **given}


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_likelihood_averaged_over_draws_of_the_prior(name):
    """Within 4.5 standard errors of both, and these are small enough to see a constant that is missing (log 2)."""
    formula, given, options = MODELS[name]
    data = FEW | {"w": [0.5, -1.0, 0.0, 1.0, 2.0, -0.5, 0.3, 0.1]}
    lmm = blm.LMM(formula, data, priors=priors(given), **options)
    ours = lmm.marginal_likelihood(draws=2000, random_seed=1)
    drawn = lmm.prior_predictive(draws=20_000, random_seed=2)["prior"].to_dataset()
    values = {str(k): x.to_numpy().reshape(-1, *x.shape[2:]) for k, x in drawn.data_vars.items()}
    logp = marginal_log_likelihood(lmm, values)
    w = np.exp(logp - logp.max())
    theirs, error = np.log(w.mean()) + logp.max(), w.std() / w.mean() / np.sqrt(w.size)
    assert ours.reliable
    assert 4.5 * np.hypot(error, ours.error) < 0.5
    assert abs(ours.log - theirs) < 4.5 * np.hypot(error, ours.error)


def test_it_is_a_double_integral():
    """Both SDs are integrated by quadrature, the intercept in closed form."""
    y, g = np.array(FEW["y"]), np.repeat(np.arange(4), 2)
    lmm = blm.LMM("y ~ 1 + (1 | g)", FEW, priors=priors({"sigma_u2": SD}))
    same = np.equal.outer(g, g)

    nodes, weights = np.polynomial.legendre.leggauss(60)
    value = 0.0
    for sigma, a in zip(3 + 3 * nodes, 3 * weights, strict=True):  # the posterior is far inside (0, 6)
        for tau, b in zip(3 + 3 * nodes, 3 * weights, strict=True):
            V = sigma**2 * np.eye(8) + tau**2 * same + 1.0  # the intercept's variance
            likelihood = np.exp(st.multivariate_normal(np.full(8, 2.0), V, allow_singular=True).logpdf(y) + 20)
            value += a * b * likelihood * st.halfnorm.pdf(tau) * st.halfnorm.pdf(sigma)
    ours = lmm.marginal_likelihood(draws=20_000, random_seed=1)
    assert abs(ours.log - (np.log(value) - 20)) < 4.5 * ours.error
    assert ours.error < 0.01


def test_in_other_units_it_changes_by_their_logarithm():
    """p(cy) = p(y) / c^n where the priors are in the same units: the defaults are, to the three digits they print."""
    data = blm.example_data("dyestuff")
    one, kilo = (
        blm.LMM("Yield ~ 1 + (1 | Batch)", {"Yield": c * np.array(data["Yield"]), "Batch": list(data["Batch"])})
        for c in (1.0, 1e-3)
    )
    a, b = (lmm.marginal_likelihood(random_seed=1).log for lmm in (one, kilo))
    assert b == pytest.approx(a + 30 * np.log(1e3), abs=0.02)


def test_wider_priors_are_the_ones_that_a_model_with_them_has():
    lmm = blm.LMM("y ~ 1 + (1 | g)", FEW, priors=priors({"sigma_u2": "HalfNormal(sigma=1)"}))
    wide = blm.LMM("y ~ 1 + (1 | g)", FEW, priors=priors({"sigma_u2": "HalfNormal(sigma=2)"}))
    one, other = (model.marginal_likelihood(draws=10_000, random_seed=1) for model in (lmm, wide))
    assert abs(one.rescaled[2.0] - other.log) < 4.5 * np.hypot(2 * one.error, other.error)


def test_priors_with_a_bound_are_not_made_wider():
    """Draws under the bound say nothing of what lies beyond it."""
    for given in ({"sigma_u2": "Uniform(lower=0, upper=1)"}, {"sigma_total": "Uniform(lower=0, upper=3)"}):
        one = blm.LMM("y ~ 1 + (1 | g)", FEW, priors={"Intercept": "Normal(mu=2, sigma=1)", **given})
        evidence = one.marginal_likelihood(draws=200, random_seed=1)
        assert evidence.rescaled == {}
        assert "are left out: an" in repr(evidence)


def test_flat_priors_are_refused():
    lmm = blm.LMM("y ~ 1 + (1 | g)", FEW, priors={"beta": "Flat()"})
    with pytest.raises(PriorError, match="flat ones have none"):
        lmm.marginal_likelihood()
