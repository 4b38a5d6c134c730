"""Progress of long work, in a terminal or a notebook; silent while the work is short."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

DELAY = 1.0  # seconds before anything is shown

_ready: dict[str, float] = {}  # seconds that making each kernel ready took, from the disk or by compiling


@contextmanager
def first_use(kernel: str) -> Iterator[None]:
    """Around the first call of a kernel: time what making it ready takes, and say so where it has to be compiled.

    Examples
    --------
    >>> with first_use("example"):
    ...     pass
    """
    if kernel in _ready:
        yield
        return
    from numba.core import event

    locked = event.TimingListener()
    with event.install_listener("numba:compile", _notice()), event.install_listener("numba:compiler_lock", locked):
        yield
    _ready[kernel] = locked.duration if locked.done else 0.0


def seconds_readying() -> float:
    """Seconds that this process has spent on making kernels ready."""
    return sum(_ready.values())


def _notice() -> Any:
    """Make a listener to numba that says once that kernels are being compiled, when that begins and not before."""
    from numba.core.event import Listener

    class Notice(Listener):
        said = False

        def on_start(self, event: Any) -> None:
            if not self.said:
                print("bayeslmm compiles its kernels, once per installation (under a minute) ...", file=sys.stderr)
                self.said = True

        def on_end(self, event: Any) -> None:
            pass

    return Notice()


class Progress:
    """Says which stage is running and how far it is; nothing is printed in the first second.

    Examples
    --------
    >>> with Progress(enabled=False) as progress:
    ...     progress.stage("drawing", 10)
    ...     progress.advance(5)
    """

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self._began = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._name, self._total, self._done = "", 1, 0

    def stage(self, name: str, total: int = 1) -> None:
        """Begin a stage of `total` steps."""
        self._name, self._total, self._done = name, max(total, 1), 0
        self._show()

    def advance(self, steps: int = 1) -> None:
        """Report that `steps` more steps are done."""
        self._done += steps
        self._show()

    def _show(self) -> None:
        if not self.enabled or time.monotonic() - self._began < DELAY:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), console=Console(file=sys.stderr), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=self._total)
        self._bar.update(self._task, description=self._name, total=self._total, completed=self._done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
