"""Tables of results: what they look like, for which models and results there are which, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
import registry
import xarray as xr
from conftest import fitted_model, read_data
from results import Dense, column, drawn, plain_R
from synthetic import both

import bayeslmm as blm
from bayeslmm.tables.model import level_counts
from bayeslmm.tables.table import Table

SMALL = {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}
EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def sleepstudy():
    return fitted_model("Reaction ~ 1 + Days + (Days | Subject)", "sleepstudy")


@pytest.fixture(scope="module")
def pastes():
    return fitted_model("strength ~ 1 + (1 | batch/cask)", "pastes")


# Tables -----------------------------------------------------------------------------------------------------------


class TestTable:
    frame = pd.DataFrame(
        {"estimate": [1.5, np.nan], "sd": [0.25, np.nan], "n": [3, 4000]}, index=pd.Index(["a", EVIL], name="g")
    )

    def test_text_and_html_have_title_numbers_and_note(self):
        table = Table(frame=self.frame, title="A title", note="One line.\nAnother.")
        assert repr(table).splitlines() == [
            "A title",
            "g                            estimate     sd     n",
            "a                               1.500  0.250     3",
            f"{EVIL}                   4000",
            "One line.",
            "Another.",
        ]
        assert "<td>1.500</td><td>0.250</td><td>3</td>" in table._repr_html_()
        assert "One line.<br>Another." in table._repr_html_()

    def test_everything_is_escaped_in_html_and_made_visible_in_a_terminal(self):
        frame = self.frame.rename(columns={"n": EVIL}).set_axis([EVIL, "\x1b[2J"]).assign(words=[EVIL, "a\nb"])
        table = Table(frame=frame.rename_axis(EVIL), title=EVIL, note=EVIL)
        assert "<script" not in table._repr_html_()
        assert "\x1b" not in table._repr_html_() + repr(table)
        assert len(repr(table).splitlines()) == 5

    def test_an_interval_that_all_rows_share_is_said_once(self):
        frame = self.frame.assign(interval=["Wald", "Wald"])
        assert repr(Table(frame=frame, title="t")).count("Wald") == 1
        assert repr(Table(frame=frame.assign(interval=["Wald", "none"]), title="t")).count("Wald") == 1
        assert "interval" in Table(frame=frame, title="t").to_pandas()

    def test_a_long_one_is_cut_and_says_so(self):
        table = Table(frame=pd.DataFrame({"estimate": np.arange(1000.0)}), title="t")
        assert "... and 940 rows more" in repr(table)
        assert "... and 940 rows more" in table._repr_html_()
        assert len(table._repr_html_()) < 10_000
        assert len(table.to_pandas()) == 1000

    def test_numbers_of_a_row_have_the_decimals_that_their_sd_deserves(self):
        values = np.array([[251.40512, 6.8246], [1.25e-9, 3e-10], [123456789.123, 0.25], [0.0, 0.0]])
        table = Table(frame=pd.DataFrame(values, columns=["estimate", "sd"]), title="t")
        rows = [line.split() for line in repr(table).splitlines()[2:]]
        assert rows == [["251.41", "6.82"], ["1.25e-09", "3e-10"], ["123456789.123", "0.250"], ["0", "0"]]

    def test_an_empty_one_and_a_copy(self):
        assert "estimate" in repr(Table(frame=pd.DataFrame({"estimate": []}), title="t"))
        table = Table(frame=self.frame.copy(), title="t")
        copy = table.to_pandas()
        copy.iloc[0, 0] = 99.0
        assert table.frame.iloc[0, 0] == 1.5


@pytest.fixture(scope="module")
def odd_labels():
    """Groups, a predictor and a stratum with labels that a browser or a terminal would obey."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"y": rng.normal(size=24), EVIL: rng.normal(size=24), "g": np.repeat([EVIL, "\x1b[2J", "<b>", "d"], 6)}
    )
    data["s"] = np.tile([EVIL, "&"], 12)
    return blm.LMM(f"y ~ `{EVIL}` + (1 | g)", data, residual=blm.Residual(structure="strata", by="s"))


class TestHTML:
    def test_models_fits_priors_and_comparisons_are_tables_with_escaped_labels(self, odd_labels):
        plain = blm.LMM(f"y ~ `{EVIL}` + (1 | g)", {"y": odd_labels.y, EVIL: odd_labels.X[EVIL], "g": list("<&>") * 8})
        shown = [odd_labels, odd_labels.ml(), odd_labels.priors, odd_labels.implied_priors(100, 1), both(plain)]
        for one, tables in zip(shown, (2, 3, 1, 1, 4), strict=True):
            text = one._repr_html_()
            assert text.count("<table") == tables
            assert "<script" not in text
            assert "<b>" not in text
            assert "\x1b" not in text
            assert "<pre" not in text

    def test_so_are_all_tables_of_results(self, odd_labels):
        fit = odd_labels.reml()
        for call in ("fixef", "ranef", "varcorr", "variance_partition", "icc", "r2", "shrinkage"):
            table = getattr(odd_labels, call)(fit)
            assert "<script" not in table._repr_html_()
            assert "\x1b" not in repr(table) + table._repr_html_()
            assert "<table" in table._repr_html_()

    def test_a_model_shows_its_counts_and_its_priors(self, pastes):
        counts = level_counts(pastes)
        assert counts["groups"].tolist() == ["30", "10"]
        assert counts["rows per group"].tolist() == ["2", "6"]
        text = pastes._repr_html_()
        assert "HalfStudentT" in text
        assert "nested in 10 groups of batch" in text

    def test_a_fit_shows_what_its_text_says(self, sleepstudy, heights3):
        text = sleepstudy.reml()._repr_html_()
        for number in ("1743.63", "25.5918", "251.405", "36.838", "0.07"):
            assert number in text
        assert "Singular: the maximum lies on the boundary" in heights3.ml()._repr_html_()

    def test_without_levels_there_is_no_table_of_them(self):
        assert blm.example("litters")._repr_html_().count("<table") == 1
        assert blm.example("litters").ml()._repr_html_().count("<table") == 3


# Every kind of model -----------------------------------------------------------------------------------------------


class TestKinds:
    def test_without_levels(self):
        lmm = blm.example("litters")
        fit = lmm.reml()
        assert "no random effects" in lmm.ranef(fit).note
        assert "no random effects" in lmm.shrinkage(fit).note
        assert "no levels" in lmm.icc(fit).note
        frame = lmm.variance_partition(fit).to_pandas()
        assert frame["component"].tolist() == ["residual", "total", "residual"]
        assert frame["interval"].tolist()[-1].startswith("exact")
        assert column(lmm.effective_parameters(fit)).tolist() == [2.0, 2.0]
        a, b = column(lmm.r2(fit))
        assert a == b > 0
        for call in ("ranef", "shrinkage", "icc"):
            assert "<table" in getattr(lmm, call)(fit)._repr_html_()
            assert getattr(lmm, call)(fit).to_pandas().empty

    def test_without_fixed_effects(self):
        data = registry.BY_NAME["one way"].data()
        lmm = blm.LMM("y ~ 0 + (1 | g)", data)
        for result in (lmm.ml(), lmm.reml(), drawn(lmm)):
            assert "no fixed effects" in lmm.fixef(result).note
            assert lmm.fixef(result).to_pandas().empty
            assert column(lmm.effective_parameters(result))[0] == 0
            assert column(lmm.r2(result))[0] == 0

    def test_an_intercept_explains_nothing_and_that_is_exact(self):
        lmm = blm.LMM("y ~ 1 + (1 | g)", SMALL)
        frame = lmm.r2(lmm.ml()).to_pandas()
        assert frame.loc["marginal", ["estimate", "sd", "97.5 %"]].tolist() == [0, 0, 0]
        assert frame.loc["marginal", "interval"].startswith("exact")

    def test_entirely_known_covariances_have_known_shares(self):
        lmm = blm.example("calves")
        fit = lmm.reml()
        frame = lmm.icc(fit).to_pandas()
        root = lmm.design.levels[0].root
        diagonal = np.einsum("ij,ij->i", root, root)[lmm.design.levels[0].index].mean()
        np.testing.assert_allclose(frame["estimate"], diagonal / (diagonal + 1), rtol=1e-9)
        assert frame["interval"].str.startswith("exact").all()
        assert "mean diagonal" in lmm.icc(fit).note
        assert lmm.varcorr(fit).to_pandas().index.tolist() == ["sigma"]
        assert "sigma^2 times" in lmm.varcorr(fit).note
        relatives = lmm.shrinkage(fit).to_pandas()
        assert (relatives.loc[relatives["rows"] == 0, "effective_rows"] > 0).all()
        assert relatives.loc[relatives["rows"] == 0, "own"].isna().all()

    def test_sds_and_ratios_of_strata_and_correlations_of_rows(self):
        frame = blm.example("orthodont").varcorr(blm.example("orthodont").reml()).to_pandas()
        assert frame.loc["sigma_ratio[Male]", "kind"] == "ratio of SDs"
        lmm = blm.example("ovary")
        assert lmm.varcorr(lmm.reml()).to_pandas().loc["rho", "kind"] == "correlation"
        assert "R itself" in lmm.icc(lmm.reml()).note

    @pytest.mark.parametrize("bar", ["cs(1 + t | g)", "homcs(1 + t | g)", "ar1(1 + t | g)", "(1 + t || g)"])
    def test_structures_of_effects(self, bar):
        lmm = blm.LMM(f"y ~ t + {bar}", registry.BY_NAME["slope"].data())
        tree = drawn(lmm)
        posterior = tree["posterior"].to_dataset()
        dense = [Dense(lmm, posterior, i, plain_R).variances[0] for i in range(6)]
        table = lmm.variance_partition(tree)
        np.testing.assert_allclose(column(table, component="u2", quantity="variance"), np.mean(dense), rtol=1e-9)
        frame = lmm.varcorr(tree).to_pandas()
        assert frame.index.tolist() == lmm.ml().estimates().index.tolist()[2:]
        sds = np.atleast_1d(posterior["sigma_u2"].values[0].mean(axis=0))
        np.testing.assert_allclose(frame.loc[frame["kind"] == "SD", "estimate"][1:], sds, rtol=1e-9)
        if "rho_u2" in posterior:
            rho = posterior["rho_u2"].values.mean()
            np.testing.assert_allclose(frame.loc[frame["kind"] == "correlation", "estimate"], rho, rtol=1e-8)

    def test_an_offset_explains_nothing(self):
        data = registry.BY_NAME["one way"].data()
        with_offset = blm.LMM("y ~ x + (1 | g) + offset(w)", data)
        without = blm.LMM("z ~ x + (1 | g)", {**data, "z": np.subtract(data["y"], data["w"])})
        a, b = (column(x.r2(x.reml())) for x in (with_offset, without))
        np.testing.assert_allclose(a, b, rtol=1e-8)
        assert "offset" in with_offset.r2(with_offset.reml()).note

    def test_one_shape_for_all_results(self, sleepstudy):
        results = (sleepstudy.ml(), sleepstudy.reml(), drawn(sleepstudy))
        for call in ("fixef", "ranef", "varcorr", "variance_partition", "icc", "r2", "effective_parameters"):
            frames = [getattr(sleepstudy, call)(result, level=0.9).to_pandas() for result in results]
            for frame in frames:
                assert frame.columns.tolist() == frames[0].columns.tolist()
                assert frame.columns.tolist()[-5:] == ["estimate", "sd", "5 %", "95 %", "interval"]
                assert frame.index.equals(frames[0].index)
        frames = [sleepstudy.shrinkage(result).to_pandas() for result in results]
        assert all(frame.columns.equals(frames[0].columns) for frame in frames)

    def test_many_groups_are_quick_and_short(self):
        rng = np.random.default_rng(5)
        lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": rng.normal(size=3000), "g": np.repeat(np.arange(1000), 3).astype(str)})
        table = lmm.shrinkage(drawn(lmm))
        assert len(table.to_pandas()) == 1000
        assert len(repr(table).splitlines()) < 75


class TestResults:
    def test_what_is_no_result(self, sleepstudy):
        with pytest.raises(blm.DescriptionError, match=r"A str came as the result.*Did you mean lmm\.reml\(\)"):
            sleepstudy.fixef("REML")
        with pytest.raises(blm.DescriptionError, match="A DataFrame came"):
            sleepstudy.icc(pd.DataFrame())
        with pytest.raises(blm.DescriptionError, match=r"coverage between 0 and 1.*Did you mean 0\.95"):
            sleepstudy.r2(sleepstudy.ml(), level=95)
        with pytest.raises(blm.DescriptionError, match="'profile' or 'wald'"):
            sleepstudy.varcorr(sleepstudy.ml(), method="boot")
        with pytest.raises(blm.DescriptionError, match="Leave it out"):
            sleepstudy.varcorr(drawn(sleepstudy), method="wald")

    def test_results_of_other_models_are_refused(self, sleepstudy, pastes):
        with pytest.raises(blm.DataError, match="The fit is of 'strength"):
            sleepstudy.fixef(pastes.ml())
        with pytest.raises(blm.DataError, match=r"comes from another model|has no variable"):
            sleepstudy.fixef(drawn(pastes))
        data = read_data("sleepstudy")
        again = blm.LMM("Reaction ~ 1 + Days + (Days | Subject)", data)
        assert sleepstudy.fixef(again.ml()).to_pandas().equals(sleepstudy.fixef(sleepstudy.ml()).to_pandas())
        other = blm.LMM("Reaction ~ 1 + Days + (Days | Subject)", data.assign(Reaction=data["Reaction"] + data["Days"]))
        with pytest.raises(blm.DataError, match="other data"):
            sleepstudy.fixef(other.ml())

    def test_a_posterior_without_effects_says_what_is_missing(self, sleepstudy):
        tree = drawn(sleepstudy)
        short = xr.DataTree.from_dict({"/posterior": tree["posterior"].to_dataset().drop_vars("u2")})
        assert len(sleepstudy.fixef(short).to_pandas()) == 2
        with pytest.raises(blm.DataError, match="no variable 'u2'"):
            sleepstudy.ranef(short)

    def test_draws_that_cannot_be_trusted_are_said_to_be(self, sleepstudy):
        assert "cannot be judged" in sleepstudy.icc(drawn(sleepstudy)).note
        wild = drawn(sleepstudy, draws=2000)["posterior"].to_dataset()
        chains = xr.concat([wild, wild.assign(sigma=wild["sigma"] + 1e4)], "chain").assign_coords(chain=[0, 1])
        tree = xr.DataTree.from_dict({"/posterior": chains})
        assert "cannot be trusted yet: R-hat reaches" in sleepstudy.fixef(tree).note

    def test_one_draw_has_no_sd(self, sleepstudy):
        frame = sleepstudy.varcorr(drawn(sleepstudy, draws=1)).to_pandas()
        assert frame["sd"].isna().all()
        assert (frame["2.5 %"] == frame["estimate"]).all()

    def test_reml_has_no_profile_of_fixed_effects_and_says_so(self, sleepstudy):
        table = sleepstudy.fixef(sleepstudy.reml(), method="profile")
        assert "REML says nothing" in table.note
        profile = sleepstudy.fixef(sleepstudy.ml(), method="profile").to_pandas()
        # confint(..., REML = FALSE): (Intercept) 237.6806955 265.1295147, Days 7.3586533 13.5759187
        limits = [[237.6806955, 265.1295147], [7.3586533, 13.5759187]]
        np.testing.assert_allclose(profile[["2.5 %", "97.5 %"]], limits, rtol=1e-4)

    def test_titles_name_the_result(self, sleepstudy):
        tree = drawn(sleepstudy)
        tree.attrs["variant"] = "marginal"
        assert sleepstudy.icc(tree).title.endswith("marginal posterior")
        assert re.search(r"\bML$", sleepstudy.icc(sleepstudy.ml()).title)
