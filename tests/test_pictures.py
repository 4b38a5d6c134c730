"""Pictures: what they compute, against other ways to the same numbers; that they can be drawn of any model."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import structured
from legible import troubles
from registry import BY_NAME, CASES

import bayeslmm as blm
from bayeslmm.likelihood.confidence import profile_deviance
from bayeslmm.pictures.blocks import covariance_blocks
from bayeslmm.pictures.caterpillar import caterpillar
from bayeslmm.pictures.checks import predictive_checks
from bayeslmm.pictures.conditional import conditional_effects
from bayeslmm.pictures.densities import sd_densities
from bayeslmm.pictures.estimates import estimates
from bayeslmm.pictures.funnel import funnel
from bayeslmm.pictures.group_size import group_sizes
from bayeslmm.pictures.hierarchy import Meetings, Tree, hierarchy_picture
from bayeslmm.pictures.partition import variance_partition
from bayeslmm.pictures.plane import shrinkage_plane
from bayeslmm.pictures.pooling import pooling
from bayeslmm.pictures.prior import prior_check
from bayeslmm.pictures.quantiles import standardised_effects, standardised_rows
from bayeslmm.pictures.results import OfDraws, OfFit
from bayeslmm.pictures.sampling import effective_draws


@cache
def model(name):
    return blm.example(name)


@cache
def posterior_of(lmm, draws=40):
    """A few draws, good enough to be drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return lmm.sample(draws=draws, chains=2, random_seed=1, sampler="collapsed", progress=False)


def of_fit(lmm):
    return OfFit(fit=lmm.reml())


def of_draws(lmm, draws=40):
    return OfDraws(design=lmm.design, tree=posterior_of(lmm, draws), variant="marginal")


@cache
def odd():
    """Labels that want escaping, units of 1e-9, a predictor far from zero."""
    rng = np.random.default_rng(3)
    labels = ["$a$ & <b>", "_under", "line\nbreak", "a very long label of a group that goes on", "US$ 5", "ü–ß\\x"]
    g = np.repeat(labels, [3, 4, 5, 9, 12, 7])
    x, f = 2000 + rng.normal(size=len(g)).round(2), rng.choice(["$lo$", "_hi", "mid%"], len(g))
    u = dict(zip(labels, rng.normal(0, 1e-9, 6), strict=True))
    y = 3e-9 + 1e-9 * (x - 2000) + [u[k] for k in g] + rng.normal(0, 1e-9, len(g))
    level = blm.Level(group=("the $group$",), effects="1 + `x^2 $`")
    hierarchy = blm.Hierarchy(response="`y $ per_kg`", fixed="1 + `x^2 $` + f", levels=(level,))
    return blm.LMM(hierarchy, {"y $ per_kg": y, "x^2 $": x, "f": f, "the $group$": g})


# Numbers: estimates and densities


def test_estimates_are_those_of_the_profile_and_of_the_draws():
    lmm = model("sleepstudy")
    made = estimates(lmm.design, [of_fit(lmm), of_draws(lmm)])
    (_, fit), (_, draws) = made.tables
    np.testing.assert_array_equal(fit[["low", "high"]], lmm.reml().confint()[["lower", "upper"]])
    x = posterior_of(lmm)["posterior"]["sigma_u2"].values[..., 1].ravel()
    np.testing.assert_allclose(draws.loc["sigma_u2[Days]"], [x.mean(), *np.quantile(x, [0.025, 0.975])])
    for name in made.names:
        low, high = made.span(name)
        assert all(low <= table.loc[name, "middle"] <= high for _, table in made.tables)


def test_a_perfect_fit_has_estimates_without_intervals():
    lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 1, 2, 2, 4, 4], "g": list("aabbcc")})
    assert of_fit(lmm).parameters()[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "parameter"), [("sleepstudy", "sigma_u2[Days]"), ("ovary", "rho"), ("chem97", "sigma")]
)
def test_the_profile_is_zero_at_the_estimate_and_at_its_limits_what_they_say(name, parameter):
    fit = model(name).reml()
    row = fit.confint().loc[parameter]
    rise = profile_deviance(fit, parameter, row[["lower", "estimate", "upper"]].to_numpy(dtype=float))
    np.testing.assert_allclose(rise, [3.8415, 0, 3.8415], atol=1e-3)


def test_the_profile_of_an_sd_is_that_of_a_dense_grid():
    """Dyestuff: for each SD of batches the best residual SD, from the restricted likelihood written out."""
    lmm = model("dyestuff")
    y, X, Z = lmm.design.y, lmm.design.X, lmm.design.Z.toarray()

    def deviance(sd, sigma):
        V = sd**2 * Z @ Z.T + sigma**2 * np.eye(len(y))
        Vi = np.linalg.inv(V)
        XVX = X.T @ Vi @ X
        r = y - X @ np.linalg.solve(XVX, X.T @ Vi @ y)
        return np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1] + r @ Vi @ r

    sds = np.array([0.0, 20.0, 60.0, 120.0])
    best = np.array([min(deviance(sd, sigma) for sigma in np.linspace(35, 90, 221)) for sd in sds])
    least = deviance(lmm.reml().sds[0][0], lmm.reml().sigma)
    np.testing.assert_allclose(profile_deviance(lmm.reml(), "sigma_u2", sds), best - least, atol=2e-3)


def test_densities_have_area_one_and_need_no_draws():
    (sigma, batch) = sd_densities(model("dyestuff"), profile=True).panels
    for panel in (sigma, batch):
        (curve,) = panel.curves.values()
        assert curve.exact
        assert np.trapezoid(curve.density, curve.grid) == pytest.approx(1)
        grid, likelihood = panel.profile
        assert 0.99 < likelihood.max() <= 1
        assert grid[np.argmax(likelihood)] == pytest.approx(panel.points["reml"], rel=0.02)


def test_what_cannot_be_computed_asks_for_draws():
    lmm = blm.LMM("y ~ 1 + (1 | g)", BY_NAME["one way"].data(), priors={"beta": "Gamma(alpha=2, beta=1)"})
    with pytest.raises(blm.DescriptionError, match=r"give a posterior: lmm.plot_sds"):
        lmm.plot_sds()


# Numbers: shrinkage


def test_own_fits_are_least_squares_and_the_plane_is_that_of_lines():
    lmm = model("sleepstudy")
    plane = shrinkage_plane(lmm, of_fit(lmm), lmm.design.levels[0])
    frame = lmm.design.frame
    own = np.array([np.polyfit(rows.Days, rows.Reaction, 1)[::-1] for _, rows in frame.groupby("Subject")])
    np.testing.assert_allclose(plane.own, own, rtol=1e-8)
    np.testing.assert_allclose(plane.pooled, lmm.reml().fixef.to_numpy() + lmm.reml().ranef["u2"].iloc[:, :2])
    V = lmm.reml().varcorr
    np.testing.assert_allclose(np.diag(plane.covariance), V["variance"][:2])
    assert plane.covariance[0, 1] == pytest.approx(V["variance"][2])


def test_the_ellipse_holds_the_share_that_it_says():
    lmm = model("sleepstudy")
    plane = shrinkage_plane(lmm, of_fit(lmm), lmm.design.levels[0])
    points = np.random.default_rng(1).multivariate_normal(plane.centre, plane.covariance, size=20_000)
    inverse = np.linalg.inv(plane.covariance)

    def distance(x):
        return np.einsum("ij,jk,ik->i", x - plane.centre, inverse, x - plane.centre)

    for share in (0.5, 0.95):
        edge = distance(plane.ellipse(share))
        np.testing.assert_allclose(edge, edge[0])
        error = np.sqrt(share * (1 - share) / 20_000)
        assert (distance(points) < edge[0]).mean() == pytest.approx(share, abs=4 * error)


def test_a_singular_covariance_has_a_flat_ellipse():
    lmm = odd()
    plane = shrinkage_plane(lmm, of_fit(lmm), lmm.design.levels[0])
    size = np.linalg.svd(plane.ellipse(0.5) - plane.centre, compute_uv=False)
    assert size[1] < 1e-6 * size[0]


def test_lines_of_a_group_are_its_own_the_models_and_those_of_no_groups():
    lmm = model("sleepstudy")
    made = pooling(lmm, of_fit(lmm), lmm.design.levels[0], groups=["308", "335"])
    frame, at = lmm.design.frame, made.at
    assert made.predictor.name == "Days"
    for panel in made.panels:
        rows = frame[frame.Subject.astype(str) == panel.label]
        np.testing.assert_allclose(panel.none, np.polyval(np.polyfit(rows.Days, rows.Reaction, 1), at))
        np.testing.assert_allclose(panel.complete, np.polyval(np.polyfit(frame.Days, frame.Reaction, 1), at))
        expected = lmm.reml().predict({"Days": at, "Subject": [panel.label] * len(at)})
        np.testing.assert_allclose(panel.partial, expected)


def test_lines_of_a_class_have_the_effect_of_its_school_too():
    lmm = model("heights")
    made = pooling(lmm, of_fit(lmm), lmm.design.levels[0], groups=["2:1"])
    assert made.predictor is None
    expected = lmm.reml().predict({"class": ["2"], "school": ["1"]}).iloc[0]
    np.testing.assert_allclose(made.panels[0].partial, expected)
    mean = lmm.design.frame.query("`class` == 2 and school == 1").Height.mean()
    np.testing.assert_allclose(made.panels[0].none, mean)


def test_groups_are_chosen_from_the_smallest_to_the_largest():
    lmm = model("chem97")
    made = pooling(lmm, of_fit(lmm), lmm.design.levels[0], groups=3)
    rows = np.bincount(lmm.design.levels[0].index)
    assert [panel.rows for panel in made.panels] == [rows.min(), np.sort(rows)[(len(rows) - 1) // 2], rows.max()]
    assert "3 of 2,410 groups" in made.words


def test_groups_of_one_size_stand_in_order_others_at_their_sizes():
    lmm = model("dyestuff")
    made = group_sizes(lmm, of_fit(lmm), lmm.design.levels[0])
    assert made.balanced
    assert sorted(made.places) == [1, 2, 3, 4, 5, 6]
    assert (np.argsort(made.places) == np.argsort(made.own)).all()
    lmm = model("radon")
    made = group_sizes(lmm, of_fit(lmm), lmm.design.levels[0])
    for small, large in zip(np.unique(made.rows)[:-1], np.unique(made.rows)[1:], strict=True):
        assert made.places[made.rows == small].max() < made.places[made.rows == large].min()
    assert np.abs(made.places / made.rows - 1).max() < 0.3


def test_the_caterpillar_draws_the_modes_in_order():
    lmm = model("sleepstudy")
    made = caterpillar(lmm, [of_fit(lmm)], lmm.design.levels[0], 1)
    modes = lmm.reml().ranef["u2"]["Days"].to_numpy()
    assert (np.diff(modes[made.order]) >= 0).all()
    ((_, label, u),) = made.sources
    assert label == "REML mode, 2 conditional SDs"
    np.testing.assert_allclose((u.high - u.low) / 4, lmm.reml().ranef["u2"]["Days_sd"])


# Numbers: covariances and variances

SOME = [case for case in structured.CASES if case.residual in ("iid", "ar1 and strata", "known", "cs and strata")]


@pytest.mark.parametrize("case", SOME[::2], ids=lambda case: case.name)
def test_the_blocks_are_those_of_V(case):
    lmm = case.lmm()
    fit = lmm.reml()
    made = covariance_blocks(lmm, of_fit(lmm))
    every = fit.sigma**2 * lmm.V(fit.theta, fit.psi).toarray()
    size = np.abs(every).max()
    whole = made.parts[-1][1]
    np.testing.assert_allclose(whole, every[np.ix_(made.rows, made.rows)], atol=1e-10 * size)
    if len(made.parts) > 1:
        np.testing.assert_allclose(sum(part for _, part in made.parts[:-1]), whole, atol=1e-10 * size)
    R = fit.sigma**2 * structured.dense_R(lmm.design, fit.psi)
    own = made.parts[-2 if len(made.parts) > 1 else 0][1]
    np.testing.assert_allclose(own, R[np.ix_(made.rows, made.rows)], atol=1e-10 * size)


def test_of_many_rows_a_few_of_a_few_groups_are_drawn():
    lmm = model("chem97")
    made = covariance_blocks(lmm, of_fit(lmm))
    assert len(made.rows) == 48
    school, lea = lmm.design.levels
    assert len(np.unique(lea.index[made.rows])) == 4
    assert (np.bincount(school.index[made.rows])[school.index[made.rows]] > 1).any()
    assert "48 of 31,022 rows" in made.words
    with pytest.raises(blm.DescriptionError, match="from 1 up"):
        lmm.plot_V(rows=0)


def test_shares_are_the_intraclass_correlations():
    lmm = model("heights")
    made = variance_partition(lmm, of_draws(lmm))
    p = posterior_of(lmm)["posterior"]
    variances = np.stack([p[name].values.ravel() ** 2 for name in ("sigma_u2", "sigma_u3", "sigma")])
    shares = variances / variances.sum(axis=0)
    np.testing.assert_allclose(made.shares.middle, shares.mean(axis=1))
    np.testing.assert_allclose(made.shares.low, np.quantile(shares, 0.025, axis=1))
    assert made.over is None


def test_shares_over_a_slope_are_those_of_the_variance_at_each_value():
    lmm = model("sleepstudy")
    made = variance_partition(lmm, of_fit(lmm))
    fit = lmm.reml()
    G = fit.sigma**2 * fit.lambdas[0] @ fit.lambdas[0].T
    between = np.array([np.array([1, x]) @ G @ np.array([1, x]) for x in made.predictor.at])
    np.testing.assert_allclose(made.over.middle[:, 0], between / (between + fit.sigma**2))
    assert not made.intervals


@pytest.mark.parametrize("case", SOME[1::2], ids=lambda case: case.name)
def test_shares_average_the_diagonal_of_V(case):
    lmm = case.lmm()
    fit = lmm.reml()
    made = variance_partition(lmm, of_fit(lmm))
    assert made.shares.middle.sum() == pytest.approx(1)
    V, R = (fit.sigma**2 * np.diag(M.toarray()) for M in (lmm.V(fit.theta, fit.psi), lmm.R(fit.psi)))
    assert made.total**2 == pytest.approx(V.mean(), rel=1e-8)
    assert made.shares.middle[-1] == pytest.approx(R.mean() / V.mean(), rel=1e-8)


@pytest.mark.parametrize("case", SOME[::2], ids=lambda case: case.name)
def test_rows_and_modes_are_divided_by_their_sds_under_the_model(case):
    """Of rows: each is predicted from all others by the normal distribution that V is; of modes: Var(G Z' V^-1 r)."""
    lmm = case.lmm()
    fit = lmm.reml()
    V = fit.sigma**2 * lmm.V(fit.theta, fit.psi).toarray()
    r = lmm.design.y - lmm.design.X @ fit.beta
    expected = []
    for i in range(lmm.design.n):
        others = np.delete(np.arange(lmm.design.n), i)
        weights = np.linalg.solve(V[np.ix_(others, others)], V[others, i])
        expected.append((r[i] - weights @ r[others]) / np.sqrt(V[i, i] - weights @ V[others, i]))
    np.testing.assert_allclose(standardised_rows(fit, np.arange(lmm.design.n)), expected, rtol=1e-6, atol=1e-8)
    if not lmm.design.q:
        return
    GZ = fit.sigma**2 * lmm.G(fit.theta).toarray() @ lmm.design.Z.T.toarray()
    VGZ = np.linalg.solve(V, GZ.T)
    sd = np.sqrt(np.einsum("ij,ji->i", GZ, VGZ))
    found = np.concatenate([standardised_effects(fit, level).ravel() for level in lmm.design.levels])
    seen = np.isfinite(found)
    np.testing.assert_allclose(found[seen], (VGZ.T @ r / np.where(sd > 0, sd, 1))[seen], rtol=1e-5, atol=1e-7)


# Numbers: predictions and checks


def test_the_mean_over_a_predictor_is_that_of_fit_predict():
    lmm = model("cake")
    made = conditional_effects(lmm, of_fit(lmm), "temperature", "recipe")
    fit = lmm.reml()
    for label, line in made.lines:
        rows = {"temperature": made.predictor.at, "recipe": [label] * len(made.predictor.at)}
        np.testing.assert_allclose(line.middle, fit.predict(rows, random_effects=False))
        X = lmm.design.new(rows, random_effects=False).X
        se = np.sqrt(np.einsum("ij,jk,ik->i", X, fit.fixef_cov, X))
        np.testing.assert_allclose(line.high - line.middle, 2 * se)


def test_an_offset_is_part_of_the_mean_and_others_are_held():
    case = BY_NAME["one way"]
    lmm = blm.LMM("y ~ 1 + x + (1 | g)", case.data(), offset="w")
    made = conditional_effects(lmm, of_fit(lmm), "x")
    w = lmm.design.frame["w"]
    held = w.iloc[np.argmin(np.abs(w - w.mean()))]
    np.testing.assert_allclose(
        made.lines[0][1].middle, lmm.reml().fixef.to_numpy() @ [np.ones(61), made.predictor.at] + held
    )
    assert made.held == {"w": f"{held:.3g}"}


def test_statistics_of_the_data_are_those_of_a_table():
    lmm = model("orthodont")
    made = {(check.title, check.where): check for check in predictive_checks(of_draws(lmm)).checks}
    frame = lmm.design.frame.assign(r=lmm.design.y - lmm.design.X @ np.linalg.lstsq(lmm.design.X, lmm.design.y)[0])
    means = frame.groupby("Subject").r.mean()
    assert made["SD between means", "of Subject"].observed == pytest.approx(means.std())
    w = frame.r - frame.groupby("Subject").r.transform("mean")
    assert made["SD of rows", "within Subject"].observed == pytest.approx(w.std(ddof=0))
    assert made["largest residual in SDs", "within Subject"].observed == pytest.approx(w.abs().max() / w.std(ddof=0))
    sds = w.groupby(frame.Subject).std(ddof=0)
    assert made["largest SD of a group / median", "within Subject"].observed == pytest.approx(sds.max() / sds.median())
    female, male = (frame.r[frame.Sex == sex].std(ddof=0) for sex in ("Female", "Male"))
    assert made["SD of Male / Female", "strata of the rows"].observed == pytest.approx(male / female)
    pairs = pd.DataFrame({"w": w, "next": w.groupby(frame.Subject).shift(-1)}).dropna()
    neighbours = (pairs.w * pairs.next).mean() / (w**2).mean()
    assert made["correlation of neighbours", "in the table's order"].observed == pytest.approx(neighbours)


def test_slopes_between_groups_are_least_squares():
    lmm = model("sleepstudy")
    made = {check.title: check for check in predictive_checks(of_draws(lmm)).checks}
    slopes = [np.polyfit(rows.Days, rows.Reaction, 1)[0] for _, rows in lmm.design.frame.groupby("Subject")]
    assert made["SD between slopes"].observed == pytest.approx(np.std(slopes, ddof=1))


def test_own_effects_stay_and_new_ones_vary():
    """The SD between the means of batches: replicates of the same batches differ less than those of new ones."""
    lmm = model("dyestuff")
    own, new = (predictive_checks(of_draws(lmm, 200), kind).checks[0] for kind in ("own", "new"))
    assert own.drawn.std() < 0.8 * new.drawn.std()
    assert own.above == pytest.approx((own.drawn > own.observed).mean())
    with pytest.raises(blm.DescriptionError, match=r"effects='nwe'.*Did you mean 'new'"):
        lmm.plot_checks(posterior_of(lmm), effects="nwe")


def test_correlated_rows_are_drawn_with_their_correlation():
    """Replicates of an AR(1) have neighbours as alike as those of the data; as independent rows they would not."""
    check = next(c for c in predictive_checks(of_draws(model("ovary"), 100)).checks if "neighbours" in c.title)
    assert check.observed > 0.4
    assert 0.02 < check.above < 0.98


def test_prior_predictive_counts_what_lies_in_the_range_of_the_data():
    lmm = model("dyestuff")
    made = prior_check(lmm, 200, 1)
    drawn = lmm.prior_predictive(200, random_seed=1)["prior_predictive"]["y"].values
    y = lmm.design.y
    assert made.inside == ((drawn >= y.min()) & (drawn <= y.max())).mean()
    np.testing.assert_allclose(made.quantiles[:, 2], np.median(drawn[0], axis=1))


# Numbers: the hierarchy and the draws


def test_the_tree_has_every_group_and_its_rows():
    made = hierarchy_picture(model("heights").design)
    assert isinstance(made, Tree)
    assert [level.name for level in made.levels] == ["u3", "u2"]
    found = {node.label: node.rows for node in made.nodes if node.depth == 2}
    assert (
        found
        == model("heights")
        .design.frame.groupby(["class", "school"])
        .size()
        .rename(lambda k: k)
        .set_axis([f"{c}:{s}" for c, s in model("heights").design.frame.groupby(["class", "school"]).groups])
        .to_dict()
    )


def test_of_a_large_tree_what_is_left_out_is_counted():
    made = hierarchy_picture(model("chem97").design)
    assert made.leaves <= 30
    for k, node in enumerate(made.nodes):
        children = [child.rows for child in made.nodes if child.parent == k]
        assert not children or sum(children) == node.rows


def test_crossed_levels_are_counted_as_a_table():
    lmm = BY_NAME["partially crossed"].lmm()
    made = hierarchy_picture(lmm.design)
    assert isinstance(made, Meetings)
    expected = pd.crosstab(lmm.design.frame["g"], lmm.design.frame["h"]).to_numpy()
    lines, columns = (level.label for level in made.levels)
    np.testing.assert_array_equal(made.counts, expected if (lines, columns) == ("g", "h") else expected.T)


def test_the_funnel_has_the_draws_and_their_standardised_form():
    lmm = model("heights")
    tree = posterior_of(lmm)
    made = funnel({"centred": tree, "noncentred": tree}, lmm.design.levels[1])
    u, sd = tree["posterior"]["u3"].values[..., 0].ravel(), tree["posterior"]["sigma_u3"].values.ravel()
    one, other = made.panels
    np.testing.assert_array_equal(one.x, u)
    np.testing.assert_allclose(other.x * sd, u)
    np.testing.assert_allclose(np.exp(one.log_sd), sd)


def test_effective_draws_are_arvizs():
    import arviz as az

    lmm = model("dyestuff")
    made = effective_draws(lmm.design, posterior_of(lmm, 200), "marginal")
    ((_, values),) = made.bars
    assert values[1] == pytest.approx(az.ess(posterior_of(lmm, 200)["posterior"]["sigma"].values), rel=1e-6)


# Every picture of every model

PICTURES = {
    "data": lambda lmm, tree: lmm.plot_data(),
    "hierarchy": lambda lmm, tree: lmm.plot_hierarchy(),
    "Z": lambda lmm, tree: lmm.plot_Z(),
    "prior": lambda lmm, tree: lmm.plot_prior_predictive(draws=50, random_seed=1),
    "estimates": lambda lmm, tree: lmm.plot_estimates(tree),
    "sds": lambda lmm, tree: lmm.plot_sds(tree),
    "caterpillar": lambda lmm, tree: lmm.plot_caterpillar(),
    "caterpillar of draws": lambda lmm, tree: lmm.plot_caterpillar(tree),
    "shrinkage": lambda lmm, tree: lmm.plot_shrinkage(),
    "pooling": lambda lmm, tree: lmm.plot_pooling(tree),
    "group size": lambda lmm, tree: lmm.plot_group_size(),
    "V": lambda lmm, tree: lmm.plot_V(),
    "conditional effects": lambda lmm, tree: lmm.plot_conditional_effects(tree),
    "partition": lambda lmm, tree: lmm.plot_variance_partition(tree),
    "checks": lambda lmm, tree: lmm.plot_checks(tree, draws=40),
    "checks of new groups": lambda lmm, tree: lmm.plot_checks(tree, effects="new", draws=40),
    "qq": lambda lmm, tree: lmm.plot_qq(),
    "funnel": lambda lmm, tree: lmm.plot_funnel(noncentered=tree, marginal=tree),
    "ess": lambda lmm, tree: lmm.plot_ess(tree),
}
DESIGNS = {case.name: case.lmm for case in CASES[::5]} | {case.name: case.lmm for case in SOME[::8]} | {
    "odd names": odd,
    "calves": lambda: model("calves"),
    "no fixed effects": lambda: blm.LMM("y ~ 0 + (1 | g)", {"y": [1.0, 3, -2, 5, 1, 2], "g": list("aabbcc")}),
}  # fmt: skip


SLOW = {"estimates", "sds"}  # profiles of small designs that say little take a second
WITH_PROFILES = {"one way", "no intercept", "nested", "slope"}


@pytest.mark.parametrize("name", DESIGNS)
def test_every_picture_can_be_drawn_of_every_design_or_is_refused_in_words(name):
    """A fifth of the pictures of each design in turn; all of them of the odd names."""
    lmm, place = DESIGNS[name](), list(DESIGNS).index(name)
    tree = posterior_of(lmm, 20)
    refused = {}
    for k, (picture, draw) in enumerate(PICTURES.items()):
        if name != "odd names" and (name not in WITH_PROFILES if picture in SLOW else (k + place) % 5):
            continue
        try:
            figure = draw(lmm, tree)
        except blm.DescriptionError as error:
            refused[picture] = str(error)
            continue
        assert troubles(figure) == [], picture
    allowed = set() if any(level.r > 1 for level in lmm.design.levels) else {"shrinkage"}
    allowed |= {"conditional effects"} if lmm.design.p < 2 else set()
    allowed |= {"funnel"} if not any(level.n_sds for level in lmm.design.levels) else set()
    allowed |= set(PICTURES) if not lmm.design.levels else set()
    allowed |= {"sds", "checks", "checks of new groups"} if lmm.design.n < 7 else set()
    assert set(refused) <= allowed
    assert all(len(words) > 40 for words in refused.values())


REAL = {
    "radon": ("data", "partition", "qq", "group size"),
    "penicillin": ("data", "hierarchy", "V"),
    "chem97": ("hierarchy", "group size"),
}


@pytest.mark.parametrize("name", REAL)
def test_pictures_of_real_data_can_be_read(name):
    for picture in REAL[name]:
        assert troubles(PICTURES[picture](model(name), posterior_of(model(name), 20))) == [], picture


@pytest.mark.parametrize(("scale", "shift"), [(1e-9, 0.0), (1e9, 1e6)])
def test_units_do_not_matter(scale, shift):
    frame = BY_NAME["slope"].data()
    frame["y"] = (scale * (np.array(frame["y"]) + shift)).tolist()
    lmm = blm.LMM(BY_NAME["slope"].formula, frame)
    tree = posterior_of(lmm, 20)
    for picture in ("estimates", "caterpillar", "shrinkage", "pooling", "V", "checks", "conditional effects"):
        assert troubles(PICTURES[picture](lmm, tree)) == [], picture


def test_a_thousand_groups_are_cut_to_what_can_be_read():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(1000), rng.integers(1, 5, 1000))
    lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": rng.normal(size=1000)[g] + rng.normal(size=len(g)), "g": g})
    for picture in ("data", "hierarchy", "caterpillar", "group size", "V"):
        assert troubles(PICTURES[picture](lmm, None)) == [], picture


def test_many_columns_are_cut_to_what_can_be_read():
    rng = np.random.default_rng(1)
    columns = {f"x{k}": rng.normal(size=60) for k in range(20)}
    data = {"y": rng.normal(size=60), "g": np.repeat(np.arange(10), 6)} | columns
    lmm = blm.LMM("y ~ 1 + " + " + ".join(columns) + " + (1 | g)", data)
    tree = posterior_of(lmm, 20)
    for picture in ("estimates", "conditional effects", "ess"):
        assert troubles(PICTURES[picture](lmm, tree)) == [], picture
    made = estimates(lmm.design, [of_fit(lmm)])
    assert "5 fixed effects are left out" in made.words


# In notebooks and in axes that are given


def test_a_notebook_shows_a_figure_without_pyplot():
    from IPython.core.formatters import DisplayFormatter

    formatter = DisplayFormatter()
    formatter.active_types = formatter.format_types
    data, metadata = formatter.format(model("dyestuff").plot_Z())
    assert data["image/png"].startswith(b"\x89PNG")
    assert 700 < metadata["image/png"]["width"] < 800


def test_pictures_go_into_axes_that_are_given():
    from matplotlib.figure import Figure

    lmm, tree = model("sleepstudy"), posterior_of(model("sleepstudy"))
    figure = Figure()
    for call in (lmm.plot_caterpillar, lmm.plot_shrinkage, lmm.plot_group_size, lmm.plot_Z, lmm.plot_hierarchy):
        assert call(ax=figure.subplots()) is figure
    axes = figure.subplots(2, 3)
    assert lmm.plot_estimates(tree, axes=axes) is figure
    assert lmm.plot_pooling(axes=figure.subplots(1, 2), groups=2) is figure
    with pytest.raises(blm.DescriptionError, match="3 axes were given; this picture needs 2"):
        lmm.plot_pooling(axes=axes[0], groups=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lmm: lmm.plot_caterpillar(level="Subjcet"), r"level='Subjcet'.*Did you mean 'Subject'"),
        (lambda lmm: lmm.plot_caterpillar(effect="Day"), r"effect='Day'.*Did you mean 'Days'"),
        (lambda lmm: lmm.plot_pooling(groups=["309", "307"]), r"'307' is no group of Subject"),
        (lambda lmm: lmm.plot_pooling(groups=0), "groups=0; expected how many"),
        (lambda lmm: lmm.plot_pooling(x="Day"), r"x='Day'.*Did you mean 'Days'"),
        (lambda lmm: lmm.plot_shrinkage(effects=("Days",)), "expected two of Subject"),
        (lambda lmm: lmm.plot_conditional_effects(x="Days", by="Days"), "name another one"),
        (lambda lmm: lmm.plot_variance_partition(x="Reaction"), "vary by group: 'Days'"),
        (lambda lmm: lmm.plot_caterpillar(model("dyestuff").reml()), "one of another model"),
        (lambda lmm: lmm.plot_qq(posterior_of(lmm)), "this picture is of a fit"),
        (lambda lmm: lmm.plot_funnel(), "No posterior came"),
        (lambda lmm: lmm.plot_checks(lmm.reml()), "without a group 'posterior'"),
        (lambda lmm: lmm.plot_ess(posterior_of(model("dyestuff"))), "comes from another model"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(call, message):
    with pytest.raises((blm.DescriptionError, blm.DataError), match=message):
        call(model("sleepstudy"))
