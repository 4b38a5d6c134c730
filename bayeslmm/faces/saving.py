"""Models and results on disk."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.likelihood.fit import LikelihoodFit


class Saving(Model):
    """What was found, kept in a folder."""

    def save(
        self,
        folder: str | PathLike[str],
        result: xr.DataTree | LikelihoodFit | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Save the model with its data, and a posterior or a fit of it, in a folder that `load` reads.

        Parameters
        ----------
        folder : str or Path
            A new folder.
        result : xarray.DataTree or LikelihoodFit, optional
            What `sample`, `ml` or `reml` returned, or the ``clean`` part of a `SamplingError`, then marked as
            partial.
        overwrite : bool
            Whether a saved model that is there already is replaced, once the new one is whole.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        SavedError
            If the folder exists or can't be written.
        DataError, DescriptionError
            If the result is none of this model, or something can't be read as it was written; nothing is left then.

        Notes
        -----
        The folder holds ``model.toml`` (description and given priors), ``data.csv`` (the columns used, complete rows)
        and ``columns.json`` (their types, exactly), known covariances as ``.npz``, ``priors.json`` (all priors),
        ``posterior.nc`` or ``fit.json``, ``check.json`` (log densities that have to come out again) and
        ``manifest.json`` (versions, and the SHA-256 of each file). Nothing is pickled. The files are written into a
        folder beside, read again and compared, and moved into place in one step, so that a full disk or a process that
        is killed leaves what was there before.

        Examples
        --------
        >>> import tempfile
        >>> import bayeslmm as blm
        >>> lmm = blm.example("dyestuff")
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     saved = blm.load(lmm.save(f"{parent}/dyestuff", lmm.reml()))
        >>> saved
        Saved(LMM('Yield ~ 1 + (1 | Batch)', 30 rows), REML)
        """
        from bayeslmm.saved.writing import save

        return save(self, folder, result, overwrite=overwrite)
