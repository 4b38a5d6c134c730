"""What a posterior is worth, and what its model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.criticism.evidence import MarginalLikelihood
    from bayeslmm.criticism.influence import Influence
    from bayeslmm.criticism.loo import LeaveOneOut


class Criticism(Model):
    """Questions to a posterior about itself."""

    def loo(self, tree: xr.DataTree, unit: str = "row", *, refit: bool = True, progress: bool = True) -> LeaveOneOut:
        """Leave out one unit at a time and say how well the others predict it.

        The random effects are integrated out in closed form (the *marginal* density), so that only the parameters have
        to be reweighted, by Pareto smoothed importance sampling; ``arviz.loo(tree)`` does the same for rows with the
        effects kept as parameters (the *conditional* density). Both estimate the same for rows, the closed form with
        weights that fail less often.

        Parameters
        ----------
        tree : xarray.DataTree
            As `LMM.sample` returns it.
        unit : str
            "row": a row is left out and keeps its groups. A level's label, such as "school": a whole group is left
            out, which asks about a new one.
        refit : bool
            Whether units whose weights have a Pareto k of 0.7 or more are left out by drawing from the posterior
            without them.
        progress : bool

        Returns
        -------
        LeaveOneOut
            ``elpd``, ``se``, ``p``, a ``table`` by unit and a ``note``; ``to_arviz()`` gives what ``arviz.compare``
            takes.

        Raises
        ------
        DescriptionError
            If there is no such unit.
        DataError
            If the tree isn't a posterior of this model.

        Source: Vehtari, Gelman & Gabry (2017) for the method; Merkle, Furr & Rabe-Hesketh (2019) for conditional and
        marginal.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> tree = lmm.sample(draws=500, random_seed=1, progress=False)
        >>> lmm.loo(tree, unit="Batch").table["rows"].to_dict()
        {'A': 5, 'B': 5, 'C': 5, 'D': 5, 'E': 5, 'F': 5}
        """
        from bayeslmm.criticism.loo import leave_one_out

        self.design.require_rows()
        return leave_one_out(self, tree, unit, refit=refit, progress=progress)

    def influence(self, unit: str = "row", *, reml: bool = True, progress: bool = True) -> Influence:
        """Fit without each row or group, and say what that does to the estimates.

        Parameters
        ----------
        unit : str
            "row", or a level's label, such as "school".
        reml : bool
            Whether fits are REML's, else ML's.
        progress : bool

        Returns
        -------
        Influence
            ``table`` with Cook's distance, the ratio of the coefficients' generalised variances, and all estimates
            without each unit; ``changes``; a ``note``.

        Raises
        ------
        DescriptionError
            If there is no such unit.

        Source: Cook (1977); Demidenko & Stukel (2005).

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("dyestuff").influence("Batch", progress=False).table["cooks_distance"].idxmax()
        'E'
        """
        from bayeslmm.criticism.influence import influence

        self.design.require_rows()
        return influence(self, unit, reml=reml, progress=progress)

    def marginal_likelihood(self, draws: int = 4000, random_seed: int | None = None) -> MarginalLikelihood:
        """Estimate log p(y), the likelihood averaged over all priors: the logarithm of a Bayes factor is a difference.

        Parameters
        ----------
        draws : int
        random_seed : int, optional
            The same seed gives the same number.

        Returns
        -------
        MarginalLikelihood
            ``log`` and its Monte Carlo ``error``, ``pareto_k``, and ``rescaled``: what it is under priors of the
            effects' SDs half and twice as wide. Unlike a posterior, it depends on the priors whatever the data are.

        Raises
        ------
        PriorError
            Where a prior is flat.

        Source: Geweke (1989) for the estimate; Kass & Raftery (1995) for its use.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> blm.example("dyestuff").marginal_likelihood(random_seed=1).log.__round__(1)
        -168.7
        """
        from bayeslmm.criticism.evidence import marginal_likelihood

        return marginal_likelihood(self, draws, random_seed)

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

        The tree keeps ``corr_u2`` as a matrix, as PyMC has it, with ones on its diagonal, and its Cholesky factor with
        zeros above; ArviZ divides by the spread of each entry, that of a constant too, and only entries that are NaN
        would keep it from it.

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
