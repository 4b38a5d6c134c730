"""What is left out at a time: rows, or the groups of a level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.parameters import coords
from bayeslmm.errors import DescriptionError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Units:
    """A partition of the rows.

    Attributes
    ----------
    name : str
        "row", or a level's label.
    labels : tuple
        Of groups, or those of the rows.
    index : (n,) int array
        The unit of each row; -1 for rows of none.
    level : int or None
        Which level's groups they are.
    single : bool
        Whether they are the rows themselves, in their order.
    """

    name: str
    labels: tuple[Any, ...]
    index: np.ndarray
    level: int | None = None
    single: bool = False

    def only(self, unit: int) -> Units:
        """One of them alone."""
        return replace(self, labels=(self.labels[unit],), index=np.where(self.index == unit, 0, -1), single=False)


def units_of(design: Design, unit: str) -> Units:
    """Find units by name: "row", a level's label ("school"), or its name ("u3"); groups without rows are none.

    Raises
    ------
    DescriptionError
        If there is no such unit.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> units_of(blm.example("dyestuff").design, "Batch").labels
    ('A', 'B', 'C', 'D', 'E', 'F')
    """
    if unit == "row":
        labels = tuple(coords(design)["row"])
        return Units(name="row", labels=labels, index=np.arange(design.n), single=True)
    for k, level in enumerate(design.levels):
        if unit in (level.label, level.name):
            seen, index = np.unique(level.index, return_inverse=True)
            return Units(name=level.label, labels=tuple(level.groups[g] for g in seen), index=index, level=k)
    known = ["row", *dict.fromkeys(level.label for level in design.levels)]
    raise DescriptionError(
        f"unit={unit!r} is no unit of this model; expected {' or '.join(map(repr, known))}."
        f"{did_you_mean(str(unit), known)}"
    )
