"""NUTS by nutpie on the joint or the marginal model of an outcome that isn't Gaussian."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayeslmm.design.parameters import coords, dims, level_names
from bayeslmm.errors import DescriptionError, SamplingError
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.integration.choice import choose
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.nuts import clean_draws, draw_twice
from bayeslmm.posterior.sampler import Settings
from bayeslmm.posterior.trust import judge
from bayeslmm.support.arguments import check_centered, check_flag, check_seed, check_whole

CUT = "cut"  # dimension of the thresholds


def sample_link(
    model: LinkModel,
    variant: str = "joint",
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    centered: bool | Mapping[str, bool] = False,
    target_accept: float = 0.9,
    approximation: str = "auto",
    progress: bool = True,
) -> xr.DataTree:
    """Sample the posterior, as `GLMM.sample` says."""
    if variant not in ("joint", "marginal"):
        raise DescriptionError(f"variant={variant!r}; expected 'joint' or 'marginal'.")
    if variant == "joint" and approximation != "auto":
        raise DescriptionError(
            f"approximation={approximation!r} is the marginal's; the joint model is exact. Write sample('marginal')."
        )
    choose(model.problem, approximation, None)
    if not isinstance(target_accept, int | float | np.floating) or not 0 < target_accept < 1:
        raise DescriptionError(f"target_accept={target_accept!r}; expected a share between 0 and 1, such as 0.95.")
    for name, count, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1)):
        check_whole(name, count, least, example=4 if name == "chains" else 1000)
    check_seed(random_seed)
    check_flag("progress", progress)
    check_centered(centered, [level.name for level in model.design.levels])
    seed = np.random.SeedSequence(random_seed)
    settings = Settings(
        draws=draws, tune=tune, chains=chains, seed=seed, target_accept=target_accept, residuals=False,
        progress=progress,
    )  # fmt: skip
    began = time.perf_counter()
    with enough_memory(model.design, "Sampling"):
        compiled, said = _compile(model, variant, centered, approximation)
        compiling = time.perf_counter() - began
        trace, note = draw_twice(compiled, settings, int(seed.generate_state(1)[0]))
    tree = _tree(model, trace, settings)
    seconds = time.perf_counter() - began
    tree.attrs |= {
        "variant": variant, "approximation": said, "draws": draws, "chains": chains, "tune": tune, "sampler": "nuts",
        "note": note, "random_seed": -1 if random_seed is None else random_seed, "family": str(model.family),
        "seconds": seconds, "seconds_compiling": compiling, "seconds_sampling": seconds - compiling,
        "inference_library": "bayeslmm",
    }  # fmt: skip
    judged = judge(tree)
    tree.attrs |= {"trusted": int(judged.trusted), "doubts": judged.text}  # netCDF has no booleans
    if judged.doubts:
        other = "sample('joint')" if variant == "marginal" else f"centered={centered is False}"
        warnings.warn(
            f"This posterior cannot be trusted yet: {'; '.join(judged.doubts)}. Take more draws (draws=4000), or write "
            f"{other}.",
            UserWarning,
            stacklevel=3,
        )
    return tree


def _compile(
    model: LinkModel, variant: str, centered: bool | Mapping[str, bool], approximation: str
) -> tuple[Any, str]:
    """(the compiled model, how its effects are integrated out)."""
    import nutpie
    from pymc.model.transform.optimization import freeze_dims_and_data

    from bayeslmm.pymc_models.link_joint import build_link_joint
    from bayeslmm.pymc_models.link_marginal import build_link_marginal

    if variant == "joint":
        built, said = build_link_joint(model.design, model.family, model.priors, centered), "none"
    else:
        rule = model.rule(approximation)
        built, said = build_link_marginal(model.problem, model.priors, rule), str(rule)
    with warnings.catch_warnings():
        # PyMC finds its initial point in a mode that looks for a BLAS library and complains; numba needs none
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS installation")
        return nutpie.compile_pymc_model(freeze_dims_and_data(built)), said


def link_dims(model: LinkModel) -> dict[str, tuple[str, ...]]:
    """Dimensions of the variables of a posterior, the family's own parameters included."""
    known = {name: value for name, value in dims(model.design).items() if name not in ("sigma", "e")}
    if not model.family.has_intercept:
        return {**known, "threshold": (CUT,)}
    return {**known, **{label: () for label in model.family.dispersion_labels(model.outcome)}}


def _tree(model: LinkModel, trace: Any, settings: Settings) -> xr.DataTree:
    posterior = trace["posterior"]
    known, design = link_dims(model), model.design
    raw = {name: posterior[name].to_numpy() for name in known if name in posterior.data_vars}
    if design.p == 0:
        raw["beta"] = np.zeros((settings.chains, settings.draws, 0))
    whole, clean = clean_draws(raw, settings.draws)
    values = {name: x[whole, :clean] for name, x in raw.items()}
    for level in design.levels:
        if level.correlated:  # rounding in the diagonal would have an R-hat of its own
            at, name = np.arange(level.r), level_names(level).corr
            values[name] = np.array(values[name])
            values[name][..., at, at] = 1.0
    labels: dict[str, list] = dict(coords(design))
    if not model.family.has_intercept:
        names = model.family.dispersion_labels(model.outcome)
        labels[CUT] = [name.removeprefix("threshold[").removesuffix("]") for name in names]
    base: dict[str, Any] = {"chain": np.arange(len(whole)), "draw": np.arange(clean)}
    used = {dim for name in values for dim in known[name]}
    stats = {
        str(name): (("chain", "draw"), trace["sample_stats"][name].to_numpy()[whole, :clean])
        for name in trace["sample_stats"].data_vars
        if trace["sample_stats"][name].dims == ("chain", "draw")
    }
    tree = xr.DataTree.from_dict(
        {
            "/posterior": xr.Dataset(
                {name: (("chain", "draw", *known[name]), x) for name, x in values.items()},
                coords=base | {dim: labels[dim] for dim in used},
            ),
            "/sample_stats": xr.Dataset(stats, coords=base),
            "/observed_data": xr.Dataset({"y": ("row", model.outcome.y)}, coords={"row": labels["row"]}),
        }
    )
    if clean < settings.draws or len(whole) < settings.chains:
        raise SamplingError(
            f"NUTS came back with {clean} of {settings.draws} finite draws per chain in {len(whole)} of "
            f"{settings.chains} chains: it was interrupted or left the support. The clean part is in this error's "
            "attribute `clean`; it is not a sample of the size asked for.",
            clean=tree if clean else None,
        )
    return tree
