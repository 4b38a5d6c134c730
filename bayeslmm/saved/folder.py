"""A folder of files that is written whole or not at all, with a manifest that anything read must agree with.

The files are written into a folder beside, forced to disk, read again, and moved into place in one step. The manifest
finds damage, such as a bit that flipped; it is no signature, and whoever rewrites all of a folder can rewrite it too.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from bayeslmm.errors import SavedError
from bayeslmm.support.files import show_path

MANIFEST = "manifest.json"
FORMAT = "bayeslmm saved model"
VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST_MANIFEST = 1_000_000  # bytes
_AGAIN = "Save the model again, or take the folder from a copy."


def write_folder(
    folder: Path,
    files: Mapping[str, bytes],
    about: Mapping[str, Any],
    *,
    overwrite: bool = False,
    check: Callable[[Path], Any] = lambda part: None,
) -> None:
    """Write files into a folder, all of them or none.

    Parameters
    ----------
    folder : Path
        Must not exist, unless `overwrite`: then a saved model there is replaced once the new one is whole.
    files : mapping of name to content
    about : mapping
        What else the manifest says, as JSON has it.
    overwrite : bool
    check : function of a path
        Reads the files where they are before they are moved; what it raises stops the writing.

    Raises
    ------
    SavedError
        Where the folder exists or can't be written, at the path that failed.
    """
    check_target(folder, overwrite)
    part = folder.with_name(f".{folder.name[:60]}.{secrets.token_hex(6)}.part")
    try:
        with _blamed(folder):
            part.mkdir()
            for name, content in files.items():
                _write(part / name, content, folder / name)
            _write(part / MANIFEST, _manifest(files, about), folder / MANIFEST)
            _sync_folder(part)
        check(part)
        with _blamed(folder):
            _move(part, folder, overwrite)
            _sync_folder(folder.parent)
    finally:
        _remove(part)


def read_folder(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Read the files of a folder after its manifest: (content by name, what else the manifest says).

    Raises
    ------
    SavedError
        At the file that is missing, too many, damaged, or no ordinary file.
    """
    _require_folder(folder)
    said = _read_manifest(folder / MANIFEST)
    with _blamed(folder):
        found = sorted(os.listdir(folder))
    if extra := [name for name in found if name not in said["files"] and name != MANIFEST]:
        raise SavedError(
            f"{show_path(folder / extra[0])}: the manifest of this saved model has no such file. Move it elsewhere; a "
            "saved model is read only where its folder holds what was saved, and nothing else."
        )
    contents = {}
    for name, of in said["files"].items():
        content = _read(folder / name, of["bytes"])
        if sha256(content).hexdigest() != of["sha256"]:
            raise SavedError(f"{show_path(folder / name)}: damaged: its SHA-256 is not the one in {MANIFEST}. {_AGAIN}")
        contents[name] = content
    return contents, said["about"]


def check_target(folder: Path, overwrite: bool) -> None:
    """Make sure that a folder may be written; of what is there, only a saved model may be replaced.

    Raises
    ------
    SavedError
    """
    shown = show_path(folder)
    if folder.name in ("", ".", ".."):
        raise SavedError(f"{shown!r} names no new folder; write one such as {show_path(folder / 'model')!r}.")
    with _blamed(folder):
        if not folder.parent.is_dir():
            raise SavedError(f"{shown}: there is no folder {show_path(folder.parent)}. Make it first.")
        if not os.path.lexists(folder):
            return
        if folder.is_symlink() or not folder.is_dir():
            raise SavedError(f"{shown}: exists and is no folder. Write another name.")
        if not overwrite:
            raise SavedError(
                f"{shown}: exists already. Write another name, or overwrite=True to replace the saved model in it."
            )
        found = os.listdir(folder)
    own = {MANIFEST, *_read_manifest(folder / MANIFEST)["files"]} if MANIFEST in found else set()
    if odd := [name for name in sorted(found) if name not in own]:
        raise SavedError(
            f"{shown}: is not replaced, as it is no saved model: it holds {odd[0]!r}. Write another name, or remove it."
        )


# writing -----------------------------------------------------------------------------------------------------------


def _write(path: Path, content: bytes, named: Path) -> None:
    """Write a new file, and force it to disk; an error names it as it will be called."""
    with _blamed(named), open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _manifest(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    """What is in the folder, with its own hash at the end: not one byte may differ."""
    said = {
        "format": FORMAT,
        "version": VERSION,
        "about": dict(about),
        "files": {
            name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            for name, content in sorted(files.items())
        },
    }
    return _with_hash(said)


def _with_hash(said: dict[str, Any]) -> bytes:
    own = sha256(json.dumps(said).encode("ascii")).hexdigest()
    return (json.dumps(said | {"sha256": own}, indent=1) + "\n").encode("ascii")


def _move(part: Path, folder: Path, overwrite: bool) -> None:
    """Move the new folder into place; an old one steps aside for it, and comes back where that fails."""
    old = part.with_suffix(".old")
    try:
        if overwrite and folder.exists():
            os.rename(folder, old)
        os.rename(part, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise
    finally:
        if folder.exists():
            _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder, also where the first try is interrupted."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Force a folder's list of files to disk, where a system has a call for it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


@contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Context in which an error of the system becomes one of this project that names the path."""
    try:
        yield
    except OSError as error:
        raise SavedError(f"{show_path(path)}: {error.strerror or error}.") from error
    except ValueError as error:
        raise SavedError(f"the path {show_path(path)!r} has a character that no path can have.") from error


# reading -----------------------------------------------------------------------------------------------------------


def _require_folder(folder: Path) -> None:
    shown = show_path(folder)
    with _blamed(folder):
        if folder.is_dir():
            if (folder / MANIFEST).exists() or (folder / MANIFEST).is_symlink():
                return
            raise SavedError(f"{shown}: is no saved model: it has no {MANIFEST}. {_nearby(folder)}".rstrip())
        if folder.exists():
            raise SavedError(f"{shown}: is no folder; a saved model is the folder that lmm.save(folder) wrote.")
    raise SavedError(f"there is no folder {shown}. {_nearby(folder)}".rstrip())


def _nearby(folder: Path) -> str:
    """A saved model that had to step aside and never came back, as the process was killed in between."""
    with suppress(OSError):
        for other in sorted(folder.parent.glob(".*.old")):
            if other.name.startswith(f".{folder.name[:60]}.") and (other / MANIFEST).exists():
                return f"The saved model that was being replaced is {show_path(other)}: rename it."
    return ""


def _read_manifest(path: Path) -> dict[str, Any]:
    content = _read(path, _MOST_MANIFEST, exactly=False)
    try:
        said = json.loads(content.decode("ascii"))
        files = said["files"]
        rest = {key: value for key, value in said.items() if key != "sha256"}
        whole = said["format"] == FORMAT and _with_hash(rest) == content
        sound = all(
            _NAME.fullmatch(name) and set(of) == {"bytes", "sha256"} and isinstance(of["bytes"], int)
            for name, of in files.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = sound = False
    if not whole or not isinstance(said["about"], dict):
        raise SavedError(f"{show_path(path)}: damaged, or not the manifest of a saved model. {_AGAIN}")
    if said["version"] != VERSION:
        raise SavedError(
            f"{show_path(path)}: is of format {said['version']}; this bayeslmm reads format {VERSION}. Load it with "
            f"bayeslmm {said['about'].get('versions', {}).get('bayeslmm', 'that wrote it')}."
        )
    if not sound:
        raise SavedError(f"{show_path(path)}: names files that a saved model cannot have. {_AGAIN}")
    return said


def _read(path: Path, size: int, exactly: bool = True) -> bytes:
    """Read an ordinary file of a known size; a link, a folder, a pipe are refused, and never followed."""
    shown = show_path(path)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise SavedError(f"{shown}: is no ordinary file, but a link, a folder or a device. {_AGAIN}")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            has = os.fstat(file.fileno()).st_size
            if has > size or (exactly and has != size):
                raise SavedError(
                    f"{shown}: damaged: it has {has:,} bytes, and {size:,} {'were' if exactly else 'at most are'} "
                    f"expected. {_AGAIN}"
                )
            return file.read()
    except FileNotFoundError:
        raise SavedError(f"{shown}: is missing, although the manifest of the saved model has it. {_AGAIN}") from None
    except OSError as error:
        raise SavedError(f"{shown}: cannot be read: {error.strerror or error}.") from error
