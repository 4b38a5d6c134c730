"""The interactive pages: what they load, and that their numbers are ours, in a headless Chromium where there is one."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.distributions.densities import FAMILIES
from tests.browser import CHROMIUM, Browser

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "interactive"
spec = importlib.util.spec_from_file_location("interactive_pages", ROOT / "docs" / "interactive_pages.py")
interactive_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interactive_pages)
NAMES = interactive_pages.NAMES

each_page = pytest.mark.parametrize("name", NAMES)
EXACT = {"rel": 1e-9, "abs": 1e-9}  # two programs in double precision, on well-conditioned matrices of a few rows


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("There is no Chromium here: the pages' numbers are not looked at.")
    opened = Browser()
    yield opened
    opened.close()


def go(browser: Browser, name: str, **controls) -> None:
    browser.open(FOLDER / f"{name}.html", **controls)


# ---- the files ----


@each_page
def test_a_page_is_one_small_file_that_loads_nothing(name):
    text = (FOLDER / f"{name}.html").read_text("utf-8")
    assert len(text.encode()) < 150_000
    assert not re.search(r"""<(script|img|iframe|link|source|object|embed)[^>]*\b(src|href|data)\s*=""", text)
    assert not re.search(r"""@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(|WebSocket""", text)
    assert "animation" not in text  # nothing moves by itself, whatever prefers-reduced-motion says
    assert "transition" not in text


@each_page
def test_a_page_asks_a_question_and_its_links_lead_somewhere(name):
    text = (FOLDER / f"{name}.html").read_text("utf-8")
    title = interactive_pages.question(name)
    assert title.endswith("?")
    assert f"<title>{title}</title>" in text
    for target in re.findall(r'href="([^"#]+)"', text):
        assert (FOLDER / target).exists(), target


@each_page
def test_what_is_committed_is_what_the_sources_make(name):
    """`python docs/interactive_pages.py` writes them."""
    assert (FOLDER / f"{name}.html").read_text("utf-8") == interactive_pages.page(name)


@each_page
def test_a_page_is_linked_from_the_readme_and_the_list_of_notebooks(name):
    assert f"(docs/interactive/{name}.html)" in (ROOT / "README.md").read_text("utf-8")
    assert f"(../docs/interactive/{name}.html)" in (ROOT / "notebooks" / "README.md").read_text("utf-8")


def test_every_notebook_and_page_has_a_small_thumbnail_in_the_readme():
    """`python docs/thumbnails.py` writes them, and the tables."""
    readme = (ROOT / "README.md").read_text("utf-8")
    wanted = {path.stem: f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    wanted |= {name: f"docs/interactive/{name}.html" for name in NAMES}
    for name, target in wanted.items():
        picture = (ROOT / "docs" / "thumbnails" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 20_000
        assert f"](docs/thumbnails/{name}.png)]({target})" in readme
    assert {path.stem for path in (ROOT / "docs" / "thumbnails").iterdir()} == set(wanted)


# ---- any page ----


@each_page
@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_works_at_the_width_of_a_phone_and_of_a_screen(browser, name, width):
    browser.faults.clear()
    browser.requests.clear()
    browser.open(FOLDER / f"{name}.html", width=width)
    assert browser.run("document.documentElement.scrollWidth") <= width  # no scrolling sideways
    assert browser.faults == []
    assert [url for url in browser.requests if not url.startswith(("file:", "about:"))] == []
    assert all(browser.run("[...document.querySelectorAll('figure svg')].map((s) => s.childNodes.length > 0)"))


@each_page
def test_a_page_can_be_used_by_the_keyboard_and_heard(browser, name):
    go(browser, name)
    unnamed = (
        "[...document.querySelectorAll('input, select')].filter((node) => !node.labels.length).map((node) => node.id)"
    )
    assert browser.run(unnamed) == []
    silent = "[...document.querySelectorAll('.numbers output')].filter((node) => !node.closest('[aria-live]')).length"
    assert browser.run(silent) == 0
    for needed in ("node.getAttribute('aria-valuetext')", "node.getAttribute('aria-label')", "node.tabIndex === 0"):
        assert browser.run(f"[...document.querySelectorAll('.handle')].every((node) => {needed})"), needed
    slider = browser.run("document.querySelector('input[type=range]').id")
    before = browser.number(f"{slider}-value")
    browser.press(f"#{slider}", "ArrowLeft", times=2)
    assert browser.number(f"{slider}-value") < before
    assert browser.run(f"document.getElementById({slider!r}).getAttribute('aria-valuetext')") == browser.text(
        f"{slider}-value"
    )


@each_page
def test_no_end_of_a_slider_breaks_a_page(browser, name):
    go(browser, name)
    browser.faults.clear()
    broken = "/NaN|undefined|\\[object/.exec(document.querySelector('main').innerHTML)?.input.length ?? 0"
    sliders = browser.run(
        "[...document.querySelectorAll('input[type=range]')].map((node) => [node.id, +node.value, +node.max])"
    )
    choices = browser.run(
        "[...document.querySelectorAll('select')].flatMap((s) => [...s.options].map((o) => [s.id, o.value]))"
    )
    for one, value in [("", ""), *choices]:
        browser.run(f"controls[{one!r}] && (controls[{one!r}].set({value!r}), onChange({one!r}))")
        for slider, usual, most in sliders:
            for position in (0, most, usual):
                browser.move(slider, position)
                assert not browser.run(broken), (one, value, slider, position)
    for position in (0, "max"):  # and all at once
        for slider, _, most in sliders:
            browser.move(slider, most if position else 0)
        assert not browser.run(broken), position
    assert browser.faults == []


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
    go(browser, "sd", **dict(zip(["sigma", "sigma_u2", "sigma_u3"], sds, strict=True)))
    ours = heights_at(*sds)
    for name in ("logp", "logreml", "beta"):
        assert browser.number(name) == pytest.approx(ours[name], **EXACT)
    for name in ("V", "u2", "u3"):
        np.testing.assert_allclose(browser.run(f"found.{name}"), ours[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("slider", ["sigma", "sigma_u2", "sigma_u3"])
def test_a_slider_moves_and_the_number_is_our_density(browser, slider):
    go(browser, "sd")
    seen = set()
    for position in (0, 57, 240):
        browser.move(slider, position)
        sds = [browser.number(f"{name}-value") for name in ("sigma", "sigma_u2", "sigma_u3")]
        assert browser.number("logp") == pytest.approx(heights_at(*sds)["logp"], **EXACT)
        seen.add(browser.number("logp"))
    assert len(seen) == 3


def test_its_marks_are_our_ml_and_reml(browser):
    go(browser, "sd")
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
    go(browser, "shrinkage", mean=mean, n=n)
    fit = radon_with(mean, n, browser.run("SPREAD")).reml()
    assert browser.run("found.sigma") == pytest.approx(fit.sigma, rel=1e-6)  # the optimum of a search
    assert browser.run("found.tau") == pytest.approx(fit.estimates()["sigma_u2"], rel=1e-5)
    ours = (fit.fixef["Intercept"] + fit.ranef["county"]["Intercept"]).rename(lambda label: label.lower())
    names = [name.lower() for name in browser.run("[...COUNTIES.map((c) => c[0]), 'yours']")]
    np.testing.assert_allclose(browser.run("found.shrunk"), ours[names], atol=1e-6)
    assert browser.number("shrunk") == pytest.approx(ours["yours"], abs=1e-6)


@pytest.mark.parametrize(("sigma", "tau"), [(0.77, 0.3), (0.1, 5.0), (2.0, 0.0)])
def test_with_sds_of_ones_own_it_shrinks_as_our_conditional_means(browser, sigma, tau):
    go(browser, "shrinkage", mean=3.6, n=4, sigma=sigma, tau=tau)
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
    browser.open(FOLDER / "shrinkage.html", width=390, height=844)
    mean, n = browser.number("mean-value"), browser.number("n-value")
    browser.drag(".handle", 100, -40, finger=True)
    # the picture has 330 pixels for six units of the mean, and some 290 for two decades of n
    assert browser.number("mean-value") == pytest.approx(mean + 40 * 6 / 330, abs=0.05)
    assert browser.number("n-value") > 4 * n


def test_the_odd_county_is_dragged_or_moved_by_keys(browser):
    go(browser, "shrinkage")
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
    go(browser, "prior", **controls)
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
    go(browser, "prior", data=name)
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


# ---- (d) formulas ----

READ = [  # formulas that both read
    *["y ~ x + (1 | school/class)", "y~1+(1|school)+(1|class)", "y ~ x + (x || school)", "y ~ x + (1 + x | school)"],
    *[
        "y ~ 0 + x + (1 | class:school)",
        "y ~ x - 1 + (1 | school:class)",
        "y ~ (x - 1 | school/class)",
        "y ~ -1 + (1|year)",
    ],
    *["y ~ school + x + year + (1 | school/class)", "y ~ 0 + class + school + (1 | year)", "y ~ 1 + (year | school)"],
    *["y ~ (0 + year | school) + (x || class)", "y ~ x + (1 | school) + (0 + x | school)", "y ~ x + + (1|school)"],
    *[
        "y ~ x + (x | school/class)",
        "x ~ y + (1 | school)",
        "y ~ 1 + (1 | x)",
        "y ~ year + (1 | school/class) + (1 | year:school)",
    ],
    *[
        "y ~ 1 + (1 + x + year | school)",
        "y ~ 0 + (1 | school)",
        "y ~ 1 - 1 + 1 + (1 | school)",
        "y ~ - 0 + (1 | school)",
    ],
]
REFUSED = [  # formulas that neither reads, and a word that says why
    *[("", "empty"), ("y ~ x", "group"), ("x + (1 | school)", "~"), ("~ x + (1 | school)", "left"), ("y ~", "right")],
    *[
        ("y ~ z + (1 | school)", "no column"),
        ("y ~ x + (1 | School)", "did you mean"),
        ("y ~ x + (1 + school", "never closed"),
    ],
    *[("y ~ x + (| school)", "left of the bar"), ("y ~ x + (1 | )", "grouping"), ("y ~ y + (1 | school)", "response")],
    *[
        ("y ~ x + (1 | y)", "response"),
        ("y ~ 1 | school", "parentheses"),
        ("y ~ (1 | 2)", "number"),
        ("y ~ x x", "operator"),
    ],
    *[
        ("y ~ x + (1 | school + class)", "two terms"),
        ("y ~ x + (1 | school)(1 | class)", "operator"),
        ("y ~ ()", "empty"),
    ],
    *[
        ("y ~ x + (1 | school) + (1 | school)", "twice"),
        ("school ~ x + (1 | class)", "words"),
        ("y ~ x + (1 | school))", "closes"),
    ],
    *[("y ~ 2 + (1 | school)", "0 or 1"), ("y ~ x + (0 | school)", "no effect"), ("y ~ x + x + (1 | school)", "twice")],
    *[
        ("y ~ x + (1 | school/class/year)", "one row"),
        ("y ~ x + (x + year | school/class)", "every row"),
        ("y ~ x +", "nothing"),
    ],
    *[
        ("y ~ x + (1 | school/school)", "twice"),
        ("y ~ x + (1 | school | class)", "second bar"),
        ("y ~ x ; (1 | school)", "no meaning"),
    ],
    *[
        ("y ~ x + (1 | school*class)", "right of a bar"),
        ("y ~ x ~ (1 | school)", "~"),
        ("y ~ x + (1 | school/)", "missing"),
    ],
    ("y ~ <b>x</b> + (1 | school)", "no meaning"),
]
ELSEWHERE = [
    "y ~ x * year + (1 | school)",
    "y ~ I(x) + (1 | school)",
    "y ~ x:year + (1 | school)",
    "y ~ (x) + (1 | school)",
]


def class_of_18(browser) -> pd.DataFrame:
    go(browser, "formula")
    return pd.DataFrame(browser.run("DATA"))


def type_formula(browser, formula: str) -> dict:
    browser.run(
        f"{{const it = document.getElementById('formula'); it.value = {formula!r};"
        "it.dispatchEvent(new Event('input', {bubbles: true}));}"
    )
    return browser.run("found")


def test_a_formula_gives_our_matrices(browser):
    data = class_of_18(browser)
    sd, rho = 1.3, 0.35
    browser.run(f"controls.sd.set({sd}); controls.rho.set({rho})")
    for formula in READ:
        found, lmm = type_formula(browser, formula), blm.LMM(formula, data)
        assert "error" not in found, (formula, found)
        assert np.array(found["X"]).T.reshape(18, -1).tolist() == lmm.X.to_numpy().tolist(), formula
        assert np.array(found["Z"]).T.tolist() == lmm.Z.toarray().tolist(), formula
        theta: list[float] = []
        for term, level in zip(lmm.hierarchy.levels, lmm.design.levels, strict=True):
            r = len(level.effects)
            L = sd * np.linalg.cholesky(rho ** np.abs(np.subtract.outer(np.arange(r), np.arange(r))))
            theta += [sd] * r if term.structure == "diag" else [L[i, j] for j in range(r) for i in range(j, r)]
        np.testing.assert_allclose(found["V"], lmm.V(theta).toarray(), rtol=1e-12, atol=1e-12, err_msg=formula)


def test_what_neither_reads_is_refused_in_words(browser):
    data = class_of_18(browser)
    for formula, word in REFUSED:
        found = type_formula(browser, formula)
        assert word in found.get("error", ""), (formula, found)
        assert found["error"].lower()[1:] in browser.text("said").lower()
        assert browser.run("document.querySelector('#said pre').textContent").replace("\xa0", "") == formula
        with pytest.raises(blm.errors.BayesLMMError):
            blm.LMM(formula, data)


def test_what_only_python_reads_is_said_to_be_that(browser):
    data = class_of_18(browser)
    for formula in ELSEWHERE:
        assert re.search(r"this page|bar in these", type_formula(browser, formula)["error"]), formula
        blm.LMM(formula, data)


def test_nested_and_crossed_are_told_apart_in_words(browser):
    go(browser, "formula", formula=quote("y ~ x + (1 | school/class)"))
    assert "class:school is nested in school" in browser.text("said")
    type_formula(browser, "y ~ x + (1 | school) + (1 | class)")
    assert "class is crossed with school" in browser.text("said")


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
    go(browser, "funnel", **given)
    path, shown = leapfrog(**given), np.array(browser.run("found.path"), dtype=float)
    assert shown.shape == path.shape
    np.testing.assert_allclose(shown, path, rtol=1e-8, atol=1e-8)  # rounding grows along the path, a little
    assert browser.number("diverged") == (len(path) - 1 if diverges else 0)
    assert browser.number("error") == pytest.approx(path[-1, 2], rel=1e-8, abs=1e-8)
    assert browser.number("worst") == pytest.approx(max(path[:, 2], key=abs), rel=1e-8, abs=1e-8)
    assert browser.number("accept") == pytest.approx(0 if diverges else min(1, np.exp(-path[-1, 2])), abs=1e-8)


def test_the_start_is_dragged_or_moved_by_keys_and_the_exact_path_keeps_its_energy(browser):
    go(browser, "funnel", size=0.05)
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
