"""Leaves of a chain of nested groups: rows under one effect a group, or several; integrals and draws.

A group whose rows all have the same z is quicker: exp(eta + a v) = exp(eta) exp(a v).
"""

from __future__ import annotations

import math

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.hulls import reject
from bayeslmm.factorisation.kernels.jets import GAMMA, LOGIT, POISSON
from bayeslmm.factorisation.kernels.outcomes import density
from bayeslmm.factorisation.kernels.random_numbers import t4, uniform, within
from bayeslmm.factorisation.kernels.small_linear import down, factor, up

_LOG_T4 = math.log(3.0 / 8.0) + 0.9189385332046727  # of t's density with 4 degrees of freedom, over the normal's
_LOG_SQRT_2PI = 0.9189385332046727
MOST = 500  # nodes to a side: more are needed only where a mode wasn't found, which is refused
QUICK = (LOGIT, POISSON, GAMMA)  # families with a quicker way
_FAR = 300.0  # a linear predictor from here on is left to the plain way


@inner
def move_rows(out, eta, a, u, first, last, begin, end):
    """out = eta + a u, of the columns `first` to `last` of a."""
    for i in range(begin, end):
        x = eta[i]
        for p in range(first, last):
            x += a[i, p] * u[p - first]
        out[i] = x


@inner
def add_rows(code, y, N, weight, eta, a, begin, end, values, slope, bend, wanted):
    """The log density of rows at eta; its derivatives by all effects where they are wanted."""
    total, R = 0.0, a.shape[1]
    if wanted:
        for p in range(R):
            slope[p] = 0.0
            for q in range(p + 1):
                bend[p, q] = 0.0
    for i in range(begin, end):
        value, first, second = density(code, y[i], N[i], eta[i], values)
        w = weight[i]
        total += w * value
        if wanted:
            second = max(-second, 0.0)
            for p in range(R):
                slope[p] += w * first * a[i, p]
                for q in range(p + 1):
                    bend[p, q] += w * second * a[i, p] * a[i, q]
    return total


@inner
def lattice_node(S, generator, L, best, u, r, key, j):
    """u = best + L^-T x_j of a shifted lattice; its log weight over the standard normal density, log|L| apart."""
    log_w = -math.log(S)
    for p in range(r):
        at = uniform(key, p) + (j * generator[p] if p else j / S)
        at = t4(min(max(at - math.floor(at), 1e-15), 1.0 - 1e-15))
        log_w += 2.5 * math.log1p(0.25 * at * at) - _LOG_T4
        u[p] = at
    up(L, r, u)
    for p in range(r):
        u[p] += best[p]
        log_w -= 0.5 * u[p] * u[p]
    return log_w


@inner
def shrink_sums(e_slope, e_bend, r, R, by):
    """Scale what is summed over nodes."""
    for p in range(r, R):
        e_slope[p] *= by
        for q in range(r, p + 1):
            e_bend[p, q] *= by


@inner
def add_node(term, top, mass, wanted, slope, bend, e_slope, e_bend, r, R):
    """One more node of log weight `term`: (largest log weight, sum of weights over it), and sums of derivatives."""
    w = 1.0
    if term > top:
        by = math.exp(top - term) if top > -1e300 else 0.0
        mass *= by
        if wanted:
            shrink_sums(e_slope, e_bend, r, R, by)
        top = term
    else:
        w = math.exp(term - top)
    if wanted:
        for p in range(r, R):
            e_slope[p] += w * slope[p]
            for q in range(r, p + 1):
                e_bend[p, q] += w * (bend[p, q] - slope[p] * slope[q])
    return top, mass + w


@inner
def newton(slope, bend, L, u, best, step, r, at, f, now, halvings):
    """One step of the search for a mode: (the height that is held, halvings of the present step, whether it is there).

    The trial is u, of height f; `best` is the point that is held, of height `now`; the effects stand from `at` on.
    """
    if not f >= now - 1e-9 * (1.0 + abs(now)) and halvings < 30:
        for p in range(r):
            step[p] *= 0.5
            u[p] = best[p] + step[p]
        return now, halvings + 1, False
    if halvings >= 30:
        return now, halvings, True
    for p in range(r):
        best[p] = u[p]
        step[p] = slope[at + p] - u[p]
    factor(L, bend, r, at)
    down(L, r, step)
    size = 0.0
    for p in range(r):
        size += step[p] * step[p]
    up(L, r, step)
    for p in range(r):
        u[p] = best[p] + step[p]
    if size < 0.01:  # a tenth of the spread: nodes need no more
        for p in range(r):
            best[p] = u[p]
        return f, 0, True
    return f, 0, False


@inner
def prepare(code, y, N, weight, eta, begin, end, power, share):
    """What a group of steady rows needs once: (whether it may be quick, sums of w y, of w y eta, of w, of w exp)."""
    total, linear, count, powers, largest = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(begin, end):
        w, e = weight[i], eta[i]
        largest = max(largest, abs(e))
        if code == GAMMA:
            linear += w * e
            power[i] = y[i] * math.exp(-min(max(e, -_FAR), _FAR))
        else:
            linear += w * y[i] * e
            power[i] = math.exp(min(max(e, -_FAR), _FAR))
        total += w * y[i]
        count += w
        powers += w * power[i]
        share[i] = w * N[i]
    return largest < _FAR, total, linear, count, powers


@inner
def steady_at(code, begin, end, power, share, total, linear, count, powers, alpha, x, U, wanted):
    """(log density of a group's rows at eta + x, its first derivative by x, minus its second); U = exp(x)."""
    if code == POISSON:
        mu = powers * U
        return linear + total * x - mu, total - mu, mu
    if code == GAMMA:
        ratio = powers / U
        return -alpha * (linear + count * x + ratio), alpha * (ratio - count), alpha * ratio
    product, value, first, second = 1.0, linear + total * x, total, 0.0
    for i in range(begin, end):
        odds, w = power[i] * U, share[i]
        if odds > 1e100:
            value -= w * math.log(odds)
        elif w == 1.0:
            product *= 1.0 + odds
            if product > 1e150:
                value -= math.log(product)
                product = 1.0
        else:
            value -= w * math.log1p(odds)
        if wanted:
            q = 1.0 / (1.0 + odds)
            first -= w * (1.0 - q)
            second += w * q * (1.0 - q)
    return value - math.log(product), first, second


@inner
def plain_at(code, y, N, weight, eta, a, begin, end, u, values):
    """(log density of a group's rows at eta + a u, a being its first column; derivatives by u)."""
    value, slope, bend = 0.0, 0.0, 0.0
    for i in range(begin, end):
        x = a[i, 0]
        f, first, second = density(code, y[i], N[i], eta[i] + x * u, values)
        value += weight[i] * f
        slope += weight[i] * first * x
        bend += weight[i] * max(-second, 0.0) * x * x
    return value, slope, bend


@inner
def plain_value(code, y, N, weight, eta, a, begin, end, u, values):
    """The first of `plain_at` alone."""
    value = 0.0
    for i in range(begin, end):
        f, _, _ = density(code, y[i], N[i], eta[i] + a[i, 0] * u, values)
        value += weight[i] * f
    return value


@inner
def leaf_at(
    quick, code, y, N, weight, eta, a, begin, end, power, share, total, linear, count, powers, values, x, wanted
):  # fmt: skip
    """(log density of a leaf's one effect at x, its first derivative, minus its second): the prior's parts included."""
    a0 = a[begin, 0]
    if quick and abs(a0 * x) < _FAR:
        alpha = values[0] if code == GAMMA else 0.0
        f, s, b = steady_at(
            code, begin, end, power, share, total, linear, count, powers, alpha, a0 * x, math.exp(a0 * x), wanted
        )
        return f - 0.5 * x * x, a0 * s - x, a0 * a0 * b + 1.0
    f, s, b = plain_at(code, y, N, weight, eta, a, begin, end, x, values)
    return f - 0.5 * x * x, s - x, b + 1.0


@inner
def find_leaf(
    quick, code, y, N, weight, eta, a, begin, end, power, share, total, linear, count, powers, values, x
):  # fmt: skip
    """(mode, curvature) of a leaf's one effect, to a fifth of its spread, from x on: Newton's steps, halved."""
    held, now, step, bend = 0.0, -np.inf, 0.0, 1.0
    for _ in range(100):
        f, s, b = leaf_at(
            quick, code, y, N, weight, eta, a, begin, end, power, share, total, linear, count, powers, values, x, True
        )  # fmt: skip
        if not f >= now - 1e-9 * (1.0 + abs(now)):
            step *= 0.5
            x = held + step
            continue
        held, now, bend, step = x, f, b, s / b
        x = held + step
        if step * step * b < 0.04:  # a fifth of the spread: equal steps need no more
            break
    return x, bend


@inner
def integrate_leaves(first, last, full, wanted, key, slope, bend, chain, rules, values, work):
    """The sum of the log integrals of the leaves from `first` to `last` at eta[1]; each goes to `out`.

    Where derivatives by effects further out are wanted, their sums are added to slope and bend.
    """
    code, y, N, weight = chain.code, chain.y, chain.N, chain.weight
    a, eta, here, power, share = work.a, work.eta[1], work.eta[0], work.power, work.share
    u, best, step, L = work.u[0], work.best[0], work.step[0], work.L[0]
    own_slope, own_bend, e_slope, e_bend = work.slope[0], work.bend[0], work.e_slope[0], work.e_bend[0]
    modes, terms, out, generator = work.mode, work.terms[0], work.out, rules.generator
    row0, row1, counts, steadies = chain.row0, chain.row1, chain.times, chain.steady
    nodes, sampled, h, drop = rules.nodes[0, full], rules.sampled[0], rules.step[0, full], rules.drop[full]
    R, r, alpha = a.shape[1], chain.offset[1], 0.0
    if code == GAMMA:
        alpha = values[0]
    quick_family = code in QUICK
    sum_of_all = 0.0
    for k in range(first, last):
        begin, end = row0[k], row1[k]
        scalar = r == 1 and not sampled
        quick, total, linear, count, powers = False, 0.0, 0.0, 0.0, 0.0
        own = within(key, k) if sampled else key
        a0 = a[begin, 0]
        if scalar:
            if quick_family and steadies[k]:
                quick, total, linear, count, powers = prepare(code, y, N, weight, eta, begin, end, power, share)
            best[0], curvature = find_leaf(
                quick, code, y, N, weight, eta, a, begin, end, power, share, total, linear, count, powers, values,
                modes[k, 0],
            )  # fmt: skip
            L[0, 0] = math.sqrt(curvature)
            modes[k, 0] = best[0]
        else:
            now, halvings = -np.inf, 0
            for p in range(r):
                u[p] = modes[k, p]
                best[p] = 0.0
            for _ in range(100):
                move_rows(here, eta, a, u, 0, r, begin, end)
                f = add_rows(code, y, N, weight, here, a, begin, end, values, own_slope, own_bend, True)
                for p in range(r):
                    f -= 0.5 * u[p] * u[p]
                now, halvings, done = newton(own_slope, own_bend, L, u, best, step, r, 0, f, now, halvings)
                if done:
                    break
        top, mass, lost = -np.inf, 0.0, False
        if wanted:
            shrink_sums(e_slope, e_bend, r, R, 0.0)
        if scalar:  # the trapezoidal rule, from the mode out to both sides
            width = h / L[0, 0]
            ratio = math.exp(min(max(a0 * width, -_FAR), _FAR))
            for side in range(2):
                x, by_step = best[0], width if side == 0 else -width
                grow = ratio if side == 0 else 1.0 / ratio
                U = math.exp(min(max(a0 * x, -_FAR), _FAR))
                for j in range(MOST):
                    if j > 0:
                        x += by_step
                        U *= grow
                    elif side == 1:
                        continue
                    own_at = abs(a0 * x) < _FAR
                    if quick and own_at:
                        term, s, b = steady_at(
                            code, begin, end, power, share, total, linear, count, powers, alpha, a0 * x, U, wanted
                        )
                        if wanted:
                            for p in range(r, R):
                                own_slope[p] = s * a[begin, p]
                                for q in range(r, p + 1):
                                    own_bend[p, q] = b * a[begin, p] * a[begin, q]
                    elif wanted:
                        u[0] = x
                        move_rows(here, eta, a, u, 0, r, begin, end)
                        term = add_rows(code, y, N, weight, here, a, begin, end, values, own_slope, own_bend, True)
                    else:
                        term = plain_value(code, y, N, weight, eta, a, begin, end, x, values)
                    term -= 0.5 * x * x
                    if not term > top - drop:
                        break
                    if j == MOST - 1:
                        lost = True
                    top, mass = add_node(term, top, mass, wanted, own_slope, own_bend, e_slope, e_bend, r, R)
            top += math.log(h) - _LOG_SQRT_2PI
        else:
            for j in range(nodes):
                term = lattice_node(nodes, generator, L, best, u, r, own, j)
                move_rows(here, eta, a, u, 0, r, begin, end)
                term += add_rows(code, y, N, weight, here, a, begin, end, values, own_slope, own_bend, wanted)
                terms[j] = term
                if term > -1e300:
                    top, mass = add_node(term, top, mass, wanted, own_slope, own_bend, e_slope, e_bend, r, R)
        value, times = -np.inf, counts[k]
        if mass > 0 and not lost:
            value = top + math.log(mass)
            for p in range(r):
                value -= math.log(L[p, p])
            if wanted:
                shrink_sums(e_slope, e_bend, r, R, 1.0 / mass)
                for p in range(r, R):
                    slope[p] += times * e_slope[p]
                    for q in range(r, p + 1):
                        bend[p, q] += times * (e_bend[p, q] + e_slope[p] * e_slope[q])
        out[k, 0] = value
        sum_of_all += times * value
    return sum_of_all


@inner
def reject_leaves(first, last, pick, chain, values, work):
    """The one effect of each leaf from `first` to `last` at eta[1] into `out`, by rejection under tangents.

    Source: Gilks & Wild (1992).
    """
    code, y, N, weight = chain.code, chain.y, chain.N, chain.weight
    a, eta, power, share, hull, out = work.a, work.eta[1], work.power, work.share, work.hull[0], work.out
    modes, row0, row1, steadies = work.mode, chain.row0, chain.row1, chain.steady
    quick_family = code in QUICK
    for k in range(first, last):
        begin, end, own = row0[k], row1[k], within(pick, k)
        quick, total, linear, count, powers = False, 0.0, 0.0, 0.0, 0.0
        if quick_family and steadies[k]:
            quick, total, linear, count, powers = prepare(code, y, N, weight, eta, begin, end, power, share)
        centre, curvature = find_leaf(
            quick, code, y, N, weight, eta, a, begin, end, power, share, total, linear, count, powers, values,
            modes[k, 0],
        )  # fmt: skip
        spread = 1.0 / math.sqrt(curvature)
        size, far, x, above, attempt = 0, spread, centre - 1.2 * spread, 0.0, -1
        while True:
            f, s, _ = leaf_at(
                quick, code, y, N, weight, eta, a, begin, end, power, share, total, linear, count, powers, values, x,
                True,
            )  # fmt: skip
            accepted, x, above, size, far, attempt = reject(
                hull, own, x, f, s, above, size, far, attempt, centre, spread
            )
            if accepted:
                break
        out[k, 0] = x
