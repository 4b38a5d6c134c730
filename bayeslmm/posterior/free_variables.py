"""The free variables of the two PyMC models, as functions of the parameters that every posterior has.

With them in the posterior, PyMC's own functions take it: ``pm.compute_log_likelihood(tree, model=lmm.marginal())``
finds every value that it asks for, and ``pm.sample_posterior_predictive`` draws none of them anew from its prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.parameters import congruent, level_names
from bayeslmm.distributions.prior import Prior, one_family
from bayeslmm.model import Model
from bayeslmm.posterior.effects import roots_of

Values = Mapping[str, np.ndarray]  # draws first


@dataclass(frozen=True, kw_only=True)
class FreeVariable:
    """A variable that a PyMC model has and that follows from the parameters as written.

    Attributes
    ----------
    name : str
    dims : tuple of str
    needs : tuple of str
        Names of the parameters that it follows from.
    at : callable
        From draws of these (N, ...) to draws of the variable (N, ...).
    """

    name: str
    dims: tuple[str, ...]
    needs: tuple[str, ...]
    at: Callable[[Values], np.ndarray]


def free_variables(model: Model) -> list[FreeVariable]:
    """Those of `LMM.joint`, centred or not, and of `LMM.marginal` which are no parameters as written.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> [variable.name for variable in free_variables(blm.example("sleepstudy"))]
    ['beta_at_mean', 'corr_u2_factor', 'z_u2']
    """
    design, priors = model.design, model.priors
    out: list[FreeVariable] = []
    stated = "beta"
    if priors.beta_anchor is not None:
        stated, inverse = "beta_at_mean", priors.beta_anchor.inverse
        out.append(FreeVariable(name=stated, dims=("coef",), needs=("beta",), at=lambda v: v["beta"] @ inverse.T))
        out += _entries(stated, design.coef, priors.beta, "beta", lambda v: v["beta"] @ inverse.T)
    else:
        out += _entries("beta", design.coef, priors.beta, "beta", lambda v: v["beta"])
    if priors.shares is not None:
        out += _shares(model)
    for k in range(len(design.levels)):
        out += _of_level(model, k)
    ratios = priors.residual[len(design.residual.own) :]
    if ratios:
        labels = design.residual.strata[1:]
        out += _entries("sigma_ratio", labels, ratios, "sigma_ratio", lambda v: v["sigma_ratio"])
    return out


def _entries(
    name: str, labels: Sequence[str], priors: Sequence[Prior], need: str, at: Callable[[Values], np.ndarray]
) -> list[FreeVariable]:
    """One variable an entry, where their priors are of several families."""
    if not priors or one_family(priors):
        return []

    def entry(k: int) -> Callable[[Values], np.ndarray]:
        return lambda v: at(v)[:, k]

    return [
        FreeVariable(name=f"{name}[{label}]", dims=(), needs=(need,), at=entry(k)) for k, label in enumerate(labels)
    ]


def _shares(model: Model) -> list[FreeVariable]:
    shares = model.priors.shares
    assert shares is not None  # the caller has looked
    needs = ("sigma", *(level_names(level).sigma for level in model.design.levels if level.n_sds))

    def split(v: Values) -> tuple[np.ndarray, np.ndarray]:
        return shares.split(np.column_stack([v[name] for name in needs]))

    return [
        FreeVariable(name="sigma_total", dims=(), needs=needs, at=lambda v: split(v)[0]),
        FreeVariable(name="shares", dims=("share",), needs=needs, at=lambda v: split(v)[1]),
    ]


def _of_level(model: Model, k: int) -> list[FreeVariable]:
    """The SDs and the correlations' factor where they are stated, and what u is made of."""
    level, W = model.design.levels[k], model.priors.effect_maps[k]
    names, own = level_names(level), model.priors.sd[k] if model.priors.shares is None else ()
    needs = tuple(
        name for name in (names.sigma if level.n_sds else "sigma", names.corr if level.correlated else "") if name
    )
    out: list[FreeVariable] = []
    stated_sds = _StatedEffects(level=level, W=W)
    if level.n_sds > 1:
        name = names.sigma if W is None else f"{names.sigma}_at_mean"
        if W is not None:
            out.append(FreeVariable(name=name, dims=(names.effect,), needs=needs, at=lambda v: stated_sds(v)[0]))
        out += [
            FreeVariable(name=one.name, dims=(), needs=needs, at=one.at)
            for one in _entries(name, level.effects, own, names.sigma, lambda v: stated_sds(v)[0])
        ]
    if level.correlated and level.structure.paired:
        name = f"{names.corr}_factor" if W is None else f"{names.corr}_at_mean_factor"
        pair = (names.effect, names.effect_bis)
        out.append(FreeVariable(name=name, dims=pair, needs=needs, at=lambda v: root_of(stated_sds(v)[1])))
    dims = (names.group,) if level.r == 1 else (names.group, names.effect)
    out.append(FreeVariable(name=f"z_{names.u}", dims=dims, needs=(names.u, *needs), at=stated_sds.standard))
    if W is not None:
        inverse = np.linalg.inv(W)
        out.append(
            FreeVariable(name=f"{names.u}_at_mean", dims=dims, needs=(names.u,), at=lambda v: v[names.u] @ inverse.T)
        )
    return out


@dataclass(frozen=True, kw_only=True)
class _StatedEffects:
    """The effects of a level for which priors are stated: v with u = W v."""

    level: LevelDesign
    W: np.ndarray | None

    def __call__(self, v: Values) -> tuple[np.ndarray, np.ndarray]:
        """Their SDs (N, r) and correlations (N, r, r)."""
        names, r = level_names(self.level), self.level.r
        n = len(v["sigma"] if not self.level.n_sds else v[names.sigma])
        sd = np.broadcast_to(v[names.sigma if self.level.n_sds else "sigma"].reshape(n, -1), (n, r))
        corr = v[names.corr] if self.level.correlated else np.broadcast_to(np.eye(r), (n, r, r))
        return (sd, corr) if self.W is None else congruent(np.linalg.inv(self.W), sd, corr)

    def standard(self, v: Values) -> np.ndarray:
        """z with u = L z (W diag(SD) root)', (N, m[, r]); zero in a direction in which nothing varies."""
        sd, corr = self(v)
        u = v[self.level.name].reshape(len(sd), self.level.m, self.level.r)
        if self.level.relation is not None:
            u = self.level.relation.collect(u)
        w = u if self.W is None else u @ np.linalg.inv(self.W).T
        root, z = root_of(corr), np.zeros_like(u)
        for j in range(self.level.r):
            rest = w[..., j] / np.where(sd[:, None, j] > 0, sd[:, None, j], 1.0)
            rest = rest - np.einsum("ngk,nk->ng", z[..., :j], root[:, j, :j])
            last = root[:, None, j, j]
            z[..., j] = np.divide(rest, last, out=np.zeros_like(rest), where=np.broadcast_to(last > 0, rest.shape))
        return z[..., 0] if self.level.r == 1 else z


def root_of(corr: np.ndarray) -> np.ndarray:
    """Lower triangular roots (N, r, r) of correlation matrices, be they singular.

    Examples
    --------
    >>> root_of(np.array([[[1.0, 1.0], [1.0, 1.0]]])).round(6).tolist()
    [[[1.0, 0.0], [1.0, 0.0]]]
    """
    upper = np.linalg.qr(np.swapaxes(roots_of(corr), -1, -2), mode="r")
    sign = np.where(np.einsum("nii->ni", upper) < 0, -1.0, 1.0)
    root = np.swapaxes(upper * sign[:, :, None], -1, -2)
    at = np.arange(corr.shape[-1])
    root[:, at, at] = np.abs(root[:, at, at])
    return np.tril(root) + 0.0
