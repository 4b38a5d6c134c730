"""``cbind(successes, failures)`` on the left of a formula, and what else says the trials of a binomial there."""

from __future__ import annotations

import re
from typing import NamedTuple

from bayeslmm.formula.grammar import read_column
from bayeslmm.formula.tokens import Cursor, quote

_WRITE = "write cbind(successes, failures) with two columns, or cbind(successes, trials - successes)"


class Left(NamedTuple):
    """A formula whose left side is one column, and the columns that stood beside it.

    Attributes
    ----------
    formula : str
        The successes alone on its left.
    failures, trials : str
        Columns; "" where there are none.
    """

    formula: str
    failures: str = ""
    trials: str = ""


def says_trials(text: str) -> str:
    """What a formula, or a response, begins with that says trials: "cbind(...)", "y | trials(n)", or "".

    Examples
    --------
    >>> says_trials("cbind (a, b) ~ 1"), says_trials("cbind ~ 1 + (1 | g)"), says_trials("y | trials(n) ~ x")
    ('cbind(...)', '', '... | trials(...)')
    """
    if re.match(r"\s*cbind\s*\(", text):
        return "cbind(...)"
    return "... | trials(...)" if re.match(r"\s*(?:\w+|`[^`]*`)\s*\|\s*trials\s*\(", text) else ""


def split_cbind(text: str) -> Left:
    """Take the left side of a formula apart, as lme4 and brms write it; anything else stays as it is.

    Examples
    --------
    >>> split_cbind("cbind(incidence, healthy) ~ period + (1 | herd)")
    Left(formula='incidence ~ period + (1 | herd)', failures='healthy', trials='')
    >>> split_cbind("cbind(incidence, size - incidence) ~ 1 + (1 | herd)").trials
    'size'
    >>> split_cbind("incidence | trials(size) ~ 1 + (1 | herd)")
    Left(formula='incidence ~ 1 + (1 | herd)', failures='', trials='size')
    """
    said = says_trials(text)
    if not said:
        return Left(text)
    cursor = Cursor(text)
    if said != "cbind(...)":
        successes = _column(cursor)
        cursor.take()  # the bar
        cursor.take()
        opened = cursor.open()
        trials, failures = _column(cursor), ""
    else:
        cursor.take()
        opened = cursor.open()
        successes = _column(cursor)
        if not cursor.at(","):
            cursor.fault(_WRITE)
        cursor.take()
        failures, trials = _column(cursor), ""
        if cursor.at("-"):
            cursor.take()
            trials, failures = failures, ""
            if _column(cursor) != successes:
                cursor.fault(f"the failures are what is left of the trials: {_WRITE}", opened)
    if not cursor.at(")"):
        cursor.fault(_WRITE)
    cursor.close(opened)
    if not cursor.at("~"):
        cursor.fault(f"expected `~` after {said}")
    if successes in (failures, trials):
        other = "failures" if failures else "trials"
        cursor.fault(f"{successes} stands for successes and for {other}; {_WRITE}", opened)
    return Left(f"{successes} {text[cursor.token.at :]}", failures.strip("`"), trials.strip("`"))


def _column(cursor: Cursor) -> str:
    if cursor.token.kind != "name":
        cursor.fault(_WRITE)
    return read_column(cursor).text


def write_cbind(formula: str, response: str, failures: str, trials: str = "") -> str:
    """The formula with both columns on its left again.

    Examples
    --------
    >>> write_cbind("a ~ 1 + (1 | g)", "a", "b"), write_cbind("a ~ 1 + (1 | g)", "a", "", "n")
    ('cbind(a, b) ~ 1 + (1 | g)', 'cbind(a, n - a) ~ 1 + (1 | g)')
    """
    if not (failures or trials):
        return formula
    other = quote(failures) if failures else f"{quote(trials)} - {response}"
    return f"cbind({response}, {other}){formula.removeprefix(response)}"
