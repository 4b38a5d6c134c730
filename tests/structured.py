"""Small designs with known covariances and structured residuals, and their dense covariances from the definitions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

import bayeslmm as blm

RNG = np.random.default_rng(20)
N = 24
DATA = pd.DataFrame(
    {
        "x": RNG.normal(size=N).round(2),
        "g": list("aaaabbbbbcccccccddddeeee"),
        "h": list("pqrspqrspqrspqrspqrspqrs"),
        "c": list("aabbccddddeeffffgghhiijj"),  # nested in g
        "s": list("mfmmffmmfmfmfmmfmfmmffmf"),
        "w": RNG.uniform(0.5, 3.0, N).round(2),
        "t": [1, 2, 4, 5, 2, 1, 3, 7, 4, 1, 2, 3, 4, 5, 6, 9, 4, 3, 2, 1, 1, 2, 3, 5],
        "row": [f"r{k}" for k in RNG.permutation(N)],
    }
)
DATA["when"] = DATA.t + np.array([0, 0.25, 0.4, 0.75])[DATA.t % 4]  # unequal steps, some of them alike
DATA["y"] = 2 + 0.5 * DATA.x + DATA.g.map(dict(zip("abcde", [0.4, -1.0, 0.8, 0.1, -0.6], strict=True)))
DATA["y"] += RNG.normal(0, 0.7, N)


def quiet(make):
    """What `make` returns, without the warnings that small designs give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def kinship(labels: str, seed: int = 3) -> pd.DataFrame:
    """A covariance with entries of both signs, also in its root; labels shuffled."""
    rng = np.random.default_rng(seed)
    shuffled = list(rng.permutation(list(labels)))
    A = rng.normal(size=(len(labels), len(labels) + 2))
    K = A @ A.T / len(labels) + 0.3 * np.eye(len(labels))
    return pd.DataFrame(K, index=shuffled, columns=shuffled)


KG, KGX, KH = kinship("abcde"), kinship("abcdexyz", 4), kinship("pqrs", 5)
PRECISION = pd.DataFrame(np.linalg.inv(KGX), index=KGX.index, columns=KGX.index)
ROWS = kinship("".join(chr(0x100 + k) for k in range(N)), 6)
ROWS.index = ROWS.columns = [f"r{k}" for k in range(N)]

LEVELS: dict[str, tuple[str, dict]] = {
    "intercept": ("(1 | g)", {}),
    "slopes": ("(x | g)", {}),
    "nested": ("(1 | g/c)", {}),
    "crossed": ("(1 | g) + (1 | h)", {}),
    "crossed with slopes": ("(1 + x | g) + (1 | h)", {}),
    "none": ("", {}),
    "kinship": ("(1 | g)", {"covariance": {"g": KG}}),
    "kinship with relatives": ("(1 | g)", {"covariance": {"g": KGX}}),
    "precision": ("(1 | g)", {"precision": {"g": PRECISION}}),
    "kinship, slopes": ("(1 + x | g)", {"covariance": {"g": KGX}}),
    "kinship, independent slopes": ("(1 + x || g)", {"covariance": {"g": KG}}),
    "kinship and crossed": ("(1 | g) + (1 | h)", {"covariance": {"g": KG}}),
    "kinship and crossed slopes": ("(1 | g) + (x | h)", {"covariance": {"g": KGX}}),
    "kinship and nested": ("(1 | g) + (1 | c)", {"covariance": {"g": KG}}),
    "two kinships": ("(1 | g) + (1 | h)", {"covariance": {"g": KGX, "h": KH}}),
    "two kinships, slopes": ("(x | g) + (x | h)", {"covariance": {"g": KG, "h": KH}}),
}
RESIDUALS: dict[str, blm.Residual] = {
    "iid": blm.Residual(),
    "weights": blm.Residual(weights="w"),
    "strata": blm.Residual(structure="strata", by="s"),
    "strata and weights": blm.Residual(structure="strata", by="s", weights="w"),
    "ar1": blm.Residual(structure="ar1", group="g", time="t"),
    "ar1 in the rows' order": blm.Residual(structure="ar1", group="c"),
    "ar1 and strata": blm.Residual(structure="ar1", group="g", time="t", by="s", weights="w"),
    "ar1 of the whole table": blm.Residual(structure="ar1"),
    "car1": blm.Residual(structure="car1", group="g", time="when"),
    "car1 and strata": blm.Residual(structure="car1", group="g", time="when", by="s", weights="w"),
    "cs": blm.Residual(structure="cs", group="g"),
    "cs across levels": blm.Residual(structure="cs", group="h"),
    "cs and strata": blm.Residual(structure="cs", group="c", by="s", weights="w"),
    "known": blm.Residual(structure="known", covariance=ROWS, group="row"),
}


@dataclass(frozen=True, kw_only=True)
class Structured:
    """One combination of levels and residual."""

    levels: str
    residual: str

    @property
    def name(self) -> str:
        return f"{self.levels} / {self.residual}"

    def lmm(self, **options) -> blm.LMM:
        terms, known = LEVELS[self.levels]
        formula = "y ~ x" + (f" + {terms}" if terms else "")
        return blm.LMM(formula, DATA, residual=RESIDUALS[self.residual], **known, **options)


# every residual with a few kinds of levels, every kind of levels with a few residuals
BOTH = ("slopes", "none", "kinship and crossed slopes")
FEW = ("iid", "ar1 and strata")
CASES = [
    Structured(levels=a, residual=b)
    for a in LEVELS
    for b in RESIDUALS
    if (a in BOTH or b in FEW) and (a != "none" or b not in ("iid", "weights"))
]

# each kind of levels and each residual twice or more: for what is built on the likelihood, whose tests take all CASES
COVER = [
    Structured(levels=a, residual=list(RESIDUALS)[k % len(RESIDUALS)])
    for step in (0, 5)
    for k, a in enumerate(LEVELS, start=step)
]


def dense_R(design, psi) -> np.ndarray:
    """R from its definition: what holds for two rows of one group, 0 for others, 1 on the diagonal."""
    residual, n = design.hierarchy.residual, design.n
    psi = list(psi)
    rho = psi.pop(0) if residual.structure in ("ar1", "car1", "cs") else 0.0
    sd = np.ones(n)
    if residual.by:
        labels = sorted(DATA[residual.by].unique())
        sd = DATA[residual.by].map(dict(zip(labels, [1.0, *psi], strict=True))).to_numpy()
    if residual.weights:
        sd = sd / np.sqrt(DATA[residual.weights].to_numpy())
    group = DATA[residual.group[0]].to_numpy() if residual.group else np.zeros(n)
    t = DATA[residual.time].to_numpy() if residual.time else _order(group)
    unit = (
        np.median(DATA.sort_values(residual.time).groupby("g")[residual.time].diff().dropna()) if residual.time else 1
    )
    R = np.zeros((n, n))
    if residual.structure == "cs":
        R[:] = rho
    elif residual.structure == "ar1":
        R = rho ** np.abs(t[:, None] - t).astype(float)
    elif residual.structure == "car1":
        R = rho ** (np.abs(t[:, None] - t) / unit)
    R = np.where(group[:, None] == group, R, 0.0)
    np.fill_diagonal(R, 1.0)
    if residual.structure == "known":
        R = ROWS.loc[DATA.row, DATA.row].to_numpy()
    return sd[:, None] * R * sd


def _order(group) -> np.ndarray:
    return pd.Series(range(len(group))).groupby(pd.Series(group)).cumcount().to_numpy()


def dense_K(level) -> np.ndarray:
    """The groups' covariance in the order of the design's labels."""
    matrix = level.level.matrix
    if matrix is None:
        return np.eye(level.m)
    K = pd.DataFrame(matrix.matrix, index=matrix.labels, columns=matrix.labels)
    K = K.loc[list(level.groups), list(level.groups)].to_numpy()
    return np.linalg.inv(K) if matrix.precision else K


def dense_V(design, lambdas, psi) -> np.ndarray:
    """V = Z (K (x) lambda lambda') Z' + R, relative to sigma^2."""
    V = dense_R(design, psi)
    for level, lam in zip(design.levels, lambdas, strict=True):
        Z = level.Z.toarray()
        V = V + Z @ np.kron(dense_K(level), lam @ lam.T) @ Z.T
    return V
