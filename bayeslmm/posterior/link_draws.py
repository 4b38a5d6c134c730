"""Draws of a model whose outcome isn't Gaussian, as all that follows from them reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.design.parameters import level_names
from bayeslmm.errors import DataError
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.draws import check_tree
from bayeslmm.posterior.effects import roots_of

if TYPE_CHECKING:
    import xarray as xr


THRESHOLD = "threshold"


def own_shapes(model: LinkModel) -> dict[str, tuple[int, ...]]:
    """The family's own variables in a posterior, and their sizes per draw."""
    labels = model.family.dispersion_labels(model.outcome)
    return {label: () for label in labels} if model.family.has_intercept else {THRESHOLD: (len(labels),)}


def check_link_tree(model: LinkModel, tree: Any, random_effects: bool, remedy: str) -> None:
    """Refuse a tree that isn't a posterior of this model; `remedy` is what to write."""
    check_tree(model.design, "given", tree, random_effects, remedy, own_shapes(model))
    family = tree.attrs.get("family", str(model.family))
    if str(family) != str(model.family):
        raise DataError(
            f"The given posterior comes from another model: its family is {family}, and here it is {model.family}. "
            f"{remedy}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkValues:
    """N points of all parameters and effects on the link's scale: draws, or those around an estimate.

    Attributes
    ----------
    beta : (N, p) array
    factors : per level F (N, r, r)
        F F' is the covariance of its effects as written.
    dispersion : (N, K) array
        The family's own parameters as written.
    effects : mapping of level name to (N, m, r) array
        Empty where they aren't known.
    """

    model: LinkModel
    beta: np.ndarray
    factors: tuple[np.ndarray, ...]
    dispersion: np.ndarray
    effects: Mapping[str, np.ndarray]

    @classmethod
    def of_posterior(cls, model: LinkModel, posterior: xr.Dataset) -> LinkValues:
        """Of a posterior that was checked, chains one after the other."""
        return cls.of(model, {str(name): _stacked(posterior[name]) for name in posterior.data_vars})

    @classmethod
    def of(cls, model: LinkModel, values: Mapping[str, np.ndarray]) -> LinkValues:
        """Of variables by name, draws first."""
        design, beta = model.design, values["beta"]
        n = len(beta)
        factors, effects = [], {}
        for level in design.levels:
            names = level_names(level)
            sd = np.broadcast_to(values[names.sigma].reshape(n, -1), (n, level.r))
            root = (
                roots_of(values[names.corr])
                if level.correlated
                else np.broadcast_to(np.eye(level.r), (n, level.r, level.r))
            )
            factors.append(sd[:, :, None] * root)
            if names.u in values:
                effects[level.name] = values[names.u].reshape(n, level.m, level.r)
        own = [values[name].reshape(n, -1) for name in own_shapes(model)]
        dispersion = np.concatenate([np.zeros((n, 0)), *own], axis=1)
        return cls(model=model, beta=beta, factors=tuple(factors), dispersion=dispersion, effects=effects)

    @property
    def n(self) -> int:
        """Number of points."""
        return len(self.beta)

    @cached_property
    def psi(self) -> np.ndarray:
        """Coordinates (N, K) of the family's own parameters, as its densities take them."""
        return self.model.family.dispersion_coordinates(self.dispersion) if self.dispersion.size else self.dispersion

    def some(self, which: Any) -> LinkValues:
        """Some of the points."""
        return LinkValues(
            model=self.model, beta=self.beta[which], factors=tuple(F[which] for F in self.factors),
            dispersion=self.dispersion[which], effects={name: u[which] for name, u in self.effects.items()},
        )  # fmt: skip

    def spread(self, most: int) -> LinkValues:
        """So many of the points at most, evenly spaced."""
        if self.n <= most:
            return self
        return self.some(np.linspace(0, self.n - 1, most).round().astype(int))

    def covariance(self, k: int) -> np.ndarray:
        """Covariance (N, r, r) of level k's effects."""
        return self.factors[k] @ np.swapaxes(self.factors[k], 1, 2)

    def eta(self, rows: Any = slice(None), without: tuple[int, ...] = ()) -> np.ndarray:
        """Offset + X beta + Z u (N, rows), u of all levels, or of all but some."""
        design = self.model.design
        out = self.beta @ design.X[rows].T
        if design.offset is not None:
            out += design.offset[rows]
        for k, level in enumerate(design.levels):
            if k not in without:
                out += np.einsum("nij,ij->ni", self.effects[level.name][:, level.index[rows]], level.columns[rows])
        return out

    def logpdf(self, eta: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Log densities (N, rows) of the outcome at eta."""
        family, outcome = self.model.family, self.model.outcome
        some = outcome if isinstance(rows, slice) and rows == slice(None) else outcome.part(rows)
        if not self.psi.shape[1]:
            return family.logpdf(some, eta, np.zeros(0))
        return np.stack([family.logpdf(some, eta[i], self.psi[i]) for i in range(self.n)]) if self.n else eta


def _stacked(variable: xr.DataArray) -> np.ndarray:
    values = np.asarray(variable.transpose("chain", "draw", ...).values, dtype=float)
    return values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])
