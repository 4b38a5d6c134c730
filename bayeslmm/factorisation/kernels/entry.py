"""The kernels' one compiled entry: down to the root at some parameter values, and back to the leaves.

A compiled function takes time to load in proportion to its code, and has its own copy of all that it calls. Hence one
function for every purpose, and a version of it for models without a tail, which has nothing of the tail in it.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.factorisation.kernels.backsolve import backward, draw
from bayeslmm.factorisation.kernels.compiling import first_use, inner, njit
from bayeslmm.factorisation.kernels.elimination import C_ANCESTORS, C_EFFECTS, C_GROUPS, forward
from bayeslmm.factorisation.layout import Structure

_VECTOR, _MATRIX = np.empty(0), np.empty((0, 0))
NO_TERMS = (_MATRIX,) * 6
NO_DRAWS = (_MATRIX, _VECTOR, _MATRIX, _MATRIX)
NO_PULLBACK = (_MATRIX, 0.0, np.zeros(0, np.int64), _MATRIX, _VECTOR, _VECTOR, _VECTOR, _VECTOR, _MATRIX)
NO_MASK = np.zeros((0, 0), np.bool_)


@inner
def _sum_terms(c, terms, out):
    """Out = sum_t c_t terms_t, each flat."""
    out[:] = 0.0
    for t in range(c.shape[0]):
        for j in range(out.shape[0]):
            out[j] += c[t] * terms[t, j]


@inner
def _same(A, i):
    """Whether row i of A is that before it."""
    same = i > 0
    if same:
        for k in range(A.shape[1]):
            same = same and A[i, k] == A[i - 1, k]
    return same


@njit
def _walk(tail, tables, winspan, products, parts, ready, lams, logdets, Ts, terms, draws, pullback):
    chain, parent, order, inspan, lists, columns, maps = tables
    zz, zz_tail, zt, ZtW, WtW = products
    At, Bt, Bz, F, S, SW, Lt = parts
    zzs, zz_tails, zts, ZtWs, WtWs, coefs = terms
    v, sigma, z, b = draws
    slots = At.shape[0]
    for i in range(lams.shape[0]):
        k = min(i, slots - 1)
        if not ready and slots == 1 and _same(lams, i) and (coefs.shape[0] == 0 or _same(coefs, i)):
            logdets[i] = logdets[i - 1]
            for row in range(Ts.shape[1]):  # an assignment of slices compiles a message about their shapes
                for column in range(Ts.shape[2]):
                    Ts[i, row, column] = Ts[i - 1, row, column]
        elif not ready:
            if coefs.shape[0] > 0:
                _sum_terms(coefs[i], zzs, zz)
                _sum_terms(coefs[i], zz_tails, zz_tail.reshape(zz_tail.size))
                _sum_terms(coefs[i], zts, zt)
                _sum_terms(coefs[i], ZtWs, ZtW.reshape(ZtW.size))
                _sum_terms(coefs[i], WtWs, WtW.reshape(WtW.size))
            logdets[i] = forward(
                chain, tail, parent, order, zz, inspan, zz_tail, lists, columns, zt, maps, winspan, lams[i], ZtW, WtW,
                At[k], Bt[k], Bz[k], F[k], S[k], SW[k], Lt[k], Ts[i],
            )  # fmt: skip
        if v.shape[0] > 0:
            draw(
                chain, tail, parent, order, lists, columns, lams[i], Bt[k], Bz[k], F[k], SW[k], Lt[k],
                v[i], sigma[i], z[i], b[i],
            )  # fmt: skip
    Tbar, a, voff, modes, variances, gradient, zz_bar, zt_bar, tail_bar = pullback
    if Tbar.shape[0] > 0:
        backward(
            chain, tail, parent, order, lists, columns, maps, lams[0], At[0], Bt[0], Bz[0], F[0], S[0], SW[0], Lt[0],
            Tbar, a, voff, modes, variances, gradient, zz_bar, zt_bar, tail_bar,
        )  # fmt: skip


def workspace(st: Structure, d: int, slots: int = 1) -> tuple[np.ndarray, ...]:
    """Empty arrays (At, Bt, Bz, F, S, SW, Lt) for so many factorisations with d columns of W."""
    blocks = int((st.chain[:, C_GROUPS] * st.chain[:, C_EFFECTS] ** 2).sum())
    bt = int((st.chain[:, C_GROUPS] * st.chain[:, C_EFFECTS] * (st.chain[:, C_ANCESTORS] + d)).sum())
    q = st.zz_tail.shape[0]
    return (
        np.empty((slots, blocks)), np.empty((slots, bt)), np.empty((slots, st.zt.size)), np.empty((slots, blocks)),
        np.empty((slots, q, q)), np.empty((slots, q, d)), np.empty((slots, q, q)),
    )  # fmt: skip


def _call(st: Structure, *arguments) -> None:
    tail = st.tail if len(st.tail) else None
    tables = (st.chain, st.parent, st.order, st.inspan, st.lists, st.columns, st.maps)
    with first_use(_walk, "tail" if len(st.tail) else "chain"):
        _walk(tail, tables, *arguments)


def descend(
    st: Structure,
    winspan: np.ndarray,
    ZtW: np.ndarray,
    WtW: np.ndarray,
    lams: np.ndarray,
    terms: tuple[np.ndarray, ...] = NO_TERMS,
    draws: tuple[np.ndarray, ...] = NO_DRAWS,
    parts: tuple[np.ndarray, ...] | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """(log|V0| (B,), T (B, d, d), the factorisations' parts) at B kernel lambda vectors.

    Parameters
    ----------
    terms : (zz, zz_tail, zt, ZtW, WtW, c)
        Where R has parameters: per term its products, flat, and per lambda the terms' coefficients c (B, T). The
        structure's own products, ZtW and WtW are overwritten.
    draws : (v, sigma, z, b)
        Data W v (B, d), sigma (B,) and standard normals z (B, q), for draws of the random effects into b (B, q).
    parts : tuple of arrays, optional
        A `workspace` to fill, of one slot or of at least B; of one slot as a rule, for the last factorisation.
    """
    d = WtW.shape[0]
    logdets, Ts = np.empty(len(lams)), np.empty((len(lams), d, d))
    parts = workspace(st, d) if parts is None else parts
    products = (st.zz, st.zz_tail, st.zt, ZtW, WtW)
    _call(st, winspan, products, parts, False, lams, logdets, Ts, terms, draws, NO_PULLBACK)
    return logdets, Ts, parts


def ascend(
    st: Structure,
    parts: tuple[np.ndarray, ...],
    lams: np.ndarray,
    draws: tuple = NO_DRAWS,
    pullback: tuple = NO_PULLBACK,
) -> None:
    """From the root of factorisations back to the leaves: fill the outputs among `draws` and `pullback`.

    Parameters
    ----------
    draws : (v, sigma, z, b)
        As in `descend`.
    pullback : (Tbar, a, voff, b, variances, gradient, zz, zt, zz_tail)
        As in `backsolve.backward`, for the first of them.
    """
    products = (st.zz, st.zz_tail, st.zt, _MATRIX, _MATRIX)
    nothing = np.empty((0, 0, 0))
    _call(st, NO_MASK, products, parts, True, lams, _VECTOR, nothing, NO_TERMS, draws, pullback)
