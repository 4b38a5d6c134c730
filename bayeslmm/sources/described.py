"""The data of a description file: a frame, or a source where the rows stay where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.description.model_file import ModelFile
from bayeslmm.errors import DataError
from bayeslmm.sources.source import Source

if TYPE_CHECKING:
    import pandas as pd


def data_of(file: ModelFile) -> pd.DataFrame | Source:
    """What the file's `data` and `engine` name.

    Raises
    ------
    DataError
        Where there is no such file.

    Examples
    --------
    >>> from bayeslmm.gallery import example_path
    >>> len(data_of(ModelFile.read(example_path("dyestuff"))))
    30
    """
    if not file.engine or file.data is None:
        return file.load_data()
    try:
        return Source(str(file.data), engine=file.engine)
    except DataError as error:
        raise DataError(f"{file.path}: {error} A path is relative to the folder of the description.") from None
