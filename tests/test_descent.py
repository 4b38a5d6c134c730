"""The bounded search: minima inside and on bounds, from starts where the function is not convex."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from bayeslmm.support.quasi_newton import least_point

FREE = np.full(2, np.inf)


class Counted:
    """Rosenbrock's function, with the number of times it was asked for."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return float(rosen(x)), rosen_der(x)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (3.0, -2.0), (0.0, 0.0), (-2.0, 4.0)])
def test_finds_the_minimum_of_a_curved_valley(start):
    found = least_point(Counted(), np.array(start), -FREE, FREE, gtol=1e-8, ftol=0.0)
    np.testing.assert_allclose(found, 1.0, rtol=1e-6)


@pytest.mark.parametrize("upper", [(0.5, 2.0), (2.0, 0.25), (-0.5, np.inf)])
def test_on_a_bound_it_agrees_with_lbfgsb(upper):
    lower = np.full(2, -3.0)
    found = least_point(rosen_and_slope, np.array([-1.0, -1.0]), lower, np.array(upper), gtol=1e-8, ftol=0.0)
    bounds = list(zip(lower, upper, strict=True))
    expected = minimize(
        rosen_and_slope, [-1.0, -1.0], jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9}
    ).x
    np.testing.assert_allclose(found, expected, atol=1e-5)


def rosen_and_slope(x):
    return float(rosen(x)), rosen_der(x)


def test_few_evaluations_of_a_parabola():
    H = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])
    counted = []

    def parabola(x):
        counted.append(x)
        return float(x @ H @ x / 2), H @ x

    wide = np.full(3, np.inf)
    found = least_point(parabola, np.array([3.0, -2.0, 5.0]), -wide, wide)
    np.testing.assert_allclose(found, 0.0, atol=1e-6)  # differences of a linear gradient are exact but for rounding
    assert len(counted) == 1 + 3 + 1  # the start, its Hessian, and one Newton step


def test_points_that_cannot_be_computed_are_stepped_back_from():
    def logarithm(x):  # x - log x, minimum at 1, not defined for x <= 0
        return (float(x[0] - np.log(x[0])), 1 - 1 / x) if x[0] > 0 else (1e50, np.zeros(1))

    found = least_point(logarithm, np.array([9.0]), np.full(1, -np.inf), np.full(1, np.inf), gtol=1e-9, ftol=0.0)
    np.testing.assert_allclose(found, 1.0, rtol=1e-8)
