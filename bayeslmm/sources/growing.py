"""Sums over rows that can be added: of rows in memory or in a source, and the design that is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn

import narwhals.stable.v2 as nw
import numpy as np

from bayeslmm.data.table import check_size, take
from bayeslmm.description.hierarchy import Hierarchy
from bayeslmm.design.design import used_columns
from bayeslmm.design.model_matrix import Encoder
from bayeslmm.errors import DataError, DescriptionError
from bayeslmm.sources.adding import added, cells_of, joined
from bayeslmm.sources.building import ADDING, RESPONSE_ATOM, SourceBuilding
from bayeslmm.sources.cells import Cells
from bayeslmm.sources.design import SourceDesign
from bayeslmm.sources.expressions import Expression, State
from bayeslmm.sources.matrices import MadeColumn
from bayeslmm.sources.source import Source, as_source
from bayeslmm.sources.survey import Moments, Survey, lifted


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptSums:
    """What is kept of rows: sums over them in cells, and what reads the columns that the cells stand for.

    Attributes
    ----------
    hierarchy : Hierarchy
    cells : Cells
    kinds : mapping of column to "numbers" or "categories"
    state : mapping
        What transforms remember of the first rows.
    dropped : int
        Rows that were left out because a value was missing.
    """

    hierarchy: Hierarchy
    cells: Cells
    kinds: Mapping[str, str]
    state: State = field(default_factory=dict)
    dropped: int = 0

    @property
    def n(self) -> int:
        """Number of rows."""
        return round(float(self.cells.counts.sum()))


@dataclass(frozen=True, eq=False)
class Gone(Source):
    """In the place of a source: rows of which there are sums only."""

    def __post_init__(self) -> None:
        """Nothing is there to be checked."""

    @property
    def name(self) -> str:
        """What it is, in words."""
        return "sums over rows that are not kept"


@dataclass(frozen=True, eq=False)
class _Frame(Gone):
    """Rows in memory as if they were in a source."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class SumsDesign(SourceDesign):
    """The design of sums whose rows are gone."""

    def require_rows(self) -> NoReturn:
        """Refuse: say what to write instead."""
        raise DataError(
            "This needs rows; the model was made of sums, and its rows are not kept. Write lmm.predictions(fit, "
            "data=frame) for other rows, lmm.sums().save(folder) to keep the sums, or blm.LMM(formula, rows) where the "
            "rows are at hand."
        )


class _Taking(SourceBuilding):
    """Sums over rows, whatever these few rows can say by themselves."""

    def __init__(self, hierarchy: Hierarchy, data: Any, missing: str, state: State | None):
        self.given, self.dropped = state, 0
        source: Any = as_source(data)
        if source is None:
            frame, self.dropped = take(data, used_columns(hierarchy), missing)
            source = _Frame(frame.reset_index(drop=True))
        super().__init__(hierarchy, source, missing)

    def _check_response(self, found: Mapping[str, Moments], names: Sequence[str]) -> None:
        """One row, or rows of one value, are as good as any to be added."""
        for name in names:
            check_size(name, np.array([found[name].lowest, found[name].highest]))

    def _remembered(self, expressions: Sequence[Expression]) -> dict[str, dict[str, Any]]:
        return super()._remembered(expressions) if self.given is None else _copied(self.given)

    def kept(self) -> KeptSums:
        """The sums."""
        if not isinstance(self.source, _Frame):
            cells, dropped = self.cells(), self.survey.dropped
        else:
            self._count(len(self.atoms))
            rows = nw.from_native(self.source.data).lazy()
            atoms = {f"a{k}": lifted(own, self.state) for k, own in enumerate(self.atoms.values())}
            made = rows.with_columns(**atoms).collect()
            values = {name: made[f"a{k}"].to_numpy().astype(float) for k, name in enumerate(self.atoms)}
            cells, dropped = cells_of(self.source.data[self.keys], values), self.dropped
        return KeptSums(hierarchy=self.hierarchy, cells=cells, kinds=self.kinds, state=self.state, dropped=dropped)


class _Making(SourceBuilding):
    """A design of sums alone."""

    def __init__(self, kept: KeptSums):
        self.hierarchy, self.kinds, self.state, self._cells = (
            kept.hierarchy,
            kept.kinds,
            _copied(kept.state),
            kept.cells,
        )
        self.source = Gone()
        self.survey = Survey(table=None, n=kept.n, dropped=kept.dropped, kinds=kept.kinds)
        self._read_sides()
        cells = self._cells
        self.keys = list(cells.keys.columns)
        mean = cells.shift + cells.scale * cells.sums.sum(axis=0) / kept.n
        low, high = cells.lowest.min(axis=0), cells.highest.max(axis=0)
        self.found = {
            name: Moments(mean=float(np.clip(mean[a], low[a], high[a])), lowest=float(low[a]), highest=float(high[a]))
            for a, name in enumerate(cells.names)
        }
        super()._check_response(self.found, [RESPONSE_ATOM])

    def cells(self) -> Cells:
        """Those that are given."""
        return self._cells

    def _check_left_out(self, encoder: Encoder, made: Sequence[MadeColumn]) -> None:
        """No rows are there to be asked; `check_conditioning` refuses what sums can't tell."""


def kept_of(hierarchy: Hierarchy, data: Any, missing: str = "error", state: State | None = None) -> KeptSums:
    """Sums over rows, in memory or in a source; with `state`, transforms remember what it says.

    Raises
    ------
    DescriptionError, DataError
        For what needs rows in their order, and for columns that the formula can't take.
    """
    structure = hierarchy.residual.structure
    if structure not in ADDING:
        raise DescriptionError(
            f"The residual's structure {structure!r} is about rows one by one, and sums over rows don't have them. "
            "Keep the rows, and write blm.LMM(formula, rows) for all of them; or leave the structure out: weights and "
            "strata can be summed."
        )
    return _Taking(hierarchy, data, missing, state).kept()


def design_of(kept: KeptSums) -> SumsDesign:
    """The design of sums."""
    made = _Making(kept).design()
    return SumsDesign(**{own.name: getattr(made, own.name) for own in fields(made)})


def kept_of_design(design: SourceDesign) -> KeptSums:
    """The sums that a design was made of."""
    return KeptSums(
        hierarchy=design.hierarchy, cells=design.cells, kinds=design.kinds, state=design.state, dropped=design.dropped
    )


def sum_of(one: KeptSums, other: KeptSums) -> KeptSums:
    """The sums of both sets of rows.

    Columns of numbers that had two values in one of them only are keys of cells no longer.

    Raises
    ------
    DataError
        Where they are not sums of one design.
    """
    if one.hierarchy != other.hierarchy:
        raise DataError(
            f"These are sums of two models, {one.hierarchy.formula!r} and {other.hierarchy.formula!r}; expected one "
            "description. Take both with the same formula: sums.updated(rows)."
        )
    for name in one.kinds:
        if one.kinds[name] != other.kinds[name]:
            raise DataError(
                f"Column {name!r} holds {one.kinds[name]} on one side and {other.kinds[name]} on the other; expected "
                "one kind. Convert the new rows, as in rows.astype({" + repr(name) + ": str})."
            )
    for text in one.state:
        if one.state[text] != other.state[text]:
            raise DataError(
                f"{text} remembers other rows on either side, so that its columns are not the same. Write "
                "sums.updated(rows), which takes new rows as the first ones were, or a number in the formula, such "
                "as I(x - 20)."
            )
    keys = [name for name in one.cells.keys.columns if name in other.cells.keys.columns]
    for name in keys:
        kinds = [part.cells.keys[name].dtype.kind in "biuf" for part in (one, other)]
        if kinds[0] != kinds[1]:
            raise DataError(
                f"The groups of {name!r} are numbers on one side and texts on the other; expected one kind. Convert "
                "the new rows, as in rows.astype({" + repr(name) + ": str})."
            )
    cells = added(one.cells, other.cells, keys)
    return replace(one, cells=cells, dropped=one.dropped + other.dropped)


def _copied(state: State) -> dict[str, dict[str, Any]]:
    return {text: dict(own) for text, own in state.items()}


def single_rows(kept: KeptSums, columns: Sequence[str]) -> int:
    """How many groups of these columns have one row, whose sums are the row itself.

    All columns of the keys stand for the cells.
    """
    return int((joined(kept.cells, columns).counts == 1).sum())
