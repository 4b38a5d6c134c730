"""A fault, the process that suffers it, and what is looked at afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT = 300  # seconds after which a process hangs

OUTPUT_MARKS = ("Traceback", "Segmentation", "core dumped")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened, in a line, and whether that is good."""

    good: bool
    said: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault: `run` makes it in an empty folder. The quick ones are among the tests."""

    name: str
    run: Callable[[Path], Outcome]
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Done:
    """A process that has ended, or hung."""

    code: int | None
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line that it said."""
        lines = (self.err or self.out).strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def clean(self) -> bool:
        """Whether it ended by itself without a trace of the machinery."""
        return self.code is not None and self.code >= 0 and not any(mark in self.err for mark in OUTPUT_MARKS)


def python(
    code: str, folder: Path, *arguments: str, before: Callable[[], None] | None = None, **environment: str
) -> Done:
    """Run Python code in a folder; `before` runs in the child, to set its limits."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=environ(**environment), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=before,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=TIMEOUT)
        return Done(code=process.returncode, out=out, err=err)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return Done(code=None, out=out, err=f"{err}\nit hangs")


def environ(**more: str) -> dict[str, str]:
    """The environment of such a process, which finds this package and tests."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | more


def shell(*arguments: str) -> str:
    """Code that runs the command line with these arguments."""
    return f"import sys\nfrom bayeslmm.cli import run\nsys.argv = ['bayeslmm', *{list(arguments)!r}]\nrun()\n"


def limit(name: str, size: int) -> Callable[[], None]:
    """Set a limit of the system, such as "RLIMIT_FSIZE", in bytes."""

    def set_it() -> None:
        import resource

        resource.setrlimit(getattr(resource, name), (size, size))

    return set_it


def left(folder: Path) -> list[str]:
    """What is in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())
