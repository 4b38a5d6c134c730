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

# Bottom to top: a module imports only what stands above it in this list.
ORDER = [
    *("cachefolder", "errors", "files", "arguments", "progress", "threads", "descent", "tokens"),
    *("calls", "grammar", "formula"),
    *("tomltext", "known", "levels", "hierarchy"),
    *("distributions", "prior", "anchors", "defaults", "deviations", "priors", "schema", "modelfile"),
    *("frame", "grouping", "collinear", "columns", "checks", "residualwords", "structure", "residual", "rows"),
    *("design", "parameters", "basis", "plan", "memory", "layout", "blocks", "statistics"),
    *("compiling", "lapack", "tail", "elimination", "backsolve", "kernel", "factor", "density"),
    *("criterion", "search", "surface", "profile", "likelihood", "collapsed", "proposal", "independence"),
    *("op", "symbolic", "mixednormal", "variables", "scaling", "joint", "marginal"),
    *("trust", "agreement", "mode_check", "sampling"),
    *("show", "draws", "prediction", "predictive", "implied", "sensitivity", "explain"),
    *("matrices", "henderson", "equations", "family", "equivalence", "lmm"),
    *("marginals", "words", "tables", "comparison", "plots", "report"),
    *("cli", "__main__"),
]

# The ways back up, all of them inside a function: an object offers what is done with it (read, show, draw).
UPWARD = {
    ("hierarchy", "modelfile"),
    ("likelihood", "show"),
    ("likelihood", "prediction"),
    ("comparison", "plots"),
    ("implied", "plots"),
    ("comparison", "report"),
    ("words", "comparison"),
    ("comparison", "tables"),
}

PYMC = {"op", "symbolic", "mixednormal", "variables", "scaling", "joint", "marginal", "sampling"}
HEAVY = {"pymc", "pytensor", "nutpie", "matplotlib", "arviz", "arviz_plots", "arviz_stats", "arviz_base"}


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@cache
def imports(module: str) -> list[tuple[str, bool]]:
    """(name, whether at the module's top level) of everything imported at run time; hints don't count."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, top: bool) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other, top)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import; write from bayeslmm.x import y"
            if node.module == "bayeslmm":
                found.extend((f"bayeslmm.{alias.name}", top) for alias in node.names)
            else:
                found.append((node.module or "", top))
        inside = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8")), True)
    return found


def own(module: str) -> list[tuple[str, bool]]:
    """The imports from the package itself, by their short names."""
    return [(name.split(".")[1], top) for name, top in imports(module) if name.startswith("bayeslmm.")]


def test_every_module_has_its_place():
    assert len(ORDER) == len(set(ORDER))
    assert not [name for name in modules() if name not in ORDER], "give them a place in ORDER"


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module):
    place = {name: k for k, name in enumerate(ORDER)}
    for name, top in own(module):
        if name in place and ((module, name) not in UPWARD or top):
            assert place[name] < place[module], f"{module} imports {name}, which stands after it"


@pytest.mark.parametrize("module", [name for name in modules() if name not in PYMC])
def test_only_the_pymc_models_import_pymc(module):
    wrong = {"pymc", "pytensor", "nutpie"} & {name.split(".")[0] for name, _ in imports(module)}
    assert not wrong


@pytest.mark.parametrize("module", [name for name in modules() if name not in PYMC])
def test_nothing_heavy_at_the_top_of_a_module(module):
    assert not {name.split(".")[0] for name, top in imports(module) if top} & HEAVY
    assert not {name for name, top in own(module) if top} & PYMC


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
