r"""From the root back to the leaves: conditional modes, gradient, and exact draws of the random effects.

`elimination.forward` leaves, per group, ``A~``, ``B~`` and ``F`` with ``F F' = Cov(b_j | ancestors) / sigma^2``.
Given the ancestors' effects, a group's own are

    b_j | ancestors ~ N( lambda lambda' (B~_W - B~_anc b_anc),  sigma^2 F F' )

so one pass from the root gives the modes, their covariances with the ancestors, and draws. The gradient is

    d(a log|V0| + tr(Tbar T)) / d lambda_k = 2 (sum_j a K_j - Q_j Tbar Q_j') lambda_k
    K_j = (Z' V0^-1 Z)_jj,    Q_j = (Z' V0^-1 W)_j

and with ``C = Lambda M^-1 Lambda' = Cov(b) / sigma^2`` the derivative with respect to Z'Z itself is

    d(a log|V0| + tr(Tbar T)) / d(Z'Z) = a C + b Tbar b'.

`draw` and `backward` in `tests/twins.py` are the same in a few dense lines each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayeslmm.factorisation.kernels.arrays import (
    C_ANCESTORS,
    C_BLOCK,
    C_EFFECTS,
    C_GROUP,
    C_GROUPS,
    C_LAMBDA,
    C_LEVEL,
    C_LIST,
    C_MAP,
    C_TZ,
    C_Z,
    C_ZZ,
    T_COLUMN,
    T_EFFECTS,
    T_GROUPS,
    T_Z,
)
from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.elimination import b_offsets
from bayeslmm.factorisation.kernels.sparse_tail import (
    cotangents_of_products,
    sparse_backward,
    sparse_draw,
)
from bayeslmm.factorisation.kernels.tail import (
    scale_rows,
    scale_rows_transposed,
    solve,
    solve_transposed,
    tail_backward,
)


class Covariances(NamedTuple):
    """One group's: its own block of C, G = lambda lambda', and K with its ancestors' effects and with the tail's."""

    own: np.ndarray  # (r, r)
    G: np.ndarray  # (r, r)
    KC: np.ndarray  # (r, R)
    KX: np.ndarray  # (r, tail columns it meets)


class Modes(NamedTuple):
    """For each column of W: of one group, of its ancestors, and of the tail."""

    own: np.ndarray  # (r, d)
    ancestors: np.ndarray  # (R, d)
    tail: np.ndarray  # (q_T, d)


@inner
def _add_product(C, columns, first, Z, out):
    """Add Z C to out, for the columns of C listed from `first` on: C is symmetric, an entry is read once."""
    r, n = Z.shape
    for m in range(n):
        row = C[columns[first + m]]
        for i in range(r):
            z = Z[i, m]
            x = z * row[columns[first + m]]
            for k in range(m + 1, n):
                y = row[np.uint64(columns[first + k])]
                x += Z[i, k] * y
                out[i, k] += z * y
            out[i, m] += x


@inner
def _products_of_group(Tbar, a, covariances, modes, columns, zzbar, ztbar):
    """Cotangent of one group's own products, of those with its ancestors, and of those with its tail columns.

    Products of two different sets of columns stand twice in Z'Z and are stored once: hence their factor 2.
    """
    C, G, KC, KX = covariances
    own, banc, bT = modes
    r, d = own.shape
    R = banc.shape[0]
    u = np.empty(d)
    for i in range(r):
        for w in range(d):
            u[w] = 0.0
            for k in range(d):
                u[w] += own[i, k] * Tbar[k, w]
        for j in range(r):
            x = a * C[i, j]
            for w in range(d):
                x += u[w] * own[j, w]
            zzbar[i, j] = x
        for j in range(R):
            x = 0.0
            for m in range(r):
                x -= a * G[i, m] * KC[m, j]
            for w in range(d):
                x += u[w] * banc[j, w]
            zzbar[i, r + j] = 2.0 * x
        for j in range(KX.shape[1]):
            x = 0.0
            for m in range(r):
                x -= a * G[i, m] * KX[m, j]
            for w in range(d):
                x += u[w] * bT[columns[j], w]
            ztbar[i, j] = 2.0 * x


@inner
def backward(tail, sparse, tables, lam, parts, pullback):
    """Fill the outputs of `pullback`.

    The cotangents of the products are those of a factorisation without in-span masks, for a mask says which products
    are exact, whatever they are. `tail` and `sparse` may be None, as in `elimination.forward`.
    """
    chain, parent, order, _, lists, columns, maps, voff = tables
    At, Bt, Bz, F = parts.At, parts.Bt, parts.Bz, parts.F
    Tbar, a, b, variances, grad, zzbar, ztbar, tailbar = pullback
    s = chain.shape[0]
    d = Tbar.shape[0]
    nt = 0
    if tail is not None:
        nt = tail.shape[0]
    grad[:] = 0.0
    bT = np.zeros((0, d))
    if tail is not None and nt > 0:
        CT, bT = tail_backward(tail, lam, voff, parts, pullback)
        if tailbar.size > 0:
            tailbar[:, :] = a * CT + np.dot(np.dot(bT, Tbar), bT.T)
    if sparse is not None:
        nt = sparse.tail.shape[0]
        pair_starts, pairs = sparse.pair_starts, sparse.pairs
        packed, bT = sparse_backward(sparse, lam, voff, parts, pullback)
        if tailbar.size > 0:
            cotangents_of_products(sparse, a, Tbar, packed, bT, tailbar)
    boff = b_offsets(chain, d)
    # Per group of an inner level: covariance of (own, ancestors), and of those with its tail columns.
    coff = np.zeros(s + 1, np.int64)
    toff = np.zeros(s + 1, np.int64)
    for i in range(1, s):
        c = chain[i, C_EFFECTS] + chain[i, C_ANCESTORS]
        coff[i + 1] = coff[i] + chain[i, C_GROUPS] * c * c
        if nt > 0:
            toff[i + 1] = toff[i] + c * (lists[chain[i, C_LIST] + chain[i, C_GROUPS]] - lists[chain[i, C_LIST]])
    CC = np.zeros(coff[s])
    CX = np.zeros(toff[s])
    none = np.zeros((0, 0))

    for level in range(s - 1, -1, -1):
        r = chain[level, C_EFFECTS]
        R = chain[level, C_ANCESTORS]
        nb = R + d
        lo = chain[level, C_LAMBDA]
        lm = lam[lo : lo + r * r].reshape(r, r)
        G = np.zeros((r, r))  # lam lam'
        for i in range(r):
            for j in range(r):
                for k in range(r):
                    G[i, j] += lm[i, k] * lm[j, k]
        banc = np.zeros((R, d))
        KC = np.zeros((r, R))
        GKC = np.zeros((r, R))
        Q = np.zeros((r, d))
        QT = np.zeros((r, d))
        K = np.zeros((r, r))
        D = np.zeros((r, r))
        H = np.zeros((r, r))
        Csum = np.zeros((r, r))
        for g in range(chain[level, C_GROUPS]):
            block = chain[level, C_BLOCK] + g * r * r
            bo = boff[level] + g * r * nb
            B = Bt[bo : bo + r * nb].reshape(r, nb)
            first = lists[chain[level, C_LIST] + g] if nt > 0 else 0
            nz = lists[chain[level, C_LIST] + g + 1] - first if nt > 0 else 0
            Z = Bz[0:0].reshape(r, 0)
            if nt > 0:
                base = chain[level, C_TZ] + r * (first - lists[chain[level, C_LIST]])
                Z = Bz[base : base + r * nz].reshape(r, nz)
            Cb = none
            Cx = none
            pfirst = 0
            pnz = 0
            if level + 1 < s:
                mother = parent[chain[level, C_GROUP] + g]
                Cb = CC[coff[level + 1] + mother * R * R : coff[level + 1] + (mother + 1) * R * R].reshape(R, R)
                if nt > 0:
                    plist = chain[level + 1, C_LIST]
                    pfirst = lists[plist + mother] - lists[plist]
                    pnz = lists[plist + mother + 1] - lists[plist + mother]
                    Cx = CX[toff[level + 1] + R * pfirst : toff[level + 1] + R * (pfirst + pnz)].reshape(R, pnz)
                # the ancestors' modes
                ancestor = mother
                start = 0
                for up in range(level + 1, s):
                    rl = chain[up, C_EFFECTS]
                    zl = chain[up, C_Z] + order[chain[up, C_GROUP] + ancestor] * rl
                    for e in range(rl):
                        for w in range(d):
                            banc[start + e, w] = b[zl + e, w]
                    start += rl
                    if up + 1 < s:
                        ancestor = parent[chain[up, C_GROUP] + ancestor]
            mbase = chain[level, C_MAP] + (first - lists[chain[level, C_LIST]]) if nt > 0 else 0
            # Q_j, the modes, H
            zoff = chain[level, C_Z] + order[chain[level, C_GROUP] + g] * r
            for i in range(r):
                for w in range(d):
                    x = B[i, R + w]
                    for k in range(R):
                        x -= B[i, k] * banc[k, w]
                    for k in range(nz):
                        x -= Z[i, k] * bT[columns[first + k], w]
                    Q[i, w] = x
            for i in range(r):
                for w in range(d):
                    x = 0.0
                    for k in range(r):
                        x += G[i, k] * Q[k, w]
                    b[zoff + i, w] = x
                    QT[i, w] = 0.0
                for k in range(d):
                    q = Q[i, k]
                    for w in range(d):
                        QT[i, w] += q * Tbar[k, w]
            for i in range(r):
                for j in range(r):
                    for w in range(d):
                        H[i, j] += QT[i, w] * Q[j, w]
            # K_j and the covariances
            for i in range(r):
                for k in range(R):
                    x = 0.0
                    for m in range(R):
                        x += B[i, m] * Cb[m, k]
                    for m in range(nz):
                        x += Z[i, m] * Cx[k, maps[mbase + m]]
                    KC[i, k] = x
            KX = np.zeros((r, nz))
            if tail is not None and nt > 0:
                _add_product(CT, columns, first, Z, KX)
            if sparse is not None:
                at = pair_starts[chain[level, C_GROUP] + g]
                for m in range(nz):
                    for k in range(m, nz):
                        x = packed[np.uint64(pairs[at])]
                        at += 1
                        for i in range(r):
                            KX[i, k] += Z[i, m] * x
                            if k > m:
                                KX[i, m] += Z[i, k] * x
            for m in range(R):
                for i in range(r):
                    for k in range(nz):
                        KX[i, k] += B[i, m] * Cx[m, maps[mbase + k]]
            for i in range(r):
                for j in range(r):
                    x = 0.0
                    for k in range(R):
                        x += KC[i, k] * B[j, k]
                    for k in range(nz):
                        x += KX[i, k] * Z[j, k]
                    D[i, j] = x
                    Csum[i, j] += At[block + i * r + j] - x
            # Cov(b_j) = F F' + G D G
            voffset = voff[chain[level, C_LEVEL]] + order[chain[level, C_GROUP] + g] * r * r
            for i in range(r):
                for j in range(r):
                    x = 0.0
                    for k in range(r):
                        x += D[i, k] * G[k, j]
                    K[i, j] = x
            for i in range(r):
                for j in range(r):
                    x = 0.0
                    for k in range(r):
                        x += F[block + i * r + k] * F[block + j * r + k] + G[i, k] * K[k, j]
                    variances[voffset + i * r + j] = x
            if zzbar.size > 0:
                at = chain[level, C_ZZ] + g * r * (r + R)
                zat = chain[level, C_TZ] + r * (first - lists[chain[level, C_LIST]]) if nt > 0 else 0
                own = variances[voffset : voffset + r * r].reshape(r, r)
                _products_of_group(
                    Tbar,
                    a,
                    Covariances(own, G, KC, KX),
                    Modes(b[zoff : zoff + r], banc, bT),
                    columns[first : first + nz],
                    zzbar[at : at + r * (r + R)].reshape(r, r + R),
                    ztbar[zat : zat + r * nz].reshape(r, nz),
                )
            if level > 0:
                for i in range(r):
                    for k in range(R):
                        x = 0.0
                        for m in range(r):
                            x -= G[i, m] * KC[m, k]
                        GKC[i, k] = x
                c = r + R
                own = CC[coff[level] + g * c * c : coff[level] + (g + 1) * c * c].reshape(c, c)
                for i in range(r):
                    for j in range(r):
                        own[i, j] = variances[voffset + i * r + j]
                    for k in range(R):
                        own[i, r + k] = GKC[i, k]
                        own[r + k, i] = GKC[i, k]
                for k in range(R):
                    for m in range(R):
                        own[r + k, r + m] = Cb[k, m]
                if nt > 0:
                    lead = first - lists[chain[level, C_LIST]]
                    ownx = CX[toff[level] + c * lead : toff[level] + c * (lead + nz)].reshape(c, nz)
                    for k in range(nz):
                        for i in range(r):
                            x = 0.0
                            for m in range(r):
                                x -= G[i, m] * KX[m, k]
                            ownx[i, k] = x
                        for m in range(R):
                            ownx[r + m, k] = Cx[m, maps[mbase + k]]
        for i in range(r):
            for j in range(r):
                x = 0.0
                for k in range(r):
                    x += (a * Csum[i, k] - H[i, k]) * lm[k, j]
                grad[lo + i * r + j] += 2.0 * x


@inner
def draw(tail, sparse, tables, lam, parts, draws):
    """Turn standard normal z into b ~ p(b | W v = Zb + e, lambda, sigma): mode for sigma = 0; `draws` is one row."""
    chain, parent, order, lists, columns = tables.chain, tables.parent, tables.order, tables.lists, tables.columns
    _, Bt, Bz, F, _, SW, Lt = parts
    v, sigma, z, b = draws
    s = chain.shape[0]
    d = v.shape[0]
    nt = 0
    if tail is not None:
        nt = tail.shape[0]
    boff = b_offsets(chain, d)
    bT = np.zeros(SW.shape[0])
    if sparse is not None:
        nt = sparse.tail.shape[0]
        bT[:] = sparse_draw(sparse, lam, parts, draws)
    if tail is not None and nt > 0:
        q = SW.shape[0]
        right = np.empty((q, 1))
        x1 = np.empty((q, 1))
        for i in range(q):
            x = 0.0
            for w in range(d):
                x += SW[i, w] * v[w]
            x1[i, 0] = x
        scale_rows(tail, lam, x1, right)
        solve_transposed(Lt, right.reshape(q))
        for t in range(nt):
            for i in range(tail[t, T_GROUPS] * tail[t, T_EFFECTS]):
                right[tail[t, T_COLUMN] + i, 0] += sigma * z[tail[t, T_Z] + i]
        solve(Lt, right.reshape(q))
        scale_rows_transposed(tail, lam, right, x1)
        for t in range(nt):
            for i in range(tail[t, T_GROUPS] * tail[t, T_EFFECTS]):
                bT[tail[t, T_COLUMN] + i] = x1[tail[t, T_COLUMN] + i, 0]
                b[tail[t, T_Z] + i] = bT[tail[t, T_COLUMN] + i]
    for level in range(s - 1, -1, -1):
        r = chain[level, C_EFFECTS]
        R = chain[level, C_ANCESTORS]
        nb = R + d
        lo = chain[level, C_LAMBDA]
        lm = lam[lo : lo + r * r].reshape(r, r)
        Q = np.empty(r)
        X = np.empty(r)
        for g in range(chain[level, C_GROUPS]):
            bo = boff[level] + g * r * nb
            block = chain[level, C_BLOCK] + g * r * r
            zoff = chain[level, C_Z] + order[chain[level, C_GROUP] + g] * r
            for i in range(r):
                x = 0.0
                for w in range(d):
                    x += Bt[bo + i * nb + R + w] * v[w]
                Q[i] = x
            ancestor = g
            start = 0
            for up in range(level + 1, s):
                ancestor = parent[chain[up - 1, C_GROUP] + ancestor]
                rl = chain[up, C_EFFECTS]
                zl = chain[up, C_Z] + order[chain[up, C_GROUP] + ancestor] * rl
                for i in range(r):
                    for e in range(rl):
                        Q[i] -= Bt[bo + i * nb + start + e] * b[zl + e]
                start += rl
            if nt > 0:
                first = lists[chain[level, C_LIST] + g]
                nz = lists[chain[level, C_LIST] + g + 1] - first
                base = chain[level, C_TZ] + r * (first - lists[chain[level, C_LIST]])
                for i in range(r):
                    for k in range(nz):
                        Q[i] -= Bz[base + i * nz + k] * bT[columns[first + k]]
            for i in range(r):
                x = 0.0
                for k in range(r):
                    x += lm[k, i] * Q[k]
                X[i] = x
            for i in range(r):
                x = 0.0
                for k in range(r):
                    x += lm[i, k] * X[k] + sigma * F[block + i * r + k] * z[zoff + k]
                b[zoff + i] = x
