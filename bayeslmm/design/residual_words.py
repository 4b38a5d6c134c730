"""R of the rows in words: what its structure is, and what of it deserves a second look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.data.groups import spread
from bayeslmm.data.table import count
from bayeslmm.support.text import listed

if TYPE_CHECKING:
    from bayeslmm.design.design import Described
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
    parts = [name for name in (made.structure.short_name(), _sizes(made)) if name]
    lines = [f"Residuals: {', '.join(parts)}."]
    if made.strata:
        rows = made.stratum_sizes
        each = [f"{label} ({count(int(m), 'row')})" for label, m in zip(made.strata, rows, strict=True)]
        some = listed(each, 8, str)
        lines.append(f"  An SD for each {made.residual.by}: {some}; sigma is that of {made.strata[0]}.")
    if made.residual.weights:
        w = made.root_weights**2
        lines.append(f"  Weights: {made.residual.weights}, from {w.min():.4g} to {w.max():.4g}.")
    return lines


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
    own, sds = made.split(psi)
    said = [made.structure.short_name(), *made.structure.with_estimates(*own)]
    said += [
        f"SD ratio {label} / {made.strata[0]} = {sd:.3f}" for label, sd in zip(made.strata[1:], sds[1:], strict=True)
    ]
    if made.residual.weights:
        said.append(f"weighted by {made.residual.weights}")
    return ", ".join(said)


def _sizes(made: ResidualDesign) -> str:
    if not made.correlated:
        return ""
    rows = np.bincount(made.block)
    if len(rows) == 1:
        return f"all {made.n} rows together"
    return f"{len(rows)} {made.structure.blocks} ({spread(rows, 'row', 'rows')})"


def residual_hints(design: Described) -> list[str]:
    """Point out what of R is allowed but deserves a second look."""
    made = design.residual
    return [hint for hint in (_few(made), _alike(made), *made.structure.hints(design)) if hint]


def _few(made: ResidualDesign) -> str:
    rows = made.stratum_sizes
    small = [label for label, m in zip(made.strata, rows, strict=False) if m < FEW_ROWS]
    if not small:
        return ""
    few = ", ".join(f"{label} ({count(int(rows[made.strata.index(label)]), 'row')})" for label in small[:5])
    return (
        f"{made.residual.by} has strata with fewer than {FEW_ROWS} rows: {few}. They say little about an SD of "
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
