"""What a picture reads of a fit or a posterior of an outcome that isn't Gaussian, and replicates of the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.units import per_unit
from bayeslmm.errors import DescriptionError, did_you_mean
from bayeslmm.link_model import LinkModel
from bayeslmm.pictures.results import COVERAGE, Spread
from bayeslmm.posterior.link_draws import LinkValues
from bayeslmm.support.arguments import check_seed, check_whole
from bayeslmm.tables.link_estimates import link_fixef, link_varcorr
from bayeslmm.tables.link_points import LinkPoints
from bayeslmm.tables.link_result import LinkFit, LinkPosterior, read_link_result
from bayeslmm.tables.result import interval_columns

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign

MEANS = 100  # draws of a posterior whose means are taken
EFFECTS = {"own": "groups keep their own effects", "new": "groups are drawn anew from the population"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkPictured:
    """A fit or a posterior, as LMM's pictures read theirs.

    Attributes
    ----------
    result : GLMMFit or DataTree
    read : LinkFit or LinkPosterior
    """

    model: LinkModel
    result: Any
    read: LinkFit | LinkPosterior

    @property
    def of_effects(self) -> str:
        """What intervals of effects are."""
        return "2 conditional SDs" if isinstance(self.read, LinkFit) else "mean and 95 %"

    @property
    def key(self) -> str:
        """Of its colour and marker."""
        if isinstance(self.read, LinkFit):
            return "ml"
        return "marginal" if self.read.name.startswith("marginal") else "joint"

    @property
    def name(self) -> str:
        """In words."""
        return self.read.name

    @property
    def design(self) -> Design:
        """The design."""
        return self.model.design

    def effects(self, level: LevelDesign) -> Spread:
        """Random effects (m, r) of one level."""
        k = next(k for k, one in enumerate(self.design.levels) if one.name == level.name)
        if isinstance(self.read, LinkFit):
            mode, sd = self.read.effects(k)
            return Spread(middle=mode, low=mode - 2 * sd, high=mode + 2 * sd)
        u = self.read.draws(k)
        low, high = np.quantile(u, COVERAGE, axis=0)
        return Spread(middle=u.mean(axis=0), low=low, high=high)

    def parameters(self) -> pd.DataFrame:
        """Per parameter: middle, low, high; NaN where there is no interval."""
        import pandas as pd

        fixed = link_fixef(self.model, self.result).frame
        fixed.index = [f"beta[{name}]" for name in fixed.index]
        both = pd.concat([fixed, link_varcorr(self.model, self.result).frame])
        low, high = interval_columns(0.95)
        return both[["estimate", low, high]].set_axis(["middle", "low", "high"], axis=1).astype(float)

    @cached_property
    def values(self) -> LinkValues:
        """All draws; of a fit one point, the effects at their modes."""
        if isinstance(self.read, LinkPosterior):
            return self.read.drawn
        one = self.read.at(self.read.fit.peak.x[None]).values
        effects = {}
        for k, level in enumerate(self.design.levels):
            effects[level.name] = self.read.effects(k)[0][None]
        return LinkValues(
            model=self.model, beta=one.beta, factors=one.factors, dispersion=one.dispersion, effects=effects
        )


def read_pictured(model: LinkModel, result: Any, random_effects: bool = True) -> LinkPictured:
    """Read a fit, a posterior, or nothing, which is the fit by ML."""
    given = model.ml() if result is None else result
    return LinkPictured(model=model, result=given, read=read_link_result(model, given, 0.95, random_effects))


@dataclass(frozen=True, kw_only=True, eq=False)
class Replicates:
    """Data that a result could have given.

    Attributes
    ----------
    y : (D, n) array
    mean : (n,) array
        What is expected of each row, of a binomial the probability: with its own groups' effects, or over all groups.
    effects : {"own", "new"}
    """

    y: np.ndarray
    mean: np.ndarray
    effects: str
    name: str
    key: str

    @property
    def words(self) -> str:
        """What they are."""
        return f"{len(self.y)} replicates by {self.name}, in which {EFFECTS[self.effects]}"


def replicates(
    pictured: LinkPictured, effects: str = "own", draws: int = 400, random_seed: int | None = 1
) -> Replicates:
    """Draw replicates of the data: of a posterior from draws, evenly spaced; of a fit at its estimates."""
    if effects not in EFFECTS:
        raise DescriptionError(
            f"effects={effects!r}; 'own' (the groups' effects are kept) or 'new' (groups are drawn anew) was expected."
            f"{did_you_mean(str(effects), EFFECTS)}"
        )
    check_whole("draws", draws, 20, example=400)
    check_seed(random_seed)
    rng = np.random.default_rng(random_seed)
    model, values = pictured.model, pictured.values
    at = np.linspace(0, values.n - 1, draws).round().astype(int) if values.n > 1 else np.zeros(draws, dtype=int)
    some = values.some(at)
    mean = _expected(values.spread(MEANS), effects)
    if effects == "new":
        new = {}
        for k, level in enumerate(model.design.levels):
            z = rng.standard_normal((draws, level.m, level.r))
            z = z if level.relation is None else level.relation.spread(z)
            new[level.name] = np.einsum("dij,dgj->dgi", some.factors[k], z)
        some = LinkValues(model=model, beta=some.beta, factors=some.factors, dispersion=some.dispersion, effects=new)
    eta = some.eta()
    if model.family.link == "log":
        eta = np.minimum(eta, np.log(1e15))
    y = model.family.draw(rng, model.outcome, eta, some.psi[:, None, :])
    return Replicates(y=y, mean=mean, effects=effects, name=pictured.name, key=pictured.key)


def _expected(values: LinkValues, effects: str) -> np.ndarray:
    """What is expected of each row (n,): of ordered categories on the latent scale."""
    family, points = values.model.family, LinkPoints.of(values)
    if effects == "own":
        return np.mean([family.mean(eta) for eta in values.eta()], axis=0)
    if family.responses(values.model.outcome):
        return points.fixed(slice(0, values.n)).mean(axis=0)
    total = np.zeros(values.model.design.n)
    for some in points.pieces():
        eta = points.fixed(some)
        v = np.zeros_like(eta)
        for k in range(len(values.model.design.levels)):
            v += points.row_effects(k, some)
        total += family.averaged(eta.T, v.T, points.dispersion[some])[0].sum(axis=1)
    return total / values.n


def link_unit(model: LinkModel, name: str) -> str:
    """In what a parameter is measured.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": [1, 2, 3, 4] * 2, "g": list("aabbccdd")}
    >>> link_unit(blm.GLMM("y ~ x + (1 | g)", data, family="poisson"), "beta[x]")
    'log scale per unit of x'
    """
    scale = f"{model.family.link} scale"
    for column, label in zip(model.design.X.T, model.design.coef, strict=True):
        if name == f"beta[{label}]":
            return per_unit(scale, label, column)
    for level in model.design.levels:
        for e, label in enumerate(level.sd_labels):
            if name == label:
                return per_unit(scale, level.effects[e], level.columns[:, e])
    if name.startswith("threshold"):
        return scale
    return "" if name in model.family.dispersion_labels(model.outcome) else "correlation"
