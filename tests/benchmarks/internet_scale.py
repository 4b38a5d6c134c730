"""What a model of more rows than one machine holds would take: `python -m tests.benchmarks.internet_scale`.

Rows are simulated on many workers, each with its own sums; the sums are added in a tree, and compared with those of all
rows at once. Bytes and times are measured on the way; what follows for sizes that nobody simulates is arithmetic with
these constants. `docs/scale.md` has the figures of one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import bayeslmm as blm
from bayeslmm.factorisation.factor import factorise_statistics
from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.sums import Sums
from bayeslmm.support.threads import one_blas_thread
from tests.benchmarks.tables import machine, number, table

FORMULA = "y ~ x + (1 + x | g)"
FAN = 10  # partial sums that are added at one node of the tree
EVALUATIONS = 40  # of value and gradient in a search, rounded up
NETWORK = 1e9  # bytes a second that one machine takes in: 10 Gbit/s, less what is lost
SIZES = ((1e8, 1e6), (1e10, 1e8), (1e12, 1e8), (1e12, 1e10))  # rows and groups


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What was measured.

    Attributes
    ----------
    row, join, evaluation : float
        Seconds a row that is summed, a cell that is added, a group in one evaluation of value and gradient.
    cell, kept : float
        Bytes of a cell's sums as they travel, and of a group in the memory of the machine that searches.
    """

    row: float
    join: float
    evaluation: float
    cell: float
    kept: float


def shard(worker: int, rows: int, groups: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of one worker, in some of the groups."""
    rng = np.random.default_rng([7, worker])
    g, x = rng.choice(groups, rows), rng.normal(5.0, 2.0, rows)
    effect = np.sin(g * 12.9898) * 2.0  # the same wherever the group is met
    return {"y": 1.0 + 0.5 * x + effect + rng.normal(size=rows), "x": x, "g": g}


def bytes_of(sums: Sums) -> int:
    """What the sums take on their way: keys, counts, sums, half of the symmetric products, extremes."""
    cells = sums.kept.cells
    C, A = cells.sums.shape
    keys = sum(column.to_numpy().nbytes for _, column in cells.keys.items())
    return keys + 8 * C * (1 + A + A * (A + 1) // 2 + 4 * A)


def add_up(parts: Sequence[Sums]) -> Sums:
    """The sum, two at a time."""
    parts = list(parts)
    while len(parts) > 1:
        pairs = [parts[k] + parts[k + 1] for k in range(0, len(parts) - 1, 2)]
        parts = pairs + parts[len(parts) - len(parts) % 2 :]
    return parts[0]


def tree(parts: Sequence[Sums]) -> tuple[Sums, list[list[float]]]:
    """(the sum, a row for each layer: nodes, cells and bytes that arrive at one of them, seconds)."""
    layers = []
    parts = list(parts)
    while len(parts) > 1:
        nodes = [parts[k : k + FAN] for k in range(0, len(parts), FAN)]
        begin = time.process_time()
        above = [add_up(node) for node in nodes]
        seconds = time.process_time() - begin
        arriving = [sum(bytes_of(part) for part in node) for node in nodes]
        cells = [sum(part.n_cells for part in node) for node in nodes]
        layers.append([len(nodes), float(np.mean(cells)), float(np.mean(arriving)), seconds / len(nodes)])
        parts = above
    return parts[0], layers


def simulate(workers: int, rows: int, groups: int, shuffled: bool) -> tuple[Sums, list[list[float]]]:
    """Sums of all workers in a tree, as `tree` has them.

    `shuffled` sends all rows of a group to one worker beforehand; else every worker meets groups at random.
    """
    every, parts = np.arange(groups), []
    for worker in range(workers):
        own = every[worker * groups // workers : (worker + 1) * groups // workers] if shuffled else every
        parts.append(Sums.of(FORMULA, shard(worker, rows, own)))
    return tree(parts)


def time_a_row(rows: int, groups: int) -> float:
    """Seconds a row of one large worker, where what a call costs is spread over many rows."""
    data = shard(0, rows, np.arange(groups))
    begin = time.process_time()
    Sums.of(FORMULA, data)
    return (time.process_time() - begin) / rows


def time_a_join(groups: int) -> float:
    """Seconds for each cell that arrives where two large sums meet."""
    one, other = (Sums.of(FORMULA, shard(worker, 2 * groups, np.arange(groups))) for worker in (2, 3))
    best = np.inf
    for _ in range(3):
        begin = time.process_time()
        _ = one + other
        best = min(best, time.process_time() - begin)
    return best / (one.n_cells + other.n_cells)


def time_an_evaluation(groups: int) -> tuple[float, float]:
    """(seconds a group of value and gradient, bytes a group of products and work space)."""
    lmm = blm.LMM.from_sums(Sums.of(FORMULA, shard(1, 4 * groups, np.arange(groups))))
    criterion = Criterion(stats=lmm.statistics, reml=False)
    phi, best = criterion.start(), np.inf
    with one_blas_thread():
        for _ in range(6):
            begin = time.process_time()
            criterion.value_and_gradient(phi)
            best = min(best, time.process_time() - begin)
    st, m = lmm.statistics, lmm.design.levels[0].m
    factor = factorise_statistics(st, criterion.lams(phi[None])[0])
    held = st.layout.zz.nbytes + st.ZtW.nbytes + sum(part.nbytes for part in factor.parts) + factor.lam.nbytes
    return best / m, (held + st.layout.order.nbytes + st.layout.parent.nbytes) / m


def arithmetic(c: Constants, workers: int) -> list[list[str]]:
    """A row for each size: seconds of summing, of the last machine's network and of the search, and its memory."""
    out = []
    for n, m in SIZES:
        summing = n / workers * c.row
        arriving = m * c.cell
        moving = arriving / NETWORK + m * c.join
        search = EVALUATIONS * m * c.evaluation
        parts = {"summing": summing, "tree": moving, "search": search}
        longest = max(parts, key=lambda name: parts[name])
        out.append([
            f"{n:.0e}", f"{m:.0e}", f"{arriving / 1e9:.3g}", f"{summing:.3g}", f"{moving:.3g}", f"{search:.3g}",
            f"{m * c.kept / 1e9:.3g}", longest,
        ])  # fmt: skip
    return out


def main() -> None:
    """Simulate, measure, and say what follows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=1_000, help="of a worker")
    parser.add_argument("--groups", type=int, default=20_000)
    given = parser.parse_args()
    about = machine()
    print(about["date"], about["machine"])
    totals = {}
    for shuffled in (False, True):
        total, layers = simulate(given.workers, given.rows, given.groups, shuffled)
        totals[shuffled] = total
        where = "each group's rows on one worker" if shuffled else "groups met anywhere"
        title = f"{given.workers:,} workers of {given.rows:,} rows, {given.groups:,} groups, {where}"
        shown = [[number(a) for a in (*row[:3], 1e3 * row[3])] for row in layers]
        print(table(title, ["nodes", "cells that arrive at one", "bytes", "ms to add them"], shown))
        print()
    whole = {name: np.concatenate([shard(w, given.rows, np.arange(given.groups))[name] for w in range(given.workers)])
             for name in ("y", "x", "g")}  # fmt: skip
    once = Sums.of(FORMULA, whole)
    found, expected = (blm.LMM.from_sums(sums).ml().loglik for sums in (totals[False], once))
    print(f"\nlog-likelihood of the tree's sum less that of all rows at once: {found - expected:.1e}")
    evaluation, kept = time_an_evaluation(100_000)
    c = Constants(
        row=time_a_row(1_000_000, given.groups), join=time_a_join(100_000), evaluation=evaluation,
        cell=bytes_of(once) / once.n_cells, kept=kept,
    )  # fmt: skip
    print(f"\n{1e6 * c.row:.2g} microseconds a row, {1e9 * c.evaluation:.3g} nanoseconds a group and evaluation")
    print(f"{1e6 * c.join:.2g} microseconds for each cell that arrives where two large sums meet")
    print(f"{c.cell:.0f} bytes a cell on its way, {c.kept:.0f} bytes a group where the search is")
    even = EVALUATIONS * c.evaluation * given.workers / c.row
    print(f"the search takes longer than the sums below {even:,.0f} rows a group on {given.workers:,} workers\n")
    names = [
        "rows",
        "groups",
        "GB at the root",
        "s of sums",
        "s of the tree's root",
        "s of search",
        "GB there",
        "longest",
    ]
    print(table(f"By these constants, on {given.workers:,} workers", names, arithmetic(c, given.workers)))


if __name__ == "__main__":
    main()
