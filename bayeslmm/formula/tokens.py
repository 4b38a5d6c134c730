"""The words of a formula, each with its place, and errors that point at a place with a caret."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import NoReturn

from bayeslmm.errors import DescriptionError

LONGEST = 20_000
"""Characters that a formula may have."""

DEEPEST = 40
"""Parentheses that may be open at the same time."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<quoted>`[^`]*`)
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<op>\|\||\*\*|[-+*/:^()|~,=.\[\]{}])
    """,
    re.VERBOSE,
)
_UNCLOSED = {"`": "a column name in backticks", '"': "a text in quotes", "'": "a text in quotes"}


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a formula: its kind (name, number, string, op, end), its text and where it starts."""

    kind: str
    text: str
    at: int


def fault(text: str, at: int, message: str) -> NoReturn:
    """Raise a DescriptionError that shows the formula with a caret under position `at`.

    Examples
    --------
    >>> fault("y ~ x +", 6, "nothing follows the `+`")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: formula, position 7: nothing follows the `+`
        y ~ x +
              ^
    """
    flat = re.sub(r"\s", " ", text)
    start = max(0, at - 90)
    shown = flat[start : start + 110]
    raise DescriptionError(f"formula, position {at + 1}: {message}\n    {shown}\n    {' ' * (at - start)}^")


def tokenize(text: str) -> list[Token]:
    """Cut a formula into tokens; the last one has the kind "end".

    Examples
    --------
    >>> [token.text for token in tokenize("y ~ `a b` + (1|g)")]
    ['y', '~', 'a b', '+', '(', '1', '|', 'g', ')', '']
    """
    if not isinstance(text, str):
        raise DescriptionError(f"a formula is a text such as 'y ~ x + (1 | group)'; got {type(text).__name__} {text!r}")
    if len(text) > LONGEST:
        raise DescriptionError(f"this formula has {len(text)} characters; {LONGEST} are allowed. Write a shorter one")
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            sign = text[at]
            if sign in _UNCLOSED:
                fault(text, at, f"{_UNCLOSED[sign]} starts here and never ends; close it with {sign}")
            if sign == "%":
                fault(text, at, "operators such as %in% are not read; write a / b or a:b instead")
            if sign.isdigit():
                fault(text, at, f"the digit {sign!r} is of another script; write numbers with 0 to 9")
            fault(text, at, f"the character {sign!r} has no place in a formula")
        kind, word = str(found.lastgroup), found.group()
        if kind == "quoted":
            name = word[1:-1]
            check_name(name, text, at)
            tokens.append(Token("name", name, at))
        elif kind == "word":
            if word.startswith("__"):
                fault(text, at, f"{word!r} is a name inside Python, not a column; a formula runs no code")
            tokens.append(Token("name", word, at))
        elif kind != "space":
            tokens.append(Token(kind, word, at))
        at = found.end()
    tokens.append(Token("end", "", len(text.rstrip())))
    return tokens


def check_name(name: str, text: str | None = None, at: int = 0) -> None:
    """Refuse a column name that a formula cannot quote.

    Examples
    --------
    >>> check_name("body mass (g)")
    """
    wrong = ""
    if not name.strip():
        wrong = "a column name is empty; write the name of a column"
    elif name != name.strip():
        wrong = f"the column name {name!r} starts or ends with a space; rename the column"
    elif re.search(r"[`\\]", name) or not name.isprintable():
        wrong = f"the column name {name!r} has a backtick, backslash or invisible character; rename the column"
    elif name.startswith("__"):
        wrong = f"{name!r} is a name inside Python, not a column; rename the column"
    if wrong and text is not None:
        fault(text, at, wrong)
    if wrong:
        raise DescriptionError(wrong)


def quote(name: str) -> str:
    """Write a column name as a formula reads it: in backticks where it is not one plain word.

    Examples
    --------
    >>> quote("Days"), quote("body mass")
    ('Days', '`body mass`')
    """
    return name if re.fullmatch(r"[^\W\d]\w*", name) else f"`{name}`"


class Cursor:
    """A place in a formula that moves from token to token."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = tokenize(text)
        self.place = 0
        self.depth = 0
        self.columns: dict[str, int] = {}
        self.uses: list[Token] = []

    def use(self, token: Token) -> None:
        """Note that a token names a column."""
        self.columns.setdefault(token.text, token.at)
        self.uses.append(token)

    @property
    def token(self) -> Token:
        """The token at the cursor."""
        return self.tokens[self.place]

    @property
    def after(self) -> Token:
        """The token behind the one at the cursor."""
        return self.tokens[min(self.place + 1, len(self.tokens) - 1)]

    def holds(self, *ops: str) -> bool:
        """Say whether one of these operators stands in the parentheses that open behind the token at the cursor."""
        depth = 0
        for token in self.tokens[self.place + 1 :]:
            if token.kind == "op" and token.text == ")":
                depth -= 1
            if depth == 1 and token.kind == "op" and token.text in ops:
                return True
            if token.kind == "op" and token.text == "(":
                depth += 1
            if depth == 0:
                break
        return False

    def at(self, *ops: str) -> bool:
        """Say whether one of these operators stands at the cursor."""
        return self.token.kind == "op" and self.token.text in ops

    def take(self) -> Token:
        """Return the token at the cursor and move on."""
        token = self.token
        self.place = min(self.place + 1, len(self.tokens) - 1)
        return token

    def accept(self, *ops: str) -> Token | None:
        """Take one of these operators if it stands at the cursor."""
        return self.take() if self.at(*ops) else None

    def open(self) -> Token:
        """Take an opening parenthesis or brace."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.fault(f"more than {DEEPEST} parentheses are open; write it with fewer")
        return self.take()

    def close(self, opened: Token) -> None:
        """Take the parenthesis that closes `opened`, or point at the one that stays open."""
        wanted = {"(": ")", "{": "}", "[": "]"}[opened.text]
        self.depth -= 1
        if self.token.kind == "end":
            self.fault(f"this `{opened.text}` is never closed; add a `{wanted}`", opened)
        if not self.accept(wanted):
            self.stray(f"expected an operator or `{wanted}`")

    def fault(self, message: str, token: Token | int | None = None) -> NoReturn:
        """Raise a DescriptionError that points at a token (the one at the cursor by default)."""
        place = self.token if token is None else token
        fault(self.text, place if isinstance(place, int) else place.at, message)

    def stray(self, expected: str) -> NoReturn:
        """Explain a token that cannot stand where it stands."""
        token = self.token
        hints = {
            ".": "a dot reaches into an object, and a formula runs no code;"
            " put a column whose name has a dot in backticks, as in `a.b`",
            "[": "square brackets take parts of an object, and a formula runs no code;"
            " make that part a column of its own",
            "=": "`=` belongs inside a call, as in poly(x, degree=2)",
            ",": "a comma belongs inside a call; join terms with `+`",
            ")": "this `)` closes nothing; remove it or add a `(` before",
            "}": "this `}` closes nothing; remove it",
            "~": "a second `~`; a formula has one, between the response and the rest",
            "|": "a bar needs parentheses around its term, as in (1 | group)",
            "||": "a bar needs parentheses around its term, as in (1 + x || group)",
            "{": "expected an operator before this `{`",
            "(": "expected an operator before this `(`, such as `+` or `:`",
        }
        if token.kind == "end":
            self.fault(f"the formula ends too early: {expected}")
        if token.kind == "op" and token.text in hints:
            self.fault(hints[token.text])
        if token.kind == "string":
            self.fault(f"a text in quotes is no term: {expected}; put a column name in backticks")
        before = self.tokens[self.place - 1] if self.place else token
        if before.kind == "name" and keyword.iskeyword(before.text):
            expected += f" after the column {before.text!r} (a formula runs no code)"
        self.fault(f"{expected}, found {token.text!r}")
