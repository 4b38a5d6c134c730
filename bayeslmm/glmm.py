"""Multilevel models whose outcome isn't Gaussian, as users meet them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.building import build_design
from bayeslmm.design.outcome import ResponseReader
from bayeslmm.errors import DescriptionError, visible
from bayeslmm.faces.link_building import LinkBuilding
from bayeslmm.faces.link_criticism import LinkCriticism
from bayeslmm.faces.link_pictures import LinkPictures
from bayeslmm.faces.link_predictions import LinkPredictions
from bayeslmm.faces.link_sampling import LinkSampling
from bayeslmm.faces.link_saving import LinkSaving
from bayeslmm.faces.link_tables import LinkTables
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.families.family import Family
from bayeslmm.families.registry import read_family
from bayeslmm.formula.cbind import says_trials, split_cbind
from bayeslmm.formula.tokens import quote
from bayeslmm.sources.source import in_memory
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    import pymc as pm

NOT_YET = {
    "reml": "REML is a Gaussian outcome's; a GLMM has ml()",
}


class GLMM(
    LinkBuilding,
    LinkSampling,
    LinkTables,
    LinkPredictions,
    LinkCriticism,
    LinkPictures,
    LinkSaving,
):
    """A multilevel model of counts, shares, ordered categories, and other outcomes that are not Gaussian.

    y | u ~ family(eta), eta = offset + X beta + Z u, u ~ N(0, G). There is no sigma and no e: SDs of effects are on
    the scale of the link.

    Parameters
    ----------
    hierarchy : Hierarchy or str
        The description, or an lme4 formula; on its left a column, ``cbind(successes, failures)``, or brms'
        ``successes | trials(n)``.
    data : pandas, polars or pyarrow frame, or a mapping of columns
    family : Family or str
        "binomial", "poisson", "negative_binomial", "negative_binomial1", "gamma", "beta", "cumulative", "student_t";
        "binomial(link = probit)".
    priors : mapping, optional
        By name: a column of X or "beta", "sigma_u2", "corr_u2", "alpha", ...; the rest get defaults (``glmm.priors``).
    weights : str, optional
        Of a binomial whose response is a proportion: the column of trials.
    trials, failures : str, optional
        Of a binomial whose response is the number of successes: the column of trials, or of failures.
    missing : {"error", "drop"}
        What to do with rows that have missing values.
    covariance, precision : mapping, optional
        Beside a formula: from a grouping ("animal") or a level ("u2") to its known matrix.
    offset : str
        Beside a formula: a part of the linear predictor with the coefficient 1, such as "log(n)".

    Raises
    ------
    DescriptionError, DataError, PriorError
        Before anything is compiled.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> data = {"sick": [2, 3, 4, 0], "well": [12, 9, 5, 5], "herd": list("aabb")}
    >>> blm.GLMM("cbind(sick, well) ~ 1 + (1 | herd)", data, family="binomial")
    GLMM('cbind(sick, well) ~ 1 + (1 | herd)', binomial(link = logit), 4 rows)
    """

    def __init__(
        self,
        hierarchy: Hierarchy | str,
        data: Any,
        family: Family | str,
        *,
        priors: Mapping[str, Any] | None = None,
        weights: str = "",
        missing: str = "error",
        covariance: Mapping[str, Any] | None = None,
        precision: Mapping[str, Any] | None = None,
        offset: str = "",
        trials: str = "",
        failures: str = "",
    ):
        of = read_family(family)
        for name, column in (("weights", weights), ("trials", trials), ("failures", failures)):
            if not isinstance(column, str):
                what = "trials" if name == "weights" else name
                raise DescriptionError(
                    f"{name} is the name of a column, the {what} of a binomial; got {type(column).__name__}"
                )
        if isinstance(hierarchy, str):
            text, second, total = split_cbind(hierarchy)
            if second or total:
                if failures or trials:
                    raise DescriptionError(
                        f"{'failures' if failures else 'trials'}= and {says_trials(hierarchy)} in the formula both say "
                        "the number of trials; write one of them"
                    )
                failures, trials = second, total
            hierarchy = Hierarchy.from_formula(text, covariance=covariance, precision=precision, offset=offset)
        elif not (covariance is None and precision is None and offset == ""):
            raise DescriptionError(
                "covariance=, precision= and offset= stand beside a formula only; a Hierarchy has them as its parts."
            )
        if not isinstance(hierarchy, Hierarchy):
            raise DescriptionError(
                f"The description is a {type(hierarchy).__name__}; a Hierarchy or a formula was expected, "
                "such as GLMM('y ~ 1 + x + (1 | group)', data, family='binomial')."
            )
        reader = ResponseReader(family=of, response=hierarchy.response, failures=failures, total=trials, trials=weights)
        _check(hierarchy, reader)
        with enough_memory(doing="Reading the data"), one_blas_thread():
            rows = in_memory(data, f"a {of.name} outcome needs its rows in memory")
            design = build_design(hierarchy, rows, missing=missing, reader=reader)
        super().__init__(hierarchy=hierarchy, design=design, reader=reader, given_priors=priors or {})
        if priors:
            _ = self.priors  # a wrong one is an error now, not later

    @classmethod
    def from_toml(cls, path) -> GLMM:
        """Read the description, its family, its data and its priors from one TOML file.

        Parameters
        ----------
        path : str or Path
            Of the file; `example` takes the name of a bundled one.

        Raises
        ------
        DescriptionError, DataError, PriorError
            At the file and line of what can't be read or doesn't fit; for a file without a family, which is an LMM's.

        Examples
        --------
        >>> from bayeslmm.gallery import example_path
        >>> GLMM.from_toml(example_path("cbpp"))
        GLMM('cbind(incidence, healthy) ~ 1 + C(period) + (1 | herd)', binomial(link = logit), 56 rows)
        """
        from bayeslmm.description.model_file import ModelFile

        file = ModelFile.read(path)
        if file.outcome is None:
            raise DescriptionError(
                f"{file.path} names no family: its outcome is Gaussian. Write blm.LMM.from_toml(path), or add a line "
                'such as family = "binomial".'
            )
        given = {"priors": file.priors, "missing": file.missing, **file.outcome.arguments()}
        return cls(file.hierarchy, file.load_data(), **given)

    def __repr__(self) -> str:
        return visible(f"GLMM({self.formula!r}, {self.family}, {self.design.n} rows)")

    def __getattr__(self, name: str) -> Any:
        if name in NOT_YET:
            raise AttributeError(f"GLMM has no {name}(): {NOT_YET[name]}.")
        raise AttributeError(f"'GLMM' object has no attribute {name!r}")

    def joint(self, *, centered: bool | Mapping[str, bool] = False) -> pm.Model:
        """Build the joint model in PyMC: u2, u3, ... are nodes, y has the family's density given them.

        Parameters
        ----------
        centered : bool or mapping of level name to bool
            Centred: the effects are free variables; non-centred, the default: standard normals are.

        Returns
        -------
        pymc.Model
            ``beta``, ``sigma_u2``, ``corr_u2``, ``u2``, ..., the family's own parameters, ``eta`` and ``y``; prior and
            posterior predictive work.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> data = {"y": [0, 3, 1, 0, 5, 9, 2, 2], "g": list("aabbccdd")}
        >>> model = blm.GLMM("y ~ 1 + (1 | g)", data, family="poisson").joint()
        >>> sorted(variable.name for variable in model.free_RVs)
        ['beta', 'sigma_u2', 'z_u2']
        """
        from bayeslmm.pymc_models.link_joint import build_link_joint

        return build_link_joint(self.design, self.family, self.priors, centered)


def _check(hierarchy: Hierarchy, reader: ResponseReader) -> None:
    """Refuse parts of a description that only a Gaussian outcome has."""
    if not hierarchy.residual.plain:
        raise DescriptionError(
            f"The residual is {hierarchy.residual}, but a {reader.family.name} outcome has no residual. Leave it out; "
            "for the trials of a binomial write trials='column'; for correlated rows, a level with their groups."
        )
    for level in hierarchy.levels:
        if level.known:
            raise DescriptionError(
                f"The level {level.label!r} has the covariance sigma^2 K, entirely known, but a {reader.family.name} "
                "outcome has no sigma. Leave known=True out, and its SD is estimated."
            )
    if not reader.family.has_intercept and hierarchy.fixed.split(" ")[0] == "0":
        raise DescriptionError(
            f"The fixed part {hierarchy.fixed!r} leaves the constant out, for which the thresholds stand here: factors "
            "would be coded as if there were none. Write it without the 0."
        )
    for name in reader.columns:
        if quote(name) in hierarchy.fixed.split(" ") or name == hierarchy.response.strip("`"):
            raise DescriptionError(f"The column {name!r} is a part of the response; remove it elsewhere.")
