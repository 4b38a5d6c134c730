"""What `explain` says of a design, and that its numbers are those of the factorisation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.factorisation.cost import LARGE_TAIL, plan_cost

MODELS = Path(__file__).parents[1] / "models"


def nested(groups, formula="y ~ 1 + x + (1 | a/b)"):
    rng = np.random.default_rng(groups)
    a = np.repeat(np.arange(groups), 9)
    data = {
        "y": rng.normal(size=a.size),
        "x": rng.normal(size=a.size),
        "a": a,
        "b": np.tile([1, 2, 3], 3 * groups),
    }
    return blm.LMM(formula, data)


def crossed(a, b, formula="y ~ 1 + (1 | a) + (1 | b)", rows=3):
    rng = np.random.default_rng(a)
    n = rows * (a + b)
    data = {"y": rng.normal(size=n), "x": rng.normal(size=n)}
    data |= {"a": np.arange(n) % a, "b": rng.permutation(np.arange(n) % b)}
    return blm.LMM(formula, data)


def factor_size(lmm):
    """Numbers that are not zero in the Cholesky factor, chain first; the tail counted as a full triangle."""
    levels, plan = lmm.design.levels, lmm.statistics.plan
    whole = np.hstack([levels[k].Z.toarray() for k in (*plan.chain, *plan.tail)])
    L = np.linalg.cholesky(whole.T @ whole + np.eye(whole.shape[1]))
    t = plan.tail_columns
    chain = L[:, : L.shape[1] - t]
    return int((np.abs(chain) > 1e-12).sum()) + t * (t + 1) // 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: nested(5),
        lambda: nested(4, "y ~ 1 + (1 + x | a/b)"),
        lambda: crossed(8, 5),
        lambda: crossed(9, 4, "y ~ 1 + (1 + x | a) + (1 | b)"),
        lambda: blm.LMM.from_toml(MODELS / "penicillin.toml"),
    ],
    ids=["nested", "nested slopes", "partially crossed", "slopes crossed", "penicillin"],
)
def test_fill_is_that_of_the_cholesky_factor(make):
    lmm = make()
    cost = plan_cost(lmm.statistics)
    assert cost.stored == factor_size(lmm)
    assert cost.full == lmm.design.q * (lmm.design.q + 1) // 2


def test_nested_cost_grows_linearly_with_the_groups():
    one, two = (plan_cost(nested(groups).statistics) for groups in (50, 100))
    assert one.tail == two.tail == 0
    assert two.value == pytest.approx(2 * one.value)
    assert two.gradient == pytest.approx(2 * one.gradient)
    assert two.stored == 2 * one.stored
    assert two.work == pytest.approx(2 * one.work, rel=0.01)


def test_a_tail_costs_its_cube():
    one, two = (plan_cost(crossed(600, tail).statistics) for tail in (150, 300))
    assert two.tail == pytest.approx(8 * one.tail, rel=0.1)


def test_the_chain_is_said_leaf_first_with_its_blocks():
    text = nested(50, "y ~ 1 + (1 + x | a/b)").explain()
    assert "1. u2 (b:a): 150 blocks of 2 x 2, each beside 2 effects of u3" in text
    assert "2. u3 (a): 50 blocks of 2 x 2\n" in text
    assert "Dense tail: none" in text


def test_the_tail_is_said_with_the_level_that_makes_it():
    text = blm.LMM.from_toml(MODELS / "penicillin.toml").explain()
    assert "u2 (plate): 24 blocks of 1 x 1, each beside 6 of the tail's columns" in text
    assert "Dense tail: 6 columns (u3 (sample) with 6), because u3 is crossed with u2 (plate)." in text
    assert "smaller" not in text


def test_a_large_tail_gets_advice():
    text = crossed(LARGE_TAIL + 200, LARGE_TAIL + 1, rows=2).explain().replace("\n     ", " ")
    assert "1,001 columns" in text
    assert "What makes it smaller" in text
    assert "fewer effects" not in text
    assert "8,000 are the most" in text


def test_a_known_covariance_is_diagonal_in_a_basis_of_its_own():
    text = blm.LMM.from_toml(MODELS / "flock.toml").explain()
    assert "250 blocks of 1 x 1, in the basis in which its known covariance is diagonal" in " ".join(text.split())
    assert "Dense tail: none" in text


def test_without_levels_there_is_nothing_to_eliminate():
    text = blm.LMM.from_toml(MODELS / "litters.toml").explain()
    assert text.startswith("137 rows become cross-products of 2 columns of X, and y;")
    assert "R^-1 is a sum of 5 fixed matrices" in text
    assert "tail" not in text


def test_why_there_is_a_tail_is_said_of_correlated_rows_and_relatives():
    data = {"y": [1.0, 2, 3, 5, 2, 7, 1, 9], "a": list("aabbccdd"), "b": list("xyxyxyxy")}
    text = " ".join(blm.LMM("y ~ 1 + (1 | a)", data, residual=blm.Residual(structure="ar1")).explain().split())
    assert "because residuals of different groups of u2 are correlated" in text
    K = pd.DataFrame(0.5 + 0.5 * np.eye(4), index=list("abcd"), columns=list("abcd"))
    both = blm.LMM("y ~ 1 + (1 | a) + (1 | a:b)", data | {"b": list("xyxxxyxx")}, covariance={"a": K})
    text = " ".join(both.explain().split())
    assert "a known covariance relates the groups of u2" in text
