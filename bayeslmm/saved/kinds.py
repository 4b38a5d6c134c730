"""What differs between a saved LMM and a saved GLMM: a class each, and all the rest of `saved` asks it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import xarray as xr

from bayeslmm.criticism.groups import DERIVED, MADE, complete, stored
from bayeslmm.criticism.link_groups import complete_link
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.description.outcome_keys import OutcomeKeys
from bayeslmm.design.building import build_design
from bayeslmm.design.outcome import ResponseReader
from bayeslmm.errors import DescriptionError
from bayeslmm.integration.fit import GLMMFit
from bayeslmm.likelihood.fit import LikelihoodFit
from bayeslmm.link_model import LinkModel
from bayeslmm.model import Model
from bayeslmm.posterior.draws import check_tree
from bayeslmm.posterior.link_draws import check_link_tree
from bayeslmm.priors.resolve import as_priors, priors_as_given
from bayeslmm.saved.check import density_record, differences
from bayeslmm.saved.fit_record import fit_record, link_fit_record
from bayeslmm.saved.link_check import link_density_record, link_differences
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    from bayeslmm.data.table import Taken

AnyModel = Model | LinkModel


class Kind(ABC):
    """A kind of model, and how it is saved.

    Attributes
    ----------
    name : str
        What users call it: "lmm".
    fit : type
        Of its fits.
    """

    name = ""
    fit: type

    @abstractmethod
    def outcome(self, model: Any) -> OutcomeKeys | None:
        """What its description says of the outcome."""

    @abstractmethod
    def rebuilt(self, hierarchy: Hierarchy, outcome: OutcomeKeys | None, taken: Taken, priors: Any) -> AnyModel:
        """The model that was read."""

    @abstractmethod
    def given(self, model: Any) -> dict[str, Any]:
        """Its given priors, as a description file has them."""

    @abstractmethod
    def stored(self, model: Any, tree: xr.DataTree) -> xr.DataTree:
        """The draws without what can be computed again."""

    @abstractmethod
    def completed(self, model: Any, tree: xr.DataTree) -> xr.DataTree:
        """The draws with what can be computed of them."""

    @abstractmethod
    def check_tree(self, model: Any, tree: Any, remedy: str) -> None:
        """Refuse what is no posterior of this model."""

    @abstractmethod
    def record(self, fit: Any) -> dict[str, Any]:
        """A fit as JSON has it."""

    @abstractmethod
    def densities(self, model: Any, tree: xr.DataTree | None) -> dict[str, Any]:
        """Log densities at fixed points and stored draws."""

    @abstractmethod
    def differences(self, model: Any, record: dict[str, Any], tree: xr.DataTree | None) -> list[str]:
        """What of them comes out as another now."""

    def formula(self, model: Any) -> str:
        """As it is written."""
        return model.hierarchy.formula


class Gaussian(Kind):
    """An LMM."""

    name = "lmm"
    fit = LikelihoodFit

    def outcome(self, model: Model) -> None:
        """None."""

    def rebuilt(self, hierarchy: Hierarchy, outcome: OutcomeKeys | None, taken: Taken, priors: Any) -> Model:
        """The model that was read."""
        return Model(hierarchy=hierarchy, design=build_design(hierarchy, taken), given_priors=priors)

    def given(self, model: Model) -> dict[str, Any]:
        """Its given priors, as a description file has them."""
        return as_priors(model.design, model.given_priors)

    def stored(self, model: Model, tree: xr.DataTree) -> xr.DataTree:
        """The draws without what can be computed again."""
        return stored(model, tree)

    def completed(self, model: Model, tree: xr.DataTree) -> xr.DataTree:
        """The draws with what can be computed of them."""
        return complete(model, tree)

    def check_tree(self, model: Model, tree: Any, remedy: str) -> None:
        """Refuse what is no posterior of this model."""
        check_tree(model.design, "given", tree, False, remedy)

    def record(self, fit: LikelihoodFit) -> dict[str, Any]:
        """A fit as JSON has it."""
        return fit_record(fit)

    def densities(self, model: Model, tree: xr.DataTree | None) -> dict[str, Any]:
        """Log densities at fixed points and stored draws."""
        return density_record(model, tree)

    def differences(self, model: Model, record: dict[str, Any], tree: xr.DataTree | None) -> list[str]:
        """What of them comes out as another now."""
        return differences(model, record, tree)


class Link(Kind):
    """A GLMM."""

    name = "glmm"
    fit = GLMMFit

    def outcome(self, model: LinkModel) -> OutcomeKeys:
        """The family and its columns."""
        return model.reader.keys

    def rebuilt(self, hierarchy: Hierarchy, outcome: OutcomeKeys | None, taken: Taken, priors: Any) -> LinkModel:
        """The model that was read."""
        if outcome is None:
            raise DescriptionError("its description names no family")
        reader = ResponseReader(
            family=outcome.family,
            response=hierarchy.response,
            failures=outcome.failures,
            total=outcome.trials,
            trials=outcome.weights,
        )
        design = build_design(hierarchy, taken, reader=reader)
        return LinkModel(hierarchy=hierarchy, design=design, reader=reader, given_priors=priors)

    def given(self, model: LinkModel) -> dict[str, Any]:
        """Its given priors, as a description file has them."""
        _ = model.priors  # they are sound
        return priors_as_given(model.design, model.given_priors)

    def stored(self, model: LinkModel, tree: xr.DataTree) -> xr.DataTree:
        """The draws without what can be computed again."""
        made = [name for name in DERIVED if name in tree.children and MADE.items() <= tree[name].attrs.items()]
        kept = {f"/{name}": child.to_dataset() for name, child in tree.children.items() if name not in made}
        out = xr.DataTree.from_dict(kept)
        out.attrs |= tree.attrs
        return out

    def completed(self, model: LinkModel, tree: xr.DataTree) -> xr.DataTree:
        """The draws with what can be computed of them; as they are where they have no effects."""
        known = set(tree["posterior"].data_vars)
        return complete_link(model, tree) if {level.name for level in model.design.levels} <= known else tree

    def check_tree(self, model: LinkModel, tree: Any, remedy: str) -> None:
        """Refuse what is no posterior of this model."""
        check_link_tree(model, tree, False, remedy)

    def record(self, fit: GLMMFit) -> dict[str, Any]:
        """A fit as JSON has it."""
        return link_fit_record(fit)

    def densities(self, model: LinkModel, tree: xr.DataTree | None) -> dict[str, Any]:
        """Log densities at fixed points and stored draws."""
        return link_density_record(model, tree)

    def differences(self, model: LinkModel, record: dict[str, Any], tree: xr.DataTree | None) -> list[str]:
        """What of them comes out as another now."""
        return link_differences(model, record, tree)

    def formula(self, model: LinkModel) -> str:
        """With both columns of a cbind."""
        return model.formula


GAUSSIAN, LINK = Gaussian(), Link()


def kind_of(model: AnyModel) -> Kind:
    """The kind of a model."""
    return LINK if isinstance(model, LinkModel) else GAUSSIAN


def rebuilt(hierarchy: Hierarchy, outcome: OutcomeKeys | None, taken: Taken, priors: Any) -> AnyModel:
    """The model that was read, whatever its kind."""
    kind = GAUSSIAN if outcome is None else LINK
    with warnings.catch_warnings(), one_blas_thread():
        warnings.simplefilter("ignore", UserWarning)  # of columns left out: said when the model was made
        return kind.rebuilt(hierarchy, outcome, taken, priors)
