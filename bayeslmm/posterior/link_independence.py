"""The independence sampler where the outcome isn't Gaussian: nodes and draws that are enough, modes, proposal, chains.

As `independence`, with all parameters proposed together. Where the likelihood is estimated without bias, the sampler is
pseudo-marginal: its chains have the same target, and the noise is a part of the weights that Pareto's k judges.

Source: Andrieu & Roberts (2009); Doucet, Pitt, Deligiannidis & Kohn (2015) for how much noise is worth its cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.errors import SamplingError
from bayeslmm.posterior.independence import SLIGHT, Mode, finished, metropolis, pareto_k
from bayeslmm.posterior.link_posterior import LinkPosterior
from bayeslmm.posterior.proposal import Mixture, proposal_at
from bayeslmm.support.progress import Progress
from bayeslmm.support.quasi_newton import least_point

STEP = 1e-3  # of differences
SEARCH_STEP, SEARCH_DRAWS = 1.0, 8  # while modes are looked for
STEPS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.12)  # of quadrature
EXACT = 1e-3  # what more nodes may change in a log density
SAMPLED = (32, 64, 128, 256, 512)  # of a lattice, and draws of importance sampling
NOISE = 0.25  # variance of an estimated log-likelihood that is little enough
REPEATS = 16  # estimates of it
TOGETHER = 200  # points between two reports of progress
PROBES = 12  # points at which nodes and draws are tried


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Draws x (N, k) of a proposal, with log posterior, log weights, and what their random numbers are made of."""

    x: np.ndarray
    lp: np.ndarray
    log_weight: np.ndarray
    keys: np.ndarray
    index: np.ndarray

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
class LinkChains:
    """States of the chains, flattened chain by chain, with what the sampler says of itself."""

    x: np.ndarray
    lp: np.ndarray
    keys: np.ndarray
    index: np.ndarray
    accepted: np.ndarray
    pareto_k: float
    efficiency: float
    posterior: LinkPosterior
    left: float


def new_keys(rng: np.random.Generator, n: int) -> np.ndarray:
    """N keys of random numbers."""
    return rng.integers(0, 2**63, size=n, dtype=np.uint64)


def find_modes(posterior: LinkPosterior, progress: Progress) -> list[Mode]:
    """Modes in log coordinates, by differences under the same random numbers everywhere; the one of most mass first."""
    k = posterior.size
    steps = STEP * np.concatenate([np.zeros((1, k)), np.eye(k), -np.eye(k)])

    def values(x: np.ndarray) -> np.ndarray:
        return posterior.evaluate(x, np.ones(len(x), np.uint64))[0]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        progress.advance(1)
        around = values(x + steps)
        if not np.isfinite(around[0]):
            return 1e50, np.zeros_like(x)
        inside = np.isfinite(around[1:]).reshape(2, k)  # a prior may end here
        up, down = np.where(inside, around[1:].reshape(2, k), around[0])
        gradient = (up - down) / (STEP * np.maximum(inside.sum(axis=0), 1))
        return -float(around[0]), -gradient

    starts = np.array(posterior.starts())
    heights = values(starts)
    if not np.isfinite(heights).any():
        raise SamplingError(
            "The posterior density is zero at every starting point: the priors and the data exclude each other. "
            "Look at glmm.priors.table(): a bounded prior may be on the wrong scale (that of the link)."
        )
    modes: list[Mode] = []
    for j in np.argsort(-heights):
        if not np.isfinite(heights[j]):
            continue
        if modes:  # is there a fall between here and every mode?
            t = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])[:, None]
            ways = [np.maximum(values(starts[j] + t * (mode.phi - starts[j])), -1e50) for mode in modes]
            if not all((np.diff(way) < -1e-6).any() for way in ways):
                continue
        x = least_point(objective, starts[j], *posterior.box(starts[j]), gtol=0.05, ftol=1e-6, iterations=100)
        if any(np.abs(x - mode.phi).max() < 0.1 for mode in modes):
            continue
        height, _ = objective(x)
        if height >= 1e49:
            continue
        modes.append(Mode(phi=x, H=_hessian(values, x), log_density=-height))
    if not modes:
        raise SamplingError("No mode of the posterior could be found; use sampler='nuts'.")
    modes.sort(key=lambda mode: -mode.log_mass)
    return [mode for mode in modes if mode.log_mass > modes[0].log_mass - SLIGHT]


def _hessian(values, x: np.ndarray) -> np.ndarray:
    """Minus the second derivatives by differences, made positive definite."""
    k, step = x.size, 10 * STEP
    e = step * np.eye(k)
    pairs = [(i, j) for i in range(k) for j in range(i + 1)]
    corners = np.array([x + a * e[i] + b * e[j] for i, j in pairs for a in (1, -1) for b in (1, -1)])
    found = values(corners).reshape(-1, 4)
    H = np.zeros((k, k))
    for (i, j), (pp, pm, mp, mm) in zip(pairs, np.where(np.isfinite(found), found, np.nan), strict=True):
        H[i, j] = H[j, i] = -(pp - pm - mp + mm) / (4 * step**2)
    H = np.where(np.isfinite(H), H, 0.0)
    eigenvalues, vectors = np.linalg.eigh(H)
    return (vectors * np.clip(np.abs(eigenvalues), 0.05, None)) @ vectors.T


def weigh(
    posterior: LinkPosterior, proposal: Mixture, x: np.ndarray, keys: np.ndarray, picks: np.ndarray, progress: Progress,
    stoppable: bool = False,
) -> Weighted:  # fmt: skip
    """Evaluate draws of a proposal; where Ctrl-C comes and the work is `stoppable`, those that are finished."""
    values: list[np.ndarray] = []
    indices: list[np.ndarray] = []
    for first in range(0, len(x), TOGETHER):
        piece = slice(first, first + TOGETHER)
        try:
            lp, index = posterior.evaluate(x[piece], keys[piece], picks[piece])
        except KeyboardInterrupt:
            if stoppable and values:
                break
            raise
        values.append(lp)
        indices.append(index)
        progress.advance(len(lp))
    lp, index = np.concatenate(values), np.concatenate(indices)
    done = len(lp)
    if not np.isfinite(lp).any():
        raise SamplingError("No draw of the proposal has positive posterior density; use sampler='nuts'.")
    return Weighted(x=x[:done], lp=lp, log_weight=lp - proposal.logpdf(x[:done]), keys=keys[:done], index=index)


def settle(posterior: LinkPosterior, x: np.ndarray, rng: np.random.Generator) -> tuple[LinkPosterior, float]:
    """As many nodes and draws as it takes at x (n, k), none fewer than before; what is left, in log density."""
    likelihood, keys, left = posterior.likelihood, new_keys(rng, len(x)), 0.0
    before = posterior.evaluate(x, keys)[0]
    for level in np.flatnonzero(~likelihood.integral.sampled):
        change = np.inf
        for step in (step for step in STEPS if step < likelihood.integral.steps[level]):
            finer = replace(posterior, likelihood=posterior.likelihood.finer(step, int(level)))
            now = finer.evaluate(x, keys)[0]
            both = np.isfinite(before) & np.isfinite(now)
            change = float(np.abs(now[both] - before[both]).max(initial=0.0))
            if change < EXACT:
                break
            posterior, before = finer, now
        left += change
    if likelihood.exact:
        return posterior, left
    for count in (count for count in SAMPLED if count >= max(likelihood.draws, likelihood.integral.nodes)):
        posterior = replace(posterior, likelihood=posterior.likelihood.more(count))
        repeated = np.repeat(x[:4], REPEATS, axis=0)
        estimates = posterior.evaluate(repeated, new_keys(rng, len(repeated)))[0].reshape(4, REPEATS)
        noise = float(np.median(estimates.var(axis=1, ddof=1)))
        if noise < NOISE:
            break
    return posterior, left


def adapt(
    posterior: LinkPosterior, rng: np.random.Generator, progress: Progress
) -> tuple[LinkPosterior, Mixture, Weighted, float]:
    """Find modes, match the proposal's moments to the posterior's while that pays."""
    progress.stage("finding the mode", 60)
    modes = find_modes(posterior, progress)
    k = modes[0].phi.size
    begun = posterior.likelihood.begun(posterior.points(modes[0].phi[None]))
    posterior = replace(posterior.shifted(modes[0].phi), likelihood=begun)
    parts = []
    for mode in modes:
        centre, slope = posterior.from_log(mode.phi)
        parts.append(proposal_at(centre, slope[:, None] * np.linalg.inv(mode.H) * slope, posterior.lower))
    mass = np.exp([mode.log_mass - modes[0].log_mass for mode in modes])
    shares = np.maximum(mass / mass.sum(), 0.05)
    proposal = Mixture(parts=tuple(parts), shares=shares / shares.sum())
    x = proposal.draw(rng, 2 * PROBES)
    likely = posterior.evaluate(x, new_keys(rng, len(x)))[0] - proposal.logpdf(x)
    posterior, _ = settle(posterior, x[np.argsort(-likely)[:PROBES]], rng)
    n = 40 * (k + 1) * len(modes)
    progress.stage("adapting the proposal", 4 * n)
    proposals: list[Mixture] = []
    rounds: list[Weighted] = []
    for _ in range(6):
        proposals.append(proposal)
        drawn = proposal.draw(rng, n)
        rounds.append(weigh(posterior, proposal, drawn, new_keys(rng, n), new_keys(rng, n), progress))
        pooled = pool(proposals, rounds)
        efficiencies = [one.efficiency for one in rounds]
        if efficiencies[-1] > 0.93:
            break
        proposal = proposal.matched(pooled.x, pooled.weights)
        if len(rounds) > 2 and efficiencies[-1] < 1.05 * max(efficiencies[:-1]) and efficiencies[-1] > 0.2:
            break
    probes = pooled.x[rng.choice(pooled.lp.size, PROBES, p=pooled.weights)]
    rough, (posterior, left) = posterior, settle(posterior, probes, rng)
    if posterior is not rough and not posterior.likelihood.exact:
        pooled = pilot(posterior, proposal, rng, progress)
    return posterior, proposal, pooled, left


def pilot(posterior: LinkPosterior, proposal: Mixture, rng: np.random.Generator, progress: Progress) -> Weighted:
    """A few draws, of which chains may begin."""
    x = proposal.draw(rng, TOGETHER)
    return weigh(posterior, proposal, x, new_keys(rng, TOGETHER), new_keys(rng, TOGETHER), progress)


def pool(proposals: list[Mixture], rounds: list[Weighted]) -> Weighted:
    """The draws of rounds of equal size, weighted as draws of the mixture of their proposals (Cornuet et al. 2012)."""
    x = np.concatenate([one.x for one in rounds])
    lp, keys, index = (np.concatenate([getattr(one, name) for one in rounds]) for name in ("lp", "keys", "index"))
    mixture = np.logaddexp.reduce([proposal.logpdf(x) for proposal in proposals], axis=0) - np.log(len(proposals))
    return Weighted(x=x, lp=lp, log_weight=lp - mixture, keys=keys, index=index)


def run_chains(
    posterior: LinkPosterior, *, draws: int, chains: int, seed: np.random.SeedSequence, progress: Progress
) -> LinkChains:
    """Adapt once, then run `chains` independent chains of `draws` kept states each; fewer where Ctrl-C comes."""
    streams = seed.spawn(chains + 1)
    rng = np.random.default_rng(streams[0])
    with np.errstate(all="ignore"):  # what isn't finite is refused, or an error with words
        posterior, proposal, batch, left = adapt(posterior, rng, progress)
    for attempt in range(2):
        rngs = [np.random.default_rng(stream) for stream in streams[1:]]
        progress.stage("drawing the parameters", chains * draws)
        x = np.concatenate([proposal.draw(r, draws) for r in rngs])
        keys, picks = (np.concatenate([new_keys(r, draws) for r in rngs]) for _ in range(2))
        fresh = weigh(posterior, proposal, x, keys, picks, progress, stoppable=True)
        stopped = fresh.lp.size < chains * draws
        few = fresh.lp.size < 200
        shape = pareto_k(np.concatenate([batch.log_weight, fresh.log_weight]) if few else fresh.log_weight)
        if stopped or attempt or (shape < 0.6 and fresh.efficiency > 0.3):
            break
        proposal, batch = proposal.matched(fresh.x, fresh.weights), fresh
        if not posterior.likelihood.exact:  # the noise is a part of the weights
            count = max(posterior.likelihood.draws, posterior.likelihood.integral.nodes)
            posterior = replace(posterior, likelihood=posterior.likelihood.more(4 * count))
            batch = pilot(posterior, proposal, rng, progress)
    chains, draws = finished(fresh.lp.size, chains, draws)
    first = rng.choice(batch.lp.size, size=chains, p=batch.weights)
    starting = batch.lp[first] - proposal.logpdf(batch.x[first])
    log_u = np.log(np.stack([r.random(draws) for r in rngs[:chains]]))
    kept, accepted = metropolis(fresh.log_weight[: chains * draws].reshape(chains, draws), starting, log_u)
    states, old = kept.ravel(), kept.ravel() < 0

    def pick(name: str) -> np.ndarray:
        new, before = getattr(fresh, name), getattr(batch, name)
        out = new[np.where(old, 0, states)]
        origin = np.repeat(first, draws)
        out[old] = before[origin[old]]
        return out

    return LinkChains(
        x=pick("x"), lp=pick("lp"), keys=pick("keys"), index=pick("index"), accepted=accepted, pareto_k=shape,
        efficiency=fresh.efficiency, posterior=posterior, left=left,
    )  # fmt: skip
