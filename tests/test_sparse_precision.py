"""Known precisions that are sparse: everything is what the dense covariance gives, without making it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from exact import forward_solve, lift, lower_root, mp, norm, relative_error
from pedigree import relationship, relationship_inverse
from registry import factors
from scipy import sparse

import bayeslmm as blm
from bayeslmm.data import sparse_precision
from bayeslmm.data.known_matrix import KnownMatrix
from bayeslmm.data.relation import DenseRelation
from bayeslmm.data.sparse_precision import SparsePrecision
from bayeslmm.design.design import Design
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.factorisation import pattern, plan
from bayeslmm.factorisation.conditioning import make_basis
from bayeslmm.factorisation.effect_covariances import EffectCovariances
from bayeslmm.factorisation.factor import effect_covariances, evaluate_and_draw, factorise_statistics
from bayeslmm.factorisation.pattern import make_pattern
from bayeslmm.factorisation.plan import Plan, dense_plan, plan_elimination
from bayeslmm.factorisation.statistics import Statistics, build_statistics


def pedigree(animals=24, founders=6, seed=0):
    """(animal, sire, dam), some of whose parents are unknown; names in no order, inbred ones among them."""
    rng = np.random.default_rng(seed)
    names = [f"a{k}" for k in rng.permutation(animals)]
    rows: list[tuple] = [(name, None, None) for name in names[:founders]]
    for k in range(founders, animals):
        sire, dam = rng.choice(np.arange(max(0, k - 8), k), 2, replace=False)
        rows.append((names[k], names[sire], names[dam] if rng.random() < 0.8 else None))
    return [rows[k] for k in rng.permutation(animals)]


def ainv(**options) -> KnownMatrix:
    matrix, labels = relationship_inverse(pedigree(**options))
    return KnownMatrix(labels=tuple(map(str, labels)), matrix=matrix, precision=True)


def car(rows=5, columns=4) -> KnownMatrix:
    """A map's conditional autoregression: neighbours share a side."""
    side = [
        sparse.diags_array([np.ones(k - 1), np.ones(k - 1)], offsets=[-1, 1], shape=(k, k)) for k in (rows, columns)
    ]
    W = sparse.kronsum(*side, format="csc")
    Q = sparse.diags_array(W.sum(axis=0)) - 0.95 * W
    return KnownMatrix(labels=tuple(f"r{k}" for k in range(rows * columns)), matrix=Q, precision=True)


def data(n=34, seed=1, animals=24):
    """Records of three in four animals, in herds and regions; few have several."""
    rng = np.random.default_rng(seed)
    own = rng.permutation(animals)[: 3 * animals // 4]
    animal = np.concatenate([own, rng.choice(own, n - len(own))]) if n > len(own) else own[:n]
    herd = rng.integers(0, 7, n)
    table = {"animal": [f"a{k}" for k in animal], "herd": herd, "farm": herd % 3, "region": [f"r{k}" for k in herd * 2]}
    x = rng.normal(2, 1, n)
    u, v = rng.normal(size=animals), rng.normal(size=7)
    return table | {"x": x, "y": 3 + x + u[animal] + 0.5 * x * u[::-1][animal] + v[herd] + rng.normal(size=n)}


# formula, its precisions: each a kind of its own
DESIGNS = {
    "a pedigree": ("(1 | animal)", {"animal": ainv()}),
    "one record each": ("(1 | animal)", {"animal": ainv()}),
    "slopes of relatives": ("(1 + x | animal)", {"animal": ainv()}),
    "independent slopes of relatives": ("(1 + x || animal)", {"animal": ainv()}),
    "crossed with herds": ("(1 | animal) + (1 + x | herd)", {"animal": ainv()}),
    "crossed with herds in farms": ("(1 + x | animal) + (1 | herd) + (1 | farm)", {"animal": ainv()}),
    "animals and themselves": ("(1 | animal) + (1 | animal)", {"u2": ainv()}),
    "two precisions": ("(1 | animal) + (1 | region)", {"animal": ainv(), "region": car()}),
    "an entirely known covariance": ("(1 | animal) + (1 | herd)", {"animal": ainv()}),
    "a map": ("(1 | region)", {"region": car()}),
}  # fmt: skip


def model(name: str) -> blm.LMM:
    formula, precision = DESIGNS[name]
    table = data(n=18 if name == "one record each" else 34)
    if name in ("animals and themselves", "an entirely known covariance"):
        known = name != "animals and themselves"
        first = blm.Level(group="animal", precision=next(iter(precision.values())), known=known)
        levels = (first, blm.Level(group="herd" if known else "animal"))
        return blm.LMM(blm.Hierarchy(response="y", fixed="1 + x", levels=levels), table)
    return blm.LMM(f"y ~ 1 + x + {formula}", table, precision=precision)


@cache
def design(name: str) -> Design:
    return model(name).design


def forced(of: Design, chain: tuple[int, ...] | None = None) -> Plan:
    """The plan with the precisions in a sparse tail, of whatever size."""
    chain = plan._longest_chain(of.levels, plan._able(of)) if chain is None else chain
    start = plan._plan(of.levels, chain)
    return replace(start, pattern=make_pattern(of, start.chain, start.tail))


@cache
def both(name: str) -> tuple[Statistics, Statistics]:
    """The statistics of a design with sparse precisions, and with dense roots."""
    of = design(name)
    return build_statistics(of, forced(of)), build_statistics(of, dense_plan(of))


def ordinary(stats: Statistics, scale: float = 0.8) -> np.ndarray:
    return stats.flatten(factors(stats.design.levels, (scale,) * len(stats.design.levels)))


def close(found, expected, digits=1e-10):
    size = max(1e-300, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=digits * size)


@pytest.fixture
def always_sparse(monkeypatch):
    """Small models take the way of large ones."""
    for name in ("PER_FLOP", "PER_NUMBER", "PER_COLUMN"):
        monkeypatch.setattr(plan, name, 1e-12)
    for name in ("MEET", "EFFORT"):
        monkeypatch.setattr(pattern, name, np.inf)
    monkeypatch.setattr(plan, "FEW", 1)
    monkeypatch.setattr(sparse_precision, "FEW", 1)
    monkeypatch.setattr(sparse_precision, "SHARE", 1.0)


# The likelihood -------------------------------------------------------------------------------------------------------


class Exact:
    """V0 = I + sum_k Z_k (K_k (x) lambda_k lambda_k') Z_k' in 40 digits, with K_k the inverse of the precision."""

    def __init__(self, of: Design, lambdas, W):
        self.lifted = [lift(lam) for lam in lambdas]
        self.W, self.Z, self.K = lift(W), [lift(level.Z.toarray()) for level in of.levels], []
        for level in of.levels:
            half = lift(np.eye(level.m))
            if level.relation is not None:
                half = forward_solve(lower_root(lift(level.relation.matrix.toarray())), half)
            self.K.append(half.T @ half)
        self.G = [np.kron(K, lam @ lam.T) for K, lam in zip(self.K, self.lifted, strict=True)]
        V = lift(np.eye(of.n)) + sum(Z @ G @ Z.T for Z, G in zip(self.Z, self.G, strict=True))
        L = lower_root(V)
        self.logdet = 2 * sum(mp.log(x) for x in np.diag(L))
        self.white = forward_solve(L, np.hstack([self.W, *self.Z]))
        self.T = self.white[:, : W.shape[1]].T @ self.white[:, : W.shape[1]]

    def gradient(self, Tbar):
        """d (log|V0| + tr(Tbar T)) / d lambda_k = 2 sum_gh K_gh (A_gh - Q_g Tbar Q_h') lambda_k, A = Z'V0^-1 Z."""
        d, out = self.W.shape[1], []
        w, at = self.white[:, :d], d
        for Z, K, lam in zip(self.Z, self.K, self.lifted, strict=True):
            z, r = self.white[:, at : at + Z.shape[1]], len(lam)
            at += Z.shape[1]
            A, Q = z.T @ z, z.T @ w
            inner = (A - Q @ lift(Tbar) @ Q.T).reshape(len(K), r, len(K), r)
            out.append(2 * np.einsum("gh,gihj->ij", K, inner, optimize=False) @ lam)
        return out

    @property
    def covariance(self):
        """G - G Z'V0^-1 Z G."""
        q = sum(len(G) for G in self.G)
        whole, at = lift(np.zeros((q, q))), 0
        for G in self.G:
            whole[at : at + len(G), at : at + len(G)] = G
            at += len(G)
        z = self.white[:, self.W.shape[1] :] @ whole
        return whole - z.T @ z


@pytest.mark.parametrize(
    ("name", "scale"),
    [*(("slopes of relatives", x) for x in (1e-3, 0.7, 1e3)), ("crossed with herds", 1e3), ("two precisions", 1e-3)],
)
def test_40_digits_agree_over_variance_ratios_from_1e_minus_6_to_1e6(name, scale):
    """Where the ratio is large, the covariance's and the gradient's own conditions take two of the digits."""
    stats = both(name)[0]
    levels = stats.design.levels
    lambdas = factors(levels, (scale,) * len(levels))
    factor = factorise_statistics(stats, stats.flatten(lambdas))
    exact = Exact(stats.design, lambdas, make_basis(stats.design.X, stats.design.net_y, levels).W)
    v = np.append(np.linspace(0, 1, stats.design.p), 2.0)
    assert abs(factor.logdet - exact.logdet) <= 1e-10 * abs(exact.logdet)
    assert abs(v @ factor.T @ v - v @ exact.T @ v) <= 1e-10 * abs(v @ exact.T @ v)
    flat = factor.adjoint(1.0, np.outer(v, v)).gradient
    gradient = exact.gradient(np.outer(v, v))
    digits = 1e-8 if scale > 30 else 1e-10
    for M, span, block in zip(stats.maps, stats.lambda_slices, gradient, strict=True):
        found = M.T @ flat[span].reshape(block.shape)
        assert relative_error(np.tril(found), np.tril(block), norm(gradient)) <= digits
    q, d = stats.layout.q, len(v)
    response = np.column_stack([factor.draw(np.zeros(d), 1.0, z) for z in np.eye(q)])
    found = np.concatenate([np.moveaxis(u, 0, -1).reshape(-1, q) for u in stats.effects(response.T)])
    size = np.array([mp.sqrt(x) for x in np.diag(exact.covariance)], dtype=object)
    assert relative_error(found @ found.T, exact.covariance, np.outer(size, size)) <= digits


@pytest.mark.parametrize("name", DESIGNS)
def test_value_gradient_modes_and_covariances_are_those_of_the_dense_way(name):
    """Draws on the kernels' own coordinates are others; their covariance as effects is the same."""
    found = []
    for stats in both(name):
        factor = factorise_statistics(stats, ordinary(stats))
        d, q = len(factor.T), stats.layout.q
        back = factor.adjoint(0.7, np.outer(np.arange(1.0, d + 1), np.ones(d)))
        response = np.column_stack([factor.draw(np.zeros(d), 1.0, z) for z in np.eye(q)])
        drawn = np.concatenate([np.moveaxis(u, 0, -1).reshape(-1, q) for u in stats.effects(response.T)])
        modes = np.concatenate([u.reshape(d, -1) for u in stats.effects(back.b.T)], axis=1)
        own = [x.ravel() for x in effect_covariances(factor, back.variances, stats)]
        found.append((factor.logdet, factor.T, back.gradient, modes, drawn @ drawn.T, np.concatenate(own)))
    for one, two in zip(*found, strict=True):
        close(one, two)


@pytest.mark.parametrize("name", ["animals and themselves", "crossed with herds in farms"])
def test_it_does_not_matter_what_is_eliminated_first(name):
    of = design(name)
    stats = [build_statistics(of, forced(of, chain)) for chain in (None, ())]
    one, two = (factorise_statistics(s, ordinary(s)) for s in stats)
    close(one.logdet, two.logdet)
    close(one.T, two.T)
    close(one.adjoint(1.0, np.eye(len(one.T))).gradient, two.adjoint(1.0, np.eye(len(two.T))).gradient)


@pytest.mark.parametrize("name", ["slopes of relatives", "crossed with herds", "two precisions"])
def test_covariances_of_any_pair_of_effects(name):
    """Those in the pattern from one pass, relatives' and others by solving; means of groups beside them."""
    found = []
    for stats in both(name):
        means = [np.arange(1.0, level.m + 1) for level in stats.design.levels]
        covariances = EffectCovariances(stats=stats, factor=factorise_statistics(stats, ordinary(stats)), means=means)
        rng = np.random.default_rng(2)
        Z = sparse.random_array((20, covariances.size), density=0.15, rng=rng).tocsr()
        found.append((covariances.quadratic(Z), covariances.loadings))
    for one, two in zip(*found, strict=True):
        close(one, two)


def test_with_correlated_rows_too():
    """R has parameters: the products are summed anew, the precision stays."""
    residual = blm.Residual(structure="ar1", group="herd")
    of = blm.LMM("y ~ 1 + x + (1 + x | animal)", data(), precision={"animal": ainv()}, residual=residual).design
    found = []
    for chosen in (forced(of), dense_plan(of)):
        stats = build_statistics(of, chosen).at([0.4])
        factor = factorise_statistics(stats, ordinary(stats))
        bar = factor.product_adjoint(1.0, np.eye(len(factor.T)))
        assert stats.products is not None
        found.append((factor.logdet, factor.T, bar.adjoint.gradient, stats.products.inner(bar)))
    for one, two in zip(*found, strict=True):
        close(one, two)


def test_at_zero_nothing_is_left_and_near_zero_the_digits_are_kept():
    stats = both("slopes of relatives")[0]
    factor = factorise_statistics(stats, np.zeros(stats.layout.n_lambda))
    back = factor.adjoint(1.0, np.eye(len(factor.T)))
    assert factor.logdet == 0
    for nothing in (back.gradient, back.b, back.variances):
        assert np.all(nothing == 0)
    one, two = (factorise_statistics(stats, ordinary(stats, scale)) for scale in (1e-8, 0.5e-8))
    assert one.logdet == pytest.approx(4 * two.logdet, rel=1e-10)
    close(one.adjoint(1.0, np.zeros((3, 3))).gradient, 2 * two.adjoint(1.0, np.zeros((3, 3))).gradient)


# Fits and posteriors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a pedigree", "crossed with herds", "two precisions", "an entirely known covariance"])
def test_fits_are_those_of_the_dense_way(name, always_sparse, monkeypatch):
    lmm = model(name)
    assert lmm.statistics.plan.pattern is not None
    monkeypatch.setattr(plan, "FEW", np.inf)
    dense = model(name)
    assert dense.statistics.plan.pattern is None
    for one, two in ((lmm.ml(), dense.ml()), (lmm.reml(), dense.reml())):
        assert one.loglik == pytest.approx(two.loglik, abs=1e-8)
        for level in lmm.design.levels:  # the search ends where the likelihood has no more digits
            close(one.ranef[level.name].to_numpy(), two.ranef[level.name].to_numpy(), 1e-4)


def test_relatives_without_rows_are_predicted_as_densely(always_sparse, monkeypatch):
    lmm = model("slopes of relatives")
    level = lmm.design.levels[0]
    assert level.relatives
    rows = {"x": [1.0, 2.0], "animal": list(level.groups[-2:])}
    found = lmm.predictions(lmm.reml(), rows).frame
    monkeypatch.setattr(plan, "FEW", np.inf)
    dense = model("slopes of relatives")
    expected = dense.predictions(dense.reml(), rows).frame
    for column in ("estimate", "sd"):
        close(found[column].to_numpy(), expected[column].to_numpy(), 1e-4)


def test_the_posterior_at_the_same_seed_has_the_same_parameters(always_sparse, monkeypatch):
    """u2 comes from other normals; its mean agrees within five Monte Carlo errors (200 draws of a correlation < 1)."""
    options = {"draws": 100, "chains": 2, "random_seed": 3, "progress": False}
    lmm = model("a pedigree")
    tree = lmm.sample(**options)
    monkeypatch.setattr(plan, "FEW", np.inf)
    other = model("a pedigree").sample(**options)
    for name in ("sigma", "sigma_u2", "beta"):
        close(tree.posterior[name].values, other.posterior[name].values, 1e-6)
    u, v = (x.posterior["u2"].stack(all=("chain", "draw")).values for x in (tree, other))
    error = np.sqrt((u.var(axis=1) + v.var(axis=1)) / 200)
    assert (abs(u.mean(axis=1) - v.mean(axis=1)) < 5 * error).all()


def test_effects_are_drawn_with_their_conditional_mean_and_covariance():
    """Exactly: the response of draws to the normals, at several values of lambda at once."""
    stats, full = both("crossed with herds")
    q, d = stats.layout.q, len(stats.WtW)
    lams = np.tile(ordinary(stats), (q + 1, 1))
    z = np.vstack([np.zeros(q), np.eye(q)])
    v = np.linspace(1, 2, d)
    found = []
    for s in (stats, full):
        _, _, b = evaluate_and_draw(s, lams, None, np.ones(q + 1), z, lambda rows, T: np.tile(v, (len(T), 1)))
        u = np.concatenate([x.reshape(q + 1, -1) for x in s.effects(b)], axis=1)
        found.append((u[0], (u[1:] - u[0]).T @ (u[1:] - u[0])))
    for one, two in zip(*found, strict=True):
        close(one, two)


def logps(lmm: blm.LMM, graph) -> tuple[float, float]:
    """(log density, a sum of its gradient) at one point, of a PyMC model of it."""
    import pytensor

    with graph:
        point = graph.initial_point()
        for name in sorted(point):
            point[name] = np.asarray(point[name]) + 0.1 * np.cos(np.arange(np.size(point[name]))).reshape(
                np.shape(point[name])
            )
        whole = graph.logp()
        slopes = pytensor.grad(whole, graph.value_vars)
        f = pytensor.function(graph.value_vars, [whole, *slopes], mode="FAST_COMPILE", on_unused_input="ignore")
        found = f(*(point[value.name] for value in graph.value_vars))
    return float(found[0]), float(sum(np.sum(np.cos(np.arange(x.size)) * x.ravel()) for x in found[1:]))


@pytest.mark.parametrize("name", ["a pedigree", "slopes of relatives"])
def test_pymc_models_have_the_same_densities(name, always_sparse, monkeypatch):
    """Marginal and centred joint; the other joint model has coordinates of its own, see the next test."""
    found = []
    for few in (1, 500):
        monkeypatch.setattr(plan, "FEW", 1 if few == 1 else np.inf)
        monkeypatch.setattr(sparse_precision, "FEW", few)
        lmm = model(name)
        assert (lmm.statistics.plan.pattern is None) == (few == 500)
        found.append([*logps(lmm, lmm.marginal()), *logps(lmm, lmm.joint(centered=True))])
    np.testing.assert_allclose(*found, rtol=1e-10)


def test_effects_from_standard_normals_in_a_graph(always_sparse):
    """u = B z, and the gradient B'c."""
    import pytensor
    import pytensor.tensor as pt

    from bayeslmm.pymc_models.relatives import spread_by_relatives

    level = design("slopes of relatives").levels[0]
    assert level.relation is not None
    z = pt.dvector("z")
    c = np.cos(np.arange(level.m))
    u = spread_by_relatives(level, z)
    f = pytensor.function([z], [u, pytensor.grad((u * c).sum(), z)], mode="FAST_COMPILE")
    start = np.sin(np.arange(level.m))
    found = f(start)
    B = level.relation.spread(np.eye(level.m)[:, :, None])[..., 0].T
    close(found[0], B @ start)
    close(found[1], B.T @ c)


# A precision by itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [ainv(animals=60), car(6, 7)], ids=["pedigree", "map"])
def test_what_is_had_of_the_covariance_without_making_it(known, always_sparse):
    order = list(np.random.default_rng(0).permutation(known.labels))
    made = SparsePrecision.of(known, order)
    K = np.linalg.inv(known.dense(order))
    close(made.variances, np.diag(K))
    close(made.logdet, -np.linalg.slogdet(K)[1])
    z = np.random.default_rng(1).normal(size=(3, made.m, 2))
    close(made.times(z), np.einsum("gh,dhe->dge", K, z))
    B = made.spread(np.eye(made.m)[:, :, None])[..., 0].T
    close(B @ B.T, K)
    close(made.conditional_variances, np.diag(B) ** 2)
    close(made.collect(made.spread(z)), z)
    assert made.related(made.m, 0.02)
    assert made.same(SparsePrecision.of(known, order))
    assert made.same(DenseRelation(lower=known.root(order)))


def test_families_are_those_that_nothing_joins(always_sparse):
    blocks = sparse.block_diag([ainv(animals=10).matrix, sparse.eye_array(2)], format="csc")
    known = KnownMatrix(labels=[f"g{k}" for k in range(blocks.shape[0])], matrix=blocks, precision=True)
    made = SparsePrecision.of(known, known.labels)
    dense = DenseRelation(lower=known.root(known.labels))
    np.testing.assert_array_equal(made.families, dense.families)
    alone = SparsePrecision.of(known, [*known.labels[::-1]])
    assert not alone.related(2, 0.02)


def test_one_that_is_not_positive_definite_is_refused_as_a_dense_one_is(always_sparse):
    Q = car(5, 5).matrix - 0.5 * sparse.eye_array(25)
    known = KnownMatrix(labels=car(5, 5).labels, matrix=Q, precision=True)
    with pytest.raises(DescriptionError, match="not positive definite: its smallest eigenvalue"):
        SparsePrecision.of(known, known.labels)
    intrinsic = sparse.csgraph.laplacian(sparse.csr_array(car(5, 5).matrix < 0).astype(float))
    known = KnownMatrix(labels=known.labels, matrix=intrinsic, precision=True)
    with pytest.raises(DescriptionError, match="not positive definite"):
        SparsePrecision.of(known, known.labels)


def large(m=9_000) -> KnownMatrix:
    """A line of labels, each related to the next: more than a dense root is made for."""
    Q = sparse.diags_array([np.full(m, 2.0), np.full(m - 1, -0.9), np.full(m - 1, -0.9)], offsets=[0, 1, -1])
    return KnownMatrix(labels=tuple(f"a{k}" for k in range(m)), matrix=Q, precision=True)


def test_more_labels_than_a_dense_root_takes():
    """Everything that doesn't need the covariance itself works; what does is refused with what works."""
    rng = np.random.default_rng(0)
    table = {"y": rng.normal(size=300), "animal": [f"a{k}" for k in rng.permutation(9_000)[:300]]}
    lmm = blm.LMM("y ~ 1 + (1 | animal)", table, precision={"animal": large()})
    plan_of = plan_elimination(lmm.design)
    assert plan_of.pattern is not None
    assert plan_of.tail_columns == 9_000
    said = " ".join(lmm.explain().split())
    assert "a known precision relates the groups of u2" in said
    assert "8700 relatives" in lmm.describe()
    assert lmm.ml().ranef["animal"].shape == (9_000, 2)
    with pytest.raises(DataError, match=r"9,000 labels.* at most 8,000.* marginal\(\)"):
        lmm.Lambda([1.0])
    glmm = blm.GLMM("y ~ 1 + (1 | animal)", table | {"y": (table["y"] > 0).astype(int)}, family="bernoulli",
                    precision={"animal": large()})  # fmt: skip
    with pytest.raises(DataError, match=r"9,000 labels.*outcome isn't Gaussian"):
        glmm.ml()


def test_what_fills_too_much_is_refused_by_what_it_fills(always_sparse, monkeypatch):
    """By itself, and together with a level that crosses it."""
    lmm = model("crossed with herds")
    monkeypatch.setattr(plan, "NUMBERS", 100)
    monkeypatch.setattr(plan, "LABEL_LIMIT", 20)
    with pytest.raises(DataError, match=r"24 labels.* its elimination fills more than 100 numbers"):
        build_statistics(lmm.design)
    monkeypatch.setattr(sparse_precision, "NUMBERS", 30)
    with pytest.raises(DataError, match="eliminating its 24 labels fills more than 30 numbers"):
        model("a pedigree")


def test_what_cannot_be_written_out_is_refused():
    with pytest.raises(DescriptionError, match=r"9,000 labels.* names its file"):
        large().to_dict()


def test_a_dense_one_with_as_many_labels_is_told_of_the_sparse_way(monkeypatch):
    monkeypatch.setattr("bayeslmm.design.building.LABEL_LIMIT", 20)
    matrix, labels = relationship_inverse(pedigree())
    K = pd.DataFrame(np.linalg.inv(matrix.toarray()), index=labels, columns=labels)
    with pytest.raises(DataError, match=r"If its inverse is sparse.* precision="):
        blm.LMM("y ~ 1 + (1 | animal)", data(), covariance={"animal": K})


# A pedigree -----------------------------------------------------------------------------------------------------------


def test_the_precision_of_a_pedigree_is_the_inverse_of_its_relationships():
    """By Henderson's rules, against the tabular method; inbred animals, unknown parents, rows in any order."""
    rows = pedigree(animals=60, founders=5)
    table = pd.DataFrame(rows, columns=["animal", "sire", "dam"])
    known = blm.pedigree_precision(table)
    A = relationship(rows)
    assert set(known.labels) == set(A.index)
    assert known.precision
    assert known.sparse
    assert (np.diag(A) > 1.01).any()
    close(np.linalg.inv(known.matrix.toarray()), A.loc[list(known.labels), list(known.labels)].to_numpy(), 1e-12)
    renamed = table.rename(columns={"animal": "id", "sire": "father", "dam": "mother"}).fillna("0")
    assert blm.pedigree_precision(renamed, "id", "father", "mother", unknown="0") == known


def test_parents_without_a_row_are_founders_and_numbers_are_labels():
    known = blm.pedigree_precision({"animal": [3, 4], "sire": [1, 1], "dam": [2.0, np.nan]})
    assert known.labels == ("1", "2", "3", "4")
    rows = [("3", "1", "2"), ("4", "1", None)]
    expected = relationship(rows).loc[list(known.labels), list(known.labels)].to_numpy()
    close(np.linalg.inv(known.matrix.toarray()), expected)


WRONG_PEDIGREES = {
    "two rows": ({"animal": ["a", "a"], "sire": [None] * 2, "dam": [None] * 2}, "'a' has two rows"),
    "a circle": ({"animal": ["a", "b"], "sire": ["b", None], "dam": [None, "a"]}, "descends from itself.*'a', 'b'"),
    "its own parent": ({"animal": ["a"], "sire": ["a"], "dam": [None]}, "'a' descends from itself"),
    "no animal": ({"animal": ["a", None], "sire": [None] * 2, "dam": [None] * 2}, "Row 2 of the pedigree"),
    "zeros": ({"animal": ["a"], "sire": ["0"], "dam": ["b"]}, "write unknown='0'"),
    "another column": ({"id": ["a"], "sire": ["b"], "dam": ["c"]}, "no column 'animal'"),
    "empty": ({"animal": [], "sire": [], "dam": []}, "no rows"),
}


@pytest.mark.parametrize("name", WRONG_PEDIGREES)
def test_what_is_wrong_with_a_pedigree_is_said(name):
    table, said = WRONG_PEDIGREES[name]
    with pytest.raises(DataError, match=said):
        blm.pedigree_precision(table)
