"""Outcome families: densities and derivatives against mpmath, checks of y, words, draws."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
from mpmath import mp

import bayeslmm as blm
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.families.family import Outcome
from bayeslmm.families.links import LINKS
from bayeslmm.families.registry import FAMILIES, read_family

ETAS = (-40.0, -25.3, -4.001, -3.999, -1.7, 0.0, 0.4, 4.001, 9.0, 40.0)
DISPERSIONS = (1e-3, 0.2, 15.9, 16.1, 1e3, 1e6)


def outcome(y, trials=None, categories=()):
    y = np.asarray(y, dtype=float)
    trials = None if trials is None else np.asarray(trials, dtype=float)
    return Outcome(name="y", y=y, rows=pd.RangeIndex(len(y)), trials=trials, categories=categories)


def mp_F(link, x):
    if link == "logit":
        return 1 / (1 + mp.exp(-x))
    return mp.erfc(-x / mp.sqrt(2)) / 2 if link == "probit" else -mp.expm1(-mp.exp(x))


def mp_log_F(link, x):
    return mp.log1p(-mp_F(link, -x)) if link == "probit" and x > 0 else mp.log(mp_F(link, x))


def mp_log_not_F(link, x):
    return -mp.exp(x) if link == "cloglog" else mp_log_F(link, -x)


def mp_log_density(family, y, N, theta, eta):
    """The textbook formula, in as many digits as it takes; theta are the parameters, not their coordinates."""
    if family.name == "binomial":
        yes = y * mp_log_F(family.link, eta) if y else 0
        return mp.log(mp.binomial(N, y)) + yes + ((N - y) * mp_log_not_F(family.link, eta) if N - y else 0)
    if family.name == "poisson":
        return y * eta - mp.exp(eta) - mp.loggamma(y + 1)
    if family.name == "negative_binomial":
        a, mu = theta[0], mp.exp(eta)
        choose = mp.loggamma(y + a) - mp.loggamma(a) - mp.loggamma(y + 1)
        return choose + a * mp.log(a / (a + mu)) + y * mp.log(mu / (a + mu))
    if family.name == "negative_binomial1":
        a = theta[0]
        k = mp.exp(eta) / a
        return mp.loggamma(y + k) - mp.loggamma(k) - mp.loggamma(y + 1) - k * mp.log(1 + a) + y * mp.log(a / (1 + a))
    if family.name == "beta":
        a, b = theta[0] / (1 + mp.exp(-eta)), theta[0] / (1 + mp.exp(eta))
        constant = mp.loggamma(theta[0]) - mp.loggamma(a) - mp.loggamma(b)
        return constant + (a - 1) * mp.log(y) + (b - 1) * mp.log(1 - y)
    if family.name == "gamma":
        a = theta[0]
        rate = a / mp.exp(eta)
        return a * mp.log(rate) - mp.loggamma(a) + (a - 1) * mp.log(y) - rate * y
    if family.name == "student_t":
        sigma, nu = theta
        z = (y - eta) / sigma
        constant = mp.loggamma((nu + 1) / 2) - mp.loggamma(nu / 2) - mp.log(mp.pi * nu) / 2
        return constant - mp.log(sigma) - (nu + 1) / 2 * mp.log(1 + z**2 / nu)
    if y == 0:
        return mp_log_F(family.link, theta[0] - eta)
    if y == len(theta):
        return mp_log_not_F(family.link, theta[-1] - eta)
    high, low = theta[int(y)] - eta, theta[int(y) - 1] - eta
    if high + low > 0:  # turned round, where the difference has digits
        high, low = -low, -high
    return mp.log(mp_F(family.link, high) - mp_F(family.link, low))


def mp_natural(family, psi):
    if family.name != "cumulative":
        return [mp.exp(x) for x in psi]
    cuts = [mp.mpf(psi[0])]
    for step in psi[1:]:
        cuts.append(cuts[-1] + mp.exp(step))
    return cuts


CASES = [
    *((blm.Binomial(link=link), y, N, ()) for link, (y, N) in product(LINKS, ((0, 1), (1, 1), (3, 7)))),
    *((blm.Poisson(), y, None, ()) for y in (0, 1, 17)),
    *((blm.NegativeBinomial(), y, None, (np.log(a),)) for y, a in product((0, 1, 40), (*DISPERSIONS, 1e9))),
    *((blm.NegativeBinomial1(), y, None, (np.log(a),)) for y, a in product((0, 1, 2, 40), (1e-9, *DISPERSIONS))),
    *((blm.Beta(), y, None, (np.log(a),)) for y, a in product((1e-6, 0.3, 1 - 2**-20), DISPERSIONS)),
    *((blm.Gamma(), y, None, (np.log(a),)) for y, a in product((1e-3, 1.0, 250.0), DISPERSIONS)),
    *((blm.StudentT(), 0.7, None, (np.log(s), np.log(nu))) for s, nu in product((1e-3, 1.0, 1e6), (1.0, 4.0, 1e5))),
    *((blm.Cumulative(), y, None, (-1.0, 0.3, -4.0)) for y in range(4)),
    *((blm.Cumulative(link="probit"), y, None, (-1.0, 0.3, -4.0)) for y in range(4)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{np.round(case[3], 1)}")
def test_densities_and_derivatives_equal_the_formulas_in_many_digits(case):
    """Values to 1e-12, derivatives to 1e-9, and to rounding errors of what they are differences of."""
    family, y, N, psi = case
    one = outcome([y], None if N is None else [N], ("a", "b", "c", "d") if family.name == "cumulative" else ())
    for eta in ETAS:
        with mp.workdps(50):
            theta = mp_natural(family, [mp.mpf(x) for x in psi])
            yy = mp.mpf(y)
            terms = mp.taylor(partial(mp_log_density, family, yy, N, theta), mp.mpf(eta), 3, chop=False)
            want = np.array([float(t * mp.factorial(k)) for k, t in enumerate(terms)])
            got = np.array([x[0] for x in family.jet(one, np.array([eta]), np.array(psi))])
            # eta itself is rounded, and between two normal tails a slope s leaves differences of s^2 and s^3
            rounded = 4e-16 * (1 + abs(eta)) * np.append(np.abs(want[1:]), np.abs(want[3]))
            between = family.name == "cumulative" and family.link == "probit"
            tails = 1e-13 * (0.1 + np.abs(want[1])) ** np.arange(4) * between
            tiny = 2e-15 if between else 1e-300
            error = np.abs(got - want)
            assert error[0] <= 1e-12 * (1 + abs(want[0])), (eta, got[0], want[0])
            tiny += 1e-40 * np.abs(want).max()
            assert (error <= 1e-9 * np.abs(want) + rounded + tails + tiny).all(), (eta, got, want)


WITH_DISPERSION = [case for case in CASES if case[3]]


@pytest.mark.parametrize("case", WITH_DISPERSION, ids=lambda case: f"{case[0]}-{case[1]}-{np.round(case[3], 1)}")
def test_derivatives_by_dispersion(case):
    """Of the log density, its slope and its curvature, against differences in many digits."""
    family, y, N, psi = case
    one = outcome([y], None, ("a", "b", "c", "d") if family.name == "cumulative" else ())
    for eta in (-12.0, 0.4, 11.0) if family.name != "cumulative" else (-4.0, 0.4, 3.0):
        got = [x[:, 0] for x in family.dispersion(one, np.array([eta]), np.array(psi))]
        with mp.workdps(40):
            for k in range(len(psi)):

                def log_density(x, change, k=k):
                    moved = [mp.mpf(z) + (change if j == k else 0) for j, z in enumerate(psi)]
                    return mp_log_density(family, mp.mpf(y), N, mp_natural(family, moved), x)

                for order in range(3):
                    want = float(mp.diff(log_density, (mp.mpf(eta), mp.mpf(0)), (order, 1)))
                    scale = abs(float(mp.diff(log_density, (mp.mpf(eta), mp.mpf(0)), (order, 0)))) if order else 1e-3
                    assert got[order][k] == pytest.approx(want, rel=1e-8, abs=1e-11 * (1 + scale)), (eta, k, order)


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_have_the_density(name):
    """Mean scores by eta are zero under the family's own draws: within 4.5 Monte Carlo errors."""
    family, rng = FAMILIES[name](), np.random.default_rng(3)
    n = 40_000
    start = {"negative_binomial": [0.5], "gamma": [1.0], "student_t": [0.2, 1.5], "cumulative": [-1.0, 0.1]}
    start |= {"negative_binomial1": [0.5], "beta": [1.2]}
    psi = np.array(start.get(name, []))
    given = outcome(np.zeros(n), np.full(n, 5.0) if name == "binomial" else None, ("a", "b", "c"))
    eta = np.full(n, 0.4)
    y = family.draw(rng, given, eta, psi)
    drawn = outcome(y, given.trials, given.categories)
    score = family.jet(drawn, eta, psi).first
    assert abs(score.mean()) < 4.5 * score.std() / np.sqrt(n)
    by_psi = family.dispersion(drawn, eta, psi).value
    assert (np.abs(by_psi.mean(axis=1)) < 4.5 * by_psi.std(axis=1) / np.sqrt(n)).all()


def test_many_columns_of_eta_go_through_at_once():
    for name, cls in FAMILIES.items():
        family = cls()
        y = outcome([0, 1, 2.0], [3, 3, 3] if name == "binomial" else None, ("a", "b", "c"))
        y = outcome([0.5, 0.9, 0.2]) if name in ("gamma", "beta") else y
        psi = np.zeros(len(family.dispersion_labels(y)))
        eta = np.random.default_rng(1).normal(size=(4, 2, 3))
        jet, by_psi = family.jet(y, eta, psi), family.dispersion(y, eta, psi)
        assert all(x.shape == eta.shape for x in jet)
        assert all(x.shape == (len(psi), *eta.shape) for x in by_psi)
        one = family.jet(y, eta[2, 1], psi)
        assert np.allclose(jet.third[2, 1], one.third, rtol=1e-14)
        assert np.allclose(family.logpdf(y, eta, psi), jet.value, rtol=1e-13)


@pytest.mark.parametrize(
    ("family", "y", "trials", "words"),
    [
        ("binomial", [0, 1, 2], None, r"'y' has 2 in 1 of 3 rows .* zeros and ones. Write cbind"),
        ("binomial", [0, 0, 0], None, "only failures"),
        ("binomial", [1, 5], [3, 3], "whole numbers from 0 to the number of trials"),
        ("poisson", [0, 1.5], None, "has 1.5 in 1 of 2 rows .* whole numbers from 0 on"),
        ("poisson", [0, -1], None, "has -1"),
        ("negative_binomial", [0, 0], None, "zeros alone"),
        ("gamma", [0, 1.5], None, "is positive"),
        ("negative_binomial1", [0, 2.5], None, "has 2.5 in 1 of 2 rows .* whole numbers from 0 on"),
        ("beta", [0.2, 1, 0], None, "has 1, 0 in 2 of 3 rows .* without its ends. .*cbind"),
        ("beta", [0.2, 0.2], None, "values that vary"),
    ],
)
def test_a_response_that_a_family_cannot_have_given_is_refused(family, y, trials, words):
    with pytest.raises(DataError, match=words):
        read_family(family).check(outcome(y, trials))


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("binomial(link = probit)", blm.Binomial(link="probit")),
        ('Binomial(link="cloglog")', blm.Binomial(link="cloglog")),
        ("bernoulli('logit')", blm.Binomial()),
        ("nbinom2(log)", blm.NegativeBinomial()),
        ("negbinomial()", blm.NegativeBinomial()),
        ("glmmTMB::nbinom1", blm.NegativeBinomial1()),
        ("Gamma(link='log')", blm.Gamma()),
        ("beta_family", blm.Beta()),
        ("Beta", blm.Beta()),
        ('cumulative("probit")', blm.Cumulative(link="probit")),
        ("ordinal", blm.Cumulative()),
        ("t_family", blm.StudentT()),
        (blm.Poisson, blm.Poisson()),
        (blm.Poisson(), blm.Poisson()),
    ],
    ids=str,
)
def test_families_are_read_as_lme4_brms_and_glmmTMB_write_them(text, family):
    assert read_family(text) == family
    assert read_family(str(family)) == family


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gaussian", "LMM"),
        ("binomial(link = log)", "no link 'log'"),
        ("Gamma(link='inverse')", "no link 'inverse'; there is log"),
        ("poison", "Did you mean 'poisson'"),
        ("quasipoisson", "Write 'negative_binomial1'"),
        ("betabinomial(logit)", r"Write 'binomial'; .*\(1 \| row\)"),
        ("zero_inflated_poisson", "Zeros with a model of their own"),
        ("hurdle_gamma", "Zeros with a model of their own"),
        ("categorical", "'cumulative' is the one for ordered"),
        ("inverse.gaussian", "'gamma' is another one"),
        ("lognormal", r"blm.LMM\('log\(y\)"),
        ("a; b", "can't be read"),
        ("binomial(link = probit, size = 3)", "can't be read"),
        ("", "can't be read"),
        (3, "got int 3"),
    ],
)
def test_other_families_are_refused_with_what_comes_nearest(text, words):
    with pytest.raises(DescriptionError, match=words):
        read_family(text)
