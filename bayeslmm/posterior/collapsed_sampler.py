"""The collapsed sampler: the variance parameters by independence Metropolis, beta and u exactly given them."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.parameters import level_names
from bayeslmm.errors import SamplingError
from bayeslmm.model import Model
from bayeslmm.posterior.collapsed import CollapsedPosterior, collapsed_posterior
from bayeslmm.posterior.effects import Given, complete_effects, draw_effects, residual_parameters
from bayeslmm.posterior.independence import Chains, finished, run_chains
from bayeslmm.posterior.sampler import Run, Settings
from bayeslmm.posterior.tree import posterior_tree
from bayeslmm.posterior.trust import PARETO_LIMIT
from bayeslmm.support.progress import Progress
from bayeslmm.support.threads import one_blas_thread

MIN_ACCEPTANCE = 0.1


class Collapsed:
    """Exact independent proposals for a few variance parameters; what is wrong with them is the run's `trouble`."""

    name = "collapsed"

    def run(self, model: Model, settings: Settings) -> Run:
        """Draw from the marginal variant's posterior, random effects included."""
        posterior = collapsed_posterior(model.statistics, model.priors)
        chain_seed, effect_seed = settings.seed.spawn(2)
        with Progress(settings.progress) as bar, one_blas_thread():
            states = run_chains(posterior, draws=settings.draws, chains=settings.chains, seed=chain_seed, progress=bar)
            chains, draws = states.accepted.shape
            trouble = ""
            acceptance = float(states.accepted.mean())
            if states.pareto_k >= PARETO_LIMIT or acceptance < MIN_ACCEPTANCE:
                trouble = (
                    f"The collapsed sampler's proposal does not fit this posterior (Pareto k {states.pareto_k:.2f}, "
                    f"acceptance {100 * acceptance:.0f} %)."
                )
            values = natural_values(posterior, states)
            psi = residual_parameters(model.design, values)
            given = Given(lams=states.lams, beta=states.beta, sigma=values["sigma"], psi=psi)
            if states.b is None:
                values |= draw_effects(posterior, given, effect_seed, chains, bar)
            else:
                values |= complete_effects(posterior, given, states.b, effect_seed)
        chains, draws = finished(min(map(len, values.values())), chains, draws)
        values = {name: x[: chains * draws] for name, x in values.items()}
        _require_finite(values)
        stats = {
            "accepted": states.accepted[:chains, :draws],
            "lp": states.lp[: chains * draws].reshape(chains, draws),
            "diverging": np.zeros((chains, draws), dtype=bool),
        }
        tree = posterior_tree(
            model.design,
            {name: x.reshape(chains, draws, *x.shape[1:]) for name, x in values.items()},
            stats,
            settings.residuals,
        )
        tree.attrs |= {
            "sampler": self.name,
            "pareto_k": states.pareto_k,
            "acceptance_rate": acceptance,
            "modes": len(states.modes),
        }
        if (chains, draws) != (settings.chains, settings.draws):
            raise SamplingError(
                f"The collapsed sampler was interrupted: {draws} of {settings.draws} draws are finished in {chains} of "
                f"{settings.chains} chains. They are in this error's attribute `clean`.",
                clean=tree,
            )
        note = ""
        if len(states.modes) > 1:
            shares = ", ".join(f"{100 * share:.0f} %" for share in states.modes)
            note = (
                f"The posterior of the variance parameters has {len(states.modes)} modes, with about {shares} of its "
                "mass: a mean may lie where hardly any of it is. Look at its densities."
            )
        return Run(tree=tree, trouble=trouble, note=note)


def natural_values(posterior: CollapsedPosterior, states: Chains) -> dict[str, np.ndarray]:
    """The parameters as written, (N, ...) by name, of the states of the chains."""
    design = posterior.stats.design
    sigma, sds, corrs = posterior.coordinates.natural(states.phi)
    values: dict[str, np.ndarray] = {"beta": states.beta, "sigma": sigma}
    for level, sd, corr in zip(design.levels, sds, corrs, strict=True):
        names = level_names(level)
        if level.n_sds:
            own = level.structure.gather(sd)
            values[names.sigma] = own[:, 0] if level.n_sds == 1 else own
        if level.correlated:
            values[names.corr] = corr
            if not level.structure.paired:
                values[names.rho] = level.structure.correlation_values(corr)[:, 0]
    return values | _residual_values(design, posterior.coordinates.psi(states.phi))


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
    """The structure's parameters (N,) and sigma_ratio (N, strata - 1) of R's parameters psi (N, k)."""
    own = design.residual.own
    out = {parameter.name: psi[:, k] for k, parameter in enumerate(own)}
    return out | ({"sigma_ratio": psi[:, len(own) :]} if design.residual.strata else {})
