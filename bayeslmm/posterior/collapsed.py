"""The collapsed posterior: the density of the variance parameters with beta and u integrated out.

Coefficients with a Gaussian (or flat) prior are integrated in closed form from T; u is integrated by the
factorisation. A coefficient with any other prior is treated as if its prior were flat, and its own prior enters
as a weight when it is drawn (see `independence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.covariances.residuals.structure import ResidualParameter
from bayeslmm.design.counted import scaled
from bayeslmm.design.parameters import Coordinates
from bayeslmm.factorisation.factor import evaluate_and_draw, evaluate_many, factorise_statistics, pull_back
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.likelihood.criterion import EDGE, together
from bayeslmm.posterior.starts import first_point, starting_points, support
from bayeslmm.priors.resolve import Prior, Priors

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, kw_only=True)
class Conditional:
    """p(gamma | y, variance parameters): N(mean, precision^-1), with batch dimensions first.

    gamma are the coefficients whose priors are stated (`anchors`), beta = W gamma.

    Attributes
    ----------
    mean : (B, p) array
    root : (B, p, p) array
        Lower Cholesky factor of the precision.
    """

    mean: np.ndarray
    root: np.ndarray

    def draw(self, z: np.ndarray) -> np.ndarray:
        """Turn standard normal z (B, p) into draws of gamma."""
        if z.shape[1] == 0:
            return z
        return self.mean + np.linalg.solve(np.swapaxes(self.root, -1, -2), z[..., None])[..., 0]


@dataclass(frozen=True, kw_only=True)
class Points:
    """B points of the variance parameters, as the factorisations need them.

    Attributes
    ----------
    phi : (B, k) array
        Log SDs, partial correlations and R's parameters.
    lams : (B, n_lambda) array
    coefs : (B, T) array or None
        Coefficients of R^-1's terms.
    logdet_R : (B,) array
    sane : (B,) array of bool
        False where something overflows; the others then have harmless values.
    """

    phi: np.ndarray
    lams: np.ndarray
    coefs: np.ndarray | None
    logdet_R: np.ndarray
    sane: np.ndarray


@dataclass(frozen=True, kw_only=True)
class CollapsedPosterior:
    """log p(x | y) up to a constant, for x the variance parameters on the real line.

    An SD has the coordinate log(SD + shift): with shift 0 its posterior has a long left tail wherever zero cannot be
    ruled out; shifted, it ends at a finite point instead. Correlations have the arctanh of their partial correlations.
    """

    stats: Statistics
    priors: Priors
    shift: np.ndarray

    @cached_property
    def coordinates(self) -> Coordinates:
        """Log SDs and partial correlations; `to_log` leads there from x."""
        return Coordinates(design=self.stats.design, maps=self.priors.effect_maps)

    @cached_property
    def W(self) -> np.ndarray:
        """beta = W gamma, gamma being the coefficients whose priors are stated."""
        return self.priors.beta_map

    @cached_property
    def RW(self) -> np.ndarray:
        """X W = Q RW, from the columns themselves: R W would lose what a distant zero costs."""
        at = self.priors.beta_anchor
        if at is None:
            return self.stats.upper
        return self.stats.Q.T @ scaled(at.columns, self.stats.design.counted.root)

    @cached_property
    def sd_positions(self) -> list[int]:
        """Where the standard deviations stand, in the order of ``priors.sds``."""
        return [0, *(k for sd, _ in self.coordinates.slices for k in range(sd.start, sd.stop))]

    @cached_property
    def gaussian_beta(self) -> tuple[np.ndarray, np.ndarray]:
        """Means and precisions of the coefficients' Gaussian priors; precision 0 where flat or not Gaussian."""
        pairs = [prior.gaussian or (0.0, 0.0) for prior in self.priors.beta]
        return np.array([m for m, _ in pairs]), np.array([k for _, k in pairs])

    @cached_property
    def other_beta(self) -> tuple[int, ...]:
        """Coefficients whose prior isn't Gaussian."""
        return tuple(j for j, prior in enumerate(self.priors.beta) if prior.gaussian is None)

    # coordinates -----------------------------------------------------------------------------------------------

    def to_log(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log SDs and partial correlations, log |d SD / d x| summed); leading dimensions are kept.

        Outside the support (SD <= 0) the first is NaN.
        """
        phi = np.array(x, dtype=float)
        jacobian = np.zeros(phi.shape[:-1])
        for k in self.sd_positions:
            jacobian = jacobian + phi[..., k]
            if self.shift[k] > 0:
                with np.errstate(invalid="ignore", divide="ignore"):
                    phi[..., k] = np.log(np.exp(phi[..., k]) - self.shift[k])
        return phi, jacobian

    @cached_property
    def lower(self) -> np.ndarray:
        """Where the SDs are zero, on the scale of x; -inf for coordinates without a shift."""
        with np.errstate(divide="ignore"):
            return np.log(self.shift)

    def shifted(self, mode: np.ndarray) -> CollapsedPosterior:
        """The same posterior, each group SD's coordinate shifted by its value at `mode` (k,), in logs."""
        shift = np.zeros(mode.size)
        for k in self.sd_positions[1:]:
            shift[k] = np.exp(mode[k])
        return replace(self, shift=shift)

    def from_log(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and d x / d phi (k,) at log coordinates phi (k,)."""
        return np.where(self.shift > 0, np.log(np.exp(phi) + self.shift), phi), np.exp(phi) / (np.exp(phi) + self.shift)

    def coefficients(self, phi: np.ndarray) -> np.ndarray | None:
        """Coefficients (B, T) of R^-1's terms; None where R is known."""
        residual = self.stats.design.residual
        return None if residual.fixed else residual.coefficients_at(self.coordinates.psi(phi))

    def log_det_R(self, phi: np.ndarray) -> np.ndarray:
        """log|R| (B,)."""
        return self.stats.design.residual.log_det(np.moveaxis(self.coordinates.psi(phi), -1, 0))

    def box(self, start: np.ndarray) -> list[tuple[float, float]]:
        """Bounds of the log coordinates: the priors' supports, and 15 either side of the start."""
        bounds = [(x - 15.0, x + 15.0) for x in start]
        for k, lower, upper in zip(self.sd_positions, self.priors.sds.lower, self.priors.sds.upper, strict=True):
            low, high = bounds[k]
            if lower > 0:
                low = np.log(lower) + 1e-6
            if np.isfinite(upper):
                high = np.log(upper) - 1e-6
            bounds[k] = (low, high)
        for k, parameter, prior in self.residual_priors:
            low, high = support(parameter, prior)
            bounds[k] = (max(low, -EDGE), min(high, EDGE))
        return bounds

    @cached_property
    def residual_priors(self) -> tuple[tuple[int, ResidualParameter, Prior], ...]:
        """(position, parameter, prior) of R's parameters."""
        first = self.coordinates.residual.start
        pairs = zip(self.stats.design.residual.parameters, self.priors.residual, strict=True)
        return tuple((first + k, parameter, prior) for k, (parameter, prior) in enumerate(pairs))

    def kernel_lambdas(self, phi: np.ndarray) -> np.ndarray:
        """The kernels' lambda vectors (B, n_lambda)."""
        factors = self.coordinates.relative_factors(phi)
        parts = [(M @ lam).reshape(*phi.shape[:-1], -1) for M, lam in zip(self.stats.maps, factors, strict=True)]
        return np.concatenate([*parts, np.zeros((*phi.shape[:-1], 0))], axis=-1)

    # density ---------------------------------------------------------------------------------------------------

    def log_prior(self, x: np.ndarray) -> np.ndarray:
        """Log prior density of x (..., k): SDs, correlations, Jacobians."""
        phi, total = self.to_log(x)
        total = total + self.priors.sds.logpdf(np.exp(phi[..., self.sd_positions]))
        for k, parameter, prior in self.residual_priors:
            with np.errstate(divide="ignore"):
                total = total + prior.logpdf(parameter.natural(phi[..., k])) + np.log(parameter.slope(phi[..., k]))
        for level, (_, corr), own in zip(
            self.stats.design.levels, self.coordinates.slices, self.priors.corr, strict=True
        ):
            if own is not None:
                total = total + level.structure.log_prior(own, phi[..., corr], level.r)
        return total

    def conditional(self, phi: np.ndarray, T: np.ndarray) -> Conditional:
        """p(beta | y, phi) from T (B, d, d)."""
        H, h = self._normal_equations(phi, T)
        size = 1 / np.sqrt(np.einsum("bii->bi", H))
        L = _cholesky_or_nan(H * size[:, :, None] * size[:, None, :])
        half = np.linalg.solve(L, (h * size)[..., None])
        mean = np.linalg.solve(np.swapaxes(L, -1, -2), half)[..., 0] * size
        return Conditional(mean=mean, root=L / size[:, :, None])

    def _normal_equations(self, phi: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p, R = self.stats.design.p, self.RW
        mean, precision = self.gaussian_beta
        weight = np.exp(-2 * phi[:, 0])
        H = weight[:, None, None] * (R.T @ T[:, :p, :p] @ R)
        H[:, np.arange(p), np.arange(p)] += precision
        h = (
            weight[:, None] * ((T[:, :p, :p] @ self.stats.gamma + self.stats.scale * T[:, :p, p]) @ R)
            + precision * mean
        )
        return H, h

    def v(self, beta: np.ndarray) -> np.ndarray:
        """v (B, p + 1) with y - X beta = [Q y_] v."""
        return np.column_stack([self.stats.gamma - beta @ self.stats.upper.T, np.full(len(beta), self.stats.scale)])

    def v_stated(self, gamma: np.ndarray) -> np.ndarray:
        """The same for beta = W gamma."""
        return np.column_stack([self.stats.gamma - gamma @ self.RW.T, np.full(len(gamma), self.stats.scale)])

    def log_likelihood(
        self, phi: np.ndarray, logdet: np.ndarray, T: np.ndarray, conditional: Conditional
    ) -> np.ndarray:
        """Log of the integral of p(y | beta, phi) p(beta) over beta."""
        mean, precision = self.gaussian_beta
        v = self.v_stated(conditional.mean)
        fit = np.einsum("bi,bij,bj->b", v, T, v) * np.exp(-2 * phi[:, 0])
        shrink = ((conditional.mean - mean) ** 2 @ precision) if mean.size else 0.0
        logdet_H = 2 * np.log(np.einsum("bii->bi", conditional.root)).sum(axis=1)
        proper = precision[precision > 0]
        constant = 0.5 * np.log(proper).sum() + 0.5 * (precision.size - proper.size) * LOG_2PI
        n = self.stats.design.n
        return -0.5 * (n * (LOG_2PI + 2 * phi[:, 0]) + logdet + fit + shrink + logdet_H) + constant

    def evaluate(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Conditional]:
        """(log density (B,), kernel lambdas, p(gamma | y, x)) at x (B, k); -inf where anything overflows."""
        at = self._points(x)
        logdet, T = evaluate_many(self.stats, at.lams, at.coefs)
        conditional = self.conditional(at.phi, _finite(T))
        return self._density(x, at, logdet, T, conditional), at.lams, conditional

    def density(self, x: np.ndarray) -> np.ndarray:
        """Log density (B,) alone at x (B, k), so many points at a time that their T don't add up."""
        step = together(self.stats.design.p)
        return np.concatenate([self.evaluate(x[k : k + step])[0] for k in range(0, len(x), step)])

    def evaluate_with_effects(
        self, x: np.ndarray, z: np.ndarray, z_u: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(log density (B,), kernel lambdas, gamma (B, p), b (B, q)) at x (B, k): all from one factorisation each.

        z (B, p) and z_u (B, q) are standard normals.
        """
        at = self._points(x)
        mean, root, gamma = np.empty_like(z), np.empty((*z.shape, z.shape[1])), np.empty_like(z)

        def respond(rows: slice, T: np.ndarray) -> np.ndarray:
            given = self.conditional(at.phi[rows], _finite(T))
            mean[rows], root[rows], gamma[rows] = given.mean, given.root, given.draw(z[rows])
            return self.v_stated(gamma[rows])

        logdet, T, b = evaluate_and_draw(self.stats, at.lams, at.coefs, np.exp(at.phi[:, 0]), z_u, respond)
        return self._density(x, at, logdet, T, Conditional(mean=mean, root=root)), at.lams, gamma, b

    def _points(self, x: np.ndarray) -> Points:
        """What the factorisations need at x (B, k), with harmless values where it overflows."""
        phi, _ = self.to_log(x)
        with np.errstate(all="ignore"):  # far-away proposals overflow; they are refused
            lams = self.kernel_lambdas(phi)
            coefs = self.coefficients(phi)
            logdet_R = self.log_det_R(phi) * np.ones(len(x))
        sane = (
            np.isfinite(phi).all(axis=1)
            & np.isfinite(logdet_R)
            & np.isfinite(lams).all(axis=1)
            & (np.abs(lams).max(axis=1, initial=0.0) < 1e12)
            & (np.abs(phi) < 300).all(axis=1)
        )
        if coefs is not None:
            sane &= (np.abs(coefs) < 1e12).all(axis=1)
            residual = self.stats.design.residual
            coefs = np.where(sane[:, None], coefs, np.array(residual.coefficients(residual.neutral), dtype=float))
        return Points(
            phi=np.where(sane[:, None], phi, 0.0),
            lams=np.where(sane[:, None], lams, 1.0),
            coefs=coefs,
            logdet_R=logdet_R,
            sane=sane,
        )

    def _density(
        self, x: np.ndarray, at: Points, logdet: np.ndarray, T: np.ndarray, conditional: Conditional
    ) -> np.ndarray:
        """Log density (B,) at x from what the factorisations gave; -inf where anything overflowed."""
        with np.errstate(invalid="ignore"):
            value = self.log_likelihood(at.phi, logdet + at.logdet_R, _finite(T), conditional) + self.log_prior(x)
        sane = at.sane & np.isfinite(logdet) & np.isfinite(T).all(axis=(1, 2)) & np.isfinite(value)
        return np.where(sane, value, -np.inf)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and gradient at one x (k,).

        The factorisation's part is analytic; the map from x to lambda, sigma's own part and the priors, all cheap
        and smooth, are differenced with T held fixed.
        """
        here = self.to_log(x)[0]
        residual = self.stats.design.residual
        psi = self.coordinates.psi(here)
        factor = factorise_statistics(self.stats.at(psi), self.kernel_lambdas(here))
        step = 1e-5
        around = np.concatenate([x[None], x + step * np.eye(x.size), x - step * np.eye(x.size)])
        phi, _ = self.to_log(around)
        logdet = np.full(len(around), factor.logdet + float(residual.log_det(psi)))
        T = np.broadcast_to(factor.T, (len(around), *factor.T.shape))
        conditional = self.conditional(phi, T)
        values = self.log_likelihood(phi, logdet, T, conditional) + self.log_prior(around)
        lams = self.kernel_lambdas(phi)
        k = x.size
        gradient = (values[1 : k + 1] - values[k + 1 :]) / (2 * step)
        chain = (lams[1 : k + 1] - lams[k + 1 :]) / (2 * step)
        weight = float(np.exp(-2 * phi[0, 0]))
        v = self.v_stated(conditional.mean[:1])[0]
        Tbar = -0.5 * weight * np.outer(v, v)
        p = self.stats.design.p
        if p:
            S = np.linalg.solve(conditional.root[0], self.RW.T)
            Tbar[:p, :p] -= 0.5 * weight * S.T @ S
        bar, slopes = pull_back(self.stats, factor, -0.5, Tbar, psi)
        tail = self.coordinates.residual
        gradient[tail] += slopes * residual.slope(here[tail])
        return float(values[0]), gradient + chain @ bar

    def start(self) -> np.ndarray:
        """A sensible first point, in logs."""
        return first_point(self)

    def starts(self) -> list[np.ndarray]:
        """First points, in logs, from which the modes are looked for: more than one may be a mode's."""
        return starting_points(self)


def collapsed_posterior(stats: Statistics, priors: Priors) -> CollapsedPosterior:
    """The collapsed posterior in its log coordinates."""
    return CollapsedPosterior(stats=stats, priors=priors, shift=np.zeros(Coordinates(design=stats.design).size))


def _cholesky_or_nan(A: np.ndarray) -> np.ndarray:
    """Cholesky factors of a stack of matrices; NaN for those that are not positive definite."""
    try:
        return np.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        out = np.full_like(A, np.nan)
        for i, one in enumerate(A):
            with suppress(np.linalg.LinAlgError):
                out[i] = np.linalg.cholesky(one)
        return out


def _finite(T: np.ndarray) -> np.ndarray:
    """T (B, d, d) with identities in place of those that have overflowed."""
    return np.where(np.isfinite(T).all(axis=(1, 2))[:, None, None], T, np.eye(T.shape[1]))


def log_prior_beta(priors: Sequence[Prior], beta: np.ndarray) -> np.ndarray:
    """Log prior density of the coefficients whose priors are given, beta (B, len(priors))."""
    return (
        np.sum([prior.logpdf(beta[:, j]) for j, prior in enumerate(priors)], axis=0) if priors else np.zeros(len(beta))
    )
