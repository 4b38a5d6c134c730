"""Sources: the same model from rows in memory and from sums that DuckDB or Polars compute where the rows are."""

from __future__ import annotations

import inspect
import warnings
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayeslmm as blm
from bayeslmm.description.levels import Residual
from bayeslmm.errors import BayesLMMError, DataError, DescriptionError
from bayeslmm.factorisation.statistics import build_statistics
from bayeslmm.sources import cells as cells_module
from bayeslmm.sources.blocks import blocks_of
from tests.registry import BY_NAME, CASES

ENGINES = {"duckdb": duckdb.from_df, "polars": lambda frame: pl.from_pandas(frame).lazy()}


@pytest.fixture(params=ENGINES)
def engine(request):
    """From a frame to the same rows in an engine."""
    return ENGINES[request.param]


def in_turn(cases):
    """Each case on one of the engines."""
    return [pytest.param(name, case) for name, case in zip(cycle(ENGINES), cases, strict=False)]


def rows(n=600, seed=3):
    """Rows with numbers, texts, booleans, odd names, and a column of each group."""
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 15, n), rng.integers(0, 3, n)
    frame = pd.DataFrame(
        {
            "g": [f"g{i}" for i in g],
            "s": g % 4,
            "f": np.array(list("pqr"))[h],
            "x": rng.normal(3, 1, n).round(3),
            "z": rng.gamma(4, 2, n) + 0.1,
            "b": rng.random(n) < 0.4,
            "k": rng.integers(1, 5, n),
            "w": rng.integers(1, 4, n).astype(float),
            "body mass": rng.normal(70, 9, n),
            "lambda": rng.normal(0, 1, n),
            "m": rng.choice([-1.0, 1.0], n),
            "of group": (g * 1.7) % 5,
        }
    )
    noise = rng.normal(size=n) * np.where(frame["f"] == "q", 2, 1) / np.sqrt(frame["w"])
    frame["y"] = 20 + 0.5 * frame["x"] + rng.normal(size=15)[g] + 0.4 * (h == 1) + noise
    frame["d"] = 3 + 2 * frame["x"] - frame["z"]
    return frame


def quietly(make):
    """What was made, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = make()
    return made, [str(one.message) for one in said]


def assert_same_model(memory, source):
    """Same words, same priors, same likelihood, same tables."""
    assert source.describe() == memory.describe()
    assert source.design.hints == memory.design.hints
    assert repr(source) == repr(memory)
    pd.testing.assert_frame_equal(source.priors.table(), memory.priors.table())
    for method in ("ml", "reml"):
        one, other = getattr(memory, method)(), getattr(source, method)()
        assert other.loglik == pytest.approx(one.loglik, abs=1e-8)
        # half the digits: what a maximum leaves of a log-likelihood known to all of them
        assert other.estimates().to_numpy() == pytest.approx(
            one.estimates().to_numpy(), rel=1e-6, abs=1e-7, nan_ok=True
        )


FORMULAS = [
    "y ~ log(z) + exp(-x) + sqrt(z) + I(x**2) + (1 | g)",
    "log(y) ~ x*z + (1 + x | g)",
    "log(y) ~ y + (1 | g)",
    "y ~ poly(x, 2) + poly(z, 3):f + (1 | g)",
    "y ~ center(x) + scale(z) + scale(log(z)) + (1 + center(x) | g)",
    "y ~ center(I(x*z)) + I(center(x)*2) + (1 | g)",
    "y ~ x*f + b + C(k) + (1 + f || s) + (1 | g)",
    "y ~ C(f, contr.sum)*x + C(k, contr.helmert) + (1 | g)",
    "y ~ `body mass` + log(`body mass`) + `lambda`:x + center(`body mass`) + (1 + `lambda` + center(`lambda`) | g)",
    "y ~ x + offset(log(z)) + (1 | g)",
    "y ~ 0 + f + x:f + (0 + f | g)",
    "y ~ x + z + d + (1 | g)",
    "y ~ `of group` + (1 + `of group` | g)",
    "y ~ m + m:x + (1 + m | g)",
    "y ~ poly(x, 3, raw=True) + (1 | s/g)",
    "y ~ I(x / z) + I(1 / z) + abs(x) + log10(z) + log2(z) + {x + z} + I(z**0.5 * x) + (1 | g)",
    "I(y / 2 + 1) ~ 1 + (x || g)",
    "y ~ b*x + (1 | g:f)",
    "y ~ (x + z + f)**2 + (1 | g)",
    "y ~ x + I(x - 2000) + (1 | g)",
    "y ~ C(b) + C(k):x + (b | g)",
]


class TestTheSameModel:
    @pytest.mark.parametrize(("engine", "case"), in_turn(CASES), indirect=["engine"], ids=str)
    def test_of_every_design(self, engine, case):
        frame = pd.DataFrame(case.data())
        assert_same_model(blm.LMM(case.formula, frame), blm.LMM(case.formula, engine(frame)))

    @pytest.mark.parametrize(("engine", "formula"), in_turn(FORMULAS), indirect=["engine"])
    def test_of_every_piece_of_a_formula(self, engine, formula):
        frame = rows()
        memory, said = quietly(lambda: blm.LMM(formula, frame))
        source, said_too = quietly(lambda: blm.LMM(formula, engine(frame)))
        assert said_too == said  # what is left out, in the same words
        assert source.design.coef == memory.design.coef
        assert_same_model(memory, source)
        new = frame.head(20)
        one, other = memory.predictions(memory.ml(), new).frame, source.predictions(source.ml(), new).frame
        assert other["estimate"].to_numpy() == pytest.approx(one["estimate"].to_numpy(), rel=1e-6)

    @pytest.mark.parametrize(
        "residual",
        [
            Residual(weights="w"),
            Residual(structure="strata", by="f"),
            Residual(structure="strata", by="f", weights="w"),
        ],
        ids=str,
    )
    def test_of_weights_and_strata(self, engine, residual):
        frame = rows()
        memory = blm.LMM("y ~ x + (1 + x | g)", frame, residual=residual)
        source = blm.LMM("y ~ x + (1 + x | g)", engine(frame), residual=residual)
        assert_same_model(memory, source)
        for table in ("icc", "variance_partition", "r2", "shrinkage"):
            one, other = (getattr(lmm, table)(lmm.reml()).frame.select_dtypes("number") for lmm in (memory, source))
            np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-8)

    def test_of_a_known_covariance(self, engine):
        labels = [f"g{i}" for i in range(15)]
        root = np.random.default_rng(1).normal(size=(15, 15))
        K = blm.KnownMatrix(labels=labels, matrix=root @ root.T / 15 + np.eye(15))
        frame = rows()
        memory, source = (blm.LMM("y ~ x + (1 | g)", data, covariance={"g": K}) for data in (frame, engine(frame)))
        assert_same_model(memory, source)

    @pytest.mark.parametrize("name", ["one way", "nested with slopes", "crossed", "far from zero", "factor by group"])
    def test_posteriors_of_one_seed_are_the_same(self, engine, name):
        case = BY_NAME[name]
        frame = pd.DataFrame(case.data())
        trees = [
            quietly(
                lambda data=data: blm.LMM(case.formula, data).sample(draws=100, chains=2, random_seed=1, progress=False)
            )[0]
            for data in (frame, engine(frame))
        ]
        one, other = (tree["posterior"].to_dataset() for tree in trees)
        assert set(one.data_vars) == set(other.data_vars)
        for variable in one.data_vars:
            size = np.abs(one[variable].to_numpy()).max()
            np.testing.assert_allclose(other[variable].to_numpy(), one[variable].to_numpy(), atol=1e-6 * size)


class TestProducts:
    @pytest.mark.parametrize("formula", ["y ~ x*z + f + (1 + x | g) + (1 | s)", "y ~ poly(x, 2) + (1 + z | s/g)"])
    def test_are_within_1e_12_of_the_sum_of_absolute_terms(self, engine, formula):
        """On their own scale every term is of order one: the sums of absolute terms are at least those of squares."""
        frame = rows()
        stats = [build_statistics(blm.LMM(formula, data).design) for data in (frame, engine(frame))]
        one, other = stats
        size = np.sqrt(np.diag(one.WtW))
        assert np.abs(other.WtW - one.WtW).max() <= 1e-12 * size.max() ** 2
        squares = np.concatenate(
            [
                np.bincount(level.index, own**2, level.m)
                for level, better in zip(one.design.levels, one.better, strict=True)
                for own in better.T
            ]
        )
        assert np.abs(other.ZtW - one.ZtW).max() <= 1e-12 * np.sqrt(squares.max()) * size.max()
        assert np.abs(other.layout.zz - one.layout.zz).max() <= 1e-12 * squares.max()
        assert np.abs(other.upper - one.upper).max() <= 1e-12 * np.abs(one.upper).max()

    @pytest.mark.parametrize("groups", [1.0, 300.0], ids=["alike", "far apart"])
    def test_residual_squares_far_from_zero(self, engine, groups):
        """Mean 1e6, SD 0.3: the residual sum of squares within groups, against exact fractions, to 1e-10.

        Groups whose means differ by a thousand times the SD within them are no worse: their means are joined.
        """
        rng = np.random.default_rng(5)
        n = 300
        g = np.arange(n) % 6
        x = 1e6 + groups * rng.normal(size=6)[g] + 0.3 * rng.normal(size=n)
        y = 1e6 + groups * rng.normal(size=6)[g] + 0.5 * (x - 1e6) + 0.3 * rng.normal(size=n)
        lmm = blm.LMM("y ~ x + (1 | g)", engine(pd.DataFrame({"y": y, "x": x, "g": g})))

        def within(a, b):
            total = Fraction(0)
            for k in range(6):
                left, right = ([Fraction(float(v)) for v in c[g == k]] for c in (a, b))
                total += sum(p * q for p, q in zip(left, right, strict=True)) - sum(left) * sum(right) / len(left)
            return total

        exact = within(y, y) - within(x, y) ** 2 / within(x, x)
        design = lmm.design
        root = np.sqrt(design.counted.counts)
        Z = np.eye(6)[design.levels[0].index] * root[:, None]
        a = (design.counted.y - 1e6 + design.counted.y_rest) * root
        b = (design.counted.X[:, 1] - 1e6 + design.counted.X_rest[:, 1]) * root
        Q = np.linalg.qr(Z)[0]
        a, b = a - Q @ (Q.T @ a), b - Q @ (Q.T @ b)
        assert a @ a - (a @ b) ** 2 / (b @ b) == pytest.approx(float(exact), rel=1e-10)
        assert lmm.ml().sigma ** 2 == pytest.approx(float(exact) / (n - 6), rel=0.1)

    def test_are_of_the_cells(self):
        """What is kept: counts, sums and products of rows in cells of the keys, which add."""
        frame = rows()
        cells = blm.LMM("y ~ x + f + (1 | g)", ENGINES["polars"](frame)).design.cells
        assert list(cells.keys) == ["g", "f"]
        grouped = frame.groupby(["g", "f"])
        assert cells.counts.tolist() == grouped.size().tolist()
        a, b = cells.names.index("x"), cells.names.index("~")
        exact = grouped.apply(lambda own: ((own["x"] - own["x"].mean()) * (own["y"] - own["y"].mean())).sum())
        np.testing.assert_allclose(cells.products[:, a, b] * cells.scale[a] * cells.scale[b], exact, atol=1e-12)


class TestOddData:
    def test_null_and_nan_are_told_apart(self):
        table = pl.DataFrame(
            {"y": [1.0, 2.0, None, 4.0, float("nan"), 6.0], "x": [1.0, None, 3.0, 5.0, 4.0, 2.0], "g": list("aabbcc")}
        )
        with pytest.raises(DataError, match=r"3 missing values: 'y' 1 null and 1 NaN; 'x' 1 null.*leave 3 rows of 6"):
            blm.LMM("y ~ x + (1 | g)", table.lazy())
        lmm = quietly(lambda: blm.LMM("y ~ 1 + (1 | g)", table.lazy(), missing="drop"))[0]
        assert (lmm.design.n, lmm.design.dropped) == (4, 2)
        assert "2 rows with missing values left out" in lmm.describe()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"y": [1.0, np.inf, 2, 3, 4, 5]}, "'y' has 1 infinite value"),
            ({"y": [2.0] * 6}, "The response 'y' is 2 in all 6 rows"),
            ({"g": ["a"] * 6}, "g has one group only"),
            ({"g": list("abcdef")}, "Every group of g has exactly one row"),
            ({"y": list("uvwxyz")}, "holds no numbers"),
            ({"g": None}, "no column 'g'"),
        ],
    )
    def test_what_is_wrong_in_memory_is_wrong_here(self, engine, change, said):
        columns = {"y": [1.0, 2, 4, 5, 8, 9], "x": [1.0, 3, 2, 5, 4, 6], "g": list("aabbcc")} | change
        frame = pd.DataFrame({name: column for name, column in columns.items() if column is not None})
        with pytest.raises(DataError, match=said):
            blm.LMM("y ~ x + (1 | g)", engine(frame))
        with pytest.raises(DataError):
            blm.LMM("y ~ x + (1 | g)", frame)

    def test_no_rows(self, engine):
        empty = pd.DataFrame({"y": np.zeros(0), "g": np.zeros(0)})
        with pytest.raises(DataError, match="no rows"):
            blm.LMM("y ~ 1 + (1 | g)", engine(empty))

    def test_a_logarithm_of_nothing(self, engine):
        frame = rows().assign(z=lambda frame: frame["z"].where(frame.index > 2, 0.0))
        for formula in ("y ~ log(z) + (1 | g)", "y ~ I(1 / z) + (1 | g)", "y ~ I(log(z) * x) + (1 | g)"):
            with pytest.raises(DataError, match="is not a finite number in 3 rows"):
                blm.LMM(formula, engine(frame))

    def test_odd_labels(self, engine):
        labels = ["", " ", "a:b", "'", '"', "é", "e\u0301", "NULL", "%s", "a\nb", "0", "00"]
        rng = np.random.default_rng(2)
        frame = pd.DataFrame({"y": rng.normal(size=48), "g": labels * 4, "h": (["u", "a:b", "v"] * 16)})
        memory, source = (blm.LMM("y ~ 1 + (1 | g) + (1 | g:h)", data) for data in (frame, engine(frame)))
        for one, other in zip(memory.design.levels, source.design.levels, strict=True):
            assert other.groups == one.groups
            assert other.keys == one.keys
        assert_same_model(memory, source)

    @pytest.mark.parametrize("reads", ["duckdb", "polars"])
    def test_csv_with_quoted_names_and_codes(self, tmp_path, reads):
        path = tmp_path / "rows, all.csv"
        path.write_text('"y (cm)","the ""group""",code,x\n' + "".join(
            f'{1.5 * i % 7},"g, {i % 4}",0{i % 3},{i * i % 5}\n' for i in range(40)
        ))  # fmt: skip
        lmm = blm.LMM('`y (cm)` ~ x + (1 | `the "group"`) + (1 | code)', blm.Source(path, engine=reads))
        assert lmm.design.levels[0].groups == ("g, 0", "g, 1", "g, 2", "g, 3")
        assert lmm.design.levels[1].groups == ("00", "01", "02")

    def test_types_of_keys(self, engine):
        """Whole numbers, dates, booleans and categories group as they do in memory."""
        rng = np.random.default_rng(4)
        n = 60
        frame = pd.DataFrame(
            {
                "y": rng.normal(size=n),
                "i": rng.integers(9, 12, n),
                "t": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 3, n), unit="D"),
                "b": rng.random(n) < 0.5,
            }
        )
        formula = "y ~ 1 + (1 | i) + (1 | t) + (1 | b)"
        memory, source = (blm.LMM(formula, data) for data in (frame, engine(frame)))
        assert [level.groups for level in source.design.levels] == [level.groups for level in memory.design.levels]

    def test_categories_that_a_factor_does_not_name(self, engine):
        for data in (rows(), engine(rows())):
            with pytest.raises(BayesLMMError):
                blm.LMM("y ~ C(f, levels=['p', 'q']) + (1 | g)", data)

    def test_a_source_that_changes(self):
        table = pl.from_pandas(rows()).lazy().map_batches(lambda frame: frame.sample(next(sizes)))
        sizes = iter(range(500, 600))
        with pytest.raises(DataError, match="it is another one each time"):
            blm.LMM("y ~ 1 + (1 | g)", table)

    def test_categories_in_their_order(self):
        frame = rows().assign(f=lambda one: pd.Categorical(one["f"], categories=["r", "q", "p", "unseen"]))
        memory = blm.LMM("y ~ f + (1 | g)", frame)
        table = pl.from_pandas(frame.assign(f=frame["f"].astype(str))).with_columns(
            pl.col("f").cast(pl.Enum(["r", "q", "p", "unseen"]))
        )
        assert_same_model(memory, blm.LMM("y ~ f + (1 | g)", table.lazy()))


class TestRefused:
    @pytest.mark.parametrize(
        ("formula", "residual", "said"),
        [
            ("y ~ bs(x, df=4) + (1 | g)", None, r"bs\(x, df=4\) has knots .* poly\(x, 3\)"),
            ("y ~ x + (1 | g)", Residual(structure="ar1", group="g"), "about rows one by one"),
            ("y ~ x + (1 | g)", Residual(structure="cs", group="g"), "about rows one by one"),
        ],
    )
    def test_what_needs_rows_in_order(self, engine, formula, residual, said):
        with pytest.raises(DescriptionError, match=said):
            blm.LMM(formula, engine(rows()), residual=residual)

    def test_too_many_cells_by_their_count(self, engine, monkeypatch):
        monkeypatch.setattr(cells_module, "MEMORY", 1e5)
        frame = rows().assign(w=lambda one: one["z"])
        with pytest.raises(DataError, match=r"make 600 cells of 600 rows.*weights 'w' makes cells of its own: round"):
            blm.LMM("y ~ x + (1 | g)", engine(frame), residual=Residual(weights="w"))

    def test_columns_that_are_nearly_dependent(self, engine):
        frame = rows().assign(near=lambda one: 3 + 2 * one["x"] + 1e-7 * one["lambda"])
        assert blm.LMM("y ~ x + near + (1 | g)", frame).design.p == 3  # rows can tell
        with pytest.raises(DataError, match="near"):
            blm.LMM("y ~ x + near + (1 | g)", engine(frame))

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ("rows.xlsx", "expected the path or glob of files"),
            ("nowhere/*.parquet", "No file matches"),
            ("nowhere.parquet", "does not exist"),
        ],
    )
    def test_paths_that_are_none(self, data, said):
        with pytest.raises(DataError, match=said):
            blm.LMM("y ~ 1 + (1 | g)", data)

    def test_sources_that_are_none(self):
        with pytest.raises(DescriptionError, match="one of the two"):
            blm.Source()
        with pytest.raises(DescriptionError, match="Did you mean"):
            blm.Source("a.parquet", engine="duckdbb")
        with pytest.raises(DescriptionError, match="goes to LMM as it is"):
            blm.Source(pd.DataFrame())

    @pytest.mark.parametrize("data", [blm.Source(sql="SELECT 1 AS y"), "rows.parquet"], ids=["query", "path"])
    def test_other_outcomes(self, data):
        with pytest.raises(DataError, match="a binomial outcome needs its rows in memory"):
            blm.GLMM("y ~ 1 + (1 | g)", data, family="binomial")

    @pytest.mark.parametrize("reads", ["duckdb", "polars"])
    def test_a_file_that_is_something_else(self, tmp_path, reads):
        path = tmp_path / "rows.parquet"
        path.write_text("no such thing")
        with pytest.raises(DataError, match="can't be read"):
            blm.LMM("y ~ 1 + (1 | g)", blm.Source(path, engine=reads))

    def test_a_broken_query_is_the_data_s_error(self):
        with pytest.raises(DataError, match="can't be read"):
            blm.LMM("y ~ 1 + (1 | g)", blm.Source(sql="SELECT y FROM nowhere"))


NEED_ROWS = {
    *("R", "V", "X", "Z", "Zt", "y", "joint", "marginal", "loo", "influence", "predict", "predictions", "comparisons"),
    *("slopes", "grid", "prior_predictive", "report", "save", "plot_V", "plot_Z", "plot_checks", "plot_data"),
    *("plot_conditional_effects", "plot_hierarchy", "plot_pooling", "plot_prior_predictive", "plot_qq"),
    "plot_variance_partition",  # over the column of a slope
}
FROM_SUMS = {
    *("G", "Lambda", "describe", "explain", "effective_parameters", "fixef", "icc", "implied_priors", "ml", "reml"),
    *("marginal_likelihood", "plot_caterpillar", "plot_ess", "plot_estimates", "plot_funnel", "plot_group_size"),
    *(
        "plot_shrinkage",
        "plot_sds",
        "priors",
        "r2",
        "ranef",
        "sample",
        "sensitivity",
        "shrinkage",
        "statistics",
        "sums",
        "from_sums",
        "summary",
        "varcorr",
    ),
    *("variance_partition", "stream_predictions", "from_toml"),
}
"""Every public name of an LMM: either it needs the rows, and says so, or it doesn't, and is the same as in memory."""


@pytest.fixture(scope="module")
def both():
    """A model in memory and on a source, their REML fits and posteriors."""
    frame = rows(300)
    made = []
    for data in (frame, ENGINES["polars"](frame)):
        lmm = blm.LMM("y ~ x + f + (1 + x | g) + (1 | s)", data)
        tree, _ = quietly(lambda lmm=lmm: lmm.sample(draws=100, chains=2, random_seed=1, progress=False))
        made.append((lmm, lmm.reml(), tree))
    return made


def call(name, lmm, fit, tree):
    """What a public name of an LMM gives, with arguments that fit it."""
    own = getattr(lmm, name)
    given = {
        **dict.fromkeys(("G", "Lambda", "V", "plot_V"), (fit.theta,)),
        "grid": ({"x": [1.0, 2.0]},),
        "save": ("nowhere",),
        "report": ("nowhere.html", tree),
        "plot_funnel": (),
        "plot_estimates": (tree,),  # a fit's take profiles, as plot_sds does: seconds each
    }
    if not callable(own):
        return own
    if name in given:
        return own(*given[name], **({"marginal": tree} if name == "plot_funnel" else {}))
    takes = list(inspect.signature(own).parameters)[:1]
    if takes in (["result"], ["fit"], ["results"]):
        return own(fit)
    if takes == ["tree"]:
        return own(tree)
    return own(random_seed=1) if "random_seed" in inspect.signature(own).parameters else own()


class TestEveryVerb:
    def test_is_one_or_the_other(self):
        public = {name for name in dir(blm.LMM) if not name.startswith("_")} - {"hierarchy", "design", "given_priors"}
        assert public == NEED_ROWS | FROM_SUMS

    @pytest.mark.parametrize("name", sorted(NEED_ROWS))
    def test_that_needs_rows_says_so(self, both, name):
        with pytest.raises(DataError, match=r"they stay in the source .*; or collect the rows first"):
            call(name, *both[1])

    def test_of_a_fit_too(self, both):
        for name in ("fitted", "residuals"):
            with pytest.raises(DataError, match="stay in the source"):
                getattr(both[1][1], name)
        with pytest.raises(DataError, match="stay in the source"):
            both[1][0].sample(residuals=True)

    @pytest.mark.parametrize(
        "name",
        sorted(
            FROM_SUMS - {"from_sums", "from_toml", "plot_sds", "sample", "statistics", "stream_predictions", "sums"}
        ),
    )
    def test_that_does_not_gives_the_same(self, both, name):
        import matplotlib.pyplot as plt

        (one, _), (other, _) = (quietly(lambda made=made: call(name, *made)) for made in both)
        plt.close("all")
        assert type(one) is type(other)
        one, other = (getattr(made, "frame", getattr(made, "draws", made)) for made in (one, other))
        if isinstance(one, pd.DataFrame):
            numbers = one.select_dtypes("number").columns
            if name == "shrinkage":
                numbers = numbers.drop("effective_rows")  # reliabilities next to one, over their distance from it
            if name == "summary":
                numbers = numbers[~numbers.isin(["ess_bulk", "ess_tail", "r_hat"])]  # by ranks: they jump
            np.testing.assert_allclose(other[numbers], one[numbers], rtol=1e-5, atol=1e-5)
        elif isinstance(one, str) and name != "explain":  # which says how much memory sums take
            assert one == other

    def test_predictions_of_rows_in_memory(self, both):
        frame = rows(300).head(9)
        for k in (1, 2):
            one, other = (made[0].predictions(made[k], frame, scope="new where unseen").frame for made in both)
            for name in ("estimate", "sd"):
                np.testing.assert_allclose(other[name], one[name], rtol=1e-6)
        one, other = (made[0].predictions(made[1], frame, scope="average by rows").frame for made in both)
        np.testing.assert_allclose(other["estimate"], one["estimate"], rtol=1e-6)

    def test_compare(self, both):
        settings = {"variants": "marginal", "draws": 100, "chains": 2, "random_seed": 1, "progress": False}
        one, other = (quietly(lambda made=made: blm.compare(made[0], **settings))[0] for made in both)
        assert list(one.table.index) == list(other.table.index)
        np.testing.assert_allclose(other.table["ml", "estimate"], one.table["ml", "estimate"], rtol=1e-5, atol=1e-7)


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        """Two Parquet files and a CSV of the same rows."""
        frame = rows(300)
        frame[:100].to_parquet(tmp_path / "a.parquet")
        frame[100:].to_parquet(tmp_path / "b.parquet")
        frame.to_csv(tmp_path / "all.csv", index=False)
        return tmp_path

    @pytest.mark.parametrize(
        "source",
        [
            lambda folder: f"{folder}/*.parquet",
            lambda folder: Path(folder) / "all.csv",
            lambda folder: blm.Source(f"{folder}/*.parquet", engine="polars"),
            lambda folder: blm.Source(f"{folder}/all.csv", engine="polars"),
            lambda folder: blm.Source(sql=f"SELECT * FROM '{folder}/*.parquet'"),
            lambda folder: duckdb.read_parquet(f"{folder}/*.parquet"),
            lambda folder: pl.scan_parquet(f"{folder}/*.parquet"),
        ],
        ids=["glob", "csv", "polars", "csv by polars", "query", "relation", "lazy frame"],
    )
    def test_predictions_are_streamed(self, folder, source, monkeypatch):
        monkeypatch.setattr("bayeslmm.sources.blocks.BLOCK", 64)
        frame = rows(300)
        memory, lmm = blm.LMM("y ~ x + f + (1 | g)", frame), blm.LMM("y ~ x + f + (1 | g)", source(folder))
        path = lmm.stream_predictions(lmm.reml(), folder / "out.pq")
        assert not list(folder.glob("*.unfinished"))
        found, wanted = pd.read_parquet(path), memory.predictions(memory.reml()).frame
        assert list(found) == [*frame, "estimate", "sd", "2.5 %", "97.5 %"]
        for name in ("estimate", "sd"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
        np.testing.assert_allclose(found["y"] - found["estimate"], memory.reml().residuals, rtol=1e-5, atol=1e-8)

    def test_streaming_with_rows_left_out(self, folder):
        table = pl.scan_parquet(f"{folder}/*.parquet")
        lmm = blm.LMM("y ~ x + (1 | g)", table)
        some = table.with_columns(x=pl.when(pl.col("k") == 1).then(None).otherwise("x"))
        with pytest.raises(DataError, match="missing"):
            lmm.stream_predictions(lmm.reml(), folder / "out.pq", some)
        assert not (folder / "out.pq").exists()
        found = pd.read_parquet(lmm.stream_predictions(lmm.reml(), folder / "out.pq", some, missing="drop"))
        assert (found["estimate"].isna() == (found["k"] == 1)).all()

    def test_streaming_is_refused_where_it_makes_no_sense(self, folder):
        lmm = blm.LMM("y ~ x + (1 | g)", rows(300))
        with pytest.raises(DescriptionError, match="in memory"):
            lmm.stream_predictions(lmm.ml(), folder / "out.parquet")
        with pytest.raises(DescriptionError, match="expected a Parquet file"):
            lmm.stream_predictions(lmm.ml(), folder / "out.csv", f"{folder}/*.parquet")

    def test_blocks_have_all_rows_in_order(self, folder, monkeypatch):
        monkeypatch.setattr("bayeslmm.sources.blocks.BLOCK", 64)
        blocks = list(blocks_of(blm.Source(f"{folder}/*.parquet")))
        pd.testing.assert_frame_equal(pd.concat(blocks), rows(300), check_dtype=False)

    def test_a_description_file(self, folder, capsys):
        from bayeslmm.cli.entry import main

        path = folder / "model.toml"
        path.write_text('formula = "y ~ x + (1 | g)"\ndata = "*.parquet"\nengine = "duckdb"\n')
        lmm = blm.LMM.from_toml(path)
        assert lmm.ml().loglik == pytest.approx(blm.LMM("y ~ x + (1 | g)", rows(300)).ml().loglik, abs=1e-8)
        for command in (["check", str(path)], ["fit", str(path), "--variant", "reml"]):
            assert main(command) == 0
            assert "300 rows in 15 groups of g" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ('data = "none/*.parquet"', "No file matches"),
            ('data = "all.csv"\nengine = "spark"', "engine"),
            ('engine = "duckdb"', "there are none"),
            ('data = "*.parquet"\nfamily = "poisson"', "needs its rows in memory"),
        ],
    )
    def test_description_files_that_do_not_fit(self, folder, lines, said):
        path = folder / "model.toml"
        path.write_text(f'formula = "k ~ x + (1 | g)"\n{lines}\n')
        with pytest.raises(BayesLMMError, match=said):
            blm.LMM.from_toml(path)
