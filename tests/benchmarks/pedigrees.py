"""An animal model by its sparse inverse: `python -m tests.benchmarks.pedigrees`.

Simulated pedigrees of ten generations, a record each for half of the animals. What ML takes hangs on what elimination
fills, and that on who mates with whom: flocks that exchange some sires (and the same with an effect of each flock's
generation: herds), families in one large herd, parents at random. Each is a process of its own, which has fitted a
small one before, so that its peak of memory is that of the whole.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

import bayeslmm as blm
from tests.benchmarks.tables import machine, number, preamble, table

GENERATIONS = 10
KINDS = ("flocks", "herds", "families", "random")
MEASURE = "import sys, json; from tests.benchmarks.pedigrees import measure; print(json.dumps(measure(*sys.argv[1:])))"


def parents(kind: str, animals: int, seed: int = 0) -> np.ndarray:
    """(animals, 2) sires and dams, -1 in the first generation; males are the first half of a group's generation.

    flocks: of 100 a generation, four sires each, one in ten from another flock, and 40 dams. families: one herd, a
    hundredth of a generation are sires, a fifth dams with full brothers and sisters. random: each animal has one of the
    sires and one of the dams, whichever.
    """
    rng = np.random.default_rng(seed)
    flocks = kind in ("flocks", "herds")
    groups = max(1, animals // (100 * GENERATIONS)) if flocks else 1
    size = animals // (groups * GENERATIONS)
    out = np.full((groups * size * GENERATIONS, 2), -1)
    sires, dams = (4, min(40, size // 2)) if flocks else (max(1, size // 100), size // 5)

    def members(generation: int, group: int) -> np.ndarray:
        return (generation * groups + group) * size + np.arange(size)

    for g in range(1, GENERATIONS):
        for f in range(groups):
            own = members(g, f)
            mothers = rng.choice(members(g - 1, f)[size // 2 :], dams, replace=False)
            origin = np.where(rng.random(sires) < 0.1, rng.integers(0, groups, sires), f)
            fathers = np.array([members(g - 1, k)[rng.integers(0, size // 2)] for k in origin])
            if kind == "random":
                out[own] = np.column_stack([rng.choice(fathers, size), rng.choice(mothers, size)])
            else:
                family = np.arange(size) % dams
                out[own] = np.column_stack([fathers[rng.integers(0, sires, dams)][family], mothers[family]])
    return out


def records(known: np.ndarray, seed: int = 1, inherited: float = 0.3) -> dict[str, np.ndarray]:
    """A record each for half of the animals, whose total variance is 1."""
    rng = np.random.default_rng(seed)
    n = len(known)
    u, size = np.zeros(n), n // GENERATIONS
    for first in range(0, n, size):
        own = slice(first, first + size)
        u[own] = rng.normal(size=size) if first == 0 else u[known[own]].mean(axis=1) + rng.normal(size=size) / 2**0.5
    rows = np.sort(rng.choice(n, n // 2, replace=False))
    sex = rng.integers(0, 2, len(rows))
    y = 10 + sex + u[rows] * inherited**0.5 + rng.normal(size=len(rows)) * (1 - inherited) ** 0.5
    return {"y": y, "sex": sex, "animal": rows, "herd": rows // 100}


def measure(kind: str, animals: str) -> dict[str, float]:
    """Seconds, memory and fill of one pedigree."""
    formula = "y ~ 1 + sex + (1 | animal)" + (" + (1 | herd)" if kind == "herds" else "")
    for size in (2_000, int(animals)):
        known = parents(kind, size)
        names = [[None if x < 0 else str(x) for x in column] for column in known.T]
        began = time.perf_counter()
        A = blm.pedigree_precision({"animal": np.arange(len(known)), "sire": names[0], "dam": names[1]})
        made = time.perf_counter()
        cpu = time.process_time()
        lmm = blm.LMM(formula, records(known), precision={"animal": A})
        pattern = lmm.statistics.plan.pattern
        ready = time.perf_counter()
        fit = lmm.ml()
        done = time.perf_counter()
    found = {"animals": len(known), "pedigree": made - began, "setup": ready - made, "ml": done - ready,
             "cpu": time.process_time() - cpu, "sigma_u2": float(fit.estimates()["sigma_u2"])}  # fmt: skip
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    if pattern is not None:
        found |= {"stored": pattern.size, "flops": pattern.flops, "front": int(pattern.shapes[:, 1].max())}
    return found


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(prog="python -m tests.benchmarks.pedigrees", description=__doc__)
    p.add_argument("--animals", type=int, default=100_000)
    p.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    o = p.parse_args()
    print(preamble(machine()), flush=True)
    body = []
    for kind in o.kinds:
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, kind, str(o.animals)], capture_output=True, text=True, check=False
        )
        if run.returncode:
            body.append([kind, run.stderr.strip().splitlines()[-1], *[""] * 9])
            continue
        e = json.loads(run.stdout.strip().splitlines()[-1])
        body.append([
            kind, f"{e['animals']:,}", f"{e.get('stored', 0):,}", f"{e.get('front', 0):,}",
            number(e.get("flops", 0) / 1e9), number(e["pedigree"]), number(e["setup"]), number(e["ml"]),
            number(e["setup"] + e["ml"]), number(e["cpu"]), number(e["peak"]),
        ])  # fmt: skip
    header = ["mating", "animals", "numbers in the factor", "largest front", "Gflops, value", "inverse, s", "set-up, s",
              "ML, s", "both, s", "CPU, s", "peak, GB"]  # fmt: skip
    notes = [
        "y ~ 1 + sex + (1 | animal), in herds + (1 | herd), ten generations, a record each for half of the animals, "
        "heritability 0.3. Inverse: pedigree to A^-1. Set-up: formula to statistics, ordering included. ML: the fit, "
        "modes and conditional SDs of all animals included. CPU: of set-up and ML.",
    ]
    print(table("An animal model by its sparse inverse", header, body, notes))


if __name__ == "__main__":
    main()
