"""What priors say before the data do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.criticism.implied_priors import ImpliedPriors


class BeforeTheData(Model):
    """What priors imply, drawn before anything is fitted."""

    def prior_predictive(self, draws: int = 500, random_seed: int | None = None) -> xr.DataTree:
        """Draw parameters, random effects and data from the prior.

        Parameters
        ----------
        draws : int
        random_seed : int, optional
            The same seed gives the same draws.

        Returns
        -------
        xarray.DataTree
            Groups ``prior`` (beta, sigma, sigma_u2, ..., corr_u2, u2, ... under the posterior's names and dims, one
            chain), ``prior_predictive`` (y) and ``observed_data`` (y), as ArviZ's plots of predictive checks want them.

        Raises
        ------
        PriorError
            Where a prior is flat: nothing can be drawn from it.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> tree = lmm.prior_predictive(draws=100, random_seed=1)
        >>> dict(tree["prior_predictive"]["y"].sizes)
        {'chain': 1, 'draw': 100, 'row': 6}
        """
        from bayeslmm.criticism.prior_predictive import prior_predictive

        return prior_predictive(self, draws, random_seed)

    def implied_priors(self, draws: int = 4000, random_seed: int | None = None) -> ImpliedPriors:
        """Draw from the priors and compute what they imply for correlations within groups and for shrinkage.

        Parameters
        ----------
        draws : int
        random_seed : int, optional
            The same seed gives the same draws.

        Returns
        -------
        ImpliedPriors

        Raises
        ------
        PriorError
            Where a prior is flat: it implies nothing that could be drawn.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")},
        ...               priors={"shares": "Dirichlet(a=1)"})  # icc[u2] is uniform
        >>> lmm.implied_priors(random_seed=1).table.loc["icc[u2]", "median"].round(1).item()
        0.5
        """
        from bayeslmm.criticism.implied_priors import implied_priors

        return implied_priors(self, draws, random_seed)
