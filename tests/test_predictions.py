"""Predictions under scopes, comparisons and slopes: against dense conditional normals, mixtures, and sums by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import LME4, fitted_model
from registry import CASES
from scipy import optimize, stats
from structured import DATA, LEVELS, RESIDUALS, Structured, dense_K, dense_R, quiet

import bayeslmm as blm
from bayeslmm.factorisation import effect_covariances
from bayeslmm.predictions import encoding, from_draws
from bayeslmm.predictions.from_draws import Draws
from bayeslmm.predictions.mixture import quantiles
from bayeslmm.predictions.scopes.registry import SCOPES

SLEEP = "Reaction ~ 1 + Days + (1 + Days | Subject)"
Z975 = stats.norm.ppf(0.975)


def blup(X, y, V, x, k, v) -> tuple[np.ndarray, np.ndarray]:
    """Universal kriging: (prediction, its error's covariance) of new ones with E = x beta, Cov(new, y) = k, Var = v."""
    Vi = np.linalg.inv(V)
    P = X.T @ Vi @ X
    beta = np.linalg.solve(P, X.T @ Vi @ y)
    h = x - k @ Vi @ X
    return x @ beta + k @ Vi @ (y - X @ beta), v - k @ Vi @ k.T + h @ np.linalg.solve(P, h.T)


def effect_parts(design, lambdas):
    """(Z of all levels, G of all), dense."""
    blocks = [np.kron(dense_K(level), lam @ lam.T) for level, lam in zip(design.levels, lambdas, strict=True)]
    q = sum(len(block) for block in blocks)
    G, at = np.zeros((q, q)), 0
    for block in blocks:
        G[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return design.Z.toarray(), G


def agrees(frame: pd.DataFrame, mean, covariance, sigma) -> None:
    """The tables' numbers are those of a normal distribution; variances relative to sigma^2, up to what dense loses."""
    sd = sigma * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    size = np.abs(mean).max() + sd.max()
    np.testing.assert_allclose(frame["estimate"], mean, rtol=1e-8, atol=1e-8 * size)
    np.testing.assert_allclose(frame["sd"], sd, rtol=1e-6, atol=1e-7 * (sd.max() + sigma))
    np.testing.assert_allclose(frame["97.5 %"] - frame["2.5 %"], 2 * Z975 * frame["sd"], rtol=1e-9, atol=1e-12 * size)


# ML and REML ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_own_rows_are_best_linear_unbiased_predictions(case):
    lmm = quiet(case.lmm)
    fit, design = quiet(lmm.reml), lmm.design
    Z, G = effect_parts(design, fit.lambdas)
    # far from zero the dense formulas lose what the coordinates of an orthonormal X keep
    X = np.linalg.qr(design.X)[0]
    K = Z @ G @ Z.T
    mean, covariance = blup(X, design.net_y - case.shift, K + np.eye(design.n), X, K, K)
    frame = lmm.predictions(fit).frame
    agrees(frame.assign(**{name: frame[name] - case.shift for name in ("estimate", "2.5 %", "97.5 %")}),
           mean, covariance, fit.sigma)  # fmt: skip


SOME = [Structured(levels=levels, residual="iid") for levels in LEVELS if levels != "none"]
SOME += [Structured(levels="slopes", residual=residual) for residual in RESIDUALS if residual != "iid"]
SOME += [
    Structured(levels=levels, residual="ar1 and strata")
    for levels in ("none", "crossed with slopes", "kinship and crossed slopes")
]


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_known_covariances_and_structured_residuals(case):
    lmm = quiet(case.lmm)
    fit, design = quiet(lmm.ml), lmm.design
    Z, G = effect_parts(design, fit.lambdas)
    K = Z @ G @ Z.T
    agrees(
        lmm.predictions(fit).frame, *blup(design.X, design.y, K + dense_R(design, fit.psi), design.X, K, K), fit.sigma
    )
    # rows seen once more: a new residual beside the old ones
    known = blup(design.X, design.y, K + dense_R(design, fit.psi), design.X, K, K + dense_R(design, fit.psi))
    agrees(lmm.predictions(fit, kind="response").frame, *known, fit.sigma)


def held_out(case) -> tuple[blm.LMM, np.ndarray]:
    """(a model of some rows, which they are); the others are new observations of old series."""
    keep = np.ones(len(DATA), dtype=bool)
    keep[{"ar1 in the rows' order": [5, 23], "ar1 of the whole table": [21, 22, 23]}.get(case.residual, [2, 6, 13])] = 0
    terms, known = LEVELS[case.levels]
    formula = "y ~ x" + (f" + {terms}" if terms else "")
    return quiet(lambda: blm.LMM(formula, DATA[keep], residual=RESIDUALS[case.residual], **known)), keep


def whole_R(design, lmm, psi) -> np.ndarray:
    """R of all rows, with rho of the step that the model of some of them counts in."""
    psi, structure = psi.copy(), lmm.design.residual.structure
    if hasattr(structure, "step"):
        ratio = (design.residual.structure.step if structure.name == "car1" else 1.0) / structure.step
        psi[0] = np.sign(psi[0]) * abs(psi[0]) ** ratio
    return dense_R(design, psi)


@pytest.mark.parametrize(
    "case", [case for case in SOME if case.residual != "cs and strata"], ids=lambda case: case.name
)
def test_new_observations_are_conditioned_on_those_of_their_series(case):
    """Kriging in the joint distribution of old and new rows: e of new rows given e of old ones comes out of it."""
    lmm, keep = held_out(case)
    fit, whole = quiet(lmm.reml), quiet(case.lmm).design
    Z, G = effect_parts(whole, fit.lambdas)
    V = Z @ G @ Z.T + whole_R(whole, lmm, fit.psi)
    X, old, new = whole.X, np.flatnonzero(keep), np.flatnonzero(~keep)
    known = blup(X[old], whole.y[old], V[np.ix_(old, old)], X[new], V[np.ix_(new, old)], V[np.ix_(new, new)])
    table = lmm.predictions(fit, DATA[~keep], kind="response")
    agrees(table.frame, *known, fit.sigma)
    assert table.frame.index.tolist() == DATA.index[~keep].tolist()


NESTED = Structured(levels="nested", residual="iid")
NEW = {
    "new in observed": {"c": ["a", "zz", "zz"], "g": ["a", "b", "b"]},
    "new where unseen": {"c": ["a", "zz", "zz"], "g": ["a", "b", "zz"]},
    "new": {"c": ["a", "zz", "zz"], "g": ["a", "b", "b"]},
    "population": {},
    "average": {},
    "average by rows": {},
    "observed": {"c": ["a", "c", "c"], "g": ["a", "b", "b"]},
}


def weights_of(lmm, scope, labels) -> tuple[np.ndarray, list]:
    """By hand: per row the weights of the model's effects, and per row the labels of new groups at each level."""
    u2, u3 = lmm.design.levels
    W, fresh = np.zeros((3, lmm.design.q)), []
    for i in range(3):
        own = []
        for level, at in ((u2, 0), (u3, u2.m)):
            label = None if not labels else ":".join(labels[name][i] for name in level.level.group)
            if scope.startswith("average"):
                count = np.bincount(level.index, minlength=level.m)
                W[i, at : at + level.m] = count / count.sum() if scope == "average by rows" else 1 / level.m
            elif label in level.groups and scope != "new":
                W[i, at + level.groups.index(label)] = 1
            elif scope != "population":
                own.append((level.name, label))
        fresh.append(own)
    return W, fresh


@pytest.mark.parametrize("scope", SCOPES)
def test_scopes_are_what_they_say(scope):
    lmm = quiet(NESTED.lmm)
    fit, design = quiet(lmm.reml), lmm.design
    x = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 2.0]])
    W, fresh = weights_of(lmm, scope, NEW[scope])
    Z, G = effect_parts(design, fit.lambdas)
    var = dict(zip(("u2", "u3"), (float((lam @ lam.T)[0, 0]) for lam in fit.lambdas), strict=True))
    new = np.array([[sum(var[name] for name, label in a if (name, label) in b) for a in fresh] for b in fresh])
    V = Z @ G @ Z.T + np.eye(design.n)
    mean, covariance = blup(design.X, design.y, V, x, W @ G @ Z.T, W @ G @ W.T + new)
    data = {"x": x[:, 1], **NEW[scope]}
    agrees(lmm.predictions(fit, data, scope=scope).frame, mean, covariance, fit.sigma)
    agrees(lmm.predictions(fit, data, scope=scope, kind="response").frame, mean, covariance + np.eye(3), fit.sigma)
    # rows of one new group share its effects: an average knows it
    L = np.full((1, 3), 1 / 3)
    agrees(lmm.predictions(fit, data, scope=scope, by=True).frame, L @ mean, L @ covariance @ L.T, fit.sigma)


def test_a_scope_for_each_level():
    lmm = fitted_model("strength ~ 1 + (1 | batch/cask)", "pastes")
    fit = lmm.reml()
    data = {"batch": ["A", "B"], "cask": ["z", "a"]}
    mixed = lmm.predictions(fit, data, scope={"u2": "new", "batch": "observed"}).frame
    np.testing.assert_allclose(mixed["estimate"], fit.fixef.iloc[0] + fit.ranef["u3"]["Intercept"][["A", "B"]])
    inner = lmm.predictions(fit, data, scope="new in observed").frame
    np.testing.assert_allclose(inner.iloc[0][["estimate", "sd"]].tolist(), mixed.iloc[0][["estimate", "sd"]].tolist())
    assert inner["sd"].iloc[1] < mixed["sd"].iloc[1]  # b:B was seen
    averaged = lmm.predictions(fit, data, scope={"cask:batch": "average"}).frame
    assert "batch" in averaged
    assert lmm.predictions(fit, {"batch": ["A"]}, scope={"u2": "population"}).frame.shape == (1, 5)


@pytest.mark.parametrize("name", ["sleepstudy:REML", "pastes:ML", "penicillin:REML"])
def test_groups_differ_from_the_population_by_lme4s_modes(name):
    reference = LME4["fits"][name]
    lmm = fitted_model(reference["formula"].replace("(Days|", "(1 + Days | "), reference["data"])
    fit = lmm.reml() if reference["REML"] else lmm.ml()
    for level in lmm.design.levels:
        known = reference["ranef_head"][level.label]
        rows = [int(np.flatnonzero(level.index == g)[0]) for g in range(len(known))]
        scope = dict.fromkeys((other.name for other in lmm.design.levels), "population")
        base, own = (
            lmm.predictions(fit, scope=asked).frame["estimate"].to_numpy()[rows]
            for asked in (scope, scope | {level.name: "observed"})
        )
        columns = level.columns[rows]
        modes = np.array([[row["(Intercept)" if e == "Intercept" else e] for e in level.effects] for row in known])
        # the reference's optimum is good to about 1e-6 of the modes' size
        np.testing.assert_allclose(
            own - base, (columns * modes).sum(axis=1), rtol=1e-4, atol=1e-4 * np.abs(modes).max()
        )


def test_a_group_at_zero_has_its_mode_and_conditional_sd_where_beta_is_known():
    """Without fixed effects nothing but the group's effect is left, whose SD is the conditional one."""
    data = DATA.assign(y=DATA.y - 2)
    lmm = quiet(lambda: blm.LMM("y ~ 0 + (1 | g)", data))
    fit = lmm.reml()
    frame = lmm.predictions(fit, {"g": list("abcde")}).frame
    modes = fit.ranef["g"]
    np.testing.assert_allclose(frame["estimate"], modes["Intercept"], rtol=1e-10)
    np.testing.assert_allclose(frame["sd"], modes["Intercept_sd"], rtol=1e-10)


def test_pairs_that_never_meet_are_solved_for():
    """Crossed levels of which half the cells are empty: covariances that one pass doesn't have."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 3), "h": (np.arange(36) * 5) % 7, "x": rng.normal(size=36)})
    data["y"] = rng.normal(size=12)[data.g] + rng.normal(size=7)[data.h] + 0.3 * data.x + rng.normal(size=36)
    lmm = quiet(lambda: blm.LMM("y ~ x + (1 + x | g) + (1 | h)", data))
    fit, design = lmm.reml(), lmm.design
    every = pd.DataFrame([(g, h) for g in range(12) for h in range(7)], columns=["g", "h"]).assign(x=0.5)
    Z, G = effect_parts(design, fit.lambdas)
    new = design.new(every)
    X, W = new.X, new.Z.toarray()
    known = blup(design.X, design.y, Z @ G @ Z.T + np.eye(36), X, W @ G @ Z.T, W @ G @ W.T)
    agrees(lmm.predictions(fit, every).frame, *known, fit.sigma)


@pytest.mark.parametrize("case", ["kinship and crossed slopes", "crossed with slopes", "nested"])
def test_pieces_change_nothing(case, monkeypatch):
    lmm = quiet(Structured(levels=case, residual="ar1").lmm)
    tree = quiet(lambda: lmm.sample(draws=30, chains=1, random_seed=1, progress=False))
    new = DATA.assign(t=DATA.t + 20)

    def tables():
        options = {"by": "s"}, {"kind": "response"}, {"scope": "average"}
        return [lmm.predictions(r, new, **o).frame for r in (lmm.reml(), tree) for o in options]

    whole = tables()
    for module, name, value in (
        (encoding, "BLOCK", 5),
        (effect_covariances, "PAIRS", 7),
        (effect_covariances, "MANY", 3),
        (effect_covariances, "COLUMNS", 2),
        (from_draws, "NUMBERS", 100),
    ):
        monkeypatch.setattr(module, name, value)
    for a, b in zip(whole, tables(), strict=True):
        np.testing.assert_allclose(
            a.iloc[:, -4:].to_numpy(float), b.iloc[:, -4:].to_numpy(float), rtol=1e-8, atol=1e-10
        )


# posteriors ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pastes():
    lmm = fitted_model("strength ~ 1 + (1 | batch/cask)", "pastes")
    return lmm, lmm.sample(draws=150, chains=2, random_seed=1, progress=False)


def test_a_new_groups_response_is_a_mixture_over_the_draws(pastes):
    lmm, tree = pastes
    posterior = {name: x.to_numpy().reshape(300, -1) for name, x in tree["posterior"].data_vars.items()}
    batch = lmm.design.levels[1].groups.index("C")
    means = posterior["beta"][:, 0] + posterior["u3"][:, batch]
    sds = np.sqrt(posterior["sigma_u2"][:, 0] ** 2 + posterior["sigma"][:, 0] ** 2)
    data = {"batch": ["C"], "cask": ["new"]}
    row = lmm.predictions(tree, data, scope="new in observed", kind="response", level=0.8).frame.iloc[0]
    assert row["estimate"] == pytest.approx(means.mean(), rel=1e-12)
    assert row["sd"] == pytest.approx(np.sqrt(means.var(ddof=1) + (sds**2).mean()), rel=1e-10)
    for name, p in (("10 %", 0.1), ("90 %", 0.9)):
        known = optimize.brentq(lambda x, p=p: stats.norm.cdf(x, means, sds).mean() - p, 0, 200, xtol=1e-12)
        assert row[name] == pytest.approx(known, rel=1e-8)
    observed = lmm.predictions(tree, {"batch": ["C"], "cask": ["a"]}).frame.iloc[0]
    own = means + posterior["u2"][:, lmm.design.levels[0].groups.index("a:C")]
    np.testing.assert_allclose(observed[["2.5 %", "97.5 %"]].tolist(), np.quantile(own, [0.025, 0.975]), rtol=1e-12)
    averaged = lmm.predictions(tree, scope="average by rows", by=True).frame.iloc[0]
    rows = [posterior[level.name][:, level.index].mean(axis=1) for level in lmm.design.levels]
    assert averaged["sd"] == pytest.approx((posterior["beta"][:, 0] + sum(rows)).std(ddof=1), rel=1e-10)


def test_quantiles_of_mixtures():
    rng = np.random.default_rng(2)
    mean, sd = rng.normal(size=(6, 40)) * [[1], [1e-6], [1e6], [1], [30], [0]], rng.uniform(0.5, 2, (6, 40))
    sd[3] = 1e-3  # nearly the sample itself
    mean[4] = np.where(np.arange(40) % 2, 30, -30)  # two modes and nothing between
    for p in (0.001, 0.025, 0.4, 0.975):
        (found,) = quantiles(mean, sd, (p,))
        for row in range(6):
            np.testing.assert_allclose(stats.norm.cdf(found[row], mean[row], sd[row]).mean(), p, atol=1e-7)
    exact = quantiles(mean, np.zeros((6, 40)), (0.1, 0.9))
    np.testing.assert_allclose(exact, np.quantile(mean, [0.1, 0.9], axis=1))


@pytest.mark.parametrize("residual", [name for name in RESIDUALS if name != "iid"])
def test_each_draws_new_observations_are_normal_given_its_own_residuals(residual):
    """Dense conditioning of e_new on e_old at each draw's parameters; drawn jointly, they have its covariance."""
    case = Structured(levels="slopes", residual=residual)
    lmm, keep = held_out(case)
    tree = quiet(lambda: lmm.sample(draws=6, chains=1, random_seed=1, progress=False))
    draws, whole = Draws.of(lmm.design, tree), quiet(case.lmm).design
    old, new = np.flatnonzero(keep), np.flatnonzero(~keep)
    means, variances, last = [], [], None
    for d in range(6):
        u = draws.effects["u2"][d].ravel()
        fitted = whole.X @ draws.values["beta"][d] + whole.Z.toarray() @ u
        R = whole_R(whole, lmm, draws.psi[d])
        A = R[np.ix_(new, old)] @ np.linalg.inv(R[np.ix_(old, old)])
        covariance = draws.values["sigma"][d] ** 2 * (R[np.ix_(new, new)] - A @ R[np.ix_(old, new)])
        if not np.linalg.eigvalsh(covariance)[0] > 0:
            with pytest.raises(blm.DataError, match="no row more in a group"):
                lmm.predictions(tree, DATA[~keep], kind="response")
            return
        means.append(fitted[new] + A @ (whole.y - fitted)[old])
        variances.append(np.diag(covariance))
        last = covariance
    frame = lmm.predictions(tree, DATA[~keep], kind="response").frame
    np.testing.assert_allclose(frame["estimate"], np.mean(means, axis=0), rtol=1e-9)
    total = np.var(means, axis=0, ddof=1) + np.mean(variances, axis=0)
    np.testing.assert_allclose(frame["sd"], np.sqrt(total), rtol=1e-8)
    # the last draw again and again
    again = tree.isel(draw=np.full(4000, 5))
    drawn = lmm.predict(again, DATA[~keep], kind="response", random_seed=3).to_numpy()[0] - means[-1]
    L = np.linalg.inv(np.linalg.cholesky(last))
    white = drawn @ L.T  # independent standard normals: 5 Monte Carlo errors
    assert np.abs(white.mean(axis=0)).max() < 5 / np.sqrt(4000)
    assert np.abs(white.T @ white / 4000 - np.eye(len(new))).max() < 5 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("residual", ["ar1 and strata", "cs", "known", "car1"])
def test_own_rows_once_more_have_the_covariance_R(residual):
    lmm = quiet(Structured(levels="intercept", residual=residual).lmm)
    tree = quiet(lambda: lmm.sample(draws=2, chains=1, random_seed=1, sampler="collapsed", progress=False))
    tree = tree.isel(draw=np.zeros(6000, int))
    draws = Draws.of(lmm.design, tree)
    R = draws.values["sigma"][0] ** 2 * dense_R(lmm.design, draws.psi[0])
    renamed = DATA.assign(g=DATA.g + "!")  # the same rows of new groups
    for data, scope in ((None, "observed"), (renamed, "new"), (renamed, "new where unseen")):
        if residual == "known" and scope == "new where unseen":
            continue  # these rows were seen
        drawn = lmm.predict(tree, data, scope=scope, kind="response", random_seed=1).to_numpy()[0]
        drawn = drawn - (lmm.predict(tree, data, scope=scope, random_seed=1).to_numpy()[0])
        white = drawn @ np.linalg.inv(np.linalg.cholesky(R)).T
        assert np.abs(white.T @ white / 6000 - np.eye(len(R))).max() < 5.5 * np.sqrt(2 / 6000)


def test_ml_reml_and_posterior_tell_the_same_where_data_are_many():
    lmm = fitted_model(SLEEP, "sleepstudy")
    tree = lmm.sample(draws=500, chains=2, random_seed=1, progress=False)
    data = lmm.grid(Days=[0, 9], Subject=[308, 335])
    tables = [lmm.predictions(result, data).frame for result in (lmm.ml(), lmm.reml(), tree)]
    for table in tables[1:]:  # the posterior is wider, for it doesn't know the variances
        np.testing.assert_allclose(table["estimate"], tables[0]["estimate"], atol=0.25 * tables[0]["sd"].max())
        np.testing.assert_allclose(table["sd"], tables[0]["sd"], rtol=0.2)
    both = lmm.predictions(tree, data, scope="population").frame
    drawn = lmm.predict(tree, data, scope="population").stack(sample=("chain", "draw"))
    np.testing.assert_allclose(both["sd"], drawn.std("sample", ddof=1), rtol=1e-10)


# odd data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_units_of_y_change_nothing_but_the_unit(scale):
    data = DATA.assign(y=DATA.y * scale)
    fits = [quiet(lambda d=d: blm.LMM("y ~ x + (1 + x | g)", d)) for d in (data, DATA)]
    a, b = (lmm.predictions(lmm.reml(), kind="response").frame.iloc[:, -4:].to_numpy() for lmm in fits)
    np.testing.assert_allclose(a / scale, b, rtol=1e-5)


def test_columns_called_like_the_numbers_keep_their_place():
    data = DATA.rename(columns={"x": "sd", "g": "2.5 %"})
    lmm = quiet(lambda: blm.LMM("y ~ sd + (1 | `2.5 %`)", data))
    frame = lmm.predictions(lmm.reml()).frame
    assert frame.columns.tolist() == ["y", "sd (data)", "2.5 % (data)", "estimate", "sd", "2.5 %", "97.5 %"]


def test_odd_labels_are_shown_harmlessly():
    data = DATA.assign(g=DATA.g.map(lambda g: f"<b>{g}\x1b[2J"))
    lmm = quiet(lambda: blm.LMM("y ~ x + (1 | g)", data))
    table = lmm.predictions(lmm.reml())
    assert "\x1b" not in repr(table)
    assert "<b>a" not in table._repr_html_()
    assert "&lt;b&gt;a" in table._repr_html_()


def test_an_index_of_several_levels():
    data = DATA.set_index(["g", "row"], drop=False)
    lmm = quiet(lambda: blm.LMM("y ~ x + (1 | g)", data.rename_axis([None, None])))
    tree = quiet(lambda: lmm.sample(draws=4, chains=1, random_seed=1, progress=False))
    assert lmm.predictions(tree).frame.shape[0] == 24
    assert lmm.predict(tree)["row"].to_numpy()[0] == f"a, {DATA.row[0]}"


def test_no_random_and_no_fixed_effects():
    plain = quiet(lambda: blm.LMM("y ~ x", DATA, residual=RESIDUALS["ar1"]))
    fit = quiet(plain.reml)
    assert plain.predictions(fit, {"x": [1.0]}, scope="population", kind="response").frame.shape == (1, 5)
    bare = quiet(lambda: blm.LMM("y ~ 0 + (1 | g)", DATA))
    tree = quiet(lambda: bare.sample(draws=10, chains=1, random_seed=1, progress=False))
    assert bare.predictions(tree, {"g": ["a", "b"]}).frame["sd"].notna().all()


def test_rows_with_missing_values_are_left_out_with_a_word():
    lmm = fitted_model(SLEEP, "sleepstudy")
    data = {"Days": [1.0, np.nan], "Subject": [308, 308]}
    with pytest.raises(blm.DataError, match="1 missing value"):
        lmm.predictions(lmm.reml(), data)
    table = lmm.predictions(lmm.reml(), data, missing="drop")
    assert len(table.frame) == 1
    assert "1 rows with missing values left out" in table.note


def test_a_doubtful_result_says_so():
    lmm = fitted_model(SLEEP, "sleepstudy")
    tree = quiet(lambda: lmm.sample(draws=8, chains=1, random_seed=1, progress=False))
    tree.attrs |= {"trusted": 0, "doubts": "R-hat is 2"}
    assert "The draws are doubtful: R-hat is 2" in lmm.predictions(tree).note
    perfect = quiet(lambda: blm.LMM("y ~ x + (1 | g)", DATA.assign(y=DATA.x * 2)))
    assert "perfect fit" in perfect.predictions(quiet(perfect.ml)).note


# refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", ["weights", "strata"])
def test_a_grid_has_what_responses_need(residual):
    lmm = quiet(Structured(levels="intercept", residual=residual).lmm)
    table = lmm.predictions(quiet(lmm.reml), lmm.grid(), kind="response", scope="population")
    assert np.isfinite(table.frame["sd"]).all()


def refusals():
    sleep = fitted_model(SLEEP, "sleepstudy")
    fit = sleep.reml()
    new = {"Days": [3], "Subject": ["nobody"]}
    ar1, weights, strata, known = (
        Structured(levels="intercept", residual=name) for name in ("ar1", "weights", "strata", "known")
    )
    row = {"x": [0.0], "g": ["a"]}
    text = quiet(lambda: blm.LMM("y ~ x + s + (1 | g)", DATA))
    kin = Structured(levels="kinship", residual="iid")

    def of(case, data, **options):
        lmm = quiet(case.lmm)
        return lambda: lmm.predictions(quiet(lmm.reml), data, **options)

    response = {"kind": "response"}
    return {
        "'nobody'.*scope='new where unseen'": lambda: sleep.predictions(fit, new),
        "no column 'Subject'.*scope='population'": lambda: sleep.predictions(fit, {"Days": [1]}),
        "no column 'Subject'.*any label will do": lambda: sleep.predictions(fit, {"Days": [1]}, scope="new"),
        "no column 'Days'": lambda: sleep.predictions(fit, {"Subject": [308]}),
        "no scope 'old'": lambda: sleep.predictions(fit, scope="old"),
        "scope names 'u3'": lambda: sleep.predictions(fit, scope={"u3": "new"}),
        "here no level lies in another": lambda: sleep.predictions(fit, new, scope="new in observed"),
        "kind='mode'": lambda: sleep.predictions(fit, kind="mode"),
        "level=95": lambda: sleep.predictions(fit, level=95),
        "one for each row; by=": lambda: sleep.predictions(fit, by=True, kind="response"),
        "by names 'Sex'": lambda: sleep.predictions(fit, by="Sex"),
        "A int came as the result": lambda: sleep.predictions(3),
        "comes from another model": lambda: sleep.predictions(
            fitted_model(SLEEP.replace("1 + ", ""), "sleepstudy").ml()
        ),
        "is no predictor": lambda: sleep.comparisons(fit, "Dyas"),
        "can't change by 'much'": lambda: sleep.comparisons(fit, {"Days": "much"}),
        "a pair of its values": lambda: sleep.comparisons(fit, {"Subject": (308, 1)}),
        "along which there is no slope": lambda: text.slopes(text.ml(), "s"),
        "The grid names 'day'.*Did you mean 'Days'": lambda: sleep.grid(day=1),
        "grid_type='none'": lambda: sleep.grid(grid_type="none"),
        "random_effects or allow_new_groups": lambda: sleep.predict(None, scope="new", allow_new_groups=True),
        "known covariance, and new groups": of(kin, {"x": [0.0], "g": ["z"]}, scope="new where unseen"),
        "in which these groups.*scope='observed'": of(kin, None, scope="new"),
        "no column 'w'.*its weight, 1 for": of(weights, row, **response),
        "zero or negative in row 0": of(weights, {**row, "w": [0.0]}, **response),
        "The strata 's' have 'x'": of(strata, {**row, "s": ["x"]}, **response),
        "no column 't'.*kind='mean' doesn't": of(ar1, row, **response),
        "has seen row 0": of(ar1, {**row, "t": [1]}, **response),
        "no whole number of steps": of(ar1, {**row, "t": [1.5]}, **response),
        "labels 'r99'": of(known, {**row, "row": ["r99"]}, **response),
        "The rows 'r1' of row were seen": of(known, {**row, "row": ["r1"]}, **response),
    }


@pytest.fixture(scope="module")
def refused():
    return refusals()


@pytest.mark.parametrize("place", range(30))
def test_what_cannot_be_said_is_refused_in_words(refused, place):
    message, call = list(refused.items())[place]
    with pytest.raises((blm.DataError, blm.DescriptionError), match=message):
        call()
    assert len(refused) == 30
