"""Where results go, looked at before the long work."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bayeslmm.cli.arguments import UsageError
from bayeslmm.errors import DescriptionError, SavedError


def writable_file(out: Path, suffixes: set[str], kind: str) -> Path:
    """Make sure, before the long work, that its result can be saved."""
    if out.suffix.lower() not in suffixes:
        raise UsageError(f"--out is {out}. {kind}: write --out {out.with_suffix(min(suffixes, key=len))}.")
    if out.is_dir():
        raise DescriptionError(f"--out is the folder {out}; a file was expected, such as {out / 'result'}.")
    _require_writable(out)
    return out


def writable_folder(out: Path, overwrite: bool) -> Path:
    """The same for a saved model, which is a folder."""
    from bayeslmm.saved.folder import check_target

    if out.suffix.lower() in (".json", ".nc"):
        raise UsageError(f"--out is {out}. A fit is saved as a folder: write --out {out.with_suffix('')}.")
    _require_writable(out)
    try:
        check_target(out, overwrite)
    except SavedError as error:
        raise SavedError(str(error).replace("overwrite=True", "--overwrite")) from None
    return out


def _require_writable(out: Path) -> None:
    if not out.parent.is_dir():
        raise DescriptionError(f"--out is {out}, but there is no folder {out.parent}. Make it first.")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
        if out.exists() and not os.access(out, os.W_OK):
            raise PermissionError
    except OSError as error:
        reason = error.strerror or "it is read-only"
        raise DescriptionError(f"--out is {out}, which cannot be written: {reason}.") from None
