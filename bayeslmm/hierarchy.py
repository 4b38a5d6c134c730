"""The description of a hierarchy: what varies, between which groups, around which mean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Level:
    """One grouping of the rows, and the effects that vary between its groups."""

    group: tuple[str, ...]
    effects: str = "1"
    correlated: bool = True

    def __post_init__(self):
        if isinstance(self.group, str):
            object.__setattr__(self, "group", tuple(part.strip() for part in self.group.split(":")))

    @property
    def label(self) -> str:
        """Name of the grouping, as lme4 writes it."""
        return ":".join(self.group)


@dataclass(frozen=True, kw_only=True)
class Residual:
    """Structure of the residual covariance R, relative to sigma^2."""

    structure: str = "iid"


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A multilevel linear model: response, fixed part, levels from the finest term on, residual."""

    response: str
    fixed: str = "1"
    levels: tuple[Level, ...] = ()
    residual: Residual = Residual()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the random effects, one per level: u2, u3, ..."""
        return tuple(f"u{k}" for k in range(2, 2 + len(self.levels)))
