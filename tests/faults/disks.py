"""Disks that are full, processes that are killed while they write, bytes that flip, two who write at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.running import Fault, Outcome, environ, left, limit, python, shell

_OLD = """
import bayeslmm as blm
lmm = blm.example("heights")
lmm.save("a", lmm.ml())
"""
_NEW = _OLD.replace('lmm.save("a", lmm.ml())', 'lmm.save("a", lmm.reml(), overwrite=True)')
_LOOK = "import bayeslmm as blm; print(blm.load('a').result.method)"


def full_while_saving(folder: Path) -> Outcome:
    """Files may have no more than so many bytes: as on a full disk, a write fails in its midst."""
    said, good = [], True
    for size in (0, 300, 5_000, 100_000):
        python(_OLD, folder) if not left(folder) else None
        command = shell("fit", "heights", "--variant", "marginal", "--quiet", "--overwrite", "--out", "a")
        done = python(command, folder, before=limit("RLIMIT_FSIZE", size))
        method = python(_LOOK, folder).out.strip()
        good &= done.code == 1 and done.clean and method == "ML" and left(folder) == ["a"]
        said.append(done.last.split("/")[-1])
    return Outcome(good=good, said=f"{'; '.join(dict.fromkeys(said))} the older one stays")


def full_file_system(folder: Path) -> Outcome:
    """A file system of one megabyte, where this user may mount one."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return Outcome(good=True, said="skipped: takes root on Linux")
    place = folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True).returncode:
        return Outcome(good=True, said="skipped: nothing can be mounted here")
    try:
        python(_OLD, place)
        command = shell("fit", "heights", "--variant", "marginal", "--quiet", "--overwrite", "--out", "a",
                        "--draws", "4000")  # fmt: skip
        done = python(command, place)
        method = python(_LOOK, place).out.strip()
        good = done.code == 1 and done.clean and method == "ML" and left(place) == ["a"]
        return Outcome(good=good, said=f"exit {done.code}: {done.last}; the older one stays")
    finally:
        subprocess.run(["umount", str(place)], capture_output=True)


def full_while_predicting(folder: Path) -> Outcome:
    """Predictions as CSV."""
    python(_OLD, folder)
    done = python(shell("predict", "a", "--out", "p.csv"), folder, before=limit("RLIMIT_FSIZE", 50))
    good = done.code == 1 and done.clean and left(folder) == ["a"] and "p.csv" in done.last
    return Outcome(good=good, said=done.last)


def full_while_comparing(folder: Path) -> Outcome:
    """PyTensor writes what it compiles, before there is a report."""
    command = shell("compare", "heights", "--quiet", "--draws", "50", "--tune", "50", "--chains", "2")
    done = python(command, folder, before=limit("RLIMIT_FSIZE", 50))
    good = done.code == 1 and done.clean and not left(folder) and "compiles in" in done.last
    return Outcome(good=good, said=done.last)


_REPORT = """
import resource, bayeslmm as blm
result = blm.compare(blm.example("heights"), draws=50, tune=50, chains=2, random_seed=1, progress=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    result.report("r.html")
except (OSError, blm.BayesLMMError) as error:
    print(error)
"""


def full_while_reporting(folder: Path) -> Outcome:
    """The report, which is a page of its own."""
    done = python(_REPORT, folder)
    good = done.code == 0 and not left(folder) and "r.html" in done.out
    return Outcome(good=good, said=done.out.strip() or done.last)


def full_output(folder: Path) -> Outcome:
    """What is printed has no room."""
    if not os.path.exists("/dev/full"):
        return Outcome(good=True, said="skipped: there is no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", shell("fit", "heights", "--variant", "reml")], cwd=folder, env=environ(),
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    good = done.returncode not in (0, None) and "Traceback" not in done.stderr
    return Outcome(good=good, said=f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1][:80]}")


_KILL = """
import os, signal
calls = [0]
def fatal(call):
    def wrapped(*arguments, **options):
        calls[0] += 1
        if calls[0] == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapped
for name in ("mkdir", "fsync", "rename"):
    setattr(os, name, fatal(getattr(os, name)))
"""


def killed_while_saving(folder: Path, steps: range = range(1, 40)) -> Outcome:
    """SIGKILL at each step of writing over an older one."""
    python(_OLD, folder)
    found: dict[str, int] = {}
    for step in steps:
        done = python(_KILL.format(step=step) + _NEW, folder)
        if done.code != -signal.SIGKILL:
            break
        method = python(_LOOK, folder).out.strip()
        if not method:  # between two renames: the older one is whole beside
            beside = [name for name in left(folder) if name.endswith(".old")]
            (folder / beside[0]).rename(folder / "a")
            method = f"{python(_LOOK, folder).out.strip()} beside, as the error says"
        found[method] = found.get(method, 0) + 1
        if method == "REML":
            python(_OLD.replace("lmm.ml()", "lmm.ml(), overwrite=True"), folder)
    good = set(found) <= {"ML", "REML", "ML beside, as the error says"} and found.get("ML", 0) > 0
    return Outcome(good=good, said=f"killed at {sum(found.values())} steps; loads as {found}")


_FLIP = """
import sys, numpy as np, bayeslmm as blm
from bayeslmm.saved.folder import read_folder
from pathlib import Path
lmm = blm.example("heights")
lmm.save("a", lmm.sample(draws=200, chains=2, random_seed=1, progress=False))
rng, missed = np.random.default_rng(1), []
for k in range(300):
    path = rng.choice(sorted(Path("a").iterdir()))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(flipped)
    try:
        read_folder(Path("a"))
        missed.append(path.name)
    except blm.SavedError as error:
        missed += [] if path.name in str(error) else [str(error)]
    path.write_bytes(content)
blm.load("a")
print(missed)
"""


def flipped_bits(folder: Path) -> Outcome:
    """One bit of one file at a time."""
    done = python(_FLIP, folder)
    good = done.out.strip() == "[]"
    return Outcome(good=good, said="300 of 300 are errors that name the file" if good else done.last)


_WRITER = """
import bayeslmm as blm, sys
lmm = blm.example("heights")
for k in range(15):
    try:
        lmm.save("a", lmm.ml() if sys.argv[1] == "1" else lmm.reml(), overwrite=True)
    except blm.SavedError as error:
        print(error)
"""
_READER = """
import bayeslmm as blm, collections, pathlib
seen = collections.Counter()
while not pathlib.Path("stop").exists():
    try:
        seen[blm.load("a").result.method] += 1
    except blm.SavedError as error:
        seen["error"] += 1
print(dict(seen))
"""


def two_writers(folder: Path) -> Outcome:
    """Two processes write over the same folder while a third reads it."""
    python(_OLD, folder)
    start = [sys.executable, "-c"]
    options = {"cwd": folder, "env": environ(), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    reader = subprocess.Popen([*start, _READER], **options)  # type: ignore[call-overload]
    writers = [subprocess.Popen([*start, _WRITER, str(k)], **options) for k in (1, 2)]  # type: ignore[call-overload]
    refused = sum(len(writer.communicate(timeout=200)[0].splitlines()) for writer in writers)
    (folder / "stop").touch()
    seen, err = reader.communicate(timeout=200)
    method = python(_LOOK, folder).out.strip()
    good = method in ("ML", "REML") and reader.returncode == 0 and left(folder) == ["a", "stop"]
    return Outcome(good=good, said=f"read: {seen.strip() or err[-90:]}; {refused} of 30 saves refused; ends whole")


FAULTS = [
    Fault(name="a full disk while saving (RLIMIT_FSIZE)", run=full_while_saving),
    Fault(name="a full disk while saving (a file system of 1 MB)", run=full_file_system),
    Fault(name="a full disk while writing predictions", run=full_while_predicting),
    Fault(name="a full disk while PyTensor compiles", run=full_while_comparing),
    Fault(name="a full disk while writing a report", run=full_while_reporting),
    Fault(name="a full disk under what is printed", run=full_output, quick=True),
    Fault(name="killed while saving, at each step", run=killed_while_saving),
    Fault(name="a bit flips in a saved model", run=flipped_bits, quick=True),
    Fault(name="two processes save to one folder, a third loads it", run=two_writers),
]
