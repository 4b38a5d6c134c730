"""Plain tables in markdown, and what they were made on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with so many significant digits, without exponents where they aren't needed.

    Examples
    --------
    >>> number(1234.5), number(0.01234), number(None), number(3e-13), number(float("inf"))
    ('1,234', '0.0123', '', '3e-13', 'inf')
    """
    if value is None:
        return ""
    if value == 0 or abs(value) < 1e-5 or value != value or abs(value) == float("inf"):
        return f"{value:.1g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{float(f'{value:.{digits}g}'):.10g}"


def times(value: float | None) -> str:
    """Write a ratio: "12.3 x"."""
    return "" if value is None else f"{number(value)} x"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Make a markdown table, its columns padded so that it is legible as it is.

    Examples
    --------
    >>> print(table("Ages", ["name", "age"], [["Ann", "9"], ["Bo", "10"]]))
    ### Ages
    <BLANKLINE>
    | name | age |
    |------|----:|
    | Ann  |   9 |
    | Bo   |  10 |
    <BLANKLINE>
    """
    rows = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    textual = [
        j == 0 or any(cell and not (cell.lstrip("-")[:1].isdigit() or cell == "inf") for cell in column)
        for j, column in enumerate(zip(*rows, strict=True) if rows else [()] * len(header))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if t else c.rjust(w) for c, w, t in zip(cells, widths, textual, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if t else "-" * (w + 1) + ":" for w, t in zip(widths, textual, strict=True))
    body = [f"### {title}", "", line(header), f"|{rule}|", *map(line, rows), "", *notes]
    return "\n".join(body) + ("\n" if notes else "")


def processor() -> str:
    """Name of the processor."""
    try:
        for entry in Path("/proc/cpuinfo").read_text().splitlines():
            if entry.startswith("model name"):
                return entry.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """Date, machine and versions of what everything stands on."""
    packages = ("bayeslmm", "numpy", "scipy", "numba", "pymc", "pytensor", "nutpie", "arviz")
    found = []
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {processor()}, {platform.system()} {platform.machine()}{load}",
        "versions": f"Python {platform.python_version()}, {', '.join(found)}",
    }


def preamble(facts: dict[str, str]) -> str:
    """Write the facts above the tables."""
    return "\n".join(f"- {key}: {value}" for key, value in facts.items()) + "\n"
