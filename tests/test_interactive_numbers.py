"""What the interactive pages compute is what we compute, in a headless Chromium where there is one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.distributions.densities import FAMILIES

EXACT = {"rel": 1e-9, "abs": 1e-9}  # two programs in double precision, on well-conditioned matrices of a few rows


# ---- (a) the slider of an SD ----


def heights_at(sigma: float, sigma_u2: float, sigma_u3: float) -> dict:
    """What our densities say of the heights, beta at its least squares."""
    lmm = blm.example("heights")
    y, X, Z = lmm.y.to_numpy(), lmm.X.to_numpy(), lmm.Z.toarray()
    G = np.diag(np.repeat([(sigma_u2 / sigma) ** 2, (sigma_u3 / sigma) ** 2], [6, 2]))
    V = sigma**2 * (Z @ G @ Z.T + np.eye(18))
    information = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(information, X.T @ np.linalg.solve(V, y))
    logp = blm.density.marginal_logpdf(y, X, Z, beta, sigma**2, G)
    u, _ = blm.density.conditional_moments(y, X, Z, beta, sigma**2, G)
    labels = [label[1] for label in lmm.design.Z_labels[:6]]
    u2 = dict(zip(labels, u[:6], strict=True))
    return {
        "logp": logp,
        "logreml": logp - 0.5 * np.log(np.linalg.det(information)) + 0.5 * np.log(2 * np.pi),
        "beta": beta[0],
        "V": sigma**2 * lmm.V([sigma_u2 / sigma, sigma_u3 / sigma]).toarray(),
        "u2": [u2[f"{c}:{s}"] for s in "12" for c in "123"],
        "u3": u[6:],
    }


@pytest.mark.parametrize("sds", [(0.4, 0.4, 0.3), (0.2, 0.9, 0.0), (1.0, 0.0, 0.0), (0.05, 5.0, 5.0), (2.0, 0.01, 1.5)])
def test_the_page_of_the_sd_says_what_our_densities_say(browser, sds):
    browser.show("sd", **dict(zip(["sigma", "sigma_u2", "sigma_u3"], sds, strict=True)))
    ours = heights_at(*sds)
    for name in ("logp", "logreml", "beta"):
        assert browser.number(name) == pytest.approx(ours[name], **EXACT)
    for name in ("V", "u2", "u3"):
        np.testing.assert_allclose(browser.run(f"found.{name}"), ours[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("slider", ["sigma", "sigma_u2", "sigma_u3"])
def test_a_slider_moves_and_the_number_is_our_density(browser, slider):
    browser.show("sd")
    seen = set()
    for position in (0, 57, 240):
        browser.move(slider, position)
        sds = [browser.number(f"{name}-value") for name in ("sigma", "sigma_u2", "sigma_u3")]
        assert browser.number("logp") == pytest.approx(heights_at(*sds)["logp"], **EXACT)
        seen.add(browser.number("logp"))
    assert len(seen) == 3


def test_its_marks_are_our_ml_and_reml(browser):
    browser.show("sd")
    data = blm.example_data("heights")
    assert browser.run("HEIGHTS") == data[["school", "class", "Height"]].astype(float).to_numpy().tolist()
    for name, fit in (("ml", blm.example("heights").ml()), ("reml", blm.example("heights").reml())):
        browser.run(f"document.getElementById('to-{name}').click()")
        shown = [browser.number(f"{sd}-value") for sd in ("sigma", "sigma_u2", "sigma_u3")]
        assert shown == pytest.approx(fit.estimates().to_numpy()[1:], abs=1e-6)  # what a search's end is good for
        assert browser.number("logp" if name == "ml" else "logreml") == pytest.approx(fit.loglik, **EXACT)


# ---- (b) shrinkage ----


def radon_with(mean: float, n: int, spread: float) -> blm.LMM:
    """The counties and one more, whose n houses have this mean and the variance `spread`."""
    own = np.arange(n) - (n - 1) / 2
    own *= np.sqrt(spread * (n - 1) / (own @ own)) if n > 1 else 0.0
    rows = pd.DataFrame({"county": "yours", "log_radon": mean + own})
    return blm.LMM(
        "log_radon ~ 1 + (1 | county)", pd.concat([blm.example_data("radon")[["county", "log_radon"]], rows])
    )


@pytest.mark.parametrize(("mean", "n"), [(3.6, 2), (-1.0, 1), (5.0, 60)])
def test_the_page_of_shrinkage_estimates_and_shrinks_as_reml_does(browser, mean, n):
    browser.show("shrinkage", mean=mean, n=n)
    fit = radon_with(mean, n, browser.run("SPREAD")).reml()
    assert browser.run("found.sigma") == pytest.approx(fit.sigma, rel=1e-6)  # the optimum of a search
    assert browser.run("found.tau") == pytest.approx(fit.estimates()["sigma_u2"], rel=1e-5)
    ours = (fit.fixef["Intercept"] + fit.ranef["county"]["Intercept"]).rename(lambda label: label.lower())
    names = [name.lower() for name in browser.run("[...COUNTIES.map((c) => c[0]), 'yours']")]
    np.testing.assert_allclose(browser.run("found.shrunk"), ours[names], atol=1e-6)
    assert browser.number("shrunk") == pytest.approx(ours["yours"], abs=1e-6)


@pytest.mark.parametrize(("sigma", "tau"), [(0.77, 0.3), (0.1, 5.0), (2.0, 0.0)])
def test_with_sds_of_ones_own_it_shrinks_as_our_conditional_means(browser, sigma, tau):
    browser.show("shrinkage", mean=3.6, n=4, sigma=sigma, tau=tau)
    assert browser.run("controls.estimate.value") is False
    lmm = radon_with(3.6, 4, browser.run("SPREAD"))
    y, X, Z = lmm.y.to_numpy(), lmm.X.to_numpy(), lmm.Z.toarray()
    G = (tau / sigma) ** 2 * np.eye(86)
    V = Z @ G @ Z.T + np.eye(len(y))
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    u, _ = blm.density.conditional_moments(y, X, Z, beta, sigma**2, G)
    own = [label[1] for label in lmm.design.Z_labels].index("yours")
    assert browser.number("beta") == pytest.approx(beta[0], **EXACT)
    assert browser.number("shrunk") == pytest.approx(beta[0] + u[own], **EXACT)
    assert browser.number("lambda") == pytest.approx(u[own] / (3.6 - beta[0]), **EXACT)
    assert browser.number("lambda5") == pytest.approx(5 * tau**2 / (5 * tau**2 + sigma**2), **EXACT)


def test_a_finger_drags_the_odd_county_and_does_not_scroll(browser):
    browser.show("shrinkage", width=390, height=844)
    mean, n = browser.number("mean-value"), browser.number("n-value")
    browser.drag(".handle", 100, -40, finger=True)
    # the picture has 330 pixels for six units of the mean, and some 290 for two decades of n
    assert browser.number("mean-value") == pytest.approx(mean + 40 * 6 / 330, abs=0.05)
    assert browser.number("n-value") > 4 * n


def test_the_odd_county_is_dragged_or_moved_by_keys(browser):
    browser.show("shrinkage")
    mean, n, other = browser.number("mean-value"), browser.number("n-value"), browser.number("lambda5")
    browser.press(".handle", "ArrowUp", times=4)
    browser.press(".handle", "ArrowRight")
    assert browser.number("mean-value") == pytest.approx(mean + 0.2)
    assert browser.number("n-value") == n + 1
    browser.drag(".handle", 200, -30)
    assert browser.number("mean-value") > mean + 0.2
    assert browser.number("n-value") > n + 1
    assert browser.number("lambda5") > other  # one odd county of several houses, and all are believed more


# ---- (c) priors ----

GIVEN = [  # the page's choice, and the prior in our words
    ({"family": "halfnormal", "scale": 3}, ("HalfNormal", {"sigma": 3.0})),
    ({"family": "halft", "scale": 2, "nu": 1}, ("HalfCauchy", {"beta": 2.0})),
    ({"family": "halft", "scale": 2, "nu": 7}, ("HalfStudentT", {"nu": 7.0, "sigma": 2.0})),
    ({"family": "exponential", "scale": 1.5}, ("Exponential", {"scale": 1.5})),
    ({"family": "uniform", "scale": 4}, ("Uniform", {"lower": 0.0, "upper": 4.0})),
    ({"family": "pc", "scale": 5}, ("PenalizedComplexity", {"upper": 5.0, "alpha": 0.05})),
    ({"family": "inversegamma", "scale": 1, "alpha": 0.001}, ("InverseGammaVariance", {"alpha": 1e-3, "beta": 1e-3})),
    ({"family": "inversegamma", "scale": 2, "alpha": 1.5}, ("InverseGammaVariance", {"alpha": 1.5, "beta": 6.0})),
    ({"family": "halfnormal", "scale": 40, "data": "dyestuff"}, ("HalfNormal", {"sigma": 40.0})),
]


def reml_density(name: str, sigma: float, tau: float) -> float:
    """Log p(y | sigma, tau), beta integrated out, dense."""
    lmm = blm.example(name)
    y, X, Z = lmm.y.to_numpy(), lmm.X.to_numpy(), lmm.Z.toarray()
    G = (tau / sigma) ** 2 * np.eye(6)
    V = sigma**2 * (Z @ G @ Z.T + np.eye(len(y)))
    information = X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(information, X.T @ np.linalg.solve(V, y))
    return blm.density.marginal_logpdf(y, X, Z, beta, sigma**2, G) - 0.5 * np.log(np.linalg.det(information))


def posterior(name: str, law, below: float) -> dict[str, float]:
    """Means of tau and of the ICC, P(tau < below) and P(ICC < 0.05), by SciPy's adaptive quadrature over tau."""
    from scipy.integrate import quad_vec

    table = blm.example_data(name)
    groups = table.groupby("Batch")["Yield"]
    SSB = 5 * ((groups.mean() - table["Yield"].mean()) ** 2).sum()
    SSW = ((table["Yield"] - groups.transform("mean")) ** 2).sum()
    s = np.sqrt(SSW / 24)
    node, weight = np.polynomial.legendre.leggauss(120)
    sigma, weight = s * np.exp(0.5 + 1.4 * node), 1.4 * weight  # log sigma's SD is a seventh, its right tail longer

    def mass(tau) -> np.ndarray:
        """Likelihood times prior at the nodes of sigma, per unit of log tau."""
        v = sigma**2 + 5 * tau**2
        log = -24 * np.log(sigma / s) - SSW / 2 / sigma**2 + 12 - 2.5 * np.log(v / s**2) - SSB / 2 / v + 2.5
        inside = tau <= law.upper
        return weight * np.where(inside, np.exp(log + law.logpdf(np.minimum(tau, law.upper))) * tau, 0.0)

    def moments(log_tau: float) -> np.ndarray:
        tau = np.exp(log_tau)
        m = mass(tau)
        return np.array([m.sum(), tau * m.sum(), (tau**2 / (tau**2 + sigma**2)) @ m])

    def integral(function, low: float, high: float, digits: float):
        return quad_vec(function, low, high, epsrel=digits, epsabs=0, norm="max", limit=2000)[0]

    start, end = np.log(s) - 34, np.log(min(law.upper, s * 1e7))
    left, right = integral(moments, start, np.log(below), 1e-11), integral(moments, np.log(below), end, 1e-11)
    total = left + right
    small = integral(lambda ratio: mass(sigma * np.exp(ratio)).sum(), -34, 0.5 * np.log(0.05 / 0.95), 1e-7)
    shares = {"below": left[0], "mean": total[1], "icc": total[2], "small": small}
    return {key: value / total[0] for key, value in shares.items()}


@pytest.mark.parametrize(("controls", "prior"), GIVEN, ids=str)
def test_the_posteriors_of_the_page_of_priors_are_those_of_quadrature(browser, controls, prior):
    browser.show("prior", **controls)
    family, parameters = prior
    law = FAMILIES[family].law(**parameters)
    ours = posterior(controls.get("data", "dyestuff2"), law, below=browser.number("interval"))
    assert browser.number("mean") == pytest.approx(ours["mean"], rel=1e-8)
    assert browser.number("icc") == pytest.approx(ours["icc"], rel=1e-8)
    assert ours["below"] == pytest.approx(0.975, abs=1e-8)
    assert browser.run("found.part[0]") == pytest.approx(ours["small"], abs=1e-5)
    for bars in ("part", "before"):
        assert sum(browser.run(f"found.{bars}")) == pytest.approx(1, abs=1e-12)
    for tau in (0.03, 1.0, 3.5):
        assert browser.run(f"found.prior({tau})") == pytest.approx(float(law.logpdf(tau)), **EXACT)


@pytest.mark.parametrize("name", ["dyestuff", "dyestuff2"])
def test_its_likelihood_is_our_density_with_the_mean_integrated_out(browser, name):
    browser.show("prior", data=name)
    scale = float(np.sqrt(browser.run("found.like.nodes[40].s2")))
    shown = [
        (k, tau, browser.run(f"found.like.given(found.like.nodes[{k}], {(tau * scale) ** 2!r})"))
        for k, tau in ((20, 0.0), (40, 0.5), (50, 0.1), (60, 3.0))
    ]
    sigmas = [np.sqrt(browser.run(f"found.like.nodes[{k}].s2")) for k, _, _ in shown]
    ours = [reml_density(name, sigma, tau * scale) for sigma, (_, tau, _) in zip(sigmas, shown, strict=True)]
    theirs = [value for _, _, value in shown]
    np.testing.assert_allclose(np.diff(theirs), np.diff(ours), rtol=1e-9, atol=1e-9)
    assert browser.number("reml") == pytest.approx(blm.example(name).reml().estimates()["sigma_u2"], rel=1e-5)


# ---- (e) the funnel ----


def leapfrog(*, c: float, size: float, steps: int, n: int, angle: float, u: float, v: float) -> np.ndarray:
    """The path (w, v, energy error) in numpy; the density is ours, its gradient by hand."""
    q = np.array([u * np.exp((c - 1) * v), v])
    p = 1.4 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])

    def energy(q, p) -> float:
        w, v = q
        tau, effect = np.exp(v), w * np.exp((1 - c) * v)
        data = (np.full(n, 1.5), np.zeros((n, 1)), np.ones((n, 1)), [0.0], [effect], 1.0, [[tau**2]])
        log = blm.density.joint_logpdf(*data) - 0.5 * (v / 1.5) ** 2 + (1 - c) * v  # and dw = du / tau^(1 - c)
        return 0.5 * p @ p - log

    def gradient(q) -> np.ndarray:
        w, v = q
        tau, effect = np.exp(v), w * np.exp((1 - c) * v)
        du = effect / tau**2 - n * (1.5 - effect)  # of -log density in the effect; then by the chain rule
        dv = v / 1.5**2 + 1 - (effect / tau) ** 2
        return np.array([du * tau ** (1 - c), dv + du * effect * (1 - c) - (1 - c)])

    path, start = [[*q, 0.0]], energy(q, p)
    for _ in range(steps):
        p = p - size / 2 * gradient(q)
        q = q + size * p
        p = p - size / 2 * gradient(q)
        path.append([*q, energy(q, p) - start])
        if not abs(path[-1][2]) < 1000:
            break
    return np.array(path)


@pytest.mark.parametrize(
    ("given", "diverges"),
    [
        ({"c": 1, "size": 0.4, "steps": 40, "n": 0, "angle": 250, "u": 1, "v": 0.5}, True),  # as the page opens
        ({"c": 1, "size": 0.1, "steps": 40, "n": 0, "angle": 250, "u": 1, "v": 0.5}, False),
        ({"c": 0, "size": 0.4, "steps": 40, "n": 0, "angle": 250, "u": 1, "v": 0.5}, False),
        ({"c": 0.5, "size": 0.2, "steps": 25, "n": 3, "angle": 90, "u": -1, "v": -0.5}, False),
        ({"c": 0, "size": 0.25, "steps": 40, "n": 50, "angle": 250, "u": 1, "v": 0.5}, True),  # many rows: worse than
        ({"c": 1, "size": 0.25, "steps": 40, "n": 50, "angle": 250, "u": 1, "v": 0.5}, False),  # the centred one
    ],
)
def test_the_leapfrog_of_the_funnel_is_numpys(browser, given, diverges):
    browser.show("funnel", **given)
    path, shown = leapfrog(**given), np.array(browser.run("found.path"), dtype=float)
    assert shown.shape == path.shape
    np.testing.assert_allclose(shown, path, rtol=1e-8, atol=1e-8)  # rounding grows along the path, a little
    assert browser.number("diverged") == (len(path) - 1 if diverges else 0)
    assert browser.number("error") == pytest.approx(path[-1, 2], rel=1e-8, abs=1e-8)
    assert browser.number("worst") == pytest.approx(max(path[:, 2], key=abs), rel=1e-8, abs=1e-8)
    assert browser.number("accept") == pytest.approx(0 if diverges else min(1, np.exp(-path[-1, 2])), abs=1e-8)


def test_the_start_is_dragged_or_moved_by_keys_and_the_exact_path_keeps_its_energy(browser):
    browser.show("funnel", size=0.05)
    assert np.abs(np.array(browser.run("found.exact.path"))[:, 2]).max() < 1e-3
    u, v = browser.number("u-value"), browser.number("v-value")
    browser.press(".handle", "ArrowLeft", times=3)
    browser.press(".handle", "ArrowUp")
    assert browser.number("u-value") == pytest.approx(u - 0.3)
    assert browser.number("v-value") == pytest.approx(v + 0.1)
    before = browser.run("found.path.at(-1)")
    browser.drag(".handle", 60, 40)
    assert browser.number("u-value") > u
    assert browser.number("v-value") < v + 0.1
    assert browser.run("found.path.at(-1)") != before
