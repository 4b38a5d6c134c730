"""What a part of a report is: a heading, what it shows, tables and pictures, and how far to trust them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bayeslmm.errors import BayesLMMError
from bayeslmm.support import html
from bayeslmm.support.page import picture

if TYPE_CHECKING:
    from bayeslmm.tables.table import Table


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a report.

    Attributes
    ----------
    title : str
    shows : str
        What is to be seen in it.
    trust : str
        How far to trust it.
    body : str
        HTML.
    """

    title: str
    shows: str
    trust: str
    body: str

    @property
    def content(self) -> str:
        """The HTML below the title."""
        trust = f'<p class="note"><strong>How far to trust it.</strong> {html.text(self.trust)}</p>\n'
        return html.paragraph(self.shows) + self.body + trust


def drawn(caption: str, compute: Callable[..., Any], *given: Any, **named: Any) -> str:
    """A picture with its caption, or why there is none for this model."""
    return _or_why(lambda: picture(compute(*given, **named).draw(), caption))


def tabled(compute: Callable[..., Table], *given: Any, **named: Any) -> str:
    """A table, or why there is none for this model."""
    return _or_why(lambda: compute(*given, **named)._repr_html_())


def _or_why(make: Callable[[], str]) -> str:
    """What is made; where the model has no such thing, the reason that is given for it."""
    try:
        return make()
    except BayesLMMError as why:
        return html.paragraph(f"Not for this model: {why}")
