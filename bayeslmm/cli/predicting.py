"""The command that predicts rows from what `fit` saved."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from bayeslmm.cli.models import verb
from bayeslmm.cli.printing import show
from bayeslmm.cli.targets import writable_file
from bayeslmm.errors import DataError, DescriptionError

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.loading import Saved
    from bayeslmm.tables.table import Table

Scope = Literal[
    "observed", "new in observed", "new where unseen", "new", "population", "average", "average by rows",
    "population-averaged",
]  # fmt: skip
Share = Parameter(validator=Number(gt=0, lt=1))


def predict(
    folder: Path,
    data: Path | None = None,
    /,
    *,
    scope: Scope = "observed",
    kind: Literal["mean", "response", "link"] = "mean",
    level: Annotated[float, Share] = 0.95,
    missing: Literal["error", "drop"] = "error",
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
        Whose effects rows take: those of observed groups (a new group is an error), of new inner groups in observed
        outer ones, of new groups where they are unseen, of new groups only, none (the population: the table needs no
        groups), the average over the observed groups, or with a family the mean over all groups that there could be.
    kind
        The mean, or new responses with their residual; with a family also the linear predictor.
    level
        Probability of the intervals.
    missing
        What to do with rows that have missing values.
    out
        A .csv file for the table with its predictions; the first rows are printed if not given.
    """
    if out is not None:
        writable_file(out, {".csv"}, "Predictions are saved as CSV")
    saved = read_saved(folder)
    rows = saved.model.design.frame if data is None else read_rows(data, saved)
    table = predicted(saved, rows, scope, kind, level, missing)
    if out is None:
        show(table)
        return
    from bayeslmm.support.files import write_whole

    others = [name for name in rows.columns if name not in table.frame.columns]
    whole = rows.loc[table.frame.index, others].join(table.frame)
    write_whole(out, lambda part: whole.to_csv(part, index=False))
    show(f"{table.title}, {len(table.frame)} rows: {out}\n{table.note}")


def read_saved(folder: Path) -> Saved:
    """Load what was saved; what there is to say of it goes to stderr."""
    from bayeslmm.loading import load

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        saved = load(folder)
    for note in said:
        show(f"Note: {note.message}", file=sys.stderr)
    return saved


def predicted(saved: Saved, rows: pd.DataFrame, scope: Scope, kind: str, level: float, missing: str) -> Table:
    """A table of predictions from what is saved."""
    if saved.result is None:
        raise DescriptionError(
            f"{saved.folder} holds a model without a fit or a posterior, which predictions are made from. Write "
            "lmm.save(folder, lmm.sample()), or bayeslmm fit."
        )
    return verb(saved.model, "predictions")(saved.result, rows, scope=scope, kind=kind, level=level, missing=missing)


def read_rows(path: Path, saved: Saved) -> pd.DataFrame:
    """Read new rows as the model's own were: columns of texts stay texts, dates become dates."""
    import pandas as pd

    from bayeslmm.description.model_file import read_csv

    if not path.is_file():
        raise DataError(
            f"{path} is a folder; the new rows are a .csv file." if path.is_dir() else f"there is no file {path}."
        )
    own = saved.model.design.frame
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
