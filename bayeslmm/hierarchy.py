"""The description of a hierarchy: what varies, between which groups, around which mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from bayeslmm import formula as language
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.known import KnownMatrix
from bayeslmm.tokens import check_name


@dataclass(frozen=True, kw_only=True)
class Level:
    """One grouping of the rows, and the effects that vary between its groups.

    Parameters
    ----------
    group : str or tuple of str
        Columns whose observed combinations are the groups: "school", "class:school" or a tuple.
        In a string a name that isn't one plain word stands in backticks.
    effects : str
        What varies between the groups, as on the left of a bar: "1", "1 + Days", "0 + recipe".
    correlated : bool
        Whether the effects of one group are correlated (``|``) or independent (``||``).
    covariance : labelled DataFrame, file, or KnownMatrix, optional
        Covariance K of the groups up to a factor: a kinship, a phylogeny. The effects have covariance K (x) Sigma,
        Sigma estimated. Rows are matched to groups by label; labels without rows are relatives.
    precision : as `covariance`, optional
        The inverse of the covariance, instead of it.
    known : bool
        Whether the effects' covariance is sigma^2 K entirely, with nothing to estimate.

    Examples
    --------
    >>> level = Level(group="class:school", effects="Days")
    >>> level.label, level.effects
    ('class:school', '1 + Days')
    """

    group: tuple[str, ...]
    effects: str = "1"
    correlated: bool = True
    covariance: KnownMatrix | None = None
    precision: KnownMatrix | None = None
    known: bool = False

    def __post_init__(self):
        object.__setattr__(self, "group", _group(self.group))
        _expect_text("effects", self.effects, "'1' or '1 + Days'")
        for name in ("correlated", "known"):
            if not isinstance(getattr(self, name), bool):
                raise DescriptionError(f"{name} is True or False; got {getattr(self, name)!r}")
        object.__setattr__(self, "effects", language.normal_form(self.effects))
        if not language.terms_of(self.effects):
            raise DescriptionError(
                f"the level {self.label!r} has no effects ({self.effects!r}); write at least one, such as '1'"
            )
        if self.covariance is not None and self.precision is not None:
            raise DescriptionError(f"the level {self.label!r} has a covariance and a precision; write one of them")
        if self.covariance is not None:
            object.__setattr__(self, "covariance", KnownMatrix.of(self.covariance))
        if self.precision is not None:
            object.__setattr__(self, "precision", KnownMatrix.of(self.precision, precision=True))
        if self.known and self.matrix is None:
            raise DescriptionError(
                f"the level {self.label!r} is known but has no covariance; write covariance=K, and sigma^2 K is the "
                "covariance of its effects"
            )

    @property
    def label(self) -> str:
        """Name of the grouping, as lme4 writes it."""
        return ":".join(self.group)

    @property
    def matrix(self) -> KnownMatrix | None:
        """The known covariance or precision of the groups, if there is one."""
        return self.covariance if self.covariance is not None else self.precision

    def to_dict(self) -> dict[str, Any]:
        """Return the keyword arguments that make this level."""
        out: dict[str, Any] = {"group": list(self.group), "effects": self.effects, "correlated": self.correlated}
        out |= {name: m.to_dict() for name in ("covariance", "precision") if (m := getattr(self, name)) is not None}
        return out | ({"known": True} if self.known else {})

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Make a level from keyword arguments; files of known matrices are looked for in `folder`."""
        return cls(**_read_matrices(_known(cls, given), folder))

    def __str__(self) -> str:
        return f"{self.effects} {'|' if self.correlated else '||'} {self.label}"


STRUCTURES = {
    "iid": "independent, one variance",
    "strata": "independent, a variance for each value of a column",
    "ar1": "autoregressive of order one within groups",
    "cs": "compound symmetry: one correlation within groups",
    "known": "a known matrix",
}
_PARTS = {
    "iid": {"weights"},
    "strata": {"weights", "by"},
    "ar1": {"weights", "by", "group", "time"},
    "cs": {"weights", "by", "group"},
    "known": {"group", "covariance"},
}
_NEEDED = {"strata": "by", "cs": "group", "known": "covariance"}


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Structure of the residual covariance R, relative to sigma^2.

    Parameters
    ----------
    structure : {"iid", "strata", "ar1", "cs", "known"}
        Independent rows; a variance for each value of the column `by` (sigma is the SD of the first one, the others
        have `sigma_ratio`); correlation rho^|t - s| within groups; one correlation rho within groups, which may be
        negative as far as R stays positive definite; a known matrix.
    weights : str, optional
        Column of positive precision weights w: the variance of a row is sigma^2 / w, as in lme4.
    by : str, optional
        Column of strata, each with its own SD; also beside "ar1" and "cs".
    group : str or tuple of str, optional
        Columns within whose groups rows are correlated; for "ar1" the whole table where it is left out. For "known" the
        column with the labels of the rows (where it is left out: the labels of the data frame's index).
    time : str, optional
        Column of integer times for "ar1"; where it is left out, the rows' order within the group.
    covariance : labelled DataFrame, file, or KnownMatrix, optional
        R itself, for "known".

    Examples
    --------
    >>> Residual().structure, Residual(structure="ar1", group="Mare").columns
    ('iid', ('Mare',))
    """

    structure: str = "iid"
    weights: str | None = None
    by: str | None = None
    group: tuple[str, ...] | None = None
    time: str | None = None
    covariance: KnownMatrix | None = None

    def __post_init__(self):
        if self.structure not in STRUCTURES:
            listed = "; ".join(f"{name!r}: {text}" for name, text in STRUCTURES.items())
            raise DescriptionError(
                f"the residual has no structure {self.structure!r}; there are {listed}."
                f"{did_you_mean(str(self.structure), STRUCTURES)}"
            )
        for name in ("weights", "by", "time"):
            if getattr(self, name) is not None:
                _expect_text(name, getattr(self, name), "the name of a column")
                check_name(getattr(self, name))
        if self.group is not None:
            object.__setattr__(self, "group", _group(self.group))
        if self.covariance is not None:
            object.__setattr__(self, "covariance", KnownMatrix.of(self.covariance))
        given = {
            item.name for item in fields(self) if item.name != "structure" and getattr(self, item.name) is not None
        }
        extra = sorted(given - _PARTS[self.structure])
        if extra:
            able = [repr(name) for name, parts in _PARTS.items() if given <= parts]
            remedy = f"; write structure={' or '.join(able)}" if able else ""
            raise DescriptionError(f"a residual of structure {self.structure!r} has no {extra[0]!r}{remedy}")
        needed = _NEEDED.get(self.structure)
        if needed and needed not in given:
            example = {"by": "'Sex'", "group": "'Subject'", "covariance": "R"}[needed]
            raise DescriptionError(
                f"a residual of structure {self.structure!r} ({STRUCTURES[self.structure]}) needs {needed}={example}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it uses."""
        alone = [name for name in (self.weights, self.by, self.time) if name is not None]
        return tuple(dict.fromkeys([*(self.group or ()), *alone]))

    @property
    def plain(self) -> bool:
        """Whether R is the identity."""
        return self == Residual()

    def to_dict(self) -> dict[str, Any]:
        """Return the keyword arguments that make this residual."""
        out: dict[str, Any] = {"structure": self.structure}
        for name in ("weights", "by", "time"):
            if getattr(self, name) is not None:
                out[name] = getattr(self, name)
        if self.group is not None:
            out["group"] = list(self.group)
        if self.covariance is not None:
            out["covariance"] = self.covariance.to_dict()
        return out

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Make a residual from keyword arguments; the file of a known matrix is looked for in `folder`."""
        return cls(**_read_matrices(_known(cls, given), folder))

    def __str__(self) -> str:
        parts = [f"{k}={v!r}" if isinstance(v, str) else f"{k}={':'.join(v)!r}" for k, v in self._shown()]
        return f"{self.structure}{f' ({", ".join(parts)})' if parts else ''}"

    def _shown(self) -> list[tuple[str, Any]]:
        return [(k, v) for k in ("group", "time", "by", "weights") if (v := getattr(self, k)) is not None]


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A multilevel linear model: response, fixed part, levels from the finest on, residual.

    Parameters
    ----------
    response : str
        A numeric column, or a transform of one such as "log(y)".
    fixed : str
        The mean, as on the right of a formula without its bars: "1 + x * z".
    levels : tuple of Level
        In the order of u2, u3, ...: the rows are level 1.
    residual : Residual
        Independent with one variance, unless said otherwise.

    Examples
    --------
    >>> pupils = Hierarchy.from_formula("Height ~ 1 + (1 | school/class)")
    >>> [(name, level.label) for name, level in zip(pupils.names, pupils.levels)]
    [('u2', 'class:school'), ('u3', 'school')]
    >>> pupils == Hierarchy(response="Height", levels=(Level(group="class:school"), Level(group="school")))
    True
    """

    response: str
    fixed: str = "1"
    levels: tuple[Level, ...] = ()
    residual: Residual = field(default_factory=Residual)

    def __post_init__(self):
        _expect_text("response", self.response, "the name of a column, such as 'Height'")
        _expect_text("fixed", self.fixed, "'1' or '1 + x * z'")
        if not isinstance(self.residual, Residual):
            raise DescriptionError(f"residual is a Residual, such as Residual(); got {self.residual!r}")
        object.__setattr__(self, "response", language.normal_response(self.response))
        object.__setattr__(self, "fixed", language.normal_form(self.fixed))
        object.__setattr__(self, "levels", _levels(self.levels, self.residual))
        _check_response(self)
        _check_overlap(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the random effects, one per level: u2, u3, ..."""
        return tuple(f"u{k}" for k in range(2, 2 + len(self.levels)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that the hierarchy uses, the response first."""
        return tuple(dict.fromkeys([*language.columns_of(self.formula), *self.residual.columns]))

    @property
    def formula(self) -> str:
        """The hierarchy as an lme4 formula."""
        return language.write(self.response, self.fixed, self.levels)

    def to_formula(self) -> str:
        """Return the hierarchy as an lme4 formula.

        Examples
        --------
        >>> Hierarchy.from_formula("y ~ x + (x | a/b)").to_formula()
        'y ~ 1 + x + (1 + x | b:a) + (1 + x | a)'
        """
        return self.formula

    @classmethod
    def from_formula(
        cls,
        text: str,
        *,
        residual: Residual | None = None,
        covariance: Mapping[str, Any] | None = None,
        precision: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read a formula as lme4 reads it: ``(x || g)`` is one level with independent effects.

        Parameters
        ----------
        text : str
        residual : Residual, optional
            What a formula can't say of R.
        covariance, precision : mapping, optional
            From a grouping ("animal") or a level's name ("u2") to its known matrix; see `Level`.

        Examples
        --------
        >>> Hierarchy.from_formula("Reaction ~ Days + (Days || Subject)").levels[0].correlated
        False
        """
        parts = language.parse(text)
        names = [f"u{k}" for k in range(2, 2 + len(parts.terms))]
        labels = [":".join(term.group) for term in parts.terms]
        matrices: list[dict[str, Any]] = [{} for _ in names]
        for kind, given in (("covariance", covariance), ("precision", precision)):
            for key, matrix in (given or {}).items():
                matrices[_place_of(key, names, labels, kind)][kind] = matrix
        levels = tuple(
            Level(group=term.group, effects=term.effects, correlated=term.correlated, **matrix)
            for term, matrix in zip(parts.terms, matrices, strict=True)
        )
        return cls(response=parts.response, fixed=parts.fixed, levels=levels, residual=residual or Residual())

    def to_dict(self) -> dict[str, Any]:
        """Return plain keyword arguments, ready for JSON.

        Examples
        --------
        >>> h = Hierarchy.from_formula("y ~ 1 + (1 | g)")
        >>> h.to_dict()["levels"]
        [{'group': ['g'], 'effects': '1', 'correlated': True}]
        >>> Hierarchy.from_dict(h.to_dict()) == h
        True
        """
        return {
            "response": self.response,
            "fixed": self.fixed,
            "levels": [level.to_dict() for level in self.levels],
            "residual": self.residual.to_dict(),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Make a hierarchy from the keyword arguments that `to_dict` returns."""
        known = _known(cls, given)
        levels = known.get("levels", ())
        if isinstance(levels, (list, tuple)):
            known["levels"] = tuple(Level.from_dict(x, folder) if isinstance(x, Mapping) else x for x in levels)
        if isinstance(known.get("residual"), Mapping):
            known["residual"] = Residual.from_dict(known["residual"], folder)
        return cls(**known)

    def to_toml(self) -> str:
        """Return the lines of a description file that say the hierarchy.

        Examples
        --------
        >>> print(Hierarchy.from_formula("y ~ x + (x || g)").to_toml())
        response = "y"
        fixed = "1 + x"
        <BLANKLINE>
        [[levels]]
        group = ["g"]
        effects = "1 + x"
        correlated = false
        <BLANKLINE>
        """
        lines = [f"response = {_toml(self.response)}", f"fixed = {_toml(self.fixed)}"]
        for level in self.levels:
            lines += ["", "[[levels]]", f"group = [{', '.join(map(_toml, level.group))}]"]
            lines += [f"effects = {_toml(level.effects)}", f"correlated = {str(level.correlated).lower()}"]
            rest = {k: v for k, v in level.to_dict().items() if k not in ("group", "effects", "correlated")}
            lines += [f"{key} = {_toml_value(value)}" for key, value in rest.items()]
        if not self.residual.plain:
            lines += ["", "[residual]"]
            lines += [f"{key} = {_toml_value(value)}" for key, value in self.residual.to_dict().items()]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, path: str | Path) -> Hierarchy:
        """Read the hierarchy of a description file; see `bayeslmm.modelfile.ModelFile` for the rest of it."""
        from bayeslmm.modelfile import ModelFile

        return ModelFile.read(path).hierarchy

    def __str__(self) -> str:
        lines = [self.formula]
        for name, level in zip(self.names, self.levels, strict=True):
            kind = "covariance" if level.covariance is not None else "precision"
            known = "" if level.matrix is None else f", {'sigma^2 times a ' if level.known else ''}known {kind}"
            lines.append(f"  {name}: {level}{known}")
        return "\n".join([*lines, *([] if self.residual.plain else [f"  e: {self.residual}"])])


def _expect_text(name: str, value: object, example: str) -> None:
    if not isinstance(value, str):
        raise DescriptionError(f"{name} is a text such as {example}; got {type(value).__name__} {value!r}")


def _group(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        if not given.strip():
            raise DescriptionError("group is empty; write a column, such as group='school'")
        return language.group_columns(given)
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        raise DescriptionError(f"group is a text such as 'class:school' or a tuple of column names; got {given!r}")
    if not given:
        raise DescriptionError("group is empty; write a column, such as group='school'")
    for name in given:
        check_name(name)
    if len(set(given)) < len(given):
        raise DescriptionError(f"a column stands twice in the grouping {':'.join(given)!r}; remove one")
    return tuple(given)


def _levels(given: object, residual: Residual) -> tuple[Level, ...]:
    if isinstance(given, Level):
        given = (given,)
    if not isinstance(given, (list, tuple)):
        raise DescriptionError(f"levels is a tuple of Level, such as (Level(group='school'),); got {given!r}")
    for level in given:
        if not isinstance(level, Level):
            raise DescriptionError(f"each of the levels is a Level, such as Level(group='school'); got {level!r}")
    if not given and residual.structure == "iid":
        raise DescriptionError(
            "the model has no level above the rows: add a group term such as (1 | group),"
            " or fit an ordinary linear model with another package"
        )
    return tuple(given)


def _check_response(hierarchy: Hierarchy) -> None:
    response = set(language.columns_of(hierarchy.response))
    places = [("the fixed part", language.columns_of(hierarchy.fixed)), ("the residual", hierarchy.residual.columns)]
    for level in hierarchy.levels:
        places.append((f"the level {level.label!r}", (*level.group, *language.columns_of(level.effects))))
    for place, columns in places:
        for column in columns:
            if column in response:
                raise DescriptionError(
                    f"the response {column!r} stands in {place} too; remove it there: a response is not"
                    " explained by itself"
                )


def _check_overlap(hierarchy: Hierarchy) -> None:
    seen: dict[tuple, Level] = {}
    for level in hierarchy.levels:
        for term in language.terms_of(level.effects):
            key = (frozenset(level.group), term, level.matrix)
            if key in seen:
                effect = ":".join(sorted(term)) or "1"
                raise DescriptionError(
                    f"the effect {effect!r} varies twice between the groups {level.label!r}: in"
                    f" ({seen[key]}) and in ({level}). Remove one; for independent effects write"
                    f" (1 | g) + (0 + x | g), or (1 + x || g)"
                )
        seen |= {(frozenset(level.group), term, level.matrix): level for term in language.terms_of(level.effects)}


def _known(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys of keyword arguments for `kind` and copy them."""
    if not isinstance(given, Mapping):
        raise DescriptionError(f"a {kind.__name__} is made from a mapping of its parts; got {given!r}")
    names = [item.name for item in fields(kind)]
    for key in given:
        if key not in names:
            hint = did_you_mean(str(key), names)
            raise DescriptionError(f"a {kind.__name__} has no part {key!r}; it has {', '.join(names)}.{hint}")
    needed = {Level: "group", Hierarchy: "response"}.get(kind)
    if needed and needed not in given:
        raise DescriptionError(f"a {kind.__name__} needs a {needed}; got only {sorted(given)}")
    return dict(given)


def _read_matrices(known: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Read the files of known matrices, if there are any."""
    for name in ("covariance", "precision"):
        if known.get(name) is not None:
            known[name] = KnownMatrix.of(known[name], precision=name == "precision", folder=folder)
    return known


def _place_of(key: str, names: list[str], labels: list[str], kind: str) -> int:
    """Which term a known matrix belongs to."""
    if key in names:
        return names.index(key)
    if labels.count(key) == 1:
        return labels.index(key)
    if key in labels:
        alike = " and ".join(name for name, label in zip(names, labels, strict=True) if label == key)
        raise DescriptionError(
            f"{kind} is given for {key!r}, but {alike} have this grouping; write {kind}={{'u2': ...}}"
        )
    listed = ", ".join(f"{name} ({label})" for name, label in zip(names, labels, strict=True)) or "none"
    raise DescriptionError(
        f"{kind} is given for {key!r}, which is no level; there are {listed}."
        f"{did_you_mean(str(key), [*names, *labels])}"
    )


def _toml_value(value: Any) -> str:
    """Write a text, a truth, a number, or lists and tables of these as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _toml(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml_value(x)}" for key, x in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return repr(float(value))


def _toml(text: str) -> str:
    """Write a text as a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
