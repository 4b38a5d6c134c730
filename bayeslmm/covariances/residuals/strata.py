"""Independent rows, an SD for each stratum: the column `by` is common to all structures, here it is all there is."""

from __future__ import annotations

from bayeslmm.covariances.residuals.iid import Independent


class Strata(Independent):
    """C is the identity, R has the strata's variances."""

    name = "strata"
    text = "independent, a variance for each value of a column"
    takes = frozenset({"weights", "by"})
    needs = "by"
    stands_alone = True
