"""NUTS by nutpie on the joint or the marginal model of an outcome that isn't Gaussian."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.errors import SamplingError
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_tree import link_dims, link_tree
from bayeslmm.posterior.nuts import clean_draws, draw_twice
from bayeslmm.posterior.sampler import Run, Settings


class LinkNuts:
    """The No-U-Turn sampler on the joint model, or on the marginal with an approximation of its integral.

    The marginal has no effects.
    """

    name = "nuts"

    def __init__(self, centered: bool | Mapping[str, bool], approximation: str = ""):
        self.centered, self.approximation = centered, approximation

    def run(self, model: LinkModel, settings: Settings) -> Run:
        """Compile and draw, again at a higher target where draws diverge; SamplingError keeps the clean part."""
        began = time.perf_counter()
        compiled, said = self._compile(model)
        compiling = time.perf_counter() - began
        trace, note = draw_twice(compiled, settings, int(settings.seed.generate_state(1)[0]))
        tree = _tree(model, trace, settings)
        tree.attrs["integration"] = said
        return Run(tree=tree, compiling=compiling, note=note)

    def _compile(self, model: LinkModel) -> tuple[Any, str]:
        """(the compiled model, how its effects are integrated out)."""
        import nutpie
        from pymc.model.transform.optimization import freeze_dims_and_data

        from bayeslmm.pymc_models.link_joint import build_link_joint
        from bayeslmm.pymc_models.link_marginal import build_link_marginal

        if self.approximation:
            rule = model.rule(self.approximation)
            built, said = build_link_marginal(model.problem, model.priors, rule), str(rule)
        else:
            built, said = build_link_joint(model.design, model.family, model.priors, self.centered), "none"
        with warnings.catch_warnings():
            # PyMC finds its initial point in a mode that looks for a BLAS library and complains; numba needs none
            warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS installation")
            return nutpie.compile_pymc_model(freeze_dims_and_data(built)), said


def _tree(model: LinkModel, trace: Any, settings: Settings) -> Any:
    posterior = trace["posterior"]
    raw = {name: posterior[name].to_numpy() for name in link_dims(model) if name in posterior.data_vars}
    if model.design.p == 0:
        raw["beta"] = np.zeros((settings.chains, settings.draws, 0))
    whole, clean = clean_draws(raw, settings.draws)
    values = {name: x[whole, :clean] for name, x in raw.items()}
    stats = {
        str(name): trace["sample_stats"][name].to_numpy()[whole, :clean]
        for name in trace["sample_stats"].data_vars
        if trace["sample_stats"][name].dims == ("chain", "draw")
    }
    tree = link_tree(model, values, stats)
    if clean < settings.draws or len(whole) < settings.chains:
        raise SamplingError(
            f"NUTS came back with {clean} of {settings.draws} finite draws per chain in {len(whole)} of "
            f"{settings.chains} chains: it was interrupted or left the support. The clean part is in this error's "
            "attribute `clean`; it is not a sample of the size asked for.",
            clean=tree if clean else None,
        )
    return tree
