"""The cases: a formula, a table and priors each, and the same in the words of every peer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.distributions.prior import Prior
    from bayeslmm.lmm import LMM

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "models" / "data"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model with its data.

    Attributes
    ----------
    name : str
    formula : str
        lme4's text, which every package reads.
    table : pathlib.Path
        CSV, possibly compressed.
    groups : tuple of str
        Columns that group, factors in R.
    target : int
        Min ESS that a posterior of this case has to reach in the warm timing.
    priors : mapping of str to str
        What differs from the defaults of bayeslmm, as in the gallery's description.
    """

    name: str
    formula: str
    table: Path
    groups: tuple[str, ...]
    target: int = 1000
    priors: tuple[tuple[str, str], ...] = ()

    def load(self) -> pd.DataFrame:
        """Read the table.

        Raises
        ------
        FileNotFoundError
            Saying where the table is expected.
        """
        import pandas as pd

        if not self.table.exists():
            raise FileNotFoundError(f"the data of {self.name} are expected at {self.table.relative_to(ROOT)}")
        return pd.read_csv(self.table)

    def lmm(self, data: pd.DataFrame) -> LMM:
        """Build the model of bayeslmm with its data and priors."""
        from bayeslmm.lmm import LMM

        return LMM(self.formula, data, priors=dict(self.priors))


CASES = {
    case.name: case
    for case in (
        Case(
            name="heights",
            formula="Height ~ 1 + (1 | class:school) + (1 | school)",
            table=GALLERY / "heights.csv",
            groups=("class", "school"),
            priors=(("sigma_u3", "HalfStudentT(nu=3, sigma=1)"),),
        ),
        Case(
            name="sleepstudy",
            formula="Reaction ~ 1 + Days + (1 + Days | Subject)",
            table=GALLERY / "sleepstudy.csv",
            groups=("Subject",),
            priors=(("corr_u2", "LKJ(eta=2)"),),
        ),
        Case(
            name="penicillin",
            formula="diameter ~ 1 + (1 | plate) + (1 | sample)",
            table=GALLERY / "penicillin.csv",
            groups=("plate", "sample"),
        ),
        Case(
            name="pastes",
            formula="strength ~ 1 + (1 | cask:batch) + (1 | batch)",
            table=GALLERY / "pastes.csv",
            groups=("cask", "batch"),
        ),
        Case(
            name="chem97",
            formula="score ~ 1 + gcsecnt + (1 | school:lea) + (1 | lea)",
            table=GALLERY / "chem97.csv.gz",
            groups=("school", "lea"),
        ),
        Case(
            name="insteval",
            formula="y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept)",
            table=ROOT / "tests" / "data" / "insteval.csv.gz",
            groups=("s", "d", "dept"),
            target=400,
        ),
    )
}

WARM_UP = Case(  # fitted before anything warm is timed; none of the cases
    name="dyestuff",
    formula="Yield ~ 1 + (1 | Batch)",
    table=GALLERY / "dyestuff.csv",
    groups=("Batch",),
)


# the priors in the words of the peers -------------------------------------------------------------


def _normal(prior: Prior) -> tuple[float, float]:
    if prior.name != "Normal":
        raise ValueError(f"{prior} has no counterpart in this package")
    return prior.params["mu"], prior.params["sigma"]


def _half_t(prior: Prior) -> tuple[float, float]:
    if prior.name != "HalfStudentT":
        raise ValueError(f"{prior} has no counterpart in this package")
    return prior.params["nu"], prior.params["sigma"]


def bambi_terms(lmm: LMM, data: pd.DataFrame):
    """Formula, data and priors for Bambi: the same, but correlations of effects, which it doesn't have.

    Groups that are combinations of columns become columns.
    """
    import bambi as bmb

    def mirror(prior: Prior):
        return bmb.Prior(prior.name, **prior.params)

    data = data.copy()
    terms = [name for name in lmm.design.coef if name != "Intercept"]
    priors = {name: mirror(prior) for name, prior in zip(lmm.design.coef, lmm.priors.beta, strict=True)}
    priors["sigma"] = mirror(lmm.priors.sigma)
    bars = []
    for level, sds in zip(lmm.design.levels, lmm.priors.sd, strict=True):
        column = "_in_".join(level.level.group)
        parts = [data[name].astype(str) for name in level.level.group]
        data[column] = parts[0] if len(parts) == 1 else parts[0].str.cat(parts[1:], sep=":")
        effects = ["1" if effect == "Intercept" else effect for effect in level.effects]
        bars.append(f"({' + '.join(effects)} | {column})")
        for effect, sd in zip(effects, sds, strict=True):
            priors[f"{effect}|{column}"] = bmb.Prior("Normal", mu=0, sigma=mirror(sd))
    return f"{lmm.hierarchy.response} ~ {' + '.join(['1', *terms, *bars])}", data, priors


def rstanarm_priors(lmm: LMM) -> dict[str, str]:
    """Arguments of `stan_lmer` as R text: the same for beta and sigma; SDs of effects have only decov."""
    beta = dict(zip(lmm.design.coef, map(_normal, lmm.priors.beta), strict=True))
    mu, sd = beta.pop("Intercept")
    nu, scale = _half_t(lmm.priors.sigma)
    text = {
        "prior_intercept": f"normal({mu}, {sd}, autoscale = FALSE)",
        "prior_aux": f"student_t({nu}, 0, {scale}, autoscale = FALSE)",
        "prior_covariance": "decov(regularization = 2)",
    }
    if beta:
        locations, scales = (", ".join(str(pair[k]) for pair in beta.values()) for k in (0, 1))
        text["prior"] = f"normal(c({locations}), c({scales}), autoscale = FALSE)"
    return text


def brms_priors(lmm: LMM) -> dict[str, str]:
    """Argument `prior` of `brm` as R text: all of them the same."""

    def one(text: str, **where: str) -> str:
        return f"set_prior('{text}', {', '.join(f"{key} = '{value}'" for key, value in where.items())})"

    parts = []
    for name, prior in zip(lmm.design.coef, lmm.priors.beta, strict=True):
        mu, sd = _normal(prior)
        where = {"class": "Intercept"} if name == "Intercept" else {"class": "b", "coef": name}
        parts.append(one(f"normal({mu}, {sd})", **where))
    nu, scale = _half_t(lmm.priors.sigma)
    parts.append(one(f"student_t({nu}, 0, {scale})", **{"class": "sigma"}))
    for level, sds, corr in zip(lmm.design.levels, lmm.priors.sd, lmm.priors.corr, strict=True):
        for effect, prior in zip(level.effects, sds, strict=True):
            nu, scale = _half_t(prior)
            parts.append(one(f"student_t({nu}, 0, {scale})", **{"class": "sd", "group": level.label, "coef": effect}))
        if corr is not None:
            parts.append(one(f"lkj({corr.params['eta']})", **{"class": "cor", "group": level.label}))
    return {"prior": f"c({', '.join(parts)})"}
