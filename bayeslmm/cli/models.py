"""The model that a command's arguments name: a description file, an example, a formula with its table, a saved one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayeslmm.cli.arguments import Source, UsageError
from bayeslmm.errors import BayesLMMError, DataError, DescriptionError

if TYPE_CHECKING:
    from bayeslmm.description.model_file import ModelFile
    from bayeslmm.glmm import GLMM
    from bayeslmm.lmm import LMM


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model read from the command line's arguments, with its story."""

    of: LMM | GLMM
    stem: str
    about: dict[str, str]

    @property
    def formula(self) -> str:
        """As it is written."""
        return self.of.hierarchy.formula if self.gaussian else self.verb("formula")

    @property
    def gaussian(self) -> bool:
        """Whether it is an LMM."""
        from bayeslmm.lmm import LMM

        return isinstance(self.of, LMM)

    def verb(self, name: str) -> Any:
        """A public method of the model; where it has none of this name, an error that says why."""
        return verb(self.of, name)


def verb(model: LMM | GLMM, name: str) -> Any:
    """A public method of a model; where it has none of this name, an error that says why."""
    try:
        return getattr(model, name)
    except AttributeError as error:
        why = str(error)
    kind = type(model).__name__
    raise DescriptionError(why if why.startswith(f"{kind} has no") else f"{kind} has no {name}() so far.")


def load_model(file: Path | None, source: Source) -> Model:
    """Read the model from a description file, or from --formula and --data."""
    from bayeslmm.described import model_of
    from bayeslmm.description.model_file import ModelFile, stays

    if (file is None) == (source.formula is None):
        said = "both a description file and --formula were" if file else "no model was"
        raise UsageError(
            f"{said[0].upper()}{said[1:]} given; write FILE.toml, the name of an example (heights), or "
            '--formula "y ~ 1 + (1 | group)" --data FILE.csv.'
        )
    if file is not None:
        for name in ("data", "family", "trials", "weights"):
            if (given := getattr(source, name)) is not None:
                raise UsageError(f"--{name} goes with --formula; {file} names its own: {name} = {str(given)!r}.")
        path = description_file(file)
        described = ModelFile.read(path)
        stem = file.stem
    else:
        if source.data is None:
            raise UsageError("--formula needs the table as well: --data FILE.csv.")
        if not stays(source.data) and not source.data.is_file():
            raise DataError(f"--data: there is no file {source.data}.")
        described = _from_formula(source)
        stem = source.data.name.split(".")[0]
    try:
        of = model_of(described)
    except BayesLMMError as error:
        named = str(error).startswith((str(described.path), str(file or source.data)))
        raise type(error)(str(error) if named else f"{file or source.data}: {error}") from error
    about = {"title": described.title, "source": described.source, "notes": described.notes}
    if file is not None:
        kind = type(of).__name__
        read = f"{kind}.from_toml" if path == file else "example"
        about["load"] = f"{kind.lower()} = blm.{read}({str(file)!r})"
    return Model(of=of, stem=stem, about={key: value for key, value in about.items() if value})


def _from_formula(source: Source) -> ModelFile:
    """What --formula, --family, --trials, --weights and --data say, as a description file would."""
    from bayeslmm.description.hierarchy import Hierarchy
    from bayeslmm.description.model_file import ModelFile, stays
    from bayeslmm.description.outcome_keys import OutcomeKeys
    from bayeslmm.families.registry import read_family
    from bayeslmm.formula.cbind import says_trials, split_cbind

    text, outcome = source.formula or "", None
    if source.family is not None:
        family = read_family(source.family)
        text, failures, paired = split_cbind(text)
        if paired and source.trials is not None:
            raise DescriptionError(
                "the number of trials is said twice, by the formula and by --trials; write one of them"
            )
        trials = paired or source.trials or ""
        outcome = OutcomeKeys(family=family, failures=failures, trials=trials, weights=source.weights or "")
    elif source.weights is not None or source.trials is not None or says_trials(text):
        what = says_trials(text) or ("--weights" if source.weights is not None else "--trials")
        raise DescriptionError(f"{what} counts the trials of a binomial: write --family binomial.")
    hierarchy = Hierarchy.from_formula(text)
    engine = "duckdb" if source.data is not None and stays(source.data) else ""
    if engine and outcome is not None:
        raise DescriptionError(
            f"A {outcome.family.name} outcome needs its rows in memory, and Parquet files leave them where they are; "
            "write --data FILE.csv."
        )
    return ModelFile(
        path=Path("--data"), hierarchy=hierarchy, outcome=outcome, data=source.data, engine=engine,
        missing=source.missing,
    )  # fmt: skip


def description_file(file: Path) -> Path:
    """The file itself, or that of the example whose name it is; a file in the current folder comes first."""
    from bayeslmm.gallery import example_path

    bare = len(file.parts) == 1 and not file.suffix
    if not bare or (file.exists() and not file.is_dir()):
        return file
    return example_path(file.name, "there is no description file {name}, and no example of that name.")
