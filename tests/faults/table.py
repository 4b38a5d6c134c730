"""All faults."""

from __future__ import annotations

from tests.faults import interrupts
from tests.faults.running import Fault

FAULTS: list[Fault] = [*interrupts.FAULTS]
