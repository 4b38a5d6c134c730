"""ML of a model whose outcome isn't Gaussian: estimates, standard errors, modes, and how good the approximation is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.linear_predictor import linear_predictor
from bayeslmm.design.parameters import level_names
from bayeslmm.families.family import Family, Outcome
from bayeslmm.integration.choice import choose, enough_nodes, laplace_of, quadrature_of
from bayeslmm.integration.error import ApproximationError, measure
from bayeslmm.integration.existence import CERTAIN
from bayeslmm.integration.laplace import Point, Slopes
from bayeslmm.integration.objective import Objective, Problem
from bayeslmm.integration.search import ZERO, Peak, climb, held, maximise
from bayeslmm.likelihood.fit import RandomEffects, theta_labels
from bayeslmm.support.threads import one_blas_thread

ENDLESS = 30.0  # an SD from here on, in units of a probability's link, has run away
COARSE = 9  # nodes at each level of a chain for the way to about where the maximum is
ROUGH = 1e-4  # of a log-likelihood, next to what Laplace's approximation of the other levels leaves
BENDING = 21  # nodes at each level of a chain that are enough for second derivatives


@dataclass(frozen=True, kw_only=True, eq=False)
class GLMMFit:
    """A maximum likelihood fit, the effects integrated out by Laplace's approximation or by quadrature.

    There is no sigma: `theta`, `varcorr` and `ranef` are on the scale of the link.

    Attributes
    ----------
    approximation : {"laplace", "quadrature"}
    nodes : int
        Of the quadrature, at each level; 1 for Laplace's approximation, which is the rule with one node.
    problem : Problem
    peak : Peak
    laplace_peak : Peak
        The maximum of Laplace's approximation.
    point : Point
        Laplace's approximation at the estimates: modes of the effects and their spread.
    before : tuple of str
        What was known to be doubtful before the fit.
    formula : str
        As it is written, with both columns of a cbind.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"y": [0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1], "x": [1, 2, 3, 4, 5, 6] * 2, "g": list("aaabbbcccddd")}
    >>> fit = blm.GLMM("y ~ x + (1 | g)", data, family="binomial").ml()
    >>> round(fit.loglik, 4), fit.approximation
    (-8.2605, 'quadrature')
    """

    approximation: str
    nodes: int
    problem: Problem = field(repr=False)
    peak: Peak = field(repr=False)
    laplace_peak: Peak = field(repr=False)
    point: Point = field(repr=False)
    before: tuple[str, ...] = ()
    formula: str = ""

    @property
    def design(self) -> Design:
        """The design that was fitted."""
        return self.problem.rows.design

    @property
    def family(self) -> Family:
        """The outcome's family."""
        return self.problem.family

    @property
    def outcome(self) -> Outcome:
        """The response."""
        return self.problem.outcome

    @property
    def loglik(self) -> float:
        """The log-likelihood at its maximum, with all constants, by `approximation`."""
        return self.peak.value

    @property
    def fixef(self) -> pd.Series:
        """Fixed effects on the link's scale, per unit of the column."""
        return pd.Series(self.problem.beta(self.peak.x), index=list(self.design.coef), name="fixef")

    @cached_property
    def _covariance(self) -> np.ndarray:
        """Inverse of minus the Hessian, of all of x: NaN where it isn't positive definite, zero for what is held."""
        k = self.problem.size
        out, free, H = np.zeros((k, k)), self.peak.free, self.peak.hessian
        if free.size:
            try:
                L = np.linalg.cholesky(H)
                half = np.linalg.inv(L)
                out[np.ix_(free, free)] = half.T @ half
            except np.linalg.LinAlgError:
                out[np.ix_(free, free)] = np.nan
        return out

    @property
    def fixef_cov(self) -> pd.DataFrame:
        """Covariance of the fixed effects: from the observed information on all parameters, SDs included."""
        p = self.design.p
        J = self.problem.rows.back * self.problem.unit
        return pd.DataFrame(
            J @ self._covariance[:p, :p] @ J.T, index=list(self.design.coef), columns=list(self.design.coef)
        )

    @property
    def fixef_se(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        with np.errstate(invalid="ignore"):
            se = np.sqrt(np.diag(self.fixef_cov.to_numpy()))
        return pd.Series(se, index=list(self.design.coef), name="se")

    @property
    def dispersion(self) -> pd.Series:
        """The family's own parameters: alpha, nu, thresholds; empty where it has none."""
        values = self.problem.dispersion(self.peak.x)
        return pd.Series(values, index=list(self.problem.labels), name="dispersion", dtype=float)

    @property
    def dispersion_se(self) -> pd.Series:
        """Their standard errors."""
        J = self.problem.dispersion_slopes(self.peak.x)
        with np.errstate(invalid="ignore"):
            values = np.sqrt(np.diag(J @ self._covariance @ J.T))
        return pd.Series(values, index=list(self.problem.labels), name="se", dtype=float)

    @cached_property
    def lambdas(self) -> tuple[np.ndarray, ...]:
        """Per level the factor (r, r) of its effects' covariance, on the link's scale."""
        return self.problem.lambdas(self.peak.x)

    @property
    def theta(self) -> pd.Series:
        """Free entries of the factors, level by level and column by column, as in lme4."""
        own = (level.structure.theta(lam) for level, lam in zip(self.design.levels, self.lambdas, strict=True))
        values = np.concatenate([*own, np.zeros(0)])
        return pd.Series(values, index=theta_labels(self.design), name="theta", dtype=float)

    @property
    def sds(self) -> tuple[np.ndarray, ...]:
        """Per level, the SDs of its effects on the link's scale, per unit of the column."""
        return tuple(np.sqrt(np.einsum("ij,ij->i", lam, lam)) for lam in self.lambdas)

    def _correlations(self) -> Iterator[np.ndarray]:
        for lam, sd in zip(self.lambdas, self.sds, strict=True):
            with np.errstate(invalid="ignore", divide="ignore"):
                yield np.where(np.outer(sd, sd) > 0, lam @ lam.T / np.outer(sd, sd), np.nan)

    def estimates(self) -> pd.Series:
        """Every parameter under the name that all variants share.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml().estimates().index.tolist()
        ['beta[Intercept]', 'sigma_u2']
        """
        return self.estimates_at(self.peak.x)

    def estimates_at(self, x: np.ndarray) -> pd.Series:
        """The same at another point of the search, such as the maximum of Laplace's approximation.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> fit = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml()
        >>> fit.estimates_at(fit.laplace_peak.x).index.tolist()
        ['beta[Intercept]', 'sigma_u2']
        """
        out = {f"beta[{name}]": value for name, value in zip(self.design.coef, self.problem.beta(x), strict=True)}
        for level, lam in zip(self.design.levels, self.problem.lambdas(x), strict=True):
            sd = np.sqrt(np.einsum("ij,ij->i", lam, lam))
            out |= dict(zip(level.sd_labels, level.structure.gather(sd).tolist(), strict=True))
            with np.errstate(invalid="ignore", divide="ignore"):
                corr = np.where(np.outer(sd, sd) > 0, lam @ lam.T / np.outer(sd, sd), np.nan)
            own = level.structure.correlation_values(corr).tolist()
            out |= dict(zip(level.correlation_labels, own, strict=True))
        out |= dict(zip(self.problem.labels, self.problem.dispersion(x), strict=True))
        return pd.Series(out, name="ML", dtype=float)

    @cached_property
    def estimates_se(self) -> pd.Series:
        """Their standard errors, by the delta method; NaN for what lies on the boundary."""
        x, free = self.peak.x, self.peak.free
        slopes = np.zeros((len(self.estimates()), len(x)))
        for k in free:
            step = np.zeros_like(x)
            step[k] = 1e-6 * max(1.0, abs(x[k]))
            up, down = (self.estimates_at(x + one).to_numpy() for one in (step, -step))
            slopes[:, k] = (up - down) / (2 * step[k])
        with np.errstate(invalid="ignore"):
            se = np.sqrt(np.einsum("ij,jk,ik->i", slopes, self._covariance, slopes))
        return pd.Series(np.where(se > 0, se, np.nan), index=self.estimates().index, name="se")

    def step(self, slopes: Slopes) -> pd.Series:
        """Where a Newton step along another likelihood's gradient at these estimates leads, less the estimates.

        Parameters
        ----------
        slopes : Slopes
            The other likelihood's gradient, such as one of ``approximation_error.slopes``.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd"), "h": list("xyxyxyxy")}
        >>> fit = blm.GLMM("y ~ 1 + (1 | g) + (1 | h)", data, family="poisson").ml()
        >>> bool(fit.step(fit.point).abs().max() < 1e-4)  # along its own: it is at its maximum
        True
        """
        x = self.peak.x + self._covariance @ np.where(
            np.isin(np.arange(self.problem.size), self.peak.free), self.problem.gradient(self.peak.x, slopes), 0.0
        )
        return self.estimates_at(x) - self.estimates()

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances on the link's scale: group, effect, effect2, variance, sd or correlation."""
        rows: list[tuple] = []
        for level, lam, corr in zip(self.design.levels, self.lambdas, self._correlations(), strict=True):
            V = lam @ lam.T
            rows += [(level.tag, effect, None, V[e, e], np.sqrt(V[e, e])) for e, effect in enumerate(level.effects)]
            if level.correlated:
                rows += [
                    (level.tag, level.effects[j], level.effects[i], V[i, j], corr[i, j])
                    for i in range(1, level.r)
                    for j in range(i)
                ]
        return pd.DataFrame(rows, columns=["group", "effect", "effect2", "variance", "sd_or_corr"])

    @cached_property
    def _effects(self) -> dict[str, np.ndarray]:
        return self.problem.rows.effects(self.point.mode.b)

    @cached_property
    def ranef(self) -> RandomEffects:
        """Conditional modes per level at the estimates, with SDs from the curvature there."""
        frames = {}
        covariances = self.problem.rows.covariances(self.point.factor, self.point.variances)
        for level, cov in zip(self.design.levels, covariances, strict=True):
            index = pd.Index(level.groups, name=level.label)
            frame = pd.DataFrame(self._effects[level.name], index=index, columns=list(level.effects))
            for e, effect in enumerate(level.effects):
                frame[f"{effect}_sd"] = np.sqrt(np.maximum(cov[:, e, e], 0.0))
            frames[level.name] = frame
        return RandomEffects(frames, {level.name: level.label for level in self.design.levels})

    @property
    def linear_predictor(self) -> pd.Series:
        """Offset + X beta + Z u at the conditional modes."""
        beta = self.fixef.to_numpy()
        return pd.Series(linear_predictor(self.design, beta, self._effects), index=self.design.rows, name="eta")

    @property
    def fitted(self) -> pd.Series:
        """The mean of y there: of a binomial, the probability; of ordered categories, the latent location."""
        eta = self.linear_predictor
        return pd.Series(self.family.mean(eta.to_numpy()), index=eta.index, name="fitted")

    @property
    def npar(self) -> int:
        """Number of estimated parameters: fixed effects, theta, dispersion."""
        return self.design.p + len(self.theta) + len(self.problem.labels)

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return -2 * self.loglik + 2 * self.npar

    @property
    def bic(self) -> float:
        """Schwarz's criterion with n = number of rows, as in lme4."""
        return -2 * self.loglik + np.log(self.design.n) * self.npar

    @cached_property
    def approximation_error(self) -> ApproximationError:
        """Laplace's log-likelihood minus a better one at these estimates, and the groups that it comes from.

        The better one is quadrature's, or importance sampling's where levels are crossed or groups have many effects.
        """
        with one_blas_thread():
            return measure(self.problem, self.peak.x, self.point.mode.s, self.point.value)

    @property
    def boundary(self) -> tuple[str, ...]:
        """SDs that are zero, levels whose covariance is singular, the family's parameters at the end of their range."""
        out = []
        for level, lam in zip(self.design.levels, self.lambdas, strict=True):
            size = level.structure.gather(np.sqrt(np.einsum("ij,ij->i", lam, lam)) / self.problem.unit)
            zero = [name for name, own in zip(level.sd_labels, size, strict=True) if own < ZERO]
            out += zero
            if level.correlated and not zero:
                # in columns that are orthogonal: far from zero any intercept and slope are nearly collinear
                own = np.linalg.qr(level.columns, mode="r") @ lam
                sd = np.sqrt(np.einsum("ij,ij->i", own, own))
                if sd.min() == 0 or np.linalg.svd(own / sd[:, None])[1][-1] < 1e-4:
                    names = level_names(level)
                    out.append(names.corr if level.structure.paired else names.rho)
        at_end = held(self.problem, self.peak.x)[self.problem.entries.stop :]
        return (*out, *(label for label, end in zip(self.problem.labels, at_end, strict=True) if end))

    @property
    def singular(self) -> bool:
        """Whether anything lies on the boundary."""
        return bool(self.boundary)

    @property
    def endless(self) -> tuple[str, ...]:
        """SDs that have run away: so large that a likelihood can't tell them from larger ones."""
        if self.family.name not in ("binomial", "cumulative"):
            return ()
        return tuple(name for name, _ in self._wide(ENDLESS))

    def _wide(self, limit: float) -> Iterator[tuple[str, float]]:
        """SDs above a limit, in units of the link's scale, of levels that move a row in the middle by as much.

        Where x is far from zero an intercept's SD is large whatever the rows do.
        """
        for level, lam, sds in zip(self.design.levels, self.lambdas, self.sds, strict=True):
            at_rows = np.sqrt(((level.columns @ lam) ** 2).sum(axis=1))
            if np.median(at_rows) > limit * self.problem.unit:
                named = zip(level.sd_labels, level.structure.gather(sds), strict=True)
                yield from ((name, float(sd)) for name, sd in named if sd > limit * self.problem.unit)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What deserves a second look, a sentence each."""
        out = list(self.before)
        if not self.peak.converged:
            out.append(
                f"Not converged: a step further would still gain {self.peak.gain:.2g} of log-likelihood, or the "
                "curvature is that of no maximum. Scale the columns, drop an effect, or look at the posterior."
            )
        if self.boundary:
            out.append(
                f"The maximum lies on the boundary, {', '.join(self.boundary)}: a point on an edge, no evidence that "
                "this is the value."
            )
        if self.family.name in ("binomial", "cumulative"):
            out += [
                f"{name} is {sd:.3g} on the {self.family.link} scale: nearly every group is all or nothing, and the "
                "likelihood hardly changes as it grows further. Its value says 'large', no more; how large, a prior "
                "must say."
                for name, sd in self._wide(CERTAIN)
            ]
        if self.laplace_peak.others or self.peak.others:
            lower = min((*self.laplace_peak.others, *self.peak.others))
            out.append(f"The likelihood has another maximum, lower by {lower:.2g}: look at the posterior.")
        error = self.approximation_error
        if self.approximation == "quadrature" and error.how == "quadrature" and error.uncertainty > 1e-4:
            out.append(
                f"The quadrature isn't settled: the last step to {self.approximation_error.nodes} nodes still changed "
                f"the log-likelihood by {self.approximation_error.uncertainty:.2g}."
            )
        return tuple(out)

    def compared(self) -> pd.DataFrame:
        """Laplace's estimates beside these, and how many standard errors apart they are.

        Returns
        -------
        pandas.DataFrame
            Per parameter: laplace, here, and the difference in standard errors.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").ml().compared().columns.tolist()
        ['laplace', 'quadrature', 'difference_in_se']
        """
        frame = pd.DataFrame({"laplace": self.estimates_at(self.laplace_peak.x), self.approximation: self.estimates()})
        frame["difference_in_se"] = (frame["laplace"] - frame[self.approximation]) / self.estimates_se
        return frame

    def __repr__(self) -> str:
        from bayeslmm.integration.printing import fit_text

        return fit_text(self)


def fit_glmm(
    problem: Problem,
    approximation: str,
    nodes: int | None,
    *,
    before: tuple[str, ...] = (),
    formula: str = "",
    laplace_peak: Peak | None = None,
) -> GLMMFit:
    """Maximise the likelihood, as `GLMM.ml` says."""
    kind = choose(problem, approximation, nodes)
    peak = first = laplace_peak or maximise(problem, laplace_of(problem))
    used = 1
    if kind == "quadrature":
        peak, used = _by_quadrature(problem, first, nodes)
    objective = Objective(problem)
    with one_blas_thread():
        point = objective.point(peak.x)
    return GLMMFit(
        approximation=kind, nodes=used, problem=problem, peak=peak, laplace_peak=first, point=point, before=before,
        formula=formula,
    )  # fmt: skip


def _by_quadrature(problem: Problem, first: Peak, nodes: int | None) -> tuple[Peak, int]:
    """The maximum of the quadrature's likelihood, with as many nodes as it takes unless their number is given."""
    if nodes is not None:
        return maximise(problem, quadrature_of(problem.rows, nodes), near=first), nodes
    if problem.rows.plan.tail:
        return _by_crossed(problem, first)
    several = problem.rows.dimensions > 1
    near = climb(problem, quadrature_of(problem.rows, COARSE), first) if several else first
    with one_blas_thread():
        used = enough_nodes(problem, near.x)
        bending = quadrature_of(problem.rows, min(used, BENDING)) if several else None
        peak = maximise(problem, quadrature_of(problem.rows, used), near, bending)
        while (more := enough_nodes(problem, peak.x)) > used:
            used = more
            peak = maximise(problem, quadrature_of(problem.rows, used), peak, bending)
    return peak, used


def _by_crossed(problem: Problem, first: Peak) -> tuple[Peak, int]:
    """The same where one level has nodes; with second derivatives of its own, which are Laplace's by half at most."""
    with one_blas_thread():
        near = climb(problem, quadrature_of(problem.rows, COARSE), first)
        used = enough_nodes(problem, near.x, ROUGH)
        return maximise(problem, quadrature_of(problem.rows, used), near), used
