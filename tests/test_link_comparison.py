"""A GLMM by each approximation side by side: the table, how far Laplace is off, and what is said of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.comparison.link_comparison import LinkComparison
from bayeslmm.comparison.link_findings import _conclusions
from bayeslmm.errors import DescriptionError
from tests.test_glmm import CBPP, TOENAIL, glmm

SALAMANDER = "Mate ~ Cross + (1 | Female) + (1 | Male)"


def test_by_quadrature_laplace_is_off_by_the_difference_of_both_maxima():
    model = glmm(TOENAIL, "toenail", "binomial")
    both = blm.compare(model, variants=())
    assert isinstance(both, LinkComparison)
    one, two = model.ml("laplace"), model.ml("quadrature")
    want = (one.estimates() - two.estimates()) / two.estimates_se
    assert both.off["se"].to_numpy() == pytest.approx(want.to_numpy())
    assert both.table[("ML quadrature", "estimate")].to_numpy() == pytest.approx(two.estimates().to_numpy())
    # R: SEs of the coefficients, glmer with nAGQ = 100
    se = both.table[("ML quadrature", "se")].to_numpy()
    assert se[:4] == pytest.approx([0.434265, 0.583932, 0.0443796, 0.0680134], rel=1e-3)
    # lost by using Laplace's estimates: the reference's truth at both, -628.9251840 and -625.3975157
    assert "lose 3.53 of log-likelihood" in both.text
    assert "sigma_u2 (4.57 by Laplace, 4.01 by quadrature) is 1.5 standard errors too high" in both.text
    assert both.logliks.loc["ML laplace", "laplace too high by"] == pytest.approx(1.11625, abs=1e-4)


def test_standard_errors_of_sds_follow_from_the_information():
    """A Poisson with large counts is a lognormal one: SD / sqrt(2 m)."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(200), 3)
    y = rng.poisson(np.exp(12 + 0.4 * rng.normal(size=200)[g]))
    fit = blm.GLMM("y ~ 1 + (1 | g)", {"g": g, "y": y}, family="poisson").ml("laplace")
    assert fit.estimates_se["sigma_u2"] == pytest.approx(fit.sds[0][0] / np.sqrt(400), rel=2e-3)


def test_where_levels_are_crossed_a_newton_step_says_how_far():
    """Bayesian and MCMC-likelihood analyses put the salamanders' SDs at 1.2 to 1.4; Laplace has 1.08 and 1.02."""
    both = glmm(SALAMANDER, "salamander", "binomial").compare(variants=())
    assert list(both.fits) == ["laplace"]
    off = both.off.loc[["sigma_u2", "sigma_u3"]]
    assert (off["se"] + 3 * off["mc_error"] < -0.1).all()
    assert (off["se"] - 3 * off["mc_error"] > -1.0).all()
    assert "importance sampling's" in both.text
    assert "Newton step" in both.text
    assert "laplace off" in str(both)


def test_where_laplace_is_good_it_says_so():
    both = glmm(CBPP, "cbpp", "binomial").compare(variants=())
    assert "Laplace moves none of them by more than 0.1" in both.text
    assert "No coefficient's sign" in both.text
    assert both.shown.shape == (5, 6)


def test_signs_and_intervals_that_change_are_named():
    def fit(x: list[float]) -> SimpleNamespace:
        index = ["a", "b", "c"]
        return SimpleNamespace(fixef=pd.Series(x, index=index), fixef_se=pd.Series(1.0, index=index))

    fits = {"laplace": fit([2.5, -1.0, 1.0]), "quadrature": fit([-2.5, -3.0, 1.1])}
    said = list(_conclusions(SimpleNamespace(fits=fits)))  # type: ignore[arg-type]
    assert said[0] == "What hangs on it. The sign of a is another one by quadrature than by Laplace."
    assert "The 95 % interval of b leaves zero out by quadrature and has it in by Laplace: -3.0 to 1.0" in said[1]
    assert len(said) == 2


def test_posteriors_stand_beside():
    """A small run: that of the marginal by Laplace, whose posterior lies near ML; nothing of the effects in it."""
    both = glmm(CBPP, "cbpp", "binomial").compare(
        draws=200, tune=200, chains=2, random_seed=1, variants="marginal laplace", progress=False
    )
    part = both.table["marginal laplace"]
    assert list(part.index) == list(both.fits["laplace"].estimates().index)
    away = (part["mean"] - both.fits["laplace"].estimates()) / both.fits["laplace"].estimates_se
    assert away.abs().max() < 1
    assert "The marginal laplace posterior." in both.text
    tree = both.posteriors["marginal laplace"]
    assert "u2" not in tree["posterior"].data_vars
    assert tree.attrs["integration"] == "laplace"


def test_what_cannot_be_compared_is_refused_in_words():
    model = glmm(SALAMANDER, "salamander", "binomial")
    with pytest.raises(DescriptionError, match="Female and Male are crossed"):
        model.compare(variants="marginal quadrature")
    with pytest.raises(DescriptionError, match="Did you mean 'marginal laplace'"):
        model.compare(variants=["marginal laplac"])
    with pytest.raises(DescriptionError, match="names one twice"):
        model.compare(variants=["joint", "joint"])
    with pytest.raises(DescriptionError, match="its effects are in ml"):
        blm.compare(model, random_effects=True)


@pytest.mark.parametrize("formula", ["y ~ x + (1 + x || `a <b> & $c$`)", "y ~ x + (1 | `a <b> & $c$`) + (1 | h)"])
def test_picture_and_report_have_every_source_and_nothing_that_html_would_obey(formula, tmp_path):
    rng = np.random.default_rng(3)
    labels = np.repeat(["<i>1</i>", "& 2", "$3$", "4"], 6)
    data = {"y": rng.poisson(3, 24), "x": rng.normal(size=24), "a <b> & $c$": labels, "h": list("uvw") * 8}
    both = blm.compare(blm.GLMM(formula, pd.DataFrame(data), family="poisson"), variants=())
    shown = [text.get_text() for axes in both.plot().axes for text in axes.get_yticklabels()]
    assert {f"ML, {name.capitalize() if name == 'laplace' else name}" for name in both.fits} == set(shown)
    page = both.report(tmp_path / "report.html", title="<b>").read_text("utf-8")
    assert "&lt;b&gt;" in page
    assert "<i>1</i>" not in page
    assert page.count("<img") >= 1 + len(both.model.design.levels)
    assert "http" not in page.split("</head>")[1].replace("data:image/png", "")
