"""Observed: every row's own groups, all of which the model has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.data.table import say_rows
from bayeslmm.errors import DataError
from bayeslmm.predictions.scopes.scope import Found, Scope, Taken
from bayeslmm.support.text import listed

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign


class Observed(Scope):
    """Every row takes the effects of its own group; a group that the model hasn't seen is an error."""

    name = "observed"
    text = "those of each row's own group"
    keeps = True

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """Each row's own group."""
        assert found.code is not None
        fresh = found.code < 0
        if fresh.any():
            new = [label for label, is_new in zip(found.names.labels, fresh, strict=True) if is_new]
            raise DataError(
                f"{level.label} has groups that the model was not built on: {listed(new)} "
                f"({say_rows(found.rows, found.seen < 0)}); expected some of {listed(level.groups, 10)}. For effects "
                f"drawn from the population write scope='new where unseen', or scope={{{level.name!r}: 'new where "
                f"unseen'}} to ask it of this level alone; for none scope='population'."
            )
        return Taken(seen=found.seen, fresh=found.none)
