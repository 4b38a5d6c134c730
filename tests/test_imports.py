"""One direction of imports, and a light start: PyMC is for PyMC models, plots are for plots."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import bayeslmm

PACKAGE = Path(bayeslmm.__file__).parent

KERNELS = "factorisation.kernels"

# Bottom to top: a folder, or a file at the top, imports only what stands before it in this list, type hints included.
# The kernels are a floor of their own: they import nothing but `support`, and known matrices need them too.
ORDER = [
    *("errors", "support", KERNELS, "distributions", "data", "covariances", "families"),
    *("formula", "description", "design", "sources", "priors"),
    *("factorisation", "likelihood", "integration", "model", "link_model", "pymc_models", "posterior", "tables"),
    "predictions",
    "criticism",
    "pictures",
    *("comparison", "theory", "report", "saved", "sums"),
    *("faces", "lmm", "glmm", "described", "loading", "gallery", "cli", "__main__"),
]

PYMC = {"pymc_models"}
HEAVY = {"pymc", "pytensor", "nutpie", "matplotlib", "arviz", "arviz_plots", "arviz_stats", "arviz_base"}


def modules() -> list[str]:
    """Names of all files but those that only say what their folder is: "design.design"."""
    files = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(file.parts) for file in files if file.name != "__init__")


def folder(module: str) -> str:
    return KERNELS if module.startswith(f"{KERNELS}.") else module.split(".")[0]


@cache
def imports(module: str) -> list[tuple[str, str]]:
    """(name, when: "at once", "when called" or "never", for hints) of everything imported."""
    found: list[tuple[str, str]] = []

    def visit(node: ast.AST, when: str) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import; write from bayeslmm.x import y"
            where = node.module or ""
            inside = PACKAGE.parent / where.replace(".", "/")
            found.extend((f"{where}.{alias.name}" if inside.is_dir() else where, when) for alias in node.names)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            when = "never"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            when = "when called"
        for child in ast.iter_child_nodes(node):
            visit(child, when)

    path = PACKAGE / f"{module.replace('.', '/')}.py"
    visit(ast.parse(path.read_text(encoding="utf-8")), "at once")
    return found


def own(module: str) -> list[tuple[str, str]]:
    """The imports from the package itself, without its name."""
    return [(name.removeprefix("bayeslmm."), when) for name, when in imports(module) if name.startswith("bayeslmm.")]


def test_every_folder_has_its_place():
    assert {folder(module) for module in modules()} == set(ORDER)


@pytest.mark.parametrize("place", ORDER)
def test_imports_go_one_way(place):
    below = {*ORDER[: ORDER.index(place)], place, "__version__"}
    for module in modules():
        if folder(module) == place:
            up = [name for name, _ in own(module) if folder(name) not in below]
            assert not up, f"{module} imports {up}, which stand above it"


def test_inside_a_folder_only_doors_and_hints_go_both_ways():
    """At the top of files there is no circle: a module that is imported later opens its door in a function."""
    needs = {module: {name for name, when in own(module) if when == "at once"} for module in modules()}
    while ready := [module for module, names in needs.items() if not names & needs.keys()]:
        for module in ready:
            del needs[module]
    assert not needs, "a circle among these"


@pytest.mark.parametrize("module", [name for name in modules() if folder(name) not in PYMC])
def test_only_the_pymc_models_import_pymc(module):
    allowed = {"posterior.nuts": {"nutpie", "pymc", "pytensor"}, "posterior.link_nuts": {"nutpie", "pymc"}}.get(
        module, set()
    )
    wrong = {"pymc", "pytensor", "nutpie"} & {folder(name) for name, when in imports(module) if when != "never"}
    assert wrong <= allowed


@pytest.mark.parametrize("module", [name for name in modules() if folder(name) not in PYMC])
def test_nothing_heavy_at_the_top_of_a_module(module):
    assert not {folder(name) for name, when in imports(module) if when == "at once"} & HEAVY
    assert not {name for name, when in own(module) if when == "at once" and folder(name) in PYMC}


SCRIPTS = {
    "import": "import bayeslmm",
    "names": "from bayeslmm import LMM, Hierarchy, Level, Prior, Residual, density, errors",
    "ML and REML": """
import bayeslmm as blm
lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
lmm.ml().ranef, lmm.reml().fixef, lmm.Z, lmm.priors, lmm.describe()
""",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_heavy_import_before_it_is_needed(script):
    code = SCRIPTS[script] + f"\nimport sys\nprint(sorted({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_importing_the_package_imports_nothing_else():
    """Not even NumPy: what is needed comes with the first name that is used."""
    code = "import sys, bayeslmm\nprint(sorted({'numpy', 'pandas', 'scipy', 'numba'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.stdout.strip() == "[]"


def test_a_small_nested_posterior_needs_little_of_scipy():
    """SciPy's packages take longer to import than such a posterior takes to sample; numba itself needs scipy.linalg."""
    code = """
import sys
import bayeslmm as blm
lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
lmm.ml(), lmm.reml(), lmm.sample(draws=100, progress=False)
print(sorted({"scipy.optimize", "scipy.sparse", "scipy.special", "scipy.stats"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
