"""AR(1) in continuous time: nlme's corCAR1, an ar1 where steps are equal, bounded in its gaps, in words and files.

That its V is the definition in every criterion, density and draw is among the combinations of test_structured.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import read_data

import bayeslmm as blm
from bayeslmm.cli.entry import main
from bayeslmm.design.residual_rows import build_residual
from bayeslmm.errors import DataError

REFERENCES = json.loads((Path(__file__).parent / "data" / "car1.json").read_text())
GROUPS = {"ovary": "Mare", "bodyweight": "Rat"}
EXACT = 1e-9


def series(gaps, groups=6, seed=1) -> pd.DataFrame:
    """Groups of rows whose neighbours are some of these gaps apart."""
    rng = np.random.default_rng(seed)
    times = [np.cumsum(rng.choice(gaps, 8)) for _ in range(groups)]
    table = pd.DataFrame({"t": np.concatenate(times), "g": np.repeat([f"g{k}" for k in range(groups)], 8)})
    return table.assign(x=rng.normal(size=len(table)), y=rng.normal(size=len(table)).cumsum())


def car1(**parts) -> blm.Residual:
    return blm.Residual(**{"structure": "car1", "group": "g", "time": "t"} | parts)


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: f"{r['formula']} {r['method']}")
def test_it_is_nlmes_corCAR1(reference):
    """Phi of nlme is of rows one unit of time apart; tests/data/car1.R."""
    data = read_data(reference["data"])
    residual = car1(group=GROUPS[reference["data"]], time="Time")
    model = blm.LMM(reference["formula"], data, residual=residual)
    fit = model.reml() if reference["method"] == "REML" else model.ml()
    # Ovary's times are printed with 7 digits, by which alone its gaps differ: here they are one
    assert fit.loglik == pytest.approx(reference["loglik"], abs=1e-4)
    assert fit.sigma == pytest.approx(reference["sigma"], rel=1e-4)
    assert fit.psi[0] == pytest.approx(reference["phi"] ** model.design.residual.structure.step, rel=1e-4)
    assert list(fit.fixef) == pytest.approx(reference["beta"], rel=1e-4)
    if "sd_group" in reference:
        assert fit.estimates()["sigma_u2"] == pytest.approx(reference["sd_group"], rel=1e-4)


@pytest.mark.parametrize("unit", [1, 0.25, 7, 1 / 12])
@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)"])
def test_it_is_an_ar1_where_steps_are_equal(unit, formula):
    """With gaps of one or three steps, in any unit: the same rho, the same likelihood at every point."""
    data = series([1, 1, 1, 3])
    data["t"] *= unit
    one, other = (blm.LMM(formula, data, residual=car1(structure=name)) for name in ("ar1", "car1"))
    assert one.ml().loglik == pytest.approx(other.ml().loglik, abs=1e-7)
    np.testing.assert_allclose(one.reml().psi, other.reml().psi, atol=1e-5)
    R = [model.design.residual.R([0.6]).toarray() for model in (one, other)]
    np.testing.assert_allclose(*R, atol=EXACT)


def test_gaps_that_printing_made_different_are_one():
    data = pd.DataFrame({"g": 1, "t": np.round(np.arange(30) / 3, 6)})
    structure = build_residual(car1(), data).structure
    assert [count for _, count in structure.gaps] == [29]
    assert structure.step == pytest.approx(1 / 3, rel=1e-5)


def test_too_many_gaps_are_refused_with_a_way_out():
    data = series(np.random.default_rng(2).uniform(0.5, 2, 1000), groups=12)
    with pytest.raises(DataError) as caught:
        blm.LMM("y ~ x", data, residual=car1())
    said = str(caught.value)
    assert "has 81 different gaps between neighbours; expected at most 50" in said
    assert "Round the times: t.round(1) has " in said
    rounded = blm.LMM("y ~ x", data.assign(t=data.t.round(1)), residual=car1())
    assert len(rounded.design.residual.structure.gaps) <= 16


@pytest.mark.parametrize(
    ("times", "said"),
    [([1.5, 1.5, 2, 3], "occurs twice in rows of the same g"), ([1.5, None, 2, 3], "missing"), (list("abcd"), "'a'")],
)
def test_times_that_are_none_are_refused(times, said):
    data = pd.DataFrame({"g": list("aabb"), "t": times, "y": [1.0, 2, 3, 5]})
    with pytest.raises(DataError, match=said):
        blm.LMM("y ~ 1", data, residual=car1())


def test_its_words():
    data = series([0.5, 1.5, 0.5], groups=6)
    model = blm.LMM("y ~ x + (1 | g)", data, residual=car1())
    text = model.describe()
    assert "Residuals: AR(1) in continuous time within g by t, median gap 0.5, 6 series (8 rows each)." in text
    assert "Neighbours in a series are 0.5 of t apart in the median" in " ".join(model.design.hints)
    rho = model.design.residual.parameters[0]
    assert (rho.lower, rho.upper) == (0.0, 1.0)
    assert "0.5 of t apart" in rho.reason
    assert "AR(1) in continuous time within g" in str(model.ml())
    assert str(model.priors.residual[0]) == "Uniform(lower=0, upper=1)"


DESCRIPTION = """
data = "rows.csv"
formula = "y ~ x + (1 | g)"

[residual]
structure = "car1"
group = "g"
time = "t"
"""


def test_a_description_file_says_it_and_the_command_line_fits_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = series([0.5, 1.5, 0.8])
    data.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "model.toml").write_text(DESCRIPTION)
    hierarchy = blm.Hierarchy.from_toml(tmp_path / "model.toml")
    assert hierarchy.residual == car1()
    assert blm.Hierarchy.from_dict(hierarchy.to_dict()) == hierarchy
    assert main(["fit", str(tmp_path / "model.toml"), "--variant", "reml"]) in (0, None)
    assert "AR(1) in continuous time within g by t" in capsys.readouterr().out


def test_a_posterior_and_its_predictions():
    """All samplers' draws of rho stay between 0 and 1, and predicted rows are as alike as rho says."""
    import pymc as pm

    data = series([0.5, 1.5, 0.8], groups=20)
    model = blm.LMM("y ~ x + (1 | g)", data, residual=car1())
    tree = model.sample(draws=300, chains=2, random_seed=1, progress=False)
    rho = tree["posterior"]["rho"].to_numpy()
    assert ((rho > 0) & (rho < 1)).all()
    with model.marginal():
        prior = pm.sample_prior_predictive(draws=50, random_seed=1)
        drawn = pm.sample_posterior_predictive(tree, random_seed=1, progressbar=False)
    assert np.isfinite(prior["prior_predictive"]["y"].to_numpy()).all()
    y = drawn["posterior_predictive"]["y"].to_numpy().reshape(-1, len(data))
    e = y - y.mean(axis=0)
    same = data.g.to_numpy()[1:] == data.g.to_numpy()[:-1]
    assert np.corrcoef(e[:, 1:][:, same].ravel(), e[:, :-1][:, same].ravel())[0, 1] > 0.3
