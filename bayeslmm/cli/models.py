"""The model that a command's arguments name: a description file, an example, a formula with its table, a saved one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.cli.arguments import Source, UsageError
from bayeslmm.errors import BayesLMMError, DataError

if TYPE_CHECKING:
    from bayeslmm.lmm import LMM


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model read from the command line's arguments, with its story."""

    lmm: LMM
    stem: str
    about: dict[str, str]


def load_model(file: Path | None, source: Source) -> Model:
    """Read the model from a description file, or from --formula and --data."""
    from bayeslmm.description.hierarchy import Hierarchy
    from bayeslmm.description.model_file import ModelFile

    if (file is None) == (source.formula is None):
        said = "both a description file and --formula were" if file else "no model was"
        raise UsageError(
            f"{said[0].upper()}{said[1:]} given; write FILE.toml, the name of an example (heights), or "
            '--formula "y ~ 1 + (1 | group)" --data FILE.csv.'
        )
    if file is not None:
        if source.data is not None:
            raise UsageError(f"--data goes with --formula; {file} names its own: data = {str(source.data)!r}.")
        path = description_file(file)
        described = ModelFile.read(path)
        stem = file.stem
    else:
        if source.data is None:
            raise UsageError("--formula needs the table as well: --data FILE.csv.")
        if not source.data.is_file():
            raise DataError(f"--data: there is no file {source.data}.")
        hierarchy = Hierarchy.from_formula(source.formula or "")
        described = ModelFile(path=Path("--data"), hierarchy=hierarchy, data=source.data, missing=source.missing)
        stem = source.data.name.split(".")[0]
    from bayeslmm.lmm import LMM

    frame = described.load_data()
    try:
        lmm = LMM(described.hierarchy, frame, priors=described.priors, missing=described.missing)
    except BayesLMMError as error:
        raise type(error)(f"{file or source.data}: {error}") from error
    about = {"title": described.title, "source": described.source, "notes": described.notes}
    if file is not None:
        read = "LMM.from_toml" if path == file else "example"
        about["load"] = f"lmm = blm.{read}({str(file)!r})"
    return Model(lmm=lmm, stem=stem, about={key: value for key, value in about.items() if value})


def description_file(file: Path) -> Path:
    """The file itself, or that of the example whose name it is; a file in the current folder comes first."""
    from bayeslmm.gallery import example_path

    bare = len(file.parts) == 1 and not file.suffix
    if not bare or (file.exists() and not file.is_dir()):
        return file
    return example_path(file.name, "there is no description file {name}, and no example of that name.")
