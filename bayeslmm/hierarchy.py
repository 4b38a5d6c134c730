"""The description of a hierarchy: what varies, between which groups, around which mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from bayeslmm import formula as language
from bayeslmm.errors import DescriptionError, did_you_mean
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

    Examples
    --------
    >>> level = Level(group="class:school", effects="Days")
    >>> level.label, level.effects
    ('class:school', '1 + Days')
    """

    group: tuple[str, ...]
    effects: str = "1"
    correlated: bool = True

    def __post_init__(self):
        object.__setattr__(self, "group", _group(self.group))
        _expect_text("effects", self.effects, "'1' or '1 + Days'")
        if not isinstance(self.correlated, bool):
            raise DescriptionError(f"correlated is True or False; got {self.correlated!r}")
        object.__setattr__(self, "effects", language.normal_form(self.effects))
        if not language.terms_of(self.effects):
            raise DescriptionError(
                f"the level {self.label!r} has no effects ({self.effects!r}); write at least one, such as '1'"
            )

    @property
    def label(self) -> str:
        """Name of the grouping, as lme4 writes it."""
        return ":".join(self.group)

    def to_dict(self) -> dict[str, Any]:
        """Return the keyword arguments that make this level."""
        return {"group": list(self.group), "effects": self.effects, "correlated": self.correlated}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Make a level from keyword arguments."""
        return cls(**_known(cls, given))

    def __str__(self) -> str:
        return f"{self.effects} {'|' if self.correlated else '||'} {self.label}"


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Structure of the residual covariance R, relative to sigma^2.

    Examples
    --------
    >>> Residual().structure
    'iid'
    """

    structure: str = "iid"

    def __post_init__(self):
        if self.structure != "iid":
            raise DescriptionError(
                f"the structure of the residual is 'iid' (independent, one variance); got {self.structure!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the keyword arguments that make this residual."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Make a residual from keyword arguments."""
        return cls(**_known(cls, given))


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
        object.__setattr__(self, "levels", _levels(self.levels))
        _check_response(self)
        _check_overlap(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the random effects, one per level: u2, u3, ..."""
        return tuple(f"u{k}" for k in range(2, 2 + len(self.levels)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that the hierarchy uses, the response first."""
        return language.columns_of(self.formula)

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
    def from_formula(cls, text: str) -> Self:
        """Read a formula as lme4 reads it: ``(x || g)`` is one level with independent effects.

        Examples
        --------
        >>> Hierarchy.from_formula("Reaction ~ Days + (Days || Subject)").levels[0].correlated
        False
        """
        parts = language.parse(text)
        levels = tuple(
            Level(group=term.group, effects=term.effects, correlated=term.correlated) for term in parts.terms
        )
        return cls(response=parts.response, fixed=parts.fixed, levels=levels)

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
    def from_dict(cls, given: Mapping[str, Any]) -> Self:
        """Make a hierarchy from the keyword arguments that `to_dict` returns."""
        known = _known(cls, given)
        levels = known.get("levels", ())
        if isinstance(levels, (list, tuple)):
            known["levels"] = tuple(Level.from_dict(x) if isinstance(x, Mapping) else x for x in levels)
        if isinstance(known.get("residual"), Mapping):
            known["residual"] = Residual.from_dict(known["residual"])
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
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, path: str | Path) -> Hierarchy:
        """Read the hierarchy of a description file; see `bayeslmm.modelfile.ModelFile` for the rest of it."""
        from bayeslmm.modelfile import ModelFile

        return ModelFile.read(path).hierarchy

    def __str__(self) -> str:
        named = zip(self.names, self.levels, strict=True)
        return "\n".join([self.formula, *(f"  {name}: {level}" for name, level in named)])


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


def _levels(given: object) -> tuple[Level, ...]:
    if isinstance(given, Level):
        given = (given,)
    if not isinstance(given, (list, tuple)):
        raise DescriptionError(f"levels is a tuple of Level, such as (Level(group='school'),); got {given!r}")
    for level in given:
        if not isinstance(level, Level):
            raise DescriptionError(f"each of the levels is a Level, such as Level(group='school'); got {level!r}")
    if not given:
        raise DescriptionError(
            "the model has no level above the rows: add a group term such as (1 | group),"
            " or fit an ordinary linear model with another package"
        )
    return tuple(given)


def _check_response(hierarchy: Hierarchy) -> None:
    response = set(language.columns_of(hierarchy.response))
    places = [("the fixed part", language.columns_of(hierarchy.fixed))]
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
    seen: dict[tuple[frozenset[str], frozenset[str]], Level] = {}
    for level in hierarchy.levels:
        for term in language.terms_of(level.effects):
            key = (frozenset(level.group), term)
            if key in seen:
                effect = ":".join(sorted(term)) or "1"
                raise DescriptionError(
                    f"the effect {effect!r} varies twice between the groups {level.label!r}: in"
                    f" ({seen[key]}) and in ({level}). Remove one; for independent effects write"
                    f" (1 | g) + (0 + x | g), or (1 + x || g)"
                )
        seen |= {(frozenset(level.group), term): level for term in language.terms_of(level.effects)}


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


def _toml(text: str) -> str:
    """Write a text as a TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
