"""What a description file may say: its keys and their types, as a JSON Schema and in the words of errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from bayeslmm.covariances.effects.registry import EFFECTS
from bayeslmm.covariances.residuals.registry import STRUCTURES
from bayeslmm.description.levels import Level, Residual
from bayeslmm.description.outcome_keys import KEYS
from bayeslmm.description.toml_text import where
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.families.family import listed_links
from bayeslmm.families.registry import FAMILIES

_MATRIX = (
    'a path such as "kinship.csv", or {file = "A.mtx", labels = "A.txt"}, or'
    ' {labels = ["a", "b"], matrix = [[1.0, 0.5], [0.5, 1.0]]}'
)
_TIMED = " and ".join(name for name, kind in STRUCTURES.items() if "time" in kind.takes)
_FAMILIES = "Family of an outcome that isn't Gaussian, with its link: " + listed_links(list(FAMILIES.values()))
_OTHER_KEYS = {
    "link": ' Write family = "binomial(link = probit)".',
}
MOST_MESSAGES = 20  # of what is wrong with one description
EXPECTED = {
    "title": 'a text, such as title = "Heights of pupils"',
    "source": "a text that says where the data come from",
    "notes": "a text",
    "data": 'the path of a .csv or .csv.gz file beside this one, such as data = "data/heights.csv", or of Parquet '
    'files that are read where they are, such as data = "rows/*.parquet"',
    "engine": '"duckdb" or "polars", which computes sums over the rows where they are',
    "formula": 'a text, such as formula = "y ~ 1 + x + (1 | group)"',
    "response": 'the name of a column, such as response = "y"',
    "fixed": 'a text, such as fixed = "1 + x"',
    "offset": 'a text, such as offset = "log(n)"',
    "family": 'a text, such as family = "binomial" or family = "binomial(link = probit)"',
    "trials": 'the name of a column, such as trials = "n"',
    "failures": 'the name of a column, such as failures = "healthy"',
    "categories": 'texts in their order, such as categories = ["low", "middle", "high"]',
    "levels": 'tables, such as [[levels]] and below it group = "school"',
    "group": 'a text or a list of columns, such as group = "class:school" or ["class", "school"]',
    "effects": 'a text, such as effects = "1 + x"',
    "correlated": "true or false",
    "known": "true (the covariance of the effects is sigma^2 times the known one) or false",
    "residual": 'a table: [residual] and below it structure = "ar1"',
    "structure": "one of " + ", ".join(f'"{name}" ({kind.text})' for name, kind in STRUCTURES.items()),
    "weights": 'the name of a column, such as weights = "n"',
    "by": 'the name of a column, such as by = "Sex"',
    "time": 'the name of a column of times, such as time = "week"',
    "covariance": _MATRIX,
    "precision": _MATRIX,
    "file": 'the path of a .mtx or .mtx.gz file (a CSV has its labels in itself: covariance = "kinship.csv")',
    "labels": "the path of a text with one label a line; or beside matrix a list of texts",
    "matrix": "rows of numbers, such as [[1.0, 0.5], [0.5, 1.0]]",
    "missing": '"error" (say where values are missing) or "drop" (leave these rows out)',
    "priors": 'a table: [priors] and below it sigma = "HalfNormal(sigma=2)"',
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a description file.

    Examples
    --------
    >>> json_schema()["title"]
    'bayeslmm description file'
    """
    schema = _model().model_json_schema()

    def none_of(*keys: str) -> dict[str, Any]:
        return {"anyOf": [{"required": [key]} for key in keys]}

    formula = {"required": ["formula"], "not": none_of("response", "fixed", "levels")}
    explicit = {
        "required": ["response"],
        "anyOf": [{"required": ["levels"]}, {"required": ["residual"]}],
        "not": none_of("formula", "covariance", "precision"),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "oneOf": [formula, explicit],
        "dependentRequired": {key: ["family"] for key in KEYS if key != "family"},
        "if": {"required": ["family"]},
        "then": {"not": none_of("residual")},
    }


@cache
def _model() -> Any:
    """Build the pydantic model of a description file, whose fields are its keys."""
    from typing import Literal

    from pydantic import Field

    matrix = _matrix()
    level = _table(
        "Level",
        "One grouping of the rows and the effects that vary between its groups.",
        group=(str | list[str], _key("Grouping columns, joined by `:` or as a list", "class:school", default=...)),
        effects=(str, _key("What varies between the groups", "1 + Days", default="1")),
        correlated=(bool, _key("Whether the effects of one group are correlated", default=True)),
        structure=(Literal[*EFFECTS], _key("; ".join(f"{k}: {one.text}" for k, one in EFFECTS.items()), default="us")),
        covariance=(matrix | None, _key("Known covariance of the groups up to a factor", "kinship.csv")),
        precision=(matrix | None, _key("Inverse of the known covariance, instead of it", "A_inverse.csv")),
        known=(bool, _key("Whether sigma^2 times the known one is the effects' covariance", default=False)),
    )
    residual = _table(
        "Residual",
        "Structure of the residual covariance, relative to sigma^2.",
        structure=(
            Literal[*STRUCTURES],
            _key("; ".join(f"{name}: {kind.text}" for name, kind in STRUCTURES.items()), default="iid"),
        ),
        weights=(str | None, _key("Column of weights w: the variance of a row is sigma^2 / w", "n")),
        by=(str | None, _key("Column of strata, each with its own SD", "Sex")),
        group=(str | list[str] | None, _key("Columns within whose groups rows are correlated", "Mare")),
        time=(str | None, _key(f"Column of times, for {_TIMED}", "week")),
        covariance=(matrix | None, _key("The known matrix itself", "R.csv")),
    )
    by_level = dict[str, matrix] | None  # type: ignore[valid-type]
    return _table(
        "Description",
        "A multilevel model: its data, its hierarchy, its outcome's family, its priors and its story.",
        "bayeslmm description file",
        title=(str | None, _key("Title of the example")),
        source=(str | None, _key("Where the data come from")),
        notes=(str | None, _key("What the example teaches")),
        data=(
            str | None,
            _key(
                "Path of a .csv or .csv.gz file, relative to this one; or path or glob of Parquet files, which are "
                "read where they are",
                "data/heights.csv",
                "rows/*.parquet",
            ),
        ),
        engine=(
            Literal["duckdb", "polars"] | None,
            _key("What computes sums over the rows where they are, so that they need not fit into memory", "duckdb"),
        ),
        formula=(str | None, _key("The model in lme4's notation", "Height ~ 1 + (1 | school/class)")),
        response=(str | None, _key("Response: a column, or a transform such as log(y)", "Height")),
        fixed=(str | None, _key("Right-hand side of the mean, 1 by default", "1 + x")),
        offset=(str | None, _key("Part of the mean with the coefficient 1", "log(n)")),
        family=(str | None, _key(_FAMILIES, "binomial(link = logit)", "poisson", default=None)),
        failures=(str | None, _key("Of a binomial: column of failures beside the response of successes", "healthy")),
        trials=(str | None, _key("Of a binomial: column of trials beside the response of successes", "n")),
        weights=(str | None, _key("Of a binomial: column of trials beside the response of proportions", "n")),
        categories=(
            list[str] | None,
            _key("Texts of the response in their order; of a binomial the failure and the success", ["low", "high"]),
        ),
        levels=(list[level] | None, _key("Levels in the order of u2, u3, ...")),  # type: ignore[valid-type]
        residual=(residual | None, _key("Structure of the residual covariance; independent rows by default")),
        covariance=(by_level, _key("Beside a formula: from a grouping or level to its matrix", {"animal": "A.csv"})),
        precision=(by_level, _key("The same of inverse matrices", {"animal": "A_inverse.csv"})),
        missing=(Literal["error", "drop"], _key("What to do about missing values", default="error")),
        priors=(
            dict[str, str | dict[str, str]],
            Field(
                default_factory=dict,
                description="Per parameter (a column of X, beta, sigma, sigma_u2, corr_u2, rho, sigma_ratio, alpha,"
                " phi, threshold; or sigma_total and shares for all SDs) a prior named as in PyMC, or a table from"
                " effect to prior",
                examples=[{"sigma_u3": "HalfStudentT(nu=3, sigma=1)"}],
            ),
        ),
    )


def model_keys() -> tuple[str, ...]:
    """The keys of a description.

    Examples
    --------
    >>> "family" in model_keys()
    True
    """
    return tuple(_model().model_fields)


def _table(name: str, about: str, title: str = "", /, **keys: Any) -> Any:
    from pydantic import ConfigDict, create_model

    config = ConfigDict(extra="forbid", strict=True, title=title or name)
    return create_model(name, __config__=config, __doc__=about, **keys)


def _key(about: str, *examples: Any, default: Any = None) -> Any:
    from pydantic import Field

    return Field(default, description=about, examples=list(examples) or None)


def _matrix() -> Any:
    """The three ways to write a known matrix; which one is meant is seen from its keys."""
    from typing import Annotated

    from pydantic import Discriminator, Tag

    in_files = _table(
        "MatrixMarket",
        "A matrix in Matrix Market format and the labels of its rows, each in a file.",
        file=(str, _key("Path of the .mtx or .mtx.gz file", "A.mtx", default=...)),
        labels=(str, _key("Path of the text with one label a line", "A.txt", default=...)),
    )
    written_out = _table(
        "Matrix",
        "A matrix written out.",
        labels=(list[str | int], _key("Labels of its rows and columns", ["a", "b"], default=...)),
        matrix=(list[list[float]], _key("Its rows", [[1.0, 0.5], [0.5, 1.0]], default=...)),
    )

    def which(given: Any) -> str:
        if not isinstance(given, Mapping):
            return "[path]"
        return "[written out]" if "matrix" in given else "[in files]"

    ways: tuple[Any, ...] = (
        Annotated[str, Tag("[path]")],
        Annotated[in_files, Tag("[in files]")],
        Annotated[written_out, Tag("[written out]")],
    )
    return Annotated[ways[0] | ways[1] | ways[2], Discriminator(which)]


def check_shape(path: Path, lines: Mapping, content: dict) -> None:
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
            if len(messages) == MOST_MESSAGES:
                break
        if len(found) > MOST_MESSAGES:
            messages[f"{path}: {len(found) - MOST_MESSAGES} more like these"] = None
        raise DescriptionError("\n".join(messages)) from None


def _explain(path: Path, lines: Mapping, item: Any) -> str:
    place = tuple(x for x in item["loc"] if isinstance(x, int) or not re.search(r"[\[\]]|^(str|int)$", x))
    at = where(path, lines, place)
    name = str(next(x for x in reversed(place) if isinstance(x, str)))
    if item["type"] == "extra_forbidden":
        table, known = _keys_around(place, str(item["loc"]))
        hint = _OTHER_KEYS.get(name, "") if len(place) == 1 else ""
        if len(place) > 1 and name in model_keys():
            hint = f" {name} is a key of the whole description: write it above the tables."
        hint = hint or did_you_mean(name, known)
        return f"{at}: unknown key {_shown(name)}; {table} has {', '.join(known)}.{hint}"
    if item["type"] == "missing":
        return f"{at}: {name!r} is missing here; expected {EXPECTED[name]}"
    names = EFFECTS if place[0] == "levels" else STRUCTURES
    hint = did_you_mean(str(item["input"]), names) if name == "structure" else ""
    key = ".".join(_short(str(part)) for part in place)
    return f"{at}: {key} is {_shown(item['input'])}; expected {_expected(place, name)}{hint}"


def _keys_around(place: tuple, loc: str) -> tuple[str, tuple[str, ...]]:
    """The table that a key stands in, and what it may hold."""
    if "[in files]" in loc:
        return "a known matrix in files", ("file", "labels")
    if "[written out]" in loc:
        return "a known matrix that is written out", ("labels", "matrix")
    if place[0] == "levels" and len(place) > 2:
        return "[[levels]]", tuple(item.name for item in fields(Level))
    if place[0] == "residual" and len(place) > 1:
        return "[residual]", tuple(item.name for item in fields(Residual))
    return "a description", model_keys()


def _expected(place: tuple, name: str) -> str:
    table = place[0]
    if table == "priors" and len(place) > 1:
        return 'a text such as "HalfNormal(sigma=2)", or a table from effect to such texts'
    if table in ("covariance", "precision"):
        if len(place) == 1:
            return f'a table: [{table}] and below it the grouping with its matrix, such as animal = "kinship.csv"'
        return EXPECTED[name] if len(place) > 2 else _MATRIX
    if table == "levels" and name == "structure":
        return "one of " + ", ".join(f'"{name}" ({one.text})' for name, one in EFFECTS.items())
    return EXPECTED.get(name) or EXPECTED[str(table)]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _shown(value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return _short(text)
