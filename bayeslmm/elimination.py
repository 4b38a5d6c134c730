r"""The kernels: value and gradient of (log det, T) from the statistics, without the data.

With relative factor ``Lambda = blockdiag(I (x) lambda_k)`` and ``V0 = Z Lambda Lambda' Z' + I``, for any
columns ``W`` (the model's are ``[X y]``):

    log|V0|        and        T = W' V0^-1 W        (d x d)

The levels of a nested chain are eliminated group by group, leaf first, as in a multifrontal Cholesky
factorisation: the groups of a level touch only their own ancestors, so the work is linear in the number of
groups. Levels that are crossed with the chain (the tail) meet in one dense Schur complement.

Per group, with ``A = Z_j' V_<^-1 Z_j`` and ``B = Z_j' V_<^-1 [ancestors, W]`` after its descendants were
integrated out, elimination needs

    A~ = (I + A lambda lambda')^-1 A,     B~ = (I + A lambda lambda')^-1 B,

and everything else is written in terms of these two, which are finite at lambda = 0 and keep their relative
accuracy as lambda grows: no formula here divides by lambda, and columns that lie in the span of a level's own
columns leave exactly no residue instead of one of rounding size.

Notes
-----
Elimination by levels follows Bates, Alday, Kleinschmidt et al., MixedModels.jl; the gradient is
``d log|V0| = 2 tr(Z' V0^-1 Z  dLambda Lambda')`` and ``d T = -2 Q' dLambda Lambda' Q`` with ``Q = Z' V0^-1 W``.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.compiling import njit
from bayeslmm.tail import T_COLUMN, T_EFFECTS, T_GROUPS, T_Z, tail_forward

# Columns of the table `chain`, one row per level of the nested chain, leaf first.
(
    C_LEVEL,
    C_GROUPS,
    C_EFFECTS,
    C_ANCESTORS,
    C_Z,
    C_LAMBDA,
    C_POSITION,
    C_GROUP,
    C_ZZ,
    C_BLOCK,
    C_LIST,
    C_TZ,
    C_MAP,
) = range(13)


@njit
def _semidefinite_cholesky(A, R):
    """Upper R with R'R = A; a pivot that rounding made of zero leaves a zero row."""
    r = A.shape[0]
    for k in range(r):
        pivot = A[k, k]
        for i in range(k):
            pivot -= R[i, k] * R[i, k]
        for c in range(r):
            R[k, c] = 0.0
        if pivot > 1e-14 * A[k, k]:
            root = np.sqrt(pivot)
            R[k, k] = root
            for c in range(k + 1, r):
                x = A[k, c]
                for i in range(k):
                    x -= R[i, k] * R[i, c]
                R[k, c] = x / root


@njit
def _cholesky(A, L):
    """Lower L with L L' = A, for a small positive definite A."""
    r = A.shape[0]
    for i in range(r):
        for j in range(i + 1):
            x = A[i, j]
            for k in range(j):
                x -= L[i, k] * L[j, k]
            if i == j:
                L[i, i] = np.sqrt(x)
            else:
                L[i, j] = x / L[j, j]
                L[j, i] = 0.0


@njit
def _eliminate(A, lam, R, E, L, F, K, X):
    """Factor one group's small matrices.

    R'R = A, L L' = I + R lam lam' R', F F' = lam (I + lam' A lam)^-1 lam', K = (I + A lam lam')^-1.

    Returns log|I + lam' A lam|.
    """
    r = A.shape[0]
    _semidefinite_cholesky(A, R)
    for i in range(r):
        for j in range(r):
            x = 0.0
            for k in range(i, r):
                x += R[i, k] * lam[k, j]
            X[i, j] = x
    # F = lam L_D^-T with D = I + X'X
    for i in range(r):
        for j in range(r):
            x = 1.0 if i == j else 0.0
            for k in range(r):
                x += X[k, i] * X[k, j]
            E[i, j] = x
    _cholesky(E, L)
    for i in range(r):
        for j in range(r):
            x = lam[i, j]
            for k in range(j):
                x -= F[i, k] * L[j, k]
            F[i, j] = x / L[j, j]
    for i in range(r):
        for j in range(r):
            x = 0.0
            for k in range(r):
                x += X[i, k] * X[j, k]
            E[i, j] = x
    logdet = 0.0
    for i in range(r):  # Cholesky factor of I + E; a pivot's excess over one is kept apart for the log
        for j in range(i + 1):
            x = E[i, j]
            for k in range(j):
                x -= L[i, k] * L[j, k]
            if i == j:
                logdet += np.log1p(x)
                L[i, i] = np.sqrt(1.0 + x)
            else:
                L[i, j] = x / L[j, j]
                L[j, i] = 0.0
    # K = R' E^-1 R^-T, column by column
    for c in range(r):
        for i in range(r):  # forward substitution with R'
            x = 1.0 if i == c else 0.0
            for k in range(i):
                x -= R[k, i] * X[k, c]
            X[i, c] = x / R[i, i] if R[i, i] > 0.0 else 0.0
        for i in range(r):
            x = X[i, c]
            for k in range(i):
                x -= L[i, k] * X[k, c]
            X[i, c] = x / L[i, i]
        for i in range(r - 1, -1, -1):
            x = X[i, c]
            for k in range(i + 1, r):
                x -= L[k, i] * X[k, c]
            X[i, c] = x / L[i, i]
        for i in range(r):
            x = 0.0
            for k in range(i + 1):
                x += R[k, i] * X[k, c]
            K[i, c] = x
    return logdet


@njit
def _whiten(R, L, b, s, y, c):
    """Column c: s = R'^-1 b (zero where a pivot is), y = L^-1 s."""
    r = R.shape[0]
    for i in range(r):
        x = b[i, c]
        for k in range(i):
            x -= R[k, i] * s[k, c]
        s[i, c] = x / R[i, i] if R[i, i] > 0.0 else 0.0
    for i in range(r):
        x = s[i, c]
        for k in range(i):
            x -= L[i, k] * y[k, c]
        y[i, c] = x / L[i, i]


@njit
def _eliminate_block(G, lam, A_out, B_out, F, K, s, y, work):
    """Eliminate one group of r > 1 effects whose own rows are G = [A | B].

    Fills A~, B~, F and K = (I + A lam lam')^-1, and per column b of B the whitened s = R'^-1 b and y = L^-1 s.
    Returns log|I + lam' A lam|.
    """
    r = lam.shape[0]
    R, E, L, X = work[0, :r, :r], work[1, :r, :r], work[2, :r, :r], work[3, :r, :r]
    logdet = _eliminate(G[:, :r], lam, R, E, L, F, K, X)
    for b in range(r):  # X = L^-1 R, then A~ = X'X
        for a in range(r):
            x = R[a, b]
            for k in range(a):
                x -= L[a, k] * X[k, b]
            X[a, b] = x / L[a, a]
    for a in range(r):
        for b in range(r):
            x = 0.0
            for k in range(r):
                x += X[k, a] * X[k, b]
            A_out[a, b] = x
    for b in range(B_out.shape[1]):
        _whiten(R, L, G[:, r:], s, y, b)
        for a in range(r):
            x = 0.0
            for k in range(r):
                x += K[a, k] * G[k, r + b]
            B_out[a, b] = x
    return logdet


@njit
def _subtract_at(row, columns, x, values):
    """Subtract x * values from the given columns of a row."""
    for j in range(columns.size):
        row[columns[j]] -= x * values[j]


@njit
def _couple_tail(chain, level, g, parent, lists, columns, maps, G, F, K, Vt, Vc, Bz, S, SW):
    """Subtract one group's share from S, SW and its ancestors' rows; leave B~ of its tail columns in Bz."""
    r = K.shape[0]
    ancestors = chain[level, C_ANCESTORS]
    d = SW.shape[1]
    begin = lists[chain[level, C_LIST]]
    first = lists[chain[level, C_LIST] + g]
    nz = lists[chain[level, C_LIST] + g + 1] - first
    base = chain[level, C_TZ] + r * (first - begin)
    Z = Bz[base : base + r * nz].reshape(r, nz)
    unsigned = columns[first : first + nz].view(np.uint64)  # spares numba the question whether an index is negative
    for e in range(r):
        for k in range(nz):
            v = 0.0
            for a in range(r):
                v += F[a, e] * Z[a, k]
            Vt[e, k] = v
        for k in range(ancestors + d):
            v = 0.0
            for a in range(r):
                v += F[a, e] * G[a, r + k]
            Vc[e, k] = v
    for e in range(r):
        for k in range(nz):
            row = columns[first + k]
            v = Vt[e, k]
            _subtract_at(S[row], unsigned[k:], v, Vt[e, k:nz])  # the columns ascend: the upper triangle
            for w in range(d):
                SW[row, w] -= v * Vc[e, ancestors + w]
    total = lists[chain[level, C_LIST] + chain[level, C_GROUPS]] - begin
    ancestor = g
    start = 0
    for up in range(level + 1, chain.shape[0]):
        ancestor = parent[chain[up - 1, C_GROUP] + ancestor]
        effects = chain[up, C_EFFECTS]
        there = lists[chain[up, C_LIST] + ancestor]
        length = lists[chain[up, C_LIST] + ancestor + 1] - there
        at = chain[up, C_TZ] + effects * (there - lists[chain[up, C_LIST]])
        to = chain[level, C_MAP] + (up - level - 1) * total + (first - begin)
        for a in range(effects):
            for e in range(r):
                v = Vc[e, start + a]
                for k in range(nz):
                    Bz[at + a * length + maps[to + k]] -= v * Vt[e, k]
        start += effects
    for k in range(nz):
        for a in range(r):
            v = 0.0
            for b in range(r):
                v += K[a, b] * Z[b, k]
            Vt[a, k] = v
        for a in range(r):
            Z[a, k] = Vt[a, k]


@njit
def b_offsets(chain, d):
    """Where each chain level's B~ begins in the flat array, and the array's length."""
    s = chain.shape[0]
    offsets = np.zeros(s + 1, np.int64)
    for i in range(s):
        offsets[i + 1] = offsets[i] + chain[i, C_GROUPS] * chain[i, C_EFFECTS] * (chain[i, C_ANCESTORS] + d)
    return offsets


@njit
def forward(
    chain,
    tail,
    parent,
    order,
    zz,
    inspan,
    zz_tail,
    lists,
    columns,
    zt,
    maps,
    winspan,
    lam,
    ZtW,
    WtW,
    At,
    Bt,
    Bz,
    F,
    S,
    SW,
    Lt,
    T,
):
    """Eliminate all effects; fill At, Bt, Bz, F, S and SW (the tail's Gram), its factor Lt, and T; return log|V0|.

    Of S and Lt the upper triangles are filled. `tail` may be None where there is none: nothing of it is compiled then.
    """
    s = chain.shape[0]
    d = WtW.shape[0]
    nt = 0
    if tail is not None:
        nt = tail.shape[0]
    boff = b_offsets(chain, d)
    logdet = 0.0

    # Pairs of columns that some level resolves exactly come from that level alone.
    for a in range(d):
        for b in range(d):
            drop = False
            for i in range(s):
                drop = drop or winspan[i, a] or winspan[i, b]
            T[a, b] = 0.0 if drop else WtW[a, b]
    if tail is not None and nt > 0:
        for i in range(S.shape[0]):
            S[i, i:] = zz_tail[i, i:]
        for t in range(nt):
            rows = tail[t, T_GROUPS] * tail[t, T_EFFECTS]
            for row in range(rows):
                for w in range(d):
                    SW[tail[t, T_COLUMN] + row, w] = ZtW[tail[t, T_Z] + row, w]
    if s > 0:
        Bz[:] = zt

    widest = 0
    largest = 1
    foff = np.zeros(s + 1, np.int64)
    for i in range(s):
        c = chain[i, C_EFFECTS] + chain[i, C_ANCESTORS] + d
        foff[i + 1] = foff[i] + c * c
        widest = max(widest, c)
        largest = max(largest, chain[i, C_EFFECTS])
    fronts = np.zeros(foff[s])
    longest = 0
    if nt > 0:
        for i in range(s):
            for g in range(chain[i, C_GROUPS]):
                longest = max(longest, lists[chain[i, C_LIST] + g + 1] - lists[chain[i, C_LIST] + g])
    Gf = np.empty((largest, widest))
    Kf = np.empty((largest, largest))
    work = np.empty((4, largest, largest))
    sf = np.empty((largest, widest))
    yf = np.empty((largest, widest))
    Vt = np.empty((largest, longest))
    Vc = np.empty((largest, widest))
    keep = np.ones((max(s, 1), largest, d))
    for i in range(s):
        for e in range(chain[i, C_EFFECTS]):
            for w in range(d):
                for j in range(i):
                    if inspan[j, chain[i, C_POSITION] + e] or winspan[j, w]:
                        keep[i, e, w] = 0.0

    level = 0
    group = 0
    while s > 0 and group < chain[0, C_GROUPS]:
        # the leaf `group`, then every ancestor whose last child has just been done
        level = 0
        g = group
        while True:
            r = chain[level, C_EFFECTS]
            R_ = chain[level, C_ANCESTORS]
            nb = R_ + d
            c = r + nb
            front = fronts[foff[level] : foff[level + 1]].reshape(c, c)
            zoff = chain[level, C_Z] + order[chain[level, C_GROUP] + g] * r
            own = chain[level, C_ZZ] + g * r * (r + R_)
            G = Gf[:r, :c]
            K = Kf[:r, :r]
            for a in range(r):
                for b in range(r + R_):
                    G[a, b] = zz[own + a * (r + R_) + b]
                for w in range(d):
                    G[a, r + R_ + w] = ZtW[zoff + a, w] * keep[level, a, w]
                if level > 0:
                    for b in range(a, c):
                        G[a, b] += front[a, b]
                    for b in range(a):
                        G[a, b] += front[b, a]
            lo = chain[level, C_LAMBDA]
            lm = lam[lo : lo + r * r].reshape(r, r)
            block = chain[level, C_BLOCK] + g * r * r
            Fg = F[block : block + r * r].reshape(r, r)
            Ag = At[block : block + r * r].reshape(r, r)
            bo = boff[level] + g * r * nb
            Bg = Bt[bo : bo + r * nb].reshape(r, nb)
            if r == 1:
                A = G[0, 0]
                x = lm[0, 0] * lm[0, 0] * A
                e = 1.0 + x
                logdet += np.log1p(x)
                Fg[0, 0] = lm[0, 0] / np.sqrt(e)
                K[0, 0] = 1.0 / e
                Ag[0, 0] = A / e
                for b in range(nb):
                    Bg[0, b] = G[0, 1 + b] / e
            else:
                logdet += _eliminate_block(G, lm, Ag, Bg, Fg, K, sf, yf, work)
            # what is left for the ancestors and W
            top = level + 1 == s
            for a in range(nb):
                ina = inspan[level, chain[level, C_POSITION] + r + a] if a < R_ else winspan[level, a - R_]
                for b in range(a, nb):
                    inb = inspan[level, chain[level, C_POSITION] + r + b] if b < R_ else winspan[level, b - R_]
                    if r == 1:
                        full = G[0, 1 + a] * Bg[0, b]
                        if ina or inb:
                            x = full / G[0, 0] if G[0, 0] > 0.0 else 0.0
                        else:
                            x = front[1 + a, 1 + b] - full * lm[0, 0] * lm[0, 0]
                    else:
                        x = 0.0
                        for k in range(r):
                            x += yf[k, a] * yf[k, b]
                        if not (ina or inb):
                            for k in range(r):
                                x -= sf[k, a] * sf[k, b]
                            x += front[r + a, r + b]
                    if top:
                        T[a, b] += x
                    else:
                        fronts[foff[level + 1] + a * nb + b] += x
            if tail is not None and nt > 0:
                _couple_tail(chain, level, g, parent, lists, columns, maps, G, Fg, K, Vt, Vc, Bz, S, SW)
            if level > 0:
                front[:, :] = 0.0
            if top:
                break
            mother = parent[chain[level, C_GROUP] + g]
            last = g + 1 == chain[level, C_GROUPS] or parent[chain[level, C_GROUP] + g + 1] != mother
            if not last:
                break
            level += 1
            g = mother
        group += 1

    if tail is not None and nt > 0:
        logdet += tail_forward(tail, lam, S, SW, Lt, T)
    for a in range(d):
        for b in range(a):
            T[a, b] = T[b, a]
    return logdet
