"""What ArviZ reads beside the draws where the outcome isn't Gaussian, each computed when it is first read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from bayeslmm.criticism.groups import NUMBERS, DrawGroups, PriorGroups, add_groups, constant_data, entropy_of
from bayeslmm.criticism.link_prior import draw_prior, link_coords, link_log_prior, link_responses
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.free_variables import FreeVariable
from bayeslmm.posterior.link_draws import LinkValues
from bayeslmm.posterior.link_tree import link_dims


@dataclass(frozen=True, kw_only=True)
class LinkDrawGroups(DrawGroups):
    """Draws of a posterior, and what follows from some of them."""

    model: LinkModel

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of every variable, the family's own too."""
        return link_dims(self.model)

    @property
    def labels(self) -> dict[str, list]:
        """Labels of every dimension."""
        return link_coords(self.model)

    @cached_property
    def flat(self) -> dict[str, np.ndarray]:
        """The parameters and effects as written, all chains in a row."""
        out = {}
        for name in self.dims:
            if name in self.posterior.data_vars:
                x = np.asarray(self.posterior[name].transpose("chain", "draw", ...).values, dtype=float)
                out[name] = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])  # beta may be empty
        return out

    def density(self, values: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Log densities (N, k) of some rows given the effects."""
        link, out = LinkValues.of(self.model, values), []
        step = max(1, NUMBERS // max(len(rows), 1))
        for lo in range(0, link.n, step):
            some = link.some(slice(lo, lo + step))
            out.append(some.logpdf(some.eta(rows), rows))
        return np.concatenate(out) if out else np.zeros((0, len(rows)))

    def replicates(
        self, values: Mapping[str, np.ndarray], seeds: list[tuple[int, ...]], rows: np.ndarray
    ) -> np.ndarray:
        """New y (N, k) of some rows."""
        link, out = LinkValues.of(self.model, values), []
        step = max(1, NUMBERS // self.model.design.n)
        for lo in range(0, link.n, step):
            out.append(link_responses(self.model, link.some(slice(lo, lo + step)), seeds[lo : lo + step], rows))
        return np.concatenate(out) if out else np.zeros((0, len(rows)))

    def prior_density(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Log prior density by variable."""
        return link_log_prior(self.model, values)


@dataclass(frozen=True, kw_only=True)
class LinkPriorGroups(LinkDrawGroups, PriorGroups):
    """As many draws from the prior."""

    @cached_property
    def flat(self) -> dict[str, np.ndarray]:
        """The parameters and effects."""
        return self.drawn(self.shape[0] * self.shape[1], np.random.default_rng((self.entropy, 2)))

    def drawn(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Parameters and effects from the prior."""
        return draw_prior(self.model, count, rng)

    def free(self) -> Sequence[FreeVariable]:
        """None: PyMC's own are in no tree of these models."""
        return ()


def complete_link(model: LinkModel, tree: xr.DataTree) -> xr.DataTree:
    """Return the tree with all groups; those that it has already stay as they are.

    ``log_likelihood`` is of each row given the effects, so that ``arviz.loo`` leaves rows out conditionally;
    `GLMM.loo` has the effects integrated out.
    """
    posterior = tree["posterior"].to_dataset()
    out = tree.copy()
    out.attrs.setdefault("predictive_seed", entropy_of(tree))
    entropy = int(out.attrs["predictive_seed"])
    draws = LinkDrawGroups(model=model, posterior=posterior, entropy=entropy)
    prior = LinkPriorGroups(model=model, posterior=posterior, entropy=entropy)
    constant: Any = constant_data(model)
    if model.outcome.trials is not None:
        constant = constant.assign(trials=("row", model.outcome.trials))
    return add_groups(out, draws, prior, constant)
