"""Posteriors where the outcome isn't Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr


class LinkSampling(LinkModel):
    """Draws from the posterior, exact by either way."""

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
        approximation: str = "",
        progress: bool = True,
    ) -> xr.DataTree:
        """Sample the posterior: the effects integrated out and drawn given the rest, or all of it by NUTS.

        In the marginal variant the parameters are proposed together, independently of the last draw, and accepted by
        their exact likelihood: by adaptive quadrature where groups with one effect each are nested, else estimated
        without bias by importance sampling (of the effects of each group, and of levels that are crossed). The effects
        are then drawn from their exact conditional distribution.

        Parameters
        ----------
        variant : {"marginal", "joint"}
        draws, tune, chains : int
            Kept and tuning draws per chain (the collapsed sampler adapts by itself: `tune` is for NUTS).
        random_seed : int, optional
            The same seed gives the same draws, whatever the number of cores.
        sampler : {"auto", "collapsed", "nuts"}
            "auto" takes the collapsed sampler for the marginal variant, and NUTS on the joint model where that doesn't
            serve (more than 24 parameters, more than 5 effects a group, more than 3 nested levels), or where its
            proposal fails (a Pareto k of 0.7 or more, or few acceptances). ``attrs["sampler"]`` says which one ran,
            ``attrs["note"]`` why, ``attrs["integration"]`` how the effects were integrated.
        centered : bool or mapping of level name to bool
            Of the joint model, where NUTS runs.
        target_accept : float
            What NUTS adapts its step size to.
        approximation : {"", "auto", "laplace", "quadrature"}
            If given, NUTS runs on `marginal` with this approximation, to see what it does to the posterior; there are
            no effects then.
        progress : bool
            Show progress when the work takes more than a second.

        Returns
        -------
        xarray.DataTree
            Groups ``posterior`` (beta, sigma_u2, corr_u2, u2, ..., the family's parameters), ``sample_stats``,
            ``observed_data``, ``constant_data``, and those that are computed when they are first read, as of
            `LMM.sample`: ``log_likelihood``, ``log_prior``, ``posterior_predictive``, ``prior``,
            ``prior_predictive``. Its attribute ``doubts`` says what speaks against the draws.

        Warns
        -----
        UserWarning
            If the draws can't be trusted, or NUTS ran in place of the collapsed sampler.

        Raises
        ------
        SamplingError
            If the run was interrupted or has draws that are not finite; its ``clean`` is the part that can be trusted.
        DescriptionError
            If an argument is none of the above.

        Notes
        -----
        Sources: Geweke (1989) and Tierney (1994) for the sampler; Andrieu & Roberts (2009) for estimated likelihoods;
        Gilks & Wild (1992) for the effects.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> tree = glmm.sample(draws=300, random_seed=1, progress=False)
        >>> dict(tree["posterior"]["u2"].sizes), tree.attrs["integration"]
        ({'chain': 4, 'draw': 300, 'g': 4}, 'adaptive quadrature, nodes every 1 SD')
        """
        from bayeslmm.criticism.link_groups import complete_link
        from bayeslmm.posterior.link_sampling import sample_link

        tree = sample_link(
            self, variant, draws=draws, tune=tune, chains=chains, random_seed=random_seed, sampler=sampler,
            centered=centered, target_accept=target_accept, approximation=approximation, progress=progress,
        )  # fmt: skip
        return tree if approximation else complete_link(self, tree)
