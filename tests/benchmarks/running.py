"""Run one job in a fresh process: time from start to result, peak memory of its whole tree, its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence

import psutil

from tests.benchmarks.cases import ROOT


def tree_memory(process: psutil.Process) -> int:
    """Memory of a process and its descendants in bytes, shared pages counted once where the system tells."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for member in family:
        try:
            if len(family) == 1:
                total += member.memory_info().rss
            else:
                full = member.memory_full_info()
                total += getattr(full, "pss", 0) or full.rss
        except psutil.Error:
            continue
    return total


class MemoryWatch(threading.Thread):
    """Look at a tree's memory every 0.1 s (0.5 s for a family of processes, where looking is dearer)."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.seen: list[tuple[float, int]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self.stop.is_set():
            began = time.time()
            self.seen.append((began, tree_memory(self.process)))
            self.stop.wait(max(0.1, 20 * (time.time() - began)))

    def peak(self, until: float) -> int:
        """Largest sum seen up to a moment."""
        return max((size for moment, size in self.seen if moment <= until), default=0)


def end_group(process: subprocess.Popen) -> None:
    """End a process that this module started, with everything that it started."""
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()


def environment() -> dict[str, str]:
    """This process's environment, with bytecode kept: what pip installs has its own, a checkout needs it too."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_job(command: Sequence[str], timeout: float) -> dict:
    """Run a command that prints one JSON line last.

    Parameters
    ----------
    command : sequence of str
    timeout : float
        Seconds, after which the process and its descendants are ended.

    Returns
    -------
    dict
        The line, with `status` ("ok", "not installed", "error" or "over N s"), `whole` (seconds from the
        start of the process to its `done`) and `peak` (bytes).
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.time()
        try:
            process = subprocess.Popen(
                [str(word) for word in command], stdout=out, stderr=err, cwd=ROOT, start_new_session=True,
                stdin=subprocess.DEVNULL, env=environment(),
            )  # fmt: skip
        except OSError as error:
            return {"status": "error", "note": str(error)}
        watch = MemoryWatch(process.pid)
        watch.start()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return {"status": f"over {timeout:g} s"}
        finally:
            watch.stop.set()
            end_group(process)
            process.wait()
        out.seek(0)
        err.seek(0)
        lines, errors = out.read().strip().splitlines(), err.read().strip().splitlines()
    try:
        result = json.loads(lines[-1])
    except (IndexError, ValueError):
        tail = " ".join(errors[-3:])[-200:]
        return {"status": "error", "note": f"ended with code {process.returncode}: {tail}"}
    if result["status"] == "ok":
        result["whole"] = result["done"] - began
        result["peak"] = max(result["peak"], watch.peak(result["done"]))
    return result
