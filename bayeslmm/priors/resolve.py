"""The priors of a model: which may be given for which parameter, and the printed table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.distributions.prior import Prior, as_prior
from bayeslmm.errors import PriorError, did_you_mean, visible
from bayeslmm.priors.anchors import Anchor, anchor, as_written, spread_of
from bayeslmm.priors.defaults import (
    coefficient_defaults,
    correlation_default,
    correlation_key,
    effect_deviations,
    residual_default,
    residual_deviation,
    shared_deviation,
    total_deviation,
)
from bayeslmm.priors.sd_priors import IndependentSDs, VarianceShares, mean_square, sd_names, tied_mean_square
from bayeslmm.priors.yardstick import Yardstick, gaussian

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
    sigma : Prior or None
        Of the residual standard deviation; with strata, that of the first one. None where there are ``shares``.
    sd : tuple of tuple of Prior
        Per level, one per effect; empty for a level whose covariance is sigma^2 K, entirely known, and where there
        are ``shares``.
    corr : tuple of (Prior or None)
        Per level an LKJ, or None where there is nothing to correlate.
    residual : tuple of Prior
        One per parameter of R, in the order of ``design.residual.parameters``.
    shares : VarianceShares or None
        A prior on the total SD and its split, in the place of ``sigma`` and ``sd``.
    reasons : tuple of PriorRow
        The rows of ``table()``.
    beta_anchor : Anchor or None
        Where the priors of ``beta`` are stated: the prior of coefficient j is that of entry j of W^-1 beta. None as
        they are written.
    effect_anchors : tuple of (Anchor or None)
        The same per level: ``sd`` and ``corr`` are priors of the SDs and correlations of W^-1 u.
    dispersion : tuple of Prior
        One per parameter of the outcome's family, where that is not Gaussian.
    """

    beta: tuple[Prior, ...]
    sigma: Prior | None
    sd: tuple[tuple[Prior, ...], ...]
    corr: tuple[Prior | None, ...]
    residual: tuple[Prior, ...] = ()
    shares: VarianceShares | None = None
    reasons: tuple[PriorRow, ...] = ()
    beta_anchor: Anchor | None = field(default=None, repr=False, compare=False)
    effect_anchors: tuple[Anchor | None, ...] = field(default=(), repr=False, compare=False)
    dispersion: tuple[Prior, ...] = ()

    @property
    def beta_map(self) -> np.ndarray:
        """W (p, p): beta = W times the coefficients whose priors are stated."""
        return np.eye(len(self.beta)) if self.beta_anchor is None else self.beta_anchor.W

    @property
    def effect_maps(self) -> tuple[np.ndarray | None, ...]:
        """Per level W (r, r), with u = W times the effects whose priors are stated; None where they are the same."""
        return tuple(None if one is None else one.W for one in self.effect_anchors) or (None,) * len(self.corr)

    def stated_elsewhere(self, k: int, effect: int) -> bool:
        """Whether the prior of an effect's SD, of level k, is that of another one: at the mean, or of a contrast."""
        return bool(self.place(k, effect))

    def place(self, k: int, effect: int) -> str:
        """Of which other SD the prior of an effect's SD, of level k, is: " at the mean of its predictors", or ""."""
        one = self.effect_anchors[k] if self.effect_anchors else None
        if one is None or not one.moved(effect):
            return ""
        return " of a contrast of its categories" if effect in one.contrasts else " at the mean of its predictors"

    @cached_property
    def sds(self) -> IndependentSDs | VarianceShares:
        """Joint prior of all standard deviations: sigma first, then level by level."""
        if self.shares is not None:
            return self.shares
        own = () if self.sigma is None else (self.sigma,)
        return IndependentSDs(priors=(*own, *(prior for level in self.sd for prior in level)))

    def __repr__(self) -> str:
        rows = [(row.parameter, str(row.prior), f"{row.source}: {row.reason}") for row in self.reasons]
        wide = [max((len(row[k]) for row in rows), default=0) for k in (0, 1)]
        return visible("\n".join(f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c}" for a, b, c in rows))

    def _repr_html_(self) -> str:
        from bayeslmm.support import html

        return html.scrolled(html.table(self.table(), index=False))

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


def resolve_priors(design: Design, given: Mapping[str, Any] | None = None) -> Priors:
    """Put together the given priors and the defaults for the rest.

    Parameters
    ----------
    design : Design
        Of which y, X, coef, levels and residual are looked at.
    given : mapping, optional
        From "beta" (all columns), the name of a column of X or ``"beta[column]"``, "sigma", "sigma_u2"
        (all effects of the level, or a mapping from effect to prior), ``"sigma_u2[effect]"``, "corr_u2", "rho",
        "sigma_ratio" (all strata but the first, or a mapping from stratum to prior) and ``"sigma_ratio[stratum]"``
        to a `Prior`, its text or a PreliZ distribution; for "corr_u2" also the number eta of LKJ.
        The more specific key wins. A prior for rho has to stay where R is positive definite: it is refused, not
        truncated, so that the prior printed is the prior used.
        "sigma_total" and "shares" replace the priors of all SDs but ratios by one on the total SD of y around its mean
        and a ``Dirichlet(a=...)`` on how its square is split (`VarianceShares`): a number or a list, or a mapping from
        "sigma", "sigma_u2", ... to numbers, the rest being 1.

    Returns
    -------
    Priors
        Defaults are weakly informative and scaled by the data: ``Normal(0, 2.5 sd(y) / sd(x))`` for a
        coefficient, ``Normal(mean(y), 2.5 sd(y))`` for the intercept at the mean of the predictors,
        ``HalfStudentT(3, sd(y))`` for standard deviations, divided by sd(x) for a slope's,
        ``LKJ(2)`` for correlations, ``Uniform`` on rho, ``LogNormal(0, 1)`` on ratios of SDs. They are rounded to
        three digits, so that the prior printed is the prior used. Like the intercept, effects of groups are stated at
        the mean of their predictors, and interactions and powers for what they add (`anchors`), so that nothing
        depends on where a column has its zero; those of a factor of three or more categories for orthogonal contrasts
        (`contrasts`), so that nothing depends on its base. A prior that is given is one of the parameter as it is
        written; where it is for a parameter that a default would state elsewhere, all priors of these coefficients, or
        of this level, are stated as written, defaults wide enough for the same. So it is where the effects of a group
        are independent, (x || g): independent is what they are where x is 0.

    Raises
    ------
    PriorError
        A key that is no parameter of the model, or a prior that doesn't suit its parameter.

    Examples
    --------
    >>> from bayeslmm.design.building import build_design
    >>> from bayeslmm.description.hierarchy import Hierarchy
    >>> data = {"y": [1.0, 2, 4, 5], "x": [0, 1, 2, 3], "g": ["a", "a", "b", "b"]}
    >>> design = build_design(Hierarchy.from_formula("y ~ x + (1 | g)"), data)
    >>> resolve_priors(design, {"sigma": "Exponential(lam=1)"}).table()[["parameter", "prior", "source"]]
             parameter                           prior   source
    0  beta[Intercept]        Normal(mu=3, sigma=4.56)  default
    1          beta[x]        Normal(mu=0, sigma=3.54)  default
    2            sigma              Exponential(lam=1)    given
    3         sigma_u2  HalfStudentT(nu=3, sigma=1.83)  default
    """
    wanted = read_given(design, given or {})
    rows: list[PriorRow] = []
    like = gaussian(design)
    settle = settling(wanted, rows)
    beta, where = settle_coefficients(design, wanted, like, settle)
    shares = _settle_shares(design, wanted, settle) if {"sigma_total", "shares"} & set(wanted) else None
    sigma = None if shares else settle("sigma", *residual_deviation(design.residual, like.spread))
    sd, corr, anchors = settle_levels(design, wanted, like, settle, as_given=shares is not None)
    residual = tuple(settle(one.label, *residual_default(one)) for one in design.residual.parameters)
    return Priors(
        beta=beta, sigma=sigma, sd=sd, corr=corr, residual=residual, shares=shares, reasons=tuple(rows),
        beta_anchor=where, effect_anchors=anchors,
    )  # fmt: skip


def settling(wanted: Mapping[str, tuple[Prior, str]], rows: list[PriorRow]) -> Callable[..., Prior]:
    """From a parameter and its default to the prior that it has; each is noted in `rows`."""

    def settle(parameter: str, default: Prior, reason: str, given: str = "yours") -> Prior:
        prior, key = wanted.get(parameter, (default, None))
        if key is not None:
            reason = given if key == parameter else f"{given}, given as {key!r}"
        rows.append(PriorRow(parameter=parameter, prior=prior, source="given" if key else "default", reason=reason))
        return prior

    return settle


def settle_coefficients(
    design: Design, wanted: Mapping[str, Any], like: Yardstick, settle: Callable[..., Prior]
) -> tuple[tuple[Prior, ...], Anchor | None]:
    """Priors of the columns of X, and where they are stated; None as they are written."""
    X, counts = np.asarray(design.counted.X), design.counted.counts
    full = anchor(X, design.terms, counts=counts)
    plain = full.plain or any(full.moved(j) and f"beta[{name}]" in wanted for j, name in enumerate(design.coef))
    stated = as_written(X, counts) if plain else full
    defaults = coefficient_defaults(design.coef, stated, full, like)
    beta = (settle(f"beta[{name}]", *default) for name, default in zip(design.coef, defaults, strict=True))
    return tuple(beta), None if plain else full


def settle_levels(
    design: Design, wanted: Mapping[str, Any], like: Yardstick, settle: Callable[..., Prior], as_given: bool
) -> tuple[tuple[tuple[Prior, ...], ...], tuple[Prior | None, ...], tuple[Anchor | None, ...]]:
    """Per level the priors of its SDs (none where they have shares), of its correlations; where they are stated."""
    sd, corr, anchors = [], [], []
    for k, level in enumerate(design.levels):
        labels = {} if as_given else sd_names(level)
        at, whole, names = _level_anchors(design, k, wanted, as_given)
        anchors.append(None if at.plain else at)
        defaults = effect_deviations(level, at, whole, names, like) if labels else []
        if len(labels) == 1 < level.r:
            defaults = [shared_deviation(level, defaults, like)]
        sd.append(tuple(settle(label, *default) for label, default in zip(labels.values(), defaults, strict=True)))
        corr.append(settle(correlation_key(level), *correlation_default(level, at)) if level.correlated else None)
    return tuple(sd), tuple(corr), tuple(anchors)


def _level_anchors(
    design: Design, k: int, wanted: Mapping[str, Any], as_given: bool
) -> tuple[Anchor, Anchor, tuple[str, ...]]:
    """Where the priors of level k are stated; where they would be, were it not tied to zero; the latter's columns.

    Effects of one grouping that are independent of each other, of one level or several, are tied to where their
    columns are zero: there their default is carried.
    """
    level = design.levels[k]
    names, columns, terms = list(level.effects), [*level.columns.T], list(design.level_terms(k))
    for i, other in enumerate(design.levels):
        if other is level or other.label != level.label or level.correlated:
            continue
        for j, effect in enumerate(other.effects):
            if effect not in names:
                names.append(effect)
                columns.append(other.columns[:, j])
                terms.append((design.level_terms(i)[j][0] + 1000 * (i + 1), design.level_terms(i)[j][1]))
    whole = anchor(np.column_stack(columns), terms, design.level_factors(k), design.counted.y, level.counts)
    own = as_written(level.columns, level.counts)
    given = [name in wanted for name in sd_names(level).values()]
    tied = any(there and whole.moved(j) for j, there in enumerate(given)) or correlation_key(level) in wanted
    if not (level.correlated and level.structure.movable) or as_given or tied:
        return own, whole, tuple(names)
    return (own if whole.plain else whole), whole, tuple(names)


def _settle_shares(design: Design, wanted: Mapping[str, Any], settle: Callable[..., Prior]) -> VarianceShares:
    """Make the prior on the total SD and its split; priors of single SDs beside it are an error."""
    both = [key for parameter, (_, key) in wanted.items() if parameter in _share_names(design)]
    if both:
        raise PriorError(
            f"sigma_total and shares together are the prior of every SD, so that {both[0]!r} has none of its own. "
            "Leave it out, or give single SDs their priors and leave sigma_total and shares out."
        )
    names = _share_names(design)
    squares = np.concatenate(
        [[tied_mean_square(design)], *(mean_square(level) for level in design.levels if level.n_sds)]
    )
    if len(names) < 2:
        raise PriorError(
            "This model has no SD but sigma, so there is nothing to share. Give a prior for sigma instead."
        )
    if not (squares > 0).all():
        raise PriorError(f"The column of {names[int(np.argmin(squares))]} is zero in all rows: it has no share.")
    total = settle("sigma_total", *total_deviation(spread_of(design.counted.y, design.counted.counts)))
    scales = np.sqrt(squares)
    counted = [name if abs(c - 1) < 1e-9 else f"{c:.3g} {name}" for name, c in zip(names, scales, strict=True)]
    split = settle(
        "shares",
        Prior("Dirichlet", a=1),
        f"of {', '.join(counted)}, squared, in sigma_total squared: every split alike",
        given=f"yours: of {', '.join(counted)}, squared, in sigma_total squared",
    )
    a = split.params["a"]
    if isinstance(a, tuple) and len(a) != len(names):
        raise PriorError(f"{split} splits the variance in {len(a)}; there are {len(names)} parts: {', '.join(names)}.")
    each = a if isinstance(a, tuple) else (a,) * len(names)
    return VarianceShares(total=total, concentration=each, scales=tuple(scales.tolist()), names=names)


def _share_names(design: Design) -> tuple[str, ...]:
    """Names of the SDs that have a share: sigma, and those of levels that are not tied to it."""
    return ("sigma", *(name for level in design.levels for name in sd_names(level).values()))


# What is given


def as_priors(design: Design, given: Mapping[str, Any]) -> dict[str, Prior | dict[str, Prior]]:
    """The priors that are given, under the keys under which they are given, as a description file has them.

    Examples
    --------
    >>> from bayeslmm.design.building import build_design
    >>> from bayeslmm.description.hierarchy import Hierarchy
    >>> design = build_design(Hierarchy.from_formula("y ~ (1 | g)"), {"y": [1.0, 2, 4, 5], "g": ["a", "a", "b", "b"]})
    >>> as_priors(design, {"sigma": "HalfNormal(sigma=2)"})
    {'sigma': Prior("HalfNormal", sigma=2)}
    """
    read_given(design, given)  # they are sound
    return priors_as_given(design, given)


def priors_as_given(design: Design, given: Mapping[str, Any]) -> dict[str, Prior | dict[str, Prior]]:
    """The same of priors that are known to be sound, such as those that a model holds.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> priors_as_given(blm.example("cbpp").design, {"beta": "Normal(mu=0, sigma=2)"})
    {'beta': Prior("Normal", mu=0, sigma=2)}
    """
    return {key: _as_given(key, value, design) for key, value in given.items()}


def _as_given(key: str, value: Any, design: Design) -> Prior | dict[str, Prior]:
    if isinstance(value, Mapping):
        if key == "shares":
            return _concentrations(value, design)
        return {member: as_prior(prior) for member, prior in value.items()}
    return _fit(key, value, design)


def read_given(
    design: Design, given: Mapping[str, Any], own: Sequence[str] = ("sigma", "sigma_total", "shares")
) -> dict[str, tuple[Prior, str]]:
    """From parameter to the prior given for it and the key under which it was given.

    `own` are the parameters that the outcome's family has beside those of the mean and the effects.
    """
    if not isinstance(given, Mapping):
        raise PriorError(
            f"Priors come as a mapping from parameter to prior, but {type(given).__name__} came. "
            'Write {"sigma": Prior("HalfNormal", sigma=2)}.'
        )
    classes = {"beta": {name: f"beta[{name}]" for name in design.coef}}  # key -> member -> parameter
    classes |= {f"sigma_{level.name}": sd_names(level) for level in design.levels if level.n_sds}
    of_R = {one.label: one.label for one in design.residual.parameters}
    if ratios := {stratum: f"sigma_ratio[{stratum}]" for stratum in design.residual.strata[1:]}:
        classes["sigma_ratio"] = ratios
    single = {f"beta[{name}]": f"beta[{name}]" for name in design.coef}
    single |= {
        f"sigma_{level.name}[{effect}]": parameter
        for level in design.levels
        for effect, parameter in sd_names(level).items()
    }
    single |= {name: name for name in own} | of_R
    single |= {correlation_key(v): correlation_key(v) for v in design.levels if v.correlated}
    reserved = {*classes, *single, *(f"{kind}_{level.name}" for level in design.levels for kind in ("corr", "sigma"))}
    single |= {name: f"beta[{name}]" for name in design.coef if name not in reserved}

    everyone: dict[str, tuple[Prior, str]] = {}  # what holds for a whole class
    each: dict[str, tuple[Prior, str]] = {}  # what holds for one parameter
    for key, value in given.items():
        if key == "shares" and isinstance(value, Mapping):
            value = _concentrations(value, design)
        if key in classes and isinstance(value, Mapping):
            for member, prior in value.items():
                if member not in classes[key]:
                    names = ", ".join(classes[key])
                    hint = did_you_mean(str(member), classes[key])
                    raise PriorError(f"{key} has no {member!r}.{hint} It has {names}.")
                parameter = classes[key][member]
                each[parameter] = _fit(parameter, prior, design), parameter
        elif key in classes:
            prior = _fit(key, value, design)
            everyone |= dict.fromkeys(classes[key].values(), (prior, key))
        elif key in single:
            each[single[key]] = _fit(single[key], value, design), key
        else:
            raise _unknown(key, design, [*single, *(name for name in classes if name not in single)])
    return everyone | each


def _concentrations(given: Mapping[str, Any], design: Design) -> Prior:
    """Make a Dirichlet of a mapping from SDs to numbers; a level's name stands for all its effects."""
    a = dict.fromkeys(_share_names(design), 1.0)
    for key, value in given.items():
        members = [name for name in a if name == key or name.startswith(f"{key}[")]
        if not members:
            raise PriorError(f"shares has no {key!r}.{did_you_mean(str(key), a)} It has {', '.join(a)}.")
        a |= dict.fromkeys(members, value)
    return Prior("Dirichlet", a=list(a.values()))


def _unknown(key: Any, design: Design, known: list[str]) -> PriorError:
    for level in design.levels:
        if not level.n_sds and str(key).split("[")[0] == f"sigma_{level.name}":
            return PriorError(
                f"{level.label} ({level.name}) has no SD to give a prior: the covariance of its effects is sigma^2 K, "
                f"entirely known. Leave {key!r} out, or describe the level without known=True to have its SD estimated."
            )
        if key == f"corr_{level.name}":
            why = (
                f"its only effect is {level.effects[0]}"
                if len(level.effects) == 1
                else f"its effects are independent, (... || {level.label})"
            )
            return PriorError(f"{level.label} ({level.name}) has no correlations: {why}. Leave {key!r} out.")
    known = sorted(known, key=lambda name: name.startswith(("sigma", "corr_", "rho", "shares")))
    short = [name for name in known if not (name.startswith("beta[") and name[5:-1] in known)]
    return PriorError(
        f"{key!r} is not a parameter of this model.{did_you_mean(str(key), known)} "
        f"Priors can be given for {', '.join(short)}."
    )


def _fit(parameter: str, value: Any, design: Design) -> Prior:
    """Turn what was given into a prior, and see that it suits the parameter."""
    kind = parameter.split("[")[0].split("_")[0]
    level = next((level for level in design.levels if parameter == f"rho_{level.name}"), None)
    if kind == "corr" and isinstance(value, Real) and not isinstance(value, bool):
        value = Prior("LKJ", eta=float(value))
    if kind == "shares" and isinstance(value, Real) and not isinstance(value, bool):
        value = Prior("Dirichlet", a=float(value))
    try:
        prior = as_prior(value)
    except PriorError as error:
        raise PriorError(f"Prior of {parameter}: {error}") from None
    if kind == "corr" and prior.name != "LKJ":
        raise PriorError(f"{parameter} is a matrix of correlations; {prior} is not a prior for it. Write LKJ(eta=2).")
    if (kind == "shares") != (prior.name == "Dirichlet"):
        raise PriorError(
            f"shares split the total variance and have a Dirichlet; {parameter} and {prior} don't go together. "
            f"Write {_instead(kind)}."
        )
    if kind != "corr" and prior.name == "LKJ":
        raise PriorError(
            f"{prior} is a prior for correlations of effects, not for {parameter}. Write {_instead(kind)}."
        )
    if kind == "beta" and prior.name in ("PenalizedComplexity", "InverseGammaVariance"):
        raise PriorError(f"{prior} is a prior for an SD, not for {parameter}. Write {_instead(kind)}.")
    what = "a ratio of standard deviations" if parameter.startswith("sigma_ratio") else "a standard deviation"
    if kind == "sigma" and prior.lower < 0:
        raise PriorError(f"{parameter} is {what}; {prior} allows negative values. Write {_positive(prior)}.")
    if kind == "sigma" and prior.upper <= 0:
        raise PriorError(f"{parameter} is {what}, but {prior} allows no positive value.")
    if level is not None:
        low, what = level.structure.lower(level.r), f"correlation of the effects of {level.label}"
        default = correlation_default(level, as_written(level.columns))[0]
        _within(prior, parameter, (low, 1.0), what, "their covariance", default)
    for own in design.residual.own:
        if own.label == parameter:
            _within(prior, parameter, (own.lower, own.upper), own.reason, "R", residual_default(own)[0])
    return prior


def _within(prior: Prior, name: str, bounds: tuple[float, float], reason: str, matrix: str, default: Prior) -> None:
    """See that a prior for a correlation stays where a matrix is positive definite."""
    lower, upper = bounds
    if prior.lower >= lower and prior.upper <= upper:
        return
    raise PriorError(
        f"{name} is a {reason}, and {matrix} is positive definite for {name} between {lower:.4g} and {upper:.4g} only; "
        f"{prior} goes beyond that. Write {default}, Beta(alpha=2, beta=2) for a positive {name}, or a "
        "TruncatedNormal between these bounds."
    )


def _instead(kind: str) -> str:
    others = {"beta": "Normal(mu=0, sigma=1)", "rho": "Beta(alpha=2, beta=2)", "shares": "Dirichlet(a=1)"}
    return others.get(kind, "HalfStudentT(nu=3, sigma=1)")


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
