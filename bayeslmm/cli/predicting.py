"""The command that predicts rows from what `fit` saved."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from bayeslmm.cli.arguments import Seed
from bayeslmm.cli.printing import show
from bayeslmm.cli.targets import writable_file
from bayeslmm.errors import DataError, DescriptionError

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.loading import Saved

Scope = Literal["observed", "new", "population"]
Share = Parameter(validator=Number(gt=0, lt=1))
MOST_ROWS = 40  # that are printed


def predict(
    folder: Path,
    data: Path | None = None,
    /,
    *,
    scope: Scope = "observed",
    level: Annotated[float, Share] = 0.95,
    missing: Literal["error", "drop"] = "error",
    seed: Annotated[int | None, Seed] = None,
    out: Path | None = None,
) -> None:
    """Predict what the rows of a table are expected to be, from a saved fit.

    Parameters
    ----------
    folder
        What fit or lmm.save wrote.
    data
        The new rows, a .csv or .csv.gz file; the model's own rows if not given.
    scope
        Of observed groups (a new group is an error), of new groups too (drawn from the population), or of the
        population (random effects at zero; the table needs no groups).
    level
        Probability of the intervals, which a posterior has.
    missing
        What to do with rows that have missing values.
    seed
        Seed of the effects of new groups.
    out
        A .csv file for the table with its predictions; the first rows are printed if not given.
    """
    from bayeslmm.loading import load

    if out is not None:
        writable_file(out, {".csv"}, "Predictions are saved as CSV")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        saved = load(folder)
    for note in said:
        show(f"Note: {note.message}", file=sys.stderr)
    rows = saved.lmm.design.frame if data is None else read_rows(data, saved)
    table = _beside(rows, predicted(saved, rows, scope, level, missing, seed))
    if out is None:
        more = f"\n... {len(table) - MOST_ROWS} more rows; --out FILE.csv has all." if len(table) > MOST_ROWS else ""
        show(table.head(MOST_ROWS).to_string() + more)
        return
    from bayeslmm.support.files import write_whole

    write_whole(out, lambda part: table.to_csv(part, index=False))
    show(f"Predictions of {len(table)} rows: {out}")


def predicted(
    saved: Saved, rows: pd.DataFrame, scope: Scope, level: float, missing: str, seed: int | None
) -> pd.DataFrame:
    """Expected values of rows: with SDs and intervals from a posterior, alone from ML or REML."""
    import numpy as np
    import pandas as pd

    options: dict[str, Any] = {
        "random_effects": scope != "population",
        "allow_new_groups": scope == "new",
        "missing": missing,
    }
    if saved.result is None:
        raise DescriptionError(
            f"{saved.folder} holds a model without a fit or a posterior, which predictions are made from. Write "
            "lmm.save(folder, lmm.sample()), or bayeslmm fit."
        )
    if saved.posterior is None:
        return saved.result.predict(rows, **options).to_frame()
    draws = saved.lmm.predict(saved.posterior, rows, random_seed=seed, **options)
    flat = draws.to_numpy().reshape(-1, draws.sizes["row"])
    tail = (1 - level) / 2
    columns = {"predicted": flat.mean(axis=0), "sd": flat.std(axis=0, ddof=1)}
    columns |= {f"{100 * q:.4g} %": np.quantile(flat, q, axis=0) for q in (tail, 1 - tail)}
    return pd.DataFrame(columns, index=pd.Index(draws["row"].to_numpy()))


def read_rows(path: Path, saved: Saved) -> pd.DataFrame:
    """Read new rows as the model's own were: columns of texts stay texts, dates become dates."""
    import pandas as pd

    from bayeslmm.description.model_file import read_csv

    if not path.is_file():
        raise DataError(f"there is no file {path}.")
    own = saved.lmm.design.frame
    texts = [name for name in own.columns if not _numeric(own[name])]
    frame = read_csv(path, texts, as_text=True)
    for name in frame.columns.intersection(own.columns):
        if own[name].dtype.kind == "M":
            try:
                frame[name] = pd.to_datetime(frame[name])
            except ValueError as error:
                raise DataError(
                    f"{path}: the column {name!r} holds dates in the model, and not here: {error}"
                ) from None
    return frame


def _numeric(column: pd.Series) -> bool:
    import pandas as pd

    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return values.dtype.kind in "biuf"


def _beside(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows that were predicted with their predictions, which get another name where a column has theirs."""
    names = {name: f"{name} (predicted)" if name in rows.columns else name for name in predictions.columns}
    return rows.loc[predictions.index].join(predictions.rename(columns=names))
