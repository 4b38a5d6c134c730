"""The sparse tail gives the numbers of the dense one, and those of dense matrices: every kernel, every output."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import twins
from exact import Exact, mp, norm, relative_error
from registry import BY_NAME, CASES, factors
from scipy import sparse
from scipy.linalg import block_diag

import bayeslmm as blm
from bayeslmm.design.design import Design
from bayeslmm.errors import DataError
from bayeslmm.factorisation import plan
from bayeslmm.factorisation.conditioning import make_basis
from bayeslmm.factorisation.effect_covariances import EffectCovariances
from bayeslmm.factorisation.factor import evaluate_and_draw, evaluate_many, factorise_statistics
from bayeslmm.factorisation.kernels import graph
from bayeslmm.factorisation.kernels.symbolic import analyse
from bayeslmm.factorisation.pattern import Pattern, make_pattern, tail_graph
from bayeslmm.factorisation.plan import Plan, dense_plan
from bayeslmm.factorisation.statistics import Statistics, build_statistics
from bayeslmm.integration.rows import build_rows


def schools(seed=0, *, schools=6, teachers=4, pupils=30, movers=0.1):
    """Pupils in three grades, a teacher in each; some change school in between. Rows in no order."""
    rng = np.random.default_rng(seed)
    rows = []
    for pupil in range(pupils * schools):
        school = pupil % schools
        for grade in range(3):
            if rng.random() < movers:
                school = int(rng.integers(schools))
            rows.append((pupil, school, int(rng.integers(teachers)) + teachers * (grade + 3 * school)))
    pupil, school, teacher = np.array(rows)[rng.permutation(len(rows))].T
    x, w = rng.normal(2, 1, len(rows)), rng.normal(0, 3, len(rows))
    u2, u3 = rng.normal(size=pupil.max() + 1), rng.normal(size=teacher.max() + 1)
    y = u2[pupil] + u3[teacher] + rng.normal(size=len(rows))
    district = school // 2
    return {"y": y, "x": x, "w": w, "pupil": pupil, "school": school, "teacher": teacher, "district": district}


# formula, what makes the data: partially crossed, each a kind of its own
DESIGNS = {
    "pupils and teachers": ("(1 | pupil) + (1 | teacher)", {}),
    "pupils, teachers, schools": ("(1 | pupil) + (1 | teacher) + (1 | school)", {}),
    "no movers": ("(1 | pupil) + (1 | teacher) + (1 | school)", {"movers": 0.0}),
    "everybody moves": ("(1 | pupil) + (1 | teacher) + (1 | school)", {"movers": 0.9}),
    "slopes of pupils": ("(1 + x | pupil) + (1 | teacher) + (1 | school)", {}),
    "slopes of teachers": ("(1 | pupil) + (1 + x | teacher) + (1 | school)", {}),
    "slopes in all of the tail": ("(1 | pupil) + (1 + x | teacher) + (1 + x + w | school)", {}),
    "slopes everywhere": ("(1 + x | pupil) + (1 + w | teacher) + (1 + x || school)", {}),
    "teachers twice": ("(1 | pupil) + (1 | teacher) + (0 + x | teacher)", {}),
    "a nested chain": ("(1 + x | pupil) + (1 | teacher) + (1 + x | school) + (1 | district)", {"movers": 0.02}),
    "many schools": ("(1 | pupil) + (1 | teacher) + (1 + x | school)", {"schools": 40, "pupils": 8, "movers": 0.03}),
}  # fmt: skip
CROSSED = [case.name for case in CASES if "crossed" in case.name]


@cache
def design(name: str) -> Design:
    if name in BY_NAME:
        return BY_NAME[name].lmm().design
    formula, options = DESIGNS[name]
    return blm.LMM(f"y ~ 1 + x + {formula}", schools(**options)).design


@cache
def both(name: str) -> tuple[Statistics, Statistics]:
    """The statistics of a design for a sparse and for a dense tail."""
    of = design(name)
    return build_statistics(of, forced(of)), build_statistics(of, dense_plan(of))


def forced(of: Design) -> Plan:
    """The plan with a sparse tail, of whatever size."""
    dense = dense_plan(of)
    return replace(dense, pattern=make_pattern(of, dense.chain, dense.tail))


def ordinary(stats: Statistics, scale: float = 0.8) -> np.ndarray:
    return stats.flatten(factors(stats.design.levels, (scale,) * len(stats.design.levels)))


def close(found, expected, digits=1e-10):
    scale = max(1e-300, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=digits * scale)


def unpacked(pattern: Pattern, packed: np.ndarray) -> np.ndarray:
    """The symmetric matrix, in the tail's own order, zero where nothing is stored."""
    q = len(pattern.place)
    a, b = np.meshgrid(pattern.place, pattern.place, indexing="ij")
    where, there = pattern.find(a.ravel(), b.ravel())
    return np.where(there, packed[where], 0.0).reshape(q, q)


# The pattern ----------------------------------------------------------------------------------------------------------


def random_graph(rng, n, density):
    A = sparse.random_array((n, n), density=density, rng=rng)
    A = (A + A.T).tocsr()
    A.setdiag(0)
    A.eliminate_zeros()
    A.sort_indices()
    return A


@pytest.mark.parametrize("size", [2, 90])
def test_nodes_that_a_unit_has_together_are_joined(size):
    """With few nodes a unit, and with so many that bits are quicker."""
    rng = np.random.default_rng(6)
    unit, nodes = rng.integers(0, 12, 12 * size), rng.integers(0, 40, (2, 12 * size)) + np.array([[0], [40]])
    meets = np.zeros((12, 80), dtype=bool)
    meets[unit, nodes] = True
    starts, neighbours, whole = graph.joined(unit, nodes, 12, 80, np.inf)
    found = sparse.csr_array((np.ones(len(neighbours), dtype=bool), neighbours, starts), shape=(80, 80)).toarray()
    assert whole
    np.testing.assert_array_equal(found, twins.joined(meets))
    assert not graph.joined(unit, nodes, 12, 80, 3.0)[2]


def test_the_order_is_about_as_good_as_by_exact_degrees():
    rng = np.random.default_rng(1)
    found, exact = [], []
    for _ in range(40):
        n = int(rng.integers(1, 50))
        A, weights = random_graph(rng, n, rng.uniform(0, 0.2)), rng.integers(1, 4, n)
        column = analyse(A.indptr.astype(np.int64), A.indices.astype(np.int64), weights, 10_000, np.inf)[0][0]
        order = np.argsort(column)
        assert sorted(order) == list(range(n))
        joined = A.toarray() != 0
        found.append(weights @ twins.eliminate(joined, order) @ weights)
        exact.append(weights @ twins.eliminate(joined, twins.least_degree_order(joined, weights)) @ weights)
    assert sum(found) <= 1.05 * sum(exact)


@pytest.mark.parametrize("name", [*DESIGNS, *CROSSED])
def test_the_pattern_has_all_that_elimination_fills_and_little_else(name):
    stats, _ = both(name)
    pattern = stats.plan.pattern
    starts, neighbours = tail_graph(stats.design, stats.plan.chain, stats.plan.tail)
    n = len(starts) - 1
    joined = sparse.csr_array((np.ones(len(neighbours)), neighbours, starts), shape=(n, n)).toarray() != 0
    column = pattern.sparse.column
    filled = twins.eliminate(joined, np.argsort(column))
    a, b = (x.ravel() for x in np.meshgrid(column, column, indexing="ij"))
    there = pattern.find(a, b)[1].reshape(n, n)
    assert there[filled | filled.T].all()
    assert there.sum() <= 2 * (filled | filled.T).sum() + 8 * n  # few columns are joined whatever they hold


@pytest.mark.parametrize("name", DESIGNS)
def test_products_stand_where_the_pattern_says(name):
    few, full = both(name)
    np.testing.assert_array_equal(unpacked(few.plan.pattern, few.layout.zz_tail), full.layout.zz_tail)


# Its factorisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DESIGNS, *CROSSED])
def test_the_factor_is_that_of_the_dense_matrix(name):
    stats, _ = both(name)
    factor, pattern = factorise_statistics(stats, ordinary(stats)), stats.plan.pattern
    order = np.argsort(pattern.place)
    whole = dense_tail(stats, factor)[np.ix_(order, order)]
    U = twins.packed_cholesky(whole, pattern)
    close(factor.parts.Lt[0][U != 0], U[U != 0])


def dense_tail(stats: Statistics, factor) -> np.ndarray:
    """I + Lambda' S Lambda, in the tail's own order."""
    S, Lam = unpacked(stats.plan.pattern, factor.parts.S[0]), tail_lambda(stats, factor)
    return np.eye(len(S)) + Lam.T @ S @ Lam


def tail_lambda(stats: Statistics, factor) -> np.ndarray:
    levels = stats.design.levels
    lam = [factor.lam[span].reshape(level.r, level.r) for span, level in zip(stats.lambda_slices, levels, strict=True)]
    return block_diag(*[lam[k] for k in stats.plan.tail for _ in range(levels[k].m)])


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.5, 30.0, 1e3])
@pytest.mark.parametrize("name", [*DESIGNS, *CROSSED])
def test_every_output_is_that_of_the_dense_tail(name, scale):
    few, full = both(name)
    lam = ordinary(few, scale)
    one, two = factorise_statistics(few, lam), factorise_statistics(full, lam)
    d = len(one.T)
    Tbar = np.fromfunction(lambda i, j: 1 / (1 + i + j), (d, d))
    # what is lost where the tail's directions are nearly shared is lost by either (`test_factor.WIDER`)
    digits = 1e-10 if scale <= 30 else 1e-7
    close(one.logdet, two.logdet)
    close(one.T, two.T)
    a, b = one.product_adjoint(0.7, Tbar), two.product_adjoint(0.7, Tbar)
    close(a.adjoint.b, b.adjoint.b, digits)
    close(a.adjoint.variances, b.adjoint.variances, digits)
    close(a.adjoint.gradient, b.adjoint.gradient, digits)
    close(a.zz, b.zz, digits)
    z = np.random.default_rng(1).normal(size=few.layout.q)
    v = np.linspace(1, 2, d)
    close(one.draw(v, 0.0, z), two.draw(v, 0.0, z), digits)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3])
@pytest.mark.parametrize("name", CROSSED)
def test_ten_digits_of_the_dense_formulas(name, scale):
    """Variance ratios of 1e-6 to 1e6, against 40 digits; at the last, as wide as a dense tail's."""
    stats, _ = both(name)
    levels = stats.design.levels
    lambdas = factors(levels, (scale,) * len(levels))
    factor = factorise_statistics(stats, stats.flatten(lambdas))
    W = make_basis(stats.design.X, stats.design.net_y, levels).W
    exact = Exact(levels=levels, lambdas=tuple(lambdas), W=W)
    v = np.append(np.linspace(0, 1, stats.design.p), 2.0)
    end = scale > 30
    assert abs(factor.logdet - exact.logdet) <= 1e-10 * abs(exact.logdet)
    assert abs(v @ factor.T @ v - v @ exact.T @ v) <= 1e-10 * abs(v @ exact.T @ v)
    flat = factor.adjoint(1.0, np.outer(v, v)).gradient
    gradient = exact.gradient(1.0, np.outer(v, v))
    for M, span, block in zip(stats.maps, stats.lambda_slices, gradient, strict=True):
        found = M.T @ flat[span].reshape(block.shape)
        assert relative_error(np.tril(found), np.tril(block), norm(gradient)) <= (1e-8 if end else 1e-10)
    q, d = stats.layout.q, len(v)
    response = np.column_stack([factor.draw(np.zeros(d), 1.0, z) for z in np.eye(q)])
    found = np.concatenate([x.reshape(-1, q) for x in _effects(stats, response)])
    size = np.array([mp.sqrt(x) for x in np.diag(exact.covariance)], dtype=object)
    digits = 1e-8 if end else 1e-10
    assert relative_error(found @ found.T, exact.covariance, np.outer(size, size)) <= digits


def _effects(stats: Statistics, b: np.ndarray) -> list[np.ndarray]:
    """Effects as written, (m, r, columns) per level, of the kernels' (q, columns)."""
    return [np.moveaxis(u, 0, -1) for u in stats.effects(b.T)]


@pytest.mark.parametrize("name", ["slopes everywhere", "a nested chain", "crossed in three"])
def test_the_covariance_is_that_of_the_dense_matrix_on_the_pattern(name):
    stats, _ = both(name)
    factor, pattern = factorise_statistics(stats, ordinary(stats)), stats.plan.pattern
    order = np.argsort(pattern.place)
    d = len(factor.T)
    C = factor.product_adjoint(1.0, np.zeros((d, d))).zz_tail
    place = np.ix_(order, order)
    inverse = twins.packed_covariance(dense_tail(stats, factor)[place], tail_lambda(stats, factor)[place], pattern)
    row, column = np.triu_indices(len(order))
    where, there = pattern.find(row, column)
    twice = np.where(row == column, 1.0, 2.0)  # a product that is stored once counts twice
    close(C[where[there]], (twice * inverse[where])[there])


def test_every_stored_product_has_the_slope_that_finite_differences_see():
    stats, _ = both("slopes everywhere")
    lam, d = ordinary(stats), len(stats.WtW)
    rng = np.random.default_rng(4)
    where = np.flatnonzero(stats.layout.zz_tail)
    change = np.zeros_like(stats.layout.zz_tail)
    change[where] = rng.normal(size=where.size)
    Tbar = np.eye(d)

    def value(t):
        moved = replace(stats, layout=replace(stats.layout, zz_tail=stats.layout.zz_tail + t * change))
        factor = factorise_statistics(moved, lam)
        return factor.logdet + np.trace(factor.T)

    slope = (8 * (value(1e-4) - value(-1e-4)) - (value(2e-4) - value(-2e-4))) / 12e-4
    pulled = factorise_statistics(stats, lam).product_adjoint(1.0, Tbar)
    assert change @ pulled.zz_tail == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("name", ["slopes everywhere", "a nested chain", "many schools"])
def test_many_at_once_are_the_same(name):
    few, full = both(name)
    rng = np.random.default_rng(1)
    lams = np.stack([ordinary(few, scale) for scale in (0.0, 0.2, 0.2, 1.0, 5.0)])
    one, two = evaluate_many(few, lams), evaluate_many(full, lams)
    close(one[0], two[0])
    close(one[1], two[1])
    z, sigma = rng.normal(size=(5, few.layout.q)), np.zeros(5)  # the same z give other draws of the same distribution
    drawn = [evaluate_and_draw(s, lams, None, sigma, z, lambda rows, T: T[:, 0])[2] for s in (few, full)]
    close(*drawn)


def test_residuals_with_parameters():
    """R^-1 as a sum of terms: the products of each of them are packed, and their derivatives follow."""
    data = schools()
    lmm = blm.LMM(
        "y ~ 1 + x + (1 | pupil) + (1 + x | teacher) + (1 | school)", data,
        residual=blm.Residual(structure="ar1", group="pupil"),
    )  # fmt: skip
    stats = [build_statistics(lmm.design, plan) for plan in (forced(lmm.design), dense_plan(lmm.design))]
    at = [s.at([0.4]) for s in stats]
    lam, d = ordinary(at[0]), len(at[0].WtW)
    factors = [factorise_statistics(s, lam) for s in at]
    close(factors[0].logdet, factors[1].logdet)
    close(factors[0].T, factors[1].T)
    bars = [f.product_adjoint(0.7, np.eye(d)) for f in factors]
    close(*(s.products.inner(bar) for s, bar in zip(stats, bars, strict=True)))
    coefs = np.array([lmm.design.residual.coefficients([rho]) for rho in (0.1, 0.4)], dtype=float)
    many = [evaluate_many(s, np.stack([lam, lam]), coefs) for s in stats]
    close(many[0][0], many[1][0])


@pytest.mark.parametrize("name", ["slopes everywhere", "a nested chain", "many schools"])
def test_covariances_of_any_effects(name):
    """Those that meet are looked up, the others solved for: the same quadratic forms."""
    few, full = both(name)
    rng = np.random.default_rng(2)
    found = []
    for stats in (few, full):
        covariances = EffectCovariances(
            stats=stats, factor=factorise_statistics(stats, ordinary(stats)), means=[None] * len(stats.design.levels)
        )
        rng = np.random.default_rng(2)
        Z = sparse.random_array((40, covariances.size), density=6 / covariances.size, rng=rng).tocsr()
        found.append(covariances.quadratic(Z))
    close(*found)


def test_rows_with_weights_of_their_own():
    """The products by row of a generalised model: Z'WZ packed, and z'C z of each row."""
    data = schools() | {"hit": (schools()["y"] > 0).astype(int)}
    lmm = blm.GLMM("hit ~ 1 + (1 + x | pupil) + (1 + x | teacher) + (1 | school)", data, family="bernoulli")
    found = []
    for chosen in (forced(lmm.design), dense_plan(lmm.design, weights_vary=True)):
        rows = build_rows(lmm.design, plan=chosen)
        rng = np.random.default_rng(3)
        weights, right = rng.uniform(0.1, 0.3, lmm.design.n), rng.normal(size=rows.layout.q)
        lam = np.concatenate([0.5 * np.eye(level.r).ravel() for level in lmm.design.levels])
        factor = rows.factorise(weights, lam, right)
        bar = factor.product_adjoint(1.0, np.zeros((1, 1)))
        found.append((factor.logdet, bar.adjoint.b, rows.by_row(bar)))
    for one, two in zip(*found, strict=True):
        close(one, two)


# In a graph -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("products", [False, True])
def test_the_op_is_the_kernel(products):
    import pytensor
    import pytensor.tensor as pt

    from bayeslmm.pymc_models.factor_op import log_det_and_T, pack_layout

    stats, _ = both("slopes everywhere")
    d = len(stats.WtW)
    ints, floats = (x.data for x in pack_layout(stats.layout, stats.winspan))
    lam, packed = pt.dvector("lam"), (pt.constant(ints), pt.dvector("floats"))
    fixed = (pt.constant(stats.ZtW), pt.constant(stats.WtW))
    logdet, T = log_det_and_T(lam, *fixed, packed, products=products, sparse=True)
    value = 0.7 * logdet + (T * pt.constant(np.eye(d))).sum()
    wanted = [lam, packed[1]] if products else [lam]
    f = pytensor.function([lam, packed[1]], [value, *pytensor.grad(value, wanted)], mode="FAST_COMPILE")
    found = f(ordinary(stats), floats)
    factor = factorise_statistics(stats, ordinary(stats))
    bar = factor.product_adjoint(0.7, np.eye(d))
    close(found[0], 0.7 * factor.logdet + np.trace(factor.T))
    close(found[1], bar.adjoint.gradient)
    if products:
        close(found[2][:-1], np.concatenate([bar.zz, bar.zz_tail, bar.zt]))


# Which plan, and what is said of it -----------------------------------------------------------------------------------


def test_where_few_groups_meet_the_tail_is_sparse():
    lmm = blm.LMM("y ~ 1 + (1 | pupil) + (1 | teacher)", schools(schools=60, movers=0.01))
    assert lmm.statistics.plan.pattern is not None
    text = " ".join(lmm.explain().split())
    assert "Sparse tail: 720 columns (u3 (teacher) with 720)" in text
    assert "where a dense one takes 1.1 Gflops" in text


def test_where_many_meet_or_there_are_few_columns_it_is_dense():
    for data in (schools(schools=60, movers=0.9), schools(movers=0.01)):
        lmm = blm.LMM("y ~ 1 + (1 | pupil) + (1 | teacher)", data)
        assert lmm.statistics.plan.pattern is None
        assert "Dense tail" in lmm.explain()


def test_the_fit_and_its_modes_do_not_depend_on_the_plan(monkeypatch):
    lmm = blm.LMM("y ~ 1 + x + (1 | pupil) + (1 | teacher)", schools(schools=30, movers=0.01))
    assert lmm.statistics.plan.pattern is not None
    fit = lmm.reml()
    monkeypatch.setattr(plan, "FEW", np.inf)
    dense = blm.LMM("y ~ 1 + x + (1 | pupil) + (1 | teacher)", schools(schools=30, movers=0.01))
    assert dense.statistics.plan.pattern is None
    other = dense.reml()
    assert fit.loglik == pytest.approx(other.loglik, abs=1e-9)
    close(*(np.asarray(x.b) for x in (fit, other)), 1e-6)  # the search ends where the likelihood has no more digits


def test_a_tail_that_is_beyond_reach_is_refused_with_what_it_takes(monkeypatch):
    monkeypatch.setattr(plan, "FLOPS", 1e5)
    lmm = blm.LMM("y ~ 1 + (1 | pupil) + (1 | teacher)", schools(schools=30, movers=0.01))
    with pytest.raises(DataError, match="flops are supported"):
        lmm.ml()


def test_the_chain_ends_below_groups_that_would_join_too_many():
    """Regions in which few teachers meet: eliminated before the teachers, each would join all of its own."""
    data = schools(schools=60, movers=0.0)
    data |= {"region": data["school"] // 20}
    lmm = blm.LMM("y ~ 1 + (1 | pupil) + (1 | teacher) + (1 | region)", data)
    levels = [level.label for level in lmm.design.levels]
    assert [levels[k] for k in dense_plan(lmm.design).chain] == ["pupil", "region"]
    assert [levels[k] for k in lmm.statistics.plan.chain] == ["pupil"]
    stats = lmm.statistics, build_statistics(lmm.design, dense_plan(lmm.design))
    one, two = (factorise_statistics(s, ordinary(s)) for s in stats)
    close(one.logdet, two.logdet)
    close(one.T, two.T)
    a, b = (f.adjoint(1.0, np.eye(len(f.T))) for f in (one, two))
    close(a.gradient, b.gradient)
    close(a.variances, b.variances)


def test_without_a_chain_everything_is_in_the_tail():
    """Where no level can be eliminated group by group, as where residuals of different groups are correlated."""
    of = design("slopes everywhere")
    everything = tuple(range(len(of.levels)))
    columns = sum(level.q for level in of.levels)
    whole = Plan(chain=(), tail=everything, tail_columns=columns, pattern=make_pattern(of, (), everything))
    stats = build_statistics(of, whole), build_statistics(of, dense_plan(of))
    one, two = (factorise_statistics(s, ordinary(s)) for s in stats)
    close(one.logdet, two.logdet)
    close(one.T, two.T)
    a, b = (f.adjoint(1.0, np.eye(len(f.T))) for f in (one, two))
    close(a.gradient, b.gradient)
    close(a.variances, b.variances)
    close(a.b, b.b)


def test_correlated_rows_of_different_groups_meet():
    """Pairs of rows that share neither pupil nor teacher, but a residual correlation."""
    data = schools()
    data |= {"pair": np.random.default_rng(5).permutation(len(data["y"])) // 2}
    residual = blm.Residual(structure="cs", group="pair")
    of = blm.LMM("y ~ 1 + x + (1 | pupil) + (1 | teacher)", data, residual=residual).design
    assert dense_plan(of).chain == ()
    stats = [build_statistics(of, chosen).at([0.3]) for chosen in (forced(of), dense_plan(of))]
    one, two = (factorise_statistics(s, ordinary(s)) for s in stats)
    close(one.logdet, two.logdet)
    close(one.T, two.T)
    a, b = (f.product_adjoint(1.0, np.eye(len(f.T))) for f in (one, two))
    close(a.adjoint.gradient, b.adjoint.gradient)
    close(a.adjoint.variances, b.adjoint.variances)


@pytest.mark.parametrize("name", ["slopes everywhere", "a nested chain"])
def test_draws_have_the_conditional_covariance(name):
    """A draw's response to unit normals is a root of the covariance, whose blocks the variances are."""
    stats, full = both(name)
    factor, dense = (factorise_statistics(s, ordinary(s)) for s in (stats, full))
    q, d = stats.layout.q, len(factor.T)
    response = np.column_stack([factor.draw(np.zeros(d), 1.0, z) for z in np.eye(q)])
    expected = np.column_stack([dense.draw(np.zeros(d), 1.0, z) for z in np.eye(q)])
    close(response @ response.T, expected @ expected.T)


def test_at_zero_nothing_is_left_of_the_effects():
    stats, _ = both("slopes everywhere")
    factor = factorise_statistics(stats, np.zeros(stats.layout.n_lambda))
    back = factor.adjoint(1.0, np.eye(len(factor.T)))
    assert factor.logdet == 0
    np.testing.assert_allclose(factor.T, stats.WtW, atol=1e-14 * stats.design.n)
    for nothing in (back.gradient, back.b, back.variances):
        assert np.all(nothing == 0)


def test_near_zero_a_small_log_determinant_keeps_its_digits():
    """log|I + N| = tr N - tr N^2 / 2 + ..., here 1e-12: halving lambda leaves a quarter, and half of the gradient."""
    stats, _ = both("slopes everywhere")
    one, two = (factorise_statistics(stats, ordinary(stats, scale)) for scale in (1e-8, 0.5e-8))
    assert one.logdet == pytest.approx(4 * two.logdet, rel=1e-10)
    a, b = (f.adjoint(1.0, np.zeros((len(f.T),) * 2)).gradient for f in (one, two))
    close(a, 2 * b)


def test_what_overflows_is_nan_as_with_a_dense_tail():
    for stats in both("slopes everywhere"):
        assert np.isnan(factorise_statistics(stats, ordinary(stats, 1e200)).logdet)


def test_a_tail_that_is_too_large_to_be_dense_is_sparse_though_slower(monkeypatch):
    monkeypatch.setattr(plan, "PER_FLOP", 1e9)
    data = schools(schools=30, movers=0.01)
    lmm = blm.LMM("y ~ 1 + (1 | pupil) + (1 | teacher)", data)
    assert lmm.statistics.plan.pattern is None
    monkeypatch.setattr(plan, "NUMBERS", lmm.statistics.plan.tail_columns**2 - 1)
    lmm = blm.LMM("y ~ 1 + (1 | pupil) + (1 | teacher)", data)
    assert lmm.statistics.plan.pattern is not None
