"""The compiled product of rules, and the densities in it, against the families' own formulas and `product_rule`."""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd
import pytest

from bayeslmm.factorisation.kernels import jets
from bayeslmm.families.family import Outcome
from bayeslmm.families.registry import read_family
from bayeslmm.integration import compiled
from bayeslmm.integration.product_rule import at_parameters, integrate
from bayeslmm.integration.quadrature import alike_of, compiled_of
from tests.test_integrals import with_slopes

CODES = {f"{name}({link})": code for (name, link), code in compiled.CODES.items() if code != jets.CUMULATIVE_PROBIT}


@numba.njit
def jets_at(code, y, N, ref, par, etas, out):
    """Values and derivatives (4, etas) of one row."""
    for j in range(len(etas)):
        out[0, j], out[1, j], out[2, j], out[3, j] = jets.jet(code, y, N, ref, par, etas[j])


@numba.njit
def filled(code, psi):
    """The kernel's parameters."""
    par = np.empty(jets.size_of_parameters(code, psi))
    jets.fill_parameters(code, psi, par)
    return par


@numba.njit
def slopes_by_parameters(code, y, N, ref, par, etas, weights, out):
    """Derivatives (etas, k) of one row by its parameters."""
    for j in range(len(etas)):
        jets.add_by_parameters(
            code, y, N, ref, par, etas[j], weights[0], weights[1], weights[2], out[j]
        )  # fmt: skip


Y = {"binomial": [0, 3, 7], "gamma": [0.2, 1.0, 9.0], "cumulative": [0, 1, 2], "student_t": [-1.0, 0.5, 40.0]}
PSI = {"negative_binomial": [0.3], "gamma": [1.2], "student_t": [0.2, 1.1], "cumulative": [-0.7, 0.4]}


@pytest.mark.parametrize("written", CODES)
def test_densities_are_the_families_own(written):
    """Derivatives by eta and parameters; values but for what doesn't depend on eta, by differences between etas.

    Relative to the largest term, with digits lost to nothing but rounding.
    """
    family = read_family(written)
    y = np.array(Y.get(family.name, [0, 2, 60]), dtype=float)
    trials = np.full(3, 7.0) if family.name == "binomial" else None
    categories = ("l", "m", "h") if family.name == "cumulative" else ()
    psi = np.array(PSI.get(family.name, []), dtype=float)
    outcome = Outcome(name="y", y=y, rows=pd.RangeIndex(3), trials=trials, categories=categories)
    etas = np.array([-35.0, -6.0, -1.3, 0.0, 0.7, 3.0, 6.0])
    par, ref = filled(CODES[written], psi), np.log(np.maximum(y, 1.0 if family.name != "gamma" else 0.0))
    k = len(psi)
    for i in range(3):
        part = outcome.part(np.full(len(etas), i))
        want = np.array(family.jet(part, etas, psi))
        N = 7.0 if trials is not None else 1.0
        found = np.empty((4, len(etas)))
        jets_at(CODES[written], y[i], N, ref[i], par, etas, found)
        size = 1 + np.abs(want).max(axis=1, keepdims=True)
        assert found[1:] == pytest.approx(want[1:], rel=1e-9, abs=1e-12)
        gap = (found[0] - want[0]) - (found[0] - want[0])[3]
        assert np.abs(gap).max() < 1e-13 * size[0, 0] * 10
        if not k:
            continue
        slopes = family.dispersion(part, etas, psi)
        for w, kind in enumerate(slopes):
            weights = np.eye(3)[w]
            own = np.zeros((len(etas), k))
            slopes_by_parameters(CODES[written], y[i], N, ref[i], par, etas, weights, own)
            turned = own @ (family.dispersion_slopes(psi) if family.name == "cumulative" else np.eye(k))
            if kind is slopes.value and family.name != "cumulative":  # the rest doesn't depend on eta
                turned, kind = turned - turned[3], kind - kind[:, [3]]
            assert pytest.approx(kind, rel=1e-8, abs=1e-9 * (1 + np.abs(kind).max())) == turned.T


@pytest.mark.parametrize("written", CODES)
@pytest.mark.parametrize(("bar", "nodes"), [("(1 | g)", 1), ("(1 | g)", 7), ("(1 + x | g)", 1), ("(1 + x | g)", 5)])
def test_it_is_the_product_of_rules(written, bar, nodes):
    model = with_slopes(written, bar)
    problem, r = model.problem, model.design.levels[0].r
    rng = np.random.default_rng(2)
    fixed, factor = 0.5 * rng.normal(size=model.design.n), np.tril(0.4 + 0.3 * rng.normal(size=(r, r)))
    psi = model.family.dispersion_start(model.outcome)
    alike = alike_of(problem.rows, model.outcome)
    start = np.zeros((len(alike.groups), r))
    found = compiled_of(problem.rows, model.family, model.outcome).integrate(fixed, factor, psi, nodes, start)
    whole = slice(0, len(alike.groups)), slice(0, len(alike.rows))
    groups = at_parameters(alike, whole, model.family, model.outcome, fixed, problem.rows.better[0], factor, psi)
    want = integrate(groups, nodes, start, alike.copies)
    for name in ("value", "modes", "by_eta", "by_factor", "by_psi"):
        assert getattr(found, name) == pytest.approx(getattr(want, name), rel=1e-8, abs=1e-9), name
