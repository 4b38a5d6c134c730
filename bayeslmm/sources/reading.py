"""One side of a formula taken apart: terms, factors, and the expressions that they stand for.

The text has passed the allow-list of `formula`; formulaic expands its terms; Python's own parser reads each factor, and
only what is named here is made of it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bayeslmm.design.model_matrix import aliases_for, unaliased
from bayeslmm.errors import DescriptionError
from bayeslmm.formula.parse import columns_of, rename_columns
from bayeslmm.formula.transforms import ELEMENTWISE
from bayeslmm.sources.expressions import (
    Arithmetic,
    Call,
    Column,
    Expression,
    Negative,
    Number,
    Polynomial,
    Standardised,
)

_SIGNS: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_SPLINES = ("bs", "cr", "cs", "cc")


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A factor of a term.

    Attributes
    ----------
    text : str
        As formulaic writes it.
    label : str
        The same with the data's own names of columns.
    category : str
        The column whose categories it stands for; "" for numbers.
    numbers : tuple of Expression
        One, or as many as a polynomial has.
    """

    text: str
    label: str
    category: str = ""
    numbers: tuple[Expression, ...] = ()


def read_number(text: str) -> Expression:
    """The expression of a response or an offset.

    Examples
    --------
    >>> sorted(read_number("log(`body mass`) - 2").columns)
    ['body mass']
    """
    aliases = _plain_names(columns_of(f"offset({text})"))
    found = _expression(_tree(rename_columns(f"I({text})", aliases), text), _names(aliases))
    assert isinstance(found, Expression)
    return found


def read_terms(text: str, categories: Collection[str]) -> list[tuple[Factor, ...]]:
    """The terms of a right-hand side, each with its factors; `categories` are the columns that hold no numbers.

    Examples
    --------
    >>> [[factor.text for factor in term] for term in read_terms("1 + x*f", {"f"})]
    [[], ['x'], ['f'], ['x', 'f']]
    """
    from formulaic import Formula

    aliases = aliases_for(columns_of(text))
    names = _names(aliases)
    out = []
    for term in Formula(rename_columns(text, aliases)):
        factors = [str(factor.expr) for factor in term.factors]
        out.append(tuple(_factor(own, names, categories, text) for own in factors if own != "1"))
    return out


def _factor(text: str, names: Mapping[str, str], categories: Collection[str], whole: str) -> Factor:
    tree, label = _tree(text, whole), _real(text, names)
    if isinstance(tree, ast.Name) and names.get(tree.id, tree.id) in categories:
        return Factor(text=text, label=label, category=names.get(tree.id, tree.id))
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "C":
        inner = tree.args[0]
        if isinstance(inner, ast.Name):
            return Factor(text=text, label=label, category=names.get(inner.id, inner.id))
    found = _expression(tree, names)
    if isinstance(found, Polynomial):
        numbers = tuple(found.column(k + 1) for k in range(found.degree))
        return Factor(text=text, label=label, numbers=numbers)
    return Factor(text=text, label=label, numbers=(found,))


def _tree(text: str, whole: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise DescriptionError(f"{text!r} in {whole!r} can't be computed where the rows are. {REMEDY}") from None


REMEDY = "Make it a column of the source first, or collect the rows: blm.LMM(formula, frame)."


def _expression(tree: ast.expr, names: Mapping[str, str]) -> Expression | Polynomial:
    if isinstance(tree, ast.Name):
        return Column(names.get(tree.id, tree.id))
    if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)):
        return Number(float(tree.value))
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, (ast.USub, ast.UAdd)):
        inner = _one(tree.operand, names)
        if isinstance(tree.op, ast.UAdd):
            return inner
        return Number(-inner.value) if isinstance(inner, Number) else Negative(inner)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _SIGNS:
        return Arithmetic(_SIGNS[type(tree.op)], _one(tree.left, names), _one(tree.right, names))
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return _call(tree, tree.func.id, names)
    raise DescriptionError(f"{ast.unparse(tree)!r} can't be computed where the rows are. {REMEDY}")


def _one(tree: ast.expr, names: Mapping[str, str]) -> Expression:
    found = _expression(tree, names)
    if isinstance(found, Polynomial):
        raise DescriptionError(f"{found.text} makes several columns and cannot stand inside another expression.")
    return found


def _call(tree: ast.Call, name: str, names: Mapping[str, str]) -> Expression | Polynomial:
    given = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in tree.keywords}
    rest: list[Any] = [ast.literal_eval(argument) for argument in tree.args[1:]]
    text = _real(ast.unparse(tree), names)
    if name in _SPLINES:
        raise DescriptionError(
            f"{text} has knots that depend on all rows in order, and is not computed where the rows are. Write "
            "poly(x, 3), or make the spline's columns in the source; or collect the rows: blm.LMM(formula, frame)."
        )
    inner = _one(tree.args[0], names)
    if name in ELEMENTWISE or name == "I":
        return Call(name, inner)
    if name == "center":
        return Standardised(text, inner, centred=True, divided=False)
    if name == "scale":
        options = dict(zip(("center", "scale", "ddof"), rest, strict=False)) | given
        return Standardised(
            text, inner, bool(options.get("center", True)), bool(options.get("scale", True)), options.get("ddof", 1)
        )
    if name == "poly":
        options = dict(zip(("degree", "raw"), rest, strict=False)) | given
        return Polynomial(text, inner, int(options.get("degree", 1)), bool(options.get("raw", False)))
    raise DescriptionError(f"{text} can't be computed where the rows are. {REMEDY}")


def _plain_names(used: Collection[str]) -> dict[str, str]:
    """Names that Python reads for all columns."""
    return {name: f"column_{k}" for k, name in enumerate(used)}


def _real(text: str, names: Mapping[str, str]) -> str:
    return unaliased(text, {name: alias for alias, name in names.items()})


def _names(aliases: Mapping[str, str]) -> dict[str, str]:
    return {alias: name for name, alias in aliases.items()}
