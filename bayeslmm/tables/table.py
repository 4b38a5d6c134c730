"""A table of results that says what its intervals mean: text, HTML in a notebook, a frame for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from textwrap import wrap

import numpy as np
import pandas as pd

from bayeslmm.errors import visible
from bayeslmm.support import html
from bayeslmm.support.text import aligned, decimals, format_column, number

WIDTH = 100
SAID = "interval"  # the column that says what each row's interval is


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Results as a frame, with what they are and how far to trust them.

    Attributes
    ----------
    frame : pandas.DataFrame
        The numbers, unrounded. Columns "estimate", "sd" and those that end in " %" are in the units of their row; a
        column "interval" says what each row's interval is, and why where there is none (NaN).
    title : str
        What the table shows, in a line.
    note : str
        What its numbers mean, and what is doubtful about them.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimate": [1.25, 30.0], "sd": [0.5, 12.0]}, index=["a", "b"])
    >>> Table(frame=frame, title="Two numbers", note="Units of y.")
    Two numbers
       estimate     sd
    a     1.250  0.500
    b     30.0   12.0
    Units of y.
    """

    frame: pd.DataFrame
    title: str
    note: str = ""

    def to_pandas(self) -> pd.DataFrame:
        """Return the numbers as a frame of their own.

        Examples
        --------
        >>> table = Table(frame=pd.DataFrame({"estimate": [1.25]}, index=["a"]), title="A number")
        >>> table.to_pandas()["estimate"].tolist()
        [1.25]
        """
        return self.frame.copy()

    def __repr__(self) -> str:
        frame = self._shown(html.MOST)
        for name in frame.columns:
            if not self._words(name):
                frame[name] = _on_the_point(frame[name].tolist())
        plain = isinstance(self.frame.index, pd.RangeIndex)
        keys = [key if isinstance(key, tuple) else (key,) for key in frame.index]
        names = [] if plain else ["" if name is None else str(name) for name in frame.index.names]
        lines = [[*names, *map(str, frame.columns)]]
        lines += [
            [*([] if plain else map(str, key)), *row] for key, row in zip(keys, frame.to_numpy().tolist(), strict=True)
        ]
        sides = "<" * len(names) + "".join("<" if self._words(name) else ">" for name in frame.columns)
        flat = [[visible(cell).replace("\n", "\\n").replace("\t", "\\t") for cell in line] for line in lines]
        out = [*wrap(visible(self.title), WIDTH), *aligned(flat, sides)]
        if len(frame) < len(self.frame):
            out.append(f"... and {len(self.frame) - len(frame):,} rows more: .to_pandas() has them all")
        return "\n".join([*out, *(line for part in visible(self._said()).splitlines() for line in wrap(part, WIDTH))])

    def _repr_html_(self) -> str:
        frame = self._shown(html.MOST)
        plain = isinstance(self.frame.index, pd.RangeIndex)
        left_out = len(self.frame) - len(frame)
        more = html.paragraph(f"... and {left_out:,} rows more: .to_pandas() has them all") if left_out else ""
        body = html.scrolled(html.table(frame, index=not plain, most=None))
        return html.heading(self.title) + body + more + html.paragraph(self._said())

    def _words(self, column: str) -> bool:
        return not pd.api.types.is_numeric_dtype(self.frame[column])

    @property
    def _alike(self) -> str:
        """What every interval is, where all are the same; then a line says it once."""
        said = self.frame[SAID].unique() if SAID in self.frame else []
        return str(said[0]) if len(said) == 1 else ""

    def _said(self) -> str:
        return "\n".join(filter(None, [f"Interval: {self._alike}." if self._alike else "", self.note]))

    def _shown(self, most: int) -> pd.DataFrame:
        """The first rows as text: a row's own numbers with common decimals, other columns likewise."""
        frame = self.frame.drop(columns=[SAID]) if self._alike else self.frame
        frame = frame.iloc[:most]
        own = [name for name in frame.columns if name in ("estimate", "sd") or str(name).endswith(" %")]
        rows = [in_row(row, _spread(own, row)) for row in frame[own].to_numpy(dtype=float)]
        texts = {name: [row[k] for row in rows] for k, name in enumerate(own)}
        for name in frame.columns:
            if name in texts:
                continue
            values = frame[name]
            if pd.api.types.is_integer_dtype(values):
                texts[name] = list(map(str, values))
            elif pd.api.types.is_float_dtype(values):
                texts[name] = _in_column(values.to_numpy())
            else:
                texts[name] = list(map(str, values))
        return pd.DataFrame({name: texts.get(name, []) for name in frame.columns}, index=frame.index, dtype=object)


def _spread(columns: Sequence[str], row: np.ndarray) -> float:
    """What the decimals of a row's numbers follow: its SD, or a quarter of its interval, or NaN."""
    found = dict(zip(columns, row.tolist(), strict=True))
    ends = [value for name, value in found.items() if str(name).endswith(" %")]
    width, sd = (max(ends) - min(ends)) / 4 if ends else np.nan, found.get("sd", np.nan)
    return sd if sd > 0 and not sd < 0.01 * width else width


def in_row(values: np.ndarray, spread: float) -> list[str]:
    """Numbers with three digits of their uncertainty; four digits where there is none, nothing for NaN.

    Examples
    --------
    >>> in_row(np.array([251.4051, 6.8246, np.nan]), 6.8246), in_row(np.array([0.012345]), np.nan)
    (['251.41', '6.82', ''], ['0.01235'])
    """
    if not (isfinite(spread) and spread > 0):
        return ["" if np.isnan(x) else number(x, 4) for x in values]
    places = decimals(spread) + 1

    def write(x: float) -> str:
        if np.isnan(x):
            return ""
        if places > 7 or abs(x) >= 1e7 or not isfinite(x):
            digits = 3 if x == 0 or not isfinite(x) else max(3, floor(log10(abs(x))) + places + 1)
            return f"{x:.{min(digits, 15)}g}"
        text = f"{x:.{places}f}"
        return text.removeprefix("-") if float(text) == 0 else text

    return [write(float(x)) for x in values]


def _in_column(values: np.ndarray) -> list[str]:
    """Numbers with common decimals, and nothing for NaN; what these would make 0, though it is more than rounding.

    Examples
    --------
    >>> _in_column(np.array([0.75, 0.25, 3.5e-6, 1e-17, np.nan]))
    ['0.7500', '0.2500', '3.5e-06', '0.0000', '']
    """
    finite = np.abs(values[np.isfinite(values)])
    least = 1e-9 * finite.max(initial=0.0)
    shown = format_column(np.where(np.abs(values) < least, 0.0, values), digits=4)
    return [
        "" if not isfinite(x) else f"{x:.2g}" if abs(x) > least and float(text) == 0 else text
        for text, x in zip(shown, values.tolist(), strict=True)
    ]


def _on_the_point(column: list[str]) -> list[str]:
    """Numbers padded on the right, so that right-aligned their points stand in a line."""
    after = [0 if "e" in text else len(text.partition(".")[2]) + ("." in text) for text in column]
    wide = max(after, default=0)
    return [
        text + " " * (wide - n) if text and "e" not in text else text for text, n in zip(column, after, strict=True)
    ]
