"""Where rows are: files, a query, a lazy frame; and what asks the engine that has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bayeslmm.errors import DataError, DescriptionError, beside, did_you_mean
from bayeslmm.support.files import show_path

ENGINES = ("duckdb", "polars")
_PARQUET, _CSV = (".parquet", ".pq"), (".csv", ".csv.gz")
_MISSING = ("", "NA", "NaN", "nan")
_LAZY = ("duckdb", "_duckdb", "polars", "pyspark")


@dataclass(frozen=True, eq=False)
class Source:
    """Rows that stay where they are: a model of them is made from sums that their own engine computes.

    Parameters
    ----------
    data : str, Path, DuckDB relation, Polars LazyFrame or PySpark DataFrame, optional
        A path or glob of Parquet or CSV files, or a lazy table.
    sql : str
        Instead of `data`: a query in DuckDB's SQL, which may name files.
    engine : {"duckdb", "polars"}
        What reads files.
    connection : duckdb.DuckDBPyConnection, optional
        The database that the query is asked of; one in memory where it is left out.

    Raises
    ------
    DescriptionError, DataError
        For what is no source, and for files that are not there.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> rows = blm.Source(sql="SELECT i % 5 AS g, i % 5 + sqrt(i) % 1 AS y FROM range(100) AS t(i)")
    >>> blm.LMM("y ~ 1 + (1 | g)", rows).ml().fixef.round(2).to_dict()
    {'Intercept': 2.46}
    """

    data: Any = None
    sql: str = ""
    engine: str = "duckdb"
    connection: Any = field(default=None, repr=False)
    texts: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if (self.data is None) == (self.sql == ""):
            raise DescriptionError(
                "A source is data or a query, one of the two; write Source('rows/*.parquet') or Source(sql='SELECT "
                "...')."
            )
        if self.engine not in ENGINES:
            raise DescriptionError(
                f"The engine is {self.engine!r}; expected one of {', '.join(ENGINES)}."
                f"{did_you_mean(str(self.engine), ENGINES)} For Spark give its DataFrame as the data."
            )
        if self.sql and self.engine != "duckdb":
            raise DescriptionError("A query is in DuckDB's SQL; leave engine= out beside sql=.")
        if isinstance(self.data, (str, Path)):
            _check_files(str(self.data))
        elif self.data is not None and not is_lazy(self.data):
            raise DescriptionError(
                f"A {type(self.data).__name__} came as the data of a source; expected a path or glob, a DuckDB "
                "relation, a Polars LazyFrame or a PySpark DataFrame. A frame in memory goes to LMM as it is."
            )

    @property
    def name(self) -> str:
        """What it is, in words."""
        if self.sql:
            return "the DuckDB query"
        if isinstance(self.data, (str, Path)):
            return show_path(Path(self.data))
        return f"the {type(self.data).__module__.split('.')[0].lstrip('_')} {type(self.data).__name__}"

    @property
    def csv(self) -> bool:
        """Whether it reads texts, that have no types."""
        return isinstance(self.data, (str, Path)) and str(self.data).lower().endswith(_CSV)


def as_source(data: Any) -> Source | None:
    """The source that the data are, None where they are a frame or columns in memory.

    Examples
    --------
    >>> as_source({"y": [1.0, 2.0]}) is None
    True
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)) or is_lazy(data):
        return Source(data)
    return None


def reading_texts(source: Source, columns: Collection[str]) -> Source:
    """The same source, columns of CSV files that only group kept as texts, so that "01" and "1" stay apart."""
    return replace(source, texts=tuple(columns)) if source.csv else source


def open_rows(source: Source) -> Any:
    """The rows as a Narwhals LazyFrame; nothing is read yet but names and types.

    Raises
    ------
    DataError
        With what the engine said.
    """
    import narwhals.stable.v2 as nw

    try:
        table = nw.from_native(_native(source))
        table.collect_schema()
    except (DataError, DescriptionError):
        raise
    except Exception as error:
        raise DataError(f"{source.name} can't be read: {_first_line(error)}") from error
    return table if isinstance(table, nw.LazyFrame) else table.lazy()


def _native(source: Source) -> Any:
    if source.sql:
        database = source.connection or _database()
        found = database.sql(source.sql)
        if found is None:
            raise DescriptionError(f"The query {source.sql[:60]!r} returns no rows; expected a SELECT.")
        return found
    if not isinstance(source.data, (str, Path)):
        return source.data
    return _duckdb_files(source) if source.engine == "duckdb" else _polars_files(source)


def _duckdb_files(source: Source) -> Any:
    database = source.connection or _database()
    path = str(source.data)
    if not source.csv:
        return database.read_parquet(path)
    found = database.read_csv(path, header=True, na_values=list(_MISSING), sample_size=-1)
    texts = {name: "VARCHAR" for name in source.texts if name in found.columns}
    if texts:
        found = database.read_csv(path, header=True, na_values=list(_MISSING), sample_size=-1, dtype=texts)
    return found


def _polars_files(source: Source) -> Any:
    try:
        import polars as pl
    except ImportError:
        raise DataError("engine='polars' needs Polars: pip install polars.") from None
    path = str(source.data)
    if not source.csv:
        return pl.scan_parquet(path)
    # Polars leaves doubled quotes in a header doubled
    names = {name.replace('""', '"'): name for name in pl.scan_csv(path).collect_schema().names()}
    texts = {names[name]: pl.String for name in source.texts if name in names}
    found = pl.scan_csv(path, null_values=list(_MISSING), infer_schema_length=None, schema_overrides=texts)
    return found.rename({name: own for own, name in names.items() if own != name})


def in_memory(data: Any, why: str) -> Any:
    """The data themselves; paths, queries and tables of Spark are refused, with the reason.

    Raises
    ------
    DataError

    Examples
    --------
    >>> in_memory({"y": [1.0]}, "a binomial outcome needs its rows in memory")
    {'y': [1.0]}
    """
    if isinstance(data, (str, Path, Source)):
        what = f"The source {data.name}" if isinstance(data, Source) else f"The text {str(data)!r}"
        raise DataError(f"{what} came as the data, and {why}; write pd.read_csv(path), or relation.df().")
    return data


def is_lazy(data: Any) -> bool:
    """Whether it is a table of an engine that computes where the rows are."""
    kind = type(data)
    if kind.__module__.split(".")[0] not in _LAZY:
        return False
    import narwhals.stable.v2 as nw

    return isinstance(nw.from_native(data, pass_through=True), nw.LazyFrame)


def ask(table: Any, doing: str) -> Any:
    """Run a lazy query and return its pandas frame.

    Raises
    ------
    DataError
        With what the engine said.
    """
    from bayeslmm.data.table import from_narwhals

    try:
        streaming = {"engine": "streaming"} if table.implementation.is_polars() else {}  # else Polars loads all rows
        return from_narwhals(table.collect(**streaming))
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(f"The engine that has the rows failed when {doing}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _check_files(path: str) -> None:
    lowered = path.lower()
    if not lowered.endswith((*_PARQUET, *_CSV)):
        kinds = ", ".join((*_PARQUET, *_CSV))
        raise DataError(
            f"The data are the text {path!r}; expected the path or glob of files that end in {kinds}, or a table: "
            "a frame, a dict of columns, a DuckDB relation, a Polars LazyFrame, a PySpark DataFrame."
        )
    if "://" in path:
        return
    from glob import glob, has_magic

    if has_magic(path):
        if not glob(path, recursive=True):
            raise DataError(f"No file matches {show_path(Path(path))}; expected Parquet or CSV files there.")
    elif not Path(path).is_file():
        raise DataError(f"The data file {show_path(Path(path))} does not exist, or is no file{beside(Path(path))}")


def _database() -> Any:
    """A DuckDB of our own, in memory, that draws no progress bars."""
    try:
        import duckdb
    except ImportError:
        raise DataError(
            "Files and queries are read by DuckDB, which is not installed: pip install 'bayeslmm[duckdb]'."
        ) from None
    database = duckdb.connect()
    with suppress(duckdb.Error):  # raised in Jupyter without ipywidgets, where there are no bars to switch off
        database.execute("SET enable_progress_bar = false")
    return database


def names_of(table: Any) -> list[str]:
    """Names of a lazy table's columns."""
    return list(table.collect_schema().names())


def check_columns(table: Any, wanted: Sequence[str]) -> None:
    """Refuse a table that lacks a column."""
    from bayeslmm.data.table import check_names

    check_names(names_of(table), wanted)
