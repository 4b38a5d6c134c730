"""R's fits of outcomes that aren't Gaussian, `data/glmm.json`, and the same models here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayeslmm as blm
from bayeslmm.families.stable import saturated

OWN, MODELS = Path(__file__).parent / "data", Path(__file__).parents[1] / "models" / "data"
FACTORS = {
    "cbpp": ["herd", "period", "obs"], "toenail": ["patientID"], "bacteria": ["ID"], "epil": ["subject"],
    "grouseticks": ["INDEX", "BROOD", "YEAR", "LOCATION"], "Mmmec": ["nation", "region"], "VerbAgg": ["id", "item"],
    "Arabidopsis": ["popu", "gen", "nutrient", "obs"], "guImmun": ["mom", "comm"], "salamander": ["Female", "Male"],
    "Salamanders": ["site"], "sleepstudy": ["Subject"], "wine": ["judge", "bottle"], "inhaler": ["subject"],
}  # fmt: skip
ORDERED = {"VerbAgg": ("resp", ["no", "perhaps", "yes"]), "wine": ("rating", None), "inhaler": ("rating_o", None)}
LEVELS = {
    "bacteria": {"trt": ["placebo", "drug", "drug+"]},
    "Salamanders": {"spp": ["GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"], "mined": ["yes", "no"]},
}
FAMILIES = {"nb": "negative_binomial", "nbinom2": "negative_binomial", "Gamma": "gamma", "t": "student_t"}
OTHER = {
    "epil_glmer_nb": "glmer.nb takes expected information, which moves its Laplace value and estimates",
    "sleepstudy_gamma_glmer": "glmer takes the Gamma's dispersion from residuals, not from the likelihood",
}


@cache
def reference() -> dict[str, Any]:
    return json.loads((OWN / "glmm.json").read_text())


@cache
def table(name: str) -> pd.DataFrame:
    where = next(path for folder in (MODELS, OWN) for path in folder.glob(f"{name}.csv*"))
    data = pd.read_csv(where, dtype=dict.fromkeys(FACTORS[name], str))
    if name in ORDERED:
        column, order = ORDERED[name]
        data[column] = pd.Categorical(data[column], order, ordered=True)
    for column, order in LEVELS.get(name, {}).items():
        data[column] = pd.Categorical(data[column], order)
    return data.rename(columns=lambda column: column.replace(".", "_"))


def expressed() -> list[str]:
    """Fits of a family that this package has."""
    from bayeslmm.families.registry import FAMILIES as OURS

    ours = {FAMILIES.get(r["family"], r["family"]) for r in reference()["fits"].values()} & set(OURS)
    fits = reference()["fits"].items()
    return [
        name for name, r in fits
        if FAMILIES.get(r["family"], r["family"]) in ours and r.get("ziformula", "~0") == "~0" and name not in OTHER
    ]  # fmt: skip


def model(name: str) -> blm.GLMM:
    r = reference()["fits"][name]
    formula = r["formula"].replace("total.fruits", "total_fruits")
    if name == "mmmec":  # the offset was an argument
        formula = formula.replace("uvb", "uvb + offset(logexpected)", 1)
    family = f"{FAMILIES.get(r['family'], r['family'])}({r['link']})"
    return blm.GLMM(formula, table(r["data"]), family=family)


def left_out(name: str, glmm: blm.GLMM) -> float:
    """What glmer with several nodes leaves out of its log-likelihood: that of the saturated model."""
    r, y = reference()["fits"][name], glmm.outcome.y
    if r["package"] != "lme4" or r["nAGQ"] == 1:
        return 0.0
    if r["family"] == "poisson":
        return float(saturated(y).sum())
    N = np.ones(len(y)) if glmm.outcome.trials is None else glmm.outcome.trials
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = glmm.family.logpdf(glmm.outcome, np.clip(np.log(y / (N - y)), -700, 700), np.zeros(0))
    return float(rows.sum())


def fitted(name: str, glmm: blm.GLMM):
    """The same fit here: by Laplace, or by quadrature with as many nodes."""
    nodes = reference()["fits"][name]["nAGQ"]
    return glmm.ml("laplace") if nodes == 1 else glmm.ml("quadrature", nodes=nodes)


def distances(name: str, glmm: blm.GLMM, fit) -> tuple[float, float, float]:
    """(log-likelihood less R's, largest distance of a coefficient in SEs, largest relative distance of an SD)."""
    r = reference()["fits"][name]
    beta = np.array(list(r["fixef"].values()))
    se = np.array([r["se"][key] for key in r["fixef"]])
    away = np.abs((fit.fixef.to_numpy() - beta) / se).max()
    theirs = {key: np.atleast_1d(one["sd"]) for key, one in r["varcorr"].items()}
    sds = []
    for level, sd in zip(glmm.design.levels, fit.sds, strict=True):
        want = theirs[level.label]
        sds.append(float(np.abs(sd - want).max() / max(want.max(), 1e-2)))
    return fit.loglik - r["loglik"] - left_out(name, glmm), float(away), max(sds)
