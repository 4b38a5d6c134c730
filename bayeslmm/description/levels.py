"""Level and Residual: the parts of a hierarchy, one grouping of the rows each, and what the rows themselves share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Self

from bayeslmm.covariances.effects.registry import EFFECTS, ENTIRELY_KNOWN
from bayeslmm.covariances.effects.structure import EffectStructure
from bayeslmm.covariances.residuals.registry import STRUCTURES
from bayeslmm.covariances.residuals.structure import ResidualStructure
from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.formula import parse as language
from bayeslmm.formula.tokens import check_name


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
    structure : {"us", "diag", "cs", "ar1"}
        Their covariance: any ("us", the default), independent effects (what ``correlated=False`` says), compound
        symmetry (an SD each and one correlation), AR(1) (one SD, correlations that fall off in the order of effects).
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
    structure: str = "us"
    covariance: KnownMatrix | None = None
    precision: KnownMatrix | None = None
    known: bool = False

    def __post_init__(self):
        object.__setattr__(self, "group", group_columns(self.group))
        expect_text("effects", self.effects, "'1' or '1 + Days'")
        for name in ("correlated", "known"):
            if not isinstance(getattr(self, name), bool):
                raise DescriptionError(f"{name} is True or False; got {getattr(self, name)!r}")
        self._settle_structure()
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

    def _settle_structure(self) -> None:
        """``correlated=False`` and ``structure="diag"`` say the same."""
        if not isinstance(self.structure, str) or self.structure not in EFFECTS:
            listed = "; ".join(f"{name!r}: {one.text}" for name, one in EFFECTS.items())
            raise DescriptionError(
                f"the effects have no structure {self.structure!r}; there are {listed}."
                f"{did_you_mean(str(self.structure), EFFECTS)}"
            )
        if not self.correlated and EFFECTS[self.structure].paired:
            object.__setattr__(self, "structure", "diag")
        if not self.correlated and self.structure != "diag":
            raise DescriptionError(
                f"the level {self.label!r} has structure={self.structure!r} and correlated=False; write one of them"
            )
        object.__setattr__(self, "correlated", self.structure != "diag")

    @property
    def term(self) -> str:
        """The level as a term of a formula: "(1 | g)", "cs(0 + f | g)"."""
        return self.effect_structure.bar(self.effects, self.label)

    @property
    def effect_structure(self) -> EffectStructure:
        """How the effects of a group vary together."""
        return ENTIRELY_KNOWN if self.known else EFFECTS[self.structure]

    @property
    def label(self) -> str:
        """Name of the grouping, as lme4 writes it."""
        return ":".join(self.group)

    @property
    def matrix(self) -> KnownMatrix | None:
        """The known covariance or precision of the groups, if there is one."""
        return self.covariance if self.covariance is not None else self.precision

    def to_dict(self) -> dict[str, Any]:
        """Return the keyword arguments that make this level.

        Examples
        --------
        >>> Level(group="school", effects="1 + x").to_dict()
        {'group': ['school'], 'effects': '1 + x', 'correlated': True}
        """
        out: dict[str, Any] = {"group": list(self.group), "effects": self.effects, "correlated": self.correlated}
        out |= {"structure": self.structure} if self.structure not in ("us", "diag") else {}
        out |= {name: m.to_dict() for name in ("covariance", "precision") if (m := getattr(self, name)) is not None}
        return out | ({"known": True} if self.known else {})

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Make a level from keyword arguments; files of known matrices are looked for in `folder`.

        Examples
        --------
        >>> Level.from_dict({"group": "school"}).label
        'school'
        """
        return cls(**_read_matrices(take_parts(cls, given), folder))

    def __str__(self) -> str:
        return self.term[1:-1] if self.term.startswith("(") else self.term


@dataclass(frozen=True, kw_only=True)
class Residual:
    """ResidualStructure of the residual covariance R, relative to sigma^2.

    Parameters
    ----------
    structure : {"iid", "strata", "ar1", "car1", "cs", "known"}
        Independent rows; a variance for each value of the column `by` (sigma is the SD of the first one, the others
        have ``sigma_ratio``); correlation rho^|t - s| within groups, t in steps; the same at any times, t in median
        gaps; one correlation rho within groups, which may be negative as far as R stays positive definite; a known
        matrix.
    weights : str, optional
        Column of positive precision weights w: the variance of a row is sigma^2 / w, as in lme4.
    by : str, optional
        Column of strata, each with its own SD; also beside "ar1", "car1" and "cs".
    group : str or tuple of str, optional
        Columns within whose groups rows are correlated; for "ar1" and "car1" the whole table where it is left out. For
        "known" the column with the labels of the rows (where it is left out: the labels of the data frame's index).
    time : str, optional
        Column of times for "ar1", whole numbers or in equal steps up to rounding; where it is left out, the rows' order
        within the group. For "car1" any numbers, with at most 50 different gaps between neighbours.
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
        if not isinstance(self.structure, str) or self.structure not in STRUCTURES:
            listed = "; ".join(f"{name!r}: {kind.text}" for name, kind in STRUCTURES.items())
            raise DescriptionError(
                f"the residual has no structure {self.structure!r}; there are {listed}."
                f"{did_you_mean(str(self.structure), STRUCTURES)}"
            )
        for name in ("weights", "by", "time"):
            if getattr(self, name) is not None:
                expect_text(name, getattr(self, name), "the name of a column")
                check_name(getattr(self, name))
        if self.group is not None:
            object.__setattr__(self, "group", group_columns(self.group))
        if self.covariance is not None:
            object.__setattr__(self, "covariance", KnownMatrix.of(self.covariance))
        given = {
            item.name for item in fields(self) if item.name != "structure" and getattr(self, item.name) is not None
        }
        kind = self.kind
        extra = sorted(given - kind.takes)
        if extra:
            able = [repr(name) for name, other in STRUCTURES.items() if given <= other.takes]
            remedy = f"; write structure={' or '.join(able)}" if able else ""
            raise DescriptionError(f"a residual of structure {self.structure!r} has no {extra[0]!r}{remedy}")
        if kind.needs and kind.needs not in given:
            example = {"by": "'Sex'", "group": "'Subject'", "time": "'week'", "covariance": "R"}[kind.needs]
            raise DescriptionError(
                f"a residual of structure {self.structure!r} ({kind.text}) needs {kind.needs}={example}"
            )

    @property
    def kind(self) -> type[ResidualStructure]:
        """What knows all about its structure."""
        return STRUCTURES[self.structure]

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
        """Return the keyword arguments that make this residual.

        Examples
        --------
        >>> Residual(structure="ar1", group="Mare").to_dict()
        {'structure': 'ar1', 'group': ['Mare']}
        """
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
        """Make a residual from keyword arguments; the file of a known matrix is looked for in `folder`.

        Examples
        --------
        >>> Residual.from_dict({"weights": "w"}).columns
        ('w',)
        """
        return cls(**_read_matrices(take_parts(cls, given), folder))

    def __str__(self) -> str:
        parts = [f"{k}={v!r}" if isinstance(v, str) else f"{k}={':'.join(v)!r}" for k, v in self._shown()]
        return f"{self.structure}{f' ({", ".join(parts)})' if parts else ''}"

    def _shown(self) -> list[tuple[str, Any]]:
        return [(k, v) for k in ("group", "time", "by", "weights") if (v := getattr(self, k)) is not None]


def expect_text(name: str, value: object, example: str) -> None:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise DescriptionError(f"{name} is a text such as {example}; got {type(value).__name__} {value!r}")


def group_columns(given: object) -> tuple[str, ...]:
    """Columns of a grouping, given as a text or a list.

    Examples
    --------
    >>> group_columns("class:school"), group_columns(["my class", "school"])
    (('class', 'school'), ('my class', 'school'))
    """
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


def take_parts(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys of keyword arguments for `kind` and copy them."""
    if not isinstance(given, Mapping):
        raise DescriptionError(f"a {kind.__name__} is made from a mapping of its parts; got {given!r}")
    names = [item.name for item in fields(kind)]
    for key in given:
        if key not in names:
            hint = did_you_mean(str(key), names)
            raise DescriptionError(f"a {kind.__name__} has no part {key!r}; it has {', '.join(names)}.{hint}")
    for item in fields(kind):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in given:
            raise DescriptionError(f"a {kind.__name__} needs a {item.name}; got only {sorted(given)}")
    return dict(given)


def _read_matrices(known: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Read the files of known matrices, if there are any."""
    for name in ("covariance", "precision"):
        if known.get(name) is not None:
            known[name] = KnownMatrix.of(known[name], precision=name == "precision", folder=folder)
    return known
