"""Known covariances and residual structures in words: what a model says of itself, and what it asks about."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.description.hierarchy import Hierarchy, Level, Residual
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.design.residual_words import with_estimates
from bayeslmm.errors import DataError
from bayeslmm.lmm import LMM

N = 48
rng = np.random.default_rng(1)
DATA = pd.DataFrame(
    {
        "y": rng.normal(size=N),
        "Mare": np.repeat([f"m{k}" for k in range(8)], 6),
        "Sex": ["Male"] * 30 + ["Female"] * 18,
        "time": np.tile(np.arange(6), 8),
        "w": np.tile([0.5, 1.0, 3.0], 16),
        "row": np.arange(N),
    }
)
LABELS = [f"m{k}" for k in range(10)]
KIN = pd.DataFrame(0.3 + 0.7 * np.eye(10), index=LABELS, columns=LABELS)


def described(formula="y ~ 1 + (1 | Mare)", data=DATA, **parts):
    return LMM(formula, data, **parts).describe().splitlines()


def hints(formula="y ~ 1 + (1 | Mare)", data=DATA, missing="error", **parts):
    return LMM(formula, data, missing=missing, **parts).design.hints


# --- in words


@pytest.mark.parametrize(
    ("residual", "said"),
    [
        ({}, []),
        (
            {"structure": "ar1", "group": "Mare"},
            ["Residuals: AR(1) within Mare in the order of the rows, 8 series (6 rows each)."],
        ),
        (
            {"structure": "ar1", "group": "Mare", "time": "time"},
            ["Residuals: AR(1) within Mare by time, 8 series (6 rows each)."],
        ),
        ({"structure": "ar1", "time": "row"}, ["Residuals: AR(1) by row, all 48 rows together."]),
        (
            {"structure": "cs", "group": "Sex"},
            ["Residuals: one correlation within Sex, 2 groups (18 to 30 rows each, 24.0 on average)."],
        ),
        (
            {"structure": "strata", "by": "Sex"},
            [
                "Residuals: independent.",
                "  An SD for each Sex: Female (18 rows), Male (30 rows); sigma is that of Female.",
            ],
        ),
        ({"weights": "w"}, ["Residuals: independent.", "  Weights: w, from 0.5 to 3."]),
    ],
)  # fmt: skip
def test_the_residual_is_told(residual, said):
    lines = described(residual=Residual(**residual))
    assert lines[3:] == said
    assert lines[:3] == described()


def test_a_known_residual_is_told():
    labels = DATA["row"].astype(str)
    R = pd.DataFrame(np.kron(np.eye(8), 0.2 + np.eye(6)), index=labels, columns=labels)
    residual = Residual(structure="known", covariance=R, group="row")
    assert described(residual=residual)[3:] == [
        "Residuals: sigma^2 times the covariance, 8 independent blocks (6 rows each)."
    ]


def test_a_known_covariance_is_told_with_its_relatives():
    lines = described(covariance={"Mare": KIN})
    assert lines[0].startswith("48 rows in 8 groups of Mare (6 rows each)")
    assert lines[2].startswith("u2, one per Mare: Intercept. Z is 48 x 10 with 48 non-zeros")
    what = "Its covariance between groups is {} times {}: 8 groups with rows and 2 relatives without."
    assert lines[3].strip() == what.format("sigma_u2^2", "the covariance")
    inverse = pd.DataFrame(np.linalg.inv(KIN), index=LABELS, columns=LABELS)
    lines = described(precision={"Mare": inverse})
    assert lines[3].strip() == what.format("sigma_u2^2", "the inverse of the precision")
    known = Hierarchy(response="y", levels=Level(group="Mare", covariance=KIN.iloc[:8, :8], known=True))
    assert LMM(known, DATA).describe().splitlines()[3].strip() == (
        "Its covariance between groups is sigma^2 times the covariance: 8 groups with rows."
    )


def test_levels_with_relatives_lie_in_each_other_as_the_rows_have_it():
    labels = [f"{s}" for s in ("Male", "Female", "Other")]
    sexes = pd.DataFrame(0.5 + 0.5 * np.eye(3), index=labels, columns=labels)
    lines = described("y ~ 1 + (1 | Mare) + (1 | Sex)", DATA, covariance={"Mare": KIN, "Sex": sexes})
    assert (
        "nested in 2 groups of Sex (18 to 30 rows each, 24.0 on average; 3 to 5 Mare each, 4.0 on average)" in lines[0]
    )


def test_a_model_shows_its_residual():
    lmm = LMM("y ~ 1 + (1 | Mare)", DATA, residual=Residual(structure="ar1", group="Mare"))
    assert repr(lmm) == "LMM('y ~ 1 + (1 | Mare)', 48 rows, residual ar1 (group='Mare'))"
    assert "Residuals: AR(1) within Mare" in lmm._repr_html_()
    assert repr(lmm.design).endswith("u2: Mare 8 x 1, e: ar1 (group='Mare'))")
    assert repr(LMM("y ~ 1 + (1 | Mare)", DATA)) == "LMM('y ~ 1 + (1 | Mare)', 48 rows)"


# --- what deserves a second look


def test_nothing_is_asked_without_need():
    sound = [
        {"residual": Residual(structure="ar1", group="Mare", time="time", by="Sex", weights="w")},
        {"residual": Residual(structure="cs", group="Sex")},
        {"covariance": {"Mare": KIN}},
    ]
    assert [hints(**parts) for parts in sound] == [()] * 3


def test_a_random_intercept_and_compound_symmetry_of_the_same_groups():
    residual = Residual(structure="cs", group="Mare")
    (said,) = hints(residual=residual)
    assert said.startswith("The intercept of u2 and the correlation within Mare say the same")
    slopes = hints("y ~ 1 + (1 + time | Mare)", residual=residual)
    assert "leave out u2's intercept" in slopes[0]
    assert hints("y ~ 1 + (0 + time | Mare)", residual=residual) == ()
    renamed = DATA.assign(horse=DATA["Mare"].str.upper())
    assert "within horse" in hints(data=renamed, residual=Residual(structure="cs", group="horse"))[0]
    # weights and strata make the two different, kinship too
    assert hints(residual=Residual(structure="cs", group="Mare", weights="w")) == ()
    assert hints(residual=residual, covariance={"Mare": KIN}) == ()


def test_a_series_through_the_whole_table():
    (said,) = hints(residual=Residual(structure="ar1"))
    assert "from one group of Mare into the next" in said
    assert "write group='Mare'" in said
    alone = Hierarchy(response="y", residual=Residual(structure="ar1"))
    assert LMM(alone, DATA).design.hints == ()


def test_strata_of_a_few_rows():
    small = DATA.assign(Sex=["Male"] * 44 + ["Female"] * 4)
    (said,) = hints(data=small, residual=Residual(structure="strata", by="Sex"))
    assert said.startswith("Sex has strata with fewer than 10 rows: Female (4 rows)")


@pytest.mark.parametrize(("w", "said"), [(1.0, "so they change nothing."), (4.0, "a row has the SD sigma / 2.")])
def test_weights_that_are_all_the_same(w, said):
    (hint,) = hints(data=DATA.assign(w=w), residual=Residual(weights="w"))
    assert hint.startswith(f"The weights w are {w:.0f} in all rows")
    assert said in hint


def test_times_in_steps_of_more_than_one():
    residual = Residual(structure="ar1", group="Mare", time="time")
    (said,) = hints(data=DATA.assign(time=7 * DATA["time"] + 3), residual=residual)
    assert "multiples of 7 apart: rho is the correlation of rows 7 apart" in said
    made = build_residual(residual, DATA.assign(time=7 * DATA["time"] + 3))
    assert (
        with_estimates(made, [0.5]) == "AR(1) within Mare by time in steps of 7, rho = 0.500 (0.906 for 1)"
    )  # 0.5^(1/7)
    assert with_estimates(made, [-0.5]) == "AR(1) within Mare by time in steps of 7, rho = -0.500"
    gaps = DATA.drop(index=[1, 9, 30])  # a gap of two here and there leaves steps of one
    assert hints(data=gaps, residual=residual) == ()


def test_the_sign_of_rho_belongs_to_a_step():
    """Times that are all even would leave the sign open, were rho that of one unit."""
    lmm = LMM(
        "y ~ 1 + (1 | Mare)",
        DATA.assign(time=10 * DATA["time"]),
        residual=Residual(structure="ar1", group="Mare", time="time"),
    )
    made = lmm.design.residual
    assert made.structure.step == 10
    assert made.R([-0.9]).min() < 0 <= made.R([0.9]).min()


def test_rows_left_out_of_a_series_without_times():
    holes = DATA.assign(y=DATA["y"].where(DATA["row"] != 8))
    said = hints(data=holes, missing="drop", residual=Residual(structure="ar1", group="Mare"))
    assert "1 row with missing values left out" in said[0]
    named = Residual(structure="ar1", group="Mare", time="time")
    assert hints(data=holes, missing="drop", residual=named) == ()


@pytest.mark.parametrize("kind", ["covariance", "precision"])
def test_a_known_covariance_that_says_nothing(kind):
    almost = pd.DataFrame(np.eye(10) + 0.001 * (1 - np.eye(10)), index=LABELS, columns=LABELS)
    (said,) = hints(**{kind: {"Mare": almost}})
    assert said.startswith(f"The {kind} of Mare is nearly diagonal")
    assert said.endswith("independent.")
    rows = KnownMatrix(labels=DATA["row"].tolist(), matrix=sparse.eye_array(N), precision=kind == "precision")
    (said,) = hints("y ~ 1 + (1 | row)", **{kind: {"row": rows}})
    assert said.endswith("the data can't tell sigma_u2 from sigma.")


# --- effects of single rows


def test_effects_of_single_rows_need_a_residual_of_another_kind():
    """Measurement error beside an AR(1), or study effects beside known precisions; not beside plain noise."""
    for residual in (Residual(), Residual(structure="strata", by="Sex"), Residual(structure="cs", group="Mare")):
        with pytest.raises(DataError, match="exactly one row"):
            LMM("y ~ 1 + (1 | row)", DATA, residual=residual)
    for residual in (Residual(structure="ar1", group="Mare"), Residual(weights="w")):
        assert LMM("y ~ 1 + (1 | row)", DATA, residual=residual).design.levels[0].m == N
    with pytest.raises(DataError, match="exactly one row"):
        LMM("y ~ 1 + (1 | row)", DATA.assign(w=2.0), residual=Residual(weights="w"))
