"""What is in the folder of a saved model, and whether a model made of it is the one that was saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.data.table import Taken, count, take
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.description.outcome_keys import OutcomeKeys
from bayeslmm.design.design import used_columns
from bayeslmm.errors import BayesLMMError, DataError, SavedError
from bayeslmm.saved import description_file
from bayeslmm.saved.columns import describe
from bayeslmm.saved.draws_file import read_draws
from bayeslmm.saved.folder import read_folder
from bayeslmm.saved.kinds import AnyModel, kind_of
from bayeslmm.saved.table_file import read_table
from bayeslmm.support.files import show_path
from bayeslmm.support.memory_limit import ran_out

if TYPE_CHECKING:
    import xarray as xr

TABLE, COLUMNS, PRIORS, CHECK = "data.csv", "columns.json", "priors.json", "check.json"
DRAWS, FIT = "posterior.nc", "fit.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What was read, before a model is made of it.

    Attributes
    ----------
    folder : Path
    hierarchy : Hierarchy
    outcome : OutcomeKeys or None
        The family of an outcome that isn't Gaussian, with its columns.
    taken : Taken
        The data.
    priors : dict
        Those that were given.
    resolved : list
        Parameter, prior, source and reason of all of them.
    densities : dict
        What its kind's `densities` wrote.
    tree : xarray.DataTree or None
    fit : dict or None
    about : dict
        Versions, and what the folder holds.
    """

    folder: Path
    hierarchy: Hierarchy
    outcome: OutcomeKeys | None
    taken: Taken
    priors: dict[str, Any]
    resolved: list[list[str]]
    densities: dict[str, Any]
    about: dict[str, Any]
    tree: xr.DataTree | None = field(default=None, repr=False)
    fit: dict[str, Any] | None = field(default=None, repr=False)


def read_parts(folder: Path) -> Parts:
    """Read a saved model; whatever is wrong with it is a SavedError at its file."""
    files, about = read_folder(folder)
    with _reading(folder, description_file.NAME) as path:
        hierarchy, outcome, priors = description_file.read_description(path, files)
    with _reading(folder, COLUMNS):
        record = json.loads(files[COLUMNS])
    with _reading(folder, TABLE):
        taken = read_table(files[TABLE].decode("utf-8", "surrogatepass"), record)
    with _reading(folder, PRIORS):
        resolved = json.loads(files[PRIORS])
    with _reading(folder, CHECK):
        densities = json.loads(files[CHECK])
    tree = fit = None
    if DRAWS in files:
        with _reading(folder, DRAWS):
            tree = read_draws(files[DRAWS])
    if FIT in files:
        with _reading(folder, FIT):
            fit = json.loads(files[FIT])
    return Parts(
        folder=folder, hierarchy=hierarchy, outcome=outcome, taken=taken, priors=priors, resolved=resolved,
        densities=densities, about=about, tree=tree, fit=fit,
    )  # fmt: skip


@contextmanager
def _reading(folder: Path, name: str) -> Iterator[Path]:
    """Context in which whatever goes wrong is blamed on a file of the folder."""
    path = folder / name
    try:
        yield path
    except Exception as error:
        if ran_out(error):
            raise
        said = str(error) if isinstance(error, BayesLMMError) else f"{type(error).__name__}: {error}"
        said = f"there is no {name} in the folder" if error.args == (name,) else said
        raise SavedError(f"{show_path(path)}: cannot be read as a part of a saved model: {said}") from error


def require_same(model: AnyModel, parts: Parts) -> None:
    """Refuse a model that differs from what was saved: in its priors, or in the log density at what was written.

    Raises
    ------
    SavedError
    """
    wrote = f"it was saved by bayeslmm {parts.about.get('versions', {}).get('bayeslmm', '?')}"
    rows = [[row.parameter, str(row.prior)] for row in model.priors.reasons]
    with _reading(parts.folder, PRIORS):
        written = [[parameter, prior] for parameter, prior, *_ in parts.resolved]
    if rows != written:
        here, there = next(
            ((a, b) for a, b in zip(rows, written, strict=False) if a != b),
            (["its number", str(len(rows))], ["", str(len(written))]),
        )
        raise SavedError(
            f"{show_path(parts.folder / PRIORS)}: the prior of {here[0]} is {here[1]} in the model made from this "
            f"folder, and {there[1]} was saved; {wrote}. Load it with that version, or make the model again and sample."
        )
    with _reading(parts.folder, CHECK):
        differing = kind_of(model).differences(model, parts.densities, parts.tree)
    if differing:
        raise SavedError(
            f"{show_path(parts.folder / CHECK)}: the model made from this folder is not the one that was saved: "
            f"{'; '.join(differing)}; {wrote}. Load it with that version, or make the model again and sample."
        )


def require_same_data(parts: Parts, data: Any) -> None:
    """Refuse data that are not those of the saved model.

    Raises
    ------
    DataError
        At the first column that differs.
    """
    used = (*used_columns(parts.hierarchy), *(parts.outcome.columns if parts.outcome else ()))
    frame, dropped = take(data, used, "drop" if parts.taken.dropped else "error")
    own = parts.taken.frame
    where = show_path(parts.folder / TABLE)
    remedy = "The saved model holds its own data: leave data= out; new rows go to lmm.predict."
    if len(frame) != len(own) or dropped != parts.taken.dropped:
        counts = [
            f"{count(len(x), 'row')} and {left_out} left out"
            for x, left_out in ((frame, dropped), (own, parts.taken.dropped))
        ]
        raise DataError(
            f"These data are not those of the saved model: {counts[0]} came; {where} has {counts[1]}. {remedy}"
        )
    residual = parts.hierarchy.residual
    columns = [(repr(name), frame[name], own[name]) for name in own.columns]
    if residual.covariance is not None and residual.group is None:  # then its labels are those of the rows
        columns.append(("of the rows' labels", *(pd.Series(x.index) for x in (frame, own))))
    for name, here, there in columns:
        if said := _differing(here, there):
            raise DataError(f"These data are not those of the saved model: the column {name} {said} {where}. {remedy}")


def _differing(here: pd.Series, there: pd.Series) -> str:
    """How two columns of one length differ; "" where they don't."""
    kinds = describe(here)["kind"], describe(there)["kind"]
    if kinds[0] != kinds[1]:
        return f"holds {kinds[0]}, and {kinds[1]} in"
    if kinds[0] == "categories":
        orders = [list(map(str, x.cat.categories)) for x in (here, there)]
        if orders[0] != orders[1]:
            return f"has the categories {', '.join(orders[0][:5])}, and {', '.join(orders[1][:5])} in"
    a, b = here.tolist(), there.tolist()
    bad = np.flatnonzero([x != y for x, y in zip(a, b, strict=True)])
    if not bad.size:
        return ""
    k = int(bad[0])
    return f"differs in {count(bad.size, 'row')}, the first of them {here.index[k]}: {a[k]!r} here, and {b[k]!r} in"
