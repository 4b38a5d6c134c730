"""What center(), scale() and poly() remember of all rows, asked of the engine: a query for each thing to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bayeslmm.errors import DataError
from bayeslmm.sources.expressions import Expression, Polynomial, PolynomialColumn, Standardised, State
from bayeslmm.sources.source import ask
from bayeslmm.sources.survey import lifted, moments


def remember(table: Any, n: int, expressions: Iterable[Expression]) -> dict[str, dict[str, Any]]:
    """The state of all transforms within the expressions, as formulaic keeps it, inner ones first.

    Raises
    ------
    DataError
        Where one has no value: the scale of a constant.
    """
    state: dict[str, dict[str, Any]] = {}
    for one in _transforms(expressions):
        if isinstance(one, Standardised) and one.text not in state:
            state[one.text] = _standard(table, n, one, state)
        elif isinstance(one, Polynomial) and one.text not in state:
            state[one.text] = _polynomial(table, n, one, state)
    return state


def _transforms(expressions: Iterable[Expression]) -> Iterator[Standardised | Polynomial]:
    for one in expressions:
        yield from _transforms(one.inside)
        if isinstance(one, Standardised):
            yield one
        elif isinstance(one, PolynomialColumn):
            yield one.whole


def _standard(table: Any, n: int, one: Standardised, state: State) -> dict[str, Any]:
    found = moments(table, n, {one.text: one.of}, state)[one.text]
    x = lifted(one.of, state)
    own: dict[str, Any] = {"ddof": one.ddof, "center": None, "scale": None}
    first = x - found.mean  # of which the mean is not lost in a large one
    asked = ask(table.select(d=first).select(**_sums("d")), f"computing {one.text}").iloc[0]
    off = float(asked["s"]) / n
    mean = found.mean + off
    if one.centred:
        own["center"] = np.float64(mean)
    if one.divided:
        squares = float(asked["q"]) - n * off**2 if one.centred else float(asked["q"]) + n * (mean**2 - off**2)
        sd = np.sqrt(max(squares, 0.0) / (n - one.ddof)) if n > one.ddof else 0.0
        if not sd > 0 or found.constant:
            raise DataError(f"{one.text} has no value, because its argument is {found.mean:g} in every row.")
        own["scale"] = np.float64(sd)
    return own


def _sums(name: str) -> dict[str, Any]:
    import narwhals.stable.v2 as nw

    return {"s": nw.col(name).sum(), "q": (nw.col(name) * nw.col(name)).sum()}


def _polynomial(table: Any, n: int, one: Polynomial, state: State) -> dict[str, Any]:
    """The recurrence's coefficients: x's mean under each polynomial's square, and its norm, a query a degree."""
    import narwhals.stable.v2 as nw

    found = moments(table, n, {one.text: one.of}, state)[one.text]
    if found.constant:
        raise DataError(f"{one.text} has no value, because its argument is {found.mean:g} in every row.")
    own: dict[str, Any] = {"alpha": {}, "norms2": {0: np.float64(n)}}
    inner = {**state, one.text: own}
    for k in range(one.degree + 1):
        p = one.monic(k, inner)
        x = lifted(one.of, state) - found.mean
        rows = table.select(p=p if k else nw.lit(1.0), x=x) if k else table.select(x=x).with_columns(p=nw.lit(1.0))
        squares = nw.col("p") * nw.col("p")
        asked = ask(rows.select(n=squares.sum(), a=(squares * nw.col("x")).sum()), f"computing {one.text}").iloc[0]
        norm = float(asked["n"])
        size = (found.highest - found.lowest) ** (2 * k) * n
        if not norm > 1e-28 * size:
            raise DataError(
                f"{one.text} has too few distinct values for a polynomial of degree {one.degree}. Write a lower degree."
            )
        own["norms2"][k] = np.float64(norm)
        if k < one.degree:
            own["alpha"][k] = np.float64(found.mean + float(asked["a"]) / norm)
    return own
