"""A wide fixed part: a factor's columns held once a level give what columns held row by row do.

The same designs are built both ways, forced by `WIDE`. Both are stable orthonormalisations of the same columns, so that
tolerances are those of rounding, 1e-8 and less.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.design import wide_columns
from bayeslmm.design.collinear import combinations
from bayeslmm.design.model_matrix import learn
from bayeslmm.design.wide import Wide, linear
from bayeslmm.design.wide_columns import learn_columns
from bayeslmm.likelihood.least_squares import invertible, least_squares
from bayeslmm.priors.anchors import constant_in

NEVER, ALWAYS = 10**9, 2


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 160
    out = pd.DataFrame({
        "f": rng.choice(list("abcdefgh"), n), "h": rng.choice(list("pqrs"), n), "g": rng.choice(list("ABCDEFG"), n),
        "k": rng.choice(list("ABCDEFGHIJ"), n), "x": rng.normal(size=n).round(3), "z": rng.normal(size=n),
        "w": rng.uniform(0.5, 2.0, n),
    })  # fmt: skip
    out["fg"] = out.g.map(dict(zip("ABCDEFG", "uvuvwww", strict=True)))  # a factor above the groups
    out["far"] = out.x * 0.3 + 1e6
    out["code"] = out.f.map({name: k * 1.0 for k, name in enumerate("abcdefgh")})  # in the span of f
    out.loc[out.f == "a", "h"] = "p"  # empty cells
    out["y"] = rng.normal(size=n) + out.g.map({name: k * 0.5 for k, name in enumerate("ABCDEFG")}) + out.x
    return out


SIDES = [
    "f + x", "0 + f + x", "x + f", "f*h + far", "f:h", "f + f:z", "f + h + x + code", "code + f", "C(f, contr.sum)*x",
    "C(f, contr.helmert) + poly(x, 2)", "0 + h + f", "f + far + I(far - 1e6)",
]  # fmt: skip


@pytest.mark.parametrize("side", SIDES)
def test_the_same_matrix(side, frame, monkeypatch):
    monkeypatch.setattr(wide_columns, "WIDE", ALWAYS)
    encoder, wide = learn_columns(side, frame)
    other, dense = learn(side, frame)
    assert isinstance(wide, Wide)
    assert encoder.names == other.names
    assert np.array_equal(np.asarray(wide), dense)
    assert np.array_equal(encoder.matrix(frame.iloc[5:9]), other.matrix(frame.iloc[5:9]))
    rng = np.random.default_rng(1)
    v, beta = rng.normal(size=(len(frame), 2)), rng.normal(size=(3, wide.shape[1]))
    size = np.abs(dense).max(axis=0)
    np.testing.assert_allclose(wide.T @ v / size[:, None], dense.T @ v / size[:, None], atol=1e-11)
    np.testing.assert_allclose(linear(wide, beta), beta @ dense.T, rtol=1e-13, atol=1e-11 * size.max())
    np.testing.assert_allclose(np.asarray(wide.rows([7, 3])), dense[[7, 3]])
    gram = wide.compressed.T @ wide.compressed
    np.testing.assert_allclose(gram / np.outer(size, size), dense.T @ dense / np.outer(size, size), atol=1e-10)


@pytest.mark.parametrize("side", SIDES)
def test_the_same_columns_are_left_out(side, frame, monkeypatch):
    monkeypatch.setattr(wide_columns, "WIDE", ALWAYS)
    found, expected = combinations(learn_columns(side, frame)[1]), combinations(learn(side, frame)[1])
    assert found.keys() == expected.keys()
    for j, coefficients in found.items():
        np.testing.assert_allclose(coefficients, expected[j], atol=1e-8)


def test_the_same_constant(frame, monkeypatch):
    monkeypatch.setattr(wide_columns, "WIDE", ALWAYS)
    for side in ("f + x", "0 + f + x", "0 + h + f", "0 + x:f"):
        wide, dense = learn_columns(side, frame)[1], learn(side, frame)[1]
        np.testing.assert_allclose(constant_in(wide), constant_in(dense), atol=1e-12)


MODELS: list[tuple[str, dict]] = [
    ("f + x + (1 | g)", {}),
    ("0 + f + x + (1 | g)", {}),
    ("f*h + far + (1 + x | g)", {}),
    ("fg + f + x + (1 | g) + (1 | k)", {}),
    ("f + fg + code + (1 + x || g)", {}),
    ("fg + x + (1 | g)", {}),
    ("f:h + z + (1 | k)", {}),
    ("C(f, contr.sum)*x + (1 | g/k)", {}),
    ("f + x + offset(z) + (0 + x | g)", {}),
    ("f + x + (1 | g)", {"residual": blm.Residual(weights="w")}),
    ("f + x + (1 | g)", {"residual": blm.Residual(structure="strata", by="h")}),
    ("f + h + far + (1 | g)", {"residual": blm.Residual(structure="ar1", group="k")}),
    ("f + h + (1 | k)", {"residual": blm.Residual(structure="cs", group="g")}),
]


def both(formula: str, options: dict, frame: pd.DataFrame, monkeypatch) -> list[blm.LMM]:
    models = []
    for least in (NEVER, ALWAYS):
        monkeypatch.setattr(wide_columns, "WIDE", least)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            models.append(blm.LMM(f"y ~ {formula}", frame, **options))
    assert [isinstance(model.design.columns, Wide) for model in models] == [False, True]
    return models


@pytest.mark.parametrize(("formula", "options"), MODELS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_same_fits_and_priors(formula, options, frame, monkeypatch):
    dense, wide = both(formula, options, frame, monkeypatch)
    assert wide.design.coef == dense.design.coef
    assert wide.design.left_out == dense.design.left_out
    assert (wide.statistics.winspan.sum(axis=1) == dense.statistics.winspan.sum(axis=1)).all()
    for one, other in ((wide.ml(), dense.ml()), (wide.reml(), dense.reml())):
        assert one.loglik == pytest.approx(other.loglik, abs=1e-8)
        np.testing.assert_allclose((one.fixef - other.fixef) / other.fixef_se, 0, atol=1e-8)
        np.testing.assert_allclose(one.fixef_se, other.fixef_se, rtol=1e-8)
        np.testing.assert_allclose(one.modes, other.modes, atol=1e-8)
        np.testing.assert_allclose(one.fitted, other.fitted, rtol=1e-10, atol=1e-8)
    assert wide.priors.table().astype(str).equals(dense.priors.table().astype(str))
    assert wide.describe() == dense.describe()


def test_the_same_after_the_fit(frame, monkeypatch):
    dense, wide = both("f*h + far + (1 + x | g)", {}, frame, monkeypatch)
    new = frame.iloc[::9]
    for model in (dense, wide):
        model.ml()
    np.testing.assert_allclose(wide.ml().predict(new), dense.ml().predict(new), rtol=1e-8, atol=1e-8)
    for name in ("fixef", "r2", "varcorr"):
        one, other = (getattr(model, name)(model.ml()).frame.select_dtypes("number") for model in (wide, dense))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    one, other = (model.predictions(model.ml(), new).frame.select_dtypes("number") for model in (wide, dense))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_the_same_draws(frame, monkeypatch):
    """From one seed; the two bases differ in rounding alone."""
    dense, wide = both("f + far + (1 | g)", {}, frame, monkeypatch)
    one, other = (
        model.sample("marginal", draws=100, chains=2, random_seed=4, progress=False)["posterior"]
        for model in (wide, dense)
    )
    np.testing.assert_allclose(one["sigma_u2"], other["sigma_u2"], rtol=1e-6)
    np.testing.assert_allclose(one["beta"], other["beta"], rtol=1e-5, atol=1e-5)


def test_saved_and_loaded(frame, monkeypatch, tmp_path):
    wide = both("f + x + (1 | g)", {}, frame, monkeypatch)[1]
    assert blm.load(wide.save(tmp_path / "wide", wide.ml())).result.loglik == wide.ml().loglik


def test_columns_of_a_factor_take_no_room(monkeypatch):
    """Held by level: so many numbers as rows and levels have, not as rows times levels."""
    n = 20_000
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"y": rng.normal(size=n), "x": rng.normal(size=n), "g": rng.integers(0, 20, n).astype(str)})
    frame["f"] = np.char.add("level ", (np.arange(n) % 400).astype(str))
    lmm = blm.LMM("y ~ f + x + (1 | g)", frame)
    assert isinstance(lmm.design.columns, Wide)
    assert lmm.design.columns.size < 0.05 * n * lmm.design.p
    assert isinstance(lmm.statistics.Q, Wide)
    gram = lmm.statistics.Q.T @ lmm.statistics.Q
    np.testing.assert_allclose(gram, np.eye(lmm.design.p), atol=1e-12)


def test_least_squares_of_many_columns():
    """Triangular solves, from 200 columns on, against the plain inverse."""
    rng = np.random.default_rng(2)
    A = rng.normal(size=(400, 251))
    T = A.T @ A
    solved = least_squares(T)
    inverse = np.linalg.inv(T[:250, :250])
    np.testing.assert_allclose(solved.inverse, inverse, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(solved.coefficients, inverse @ T[:250, 250], rtol=1e-8, atol=1e-10)
    assert solved.logdet == pytest.approx(np.linalg.slogdet(T[:250, :250])[1], rel=1e-12)
    size = np.sqrt(np.diag(T)[:250])
    scaled = T[:250, :250] / np.outer(size, size)
    broken = scaled.copy()
    broken[:, 1], broken[1, :] = broken[:, 0], broken[0, :]
    broken[1, 1] = 1.0
    assert invertible(np.array([scaled, broken])).tolist() == [True, False]


def test_a_dense_one_is_said(monkeypatch, capsys):
    """Where the outcome isn't Gaussian, the columns stand row by row."""
    monkeypatch.setattr(wide_columns, "LARGE", 1e5)
    rng = np.random.default_rng(1)
    labels = np.char.add("level ", (np.arange(400) % 80).astype(str))
    data = {"y": rng.integers(0, 2, 400), "f": labels, "g": (np.arange(400) % 7).astype(str)}
    glmm = blm.GLMM("y ~ f + (1 | g)", data, family="bernoulli")
    assert isinstance(glmm.design.columns, np.ndarray)
    assert "dense where the outcome isn't Gaussian" in capsys.readouterr().err
