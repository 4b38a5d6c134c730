"""The collapsed sampler where the outcome isn't Gaussian: parameters by independence Metropolis, effects given them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.errors import SamplingError
from bayeslmm.factorisation.kernels.chains import DEPTH
from bayeslmm.integration.chain_integral import ChainIntegral
from bayeslmm.integration.compiled import family_code
from bayeslmm.integration.exact_likelihood import ExactLikelihood
from bayeslmm.link_model import LinkModel
from bayeslmm.posterior.collapsed_sampler import MIN_ACCEPTANCE
from bayeslmm.posterior.independence import pareto_k
from bayeslmm.posterior.link_independence import SEARCH_DRAWS, SEARCH_STEP, LinkChains, new_keys, run_chains
from bayeslmm.posterior.link_posterior import LinkPosterior
from bayeslmm.posterior.link_tree import link_tree
from bayeslmm.posterior.sampler import Run, Settings
from bayeslmm.posterior.trust import PARETO_LIMIT
from bayeslmm.support.progress import Progress
from bayeslmm.support.text import listed
from bayeslmm.support.threads import one_blas_thread

LIMIT = 24  # parameters up to which they are proposed together
EFFECTS = 5  # of a group
LOOK = 500  # draws by which a group's importance sampling is judged


def why_not(model: LinkModel) -> str:
    """Why this model is none for the collapsed sampler; "" where it is one."""
    rows = model.problem.rows
    if family_code(model.family) is None:
        return f"the kernels don't know the family {model.family}"
    if model.problem.size > LIMIT:
        return f"{model.problem.size} parameters are more than are proposed together ({LIMIT})"
    for k in rows.plan.chain:
        level = model.design.levels[k]
        if level.r > EFFECTS:
            return f"{level.label} has {level.r} effects a group, and up to {EFFECTS} are integrated"
    if len(rows.plan.chain) > DEPTH:
        return f"{len(rows.plan.chain)} levels are nested, and up to {DEPTH} are integrated"
    return ""


def link_posterior(model: LinkModel) -> LinkPosterior:
    """The posterior with as few nodes and draws as serve a search."""
    rows, code = model.problem.rows, family_code(model.family)
    assert code is not None
    integral = ChainIntegral(
        rows=rows, family=model.family, outcome=model.outcome, code=code, nodes=4 * SEARCH_DRAWS,
        steps=(SEARCH_STEP,) * len(rows.plan.chain),
    )  # fmt: skip
    likelihood = ExactLikelihood(
        integral=integral, draws=SEARCH_DRAWS if rows.plan.tail else 0, s=np.zeros(model.design.q)
    )
    plain = LinkPosterior(model=model, likelihood=likelihood, shift=np.zeros(0))
    return replace(plain, shift=np.zeros(plain.size))


class LinkCollapsed:
    """Independent proposals of all parameters, the effects integrated out; what is wrong is the run's `trouble`."""

    name = "collapsed"

    def run(self, model: LinkModel, settings: Settings) -> Run:
        """Draw from the posterior, random effects included."""
        chain_seed, effect_seed = settings.seed.spawn(2)
        with Progress(settings.progress) as bar, one_blas_thread():
            states = run_chains(
                link_posterior(model), draws=settings.draws, chains=settings.chains, seed=chain_seed, progress=bar
            )
            chains, draws = states.accepted.shape
            values = states.posterior.natural(states.x)
            values |= _effects(states, effect_seed, bar)
            groups = _bad_groups(states, effect_seed)
        acceptance = float(states.accepted.mean())
        trouble = ""
        if states.pareto_k >= PARETO_LIMIT or acceptance < MIN_ACCEPTANCE:
            trouble = (
                f"The collapsed sampler's proposal does not fit this posterior (Pareto k {states.pareto_k:.2f}, "
                f"acceptance {100 * acceptance:.0f} %)."
            )
        if lost := [name for name, x in values.items() if not np.isfinite(x).all()]:
            raise SamplingError(
                f"The draws of {', '.join(lost)} are not finite: a parameter has gone where nothing can be computed. "
                "Give it a prior that keeps it from there."
            )
        stats = {
            "accepted": states.accepted, "lp": states.lp.reshape(chains, draws),
            "diverging": np.zeros((chains, draws), dtype=bool),
        }  # fmt: skip
        tree = link_tree(model, {name: x.reshape(chains, draws, *x.shape[1:]) for name, x in values.items()}, stats)
        tree.attrs |= {
            "sampler": self.name, "pareto_k": states.pareto_k, "acceptance_rate": acceptance,
            "integration": _how(states),
            "quadrature_left": states.left,
        }  # fmt: skip
        if (chains, draws) != (settings.chains, settings.draws):
            raise SamplingError(
                f"The collapsed sampler was interrupted: {draws} of {settings.draws} draws are finished in {chains} of "
                f"{settings.chains} chains. They are in this error's attribute `clean`.",
                clean=tree,
            )
        return Run(tree=tree, trouble=trouble, note=groups)


def _effects(states: LinkChains, seed: np.random.SeedSequence, bar: Progress) -> dict[str, np.ndarray]:
    """The effects' draws by level, as in a tree: one effect has no axis of its own."""
    posterior = states.posterior
    bar.stage("drawing the random effects")
    picks = new_keys(np.random.default_rng(seed), len(states.x))
    logs, _ = posterior.to_log(states.x)
    found = posterior.likelihood.effects(posterior.points(logs), states.keys, states.index, picks)
    return {name: u[..., 0] if u.shape[2] == 1 else u for name, u in found.items()}


def _how(states: LinkChains) -> str:
    """How the effects were integrated, in words."""
    likelihood = states.posterior.likelihood
    plan, integral = likelihood.rows.plan, likelihood.integral
    said = []
    if plan.chain:
        steps = listed([f"{step:g}" for step in integral.steps], show=str)
        exact = f"adaptive quadrature, nodes every {steps} SD"
        said.append(exact if integral.exact else f"importance sampling group by group with {integral.nodes} draws")
    if plan.tail:
        names = listed([likelihood.rows.design.levels[k].label for k in plan.tail], show=str)
        said.append(f"importance sampling of {names} with {likelihood.draws} draws")
    return "; ".join(said)


def _bad_groups(states: LinkChains, seed: np.random.SeedSequence) -> str:
    """Importance sampling whose single draws have heavy-tailed weights at the posterior's highest draw, in words."""
    posterior = states.posterior
    likelihood = posterior.likelihood
    if likelihood.exact:
        return ""
    best = posterior.points(posterior.to_log(states.x[[int(np.argmax(states.lp))]])[0])
    key = int(seed.generate_state(1)[0])
    if likelihood.rows.plan.tail:
        k = pareto_k(replace(likelihood, draws=LOOK).tail_log_weights(best, key))
        if k < PARETO_LIMIT:
            return ""
        return f"The importance sampling of the levels outside the nested chain has a Pareto k of {k:.2f}."
    shapes = likelihood.group_shapes(best, new_keys(np.random.default_rng(key), LOOK), pareto_k)
    if not (bad := {name: k for name, k in shapes.items() if k >= PARETO_LIMIT}):
        return ""
    worst = sorted(bad, key=lambda name: -bad[name])
    named = listed([f"{name} ({bad[name]:.2f})" for name in worst], most=3, show=str)
    label = likelihood.rows.design.levels[likelihood.rows.plan.chain[-1]].label
    return f"The importance sampling of {len(bad)} of {len(shapes)} groups of {label} has a Pareto k over 0.7: {named}."
