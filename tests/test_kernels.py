"""What was compiled from one source of the kernels is never used with another."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bayeslmm

PACKAGE = Path(bayeslmm.__file__).parent
FOLDER = PACKAGE / "factorisation" / "kernels"
DECORATORS = {"njit", "inner", "inlined"}


def imports(path: Path) -> dict[str, set[str]]:
    """Module of this package -> the names that a file imports from it when it is run."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bayeslmm."):
            found[node.module.removeprefix("bayeslmm.")] = {name.name for name in node.names}
    return found


def test_all_that_is_compiled_stands_in_one_folder():
    """Its files are what is hashed."""
    compiling = "factorisation.kernels.compiling"
    compiled = {path for path in PACKAGE.rglob("*.py") if DECORATORS & imports(path).get(compiling, set())}
    assert {path.parent for path in compiled} == {FOLDER}


def test_that_folder_needs_no_other():
    needed = {(path.stem, name) for path in FOLDER.glob("*.py") for name in imports(path)}
    others = {(path, name) for path, name in needed if not name.startswith("factorisation.kernels.")}
    # what keeps them on disk is not compiled itself
    assert all(path == "compiling" and name.startswith("support.") for path, name in others)


def run(folder: Path, code: str) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_change_of_any_of_them_is_one_of_all(tmp_path):
    """A caller's own file stays as it is, and so does its date: what it calls has changed."""
    shutil.copytree(PACKAGE, tmp_path / "bayeslmm", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "caller.py").write_text(
        "from bayeslmm.factorisation.kernels.compiling import njit\n"
        "from bayeslmm.factorisation.kernels.elimination import b_offsets\n"
        "@njit\n"
        "def call(chain):\n"
        "    return b_offsets(chain, 2)[0]\n"
    )
    code = (
        "import numpy as np, caller; from bayeslmm.factorisation.kernels.compiling import kernel_version\n"
        "print(caller.call(np.zeros((0, 13), np.int64)), sum(caller.call.stats.cache_hits.values()), kernel_version())"
    )
    fresh, kept = run(tmp_path, code).split(), run(tmp_path, code).split()
    assert (fresh[:2], kept[:2], fresh[2]) == (["0", "0"], ["0", "1"], kept[2])
    source = tmp_path / "bayeslmm" / "factorisation" / "kernels" / "elimination.py"
    source.write_text(source.read_text().replace("    return offsets\n", "    return offsets + 7\n"))
    changed = run(tmp_path, code).split()
    assert changed[:2] == ["7", "0"]
    assert changed[2] != kept[2]
