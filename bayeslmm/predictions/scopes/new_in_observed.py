"""New in observed: new classes of schools that the model has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.design.describe import relation
from bayeslmm.errors import DescriptionError
from bayeslmm.predictions.scopes.observed import Observed
from bayeslmm.predictions.scopes.scope import Found, Scope, Taken
from bayeslmm.predictions.scopes.where_unseen import NewWhereUnseen

if TYPE_CHECKING:
    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign


class NewInObserved(Scope):
    """Groups that lie in larger ones may be new, the larger ones have to be seen: a new class of an old school."""

    name = "new in observed"
    text = "those of each row's own group; an inner group may be new, an outer one has to be seen"

    def at(self, design: Design, k: int) -> Scope:
        """Observed for outermost levels, new where unseen for those that lie in others."""
        levels = design.levels
        inner = [any(relation(level, other) == "nested" for other in levels if other is not level) for level in levels]
        if not any(inner):
            each = ", ".join(f"{level.name!r}: 'observed'" for level in levels)
            remedy = "Write scope='new' or scope='new where unseen'."
            if len(levels) > 1:
                remedy = f"Say it level by level, such as scope={{{each}}} with 'new' for one of them."
            raise DescriptionError(
                "scope='new in observed' is for new groups inside of larger ones that were seen; here no level lies in "
                f"another. {remedy}"
            )
        return NewWhereUnseen() if inner[k] else Observed()

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """Never asked: each level has a scope of its own."""
        raise NotImplementedError
