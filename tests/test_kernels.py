"""What was compiled from one source of the kernels is never used with another."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bayeslmm
from bayeslmm.compiling import KERNELS

PACKAGE = Path(bayeslmm.__file__).parent
DECORATORS = {"njit", "inner", "inlined"}


def imports(path: Path) -> dict[str, set[str]]:
    """Module of this package -> the names that a file imports from it when it is run."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bayeslmm."):
            found[node.module.removeprefix("bayeslmm.")] = {name.name for name in node.names}
    return found


def test_every_file_that_is_compiled_counts():
    compiled = {p.stem for p in PACKAGE.glob("*.py") if DECORATORS & imports(p).get("compiling", set())}
    assert compiled <= set(KERNELS)


def test_so_does_all_that_those_files_import():
    for name in KERNELS:
        assert set(imports(PACKAGE / f"{name}.py")) <= set(KERNELS), name


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
        "from bayeslmm.compiling import njit\n"
        "from bayeslmm.elimination import b_offsets\n"
        "@njit\n"
        "def call(chain):\n"
        "    return b_offsets(chain, 2)[0]\n"
    )
    code = (
        "import numpy as np, caller; from bayeslmm.compiling import kernel_version\n"
        "print(caller.call(np.zeros((0, 13), np.int64)), sum(caller.call.stats.cache_hits.values()), kernel_version())"
    )
    fresh, kept = run(tmp_path, code).split(), run(tmp_path, code).split()
    assert (fresh[:2], kept[:2], fresh[2]) == (["0", "0"], ["0", "1"], kept[2])
    source = tmp_path / "bayeslmm" / "elimination.py"
    source.write_text(source.read_text().replace("    return offsets\n", "    return offsets + 7\n"))
    changed = run(tmp_path, code).split()
    assert changed[:2] == ["7", "0"]
    assert changed[2] != kept[2]
