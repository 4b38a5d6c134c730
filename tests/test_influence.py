"""Estimates without each unit: the same as a model of the other rows has, and what can't be left out."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.errors import DescriptionError

FORMULAS = {
    "sleepstudy": ("Reaction ~ 1 + Days + (1 + Days | Subject)", "Subject"),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "sample"),
    "pastes": ("strength ~ 1 + (1 | batch/cask)", "batch"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_it_is_the_fit_of_the_other_rows(name):
    formula, unit = FORMULAS[name]
    data = pd.DataFrame(blm.example_data(name))
    ours = blm.LMM(formula, data).influence(unit, progress=False)
    for label in (ours.table.index[0], ours.table.index[-1]):
        rest = blm.LMM(formula, data[data[unit].astype(str) != label]).reml()
        np.testing.assert_allclose(
            ours.table.loc[label, list(rest.estimates().index)].astype(float), rest.estimates(), rtol=1e-4, atol=1e-6
        )  # two searches of one maximum
        whole = blm.LMM(formula, data).reml()
        off = rest.beta - whole.beta
        expected = off @ np.linalg.inv(whole.beta_cov) @ off / len(off)
        assert ours.table.loc[label, "cooks_distance"] == pytest.approx(expected, rel=1e-3)


def test_rows_of_a_structured_residual_keep_their_times():
    """Without a row in the middle its neighbours are two steps apart: the same as a table without it has."""
    data = pd.DataFrame(blm.example_data("ovary")).iloc[:60]
    h = blm.Hierarchy.from_formula("follicles ~ 1 + (1 | Mare)", residual=blm.Residual(
        structure="ar1", group="Mare", time="step"))  # fmt: skip
    data = data.assign(step=data.groupby("Mare").cumcount())
    ours = blm.LMM(h, data).influence("row", reml=False, progress=False)
    rest = blm.LMM(h, data.drop(data.index[5])).ml()
    np.testing.assert_allclose(ours.table.iloc[5, 4:].astype(float), rest.estimates(), rtol=1e-4, atol=1e-6)


def test_what_the_model_cannot_do_without_is_said():
    data = {"y": [1.0, 2, 4, 3, 5, 6, 9.0, 8.5], "x": [0.0, 0, 0, 0, 0, 0, 1, 1], "g": list("aabbccdd")}
    found = blm.LMM("y ~ 1 + x + (1 | g)", data).influence("g", progress=False)
    assert found.table.loc["d", "status"] == "not determined"
    assert "Without d some coefficient is not determined" in found.note


def test_without_one_of_two_groups_the_other_says_nothing_of_their_variance():
    found = blm.example("heights").influence("school", progress=False)
    assert "converged" not in set(found.table["status"])
    assert "no estimates to rely on" in found.note


def test_what_is_no_unit_is_refused():
    with pytest.raises(DescriptionError, match="unit='batch' is no unit"):
        blm.example("dyestuff").influence("batch")
