"""ML and REML on the factorisation: fixed effects, variance components, conditional modes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.linear_predictor import linear_predictor, rows_of
from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DataError, visible
from bayeslmm.factorisation.factor import effect_covariances
from bayeslmm.factorisation.statistics import Statistics
from bayeslmm.likelihood.criterion import EDGE, SINGULAR, Criterion, units
from bayeslmm.likelihood.search import Optimum, minimise
from bayeslmm.likelihood.status import Status, status_of
from bayeslmm.support.arguments import check_flag
from bayeslmm.support.threads import one_blas_thread


@dataclass(frozen=True)
class RandomEffects(Mapping):
    """Conditional modes of every level: a DataFrame (groups x effects and their SDs) by name ("u2") or label."""

    frames: Mapping[str, pd.DataFrame]
    labels: Mapping[str, str]

    def __getitem__(self, key: str) -> pd.DataFrame:
        if key in self.frames:
            return self.frames[key]
        named = [name for name, label in self.labels.items() if label == key]
        if len(named) == 1:
            return self.frames[named[0]]
        raise KeyError(f"{key!r}; there are {', '.join(f'{n} ({label})' for n, label in self.labels.items())}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        frames = (f"{name}, one per {self.labels[name]}\n{frame}" for name, frame in self.frames.items())
        return visible("\n\n".join(frames))


@dataclass(frozen=True, kw_only=True)
class LikelihoodFit:
    """A maximum likelihood or REML fit.

    Attributes
    ----------
    method : {"ML", "REML"}
    lambdas : per level the (r, r) lower triangular relative covariance factor
    sigma : float
        Residual standard deviation, in units of y (of the first stratum, where there are strata).
    psi : array
        The residual's parameters, in the order of ``design.residual.parameters``: rho, ratios of SDs.
    loglik : float
        Log-likelihood, or log restricted likelihood, at the optimum.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> fit = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}).reml()
    >>> fit.estimates().round(3).to_dict()
    {'beta[Intercept]': 4.833, 'sigma': 0.707, 'sigma_u2': 3.476}
    >>> fit.ranef["g"].round(2)["Intercept"].to_dict()
    {'a': -3.27, 'b': -0.33, 'c': 3.59}
    """

    method: str
    design: Design
    stats: Statistics
    optimum: Optimum
    lambdas: tuple[np.ndarray, ...]
    sigma: float
    psi: np.ndarray
    loglik: float
    beta: np.ndarray
    beta_cov: np.ndarray
    modes: np.ndarray
    mode_cov: tuple[np.ndarray, ...]

    @property
    def fixef(self) -> pd.Series:
        """Fixed effects, in units of y per unit of the column."""
        return pd.Series(self.beta, index=list(self.design.coef), name="fixef")

    @property
    def fixef_cov(self) -> pd.DataFrame:
        """Covariance of the fixed effects, given the variance parameters."""
        return pd.DataFrame(self.beta_cov, index=list(self.design.coef), columns=list(self.design.coef))

    @property
    def fixef_se(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        return pd.Series(np.sqrt(np.diag(self.beta_cov)), index=list(self.design.coef), name="se")

    @property
    def theta(self) -> pd.Series:
        """Free entries of the relative factors, level by level and column by column, as in lme4."""
        own = (level.structure.theta(lam) for level, lam in zip(self.design.levels, self.lambdas, strict=True))
        values = np.concatenate([*own, np.zeros(0)])
        return pd.Series(values, index=theta_labels(self.design), name="theta", dtype=float)

    @property
    def sds(self) -> tuple[np.ndarray, ...]:
        """Per level, the SDs of its effects in units of y per unit of the column."""
        return tuple(self.sigma * np.sqrt(np.einsum("ij,ij->i", lam, lam)) for lam in self.lambdas)

    def estimates(self) -> pd.Series:
        """Every parameter under the name that all variants share.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("sleepstudy").reml().estimates().index.tolist()
        ['beta[Intercept]', 'beta[Days]', 'sigma', 'sigma_u2[Intercept]', 'sigma_u2[Days]', 'corr_u2[Intercept, Days]']
        """
        out = {f"beta[{name}]": value for name, value in zip(self.design.coef, self.beta, strict=True)}
        out["sigma"] = self.sigma
        for level, sd, corr in zip(self.design.levels, self.sds, self._correlations(), strict=True):
            out |= dict(zip(level.sd_labels, level.structure.gather(sd).tolist(), strict=True))
            own = level.structure.correlation_values(corr).tolist()
            out |= dict(zip(level.correlation_labels, own, strict=True))
        out |= {p.label: float(value) for p, value in zip(self.design.residual.parameters, self.psi, strict=True)}
        return pd.Series(out, name=self.method)

    def _correlations(self) -> Iterator[np.ndarray]:
        for lam in self.lambdas:
            V = lam @ lam.T
            sd = np.sqrt(np.diag(V))
            with np.errstate(invalid="ignore", divide="ignore"):
                yield np.where(np.outer(sd, sd) > 0, V / np.outer(sd, sd), np.nan)

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances, tidy: group, effect, effect2, variance (or covariance), sd or correlation."""
        rows: list[tuple] = []
        for level, lam, corr in zip(self.design.levels, self.lambdas, self._correlations(), strict=True):
            V = self.sigma**2 * lam @ lam.T
            rows += [(level.tag, effect, None, V[e, e], np.sqrt(V[e, e])) for e, effect in enumerate(level.effects)]
            if level.correlated:
                rows += [
                    (level.tag, level.effects[j], level.effects[i], V[i, j], corr[i, j])
                    for i in range(1, level.r)
                    for j in range(i)
                ]
        residual = self.design.residual
        own, ratios = residual.split(self.psi)
        for label, ratio in zip(residual.strata or (None,), ratios, strict=True):
            rows.append(("Residual", label, None, (self.sigma * ratio) ** 2, self.sigma * ratio))
        for parameter, value in zip(residual.own, own, strict=True):
            rows.append(("Residual", parameter.label, None, np.nan, value))
        return pd.DataFrame(rows, columns=["group", "effect", "effect2", "variance", "sd_or_corr"])

    @property
    def b(self) -> pd.Series:
        """Conditional modes of the random effects in the order of Z's columns."""
        return pd.Series(self.modes, index=self.design.Z_labels, name="b")

    @cached_property
    def _effects(self) -> dict[str, np.ndarray]:
        """The conditional modes (m, r) by level name."""
        ends = np.cumsum([level.q for level in self.design.levels])[:-1]
        parts = np.split(self.modes, ends)
        return {
            level.name: own.reshape(level.m, level.r) for level, own in zip(self.design.levels, parts, strict=False)
        }

    @cached_property
    def ranef(self) -> RandomEffects:
        """Conditional modes per level, with their conditional SDs given the estimates."""
        frames = {}
        for level, cov in zip(self.design.levels, self.mode_cov, strict=True):
            values = self._effects[level.name]
            frame = pd.DataFrame(values, index=pd.Index(level.groups, name=level.label), columns=list(level.effects))
            for e, effect in enumerate(level.effects):
                frame[f"{effect}_sd"] = np.sqrt(cov[:, e, e])
            frames[level.name] = frame
        return RandomEffects(frames, {level.name: level.label for level in self.design.levels})

    @property
    def fitted(self) -> pd.Series:
        """X beta + Z b, the fitted values with the random effects, and with the offset where there is one."""
        values = linear_predictor(self.design, self.beta, self._effects)
        return pd.Series(values, index=self.design.rows, name="fitted")

    @property
    def residuals(self) -> pd.Series:
        """y minus the fitted values, in units of y."""
        return pd.Series(self.design.y - self.fitted.to_numpy(), index=self.design.rows, name="residuals")

    def predict(
        self, data: Any = None, *, random_effects: bool = True, allow_new_groups: bool = False, missing: str = "error"
    ) -> pd.Series:
        """Predict the mean of new rows: X beta + Z b, with the conditional modes b, and the offset of the new rows.

        Parameters
        ----------
        data : frame or mapping of columns, optional
            No response needed; the fit's own rows where it is left out.
        random_effects : bool
            False leaves them out: X beta alone, lme4's ``re.form = NA``; new rows need no grouping columns then.
        allow_new_groups : bool
            Whether groups that the fit hasn't seen are taken at zero, their expectation, instead of an error.
        missing : {"error", "drop"}

        Examples
        --------
        >>> import bayeslmm as blm
        >>> fit = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")}).reml()
        >>> fit.predict({"g": ["a", "d"]}, allow_new_groups=True).round(2).tolist()
        [1.57, 4.83]
        """
        check_flag("random_effects", random_effects)
        rows = rows_of(self.design, data, allow_new_groups, missing, random_effects)
        values = linear_predictor(rows, self.beta, self._effects if random_effects else {})
        return pd.Series(values, index=rows.rows, name="predicted")

    @property
    def npar(self) -> int:
        """Number of estimated parameters: fixed effects, theta, sigma, those of R."""
        return self.design.p + len(self.theta) + 1 + len(self.psi)

    @property
    def aic(self) -> float:
        """Akaike's criterion, on this fit's own likelihood."""
        return -2 * self.loglik + 2 * self.npar

    @property
    def bic(self) -> float:
        """Schwarz's criterion with n = number of rows, as in lme4."""
        return -2 * self.loglik + np.log(self.design.n) * self.npar

    @cached_property
    def boundary(self) -> tuple[str, ...]:
        """Parameters on the edge of their space: SDs that are zero, levels whose covariance is singular."""
        out = []
        for level, raw, M, unit in zip(
            self.design.levels, self.lambdas, self.stats.maps, units(self.stats), strict=True
        ):
            lam = raw / unit
            size = level.structure.gather(np.sqrt(np.einsum("ij,ij->i", lam, lam)) * level.structure.column_sizes(M))
            zero = [name for name, own in zip(level.sd_labels, size, strict=True) if own < SINGULAR]
            out += zero
            if level.correlated and not zero:
                smallest = np.sqrt(max(np.linalg.eigvalsh(M @ lam @ lam.T @ M.T)[0], 0.0))
                if smallest < SINGULAR:
                    out.append(self.singular_correlations(level))
        for p, z in zip(self.design.residual.parameters, self.optimum.phi[::-1][: len(self.psi)][::-1], strict=True):
            out += [p.label] if abs(z) >= EDGE else []
        return tuple(out)

    @staticmethod
    def singular_correlations(level: LevelDesign) -> str:
        """What `boundary` calls a level's correlations.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> fit = blm.example("sleepstudy").reml()
        >>> fit.singular_correlations(fit.design.levels[0])
        'corr_u2'
        """
        names = level_names(level)
        return names.corr if level.structure.paired else names.rho

    @cached_property
    def perfect(self) -> bool:
        """Whether no residual is left, so that the likelihood has no maximum."""
        return Criterion(stats=self.stats, reml=self.method == "REML").perfect(self.sigma)

    @property
    def singular(self) -> bool:
        """Whether a parameter is on its edge: a level's covariance singular, as lme4's isSingular has it (1e-4)."""
        return bool(self.boundary)

    @property
    def status(self) -> Status:
        """What the checks of gradient, curvature and rounding found, with advice."""
        return status_of(self)

    def confint(self, level: float = 0.95, method: str = "profile") -> pd.DataFrame:
        """Confidence limits of the fixed effects, SDs and correlations.

        Parameters
        ----------
        level : float
            Coverage, 0.95 by default.
        method : {"profile", "wald"}
            Profile limits come from the criterion of this fit (ML, or REML); REML says nothing about the fixed
            effects, so theirs are then from its Wald standard errors. The column ``criterion`` says which.

        Returns
        -------
        pandas.DataFrame
            A row per parameter: estimate, lower, upper, criterion.

        Raises
        ------
        DataError
            For a perfect fit, which has no limits.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> lmm.reml().confint(method="wald").loc["beta[Intercept]", ["lower", "upper"]].round(2).tolist()
        [0.86, 8.81]
        """
        from bayeslmm.likelihood.confidence import confidence_limits

        if self.perfect:
            raise DataError(
                f"There are no confidence limits for a perfect fit: {self.status.advice} Look at fit.fixef for the "
                "coefficients that reproduce the response."
            )
        return confidence_limits(self, level, method)

    def __repr__(self) -> str:
        from bayeslmm.likelihood.printing import fit_text

        return visible(fit_text(self))

    def _repr_html_(self) -> str:
        from bayeslmm.likelihood.printing import fit_html

        return fit_html(self)


def fit_likelihood(stats: Statistics, reml: bool) -> LikelihoodFit:
    """Fit by ML or REML.

    Source: Bates, Mächler, Bolker & Walker (2015), equations 34 and 42.
    """
    criterion = Criterion(stats=stats, reml=reml)
    with one_blas_thread():
        return fit_at(criterion, minimise(criterion))


def fit_at(criterion: Criterion, optimum: Optimum) -> LikelihoodFit:
    """Everything that follows from the optimum."""
    stats, design = criterion.stats, criterion.stats.design
    factor = criterion.factor(optimum.phi)
    if not criterion.sane(factor):
        raise DataError(
            "The likelihood cannot be computed at the point where the search ended: the numbers overflow. "
            "Scale y and the columns to ordinary sizes, or drop an effect that the data cannot tell apart."
        )
    value, rss, coefficients, Pinv = criterion.value(factor, optimum.phi)
    sigma = stats.scale * np.sqrt(rss / criterion.degrees)
    Rinv = np.linalg.inv(stats.upper) if design.p else stats.upper
    p = design.p
    adjoint = factor.adjoint(1.0, np.zeros((p + 1, p + 1)))
    b_better = stats.scale * (adjoint.b @ np.append(-coefficients, 1.0))
    lambdas = []
    for level, M, span in zip(design.levels, stats.maps, stats.lambda_slices, strict=True):
        raw = np.linalg.inv(M) @ factor.lam[span].reshape(level.r, level.r)
        lambdas.append(_lower(raw) if level.correlated else np.diag(np.diag(raw)))
    covs = effect_covariances(factor, adjoint.variances, stats.at(criterion.psi(optimum.phi)))
    return LikelihoodFit(
        method="REML" if criterion.reml else "ML",
        design=design,
        stats=stats,
        optimum=optimum,
        lambdas=tuple(lambdas),
        sigma=float(sigma),
        psi=criterion.psi(optimum.phi),
        loglik=-value / 2,
        beta=Rinv @ (stats.gamma + stats.scale * coefficients),
        beta_cov=sigma**2 * Rinv @ Pinv @ Rinv.T,
        modes=np.concatenate([*(u.ravel() for u in stats.effects(b_better)), np.zeros(0)]),
        mode_cov=tuple(sigma**2 * C for C in covs),
    )


def theta_labels(design: Design) -> list[str]:
    """Names of theta's entries, "Subject.Intercept", "Subject.Days.Intercept", ..."""
    return [f"{level.tag}.{name}" for level in design.levels for name in level.structure.theta_labels(level.effects)]


def _lower(factor: np.ndarray) -> np.ndarray:
    """Lower triangular L with non-negative diagonal and L L' = factor factor'."""
    L = np.linalg.qr(factor.T, mode="r").T
    return L * np.where(np.diag(L) < 0, -1.0, 1.0)
