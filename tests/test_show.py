"""What a reader sees: labelled matrices and fits."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import bayeslmm as blm
from bayeslmm.design.labelled_matrix import CELL_LIMIT, LabelledMatrix
from bayeslmm.likelihood.printing import fit_text
from bayeslmm.support.text import format_column

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture(scope="module")
def heights():
    return blm.LMM.from_toml(MODELS / "heights.toml")


@pytest.fixture(scope="module")
def sleepstudy():
    return blm.LMM.from_toml(MODELS / "sleepstudy.toml")


def small():
    return LabelledMatrix(sparse.csc_array([[1.0, 0.5], [0, -2]]), pd.Index(["a", "b"]), pd.Index(["x", "y"]))


class TestLabelledMatrix:
    def test_prints_as_lme4_does_dots_for_zeros_ones_as_1(self):
        assert repr(small()).splitlines() == [
            "2 x 2 sparse matrix, 3 non-zeros (75 %)",
            "  x   y",
            "a 1 0.5",
            "b .  -2",
        ]

    def test_Zt_of_the_thread_prints_its_pattern(self, heights):
        lines = repr(heights.Zt).splitlines()
        assert lines[0] == "8 x 18 sparse matrix, 36 non-zeros (25 %)"
        row = {line[: line.rindex("1:1") + 3]: line for line in lines if "1:1" in line}["class:school 1:1"]
        assert row.split()[2:] == ["1"] * 3 + ["."] * 15
        assert lines[-2].split()[:2] == ["school", "1"]

    def test_labels_show_the_parts_that_differ(self, sleepstudy, heights):
        assert repr(sleepstudy.Zt).splitlines()[1].startswith("308 Intercept 1 1 1")
        assert repr(blm.LMM("Height ~ 1 + (1 | school)", heights_data()).Zt).splitlines()[2].startswith("1 1 1")

    def test_large_ones_are_cut_with_their_shape_and_fill(self, sleepstudy):
        text = repr(sleepstudy.Z)
        assert text.startswith("180 x 36 sparse matrix, 342 non-zeros (5.28 %)")
        assert "168 rows" in text.splitlines()[-1]
        assert "more" in text.splitlines()[-1]
        assert max(map(len, text.splitlines())) < 130
        assert len(text.splitlines()) < 20

    def test_html_is_a_table_with_escaped_labels_and_stays_small(self, sleepstudy):
        one = LabelledMatrix(sparse.csc_array([[1.0]]), pd.Index(["a<b"]), pd.Index(["x"]))
        assert "<th>a&lt;b</th><td>1</td>" in one._repr_html_()
        assert "168 rows more" in sleepstudy.Z._repr_html_()
        assert len(sleepstudy.Z._repr_html_()) < 20_000

    def test_an_empty_one_prints(self):
        m = LabelledMatrix(sparse.csc_array((3, 0)), pd.RangeIndex(3), pd.Index([]))
        assert repr(m).startswith("3 x 0 sparse matrix, 0 non-zeros")
        assert "<table" in m._repr_html_()

    def test_dense_views_carry_labels(self):
        frame = small().to_frame()
        assert frame.loc["b", "y"] == -2
        np.testing.assert_array_equal(np.asarray(small()), [[1, 0.5], [0, -2]])
        assert np.asarray(small(), dtype=np.float32).dtype == np.float32
        assert small().T.to_frame().loc["y", "b"] == -2

    def test_a_huge_dense_table_is_refused_in_words(self):
        n = int(CELL_LIMIT**0.5) + 1
        m = LabelledMatrix(sparse.eye_array(n, format="csc"), pd.RangeIndex(n), pd.RangeIndex(n))
        with pytest.raises(blm.DataError, match=r"0\.1 GB.*\.matrix"):
            m.to_frame()
        assert m.shape == (n, n)

    def test_products_keep_labels_and_hold_them_together(self, heights):
        fit = heights.reml()
        Zb = heights.Z @ fit.b
        assert isinstance(Zb, pd.Series)
        np.testing.assert_allclose(Zb, heights.design.Z @ fit.modes)
        ZZ = heights.Zt @ heights.Z
        assert isinstance(ZZ, LabelledMatrix)
        assert ZZ.rows.equals(heights.design.Z_labels)
        assert (heights.Zt @ heights.X).shape == (8, 1)
        np.testing.assert_allclose(heights.y.to_numpy() @ heights.Z, heights.Zt @ heights.y.to_numpy())
        with pytest.raises(blm.DataError, match="same order"):
            heights.Z @ fit.b[::-1]

    def test_labels_must_fit(self):
        with pytest.raises(blm.DataError, match="2 x 1 matrix; this one is 2 x 2"):
            LabelledMatrix(sparse.eye_array(2), pd.Index([0, 1]), pd.Index([0]))

    def test_it_can_be_sent_to_another_process(self):
        assert repr(pickle.loads(pickle.dumps(small()))) == repr(small())


def heights_data():
    return pd.read_csv(MODELS / "data" / "heights.csv")


class TestFitText:
    def test_reads_like_lme4s_summary(self, sleepstudy):
        lines = fit_text(sleepstudy.reml()).splitlines()
        assert lines[0] == "Linear mixed model fit by REML"
        assert lines[1] == "Formula: Reaction ~ 1 + Days + (1 + Days | Subject)"
        random = lines[lines.index("Random effects:") + 1 :]
        assert random[0].split() == ["Groups", "Name", "Variance", "Std.Dev.", "Corr"]
        # lme4: 612.10 24.741; 35.07 5.922 0.07; 654.94 25.592
        name, effect, variance, sd = random[1].split()
        assert (name, effect) == ("Subject", "Intercept")
        assert float(variance) == pytest.approx(612.10, rel=1e-4)
        assert float(sd) == pytest.approx(24.741, rel=1e-4)
        assert random[2].split()[-1] == "0.07"
        assert "Number of obs: 180, groups: Subject, 18" in lines
        # lme4: 251.405 6.825 36.838
        fixed = next(line for line in lines if line.startswith("Intercept")).split()
        assert [float(x) for x in fixed[1:]] == pytest.approx([251.405, 6.825, 36.838], rel=1e-4)

    def test_names_the_method_and_its_criterion(self, sleepstudy):
        assert "fit by maximum likelihood" in repr(sleepstudy.ml())
        assert "deviance" in repr(sleepstudy.ml())
        assert "1743.63" in repr(sleepstudy.reml())

    def test_says_when_it_is_singular_and_only_then(self, sleepstudy, heights):
        assert "boundary" not in repr(sleepstudy.ml())
        assert "Singular: the maximum lies on the boundary, sigma_u3" in repr(heights.ml())

    def test_a_structured_residual_is_named_with_its_estimates(self):
        text = repr(blm.LMM.from_toml(MODELS / "ovary.toml").reml())
        assert "\nResidual: AR(1) within Mare in the order of the rows, rho = 0.607\n" in text
        assert text.startswith("Linear mixed model fit by REML")

    def test_each_stratum_has_its_variance(self):
        """nlme's residual SDs: 1.669823 of the boys, 0.4678944 times that of the girls."""
        fit = blm.LMM.from_toml(MODELS / "orthodont.toml").reml()
        lines = [line.split() for line in repr(fit).splitlines()]
        (girls,) = [line for line in lines if line[:2] == ["Residual", "Female"]]
        (boys,) = [line for line in lines if line[:1] == ["Male"]]
        assert [float(girls[3]), float(boys[2])] == pytest.approx([0.4678944 * 1.669823, 1.669823], rel=1e-4)
        assert "SD ratio Male / Female = 2.137" in repr(fit)

    def test_without_levels_it_is_a_linear_model(self):
        text = repr(blm.LMM.from_toml(MODELS / "litters.toml").ml())
        assert text.startswith("Linear model fit by maximum likelihood")
        assert "Residual variance:" in text
        assert "Residual: one correlation within litter, rho = -0.098" in text
        assert "groups" not in text

    def test_a_known_covariance_is_named_and_relatives_are_counted(self):
        text = repr(blm.LMM.from_toml(MODELS / "calves.toml").reml())
        assert "Covariance of calf: sigma^2 times the covariance in data/calves_K.csv" in text
        assert "groups: calf, 5 and 3 without rows" in text
        text = repr(blm.LMM.from_toml(MODELS / "flock.toml").reml())
        assert "Covariance of animal: sigma_u2^2 times the inverse of the precision in data/flock_inverse.mtx" in text

    def test_weights_are_named(self, heights):
        data = heights_data()
        data["w"] = 1.0 + data.index % 3
        text = repr(blm.LMM("Height ~ 1 + (1 | school)", data, residual=blm.Residual(weights="w")).ml())
        assert "Residual: independent, weighted by w" in text

    def test_levels_share_one_table(self, heights):
        assert "groups: class:school, 6; school, 2" in repr(heights.reml())


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0, 0.0], ["0.0", "0.0"]),
        ([1e-9, 1.0], ["1e-09", "1"]),
        ([12345678.0, 1.0], ["12345678", "1"]),
        ([123456789.0, 1.0], ["1.2346e+08", "1"]),
        ([0.98325, 0.03858], ["0.98325", "0.03858"]),
        ([], []),
    ],
)
def test_numbers_of_a_column_share_their_decimals(values, shown):
    assert format_column(values) == shown
