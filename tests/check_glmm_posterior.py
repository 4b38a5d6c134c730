"""``python -m tests.check_glmm_posterior``: the exact posterior against long runs of NUTS on the joint model.

Means and SDs of every parameter and random effect, in units of their Monte Carlo errors; prints a line a model, and
exits with 1 if anything differs where NUTS can be trusted. A quarter of an hour; words after it choose among the
models.
"""

from __future__ import annotations

import sys
import time
import warnings
from math import erfc, sqrt

import numpy as np

from bayeslmm.posterior.trust import ess
from tests.test_glmm import glmm

CASES = {
    "cbpp": ("cbind(incidence, healthy) ~ period + (1 | herd)", "cbpp", "binomial"),
    "toenail": ("y ~ treatment * time + (1 | patientID)", "toenail", "binomial"),
    "epil": ("y ~ trt + Visit + (1 + Visit | subject)", "epil", "poisson"),
    "grouseticks": ("TICKS ~ YEAR + cHEIGHT + (1 | LOCATION/BROOD)", "grouseticks", "poisson"),
    "salamander": ("Mate ~ Cross + (1 | Female) + (1 | Male)", "salamander", "binomial"),
    "wine": ("rating ~ temp + contact + (1 | judge)", "wine", "cumulative"),
    "sleepstudy": ("Reaction ~ Days + (1 | Subject)", "sleepstudy", "student_t"),
    "guImmun": ("y ~ kid2p + ord + rural + pcInd81 + (1 | comm)", "guImmun", "binomial"),
}
LEVEL = 0.01  # probability of a false alarm anywhere in a model


def flat(tree) -> tuple[list[str], np.ndarray]:
    """Names and draws (chain, draw, k) of all that varies."""
    names, columns = [], []
    for name, variable in tree["posterior"].data_vars.items():
        x = variable.transpose("chain", "draw", ...).values
        x = x.reshape(*x.shape[:2], -1)
        moving = np.ptp(x, axis=(0, 1)) > 0
        names += [f"{name}[{k}]" for k in np.flatnonzero(moving)]
        columns.append(x[..., moving])
    return names, np.concatenate(columns, axis=-1)


def compare(one, other) -> tuple[list[str], np.ndarray]:
    """(names, differences of means and of log SDs in Monte Carlo errors), both (2 k,)."""
    z, names = [], []
    (labels, a), (_, b) = flat(one), flat(other)
    for what, f in (("mean", lambda x: x), ("SD", lambda x: (x - x.mean(axis=(0, 1))) ** 2)):
        u, v = f(a), f(b)
        errors = [x.var(axis=(0, 1)) / np.maximum(ess(x), 1.0) for x in (u, v)]
        z.append((u.mean(axis=(0, 1)) - v.mean(axis=(0, 1))) / np.sqrt(errors[0] + errors[1]))
        names += [f"{what} of {label}" for label in labels]
    return names, np.concatenate(z)


def main() -> int:
    failed = []
    for key in sys.argv[1:] or CASES:
        model = glmm(*CASES[key])
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            exact = model.sample(draws=2000, random_seed=1, progress=False, sampler="collapsed")
            middle = time.perf_counter()
            nuts = model.sample("joint", draws=2000, random_seed=2, progress=False)
            if nuts.attrs["doubts"]:
                nuts = model.sample("joint", draws=2000, random_seed=3, progress=False, centered=True)
        last = time.perf_counter()
        names, z = compare(exact, nuts)
        worst = int(np.abs(z).argmax())
        p = min(1.0, len(z) * erfc(abs(z[worst]) / sqrt(2)))
        print(
            f"{key:12} {exact.attrs['integration']}; k {exact.attrs['pareto_k']:.2f}, acceptance "
            f"{exact.attrs['acceptance_rate']:.2f}; {len(z)} numbers, worst {z[worst]:+.1f} MC errors "
            f"({names[worst]}), corrected p {p:.2g}, root mean square {np.sqrt(np.mean(z**2)):.2f}; "
            f"{middle - began:.0f} s and {last - middle:.0f} s. "
            f"{nuts.attrs['doubts'] and 'NUTS: '}{nuts.attrs['doubts']}",
            flush=True,
        )
        if p < LEVEL and not nuts.attrs["doubts"]:
            failed.append(key)
    print(f"FAIL: {', '.join(failed)}" if failed else "all equal")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
