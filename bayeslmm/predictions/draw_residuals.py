"""Draws of the residuals of new observations, those of one series together."""

from __future__ import annotations

import numpy as np

from bayeslmm.covariances.residuals.structure import Source
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.predictions.encoding import Rows
from bayeslmm.predictions.from_draws import Draws
from bayeslmm.predictions.new_residuals import NewResiduals

NUMBERS = 4_000_000  # draws times rows that are held at a time


def draw_residuals(draws: Draws, rows: Rows, rng: np.random.Generator, *, own: bool, borrows: bool) -> np.ndarray:
    """Draws of e (draws, rows): of the model's own rows once more, or of new rows given what was seen or not.

    Given seen residuals e, those of new rows are e*_new + A (e - e*), e* being a draw of all of them.

    Source: Journel & Huijbregts (1978), conditional simulation; Matheron's rule.
    """
    design = draws.design
    residual, structure = design.residual, design.residual.structure
    out = np.empty((draws.n, rows.n))
    if own:
        made = None
        wide = rows.n
    else:
        borrows = borrows and structure.correlated
        new = NewResiduals.of(rows, borrows)
        made = structure.beside(rows.frame, seen=borrows)
        wide = made.n
    step = max(1, NUMBERS // max(wide, 1))
    for first in range(0, draws.n, step):
        some = slice(first, min(first + step, draws.n))
        psi = draws.psi[some]
        z = rng.standard_normal((len(psi), wide))
        if made is None:
            out[some] = residual.color(z, psi.T)
        else:
            parameters = [psi[:, k, None] for k in range(len(residual.own))]
            e = made.color(z, *parameters)
            if borrows:
                seen = _standard(draws, some) - e[:, : design.n]
                e = e[:, design.n :]
                for source in new.borrowing.sources:
                    e = e + _taken(source, seen, parameters)
            out[some] = e * new.scale(slice(0, rows.n), psi)
        out[some] *= draws.values["sigma"][some, None]
    return out


def _taken(source: Source, seen: np.ndarray, parameters: list[np.ndarray]) -> np.ndarray:
    """What new rows take from seen residuals (draws, n)."""
    sums = (source.sums @ seen.T).T
    return source.coefficient(slice(None), *parameters) * sums[:, source.index]


def _standard(draws: Draws, some: slice) -> np.ndarray:
    """The seen residuals of some draws, without sigma, strata and weights."""
    design = draws.design
    effects = {name: u[some] for name, u in draws.effects.items()}
    e = design.y - linear_predictor(design, draws.values["beta"][some], effects)
    _, sds = design.residual.split([draws.psi[some, k, None] for k in range(draws.psi.shape[1])])
    scale = np.concatenate(np.broadcast_arrays(np.ones(1), *sds[1:]), axis=-1)[..., design.residual.stratum]
    return e * design.residual.root_weights / (scale * draws.values["sigma"][some, None])
