"""New where unseen: groups that the model has seen keep their effects, the others are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.predictions.scopes.scope import Found, Scope, Taken, new_groups

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign


class NewWhereUnseen(Scope):
    """A row takes the effects of its own group where the model has seen it, else those of a new group."""

    name = "new where unseen"
    text = "those of each row's own group; where the model hasn't seen it, of a new group, from N(0, Sigma)"
    keeps = True
    draws = True

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """The own group, or a new one."""
        assert found.code is not None
        fresh, labels = new_groups(found, found.code < 0)
        return Taken(seen=found.seen, fresh=fresh, labels=labels)
