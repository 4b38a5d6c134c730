"""R of the rows in words: what its structure is, and what of it deserves a second look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.data.groups import spread
from bayeslmm.data.table import count
from bayeslmm.support.text import listed

if TYPE_CHECKING:
    from bayeslmm.design.design import Design, LevelDesign
    from bayeslmm.design.residual_design import ResidualDesign

FEW_ROWS = 10  # that an SD of their own is estimated from


def residual_words(made: ResidualDesign) -> list[str]:
    """Describe R in a line or two; nothing where it is the identity.

    Examples
    --------
    >>> import pandas as pd
    >>> from bayeslmm.description.hierarchy import Residual
    >>> from bayeslmm.design.residual_rows import build_residual
    >>> residual = Residual(structure="ar1", group="Mare")
    >>> residual_words(build_residual(residual, pd.DataFrame({"Mare": list("aaabbbb")})))
    ['Residuals: AR(1) within Mare in the order of the rows, 2 series (3 to 4 rows each, 3.5 on average).']
    """
    if made.plain:
        return []
    parts = [name for name in (short_name(made), _sizes(made)) if name]
    lines = [f"Residuals: {', '.join(parts)}."]
    if made.strata:
        rows = np.bincount(made.stratum)
        each = [f"{label} ({count(int(m), 'row')})" for label, m in zip(made.strata, rows, strict=True)]
        some = listed(each, 8, str)
        lines.append(f"  An SD for each {made.residual.by}: {some}; sigma is that of {made.strata[0]}.")
    if made.residual.weights:
        w = made.root_weights**2
        lines.append(f"  Weights: {made.residual.weights}, from {w.min():.4g} to {w.max():.4g}.")
    return lines


def short_name(made: ResidualDesign) -> str:
    """Name the structure: "AR(1) within Mare"."""
    residual = made.residual
    within = f" within {':'.join(residual.group)}" if residual.group else ""
    if residual.structure == "ar1":
        steps = f" in steps of {made.step:.4g}" if made.step != 1 else ""
        return f"AR(1){within} {f'by {residual.time}{steps}' if residual.time else 'in the order of the rows'}"
    if residual.structure == "cs":
        return f"one correlation{within}"
    if residual.covariance is not None:
        return f"sigma^2 times {residual.covariance.name}"
    return "independent"


def with_estimates(made: ResidualDesign, psi: Sequence[float] | np.ndarray) -> str:
    """Name the structure with its parameters' values; "" where R is the identity.

    Examples
    --------
    >>> import pandas as pd
    >>> from bayeslmm.description.hierarchy import Residual
    >>> from bayeslmm.design.residual_rows import build_residual
    >>> frame = pd.DataFrame({"Mare": list("aaabbb"), "Sex": list("FFFMMM")})
    >>> with_estimates(build_residual(Residual(structure="ar1", group="Mare", by="Sex"), frame), [0.61, 2.0])
    'AR(1) within Mare in the order of the rows, rho = 0.610, SD ratio M / F = 2.000'
    """
    if made.plain:
        return ""
    rho, sds = made.split(psi)
    said = [short_name(made)] + ([f"rho = {rho:.3f}{_per_unit(made, float(rho))}"] if made.has_rho else [])
    said += [
        f"SD ratio {label} / {made.strata[0]} = {sd:.3f}" for label, sd in zip(made.strata[1:], sds[1:], strict=True)
    ]
    if made.residual.weights:
        said.append(f"weighted by {made.residual.weights}")
    return ", ".join(said)


def _per_unit(made: ResidualDesign, rho: float) -> str:
    """The correlation of rows one unit of time apart, where a step is several: nlme's Phi."""
    return f" ({rho ** (1 / made.step):.3f} for 1)" if made.step != 1 and rho > 0 else ""


def _sizes(made: ResidualDesign) -> str:
    if not made.correlated:
        return ""
    rows = np.bincount(made.block)
    if len(rows) == 1:
        return f"all {made.n} rows together"
    kind = {"ar1": "series", "cs": "groups"}.get(made.residual.structure, "independent blocks")
    return f"{len(rows)} {kind} ({spread(rows, 'row', 'rows')})"


def residual_hints(design: Design) -> list[str]:
    """Point out what of R is allowed but deserves a second look."""
    made = design.residual
    structured = [
        _few(made),
        _alike(made),
        _same_as_a_level(design),
        _one_series(design),
        _left_out(design),
        _steps(made),
    ]
    return [hint for hint in structured if hint]


def _few(made: ResidualDesign) -> str:
    rows = np.bincount(made.stratum) if made.strata else np.array([made.n])
    small = [label for label, m in zip(made.strata, rows, strict=False) if m < FEW_ROWS]
    if not small:
        return ""
    listed = ", ".join(f"{label} ({count(int(rows[made.strata.index(label)]), 'row')})" for label in small[:5])
    return (
        f"{made.residual.by} has strata with fewer than {FEW_ROWS} rows: {listed}. They say little about an SD of "
        "their own, so its prior matters."
    )


def _alike(made: ResidualDesign) -> str:
    name = made.residual.weights
    if name is None or np.ptp(made.root_weights) > 0:
        return ""
    w = made.root_weights[0] ** 2
    return (
        f"The weights {name} are {w:.4g} in all rows, so they change nothing"
        f"{'' if w == 1 else f' but the meaning of sigma: a row has the SD sigma / {np.sqrt(w):.4g}'}."
    )


def _same_as_a_level(design: Design) -> str:
    """A random intercept makes rows of a group equally correlated, as compound symmetry does."""
    made = design.residual
    if made.residual.structure != "cs" or made.strata or made.residual.weights:
        return ""
    for level in design.levels:
        if level.root is None and "Intercept" in level.effects and _same_groups(level, made.block):
            within = ":".join(made.residual.group or ())
            return (
                f"The intercept of {level.name} and the correlation within {within} say the same of the data, which "
                f"show the sum of both: leave out {level.name}'s intercept, or the structure of the residuals. Without "
                "the level, the correlation may be negative as well."
            )
    return ""


def _same_groups(level: LevelDesign, block: np.ndarray) -> bool:
    pairs = np.unique(level.index * (int(block.max()) + 1) + block)
    return len(pairs) == level.m == int(block.max()) + 1


def _one_series(design: Design) -> str:
    residual = design.residual.residual
    if residual.structure != "ar1" or residual.group or not design.levels:
        return ""
    label = design.levels[0].label
    return (
        f"The AR(1) runs through the whole table, from one group of {label} into the next. If each has a series of its "
        f"own, write group={label!r} in the residual."
    )


def _left_out(design: Design) -> str:
    residual = design.residual.residual
    if residual.structure != "ar1" or residual.time or not design.dropped:
        return ""
    return (
        f"{count(design.dropped, 'row')} with missing values left out: the AR(1) takes the rows around each for "
        "neighbours in time. Name the column of times with time=..., and the gaps are seen."
    )


def _steps(made: ResidualDesign) -> str:
    """Times whose differences are all multiples of a number."""
    if made.step == 1:
        return ""
    whole = made.step >= 2 and float(made.step).is_integer()
    power = f"{made.step:.0f}th root" if whole else f"power {1 / made.step:.4g}"
    return (
        f"All times of {made.residual.time} in a series are multiples of {made.step:.4g} apart: rho is the correlation "
        f"of rows {made.step:.4g} apart; that of rows one apart (nlme's Phi) is its {power}."
    )
