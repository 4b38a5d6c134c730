"""The report of a posterior: every part for every kind of model, in one file, with nothing fetched."""

import re

import pytest

import bayeslmm as blm
from bayeslmm.cli.entry import main
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.report.report import Report
from tests.structured import DATA, KGX

TITLES = [
    "The model", "The data", "The priors", "The draws", "The estimates", "Where the variance lies", "The groups",
    "Does the model fit?", "Without each row, without each group", "Predictions", "To repeat this",
]  # fmt: skip


def models() -> dict[str, blm.LMM]:
    odd = DATA.rename(columns={"g": "<b>group</b> & $x$", "y": "the 'y'"})
    return {
        "no fixed effects, relatives": blm.LMM("y ~ 0 + (1 + x | g)", DATA, covariance={"g": KGX}),
        "no levels": blm.LMM("y ~ x", DATA, residual=blm.Residual(structure="ar1", group="g")),
        "odd names": blm.LMM("`the 'y'` ~ x + (1 | `<b>group</b> & $x$`)", odd),
    }


@pytest.mark.parametrize("name", models())
def test_every_part_is_there_and_says_how_far_to_trust_it(name, tmp_path):
    lmm = models()[name]
    tree = lmm.sample(draws=100, random_seed=1, progress=False)
    page = lmm.report(tmp_path / "report.html", tree, title="A <title>").read_text(encoding="utf-8")
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [title for title in TITLES if lmm.design.levels or title != "The groups"]
    assert page.count("How far to trust it.") == len(titles)
    assert "<title>A &lt;title&gt;</title>" in page
    assert "<b>group" not in page
    assert not re.search(r'(src|href)="(?!data:image/png;base64,|#)', page)
    assert "Traceback" not in page


def test_what_a_model_has_not_is_said_in_its_place():
    lmm = blm.LMM("y ~ 1 + x + (1 | g)", DATA, priors={"sigma": "HalfFlat()"})
    tree = lmm.sample(draws=100, random_seed=1, progress=False)
    priors = next(part for part in Report(model=lmm, tree=tree).parts() if part.title == "The priors")
    assert "Not for this model: Nothing can be drawn from flat priors" in priors.content


def test_the_model_is_written_with_its_numbers():
    lmm = blm.example("sleepstudy")
    tree = lmm.sample(draws=300, random_seed=1, progress=False)
    mean = float(tree["posterior"]["beta"].sel(coef="Days").mean())
    assert f"+ {mean:.1f} Days + u2 + e; SDs" in Report(model=lmm, tree=tree).in_numbers


def test_it_says_when_its_draws_are_not_to_be_trusted():
    lmm = blm.example("dyestuff")
    tree = lmm.sample(draws=20, random_seed=1, progress=False)
    assert "with 80 draws" in Report(model=lmm, tree=tree).doubts


def test_no_posterior_and_no_path_are_refused_before_anything_is_written(tmp_path):
    lmm = blm.example("dyestuff")
    with pytest.raises(DataError):
        lmm.report(tmp_path / "report.html", lmm.reml())
    with pytest.raises(DescriptionError, match="is a file and"):
        lmm.report(tmp_path, lmm.sample(draws=20, random_seed=1, progress=False))
    assert not list(tmp_path.iterdir())


def test_a_saved_posterior_has_its_report_from_the_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lmm = blm.example("dyestuff")
    lmm.save("saved", lmm.sample(draws=100, random_seed=1, progress=False))
    assert main(["report", "saved", "--title", "Batches"]) == 0
    assert "Report: saved-report.html" in capsys.readouterr().out
    assert "blm.load(&#x27;saved&#x27;)" in (tmp_path / "saved-report.html").read_text()
    lmm.save("fit", lmm.reml())
    assert main(["report", "fit"]) == 1
    assert "holds no posterior" in capsys.readouterr().err
