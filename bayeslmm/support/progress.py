"""Progress of long work, in a terminal or a notebook; silent while the work is short."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

DELAY = 1.0  # seconds before anything is shown


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
