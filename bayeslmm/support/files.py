"""Files that a user names: read where they are ordinary files, and otherwise an error that says what they are."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bayeslmm.errors import DescriptionError, beside

_LONGEST_SHOWN = 120


def ordinary(path: Path) -> bool:
    """Say whether there is an ordinary file; False for a folder, a pipe or a device, and for what can be no path.

    Examples
    --------
    >>> ordinary(Path(__file__)), ordinary(Path("x" * 5000)), ordinary(Path("/dev"))
    (True, False, False)
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, what: str = "file") -> bytes:
    """Read a file; a pipe or a device is refused, because reading it might never end.

    Parameters
    ----------
    path : Path
    what : str
        What errors call it: "description file".

    Raises
    ------
    DescriptionError

    Examples
    --------
    >>> read_bytes(Path("none.csv"))
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: there is no file none.csv.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DescriptionError(f"{show_path(path)}: cannot be read as a file: it is a folder")
        if not stat.S_ISREG(mode):
            raise DescriptionError(
                f"{show_path(path)}: cannot be read as a file: it is a pipe or a device. Save its content as a file"
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DescriptionError(f"there is no {what} {show_path(path)}{beside(path)}") from None
    except ValueError as error:
        if isinstance(error, DescriptionError):
            raise
        raise DescriptionError(f"the path {show_path(path)!r} has a character that no path can have") from None
    except OSError as error:
        raise DescriptionError(f"{show_path(path)}: cannot be read as a file: {error.strerror}") from None


def read_text(path: Path, what: str = "file", content: bytes | None = None) -> str:
    """Read a file as text in UTF-8; `content` is what it holds, where that isn't what the file says itself."""
    content = read_bytes(path, what) if content is None else content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1}"
        raise DescriptionError(f"{show_path(path)}: not a text in UTF-8 ({where}); save it as UTF-8") from None


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file in one step: what was there before stays until the new one is whole.

    Parameters
    ----------
    path : Path
    write : function of a path
        Writes the content there, into a file beside it that is then moved.

    Raises
    ------
    OSError
        With the name of the file, also where the disk is full.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        write(part)
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):  # a folder that can't be written to has no such file
            part.unlink(missing_ok=True)


def show_path(path: Path) -> str:
    """Show a path, the end of a very long one only.

    Examples
    --------
    >>> show_path(Path("a.csv")), len(show_path(Path("a" * 5000)))
    ('a.csv', 123)
    """
    text = str(path)
    return text if len(text) <= _LONGEST_SHOWN else f"...{text[-_LONGEST_SHOWN:]}"
