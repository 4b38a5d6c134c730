"""Make the tables of the gallery that are simulated or computed: flock, litters, Mrode's calves.

python models/data/make_tables.py    writes them beside this file, the same ones in every run (seeded).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mmwrite

HERE = Path(__file__).parent


def relationship(parents: dict[str, tuple[str | None, str | None]]) -> pd.DataFrame:
    """Numerator relationship matrix A by the tabular method (Henderson 1976), parents before their offspring."""
    names = list(parents)
    A = pd.DataFrame(0.0, index=names, columns=names)
    for k, name in enumerate(names):
        known = [parent for parent in parents[name] if parent]
        before = names[:k]
        A.loc[name, before] = A.loc[before, name] = A.loc[before, known].sum(axis=1) / 2
        A.loc[name, name] = 1 + (A.loc[known[0], known[1]] / 2 if len(known) == 2 else 0)
    return A


def calves() -> None:
    """The calves of Mrode's example 3.1: sigma_a^2 / sigma_e^2 = 20 / 40, so that K = A / 2."""
    parents = {
        "1": (None, None), "2": (None, None), "3": (None, None), "4": ("1", None),
        "5": ("3", "2"), "6": ("1", "2"), "7": ("4", "5"), "8": ("3", "6"),
    }  # fmt: skip
    (relationship(parents) / 2).to_csv(HERE / "calves_K.csv")
    rows = {"calf": [4, 5, 6, 7, 8], "sex": list("MFFMM"), "gain": [4.5, 2.9, 3.9, 3.5, 5.0]}
    pd.DataFrame(rows).to_csv(HERE / "calves.csv", index=False)


def flock() -> None:
    """Two generations of lambs from 10 rams and 40 ewes without records; a third of the variance is heritable."""
    rng = np.random.default_rng(20)
    rams, ewes = [f"r{k:02d}" for k in range(1, 11)], [f"e{k:02d}" for k in range(1, 41)]
    parents: dict[str, tuple[str | None, str | None]] = {name: (None, None) for name in [*rams, *ewes]}
    rows = []
    for generation in (1, 2):
        born: dict[str, list[str]] = {"F": [], "M": []}
        for number in range(100):
            name, sex = f"{'ab'[generation - 1]}{number + 1:03d}", str(rng.choice(["F", "M"]))
            parents[name] = (str(rng.choice(rams)), ewes[number % len(ewes)])
            born[sex].append(name)
            rows.append((name, *parents[name], generation, sex))
        rams, ewes = born["M"][:10], born["F"][:40]
    A = relationship(parents)
    value = pd.Series(2.0 * np.linalg.cholesky(A) @ rng.normal(size=len(A)), index=A.index)
    table = pd.DataFrame(rows, columns=["animal", "sire", "dam", "generation", "sex"])
    noise = rng.normal(0, 2.8, len(table))
    table["weight"] = (30 + 3 * (table["sex"] == "M") + value[table["animal"]].to_numpy() + noise).round(1)
    table.to_csv(HERE / "flock.csv", index=False)
    inverse = np.linalg.inv(A).round(9)  # sparse for every pedigree
    mmwrite(HERE / "flock_inverse.mtx", sparse.csc_array(np.tril(inverse)), symmetry="symmetric", precision=9)
    (HERE / "flock_animals.txt").write_text("\n".join(A.index) + "\n", encoding="utf-8")


def litters() -> None:
    """Piglets that share one sow's milk: what one gains, its sisters and brothers lose."""
    rng = np.random.default_rng(6)
    rows = []
    for litter in range(1, 26):
        size = int(rng.integers(4, 8))
        birth = rng.normal(1.4, 0.2, size).round(2)
        share = rng.normal(0, 0.45, size)
        share -= 0.4 * share.mean()  # part of what one drinks is missing for the others
        gain = 2.0 + 0.8 * birth + share
        rows += [(f"L{litter:02d}", b, round(g, 2)) for b, g in zip(birth, gain, strict=True)]
    pd.DataFrame(rows, columns=["litter", "birth", "gain"]).to_csv(HERE / "litters.csv", index=False)


if __name__ == "__main__":
    calves()
    flock()
    litters()
