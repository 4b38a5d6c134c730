"""What is written row by row where the rows stay in a source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.likelihood.fit import LikelihoodFit


class Streaming(Model):
    """Rows of a source, a block at a time."""

    def stream_predictions(
        self,
        result: LikelihoodFit | xr.DataTree,
        path: str | Path,
        data: Any = None,
        *,
        scope: str | Mapping[str, str] = "observed",
        kind: str = "mean",
        level: float = 0.95,
        missing: str = "error",
    ) -> Path:
        """Predict all rows of a source, block by block, and write them to a Parquet file.

        The file has every column of the source, and beside it ``estimate``, ``sd`` and the ends of the interval, as
        `LMM.predictions` gives them, in units of y. The residual of a row is its y less its estimate. Memory is that of
        200,000 rows.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
            ``lmm.ml()``, ``lmm.reml()``, or ``lmm.sample()``.
        path : str or Path
            The Parquet file to write, once all rows are predicted.
        data : source, optional
            Paths, a DuckDB relation, a Polars LazyFrame, a PySpark DataFrame or a `Source`; no response needed. The
            model's own source where it is left out.
        scope, kind, level
            As in `LMM.predictions`.
        missing : {"error", "drop"}
            Rows with missing values are an error, or are written without a prediction.

        Returns
        -------
        Path
            Of the file written.

        Raises
        ------
        DataError, DescriptionError
            As in `LMM.predictions`; for a source with columns of these names; where pyarrow is not installed.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> from tempfile import TemporaryDirectory
        >>> rows = blm.Source(sql="SELECT i % 5 AS g, i % 5 + sqrt(i) % 1 AS y FROM range(100) AS t(i)")
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", rows)
        >>> with TemporaryDirectory() as folder:
        ...     lmm.stream_predictions(lmm.reml(), f"{folder}/out.parquet").name
        'out.parquet'
        """
        from bayeslmm.predictions.streaming import stream_predictions

        return stream_predictions(self, result, path, data, scope=scope, kind=kind, level=level, missing=missing)
