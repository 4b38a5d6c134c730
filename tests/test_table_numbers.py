"""The numbers of the tables: against lme4, closed forms, dense matrices, and the likelihood's own curvature."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import registry
import structured
from conftest import LME4, fitted_model, read_data
from results import Dense, column, drawn, plain_R

import bayeslmm as blm
from bayeslmm.tables.places import read_places

FITS = LME4["fits"]  # lme4 1.1-31; the commands are in the file
SMALL = {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}


@pytest.fixture(scope="module")
def sleepstudy():
    return fitted_model("Reaction ~ 1 + Days + (Days | Subject)", "sleepstudy")


@pytest.fixture(scope="module")
def pastes():
    return fitted_model("strength ~ 1 + (1 | batch/cask)", "pastes")


# Against lme4 -----------------------------------------------------------------------------------------------------


class TestLme4:
    def test_fixed_effects_and_their_standard_errors(self, sleepstudy):
        frame = sleepstudy.fixef(sleepstudy.reml()).to_pandas()
        reference = FITS["sleepstudy:REML"]
        np.testing.assert_allclose(frame["estimate"], list(reference["fixef"].values()), rtol=1e-6)
        np.testing.assert_allclose(frame["sd"], list(reference["se"].values()), rtol=1e-5)
        half = NormalDist().inv_cdf(0.975) * frame["sd"]
        np.testing.assert_allclose(frame["97.5 %"] - frame["estimate"], half, rtol=1e-9)
        assert set(frame["interval"]) == {"REML Wald"}

    def test_conditional_modes(self, sleepstudy):
        frame = sleepstudy.ranef(sleepstudy.reml()).to_pandas()
        modes = frame.pivot(index="group", columns="effect", values="estimate").iloc[:8]
        reference = pd.DataFrame(FITS["sleepstudy:REML"]["ranef_head"]["Subject"])
        np.testing.assert_allclose(modes["Days"], reference["Days"], rtol=1e-4)
        np.testing.assert_allclose(modes["Intercept"], reference["(Intercept)"], rtol=1e-4)
        assert frame["level"].eq("u2").all()
        assert frame["grouping"].eq("Subject").all()

    def test_profile_limits_of_sleepstudy(self, sleepstudy):
        """confint(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)): .sig01, .sig02, .sig03 and .sigma."""
        frame = sleepstudy.varcorr(sleepstudy.ml()).to_pandas()
        assert frame.index.tolist() == sleepstudy.ml().estimates().index.tolist()[2:]
        assert frame["kind"].tolist() == ["SD", "SD", "SD", "correlation"]
        limits = [[22.8982669, 28.8579965], [14.3814379, 37.715996], [3.8011641, 8.7533661], [-0.4815007, 0.6849862]]
        np.testing.assert_allclose(frame[["2.5 %", "97.5 %"]], limits, rtol=2e-4)

    def test_variance_shares_of_pastes(self, pastes):
        cask, batch, residual = (one["vcov"] for one in FITS["pastes:ML"]["varcor"])
        total = cask + batch + residual
        table = pastes.icc(pastes.ml())
        np.testing.assert_allclose(column(table, quantity="share"), [cask / total, batch / total], rtol=1e-5)
        np.testing.assert_allclose(
            column(table, quantity="correlation"), [(cask + batch) / total, batch / total], rtol=1e-5
        )

    def test_crossed_levels_share_nothing(self):
        lmm = fitted_model("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin")
        table = lmm.icc(lmm.reml())
        np.testing.assert_allclose(column(table, quantity="share"), column(table, quantity="correlation"))

    def test_r_squared_of_sleepstudy(self, sleepstudy):
        """From lme4's numbers: X beta varies with Days alone, whose variance over 10 days is 9.2 (with n - 1)."""
        reference = FITS["sleepstudy:REML"]
        days = read_data("sleepstudy")["Days"]
        fixed = reference["fixef"]["Days"] ** 2 * days.var()
        a, b, ab, residual = (one["vcov"] for one in reference["varcor"])
        effects = a + 2 * ab * days.mean() + b * (days**2).mean()
        total = fixed + effects + residual
        expected = [fixed / total, (fixed + effects) / total]
        np.testing.assert_allclose(column(sleepstudy.r2(sleepstudy.reml())), expected, rtol=1e-5)


# Closed forms -----------------------------------------------------------------------------------------------------


class TestBalancedOneWay:
    """Dyestuff: m = 6 batches of n = 5; MSB and MSW are all there is to know."""

    m, n = 6, 5

    @pytest.fixture
    def lmm(self):
        return fitted_model("Yield ~ 1 + (1 | Batch)", "dyestuff")

    @pytest.fixture
    def squares(self):
        groups = read_data("dyestuff").groupby("Batch")["Yield"]
        return self.n * groups.mean().var(), groups.var().mean()

    def test_icc_and_its_standard_error(self, lmm, squares):
        """REML's ICC is that of the analysis of variance; Donner (1986) has its variance."""
        msb, msw = squares
        m, n = self.m, self.n
        icc = (msb - msw) / (msb + (n - 1) * msw)
        frame = lmm.icc(lmm.reml()).to_pandas()
        np.testing.assert_allclose(frame["estimate"], icc, rtol=1e-6)
        variance = 2 * (1 - icc) ** 2 * (1 + (n - 1) * icc) ** 2 * (m * n - 1) / (n**2 * (n - 1) * m * (m - 1))
        np.testing.assert_allclose(frame["sd"], np.sqrt(variance), rtol=1e-5)  # differences of the gradient
        half = NormalDist().inv_cdf(0.975) * np.sqrt(variance) / (icc * (1 - icc))
        ends = 1 / (1 + (1 - icc) / icc * np.exp([half, -half]))
        np.testing.assert_allclose(frame.loc[0, ["2.5 %", "97.5 %"]].astype(float), ends, rtol=1e-5)

    def test_shrinkage_is_tau_over_tau_plus_sigma_over_n(self, lmm, squares):
        msb, msw = squares
        frame = lmm.shrinkage(lmm.reml()).to_pandas()
        reliability = 1 - msw / msb
        np.testing.assert_allclose(frame["reliability"], reliability, rtol=1e-6)
        np.testing.assert_allclose(frame["effective_rows"], self.n, rtol=1e-6)
        np.testing.assert_allclose(frame["pooled"], reliability * frame["own"], rtol=1e-6)
        np.testing.assert_allclose(frame["shrinkage"], msw / msb, rtol=1e-5)
        assert frame["rows"].tolist() == [5] * 6
        assert frame["population"].eq(0).all()

    def test_effective_parameters(self, lmm, squares):
        msb, msw = squares
        frame = lmm.effective_parameters(lmm.reml()).to_pandas().set_index("component")
        assert frame["columns"].to_dict() == {"fixed": 1, "u2": 6, "total": 7}
        own = (self.m - 1) * (1 - msw / msb)
        np.testing.assert_allclose(frame["estimate"], [1, own, 1 + own], rtol=1e-6)
        assert frame.loc["fixed", "interval"].startswith("exact")

    def test_unbalanced_rows_are_their_own_number(self):
        """Independent rows and one effect: the effective rows of a group are its rows."""
        lmm = registry.BY_NAME["singletons"].lmm()
        frame = lmm.shrinkage(lmm.reml()).to_pandas()
        np.testing.assert_allclose(frame["effective_rows"], frame["rows"], rtol=1e-6)

    def test_other_levels_blur_a_group(self, pastes):
        """Two casks a batch tell of the batch no more than tau / n allows: tau_cask + sigma^2 / 2 each."""
        frame = pastes.shrinkage(pastes.reml()).to_pandas()
        cask, batch, residual = (one["vcov"] for one in FITS["pastes:REML"]["varcor"])
        noise = cask / 3 + residual / 6
        own = frame[frame["level"] == "u3"]
        np.testing.assert_allclose(own["reliability"], batch / (batch + noise), rtol=1e-4)
        np.testing.assert_allclose(own["effective_rows"], residual / noise, rtol=1e-4)
        assert own["rows"].eq(6).all()


# Dense matrices ---------------------------------------------------------------------------------------------------


DESIGNS = [pytest.param(case, plain_R, id=case.name) for case in registry.CASES]
DESIGNS += [pytest.param(case, structured.dense_R, id=case.name) for case in structured.COVER]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("case", "R"), DESIGNS[::2])
def test_posteriors_against_dense_matrices(case, R):
    """The draws' own covariances, put together as matrices of the rows, draw by draw.

    Tolerances: the draws hold correlations, which loses digits where a predictor is far from zero.
    """
    lmm = case.lmm()
    tree = drawn(lmm)
    posterior = tree["posterior"].to_dataset()
    dense = [Dense(lmm, posterior, i, R) for i in range(6)]
    variances = np.array([one.variances for one in dense])
    shares = variances / variances.sum(axis=1, keepdims=True)
    table = lmm.variance_partition(tree).to_pandas()
    own = table[(table["quantity"] == "variance") & (table["component"] != "total")]
    np.testing.assert_allclose(own["estimate"], variances.mean(axis=0), rtol=1e-8)
    np.testing.assert_allclose(own["sd"], variances.std(axis=0, ddof=1), rtol=1e-8)
    own = table[table["quantity"] == "share"]
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(own[["2.5 %", "97.5 %"]], np.stack([low, high], axis=1), rtol=1e-8)
    np.testing.assert_allclose(column(lmm.r2(tree)), np.mean([one.r2 for one in dense], axis=0), rtol=1e-8, atol=1e-14)
    effective = np.mean([one.effective for one in dense], axis=0)
    np.testing.assert_allclose(column(lmm.effective_parameters(tree)), effective, rtol=1e-6, atol=1e-9)
    reliability = np.mean([one.reliability for one in dense], axis=0)
    shrinkage = lmm.shrinkage(tree).to_pandas()
    np.testing.assert_allclose(shrinkage["reliability"].to_numpy(float), reliability, rtol=1e-6, atol=1e-8)
    means = [posterior[level.name].values[0].mean(axis=0).ravel() for level in lmm.design.levels]
    np.testing.assert_allclose(shrinkage["pooled"].to_numpy(float), np.concatenate([*means, []]), rtol=1e-10)
    np.testing.assert_allclose(column(lmm.fixef(tree)), posterior["beta"].values[0].mean(axis=0), rtol=1e-10)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", [param.values[0] for param in DESIGNS if param.values[1] is structured.dense_R])
def test_fits_against_dense_matrices(case):
    """At the estimates, singular or not: what each level adds, the trace of the hat matrix, and y-hat itself."""
    lmm = case.lmm()
    fit = lmm.reml()
    design, s2 = lmm.design, fit.sigma**2
    R = s2 * structured.dense_R(design, fit.psi)
    V = s2 * structured.dense_V(design, fit.lambdas, fit.psi)
    table = lmm.variance_partition(fit)
    np.testing.assert_allclose(column(table, component="total"), np.diag(V).mean(), rtol=1e-8)
    np.testing.assert_allclose(column(table, component="residual", quantity="variance"), np.diag(R).mean(), rtol=1e-8)
    V1, X = np.linalg.inv(V), design.X
    P = V1 - V1 @ X @ np.linalg.solve(X.T @ V1 @ X, X.T @ V1)
    hat = np.eye(design.n) - R @ P
    np.testing.assert_allclose(hat @ design.y, fit.fitted, rtol=1e-6, atol=1e-8)
    effective = lmm.effective_parameters(fit)
    np.testing.assert_allclose(column(effective, component="total"), np.trace(hat), rtol=1e-6)
    for one in (table, effective, lmm.r2(fit), lmm.varcorr(fit, method="wald"), lmm.ranef(fit)):
        frame = one.to_pandas()
        unknown = frame[["2.5 %", "97.5 %"]].isna().any(axis=1)
        assert frame.loc[unknown, "interval"].str.contains("none|no limit").all()
        inside = (frame["2.5 %"] <= frame["estimate"]) & (frame["estimate"] <= frame["97.5 %"])
        assert (inside | unknown).all()


def test_own_estimates_are_least_squares_of_the_group(sleepstudy):
    fit = sleepstudy.reml()
    own = sleepstudy.shrinkage(fit).to_pandas().pivot(index="group", columns="effect", values="own")
    data = read_data("sleepstudy")
    for subject in (308, 372):
        rows = data[data["Subject"] == subject]
        slope, intercept = np.polyfit(rows["Days"], rows["Reaction"], 1)
        expected = [slope - fit.fixef["Days"], intercept - fit.fixef["Intercept"]]
        np.testing.assert_allclose(own.loc[str(subject), ["Days", "Intercept"]], expected, rtol=1e-8)


def test_strata_weigh_the_rows_of_a_group():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefgh"), 6), "s": list("mmffff") * 8})
    data["y"] = rng.normal(size=48) * np.where(data["s"] == "m", 3.0, 0.5) + np.repeat(rng.normal(size=8), 6)
    lmm = blm.LMM("y ~ 1 + (1 | g)", data, residual=blm.Residual(structure="strata", by="s"))
    fit = lmm.reml()
    frame = lmm.shrinkage(fit).to_pandas()
    w = np.where(data["s"] == "m", fit.psi[0] ** -2, 1.0)
    rest = data["y"] - fit.fixef["Intercept"]
    expected = (rest * w).groupby(data["g"]).sum() / pd.Series(w).groupby(data["g"]).sum()
    np.testing.assert_allclose(frame["own"], expected, rtol=1e-9)
    np.testing.assert_allclose(frame["pooled"], frame["reliability"] * frame["own"], rtol=1e-6)


# Standard errors of what follows from the parameters ---------------------------------------------------------------


class TestDelta:
    def test_wald_limits_are_those_of_confint(self, sleepstudy):
        for fit in (sleepstudy.ml(), sleepstudy.reml()):
            ours = sleepstudy.varcorr(fit, method="wald").to_pandas()[["2.5 %", "97.5 %"]]
            theirs = fit.confint(method="wald").iloc[2:][["lower", "upper"]]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4)  # differences of two gradients

    @pytest.mark.parametrize("name", ["orthodont", "ovary", "litters", "flock"])
    def test_so_are_those_of_other_structures(self, name):
        lmm = blm.example(name)
        ours = lmm.varcorr(lmm.reml(), method="wald").to_pandas()[["2.5 %", "97.5 %"]]
        theirs = lmm.reml().confint(method="wald").iloc[lmm.design.p :][["lower", "upper"]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)

    def test_shares_and_r_squared_against_the_dense_likelihood(self, sleepstudy):
        """The Hessian of ML's dense log-likelihood by beta, log SDs and arctanh of the correlation, all at once."""
        data, fit = read_data("sleepstudy"), sleepstudy.ml()
        y, x = data["Reaction"].to_numpy().reshape(18, 10), np.arange(10.0)
        Z = np.column_stack([np.ones(10), x])

        def parts(q):
            sd = np.exp(q[2:4])
            corr = np.array([[1, np.tanh(q[4])], [np.tanh(q[4]), 1]])
            return sd[:, None] * corr * sd, np.exp(2 * q[5])

        def loglik(q):
            G, s2 = parts(q)
            V = Z @ G @ Z.T + s2 * np.eye(10)
            e = y - Z @ q[:2]
            return -0.5 * (18 * np.linalg.slogdet(V)[1] + np.einsum("gi,ij,gj->", e, np.linalg.inv(V), e))

        def quantities(q):
            G, s2 = parts(q)
            at9 = Z[9] @ G @ Z[9]
            fixed, mean = q[1] ** 2 * data["Days"].var(), np.einsum("ni,ij,nj->n", Z, G, Z).mean()
            return np.array([at9 / (at9 + s2), fixed / (fixed + mean + s2), (fixed + mean) / (fixed + mean + s2)])

        sds = np.log([*fit.sds[0], fit.sigma])
        rho = fit.estimates()["corr_u2[Intercept, Days]"]
        q = np.array([*fit.beta, *sds[:2], np.arctanh(rho), sds[2]])
        h = np.array([1e-2, 1e-2, 1e-3, 1e-3, 1e-3, 1e-3])
        H = np.empty((6, 6))
        for i in range(6):
            for j in range(6):
                a, b = np.eye(6)[i] * h, np.eye(6)[j] * h
                four = loglik(q + a + b) - loglik(q + a - b) - loglik(q - a + b) + loglik(q - a - b)
                H[i, j] = -four / (4 * h[i] * h[j])
        J = np.array([(quantities(q + s) - quantities(q - s)) / (2 * s.sum()) for s in np.diag(h)])
        expected = np.sqrt(np.diag(J.T @ np.linalg.inv(H) @ J))
        share = sleepstudy.variance_partition(fit, at={"Days": 9}).to_pandas()
        own = share[(share["component"] == "u2") & (share["quantity"] == "share")]["sd"].tolist()
        own += sleepstudy.r2(fit).to_pandas()["sd"].tolist()
        np.testing.assert_allclose(own, expected, rtol=1e-3)  # second differences of the log-likelihood

    def test_a_variance_on_the_boundary_has_words_instead_of_an_interval(self, heights3):
        frame = heights3.variance_partition(heights3.ml()).to_pandas().set_index(["component", "quantity"])
        assert frame.loc[("u3", "share"), "interval"] == "none, as sigma_u3 is on the boundary"
        assert np.isnan(frame.loc[("u3", "share"), "97.5 %"])
        assert frame.loc[("u2", "share"), "interval"] == "ML Wald, given sigma_u3 on the boundary"
        assert "Singular" in heights3.variance_partition(heights3.ml()).note

    def test_an_independent_slope_far_from_zero_leaves_no_rounding_in_an_sd_of_zero(self):
        rng = np.random.default_rng(2)
        data = {"y": rng.normal(size=80), "x": rng.gamma(2, 1, 80) + 3, "g": np.repeat(list("abcdefgh"), 10)}
        lmm = blm.LMM("y ~ x + (x || g)", data)
        fit = lmm.ml()
        zero = fit.boundary[0]
        frame = lmm.varcorr(fit).to_pandas()
        assert frame.loc[zero, "estimate"] == 0
        assert np.isnan(frame.loc[zero, "sd"])
        effect = zero.removeprefix("sigma_u2[").removesuffix("]")
        shrunk = lmm.shrinkage(fit).to_pandas().set_index("effect").loc[effect]
        assert shrunk["reliability"].eq(0).all()
        assert shrunk["effective_rows"].isna().all()

    def test_a_likelihood_that_reaches_the_edge_is_said_to(self, heights3):
        frame = heights3.icc(heights3.reml()).to_pandas()
        assert frame["interval"].tolist()[-1] == "REML Wald, very rough"

    def test_a_perfect_fit_has_estimates_and_words(self):
        lmm = blm.LMM("y ~ x + (1 | g)", {"y": [1.0, 2, 3, 5, 6, 7], "x": [0.0, 1, 2, 0, 1, 2], "g": list("aaabbb")})
        for call in ("fixef", "ranef", "varcorr", "variance_partition", "icc", "r2", "effective_parameters"):
            table = getattr(lmm, call)(lmm.ml())
            assert "Perfect fit" in table.note
            assert table.to_pandas()[["2.5 %", "97.5 %"]].isna().all(axis=None)
            assert table.to_pandas()["interval"].eq("none, as the fit is perfect").all()


# Where slopes vary ------------------------------------------------------------------------------------------------


class TestAt:
    def test_variances_are_quadratic_in_the_predictor(self, sleepstudy):
        fit = sleepstudy.reml()
        table = sleepstudy.variance_partition(fit, at={"Days": [0, 5, 9]})
        assert table.to_pandas()["Days"].unique().tolist() == [0, 5, 9]
        lam = fit.lambdas[0]
        z = np.column_stack([np.ones(3), [0, 5, 9]])
        expected = fit.sigma**2 * ((z @ lam) ** 2).sum(axis=1)
        np.testing.assert_allclose(column(table, component="u2", quantity="variance"), expected, rtol=1e-7)

    def test_a_predictor_far_from_zero_loses_nothing(self, sleepstudy):
        """The model of I(Days + 1e6) is the model of Days: shares, R^2 and effective parameters are the same."""
        data = read_data("sleepstudy")
        for shift, tolerance in ((2000.0, 1e-6), (1e6, 1e-4)):
            moved = blm.LMM("Reaction ~ 1 + d + (d | Subject)", data.assign(d=data["Days"] + shift))
            fit = moved.reml()
            a = sleepstudy.icc(sleepstudy.reml(), at={"Days": [0, 9]}).to_pandas()
            b = moved.icc(fit, at={"d": [shift, shift + 9]}).to_pandas()
            np.testing.assert_allclose(a.iloc[:, 4:-1].to_numpy(float), b.iloc[:, 4:-1].to_numpy(float), rtol=tolerance)
            a, b = (column(x.effective_parameters(x.reml())) for x in (sleepstudy, moved))
            np.testing.assert_allclose(a, b, rtol=tolerance)

    @pytest.mark.parametrize("unit", [1e-9, 1e9])
    def test_units_of_y_change_no_share(self, sleepstudy, unit):
        data = read_data("sleepstudy")
        scaled = blm.LMM("y ~ 1 + Days + (Days | Subject)", data.assign(y=data["Reaction"] * unit))
        for call in ("icc", "r2", "effective_parameters"):
            a, b = (getattr(x, call)(x.reml()).to_pandas() for x in (sleepstudy, scaled))
            numbers = ["estimate", "sd", "2.5 %", "97.5 %"]
            np.testing.assert_allclose(a[numbers], b[numbers], rtol=1e-4)
        np.testing.assert_allclose(
            column(scaled.variance_partition(scaled.reml()), quantity="variance"),
            unit**2 * column(sleepstudy.variance_partition(sleepstudy.reml()), quantity="variance"),
            rtol=1e-5,
        )

    def test_categories_and_transforms_are_encoded_as_the_data_were(self):
        lmm = registry.BY_NAME["factor by group"].lmm()
        tree = drawn(lmm)
        table = lmm.variance_partition(tree, at={"f": ["q", "p"]})
        expected = (tree["posterior"]["sigma_u2"].values ** 2).mean(axis=(0, 1))[::-1]
        np.testing.assert_allclose(column(table, component="u2", quantity="variance"), expected, rtol=1e-9)
        data = registry.BY_NAME["slope"].data()
        lmm = blm.LMM("y ~ 1 + t + (I(t**2) | g)", data)
        tree = drawn(lmm)
        sd, corr = tree["posterior"]["sigma_u2"].values[0], tree["posterior"]["corr_u2"].values[0, :, 0, 1]
        expected = sd[:, 0] ** 2 + 2 * 9 * corr * sd[:, 0] * sd[:, 1] + 81 * sd[:, 1] ** 2
        table = lmm.variance_partition(tree, at={"t": 3})
        np.testing.assert_allclose(column(table, component="u2", quantity="variance"), expected.mean(), rtol=1e-9)

    def test_a_predictor_that_is_not_named_keeps_the_rows_values(self):
        lmm = registry.BY_NAME["three effects"].lmm()
        tree = drawn(lmm)
        table = lmm.variance_partition(tree, at={"x": [0.5]})
        assert "averaged over the rows' 'w'" in table.note
        columns = lmm.design.levels[0].columns.copy()
        columns[:, 1] = 0.5
        posterior = tree["posterior"]
        sd, corr = posterior["sigma_u2"].values[0], posterior["corr_u2"].values[0]
        G = sd[:, :, None] * corr * sd[:, None, :]
        expected = np.einsum("ni,dij,nj->dn", columns, G, columns).mean()
        np.testing.assert_allclose(column(table, component="u2", quantity="variance"), expected, rtol=1e-9)

    def test_strata_one_by_one(self):
        lmm = blm.example("orthodont")
        fit = lmm.reml()
        table = lmm.variance_partition(fit, at={"Sex": ["Male", "Female"]})
        sds = np.array([fit.psi[0], 1.0]) * fit.sigma
        np.testing.assert_allclose(column(table, component="residual", quantity="variance"), sds**2, rtol=1e-9)
        assert "averaged" not in table.note
        averaged = lmm.variance_partition(fit)
        assert "averaged over the rows" in averaged.note

    def test_all_combinations(self, sleepstudy):
        data = read_data("sleepstudy").assign(s=lambda d: np.where(d["Days"] % 2, "odd", "even"))
        lmm = blm.LMM("Reaction ~ Days + (Days | Subject)", data, residual=blm.Residual(structure="strata", by="s"))
        labels = read_places(lmm.statistics, {"Days": [0, 9], "s": ["even", "odd"]}).labels
        assert labels.to_numpy().tolist() == [[0, "even"], [0, "odd"], [9, "even"], [9, "odd"]]

    def test_outside_of_the_data_is_said(self, sleepstudy):
        assert "Days = 20 lies outside of the data, 0 to 9." in sleepstudy.icc(sleepstudy.ml(), at={"Days": 20}).note

    @pytest.mark.parametrize(
        ("at", "words"),
        [
            ({"days": [1]}, r"names 'days'.*Did you mean 'Days'"),
            ({"Subject": ["308"]}, "on which no variance of this model depends"),
            ({}, "expected a mapping"),
            ([1, 2], "expected a mapping"),
            ({"Days": []}, "no values for 'Days'"),
            ({"Days": range(20_000)}, "20,000 combinations"),
        ],
    )
    def test_what_is_no_place(self, sleepstudy, at, words):
        with pytest.raises(blm.DescriptionError, match=words):
            sleepstudy.icc(sleepstudy.ml(), at=at)

    @pytest.mark.parametrize("values", [["a"], [np.nan], [None], [np.inf], [[1, 2]]])
    def test_values_that_are_no_numbers(self, sleepstudy, values):
        with pytest.raises((blm.DataError, blm.DescriptionError), match="'Days'"):
            sleepstudy.icc(sleepstudy.ml(), at={"Days": values})

    def test_other_predictors_that_are_needed(self):
        lmm = blm.LMM("y ~ 1 + (x:w | g)", registry.BY_NAME["three effects"].data())
        with pytest.raises(blm.DescriptionError, match="also need 'w'"):
            lmm.icc(lmm.ml(), at={"x": 1})
        assert "no variance" in _error(lambda: blm.LMM("y ~ 1 + (1 | g)", SMALL), {"x": 1})

    def test_a_stratum_that_there_is_not(self):
        lmm = blm.example("orthodont")
        with pytest.raises(blm.DescriptionError, match=r"Sex = 'male'.*Did you mean 'Male'"):
            lmm.icc(lmm.ml(), at={"Sex": "male"})


def _error(make, at):
    lmm = make()
    with pytest.raises(blm.DescriptionError) as error:
        lmm.icc(lmm.ml(), at=at)
    return str(error.value)
