"""What is published: a wheel that needs nothing of the checkout, and an sdist that makes the same wheel."""

import filecmp
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from bayeslmm.factorisation.kernels import entry

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling")


def run(*arguments, cwd, **environment):
    """Run Python; what it prints."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The sdist, and the wheel made of what it holds, as `python -m build` does."""
    dist, unpacked = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("sdist")
    run("-m", "hatchling", "build", "-t", "sdist", "-d", dist, cwd=ROOT)
    (sdist,) = dist.iterdir()
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    run("-m", "hatchling", "build", "-t", "wheel", "-d", dist, cwd=source)
    (wheel,) = dist.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def alone(dist, tmp_path_factory):
    """Python in an empty folder that can import the unpacked wheel and what it depends on, nothing of the checkout."""
    place, empty = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("empty")
    with zipfile.ZipFile(dist[1]) as archive:
        archive.extractall(place)
    keep_compiled(Path(entry.__file__).parent, place / "bayeslmm" / "factorisation" / "kernels")
    others = [path for path in sys.path if path and not (Path(path) / "bayeslmm" / "__init__.py").exists()]
    path = os.pathsep.join([str(place), *others])
    return lambda *arguments: run("-S", *arguments, cwd=empty, PYTHONPATH=path)  # -S: no .pth of an editable install


def keep_compiled(checkout: Path, wheel: Path) -> None:
    """Spare the test the compiling of kernels: numba knows them by source and time, and keeps them beside it."""
    for source in checkout.glob("*.py"):
        assert filecmp.cmp(source, wheel / source.name, shallow=False)
        os.utime(wheel / source.name, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    (wheel / "__pycache__").mkdir(exist_ok=True)
    for kept in checkout.glob("__pycache__/*.nb?"):
        (wheel / "__pycache__" / kept.name).write_bytes(kept.read_bytes())


def test_both_pass_twine(dist):
    pytest.importorskip("twine")
    assert run("-m", "twine", "check", "--strict", *dist, cwd=ROOT).count("PASSED") == 2


def test_the_wheel_holds_the_package_and_its_gallery(dist):
    with zipfile.ZipFile(dist[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    checkout = {p.relative_to(ROOT).as_posix() for p in (ROOT / "bayeslmm").rglob("*") if p.suffix in (".py", ".typed")}
    models = {p.relative_to(ROOT / "models") for p in (ROOT / "models").rglob("*") if p.suffix != ".pyc"}
    gallery = {f"bayeslmm/examples/{p.as_posix()}" for p in models if (ROOT / "models" / p).is_file()}
    assert names == checkout | gallery
    assert "bayeslmm/py.typed" in names


def test_the_sdist_holds_only_what_belongs_there(dist):
    with tarfile.open(dist[0]) as archive:
        files = [Path(*Path(member.name).parts[1:]) for member in archive if member.isfile()]
    top = {file.parts[0] for file in files}
    assert top == {
        *("bayeslmm", "models", "tests", "docs", "notebooks", "CHANGELOG.md", "CONTRIBUTING.md", "constraints.txt"),
        *("LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"),
    }
    junk = {"__pycache__", "_build", ".ipynb_checkpoints"}
    assert not [file for file in files if junk & set(file.parts) or file.suffix in (".pyc", ".nc")]
    assert {file.parts[:2] for file in files if file.suffix == ".html"} == {("docs", "interactive")}


def test_the_readme_runs_on_the_wheel_alone(alone):
    """README's first lines, but for `compare`: it samples the joint model, which has tests of its own."""
    code = (ROOT / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    assert "blm.compare(lmm)" in code
    out = alone("-c", f"import bayeslmm\nbayeslmm.compare = 'compared: {{}}'.format\n{code}\nprint(blm.__file__)")
    assert "Linear mixed model fit by REML" in out
    assert "compared: LMM('Height" in out
    assert Path(out.splitlines()[-1]).parent.joinpath("examples", "heights.toml").exists()


def test_the_command_line_knows_the_examples_of_the_wheel(alone):
    assert "18 rows in 6 groups of class:school" in alone("-m", "bayeslmm", "check", "heights")
