"""The design of a source: the same interface as that of rows in memory, without them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.counted import CountedRows
from bayeslmm.design.design import Described
from bayeslmm.design.level_design import LevelDesign
from bayeslmm.design.model_matrix import Encoder
from bayeslmm.design.residual_design import ResidualDesign
from bayeslmm.errors import DataError
from bayeslmm.sources.cells import Cells
from bayeslmm.sources.source import Source


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SourceDesign(Described):
    """A hierarchy with sums over the rows of a source: all that the likelihood, priors and tables need.

    Attributes
    ----------
    hierarchy : Hierarchy
    n : int
        Number of rows of the data.
    coef : tuple of str
        Names of the columns of X.
    levels : tuple of LevelDesign
        Their rows are those of `counted`.
    residual : ResidualDesign
    counted : CountedRows
        Rows that stand for those of the cells.
    cells : Cells
        The sums that they are made of.
    source : Source
    dropped, left_out, encoders, offset_encoder, text_hints
        As in `Design`.
    """

    hierarchy: Hierarchy
    n: int
    coef: tuple[str, ...]
    levels: tuple[LevelDesign, ...]
    residual: ResidualDesign
    counted: CountedRows
    cells: Cells
    source: Source
    dropped: int = 0
    left_out: tuple[str, ...] = ()
    encoders: tuple[Encoder, ...] = field(default=(), repr=False)
    offset_encoder: Encoder | None = field(default=None, repr=False)
    text_hints: tuple[str, ...] = field(default=(), repr=False)
    outcome: None = None
    has_rows: ClassVar[bool] = False

    @property
    def p(self) -> int:  # type: ignore[override]
        """Number of columns of X."""
        return len(self.coef)

    def require_rows(self) -> NoReturn:
        """Refuse: say what to write instead."""
        raise DataError(
            f"This needs the rows, and they stay in the source ({self.source.name}): the model has sums over them "
            "only. Write lmm.predictions(fit, data=frame) for rows in memory, lmm.stream_predictions(fit, "
            "'out.parquet') for all of them; or collect the rows first, as in blm.LMM(formula, relation.df()), "
            "frame.collect() or frame.toPandas()."
        )

    @property
    def y(self) -> Any:
        """Refused: there are no rows."""
        self.require_rows()

    net_y = X = Z = Zt = rows = frame = offset = y

    def part(self, rows: Any) -> NoReturn:
        """Refused: there are no rows."""
        self.require_rows()
