"""Ctrl-C at each stage of the command line: exit code 130, a word, and finished draws kept or nothing at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults.running import Fault, Outcome, environ, left, python, shell


@dataclass(frozen=True, kw_only=True)
class Stage:
    """When SIGINT comes: on the nth call of a function, or so many seconds after it."""

    function: str
    variant: str = "marginal"
    nth: int = 1
    seconds: float = 0.0
    draws: int = 50


STAGES = {
    "reading": Stage(function="bayeslmm.description.model_file:read_csv", variant="reml"),
    "making the design": Stage(function="bayeslmm.lmm:build_design", variant="reml"),
    "making cross-products": Stage(function="bayeslmm.model:build_statistics", variant="reml"),
    "fitting by ML": Stage(function="bayeslmm.model:fit_likelihood", variant="ml"),
    "adapting the collapsed sampler": Stage(function="bayeslmm.posterior.independence:weigh"),
    "drawing by the collapsed sampler": Stage(
        function="bayeslmm.posterior.collapsed:CollapsedPosterior.evaluate_with_effects", nth=3, draws=50_000
    ),
    "completing the effects": Stage(function="bayeslmm.posterior.collapsed_sampler:complete_effects"),
    "summarising": Stage(function="bayeslmm.comparison.comparison:compare_posteriors"),
    "saving": Stage(function="os:fsync"),
    "moving what was saved": Stage(function="os:rename"),
    "compiling for NUTS": Stage(function="nutpie:compile_pymc_model", variant="joint"),
    "drawing by NUTS": Stage(function="nutpie:sample", variant="joint", seconds=1.5, draws=200_000),
}
FINISHED = {"summarising", "saving", "moving what was saved"}  # all draws are there, and are saved
QUICK = {"reading"}

_STOP = """
import importlib, os, signal, threading
module, path = {stage.function!r}.split(":")
*owners, name = path.split(".")
target = importlib.import_module(module)
for owner in owners:
    target = getattr(target, owner)
real, calls = getattr(target, name), []

def stop(*arguments, **options):
    calls.append(1)
    if len(calls) == {stage.nth}:
        if {stage.seconds}:
            threading.Timer({stage.seconds}, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            os.kill(os.getpid(), signal.SIGINT)
    return real(*arguments, **options)

setattr(target, name, stop)
"""


def interrupted(stage: str) -> Fault:
    """Ctrl-C in a stage."""
    how = STAGES[stage]
    variant = how.variant

    def run(folder: Path) -> Outcome:
        numbers = ["--draws", str(how.draws), "--tune", "100", "--chains", "2", "--seed", "1"]
        command = shell("fit", "heights", "--variant", variant, "--quiet", *numbers)
        done = python(_STOP.format(stage=how) + command, folder)
        files = left(folder)
        said = f"exit {done.code}: {done.last[:90]}"
        good = done.code == 130 and done.clean
        if stage in FINISHED:
            good &= files == [f"heights-{variant}"]
        if not files:
            return Outcome(good=good, said=f"{said}; nothing left")
        look = "import bayeslmm as blm, sys; print(repr(blm.load(sys.argv[1])))"
        loaded = python(look, folder, files[0])
        partial = files == [f"heights-{variant}-partial"] and "partial posterior" in loaded.out
        good &= partial or (files == [f"heights-{variant}"] and f"{how.draws} draws" in loaded.out)
        return Outcome(good=good, said=f"{said}; {files[0]} loads as {loaded.out.strip().split(', ')[-1]}")

    return Fault(name=f"Ctrl-C while {stage}", run=run, quick=stage in QUICK)


def at_any_moment(folder: Path) -> Outcome:
    """At twenty moments of the first two seconds, imports among them."""
    ends: Counter[str] = Counter()
    for k in range(20):
        command = shell("fit", "heights", "--variant", "marginal", "--quiet", "--out", f"a{k}", "--draws", "20000")
        process = subprocess.Popen(
            [sys.executable, "-c", command], cwd=folder, env=environ(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(0.1 * (k + 2))
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=100)[1]
        ends[f"exit {process.returncode}" + (", traceback" if "Traceback" in err else "")] += 1
    hidden = [name for name in left(folder) if name.startswith(".")]
    good = set(ends) <= {"exit 130", "exit 0"} and not hidden
    loaded = [python(f"import bayeslmm as blm; blm.load({name!r})", folder).code for name in left(folder)]
    return Outcome(good=good and not any(loaded), said=f"{dict(ends)}; {len(loaded)} saved, which load")


FAULTS = [interrupted(stage) for stage in STAGES]
FAULTS.append(Fault(name="Ctrl-C at any moment", run=at_any_moment))
