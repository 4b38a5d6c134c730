"""An exact sampler for a few variance parameters: independence Metropolis with an adapted, skewed t proposal.

Mode and curvature of the collapsed posterior give a first proposal; rounds of importance sampling match its
moments to the posterior's. The chains then accept or reject independent proposals, so they are ordinary MCMC
output, and the Pareto k of the proposal's weights says whether to trust them.

Sources: Geweke (1989) and Tierney (1994) for the method; Vehtari, Simpson, Gelman, Yao & Gabry (2024) for k-hat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.collapsed import CollapsedPosterior, log_prior_beta
from bayeslmm.descent import descend
from bayeslmm.errors import SamplingError
from bayeslmm.progress import Progress
from bayeslmm.proposal import Proposal, proposal_at

EFFECTS = 30_000_000
"""Random effects times draws up to which they are drawn with the proposals, accepted or not, from one factorisation."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Weighted draws: x, the kernels' lambdas, beta, log posterior, log weights; b where it was drawn with them."""

    x: np.ndarray
    lams: np.ndarray
    beta: np.ndarray
    lp: np.ndarray
    log_weight: np.ndarray
    b: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray:
        """Weights, normalised to sum to one."""
        w = np.exp(self.log_weight - self.log_weight.max())
        return w / w.sum()

    @property
    def efficiency(self) -> float:
        """Effective share of the draws, 1 / (n sum w^2)."""
        w = self.weights
        return float(1 / (w.size * (w @ w)))


@dataclass(frozen=True, kw_only=True)
class Chains:
    """States of the chains, flattened chain by chain (phi in log coordinates), with what the sampler says of itself.

    `b` are the random effects on the kernels' basis, where they were proposed together with phi; NaN for states from
    before the run.
    """

    phi: np.ndarray
    lams: np.ndarray
    beta: np.ndarray
    lp: np.ndarray
    accepted: np.ndarray
    pareto_k: float
    efficiency: float
    b: np.ndarray | None = None


def find_mode(posterior: CollapsedPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Mode (k,) and a positive definite negative Hessian (k, k) there."""

    def objective(x):
        with np.errstate(all="ignore"):
            try:
                value, gradient = posterior.value_and_gradient(x)
            except np.linalg.LinAlgError:
                return 1e50, np.zeros_like(x)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e50, np.zeros_like(x)
        return -value, -gradient

    starts = posterior.starts()
    found = [objective(x)[0] for x in starts]
    start = starts[int(np.argmin(found))]
    if min(found) > 1e49:
        raise SamplingError(
            "The posterior density is zero at the starting point: the priors and the data exclude each other. "
            "Look at lmm.priors.table(): a bounded prior may be on the wrong scale (units of y)."
        )
    lower, upper = np.array(posterior.box(start)).T
    x = descend(objective, start, lower, upper, gtol=0.02, ftol=1e-6, iterations=200)  # a proposal needs no more
    gradient, step = objective(x)[1], 1e-3
    H = np.array([(objective(x + step * e)[1] - gradient) / step for e in np.eye(x.size)])
    H = (H + H.T) / 2
    values, vectors = np.linalg.eigh(H)
    return x, (vectors * np.clip(np.abs(values), 0.05, None)) @ vectors.T


def weigh(
    posterior: CollapsedPosterior,
    proposal: Proposal,
    x: np.ndarray,
    z: np.ndarray,
    progress: Progress,
    z_u: np.ndarray | None = None,
) -> Batch:
    """Evaluate draws of a proposal; beta is drawn exactly with standard normals z (n, p), and b with z_u (n, q)."""
    parts: list[tuple[np.ndarray, ...]] = []
    effects: list[np.ndarray] = []
    for piece in np.array_split(np.arange(len(x)), max(1, len(x) // _piece(posterior))):
        if z_u is None:
            lp, lams, conditional = posterior.evaluate(x[piece])
            beta = conditional.draw(z[piece])
        else:
            lp, lams, beta, b = posterior.evaluate_with_effects(x[piece], z[piece], z_u[piece])
            effects.append(b)
        other = posterior.other_beta
        if other:
            lp = lp + log_prior_beta([posterior.priors.beta[j] for j in other], beta[:, list(other)])
        parts.append((lp, lams, beta))
        progress.advance(len(piece))
    lp, lams, beta = (np.concatenate(column) for column in zip(*parts, strict=True))
    drawn = np.concatenate(effects) if effects else None
    return Batch(x=x, lams=lams, beta=beta, lp=lp, log_weight=lp - proposal.logpdf(x), b=drawn)


def _piece(posterior: CollapsedPosterior) -> int:
    """Draws between two reports of progress: many where an evaluation is cheap."""
    structure = posterior.stats.structure
    return max(64, 20_000_000 // (structure.zz.size + structure.zt.size + structure.zz_tail.size + 1000))


def pool(proposals: Sequence[Proposal], batches: Sequence[Batch]) -> Batch:
    """The draws of rounds of equal size, weighted as draws of the mixture of their proposals.

    Source: Cornuet, Marin, Mira & Robert (2012), adaptive multiple importance sampling.
    """
    x, lams, beta, lp = (
        np.concatenate(parts) for parts in zip(*((b.x, b.lams, b.beta, b.lp) for b in batches), strict=True)
    )
    mixture = np.logaddexp.reduce([proposal.logpdf(x) for proposal in proposals], axis=0) - np.log(len(proposals))
    return Batch(x=x, lams=lams, beta=beta, lp=lp, log_weight=lp - mixture)


def adapt(
    posterior: CollapsedPosterior, rng: np.random.Generator, progress: Progress
) -> tuple[CollapsedPosterior, Proposal, Batch]:
    """Find the mode, choose coordinates there, match the proposal's moments to the posterior's while that pays."""
    progress.stage("finding the mode")
    mode, H = find_mode(posterior)
    k, p = mode.size, posterior.stats.design.p
    posterior, slope = posterior.shifted(mode)
    centre = np.where(posterior.shift > 0, mode + np.log(2.0), mode)
    proposal = proposal_at(centre, slope[:, None] * np.linalg.inv(H) * slope, posterior.lower)
    n = 40 * (k + 1)
    progress.stage("adapting the proposal", 3 * n)
    proposals: list[Proposal] = []
    batches: list[Batch] = []
    for _ in range(4):
        proposals.append(proposal)
        batches.append(weigh(posterior, proposal, proposal.draw(rng, n), rng.standard_normal((n, p)), progress))
        _require_support(batches[-1])
        pooled = pool(proposals, batches)
        efficiencies = [batch.efficiency for batch in batches]
        if efficiencies[-1] > 0.93:
            break
        proposal = proposal.matched(pooled.x, pooled.weights)
        if len(batches) > 1 and efficiencies[-1] < 1.03 * efficiencies[-2]:
            break
    return posterior, proposal, pooled


def run_chains(
    posterior: CollapsedPosterior,
    *,
    draws: int,
    chains: int,
    seed: np.random.SeedSequence,
    progress: Progress,
) -> Chains:
    """Adapt once, then run `chains` independent chains of `draws` kept states each."""
    streams = seed.spawn(chains + 1)
    rng = np.random.default_rng(streams[0])
    posterior, proposal, batch = adapt(posterior, rng, progress)
    p = posterior.stats.design.p
    for attempt in range(2):
        rngs = [np.random.default_rng(stream) for stream in streams[1:]]
        progress.stage("drawing the variance parameters", chains * draws)
        x = np.concatenate([proposal.draw(r, draws) for r in rngs])
        z = np.concatenate([r.standard_normal((draws, p)) for r in rngs])
        z_u = None
        if chains * draws * posterior.stats.structure.q < EFFECTS:
            z_u = np.concatenate([r.standard_normal((draws, posterior.stats.structure.q)) for r in rngs])
        fresh = weigh(posterior, proposal, x, z, progress, z_u)
        _require_support(fresh)
        # a short run borrows the weights of the adaptation, to have a tail at all
        few = fresh.lp.size < 200
        shape = pareto_k(np.concatenate([batch.log_weight, fresh.log_weight]) if few else fresh.log_weight)
        if attempt or (shape < 0.6 and fresh.efficiency > 0.3):
            break
        proposal, batch = proposal.matched(fresh.x, fresh.weights), fresh
    first = rng.choice(batch.lp.size, size=chains, p=batch.weights)
    starting = batch.lp[first] - proposal.logpdf(batch.x[first])
    log_u = np.log(np.stack([r.random(draws) for r in rngs]))
    kept = np.empty((chains, draws), dtype=np.int64)
    accepted = np.empty((chains, draws), dtype=bool)
    weights = fresh.log_weight.reshape(chains, draws)
    for c in range(chains):
        current, index = starting[c], -1 - first[c]
        for t in range(draws):
            accepted[c, t] = log_u[c, t] < weights[c, t] - current
            if accepted[c, t]:
                current, index = weights[c, t], c * draws + t
            kept[c, t] = index
    states = kept.ravel()
    old = states < 0

    def pick(new, before):
        out = new[np.where(old, 0, states)]
        out[old] = before[-1 - states[old]]
        return out

    b = None
    if fresh.b is not None:
        b = fresh.b[np.where(old, 0, states)]
        b[old] = np.nan

    return Chains(
        phi=posterior.to_log(pick(fresh.x, batch.x))[0],
        lams=pick(fresh.lams, batch.lams),
        beta=pick(fresh.beta, batch.beta),
        lp=pick(fresh.lp, batch.lp),
        accepted=accepted,
        pareto_k=shape,
        efficiency=fresh.efficiency,
        b=b,
    )


def pareto_k(log_weights: np.ndarray) -> float:
    """Shape of the generalised Pareto law of the weights' upper tail; inf if there is no tail to speak of.

    Source: Zhang & Stephens (2009) with the weak prior of Vehtari et al. (2024), as ArviZ's psislw, whose import alone
    takes longer than a small posterior.

    Examples
    --------
    >>> bool(0.4 < pareto_k(np.log1p(np.random.default_rng(1).pareto(2, 4000))) < 0.6)  # a tail of shape 1/2
    True
    """
    w = np.sort(log_weights[np.isfinite(log_weights)])
    size = int(3 * np.sqrt(w.size)) if w.size > 225 else w.size // 5
    if w.size < 25 or size < 5:
        return float("inf")
    cutoff = w[-size - 1] - w[-1]
    x = np.exp(w[-size:] - w[-1]) - np.exp(cutoff)
    x = x[x > 0]
    if x.size < 5:
        return float("-inf")  # equal weights: no tail at all
    n = x.size
    grid = 30 + int(np.sqrt(n))
    b = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (3 * x[int(n / 4 + 0.5) - 1])
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    fit = n * (np.log(-b / k) - k - 1)
    with np.errstate(over="ignore"):  # a hopeless fit has weight 1 / inf
        weights = 1 / np.exp(fit - fit[:, None]).sum(axis=1)
    centre = float((b * weights).sum() / weights.sum())
    return float((n * np.log1p(-centre * x).mean() + 5) / (n + 10))


def _require_support(batch: Batch) -> None:
    if not np.isfinite(batch.log_weight).any():
        raise SamplingError("No draw of the proposal has positive posterior density; use sampler='nuts'.")
