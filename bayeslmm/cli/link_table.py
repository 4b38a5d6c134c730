"""A posterior of an outcome that isn't Gaussian as a table: a row for each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.posterior.draws import seconds_of, summary
from bayeslmm.support.text import format_column

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.glmm import GLMM


def parameter_table(glmm: GLMM, tree: xr.DataTree, random_effects: bool) -> pd.DataFrame:
    """Mean, SD, 95 % interval, ESS and R-hat of the parameters, and of the random effects if asked for."""
    import xarray as xr

    posterior = tree["posterior"].to_dataset()
    levels = [level.name for level in glmm.design.levels]
    names = [
        *(name for name in map(str, posterior.data_vars) if name not in levels),
        *(levels if random_effects else []),
    ]
    labels, columns = [], []
    for name in names:
        x = posterior[name].transpose("chain", "draw", ...)
        own = [[str(label) for label in x[dim].values.tolist()] for dim in x.dims[2:]]
        for at in np.ndindex(*x.shape[2:]):
            if name.startswith("corr_") and at[0] >= at[1]:
                continue
            inside = ", ".join(texts[k] for texts, k in zip(own, at, strict=True))
            labels.append(f"{name}[{inside}]" if inside else name)
            columns.append(x.values[:, :, *at])
    draws = xr.DataArray(np.stack(columns, axis=-1), dims=("chain", "draw", "parameter"), coords={"parameter": labels})
    found, _ = summary(draws, seconds_of(tree))
    shown = {column: format_column(found[column].to_numpy(), 4) for column in found.columns[:4]}
    shown |= {"ESS": [f"{x:.0f}" for x in found.iloc[:, 4]], "R-hat": [f"{x:.3f}" for x in found.iloc[:, 6]]}
    return pd.DataFrame(shown, index=found.index)
