"""What priors on SDs imply, against the dense covariance of y at the same draws."""

import numpy as np
import pytest
import scipy.stats as st

import bayeslmm as blm
from bayeslmm.criticism.prior_predictive import draw_parameters
from bayeslmm.errors import PriorError
from bayeslmm.theory.density import conditional_moments
from tests.registry import BY_NAME
from tests.structured import LEVELS, RESIDUALS, Structured, dense_V

DRAWS = 20
STRUCTURED = [Structured(levels=a, residual="iid") for a in LEVELS if a != "none"]
STRUCTURED += [Structured(levels="crossed with slopes", residual=b) for b in RESIDUALS if b != "iid"]


def dense(lmm, seed: int) -> list[np.ndarray]:
    """Var y at each of the draws that `implied_priors` makes with this seed."""
    values = draw_parameters(lmm.design, lmm.priors, DRAWS, np.random.default_rng(seed))
    out = []
    for d in range(DRAWS):
        sigma = values["sigma"][d]
        lambdas = []
        for level in lmm.design.levels:
            sd = np.atleast_1d(values["sigma" if level.known else f"sigma_{level.name}"][d])
            corr = values[f"corr_{level.name}"][d] if level.correlated else np.eye(level.r)
            lambdas.append(np.diag(sd / sigma) @ np.linalg.cholesky(corr))
        psi = ([values["rho"][d]] if "rho" in values else []) + list(values.get("sigma_ratio", [[]] * DRAWS)[d])
        out.append(sigma**2 * dense_V(lmm.design, lambdas, psi))
    return out


@pytest.mark.parametrize("case", STRUCTURED, ids=lambda case: case.name)
def test_the_total_is_the_mean_variance_of_the_rows(case):
    lmm = case.lmm()
    total = lmm.implied_priors(draws=DRAWS, random_seed=2).draws["sigma_total"]
    np.testing.assert_allclose(total**2, [np.diag(V).mean() for V in dense(lmm, 2)], rtol=1e-10)


@pytest.mark.parametrize("name", ["one way", "unbalanced", "nested", "nested in three", "crossed", "crossed in three"])
def test_correlations_are_those_of_two_rows(name):
    """icc: shared by that level alone. correlation: two rows of one group, with all that contains it."""
    lmm = BY_NAME[name].lmm()
    draws = lmm.implied_priors(draws=DRAWS, random_seed=3).draws
    levels = lmm.design.levels
    same = {level.name: level.index[:, None] == level.index for level in levels}
    for d, V in enumerate(dense(lmm, 3)):
        corr = V / V[0, 0]
        shared = sum(draws[f"icc[{level.name}]"][d] * same[level.name] for level in levels)
        off = ~np.eye(len(V), dtype=bool)
        np.testing.assert_allclose(corr[off], shared[off], rtol=1e-10, atol=1e-14)
        for k, level in enumerate(levels):
            if (key := f"correlation[{level.name}]") in draws:
                apart = off & ~np.any([np.eye(len(V), dtype=bool), *(same[finer.name] for finer in levels[:k])], axis=0)
                np.testing.assert_allclose(corr[same[level.name] & apart], draws[key][d], rtol=1e-10)
    nested = {"nested": ["correlation[u2]"], "nested in three": ["correlation[u2]", "correlation[u3]"]}
    assert [key for key in draws if key.startswith("correlation")] == nested.get(name, [])


BALANCED = {
    "one way": ("(1 | a)", "a"),
    "nested": ("(1 | a/b)", "a:b"),
    "nested in three": ("(1 | a/b/c)", "a:b:c"),
}


@pytest.mark.parametrize("name", BALANCED)
def test_shrinkage_is_the_factor_on_a_groups_mean_in_a_balanced_table(name):
    """E[u_j | y] where y is 1 in the rows of one group and 0 elsewhere; the mean and coarser effects are 0."""
    a, b, c, k = (x.ravel() for x in np.meshgrid(*map(range, (3, 2, 4, 2)), indexing="ij"))
    data = {"y": np.sin(np.arange(48)), "a": a, "b": b, "c": c, "k": k}
    lmm = blm.LMM(f"y ~ 1 + {BALANCED[name][0]}", data)
    design = lmm.design
    draws = lmm.implied_priors(draws=3, random_seed=1).draws
    values = draw_parameters(design, lmm.priors, 3, np.random.default_rng(1))
    for d in range(3):
        G = [np.eye(v.m) * (values[f"sigma_{v.name}"][d] / values["sigma"][d]) ** 2 for v in design.levels]
        for k, level in enumerate(design.levels):  # the finer ones stand before it
            y = (level.index == 0).astype(float)
            Z = [v.Z for v in design.levels[: k + 1]]
            mean, _ = conditional_moments(y, design.X, Z, [0.0], values["sigma"][d] ** 2, G[: k + 1])
            assert draws[f"shrinkage[{level.name}]"][d] == pytest.approx(mean[-level.m], rel=1e-8)


def test_the_group_that_shrinkage_is_for_is_stated():
    implied = BY_NAME["nested"].lmm().implied_priors(draws=10, random_seed=1)
    assert "b:a with 2 rows (medians)" in implied.what["shrinkage[u2]"]
    assert "a with 7 rows in 3 groups of b:a (medians)" in implied.what["shrinkage[u3]"]


def test_uniform_shares_make_a_uniform_intra_class_correlation():
    lmm = BY_NAME["one way"].lmm(priors={"shares": "Dirichlet(a=1)"})
    assert st.kstest(lmm.implied_priors(random_seed=1).draws["icc[u2]"], "uniform").pvalue > 1e-3


def test_flat_looking_SDs_leave_the_middle_empty_and_the_words_say_so():
    wide = {"sigma": "HalfCauchy(beta=100)", "sigma_u2": "HalfCauchy(beta=100)"}
    implied = BY_NAME["one way"].lmm(priors=wide).implied_priors(draws=20_000, random_seed=1)
    # the two SDs are exchangeable, so the law is symmetric about 1/2
    row = implied.table.loc["icc[u2]"]
    assert row["P(< 0.05)"] == pytest.approx(row["P(> 0.95)"], abs=0.015)
    assert row["P(< 0.05)"] > 4 * 0.05
    assert f"put {100 * (row['P(< 0.05)'] + row['P(> 0.95)']):.0f} % of icc[u2] below 0.05 or above 0.95" in repr(
        implied
    )
    kept = BY_NAME["one way"].lmm(priors={"shares": 2}).implied_priors(random_seed=1)
    assert "The priors put" not in repr(kept)


def test_slopes_have_a_share_and_the_intercepts_a_correlation_where_they_are_zero():
    lmm = BY_NAME["slope"].lmm()
    implied = lmm.implied_priors(draws=DRAWS, random_seed=4)
    values = draw_parameters(lmm.design, lmm.priors, DRAWS, np.random.default_rng(4))
    s0 = values["sigma_u2"][:, 0] ** 2
    np.testing.assert_allclose(implied.draws["icc[u2]"], s0 / (s0 + values["sigma"] ** 2))
    total = implied.draws["sigma_total"] ** 2
    np.testing.assert_allclose(implied.draws["share[u2]"], 1 - values["sigma"] ** 2 / total)
    assert "where the columns of the slopes are 0" in implied.what["icc[u2]"]
    without = BY_NAME["slope without intercept"].lmm().implied_priors(draws=5, random_seed=1)
    assert list(without.draws) == ["sigma_total", "share[u2]"]


def test_the_table_and_its_text():
    implied = BY_NAME["nested"].lmm().implied_priors(random_seed=1)
    assert np.isnan(implied.table.loc["sigma_total", "P(< 0.05)"])
    assert (implied.table["25 %"] <= implied.table["75 %"]).all()
    for name in implied.draws:
        assert name in repr(implied)
        assert name in implied._repr_html_()
    assert "correlation of two rows of one b:a, which share a too" in repr(implied)


def test_the_picture_has_a_histogram_for_each_quantity():
    implied = BY_NAME["nested"].lmm().implied_priors(draws=200, random_seed=1)
    axes = implied.plot().axes
    assert [a.get_title(loc="left") for a in axes] == list(implied.draws)
    for a in axes[1:]:
        assert a.get_xlim() == (0, 1)
        assert sum(p.get_height() * p.get_width() for p in a.patches) == pytest.approx(1)


def test_flat_priors_imply_nothing():
    with pytest.raises(PriorError, match=r"sigma_u2 ~ HalfFlat\(\)"):
        BY_NAME["one way"].lmm(priors={"sigma_u2": "HalfFlat()"}).implied_priors()
