"""Sampling where the outcome isn't Gaussian: which sampler runs, and what its draws are worth."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayeslmm.errors import DescriptionError, SamplingError
from bayeslmm.factorisation.kernels.compiling import seconds_compiling
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.integration.choice import choose
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.link_collapsed import LinkCollapsed, why_not
from bayeslmm.posterior.link_nuts import LinkNuts
from bayeslmm.posterior.sampler import Run, Settings
from bayeslmm.posterior.sampling import PARTIAL, check_choices, check_sizes, finish, noted, say
from bayeslmm.support.arguments import check_centered


def sample_link(
    model: LinkModel,
    variant: str = "marginal",
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    sampler: str = "auto",
    centered: bool | Mapping[str, bool] = False,
    target_accept: float = 0.9,
    approximation: str = "",
    progress: bool = True,
) -> xr.DataTree:
    """Sample the posterior, as `GLMM.sample` says."""
    check_choices(variant, sampler, target_accept)
    if approximation:
        choose(model.problem, approximation, None)
        if variant == "joint" or sampler == "collapsed":
            raise DescriptionError(
                f"approximation={approximation!r} is that of NUTS on the marginal: variant='joint' and "
                "sampler='collapsed' are exact. Write sample('marginal', approximation='laplace')."
            )
    check_sizes(draws, tune, chains, random_seed, progress)
    check_centered(centered, [level.name for level in model.design.levels])
    settings = Settings(
        draws=draws, tune=tune, chains=chains, seed=np.random.SeedSequence(random_seed), target_accept=target_accept,
        residuals=False, progress=progress,
    )  # fmt: skip
    began, ready = time.perf_counter(), seconds_compiling()
    asked = {
        "variant": variant, "draws": draws, "chains": chains, "random_seed": -1 if random_seed is None else random_seed,
        "family": str(model.family),
    }  # fmt: skip
    try:
        with enough_memory(model.design, "Sampling"):
            name, run = _run(model, variant, sampler, settings, LinkNuts(centered, approximation))
    except SamplingError as error:
        if error.clean is not None:
            error.clean.attrs |= asked | PARTIAL
        raise
    run.tree.attrs |= asked | {"tune": tune if name == "nuts" else 0, "sampler": name, "note": run.note, "partial": 0}
    seconds, compiling = time.perf_counter() - began, seconds_compiling() - ready + run.compiling
    return finish(run.tree, seconds, compiling, _remedy(name, centered))


def _run(model: LinkModel, variant: str, sampler: str, settings: Settings, nuts: LinkNuts) -> tuple[str, Run]:
    """Run the collapsed sampler where it serves, else NUTS on the joint model: (which it was, its run)."""
    collapsed, why = LinkCollapsed(), ""
    if variant == "marginal" and sampler != "nuts" and not nuts.approximation:
        if why := why_not(model):
            if sampler == "collapsed":
                raise SamplingError(f"The collapsed sampler doesn't serve here: {why}. Write sampler='nuts'.")
            why = f"The collapsed sampler doesn't serve here: {why}. NUTS ran on the joint model."
        else:
            run = collapsed.run(model, settings)
            if not run.trouble or sampler == "collapsed":
                return collapsed.name, noted(run, run.trouble, run.note)
            why = f"{run.trouble} NUTS ran on the joint model instead."
        say(why)
    run = nuts.run(model, settings)
    return nuts.name, noted(run, why, run.note)


def _remedy(sampler: str, centered: bool | Mapping[str, bool]) -> str:
    """What to do about draws that can't be trusted."""
    if sampler == "collapsed":
        return "Write sampler='nuts', or take more draws (draws=4000)."
    other = "centered=True" if centered is False else "centered=False"
    return f"Take more draws (draws=4000), or write {other}."
