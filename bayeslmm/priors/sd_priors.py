"""The joint prior of all standard deviations: one by one, or a total and how it is split.

Both kinds have the same methods, so samplers and tables don't ask which one it is. SDs stand in the order sigma,
then level by level, effect by effect; a level whose covariance is entirely known has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import lgamma, log
from typing import Any

import numpy as np

from bayeslmm.design.counted import mean
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.distributions.prior import Prior
from bayeslmm.priors.defaults import mean_row_variance


def sd_names(level: LevelDesign) -> dict[str, str]:
    """Effect to the name of its standard deviation: sigma_u2, or sigma_u2[Days] where there are several."""
    labels = level.sd_labels
    return dict(zip(level.effects, labels, strict=True)) if len(labels) == level.r else {name: name for name in labels}


def mean_square(level: LevelDesign) -> np.ndarray:
    """Mean over the rows of the variance that each SD (k,) of 1 adds to y.

    The mean square of its column, 1 for an intercept; with a known covariance K of the groups, each row's square
    times the variance of its group in K.
    """
    each = mean(level.columns**2 * level.variances[level.index, None], level.counts)
    return level.structure.gather_squares(each) if level.n_sds else each


def tied_mean_square(design: Design) -> float:
    """Mean over the rows of what sigma^2 = 1 adds to their variance: R, at equal strata, and levels of sigma^2 K."""
    tied = sum(float(mean_square(level).sum()) for level in design.levels if level.known)
    return mean_row_variance(design.residual) + tied


@dataclass(frozen=True, kw_only=True)
class IndependentSDs:
    """Standard deviations with a prior each.

    Examples
    --------
    >>> sds = IndependentSDs(priors=(Prior("HalfNormal", sigma=1), Prior("Exponential", lam=2)))
    >>> float(sds.logpdf(np.array([1.0, 0.5])).round(4))
    -1.0326
    """

    priors: tuple[Prior, ...]

    @property
    def flat(self) -> tuple[int, ...]:
        """Which SDs have an improper prior, that can't be drawn from."""
        return tuple(k for k, prior in enumerate(self.priors) if prior.is_flat)

    @property
    def lower(self) -> np.ndarray:
        """Lower ends of the supports."""
        return np.array([prior.lower for prior in self.priors])

    @property
    def upper(self) -> np.ndarray:
        """Upper ends of the supports."""
        return np.array([prior.upper for prior in self.priors])

    def logpdf(self, sds: np.ndarray) -> np.ndarray:
        """Log density at SDs (..., k)."""
        return sum((prior.logpdf(sds[..., k]) for k, prior in enumerate(self.priors)), np.zeros(sds.shape[:-1]))

    def rvs(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draws (size, k)."""
        return np.stack([prior.rvs(rng, size) for prior in self.priors], axis=-1)

    def density(self, k: int, x: np.ndarray) -> np.ndarray:
        """Density of one SD at x (n,)."""
        return np.exp(self.priors[k].logpdf(x))

    def inside(self, sds: np.ndarray) -> np.ndarray:
        """SDs (k,) well within the support, near the given ones."""
        low, high = self.lower, self.upper
        width = np.where(np.isfinite(high), high - low, 0.0)
        return np.where(width > 0, np.clip(sds, low + 0.05 * width, high - 0.05 * width), np.maximum(sds, 1.05 * low))


@dataclass(frozen=True, kw_only=True)
class VarianceShares:
    r"""A prior on the total SD tau and a Dirichlet on how tau^2 is split between the rows and the effects.

    Effect j adds v_j = (c_j s_j)^2 to the variance of y, its SD s_j times the root mean square c_j of its column:

        tau^2 = sum_j v_j,   pi_j = v_j / tau^2,   tau ~ total,   pi ~ Dirichlet(a),   independently.

    Covariances between effects of a level are left out of the total: they have a prior of their own. sigma stands
    for all that is tied to it: residuals, of whatever weights, and levels whose covariance is sigma^2 K.

    Attributes
    ----------
    total : Prior
        Of tau, in units of y.
    concentration : tuple of float
        a_j, one per SD. 1 makes every split alike; the larger, the nearer to shares a_j / sum a; with 1/2 an SD has a
        positive density at zero, as under a half-normal, above that it is kept away from zero.
    scales : tuple of float
        c_j.
    names : tuple of str
        Of the SDs.

    Notes
    -----
    The density of the SDs. (tau^2, pi_1, ..., pi_K) -> (v_0, ..., v_K) has the Jacobian (tau^2)^K, besides
    d tau^2 / d tau = 2 tau and d v_j / d s_j = 2 c_j^2 s_j, so that

        p(s) = p(tau) Dirichlet(pi | a) 2^K prod_j (c_j^2 s_j) / tau^(2 K + 1).

    Source: the decomposition of Zhang, Naughton, Bondell & Reich (2022, R2D2) and of Fuglstad et al. (2020), here
    with tau in the place of R^2.

    Examples
    --------
    Two shares, uniformly split, tau uniform on (0, 2): p(s) is the area's 2 s_0 s_1 / tau^3, half of p(tau).

    >>> total = Prior("Uniform", lower=0, upper=2)
    >>> one = VarianceShares(total=total, concentration=(1.0, 1.0), scales=(1.0, 1.0), names=("sigma", "sigma_u2"))
    >>> p = float(np.exp(one.logpdf(np.array([0.6, 0.8]))))
    >>> round(p, 6) == round(0.5 * 2 * 0.6 * 0.8, 6)
    True
    """

    total: Prior
    concentration: tuple[float, ...]
    scales: tuple[float, ...]
    names: tuple[str, ...]

    @property
    def dirichlet(self) -> Prior:
        """The prior of the shares."""
        return Prior("Dirichlet", a=self.concentration)

    @property
    def flat(self) -> tuple[int, ...]:
        """Which SDs have an improper prior: all of them, or none."""
        return tuple(range(len(self.names))) if self.total.is_flat else ()

    @property
    def lower(self) -> np.ndarray:
        """Lower ends of the supports of single SDs."""
        return np.zeros(len(self.names))

    @property
    def upper(self) -> np.ndarray:
        """Upper ends of the supports of single SDs."""
        return self.total.upper / np.array(self.scales)

    @cached_property
    def _constant(self) -> float:
        a = self.concentration
        dirichlet = lgamma(sum(a)) - sum(lgamma(x) for x in a)
        return dirichlet + (len(a) - 1) * log(2) + 2 * sum(log(c) for c in self.scales)

    def split(self, sds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(tau (...), shares (..., k)) of SDs (..., k).

        Examples
        --------
        >>> one = VarianceShares(total=Prior("HalfFlat"), concentration=(1, 1), scales=(1.0, 2.0), names=("a", "b"))
        >>> tau, shares = one.split(np.array([3.0, 2.0]))
        >>> float(tau), shares.round(6).tolist()
        (5.0, [0.36, 0.64])
        """
        parts = np.asarray(sds, dtype=float) * np.array(self.scales)
        tau = np.sqrt((parts**2).sum(axis=-1))
        return tau, (parts / np.where(tau > 0, tau, 1.0)[..., None]) ** 2

    def join(self, tau: Any, shares: Any) -> Any:
        """SDs (..., k) from tau (...) and shares (..., k); numbers or tensors."""
        return tau[..., None] * shares**0.5 / np.array(self.scales)

    def logpdf(self, sds: np.ndarray) -> np.ndarray:
        """Log density at SDs (..., k)."""
        sds = np.asarray(sds, dtype=float)
        tau, _ = self.split(sds)
        a = np.array(self.concentration)
        inside = (sds > 0).all(axis=-1) & np.isfinite(sds).all(axis=-1)
        safe = np.where(inside[..., None], sds, 1.0)
        log_tau = np.log(np.where(inside, tau, 1.0))
        log_shares = 2 * (np.log(safe * np.array(self.scales)) - log_tau[..., None])
        value = self.total.logpdf(tau) + self._constant + log_shares @ (a - 1) + np.log(safe).sum(axis=-1)
        return np.where(inside, value - (2 * len(a) - 1) * log_tau, np.where(np.isnan(tau), np.nan, -np.inf))[()]

    def rvs(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draws (size, k) of the SDs."""
        tau = self.total.rvs(rng, size)
        return self.join(tau, rng.dirichlet(self.concentration, size))

    def density(self, k: int, x: np.ndarray) -> np.ndarray:
        """Density of one SD at x (n,): that of its share, a beta, averaged over quantiles of tau."""
        tau = self.total.quantile((np.arange(2000) + 0.5) / 2000)
        a = self.concentration
        share = Prior("Beta", alpha=a[k], beta=sum(a) - a[k])
        x = np.asarray(x, dtype=float)[:, None]
        slope = self.scales[k] / tau
        return (np.exp(share.logpdf((x * slope) ** 2)) * 2 * x * slope**2).mean(axis=1)

    def inside(self, sds: np.ndarray) -> np.ndarray:
        """SDs (k,) well within the support, near the given ones: tau is moved, the shares are kept."""
        tau = self.split(sds)[0]
        moved = IndependentSDs(priors=(self.total,)).inside(tau[None])[0]
        return np.asarray(sds) * (moved / tau)
