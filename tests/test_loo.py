"""Leaving out rows and groups: the closed form against dense normals, the reweighting against fits without the unit."""

import numpy as np
import pytest
import scipy.stats as st

import bayeslmm as blm
from bayeslmm.criticism.components import Split, affordable_split
from bayeslmm.criticism.left_out import left_out_densities
from bayeslmm.criticism.loo import density_of_unit
from bayeslmm.criticism.refit import part_of, posterior_without
from bayeslmm.criticism.sensitivity import marginal_log_likelihood
from bayeslmm.criticism.units import units_of
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.factorisation.statistics import build_statistics
from tests.registry import CASES as DESIGNS
from tests.structured import COVER, dense_R


def draws_of(lmm: blm.LMM, draws: int = 2) -> dict[str, np.ndarray]:
    """Parameters and effects (N, ...): draws of the prior will do, for identities."""
    prior = lmm.prior_predictive(draws=draws, random_seed=1)["prior"].to_dataset()
    return {str(name): x.to_numpy().reshape(-1, *x.shape[2:]) for name, x in prior.data_vars.items()}


def dense(lmm: blm.LMM, split: Split, values: dict[str, np.ndarray], s: int) -> tuple[np.ndarray, np.ndarray]:
    """(r, V) with y - r fixed by what is given and r ~ N(0, V), from the definitions."""
    design = lmm.design
    given = {
        level.name: values[level.name][s].reshape(level.m, level.r)
        for k, level in enumerate(design.levels)
        if k not in split.integrated
    }
    r = design.y - linear_predictor(design, values["beta"][s], given)
    psi = [values[p.name][s] for p in design.residual.own]
    psi += list(values["sigma_ratio"][s]) if design.residual.strata else []
    V = values["sigma"][s] ** 2 * dense_R(design, psi)
    for k in split.integrated:
        level = design.levels[k]
        names = level_names(level)
        sd = np.broadcast_to(values[names.sigma if level.n_sds else "sigma"][s], level.r)
        corr = values[names.corr][s] if level.correlated else np.eye(level.r)
        K = np.eye(level.m) if level.root is None else level.root @ level.root.T
        Z = level.Z.toarray()
        V += Z @ np.kron(K, sd[:, None] * corr * sd) @ Z.T
    return r, V


def check_closed_form(lmm: blm.LMM, split: Split, unit: str) -> None:
    values, units = draws_of(lmm), units_of(lmm.design, unit)
    total = np.zeros((len(units.labels), 2))
    for which, logp in left_out_densities(split, units, values):
        total[which] += logp
    for s in range(2):
        r, V = dense(lmm, split, values, s)
        whole = st.multivariate_normal(cov=V, allow_singular=False).logpdf(r)
        for u in sorted({0, len(units.labels) // 2, len(units.labels) - 1}):
            rest = np.flatnonzero(units.index != u)
            without = st.multivariate_normal(cov=V[np.ix_(rest, rest)]).logpdf(r[rest]) if rest.size else 0.0
            # a difference of two densities, each with a condition number's worth of rounding
            assert total[u, s] == pytest.approx(whole - without, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("design", DESIGNS, ids=lambda one: one.name)
def test_the_density_of_a_unit_given_the_others_is_the_dense_one(design):
    lmm = design.lmm()
    for unit in ("row", *(level.label for level in lmm.design.levels)):
        split = affordable_split(lmm.statistics, units_of(lmm.design, unit))
        assert not split.given
        check_closed_form(lmm, split, unit)


@pytest.mark.parametrize("case", COVER, ids=str)
def test_so_it_is_for_known_covariances_and_structured_residuals(case):
    lmm = case.lmm()
    for unit in ("row", *(level.label for level in lmm.design.levels)):
        check_closed_form(lmm, affordable_split(lmm.statistics, units_of(lmm.design, unit)), unit)


@pytest.mark.parametrize("name", ["nested in three", "crossed", "nested and crossed with slopes"])
def test_so_it_is_where_some_effects_are_given(name):
    lmm = {one.name: one for one in DESIGNS}[name].lmm()
    levels = range(len(lmm.design.levels))
    for k in levels:
        check_closed_form(lmm, Split(stats=lmm.statistics, integrated=tuple(j for j in levels if j != k)), "row")


def test_what_is_left_out_is_never_given():
    """Nor what is nested in it: of its effects the draws know from the unit alone."""
    lmm = blm.example("chem97")
    lea = units_of(lmm.design, "lea")
    assert affordable_split(lmm.statistics, lea).integrated == (0, 1)


@pytest.mark.parametrize("name", ["sleepstudy", "penicillin", "ovary"])
def test_the_closed_form_is_the_likelihood_of_all_less_that_of_the_rest(name):
    """A second way, through the factorisation of the data without the unit."""
    lmm = blm.example(name)
    values, design = draws_of(lmm, 3), lmm.design
    units = units_of(design, design.levels[0].label)
    split = affordable_split(lmm.statistics, units)
    for u in (0, len(units.labels) - 1):
        here = np.flatnonzero(units.index == u)
        part = part_of(design, np.delete(np.arange(design.n), here))
        rest = blm.Model(hierarchy=lmm.hierarchy, design=part, given_priors=lmm.given_priors)
        own = values | {
            level.name: values[level.name][:, [design.levels[k].groups.index(g) for g in level.groups]]
            for k, level in enumerate(part.levels)
        }
        assert build_statistics(part).design.n == design.n - len(here)
        expected = marginal_log_likelihood(lmm, values) - marginal_log_likelihood(rest, own)
        np.testing.assert_allclose(density_of_unit(split, units.only(u), values), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "unit"), [("dyestuff", "Batch"), ("heights", "school"), ("sleepstudy", "Subject")])
def test_reweighting_is_fitting_without_the_unit(name, unit):
    """elpd of each unit against the posterior without it, drawn anew: 5 Monte Carlo errors, the weights' among them."""
    lmm = blm.example(name)
    loo = lmm.loo(lmm.sample(draws=2000, random_seed=1, progress=False), unit, refit=False, progress=False)
    units = units_of(lmm.design, unit)
    split = affordable_split(lmm.statistics, units)
    for u in range(min(len(units.labels), 4)):
        values = posterior_without(lmm, np.flatnonzero(units.index == u), 4000, seed=2)
        p = np.exp(density_of_unit(split, units.only(u), values))
        error = p.std() / p.mean() / np.sqrt(p.size / 3)  # chains' effective sizes are a third of their lengths
        assert abs(loo.table["elpd"].iloc[u] - np.log(p.mean())) < 5 * error + 0.05, loo.table.index[u]


def test_units_whose_weights_fail_are_refitted_and_said_so():
    data = {"y": [0.1, -0.3, 0.2, 0.0, 0.3, -0.1, 0.2, -0.2, 30.0, 30.4], "g": list("aabbccddee")}
    lmm = blm.LMM("y ~ 1 + (1 | g)", data)
    tree = lmm.sample(draws=500, random_seed=1, progress=False)
    raw, loo = (lmm.loo(tree, "g", refit=refit, progress=False) for refit in (False, True))
    assert raw.unreliable == ["e"]
    assert "Not to be relied on: 'e'" in raw.note
    assert loo.table.index[loo.table["refitted"]].tolist() == ["e"]
    assert not loo.unreliable
    assert loo.elpd < raw.elpd
    assert "For 1 unit the weights failed" in loo.note


def test_arviz_compares_them():
    import arviz as az

    data = blm.example_data("sleepstudy")
    models = {name: blm.LMM(f"Reaction ~ 1 + Days + {bar}", data) for name, bar in
              (("slopes", "(1 + Days | Subject)"), ("intercepts", "(1 | Subject)"))}  # fmt: skip
    loos = {
        name: lmm.loo(lmm.sample(draws=500, random_seed=1, progress=False), "Subject", progress=False).to_arviz()
        for name, lmm in models.items()
    }
    table = az.compare(loos)
    assert table.index[0] == "slopes"


def test_what_is_no_unit_and_no_posterior_is_refused():
    lmm = blm.example("dyestuff")
    tree = lmm.sample(draws=5, chains=1, random_seed=1, progress=False)
    with pytest.raises(DataError, match="5 draws; at least 100 are needed"):
        lmm.loo(tree)
    with pytest.raises(DescriptionError, match=r"unit='batch' is no unit of this model; expected 'row' or 'Batch'"):
        lmm.loo(tree, "batch")
    with pytest.raises(DataError, match=r"lmm\.loo"):
        lmm.loo(lmm.reml())


def test_without_fixed_effects_it_works_too():
    lmm = blm.LMM("y ~ 0 + (1 | g)", {"y": [1.0, 2, -4, 5, 8, -9], "g": list("aabbcc")})
    assert np.isfinite(lmm.loo(lmm.sample(draws=100, random_seed=1, progress=False), "g", progress=False).elpd)


def test_the_order_of_units_does_not_depend_on_the_unit_of_y():
    data = blm.example_data("radon").iloc[:200]
    made = []
    for c in (1e-6, 1.0, 1e6):
        lmm = blm.LMM("log_radon ~ 1 + floor + (1 | county)", data.assign(log_radon=c * data["log_radon"]))
        loo = lmm.loo(lmm.sample(draws=200, random_seed=1, progress=False), "county", refit=False, progress=False)
        made.append(loo.summary.frame.index.tolist())
    assert made[0] == made[1] == made[2]


def test_rows_keep_their_labels():
    lmm = blm.example("dyestuff")
    table = lmm.loo(lmm.sample(draws=100, random_seed=1, progress=False), progress=False).table
    assert table.index.tolist() == lmm.design.rows.tolist()
