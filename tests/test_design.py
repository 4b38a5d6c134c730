"""The design: what y, X, the groups and Z are for a description and data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayeslmm.data.groups import find_groups
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.building import build_design
from bayeslmm.design.describe import relation
from bayeslmm.design.model_matrix import learn
from bayeslmm.errors import DataError

HEIGHTS = pd.DataFrame(
    [(school, cls) for school in (1, 2) for cls in (1, 2, 3) for _ in range(3)], columns=["school", "class"]
).assign(Height=np.random.default_rng(1).normal(5, 1, 18))
PASTES = pd.DataFrame(
    [(batch, cask) for batch in "ABCDEFGHIJ" for cask in "abc" for _ in range(2)], columns=["batch", "cask"]
).assign(strength=np.random.default_rng(2).normal(60, 3, 60))
PENICILLIN = pd.DataFrame(
    [(plate, sample) for plate in "abcdefghijklmnopqrstuvwx" for sample in "ABCDEF"],
    columns=["plate", "sample"],
).assign(diameter=np.random.default_rng(3).normal(23, 2, 144))
SLEEP = pd.DataFrame(
    [(subject, day) for subject in range(308, 326) for day in range(10)], columns=["Subject", "Days"]
).assign(Reaction=np.random.default_rng(4).normal(300, 30, 180))
CAKE = pd.DataFrame(
    [(rep, rec, t) for rep in range(1, 16) for rec in "ABC" for t in (175, 185, 195, 205, 215, 225)],
    columns=["replicate", "recipe", "temperature"],
).assign(angle=np.random.default_rng(5).normal(30, 5, 270))


def design(formula, data, **options):
    return build_design(Hierarchy.from_formula(formula), data, **options)


def groups(*columns):
    return find_groups([pd.Series(column, name="g") for column in columns]).labels


class TestGroups:
    def test_two_levels_of_heights_give_three_rows_of_Zt(self):
        d = design("Height ~ 1 + (1 | class)", HEIGHTS)
        expected = np.array([[float(cls == row) for row in HEIGHTS["class"]] for cls in (1, 2, 3)])
        assert d.levels[0].groups == ("1", "2", "3")
        np.testing.assert_array_equal(d.Zt.toarray(), expected)

    def test_three_levels_of_heights_give_six_classes_then_two_schools(self):
        d = design("Height ~ 1 + (1 | school/class)", HEIGHTS)
        assert d.levels[0].groups == ("1:1", "1:2", "2:1", "2:2", "3:1", "3:2")
        assert d.levels[1].groups == ("1", "2")
        pairs = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
        rows = list(zip(HEIGHTS["class"], HEIGHTS["school"], strict=True))
        expected = [[float(row == pair) for row in rows] for pair in pairs]
        expected += [[float(row[1] == school) for row in rows] for school in (1, 2)]
        assert d.Zt.shape == (8, 18)
        np.testing.assert_array_equal(d.Zt.toarray(), expected)
        assert d.Z_labels[1] == ("class:school", "1:2", "Intercept")
        assert d.Z_labels[7] == ("school", "2", "Intercept")

    def test_only_observed_combinations_are_groups(self):
        assert groups([1, 1, 2], ["b", "a", "a"]) == ("1:a", "1:b", "2:a")

    @pytest.mark.parametrize(
        ("column", "labels"),
        [
            ([10, 9, 10], ("9", "10")),
            ([10.0, 9.0, 2.5], ("2.5", "9", "10")),
            (["b", "B", "é", "a"], ("B", "a", "b", "é")),
            ([True, False], ("False", "True")),
            (pd.Categorical(["lo", "hi", "lo"], categories=["none", "lo", "hi"]), ("none", "lo", "hi")),
            (pd.to_datetime(["2020-02-01", "2020-01-01"]), ("2020-01-01", "2020-02-01")),
            (np.array([3, 1], dtype="uint8"), ("1", "3")),
        ],
    )
    def test_order_and_labels(self, column, labels):
        assert groups(column) == labels

    def test_unused_categories_are_no_groups(self):
        batch = pd.Categorical(PASTES["batch"], categories=list("ZJIHGFEDCBA"))
        d = design("strength ~ 1 + (1 | batch)", PASTES.assign(batch=batch))
        assert d.levels[0].groups == tuple("JIHGFEDCBA")

    @pytest.mark.parametrize("odd", ["north, west", "a/b", "a:b", "Ünï çødé 学校", "x y", "'q'", "a|b", "", "1 "])
    def test_any_text_is_a_name(self, odd):
        data = HEIGHTS.assign(school=HEIGHTS["school"].map({1: odd, 2: "plain"}))
        d = design("Height ~ 1 + (1 | school/class)", data)
        assert set(d.levels[1].groups) == {odd, "plain"}
        assert f"1:{odd}" in d.levels[0].groups

    def test_labels_that_would_read_alike_are_quoted(self):
        assert groups(["a:b", "a", "x"], ["c", "b:c", "y"]) == ("'a':'b:c'", "'a:b':'c'", "x:y")

    def test_several_effects_are_stored_group_by_group(self):
        d = design("Reaction ~ Days + (Days | Subject)", SLEEP)
        level = d.levels[0]
        assert (level.m, level.r, level.q, level.correlated) == (18, 2, 36, True)
        assert level.effects == ("Intercept", "Days")
        Z = d.Z.toarray()
        np.testing.assert_array_equal(Z[13, 2:4], [1, 3])
        assert np.count_nonzero(Z[13]) == 2
        assert list(d.Z_labels[2:4]) == [("Subject", "309", "Intercept"), ("Subject", "309", "Days")]

    def test_independent_effects_are_one_level(self):
        d = design("Reaction ~ Days + (Days || Subject)", SLEEP)
        assert len(d.levels) == 1
        assert not d.levels[0].correlated

    def test_a_factor_left_of_the_bar(self):
        d = design("angle ~ recipe * temperature + (0 + recipe | replicate)", CAKE)
        assert d.levels[0].effects == ("recipe[A]", "recipe[B]", "recipe[C]")
        np.testing.assert_array_equal(d.levels[0].columns.sum(axis=1), 1)


class TestFixedPart:
    def test_column_names_are_formulaics(self):
        d = design("angle ~ recipe * temperature + (1 | recipe:replicate)", CAKE)
        assert d.coef == (
            "Intercept",
            "recipe[T.B]",
            "recipe[T.C]",
            "temperature",
            "recipe[T.B]:temperature",
            "recipe[T.C]:temperature",
        )
        assert d.X.dtype == np.float64
        assert d.X.flags.c_contiguous

    @pytest.mark.parametrize("text", ["1", "0", "1 + x", "0 + x", "1 + x + i + b", "0 + i + b", "1 + u8"])
    def test_the_short_way_equals_formulaic(self, text):
        from formulaic import model_matrix

        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {
                "x": rng.normal(size=9),
                "i": rng.integers(0, 5, 9),
                "b": rng.random(9) < 0.5,
                "u8": np.arange(9, dtype="u1"),
            }
        )
        encoder, matrix = learn(text, frame)
        expected = model_matrix(text, frame, output="numpy", context={})
        assert encoder.spec is None
        assert encoder.names == tuple(expected.model_spec.column_names)
        np.testing.assert_array_equal(matrix, np.asarray(expected, dtype=float))

    def test_products_of_large_integers_do_not_wrap_around(self):
        big = np.arange(1, 19) * 10**10
        d = design("Height ~ big:other + (1 | class)", HEIGHTS.assign(big=big, other=big[::-1].copy()))
        np.testing.assert_allclose(d.X[:, 1], big.astype(float) * big[::-1].astype(float))

    def test_transforms_of_columns_and_of_the_response(self):
        d = design("log(Height) ~ I(x**2) + (1 | class)", HEIGHTS.assign(x=np.arange(18.0)))
        np.testing.assert_allclose(d.y, np.log(HEIGHTS["Height"]))
        np.testing.assert_allclose(d.X[:, 1], np.arange(18.0) ** 2)

    def test_names_in_backticks(self):
        data = HEIGHTS.rename(columns={"Height": "body height", "class": "school class"}).assign(x=range(18))
        data = data.rename(columns={"x": "shoe size"})
        d = design("`body height` ~ `shoe size` + (1 | `school class`)", data)
        assert d.coef == ("Intercept", "shoe size")
        np.testing.assert_array_equal(d.y, HEIGHTS["Height"])

    def test_large_integers_survive(self):
        y = np.arange(18) + 2**40
        np.testing.assert_array_equal(design("y ~ 1 + (1 | class)", HEIGHTS.assign(y=y)).y, y.astype(float))
        beyond = [int(value) * 2**40 for value in y]
        np.testing.assert_array_equal(
            design("y ~ 1 + (1 | class)", HEIGHTS.assign(y=pd.Series(beyond, dtype=object))).y,
            np.array(beyond, float),
        )


class TestRelations:
    def test_nested_and_containing(self):
        inner, outer = design("Height ~ 1 + (1 | school/class)", HEIGHTS).levels
        assert relation(inner, outer) == "nested"
        assert relation(outer, inner) == "contains"

    def test_crossed(self):
        assert relation(*design("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN).levels) == "crossed"

    def test_partially_crossed(self):
        assert (
            relation(*design("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN[1:]).levels) == "partially crossed"
        )

    def test_same(self):
        data = SLEEP.assign(other=SLEEP["Subject"].map(lambda number: f"s{number}"))
        assert relation(*design("Reaction ~ 1 + (1 | Subject) + (0 + Days | other)", data).levels) == "same"

    def test_described_in_words(self):
        assert design("Height ~ 1 + (1 | school/class)", HEIGHTS).describe() == (
            "18 rows in 6 groups of class:school (3 rows each), nested in 2 groups of school "
            "(9 rows each; 3 class:school each).\n"
            "Fixed part: 1 column (Intercept).\n"
            "u2, one per class:school: Intercept. Z is 18 x 6 with 18 non-zeros (16.7 %).\n"
            "u3, one per school: Intercept. Z is 18 x 2 with 18 non-zeros (50 %)."
        )

    def test_crossing_described_in_words(self):
        words = design("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN).describe()
        assert "6 groups of sample (24 rows each): crossed with plate (every combination occurs)." in words
        words = design("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN[:-36]).describe()
        assert "crossed with plate (every" in words
        words = design("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN[36:-1]).describe()
        assert "partially crossed with plate (99 % of the combinations occur)" in words


class TestHints:
    def test_forgotten_nesting_is_asked_about(self):
        hint = design("strength ~ 1 + (1 | cask) + (1 | batch)", PASTES).hints[-1]
        assert "Is cask a of batch A the same as cask a of batch B?" in hint
        assert "write (1 | batch/cask)" in hint

    def test_forgotten_nesting_with_unequal_numbers(self):
        data = PASTES[~((PASTES["batch"] == "B") & (PASTES["cask"] == "c"))]
        hint = design("strength ~ 1 + (1 | batch) + (1 | cask)", data).hints[-1]
        assert "write (1 | batch/cask)." in hint

    @pytest.mark.parametrize(
        ("formula", "data"),
        [
            ("strength ~ 1 + (1 | batch/cask)", PASTES),
            ("strength ~ 1 + (1 | batch/cask) + (1 | cask)", PASTES),
            ("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN),
        ],
    )
    def test_no_question_where_nesting_is_written_or_impossible(self, formula, data):
        assert not [hint for hint in design(formula, data).hints if "nested" in hint]

    def test_few_groups(self):
        assert design("Height ~ 1 + (1 | class)", HEIGHTS).hints[0].startswith("class has only 3 groups")
        assert design("Reaction ~ Days + (Days | Subject)", SLEEP).hints == ()

    def test_a_slope_without_variation_within_groups(self):
        data = SLEEP.assign(age=SLEEP["Subject"] % 7)
        (hint,) = design("Reaction ~ age + (age | Subject)", data).hints
        assert hint.startswith("age is constant within every group of Subject")

    def test_an_sd_for_each_kind_of_group_has_no_correlation(self):
        data = SLEEP.assign(kind=np.where(SLEEP["Subject"] % 2, "odd", "even"))
        (hint,) = design("Reaction ~ Days + (0 + kind | Subject)", data).hints
        assert hint.endswith("their correlations can't. Write (0 + kind || Subject).")
        assert design("Reaction ~ Days + (0 + kind || Subject)", data).hints == ()

    def test_text_of_numbers_used_as_categories(self):
        data = SLEEP.assign(Days=SLEEP["Days"].map(str))
        (hint,) = design("Reaction ~ Days + (1 | Subject)", data).hints
        assert "text that looks like numbers" in hint


class TestNewRows:
    def test_the_same_rows_give_the_same_design(self):
        d = design("angle ~ recipe * poly(temperature, 2) + (0 + recipe | replicate)", CAKE)
        new = d.new(CAKE.drop(columns="angle"))
        np.testing.assert_allclose(new.X, d.X)
        assert (new.Z != d.Z).nnz == 0

    def test_a_few_rows_are_encoded_as_the_first_were(self):
        d = design("angle ~ recipe * scale(temperature) + (1 | recipe:replicate)", CAKE)
        some = CAKE.iloc[[200, 3]]
        new = d.new(some)
        np.testing.assert_allclose(new.X, d.X[[200, 3]])
        np.testing.assert_array_equal(new.Z.toarray(), d.Z.toarray()[[200, 3]])
        assert list(new.rows) == [200, 3]

    def test_unknown_groups_are_an_error_that_names_them(self):
        d = design("Height ~ 1 + (1 | school/class)", HEIGHTS)
        with pytest.raises(DataError, match=r"class:school has groups .* '3:7' \(row 1\).*allow_new_groups=True"):
            d.new({"school": [1, 7], "class": [1, 3]})

    def test_unknown_groups_may_be_allowed(self):
        d = design("Height ~ 1 + (1 | school/class)", HEIGHTS)
        new = d.new({"school": [7, 1, 7], "class": [3, 1, 1]}, allow_new_groups=True)
        assert new.levels[0].index.tolist() == [-1, 0, -1]
        assert new.levels[1].index.tolist() == [-1, 0, -1]
        assert new.new_groups == (("1:7", "3:7"), ("7",))
        assert [index.tolist() for index in new.new_index] == [[1, -1, 0], [0, -1, 0]]
        np.testing.assert_array_equal(new.Z.toarray().sum(axis=1), [0, 2, 0])

    def test_unknown_categories_are_an_error(self):
        d = design("angle ~ recipe + (1 | replicate)", CAKE)
        with pytest.raises(DataError, match=r"'recipe' holds 'D' \(row 1\).*expected one of 'A', 'B', 'C'"):
            d.new({"recipe": ["A", "D"], "replicate": [1, 1]})
        d = design("angle ~ C(temperature) + (1 | replicate)", CAKE)
        with pytest.raises(DataError, match="180"):
            d.new({"temperature": [175, 180], "replicate": [1, 1]})

    def test_a_number_stays_a_number_and_a_category_a_category(self):
        d = design("angle ~ recipe + temperature + (1 | replicate)", CAKE)
        good = {"recipe": ["A"], "temperature": [175], "replicate": [1]}
        with pytest.raises(DataError, match="'temperature' holds 'hot'"):
            d.new(good | {"temperature": ["hot"]})
        with pytest.raises(DataError, match="'recipe' holds numbers; expected categories"):
            d.new(good | {"recipe": [1]})

    def test_a_model_of_the_mean_needs_groups_only(self):
        assert design("Height ~ 1 + (1 | class)", HEIGHTS).new({"class": [2.0]}).levels[0].index.tolist() == [1]


FORMULA = "y ~ x + f + (1 + x | a) + (1 | a:b)"


@st.composite
def tables(draw):
    """Unbalanced rows of two grouping columns, a number and a factor, enough of them for FORMULA."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(60, 90))
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "f": rng.permutation(np.resize(["u", "v", "w"], n)),
            "a": rng.permutation(np.resize([3, 1, 2, 10], n)),
            "b": rng.permutation(np.resize(["p", "q", "é"], n)),
        }
    )


def same(one, other):
    np.testing.assert_array_equal(one.y, other.y)
    np.testing.assert_array_equal(one.X, other.X)
    assert one.coef == other.coef
    for a, b in zip(one.levels, other.levels, strict=True):
        assert (a.name, a.groups, a.effects) == (b.name, b.groups, b.effects)
        np.testing.assert_array_equal(a.index, b.index)
        np.testing.assert_array_equal(a.columns, b.columns)


class TestProperties:
    @settings(max_examples=20, deadline=None)
    @given(data=tables(), seed=st.integers(0, 1000))
    def test_permuting_rows_permutes_the_design(self, data, seed):
        order = np.random.default_rng(seed).permutation(len(data))
        d, permuted = design(FORMULA, data), design(FORMULA, data.iloc[order])
        np.testing.assert_array_equal(permuted.y, d.y[order])
        np.testing.assert_array_equal(permuted.X, d.X[order])
        np.testing.assert_array_equal(permuted.Z.toarray(), d.Z.toarray()[order])
        assert list(permuted.rows) == order.tolist()
        assert permuted.Z_labels.equals(d.Z_labels)

    @settings(max_examples=20, deadline=None)
    @given(data=tables(), names=st.lists(st.text(max_size=6), min_size=4, max_size=4, unique=True))
    def test_relabelling_groups_permutes_columns_of_Z(self, data, names):
        naming = dict(zip([1, 2, 3, 10], names, strict=True))
        d, renamed = design(FORMULA, data), design(FORMULA, data.assign(a=data["a"].map(naming)))
        before = {tuple(column) for column in d.Z.toarray().T}
        after = {tuple(column) for column in renamed.Z.toarray().T}
        assert before == after
        a = d.levels[0]
        back = [int(a.groups[group]) for group in a.index]
        assert [renamed.levels[0].groups[group] for group in renamed.levels[0].index] == [
            naming[label] for label in back
        ]

    @settings(max_examples=10, deadline=None)
    @given(data=tables())
    def test_every_kind_of_table_gives_the_same_design(self, data):
        import polars as pl
        import pyarrow as pa

        columns = data.to_dict("list")
        expected = design(FORMULA, data)
        same(design(FORMULA, columns), expected)
        same(design(FORMULA, pl.DataFrame(columns)), expected)
        same(design(FORMULA, pl.DataFrame(columns).lazy()), expected)
        same(design(FORMULA, pa.table(columns)), expected)
        same(design(FORMULA, data.convert_dtypes()), expected)
        same(design(FORMULA, data.convert_dtypes(dtype_backend="pyarrow")), expected)
        same(design(FORMULA, data.astype({"f": "category", "b": "category"})), expected)

    @settings(max_examples=20, deadline=None)
    @given(data=tables())
    def test_Z_has_one_block_of_effects_per_row(self, data):
        for level in design(FORMULA, data).levels:
            Z = np.zeros((len(data), level.q))
            for row, group in enumerate(level.index):
                Z[row, group * level.r : (group + 1) * level.r] = level.columns[row]
            np.testing.assert_array_equal(level.Z.toarray(), Z)


def test_categories_of_polars_and_pyarrow_keep_their_order():
    import polars as pl
    import pyarrow as pa

    order = ["low", "mid", "high"]
    column = pd.Categorical(np.resize(["mid", "high", "low"], 18), categories=order)
    data = HEIGHTS.assign(level=column)
    expected = design("Height ~ 1 + (1 | level)", data)
    assert expected.levels[0].groups == tuple(order)
    same(design("Height ~ 1 + (1 | level)", pa.Table.from_pandas(data)), expected)
    plain = pl.DataFrame(data.assign(level=data["level"].astype(str)).to_dict("list"))
    same(design("Height ~ 1 + (1 | level)", plain.with_columns(pl.col("level").cast(pl.Enum(order)))), expected)
    by_name = design("Height ~ 1 + (1 | level)", plain.with_columns(pl.col("level").cast(pl.Categorical)))
    assert by_name.levels[0].groups == ("high", "low", "mid")


def test_a_repeated_index_is_no_obstacle():
    data = CAKE.set_axis(np.zeros(len(CAKE), dtype=int))
    same(
        design("angle ~ recipe * temperature + (1 | replicate)", data),
        design("angle ~ recipe * temperature + (1 | replicate)", CAKE),
    )
