"""What a group's own rows say of its effects, without shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.priors.defaults import row_variances

if TYPE_CHECKING:
    from bayeslmm.design.design import LevelDesign
    from bayeslmm.likelihood.fit import LikelihoodFit


def unshrunk(fit: LikelihoodFit, level: LevelDesign) -> np.ndarray:
    """Effects (m, r) of each group by (weighted) least squares on its own rows; NaN where they don't determine them.

    What is fitted is y less the fit's fixed effects and the other levels' modes.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> fit = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}).reml()
    >>> unshrunk(fit, fit.design.levels[0]).round(2).ravel().tolist()
    [-3.33, -0.33, 3.67]
    """
    own = level.Z @ fit.ranef[level.name].iloc[:, : level.r].to_numpy().ravel()
    rest = fit.design.y - (fit.fitted.to_numpy() - own)
    weights = 1 / np.broadcast_to(row_variances(fit.design.residual), rest.shape)
    x, r = level.columns, level.r
    squares, pull = np.zeros((level.m, r, r)), np.zeros((level.m, r))
    np.add.at(squares, level.index, weights[:, None, None] * x[:, :, None] * x[:, None, :])
    np.add.at(pull, level.index, (weights * rest)[:, None] * x)
    size = np.sqrt(np.einsum("gii->gi", squares))
    found = (size > 0).all(axis=1)
    scaled = squares[found] / (size[found][:, :, None] * size[found][:, None, :])
    found[found] = np.linalg.eigvalsh(scaled)[:, 0] > 1e-8
    out = np.full((level.m, r), np.nan)
    out[found] = np.linalg.solve(squares[found], pull[found][:, :, None])[..., 0]
    return out
