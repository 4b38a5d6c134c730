"""In what a parameter is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bayeslmm.design.design import Design


def response_of(design: Design) -> str:
    """Name the response as people read it, without the backticks that a formula needs around an odd name.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> response_of(blm.LMM("`y (cm)` ~ 1 + (1 | g)", {"y (cm)": [1.0, 2, 4, 5], "g": list("aabb")}).design)
    'y (cm)'
    """
    text = design.hierarchy.response
    return text[1:-1] if text.startswith("`") and text.count("`") == 2 and text.endswith("`") else text


def unit_of(design: Design, name: str) -> str:
    """Say in what a parameter or an SD is measured: "Reaction", "Reaction per unit of Days", "correlation".

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("y ~ x + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "x": [1.0, 2, 3, 5, 5, 7], "g": list("aabbcc")})
    >>> [unit_of(lmm.design, name) for name in ("beta[Intercept]", "beta[x]", "sigma_u2")]
    ['y', 'y per unit of x', 'y']
    """
    y = response_of(design)
    for column, label in zip(design.counted.X.T, design.coef, strict=True):
        if name == f"beta[{label}]":
            return per_unit(y, label, column)
    for level in design.levels:
        for e, label in enumerate(level.sd_labels):
            if name == label:
                return per_unit(y, level.effects[e], level.columns[:, e])
    if name.startswith("sigma_ratio"):
        return "ratio of SDs"
    return y if name == "sigma" else "correlation"


def per_unit(y: str, name: str, column: np.ndarray) -> str:
    """Say in what the coefficient of a column is measured: in units of y where it is constant or an indicator.

    Examples
    --------
    >>> per_unit("y", "Intercept", np.ones(3)), per_unit("y", "Days", np.arange(3.0))
    ('y', 'y per unit of Days')
    """
    plain = np.ptp(column) == 0 or np.isin(column, (0.0, 1.0)).all()
    return y if plain else f"{y} per unit of {name}"
