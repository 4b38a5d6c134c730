"""Names, shapes and coordinates of the parameters: made here once, used by every variant and table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.level_design import LevelDesign

# Dimensions and variables that PyMC, ArviZ or the models here have: "sample" is ArviZ's for chain and draw stacked.
RESERVED = {"chain", "draw", "sample", "coef", "row", "stratum", "share", "beta", "sigma", "e", "y", "y_data"}
RESERVED |= {"rho", "sigma_ratio", "sigma_total", "shares"}
RESERVED_PATTERN = re.compile(r"(z_|sigma_|corr_|rho_)?u\d+(_\w+)?")


@dataclass(frozen=True, kw_only=True)
class LevelNames:
    """Names of one level's variables and dimensions."""

    u: str
    sigma: str
    corr: str
    rho: str
    group: str
    effect: str
    effect_bis: str


def level_names(level: LevelDesign) -> LevelNames:
    """Names for level u2: sigma_u2, corr_u2, dims "class:school", "u2_effect", "u2_effect_bis".

    A grouping whose own name would be mistaken for something else in a model or a DataTree gets "_group" behind it.
    """
    u = level.name
    label = level.label.replace("/", "_")  # a DataTree has paths
    taken = label in RESERVED or RESERVED_PATTERN.fullmatch(label)
    return LevelNames(
        u=u,
        sigma=f"sigma_{u}",
        corr=f"corr_{u}",
        rho=f"rho_{u}",
        group=f"{label}_{u}" if level.shadowed else f"{label}_group" if taken else label,
        effect=f"{u}_effect",
        effect_bis=f"{u}_effect_bis",
    )


STRATUM = "stratum"  # dimension of the ratios of SDs


def row_labels(rows: pd.Index) -> list:
    """Labels of the rows, those of an index of several levels joined: "3, 1"."""
    return [", ".join(map(str, key)) for key in rows] if rows.nlevels > 1 else rows.tolist()


def coords(design: Design) -> dict[str, list]:
    """Coordinates of every dimension that a model of this design uses."""
    out: dict[str, list] = {"coef": list(design.coef)}
    if design.has_rows:
        out["row"] = row_labels(design.rows)
    for level in design.levels:
        names = level_names(level)
        out[names.group] = list(level.groups)
        if level.r > 1:
            out[names.effect] = list(level.effects)
        if level.correlated:
            out[names.effect_bis] = list(level.effects)
    if design.residual.strata:
        out[STRATUM] = list(design.residual.strata[1:])
    return out


def dims(design: Design) -> dict[str, tuple[str, ...]]:
    """Dimensions of every variable, the same in every variant."""
    out: dict[str, tuple[str, ...]] = {"beta": ("coef",), "sigma": (), "e": ("row",)}
    for level in design.levels:
        names = level_names(level)
        effect = (names.effect,) if level.r > 1 else ()
        if level.n_sds:
            out[names.sigma] = effect if level.n_sds == level.r else ()
        out[names.u] = (names.group, *effect)
        if level.correlated:
            out[names.corr] = (names.effect, names.effect_bis)
            if not level.structure.paired:
                out[names.rho] = ()
    for parameter in design.residual.parameters:
        out[parameter.name] = () if parameter in design.residual.own else (STRATUM,)
    return out


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """The variance parameters on the real line: log sigma, log SDs and coordinates of correlations, then R's.

    `natural` goes from there to (sigma, SDs, correlations). A known level has none: its SD is sigma.

    Attributes
    ----------
    design : Design
    maps : per level W (r, r), or None
        The SDs and correlations are those of effects v with u = W v (see `anchors`); None where they are those of u.
    """

    design: Design
    maps: tuple[np.ndarray | None, ...] = field(default=(), compare=False)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Labels of the coordinates' natural parameters."""
        out = ["sigma"]
        for level in self.design.levels:
            out += [*level.sd_labels, *level.correlation_labels]
        return (*out, *(parameter.label for parameter in self.design.residual.parameters))

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.names)

    @cached_property
    def slices(self) -> tuple[tuple[slice, slice], ...]:
        """Per level, where its log SDs and its partial correlations stand."""
        out, at = [], 1
        for level in self.design.levels:
            n_sd, n_corr = level.n_sds, level.structure.n_correlations(level.r)
            out.append((slice(at, at + n_sd), slice(at + n_sd, at + n_sd + n_corr)))
            at += n_sd + n_corr
        return tuple(out)

    @property
    def residual(self) -> slice:
        """Where R's parameters stand: the last ones."""
        return slice(self.size - len(self.design.residual.parameters), self.size)

    def psi(self, phi: np.ndarray) -> np.ndarray:
        """R's parameters (..., k)."""
        return self.design.residual.natural(phi[..., self.residual])

    def natural(self, phi: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """(sigma, SDs per level, correlation matrices per level) of the effects as written; leading dims are kept."""
        sds, corrs = [], []
        for factor in self.factors(phi):
            sd = np.sqrt(np.einsum("...ij,...ij->...i", factor, factor))
            unit = factor / np.where(sd > 0, sd, 1.0)[..., :, None]
            corr = unit @ np.swapaxes(unit, -1, -2)
            at = np.arange(corr.shape[-1])
            corr[..., at, at] = 1.0
            sds.append(sd)
            corrs.append(corr)
        return np.exp(phi[..., 0]), sds, corrs

    def factors(self, phi: np.ndarray) -> list[np.ndarray]:
        """F_k (..., r, r) per level, the covariance of its effects as written being F F'."""
        return [np.exp(phi[..., :1])[..., None] * lam for lam in self.relative_factors(phi)]

    def relative_factors(self, phi: np.ndarray) -> list[np.ndarray]:
        """F_k / sigma per level: W diag(SD / sigma) L, with L the factor of the correlations."""
        out = []
        for k, (level, (sd, corr)) in enumerate(zip(self.design.levels, self.slices, strict=True)):
            L = level.structure.root(phi[..., corr], level.r)
            own = np.exp(phi[..., sd] - phi[..., :1])
            ratio = own if level.n_sds else np.ones((*phi.shape[:-1], level.r))
            factor = ratio[..., :, None] * L
            W = self.maps[k] if self.maps else None
            out.append(factor if W is None else W @ factor)
        return out

    def from_relative(self, log_sigma: float, factors: Sequence[np.ndarray]) -> np.ndarray:
        """log sigma, log SDs and partial correlations of F_k / sigma (r, r), any roots; the rest of phi is zero."""
        phi = np.zeros(self.size)
        phi[0] = log_sigma
        for k, (level, factor, (sd, corr)) in enumerate(zip(self.design.levels, factors, self.slices, strict=True)):
            if not level.n_sds:
                continue
            W = self.maps[k] if self.maps else None
            stated = factor if W is None else np.linalg.solve(W, factor)
            size = np.sqrt(np.einsum("ij,ij->i", stated, stated))
            with np.errstate(divide="ignore"):
                phi[sd] = np.log(level.structure.gather(size)) + log_sigma
            rows = np.divide(stated, size[:, None], out=np.eye(level.r), where=size[:, None] > 0)
            phi[corr] = level.structure.coordinates(rows)
        return phi


def congruent(W: np.ndarray, sd: np.ndarray, corr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SDs (N, r) and correlations (N, r, r) of W v, from those of v.

    Examples
    --------
    >>> sd, corr = congruent(np.array([[1.0, 2], [0, 1]]), np.ones((1, 2)), np.eye(2)[None])
    >>> sd.round(4).tolist(), corr.round(4).tolist()
    ([[2.2361, 1.0]], [[[1.0, 0.8944], [0.8944, 1.0]]])
    """
    V = W @ (sd[:, :, None] * corr * sd[:, None, :]) @ W.T
    size = np.sqrt(np.einsum("nii->ni", V))
    out = V / np.where(size > 0, size, 1.0)[:, :, None] / np.where(size > 0, size, 1.0)[:, None, :]
    at = np.arange(sd.shape[1])
    out[:, at, at] = 1.0
    return size, out
