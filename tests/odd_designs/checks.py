"""What every odd design must come to: numbers equal to the oracle's, or one of the project's own errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from mpmath import mpf

import bayeslmm as blm
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.posterior.collapsed import collapsed_posterior
from tests.exact import lift

from .designs import TERMS, OddDesign
from .oracle import DenseLevel, Oracle, log_normal_density


class Refused(Exception):
    """The product declined with a reason."""


def judge(case: OddDesign) -> str:
    """Check one design; say what it came to: "equal", "perfect fit", "refused: ..." with the reason, ...

    Raises
    ------
    AssertionError
        Where a number is wrong, or isn't one.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            outcome = "; ".join(dict.fromkeys(_judgements(case)))
        except Refused as refusal:
            outcome = f"refused: {refusal}"
    # a word about the result is welcome; numpy's are none that a reader understands
    numpy = {f"{w.filename.rsplit('/', 1)[-1]}: {w.message}" for w in said if issubclass(w.category, RuntimeWarning)}
    return "; ".join([outcome, *(f"numpy warned, {where}" for where in sorted(numpy))])


def _judgements(case: OddDesign) -> Iterator[str]:
    table = case.table()
    lmm = _ask(lambda: blm.LMM(case.formula, table, priors=priors_of(table["y"], len(TERMS[case.terms]))))
    check_design(case, table, lmm)
    oracle = dense(lmm)
    for reml in (False, True):
        fit = _ask(lmm.reml if reml else lmm.ml)
        yield check_fit(fit, oracle, reml)
    if not oracle.unbounded:
        _ask(lambda: check_collapsed(lmm, oracle))
    tree = _ask(lambda: lmm.sample(draws=25, chains=1, random_seed=1, sampler="collapsed", progress=False))
    for name, values in tree["posterior"].data_vars.items():
        assert np.isfinite(values.to_numpy()).all(), f"draws of {name} are not finite"


def _ask(question):
    """The answer, or the project's own refusal, which has to give a reason."""
    try:
        return question()
    except blm.BayesLMMError as error:
        if len(str(error)) < 30:
            raise AssertionError(f"a refusal without a reason: {error!r}") from error
        raise Refused(str(error)) from error


def priors_of(y: np.ndarray, levels: int) -> dict[str, str]:
    """Priors stated by the test: wide, on the scale of y."""
    s = float(y.std()) or 1.0
    effects = {f"sigma_u{k + 2}": f"HalfNormal(sigma={3 * s!r})" for k in range(levels)}
    return effects | {
        "beta": f"Normal(mu={float(y.mean())!r}, sigma={10 * s!r})",
        "sigma": f"HalfNormal(sigma={2 * s!r})",
    }


def dense(lmm: blm.LMM) -> Oracle:
    """The oracle of the design that the model says it has."""
    levels = [
        DenseLevel(index=lv.index, columns=lv.columns, correlated=lv.level.correlated) for lv in lmm.design.levels
    ]
    return Oracle(y=lmm.design.y, X=lmm.design.X, levels=tuple(levels))


def check_design(case: OddDesign, table: dict[str, np.ndarray], lmm: blm.LMM) -> None:
    """The design is the one asked for: rows, groups, and columns, of which only dependent ones may be missing."""
    design = lmm.design
    assert np.array_equal(design.y, table["y"])
    for term in TERMS[case.terms]:
        wanted = term.effects(table)
        labels = np.unique(np.array([":".join(row) for row in zip(*(table[g] for g in term.group), strict=True)]))
        own = [lv for lv in design.levels if lv.m == labels.size and _within(lv.columns, wanted)]
        assert any(np.linalg.matrix_rank(_unit(wanted)) <= lv.r for lv in own), f"{term.text} has lost columns"


def _within(columns: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether every column is one of those wanted."""
    return all((column[:, None] == wanted).all(axis=0).any() for column in columns.T)


def _unit(columns: np.ndarray) -> np.ndarray:
    size = np.abs(columns).max(axis=0)
    return columns / np.where(size > 0, size, 1.0)


def check_fit(fit: LikelihoodFit, oracle: Oracle, reml: bool) -> str:
    """The value is that of the density at the estimates, and no lower than what the oracle finds."""
    at = oracle.likelihood(fit.lambdas, reml)
    numbers = [fit.loglik, fit.sigma, *fit.beta, *fit.modes, *(x for lam in fit.lambdas for x in lam.ravel())]
    assert np.isfinite(numbers).all(), f"{fit.method}: estimates that are not finite, status {fit.status}"
    best = max(oracle.likelihood(oracle.factors(theta), reml).loglik for theta in oracle.search(reml))
    if oracle.unbounded:
        return f"perfect fit, called {fit.status.name}"
    # ten digits for variance ratios up to 1e7; beyond, six decimals; fewer where the fit says how few
    ratio = oracle.largest_ratio(fit.lambdas)
    close = 1e-9 * (oracle.y.size + abs(at.loglik)) + (2e-6 if ratio > 1e7 else 0.0)
    if "is right to about" in fit.status.advice:
        close += 3 * fit.optimum.rounding
    said = f"{fit.method} ({fit.status.name}, variance ratio {ratio:.1g})"
    if fit.status.name == "perfect fit":
        return "next to a perfect fit, and called one"
    assert abs(fit.loglik - at.loglik) <= close, f"{said} says {fit.loglik!r}, the density is {at.loglik!r}"
    assert abs(fit.sigma / at.sigma - 1) < 10 * close, f"{said}: sigma {fit.sigma!r}, not {at.sigma!r}"
    reached = fit.loglik >= best - 1e-6 * (1 + abs(best)) - close
    if fit.status.name == "not converged":
        return "equal, but called not converged" if reached else "not the maximum, and called not converged"
    assert reached, f"{said} reaches {fit.loglik!r}, the maximum is {best!r}"
    return "equal" if close < 1e-5 else "equal, but called imprecise"


def check_collapsed(lmm: blm.LMM, oracle: Oracle, points: int = 3) -> None:
    """Differences of the collapsed log density are those of the dense one, up to 40 digits, Jacobian included."""
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    start = posterior.starts()[0]
    steps = np.random.default_rng(1).uniform(-0.7, 0.7, (points, start.size))
    lower, upper = np.array(posterior.box(start)).T
    x = np.clip(start + steps, lower + 1e-3, upper - 1e-3)
    ours = posterior.evaluate(x)[0]
    # dense formulas by the same points; a point at which the product sees no density is nothing to compare
    theirs = np.array([_dense_log_posterior(lmm, oracle, posterior, one) for one in x])
    assert np.isfinite(ours).all(), f"collapsed log density {ours}, dense {theirs}"
    gaps = (ours - theirs) - (ours - theirs)[0]
    close = max(1e-5, 1e-15 * oracle.condition) * (1 + np.abs(theirs - theirs[0]).max())
    assert np.abs(gaps).max() < close, f"collapsed {ours}, dense {theirs}"


def _dense_log_posterior(lmm: blm.LMM, oracle: Oracle, posterior, x: np.ndarray) -> float:
    """log p(y | variances) + log prior of the natural parameters + log |d natural / d x|."""
    sigma, sds, corrs = _natural(posterior, x)
    mean, precision = posterior.gaussian_beta
    factors = [sd[:, None] * np.linalg.cholesky(corr) / sigma for sd, corr in zip(sds, corrs, strict=True)]
    V = mpf(sigma) ** 2 * oracle.relative_covariance(factors)
    X = lift(oracle.X)
    V = V + (X / lift(precision)) @ X.T
    total = log_normal_density(oracle.y, oracle.X @ mean, V)
    priors = [lmm.priors.sigma, *(prior for level in lmm.priors.sd for prior in level)]
    values = [sigma, *(value for sd in sds for value in sd)]
    total += sum(float(prior.logpdf(value)) for prior, value in zip(priors, values, strict=True))
    for lkj, corr in zip(lmm.priors.corr, corrs, strict=True):
        if lkj is not None:
            total += (lkj.params["eta"] - 1) * np.linalg.slogdet(corr)[1]
    return total + _log_jacobian(posterior, x)


def _natural(posterior, x: np.ndarray):
    """Sigma, and per level SDs and correlations of the effects as written."""
    sigma, sds, corrs = posterior.coordinates.natural(posterior.to_log(x[None])[0])
    return float(sigma[0]), [sd[0] for sd in sds], [corr[0] for corr in corrs]


def _log_jacobian(posterior, x: np.ndarray) -> float:
    """log |d (log SDs, correlations) / d x| by differences, and log |d SD / d log SD|."""

    def vector(at):
        sigma, sds, corrs = _natural(posterior, at)
        pairs = zip(corrs, posterior.priors.corr, strict=True)
        estimated = [corr[np.tril_indices(len(corr), -1)] for corr, lkj in pairs if lkj is not None]
        return np.concatenate([[np.log(sigma)], *map(np.log, sds), *estimated]), sum(np.log(s).sum() for s in sds)

    step = 1e-4
    J = np.array([(vector(x + step * e)[0] - vector(x - step * e)[0]) / (2 * step) for e in np.eye(x.size)])
    sigma, *_ = _natural(posterior, x)
    return float(np.linalg.slogdet(J)[1] + np.log(sigma) + vector(x)[1])
