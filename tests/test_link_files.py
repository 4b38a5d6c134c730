"""Outcomes that aren't Gaussian from file to shell: files, the gallery's numbers, saved models, commands."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayeslmm as blm
from bayeslmm.cli.entry import FAILED, OK, USAGE, main
from bayeslmm.description.model_file import ModelFile
from bayeslmm.errors import BayesLMMError, DataError, DescriptionError, SavedError

MODELS = Path(__file__).parents[1] / "models"
FORMULA = 'formula = "y ~ 1 + (1 | g)"\n'
PAIRED = 'formula = "cbind(a, b) ~ 1 + (1 | g)"\n'
EXPLICIT = 'response = "a"\n[[levels]]\ngroup = "g"\n'
BINOMIAL = 'family = "binomial"\n'


# --- the gallery

# R's log-likelihoods: glmmTMB 1.1.5 (Laplace), lme4 1.1.31 with nAGQ = 100 and the saturated model's part added, clmm
# of ordinal 2022.11.16 with nAGQ = 25; and the SDs of the effects
GALLERY = {
    "cbpp": ("laplace", -92.026281864762, [0.6422616722346]),
    "toenail": ("auto", -625.3975156599979, [4.006585258768]),
    "epil": ("laplace", -624.551216670509, [0.4660188535388]),
    "grouseticks": ("laplace", -890.27133008822, [0.750033, 0.541509, 0.528721]),
    "salamander": ("laplace", -209.276586227409, [1.083683053966, 1.020295861775]),
    "wine": ("auto", -81.532460710955, [1.134783297456]),
    "guimmun": ("laplace", -1355.70089623152, [1.134814954903, 0.7210729946674]),
}


@pytest.mark.parametrize("name", GALLERY)
def test_the_gallerys_numbers_are_Rs(name):
    approximation, loglik, sds = GALLERY[name]
    glmm = blm.example(name)
    assert isinstance(glmm, blm.GLMM)
    fit = glmm.ml(approximation)
    assert fit.loglik == pytest.approx(loglik, abs=1e-5)
    assert np.concatenate(fit.sds) == pytest.approx(sds, rel=2e-4)


def test_thresholds_of_the_wines_have_the_names_of_their_categories():
    fit = blm.example("wine").ml()
    assert fit.dispersion.index.tolist() == ["threshold[1|2]", "threshold[2|3]", "threshold[3|4]", "threshold[4|5]"]


# --- what a file says


def test_a_family_and_its_columns():
    file = ModelFile.parse(PAIRED + 'family = "bernoulli(probit)"')
    assert file.outcome.arguments() == {
        "family": blm.Binomial(link="probit"), "failures": "b", "trials": "", "weights": "",
    }  # fmt: skip
    assert file.hierarchy == blm.Hierarchy.from_formula("a ~ 1 + (1 | g)")
    explicit = ModelFile.parse(f'{BINOMIAL}failures = "b"\n{EXPLICIT}')
    assert explicit.hierarchy == file.hierarchy
    assert explicit.outcome.failures == "b"
    shares = ModelFile.parse(FORMULA + BINOMIAL + 'weights = "n of it"')
    assert shares.outcome.arguments()["weights"] == "n of it"
    assert ModelFile.parse(FORMULA).outcome is None


@pytest.mark.parametrize(
    "text",
    [
        PAIRED + BINOMIAL,
        FORMULA + 'family = "negative_binomial1"',
        FORMULA + BINOMIAL + 'weights = "n"',
        'family = "student_t"\nresponse = "log(y)"\nfixed = "x"\noffset = "log(n)"\n[[levels]]\ngroup = ["g", "h"]\n',
        'formula = "y ~ x + ar1(0 + f | g)"\nfamily = "Gamma(link = log)"',
    ],
)
def test_what_is_written_is_read_as_the_same(text):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({
        "a": rng.integers(0, 3, 60), "b": rng.integers(1, 3, 60), "n": np.full(60, 4), "x": rng.normal(size=60),
        "y": rng.integers(1, 5, 60) / 4, "g": np.arange(60) // 6, "h": np.arange(60) % 2, "f": list("uvw") * 20,
    })  # fmt: skip
    data["y"] = data["y"] * (4 if "negative" in text else 1)
    file = ModelFile.parse(text)
    glmm = blm.GLMM(file.hierarchy, data, **file.outcome.arguments())
    again = ModelFile.parse(glmm.to_toml())
    assert again.hierarchy == file.hierarchy
    assert again.outcome == file.outcome
    other = blm.GLMM(again.hierarchy, data, **again.outcome.arguments())
    assert other.formula == glmm.formula
    assert other.ml("laplace").loglik == glmm.ml("laplace").loglik


WRONG = [
    # text, line, what the message says, what to write instead
    (FORMULA + 'family = "poison"', 2, "no family 'poison'", "Did you mean 'poisson'"),
    (FORMULA + 'family = "binomial(link = log)"', 2, "no link 'log'", "logit, probit, cloglog"),
    (FORMULA + 'family = "gaussian"', 2, "a Gaussian outcome is an LMM's", "no family in a file"),
    (FORMULA + 'family = "zero_inflated_poisson"', 2, "Zeros with a model of their own", "negative_binomial"),
    (FORMULA + "family = 3", 2, "family is 3", 'family = "binomial"'),
    (FORMULA + "family = {name = 'binomial'}", 2, "family is", 'family = "binomial"'),
    (FORMULA + 'famly = "poisson"', 2, "unknown key 'famly'", "Did you mean 'family'?"),
    (FORMULA + BINOMIAL + "trials = 3", 3, "trials is 3", 'trials = "n"'),
    (FORMULA + 'trials = "n"', 2, "stands beside a family", 'family = "binomial"'),
    (FORMULA + BINOMIAL + 'trials = "n"\nweights = "n"', 4, "said twice, by trials and by weights", "keep one"),
    ('formula = "y | trials(n) ~ (1 | g)"', 1, "... | trials(...) stands beside a family", 'family = "binomial"'),
    ('formula = "cbind(a, n - b) ~ (1 | g)"\n' + BINOMIAL, 1, "what is left of the trials", "trials - successes"),
    (FORMULA + 'link = "probit"', 2, "unknown key 'link'", 'Write family = "binomial(link = probit)"'),
    (FORMULA + BINOMIAL + "weights = ['n']", 3, "weights is ['n']", "name of a column"),
    (FORMULA + BINOMIAL + "weights = ''", 3, "a column name is empty", "name"),
    (FORMULA + 'weights = "n"', 2, "stands beside a family", "[residual]"),
    (FORMULA + 'failures = "n"', 2, "stands beside a family", 'family = "binomial"'),
    (PAIRED, 1, "cbind(...) stands beside a family", 'family = "binomial"'),
    (PAIRED + 'family = "poisson"', 1, "cbind(...) counts the trials of a binomial", "Leave it out"),
    (FORMULA + 'family = "gamma"\nweights = "n"', 3, "weights counts the trials of a binomial", "Leave it out"),
    (PAIRED + BINOMIAL + 'weights = "n"', 3, "said twice, by cbind(...) and by weights", "keep one"),
    (PAIRED + BINOMIAL + 'failures = "n"', 3, "said twice, by cbind(...)", "keep one"),
    ('formula = "cbind(a, a) ~ (1 | g)"\n' + BINOMIAL, 1, "for successes and for failures", "two columns"),
    ('formula = "cbind(a, b, c) ~ (1 | g)"\n' + BINOMIAL, 1, "position 11", "cbind(successes, failures)"),
    (f"{BINOMIAL}{EXPLICIT}".replace('"a"', '"cbind(a, b)"'), 2, "cbind(...) stands on the left", 'failures = "'),
    (FORMULA + 'family = "poisson"\n[residual]\nweights = "n"', 3, "a poisson outcome has no residual", "leave"),
    (FORMULA + 'family = "poisson"\ncategories = ["a"]', 3, "a poisson outcome has numbers", "Leave it"),
    (FORMULA + 'family = "ordinal"\ncategories = "low"', 3, "categories is 'low'", '["low", "middle", "high"]'),
    (FORMULA + 'family = "ordinal"\ncategories = ["a", "a", "b"]', 3, "different texts", "expected"),
    (FORMULA + BINOMIAL + 'categories = ["a", "b", "c"]', 3, "they are two", "the success"),
]


@pytest.mark.parametrize(("text", "line", "what", "instead"), WRONG)
def test_an_error_names_the_file_and_the_line(text, line, what, instead, tmp_path):
    path = tmp_path / "model.toml"
    path.write_text(text)
    with pytest.raises(DescriptionError) as caught:
        ModelFile.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}:")
    assert what in message
    assert instead in message


def write(tmp_path, text, table) -> Path:
    (tmp_path / "d.csv").write_text(table)
    (tmp_path / "m.toml").write_text(f'data = "d.csv"\n{text}')
    return tmp_path / "m.toml"


def test_neither_kind_fits_the_others_file(tmp_path):
    counts = write(tmp_path, FORMULA + 'family = "poisson"', "y,g\n1,a\n0,a\n2,b\n5,b\n")
    with pytest.raises(DescriptionError, match=r"m\.toml describes a poisson outcome.* blm\.GLMM\.from_toml\(path\)"):
        blm.LMM.from_toml(counts)
    assert repr(blm.GLMM.from_toml(counts)) == "GLMM('y ~ 1 + (1 | g)', poisson(link = log), 4 rows)"
    plain = write(tmp_path, FORMULA, "y,g\n1,a\n0,a\n2,b\n5,b\n")
    with pytest.raises(DescriptionError, match=r"m\.toml names no family.* blm\.LMM\.from_toml\(path\)"):
        blm.GLMM.from_toml(plain)
    assert isinstance(blm.LMM.from_toml(plain), blm.LMM)


def test_a_hierarchy_alone_says_what_it_leaves_out(tmp_path):
    with pytest.warns(UserWarning, match=r"names family = 'binomial\(link = logit\)', which a Hierarchy hasn't"):
        hierarchy = blm.Hierarchy.from_toml(MODELS / "cbpp.toml")
    assert hierarchy.response == "incidence"


@pytest.mark.parametrize("table", ["[[levels]]\ngroup = 'g'\n[priors]\n", "[[levels]]\ngroup = 'g'\n"])
def test_a_family_below_a_table_is_told_to_go_up(table):
    with pytest.raises(BayesLMMError, match="write it above the tables"):
        ModelFile.parse(f"response = 'y'\n{table}family = 'binomial'")


def test_columns_of_a_file_that_only_count_are_numbers(tmp_path):
    path = write(tmp_path, PAIRED + BINOMIAL, "a,b,g\n1,2,01\n2,3,01\n0,4,1\n3,3,1\n")
    glmm = blm.GLMM.from_toml(path)
    assert glmm.outcome.trials.tolist() == [3, 5, 4, 6]
    assert glmm.design.levels[0].groups == ("01", "1")


TEXTS = "y,g\nlow,a\nhigh,a\nmiddle,b\nlow,b\nhigh,c\nmiddle,c\n"
ANSWERS = "y,g\nyes,a\nno,a\nyes,b\nno,b\nno,c\nyes,c\n"


def test_texts_have_the_order_that_the_file_says(tmp_path):
    said = 'family = "ordinal"\ncategories = ["low", "middle", "high"]'
    glmm = blm.GLMM.from_toml(write(tmp_path, FORMULA + said, TEXTS))
    assert glmm.outcome.categories == ("low", "middle", "high")
    assert glmm.outcome.y.tolist() == [0, 2, 1, 0, 2, 1]
    said = BINOMIAL + 'categories = ["no", "yes"]'
    glmm = blm.GLMM.from_toml(write(tmp_path, FORMULA + said, ANSWERS))
    assert glmm.outcome.y.tolist() == [1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "table", "words"),
    [
        ('family = "ordinal"', TEXTS, r"whose order nobody can know; .* in a description file, categories = \["),
        (BINOMIAL, ANSWERS, r"the texts 'no' and 'yes', .* in a description file, categories = \[\"no\", \"yes\"\]"),
        ('family = "ordinal"\ncategories = ["low", "high", "top"]', TEXTS, r"m\.toml: .* has 'middle' in 2 of 6 rows"),
        (BINOMIAL + 'categories = ["yes", "No"]', ANSWERS, "has 'no' in 3 of 6 rows, which is none of"),
    ],
)
def test_texts_that_nobody_can_order_are_refused_with_the_key_to_write(text, table, words, tmp_path):
    with pytest.raises(DataError, match=words):
        blm.GLMM.from_toml(write(tmp_path, FORMULA + text, table))


def test_the_schema_knows_what_goes_together():
    schema = json.loads((MODELS / "schema.json").read_text("utf-8"))
    assert schema["dependentRequired"] == {key: ["family"] for key in ("failures", "trials", "weights", "categories")}
    assert "binomial (logit, probit, cloglog)" in schema["properties"]["family"]["description"]


# --- beside a Hierarchy in Python

SICK = {
    "sick": [2, 3, 4, 0],
    "well": [12, 9, 5, 5],
    "herd": list("aabb"),
    "share": [0.5, 0.25, 0, 1],
    "n": [4, 4, 4, 4],
}


def test_failures_stand_beside_a_hierarchy():
    by_parts = blm.GLMM(blm.Hierarchy.from_formula("sick ~ 1 + (1 | herd)"), SICK, family="binomial", failures="well")
    by_formula = blm.GLMM("cbind(sick, well) ~ 1 + (1 | herd)", SICK, family="binomial")
    assert by_parts.formula == by_formula.formula
    assert by_parts.ml("laplace").loglik == by_formula.ml("laplace").loglik
    for more, words in (
        ({"failures": 3}, "failures is the name of a column"),
        ({"failures": "x y", "trials": "n"}, "is said twice"),
    ):
        with pytest.raises(DescriptionError, match=words):
            blm.GLMM("sick ~ 1 + (1 | herd)", SICK, family="binomial", **more)


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        ("cbind(sick, n - sick) ~ 1 + (1 | herd)", {}),
        ("cbind(sick, `n`-sick) ~ 1 + (1 | herd)", {}),
        ("sick | trials(n) ~ 1 + (1 | herd)", {}),
        ("sick ~ 1 + (1 | herd)", {"trials": "n"}),
        ("part ~ 1 + (1 | herd)", {"weights": "n"}),
        ("cbind(sick, well) ~ 1 + (1 | herd)", {}),
    ],
)
def test_trials_are_said_as_lme4_and_brms_say_them(formula, more):
    """Each is the same model, and written so that it is read again."""
    data = pd.DataFrame(SICK).assign(n=lambda d: d["sick"] + d["well"], part=lambda d: d["sick"] / d["n"])
    glmm = blm.GLMM(formula, data, family="binomial", **more)
    assert glmm.outcome.trials.tolist() == [14, 12, 9, 5]
    assert glmm.outcome.y.tolist() == SICK["sick"]
    again = ModelFile.parse(glmm.to_toml())
    other = blm.GLMM(again.hierarchy, data, **again.outcome.arguments())
    assert other.reader == glmm.reader
    if "weights" not in more:  # which no formula can say
        by_formula = blm.GLMM(glmm.formula, data, family="binomial")
        assert by_formula.reader == glmm.reader


def test_an_lmm_says_whose_cbind_is():
    with pytest.raises(DescriptionError, match=r"a binomial outcome's; write blm\.GLMM"):
        blm.LMM("cbind(sick, well) ~ 1 + (1 | herd)", SICK)


def test_trials_said_twice_or_too_few_are_refused():
    for more, words in (({"failures": "well"}, "both say"), ({"trials": "n"}, "both say"), ({"weights": "n"}, "twice")):
        with pytest.raises(DescriptionError, match=words):
            blm.GLMM("cbind(sick, well) ~ 1 + (1 | herd)", SICK, family="binomial", **more)
    with pytest.raises(DataError, match="successes are whole numbers from 0 to the number of trials"):
        blm.GLMM("sick ~ 1 + (1 | herd)", SICK | {"n": [1, 4, 4, 4]}, family="binomial", trials="n")


# --- saved models


def models() -> dict[str, blm.GLMM]:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(8), 5)
    grade = pd.Categorical(np.array(["low", "mid", "high"])[np.arange(40) % 3], ["low", "mid", "high"], ordered=True)
    x = rng.normal(size=40) + 2005
    data = pd.DataFrame({"g": g, "x": x, "n": 5, "k": rng.integers(0, 5, 40), "grade": grade, "w": rng.beta(2, 3, 40)})
    data["rest"], data["share"] = data["n"] - data["k"], data["k"] / data["n"]
    K = pd.DataFrame(0.5 * np.eye(8) + 0.5, index=range(8), columns=range(8))
    return {
        "pair": blm.GLMM("cbind(k, rest) ~ x + (1 | g)", data, family="binomial(cloglog)"),
        "share": blm.GLMM("share ~ x + (1 + x | g)", data, family="binomial", weights="n"),
        "ordered": blm.GLMM(
            "grade ~ x + (1 | g)", data, family="ordinal", priors={"threshold": "Normal(mu=0, sigma=4)"}
        ),
        "known": blm.GLMM("k ~ 0 + (1 | g)", data, family="nbinom1", covariance={"g": K}, offset="log(n)"),
        "beta": blm.GLMM("w ~ x + (1 | g)", data, family="beta", priors={"phi": "LogNormal(mu=1, sigma=1)"}),
        "t": blm.GLMM("x ~ 1 + (1 | g)", data, family="student_t", priors={"beta": "Normal(mu=2000, sigma=50)"}),
    }


@pytest.fixture(scope="module")
def made():
    return models()


def posterior(glmm: blm.GLMM):
    """Draws around plausible values, of the right names and shapes."""
    import xarray as xr

    from bayeslmm.design.parameters import coords
    from bayeslmm.posterior.link_tree import link_dims

    rng = np.random.default_rng(3)
    labels = dict(coords(glmm.design))
    own = glmm.family.dispersion_labels(glmm.outcome)
    labels["cut"] = [name.removeprefix("threshold[").removesuffix("]") for name in own]
    variables = {}
    for name, dims in link_dims(glmm).items():
        shape = (2, 6, *(len(labels[dim]) for dim in dims))
        x = 1e-3 * rng.normal(size=shape) if name in ("beta", "u2") else rng.gamma(9, 0.1, size=shape)
        if name.startswith("corr"):
            x = np.broadcast_to(np.array([[1, 0.3], [0.3, 1]]), shape)
        variables[name] = (("chain", "draw", *dims), np.cumsum(x, axis=-1) if name == "threshold" else x)
    used = {dim for dims, _ in variables.values() for dim in dims[2:]}
    tree = xr.DataTree.from_dict(
        {"/posterior": xr.Dataset(variables, coords={dim: labels[dim] for dim in used} | {"chain": [0, 1]})}
    )
    tree.attrs |= {"variant": "joint", "draws": 6, "chains": 2}
    return tree


@pytest.mark.parametrize("name", ["pair", "share", "ordered", "known", "beta", "t"])
def test_what_is_loaded_is_what_was_saved(name, made, tmp_path):
    glmm = made[name]
    tree = posterior(glmm)
    saved = blm.load(glmm.save(tmp_path / "a", tree), data=glmm.design.frame)
    for group in tree.children:  # the rest is computed of them when it is read
        assert saved.posterior[group].to_dataset().identical(tree[group].to_dataset()), group
    assert tree.attrs.items() <= saved.posterior.attrs.items()
    assert np.isfinite(saved.posterior["log_likelihood"]["y"].to_numpy()).all()
    assert repr(saved.glmm) == repr(glmm)
    assert saved.glmm.hierarchy == glmm.hierarchy
    assert saved.glmm.reader == glmm.reader
    assert repr(saved.glmm.priors) == repr(glmm.priors)
    assert saved.glmm.outcome.categories == glmm.outcome.categories
    record = json.loads((tmp_path / "a" / "check.json").read_text())
    assert len(record["densities"]["y given the parameters and u"]) == 4
    assert all(isinstance(x, float) for xs in record["densities"].values() for x in xs)


def test_densities_at_draws_are_those_of_scipy(made, tmp_path):
    """Of y given eta, and of priors; thresholds as given, or by default at the mean of the predictors."""
    default = blm.GLMM("grade ~ x + (1 | g)", made["ordered"].design.frame, family="ordinal")
    for name, glmm in {**made, "default": default}.items():
        if name not in ("ordered", "beta", "default"):
            continue
        glmm.save(tmp_path / name, posterior(glmm))
        record = json.loads((tmp_path / name / "check.json").read_text())
        tree = blm.load(tmp_path / name).posterior["posterior"].to_dataset()
        at = {str(key): x.values[tuple(record["draws"][1])] for key, x in tree.data_vars.items()}
        design, y = glmm.design, glmm.outcome.y
        eta = design.X @ at["beta"] + at["u2"][design.levels[0].index]
        if name == "beta":
            mu, phi = special.expit(eta), at["phi"]
            want = stats.beta(mu * phi, (1 - mu) * phi).logpdf(y).sum()
            own = {"phi": stats.lognorm(1.0, scale=np.exp(1.0)).logpdf(phi)}
        else:
            cuts = at["threshold"]
            below = special.expit(np.append(cuts, np.inf)[y.astype(int)] - eta)
            want = np.log(below - special.expit(np.insert(cuts, 0, -np.inf)[y.astype(int)] - eta)).sum()
            at_mean = cuts - (0.0 if name == "ordered" else design.X.mean(axis=0) @ at["beta"])
            labels = glmm.family.dispersion_labels(glmm.outcome)
            priors = {row.parameter: row.prior.params for row in glmm.priors.reasons}
            each = [
                stats.norm(priors[label]["mu"], priors[label]["sigma"]).logpdf(cut)
                for label, cut in zip(labels, at_mean, strict=True)
            ]
            own = {"threshold": sum(each)}
        found = record["densities"]
        assert found["y given the parameters and u"][1] == pytest.approx(want, rel=1e-9)
        for label, value in own.items():
            assert found[f"the prior of {label}"][1] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("approximation", ["laplace", "quadrature"])
def test_a_fit_is_made_again_and_compared(approximation, made, tmp_path):
    fit = made["pair"].ml(approximation)
    saved = blm.load(made["pair"].save(tmp_path / "a", fit))
    assert saved.fit_record["approximation"] == approximation
    assert saved.fit_record["family"] == "binomial(link = cloglog)"
    assert saved.result.approximation == approximation
    assert saved.result.loglik == pytest.approx(fit.loglik, abs=1e-7)
    with pytest.raises(DescriptionError, match=r"holds a GLMM: write saved\.glmm"):
        _ = saved.lmm


def test_what_is_no_result_of_this_model_is_refused(made, tmp_path):
    data = {"y": [1.0, 2, 4, 5, 8, 9.5], "g": list("aabbcc")}
    lmm = blm.LMM("y ~ 1 + (1 | g)", data)
    other = blm.GLMM("cbind(k, rest) ~ 1 + (1 | g)", made["pair"].design.frame, family="binomial")
    strangers = [(3, "A int came"), (lmm.ml(), "one of another GLMM"), (other.ml("laplace"), "one of another GLMM")]
    for result, words in strangers:
        with pytest.raises(DescriptionError, match=words):
            made["pair"].save(tmp_path / "a", result)
    with pytest.raises(DescriptionError, match="one of another LMM"):
        lmm.save(tmp_path / "a", other.ml("laplace"))
    for tree, words in ((posterior(made["share"]), "shape"), (posterior(other), "shape|labels")):
        with pytest.raises(DataError, match=words):
            made["pair"].save(tmp_path / "a", tree)
    assert not (tmp_path / "a").exists()


def rewrite(folder: Path, name: str, change) -> None:
    """Another content under a manifest of its own, as whoever rewrites all of it can."""
    from bayeslmm.saved.folder import read_folder, write_folder

    files, about = read_folder(folder)
    files[name] = change(files[name].decode()).encode()
    shutil.rmtree(folder)
    write_folder(folder, files, about)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("model.toml", lambda text: text.replace("cloglog", "probit"), r"priors\.json: the prior of beta"),
        ("model.toml", lambda text: text.replace("cloglog", "cloggy"), r"model\.toml: .* no link 'cloggy'"),
        ("model.toml", lambda text: text.replace('failures = "rest"\n', 'weights = "rest"\n'), "no model can be made"),
        ("data.csv", lambda text: re.sub(r"(200\d\.\d)\d", r"\g<1>5", text, count=3), r"check\.json: .* density of y"),
        ("priors.json", lambda text: text.replace("HalfStudentT(nu=3", "HalfStudentT(nu=4"), r"the prior of sigma_u2"),
    ],
)
def test_another_model_under_the_same_name_is_found(name, change, words, made, tmp_path):
    made["pair"].save(tmp_path / "a", posterior(made["pair"]))
    before = (tmp_path / "a" / name).read_text()
    assert change(before) != before
    rewrite(tmp_path / "a", name, change)
    with pytest.raises(SavedError, match=words):
        blm.load(tmp_path / "a")


def test_other_data_are_refused(made, tmp_path):
    made["share"].save(tmp_path / "a")
    frame = made["share"].design.frame
    blm.load(tmp_path / "a", data=frame)
    with pytest.raises(DataError, match="the column 'n' differs in 1 row"):
        blm.load(tmp_path / "a", data=frame.assign(n=lambda d: d["n"].where(d.index != d.index[3], 10)))


# --- the shell


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run


CBPP = ("--formula", "cbind(incidence, healthy) ~ C(period) + (1 | herd)", "--data", MODELS / "data" / "cbpp.csv")


def test_check_says_what_the_model_is_and_what_is_doubtful(shell):
    code, out, err = shell("check", "toenail")
    assert (code, err) == (OK, "")
    assert "y is a number of successes in trials (binomial); its linear predictor is on the logit scale" in out
    assert "179 of 294 groups of patientID have rows of one kind only" in out
    assert "Priors (on the logit scale):" in out
    assert shell("check", "toenail", "--quiet") == (OK, "", "")


def test_fit_prints_the_approximation_with_its_error_and_saves(shell):
    code, out, _ = shell("fit", "cbpp", "--variant", "ml", "--random-effects")
    assert code == OK
    for words in ("adaptive quadrature", "Laplace is 0.0433 too low", "Conditional modes of u2", "Saved: cbpp-ml"):
        assert words in out
    saved = blm.load("cbpp-ml")
    assert saved.result.loglik == pytest.approx(-91.98336903731, abs=1e-8)
    code, out, _ = shell("fit", "cbpp", "--variant", "ml", "--approximation", "laplace", "--out", "l", "--quiet")
    assert code == OK
    assert out.startswith("Generalized linear mixed model fit by maximum likelihood (Laplace's approximation)")
    assert "adaptive quadrature, 7 nodes" in shell("fit", "cbpp", "--variant", "ml", "--nodes", 7, "--out", "n")[1]


def test_a_formula_with_a_family_is_the_files_model(shell):
    code, out, _ = shell("fit", *CBPP, "--family", "bernoulli", "--variant", "ml", "--quiet")
    assert code == OK
    assert "-91.98" in out
    assert blm.load("cbpp-ml").glmm.formula == blm.example("cbpp").formula


def test_a_posterior_is_sampled_printed_and_saved(shell):
    code, out, _ = shell(
        "fit", *CBPP, "--family", "binomial", "--variant", "joint", "--quiet", "--draws", 150, "--tune", 150,
        "--chains", 2, "--seed", 1,
    )  # fmt: skip
    assert code == OK
    assert "Posterior of the joint model" in out
    for name in ("beta[Intercept]", "beta[C(period)[T.2]]", "sigma_u2", "R-hat"):
        assert name in out
    assert "u2[" not in out
    assert blm.load("cbpp-joint").posterior["posterior"].sizes["draw"] == 150


def test_compare_prints_what_it_is_given_and_writes_no_report(shell, monkeypatch, tmp_path):
    def compare(model, **settings):
        assert isinstance(model, blm.GLMM)
        assert settings["draws"] == 7
        return "the table"

    monkeypatch.setattr("bayeslmm.comparison.comparison.compare", compare)
    assert shell("compare", "cbpp", "--quiet", "--draws", 7) == (OK, "the table\n", "")
    code, _, err = shell("compare", "cbpp", "--out", "r.html")
    assert code == FAILED
    assert "no report so far" in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_for_families_is_a_sentence(shell):
    code, _, err = shell("fit", "cbpp", "--variant", "reml")
    assert code == FAILED
    assert "GLMM has no reml(): REML is a Gaussian outcome's" in err
    shell("fit", "cbpp", "--variant", "ml", "--quiet")
    for command in (("predict", "cbpp-ml"), ("report", "cbpp-ml")):
        code, _, err = shell(*command)
        if code != OK:  # said, never a traceback
            assert code == FAILED
            assert err.startswith("bayeslmm: ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "cbpp", "--family", "poisson"], USAGE, "--family goes with --formula"),
        (["check", *CBPP], FAILED, "cbind(...) counts the trials of a binomial: write --family binomial"),
        (["check", *CBPP, "--family", "poisson"], FAILED, "the family poisson has none"),
        (["check", *CBPP, "--family", "poison"], FAILED, "Did you mean 'poisson'"),
        (["check", *CBPP, "--family", "binomial", "--weights", "size"], FAILED, "write one of them"),
        (["fit", "heights", "--variant", "ml", "--nodes", "5"], USAGE, "its integral exact"),
        (["fit", "cbpp", "--variant", "joint", "--nodes", "5"], USAGE, "--variant joint takes none"),
        (["fit", "cbpp", "--variant", "ml", "--approximation", "laplace", "--nodes", "5"], FAILED, "has no nodes"),
        (
            ["fit", "salamander", "--variant", "ml", "--approximation", "quadrature", "--nodes", "2"],
            FAILED,
            "3 at least",
        ),
    ],
)
def test_errors_are_one_message_with_their_exit_code(arguments, code, message, shell):
    found, _, err = shell(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_errors_of_a_file_name_it(shell, tmp_path):
    path = write(tmp_path, FORMULA + 'family = "poisson"', "y,g\n1.5,a\n0,a\n2,b\n5,b\n")
    code, out, err = shell("check", path)
    assert (code, out) == (FAILED, "")
    assert err.startswith(f"bayeslmm: {path}: The response 'y' has 1.5 in 1 of 4 rows")


@pytest.mark.parametrize("residual", ["", '[residual]\nweights = "n"\n'])
@pytest.mark.parametrize("family", ["", BINOMIAL, 'family = "poisson"\n', 'family = "ordinal"\n'])
@pytest.mark.parametrize("keys", ["", 'weights = "n"\n', 'failures = "n"\n', 'categories = ["0", "1"]\n'])
@pytest.mark.parametrize("left", ["y", "cbind(y, n)"])
def test_every_combination_is_a_model_or_refused(left, keys, family, residual, tmp_path):
    """As its own kind, which is a GLMM if and only if there is a family."""
    from bayeslmm.described import model_of

    text = f'formula = "{left} ~ 1 + (1 | g)"\n{family}{keys}{residual}'
    path = write(tmp_path, text, "y,n,g\n" + "".join(f"{k % 3 % 2},{k % 2 + 1},{k // 4}\n" for k in range(16)))
    try:
        model = model_of(ModelFile.read(path))
    except BayesLMMError as error:
        assert str(error)  # noqa: PT017
    else:
        assert isinstance(model, blm.GLMM if family else blm.LMM)
