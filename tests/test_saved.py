"""Saved models: what is loaded is what was saved, whatever the model and its data."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayeslmm as blm
from bayeslmm.comparison.comparison import compare_posteriors
from bayeslmm.errors import DataError, SavedError
from bayeslmm.saved.table_file import same_table
from tests.structured import DATA, KG, LEVELS, RESIDUALS, ROWS

MODELS = sorted((Path(__file__).parents[1] / "models").glob("*.toml"))
SMALL = {"y": [1.0, 2, 4, 5, 8, 9.5], "g": list("aabbcc")}
NASTY = 'a\x1b[2J\u202e"\n, \x00\r'


def sampled(lmm, draws=20, **options):
    return lmm.sample(draws=draws, chains=2, random_seed=1, progress=False, **options)


def files(place):
    return sorted(path.name for path in place.iterdir())


class TestWhatIsLoadedIsWhatWasSaved:
    @staticmethod
    def require_same(lmm, target, result=None):
        loaded = blm.load(lmm.save(target, result)).model
        assert loaded.hierarchy == lmm.hierarchy
        assert repr(loaded.priors) == repr(lmm.priors)
        assert loaded.design.dropped == lmm.design.dropped
        assert loaded.design.hints == lmm.design.hints
        assert same_table(lmm.design.frame, loaded.design.frame) == ""
        for one, other in zip(lmm.design.levels, loaded.design.levels, strict=True):
            assert (one.groups, one.effects, one.keys) == (other.groups, other.effects, other.keys)
        return loaded

    @pytest.mark.parametrize("path", MODELS[::2], ids=lambda path: path.stem)
    def test_every_example(self, path, tmp_path):
        lmm = blm.example(path.stem)
        loaded = self.require_same(lmm, tmp_path / "a")
        if isinstance(lmm, blm.GLMM):
            assert loaded.ml("laplace").loglik == pytest.approx(lmm.ml("laplace").loglik, rel=1e-12)
            return
        assert loaded.ml().loglik == pytest.approx(lmm.ml().loglik, rel=1e-12)

    @pytest.mark.parametrize("levels", LEVELS)
    def test_levels_and_known_covariances(self, levels, tmp_path):
        term, options = LEVELS[levels]
        residual = RESIDUALS["cs" if levels == "none" else "iid"]
        lmm = blm.LMM(f"y ~ x {'+' * bool(term)} {term}", DATA, residual=residual, **options)
        self.require_same(lmm, tmp_path / "a")

    @pytest.mark.parametrize("residual", RESIDUALS)
    def test_residuals(self, residual, tmp_path):
        lmm = blm.LMM("y ~ x + (1 | g)", DATA, residual=RESIDUALS[residual])
        self.require_same(lmm, tmp_path / "a")

    def test_sparse_matrices_and_structures_of_effects(self, tmp_path):
        from scipy import sparse

        K = blm.KnownMatrix(labels=list(KG.index), matrix=sparse.csc_array(np.diag([1.0, 2, 3, 4, 5])))
        levels = (
            blm.Level(group="g", covariance=K, known=True),
            blm.Level(group="h", effects="0 + s", structure="cs"),
        )
        lmm = blm.LMM(blm.Hierarchy(response="y", fixed="x", levels=levels, offset="w"), DATA)
        loaded = self.require_same(lmm, tmp_path / "a", sampled(lmm))
        assert loaded.hierarchy.levels[0].covariance.sparse

    def test_a_known_residual_by_the_labels_of_the_rows(self, tmp_path):
        lmm = blm.LMM(
            "y ~ x + (1 | g)", DATA.set_index("row"), residual=blm.Residual(structure="known", covariance=ROWS)
        )
        self.require_same(lmm, tmp_path / "a")

    @pytest.mark.parametrize(
        "priors",
        [
            {"sigma": "HalfNormal(sigma=0.1)", "beta": blm.Prior("Normal", mu=0, sigma=1 / 3)},
            {"sigma_u2": {"Intercept": "Exponential(lam=3)"}, "beta[x]": "StudentT(nu=3, mu=0, sigma=1e-7)"},
            {"corr_u2": 3, "Intercept": "Flat()"},
            {"sigma_total": "HalfNormal(sigma=2)", "shares": {"sigma_u2": 2.5}},
            {"shares": 0.5},
        ],
        ids=str,
    )
    def test_priors_under_the_keys_they_were_given_under(self, priors, tmp_path):
        self.require_same(blm.LMM("y ~ x + (x | g)", DATA, priors=priors), tmp_path / "a")

    @pytest.mark.parametrize(
        "column",
        [
            pd.Categorical(list("aabbcc"), categories=list("cxba"), ordered=True),
            pd.Categorical([3, 3, 1, 1, 2, 2]),
            pd.cut([1, 2, 3, 4, 5, 6], 3),
            pd.Series([True, True, False, False, True, True]),
            pd.Series([1, 1, 2, 2, 3, 3], dtype="int8"),
            pd.Series([0.5, 0.5, 1e-3, 1e-3, 3, 3], dtype="float32"),
            pd.Series(pd.to_datetime(["2020-01-01 00:00", "2021-05-05 10:00"] * 3)),
            pd.Series(pd.to_datetime(["2020-01-01 00:00", "2021-05-05 10:00"] * 3)).dt.tz_localize("Europe/Berlin"),
            [dt.date(2020, 1, 1), dt.date(2021, 1, 1)] * 3,
            pd.period_range("2020", periods=2, freq="M").repeat(3),
            [NASTY, "", " ", "NA", "01", "01"],
            pl.Series(["x", "y"] * 3, dtype=pl.Enum(["y", "x"])),
        ],
        ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}"[:40],
    )
    def test_groups_and_factors_of_any_type(self, column, tmp_path):
        data = {"y": [1.0, 2, 4, 5, 8, 9.5], "of y": np.arange(6.0), "my group": column}
        frame = pl.DataFrame(data) if isinstance(column, pl.Series) else pd.DataFrame(data)
        lmm = blm.LMM("y ~ 1 + (1 | `my group`)", frame)
        loaded = self.require_same(lmm, tmp_path / "a", sampled(lmm))
        assert loaded.design.levels[0].groups == lmm.design.levels[0].groups

    def test_factors_keep_the_order_of_their_categories(self, tmp_path):
        f = pd.Categorical(list("ababab"), categories=["b", "a"])
        lmm = blm.LMM("y ~ f + offset(o) + (1 | g)", {**SMALL, "f": f, "o": range(6)})
        assert self.require_same(lmm, tmp_path / "a").design.coef == ("Intercept", "f[T.a]")

    def test_rows_left_out_stay_left_out_and_are_counted(self, tmp_path):
        data = pd.DataFrame({**SMALL, "x": [1, np.nan, 2, 3, 5, 4]}, index=list("pqrstu"))
        lmm = blm.LMM("y ~ x + (1 | g)", data, missing="drop")
        loaded = self.require_same(lmm, tmp_path / "a")
        assert loaded.design.rows.tolist() == list("prstu")
        assert blm.load(tmp_path / "a", data=data).lmm.design.n == 5

    def test_columns_left_out_are_said_again_when_loaded(self, tmp_path):
        data = {**SMALL, "x": [1, 2, 3, 4, 5, 7], "z": [2, 4, 6, 8, 10, 14]}
        with pytest.warns(UserWarning, match="left out"):
            lmm = blm.LMM("y ~ x + z + (1 | g)", data)
        lmm.save(tmp_path / "a")
        with pytest.warns(UserWarning, match="left out"):
            assert blm.load(tmp_path / "a").lmm.design.left_out == lmm.design.left_out

    @pytest.mark.parametrize("unit", [1e-9, 1e9])
    def test_units_of_y(self, unit, tmp_path):
        lmm = blm.LMM("y ~ x + (1 | g)", DATA.assign(y=DATA.y * unit, x=DATA.x + 1e6))
        self.require_same(lmm, tmp_path / "a", sampled(lmm))

    def test_no_fixed_effects_and_labels_that_no_file_format_likes(self, tmp_path):
        lmm = blm.LMM("y ~ 0 + (1 | `a/b ' c`)", {"y": SMALL["y"], "a/b ' c": [NASTY, "b", "c"] * 2})
        tree = sampled(lmm)
        loaded = blm.load(lmm.save(tmp_path / "a", tree))
        assert loaded.posterior.identical(tree)
        assert loaded.lmm.design.levels[0].groups == lmm.design.levels[0].groups


class TestAfterLoading:
    @pytest.fixture(scope="class")
    @classmethod
    def both(cls, tmp_path_factory):
        lmm = blm.LMM("y ~ x + (x | g)", DATA)
        tree = sampled(lmm, 200, log_densities=True)
        return lmm, tree, blm.load(lmm.save(tmp_path_factory.mktemp("after") / "a", tree))

    def test_the_posterior_is_the_same_with_all_its_groups_and_attributes(self, both):
        _, tree, saved = both
        assert saved.posterior.identical(tree)
        assert saved.posterior.attrs == tree.attrs
        assert {"log_prior", "log_likelihood_of_all_rows"} < set(saved.posterior.children)
        assert not saved.partial
        assert saved.result is saved.posterior

    def test_a_seed_gives_the_same_posterior(self, both):
        _, tree, saved = both
        again = sampled(saved.lmm, 200)
        assert again["posterior"].identical(tree["posterior"])

    def test_predict_summary_and_compare_work(self, both):
        lmm, tree, saved = both
        rows = {"x": [0.0, 1.0], "g": ["a", "z"]}
        options = {"kind": "response", "allow_new_groups": True, "random_seed": 3}
        wanted = lmm.predict(tree, rows, **options)
        np.testing.assert_array_equal(saved.lmm.predict(saved.posterior, rows, **options), wanted)
        pd.testing.assert_frame_equal(saved.lmm.summary(saved.posterior), lmm.summary(tree))
        tables = [
            compare_posteriors(model, {"marginal": draws}).shown["marginal"]
            for model, draws in ((lmm, tree), (saved.lmm, saved.posterior))
        ]
        pd.testing.assert_frame_equal(*tables)

    def test_a_fit_is_made_again_and_compared(self, tmp_path):
        lmm = blm.LMM("y ~ x + (1 | g)", DATA)
        saved = blm.load(lmm.save(tmp_path / "a", lmm.ml()))
        assert saved.posterior is None
        assert (saved.result.method, saved.result.loglik) == (lmm.ml().method, lmm.ml().loglik)
        assert repr(saved) == "Saved(LMM('y ~ 1 + x + (1 | g)', 24 rows), ML)"
        other = replace(saved, fit_record=saved.fit_record | {"loglik": lmm.ml().loglik + 1})
        with pytest.raises(SavedError, match=r"fit\.json: its log-likelihood is"):
            _ = other.result

    def test_it_can_be_saved_again_and_is_the_same_again(self, both, tmp_path):
        _, _, saved = both
        saved.lmm.save(tmp_path / "b", saved.posterior)
        one, other = (json.loads((place / "manifest.json").read_text()) for place in (saved.folder, tmp_path / "b"))
        assert one["files"] == other["files"]

    def test_what_wrote_it_is_said(self, both):
        assert {"bayeslmm", "python", "numpy", "pymc"} <= set(both[2].about["versions"])
        assert both[2].about["holds"] == "posterior"


class TestPartialRuns:
    def test_a_run_that_stopped_is_marked_and_named(self, tmp_path, monkeypatch):
        from bayeslmm.posterior import nuts

        def stopped(compiled, settings, seed):
            return _trace(settings), ""

        def _trace(settings):
            rng = np.random.default_rng(1)
            shape = (settings.chains, settings.draws)
            values = {"beta": rng.normal(size=(*shape, 1)), "sigma": rng.gamma(3, size=shape)}
            values |= {"sigma_u2": rng.gamma(3, size=shape)}
            for x in values.values():
                x[:, 7:] = np.nan
            import arviz as az

            return az.from_dict({"posterior": values, "sample_stats": {"diverging": np.zeros(shape, dtype=bool)}})

        monkeypatch.setattr(nuts, "draw_twice", stopped)
        monkeypatch.setattr(nuts.Nuts, "_compile", lambda *_: None)
        lmm = blm.LMM("y ~ 1 + (1 | g)", SMALL)
        with pytest.raises(blm.SamplingError) as caught:
            lmm.sample(draws=30, tune=10, chains=2, random_seed=5, sampler="nuts", progress=False)
        attrs = caught.value.clean.attrs
        wanted = {"partial": 1, "random_seed": 5, "sampler": "nuts", "variant": "marginal", "draws": 30, "trusted": 0}
        assert wanted.items() <= attrs.items()
        lmm.save(tmp_path / "a", caught.value.clean)
        with pytest.warns(UserWarning, match="this posterior is partial: 7 of 30 draws in 2 of 2 chains"):
            saved = blm.load(tmp_path / "a")
        assert repr(saved).endswith("partial posterior of 2 x 7 draws)")
        assert attrs.items() <= saved.posterior.attrs.items()

    def test_a_whole_run_is_not(self):
        assert sampled(blm.LMM("y ~ 1 + (1 | g)", SMALL)).attrs["partial"] == 0


class TestOtherData:
    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory):
        data = DATA.assign(f=pd.Categorical(DATA.s, categories=["m", "f"]))
        return blm.LMM("y ~ x + f + (1 | g)", data).save(tmp_path_factory.mktemp("other") / "a"), data

    def test_the_same_data_are_the_same_in_any_kind_of_frame(self, place):
        path, data = place
        for same in (data, data.reset_index(drop=True).set_index("t"), dict(data.items()), data[data.columns[::-1]]):
            assert blm.load(path, data=same).lmm.design.n == len(data)
        plain = blm.LMM("y ~ x + (1 | g)", DATA).save(path.with_name("plain"))
        assert blm.load(plain, data=pl.from_pandas(DATA)).lmm.design.n == len(DATA)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda d: d.iloc[1:], "23 rows and 0 left out came; .* has 24 rows"),
            (lambda d: d.assign(x=d.x + 1e-9), "the column 'x' differs in 24 rows, the first of them 0"),
            (lambda d: d.assign(g=d.g.replace("a", "z")), "the column 'g' differs in 4 rows, .*: 'z' here, and 'a' in"),
            (lambda d: d.assign(f=d.f.cat.reorder_categories(["f", "m"])), "'f' has the categories f, m, and m, f in"),
            (lambda d: d.assign(f=d.s), "the column 'f' holds texts, and categories in"),
            (lambda d: d.drop(columns="x"), "no column 'x'"),
        ],
    )
    def test_other_data_are_refused_at_the_column(self, place, change, said):
        path, data = place
        with pytest.raises(DataError, match=said):
            blm.load(path, data=change(data))
