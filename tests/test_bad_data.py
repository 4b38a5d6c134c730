"""What bad data get: one clear error that says what came, what was expected, and what to write instead."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from bayeslmm.description.hierarchy import Hierarchy, Residual
from bayeslmm.design.building import build_design
from bayeslmm.errors import DataError
from bayeslmm.lmm import LMM

N = 24
RNG = np.random.default_rng(0)
GOOD = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "f": np.resize(["u", "v", "w"], N),
        "g": np.repeat(np.arange(6), 4),
        "unused": [None] * N,
    }
)


def refused(formula, data, *parts, **options):
    """Check that the data are refused with a message that holds all the parts, in order."""
    with pytest.raises(DataError) as caught:
        build_design(Hierarchy.from_formula(formula), data, **options)
    message, rest = str(caught.value), str(caught.value)
    for part in parts:
        assert part in rest, f"{part!r} is missing, or out of order, in: {message}"
        rest = rest[rest.index(part) + len(part) :]
    assert "\n" not in message


def accepted(formula, data, **options):
    return build_design(Hierarchy.from_formula(formula), data, **options)


def with_values(column, values):
    """Return the good data with some values of a column replaced: {row: value}."""
    changed = GOOD[column].astype(object)
    for row, value in values.items():
        changed[row] = value
    return GOOD.assign(**{column: changed.tolist()})


class TestTable:
    def test_unknown_column(self):
        refused("y ~ 1 + (1 | G)", GOOD, "no column 'G'", "Did you mean 'g'?", "'y', 'x', 'f', 'g'")
        refused("y ~ ex + (1 | g)", GOOD.to_dict("list"), "no column 'ex'")

    def test_unknown_column_of_polars_and_pyarrow(self):
        import polars as pl
        import pyarrow as pa

        columns = GOOD.drop(columns="unused").to_dict("list")
        for table in (pl.DataFrame(columns), pl.DataFrame(columns).lazy(), pa.table(columns)):
            refused("y ~ 1 + (1 | gg)", table, "no column 'gg'", "Did you mean 'g'?")

    def test_no_rows(self):
        refused("y ~ 1 + (1 | g)", GOOD[:0], "no rows")
        refused("y ~ 1 + (1 | g)", {"y": [], "g": []}, "no rows")

    def test_duplicated_column(self):
        import pyarrow as pa

        refused("y ~ x + (1 | g)", pd.concat([GOOD, GOOD[["x"]]], axis=1), "2 columns named 'x'", "Rename")
        table = pa.table([[1.0, 2.0], [1.0, 2.0], [1, 1]], names=["y", "y", "g"])
        refused("y ~ 1 + (1 | g)", table, "2 columns named 'y'")

    def test_a_duplicated_column_that_is_not_used_does_no_harm(self):
        assert accepted("y ~ 1 + (1 | g)", pd.concat([GOOD, GOOD[["x"]]], axis=1)).n == N

    @pytest.mark.parametrize("data", [[1, 2, 3], "data.csv", None, 5, np.ones((3, 2))])
    def test_not_a_table(self, data):
        refused("y ~ 1 + (1 | g)", data, f"Data of type {type(data).__name__} came", "expected a pandas")

    def test_columns_of_different_lengths(self):
        refused("y ~ 1 + (1 | g)", {"y": [1.0, 2.0], "g": [1]}, "'y' 2, 'g' 1", "one value per row")

    def test_a_single_value_for_a_column(self):
        refused("y ~ 1 + (1 | g)", {"y": [1.0, 2.0], "g": "a"}, "'g'", "single value 'a'")
        refused("y ~ 1 + (1 | g)", {"y": np.ones((2, 2)), "g": [1, 2]}, "'y' has shape (2, 2)")

    def test_missing_is_error_or_drop(self):
        refused("y ~ 1 + (1 | g)", GOOD, "missing='ignore'", 'expected "error" or "drop"', missing="ignore")


class TestMissingAndInfinite:
    def test_missing_values_are_counted_by_column_and_row(self):
        data = GOOD.copy()
        data.loc[[3, 5], "x"] = np.nan
        data.loc[5, "y"] = np.nan
        refused(
            "y ~ x + (1 | g)",
            data,
            "3 missing values",
            "'y' 1 (row 5)",
            "'x' 2 (rows 3 and 5)",
            'missing="drop"',
            "2 rows of 24",
        )

    def test_many_missing_values_are_not_all_listed(self):
        refused("y ~ x + (1 | g)", GOOD.assign(x=[np.nan] * 12 + [1.0, 2.0] * 6), "rows 0, 1, 2, 3, 4 and 7 more")

    @pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT])
    @pytest.mark.parametrize("column", ["g", "f"])
    def test_a_missing_group_is_a_missing_value(self, nothing, column):
        data = with_values(column, {7: nothing})
        refused(f"y ~ 1 + (1 | {column})", data, "1 missing value", f"'{column}' 1 (row 7)")
        d = accepted(f"y ~ 1 + (1 | {column})", data, missing="drop")
        assert (d.n, d.dropped) == (N - 1, 1)
        assert d.levels[0].index.min() == 0
        assert d.levels[0].groups == tuple(sorted(map(str, GOOD[column].unique())))

    def test_a_missing_category(self):
        refused(
            "y ~ 1 + (1 | f)",
            GOOD.assign(f=GOOD["f"].astype("category").where(GOOD.index != 2)),
            "'f' 1 (row 2)",
        )

    def test_missing_values_of_polars_and_pyarrow(self):
        import polars as pl
        import pyarrow as pa

        columns = {"y": [1.5, None, *range(10)], "g": [None, *np.resize(["a", "b"], 11).tolist()]}
        for table in (
            pl.DataFrame(columns, strict=False),
            pa.table(columns),
            pd.DataFrame(columns).convert_dtypes(),
        ):
            refused("y ~ 1 + (1 | g)", table, "2 missing values", "'y' 1 (row 1)", "'g' 1 (row 0)")
            assert accepted("y ~ 1 + (1 | g)", table, missing="drop").dropped == 2

    def test_drop_looks_at_the_columns_in_use_only(self):
        d = accepted("y ~ 1 + (1 | g)", with_values("x", {0: None}), missing="drop")
        assert (d.n, d.dropped) == (N, 0)
        d = accepted("y ~ x + (1 | g)", with_values("x", {0: None}), missing="drop")
        assert (d.n, d.dropped, d.rows[0]) == (N - 1, 1, 1)
        assert "1 row with missing values left out." in d.describe()

    def test_nothing_left_after_dropping(self):
        refused("y ~ unused + (1 | g)", GOOD, "no row is left", "'unused' 24", missing="drop")

    @pytest.mark.parametrize("missing", ["error", "drop"])
    def test_infinite_values(self, missing):
        refused(
            "y ~ x + (1 | g)",
            with_values("x", {4: np.inf, 9: -np.inf}),
            "'x' has 2 infinite values (rows 4 and 9)",
            missing=missing,
        )
        refused(
            "y ~ x + (1 | g)",
            with_values("y", {4: np.inf}),
            "'y' has 1 infinite value (row 4)",
            missing=missing,
        )

    def test_a_transform_that_is_not_finite(self):
        data = GOOD.assign(x=np.arange(N) - 1.0)
        refused("y ~ log(x) + (1 | g)", data, "log(x) is not a finite number in rows 0 and 1", "logarithm")
        refused("log(x) ~ 1 + (1 | g)", data, "log(x) is not a finite number in rows 0 and 1")

    def test_row_labels_are_the_frames_own(self):
        data = with_values("x", {1: None}).set_axis([f"pupil {i}" for i in range(N)])
        refused("y ~ x + (1 | g)", data, "row pupil 1")


class TestTypes:
    def test_text_where_numbers_belong(self):
        refused(
            "y ~ 1 + (1 | g)",
            with_values("y", {3: "x", 8: "?"}),
            "response 'y' holds 'x' in row 3 (2 such values in all)",
        )
        text = GOOD.assign(y=["3.5", "x", *map(str, range(N - 2))])
        refused("y ~ 1 + (1 | g)", text, "'y' holds 'x' in row 1", "expected numbers")

    def test_numbers_written_as_text(self):
        refused(
            "y ~ 1 + (1 | g)",
            GOOD.assign(y=GOOD["y"].map(str)),
            "looks like numbers",
            "pd.to_numeric(data['y'])",
        )

    def test_words_where_numbers_belong(self):
        refused("f ~ 1 + (1 | g)", GOOD, "The response 'f' holds 'u' in row 0", "the whole column is text")
        refused("f ~ 1 + (1 | g)", GOOD.astype({"f": "category"}), "'f' holds 'u' in row 0")

    def test_a_predictor_of_numbers_with_one_word(self):
        text = GOOD["x"].map(str).where(GOOD.index != 6, "n/a?")
        refused("y ~ x + (1 | g)", GOOD.assign(x=text), "'x' holds 'n/a?' in row 6")
        refused("y ~ 1 + (1 + x | g)", GOOD.assign(x=text), "'x' holds 'n/a?' in row 6")

    @pytest.mark.parametrize("formula", ["y ~ 1 + (1 | k)", "y ~ k + (1 | g)", "y ~ 1 + (0 + k | g)"])
    def test_one_and_text_one_and_True_in_one_factor(self, formula):
        mixed = [1, "1", True, "a"] * (N // 4)
        message = (
            "Column 'k' mixes types: 1 (int, row 0), '1' (str, row 1), True (bool, row 2)",
            ".map(str)",
        )
        refused(formula, GOOD.assign(k=pd.Series(mixed, dtype=object)), *message)
        refused(formula, {**GOOD.to_dict("list"), "k": mixed}, *message)

    def test_mixed_categories(self):
        refused("y ~ 1 + (1 | k)", GOOD.assign(k=pd.Categorical([1, "1"] * 12)), "'k' mixes types")

    def test_complex_numbers(self):
        refused("y ~ 1 + (1 | g)", GOOD.assign(y=GOOD["y"] + 1j), "'y' holds complex numbers", "real")
        refused("y ~ x + (1 | g)", GOOD.assign(x=GOOD["x"] + 1j), "'x' holds complex numbers")

    @pytest.mark.parametrize(
        "dates",
        [
            pd.Series(pd.date_range("2020-01-01", periods=N)),
            pd.Series([datetime.date(2020, 1, 1 + day) for day in range(N)]),
            pd.Series(pd.timedelta_range("1D", periods=N)),
            pd.Series(pd.date_range("2020-01-01", periods=N, tz="UTC")),
            pd.Series(pd.period_range("2020-01", periods=N, freq="M")),
        ],
    )
    def test_dates_as_numbers(self, dates):
        refused("x ~ 1 + when + (1 | g)", GOOD.assign(when=dates), "'when' holds dates or durations", "numbers")
        refused("when ~ 1 + (1 | g)", GOOD.assign(when=dates), "The response 'when' holds dates")

    def test_dates_of_polars(self):
        import polars as pl

        table = pl.DataFrame(
            {"y": [1.0, 2.0, 4.0], "when": [datetime.date(2020, 1, day) for day in (1, 2, 3)], "g": [1, 1, 2]}
        )
        refused("when ~ 1 + (1 | g)", table, "'when' holds dates or durations (the first is 2020-01-01")

    def test_decimals_and_truth_values_are_numbers(self):
        d = accepted("y ~ x + (1 | g)", GOOD.assign(y=GOOD["y"].map(lambda v: Decimal(repr(v))), x=GOOD["x"] > 0))
        np.testing.assert_array_equal(d.y, GOOD["y"])
        assert set(d.X[:, 1]) == {0.0, 1.0}


class TestWhatCannotBeEstimated:
    def test_constant_response(self):
        refused("y ~ 1 + (1 | g)", GOOD.assign(y=3), "response 'y' is 3 in all 24 rows")

    def test_one_group(self):
        refused(
            "y ~ 1 + (1 | g)",
            GOOD.assign(g="only"),
            "g has one group only ('only')",
            "two groups or more",
            "(1 | g)",
        )

    def test_one_category_in_the_fixed_part(self):
        refused(
            "y ~ f + (1 | g)",
            GOOD.assign(f="u"),
            "f has one category only ('u')",
            "two or more",
            "Leave it out",
        )
        refused("y ~ f:x + (1 | g)", GOOD.assign(f="u"), "f has one category only ('u')")
        refused("y ~ C(k) + (1 | g)", GOOD.assign(k=1), "C(k) has one category only ('1')")

    def test_one_category_is_left_after_dropping(self):
        data = GOOD.assign(x=GOOD["x"].where(GOOD["f"] == "u"))
        refused(
            "y ~ x + f + (1 | g)",
            data.astype({"f": "category"}),
            "f has one category only ('u')",
            missing="drop",
        )

    def test_every_group_with_one_row(self):
        refused(
            "y ~ 1 + (1 | k)",
            GOOD.assign(k=range(N)),
            "Every group of k has exactly one row (24 groups in 24 rows)",
            "residual",
        )

    def test_as_many_effects_as_rows(self):
        data = GOOD.assign(k=np.repeat(range(12), 2))
        refused(
            "y ~ x + (1 + x | k)",
            data,
            "(1 + x | k) has 12 groups x 2 effects = 24 effects for 24 rows",
            "residual",
            "(1 | k)",
        )
        assert accepted("y ~ x + (1 | k)", data).q == 12

    def test_independent_effects_are_held_to_rows_one_by_one(self):
        data = GOOD.assign(k=np.repeat(range(12), 2))
        assert accepted("y ~ x + (1 + x || k)", data).q == 24
        data = GOOD.assign(k=np.repeat(range(8), 3))
        refused("y ~ 1 + (0 + f || k)", data, "(0 + f || k) occurs in exactly one row", "residual")

    @pytest.mark.parametrize(
        ("fixed", "kept", "said"),
        [
            ("x + twice", "x", ["twice = 2 x"]),
            ("x + shifted", "x", ["shifted = 3 Intercept - x"]),
            ("one + x", "x", ["one = Intercept"]),
            ("x + nil", "x", ["nil = 0"]),
            ("0 + x + twice", "x", ["twice = 2 x"]),
            ("0 + x + one + shifted", "x one", ["shifted = -x + 3 one"]),
            ("x + twice + shifted", "x", ["twice = 2 x", "shifted = 3 Intercept - x"]),
            ("f + same", "f[T.v] f[T.w]", ["same[T.b] = f[T.v]", "same[T.c] = f[T.w]"]),
            ("f * k", "f[T.v] f[T.w] k[T.q] f[T.v]:k[T.q]", ["f[T.w]:k[T.q] = k[T.q] - f[T.v]:k[T.q]"]),
        ],
    )
    def test_the_later_of_columns_that_depend_on_each_other_is_left_out_and_said(self, fixed, kept, said):
        data = GOOD.assign(twice=2 * GOOD["x"], shifted=3 - GOOD["x"], one=1.0, nil=0)
        data["same"] = GOOD["f"].map({"u": "a", "v": "b", "w": "c"})
        data["k"] = np.where(GOOD["f"] == "u", "p", np.resize(["p", "q"], N))
        with pytest.warns(UserWarning, match="is left out of the fixed part") as caught:
            d = accepted(f"y ~ {fixed} + (1 | g)", data)
        assert len(caught) == 1
        assert d.coef == (*(["Intercept"] if "0 +" not in fixed else []), *kept.split())
        assert d.X.shape == (N, len(d.coef))
        assert [sentence.split("because ")[1] for sentence in d.left_out] == [f"{e} in every row." for e in said]
        assert all(sentence in str(caught[0].message) and sentence in d.describe() for sentence in d.left_out)

    @pytest.mark.parametrize(("shift", "scale"), [(1e6, 1.0), (0.0, 1e-9), (0.0, 1e9), (2000.0, 1.0), (1e6, 1e-2)])
    def test_a_far_or_a_tiny_column_is_not_mistaken_for_a_dependent_one(self, shift, scale):
        d = accepted("y ~ x + z + (1 + x | g)", GOOD.assign(x=shift + scale * GOOD["x"], z=GOOD["x"] ** 2))
        assert d.p == 3

    def test_powers_of_a_year_are_independent(self):
        data = GOOD.assign(year=2000 + np.arange(N))
        assert accepted("y ~ year + I(year**2) + I(year**3) + (1 | g)", data).p == 4

    def test_more_columns_than_rows(self):
        data = GOOD.assign(k=[f"k{i}" for i in range(N)])
        refused("y ~ k + (1 | g)", data, "24 columns from 24 rows", "more rows than columns")

    @pytest.mark.parametrize(
        ("effects", "kept", "said"),
        [
            ("1 + k |", "Intercept", "k = 5 Intercept"),
            ("1 + x + twice |", "Intercept x", "twice = 2 x"),
            ("0 + nil + x |", "x", "nil = 0"),
            ("1 + k ||", "Intercept", "k = 5 Intercept"),
            ("1 + nil ||", "Intercept", "nil = 0"),
        ],
    )
    def test_effects_that_add_nothing_are_left_out_and_said(self, effects, kept, said):
        data = GOOD.assign(k=5.0, twice=2 * GOOD["x"], nil=0)
        with pytest.warns(UserWarning, match="is left out of") as caught:
            d = accepted(f"y ~ 1 + ({effects} g)", data)
        assert d.levels[0].effects == tuple(kept.split())
        assert f"is left out of ({effects} g), because {said} in every row." in str(caught[0].message)
        assert d.new(data.iloc[:3]).levels[0].columns.shape == (3, len(kept.split()))

    def test_a_sum_of_independent_effects_says_something_of_its_own(self):
        d = accepted("y ~ 1 + (0 + x + z + both || g)", GOOD.assign(z=GOOD["x"] ** 2, both=GOOD["x"] + GOOD["x"] ** 2))
        assert d.levels[0].r == 3

    def test_a_level_of_which_nothing_is_left(self):
        with pytest.raises(DataError, match="has no effects"):
            accepted("y ~ 1 + (0 + nil | g)", GOOD.assign(nil=0))

    def test_more_columns_than_rows_of_which_enough_depend(self):
        data = GOOD.assign(**{f"c{j}": GOOD["x"] * j for j in range(1, 40)})
        with pytest.warns(UserWarning, match="34 more: see describe"):
            assert accepted("y ~ " + " + ".join(f"c{j}" for j in range(1, 40)) + " + x + (1 | g)", data).p == 2

    def test_every_error_comes_before_the_slow_imports(self):
        import subprocess
        import sys

        code = (
            "import sys; from bayeslmm.design.building import build_design\n"
            "from bayeslmm.description.hierarchy import Hierarchy\n"
            "h = Hierarchy.from_formula('y ~ x + (1 | g)')\n"
            "build_design(h, {'y': [1.0, 2, 3, 5], 'x': [0, 1, 0, 1], 'g': [1, 1, 2, 2]})\n"
            "print([name for name in ('formulaic', 'narwhals', 'pymc', 'scipy') if name in sys.modules])"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == "[]"


def test_the_constants_own_name_is_refused_for_a_column():
    data = {"y": [1.0, 2, 4, 5], "Intercept": [0.0, 1, 0, 1], "g": list("aabb")}
    with pytest.raises(DataError, match="rename it"):
        build_design(Hierarchy.from_formula("y ~ 1 + Intercept + (1 | g)"), data)


HUGE = 10**400


@pytest.mark.parametrize("column", ["y", "x", "w"])
class TestNumbersBeyondComputing:
    """Sums of squares that over- or underflow, and integers that no float can hold."""

    def residual(self, column):
        return Residual(weights="w") if column == "w" else Residual()

    def refused(self, column, data, message):
        hierarchy = Hierarchy.from_formula("y ~ x + (1 | g)", residual=self.residual(column))
        with pytest.raises(DataError, match=message):
            build_design(hierarchy, data)

    def test_an_integer_that_is_too_large(self, column):
        data = GOOD.assign(w=1.0)
        data[column] = pd.Series([HUGE, *range(1, N)], dtype=object)
        self.refused(column, data, f"Column '{column}' holds a whole number beyond .*Rescale the column")

    @pytest.mark.parametrize("factor", [1e300, 1e-300, 1e-120])
    def test_a_unit_that_is_none(self, column, factor):
        data = GOOD.assign(w=1.0)
        data[column] = data[column] * factor
        what = "The largest value of .*'{}'.* too (large|small) .*expected .*Rescale it"
        if column == "w":
            what = "The weights '{}' are of the size 1e.*expected .*Divide them by their median"
        self.refused(column, data, what.format(column))


def test_slopes_are_of_ordinary_size_too():
    refused("y ~ 1 + (1 + x | g)", GOOD.assign(x=GOOD.x * 1e200), "'x' in (1 + x | g)", "too large", "Rescale it")


def test_weights_lie_within_the_digits_of_a_number():
    hierarchy = Hierarchy.from_formula("y ~ x + (1 | g)", residual=Residual(weights="w"))
    with pytest.raises(DataError, match=r"'w' go from 1 to 1e\+30; expected the largest to be at most 1e15 times"):
        build_design(hierarchy, GOOD.assign(w=[1e30] + [1.0] * (N - 1)))


@pytest.mark.parametrize("factor", [1e-90, 1e90])
def test_what_is_taken_is_fitted(factor):
    """At the edge of what is taken: the fit is the same in other units."""
    plain, scaled = (LMM("y ~ x + (1 | g)", GOOD.assign(y=GOOD.y * c, x=GOOD.x * c)).ml() for c in (1.0, factor))
    np.testing.assert_allclose(scaled.fixef["x"], plain.fixef["x"], rtol=1e-6)
    np.testing.assert_allclose(scaled.sigma / factor, plain.sigma, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-7, 1e7])
def test_weights_have_a_unit_of_their_own(factor):
    hierarchy = Hierarchy.from_formula("y ~ x + (1 | g)", residual=Residual(weights="w"))
    w = np.linspace(1, 3, N)
    plain, scaled = (LMM(hierarchy, GOOD.assign(w=c * w)).ml() for c in (1.0, factor))
    np.testing.assert_allclose(scaled.fixef, plain.fixef, rtol=1e-6)
    np.testing.assert_allclose(scaled.sigma / np.sqrt(factor), plain.sigma, rtol=1e-6)


def test_weights_at_the_widest_are_fitted():
    hierarchy = Hierarchy.from_formula("y ~ x + (1 | g)", residual=Residual(weights="w"))
    assert np.isfinite(LMM(hierarchy, GOOD.assign(w=[1e15] + [1.0] * (N - 1))).ml().loglik)


@pytest.mark.parametrize(
    ("formula", "change", "said"),
    [
        ("y ~ z + (1 | g)", {}, "its coef has 'x' where this model has 'z'"),
        ("y ~ x + (1 | g)", {"g": list("hhiijjkk")}, "its g has 'a' where this model has 'h'"),
        ("y ~ x + (1 | g)", {"y": [2.0, 4, 6, 8, 1, 3, 5, 9]}, "one of other data"),
    ],
)
def test_a_posterior_of_another_model_or_of_other_data_is_refused(formula, change, said):
    data = {"y": [1.0, 2, 4, 5, 3, 2, 7, 8], "x": list(range(8)), "z": [0, 1] * 4, "g": list("aabbccdd")}
    tree = LMM("y ~ x + (1 | g)", data).sample(draws=100, random_seed=1, progress=False)
    other = LMM(formula, data | change)
    for call in (other.fixef, other.loo, other.predictions, other.summary):
        with pytest.raises(DataError, match=said):
            call(tree)
