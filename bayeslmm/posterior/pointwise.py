"""The log likelihood of single rows given all parameters and random effects: log p(y_i | y_-i, u, beta, sigma, psi)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.posterior.collapsed import LOG_2PI
from bayeslmm.posterior.effects import residual_parameters
from bayeslmm.posterior.tree import by_level

NUMBERS = 4_000_000  # draws times rows at a time


def row_log_likelihood(design: Design, values: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Log density (N, k) of some rows at N draws, given the draws' random effects and all other rows.

    With P = R^-1 and e = y - offset - X beta - Z u it is N(e_i; e_i - (P e)_i / P_ii, sigma^2 / P_ii); where rows are
    independent, the plain N(y_i; x_i beta + z_i u, sigma^2 R_ii).

    Parameters
    ----------
    values : mapping of name to (N, ...) array
        beta, sigma, u2, ..., and R's parameters, as a posterior has them.
    rows : (k,) int array

    Source: Bürkner, Gabry & Vehtari (2021), equation 12.
    """
    out = np.empty((len(values["sigma"]), len(rows)))
    piece = max(1, NUMBERS // max(len(rows), 1))
    for lo in range(0, len(out), piece):
        part = {name: x[lo : lo + piece] for name, x in values.items()}
        out[lo : lo + piece] = _row_log_likelihood(design, part, rows)
    return out


def _row_log_likelihood(design: Design, values: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    residual, sigma = design.residual, values["sigma"][:, None]
    needed = np.unique(rows)
    if residual.correlated:
        needed = np.flatnonzero(np.isin(residual.block, np.unique(residual.block[rows])))
    at = np.searchsorted(needed, rows)
    levels = by_level(design, {level.name: values[level.name] for level in design.levels})
    e = design.y[needed] - linear_predictor(design.part(needed), values["beta"], levels)
    pulled: np.ndarray | float = 0.0
    precision: np.ndarray | float = 0.0
    coefs = residual.coefficients(residual_parameters(design, values).T)
    for c, term in zip(coefs, residual.terms, strict=True):
        left, right = term.left.tocsr()[needed], term.right.tocsc()[:, needed]
        weight = np.broadcast_to(np.asarray(c, dtype=float), len(e))[:, None]
        pulled = pulled + weight * (left @ (right @ e.T)).T[:, at]
        precision = precision + weight * np.asarray(left.multiply(right.T.tocsr()).sum(axis=1)).ravel()[at]
    return 0.5 * (np.log(precision) - LOG_2PI - pulled**2 / (precision * sigma**2)) - np.log(sigma)
