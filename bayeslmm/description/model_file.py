"""Description files: a hierarchy, its data, its priors and its story, in TOML. Data, never code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.description.levels import Level, Residual, group_columns
from bayeslmm.description.outcome_keys import COLUMNS, KEYS, OutcomeKeys
from bayeslmm.description.schema import EXPECTED, check_shape, model_keys
from bayeslmm.description.toml_text import key_lines, load, where
from bayeslmm.distributions.prior import Prior
from bayeslmm.errors import BayesLMMError, DataError, DescriptionError, PriorError, beside
from bayeslmm.families.registry import read_family
from bayeslmm.formula.cbind import says_trials, split_cbind
from bayeslmm.formula.tokens import check_name
from bayeslmm.support.arguments import check_path
from bayeslmm.support.files import ordinary, read_text, show_path

if TYPE_CHECKING:
    import pandas as pd

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
        The table, relative to the file's folder unless absolute; of Parquet files also a glob.
    engine : str
        "duckdb" or "polars" where the rows stay where they are; "" where they are read into memory.
    hierarchy : Hierarchy
        The model.
    outcome : OutcomeKeys or None
        The family of an outcome that isn't Gaussian, and the columns that make it up.
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
    outcome: OutcomeKeys | None = None
    title: str = ""
    source: str = ""
    notes: str = ""
    data: Path | None = None
    engine: str = ""
    priors: dict[str, Prior | dict[str, Prior]] = field(default_factory=dict)
    missing: str = "error"

    @classmethod
    def read(cls, path: str | Path) -> ModelFile:
        """Read a description file; every error names the file and the line."""
        path = check_path(path, "models/heights.toml")
        return cls.parse(read_text(path, "description file").replace("\r\n", "\n").replace("\r", "\n"), path)

    @classmethod
    def parse(cls, text: str, path: str | Path = "description.toml") -> ModelFile:
        """Read the text of a description file; `path` is where it says it comes from."""
        path = Path(path)
        content = load(path, text)
        lines = key_lines(text)
        check_shape(path, lines, content)
        outcome = _outcome(path, lines, content)
        hierarchy = _hierarchy(path, lines, content)
        stated = {key: content[key] for key in ("title", "source", "notes", "missing") if key in content}
        data = _data_path(path, lines, content)
        engine = _engine(path, lines, content, outcome)
        priors = _priors(path, lines, content)
        return cls(path=path, hierarchy=hierarchy, outcome=outcome, data=data, engine=engine, priors=priors, **stated)

    def load_data(self) -> pd.DataFrame:
        """Read the table; columns that only group keep their texts, so "01" and "1" stay apart.

        Empty cells, NA and NaN are missing; any other text stays a text.
        """
        if self.data is None:
            raise DataError(f'{self.path} names no data; add a line such as data = "data/heights.csv"')
        if self.engine:
            raise DataError(f"{self.path}: its rows stay where they are, {show_path(self.data)}, and are not loaded.")
        if not ordinary(self.data):
            raise DataError(
                f"{self.path}: the data file {show_path(self.data)} does not exist, or is no file{beside(self.data)}"
                " A path is relative to the folder of the description."
            )
        frame = read_csv(self.data, only_grouping(self.hierarchy, self.outcome.columns if self.outcome else ()))
        if self.outcome is None:
            return frame
        try:
            return self.outcome.in_order(frame, self.hierarchy.response)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None


def read_csv(path: Path, labels: Sequence[str], as_text: bool = False) -> pd.DataFrame:
    """Read a table in CSV: empty cells, NA and NaN are missing, any other text stays a text.

    Parameters
    ----------
    path : Path
    labels : sequence of str
        Columns that keep their texts, so "01" and "1" stay apart; whole numbers where that loses nothing.
    as_text : bool
        Whether these stay texts in any case.

    Raises
    ------
    DataError
        At the file that is no such table.
    """
    import pandas as pd

    compression: Any = "gzip" if path.suffix == ".gz" else None
    read: dict[str, Any] = {"compression": compression, "encoding": "utf-8-sig", "low_memory": False}
    read |= {"keep_default_na": False, "na_values": _MISSING_TEXTS}
    try:
        first = pd.read_csv(path, **(read | {"header": None, "nrows": 1, "dtype": str}))
        names = [str(name) for name in first.iloc[0]]
        twice = sorted({name for name in names if names.count(name) > 1 and name != "nan"})
        if twice:
            raise DataError(f"{path}: the column {twice[0]!r} stands twice in its first line; rename one")
        grouping = [name for name in labels if name in names]
        frame = pd.read_csv(path, **(read | {"dtype": dict.fromkeys(grouping, str)}))
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; expected a line of column names and rows") from None
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, EOFError, ValueError) as error:
        if isinstance(error, BayesLMMError):
            raise
        raise DataError(f"{path}: not readable as a table in CSV: {error}") from None
    for name in () if as_text else grouping:
        frame[name] = whole_numbers(frame[name])
    return frame


def _fail(path: Path, lines: Mapping, place: tuple, message: str, kind: type = DescriptionError) -> NoReturn:
    """Raise an error at the line of a key, or of the nearest table around it."""
    raise kind(f"{where(path, lines, place)}: {message}")


@contextmanager
def _blaming(path: Path, lines: Mapping, place: tuple) -> Iterator[None]:
    """Put the file and the line of a key before an error that is raised inside."""
    try:
        yield
    except DescriptionError as error:
        _fail(path, lines, place, str(error))


def _outcome(path: Path, lines: Mapping, content: dict) -> OutcomeKeys | None:
    """Read the family and what goes with it; a formula with trials on its left comes apart in `content`."""
    place = "formula" if "formula" in content else "response"
    paired = says_trials(content.get(place, ""))
    counting = [key for key in COLUMNS if key in content]
    if "family" not in content:
        for key in (*KEYS, *([place] if paired else [])):
            if key in content:
                hint = " Weights of a Gaussian outcome stand in [residual]." if key == "weights" else ""
                what = paired if key == place else key
                _fail(path, lines, (key,), f'{what} stands beside a family; write family = "binomial".{hint}')
        return None
    with _blaming(path, lines, ("family",)):
        family = read_family(content["family"])
    if "residual" in content:
        hint = 'the trials of a binomial are trials = "n", above the tables; rows of a group are alike by a level'
        _fail(path, lines, ("residual",), f"a {family.name} outcome has no residual; leave [residual] out: {hint}")
    if (paired or counting) and not family.takes_trials:
        _fail(
            path, lines, (place if paired else counting[0],),
            f"{paired or counting[0]} counts the trials of a binomial; a {family.name} outcome has none. Leave it out, "
            'or write family = "binomial"',
        )  # fmt: skip
    if len(counting) + bool(paired) > 1:
        said = " and by ".join([*([paired] if paired else []), *counting])
        _fail(path, lines, (counting[-1],), f"the number of trials is said twice, by {said}; keep one of them")
    for key in counting:
        with _blaming(path, lines, (key,)):
            check_name(content[key])
    columns = {key: content[key] for key in counting}
    if paired:
        with _blaming(path, lines, (place,)):
            if place == "response":
                raise DescriptionError(
                    f'{paired} stands on the left of a formula; here write response = "successes" and '
                    'failures = "failures", or trials = "trials", with the names of the columns'
                )
            content["formula"], *others = split_cbind(content["formula"])
        columns = dict(zip(COLUMNS, others, strict=False))
    with _blaming(path, lines, ("categories",)):
        return OutcomeKeys(family=family, categories=tuple(content.get("categories", ())), **columns)


def _hierarchy(path: Path, lines: Mapping, content: dict) -> Hierarchy:
    explicit = [key for key in ("response", "fixed", "levels") if key in content]
    if "formula" in content:
        if explicit:
            _fail(
                path,
                lines,
                (explicit[0],),
                f"{explicit[0]!r} and 'formula' both describe the model; keep the formula,"
                " or response, fixed and [[levels]]",
            )
        return _from_formula(path, lines, content)
    if not explicit:
        _fail(
            path,
            lines,
            (),
            'nothing describes the model; write formula = "y ~ 1 + (1 | group)", or response, fixed and [[levels]]',
        )
    for kind in ("covariance", "precision"):
        if kind in content:
            _fail(path, lines, (kind,), f"[{kind}] stands beside a formula; write {kind} = ... in its [[levels]]")
    if "response" not in content:
        _fail(path, lines, (explicit[0],), f"'response' is missing; expected {EXPECTED['response']}")
    if "levels" not in content and "residual" not in content:
        _fail(path, lines, ("response",), f"'levels' is missing; expected {EXPECTED['levels']}")
    return _explicit(path, lines, content)


def _from_formula(path: Path, lines: Mapping, content: dict) -> Hierarchy:
    """Make the hierarchy from a formula and what it can't say, each blamed at its own line."""
    from bayeslmm.description.hierarchy import place_of
    from bayeslmm.formula.parse import normal_offset, parse

    with _blaming(path, lines, ("formula",)):
        terms = parse(content["formula"]).terms
    offset = content.get("offset", "")
    with _blaming(path, lines, ("offset",)):
        normal_offset(offset)
    matrices: dict[str, dict[str, KnownMatrix]] = {"covariance": {}, "precision": {}}
    seen: dict[int, str] = {}
    for kind, found in matrices.items():
        for key, given in content.get(kind, {}).items():
            with _blaming(path, lines, (kind, key)):
                term = place_of(key, terms, kind)
                if term in seen:
                    raise DescriptionError(f"{key!r} has a matrix already, that of {seen[term]}; keep one of them")
                found[key] = KnownMatrix.of(given, precision=kind == "precision", folder=path.parent)
            seen[term] = f"{kind}.{key}"
    residual = _residual(path, lines, content)
    with _blaming(path, lines, ("formula",)):
        return Hierarchy.from_formula(content["formula"], residual=residual, offset=offset, **matrices)


def _explicit(path: Path, lines: Mapping, content: dict) -> Hierarchy:
    """Make the hierarchy from its parts, each blamed at its own line."""
    from bayeslmm.formula.parse import normal_offset, normal_response, split_offset

    with _blaming(path, lines, ("response",)):
        normal_response(content["response"])
    with _blaming(path, lines, ("fixed",)):
        split_offset(content.get("fixed", "1"))
    with _blaming(path, lines, ("offset",)):
        normal_offset(content.get("offset", ""))
    levels = [_level(path, lines, k, given) for k, given in enumerate(content.get("levels", []))]
    parts = {key: content[key] for key in ("response", "fixed", "offset") if key in content}
    residual = _residual(path, lines, content)
    if levels:
        with _blaming(path, lines, ("levels",)):
            Hierarchy(**parts, levels=tuple(levels))
    with _blaming(path, lines, ("residual",) if "residual" in content else ("levels",)):
        return Hierarchy(**parts, levels=tuple(levels), residual=residual)


def _level(path: Path, lines: Mapping, k: int, given: dict) -> Level:
    parts = dict(given)
    for kind in ("covariance", "precision"):
        if kind in parts:
            with _blaming(path, lines, ("levels", k, kind)):
                parts[kind] = KnownMatrix.of(parts[kind], precision=kind == "precision", folder=path.parent)
    key = "effects" if "effects" in given and not _is_sound(given["effects"]) else "group"
    with _blaming(path, lines, ("levels", k, key)):
        return Level.from_dict(parts)


def _residual(path: Path, lines: Mapping, content: dict) -> Residual:
    parts = dict(content.get("residual", {}))
    if "covariance" in parts:
        with _blaming(path, lines, ("residual", "covariance")):
            parts["covariance"] = KnownMatrix.of(parts["covariance"], folder=path.parent)
    for key in ("group", "weights", "by", "time"):
        if key in parts:
            with _blaming(path, lines, ("residual", key)):
                group_columns(parts[key]) if key == "group" else check_name(parts[key])
    with _blaming(path, lines, ("residual", "structure")):
        return Residual.from_dict(parts)


def _is_sound(effects: str) -> bool:
    from bayeslmm.formula.parse import terms_of

    try:
        return bool(terms_of(effects))
    except DescriptionError:
        return False


def _priors(path: Path, lines: Mapping, content: dict) -> dict[str, Prior | dict[str, Prior]]:
    def one(place: tuple, text: str) -> Prior:
        try:
            return Prior.parse(text)
        except PriorError as error:
            whole = len(place) == 2 and place[1] in model_keys()
            hint = f" If {place[1]} is meant for the whole description, write it above the tables." if whole else ""
            _fail(path, lines, place, f"{'.'.join(place)}: {error}{hint}", PriorError)

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
    if not text.lower().endswith((".csv", ".csv.gz", ".parquet", ".pq")) or "://" in text:
        _fail(path, lines, ("data",), f"data is {text!r}; expected {EXPECTED['data']}")
    return path.parent / Path(text)


def stays(path: Path | str) -> bool:
    """Whether rows stay where they are without being told to: those of Parquet files, and of several files.

    Examples
    --------
    >>> stays("rows/*.parquet"), stays("a.csv")
    (True, False)
    """
    text = str(path)
    return text.lower().endswith((".parquet", ".pq")) or any(sign in text for sign in "*?[")


def _engine(path: Path, lines: Mapping, content: dict, outcome: OutcomeKeys | None) -> str:
    given = content.get("engine") or ""
    if not given and not stays(content.get("data", "")):
        return ""
    if "data" not in content:
        _fail(path, lines, ("engine",), "engine says what reads the data, and there are none; write data = ...")
    if outcome is not None:
        _fail(
            path, lines, ("engine" if given else "data",),
            f"a {outcome.family.name} outcome needs its rows in memory, and Parquet files and engines leave them where "
            'they are; write data = "rows.csv", without engine',
        )  # fmt: skip
    return given or "duckdb"


def only_grouping(hierarchy: Hierarchy, counting: Sequence[str] = ()) -> list[str]:
    """Columns that make groups or strata and nothing else.

    Examples
    --------
    >>> only_grouping(Hierarchy.from_formula("y ~ x + f + (1 | f:g)"))
    ['g']
    """
    from bayeslmm.formula.parse import columns_of

    residual = hierarchy.residual
    used = [hierarchy.response, hierarchy.fixed, *(level.effects for level in hierarchy.levels)]
    used += [f"offset({hierarchy.offset})"] if hierarchy.offset else []
    elsewhere = {column for text in used for column in columns_of(text)}
    elsewhere |= {name for name in (residual.weights, residual.time, *counting) if name}
    groups = [name for level in hierarchy.levels for name in level.group]
    groups += [*(residual.group or ()), *([residual.by] if residual.by else [])]
    return [name for name in dict.fromkeys(groups) if name not in elsewhere]


def whole_numbers(column: pd.Series) -> pd.Series:
    """Make whole numbers of the labels where that loses nothing: no "01", no text, no missing ones."""
    if len(column) and column.notna().all() and column.str.fullmatch(r"-?[1-9]\d{0,17}|0").all():
        return column.astype("int64")
    return column
