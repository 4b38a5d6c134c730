"""The likelihood ratio test of one model within another, with SDs that are zero on the boundary of their space.

Where effects are added that the smaller model says do not vary, the statistic is under it no chi-square: half of the
time the estimate lies on the boundary. Adding one effect to r correlated ones gives the mixture of chi-squares with r
and r + 1 degrees of freedom, half each; one unrelated effect is r = 0.

Sources: Self & Liang (1987), case 5 to 7; Stram & Lee (1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import visible
from bayeslmm.factorisation.plan import nested_in
from bayeslmm.likelihood.fit import LikelihoodFit


@dataclass(frozen=True, kw_only=True)
class LikelihoodRatioTest:
    """Twice the difference of two maxima of the likelihood, and how often it is as large under the smaller model.

    Attributes
    ----------
    statistic : float
    mixture : mapping of int to float
        Degrees of freedom to the weight of their chi-square.
    p : float
    note : str
        What the mixture rests on.
    """

    statistic: float
    mixture: dict[int, float]
    p: float
    note: str

    def __repr__(self) -> str:
        law = " + ".join(f"{weight:.3g} chi2({df})" for df, weight in self.mixture.items())
        return visible(f"likelihood ratio {self.statistic:.3f}, {law}: p = {self.p:.3g}. {self.note}")


@dataclass(frozen=True, kw_only=True)
class _Added:
    """What the larger model has besides: coefficients, parameters inside their space, SDs (and what goes with each)."""

    interior: int
    groups: tuple[tuple[int, int], ...]  # per level with new SDs: (how many, how many correlations come with them)


def likelihood_ratio_test(smaller: LikelihoodFit, larger: LikelihoodFit) -> LikelihoodRatioTest | None:
    """Test the smaller of two ML fits of the same data; None where the one model isn't within the other.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = blm.example_data("sleepstudy")
    >>> one, two = (blm.LMM(f"Reaction ~ 1 + Days + {bar}", data).ml() for bar in ("(1 | Subject)", "(Days | Subject)"))
    >>> likelihood_ratio_test(one, two).mixture
    {1: 0.5, 2: 0.5}
    """
    added = _added(smaller.design, larger.design)
    if added is None or smaller.method != "ML" or larger.method != "ML":
        return None
    statistic = max(2 * (larger.loglik - smaller.loglik), 0.0)
    mixture, note = _law(added)
    from scipy.stats import chi2

    p = sum(
        weight * float(chi2.sf(statistic, df)) if df else weight * float(statistic < 1e-8)
        for df, weight in mixture.items()
    )
    return LikelihoodRatioTest(statistic=statistic, mixture=mixture, p=min(p, 1.0), note=note)


def _law(added: _Added) -> tuple[dict[int, float], str]:
    base = added.interior
    if not added.groups:
        return {base: 1.0}, "All that is added lies inside its space: an ordinary chi-square, for many groups."
    total = sum(n for n, _ in added.groups)
    if len(added.groups) == 1 and total == 1:
        along = base + added.groups[0][1]
        note = "The SD that is added is zero under the smaller model, on its boundary: half of each chi-square."
        return {along: 0.5, along + 1: 0.5}, note
    if all(along == 0 for _, along in added.groups):
        note = (
            f"{total} SDs are added, each zero on its boundary: binomial weights, exact where their estimates are "
            "unrelated."
        )
        return {base + k: comb(total, k) / 2**total for k in range(total + 1)}, note
    df = base + total + sum(along for _, along in added.groups)
    note = (
        "Several SDs with correlations are added, for which no simple mixture is known: the chi-square with all of "
        "their degrees of freedom says too large a p."
    )
    return {df: 1.0}, note


def _added(smaller: Design, larger: Design) -> _Added | None:
    """What the larger design has besides the smaller one; None where it hasn't all that the smaller one has."""
    if not np.array_equal(smaller.net_y, larger.net_y):
        return None
    if not _spanned(smaller.X, larger.X):
        return None
    interior, groups = larger.p - smaller.p, []
    left = list(larger.levels)
    for level in smaller.levels:
        match = next((other for other in left if _within(level, other)), None)
        if match is None:
            return None
        left.remove(match)
        sds = match.n_sds - level.n_sds
        correlations = match.structure.n_correlations(match.r) - level.structure.n_correlations(level.r)
        if sds < 0 or correlations < 0:
            return None
        if level.effects == match.effects:  # another structure of the same effects: no SD is zero
            interior += sds + correlations
        else:
            groups.append((sds, correlations))
    groups += [(level.n_sds, level.structure.n_correlations(level.r)) for level in left if level.n_sds]
    if any(not level.n_sds for level in left):  # a known covariance adds no parameter: another model, not a larger one
        return None
    rest = _residual_parameters(smaller, larger)
    if rest is None or interior < 0:
        return None
    return _Added(interior=interior + rest, groups=tuple(groups))


def _spanned(A: np.ndarray, B: np.ndarray) -> bool:
    """Whether each column of A is a combination of B's."""
    if A.shape[1] == 0:
        return True
    if B.shape[1] < A.shape[1]:
        return False
    rest = A - B @ np.linalg.lstsq(B, A, rcond=None)[0]
    return bool((np.linalg.norm(rest, axis=0) <= 1e-8 * np.linalg.norm(A, axis=0)).all())


def _within(level: LevelDesign, other: LevelDesign) -> bool:
    """Whether a level's law of effects is a special case of the other's: same groups, effects among the other's."""
    same = nested_in(level.index, other.index) and nested_in(other.index, level.index)
    if not same or level.related != other.related:
        return False
    if level.relation is not None and other.relation is not None and not level.relation.same(other.relation):
        return False
    if level.structure.name == other.structure.name or other.structure.name == "us" or level.r == 1:
        return _spanned(level.columns, other.columns) and set(level.effects) <= set(other.effects)
    return level.structure.name == "diag" and level.effects == other.effects


def _residual_parameters(smaller: Design, larger: Design) -> int | None:
    """Parameters of R that are added, inside their space; None where the smaller R is no special case."""
    a, b = smaller.residual, larger.residual
    if not np.array_equal(a.root_weights, b.root_weights):
        return None
    if a.structure.name == b.structure.name and np.array_equal(a.structure.block, b.structure.block):
        if a.structure.name == "known":
            same = np.array_equal(a.structure.C().toarray(), b.structure.C().toarray())
            return 0 if same and a.strata == b.strata else None
        shared = len(b.own) - len(a.own)
    elif not a.correlated and a.structure.name in ("iid", "strata") and b.structure.name != "known":
        shared = len(b.own)
    else:
        return None
    if a.strata and a.strata != b.strata:
        return None
    return shared + len(b.ratios) - len(a.ratios)
