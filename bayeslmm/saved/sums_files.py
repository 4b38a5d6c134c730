"""Sums over rows in a folder of their own: description, cells, keys, each checked by its hash."""

from __future__ import annotations

import io
import json
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bayeslmm.data.table import Taken
from bayeslmm.errors import BayesLMMError, SavedError
from bayeslmm.saved.description_file import NAME, read_description, write_description
from bayeslmm.saved.folder import check_target, read_folder, write_folder
from bayeslmm.saved.table_file import read_table, to_json, write_table
from bayeslmm.saved.writing import made_by
from bayeslmm.sources.cells import Cells
from bayeslmm.sources.growing import KeptSums
from bayeslmm.support.arguments import check_path
from bayeslmm.support.files import show_path

KEYS, COLUMNS, SUMS, MEMORY = "keys.csv", "columns.json", "sums.npz", "memory.json"
_ARRAYS = ("counts", "shift", "scale", "sums", "products", "noise", "lowest", "highest", "filled")


def save_parts(kept: KeptSums, folder: str | PathLike[str], *, overwrite: bool) -> Path:
    """Write sums, read them again and compare, and move the folder into place."""
    path = check_path(folder, "saved/sums")
    check_target(path, overwrite)
    keys, columns = write_table(Taken(frame=kept.cells.keys, dropped=kept.dropped))
    content = io.BytesIO()
    np.savez_compressed(content, **{name: getattr(kept.cells, name) for name in _ARRAYS})
    memory = {"names": list(kept.cells.names), "kinds": dict(kept.kinds), "state": _to_json(kept.state)}
    files = write_description(kept.hierarchy, {}) | {
        KEYS: keys.encode("utf-8", "surrogatepass"),
        COLUMNS: to_json(columns),
        SUMS: content.getvalue(),
        MEMORY: to_json(memory),
    }
    about = {"holds": "sums", "formula": kept.hierarchy.formula, **made_by()}
    write_folder(path, files, about, overwrite=overwrite, check=load_parts)
    return path


def load_parts(folder: str | PathLike[str]) -> KeptSums:
    """Read sums; nothing is unpickled.

    Raises
    ------
    SavedError
        At what is damaged, missing or too many, or no sums.
    """
    path = check_path(folder, "saved/sums")
    files, about = read_folder(path)
    if about.get("holds") != "sums":
        raise SavedError(f"{show_path(path)}: holds a saved model, no sums. Write blm.load({str(path)!r}).")
    try:
        hierarchy = read_description(path / NAME, files)[0]
        taken = read_table(files[KEYS].decode("utf-8", "surrogatepass"), json.loads(files[COLUMNS]))
        memory = json.loads(files[MEMORY])
        with np.load(io.BytesIO(files[SUMS]), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in _ARRAYS}
        C, A = len(taken.frame), len(memory["names"])
        shapes = {"counts": (C,), "shift": (A,), "scale": (A,), "products": (C, A, A)}
        for name, array in found.items():
            if array.dtype != np.float64 or array.shape != shapes.get(name, (C, A)):
                raise ValueError(f"its {name} are of another shape")
        cells = Cells(keys=taken.frame, names=tuple(memory["names"]), **found)
        state = _from_json(memory["state"])
        return KeptSums(hierarchy=hierarchy, cells=cells, kinds=memory["kinds"], state=state, dropped=taken.dropped)
    except (KeyError, ValueError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SavedError(f"{show_path(path)}: no sums can be made of it: {error}. Save them again.") from error
    except BayesLMMError as error:
        raise SavedError(f"{show_path(path)}: no sums can be made of it: {error}") from error


def _to_json(value: Any) -> Any:
    """What transforms remember: mappings by texts or whole numbers, of numbers, exactly."""
    if isinstance(value, dict):
        return [[key, _to_json(own)] for key, own in value.items()]
    return None if value is None else value if isinstance(value, int | str) else float(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return {key: _from_json(own) for key, own in value}
    return np.float64(value) if isinstance(value, float) else value
