"""ML of outcomes that aren't Gaussian against R's fits: `python -m tests.benchmarks.glmm`.

A line per fit of R's in `tests/data/glmm.json`: how far the log-likelihood, the coefficients (in SEs) and the SDs are
apart, the error of Laplace's approximation, and the seconds of a fit of ours (the median of three, kernels compiled)
beside R's. R's are those of the reference's machine, unless R with glmmTMB and lme4 is installed here and `--r` is
given: then each is fitted again in the same run. Exits with 1 where a fit isn't R's.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from tests.glmm_reference import OTHER, distances, expressed, fitted, model, reference, table

R_SCRIPT = Path(__file__).with_name("glmm.R")


def seconds_of_ours(name: str, repeats: int) -> tuple[float, object, object]:
    """(median seconds from the data in memory to the maximum with its Hessian, the model, the fit)."""
    times, glmm, fit = [], None, None
    for _ in range(repeats):
        began = time.perf_counter()
        glmm = model(name)
        fit = fitted(name, glmm)
        times.append(time.perf_counter() - began)
    return float(np.median(times)), glmm, fit


def seconds_of_R(name: str) -> float:
    """Seconds of the same fit by R, here; NaN where it isn't installed."""
    r = reference()["fits"][name]
    if shutil.which("Rscript") is None or r["package"] not in ("lme4", "glmmTMB"):
        return float("nan")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        table(r["data"]).to_csv(path, index=False)
        formula = r["formula"].replace("total.fruits", "total_fruits")
        if name == "mmmec":
            formula = formula.replace("uvb", "uvb + offset(logexpected)", 1)
        groups = ",".join({part for key in r["varcorr"] for part in key.split(":")})
        call = [
            "Rscript",
            str(R_SCRIPT),
            r["package"],
            str(path),
            formula,
            r["family"],
            r["link"],
            str(r["nAGQ"]),
            groups,
        ]
        done = subprocess.run(call, capture_output=True, text=True, timeout=550)
    return float(done.stdout.split()[-1]) if done.returncode == 0 and done.stdout.split() else float("nan")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fits", nargs="*", help="names of fits, or parts of them; all where none is given")
    parser.add_argument("--r", action="store_true", help="fit by R too, where it is installed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--errors", action="store_true", help="measure the error of Laplace's approximation too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    names = [name for name in expressed() if not given.fits or any(part in name for part in given.fits)]
    seconds_of_ours("cbpp_agq9", 1)  # imports and kernels
    bad = []
    heads = ("package", "nodes", "loglik", "coef/SE", "SD", "ours, s", "R, s", "ratio")
    print(f"{'fit':24}" + "".join(f"{head:>{w}}" for head, w in zip(heads, (9, 6, 10, 9, 9, 9, 9, 7), strict=True)))
    for name in names:
        r = reference()["fits"][name]
        ours, glmm, fit = seconds_of_ours(name, given.repeats)
        loglik, beta, sds = distances(name, glmm, fit)  # type: ignore[arg-type]
        theirs = seconds_of_R(name) if given.r else float(r["seconds"])
        loose = 4e-4 if r["nAGQ"] == 1 and r["package"] != "glmmTMB" else 1e-5
        wrong = not (-1e-5 < loglik < loose and beta < (1e-3 if loose < 1e-4 else 2e-3) and sds < 2e-3)
        bad += [name] * wrong
        print(
            f"{name:24}{r['package']:>9}{r['nAGQ']:>6}{loglik:>10.1e}{beta:>9.1e}{sds:>9.1e}{ours:>9.3f}{theirs:>9.3f}"
            f"{theirs / ours:>7.1f}{'  <- not R' + chr(39) + 's' if wrong else ''}",
            flush=True,
        )
        if given.errors and r["nAGQ"] == 1:
            began = time.perf_counter()
            print(f"    {fit.approximation_error.text} ({time.perf_counter() - began:.1f} s)", flush=True)  # type: ignore
    for name, why in OTHER.items():
        print(f"{name:24} left out: {why}")
    rest = [name for name in reference()["fits"] if name not in expressed() and name not in OTHER]
    print(f"no family here: {', '.join(rest)}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
