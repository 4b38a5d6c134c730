"""The defaults: weakly informative, scaled by the data, each with its reason in words."""

from __future__ import annotations

from math import ceil, floor, hypot, log10
from typing import Any

import numpy as np

from bayeslmm.prior import Prior


def spread_of(x: np.ndarray) -> float:
    """Standard deviation, or 1 where there is none to speak of."""
    sd = float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
    return sd if sd > 0 and np.isfinite(sd) else 1.0


def _short(value: float, like: float | None = None) -> float:
    """Round to three digits; with ``like``, to the place of its third digit."""
    size = abs(value if like is None else like)
    return round(value, 2 - floor(log10(size))) if size > 0 else 0.0


def _is_constant(x: np.ndarray) -> bool:
    return bool(x[0] != 0 and np.ptp(x) == 0)


def _is_indicator(x: np.ndarray) -> bool:
    return bool(np.isin(x, (0.0, 1.0)).all())


def _constant_in(X: np.ndarray) -> np.ndarray:
    """Coefficients c with X c = 1 on constant or indicator columns; zeros where there are none such."""
    none = np.zeros(X.shape[1])
    for j, x in enumerate(X.T):
        if _is_constant(x):
            none[j] = 1 / x[0]
            return none
    if X.size == 0:
        return none
    scale = np.where((norm := np.linalg.norm(X, axis=0)) > 0, norm, 1.0)
    c = np.linalg.lstsq(X / scale, np.ones(len(X)), rcond=None)[0] / scale
    carried = np.abs(c) > 1e-8
    spanned = np.abs(X @ c - 1).max() < 1e-8
    return c if spanned and all(_is_indicator(x) for x in X.T[carried]) else none


def coefficient_defaults(design: Any, sd_y: float) -> list[tuple[Prior, str]]:
    """Default and reason per column of X."""
    X = np.asarray(design.X)
    means, spreads = X.mean(axis=0), [spread_of(x) for x in X.T]
    constant = _constant_in(X)
    mean_y = float(np.mean(design.net_y))
    wide = 2.5 * sd_y
    at_zero = hypot(wide, *(wide / s * m for c, m, s in zip(constant, means, spreads, strict=True) if c == 0))
    moved = " at the mean of the predictors, carried to where they are 0" if at_zero > wide * 1.0005 else ""
    defaults = []
    for name, c, spread in zip(design.coef, constant, spreads, strict=True):
        if c != 0:
            sigma = _short(abs(c) * at_zero)
            prior = Prior("Normal", mu=_short(c * mean_y, like=sigma), sigma=sigma)
            reason = f"mean of y {mean_y:.4g}, give or take 2.5 SDs of y (2.5 x {sd_y:.3g} = {wide:.3g}){moved}"
        else:
            prior = Prior("Normal", mu=0, sigma=_short(wide / spread))
            reason = (
                f"2.5 SDs of y per SD of {name}: 2.5 x {sd_y:.3g} / {spread:.3g} = {wide / spread:.3g}, "
                "in either direction"
            )
        defaults.append((prior, reason))
    return defaults


def _deviation(scale: float, of: str, how: str = "the SD of y,") -> tuple[Prior, str]:
    reason = f"SD of {of}: more likely below {how} {scale:.3g}, than above, with a heavy tail"
    return Prior("HalfStudentT", nu=3, sigma=_short(scale)), reason


def row_variances(residual: Any) -> np.ndarray:
    """Diagonal of R at rho = 0 and ratios 1: 1 / w; a single 1 where R is the identity."""
    if residual.plain:
        return np.ones(1)
    own = 1.0 if residual.matrix is None else np.diagonal(residual.matrix)
    return own * residual.scales(residual.split(residual.neutral)[1]) ** 2


def residual_deviation(residual: Any, sd_y: float) -> tuple[Prior, str]:
    """Default and reason for sigma: the SD of the rows, those of weight 1 and of the first stratum."""
    of = "the rows around their mean"
    if residual.strata:
        of = f"the rows with {residual.residual.by} {residual.strata[0]} around their mean"
    size = float(np.median(np.sqrt(row_variances(residual))))
    if abs(size - 1) < 1e-9:
        return _deviation(sd_y, of)
    how = f"the SD of y over the median row's SD relative to sigma, {sd_y:.3g} / {size:.3g} ="
    return _deviation(sd_y / size, of, how)


def total_deviation(sd_y: float) -> tuple[Prior, str]:
    """Default and reason for the total SD."""
    return _deviation(sd_y, "y around its mean, rows and effects together")


def effect_deviation(level: Any, k: int, sd_y: float) -> tuple[Prior, str]:
    """Default and reason for the standard deviation of effect k of a level."""
    x, effect = level.columns[:, k], level.effects[k]
    groups = f"between the groups of {level.label}"
    if level.root is not None:  # an SD of sigma_u2 sqrt(K_jj): the prior is for that of an average group
        own = float(np.sqrt(np.mean(np.einsum("ij,ij->i", level.root, level.root)[: level.m - level.relatives])))
        if not np.isclose(own, 1.0, rtol=0.05):
            sd_y = sd_y / own
            groups += f" (divided by the root {own:.3g} of their covariance's mean diagonal)"
    if _is_constant(x):
        return _deviation(sd_y / abs(float(x[0])), f"the {effect} {groups}")
    if _is_indicator(x):
        return _deviation(sd_y, f"the effect of {effect} {groups}")
    spread = spread_of(x)
    how = f"the SD of y per SD of {effect}, {sd_y:.3g} / {spread:.3g} ="
    return _deviation(sd_y / spread, f"the slope on {effect} {groups}", how)


def residual_default(parameter: Any) -> tuple[Prior, str]:
    """Default and reason for a parameter of R: rho alike wherever R is positive definite, ratios of SDs around 1."""
    if parameter.name == "rho":
        digits = 10.0 ** (2 - floor(log10(abs(parameter.lower))))
        lower = ceil(parameter.lower * digits) / digits  # shortened towards zero: R stays positive definite
        prior = Prior("Uniform", lower=lower, upper=parameter.upper)
        return prior, f"{parameter.reason}: every value at which R is positive definite alike"
    prior = Prior("LogNormal", mu=0, sigma=1)
    return prior, f"{parameter.reason}: most likely within a factor of 7 (95 %), whichever of the two is larger"
