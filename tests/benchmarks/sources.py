"""Statistics of rows that stay on disk: `python -m tests.benchmarks.sources --rows 1e8 --cells 5e5`.

Writes Parquet files of that many rows (DuckDB makes them; 20 bytes a row), then in a process of its own builds the
model ``y ~ x + (1 | school/class)`` on them and prints how long each step took and the peak of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FORMULA = "y ~ x + (1 | school/class)"
FILES = 10


def write_rows(folder: Path, rows: int, cells: int) -> float:
    """Write the files, and return their size in MB: classes of `cells` within a hundredth as many schools."""
    import duckdb

    database = duckdb.connect()
    database.execute("SET enable_progress_bar = false")
    each = rows // FILES
    for k in range(FILES):
        first = k * each
        database.execute(
            f"COPY (SELECT CAST(c // 100 AS INTEGER) AS school, CAST(c % 100 AS INTEGER) AS class, "
            "3 * (hash(i + 1) % 1000003) / 1000003.0 + 5 AS x, "
            "(hash(i + 2) % 1000003) / 1000003.0 + (hash(c) % 1000) / 1000.0 "
            "+ (hash(c // 100 + 7) % 1000) / 500.0 AS y "
            f"FROM (SELECT i, hash(i) % {cells} AS c FROM range({first}, {first + each}) AS t(i))) "
            f"TO '{folder}/rows{k}.parquet' (FORMAT parquet)"
        )
    return sum(file.stat().st_size for file in folder.glob("*.parquet")) / 1e6


def measure(folder: str, engine: str) -> None:
    """Build the model and its statistics, fit it by ML, and print the times and the peak of memory as JSON."""
    import resource

    import bayeslmm as blm
    from bayeslmm.sources.building import build_source_design  # noqa: F401  (imported before the clock starts)

    began = time.perf_counter()
    lmm = blm.LMM(FORMULA, blm.Source(f"{folder}/*.parquet", engine=engine))
    lmm.statistics  # noqa: B018
    statistics, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    fit = lmm.ml()
    whole = time.perf_counter() - began
    said = {
        "rows": lmm.design.n, "cells": len(lmm.design.cells.counts), "statistics": statistics, "peak": peak,
        "ml": whole - statistics, "sigma": fit.sigma,
    }  # fmt: skip
    print(json.dumps(said))


def main() -> None:
    """Write, measure in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--cells", type=float, default=5e5)
    parser.add_argument("--engine", choices=["duckdb", "polars"], default="duckdb")
    parser.add_argument(
        "--folder", type=Path, help="where the files are, or are to be, kept; a temporary one if not given"
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.engine)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        if not list(folder.glob("*.parquet")):
            size = write_rows(folder, int(given.rows), int(given.cells))
            print(f"{given.rows:,.0f} rows written: {size:,.0f} MB in {time.perf_counter() - began:.0f} s", flush=True)
        command = [sys.executable, "-m", "tests.benchmarks.sources", "--measure", str(folder), "--engine", given.engine]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(
        f"{found['rows']:,} rows in {found['cells']:,} cells by {given.engine}: statistics in "
        f"{found['statistics']:.1f} s, peak memory {found['peak']:.2f} GB (Python with its libraries included); "
        f"then ML in {found['ml']:.1f} s"
    )


if __name__ == "__main__":
    main()
