"""What ArviZ and PyMC read beside the draws, each computed when it is first read and no sooner.

`complete` gives a posterior the groups ``log_likelihood`` (of rows), ``log_prior``, ``posterior_predictive``,
``prior``, ``prior_predictive`` and ``constant_data``, and the free variables of the PyMC models. They cost nothing
until they are read, and can be read in parts: ``tree["log_likelihood"]["y"].isel(row=slice(0, 1000))``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from bayeslmm.criticism.prior_predictive import draw_effects, draw_parameters, draw_response
from bayeslmm.criticism.sensitivity import log_prior
from bayeslmm.design.parameters import coords, dims
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model
from bayeslmm.posterior.draws import written_values
from bayeslmm.posterior.free_variables import FreeVariable, free_variables
from bayeslmm.posterior.pointwise import row_log_likelihood
from bayeslmm.support.computed import computed

DERIVED = ("log_likelihood", "log_prior", "posterior_predictive", "prior", "prior_predictive")
MADE = {"computed_by": "bayeslmm"}  # of groups that are computed when they are read, not of others with their names
NUMBERS = 4_000_000  # draws times rows at a time


def complete(model: Model, tree: xr.DataTree) -> xr.DataTree:
    """Return the tree with all groups; those that it has already stay as they are.

    Parameters
    ----------
    model : Model
        The one that the draws come from.
    tree : xarray.DataTree
        With a group ``posterior``.
    """
    posterior = tree["posterior"].to_dataset()
    out = tree.copy()
    out.attrs.setdefault("predictive_seed", entropy_of(tree))
    draws = DrawGroups(model=model, posterior=posterior, entropy=int(out.attrs["predictive_seed"]))
    derived = {one.name: one for one in free_variables(model) if one.name not in posterior.data_vars}
    out["posterior"] = xr.DataTree(_with_free_variables(model, posterior, list(derived.values()), draws.some))
    prior = PriorGroups(model=model, posterior=posterior, entropy=draws.entropy)
    return add_groups(out, draws, prior, constant_data(model) if model.design.has_rows else None)


def add_groups(out: xr.DataTree, draws: DrawGroups, prior: PriorGroups, constant: xr.Dataset | None) -> xr.DataTree:
    """The tree with those groups that it hasn't, each computed when it is read.

    Where the rows stay in a source there is no `constant` data, and nothing of single rows.
    """
    groups: dict[str, Callable[[], xr.Dataset]] = {"log_prior": draws.log_prior}
    proper = not any(row.prior.is_flat for row in draws.model.priors.reasons)
    if proper:
        groups["prior"] = prior.dataset
    if constant is not None:
        own = constant
        groups |= {
            "constant_data": lambda: own,
            "log_likelihood": draws.log_likelihood,
            "posterior_predictive": draws.predictive,
        }
        groups |= {"prior_predictive": prior.predictive} if proper else {}
    for name, make in groups.items():
        if name not in out.children:
            out[name] = xr.DataTree(make().assign_attrs(MADE))
    return out


def stored(model: Model, tree: xr.DataTree) -> xr.DataTree:
    """Return the tree without what `complete` can compute again: what is worth keeping on disk."""
    made = [name for name in DERIVED if name in tree.children and MADE.items() <= tree[name].attrs.items()]
    kept = {f"/{name}": child.to_dataset() for name, child in tree.children.items() if name not in made}
    free = {one.name for one in free_variables(model)}
    posterior = kept["/posterior"]
    kept["/posterior"] = posterior.drop_vars([name for name in posterior.data_vars if str(name) in free])
    out = xr.DataTree.from_dict(kept)
    out.attrs |= tree.attrs
    return out


def constant_data(model: Model | LinkModel) -> xr.Dataset:
    """X, which group each row belongs to (its place among the level's groups), offset and weights."""
    design = model.design
    out: dict[str, Any] = {"X": (("row", "coef"), design.X)}
    out |= {f"{level.name}_index": ("row", level.index) for level in design.levels}
    if design.offset is not None:
        out["offset"] = ("row", design.offset)
    if np.ptp(design.residual.root_weights) > 0:
        out["weights"] = ("row", design.residual.root_weights**2)
    labels = coords(design)
    return xr.Dataset(out, coords={"row": labels["row"], "coef": labels["coef"]})


def entropy_of(tree: xr.DataTree) -> int:
    """Of the run's seed, or a new one."""
    seed = int(tree.attrs.get("random_seed", -1))
    return int(np.random.SeedSequence().generate_state(1)[0]) if seed < 0 else seed


@dataclass(frozen=True, kw_only=True)
class DrawGroups:
    """Draws of a posterior, and what follows from some of them; what depends on the outcome is in the first methods."""

    model: Any
    posterior: xr.Dataset
    entropy: int
    stream: ClassVar[int] = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Chains and draws."""
        return self.posterior.sizes["chain"], self.posterior.sizes["draw"]

    @property
    def base(self) -> dict[str, Any]:
        """Their labels."""
        return {name: self.posterior[name].to_numpy() for name in ("chain", "draw")}

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of every variable."""
        return dims(self.model.design)

    @property
    def labels(self) -> dict[str, list]:
        """Labels of every dimension."""
        return coords(self.model.design)

    @cached_property
    def flat(self) -> dict[str, np.ndarray]:
        """The parameters and effects as written, all chains in a row."""
        return written_values(self.model.design, self.posterior)

    def density(self, values: Mapping[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Log densities (N, k) of some rows."""
        return row_log_likelihood(self.model.design, values, rows)

    def replicates(
        self, values: Mapping[str, np.ndarray], seeds: list[tuple[int, ...]], rows: np.ndarray
    ) -> np.ndarray:
        """New y (N, k) of some rows."""
        return responses(self.model, values, seeds, rows)

    def prior_density(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Log prior density by variable."""
        return log_prior(self.model, values)

    def some(self, chains: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Numbers of these draws and their values, draws first."""
        at = (chains[:, None] * self.shape[1] + draws).ravel()
        whole = at.size == self.shape[0] * self.shape[1] and bool((np.diff(at) == 1).all())
        return at, self.flat if whole else {name: x[at] for name, x in self.flat.items()}

    def log_likelihood(self) -> xr.Dataset:
        """Of each row given the effects."""

        def block(chains: np.ndarray, draws: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return self.density(self.some(chains, draws)[1], rows)

        return self._rows(block, "The log likelihood")

    def predictive(self) -> xr.Dataset:
        """New data."""

        def block(chains: np.ndarray, draws: np.ndarray, rows: np.ndarray) -> np.ndarray:
            at, values = self.some(chains, draws)
            return self.replicates(values, [(self.entropy, self.stream, int(k)) for k in at], rows)

        return self._rows(block, "New data")

    def _rows(self, block: Callable[..., np.ndarray], name: str) -> xr.Dataset:
        labels = self.labels["row"]
        y = computed(("chain", "draw", "row"), (*self.shape, self.model.design.n), block, name)
        return xr.Dataset({"y": y}, coords=self.base | {"row": labels})

    @cached_property
    def _log_prior(self) -> dict[str, np.ndarray]:
        return self.prior_density(self.flat)

    def log_prior(self) -> xr.Dataset:
        """Of each parameter."""
        known, labels = self.dims, self.labels
        shapes = self.log_prior_shapes()
        variables = {}
        for name, size in shapes.items():
            own = known.get(name, ())[: len(size)]

            def block(chains: np.ndarray, draws: np.ndarray, *rest: np.ndarray, name: str = name) -> np.ndarray:
                x = self._log_prior[name].reshape(*self.shape, *shapes[name])
                return x[np.ix_(chains, draws, *rest)]

            variables[name] = computed(("chain", "draw", *own), (*self.shape, *size), block, "The log prior")
        used = _labels_of(labels, variables)
        return xr.Dataset(variables, coords=self.base | used)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one draw of every variable."""
        return {name: tuple(len(self.labels[dim]) for dim in own) for name, own in self.dims.items() if name != "e"}

    def log_prior_shapes(self) -> dict[str, tuple[int, ...]]:
        """Per variable of the log prior, the dimensions of one draw: those of the parameters, none for matrices."""
        values = {name: np.ones((1, *shape)) for name, shape in self.shapes().items()}
        for level in self.model.design.levels:
            if level.correlated:
                values[f"corr_{level.name}"] = np.eye(level.r)[None]
        with np.errstate(all="ignore"):
            return {name: x.shape[1:] for name, x in self.prior_density(values).items()}


def responses(
    model: Model, values: Mapping[str, np.ndarray], seeds: Sequence[tuple[int, ...]], rows: np.ndarray
) -> np.ndarray:
    """New y (N, k) of some rows, from draws of all parameters and effects; one seed a draw, so that parts agree."""
    n = model.design.n
    out = np.empty((len(seeds), len(rows)))
    piece = max(1, NUMBERS // n)
    for lo in range(0, len(seeds), piece):
        part = {name: x[lo : lo + piece] for name, x in values.items()}
        z = np.stack([np.random.default_rng(seed).standard_normal(n) for seed in seeds[lo : lo + piece]])
        out[lo : lo + piece] = draw_response(model.design, part, z)[:, rows]
    return out


@dataclass(frozen=True, kw_only=True)
class PriorGroups(DrawGroups):
    """As many draws from the prior, so that parts of a tree are parts of both; made when the first of them is read."""

    stream: ClassVar[int] = 3

    @cached_property
    def flat(self) -> dict[str, np.ndarray]:
        """Parameters and effects."""
        return self.drawn(self.shape[0] * self.shape[1], np.random.default_rng((self.entropy, 2)))

    def drawn(self, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Parameters and effects from the prior."""
        values = draw_parameters(self.model.design, self.model.priors, count, rng)
        return values | draw_effects(self.model.design, values, rng)

    def free(self) -> Sequence[FreeVariable]:
        """Variables of PyMC's models that follow from them."""
        return free_variables(self.model)

    def dataset(self) -> xr.Dataset:
        """Parameters and effects as a group."""
        known, labels = self.dims, self.labels
        variables = {}
        for name, size in self.shapes().items():

            def block(chains: np.ndarray, draws: np.ndarray, *rest: np.ndarray, name: str = name) -> np.ndarray:
                return self.flat[name].reshape(*self.shape, *self.flat[name].shape[1:])[np.ix_(chains, draws, *rest)]

            variables[name] = computed(("chain", "draw", *known[name]), (*self.shape, *size), block, "The prior")
        base = xr.Dataset(variables, coords=self.base | _labels_of(labels, variables))
        return _with_free_variables(self.model, base, self.free(), self.some)


def _labels_of(labels: Mapping[str, list], variables: Mapping[str, xr.Variable]) -> dict[str, list]:
    """The labels of the dimensions behind chain and draw."""
    return {str(dim): labels[str(dim)] for variable in variables.values() for dim in variable.dims[2:]}


def _with_free_variables(
    model: Model,
    base: xr.Dataset,
    variables: Sequence[FreeVariable],
    some: Callable[..., tuple[np.ndarray, Mapping[str, np.ndarray]]],
) -> xr.Dataset:
    """The dataset with the free variables that follow from its own."""
    labels = coords(model.design)
    if model.priors.shares is not None:
        labels["share"] = list(model.priors.shares.names)
    shape = base.sizes["chain"], base.sizes["draw"]
    out = {}
    for one in variables:
        if not all(name in base.data_vars for name in one.needs):
            continue

        def block(chains: np.ndarray, draws: np.ndarray, *rest: np.ndarray, one: FreeVariable = one) -> np.ndarray:
            x = one.at(some(chains, draws)[1]).reshape(len(chains), len(draws), *(len(labels[dim]) for dim in one.dims))
            return x[np.ix_(np.arange(len(chains)), np.arange(len(draws)), *rest)]

        size = tuple(len(labels[dim]) for dim in one.dims)
        out[one.name] = computed(("chain", "draw", *one.dims), (*shape, *size), block, one.name)
    used = _labels_of(labels, out)
    return base.assign(out).assign_coords({dim: own for dim, own in used.items() if dim not in base.coords})
