"""TOML as text: the line of each key, what makes it malformed, and values written."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayeslmm.errors import DescriptionError

MOST_KEYS = 10_000
_DEEPEST = 60
_TOO_DEEP = "brackets are nested too deep; a description has at most two in each other"
_KEY = re.compile(r"""^[ \t]*+(?:\[\[?[\w"'. -]++\]|[\w"'. -]++=)""", re.MULTILINE)
_DEEP_KEY = re.compile(r"""^[ \t[]*+(?:(?:"[^"\n]*"|'[^'\n]*'|[\w-]++)[ \t]*+\.[ \t]*+){50}""", re.MULTILINE)


def load(path: Path, text: str) -> dict[str, Any]:
    """Read a TOML text; whatever is wrong with it is a DescriptionError with the file and the line.

    Examples
    --------
    >>> load(Path("a.toml"), 'title = "a"')
    {'title': 'a'}
    """
    if sum(1 for _ in _KEY.finditer(text)) > MOST_KEYS:
        raise DescriptionError(f"{path}: more than {MOST_KEYS:,} keys and tables; a description has a few dozen")
    if deep := _DEEP_KEY.search(text):
        line = text.count("\n", 0, deep.end()) + 1
        raise DescriptionError(f"{path}, line {line}: a key of more than 50 parts; a description has none of these")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DescriptionError(malformed(path, text, error)) from None
    except RecursionError:
        raise DescriptionError(f"{path}: {_TOO_DEEP}") from None
    except ValueError:  # Python reads no whole number of more digits
        raise DescriptionError(f"{path}: a number has more than 4,300 digits; write a shorter one") from None
    waiting: list[tuple[Any, int]] = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:  # how deep Python itself reads depends on who has set its limit
            raise DescriptionError(f"{path}: {_TOO_DEEP}")
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise DescriptionError(f"{path}: a whole number has more than 308 digits; write a shorter one")
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        waiting += [(one, depth + 1) for one in inner]
    return content


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


def where(path: Path, lines: Mapping, place: tuple[str | int, ...]) -> str:
    """Say the file and the line of a key, or of the nearest table around it.

    Examples
    --------
    >>> where(Path("a.toml"), {("priors",): 3}, ("priors", "sigma"))
    'a.toml, line 3'
    """
    while place and place not in lines:
        place = place[:-1]
    return f"{path}, line {lines.get(place, 1)}"


def malformed(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    """Say where a TOML text goes wrong; older Pythons have the place only in the message."""
    message = str(error)
    place = re.search(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)", message)
    line = int(place[1]) if place and place[1] else max(1, len(text.rstrip().splitlines()))
    column = int(place[2]) if place and place[2] else None
    reason = message[: place.start()] if place else message
    lines = text.splitlines() or [""]
    shown = lines[min(line, len(lines)) - 1]
    start = max(0, (column or 1) - 90)
    shown = shown[start : start + 110]
    caret = f"\n    {' ' * (column - 1 - start)}^" if column else ""
    at = f"line {line}, column {column}" if column else f"line {line} (end of the file)"
    return (
        f"{path}, {at}: malformed TOML: {reason}. A line has the form key = value, a text stands in quotes"
        f"\n    {shown}{caret}"
    )


def toml_value(value: Any) -> str:
    r"""Write a text, a truth, a number, or lists and tables of these as TOML.

    Examples
    --------
    >>> print(toml_value({"file": "A.mtx", "labels": ['say "a"', "b"]}))
    {file = "A.mtx", labels = ["say \"a\"", "b"]}
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):  # TOML escapes as JSON does, and wants DEL escaped as well
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(x)}" for key, x in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return repr(float(value))


def toml_key(key: str) -> str:
    """Write a key, in quotes where it is more than a plain word.

    Examples
    --------
    >>> toml_key("sigma_u2"), toml_key("beta[x]")
    ('sigma_u2', '"beta[x]"')
    """
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)
