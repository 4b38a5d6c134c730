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

from bayeslmm.errors import SamplingError
from bayeslmm.likelihood.criterion import together
from bayeslmm.posterior.collapsed import CollapsedPosterior, log_prior_beta
from bayeslmm.posterior.proposal import Mixture, proposal_at
from bayeslmm.support.pareto import pareto_k
from bayeslmm.support.progress import Progress
from bayeslmm.support.quasi_newton import least_point

SEARCHES = 8  # starting points from which a mode may be looked for
SLIGHT = 9.0  # a mode with e^-9 of the mass of the largest, or less, is left out
EFFECTS = 30_000_000
"""Random effects times draws up to which they are drawn with the proposals, accepted or not, from one factorisation."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Weighted draws: x, the kernels' lambdas, gamma (beta = W gamma), log posterior, log weights; b where drawn."""

    x: np.ndarray
    lams: np.ndarray
    gamma: np.ndarray
    lp: np.ndarray
    log_weight: np.ndarray
    b: np.ndarray | None = None

    def first(self, n: int) -> Batch:
        """The first n draws."""
        parts = (self.x, self.lams, self.gamma, self.lp, self.log_weight)
        x, lams, gamma, lp, log_weight = (part[:n] for part in parts)
        b = None if self.b is None else self.b[:n]
        return Batch(x=x, lams=lams, gamma=gamma, lp=lp, log_weight=log_weight, b=b)

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
    before the run. `modes` are the shares of the posterior's modes, one number where there is one.
    """

    phi: np.ndarray
    lams: np.ndarray
    beta: np.ndarray
    lp: np.ndarray
    accepted: np.ndarray
    pareto_k: float
    efficiency: float
    modes: tuple[float, ...] = (1.0,)
    b: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A mode of the posterior in log coordinates, and the normal that resembles the posterior there.

    Attributes
    ----------
    phi : (k,) array
    H : (k, k) array
        Positive definite negative Hessian of the log density.
    log_density : float
    """

    phi: np.ndarray
    H: np.ndarray
    log_density: float

    @property
    def log_mass(self) -> float:
        """Log of the integral over that normal, up to a constant: Laplace's approximation."""
        return self.log_density - 0.5 * float(np.linalg.slogdet(self.H)[1])


def find_modes(posterior: CollapsedPosterior) -> list[Mode]:
    """The posterior's modes that were found from several starting points, the one of most mass first."""

    def objective(x):
        with np.errstate(all="ignore"):
            try:
                value, gradient = posterior.value_and_gradient(x)
            except np.linalg.LinAlgError:
                return 1e50, np.zeros_like(x)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e50, np.zeros_like(x)
        return -value, -gradient

    starts = np.array(posterior.starts())
    values = posterior.density(starts)
    if not np.isfinite(values).any():
        raise SamplingError(
            "The posterior density is zero at every starting point: the priors and the data exclude each other. "
            "Look at lmm.priors.table(): a bounded prior may be on the wrong scale (units of y)."
        )
    chosen: list[np.ndarray] = []
    for k in np.argsort(-values):
        far = all(np.abs(starts[k] - other).max() > 1 for other in chosen)
        if np.isfinite(values[k]) and far and len(chosen) < SEARCHES:
            chosen.append(starts[k])
    lower, upper = np.array(posterior.box(starts[0])).T
    modes: list[Mode] = []
    for start in chosen:
        if modes and not _behind_a_fall(posterior, start, modes):
            continue
        low, high = np.minimum(lower, start), np.maximum(upper, start)
        x = least_point(objective, start, low, high, gtol=0.02, ftol=1e-6, iterations=200)  # a proposal needs no more
        if any(np.abs(x - mode.phi).max() < 0.1 for mode in modes):
            continue
        value, gradient = objective(x)
        if value >= 1e49:
            continue
        step = 1e-3
        H = np.array([(objective(x + step * e)[1] - gradient) / step for e in np.eye(x.size)])
        eigenvalues, vectors = np.linalg.eigh((H + H.T) / 2)
        H = (vectors * np.clip(np.abs(eigenvalues), 0.05, None)) @ vectors.T
        if any((x - mode.phi) @ mode.H @ (x - mode.phi) < 0.5 for mode in modes):
            continue
        modes.append(Mode(phi=x, H=H, log_density=-value))
    modes.sort(key=lambda mode: -mode.log_mass)
    return [mode for mode in modes if mode.log_mass > modes[0].log_mass - SLIGHT]


def _behind_a_fall(posterior: CollapsedPosterior, start: np.ndarray, modes: list[Mode]) -> bool:
    """Whether the density falls anywhere on the straight way from a start to every mode: else they are one hill."""
    t = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])[:, None]
    ways = np.concatenate([start + t * (mode.phi - start) for mode in modes])
    values = posterior.density(ways).reshape(len(modes), -1)
    return bool((np.diff(values, axis=1) < -1e-6).any(axis=1).all())


def _apart(posterior: CollapsedPosterior, one: Mode, other: Mode) -> bool:
    """Whether the density falls between two modes, on the straight line at least."""
    t = np.linspace(0, 1, 11)[1:-1, None]
    between = posterior.density((1 - t) * one.phi + t * other.phi)
    return bool(between.min() < min(one.log_density, other.log_density) - 0.5)


def weigh(
    posterior: CollapsedPosterior,
    proposal: Mixture,
    x: np.ndarray,
    z: np.ndarray,
    progress: Progress,
    z_u: np.ndarray | None = None,
    stoppable: bool = False,
) -> Batch:
    """Evaluate draws of a proposal; gamma is drawn exactly with standard normals z (n, p), and b with z_u (n, q).

    Where Ctrl-C comes and the work is `stoppable`, the draws are those that are finished.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    effects: list[np.ndarray] = []
    for piece in np.array_split(np.arange(len(x)), max(1, len(x) // _piece(posterior))):
        try:
            if z_u is None:
                lp, lams, conditional = posterior.evaluate(x[piece])
                gamma = conditional.draw(z[piece])
            else:
                lp, lams, gamma, b = posterior.evaluate_with_effects(x[piece], z[piece], z_u[piece])
        except KeyboardInterrupt:
            if stoppable and parts:
                break
            raise
        if z_u is not None:
            effects.append(b)
        other = posterior.other_beta
        if other:
            lp = lp + log_prior_beta([posterior.priors.beta[j] for j in other], gamma[:, list(other)])
        parts.append((lp, lams, gamma))
        progress.advance(len(piece))
    lp, lams, gamma = (np.concatenate(column) for column in zip(*parts, strict=True))
    drawn = np.concatenate(effects) if effects else None
    x = x[: len(lp)]
    return Batch(x=x, lams=lams, gamma=gamma, lp=lp, log_weight=lp - proposal.logpdf(x), b=drawn)


def _piece(posterior: CollapsedPosterior) -> int:
    """Draws between two reports of progress: many where an evaluation is cheap, few where T is large."""
    structure = posterior.stats.layout
    size = structure.zz.size + structure.zt.size + structure.zz_tail.size + 1000
    return min(max(64, 20_000_000 // size), together(posterior.stats.design.p))


def pool(proposals: Sequence[Mixture], batches: Sequence[Batch]) -> Batch:
    """The draws of rounds of equal size, weighted as draws of the mixture of their proposals.

    Source: Cornuet, Marin, Mira & Robert (2012), adaptive multiple importance sampling.
    """
    x, lams, gamma, lp = (
        np.concatenate(parts) for parts in zip(*((b.x, b.lams, b.gamma, b.lp) for b in batches), strict=True)
    )
    mixture = np.logaddexp.reduce([proposal.logpdf(x) for proposal in proposals], axis=0) - np.log(len(proposals))
    return Batch(x=x, lams=lams, gamma=gamma, lp=lp, log_weight=lp - mixture)


def adapt(
    posterior: CollapsedPosterior, rng: np.random.Generator, progress: Progress
) -> tuple[CollapsedPosterior, Mixture, Batch, tuple[int, ...]]:
    """Find the modes, choose coordinates there, match the proposal's moments to the posterior's while that pays.

    The last value says which parts of the mixture belong to modes that lie apart, the largest first.
    """
    progress.stage("finding the mode")
    modes = find_modes(posterior)
    apart: list[int] = []
    for c, mode in enumerate(modes):
        if all(_apart(posterior, mode, modes[other]) for other in apart):
            apart.append(c)
    k, p = modes[0].phi.size, posterior.stats.design.p
    posterior = posterior.shifted(modes[0].phi)
    parts = []
    for mode in modes:
        centre, slope = posterior.from_log(mode.phi)
        parts.append(proposal_at(centre, slope[:, None] * np.linalg.inv(mode.H) * slope, posterior.lower))
    mass = np.exp([mode.log_mass - modes[0].log_mass for mode in modes])
    shares = np.maximum(mass / mass.sum(), 0.05)  # Laplace's masses are rough
    proposal = Mixture(parts=tuple(parts), shares=shares / shares.sum())
    n = 40 * (k + 1) * len(modes)
    progress.stage("adapting the proposal", 3 * n)
    proposals: list[Mixture] = []
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
    return posterior, proposal, pooled, tuple(apart)


def run_chains(
    posterior: CollapsedPosterior,
    *,
    draws: int,
    chains: int,
    seed: np.random.SeedSequence,
    progress: Progress,
) -> Chains:
    """Adapt once, then run `chains` independent chains of `draws` kept states each; fewer where Ctrl-C comes."""
    streams = seed.spawn(chains + 1)
    rng = np.random.default_rng(streams[0])
    posterior, proposal, batch, apart = adapt(posterior, rng, progress)
    p = posterior.stats.design.p
    for attempt in range(2):
        rngs = [np.random.default_rng(stream) for stream in streams[1:]]
        progress.stage("drawing the variance parameters", chains * draws)
        x = np.concatenate([proposal.draw(r, draws) for r in rngs])
        z = np.concatenate([r.standard_normal((draws, p)) for r in rngs])
        z_u = None
        if chains * draws * posterior.stats.layout.q < EFFECTS:
            z_u = np.concatenate([r.standard_normal((draws, posterior.stats.layout.q)) for r in rngs])
        fresh = weigh(posterior, proposal, x, z, progress, z_u, stoppable=True)
        stopped = fresh.lp.size < chains * draws
        chains, draws = finished(fresh.lp.size, chains, draws)
        fresh = fresh.first(chains * draws)
        _require_support(fresh)
        # a short run borrows the weights of the adaptation, to have a tail at all
        few = fresh.lp.size < 200
        shape = pareto_k(np.concatenate([batch.log_weight, fresh.log_weight]) if few else fresh.log_weight)
        if stopped or attempt or (shape < 0.6 and fresh.efficiency > 0.3):
            break
        proposal, batch = proposal.matched(fresh.x, fresh.weights), fresh
    first = rng.choice(batch.lp.size, size=chains, p=batch.weights)
    starting = batch.lp[first] - proposal.logpdf(batch.x[first])
    log_u = np.log(np.stack([r.random(draws) for r in rngs[:chains]]))
    kept, accepted = metropolis(fresh.log_weight.reshape(chains, draws), starting, log_u)
    states, origin = kept.ravel(), np.repeat(first, draws)
    old = states < 0

    def pick(new, before):
        out = new[np.where(old, 0, states)]
        out[old] = before[origin[old]]
        return out

    b = None
    if fresh.b is not None:
        b = fresh.b[np.where(old, 0, states)]
        b[old] = np.nan

    return Chains(
        phi=posterior.to_log(pick(fresh.x, batch.x))[0],
        lams=pick(fresh.lams, batch.lams),
        beta=pick(fresh.gamma, batch.gamma) @ posterior.W.T,
        lp=pick(fresh.lp, batch.lp),
        accepted=accepted,
        pareto_k=shape,
        efficiency=fresh.efficiency,
        modes=_mode_shares(proposal, fresh, apart),
        b=b,
    )


def metropolis(log_weights: np.ndarray, starting: np.ndarray, log_u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which proposal each state is, -1 for that from before the run; which were accepted), both (chains, draws).

    Parameters
    ----------
    log_weights : (chains, draws) array
        Of the proposals.
    starting : (chains,) array
        Log weights of the states from before the run.
    log_u : (chains, draws) array
        Logs of uniform numbers.

    Examples
    --------
    >>> kept, accepted = metropolis(np.array([[-9.0, 1.0, 0.0]]), np.zeros(1), np.log(np.full((1, 3), 0.5)))
    >>> kept.tolist(), accepted.tolist()
    ([[-1, 1, 1]], [[False, True, False]])
    """
    chains, draws = log_weights.shape
    kept = np.empty((chains, draws), dtype=np.int64)
    accepted = np.empty((chains, draws), dtype=bool)
    for c in range(chains):
        current, index = starting[c], -1
        for t in range(draws):
            accepted[c, t] = log_u[c, t] < log_weights[c, t] - current
            if accepted[c, t]:
                current, index = log_weights[c, t], c * draws + t
            kept[c, t] = index
    return kept, accepted


def finished(done: int, chains: int, draws: int) -> tuple[int, int]:
    """Chains, and draws in each, of the first `done` draws of a run, chain after chain.

    Examples
    --------
    >>> finished(4000, 4, 1000), finished(2700, 4, 1000), finished(700, 4, 1000)
    ((4, 1000), (2, 1000), (1, 700))
    """
    return (done // draws, draws) if done >= draws else (1, done)


def _mode_shares(proposal: Mixture, batch: Batch, apart: tuple[int, ...]) -> tuple[float, ...]:
    """Share of the posterior's mass at each mode that lies apart, the largest first; below 1 in 1,000 it is no word."""
    if len(apart) < 2:
        return (1.0,)
    last = proposal.matched(batch.x, batch.weights) if len(proposal.parts) > 1 else proposal
    shares = np.sort(last.shares[list(apart)])[::-1]
    shares = shares[shares > 0.0101] / shares[shares > 0.0101].sum()
    return tuple(float(share) for share in shares)


def _require_support(batch: Batch) -> None:
    if not np.isfinite(batch.log_weight).any():
        raise SamplingError("No draw of the proposal has positive posterior density; use sampler='nuts'.")
