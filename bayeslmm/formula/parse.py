"""The formula language: lme4's group terms split off, the rest checked against an allow-list.

    response ~ fixed + (effects | group) + (effects || group) + ...

Nothing of a formula is ever run here. What comes back is written anew from checked pieces (columns, 0 and
1, operators, the calls of `transforms`), so the texts are safe to hand to formulaic, with
`transforms` as its only context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bayeslmm.covariances.effects.registry import EFFECTS
from bayeslmm.errors import DescriptionError
from bayeslmm.formula.grammar import (
    Bar,
    Offset,
    Part,
    Sum,
    Term,
    finish,
    normalise,
    read_column,
    read_grouping,
    read_sum,
)
from bayeslmm.formula.tokens import Cursor, quote
from bayeslmm.formula.transforms import INSIDE, read_arithmetic, read_braces, read_call


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupTerm:
    """One term ``(effects | group)`` after the expansion of ``a/b``."""

    group: tuple[str, ...]
    effects: str
    structure: str = "us"


@dataclass(frozen=True, kw_only=True, slots=True)
class Formula:
    """A formula taken apart, each part in its normal form."""

    response: str
    fixed: str
    terms: tuple[GroupTerm, ...]
    columns: tuple[str, ...]
    offset: str = ""


def parse(text: str) -> Formula:
    """Take a formula apart: response, fixed part, group terms (inner grouping first), columns.

    Examples
    --------
    >>> parts = parse("Height ~ age + (age | school/class)")
    >>> parts.response, parts.fixed
    ('Height', '1 + age')
    >>> [(":".join(term.group), term.effects) for term in parts.terms]
    [('class:school', '1 + age'), ('school', '1 + age')]
    """
    cursor = Cursor(text)
    if cursor.token.kind == "end":
        cursor.fault("the formula is empty; write one such as y ~ x + (1 | group)")
    if cursor.at("~"):
        cursor.fault("nothing stands left of the `~`; write the response there")
    if not any(token.kind == "op" and token.text == "~" for token in cursor.tokens):
        cursor.fault("the `~` is missing; write response ~ fixed + (effects | group)", cursor.tokens[-1])
    response = _response(cursor)
    left = dict(cursor.columns)
    cursor.columns = {}
    if not cursor.accept("~"):
        _end_of_response(cursor)
    if cursor.token.kind == "end":
        cursor.fault("nothing follows the `~`; write 1 for a mean alone, as in y ~ 1 + (1 | group)")
    items = read_sum(cursor)
    finish(cursor)
    _check_response(cursor, response, items)
    items, offset = _take_offsets(cursor, items)
    fixed, _ = normalise(cursor, [pair for pair in items if not isinstance(pair[1], Bar)])
    terms = []
    for sign, item in items:
        if isinstance(item, Bar):
            if sign == "-":
                cursor.fault("a group term cannot be subtracted; leave it out, or join it with `+`", item.at)
            terms += [GroupTerm(group=group, effects=item.effects, structure=item.structure) for group in item.groups]
    columns = tuple({**left, **cursor.columns})
    return Formula(response=response, fixed=fixed, terms=tuple(terms), columns=columns, offset=offset)


def _check_response(cursor: Cursor, response: str, items: Sum) -> None:
    """Refuse the response as a term of its own mean; in another term its columns may stand."""
    name = response.strip("`")
    for _, item in items:
        if isinstance(item, Part):
            found = frozenset([response]) in item.terms
        elif isinstance(item, Bar):
            found = any(quote(column) == response for group in item.groups for column in group)
            found = found or frozenset([response]) in terms_of(item.effects)
        else:
            found = isinstance(item, Offset) and item.text == response
        if found:
            at = cursor.columns.get(name, item.at)
            cursor.fault(f"the response {name!r} stands on the right side too; remove it here", at)


def _take_offsets(cursor: Cursor, items: Sum) -> tuple[Sum, str]:
    """The items without offsets, and the sum of these."""
    offsets = []
    for sign, item in items:
        if isinstance(item, Offset):
            if sign == "-":
                cursor.fault("an offset cannot be subtracted; write offset(-x), or leave it out", item.at)
            offsets.append(item.text)
    return [pair for pair in items if not isinstance(pair[1], Offset)], " + ".join(offsets)


def split_offset(text: str) -> tuple[str, str]:
    """Return the normal form of a right-hand side without group terms, and its offset apart.

    Examples
    --------
    >>> split_offset("x + offset(log(n))"), split_offset("x")
    (('1 + x', 'log(n)'), ('1 + x', ''))
    """
    fixed, _, offset = _right_side(text, offsets=True)
    return fixed, offset


def normal_offset(text: str) -> str:
    """Return the normal form of an offset: arithmetic over columns.

    Examples
    --------
    >>> normal_offset("log( n )-2")
    'log(n) - 2'
    """
    cursor = Cursor(text)
    if cursor.token.kind == "end":
        return ""
    inside = read_arithmetic(cursor)
    if cursor.token.kind != "end":
        cursor.stray("expected an operator such as `+`")
    return inside


def rename_columns(text: str, new: Mapping[str, str]) -> str:
    """Write one side of a formula, in its normal form, with other names for some columns.

    Examples
    --------
    >>> rename_columns("1 + log(`lambda`):x", {"lambda": "c0"})
    '1 + log(c0):x'
    """
    cursor = Cursor(text)
    read_sum(cursor)
    finish(cursor)
    written, end = [], 0
    for token in sorted(cursor.uses, key=lambda token: token.at):
        if token.text in new:
            written += [text[end : token.at], new[token.text]]
            end = token.at + len(token.text) + (2 if text[token.at] == "`" else 0)
    return "".join([*written, text[end:]])


def normal_form(text: str) -> str:
    """Return the normal form of a right-hand side without group terms, its intercept made explicit.

    Examples
    --------
    >>> normal_form("x*z - x:z"), normal_form("x-1"), normal_form("")
    ('1 + x * z - x:z', '0 + x', '1')
    """
    return _right_side(text)[0]


def normal_response(text: str) -> str:
    """Return the normal form of a response: a column, or a transform of one.

    Examples
    --------
    >>> normal_response("log( y )")
    'log(y)'
    """
    cursor = Cursor(text)
    if cursor.token.kind == "end":
        raise DescriptionError("the response is empty; write the name of a column, such as response='y'")
    response = _response(cursor)
    if cursor.token.kind != "end":
        _end_of_response(cursor)
    return response


def terms_of(text: str) -> tuple[Term, ...]:
    """Expand a right-hand side without group terms; the intercept is the empty term.

    Examples
    --------
    >>> [":".join(sorted(term)) for term in terms_of("x*z")]
    ['', 'x', 'z', 'x:z']
    """
    return _right_side(text)[1]


def columns_of(text: str) -> tuple[str, ...]:
    """List the columns that a formula, a right-hand side, or a response uses, in order.

    Examples
    --------
    >>> columns_of("log(y) ~ x * `body mass` + (1 | school/class)")
    ('y', 'x', 'body mass', 'class', 'school')
    >>> columns_of("1 + poly(x, 2) + C(g, contr.sum)")
    ('x', 'g')
    """
    cursor = Cursor(text)
    if any(token.kind == "op" and token.text == "~" for token in cursor.tokens):
        return parse(text).columns
    read_sum(cursor)
    finish(cursor)
    return tuple(cursor.columns)


def group_columns(text: str) -> tuple[str, ...]:
    """Read a grouping such as ``class:school`` as a tuple of columns.

    Examples
    --------
    >>> group_columns("class:`school district`")
    ('class', 'school district')
    """
    cursor = Cursor(text)
    groups = read_grouping(cursor)
    if cursor.token.kind != "end":
        cursor.stray("expected `:` between columns")
    if len(groups) > 1:
        made = " and ".join(repr(":".join(map(quote, group))) for group in groups)
        raise DescriptionError(f"{text!r} stands for several groupings: write a level for each of {made}")
    return groups[0]


def write(response: str, fixed: str, terms, offset: str = "") -> str:
    """Write a formula from its normal parts; `terms` have group, effects and structure.

    Examples
    --------
    >>> write("y", "1 + x", [GroupTerm(group=("a", "b"), effects="1")])
    'y ~ 1 + x + (1 | a:b)'
    """
    bars = [EFFECTS[term.structure].bar(term.effects, ":".join(map(quote, term.group))) for term in terms]
    offsets = [f"offset({offset})"] if offset else []
    return f"{response} ~ {' + '.join([fixed, *offsets, *bars])}"


def _right_side(text: str, offsets: bool = False) -> tuple[str, tuple[Term, ...], str]:
    cursor = Cursor(text)
    if cursor.token.kind == "end":
        return "1", (frozenset(),), ""
    items, offset = read_sum(cursor), ""
    finish(cursor)
    for _, item in items:
        if isinstance(item, Bar):
            cursor.fault("a group term cannot stand here; make it a level of its own", item.at)
    if offsets:
        items, offset = _take_offsets(cursor, items)
    return (*normalise(cursor, items), offset)


def _response(cursor: Cursor) -> str:
    token = cursor.token
    called = cursor.after.kind == "op" and cursor.after.text == "("
    if token.kind == "name" and called:
        return read_call(cursor, INSIDE)
    if token.kind == "name":
        return read_column(cursor).text
    if cursor.at("{"):
        return read_braces(cursor)
    if token.kind == "number":
        cursor.fault("the response is a column, not a number")
    if cursor.at("("):
        cursor.fault("the response is one column, or a transform such as log(y), without parentheses around")
    cursor.stray("expected the response, a column or a transform such as log(y)")


def _end_of_response(cursor: Cursor) -> None:
    if cursor.at("+", "-", "*", "/", ":", "**", "^"):
        cursor.fault("the response is one column; for arithmetic write I(...), as in I(a + b) ~ x")
    cursor.stray("expected `~` after the response")
