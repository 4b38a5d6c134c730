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


def pedigree(animals=40, founders=8, seed=0):
    """(animal, sire, dam), some of whose parents are unknown; names in no order, inbred ones among them."""
    rng = np.random.default_rng(seed)
    names = [f"a{k}" for k in rng.permutation(animals)]
    rows: list[tuple] = [(name, None, None) for name in names[:founders]]
    for k in range(founders, animals):
        sire, dam = rng.choice(np.arange(max(0, k - 12), k), 2, replace=False)
        rows.append((names[k], names[sire], names[dam] if rng.random() < 0.8 else None))
    return [rows[k] for k in rng.permutation(animals)]


def ainv(**options) -> KnownMatrix:
    matrix, labels = relationship_inverse(pedigree(**options))
    return KnownMatrix(labels=tuple(map(str, labels)), matrix=matrix, precision=True)


def car(rows=5, columns=4) -> KnownMatrix:
    """A map's conditional autoregression: neighbours share a side."""
    side = [sparse.diags_array([np.ones(k - 1), np.ones(k - 1)], offsets=[-1, 1], shape=(k, k)) for k in (rows, columns)]
    W = sparse.kronsum(*side, format="csc")
    Q = sparse.diags_array(W.sum(axis=0)) - 0.95 * W
    return KnownMatrix(labels=tuple(f"r{k}" for k in range(rows * columns)), matrix=Q, precision=True)


def data(n=60, seed=1, animals=40):
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
    "a map": ("(1 | region)", {"region": car()}),
}  # fmt: skip


def model(name: str) -> blm.LMM:
    formula, precision = DESIGNS[name]
    table = data(n=30 if name == "one record each" else 60)
    if name == "animals and themselves":
        levels = (blm.Level(group="animal", precision=precision["u2"]), blm.Level(group="animal"))
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
        monkeypatch.setattr(plan, name, 1e-9)
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


@pytest.mark.parametrize("scale", [1e-3, 0.7, 1e3])
@pytest.mark.parametrize("name", ["slopes of relatives", "crossed with herds", "two precisions"])
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
