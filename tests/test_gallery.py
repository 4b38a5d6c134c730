"""The gallery: every example by its name, and what the books and nlme say of those with structured covariances."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as blm
from bayeslmm.gallery import example_names

MODELS = Path(__file__).parents[1] / "models"


@cache
def model(name: str) -> blm.LMM:
    return blm.LMM.from_toml(MODELS / f"{name}.toml")


def tabular(pedigree: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Relationship of animals, parents before offspring: A[i, j] is the mean over i's parents, A[i, i] = 1 + F."""
    parents = {row.animal: (row.sire, row.dam) for row in pedigree.itertuples()}
    A: dict[tuple[str, str], float] = {}
    for k, i in enumerate(labels):
        sire, dam = parents.get(i, (None, None))
        for j in labels[:k]:
            A[i, j] = A[j, i] = (A.get((j, sire), 0.0) + A.get((j, dam), 0.0)) / 2
        A[i, i] = 1 + A.get((sire, dam), 0.0) / 2
    return pd.DataFrame([[A[i, j] for j in labels] for i in labels], index=labels, columns=labels)


def test_the_calves_have_the_breeding_values_of_the_book():
    """Mrode, example 3.1: three decimals of the solutions to the mixed model equations."""
    fit = model("calves").reml()
    assert fit.fixef.to_dict() == pytest.approx({"sex[F]": 3.404, "sex[M]": 4.358}, abs=6e-4)  # 4.3585
    book = {"1": 0.098, "2": -0.019, "3": -0.041, "4": -0.009, "5": -0.186, "6": 0.177, "7": -0.249, "8": 0.183}
    assert fit.ranef["calf"]["Intercept"].round(3).to_dict() == book
    assert list(fit.estimates().index) == ["beta[sex[F]]", "beta[sex[M]]", "sigma"]


def test_the_calves_matrix_is_half_the_relationship_of_the_book():
    known = model("calves").hierarchy.levels[0].covariance
    book = pd.DataFrame(
        [(4, 1, None), (5, 3, 2), (6, 1, 2), (7, 4, 5), (8, 3, 6)], columns=["animal", "sire", "dam"]
    ).map(lambda x: None if pd.isna(x) else str(int(x)))
    np.testing.assert_array_equal(2 * known.matrix, tabular(book, list(known.labels)).to_numpy())


def test_the_flocks_precision_is_the_inverse_relationship_of_its_pedigree():
    lmm = model("flock")
    (level,) = lmm.design.levels
    known = level.level.precision
    assert known.sparse
    pedigree = pd.read_csv(MODELS / "data" / "flock.csv")
    A = tabular(pedigree, list(known.labels))
    np.testing.assert_allclose(A.to_numpy() @ known.dense(known.labels), np.eye(len(A)), atol=1e-7)  # printed digits
    np.testing.assert_allclose(level.root @ level.root.T, A.loc[list(level.groups), list(level.groups)], atol=1e-6)


def test_the_mares_days_are_those_of_nlme():
    """lme(follicles ~ sine + cosine, ~ 1 | Mare, Ovary, corAR1(form = ~ 1 | Mare)) in nlme 3.1-162."""
    fit = model("ovary").reml()
    assert fit.loglik == pytest.approx(-775.2233, abs=2e-4)  # the sine has six digits here
    found = [fit.sigma, *fit.sds[0], *fit.psi, *fit.fixef]
    assert found == pytest.approx([3.66545, 2.807268, 0.6074423, 12.189583, -2.947283, -0.880716], rel=2e-5)


def test_the_boys_jaws_scatter_twice_as_far():
    """lme(distance ~ age * Sex, ~ 1 | Subject, Orthodont, varIdent(form = ~ 1 | Sex)) in nlme 3.1-162."""
    fit = model("orthodont").reml()
    assert fit.loglik == pytest.approx(-207.6102, abs=1e-4)
    estimates = fit.estimates()
    assert estimates["sigma_ratio[Male]"] == pytest.approx(1 / 0.4678944, rel=1e-5)
    assert estimates["sigma"] == pytest.approx(0.4678944 * 1.669823, rel=1e-5)


def test_the_piglets_of_a_litter_are_less_alike_than_strangers():
    """gls(gain ~ birth, litters, corCompSymm(form = ~ 1 | litter)) in nlme 3.1-162; lme's intercept stays at zero."""
    lmm = model("litters")
    fit = lmm.reml()
    assert fit.loglik == pytest.approx(-73.88978, abs=1e-5)
    assert fit.estimates()["rho"] == pytest.approx(-0.09460145, rel=1e-5)
    intercept = blm.LMM("gain ~ 1 + birth + (1 | litter)", pd.read_csv(MODELS / "data" / "litters.csv")).reml()
    assert intercept.boundary == ("sigma_u2",)
    assert intercept.loglik == pytest.approx(-76.30947, abs=1e-5)


def test_the_zero_between_schools_is_the_nested_models():
    """README's headline: the same heights, the same number of parameters, classes nested or crossed."""
    nested = model("heights")
    crossed = blm.LMM("Height ~ 1 + (1 | school) + (1 | class)", pd.read_csv(MODELS / "data" / "heights.csv"))
    assert nested.ml().singular
    assert nested.ml().estimates()["sigma_u3"] == pytest.approx(0, abs=1e-6)
    assert crossed.ml().estimates()["sigma_u2"] == pytest.approx(0.557, abs=5e-4)
    assert nested.reml().npar == crossed.reml().npar == 4
    assert nested.reml().loglik == pytest.approx(-8.908, abs=5e-4)
    assert crossed.reml().loglik == pytest.approx(-4.501, abs=5e-4)


@pytest.mark.parametrize("name", example_names())
def test_every_example_is_a_model(name):
    design = blm.example(name).design
    assert design.n + design.dropped == len(blm.example_data(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, r'takes a name: blm\.example\("heights"\)\. The examples are cake, calves,'),
        ("heigths", r"no example 'heigths'\. Did you mean 'heights'\? The examples are"),
        ("../models/heights", r"no example '\.\./models/heights'"),
        (5, r"no example 5\. The examples are"),
    ],
)
def test_another_name_is_answered_by_all_there_are(name, message):
    for call in (blm.example, blm.example_data):
        with pytest.raises(blm.DescriptionError, match=message):
            call(name)
