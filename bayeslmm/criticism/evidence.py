"""The marginal likelihood p(y): the likelihood averaged over the priors of all parameters, random effects included.

Coefficients and random effects are integrated out in closed form; over the few variance parameters the collapsed
sampler's proposal, which resembles the posterior, gives an importance estimate with a Monte Carlo error of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.errors import PriorError
from bayeslmm.model import Model
from bayeslmm.posterior.collapsed import CollapsedPosterior, collapsed_posterior
from bayeslmm.posterior.independence import adapt, weigh
from bayeslmm.posterior.trust import PARETO_LIMIT
from bayeslmm.support.arguments import check_seed, check_whole
from bayeslmm.support.pareto import pareto_k
from bayeslmm.support.progress import Progress
from bayeslmm.support.threads import one_blas_thread
from bayeslmm.tables.table import Table

SCALES = (0.5, 2.0)  # of the priors of the effects' SDs, to see what depends on them


@dataclass(frozen=True, kw_only=True)
class MarginalLikelihood:
    """log p(y), and how far it can be relied on.

    Attributes
    ----------
    log : float
        Natural logarithm.
    error : float
        Monte Carlo standard error of the logarithm.
    pareto_k : float
        Of the weights: from 0.7 on neither number can be relied on.
    rescaled : mapping of float to float
        The same with the priors of the effects' SDs half and twice as wide: how much depends on them. Empty where one
        of them has a bound: draws of the posterior don't reach beyond it.
    draws : int
    """

    log: float
    error: float
    pareto_k: float
    rescaled: dict[float, float]
    draws: int

    @property
    def reliable(self) -> bool:
        """Whether the estimate and its error can be relied on."""
        return self.pareto_k < PARETO_LIMIT

    @property
    def summary(self) -> Table:
        """The estimate, and what it is under priors half and twice as wide."""
        rows = {"as they are": self.log, **{f"{scale:g} times as wide": log for scale, log in self.rescaled.items()}}
        frame = pd.DataFrame({"log_marginal": rows}).rename_axis("priors of the effects' SDs")
        note = f"Monte Carlo error {self.error:.1g} of {self.draws:,} draws, Pareto k of their weights "
        note += f"{self.pareto_k:.2f}. It depends on all priors, whatever the data are."
        if not self.rescaled:
            note += " Priors half and twice as wide are left out: an effect's SD has a prior with a bound."
        if not self.reliable:
            note += " Not to be relied on: with a Pareto k of 0.7 or more the error is no measure."
        return Table(frame=frame, title="Log marginal likelihood", note=note)

    def __repr__(self) -> str:
        return repr(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def marginal_likelihood(model: Model, draws: int = 4000, random_seed: int | None = None) -> MarginalLikelihood:
    """Estimate log p(y), as `LMM.marginal_likelihood` says."""
    check_whole("draws", draws, least=100, example=4000)
    check_seed(random_seed)
    flat = [f"{row.parameter} ~ {row.prior}" for row in model.priors.reasons if row.prior.is_flat]
    if flat:
        raise PriorError(
            f"The marginal likelihood is an average over the priors, and flat ones have none: {', '.join(flat)}. Give "
            "proper ones, or leave them out: the defaults of lmm.priors are proper."
        )
    rng = np.random.default_rng(random_seed)
    with one_blas_thread():
        posterior, proposal, _, _ = adapt(collapsed_posterior(model.statistics, model.priors), rng, Progress(False))
        x, z = proposal.draw(rng, draws), rng.standard_normal((draws, model.design.p))
        batch = weigh(posterior, proposal, x, z, Progress(False))
        if pareto_k(batch.log_weight) > 0.5 or batch.efficiency < 0.3:  # once more, from what has been learned
            proposal = proposal.matched(batch.x, batch.weights)
            batch = weigh(posterior, proposal, proposal.draw(rng, draws), z, Progress(False))
    log_weight = batch.log_weight
    value, error = log_mean(log_weight)
    rescaled = {}
    if _unbounded(posterior):
        ratios = {scale: _rescaled(posterior, batch.x, scale) for scale in SCALES}
        rescaled = {scale: log_mean(log_weight + ratio)[0] for scale, ratio in ratios.items()}
    return MarginalLikelihood(log=value, error=error, pareto_k=pareto_k(log_weight), rescaled=rescaled, draws=draws)


def _unbounded(posterior: CollapsedPosterior) -> bool:
    """Whether every SD of effects may be anything from 0 on under its prior."""
    sds = posterior.priors.sds
    return bool((sds.lower[1:] == 0).all() and np.isinf(sds.upper[1:]).all())


def _rescaled(posterior: CollapsedPosterior, x: np.ndarray, scale: float) -> np.ndarray:
    """Log ratio (N,) of the prior of the SDs with those of the effects `scale` times as wide to the prior itself."""
    with np.errstate(invalid="ignore"):
        sds = np.exp(posterior.to_log(x)[0][:, posterior.sd_positions])
    wide = sds.copy()
    wide[:, 1:] /= scale
    with np.errstate(invalid="ignore"):
        ratio = posterior.priors.sds.logpdf(wide) - posterior.priors.sds.logpdf(sds)
    return np.where(np.isfinite(ratio), ratio, -np.inf) - (sds.shape[1] - 1) * np.log(scale)


def log_mean(log_weight: np.ndarray) -> tuple[float, float]:
    """(log of the mean of the weights, its standard error by the delta method).

    Examples
    --------
    >>> log_mean(np.zeros(100))
    (0.0, 0.0)
    """
    top = log_weight.max()
    w = np.exp(log_weight - top)
    mean = w.mean()
    return float(np.log(mean) + top), float(w.std() / mean / np.sqrt(w.size))
