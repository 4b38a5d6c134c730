"""Make every fault, print a table of what happened, exit with 1 where that is bad."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.table import FAULTS


def main() -> int:
    """Run those whose name has one of the words given, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose name has one of these")
    asked = parser.parse_args().words
    bad = 0
    for fault in FAULTS:
        if asked and not any(word in fault.name for word in asked):
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            outcome = fault.run(Path(folder))
        bad += not outcome.good
        seconds = time.perf_counter() - began
        print(f"{'ok ' if outcome.good else 'BAD'}  {fault.name:<58}  {outcome.said}  ({seconds:.0f} s)", flush=True)
    print(f"{bad} bad" if bad else "All good.")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
