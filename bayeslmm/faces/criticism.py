"""What a posterior is worth, and what its model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr


class Criticism(Model):
    """Questions to a posterior about itself."""

    def sensitivity(self, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
        """Power-scaling sensitivity of the parameters to the prior and to the likelihood, by ArviZ.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it; the log densities are added where they are missing.
        **options
            For ``arviz.psense_summary``, such as ``prior_var_names="sigma_u2"`` for the sensitivity to one prior alone.

        Returns
        -------
        pandas.DataFrame
            Per parameter (not per random effect) the two sensitivities and a diagnosis: above 0.05 the prior, or the
            data, move the posterior; both at once hint at a conflict, the prior alone at data that say little.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> tree = lmm.sample(draws=500, chains=4, random_seed=1, progress=False)
        >>> lmm.sensitivity(tree).index.tolist()
        ['beta[Intercept]', 'sigma', 'sigma_u2']
        """
        from bayeslmm.criticism.sensitivity import sensitivity

        return sensitivity(self, tree, **options)

    def summary(self, tree: xr.DataTree, **options: Any) -> pd.DataFrame:
        """Summarise the parameters by ArviZ: correlations once, without the ones that ``arviz.summary`` warns of.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it.
        **options
            For ``arviz.summary``.

        Returns
        -------
        pandas.DataFrame
            A row per parameter (not per random effect).

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> tree = lmm.sample(draws=500, chains=4, random_seed=1, progress=False)
        >>> lmm.summary(tree, kind="diagnostics").index.tolist()
        ['beta[Intercept]', 'sigma', 'sigma_u2']
        """
        from bayeslmm.criticism.sensitivity import posterior_summary

        return posterior_summary(self, tree, **options)
