"""Posteriors of GLMMs beside Bambi's and rstanarm's: `python -m tests.benchmarks.glmm_posterior`.

Every run is a fresh process; the runs go in turn. "process" is from its start to the draws of all parameters and
effects, "call" from the table in memory to the draws, what is imported and compiled by then included. ArviZ judges all
draws alike: the least bulk ESS and the largest R-hat of all parameters and effects. The ratios are of seconds to an ESS
of 1,000: the seconds where it has so many, and the seconds times 1,000 / ESS where it has fewer. Each package has its
own default priors, which are weak beside these data, and its own default settings (4 chains of 1,000 draws). Bambi is
run by the Python given as `--bambi`, rstanarm by Rscript; what isn't installed has a row that says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.diagnosis import diagnose
from tests.glmm_reference import table

R_SCRIPT = Path(__file__).with_name("glmm_posterior.R")
ENOUGH = 1000  # draws that are worth as many independent ones
CHAINS, DRAWS, TUNE, SEED = 4, 1000, 1000, 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model as each package writes it."""

    name: str
    data: str
    formula: str
    family: str
    group: str
    bambi: str | None = None

    @property
    def factors(self) -> str:
        """Columns that are numbers in the table and categories in the model."""
        return ",".join({self.group} | ({"period"} if "period" in self.formula else set()))


CASES = (
    Case(
        name="cbpp", data="cbpp", formula="cbind(incidence, size - incidence) ~ period + (1 | herd)", family="binomial",
        group="herd", bambi="p(incidence, size) ~ period + (1 | herd)",
    ),
    Case(name="epil", data="epil", formula="y ~ trt + V4 + (1 | subject)", family="poisson", group="subject"),
    Case(
        name="toenail", data="toenail", formula="y ~ treatment * visit + (1 | patientID)", family="binomial",
        group="patientID",
    ),
    Case(name="guImmun by community", data="guImmun", formula="y ~ kid2p + rural + (1 | comm)", family="binomial",
         group="comm"),
)  # fmt: skip

OURS = """
import sys, time, numpy as np, pandas as pd, warnings
warnings.simplefilter("ignore")
import bayeslmm as blm
data, formula, family, factors, out = sys.argv[1:6]
frame = pd.read_csv(data).astype({name: "str" for name in factors.split(",")})
began = time.perf_counter()
tree = blm.GLMM(formula, frame, family=family).sample(random_seed=1, progress=False)
print(time.perf_counter() - began)
np.savez(out, **{k: v.to_numpy() for k, v in tree["posterior"].data_vars.items()})
"""
BAMBI = """
import sys, time, numpy as np, pandas as pd, bambi as bmb
data, formula, family, factors, out = sys.argv[1:6]
frame = pd.read_csv(data).astype({name: "str" for name in factors.split(",")})
began = time.perf_counter()
tree = bmb.Model(formula, frame, family=family).fit(random_seed=1, progressbar=False)
print(time.perf_counter() - began)
posterior = tree["posterior"]
kept = [k for k in posterior.data_vars if "_offset" not in str(k) and k not in ("p", "mu")]
np.savez(out, **{str(k): posterior[k].to_numpy() for k in kept})
"""


def columns(path: Path) -> np.ndarray:
    """Draws (chain, draw, parameter) of a file that Python wrote."""
    with np.load(path) as kept:
        flat = [values.reshape(*values.shape[:2], -1) for values in kept.values()]
    return np.concatenate(flat, axis=2)


def in_python(python: str, code: str, case: Case, formula: str, data: Path, out: Path) -> tuple[float, np.ndarray]:
    """(seconds of the call, draws) by one of the scripts above."""
    command = [python, "-c", code, str(data), formula, _python_family(case), case.factors, str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=580)
    return float(done.stdout.split()[-1]), columns(out)


def _python_family(case: Case) -> str:
    return "bernoulli" if case.family == "binomial" and case.bambi is None else case.family


def ours(case: Case, data: Path, out: Path, _: argparse.Namespace) -> tuple[float, np.ndarray]:
    """By bayeslmm."""
    return in_python(sys.executable, OURS, case, case.formula.replace("size - incidence", "healthy"), data, out)


def bambi(case: Case, data: Path, out: Path, o: argparse.Namespace) -> tuple[float, np.ndarray]:
    """By Bambi."""
    return in_python(o.bambi, BAMBI, case, (case.bambi or case.formula).replace(" | ", "|"), data, out)


def rstanarm(case: Case, data: Path, out: Path, _: argparse.Namespace) -> tuple[float, np.ndarray]:
    """By rstanarm's stan_glmer."""
    numbers = [str(x) for x in (CHAINS, DRAWS, TUNE, SEED)]
    command = ["Rscript", str(R_SCRIPT), str(data), case.formula, case.family, case.group, *numbers, str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1200)
    seconds, k = done.stdout.split()[-2:]
    return float(seconds), np.fromfile(out).reshape(int(k), CHAINS, DRAWS).transpose(1, 2, 0)


def measure(run, case: Case, o: argparse.Namespace) -> tuple[float, float, float, float]:
    """(seconds of the process, seconds of the call, least bulk ESS, largest R-hat)."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data.csv", Path(folder) / "draws.npz"
        frame = table(case.data)
        if case.data == "cbpp":
            frame = frame.assign(healthy=frame["size"] - frame["incidence"])
        frame.to_csv(data, index=False)
        began = time.perf_counter()
        call, draws = run(case, data, out, o)
        seconds = time.perf_counter() - began
    found = diagnose([str(k) for k in range(draws.shape[2])], draws)
    return seconds, call, found["min_ess"], found["max_rhat"]


def main() -> int:
    """Print a line per model and package; 1 where a ratio is less than asked for, or ours has a larger R-hat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names of models; all where none is given")
    parser.add_argument("--bambi", default=sys.executable, help="a Python that has Bambi")
    o = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    runs = {"bayeslmm": (ours, 1.0), "bambi": (bambi, 10.0), "rstanarm": (rstanarm, 5.0)}
    if shutil.which("Rscript") is None:
        del runs["rstanarm"]
        print("rstanarm: not installed")
    heads = ("package", "process", "call", "min ESS", "R-hat", "process x", "call x")
    print(f"{'model':22}" + "".join(f"{head:>11}" for head in heads))
    good = True
    for case in (case for case in CASES if not o.cases or case.name in o.cases):
        base, rhat = np.full(2, np.nan), np.nan
        for name, (run, asked) in runs.items():
            try:
                *seconds, ess, worst = measure(run, case, o)
            except subprocess.CalledProcessError as error:
                print(f"{case.name:22}{name:>11}  failed: {error.stderr.strip().splitlines()[-1][:90]}")
                continue
            enough = np.array(seconds) * max(1.0, ENOUGH / ess)
            base, rhat = (enough, worst) if name == "bayeslmm" else (base, rhat)
            ratio = enough / base
            good &= bool(ratio[0] >= asked) and (name == "bayeslmm" or rhat <= max(worst, 1.01))
            numbers = "".join(f"{x:>11.1f}" for x in seconds) + f"{ess:>11.0f}{worst:>11.3f}"
            print(f"{case.name:22}{name:>11}{numbers}{ratio[0]:>11.1f}{ratio[1]:>11.1f}", flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
