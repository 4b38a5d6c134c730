"""What the priors of the SDs say about things that people have opinions on: intra-class correlations, shrinkage.

A prior that looks flat on two SDs is not flat on their ratio: wide half-flat SDs put most of the prior mass where
the intra-class correlation is nearly 0 or nearly 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.criticism.prior_predictive import draw_parameters, generator
from bayeslmm.design.counted import mean, moment
from bayeslmm.design.describe import relation
from bayeslmm.design.model_matrix import INTERCEPT
from bayeslmm.design.parameters import level_names
from bayeslmm.priors.defaults import mean_row_variance, row_variances
from bayeslmm.tables.places import group_variances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bayeslmm.design.design import Design
    from bayeslmm.design.level_design import LevelDesign
    from bayeslmm.model import Model

QUANTILES = {"2.5 %": 0.025, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "97.5 %": 0.975}
EDGE = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class ImpliedPriors:
    """Draws from the prior of what the variance parameters imply.

    Attributes
    ----------
    draws : pandas.DataFrame
        One column per quantity, one row per draw:

        - ``sigma_total``: SD of y around X beta, averaged over the rows;
        - ``icc[u2]``: variance of the level's intercepts over that total variance, the intra-class correlation; with
          slopes, that of rows where their columns are 0;
        - ``correlation[u2]``, where groups lie in coarser ones: the correlation of two rows of one group (and
          of different finer ones), which share the coarser groups too: pupils of a class are of one school;
        - ``share[u2]``, where there are slopes: all that the level adds to the variance, over the total;
        - ``shrinkage[u2]``: the factor that draws a group's mean towards zero, at the median size of a group.
    what : mapping
        From quantity to words.

    Notes
    -----
    Shrinkage is s^2 / (s^2 + sum_j s_j^2 / m_j + sigma^2 / n), n the median number of rows in a group and m_j that of
    groups of a finer level j within one: the reliability of a group's mean (Raudenbush & Bryk 2002, chapters 3 and 8),
    exact in a balanced table. The effects of coarser levels are taken as given, crossed ones as zero; correlated rows
    as independent, and variances as their mean over the rows.
    """

    draws: pd.DataFrame
    what: dict[str, str] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """Quantiles per quantity, and the probabilities of being nearly 0 and nearly 1.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> implied_priors(lmm, random_seed=1).table.columns.tolist()
        ['2.5 %', '25 %', 'median', '75 %', '97.5 %', 'P(< 0.05)', 'P(> 0.95)']
        """
        out = self.draws.quantile(list(QUANTILES.values())).T
        out.columns = pd.Index(list(QUANTILES))
        shares = [name for name in self.draws.columns if name != "sigma_total"]
        out[f"P(< {EDGE})"] = (self.draws[shares] < EDGE).mean()
        out[f"P(> {1 - EDGE})"] = (self.draws[shares] > 1 - EDGE).mean()
        return out

    def __repr__(self) -> str:
        numbers = self.table.map(lambda x: "" if np.isnan(x) else f"{x:.3g}")
        words = [f"{name}: {text}." for name, text in self.what.items()]
        return "\n".join([numbers.to_string(), "", *words, *self._edges()])

    def _repr_html_(self) -> str:
        from bayeslmm.support import html

        numbers = self.table.map(lambda x: "" if np.isnan(x) else f"{x:.3g}")
        edges = "".join(map(html.paragraph, self._edges()))
        return html.scrolled(html.table(numbers)) + html.bullets(self.what) + edges

    def _edges(self) -> list[str]:
        """Say which intra-class correlations are nearly decided before the data speak."""
        table = self.table
        return [
            f"The priors put {100 * both:.0f} % of {name} below {EDGE} or above {1 - EDGE}: flat on the SDs, perhaps, "
            "but not here. A prior on the shares (sigma_total, shares) says it directly."
            for name in table.index
            if name.startswith("icc[") and (both := float(table.loc[name].iloc[-2:].sum())) > 1 / 3
        ]

    def plot(self) -> Figure:
        """Draw the density of each quantity."""
        from bayeslmm.criticism.implied_pictures import implied_densities

        return implied_densities(self)


def implied_priors(model: Model, draws: int = 4000, random_seed: int | None = None) -> ImpliedPriors:
    """Draw from the priors what they imply, as `LMM.implied_priors` says."""
    design = model.design
    values = draw_parameters(design, model.priors, draws, generator(draws, random_seed))
    rows = _residual_variance(design, values)
    whole = {level.name: _level_variance(level, values) for level in design.levels}
    intercepts = {level.name: own for level in design.levels if (own := _intercept_variance(level, values)) is not None}
    total = rows + sum(whole.values())
    at_zero = rows + sum(intercepts.values())  # the total where there are intercepts only
    slopes = any(level.r > 1 or level.name not in intercepts for level in design.levels)
    where = ", where the columns of the slopes are 0" if slopes else ""

    out: dict[str, np.ndarray] = {"sigma_total": np.sqrt(total)}
    what = {"sigma_total": "SD of y around X beta, in units of y" + (", averaged over the rows" if slopes else "")}
    for level in design.levels:
        u, group = level.name, level.label
        if slopes:
            out[f"share[{u}]"] = whole[u] / total
            what[f"share[{u}]"] = f"share of {group}, {' and '.join(level.effects)}, in the variance of y around X beta"
        if u not in intercepts:
            continue
        out[f"icc[{u}]"] = intercepts[u] / at_zero
        what[f"icc[{u}]"] = f"intra-class correlation: variance between the groups of {group} over the total{where}"
        coarser = [
            x for x in design.levels if x is not level and relation(level, x) == "nested" and x.name in intercepts
        ]
        if coarser:
            out[f"correlation[{u}]"] = (intercepts[u] + sum(intercepts[x.name] for x in coarser)) / at_zero
            also = " and ".join(x.label for x in coarser)
            what[f"correlation[{u}]"] = f"correlation of two rows of one {group}, which share {also} too{where}"
        noise, words = _noise_of_a_mean(design, level, rows, intercepts)
        out[f"shrinkage[{u}]"] = intercepts[u] / (intercepts[u] + noise)
        what[f"shrinkage[{u}]"] = (
            f"factor on the mean of one group of {group} with {words}; 0 pools fully, 1 not at all"
        )
    return ImpliedPriors(draws=pd.DataFrame(out), what=what)


def _residual_variance(design: Design, values: dict[str, np.ndarray]) -> np.ndarray:
    """Mean over the rows of Var e, (draws,)."""
    residual = design.residual
    middle: Any = mean_row_variance(residual)
    if "sigma_ratio" in values:
        own = row_variances(residual)
        own = own if residual.counts is None else own * residual.counts
        parts = np.bincount(residual.stratum, weights=own) / design.n
        middle = parts[0] + values["sigma_ratio"] ** 2 @ parts[1:]
    return values["sigma"] ** 2 * middle


def _level_variance(level: LevelDesign, values: dict[str, np.ndarray]) -> np.ndarray:
    """Mean over the rows of the variance that a level adds, covariances of its effects included: tr(Sigma M)."""
    names = level_names(level)
    sd = values[names.sigma if level.n_sds else "sigma"].reshape(len(values["sigma"]), -1)
    M = moment(level.columns, group_variances(level)[level.index], level.counts)
    corr = values.get(names.corr, np.eye(level.r))
    sd = np.broadcast_to(sd, (len(sd), level.r))
    return np.einsum("de,def,df,ef->d", sd, np.broadcast_to(corr, (len(sd), level.r, level.r)), sd, M)


def _intercept_variance(level: LevelDesign, values: dict[str, np.ndarray]) -> np.ndarray | None:
    """Mean over the rows of the variance of a level's intercepts, (draws,); None where it has none."""
    if INTERCEPT not in level.effects:
        return None
    sd = values[level_names(level).sigma if level.n_sds else "sigma"].reshape(len(values["sigma"]), -1)
    return sd[:, level.effects.index(INTERCEPT)] ** 2 * mean(group_variances(level)[level.index], level.counts)


def _noise_of_a_mean(
    design: Design, level: LevelDesign, rows: np.ndarray, intercepts: dict[str, np.ndarray]
) -> tuple[np.ndarray, str]:
    """Variance of a group's mean around its own effect, at the median group, and what the median group is."""
    n = float(np.median(level.sizes[: level.index.max() + 1]))
    noise, words = rows / n, [f"{n:g} rows"]
    for finer in design.levels:
        if finer.name in intercepts and relation(finer, level) == "nested":
            pairs = np.unique(np.stack([finer.index, level.index]), axis=1)
            m = float(np.median(np.bincount(pairs[1])))
            noise = noise + intercepts[finer.name] / m
            words.append(f"{m:g} groups of {finer.label}")
    return noise, " in ".join(words) + " (medians)"
