"""The page of formulas reads what we read and refuses what we refuse, and its matrices are ours."""

from __future__ import annotations

import re
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm

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
    browser.show("formula")
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
    browser.show("formula", formula=quote("y ~ x + (1 | school/class)"))
    assert "class:school is nested in school" in browser.text("said")
    type_formula(browser, "y ~ x + (1 | school) + (1 | class)")
    assert "class is crossed with school" in browser.text("said")
