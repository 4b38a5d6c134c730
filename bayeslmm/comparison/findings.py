"""What a comparison shows, in sentences: each tied to a computed fact, and said only when it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.design.parameters import level_names
from bayeslmm.posterior.trust import divergent, judge
from bayeslmm.support import html
from bayeslmm.support.text import fixed, number

if TYPE_CHECKING:
    from bayeslmm.comparison.comparison import Comparison
    from bayeslmm.design.level_design import LevelDesign

FEW_GROUPS = 5
MOVED = 0.2  # posterior SDs
SKEWED = 0.5  # standardised third moment
VISIBLE = 0.1  # relative difference of standard errors that is worth a sentence


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a comparison shows: its topic, and a paragraph."""

    topic: str
    text: str


def findings(comparison: Comparison) -> tuple[Finding, ...]:
    """Everything there is to say of a comparison; topics without a fact are left out."""
    topics = {
        "Trust": _trust,
        "Divergences": _divergences,
        "Agreement": _agreement,
        "Efficiency": _efficiency,
        "Not told apart": _flat,
        "On the boundary": _boundary,
        "Residuals": _residuals,
        "Few groups": _few_groups,
        "ML, REML and the posterior": _centres,
        "Fixed effects": _fixed_effects,
    }
    found = ((topic, " ".join(said(comparison))) for topic, said in topics.items())
    return tuple(Finding(topic=topic, text=text) for topic, text in found if text)


# Numbers


def percent(p: float) -> str:
    """Write a probability as a percentage that never claims certainty.

    Examples
    --------
    >>> percent(0.734), percent(0.9999), percent(0.0)
    ('73 %', 'more than 99 %', 'less than 1 %')
    """
    if p < 0.01:
        return "less than 1 %"
    return "more than 99 %" if p > 0.99 else f"{100 * p:.0f} %"


def listed(names) -> str:
    """Join names: "a", "a and b", "a, b and c"."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def paragraphs(found: tuple[Finding, ...]) -> str:
    """Findings as HTML paragraphs, escaped."""
    return "".join(html.paragraph(f.text, f"{f.topic}.") for f in found)


# Sampling


def _trust(c: Comparison) -> Iterator[str]:
    bad = [v for v in c.variants if not c.judgements[v].trusted]
    for variant in bad:
        yield f"The {variant} posterior cannot be trusted yet: {c.judgements[variant].text}."
    if bad and len(bad) < len(c.variants):
        yield f"The {c.best} posterior can, and is the one quoted below."
    elif bad:
        yield "Take more draws before quoting any number of it."
    for variant in c.variants:
        if int(c.posteriors[variant].attrs.get("modes", 1)) > 1:
            yield str(c.posteriors[variant].attrs.get("note", ""))


def _divergences(c: Comparison) -> Iterator[str]:
    for variant in c.variants:
        at = divergent(c.posteriors[variant])
        if at is None or not at.any():
            continue
        times = "1 draw" if at.sum() == 1 else f"{at.sum()} draws"
        yield (
            f"In the {variant} model {times} of {at.size} diverged: "
            "there the sampler could not follow the posterior, and may have left out a part of it."
        )
        neck = funnel_neck(c, variant)
        if neck is None:
            continue
        name, level, shift = neck
        where = f"{name} is small: there its logarithm lies {-shift:.1f} posterior SDs below its mean"
        if variant == "joint":
            yield (
                f"They gather where {where}. That is the narrow end of the funnel of {level.name} "
                f"({level.label}): "
                f"when {name} is near zero, so must every {level.name} be. "
                f"Use the marginal model, which has no funnel, or sample {level.name} non-centred "
                f"(centered=False)."
            )
        else:
            yield f"They gather where {where}."


def funnel_neck(c: Comparison, variant: str) -> tuple[str, LevelDesign, float] | None:
    """The SD that is smallest at the divergences, its level, and by how many posterior SDs of its logarithm.

    None unless it is clear: five divergences or more, half an SD or more, and 2.5 standard errors or more.
    """
    at = divergent(c.posteriors[variant])
    if at is None or at.sum() < 5 or at.all():
        return None
    shifts = []
    for level in c.model.design.levels:
        for name in level.sd_labels:
            x = np.log(np.maximum(c.values(variant, name), np.finfo(float).tiny))
            if np.ptp(x) > 0:
                shift = (x[at.ravel()].mean() - x[~at.ravel()].mean()) / x.std()
                shifts.append((float(shift), name, level))
    if not shifts:
        return None
    shift, name, level = min(shifts, key=lambda s: s[0])
    clear = shift < -0.5 and shift * np.sqrt(at.sum()) < -2.5
    return (name, level, shift) if clear else None


def _agreement(c: Comparison) -> Iterator[str]:
    held = c.agreement
    if held is None or held.size == 0:
        return
    z, parameter, measure = held.largest
    what = {"mean": "mean", "sd": "SD"}.get(measure, f"{measure} quantile")
    gap = (
        f"{z:.1f} Monte Carlo errors ({what} of {parameter}, the largest of {held.size} differences); chance alone "
        f"gives about {held.chance(0.5):.1f}, and more than {held.chance(0.999):.1f} once in a thousand times"
    )
    alone = {name: judge(tree).trusted for name, tree in c.posteriors.items()}
    if all(alone.values()) and held.agree:
        yield (
            f"Joint and marginal agree: their means, SDs and 5 % and 95 % quantiles differ by at most {gap}. "
            "They are one posterior, with the random effects kept or integrated out."
        )
    elif all(alone.values()):
        missed = held.missed(lambda name, x: _of(c, name, x))
        yield (
            f"Joint and marginal do not agree: they differ by {gap}. They are one posterior, and NUTS has lost "
            f"a part of it: {listed(missed)}. The marginal is the one to quote."
        )
    elif any(alone.values()):
        yield f"Joint and marginal differ by {gap}. With one posterior not to be trusted, that settles little."


def _efficiency(c: Comparison) -> Iterator[str]:
    d = c.diagnostics
    if len(c.variants) < 2 or not d["trusted"].all():
        return
    said = [
        _ratio(d[column], how)
        for column, how in (("min_ess_per_second_sampling", "in sampling"), ("min_ess_per_second", "with compilation"))
        if np.isfinite(d[column]).all() and d[column].min() > 0
    ]
    if said:
        yield f"Per effective draw of the parameter that mixes worst, {', and '.join(said)}."
    spent = d["seconds_compiling"]
    if np.isfinite(spent).all():
        times = listed(f"{number(x, 2)} s for the {name}" for name, x in spent.items())
        yield f"Compiling took {times}; it is less where the result of an earlier run is on the disk."


def _ratio(rate, how: str) -> str:
    fast, slow = rate.idxmax(), rate.idxmin()
    ratio = rate[fast] / rate[slow]
    numbers = f"({number(rate[fast], 2)} against {number(rate[slow], 2)} a second)"
    if ratio < 1.25:
        return f"{how} joint and marginal were about equally efficient {numbers}"
    return f"{how} the {fast} model was {number(ratio, 2)} times as efficient as the {slow} {numbers}"


# Estimates


def _flat(c: Comparison) -> Iterator[str]:
    who = [name for name, fit in (("ML", c.ml), ("REML", c.reml)) if fit.status.name == "flat"]
    if who:
        yield (
            f"{listed(who)} found a direction in which the likelihood doesn't change: some parameters of this model "
            "say the same of the data. In that direction the posterior is what the priors say, and the estimates are "
            "one choice of many."
        )


def _boundary(c: Comparison) -> Iterator[str]:
    fits = {"ML": set(c.ml.boundary), "REML": set(c.reml.boundary)}
    for level in c.model.design.levels:
        for e, name in enumerate(level.sd_labels):
            who = [fit for fit, names in fits.items() if name in names]
            if not who:
                continue
            x, unit, per = c.values(c.best, name), *_weight(level, e)
            exceeds = float(np.mean(x * unit > c.values(c.best, "sigma") / 2))
            yield (
                f"{listed(who)} put{'s' if len(who) == 1 else ''} {name}, {meaning(level, e)}, at zero: the "
                f"highest "
                f"point of a likelihood that falls off slowly, not evidence that there is no variation. "
                f"The posterior has a median of {_of(c, name, np.median(x))} and a 95 % interval from "
                f"{_interval(c, name)}; "
                f"the probability that it exceeds half the residual SD{per} is {percent(exceeds)}."
            )
        who = [fit for fit, names in fits.items() if names & {level_names(level).corr, level_names(level).rho}]
        if who:
            yield from _tied(c, level, who)
    for parameter in c.model.design.residual.parameters:
        who = [fit for fit, names in fits.items() if parameter.label in names]
        if who:
            name = parameter.label
            yield (
                f"{listed(who)} put{'s' if len(who) == 1 else ''} {name} on the edge of what it can be. The posterior "
                f"has a median of {_of(c, name, _median(c, name))} and a 95 % interval from {_interval(c, name)}."
            )


def _residuals(c: Comparison) -> Iterator[str]:
    """What the posterior says of R's parameters."""
    for parameter in c.model.design.residual.parameters:
        name = parameter.label
        above = float(np.mean(c.values(c.best, name) > parameter.neutral))
        side = f"; the probability that it is {parameter.above} is {percent(above)}" if parameter.above else ""
        yield (
            f"{name}, the {parameter.reason}, has a posterior median of {_of(c, name, _median(c, name))} and a 95 % "
            f"interval from {_interval(c, name)}{side}."
        )


def _tied(c: Comparison, level: LevelDesign, who: list[str]) -> Iterator[str]:
    fit = c.ml if who[0] == "ML" else c.reml
    extreme = [name for name in level.correlation_labels if abs(fit.estimates()[name]) > 0.999]
    verb = "s" if len(who) == 1 else ""
    for name in extreme[:3]:
        x = c.values(c.best, name)
        yield (
            f"{listed(who)} put{verb} {name} at {fit.estimates()[name]:.0f}, the edge of what a correlation "
            f"can be. "
            f"The posterior has a median of {np.median(x):.2f} and a 95 % interval from "
            f"{np.quantile(x, 0.025):.2f} to {np.quantile(x, 0.975):.2f}."
        )
    if not extreme:
        yield (
            f"{listed(who)} put{verb} the covariance of {level.name} on its boundary: one combination of "
            f"{listed(level.effects)} does not vary between the groups of {level.label} at all."
        )


def _few_groups(c: Comparison) -> Iterator[str]:
    for k, (level, priors) in enumerate(zip(c.model.design.levels, c.model.priors.sd, strict=True)):
        m = level.m - level.relatives
        if m >= FEW_GROUPS:
            continue
        for e, (name, prior) in enumerate(zip(level.sd_labels, priors, strict=True)):
            x = c.values(c.best, name)
            yield (
                f"{level.label} has {m} groups, and {m} numbers say little about the SD they "
                f"come from, "
                f"so the prior of {name}, {prior}{c.model.priors.place(k, e)}, matters."
            )
            if c.model.priors.stated_elsewhere(k, e):
                continue
            if not prior.is_flat:
                low, high = (_of(c, name, v) for v in prior.quantile([0.25, 0.75]))
                after = [_of(c, name, v) for v in np.quantile(x, [0.25, 0.75])]
                yield (
                    f"Its middle half runs from {low} to {high}; that of the posterior from {after[0]} to {after[1]}."
                )
            elif m < 3:
                yield (
                    "It is flat, and with fewer than 3 groups such a posterior has no finite mass: give a proper prior."
                )


def _centres(c: Comparison) -> Iterator[str]:
    from scipy.stats import skew

    table, edge = c.centres, set(c.ml.boundary)
    below = [n for n in table.index if n not in edge and table.loc[n, "ml"] < 0.95 * table.loc[n, "reml"]]
    if below:
        pairs = listed(
            f"{n} at {_of(c, n, table.loc[n, 'ml'])} against {_of(c, n, table.loc[n, 'reml'])}" for n in below
        )
        yield (
            f"ML puts {pairs} by REML: ML takes the fixed effects as known, and so sees less variation than there is."
        )
    skewed = []
    for name, row in table.iterrows():
        if row["mode"] < row["median"] < row["mean"] and skew(c.values(c.best, str(name))) > SKEWED:
            skewed.append((name, row))
    if not skewed:
        return
    name, row = max(skewed, key=lambda s: (s[1]["mean"] - s[1]["mode"]) / s[1]["mean"])
    ml, reml, _, median, mean = (_of(c, name, x) for x in row)
    mode = c.mode_text(str(name))
    top = f"its mode is {mode}"
    moral = "The top of a curve leaves out the tail that the mean counts."
    if mode.startswith("flat"):
        top = f"its density is {mode.replace('flat, ', 'flat between ').replace(' to ', ' and ')}"
        moral = "Where it is flat no value is the most probable one, and the tail is what the mean counts."
    yield (
        f"The posterior of {name} is skewed to the right: {top}, its median {median}, its mean {mean}; "
        f"ML says {ml} and REML {reml}. {moral}"
    )
    others = [other for other, _ in skewed if other != name]
    if others:
        yield f"The same holds, less strongly, for {listed(others)}."


def _fixed_effects(c: Comparison) -> Iterator[str]:
    ml, reml, sd = c.ml.fixef_se, c.reml.fixef_se, c.table[(c.best, "sd")]
    names = [f"beta[{name}]" for name in reml.index]
    if not names:
        return
    moved = (c.table[(c.best, "mean")] - c.table[("reml", "estimate")]).loc[names] / sd.loc[names]
    label = str(moved.abs().idxmax())
    if moved.abs().max() < MOVED:
        yield f"REML's estimates are within {MOVED} posterior SDs of the posterior's means."
    else:
        side = "above" if moved[label] > 0 else "below"
        yield (f"The posterior's mean of {label} lies {abs(moved[label]):.1f} posterior SDs {side} REML's estimate.")
    changed = [name for name in reml.index if abs(reml[name] - ml[name]) > VISIBLE * ml[name]]
    if changed:
        name = max(changed, key=lambda n: abs(np.log(reml[n] / ml[n])))
        label = f"beta[{name}]"
        also = f" (and of {len(changed) - 1} more)" if len(changed) > 1 else ""
        yield (
            f"ML and REML give standard errors of {label}{also} that differ by more than 10 %: "
            f"{_of(c, label, ml[name])} and {_of(c, label, reml[name])}."
        )
    wider = [name for name in reml.index if sd[f"beta[{name}]"] > (1 + VISIBLE) * reml[name]]
    if wider and c.diagnostics.loc[c.best, "trusted"]:
        name = max(wider, key=lambda n: sd[f"beta[{n}]"] / reml[n])
        label = f"beta[{name}]"
        yield (
            f"The posterior SD of {label} is {_of(c, label, sd[label])}, REML's standard error "
            f"{_of(c, label, reml[name])}: a standard error takes the variances as known, the posterior "
            f"does not."
        )


def meaning(level: LevelDesign, effect: int) -> str:
    """Say what an SD measures: "the SD between the groups of school"."""
    name = level.effects[effect] if level.n_sds == level.r else "each effect"
    what = "the SD" if name == "Intercept" else f"the SD of {name}"
    return f"{what} between the groups of {level.label}"


def _weight(level: LevelDesign, effect: int) -> tuple[float, str]:
    """Return what an effect of size 1 does to y in units of y, and the words for it."""
    column = level.columns[:, effect]
    if np.ptp(column) == 0:
        return abs(float(column[0])), ""
    if np.isin(column, (0.0, 1.0)).all():
        return 1.0, ""
    return float(np.std(column)), f" (for a change of {level.effects[effect]} by one SD)"


def _of(c: Comparison, name: str, x: float) -> str:
    """Write a value of a parameter with the decimals it has in the table."""
    return fixed(float(x), c.places(name))


def _median(c: Comparison, name: str) -> float:
    return float(np.median(c.values(c.best, name)))


def _interval(c: Comparison, name: str) -> str:
    low, high = np.quantile(c.values(c.best, name), [0.025, 0.975])
    return f"{_of(c, name, low)} to {_of(c, name, high)}"
