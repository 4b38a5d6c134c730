"""Every kernel gives the numbers of its dense twin in `twins`, which is there to be read."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import twins
from registry import BY_NAME, CASES, factors
from scipy.linalg import block_diag

from bayeslmm.factorisation.factor import evaluate_many, factorise_statistics
from bayeslmm.factorisation.kernels.arrays import C_BLOCK, C_EFFECTS, C_GROUP, C_GROUPS, C_LEVEL
from bayeslmm.factorisation.layout import sparse_columns

NAMES = [case.name for case in CASES if not case.shift]


@cache
def both(name: str):
    """The kernels' factor, the steps for the twins, how many are the chain's, and what `twins.forward` returns."""
    stats = BY_NAME[name].lmm().statistics
    levels = stats.design.levels
    flat = stats.flatten(factors(levels, (0.6, 1.1, 0.8)[: len(levels)]))
    Z = [sparse_columns(level, better).toarray() for level, better in zip(levels, stats.better, strict=True)]
    lams = [flat[span].reshape(level.r, level.r) for span, level in zip(stats.lambda_slices, levels, strict=True)]
    starts = np.cumsum([0] + [level.q for level in levels])
    columns = np.hstack([*Z, stats.Q, stats.design.net_y[:, None]])
    M = columns.T @ columns
    M[: starts[-1], starts[-1] :] = stats.ZtW
    M[starts[-1] :, : starts[-1]] = stats.ZtW.T
    M[starts[-1] :, starts[-1] :] = stats.WtW
    steps = [
        (starts[k] + np.arange(g * levels[k].r, (g + 1) * levels[k].r), lams[k])
        for k in stats.plan.chain
        for g in range(levels[k].m)
    ]
    groups = len(steps)
    if stats.plan.tail:
        own = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in stats.plan.tail])
        steps.append((own, block_diag(*[lams[k] for k in stats.plan.tail for _ in range(levels[k].m)])))
    return factorise_statistics(stats, flat), stats, steps, groups, twins.forward(M, steps)


def close(found, twin):
    np.testing.assert_allclose(found, twin, rtol=0, atol=1e-9 * max(1.0, np.abs(twin).max(initial=0.0)))


@pytest.mark.parametrize("name", NAMES)
def test_forward(name):
    factor, stats, _, groups, (logdet, M, left) = both(name)
    close(factor.logdet, logdet)
    close(factor.T, M[-len(factor.T) :, -len(factor.T) :])
    at = 0
    for row in stats.layout.chain:  # in `At` and `F`, groups are renumbered
        m, r, block = row[C_GROUPS], row[C_EFFECTS], row[C_BLOCK]
        order = stats.layout.order[row[C_GROUP] :][:m]
        start = sum(level.q for level in stats.design.levels[: row[C_LEVEL]])
        for new, old in enumerate(order):
            F, rows = left[at + old]
            own = slice(start + old * r, start + (old + 1) * r)
            close(factor.parts.F[0, block + new * r * r :][: r * r].reshape(r, r), F)
            close(factor.parts.At[0, block + new * r * r :][: r * r].reshape(r, r), rows[:, own])
        at += m
    assert at == groups


@pytest.mark.parametrize("name", NAMES)
def test_the_factor_of_the_tail(name):
    factor, stats, steps, groups, (_, _, left) = both(name)
    if stats.plan.tail:
        root = np.linalg.inv(np.triu(factor.parts.Lt[0]))
        close(steps[groups][1] @ root, left[groups][0])


@pytest.mark.parametrize("name", NAMES)
def test_backward(name):
    factor, stats, steps, groups, (_, M, left) = both(name)
    d = len(factor.T)
    Tbar = np.fromfunction(lambda i, j: 1 / (1 + i + j), (d, d))
    back = factor.adjoint(0.7, Tbar)
    b, C, gradients = twins.backward(steps, left, M, 0.7, Tbar)
    close(back.b, b)
    blocks, sums, at, step = [], {}, 0, 0
    levels = stats.design.levels
    for level in levels:
        for _ in range(level.m):
            blocks.append(C[at : at + level.r, at : at + level.r].ravel())
            at += level.r
    close(back.variances, np.concatenate(blocks))
    for k in stats.plan.chain:
        sums[k] = sum(gradients[step : step + levels[k].m])
        step += levels[k].m
    at = 0
    for k in stats.plan.tail:
        sums[k] = 0
        for _ in range(levels[k].m):
            sums[k] = sums[k] + gradients[groups][at : at + levels[k].r, at : at + levels[k].r]
            at += levels[k].r
    close(back.gradient, np.concatenate([sums[k].ravel() for k in range(len(levels))]))


@pytest.mark.parametrize("name", NAMES)
def test_draw(name):
    factor, stats, steps, _, (_, _, left) = both(name)
    v, z = np.linspace(-1, 1, len(factor.T)), np.linspace(2, -1, stats.layout.q)
    close(factor.draw(v, 0.3, z), twins.draw(steps, left, v, 0.3, z))


@pytest.mark.parametrize("name", ["nested with slopes", "crossed"])
def test_many_values_are_one_after_the_other(name):
    """`kernel._walk` over a batch."""
    factor, stats, *_ = both(name)
    lams = np.array([factor.lam, 2 * factor.lam, factor.lam])
    logdets, Ts = evaluate_many(stats, lams)
    for lam, logdet, T in zip(lams, logdets, Ts, strict=True):
        one = factorise_statistics(stats, lam)
        assert (logdet, T.tolist()) == (one.logdet, one.T.tolist())
