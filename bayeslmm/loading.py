"""Reading a saved model back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayeslmm.errors import BayesLMMError, DescriptionError, SavedError
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.glmm import GLMM
from bayeslmm.lmm import LMM
from bayeslmm.support.arguments import check_path
from bayeslmm.support.files import show_path

if TYPE_CHECKING:
    import xarray as xr

    from bayeslmm.integration.fit import GLMMFit
    from bayeslmm.likelihood.fit import LikelihoodFit


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """A saved model, read and found to be what was saved.

    Attributes
    ----------
    model : LMM or GLMM
    posterior : xarray.DataTree or None
        The draws, where some were saved.
    folder : Path
    about : dict
        From the manifest: ``versions`` of what wrote it, when it was ``saved``, what it ``holds``.
    fit_record : dict or None
        The numbers of the fit by ML or REML, where one was saved.
    """

    model: LMM | GLMM
    posterior: xr.DataTree | None
    folder: Path
    about: dict[str, Any] = field(default_factory=dict)
    fit_record: dict[str, Any] | None = None

    @property
    def lmm(self) -> LMM:
        """The model, where it is an LMM."""
        if not isinstance(self.model, LMM):
            raise DescriptionError(
                f"{show_path(self.folder)} holds a GLMM: write saved.glmm, or saved.model for either."
            )
        return self.model

    @property
    def glmm(self) -> GLMM:
        """The model, where it is a GLMM."""
        if not isinstance(self.model, GLMM):
            raise DescriptionError(
                f"{show_path(self.folder)} holds an LMM: write saved.lmm, or saved.model for either."
            )
        return self.model

    @property
    def partial(self) -> bool:
        """Whether the draws are the clean part of a run that was interrupted."""
        return bool(self.about.get("partial"))

    @cached_property
    def result(self) -> xr.DataTree | LikelihoodFit | GLMMFit | None:
        """What was saved with the model: its posterior, or its fit by ML or REML, made again and compared.

        Raises
        ------
        SavedError
            If the fit comes out as another one.
        """
        if self.fit_record is None:
            return self.posterior
        fit = self._fit(self.fit_record)
        then = self.fit_record["loglik"]
        if then is None or abs(fit.loglik - then) > 1e-6 * (1 + abs(then)):
            raise SavedError(
                f"{show_path(self.folder / 'fit.json')}: its log-likelihood is {then}, and the fit of this model has "
                f"{fit.loglik}. Fit and save it again."
            )
        return fit

    def _fit(self, record: dict[str, Any]) -> LikelihoodFit | GLMMFit:
        if isinstance(self.model, LMM):
            return self.model.ml() if record["method"] == "ML" else self.model.reml()
        if record["approximation"] == "laplace":
            return self.model.ml("laplace")
        return self.model.ml(record["approximation"], nodes=record["nodes"])

    def __repr__(self) -> str:
        kind = "nothing fitted" if self.fit_record is None else str(self.fit_record["method"])
        if self.posterior is not None:
            sizes = self.posterior["posterior"].sizes
            kind = f"{'partial ' if self.partial else ''}posterior of {sizes['chain']} x {sizes['draw']} draws"
        return f"Saved({self.model!r}, {kind})"


def load(folder: str | PathLike[str], data: Any = None) -> Saved:
    """Load what `LMM.save` or `GLMM.save` wrote: the model, its data, and its posterior or fit.

    Parameters
    ----------
    folder : str or Path
    data : frame or mapping of columns, optional
        Data to compare with those that were saved, which need nothing else.

    Returns
    -------
    Saved
        With ``lmm`` (or ``glmm``), ``posterior`` (None if none was saved) and ``result``.

    Raises
    ------
    SavedError
        At the file that is damaged, missing or too many; or if the model made from it gives other log densities than
        were written, as another version of the package might make it.
    DataError
        If `data` are not those of the saved model.

    Warns
    -----
    UserWarning
        If the draws are a part of a run that was interrupted.

    Notes
    -----
    Nothing is unpickled or run, and no file outside the folder is read. The manifest finds damage; it is no signature.

    Examples
    --------
    >>> import tempfile
    >>> import bayeslmm as blm
    >>> lmm = blm.example("dyestuff")
    >>> tree = lmm.sample(draws=200, chains=2, random_seed=1, progress=False)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     saved = blm.load(lmm.save(f"{parent}/dyestuff", tree))
    >>> saved.posterior.identical(tree), saved.lmm.reml().loglik == lmm.reml().loglik
    (True, True)
    """
    path = check_path(folder, "saved/heights")
    with enough_memory(doing="Loading"):
        return _load(path, data)


def _load(path: Path, data: Any) -> Saved:
    from bayeslmm.saved.kinds import kind_of
    from bayeslmm.saved.reading import read_parts, require_same, require_same_data

    parts = read_parts(path)
    if data is not None:
        require_same_data(parts, data)
    more = {} if parts.outcome is None else parts.outcome.arguments()
    try:
        model = (GLMM if more else LMM)(parts.hierarchy, parts.taken, priors=parts.priors or None, **more)
    except BayesLMMError as error:
        raise SavedError(f"{show_path(path)}: no model can be made of it: {error}") from error
    require_same(model, parts)
    tree = None if parts.tree is None else kind_of(model).completed(model, parts.tree)
    saved = Saved(model=model, posterior=tree, folder=path, about=parts.about, fit_record=parts.fit)
    if saved.partial and parts.tree is not None:
        asked, sizes = parts.tree.attrs, parts.tree["posterior"].sizes
        warnings.warn(
            f"{show_path(path)}: this posterior is partial: {sizes['draw']} of {asked.get('draws', '?')} draws in "
            f"{sizes['chain']} of {asked.get('chains', '?')} chains, as its run was interrupted. Sample again for one "
            "that can be trusted.",
            UserWarning,
            stacklevel=3,
        )
    return saved
