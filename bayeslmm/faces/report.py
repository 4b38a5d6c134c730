"""A posterior on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.model import Model

if TYPE_CHECKING:
    import xarray as xr


class Reporting(Model):
    """The report."""

    def report(
        self,
        path: str | Path,
        tree: xr.DataTree,
        *,
        title: str | None = None,
        source: str | None = None,
        notes: str | None = None,
        code: str | None = None,
    ) -> Path:
        """Write a report of a posterior: one HTML file, pictures inside, nothing fetched.

        The model in words and formulas, data, priors, draws, estimates beside ML and REML, variance by level, groups,
        predictive checks, what is left out and predicted, predictions, and the code to repeat it; each part says what
        it shows and how far to trust it.

        Parameters
        ----------
        path : str or Path
            Where to write; missing folders are made, an existing file is replaced in one step.
        tree : xarray.DataTree
            As `LMM.sample` returns it.
        title, source, notes : str, optional
            Shown at the top.
        code : str, optional
            Python lines that make ``lmm`` and ``tree``; made from the description where it is left out.

        Returns
        -------
        Path
            Of the file written.

        Raises
        ------
        DataError
            If the tree isn't a posterior of this model.
        DescriptionError
            If the path is none, is a folder, or can't be written to.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> from tempfile import TemporaryDirectory
        >>> lmm = blm.example("dyestuff")
        >>> tree = lmm.sample(draws=250, random_seed=1, progress=False)
        >>> with TemporaryDirectory() as folder:
        ...     lmm.report(f"{folder}/report.html", tree, title="Dyestuff").name
        'report.html'
        """
        from bayeslmm.report.report import write_model_report

        self.design.require_rows()
        return write_model_report(self, path, tree, title=title, source=source, notes=notes, code=code)
