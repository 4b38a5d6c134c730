"""Ordered categories, cut out of a latent scale by thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from bayeslmm.distributions.prior import Prior
from bayeslmm.families.averages import LINKS as LINK_OF
from bayeslmm.families.averages import MEANS, SLOPES
from bayeslmm.families.family import Dispersion, Family, Outcome
from bayeslmm.families.links import LINKS, Jet, ProbabilityLink
from bayeslmm.families.stable import log1m_exp, sigmoid, softplus


@dataclass(frozen=True, kw_only=True)
class Cumulative(Family):
    """P(y <= c) = F(threshold_c - eta): larger eta, higher categories.

    X has no constant: the thresholds stand for it. Their coordinates are the first one and the logs of the steps.

    Parameters
    ----------
    link : {"logit", "probit"}

    Examples
    --------
    >>> Cumulative().dispersion_values(np.array([-1.0, 0.0, np.log(2)])).round(6).tolist()
    [-1.0, 0.0, 2.0]
    """

    name: ClassVar[str] = "cumulative"
    links: ClassVar[tuple[str, ...]] = ("logit", "probit")
    has_intercept: ClassVar[bool] = False

    @property
    def F(self) -> ProbabilityLink:
        """From eta to the probability."""
        return LINKS[self.link]

    def check(self, outcome: Outcome) -> None:
        """Three categories or more, each of them seen."""
        counts = np.bincount(outcome.y.astype(int), minlength=len(outcome.categories))
        if len(counts) < 3:
            outcome.refuse(
                np.ones(len(outcome.y), dtype=bool),
                f"ordered categories are three or more; there are {len(counts)}",
                "For two write family='binomial'.",
            )
        if (counts == 0).any():
            empty = outcome.categories[int(np.argmin(counts))]
            outcome.refuse(
                np.ones(len(outcome.y), dtype=bool),
                f"no row has the category {empty!r}, so that the threshold beside it can't be known",
                "Leave it out of the categories, or join it with its neighbour.",
            )

    def _ends(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray):
        """(upper, lower) ends of the rows' categories, minus eta."""
        cuts = self.dispersion_values(psi)
        code = outcome.y.astype(int)
        upper = np.concatenate([cuts, [np.inf]])[code]
        lower = np.concatenate([[-np.inf], cuts])[code]
        return upper - eta, lower - eta, upper - lower

    def jet(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Jet:
        """log(F(a) - F(b)) of a row's ends a > b."""
        a, b, gap = self._ends(outcome, eta, psi)
        if self.link == "logit":
            # log F(a) + log(1 - F(b)) + log(1 - e^(b - a))
            value = -softplus(-a) - softplus(b) + log1m_exp(gap)
            pa, qa, pb, qb = sigmoid(a), sigmoid(-a), sigmoid(b), sigmoid(-b)
            return Jet(value, pb - qa, -pa * qa - pb * qb, pa * qa * (qa - pa) + pb * qb * (qb - pb))
        value, ra, rb, a, b = _normal_parts(a, b)
        first = rb - ra
        bend = a * ra - b * rb
        second = -bend - first**2
        third = -first - (a**2 * ra - b**2 * rb) + first * bend - 2 * first * second
        lowest, highest = outcome.y == 0, outcome.y == len(psi)
        one, other = self.F.log_yes(a), self.F.log_no(b)  # categories with one end have no differences
        flipped = Jet(one.value, -one.first, one.second, -one.third)
        opposite = Jet(other.value, -other.first, other.second, -other.third)
        parts = zip(Jet(value, first, second, third), flipped, opposite, strict=True)
        return Jet(*(np.where(lowest, x, np.where(highest, z, middle)) for middle, x, z in parts))

    def dispersion(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> Dispersion:
        """By the first threshold and the log steps."""
        by_upper, by_lower = self._by_ends(outcome, eta, psi)
        code = outcome.y.astype(int)
        k = len(psi)
        parts = []
        for upper, lower in zip(by_upper, by_lower, strict=True):
            by_cut = np.stack([np.where(code == j, upper, 0.0) + np.where(code == j + 1, lower, 0.0) for j in range(k)])
            parts.append(np.tensordot(self.dispersion_slopes(psi).T, by_cut, axes=1))
        return Dispersion(*parts)

    def _by_ends(self, outcome: Outcome, eta: np.ndarray, psi: np.ndarray):
        """Derivatives of (log density, its slope, its curvature) by the upper end, and by the lower one."""
        a, b, gap = self._ends(outcome, eta, psi)
        if self.link == "logit":
            pa, qa, pb, qb = sigmoid(a), sigmoid(-a), sigmoid(b), sigmoid(-b)
            with np.errstate(over="ignore"):
                more = 1 / np.expm1(gap)
            upper = (qa + more, pa * qa, -pa * qa * (qa - pa))
            lower = (-pb - more, pb * qb, -pb * qb * (qb - pb))
            return upper, lower
        _, ra, rb, a, b = _normal_parts(a, b)
        first = rb - ra
        # d ra / da = -a ra - ra^2, d rb / da = -ra rb, and the like by b with the other sign
        ra_a, rb_a = -a * ra - ra**2, -ra * rb
        ra_b, rb_b = ra * rb, -b * rb + rb**2
        first_a, first_b = rb_a - ra_a, rb_b - ra_b
        bend_a, bend_b = ra + a * ra_a - b * rb_a, a * ra_b - rb - b * rb_b
        upper = (ra, first_a, -bend_a - 2 * first * first_a)
        lower = (-rb, first_b, -bend_b - 2 * first * first_b)
        return upper, lower

    def draw(self, rng: np.random.Generator, outcome: Outcome, eta: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Numbers of categories."""
        cuts = self.dispersion_values(psi)
        u = rng.random(eta.shape)
        below = self.F.probability(cuts - eta[..., None])
        return (u[..., None] > below).sum(axis=-1).astype(float)

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The latent location: categories have no mean."""
        return eta

    def responses(self, outcome: Outcome) -> tuple[str, ...]:
        """The categories."""
        return outcome.categories

    def expected(self, eta: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Probability of each category."""
        return _steps([self.F.probability(cut - eta) for cut in dispersion.T], eta, 1.0)

    def expected_slope(self, eta: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Derivatives of them."""
        return _steps([-SLOPES[self.link](cut - eta) for cut in dispersion.T], eta, 0.0)

    def averaged(self, eta: np.ndarray, variance: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Their means over groups."""
        return _steps([MEANS[self.link](cut - eta, variance) for cut in dispersion.T], eta, 1.0)

    def averaged_link(self, eta: np.ndarray, variance: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
        """Of being above each threshold."""
        return np.stack([LINK_OF[self.link](MEANS[self.link](eta - cut, variance)) for cut in dispersion.T])

    def latent_variance(self, mean: np.ndarray, dispersion: np.ndarray) -> tuple[np.ndarray, str]:
        """Of the latent variable that the thresholds cut."""
        return np.full_like(mean, self.F.spread), f"{self.F.spread_words} ({self.link} link)"

    def dispersion_labels(self, outcome: Outcome) -> tuple[str, ...]:
        """threshold[low|high]."""
        names = outcome.categories
        return tuple(f"threshold[{low}|{high}]" for low, high in pairwise(names))

    def dispersion_start(self, outcome: Outcome) -> np.ndarray:
        """The link of the cumulative shares."""
        counts = np.bincount(outcome.y.astype(int), minlength=len(outcome.categories))
        shares = np.cumsum(counts)[:-1] / counts.sum()
        cuts = np.array([self.F.link(float(share)) for share in shares])
        return np.concatenate([cuts[:1], np.log(np.diff(cuts))])

    def dispersion_values(self, psi: np.ndarray) -> np.ndarray:
        """The thresholds, ascending."""
        return np.cumsum(np.concatenate([psi[..., :1], np.exp(psi[..., 1:])], axis=-1), axis=-1)

    def dispersion_coordinates(self, values: np.ndarray) -> np.ndarray:
        """The first threshold and the logs of the steps."""
        return np.concatenate([values[..., :1], np.log(np.diff(values, axis=-1))], axis=-1)

    def dispersion_slopes(self, psi: np.ndarray) -> np.ndarray:
        """Derivatives (k, k) of the thresholds by the coordinates."""
        steps = np.concatenate([[1.0], np.exp(psi[1:])])
        return np.tril(np.ones((len(psi), len(psi)))) * steps

    def dispersion_log_jacobian(self, psi: np.ndarray) -> np.ndarray:
        """Log of the determinant of `dispersion_slopes`: the first threshold is its own coordinate."""
        return psi[..., 1:].sum(axis=-1)

    def dispersion_prior(self, label: str, outcome: Outcome) -> tuple[Prior, str]:
        """Each around the link of its cumulative share."""
        at = self.dispersion_labels(outcome).index(label)
        cut = float(self.dispersion_values(self.dispersion_start(outcome))[at])
        reason = (
            f"{self.link} of the share below it, give or take 2.5 units of its scale, at the mean of the predictors; "
            "thresholds stay in order"
        )
        return Prior("Normal", mu=round(cut, 2), sigma=round(2.5 * self.F.unit, 2)), reason

    def center(self, outcome: Outcome) -> tuple[float, str]:
        """Zero: the thresholds say where the categories are."""
        return 0.0, "zero, the thresholds being around it"

    def unit(self, outcome: Outcome) -> tuple[float, str]:
        """As the link has it."""
        return self.F.unit, f"unit on the {self.link} scale"

    @property
    def words(self) -> str:
        """What y is."""
        return "ordered category (cumulative)"

    @property
    def ratio(self) -> str:
        """What exp(beta) is."""
        return "cumulative odds ratio" if self.link == "logit" else ""


def _steps(below: list[np.ndarray], eta: np.ndarray, last: float) -> np.ndarray:
    """Of what lies below each threshold (..., N), that of each category (C, ..., N); `last` lies below the end."""
    shape = np.broadcast_shapes(eta.shape, *(x.shape for x in below))
    ends = [np.zeros(shape), *(np.broadcast_to(x, shape) for x in below), np.full(shape, last)]
    return np.diff(np.stack(ends), axis=0)


def _normal_parts(a: np.ndarray, b: np.ndarray):
    """log(Phi(a) - Phi(b)), phi(a) and phi(b) over it, and a and b with zero for what is infinite."""
    probit = LINKS["probit"]
    finite_a, finite_b = np.isfinite(a), np.isfinite(b)
    turned = a + b > 0
    high, low = np.where(turned, -b, a), np.where(turned, -a, b)
    upper = probit.log_yes(np.where(np.isposinf(high), 40.0, high))
    lower = probit.log_yes(np.where(np.isneginf(low), 0.0, low))
    gap = np.where(np.isneginf(low), np.inf, upper.value - lower.value)
    gap = np.maximum(gap, 1e-300)
    value = upper.value + log1m_exp(gap)
    with np.errstate(over="ignore"):
        at_high, at_low = upper.first / -np.expm1(-gap), lower.first / np.expm1(gap)
    ra = np.where(finite_a, np.where(turned, at_low, at_high), 0.0)
    rb = np.where(finite_b, np.where(turned, at_high, at_low), 0.0)
    return value, ra, rb, np.where(finite_a, a, 0.0), np.where(finite_b, b, 0.0)
