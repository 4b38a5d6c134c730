"""Population: u = 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.predictions.scopes.scope import Found, Scope, Taken

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign


class Population(Scope):
    """No effects: X beta and the offset alone, lme4's ``re.form = NA``."""

    name = "population"
    text = "zero"
    needs_effects = False
    needs_groups = False

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """Nothing."""
        return Taken(seen=found.none, fresh=found.none)
