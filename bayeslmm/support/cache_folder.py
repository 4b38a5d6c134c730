"""Where PyTensor keeps what it compiles: a temporary folder where the user's home can't be written."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path


def prepare() -> None:
    """Before PyTensor is imported: unless it is told where to compile, or may write its default folder, tell it.

    numba finds a folder by itself, or compiles in every process; PyTensor can't do without one.
    """
    if "compiledir" in os.environ.get("PYTENSOR_FLAGS", "") or "pytensor" in sys.modules:
        return
    folder = Path(os.path.expanduser("~")) / ".pytensor"
    if "PYTENSORRC" in os.environ or _writable(folder):
        return
    made = tempfile.mkdtemp(prefix="bayeslmm-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    given = os.environ.get("PYTENSOR_FLAGS")
    os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, [given, f"base_compiledir={made}"]))
    print(
        f"bayeslmm: {folder} cannot be written; what PyMC models compile is kept in a temporary folder, for this "
        "process only. PYTENSOR_FLAGS=base_compiledir=FOLDER names a lasting one.",
        file=sys.stderr,
    )


def _writable(folder: Path) -> bool:
    """Whether a folder can be written, or made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
