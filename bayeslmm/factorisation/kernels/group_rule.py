"""Adaptive quadrature over one or two effects of each group, group by group; the same as `integration/product_rule`.

With one effect the second has a column of zeros: its mode is zero, its curvature one, and nothing depends on it.
"""

from __future__ import annotations

from math import exp, inf, isfinite, log, sqrt
from typing import NamedTuple

import numpy as np

from bayeslmm.factorisation.kernels.compiling import first_use, inner, njit
from bayeslmm.factorisation.kernels.jets import (
    add_by_parameters,
    add_constant_slopes,
    constant,
    fill_parameters,
    jet,
    size_of_parameters,
    turn_to_coordinates,
)

MOST = 200  # steps of Newton's method
NEAR = 1e-6  # a step from here on is the last but one
STEEP = 0.2  # the least curvature that is believed where a density isn't log-concave


class RowsOfGroups(NamedTuple):
    """Rows in the order of the groups.

    y, N, ref: as `jet` has them; alone: what of the log density depends on y alone; base: eta without effects; z:
    (n, 2) columns of effects; a: those of standard effects, filled by the kernel; times: how often a row is there;
    ends: (m + 1,) first row of each group, and n.
    """

    y: np.ndarray
    N: np.ndarray
    ref: np.ndarray
    alone: np.ndarray
    base: np.ndarray
    z: np.ndarray
    a: np.ndarray
    times: np.ndarray
    ends: np.ndarray


class RuleResult(NamedTuple):
    """value (m,), modes (m, 2), by_eta (n,), by_factor (2, 2), by_psi (k,); filled by the kernel."""

    value: np.ndarray
    modes: np.ndarray
    by_eta: np.ndarray
    by_factor: np.ndarray
    by_psi: np.ndarray


@inner
def _state(code, par, rows, first, last, v0, v1, concave):
    """(height, slope by v, curvature) of one group: 6 numbers."""
    height, s0, s1 = -0.5 * (v0 * v0 + v1 * v1), -v0, -v1
    a00, a01, a11 = 1.0, 0.0, 1.0
    for i in range(first, last):
        x0, x1, c = rows.a[i, 0], rows.a[i, 1], rows.times[i]
        value, d1, d2, _ = jet(code, rows.y[i], rows.N[i], rows.ref[i], par, rows.base[i] + x0 * v0 + x1 * v1)
        height += c * value
        s0 += c * d1 * x0
        s1 += c * d1 * x1
        w = max(-d2, 0.0) * c if concave else -d2 * c
        a00 += w * x0 * x0
        a01 += w * x0 * x1
        a11 += w * x1 * x1
    return height if isfinite(height) else -inf, s0, s1, a00, a01, a11


@inner
def _believed(code, par, rows, first, last, v0, v1):
    """The same with a curvature that makes a maximum."""
    state = _state(code, par, rows, first, last, v0, v1, False)
    _, _, _, a00, a01, a11 = state
    least = 0.5 * (a00 + a11) - sqrt(0.25 * (a00 - a11) ** 2 + a01 * a01)
    if not least >= STEEP:
        state = _state(code, par, rows, first, last, v0, v1, True)
    return state


@inner
def _mode(code, par, rows, first, last, v0, v1):
    """(v0, v1, height, curvature): Newton's method, steps halved until they gain."""
    state = _believed(code, par, rows, first, last, v0, v1)
    if v0 != 0.0 or v1 != 0.0:
        zero = _believed(code, par, rows, first, last, 0.0, 0.0)
        if not state[0] >= zero[0]:
            v0, v1, state = 0.0, 0.0, zero
    for _ in range(MOST):
        h, s0, s1, a00, a01, a11 = state
        det = a00 * a11 - a01 * a01
        d0, d1 = (a11 * s0 - a01 * s1) / det, (a00 * s1 - a01 * s0) / det
        if not (isfinite(d0) and isfinite(d1)):
            break
        if abs(d0) < NEAR * (1 + abs(v0)) and abs(d1) < NEAR * (1 + abs(v1)):
            v0, v1 = v0 + d0, v1 + d1
            state = _believed(code, par, rows, first, last, v0, v1)
            break
        state = _believed(code, par, rows, first, last, v0 + d0, v1 + d1)
        while state[0] < h - 1e-10 * (1 + abs(h)):
            d0, d1 = d0 / 2, d1 / 2
            if abs(d0) + abs(d1) < 1e-14:
                break
            state = _believed(code, par, rows, first, last, v0 + d0, v1 + d1)
        v0, v1 = v0 + d0, v1 + d1
        if abs(d0) < 1e-12 * (1 + abs(v0)) and abs(d1) < 1e-12 * (1 + abs(v1)):
            break
    return v0, v1, state[0], state[3], state[4], state[5]


@inner
def _rule(code, psi, rows, factor, start, copies, points, log_w, result):
    """Fill the result: every group's integral, and the gradient of their sum."""
    n, J = rows.y.shape[0], points.shape[0]
    par = np.empty(size_of_parameters(code, psi))
    fill_parameters(code, psi, par)
    for i in range(n):
        for e in range(2):
            rows.a[i, e] = rows.z[i, 0] * factor[0, e] + rows.z[i, 1] * factor[1, e]
    score, at_score = np.zeros(n), np.zeros(n)
    at_v0, at_v1 = np.zeros(n), np.zeros(n)
    k = result.by_psi.shape[0]
    own = np.zeros(k)
    result.by_factor[:] = 0.0
    result.by_psi[:] = 0.0
    for g in range(copies.shape[0]):
        first, last = rows.ends[g], rows.ends[g + 1]
        m0, m1, top, a00, a01, a11 = _mode(code, par, rows, first, last, start[g, 0], start[g, 1])
        result.modes[g, 0], result.modes[g, 1] = m0, m1
        c00 = sqrt(a00)
        c10 = a01 / c00
        c11 = sqrt(a11 - c10 * c10)
        b00, b11 = 1 / c00, 1 / c11
        b01 = -c10 * b00 * b11

        # the sum over the points, and what of it depends on what
        total = 0.0
        g0, g1, h00, h01, h10, h11 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        own[:] = 0.0
        for i in range(first, last):
            at_score[i], at_v0[i], at_v1[i] = 0.0, 0.0, 0.0
        for j in range(J):
            x0, x1 = points[j, 0], points[j, 1]
            v0, v1 = m0 + b00 * x0 + b01 * x1, m1 + b11 * x1
            height, s0, s1 = -0.5 * (v0 * v0 + v1 * v1), -v0, -v1
            for i in range(first, last):
                eta = rows.base[i] + rows.a[i, 0] * v0 + rows.a[i, 1] * v1
                value, d1, _, _ = jet(code, rows.y[i], rows.N[i], rows.ref[i], par, eta)
                height += rows.times[i] * value
                d1 *= rows.times[i]
                score[i] = d1
                s0 += d1 * rows.a[i, 0]
                s1 += d1 * rows.a[i, 1]
            w = exp(min(log_w[j] + height - top, 600.0)) if isfinite(height) else 0.0
            if w == 0.0:
                continue
            total += w
            g0 += w * s0
            g1 += w * s1
            h00 += w * s0 * x0
            h01 += w * s0 * x1
            h10 += w * s1 * x0
            h11 += w * s1 * x1
            for i in range(first, last):
                d1 = w * score[i]
                at_score[i] += d1
                at_v0[i] += d1 * v0
                at_v1[i] += d1 * v1
                if k > 0:
                    eta = rows.base[i] + rows.a[i, 0] * v0 + rows.a[i, 1] * v1
                    wc = w * rows.times[i]
                    add_by_parameters(code, rows.y[i], rows.N[i], rows.ref[i], par, eta, wc, 0.0, 0.0, own)
        result.value[g] = top + log(total) - log(c00) - log(c11)
        for i in range(first, last):
            result.value[g] += rows.times[i] * (rows.alone[i] + constant(code, rows.y[i], par))
        g0, g1, h00, h01, h10, h11 = g0 / total, g1 / total, h00 / total, h01 / total, h10 / total, h11 / total
        for e in range(k):
            own[e] /= total
        for i in range(first, last if k > 0 else first):
            add_constant_slopes(code, rows.y[i], par, rows.times[i], own)

        # back through B = C^-T and the Cholesky factor to A: B h' B, and halves on the diagonal
        t00 = b00 * h00 + b01 * h01
        t10, t11 = b11 * h01, b11 * h11
        k00 = -t00 * b00 - 1 / c00
        k10 = -t10 * b00
        k11 = -(t10 * b01 + t11 * b11) - 1 / c11
        p00, p10, p11 = 0.5 * (c00 * k00 + c10 * k10), c11 * k10, 0.5 * c11 * k11
        u00, u01 = b00 * p00 + b01 * p10, b01 * p11
        u10, u11 = b11 * p10, b11 * p11
        A00, A11 = u00 * b00 + u01 * b01, u11 * b11
        A01 = 0.5 * (u01 * b11 + u10 * b00 + u11 * b01)

        # A by the rows at the mode, then the mode by the parameters
        for i in range(first, last):
            x0, x1 = rows.a[i, 0], rows.a[i, 1]
            eta = rows.base[i] + x0 * m0 + x1 * m1
            _, _, _, d3 = jet(code, rows.y[i], rows.N[i], rows.ref[i], par, eta)
            bent = -d3 * rows.times[i] * (x0 * x0 * A00 + 2 * x0 * x1 * A01 + x1 * x1 * A11)
            score[i] = bent
            g0 += bent * x0
            g1 += bent * x1
        det = a00 * a11 - a01 * a01
        q0, q1 = (a11 * g0 - a01 * g1) / det, (a00 * g1 - a01 * g0) / det
        for i in range(first, last):
            x0, x1, c = rows.a[i, 0], rows.a[i, 1], rows.times[i]
            eta = rows.base[i] + x0 * m0 + x1 * m1
            _, d1, d2, _ = jet(code, rows.y[i], rows.N[i], rows.ref[i], par, eta)
            along = x0 * q0 + x1 * q1
            r0, r1 = A00 * x0 + A01 * x1, A01 * x0 + A11 * x1
            pull = score[i] + c * d2 * along
            if k > 0:
                by_weight = -c * (x0 * r0 + x1 * r1)
                add_by_parameters(
                    code, rows.y[i], rows.N[i], rows.ref[i], par, eta, 0.0, c * along, by_weight, own
                )  # fmt: skip
            by0 = at_v0[i] / total - 2 * c * d2 * r0 + pull * m0 + c * d1 * q0
            by1 = at_v1[i] / total - 2 * c * d2 * r1 + pull * m1 + c * d1 * q1
            result.by_eta[i] = copies[g] * (at_score[i] / total + pull)
            for e in range(2):
                result.by_factor[e, 0] += copies[g] * rows.z[i, e] * by0
                result.by_factor[e, 1] += copies[g] * rows.z[i, e] * by1
        for e in range(k):
            result.by_psi[e] += copies[g] * own[e]
    turn_to_coordinates(code, psi, result.by_psi)


@njit
def _group_rule(code, psi, rows, factor, start, copies, points, log_w, result):
    # From Python come plain tuples, whose types numba knows at a glance.
    _rule(code, psi, RowsOfGroups(*rows), factor, start, copies, points, log_w, RuleResult(*result))


@njit
def packed_rule(y, fixed, lam, psi, ints, floats):
    """(whether y is the y that was packed, value, its gradient by fixed, lambda and psi); see `pack`."""
    code, r, n, m, J = ints[0], ints[1], ints[2], ints[3], ints[4]
    at = ints[5 : 5 + n]
    ends = ints[5 + n : 6 + n + m]
    f = floats
    rows = RowsOfGroups(
        f[:n], f[n : 2 * n], f[2 * n : 3 * n], f[3 * n : 4 * n], np.empty(n), f[4 * n : 6 * n].reshape(n, 2),
        np.empty((n, 2)), f[6 * n : 7 * n], ends,
    )  # fmt: skip
    f = floats[7 * n :]
    copies, start = f[:m], f[m : 3 * m].reshape(m, 2)
    points, log_w = f[3 * m : 3 * m + 2 * J].reshape(J, 2), f[3 * m + 2 * J : 3 * m + 3 * J]
    seen = f[3 * m + 3 * J :]
    by_fixed, by_lam = np.zeros(fixed.shape[0]), np.zeros(r * r)
    by_psi = np.zeros(psi.shape[0])
    for i in range(y.shape[0]):
        if y[i] != seen[i]:
            return False, 0.0, by_fixed, by_lam, by_psi
    for i in range(n):
        rows.base[i] = fixed[at[i]]
    factor = np.zeros((2, 2))
    for a in range(r):
        for b in range(r):
            factor[a, b] = lam[a * r + b]
    result = RuleResult(np.empty(m), np.empty((m, 2)), np.empty(n), np.empty((2, 2)), by_psi)
    _rule(code, psi, rows, factor, start, copies, points, log_w, result)
    value = 0.0
    for g in range(m):
        value += copies[g] * result.value[g]
    good = isfinite(value)
    for i in range(n):
        by_fixed[at[i]] = result.by_eta[i]
        good = good and isfinite(result.by_eta[i])
    for a in range(r):
        for b in range(r):
            by_lam[a * r + b] = result.by_factor[a, b]
            good = good and isfinite(result.by_factor[a, b])
    for e in range(psi.shape[0]):
        good = good and isfinite(by_psi[e])
    if not good:
        by_fixed[:], by_lam[:], by_psi[:] = 0.0, 0.0, 0.0
        return True, -inf, by_fixed, by_lam, by_psi
    return True, value, by_fixed, by_lam, by_psi


def pack(
    code: int, r: int, rows: RowsOfGroups, at: np.ndarray, copies: np.ndarray, start: np.ndarray, points: np.ndarray,
    log_w: np.ndarray, seen: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """All but the parameters as two vectors (ints, floats); `at` are the rows' places, `seen` is y of all of them."""
    n, m, J = len(rows.y), len(copies), len(points)
    ints = np.concatenate([np.array([code, r, n, m, J]), at, rows.ends]).astype(np.int64)
    parts = (rows.y, rows.N, rows.ref, rows.alone, rows.z, rows.times, copies, start, points, log_w, seen)
    return ints, np.concatenate([np.ravel(x) for x in parts]).astype(np.float64)


def group_rule(
    code: int,
    psi: np.ndarray,
    rows: RowsOfGroups,
    factor: np.ndarray,
    start: np.ndarray,
    copies: np.ndarray,
    points: np.ndarray,
    log_w: np.ndarray,
) -> RuleResult:
    """Integrate each group's effects, each group counting `copies` times in the gradients.

    Parameters
    ----------
    code : int
        Of the family, as in `outcomes`.
    factor : (2, 2) array
    start : (m, 2) array
        Where Newton's method begins.
    points, log_w : (J, 2) and (J,) arrays
        Of the rule.
    """
    m, n = len(copies), len(rows.y)
    result = RuleResult(np.empty(m), np.empty((m, 2)), np.empty(n), np.empty((2, 2)), np.empty(len(psi)))
    with first_use(_group_rule, "group rule"):
        _group_rule(code, psi, tuple(rows), factor, start, copies, points, log_w, tuple(result))
    return result
