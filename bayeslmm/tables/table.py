"""A table of results that says what its numbers mean: text in a terminal, HTML in a notebook, a frame for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import fill

import pandas as pd

from bayeslmm.errors import visible

WIDTH = 100
MOST = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Results as a frame, with what they are and how far to trust them.

    Attributes
    ----------
    frame : pandas.DataFrame
        The numbers, unrounded.
    title : str
        What the table shows, in a line.
    note : str
        What its numbers mean, and what is doubtful about them.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimate": [1.25, 30.0], "sd": [0.5, 12.0]}, index=["a", "b"])
    >>> Table(frame=frame, title="Two numbers", note="Units of y.").to_pandas()["sd"].tolist()
    [0.5, 12.0]
    """

    frame: pd.DataFrame
    title: str
    note: str

    def to_pandas(self) -> pd.DataFrame:
        """Return the numbers as a frame of their own.

        Examples
        --------
        >>> Table(frame=pd.DataFrame({"estimate": [1.25]}), title="A number", note="").to_pandas().size
        1
        """
        return self.frame.copy()

    def __repr__(self) -> str:
        text = self.frame.to_string(max_rows=MOST, float_format=lambda x: f"{x:.5g}")
        note = "\n".join(fill(line, WIDTH) for line in self.note.splitlines())
        return visible(f"{self.title}\n{text}\n{note}")

    def _repr_html_(self) -> str:
        table = self.frame.to_html(max_rows=MOST, float_format=lambda x: f"{x:.5g}", border=0)
        note = "".join(f"<p>{escape(line)}</p>" for line in self.note.splitlines())
        return f"<h4>{escape(self.title)}</h4>{table}{note}"
