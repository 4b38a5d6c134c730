"""Where a maximum can't exist: directions along which a likelihood rises for ever, found before anything is fitted."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as blm
from bayeslmm.integration.existence import separation, steep_groups, uniform_groups

G = np.tile(list("abcd"), 6).tolist()
X = np.repeat([0, 1, 2], 8).tolist()


def model(y, family: str, formula: str = "y ~ x + (1 | g)", **columns) -> blm.GLMM:
    return blm.GLMM(formula, {"y": y, "x": X, "g": G, **columns}, family=family)


def found(one: blm.GLMM) -> tuple[str, ...]:
    return separation(one.design, one.family, one.outcome)


def rises(one: blm.GLMM, names: tuple[str, ...]) -> bool:
    """Whether no row's density falls along some direction of these columns (and thresholds): by search."""
    rng = np.random.default_rng(0)
    at = [one.design.coef.index(name) for name in names]
    X = one.design.X[:, at]
    k = 0 if one.family.has_intercept else len(one.outcome.categories) - 1
    for _ in range(4000):
        d, t = rng.integers(-2, 3, size=len(at)), np.sort(rng.normal(size=k)) * rng.choice([-1, 1])
        eta = X @ d
        values = []
        for size in (0.0, 1.0, 3.0):
            if k:
                cuts = np.linspace(-1, 1, k) + size * t
                if (np.diff(cuts) <= 0).any():
                    break
                psi = np.concatenate([cuts[:1], np.log(np.diff(cuts))])
            else:
                psi = np.zeros(0)
            values.append(one.family.logpdf(one.outcome, size * eta, psi))
        if len(values) == 3 and (np.diff(values, axis=0) >= -1e-12).all() and np.diff(values, axis=0).sum() > 1e-3:
            return True
    return False


SEPARATED = [
    ([0] * 8 + [0, 1] * 4 + [1] * 8, "binomial", True),  # both kinds at x = 1 only: eta may be 0 there for ever
    ([0] * 8 + [1] * 16, "binomial", True),
    ([0] * 7 + [1] + [0, 1] * 4 + [1] * 8, "binomial", False),
    ([0, 2] * 4 + [0] * 8 + [1, 0] * 4, "poisson", False),
    (["l"] * 8 + ["m"] * 8 + ["h"] * 8, "cumulative", True),
    (["l", "m"] * 4 + ["m", "h"] * 4 + ["h", "l"] * 4, "cumulative", False),
]


@pytest.mark.parametrize(("y", "family", "expected"), SEPARATED)
def test_directions_are_found_where_the_likelihood_rises_along_them(y, family, expected):
    import pandas as pd

    if family == "cumulative":
        y = pd.Categorical(y, ["l", "m", "h"], ordered=True)
    one = model(y, family)
    names = found(one)
    assert bool(names) == expected
    if expected:
        assert rises(one, one.design.coef)
        assert "Separation: along" in one.doubts[0]


def test_a_category_with_zeros_only_and_trials_that_all_succeed():
    data = {"f": list("ppppqqqqrrrr"), "g": list("abcd") * 3}
    counts = blm.GLMM("y ~ f + (1 | g)", data | {"y": [3, 1, 0, 2, 0, 0, 0, 0, 5, 1, 0, 2]}, family="poisson")
    assert found(counts) == ("f[T.q]",)
    trials = data | {"y": [1, 2, 0, 2, 3, 3, 3, 3, 1, 1, 2, 0], "n": [3] * 12, "rest": None}
    trials["rest"] = [n - y for n, y in zip(trials["n"], trials["y"], strict=True)]
    shares = blm.GLMM("cbind(y, rest) ~ f + (1 | g)", trials, family="binomial")
    assert found(shares) == ("f[T.q]",)
    trials["y"][4], trials["rest"][4] = 2, 1
    assert found(blm.GLMM("cbind(y, rest) ~ f + (1 | g)", trials, family="binomial")) == ()


def test_units_of_a_column_change_nothing():
    for unit in (1e-9, 1e9):
        assert found(model([0] * 8 + [1] * 16, "binomial", z=(unit * np.array(X)).tolist()))


def test_groups_of_one_kind_and_groups_that_a_slope_parts():
    g = np.repeat(np.arange(10), 6)
    x = np.tile(np.arange(6.0), 10)
    y = (x > 2).astype(int)  # every group is parted between 2 and 3
    y[:6] = 0
    one = blm.GLMM("y ~ 1 + (1 + x | g)", {"y": y, "x": x, "g": g}, family="binomial")
    assert steep_groups(one.design, one.family, one.outcome) == [("g", "x", 9, 9)]
    assert uniform_groups(one.design, one.family, one.outcome) == [("g", 1, 10)]
    assert "In 9 of 9 groups of g with both kinds of rows x parts" in one.doubts[-1]
    y[[7, 13, 19, 25, 31]] = 1  # groups with a one at x = 1 and a zero at x = 2 aren't
    mixed = blm.GLMM("y ~ 1 + (1 + x | g)", {"y": y, "x": x, "g": g}, family="binomial")
    assert steep_groups(mixed.design, mixed.family, mixed.outcome) == [("g", "x", 4, 9)]
    assert not mixed.doubts
    zeros = blm.GLMM("y ~ 1 + (1 | g)", {"y": [0] * 16 + [1, 4, 2, 0], "g": list("aabbccddee") * 2}, family="poisson")
    assert uniform_groups(zeros.design, zeros.family, zeros.outcome) == [("g", 3, 5)]
    assert "3 of 5 groups of g have zeros only" in zeros.doubts[0]
