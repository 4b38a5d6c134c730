"""A concave function under its tangents: draws from the exponential of their hull.

Source: Gilks & Wild (1992).
"""

from __future__ import annotations

import math

import numpy as np

from bayeslmm.factorisation.kernels.compiling import inner
from bayeslmm.factorisation.kernels.group_arrays import POINTS
from bayeslmm.factorisation.kernels.random_numbers import uniform


@inner
def insert(hull, size, x, f, s):
    """One more tangent."""
    at = size
    while at > 0 and hull[0, at - 1] > x:
        for row in range(3):
            hull[row, at] = hull[row, at - 1]
        at -= 1
    hull[0, at], hull[1, at], hull[2, at] = x, f, s
    return size + 1


@inner
def crossing(hull, i):
    """Where the tangents i and i + 1 meet."""
    x0, f0, s0 = hull[0, i], hull[1, i], hull[2, i]
    x1, f1, s1 = hull[0, i + 1], hull[1, i + 1], hull[2, i + 1]
    if not s0 - s1 > 1e-10:
        return 0.5 * (x0 + x1)
    return min(max((f1 - f0 - s1 * x1 + s0 * x0) / (s0 - s1), x0), x1)


@inner
def from_hull(hull, size, top, u_piece, u_in):
    """(a draw from exp(hull), the hull's height there); the tangents' masses are in the last row."""
    total = 0.0
    for i in range(size):
        low = -np.inf if i == 0 else crossing(hull, i - 1)
        high = np.inf if i == size - 1 else crossing(hull, i)
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
    low = -np.inf if i == 0 else crossing(hull, i - 1)
    high = np.inf if i == size - 1 else crossing(hull, i)
    x, f, s = hull[0, i], hull[1, i], hull[2, i]
    if abs(s) * (high - low) < 1e-8:
        at = low + u_in * (high - low)
    elif s > 0:  # from the upper end down
        at = high + math.log(u_in + (1.0 - u_in) * math.exp(-s * (high - low))) / s
    else:
        at = low + math.log(u_in + (1.0 - u_in) * math.exp(s * (high - low))) / s
    return at, f + s * (at - x)


@inner
def reject(hull, key, x, f, s, above, size, far, attempt, centre, spread):
    """One step of rejection under tangents: the height f and the slope s at x are known now.

    First come tangents about the centre, then such further out until they fall to both sides; from then on x is a draw
    from the hull of height `above`, and `attempt` counts. The next x to look at is returned.

    Returns
    -------
    (whether x is a draw, x, above, size, far, attempt)
    """
    if attempt >= 0 and (math.log(uniform(key, 3 * attempt + 2)) <= f - above or attempt > 100_000):
        return True, x, above, size, far, attempt
    if size < POINTS:
        size = insert(hull, size, x, f, s)
    if size < 3:
        return False, centre + (1.2 * spread if size == 2 else 0.0), above, size, far, attempt
    if attempt < 0 and size < POINTS:
        left, right = hull[2, 0] > 1e-3 / far, hull[2, size - 1] < -1e-3 / far
        if not (left and right):
            far *= 2.0
            return False, hull[0, size - 1] + far if left else hull[0, 0] - far, above, size, far, attempt
    top = hull[1, 0]
    for j in range(1, size):
        top = max(top, hull[1, j])
    attempt += 1
    x, above = from_hull(hull, size, top, uniform(key, 3 * attempt), uniform(key, 3 * attempt + 1))
    return False, x, above, size, far, attempt
