"""ML and REML: best linear unbiased predictions and their variances, exact given the variance parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.factorisation.effect_covariances import EffectCovariances
from bayeslmm.factorisation.factor import Factor
from bayeslmm.likelihood.criterion import Criterion
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.predictions.linear import Linear
from bayeslmm.predictions.results import Estimates, Part, Result
from bayeslmm.support.threads import one_blas_thread


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult(Result):
    """A fit: with w = x beta + z u, Var(w^ - w) = sigma^2 [x z] C^-1 [x z]' by Henderson's equations.

    C^-1 is never made: given beta, u has the covariance sigma^2 C_uu, and beta moves w by h = x - z C_uu Z'R^-1 X, so
    that the variance is sigma^2 (z C_uu z' + h P^-1 h') with P = X'V^-1 X.

    Source: Henderson (1975), Best linear unbiased estimation and prediction under a selection model, Biometrics 31.
    """

    fit: LikelihoodFit

    @property
    def name(self) -> str:
        """ML or REML."""
        return self.fit.method

    @cached_property
    def _criterion(self) -> Criterion:
        return Criterion(stats=self.fit.stats, reml=self.fit.method == "REML")

    @cached_property
    def _factor(self) -> Factor:
        return self._criterion.factor(self.fit.optimum.phi)

    @cached_property
    def _fixed(self) -> tuple[np.ndarray, np.ndarray]:
        """(R^-1 of X = Q R, P^-1 in the coordinates of Q)."""
        p = self.fit.design.p
        return np.linalg.inv(self.fit.stats.upper), np.linalg.inv(self._factor.T[:p, :p])

    def estimates(self, parts: Iterable[Part], means: Sequence[np.ndarray | None], level: float) -> Estimates:
        """Predictions, their standard errors, and normal intervals."""
        from scipy.sparse import vstack
        from scipy.special import ndtri

        fit = self.fit
        covariances = EffectCovariances(stats=fit.stats.at(fit.psi), factor=self._factor, means=means)
        effects, back = _with_means(fit, means), self._back()
        values, variances, Zs = [], [], []
        with one_blas_thread():
            for part in parts:
                linear, rest = self._with_noise(part)
                Z = (linear.Z @ back).tocsr()
                Rinv, Pinv = self._fixed
                h = linear.X @ Rinv - Z @ covariances.loadings
                values.append(linear.constant + linear.X @ fit.beta + linear.Z @ effects)
                variances.append(rest + self._new(linear) + np.einsum("ni,ij,nj->n", h, Pinv, h))
                Zs.append(Z)
            variance = np.concatenate(variances) + covariances.quadratic(vstack(Zs, format="csr"))
        estimate, sd = np.concatenate(values), fit.sigma * np.sqrt(variance)
        half = sd * float(ndtri(0.5 + level / 2))
        return Estimates(estimate=estimate, sd=sd, low=estimate - half, high=estimate + half)

    def _with_noise(self, part: Part) -> tuple[Linear, np.ndarray]:
        """The quantities with what was seen of their residuals, and what of the residuals' variance is left."""
        linear = part.linear
        noise = part.noise(slice(0, linear.k))
        if noise is None:
            return linear, np.zeros(linear.k)
        for own in noise.borrowed:
            c = own.coefficient(self.fit.psi)
            linear = linear.plus(own.fitted.rows(own.index).times(c), -1.0)
            linear = replace(linear, constant=linear.constant + c * own.y[own.index])
        return linear, noise.variance(self.fit.psi)

    def _new(self, linear: Linear) -> np.ndarray:
        """The variance of new groups, relative to sigma^2."""
        from scipy.sparse import eye_array, kron

        total = np.zeros(linear.k)
        for one, lam in zip(linear.fresh, self.fit.lambdas, strict=True):
            if one.labels:  # rows times the root, which far from zero loses less than the squares of both
                root = one.weights @ kron(eye_array(len(one.labels)), lam, format="csr")
                total += root.multiply(root).sum(axis=1)
        return total

    def _back(self) -> Any:
        """Columns of Z and of the means to those of the improved basis, from the right."""
        from scipy.sparse import block_diag, csr_array, eye_array, kron

        inverses = [np.linalg.inv(M) for M in self.fit.stats.maps]
        levels = self.fit.design.levels
        each = [kron(eye_array(level.m), inverse) for level, inverse in zip(levels, inverses, strict=True)]
        return block_diag([*each, *inverses], format="csr") if levels else csr_array((0, 0))

    def words(self, kind: str, level: float) -> str:
        """What the numbers are."""
        return (
            f"estimate: the best linear unbiased prediction given {self.name} estimates of the variance parameters. "
            "sd: its standard error by Henderson's equations, with the uncertainty of beta and of the groups' effects"
            + (" and the residual's variance" if kind == "response" else "")
            + f", but not that of the variance parameters. The interval is normal, of {100 * level:g} %."
        )

    @property
    def doubts(self) -> str:
        """A fit that is no maximum, or perfect."""
        status = self.fit.status
        return "" if status.name in ("converged", "singular") else f"The fit is doubtful: {status}."


def _with_means(fit: LikelihoodFit, means: Sequence[np.ndarray | None]) -> np.ndarray:
    """The conditional modes, and behind them their means."""
    out, at = [fit.modes], 0
    for level, mean in zip(fit.design.levels, means, strict=True):
        own = fit.modes[at : at + level.q].reshape(level.m, level.r)
        at += level.q
        out.append(np.zeros(level.r) if mean is None else mean @ own)
    return np.concatenate(out)
