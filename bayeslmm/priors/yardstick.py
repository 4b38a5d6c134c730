"""What defaults are measured by: where the mean is likely to be, and what stands for one SD of y, in words too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.design.counted import mean
from bayeslmm.design.design import Design
from bayeslmm.families.family import Family, Outcome
from bayeslmm.priors.anchors import spread_of


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """A place and a size on the scale of the linear predictor.

    Attributes
    ----------
    center, spread : float
    what : str
        The place: "mean of y".
    one, many : str
        The size: "the SD of y", "SDs of y".
    """

    center: float
    spread: float
    what: str = "mean of y"
    one: str = "the SD of y"
    many: str = "SDs of y"


def gaussian(design: Design) -> Yardstick:
    """Mean and SD of y without its offset."""
    y, counts = design.counted.y, design.counted.counts
    return Yardstick(center=float(mean(y, counts)), spread=spread_of(y, counts))


def of_family(design: Design, family: Family, outcome: Outcome) -> Yardstick:
    """The link of the overall mean, less the mean offset, and a unit of the link's scale."""
    center, what = family.center(outcome)
    spread, unit = family.unit(outcome)
    if design.offset is not None:
        center, what = center - float(np.mean(design.offset)), f"{what}, less the mean offset,"
    size = "" if spread == 1 or family.link == "identity" else f"{spread:g} "
    first, rest = unit.split(" ", 1)
    return Yardstick(center=center, spread=spread, what=what, one=f"a {size}{unit}", many=f"{size}{first}s {rest}")
