"""The gradient with respect to the cross-products themselves: finite differences, an identity, and the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from registry import BY_NAME, CASES, factors
from scipy.linalg import block_diag

from bayeslmm.factorisation import layout as blocks
from bayeslmm.factorisation import statistics
from bayeslmm.factorisation.factor import Factor, factorise
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.pymc_models.factor_op import FLOATS, log_det_and_T, pack_layout

DESIGNS = [
    "unbalanced",
    "three effects",
    "nested",
    "nested in three",
    "nested with slopes",
    "crossed",
    "crossed in three",
    "crossed with slopes",
    "nested and crossed with slopes",
]


@pytest.fixture
def unmasked(monkeypatch):
    """Statistics in which no column is marked as lying in the span of a level, at lambdas of ordinary size.

    Each group's own products are those plus the identity: positive definite, so that a small change leaves them so.
    """

    def build(name: str) -> tuple[Statistics, np.ndarray]:
        for module in (statistics, blocks):
            monkeypatch.setattr(module, "in_span", lambda level, own, columns: np.zeros(columns.shape[1], dtype=bool))
        stats = statistics.build_statistics(BY_NAME[name].lmm().design)
        assert not stats.layout.inspan.any()
        assert not stats.winspan.any()
        zz = stats.layout.zz.copy()
        for rows, r in own_blocks(stats, zz):
            rows[:, :, :r] += np.eye(r)
        stats = replace(stats, layout=replace(stats.layout, zz=zz))
        return stats, stats.flatten(factors(stats.design.levels, (0.7,) * len(stats.design.levels)))

    return build


def own_blocks(stats: Statistics, zz: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Per chain level a view (groups, r, r + ancestors) of zz, and r."""
    found, at = [], 0
    for level in stats.layout.chain:
        groups, r, ancestors = level[1:4]
        found.append((zz[at : at + groups * r * (r + ancestors)].reshape(groups, r, r + ancestors), int(r)))
        at += groups * r * (r + ancestors)
    assert at == zz.size
    return found


def moved(stats: Statistics, lam: np.ndarray, t: float, direction: dict[str, np.ndarray]) -> Factor:
    """The factorisation of cross-products + t * direction."""
    st = replace(stats.layout, **{name: getattr(stats.layout, name) + t * direction[name] for name in FLOATS})
    return factorise(
        st, lam, stats.ZtW + t * direction["ZtW"], stats.WtW + t * direction["WtW"],
        np.zeros(stats.winspan.shape, dtype=bool),
    )  # fmt: skip


def directions(stats: Statistics) -> list[dict[str, np.ndarray]]:
    """A random change of each stored array by itself; blocks that are symmetric stay so."""
    rng = np.random.default_rng(3)
    sizes = {name: getattr(stats.layout, name) for name in FLOATS} | {"ZtW": stats.ZtW, "WtW": stats.WtW}
    whole = {name: rng.normal(size=x.shape) for name, x in sizes.items()}
    for rows, r in own_blocks(stats, whole["zz"]):
        rows[:, :, :r] = (rows[:, :, :r] + rows[:, :, :r].transpose(0, 2, 1)) / 2
    for name in ("zz_tail", "WtW"):
        whole[name] = (whole[name] + whole[name].T) / 2
    nothing = {name: np.zeros_like(x) for name, x in whole.items()}
    return [nothing | {name: whole[name]} for name in whole if whole[name].size]


def cotangents(stats: Statistics) -> tuple[float, np.ndarray]:
    d = len(stats.WtW)
    return 1.3, np.outer(np.linspace(-1, 1, d), np.linspace(0.5, 2, d)) + np.eye(d)


def functional(factor: Factor, a: float, Tbar: np.ndarray) -> float:
    return a * factor.logdet + np.sum(Tbar * factor.T)


@pytest.mark.parametrize("name", DESIGNS)
def test_every_stored_product_has_the_slope_that_finite_differences_see(name, unmasked):
    stats, lam = unmasked(name)
    a, Tbar = cotangents(stats)
    pulled = moved(stats, lam, 0.0, directions(stats)[0]).product_adjoint(a, Tbar)
    step = 1e-4  # the fourth-order rule's error is 1e-16 of the fifth derivative, its rounding 1e-12 of the value
    for direction in directions(stats):
        f = {t: functional(moved(stats, lam, t * step, direction), a, Tbar) for t in (-2, -1, 1, 2)}
        slope = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * step)
        expected = sum(np.sum(getattr(pulled, key) * change) for key, change in direction.items())
        assert expected == pytest.approx(slope, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_scaling_the_products_is_scaling_lambda(case, unmasked):
    """f(lambda, s Z'Z, Z'W) = f(sqrt(s) lambda, Z'Z, Z'W / sqrt(s)), differentiated at s = 1."""
    stats, lam = unmasked(case.name)
    factor = factorise(stats.layout, lam, stats.ZtW, stats.WtW, stats.winspan)
    pulled = factor.product_adjoint(*cotangents(stats))
    left = sum(np.sum(getattr(pulled, name) * getattr(stats.layout, name)) for name in FLOATS)
    parts = pulled.adjoint.gradient @ lam, np.sum(pulled.ZtW * stats.ZtW)
    assert left == pytest.approx((parts[0] - parts[1]) / 2, abs=1e-10 * max(abs(x) for x in parts))


@pytest.mark.parametrize("name", ["nested with slopes", "nested and crossed with slopes"])
def test_the_ordinary_adjoint_is_part_of_it(name, unmasked):
    stats, lam = unmasked(name)
    factor = factorise(stats.layout, lam, stats.ZtW, stats.WtW, stats.winspan)
    a, Tbar = cotangents(stats)
    plain, pulled = factor.adjoint(a, Tbar), factor.product_adjoint(a, Tbar)
    for key in ("b", "variances", "gradient"):
        np.testing.assert_array_equal(getattr(pulled.adjoint, key), getattr(plain, key))
    np.testing.assert_array_equal(pulled.WtW, (Tbar + Tbar.T) / 2)


def test_of_one_level_it_is_the_covariance_and_the_modes(unmasked):
    """Per group a C_j + b_j Tbar b_j', with C from the dense formula."""
    stats, lam = unmasked("slope")
    a, Tbar = cotangents(stats)
    factor = factorise(stats.layout, lam, stats.ZtW, stats.WtW, stats.winspan)
    m, L = 4, lam.reshape(2, 2)
    Z = block_diag(*stats.layout.zz.reshape(m, 2, 2))
    Lambda = block_diag(*[L] * m)
    C = Lambda @ np.linalg.inv(np.eye(2 * m) + Lambda.T @ Z @ Lambda) @ Lambda.T
    b = C @ stats.ZtW
    dense = a * C + b @ (Tbar + Tbar.T) / 2 @ b.T
    blocks = [dense[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] for j in range(m)]
    np.testing.assert_allclose(factor.product_adjoint(a, Tbar).zz.reshape(m, 2, 2), blocks, rtol=1e-11, atol=1e-13)


# In a graph


def graph(stats: Statistics, lam: np.ndarray, products: bool):
    """Log|V0| + tr(Tbar T) as an expression of t, where the packed products are their values + t * direction."""
    _, Tbar = cotangents(stats)
    ints, floats = (x.data for x in pack_layout(stats.layout, stats.winspan))
    parts = {name: sum(change[name] for change in directions(stats)).ravel() for name in FLOATS}
    direction = np.concatenate([*parts.values(), [0.0]])
    t = pt.dscalar("t")
    packed = (pt.constant(ints), pt.constant(floats) + t * pt.constant(direction))
    logdet, T = log_det_and_T(pt.constant(lam), pt.constant(stats.ZtW), pt.constant(stats.WtW), packed, products)
    return t, logdet + (pt.constant(Tbar) * T).sum()


@pytest.mark.parametrize("name", ["nested with slopes", "nested and crossed with slopes"])
def test_a_graph_differentiates_through_the_products(name, unmasked):
    stats, lam = unmasked(name)
    t, value = graph(stats, lam, products=True)
    f = pytensor.function([t], [value, pytensor.grad(value, t)], mode="FAST_COMPILE")
    step = 1e-4
    slope = (8 * (f(step)[0] - f(-step)[0]) - (f(2 * step)[0] - f(-2 * step)[0])) / (12 * step)
    assert f(0.0)[1] == pytest.approx(slope, rel=1e-7)


def test_a_graph_without_them_says_so(unmasked):
    stats, lam = unmasked("nested")
    t, value = graph(stats, lam, products=False)
    with pytest.raises(pytensor.gradient.DisconnectedInputError):
        pytensor.grad(value, t)


def test_compiled_by_numba_it_is_the_same(unmasked):
    stats, lam = unmasked("nested and crossed with slopes")
    t, value = graph(stats, lam, products=True)
    slope = pytensor.grad(value, t)
    python, numba = (pytensor.function([t], slope, mode=mode) for mode in ("FAST_COMPILE", "NUMBA"))
    assert numba(0.01) == pytest.approx(python(0.01), rel=1e-12)
