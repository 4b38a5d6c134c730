"""The second pass: counts, sums and products of the columns in cells of all keys, by one GROUP BY.

Columns are shifted by their means and scaled by a power of two before they are multiplied, and products are taken
around each cell's own mean: S = sum (a - m)(b - m) - sum (a - m) sum (b - m) / n. Where cells differ so much more than
rows within them that this difference loses digits, the cells' means are joined to the rows first.

Source: Chan, Golub & LeVeque (1983), the shifted two-pass algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DataError
from bayeslmm.sources.expressions import Expression, State
from bayeslmm.sources.source import ask
from bayeslmm.sources.survey import Moments, lifted
from bayeslmm.support.memory_limit import gigabytes

MEMORY = 4e9  # bytes that the cells and the rows made of them may take
_COPIES = 6  # of the columns: as they are, what rounding took, on their own scale, and in work
_LOST = 1e-5  # share of a column's variation within cells from which on the cells' means are joined to the rows
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Sums over the rows of each cell: C cells, A columns ("atoms").

    Attributes
    ----------
    keys : pandas.DataFrame
        C rows: the values of all keys, in their order.
    names : tuple of str
        Of the atoms.
    counts : (C,) array
    shift, scale : (A,) arrays
        What sums and products were taken of: (a - shift) / scale.
    sums : (C, A) array
    products : (C, A, A) array
        Around the cell's mean.
    noise : (C, A) array
        What of a square is rounding.
    lowest, highest : (C, A) arrays
        Extremes, as they are.
    filled : (C, A) array
        How many values are not zero.
    """

    keys: pd.DataFrame
    names: tuple[str, ...]
    counts: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    sums: np.ndarray
    products: np.ndarray
    noise: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    filled: np.ndarray


def count_cells(table: Any, keys: Sequence[str]) -> int:
    """Number of cells, before anything is computed in them."""
    import narwhals.stable.v2 as nw

    if not keys:
        return 1
    cells = table.group_by(*keys).agg(n=nw.len()).select(n=nw.len())
    return int(ask(cells, "counting the cells")["n"].iloc[0])


def check_budget(cells: int, n: int, keys: Sequence[str], numbers: int, remedies: Sequence[str] = ()) -> None:
    """Refuse more cells than there is memory for.

    Parameters
    ----------
    cells, n : int
        Number of cells and of rows.
    keys : sequence of str
    numbers : int
        That are kept for each cell.
    remedies : sequence of str
        What to do about it, besides the general.

    Raises
    ------
    DataError
    """
    each = 8.0 * numbers + 64.0 * len(keys)
    if cells * each <= MEMORY:
        return
    said = " ".join(remedies)
    raise DataError(
        f"The keys {', '.join(map(repr, keys))} make {count_words(cells)} of {n:,} rows, and each takes {each:,.0f} "
        f"bytes: {gigabytes(cells * each)} in all; at most {int(MEMORY / each):,} cells are supported "
        f"({gigabytes(MEMORY)}). {said}{' ' * bool(said)}Leave out terms or groupings, group by less, or fit a subset "
        "of the groups."
    )


def check_columns_budget(rows: int, cells: int, columns: int) -> None:
    """Refuse more columns, on rows that stand for those of the cells, than there is memory for.

    Raises
    ------
    DataError
    """
    size = 8.0 * _COPIES * rows * columns
    if size > MEMORY:
        raise DataError(
            f"The terms make {columns:,} columns, and {count_words(cells)} are {rows:,} rows of them: "
            f"{gigabytes(size)} in all; at most {gigabytes(MEMORY)} are supported. Leave out terms, make a fixed "
            "factor of many levels a grouping, (1 | factor), or group by less."
        )


def count_words(cells: int) -> str:
    """Say how many cells."""
    return f"{cells:,} cell{'s' * (cells != 1)}"


def compute_cells(
    table: Any,
    keys: Sequence[str],
    atoms: Mapping[str, Expression],
    state: State,
    found: Mapping[str, Moments],
    fixed: Sequence[str] = (),
    zeros: Sequence[str] = (),
) -> Cells:
    """Sums and products of the atoms in cells of the keys.

    Parameters
    ----------
    table : narwhals.LazyFrame
    keys : sequence of str
    atoms : mapping of str to Expression
    state : mapping
        What transforms remember.
    found : mapping of str to Moments
    fixed : sequence of str
        Atoms that have one value in each cell.
    zeros : sequence of str
        Atoms of which the values that aren't zero are counted.
    """
    names = list(atoms)
    loose = [name for name in names if name not in fixed and not found[name].constant]
    shift = np.array([found[name].mean for name in names])
    scale = np.array([found[name].scale for name in names])
    key_names = {key: f"key{k}" for k, key in enumerate(keys)}
    rows = _rows(table, key_names, names, atoms, state)
    raw = ask(_grouped(rows, key_names, names, loose, zeros, shift, scale), "computing sums in cells")
    cells = _assemble(raw, key_names, names, loose, zeros, shift, scale, found)
    if _loses(cells, [names.index(name) for name in loose]) and keys:
        raw = ask(_centred(rows, key_names, names, loose, shift, scale), "computing products around the cells' means")
        return _refined(cells, raw, key_names, names, loose)
    return cells


def _rows(table: Any, keys: Mapping[str, str], names: list[str], atoms: Mapping[str, Expression], state: State) -> Any:
    """The keys and the atoms alone, under names that any engine takes."""
    import narwhals.stable.v2 as nw

    own = {alias: nw.col(key) for key, alias in keys.items()}
    return table.select(**own, **{f"a{k}": lifted(atoms[name], state) for k, name in enumerate(names)})


def _grouped(
    rows: Any,
    keys: Mapping[str, str],
    names: list[str],
    loose: list[str],
    zeros: Sequence[str],
    shift: np.ndarray,
    scale: np.ndarray,
) -> Any:
    import narwhals.stable.v2 as nw

    inner = [names.index(name) for name in loose]
    rows = rows.with_columns(**{f"c{k}": (nw.col(f"a{k}") - float(shift[k])) * (1.0 / float(scale[k])) for k in inner})
    asked: dict[str, Any] = {"n": nw.len()}
    for k, name in enumerate(names):
        asked[f"low{k}"] = nw.col(f"a{k}").min()
        if k in inner:
            asked |= {f"high{k}": nw.col(f"a{k}").max(), f"s{k}": nw.col(f"c{k}").sum()}
            asked |= {f"p{k}_{j}": (nw.col(f"c{k}") * nw.col(f"c{j}")).sum() for j in inner if j <= k}
        if name in zeros:
            asked[f"z{k}"] = (nw.col(f"a{k}") != 0.0).cast(nw.Float64).sum()
    return rows.group_by(*keys.values()).agg(**asked) if keys else rows.select(**asked)


def _assemble(
    raw: pd.DataFrame,
    keys: Mapping[str, str],
    names: list[str],
    loose: list[str],
    zeros: Sequence[str],
    shift: np.ndarray,
    scale: np.ndarray,
    found: Mapping[str, Moments],
) -> Cells:
    raw = raw.sort_values(list(keys.values()), kind="stable", ignore_index=True) if keys else raw
    C, A = len(raw), len(names)
    counts = raw["n"].to_numpy(dtype=float)
    lowest, highest, sums, filled = (np.zeros((C, A)) for _ in range(4))
    products, noise = np.zeros((C, A, A)), np.zeros((C, A))
    inner = [names.index(name) for name in loose]
    for k, name in enumerate(names):
        lowest[:, k] = highest[:, k] = raw[f"low{k}"].to_numpy(dtype=float)
        if k in inner:
            highest[:, k] = raw[f"high{k}"].to_numpy(dtype=float)
            sums[:, k] = raw[f"s{k}"].to_numpy(dtype=float)
        sums[:, k] = np.where(
            lowest[:, k] == highest[:, k], counts * ((lowest[:, k] - shift[k]) / scale[k]), sums[:, k]
        )
        zero = found[name].lowest == 0.0 == found[name].highest
        filled[:, k] = raw[f"z{k}"].to_numpy(dtype=float) if name in zeros else 0.0 if zero else counts
    for k in inner:
        for j in inner:
            if j > k:
                continue
            P = raw[f"p{k}_{j}"].to_numpy(dtype=float)
            S = P - sums[:, k] * sums[:, j] / counts
            if j == k:
                noise[:, k] = _EPS * (16 + 2 * np.sqrt(counts)) * P
            S = np.where((lowest[:, k] == highest[:, k]) | (lowest[:, j] == highest[:, j]), 0.0, S)
            products[:, k, j] = products[:, j, k] = S
    own = raw[list(keys.values())].set_axis(list(keys), axis=1)
    return Cells(
        keys=own, names=tuple(names), counts=counts, shift=shift, scale=scale, sums=sums, products=products,
        noise=noise, lowest=lowest, highest=highest, filled=filled,
    )  # fmt: skip


def _loses(cells: Cells, inner: list[int]) -> bool:
    """Whether products around the cells' means are small differences of large numbers."""
    for k in inner:
        within = cells.products[:, k, k].sum()
        between = (cells.sums[:, k] ** 2 / cells.counts).sum()
        if 0 <= within < _LOST * between:
            return True
    return False


def _centred(
    rows: Any, keys: Mapping[str, str], names: list[str], loose: list[str], shift: np.ndarray, scale: np.ndarray
) -> Any:
    """The same sums of rows less their cell's mean, which is joined to them."""
    import narwhals.stable.v2 as nw

    inner, own = [names.index(name) for name in loose], list(keys.values())
    rows = rows.with_columns(**{f"c{k}": (nw.col(f"a{k}") - float(shift[k])) * (1.0 / float(scale[k])) for k in inner})
    means = rows.group_by(*own).agg(**{f"m{k}": nw.col(f"c{k}").mean() for k in inner})
    joined = rows.join(means, on=own, how="inner").with_columns(
        **{f"d{k}": nw.col(f"c{k}") - nw.col(f"m{k}") for k in inner}
    )
    asked: dict[str, Any] = {f"m{k}": nw.col(f"m{k}").min() for k in inner}
    asked |= {f"s{k}": nw.col(f"d{k}").sum() for k in inner}
    asked |= {f"p{k}_{j}": (nw.col(f"d{k}") * nw.col(f"d{j}")).sum() for k in inner for j in inner if j <= k}
    return joined.group_by(*own).agg(**asked)


def _refined(cells: Cells, raw: pd.DataFrame, keys: Mapping[str, str], names: list[str], loose: list[str]) -> Cells:
    """The cells with sums and products by way of their own means."""
    from dataclasses import replace

    raw = raw.sort_values(list(keys.values()), kind="stable", ignore_index=True)
    sums, products, noise = cells.sums.copy(), cells.products.copy(), cells.noise.copy()
    inner = [names.index(name) for name in loose]
    flat = cells.lowest == cells.highest
    off = {k: raw[f"s{k}"].to_numpy(dtype=float) for k in inner}
    for k in inner:
        whole = cells.counts * raw[f"m{k}"].to_numpy(dtype=float) + off[k]
        sums[:, k] = np.where(flat[:, k], cells.sums[:, k], whole)
        for j in inner:
            if j > k:
                continue
            P = raw[f"p{k}_{j}"].to_numpy(dtype=float)
            if j == k:
                size = np.abs(raw[f"m{k}"].to_numpy(dtype=float)) * _EPS
                noise[:, k] = _EPS * (16 + 2 * np.sqrt(cells.counts)) * P + 16 * cells.counts * size**2
            S = np.where(flat[:, k] | flat[:, j], 0.0, P - off[k] * off[j] / cells.counts)
            products[:, k, j] = products[:, j, k] = S
    return replace(cells, sums=sums, products=products, noise=noise)
