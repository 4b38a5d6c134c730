"""The proposal of the independence sampler: a multivariate t whose margins are skewed, folded at lower bounds.

Source: Jones & Pewsey (2009) for the skewing by sinh and arcsinh; the tails remain those of the t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import lgamma, log, pi

import numpy as np

from bayeslmm.errors import SamplingError

SKEWS = np.linspace(-1.0, 1.0, 201)  # of which a normal margin gets a skewness of -1.17 to 1.17
E_ROOT, E_CUBE = 1.3545308064813155, 1.9194216537269737  # of z standard normal: E sqrt(1 + z^2), E z^2 sqrt(1 + z^2)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """x = loc + scale sinh(arcsinh(t) + skew), t multivariate t; what falls below a bound is reflected.

    Attributes
    ----------
    loc, scale, skew : (k,) arrays
    mean : (k,) array
        Of the t.
    root : (k, k) array
        Lower factor of the t's scale matrix.
    lower : (k,) array
        Bounds of x, -inf where there is none.
    dof : float
        Degrees of freedom of the t.
    """

    loc: np.ndarray
    scale: np.ndarray
    skew: np.ndarray
    mean: np.ndarray
    root: np.ndarray
    lower: np.ndarray
    dof: float = 10.0

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """N draws, (n, k)."""
        z = rng.standard_normal((n, self.mean.size))
        t = self.mean + (z @ self.root.T) * np.sqrt(self.dof / rng.chisquare(self.dof, n))[:, None]
        x = self.loc + self.scale * _skewed(t, self.skew)
        return np.where(x < self.lower, 2 * self.lower - x, x)

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density (n,): a sum over the sides from which x (n, k) may have been reflected."""
        near = np.flatnonzero(self.loc - self.lower < 30 * self.scale)[:8]
        sides = np.array(list(product((False, True), repeat=near.size)))
        images = np.tile(x.T[:, None, :], (1, len(sides), 1))  # (k, sides, n): rows of one coordinate, for speed
        mirrored = 2 * self.lower[near, None] - x.T[near]
        images[near] = np.where(sides.T[:, :, None], mirrored[:, None, :], images[near])
        terms = self._unfolded(images.reshape(self.mean.size, -1)).reshape(len(sides), -1)
        top = terms.max(axis=0)
        return top + np.log(np.exp(terms - top).sum(axis=0))

    def _unfolded(self, x: np.ndarray) -> np.ndarray:
        """Log density (n,) of the t before folding at x (k, n)."""
        standard = (x - self.loc[:, None]) / self.scale[:, None]
        t = _skewed(standard, -self.skew[:, None])
        slopes = 0.5 * np.log(((1 + t * t) / (1 + standard * standard)).prod(axis=0))
        z = np.linalg.inv(self.root) @ (t - self.mean[:, None])
        kernel = -0.5 * (self.dof + self.mean.size) * np.log1p((z * z).sum(axis=0) / self.dof)
        return kernel + slopes - np.log(np.diag(self.root) * self.scale).sum() + self._constant

    @property
    def _constant(self) -> float:
        """That of the multivariate t."""
        k = self.mean.size
        return lgamma((self.dof + k) / 2) - lgamma(self.dof / 2) - 0.5 * k * log(self.dof * pi)

    def matched(self, x: np.ndarray, weights: np.ndarray) -> Proposal:
        """The proposal with the moments of draws x (n, k), up to the margins' third; with some of its own if few count.

        Parameters
        ----------
        weights : (n,) array
            Of the draws; the largest are truncated at sqrt(n) times their mean (Ionides 2008).
        """
        w = np.minimum(weights, weights.mean() * np.sqrt(weights.size))
        w = w / w.sum()
        count = 1 / (w @ w)
        keep = 1 / (1 + 0.1 * count / self.mean.size)
        centre = w @ x
        sd = np.sqrt(w @ (x - centre) ** 2)
        skewness = count / (count + 120) * (w @ ((x - centre) / sd) ** 3)
        skew = np.interp(skewness, _moments(SKEWS)[2], SKEWS)
        first, spread, _ = _moments(skew)
        scale = sd / spread
        loc = centre - scale * first
        t = _skewed((x - loc) / scale, -skew)
        mean = w @ t
        cov = ((t - mean) * w[:, None]).T @ (t - mean)
        root = lower_root((1 - keep) * cov + keep * self.root @ self.root.T)
        return replace(self, loc=loc, scale=scale, skew=skew, mean=mean, root=root)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A mixture of proposals, one per mode of the posterior.

    Attributes
    ----------
    parts : tuple of Proposal
    shares : (c,) array
        How much of the mass each has.
    """

    parts: tuple[Proposal, ...]
    shares: np.ndarray

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """N draws, (n, k), in random order."""
        if len(self.parts) == 1:
            return self.parts[0].draw(rng, n)
        which = rng.choice(len(self.parts), size=n, p=self.shares)
        x = np.empty((n, self.parts[0].mean.size))
        for c, part in enumerate(self.parts):
            x[which == c] = part.draw(rng, int((which == c).sum()))
        return x

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density (n,)."""
        return np.logaddexp.reduce(self._terms(x), axis=0)

    def _terms(self, x: np.ndarray) -> np.ndarray:
        """Log densities (c, n) of the parts at x, with their shares."""
        return np.stack([np.log(w) + part.logpdf(x) for w, part in zip(self.shares, self.parts, strict=True)])

    def matched(self, x: np.ndarray, weights: np.ndarray) -> Mixture:
        """The mixture whose parts have the moments of the draws that are theirs: a step of EM with weighted draws."""
        if len(self.parts) == 1:
            return replace(self, parts=(self.parts[0].matched(x, weights),))
        terms = self._terms(x)
        theirs = np.exp(terms - np.logaddexp.reduce(terms, axis=0)) * weights
        mass = theirs.sum(axis=1) / weights.sum()
        parts = tuple(
            part.matched(x, own) if own.sum() ** 2 > 5 * (own @ own) else part
            for part, own in zip(self.parts, theirs, strict=True)
        )
        shares = np.maximum(mass, 0.01)  # a mode is not given up on few draws
        return Mixture(parts=parts, shares=shares / shares.sum())


def proposal_at(centre: np.ndarray, cov: np.ndarray, lower: np.ndarray) -> Proposal:
    """A first proposal without skew: centre (k,), covariance (k, k) of the normal that it resembles, bounds (k,)."""
    sd = np.sqrt(np.diag(cov))
    zero = np.zeros(centre.size)
    return Proposal(loc=centre, scale=sd, skew=zero, mean=zero, root=lower_root(cov / np.outer(sd, sd)), lower=lower)


def _skewed(t: np.ndarray, skew: np.ndarray) -> np.ndarray:
    """sinh(arcsinh(t) + skew), whose inverse has the opposite skew."""
    return t * np.cosh(skew) + np.sqrt(1 + t * t) * np.sinh(skew)


def _moments(skew: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, SD and skewness of a standard normal that is `_skewed`."""
    C, S = np.cosh(skew), np.sinh(skew)
    first, second = E_ROOT * S, C**2 + 2 * S**2
    third = 3 * C**2 * S * E_CUBE + S**3 * (E_ROOT + E_CUBE)
    sd = np.sqrt(second - first**2)
    return first, sd, (third - 3 * first * second + 2 * first**3) / sd**3


def lower_root(cov: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a covariance, positive definite up to rounding."""
    if not np.isfinite(cov).all():
        raise SamplingError(
            "The posterior density is too sharp or too wide to be explored: the moments of its draws overflow. The "
            "model probably fits every row; take effects out, scale the data, or give sigma a prior bounded below."
        )
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    return np.linalg.cholesky((vectors * np.maximum(values, 1e-10 * values.max())) @ vectors.T)
