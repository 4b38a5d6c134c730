"""Pictures of GLMMs: what they compute, against other ways to the same numbers; that their words can be read."""

from __future__ import annotations

import numpy as np
import pytest
from legible import troubles
from link_models import cbpp, epil, fake, wine
from scipy import stats
from test_glmm import table

import bayeslmm as blm
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.binned import binned
from bayeslmm.pictures.categories import categories
from bayeslmm.pictures.curves import curves
from bayeslmm.pictures.link_results import read_pictured, replicates
from bayeslmm.pictures.residual_quantiles import residual_quantiles
from bayeslmm.pictures.rootogram import rootogram

PICTURES = {
    "curves": lambda model, result: model.plot_curves(result),
    "estimates": lambda model, result: model.plot_estimates(result),
    "caterpillar": lambda model, result: model.plot_caterpillar(result),
    "qq": lambda model, result: model.plot_residual_qq(result, draws=40),
    "counts": lambda model, result: {
        "binomial": lambda: model.plot_binned_residuals(result, draws=40),
        "cumulative": lambda: model.plot_categories(result, draws=40),
    }.get(model.family.name, lambda: model.plot_rootogram(result, draws=40))(),
}


def odd() -> blm.GLMM:
    """Labels that want escaping, a predictor far from zero."""
    rng = np.random.default_rng(3)
    labels = ["$a$ & <b>", "_under", "line\nbreak", "a very long label of a group that goes on", "US$ 5", "ü–ß\\x"]
    g = np.repeat(labels, [3, 4, 5, 9, 12, 7])
    x, f = 2000 + rng.normal(size=len(g)).round(2), rng.choice(["$lo$", "_hi", "mid%"], len(g))
    level = blm.Level(group=("the $group$",))
    hierarchy = blm.Hierarchy(response="`y $ per_kg`", fixed="1 + `x^2 $` + f", levels=(level,))
    y = rng.poisson(np.exp(x - 2000))
    return blm.GLMM(hierarchy, {"y $ per_kg": y, "x^2 $": x, "f": f, "the $group$": g}, family="poisson")


MODELS = {
    "cbpp": cbpp, "wine": wine, "odd": odd,
    "slopes": lambda: epil("negative_binomial", "y ~ lbase + Visit + (Visit | subject)"),
}  # fmt: skip


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", MODELS)
def test_words_can_be_read(name, picture):
    model = MODELS[name]()
    result = model.ml() if name in ("cbpp", "odd") else fake(model, draws=30, size=0.3)
    assert troubles(PICTURES[picture](model, result)) == []


def test_expected_counts_are_those_of_the_mixture():
    """A Poisson whose log rate is normal: its probabilities by quadrature."""
    model, fit = epil(), epil().ml()
    made = rootogram(read_pictured(model, fit), "new", 400, 1)
    z, w = np.polynomial.hermite_e.hermegauss(60)
    eta = (model.design.X @ fit.fixef.to_numpy())[:, None] + np.sqrt(fit.varcorr["variance"].item()) * z
    k = np.arange(made.last)
    p = stats.poisson.pmf(k[:, None, None], np.exp(eta)) @ (w / w.sum())
    expected = p.sum(axis=1).reshape(-1, made.width).sum(axis=1)
    error = np.sqrt(expected / 400)
    assert (np.abs(made.expected[:-1] - expected) < 6 * error + 0.05).all()
    assert made.observed.sum() == model.design.n
    assert made.expected.sum() == pytest.approx(model.design.n)


def test_binned_residuals_are_sums_of_the_rows():
    model = cbpp()
    for x in (None, "period"):
        made = binned(read_pictured(model, None), x, None, "new", 100, 1)
        expected = model.predictions(model.ml(), scope="population-averaged").to_pandas()["estimate"].to_numpy()
        total = (model.outcome.y - model.outcome.trials * expected).sum()
        assert (made.residual * made.trials).sum() == pytest.approx(total, rel=1e-9)
        assert made.trials.sum() == model.outcome.trials.sum()
    own = replicates(read_pictured(model, None), "own", 50, 1)
    np.testing.assert_allclose(own.mean, model.ml().fitted, rtol=1e-9)


def test_shares_of_categories():
    model = wine()
    made = categories(read_pictured(model, None), "temp", "new", 400, 1)
    frame = model.predictions(model.ml(), scope="population-averaged", by="temp").to_pandas()
    assert [panel.title for panel in made.panels] == ["temp = cold (36 rows)", "temp = warm (36 rows)"]
    for panel, value in zip(made.panels, ("cold", "warm"), strict=True):
        rows = table("wine")["temp"] == value
        shares = (
            table("wine")["rating"][rows].value_counts(normalize=True, sort=False).reindex(range(1, 6), fill_value=0)
        )
        np.testing.assert_allclose(panel.observed, shares)
        expected = frame.query(f"temp == '{value}'")["estimate"]
        np.testing.assert_allclose(panel.expected, expected, atol=0.03)  # SDs of shares are near 0.1, of 400 replicates


@pytest.mark.parametrize("family", ["poisson", "binomial", "gamma"])
def test_quantile_residuals_are_normal_where_the_model_holds(family):
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(60), 10)
    eta = 0.3 + 0.7 * rng.normal(size=60)[g]
    y = {
        "poisson": lambda: rng.poisson(np.exp(eta)),
        "binomial": lambda: rng.random(600) < 1 / (1 + np.exp(-eta)),
        "gamma": lambda: rng.gamma(3, np.exp(eta) / 3),
    }[family]()
    model = blm.GLMM("y ~ 1 + (1 | g)", {"y": y.astype(float), "g": g}, family=family)
    made = residual_quantiles(read_pictured(model, None), "new", 300, 1)
    assert abs(made.residuals.mean()) < 0.5  # groups share their effects
    assert 0.85 < made.residuals.std() < 1.15
    inside = (made.low <= np.sort(made.residuals)) & (np.sort(made.residuals) <= made.high)
    assert inside.mean() > 0.9


def test_curves_are_predictions():
    model, fit = cbpp(), cbpp().ml()
    made = curves(model, fit, "ML")
    frame = model.grid(period=["1", "2", "3", "4"])
    for scope, spread in (("population", made.middle), ("population-averaged", made.averaged)):
        found = model.predictions(fit, frame, scope=scope).to_pandas()
        np.testing.assert_allclose(spread.middle[0], found["estimate"])
        np.testing.assert_allclose(spread.high[0], found["97.5 %"])
    seen = model.predictions(fit, model.grid(herd=["7"], period=["1", "2", "3", "4"])).to_pandas()["estimate"]
    place = list(model.design.levels[0].groups).index("7")
    np.testing.assert_allclose(made.groups[0, place], seen)


def test_pictures_of_other_outcomes_are_refused_with_what_to_write():
    with pytest.raises(DescriptionError, match=r"plot_rootogram\(result\)"):
        epil().plot_categories()
    with pytest.raises(DescriptionError, match=r"plot_categories\(result\)"):
        wine().plot_binned_residuals()
    with pytest.raises(DescriptionError, match=r"plot_residual_qq\(result\)"):
        cbpp().plot_rootogram()
    with pytest.raises(DescriptionError, match="'own'"):
        cbpp().plot_binned_residuals(effects="all")
