"""Laplace's approximation of the integral over all effects, and its gradient.

    L = l(eta) - v'v / 2 - log|H| / 2,   eta = offset + X beta + Z Lambda v,   H = I + Lambda'Z'WZ Lambda,

at the mode of v, with W = -l''. Effects move in the form v = Lambda's, which is exact for any Lambda, zero included.

Source: Breslow & Clayton (1993) for the approximation; the gradient is that of Kristensen et al. (2016), written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.families.family import Family, Jet, Outcome
from bayeslmm.integration.rows import Rows

STEPS = 200  # of Newton's method; a handful is the rule
EXACT = 1e-13  # what a further step may still gain of the log density, relative to its size
NEAR = 1e-2  # what it may still gain where the curvature itself, however rows bend, is that of a maximum


@dataclass(frozen=True, kw_only=True, eq=False)
class Mode:
    """Where the joint density of y and the effects is highest, at some parameters.

    Attributes
    ----------
    s : (q,) array
        Z'r at the mode, r = l'(eta): v = Lambda's, b = Lambda v.
    b : (q,) array
        Effects on the kernels' basis.
    eta : (n,) array
    density : float
        l(eta) - v'v / 2.
    found : bool
        Whether Newton's method arrived.
    """

    s: np.ndarray
    b: np.ndarray
    eta: np.ndarray
    density: float
    found: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Slopes:
    """A gradient: by the coefficients of the orthogonal X, the kernels' lambda (flat), the dispersion."""

    by_gamma: np.ndarray
    by_lambda: np.ndarray
    by_psi: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Point(Slopes):
    """The approximation at one point.

    Attributes
    ----------
    value : float
        The log-likelihood; -inf where H is no positive definite matrix.
    by_gamma, by_lambda, by_psi : arrays
        Its gradient by the coefficients of the orthogonal X, by the kernels' lambda (flat), by the dispersion.
    mode : Mode
    variances : flat array
        Blocks of Lambda H^-1 Lambda', as in `Adjoint`.
    pull : (n,) array
        X' pull is the gradient by beta.
    """

    value: float
    mode: Mode
    variances: np.ndarray
    factor: Any
    pull: np.ndarray


def find_mode(
    rows: Rows, family: Family, outcome: Outcome, fixed: np.ndarray, lam: np.ndarray, psi: np.ndarray, s: np.ndarray
) -> tuple[Mode, Jet]:
    """(the mode, the rows' jets there) by Newton's method on the effects, with steps that are halved until they gain.

    Parameters
    ----------
    fixed : (n,) array
        Offset + X beta.
    s : (q,) array
        Where to begin: v = Lambda's.
    """
    v = rows.transposed(lam, s)
    b = rows.times(lam, v)
    spread = rows.spread(b)
    jet, density = _at(family, outcome, fixed + spread, psi, v)
    jet_at_zero, at_zero = _at(family, outcome, fixed, psi, np.zeros_like(v))
    if not density >= at_zero:  # effects of other parameters, far from where they are now
        s, v, b, spread = np.zeros_like(s), np.zeros_like(v), np.zeros_like(b), np.zeros_like(spread)
        jet, density = jet_at_zero, at_zero
    found, as_it_is, tried = False, family.log_concave, family.log_concave
    for _ in range(STEPS):
        weights = -jet.second if as_it_is else np.maximum(-jet.second, 1e-3 * np.abs(jet.second))
        right = rows.gather(weights * spread + jet.first)
        logdet, new_b = rows.solve(weights, lam, right)
        if as_it_is and not family.log_concave:
            tried = True
            if not np.isfinite(logdet):  # no maximum's curvature here
                as_it_is = False
                continue
        new_spread = rows.spread(new_b)
        new_s = rows.gather(weights * (spread - new_spread) + jet.first)
        new_v = rows.transposed(lam, new_s)
        slope = float((new_v - v) @ (rows.transposed(lam, rows.gather(jet.first)) - v))
        if not np.isfinite(slope):
            break
        share = 1.0
        while True:
            trial_v = v + share * (new_v - v)
            trial_spread = spread + share * (new_spread - spread)
            trial_jet, trial = _at(family, outcome, fixed + trial_spread, psi, trial_v)
            if trial >= density + 1e-4 * share * slope - EXACT * (1 + abs(density)) or share < 1e-8:
                break
            share /= 2
        if share < 1e-8:
            break
        s, b = s + share * (new_s - s), b + share * (new_b - b)
        v, spread, jet, density = trial_v, trial_spread, trial_jet, trial
        if slope < EXACT * (1 + abs(density)) and share == 1.0 and tried:
            found = slope > -1e3 * EXACT * (1 + abs(density))
            break
        as_it_is = as_it_is or slope < NEAR
    return Mode(s=s, b=b, eta=fixed + spread, density=density, found=found), jet


def _at(family: Family, outcome: Outcome, eta: np.ndarray, psi: np.ndarray, v: np.ndarray) -> tuple[Jet, float]:
    """(the rows' jets, the joint log density) at some effects."""
    with np.errstate(over="ignore", invalid="ignore"):
        jet = family.jet(outcome, eta, psi)
        value = float(jet.value.sum() - 0.5 * v @ v)
    return jet, value if np.isfinite(value) else -np.inf


def laplace(
    rows: Rows, family: Family, outcome: Outcome, fixed: np.ndarray, lam: np.ndarray, psi: np.ndarray, s: np.ndarray
) -> Point:
    """The approximation and its gradient; `fixed` and `s` as in `find_mode`."""
    mode, jet = find_mode(rows, family, outcome, fixed, lam, psi, s)
    by_psi = family.dispersion(outcome, mode.eta, psi)
    nothing = np.zeros_like(mode.b)
    factor = rows.factorise(-jet.second, lam, nothing)
    value = mode.density - 0.5 * factor.logdet
    if not np.isfinite(value):
        value = -np.inf
    down = factor.product_adjoint(1.0, np.zeros((1, 1)))
    h = rows.by_row(down)
    c = 0.5 * h * jet.third
    turned = rows.solve(-jet.second, lam, rows.gather(c))[1]  # Lambda a
    moved = rows.spread(turned)
    e = c + jet.second * moved
    pull = jet.first + e
    s_mode, s_e = rows.gather(jet.first), rows.gather(e)
    by_lambda = -0.5 * down.adjoint.gradient
    for level, (at, span) in zip(rows.design.levels, rows.slices, strict=True):
        own, other = s_mode[at].reshape(level.m, level.r), s_e[at].reshape(level.m, level.r)
        F = lam[span].reshape(level.r, level.r)
        by_lambda[span] += ((own.T @ own + other.T @ own + own.T @ other) @ F).ravel()
    slopes = by_psi.value.sum(axis=-1) + 0.5 * by_psi.second @ h + by_psi.first @ moved
    return Point(
        value=value, by_gamma=rows.X.T @ pull, by_lambda=by_lambda, by_psi=slopes, mode=mode,
        variances=down.adjoint.variances, factor=factor, pull=pull,
    )  # fmt: skip
