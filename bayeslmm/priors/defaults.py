"""The defaults: weakly informative, scaled by the data, each with its reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

import numpy as np

from bayeslmm.covariances.residuals.structure import ResidualParameter
from bayeslmm.design.counted import mean, median
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.design.wide import values_of
from bayeslmm.distributions.prior import Prior
from bayeslmm.priors.anchors import Anchor, spread_of
from bayeslmm.priors.contrasts import is_constant
from bayeslmm.priors.yardstick import Yardstick


def _short(value: float, like: float | None = None) -> float:
    """Round to three digits; with ``like``, to the place of its third digit."""
    size = abs(value if like is None else like)
    return round(value, 2 - floor(log10(size))) if size > 0 else 0.0


def coefficient_defaults(coef: Sequence[str], stated: Anchor, full: Anchor, like: Yardstick) -> list[tuple[Prior, str]]:
    """Default and reason per column of X.

    Parameters
    ----------
    stated : Anchor
        Where these priors are stated.
    full : Anchor
        Where they would be, were no prior given: it says how wide a coefficient is where it is stated as written.
    """
    wide = 2.5 * like.spread
    constant = full.constant
    scales = np.where(constant != 0, np.abs(constant) * wide, wide / full.spreads)
    carried = full.carried(scales)
    defaults = []
    for j, name in enumerate(coef):
        moved = full.moved(j)
        here = moved and stated.moved(j)
        scale = scales[j] if here else carried[j]
        where = _where(coef, full, j) if moved else ""
        if constant[j] != 0:
            sigma = _short(scale)
            prior = Prior("Normal", mu=_short(constant[j] * like.center, like=sigma), sigma=sigma)
            said = f"{where}" if here else f"{where}, carried to where they are 0" if moved else ""
            reason = (
                f"{like.what} {like.center:.4g}, give or take 2.5 {like.many} "
                f"(2.5 x {like.spread:.3g} = {wide:.3g}){said}"
            )
        else:
            prior = Prior("Normal", mu=0, sigma=_short(scale))
            spread = full.spreads[j]
            adds = " beyond the terms in it" if np.count_nonzero(full.W[:, j][constant == 0]) > 1 else ""
            said = f"{where}" if here else f"{where}, carried to where they are 0" if moved else ""
            reason = (
                f"2.5 {like.many} per SD of {name}{adds}: "
                f"2.5 x {like.spread:.3g} / {spread:.3g} = {wide / spread:.3g}, in either direction{said}"
            )
        defaults.append((prior, reason))
    return defaults


def _where(names: Sequence[str], full: Anchor, j: int) -> str:
    """Say where a coefficient is stated: " at the mean of x"."""
    others = [names[k] for k in full.others(j)]
    named = ", ".join(others) if len(others) < 4 else "the predictors"
    return f" at the mean of {named}"


def _deviation(scale: float, of: str, how: str = "the SD of y,") -> tuple[Prior, str]:
    reason = f"SD of {of}: more likely below {how} {scale:.3g}, than above, with a heavy tail"
    return Prior("HalfStudentT", nu=3, sigma=_short(scale)), reason


def row_variances(residual: ResidualDesign) -> np.ndarray:
    """Diagonal of R at its neutral parameters: 1 / w; a single 1 where R is the identity."""
    if residual.plain:
        return np.ones(1)
    return residual.diagonal(residual.neutral)


def mean_row_variance(residual: ResidualDesign) -> float:
    """Mean over the rows of the diagonal of R at its neutral parameters."""
    own = row_variances(residual)
    return float(mean(own, residual.counts)) if len(own) > 1 else float(own[0])


def residual_deviation(residual: ResidualDesign, sd_y: float) -> tuple[Prior, str]:
    """Default and reason for sigma: the SD of the rows, those of weight 1 and of the first stratum."""
    of = "the rows around their mean"
    if residual.strata:
        of = f"the rows with {residual.residual.by} {residual.strata[0]} around their mean"
    own = np.sqrt(row_variances(residual))
    size = median(own, residual.counts) if len(own) > 1 else float(own[0])
    if abs(size - 1) < 1e-9:
        return _deviation(sd_y, of)
    how = f"the SD of y over the median row's SD relative to sigma, {sd_y:.3g} / {size:.3g} ="
    return _deviation(sd_y / size, of, how)


def total_deviation(sd_y: float) -> tuple[Prior, str]:
    """Default and reason for the total SD."""
    return _deviation(sd_y, "y around its mean, rows and effects together")


def effect_deviations(
    level: LevelDesign, stated: Anchor, full: Anchor, names: Sequence[str], like: Yardstick
) -> list[tuple[Prior, str]]:
    """Default and reason for the SD of each effect of a level.

    Parameters
    ----------
    stated : Anchor
        Where these priors are stated, of the level's own columns.
    full : Anchor
        Where they would be stated if the model were not tied to zero, of the columns `names`, the level's own first.
    """
    groups, unit, sd_y = f"between the groups of {level.label}", like.one, like.spread
    if level.related:  # an SD of sigma_u2 sqrt(K_jj): the prior is for that of an average group
        own = float(np.sqrt(np.mean(level.variances[: level.m - level.relatives])))
        if not np.isclose(own, 1.0, rtol=0.05):
            sd_y = sd_y / own
            groups += f" (divided by the root {own:.3g} of their covariance's mean diagonal)"
    sizes = np.array([_size(full, j) for j in range(len(names))])
    carried = full.carried(sd_y / sizes)
    out = []
    for j, effect in enumerate(level.effects):
        moved, size = full.moved(j), float(sizes[j])
        here = moved and stated.moved(j)
        where = ""
        if moved:
            where = _where(names, full, j) + ("" if here else ", carried to where they are 0")
        scale = float(carried[j]) if moved and not here else sd_y / size
        if j in full.contrasts and (here or not moved):
            number, of = full.contrasts[j]
            factor = effect.split("[")[0]
            what = (
                f"contrast {number} of {of} of the categories of {factor} {groups}, orthogonal ones, ordered by how "
                f"far their means of y lie from the mean, so that none is the base"
            )
            how = f"{unit},"
        elif full.constant[j] != 0 and is_constant(level.columns[:, j]):
            what, how = f"the {effect} {groups}{where}", f"{unit},"
        elif abs(size - 1) < 1e-12:
            what, how = f"the effect of {effect} {groups}{where}", f"{unit},"
        else:
            what = f"the slope on {effect} {groups}{where}"
            how = f"{unit} per SD of {effect}, {sd_y:.3g} / {size:.3g} ="
        if moved and not here:
            how = f"what that makes of {unit},"
        out.append(_deviation(scale, what, how))
    return out


def shared_deviation(level: LevelDesign, each: list[tuple[Prior, str]], like: Yardstick) -> tuple[Prior, str]:
    """Default and reason for the one SD of all effects: the middle of what each would have."""
    scale = float(np.median([prior.params["sigma"] for prior, _ in each]))
    return _deviation(scale, f"each of the {level.r} effects between the groups of {level.label}", f"{like.one},")


def correlation_key(level: LevelDesign) -> str:
    """The name under which a prior of a level's correlations is given."""
    return f"{'corr' if level.structure.paired else 'rho'}_{level.name}"


def correlation_default(level: LevelDesign, stated: Anchor) -> tuple[Prior, str]:
    """Default and reason for a level's correlations."""
    if level.structure.paired:
        where = "" if stated.plain else ", where their SDs are stated"
        reason = (
            f"correlations of {', '.join(level.effects)} between the groups of {level.label}{where}: mild preference "
            "for small ones"
        )
        return Prior("LKJ", eta=2), reason
    lower = _inside(level.structure.lower(level.r))
    reason = f"correlation of the effects of {level.label}: every value at which their covariance is one alike"
    return Prior("Uniform", lower=lower, upper=1), reason


def _inside(lower: float) -> float:
    """A number shortened to three digits towards zero, so that a matrix stays positive definite."""
    digits = 10.0 ** (2 - floor(log10(abs(lower or 1.0))))
    return ceil(lower * digits) / digits


def _size(full: Anchor, j: int) -> float:
    """What an effect's column stands for: its value, the distance of its two values, or its SD over the rows."""
    x = values_of(full.columns, j)
    if j in full.contrasts:
        return 1.0
    if full.constant[j] != 0 and is_constant(x):
        return abs(float(x[0]))
    if full.constant[j] != 0:
        return 1.0
    low, high = float(x.min()), float(x.max())
    if high > low and bool(((x - low < 1e-9 * (high - low)) | (high - x < 1e-9 * (high - low))).all()):
        return high - low
    return spread_of(x, full.counts)


def residual_default(parameter: ResidualParameter) -> tuple[Prior, str]:
    """Default and reason for a parameter of R: alike between two bounds, ratios of SDs around 1."""
    if np.isfinite(parameter.upper):
        prior = Prior("Uniform", lower=_inside(parameter.lower), upper=parameter.upper)
        return prior, f"{parameter.reason}: every value at which R is positive definite alike"
    prior = Prior("LogNormal", mu=0, sigma=1)
    return prior, f"{parameter.reason}: most likely within a factor of 7 (95 %), whichever of the two is larger"
