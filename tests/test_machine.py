"""What the machine lacks or what a label smuggles in: memory, folders, terminals."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import bayeslmm as blm
from bayeslmm.errors import BayesLMMError, DataError, OutOfMemoryError
from bayeslmm.factorisation import memory

DATA = {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def test_memory_that_runs_out_is_an_error_of_this_project_with_what_is_needed():
    design = blm.LMM("y ~ 1 + (1 | g)", DATA).design
    with (
        pytest.raises(OutOfMemoryError, match=r"needs about .* MB, most of it for") as caught,
        memory.enough_memory(design),
    ):
        np.empty(10**15)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, BayesLMMError)


def test_a_fit_under_a_limit_on_memory_is_refused_with_what_is_needed():
    code = """
import resource, numpy as np, bayeslmm as blm
rng = np.random.default_rng(1)
n = 40_000
data = {"y": rng.normal(size=n), "a": rng.integers(0, 4000, n), "b": rng.integers(0, 4000, n)}
small = {name: column[:5000] % 300 for name, column in data.items()}  # all that has to be compiled is
blm.LMM("y ~ 1 + (1 | a) + (1 | b)", small | {"y": data["y"][:5000]}).ml()
lmm = blm.LMM("y ~ 1 + (1 | a) + (1 | b)", data)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
try:
    lmm.ml()
except blm.BayesLMMError as error:
    print(type(error).__name__, error)
"""
    done = run(code)
    assert done.stdout.startswith("OutOfMemoryError"), done.stdout + done.stderr
    assert "GB, most of it for the dense block of the crossed levels" in done.stdout


def test_a_large_model_says_its_size_beforehand(capsys, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 100.0)
    lmm = blm.LMM("y ~ 1 + (1 | g)", DATA)
    assert "At the peak" in lmm.explain()
    assert "this model takes about 0.00067 MB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n", "p", "least", "most"),
    [(20_000, 60, 2.0, memory.COPIES_OF_X + memory.COPIES_OF_PIECE), (8_000, 500, 0.0, 1.0)],
)
def test_x_is_copied_no_more_often_than_is_said(n, p, least, most):
    """A fixed factor, fit and priors: the peak of all that NumPy allocates, in units of X; a wide one is never made."""
    rng = np.random.default_rng(1)
    data = {"y": rng.normal(size=n), "f": [f"f{k % p}" for k in range(n)], "g": rng.integers(0, 20, n)}
    small = {name: list(column[:1200]) for name, column in data.items()}
    blm.LMM("y ~ f + (1 | g)", small).ml()  # what is imported and compiled once isn't counted
    tracemalloc.start()
    lmm = blm.LMM("y ~ f + (1 | g)", data)
    lmm.ml()
    fitted = tracemalloc.get_traced_memory()[1]
    assert len(lmm.priors.beta) == p
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert least < fitted / (8 * n * p) < most
    assert peak / (8 * n * p) < most


NASTY = "a\x1b]0;owned\x07\x1b[2J\u202e"


def test_what_a_terminal_would_obey_is_shown_instead():
    data = {"y": [1.0, 2, 4, 5, 8, 9], "f": [NASTY, "B"] * 3, "g": [NASTY, "b", "c"] * 2}
    lmm = blm.LMM("y ~ 1 + f + (1 | g)", data)
    for text in (
        lmm.describe(),
        lmm.explain(),
        repr(lmm),
        repr(lmm.design),
        repr(lmm.priors),
        repr(lmm.ml()),
        repr(lmm.ml().ranef),
    ):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert r"\x1b[2J" in lmm.describe()
    assert lmm.design.levels[0].groups[0] == NASTY  # the labels themselves stay what they are


def test_messages_of_errors_have_nothing_that_a_terminal_would_obey():
    assert str(DataError(f"{NASTY} came")) == r"a\x1b]0;owned\x07\x1b[2J\u202e came"


def test_a_home_that_cannot_be_written_is_no_obstacle():
    """/dev/null has no subfolders, whoever asks; PyTensor compiles into a temporary folder, and that is said."""
    done = run("import bayeslmm, pytensor; print(pytensor.config.base_compiledir)", HOME=os.devnull, PYTENSOR_FLAGS="")
    assert done.returncode == 0, done.stderr
    assert "bayeslmm-" in done.stdout
    assert ".pytensor cannot be written" in done.stderr
    assert not os.path.exists(done.stdout.strip())  # it goes with the process


def test_a_folder_that_was_given_stays(tmp_path):
    flags = f"base_compiledir={tmp_path}"
    done = run("import bayeslmm, os; print(os.environ['PYTENSOR_FLAGS'])", HOME=os.devnull, PYTENSOR_FLAGS=flags)
    assert (done.stdout.strip(), done.stderr) == (flags, "")


def test_kernels_are_said_to_be_compiled_when_they_are_and_only_then(tmp_path):
    (tmp_path / "small_kernel.py").write_text("def twice(x):\n    return 2 * x\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import small_kernel
from bayeslmm.factorisation.kernels.compiling import first_use, njit, seconds_compiling
twice = njit(small_kernel.twice)
for version in ("first", "first", "second"):
    with first_use(twice, version):
        twice(1.0)
print(seconds_compiling() > 0)
"""
    fresh, kept = (run(code, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2))
    assert (fresh.stdout, fresh.stderr) == ("True\n", "bayeslmm compiles its kernels, once per installation ...\n")
    assert (kept.stdout, kept.stderr) == ("False\n", "")
