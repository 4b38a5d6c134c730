"""Description files: a hierarchy, its data, its priors and its story, in TOML. Data, never code."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bayeslmm.errors import BayesLMMError, DataError, DescriptionError, PriorError, beside, did_you_mean
from bayeslmm.hierarchy import Hierarchy
from bayeslmm.priors import Prior
from bayeslmm.tomltext import key_lines, malformed

if TYPE_CHECKING:
    import pandas as pd

_EXPECTED = {
    "title": 'a text, such as title = "Heights of pupils"',
    "source": "a text that says where the data come from",
    "notes": "a text",
    "data": 'the path of a .csv or .csv.gz file beside this one, such as data = "data/heights.csv"',
    "formula": 'a text, such as formula = "y ~ 1 + x + (1 | group)"',
    "response": 'the name of a column, such as response = "y"',
    "fixed": 'a text, such as fixed = "1 + x"',
    "levels": 'tables, such as [[levels]] and below it group = "school"',
    "group": 'a text or a list of columns, such as group = "class:school" or ["class", "school"]',
    "effects": 'a text, such as effects = "1 + x"',
    "correlated": "true or false",
    "missing": '"error" (say where values are missing) or "drop" (leave these rows out)',
    "priors": 'a table: [priors] and below it sigma = "HalfNormal(sigma=2)"',
}
_MISSING_TEXTS = ["", "NA", "NaN", "nan"]


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A description file that was read and found sound.

    Attributes
    ----------
    path : Path
        The file itself.
    title, source, notes : str
        Its story.
    data : Path or None
        The table, relative to the file's folder unless absolute.
    hierarchy : Hierarchy
        The model.
    priors : dict
        For each parameter a Prior, or a dict from effect to Prior.
    missing : {"error", "drop"}
        What to do about missing values.

    Examples
    --------
    >>> text = 'formula = "Height ~ 1 + (1 | school/class)"'
    >>> ModelFile.parse(text).hierarchy.formula
    'Height ~ 1 + (1 | class:school) + (1 | school)'
    """

    path: Path
    hierarchy: Hierarchy
    title: str = ""
    source: str = ""
    notes: str = ""
    data: Path | None = None
    priors: dict[str, Prior | dict[str, Prior]] = field(default_factory=dict)
    missing: str = "error"

    @classmethod
    def read(cls, path: str | Path) -> ModelFile:
        """Read a description file; every error names the file and the line."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise DescriptionError(f"there is no description file {path}{beside(path)}") from None
        except UnicodeDecodeError as error:
            raise DescriptionError(f"{path}: not a text in UTF-8 (byte {error.start + 1}); save it as UTF-8") from None
        except OSError as error:
            raise DescriptionError(f"{path}: cannot be read as a file: {error.strerror}") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str | Path = "description.toml") -> ModelFile:
        """Read the text of a description file; `path` is where it says it comes from."""
        path = Path(path)
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise DescriptionError(malformed(path, text, error)) from None
        lines = key_lines(text)
        _check_shape(path, lines, content)
        hierarchy = _hierarchy(path, lines, content)
        stated = {key: content[key] for key in ("title", "source", "notes", "missing") if key in content}
        data = _data_path(path, lines, content)
        return cls(path=path, hierarchy=hierarchy, data=data, priors=_priors(path, lines, content), **stated)

    def load_data(self) -> pd.DataFrame:
        """Read the table; columns that only group keep their texts, so "01" and "1" stay apart.

        Empty cells, NA and NaN are missing; any other text stays a text.
        """
        import pandas as pd

        if self.data is None:
            raise DataError(f'{self.path} names no data; add a line such as data = "data/heights.csv"')
        if not self.data.is_file():
            raise DataError(
                f"{self.path}: the data file {self.data} does not exist{beside(self.data)}"
                " A path is relative to the folder of the description."
            )
        compression: Any = "gzip" if self.data.suffix == ".gz" else None
        read: dict[str, Any] = {"compression": compression, "encoding": "utf-8-sig", "low_memory": False}
        read |= {"keep_default_na": False, "na_values": _MISSING_TEXTS}
        try:
            first = pd.read_csv(self.data, **(read | {"header": None, "nrows": 1, "dtype": str}))
            names = [str(name) for name in first.iloc[0]]
            twice = sorted({name for name in names if names.count(name) > 1 and name != "nan"})
            if twice:
                raise DataError(f"{self.data}: the column {twice[0]!r} stands twice in its first line; rename one")
            grouping = [name for name in _only_grouping(self.hierarchy) if name in names]
            frame = pd.read_csv(self.data, **(read | {"dtype": dict.fromkeys(grouping, str)}))
        except pd.errors.EmptyDataError:
            raise DataError(f"{self.data}: the file is empty; expected a line of column names and rows") from None
        except (pd.errors.ParserError, UnicodeDecodeError, OSError, EOFError, ValueError) as error:
            if isinstance(error, BayesLMMError):
                raise
            raise DataError(f"{self.data}: not readable as a table in CSV: {error}") from None
        for name in grouping:
            frame[name] = _whole_numbers(frame[name])
        return frame


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a description file.

    Examples
    --------
    >>> json_schema()["title"]
    'bayeslmm description file'
    """
    schema = _model().model_json_schema()
    explicit = {"required": ["response", "levels"], "not": {"required": ["formula"]}}
    formula = {
        "required": ["formula"],
        "not": {"anyOf": [{"required": [key]} for key in ("response", "fixed", "levels")]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "oneOf": [formula, explicit],
    }


def _fail(path: Path, lines: Mapping, place: tuple, message: str, kind: type = DescriptionError) -> NoReturn:
    """Raise an error at the line of a key, or of the nearest table around it."""
    raise kind(f"{_where(path, lines, place)}: {message}")


def _where(path: Path, lines: Mapping, place: tuple) -> str:
    while place and place not in lines:
        place = place[:-1]
    return f"{path}, line {lines.get(place, 1)}"


@cache
def _model() -> Any:
    """Build the pydantic model of a description file, whose fields are its keys."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict, Field, create_model

    strict = ConfigDict(extra="forbid", strict=True)

    def text(about: str, *examples: str) -> Any:
        return (str | None, Field(None, description=about, examples=list(examples) or None))

    level = create_model(
        "Level",
        __config__=ConfigDict(**strict, title="Level"),
        __doc__="One grouping of the rows and the effects that vary between its groups.",
        group=(
            str | list[str],
            Field(description="Grouping columns, joined by `:` or as a list", examples=["class:school"]),
        ),
        effects=(str, Field("1", description="What varies between the groups", examples=["1 + Days"])),
        correlated=(bool, Field(True, description="Whether the effects of one group are correlated")),
    )
    priors = dict[str, str | dict[str, str]]
    keys: dict[str, Any] = {
        "title": text("Title of the example"),
        "source": text("Where the data come from"),
        "notes": text("What the example teaches"),
        "data": text("Path of a .csv or .csv.gz file, relative to this one", "data/heights.csv"),
        "formula": text("The model in lme4's notation", "Height ~ 1 + (1 | school/class)"),
        "response": text("Response: a column, or a transform such as log(y)", "Height"),
        "fixed": text("Right-hand side of the mean, 1 by default", "1 + x"),
        "levels": (list[level] | None, Field(None, description="Levels in the order of u2, u3, ...")),  # type: ignore[valid-type]
        "missing": (
            Literal["error", "drop"],
            Field("error", description="What to do about missing values"),
        ),
        "priors": (
            priors,
            Field(
                default_factory=dict,
                description="Per parameter (a column of X, beta, sigma, sigma_u2, corr_u2) a prior"
                " named as in PyMC, or a table from effect to prior",
                examples=[{"sigma_u3": "HalfStudentT(nu=3, sigma=1)"}],
            ),
        ),
    }
    about = "A multilevel linear model: its data, its hierarchy, its priors and its story."
    config = ConfigDict(**strict, title="bayeslmm description file")
    model: type[BaseModel] = create_model("Description", __config__=config, __doc__=about, **keys)
    return model


def _check_shape(path: Path, lines: Mapping, content: dict) -> None:
    """Check keys and types; all that is wrong is said at once, one line each."""
    from pydantic import ValidationError

    try:
        _model().model_validate(content)
    except ValidationError as error:
        messages: dict[str, None] = {}
        found = error.errors(include_url=False, include_input=True)
        for item in sorted(found, key=lambda item: item["type"] != "extra_forbidden"):
            if item["type"] == "string_type" and isinstance(item["input"], dict) and item["loc"][0] == "priors":
                continue  # the errors inside the table say more
            messages[_explain(path, lines, item)] = None
        raise DescriptionError("\n".join(messages)) from None


def _explain(path: Path, lines: Mapping, item: Any) -> str:
    place = tuple(x for x in item["loc"] if isinstance(x, int) or not re.search(r"[\[\]]|^str$", x))
    name = next(x for x in reversed(place) if isinstance(x, str))
    in_level = place[0] == "levels" and len(place) > 2
    where = _where(path, lines, place)
    if item["type"] == "extra_forbidden":
        known = ("group", "effects", "correlated") if in_level else tuple(_model().model_fields)
        table = "[[levels]]" if in_level else "a description"
        return f"{where}: unknown key {name!r}; {table} has {', '.join(known)}.{did_you_mean(name, known)}"
    if item["type"] == "missing":
        return f"{where}: {name!r} is missing here; expected {_EXPECTED[name]}"
    if place[0] == "priors" and len(place) > 1:
        expected = 'a text such as "HalfNormal(sigma=2)", or a table from effect to such texts'
    else:
        name = name if name in _EXPECTED else str(place[0])
        expected = _EXPECTED[name]
    return f"{where}: {'.'.join(map(str, place))} is {_shown(item['input'])}; expected {expected}"


def _shown(value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _hierarchy(path: Path, lines: Mapping, content: dict) -> Hierarchy:
    explicit = [key for key in ("response", "fixed", "levels") if key in content]
    if "formula" in content and explicit:
        _fail(
            path,
            lines,
            (explicit[0],),
            f"{explicit[0]!r} and 'formula' both describe the model; keep the formula,"
            " or response, fixed and [[levels]]",
        )
    if "formula" in content:
        try:
            return Hierarchy.from_formula(content["formula"])
        except DescriptionError as error:
            _fail(path, lines, ("formula",), str(error))
    if not explicit:
        _fail(
            path,
            lines,
            (),
            'nothing describes the model; write formula = "y ~ 1 + (1 | group)", or response, fixed and [[levels]]',
        )
    if "response" not in content:
        _fail(path, lines, (explicit[0],), f"'response' is missing; expected {_EXPECTED['response']}")
    if "levels" not in content:
        _fail(path, lines, ("response",), f"'levels' is missing; expected {_EXPECTED['levels']}")
    return _explicit(path, lines, content)


def _explicit(path: Path, lines: Mapping, content: dict) -> Hierarchy:
    """Make the hierarchy from its parts, each blamed at its own line."""
    from bayeslmm.formula import normal_form, normal_response
    from bayeslmm.hierarchy import Level

    checks: list[tuple[tuple, Any]] = [(("response",), lambda: normal_response(content["response"]))]
    if "fixed" in content:
        checks.append((("fixed",), lambda: normal_form(content["fixed"])))
    levels: list[Level] = []
    for place, given in enumerate(content["levels"]):
        key = "effects" if "effects" in given and not _is_sound(given["effects"]) else "group"
        checks.append((("levels", place, key), lambda given=given: levels.append(Level.from_dict(given))))
    for at, check in checks:
        try:
            check()
        except DescriptionError as error:
            _fail(path, lines, at, str(error))
    try:
        return Hierarchy(response=content["response"], fixed=content.get("fixed", "1"), levels=tuple(levels))
    except DescriptionError as error:
        _fail(path, lines, ("levels",), str(error))


def _is_sound(effects: str) -> bool:
    from bayeslmm.formula import terms_of

    try:
        return bool(terms_of(effects))
    except DescriptionError:
        return False


def _priors(path: Path, lines: Mapping, content: dict) -> dict[str, Prior | dict[str, Prior]]:
    def one(place: tuple, text: str) -> Prior:
        try:
            return Prior.parse(text)
        except PriorError as error:
            _fail(path, lines, place, f"{'.'.join(place)}: {error}", PriorError)

    priors: dict[str, Prior | dict[str, Prior]] = {}
    for key, given in content.get("priors", {}).items():
        place = ("priors", key)
        if isinstance(given, str):
            priors[key] = one(place, given)
        else:
            priors[key] = {effect: one((*place, effect), text) for effect, text in given.items()}
    return priors


def _data_path(path: Path, lines: Mapping, content: dict) -> Path | None:
    if "data" not in content:
        return None
    text = content["data"]
    if not text.endswith((".csv", ".csv.gz")) or "://" in text:
        _fail(path, lines, ("data",), f"data is {text!r}; expected {_EXPECTED['data']}")
    return path.parent / Path(text)


def _only_grouping(hierarchy: Hierarchy) -> list[str]:
    from bayeslmm.formula import columns_of

    used = [hierarchy.response, hierarchy.fixed, *(level.effects for level in hierarchy.levels)]
    elsewhere = {column for text in used for column in columns_of(text)}
    groups = dict.fromkeys(name for level in hierarchy.levels for name in level.group)
    return [name for name in groups if name not in elsewhere]


def _whole_numbers(column: pd.Series) -> pd.Series:
    """Make whole numbers of the labels where that loses nothing: no "01", no text, no missing ones."""
    if len(column) and column.notna().all() and column.str.fullmatch(r"-?[1-9]\d{0,17}|0").all():
        return column.astype("int64")
    return column
