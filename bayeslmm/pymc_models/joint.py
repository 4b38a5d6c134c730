"""The joint variant: u2, u3, ... and e are nodes of the graph, y is their sum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayeslmm.data.sparse_precision import SparsePrecision
from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.parameters import coords, level_names
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.priors.resolve import Priors
from bayeslmm.pymc_models.expressions import inverse_times, normal_logp, residual_draw, row_scales, sparse_times
from bayeslmm.pymc_models.parameters import declare_parameters
from bayeslmm.pymc_models.relatives import draw_of_relatives, spread_by_relatives
from bayeslmm.pymc_models.scaling import outermost_first, scaled_effects
from bayeslmm.support.arguments import check_centered


def build_joint(
    design: Design, priors: Priors, centered: bool | Mapping[str, bool] = False, scaled: bool = False
) -> pm.Model:
    """Build the joint model.

    u_k ~ N(0, sigma^2 K_k (x) lambda_k lambda_k'), e ~ N(0, sigma^2 R), y = X beta + sum Z_k u_k + e.

    Parameters
    ----------
    design, priors
        The data and the priors.
    centered : bool or mapping of level name to bool
        Centred: u_k is a free variable. Non-centred (the default): standard normal z_u_k is free and u_k is
        deterministic.
    scaled : bool
        Whether the free variables are those of `scaling`, whatever `centered` says: the same density of u, in
        coordinates in which NUTS meets no funnel.

    Returns
    -------
    pm.Model
        `u2`, `u3`, ... have the dims of their groups (and effects); `e` is ``model["e"]``, dims "row".
    """
    centring = check_centered(centered, [level.name for level in design.levels])
    with pm.Model(coords=coords(design)) as model:
        y_data = pm.Data("y_data", design.y, dims="row")
        parameters = declare_parameters(design, priors)
        mean = design.X @ parameters.beta
        if design.offset is not None:
            mean = design.offset + mean
        scales = parameters.scale_factors()
        for k in outermost_first(design.levels) if scaled else range(len(design.levels)):
            level, factor = design.levels[k], scales[k]
            if scaled:
                u = _from_normal(level, scaled_effects(design, k, scales, parameters.sigma, y_data - mean), factor)
            else:
                u = declare_effects(level, parameters.stated[k], parameters.maps[k], centring[level.name])
            rows = u[level.index]
            mean = mean + ((rows * level.columns).sum(axis=-1) if level.r > 1 else rows * level.columns[:, 0])
        e = _residual(design.residual, parameters.sigma, parameters.psi)
        e.name = "e"
        model.add_named_variable(e, dims=("row",))
        # PyMC derives the density of y from that of e: y | beta, u ~ N(mean, sigma^2 R)
        model.register_rv(mean + e, "y", observed=y_data, dims=("row",))
    return model


def declare_effects(level: LevelDesign, factor, W: np.ndarray | None, centered: bool):
    """Declare u_k = W v, v ~ N(0, K (x) factor factor'), in the level's own dims; v is u where W is None."""
    names = level_names(level)
    one = np.float64(1.0)
    zero = np.float64(0.0)
    if level.r == 1:
        sd = factor[0, 0]
        if centered and level.related and not _kept_sparse(level):
            return pm.MvNormal(names.u, mu=np.zeros(level.m), chol=sd * level.root, dims=names.group)
        if centered and level.related:
            return _sparse_effects(level, names.u, factor, (names.group,))
        if centered:
            return pm.Normal(names.u, zero, sd, dims=names.group)
        return _from_normal(level, pm.Normal(f"z_{names.u}", zero, one, dims=names.group), factor)
    shape = (names.group, names.effect)
    if not centered:
        whole = factor if W is None else pt.as_tensor_variable(W) @ factor
        return _from_normal(level, pm.Normal(f"z_{names.u}", zero, one, dims=shape), whole)
    name = names.u if W is None else f"{names.u}_at_mean"
    if level.related:
        v = (_sparse_effects if _kept_sparse(level) else _related_effects)(level, name, factor, shape)
    elif level.correlated:
        v = pm.MvNormal(name, mu=np.zeros(level.r), chol=factor, dims=shape)
    else:
        v = pm.Normal(name, zero, pt.diagonal(factor), dims=shape)
    return v if W is None else pm.Deterministic(names.u, v @ W.T, dims=shape)


def _from_normal(level: LevelDesign, z, factor):
    """Declare u_k as a function of standard normal z (m[, r])."""
    names = level_names(level)
    related = spread_by_relatives(level, z)
    if level.r == 1:
        return pm.Deterministic(names.u, factor[0, 0] * related, dims=names.group)
    return pm.Deterministic(names.u, related @ factor.T, dims=(names.group, names.effect))


def _related_effects(level: LevelDesign, name: str, factor, shape: tuple[str, str]):
    """u ~ N(0, K (x) factor factor'), m x r: a matrix normal."""
    m, r = level.m, level.r
    L = np.asarray(level.root)
    inverse = np.linalg.inv(L)
    constant = -0.5 * m * r * np.log(2 * np.pi) - r * np.log(np.diag(L)).sum()

    def logp(value, factor):
        w = pt.linalg.solve_triangular(factor, (inverse @ value).T, lower=True)
        return constant - m * pt.log(pt.diagonal(factor)).sum() - 0.5 * (w**2).sum()

    def dist(factor, _size):
        return L @ pm.Normal.dist(np.float64(0.0), np.float64(1.0), shape=(m, r)) @ factor.T

    return pm.CustomDist(
        name, factor, logp=logp, dist=dist, class_name="RelatedEffects", dims=shape,
        signature="(r,r)->(m,r)",
    )  # fmt: skip


def _kept_sparse(level: LevelDesign) -> bool:
    """Whether the groups' known precision is used as it is."""
    return isinstance(level.relation, SparsePrecision) and level.relation.factored is not None


def _sparse_effects(level: LevelDesign, name: str, factor, dims: tuple[str, ...]):
    """u ~ N(0, Q^-1 (x) factor factor'), m x r, or of length m: a matrix normal by its sparse precision Q."""
    m, r, relation = level.m, level.r, level.relation
    assert isinstance(relation, SparsePrecision)
    constant = -0.5 * m * r * np.log(2 * np.pi) + 0.5 * r * relation.logdet

    def logp(value, factor):
        u = value[:, None] if len(dims) == 1 else value
        w = pt.linalg.solve_triangular(factor, u.T, lower=True)
        quadratic = sum((w[e] * sparse_times(relation.matrix, w[e])).sum() for e in range(r))
        return constant - m * pt.log(pt.diagonal(factor)).sum() - 0.5 * quadratic

    def dist(factor, _size):
        z = pm.Normal.dist(np.float64(0.0), np.float64(1.0), shape=(m, r))
        u = draw_of_relatives(level, z) @ factor.T
        return u[:, 0] if len(dims) == 1 else u

    return pm.CustomDist(
        name, factor, logp=logp, dist=dist, class_name="SparseEffects", dims=dims,
        signature="(r,r)->(m)" if len(dims) == 1 else "(r,r)->(m,r)",
    )  # fmt: skip


def _residual(residual: ResidualDesign, sigma, psi):
    """e ~ N(0, sigma^2 R): normal row by row where rows are independent, else by R's inverse and determinant."""
    if not residual.correlated:
        return pm.Normal.dist(np.float64(0.0), sigma * row_scales(residual, psi), shape=(residual.n,))

    def logp(value, sigma, *psi):
        quadratic = (value * inverse_times(residual, residual.coefficients(psi), value)).sum()
        return normal_logp(residual.n, sigma, residual.log_det(psi, pt.log), quadratic)

    def dist(sigma, *rest):
        return residual_draw(residual, sigma, rest[:-1])

    return pm.CustomDist.dist(
        sigma, *psi, logp=logp, dist=dist, class_name="Residual", signature=f"{','.join(['()'] * (1 + len(psi)))}->(n)"
    )
