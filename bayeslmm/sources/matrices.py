"""Columns of X and Z from cells: a product of atoms, which are numbers, and codes of categories, which are keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.model_matrix import INTERCEPT, Encoder
from bayeslmm.errors import DescriptionError
from bayeslmm.sources.cells import Cells
from bayeslmm.sources.expressions import Arithmetic, Expression
from bayeslmm.sources.reading import REMEDY, Factor
from bayeslmm.sources.rows import CellRows


@dataclass(frozen=True, kw_only=True)
class MadeColumn:
    """A column: an atom (none where it is constant) times the codes of categories, each a value per category.

    Attributes
    ----------
    atom : str
    codes : tuple of (column of the data, {category: value})
    """

    name: str
    atom: str = ""
    codes: tuple[tuple[str, Mapping[Any, float]], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """Columns of rows that stand for others (`counted`), and what is known of those that they stand for.

    Attributes
    ----------
    columns, rest : (N, r) arrays
        `rest` is what rounding took from them.
    seen : (3, r) array
        Least and largest values over all rows, and how many are not zero.
    """

    columns: np.ndarray
    rest: np.ndarray
    seen: np.ndarray


def atoms_of(terms: Sequence[tuple[Factor, ...]]) -> dict[str, Expression]:
    """Products of the numbers of each term, by name: "x", "x:z", "poly(x, 2)[1]:z"."""
    out: dict[str, Expression] = {}
    for term in terms:
        numbers = [list(enumerate(factor.numbers)) for factor in term if factor.numbers]
        texts = [factor.label for factor in term if factor.numbers]
        for chosen in product(*numbers) if numbers else ():
            key = atom_key(texts, [k for k, _ in chosen])
            whole: Expression = chosen[0][1]
            for _, other in chosen[1:]:
                whole = Arithmetic("*", whole, other)
            out.setdefault(key, whole)
    return out


def atom_key(texts: Sequence[str], places: Sequence[int]) -> str:
    """The name of a product of factors, each with which of its columns it is."""
    return ":".join(f"{text}[{k}]" if k else text for text, k in zip(texts, places, strict=True))


def columns_made(encoder: Encoder, terms: Sequence[tuple[Factor, ...]]) -> list[MadeColumn]:
    """How each column of a side comes from atoms and categories, in formulaic's order and under its names.

    Raises
    ------
    DescriptionError
        Where formulaic makes other columns than these.
    """
    if encoder.spec is None:
        return [MadeColumn(name=name, atom="" if name == INTERCEPT else name) for name in encoder.names]
    factors = {factor.text: factor for term in terms for factor in term}
    out: list[MadeColumn] = []
    for structure in encoder.spec.structure:
        for scoped in structure.scoped_terms:
            parts = [_parts(encoder, factors, str(own.factor.expr), own.reduced) for own in scoped.factors]
            for chosen in product(*reversed(parts)):
                picked = chosen[::-1]
                numbers = [(text, k) for text, k, _ in picked if k is not None]
                codes = tuple(code for _, _, code in picked if code is not None)
                atom = atom_key([text for text, _ in numbers], [k for _, k in numbers]) if numbers else ""
                scale = 1.0 if scoped.scale is None else float(scoped.scale)
                if scale != 1.0:
                    raise DescriptionError(f"{encoder.text!r} has a number as a factor. {REMEDY}")
                out.append(MadeColumn(name="", atom=atom, codes=codes))
    every = encoder.written or encoder.names
    if len(out) != len(every):
        raise DescriptionError(f"{encoder.text!r} can't be computed where the rows are. {REMEDY}")
    return [MadeColumn(name=name, atom=own.atom, codes=own.codes) for name, own in zip(every, out, strict=True)]


def _parts(
    encoder: Encoder, factors: Mapping[str, Factor], text: str, reduced: bool
) -> list[tuple[str, int | None, tuple[str, Mapping[Any, float]] | None]]:
    """The columns of one factor: (its text, which of its numbers, or the codes of its categories)."""
    factor = factors[text]
    if not factor.category:
        return [(factor.label, k, None) for k in range(len(factor.numbers))]
    contrasts = encoder.spec.encoder_state[text][1]["contrasts"]
    coding = contrasts.get_coding_matrix(reduced_rank=reduced)
    levels, values = list(contrasts.levels), np.asarray(coding, dtype=float)
    return [
        (text, None, (factor.category, dict(zip(levels, values[:, j].tolist(), strict=True))))
        for j in range(values.shape[1])
    ]


def matrix_of(made: Sequence[MadeColumn], cells: Cells, rows: CellRows, keys: pd.DataFrame) -> Matrix:
    """The columns, on rows that stand for those of the cells; `keys` are plain columns of one row a cell."""
    N, r = len(rows.cell), len(made)
    columns, rest, seen = np.empty((N, r)), np.zeros((N, r)), np.empty((3, r))
    codes: dict[tuple[str, int], np.ndarray] = {}
    for j, one in enumerate(made):
        code = np.ones(len(cells.counts))
        for name, values in one.codes:
            place = (name, id(values))
            if place not in codes:
                codes[place] = _coded(keys[name], values)
            code = code * codes[place]
        if one.atom:
            a = cells.names.index(one.atom)
            columns[:, j] = rows.values[a] * code[rows.cell]
            rest[:, j] = rows.rest[a] * code[rows.cell]
            ends = np.stack([cells.lowest[:, a] * code, cells.highest[:, a] * code])
            filled = np.where(code != 0, cells.filled[:, a], 0.0)
        else:
            columns[:, j] = code[rows.cell]
            ends = np.stack([code, code])
            filled = np.where(code != 0, cells.counts, 0.0)
        seen[:, j] = ends.min(), ends.max(), filled.sum()
    return Matrix(columns=columns, rest=rest, seen=seen)


def _coded(column: pd.Series, values: Mapping[Any, float]) -> np.ndarray:
    """The value of each row's category."""
    which, levels = pd.factorize(column.astype(object) if column.dtype.kind not in "biuf" else column)
    known = {_plain(level): value for level, value in values.items()}
    return np.array([known.get(_plain(level), np.nan) for level in levels])[which]


def _plain(value: Any) -> Any:
    """A category as Python's own kind, so that 1 and numpy's 1 are the same."""
    return value.item() if isinstance(value, np.generic) else value
