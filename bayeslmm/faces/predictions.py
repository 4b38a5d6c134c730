"""What a model says of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr


class Predictions(Model):
    """Rows, old and new, as a posterior or a fit expects them."""

    def predict(
        self,
        tree: xr.DataTree,
        data: Any = None,
        *,
        kind: str = "mean",
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
            X beta + Z u and the offset, or a new response with its residual (for independent residuals of one
            variance).
        random_effects : bool
            False leaves them out: X beta alone; new rows need no grouping columns then.
        allow_new_groups : bool
            Whether groups that the model hasn't seen get effects drawn from the population instead of an error.
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
            self, tree, data, kind=kind, random_effects=random_effects, allow_new_groups=allow_new_groups,
            missing=missing, random_seed=random_seed,
        )  # fmt: skip
