"""A fit or a posterior of a GLMM in the field's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.integration.fit import GLMMFit
    from bayeslmm.tables.table import Table


class LinkTables(LinkModel):
    """Estimates, ratios and variance shares of a result: ML or a posterior, in LMM's shapes."""

    def fixef(self, result: GLMMFit | xr.DataTree, level: float = 0.95, *, method: str | None = None) -> Table:
        """Fixed effects on the link's scale with their intervals.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
            ``glmm.ml()`` or ``glmm.sample()``.
        level : float
            Coverage of the intervals.
        method : {"wald"}, optional
            Of a fit's intervals. A posterior has quantiles: leave it out.

        Returns
        -------
        Table
            A row per column of X: estimate, sd and interval, per unit of the column.

        Raises
        ------
        DescriptionError, DataError
            For what is no result of this model, and arguments that are none of the above.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> glmm.fixef(glmm.ml()).to_pandas()["estimate"].round(2).to_dict()
        {'Intercept': 0.7}
        """
        from bayeslmm.tables.link_estimates import link_fixef

        return link_fixef(self, result, level, method)

    def ratios(self, result: GLMMFit | xr.DataTree, level: float = 0.95) -> Table:
        """Odds ratios, rate ratios, hazard ratios or cumulative odds ratios: exponentials of the fixed effects.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            As of `GLMM.fixef`, without the constant, and with the column ``ratio``, which says what they are.

        Raises
        ------
        DescriptionError, DataError
            As for `GLMM.fixef`; for a probit or an identity, whose exponentials mean nothing.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": [0, 1] * 4, "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="poisson")
        >>> glmm.ratios(glmm.ml()).to_pandas()[["ratio", "estimate"]].to_numpy().tolist()
        [['rate ratio', 1.7...]]
        """
        from bayeslmm.tables.link_estimates import ratios

        return ratios(self, result, level)

    def attenuation(self, result: GLMMFit | xr.DataTree, level: float = 0.95) -> Table:
        """Effects within a group beside effects on the mean of all groups, and how much flatter the second are.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            Per column of X the conditional odds ratio (or what the family has, else the coefficient), the
            population-averaged one, and the attenuation: the second coefficient over the first.

        Raises
        ------
        DescriptionError, DataError
            As for `GLMM.fixef`; where there is no predictor, or the link is the identity.

        Notes
        -----
        The effects are integrated out numerically, row by row at its own predictors. Source: Zeger, Liang & Albert
        (1988), Biometrics 44, 1049.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1], "x": [1, 2, 3, 4, 5, 6] * 2, "g": list("aaabbbcccddd")}
        >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="binomial")
        >>> glmm.attenuation(glmm.ml()).to_pandas()["quantity"].tolist()
        ['conditional odds ratio', 'population-averaged odds ratio', 'attenuation']
        """
        from bayeslmm.tables.attenuation import attenuation

        return attenuation(self, result, level)

    def ranef(self, result: GLMMFit | xr.DataTree, level: float = 0.95) -> Table:
        """Random effects on the link's scale with their intervals, one row per group and effect.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            As of `LMM.ranef`. Of a fit: conditional modes, and SDs from the curvature there.

        Raises
        ------
        DescriptionError, DataError
            As for `GLMM.fixef`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> glmm.ranef(glmm.ml()).to_pandas().set_index("group")["estimate"].round(1).to_dict()
        {'a': -0.2, 'b': -0.7, 'c': 1.1, 'd': -0.0}
        """
        from bayeslmm.tables.estimates import ranef

        return ranef(self, result, level)

    def varcorr(self, result: GLMMFit | xr.DataTree, level: float = 0.95, *, method: str | None = None) -> Table:
        """Standard deviations and correlations of effects, and the family's own parameters, with their intervals.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        level : float
        method : {"wald"}, optional
            Of a fit's intervals: on scales of logarithms and of logits.

        Returns
        -------
        Table
            A row per parameter, SDs on the link's scale per unit of the column; then alpha, nu, thresholds.

        Raises
        ------
        DescriptionError, DataError
            As for `GLMM.fixef`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> glmm.varcorr(glmm.ml()).to_pandas()["estimate"].round(2).to_dict()
        {'sigma_u2': 0.8}
        """
        from bayeslmm.tables.link_estimates import link_varcorr

        return link_varcorr(self, result, level, method)

    def variance_partition(
        self, result: GLMMFit | xr.DataTree, at: Mapping[str, Any] | None = None, level: float = 0.95
    ) -> Table:
        """The variance that each level adds on the link's scale, and its share of the total.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        at : mapping of predictor to values, optional
            As for `LMM.variance_partition`.
        level : float

        Returns
        -------
        Table
            As of `LMM.variance_partition`; in the residual's place stands "distribution": pi^2 / 3 for a logit, 1 for
            a probit, pi^2 / 6 for a cloglog, log(1 + 1 / mean + ...) for a log.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.variance_partition`.

        Notes
        -----
        Nakagawa, Johnson & Schielzeth (2017), doi:10.1098/rsif.2017.0213.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> glmm.variance_partition(glmm.ml()).to_pandas()["component"].tolist()
        ['u2', 'distribution', 'total', 'u2', 'distribution']
        """
        from bayeslmm.tables.partition import variance_partition

        return variance_partition(self, result, at, level)

    def icc(
        self,
        result: GLMMFit | xr.DataTree,
        at: Mapping[str, Any] | None = None,
        level: float = 0.95,
        *,
        scale: str = "latent",
    ) -> Table:
        """Intra-class correlations, on the link's scale or on that of y.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        at : mapping of predictor to values, optional
            As for `LMM.variance_partition`.
        level : float
        scale : {"latent", "observation"}
            "latent": with the distribution's variance on the link's scale, as `GLMM.variance_partition` has it.
            "observation": the correlation of two rows of a group as they are observed; of a binomial, of single trials.
            Ordered categories have none.

        Returns
        -------
        Table
            As of `LMM.icc`; with "observation" correlations alone.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.variance_partition`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> glmm.icc(glmm.ml(), scale="observation").to_pandas()["estimate"].round(2).tolist()
        [0.71]
        """
        from bayeslmm.tables.link_partition import link_icc

        return link_icc(self, result, at, level, scale)

    def r2(self, result: GLMMFit | xr.DataTree, level: float = 0.95) -> Table:
        """Marginal and conditional R^2 on the link's scale.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            Rows "marginal" and "conditional".

        Raises
        ------
        DescriptionError, DataError
            As for `GLMM.fixef`.

        Notes
        -----
        As `LMM.r2`, the distribution's variance on the link's scale in the residual's place: Nakagawa, Johnson &
        Schielzeth (2017), doi:10.1098/rsif.2017.0213.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": [0, 1] * 4, "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="poisson")
        >>> glmm.r2(glmm.ml()).to_pandas()["estimate"].round(2).to_dict()
        {'marginal': 0.09, 'conditional': 0.7}
        """
        from bayeslmm.tables.partition import r2

        return r2(self, result, level)
