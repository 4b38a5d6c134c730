"""A fit or a posterior of an outcome that isn't Gaussian, as the tables ask it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_draws import LinkValues, check_link_tree
from bayeslmm.tables.fit_result import FLAT, STEP
from bayeslmm.tables.link_points import LinkPoints
from bayeslmm.tables.points import Basis
from bayeslmm.tables.posterior_result import PosteriorResult
from bayeslmm.tables.result import Quantity, Result
from bayeslmm.tables.wald import WaldResult


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkResult(Result):
    """What both have in common: variances are on the scale of the link."""

    model: LinkModel

    @property
    def basis(self) -> Basis:
        """The rows as the integrals need them."""
        return self.model.problem.rows

    @property
    def scale(self) -> str:
        """The link's."""
        return f"Variances are on the {self.model.family.link} scale, around X beta. {self.latent}"

    @property
    def latent(self) -> str:
        """What stands for the rows' own variance."""
        said = self.points(1).spread(1).latent()[1]
        return f"{self.rows_part}: what stands for the rows' own variance on the scale of the link, {said}."

    @property
    def rows_part(self) -> str:
        """The distribution's own."""
        return "distribution"


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkFit(WaldResult, LinkResult):
    """ML: one point, and how the approximated likelihood bends around it."""

    fit: GLMMFit

    @property
    def doubts(self) -> str:
        """What deserves a second look."""
        return " ".join(self.fit.doubts)

    @property
    def meaning(self) -> str:
        """The delta method."""
        return (
            "SD and interval by the delta method from the curvature of the likelihood, on a scale of logarithms (of "
            "logits for shares): rough where there are few groups. A posterior has better ones: glmm.sample()."
        )

    @property
    def how(self) -> str:
        """What an interval of `derive` is."""
        return f"ML Wald{f', given {self.held} on the boundary' if self.held else ''}"

    @cached_property
    def held(self) -> str:
        """Parameters that are held where they are, on the boundary, or ""."""
        return ", ".join(self.fit.boundary)

    @property
    def boundary(self) -> tuple[str, ...]:
        """The fit's."""
        return self.fit.boundary

    @cached_property
    def trouble(self) -> str:
        """Why there are no intervals, or ""."""
        if not self.fit.peak.converged:
            return "none, as the search did not arrive"
        return "none, as the likelihood is flat" if self.roots is None else ""

    @cached_property
    def roots(self) -> np.ndarray | None:
        """Directions (d, k) of the search's coordinates, each one standard error long and independent; or None."""
        peak = self.fit.peak
        out = np.zeros((peak.free.size, self.fit.problem.size))
        if not peak.free.size:
            return out
        H = peak.hessian
        size = np.sqrt(np.maximum(np.diag(H), 0.0))
        if not (np.isfinite(H).all() and (size > 0).all()):
            return None
        values, vectors = np.linalg.eigh(H / np.outer(size, size))
        if values[0] < FLAT:
            return None
        out[:, peak.free] = (vectors / np.sqrt(values)).T / size
        return out

    def effects(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Conditional modes and SDs."""
        level = self.model.design.levels[k]
        frame = self.fit.ranef[level.name].to_numpy()
        return frame[:, : level.r], frame[:, level.r :]

    @property
    def beta(self) -> np.ndarray:
        """The estimates."""
        return self.fit.fixef.to_numpy()

    @property
    def psi(self) -> np.ndarray:
        """The estimates of the family's own parameters."""
        return self.fit.dispersion.to_numpy()

    def points(self, q: int = 0) -> LinkPoints:
        """The one point."""
        return self.at(self.fit.peak.x[None])

    def at(self, xs: np.ndarray) -> LinkPoints:
        """Points at the search's coordinates (N, k)."""
        problem, levels = self.fit.problem, self.model.design.levels
        lams = [problem.lambdas(x) for x in xs]
        values = LinkValues(
            model=self.model,
            beta=np.stack([problem.beta(x) for x in xs]),
            factors=tuple(np.stack([lam[k] for lam in lams]) for k in range(len(levels))),
            dispersion=np.stack([problem.dispersion(x) for x in xs]),
            effects={},
        )
        return LinkPoints.of(values, np.stack([problem.lam(x) for x in xs]))

    def slopes(self, quantity: Quantity) -> np.ndarray:
        """Derivatives (d, K) along the directions, by differences."""
        assert self.roots is not None
        x = self.fit.peak.x
        if not len(self.roots):
            return np.zeros((0, quantity(self.points()).shape[1]))
        up, down = (quantity(self.at(x + step * self.roots)) for step in (STEP, -STEP))
        return (up - down) / (2 * STEP)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkPosterior(PosteriorResult, LinkResult):
    """A posterior: draws of everything."""

    @cached_property
    def drawn(self) -> LinkValues:
        """The draws, chains one after the other."""
        return LinkValues.of_posterior(self.model, self.tree["posterior"].to_dataset())

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The draws of beta; the rest are in `drawn`."""
        return {"beta": self.drawn.beta}

    @cached_property
    def all_points(self) -> LinkPoints:
        """Every draw."""
        return LinkPoints.of(self.drawn)

    @property
    def psi(self) -> np.ndarray:
        """Posterior means of the family's own parameters."""
        return self.drawn.dispersion.mean(axis=0)


def read_link_result(model: LinkModel, result: Any, level: float, random_effects: bool) -> LinkFit | LinkPosterior:
    """Take a fit or a posterior of this model; refuse what is neither, or another model's."""
    if isinstance(result, GLMMFit):
        if result.problem is not model.problem and not _alike(model, result):
            raise DataError(
                f"The fit is of {result.formula!r} with {result.design.n} rows, and this model is {model.formula!r} "
                f"with {model.design.n}, or has other data. Pass glmm.ml() of this model."
            )
        return LinkFit(model=model, level=float(level), name="ML", fit=result)
    if "posterior" not in (getattr(result, "children", None) or {}):
        hint = " Did you mean glmm.ml()?" if isinstance(result, str) and result.lower() in ("ml", "reml") else ""
        raise DescriptionError(
            f"A {type(result).__name__} came as the result; expected glmm.ml() or a posterior, glmm.sample().{hint}"
        )
    check_link_tree(model, result, random_effects, "Write glmm.sample() and take what it returns.")
    variant = result.attrs.get("variant", "")
    name = f"{variant} posterior" if variant in ("joint", "marginal") else "posterior"
    return LinkPosterior(model=model, level=float(level), name=name, tree=result)


def _alike(model: LinkModel, fit: GLMMFit) -> bool:
    """Whether the fit is one of the same description, family and data."""
    own, other = model.design, fit.design
    same = (own.hierarchy.formula, own.coef, model.family) == (other.hierarchy.formula, other.coef, fit.family)
    same = same and [level.groups for level in own.levels] == [level.groups for level in other.levels]
    a, b = (np.zeros(0) if one.trials is None else one.trials for one in (model.outcome, fit.outcome))
    same = same and np.array_equal(own.y, other.y) and np.array_equal(own.X, other.X)
    return bool(same and np.array_equal(a, b))
