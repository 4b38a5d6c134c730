"""Population-averaged: the mean over all groups that there could be, their effects integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.predictions.scopes.scope import Found, Scope, Taken

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign


class PopulationAveraged(Scope):
    """Every row is averaged over N(0, Sigma): what a share or a mean is in the population, not in one group."""

    name = "population-averaged"
    text = "averaged over their distribution N(0, Sigma), so that the mean is that of all groups there could be"
    needs_groups = False
    integrates = True

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """One group that stands for all: its variance is what is asked for."""
        return Taken(seen=found.none, fresh=np.zeros(len(found.rows), dtype=np.int64), labels=("any group",))
