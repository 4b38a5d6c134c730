"""The kernels' one compiled entry: down to the root at some parameter values, and back to the leaves.

A compiled function takes time to load in proportion to its code, and has its own copy of all that it calls. Hence one
function for every purpose, and versions of it for models without a tail, with a dense and with a sparse one, which have
nothing of the others in them.

What it computes, in a few dense lines: `tests/twins.py`, at one value of lambda after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.factorisation.kernels.arrays import Draws, Parts, Products, Pullback, Tables, Terms, Values
from bayeslmm.factorisation.kernels.backsolve import backward, draw
from bayeslmm.factorisation.kernels.compiling import first_use, inner, njit
from bayeslmm.factorisation.kernels.elimination import forward

Layout = Any  # that of `factorisation.layout`, which stands above the kernels

_VECTOR, _MATRIX = np.empty(0), np.empty((0, 0))
NO_TERMS = Terms(*(_MATRIX,) * 6)
NO_DRAWS = Draws(_MATRIX, _VECTOR, _MATRIX, _MATRIX)
NO_PULLBACK = Pullback(_MATRIX, 0.0, _MATRIX, _VECTOR, _VECTOR, _VECTOR, _VECTOR, _MATRIX)
NO_SPARSE_PULLBACK = NO_PULLBACK._replace(zz_tail=_VECTOR)
NO_MASK = np.zeros((0, 0), np.bool_)


@inner
def _sum_terms(c, terms, out):
    """out = sum_t c_t terms_t, each flat."""
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


@inner
def _slot(parts, k):
    """One factorisation's parts."""
    At, Bt, Bz, F, S, SW, Lt = parts
    return Parts(At[k], Bt[k], Bz[k], F[k], S[k], SW[k], Lt[k])


@njit
def _walk(tail, sparse, tables, products, terms, values, parts, draws, pullback):
    # From Python come plain tuples, whose types numba knows at a glance.
    tables, products, terms = Tables(*tables), Products(*products), Terms(*terms)
    parts, draws, pullback = Parts(*parts), Draws(*draws), Pullback(*pullback)
    zz, zz_tail, zt, ZtW, WtW, _ = products
    lams, logdets, Ts = values
    coefs = terms.c
    ready = logdets.shape[0] == 0
    slots = parts.At.shape[0]
    for i in range(lams.shape[0]):
        k = min(i, slots - 1)
        if not ready and slots == 1 and _same(lams, i) and (coefs.shape[0] == 0 or _same(coefs, i)):
            logdets[i] = logdets[i - 1]
            for row in range(Ts.shape[1]):  # an assignment of slices compiles a message about their shapes
                for column in range(Ts.shape[2]):
                    Ts[i, row, column] = Ts[i - 1, row, column]
        elif not ready:
            if coefs.shape[0] > 0:
                _sum_terms(coefs[i], terms.zz, zz)
                _sum_terms(coefs[i], terms.zz_tail, zz_tail.reshape(zz_tail.size))
                _sum_terms(coefs[i], terms.zt, zt)
                _sum_terms(coefs[i], terms.ZtW, ZtW.reshape(ZtW.size))
                _sum_terms(coefs[i], terms.WtW, WtW.reshape(WtW.size))
            logdets[i] = forward(tail, sparse, tables, products, lams[i], _slot(parts, k), Ts[i])
        if draws.v.shape[0] > 0:
            one = Draws(draws.v[i], draws.sigma[i], draws.z[i], draws.b[i])
            draw(tail, sparse, tables, lams[i], _slot(parts, k), one)
    if pullback.Tbar.shape[0] > 0:
        backward(tail, sparse, tables, lams[0], _slot(parts, 0), pullback)


def workspace(st: Layout, d: int, slots: int = 1) -> Parts:
    """Empty arrays for so many factorisations with d columns of W."""
    blocks, ancestors, effects = st.sizes
    q, packed = st.tail_columns, st.zz_tail.shape
    return Parts(
        At=np.empty((slots, blocks)),
        Bt=np.empty((slots, ancestors + effects * d)),
        Bz=np.empty((slots, st.zt.size)),
        F=np.empty((slots, blocks)),
        S=np.empty((slots, *packed)),
        SW=np.empty((slots, q, d)),
        Lt=np.empty((slots, *packed)),
    )


def _call(st: Layout, *groups: tuple) -> None:
    tail = st.tail if len(st.tail) and st.sparse is None else None
    tables = (st.chain, st.parent, st.order, st.inspan, st.lists, st.columns, st.maps, st.voff)
    with first_use(_walk, "sparse" if st.sparse else "chain" if tail is None else "dense"):
        _walk(tail, st.sparse, tables, *map(tuple, groups))


def descend(
    st: Layout,
    winspan: np.ndarray,
    ZtW: np.ndarray,
    WtW: np.ndarray,
    lams: np.ndarray,
    terms: Terms = NO_TERMS,
    draws: Draws = NO_DRAWS,
    parts: Parts | None = None,
) -> tuple[np.ndarray, np.ndarray, Parts]:
    """(log|V0| (B,), T (B, d, d), the factorisations' parts) at B kernel lambda vectors.

    Parameters
    ----------
    terms : Terms
        Where R has parameters. The structure's own products, ZtW and WtW are overwritten.
    draws : Draws
        For draws of the random effects.
    parts : Parts, optional
        A `workspace` to fill, of one slot or of at least B; of one slot as a rule, for the last factorisation.
    """
    d = WtW.shape[0]
    values = Values(lams, np.empty(len(lams)), np.empty((len(lams), d, d)))
    parts = workspace(st, d) if parts is None else parts
    products = Products(st.zz, st.zz_tail, st.zt, ZtW, WtW, winspan)
    _call(st, products, terms, values, parts, draws, NO_PULLBACK if st.sparse is None else NO_SPARSE_PULLBACK)
    return values.logdets, values.Ts, parts


def ascend(
    st: Layout, parts: Parts, lams: np.ndarray, draws: Draws = NO_DRAWS, pullback: Pullback | None = None
) -> None:
    """From the root back to the leaves: fill the outputs of `draws`, and those of `pullback` for the first of them."""
    if pullback is None:
        pullback = NO_PULLBACK if st.sparse is None else NO_SPARSE_PULLBACK
    products = Products(st.zz, st.zz_tail, st.zt, _MATRIX, _MATRIX, NO_MASK)
    values = Values(lams, _VECTOR, np.empty((0, 0, 0)))
    _call(st, products, NO_TERMS, values, parts, draws, pullback)
