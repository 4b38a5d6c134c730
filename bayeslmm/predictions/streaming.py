"""Predictions of more rows than memory holds: block by block from a source into a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.model import Model
from bayeslmm.predictions.predictions import predictions
from bayeslmm.sources.blocks import blocks_of
from bayeslmm.sources.design import SourceDesign
from bayeslmm.sources.source import Source, as_source
from bayeslmm.support.arguments import check_path
from bayeslmm.tables.result import interval_columns


def stream_predictions(
    model: Model,
    result: Any,
    path: Any,
    data: Any = None,
    *,
    scope: str | Mapping[str, str] = "observed",
    kind: str = "mean",
    level: float = 0.95,
    missing: str = "error",
) -> Path:
    """Predict the rows of a source and write them to Parquet, as `LMM.stream_predictions` says."""
    target = check_path(path, "predictions.parquet")
    if target.suffix.lower() not in (".parquet", ".pq"):
        raise DescriptionError(f"path is {str(path)!r}; expected a Parquet file, such as 'predictions.parquet'.")
    source = _source(model, data)
    names = ("estimate", "sd", *interval_columns(level))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError("Parquet is written by pyarrow, which is not installed: pip install pyarrow.") from None
    unfinished = target.with_name(f"{target.name}.unfinished")
    writer, schema, rows = None, None, 0
    try:
        for block in blocks_of(source):
            twice = [name for name in names if name in block]
            if twice:
                raise DataError(
                    f"The source has a column {twice[0]!r}, as the predictions are to have; rename it there."
                )
            found = predictions(model, result, block, scope=scope, kind=kind, level=level, missing=missing).frame
            made = block.join(found[list(names)])
            table = pa.Table.from_pandas(made, schema=schema, preserve_index=False)
            if writer is None:
                schema = _without_null_types(table.schema, pa)
                writer = pq.ParquetWriter(unfinished, schema)
            writer.write_table(table.cast(schema))
            rows += len(made)
        if writer is None:
            raise DataError("The source has no rows; there is nothing to predict.")
        writer.close()
        unfinished.replace(target)
    except BaseException:
        if writer is not None:
            writer.close()
        with suppress(OSError):
            unfinished.unlink()
        raise
    return target


def _source(model: Model, data: Any) -> Source:
    if data is None:
        if not isinstance(model.design, SourceDesign):
            raise DescriptionError(
                "The rows of this model are in memory; write lmm.predictions(result), or give a source as data=."
            )
        return model.design.source
    found = as_source(data)
    if found is None:
        raise DescriptionError(
            f"A {type(data).__name__} came as the data; expected a source, such as the path of Parquet files. Rows in "
            "memory go to lmm.predictions(result, data)."
        )
    return found


def _without_null_types(schema: Any, pa: Any) -> Any:
    """The schema of the first block, a column that is all missing there taken for numbers."""
    fields = [field.with_type(pa.float64()) if pa.types.is_null(field.type) else field for field in schema]
    return pa.schema(fields)
