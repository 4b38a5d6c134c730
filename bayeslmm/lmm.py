"""The model as users meet it: a description, its data and priors, and every variant one call away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bayeslmm.description.hierarchy import Hierarchy, Residual
from bayeslmm.design.building import build_design
from bayeslmm.errors import DescriptionError, visible
from bayeslmm.faces.before import BeforeTheData
from bayeslmm.faces.criticism import Criticism
from bayeslmm.faces.growing import Growing
from bayeslmm.faces.matrices import Matrices
from bayeslmm.faces.pictures import Pictures
from bayeslmm.faces.pictures_after import PicturesAfter
from bayeslmm.faces.pictures_before import PicturesBefore
from bayeslmm.faces.predictions import Predictions
from bayeslmm.faces.report import Reporting
from bayeslmm.faces.sampling import Sampling
from bayeslmm.faces.saving import Saving
from bayeslmm.faces.streaming import Streaming
from bayeslmm.faces.tables import Tables
from bayeslmm.factorisation.memory import enough_memory
from bayeslmm.sources.building import build_source_design
from bayeslmm.sources.described import data_of
from bayeslmm.sources.source import as_source
from bayeslmm.support.threads import one_blas_thread

if TYPE_CHECKING:
    from bayeslmm.sums import Sums


class LMM(
    BeforeTheData,
    Sampling,
    Tables,
    Predictions,
    Criticism,
    PicturesBefore,
    Pictures,
    PicturesAfter,
    Reporting,
    Saving,
    Streaming,
    Growing,
    Matrices,
):
    """A multilevel linear mixed model: y = X beta + Z u + e, u ~ N(0, sigma^2 G), e ~ N(0, sigma^2 R).

    Parameters
    ----------
    hierarchy : Hierarchy or str
        The description, or an lme4 formula.
    data : pandas, polars or pyarrow frame, a mapping of columns, or a source
        A source keeps the rows where they are, and gives sums over them: the path or glob of Parquet or CSV files, a
        DuckDB relation, a Polars LazyFrame, a PySpark DataFrame, a `Source`.
    priors : mapping, optional
        By name: a column of X or "beta", "sigma", "sigma_u2", "corr_u2", ...; the rest get defaults (`lmm.priors`).
    missing : {"error", "drop"}
        What to do with rows that have missing values.
    residual : Residual, optional
        Beside a formula: what it can't say of R.
    covariance, precision : mapping, optional
        Beside a formula: from a grouping ("animal") or a level ("u2") to its known matrix.
    offset : str
        Beside a formula: a part of the mean with the coefficient 1, such as "log(n)"; the same as a term
        ``offset(log(n))``.

    Raises
    ------
    DescriptionError, DataError, PriorError
        Before anything is compiled.

    Examples
    --------
    >>> import bayeslmm as blm
    >>> lmm = blm.LMM("yield_ ~ 1 + (1 | batch)", {"yield_": [1.0, 2, 4, 5, 8, 9], "batch": list("aabbcc")})
    >>> lmm.reml().fixef.round(3).to_dict()
    {'Intercept': 4.833}
    """

    def __init__(
        self,
        hierarchy: Hierarchy | str,
        data: Any,
        *,
        priors: Mapping[str, Any] | None = None,
        missing: str = "error",
        residual: Residual | None = None,
        covariance: Mapping[str, Any] | None = None,
        precision: Mapping[str, Any] | None = None,
        offset: str = "",
    ):
        if isinstance(hierarchy, str):
            hierarchy = Hierarchy.from_formula(
                hierarchy, residual=residual, covariance=covariance, precision=precision, offset=offset
            )
        elif not (residual is None and covariance is None and precision is None and offset == ""):
            raise DescriptionError(
                "residual=, covariance=, precision= and offset= stand beside a formula only; a Hierarchy has them as "
                "its parts, such as Level(group='animal', covariance=K)."
            )
        if not isinstance(hierarchy, Hierarchy):
            raise DescriptionError(
                f"The description is a {type(hierarchy).__name__}; a Hierarchy or a formula was expected, "
                "such as LMM('y ~ 1 + x + (1 | group)', data)."
            )
        source = as_source(data)
        with enough_memory(doing="Reading the data"), one_blas_thread():
            design: Any = (
                build_design(hierarchy, data, missing=missing)
                if source is None
                else build_source_design(hierarchy, source, missing=missing)
            )
        super().__init__(hierarchy=hierarchy, design=design, given_priors=priors or {})
        if priors:
            _ = self.priors  # a wrong one is an error now, not later

    @classmethod
    def from_toml(cls, path) -> LMM:
        """Read the description, its data and its priors from one TOML file.

        Parameters
        ----------
        path : str or Path
            Of the file; `example` takes the name of a bundled one.

        Raises
        ------
        DescriptionError, DataError, PriorError
            At the file and line of what can't be read or doesn't fit; for a file with a family, which is a GLMM's.

        Examples
        --------
        >>> from bayeslmm.gallery import example_path
        >>> LMM.from_toml(example_path("dyestuff"))
        LMM('Yield ~ 1 + (1 | Batch)', 30 rows)
        """
        from bayeslmm.description.model_file import ModelFile

        file = ModelFile.read(path)
        if file.outcome is not None:
            raise DescriptionError(
                f"{file.path} describes a {file.outcome.family.name} outcome, which no LMM fits. Write "
                "blm.GLMM.from_toml(path)."
            )
        return cls(file.hierarchy, data_of(file), priors=file.priors, missing=file.missing)

    @classmethod
    def from_sums(cls, sums: Sums, *, priors: Mapping[str, Any] | None = None) -> LMM:
        """Make the model of sums over rows that are not kept: fits, posteriors and tables are those of the rows.

        Parameters
        ----------
        sums : Sums
        priors : mapping, optional
            As in `LMM`.

        Raises
        ------
        DataError, PriorError
            What is wrong with the rows together; later, what needs rows says what to write instead.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> sums = blm.Sums.of("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        >>> LMM.from_sums(sums).reml().fixef.round(3).to_dict()
        {'Intercept': 4.833}
        """
        from bayeslmm.sources.growing import design_of
        from bayeslmm.sums import Sums

        if not isinstance(sums, Sums):
            raise DescriptionError(
                f"A {type(sums).__name__} came as the sums; expected Sums: blm.Sums.of(formula, rows), lmm.sums() or "
                "blm.load_sums(folder)."
            )
        with enough_memory(doing="Making the model"), one_blas_thread():
            design: Any = design_of(sums.kept)
        lmm = cls.__new__(cls)
        super(LMM, lmm).__init__(hierarchy=sums.kept.hierarchy, design=design, given_priors=priors or {})
        if priors:
            _ = lmm.priors  # a wrong one is an error now, not later
        return lmm

    def __repr__(self) -> str:
        said = [f", known covariance of {level.label}" for level in self.design.levels if level.related]
        said += [] if self.hierarchy.residual.plain else [f", residual {self.hierarchy.residual}"]
        return visible(f"LMM({self.hierarchy.formula!r}, {self.design.n} rows{''.join(said)})")

    def _repr_html_(self) -> str:
        from bayeslmm.tables.model import model_html

        return model_html(self)

    def explain(self) -> str:
        """Say what the factorisation will do: blocks, sizes, cost and fill.

        Examples
        --------
        >>> import bayeslmm as blm
        >>> print(blm.example("dyestuff").explain())
        30 rows become cross-products of 6 random effects, 1 column of X, and y; after that the rows don't matter.
        ...
        """
        from bayeslmm.factorisation.cost import explain_plan

        return visible(explain_plan(self.statistics))
