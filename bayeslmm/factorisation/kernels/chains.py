"""Integrals over the effects of nested groups, at many parameter values: adaptive quadrature, or importance sampling.

For a group with r effects v ~ N(0, I) and log density l(v) of all that lies in it,

    log I = log sum_j exp(log w_j - v_j'v_j / 2 + l(v_j)) - log|L|,   v_j = m + L^-T x_j,   A = L L',

with m the mode of l(v) - v'v / 2 and A its curvature there. l(v) is a sum over rows, or over the log integrals of the
groups within, whose own nodes are placed anew at each v_j. For one effect the nodes are equally spaced, as many as have
any weight: the error of the trapezoidal rule falls exponentially with their distance. Else they are those of a lattice
that is shifted at random and mapped to Student's t with 4 degrees of freedom: then I is unbiased whatever is in it.

The derivatives by effects further out are Fisher's and Louis's: E l', and E[-l''] - Var l' over the nodes.

Source: Trefethen & Weideman (2014) for the trapezoidal rule.
"""

from __future__ import annotations

import math

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner, njit
from bayeslmm.factorisation.kernels.group_arrays import Chain, Rules, Work
from bayeslmm.factorisation.kernels.hulls import reject
from bayeslmm.factorisation.kernels.leaves import (
    MOST,
    add_node,
    integrate_leaves,
    lattice_node,
    move_rows,
    newton,
    reject_leaves,
    shrink_sums,
)
from bayeslmm.factorisation.kernels.outcomes import density
from bayeslmm.factorisation.kernels.random_numbers import key_of, uniform, within

_LOG_SQRT_2PI = 0.9189385332046727
DEPTH = 3  # levels of a chain that there are functions for


def _over(integrate):
    """The sum of the log integrals of groups of the next level out: the same arguments as `integrate_leaves` has."""

    @inner
    def inside(c, k, full, wanted, key, chain, rules, values, work):
        """What lies in group k of level c, at eta[c]; its derivatives go to slope[c] and bend[c]."""
        slope, bend, at, R = work.slope[c], work.bend[c], chain.offset[c], work.a.shape[1]
        if wanted:
            shrink_sums(slope, bend, at, R, 0.0)
        base = chain.base[c - 1]
        first, last = base + chain.first[k], base + chain.last[k]
        return integrate(c - 1, first, last, full, wanted, key, slope, bend, chain, rules, values, work)

    return inside


def _integrating(inside):
    """The sum of the log integrals of the groups from `first` to `last` of level c, at eta[c + 1]."""

    @inner
    def integrate(c, first, last, full, wanted, key, slope, bend, chain, rules, values, work):
        at, end, R = chain.offset[c], chain.offset[c + 1], work.a.shape[1]
        r = end - at
        u, best, step, L = work.u[c], work.best[c], work.step[c], work.L[c]
        own_slope, own_bend, e_slope, e_bend = work.slope[c], work.bend[c], work.e_slope[c], work.e_bend[c]
        nodes, sampled, h, drop = rules.nodes[c, full], rules.sampled[c], rules.step[c, full], rules.drop[full]
        sum_of_all = 0.0
        for k in range(first, last):
            own = within(key, k)
            begin, stop = chain.row0[k], chain.row1[k]
            for p in range(r):
                u[p] = work.mode[k, p]
                best[p] = 0.0
            now, halvings = -np.inf, 0
            for _ in range(30):
                move_rows(work.eta[c], work.eta[c + 1], work.a, u, at, end, begin, stop)
                f = inside(c, k, 0, True, key_of(own, np.uint64(0)), chain, rules, values, work)
                for p in range(r):
                    f -= 0.5 * u[p] * u[p]
                now, halvings, done = newton(own_slope, own_bend, L, u, best, step, r, at, f, now, halvings)
                if done:
                    break
            if not sampled:  # a lattice must be found again where it was
                for p in range(r):
                    work.mode[k, p] = best[p]
            top, mass, lost = -np.inf, 0.0, False
            if wanted:
                shrink_sums(e_slope, e_bend, end, R, 0.0)
            if sampled:
                for j in range(nodes):
                    term = lattice_node(nodes, rules.generator, L, best, u, r, own, j)
                    move_rows(work.eta[c], work.eta[c + 1], work.a, u, at, end, begin, stop)
                    term += inside(c, k, full, wanted, key_of(own, np.uint64(j + 1)), chain, rules, values, work)
                    work.terms[c, j] = term
                    if term > -1e300:
                        top, mass = add_node(term, top, mass, wanted, own_slope, own_bend, e_slope, e_bend, end, R)
            else:  # the trapezoidal rule, from the mode out to both sides
                width = h / L[0, 0]
                for side in range(2):
                    u[0] = best[0]
                    for j in range(0 if lost else MOST):
                        if j > 0:
                            u[0] += width if side == 0 else -width
                        elif side == 1:
                            continue
                        move_rows(work.eta[c], work.eta[c + 1], work.a, u, at, end, begin, stop)
                        term = inside(c, k, full, wanted, own, chain, rules, values, work) - 0.5 * u[0] * u[0]
                        if not term > top - drop:
                            break
                        if j == MOST - 1:
                            lost = True
                        top, mass = add_node(term, top, mass, wanted, own_slope, own_bend, e_slope, e_bend, end, R)
                top += math.log(h) - _LOG_SQRT_2PI
            value, times = -np.inf, chain.times[k]
            if mass > 0 and not lost:
                value = top + math.log(mass)
                for p in range(r):
                    value -= math.log(L[p, p])
                if wanted:
                    shrink_sums(e_slope, e_bend, end, R, 1.0 / mass)
                    for p in range(end, R):
                        slope[p] += times * e_slope[p]
                        for q in range(end, p + 1):
                            bend[p, q] += times * (e_bend[p, q] + e_slope[p] * e_slope[q])
            work.out[k, 0] = value
            sum_of_all += times * value
        return sum_of_all

    return integrate


@inner
def _leaves(c, first, last, full, wanted, key, slope, bend, chain, rules, values, work):
    return integrate_leaves(first, last, full, wanted, key, slope, bend, chain, rules, values, work)


@inner
def _take(terms, nodes, u):
    """One of a lattice's nodes, by its weight."""
    top, total = -np.inf, 0.0
    for i in range(nodes):
        top = max(top, terms[i])
    for i in range(nodes):
        total += math.exp(terms[i] - top)
    left = u * total
    for i in range(nodes):
        left -= math.exp(terms[i] - top)
        if left <= 0:
            return i
    return nodes - 1


def _drawing(inside, integrate, below):
    """Effects of the groups from `first` to `last` of level c, and of all within, at eta[c + 1], into `out`.

    One of a lattice's nodes is taken by its weight; one effect that was integrated by quadrature is drawn by rejection.
    """

    @inner
    def draw(c, first, last, key, pick, chain, rules, values, work):
        at, end = chain.offset[c], chain.offset[c + 1]
        r, u = end - at, work.u[c]
        for k in range(first, last):
            begin, stop, mine = chain.row0[k], chain.row1[k], within(pick, k)
            own = within(key, k)
            if rules.sampled[c]:
                integrate(c, k, k + 1, 1, False, key, work.slope[c], work.bend[c], chain, rules, values, work)
                nodes = rules.nodes[c, 1]
                j = _take(work.terms[c], nodes, uniform(mine, 0))
                lattice_node(nodes, rules.generator, work.L[c], work.best[c], u, r, own, j)
                inner_key = key_of(own, np.uint64(j + 1))
            else:
                inner_key = own
                centre, spread = work.mode[k, 0], 1.0
                hull, x = work.hull[c], work.mode[k, 0]
                size, far, above, attempt, placing = 0, 1.0, 0.0, -1, 0
                while True:
                    u[0] = x
                    move_rows(work.eta[c], work.eta[c + 1], work.a, u, at, end, begin, stop)
                    f = inside(c, k, 1, True, inner_key, chain, rules, values, work) - 0.5 * x * x
                    s = work.slope[c, at] - x
                    if placing < 2:  # Newton's steps to about where the mode is
                        placing += 1
                        spread = 1.0 / math.sqrt(1.0 + max(work.bend[c, at, at], 0.0))
                        centre = x + min(max(s * spread * spread, -3.0), 3.0)
                        x = centre if placing < 2 else centre - 1.2 * spread
                        far = spread
                        continue
                    accepted, x, above, size, far, attempt = reject(
                        hull, mine, x, f, s, above, size, far, attempt, centre, spread
                    )
                    if accepted:
                        break
                u[0] = x
            move_rows(work.eta[c], work.eta[c + 1], work.a, u, at, end, begin, stop)
            for p in range(r):
                work.out[k, p] = u[p]
            base = chain.base[c - 1]
            below(c - 1, base + chain.first[k], base + chain.last[k], inner_key, pick, chain, rules, values, work)

    return draw


@inner
def _draw_leaves(c, first, last, key, pick, chain, rules, values, work):
    if not rules.sampled[0]:
        reject_leaves(first, last, pick, chain, values, work)
        return
    r = chain.offset[1]
    for k in range(first, last):
        integrate_leaves(k, k + 1, 1, False, key, work.slope[0], work.bend[0], chain, rules, values, work)
        nodes = rules.nodes[0, 1]
        j = _take(work.terms[0], nodes, uniform(within(pick, k), 0))
        lattice_node(nodes, rules.generator, work.L[0], work.best[0], work.u[0], r, within(key, k), j)
        for p in range(r):
            work.out[k, p] = work.u[0, p]


_inside_2 = _over(_leaves)
_integrate_2 = _integrating(_inside_2)
_inside_3 = _over(_integrate_2)
_integrate_3 = _integrating(_inside_3)
_draw_2 = _drawing(_inside_2, _integrate_2, _draw_leaves)
_draw_3 = _drawing(_inside_3, _integrate_3, _draw_2)


@njit
def walk(chain, rules, work, eta, lams, values, keys, picks, out, effects):
    """At each of B parameter values: the log density of y (B,), or effects (B, M, r) where `picks` asks for them.

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
    effects : (B, M, r)
        Effects, or without picks the groups' log integrals, if there is room for them.
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
        first, last, one, key = chain.base[C - 1], chain.base[C], values[b], keys[b]
        slope, bend = work.e_slope[C - 1], work.e_bend[C - 1]
        if picks.shape[0] > 0:
            if C == 1:
                _draw_leaves(0, first, last, key, picks[b], chain, rules, one, work)
            elif C == 2:
                _draw_2(1, first, last, key, picks[b], chain, rules, one, work)
            else:
                _draw_3(2, first, last, key, picks[b], chain, rules, one, work)
        elif C == 1:
            out[b] = integrate_leaves(first, last, 1, False, key, slope, bend, chain, rules, one, work)
        elif C == 2:
            out[b] = _integrate_2(1, first, last, 1, False, key, slope, bend, chain, rules, one, work)
        else:
            out[b] = _integrate_3(2, first, last, 1, False, key, slope, bend, chain, rules, one, work)
        if effects.shape[0] > 0:
            for k in range(work.out.shape[0]):
                for p in range(work.out.shape[1]):
                    effects[b, k, p] = work.out[k, p]
