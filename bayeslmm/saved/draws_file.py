"""Draws as netCDF, made and read in memory: libhdf5 on a full disk ends the process instead of raising an error.

What netCDF can't hold as it is (truths and lists among the attributes, spaces and slashes at odd places of names,
labels that are no texts or have characters that HDF5 refuses) is written as JSON, and marked. The rest is as any
netCDF reader expects it.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.errors import DataError
from bayeslmm.saved.columns import describe, to_column, to_texts

if TYPE_CHECKING:
    import xarray as xr

_RECORD = "labels_as_json"  # attribute of a variable whose texts are to be read as `columns` says
_ATTRS = "attributes_as_json"  # attribute of what has attributes that netCDF has not
_NAMES = "names_as_json"  # attribute of the root: what names in the file stand for
_PLAIN_NAME = re.compile(r"[^\W\d](?:[\w:.+@ -]*[\w:.+@-])?")
_REFUSED = re.compile("[\x00\ud800-\udfff]")


def write_draws(tree: xr.DataTree) -> bytes:
    """The tree as the content of a netCDF file.

    Raises
    ------
    DataError
        For what neither netCDF nor JSON can hold.

    Examples
    --------
    >>> import xarray as xr
    >>> tree = xr.DataTree.from_dict({"/posterior": xr.Dataset({"sigma": (("chain", "draw"), [[1.0, 2.0]])})})
    >>> read_draws(write_draws(tree)).identical(tree)
    True
    """
    import xarray as xr

    datasets = _datasets(tree)
    names = {str(name) for dataset in datasets.values() for name in (*dataset.variables, *dataset.dims)}
    plain = {name: f"renamed_{k}" for k, name in enumerate(sorted(names)) if not _PLAIN_NAME.fullmatch(name)}
    groups = {}
    for path, dataset in datasets.items():
        written = dataset.drop_encoding()
        written.attrs = _write_attrs(dataset.attrs, path)
        for name in dataset.variables:
            written[name] = _write_labels(dataset[name].variable, str(name), path)
        groups[path] = written.rename(_used(plain, written))
    if plain:
        groups["/"] = groups["/"].assign_attrs({_NAMES: json.dumps({new: old for old, new in plain.items()})})
    try:
        return bytes(xr.DataTree.from_dict(groups).to_netcdf(None, engine="h5netcdf"))
    except (TypeError, ValueError, NotImplementedError, OverflowError) as error:
        raise DataError(f"The posterior cannot be written as netCDF: {error}") from error


def read_draws(content: bytes) -> xr.DataTree:
    """The tree that was written as this content, in memory."""
    import xarray as xr

    with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as opened:
        datasets = _datasets(opened.load())
    names = json.loads(datasets["/"].attrs.pop(_NAMES, "{}"))
    groups = {}
    for path, dataset in datasets.items():
        read = dataset.drop_encoding()
        for name in dataset.variables:
            read[name] = _read_labels(dataset[name].variable)
        read.attrs = _read_attrs(dataset.attrs)
        groups[path] = read.rename(_used(names, read))
    return xr.DataTree.from_dict(groups)


def same_draws(one: xr.DataTree, other: xr.DataTree) -> str:
    """The first group or variable in which two trees differ; "" where there is none."""
    a, b = _datasets(one), _datasets(other)
    if set(a) != set(b):
        return f"the group {min(set(a) ^ set(b))!r}"
    for path in a:
        if set(a[path].variables) != set(b[path].variables):
            return f"the variables of {path!r}"
        for name in a[path].variables:
            if not a[path][name].variable.drop_encoding().equals(b[path][name].variable):
                return f"{name!r} in {path!r}"
    return ""


def _datasets(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Each group's own variables, by path."""
    return {node.path: node.to_dataset(inherit=False) for node in tree.subtree}


def _used(names: Mapping[str, str], dataset: xr.Dataset) -> dict[Any, str]:
    return {name: names[str(name)] for name in {*dataset.variables, *dataset.dims} if name in names}


# labels ------------------------------------------------------------------------------------------------------------


def _write_labels(variable: xr.Variable, name: str, path: str) -> xr.Variable:
    """Labels that are no texts, or texts that HDF5 refuses, as texts that it takes."""
    attrs = _write_attrs(variable.attrs, f"{name} in {path}")
    if variable.dtype.kind not in "OUT":
        return variable.copy(deep=False)._replace(attrs=attrs)
    flat = variable.values.ravel().tolist()
    types = set(map(type, flat))
    if types <= {str} and not any(map(_REFUSED.search, flat)):
        return variable.copy(deep=False)._replace(attrs=attrs)
    column = pd.Series(flat, name=name, dtype=object if types <= {str, type(None)} else None)
    escaped = [json.dumps(text) for text in to_texts(column)]
    values = np.array(escaped, dtype=object).reshape(variable.shape)
    return variable.copy(data=values)._replace(attrs=attrs | {_RECORD: json.dumps(describe(column))})


def _read_labels(variable: xr.Variable) -> xr.Variable:
    record = variable.attrs.pop(_RECORD, None)
    variable.attrs = _read_attrs(variable.attrs)
    if record is None:
        return variable
    texts = [json.loads(text) for text in variable.values.ravel().tolist()]
    values = np.empty(len(texts), dtype=object)
    values[:] = to_column(texts, json.loads(record)).tolist()
    return variable.copy(data=values.reshape(variable.shape))


# attributes --------------------------------------------------------------------------------------------------------


def _write_attrs(attrs: Mapping[Any, Any], of: str) -> dict[str, Any]:
    """Attributes as netCDF has them: texts, whole numbers of 64 bits and floats; all others in one of JSON."""
    out, others = {}, {}
    for key, given in attrs.items():
        value = given.item() if isinstance(given, np.generic) else given
        value = value.tolist() if isinstance(value, np.ndarray) else value
        short = type(value) is int and abs(value) < 2**63
        if type(value) is float or short or (type(value) is str and not _REFUSED.search(value)):
            out[str(key)] = value
        else:
            others[str(key)] = value
    if not others:
        return out
    try:
        return out | {_ATTRS: json.dumps(others)}
    except (TypeError, ValueError):
        raise DataError(
            f"The attributes {', '.join(map(repr, others))} of {of} cannot be saved: expected texts, numbers, truths, "
            "None, or lists and dicts of these. Take them out of attrs."
        ) from None


def _read_attrs(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in attrs.items()}
    others = json.loads(plain.pop(_ATTRS, "{}"))
    return plain | others
