"""``python -m tests.odd_designs --examples N``: a long hunt; prints each fault with its design, exits with 1 on any."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import traceback
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings

from .checks import judge
from .designs import odd_designs

PATIENCE = 60  # seconds after which an example counts as a hang


def summary(outcome: str) -> str:
    """The outcome without the names and numbers of one design."""
    return re.sub(r"'[^']*'|\([^)]*\)|\d+", "_", outcome)[:80]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.odd_designs", description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    outcomes: Counter[str] = Counter()
    faults: list[str] = []

    @seed(asked.seed)
    @settings(
        max_examples=asked.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(odd_designs)
    def hunt(case):
        signal.alarm(PATIENCE)
        try:
            outcomes[summary(judge(case))] += 1
        except Exception as fault:  # whatever comes out is what is looked for
            where = traceback.extract_tb(fault.__traceback__)[-1]
            at = f"{where.filename.rsplit('/', 1)[-1]}:{where.lineno}"
            faults.append(f"{case}\n  {case.formula}\n  {type(fault).__name__} at {at}: {fault}")
            print(faults[-1], flush=True)
        finally:
            signal.alarm(0)

    def hang(*_):
        raise TimeoutError(f"no answer within {PATIENCE} seconds")

    signal.signal(signal.SIGALRM, hang)
    hunt()
    for outcome, count in outcomes.most_common():
        print(f"{count:6} {outcome}")
    print(f"{sum(outcomes.values()) + len(faults)} designs, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
