"""Sums over rows add: the model of a sum is the model of all rows, which are not kept.

The oracle is the model of the rows in memory. Sums take products around means of cells, as stable as the rows' own
path: the tolerances are rounding's.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm


def rows(seed: int, n: int, groups: str, categories: str = "pqr") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    out = pd.DataFrame({
        "g": rng.choice(list(groups), n), "k": rng.choice(list("uvw"), n), "f": rng.choice(list(categories), n),
        "x": rng.normal(2.0, 1.0, n).round(2), "z": rng.normal(size=n).round(2), "b": rng.integers(0, 2, n),
        "w": rng.choice([0.5, 1.0, 2.0], n),
    })  # fmt: skip
    effects = {name: k % 5 - 2.0 for k, name in enumerate("ABCDEFGHIJKL")}
    out["y"] = 1.0 + out.x + out.g.map(effects) + rng.normal(size=n).round(3)
    return out


@pytest.fixture(scope="module")
def days() -> list[pd.DataFrame]:
    """The last day has one row, of a group of its own."""
    return [rows(1, 60, "ABCDEF"), rows(2, 25, "DEFGHIJ", "pqrs"), rows(3, 1, "L")]


FORMULAS: list[tuple[str, dict]] = [
    ("y ~ x + (1 | g)", {}),
    ("y ~ 1 + (1 + x | g)", {}),
    ("y ~ f*x + b + (1 | g)", {}),
    ("y ~ 0 + f + x:b + (x || g) + (1 | k)", {}),
    ("y ~ I(x**2) + log(x + 9) + (1 | g/k)", {}),
    ("y ~ x + offset(z) + (0 + x | g)", {}),
    ("y ~ 0 + (1 | g)", {}),
    ("y ~ x + (1 | g)", {"residual": blm.Residual(weights="w")}),
    ("y ~ x + (1 | g)", {"residual": blm.Residual(structure="strata", by="k")}),
]


def model(formula: str, data: pd.DataFrame, options: dict) -> blm.LMM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return blm.LMM(formula, data, **options)


def sums_of(formula: str, parts: list[pd.DataFrame], options: dict) -> blm.Sums:
    description = blm.Hierarchy.from_formula(formula, **options)
    total = blm.Sums.of(description, parts[0])
    for part in parts[1:]:
        total = total + blm.Sums.of(description, part)
    return total


def assert_same(found: blm.LMM, expected: blm.LMM) -> None:
    assert found.design.coef == expected.design.coef
    for one, other in ((found.ml(), expected.ml()), (found.reml(), expected.reml())):
        assert one.loglik == pytest.approx(other.loglik, abs=1e-8)
        np.testing.assert_allclose(one.fixef, other.fixef, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(one.fixef_se, other.fixef_se, rtol=1e-8)
        for level in expected.design.levels:
            a, b = one.ranef[level.name], other.ranef[level.name]
            np.testing.assert_allclose(a.loc[list(b.index)], b, atol=1e-7)
    assert found.priors.table().astype(str).equals(expected.priors.table().astype(str))


@pytest.mark.parametrize(("formula", "options"), FORMULAS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_sum_is_the_model_of_all_rows(formula, options, days):
    whole = pd.concat(days, ignore_index=True)
    total = sums_of(formula, days, options)
    assert total.n == len(whole)
    assert_same(model_of(total), model(formula, whole, options))


def model_of(sums: blm.Sums, **options) -> blm.LMM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return blm.LMM.from_sums(sums, **options)


def test_the_order_of_addition_is_rounding(days):
    a, b, c = (blm.Sums.of("y ~ x + (1 | g)", day) for day in days)
    one, other = model_of((a + b) + c).ml(), model_of(c + (b + a)).ml()
    assert one.loglik == pytest.approx(other.loglik, abs=1e-9)
    np.testing.assert_allclose(one.fixef, other.fixef, rtol=1e-9)


def test_the_same_draws(days):
    """From one seed, as in memory."""
    whole = pd.concat(days, ignore_index=True)
    found, expected = (
        lmm.sample(draws=100, chains=2, random_seed=2, progress=False)["posterior"]
        for lmm in (model_of(sums_of("y ~ x + (1 | g)", days, {})), model("y ~ x + (1 | g)", whole, {}))
    )
    for name in ("beta", "sigma", "sigma_u2"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_transforms_remember_the_first_rows(days):
    """`updated` takes new rows as the first ones were; in memory that is the first rows' number in the formula."""
    formula = "y ~ center(x) + (1 | g)"
    found = model_of(blm.Sums.of(formula, days[0]).updated(days[1])).ml()
    whole = pd.concat(days[:2], ignore_index=True).assign(c=lambda own: own.x - days[0].x.mean())
    expected = model("y ~ c + (1 | g)", whole, {}).ml()
    assert found.loglik == pytest.approx(expected.loglik, abs=1e-8)
    np.testing.assert_allclose(found.fixef, expected.fixef, rtol=1e-8)
    with pytest.raises(blm.DataError, match=r"remembers other rows.*updated\(rows\)"):
        blm.Sums.of(formula, days[0]) + blm.Sums.of(formula, days[1])


def test_a_column_of_two_values_may_get_more(days):
    """Two values make keys of cells, more do not."""
    new = days[1].assign(b=lambda own: own.x.round(1))
    total = blm.Sums.of("y ~ b + (1 | g)", days[0]) + blm.Sums.of("y ~ b + (1 | g)", new)
    whole = pd.concat([days[0], new], ignore_index=True)
    assert_same(model_of(total), model("y ~ b + (1 | g)", whole, {}))


def test_categories_keep_their_order(days):
    """The base of a factor stays the first category of the first rows; a new one comes last."""
    first = days[0].assign(f=pd.Categorical(days[0].f, categories=["r", "p", "q"]), b=days[0].b == 1)
    lmm = model_of(blm.Sums.of("y ~ f + b + (1 | g)", first).updated(days[1]))
    assert lmm.design.coef == ("Intercept", "f[T.p]", "f[T.q]", "f[T.s]", "b")
    whole = pd.concat([first.assign(b=first.b * 1), days[1]])
    whole = whole.assign(f=pd.Categorical(whole.f, categories=["r", "p", "q", "s"]))
    assert_same(lmm, model("y ~ f + b + (1 | g)", whole.reset_index(drop=True), {}))


def test_far_from_zero():
    """Mean 1e6 and SD 0.3: the residual sum of squares of least squares to 1e-10, against centred rows."""
    rng = np.random.default_rng(5)
    parts = []
    for shift in (0.0, 1.7, -40.0):
        x = 1e6 + shift + (0.3 * rng.normal(size=200)).round(6)
        parts.append(
            pd.DataFrame({"x": x, "y": 1e6 + x + (0.3 * rng.normal(size=200)).round(6), "g": np.arange(200) % 7})
        )
    stats = model_of(sums_of("y ~ x + (1 | g)", parts, {})).statistics
    whole = pd.concat(parts)
    x, y = whole.x.to_numpy() - 1e6, whole.y.to_numpy() - 2e6  # exact
    x, y = (np.array(v, dtype=np.longdouble) for v in (x, y))
    x, y = x - x.mean(), y - y.mean()
    rss = float(y @ y - (x @ y) ** 2 / (x @ x))
    assert stats.scale**2 * 600 == pytest.approx(rss, rel=1e-10)


def test_known_covariances_and_labels(days):
    labels = sorted(set("ABCDEFGHIJ"))
    K = pd.DataFrame(0.5 * np.eye(10) + 0.5, index=labels, columns=labels)
    options = {"covariance": {"g": K}}
    total = sums_of("y ~ x + (1 | g)", days[:2], options)
    assert_same(model_of(total), model("y ~ x + (1 | g)", pd.concat(days[:2], ignore_index=True), options))
    odd = days[0].assign(g=lambda own: own.g + "; é\x1b[31m 'q'")
    text = repr(model_of(blm.Sums.of("y ~ x + (1 | g)", odd)).ml().ranef) + blm.Sums.of("y ~ (1 | g)", odd).describe()
    assert "\x1b" not in text


def test_sources_add_to_frames(days):
    polars = pytest.importorskip("polars")
    lazy = polars.from_pandas(days[1]).lazy()
    total = blm.Sums.of("y ~ f + x + (1 | g)", days[0]).updated(lazy)
    assert_same(model_of(total), model("y ~ f + x + (1 | g)", pd.concat(days[:2], ignore_index=True), {}))


def test_tables_without_rows(days):
    whole = pd.concat(days, ignore_index=True)
    found, expected = model_of(sums_of("y ~ x + (1 | g)", days, {})), model("y ~ x + (1 | g)", whole, {})
    for name in ("fixef", "ranef", "varcorr", "variance_partition", "icc", "r2", "shrinkage"):
        one, other = (getattr(lmm, name)(lmm.ml()).frame.select_dtypes("number") for lmm in (found, expected))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)
    new = days[0].iloc[:5]
    np.testing.assert_allclose(found.ml().predict(new), expected.ml().predict(new), rtol=1e-8)
    assert "86 rows" in found.describe()
    with pytest.raises(blm.DataError, match=r"rows are not kept.*blm\.LMM\(formula, rows\)"):
        _ = found.ml().residuals
    with pytest.raises(blm.DataError, match=r"rows are not kept.*sums\(\)\.save\(folder\)"):
        found.save("nowhere")
    with pytest.raises(blm.DataError, match="rows are not kept"):
        found.stream_predictions(found.ml(), "nowhere.parquet")


def test_saved_and_loaded(days, tmp_path):
    sums = sums_of("y ~ f*x + poly(z, 2) + (1 | g)", days[:1], {}).updated(days[1])
    again = blm.load_sums(sums.save(tmp_path / "sums"))
    assert repr(again) == repr(sums)
    assert model_of(again).ml().loglik == model_of(sums).ml().loglik
    assert again.updated(days[2]).n == sums.n + 1
    assert model_of(again.updated(days[2])).ml().loglik == model_of(sums.updated(days[2])).ml().loglik
    with pytest.raises(blm.SavedError, match="exists already"):
        sums.save(tmp_path / "sums")
    for name in ("sums.npz", "keys.csv", "memory.json", "model.toml"):
        path = tmp_path / "sums" / name
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with pytest.raises(blm.SavedError, match="damaged"):
            blm.load_sums(tmp_path / "sums")
        path.write_bytes(content)
    with pytest.raises(blm.SavedError, match="holds a saved model, no sums"):
        blm.load_sums(model("y ~ x + (1 | g)", days[0], {}).save(tmp_path / "model"))
    assert json.loads((tmp_path / "sums" / "manifest.json").read_text())["about"]["holds"] == "sums"


def test_what_sums_reveal(days):
    """A cell of one row is that row: its mean is y."""
    sums = blm.Sums.of("y ~ 1 + (1 | g)", days[0]) + blm.Sums.of("y ~ 1 + (1 | g)", days[2])
    assert "1 cell has one row" in sums.describe()
    assert "1 group of g has one row" in sums.describe()
    cells = sums.kept.cells
    own = cells.counts == 1
    assert cells.shift[0] + cells.scale[0] * cells.sums[own, 0] == pytest.approx(days[2].y.to_numpy())


def test_what_cannot_be_added(days):
    sums = blm.Sums.of("y ~ x + (1 | g)", days[0])
    with pytest.raises(blm.DataError, match="sums of two models"):
        sums + blm.Sums.of("y ~ z + (1 | g)", days[1])
    with pytest.raises(blm.DataError, match="one kind"):
        sums.updated(days[1].assign(g=range(len(days[1]))))
    with pytest.raises(blm.DataError, match="numbers"):
        sums.updated(days[1].assign(x="a"))
    with pytest.raises(blm.DataError, match="missing"):
        sums.updated(days[1].assign(x=np.nan))
    with pytest.raises(blm.DescriptionError, match="one by one"):
        blm.Sums.of(blm.Hierarchy.from_formula("y ~ x + (1 | g)", residual=blm.Residual(structure="ar1")), days[0])
    with pytest.raises(blm.DescriptionError, match="expected Sums"):
        blm.LMM.from_sums(days[0])
    with pytest.raises(TypeError):
        sums + 1
    with pytest.raises(blm.DataError, match="one group only"):
        blm.LMM.from_sums(blm.Sums.of("y ~ x + (1 | g)", days[0][days[0].g == "A"]))


def test_units():
    """Nothing depends on the unit of y or x."""
    base, *logliks = rows(4, 80, "ABCDE"), *[]
    for unit in (1e-9, 1.0, 1e9):
        own = base.assign(y=base.y * unit, x=base.x / unit)
        total = blm.Sums.of("y ~ x + (1 | g)", own.iloc[:50]) + blm.Sums.of("y ~ x + (1 | g)", own.iloc[50:])
        logliks.append(model_of(total).ml().loglik + 80 * np.log(unit))
    np.testing.assert_allclose(logliks, logliks[0], rtol=1e-9)
