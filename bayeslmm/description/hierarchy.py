"""The description of a hierarchy: what varies, between which groups, around which mean."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bayeslmm.description.levels import Level, Residual, expect_text, take_parts
from bayeslmm.description.toml_text import toml_value
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.formula import parse as language
from bayeslmm.formula.tokens import quote


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A multilevel linear model: response, fixed part, levels from the finest on, residual.

    Parameters
    ----------
    response : str
        A numeric column, or a transform of one such as "log(y)".
    fixed : str
        The mean, as on the right of a formula without its bars: "1 + x * z".
    offset : str
        A part of the mean with the coefficient 1: "log(n)"; "" where there is none.
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
    offset: str = ""

    def __post_init__(self):
        expect_text("response", self.response, "the name of a column, such as 'Height'")
        expect_text("fixed", self.fixed, "'1' or '1 + x * z'")
        if not isinstance(self.residual, Residual):
            raise DescriptionError(f"residual is a Residual, such as Residual(); got {self.residual!r}")
        object.__setattr__(self, "response", language.normal_response(self.response))
        expect_text("offset", self.offset, "'log(n)'")
        fixed, offset = language.split_offset(self.fixed)
        offsets = [text for text in (offset, language.normal_offset(self.offset)) if text]
        object.__setattr__(self, "fixed", fixed)
        object.__setattr__(self, "offset", " + ".join(offsets))
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
        return language.write(self.response, self.fixed, self.levels, self.offset)

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
        offset: str = "",
    ) -> Self:
        """Read a formula as lme4 reads it: ``(x || g)`` is one level with independent effects.

        Parameters
        ----------
        text : str
        residual : Residual, optional
            What a formula can't say of R.
        covariance, precision : mapping, optional
            From a grouping ("animal") or a level's name ("u2") to its known matrix; see `Level`.
        offset : str
            A part of the mean with the coefficient 1, beside what ``offset()`` in the formula says.

        Examples
        --------
        >>> Hierarchy.from_formula("Reaction ~ Days + (Days || Subject)").levels[0].correlated
        False
        """
        parts = language.parse(text)
        matrices: list[dict[str, Any]] = [{} for _ in parts.terms]
        for kind, given in (("covariance", covariance), ("precision", precision)):
            for key, matrix in _by_level(kind, given).items():
                matrices[place_of(key, parts.terms, kind)][kind] = matrix
        levels = tuple(
            Level(group=term.group, effects=term.effects, structure=term.structure, **matrix)
            for term, matrix in zip(parts.terms, matrices, strict=True)
        )
        expect_text("offset", offset, "'log(n)'")
        offsets = " + ".join(text for text in (parts.offset, language.normal_offset(offset)) if text)
        return cls(
            response=parts.response, fixed=parts.fixed, levels=levels, residual=residual or Residual(), offset=offsets
        )

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
            **({"offset": self.offset} if self.offset else {}),
            "levels": [level.to_dict() for level in self.levels],
            "residual": self.residual.to_dict(),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Make a hierarchy from the keyword arguments that `to_dict` returns.

        Raises
        ------
        DescriptionError
            For a key that is none of them, or a value that can't be read.

        Examples
        --------
        >>> Hierarchy.from_dict({"response": "y", "levels": [{"group": "school"}]}).formula
        'y ~ 1 + (1 | school)'
        """
        known = take_parts(cls, given)
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
        offset = {"offset": self.offset} if self.offset else {}
        tables = [("", {"response": self.response, "fixed": self.fixed, **offset})]
        tables += [("[[levels]]", level.to_dict()) for level in self.levels]
        tables += [] if self.residual.plain else [("[residual]", self.residual.to_dict())]
        return "\n".join(map(_table, tables))

    @classmethod
    def from_toml(cls, path: str | Path) -> Hierarchy:
        """Read the hierarchy of a description file; `LMM.from_toml` reads its data and priors too.

        Warns
        -----
        UserWarning
            If the file names a family, which a hierarchy hasn't: `GLMM.from_toml` reads it.

        Raises
        ------
        DescriptionError
            At the file and line of what can't be read.

        Examples
        --------
        >>> from bayeslmm.gallery import example_path
        >>> Hierarchy.from_toml(example_path("dyestuff")).formula
        'Yield ~ 1 + (1 | Batch)'
        """
        from bayeslmm.description.model_file import ModelFile

        file = ModelFile.read(path)
        if file.outcome is not None:
            warnings.warn(
                f"{file.path} names family = {str(file.outcome.family)!r}, which a Hierarchy hasn't: an LMM made of it "
                "would take the outcome for Gaussian. Write blm.GLMM.from_toml(path).",
                UserWarning,
                stacklevel=2,
            )
        return file.hierarchy

    def __str__(self) -> str:
        lines = [self.formula]
        for name, level in zip(self.names, self.levels, strict=True):
            kind = "covariance" if level.covariance is not None else "precision"
            known = "" if level.matrix is None else f", {'sigma^2 times a ' if level.known else ''}known {kind}"
            lines.append(f"  {name}: {level}{known}")
        return "\n".join([*lines, *([] if self.residual.plain else [f"  e: {self.residual}"])])


def _table(named: tuple[str, Mapping[str, Any]]) -> str:
    """A table of a description file: its name, and a line for each key."""
    name, content = named
    return "".join(f"{line}\n" for line in [name, *(f"{k} = {toml_value(v)}" for k, v in content.items())] if line)


def _levels(given: object, residual: Residual) -> tuple[Level, ...]:
    if isinstance(given, Level):
        given = (given,)
    if not isinstance(given, (list, tuple)):
        raise DescriptionError(f"levels is a tuple of Level, such as (Level(group='school'),); got {given!r}")
    for level in given:
        if not isinstance(level, Level):
            raise DescriptionError(f"each of the levels is a Level, such as Level(group='school'); got {level!r}")
    if not given and not residual.kind.stands_alone:
        raise DescriptionError(
            "the model has no level above the rows: add a group term such as (1 | group),"
            " or fit an ordinary linear model with another package"
        )
    return tuple(given)


def _check_response(hierarchy: Hierarchy) -> None:
    """Refuse the response as a term of its own model; in another term its columns may stand, as in a change score."""

    def terms(text: str) -> set[str]:
        return {next(iter(term)) for term in language.terms_of(text) if len(term) == 1}

    places = [("the fixed part", terms(hierarchy.fixed)), ("the offset", {hierarchy.offset})]
    places.append(("the residual", set(map(quote, hierarchy.residual.columns))))
    for level in hierarchy.levels:
        places.append((f"the level {level.label!r}", {*map(quote, level.group), *terms(level.effects)}))
    for place, found in places:
        if hierarchy.response in found:
            raise DescriptionError(
                f"the response {hierarchy.response.strip('`')!r} stands in {place} too; remove it there: a response is"
                " not explained by itself"
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
                    f" {seen[key].term} and in {level.term}. Remove one; for independent effects write"
                    f" (1 | g) + (0 + x | g), or (1 + x || g)"
                )
        seen |= {(frozenset(level.group), term, level.matrix): level for term in language.terms_of(level.effects)}


def _by_level(kind: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is None or isinstance(given, Mapping):
        return given or {}
    raise DescriptionError(
        f"beside a formula, {kind} says which grouping the matrix belongs to; write {kind}={{'animal': K}} instead of "
        f"the {type(given).__name__} itself"
    )


def place_of(key: str, terms: Sequence[Any], kind: str = "covariance") -> int:
    """Which term of a formula a known matrix belongs to: by its grouping, or by the level's name.

    Examples
    --------
    >>> terms = language.parse("y ~ (1 | animal) + (1 | year)").terms
    >>> place_of("year", terms), place_of("u2", terms)
    (1, 0)
    """
    names = [f"u{k}" for k in range(2, 2 + len(terms))]
    labels = [":".join(term.group) for term in terms]
    if key in names:
        return names.index(key)
    if labels.count(key) == 1:
        return labels.index(key)
    if key in labels:
        alike = [name for name, label in zip(names, labels, strict=True) if label == key]
        raise DescriptionError(
            f"{kind} is given for {key!r}, but {' and '.join(alike)} have this grouping; name one of these instead, "
            f"such as {alike[0]!r}"
        )
    listed = ", ".join(f"{name} ({label})" for name, label in zip(names, labels, strict=True)) or "none"
    raise DescriptionError(
        f"{kind} is given for {key!r}, which is no level; there are {listed}."
        f"{did_you_mean(str(key), [*names, *labels])}"
    )
