"""A fit of an outcome that isn't Gaussian, as predictions read it: points around its estimate.

There are the estimate, and two points for each independent direction in which the parameters are uncertain, the
effects' modes following; differences give standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from bayeslmm.errors import DataError
from bayeslmm.factorisation.factor import COLUMNS, factorise
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.integration.laplace import find_mode
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_draws import LinkValues, check_link_tree
from bayeslmm.predictions.link_results import NUMBERS, Asked, LinkDraws, LinkResult, OfDraws, combined, joined
from bayeslmm.predictions.results import Estimates
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.fit_result import STEP
from bayeslmm.tables.link_result import LinkFit, read_link_result
from bayeslmm.tables.wald import wald

NEW = 2000  # draws of new groups


@dataclass(frozen=True, kw_only=True, eq=False)
class OfFit(LinkResult):
    """A fit: by the delta method."""

    given: LinkFit
    known: bool

    @property
    def name(self) -> str:
        """ML."""
        return "ML"

    @property
    def fit(self) -> GLMMFit:
        """The fit."""
        return self.given.fit

    @property
    def doubts(self) -> str:
        """What deserves a second look."""
        return self.given.doubts

    def words(self, asked: Asked) -> str:
        """What the numbers are."""
        text = (
            "estimate: at the estimated parameters and the groups' conditional modes. sd: by the delta method, with "
            "the uncertainty of all parameters, SDs of effects included, and of the groups' effects given them. The "
            f"interval is Wald's, of {100 * asked.level:g} %, on a scale of logarithms or logits where it has bounds."
        )
        if any(asked.new):
            text += (
                " Of new groups, the estimate is their mean, integrated, not that of a group with u = 0; sd has how "
                "much they differ, and the interval is rough where that is skewed: a posterior's isn't."
            )
        return f"{text} {self._trouble}".strip()

    @property
    def _trouble(self) -> str:
        return f"There are no intervals: {self.given.trouble}." if self.given.trouble else ""

    @cached_property
    def points(self) -> LinkDraws:  # type: ignore[override]
        """The estimate, then two points for each direction."""
        roots = self.given.roots
        x = self.fit.peak.x
        moves = np.zeros((0, x.size)) if roots is None or self.given.trouble else STEP * roots
        xs = np.concatenate([x[None], x + moves, x - moves])
        link = self.given.at(xs).values
        if self.known:
            link = LinkValues(
                model=link.model, beta=link.beta, factors=link.factors, dispersion=link.dispersion,
                effects=self._modes(xs),
            )  # fmt: skip
        return LinkDraws.at_points(link)

    def _modes(self, xs: np.ndarray) -> dict[str, np.ndarray]:
        """Modes of the effects (N, m, r) at points of the search."""
        problem, s = self.fit.problem, self.fit.point.mode.s
        found = []
        for x in xs:
            mode, _ = find_mode(
                problem.rows, problem.family, problem.outcome, problem.fixed(x), problem.lam(x), problem.psi(x), s
            )
            found.append(problem.rows.effects(mode.b))
        return {level.name: np.stack([u[level.name] for u in found]) for level in problem.rows.design.levels}

    def estimates(self, quantity, parts, asked, each) -> Estimates:
        """At the estimate, with standard errors by differences."""
        values, pulls, spread, Zs = [], [], [], []
        points = self.points
        means = points.means(asked.means)
        total: Any = None
        for linears, L in parts:
            value, pull = self._values(quantity, linears, means, asked)
            drawn = self._drawn(quantity, linears, asked, L)
            if each:
                values.append(value)
                pulls.append(pull)
                spread.append(drawn)
                Zs.append([linear.Z for linear in linears])
                continue
            G = [sum(L @ _scaled(p[c], one.Z) for p, one in zip(pull, linears, strict=True)) for c in range(len(value))]
            one = [combined(L, value), drawn, G]
            total = one if total is None else _added(total, one)
        if each:
            bounds = quantity.bounds(asked.scale)
            found = [
                self._summary(v, d, [_pulled(pull, Z, c) for c in range(len(v))], bounds, asked)
                for v, d, pull, Z in zip(values, spread, pulls, Zs, strict=True)
            ]  # fmt: skip
        else:
            differ = None if total[1] is None else total[1].var(axis=-1)
            found = [self._summary(total[0], differ, total[2], quantity.bounds(asked.scale), asked)]
        return joined(found)

    def _values(self, quantity, linears, means, asked) -> tuple[np.ndarray, list[np.ndarray]]:
        """(the quantity at all points (C, rows, N), its derivatives (C, rows) by the linear quantities)."""
        points, scale = self.points, asked.scale
        everything = [a or b for a, b in zip(asked.integrated, asked.new, strict=True)]
        ms = [points.at(linear, means) for linear in linears]
        v = points.covariances(linears, everything)
        value = quantity.value(scale, ms, v, points.link.dispersion)
        first = [m[:, :1] for m in ms], [[one[:, :1] for one in row] for row in v], points.link.dispersion[:1]
        return value, [pull[..., 0] for pull in quantity.pulls(scale, *first)]

    def _drawn(self, quantity, linears, asked, L) -> np.ndarray | None:
        """How new groups differ: variances (C, rows), or the combined rows' draws (C, c, NEW); None without any."""
        if not any(asked.new):
            return None
        link = self.points.link.some(np.zeros(NEW, dtype=int))
        points, found = LinkDraws.at_points(link), []
        means = points.means(asked.means)
        step = NUMBERS // NEW
        for some in (slice(lo, lo + step) for lo in range(0, linears[0].k, step)):
            own = [linear.rows(some) for linear in linears]
            new = self.new_effects(own, asked, points)
            ms = [points.at(one, means) + points.drawn(one, asked.new, new) for one in own]
            value = quantity.value(asked.scale, ms, points.covariances(own, asked.integrated), link.dispersion)
            found.append(value.var(axis=-1) if L is None else combined(L[:, some], value))
        return np.concatenate(found, axis=1) if L is None else sum(found[1:], found[0])

    def _summary(self, value, differ, G, bounds, asked) -> tuple[np.ndarray, ...]:
        """(estimate, sd, low, high), (C, rows) each."""
        half = (value.shape[-1] - 1) // 2
        slopes = (value[..., 1 : 1 + half] - value[..., 1 + half :]) / (2 * STEP)
        variance = (slopes**2).sum(axis=-1)
        if self.known:
            variance = variance + np.stack([self._conditional(one, asked) for one in G])
        if differ is not None:
            variance = variance + differ
        estimate = value[..., 0]
        sd = np.full_like(estimate, np.nan) if self.given.trouble else np.sqrt(variance)
        lower, upper = (np.full_like(estimate, x) for x in bounds)
        low, high = wald(estimate, sd, lower, upper, NormalDist().inv_cdf(0.5 + asked.level / 2))
        return estimate, sd, low, high

    def _conditional(self, G: Any, asked: Asked) -> np.ndarray:
        """Variance of G (c, q + means) times the effects, given the parameters."""
        from scipy.sparse import csr_array

        if not self.fit.problem.rows.design.q:
            return np.zeros(G.shape[0])
        G = csr_array(G)
        kept, inverse, size = _distinct(G)
        own = np.concatenate(
            [
                self._quadratic(self._on_kernels(kept[lo : lo + COLUMNS], asked))
                for lo in range(0, kept.shape[0], COLUMNS)
            ]
        )
        return size**2 * own[inverse]

    def _on_kernels(self, G: Any, asked: Asked) -> np.ndarray:
        """The same rows (c, q) on the kernels' basis."""
        rows = self.fit.problem.rows
        parts, at, mean_at = [], 0, rows.design.q
        for level, M, mean in zip(rows.design.levels, rows.maps, asked.means, strict=True):
            own = G[:, at : at + level.q].toarray().reshape(-1, level.m, level.r)
            if mean is not None:
                own = own + mean[:, None] * G[:, mean_at : mean_at + level.r].toarray()[:, None, :]
            own = own @ np.linalg.inv(M)
            if level.related:
                own = np.einsum("cme,mh->che", own, np.asarray(level.root))
            parts.append(own.reshape(len(own), -1))
            at += level.q
            mean_at += level.r
        return np.concatenate(parts, axis=1)

    def _quadratic(self, right: np.ndarray) -> np.ndarray:
        """r' Lambda H^-1 Lambda' r of some rows r (d, q)."""
        factor, d = self.fit.point.factor, len(right)
        blind = np.zeros((len(self.fit.problem.rows.plan.chain), d), dtype=np.bool_)
        solved = factorise(factor.layout, factor.lam, np.ascontiguousarray(right.T), np.zeros((d, d)), blind)
        b = solved.adjoint(0.0, np.zeros((d, d))).b
        return np.maximum(np.einsum("dq,qd->d", right, b), 0.0)


def _distinct(G: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """(rows that are no multiples of each other, which of them each row is a multiple of, and how many times it)."""
    place: dict[tuple[bytes, bytes], int] = {}
    first: list[int] = []
    inverse, size = np.empty(G.shape[0], dtype=int), np.empty(G.shape[0])
    for i, (lo, hi) in enumerate(pairwise(G.indptr.tolist())):
        values = G.data[lo:hi]
        top = float(np.abs(values).max(initial=0.0))
        size[i] = top
        unit = values / top if top > 0 else values
        sign = -1.0 if len(unit) and unit[0] < 0 else 1.0
        key = (G.indices[lo:hi].tobytes(), (sign * unit + 0.0).round(13).tobytes())
        inverse[i] = place.setdefault(key, len(first))
        if inverse[i] == len(first):
            first.append(i)
    kept = G[first]
    scale = np.array([1 / size[i] if size[i] > 0 else 1.0 for i in first])
    return _scaled(scale, kept), inverse, size


def _scaled(pull: np.ndarray, Z: Any) -> Any:
    from scipy.sparse import diags_array

    return (diags_array(pull, format="csr") @ Z).tocsr()


def _added(one: list, other: list) -> list:
    drawn = None if one[1] is None else one[1] + other[1]
    return [one[0] + other[0], drawn, [a + b for a, b in zip(one[2], other[2], strict=True)]]


def _pulled(pull: Sequence[np.ndarray], Z: Sequence[Any], c: int) -> Any:
    """How number c of each row moves with the effects."""
    return sum(_scaled(p[c], own) for p, own in zip(pull, Z, strict=True))


def link_result_of(model: LinkModel, result: Any, call: str, known: bool) -> LinkResult:
    """A fit or a posterior of this model; `call` is what to write, `known` whether seen groups' effects are needed."""
    if isinstance(result, GLMMFit):
        given = read_link_result(model, result, 0.95, random_effects=False)
        assert isinstance(given, LinkFit)
        with one_blas_thread():
            return OfFit(given=given, known=known)
    if not hasattr(result, "children"):
        raise DataError(
            f"A {type(result).__name__} came as the result; expected a fit, glmm.ml(), or a posterior, glmm.sample(). "
            f"Write {call}."
        )
    check_link_tree(model, result, known, f"Write tree = glmm.sample(), then {call} with the whole tree.")
    trouble = "" if result.attrs.get("trusted", 1) else f"The draws are doubtful: {result.attrs.get('doubts', '')}"
    link = LinkValues.of_posterior(model, result["posterior"].to_dataset())
    return OfDraws(points=LinkDraws.at_points(link, str(result.attrs.get("variant", "")), trouble))
