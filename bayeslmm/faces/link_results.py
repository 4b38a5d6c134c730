"""GLMM's verbs on a fit or a posterior: tables, predictions, criticism."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.criticism.link_loo import LinkLeaveOneOut
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


class LinkPredictions(LinkModel):
    """Rows, old and new, as a posterior or a fit expects them, on the link's scale or that of the response."""

    def predictions(
        self,
        result: GLMMFit | xr.DataTree,
        data: Any = None,
        *,
        scope: str | Mapping[str, str] = "observed",
        kind: str = "mean",
        level: float = 0.95,
        by: bool | str | Sequence[str] | None = None,
        hypothesis: str | None = None,
        missing: str = "error",
    ) -> Table:
        """Predict rows, or averages over them: a table with an estimate, an SD and an interval for each.

        For new groups the mean is integrated over their distribution; it is never that of a group with u = 0, which
        ``scope="population"`` asks for.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
            ``glmm.ml()`` or ``glmm.sample()``. A fit's intervals are by the delta method, with the uncertainty of all
            parameters and of the groups' effects.
        data : frame or mapping of columns, optional
            Rows to predict, no response needed; the model's own ones where it is left out.
        scope : str or mapping of levels to such names
            As in `LMM.predictions`, and

            - "population-averaged": the mean over all groups there could be; no grouping columns are needed. Its
              interval is of this mean; that of "new" is of one new group's.
        kind : {"mean", "link"}
            The mean of y (a probability of a success, a rate; of ordered categories, the probability of each), or
            X beta + Z u and the offset.
        level : float
            Coverage of the intervals.
        by : bool, str or list of str, optional
            Average means over all rows (True), or over those alike in these columns.
        hypothesis : {"reference", "sequential", "pairwise"}, optional
            Differences between the averages instead of these.
        missing : {"error", "drop"}

        Returns
        -------
        Table
            A row per row or average (and category): its columns, estimate, sd and the ends of the interval.

        Raises
        ------
        DataError, DescriptionError
            As in `LMM.predictions`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> one = glmm.predictions(glmm.ml(), scope="population", by=True).to_pandas()["estimate"].round(2).item()
        >>> all_ = glmm.predictions(glmm.ml(), scope="population-averaged", by=True).to_pandas()["estimate"]
        >>> one, all_.round(2).item()  # exp(beta), exp(beta + sigma_u2^2 / 2)
        (2.01, 2.77)
        """
        from bayeslmm.predictions.link_predictions import link_predictions

        return link_predictions(
            self, result, data, scope=scope, kind=kind, level=level, by=by, hypothesis=hypothesis, missing=missing
        )

    def comparisons(
        self,
        result: GLMMFit | xr.DataTree,
        variables: str | Sequence[str] | Mapping[str, Any] | None = None,
        data: Any = None,
        *,
        by: bool | str | Sequence[str] | None = None,
        hypothesis: str | None = None,
        scope: str | Mapping[str, str] = "observed",
        kind: str = "mean",
        level: float = 0.95,
        missing: str = "error",
    ) -> Table:
        """Compare means where a predictor changes and all else stays as it is: risk differences, differences of rates.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        variables : str, list of str, or mapping, optional
            As in `LMM.comparisons`.
        data, scope, kind, hypothesis, level, missing
            As in `GLMM.predictions`.
        by : bool, str or list of str, optional
            Average over all rows (True, the default) or over those alike in these columns; False for each row.

        Returns
        -------
        Table
            A row per contrast and average (and category): variable, contrast, estimate, sd, ends of the interval.

        Raises
        ------
        DataError, DescriptionError
            As in `LMM.comparisons`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": [0, 1] * 4, "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="poisson")
        >>> glmm.comparisons(glmm.ml(), {"x": (0, 1)}).to_pandas()[["variable", "contrast"]].to_numpy().tolist()
        [['x', '1 - 0']]
        """
        from bayeslmm.predictions.link_predictions import link_comparisons

        return link_comparisons(
            self, result, variables, data, by=by, hypothesis=hypothesis, scope=scope, kind=kind, level=level,
            missing=missing,
        )  # fmt: skip

    def slopes(
        self,
        result: GLMMFit | xr.DataTree,
        variables: str | Sequence[str] | None = None,
        data: Any = None,
        *,
        by: bool | str | Sequence[str] | None = None,
        hypothesis: str | None = None,
        scope: str | Mapping[str, str] = "observed",
        kind: str = "mean",
        level: float = 0.95,
        missing: str = "error",
    ) -> Table:
        """Marginal effects: the slope of the mean along predictors that are numbers.

        Parameters
        ----------
        result : GLMMFit or xarray.DataTree
        variables : str or list of str, optional
            Predictors; all that are numbers where it is left out.
        data, scope, kind, hypothesis, level, missing
            As in `GLMM.predictions`.
        by : bool, str or list of str, optional
            Average over all rows (True, the default: average marginal effects) or over those alike in these columns;
            False for each row.

        Returns
        -------
        Table
            A row per variable and average (and category).

        Raises
        ------
        DataError, DescriptionError
            As in `LMM.slopes`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": [0, 1] * 4, "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ x + (1 | g)", data, family="poisson")
        >>> fit = glmm.ml()
        >>> glmm.slopes(fit, kind="link").to_pandas()["estimate"].round(3).tolist(), round(float(fit.fixef["x"]), 3)
        ([0.56], 0.56)
        """
        from bayeslmm.predictions.link_predictions import link_slopes

        return link_slopes(
            self, result, variables, data, by=by, hypothesis=hypothesis, scope=scope, kind=kind, level=level,
            missing=missing,
        )  # fmt: skip

    def grid(
        self, values: Mapping[str, Any] | None = None, /, *, grid_type: str = "mean_or_mode", **named: Any
    ) -> pd.DataFrame:
        """Make rows to predict, as `LMM.grid` does.

        Parameters
        ----------
        values : mapping, optional
            Columns and their values, for names that Python can't write as keywords.
        grid_type : {"mean_or_mode", "balanced", "counterfactual"}
        **named
            A value or a list of values for each named column.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        DescriptionError
            For names that the model doesn't use.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "x": [0, 1] * 4, "g": list("aabbccdd")}
        >>> blm.GLMM("y ~ x + (1 | g)", data, family="poisson").grid(x=[0, 1])["x"].tolist()
        [0, 1]
        """
        from bayeslmm.predictions.variables import grid

        return grid(self.design, {**(values or {}), **named}, grid_type)

    def predict(
        self,
        tree: xr.DataTree,
        data: Any = None,
        *,
        kind: str = "mean",
        scope: str | Mapping[str, str] = "observed",
        missing: str = "error",
        random_seed: int | None = None,
    ) -> xr.DataArray:
        """Predict rows from a posterior: draws with the dims chain, draw, row (and category).

        Parameters
        ----------
        tree : xarray.DataTree
            What ``glmm.sample()`` returned.
        data : frame or mapping of columns, optional
            The model's own rows where it is left out. New responses of a binomial need the columns of its trials.
        kind : {"mean", "link", "response"}
            As in `GLMM.predictions`; "response" draws new responses: successes, counts, measurements, or the number of
            a category from 0 on.
        scope : str or mapping
            As in `GLMM.predictions`; effects of new groups are drawn, those of "population-averaged" integrated out.
        missing : {"error", "drop"}
        random_seed : int, optional

        Returns
        -------
        xarray.DataArray

        Raises
        ------
        DataError, DescriptionError
            As in `GLMM.predictions`.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> glmm = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson")
        >>> tree = glmm.sample(draws=20, tune=100, chains=2, random_seed=1, progress=False)
        >>> dict(glmm.predict(tree, {"g": ["a", "z"]}, scope="new where unseen", kind="response").sizes)
        {'chain': 2, 'draw': 20, 'row': 2}
        """
        from bayeslmm.predictions.link_predict import link_predict

        return link_predict(self, tree, data, kind=kind, scope=scope, missing=missing, random_seed=random_seed)


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
