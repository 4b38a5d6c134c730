"""Families as the kernels know them."""

from __future__ import annotations

from bayeslmm.factorisation.kernels import outcomes
from bayeslmm.families.family import Family

CODES: dict[tuple[str, str], int] = {
    ("binomial", "logit"): outcomes.LOGIT,
    ("binomial", "probit"): outcomes.PROBIT,
    ("binomial", "cloglog"): outcomes.CLOGLOG,
    ("poisson", "log"): outcomes.POISSON,
    ("negative_binomial", "log"): outcomes.NEGATIVE_BINOMIAL,
    ("gamma", "log"): outcomes.GAMMA,
    ("cumulative", "logit"): outcomes.CUMULATIVE_LOGIT,
    ("cumulative", "probit"): outcomes.CUMULATIVE_PROBIT,
    ("student_t", "identity"): outcomes.STUDENT_T,
}


def family_code(family: Family) -> int | None:
    """The kernels' number of a family; None where they don't know it.

    Examples
    --------
    >>> from bayeslmm.families.poisson import Poisson
    >>> family_code(Poisson())
    3
    """
    return CODES.get((family.name, family.link))
