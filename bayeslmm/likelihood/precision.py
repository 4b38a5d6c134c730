"""How far rounding may move the criterion: what is left of double precision next to a perfect fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.factorisation.factor import factorise_statistics
from bayeslmm.likelihood.criterion import Criterion

EPS = float(np.finfo(float).eps)
LARGE = 1e3  # relative SDs, on the kernels' basis, up to which ten digits are left
TIMES = 4


def rounding(criterion: Criterion, phi: np.ndarray) -> float:
    """Largest change of the criterion at phi as every cross-product and factor changes by one unit in its last place.

    Up to relative SDs of `LARGE` it is not looked for, and 0. Where the likelihood is a small difference of large
    numbers, changes of this size are those that rounding has made already: in products, and in every step since.

    Source: Vignes (1993) for random rounding as a measure of what rounding leaves.
    """
    lam = criterion.lams(phi[None])[0]
    if np.abs(lam).max(initial=0.0) < LARGE:
        return 0.0
    stats, rng = criterion.stats.at(criterion.psi(phi)), np.random.default_rng(1)

    def near(A: np.ndarray) -> np.ndarray:
        return A * (1 + EPS * rng.choice([-1.0, 1.0], A.shape))

    own, largest = criterion.at(phi), 0.0
    for _ in range(TIMES):
        st, WtW = stats.layout, np.triu(near(stats.WtW))
        other = replace(
            stats,
            layout=replace(st, zz=near(st.zz), zz_tail=near(st.zz_tail), zt=near(st.zt)),
            ZtW=near(stats.ZtW),
            WtW=WtW + np.triu(WtW, 1).T,
        )
        factor = factorise_statistics(other, near(lam))
        value = criterion.value(factor, phi)[0] if criterion.sane(factor) else np.inf
        largest = max(largest, abs(value - own))
    return largest
