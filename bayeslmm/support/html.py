"""HTML for notebooks and reports: text, headings, lists and tables, in which every character of a label is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bayeslmm.errors import visible
from bayeslmm.support.text import number

if TYPE_CHECKING:
    import pandas as pd

MOST = 60  # rows of a table that are shown
_NUMBER = re.compile(r"[-+]?[\d.,]*(e[-+]?\d+)?|-?inf|nan")


def text(value: Any) -> str:
    """A text with what HTML, or a reader's line, would obey made visible.

    Examples
    --------
    >>> text("<b>&'")
    '&lt;b&gt;&amp;&#x27;'
    """
    return html.escape(visible(str(value)))


def heading(title: str) -> str:
    """A small heading."""
    return f"<h4>{text(title)}</h4>"


def paragraph(words: str, topic: str = "") -> str:
    """A paragraph, a line of it for each of the text; `topic` stands before it."""
    before = f"<strong>{text(topic)}</strong> " if topic else ""
    return f"<p>{before}{'<br>'.join(map(text, words.splitlines()))}</p>\n" if words or topic else ""


def bullets(items: Iterable[str] | Mapping[str, str]) -> str:
    """A list; of a mapping, "name: words" each."""
    lines = [f"{name}: {words}" for name, words in items.items()] if isinstance(items, Mapping) else list(items)
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>\n" if lines else ""


def table(frame: pd.DataFrame, *, index: bool = True, most: int | None = MOST, classes: str = "") -> str:
    """A table: numbers on the right, words on the left, headings of several levels over their columns.

    Parameters
    ----------
    frame : pandas.DataFrame
        Texts, or numbers, which get four digits.
    index : bool
        Whether to show the frame's index.
    most : int, optional
        Rows that are shown; how many are left out is said below.

    Examples
    --------
    >>> import pandas as pd
    >>> "<td>&lt;i&gt;</td>" in table(pd.DataFrame({"x": ["<i>"]})).replace(' style="text-align: left"', "")
    True
    """
    shown = frame if most is None else frame.iloc[:most]
    names = frame.index.nlevels if index else 0
    cells = [[_cell(x) for x in shown.iloc[:, j]] for j in range(shown.shape[1])]
    styles = ["" if all(map(_NUMBER.fullmatch, column)) else ' style="text-align: left"' for column in cells]
    keys = [key if isinstance(key, tuple) else (key,) for key in shown.index]
    body = []
    for i in range(len(shown)):
        left = "".join(f'<th style="text-align: left">{text(part)}</th>' for part in keys[i]) if index else ""
        line = "".join(f"<td{style}>{text(column[i])}</td>" for style, column in zip(styles, cells, strict=True))
        body.append(f"<tr>{left}{line}</tr>")
    head = _headings(frame, names, styles)
    css = f' class="{html.escape(classes)}"' if classes else ""
    left_out = len(frame) - len(shown)
    more = f"<p>... and {left_out:,} rows more</p>" if left_out else ""
    return f"<table{css}>\n<thead>{head}</thead>\n<tbody>{''.join(body)}</tbody>\n</table>\n{more}"


def scrolled(content: str) -> str:
    """Content that may be wider than the page."""
    return f'<div class="scroll" style="overflow-x: auto">{content}</div>\n'


def _headings(frame: pd.DataFrame, names: int, styles: list[str]) -> str:
    """A line for each level of the columns' names; the last one names the index too."""
    levels = frame.columns.nlevels
    keys = [key if isinstance(key, tuple) else (key,) for key in frame.columns]
    lines = []
    for k in range(levels):
        own = frame.index.names if k == levels - 1 else [None] * names
        line = [f'<th style="text-align: left">{"" if name is None else text(name)}</th>' for name in own[:names]]
        if k < levels - 1:
            for key, group in groupby(keys, lambda key: key[: k + 1]):  # noqa: B023 (used at once)
                wide = len(list(group))
                line.append(f'<th colspan="{wide}" style="text-align: center">{text(key[-1])}</th>')
        else:
            line += [f"<th{style}>{text(key[k])}</th>" for key, style in zip(keys, styles, strict=True)]
        lines.append(f"<tr>{''.join(line)}</tr>")
    return "".join(lines)


def _cell(value: Any) -> str:
    """A cell as text; nothing for NaN."""
    if isinstance(value, float):
        return "" if value != value else number(value, 4)
    return str(value)
