"""The scopes that there are, one line each, and how one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.predictions.scopes.average import Average, AverageByRows
from bayeslmm.predictions.scopes.new import New
from bayeslmm.predictions.scopes.new_in_observed import NewInObserved
from bayeslmm.predictions.scopes.observed import Observed
from bayeslmm.predictions.scopes.population import Population
from bayeslmm.predictions.scopes.population_averaged import PopulationAveraged
from bayeslmm.predictions.scopes.scope import Scope
from bayeslmm.predictions.scopes.where_unseen import NewWhereUnseen

if TYPE_CHECKING:
    from bayeslmm.design.design import Design

SCOPES: dict[str, Scope] = {
    scope.name: scope
    for scope in (
        Observed(),
        NewInObserved(),
        NewWhereUnseen(),
        New(),
        Population(),
        Average(),
        AverageByRows(),
    )
}


# where the mean isn't linear in the effects, averaging over new groups is not the same as taking none
LINK_SCOPES: dict[str, Scope] = SCOPES | {PopulationAveraged.name: PopulationAveraged()}


def scopes_of(asked: Any, design: Design, known: Mapping[str, Scope] = SCOPES) -> tuple[Scope, ...]:
    """The scope of each level, asked for by one name, or by a mapping of levels to names.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> design = blm.example("heights").design
    >>> [scope.name for scope in scopes_of({"school": "average"}, design)]
    ['observed', 'average']
    """
    levels = design.levels
    if isinstance(asked, Mapping):
        named: dict[str, Scope] = {level.name: SCOPES["observed"] for level in levels}
        given: set[str] = set()
        for key, value in asked.items():
            name = _level(key, design)
            if name in given:
                raise DescriptionError(f"scope names {name} twice; expected each level once.")
            given.add(name)
            named[name] = _scope(value, f" for {key!r}", known)
        return tuple(named[level.name].at(design, k) for k, level in enumerate(levels))
    scope = _scope(asked, "", known)
    return tuple(scope.at(design, k) for k in range(len(levels)))


def _scope(name: Any, where: str, known: Mapping[str, Scope]) -> Scope:
    if not isinstance(name, str) or name not in known:
        raise DescriptionError(
            f"There is no scope {name!r}{where}; there are {', '.join(map(repr, known))}, and a mapping of levels to "
            f"them, such as {{'u2': 'new'}}.{did_you_mean(str(name), known)}"
        )
    return known[name]


def _level(key: Any, design: Design) -> str:
    """The name of the level that a key means: "u2", or a grouping that one level has."""
    levels = design.levels
    found = [level.name for level in levels if key in (level.name, level.tag)]
    found = found or [level.name for level in levels if level.label == key]
    if len(found) != 1:
        known = ", ".join(f"{level.name} ({level.label})" for level in levels) or "none"
        what = "means several levels" if found else "is no level"
        hint = did_you_mean(str(key), [*(level.name for level in levels), *(level.label for level in levels)])
        raise DescriptionError(f"scope names {key!r}, which {what}; there are {known}.{hint if not found else ''}")
    return found[0]
