"""New: every row's groups are new ones, whatever they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.predictions.scopes.scope import Found, Scope, Taken, new_groups

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign


class New(Scope):
    """Every label stands for a new group: its effects come from N(0, Sigma), one draw for all of its rows."""

    name = "new"
    text = "of new groups, from their distribution N(0, Sigma); each label is a new group, known or not"
    draws = True

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """A new group per label."""
        fresh, labels = new_groups(found, np.ones(len(found.names.labels), dtype=bool))
        return Taken(seen=found.none, fresh=fresh, labels=labels)
