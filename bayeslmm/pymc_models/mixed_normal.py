"""The marginal of a mixed model as a PyMC distribution: y ~ N(mu, sigma^2 (Z G Z' + I)) without an n x n matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.design.level_design import LevelDesign
from bayeslmm.errors import DescriptionError
from bayeslmm.model import check_model
from bayeslmm.pymc_models.expressions import factorised, normal_logp, random_effects_draw, residual_draw


def MixedNormal(name: str, mu, sigma, factors: Sequence, lmm, residual: Sequence = (), **kwargs):
    """A normal vector whose covariance is that of a mixed model, for any mean.

    y ~ N(mu, sigma^2 (sum_k Z_k (K_k (x) lambda_k lambda_k') Z_k' + R)), evaluated in time linear in the number of
    groups for nested levels. The mean may be any differentiable PyTensor expression of your own parameters.

    Parameters
    ----------
    name : str
        Name of the variable; call it within a `pm.Model`.
    mu : (n,) tensor
        The whole mean of every row: an offset of `lmm` isn't added to it.
    sigma : scalar tensor
        Residual standard deviation.
    factors : sequence of (r, r) tensors
        The levels' relative factors lambda_k, so that Cov(u_k) = sigma^2 lambda_k lambda_k'; a scalar tensor is
        accepted for a level with one effect: then it is SD(u_k) / sigma.
    lmm : LMM
        Gives the levels: which row belongs to which group, the columns whose effects vary, known covariances; and
        the structure of R.
    residual : sequence of scalar tensors
        R's parameters in the order of ``lmm.design.residual.parameters``: rho, ratios of SDs.
    **kwargs
        As for any PyMC distribution: ``observed``, ``dims``.

    Returns
    -------
    tensor
        The variable, (n,).

    Raises
    ------
    DescriptionError
        Outside a `pm.Model`, or where sizes don't fit the model.

    Examples
    --------
    A growth curve that levels off, with a random intercept per subject:

    >>> import bayeslmm as blm, pymc as pm
    >>> sleep = blm.example_data("sleepstudy")
    >>> lmm = blm.LMM("Reaction ~ 1 + (1 | Subject)", sleep)
    >>> with pm.Model() as model:
    ...     top, rate = pm.Normal("top", 300, 50), pm.HalfNormal("rate", 1)
    ...     sigma, sigma_u2 = pm.HalfNormal("sigma", 50), pm.HalfNormal("sigma_u2", 50)
    ...     mu = top * (1 - pm.math.exp(-rate * (1 + sleep["Days"].to_numpy())))
    ...     y = blm.MixedNormal("y", mu, sigma, [sigma_u2 / sigma], lmm, observed=lmm.y)
    >>> [variable.name for variable in model.observed_RVs]
    ['y']
    """
    check_model(lmm, "blm.MixedNormal('y', mu, sigma, factors, lmm, observed=lmm.y)")
    _check_context()
    stats = lmm.statistics
    _check_shape("mu", mu, (stats.design.n,), "the mean of every row")
    _check_shape("sigma", sigma, (), "the residual SD")
    _check_factors(factors, stats.design.levels)
    sizes = [level.r for level in stats.design.levels]
    factors = [
        pt.as_tensor_variable(lam).reshape((r, r))
        if pt.as_tensor_variable(lam).ndim == 0
        else pt.as_tensor_variable(lam)
        for lam, r in zip(factors, sizes, strict=True)
    ]
    if not isinstance(residual, Sequence):
        raise DescriptionError(f"residual is a list of R's parameters, such as [rho]; got {residual!r}")
    # plain floats would become single precision
    psi = [pt.as_tensor_variable(np.float64(x) if isinstance(x, (int, float)) else x) for x in residual]
    wanted = [parameter.label for parameter in stats.design.residual.parameters]
    if len(psi) != len(wanted):
        raise DescriptionError(
            f"residual has {len(psi)} entries; the residual of this model has {len(wanted)} parameters: "
            f"{', '.join(wanted) or 'none'}."
        )
    none = np.zeros((stats.design.n, 0))

    def logp(value, mu, sigma, *rest):
        logdet, T = factorised(stats, rest[: len(factors)], rest[len(factors) :], value - mu, none)
        return normal_logp(stats.design.n, sigma, logdet, T[0, 0])

    def dist(mu, sigma, *rest):
        b, psi = rest[: len(factors)], rest[len(factors) : -1]
        return mu + random_effects_draw(stats.design, b, sigma) + residual_draw(stats.design.residual, sigma, psi)

    return pm.CustomDist(
        name, mu, sigma, *factors, *psi, logp=logp, dist=dist, class_name="MixedNormal",
        signature=",".join(["(n)", "()", *["(r,s)"] * len(factors), *["()"] * len(psi)]) + "->(n)", **kwargs,
    )  # fmt: skip


def _check_context() -> None:
    try:
        pm.modelcontext(None)
    except TypeError:
        raise DescriptionError(
            "MixedNormal stands outside a model; expected one around it: with pm.Model(): blm.MixedNormal(...)."
        ) from None


def _check_factors(factors: Any, levels: Sequence[LevelDesign]) -> None:
    listed = ", ".join(f"{level.r} x {level.r} for {level.name} ({level.label})" for level in levels) or "none"
    if not isinstance(factors, Sequence | np.ndarray) or isinstance(factors, str) or len(factors) != len(levels):
        came = f"{len(factors)}" if isinstance(factors, list | tuple) else f"a {type(factors).__name__}"
        raise DescriptionError(f"factors: {came} came; expected a list of {len(levels)}, one per level: {listed}.")
    for factor, level in zip(factors, levels, strict=True):
        what = f"the relative factor of {level.label}"
        if level.r > 1 or _tensor("factors", factor, what).ndim > 0:
            _check_shape("factors", factor, (level.r, level.r), what)


def _check_shape(name: str, value: Any, shape: tuple[int, ...], what: str) -> None:
    """Refuse another number of dimensions, or sizes that are known and others."""
    found = _tensor(name, value, what).type.shape
    if len(found) != len(shape) or any(one not in (None, two) for one, two in zip(found, shape, strict=True)):
        raise DescriptionError(f"{name} has the shape {found}; expected {shape}, {what}.")


def _tensor(name: str, value: Any, what: str) -> Any:
    try:
        return pt.as_tensor_variable(value)
    except (TypeError, ValueError, NotImplementedError):
        raise DescriptionError(f"{name} is a {type(value).__name__}; expected numbers or a tensor, {what}.") from None
