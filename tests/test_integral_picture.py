"""One group's integral drawn: its numbers by brute force, its words, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

import bayeslmm as blm
from bayeslmm.errors import DescriptionError
from bayeslmm.pictures.integral import integral_picture
from tests.test_glmm import TOENAIL, glmm
from tests.test_integrals import EPIL_SLOPE


def test_errors_of_rules_are_those_of_the_integral_of_one_group():
    """Against SciPy's quad; over all groups, Laplace's errors are the fit's approximation error."""
    fit = glmm(TOENAIL, "toenail", "binomial").ml()
    picture = integral_picture(fit)
    worst = fit.approximation_error.groups
    assert picture.group == worst.index[0]
    assert picture.errors[0] == pytest.approx(worst["difference"].iloc[0], abs=1e-9)
    level, sd = fit.design.levels[0], fit.sds[0][0]
    own = level.index == level.groups.index(picture.group)
    part, eta = fit.outcome.part(own), fit.problem.fixed(fit.peak.x)[own]

    def density(v: float) -> float:
        rows = fit.family.logpdf(part, eta + sd * v, np.zeros(0)).sum()
        return float(np.exp(rows - v**2 / 2) / np.sqrt(2 * np.pi))

    truth = np.log(quad(density, -12, 12, epsabs=1e-14, limit=500)[0])
    assert worst["better"].iloc[0] == pytest.approx(truth, abs=1e-9)
    assert np.abs(picture.errors[-1]) < 1e-6
    assert picture.height.max() == pytest.approx(1.0)
    assert picture.weights.sum() == pytest.approx(1.0)
    # the picture's points are effects as written: the highest lies at the group's conditional mode
    mode = fit.ranef["patientID"].loc[picture.group, "Intercept"]
    assert picture.u[np.argmax(picture.height), 0] == pytest.approx(mode, abs=0.05)
    assert "Laplace's normal makes its log 0.094 too low" in picture.words


def test_two_effects_are_drawn_on_a_plane():
    fit = glmm(EPIL_SLOPE, "epil", "poisson").ml()
    picture = integral_picture(fit, "18", nodes=5)
    assert picture.nodes.shape == (25, 2)
    modes = fit.ranef["subject"].loc["18", ["Intercept", "Visit"]].to_numpy(dtype=float)
    assert picture.nodes[12] == pytest.approx(modes, abs=1e-6)
    assert picture.u[np.argmax(picture.height)] == pytest.approx(modes, abs=0.1)
    figure = picture.draw()
    assert [a.get_title(loc="left") for a in figure.axes] == ["density of y and u2[18]", "error of the log integral"]


@pytest.mark.parametrize("unit", [1e-9, 1.0])
def test_odd_labels_and_tiny_units_are_drawn(unit, tmp_path):
    rng = np.random.default_rng(1)
    g = np.repeat(["$a$ <b>", "two\nlines", "c" * 80, "d"], 6)
    data = {"g": g, "h": np.tile(list("xyz"), 8), "y": unit * rng.normal(size=24)}
    model = blm.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="student_t")
    with np.errstate(all="ignore"):
        fit = model.ml()
    for level, sds in zip(fit.design.levels, fit.sds, strict=True):
        if sds[0] > 0:
            picture = integral_picture(fit, level=level.name)
            picture.draw().savefig(tmp_path / "picture.png")
            assert "held at their modes" in picture.words


def test_what_cannot_be_drawn_is_refused_in_words():
    model = glmm(TOENAIL, "toenail", "binomial")
    with pytest.raises(DescriptionError, match="group='0' is no group of patientID"):
        model.plot_integral("0")
    with pytest.raises(DescriptionError, match="level='u7'; there are u2"):
        model.plot_integral(level="u7")
    flat = blm.GLMM("y ~ 1 + (1 | g)", {"y": [0, 1, 2, 3] * 3, "g": list("aaaabbbbcccc")}, family="poisson")
    with pytest.raises(DescriptionError, match="The SD of u2 is zero"):
        flat.plot_integral()
