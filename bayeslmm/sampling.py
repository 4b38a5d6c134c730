"""Sampling -> DataTree: the same names and dims whichever variant and sampler."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayeslmm.arguments import check_centered, check_flag, check_seed, check_whole
from bayeslmm.collapsed import CollapsedPosterior, collapsed_posterior
from bayeslmm.compiling import seconds_compiling
from bayeslmm.design import Design
from bayeslmm.errors import DescriptionError, SamplingError, did_you_mean
from bayeslmm.factor import draw_many
from bayeslmm.independence import run_chains
from bayeslmm.mode_check import beginning, modes_of, unvisited
from bayeslmm.parameters import coords, dims, level_names
from bayeslmm.progress import Progress
from bayeslmm.threads import one_blas_thread
from bayeslmm.trust import DIVERGENT, FEWEST, PARETO_LIMIT, divergent, judge

if TYPE_CHECKING:
    from bayeslmm.lmm import LMM

COLLAPSED_LIMIT = 12  # variance parameters up to which the collapsed sampler is tried first
MIN_ACCEPTANCE = 0.1
CAREFUL = 0.99  # target_accept of a second run, where the first has diverged


def sample(
    lmm: LMM,
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
    """Sample the posterior of one variant.

    Parameters
    ----------
    lmm : LMM
    variant : {"marginal", "joint"}
        In the marginal variant u2, u3, ... are drawn exactly from p(u | y, parameters).
    draws, tune, chains : int
        Kept and tuning draws per chain (the collapsed sampler adapts by itself: `tune` is for NUTS).
    random_seed : int, optional
        The same seed gives the same draws, whatever the number of cores.
    sampler : {"auto", "collapsed", "nuts"}
        "auto" takes the collapsed sampler for the marginal variant with up to 12 variance parameters, and NUTS where
        its diagnostics fail or the variant is joint; ``attrs["sampler"]`` says which one ran, ``attrs["note"]`` why.
    centered : bool or mapping of level to bool
        Parameterisation of the joint variant, as `LMM.joint` writes it down. NUTS moves in coordinates between the
        two forms (see `scaling`), the same for both.
    target_accept : float
        Acceptance rate that NUTS adapts its step size to. Where more than one draw in a thousand diverges, NUTS runs
        again by itself at 0.99.
    residuals : bool
        Whether to keep e = y - X beta - Z u (dims chain, draw, row).
    progress : bool
        Show progress when the work takes more than a second.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, observed_data. Its attrs say what it is worth: ``trusted`` (1 or 0), ``doubts``
        (why not), ``note`` (what was done instead of what was asked for), ``seconds`` in all and thereof
        ``seconds_compiling`` and ``seconds_sampling``.

    Warns
    -----
    UserWarning
        If the draws can't be trusted, see `trust.judge`. Draws too few to judge are only said to be so in attrs.

    Raises
    ------
    SamplingError
        If the run was interrupted or has draws that are not finite; its `clean` is the part that can be trusted.
    """
    _check(variant, sampler, target_accept)
    for name, count, least in (("draws", draws, 1), ("tune", tune, 0), ("chains", chains, 1)):
        check_whole(name, count, least, example=4 if name == "chains" else 1000)
    check_seed(random_seed)
    check_flag("residuals", residuals)
    check_flag("progress", progress)
    check_centered(centered, [level.name for level in lmm.design.levels])
    began, ready = time.perf_counter(), seconds_compiling()
    seed = np.random.SeedSequence(random_seed)
    settings = {"variant": variant, "draws": draws, "chains": chains}
    settings |= {"random_seed": -1 if random_seed is None else random_seed}
    note = ""
    if variant == "marginal" and sampler != "nuts":
        size = collapsed_posterior(lmm.statistics, lmm.priors).coordinates.size
        if sampler == "auto" and size > COLLAPSED_LIMIT:
            note = (
                f"{size} variance parameters are more than the collapsed sampler takes ({COLLAPSED_LIMIT}): NUTS ran."
            )
        else:
            tree, trouble = _collapsed(
                lmm, draws=draws, chains=chains, seed=seed, residuals=residuals, progress=progress
            )
            if not trouble or sampler == "collapsed":
                modes = tree.attrs.pop("modes_note", "")
                finish = {"sampler": "collapsed", "note": " ".join(filter(None, [trouble, modes])), "tune": 0}
                return _finish(tree, began, seconds_compiling() - ready, settings | finish)
            note = f"{trouble} NUTS ran on the marginal model instead."
            _say(note)
    tree, compiling, again = _nuts(
        lmm, variant, draws=draws, tune=tune, chains=chains, seed=seed, target_accept=target_accept,
        residuals=residuals, progress=progress,
    )  # fmt: skip
    finish = {"sampler": "nuts", "note": " ".join(filter(None, [note, again])), "tune": tune}
    return _finish(tree, began, seconds_compiling() - ready + compiling, settings | finish)


def _say(note: str) -> None:
    warnings.warn(note, UserWarning, stacklevel=4)


def _check(variant: str, sampler: str, target_accept: float) -> None:
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


def _finish(tree: xr.DataTree, began: float, compiling: float, settings: dict[str, Any]) -> xr.DataTree:
    """Write down how the draws were made and what they are worth; warn where they can't be trusted."""
    seconds = time.perf_counter() - began
    judged = judge(tree)
    tree.attrs |= settings
    tree.attrs |= {
        "seconds": seconds,
        "seconds_compiling": compiling,
        "seconds_sampling": seconds - compiling,
        "trusted": int(judged.trusted),  # netCDF has no booleans
        "doubts": judged.text,
        "inference_library": "bayeslmm",
    }
    if judged.doubts:
        _say(f"This posterior cannot be trusted yet: {'; '.join(judged.doubts)}. {_remedy(tree)}")
    return tree


def _remedy(tree: xr.DataTree) -> str:
    """What to do about draws that can't be trusted."""
    if tree.attrs["variant"] == "joint":
        return "Sample the marginal model, which has no funnel, or take more draws (draws=4000)."
    if tree.attrs["sampler"] == "collapsed":
        return "Write sampler='nuts', or take more draws (draws=4000)."
    return "Take more draws (draws=4000, tune=2000), and look at the chains: they may be in different modes."


# the collapsed sampler ---------------------------------------------------------------------------------------------


def _collapsed(lmm: LMM, *, draws, chains, seed, residuals, progress) -> tuple[xr.DataTree, str]:
    """Run the collapsed sampler; the second value says what is wrong with the run, if anything is."""
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    chain_seed, effect_seed = seed.spawn(2)
    with Progress(progress) as bar, one_blas_thread():
        states = run_chains(posterior, draws=draws, chains=chains, seed=chain_seed, progress=bar)
        trouble = ""
        acceptance = float(states.accepted.mean())
        if states.pareto_k >= PARETO_LIMIT or acceptance < MIN_ACCEPTANCE:
            trouble = (
                f"The collapsed sampler's proposal does not fit this posterior (Pareto k {states.pareto_k:.2f}, "
                f"acceptance {100 * acceptance:.0f} %)."
            )
        sigma, sds, corrs = posterior.coordinates.natural(states.phi)
        values: dict[str, np.ndarray] = {"beta": states.beta, "sigma": sigma}
        for level, sd, corr in zip(lmm.design.levels, sds, corrs, strict=True):
            names = level_names(level)
            if not level.known:
                values[names.sigma] = sd[:, 0] if level.r == 1 else sd
            if level.correlated:
                values[names.corr] = corr
        psi = posterior.coordinates.psi(states.phi)
        values |= _residual_values(lmm.design, psi)
        values |= _random_effects(posterior, states.lams, states.beta, sigma, psi, effect_seed, chains, bar, states.b)
    _require_finite(values)
    stats = {
        "accepted": states.accepted,
        "lp": states.lp.reshape(chains, draws),
        "diverging": np.zeros((chains, draws), dtype=bool),
    }
    tree = _tree(
        lmm.design,
        {name: x.reshape(chains, draws, *x.shape[1:]) for name, x in values.items()},
        stats,
        residuals,
    )
    tree.attrs |= {"pareto_k": states.pareto_k, "acceptance_rate": acceptance, "modes": len(states.modes)}
    if len(states.modes) > 1:
        shares = ", ".join(f"{100 * share:.0f} %" for share in states.modes)
        tree.attrs["modes_note"] = (
            f"The posterior of the variance parameters has {len(states.modes)} modes, with about {shares} of its mass: "
            "a mean may lie where hardly any of it is. Look at its densities."
        )
    return tree, trouble


def _require_finite(values: dict[str, np.ndarray]) -> None:
    """Refuse draws that are no numbers: where sigma goes to zero beside the effects, their covariance is lost."""
    lost = [name for name, x in values.items() if not np.isfinite(x).all()]
    if lost:
        raise SamplingError(
            f"The draws of {', '.join(lost)} are not finite: sigma is as small as {values['sigma'].min():.2g}, too "
            "small beside the random effects to compute them. The model probably fits every row exactly: take effects "
            "out, or give sigma a prior that keeps it away from zero."
        )


def _residual_values(design: Design, psi: np.ndarray) -> dict[str, np.ndarray]:
    """Rho (N,) and sigma_ratio (N, strata - 1) of R's parameters psi (N, k)."""
    at = 1 if design.residual.has_rho else 0
    out = {"rho": psi[:, 0]} if at else {}
    return out | ({"sigma_ratio": psi[:, at:]} if design.residual.strata else {})


def _random_effects(
    posterior: CollapsedPosterior, lams, beta, sigma, psi, seed, chains: int, bar: Progress, b: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """u2, u3, ... from p(u | y, parameters), each (chains * draws, m[, r]); every chain has its own stream."""
    stats = posterior.stats
    levels = stats.design.levels
    if not levels:
        return {}
    total = len(beta)
    residual = stats.design.residual
    coefs = None if residual.fixed else residual.coefficients_at(psi)
    if b is not None:
        missing = np.flatnonzero(np.isnan(b).any(axis=1))
        z = np.random.default_rng(seed).standard_normal((missing.size, stats.structure.q))
        part = None if coefs is None else coefs[missing]
        b[missing] = draw_many(stats, lams[missing], posterior.v(beta[missing]), sigma[missing], z, part)
        drawn = dict(zip((level.name for level in levels), stats.effects(b), strict=True))
        return {level.name: drawn[level.name][..., 0] if level.r == 1 else drawn[level.name] for level in levels}
    out = {level.name: np.empty((total, level.m, level.r)) for level in levels}
    bar.stage("drawing the random effects", total)
    piece = max(1, min(total // chains, 20_000_000 // max(stats.structure.q, 1)))
    for chain, stream in enumerate(seed.spawn(chains)):
        rng = np.random.default_rng(stream)
        begin, end = chain * (total // chains), (chain + 1) * (total // chains)
        for lo in range(begin, end, piece):
            rows = slice(lo, min(lo + piece, end))
            z = rng.standard_normal((rows.stop - rows.start, stats.structure.q))
            part = None if coefs is None else coefs[rows]
            b = draw_many(stats, lams[rows], posterior.v(beta[rows]), sigma[rows], z, part)
            for level, u in zip(levels, stats.effects(b), strict=True):
                out[level.name][rows] = u
            bar.advance(rows.stop - rows.start)
    return {level.name: out[level.name][..., 0] if level.r == 1 else out[level.name] for level in levels}


# NUTS --------------------------------------------------------------------------------------------------------------


def _nuts(
    lmm: LMM, variant, *, draws, tune, chains, seed, target_accept, residuals, progress
) -> tuple[xr.DataTree, float, str]:
    """Run NUTS by nutpie on one of the two PyMC models, its data frozen so that they can be folded.

    Returns
    -------
    (tree, seconds that compiling took, a note where NUTS ran twice)
    """
    import nutpie
    from pymc.model.transform.optimization import freeze_dims_and_data

    from bayeslmm.joint import build_joint

    began, ready = time.perf_counter(), seconds_compiling()
    model = lmm.marginal() if variant == "marginal" else build_joint(lmm.design, lmm.priors, scaled=True)
    nuts_seed, effect_seed = seed.spawn(2)
    posterior_density = collapsed_posterior(lmm.statistics, lmm.priors)
    modes = modes_of(posterior_density)
    free = {variable.name for variable in model.free_RVs}
    begin = beginning(posterior_density, modes[0], free) if modes else None
    with warnings.catch_warnings():
        # PyMC finds its initial point in a mode that looks for a BLAS library and complains; numba needs none
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS installation")
        compiled = nutpie.compile_pymc_model(freeze_dims_and_data(model), initial_points=begin)
    compiling = time.perf_counter() - began - (seconds_compiling() - ready)
    state, note = int(nuts_seed.generate_state(1)[0]), ""

    def run(target: float) -> Any:
        return nutpie.sample(
            compiled, draws=draws, tune=tune, chains=chains, seed=state,
            progress_bar=progress, save_warmup=False, target_accept=target,
        )  # fmt: skip

    trace = run(target_accept)
    bad = divergent(trace)
    if bad is not None and target_accept < CAREFUL and chains * draws >= FEWEST and bad.sum() > DIVERGENT * bad.size:
        again = run(CAREFUL)
        left = divergent(again)
        note = f"{bad.sum()} of {bad.size} draws diverged at target_accept={target_accept}; NUTS ran again at {CAREFUL}"
        if left is not None and left.sum() < bad.sum():
            trace, note = again, f"{note}: {left.sum()} did."
        else:
            note = f"{note} without fewer: the first run was kept."
    posterior = trace["posterior"]
    raw = {str(name): posterior[name].to_numpy() for name in posterior.data_vars}
    if len(lmm.priors.beta) == 0:
        raw["beta"] = np.zeros((*raw["sigma"].shape, 0))
    whole, clean = _clean_draws(raw, draws)
    kept = {name: x[whole, :clean] for name, x in raw.items()}
    stats = {
        str(name): trace["sample_stats"][name].to_numpy()[whole, :clean]
        for name in trace["sample_stats"].data_vars
        if trace["sample_stats"][name].dims == ("chain", "draw")
    }
    tree = None
    if clean:
        if variant == "marginal":
            kept |= _effects_given(lmm, kept, effect_seed)
        wanted = dims(lmm.design)
        tree = _tree(lmm.design, {name: kept[name] for name in wanted if name in kept}, stats, residuals)
        if missed := unvisited(posterior_density, modes, kept):
            tree.attrs["unvisited"] = missed
    if tree is None or clean < draws or len(whole) < chains:
        of = "" if len(whole) == chains else f" in {len(whole)} of {chains} chains"
        raise SamplingError(
            f"NUTS came back with {clean} of {draws} finite draws per chain{of}: it was interrupted or left the "
            "support. The clean part is in this error's attribute `clean`; it is not a sample of the size asked for.",
            clean=tree,
        )
    return tree, compiling, note


def _clean_draws(raw: dict[str, np.ndarray], draws: int) -> tuple[np.ndarray, int]:
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


def _effects_given(lmm: LMM, kept: dict[str, np.ndarray], seed) -> dict[str, np.ndarray]:
    """u2, u3, ... for the draws of the parameters of the marginal model."""
    posterior = collapsed_posterior(lmm.statistics, lmm.priors)
    chains, draws = kept["sigma"].shape
    flat = {name: x.reshape(chains * draws, *x.shape[2:]) for name, x in kept.items()}
    sigma = flat["sigma"]
    parts = [np.zeros((chains * draws, 0))]
    for level, M, W in zip(lmm.design.levels, lmm.statistics.maps, lmm.priors.effect_maps, strict=True):
        names, where = level_names(level), "" if W is None else "_at_mean"
        sd = (sigma if level.known else flat[f"{names.sigma}{where}"]).reshape(chains * draws, level.r)
        L = flat[f"{names.corr}{where}_factor"] if level.correlated else np.eye(level.r)
        to_kernel = M if W is None else M @ W
        parts.append((to_kernel @ (sd[:, :, None] * L / sigma[:, None, None])).reshape(chains * draws, -1))
    columns = [flat[name].reshape(chains * draws, -1) for name in ("rho", "sigma_ratio") if name in flat]
    psi = np.concatenate([np.zeros((chains * draws, 0)), *columns], axis=1)
    effects = _random_effects(
        posterior, np.concatenate(parts, axis=1), flat["beta"], sigma, psi, seed, chains, Progress(False)
    )
    return {name: x.reshape(chains, draws, *x.shape[1:]) for name, x in effects.items()}


# the tree ----------------------------------------------------------------------------------------------------------


def _tree(design: Design, values: dict[str, np.ndarray], stats: dict[str, np.ndarray], residuals: bool) -> xr.DataTree:
    if residuals:
        values = {**values, "e": _residuals(design, values)}
    for level in design.levels:
        if level.correlated:  # rounding in the diagonal would have an R-hat of its own
            at, name = np.arange(level.r), level_names(level).corr
            values = {**values, name: np.array(values[name])}
            values[name][..., at, at] = 1.0
    known = dims(design)
    labels = coords(design)
    chains, draws = values["sigma"].shape
    base: dict[str, Any] = {"chain": np.arange(chains), "draw": np.arange(draws)}
    used = {dim for name in values for dim in known[name]}
    posterior = xr.Dataset(
        {name: (("chain", "draw", *known[name]), values[name]) for name in known if name in values},
        coords=base | {dim: labels[dim] for dim in used},
    )
    return xr.DataTree.from_dict(
        {
            "/posterior": posterior,
            "/sample_stats": xr.Dataset({k: (("chain", "draw"), v) for k, v in stats.items()}, coords=base),
            "/observed_data": xr.Dataset({"y": ("row", design.y)}, coords={"row": labels["row"]}),
        }
    )


def _residuals(design: Design, values: dict[str, np.ndarray]) -> np.ndarray:
    """E = y - offset - X beta - sum Z_k u_k, (chain, draw, row)."""
    e = design.net_y - values["beta"] @ design.X.T
    for level in design.levels:
        u = values[level.name][:, :, level.index]
        e -= u * level.columns[:, 0] if level.r == 1 else (u * level.columns).sum(axis=-1)
    return e
