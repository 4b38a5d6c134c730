"""Processes with too little memory, without a home, that share a cache, fork, run long or in many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.faults.running import Done, Fault, Outcome, environ, left, limit, python, shell

_FIT = 'import bayeslmm as blm\nprint(blm.example("heights").reml().loglik)\n'


def _word(done: Done) -> str:
    """What kind of end it was."""
    if done.code == 0:
        return "done"
    if done.code is None:
        return "hangs"
    if done.code < 0 or done.code > 128:
        return f"ended by signal {abs(done.code) % 128}"
    if "Traceback" in done.err:
        return done.last[:100]
    if "OpenBLAS error: Memory allocation" in done.err:
        return "OpenBLAS says so and ends"
    return "an error says so" if "bayeslmm: " in done.last else done.last


_SAID = {"done", "an error says so", "OpenBLAS says so and ends"}


def little_memory(megabytes: tuple[int, ...], variants: tuple[str, ...]) -> Fault:
    """`ulimit -v` of several sizes: it works, or says that memory ran out."""

    def run(folder: Path) -> Outcome:
        words: Counter[str] = Counter()
        for variant in variants:
            for size in megabytes:
                command = shell("fit", "heights", "--variant", variant, "--quiet", "--draws", "50", "--tune", "50",
                                "--overwrite", "--out", "a")  # fmt: skip
                done = python(command, folder, before=limit("RLIMIT_AS", size * 1_000_000))
                words[_word(done)] += 1
        listed = ", ".join(f"{word} ({times})" for word, times in words.most_common())
        return Outcome(good=set(words) <= _SAID and set(left(folder)) <= {"a"}, said=listed)

    return Fault(name=f"an address space of {megabytes[0]} to {megabytes[-1]} MB: {', '.join(variants)}", run=run)


def full_while_caching(folder: Path) -> Outcome:
    """Kernels that can't be kept are used all the same."""
    done = python(_FIT, folder, before=limit("RLIMIT_FSIZE", 100_000), NUMBA_CACHE_DIR=str(folder / "cache"))
    files = [path for path in (folder / "cache").rglob("*") if path.is_file()]
    good = done.code == 0 and done.out == python(_FIT, folder).out and not files
    return Outcome(good=good, said=f"the right answer; {done.last[:70]}...")


def damaged_cache(folder: Path) -> Outcome:
    """Machine code with a flipped bit isn't run, but compiled again."""
    cache = {"NUMBA_CACHE_DIR": str(folder / "cache")}
    python(_FIT, folder, **cache)
    (kept,) = (folder / "cache").rglob("*.nbc")
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
    done = python(_FIT, folder, **cache)
    good = done.out == python(_FIT, folder).out and "compiles its kernels" in done.err
    return Outcome(good=good, said="compiled again" if good else done.last)


def shared_cache(folder: Path) -> Outcome:
    """Two processes begin at once with an empty cache, with other kernels each; then a third."""
    cache = str(folder / "cache")
    other = _FIT.replace("heights", "penicillin")
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environ(NUMBA_CACHE_DIR=cache), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for code in (_FIT, other, _FIT)
    ]  # fmt: skip
    outs = [process.communicate(timeout=280)[0] for process in started]
    wanted = [python(code, folder).out for code in (_FIT, other, _FIT)]
    later = [python(code, folder, NUMBA_CACHE_DIR=cache) for code in (_FIT, other)]
    good = outs == wanted and [one.out for one in later] == wanted[:2] and not any(one.err for one in later)
    return Outcome(good=good, said="the right answers; a later process compiles nothing" if good else later[0].last)


def no_home(folder: Path) -> Outcome:
    """A home that can't be written (/dev/null, which nobody can), and no cache of numba's either."""
    homeless = {"HOME": os.devnull, "NUMBA_CACHE_DIR": f"{os.devnull}/cache", "PYTENSOR_FLAGS": ""}
    homeless |= {"XDG_CACHE_HOME": f"{os.devnull}/x", "XDG_CONFIG_HOME": f"{os.devnull}/x", "MPLCONFIGDIR": ""}
    words = []
    for variant in ("reml", "marginal", "joint"):
        command = shell("fit", "heights", "--variant", variant, "--quiet", "--draws", "50", "--tune", "50")
        words.append(_word(python(command, folder, **homeless)))
    good = set(words) == {"done"} and len(left(folder)) == 3
    return Outcome(good=good, said=f"reml, marginal, joint: {', '.join(words)}")


_FORK = """
import os, time, signal, warnings
import bayeslmm as blm
lmm = blm.example("sleepstudy")
variants = {variants!r}
options = dict(draws=50, tune=50, chains=2, random_seed=1, progress=False)
lmm.reml()
mine = [lmm.sample(variant, **options)["posterior"] for variant in variants]

def child():
    assert blm.example("sleepstudy").reml().loglik == lmm.reml().loglik
    for variant, tree in zip(variants, mine):
        assert lmm.sample(variant, **options)["posterior"].identical(tree)

pid = os.fork()
if pid == 0:
    try:
        child()
        os._exit(0)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
for _ in range(1200):
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        print("code", os.waitstatus_to_exitcode(status))
        break
    time.sleep(0.1)
else:
    os.kill(pid, signal.SIGKILL)
    print("hangs")
"""


def forked(variants: tuple[str, ...]) -> Fault:
    """A process that has fitted and sampled forks, and the child does the same."""

    def run(folder: Path) -> Outcome:
        done = python(_FORK.format(variants=variants), folder)
        good = done.out.strip() == "code 0"
        return Outcome(good=good, said="the same numbers in the child" if good else f"{done.out.strip()} {done.last}")

    return Fault(name=f"fork after a fit: {', '.join(variants)}", run=run, quick=variants == ("marginal",))


_MANY = """
import numpy as np, resource, bayeslmm as blm
rng = np.random.default_rng(1)
def size():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
for k in range({fits}):
    data = {{"y": rng.normal(size=200), "x": rng.normal(size=200), "g": np.arange(200) % 20}}
    lmm = blm.LMM("y ~ x + (x | g)", data)
    lmm.ml(), lmm.reml()
    if k % 10 == 0:
        lmm.sample(draws=50, chains=2, random_seed=1, progress=False)
    if k == {fits} // 5:
        before = size()
print(size() - before)
"""


def many_fits(folder: Path) -> Outcome:
    """A thousand models, each fitted twice, every tenth sampled."""
    if not os.path.exists("/proc/self/statm"):
        return Outcome(good=True, said="skipped: no /proc")
    done = python(_MANY.format(fits=1000), folder)
    grown = float(done.out or "inf")
    return Outcome(good=grown < 20, said=f"the last 800 took {grown:.1f} MB more")


_THREADS = """
import threading, bayeslmm as blm
names = ["sleepstudy", "pastes", "heights", "dyestuff", "penicillin", "orthodont", "flock", "cake"][:{threads}]
def work(name, out):
    lmm = blm.example(name)
    tree = lmm.sample(draws=50, chains=2, random_seed=1, progress=False)
    out[name] = lmm.ml().loglik, lmm.reml().loglik, tree["posterior"].to_dataset()
together, alone = {{}}, {{}}
threads = [threading.Thread(target=work, args=(name, together)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in names:
    work(name, alone)
same = [a[:2] == b[:2] and a[2].identical(b[2]) for a, b in ((alone[n], together.get(n, (0, 0, None))) for n in names)]
print(sum(same), "of", len(names))
"""


def threads(count: int) -> Fault:
    """As many models at once as there are threads."""

    def run(folder: Path) -> Outcome:
        done = python(_THREADS.format(threads=count), folder)
        good = done.out.strip() == f"{count} of {count}"
        return Outcome(
            good=good, said=f"{done.out.strip()} give the numbers that they give alone" if good else done.last
        )

    return Fault(name=f"{count} threads at once", run=run, quick=count == 4)


_SIZES = (250, 450, 600, 720, 780, 850, 900, 1000, 1200, 1500, 1800, 1850, 1900, 2200, 2600, 3500)
FAULTS = [
    little_memory(_SIZES, ("reml", "marginal")),
    little_memory(_SIZES[5:], ("joint",)),
    Fault(name="a full disk while caching kernels", run=full_while_caching),
    Fault(name="a bit flips in the kernels' cache", run=damaged_cache),
    Fault(name="three processes share an empty cache of kernels", run=shared_cache),
    Fault(name="a home that cannot be written", run=no_home),
    forked(("marginal",)),
    forked(("marginal", "joint")),
    Fault(name="a thousand fits in one process", run=many_fits),
    threads(4),
    threads(8),
]
