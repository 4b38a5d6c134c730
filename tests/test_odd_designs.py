"""Odd designs come to the numbers of dense matrices, or to a reason.

A few here, the same in every run; ``python -m tests.odd_designs --examples N`` draws new ones.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from odd_designs.checks import check_collapsed, check_fit, dense, judge, priors_of
from odd_designs.designs import OddDesign, odd_designs
from scipy.optimize import minimize_scalar

import bayeslmm as blm

PLAIN = {
    "rows": 14, "fixed": "1 + x", "terms": "intercept", "grouping": "even", "x": "normal", "w": "normal",
    "outcome": "effects", "scale": 1.0, "duplicated": False, "seed": 3,
}  # fmt: skip

# What is odd -> what differs from PLAIN, and what it may come to. Dependent columns are refused or dropped with a word.
ODD = {
    "nothing": ({}, "equal"),
    "empty cells in X": ({"fixed": "f * v", "rows": 9}, "equal|refused"),
    "empty cells in Z": ({"terms": "a factor", "fixed": "1", "rows": 16}, "equal|refused"),
    "nearly all groups have one row": ({"grouping": "singletons", "fixed": "1"}, "equal"),
    "slopes without intercepts": ({"terms": "slope alone"}, "equal"),
    "no intercept anywhere": ({"terms": "slope alone", "fixed": "0 + x"}, "equal"),
    "an effect constant within groups": ({"terms": "slope", "x": "constant in groups", "grouping": "random"}, "equal"),
    "more effects than rows": ({"terms": "two slopes", "grouping": "pairs"}, "refused"),
    "y of the size of 1e-12": ({"scale": 1e-12, "terms": "slope"}, "equal"),
    "y of the size of 1e12": ({"scale": 1e12, "terms": "slope"}, "equal"),
    "every row twice": ({"duplicated": True, "terms": "crossed"}, "equal"),
    "one grouping twice": ({"terms": "twice the same"}, "equal|refused"),
    "years": ({"x": "years", "terms": "slope"}, "equal"),
    "years, independent slopes": ({"x": "years", "terms": "slope, independent"}, "equal"),
    "x of the size of 1e6": ({"x": "far", "terms": "slope"}, "equal"),
    "x of the size of 1e6, independent slopes": ({"x": "far", "terms": "slope, independent"}, "equal"),
    "a maximum beside the one on the edge": (
        {
            "rows": 7,
            "fixed": "0",
            "terms": "slope",
            "grouping": "random",
            "outcome": "integers",
            "seed": 2854,
            "w": "sparse",
        },
        "equal",
    ),
    "slopes that are the same": ({"terms": "two slopes", "w": "of x", "grouping": "one large"}, "equal|refused"),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_in_one_way(odd):
    changes, allowed = ODD[odd]
    outcome = judge(OddDesign(**PLAIN | changes))
    assert outcome.split(";")[0].split(":")[0] in allowed.split("|"), outcome


@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes, and a design is small as it is
    suppress_health_check=list(HealthCheck),
)
@given(odd_designs)
def test_odd_in_many_ways(case):
    judge(case)


@pytest.mark.parametrize("alone", [0.9, 1.0])
def test_a_hundred_thousand_groups_of_one_row(alone):
    """With pairs among them, the optimum is that of the closed form; without, nothing tells u from e."""
    groups, singles = 100_000, int(alone * 100_000)
    rng = np.random.default_rng(5)
    g = np.concatenate([np.arange(groups), np.arange(singles, groups)])
    y = 3.0 + 0.8 * rng.normal(size=groups)[g] + rng.normal(size=g.size)
    lmm_of = lambda: blm.LMM("y ~ 1 + (1 | g)", {"y": y, "g": g})  # noqa: E731
    if alone == 1.0:
        with pytest.raises(blm.DataError, match="exactly one row"):
            lmm_of()
        return
    pairs = np.column_stack([y[singles:groups], y[groups:]])

    def deviance(ratio):
        """-2 log likelihood: V0 is 1 + ratio for a single row, and has eigenvalues 1 and 1 + 2 ratio for a pair."""
        weights = np.array([1 / (1 + ratio), 1 / (1 + 2 * ratio)])
        sums = y[:singles].sum() * weights[0] + pairs.sum() * weights[1]
        mean = sums / (singles * weights[0] + pairs.size * weights[1])
        rss = ((y[:singles] - mean) ** 2).sum() * weights[0]
        rss += ((pairs.sum(axis=1) - 2 * mean) ** 2).sum() / 2 * weights[1] + (np.diff(pairs) ** 2).sum() / 2
        logdet = -singles * np.log(weights[0]) - len(pairs) * np.log(weights[1])
        return y.size * (np.log(2 * np.pi * rss / y.size) + 1) + logdet

    best = minimize_scalar(deviance, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-10})
    fit = lmm_of().ml()
    assert fit.loglik == pytest.approx(-best.fun / 2, rel=1e-11)
    assert float(fit.theta.iloc[0]) ** 2 == pytest.approx(best.x, rel=1e-4)


def test_the_checks_see_a_wrong_value_and_a_missed_maximum():
    """An oracle for other data or another model finds fault: the comparison isn't empty."""
    case = OddDesign(**PLAIN)
    table = case.table()
    lmm = blm.LMM(case.formula, table, priors=priors_of(table["y"], 1))
    other = blm.LMM(case.formula, {**table, "y": table["y"] + 0.01 * table["w"]})
    richer = blm.LMM(case.formula.replace("(1 |", "(1 + x |"), table)
    with pytest.raises(AssertionError, match="the density is"):
        check_fit(lmm.ml(), dense(other), reml=False)
    with pytest.raises(AssertionError, match="the maximum is"):
        _compare_with_more_effects(lmm, richer)
    with pytest.raises(AssertionError, match="collapsed"):
        check_collapsed(lmm, dense(other))


def _compare_with_more_effects(lmm, richer):
    """The fit of random intercepts, as a point of the model with slopes that is not its maximum."""
    from dataclasses import replace

    fit = lmm.ml()
    widened = tuple(np.diag([lam[0, 0], 0.0]) for lam in fit.lambdas)
    wide = replace(fit, lambdas=widened, design=richer.design, stats=richer.statistics)
    check_fit(wide, dense(richer), reml=False)
