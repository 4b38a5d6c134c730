"""Families as the kernels know them."""

from __future__ import annotations

from bayeslmm.factorisation.kernels import jets
from bayeslmm.families.family import Family

CODES: dict[tuple[str, str], int] = {
    ("binomial", "logit"): jets.LOGIT,
    ("binomial", "probit"): jets.PROBIT,
    ("binomial", "cloglog"): jets.CLOGLOG,
    ("poisson", "log"): jets.POISSON,
    ("negative_binomial", "log"): jets.NEGATIVE_BINOMIAL,
    ("gamma", "log"): jets.GAMMA,
    ("cumulative", "logit"): jets.CUMULATIVE_LOGIT,
    ("cumulative", "probit"): jets.CUMULATIVE_PROBIT,
    ("student_t", "identity"): jets.STUDENT_T,
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
