"""Groups: the observed combinations of columns, ordered and labelled as lme4 does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.data.table import check_one_type


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """The groups that rows belong to.

    Attributes
    ----------
    index : numpy.ndarray
        The group of each row, int64, from 0.
    keys : tuple of tuple of str
        Per group, the label of each grouping column.
    labels : tuple of str
        Per group, the labels of the columns joined by a colon: "1:1".
    """

    index: np.ndarray
    keys: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]


def find_groups(columns: Sequence[pd.Series]) -> Groups:
    """Find the observed combinations of columns; the first column varies slowest.

    Each column's values are sorted: numbers as numbers, text by code point, categories in their order.

    Examples
    --------
    >>> find_groups([pd.Series([2, 1, 2]), pd.Series(["a", "b", "a"])]).labels
    ('1:b', '2:a')
    """
    index, labels = sorted_codes(columns[0])
    codes = np.arange(len(labels))[:, None]
    every = [labels]
    for column in columns[1:]:
        inner, labels = sorted_codes(column)
        index, observed = pd.factorize(index * len(labels) + inner, sort=True)
        codes = np.column_stack([codes[observed // len(labels)], observed % len(labels)])
        every.append(labels)
    parts = [[names[i] for i in codes[:, k].tolist()] for k, names in enumerate(every)]
    keys = tuple(zip(*parts, strict=True))
    return Groups(index=np.asarray(index, dtype=np.int64), keys=keys, labels=join_labels(keys))


def sorted_codes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return per row the code of its value, and the sorted values as text.

    Examples
    --------
    >>> codes, labels = sorted_codes(pd.Series([10.0, 9.0, 10.0]))
    >>> codes.tolist(), labels
    ([1, 0, 1], ['9', '10'])
    """
    check_one_type(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(dtype=np.int64), [_label(v) for v in column.cat.categories.tolist()]
    values = column.to_numpy() if column.dtype.kind in "biuf" else column
    codes, levels = pd.factorize(values, sort=True)
    if getattr(levels, "dtype", None) is not None and levels.dtype.kind in "iu":
        return codes, list(map(str, levels.tolist()))
    return codes, [_label(value) for value in levels.tolist()]


def join_labels(keys: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Join the labels of each group by colons; quote those that would read alike.

    Examples
    --------
    >>> join_labels([("1", "1"), ("1", "2")])
    ('1:1', '1:2')
    >>> join_labels([("a:b", "c"), ("a", "b:c")])
    ("'a:b':'c'", "'a':'b:c'")
    """
    joined = [":".join(key) for key in keys]
    if len(set(joined)) == len(joined):
        return tuple(joined)
    times = Counter(joined)
    quoted = [":".join(map(repr, key)) for key in keys]
    mixed = tuple(quote if times[join] > 1 else join for join, quote in zip(joined, quoted, strict=True))
    return mixed if len(set(mixed)) == len(mixed) else tuple(quoted)


def spread(counts: np.ndarray, one: str, many: str) -> str:
    """Say how large groups are.

    Examples
    --------
    >>> spread(np.array([2, 2]), "row", "rows"), spread(np.array([1, 4]), "row", "rows")
    ('2 rows each', '1 to 4 rows each, 2.5 on average')
    """
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return f"{low} {one if low == 1 else many} each"
    mean = counts.mean()
    return f"{low} to {high} {many} each, {mean:.{0 if mean >= 100 else 1}f} on average"


def _label(value) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, pd.Timestamp) and value == value.normalize():
        return str(value.date())
    return str(value)
