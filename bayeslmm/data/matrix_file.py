"""A known matrix and its labels as one .npz file: numbers bit for bit, dense or sparse, any labels."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bayeslmm.errors import DescriptionError


def write_npz(labels: Sequence[str], matrix: Any) -> bytes:
    """Content of the file: the arrays "labels" (JSON as UTF-8), and "matrix" or those of a sparse one by columns.

    Examples
    --------
    >>> import numpy as np
    >>> read_npz(Path("K.npz"), write_npz(["a", "b"], np.eye(2)))[0]
    ['a', 'b']
    """
    import numpy as np
    from scipy.sparse import issparse

    out = io.BytesIO()
    arrays = {"labels": np.frombuffer(json.dumps(list(labels)).encode("ascii"), dtype=np.uint8)}
    if issparse(matrix):
        by_column = matrix.tocsc()
        arrays |= {name: getattr(by_column, name) for name in ("data", "indices", "indptr")}
    else:
        arrays["matrix"] = matrix
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def read_npz(path: Path, content: bytes) -> tuple[list[str], Any]:
    """Labels and matrix, dense or sparse; nothing in the file is unpickled.

    Raises
    ------
    DescriptionError
        If it holds anything else.
    """
    import numpy as np
    from scipy.sparse import csc_array

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        labels = json.loads(found["labels"].tobytes().decode("ascii"))
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are no list of texts")
        if "matrix" in found:
            return labels, found["matrix"]
        shape = (len(labels), len(labels))
        matrix = csc_array((found["data"], found["indices"], found["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
        return labels, matrix
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DescriptionError(
            f"{path}: not readable as a matrix and its labels: {error}. Expected an .npz file with the arrays labels, "
            "and matrix or data, indices, indptr, as a saved model has them; or write the matrix as .csv or .mtx"
        ) from None
