"""Cost against size: `python -m tests.benchmarks.scaling`.

Four questions. Does an evaluation of the likelihood cost the same whatever the number of rows? Does it grow
linearly in the number of groups of nested levels, in time and in memory? How does it grow with the dense tail
that crossed levels leave? What does it cost where few of their groups meet, so that the tail is sparse? Sizes of
one question are measured in turn, round after round, so that whatever else the machine does hits all of them, and
the fastest round counts: interference only ever adds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.building import build_design
from bayeslmm.factorisation.factor import factorise_statistics
from bayeslmm.factorisation.kernels.entry import workspace
from bayeslmm.factorisation.plan import dense_plan
from bayeslmm.factorisation.statistics import Statistics, build_statistics
from bayeslmm.lmm import LMM
from bayeslmm.support.threads import one_blas_thread
from tests.benchmarks.running import run_job
from tests.benchmarks.tables import machine, number, preamble, table, times

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
GROUPS = (100, 1_000, 10_000, 100_000)
COLUMNS = (100, 200, 500, 1_000, 2_000, 5_000)
CHUNK = 1_000_000
DENSE_UP_TO = 3_000


# data --------------------------------------------------------------------------------------------


def nested_rows(n: int, classes: int, schools: int) -> dict[str, np.ndarray]:
    """Rows in classes in schools, made in chunks; every class has rows, as equal in number as can be."""
    columns = {
        "y": np.empty(n),
        "x": np.empty(n),
        "class_": np.empty(n, dtype=np.int32),
        "school": np.empty(n, dtype=np.int32),
    }
    effects = np.random.default_rng(0)
    u2, u3 = effects.normal(size=(classes, 2)) * [0.5, 0.2], effects.normal(size=schools) * 0.7
    for chunk, lo in enumerate(range(0, n, CHUNK)):
        rng = np.random.default_rng([1, chunk])
        rows = slice(lo, min(lo + CHUNK, n))
        group = np.arange(rows.start, rows.stop) % classes
        x = rng.normal(size=group.size)
        columns["class_"][rows], columns["school"][rows], columns["x"][rows] = group, group % schools, x
        mean = 1.0 + 0.3 * x + u2[group, 0] + u2[group, 1] * x + u3[group % schools]
        columns["y"][rows] = mean + rng.normal(size=group.size)
    return columns


def crossed_rows(columns: int, per_group: int = 10) -> dict[str, np.ndarray]:
    """Ratings by students of lecturers, partially crossed: more students than lecturers, ten ratings each."""
    rng = np.random.default_rng(2)
    students = max(2_000, columns + columns // 2)
    s = np.repeat(np.arange(students), per_group)
    d = np.concatenate([np.arange(columns), rng.integers(0, columns, s.size - columns)])
    y = rng.normal(size=students)[s] * 0.3 + rng.normal(size=columns)[d] * 0.5 + rng.normal(size=s.size)
    return {"y": y, "s": s, "d": d}


def school_rows(schools: int, movers: float = 0.01) -> dict[str, np.ndarray]:
    """Pupils of four grades, who have a teacher in each; some change school between two. 80 schools: the shape of STAR.

    That is 24,613 rows of 10,767 pupils with 1,374 teachers, of which 1 % of all pairs have a pupil in common.
    """
    rng = np.random.default_rng(3)
    pupils, teachers, rows = (round(schools * x / 80) for x in (10_767, 1_374, 24_613))
    place = np.concatenate([np.arange(4 * schools), rng.integers(0, 4 * schools, teachers - 4 * schools)])
    teacher_of = np.argsort(place, kind="stable")  # by school and grade
    count = np.bincount(place, minlength=4 * schools)
    years = 1 + np.bincount(rng.choice(3 * pupils, rows - pupils, replace=False) % pupils, minlength=pupils)
    pupil = np.repeat(np.arange(pupils), years)
    year = np.arange(rows) - np.repeat(np.cumsum(years) - years, years)
    grade = (rng.random(pupils) * (5 - years)).astype(int)[pupil] + year
    school = rng.integers(0, schools, pupils)[pupil]
    elsewhere = rng.integers(0, schools, rows)
    for y in range(1, 4):  # a move lasts
        moved = np.flatnonzero((year == y) & (rng.random(rows) < movers))
        for later in range(4 - y):
            now = moved[moved + later < rows] + later
            now = now[pupil[now] == pupil[now - later]]
            school[now] = elsewhere[now - later]
    at = 4 * school + grade
    teacher = teacher_of[(np.cumsum(count) - count)[at] + (rng.random(rows) * count[at]).astype(int)]
    x = rng.normal(size=rows)
    u2, u3, u4 = rng.normal(size=pupils) * 25, rng.normal(size=teachers) * 12, rng.normal(size=schools) * 12
    y = 500 + 30 * grade + 3 * x + u2[pupil] + u3[teacher] + u4[school] + 20 * rng.normal(size=rows)
    return {"y": y, "x": x, "grade": grade.astype(float), "pupil": pupil, "teacher": teacher, "school": school}


# measures ----------------------------------------------------------------------------------------


def value(stats: Statistics, lam: np.ndarray) -> None:
    """Evaluate log|V0| and T."""
    factorise_statistics(stats, lam)


def value_and_gradient(stats: Statistics, lam: np.ndarray) -> None:
    """Evaluate log|V0| and T, and pull cotangents of both back."""
    factor = factorise_statistics(stats, lam)
    factor.adjoint(1.0, np.eye(factor.T.shape[0]))


def halfway(stats: Statistics) -> np.ndarray:
    """Kernel vector of an ordinary point: every relative factor half the identity."""
    return stats.flatten([0.5 * np.eye(level.r) for level in stats.design.levels])


def in_turn(tasks: Sequence[Callable[[], None]], rounds: int, least: float, budget: float = 60.0) -> list[float]:
    """Seconds per call of every task: the fastest of rounds in which they take turns.

    Parameters
    ----------
    tasks : sequence of callables
    rounds : int
    least : float
        Seconds that one measurement lasts at least, by repeating the call.
    budget : float
        Seconds after which no further round begins.
    """
    loops = []
    for task in tasks:
        task()
        began = time.perf_counter()
        task()
        loops.append(max(1, int(np.ceil(least / max(time.perf_counter() - began, 1e-7)))))
    seen: list[list[float]] = [[] for _ in tasks]
    first = time.perf_counter()
    for _ in range(rounds):
        for found, task, repeat in zip(seen, tasks, loops, strict=True):
            began = time.perf_counter()
            for _ in range(repeat):
                task()
            found.append((time.perf_counter() - began) / repeat)
        if time.perf_counter() - first > budget:
            break
    return [min(found) for found in seen]


def evaluations(all_stats: Sequence[Statistics], o: argparse.Namespace) -> list[dict[str, float]]:
    """Time value, and value and gradient, at every size."""
    points = [(stats, halfway(stats)) for stats in all_stats]
    tasks = [partial(work, *point) for work in (value, value_and_gradient) for point in points]
    seconds = in_turn(tasks, o.rounds, o.least, o.budget)
    k = len(all_stats)
    return [{"value": v, "both": b} for v, b in zip(seconds[:k], seconds[k:], strict=True)]


def kept_bytes(stats: Statistics) -> int:
    """Memory of what an evaluation needs of the data: structure and cross-products."""
    arrays = [getattr(stats.layout, field.name) for field in fields(stats.layout)]
    return sum(a.nbytes for a in [*arrays, stats.ZtW, stats.WtW, stats.winspan] if isinstance(a, np.ndarray))


def work_bytes(stats: Statistics) -> int:
    """Memory of one factorisation."""
    return sum(part.nbytes for part in workspace(stats.layout, stats.WtW.shape[0]))


def build(formula: str, data: dict[str, np.ndarray]) -> tuple[Statistics, float, float]:
    """Statistics, with the seconds that the design and the statistics took."""
    began = time.perf_counter()
    design = build_design(Hierarchy.from_formula(formula), data)
    middle = time.perf_counter()
    stats = build_statistics(design)
    return stats, middle - began, time.perf_counter() - middle


def micro(seconds: float) -> str:
    """Microseconds."""
    return number(1e6 * seconds)


def exponent(a: float, b: float, size_a: float, size_b: float) -> float:
    """Power of size with which a measure grows between two sizes."""
    return float(np.log(b / a) / np.log(size_b / size_a))


# questions ---------------------------------------------------------------------------------------


def rows_question(o: argparse.Namespace) -> tuple[str, list[dict]]:
    """Cost against rows at 1,000 classes in 50 schools, a slope per class."""
    sizes = [n for n in ROWS if n <= o.rows]
    found, kept = [], []
    for n in sizes:
        stats, design_s, stats_s = build("y ~ 1 + x + (1 + x | class_) + (1 | school)", nested_rows(n, 1_000, 50))
        kept.append(stats)
        found.append({"rows": n, "design": design_s, "statistics": stats_s, "bytes": kept_bytes(stats)})
    for entry, seconds in zip(found, evaluations(kept, o), strict=True):
        entry |= seconds
    first = found[0]
    body = [
        [
            f"{e['rows']:,}", micro(e["value"]), times(e["value"] / first["value"]), micro(e["both"]),
            times(e["both"] / first["both"]), number(e["bytes"] / 1e6), number(e["design"]),
            number(e["statistics"]), number(1e9 * e["statistics"] / e["rows"]),
        ]
        for e in found
    ]  # fmt: skip
    header = ["rows", "value, µs", "ratio", "value and gradient, µs", "ratio", "kept, MB", "design, s",
              "statistics, s", "ns per row"]  # fmt: skip
    spread = max(e["both"] for e in found) / min(e["both"] for e in found) - 1
    verdict = "met" if spread <= 0.2 else "NOT met"
    notes = [
        "y ~ 1 + x + (1 + x | class) + (1 | school), 1,000 classes in 50 schools at every size. Ratio: to "
        "the first row.",
        f"Value and gradient differ in cost by {100 * spread:.0f} % over the sizes; within 20 %: {verdict}.",
    ]
    return table("Rows, at fixed groups", header, body, notes), found


def groups_question(o: argparse.Namespace) -> tuple[str, list[dict]]:
    """Cost against groups of two nested levels, five rows a group."""
    sizes = [m for m in GROUPS if m <= o.groups]
    found, kept = [], []
    for m in sizes:
        stats, design_s, stats_s = build("y ~ 1 + x + (1 | class_) + (1 | school)", nested_rows(5 * m, m, m // 10))
        kept.append(stats)
        groups = sum(level.m for level in stats.design.levels)
        found.append({"classes": m, "groups": groups, "design": design_s, "statistics": stats_s,
                      "bytes": kept_bytes(stats), "work": work_bytes(stats)})  # fmt: skip
    for entry, seconds in zip(found, evaluations(kept, o), strict=True):
        entry |= seconds
    first = found[0]
    body = [
        [
            f"{e['classes']:,} + {e['groups'] - e['classes']:,}", micro(e["value"]), micro(e["both"]),
            number(1e9 * e["both"] / e["groups"]),
            times(e["both"] / first["both"] / (e["groups"] / first["groups"])),
            number((e["bytes"] + e["work"]) / 1e6), number((e["bytes"] + e["work"]) / e["groups"]),
            number(8 * e["groups"] ** 2 / 1e6), number(e["statistics"]),
        ]
        for e in found
    ]  # fmt: skip
    header = ["groups", "value, µs", "value and gradient, µs", "ns per group", "against linear", "memory, MB",
              "bytes per group", "q x q would be, MB", "statistics, s"]  # fmt: skip
    a, b = found[max(0, len(found) - 2)], found[-1]
    notes = [
        "y ~ 1 + x + (1 | school / class), ten classes a school, five rows a class. Against linear: growth "
        "of value and gradient since the first row over growth of the groups. Memory: cross-products, "
        "structure and the workspace of a factorisation.",
    ]
    if len(found) > 1:
        power = exponent(a["both"], b["both"], a["groups"], b["groups"])
        memory = exponent(a["bytes"] + a["work"], b["bytes"] + b["work"], a["groups"], b["groups"])
        notes.append(f"Over the last step time grows as groups^{power:.2f} and memory as groups^{memory:.2f}.")
    return table("Groups, two nested levels", header, body, notes), found


def crossed_question(o: argparse.Namespace) -> tuple[str, list[dict]]:
    """Cost against columns of the dense tail."""
    sizes = [c for c in COLUMNS if c <= o.columns]
    found, kept = [], []
    for c in sizes:
        stats, design_s, stats_s = build("y ~ 1 + (1 | s) + (1 | d)", crossed_rows(c))
        kept.append(stats)
        tail = stats.plan.tail_columns
        found.append({"columns": tail, "others": stats.layout.q - tail, "design": design_s,
                      "statistics": stats_s, "bytes": kept_bytes(stats),
                      "work": work_bytes(stats)})  # fmt: skip
    for entry, seconds in zip(found, evaluations(kept, o), strict=True):
        entry |= seconds
    body = []
    for k, e in enumerate(found):
        before = found[k - 1] if k else None
        body.append([
            f"{e['columns']:,}", f"{e['others']:,}", number(1e3 * e["value"]), number(1e3 * e["both"]),
            number(e["both"] / e["value"]),
            *((number(exponent(before[x], e[x], before["columns"], e["columns"])) for x in ("value", "both"))
              if before else ("", "")),
            number(e["columns"] ** 3 / 3 / e["value"] / 1e9), number((e["bytes"] + e["work"]) / 1e6),
            number(e["statistics"]),
        ])  # fmt: skip
    header = ["tail", "eliminated", "value, ms", "value and gradient, ms", "gradient / value", "power, value",
              "power, both", "Gflop/s, value", "memory, MB", "statistics, s"]  # fmt: skip
    notes = [
        "y ~ 1 + (1 | s) + (1 | d), ten ratings by each s; the d are the tail. Power: of the tail's columns, "
        "with which the time grows since the row before (3 is cubic). Gflop/s: as if a Cholesky factori"
        "sation of the tail, columns^3 / 3, were all of the value.",
    ]
    return table("Crossed levels, columns of the dense tail", header, body, notes), found


def sparse_question(o: argparse.Namespace) -> tuple[str, list[dict]]:
    """Cost of a sparse tail: the shape of STAR, its slopes, and more schools; then a whole fit and posterior of it."""
    formulas = ["(1 | pupil) + (1 | teacher) + (1 | school)", "(1 | pupil) + (1 + x | teacher) + (1 | school)"]
    shapes = [(80, formulas[0]), (80, formulas[1]), (320, formulas[0])]
    found, kept = [], []
    for schools, formula in shapes[: 2 if o.quick else 3]:
        stats, design_s, stats_s = build(f"y ~ 1 + x + grade + {formula}", school_rows(schools))
        kept.append(stats)
        columns = stats.plan.tail_columns
        found.append({"formula": formula, "rows": stats.design.n, "columns": columns,
                      "share": 100 * stats.plan.stored / columns**2, "sparse": stats.plan.pattern is not None,
                      "design": design_s, "statistics": stats_s})  # fmt: skip
    # the same with a dense tail, where that is no matter of seconds
    dense = [build_statistics(s.design, dense_plan(s.design)) for s in kept if s.plan.tail_columns <= DENSE_UP_TO]
    with one_blas_thread():
        seconds = evaluations([*kept, *dense], o)
    for entry, few in zip(found, seconds, strict=False):
        entry |= few
    for entry, full in zip(found, seconds[len(kept) :], strict=False):
        entry["ratio"] = full["both"] / entry["both"]
    body = [
        [
            f"{e['rows']:,}", e["formula"], f"{e['columns']:,}", number(e["share"]),
            number(1e3 * e["value"]), number(1e3 * e["both"]), times(e["ratio"]) if "ratio" in e else "",
            number(e["statistics"]),
        ]
        for e in found
    ]  # fmt: skip
    header = ["rows", "effects", "tail", "stored, %", "value, ms", "value and gradient, ms", "dense", "statistics, s"]
    whole = whole_fit(f"y ~ 1 + x + grade + {formulas[0]}", school_rows(80))
    notes = [
        "y ~ 1 + x + grade + effects, pupils eliminated one by one, teachers and schools in the tail. Stored: numbers "
        "of the tail's factor in its panels, of those in a square. Dense: time of value and gradient with a dense tail "
        "against it, both on one thread.",
        f"First row, formula to result in a process that has fitted before: ML {number(whole['ml'])} s; a posterior of "
        f"{whole['draws']:,} draws, all effects among them, {number(whole['posterior'])} s, least ESS of the "
        f"parameters {number(whole['ess'])}.",
    ]
    peer = by_lme4(f"y ~ 1 + x + grade + {formulas[0]}", school_rows(80), "pupil,teacher,school")
    if peer["status"] == "ok":
        notes.append(
            f"lme4 {peer['version']} on the first row: ML {number(peer['seconds'])} s, as long "
            f"{times(peer['seconds'] / whole['ml'])}; its log-likelihood less ours "
            f"{peer['loglik'] - whole['loglik']:.1e}."
        )
    return table("Crossed levels, a sparse tail", header, body, notes), [*found, whole]


def whole_fit(formula: str, data: dict[str, np.ndarray]) -> dict[str, float]:
    """Seconds of ML and of a posterior, formula to result, the fastest ML of three."""
    from arviz_stats import ess

    LMM(formula, data).ml()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        LMM(formula, data).ml()
        seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    tree = LMM(formula, data).sample(draws=250, random_seed=1)
    took = time.perf_counter() - began
    names = ["beta", *(name for name in tree.posterior.data_vars if name.startswith("sigma"))]
    least = min(float(x.min()) for x in ess(tree, var_names=names).data_vars.values())
    return {
        "ml": min(seconds),
        "posterior": took,
        "draws": 1_000,
        "ess": least,
        "loglik": LMM(formula, data).ml().loglik,
    }


def by_lme4(formula: str, data: dict[str, np.ndarray], groups: str) -> dict:
    """Seconds of the same ML fit by lme4, where R has it, and its log-likelihood."""
    if shutil.which("Rscript") is None:
        return {"status": "not installed"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        pd.DataFrame(data).to_csv(path, index=False)
        settings = {"table": path, "formula": formula, "groups": groups, "reml": 0, "cold": 1}
        command = ["Rscript", "--vanilla", str(Path(__file__).with_name("lme4.R"))]
        return run_job([*command, *(f"{name}={value}" for name, value in settings.items())], 600)


QUESTIONS = {
    "rows": rows_question, "groups": groups_question, "crossed": crossed_question, "sparse": sparse_question
}  # fmt: skip


def main() -> None:
    """Measure, print, and keep the results if asked to."""
    p = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    p.add_argument("--questions", nargs="+", default=list(QUESTIONS), choices=list(QUESTIONS))
    p.add_argument("--quick", action="store_true", help="up to 1e5 rows, 1e4 groups, 500 columns, few rounds")
    p.add_argument("--rows", type=int, default=ROWS[-1], help="largest number of rows")
    p.add_argument("--groups", type=int, default=GROUPS[-1], help="largest number of classes")
    p.add_argument("--columns", type=int, default=COLUMNS[-1], help="largest dense tail")
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--least", type=float, default=0.05, help="seconds that a measurement lasts at least")
    p.add_argument("--budget", type=float, default=90.0, help="seconds after which no further round begins")
    p.add_argument("--json", type=Path, help="where to keep the results")
    o = p.parse_args()
    if o.quick:
        o.rows, o.groups, o.columns = min(o.rows, 100_000), min(o.groups, 10_000), min(o.columns, 500)
        o.rounds, o.least = min(o.rounds, 5), min(o.least, 0.01)
    facts = machine()
    print(preamble(facts), flush=True)
    results = {}
    for name in o.questions:
        try:
            text, results[name] = QUESTIONS[name](o)
        except Exception as error:
            text, results[name] = f"### {name}: {type(error).__name__}: {error}\n", []
        print(text, flush=True)
    if o.json:
        o.json.write_text(json.dumps({**facts, "results": results}, indent=1))


if __name__ == "__main__":
    main()
