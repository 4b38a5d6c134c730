"""The kernels against the dense formulas in 40 digits: all designs, variance ratios 0 and 1e-8 to 1e8."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from exact import Exact, lift, mp, mpf, norm, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import BY_NAME, CASES, Case, factors, relative_G, scale_choices

from bayeslmm.errors import DataError
from bayeslmm.factorisation.conditioning import make_basis
from bayeslmm.factorisation.factor import factorise_statistics
from bayeslmm.factorisation.statistics import build_statistics
from bayeslmm.lmm import LMM
from bayeslmm.theory import density

PROMISE = 1e-10

# Where the promise may not be kept: quantity -> design -> the bound that is, on any processor. How far an error stays
# below it is a matter of the order in which a machine's LAPACK adds up.
#
# products              An entry of 1e-8 (X in the span of a level, lambda = 1e4), a small difference.
# log_density, and its gradient, far from zero: y = 1e6 +- 0.3, and R beta has 16 digits of a million.
# gradients, modes,     Crossed levels that are all at lambda = 1e4 share a direction, in which the data's
#   covariances         information is 1e-8 of the rest; so does a group that has fewer rows than effects.
# gradient_of_products  There the gradient of T is 1e-12 and no digit of it is left; log|V0| outweighs it.
WIDER = {
    "log_determinant": {"factor by nested groups, crossed": 4e-9, "crossed in three": 4e-10},
    "products": {
        "same grouping twice": 2e-7,
        "crossed": 1e-6,
        "partially crossed": 2e-7,
        "crossed in three": 4e-7,
        "crossed with slopes": 5e-7,
        "factor by group, crossed": 5e-7,
        "nested and crossed with slopes": 5e-7,
        "factor by nested groups, crossed": 5e-7,
    },
    "log_density": {"far from zero": 1e-9, "factor by nested groups, crossed": 3e-9, "crossed in three": 4e-10},
    "gradient_of_log_density": {
        "crossed": 3e-8,
        "partially crossed": 4e-8,
        "crossed in three": 2e-8,
        "crossed with slopes": 2e-7,
        "factor by group, crossed": 2e-7,
        "nested and crossed with slopes": 1e-7,
        "factor by nested groups, crossed": 1e-7,
        "far from zero": 2e-9,
    },
    "gradient_of_log_determinant": {
        "crossed": 5e-9,
        "partially crossed": 4e-9,
        "crossed in three": 3e-9,
        "crossed with slopes": 2e-8,
        "factor by group, crossed": 2e-8,
        "nested and crossed with slopes": 2e-8,
        "factor by nested groups, crossed": 2e-8,
    },
    "gradient_of_products": {
        "crossed": np.inf,
        "partially crossed": np.inf,
        "crossed in three": np.inf,
        "crossed with slopes": np.inf,
        "factor by group, crossed": np.inf,
        "nested and crossed with slopes": np.inf,
        "factor by nested groups, crossed": np.inf,
    },
    "modes": {
        "crossed": 2e-8,
        "partially crossed": 2e-8,
        "crossed in three": 4e-8,
        "crossed with slopes": 1e-7,
        "factor by group, crossed": 1e-7,
        "nested and crossed with slopes": 2e-7,
        "factor by nested groups, crossed": 2e-7,
    },
    "drawn_covariance": {
        "slopes of singletons": 4e-8,
        "nested with slopes": 2e-7,
        "crossed": 4e-8,
        "partially crossed": 1e-8,
        "crossed in three": 1e-7,
        "crossed with slopes": 4e-8,
        "factor by group, crossed": 4e-8,
        "nested and crossed with slopes": 4e-7,
        "factor by nested groups, crossed": 4e-7,
    },
    "variances": {
        "slopes of singletons": 4e-8,
        "nested with slopes": 2e-7,
        "crossed": 4e-8,
        "partially crossed": 1e-8,
        "crossed in three": 1e-7,
        "crossed with slopes": 4e-8,
        "factor by group, crossed": 4e-8,
        "nested and crossed with slopes": 2e-7,
        "factor by nested groups, crossed": 2e-7,
    },
}


@dataclass(frozen=True)
class Point:
    """One design at one lambda: the kernels' factor, and the exact answer for [Q y_] and for y - X beta."""

    case: Case
    scales: tuple[float, ...]

    def __post_init__(self):
        lmm = build(self.case.name)
        design, stats = lmm.design, lmm.statistics
        lambdas = factors(design.levels, self.scales)
        beta = np.linalg.lstsq(design.X, design.y)[0] + 0.1
        residual = lift(design.y) - lift(design.X) @ lift(beta)
        W = np.column_stack([make_basis(design.X, design.y, design.levels).W.astype(object), residual])
        known = {
            "lmm": lmm,
            "stats": stats,
            "lambdas": lambdas,
            "v": np.append(stats.gamma - stats.upper @ beta, stats.scale),
            "factor": factorise_statistics(stats, stats.flatten(lambdas)),
            "exact": Exact(levels=design.levels, lambdas=tuple(lambdas), W=W),
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)

    @property
    def T(self):
        return self.exact.T[:-1, :-1]

    @property
    def quadratic(self):
        """(y - X beta)' V0^-1 (y - X beta)."""
        return self.exact.T[-1, -1]

    def gradient(self, a: float, Tbar: np.ndarray) -> list[np.ndarray]:
        """The kernels' gradient with respect to the free entries of each lambda, on the user's scale."""
        flat = self.factor.adjoint(a, Tbar).gradient
        return self.free(
            [
                M.T @ flat[span].reshape(M.shape)
                for M, span in zip(self.stats.maps, self.stats.lambda_slices, strict=True)
            ]
        )

    def exact_gradient(self, a: float, Tbar: np.ndarray) -> list[np.ndarray]:
        return self.free(self.exact.gradient(a, Tbar))

    def free(self, blocks) -> list[np.ndarray]:
        """Lower triangles, or diagonals where effects are independent."""
        return [
            (np.tril if level.correlated else lambda x: np.diag(np.diag(x)))(block)
            for level, block in zip(self.levels, blocks, strict=True)
        ]

    @property
    def levels(self):
        return self.lmm.design.levels


@cache
def build(name: str) -> LMM:
    return BY_NAME[name].lmm()


@cache
def points(name: str) -> list[Point]:
    return [Point(BY_NAME[name], scales) for scales in scale_choices(len(build(name).design.levels))]


def only(d: int, part: np.ndarray) -> np.ndarray:
    """A d x d cotangent of [Q y_ r] with `part` in its upper left or, if 1 x 1, lower right corner."""
    whole = np.zeros((d, d))
    where = slice(d - 1, d) if part.shape == (1, 1) else slice(0, d - 1)
    whole[where, where] = part
    return whole


def log_determinant(point: Point) -> float:
    return relative_error([point.factor.logdet], [point.exact.logdet])


def products(point: Point) -> float:
    """Entries of T relative to sqrt(T_aa T_bb)."""
    size = np.array([mp.sqrt(x) for x in np.diag(point.T)], dtype=object)
    return relative_error(point.factor.T, point.T, np.outer(size, size))


def log_density(point: Point) -> float:
    n, s2 = point.case.n, 0.25 * point.case.noise**2
    value = n * np.log(2 * np.pi * s2) + point.factor.logdet + point.v @ point.factor.T @ point.v / s2
    exact = n * mp.log(2 * mp.pi * mpf(s2)) + point.exact.logdet + point.quadratic / mpf(s2)
    return relative_error([value], [exact])


def gradient_of_log_density(point: Point) -> float:
    s2 = 0.25 * point.case.noise**2
    d = len(point.v)
    found = point.gradient(1.0, np.outer(point.v, point.v) / s2)
    exact = point.exact_gradient(1.0, only(d + 1, np.array([[1 / s2]])))
    return max(relative_error(x, y, norm(exact)) for x, y in zip(found, exact, strict=True))


def gradient_of_log_determinant(point: Point) -> float:
    d = len(point.v)
    found, exact = point.gradient(1.0, np.zeros((d, d))), point.exact_gradient(1.0, np.zeros((d + 1, d + 1)))
    return max(relative_error(x, y, norm(exact)) for x, y in zip(found, exact, strict=True))


def gradient_of_products(point: Point) -> float:
    v = np.linspace(0.5, 1, len(point.v))
    found, exact = (
        point.gradient(0.0, np.outer(v, v)),
        point.exact_gradient(0.0, only(len(v) + 1, np.outer(v, v))),
    )
    return max(relative_error(x, y, norm(exact)) for x, y in zip(found, exact, strict=True))


def modes(point: Point) -> float:
    """Modes C Z'w for every column w of W, relative to the length of |C| |Z|'|w|.

    Not to their own: where w is orthogonal to a level they are zero, and what is left of them is w's own rounding.
    """
    d = len(point.v)
    found = to_user(point, point.factor.adjoint(1.0, np.zeros((d, d))).b)
    exact = point.exact.modes[:, :d]
    C, Z, W = (
        np.abs(x.astype(float)) for x in (point.exact.covariance, np.hstack(point.exact.Z), point.exact.W[:, :d])
    )
    size = np.linalg.norm(C @ Z.T @ W, axis=0)
    return max(relative_error(found[:, w], exact[:, w], size[w]) for w in range(d))


def to_user(point: Point, b: np.ndarray) -> np.ndarray:
    """Effects of the kernels' columns -> effects of the user's."""
    out, at = np.empty_like(b), 0
    for level, M in zip(point.levels, point.stats.maps, strict=True):
        block = b[at : at + level.q].reshape(level.m, level.r, -1)
        out[at : at + level.q] = (np.linalg.inv(M) @ block).reshape(level.q, *b.shape[1:])
        at += level.q
    return out


def drawn_covariance(point: Point) -> float:
    """Covariance of draws (their response to each unit vector), relative to sqrt(C_ii C_jj)."""
    q, d = point.stats.layout.q, len(point.v)
    response = np.column_stack([point.factor.draw(np.zeros(d), 1.0, z) for z in np.eye(q)])
    found, exact = to_user(point, response), point.exact.covariance
    size = np.array([mp.sqrt(x) for x in np.diag(exact)], dtype=object)
    return relative_error(found @ found.T, exact, np.outer(size, size))


def variances(point: Point) -> float:
    """Blocks of the conditional covariance, one per group, relative to their largest entry."""
    d = len(point.v)
    flat = point.factor.adjoint(1.0, np.zeros((d, d))).variances
    worst, at, o = 0.0, 0, 0
    for level, M in zip(point.levels, point.stats.maps, strict=True):
        for _ in range(level.m):
            back = np.linalg.inv(M)
            found = back @ flat[at : at + level.r**2].reshape(level.r, level.r) @ back.T
            exact = point.exact.covariance[o : o + level.r, o : o + level.r]
            worst = max(worst, relative_error(found, exact, max(abs(exact).ravel())))
            at, o = at + level.r**2, o + level.r
    return worst


QUANTITIES = [
    log_determinant,
    products,
    log_density,
    gradient_of_log_density,
    gradient_of_log_determinant,
    gradient_of_products,
    modes,
    drawn_covariance,
    variances,
]


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_ten_digits_at_every_variance_ratio(case, quantity):
    bound = WIDER.get(quantity.__name__, {}).get(case.name, PROMISE)
    for point in points(case.name):
        assert quantity(point) <= bound, f"lambda at {point.scales}"


def test_what_falls_short_does_so_at_the_ends_only():
    """Between variance ratios of 1e-6 and 1e6 everything keeps the promise, crossed levels included."""
    for case in CASES:
        levels = build(case.name).design.levels
        for scale in (1e-3, 1.0, 30.0):
            point = Point(case, (scale,) * len(levels))
            for quantity in (log_density, gradient_of_log_density, drawn_covariance, modes):
                if case.name != "far from zero":
                    assert quantity(point) <= PROMISE, (case.name, scale, quantity.__name__)


def test_the_reference_gradient_is_that_of_the_reference_value():
    """The 40-digit formula against central differences of 40-digit values."""
    design = build("nested with slopes").design
    W = np.column_stack([design.X, design.y])
    v = np.linspace(-1, 1, W.shape[1])
    lambdas = [lift(lam) for lam in factors(design.levels, (0.5, 2.0))]
    step = mpf(10) ** -12

    def value(k, i, j, change):
        moved = [lam.copy() for lam in lambdas]
        moved[k][i, j] += change
        exact = Exact(levels=design.levels, lambdas=tuple(moved), W=W)
        return 3 * exact.logdet + lift(v) @ exact.T @ lift(v)

    gradient = Exact(levels=design.levels, lambdas=tuple(lambdas), W=W).gradient(3.0, np.outer(v, v))
    for k, level in enumerate(design.levels):
        for i, j in zip(*np.tril_indices(level.r), strict=True):
            slope = (value(k, i, j, step) - value(k, i, j, -step)) / (2 * step)
            assert abs(slope - gradient[k][i, j]) < 1e-18 * abs(slope)


# At lambda = 0, the boundary of ML


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_at_zero_everything_is_that_of_ordinary_least_squares(case):
    stats = build(case.name).statistics
    factor = factorise_statistics(stats, np.zeros(stats.layout.n_lambda))
    back = factor.adjoint(1.0, np.eye(len(factor.T)))
    assert factor.logdet == 0
    np.testing.assert_allclose(factor.T, stats.WtW, atol=1e-14 * case.n)
    for nothing in (back.gradient, back.b, back.variances):
        assert np.all(nothing == 0)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_near_zero_the_gradient_is_twice_the_curvature_times_lambda(case):
    """d/dlambda = 2 (...) lambda: halving a small lambda halves the gradient, down to any size."""
    stats = build(case.name).statistics
    levels = stats.design.levels
    Tbar = np.ones_like(stats.WtW)
    gradients = [
        factorise_statistics(stats, stats.flatten(factors(levels, (scale,) * len(levels)))).adjoint(1.0, Tbar).gradient
        for scale in (1e-9, 1e-150)
    ]
    np.testing.assert_allclose(gradients[0] * 1e-141, gradients[1], rtol=1e-10, atol=1e-12 * abs(gradients[1]).max())


# Draws and modes against `density`, the dense formulas in ordinary numbers


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_draws_have_the_conditional_moments(case):
    """A draw is linear in its normals: at 0 it is the mean, at unit vectors a root of the covariance."""
    point = Point(case, (1.0,) * len(build(case.name).design.levels))
    design, stats, sigma = point.lmm.design, point.stats, 0.7 * case.noise
    beta = np.linalg.lstsq(design.X, design.y)[0] + 0.1
    v = np.append(stats.gamma - stats.upper @ beta, stats.scale)
    mean, cov = density.conditional_moments(
        design.y, design.X, design.Z, beta, sigma**2, _stack(relative_G(design.levels, point.lambdas))
    )
    zero = np.zeros(design.q)
    centre = point.factor.draw(v, sigma, zero)
    response = np.column_stack([point.factor.draw(v, sigma, z) - centre for z in np.eye(design.q)])
    root = to_user(point, response)
    rtol = 1e-9 if case.shift else 1e-11
    np.testing.assert_allclose(to_user(point, centre[:, None])[:, 0], mean, rtol=0, atol=rtol * abs(mean).max())
    np.testing.assert_allclose(root @ root.T, cov, rtol=0, atol=rtol * abs(cov).max())


def _stack(blocks):
    from scipy.linalg import block_diag

    return block_diag(*blocks)


# Designs made at random


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_designs(data):
    """Any labels, any of these formulas: log|V0|, T and the gradient are those of the dense formula."""
    n = data.draw(st.integers(8, 24), label="rows")
    formula = data.draw(
        st.sampled_from(
            [
                "(1 | g) + (1 | h)",
                "(1 + x | g) + (1 | h) + (1 | g:h)",
                "(1 + x || g) + (0 + x | k)",
                "(1 | g/h) + (1 + x | k)",
                "(1 | g/h/k)",
                "(1 | g) + (1 | h) + (1 | k)",
                "(1 + x + w | h) + (1 | g)",
                "(0 + h | g)",
            ]
        ),
        label="formula",
    )
    columns = {}
    for name in "ghk":
        m = data.draw(st.integers(2, 5))
        labels = data.draw(st.lists(st.integers(0, m - 1), min_size=n - 2, max_size=n - 2))
        columns[name] = ["abcde"[i] for i in [0, 1, *labels]]
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    numbers = {"y": rng.normal(size=n), "x": rng.normal(3, 1, n), "w": rng.normal(size=n)}
    try:
        design = LMM(f"y ~ 1 + x + {formula}", columns | numbers).design
    except DataError:
        return  # refused in words, such as every group with one row: that is specified elsewhere
    stats = build_statistics(design)
    sizes = [data.draw(st.sampled_from([0.0, 0.01, 0.5, 3.0, 50.0])) for _ in design.levels]
    lambdas = factors(design.levels, sizes)
    factor = factorise_statistics(stats, stats.flatten(lambdas))
    exact = Exact(levels=design.levels, lambdas=tuple(lambdas), W=make_basis(design.X, design.y, design.levels).W)
    size = np.array([mp.sqrt(x) for x in np.diag(exact.T)], dtype=object)
    assert abs(factor.logdet - exact.logdet) <= 1e-11 * max(1, abs(exact.logdet))
    assert relative_error(factor.T, exact.T, np.outer(size, size)) <= 1e-9
    flat = factor.adjoint(1.0, np.eye(len(factor.T))).gradient
    gradient = exact.gradient(1.0, np.eye(len(factor.T)))
    for M, span, block in zip(stats.maps, stats.lambda_slices, gradient, strict=True):
        found = M.T @ flat[span].reshape(block.shape)
        assert relative_error(np.tril(found), np.tril(block), norm(gradient)) <= 1e-10


# The plan of elimination


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("nested", []),
        ("nested in three", []),
        ("nested with slopes", []),
        ("same grouping twice", []),
        ("crossed", ["h"]),
        ("crossed in three", ["h", "k"]),
        ("nested and crossed with slopes", ["h"]),
    ],
)
def test_only_what_is_crossed_with_the_nested_chain_is_dense(name, tail):
    stats = build(name).statistics
    labels = [level.label for level in stats.design.levels]
    assert sorted(labels[k] for k in stats.plan.tail) == tail
    assert stats.layout.zz_tail.shape == (stats.plan.tail_columns,) * 2


def test_memory_of_a_nested_design_is_linear_in_its_groups():
    """Arrays of the factorisation of 2 x the groups hold 2 x the numbers: nothing is q x q."""
    sizes = []
    for groups in (100, 200):
        inner = np.repeat(np.arange(groups * 3), 2)
        data = {"y": np.random.default_rng(1).normal(size=inner.size), "a": inner // 6, "b": inner}
        stats = LMM("y ~ 1 + (1 | a) + (1 | b)", {k: v.tolist() for k, v in data.items()}).statistics
        factor = factorise_statistics(stats, stats.flatten([np.eye(1)] * 2))
        arrays = [getattr(stats.layout, name) for name in ("zz", "parent", "order", "zt", "maps", "columns")]
        sizes.append(sum(a.size for a in (*arrays, *factor.parts)))
    assert sizes[1] <= 2 * sizes[0]


# Numbers of ordinary life, far from zero


@pytest.mark.parametrize("reml", [False, True])
def test_fitting_a_million_plus_or_minus_a_third(reml):
    """y = 1e6 +- 0.3 gives the fit of y - 1e6, to the digits that y itself has left (1e-10 of 0.3)."""
    far = BY_NAME["far from zero"]
    data = far.data()
    near = data | {"y": [value - 1e6 for value in data["y"]]}
    fits = [LMM(far.formula, d) for d in (data, near)]
    fits = [lmm.reml() if reml else lmm.ml() for lmm in fits]
    assert fits[0].loglik == pytest.approx(fits[1].loglik, abs=1e-8)
    assert fits[0].sigma == pytest.approx(fits[1].sigma, rel=1e-7)
    assert fits[0].sds[0][0] == pytest.approx(fits[1].sds[0][0], abs=1e-7)
    assert fits[0].fixef["Intercept"] - 1e6 == pytest.approx(fits[1].fixef["Intercept"], abs=1e-8)
    assert fits[0].fixef["x"] == pytest.approx(fits[1].fixef["x"], abs=1e-8)
