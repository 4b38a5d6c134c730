"""Sampling: which sampler runs, and what its draws are worth."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from bayeslmm.errors import DescriptionError, SamplingError, did_you_mean
from bayeslmm.factorisation.kernels.compiling import seconds_compiling
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.model import Model
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.collapsed_sampler import Collapsed
from bayeslmm.posterior.nuts import Nuts
from bayeslmm.posterior.sampler import Run, Settings
from bayeslmm.posterior.trust import judge
from bayeslmm.support.arguments import check_centered, check_flag, check_seed, check_whole

PARTIAL = {
    "partial": 1,  # netCDF has no booleans
    "trusted": 0,
    "doubts": "the run was interrupted: these are its finished draws, fewer than were asked for",
    "note": "",
    "inference_library": "bayeslmm",
}
COLLAPSED_LIMIT = 12  # variance parameters up to which the collapsed sampler is tried first


def sample(
    model: Model,
    variant: str = "marginal",
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    sampler: str = "auto",
    centered: bool | Mapping[str, bool] = False,
    target_accept: float = 0.9,
    residuals: bool = False,
    progress: bool = True,
) -> xr.DataTree:
    """Sample the posterior of one variant, as `LMM.sample` says."""
    check_choices(variant, sampler, target_accept)
    check_sizes(draws, tune, chains, random_seed, progress)
    check_flag("residuals", residuals)
    check_centered(centered, [level.name for level in model.design.levels])
    settings = Settings(
        draws=draws, tune=tune, chains=chains, seed=np.random.SeedSequence(random_seed), target_accept=target_accept,
        residuals=residuals, progress=progress,
    )  # fmt: skip
    began, ready = time.perf_counter(), seconds_compiling()
    asked = {
        "variant": variant,
        "draws": draws,
        "chains": chains,
        "tune": tune,
        "random_seed": -1 if random_seed is None else random_seed,
    }
    try:
        with enough_memory(model.design, "Sampling"):
            name, run = _run(model, variant, sampler, settings)
    except SamplingError as error:
        if error.clean is not None:
            error.clean.attrs |= asked | PARTIAL
        raise
    run.tree.attrs |= asked | {"tune": tune if name == "nuts" else 0, "sampler": name, "note": run.note, "partial": 0}
    seconds, compiling = time.perf_counter() - began, seconds_compiling() - ready + run.compiling
    return finish(run.tree, seconds, compiling, _remedy(variant, name))


def _run(model: Model, variant: str, sampler: str, settings: Settings) -> tuple[str, Run]:
    """Run the collapsed sampler where it can be tried, else NUTS: (which it was, its run)."""
    nuts, collapsed, why = Nuts(variant), Collapsed(), ""
    if variant == "marginal" and sampler != "nuts":
        size = collapsed_posterior(model.statistics, model.priors).coordinates.size
        if sampler == "auto" and size > COLLAPSED_LIMIT:
            why = f"{size} variance parameters are more than the collapsed sampler takes ({COLLAPSED_LIMIT}): NUTS ran."
        else:
            run = collapsed.run(model, settings)
            if not run.trouble or sampler == "collapsed":
                return collapsed.name, noted(run, run.trouble, run.note)
            why = f"{run.trouble} NUTS ran on the marginal model instead."
            say(why)
    run = nuts.run(model, settings)
    return nuts.name, noted(run, why, run.note)


def noted(run: Run, *notes: str) -> Run:
    """The run with these notes."""
    return replace(run, note=" ".join(filter(None, notes)))


def say(note: str) -> None:
    """Warn at the line that called the model's `sample`: this is called by what its `sample` calls."""
    warnings.warn(note, UserWarning, stacklevel=5)


def check_choices(variant: str, sampler: str, target_accept: float) -> None:
    """Refuse what is no variant, no sampler, no share, and the collapsed sampler on the joint model."""
    for name, value, known in (
        ("variant", variant, ("marginal", "joint")),
        ("sampler", sampler, ("auto", "collapsed", "nuts")),
    ):
        if value not in known:
            raise DescriptionError(
                f"{name}={value!r}; expected {' or '.join(map(repr, known))}.{did_you_mean(str(value), known)}"
            )
    if variant == "joint" and sampler == "collapsed":
        raise DescriptionError(
            "The collapsed sampler works on the marginal: write sample('marginal', sampler='collapsed')."
        )
    if not isinstance(target_accept, int | float | np.floating) or not 0 < target_accept < 1:
        raise DescriptionError(f"target_accept={target_accept!r}; expected a share between 0 and 1, such as 0.95.")


def check_sizes(draws: int, tune: int, chains: int, random_seed: int | None, progress: bool) -> None:
    """Refuse what is no number of draws or chains, no seed, no flag."""
    for name, count, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1)):
        check_whole(name, count, least, example=4 if name == "chains" else 1000)
    check_seed(random_seed)
    check_flag("progress", progress)


def finish(tree: xr.DataTree, seconds: float, compiling: float, remedy: str) -> xr.DataTree:
    """Write down how long it took and what the draws are worth; warn, with a remedy, where they can't be trusted."""
    judged = judge(tree)
    tree.attrs |= {
        "seconds": seconds,
        "seconds_compiling": compiling,
        "seconds_sampling": seconds - compiling,
        "trusted": int(judged.trusted),  # netCDF has no booleans
        "doubts": judged.text,
        "inference_library": "bayeslmm",
    }
    if judged.doubts:
        say(f"This posterior cannot be trusted yet: {'; '.join(judged.doubts)}. {remedy}")
    return tree


def _remedy(variant: str, sampler: str) -> str:
    """What to do about draws that can't be trusted."""
    if variant == "joint":
        return "Sample the marginal model, which has no funnel, or take more draws (draws=4000)."
    if sampler == "collapsed":
        return "Write sampler='nuts', or take more draws (draws=4000)."
    return "Take more draws (draws=4000, tune=2000), and look at the chains: they may be in different modes."
