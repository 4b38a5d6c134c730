"""The two PyMC models, and posteriors of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bayeslmm.model import Model
from bayeslmm.support.arguments import check_centered, check_flag

if TYPE_CHECKING:
    import pymc as pm
    import xarray as xr


class Sampling(Model):
    """The joint and the marginal model, and draws from their posteriors."""

    def joint(self, centered: bool | Mapping[str, bool] = False) -> pm.Model:
        """Build the joint model, with u2, u3, ... and e as nodes of the graph.

        Parameters
        ----------
        centered : bool or mapping of level name to bool
            Centred: u2 is a free variable. Non-centred (the default): standard normal z_u2 is free and u2 is
            deterministic.

        Returns
        -------
        pymc.Model
            u2, u3, ... have the dims of their groups (and effects); e is ``model["e"]``, dims "row".

        Raises
        ------
        DescriptionError
            If `centered` names no level, or is no truth.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> model = blm.example("dyestuff").joint(centered={"u2": True})
        >>> [rv.name for rv in model.free_RVs], model.named_vars_to_dims["u2"]
        (['beta', 'sigma', 'sigma_u2', 'u2'], ('Batch',))
        """
        check_centered(centered, [level.name for level in self.design.levels])  # before PyMC is imported
        from bayeslmm.pymc_models.joint import build_joint

        return build_joint(self.design, self.priors, centered)

    def marginal(self) -> pm.Model:
        """Build the marginal model, the random effects integrated out exactly.

        Returns
        -------
        pymc.Model
            Free variables beta, sigma, sigma_u2, ..., the factors of the correlations; observed y. The data are
            ``pm.Data`` "y_data", so ``pm.set_data`` changes them.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> [rv.name for rv in blm.example("dyestuff").marginal().free_RVs]
        ['beta', 'sigma', 'sigma_u2']
        """
        from bayeslmm.pymc_models.marginal import build_marginal

        return build_marginal(self.statistics, self.priors)

    def sample(
        self,
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
        log_densities: bool = False,
    ) -> xr.DataTree:
        """Sample the posterior of one variant.

        Parameters
        ----------
        variant : {"marginal", "joint"}
            In the marginal variant u2, u3, ... are drawn exactly from p(u | y, parameters).
        draws, tune, chains : int
            Kept and tuning draws per chain (the collapsed sampler adapts by itself: `tune` is for NUTS).
        random_seed : int, optional
            The same seed gives the same draws, whatever the number of cores.
        sampler : {"auto", "collapsed", "nuts"}
            "auto" takes the collapsed sampler for the marginal variant with up to 12 variance parameters, and NUTS
            where its proposal fails (a Pareto k of 0.7 or more, or few acceptances) or the variant is joint; more draws
            help where R-hat or ESS are short of their mark. ``attrs["sampler"]`` says which one ran,
            ``attrs["note"]`` why.
        centered : bool or mapping of level to bool
            Parameterisation of the joint variant, as `LMM.joint` writes it down. NUTS moves in coordinates between the
            two forms, the same for both.
        target_accept : float
            Acceptance rate that NUTS adapts its step size to. Where more than one draw in a thousand diverges, NUTS
            runs again by itself at 0.99.
        residuals : bool
            Whether to keep e = y - X beta - Z u (dims chain, draw, row).
        progress : bool
            Show progress when the work takes more than a second.
        log_densities : bool
            Whether the log prior and the log likelihood of all rows together are computed now, see
            `add_log_densities`.

        Returns
        -------
        xarray.DataTree
            Groups posterior, sample_stats, observed_data and constant_data, and those that are computed when they are
            first read: log_likelihood (of each row given all else), log_prior, posterior_predictive, prior and
            prior_predictive (where the priors are proper), as ArviZ wants them. The posterior also has the free
            variables of the PyMC models, so that PyMC's functions take the tree. Its attrs say what it is worth:
            ``trusted`` (1 or 0), ``doubts`` (why not), ``note`` (what was done instead of what was asked for),
            ``seconds`` in all and thereof ``seconds_compiling`` and ``seconds_sampling``.

        Warns
        -----
        UserWarning
            If the draws can't be trusted. Draws too few to judge are only said to be so in attrs.

        Raises
        ------
        SamplingError
            If the run was interrupted or has draws that are not finite; its ``clean`` is the part that can be trusted.
        DescriptionError
            If an argument is none of the above.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> tree = blm.example("dyestuff").sample(draws=200, chains=2, random_seed=1, progress=False)
        >>> dict(tree["posterior"]["u2"].sizes)
        {'chain': 2, 'draw': 200, 'Batch': 6}
        """
        from bayeslmm.criticism.groups import complete
        from bayeslmm.posterior.sampling import sample

        check_flag("log_densities", log_densities)
        if residuals or log_densities or variant == "joint":
            self.design.require_rows()
        tree = sample(
            self, variant, draws=draws, tune=tune, chains=chains, random_seed=random_seed, sampler=sampler,
            centered=centered, target_accept=target_accept, residuals=residuals, progress=progress,
        )  # fmt: skip
        tree = complete(self, tree)
        if not log_densities:
            return tree
        from bayeslmm.criticism.sensitivity import add_log_densities

        return add_log_densities(self, tree)
