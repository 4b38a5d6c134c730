"""What all tests share: data read once, models fitted once, PyMC models compiled once."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from tempfile import gettempdir

import pandas as pd
import pytest
import scipy.linalg  # noqa: F401
from filelock import FileLock
from hypothesis import settings
from threadpoolctl import threadpool_limits

from bayeslmm.lmm import LMM

# Every node of a graph keeps the stack that made it, a tenth of what building a model takes; read at PyTensor's import.
os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, [os.environ.get("PYTENSOR_FLAGS"), "traceback__limit=0"]))

HERE = Path(__file__).parent
GALLERY = HERE.parent / "models" / "data"
# The same examples in every run; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("seeded", derandomize=True)
settings.register_profile("search", max_examples=2000)
settings.load_profile("seeded")

LME4 = json.loads((HERE / "data" / "lme4.json").read_text())


def pytest_configure(config):
    # PyTensor says so when it folds a constant in C on a machine without BLAS; the numba code doesn't use it.
    config.addinivalue_line("filterwarnings", "ignore:PyTensor could not link to a BLAS installation:UserWarning")


@pytest.fixture(scope="session", autouse=True)
def threads():
    """Workers beside each other share the cores: a BLAS thread each, or half of their time goes into waiting."""
    with threadpool_limits(1 if "PYTEST_XDIST_WORKER" in os.environ else None, user_api="blas"):
        yield


@pytest.fixture(scope="session", autouse=True)
def kernels(threads):
    """Both versions of the kernels, compiled by one worker while the others wait: it is what takes longest at first."""
    with FileLock(Path(gettempdir()) / "bayeslmm-tests-kernels.lock"):
        for groups in ("(1 | school/class)", "(1 | school) + (1 | class)"):
            LMM(f"Height ~ 1 + {groups}", read_data("heights")).ml()


@cache
def read_data(name: str) -> pd.DataFrame:
    """One table of the gallery (or of tests/data)."""
    paths = [folder / f"{name}.csv{end}" for folder in (HERE / "data", GALLERY) for end in ("", ".gz")]
    data = pd.read_csv(next(path for path in paths if path.exists()))
    return data.astype({"service": "str"}) if name == "insteval" else data  # a factor in the reference


@cache
def fitted_model(formula: str, data: str) -> LMM:
    """One model per formula and table for the whole session; it keeps its fits."""
    return LMM(formula, read_data(data))


@pytest.fixture(scope="session")
def heights2() -> LMM:
    """The thread's two-level model: pupils in classes."""
    return fitted_model("Height ~ 1 + (1 | class)", "heights")


@pytest.fixture(scope="session")
def heights3() -> LMM:
    """The thread's three-level model: pupils in classes in schools."""
    return fitted_model("Height ~ 1 + (1 | school/class)", "heights")


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium for the interactive pages."""
    from tests.browser import CHROMIUM, Browser

    if not CHROMIUM:
        pytest.skip("There is no Chromium here: the pages' numbers are not looked at.")
    opened = Browser()
    yield opened
    opened.close()
