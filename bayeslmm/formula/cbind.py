"""``cbind(successes, failures)`` on the left of a formula."""

from __future__ import annotations

import re

from bayeslmm.formula.grammar import read_column
from bayeslmm.formula.tokens import Cursor, quote


def begins_with_cbind(text: str) -> bool:
    """Whether a formula, or a response, begins with ``cbind(``.

    Examples
    --------
    >>> begins_with_cbind("cbind (a, b) ~ 1"), begins_with_cbind("cbind ~ 1 + (1 | g)")
    (True, False)
    """
    return re.match(r"\s*cbind\s*\(", text) is not None


def split_cbind(text: str) -> tuple[str, str]:
    """(the formula with the successes alone on its left, the column of failures), or (the text, "").

    Examples
    --------
    >>> split_cbind("cbind(incidence, healthy) ~ period + (1 | herd)")
    ('incidence ~ period + (1 | herd)', 'healthy')
    >>> split_cbind("y ~ 1 + (1 | g)")
    ('y ~ 1 + (1 | g)', '')
    """
    if not begins_with_cbind(text):
        return text, ""
    cursor = Cursor(text)
    write = "write cbind(successes, failures) with two columns"
    cursor.take()
    opened = cursor.open()
    names = []
    for separator in (",", ")"):
        if cursor.token.kind != "name":
            cursor.fault(write)
        names.append(read_column(cursor).text)
        if not cursor.at(separator):
            cursor.fault(write)
        if separator == ",":
            cursor.take()
    cursor.close(opened)
    if not cursor.at("~"):
        cursor.fault("expected `~` after cbind(...)")
    if names[0] == names[1]:
        cursor.fault(f"{names[0]} stands for successes and for failures; {write}", opened)
    return f"{names[0]} {text[cursor.token.at :]}", names[1].strip("`")


def write_cbind(formula: str, response: str, failures: str) -> str:
    """The formula with both columns on its left again.

    Examples
    --------
    >>> write_cbind("a ~ 1 + (1 | g)", "a", "b")
    'cbind(a, b) ~ 1 + (1 | g)'
    """
    return f"cbind({response}, {quote(failures)}){formula.removeprefix(response)}" if failures else formula
