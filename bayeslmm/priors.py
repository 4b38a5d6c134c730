"""The priors of a model: which may be given for which parameter, and the printed, data-scaled defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, hypot, log10
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.errors import PriorError, did_you_mean
from bayeslmm.prior import Prior, as_prior

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Prior", "PriorRow", "Priors", "as_prior", "resolve_priors"]


@dataclass(frozen=True, kw_only=True)
class PriorRow:
    """One row of the printed table: a parameter, its prior, where it comes from ("default", "given"), why."""

    parameter: str
    prior: Prior
    source: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Priors:
    """The prior of every parameter of a model.

    Attributes
    ----------
    beta : tuple of Prior
        One per column of X.
    sigma : Prior
        Of the residual standard deviation.
    sd : tuple of tuple of Prior
        Per level, one per effect.
    corr : tuple of (Prior or None)
        Per level an LKJ, or None where there is nothing to correlate.
    reasons : tuple of PriorRow
        The rows of `table`.
    """

    beta: tuple[Prior, ...]
    sigma: Prior
    sd: tuple[tuple[Prior, ...], ...]
    corr: tuple[Prior | None, ...]
    reasons: tuple[PriorRow, ...] = ()

    def __repr__(self) -> str:
        rows = [(row.parameter, str(row.prior), f"{row.source}: {row.reason}") for row in self.reasons]
        wide = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
        return "\n".join(f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c}" for a, b, c in rows)

    def _repr_html_(self) -> str:
        import pandas as pd

        with pd.option_context("display.max_colwidth", None):
            return self.table().to_html()

    def table(self) -> pd.DataFrame:
        """Return the priors with their reasons, one row per parameter, numbers in the units of y.

        Examples
        --------
        >>> row = PriorRow(parameter="sigma", prior=Prior("HalfNormal", sigma=2), source="given", reason="")
        >>> priors = Priors(beta=(), sigma=row.prior, sd=(), corr=(), reasons=(row,))
        >>> priors.table()["prior"].tolist()
        ['HalfNormal(sigma=2)']
        """
        import pandas as pd

        rows = [(row.parameter, str(row.prior), row.source, row.reason) for row in self.reasons]
        return pd.DataFrame(rows, columns=["parameter", "prior", "source", "reason"])


def resolve_priors(design: Any, given: Mapping[str, Any] | None = None) -> Priors:
    """Put together the given priors and the defaults for the rest.

    Parameters
    ----------
    design : Design
        Of which y, X, coef and levels are looked at.
    given : mapping, optional
        From "beta" (all columns), the name of a column of X or ``"beta[column]"``, "sigma", "sigma_u2"
        (all effects of the level, or a mapping from effect to prior), ``"sigma_u2[effect]"`` and "corr_u2"
        to a `Prior`, its text or a PreliZ distribution; for "corr_u2" also the number eta of LKJ.
        The more specific key wins.

    Returns
    -------
    Priors
        Defaults are weakly informative and scaled by the data: ``Normal(0, 2.5 sd(y) / sd(x))`` for a
        coefficient, ``Normal(mean(y), ...)`` for the intercept, as wide as 2.5 sd(y) at the mean of the
        predictors, ``HalfStudentT(3, sd(y))`` for standard deviations, divided by sd(x) for a slope's,
        ``LKJ(2)`` for correlations. They are rounded to three digits, so that the prior printed is the
        prior used.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> y, x = np.array([1.0, 2.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0, 3.0])
    >>> design = SimpleNamespace(y=y, X=np.column_stack([np.ones(4), x]), coef=("Intercept", "x"), levels=())
    >>> resolve_priors(design, {"sigma": "Exponential(lam=1)"}).table()[["parameter", "prior", "source"]]
             parameter                 prior   source
    0  beta[Intercept]     Normal(mu=3, sigma=7)  default
    1          beta[x]  Normal(mu=0, sigma=3.54)  default
    2            sigma        Exponential(lam=1)    given
    """
    wanted = _read(design, given or {})
    sd_y = _spread(design.y)
    rows: list[PriorRow] = []

    def settle(parameter: str, default: Prior, reason: str) -> Prior:
        prior, key = wanted.get(parameter, (default, None))
        if key is not None:
            reason = "yours" if key == parameter else f"yours, given as {key!r}"
        rows.append(PriorRow(parameter=parameter, prior=prior, source="given" if key else "default", reason=reason))
        return prior

    beta = tuple(
        settle(f"beta[{name}]", *default)
        for name, default in zip(design.coef, _coefficients(design, sd_y), strict=True)
    )
    sigma = settle("sigma", *_deviation(sd_y, "the rows around their mean"))
    sd, corr = [], []
    for level in design.levels:
        labels = _sd_labels(level)
        sd.append(
            tuple(settle(labels[effect], *_effect_deviation(level, k, sd_y)) for k, effect in enumerate(level.effects))
        )
        corr.append(
            settle(
                f"corr_{level.name}",
                Prior("LKJ", eta=2),
                f"correlations of {', '.join(level.effects)} between the groups of {level.label}: "
                "mild preference for small ones",
            )
            if level.correlated
            else None
        )
    return Priors(beta=beta, sigma=sigma, sd=tuple(sd), corr=tuple(corr), reasons=tuple(rows))


# What is given


def _sd_labels(level: Any) -> dict[str, str]:
    """Effect to the name of its standard deviation: sigma_u2, or sigma_u2[Days] where there are several."""
    name = f"sigma_{level.name}"
    return {e: name if len(level.effects) == 1 else f"{name}[{e}]" for e in level.effects}


def _read(design: Any, given: Mapping[str, Any]) -> dict[str, tuple[Prior, str]]:
    """From parameter to the prior given for it and the key under which it was given."""
    if not isinstance(given, Mapping):
        raise PriorError(
            f"Priors come as a mapping from parameter to prior, but {type(given).__name__} came. "
            'Write {"sigma": Prior("HalfNormal", sigma=2)}.'
        )
    classes = {"beta": {name: f"beta[{name}]" for name in design.coef}}  # key -> member -> parameter
    classes |= {f"sigma_{level.name}": _sd_labels(level) for level in design.levels}
    single = {f"beta[{name}]": f"beta[{name}]" for name in design.coef}
    single |= {
        f"sigma_{level.name}[{effect}]": parameter
        for level in design.levels
        for effect, parameter in _sd_labels(level).items()
    }
    single |= {"sigma": "sigma"} | {f"corr_{v.name}": f"corr_{v.name}" for v in design.levels if v.correlated}
    reserved = {*classes, *single, *(f"corr_{level.name}" for level in design.levels)}
    single |= {name: f"beta[{name}]" for name in design.coef if name not in reserved}

    everyone: dict[str, tuple[Prior, str]] = {}  # what holds for a whole class
    each: dict[str, tuple[Prior, str]] = {}  # what holds for one parameter
    for key, value in given.items():
        if key in classes and isinstance(value, Mapping):
            for member, prior in value.items():
                if member not in classes[key]:
                    names = ", ".join(classes[key])
                    hint = did_you_mean(str(member), classes[key])
                    raise PriorError(f"{key} has no {member!r}.{hint} It has {names}.")
                parameter = classes[key][member]
                each[parameter] = _fit(parameter, prior), parameter
        elif key in classes:
            prior = _fit(key, value)
            everyone |= dict.fromkeys(classes[key].values(), (prior, key))
        elif key in single:
            each[single[key]] = _fit(single[key], value), key
        else:
            raise _unknown(key, design, [*single, *(name for name in classes if name not in single)])
    return everyone | each


def _unknown(key: Any, design: Any, known: list[str]) -> PriorError:
    for level in design.levels:
        if key == f"corr_{level.name}":
            why = (
                f"its only effect is {level.effects[0]}"
                if len(level.effects) == 1
                else f"its effects are independent, (... || {level.label})"
            )
            return PriorError(f"{level.label} ({level.name}) has no correlations: {why}. Leave {key!r} out.")
    known = sorted(known, key=lambda name: name.startswith(("sigma", "corr_")))
    short = [name for name in known if not (name.startswith("beta[") and name[5:-1] in known)]
    return PriorError(
        f"{key!r} is not a parameter of this model.{did_you_mean(str(key), known)} "
        f"Priors can be given for {', '.join(short)}."
    )


def _fit(parameter: str, value: Any) -> Prior:
    """Turn what was given into a prior, and see that it suits the parameter."""
    kind = parameter.split("[")[0].split("_")[0]
    if kind == "corr" and isinstance(value, Real) and not isinstance(value, bool):
        value = Prior("LKJ", eta=float(value))
    try:
        prior = as_prior(value)
    except PriorError as error:
        raise PriorError(f"Prior of {parameter}: {error}") from None
    if kind == "corr" and prior.name != "LKJ":
        raise PriorError(f"{parameter} is a matrix of correlations; {prior} is not a prior for it. Write LKJ(eta=2).")
    if kind != "corr" and prior.name == "LKJ":
        raise PriorError(f"{prior} is a prior for correlations, not for {parameter}. Write {_instead(kind)}.")
    if kind == "beta" and prior.name in ("PenalizedComplexity", "InverseGammaVariance"):
        raise PriorError(f"{prior} is a prior for an SD, not for {parameter}. Write {_instead(kind)}.")
    if kind == "sigma" and prior.lower < 0:
        raise PriorError(
            f"{parameter} is a standard deviation; {prior} allows negative values. Write {_positive(prior)}."
        )
    if kind == "sigma" and prior.upper <= 0:
        raise PriorError(f"{parameter} is a standard deviation, but {prior} allows no positive value.")
    return prior


def _instead(kind: str) -> str:
    return "Normal(mu=0, sigma=1)" if kind == "beta" else "HalfStudentT(nu=3, sigma=1)"


def _positive(prior: Prior) -> Prior:
    """Return the prior on positive values that was probably meant."""
    p = prior.params
    if prior.name == "Normal" and p["mu"] != 0:
        return Prior("TruncatedNormal", mu=p["mu"], sigma=p["sigma"], lower=0)
    if prior.name in ("Uniform", "TruncatedNormal") and prior.upper > 0:
        return Prior(prior.name, **(p | {"lower": 0}))
    if prior.name == "StudentT":
        return Prior("HalfStudentT", nu=p["nu"], sigma=p["sigma"])
    if prior.name == "Cauchy":
        return Prior("HalfCauchy", beta=p["beta"])
    if prior.name == "Laplace":
        return Prior("Exponential", scale=p["b"])
    if prior.name == "Flat":
        return Prior("HalfFlat")
    return Prior("HalfNormal", sigma=p.get("sigma", p.get("s", 1.0)))


# Defaults


def _spread(x: np.ndarray) -> float:
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


def _coefficients(design: Any, sd_y: float) -> list[tuple[Prior, str]]:
    """Default and reason per column of X."""
    X = np.asarray(design.X)
    means, spreads = X.mean(axis=0), [_spread(x) for x in X.T]
    constant = _constant_in(X)
    mean_y = float(np.mean(design.y))
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


def _effect_deviation(level: Any, k: int, sd_y: float) -> tuple[Prior, str]:
    """Default and reason for the standard deviation of effect k of a level."""
    x, effect = level.columns[:, k], level.effects[k]
    groups = f"between the groups of {level.label}"
    if _is_constant(x):
        return _deviation(sd_y / abs(float(x[0])), f"the {effect} {groups}")
    if _is_indicator(x):
        return _deviation(sd_y, f"the effect of {effect} {groups}")
    spread = _spread(x)
    how = f"the SD of y per SD of {effect}, {sd_y:.3g} / {spread:.3g} ="
    return _deviation(sd_y / spread, f"the slope on {effect} {groups}", how)
