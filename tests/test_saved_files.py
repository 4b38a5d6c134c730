"""The files of a saved model: exact, written whole or not at all, and refused where a byte differs."""

import datetime as dt
import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayeslmm as blm
from bayeslmm.data.table import Taken
from bayeslmm.errors import DataError, DescriptionError, SavedError
from bayeslmm.saved import check, folder
from bayeslmm.saved.draws_file import read_draws, same_draws, write_draws
from bayeslmm.saved.table_file import read_table, same_table, to_json, write_table
from tests.structured import DATA, KG

MODELS = sorted((Path(__file__).parents[1] / "models").glob("*.toml"))
SMALL = {"y": [1.0, 2, 4, 5, 8, 9.5], "g": list("aabbcc")}
NASTY = 'a\x1b[2J\u202e"\n, \x00\r'


def sampled(lmm, draws=20, **options):
    return lmm.sample(draws=draws, chains=2, random_seed=1, progress=False, **options)


def files(place):
    return sorted(path.name for path in place.iterdir())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a posterior in it, a known covariance and weights: every kind of file but fit.json."""
    lmm = blm.LMM("y ~ x + (1 | g)", DATA, covariance={"g": KG}, residual=blm.Residual(weights="w"))
    return lmm.save(tmp_path_factory.mktemp("saved") / "small", sampled(lmm))


@pytest.fixture
def copy(small, tmp_path):
    return Path(shutil.copytree(small, tmp_path / "copy"))


class TestTables:
    """A CSV and its record give the same table again, bit for bit."""

    @staticmethod
    def again(frame):
        text, record = write_table(Taken(frame=frame))
        content = text.encode("utf-8", "surrogatepass")
        return read_table(content.decode("utf-8", "surrogatepass"), json.loads(to_json(record))).frame

    @given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans()), min_size=1))
    def test_numbers_and_texts(self, rows):
        x, text, truth = (list(column) for column in zip(*rows, strict=True))
        text = pd.Series(text, dtype=object)
        frame = pd.DataFrame({"x": x, "a text\n": text, "truth": truth})
        again = self.again(frame)
        assert same_table(frame, again) == ""
        assert again["x"].to_numpy().tobytes() == frame["x"].to_numpy().tobytes()  # -0.0 is not 0.0

    @pytest.mark.parametrize(
        "index",
        [
            pd.RangeIndex(3, 9, 3),
            pd.Index([7, 2], name="id"),
            pd.Index([NASTY, "b"]),
            pd.MultiIndex.from_arrays([["a", "b"], [1.5, 2.5]], names=["p", "q"]),
            pd.date_range("2020", periods=2, tz="UTC"),
        ],
        ids=lambda index: type(index).__name__,
    )
    def test_labels_of_rows(self, index):
        frame = pd.DataFrame({"x": [1.0, 2.0]}, index=index)
        assert same_table(frame, self.again(frame)) == ""

    def test_several_types_in_one_column(self):
        values = [1, "1", True, 1.0, dt.date(2020, 1, 1), dt.time(1, 2), dt.timedelta(1, 2, 3)]
        frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
        assert list(map(type, self.again(frame)["x"])) == list(map(type, values))

    @pytest.mark.parametrize("values", [[(1, 2)], [b"a"], [1j], [object()]], ids=["tuple", "bytes", "1j", "object"])
    def test_what_has_no_exact_text_is_refused(self, values):
        with pytest.raises(DataError, match=r"'x' cannot be saved: it holds .*data\['x'\]\.map\(str\)"):
            write_table(Taken(frame=pd.DataFrame({"x": values})))


class TestDraws:
    def test_labels_and_attributes_that_netcdf_has_not(self):
        import xarray as xr

        for labels in ([NASTY, "b"], [dt.date(2020, 1, 1)] * 2, pd.period_range("2020", periods=2, freq="M").tolist()):
            dataset = xr.Dataset(
                {"u": (("my / dim ".replace("/", ":"), "none"), np.zeros((2, 0))), "flag": ("w\n", [True])},
                coords={"my : dim ": labels},
                attrs={"big": 2**70, "truth": True, "nothing": None, "list": [1, "a"], "text": "", "x": np.inf},
            )
            tree = xr.DataTree.from_dict({"/posterior": dataset})
            again = read_draws(write_draws(tree))
            assert same_draws(tree, again) == ""
            assert again["posterior"].attrs == dataset.attrs

    def test_an_attribute_that_nothing_can_hold_is_named(self):
        tree = sampled(blm.LMM("y ~ 1 + (1 | g)", SMALL))
        tree.attrs["model"] = object()
        with pytest.raises(DataError, match="attributes 'model' of / cannot be saved"):
            write_draws(tree)


class TestDamage:
    """Whatever differs from what was written is an error that names the file."""

    def test_every_file_is_there(self, small):
        wanted = {"manifest.json", "model.toml", "data.csv", "columns.json", "priors.json", "check.json"}
        assert set(files(small)) == wanted | {"posterior.nc", "u2_covariance.npz"}

    def test_any_bit_of_any_file(self, copy):
        rng = np.random.default_rng(1)
        for name in files(copy):
            path = copy / name
            content = path.read_bytes()
            places = range(len(content)) if name == "manifest.json" else rng.integers(0, len(content), 40)
            for place in places:
                flipped = bytearray(content)
                flipped[place] ^= 1 << int(rng.integers(8))
                path.write_bytes(flipped)
                with pytest.raises(SavedError, match=name):
                    folder.read_folder(copy)
            path.write_bytes(content)
        blm.load(copy)

    @pytest.mark.parametrize("name", ["posterior.nc", "data.csv", "manifest.json", "model.toml"])
    def test_a_file_cut_short_or_longer_or_missing(self, copy, name):
        content = (copy / name).read_bytes()
        for wrong in (content[:-1], content[: len(content) // 2], b"", content + b"\n"):
            (copy / name).write_bytes(wrong)
            with pytest.raises(SavedError, match=name):
                blm.load(copy)
        (copy / name).unlink()
        with pytest.raises(SavedError, match=name):
            blm.load(copy)

    def test_a_file_too_many(self, copy):
        (copy / "notes.txt").write_text("mine")
        with pytest.raises(SavedError, match=r"notes\.txt: the manifest of this saved model has no such file"):
            blm.load(copy)

    def test_links_are_not_followed(self, copy, tmp_path):
        outside = tmp_path / "outside.nc"
        shutil.copy(copy / "posterior.nc", outside)
        (copy / "posterior.nc").unlink()
        (copy / "posterior.nc").symlink_to(outside)
        with pytest.raises(SavedError, match=r"posterior\.nc: is no ordinary file"):
            blm.load(copy)

    def test_pipes_are_not_waited_for(self, copy):
        (copy / "posterior.nc").unlink()
        os.mkfifo(copy / "posterior.nc")
        with pytest.raises(SavedError, match=r"posterior\.nc: is no ordinary file"):
            blm.load(copy)

    @pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", ".hidden", "a\x00b"])
    def test_names_that_lead_outside_are_refused(self, copy, name):
        content, about = folder.read_folder(copy)
        (copy / "manifest.json").write_bytes(folder._manifest(content | {name: b""}, about))
        with pytest.raises(SavedError, match=r"manifest\.json: names files that a saved model cannot have"):
            blm.load(copy)

    def test_another_format_says_which(self, copy, monkeypatch):
        content, about = folder.read_folder(copy)
        monkeypatch.setattr(folder, "VERSION", 2)
        (copy / "manifest.json").write_bytes(folder._manifest(content, about))
        monkeypatch.undo()
        with pytest.raises(SavedError, match=r"is of format 2; this bayeslmm reads format 1\. .* bayeslmm 0\.1\.0"):
            blm.load(copy)

    @pytest.mark.parametrize("place", ["none", "a file", "an empty folder", "\0", 3])
    def test_what_is_no_saved_model(self, tmp_path, place):
        (tmp_path / "a file").write_text("")
        (tmp_path / "an empty folder").mkdir()
        with pytest.raises(blm.BayesLMMError, match=r"folder|path"):
            blm.load(place if place == 3 else f"{tmp_path}/{place}")

    @staticmethod
    def rewrite(place, **changed):
        """Change files as one would who rewrites the manifest too: from old content to new, by name."""
        content, about = folder.read_folder(place)
        content |= {
            name.replace("__", "."): change(content[name.replace("__", ".")]) for name, change in changed.items()
        }
        shutil.rmtree(place)
        folder.write_folder(place, content, about)

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"posterior__nc": lambda b: b[:-600]}, r"posterior\.nc: cannot be read as a part of a saved model"),
            ({"model__toml": lambda b: b.replace(b"u2_covariance", b"../elsewhere")}, r"names the matrix '\.\./else"),
            ({"model__toml": lambda b: b + b"\nx = __import__('os')"}, r"model\.toml.*malformed TOML"),
            ({"model__toml": lambda b: b.replace(b'fixed = "1 + x"', b'fixed = "1"')}, r"the prior of|no prior"),
            ({"model__toml": lambda b: b + b'\n[priors]\nsigma = "HalfNormal(sigma=2)"'}, "the prior of sigma is Half"),
            ({"data__csv": lambda b: b.replace(b'"a"', b'"q"', 1)}, "no model can be made of it|the prior of"),
            ({"data__csv": lambda b: b"\n".join(b.split(b"\n")[:-2]) + b"\n"}, r"data\.csv: .* 23 rows; 24 were"),
            ({"columns__json": lambda b: b.replace(b"numbers", b"pickles")}, r"data\.csv: cannot be read"),
            ({"check__json": lambda b: b.replace(b'"draws": [', b'"drawn": [')}, r"check\.json|draws"),
        ],
    )
    def test_another_content_under_a_manifest_of_its_own(self, copy, changed, said):
        self.rewrite(copy, **changed)
        with pytest.raises(SavedError, match=said):
            blm.load(copy)

    def test_a_number_changed_in_the_data_or_the_draws_shows_in_the_log_density(self, copy):
        self.rewrite(copy, data__csv=lambda b: b.replace(b",0.5,", b",0.6,").replace(b"0.5\n", b"0.6\n"))
        line = (copy / "data.csv").read_text().splitlines()
        self.rewrite(copy, data__csv=lambda b: b.replace(line[3].encode(), _nudged(line[3]).encode()))
        with pytest.raises(SavedError, match=r"check\.json: .* the log density of|the prior of"):
            blm.load(copy)

    def test_nothing_in_a_matrix_is_unpickled(self, copy, tmp_path):
        class Touch:
            def __reduce__(self):
                return Path.touch, (tmp_path / "touched",)

        import io

        out = io.BytesIO()
        np.savez(out, labels=np.array([Touch()], dtype=object), matrix=np.eye(1))
        self.rewrite(copy, u2_covariance__npz=lambda _: out.getvalue())
        with pytest.raises(SavedError, match=r"model\.toml: .*u2_covariance\.npz: not readable .*allow_pickle=False"):
            blm.load(copy)
        assert not (tmp_path / "touched").exists()
        with pytest.raises(SavedError):
            blm.load(copy)
        assert pickle.loads(pickle.dumps(1)) == 1


def _nudged(line):
    """A line of the CSV with its first number moved in the sixth digit."""
    first, rest = line.split(",", 1)
    return f"{float(first) * (1 + 1e-6)!r},{rest}"


class TestRounding:
    """Another processor's last digits are no other model, also where they matter: far from zero."""

    def test_it_is_nothing_in_an_ordinary_model(self, small):
        assert max(json.loads((small / "check.json").read_text())["rounding"].values()) < 1e-9

    def test_far_from_zero_it_is_allowed_for_and_another_prior_is_not(self, tmp_path, monkeypatch):
        lmm = blm.LMM("y ~ x + (x | g)", DATA.assign(x=DATA.x + 1e6))
        tree = sampled(lmm)
        lmm.save(tmp_path / "a", tree)
        once = check._at_draws

        def rounded(model, draws, tree, moved):
            return once(model, draws, tree, 5)

        with monkeypatch.context() as patch:
            patch.setattr(check, "_at_draws", rounded)
            blm.load(tmp_path / "a")
        rounding = json.loads((tmp_path / "a" / "check.json").read_text())["rounding"]
        assert rounding["the prior of corr_u2"] > 1e-8  # which the first tolerance would not have let pass
        monkeypatch.setattr("bayeslmm.priors.resolve.correlation_default", lambda *_: (blm.Prior("LKJ", eta=9), ""))
        with pytest.raises(SavedError, match="the prior of corr_u2"):
            blm.load(tmp_path / "a")


class TestAnotherVersion:
    """A model that this version makes otherwise than the one that saved it is no model of what was saved."""

    def test_other_default_priors(self, small, monkeypatch):
        from bayeslmm.priors import resolve

        wider = (blm.Prior("HalfStudentT", nu=3, sigma=7), "wider")
        monkeypatch.setattr(resolve, "residual_deviation", lambda *_: wider)
        with pytest.raises(SavedError, match=r"the prior of sigma is .*sigma=7\) .* saved by bayeslmm 0\.1\.0"):
            blm.load(small)

    def test_another_density(self, small, monkeypatch):
        once = check._at_draws

        def shifted(*arguments):
            out = once(*arguments)
            return out | {"y given the parameters": out["y given the parameters"] + 1e-3}

        monkeypatch.setattr(check, "_at_draws", shifted)
        with pytest.raises(SavedError, match=r"check\.json: .* the log density of y given the parameters is"):
            blm.load(small)

    def test_other_anchors_of_the_priors(self, tmp_path, monkeypatch):
        from bayeslmm.priors import resolve
        from bayeslmm.priors.anchors import as_written

        lmm = blm.LMM("y ~ x + (1 | g)", DATA, priors={"sigma": "HalfNormal(sigma=1)"})
        lmm.save(tmp_path / "a")
        monkeypatch.setattr(resolve, "anchor", lambda X, *rest, **options: as_written(X))
        with pytest.raises(SavedError, match=r"the prior of|log density"):
            blm.load(tmp_path / "a")


class TestWriting:
    """All of it or nothing; what was there stays until the new one is whole."""

    lmm = blm.LMM("y ~ 1 + (1 | g)", SMALL)

    def test_a_folder_that_exists_is_not_replaced_unless_asked_for(self, tmp_path):
        self.lmm.save(tmp_path / "a")
        with pytest.raises(SavedError, match="a: exists already"):
            self.lmm.save(tmp_path / "a", self.lmm.reml())
        self.lmm.save(tmp_path / "a", self.lmm.reml(), overwrite=True)
        assert blm.load(tmp_path / "a").about["holds"] == "REML"
        assert files(tmp_path) == ["a"]

    @pytest.mark.parametrize("inside", ["thesis.tex", "a saved model and more"])
    def test_what_is_no_saved_model_is_never_replaced(self, tmp_path, inside):
        (tmp_path / "a").mkdir() if inside == "thesis.tex" else self.lmm.save(tmp_path / "a")
        (tmp_path / "a" / inside).write_text("years of work")
        with pytest.raises(SavedError, match=f"is not replaced, as it is no saved model: it holds '{inside}'"):
            self.lmm.save(tmp_path / "a", overwrite=True)
        assert (tmp_path / "a" / inside).read_text() == "years of work"

    def test_links_and_files_are_never_replaced(self, tmp_path):
        self.lmm.save(tmp_path / "a")
        (tmp_path / "link").symlink_to(tmp_path / "a")
        (tmp_path / "file").write_text("")
        for name in ("link", "file"):
            with pytest.raises(SavedError, match="exists and is no folder"):
                self.lmm.save(tmp_path / name, overwrite=True)

    @pytest.mark.parametrize("place", ["no/such/folder", "", ".", "a\0b"])
    def test_places_that_cannot_be(self, tmp_path, place, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(blm.BayesLMMError):
            self.lmm.save(place)
        assert files(tmp_path) == []

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize(
        "fault", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()], ids=repr
    )
    def test_a_fault_at_any_step_leaves_what_was_there(self, tmp_path, monkeypatch, fault, overwrite):
        """Every call of the system that saving makes fails once: nothing, or the older model, is there."""
        if overwrite:
            self.lmm.save(tmp_path / "a", self.lmm.ml())
        said: list[str] = []
        calls = ["mkdir", "fsync", "rename", "open"]
        for step in range(200):
            count = [step]

            def failing(call, count=count):
                def wrapped(*arguments, **options):
                    count[0] -= 1
                    if count[0] == -1:
                        raise fault
                    return call(*arguments, **options)

                return wrapped

            with monkeypatch.context() as patch:
                for name in calls:
                    patch.setattr(os, name, failing(getattr(os, name)))
                try:
                    self.lmm.save(tmp_path / "a", self.lmm.reml(), overwrite=overwrite)
                except (KeyboardInterrupt, MemoryError):
                    pass
                except SavedError as error:
                    said.append(str(error))
                else:
                    break
            if (tmp_path / "a").exists():
                now = blm.load(tmp_path / "a").about["holds"]
                assert now in ("ML", "REML")
                if now == "REML":  # moved already; what failed was to force that to disk
                    shutil.rmtree(tmp_path / "a")
                    self.lmm.save(tmp_path / "a", self.lmm.ml()) if overwrite else None
            else:
                assert not overwrite
            assert files(tmp_path) == (["a"] if overwrite else [])
        assert 10 < step < 190
        assert all("No space left" in text and str(tmp_path) in text for text in said)
        assert blm.load(tmp_path / "a").about["holds"] == "REML"
        assert files(tmp_path) == ["a"]

    def test_data_that_changed_since_the_model_was_made_are_not_saved(self, tmp_path):
        x = np.arange(6.0)
        lmm = blm.LMM("y ~ x + (1 | g)", {**SMALL, "x": x})
        lmm.ml()
        x[0] = 17
        with pytest.raises(DataError, match=r"have changed since this model was made .*\(X\)"):
            lmm.save(tmp_path / "a")
        assert files(tmp_path) == []

    @pytest.mark.parametrize("result", [3, {"posterior": 1}, "reml"], ids=str)
    def test_what_is_no_result(self, tmp_path, result):
        with pytest.raises(DescriptionError, match="came as the result to save"):
            self.lmm.save(tmp_path / "a", result)

    def test_results_of_another_model(self, tmp_path):
        other = blm.LMM("y ~ 1 + (1 | h)", {"y": SMALL["y"], "h": list("aabbaa")})
        with pytest.raises(DataError, match="it comes from another model"):
            self.lmm.save(tmp_path / "a", sampled(blm.LMM("y ~ x + (1 | g)", {**SMALL, "x": range(6)})))
        with pytest.raises(DescriptionError, match="another LMM"):
            self.lmm.save(tmp_path / "a", other.ml())
        assert files(tmp_path) == []

    def test_a_model_that_had_to_step_aside_is_found(self, tmp_path):
        """A process that is killed between two renames leaves both, whole; the next one says where."""
        self.lmm.save(tmp_path / "a")
        (tmp_path / "a").rename(tmp_path / ".a.0123.old")
        with pytest.raises(
            SavedError, match=r"there is no folder .*a\. The saved model .* is .*\.a\.0123\.old: rename"
        ):
            blm.load(tmp_path / "a")

    def test_no_warning_of_ours_is_needed(self, tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            blm.load(self.lmm.save(tmp_path / "a", self.lmm.ml()))
