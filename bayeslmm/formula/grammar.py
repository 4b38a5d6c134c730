"""The grammar of a formula's right-hand side: sums, products, crossings, calls and group terms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from bayeslmm.covariances.effects.registry import EFFECTS
from bayeslmm.formula.tokens import Cursor, Token, quote
from bayeslmm.formula.transforms import OPTIONS, read_braces, read_call, read_offset

MOST_TERMS = 500
"""Terms that a formula may expand to."""

MOST_COLUMNS = 50
"""Columns that a grouping may have."""

Term = frozenset[str]
"""A product of factors, such as ``x:z``; the empty one is the intercept."""


@dataclass(frozen=True, slots=True)
class Part:
    """An expression over columns: its text, how tightly it binds, the terms it expands to, its place."""

    text: str
    binds: int
    terms: tuple[Term, ...]
    at: int

    def within(self, binds: int) -> str:
        """Return the text, in parentheses where it binds less than `binds`."""
        return self.text if self.binds >= binds else f"({self.text})"


@dataclass(frozen=True, slots=True)
class Number:
    """A literal in a formula: 0 or 1 as a term, or the power of a sum."""

    value: str
    at: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A group term as it was written, ``a/b`` already expanded."""

    effects: str
    groups: tuple[tuple[str, ...], ...]
    structure: str
    at: int


@dataclass(frozen=True, slots=True)
class Offset:
    """A part of the mean with the coefficient 1: the arithmetic inside ``offset()``."""

    text: str
    at: int


Item = Part | Number | Bar | Offset
Sum = list[tuple[str, Item]]


def finish(cursor: Cursor) -> None:
    """Expect the end of the formula."""
    if cursor.token.kind != "end":
        cursor.stray("expected an operator such as `+`")


def normalise(cursor: Cursor, items: Sum) -> tuple[str, tuple[Term, ...]]:
    """Make the intercept explicit and the summands unique."""
    intercept, texts = True, []
    terms: dict[Term, None] = {}
    written: set[Term] = set()
    for sign, item in items:
        if isinstance(item, Offset):
            cursor.fault(
                "an offset belongs to the fixed part alone; write it outside of this, as in"
                " y ~ x + offset(log(n)) + (1 | g)",
                item.at,
            )
        if isinstance(item, Number):
            if item.value not in ("0", "1"):
                cursor.fault("as a term a number is 0 or 1, for no intercept or an intercept", item.at)
            intercept = (item.value == "1") == (sign == "+")
        elif isinstance(item, Part) and sign == "+":
            if len(item.terms) == 1:
                if item.terms[0] in written:
                    cursor.fault(f"the term {item.text} stands twice; remove one", item.at)
                written.add(item.terms[0])
            terms |= dict.fromkeys(item.terms)
            texts.append(f" + {item.text}")
        elif isinstance(item, Part):
            if not any(term in terms for term in item.terms):
                cursor.fault(f"nothing before this takes part in {item.text}, so it cannot be subtracted", item.at)
            for term in item.terms:
                terms.pop(term, None)
                written.discard(term)
            texts.append(f" - {item.within(1)}")
    if len(terms) > MOST_TERMS:
        cursor.fault(f"this expands to {len(terms)} terms; {MOST_TERMS} are allowed", 0)
    start: tuple[Term, ...] = (frozenset(),) if intercept else ()
    return ("1" if intercept else "0") + "".join(texts), start + tuple(terms)


def read_sum(cursor: Cursor) -> Sum:
    """Read terms joined by + and -; a parenthesised sum that is added is taken apart."""
    items: Sum = []
    first = True
    while first or cursor.at("+", "-"):
        sign, at = "+", cursor.token.at
        while op := cursor.accept("+", "-"):
            sign, at = ("-" if (op.text == "-") != (sign == "-") else "+"), op.at
            first = False
        if cursor.token.kind == "end" and not first:
            cursor.fault("nothing follows this operator; remove it, or write a term after it", at)
        first = False
        item = _product(cursor)
        if isinstance(item, list):
            if sign == "+" or len(item) == 1:
                items += [("-" if (sign == "-") != (inner == "-") else "+", part) for inner, part in item]
            else:
                items.append((sign, _part(cursor, item, at)))
        else:
            items.append((sign, item))
    return items


def _part(cursor: Cursor, item: Item | Sum, at: int) -> Part:
    """Make an operand of what stands beside an operator."""
    if isinstance(item, Part):
        return item
    if isinstance(item, Bar):
        cursor.fault("a group term stands alone; join it to the rest with `+`", item.at)
    if isinstance(item, Offset):
        cursor.fault("an offset stands alone; join it to the rest with `+`", item.at)
    if isinstance(item, Number):
        cursor.fault("a number cannot be combined with a term; for arithmetic write I(...), as in I(2 * x)", item.at)
    for _, inner in item:
        if not isinstance(inner, Part):
            _part(cursor, inner, at)
    if len(item) == 1 and item[0][0] == "+" and isinstance(item[0][1], Part):
        return item[0][1]
    text, terms = normalise(cursor, item)
    return Part(text.removeprefix("1 + "), 0, terms[1:], at)


def _join(cursor: Cursor, op: Token, text: str, binds: int, terms: list[Term], at: int) -> Part:
    if len(terms) > MOST_TERMS:
        cursor.fault(f"this expands to more than {MOST_TERMS} terms; write fewer factors", op)
    return Part(text, binds, tuple(dict.fromkeys(terms)), at)


def _product(cursor: Cursor) -> Item | Sum:
    at = cursor.token.at
    left = _interaction(cursor)
    while op := cursor.accept("*", "/"):
        a = _part(cursor, left, at)
        b = _part(cursor, _interaction(cursor), cursor.token.at)
        both = [x | y for x in a.terms for y in b.terms]
        if op.text == "*":
            terms = [*a.terms, *b.terms, *both]
        else:
            terms = [*a.terms, *(frozenset().union(*a.terms) | y for y in b.terms)]
        left = _join(cursor, op, f"{a.within(1)} {op.text} {b.within(2)}", 1, terms, at)
    return left


def _interaction(cursor: Cursor) -> Item | Sum:
    at = cursor.token.at
    left = _power(cursor)
    while op := cursor.accept(":"):
        a = _part(cursor, left, at)
        b = _part(cursor, _power(cursor), cursor.token.at)
        both = [x | y for x in a.terms for y in b.terms]
        left = _join(cursor, op, f"{a.within(2)}:{b.within(2)}", 2, both, at)
    return left


def _power(cursor: Cursor) -> Item | Sum:
    at = cursor.token.at
    base = _primary(cursor)
    if op := cursor.accept("**", "^"):
        a = _part(cursor, base, at)
        token = cursor.take()
        if token.kind != "number" or token.text not in ("1", "2", "3", "4", "5"):
            cursor.fault(
                f"`{op.text}` in a formula crosses terms up to 5 at a time, as in (a + b + c)**2;"
                " for arithmetic write I(x**2)",
                token,
            )
        if len(a.terms) ** min(int(token.text), 2) > MOST_TERMS:
            cursor.fault(f"this expands to more than {MOST_TERMS} terms; write fewer factors", op)
        terms = [
            frozenset().union(*chosen)
            for size in range(1, int(token.text) + 1)
            for chosen in combinations(a.terms, size)
        ]
        return _join(cursor, op, f"{a.within(4)}**{token.text}", 3, terms, at)
    return base


def _primary(cursor: Cursor) -> Item | Sum:
    token = cursor.token
    if token.kind == "number":
        cursor.take()
        return Number(token.text, token.at)
    if token.kind == "name":
        if cursor.after.kind == "op" and cursor.after.text == "(":
            if token.text == "offset":
                return Offset(read_offset(cursor), token.at)
            if token.text in EFFECTS and (cursor.holds("|", "||") or token.text not in OPTIONS):
                return _structured(cursor)
            text = read_call(cursor)
            return Part(text, 4, (frozenset([text]),), token.at)
        return read_column(cursor)
    if cursor.at("{"):
        text = read_braces(cursor)
        return Part(text, 4, (frozenset([text]),), token.at)
    if cursor.at("("):
        return _parenthesis(cursor)
    if cursor.at("."):
        cursor.fault("`.` for all other columns is not read; name the columns")
    cursor.stray("expected a column, a call, 0, 1 or a parenthesis")


def read_column(cursor: Cursor) -> Part:
    """Read one column."""
    token = cursor.take()
    if token.text == "1":
        cursor.fault("a column whose name is 1 can't be told from the intercept; rename it", token)
    if token.text == "as" and cursor.at("."):
        cursor.fault("as.factor() and its like are not read; write C(x) for a factor", token)
    cursor.use(token)
    text = quote(token.text)
    return Part(text, 4, (frozenset([text]),), token.at)


def _structured(cursor: Cursor) -> Bar:
    """Read a group term whose covariance is named, such as ``cs(0 + f | g)``."""
    name = cursor.take()
    inside = _parenthesis(cursor)
    if not isinstance(inside, Bar):
        cursor.fault(
            f"{name.text}(...) names the covariance of a group term; write it around one, as in {name.text}(0 + f | g)",
            name,
        )
    if inside.structure != "us":
        cursor.fault(f"`||` says that effects are independent; inside {name.text}(...) write `|`", inside.at)
    return Bar(inside.effects, inside.groups, name.text, name.at)


def _parenthesis(cursor: Cursor) -> Item | Sum:
    opened = cursor.open()
    if cursor.at(")"):
        cursor.fault("these parentheses are empty; write a term inside, or remove them", opened)
    if cursor.at("|", "||"):
        cursor.fault("nothing stands left of the bar; write the effects there, as in (1 | group)")
    items = read_sum(cursor)
    bar = cursor.accept("|", "||")
    if bar is None:
        cursor.close(opened)
        return items
    for _, item in items:
        if isinstance(item, Bar):
            cursor.fault("a group term cannot stand inside another one; write one after the other", item.at)
    effects, terms = normalise(cursor, items)
    if not terms:
        cursor.fault("no effect is left of the bar; write at least one, as in (1 | group)", opened)
    if cursor.at(")") or cursor.token.kind == "end":
        cursor.fault("nothing stands right of the bar; write the grouping column there, as in (1 | group)")
    groups = read_grouping(cursor)
    if cursor.at("|", "||"):
        cursor.fault("a second bar in one term; a term has the form (effects | group)")
    if cursor.at("+"):
        cursor.fault("a `+` cannot stand right of a bar; write two terms, as in (1 | a) + (1 | b)")
    if cursor.at("*"):
        cursor.fault("a `*` cannot stand right of a bar; write (1 | a) + (1 | b) + (1 | a:b)")
    if cursor.token.kind not in ("op", "end"):
        cursor.stray("expected `:`, `/` or `)`")
    cursor.close(opened)
    return Bar(effects, groups, "us" if bar.text == "|" else "diag", opened.at)


def read_grouping(cursor: Cursor) -> tuple[tuple[str, ...], ...]:
    """Read a/b/c, each part being a:b, as groupings with the inner one first."""
    parts = [_crossing(cursor)]
    while cursor.accept("/"):
        parts.append(_crossing(cursor))
    seen: set[str] = set()
    for token in [token for part in parts for token in part]:
        if token.text in seen:
            cursor.fault(f"the column {token.text!r} stands twice in one grouping; remove one", token)
        if len(seen) == MOST_COLUMNS:
            cursor.fault(f"more than {MOST_COLUMNS} columns are in one grouping; write it with fewer", token)
        seen.add(token.text)
    groups = []
    for depth in range(len(parts), 0, -1):
        group = tuple(token.text for part in reversed(parts[:depth]) for token in part)
        groups.append(group)
    for token in [token for part in parts[::-1] for token in part]:
        cursor.use(token)
    return tuple(groups)


def _crossing(cursor: Cursor) -> list[Token]:
    tokens: list[Token] = []
    while not tokens or cursor.accept(":"):
        token = cursor.token
        if cursor.at("("):
            opened = cursor.open()
            tokens += _crossing(cursor)
            cursor.close(opened)
            continue
        if token.kind == "number":
            cursor.fault("a grouping is a column, not a number")
        if cursor.at(")") and cursor.depth > 0:
            cursor.fault("a grouping column is missing here; write it, or remove the operator before")
        if token.kind != "name":
            cursor.stray("expected a grouping column")
        if cursor.after.kind == "op" and cursor.after.text == "(":
            cursor.fault(
                "a grouping is a column name; every grouping column is taken as a factor already,"
                " and other transforms are computed first"
            )
        tokens.append(cursor.take())
    return tokens
