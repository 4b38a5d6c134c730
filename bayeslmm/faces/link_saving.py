"""GLMMs and their results on disk."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.integration.fit import GLMMFit
from bayeslmm.link_model import LinkModel

if TYPE_CHECKING:
    import xarray as xr


class LinkSaving(LinkModel):
    """A description as text, and what was found, kept in a folder."""

    def to_toml(self) -> str:
        """Return the lines of a description file that say the family and the hierarchy.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> print(blm.example("cbpp").to_toml())
        family = "binomial(link = logit)"
        failures = "healthy"
        response = "incidence"
        fixed = "1 + C(period)"
        <BLANKLINE>
        [[levels]]
        group = ["herd"]
        effects = "1"
        correlated = true
        <BLANKLINE>
        """
        return self.reader.keys.to_toml() + self.hierarchy.to_toml()

    def save(
        self,
        folder: str | PathLike[str],
        result: xr.DataTree | GLMMFit | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Save the model with its data, and a posterior or a fit of it, in a folder that `load` reads.

        Parameters
        ----------
        folder : str or Path
            A new folder.
        result : xarray.DataTree or GLMMFit, optional
            What `sample` or `ml` returned, or the ``clean`` part of a `SamplingError`, then marked as partial.
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
        The folder is as `LMM.save` writes it. Its ``check.json`` has Laplace's log-likelihood at fixed points, and the
        log densities of the parameters' priors and of y given eta at a few of the draws, which have to come out again.

        Examples
        --------
        >>> import tempfile
        >>> import bayeslmm as blm
        >>> glmm = blm.example("cbpp")
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     saved = blm.load(glmm.save(f"{parent}/cbpp", glmm.ml()))
        >>> saved
        Saved(GLMM('cbind(incidence, healthy) ~ 1 + C(period) + (1 | herd)', binomial(link = logit), 56 rows), ML)
        """
        from bayeslmm.saved.writing import save

        return save(self, folder, result, overwrite=overwrite)
