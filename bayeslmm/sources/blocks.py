"""The rows of a source some at a time: one small function an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bayeslmm.data.table import from_narwhals
from bayeslmm.sources.source import Source, open_rows

BLOCK = 200_000  # rows at a time


def blocks_of(source: Source, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """The rows in frames of some of them each, in the order in which the engine reads them.

    Examples
    --------
    >>> rows = Source(sql="SELECT i AS x FROM range(5) AS t(i)")
    >>> [len(block) for block in blocks_of(rows)]
    [5]
    """
    table = open_rows(source)
    if columns is not None:
        table = table.select(*columns)
    kind = table.implementation
    native = table.to_native()
    parts = _duckdb(native) if kind.is_duckdb() else _polars(native) if kind.is_polars() else _spark(native)
    for first, part in _numbered(parts):
        yield part.set_index(pd.RangeIndex(first, first + len(part)))


def _numbered(parts: Iterator[pd.DataFrame]) -> Iterator[tuple[int, pd.DataFrame]]:
    first = 0
    for part in parts:
        if len(part):
            yield first, part
            first += len(part)


def _frame(native: Any) -> pd.DataFrame:
    import narwhals.stable.v2 as nw

    return from_narwhals(nw.from_native(native, eager_only=True))


def _duckdb(native: Any) -> Iterator[pd.DataFrame]:
    import pyarrow as pa

    for batch in native.to_arrow_reader(BLOCK):
        yield _frame(pa.Table.from_batches([batch]))


def _polars(native: Any) -> Iterator[pd.DataFrame]:
    for batch in native.collect_batches(chunk_size=BLOCK, maintain_order=True):
        yield _frame(batch)


def _spark(native: Any) -> Iterator[pd.DataFrame]:
    names, rows = list(native.columns), []
    for row in native.toLocalIterator():
        rows.append(tuple(row))
        if len(rows) == BLOCK:
            yield pd.DataFrame(rows, columns=names)
            rows = []
    yield pd.DataFrame(rows, columns=names)
