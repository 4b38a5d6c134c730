"""Places in a TOML text: the line of each key, and of what makes it malformed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    r"""Find the line of every key and table of a TOML text.

    Examples
    --------
    >>> lines = key_lines('title = "a"\n[priors]\nsigma = "HalfNormal(sigma=1)"')
    >>> lines["priors", "sigma"]
    3
    """
    found: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    inside = ""
    part = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
    dotted = rf"\s*({part}(?:\s*\.\s*{part})*)\s*"
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside:
            if header := re.match(rf"\s*(\[\[?){dotted}\]", line):
                table = _split(header[2])
                if header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    found.setdefault(table, number)
                    table = (*table, counts[table])
                elif table[:1] in counts:
                    table = (table[0], counts[table[:1]], *table[1:])
                found.setdefault(table, number)
            elif key := re.match(rf"{dotted}=", line):
                path = (*table, *_split(key[1]))
                for end in range(len(table) + 1, len(path) + 1):
                    found.setdefault(path[:end], number)
        for mark in re.findall(r'"""|' + r"'''", line):
            inside = "" if mark == inside else (inside or mark)
    return found


def _split(dotted: str) -> tuple[str | int, ...]:
    parts = re.findall(r""""[^"]*"|'[^']*'|[\w-]+""", dotted)
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in parts)


def malformed(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    """Say where a TOML text goes wrong; older Pythons have the place only in the message."""
    message = str(error)
    place = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)", message)
    line = int(place[1]) if place and place[1] else max(1, len(text.rstrip().splitlines()))
    column = int(place[2]) if place and place[2] else None
    reason = message[: place.start()] if place else message
    shown = (text.splitlines() or [""])[min(line, len(text.splitlines()) or 1) - 1]
    caret = f"\n    {' ' * (column - 1)}^" if column else ""
    at = f"line {line}, column {column}" if column else f"line {line} (end of the file)"
    return (
        f"{path}, {at}: malformed TOML: {reason}. A line has the form key = value, a text stands in quotes"
        f"\n    {shown}{caret}"
    )
