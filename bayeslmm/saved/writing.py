"""Saving a model with what came of it: every file made in memory, written, read again, and only then moved."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm import __version__
from bayeslmm.data.sparse_precision import SparsePrecision
from bayeslmm.data.table import Taken
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.saved.description_file import write_description
from bayeslmm.saved.draws_file import same_draws, write_draws
from bayeslmm.saved.folder import check_target, write_folder
from bayeslmm.saved.kinds import GAUSSIAN, AnyModel, kind_of, rebuilt
from bayeslmm.saved.reading import CHECK, COLUMNS, DRAWS, FIT, PRIORS, TABLE, read_parts, require_same
from bayeslmm.saved.table_file import same_table, to_json, write_table
from bayeslmm.support.arguments import check_flag, check_path

if TYPE_CHECKING:
    import xarray as xr

PACKAGES = ("numpy", "scipy", "pandas", "numba", "xarray", "arviz", "pymc", "pytensor", "nutpie", "h5netcdf", "h5py")


def save(model: AnyModel, folder: Any, result: Any = None, *, overwrite: bool = False) -> Path:
    """Save a model and what came of it, as `LMM.save` says."""
    folder = check_path(folder, "saved/heights")
    check_flag("overwrite", overwrite)
    check_target(folder, overwrite)  # before the work
    with enough_memory(model.design, "Saving"):
        _save(model, folder, result, overwrite)
    return folder


def _save(model: AnyModel, folder: Path, result: Any, overwrite: bool) -> None:
    tree, fit = _sorted_out(model, result)
    kind = kind_of(model)
    tree = None if tree is None else kind.stored(model, tree)
    taken = Taken(frame=model.design.frame, dropped=model.design.dropped)
    table, columns = write_table(taken)
    files = write_description(model.hierarchy, kind.given(model), kind.outcome(model))
    files |= {
        TABLE: table.encode("utf-8", "surrogatepass"),
        COLUMNS: to_json(columns),
        PRIORS: to_json([[row.parameter, str(row.prior), row.source, row.reason] for row in model.priors.reasons]),
        CHECK: to_json(kind.densities(model, tree)),
    }
    files |= {} if tree is None else {DRAWS: write_draws(tree)}
    files |= {} if fit is None else {FIT: to_json(kind.record(fit))}
    method = getattr(fit, "method", "ML")  # a GLMM's fits are by ML
    holds = "posterior" if tree is not None else method if fit is not None else "model"
    unfinished = tree is not None and bool(tree.attrs.get("partial", 0))
    about = {"holds": holds, "partial": unfinished, "formula": kind.formula(model), **made_by()}
    write_folder(folder, files, about, overwrite=overwrite, check=partial(_require_read, model, tree))


def _sorted_out(model: AnyModel, result: Any) -> tuple[xr.DataTree | None, LikelihoodFit | GLMMFit | None]:
    """(posterior, fit), one of them None at least; or an error that says what was expected."""
    kind = kind_of(model)
    name = kind.name
    if result is None:
        return None, None
    if isinstance(result, LikelihoodFit | GLMMFit):
        if result.design is not model.design or not isinstance(result, kind.fit):
            raise DescriptionError(
                f"This fit is one of another {name.upper()}. Write {name}.save(folder, {name}.ml()), of the same "
                f"{name}."
            )
        return None, result
    if "posterior" not in getattr(result, "children", {}):
        fits = "lmm.ml() or lmm.reml()" if kind is GAUSSIAN else "glmm.ml()"
        raise DescriptionError(
            f"A {type(result).__name__} came as the result to save; expected a posterior, {name}.sample(), or a fit, "
            f"{fits}. Write {name}.save(folder) to save the model alone."
        )
    kind.check_tree(model, result, f"Write tree = {name}.sample(), and {name}.save(folder, tree).")
    return result, None


def made_by() -> dict[str, Any]:
    """What wrote the folder, and when."""
    versions = {"bayeslmm": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{sys.platform} {platform.machine()}",
        "versions": versions,
    }


def _require_read(model: AnyModel, tree: xr.DataTree | None, part: Path) -> None:
    """Refuse to save what would not be read as it is: read it, make the model again, compare."""
    read = read_parts(part)
    again = rebuilt(read.hierarchy, read.outcome, read.taken, read.priors)
    differing = same_table(model.design.frame, read.taken.frame)
    own = (model.hierarchy, kind_of(model).outcome(model))
    differing = differing or ("" if (read.hierarchy, read.outcome) == own else "the description")
    if tree is not None and read.tree is not None:
        differing = differing or same_draws(tree, read.tree)
    if differing:
        raise DataError(
            f"This model cannot be saved exactly: {differing} would be read as another. Nothing was written."
        )
    if changed := _changed(model.design, again.design):
        raise DataError(
            f"The data have changed since this model was made from them ({changed}), so that it would be loaded as "
            "another one. Make the model again, lmm = blm.LMM(...), and fit or sample. Nothing was written."
        )
    require_same(again, read)


def _trials(design: Design) -> Any:
    return None if design.outcome is None else design.outcome.trials


def _changed(design: Design, again: Design) -> str:
    """The first part of a design that isn't what it was."""

    def same(a: Any, b: Any) -> bool:
        if a is None or b is None or a.shape != b.shape or a.dtype.kind != "f":
            return np.array_equal(a, b)
        return np.allclose(a, b, rtol=0, atol=1e-12 * np.abs(a).max(initial=0.0))  # where arrays begin moves roundings

    pairs: dict[str, tuple[Any, Any]] = {
        "y": (design.y, again.y),
        "X": (design.X, again.X),
        "the offset": (design.offset, again.offset),
        "the trials": (_trials(design), _trials(again)),
    }
    for one, other in zip(design.levels, again.levels, strict=True):
        pairs |= {
            f"the groups of {one.label}": (np.array(one.groups), np.array(other.groups)),
            f"the rows of {one.label}": (one.index, other.index),
            f"the effects of {one.label}": (one.columns, other.columns),
            f"the covariance of {one.label}": (_covariance(one), _covariance(other)),
        }
    return next((what for what, (a, b) in pairs.items() if not same(a, b)), "")


def _covariance(level: LevelDesign) -> np.ndarray | None:
    """What says whether a level's known covariance is the same: its root, or the numbers of a sparse precision."""
    relation = level.relation
    return relation.matrix.data if isinstance(relation, SparsePrecision) else level.root
