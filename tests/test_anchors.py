"""Default priors don't depend on where a column has its zero, on its unit, or on how a factor is coded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from bayeslmm.criticism.prior_predictive import draw_parameters
from bayeslmm.lmm import LMM
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.priors.anchors import anchor
from bayeslmm.pymc_models.joint import build_joint
from bayeslmm.theory import density

DATA = Path(__file__).parent / "data"


def made(seed: int = 1, groups: int = 12, rows: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x, z = rng.normal(3, 1.5, g.size), rng.normal(size=g.size)
    f = rng.choice(["a", "b"], g.size)
    h = np.random.default_rng(seed).choice(list("pqqrrr"), g.size)
    u = rng.normal(size=(groups, 2)) * [1.0, 0.4]
    y = 5 + x + (f == "b") + u[g, 0] + u[g, 1] * (x - 3) + rng.normal(0, 0.7, g.size)
    return pd.DataFrame({"y": y, "x": x, "z": z, "f": f, "h": h, "g": [f"g{k}" for k in g]})


# The same model, written twice: a change of the data, and the two formulas
SAME = {
    "shift": (lambda d: d.assign(x=d.x + 2006), "y ~ x + (x | g)"),
    "far shift": (lambda d: d.assign(x=d.x + 1e5), "y ~ x + (x | g)"),
    "unit": (lambda d: d.assign(x=d.x * 365.25), "y ~ x + (x | g)"),
    "both, with an interaction": (lambda d: d.assign(x=12 * (d.x - 40)), "y ~ x * f + (x | g)"),
    "interaction of two numbers": (lambda d: d.assign(x=d.x + 300, z=5 * d.z - 7), "y ~ x * z + (1 | g)"),
    "square": (lambda d: d.assign(x=d.x + 100), "y ~ x + I(x ** 2) + (x | g)"),
    "square that varies": (lambda d: d.assign(x=d.x + 100), "y ~ x + (x + I(x ** 2) | g)"),
    "no constant, two arms": (lambda d: d.assign(x=d.x - 50), "y ~ 0 + f + x + (1 | g)"),
    "arms with slopes of their own": (lambda d: d.assign(x=d.x - 50), "y ~ 0 + f + f:x + (1 | g)"),
    "other base": (lambda d: d.assign(f=d.f.map({"a": "z", "b": "b"})), "y ~ x + f + (f | g)"),
    "other base of three": (lambda d: d.assign(h=d.h.map({"p": "r", "q": "p", "r": "q"})), "y ~ x + (h | g)"),
    "other base of three, with slopes": (
        lambda d: d.assign(h=d.h.map({"p": "r", "q": "p", "r": "q"}), x=d.x + 50),
        "y ~ x + (x * h | g)",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_default_posterior_is_the_same_wherever_zero_is(name):
    """The density of the variance parameters, where coordinates are stated alike: to what rounding of priors leaves."""
    change, formula = SAME[name]
    one, two = LMM(formula, made()), LMM(formula, change(made()))
    a, b = (collapsed_posterior(lmm.statistics, lmm.priors) for lmm in (one, two))
    rng = np.random.default_rng(2)
    x = rng.normal(0, 0.4, (20, a.coordinates.size))
    # SDs of slopes in their own units
    unit = np.zeros(a.coordinates.size)
    for level, other, (sd, _) in zip(one.design.levels, two.design.levels, a.coordinates.slices, strict=True):
        for k, place in enumerate(range(sd.start, sd.stop)):
            spreads = [
                anchor(own.columns, lmm.design.level_terms(0), lmm.design.level_factors(0), lmm.design.y)
                .columns[:, k]
                .std()
                for own, lmm in ((level, one), (other, two))
            ]
            if k and min(spreads) > 0:
                unit[place] = np.log(spreads[0] / spreads[1])
    sign = np.ones(a.coordinates.size)
    if name == "other base":
        sign[a.coordinates.slices[0][1]] = -1  # the difference of the two changes its sign
    p, q = a.evaluate(x)[0], b.evaluate(x * sign + unit)[0]
    np.testing.assert_allclose(q - q[0], p - p[0], atol=0.03)  # priors are rounded to three digits


CODINGS = ["h", "C(h, contr.treatment('r'))", "C(h, contr.sum)", "C(h, contr.helmert)", "C(h, contr.poly)"]


@pytest.mark.parametrize("coding", CODINGS[1:])
def test_effects_of_a_factor_have_the_same_default_whatever_its_coding(coding):
    """Three categories: the same contrasts are stated, so that the densities are equal at equal coordinates."""
    x = np.random.default_rng(2).normal(0, 0.4, (10, 7))
    densities = []
    for one in (CODINGS[0], coding):
        lmm = LMM(f"y ~ x + ({one} | g)", made())
        densities.append(collapsed_posterior(lmm.statistics, lmm.priors).evaluate(x)[0])
    np.testing.assert_allclose(densities[1], densities[0], atol=1e-6)


def test_the_contrasts_of_a_factor_are_orthogonal_and_every_difference_varies_alike():
    """With SDs of s of the intercept and of every contrast, unrelated, each difference of two categories has SD s."""
    lmm = LMM("y ~ x + (h | g)", made())
    W, columns = lmm.priors.effect_anchors[0].W, lmm.design.levels[0].columns
    categories = np.unique(columns, axis=0) @ W
    np.testing.assert_allclose(categories[:, 0], 1, atol=1e-12)
    apart = [((a - b) ** 2).sum() for a in categories[:, 1:] for b in categories[:, 1:] if (a != b).any()]
    np.testing.assert_allclose(apart, 1, atol=1e-12)
    np.testing.assert_allclose((columns @ W).mean(axis=0)[1:], 0, atol=1e-12)
    assert sum("contrast" in row.reason for row in lmm.priors.reasons) == 2


@pytest.mark.parametrize(
    "formula", ["y ~ x + (x | g)", "y ~ x * f + (x + f | g)", "y ~ h + (h | g)", "y ~ 0 + f + x + (1 | g)"]
)
def test_ml_and_reml_are_the_same_wherever_zero_is(formula):
    one, two = LMM(formula, made()), LMM(formula, made().assign(x=lambda d: 7 * (d.x + 2006)))
    p, q = one.ml(), two.ml()
    assert q.loglik == pytest.approx(p.loglik, rel=1e-8)
    assert two.reml().sigma == pytest.approx(one.reml().sigma, rel=1e-6)
    np.testing.assert_allclose(q.fitted, p.fitted, rtol=1e-5)


@pytest.mark.parametrize("variant", ["marginal", "joint", "centred", "scaled"])
def test_models_move_at_the_mean_and_report_as_written(variant):
    """The free variables are where the priors are stated; beta, sigma_u2 and corr_u2 are the model's own."""
    lmm = LMM("y ~ x + (x | g)", made(groups=4, rows=4).assign(x=lambda d: d.x + 50))
    design = lmm.design
    builders = {
        "marginal": lmm.marginal,
        "joint": lmm.joint,
        "centred": lambda: lmm.joint(centered=True),
        "scaled": lambda: build_joint(design, lmm.priors, scaled=True),
    }
    model = builders[variant]()
    assert {"beta_at_mean", "sigma_u2_at_mean"} <= {rv.name for rv in model.free_RVs}
    names = ["beta", "sigma", "sigma_u2", "corr_u2", *([] if variant == "marginal" else ["u2"])]
    outputs = [*model.replace_rvs_by_values([model[name] for name in names]), model.logp(vars=[model["y"]])]
    run = model.compile_fn(outputs, inputs=model.value_vars, on_unused_input="ignore", mode="FAST_COMPILE")
    rng, shapes = np.random.default_rng(4), model.eval_rv_shapes()
    point = {v.name: np.asarray(0.3 * rng.normal(size=shapes[v.name])) for v in model.value_vars}
    *values, logp = run(point)
    beta, sigma, sd, corr, *u = values
    G = np.kron(np.eye(4), sd[:, None] * corr * sd) / sigma**2
    if variant == "marginal":
        expected = density.marginal_logpdf(design.y, design.X, design.Z, beta, sigma**2, G)
    else:
        expected = norm(design.X @ beta + design.Z @ u[0].ravel(), sigma).logpdf(design.y).sum()
    assert float(logp) == pytest.approx(expected, rel=1e-7)  # squares of 50 are in G


# Formulas whose defaults are audited, over units and places of x
AUDITED = [
    "y ~ x + (1 | g)",
    "y ~ 0 + f + x + (1 | g)",
    "y ~ 0 + f + f:x + (1 | g)",
    "y ~ 0 + x + (1 | g)",
    "y ~ x * f + (x | g)",
    "y ~ x * z + (z || g)",
    "y ~ x + I(x ** 2) + z:f + (1 | g)",
    "y ~ poly(x, degree=3) + (1 | g)",
    "y ~ bs(x, df=6) + f + (x | g)",
    "y ~ C(f, contr.sum) * z + (0 + f | g)",
]


@pytest.mark.parametrize("formula", AUDITED)
@pytest.mark.parametrize(("scale_x", "scale_y"), [(1.0, 1.0), (1e-9, 1e9), (1e9, 1e-9)])
def test_every_default_allows_what_data_may_show(formula, scale_x, scale_y):
    """Half to a hundred SDs of y per SD of a column; a prior predictive SD of 1 to 20 SDs of y."""
    data = made().assign(x=lambda d: scale_x * d.x, y=lambda d: scale_y * d.y)
    lmm = LMM(formula, data)
    sd_y = lmm.design.y.std(ddof=1)
    for prior, column in zip(lmm.priors.beta, lmm.design.X.T, strict=True):
        if np.ptp(column) > 0:
            assert 0.5 < prior.sd * column.std(ddof=1) / sd_y < 100
    values = draw_parameters(lmm.design, lmm.priors, 400, np.random.default_rng(3))
    fixed = values["beta"] @ lmm.design.X.T
    variance = fixed.var(axis=1) + values["sigma"] ** 2
    assert 1 < np.sqrt(np.median(variance)) / sd_y < 20


def test_rounding_noise_is_no_part_of_the_constant():
    """No intercept, arms that span it: the slope's prior is a slope's."""
    lmm = LMM("y ~ 0 + arm + time + (1 | id)", pd.read_csv(DATA / "noint.csv"))
    by_name = dict(zip(lmm.design.coef, lmm.priors.beta, strict=True))
    y, time = lmm.design.y, lmm.design.X[:, -1]
    assert by_name["time"].mean == 0
    assert by_name["time"].sd == pytest.approx(2.5 * y.std(ddof=1) / time.std(ddof=1), rel=5e-3)


def test_a_given_prior_is_one_of_the_parameter_as_written():
    """And the rest of its level is then stated there too, wide enough for what the data show at their mean."""
    data = made().assign(x=lambda d: d.x + 2006)
    lmm = LMM("y ~ x + (x | g)", data, priors={"sigma_u2[Intercept]": "HalfNormal(sigma=900)"})
    assert lmm.priors.effect_maps == (None,)
    lmm = LMM("y ~ x + (x | g)", data, priors={"sigma_u2[x]": "HalfNormal(sigma=1)"})
    assert lmm.priors.effect_maps[0] is not None  # a slope is the same wherever x has its zero
    lmm = LMM("y ~ x + (x | g)", data, priors={"corr_u2": 4, "Intercept": "Normal(mu=0, sigma=9)"})
    assert lmm.priors.effect_maps == (None,)
    assert lmm.priors.beta_anchor is None
    sd_y, spread = lmm.design.y.std(ddof=1), data.x.std(ddof=1)
    carried = np.hypot(sd_y, sd_y / spread * data.x.mean())
    assert lmm.priors.sd[0][0].params["sigma"] == pytest.approx(carried, rel=5e-3)


@pytest.mark.parametrize("formula", ["y ~ x + (x || g)", "y ~ x + (1 | g) + (0 + x | g)"])
def test_effects_tied_to_a_distant_zero_say_so(formula):
    lmm = LMM(formula, made().assign(x=lambda d: d.x + 2006))
    assert any("at a point outside the data" in hint for hint in lmm.design.hints)
    assert "carried to where they are 0" in repr(lmm.priors)
    assert not any("outside the data" in hint for hint in LMM(formula, made().assign(x=lambda d: d.x - 3)).design.hints)
