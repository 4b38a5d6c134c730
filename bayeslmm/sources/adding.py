"""Cells of two sets of rows as one: counts and sums add, products are taken around the common mean.

Source: Chan, Golub & LeVeque (1983), for the update of sums of squares by means and their distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.sources.cells import Cells

_EPS = float(np.finfo(float).eps)


def cells_of(keys: pd.DataFrame, atoms: dict[str, np.ndarray]) -> Cells:
    """The cells of rows in memory.

    Parameters
    ----------
    keys : pandas.DataFrame
        The rows' keys.
    atoms : dict of str to (n,) array
        Columns of numbers.

    Examples
    --------
    >>> cells = cells_of(pd.DataFrame({"g": ["a", "b", "a"]}), {"y": np.array([1.0, 5.0, 3.0])})
    >>> cells.counts.tolist(), (cells.products.ravel() * cells.scale**2).tolist()
    ([2.0, 1.0], [2.0, 0.0])
    """
    n, names = len(keys), tuple(atoms)
    values = np.column_stack([np.zeros((n, 0)), *atoms.values()])
    shift = values.mean(axis=0)
    reach = np.abs(values - shift).max(axis=0)
    scale = np.where(reach > 0, 2.0 ** np.ceil(np.log2(np.where(reach > 0, reach, 1.0))), 1.0)
    each = Cells(
        keys=keys.reset_index(drop=True), names=names, counts=np.ones(n), shift=shift, scale=scale,
        sums=(values - shift) / scale, products=np.zeros((n, 0, 0)), noise=np.zeros((n, 0)), lowest=values,
        highest=values, filled=(values != 0).astype(float),
    )  # fmt: skip
    return joined(each, list(keys.columns))


def joined(cells: Cells, keys: Sequence[str]) -> Cells:
    """Cells of the same values of these keys as one; products of none stand for those of single rows, zero."""
    frame = cells.keys[list(keys)]
    index = np.zeros(len(cells.counts), dtype=np.int64)
    if len(keys):
        index = frame.groupby(list(keys), sort=True, observed=True, dropna=False).ngroup().to_numpy()
    C, A = int(index.max(initial=-1)) + 1, len(cells.names)
    first = np.zeros(C, dtype=np.int64)
    first[index[::-1]] = np.arange(len(index))[::-1]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(C))

    def summed(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[order], starts, axis=0)

    counts, sums = summed(cells.counts), summed(cells.sums)
    away = cells.sums / cells.counts[:, None] - (sums / counts[:, None])[index]
    off = summed(cells.counts[:, None] * away) / counts[:, None]  # what rounding left of a mean
    products, noise = np.zeros((C, A, A)), np.zeros((C, A))
    for a in range(A):
        for b in range(a + 1):
            between = summed(cells.counts * away[:, a] * away[:, b]) - counts * off[:, a] * off[:, b]
            if a == b:
                noise[:, a] = _EPS * (16 + 2 * np.sqrt(counts)) * between
            if cells.products.size:
                between = between + summed(cells.products[:, a, b])
            products[:, a, b] = products[:, b, a] = between
    if cells.noise.size:
        noise += summed(cells.noise)
    lowest = np.minimum.reduceat(cells.lowest[order], starts, axis=0)
    highest = np.maximum.reduceat(cells.highest[order], starts, axis=0)
    flat = lowest == highest
    products = np.where(flat[:, :, None] | flat[:, None, :], 0.0, products)
    return replace(
        cells, keys=frame.iloc[first].reset_index(drop=True), counts=counts, sums=sums, products=products, noise=noise,
        lowest=lowest, highest=highest, filled=summed(cells.filled),
    )  # fmt: skip


def added(one: Cells, other: Cells, keys: Sequence[str]) -> Cells:
    """Both as cells of these keys, on the shifts and scales of the first.

    Examples
    --------
    >>> one = cells_of(pd.DataFrame({"g": ["a", "a"]}), {"y": np.array([1e6, 1e6 + 2])})
    >>> other = cells_of(pd.DataFrame({"g": ["a", "b"]}), {"y": np.array([1e6 + 4, 7.0])})
    >>> both = added(one, other, ["g"])
    >>> both.keys["g"].tolist(), both.counts.tolist(), (both.products[:, 0, 0] * both.scale[0] ** 2).tolist()
    (['a', 'b'], [3.0, 1.0], [8.0, 0.0])
    """
    n = len(one.counts) + len(other.counts)
    order = [other.names.index(name) for name in one.names]
    ratio = other.scale[order] / one.scale
    moved = other.counts[:, None] * ((other.shift[order] - one.shift) / one.scale)
    whole = replace(
        one,
        keys=pd.DataFrame({name: _stacked(one.keys[name], other.keys[name]) for name in keys}, index=range(n)),
        counts=np.concatenate([one.counts, other.counts]),
        sums=np.concatenate([one.sums, other.sums[:, order] * ratio + moved]),
        products=np.concatenate([one.products, other.products[:, order][:, :, order] * np.outer(ratio, ratio)]),
        noise=np.concatenate([one.noise, other.noise[:, order] * ratio**2]),
        lowest=np.concatenate([one.lowest, other.lowest[:, order]]),
        highest=np.concatenate([one.highest, other.highest[:, order]]),
        filled=np.concatenate([one.filled, other.filled[:, order]]),
    )
    return joined(whole, keys)


def _stacked(one: pd.Series, other: pd.Series) -> Any:
    """One column above another; categories in the order of the first, new ones behind them.

    Examples
    --------
    >>> _stacked(pd.Series(pd.Categorical(["b"], categories=["b", "a"])), pd.Series(["a", "0"])).categories.tolist()
    ['b', 'a', '0']
    """
    kinds = [isinstance(column.dtype, pd.CategoricalDtype) for column in (one, other)]
    if any(kinds):
        levels = [
            column.cat.categories if kind else pd.unique(column)
            for column, kind in zip((one, other), kinds, strict=True)
        ]
        known = list(dict.fromkeys([*levels[0], *levels[1]]))
        return pd.Categorical([*one, *other], categories=known)
    if one.dtype.kind in "biuf" and other.dtype.kind in "biuf":
        return np.concatenate([one.to_numpy(), other.to_numpy()])  # truths and numbers are numbers
    return pd.concat([one, other], ignore_index=True)
