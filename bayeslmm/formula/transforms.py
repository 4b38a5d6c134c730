"""The calls that a formula may make: an allow-list of pure transforms, and nothing besides.

A formula from a file is untrusted. What is read here is checked word by word and written anew from the
checked pieces, so that only calls of this list, columns, numbers and plain texts ever reach formulaic.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from bayeslmm.errors import did_you_mean
from bayeslmm.formula.tokens import Cursor, Token, quote

ELEMENTWISE = ("log", "log10", "log2", "exp", "sqrt", "abs")
_SPLINE = {"lower_bound": "number", "upper_bound": "number"}
_CUBIC = {"df": "count", "knots": "numbers"} | _SPLINE | {"constraints": "text", "extrapolation": "text"}
OPTIONS: dict[str, dict[str, str]] = {
    **{name: {} for name in ELEMENTWISE},
    "I": {},
    "center": {},
    "scale": {"center": "truth", "scale": "truth", "ddof": "count"},
    "poly": {"degree": "count", "raw": "truth"},
    "bs": {"df": "count", "knots": "numbers", "degree": "count", "include_intercept": "truth"}
    | _SPLINE
    | {"extrapolation": "text"},
    "cr": _CUBIC,
    "cs": _CUBIC,
    "cc": _CUBIC,
    "C": {"contrasts": "contrast", "levels": "values"},
}
"""Every function that a formula may call, with its options in order."""

INSIDE = frozenset((*ELEMENTWISE, "I", "center", "scale"))
"""Functions that return one column: these may stand inside others, and on the left of ``~``."""

_CONTRASTS = {
    "contr.treatment": "base",
    "contr.SAS": "base",
    "contr.sum": None,
    "contr.helmert": None,
    "contr.diff": None,
    "contr.poly": None,
    "Treatment": "reference",
    "Sum": None,
    "Helmert": None,
    "Diff": None,
    "Poly": None,
}
_NOT_A_CALL = {
    "cbind": "successes and failures are a binomial outcome's; write blm.GLMM(formula, data, family='binomial')",
    "offset": "an offset stands alone among the terms of the fixed part, as in y ~ x + offset(log(n)) + (1 | g)",
    "factor": "write C(x) for a factor",
    "as": "write C(x) for a factor",
    "s": "smooths are not supported; write bs(x, df=5) or cr(x, df=5, constraints='center')",
    "te": "smooths are not supported; write bs(x, df=5) or cr(x, df=5, constraints='center')",
    "ns": "write cr(x, df=5, constraints='center'), a natural cubic spline",
    "log1p": "write log(1 + x)",
    "us": "write (1 + x | group)",
    "diag": "write (1 + x || group)",
}
_LARGEST = {"degree": 20, "df": 1000, "ddof": 1}


def transforms() -> dict:
    """Return what formulaic needs beside its own functions to evaluate an accepted formula.

    Examples
    --------
    >>> sorted(transforms())
    ['abs', 'sqrt']
    """
    import numpy as np

    return {"abs": np.abs, "sqrt": np.sqrt}


@dataclass(frozen=True, slots=True)
class Value:
    """A checked piece of arithmetic: its text, how tightly it binds, and whether it has a column."""

    text: str
    binds: int
    column: bool

    def within(self, binds: int) -> str:
        """Return the text, in parentheses where it binds less than `binds`."""
        return self.text if self.binds >= binds else f"({self.text})"


def read_call(cursor: Cursor, allowed: frozenset[str] | None = None) -> str:
    """Read ``name(arguments)`` at the cursor and return its normalised text."""
    name = cursor.take()
    if name.text not in OPTIONS:
        known = ", ".join(OPTIONS)
        hint = _NOT_A_CALL.get(name.text) or f"a formula may call {known}.{did_you_mean(name.text, OPTIONS)}"
        cursor.fault(f"`{name.text}` is not a function that a formula may call: {hint}", name)
    if allowed is not None and name.text not in allowed:
        cursor.fault(f"{name.text}() makes several columns and cannot stand here; expected one column", name)
    opened = cursor.open()
    if cursor.at(")"):
        cursor.fault(f"{name.text}() is empty; write a column inside, as in {name.text}(x)")
    start = cursor.token
    first = _sum(cursor)
    if not first.column:
        cursor.fault(f"{name.text}() needs a column as its first argument", start)
    if name.text == "C" and first.binds < 4:
        cursor.fault("C() takes one column, as in C(x)", start)
    arguments = [first.text, *_options(cursor, name)]
    cursor.close(opened)
    return f"{name.text}({', '.join(arguments)})"


def read_offset(cursor: Cursor) -> str:
    """Read ``offset(arithmetic)`` at the cursor and return what is inside."""
    cursor.take()
    opened = cursor.open()
    if cursor.at(")"):
        cursor.fault("offset() is empty; write a column inside, as in offset(log(n))")
    inside = read_arithmetic(cursor)
    cursor.close(opened)
    return inside


def read_arithmetic(cursor: Cursor) -> str:
    """Read arithmetic over columns at the cursor and return its normalised text."""
    start = cursor.token
    inside = _sum(cursor)
    if not inside.column:
        cursor.fault("an offset needs a column, as in log(n)", start)
    return inside.text


def read_braces(cursor: Cursor) -> str:
    """Read ``{arithmetic}`` at the cursor and return it as a call of I()."""
    opened = cursor.open()
    start = cursor.token
    inside = _sum(cursor)
    if not inside.column:
        cursor.fault("braces need a column inside, as in {x**2}", start)
    cursor.close(opened)
    return f"I({inside.text})"


def _sum(cursor: Cursor) -> Value:
    left = _product(cursor)
    while op := cursor.accept("+", "-"):
        right = _product(cursor)
        left = Value(f"{left.within(0)} {op.text} {right.within(1)}", 0, left.column or right.column)
    return left


def _product(cursor: Cursor) -> Value:
    left = _signed(cursor)
    while op := cursor.accept("*", "/"):
        right = _signed(cursor)
        left = Value(f"{left.within(1)} {op.text} {right.within(2)}", 1, left.column or right.column)
    return left


def _signed(cursor: Cursor) -> Value:
    negative = False
    while op := cursor.accept("-", "+"):
        negative ^= op.text == "-"
    value = _power(cursor)
    return Value(f"-{value.within(3)}", 2, value.column) if negative else value


def _power(cursor: Cursor) -> Value:
    start = cursor.token
    base = _single(cursor)
    if not (op := cursor.accept("**", "^")):
        return base
    if not base.column:
        cursor.fault("a power needs a column at its base, as in x**2", start)
    sign = "-" if cursor.accept("-") else ""
    if cursor.token.kind != "number":
        cursor.fault(f"the power after `{op.text}` is a number, as in x{op.text}2")
    token = cursor.take()
    power = _number(cursor, token)
    if float(power) > 100:
        cursor.fault("a power above 100 leaves floating-point numbers behind; write a smaller one", token)
    if cursor.at("**", "^"):
        cursor.fault("a power of a power needs parentheses")
    return Value(f"{base.within(4)} ** {sign}{power}", 3, True)


def _single(cursor: Cursor) -> Value:
    token = cursor.token
    if token.kind == "number":
        return Value(_number(cursor, cursor.take()), 4, False)
    if token.kind == "name":
        if cursor.after.text == "(" and cursor.after.kind == "op":
            return Value(read_call(cursor, INSIDE), 4, True)
        cursor.take()
        return Value(_column(cursor, token), 4, True)
    if cursor.at("("):
        opened = cursor.open()
        inside = _sum(cursor)
        cursor.close(opened)
        return inside
    cursor.stray("expected a column or a number")


def _column(cursor: Cursor, token: Token) -> str:
    """Read a column inside a call, by whatever name."""
    cursor.use(token)
    return quote(token.text)


def _number(cursor: Cursor, token: Token) -> str:
    if len(token.text) > 30 or not math.isfinite(float(token.text)):
        cursor.fault("this number is too large or too long", token)
    number = float(token.text)
    return token.text.lstrip("0") or "0" if token.text.isdecimal() else repr(number)


def _options(cursor: Cursor, name: Token) -> list[str]:
    options = OPTIONS[name.text]
    order, texts = list(options), []
    seen: set[str] = set()
    while comma := cursor.accept(","):
        token = cursor.token
        named = token.kind == "name" and cursor.after.kind == "op" and cursor.after.text == "="
        if named:
            option = token.text
            cursor.take(), cursor.take()
        elif len(seen) < len(order):
            option = order[len(seen)]
        else:
            takes = f"takes {', '.join(options)}" if options else "takes one argument"
            cursor.fault(f"too many arguments: {name.text}() {takes}", comma)
        if option not in options:
            takes = f"it takes {', '.join(options)}" if options else "it takes none"
            cursor.fault(f"{name.text}() has no option {option!r}: {takes}.{did_you_mean(option, options)}", token)
        if option in seen:
            cursor.fault(f"the option {option!r} is given twice", token)
        seen.add(option)
        kind = options[option]
        value = _READ[kind](cursor, option)
        texts.append(f"{option}={value}" if named or kind == "text" else value)
    return texts


def _read_number(cursor: Cursor, option: str) -> str:
    sign = "-" if cursor.accept("-") else ""
    if cursor.token.kind != "number":
        cursor.fault(f"{option} is a number")
    return sign + _number(cursor, cursor.take())


def _read_count(cursor: Cursor, option: str) -> str:
    token = cursor.token
    most = _LARGEST[option]
    if token.kind != "number" or not token.text.isdecimal() or float(token.text) > most:
        cursor.fault(f"{option} is a whole number from 0 to {most}")
    return _number(cursor, cursor.take())


def _read_truth(cursor: Cursor, option: str) -> str:
    token = cursor.token
    values = {"True": "True", "TRUE": "True", "False": "False", "FALSE": "False"}
    if token.text not in values:
        cursor.fault(f"{option} is True or False")
    cursor.take()
    return values[token.text]


def _read_text(cursor: Cursor, option: str) -> str:
    token = cursor.token
    if token.kind != "string":
        cursor.fault(f"{option} is a text in quotes")
    text = cursor.take().text[1:-1]
    if re.search(r"[\"'`\\(){}\[\]]", text) or not text.isprintable():
        cursor.fault(
            "a text inside a call has no quotes, brackets or backslashes; rename that level of the column",
            token,
        )
    return f"'{text}'"


def _read_value(cursor: Cursor, option: str) -> str:
    return _read_text(cursor, option) if cursor.token.kind == "string" else _read_number(cursor, option)


def _read_list(cursor: Cursor, option: str, read=_read_value) -> str:
    if not cursor.at("["):
        cursor.fault(f"{option} is a list in square brackets, as in {option}=[1, 2]")
    opened = cursor.open()
    values = [read(cursor, option)]
    while cursor.accept(","):
        values.append(read(cursor, option))
    cursor.close(opened)
    return f"[{', '.join(values)}]"


def _read_contrast(cursor: Cursor, option: str) -> str:
    token = cursor.take()
    name = token.text
    if name == "contr" and cursor.accept("."):
        name = f"contr.{cursor.take().text}"
    if name not in _CONTRASTS:
        known = ", ".join(_CONTRASTS)
        cursor.fault(f"contrasts are one of {known}.{did_you_mean(name, _CONTRASTS)}", token)
    if not cursor.at("("):
        return name
    opened = cursor.open()
    inside = ""
    if not cursor.at(")"):
        base = _CONTRASTS[name]
        if base is None:
            cursor.fault(f"{name} takes no argument")
        if cursor.token.kind == "name":
            if cursor.token.text != base:
                cursor.fault(f"{name} takes {base}, as in {name}({base}='a')")
            cursor.take()
            if not cursor.accept("="):
                cursor.fault(f"expected `=` after {base}")
        inside = f"{base}={_read_value(cursor, base)}"
    cursor.close(opened)
    return f"{name}({inside})"


_READ = {
    "number": _read_number,
    "count": _read_count,
    "truth": _read_truth,
    "text": _read_text,
    "numbers": lambda cursor, option: _read_list(cursor, option, _read_number),
    "values": _read_list,
    "contrast": _read_contrast,
}
