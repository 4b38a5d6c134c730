"""Integrals over the effects of nested groups, at many parameter values: adaptive quadrature, or importance sampling.

For a group with r effects v ~ N(0, I) and log density l(v) of all that lies in it,

    log I = log sum_j exp(log w_j - v_j'v_j / 2 + l(v_j)) - log|L|,   v_j = m + L^-T x_j,   A = L L',

with m the mode of l(v) - v'v / 2 and A its curvature there. l(v) is a sum over rows, or over the log integrals of the
groups within, whose own nodes are placed anew at each v_j. The nodes x_j are Gauss and Hermite's, or those of a lattice
that is shifted at random and mapped to Student's t with 4 degrees of freedom: then I is unbiased whatever is in it.

The derivatives by effects further out are Fisher's and Louis's: E l', and E[-l''] - Var l' over the nodes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner, njit
from bayeslmm.factorisation.kernels.outcomes import density

POINTS = 12  # tangents of a hull
_LOG_T4 = math.log(3.0 / 8.0) + 0.9189385332046727  # of t's density with 4 degrees of freedom, over the normal's


class Chain(NamedTuple):
    """Nested groups, leaf first: C levels, M groups in all, R effects in all levels together, n rows."""

    code: int  # of the family
    y: np.ndarray  # (n,)
    N: np.ndarray  # (n,) trials
    weight: np.ndarray  # (n,) how many rows each stands for
    z: np.ndarray  # (n, R)
    offset: np.ndarray  # (C + 1,) where a level's columns begin in z
    lam: np.ndarray  # (C,) where its factor begins in lambda
    base: np.ndarray  # (C + 1,) where its groups begin among all M
    first: np.ndarray  # (M,) first child: a group of the level below, or a row
    last: np.ndarray  # (M,)
    row0: np.ndarray  # (M,) first row
    row1: np.ndarray  # (M,)
    count: np.ndarray  # (M,) how many groups each stands for
    start: np.ndarray  # (M, r) where to look for its mode


class Rules(NamedTuple):
    """Nodes: per level (C,) its kind, and how many of them: few for placing nodes further out, and all."""

    sampled: np.ndarray  # (C,) bool: a lattice
    nodes: np.ndarray  # (C, 2)
    x: np.ndarray  # (C, 2, most)
    log_w: np.ndarray  # (C, 2, most)
    generator: np.ndarray  # (r,) of the lattice


class Work(NamedTuple):
    """What is computed on the way, per level."""

    eta: np.ndarray  # (C + 1, n): with all effects of the levels from here on
    a: np.ndarray  # (n, R): z times the factor
    mode: np.ndarray  # (M, r)
    u: np.ndarray  # (C, r)
    best: np.ndarray  # (C, r)
    step: np.ndarray  # (C, r)
    L: np.ndarray  # (C, r, r)
    slope: np.ndarray  # (C, R): of what is inside, at one node
    bend: np.ndarray  # (C, R, R)
    e_slope: np.ndarray  # (C, R): of the integral
    e_bend: np.ndarray  # (C, R, R)
    terms: np.ndarray  # (C, most)
    hull: np.ndarray  # (C, 4, POINTS + 2): abscissae, heights, slopes, masses
    out: np.ndarray  # (M, r): effects that were drawn


@inner
def _mix(x):
    """A hash of 64 bits (splitmix64)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner
def _key(key, a):
    """The key of the a-th part of something."""
    return _mix(key ^ np.uint64(a))


@inner
def _within(key, k):
    """The key of group k in something."""
    return _mix(_mix(key) + np.uint64(k + 1))


@inner
def _uniform(key, k):
    """The k-th number of a key, strictly between 0 and 1."""
    return (float(_mix(key + np.uint64(k) * np.uint64(0xD1342543DE82EF95)) >> np.uint64(11)) + 0.5) / 9007199254740992.0


@inner
def _t4(p):
    """The quantile of Student's t with 4 degrees of freedom."""
    root = math.sqrt(max(4.0 * p * (1.0 - p), 1e-300))
    x = 2.0 * math.sqrt(max(math.cos(math.acos(min(root, 1.0)) / 3.0) / root - 1.0, 0.0))
    return x if p > 0.5 else -x


@inner
def _rows(c, k, full, wanted, key, chain, rules, values, work):
    """What is inside a leaf, the log density of its rows at eta[0]; its derivatives by all effects where wanted."""
    total = 0.0
    R = work.a.shape[1]
    if wanted:
        for p in range(R):
            work.slope[0, p] = 0.0
            for q in range(p + 1):
                work.bend[0, p, q] = 0.0
    for i in range(chain.row0[k], chain.row1[k]):
        value, first, second = density(chain.code, chain.y[i], chain.N[i], work.eta[0, i], values)
        w = chain.weight[i]
        total += w * value
        if wanted:
            second = max(-second, 0.0)
            for p in range(R):
                work.slope[0, p] += w * first * work.a[i, p]
                for q in range(p + 1):
                    work.bend[0, p, q] += w * second * work.a[i, p] * work.a[i, q]
    return total


@inner
def _move(chain, work, c, k):
    """eta[c] = eta[c + 1] + a u of the group's rows."""
    begin, end = chain.offset[c], chain.offset[c + 1]
    for i in range(chain.row0[k], chain.row1[k]):
        x = work.eta[c + 1, i]
        for p in range(begin, end):
            x += work.a[i, p] * work.u[c, p - begin]
        work.eta[c, i] = x


@inner
def _factor(L, A, r, at):
    """L L' = I + A[at:, at:]; diagonal where that isn't positive definite."""
    for p in range(r):
        for q in range(p + 1):
            x = A[at + p, at + q]
            if p == q:
                x += 1.0
            for s in range(q):
                x -= L[p, s] * L[q, s]
            if p == q:
                if not x > 1e-8:
                    for s in range(r):
                        for t in range(s):
                            L[s, t] = 0.0
                        L[s, s] = math.sqrt(1.0 + max(A[at + s, at + s], 0.0))
                    return
                L[p, p] = math.sqrt(x)
            else:
                L[p, q] = x / L[q, q]


@inner
def _down(L, r, x):
    """L^-1 x in place."""
    for p in range(r):
        for q in range(p):
            x[p] -= L[p, q] * x[q]
        x[p] /= L[p, p]


@inner
def _up(L, r, x):
    """L^-T x in place."""
    for p in range(r - 1, -1, -1):
        for q in range(p + 1, r):
            x[p] -= L[q, p] * x[q]
        x[p] /= L[p, p]


@inner
def _node(chain, rules, work, c, full, key, j):
    """u[c] = best + L^-T x_j; returns the node's log weight over the standard normal density, log|L| apart."""
    r = chain.offset[c + 1] - chain.offset[c]
    u = work.u[c]
    if rules.sampled[c]:
        S = rules.nodes[c, full]
        log_w = -math.log(S)
        for p in range(r):
            at = _uniform(key, p) + (j * rules.generator[p] if p else j / S)
            x = _t4(min(max(at - math.floor(at), 1e-15), 1.0 - 1e-15))
            log_w += 2.5 * math.log1p(0.25 * x * x) - _LOG_T4
            u[p] = x
    else:
        u[0] = rules.x[c, full, j]
        log_w = rules.log_w[c, full, j]
    _up(work.L[c], r, u)
    for p in range(r):
        u[p] += work.best[c, p]
        log_w -= 0.5 * u[p] * u[p]
    return log_w


@inner
def _newton(chain, work, c, f, now, halvings):
    """One step of the search for a mode: (the height that is held, halvings of the present step, whether it is there).

    The trial is u[c], of height f; `best` is the point that is held, of height `now`.
    """
    at = chain.offset[c]
    r = chain.offset[c + 1] - at
    u, best, step = work.u[c], work.best[c], work.step[c]
    if not f >= now - 1e-9 * (1.0 + abs(now)) and halvings < 30:
        for p in range(r):
            step[p] *= 0.5
            u[p] = best[p] + step[p]
        return now, halvings + 1, False
    if halvings >= 30:
        return now, halvings, True
    for p in range(r):
        best[p] = u[p]
        step[p] = work.slope[c, at + p] - u[p]
    L = work.L[c]
    _factor(L, work.bend[c], r, at)
    _down(L, r, step)
    size = 0.0
    for p in range(r):
        size += step[p] * step[p]
    _up(L, r, step)
    for p in range(r):
        u[p] = best[p] + step[p]
    if size < 1e-4:  # a hundredth of the spread: nodes need no more
        for p in range(r):
            best[p] = u[p]
        return f, 0, True
    return f, 0, False


def _over(integral):
    """What is inside a group of the next level out: the sum over the groups within."""

    @inner
    def inside(c, k, full, wanted, key, chain, rules, values, work):
        at, R = chain.offset[c], work.a.shape[1]
        slope, bend, e_slope, e_bend = work.slope[c], work.bend[c], work.e_slope[c - 1], work.e_bend[c - 1]
        total = 0.0
        if wanted:
            for p in range(at, R):
                slope[p] = 0.0
                for q in range(at, p + 1):
                    bend[p, q] = 0.0
        for h in range(chain.first[k], chain.last[k]):
            kid = chain.base[c - 1] + h
            times = chain.count[kid]
            total += times * integral(c - 1, kid, full, wanted, _within(key, kid), chain, rules, values, work)
            if wanted:
                for p in range(at, R):
                    slope[p] += times * e_slope[p]
                    for q in range(at, p + 1):
                        bend[p, q] += times * e_bend[p, q]
        return total

    return inside


def _integrating(inside):
    """The log integral of a group whose log density is `inside`."""

    @inner
    def integral(c, k, full, wanted, key, chain, rules, values, work):
        """At eta[c + 1]; the derivatives by effects further out where they are wanted."""
        r, end, R = chain.offset[c + 1] - chain.offset[c], chain.offset[c + 1], work.a.shape[1]
        u, slope, bend = work.u[c], work.slope[c], work.bend[c]
        e_slope, e_bend = work.e_slope[c], work.e_bend[c]
        for p in range(r):
            u[p] = work.mode[k, p]
            work.best[c, p] = 0.0
        placing, searches, now, halvings = True, 0, -np.inf, 0
        nodes, j = rules.nodes[c, full], 0
        top, total, log_w = -np.inf, 0.0, 0.0
        while j < nodes:
            if not placing:
                log_w = _node(chain, rules, work, c, full, key, j)
            _move(chain, work, c, k)
            own = _key(key, np.uint64(0 if placing else j + 1))
            value = inside(c, k, 0 if placing else full, wanted or placing, own, chain, rules, values, work)
            if placing:
                f = value
                for p in range(r):
                    f -= 0.5 * u[p] * u[p]
                now, halvings, done = _newton(chain, work, c, f, now, halvings)
                searches += 1
                if done or searches >= (100 if c == 0 else 12):
                    placing = False
                    if not rules.sampled[c]:  # a lattice must be found again where it was
                        for p in range(r):
                            work.mode[k, p] = work.best[c, p]
                    for p in range(end, R):
                        e_slope[p] = 0.0
                        for q in range(end, p + 1):
                            e_bend[p, q] = 0.0
                continue
            term = log_w + value
            work.terms[c, j] = term
            j += 1
            if not term > -1e300:
                continue
            if term > top:
                shrink = math.exp(top - term) if top > -1e300 else 0.0
                total *= shrink
                if wanted:
                    for p in range(end, R):
                        e_slope[p] *= shrink
                        for q in range(end, p + 1):
                            e_bend[p, q] *= shrink
                top = term
            w = math.exp(term - top)
            total += w
            if wanted:
                for p in range(end, R):
                    e_slope[p] += w * slope[p]
                    for q in range(end, p + 1):
                        e_bend[p, q] += w * (bend[p, q] - slope[p] * slope[q])
        if not total > 0:
            return -np.inf
        if wanted:
            for p in range(end, R):
                e_slope[p] /= total
            for p in range(end, R):
                for q in range(end, p + 1):
                    e_bend[p, q] = e_bend[p, q] / total + e_slope[p] * e_slope[q]
        for p in range(r):
            top -= math.log(work.L[c, p, p])
        return top + math.log(total)

    return integral


@inner
def _insert(hull, size, x, f, s):
    """One more tangent."""
    at = size
    while at > 0 and hull[0, at - 1] > x:
        for row in range(3):
            hull[row, at] = hull[row, at - 1]
        at -= 1
    hull[0, at], hull[1, at], hull[2, at] = x, f, s
    return size + 1


@inner
def _crossing(hull, i):
    """Where the tangents i and i + 1 meet."""
    x0, f0, s0 = hull[0, i], hull[1, i], hull[2, i]
    x1, f1, s1 = hull[0, i + 1], hull[1, i + 1], hull[2, i + 1]
    if not s0 - s1 > 1e-10:
        return 0.5 * (x0 + x1)
    return min(max((f1 - f0 - s1 * x1 + s0 * x0) / (s0 - s1), x0), x1)


@inner
def _from_hull(hull, size, top, u_piece, u_in):
    """(a draw from exp(hull), the hull's height there); the tangents' masses are in the last row."""
    total = 0.0
    for i in range(size):
        low = -np.inf if i == 0 else _crossing(hull, i - 1)
        high = np.inf if i == size - 1 else _crossing(hull, i)
        x, f, s = hull[0, i], hull[1, i] - top, hull[2, i]
        if abs(s) * (high - low) < 1e-8:
            mass = math.exp(f) * (high - low)
        else:
            mass = (math.exp(f + s * (high - x)) - math.exp(f + s * (low - x))) / s
        total += max(mass, 0.0)
        hull[3, i] = total
    i = 0
    while i < size - 1 and hull[3, i] < u_piece * total:
        i += 1
    low = -np.inf if i == 0 else _crossing(hull, i - 1)
    high = np.inf if i == size - 1 else _crossing(hull, i)
    x, f, s = hull[0, i], hull[1, i], hull[2, i]
    if abs(s) * (high - low) < 1e-8:
        at = low + u_in * (high - low)
    elif s > 0:  # from the upper end down
        at = high + math.log(u_in + (1.0 - u_in) * math.exp(-s * (high - low))) / s
    else:
        at = low + math.log(u_in + (1.0 - u_in) * math.exp(s * (high - low))) / s
    return at, f + s * (at - x)


def _rejecting(inside):
    """Draws of a group's one effect, by rejection under tangents of its log density, which is concave.

    Source: Gilks & Wild (1992).
    """

    @inner
    def height(c, k, x, key, chain, rules, values, work):
        """(log density at x, its slope), all within integrated."""
        work.u[c, 0] = x
        _move(chain, work, c, k)
        f = inside(c, k, 1, True, key, chain, rules, values, work)
        return f - 0.5 * x * x, work.slope[c, chain.offset[c]] - x

    @inner
    def draw(c, k, key, chain, rules, values, work):
        hull, u = work.hull[c], work.u[c]
        u[0] = work.mode[k, 0]
        work.best[c, 0] = 0.0
        now, halvings = -np.inf, 0
        for _ in range(60):
            f, _ = height(c, k, u[0], key, chain, rules, values, work)
            now, halvings, done = _newton(chain, work, c, f, now, halvings)
            if done:
                break
        centre, spread = work.best[c, 0], 1.0 / work.L[c, 0, 0]
        size = 0
        for j in range(3):
            x = centre + (j - 1) * 1.2 * spread
            f, s = height(c, k, x, key, chain, rules, values, work)
            size = _insert(hull, size, x, f, s)
        far = spread
        for _ in range(40):
            left, right = hull[2, 0] > 1e-3 / far, hull[2, size - 1] < -1e-3 / far
            if (left and right) or size >= POINTS:
                break
            far *= 2.0
            x = hull[0, 0] - far if not left else hull[0, size - 1] + far
            f, s = height(c, k, x, key, chain, rules, values, work)
            size = _insert(hull, size, x, f, s)
        top = hull[1, 0]
        for j in range(1, size):
            top = max(top, hull[1, j])
        x = centre
        for attempt in range(10_000):
            x, above = _from_hull(hull, size, top, _uniform(key, 3 * attempt), _uniform(key, 3 * attempt + 1))
            f, s = height(c, k, x, key, chain, rules, values, work)
            if math.log(_uniform(key, 3 * attempt + 2)) <= f - above:
                break
            if size < POINTS:
                size = _insert(hull, size, x, f, s)
        u[0] = x

    return draw


@inner
def _take(c, pick, chain, rules, work):
    """One of a lattice's nodes, by its weight."""
    nodes = rules.nodes[c, 1]
    top, total = -np.inf, 0.0
    for i in range(nodes):
        top = max(top, work.terms[c, i])
    for i in range(nodes):
        total += math.exp(work.terms[c, i] - top)
    left = _uniform(pick, 0) * total
    for i in range(nodes):
        left -= math.exp(work.terms[c, i] - top)
        if left <= 0:
            return i
    return nodes - 1


def _drawing(inside, integral, below):
    """Draws of a group's effects, and of those within, at eta[c + 1], into `out`; `below` is None for a leaf."""
    reject = _rejecting(inside)

    @inner
    def own(c, k, key, pick, chain, rules, values, work):
        j, mine = 0, _within(pick, k)
        if rules.sampled[c]:
            integral(c, k, 1, False, key, chain, rules, values, work)
            j = _take(c, mine, chain, rules, work)
            _node(chain, rules, work, c, 1, key, j)
        else:
            reject(c, k, mine, chain, rules, values, work)
        _move(chain, work, c, k)
        for p in range(chain.offset[c + 1] - chain.offset[c]):
            work.out[k, p] = work.u[c, p]
        return j

    if below is None:
        return own

    @inner
    def draw(c, k, key, pick, chain, rules, values, work):
        j = own(c, k, key, pick, chain, rules, values, work)
        key = _key(key, np.uint64(j + 1))
        for h in range(chain.first[k], chain.last[k]):
            kid = chain.base[c - 1] + h
            below(c - 1, kid, _within(key, kid), pick, chain, rules, values, work)
        return j

    return draw


_integral_1 = _integrating(_rows)
_integral_2 = _integrating(_over(_integral_1))
_integral_3 = _integrating(_over(_integral_2))
_draw_1 = _drawing(_rows, _integral_1, None)
_draw_2 = _drawing(_over(_integral_1), _integral_2, _draw_1)
_draw_3 = _drawing(_over(_integral_2), _integral_3, _draw_2)
DEPTH = 3  # levels of a chain that there are functions for


@njit
def walk(chain, rules, work, eta, lams, values, keys, picks, out, effects):
    """At each of B parameter values: the log density of y (B,), and effects (B, M, r) where `picks` asks for them.

    Parameters
    ----------
    eta : (B, n)
        Offset + X beta.
    lams : (B, L)
        Factors of all levels, flat.
    values : (B, k)
        The family's own parameters.
    keys, picks : (B,) of uint64
        What the lattices' shifts, and the draws, are made of. Without picks nothing is drawn.
    """
    chain, rules, work = Chain(*chain), Rules(*rules), Work(*work)
    C, n = chain.offset.shape[0] - 1, eta.shape[1]
    for b in range(eta.shape[0]):
        for i in range(n):
            work.eta[C, i] = eta[b, i]
        for c in range(C):
            begin, end = chain.offset[c], chain.offset[c + 1]
            r = end - begin
            for i in range(n):
                for p in range(r):
                    x = 0.0
                    for q in range(r):
                        x += chain.z[i, begin + q] * lams[b, chain.lam[c] + q * r + p]
                    work.a[i, begin + p] = x
        for k in range(chain.start.shape[0]):
            for p in range(chain.start.shape[1]):
                work.mode[k, p] = chain.start[k, p]
        if C == 0:
            total = 0.0
            for i in range(n):
                value, _, _ = density(chain.code, chain.y[i], chain.N[i], eta[b, i], values[b])
                total += chain.weight[i] * value
            out[b] = total
            continue
        for k in range(chain.base[C - 1], chain.base[C]):
            own = _within(keys[b], k)
            if picks.shape[0] > 0:
                if C == 1:
                    _draw_1(0, k, own, picks[b], chain, rules, values[b], work)
                elif C == 2:
                    _draw_2(1, k, own, picks[b], chain, rules, values[b], work)
                else:
                    _draw_3(2, k, own, picks[b], chain, rules, values[b], work)
            elif C == 1:
                work.out[k, 0] = _integral_1(0, k, 1, False, own, chain, rules, values[b], work)
            elif C == 2:
                work.out[k, 0] = _integral_2(1, k, 1, False, own, chain, rules, values[b], work)
            else:
                work.out[k, 0] = _integral_3(2, k, 1, False, own, chain, rules, values[b], work)
        total = 0.0
        for k in range(chain.base[C - 1], chain.base[C]):
            total += chain.count[k] * work.out[k, 0]
        out[b] = total
        if effects.shape[0] > 0:  # effects, or the log integrals of the outermost groups
            for k in range(work.out.shape[0]):
                for p in range(work.out.shape[1]):
                    effects[b, k, p] = work.out[k, p]
