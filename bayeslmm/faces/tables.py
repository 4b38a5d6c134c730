"""A fit or a posterior in the field's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.likelihood.fit import LikelihoodFit
    from bayeslmm.tables.table import Table


class Tables(Model):
    """Estimates, variance shares, R^2 and shrinkage of a result: ML, REML or a posterior, in one shape."""

    def fixef(self, result: LikelihoodFit | xr.DataTree, level: float = 0.95, *, method: str | None = None) -> Table:
        """Fixed effects with their intervals.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
            ``lmm.ml()``, ``lmm.reml()`` or ``lmm.sample()``.
        level : float
            Coverage of the intervals.
        method : {"wald", "profile"}, optional
            Of a fit's intervals: Wald's z, the estimate and its standard errors, unless told otherwise. REML has no
            profile of the fixed effects. A posterior has quantiles: leave it out.

        Returns
        -------
        Table
            A row per column of X: estimate, sd and interval, in units of y per unit of the column.

        Raises
        ------
        DescriptionError, DataError
            For what is no result of this model, and arguments that are none of the above.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> lmm.fixef(lmm.reml()).to_pandas()["2.5 %"].round(2).to_dict()
        {'Intercept': 238.03, 'Days': 7.44}
        """
        from bayeslmm.tables.estimates import fixef

        return fixef(self, result, level, method)

    def ranef(self, result: LikelihoodFit | xr.DataTree, level: float = 0.95) -> Table:
        """Random effects with their intervals, one row per group and effect.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            level ("u2"), grouping, group, effect; estimate, sd and interval in units of y per unit of the column. Of a
            fit: conditional modes and SDs given the estimated parameters, with normal intervals, as lme4's.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.fixef`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> lmm.ranef(lmm.reml()).to_pandas().set_index("group")["estimate"].round(1).to_dict()
        {'A': -17.6, 'B': 0.4, 'C': 28.6, 'D': -23.1, 'E': 56.7, 'F': -45.0}
        """
        from bayeslmm.tables.estimates import ranef

        return ranef(self, result, level)

    def varcorr(self, result: LikelihoodFit | xr.DataTree, level: float = 0.95, *, method: str | None = None) -> Table:
        """Standard deviations, correlations and the parameters of R with their intervals.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
        level : float
        method : {"profile", "wald"}, optional
            Of a fit's intervals: profile limits unless told otherwise, which take a few searches each: a minute where
            thousands of groups are crossed. Wald's are on scales of logarithms and of logits, and take no time.

        Returns
        -------
        Table
            A row per parameter, SDs in units of y per unit of the column. The column ``interval`` says where there is
            none, and why.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.fixef`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> lmm.varcorr(lmm.ml()).to_pandas().loc["sigma_u2", ["estimate", "2.5 %", "97.5 %"]].astype(float).round(2)
        estimate    37.26
        2.5 %       12.20
        97.5 %      84.06
        Name: sigma_u2, dtype: float64
        """
        from bayeslmm.tables.estimates import varcorr

        return varcorr(self, result, level, method)

    def variance_partition(
        self, result: LikelihoodFit | xr.DataTree, at: Mapping[str, Any] | None = None, level: float = 0.95
    ) -> Table:
        """The variance that each level adds to y around X beta, and its share of the total.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
        at : mapping of predictor to values, optional
            Where slopes vary (or there are strata): ``at={"Days": [0, 5, 9]}`` gives the variances there,
            all combinations of several predictors. Averages over the data's rows where it is left out.
        level : float

        Returns
        -------
        Table
            The predictors' values, component ("u2", ..., "residual", "total"), quantity ("variance" in squared units of
            y, "share"), estimate, sd and interval. A known covariance counts by its mean diagonal.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.fixef`, and for predictors on which no variance depends.

        Notes
        -----
        A share is the variance partition coefficient of Goldstein, Browne & Rasbash (2002). Intervals of a fit are by
        the delta method, on scales of logarithms and logits.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> table = lmm.variance_partition(lmm.reml(), at={"Days": [0, 9]}).to_pandas()
        >>> table.query("component == 'u2' and quantity == 'share'").set_index("Days")["estimate"].round(2).to_dict()
        {0: 0.48, 9: 0.85}
        """
        from bayeslmm.tables.partition import variance_partition

        return variance_partition(self, result, at, level)

    def icc(
        self, result: LikelihoodFit | xr.DataTree, at: Mapping[str, Any] | None = None, level: float = 0.95
    ) -> Table:
        """Intra-class correlations, in both conventions.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
        at : mapping of predictor to values, optional
            As for `LMM.variance_partition`.
        level : float

        Returns
        -------
        Table
            Per level two quantities: "share", its variance over the total; "correlation", that of two rows of one
            group, which share the groups that contain it too: (school + class) / total for a class.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.variance_partition`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("pastes")
        >>> lmm.icc(lmm.reml()).to_pandas().pivot(index="grouping", columns="quantity", values="estimate").round(3)
        quantity    correlation  share
        grouping
        batch             0.154  0.154
        cask:batch        0.937  0.783
        """
        from bayeslmm.tables.partition import icc

        return icc(self, result, at, level)

    def r2(self, result: LikelihoodFit | xr.DataTree, level: float = 0.95) -> Table:
        """Marginal and conditional R^2: what X beta, and X beta with the levels, explain of the variance of y.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            Rows "marginal" and "conditional".

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.fixef`.

        Notes
        -----
        Nakagawa & Schielzeth (2013): the variance of X beta over the rows, over the sum of that, the levels' variances
        and the residual's; where slopes vary, a level's variance is its mean over the rows, tr(Z Sigma Z') / n (Johnson
        2014). A posterior has one at each draw. Gelman, Goodrich, Gabry & Vehtari (2019), ``brms::bayes_R2``, take the
        variance of the fitted values of these very groups instead, X beta + Z u at each draw: another quantity.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> lmm.r2(lmm.reml()).to_pandas()["estimate"].round(3).to_dict()
        {'marginal': 0.279, 'conditional': 0.799}
        """
        from bayeslmm.tables.partition import r2

        return r2(self, result, level)

    def shrinkage(self, result: LikelihoodFit | xr.DataTree) -> Table:
        """How far each group is drawn to zero, and what its rows are worth.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree

        Returns
        -------
        Table
            Per group and effect: rows; effective_rows; own, its estimate without pooling; population, 0; pooled, the
            conditional mode or posterior mean; reliability, 1 - Var(u | y) / Var(u); shrinkage, 1 less that.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.fixef`.

        Notes
        -----
        The reliability is Raudenbush & Bryk's (2002, chapter 3), tau / (tau + sigma^2 / n) where rows are independent
        and there is one effect; of several effects it is the matrix's diagonal. Turned round it gives the effective
        rows: as many independent rows, of the mean residual variance and one SD from the predictor's mean, would be as
        reliable if nothing else were unknown. There are fewer of them than rows where other levels or correlated
        residuals blur them, and more where relatives help.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> lmm.shrinkage(lmm.reml()).to_pandas().loc[0, ["own", "pooled", "reliability"]].astype(float).round(3)
        own           -22.500
        pooled        -17.607
        reliability     0.783
        Name: 0, dtype: float64
        """
        from bayeslmm.tables.shrinkage import shrinkage

        return shrinkage(self, result)

    def effective_parameters(self, result: LikelihoodFit | xr.DataTree, level: float = 0.95) -> Table:
        """The number of effective parameters: the trace of the hat matrix, with the variance parameters given.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
        level : float

        Returns
        -------
        Table
            Per component ("fixed", "u2", ..., "total") its columns, and how many parameters they are worth.

        Raises
        ------
        DescriptionError, DataError
            As for `LMM.fixef`.

        Notes
        -----
        Hodges & Sargent (2001): tr(d y-hat / d y) for y-hat = X beta-hat + Z u-hat, exact. A posterior has one at each
        of a few draws, evenly spaced.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> lmm.effective_parameters(lmm.reml()).to_pandas().set_index("component")["estimate"].round(2).to_dict()
        {'fixed': 1.0, 'u2': 3.91, 'total': 4.91}
        """
        from bayeslmm.tables.effective import effective_parameters

        return effective_parameters(self, result, level)
