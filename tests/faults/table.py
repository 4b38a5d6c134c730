"""All faults."""

from __future__ import annotations

from tests.faults import disks, interrupts, processes
from tests.faults.running import Fault

FAULTS: list[Fault] = [*interrupts.FAULTS, *disks.FAULTS, *processes.FAULTS]
