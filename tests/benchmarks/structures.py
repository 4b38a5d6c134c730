"""What known covariances and structured residuals cost: ML, and a posterior of 4 x 1,000 draws, in a warm process.

    python -m tests.benchmarks.structures

One simulated table, 1,200 rows: 120 subjects with 10 rows each, crossed with 8 sites; a kinship of the subjects.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import arviz as az
import numpy as np
import pandas as pd

import bayeslmm as blm
from tests.benchmarks.tables import machine, preamble
from tests.benchmarks.tables import table as formatted

HEADER = ("levels", "residual", "tail columns", "ML, ms", "posterior, s", "min ESS")
SUBJECTS, TIMES, SITES = 120, 10, 8


def simulated() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows, and a labelled kinship of the subjects."""
    rng = np.random.default_rng(11)
    n = SUBJECTS * TIMES
    subject = np.repeat(np.arange(SUBJECTS), TIMES)
    A = rng.normal(size=(SUBJECTS, 3 * SUBJECTS))
    K = A @ A.T / (3 * SUBJECTS)
    labels = [f"s{k}" for k in range(SUBJECTS)]
    data = pd.DataFrame(
        {
            "subject": np.array(labels)[subject],
            "site": rng.integers(0, SITES, n).astype(str),
            "t": np.tile(np.arange(TIMES), SUBJECTS),
            "x": rng.normal(size=n),
            "sex": np.where(subject % 2, "m", "f"),
            "w": rng.uniform(0.5, 2.0, n),
            "row": [f"r{k}" for k in range(n)],
        }
    )
    noise = rng.normal(size=n)
    for k in range(1, n):
        noise[k] += 0.5 * noise[k - 1] * (data["t"].iloc[k] > 0)
    u = np.linalg.cholesky(K) @ rng.normal(size=SUBJECTS)
    data["y"] = 2 + 0.5 * data["x"] + u[subject] + 0.5 * rng.normal(size=SITES)[data["site"].astype(int)] + noise
    return data, pd.DataFrame(K, index=labels, columns=labels)


def known_rows(data: pd.DataFrame) -> pd.DataFrame:
    """A known R: correlation 0.4 within subjects."""
    R = np.kron(np.eye(SUBJECTS), 0.4 + 0.6 * np.eye(TIMES))
    return pd.DataFrame(R, index=data["row"], columns=data["row"])


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def main() -> None:
    """Print the table."""
    data, K = simulated()
    levels = {
        "(1 | subject)": ("(1 | subject)", {}),
        "(1 + x | subject)": ("(1 + x | subject)", {}),
        "(1 | subject) + (1 | site)": ("(1 | subject) + (1 | site)", {}),
        "kinship (1 | subject)": ("(1 | subject)", {"covariance": {"subject": K}}),
        "kinship (1 + x | subject)": ("(1 + x | subject)", {"covariance": {"subject": K}}),
        "kinship (1 | subject) + (1 | site)": ("(1 | subject) + (1 | site)", {"covariance": {"subject": K}}),
    }
    residuals = {
        "iid": blm.Residual(),
        "weights": blm.Residual(weights="w"),
        "strata": blm.Residual(structure="strata", by="sex"),
        "ar1": blm.Residual(structure="ar1", group="subject", time="t"),
        "ar1, strata": blm.Residual(structure="ar1", group="subject", time="t", by="sex"),
        "cs": blm.Residual(structure="cs", group="subject"),
        "known R": blm.Residual(structure="known", group="row", covariance=known_rows(data)),
    }
    rows = []
    for level, (terms, known) in levels.items():
        for name, residual in residuals.items():
            if name == "cs" and "x" not in level and not known:
                continue  # a random intercept and compound symmetry can't be told apart

            def make(terms=terms, residual=residual, known=known) -> blm.LMM:
                return blm.LMM(f"y ~ x + {terms}", data, residual=residual, **known)

            lmm = make()
            lmm.ml()
            tree = lmm.sample(draws=250, random_seed=1, progress=False, sampler="collapsed")  # warm
            ml = timed(lambda make=make: make().ml(), 3)
            began = time.perf_counter()
            tree = make().sample(random_seed=1, progress=False, sampler="collapsed")
            seconds = time.perf_counter() - began
            ess = min(float(az.ess(tree, var_names=[v])[v].min()) for v in ("beta", "sigma", "u2"))
            tail = lmm.statistics.plan.tail_columns
            rows.append([level, name, str(tail), f"{1e3 * ml:,.0f}", f"{seconds:.2f}", f"{ess:,.0f}"])
            print(rows[-1], flush=True)
    print()
    print(preamble(machine()))
    print(formatted("Known covariances and structured residuals", HEADER, rows))


if __name__ == "__main__":
    main()
