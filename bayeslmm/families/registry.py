"""The families by name, and how they are written: "binomial", "binomial(link = probit)"."""

from __future__ import annotations

import re
from typing import Any

from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.families.beta import Beta
from bayeslmm.families.binomial import Binomial
from bayeslmm.families.cumulative import Cumulative
from bayeslmm.families.family import Family, listed_links
from bayeslmm.families.gamma import Gamma
from bayeslmm.families.negative_binomial import NegativeBinomial
from bayeslmm.families.negative_binomial1 import NegativeBinomial1
from bayeslmm.families.poisson import Poisson
from bayeslmm.families.student_t import StudentT

FAMILIES: dict[str, type[Family]] = {
    one.name: one for one in (Binomial, Poisson, NegativeBinomial, NegativeBinomial1, Gamma, Beta, Cumulative, StudentT)
}
OTHER_NAMES = {
    "bernoulli": "binomial",
    "binary": "binomial",
    "nbinom2": "negative_binomial",
    "negbinomial": "negative_binomial",
    "negativebinomial": "negative_binomial",
    "negative.binomial": "negative_binomial",
    "neg_binomial_2": "negative_binomial",
    "nb": "negative_binomial",
    "nb2": "negative_binomial",
    "negative_binomial2": "negative_binomial",
    "negative_binomial_2": "negative_binomial",
    "nbinom1": "negative_binomial1",
    "nb1": "negative_binomial1",
    "negative_binomial_1": "negative_binomial1",
    "beta_family": "beta",
    "ordinal": "cumulative",
    "t": "student_t",
    "t_family": "student_t",
    "student": "student_t",
    "studentt": "student_t",
}
OTHER_LINKS = {"logistic": "logit", "normit": "probit", "comploglog": "cloglog"}
_ZERO = "Zeros with a model of their own have no family here; 'negative_binomial' is for counts of which many are zero"
_OVERDISPERSED = "overdispersion is an effect of each row, (1 | row)"
_CATEGORIES = "'cumulative' is the one for ordered categories; for two categories write 'binomial'"
# What lme4, brms, glmmTMB and rstanarm have and this package hasn't, and what comes nearest
MISSING = {
    "quasi": _OVERDISPERSED,
    "quasibinomial": f"Write 'binomial'; {_OVERDISPERSED}",
    "quasipoisson": f"Write 'negative_binomial1', whose variance is in proportion to the mean too; or {_OVERDISPERSED}",
    "betabinomial": f"Write 'binomial'; {_OVERDISPERSED}",
    "beta_binomial": f"Write 'binomial'; {_OVERDISPERSED}",
    "lognormal": "Write blm.LMM('log(y) ~ ...', data), which is the same model and exact",
    "inverse.gaussian": "'gamma' is another one for positive measurements",
    "inverse_gaussian": "'gamma' is another one for positive measurements",
    "exponential": "'gamma' has it as alpha = 1",
    "weibull": "'gamma' is another one for positive measurements",
    "tweedie": "'gamma' is one for positive measurements without zeros",
    "geometric": "'negative_binomial' has it as alpha = 1",
    "genpois": "'negative_binomial1' has the same variance",
    "compois": "'negative_binomial' is one for overdispersed counts",
    "com_poisson": "'negative_binomial' is one for overdispersed counts",
    "categorical": _CATEGORIES,
    "multinomial": _CATEGORIES,
    "sratio": _CATEGORIES,
    "cratio": _CATEGORIES,
    "acat": _CATEGORIES,
    "ordbeta": "'beta' is one for shares without exact zeros and ones",
    "skew_normal": "'student_t' is one for measurements with outliers",
    "asym_laplace": "'student_t' is one for measurements with outliers",
}
_ZEROS = ("zero_", "zi_", "hurdle", "truncated", "ziplss", "zero_one")
_WRITTEN = re.compile(r"""\s*(?:\w+::)?([\w.]+)\s*(?:\(\s*(?:link\s*=\s*)?["']?(\w*)["']?\s*\))?\s*""")


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
    name, link = OTHER_NAMES.get(name, name), OTHER_LINKS.get(link, link)
    if name in ("gaussian", "normal"):
        raise DescriptionError(
            "a Gaussian outcome is an LMM's, which is exact: write blm.LMM(formula, data), and no family in a file"
        )
    if name not in FAMILIES:
        raise DescriptionError(_unknown(found[1], name))
    return FAMILIES[name](link=link)


def _unknown(written: str, name: str) -> str:
    """What to write instead of a family that there isn't."""
    instead = MISSING.get(name, _ZERO if name.startswith(_ZEROS) else "")
    known = [*FAMILIES, *(other for other, own in OTHER_NAMES.items() if own in FAMILIES)]
    hint = f" {instead}." if instead else did_you_mean(name, known)
    return f"there is no family {written!r}.{hint} There are {listed_links(list(FAMILIES.values()))}."
