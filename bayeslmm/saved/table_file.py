"""The table that a model was made from, as a CSV that any program reads and a record of what a CSV can't say."""

from __future__ import annotations

import csv
import io
import json
from itertools import batched
from typing import Any

import pandas as pd

from bayeslmm.data.table import Taken
from bayeslmm.errors import DataError
from bayeslmm.saved.columns import Record, describe, to_column, to_texts

_BLOCK = 50_000  # rows that are read at once, which bounds the memory that their texts take


def write_table(taken: Taken) -> tuple[str, Record]:
    """Write a table: (its CSV, its record).

    Examples
    --------
    >>> text, record = write_table(Taken(frame=pd.DataFrame({"y": [0.1, 2.0], "g": ["a", "b,"]})))
    >>> print(text)
    "y","g"
    0.1,"a"
    2.0,"b,"
    <BLANKLINE>
    >>> read_table(text, record).frame["g"].tolist()
    ['a', 'b,']
    """
    index, labels = _index_columns(taken.frame.index)
    columns = [*labels, *(taken.frame[name] for name in taken.frame.columns)]
    names = [*(f"row label {k + 1}" for k in range(len(labels))), *map(str, taken.frame.columns)]
    records = [describe(column) for column in columns]
    cells = [
        to_texts(column) if record["kind"] in ("numbers", "truths") else list(map(_quoted, to_texts(column)))
        for column, record in zip(columns, records, strict=True)
    ]
    lines = [",".join(map(_quoted, names)), *map(",".join, zip(*cells, strict=True))]
    record = {
        "rows": len(taken.frame),
        "dropped": taken.dropped,
        "index": index | {"labels": records[: len(labels)]},
        "columns": [
            {"name": name} | own
            for name, own in zip(map(str, taken.frame.columns), records[len(labels) :], strict=True)
        ],
    }
    return "\n".join(lines) + "\n", record


def read_table(text: str, record: Record) -> Taken:
    """Read what `write_table` wrote."""
    wanted = [*record["index"]["labels"], *record["columns"]]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    next(reader)
    pieces: list[list[pd.Series]] = [[] for _ in wanted]
    for block in batched(reader, _BLOCK):
        for piece, texts, own in zip(pieces, zip(*block, strict=True), wanted, strict=True):
            piece.append(to_column(texts, own))
    columns = [piece[0] if len(piece) == 1 else pd.concat(piece, ignore_index=True) for piece in pieces]
    labels = len(record["index"]["labels"])
    names = [own["name"] for own in record["columns"]]
    frame = pd.DataFrame(dict(zip(names, columns[labels:], strict=True)), copy=False)
    if len(frame) != record["rows"]:
        raise DataError(f"it has {len(frame)} rows; {record['rows']} were written")
    frame.index = _index(record["index"], columns[:labels], len(frame))
    return Taken(frame=frame, dropped=record["dropped"])


def same_table(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """The first column in which two tables of the same columns differ in type or value; "" where there is none."""
    for name in one.columns:
        a, b = one[name], other[name]
        if str(a.dtype) != str(b.dtype) or not a.array.equals(b.array):
            return f"the column {name!r}"
    a, b = one.index, other.index
    same = type(a) is type(b) and a.equals(b) and (a.nlevels > 1 or a.dtype == b.dtype)
    return "" if same else "the labels of the rows"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _index_columns(index: pd.Index) -> tuple[Record, list[pd.Series]]:
    """What an index is, and its labels as columns; counted rows need none."""
    names = [name if isinstance(name, str) else None for name in index.names]
    if isinstance(index, pd.RangeIndex):
        return {"kind": "counted", "from": index.start, "step": index.step, "names": names}, []
    if isinstance(index, pd.MultiIndex):
        levels = [index.get_level_values(k) for k in range(index.nlevels)]
        return {"kind": "several", "names": names}, [_unnamed(level) for level in levels]
    return {"kind": "labels", "names": names}, [_unnamed(index)]


def _unnamed(index: pd.Index) -> pd.Series:
    return pd.Series(index, name=None).reset_index(drop=True)


def _index(record: Record, columns: list[pd.Series], n: int) -> pd.Index:
    names: Any = record["names"]
    if record["kind"] == "counted":
        first, step = record["from"], record["step"]
        return pd.RangeIndex(first, first + n * step, step, name=names[0])
    if record["kind"] == "several":
        return pd.MultiIndex.from_arrays(columns, names=names)
    return pd.Index(columns[0], name=names[0])


def to_json(value: Any) -> bytes:
    """JSON with a line per key of the first two depths of tables: numbers exact, all characters as ASCII."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode("ascii")
