"""What a GLMM's posterior is worth, and what its prior says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.criticism.link_loo import LinkLeaveOneOut


class LinkCriticism(LinkModel):
    """Questions to a posterior about itself, and to the prior."""

    def loo(self, tree: xr.DataTree, unit: str = "row", *, progress: bool = True) -> LinkLeaveOneOut:
        """Leave out one unit at a time and say how well the others predict it.

        The effects that only the unit tells of are integrated out by quadrature, so that the parameters (and the
        effects of other, crossed or outer, levels) have to be reweighted alone, by Pareto smoothed importance
        sampling. ``arviz.loo(tree)`` reweights all effects, and fails where a group has few rows.

        Parameters
        ----------
        tree : xarray.DataTree
            As ``glmm.sample()`` returns it.
        unit : str
            "row": a row is left out and keeps its groups. A level's label, such as "herd": a whole group is left out,
            which asks about a new one.
        progress : bool

        Returns
        -------
        LinkLeaveOneOut
            As of `LMM.loo`; units whose weights fail are named in ``unreliable`` and in the ``note``.

        Raises
        ------
        DescriptionError
            If there is no such unit; for groups whose effects can't be integrated out (known covariances, more than
            three effects a group, several effects in groups within groups).
        DataError
            If the tree isn't a posterior of this model.

        Notes
        -----
        ``p(y_i | y_-i, parameters)`` is the ratio of the integrals with and without the row. Sources: Vehtari, Gelman &
        Gabry (2017); Vehtari, Mononen, Tolvanen, Sivula & Winther (2016), section 3.6.2, for the integrated weights;
        Merkle, Furr & Rabe-Hesketh (2019).

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> tree = glmm.sample(draws=200, tune=200, chains=2, random_seed=1, progress=False)
        >>> glmm.loo(tree, unit="g", progress=False).table["rows"].to_dict()
        {'a': 2, 'b': 2, 'c': 2, 'd': 2}
        """
        from bayeslmm.criticism.link_loo import link_leave_one_out

        return link_leave_one_out(self, tree, unit, progress=progress)

    def prior_predictive(self, draws: int = 500, random_seed: int | None = None) -> xr.DataTree:
        """Draw parameters, random effects and data from the prior, without compiling anything.

        Parameters
        ----------
        draws : int
        random_seed : int, optional

        Returns
        -------
        xarray.DataTree
            Groups ``prior``, ``prior_predictive`` (y: successes, counts, measurements, numbers of categories) and
            ``observed_data``, one chain.

        Raises
        ------
        PriorError
            If a prior is flat.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> dict(glmm.prior_predictive(draws=10, random_seed=1)["prior_predictive"]["y"].sizes)
        {'chain': 1, 'draw': 10, 'row': 8}
        """
        from bayeslmm.criticism.link_prior import link_prior_predictive

        return link_prior_predictive(self, draws, random_seed)
