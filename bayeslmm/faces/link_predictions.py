"""What a GLMM says of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.integration.fit import GLMMFit
    from bayeslmm.tables.table import Table


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
        kind : {"mean", "link", "response"}
            The mean of y (a probability of a success, a rate; of ordered categories, the probability of each);
            X beta + Z u and the offset; or new observations, drawn from a posterior, which of a binomial need the
            columns of its trials.
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
