"""Average: the mean of the effects over the groups of the model, which weigh alike or by their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.predictions.scopes.scope import Found, Scope, Taken

if TYPE_CHECKING:
    from bayeslmm.design.level_design import LevelDesign


class Average(Scope):
    """Every row takes the mean of all groups' effects, each group of equal weight."""

    name = "average"
    text = "their mean over the groups that were seen, each of equal weight"
    needs_groups = False

    def take(self, level: LevelDesign, found: Found) -> Taken:
        """The mean; relatives without rows are not in it."""
        return Taken(seen=found.none, fresh=found.none, mean=self.weights(level))

    def weights(self, level: LevelDesign) -> np.ndarray:
        """Of each group of the model."""
        seen = level.sizes > 0
        return seen / seen.sum()


class AverageByRows(Average):
    """Every row takes the mean of all groups' effects, each group weighing as many rows as it has in the model."""

    name = "average by rows"
    text = "their mean over the groups that were seen, each weighing as many rows as the model has of it"

    def weights(self, level: LevelDesign) -> np.ndarray:
        """Of each group of the model."""
        return level.sizes / level.sizes.sum()
