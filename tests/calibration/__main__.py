"""``python -m tests.calibration``: the full calibration; prints a table, and exits with 1 if anything fails."""

from __future__ import annotations

import argparse
import sys
import time

from .fits import PATHS, calibrate, judge
from .link_studies import LINK_STUDIES
from .studies import STUDIES

ALL = STUDIES | LINK_STUDIES

FITS = {"collapsed": 1000, "joint": 100, "nuts": 100}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.calibration", description=__doc__)
    parser.add_argument("--fits", type=int, help="fits of each model on each path (1,000 collapsed, 100 by NUTS)")
    parser.add_argument("--models", nargs="+", choices=ALL, default=list(ALL), metavar="MODEL")
    parser.add_argument("--path", nargs="+", choices=PATHS, default=list(PATHS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--level", type=float, default=0.01, help="probability of a false alarm anywhere")
    asked = parser.parse_args()
    done = []
    for path in asked.path:
        for name in asked.models:
            began = time.perf_counter()
            one = calibrate(ALL[name], path, asked.fits or FITS[path], asked.seed)
            done.append(one)
            worst = one.table().sort_values("p").iloc[0]
            print(
                f"{path:9} {name:9} {worst['fits']} fits, {one.doubted} doubted by the sampler, smallest p of "
                f"{len(one.ranks)}: {worst['p']:.2g} ({worst['quantity']}), {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    table = judge(done, asked.level)
    print(table.to_string(index=False, float_format="{:.3g}".format))
    failed = table[~table["passes"]]
    print(
        f"\n{len(table)} quantities, smallest corrected p {table['corrected'].min():.2g}: "
        + (f"{len(failed)} FAIL at {asked.level:g}" if len(failed) else f"all pass at {asked.level:g}")
    )
    return 1 if len(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
