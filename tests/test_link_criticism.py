"""ArviZ's groups of GLMMs' posteriors, and what is left out of them: SciPy, PyMC, brute force."""

from __future__ import annotations

import warnings

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from link_models import SLOPES_MODEL, cbpp, epil, fake, wine
from scipy import stats
from scipy.special import expit
from test_glmm import made_up, table

import bayeslmm as blm
from bayeslmm.criticism.link_groups import complete_link
from bayeslmm.criticism.link_left_out import OneLevel
from bayeslmm.criticism.link_prior import draw_prior, link_log_prior
from bayeslmm.errors import DataError, DescriptionError, PriorError
from bayeslmm.posterior.link_draws import LinkValues
from tests.registry import CASES

# ArviZ's groups -------------------------------------------------------------------------------------------------------

DENSITIES = {
    "binomial": lambda y, N, eta, own: stats.binom.logpmf(y, N, expit(eta)),
    "poisson": lambda y, N, eta, own: stats.poisson.logpmf(y, np.exp(eta)),
    "negative_binomial": lambda y, N, eta, own: stats.nbinom.logpmf(y, own[0], own[0] / (own[0] + np.exp(eta))),
    "gamma": lambda y, N, eta, own: stats.gamma.logpdf(y, own[0], scale=np.exp(eta) / own[0]),
    "student_t": lambda y, N, eta, own: stats.t.logpdf(y, own[1], loc=eta, scale=own[0]),
}


@pytest.mark.parametrize("family", DENSITIES)
def test_log_likelihoods_are_those_of_scipy(family):
    case = next(case for case in CASES if case.name == "slope")
    model = made_up(case, family) if family != "student_t" else blm.GLMM(case.formula, case.data(), family=family)
    tree = fake(model, draws=4, size=0.3)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    found = tree["log_likelihood"]["y"].values[0]
    for d in range(4):
        expected = DENSITIES[family](model.outcome.y, 1, values.eta()[d], values.dispersion[d])
        np.testing.assert_allclose(found[d], expected, rtol=1e-9)


def test_groups_are_parts_of_themselves_and_arviz_reads_them():
    model = cbpp()
    tree = fake(model, draws=150, size=0.3)
    whole = tree["posterior_predictive"]["y"].values
    part = complete_link(model, _bare(tree))["posterior_predictive"]["y"].isel(draw=slice(40, 50), row=[3, 1]).values
    np.testing.assert_array_equal(part, whole[:, 40:50][..., [3, 1]])
    assert set(tree.children) >= {"prior", "prior_predictive", "log_prior", "constant_data", "log_likelihood"}
    np.testing.assert_array_equal(tree["constant_data"]["trials"], model.outcome.trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(az.loo(tree).elpd)


def _bare(tree):
    bare = xr.DataTree.from_dict({"/posterior": tree["posterior"].to_dataset()})
    bare.attrs |= tree.attrs
    return bare


@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_log_priors_are_pymc_s(family):
    """At each draw, the free variables of the joint model but for the effects; Jacobians left aside."""
    model = epil(family, "y ~ lbase + (1 | subject)")
    joint = model.joint(centered=True)
    values = draw_prior(model, 3, np.random.default_rng(1))
    found = link_log_prior(model, values)
    free = [rv for rv in joint.free_RVs if rv.name != "u2"]
    logp = joint.compile_logp(vars=free, jacobian=False, sum=False)
    for d in range(3):
        point = joint.initial_point()
        stated = (
            values["beta"][d] @ model.priors.beta_anchor.inverse.T if model.priors.beta_anchor else values["beta"][d]
        )
        own = {"beta": stated, "sigma_u2": values["sigma_u2"][d], "alpha": values.get("alpha", np.ones(3))[d]}
        for rv in free:
            value = joint.rvs_to_values[rv]
            name = rv.name if rv.name in own else "beta"
            transformed = joint.rvs_to_transforms[rv]
            point[value.name] = np.log(own[name]) if transformed is not None else own[name]
        total = sum(np.sum(x) for x in logp(point))
        assert sum(x[d].sum() for x in found.values()) == pytest.approx(total, rel=1e-6)


def test_thresholds_of_the_prior_ascend_and_have_their_density():
    """Two neighbours: their difference, of two normals given that it is positive."""
    data = {"y": [1, 2, 3] * 6, "g": list("aabbcc") * 3}
    model = blm.GLMM(
        "y ~ 1 + (1 | g)", data, family="cumulative", priors={"threshold": blm.Prior("Normal", mu=0, sigma=1)}
    )
    cuts = draw_prior(model, 20_000, np.random.default_rng(1))["threshold"]
    assert (np.diff(cuts, axis=1) > 0).all()
    gap = cuts[:, 1] - cuts[:, 0]
    law = stats.halfnorm(scale=np.sqrt(2))
    assert abs(gap.mean() - law.mean()) < 5 * law.std() / np.sqrt(len(gap))


def test_flat_priors_have_no_draws():
    model = blm.GLMM(
        "y ~ 1 + (1 | g)", {"y": [0, 3, 1, 0], "g": list("aabb")}, family="poisson", priors={"beta": blm.Prior("Flat")}
    )
    with pytest.raises(PriorError, match="flat"):
        model.prior_predictive()


# What is left out -----------------------------------------------------------------------------------------------------


def brute(values: LinkValues, d: int, rows: np.ndarray, k: int = 0) -> float:
    """log of the integral over the effects of one group, on a fine grid."""
    if not len(rows):
        return 0.0
    one = values.some(slice(d, d + 1))
    model, level = one.model, one.model.design.levels[k]
    r = level.r
    axis = np.linspace(-30, 30, 20_001) if r == 1 else np.linspace(-9, 9, 201)
    z = np.stack(np.meshgrid(*[axis] * r), axis=-1).reshape(-1, r)
    eta = one.eta(rows, without=(k,))[0] + z @ (level.columns[rows] @ one.factors[k][0]).T
    logp = model.family.logpdf(model.outcome.part(rows), eta, one.psi[0]).sum(axis=1)
    logp = logp - 0.5 * (z**2).sum(axis=1) - r / 2 * np.log(2 * np.pi) + r * np.log(axis[1] - axis[0])
    return float(np.logaddexp.reduce(logp))


LEFT_OUT = {
    "binomial": cbpp, "poisson": epil, "cumulative": wine,
    "two effects": lambda: epil("negative_binomial", SLOPES_MODEL),
    "crossed": lambda: blm.GLMM(
        "rating ~ temp + (1 | judge) + (1 | bottle)", table("wine"), family="cumulative(probit)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_groups_and_rows_left_out_are_integrals(name):
    model = LEFT_OUT[name]()
    values = LinkValues.of_posterior(model, fake(model, draws=3, size=0.3)["posterior"].to_dataset())
    one = OneLevel(values=values, k=0)
    (groups, _), (by_row, left) = one.nodes(by_row=False), one.nodes(by_row=True)
    whole, rows = one.of_groups(groups), one.of_rows(by_row)
    assert left < 0.01
    index = model.design.levels[0].index
    for g in (0, 3, 5):
        own = np.flatnonzero(index == g)
        total = brute(values, 1, own)
        assert whole[g, 1] == pytest.approx(total, abs=1e-3)
        for i in own[:2]:
            assert rows[i, 1] == pytest.approx(total - brute(values, 1, np.setdiff1d(own, [i])), abs=2e-3)


def test_a_row_that_is_most_of_its_group_is_left_out_exactly():
    """A group whose one row has 400 trials, its other ones 1 and 2: without it little is known."""
    data = {"a": [150, 0, 1, 3, 1, 2], "b": [250, 1, 1, 4, 0, 2], "g": list("xxxyyz")}
    model = blm.GLMM("cbind(a, b) ~ 1 + (1 | g)", data, family="binomial")
    values = LinkValues.of_posterior(model, fake(model, draws=20, size=0.5)["posterior"].to_dataset())
    found = OneLevel(values=values, k=0).of_rows(41)
    for i, rest in ((0, [1, 2]), (5, []), (3, [4])):
        own = np.array(sorted([i, *rest]))
        expected = [brute(values, d, own) - brute(values, d, np.array(rest, dtype=int)) for d in range(20)]
        np.testing.assert_allclose(found[i], expected, atol=2e-3)


def test_a_whole_outer_group_is_a_nested_integral():
    case = next(case for case in CASES if "/" in case.formula)
    model = made_up(case, "poisson")
    tree = fake(model, draws=100, size=0.3)
    values = LinkValues.of_posterior(model, tree["posterior"].to_dataset())
    from bayeslmm.criticism.link_loo import _densities, integrated_levels
    from bayeslmm.criticism.units import units_of
    from bayeslmm.support.progress import Progress

    outer = max(range(2), key=lambda k: -model.design.levels[k].m)
    units = units_of(model.design, model.design.levels[outer].label)
    few = values.some(slice(0, 2))
    found, _ = _densities(few, integrated_levels(model, units), units, Progress(False))
    inner = 1 - outer
    axis = np.linspace(-8, 8, 401)
    weight = stats.norm.logpdf(axis) + np.log(axis[1] - axis[0])
    eta = few.eta(without=(0, 1))
    for d in range(2):
        s = [float(abs(F[d, 0, 0])) for F in few.factors]
        for unit in range(2):
            rows = np.flatnonzero(units.index == unit)
            total = np.zeros(len(axis))
            for g in np.unique(model.design.levels[inner].index[rows]):
                own = rows[model.design.levels[inner].index[rows] == g]
                lp = (
                    model.outcome.y[own, None, None],
                    eta[d, own, None, None] + s[inner] * axis + s[outer] * axis[:, None],
                )
                inside = stats.poisson.logpmf(lp[0], np.exp(lp[1])).sum(axis=0)
                total += np.logaddexp.reduce(inside + weight, axis=1)
            assert found[unit, d] == pytest.approx(np.logaddexp.reduce(total + weight), abs=2e-3)


def test_one_group_left_out_says_what_was_integrated():
    model = LEFT_OUT["crossed"]()
    tree = fake(model, draws=120, size=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo = model.loo(tree, unit="bottle", progress=False)
    assert loo.integrated == ("bottle",)
    assert loo.given == ("judge",)
    assert "bottle are integrated out by quadrature" in loo.note
    assert "judge, which are taken from the draws" in loo.note
    assert loo.elpd == pytest.approx(loo.table["elpd"].sum())
    assert loo.to_arviz().n_data_points == 8
    assert "Leave one bottle out" in repr(loo)


def test_what_can_t_be_left_out():
    model = blm.GLMM(
        "y ~ 1 + (1 | g)", {"y": [0, 3, 1, 0, 5, 9], "g": list("aabbcc")}, family="poisson",
        covariance={"g": pd.DataFrame(np.eye(3) + 0.5, list("abc"), list("abc"))},
    )  # fmt: skip
    tree = fake(model, draws=100, size=0.3)
    with pytest.raises(DescriptionError, match=r"known covariance.*unit='row'"):
        model.loo(tree, unit="g", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo, other = model.loo(tree, progress=False), az.loo(tree, reff=1.0)
    assert loo.integrated == ()
    assert loo.elpd == pytest.approx(float(other.elpd), rel=1e-9)  # nothing can be integrated out
    with pytest.raises(DataError, match="at least 100 are needed"):
        model.loo(fake(model, draws=20), progress=False)
    with pytest.raises(DescriptionError, match="no unit of this model"):
        model.loo(tree, unit="h", progress=False)


def test_models_are_compared_by_what_they_predict():
    data = table("epil")
    models = {
        name: blm.GLMM("y ~ lbase + (1 | subject)", data, family=name) for name in ("poisson", "negative_binomial")
    }
    trees = {name: fake(model, draws=120, size=0.1) for name, model in models.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = blm.compare_models(models, unit="subject", posteriors=trees, progress=False)
        assert set(both.predictive.index) == set(models)
        assert not both.tests
        assert not len(both.bayes)
        assert both.likelihood["status"].str.contains("quadrature").all()
        assert "predicts a new subject best" in both.text
    with pytest.raises(DataError, match="density of y, unlike"):
        blm.compare_models({**models, "lmm": blm.LMM("y ~ lbase + (1 | subject)", data)}, posteriors=trees)
