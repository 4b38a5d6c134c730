"""Priors: values with a name, a text and a density; defaults scaled by the data; errors that help."""

import copy
import pickle
import subprocess
import sys
from math import inf, log
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.integrate import quad

from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
from bayeslmm.design.building import build_design
from bayeslmm.design.counted import CountedRows
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.distributions.densities import FAMILIES, lkj_draw, lkj_logpdf
from bayeslmm.errors import PriorError
from bayeslmm.priors.resolve import Prior, as_prior, resolve_priors

# Each prior beside the same distribution in SciPy.
SAME = [
    (Prior("Normal", mu=-1.5, sigma=2), st.norm(-1.5, 2)),
    (Prior("Normal", sigma=0.1), st.norm(0, 0.1)),
    (Prior("StudentT", nu=4, mu=1, sigma=2), st.t(4, 1, 2)),
    (Prior("StudentT", nu=1, sigma=2), st.t(1, 0, 2)),
    (Prior("Cauchy", alpha=-1, beta=2), st.cauchy(-1, 2)),
    (Prior("Laplace", mu=1, b=2), st.laplace(1, 2)),
    (Prior("Logistic", mu=1, s=0.5), st.logistic(1, 0.5)),
    (Prior("Uniform", lower=-1, upper=3), st.uniform(-1, 4)),
    (Prior("TruncatedNormal", mu=1, sigma=2, lower=0), st.truncnorm(-0.5, inf, 1, 2)),
    (Prior("TruncatedNormal", mu=1, sigma=2, upper=0), st.truncnorm(-inf, -0.5, 1, 2)),
    (Prior("TruncatedNormal", mu=0, sigma=1, lower=3, upper=5), st.truncnorm(3, 5)),
    (Prior("HalfNormal", sigma=2), st.halfnorm(0, 2)),
    (Prior("HalfCauchy", beta=2), st.halfcauchy(0, 2)),
    (Prior("Exponential", lam=4), st.expon(0, 0.25)),
    (Prior("Exponential", scale=4), st.expon(0, 4)),
    (Prior("Gamma", alpha=2.5, beta=3), st.gamma(2.5, 0, 1 / 3)),
    (Prior("Gamma", mu=3, sigma=1), st.gamma(9, 0, 1 / 3)),
    (Prior("Beta", alpha=2.5, beta=1.5), st.beta(2.5, 1.5)),
    (Prior("InverseGamma", alpha=3, beta=2), st.invgamma(3, 0, 2)),
    (Prior("InverseGamma", mu=2, sigma=1), st.invgamma(6, 0, 10)),
    (Prior("LogNormal", mu=0.5, sigma=0.7), st.lognorm(0.7, 0, np.exp(0.5))),
    (Prior("Weibull", alpha=1.5, beta=2), st.weibull_min(1.5, 0, 2)),
    (Prior("PenalizedComplexity", upper=2, alpha=0.05), st.expon(0, -2 / log(0.05))),
]
HALF_T = Prior("HalfStudentT", nu=3, sigma=1.5)
ON_VARIANCE = Prior("InverseGammaVariance", alpha=3, beta=2)
SPLIT = Prior("Dirichlet", a=[1, 2.5, 0.5])
PROPER = [*(prior for prior, _ in SAME), HALF_T, ON_VARIANCE]
named = {"ids": str}


# A prior is a value


def test_priors_are_equal_by_value_and_hashable():
    assert Prior("HalfStudentT", sigma=1, nu=3) == Prior("HalfStudentT", nu=3.0, sigma=1.0)
    assert Prior("Normal", sigma=1) == Prior("Normal", mu=0, sigma=1)
    assert Prior("Normal", sigma=1) != Prior("Normal", sigma=2)
    assert len({Prior("HalfNormal", sigma=1), Prior("HalfNormal", sigma=1)}) == 1


def test_priors_are_frozen():
    prior = Prior("HalfNormal", sigma=1)
    with pytest.raises(AttributeError):
        prior.name = "Normal"
    prior.params["sigma"] = 9
    assert prior.params == {"sigma": 1.0}


def test_priors_can_be_copied_and_pickled_even_after_use():
    HALF_T.logpdf(1.0)
    assert copy.deepcopy(HALF_T) == HALF_T == pickle.loads(pickle.dumps(HALF_T))


def test_importing_priors_is_light():
    code = "import sys, bayeslmm.priors; print(sorted({'scipy', 'pandas', 'pymc', 'preliz'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# The text of a prior


@pytest.mark.parametrize("prior", [*PROPER, Prior("Flat"), Prior("HalfFlat"), Prior("LKJ", eta=2), SPLIT], **named)
def test_text_round_trips(prior):
    assert Prior.parse(str(prior)) == prior
    assert eval(repr(prior)) == prior


number = some.floats(1e-6, 1e6)


@given(name=some.sampled_from(sorted(FAMILIES)), data=some.data())
def test_text_round_trips_for_every_family(name, data):
    form = data.draw(some.sampled_from(FAMILIES[name].forms))
    params = {key: data.draw(number) for key in form}
    params |= {key: -params[key] for key in FAMILIES[name].real if data.draw(some.booleans())}
    if {"lower", "upper"} <= params.keys():
        params["upper"] = params["lower"] + data.draw(some.floats(1e-3, 1e6))
    if name == "PenalizedComplexity":
        params["alpha"] = data.draw(some.floats(0.001, 0.999))
    prior = Prior(name, **params)
    assert prior.params == params
    assert Prior.parse(str(prior)) == prior


def test_infinite_bounds_are_left_out():
    prior = Prior("TruncatedNormal", sigma=1, lower=0, upper=inf)
    assert str(prior) == "TruncatedNormal(mu=0, sigma=1, lower=0)"
    assert prior.support == "positive"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HalfNormal(2)", r"by keyword.*HalfNormal\(sigma=1\)"),
        ("HalfNormal", r"lacks its parentheses.*HalfNormal\(sigma=1\)"),
        ("halfnormal(sigma=2)", "Did you mean 'HalfNormal'"),
        ("Gaussian(sigma=2)", "Did you mean 'Normal'"),
        ("Banana(sigma=2)", "Known are Normal, StudentT"),
        ("HalfNormal(sd=2)", "Did you mean 'sigma'"),
        ("HalfNormal()", "HalfNormal needs sigma"),
        ("HalfNormal(sigma=0)", "sigma of HalfNormal must be positive, but 0 came"),
        ("HalfNormal(sigma=-2)", "must be positive, but -2 came"),
        ("HalfNormal(sigma=1e999)", "must be finite"),
        ("HalfNormal(sigma=True)", "plain numbers, but 'sigma=True'"),
        ("HalfNormal(sigma='2')", "plain numbers"),
        ("HalfNormal(sigma=1+1)", "plain numbers, but 'sigma=1\\+1'"),
        ("HalfNormal(**{'sigma': 1})", "plain numbers"),
        ("HalfNormal(sigma=__import__('os').getpid())", "plain numbers"),
        ("HalfNormal(sigma=1, sigma=2)", "gives sigma twice"),
        ("pm.HalfNormal(sigma=1)", "cannot be read as a prior"),
        ("HalfNormal(sigma=1", "cannot be read as a prior"),
        ("HalfNormal(sigma=\0)", "cannot be read as a prior"),
        ("", "cannot be read as a prior"),
        ("(" * 900, "cannot be read as a prior"),
        ("9" * 9000, "cannot be read as a prior"),
        ("Gamma(alpha=1, mu=2)", r"does not take alpha with mu.*Gamma\(alpha=1, beta=1\) or Gamma\(mu"),
        ("Exponential()", "Exponential needs lam"),
        ("Uniform(lower=2, upper=1)", "lower must be less than upper"),
        ("PenalizedComplexity(upper=1, alpha=1)", "less than 1"),
        ("Dirichlet(a=[1, 0])", "a of Dirichlet must be positive, but 0 came"),
        ("Dirichlet(a=[1, [2]])", "plain numbers"),
        ("Dirichlet(a=[])", "a of Dirichlet must be a number"),
        ("HalfNormal(sigma=[1, 2])", "sigma of HalfNormal must be a number"),
    ],
)
def test_what_cannot_be_read_is_explained(text, message):
    with pytest.raises(PriorError, match=message):
        Prior.parse(text)


def test_what_is_no_prior_is_explained():
    for thing in (3, None, ["HalfNormal"], {"name": "HalfNormal"}):
        with pytest.raises(PriorError, match="A prior was expected"):
            as_prior(thing)
    with pytest.raises(PriorError, match="must be a number, but '2' came"):
        Prior("HalfNormal", sigma="2")
    with pytest.raises(PriorError, match=r'by keyword, but 1 came alone\. Write Prior\("HalfNormal", sigma=1\)'):
        Prior("HalfNormal", 1)


def test_preliz_distributions_are_accepted():
    preliz = pytest.importorskip("preliz")
    assert as_prior(preliz.HalfStudentT(nu=3, sigma=2)) == Prior("HalfStudentT", nu=3, sigma=2)
    assert as_prior(preliz.Gamma(mu=3, sigma=1)) == Prior("Gamma", mu=3, sigma=1)
    assert as_prior(preliz.Dirichlet([1, 2])) == Prior("Dirichlet", a=[1, 2])
    assert as_prior(preliz.Exponential(scale=2)) == Prior("Exponential", scale=2)
    by_precision = as_prior(preliz.Normal(0, tau=4))
    assert by_precision.params == pytest.approx({"mu": 0, "sigma": 0.5})
    with pytest.raises(PriorError, match="has no values for its parameters"):
        as_prior(preliz.HalfNormal())
    with pytest.raises(PriorError, match="'VonMises' is not a prior"):
        as_prior(preliz.VonMises(0, 1))


# The density


@pytest.mark.parametrize(("prior", "same"), SAME, ids=[str(prior) for prior, _ in SAME])
def test_density_quantiles_and_moments_are_those_of_scipy(prior, same):
    x = np.concatenate([np.linspace(-8, 8, 161) + 0.012345, [1e-8, 1e3]])
    np.testing.assert_allclose(prior.logpdf(x), same.logpdf(x), rtol=1e-12, atol=1e-12)
    q = np.array([1e-6, 0.1, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(prior.quantile(q), same.ppf(q), rtol=1e-9, atol=1e-12)
    assert prior.median == pytest.approx(same.median())
    assert (prior.lower, prior.upper) == same.support()
    for mine, theirs in ((prior.mean, same.mean()), (prior.sd, same.std())):
        if mine is None:
            assert not np.isfinite(theirs)
        else:
            assert mine == pytest.approx(theirs, rel=1e-9)


def test_density_and_moments_of_the_half_t():
    x = np.linspace(0, 20, 41)
    np.testing.assert_allclose(HALF_T.logpdf(x), st.t(3, 0, 1.5).logpdf(x) + log(2), rtol=1e-12)
    assert HALF_T.median == pytest.approx(st.t(3, 0, 1.5).ppf(0.75))
    mean = quad(lambda v: v * np.exp(HALF_T.logpdf(v)), 0, inf)[0]
    assert HALF_T.mean == pytest.approx(mean)
    assert HALF_T.sd == pytest.approx((3 * 1.5**2 - mean**2) ** 0.5)
    assert Prior("HalfStudentT", nu=2, sigma=1).sd is None
    assert Prior("HalfStudentT", nu=1, sigma=1).mean is None


def test_an_inverse_gamma_on_the_variance_has_the_jacobian():
    s = np.linspace(0.1, 5, 40)
    np.testing.assert_allclose(
        ON_VARIANCE.logpdf(s), st.invgamma(3, 0, 2).logpdf(s**2) + np.log(2 * s), rtol=1e-12, atol=1e-12
    )
    assert ON_VARIANCE.median**2 == pytest.approx(st.invgamma(3, 0, 2).median())
    assert ON_VARIANCE.mean**2 + ON_VARIANCE.sd**2 == pytest.approx(1.0)  # mean of the variance: beta / (alpha - 1)


@pytest.mark.parametrize("prior", PROPER, **named)
def test_densities_integrate_to_one(prior):
    middle = prior.median
    density = lambda x: float(np.exp(prior.logpdf(x)))  # noqa: E731
    total = quad(density, prior.lower, middle)[0] + quad(density, middle, prior.upper)[0]
    assert total == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("prior", PROPER, **named)
def test_draws_follow_the_density(prior):
    draws = prior.rvs(np.random.default_rng(7), size=400)
    assert draws.shape == (400,)
    cdf = [quad(lambda x: float(np.exp(prior.logpdf(x))), prior.lower, v, limit=200)[0] for v in draws[:60]]
    assert st.kstest(cdf, "uniform").pvalue > 1e-3
    assert np.isscalar(prior.rvs(np.random.default_rng(1)))


@settings(deadline=None)
@given(x=some.floats(allow_nan=True, allow_infinity=True), prior=some.sampled_from(PROPER))
def test_density_is_quiet_everywhere(x, prior):
    value = prior.logpdf(x)
    if np.isnan(x):
        assert np.isnan(value)
    elif x < prior.lower or x > prior.upper or np.isinf(x):
        assert value == -inf
    else:
        assert value < inf
        assert not np.isnan(value)


def test_density_keeps_the_shape_of_its_argument():
    prior = Prior("HalfNormal", sigma=1)
    assert np.isscalar(prior.logpdf(1.0))
    assert np.isscalar(prior.logpdf(-1.0))
    assert prior.logpdf(np.array([[1, -1, 2]])).shape == (1, 3)


def test_penalised_complexity_states_the_probability_of_a_large_sd():
    prior = Prior("PenalizedComplexity", upper=10, alpha=0.01)
    assert prior.quantile(0.99) == pytest.approx(10)
    assert prior.pymc() == ("Exponential", {"lam": -log(0.01) / 10})


def test_flat_priors_have_constant_density_and_no_draws():
    for prior in (Prior("Flat"), Prior("HalfFlat")):
        assert prior.is_flat
        assert prior.logpdf(3.0) == 0
        assert prior.mean is None
        with pytest.raises(PriorError, match="its mass is infinite"):
            prior.rvs(np.random.default_rng(1), 3)
    assert Prior("HalfFlat").logpdf(-3.0) == -inf


def test_gaussian_priors_say_their_mean_and_precision():
    assert Prior("Normal", mu=1, sigma=2).gaussian == (1.0, 0.25)
    assert Prior("Flat").gaussian == (0.0, 0.0)
    assert Prior("Flat").is_gaussian
    assert Prior("StudentT", nu=3, sigma=1).gaussian is None


@pytest.mark.parametrize("eta", [0.7, 1.0, 2.5])
def test_lkj_of_two_effects_is_a_beta_density(eta):
    prior = Prior("LKJ", eta=eta)
    rho = np.linspace(-0.95, 0.95, 9)
    corr = np.stack([[np.ones(9), rho], [rho, np.ones(9)]]).transpose(2, 0, 1)
    np.testing.assert_allclose(prior.logpdf(corr), st.beta(eta, eta, -1, 2).logpdf(rho), rtol=1e-10)
    assert prior.logpdf([[1.0, 1.2], [1.2, 1.0]]) == -inf
    draws = prior.rvs(np.random.default_rng(1), 400)[:, 0, 1]
    assert st.kstest(draws, st.beta(eta, eta, -1, 2).cdf).pvalue > 1e-3


def test_lkj_of_three_effects_integrates_to_one_and_its_draws_have_its_margins():
    eta, rng = 1.5, np.random.default_rng(3)
    corr = lkj_draw(rng, eta, 3, (4000,))
    margin = st.beta(eta + 0.5, eta + 0.5, -1, 2)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert st.kstest(corr[:, i, j], margin.cdf).pvalue > 1e-3
    cube = np.tile(np.eye(3), (40000, 1, 1))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cube[:, i, j] = cube[:, j, i] = rng.uniform(-1, 1, len(cube))
    assert 8 * np.exp(lkj_logpdf(cube, eta)).mean() == pytest.approx(1, abs=0.03)


def test_dirichlet_is_that_of_scipy():
    x = SPLIT.rvs(np.random.default_rng(1), 5)
    np.testing.assert_allclose(SPLIT.logpdf(x), [st.dirichlet([1, 2.5, 0.5]).logpdf(row) for row in x], rtol=1e-12)
    assert Prior("Dirichlet", a=1).logpdf([0.2, 0.3, 0.5]) == pytest.approx(log(2))  # uniform on a triangle
    assert SPLIT.logpdf([0.2, 0.3, 0.6]) == SPLIT.logpdf([-0.2, 0.7, 0.5]) == -inf
    assert Prior("Dirichlet", a=2).rvs(np.random.default_rng(1), 7, r=4).shape == (7, 4)
    with pytest.raises(PriorError, match="distribution of shares"):
        SPLIT.quantile(0.5)


def test_densities_are_those_of_pymc():
    pm = pytest.importorskip("pymc")
    x = np.array([-2.5, -0.3, 1e-3, 0.4, 1.0, 2.2, 4.5, 30.0])
    covered = set()
    for prior in [*PROPER, Prior("Flat"), Prior("HalfFlat")]:
        name, params = prior.pymc()
        covered.add(prior.name)
        law = getattr(pm, name).dist(**params)
        if prior.on_variance:
            inside = x[x > 0]
            theirs = pm.logp(law, inside**2).eval(mode="FAST_COMPILE") + np.log(2 * inside)
            mine = prior.logpdf(inside)
        else:
            theirs, mine = pm.logp(law, x).eval(mode="FAST_COMPILE"), prior.logpdf(x)
        gap = 0.0
        if prior.name in ("HalfStudentT", "HalfCauchy", "TruncatedNormal"):
            # PyMC has log(2) or sqrt(2) in single precision here: off by a constant, which changes nothing
            inside = np.isfinite(mine).argmax()
            gap = mine[inside] - theirs[inside]
            assert abs(gap) < 1e-6
        np.testing.assert_allclose(mine, theirs + gap, rtol=1e-12, atol=1e-12, err_msg=str(prior))
    assert covered == set(FAMILIES) - {"LKJ", "Dirichlet"}
    values = [value for _, value in ON_VARIANCE.pymc()[1].items()]
    root = pm.CustomDist.dist(*values, dist=lambda *p: pm.math.sqrt(pm.InverseGamma.dist(*p[:-1], size=p[-1])))
    theirs = pm.logp(root, x).eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(ON_VARIANCE.logpdf(x), theirs, rtol=1e-12)
    corr = lkj_draw(np.random.default_rng(1), 2.0, 3)
    name, params = Prior("LKJ", eta=2).pymc()
    law = getattr(pm, name).dist(n=3, **params)
    factor = np.linalg.cholesky(corr)  # PyMC's density is that of the Cholesky factor
    jacobian = np.arange(2, -1, -1) @ np.log(np.diag(factor))
    theirs = float(pm.logp(law, factor).eval(mode="FAST_COMPILE"))
    assert lkj_logpdf(corr, 2.0) + jacobian == pytest.approx(theirs)


# The priors of a model


def level(name="u2", effects=("Intercept",), columns=None, correlated=True, label="subject"):
    columns = np.ones((len(DAYS), 1)) if columns is None else columns
    return LevelDesign(
        name=name, level=Level(group=label, correlated=correlated), groups=("1",), effects=effects,
        index=np.zeros(len(columns), dtype=np.int64), columns=columns,
    )  # fmt: skip


DAYS = np.tile(np.arange(10.0), 6)
Y = 250 + 10 * DAYS + 30 * np.sin(np.arange(60))
BOTH = np.column_stack([np.ones(60), DAYS])


def model(X=BOTH, coef=("Intercept", "Days"), levels=None, y=Y):
    levels = (
        (level(effects=("Intercept", "Days"), columns=BOTH), level("u3", label="site")) if levels is None else levels
    )
    residual = build_residual(Residual(), pd.DataFrame({"y": y}))
    return SimpleNamespace(
        y=y, net_y=y, X=X, counted=CountedRows(y=y, X=X), coef=coef, levels=levels, n=len(y), p=X.shape[1],
        residual=residual,
        terms=terms(coef), level_terms=lambda k: terms(levels[k].effects), level_factors=lambda k: frozenset(),
    )  # fmt: skip


def terms(names):
    return tuple((k, frozenset(set(name.split("[")[0].split(":")) - {"Intercept"})) for k, name in enumerate(names))


def test_defaults_are_scaled_by_the_data():
    priors = resolve_priors(model(), None)
    sd_y, sd_x = Y.std(ddof=1), DAYS.std(ddof=1)
    intercept, days = priors.beta
    assert intercept.mean == pytest.approx(Y.mean(), abs=0.01 * intercept.sd)
    assert intercept.sd == pytest.approx(2.5 * sd_y, rel=5e-3)  # at the mean of Days
    assert (days.mean, days.sd) == (0, pytest.approx(2.5 * sd_y / sd_x, rel=5e-3))
    assert priors.sigma == Prior("HalfStudentT", nu=3, sigma=float(f"{sd_y:.3g}"))
    assert priors.sd == (
        (priors.sigma, Prior("HalfStudentT", nu=3, sigma=float(f"{sd_y / sd_x:.3g}"))),
        (priors.sigma,),
    )
    assert priors.corr == (Prior("LKJ", eta=2), None)


def test_the_table_prints_the_priors_used_with_their_reasons():
    priors = resolve_priors(model(), {"sigma_u3": "HalfNormal(sigma=20)"})
    table = priors.table()
    assert list(table.columns) == ["parameter", "prior", "source", "reason"]
    assert list(table["parameter"]) == [
        "beta[Intercept]",
        "beta[Days]",
        "sigma",
        "sigma_u2[Intercept]",
        "sigma_u2[Days]",
        "corr_u2",
        "sigma_u3",
    ]
    used = [*priors.beta, priors.sigma, *priors.sd[0], priors.corr[0], *priors.sd[1]]
    assert [Prior.parse(text) for text in table["prior"]] == used
    assert list(table["source"]) == ["default"] * 6 + ["given"]
    assert table["reason"].str.len().min() > 0
    assert "2.5 SDs of y per SD of Days" in table["reason"][1]


def test_the_intercept_keeps_its_digits_when_y_is_far_from_zero():
    y = 1234567 + 0.3 * np.sin(np.arange(60))
    prior = resolve_priors(model(np.ones((60, 1)), ("Intercept",), (), y)).beta[0]
    assert prior.mean == pytest.approx(y.mean(), abs=0.01 * prior.sd)


def test_cell_means_are_centred_at_the_mean_of_y():
    cells = np.eye(2)[np.arange(60) % 2]
    wide = 2.5 * Y.std(ddof=1)
    for prior in resolve_priors(model(cells, ("f[a]", "f[b]"), ())).beta:
        assert prior.mean == pytest.approx(Y.mean(), rel=0.01)
        assert prior.sd == pytest.approx(wide, rel=5e-3)
    a, b, days = resolve_priors(model(np.column_stack([cells, DAYS]), ("f[a]", "f[b]", "Days"), ())).beta
    assert a == b
    assert a.mean == pytest.approx(Y.mean(), rel=0.01)
    assert a.sd == pytest.approx(wide, rel=5e-3)  # at the mean of Days
    assert days.mean == 0


def test_a_slope_without_an_intercept_is_centred_at_zero():
    (prior,) = resolve_priors(model(DAYS[:, None], ("Days",), ())).beta
    assert (prior.mean, prior.sd) == (0, pytest.approx(2.5 * Y.std(ddof=1) / DAYS.std(ddof=1), rel=5e-3))


def test_effects_of_indicator_columns_are_on_the_scale_of_y():
    columns = np.eye(2)[np.arange(60) % 2]
    priors = resolve_priors(model(levels=(level(effects=("f[a]", "f[b]"), columns=columns),)))
    assert priors.sd[0] == (priors.sigma, priors.sigma)


@settings(deadline=None, max_examples=30)
@given(shift=some.floats(-1e3, 1e3), scale=some.sampled_from([1e-6, 0.01, 1, 32, 1e6]))
def test_defaults_follow_shift_and_scale_of_y(shift, scale):
    base, moved = resolve_priors(model()), resolve_priors(model(y=shift + scale * Y))
    assert moved.sigma.params["sigma"] == pytest.approx(scale * base.sigma.params["sigma"], rel=0.011)
    for mine, theirs in zip(moved.beta, base.beta, strict=True):
        assert mine.sd == pytest.approx(scale * theirs.sd, rel=0.011)
    assert moved.beta[0].mean == pytest.approx(shift + scale * base.beta[0].mean, abs=0.02 * moved.beta[0].sd)


def test_given_priors_replace_defaults_and_the_specific_key_wins():
    n1, n2 = Prior("Normal", sigma=1), Prior("Normal", sigma=2)
    h1, h2 = Prior("HalfNormal", sigma=1), Prior("HalfNormal", sigma=2)
    for keys in ({"beta": n1, "Days": n2}, {"Days": n2, "beta": n1}, {"beta[Days]": n2, "beta": str(n1)}):
        assert resolve_priors(model(), keys).beta == (n1, n2)
    assert resolve_priors(model(), {"beta": {"Days": n2}}).beta[1] == n2
    assert resolve_priors(model(), {"sigma_u2": h1}).sd[0] == (h1, h1)
    assert resolve_priors(model(), {"sigma_u2": {"Days": h2}}).sd[0][1] == h2
    assert resolve_priors(model(), {"sigma_u2[Days]": h2, "sigma_u2": h1}).sd[0] == (h1, h2)
    assert resolve_priors(model(), {"sigma_u3[Intercept]": h2}).sd[1] == (h2,)
    for lkj in (4, "LKJ(eta=4)", Prior("LKJ", eta=4)):
        assert resolve_priors(model(), {"corr_u2": lkj}).corr[0] == Prior("LKJ", eta=4)
    assert resolve_priors(model(), {"sigma": "Uniform(lower=0, upper=100)"}).sigma.upper == 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"days": "Normal(sigma=1)"}, "Did you mean 'Days'.*Intercept, Days.*beta, sigma_u2"),
        ({"sigma_u9": "HalfNormal(sigma=1)"}, "'sigma_u9' is not a parameter.*Did you mean 'sigma_u"),
        ({"sigma_u2": {"days": "HalfNormal(sigma=1)"}}, "sigma_u2 has no 'days'. Did you mean 'Days'"),
        ({"sigma": "Normal(sigma=1)"}, r"allows negative values. Write HalfNormal\(sigma=1\)"),
        ({"sigma": "Normal(mu=3, sigma=1)"}, r"Write TruncatedNormal\(mu=3, sigma=1, lower=0\)"),
        ({"sigma_u2": "StudentT(nu=3, sigma=1)"}, r"Write HalfStudentT\(nu=3, sigma=1\)"),
        ({"sigma_u2[Days]": "Cauchy(alpha=0, beta=1)"}, r"sigma_u2\[Days\].*Write HalfCauchy\(beta=1\)"),
        ({"sigma": "Uniform(lower=-1, upper=1)"}, r"Write Uniform\(lower=0, upper=1\)"),
        ({"sigma": "Flat()"}, r"Write HalfFlat\(\)"),
        ({"sigma": "LKJ(eta=2)"}, "prior for correlations of effects, not for sigma"),
        ({"beta": "LKJ(eta=2)"}, "prior for correlations of effects, not for beta"),
        ({"Days": "PenalizedComplexity(upper=1, alpha=0.05)"}, r"prior for an SD, not for beta\[Days\]"),
        ({"corr_u2": "Normal(sigma=1)"}, r"Write LKJ\(eta=2\)"),
        ({"corr_u3": "LKJ(eta=2)"}, "site .u3. has no correlations: its only effect is Intercept"),
        ({"Days": 3}, r"Prior of beta\[Days\]: A prior was expected"),
        ({"Days": "Nrmal(sigma=1)"}, r"Prior of beta\[Days\]: .*Did you mean 'Normal'"),
        ({3: "Normal(sigma=1)"}, "3 is not a parameter"),
        (["Normal(sigma=1)"], "Priors come as a mapping"),
    ],
)
def test_priors_that_do_not_fit_are_explained(given, message):
    with pytest.raises(PriorError, match=message):
        resolve_priors(model(), given)


def test_independent_effects_have_no_correlation_to_give_a_prior():
    design = model(levels=(level(effects=("Intercept", "Days"), columns=BOTH, correlated=False),))
    assert resolve_priors(design).corr == (None,)
    with pytest.raises(PriorError, match=r"independent, \(... \|\| subject\)"):
        resolve_priors(design, {"corr_u2": 2})


# The parameters of R


def rows(residual, **levels):
    """24 rows: 6 subjects with 4 visits each, three treatments."""
    data = {
        "y": (10 + np.sin(np.arange(24))).tolist(),
        "s": np.repeat(list("abcdef"), 4).tolist(),
        "t": [*range(4)] * 6,
        "f": [*"ppqqrrpq"] * 3,
        "w": [4.0] * 24,
    }
    return build_design(Hierarchy.from_formula("y ~ 1 + (1 | s)", residual=residual, **levels), data)


AR1 = Residual(structure="ar1", group="s", time="t")
CS = Residual(structure="cs", group="s")
STRATA = Residual(structure="strata", by="f")


def test_a_correlation_of_rows_is_uniform_where_R_is_positive_definite():
    assert resolve_priors(rows(AR1)).residual == (Prior("Uniform", lower=-1, upper=1),)
    (prior,) = resolve_priors(rows(CS)).residual
    assert prior == Prior("Uniform", lower=-0.333, upper=1)  # groups of 4: above -1/3
    row = resolve_priors(rows(CS)).table().set_index("parameter").loc["rho"]
    assert "positive definite" in row["reason"]
    assert Prior.parse(row["prior"]) == prior


def test_ratios_of_SDs_have_a_prior_per_stratum():
    n, h = Prior("LogNormal", mu=0, sigma=1), Prior("HalfNormal", sigma=2)
    assert resolve_priors(rows(STRATA)).residual == (n, n)
    assert n.quantile(0.975) == pytest.approx(7.1, abs=0.01)  # the factor that the reason names
    assert resolve_priors(rows(STRATA), {"sigma_ratio": str(h)}).residual == (h, h)
    assert resolve_priors(rows(STRATA), {"sigma_ratio": {"r": h}}).residual == (n, h)
    assert resolve_priors(rows(STRATA), {"sigma_ratio[q]": h}).residual == (h, n)
    table = resolve_priors(rows(STRATA), {"sigma_ratio[q]": h}).table().set_index("parameter")
    assert "residual SD of f r over that of f p" in table.loc["sigma_ratio[r]", "reason"]
    assert "rows with f p" in table.loc["sigma", "reason"]


def test_rho_and_ratios_stand_in_the_order_of_the_design():
    design = rows(Residual(structure="ar1", group="s", time="t", by="f"))
    half = Prior("Uniform", lower=0, upper=1)
    assert [one.label for one in design.residual.parameters] == ["rho", "sigma_ratio[q]", "sigma_ratio[r]"]
    assert resolve_priors(design, {"rho": half}).residual[0] == half
    assert list(resolve_priors(design).table()["parameter"])[-3:] == ["rho", "sigma_ratio[q]", "sigma_ratio[r]"]


def test_weights_scale_the_default_of_sigma():
    plain, weighted = resolve_priors(rows(Residual())), resolve_priors(rows(Residual(weights="w")))
    assert weighted.sigma.params["sigma"] == pytest.approx(2 * plain.sigma.params["sigma"], rel=0.01)
    assert weighted.sd == plain.sd


def test_a_level_of_known_covariance_has_no_SD():

    from bayeslmm.description.hierarchy import Level

    K = pd.DataFrame(np.eye(6) + 0.1, index=list("abcdef"), columns=list("abcdef"))
    data = {"y": np.sin(np.arange(24)).tolist(), "s": np.repeat(list("abcdef"), 4).tolist()}
    known = Level(group="s", covariance=K, known=True)
    design = build_design(Hierarchy(response="y", levels=(known,)), data)
    priors = resolve_priors(design)
    assert priors.sd == ((),)
    assert list(priors.table()["parameter"]) == ["beta[Intercept]", "sigma"]
    with pytest.raises(PriorError, match=r"s \(u2\) has no SD to give a prior.*sigma\^2 K.*Leave 'sigma_u2' out"):
        resolve_priors(design, {"sigma_u2": "HalfNormal(sigma=1)"})


@pytest.mark.parametrize(
    ("residual", "given", "message"),
    [
        (CS, {"rho": "Uniform(lower=-1, upper=1)"}, r"between -0.3333 and 1.*Write Uniform\(lower=-0.333, upper=1"),
        (AR1, {"rho": "Normal(sigma=0.5)"}, "between -1 and 1 only"),
        (AR1, {"rho": "HalfNormal(sigma=0.5)"}, "goes beyond that"),
        (AR1, {"rho": "LKJ(eta=2)"}, "prior for correlations of effects, not for rho"),
        (AR1, {"sigma_ratio": "LogNormal(sigma=1)"}, "'sigma_ratio' is not a parameter of this model"),
        (STRATA, {"rho": "Uniform(lower=0, upper=1)"}, "'rho' is not a parameter"),
        (STRATA, {"sigma_ratio": {"p": "LogNormal(sigma=1)"}}, "sigma_ratio has no 'p'.*It has q, r"),
        (STRATA, {"sigma_ratio[q]": "Normal(sigma=1)"}, "ratio of standard deviations; .* allows negative values"),
    ],
)
def test_priors_that_do_not_suit_R_are_explained(residual, given, message):
    with pytest.raises(PriorError, match=message):
        resolve_priors(rows(residual), given)


@pytest.mark.parametrize("text", ["Beta(alpha=2, beta=2)", "TruncatedNormal(mu=0.5, sigma=0.2, lower=-0.3, upper=1)"])
def test_priors_within_the_bounds_of_rho_are_taken(text):
    assert resolve_priors(rows(CS), {"rho": text}).residual == (Prior.parse(text),)
