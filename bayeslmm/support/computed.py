"""Arrays that are computed when they are read, block by block: a file's arrays to xarray, without the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from bayeslmm.errors import OutOfMemoryError

LARGEST = 2**31  # bytes of one block

Block = Callable[..., np.ndarray]  # from one array of places per dimension to the values there, as np.ix_ has them


class Computed(BackendArray):
    """An array of floats whose blocks are computed when they are read.

    Parameters
    ----------
    shape : tuple of int
    block : callable
        From one array of places per dimension to the values at all their combinations.
    name : str
        What it is called where it would be too large.

    Source: xarray, "How to add a new backend", lazy loading.
    """

    def __init__(self, shape: tuple[int, ...], block: Block, name: str):
        self.shape = shape
        self.dtype = np.dtype(float)
        self.block = block
        self.name = name

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        places = [np.arange(size)[k] for size, k in zip(self.shape, key, strict=True)]
        size = 8 * int(np.prod([np.size(place) for place in places], dtype=float))
        if size > LARGEST:
            raise OutOfMemoryError(
                f"{self.name} of {' x '.join(f'{np.size(place):,}' for place in places)} numbers would take "
                f"{size / 1e9:.3g} GB. Take a part of it first, such as .isel(row=slice(0, 1000)) or fewer draws; "
                "lmm.loo works in blocks by itself."
            )
        values = self.block(*map(np.atleast_1d, places))
        return values.reshape([np.size(place) for place in places if np.ndim(place)])


def computed(dims: tuple[str, ...], shape: tuple[int, ...], block: Block, name: str) -> xr.Variable:
    """Make a variable of such an array; what was read whole is kept.

    Examples
    --------
    >>> squares = computed(("row",), (5,), lambda rows: rows**2.0, "squares")
    >>> squares[2:4].values.tolist()
    [4.0, 9.0]
    """
    lazy: Any = indexing.LazilyIndexedArray(Computed(shape, block, name))
    return xr.Variable(dims, indexing.MemoryCachedArray(indexing.CopyOnWriteArray(lazy)))
