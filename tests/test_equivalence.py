"""Which models have the same marginal: known pairs, and witnesses that are checked by writing V down."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pedigree import relationship

import bayeslmm as blm
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.theory.covariance_family import CovarianceFamily
from bayeslmm.theory.density import marginal_logpdf

N = 48


def table() -> dict:
    """Pairs p, groups a of eight with halves b and quarters h, a factor f in turn, s = 1, -1 within pairs."""
    rng = np.random.default_rng(1)
    return {
        "y": rng.normal(size=N),
        "x": rng.normal(size=N).round(2),
        "s": np.tile([1.0, -1.0], N // 2),
        "t": np.arange(N) % 8 + np.arange(N) // 8,
        "w": np.tile([1.0, 2.0, 4.0], N // 3),
        "p": [f"p{k // 2}" for k in range(N)],
        "id": [f"i{k}" for k in range(N)],
        "a": np.repeat(list("ABCDEF"), 8),
        "b": np.tile(np.repeat(list("kl"), 4), 6),
        "h": np.tile(list("mnop"), 12),
        "f": np.tile(list("uv"), N // 2),
        "u": np.repeat(list("ABCDEFG"), [1, 1, 2, 4, 8, 16, 16]),
    }


def lmm(formula: str, data=None, **parts) -> blm.LMM:
    """A model by its formula; without a bar, by its residual alone."""
    data = table() if data is None else data
    if "|" in formula:
        return blm.LMM(formula, data, **parts)
    response, fixed = formula.split(" ~ ")
    return blm.LMM(blm.Hierarchy(response=response, fixed=fixed, residual=parts["residual"]), data)


CS = {of: blm.Residual(structure="cs", group=of) for of in "pahu"}
AR1 = {of: blm.Residual(structure="ar1", group=of) for of in "pa"}
STRATA = blm.Residual(structure="strata", by="f")


def level_factor(level) -> np.ndarray:
    """K of a level's groups."""
    return np.eye(level.m) if level.root is None else level.root @ level.root.T


def written_down(model: blm.LMM, parameters: pd.Series) -> np.ndarray:
    """V (n, n), dense, from the parameters by their names."""
    design, variance = model.design, parameters["sigma"] ** 2
    V = variance * design.residual.R([parameters[p.label] for p in design.residual.parameters]).toarray()
    for level in design.levels:
        if level.known:
            sigma = np.array([[variance]])
        else:
            sds = parameters[level.sd_labels].to_numpy()
            corr = np.eye(level.r)
            if level.correlated:
                corr[np.tril_indices(level.r, -1)] = parameters[level.correlation_labels].fillna(0.0)
                corr = np.tril(corr) + np.tril(corr, -1).T
            sigma = corr * np.outer(sds, sds)
        V += level.Z @ np.kron(level_factor(level), sigma) @ level.Z.T
    return V


def check_witness(witness, a: blm.LMM, b: blm.LMM) -> None:
    """Both V of a witness, written down, have the entries it names; and are equal where it says so."""
    models = {"a": a, "b": b}
    V = {name: written_down(models[name], witness.parameters[name]) for name in "ab"}
    size = np.abs(V[witness.source]).max()
    i, j = (a.design.rows.get_loc(row) for row in witness.rows)
    for name in "ab":
        assert V[name][i, j] == pytest.approx(witness.entries[name], abs=1e-3 * size)
    gap = np.abs(V["a"] - V["b"]).max() / size
    if witness.equal:
        assert max(gap, witness.difference) < 1e-6
    else:
        assert min(witness.difference, gap) > 1e-3


# (one, other, relation of the families of V)
PAIRS = [
    # how it is written, and in which order
    ("y ~ 1 + (1 | a)", {}, "y ~ 1 + (1 | a)", {}, "same"),
    ("y ~ 1 + (1 | a) + (1 | h)", {}, "y ~ 1 + (1 | h) + (1 | a)", {}, "same"),
    ("y ~ 1 + (1 | a/b)", {}, "y ~ 1 + (1 | a:b) + (1 | a)", {}, "same"),
    ("y ~ 1 + (1 | a/b)", {}, "y ~ 1 + (1 | b:a) + (1 | a)", {}, "same"),
    ("y ~ 1 + (x || a)", {}, "y ~ 1 + (1 | a) + (0 + x | a)", {}, "same"),
    # more and fewer parameters
    ("y ~ 1 + (1 | a)", {}, "y ~ 1 + (1 | a) + (0 + x | a)", {}, "a in b"),
    ("y ~ 1 + (1 | a/b)", {}, "y ~ 1 + (1 | a)", {}, "b in a"),
    ("y ~ 1 + (x || a)", {}, "y ~ 1 + (x | a)", {}, "a in b"),
    ("y ~ 1 + (1 | u)", {}, "y ~ 1 + (x | u)", {}, "a in b"),
    # other groups, other effects
    ("y ~ 1 + (1 | a)", {}, "y ~ 1 + (1 | h)", {}, "different"),
    ("y ~ 1 + (1 | a) + (1 | a:b)", {}, "y ~ 1 + (1 | a) + (1 | a:h)", {}, "different"),
    ("y ~ 1 + (0 + x | a)", {}, "y ~ 1 + (1 | a)", {}, "different"),
    # other columns for the same effects
    ("y ~ 1 + (0 + f | a)", {}, "y ~ 1 + (1 + f | a)", {}, "same"),
    ("y ~ 1 + (0 + f || a)", {}, "y ~ 1 + (1 + f || a)", {}, "different"),
    ("y ~ 1 + (1 + x | a)", {}, "y ~ 1 + (1 + I(3 - 100 * x) | a)", {}, "same"),
    ("y ~ 1 + (1 + x || a)", {}, "y ~ 1 + (1 + I(3 - 100 * x) || a)", {}, "different"),
    # random effects against residuals
    ("y ~ 1 + (1 | p)", {}, "y ~ 1", {"residual": CS["p"]}, "a in b"),
    ("y ~ 1 + (1 | u)", {}, "y ~ 1", {"residual": CS["u"]}, "a in b"),
    ("y ~ 1 + (1 | a)", {"residual": CS["a"]}, "y ~ 1", {"residual": CS["a"]}, "same"),
    ("y ~ 1 + (1 | p) + (0 + s | p)", {}, "y ~ 1", {"residual": CS["p"]}, "same"),
    ("y ~ 1", {"residual": AR1["p"]}, "y ~ 1", {"residual": CS["p"]}, "same"),
    ("y ~ 1", {"residual": AR1["a"]}, "y ~ 1", {"residual": CS["a"]}, "different"),
    ("y ~ 1 + (1 | a)", {"residual": AR1["a"]}, "y ~ 1 + (1 | a)", {}, "b in a"),
    ("y ~ 1 + (1 | a)", {"residual": STRATA}, "y ~ 1 + (1 | a)", {}, "b in a"),
    ("y ~ 1", {"residual": STRATA}, "y ~ 1", {"residual": blm.Residual(structure="strata", by="h")}, "a in b"),
    ("y ~ 1 + (1 | a)", {"residual": blm.Residual(weights="w")}, "y ~ 1 + (1 | a)", {}, "different"),
    ("y ~ 1", {"residual": AR1["a"]}, "y ~ 1",
     {"residual": blm.Residual(structure="ar1", group="a", time="t")}, "same"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "parts", "other", "other_parts", "relation"), PAIRS)
def test_pairs(one, parts, other, other_parts, relation):
    a, b = lmm(one, **parts), lmm(other, **other_parts)
    found = blm.same_marginal(a, b)
    assert found.covariance == relation
    assert found.fixed == "same"
    assert bool(found) == found.same == (relation == "same")
    assert found.a_in_b == (relation in ("same", "a in b"))
    assert found.b_in_a == (relation in ("same", "b in a"))
    for witness in (found.from_a, found.from_b):
        check_witness(witness, a, b)
    assert found.witness.equal == found.same


@pytest.mark.parametrize(
    ("one", "other"), [("y ~ 1 + (1 | a/b)", "y ~ 1 + (1 | a)"), ("y ~ 1 + (1 | a)", "y ~ 1 + (x | a)")]
)
def test_the_order_of_the_models_does_not_matter(one, other):
    a, b = lmm(one), lmm(other)
    forth, back = blm.same_marginal(a, b), blm.same_marginal(b, a)
    assert (forth.a_in_b, forth.b_in_a) == (back.b_in_a, back.a_in_b)


def test_known_covariances():
    """A known K is a family of its own; K = I is the plain level, and with a row to a group it is the residual."""
    groups = pd.DataFrame(np.eye(6), index=list("ABCDEF"), columns=list("ABCDEF"))
    kin = groups + 0.5 * (groups.shift(axis=1).fillna(0) + groups.shift().fillna(0)).to_numpy()
    plain, twice, related = (lmm("y ~ 1 + (1 | a)", covariance=c and {"a": c[0]}) for c in (None, [2 * groups], [kin]))
    assert blm.same_marginal(plain, twice)
    assert blm.same_marginal(plain, related).covariance == "different"
    fixed = blm.LMM(blm.Hierarchy(response="y", levels=(blm.Level(group="a", covariance=kin, known=True),)), table())
    found = blm.same_marginal(fixed, related)
    assert found.covariance == "a in b"
    check_witness(found.from_b, fixed, related)
    rows = table()["id"]
    alone = lmm("y ~ 1 + (1 | a) + (1 | id)", covariance={"id": pd.DataFrame(np.eye(N), index=rows, columns=rows)})
    assert blm.same_marginal(alone, plain)


def test_an_animal_model_by_its_relationship_matrix():
    """Full sibs in pairs: with unrelated parents, A among the sibs is a half within the pair; so is (1 | p)'s."""
    data = table()
    pedigree = [(i, f"sire {p}", f"dam {p}") for i, p in zip(data["id"], data["p"], strict=True)]
    A = relationship(pedigree)
    animals = lmm("y ~ 1 + (1 | id)", covariance={"id": A.loc[data["id"], data["id"]]})
    pairs = lmm("y ~ 1 + (1 | p)")
    found = blm.same_marginal(animals, pairs)
    # sigma_u2^2 (1/2) within pairs and sigma_u2^2 / 2 + sigma^2 on the diagonal beside: a residual of at least that
    assert found.covariance == "a in b"
    everyone = lmm("y ~ 1 + (1 | id)", covariance={"id": A})
    assert blm.same_marginal(animals, everyone)


# What the issue asks: the same marginal, other random effects; and a negative intra-class correlation


def test_where_random_intercept_and_compound_symmetry_agree():
    """The same density of y at the matched parameters, with u on one side and none on the other."""
    a, b = lmm("y ~ 1 + (1 | p)"), lmm("y ~ 1", residual=CS["p"])
    found = blm.same_marginal(a, b)
    at = found.from_a.parameters
    s2, su2 = at["a"]["sigma"] ** 2, at["a"]["sigma_u2"] ** 2
    assert at["b"]["sigma"] ** 2 == pytest.approx(s2 + su2, rel=1e-9)
    assert at["b"]["rho"] == pytest.approx(su2 / (s2 + su2), rel=1e-9)
    level = a.design.levels[0]
    mme = blm.mixed_model_equations(a.y, a.X, level.Z, su2 / s2 * np.eye(level.m), sigma2=s2)
    R = b.design.residual.R([at["b"]["rho"]]).toarray()
    nothing = (np.zeros((N, 1)), [[1.0]])
    other = marginal_logpdf(b.y, b.X, nothing[0], mme.beta, at["b"]["sigma"] ** 2, nothing[1], R)
    assert mme.loglik == pytest.approx(other, rel=1e-10)
    assert np.abs(mme.b).max() > 0.1
    assert "the random effects of A are (1 | p), those of B none" in found.text


def test_only_one_can_express_a_negative_intra_class_correlation():
    """Within pairs that avoid each other the likelihood of the random intercept ends at zero, that of CS does not."""
    rng = np.random.default_rng(5)
    data = table() | {
        "y": 3 + np.repeat(rng.normal(size=N // 2), 2) * np.tile([1.0, -1.0], N // 2) + rng.normal(size=N) / 3
    }
    a, b = lmm("y ~ 1 + (1 | p)", data), lmm("y ~ 1", data, residual=CS["p"])
    fit = a.ml()
    assert fit.singular
    mean = data["y"].mean()

    def loglik(rho):
        R = b.design.residual.R([rho]).toarray()
        r = data["y"] - mean  # balanced: the GLS mean, whatever rho
        s2 = r @ np.linalg.solve(R, r) / N
        return marginal_logpdf(data["y"], np.ones((N, 1)), np.zeros((N, 1)), [mean], s2, [[1.0]], R)

    assert loglik(0.0) == pytest.approx(fit.loglik, rel=1e-9)
    assert max(loglik(rho) for rho in np.linspace(-0.95, -0.05, 19)) > fit.loglik + 10
    assert loglik(0.2) < fit.loglik
    found = blm.same_marginal(a, b)
    assert (found.a_in_b, found.b_in_a) == (True, False)
    witness = found.witness
    assert witness.source == "b"
    assert witness.parameters["b"]["rho"] < 0
    assert witness.entries["b"] < 0 == witness.entries["a"]
    assert witness.parameters["a"]["sigma_u2"] == 0
    assert "a negative one" in found.text


def test_a_slightly_negative_correlation_is_found_in_large_groups():
    """In groups of 16 rho may go to -1/15 only; a search that looks at -0.5 to 0.5 misses it."""
    found = blm.same_marginal(lmm("y ~ 1", residual=CS["u"]), lmm("y ~ 1 + (1 | u)"))
    assert found.covariance == "b in a"
    assert -1 / 15 < found.witness.parameters["a"]["rho"] < 0


# Means, words, refusals


def test_the_mean_counts():
    """The same V with other columns of X is another marginal, unless the columns span the same space."""
    a, b = lmm("y ~ 1 + x + (1 | a)"), lmm("y ~ 1 + (1 | a)")
    found = blm.same_marginal(a, b)
    assert (found.fixed, found.covariance) == ("b in a", "same")
    assert (found.same, found.a_in_b, found.b_in_a) == (False, False, True)
    assert "only A has x" in found.text
    other = blm.same_marginal(a, lmm("y ~ 1 + s + (1 | a)"))
    assert (other.fixed, other.only_a, other.only_b) == ("different", ("x",), ("s",))
    assert "the same covariances of y, but not the same means" in other.text
    assert blm.same_marginal(lmm("y ~ 0 + f + (1 | a)"), lmm("y ~ 1 + f + (1 | a)"))
    assert blm.same_marginal(lmm("y ~ 1 + x + (1 | a)"), lmm("y ~ 1 + I(1e6 + 3 * x) + (1 | a)"))


def test_a_model_without_fixed_effects():
    found = blm.same_marginal(lmm("y ~ 0 + (1 | a)"), lmm("y ~ 1 + (1 | a)"))
    assert (found.fixed, found.a_in_b, found.b_in_a) == ("a in b", True, False)


def test_the_answer_is_said_in_words():
    found = blm.same_marginal(lmm("y ~ 1 + (x || a)"), lmm("y ~ 1 + (x | a)"))
    text = found.text
    assert text.startswith("A is y ~ 1 + (1 + x || a); B is y ~ 1 + (1 + x | a). ")
    assert "Every marginal of y that A implies B implies too, but not the other way round." in text
    assert "A witness: B with sigma = 1, sigma_u2[Intercept] = " in text
    assert str(found).replace("\n", " ") == text
    neither = blm.same_marginal(lmm("y ~ 1 + (1 | a)"), lmm("y ~ 1 + (1 | h)"))
    assert neither.text.count("A witness: ") == 2
    same = blm.same_marginal(lmm("y ~ 1 + (1 | a/b)"), lmm("y ~ 1 + (1 | a:b) + (1 | a)"))
    assert "Both imply the same marginals" in repr(same)
    assert "random effects" not in same.text  # they are the same ones


def test_the_same_answer_every_time():
    a, b = lmm("y ~ 1 + (x | a)"), lmm("y ~ 1 + (1 | a)")
    one, other = blm.same_marginal(a, b), blm.same_marginal(a, b)
    assert one.text == other.text
    for seed in (2, 3):
        assert blm.same_marginal(a, b, random_seed=seed).covariance == "b in a"


def test_a_search_along_a_narrow_valley_goes_on_to_its_end():
    """These points have correlations of 0.9997, which turn into -0.9992: a search cut short misses V by 5e-6."""
    a, b = lmm("y ~ 1 + (1 + x | a)"), lmm("y ~ 1 + (1 + I(3 - 100 * x) | a)")
    found = blm.same_marginal(a, b, random_seed=4)
    assert found.same
    assert max(found.from_a.difference, found.from_b.difference) < 1e-9


def test_what_cannot_be_compared():
    a, data = lmm("y ~ 1 + (1 | a)"), table()
    shorter = {name: column[:40] for name, column in data.items()}
    with pytest.raises(DataError, match=r"of different rows \(48 and 40\)"):
        blm.same_marginal(a, lmm("y ~ 1 + (1 | a)", shorter))
    with pytest.raises(DataError, match="of different responses, 'y' and 'x'"):
        blm.same_marginal(a, lmm("x ~ 1 + (1 | a)"))
    turned = pd.DataFrame(data).iloc[::-1]
    with pytest.raises(DataError, match="the same rows in the same order"):
        blm.same_marginal(a, lmm("y ~ 1 + (1 | a)", turned))
    with pytest.raises(DescriptionError, match="A str came as the second model"):
        blm.same_marginal(a, "y ~ 1 + (1 | h)")
    with pytest.raises(DescriptionError, match="random_seed='a'; expected a whole number"):
        blm.same_marginal(a, a, random_seed="a")


# The family of V, and many rows

FAMILIES = [
    ("y ~ 1 + (x | a) + (1 | h)", {}),
    ("y ~ 1 + (x || a) + (1 | u)", {"residual": blm.Residual(structure="strata", by="f", weights="w")}),
    ("y ~ 1", {"residual": blm.Residual(structure="cs", group="u", by="f", weights="w")}),
    ("y ~ 1 + (0 + f | a)", {"residual": blm.Residual(structure="ar1", group="h", by="f", weights="w")}),
    ("y ~ 1 + (x | a)", {"covariance": {"a": pd.DataFrame(np.eye(6) + 0.3, list("ABCDEF"), list("ABCDEF"))}}),
]


@pytest.mark.parametrize(("formula", "parts"), FAMILIES)
def test_v_of_rows_and_its_products_are_those_of_v(formula, parts):
    model = lmm(formula, **parts)
    family = CovarianceFamily(design=model.design)
    rng = np.random.default_rng(2)
    B = rng.normal(size=(N, 3))
    rows = rng.permutation(N)[:20]
    points = family.points(rng)
    assert all(x.shape == (family.size,) for x in points)
    for x in points:
        V = written_down(model, family.parameters(x))
        size = np.abs(V).max()
        np.testing.assert_allclose(family.covariance(x, rows), V[np.ix_(rows, rows)], atol=1e-12 * size)
        np.testing.assert_allclose(family.times(x, B), V @ B, atol=1e-11 * size)
        assert np.linalg.eigvalsh(V)[0] > -1e-10 * size


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.7])
def test_r_is_multiplied_without_r(rho):
    for structure in ("ar1", "cs"):
        residual = lmm("y ~ 1", residual=blm.Residual(structure=structure, group="p")).design.residual
        B = np.random.default_rng(3).normal(size=(N, 2))
        np.testing.assert_allclose(residual.times([rho], B), residual.R([rho]) @ B, atol=1e-12)


def many(n: int = 10_000) -> dict:
    rng = np.random.default_rng(4)
    x = rng.normal(size=n)
    return {
        "y": rng.normal(size=n),
        "x": x,
        "odd": np.where(np.arange(n) == n - 7, x + 1, x),  # differs in one row
        "a": [f"a{k // 20}" for k in range(n)],
        "big": np.repeat(["k", "l"], n // 2),
        "h": rng.integers(0, 1000, n).astype(str),
    }


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ("y ~ 1 + (x | a) + (1 | h)", "y ~ 1 + (1 | h) + (I(1 - 2 * x) | a)", "same"),
        ("y ~ 1 + (1 | a) + (1 | big)", "y ~ 1 + (1 | a)", "b in a"),
        ("y ~ 1 + (x | big)", "y ~ 1 + (x || big)", "b in a"),
        ("y ~ 1 + (x | a)", "y ~ 1 + (odd | a)", "different"),
    ],
)
def test_many_rows(one, other, relation):
    """V is 10,000 x 10,000, and 5,000 rows of it are one group: neither is ever made, and one odd row is found."""
    data = many()
    found = blm.same_marginal(lmm(one, data), lmm(other, data))
    assert found.covariance == relation
    if "odd" in other:
        assert min(found.witness.rows) >= 9_980
