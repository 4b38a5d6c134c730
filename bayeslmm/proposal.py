"""The proposal of the independence sampler: a multivariate t whose margins are skewed, folded at lower bounds.

Source: Jones & Pewsey (2009) for the skewing by sinh and arcsinh; the tails remain those of the t.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

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
        x = self.loc + self.scale * np.sinh(np.arcsinh(t) + self.skew)
        return np.where(x < self.lower, 2 * self.lower - x, x)

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log density (n,) up to a constant: a sum over the sides from which x (n, k) may have been reflected."""
        near = np.flatnonzero(self.loc - self.lower < 30 * self.scale)[:8]
        terms = []
        for sides in product((False, True), repeat=len(near)):
            image = x.copy()
            for k, reflected in zip(near, sides, strict=True):
                if reflected:
                    image[:, k] = 2 * self.lower[k] - x[:, k]
            terms.append(self._unfolded(image))
        return np.logaddexp.reduce(terms, axis=0)

    def _unfolded(self, x: np.ndarray) -> np.ndarray:
        standard = (x - self.loc) / self.scale
        t = np.sinh(np.arcsinh(standard) - self.skew)
        slopes = 0.5 * (np.log1p(t * t) - np.log1p(standard * standard)).sum(axis=1)
        z = np.linalg.solve(self.root, (t - self.mean).T)
        kernel = -0.5 * (self.dof + self.mean.size) * np.log1p(np.einsum("ij,ij->j", z, z) / self.dof)
        return kernel + slopes - np.log(np.diag(self.root) * self.scale).sum()

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
        t = np.sinh(np.arcsinh((x - loc) / scale) - skew)
        mean = w @ t
        cov = ((t - mean) * w[:, None]).T @ (t - mean)
        root = lower_root((1 - keep) * cov + keep * self.root @ self.root.T)
        return replace(self, loc=loc, scale=scale, skew=skew, mean=mean, root=root)


def proposal_at(centre: np.ndarray, cov: np.ndarray, lower: np.ndarray) -> Proposal:
    """A first proposal without skew: centre (k,), covariance (k, k) of the normal that it resembles, bounds (k,)."""
    sd = np.sqrt(np.diag(cov))
    zero = np.zeros(centre.size)
    return Proposal(loc=centre, scale=sd, skew=zero, mean=zero, root=lower_root(cov / np.outer(sd, sd)), lower=lower)


def _moments(skew: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, SD and skewness of sinh(arcsinh(z) + skew) = z cosh(skew) + sqrt(1 + z^2) sinh(skew), z standard normal."""
    C, S = np.cosh(skew), np.sinh(skew)
    first, second = E_ROOT * S, C**2 + 2 * S**2
    third = 3 * C**2 * S * E_CUBE + S**3 * (E_ROOT + E_CUBE)
    sd = np.sqrt(second - first**2)
    return first, sd, (third - 3 * first * second + 2 * first**3) / sd**3


def lower_root(cov: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a covariance, positive definite up to rounding."""
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    return np.linalg.cholesky((vectors * np.maximum(values, 1e-10 * values.max())) @ vectors.T)
