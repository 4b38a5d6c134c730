"""bayeslmm and every peer that is installed, side by side: `python -m tests.benchmarks.peers`.

Every row is a fresh process; they run in turn, never at once. Posteriors have the same priors where the peer
can express them, and one diagnosis (ArviZ) judges the draws of all. A peer that is missing, fails or takes
too long has a row that says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.cases import CASES, WARM_UP, Case, brms_priors, rstanarm_priors
from tests.benchmarks.diagnosis import diagnose
from tests.benchmarks.running import run_job
from tests.benchmarks.tables import machine, number, preamble, table, times

HERE = Path(__file__).parent
BAYES = ("bayeslmm", "nutpie", "bambi", "rstanarm", "brms")
LIKELIHOOD = ("bayeslmm", "lme4", "mixedlm", "lme-python")
IN_R = ("rstanarm", "brms", "lme4")
SHORT = 1e-3  # how far below the maximum a log-likelihood may stop
SMALL = ("heights", "sleepstudy", "penicillin", "pastes")
Results = dict[tuple[str, ...], dict]


def say(text: str) -> None:
    """Report progress beside the tables."""
    print(text, file=sys.stderr, flush=True)


def python(job: str, peer: str, case: Case, *flags: object) -> list[str]:
    """Command of a worker in Python."""
    return [sys.executable, "-m", "tests.benchmarks.workers", job, peer, case.name, *map(str, flags)]


def r_script(script: str, **settings: object) -> list[str]:
    """Command of a worker in R."""
    words = [f"{key}={value}" for key, value in settings.items()]
    return ["Rscript", "--vanilla", str(HERE / script), *words]


# jobs ---------------------------------------------------------------------------------------------


def posterior(peer: str, case: Case, o: argparse.Namespace, draws: int, tune: int) -> dict:
    """Run one posterior and diagnose its draws."""
    with tempfile.TemporaryDirectory() as folder:
        if peer in IN_R:
            if shutil.which("Rscript") is None:
                return {"status": "not installed"}
            out = Path(folder) / "draws.bin"
            try:
                lmm = case.lmm(case.load())
                priors = (rstanarm_priors if peer == "rstanarm" else brms_priors)(lmm)
            except (ValueError, OSError) as error:
                return {"status": "error", "note": str(error)}
            command = r_script(
                "posterior.R", package=peer, table=case.table, formula=case.formula,
                groups=",".join(case.groups), draws=draws, tune=tune, chains=o.chains, seed=o.seed, out=out,
                **priors,
            )  # fmt: skip
            note = "same priors; SDs of effects: decov" if peer == "rstanarm" else "same priors"
        else:
            out = Path(folder) / "draws.npy"
            settings = {"draws": draws, "tune": tune, "chains": o.chains, "seed": o.seed, "out": out}
            flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
            command = python("posterior", peer, case, *flags)
            note = ""
        result = run_job(command, o.timeout)
        if result["status"] != "ok":
            return result
        names = result.pop("names")
        if out.suffix == ".npy":
            columns = np.load(out)
        else:
            columns = np.fromfile(out).reshape(len(names), o.chains, draws).transpose(1, 2, 0)
        result.setdefault("note", note)
        return result | diagnose(names, columns)


def likelihood(peer: str, case: Case, o: argparse.Namespace, reml: bool, cold: bool) -> dict:
    """Run one ML or REML job."""
    if peer in IN_R:
        if shutil.which("Rscript") is None:
            return {"status": "not installed"}
        command = r_script(
            "lme4.R", table=case.table, formula=case.formula, groups=",".join(case.groups), reml=int(reml),
            cold=int(cold), repeats=o.repeats, budget=o.budget, warm_table=WARM_UP.table,
            warm_formula=WARM_UP.formula, warm_groups=",".join(WARM_UP.groups),
        )  # fmt: skip
    else:
        flags = [*(["--reml"] if reml else []), *(["--cold"] if cold else [])]
        command = python("likelihood", peer, case, "--repeats", o.repeats, "--budget", o.budget, *flags)
    return run_job(command, o.timeout)


def warm(case: Case, o: argparse.Namespace) -> dict:
    """Time the posterior of bayeslmm in process."""
    flags = ("--chains", o.chains, "--repeats", o.repeats, "--budget", o.budget, "--seed", o.seed)
    limit = 3 * o.timeout  # several sizes are tried
    return run_job(python("warm", "bayeslmm", case, *flags, "--timeout", limit), limit)


def middle(job: Callable[[], dict], repeats: int) -> dict:
    """Repeat a job; the run whose whole time is in the middle, or the first that isn't ok."""
    runs = []
    for _ in range(repeats):
        result = job()
        if result["status"] != "ok":
            return result
        runs.append(result)
    return sorted(runs, key=lambda run: run["whole"])[(len(runs) - 1) // 2]


def keep(results: Results, facts: dict[str, str], path: Path | None) -> None:
    """Write the results so far."""
    if path:
        rows = [{"job": key[0], "case": key[1], "package": key[2], **r} for key, r in results.items()]
        path.write_text(json.dumps({**facts, "results": rows}, indent=1))


def measure(o: argparse.Namespace, facts: dict[str, str], results: Results) -> None:
    """Run everything that was asked for, in turn, adding to the results."""
    for name in o.cases:
        keep(results, facts, o.json)
        case = CASES[name]
        if not case.table.exists():
            say(f"{name}: no data at {case.table.relative_to(HERE.parents[1])}")
            missing = {"status": "error", "note": f"no data at {case.table.relative_to(HERE.parents[1])}"}
            results |= {("posterior", name, peer): missing for peer in BAYES if peer in o.peers}
            continue
        if "likelihood" in o.tables:
            for peer in (peer for peer in LIKELIHOOD if peer in o.peers):
                for method in ("ml", "reml"):
                    say(f"{name}: {method} by {peer}")
                    results[method, name, peer] = likelihood(peer, case, o, method == "reml", cold=False)
                if results["ml", name, peer]["status"] == "ok":
                    results["cold", name, peer] = likelihood(peer, case, o, reml=False, cold=True)
        if "warm" in o.tables and "bayeslmm" in o.peers:
            say(f"{name}: posterior in process")
            results["warm", name, "bayeslmm"] = warm(case, o)
        if "posterior" in o.tables:
            for peer in (peer for peer in BAYES if peer in o.peers):
                if peer not in IN_R and not o.no_warm_up:
                    say(f"{name}: first run of {peer}, to fill its caches")
                    first = posterior(peer, case, o, 20, 20)
                    if first["status"].startswith("over"):  # what 20 draws did not do, more will not
                        results["posterior", name, peer] = first
                        continue
                say(f"{name}: posterior by {peer}")
                results["posterior", name, peer] = middle(
                    lambda peer=peer, case=case: posterior(peer, case, o, o.draws, o.tune), o.runs
                )
    keep(results, facts, o.json)


# tables -------------------------------------------------------------------------------------------


def ratio(a: float | None, b: float | None) -> float | None:
    """A / b where both are there."""
    return a / b if a is not None and b else None


def words(result: dict) -> str:
    """Say why a row has no numbers: its status, and what the package said."""
    note = result.get("note", "")
    return f"{result['status']}: {note}" if result["status"] == "error" and note else result["status"]


def per_second(result: dict | None) -> float | None:
    """Min ESS per second of the whole process."""
    return ratio(result.get("min_ess"), result.get("whole")) if result else None


def posterior_table(results: Results, o: argparse.Namespace) -> str:
    """Make the table of whole processes."""
    rows = []
    for (kind, case, peer), r in results.items():
        if kind != "posterior":
            continue
        if r["status"] != "ok":
            rows.append([case, peer, *[""] * 9, words(r)])
            continue
        own = results.get(("posterior", case, "bayeslmm"), {})
        rows.append([
            case, peer, number(r["whole"]), number(r["seconds"]), number(r["min_ess"]), number(per_second(r)),
            f"{r['divergences']}", f"{r['max_rhat']:.4f}", f"{r['peak'] / 1e6:,.0f}",
            times(ratio(r["whole"], own.get("whole"))), times(ratio(per_second(own), per_second(r))),
            r["note"],
        ])  # fmt: skip
    header = ["case", "package", "whole, s", "in process, s", "min ESS", "ESS/s", "divergences", "max R-hat",
              "peak MB", "time ratio", "ESS/s ratio", "note"]  # fmt: skip
    return table(
        f"Posterior, {o.chains} x {o.draws:,} kept draws", header, rows,
        ["Whole: from the start of the process to the draws in memory, import included"
         + ("" if o.no_warm_up else ", second run")
         + "; in process: from formula and loaded data to the draws.",
         "ESS: bulk, the least over all parameters and random effects; ESS/s by the whole time. Ratios: how "
         "many times the time of bayeslmm a peer takes, and how many times its ESS/s bayeslmm has."],
    )  # fmt: skip


def likelihood_table(results: Results) -> str:
    """Make the table of ML and REML."""
    rows = []
    for (kind, case, peer), ml in results.items():
        if kind != "ml":
            continue
        reml = results.get(("reml", case, peer), {"status": "not run"})
        cold = results.get(("cold", case, peer), {})
        cells: list[str] = []
        gaps: list[str] = []
        for method, r in (("ml", ml), ("reml", reml)):
            own = results.get((method, case, "bayeslmm"), {})
            both = "loglik" in r and "loglik" in own
            gaps.append(number(r["loglik"] - own["loglik"], 2) if both else "")
            cells.append(number(1000 * r["seconds"]) if r["status"] == "ok" else words(r))
            cells.append(times(ratio(r.get("seconds"), own.get("seconds"))))
        own = results.get(("cold", case, "bayeslmm"), {})
        peak = f"{cold['peak'] / 1e6:,.0f}" if cold.get("peak") else ""
        rows.append([
            case, peer, *cells,
            number(cold.get("whole")), times(ratio(cold.get("whole"), own.get("whole"))), peak,
            f"{ml['loglik']:.4f}" if "loglik" in ml else "", *gaps,
        ])  # fmt: skip
    header = ["case", "package", "ML, ms", "ratio", "REML, ms", "ratio", "whole ML, s", "ratio", "peak MB",
              "ML log-lik", "ML diff", "REML diff"]  # fmt: skip
    return table(
        "ML and REML, formula to fit", header, rows,
        ["ML, REML: from formula and loaded data to the fit, in a process that has fitted another model "
         "before; median. Whole: a process that makes one ML fit, import included.",
         "Ratio: how many times the time of bayeslmm. Diff: its log-likelihood minus that of bayeslmm."],
    )  # fmt: skip


def warm_table(results: Results) -> str:
    """Make the table of posteriors in process against lme4's point estimate."""
    rows = []
    for (kind, case, peer), r in results.items():
        if kind != "warm":
            continue
        if r["status"] != "ok":
            rows.append([case, *[""] * 7, words(r)])
            continue
        ml = {who: results.get(("ml", case, who), {}) for who in ("lme4", "bayeslmm")}
        rows.append([
            case, number(1000 * r["seconds"]), number(r["draws"]), number(r["min_ess"]),
            f"{r['target']}" + ("" if r["reached"] else " (missed)"),
            number(1000 * ml["lme4"]["seconds"]) if "seconds" in ml["lme4"] else ml["lme4"].get("status", ""),
            times(ratio(r["seconds"], ml["lme4"].get("seconds"))),
            times(ratio(ml["lme4"].get("seconds"), ml[peer].get("seconds"))), r["note"],
        ])  # fmt: skip
    header = ["case", "posterior, ms", "draws", "min ESS", "ESS asked", "lme4 ML, ms", "posterior / lme4 ML",
              "lme4 ML / own ML", "note"]  # fmt: skip
    return table(
        "A full posterior, random effects included, against lme4's point estimate, in process", header, rows,
        ["Posterior: formula and loaded data to the draws in a warm process, at the smallest number of draws "
         "tried whose min ESS reaches what is asked, in every repeat; median time."],
    )  # fmt: skip


def goals_table(results: Results) -> str:
    """Set each figure to reach beside what was reached; a figure without its measurements has no row."""
    rows: list[list[str]] = []

    def goal(case: str, text: str, value: float | None, met: Callable[[float], bool], unit: str = " x") -> None:
        if value is not None:
            rows.append([case, text, f"{number(value)}{unit}", "yes" if met(value) else "NO"])

    for case in dict.fromkeys(key[1] for key in results):

        def got(kind: str, peer: str, case: str = case) -> dict:
            return results.get((kind, case, peer), {})

        own, ml, reml, chain = (got(kind, "bayeslmm") for kind in ("posterior", "ml", "reml", "warm"))
        fast = got("ml", "lme4").get("seconds")
        if case in SMALL:
            for peer, faster, richer in (("bambi", 10, 50), ("rstanarm", 3, 10)):
                other = got("posterior", peer)
                gain = ratio(other.get("whole"), own.get("whole"))
                text = f"whole process: at least {faster} x less time than {peer}"
                goal(case, text, gain, lambda v, least=faster: v >= least)
                gain = ratio(per_second(own), per_second(other))
                goal(case, f"at least {richer} x the ESS/s of {peer}", gain, lambda v, least=richer: v >= least)
            rhat = own.get("max_rhat")
            goal(case, "no divergences", own.get("divergences"), lambda v: v == 0, "")
            goal(case, "R-hat - 1 < 0.01", rhat - 1 if rhat else None, lambda v: v < 0.01, "")
            goal(case, "min ESS > 1000", own.get("min_ess"), lambda v: v > 1000, "")
        text = f"posterior of min ESS {chain.get('target')}"
        if chain.get("reached"):
            if case in SMALL:
                goal(case, f"{text} in at most 3 x lme4's ML", ratio(chain["seconds"], fast), lambda v: v <= 3)
            elif case == "chem97":
                goal(case, f"{text} in under 10 s", chain["seconds"], lambda v: v < 10, " s")
            else:
                goal(case, f"{text} in less than lme4's ML", ratio(chain["seconds"], fast), lambda v: v < 1)
        elif chain:
            reached = f"ESS {number(chain['min_ess'])}" if "min_ess" in chain else words(chain)
            rows.append([case, text, reached, "NO"])
        if case == "insteval":
            gain = ratio(fast, ml.get("seconds"))
            goal(case, "ML at least 10 x faster than lme4's", gain, lambda v: v >= 10)
        for method, mine in (("ml", ml), ("reml", reml)):
            others = {p: got(method, p) for p in LIKELIHOOD[1:] if "seconds" in got(method, p)}
            for best in sorted(others, key=lambda p, others=others: others[p]["seconds"]):
                short = mine.get("loglik", others[best]["loglik"]) - others[best]["loglik"]
                far = f" (its log-likelihood is {number(short, 2)} below the maximum)" if short > SHORT else ""
                text = f"{method.upper()} at least as fast as the fastest peer, here {best}{far}"
                goal(case, text, ratio(others[best]["seconds"], mine.get("seconds")), lambda v: v >= 1)
                if not far:
                    break
    return table("Figures to reach", ["case", "figure", "reached", "met"], rows)


def versions(results: Results) -> str:
    """Versions of the packages compared, or that they are not installed."""
    found: dict[str, str] = {}
    for key, r in results.items():
        peer = key[2]
        text = r.get("version") or ("not installed" if r["status"] == "not installed" else "")
        if text and peer != "bayeslmm":
            found[peer] = text
    return ", ".join(f"{peer} {text}" for peer, text in found.items())


def main() -> None:
    """Measure, print, and keep the results if asked to."""
    everyone = tuple(dict.fromkeys(BAYES + LIKELIHOOD))
    p = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    p.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE",
                   help=f"of {', '.join(CASES)} (all)")  # fmt: skip
    p.add_argument("--peers", nargs="+", default=list(everyone), choices=everyone, metavar="PEER",
                   help=f"of {', '.join(everyone)} (all); bayeslmm always runs")  # fmt: skip
    p.add_argument("--tables", nargs="+", default=["likelihood", "warm", "posterior"],
                   choices=("likelihood", "warm", "posterior"))  # fmt: skip
    p.add_argument("--draws", type=int, default=1000, help="kept draws per chain (1000)")
    p.add_argument("--tune", type=int, default=1000, help="tuning draws per chain of samplers that tune (1000)")
    p.add_argument("--chains", type=int, default=4)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--timeout", type=float, default=300.0, help="seconds for a process (300)")
    p.add_argument("--runs", type=int, default=1, help="processes per posterior, the middle one counts (1)")
    p.add_argument("--repeats", type=int, default=7, help="fits in process, the median counts (7)")
    p.add_argument("--budget", type=float, default=5.0, help="seconds after which nothing is repeated (5)")
    p.add_argument("--no-warm-up", action="store_true", help="no first run to fill the caches of Python")
    p.add_argument("--json", type=Path, help="where to keep the results")
    o = p.parse_args()
    o.peers = ["bayeslmm", *o.peers]
    facts = machine()
    results: Results = {}
    try:
        measure(o, facts, results)
    except KeyboardInterrupt:
        say("interrupted: the tables show what was measured until then")
    facts["peers"] = versions(results)
    facts = {key: value for key, value in facts.items() if value}
    print(preamble(facts))
    if "posterior" in o.tables:
        print(posterior_table(results, o))
    if "warm" in o.tables:
        print(warm_table(results))
    if "likelihood" in o.tables:
        print(likelihood_table(results))
    print(goals_table(results))
    keep(results, facts, o.json)


if __name__ == "__main__":
    main()
