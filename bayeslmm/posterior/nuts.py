"""NUTS by nutpie on one of the two PyMC models."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

from bayeslmm.design.parameters import dims
from bayeslmm.errors import SamplingError
from bayeslmm.factorisation.kernels.compiling import seconds_compiling
from bayeslmm.model import Model
from bayeslmm.posterior.collapsed import collapsed_posterior
from bayeslmm.posterior.effects import Given, draw_effects, kernel_factors, residual_parameters
from bayeslmm.posterior.independence import finished
from bayeslmm.posterior.mode_check import beginning, modes_of, unvisited
from bayeslmm.posterior.sampler import Run, Settings
from bayeslmm.posterior.tree import posterior_tree
from bayeslmm.posterior.trust import DIVERGENT, FEWEST, divergent
from bayeslmm.support.memory_limit import NUTS_TAKES, ran_out, require_address_space
from bayeslmm.support.progress import Progress

_INSTEAD = ", or sample the marginal model by sampler='collapsed', which needs less"
CAREFUL = 0.99  # target_accept of a second run, where the first has diverged


class Nuts:
    """The No-U-Turn sampler, its data frozen so that they can be folded; it begins at the highest mode known.

    Source: Hoffman & Gelman (2014).
    """

    name = "nuts"

    def __init__(self, variant: str):
        self.variant = variant

    def run(self, model: Model, settings: Settings) -> Run:
        """Compile and draw, again at a higher target where draws diverge; SamplingError keeps the clean part."""
        require_address_space(NUTS_TAKES, "NUTS needs", _INSTEAD)
        began, ready = time.perf_counter(), seconds_compiling()
        density = collapsed_posterior(model.statistics, model.priors)
        modes = modes_of(density)
        nuts_seed, effect_seed = settings.seed.spawn(2)
        compiled = self._compile(model, lambda free: beginning(density, modes[0], free) if modes else None)
        compiling = time.perf_counter() - began - (seconds_compiling() - ready)
        trace, note = draw_twice(compiled, settings, int(nuts_seed.generate_state(1)[0]))
        raw = _arrays(trace)
        if len(model.priors.beta) == 0:
            raw["beta"] = np.zeros((*raw["sigma"].shape, 0))
        whole, clean = clean_draws(raw, settings.draws)
        kept = {name: x[whole, :clean] for name, x in raw.items()}
        stats = {
            str(name): trace["sample_stats"][name].to_numpy()[whole, :clean]
            for name in trace["sample_stats"].data_vars
            if trace["sample_stats"][name].dims == ("chain", "draw")
        }
        tree = None
        if clean:
            if self.variant == "marginal":
                kept |= _effects_given(model, kept, effect_seed)
                whole, clean = whole[: kept["beta"].shape[0]], kept["beta"].shape[1]
                stats = {name: x[: len(whole), :clean] for name, x in stats.items()}
            wanted = dims(model.design)
            own = {name: kept[name] for name in wanted if name in kept}
            tree = posterior_tree(model.design, own, stats, settings.residuals)
            tree.attrs["sampler"] = self.name
            if missed := unvisited(density, modes, kept):
                tree.attrs["unvisited"] = missed
        if tree is None or clean < settings.draws or len(whole) < settings.chains:
            of = "" if len(whole) == settings.chains else f" in {len(whole)} of {settings.chains} chains"
            raise SamplingError(
                f"NUTS came back with {clean} of {settings.draws} finite draws per chain{of}: it was interrupted or "
                "left the support. The clean part is in this error's attribute `clean`; it is not a sample of the size "
                "asked for.",
                clean=tree,
            )
        return Run(tree=tree, compiling=compiling, note=note)

    def _compile(self, model: Model, begin: Any) -> Any:
        import nutpie
        from pymc.model.transform.optimization import freeze_dims_and_data

        from bayeslmm.pymc_models.joint import build_joint
        from bayeslmm.pymc_models.marginal import build_marginal

        if self.variant == "marginal":
            built = build_marginal(model.statistics, model.priors)
        else:
            built = build_joint(model.design, model.priors, scaled=True)
        points = begin({variable.name for variable in built.free_RVs})
        with warnings.catch_warnings():
            # PyMC finds its initial point in a mode that looks for a BLAS library and complains; numba needs none
            warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS installation")
            try:
                return nutpie.compile_pymc_model(freeze_dims_and_data(built), initial_points=points)
            except OSError as error:
                from pytensor import config

                if ran_out(error):
                    raise
                raise SamplingError(
                    f"PyTensor cannot write what it compiles in {config.compiledir}: {error.strerror or error}. Make "
                    "room there, or set PYTENSOR_FLAGS=base_compiledir=FOLDER to another folder."
                ) from error


def draw_twice(compiled: Any, settings: Settings, seed: int) -> tuple[Any, str]:
    """Draw, and once more carefully where more than a few draws diverged; (the better run, a note of it)."""
    import nutpie

    def run(target: float) -> Any:
        return nutpie.sample(
            compiled, draws=settings.draws, tune=settings.tune, chains=settings.chains, seed=seed,
            progress_bar=settings.progress, save_warmup=False, target_accept=target,
        )  # fmt: skip

    trace = run(settings.target_accept)
    bad = divergent(trace)
    if bad is None or settings.target_accept >= CAREFUL or settings.chains * settings.draws < FEWEST:
        return trace, ""
    if bad.sum() <= DIVERGENT * bad.size:
        return trace, ""
    again = run(CAREFUL)
    left = divergent(again)
    whole, clean = clean_draws(_arrays(again), settings.draws)
    note = (
        f"{bad.sum()} of {bad.size} draws diverged at target_accept={settings.target_accept}; NUTS ran again at "
        f"{CAREFUL}"
    )
    if clean < settings.draws or len(whole) < settings.chains:
        return trace, f"{note} and was interrupted: the first run was kept."
    if left is not None and left.sum() < bad.sum():
        return again, f"{note}: {left.sum()} did."
    return trace, f"{note} without fewer: the first run was kept."


def _arrays(trace: Any) -> dict[str, np.ndarray]:
    return {str(name): x.to_numpy() for name, x in trace["posterior"].data_vars.items()}


def clean_draws(raw: dict[str, np.ndarray], draws: int) -> tuple[np.ndarray, int]:
    """Which chains to keep, and how many leading draws, finite in every variable: as many draws in all as there are.

    Chains wait for a free core: of an interrupted run some may be whole and others not begun.
    """
    chains = next(iter(raw.values())).shape[0]
    finite = np.ones((chains, draws + 1), dtype=bool)
    finite[:, -1] = False
    for values in raw.values():
        have = np.isfinite(values.reshape(*values.shape[:2], -1)).all(axis=2)[:, :draws]
        finite[:, : have.shape[1]] &= have
        finite[:, have.shape[1] :] = False
    leading = finite.argmin(axis=1)
    order = np.argsort(-leading, kind="stable")
    most = int(np.argmax(leading[order] * np.arange(1, chains + 1)))
    last = chains if leading.min() == leading[order[most]] else most + 1
    return np.sort(order[:last]), int(leading[order[most]])


def _effects_given(model: Model, kept: dict[str, np.ndarray], seed) -> dict[str, np.ndarray]:
    """The draws of the parameters of the marginal model, with u2, u3, ...: fewer where Ctrl-C comes."""
    posterior = collapsed_posterior(model.statistics, model.priors)
    chains, draws = kept["sigma"].shape
    flat = {name: x.reshape(chains * draws, *x.shape[2:]) for name, x in kept.items()}
    given = Given(
        lams=kernel_factors(model.statistics, flat), beta=flat["beta"], sigma=flat["sigma"],
        psi=residual_parameters(model.design, flat),
    )  # fmt: skip
    drawn = draw_effects(posterior, given, seed, chains, Progress(False))
    chains, draws = finished(min(map(len, drawn.values()), default=chains * draws), chains, draws)
    return {name: x[: chains * draws].reshape(chains, draws, *x.shape[1:]) for name, x in (flat | drawn).items()}
