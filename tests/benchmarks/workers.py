"""One job in a fresh process: `python -m tests.benchmarks.workers JOB PEER CASE ...` prints one JSON line.

Jobs are `posterior` (draws go to a file, so that their diagnosis isn't timed), `likelihood` and `warm`.
The line's `done` is the clock when the result was in memory; the driver knows when the process started.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import statistics
import time
import warnings
from pathlib import Path

from tests.benchmarks.cases import CASES, WARM_UP, Case, bambi_terms
from tests.benchmarks.diagnosis import as_columns, diagnose

SIZES = tuple(sorted({10 * round(10 * 1.05**k) for k in range(91)}))
"""Draws per chain that `warm` tries: 100 to 8,000, in steps of some 5 %."""
DISTRIBUTIONS = {"bayeslmm": "bayeslmm", "nutpie": "nutpie", "bambi": "bambi", "mixedlm": "mixedlm",
                 "lme-python": "lme-python"}  # fmt: skip


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    import resource
    import sys

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def finish(**values) -> dict:
    """Add the clock and the peak of memory to a result."""
    return {"status": "ok", "done": time.time(), "peak": peak_memory(), **values}


# posteriors ---------------------------------------------------------------------------------------


def posterior_bayeslmm(case: Case, o: argparse.Namespace, variant: str = "marginal"):
    """Sample by bayeslmm: the marginal by its own sampler, or the joint PyMC model by nutpie."""
    data = case.load()
    began = time.perf_counter()
    tree = case.lmm(data).sample(
        variant, draws=o.draws, tune=o.tune, chains=o.chains, random_seed=o.seed, progress=False
    )
    seconds = time.perf_counter() - began
    result = finish(seconds=seconds, note=f"{tree.attrs['sampler']}. {tree.attrs['note']}".strip(" ."))
    result["divergences"] = int(tree["sample_stats"]["diverging"].to_numpy().sum())
    return result, {str(name): x.to_numpy() for name, x in tree["posterior"].data_vars.items()}


def posterior_nutpie(case: Case, o: argparse.Namespace):
    """Sample plain PyMC, `lmm.joint()`, by nutpie."""
    result, draws = posterior_bayeslmm(case, o, "joint")
    return result | {"note": "joint model, same priors"}, draws


def posterior_bambi(case: Case, o: argparse.Namespace):
    """Sample by Bambi with its own settings, on the priors of bayeslmm."""
    import bambi as bmb

    data = case.load()
    began = time.perf_counter()
    lmm = case.lmm(data)
    formula, data, priors = bambi_terms(lmm, data)
    model = bmb.Model(formula, data, priors=priors, center_predictors=False)
    tree = model.fit(draws=o.draws, tune=o.tune, chains=o.chains, random_seed=o.seed, progressbar=False, cores=o.cores)
    seconds = time.perf_counter() - began
    correlated = any(level.correlated for level in lmm.design.levels)
    result = finish(seconds=seconds, note="same priors, no correlation" if correlated else "same priors")
    result["divergences"] = int(tree["sample_stats"]["diverging"].to_numpy().sum())
    posterior = tree["posterior"]
    kept = [str(name) for name in posterior.data_vars if "_offset" not in str(name) and name != "mu"]
    return result, {name: posterior[name].to_numpy() for name in kept}


def run_posterior(o: argparse.Namespace) -> dict:
    """Sample, then write the draws beside the result."""
    import numpy as np

    job = {"bayeslmm": posterior_bayeslmm, "nutpie": posterior_nutpie, "bambi": posterior_bambi}[o.peer]
    result, draws = job(CASES[o.case], o)
    names, columns = as_columns(draws)
    np.save(o.out, columns)
    return result | {"names": names}


# likelihood ---------------------------------------------------------------------------------------


def fitter(peer: str):
    """Return (prepare, fit): from a frame to what the package takes, from that to a log-likelihood."""
    if peer == "bayeslmm":
        from bayeslmm.lmm import LMM

        def fit(case, data, reml):
            lmm = LMM(case.formula, data)
            return (lmm.reml() if reml else lmm.ml()).loglik

        return (lambda data: data), fit
    if peer == "mixedlm":
        import mixedlm

        return (lambda data: data), lambda case, data, reml: float(mixedlm.lmer(case.formula, data, REML=reml).logLik())
    import lme_python
    import polars as pl

    def prepare(data):
        return pl.DataFrame({name: data[name].to_numpy() for name in data.columns})

    return (
        prepare,
        lambda case, data, reml: lme_python.lmer(case.formula, data=data, reml=reml).log_likelihood,
    )


def run_likelihood(o: argparse.Namespace) -> dict:
    """Fit from formula and loaded data to the log-likelihood: once cold, or the median of several warm."""
    prepare, fit = fitter(o.peer)
    case = CASES[o.case]
    data = prepare(case.load())
    if not o.cold:
        fit(WARM_UP, prepare(WARM_UP.load()), o.reml)
    times: list[float] = []
    while not times or (not o.cold and len(times) < o.repeats and sum(times) < o.budget):
        began = time.perf_counter()
        loglik = fit(case, data, o.reml)
        times.append(time.perf_counter() - began)
    return finish(seconds=statistics.median(times), fits=len(times), loglik=loglik)


# a posterior of a given size, warm ----------------------------------------------------------------


def run_warm(o: argparse.Namespace) -> dict:
    """Time formula to draws in a warm process, at the least size that reaches the ESS asked for."""
    case = CASES[o.case]
    target = o.target or case.target
    data = case.load()
    WARM_UP.lmm(WARM_UP.load()).sample("marginal", draws=100, random_seed=o.seed, progress=False)
    result: dict = {}
    start = time.perf_counter()
    needed = float(target)
    for size in SIZES:
        if size * o.chains < needed and size < SIZES[-1]:
            continue
        times: list[float] = []
        least = float("inf")
        while not times or (len(times) < o.repeats and sum(times) < o.budget):
            began = time.perf_counter()
            tree = case.lmm(data).sample(
                "marginal", draws=size, chains=o.chains, random_seed=o.seed + len(times), progress=False
            )
            times.append(time.perf_counter() - began)
            draws = {str(name): x.to_numpy() for name, x in tree["posterior"].data_vars.items()}
            least = min(least, diagnose(*as_columns(draws), with_rhat=False)["min_ess"])
            if least < target:
                break
        result = {"draws": size * o.chains, "min_ess": least, "seconds": statistics.median(times),
                  "fits": len(times), "note": tree.attrs["note"]}  # fmt: skip
        # the least ESS of thousands of effects looks worse than it is after few draws: go up in small steps
        needed = size * o.chains * min(target / max(least, 1.0), 1.25)
        ahead = result["seconds"] * needed / (size * o.chains)
        if least >= target or time.perf_counter() - start + ahead > 0.8 * o.timeout:
            break
    return finish(target=target, reached=bool(result["min_ess"] >= target), **result)


def parser() -> argparse.ArgumentParser:
    """Read the command line of one job."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("job", choices=("posterior", "likelihood", "warm"))
    p.add_argument("peer")
    p.add_argument("case", choices=list(CASES))
    for name, default in (("draws", 1000), ("tune", 1000), ("chains", 4), ("seed", 1), ("cores", 2),
                          ("repeats", 7), ("target", 0)):  # fmt: skip
        p.add_argument(f"--{name}", type=int, default=default)
    p.add_argument("--budget", type=float, default=5.0, help="seconds after which nothing is repeated")
    p.add_argument("--timeout", type=float, default=300.0)
    p.add_argument("--reml", action="store_true")
    p.add_argument("--cold", action="store_true")
    p.add_argument("--out", type=Path)
    return p


def main() -> None:
    """Run the job; what goes wrong is part of the line."""
    o = parser().parse_args()
    module = {"lme-python": "lme_python"}.get(o.peer, o.peer)
    if importlib.util.find_spec(module) is None:
        print(json.dumps({"status": "not installed"}))
        return
    warnings.simplefilter("ignore")
    jobs = {"posterior": run_posterior, "likelihood": run_likelihood, "warm": run_warm}
    try:
        result = jobs[o.job](o)
        result["version"] = importlib.metadata.version(DISTRIBUTIONS[o.peer])
    except Exception as error:
        result = {"status": "error", "note": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
