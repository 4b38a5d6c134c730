"""The command line: what each command prints and saves, its exit codes, and its start-up."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.cli.entry import FAILED, INTERRUPTED, OK, USAGE, main

MODELS = Path(__file__).parents[1] / "models"
HEIGHTS = str(MODELS / "heights.toml")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(MODELS.parent))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


class TestCheck:
    def test_says_what_the_model_is(self, capsys):
        assert main(["check", HEIGHTS]) == OK
        out, err = capsys.readouterr()
        assert err == ""
        assert "18 rows in 6 groups of class:school" in out
        assert "Note: school has only 2 groups" in out
        assert "sigma_u3" in out  # the priors
        assert "flops" in out  # the plan

    def test_quiet_says_nothing_when_all_is_well(self, capsys, tmp_path):
        assert main(["check", HEIGHTS, "--quiet"]) == OK
        assert capsys.readouterr() == ("", "")
        assert files(tmp_path) == []

    @pytest.mark.parametrize("path", sorted(MODELS.glob("*.toml")), ids=lambda path: path.stem)
    def test_every_model_of_the_gallery_is_sound(self, path, capsys):
        assert main(["check", str(path)]) == OK

    def test_a_formula_and_a_table_will_do(self, capsys):
        data = str(MODELS / "data" / "heights.csv")
        assert main(["check", "--formula", "Height ~ 1 + (1 | school/class)", "--data", data]) == OK
        assert "nested in 2 groups of school" in capsys.readouterr().out


class TestExamples:
    def test_a_name_will_do_for_a_path(self, capsys):
        assert main(["fit", "heights", "--variant", "reml"]) == OK
        assert "Saved: heights-reml" in capsys.readouterr().out

    def test_a_file_of_that_name_wins_and_a_folder_does_not(self, capsys, tmp_path):
        (tmp_path / "heights").mkdir()
        assert main(["check", "heights"]) == OK
        assert "18 rows" in capsys.readouterr().out
        (tmp_path / "heights").rmdir()
        (tmp_path / "heights").write_text("title = 1")
        assert main(["check", "heights"]) == FAILED
        assert "heights, line 1" in capsys.readouterr().err

    def test_a_wrong_name_is_answered_by_all_there_are(self, capsys):
        assert main(["check", "heigths"]) == FAILED
        said = (
            "no description file heigths, and no example of that name. Did you mean 'heights'? The examples are cake,"
        )
        assert said in capsys.readouterr().err

    def test_the_report_says_how_python_loads_it(self):
        from bayeslmm.cli.arguments import Source
        from bayeslmm.cli.models import load_model

        assert load_model(Path("heights"), Source()).about["load"] == "lmm = blm.example('heights')"


class TestFit:
    def test_reml_is_printed_and_saved(self, capsys, tmp_path):
        assert main(["fit", HEIGHTS, "--variant", "reml"]) == OK
        out = capsys.readouterr().out
        assert "Linear mixed model fit by REML" in out
        assert "Saved: heights-reml" in out
        saved = json.loads((tmp_path / "heights-reml" / "fit.json").read_text())
        fit = blm.LMM.from_toml(HEIGHTS).reml()
        assert saved["loglik"] == pytest.approx(fit.loglik, rel=1e-12)
        assert saved["fixef"] == pytest.approx(fit.fixef.to_dict())
        assert saved["se"] == pytest.approx(fit.fixef_se.to_dict())
        assert saved["theta"] == pytest.approx(fit.theta.to_dict())
        assert [row["group"] for row in saved["varcorr"]] == ["class:school", "school", "Residual"]
        assert saved["varcorr"][2]["effect"] is None
        assert saved["ranef"]["u3"]["1"]["Intercept"] == pytest.approx(fit.ranef["u3"].loc["1", "Intercept"])

    def test_the_residual_is_printed_and_saved(self, capsys, tmp_path):
        assert main(["fit", str(MODELS / "ovary.toml"), "--variant", "reml"]) == OK
        assert "Residuals: AR(1) within Mare in the order of the rows, 11 series" in capsys.readouterr().out
        saved = json.loads((tmp_path / "ovary-reml" / "fit.json").read_text())
        assert saved["residual"] == {"rho": pytest.approx(0.6074423, abs=1e-5)}  # nlme: see test_gallery

    def test_ml_on_the_boundary_is_said_and_saved(self, capsys, tmp_path):
        target = tmp_path / "fit"
        arguments = ["fit", HEIGHTS, "--variant", "ml", "--quiet", "--random-effects", "--out", str(target)]
        assert main(arguments) == OK
        out = capsys.readouterr().out
        assert out.startswith("Linear mixed model fit by maximum likelihood")
        assert "Conditional modes of u2" in out
        assert json.loads((target / "fit.json").read_text())["status"]["name"] == "singular"

    def test_a_posterior_is_printed_and_saved_and_predicts(self, capsys, tmp_path, monkeypatch):
        asked = {}

        def sample(self, variant, **settings):
            asked.update(settings, variant=variant)
            return posterior()

        monkeypatch.setattr(blm.LMM, "sample", sample)
        numbers = ["--draws", "50", "--tune", "20", "--chains", "2", "--seed", "7"]
        assert main(["fit", HEIGHTS, "--variant", "marginal", "--quiet", *numbers]) == OK
        assert asked == {
            "variant": "marginal", "draws": 50, "tune": 20, "chains": 2, "random_seed": 7, "progress": False,
        }  # fmt: skip
        out = capsys.readouterr().out
        assert "sigma_u3" in out
        saved = blm.load(tmp_path / "heights-marginal")
        assert saved.posterior["posterior"]["beta"].shape == (2, 50, 1)
        assert main(["predict", "heights-marginal", "--scope", "population"]) == OK
        assert "97.5 %" in capsys.readouterr().out

    def test_the_clean_part_of_an_interrupted_run_is_kept(self, capsys, tmp_path, monkeypatch):
        def sample(self, variant, **settings):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise blm.SamplingError("Interrupted after 50 draws.", posterior(partial=1)) from None

        monkeypatch.setattr(blm.LMM, "sample", sample)
        assert main(["fit", HEIGHTS, "--variant", "joint", "--quiet"]) == INTERRUPTED
        assert "marked as partial: heights-joint-partial" in capsys.readouterr().err
        assert files(tmp_path) == ["heights-joint-partial"]
        with pytest.warns(UserWarning, match="this posterior is partial: 50 of 1000 draws"):
            assert blm.load("heights-joint-partial").partial


class TestCompare:
    @pytest.fixture
    def compared(self, monkeypatch):
        asked = {}

        class Result:
            def __str__(self):
                return "the table"

            def report(self, path, **about):
                asked["about"] = about
                return Path(path).write_text("<html></html>")

        def compare(lmm, **settings):
            asked.update(settings)
            return Result()

        monkeypatch.setattr("bayeslmm.comparison.comparison.compare", compare)
        return asked

    def test_describes_compares_and_writes_a_report(self, compared, capsys, tmp_path):
        assert main(["compare", HEIGHTS, "--seed", "1"]) == OK
        out = capsys.readouterr().out
        places = [out.index(text) for text in ("Heights of 18 pupils", "Note: school", "the table", "Report: ")]
        assert places == sorted(places)
        assert files(tmp_path) == ["heights-report.html"]
        assert compared["random_seed"] == 1
        assert compared["progress"] is True
        assert set(compared["about"]) == {"title", "source", "notes", "load"}

    def test_quiet_prints_the_comparison_alone(self, compared, capsys, tmp_path):
        target = tmp_path / "r.html"
        assert main(["compare", HEIGHTS, "--quiet", "--random-effects", "--out", str(target)]) == OK
        assert capsys.readouterr().out == f"the table\n\nReport: {target}\n"
        assert compared["random_effects"] is True
        assert compared["progress"] is False

    def test_an_interrupt_is_one_line(self, monkeypatch, capsys):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("bayeslmm.comparison.comparison.compare", interrupted)
        assert main(["compare", HEIGHTS, "--quiet"]) == INTERRUPTED
        assert capsys.readouterr().err == "bayeslmm: Interrupted.\n"


def test_schema_is_the_published_one(capsys):
    assert main(["schema"]) == OK
    assert json.loads(capsys.readouterr().out) == json.loads((MODELS / "schema.json").read_text())


class TestErrors:
    """Each is one message on stderr, no traceback, nothing on stdout, and its exit code."""

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["check", "no.toml"], FAILED, "there is no description file no.toml"),
            (["check"], USAGE, "No model was given; write FILE.toml"),
            (["check", HEIGHTS, "--formula", "y ~ 1"], USAGE, "Both a description file and --formula"),
            (["check", HEIGHTS, "--data", "x.csv"], USAGE, "--data goes with --formula"),
            (["check", "--formula", "y ~ 1 + (1 | g)"], USAGE, "needs the table as well"),
            (["check", "--formula", "y ~ 1 + (1 | g)", "--data", "x.csv"], FAILED, "there is no file x.csv"),
            (["fit", HEIGHTS], USAGE, "--variant"),
            (["fit", HEIGHTS, "--variant", "mle"], USAGE, '"ml", "reml", "joint", "marginal"'),
            (["fit", HEIGHTS, "--variant", "ml", "--draws", "0"], USAGE, "Must be >= 1"),
            (["fit", HEIGHTS, "--variant", "ml", "--seed", "x"], USAGE, "seed"),
            (["compar", HEIGHTS], USAGE, "compare"),
            (["fit", HEIGHTS, "--variant", "ml", "--out", "a.nc"], USAGE, "write --out a."),
            (["fit", HEIGHTS, "--variant", "joint", "--out", "a.json"], USAGE, "write --out a."),
            (["predict", "none"], FAILED, "there is no folder none"),
            (["predict"], USAGE, "FOLDER"),
            (["predict", "none", "--scope", "class"], USAGE, "population"),
        ],
    )
    def test_wrong_input(self, arguments, code, message, capsys, tmp_path):
        assert main(arguments) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("bayeslmm: ")
        assert message in err
        assert "Traceback" not in err
        assert files(tmp_path) == []

    @pytest.mark.parametrize(
        ("toml", "csv", "message"),
        [
            ('formula = "y ~ 1 + (1 | g)', "y,g\n1,a\n", "m.toml, line 1"),
            ('formla = "y ~ 1 + (1 | g)"\ndata = "d.csv"', "y,g\n1,a\n", "Did you mean 'formula'?"),
            ('formula = "y ~ 1 + (1 | g)"\ndata = "d.csv"', "y,g\n1,a\nNaN,a\n2,b\n4,b\n", "y"),
            ('formula = "y ~ 1 + (1 | g)"\ndata = "d.csv"', "y,g\n1,a\ninf,a\n2,b\n4,b\n", "infinite"),
            ('formula = "y ~ 1 + (1 | h)"\ndata = "d.csv"', "y,g\n1,a\n2,a\n2,b\n4,b\n", "'h'"),
            ('formula = "y ~ 1 + (1 | g)"\ndata = "e.csv"', "y,g\n1,a\n", "Did you mean 'd.csv'?"),
            (
                'formula = "y ~ 1 + (1 | g)"\ndata = "d.csv"\n[priors]\nsigma = "HalfNormal(sd=2)"',
                "y,g\n1,a\n2,a\n2,b\n4,b\n",
                "m.toml, line 4",
            ),
        ],
    )
    @pytest.mark.parametrize("command", [["check"], ["compare"], ["fit", "--variant", "reml"]])
    def test_unsound_files(self, command, toml, csv, message, capsys, tmp_path):
        (tmp_path / "m.toml").write_text(toml)
        (tmp_path / "d.csv").write_text(csv)
        assert main([*command, "m.toml"]) == FAILED
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert files(tmp_path) == ["d.csv", "m.toml"]

    @pytest.mark.parametrize("command", [["compare"], ["fit", "--variant", "joint"]])
    @pytest.mark.parametrize("place", ["no/such/folder", "folder", "file.txt"])
    def test_a_bad_target_is_found_before_the_long_work(self, command, place, capsys, tmp_path, monkeypatch):
        def never(*_, **__):
            raise AssertionError("the long work began")

        monkeypatch.setattr("bayeslmm.comparison.comparison.compare", never)
        monkeypatch.setattr(blm.LMM, "sample", never)
        suffix = ".html" if command[0] == "compare" else ""
        (tmp_path / f"folder{suffix}").mkdir()
        (tmp_path / "file.txt").write_text("")
        target = f"{place}{suffix}" if place != "file.txt" else f"file.txt/out{suffix}"
        assert main([*command, HEIGHTS, "--out", target]) == FAILED
        assert place.split("/")[0] in capsys.readouterr().err

    def test_a_failing_disk_is_one_message_and_leaves_what_was_there(self, monkeypatch, capsys, tmp_path):
        def full(*_):
            raise OSError(28, "No space left on device")

        assert main(["fit", HEIGHTS, "--variant", "reml"]) == OK
        capsys.readouterr()
        monkeypatch.setattr("os.fsync", full)
        assert main(["fit", HEIGHTS, "--variant", "reml", "--overwrite"]) == FAILED
        assert "model.toml: No space left on device" in capsys.readouterr().err
        assert files(tmp_path) == ["heights-reml"]
        assert blm.load("heights-reml").result.method == "REML"

    def test_what_is_saved_is_not_replaced_unless_asked_for(self, capsys):
        arguments = ["fit", HEIGHTS, "--variant", "reml", "--quiet"]
        assert main(arguments) == OK
        assert main(arguments) == FAILED
        assert "heights-reml: exists already" in capsys.readouterr().err
        assert main([*arguments, "--overwrite"]) == OK


class TestStartUp:
    @staticmethod
    def imported(*arguments):
        code = (
            "import sys; from bayeslmm.cli.entry import main; code = main(sys.argv[1:]); "
            "print('\\n' + ' '.join(sorted({name.split('.')[0] for name in sys.modules}))); sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        return set(done.stdout.splitlines()[-1].split())

    @pytest.mark.parametrize(
        "arguments", [["check", HEIGHTS], ["fit", HEIGHTS, "--variant", "reml"]], ids=["check", "reml"]
    )
    def test_no_pymc_without_a_posterior(self, arguments):
        assert not self.imported(*arguments) & {"pymc", "pytensor", "arviz", "nutpie", "matplotlib"}

    @pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--version"], []])
    def test_help_imports_nothing_heavy(self, arguments):
        assert not self.imported(*arguments) & {
            "numpy",
            "pandas",
            "numba",
            "scipy",
            "pymc",
            "pytensor",
            "pydantic",
        }


class TestPredict:
    """New rows from a saved fit, encoded as the model's own were."""

    @pytest.fixture
    def saved(self, tmp_path):
        data = {"y": [1.0, 2, 4, 5, 8, 9], "x": [True, False] * 3, "g": ["01", "01", "1", "1", "x", "x"]}
        lmm = blm.LMM("y ~ x + (1 | g)", data)
        lmm.save("saved", lmm.reml())
        return lmm

    def test_the_table_has_a_prediction_per_row(self, saved, capsys, tmp_path):
        Path("new.csv").write_text("g,x,note\n01,True,a\n1,False,b\n")
        assert main(["predict", "saved", "new.csv", "--out", "out.csv"]) == OK
        assert "expected values (REML), 2 rows: out.csv\n" in capsys.readouterr().out
        found = pd.read_csv("out.csv", dtype={"g": str})
        assert set(found.columns) == {"g", "x", "note", "estimate", "sd", "2.5 %", "97.5 %"}
        wanted = saved.reml().predict({"g": ["01", "1"], "x": [True, False]})
        np.testing.assert_allclose(found["estimate"], wanted, rtol=1e-8)

    def test_a_new_group_needs_its_scope(self, saved, capsys):
        Path("new.csv").write_text("g,x\nz,True\n")
        assert main(["predict", "saved", "new.csv"]) == FAILED
        assert "'z' (row 0)" in capsys.readouterr().err
        assert main(["predict", "saved", "new.csv", "--scope", "new"]) == OK
        Path("new.csv").write_text("x\nTrue\n")
        assert main(["predict", "saved", "new.csv", "--scope", "population"]) == OK

    @pytest.mark.parametrize(
        ("text", "said"), [("g,x\n01,\n", "missing"), ("g,z\n01,1\n", "no column 'x'"), ("", "empty")]
    )
    def test_rows_that_do_not_fit_are_one_message(self, saved, text, said, capsys):
        Path("new.csv").write_text(text)
        assert main(["predict", "saved", "new.csv"]) == FAILED
        assert said in capsys.readouterr().err

    def test_a_model_without_a_fit_says_so(self, saved, capsys):
        saved.save("bare")
        assert main(["predict", "bare"]) == FAILED
        assert "without a fit or a posterior" in capsys.readouterr().err


def posterior(**attrs):
    import arviz as az

    rng = np.random.default_rng(0)
    values = {name: rng.gamma(3, size=(2, 50)) for name in ("sigma", "sigma_u2", "sigma_u3")}
    effects = {name: rng.normal(size=(2, 50, m)) for name, m in (("beta", 1), ("u2", 6), ("u3", 2))}
    tree = az.from_dict({"posterior": values | effects})
    tree.attrs |= {"draws": 1000, "chains": 2} | attrs
    return tree
