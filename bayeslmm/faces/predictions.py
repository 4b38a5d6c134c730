"""What a model says of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.likelihood.fit import LikelihoodFit
    from bayeslmm.tables.table import Table


class Predictions(Model):
    """Rows, old and new, as a posterior or a fit expects them."""

    def predictions(
        self,
        result: LikelihoodFit | xr.DataTree,
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

        Everything is computed, nothing simulated. For a fit, the estimate is the best linear unbiased prediction and
        its SD the standard error by Henderson's equations, sigma^2 [x z] C^-1 [x z]' (Henderson 1975, Biometrics 31,
        423), with the uncertainty of beta and of the groups' effects, but not that of the variance parameters, which
        are taken as known; the interval is normal. For a posterior, each draw leaves a normal distribution, of which
        only beta and the effects are drawn; mean, SD and quantiles are those of their mixture.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
            ``lmm.ml()``, ``lmm.reml()``, or ``lmm.sample()`` of either variant.
        data : frame or mapping of columns, optional
            Rows to predict, no response needed; the model's own ones where it is left out. `LMM.grid` makes some.
        scope : str or mapping of levels to such names
            Whose effects the rows take, at all levels or level by level (``{"u2": "new", "school": "observed"}``;
            levels that are not named are "observed"):

            - "observed": those of their own groups, all of which the model has seen;
            - "new in observed": an inner group may be new, an outer one has to be seen: a new class of an old school;
            - "new where unseen": groups that the model hasn't seen are new;
            - "new": all groups are new ones, whatever their labels. Effects of new groups are from N(0, Sigma), the
              same for all rows of a label;
            - "population": none, u = 0; no grouping columns are needed;
            - "average", "average by rows": their mean over the groups seen, of equal weight or by their rows in the
              model; no grouping columns are needed.
        kind : {"mean", "response"}
            The expected value X beta + Z u and the offset, or a new observation, which adds e. The residual of a row
            is conditioned on those that were seen of its series or group, where R has correlations, `data` is given,
            and groups that were seen are themselves ("observed" or "... where unseen", "new in observed").
        level : float
            Coverage of the intervals.
        by : bool, str or list of str, optional
            Average expected values over all rows (True), or over those alike in these columns.
        hypothesis : {"reference", "sequential", "pairwise"}, optional
            Differences between the averages instead of these: of each from the first, of neighbours, of all pairs.
        missing : {"error", "drop"}
            What to do with rows that have missing values.

        Returns
        -------
        Table
            A row per row or average: its columns, estimate, sd and the ends of the interval, in units of y.

        Raises
        ------
        DataError, DescriptionError
            For columns or groups that are missing or new, for new observations of which R says nothing, and for
            arguments that are none of the above; the message says what to write.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> table = lmm.predictions(lmm.reml(), {"Days": [10, 10], "Subject": ["308", "nobody"]},
        ...                         scope="new where unseen")
        >>> table.to_pandas()[["estimate", "sd"]].round(1).to_numpy().tolist()
        [[450.3, 15.9], [356.1, 67.6]]
        """
        from bayeslmm.predictions.predictions import predictions

        return predictions(
            self, result, data, scope=scope, kind=kind, level=level, by=by, hypothesis=hypothesis, missing=missing
        )

    def comparisons(
        self,
        result: LikelihoodFit | xr.DataTree,
        variables: str | Sequence[str] | Mapping[str, Any] | None = None,
        data: Any = None,
        *,
        by: bool | str | Sequence[str] | None = None,
        hypothesis: str | None = None,
        scope: str | Mapping[str, str] = "observed",
        level: float = 0.95,
        missing: str = "error",
    ) -> Table:
        """Compare expected values where a predictor changes and all else stays as it is.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
            As in `LMM.predictions`, where the words about estimates, SDs and intervals are.
        variables : str, list of str, or mapping, optional
            Predictors, all of them where it is left out, or grouping columns; in a mapping with how each changes.
            A number: by a step (1 by default), between two values ``(low, high)``, or "sd", "2sd", "iqr", "minmax".
            Categories: "reference" (each against the first; the default), "sequential", "pairwise", or two of them.
        data, scope, hypothesis, level, missing
            As in `LMM.predictions`.
        by : bool, str or list of str, optional
            Average over all rows (True, the default) or over those alike in these columns; False for each row.

        Returns
        -------
        Table
            A row per contrast and average: variable, contrast, estimate, sd, ends of the interval, in units of y.

        Raises
        ------
        DataError, DescriptionError
            As in `LMM.predictions`, and for variables that are no predictors.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> table = lmm.comparisons(lmm.reml(), {"Days": (0, 5)}, scope="population")
        >>> table.to_pandas()[["contrast", "estimate", "sd"]].round(2).to_numpy().tolist()
        [['5 - 0', 52.34, 7.73]]
        """
        from bayeslmm.predictions.comparisons import comparisons

        return comparisons(
            self, result, variables, data, by=by, hypothesis=hypothesis, scope=scope, level=level, missing=missing
        )

    def slopes(
        self,
        result: LikelihoodFit | xr.DataTree,
        variables: str | Sequence[str] | None = None,
        data: Any = None,
        *,
        by: bool | str | Sequence[str] | None = None,
        hypothesis: str | None = None,
        scope: str | Mapping[str, str] = "observed",
        level: float = 0.95,
        missing: str = "error",
    ) -> Table:
        """Marginal effects: the slope of the expected value along predictors that are numbers.

        Parameters
        ----------
        result : LikelihoodFit or xarray.DataTree
            As in `LMM.predictions`, where the words about estimates, SDs and intervals are.
        variables : str or list of str, optional
            Predictors; all that are numbers where it is left out.
        data, scope, hypothesis, level, missing
            As in `LMM.predictions`; with "observed" a slope has its group's part.
        by : bool, str or list of str, optional
            Average over all rows (True, the default: average marginal effects) or over those alike in these columns;
            False for each row.

        Returns
        -------
        Table
            A row per variable and average: variable, contrast, estimate, sd, ends of the interval, in units of y per
            unit of the variable. Columns that transforms make are differenced numerically, with an error of about
            1e-6 at most.

        Raises
        ------
        DataError, DescriptionError
            As in `LMM.predictions`, and for variables that are no numbers.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> lmm.slopes(lmm.reml(), scope="population").to_pandas()[["estimate", "sd"]].round(2).to_numpy().tolist()
        [[10.47, 1.55]]
        """
        from bayeslmm.predictions.slopes import slopes

        return slopes(
            self, result, variables, data, by=by, hypothesis=hypothesis, scope=scope, level=level, missing=missing
        )

    def grid(
        self, values: Mapping[str, Any] | None = None, /, *, grid_type: str = "mean_or_mode", **named: Any
    ) -> pd.DataFrame:
        """Make rows to predict: named values crossed with each other, other predictors as they typically are.

        Grouping columns are in it where they are named, or the grid is counterfactual; weights and strata as other
        predictors are.

        Parameters
        ----------
        values : mapping, optional
            Columns and their values, for names that Python can't write as keywords.
        grid_type : {"mean_or_mode", "balanced", "counterfactual"}
            Other predictors: at their mean, categories at the most frequent one; all categories crossed; or all rows of
            the model once for each combination of the named values.
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
        >>> blm.example("sleepstudy").grid(Days=[0, 9]).to_numpy().tolist()
        [[0], [9]]
        >>> blm.example("cake").grid(recipe=["A", "B"]).round(1).to_numpy().tolist()
        [['A', 200.0], ['B', 200.0]]
        """
        from bayeslmm.predictions.variables import grid

        return grid(self.design, {**(values or {}), **named}, grid_type)

    def predict(
        self,
        tree: xr.DataTree,
        data: Any = None,
        *,
        kind: str = "mean",
        scope: str | Mapping[str, str] | None = None,
        random_effects: bool = True,
        allow_new_groups: bool = False,
        missing: str = "error",
        random_seed: int | None = None,
    ) -> xr.DataArray:
        """Predict rows from a posterior: draws with the dims chain, draw, row.

        Parameters
        ----------
        tree : xarray.DataTree
            What `sample` returned.
        data : frame or mapping of columns, optional
            No response needed; the model's own rows where it is left out.
        kind : {"mean", "response"}
            X beta + Z u and the offset, or a new response with its residual. Residuals of one series are drawn
            together, and given those that were seen, as in `LMM.predictions`.
        scope : str or mapping, optional
            Whose effects the rows take, as in `LMM.predictions`; "observed" where nothing is said.
        random_effects : bool
            False is ``scope="population"``: X beta alone; new rows need no grouping columns then.
        allow_new_groups : bool
            True is ``scope="new where unseen"``: groups that the model hasn't seen get effects drawn from the
            population instead of an error.
        missing : {"error", "drop"}
        random_seed : int, optional

        Returns
        -------
        xarray.DataArray
            (chain, draw, row), in units of y.

        Raises
        ------
        DataError, DescriptionError
            For columns or groups that are missing or new, and for arguments that are none of the above.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> lmm = blm.example("sleepstudy")
        >>> tree = lmm.sample(draws=200, chains=2, random_seed=1, progress=False)
        >>> dict(lmm.predict(tree, {"Days": [10, 11], "Subject": ["308", "308"]}).sizes)
        {'chain': 2, 'draw': 200, 'row': 2}
        """
        from bayeslmm.predictions.predict import predict_posterior

        return predict_posterior(
            self, tree, data, kind=kind, scope=scope, random_effects=random_effects, allow_new_groups=allow_new_groups,
            missing=missing, random_seed=random_seed,
        )  # fmt: skip
