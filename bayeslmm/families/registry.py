"""The families by name, and how they are written: "binomial", "binomial(link = probit)"."""

from __future__ import annotations

import re
from typing import Any

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.families.binomial import Binomial
from bayeslmm.families.cumulative import Cumulative
from bayeslmm.families.family import Family, listed_links
from bayeslmm.families.gamma import Gamma
from bayeslmm.families.negative_binomial import NegativeBinomial
from bayeslmm.families.poisson import Poisson
from bayeslmm.families.student_t import StudentT

FAMILIES: dict[str, type[Family]] = {
    one.name: one for one in (Binomial, Poisson, NegativeBinomial, Gamma, Cumulative, StudentT)
}
OTHER_NAMES = {
    "bernoulli": "binomial",
    "nbinom2": "negative_binomial",
    "negbinomial": "negative_binomial",
    "nb2": "negative_binomial",
    "ordinal": "cumulative",
    "t": "student_t",
    "student": "student_t",
}
_WRITTEN = re.compile(r"""\s*(\w+)\s*(?:\(\s*(?:link\s*=\s*)?["']?(\w*)["']?\s*\))?\s*""")


def read_family(given: Any) -> Family:
    """Make a family of its text; a family is taken as it is.

    Examples
    --------
    >>> read_family("binomial(link = probit)"), str(read_family("Poisson"))
    (Binomial(link='probit'), 'poisson(link = log)')
    >>> read_family("binomal")
    Traceback (most recent call last):
    bayeslmm.errors.DescriptionError: there is no family 'binomal'. Did you mean 'binomial'? There are binomial ...
    """
    if isinstance(given, Family):
        return given
    if isinstance(given, type) and issubclass(given, Family):
        return given()
    if not isinstance(given, str):
        raise DescriptionError(
            f"family is a text such as 'binomial' or 'binomial(link = probit)', or an object such as "
            f"blm.Binomial(link='probit'); got {type(given).__name__} {given!r}"
        )
    found = _WRITTEN.fullmatch(given)
    if found is None:
        raise DescriptionError(f"family={given!r} can't be read; write 'binomial' or 'binomial(link = probit)'")
    name, link = found[1].casefold(), (found[2] or "").casefold()
    name = OTHER_NAMES.get(name, name)
    if name in ("gaussian", "normal"):
        raise DescriptionError("a Gaussian outcome is an LMM's: write blm.LMM(formula, data), which is exact")
    if name not in FAMILIES:
        listed = listed_links(list(FAMILIES.values()))
        raise DescriptionError(
            f"there is no family {found[1]!r}.{did_you_mean(name, [*FAMILIES, *OTHER_NAMES])} There are {listed}."
        )
    return FAMILIES[name](link=link)
